//! Loads the initrd's kernel modules.

use std::fs::{self, File};
use std::path::Path;

use rustix::io::Errno;
use rustix::system::finit_module;

use crate::{Doing as _, Result, say};

/// Where the initrd has its modules; `order` in it lists them, dependencies first, one file name a line.
const DIR: &str = "/modules";

/// Loads every module of the list.
///
/// A module whose hardware is absent may refuse to load (an ENA driver in QEMU, a virtio one on EC2), so a
/// refusal is said and passed over; what is really needed is missed by the step that needs it, with a clearer
/// message than a driver could give.
pub fn load() -> Result<()> {
    let dir = Path::new(DIR);
    let order = fs::read_to_string(dir.join("order")).doing("reading the list of modules")?;
    for name in order.lines().filter(|name| !name.is_empty()) {
        let file = File::open(dir.join(name)).doing(&format!("opening module {name}"))?;
        match finit_module(&file, c"", 0) {
            Ok(()) | Err(Errno::EXIST | Errno::NODEV) => {}
            Err(error) => say(&format!("module {name} is not loaded: {error}")),
        }
    }
    Ok(())
}
