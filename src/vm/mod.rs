//! Virtual machines on this computer: starting, finding again, ending, looking at.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::catalog::Firmware;
use crate::error::{Doing as _, Result};

pub mod accel;
#[cfg(feature = "ssh")]
pub mod builder;
pub mod document;
pub mod extras;
pub mod guest;
pub mod http;
pub mod machine;
pub mod ports;
pub mod report;
pub mod verdict;

pub use extras::Extras;

/// What a machine is started from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Directory of this machine: `console.log`, `agent.log`, `qemu.pid`, `qemu.log` are in it.
    pub dir: PathBuf,
    /// The sealed disk; opened read-only and shared.
    pub disk: PathBuf,
    /// How it boots.
    pub boot: Boot,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Virtual processors.
    pub cpus: u32,
    /// Host ports on 127.0.0.1 and the guest TCP ports behind them.
    pub forwards: Vec<Forward>,
    /// The instance's name; reaches the guest as the SMBIOS serial number.
    pub name: String,
    /// What it has besides.
    #[serde(default, skip_serializing_if = "Extras::is_empty")]
    pub extras: Extras,
}

/// How a machine boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Boot {
    /// The image's own kernel, initrd and sealed command line are handed over directly; disk on virtio.
    /// All three lie in the image's directory in the store, as `kernel`, `initrd` and `cmdline`.
    Direct {
        /// Path of the kernel.
        kernel: PathBuf,
        /// Path of the initrd.
        initrd: PathBuf,
        /// The sealed command line, word for word.
        cmdline: String,
    },
    /// OVMF starts the UKI; disk on `NVMe`, as on EC2.
    Uefi,
    /// The disk's own boot loader starts its own kernel; disk on virtio. What the machine writes goes to a temporary file
    /// of QEMU's, which nobody else can open.
    Firmware(Firmware),
}

impl Boot {
    /// Returns a direct boot of the image in `dir`, an image's directory in the store.
    ///
    /// # Errors
    /// The image's command line cannot be read.
    pub fn direct(dir: &Path) -> Result<Self> {
        let cmdline = dir.join("cmdline");
        let cmdline = std::fs::read_to_string(&cmdline).doing(|| format!("reading {}", cmdline.display()))?;
        Ok(Self::Direct {
            kernel: dir.join("kernel"),
            initrd: dir.join("initrd"),
            cmdline: cmdline.trim_end().to_owned(),
        })
    }
}

/// One forwarded port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// TCP port on 127.0.0.1.
    pub host: u16,
    /// TCP port in the guest.
    pub guest: u16,
}

/// What the agent in the guest last said, one JSON object a line on the second serial port (`agent.log`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `rekiln.image` from the sealed command line.
    pub image: String,
    /// `rekiln.roothash` from the sealed command line.
    pub root_hash: String,
    /// Whether the system reached its default target.
    pub ready: bool,
    /// Seconds since the kernel started.
    pub uptime_s: f64,
    /// Failed units.
    pub failed_units: Vec<String>,
    /// TCP and UDP sockets that listen on other than loopback addresses, such as `80/tcp`.
    pub listening: Vec<String>,
    /// Why the instance counts as touched (an interactive session was seen); null when it does not.
    pub touched: Option<String>,
}
