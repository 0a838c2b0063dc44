//! The Python packages that the endpoint needs, in Cargo's target directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rekiln::digest::Digest;

/// Where the endpoint, the proxy and their requirements lie.
pub fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/aws")
}

/// Returns where the packages are, after installing them there when they are missing: `pytools-aws`.
pub fn dir() -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(install).clone()
}

fn install() -> PathBuf {
    let test = std::env::current_exe().expect("this program has a path");
    // <target>/<profile>/deps/<this test>
    let dir = test.ancestors().nth(3).expect("it lies in a target directory").join("pytools-aws");
    // Another test run at the same time would break this one's copy.
    let lock = File::create(dir.with_extension("lock")).expect("a lock file");
    lock.lock().expect("locked");
    let requirements = scripts().join("requirements.txt");
    let wanted = Digest::of_file(&requirements).expect("requirements").to_string();
    let stamp = dir.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return dir;
    }
    // pip never removes what an older version left in a target directory.
    if dir.exists() {
        fs::remove_dir_all(&dir).expect("removed");
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--target"]).arg(&dir).arg("-r").arg(&requirements);
    let installed = pip.output().expect("python3 starts: apt-get install python3 python3-pip");
    assert!(
        installed.status.success(),
        "the AWS endpoint's packages could not be installed; try\n  python3 -m pip install --target {} -r {}\n{}",
        dir.display(),
        requirements.display(),
        String::from_utf8_lossy(&installed.stderr)
    );
    fs::write(stamp, wanted).expect("written");
    dir
}
