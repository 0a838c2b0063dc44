//! What is mounted, and with which options.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_move, unmount};

use crate::{Doing as _, Result};

/// Where the new root is put together.
pub const ROOT: &str = "/root";

/// File systems of the kernel and of memory: source, target, options, data. The sizes are shares of the
/// machine's memory: systemd's own defaults, except /tmp, which gets a quarter so that it cannot starve /var.
const KERNEL: &[(&str, &str, MountFlags, &str)] = &[
    ("proc", "/proc", STRICT, ""),
    ("sysfs", "/sys", STRICT, ""),
    ("devtmpfs", "/dev", DEVICES, "mode=0755,size=4m"),
    ("tmpfs", "/run", STRICT, "mode=0755,size=20%"),
];

/// Nothing in it is a program, a device or setuid.
const STRICT: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
/// Devices are its purpose.
const DEVICES: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC);

/// Mounts what every later step needs.
pub fn kernel() -> Result<()> {
    for (kind, target, flags, data) in KERNEL {
        attach(kind, Path::new(target), kind, *flags, data)?;
    }
    attach("tmpfs", Path::new("/dev/shm"), "tmpfs", STRICT, "mode=1777,size=25%")
}

fn attach(source: &str, target: &Path, kind: &str, flags: MountFlags, data: &str) -> Result<()> {
    let doing = format!("mounting {kind} on {}", target.display());
    // On a read-only tree the directory is part of the image; then this does nothing.
    if !target.is_dir() {
        fs::create_dir_all(target).doing(&doing)?;
    }
    let data = CString::new(data).doing(&doing)?;
    mount(source, target, kind, flags, data.as_c_str()).doing(&doing)
}

/// Mounts the layers and stacks them as the new root, read-only.
pub fn root(devices: &[PathBuf]) -> Result<()> {
    let flags = MountFlags::RDONLY | MountFlags::NODEV;
    let mut layers = Vec::new();
    for (index, device) in devices.iter().enumerate() {
        let target = PathBuf::from(format!("/layers/{index}"));
        // A single layer is the root; overlayfs wants at least two.
        let target = if devices.len() == 1 { PathBuf::from(ROOT) } else { target };
        attach(&device.to_string_lossy(), &target, "erofs", flags, "")?;
        layers.push(target);
    }
    if layers.len() > 1 {
        // Overlayfs wants the topmost layer first.
        let lower: Vec<_> = layers.iter().rev().map(|path| path.to_string_lossy()).collect();
        attach("rekiln", Path::new(ROOT), "overlay", flags, &format!("lowerdir={}", lower.join(":")))?;
        layers.iter().try_for_each(|layer| forget(layer))?;
    }
    Ok(())
}

/// Mounts what may be written: a fresh /var above the image's, and an empty /tmp. Both are gone at power-off.
pub fn writable() -> Result<()> {
    let upper = Path::new("/upper");
    attach("tmpfs", upper, "tmpfs", STRICT, "mode=0755,size=50%")?;
    for dir in ["/upper/data", "/upper/work"] {
        fs::create_dir(dir).doing("making /var writable")?;
    }
    let var = Path::new(ROOT).join("var");
    let data = format!("lowerdir={},upperdir=/upper/data,workdir=/upper/work", var.display());
    attach("var", &var, "overlay", STRICT, &data)?;
    forget(upper)?;
    attach("tmpfs", &Path::new(ROOT).join("tmp"), "tmpfs", STRICT, "mode=1777,size=25%")
}

/// Takes a mount out of the name space; what is stacked on it keeps it alive.
fn forget(target: &Path) -> Result<()> {
    unmount(target, UnmountFlags::DETACH).doing(&format!("detaching {}", target.display()))
}

/// Makes the new root the root and stands in it.
pub fn switch() -> Result<()> {
    for dir in ["dev", "proc", "run", "sys"] {
        let target = Path::new(ROOT).join(dir);
        mount_move(&*format!("/{dir}"), &target).doing(&format!("moving /{dir}"))?;
    }
    // The initrd's files lie in memory; nothing can reach them after this, so they would only take room.
    let _ = fs::remove_dir_all("/modules");
    let _ = fs::remove_file("/init");
    std::env::set_current_dir(ROOT).doing("entering the new root")?;
    mount_move(".", "/").doing("moving the new root")?;
    rustix::process::chroot(".").doing("changing the root")?;
    std::env::set_current_dir("/").doing("entering /")
}
