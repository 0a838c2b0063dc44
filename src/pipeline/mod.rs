//! What a commit sets off: short compositions of locks, bakes, publications and rolls.

pub mod change;
pub mod comment;
pub mod revision;
