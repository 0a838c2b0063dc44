//! `/init`: from the kernel's hand-over to systemd's start.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::system::{RebootCommand, reboot};

use crate::cmdline::Cmdline;
use crate::{Doing as _, Result, modules, mounts, say, verity};

/// How long the disk may take to appear. A volume that EC2 attaches late has been seen to take tens of
/// seconds; after a minute the machine had better be replaced.
const DISK: Duration = Duration::from_mins(1);
/// How often the partitions are looked for: the wait is on every boot's critical path.
const LOOK: Duration = Duration::from_millis(5);
/// How long the last words get to leave through a serial port.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The root shell of the debug variant. `/dev/ttyS0`, not `/dev/console`, so that job control works.
const DEBUG_UNIT: &str = "\
[Unit]
Description=Root shell on the console (debug variant)
[Service]
Type=idle
ExecStart=-/bin/sh -i
Environment=TERM=linux HOME=/root PS1=debug#\\x20
WorkingDirectory=/
StandardInput=tty-force
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
Restart=always
KillMode=process
IgnoreSIGPIPE=no
SendSIGHUP=yes
";

/// Starts the system. When that fails it says why and powers off: there is no shell, and a machine that cannot
/// prove its root must not linger half-alive. The fleet replaces it.
pub fn run() -> ! {
    let Err(error) = start();
    say(&format!("CANNOT START: {error}"));
    sleep(LAST_WORDS);
    let _ = reboot(RebootCommand::PowerOff);
    // Only when powering off is refused: the end of init is a kernel panic, and `panic=` reboots.
    std::process::exit(1)
}

fn start() -> Result<Infallible> {
    mounts::kernel()?;
    let cmdline = Cmdline::read()?;
    modules::load()?;
    let (data, hash) = partitions(cmdline.short())?;
    let layers =
        verity::open(&data, &hash, cmdline.blocks, &cmdline.roothash, &cmdline.salt, &cmdline.layers)?;
    let layers: Vec<PathBuf> = layers.iter().map(verity::Device::path).collect();
    mounts::root(&layers)?;
    mounts::writable()?;
    if cmdline.debug {
        debug_shell()?;
    }
    say(&format!("image {} opened, {} layers", cmdline.short(), layers.len()));
    mounts::switch()?;
    Err(Command::new("/sbin/init").exec()).doing("starting /sbin/init")
}

/// Waits for the root and hash partitions and returns their device numbers.
fn partitions(short: &str) -> Result<(String, String)> {
    let names = [format!("rekiln-root-{short}"), format!("rekiln-hash-{short}")];
    let start = Instant::now();
    loop {
        let found = named()?;
        if let (Some(data), Some(hash)) = (found.get(&names[0]), found.get(&names[1])) {
            return Ok((data.clone(), hash.clone()));
        }
        if start.elapsed() > DISK {
            let [data, hash] = names;
            let seen: Vec<_> = found.into_keys().collect();
            return Err(format!(
                "no disk with partitions {data} and {hash} appeared within {} s; seen: {seen:?}",
                DISK.as_secs()
            ));
        }
        sleep(LOOK);
    }
}

/// Returns the device number of each partition by its GPT name.
fn named() -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/sys/class/block").doing("listing block devices")? {
        let entry = entry.doing("listing block devices")?;
        // A device may vanish between the listing and the look; then it is not the one.
        let Ok(text) = fs::read_to_string(entry.path().join("uevent")) else { continue };
        let value = |key| text.lines().find_map(|line: &str| line.strip_prefix(key));
        if let (Some(name), Some(major), Some(minor)) = (value("PARTNAME="), value("MAJOR="), value("MINOR="))
        {
            found.insert(name.to_owned(), format!("{major}:{minor}"));
        }
    }
    Ok(found)
}

/// Leaves a unit for systemd in /run; it moves into the new root with it.
fn debug_shell() -> Result<()> {
    let dir = "/run/systemd/system";
    let wants = format!("{dir}/multi-user.target.wants");
    fs::create_dir_all(&wants).doing("writing the debug shell")?;
    fs::write(format!("{dir}/rekiln-debug.service"), DEBUG_UNIT).doing("writing the debug shell")?;
    std::os::unix::fs::symlink("../rekiln-debug.service", format!("{wants}/rekiln-debug.service"))
        .doing("writing the debug shell")
}
