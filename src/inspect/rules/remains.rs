//! What a bake, or the boot of a builder, leaves behind and an instance must not start with.

use super::{Context, DiskKind, Hit, name_of};
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

/// Where clients of DHCP keep leases: dhclient of Debian and of Red Hat, `NetworkManager`, dhcpcd, systemd-networkd.
const LEASES: &[&str] = &[
    "/var/lib/dhcp",
    "/var/lib/dhclient",
    "/var/lib/NetworkManager",
    "/var/lib/dhcpcd",
    "/var/lib/systemd/network",
];

/// Where cloud-init keeps what it knows of machines, an entry each, and what leads to the last one.
const CLOUD_STATE: &[&str] = &["/var/lib/cloud/instances", "/var/lib/cloud/data", "/var/lib/cloud/sem"];
const CLOUD_LINKS: &[&str] = &["/var/lib/cloud/instance"];

/// Where configurations of the network, and rules that give cards their names, are written by a first boot.
const CARDS: &[&str] = &[
    "/etc/netplan",
    "/etc/network",
    "/etc/NetworkManager/system-connections",
    "/etc/sysconfig/network-scripts",
    "/etc/systemd/network",
    "/etc/udev/rules.d",
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
    for (path, node) in CARDS.iter().flat_map(|place| tree.below(place)) {
        // A configuration of the network is a page; more is something else.
        if node.kind != Kind::File || node.size > 1 << 16 {
            continue;
        }
        if name_of(path).contains("persistent-net") {
            hits.push(Hit::with(path, "names of another machine's network cards"));
        } else if let Some(address) = card_in(&tree.text(path)?) {
            hits.push(Hit::with(path, format!("the address of another machine's network card, {address}")));
        }
    }
    Ok(hits)
}

/// Returns the first hardware address in a configuration: six pairs of hexadecimal digits with colons between. All
/// zeros, all ones and those of a group belong to no card.
fn card_in(text: &str) -> Option<&str> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with(['#', ';']));
    let words = lines.flat_map(|line| line.split(|c: char| !c.is_ascii_hexdigit() && c != ':'));
    let is_card = |word: &&str| {
        let pairs: Vec<Option<u8>> = word
            .split(':')
            .map(|pair| u8::from_str_radix(pair, 16).ok().filter(|_| pair.len() == 2))
            .collect();
        pairs.len() == 6
            && pairs.iter().all(Option::is_some)
            && pairs[0].is_some_and(|byte| byte & 1 == 0)
            && pairs.iter().any(|byte| *byte != Some(0))
    };
    // A key such as `mac:` may stand before it without a space.
    words.map(|word| word.trim_matches(':')).find(is_card)
}

pub(super) fn machine_secrets(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let places = [
        "/var/lib/systemd/random-seed",
        "/var/lib/systemd/credential.secret",
        "/var/lib/urandom/random-seed",
        "/etc/krb5.keytab",
        "/etc/iscsi/initiatorname.iscsi",
        "/etc/hostid",
        "/var/lib/NetworkManager/secret_key",
    ];
    let there = places.into_iter().filter(|path| tree.get(path).is_some_and(|node| node.size > 0));
    let leases = LEASES.iter().flat_map(|place| files(tree, place)).filter(|path| path.contains("lease"));
    let leases = leases.map(|path| Hit::with(path, "a lease of another machine's address"));
    // One finding for each machine that cloud-init has seen, and not for each of its files: what it was given as user
    // data is among them, and it takes an instance that it knows for done.
    let states = CLOUD_STATE
        .iter()
        .flat_map(|place| tree.names(place).into_iter().map(move |name| format!("{place}/{name}")));
    let states = states
        .chain(CLOUD_LINKS.iter().filter(|path| tree.get(path).is_some()).map(|path| (*path).to_owned()));
    let states = states.map(|path| Hit::with(path, "what cloud-init keeps of another machine"));
    Ok(there.map(Hit::at).chain(leases).chain(states).collect())
}

pub(super) fn history(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let old =
        tree.iter().filter(|(path, node)| node.kind == Kind::File && HISTORIES.contains(&name_of(path)));
    Ok(old.map(|(path, _)| Hit::at(path)).collect())
}

pub(super) fn logs(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    Ok(files(tree, "/var/log").map(Hit::at).collect())
}

pub(super) fn caches(tree: &Tree, context: &Context) -> Result<Vec<Hit>> {
    let apt = "/var/cache/apt/";
    let caches = files(tree, "/var/cache").filter(|path| !path.starts_with(apt));
    // A sealed disk has something fresh mounted over these. On a vendor's, what a boot left in them stays, for
    // programs that look there, and for whoever mounts the disk.
    let places: &[&str] = if context.disk == DiskKind::Foreign { &["/run", "/tmp", "/var/tmp"] } else { &[] };
    let passing = places.iter().flat_map(|place| files(tree, place));
    Ok(caches.chain(passing).map(Hit::at).collect())
}
