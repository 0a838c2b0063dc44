//! Images that are derived from a vendor's disk in real machines, which QEMU translates where there is no KVM.
//!
//! They need root, the tools that `rekiln doctor` names, an SSH client, what tests/derive/vendor.py needs, and an archive.

mod dnf;
mod failing;
mod ground;
mod interrupted;
mod quick;
mod search;
mod whole;

pub use ground::scratch;
pub use quick::disk as quick_disk;
pub use search::found;
