//! One look at the running system, and how it is written down.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

/// What the agent says; read by `vm::Report` on the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    pub ready: bool,
    pub failed_units: Vec<String>,
    pub listening: BTreeSet<String>,
    pub touched: Option<String>,
}

impl Report {
    /// Writes one JSON object without a line end. By hand: a serializer would be the largest part of the program.
    pub fn json(&self, image: &str, root_hash: &str, uptime_s: f64) -> String {
        let mut text = String::new();
        let list = |items: &mut dyn Iterator<Item = &String>| {
            let items: Vec<_> = items.map(|item| quoted(item)).collect();
            format!("[{}]", items.join(","))
        };
        let _ = write!(
            text,
            "{{\"image\":{},\"root_hash\":{},\"ready\":{},\"uptime_s\":{uptime_s:.2},\"failed_units\":{},\"listening\":{},\"touched\":{}}}",
            quoted(image),
            quoted(root_hash),
            self.ready,
            list(&mut self.failed_units.iter()),
            list(&mut self.listening.iter()),
            self.touched.as_deref().map_or_else(|| "null".to_owned(), quoted),
        );
        text
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Returns seconds since the kernel started.
pub fn uptime() -> f64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

/// Tells whether the default target is reached. A `systemctl` that fails means that it is not.
pub fn is_ready() -> bool {
    let output = Command::new("/usr/bin/systemctl").args(["is-active", "default.target"]).output();
    output.is_ok_and(|output| output.status.success())
}

/// Returns the failed units, or says that they could not be asked for, which counts as a failure too.
pub fn failed_units() -> Vec<String> {
    let args = ["list-units", "--state=failed", "--plain", "--no-legend", "--no-pager"];
    match Command::new("/usr/bin/systemctl").args(args).output() {
        Ok(output) if output.status.success() => failed_in(&String::from_utf8_lossy(&output.stdout)),
        _ => vec!["(systemd does not answer)".to_owned()],
    }
}

fn failed_in(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Returns sockets that answer to the outside, such as `80/tcp`.
pub fn listening() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (table, protocol, state) in [
        ("tcp", "tcp", "0A"), // TCP_LISTEN
        ("tcp6", "tcp", "0A"),
        ("udp", "udp", "07"), // unconnected: takes datagrams from anyone
        ("udp6", "udp", "07"),
    ] {
        // Without IPv6 the two tables are not there.
        let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        found.extend(listening_in(&text, state).map(|port| format!("{port}/{protocol}")));
    }
    found
}

fn listening_in<'a>(table: &'a str, state: &'a str) -> impl Iterator<Item = u16> + 'a {
    table.lines().skip(1).filter_map(move |line| {
        let mut words = line.split_whitespace().skip(1);
        let (address, port) = words.next()?.split_once(':')?;
        let _remote = words.next()?;
        let outside = words.next()? == state && !is_loopback(address);
        outside.then(|| u16::from_str_radix(port, 16).ok()).flatten()
    })
}

/// The kernel prints addresses as 32-bit words in the machine's byte order; this program runs on
/// little-endian machines only.
fn is_loopback(address: &str) -> bool {
    match address.len() {
        8 => address.ends_with("7F"),
        32 => {
            address == "00000000000000000000000001000000"
                || (address.starts_with("0000000000000000FFFF0000") && address.ends_with("7F"))
        }
        _ => false,
    }
}

/// Returns why the machine counts as touched: a process with a controlling terminal is an interactive session,
/// since no service of a sealed image has one.
pub fn touched() -> Option<String> {
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let name = entry.file_name();
        if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        // A process may end between the listing and the look.
        let Ok(stat) = fs::read(entry.path().join("stat")) else { continue };
        if let Some(why) = session_in(&String::from_utf8_lossy(&stat)) {
            return Some(why);
        }
    }
    None
}

/// Reads one `/proc/<pid>/stat`: pid, (name), state, parent, group, session, terminal, …
fn session_in(stat: &str) -> Option<String> {
    // The name may contain anything, brackets too; the last one ends it.
    let (head, rest) = stat.rsplit_once(')')?;
    let terminal = rest.split_whitespace().nth(4)?;
    let name = head.split_once('(')?.1;
    (terminal != "0").then(|| format!("process `{name}` has a terminal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_escaped() {
        let report = Report { ready: true, touched: Some("a \"b\"\n\\".into()), ..Report::default() };
        assert_eq!(
            report.json("id", "hash", 1.234),
            r#"{"image":"id","root_hash":"hash","ready":true,"uptime_s":1.23,"failed_units":[],"listening":[],"touched":"a \"b\"\u000a\\"}"#
        );
    }

    #[test]
    fn sockets_to_the_outside() {
        let table = "  sl  local_address rem_address   st\n\
             0: 00000000:0050 00000000:0000 0A 0\n\
             1: 0100007F:0019 00000000:0000 0A 0\n\
             2: 0F02000A:0050 0202000A:D431 01 0\n";
        assert_eq!(listening_in(table, "0A").collect::<Vec<_>>(), [80]);
        let table = "head\n\
             0: 00000000000000000000000000000000:01BB 0:0 0A\n\
             1: 00000000000000000000000001000000:0035 0:0 0A\n\
             2: 0000000000000000FFFF00000100007F:0036 0:0 0A\n";
        assert_eq!(listening_in(table, "0A").collect::<Vec<_>>(), [443]);
    }

    #[test]
    fn sessions() {
        assert_eq!(session_in("1 (systemd) S 0 1 1 0 -1 4194560"), None);
        assert_eq!(session_in("9 (a) b) S 1 9 9 1088 9 0").as_deref(), Some("process `a) b` has a terminal"));
    }

    #[test]
    fn failed_unit_names() {
        assert_eq!(failed_in("nginx.service loaded failed failed A web server\n\n"), ["nginx.service"]);
    }
}
