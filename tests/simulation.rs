//! The rollout engine on simulated worlds.

pub mod harness;
