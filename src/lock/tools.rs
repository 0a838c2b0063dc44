//! The host's programs whose versions shape an image's bytes.

use std::collections::BTreeMap;
use std::process::Command;

use super::Lock;
use crate::error::{Error, Result};
use crate::process::Run as _;

/// Programs that write bytes of an image, and the Debian packages that have them.
const TOOLS: &[(&str, &str)] = &[
    ("mcopy", "mtools"),
    ("mkfs.erofs", "erofs-utils"),
    ("mkfs.vfat", "dosfstools"),
    ("objcopy", "binutils"),
    ("veritysetup", "cryptsetup-bin"),
    ("zstd", "zstd"), // compresses the initrd
];

/// A tool whose version on this host is not the locked one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The program.
    pub tool: String,
    /// The version in the lock, if the lock names the tool.
    pub locked: Option<String>,
    /// The version on this host, if rekiln uses the tool.
    pub host: Option<String>,
}

/// Returns the installed versions of the programs that shape bytes.
///
/// # Errors
/// A package that is not installed, by name.
pub fn host_tools() -> Result<BTreeMap<String, String>> {
    let mut command = Command::new("dpkg-query");
    command.args(["-W", "-f", "${Package} ${Version} ${db:Status-Status}\\n"]);
    command.args(TOOLS.iter().map(|(_, package)| package));
    let hint = "run `rekiln doctor --install`, which installs what is missing";
    let text = command
        .run_text()
        .map_err(|error| error.during("reading the versions of the tools that write images").hint(hint))?;
    let versions = installed(&text);
    TOOLS
        .iter()
        .map(|&(tool, package)| match versions.get(package) {
            Some(&version) => Ok((tool.to_owned(), version.to_owned())),
            None => Err(Error::failed(format!("`{tool}` is not installed (package {package})")).hint(hint)),
        })
        .collect()
}

fn installed(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [package, version, "installed"] => Some((package, version)),
            _ => None,
        })
        .collect()
}

/// Returns the tools that differ between `lock` and `host`.
#[must_use]
pub fn mismatches(lock: &Lock, host: &BTreeMap<String, String>) -> Vec<Mismatch> {
    let names: std::collections::BTreeSet<_> = lock.tools.keys().chain(host.keys()).collect();
    names
        .into_iter()
        .map(|tool| Mismatch {
            tool: tool.clone(),
            locked: lock.tools.get(tool).cloned(),
            host: host.get(tool).cloned(),
        })
        .filter(|seen| seen.locked != seen.host)
        .collect()
}

/// Refuses a lock that was made for other versions of the tools.
///
/// # Errors
/// Names every tool that differs, when there is one.
pub fn check(image: &str, lock: &Lock, host: &BTreeMap<String, String>) -> Result<()> {
    let shown = |version: Option<String>| version.unwrap_or_else(|| "none".to_owned());
    let differ: Vec<_> = mismatches(lock, host)
        .into_iter()
        .map(|seen| format!("{}: locked {}, here {}", seen.tool, shown(seen.locked), shown(seen.host)))
        .collect();
    if differ.is_empty() {
        return Ok(());
    }
    Err(Error::failed(format!("the lock of `{image}` is for other tool versions; {}", differ.join("; ")))
        .hint(format!("run `rekiln lock --update {image}`: the image id changes with the tools")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_packages_do_not_count() {
        let text = "dpkg 1.21.22 installed\nmtools 4.0 config-files\nbinutils  not-installed\n";
        assert_eq!(installed(text), BTreeMap::from([("dpkg", "1.21.22")]));
    }
}
