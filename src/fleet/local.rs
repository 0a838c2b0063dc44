//! How the machines of a fleet run on this computer, and how clients reach them.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shard::NOWHERE;

/// Virtual machines on this computer behind HAProxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Local {
    /// Memory of each machine, such as `256M`.
    #[serde(default = "default_memory")]
    pub memory: String,
    /// Virtual processors of each machine.
    #[serde(default = "default_cpus")]
    pub cpus: u32,
    /// Address on which HAProxy listens; left out where each shard has its own.
    #[serde(default = "nowhere", skip_serializing_if = "is_nowhere")]
    pub listen: SocketAddr,
    /// TCP port in the guest that gets the requests.
    pub port: u16,
    /// Names of zones that the machines are spread over: one computer has none in truth, and rehearses them.
    #[serde(default)]
    pub zones: Vec<String>,
    /// What clients speak at `listen`.
    #[serde(default, skip_serializing_if = "Protocol::is_http")]
    pub protocol: Protocol,
    /// The path that only the member which takes writes answers with 200, asked at the port of `[health]`, such as
    /// `/primary`; `listen` then leads to that member alone. Left out, all members are alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Beside `leader`: a second address on which HAProxy listens and leads to all members that are healthy, for reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<SocketAddr>,
    /// Whether the machines have a second card, in a network of this fleet alone. Each is then told at its launch who it is,
    /// who else is there, and the fleet's secret.
    #[serde(default, skip_serializing_if = "is_not")]
    pub network: bool,
    /// Size of a disk of its own for each machine, such as `1G`: blank at its launch, and gone with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Further TCP ports in the guest that programs on this computer reach, each at a free port of 127.0.0.1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forward: Vec<u16>,
}

/// What clients speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Requests, each of which may go to another machine.
    #[default]
    Http,
    /// Connections, each of which stays with one machine until either end closes it.
    Tcp,
}

impl Protocol {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    fn is_http(&self) -> bool {
        *self == Self::Http
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_not(flag: &bool) -> bool {
    !*flag
}

const fn nowhere() -> SocketAddr {
    NOWHERE
}

fn is_nowhere(listen: &SocketAddr) -> bool {
    *listen == NOWHERE
}

fn default_memory() -> String {
    "256M".to_owned()
}

const fn default_cpus() -> u32 {
    1
}
