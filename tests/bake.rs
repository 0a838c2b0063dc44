//! Real bakes of this repository's images by the real program: what they promise, read back with other tools.
//!
//! They need root, the tools that `rekiln doctor` names, and, the first time, a mirror.

mod bytes;
mod closed;
mod collected;
mod content;
mod ground;
mod guest;
mod identity;
mod interrupted;
mod machines;
mod read_back;
mod running;

#[cfg_attr(
    not(feature = "ssh"),
    expect(unused_imports, reason = "images that are derived use all of it")
)]
pub use ground::{Line, Site, baked, ground, names, scratch, succeeded, turn};
#[cfg(feature = "ssh")]
pub use interrupted::{assert_none, family, scratch_has};
#[cfg(feature = "ssh")]
pub use running::Running;
