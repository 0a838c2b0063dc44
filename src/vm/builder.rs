//! The machine on which an image is derived: its disk takes what it writes, it may restart, it reaches the network, and it
//! gets its first instructions from memory.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::accel::Accelerator;
use super::machine::{QEMU, SANDBOX, join, pid_file, quoted, uefi};
use super::report;
use crate::catalog::Firmware;
use crate::error::{Doing as _, Error, Result};
use crate::interrupt;
use crate::process::cannot_start;

/// Memory: package managers of the RPM world need most of a gigabyte.
const MEMORY_MIB: u32 = 1024;
/// Processors: translated, a second one takes the work of what starts in parallel.
const CPUS: u32 = 2;
/// systemd's credential (from 252 on) that has a program start at the same addresses each time. The translator keeps what it
/// translated by address: without it, each program's start has the C library translated again, and pages that held much
/// code take seconds to be cleared.
const SAME_ADDRESSES: &str = "type=11,value=io.systemd.credential:sysctl.extra=kernel.randomize_va_space=0";
/// How often its end is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// What it is started from.
#[derive(Debug)]
pub struct Spec<'a> {
    /// Where `console.log` and `qemu.log` are kept; a directory of this machine alone.
    pub dir: &'a Path,
    /// The disk, raw; written to.
    pub disk: &'a Path,
    /// How the disk's boot loader is started.
    pub firmware: Firmware,
    /// Whether the machine may give space back; a volume in EC2 takes it none.
    pub discards: bool,
    /// What it is told.
    pub told: Told,
    /// What its first boot starts; without it, and whenever it restarts, the disk's own boot loader decides.
    pub direct: Option<&'a Direct>,
    /// The port of 127.0.0.1 that leads to the machine's SSH server.
    pub port: u16,
    /// Its name, for lists of processes.
    pub name: &'a str,
}

/// What the machine is told: in memory, for it holds a private key.
#[derive(Debug)]
pub enum Told {
    /// A small disk, which cloud-init reads.
    Seed(OwnedFd),
    /// A string of the firmware, which systemd reads.
    Credential(OwnedFd),
}

/// A kernel that is started without a boot loader.
#[derive(Debug, Clone)]
pub struct Direct {
    /// The kernel's file.
    pub kernel: PathBuf,
    /// The file with its initial file systems.
    pub initrd: PathBuf,
    /// Its command line.
    pub cmdline: String,
}

/// A running one. It is a child of the thread that started it and ends with it, with a `kill -9` of rekiln too
/// (`setpriv --pdeathsig`): no record is needed to find it.
#[derive(Debug)]
pub struct Builder {
    child: Child,
    dir: PathBuf,
    arguments: Vec<OsString>,
    memory: OwnedFd,
    may_restart: bool,
}

impl Spec<'_> {
    /// Starts it.
    ///
    /// # Errors
    /// QEMU or the firmware is missing.
    pub fn start(self, accelerator: Accelerator) -> Result<Builder> {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", QEMU, "-nodefaults", "-no-user-config", "-display", "none"])
            // A machine that restarts gets a new QEMU: what the old one translated in the first boot makes it take minutes to
            // clear memory in the second.
            .args(["-no-reboot", "-sandbox", SANDBOX])
            .args(["-machine", "q35", "-accel", accelerator.argument(), "-cpu", accelerator.cpu()])
            .args(["-m", &format!("{MEMORY_MIB}M"), "-smp", &CPUS.to_string()])
            .arg("-name")
            .arg(quoted(self.name))
            .arg("-pidfile")
            .arg(pid_file(self.dir));
        if accelerator == Accelerator::Tcg {
            command.args(["-smbios", SAME_ADDRESSES]);
        }
        // What the machine no longer needs becomes holes. Nothing that a killed bake leaves is used again, so that what
        // the machine flushes need not reach the host's disk before the bake itself flushes it.
        let how = "if=none,id=disk,format=raw,discard=unmap,detect-zeroes=unmap,cache=unsafe,file=";
        command.arg("-drive").arg(join(how, &quoted(self.disk.as_os_str()), ""));
        let discards = if self.discards { "on" } else { "off" };
        command
            .arg("-device")
            .arg(format!("virtio-blk-pci,drive=disk,bootindex=1,discard={discards},write-zeroes={discards}"));
        // What it is told is QEMU's standard input: no other process gets hold of it, and no path leads to it.
        let memory = match self.told {
            Told::Seed(memory) => {
                let seed = "if=none,id=seed,format=raw,readonly=on,file.locking=off,file=/dev/fd/0";
                command.args(["-drive", seed, "-device", "virtio-blk-pci,drive=seed"]);
                memory
            }
            Told::Credential(memory) => {
                command.args(["-smbios", "type=11,path=/dev/fd/0"]);
                memory
            }
        };
        if self.firmware == Firmware::Uefi {
            uefi(self.dir, &mut command)?;
        }
        let log = quoted(self.dir.join("console.log").as_os_str());
        command.arg("-chardev").arg(join("file,id=console,append=on,path=", &log, ""));
        command.args(["-serial", "chardev:console"]);
        // It reaches the network, as package managers must. Nobody reaches it but by this port of the loopback address.
        let user = format!("user,id=user,hostfwd=tcp:127.0.0.1:{}-:22", self.port);
        command.args(["-netdev", &user, "-device", "virtio-net-pci,netdev=user,romfile="]);
        // Key exchanges wait for randomness.
        command.args(["-device", "virtio-rng-pci"]);
        let arguments: Vec<OsString> = command.get_args().map(ToOwned::to_owned).collect();
        let mut first = arguments.clone();
        if let Some(Direct { kernel, initrd, cmdline }) = self.direct {
            let words: [&OsStr; 6] = [
                "-kernel".as_ref(),
                kernel.as_os_str(),
                "-initrd".as_ref(),
                initrd.as_os_str(),
                "-append".as_ref(),
                cmdline.as_ref(),
            ];
            first.extend(words.map(OsStr::to_owned));
        }
        let child = spawn(self.dir, &first, &memory)?;
        Ok(Builder { child, dir: self.dir.to_owned(), arguments, memory, may_restart: false })
    }
}

/// Starts QEMU as a child of this thread.
fn spawn(dir: &Path, arguments: &[OsString], memory: &OwnedFd) -> Result<Child> {
    let memory = memory.try_clone().doing(|| "sharing what the machine is told")?;
    let errors = File::create(dir.join("qemu.log")).doing(|| "creating the machine's log")?;
    Command::new("setpriv")
        .args(arguments)
        .stdin(Stdio::from(memory))
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .map_err(|error| cannot_start("setpriv".as_ref(), error))
}

impl Builder {
    /// Returns everything that its console said.
    #[must_use]
    pub fn console(&self) -> String {
        let text = std::fs::read(self.dir.join("console.log")).unwrap_or_default();
        report::plain(&String::from_utf8_lossy(&text))
    }

    /// Says whether the machine may restart itself from now on. Otherwise that is its end.
    pub const fn may_restart(&mut self, may: bool) {
        self.may_restart = may;
    }

    /// Refuses to go on when the machine has ended.
    ///
    /// # Errors
    /// It has, and its last words.
    pub fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait().doing(|| "watching the machine")? {
            None => Ok(()),
            Some(status) if status.success() && self.may_restart => {
                self.child = spawn(&self.dir, &self.arguments, &self.memory)?;
                Ok(())
            }
            Some(status) => Err(self.ended(status)),
        }
    }

    /// Waits until the machine has switched itself off.
    ///
    /// # Errors
    /// It does not within `patience`, QEMU fails, and we were interrupted.
    pub fn wait_off(&mut self, patience: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            interrupt::check()?;
            match self.child.try_wait().doing(|| "watching the machine")? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.ended(status)),
                None if start.elapsed() > patience => {
                    return Err(Error::failed(format!(
                        "the machine did not switch itself off within {} s; its console ends with:\n{}",
                        patience.as_secs(),
                        self.last_words()
                    )));
                }
                None => std::thread::sleep(LOOK),
            }
        }
    }

    /// Returns the end of its console.
    #[must_use]
    pub fn last_words(&self) -> String {
        /// A screenful.
        const LINES: usize = 20;
        report::console_tail(&self.dir, LINES).join("\n")
    }

    fn ended(&self, status: ExitStatus) -> Error {
        let words = std::fs::read_to_string(self.dir.join("qemu.log")).unwrap_or_default();
        let console = self.last_words();
        if status.success() {
            return Error::failed(format!("the machine restarted or switched itself off\n{console}"))
                .hint("a script that restarts the machine says so: `reboot = true` in its [[run]]");
        }
        Error::failed(format!("the machine ended by itself ({status}) {}\n{console}", words.trim()))
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
