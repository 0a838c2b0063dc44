//! The tests of the rollout engine alone, for who compiles them with optimization: the other tests would be compiled with
//! them, which takes minutes, and are not run.

#![expect(dead_code, reason = "other tests use more of the simulated worlds")]

mod exhaustive;
mod simulation;
