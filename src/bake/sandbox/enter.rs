//! The process inside: mounts the tree, makes it the root, gives up its rights, carries out the steps.

use std::ffi::CString;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::mount::{
    MountFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_remount, unmount,
};

use super::confine::confine;
use super::{STAGE, Spec, Step};
use crate::error::{Doing as _, Error, Result};

const QUIET: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Files of /proc that reach the whole kernel and are covered. Both rekiln's and the tree's processes are root
/// there, and some of these ask for no capability.
const COVERED: [&str; 6] = ["sysrq-trigger", "kcore", "kmsg", "timer_list", "sched_debug", "latency_stats"];

/// Reads a [`Spec`] from standard input and carries it out. The process must be the first of new mount, PID and
/// network namespaces. Errors go to standard output, which the caller reads.
#[must_use]
pub fn enter() -> u8 {
    let done = serde_json::from_reader(std::io::stdin().lock())
        .doing(|| "reading what to do in the sandbox")
        .and_then(|spec: Spec| {
            if std::process::id() != 1 {
                return Err(Error::invalid("`rekiln sandbox` is started by a bake, not by hand"));
            }
            prepare(&spec)?;
            confine()?;
            spec.steps.iter().try_for_each(|step| carry_out(step, spec.epoch))
        });
    match done {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(std::io::stdout(), "{}", error.chain());
            error.exit_code()
        }
    }
}

fn prepare(spec: &Spec) -> Result<()> {
    rustix::process::umask(rustix::fs::Mode::from_bits_retain(0o022));
    rustix::system::sethostname(b"localhost").doing(|| "naming the sandbox")?;
    let root = &spec.mountpoint;
    if spec.lowers.is_empty() {
        mount_bind(&spec.upper, root).doing(|| "mounting the tree")?;
    } else {
        let data = overlay_options(spec)?;
        mount("overlay", root, "overlay", MountFlags::empty(), data.as_c_str())
            .doing(|| "stacking the tree with overlayfs")?;
    }
    for dir in ["proc", "sys", "dev", "run", "tmp"] {
        fs::create_dir_all(root.join(dir)).doing(|| format!("making /{dir} in the tree"))?;
    }
    mount_proc(root)?;
    mount_dev(root)?;
    for (dir, mode) in [("run", c"mode=0755"), ("tmp", c"mode=1777")] {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("tmpfs", root.join(dir), "tmpfs", flags, mode).doing(|| format!("mounting /{dir}"))?;
    }
    for (name, source) in &spec.stages {
        let target = root.join(STAGE.trim_start_matches('/')).join(name);
        fs::create_dir_all(&target).doing(|| format!("making {STAGE}/{name}"))?;
        mount_bind(source, &target).doing(|| format!("mounting {}", source.display()))?;
        mount_remount(&target, MountFlags::BIND | MountFlags::RDONLY | QUIET, c"")
            .doing(|| format!("protecting {}", source.display()))?;
    }
    std::env::set_current_dir(root).doing(|| "entering the tree")?;
    rustix::process::pivot_root(".", ".").doing(|| "making the tree the root")?;
    // The old root now lies on top of the new one; off with it, and the host is out of sight.
    unmount(".", UnmountFlags::DETACH).doing(|| "leaving the host's root")?;
    std::env::set_current_dir("/").doing(|| "entering the tree")
}

/// Without index, inode numbers, redirects and metadata-only copies the upper tree stands for itself.
fn overlay_options(spec: &Spec) -> Result<CString> {
    let lowers: Vec<String> = spec.lowers.iter().map(|path| path.display().to_string()).collect();
    let parts = [
        lowers.iter().map(String::as_str).collect::<Vec<_>>(),
        vec![spec.upper.to_str().unwrap_or(":"), spec.work.to_str().unwrap_or(":")],
    ];
    if parts.iter().flatten().any(|path| path.contains([':', ',', '\\'])) {
        return Err(Error::invalid(
            "overlayfs cannot use a store whose path has a colon, comma or backslash",
        )
        .hint("put the store somewhere else: --store DIR"));
    }
    let text = format!(
        "lowerdir={},upperdir={},workdir={},index=off,xino=off,redirect_dir=off,metacopy=off",
        lowers.join(":"),
        spec.upper.display(),
        spec.work.display()
    );
    CString::new(text).doing(|| "describing the stack of trees")
}

fn mount_proc(root: &Path) -> Result<()> {
    let proc = root.join("proc");
    mount("proc", &proc, "proc", QUIET, None).doing(|| "mounting /proc")?;
    for name in COVERED.map(|name| proc.join(name)).iter().filter(|path| path.exists()) {
        mount_bind("/dev/null", name).doing(|| format!("covering {}", name.display()))?;
    }
    let sys = proc.join("sys");
    mount_bind(&sys, &sys).doing(|| "protecting /proc/sys")?;
    mount_remount(&sys, MountFlags::BIND | MountFlags::RDONLY | QUIET, c"").doing(|| "protecting /proc/sys")
}

fn mount_dev(root: &Path) -> Result<()> {
    let dev = root.join("dev");
    mount("tmpfs", &dev, "tmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, c"mode=0755")
        .doing(|| "mounting /dev")?;
    for name in ["null", "zero", "full", "random", "urandom"] {
        let target = dev.join(name);
        fs::write(&target, "").doing(|| format!("making {}", target.display()))?;
        mount_bind_recursive(Path::new("/dev").join(name), &target)
            .doing(|| format!("mounting /dev/{name}"))?;
    }
    fs::create_dir(dev.join("shm")).doing(|| "making /dev/shm")?;
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        std::os::unix::fs::symlink(target, dev.join(name)).doing(|| format!("making /dev/{name}"))?;
    }
    Ok(())
}

fn carry_out(step: &Step, epoch: i64) -> Result<()> {
    match step {
        Step::Run { argv } | Step::RunDetached { argv, .. } => run(argv, epoch),
        Step::Reboot => Err(Error::invalid("nothing runs in the image's tree that could be restarted")),
        Step::Write { path, from, mode, owner } => {
            write(path, from, *mode, owner).doing(|| format!("writing {path} in the image"))
        }
        Step::Directory { path } => fs::create_dir_all(path).doing(|| format!("making {path} in the image")),
        Step::Link { path, target } => {
            remove(path)?;
            make_parent(path)?;
            std::os::unix::fs::symlink(target, path).doing(|| format!("linking {path} in the image"))
        }
        Step::Remove { path } => remove(path),
        Step::Empty { path } => match fs::read_dir(path) {
            Ok(entries) => {
                entries.filter_map(Result::ok).try_for_each(|entry| remove(&entry.path().to_string_lossy()))
            }
            Err(_) => Ok(()),
        },
        Step::Unprivilege { except } => unprivilege(except),
        Step::Normalize { path } => normalize(path).doing(|| format!("normalizing {path} in the image")),
    }
}

fn run(argv: &[String], epoch: i64) -> Result<()> {
    let (program, rest) =
        argv.split_first().ok_or_else(|| Error::failed("a step of the sandbox names no program"))?;
    let stderr = rustix::stdio::stdout().try_clone_to_owned().doing(|| "sharing the sandbox's output")?;
    let status = Command::new(program)
        .args(rest)
        .env_clear()
        .envs([
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", "/root"),
            ("LC_ALL", "C.UTF-8"),
            ("TZ", "UTC"),
            ("DEBIAN_FRONTEND", "noninteractive"),
            ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
            ("DEBCONF_NOWARNINGS", "yes"),
            ("SYSTEMD_OFFLINE", "1"),
            ("UCF_FORCE_CONFFNEW", "1"),
        ])
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        .stdin(Stdio::null())
        .stderr(stderr)
        .status()
        .doing(|| format!("starting {program} in the image's tree"))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::failed(format!(
        "{program} ended with {status} in the image's tree (its last words are above)"
    )))
}

fn make_parent(path: &str) -> Result<()> {
    match Path::new(path).parent() {
        Some(parent) => {
            fs::create_dir_all(parent).doing(|| format!("making {} in the image", parent.display()))
        }
        None => Ok(()),
    }
}

fn remove(path: &str) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.doing(|| format!("removing {path} from the image"))
}

fn write(path: &str, from: &str, mode: u32, owner: &str) -> Result<()> {
    make_parent(path)?;
    remove(path)?;
    let (uid, gid) = owner_ids(owner)?;
    let mut source = fs::File::open(from).doing(|| format!("opening {from}"))?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .doing(|| "making the file")?;
    std::io::copy(&mut source, &mut file).doing(|| "filling the file")?;
    std::os::unix::fs::fchown(&file, Some(uid), Some(gid)).doing(|| "setting its owner")?;
    // After the owner: changing it clears set-user-id bits.
    file.set_permissions(fs::Permissions::from_mode(mode)).doing(|| "setting its permissions")
}

/// Returns the numbers of `user` or `user:group` in the tree's own databases.
fn owner_ids(owner: &str) -> Result<(u32, u32)> {
    let (user, group) = owner.split_once(':').map_or((owner, None), |(user, group)| (user, Some(group)));
    // Numbers need no database: the ground has none before its first package is installed.
    if let (Ok(uid), Some(Ok(gid))) = (user.parse(), group.map(str::parse)) {
        return Ok((uid, gid));
    }
    let entry = |database: &str, name: &str| -> Result<Vec<String>> {
        let text = fs::read_to_string(database).doing(|| format!("reading {database} in the image"))?;
        text.lines()
            .map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>())
            .find(|fields| fields.first().is_some_and(|first| first == name))
            .ok_or_else(|| Error::invalid(format!("the image has no `{name}` in {database}")))
    };
    let number = |fields: &[String], at: usize| -> Result<u32> {
        let text = fields.get(at).map_or("", String::as_str);
        text.parse().doing(|| format!("reading the number of `{owner}` in the image"))
    };
    let fields = entry("/etc/passwd", user)?;
    let uid = number(&fields, 2)?;
    let gid = match group {
        None => number(&fields, 3)?,
        Some(group) => number(&entry("/etc/group", group)?, 2)?,
    };
    Ok((uid, gid))
}

/// The bits that give a program its file's owner's or group's rights.
const SET_ID: u32 = 0o6000;

fn unprivilege(except: &[String]) -> Result<()> {
    let mut todo = vec![std::path::PathBuf::from("/")];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).doing(|| format!("listing {} in the image", dir.display()))? {
            let path = entry.doing(|| format!("listing {} in the image", dir.display()))?.path();
            let found = fs::symlink_metadata(&path).doing(|| format!("looking at {}", path.display()))?;
            let mode = found.permissions().mode();
            if found.is_dir()
                && !["/proc", "/sys", "/dev", "/run", "/tmp"].iter().any(|mount| path == Path::new(mount))
            {
                todo.push(path);
            } else if found.is_file()
                && mode & SET_ID != 0
                && !except.iter().any(|kept| path == Path::new(kept))
            {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode & !SET_ID))
                    .doing(|| format!("taking the privilege of {}", path.display()))?;
            }
        }
    }
    Ok(())
}

/// Sets the third field of each line, the day of the last password change, to day 1: the tools write today's.
/// Day 0 would mean that the password must be changed at once.
fn normalize(path: &str) -> Result<()> {
    let Ok(text) = fs::read_to_string(path) else { return Ok(()) };
    let mut normal = String::with_capacity(text.len());
    for line in text.lines() {
        let mut fields: Vec<&str> = line.split(':').collect();
        if let Some(day) = fields.get_mut(2) {
            *day = "1";
        }
        normal.push_str(&fields.join(":"));
        normal.push('\n');
    }
    if normal == text {
        // Writing would copy the file up into this layer for nothing.
        return Ok(());
    }
    let mut file = fs::OpenOptions::new().write(true).truncate(true).open(path).doing(|| "opening it")?;
    file.write_all(normal.as_bytes()).doing(|| "writing it")
}
