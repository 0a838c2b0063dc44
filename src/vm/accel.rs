//! How machines run: KVM where it really works, else QEMU's translator.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::guest::GUEST;
use super::machine::QEMU;
use crate::atomic_write::atomic_write;
use crate::cpio::Archive;
use crate::digest::Digest;
use crate::error::{Doing as _, Result};
use crate::process::{Run as _, cannot_start};
use crate::scratch::Scratch;
use crate::store::Store;

/// How long a kernel gets to its first user-space line under KVM. Half a second is normal; what hangs (nested
/// hosts that offer KVM and cannot run a stock kernel) hangs for ever.
const PATIENCE: Duration = Duration::from_secs(6);
/// How often the probe's console is read.
const LOOK: Duration = Duration::from_millis(20);
/// What our init prints first when it finds no command line of ours, which the probe leaves out on purpose.
const FIRST_LINE: &[u8] = b"rekiln: CANNOT START";

/// How machines run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// Hardware virtualisation.
    Kvm,
    /// QEMU's translator: several times slower, works everywhere.
    Tcg,
}

impl Accelerator {
    /// Returns the name: `kvm` or `tcg`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// Returns QEMU's `-accel` value.
    #[must_use]
    pub const fn argument(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            // One thread for each virtual processor.
            Self::Tcg => "tcg,thread=multi",
        }
    }

    /// Returns QEMU's `-cpu` value.
    #[must_use]
    pub const fn cpu(self) -> &'static str {
        match self {
            Self::Kvm => "host",
            // Five-level page tables only make each of the translator's page walks longer: booting took 8 % more.
            Self::Tcg => "max,la57=off",
        }
    }
}

/// The accelerator that was found, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// What machines run with.
    pub accelerator: Accelerator,
    /// Why, in a sentence without a full stop.
    pub why: String,
    /// What the finding holds for; anything else is probed again.
    key: Digest,
}

/// Finds the accelerator by starting `kernel` under KVM and waiting for its first user-space line.
///
/// `/dev/kvm` that opens, and even a virtual processor that can be made, says nothing: nested hosts exist on
/// which every stock kernel then hangs. The finding is kept in the store.
///
/// # Errors
/// QEMU is missing, the kernel cannot be read, or the scratch directory cannot be written.
pub fn probe(store: &Store, kernel: &Path) -> Result<Probed> {
    let key = key(kernel)?;
    let cache = store.root().join("accelerator.json");
    if let Some(known) = cached(&cache, key) {
        return Ok(known);
    }
    let (accelerator, why) = match fs::File::options().read(true).write(true).open("/dev/kvm") {
        Err(error) => (Accelerator::Tcg, format!("/dev/kvm does not open: {error}")),
        Ok(_) => boot(store, kernel)?,
    };
    let probed = Probed { accelerator, why, key };
    let text = serde_json::to_string(&probed).doing(|| "writing down the accelerator")?;
    // A store that cannot be written costs only the next probe.
    let _ = atomic_write(&cache, text.as_bytes());
    Ok(probed)
}

/// Returns the last finding without starting anything; `None` when nothing was probed for this kernel and host.
#[must_use]
pub fn known(store: &Store, kernel: &Path) -> Option<Probed> {
    cached(&store.root().join("accelerator.json"), key(kernel).ok()?)
}

fn cached(cache: &Path, key: Digest) -> Option<Probed> {
    let known: Probed = serde_json::from_slice(&fs::read(cache).ok()?).ok()?;
    (known.key == key).then_some(known)
}

/// Digests what the finding depends on: the guest's kernel, QEMU, the host's kernel and boot, and whether
/// `/dev/kvm` opens for this user.
fn key(kernel: &Path) -> Result<Digest> {
    let image = Digest::of_file(kernel).doing(|| format!("reading the kernel {}", kernel.display()))?;
    let qemu = Command::new(QEMU).arg("--version").run_text()?;
    let host = fs::read_to_string("/proc/version").unwrap_or_default();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let opens = fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    Ok(Digest::of(format!("{image}\n{qemu}\n{host}\n{boot}\n{opens}").as_bytes()))
}

/// Starts the kernel under KVM with an initrd that has only our init in it.
fn boot(store: &Store, kernel: &Path) -> Result<(Accelerator, String)> {
    let dir = Scratch::new(store, "accelerator")?;
    let initrd = dir.dir().join("initrd");
    fs::write(&initrd, archive("init", GUEST)?).doing(|| "writing the probe's initrd")?;
    let console = dir.dir().join("console.log");
    // The kernel ends a child when the thread that asked for it ends: a killed rekiln leaves no QEMU behind.
    let mut child = Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            QEMU,
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ])
        .args(["-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256M"])
        .args(["-append", "console=ttyS0 quiet panic=-1", "-kernel"])
        .arg(kernel)
        .arg("-initrd")
        .arg(&initrd)
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| cannot_start("setpriv".as_ref(), error))?;
    let start = Instant::now();
    let finding = loop {
        let said = fs::read(&console).unwrap_or_default();
        if said.windows(FIRST_LINE.len()).any(|window| window == FIRST_LINE) {
            break (Accelerator::Kvm, "a kernel boots under KVM".to_owned());
        }
        if start.elapsed() > PATIENCE {
            let seconds = PATIENCE.as_secs();
            break (
                Accelerator::Tcg,
                format!("/dev/kvm opens, but a kernel hangs under it ({seconds} s tried)"),
            );
        }
        if let Ok(Some(status)) = child.try_wait() {
            break (Accelerator::Tcg, format!("/dev/kvm opens, but QEMU ends under it: {status}"));
        }
        std::thread::sleep(LOOK);
    };
    let _ = child.kill();
    let _ = child.wait();
    Ok(finding)
}

/// Returns an initrd with one program in it.
fn archive(name: &str, program: &[u8]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.add(name, 0o100_755, program)?;
    archive.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_is_read_back_by_cpio() {
        let content: Vec<u8> = (0..=255).cycle().take(1001).collect();
        let output = Command::new("cpio")
            .args(["-i", "--to-stdout", "--quiet"])
            .run_with_input(&archive("init", &content).expect("made"));
        assert_eq!(output.expect("cpio reads it").stdout, content);
    }

    #[test]
    fn another_kernel_is_probed_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = dir.path().join("accelerator.json");
        let probed = Probed { accelerator: Accelerator::Tcg, why: String::new(), key: Digest::of(b"a") };
        fs::write(&cache, serde_json::to_string(&probed).expect("JSON")).expect("written");
        assert_eq!(cached(&cache, Digest::of(b"a")), Some(probed));
        assert_eq!(cached(&cache, Digest::of(b"b")), None);
    }
}
