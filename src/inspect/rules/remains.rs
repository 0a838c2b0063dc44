//! What a bake leaves behind and an instance must not start with.

use super::{Context, Hit, name_of};
use crate::error::Result;
use crate::inspect::erofs::Kind;
use crate::inspect::tree::Tree;

const PACKAGE_MANAGERS: &[&str] = &[
    "apt",
    "apt-get",
    "apt-cache",
    "apt-key",
    "aptitude",
    "dpkg",
    "dpkg-deb",
    "rpm",
    "yum",
    "dnf",
    "apk",
    "snap",
    "flatpak",
    "unattended-upgrade",
];

const HISTORIES: &[&str] = &[
    ".bash_history",
    ".zsh_history",
    ".ash_history",
    ".sh_history",
    ".history",
    ".python_history",
    ".viminfo",
    ".lesshst",
    ".mysql_history",
    ".psql_history",
    ".sqlite_history",
    ".rediscli_history",
    ".wget-hsts",
    ".node_repl_history",
    ".sudo_as_admin_successful",
];

/// Files with content below a directory.
fn files<'a>(tree: &'a Tree, directory: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    tree.below(directory).filter(|(_, node)| node.kind == Kind::File && node.size > 0).map(|(path, _)| path)
}

pub(super) fn package_manager(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let program = |path: &str| {
        (path.contains("/bin/") || path.contains("/sbin/")) && PACKAGE_MANAGERS.contains(&name_of(path))
    };
    let programs = tree
        .iter()
        .filter(|(path, node)| node.kind != Kind::Directory && program(path))
        .map(|(path, _)| path);
    let data =
        ["/var/lib/apt", "/var/cache/apt", "/var/lib/snapd"].into_iter().flat_map(|place| files(tree, place));
    Ok(programs.chain(data).map(Hit::at).collect())
}

pub(super) fn host_keys(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let key = |path: &str| {
        name_of(path).starts_with("ssh_host_")
            || (path.starts_with("/etc/dropbear") && name_of(path).contains("host_key"))
    };
    Ok(tree
        .iter()
        .filter(|(path, node)| node.kind == Kind::File && key(path))
        .map(|(path, _)| Hit::at(path))
        .collect())
}

pub(super) fn machine_id(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let mut hits = Vec::new();
    for path in ["/etc/machine-id", "/var/lib/dbus/machine-id"] {
        let is_file = tree.get(path).is_some_and(|node| node.kind == Kind::File);
        // `uninitialized` is what `machine-id(5)` takes for none.
        if is_file && !matches!(tree.text(path)?.trim(), "" | "uninitialized") {
            hits.push(Hit::at(path));
        }
    }
    Ok(hits)
}

pub(super) fn machine_secrets(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let places = [
        "/var/lib/systemd/random-seed",
        "/var/lib/systemd/credential.secret",
        "/var/lib/urandom/random-seed",
        "/etc/krb5.keytab",
        "/etc/iscsi/initiatorname.iscsi",
        "/etc/hostid",
        "/var/lib/dhcp/dhclient.leases",
    ];
    let there = places.into_iter().filter(|path| tree.get(path).is_some_and(|node| node.size > 0));
    Ok(there.map(Hit::at).collect())
}

pub(super) fn history(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let old =
        tree.iter().filter(|(path, node)| node.kind == Kind::File && HISTORIES.contains(&name_of(path)));
    Ok(old.map(|(path, _)| Hit::at(path)).collect())
}

pub(super) fn logs(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    Ok(files(tree, "/var/log").map(Hit::at).collect())
}

pub(super) fn caches(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let apt = "/var/cache/apt/";
    Ok(files(tree, "/var/cache").filter(|path| !path.starts_with(apt)).map(Hit::at).collect())
}
