//! What automation runs: each one command, safe to run twice, with Git as the record of what was decided.
//!
//! The work tree is never read for it: everything is of a commit, in a checkout of its own.

pub mod apply;
pub mod change;
pub mod comment;
pub mod message;
pub mod nightly;
pub mod order;
mod settle;
pub mod tree;
pub mod vulnerability;
