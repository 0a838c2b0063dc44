//! The machine on which an image is derived, besides what SSH reaches of it: whether it runs, what its console says, and
//! that its disk is at rest.

use std::time::Duration;

use crate::error::Result;
use crate::vm::builder::Builder as Vm;

/// How a machine puts its disk to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It switches itself off.
    Off,
    /// It stays on with all file systems read-only, since switched off it would be gone; and switches itself off after so long.
    ReadOnly(Duration),
}

/// A machine of this computer or of a cloud. It ends with its value, or is found by the next run.
pub trait Machine: Send {
    /// Refuses to go on when the machine has ended.
    ///
    /// # Errors
    /// It has, and its last words.
    fn must_run(&mut self) -> Result<()>;

    /// Says whether it may restart itself from now on. Otherwise that may be its end.
    fn may_restart(&mut self, _may: bool) {}

    /// Returns everything that its console said, as far as that is known here.
    fn console(&mut self) -> String;

    /// Returns the end of its console.
    fn last_words(&mut self) -> String;

    /// Says how it is to put its disk to rest after the last step.
    fn rest(&self) -> Rest {
        Rest::Off
    }

    /// Has it keep its disk when it switches itself off: until now, that ended it for good. One that stays on has nothing to
    /// be told.
    ///
    /// # Errors
    /// It cannot be told.
    fn keep_disk(&mut self) -> Result<()>;

    /// Waits until its disk is at rest. One that stays on says so on its console, by a line that begins with `done`.
    ///
    /// # Errors
    /// It does not within `patience`, it fails, and we were interrupted.
    fn wait_at_rest(&mut self, patience: Duration, done: &str) -> Result<()>;

    /// Returns everything that its console said, now that its disk is at rest. A cloud shows that late: it waits a while for a line
    /// that begins with one of `last`.
    fn final_words(&mut self, last: &[&str]) -> String;
}

impl Machine for Vm {
    fn must_run(&mut self) -> Result<()> {
        Self::must_run(self)
    }

    fn may_restart(&mut self, may: bool) {
        Self::may_restart(self, may);
    }

    fn console(&mut self) -> String {
        Self::console(self)
    }

    fn last_words(&mut self) -> String {
        Self::last_words(self)
    }

    /// Its disk is a file, which stays anyway.
    fn keep_disk(&mut self) -> Result<()> {
        Ok(())
    }

    fn wait_at_rest(&mut self, patience: Duration, _done: &str) -> Result<()> {
        self.wait_off(patience)
    }

    fn final_words(&mut self, _last: &[&str]) -> String {
        Self::console(self)
    }
}
