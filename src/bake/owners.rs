//! Which package each file of a tree belongs to, as its dpkg says.

use std::collections::BTreeMap;
use std::path::Path;

use super::packages::MERGED;
use crate::error::{Doing as _, Result};

/// Returns the package of each path that a package's list in `tree` names, by path without the leading slash. What only
/// the lists of layers below name is not in it.
///
/// # Errors
/// Lists that cannot be read.
pub fn owners(tree: &Path) -> Result<BTreeMap<String, String>> {
    let lists = tree.join("var/lib/dpkg/info");
    let mut owners = BTreeMap::new();
    let entries = match std::fs::read_dir(&lists) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(owners),
        Err(error) => return Err(error).doing(|| format!("listing {}", lists.display())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.doing(|| format!("listing {}", lists.display()))?.file_name();
        found.extend(name.to_str().and_then(|name| name.strip_suffix(".list")).map(str::to_owned));
    }
    // Directories are in many lists, and some files in two: the last in this order counts, everywhere.
    found.sort_unstable();
    for list in found {
        let text = std::fs::read_to_string(lists.join(format!("{list}.list")))
            .doing(|| format!("reading which files {list} has"))?;
        // `libc6:amd64` where several architectures could be installed together.
        let package = list.split(':').next().unwrap_or_default();
        owners.extend(text.lines().map(|line| (real(line), package.to_owned())));
    }
    Ok(owners)
}

/// Returns the path without its leading slash, and in `/usr` what a package has in a directory that is a link into it.
fn real(path: &str) -> String {
    let path = path.trim_start_matches('/');
    let top = path.split('/').next().unwrap_or_default();
    if MERGED.contains(&top) { format!("usr/{path}") } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_packages() {
        let tree = tempfile::tempdir().expect("a directory");
        assert_eq!(owners(tree.path()).expect("no packages"), BTreeMap::new());
        let info = tree.path().join("var/lib/dpkg/info");
        std::fs::create_dir_all(&info).expect("a directory");
        std::fs::write(info.join("libc6:amd64.list"), "/.\n/lib\n/lib/x/libc.so.6\n/library\n")
            .expect("a list");
        std::fs::write(info.join("tzdata.list"), "/.\n/usr/share/zoneinfo/UTC\n").expect("a list");
        std::fs::write(info.join("tzdata.postinst"), "/not/a/list\n").expect("a script");
        let owners = owners(tree.path()).expect("lists");
        let of = |path: &str| owners.get(path).map(String::as_str);
        assert_eq!(of("usr/lib/x/libc.so.6"), Some("libc6"));
        assert_eq!(of("usr/share/zoneinfo/UTC"), Some("tzdata"));
        assert_eq!(of("library"), Some("libc6"), "only whole names are links");
        assert_eq!(of("not/a/list"), None);
    }
}
