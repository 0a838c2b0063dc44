//! What changes an image id, and which layers.

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
        for (name, text, lock) in [("base", &self.base, &self.base_lock), ("web", &self.web, &self.web_lock)]
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

impl World {
    /// A world with an image that is derived from a vendor's disk in the place of the one from packages.
    fn derived() -> Self {
        let mut world = world();
        for (from, to) in [
            ("source = { image = 'base' }", DISK),
            ("['nginx']\n", "['nginx=1.22.1-9']\n"),
            ("script = 'setup.hbs'", "script = 'setup.hbs', reboot = true, expect_disconnect = true"),
            (", modules = ['loop']", ""),
        ] {
            swap(&mut world.web, from, to);
        }
        world.web_lock.packages.clear();
        world.web_lock.tools.clear();
        world
    }

    /// Computes the inputs of the derived image, which stands on nothing.
    fn compute_derived(&self) -> (Inputs, Vec<Link>) {
        let texts = [("site.hbs", &self.site), ("setup.hbs", &self.script)];
        let templates = Templates::new(texts.map(|(name, text)| (name.to_owned(), text.clone())).into());
        let recipe: Recipe = toml::from_str(&self.web).expect("the test's recipe is one");
        let rendered = templates.render_recipe(&recipe, &recipe.vars).expect("it renders");
        let (name, lock) = ("web".to_owned(), self.web_lock.clone());
        let chain = vec![Link { name, recipe, rendered, lock, lock_digest: Digest::of(b"") }];
        (Inputs::of(&chain, self.maker), chain)
    }
}

const DISK: &str = "source = { disk = { path = 'vendor.qcow2', size = '8G', \
    sha256 = '73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac' } }";

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

/// What changes the id of a derived image, besides those of [`CHANGES`] that such an image can have.
const DERIVED: &[(&str, Change)] = &[
    ("the vendor's disk", |w| swap(&mut w.web, "73cb", "73cc")),
    ("its size", |w| swap(&mut w.web, "'8G'", "'9G'")),
    ("not grown", |w| swap(&mut w.web, ", size = '8G'", "")),
    ("a package's pin", |w| swap(&mut w.web, "1.22.1-9", "1.22.1-10")),
    ("no pin", |w| swap(&mut w.web, "nginx=1.22.1-9", "nginx")),
    ("no reboot", |w| swap(&mut w.web, "reboot = true", "reboot = false")),
    ("no disconnect", |w| swap(&mut w.web, ", expect_disconnect = true", "")),
    ("the moment of locking", |w| w.web_lock.epoch += 1),
];

/// Those of [`CHANGES`] that change a derived image too.
const SHARED: &[&str] = &[
    "guest program",
    "strict profile",
    "debug variant",
    "kernel arguments",
    "exception's path",
    "exception's rule",
    "template text",
    "used variable",
    "file path",
    "file mode",
    "file owner",
    "script text",
    "fetch digest",
    "fetch path",
    "fetch mode",
    "fetch unpacked",
    "service enabled",
    "service disabled",
];

/// What does not, besides [`NO_CHANGES`].
const NOT_DERIVED: &[(&str, Change)] = &[
    ("where the disk lies", |w| swap(&mut w.web, "vendor.qcow2", "/srv/vendor.qcow2")),
    ("a spelling of the size", |w| swap(&mut w.web, "'8G'", "'8192M'")),
];

#[test]
fn what_changes_the_id_of_a_derived_image() {
    let (inputs, chain) = World::derived().compute_derived();
    assert_eq!(inputs.layers(&chain), []);
    let mut ids = BTreeMap::from([(inputs.id(), "nothing")]);
    let shared = CHANGES.iter().filter(|(what, ..)| SHARED.contains(what));
    let cases = DERIVED.iter().copied().chain(shared.map(|(what, _, change)| (*what, *change)));
    for (what, change) in cases {
        let mut changed = World::derived();
        change(&mut changed);
        let id = changed.compute_derived().0.id();
        assert_eq!(ids.insert(id, what), None, "{what} must change the id to one of its own");
    }
    assert_eq!(ids.len(), 1 + DERIVED.len() + SHARED.len());
    let asked = "packages asked for, with the same lock";
    for (what, change) in NO_CHANGES.iter().filter(|(what, _)| *what != asked).chain(NOT_DERIVED) {
        let mut changed = World::derived();
        // There is no package in such a lock.
        changed.web_lock.packages = lock("nginx", 0).packages;
        change(&mut changed);
        changed.web_lock.packages.clear();
        assert_eq!(changed.compute_derived().0, inputs, "{what}");
    }
}

#[test]
fn the_id_of_a_known_derived_image_stays() {
    assert_eq!(FORMAT, 2);
    insta::assert_snapshot!(World::derived().compute_derived().0.id(), @"1163ac00d806cbddd148e103b22c265bc811dd24ed044fb61c22017e254b032a");
}
