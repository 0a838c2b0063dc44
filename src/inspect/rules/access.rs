//! Ways in: servers, consoles, passwords, keys, agents, accounts.

use super::{Context, Hit, name_of};
use crate::error::Result;
use crate::inspect::erofs::Kind;
use crate::inspect::tree::Tree;
use crate::inspect::units;

/// Programs that let someone in over the network.
const SSH_SERVERS: &[&str] =
    &["sshd", "dropbear", "tinysshd", "tinysshd-makekey", "in.telnetd", "telnetd", "rlogind", "in.rshd"];
const SSH_UNITS: &[&str] = &[
    "ssh.service",
    "ssh.socket",
    "ssh@.service",
    "sshd.service",
    "sshd.socket",
    "dropbear.service",
    "dropbear.socket",
];

/// Units that ask for a login or give a shell. Generators, logind and the command line start them by name, so
/// they must be masked or missing and not only be wanted by nobody.
const CONSOLES: &[&str] = &[
    "getty@.service",
    "serial-getty@.service",
    "console-getty.service",
    "container-getty@.service",
    "getty-static.service",
    "debug-shell.service",
    "emergency.service",
    "rescue.service",
    "kmsconvt@.service",
];

/// Programs that units run to give a login or a shell.
const LOGINS: &[&str] = &["agetty", "getty", "mgetty", "mingetty", "fgetty", "login", "sulogin"];
const SHELLS: &[&str] = &["sh", "bash", "dash", "zsh", "ash", "busybox", "ksh", "fish"];

/// Names of the agents' programs, files and units.
const AGENTS: &[&str] = &[
    "amazon-ssm-agent",
    "ssm-agent-worker",
    "ssm-session-worker",
    "amazon-ssm-agent.service",
    "eic_run_authorized_keys",
    "ec2-instance-connect.service",
    "ec2-instance-connect",
    "hibinit-agent",
    "cloud-init",
    "cloud-init.service",
    "cloud-init-generator",
    "qemu-ga",
    "qemu-guest-agent.service",
    "waagent",
    "walinuxagent.service",
    "google_guest_agent",
    "google-guest-agent.service",
    "google_osconfig_agent",
    "google_metadata_script_runner",
    "vmtoolsd",
    "open-vm-tools.service",
    "do-agent",
    "oracle-cloud-agent",
    "amazon-cloudwatch-agent-ctl",
];

pub(super) fn ssh_server(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let programs = tree
        .iter()
        .filter(|(path, node)| {
            matches!(node.kind, Kind::File | Kind::Symlink)
                && node.target != "/dev/null"
                && in_program_directory(path)
                && SSH_SERVERS.contains(&name_of(path))
        })
        .map(|(path, _)| Hit::at(path));
    let units = SSH_UNITS
        .iter()
        .filter(|unit| units::exists(tree, unit) && !units::is_masked(tree, unit))
        .map(|unit| Hit::with(*unit, "a unit starts one"));
    Ok(programs.chain(units).collect())
}

fn in_program_directory(path: &str) -> bool {
    ["/bin/", "/sbin/", "/libexec/", "/lib/openssh/", "/opt/"].iter().any(|part| path.contains(part))
}

pub(super) fn getty(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let mut hits: Vec<Hit> = CONSOLES
        .iter()
        .filter(|unit| units::exists(tree, unit) && !units::is_masked(tree, unit))
        .map(|unit| Hit::with(*unit, "neither masked nor missing"))
        .collect();
    for (unit, link) in units::enabled(tree) {
        if unit.contains("getty") && unit.ends_with(".service") {
            hits.push(Hit::with(&link, "enabled"));
            continue;
        }
        let settings = units::settings(tree, &unit)?;
        let on_console =
            settings.iter().any(|(_, key, value)| key == "StandardInput" && value.starts_with("tty"));
        let runs =
            settings.iter().filter(|(section, key, _)| section == "Service" && key.starts_with("ExecStart"));
        for (_, _, command) in runs {
            let program = command.trim_start_matches(['-', '@', ':', '+', '!']);
            let program = name_of(program.split_whitespace().next().unwrap_or_default());
            if LOGINS.contains(&program) || (on_console && SHELLS.contains(&program)) {
                hits.push(Hit::with(&link, format!("runs `{command}`")));
            }
        }
    }
    Ok(hits)
}

pub(super) fn password(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let mut hits = Vec::new();
    for file in ["/etc/shadow", "/etc/shadow-", "/etc/passwd", "/etc/passwd-", "/etc/gshadow", "/etc/group"] {
        for fields in accounts(tree, file)? {
            let [user, secret, ..] = fields.as_slice() else { continue };
            // `x` says that the secret is in the shadow file; an empty one of a group lets nobody join.
            let shadowed = !file.contains("shadow") && secret == "x";
            let group = file.contains("/g") && secret.is_empty();
            if secret.is_empty() && !group {
                hits.push(Hit::with(file, format!("`{user}` needs no password")));
            } else if !shadowed && !group && !matches!(secret.chars().next(), Some('!' | '*')) {
                hits.push(Hit::with(file, format!("`{user}` has a password")));
            } else if secret.contains('$') {
                hits.push(Hit::with(file, format!("`{user}` has a password, though a locked one")));
            }
        }
    }
    Ok(hits)
}

fn accounts(tree: &Tree, file: &str) -> Result<Vec<Vec<String>>> {
    let text = tree.text(file)?;
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    Ok(lines.map(|line| line.split(':').map(str::to_owned).collect()).collect())
}

pub(super) fn authorized_keys(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let trusted = |path: &str| {
        let name = name_of(path);
        name.starts_with("authorized_keys")
            || path.contains("/.ssh/")
            || path.contains("/etc/ssh/authorized_")
            || matches!(name, ".rhosts" | ".shosts" | "hosts.equiv" | "shosts.equiv" | ".k5login")
    };
    Ok(tree
        .iter()
        .filter(|(path, node)| node.kind != Kind::Directory && trusted(path))
        .map(|(path, _)| Hit::at(path))
        .collect())
}

pub(super) fn cloud_agent(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let agent = |path: &str, target: &str| {
        target != "/dev/null"
            && AGENTS.contains(&name_of(path))
            && !path.starts_with("/usr/share/doc/")
            && !path.starts_with("/usr/share/bash-completion/")
    };
    Ok(tree.iter().filter(|(path, node)| agent(path, &node.target)).map(|(path, _)| Hit::at(path)).collect())
}

pub(super) fn uid0(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let accounts = accounts(tree, "/etc/passwd")?;
    let second = accounts.iter().filter(|fields| {
        let id = fields.get(2).and_then(|id| id.parse::<u32>().ok());
        id == Some(0) && fields.first().is_none_or(|name| name != "root")
    });
    Ok(second.map(|fields| Hit::with("/etc/passwd", format!("`{}`", fields[0]))).collect())
}

/// Root keeps its shell: without a password, a console and a server there is no way to it, and Debian's
/// maintainer scripts take it for granted.
pub(super) fn login_shell(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let accounts = accounts(tree, "/etc/passwd")?;
    let with_shell = accounts.iter().filter(|fields| {
        let shell = fields.get(6).map_or("", |shell| name_of(shell));
        // An empty field means /bin/sh (`passwd(5)`).
        fields[0] != "root" && !matches!(shell, "nologin" | "false" | "sync")
    });
    Ok(with_shell.map(|fields| Hit::with("/etc/passwd", format!("`{}`", fields[0]))).collect())
}
