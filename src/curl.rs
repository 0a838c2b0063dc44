//! What every use of curl needs: values of its configuration, which is on its standard input so that no URL shows in
//! the process list, and the host's proxies.

use std::process::Command;

use crate::error::Result;
use crate::process::Run as _;

/// Quotes a value of curl's configuration. A line of it may have 100 KiB (before curl 8).
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Returns the variables that let curl use the proxies of the host's apt: the one place where a host says how it
/// reaches the world.
///
/// # Errors
/// apt's configuration cannot be read.
pub fn proxies() -> Result<Vec<(&'static str, String)>> {
    Ok(of_apt(&Command::new("apt-config").args(["dump", "Acquire"]).run_text()?))
}

/// Turns the proxies of the host's apt into the variables that curl reads.
fn of_apt(acquire: &str) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    let mut direct = Vec::new();
    for line in acquire.lines() {
        let Some((key, value)) = line.trim_end_matches(';').split_once(' ') else { continue };
        let value = value.trim_matches('"').to_owned();
        match key.strip_prefix("Acquire::") {
            _ if value.is_empty() => {}
            Some("http::Proxy") => {
                all.push(("http_proxy", value.clone()));
                // apt uses it for https too, unless that has its own.
                all.insert(0, ("https_proxy", value));
            }
            Some("https::Proxy") => all.push(("https_proxy", value)),
            Some(other) if value == "DIRECT" => direct.extend(
                other
                    .strip_prefix("http::Proxy::")
                    .or_else(|| other.strip_prefix("https::Proxy::"))
                    .map(str::to_owned),
            ),
            _ => {}
        }
    }
    all.retain(|(_, value)| value != "DIRECT");
    if !direct.is_empty() {
        all.push(("no_proxy", direct.join(",")));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(quoted("a\"b\\c\nd\re"), r#""a\"b\\c\nd\re""#);
    }

    #[test]
    fn proxies_of_apt() {
        let seen = |text: &str| of_apt(text).into_iter().collect::<std::collections::BTreeMap<_, _>>();
        let text = "Acquire \"\";\nAcquire::http::Proxy \"http://p.example:3142\";\nAcquire::http::Proxy::m.example \"DIRECT\";\n";
        let proxy = || "http://p.example:3142".to_owned();
        assert_eq!(
            seen(text),
            [("http_proxy", proxy()), ("https_proxy", proxy()), ("no_proxy", "m.example".to_owned())].into()
        );
        let text = format!("{text}Acquire::https::Proxy \"DIRECT\";\n");
        assert_eq!(seen(&text)["http_proxy"], proxy());
        assert!(seen("Acquire::Retries \"3\";\n").is_empty());
    }
}
