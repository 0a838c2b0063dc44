//! What an image is before it is baked: its id, and the plan of its layers.

use super::files::tidy;
use super::initrd::KernelInputs;
use super::layers::{FilesPlan, LayerPlan, Make, Script};
use super::sandbox::Step;
use super::{packages, trim};
use crate::digest::{Digest, ImageId};
use crate::error::Result;
use crate::lock::{Package, Role};
use crate::notation;
use crate::recipe::inputs::{Inputs, LayerInput, LayerKind, Link, Maker};
use crate::recipe::render::Rendered;
use crate::recipe::{Recipe, Vendor};
use crate::repository::Repository;
use crate::vm::guest;

/// An image that Git asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// The recipe's name.
    pub name: String,
    /// The image id.
    pub id: ImageId,
    /// Whether it is the debug variant.
    pub debug: bool,
    /// The recipes with their locks, from the ground up.
    pub links: Vec<Link>,
    /// Everything the id covers.
    pub inputs: Inputs,
}

/// Returns what of an image does not come from the repository: the guest program and the strict profile of this
/// rekiln, with the steps by which a bake applies it.
#[must_use]
pub fn maker(debug: bool) -> Maker {
    let mut ground = FilesPlan::default();
    add_profile(&mut ground);
    // The guest program has its own digest.
    ground.contents.retain(|file| file.path != trim::GUEST_PATH);
    let steps = (packages::steps(&[], &[]), tidy(), packages::config());
    let profile = Digest::of(format!("{} {ground:?} {steps:?}", trim::digest()).as_bytes());
    Maker { guest: guest::digest(), profile, debug }
}

/// Collects what the image at the end of `links` is computed from.
#[must_use]
pub fn inputs(links: &[Link], debug: bool) -> Inputs {
    let maker = maker(debug);
    #[cfg(feature = "ssh")]
    let maker = match links.last().and_then(|link| link.recipe.source.vendor()) {
        Some(_) => Maker { profile: super::derive::profile(), ..maker },
        None => maker,
    };
    Inputs::of(links, maker)
}

impl Identity {
    /// Identifies the image `name`, or its debug variant. Reads nothing but the repository.
    ///
    /// # Errors
    /// As [`Repository::links`].
    pub fn of(repository: &Repository, name: &str, debug: bool) -> Result<Self> {
        let links = repository.links(name)?;
        let inputs = inputs(&links, debug);
        Ok(Self { name: name.to_owned(), id: inputs.id(), debug, links, inputs })
    }

    /// Returns what the image is derived from, if it is.
    #[must_use]
    pub fn derived(&self) -> Option<Vendor<'_>> {
        self.links.last()?.recipe.source.vendor()
    }

    /// Returns the keys of all its layers, the one with the kernel and initrd last. A derived image has none.
    #[must_use]
    pub fn layer_keys(&self) -> Vec<Digest> {
        if self.derived().is_some() {
            return Vec::new();
        }
        let layers = self.inputs.layers(&self.links).into_iter().map(|layer| layer.key);
        layers.chain([self.with_kernel(|inputs| inputs.key())]).collect()
    }

    /// Hands over what its kernel and initrd are made from.
    pub fn with_kernel<T>(&self, work: impl FnOnce(KernelInputs<'_>) -> T) -> T {
        let locks = || self.links.iter().map(|link| &link.lock);
        let packages: Vec<&Package> =
            locks().flat_map(|lock| &lock.packages).filter(|package| package.role != Role::Root).collect();
        let modules: Vec<String> = trim::INITRD_MODULES
            .iter()
            .map(|&name| name.to_owned())
            .chain(self.inputs.kernel_modules.iter().cloned())
            .collect();
        let zstd = locks().find_map(|lock| lock.tools.get("zstd")).map_or("", String::as_str);
        work(KernelInputs { packages: &packages, modules: &modules, guest: guest::GUEST, zstd })
    }

    /// Returns the plans of all layers from the ground up. A derived image has none.
    ///
    /// # Errors
    /// A value that `check` would refuse.
    pub fn layers(&self) -> Result<Vec<LayerPlan>> {
        let layers = self.inputs.layers(&self.links);
        let owners = self.links.iter().enumerate().flat_map(|(index, link)| [(index, link); 2]);
        layers
            .into_iter()
            .zip(owners)
            .map(|(LayerInput { image, kind, key, epoch }, (index, link))| {
                let make = match kind {
                    LayerKind::Packages => Make::Packages {
                        locked: link.lock.packages.clone(),
                        privileged: privileged(&link.recipe),
                        basis: link.lock.layout.clone(),
                    },
                    LayerKind::Files => Make::Files(files_plan(link, index == 0)?),
                };
                Ok(LayerPlan { image, key, epoch, make })
            })
            .collect()
    }
}

/// The rule of `inspect` whose exceptions let a file keep its privilege.
const SETUID_RULE: &str = "setuid";

fn privileged(recipe: &Recipe) -> Vec<String> {
    let allowed = recipe.harden.allow.iter().filter(|exception| exception.rule == SETUID_RULE);
    allowed.filter_map(|exception| exception.path.clone()).collect()
}

pub(super) fn files_plan(link: &Link, ground: bool) -> Result<FilesPlan> {
    let mut plan = FilesPlan {
        fetches: link.recipe.fetches.clone(),
        services: link.recipe.services.clone(),
        ..FilesPlan::default()
    };
    if ground {
        add_profile(&mut plan);
    }
    for unit in &link.recipe.services.enable {
        let unit = notation::unit(unit).map_err(crate::error::Error::invalid)?;
        // Sockets and timers run nothing themselves.
        if unit.ends_with(".service") {
            plan.contents.push(profile_file(
                &format!("/usr/lib/systemd/system/{unit}.d/50-rekiln-sandbox.conf"),
                trim::SERVICE_SANDBOX.as_bytes(),
                0o644,
            ));
        }
    }
    plan.contents.extend(link.rendered.files.iter().cloned());
    plan.scripts = link
        .rendered
        .scripts
        .iter()
        .zip(&link.recipe.runs)
        .map(|(script, run)| Script {
            name: script.template.clone(),
            text: script.content.clone(),
            reboot: run.reboot,
            expect_disconnect: run.expect_disconnect,
        })
        .collect();
    Ok(plan)
}

/// Adds what the strict profile puts into every image, to the ground's own content.
fn add_profile(plan: &mut FilesPlan) {
    plan.contents.push(profile_file(trim::GUEST_PATH, guest::GUEST, 0o755));
    plan.contents.extend(trim::FILES.iter().map(|file| profile_file(file.path, file.text.as_bytes(), 0o644)));
    let link = |path: String, target: String| Step::Link { path, target };
    plan.profile.extend(
        trim::MASKED_UNITS
            .iter()
            .map(|unit| link(format!("/etc/systemd/system/{unit}"), "/dev/null".to_owned())),
    );
    // In /etc: what packages link below /usr is left out when the layer is sealed.
    plan.profile.extend(trim::WANTED_UNITS.iter().map(|(target, unit)| {
        link(format!("/etc/systemd/system/{target}.wants/{unit}"), format!("/usr/lib/systemd/system/{unit}"))
    }));
    plan.profile
        .extend(trim::LINKS.iter().map(|(path, target)| link((*path).to_owned(), (*target).to_owned())));
}

fn profile_file(path: &str, bytes: &[u8], mode: u32) -> Rendered {
    Rendered { path: path.to_owned(), mode, owner: "root:root".to_owned(), content: bytes.to_vec() }
}
