//! Which address this computer's connections to an instance come from, for the security group that admits nobody else.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Command;

use crate::error::{Doing as _, Error, Result};
use crate::process::Run as _;
use crate::recipe::ami::AmiSource;

/// Where AWS says which address one's connections come from.
const WHO_AM_I: &str = "https://checkip.amazonaws.com";

/// Finds out which address this computer's connections to an instance come from.
///
/// # Errors
/// It cannot be found out; the hint says how the recipe says it.
pub fn own_address(source: &AmiSource, to: IpAddr) -> Result<Ipv4Addr> {
    if let Some(from) = source.from {
        return Ok(from);
    }
    let hint = "say it: `from = \"203.0.113.7\"` in [source] ami";
    if source.private {
        // Connecting sends nothing; it only chooses the way.
        let local = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
            socket.connect((to, 22))?;
            socket.local_addr()
        });
        return match local.doing(|| format!("finding the way to {to}"))?.ip() {
            IpAddr::V4(from) => Ok(from),
            IpAddr::V6(from) => Err(Error::failed(format!("the way to {to} begins at {from}")).hint(hint)),
        };
    }
    // Without proxies: SSH does not use them either.
    let said = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--ipv4",
            "--noproxy",
            "*",
            "--max-time",
            "10",
            WHO_AM_I,
        ])
        .run_text();
    let said = said.map_err(|error| error.during("asking AWS for this computer's address").hint(hint))?;
    said.trim().parse().map_err(|_| {
        Error::failed(format!("{WHO_AM_I} says {:?}, which is no address", said.trim())).hint(hint)
    })
}
