//! One virtual machine: started, found again, ended.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::accel::Accelerator;
use super::{Boot, Spec};
use crate::catalog::Firmware;
use crate::error::{Doing as _, Error, Result};
use crate::process::Run as _;
pub use crate::process::start_time;

/// The program that runs machines.
pub const QEMU: &str = "qemu-system-x86_64";
/// The firmware of UEFI boots, from package `ovmf`, and the template of its variables.
pub const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// See [`OVMF_CODE`].
pub const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// QEMU parses what the guest sends; it needs no new processes and no more rights for that.
pub(super) const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
/// The same for a QEMU that makes itself a daemon: it does so behind its own filter, and so must be let fork and
/// start a session.
const DAEMON_SANDBOX: &str = "on,obsolete=deny,resourcecontrol=deny";

/// How long QEMU may take to end after SIGTERM. It closes its files and exits, within milliseconds;
/// a host that swaps is given some more.
const TERM: Duration = Duration::from_secs(5);
/// How long the kernel may take to clear away a killed QEMU.
const KILL: Duration = Duration::from_secs(10);

/// A running machine.
///
/// It is this machine and no other process: the descriptor refers to the process that was checked to run with
/// this machine's pid file, so that a process number that was used again is never signalled.
#[derive(Debug)]
pub struct Machine {
    /// Process number of QEMU.
    pub pid: u32,
    /// When it started, in clock ticks since the host's start, as `/proc/<pid>/stat` has it.
    pub started: u64,
    /// The machine's directory.
    pub dir: PathBuf,
    process: OwnedFd,
}

/// Where the guest's console goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Console {
    /// To `console.log` in the machine's directory.
    File,
    /// To our own terminal and `console.log`; what is typed goes to the guest.
    Terminal,
}

/// How the guest's network card is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// To the forwarded ports only.
    Forwards,
    /// Also to the datagram socket that QEMU has as standard input; for the port probe.
    Probe,
}

impl Spec {
    /// Starts the machine so that it outlives this process, and returns when QEMU runs.
    ///
    /// The record of a fleet must be written before: between the start and the return only the machine's
    /// directory (by [`Machine::find`]) leads to it.
    ///
    /// # Errors
    /// QEMU is missing or refuses; a machine with this directory runs already.
    pub fn start(&self, accelerator: Accelerator) -> Result<Machine> {
        if let Some(running) = Machine::find(&self.dir)? {
            return Err(Error::failed(format!(
                "machine {} runs already, as process {}",
                self.name, running.pid
            )));
        }
        let mut command = self.confined(DAEMON_SANDBOX, accelerator, Console::File, Wire::Forwards)?;
        command.arg("-daemonize");
        if let Err(error) = command.run() {
            // What QEMU said is part of the error; the file is for whoever looks at the directory later.
            let _ = fs::write(self.dir.join("qemu.log"), error.chain());
            return Err(error.during(format!("starting machine {}", self.name)));
        }
        Machine::find(&self.dir)?.ok_or_else(|| {
            Error::failed(format!("machine {} ended right after its start", self.name))
                .hint(format!("its console is in {}", self.dir.join("console.log").display()))
        })
    }

    /// Prepares the machine's directory and the QEMU command, in the foreground.
    ///
    /// # Errors
    /// The directory cannot be made, or the firmware is missing.
    pub fn command(&self, accelerator: Accelerator, console: Console, wire: Wire) -> Result<Command> {
        self.confined(SANDBOX, accelerator, console, wire)
    }

    fn confined(
        &self,
        sandbox: &str,
        accelerator: Accelerator,
        console: Console,
        wire: Wire,
    ) -> Result<Command> {
        fs::create_dir_all(&self.dir).doing(|| format!("creating {}", self.dir.display()))?;
        let mut command = Command::new(QEMU);
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-sandbox", sandbox])
            .args(["-machine", "q35", "-accel", accelerator.argument(), "-cpu", accelerator.cpu()])
            .args(["-m", &format!("{}M", self.memory_mib), "-smp", &self.cpus.to_string()])
            .arg("-name")
            .arg(quoted(&self.name))
            .arg("-smbios")
            .arg(join("type=1,serial=", &quoted(&self.name), ""))
            .arg("-pidfile")
            .arg(pid_file(&self.dir));
        self.disk(&mut command);
        self.boot(&mut command)?;
        self.serial(&mut command, console);
        self.network(&mut command, wire);
        // After the card that leads here, which so stays the first.
        self.extras.arguments(&mut command);
        Ok(command)
    }

    fn disk(&self, command: &mut Command) {
        let file = quoted(self.disk.as_os_str());
        let how = match self.boot {
            Boot::Direct { .. } | Boot::Uefi => {
                "if=none,id=disk,format=raw,readonly=on,file.locking=off,file="
            }
            Boot::Firmware(_) => "if=none,id=disk,format=raw,snapshot=on,file.locking=off,file=",
        };
        command.arg("-drive").arg(join(how, &file, ""));
        let device = match self.boot {
            Boot::Direct { .. } => "virtio-blk-pci,drive=disk",
            Boot::Uefi => "nvme,drive=disk,serial=rekiln,bootindex=1",
            Boot::Firmware(_) => "virtio-blk-pci,drive=disk,bootindex=1",
        };
        command.args(["-device", device]);
    }

    fn boot(&self, command: &mut Command) -> Result<()> {
        match &self.boot {
            Boot::Direct { kernel, initrd, cmdline } => {
                command.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd).args(["-append", cmdline]);
            }
            // QEMU brings SeaBIOS and starts it when nothing else is said.
            Boot::Firmware(Firmware::Bios) => {}
            Boot::Uefi | Boot::Firmware(Firmware::Uefi) => uefi(&self.dir, command)?,
        }
        Ok(())
    }

    fn serial(&self, command: &mut Command, console: Console) {
        let log = quoted(self.dir.join("console.log").as_os_str());
        command.arg("-chardev").arg(match console {
            Console::File => join("file,id=console,path=", &log, ""),
            Console::Terminal => join("stdio,id=console,signal=off,logfile=", &log, ""),
        });
        let agent = quoted(self.dir.join("agent.log").as_os_str());
        command.arg("-chardev").arg(join("file,id=agent,path=", &agent, ""));
        command.args(["-serial", "chardev:console", "-serial", "chardev:agent"]);
    }

    /// `restrict=on`: the guest reaches nothing, neither the host nor the world, but for the one server that it may be led to;
    /// only the forwarded ports reach it.
    fn network(&self, command: &mut Command, wire: Wire) {
        let mut user = "user,id=user,restrict=on".to_owned();
        for forward in &self.forwards {
            // Writing to a string does not fail.
            let _ = write!(user, ",hostfwd=tcp:127.0.0.1:{}-:{}", forward.host, forward.guest);
        }
        user.push_str(&self.extras.card());
        command.args(["-netdev", &user]);
        let card = match wire {
            Wire::Forwards => "user",
            Wire::Probe => {
                command
                    .args(["-netdev", "dgram,id=probe,local.type=fd,local.str=0"])
                    .args(["-netdev", "hubport,id=hub1,hubid=0,netdev=user"])
                    .args(["-netdev", "hubport,id=hub2,hubid=0,netdev=probe"])
                    .args(["-netdev", "hubport,id=hub3,hubid=0"]);
                "hub3"
            }
        };
        // Without an option ROM: nothing boots from the network, and loading it takes time.
        command.args(["-device", &format!("virtio-net-pci,netdev={card},romfile=")]);
    }
}

impl Machine {
    /// Finds the running machine of a directory: by its pid file, and, when QEMU was started but has not yet
    /// written that (or it was lost), among all processes. `None` when it does not run.
    ///
    /// # Errors
    /// `/proc` cannot be read, or the process may not be watched.
    pub fn find(dir: &Path) -> Result<Option<Self>> {
        let file = pid_file(dir);
        let written = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
        if let Some(pid) = written
            && let Some(machine) = Self::at(pid, dir)?
        {
            return Ok(Some(machine));
        }
        for (pid, found) in all()? {
            if found == dir
                && let Some(machine) = Self::at(pid, dir)?
            {
                return Ok(Some(machine));
            }
        }
        Ok(None)
    }

    /// Takes hold of process `pid`, then checks that it is the machine of `dir`.
    fn at(pid: u32, dir: &Path) -> Result<Option<Self>> {
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        let process = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error).doing(|| format!("watching process {pid}")),
        };
        if machine_dir(pid).as_deref() != Some(dir) {
            return Ok(None);
        }
        let Some(started) = start_time(pid) else { return Ok(None) };
        Ok(Some(Self { pid, started, dir: dir.to_owned(), process }))
    }

    /// Tells whether it still runs.
    #[must_use]
    pub fn alive(&self) -> bool {
        !self.ended_within(Duration::ZERO)
    }

    /// Ends the machine and waits until it is really gone: SIGTERM first, SIGKILL when that does not help.
    ///
    /// # Errors
    /// It may not be signalled, or it is still there after both.
    pub fn stop(&self) -> Result<()> {
        self.end_by(&[(Signal::TERM, TERM), (Signal::KILL, KILL)])
    }

    /// Kills the machine, as a failure of its host would, and waits until it is really gone.
    ///
    /// # Errors
    /// It may not be signalled, or it is still there.
    pub fn kill(&self) -> Result<()> {
        self.end_by(&[(Signal::KILL, KILL)])
    }

    fn end_by(&self, signals: &[(Signal, Duration)]) -> Result<()> {
        for (signal, patience) in signals {
            match pidfd_send_signal(&self.process, *signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error).doing(|| format!("ending machine process {}", self.pid)),
            }
            if self.ended_within(*patience) {
                return Ok(());
            }
        }
        Err(Error::failed(format!("machine process {} does not end, even when killed", self.pid))
            .hint("a process in uninterruptible sleep waits for a disk; see `dmesg`"))
    }

    fn ended_within(&self, patience: Duration) -> bool {
        let wait =
            Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: patience.subsec_nanos().into() };
        let mut fds = [PollFd::new(&self.process, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&wait)), Ok(ready) if ready > 0)
    }
}

/// Returns every machine of any store on this host that we may see: process number and directory.
///
/// # Errors
/// `/proc` cannot be read.
pub fn all() -> Result<Vec<(u32, PathBuf)>> {
    let entries = fs::read_dir("/proc").doing(|| "listing processes")?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids.filter_map(|pid| Some((pid, machine_dir(pid)?))).collect())
}

/// Returns the machine directory in the arguments of process `pid`, when it is a QEMU that we started:
/// one with a pid file called `qemu.pid` beside nothing else we know of.
fn machine_dir(pid: u32) -> Option<PathBuf> {
    // The arguments of a process that ended and is not yet waited for are empty.
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut arguments = arguments.split(|byte| *byte == 0);
    let program = Path::new(std::ffi::OsStr::from_bytes(arguments.next()?));
    if program.file_name()? != QEMU {
        return None;
    }
    arguments.find(|argument| *argument == b"-pidfile")?;
    let file = Path::new(std::ffi::OsStr::from_bytes(arguments.next()?));
    (file.file_name()? == "qemu.pid").then(|| file.parent().map(Path::to_owned))?
}

/// Gives the machine the UEFI firmware, with variables of its own in the machine's directory.
pub(super) fn uefi(dir: &Path, command: &mut Command) -> Result<()> {
    let vars = dir.join("vars.fd");
    fs::copy(OVMF_VARS, &vars).map_err(|error| {
        Error::failed(format!("copying the firmware's variables from {OVMF_VARS}: {error}"))
            .hint("UEFI boots need the package: `apt-get install ovmf`")
    })?;
    let code = format!("if=pflash,format=raw,readonly=on,file={OVMF_CODE}");
    command.args(["-drive", &code]);
    command.arg("-drive").arg(join("if=pflash,format=raw,file=", &quoted(vars.as_os_str()), ""));
    Ok(())
}

pub(super) fn pid_file(dir: &Path) -> PathBuf {
    dir.join("qemu.pid")
}

/// Doubles commas, which separate QEMU's options.
pub(super) fn quoted(text: impl AsRef<std::ffi::OsStr>) -> OsString {
    let mut bytes = Vec::new();
    for byte in text.as_ref().as_bytes() {
        bytes.push(*byte);
        if *byte == b',' {
            bytes.push(b',');
        }
    }
    OsString::from_vec(bytes)
}

pub(super) fn join(before: &str, middle: &OsString, after: &str) -> OsString {
    let mut joined = OsString::from(before);
    joined.push(middle);
    joined.push(after);
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_paths() {
        assert_eq!(quoted("/a,b"), "/a,,b");
    }

    #[test]
    fn a_used_again_process_number_is_not_the_machine() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("qemu.pid"), format!("{}\n", std::process::id())).expect("a pid file");
        assert!(Machine::find(dir.path()).expect("it looks").is_none());
    }
}
