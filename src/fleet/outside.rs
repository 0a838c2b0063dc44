//! Do: the one way in which gates, hooks, notifications and playbooks reach something outside: a program, or an URL.
//!
//! Both have a limit and leave nothing behind. An URL may be a secret (a webhook's is), so errors have it only as
//! [`Url`] shows it, and it is in no list of processes.

pub mod filling;
mod program;
mod request;
#[cfg(test)]
pub(crate) mod server;
mod url;

pub use filling::Filling;
pub use program::run;
pub use request::{Answer, ask, request};
pub use url::{Url, without_secrets};

/// The most that an answer may have, in bytes: numbers, one a line, or a Prometheus answer with thousands of series.
const LARGEST: usize = 1 << 20;
