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

pub use ground::{Line, Site, baked, ground, names, scratch, succeeded, turn};
pub use interrupted::{assert_none, family, scratch_has};
pub use running::Running;
