//! Everything that can change an image's bytes, as one value that can be printed and compared.
//!
//! What is left out is left out on purpose: descriptions, checks, declared ports, reasons of exceptions, where
//! the image is published, variables that no template uses, and the names of recipes and templates shape no
//! byte.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::render::{Rendered, RenderedRecipe};
use super::{Exception, Fetch, Recipe};
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
        }
    }

    /// Computes the image id.
    #[must_use]
    pub fn id(&self) -> ImageId {
        super::id::digest("image", self)
    }

    /// Computes the layers from the ground up, two for each recipe. `chain` is the one of [`Inputs::of`].
    ///
    /// The guest program counts for the ground's files, so that it may lie in any layer of files. The debug
    /// variant and kernel arguments are in no layer: they reach the command line only.
    #[must_use]
    pub fn layers(&self, chain: &[Link]) -> Vec<LayerInput> {
        let mut layers: Vec<LayerInput> = Vec::new();
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
mod tests {
    use super::super::render::{Templates, merged_vars};
    use super::*;
    use crate::lock::{Asked, Suite};

    /// Everything that an image is computed from, as text, so that a case is one replacement.
    #[derive(Clone)]
    struct World {
        base: String,
        web: String,
        site: String,
        script: String,
        base_lock: Lock,
        web_lock: Lock,
        maker: Maker,
    }

    const BASE: &str = "source = { debian = 'bookworm' }\npackages = ['systemd']\n";
    const WEB: &str = "description = 'one'\nsource = { image = 'base' }\npackages = ['nginx']\n\
        vars = { greeting = 'hello', unused = 'x' }\n\
        file = [{ path = '/etc/site', template = 'site.hbs', mode = '0644' }]\n\
        fetch = [{ url = 'https://a.example/x', path = '/opt/x', mode = '0755', \
        sha256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' }]\n\
        run = [{ script = 'setup.hbs' }]\n\
        services = { enable = ['nginx'], disable = ['cron'], ports = ['80/tcp'] }\n\
        kernel = { args = ['quiet'], modules = ['loop'] }\n\
        harden = { allow = [{ rule = 'setuid', path = '/usr/bin/x', why = 'because' }] }\n\
        check = [{ http = { port = 80 } }]\n";

    fn lock(package: &str, epoch: i64) -> Lock {
        Lock {
            version: 1,
            asked: Asked {
                source: String::new(),
                parent_lock: None,
                architecture: "amd64".to_owned(),
                packages: [].into(),
            },
            epoch,
            tools: [("mkfs.erofs".to_owned(), "1.5".to_owned())].into(),
            suites: Vec::new(),
            packages: vec![Package {
                name: package.to_owned(),
                version: "1.0-1".to_owned(),
                arch: "amd64".to_owned(),
                role: Role::Root,
                size: 1,
                sha256: Digest::of(package.as_bytes()),
                path: "pool/x.deb".to_owned(),
                archive: "debian".to_owned(),
            }],
            fetches: Vec::new(),
            layout: None,
        }
    }

    fn world() -> World {
        World {
            base: BASE.to_owned(),
            web: WEB.to_owned(),
            site: "say {{greeting}}".to_owned(),
            script: "#!/bin/sh\n".to_owned(),
            base_lock: lock("systemd", 100),
            web_lock: lock("nginx", 200),
            maker: Maker { guest: Digest::of(b"guest"), profile: Digest::of(b"profile"), debug: false },
        }
    }

    impl World {
        /// Returns the image id and the four layer keys.
        fn compute(&self) -> (ImageId, Vec<Digest>) {
            let texts = [("site.hbs", &self.site), ("setup.hbs", &self.script)];
            let templates = Templates::new(texts.map(|(name, text)| (name.to_owned(), text.clone())).into());
            let mut chain: Vec<Link> = Vec::new();
            for (name, text, lock) in
                [("base", &self.base, &self.base_lock), ("web", &self.web, &self.web_lock)]
            {
                let recipe: Recipe = toml::from_str(text).expect("the test's recipe is one");
                let vars = merged_vars(chain.iter().map(|link| &link.recipe).chain([&recipe]));
                let rendered = templates.render_recipe(&recipe, &vars).expect("it renders");
                let (name, lock) = (name.to_owned(), lock.clone());
                chain.push(Link { name, recipe, rendered, lock, lock_digest: Digest::of(b"") });
            }
            let inputs = Inputs::of(&chain, self.maker);
            (inputs.id(), inputs.layers(&chain).into_iter().map(|layer| layer.key).collect())
        }
    }

    type Change = fn(&mut World);

    fn swap(text: &mut String, from: &str, to: &str) {
        assert!(text.contains(from), "the case changes nothing: {from}");
        *text = text.replace(from, to);
    }

    /// From which of the four layers on a change shows: base packages, base files, web packages, web files;
    /// 4 is none of them, only the image id.
    const CHANGES: &[(&str, usize, Change)] = &[
        ("package version", 2, |w| w.web_lock.packages[0].version = "1.0-2".to_owned()),
        ("package bytes", 2, |w| w.web_lock.packages[0].sha256 = Digest::of(b"other")),
        ("package architecture", 2, |w| w.web_lock.packages[0].arch = "all".to_owned()),
        ("package role", 2, |w| w.web_lock.packages[0].role = Role::Kernel),
        ("package order", 2, |w| w.web_lock.packages.extend(lock("zlib", 0).packages)),
        ("parent image's package", 0, |w| w.base_lock.packages[0].version = "2".to_owned()),
        ("parent image's recipe", 1, |w| w.base.push_str("services = { enable = ['x'] }\n")),
        ("where packages lay", 2, |w| {
            w.web_lock.layout = Some(Places { start: 1, places: BTreeMap::new() });
        }),
        ("epoch", 2, |w| w.web_lock.epoch = 201),
        ("parent's epoch", 0, |w| w.base_lock.epoch = 99),
        ("tool version", 2, |w| {
            w.web_lock.tools.insert("mkfs.erofs".to_owned(), "1.6".to_owned());
        }),
        ("guest program", 1, |w| w.maker.guest = Digest::of(b"other")),
        ("strict profile", 0, |w| w.maker.profile = Digest::of(b"other")),
        ("debug variant", 4, |w| w.maker.debug = true),
        ("kernel arguments", 4, |w| swap(&mut w.web, "'quiet'", "'quiet', 'panic=1'")),
        ("kernel modules", 2, |w| swap(&mut w.web, "'loop'", "'nbd'")),
        ("exception's path", 2, |w| swap(&mut w.web, "/usr/bin/x", "/usr/bin/y")),
        ("exception's rule", 2, |w| swap(&mut w.web, "'setuid'", "'getty'")),
        ("template text", 3, |w| w.site.push('\n')),
        ("used variable", 3, |w| swap(&mut w.web, "'hello'", "'hi'")),
        ("file path", 3, |w| swap(&mut w.web, "/etc/site", "/etc/other")),
        ("file mode", 3, |w| swap(&mut w.web, "0644", "0600")),
        ("file owner", 3, |w| swap(&mut w.web, "mode = '0644'", "mode = '0644', owner = 'www-data'")),
        ("script text", 3, |w| w.script.push_str("true\n")),
        ("fetch digest", 3, |w| swap(&mut w.web, "e3b0", "e3b1")),
        ("fetch path", 3, |w| swap(&mut w.web, "/opt/x", "/opt/y")),
        ("fetch mode", 3, |w| swap(&mut w.web, "0755", "0700")),
        ("fetch unpacked", 3, |w| swap(&mut w.web, "mode = '0755'", "unpack = true")),
        ("service enabled", 3, |w| swap(&mut w.web, "['nginx'], d", "['nginx', 'x'], d")),
        ("service disabled", 3, |w| swap(&mut w.web, "['cron']", "[]")),
    ];

    /// What shapes no byte.
    const NO_CHANGES: &[(&str, Change)] = &[
        ("nothing", |_| {}),
        ("description", |w| swap(&mut w.web, "'one'", "'two'")),
        ("check", |w| swap(&mut w.web, "port = 80 }", "port = 80, contains = 'x' }")),
        ("declared ports", |w| swap(&mut w.web, "['80/tcp']", "['80/tcp', '443/tcp']")),
        ("where it is published", |w| {
            w.web.push_str("publish = { regions = ['eu-west-1'], tags = { a = 'b' }, protect = true }\n");
        }),
        ("where its parent is published", |w| w.base.push_str("publish = { regions = ['us-east-1'] }\n")),
        ("unused variable", |w| swap(&mut w.web, "unused = 'x'", "unused = 'y'")),
        ("reason of an exception", |w| swap(&mut w.web, "'because'", "'no more'")),
        ("where a fetch comes from", |w| swap(&mut w.web, "a.example", "b.example")),
        ("a unit's full name", |w| swap(&mut w.web, "['cron']", "['cron.service']")),
        ("a mode's leading zero", |w| swap(&mut w.web, "'0644'", "'644'")),
        ("packages asked for, with the same lock", |w| swap(&mut w.web, "['nginx']", "['nginx', 'nginx']")),
        ("where a mirror keeps a package", |w| w.web_lock.packages[0].path = "pool/y.deb".to_owned()),
        ("a spelling of the same text", |w| swap(&mut w.site, "{{greeting}}", "{{ greeting }}")),
        ("the archive's state", |w| {
            w.web_lock.suites.push(Suite {
                name: "bookworm".to_owned(),
                date: jiff::Timestamp::UNIX_EPOCH,
                inrelease: Digest::of(b"x"),
            });
        }),
    ];

    #[test]
    fn what_changes_the_id_and_which_layers() {
        let (id, layers) = world().compute();
        let mut ids = BTreeMap::from([(id, "nothing")]);
        for (what, first, change) in CHANGES {
            let mut changed = world();
            change(&mut changed);
            let (new_id, new_layers) = changed.compute();
            assert_eq!(ids.insert(new_id, what), None, "{what} must change the id to one of its own");
            let differs: Vec<bool> = layers.iter().zip(&new_layers).map(|(old, new)| old != new).collect();
            let expected: Vec<bool> = (0..4).map(|layer| layer >= *first).collect();
            assert_eq!(differs, expected, "{what}");
        }
    }

    #[test]
    fn what_does_not() {
        let before = world().compute();
        for (what, change) in NO_CHANGES {
            let mut changed = world();
            change(&mut changed);
            assert_eq!(changed.compute(), before, "{what}");
        }
    }

    #[test]
    fn the_id_of_known_inputs_stays() {
        // A change here is a change of every image id in the world: `FORMAT` must have grown with it.
        assert_eq!(FORMAT, 2);
        insta::assert_snapshot!(world().compute().0, @"9a673a970e2a808bc3077768fa7c45649d2c394749206bc9888fffb0b64f4113");
    }
}
