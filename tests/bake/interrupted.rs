//! A bake that ends before its time: killed, interrupted, without room. Nothing of it stays, and the next works.

mod end;
mod room;
mod traces;
