//! The seam to what runs an instance of a local fleet: QEMU, or a stand-in where a test is about the loop.

use std::path::Path;

use crate::error::Result;
use crate::store::Store;
use crate::vm::machine::Machine;
use crate::vm::{Boot, Report, Spec, accel, report};

/// Runs machines, each known by its directory alone, so that every command finds them again.
pub trait Machines {
    /// Starts a machine that outlives this process. An error when one runs with this directory already.
    ///
    /// # Errors
    /// It did not start.
    fn start(&self, spec: &Spec) -> Result<()>;

    /// Tells whether the machine of `dir` runs.
    ///
    /// # Errors
    /// It cannot be told.
    fn alive(&self, dir: &Path) -> Result<bool>;

    /// Ends the machine of `dir` and waits until it is gone; nothing to do when none runs.
    ///
    /// # Errors
    /// It does not end.
    fn stop(&self, dir: &Path) -> Result<()>;

    /// Ends the machine of `dir` at once, as a failure does: it can finish nothing. Nothing to do when none runs.
    ///
    /// # Errors
    /// It does not end.
    fn kill(&self, dir: &Path) -> Result<()>;

    /// Returns what its agent last said.
    fn report(&self, dir: &Path) -> Option<Report> {
        report::last(dir)
    }
}

/// QEMU.
#[derive(Debug, Clone)]
pub struct Qemu {
    store: Store,
}

impl Qemu {
    /// Makes the runner for a store, which remembers the accelerator.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }
}

impl Machines for Qemu {
    fn start(&self, spec: &Spec) -> Result<()> {
        let accelerator = match &spec.boot {
            Boot::Direct { kernel, .. } => accel::probe(&self.store, kernel)?.accelerator,
            Boot::Uefi | Boot::Firmware(_) => accel::Accelerator::Tcg,
        };
        spec.start(accelerator).map(drop)
    }

    fn alive(&self, dir: &Path) -> Result<bool> {
        Ok(Machine::find(dir)?.is_some())
    }

    fn stop(&self, dir: &Path) -> Result<()> {
        Machine::find(dir)?.map_or(Ok(()), |machine| machine.stop())
    }

    fn kill(&self, dir: &Path) -> Result<()> {
        Machine::find(dir)?.map_or(Ok(()), |machine| machine.kill())
    }
}
