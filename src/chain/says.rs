//! What entries say, and what that adds up to.

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What the entries of one kind of journal say.
pub trait Says: Clone + Eq + std::fmt::Debug + Serialize + DeserializeOwned {
    /// What they add up to.
    type Sum: Clone + Default;

    /// Where journals of this kind lie in a store, one folder each.
    const FOLDER: &'static str;

    /// Whether who has it writes a heartbeat in files too: where nothing else tells a directory that several computers share
    /// whether that one lives.
    const BEATS: bool;

    /// What the journal `name` is about, for people: it follows "the journal of".
    fn about(name: &str) -> String;

    /// Adds the next one.
    fn add(&self, sum: &mut Self::Sum, at: Timestamp);

    /// Tells whether a second process may say it while another one has the journal: that one takes it up and goes on.
    fn is_command(&self) -> bool;

    /// Tells whether nobody has the journal after it.
    fn ends(&self) -> bool;
}
