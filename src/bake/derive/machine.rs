//! The machine on which an image is derived, besides what SSH reaches of it: whether it runs, what its console says, and
//! that it has switched itself off.

use std::time::Duration;

use crate::error::Result;
use crate::vm::builder::Builder as Vm;

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

    /// Has it keep its disk when it switches itself off: until now, that ended it for good.
    ///
    /// # Errors
    /// It cannot be told.
    fn keep_disk(&mut self) -> Result<()>;

    /// Waits until it has switched itself off.
    ///
    /// # Errors
    /// It does not within `patience`, it fails, and we were interrupted.
    fn wait_off(&mut self, patience: Duration) -> Result<()>;

    /// Returns everything that its console said, now that it is off. A cloud shows that late: it waits a while for a line
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

    fn wait_off(&mut self, patience: Duration) -> Result<()> {
        Self::wait_off(self, patience)
    }

    fn final_words(&mut self, _last: &[&str]) -> String {
        Self::console(self)
    }
}
