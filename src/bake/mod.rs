//! From a lock to a sealed disk.

pub mod accelerator;
pub mod arrange;
pub mod builder;
pub mod deb;
#[cfg(feature = "ssh")]
pub mod derive;
pub mod disk;
pub mod files;
pub mod identity;
pub mod image;
pub mod initrd;
pub mod layers;
pub mod layout;
pub mod owners;
pub mod packages;
pub mod policy;
pub mod relocate;
pub mod sandbox;
pub mod seal;
pub mod shell;
pub mod trial;
pub mod trim;
pub mod uki;
