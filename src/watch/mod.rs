//! `rekiln watch`: the pipeline as a service, for those who have no other automation.
//!
//! ```text
//! remote, webhooks, clock, census --> Seen
//! duties(Memory, Seen, now) --> jobs --journal--> commands of rekiln, steps of playbooks --> outcomes --journal--> Memory
//! all of it --> View --> page, metrics
//! ```
//!
//! It does nothing that a person could not do by a command: a merge is `rekiln apply`, a night `rekiln nightly`, an instance
//! that is to go `rekiln rotate`, each a process of its own, with the guarantees that it has anyway. What it decides is in a
//! journal of its own, so that another watcher of the same store takes over where it stopped.

pub mod alert;
pub mod command;
pub mod duty;
pub mod event;
pub mod hands;
pub mod memory;
pub mod metrics;
pub mod page;
pub mod rule;
pub mod schedule;
pub mod secret;
pub mod server;
pub mod service;
pub mod step;
pub mod view;
