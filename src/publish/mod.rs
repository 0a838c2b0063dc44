//! From a baked image to one that a provider's instances start from: found again by its content, sent as a delta,
//! resumed after any interruption, and nothing left behind.
//!
//! [`blocks`] says what has to be sent, [`ledger`] what is made before it is made, [`plan`] decides the next step from
//! what is written down and what is seen, [`pace`] how many blocks are sent at once, [`policy`] what has to be allowed. What does it is there only with
//! the feature `aws`.

pub mod blocks;
pub mod ledger;
pub mod pace;
pub mod plan;
pub mod policy;

#[cfg(feature = "aws")]
pub mod publication;
#[cfg(feature = "aws")]
pub mod reap;
#[cfg(feature = "aws")]
pub mod run;
#[cfg(feature = "aws")]
mod upload;
#[cfg(feature = "aws")]
pub mod verify;
