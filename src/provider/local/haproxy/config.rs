//! Decide: what HAProxy is told at its start.

use std::net::SocketAddr;
use std::path::Path;

use super::super::record::{InstanceRecord, Phase};
use crate::error::{Error, Result};
use crate::fleet::{Fleet, Protocol};

/// The section whose checks are those of `[health]`: of what rekiln believes. Clients come to it too, or readers where
/// only one member takes writes.
pub(super) const FLEET: &str = "fleet";
/// The section whose checks find the one member that takes writes.
pub(super) const LEADER: &str = "leader";
/// All sections that there may be. What is taken away is taken from writers first.
pub(super) const SECTIONS: [&str; 2] = [LEADER, FLEET];

/// Divides what people wrote from the servers known at the start.
const MARK: &str = "  # servers at the start";

/// What a line with a server begins with.
const SERVER: &str = "  server ";

/// Settings of HTTP: a client may be slow, and so may an emulated guest while its neighbours boot. Only requests without
/// effects are tried again, and each time elsewhere.
const HTTP: &str = "  timeout client 60s
  timeout server 60s
  timeout http-keep-alive 10s
";
/// The same of connections: a pool's may rest for long, and an hour is what databases' drivers are used to; the kernel asks
/// whether the other end still lives.
const TCP: &str = "  timeout client 1h
  timeout server 1h
  option clitcpka
  option srvtcpka
";
/// What is done with a request that a server did not take.
const HTTP_AGAIN: &str = "  retry-on all-retryable-errors
  acl safe method GET HEAD
  http-request disable-l7-retry unless safe
  http-reuse safe
";

/// Returns the sections for `fleet`.
pub(super) fn sections(fleet: &Fleet) -> &'static [&'static str] {
    if leader(fleet).is_some() { &SECTIONS } else { &SECTIONS[1..] }
}

fn leader(fleet: &Fleet) -> Option<&str> {
    fleet.local.as_ref()?.leader.as_deref()
}

/// Returns the configuration without servers; they follow the [`MARK`] of each section.
pub(super) fn text(fleet: &Fleet, socket: &Path) -> Result<String> {
    let local = fleet.local()?;
    let path = plain("health.http.path", &fleet.health()?.path)?;
    let (mode, rests, again) = match local.protocol {
        Protocol::Http => ("http", HTTP, HTTP_AGAIN),
        Protocol::Tcp => ("tcp", TCP, ""),
    };
    let socket = socket.display();
    // Timeouts: a server on this host takes a connection at once or not at all (QEMU takes it for its guest);
    // an emulated guest may be slow while its neighbours boot, so that a check has time.
    let mut text = format!(
        "# Written by rekiln; changes are lost.
global
  stats socket {socket} mode 600 level admin
  hard-stop-after 60s
defaults
  mode {mode}
  timeout connect 2s
{rests}  timeout check 5s
"
    );
    let Some(leader) = leader(fleet) else {
        text += &section(FLEET, Some(local.listen), path, again);
        return Ok(text);
    };
    let leader = plain("local.leader", leader)?;
    text += &section(LEADER, Some(local.listen), leader, again);
    text += &section(FLEET, local.replicas, path, again);
    Ok(text)
}

fn section(name: &str, listen: Option<SocketAddr>, path: &str, again: &str) -> String {
    // Without an address nobody comes to it, and its checks are made all the same.
    let head = listen
        .map_or_else(|| format!("backend {name}\n"), |listen| format!("listen {name}\n  bind {listen}\n"));
    format!(
        "{head}  balance roundrobin
  option httpchk
  http-check send meth GET uri {path} ver HTTP/1.1 hdr Host rekiln hdr Connection close
  option redispatch 1
  retries 3
{again}{MARK}
"
    )
}

fn plain<'t>(key: &str, path: &'t str) -> Result<&'t str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~?=&%+,:@".contains(c);
    if path.starts_with('/') && path.chars().all(plain) {
        return Ok(path);
    }
    Err(Error::invalid(format!("`{key}` is no plain path: `{path}`"))
        .hint("it begins with `/` and has no spaces or quotes"))
}

/// Returns what people wrote of a configuration that was started.
pub(super) fn written(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with(SERVER)).collect()
}

/// Puts those that served into each section: they are there from the first moment, and the rest is added once it runs.
pub(super) fn at_start(text: &str, fleet: &Fleet, records: &[InstanceRecord]) -> String {
    let mut started = String::new();
    for (mark, section) in text.split_inclusive(&format!("{MARK}\n")).zip(sections(fleet)) {
        started += mark;
        for record in records.iter().filter(|record| record.phase == Phase::Serving) {
            started.extend([SERVER, &server(section, fleet, record), "\n"]);
        }
    }
    started
}

/// Returns one server of a section.
///
/// `inter 500ms fall 2`: a dead server is noticed within a second, and one lost answer is none. Who leads is asked only each
/// second, as that may cost the member a query; one good answer is enough there, as a member that does not lead never gives
/// one, and when it leads no more, what is connected to it is cut: it would read what is old, and never write again.
pub(super) fn server(section: &str, fleet: &Fleet, record: &InstanceRecord) -> String {
    let InstanceRecord { id, port, health_port, .. } = record;
    let checks = if section == LEADER {
        "inter 1s rise 1 fall 2 on-marked-down shutdown-sessions".to_owned()
    } else {
        format!("inter 500ms rise {} fall 2", fleet.health.consecutive.max(1))
    };
    format!("{id} 127.0.0.1:{port} check port {health_port} {checks}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(local: &str) -> Fleet {
        let text = format!(
            "image = 'db'\nsize = 3\n[local]\nlisten = '127.0.0.1:5432'\nport = 5432\n{local}\n\
             [health]\nhttp = {{ port = 8008, path = '/health' }}\n"
        );
        toml::from_str(&text).expect("a fleet")
    }

    #[test]
    fn clients_come_to_the_section_that_is_theirs() {
        let lines = |local: &str| {
            let text = text(&fleet(local), Path::new("/run/s")).expect("text");
            let wanted = |line: &&str| {
                ["listen", "backend", "  bind", "  mode", "  http-check"]
                    .iter()
                    .any(|word| line.starts_with(word))
            };
            text.lines().filter(wanted).map(|line| line.trim().to_owned()).collect::<Vec<_>>()
        };
        let check = |path: &str| {
            format!("http-check send meth GET uri {path} ver HTTP/1.1 hdr Host rekiln hdr Connection close")
        };
        let bind = |port: u16| format!("bind 127.0.0.1:{port}");
        assert_eq!(lines(""), ["mode http", "listen fleet", &bind(5432), &check("/health")]);
        assert_eq!(
            lines("protocol = 'tcp'\nleader = '/primary'"),
            [
                "mode tcp",
                "listen leader",
                &bind(5432),
                &check("/primary"),
                "backend fleet",
                &check("/health")
            ]
        );
        assert_eq!(
            lines("protocol = 'tcp'\nleader = '/primary'\nreplicas = '127.0.0.1:5001'")[4..],
            ["listen fleet", &bind(5001), &check("/health")]
        );
        assert!(text(&fleet("leader = '/a b'"), Path::new("/run/s")).is_err());
    }
}
