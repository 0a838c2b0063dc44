//! A bake that ends before its time: killed, interrupted, without room. Nothing of it stays, and the next works.

mod end;
mod room;
mod traces;

pub use end::scratch_has;
pub use traces::{assert_none, family};
