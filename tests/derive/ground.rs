//! What these tests share: the vendor's disk, and one image that is derived from it.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rekiln::catalog::Record;
use rekiln::digest::Digest;
use rekiln::git;
use rustix::fs::{FlockOperation, flock};

use crate::bake::{Line, Site, baked, succeeded, turn};

/// Where everything of these tests lies.
const PLACE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/derive");

/// The image that is derived once, from everything that a recipe can say of one.
pub const NAME: &str = "derived";

/// Where the vendor's root begins, in bytes; as in vendor.py.
pub const ROOT_START: u64 = 262_144 * 512;

/// The recipe, but for the disk's path and digest.
const RECIPE: &str = r#"
packages = ["nginx-light"]

[[file]]
path = "/var/www/html/index.html"
template = "derived/page.html.hbs"

[[run]]
script = "derived/noise.sh.hbs"

[[run]]
script = "derived/before.sh.hbs"
reboot = true

[[run]]
script = "derived/after.sh.hbs"

[[run]]
script = "derived/network.sh.hbs"
expect_disconnect = true

[services]
enable = ["nginx"]
ports = ["80/tcp"]

[kernel]
args = ["derived.test=yes"]

[[check]]
http = { port = 80, contains = "derived from a vendor's disk" }
within = "5m"
"#;

/// Templates of the recipe: what people's scripts do that a bake must survive.
const TEMPLATES: &[(&str, &str)] = &[
    ("page.html", "<p>derived from a vendor's disk</p>\n"),
    // Which keys these are, so that the test can look for them; then bytes that are no text, orders to a terminal, and more
    // lines than a terminal has.
    (
        "noise.sh",
        "#!/bin/sh\nset -eu\ncat /root/.ssh/authorized_keys /etc/ssh/ssh_host_ed25519_key.pub\necho\n\
         head -c 4096 /dev/urandom\nprintf '\\n\\033[2J\\033[31mred\\033[0m\\007\\n'\nseq -f 'line %g of 200' 200\n",
    ),
    ("before.sh", "#!/bin/sh\nset -eu\ncat /proc/sys/kernel/random/boot_id > /opt/boots\nsystemctl reboot\n"),
    ("after.sh", "#!/bin/sh\nset -eu\ncat /proc/sys/kernel/random/boot_id >> /opt/boots\n"),
    // Whoever is connected is cut off, and nobody is let in for a while.
    (
        "network.sh",
        "#!/bin/sh\nset -eu\nsystemctl stop ssh\npkill -KILL -x sshd\nsleep 3\necho 'nobody was let in'\n\
         systemctl start ssh\necho 'it went on' > /opt/went-on\n",
    ),
];

/// What all tests share.
pub struct Ground {
    /// A repository with one recipe, and a store with its image, baked and booted.
    pub site: Site,
    /// What `bake --json` said last.
    pub line: Line,
    /// The image's record.
    pub record: Record,
    /// What the bake said to people.
    pub said: String,
}

/// Returns what the tests share, making it first.
pub fn ground() -> &'static Ground {
    static GROUND: OnceLock<Ground> = OnceLock::new();
    GROUND.get_or_init(make)
}

fn make() -> Ground {
    assert!(rustix::process::geteuid().is_root(), "a vendor's disk is made by root");
    let site = site(&place().join("shared"));
    site.write(&format!("images/{NAME}.toml"), &recipe(&vendor(), "size = \"3G\"", RECIPE));
    for (name, text) in TEMPLATES {
        site.write(&format!("bootstrap/derived/{name}.hbs"), text);
    }
    site.done(&["lock", NAME]);
    git::commit_all(&site.repo, "a recipe").expect("committed");
    // Beside other machines, this one would only be slower, and make them late.
    let _turn = turn();
    let output = site.command(&["bake", "--json", NAME]).output().expect("rekiln runs");
    let line = baked(&output);
    let record = site.record(line.id);
    let said = String::from_utf8(output.stderr).expect("a terminal's text");
    Ground { site, line, record, said }
}

/// Returns the place of these tests, cleared of what a run before left.
fn place() -> &'static Path {
    static ONLY_ONE: OnceLock<File> = OnceLock::new();
    let place = Path::new(PLACE);
    ONLY_ONE.get_or_init(|| {
        fs::create_dir_all(place).expect("made");
        // Only one test binary at a time uses it.
        let only_one = File::create(place.join("lock")).expect("made");
        flock(&only_one, FlockOperation::LockExclusive).expect("locked");
        for entry in fs::read_dir(place).expect("listed").map(|entry| entry.expect("listed")) {
            if entry.file_type().expect("known").is_dir() {
                fs::remove_dir_all(entry.path()).expect("removed");
            }
        }
        only_one
    });
    place
}

/// Makes an empty repository and a place for a store, in `dir`.
pub fn site(dir: &Path) -> Site {
    let site = Site { repo: dir.join("repo"), store: dir.join("store") };
    for part in ["images", "bootstrap/derived", "fleets"] {
        fs::create_dir_all(site.repo.join(part)).expect("made");
    }
    git::init(&site.repo).expect("a repository");
    site
}

/// Returns a directory of one test.
pub fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("test-").tempdir_in(place()).expect("a directory")
}

/// Returns a recipe that derives from a disk; `more` goes into its source, `rest` behind it.
pub fn recipe(disk: &Path, more: &str, rest: &str) -> String {
    let sha256 = Digest::of_file(disk).expect("it reads");
    let mut text = String::new();
    let (top, tables) = rest.split_once("\n[").unwrap_or((rest, ""));
    let _ =
        write!(text, "{top}\n[source.disk]\npath = '{}'\nsha256 = \"{sha256}\"\n{more}\n", disk.display());
    if !tables.is_empty() {
        let _ = write!(text, "\n[{tables}");
    }
    text
}

/// Returns the vendor's disk, a qcow2; it is kept over runs.
pub fn vendor() -> PathBuf {
    static VENDOR: OnceLock<PathBuf> = OnceLock::new();
    VENDOR
        .get_or_init(|| {
            let disk = place().join("vendor.qcow2");
            let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/derive/vendor.py");
            // Where the build puts its own files, the program keeps what it made.
            let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a directory");
            let mut python = Command::new("python3");
            python.args(["-B", program]).arg(&disk).env("CARGO_TARGET_DIR", target);
            succeeded(&python.output().expect("python3 runs"));
            disk
        })
        .clone()
}
