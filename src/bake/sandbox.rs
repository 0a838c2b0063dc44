//! Everything that runs in an image's tree runs here: a private mount, PID, network, IPC and UTS namespace,
//! a root directory that is the tree and nothing else, few capabilities, and no system call that reaches the
//! host.
//!
//! The rekiln process starts `setpriv unshare rekiln sandbox` and sends a [`Spec`]; that second process
//! ([`enter`]) mounts the tree, makes it its root, gives up its rights and carries out the steps. When the
//! first process dies, by whatever signal, the kernel kills the second and with it the namespaces and every
//! mount and process in them: nothing can be left behind.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::error::{Doing as _, Error, Result};
use crate::process;

mod confine;
mod enter;

pub use enter::enter;

/// How many of the last lines of a failed step its error shows: a screenful.
const LAST_LINES: usize = 25;

/// Where the staged inputs of the steps are mounted in the tree, read-only.
pub const STAGE: &str = "/run/rekiln";

/// What is to be done in a tree.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// An empty directory on which the tree is mounted.
    pub mountpoint: PathBuf,
    /// Trees below, the uppermost first. Never written to.
    pub lowers: Vec<PathBuf>,
    /// The tree that takes all changes.
    pub upper: PathBuf,
    /// An empty directory on the file system of `upper`, for overlayfs.
    pub work: PathBuf,
    /// Host directories to mount read-only at `STAGE/<name>`.
    pub stages: BTreeMap<String, PathBuf>,
    /// `SOURCE_DATE_EPOCH` of everything that runs.
    pub epoch: i64,
    /// What to do, in order.
    pub steps: Vec<Step>,
}

/// One thing to do in the tree. All paths are those inside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Run a program of the tree.
    Run {
        /// Program and arguments.
        argv: Vec<String>,
    },
    /// Run a program that may cut the connection to the machine; it goes on, and its end is waited for. In a tree, where
    /// there is no connection, as `Run`.
    RunDetached {
        /// Program and arguments.
        argv: Vec<String>,
        /// Whether it may restart the machine, and then counts as ended well.
        may_reboot: bool,
    },
    /// Restart the machine and wait until it is up again. Nothing runs in a tree that could be restarted.
    Reboot,
    /// Write a file, replacing what is there; missing directories are made.
    Write {
        /// Where.
        path: String,
        /// A staged file with the content.
        from: String,
        /// Permissions.
        mode: u32,
        /// `user` or `user:group`, by name in the tree.
        owner: String,
    },
    /// Make a directory with those above it.
    Directory {
        /// Where.
        path: String,
    },
    /// Make a symbolic link, replacing what is there.
    Link {
        /// Where.
        path: String,
        /// What it points to.
        target: String,
    },
    /// Remove a file or a whole directory; nothing there is fine.
    Remove {
        /// Where.
        path: String,
    },
    /// Empty a directory, if it is there.
    Empty {
        /// Where.
        path: String,
    },
    /// Take set-user-id and set-group-id bits from every file of the tree.
    Unprivilege {
        /// Files that keep theirs.
        except: Vec<String>,
    },
    /// Set the days of password changes in a shadow file to a fixed one: the tools write the day of the bake.
    Normalize {
        /// Where.
        path: String,
    },
}

/// Carries out `spec` with the program at `rekiln` (this one), handing every line of output to `line`.
///
/// # Errors
/// A step that failed, with its last lines.
pub fn run(rekiln: &Path, spec: &Spec, line: &mut dyn FnMut(&str)) -> Result<()> {
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--net", "--ipc", "--uts"])
        .args(["--fork", "--kill-child=KILL", "--propagation", "private", "--"])
        .arg(rekiln)
        .arg("sandbox")
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| process::cannot_start("setpriv".as_ref(), error))?;
    let text = serde_json::to_vec(spec).doing(|| "describing the sandbox")?;
    if let Some(mut stdin) = child.stdin.take() {
        // A sandbox that dies early is reported below, with its words.
        let _ = stdin.write_all(&text);
    }
    let mut last = std::collections::VecDeque::with_capacity(LAST_LINES);
    if let Some(stdout) = child.stdout.take() {
        for read in BufReader::new(stdout).split(b'\n') {
            let read = read.doing(|| "reading the sandbox's output")?;
            let read = String::from_utf8_lossy(&read).into_owned();
            line(&read);
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(read);
        }
    }
    let status = child.wait().doing(|| "waiting for the sandbox")?;
    if status.success() {
        return Ok(());
    }
    let last: Vec<String> = last.into();
    Err(Error::failed(if last.is_empty() {
        format!("the sandbox ended with {status} and said nothing")
    } else {
        last.join("\n")
    })
    .hint("bakes need root and overlayfs; `rekiln doctor` says whether this machine has both"))
}
