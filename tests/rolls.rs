//! `rekiln roll` and its like on Auto Scaling groups, against an AWS on this machine whose groups, instances and target
//! groups behave as AWS's do and fail in every way they can: see `tests/aws/`. Whether a roll was right is judged from what
//! the endpoint wrote down, not from what rekiln says.

mod bucket;
mod chaos;
mod cluster;
mod faults;
mod holding;
mod judge;
mod kept;
mod killed;
mod many;
mod merged;
pub mod real;
mod refused;
mod rivals;
mod same;
mod shards;
mod spec;
pub mod stage;
mod watched;
pub mod watcher;
mod whole;
