//! How people write quantities and names: one parser for each, with the words for what is wrong.

pub mod aws;
pub mod version;

use std::time::Duration;

/// Reads a duration such as `60s`, `2m`, `1h 30m` or `14d`; a day has 24 hours.
///
/// # Errors
/// Text that is no duration, or a negative one.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is not a duration such as \"60s\", \"5m\" or \"2h\"");
    let span: jiff::Span = text.parse().map_err(|_| bad())?;
    let signed = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| bad())?;
    Duration::try_from(signed).map_err(|_| bad())
}

/// Reads a size such as `256M` or `1G` (powers of 1024) into bytes.
///
/// # Errors
/// Text that is no size, or zero.
pub fn size(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is not a size such as \"256M\" or \"1G\"");
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        _ => return Err(bad()),
    };
    let count: u64 = number(digits).ok_or_else(bad)?;
    count.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(bad)
}

/// Reads a machine's memory such as `256M` into bytes: whole MiB, which is how machines are given theirs.
///
/// # Errors
/// Text that is no size, or less or other than whole MiB.
pub fn memory(text: &str) -> Result<u64, String> {
    let bytes = size(text)?;
    if bytes % (1 << 20) == 0 {
        Ok(bytes)
    } else {
        Err(format!("`{text}` is not a machine's memory: whole M or G, such as \"256M\""))
    }
}

/// Reads an octal mode such as `0644`.
///
/// # Errors
/// Text that is no mode of three or four octal digits.
pub fn mode(text: &str) -> Result<u32, String> {
    let octal = matches!(text.len(), 3 | 4) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if octal => Ok(mode),
        _ => Err(format!("`{text}` is not a mode such as \"0644\": three or four octal digits")),
    }
}

/// Directories that are empty or fresh in a running image: a file put there would never be seen.
const NOT_IN_THE_IMAGE: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/tmp"];

/// Checks an absolute path in an image.
///
/// # Errors
/// A path that is not absolute and normal, or lies where the running system mounts something else.
pub fn image_path(text: &str) -> Result<(), String> {
    let Some(below) = text.strip_prefix('/') else {
        return Err(format!("`{text}` is not an absolute path"));
    };
    if below.is_empty() || below.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("`{text}` is not a normal path: no `.`, `..`, `//` or `/` at the end"));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{text:?} has control characters"));
    }
    let inside =
        |top: &&str| text.strip_prefix(*top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match NOT_IN_THE_IMAGE.iter().find(|top| inside(top)) {
        Some(top) => Err(format!("`{text}` would not be seen: {top} is made anew at each boot")),
        None => Ok(()),
    }
}

/// Checks a Debian package name (policy 5.6.7).
///
/// # Errors
/// Anything else.
pub fn package(text: &str) -> Result<(), String> {
    let first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let rest = |byte: u8| first(byte) || matches!(byte, b'+' | b'-' | b'.');
    let good = text.len() >= 2 && text.bytes().next().is_some_and(first) && text.bytes().all(rest);
    if good { Ok(()) } else { Err(format!("`{text}` is not a Debian package name")) }
}

/// Reads a package of a vendor's distribution as a derived image names it: the exact name of a Debian or an rpm
/// package, and perhaps the version that it is pinned to, as in `nginx=1.22.1-9`.
///
/// The characters are those of Debian's policy (5.6.7, 5.6.12) and of rpm's spec files, which besides allow capitals
/// and `_` in names and `_` and `^` in versions. What package managers take for something else than one package's name is
/// refused: options, patterns, groups (`@x`), paths, and the removal suffix `-` of apt.
///
/// # Errors
/// Anything else.
pub fn vendor_package(text: &str) -> Result<(&str, Option<&str>), String> {
    let bad = || {
        format!(
            "`{text}` is not the exact name of a package, or one with a version such as \"nginx=1.22.1-9\""
        )
    };
    let made_of = |part: &str, others: &[u8]| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || others.contains(&byte);
        let first = part.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        first && part.bytes().all(allowed) && !part.ends_with('-')
    };
    let (name, version) = match text.split_once('=') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    };
    let good = made_of(name, b"+-._") && version.is_none_or(|version| made_of(version, b"+-._:~^"));
    if good { Ok((name, version)) } else { Err(bad()) }
}

/// Checks a name that also is a file name: of a recipe, a fleet or a Debian suite.
///
/// # Errors
/// Anything but lower-case letters, digits and `-`, beginning with a letter.
pub fn name(text: &str) -> Result<(), String> {
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let good = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase()) && text.bytes().all(rest);
    if good {
        Ok(())
    } else {
        Err(format!("`{text}` is not a name: lower-case letters, digits and `-`, beginning with a letter"))
    }
}

/// A port and its protocol, as in `80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// From 1.
    pub number: u16,
    /// `tcp`, or else `udp`.
    pub tcp: bool,
}

/// Reads a port such as `80/tcp`.
///
/// # Errors
/// Anything else.
pub fn port(text: &str) -> Result<Port, String> {
    let bad = || format!("`{text}` is not a port such as \"80/tcp\" or \"53/udp\"");
    let (digits, protocol) = text.split_once('/').ok_or_else(bad)?;
    let number = number(digits).filter(|port| *port > 0).ok_or_else(bad)?;
    match protocol {
        "tcp" => Ok(Port { number, tcp: true }),
        "udp" => Ok(Port { number, tcp: false }),
        _ => Err(bad()),
    }
}

/// Suffixes of units that can be enabled or disabled.
const UNIT_KINDS: [&str; 6] = [".service", ".socket", ".timer", ".path", ".mount", ".target"];

/// Reads a unit name, completing `nginx` to `nginx.service`.
///
/// # Errors
/// Characters that systemd does not allow.
pub fn unit(text: &str) -> Result<String, String> {
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-' | b'_' | b'.' | b'\\' | b'@');
    if text.is_empty() || text.starts_with('.') || text.len() > 255 || !text.bytes().all(allowed) {
        return Err(format!("`{text}` is not a unit name such as \"nginx\" or \"logrotate.timer\""));
    }
    let complete = UNIT_KINDS.iter().any(|kind| text.ends_with(kind));
    Ok(if complete { text.to_owned() } else { format!("{text}.service") })
}

/// Checks an owner, `user` or `user:group`.
///
/// # Errors
/// Names that Debian's adduser would not make.
pub fn owner(text: &str) -> Result<(), String> {
    let first = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let rest = |byte: u8| first(byte) || byte.is_ascii_digit() || byte == b'-';
    let good = |name: &str| name.bytes().next().is_some_and(first) && name.bytes().all(rest);
    let (user, group) = text.split_once(':').unwrap_or((text, "root"));
    if good(user) && good(group) {
        Ok(())
    } else {
        Err(format!("`{text}` is not an owner such as \"root\" or \"www-data:adm\""))
    }
}

/// Reads a share such as `25%` into percent.
///
/// # Errors
/// Anything but a whole number up to 100 with `%`.
pub fn percent(text: &str) -> Result<u32, String> {
    let value = text.strip_suffix('%').and_then(number).filter(|percent| *percent <= 100);
    value.ok_or_else(|| format!("`{text}` is not a count or a share such as \"25%\""))
}

/// Reads a rate such as `20/h` into how many an hour.
///
/// # Errors
/// Anything but a whole number from 1 with `/h`.
pub fn rate(text: &str) -> Result<u32, String> {
    let value = text.strip_suffix("/h").and_then(number).filter(|count| *count > 0);
    value.ok_or_else(|| format!("`{text}` is not a rate such as \"20/h\": so many an hour"))
}

/// Reads a decimal number such as `0.5` or `-3`.
///
/// # Errors
/// Anything else, such as an exponent, `inf` or a unit.
pub fn decimal(text: &str) -> Result<f64, String> {
    let bad = || format!("`{text}` is not a decimal number such as \"0.5\" or \"250\"");
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole.strip_prefix('-').unwrap_or(whole)) || !digits(part) {
        return Err(bad());
    }
    text.parse().ok().filter(|value: &f64| value.is_finite()).ok_or_else(bad)
}

/// Reads digits only: `str::parse` would also take a `+`.
fn number<N: std::str::FromStr>(digits: &str) -> Option<N> {
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        for (text, value) in [("0.5", 0.5), ("250", 250.0), ("-3.25", -3.25), ("007", 7.0)] {
            assert_eq!(decimal(text), Ok(value), "{text}");
        }
        for bad in ["", "-", ".5", "5.", "1e3", "+1", "inf", "NaN", "1,5", "1.2.3", "0x1", "5%", " 1"] {
            assert!(decimal(bad).is_err(), "{bad}");
        }
        assert!(decimal(&"9".repeat(400)).is_err());
    }

    #[test]
    fn durations() {
        for (text, seconds) in [("60s", 60), ("2m", 120), ("1h 30m", 5400), ("0s", 0), ("14d", 1_209_600)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "60", "-1s", "s", "1 fortnight", "1 month"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("256M"), Ok(256 << 20));
        assert_eq!(size("1G"), Ok(1 << 30));
        for bad in ["", "M", "0M", "256", "+1M", "1.5G", "99999999999999G", "256m", "256é"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn modes() {
        assert_eq!(mode("0644"), Ok(0o644));
        assert_eq!(mode("755"), Ok(0o755));
        for bad in ["", "7", "0888", "+644", "00644", "rw-"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths() {
        for good in ["/etc/nginx/site", "/opt/app", "/runtime", "/var/lib/x"] {
            assert_eq!(image_path(good), Ok(()), "{good}");
        }
        for bad in ["", "/", "etc", "/etc/../x", "/etc//x", "/etc/", "/./x", "/run/x", "/proc", "/a\nb"] {
            assert!(image_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names() {
        for (check, good, bad) in [
            (package as fn(&str) -> Result<(), String>, "libstdc++6", "Nginx"),
            (package, "nginx-light", "x"),
            (package, "0ad", "-x"),
            (package, "a.b", "nginx_light"),
            (name, "web-2", "2web"),
            (name, "bookworm", "../web"),
            (owner, "www-data:adm", "www data"),
            (owner, "root", "root:"),
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_units_shares() {
        assert_eq!(port("80/tcp"), Ok(Port { number: 80, tcp: true }));
        for bad in ["80", "0/tcp", "65536/tcp", "80/sctp", "+80/tcp", "/tcp"] {
            assert!(port(bad).is_err(), "{bad}");
        }
        assert_eq!(unit("nginx").as_deref(), Ok("nginx.service"));
        assert_eq!(unit("logrotate.timer").as_deref(), Ok("logrotate.timer"));
        assert_eq!(unit("getty@tty1").as_deref(), Ok("getty@tty1.service"));
        for bad in ["", "a/b", "a b", ".service", "..", "nginx;reboot"] {
            assert!(unit(bad).is_err(), "{bad}");
        }
        assert_eq!(percent("25%"), Ok(25));
        for bad in ["25", "101%", "-1%", "%"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
        assert_eq!(rate("20/h"), Ok(20));
        for bad in ["20", "0/h", "1/m", "/h", "-1/h"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
