//! How a machine with a vendor's disk runs.

use std::fs::File;
use std::path::Path;

use crate::error::{Doing as _, Result};
use crate::inspect::disk::Disk;
use crate::scratch::Scratch;
use crate::store::Store;
use crate::vm::accel::{Accelerator, probe};

/// The most bytes that are read of a kernel: several times what any distribution's has.
const KERNEL_MAX: u64 = 128 << 20;

/// Finds the accelerator for a machine that boots this disk, by a kernel that is read off it, and says why in a sentence
/// without a full stop. Not being able to tell is a reason to do without KVM, and none to fail.
///
/// # Errors
/// As [`probe`].
pub fn of_disk(store: &Store, disk: &Path) -> Result<(Accelerator, String)> {
    if let Err(error) = File::options().read(true).write(true).open("/dev/kvm") {
        return Ok((Accelerator::Tcg, format!("/dev/kvm does not open: {error}")));
    }
    let kernel = match kernel(disk) {
        Ok(Some(kernel)) => kernel,
        Ok(None) => {
            return Ok((Accelerator::Tcg, "the disk has no /boot/vmlinuz-* to try under KVM".to_owned()));
        }
        Err(error) => {
            return Ok((Accelerator::Tcg, format!("no kernel can be read off the disk: {}", error.chain())));
        }
    };
    let scratch = Scratch::new(store, "kernel")?;
    let path = scratch.dir().join("vmlinuz");
    std::fs::write(&path, kernel).doing(|| "writing down the vendor's kernel")?;
    let probed = probe(store, &path)?;
    Ok((probed.accelerator, probed.why))
}

/// Reads a kernel off a vendor's disk. Which of several is started does not matter: they all come from one vendor.
fn kernel(disk: &Path) -> Result<Option<Vec<u8>>> {
    let Disk::Foreign(disk) = Disk::open(disk)? else { return Ok(None) };
    let tree = disk.contents()?.tree;
    let names = tree.names("/boot");
    let Some(name) = names.iter().filter(|name| name.starts_with("vmlinuz-")).max() else { return Ok(None) };
    tree.read(&format!("/boot/{name}"), KERNEL_MAX)
}
