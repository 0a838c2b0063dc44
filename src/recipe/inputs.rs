//! Everything that can change an image's bytes, as one value that can be printed and compared.
//!
//! What is left out is left out on purpose: descriptions, checks, declared ports, reasons of exceptions, where
//! the image is published, variables that no template uses, and the names of recipes and templates shape no
//! byte.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::render::{Rendered, RenderedRecipe};
use super::{DiskSource, Exception, Fetch, Recipe, Vendor};
use crate::digest::{Digest, ImageId};
use crate::lock::{Lock, Package, Places, Role};
use crate::notation;

/// The version of the meaning of [`Inputs`]. It must grow with every change to what a bake does with the
/// same inputs, so that an old image never passes for a new one.
pub const FORMAT: u32 = 2;

/// One recipe of a chain with everything that was read for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// The recipe's name.
    pub name: String,
    /// The recipe.
    pub recipe: Recipe,
    /// What its templates yield.
    pub rendered: RenderedRecipe,
    /// Its lock.
    pub lock: Lock,
    /// The digest of the lock file's text.
    pub lock_digest: Digest,
}

/// What does not come from the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Maker {
    /// The program inside the image.
    pub guest: Digest,
    /// The strict profile: every list and file that a bake applies to every image.
    pub profile: Digest,
    /// Whether it is the debug variant.
    pub debug: bool,
}

/// Everything that can change an image's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inputs {
    /// [`FORMAT`].
    pub format: u32,
    /// What does not come from the repository.
    pub maker: Maker,
    /// Kernel arguments after those of the strict profile, from the ground up.
    pub kernel_args: Vec<String>,
    /// Kernel modules besides those of the strict profile.
    pub kernel_modules: BTreeSet<String>,
    /// The newest of the locks' times; for what belongs to the whole disk.
    pub epoch: i64,
    /// The recipes from the ground up.
    pub recipes: Vec<RecipeInputs>,
    /// What else shapes an image that is derived from a vendor's disk. Others are without it, and keep their ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub derived: Option<DerivedInputs>,
}

/// What shapes an image that is derived from a vendor's disk, besides what shapes any image.
///
/// Which versions its packages have is the vendor's archive's to say at the moment of the bake. The epoch, which is
/// that of locking, stands for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DerivedInputs {
    /// The vendor's disk, or what stands for an AMI.
    disk: Digest,
    /// Bytes that it is grown to; `None` when it keeps its size.
    size: Option<u64>,
    /// Whether cloud-init does its first boot, where the recipe says so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cloud_init: bool,
    /// Packages as the recipe has them, with their pins.
    packages: BTreeSet<String>,
    /// What the machine does besides running them, for each of the scripts.
    scripts: Vec<ScriptInputs>,
}

/// What a machine does besides running a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScriptInputs {
    reboot: bool,
    expect_disconnect: bool,
}

/// What one recipe of the chain brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecipeInputs {
    /// What shapes its layer of packages.
    pub packages: PackagesInputs,
    /// What shapes its layer of files.
    pub files: FilesInputs,
}

/// What shapes a recipe's layer of packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackagesInputs {
    /// The clamp of all times.
    pub epoch: i64,
    /// Programs of the host, by name, with their versions.
    pub tools: BTreeMap<String, String>,
    /// Packages in the order of installation.
    pub packages: Vec<PackageInputs>,
    /// Kernel modules of this recipe.
    pub modules: BTreeSet<String>,
    /// Exceptions from the strict profile: rule and path.
    pub exceptions: BTreeSet<(String, Option<String>)>,
    /// Where packages lay before, as far as the lock says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<Places>,
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageInputs {
    name: String,
    version: String,
    arch: String,
    role: Role,
    sha256: Digest,
}

/// What shapes a recipe's layer of files, in the order in which it is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FilesInputs {
    /// Rendered files.
    pub files: Vec<FileInputs>,
    /// Artifacts from outside.
    pub fetches: Vec<FetchInputs>,
    /// Rendered run scripts.
    pub scripts: Vec<Digest>,
    /// Units to start, by full name.
    pub enable: BTreeSet<String>,
    /// Units that must not start, by full name.
    pub disable: BTreeSet<String>,
}

/// One rendered file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileInputs {
    path: String,
    mode: u32,
    owner: String,
    content: Digest,
}

/// One artifact from outside. Where it comes from does not matter, what it is does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FetchInputs {
    sha256: Digest,
    path: String,
    unpack: bool,
    /// `None` with `unpack`, where it is not used.
    mode: Option<u32>,
}

/// What one layer of an image is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInput {
    /// The recipe it belongs to.
    pub image: String,
    /// Which of the recipe's two layers it is.
    pub kind: LayerKind,
    /// The digest of what shapes its bytes, the keys of the layers below included.
    pub key: Digest,
    /// The clamp of all times in it.
    pub epoch: i64,
}

/// Which of a recipe's two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// Debian packages.
    Packages,
    /// Files, artifacts, scripts, services.
    Files,
}

impl LayerKind {
    /// Returns the word for records and file names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Packages => "packages",
            Self::Files => "files",
        }
    }
}

impl Inputs {
    /// Collects the inputs of the image at the end of `chain`, which begins at the ground.
    #[must_use]
    pub fn of(chain: &[Link], maker: Maker) -> Self {
        let recipes = || chain.iter().map(|link| &link.recipe);
        Self {
            format: FORMAT,
            maker,
            kernel_args: recipes().flat_map(|recipe| recipe.kernel.args.clone()).collect(),
            kernel_modules: recipes().flat_map(|recipe| recipe.kernel.modules.clone()).collect(),
            epoch: chain.iter().map(|link| link.lock.epoch).max().unwrap_or(0),
            recipes: chain.iter().map(RecipeInputs::of).collect(),
            derived: chain.last().and_then(DerivedInputs::of),
        }
    }

    /// Computes the image id.
    #[must_use]
    pub fn id(&self) -> ImageId {
        super::id::digest("image", self)
    }

    /// Computes the layers from the ground up, two for each recipe. `chain` is the one of [`Inputs::of`]. A derived
    /// image has none.
    ///
    /// The guest program counts for the ground's files, so that it may lie in any layer of files. The debug
    /// variant and kernel arguments are in no layer: they reach the command line only.
    #[must_use]
    pub fn layers(&self, chain: &[Link]) -> Vec<LayerInput> {
        let mut layers: Vec<LayerInput> = Vec::new();
        if self.derived.is_some() {
            return layers;
        }
        for (index, (link, inputs)) in chain.iter().zip(&self.recipes).enumerate() {
            let below = layers.last().map(|layer| layer.key);
            let packages = (self.format, self.maker.profile, below, &inputs.packages);
            let packages = super::id::digest("packages", &packages);
            let guest = (index == 0).then_some(self.maker.guest);
            let files = super::id::digest("files", &(guest, packages, &inputs.files));
            for (kind, key) in [(LayerKind::Packages, packages), (LayerKind::Files, files)] {
                layers.push(LayerInput { image: link.name.clone(), kind, key, epoch: link.lock.epoch });
            }
        }
        layers
    }
}

impl DerivedInputs {
    fn of(link: &Link) -> Option<Self> {
        let (disk, size, cloud_init) = match link.recipe.source.vendor()? {
            Vendor::Disk(DiskSource { sha256, size, cloud_init, path: _, ssh_timeout: _ }) => {
                (*sha256, size, *cloud_init)
            }
            // There it does always.
            Vendor::Ami(ami) => (ami.digest(), &ami.size, false),
        };
        let scripts = link.rendered.scripts.iter().map(|script| ScriptInputs {
            reboot: script.reboot,
            expect_disconnect: script.expect_disconnect,
        });
        Some(Self {
            disk,
            // A size that is none never passes `check`.
            size: size.as_deref().and_then(|size| notation::size(size).ok()),
            cloud_init,
            packages: link.recipe.packages.clone(),
            scripts: scripts.collect(),
        })
    }
}

impl RecipeInputs {
    fn of(link: &Link) -> Self {
        Self { packages: PackagesInputs::of(link), files: FilesInputs::of(link) }
    }
}

impl PackagesInputs {
    fn of(link: &Link) -> Self {
        let exception = |exception: &Exception| (exception.rule.clone(), exception.path.clone());
        Self {
            epoch: link.lock.epoch,
            tools: link.lock.tools.clone(),
            packages: link.lock.packages.iter().map(PackageInputs::of).collect(),
            modules: link.recipe.kernel.modules.clone(),
            exceptions: link.recipe.harden.allow.iter().map(exception).collect(),
            layout: link.lock.layout.clone(),
        }
    }
}

impl PackageInputs {
    fn of(package: &Package) -> Self {
        Self {
            name: package.name.clone(),
            version: package.version.clone(),
            arch: package.arch.clone(),
            role: package.role,
            sha256: package.sha256,
        }
    }
}

impl FilesInputs {
    fn of(link: &Link) -> Self {
        let services = &link.recipe.services;
        // A name that is no unit never passes `check`; as it stands it still is an input.
        let unit = |name: &String| notation::unit(name).unwrap_or_else(|_| name.clone());
        Self {
            files: link.rendered.files.iter().map(FileInputs::of).collect(),
            fetches: link.recipe.fetches.iter().map(FetchInputs::of).collect(),
            scripts: link.rendered.scripts.iter().map(|script| Digest::of(&script.content)).collect(),
            enable: services.enable.iter().map(unit).collect(),
            disable: services.disable.iter().map(unit).collect(),
        }
    }
}

impl FileInputs {
    fn of(file: &Rendered) -> Self {
        Self {
            path: file.path.clone(),
            mode: file.mode,
            owner: file.owner.clone(),
            content: Digest::of(&file.content),
        }
    }
}

impl FetchInputs {
    fn of(fetch: &Fetch) -> Self {
        Self {
            sha256: fetch.sha256,
            path: fetch.path.clone(),
            unpack: fetch.unpack,
            mode: if fetch.unpack { None } else { notation::mode(&fetch.mode).ok() },
        }
    }
}

#[cfg(test)]
mod tests;
