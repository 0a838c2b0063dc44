//! Tools in Python that tests ask for a second opinion, below Cargo's target directory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Returns where a tool is, after installing it in the directory `name` of Cargo's target directory when it is missing. It is
/// there when Python runs `probe` with it.
pub fn installed(name: &str, tool: &str, probe: &str) -> PathBuf {
    // One at a time: two tests that install into one place would break each other's copy.
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _alone = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let test = std::env::current_exe().expect("this program has a path");
    // <target>/<profile>/deps/<this test>
    let dir = test.ancestors().nth(3).expect("it lies in a target directory").join(name);
    if works(&dir, probe) {
        return dir;
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"]).arg(&dir).arg(tool);
    let installed = pip.output().expect("python3 starts: apt-get install python3 python3-pip");
    assert!(
        installed.status.success() && works(&dir, probe),
        "{tool} is missing and could not be installed; try\n  python3 -m pip install --target {} '{tool}'\n{}",
        dir.display(),
        String::from_utf8_lossy(&installed.stderr)
    );
    dir
}

fn works(dir: &Path, probe: &str) -> bool {
    let mut python = Command::new("python3");
    let ended = python.args(["-c", probe]).env("PYTHONPATH", dir).output();
    ended.expect("python3 starts: apt-get install python3").status.success()
}
