//! Ctrl-C in the middle of work that runs other programs: they are ended, the work returns its errors, and what
//! it made for itself is removed on the way out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Doing as _, Error, Result};
use crate::process::parent;

/// How often children are looked for while the work ends: it may be about to start one more.
const LOOK: Duration = Duration::from_millis(20);

static SEEN: AtomicBool = AtomicBool::new(false);

/// Refuses to go on when the work was interrupted.
///
/// # Errors
/// It was.
pub fn check() -> Result<()> {
    if SEEN.load(Ordering::SeqCst) { Err(interrupted()) } else { Ok(()) }
}

fn interrupted() -> Error {
    Error::interrupted("interrupted; what was not finished is removed, what was is kept")
        .hint("run it again to go on from there")
}

/// Does `work` and returns what it returns. When SIGINT, SIGTERM or SIGHUP came and it failed then, the error is that
/// it was interrupted. A second signal ends the program at once; what is left then is removed by the next run.
///
/// # Errors
/// What the work returns, that it was interrupted, and that signals cannot be received.
pub fn stoppable<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .doing(|| "starting to listen for signals")?;
    let guard = runtime.enter();
    let listen = |kind| signal(kind).doing(|| "listening for signals");
    let (mut int, mut term, mut hangup) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
    drop(guard);
    // Ends with the program: from now on, signals do nothing by themselves.
    std::thread::spawn(move || {
        let mut wait = || {
            runtime.block_on(async {
                tokio::select! { _ = int.recv() => {} _ = term.recv() => {} _ = hangup.recv() => {} }
            });
        };
        wait();
        SEEN.store(true, Ordering::SeqCst);
        std::thread::spawn(end_children);
        wait();
        std::process::exit(interrupted().exit_code().into());
    });
    match work() {
        Err(_) if SEEN.load(Ordering::SeqCst) => Err(interrupted()),
        done => done,
    }
}

/// Ends the programs that this one started, until it ends itself.
fn end_children() {
    let own = std::process::id();
    loop {
        for pid in children(own) {
            let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
            let Ok(process) = pidfd_open(number, PidfdFlags::empty()) else { continue };
            // Looked at again: the number may have become another's before it was held.
            if parent(pid) == Some(own) {
                let _ = pidfd_send_signal(&process, Signal::KILL);
            }
        }
        std::thread::sleep(LOOK);
    }
}

fn children(own: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent(*pid) == Some(own)).collect()
}
