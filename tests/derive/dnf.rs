//! Packages of a vendor's system with dnf: Debian's dnf, with a repository and packages made here, in a copy of this system
//! that is gone afterwards and has no apt. What is not tried is a distribution that lives by rpm.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use rekiln::bake::derive::packages::install;
use tempfile::TempDir;

use crate::bake::succeeded;

/// Packages: name, version, and what else their headers say.
const PACKAGES: &[(&str, &str, &str)] = &[
    ("rk-made", "1.0", "Requires: rk-needed\n"),
    ("rk-made", "2.0", "Requires: rk-needed\nRecommends: rk-merely\nProvides: rk-virtual\n"),
    ("rk-needed", "1.0", ""),
    ("rk-merely", "1.0", ""),
];

/// What runs the script: a system that is this one with changes of its own, in which there is no apt.
const ELSEWHERE: &str = "set -eu\n\
    mount -t tmpfs none \"$1\"\nmkdir \"$1/upper\" \"$1/work\" \"$1/root\"\n\
    mount -t overlay overlay -o lowerdir=/,upperdir=\"$1/upper\",workdir=\"$1/work\" \"$1/root\"\n\
    cd \"$1/root\"\nrm -f usr/bin/apt-get\nrm -rf etc/yum.repos.d var/lib/rpm root/.rpmdb\n\
    mkdir -p etc/yum.repos.d tmp/rk\ncp -r \"$2\"/. tmp/rk/\ncp tmp/rk/rk.repo etc/yum.repos.d/\n\
    mount -t proc proc proc\nmount --rbind /dev dev\n\
    exec chroot . sh -s\n";

/// Makes the packages and their repository.
fn repository() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, version, more) in PACKAGES {
            let spec = format!(
                "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: a test\nLicense: none\nBuildArch: noarch\n{more}\
                 %description\na test\n%install\nmkdir -p %{{buildroot}}/opt/{name}\n\
                 echo {version} > %{{buildroot}}/opt/{name}/version\n%files\n/opt/{name}\n"
            );
            let file = dir.path().join(format!("{name}-{version}.spec"));
            fs::write(&file, spec).expect("written");
            let mut build = Command::new("rpmbuild");
            build.args(["-bb", "--quiet", "--define"]).arg(format!("_topdir {}/top", dir.path().display()));
            build.arg("--define").arg(format!("_rpmdir {}", dir.path().display())).arg(&file);
            succeeded(&build.output().expect("rpmbuild runs (`apt-get install rpm`)"));
        }
        let mut create = Command::new("createrepo_c");
        succeeded(&create.arg("--quiet").arg(dir.path()).output().expect("createrepo_c runs (`apt-get install createrepo-c`)"));
        let repository = "[rk]\nname=rk\nbaseurl=file:///tmp/rk\nenabled=1\ngpgcheck=0\n";
        fs::write(dir.path().join("rk.repo"), repository).expect("written");
        dir
    })
    .path()
}

/// Runs the script for some packages, and then `after`.
fn run(packages: &[&str], after: &str) -> (bool, String) {
    let place = tempfile::tempdir().expect("a directory");
    let names: BTreeSet<String> = packages.iter().map(|&name| name.to_owned()).collect();
    let script = install(&names).expect("a script");
    let file: PathBuf = place.path().join("script");
    let mount = place.path().join("mount");
    fs::create_dir(&mount).expect("made");
    fs::write(&file, format!("set -eu\n{{ {script}\n}} 2>&1\n{after}\n")).expect("written");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child=KILL", "--net", "sh", "-c", ELSEWHERE, "sh"]);
    command.arg(&mount).arg(repository());
    command.stdin(Stdio::from(fs::File::open(&file).expect("opened")));
    let Output { status, stdout, stderr } = command.output().expect("unshare runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.success(), text(&stdout) + &text(&stderr))
}

#[test]
fn dnf_installs_what_is_named_and_what_that_needs() {
    let (done, said) = run(&["rk-made"], "rpm -qa | sort; cat /opt/rk-made/version");
    assert!(done && said.ends_with("rk-made-2.0-1.noarch\nrk-needed-1.0-1.noarch\n2.0\n"), "{said}");
    let (done, said) = run(&["rk-made=1.0"], "rpm -qa | sort");
    assert!(done && said.ends_with("rk-made-1.0-1.noarch\nrk-needed-1.0-1.noarch\n"), "{said}");
}

#[test]
fn dnf_is_left_nothing_to_guess() {
    for name in ["rk-virtual", "rk-nothing", "rk-made=3.0"] {
        let (done, said) = run(&[name], "echo it went on");
        assert!(!done && !said.contains("it went on"), "{said}");
        let shown = name.replace('=', "-");
        assert!(said.contains(&format!("the repositories have no package `{shown}`")), "{said}");
    }
}
