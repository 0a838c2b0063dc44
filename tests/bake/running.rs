//! A rekiln that runs beside the test, to be watched and to be ended.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Pid;

/// Longer than anything that is waited for on a busy machine; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_mins(10);

/// A program that is ended with the test, however that ends.
pub struct Running {
    /// The process.
    pub child: Child,
    log: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// Starts a program in a process group of its own, as a shell does; what it says goes to a file in `dir`.
    pub fn start(mut command: Command, dir: &Path) -> Self {
        let log = dir.join("log");
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("made"))
            .spawn()
            .expect("rekiln runs");
        Self { child, log }
    }

    /// Returns what it has said.
    pub fn said(&self) -> String {
        let mut bytes = Vec::new();
        File::open(&self.log).expect("opened").read_to_end(&mut bytes).expect("read");
        // What a line holds that is half written is seen with the next look.
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Returns its process number.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits until it is where it should be hit.
    pub fn until(&mut self, what: &str, reached: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !reached(self) {
            let ended = self.child.try_wait().expect("asked");
            assert!(ended.is_none(), "it ended ({ended:?}) before it was {what}: {}", self.said());
            assert!(start.elapsed() < PATIENCE, "it never was {what}: {}", self.said());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
