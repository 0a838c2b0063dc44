//! Backups of what stateful fleets hold: taken of a replica, kept in parts in an object store, and proved by a restore into a
//! fresh machine that answers a query. Only a proved one counts.
//!
//! `memory` decides: what the journal says, which member to copy from, what to keep, what is too old, which answer is good.
//! `take`, `parts`, `serve`, `prove` and `run` do.
//!
//! # How it can fail
//!
//! * *Killed*: what runs for it (`pg_basebackup`, the machine) is ended by the kernel with it, the machine's directory is
//!   scratch space. A backup that was begun is in the journal before its first part is written; the next run, and `rekiln
//!   reap`, remove parts that belong to none that is whole.
//! * *Two at a time*: the journal is the lock. Who loses it stops before the next act.
//! * *The store loses or changes a byte*: the fresh machine compares the digest of all of it, and `pg_verifybackup` each file
//!   with the manifest that the server wrote.

pub mod event;
pub mod memory;
pub mod parts;
pub mod prove;
pub mod run;
pub mod serve;
pub mod take;

pub use event::{BackupId, Event, Journal, Proof, Taken};
pub use memory::{Backup, Backups, State};
pub use parts::Place;
