//! The journal of one fleet: who rolls it, what was decided, done and seen.

use jiff::Timestamp;

use super::history::{Event, History};
use crate::chain::{self, Chain, Says};
use crate::error::Result;
use crate::objects::Objects;

pub use crate::chain::Writer;

/// A fleet's journal as this process knows it. When another roller wrote into it, this process has lost. A command of a second
/// terminal (pause, cancel …) is no rival: it is taken up.
pub type Journal = Chain<Event>;

/// One entry: `journal/<fleet>/<number>.json`.
pub type Entry = chain::Entry<Event>;

impl Says for Event {
    type Sum = History;

    const FOLDER: &'static str = "journal";

    const BEATS: bool = false;

    fn about(name: &str) -> String {
        name.to_owned()
    }

    fn add(&self, sum: &mut History, at: Timestamp) {
        sum.add(at, self);
    }

    fn is_command(&self) -> bool {
        Self::is_command(self)
    }

    fn ends(&self) -> bool {
        Self::ends(self)
    }
}

/// Returns the fleets that have a journal here, in the order of their names.
///
/// # Errors
/// They cannot be listed.
pub async fn fleets(journals: &Objects) -> Result<Vec<String>> {
    journals.under(Event::FOLDER).folders().await
}
