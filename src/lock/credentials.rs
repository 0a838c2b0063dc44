//! Logins for private mirrors: those that the host's apt uses.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::download::Transfer;
use crate::error::{Doing as _, Result};

/// Where apt keeps logins: a file and a directory of files.
const AUTH: (&str, &str) = ("/etc/apt/auth.conf", "/etc/apt/auth.conf.d");

/// One login of apt's `auth.conf`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Login {
    /// `[scheme://]host[:port][/path]`.
    machine: String,
    user: String,
    password: String,
}

/// Writes the logins that `transfers` need to a file that only this user can read, in the form that curl
/// reads; `None` when there are none.
///
/// # Errors
/// Whatever writing the file returns.
pub fn netrc_file(scratch: &Path, transfers: &[Transfer]) -> Result<Option<PathBuf>> {
    let text =
        netrc(&host_auth(), &transfers.iter().map(|transfer| transfer.url.as_str()).collect::<Vec<_>>());
    if text.is_empty() {
        return Ok(None);
    }
    let path = scratch.join("netrc");
    let what = || format!("writing {}", path.display());
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).doing(what)?;
    file.write_all(text.as_bytes()).doing(what)?;
    Ok(Some(path))
}

/// Reads the host's logins; a file that this user may not read has none for them, as for apt.
fn host_auth() -> String {
    let parts = fs::read_dir(AUTH.1).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = parts.filter(|path| path.extension().is_some_and(|end| end == "conf")).collect();
    files.sort();
    files.insert(0, AUTH.0.into());
    files
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .fold(String::new(), |all, text| all + &text + "\n")
}

/// Chooses the logins that match one of `urls` and writes them by host.
fn netrc(auth: &str, urls: &[&str]) -> String {
    logins(auth)
        .iter()
        .filter(|login| urls.iter().any(|url| matches(&login.machine, url)))
        .filter_map(|login| {
            let place = login.machine.split_once("://").map_or(login.machine.as_str(), |(_, place)| place);
            let host = place.split(['/', ':']).next()?;
            Some(format!("machine {host} login {} password {}\n", login.user, login.password))
        })
        .collect()
}

/// Tells whether a login is for a URL. Without a scheme it is for https only, as for apt: a password does not
/// go over a plain connection unless that is asked for.
fn matches(machine: &str, url: &str) -> bool {
    let machine = if machine.contains("://") { machine.to_owned() } else { format!("https://{machine}") };
    url.strip_prefix(&machine).is_some_and(|rest| machine.ends_with('/') || rest.starts_with(['/', ':']))
}

fn logins(auth: &str) -> Vec<Login> {
    // Only at the start of a line: a password may have this character.
    let lines = auth.lines().filter(|line| !line.trim_start().starts_with('#'));
    let words: Vec<_> = lines.flat_map(str::split_whitespace).collect();
    let mut all: Vec<Login> = Vec::new();
    for pair in words.chunks(2) {
        let [key, value] = pair else { break };
        if *key == "machine" {
            all.push(Login { machine: (*value).to_owned(), ..Login::default() });
        } else if let Some(login) = all.last_mut() {
            match *key {
                "login" => (*value).clone_into(&mut login.user),
                "password" => (*value).clone_into(&mut login.password),
                _ => {}
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_go_where_apt_would_send_them() {
        let auth = "# why\nmachine m.example/debian login me password secret\n\
machine http://plain.example:8080\nlogin you\npassword op#en\n";
        let mine = "machine m.example login me password secret\n";
        let table: &[(&str, &str)] = &[
            ("https://m.example/debian/pool/a.deb", mine),
            ("http://m.example/debian/pool/a.deb", ""),
            ("https://m.example/debian-security/pool/a.deb", ""),
            ("https://m.example.evil/debian/pool/a.deb", ""),
            ("http://plain.example:8080/a.deb", "machine plain.example login you password op#en\n"),
            ("https://plain.example:8080/a.deb", ""),
        ];
        for (url, expected) in table {
            assert_eq!(netrc(auth, &[url]), *expected, "{url}");
        }
    }
}
