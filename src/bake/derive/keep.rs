//! A machine whose bake failed, kept for a while so that someone can look.

use std::time::{Duration, Instant};

use super::remote::Remote;
use crate::bake::image::Keep;
use crate::bake::shell;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::progress::Progress;

/// How often an interruption is looked for.
const LOOK: Duration = Duration::from_millis(500);

/// Keeps the machine as `keep` says, and returns the bake's error.
pub(super) fn after(
    keep: Option<&Keep>,
    machine: &mut Remote,
    progress: &dyn Progress,
    image: &str,
    error: Error,
) -> Error {
    let Some(keep) = keep else {
        return error.hint("keep the machine to look closer: `rekiln bake … --keep-builder`");
    };
    match open(keep, machine) {
        Ok(how) => {
            progress.note(image, error.chain());
            for line in how {
                progress.note(image, line);
            }
            let start = Instant::now();
            while start.elapsed() < keep.time
                && interrupt::check().is_ok()
                && machine.machine().must_run().is_ok()
            {
                std::thread::sleep(LOOK);
            }
            error
        }
        Err(closed) => error.hint(format!("the machine could not be kept: {}", closed.chain())),
    }
}

/// Lets the keys in and says how.
fn open(keep: &Keep, machine: &mut Remote) -> Result<Vec<String>> {
    machine.machine().must_run()?;
    let keys: String = keep.keys.iter().flat_map(|key| [key.trim(), "\n"]).collect();
    let add = format!(
        "mkdir -p /root/.ssh\nchmod 700 /root/.ssh\nprintf %s {} >> /root/.ssh/authorized_keys\n",
        shell::quoted(&keys)
    );
    machine.must("letting you in", &add, &mut |_| {})?;
    let address = machine.address().clone();
    let until = jiff::Timestamp::now().checked_add(keep.time).map(|until| format!("{until:.0}"));
    Ok(vec![
        format!("the machine is kept until {} (Ctrl-C ends it)", until.unwrap_or_else(|_| "then".to_owned())),
        format!(
            "ssh -p {} -o HostKeyAlias=rekiln-builder -o KnownHostsCommand='/bin/echo rekiln-builder {}' root@{}",
            address.socket.port(),
            address.keys.host_public()?,
            address.socket.ip()
        ),
    ])
}
