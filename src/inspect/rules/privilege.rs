//! Ways up: files that give rights to whoever runs or writes them.

use super::{Context, Hit, name_of, profile};
use crate::error::Result;
use crate::inspect::erofs::Kind;
use crate::inspect::tree::{Node, Tree};
use crate::inspect::window::u32_at;

/// Directories that root's programs are found in by name, and those of the units that start them.
const ROOT_DIRECTORIES: &[&str] = &[
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/usr/lib/systemd",
    "/etc/systemd",
    "/usr/lib/rekiln",
];

/// Programs that make one user another.
const TOOLS: &[&str] = &["sudo", "sudoedit", "su", "pkexec", "doas", "sg", "newgrp", "super"];

/// Names of capabilities by number (`linux/capability.h`).
const NAMES: &[&str] = &[
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

pub(super) fn setuid(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let marked = |path: &str, node: &Node| {
        node.kind == Kind::File && node.mode & 0o6000 != 0 && !profile::SETUID.contains(&path)
    };
    Ok(tree
        .iter()
        .filter(|(path, node)| marked(path, node))
        .map(|(path, node)| Hit::with(path, format!("mode {:04o}", node.mode)))
        .collect())
}

pub(super) fn capabilities(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let found = tree.iter().filter_map(|(path, node)| Some((path, node.xattrs.get("security.capability")?)));
    Ok(found
        .filter(|(path, _)| !profile::CAPABILITIES.contains(path))
        .map(|(path, value)| Hit::with(path, names(value)))
        .collect())
}

/// The permitted set of the attribute: 32 bits at 4, and since version 2 another 32 at 12.
pub(crate) fn names(value: &[u8]) -> String {
    let bits = u64::from(u32_at(value, 4)) | u64::from(u32_at(value, 12)) << 32;
    let held = NAMES.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
    held.map(|(_, name)| format!("cap_{name}")).collect::<Vec<_>>().join(",")
}

pub(super) fn tools(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let is_tool =
        |path: &str| (path.contains("/bin/") || path.contains("/sbin/")) && TOOLS.contains(&name_of(path));
    let mut hits: Vec<Hit> = tree
        .iter()
        .filter(|(path, node)| matches!(node.kind, Kind::File | Kind::Symlink) && is_tool(path))
        .map(|(path, _)| Hit::at(path))
        .collect();
    // What cloud-init writes for the first user; it stays when the program is excepted.
    let parts = tree.names("/etc/sudoers.d").into_iter().map(|name| format!("/etc/sudoers.d/{name}"));
    for path in std::iter::once("/etc/sudoers".to_owned()).chain(parts) {
        let text = tree.text(&path)?;
        let lines =
            text.lines().map(str::trim).filter(|line| !line.starts_with('#') && line.contains("NOPASSWD"));
        hits.extend(lines.map(|line| Hit::with(&path, format!("`{line}` asks for no password"))));
    }
    Ok(hits)
}

pub(super) fn world_writable(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let open = |node: &Node| match node.kind {
        // With the sticky bit only the owner removes what lies there.
        Kind::Directory => node.mode & 0o1002 == 0o002,
        Kind::Symlink => false,
        _ => node.mode & 0o002 != 0,
    };
    Ok(tree
        .iter()
        .filter(|(_, node)| open(node))
        .map(|(path, node)| Hit::with(path, format!("mode {:04o}", node.mode)))
        .collect())
}

pub(super) fn path_owner(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let foreign = |node: &Node| {
        node.kind != Kind::Symlink && (node.uid != 0 || (node.mode & 0o020 != 0 && node.gid != 0))
    };
    let mut hits = Vec::new();
    for directory in ROOT_DIRECTORIES {
        let own = tree.get(directory).map(|node| (*directory, node));
        for (path, node) in own.into_iter().chain(tree.below(directory)).filter(|(_, node)| foreign(node)) {
            hits.push(Hit::with(path, format!("{}:{} mode {:04o}", node.uid, node.gid, node.mode)));
        }
    }
    Ok(hits)
}

pub(super) fn device_nodes(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let device = |kind| matches!(kind, Kind::Character(..) | Kind::Block(..));
    Ok(tree.iter().filter(|(_, node)| device(node.kind)).map(|(path, _)| Hit::at(path)).collect())
}
