//! What the strict profile leaves out of the sealed tree and what it puts in.
//!
//! Data, with the reason beside each. Two aims meet here: nothing that helps an intruder, and nothing that a
//! boot must wait for. Every process that systemd starts costs about 50 ms on a translated machine, so a unit
//! that does nothing on a sealed, read-only root is left out rather than skipped at run time.

use crate::digest::Digest;

/// Modules of the initrd, dependencies first; those of a recipe's `[kernel] modules` follow. The initrd loads all of
/// them, the root has none, and the profile's sysctl file then forbids loading for good. `NVMe` is built into Debian's cloud kernel.
#[rustfmt::skip] // grouped by reason, not one a line
pub const INITRD_MODULES: &[&str] = &[
    // QEMU: bus, disk, network.
    "virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk",
    "failover", "net_failover", "virtio_net",
    // EC2: network.
    "ena",
    // The root: layers, their stack, the device that checks them, and digests by the processor's own means:
    // dm-verity takes the fastest there is (SHA-NI on EC2), and the built-in one is plain C.
    "crc32c-intel", "libcrc32c", "sha256-ssse3", "erofs", "overlay", "reed_solomon", "dm-mod", "dm-bufio", "dm-verity",
];

/// The kernel's command line, before the recipe's own arguments.
pub const KERNEL_ARGS: &[&str] = &[
    // Both QEMU and EC2 have it; there is no other console.
    "console=ttyS0",
    "quiet",
    "loglevel=3",
    // Root may not read or change the kernel: modules are signed, no kexec, no /dev/mem, no kprobes.
    "lockdown=confidentiality",
    // Memory is overwritten when it is given and when it is returned, caches are not shared between types, and
    // where a page lies cannot be told.
    "init_on_alloc=1",
    "init_on_free=1",
    "slab_nomerge",
    "page_alloc.shuffle=1",
    "randomize_kstack_offset=on",
    // No fixed address to jump to; nothing since 2013 needs it.
    "vsyscall=none",
    "debugfs=off",
    // A kernel that went wrong must not go on; the fleet replaces it.
    "oops=panic",
    "panic=5",
    // AppArmor stays for recipes that bring profiles. Without this, tomoyo and the integrity modules start too.
    "lsm=landlock,lockdown,yama,apparmor,bpf",
    // One name for the first network card everywhere.
    "net.ifnames=0",
    // As AWS asks for: an EBS volume that pauses must not become an I/O error.
    "nvme_core.io_timeout=4294967295",
    // systemd: nothing to ask anyone, nothing taken from the firmware, only failures on the console.
    "systemd.firstboot=off",
    "systemd.import_credentials=no",
    "systemd.show_status=error",
    "systemd.log_level=notice",
    "systemd.gpt_auto=0",
];

/// Units that can never start, whoever wants them: links to `/dev/null` in `/etc/systemd/system`.
#[rustfmt::skip] // grouped by reason, not one a line
pub const MASKED_UNITS: &[&str] = &[
    // Ways in.
    "getty@.service", "serial-getty@.service", "console-getty.service", "container-getty@.service",
    "getty-static.service", "getty.target", "debug-shell.service", "emergency.service", "rescue.service",
    "systemd-logind.service", "user@.service", "ssh.service", "ssh.socket", "ssh@.service",
    "systemd-initctl.socket", "systemd-initctl.service", "amazon-ssm-agent.service",
    // The system does not change itself.
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "unattended-upgrades.service",
    "systemd-firstboot.service", "systemd-sysext.service",
    // No media, no sleep, nothing to type a password on, no key that reboots.
    "proc-sys-fs-binfmt_misc.automount", "ctrl-alt-del.target", "sleep.target", "suspend.target",
    "hibernate.target", "hybrid-sleep.target", "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    // One module probe each, for file systems that nothing here uses.
    "modprobe@.service", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount",
    "sys-fs-fuse-connections.mount", "systemd-remount-fs.service",
];

/// Units that start at boot besides those that a recipe enables: target and unit, linked in
/// `/etc/systemd/system/<target>.wants`. [`EXCLUDED`] takes away what systemd's package links there.
pub const WANTED_UNITS: &[(&str, &str)] = &[
    ("sockets.target", "systemd-journald.socket"),
    ("sockets.target", "systemd-journald-dev-log.socket"),
    ("sockets.target", "systemd-udevd-control.socket"),
    ("sockets.target", "systemd-udevd-kernel.socket"),
    ("sysinit.target", "systemd-journald.service"),
    ("sysinit.target", "systemd-sysctl.service"),
    ("sysinit.target", "systemd-tmpfiles-setup.service"),
    ("sysinit.target", "systemd-udevd.service"),
    ("sysinit.target", "systemd-udev-trigger.service"),
    ("timers.target", "systemd-tmpfiles-clean.timer"),
    ("multi-user.target", "systemd-networkd.service"),
    ("multi-user.target", "rekiln-agent.service"),
];

/// Other links of the profile: path and what it points to.
pub const LINKS: &[(&str, &str)] = &[("/usr/lib/systemd/system/default.target", "multi-user.target")];

/// Where the guest program lies in the image; mode 0755.
pub const GUEST_PATH: &str = "/usr/lib/rekiln/guest";

/// A file that the profile puts into every image; owner root, mode 0644.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProfileFile {
    /// Absolute path in the image.
    pub path: &'static str,
    /// Its whole text.
    pub text: &'static str,
}

/// Files of the profile.
pub const FILES: &[ProfileFile] = &[
    ProfileFile {
        path: "/usr/lib/systemd/system/rekiln-agent.service",
        text: include_str!("trim/rekiln-agent.service"),
    },
    ProfileFile {
        path: "/usr/lib/systemd/system/systemd-udev-trigger.service.d/50-rekiln.conf",
        text: include_str!("trim/udev-trigger.conf"),
    },
    ProfileFile {
        path: "/usr/lib/systemd/network/80-rekiln.network",
        text: include_str!("trim/80-rekiln.network"),
    },
    ProfileFile {
        path: "/usr/lib/systemd/journald.conf.d/50-rekiln.conf",
        text: include_str!("trim/journald.conf"),
    },
    ProfileFile {
        path: "/usr/lib/systemd/system.conf.d/50-rekiln.conf",
        text: include_str!("trim/system.conf"),
    },
    ProfileFile { path: "/usr/lib/sysctl.d/50-rekiln.conf", text: include_str!("trim/sysctl.conf") },
    ProfileFile { path: "/usr/lib/modprobe.d/rekiln.conf", text: include_str!("trim/modprobe.conf") },
    // Empty: systemd puts a fresh one over it at each boot and does not call it a first boot.
    ProfileFile { path: "/etc/machine-id", text: "" },
    ProfileFile { path: "/etc/hostname", text: "localhost\n" },
    ProfileFile { path: "/etc/resolv.conf", text: include_str!("trim/resolv.conf") },
];

/// The drop-in for each service that a recipe enables:
/// `/usr/lib/systemd/system/<unit>.d/50-rekiln-sandbox.conf`. A recipe loosens it with a file of a higher number.
pub const SERVICE_SANDBOX: &str = include_str!("trim/sandbox.conf");

/// Paths that are not in the sealed tree. `*` stands for any text without a slash. A pattern that ends in `/*`
/// empties a directory and keeps it; any other takes everything below it too.
#[rustfmt::skip] // grouped by reason, not one a line
pub const EXCLUDED: &[&str] = &[
    // For people who log in.
    "/usr/share/doc", "/usr/share/doc-base", "/usr/share/man", "/usr/share/info", "/usr/share/locale",
    "/usr/share/lintian", "/usr/share/bug", "/usr/share/bash-completion", "/usr/share/zsh", "/usr/share/fish",
    "/usr/share/menu", "/usr/share/common-licenses", "/usr/share/perl5/pod", "/usr/share/i18n",
    "/usr/share/calendar", "/usr/share/pixmaps", "/etc/skel", "/root/.*", "/etc/motd", "/etc/issue*",
    "/usr/share/base-files", "/usr/share/debconf", "/usr/share/debianutils", "/usr/share/tabset",
    "/usr/lib/systemd/catalog", "/var/lib/systemd/catalog", "/usr/share/polkit-1", "/usr/share/gdb",
    // Package managers; /var/lib/dpkg/status stays, because scanners read it.
    "/etc/apt", "/usr/lib/apt", "/var/lib/apt", "/usr/bin/apt*", "/usr/bin/dpkg*", "/usr/sbin/dpkg*",
    "/usr/lib/dpkg", "/usr/share/dpkg", "/etc/dpkg", "/var/lib/dpkg/info", "/var/lib/dpkg/*-old",
    "/var/lib/dpkg/lock*", "/var/lib/dpkg/triggers", "/var/lib/dpkg/updates", "/var/lib/dpkg/parts",
    "/var/lib/dpkg/alternatives", "/var/lib/dpkg/available", "/usr/sbin/policy-rc.d", "/etc/cron.*",
    "/etc/logrotate.d", "/etc/init.d", "/etc/rc*.d", "/etc/kernel", "/usr/share/initramfs-tools",
    "/etc/initramfs-tools", "/var/lib/ucf", "/var/cache/*", "/var/log/*.log", "/var/log/apt", "/var/backups/*",
    "/var/lib/systemd/deb-systemd-helper-*", "/etc/.pwd.lock", "/etc/passwd-", "/etc/group-", "/etc/shadow-",
    "/etc/gshadow-", "/etc/subuid-", "/etc/subgid-",
    // Programs that change who one is, or what one may log in with. Nobody logs in.
    "/usr/bin/su", "/usr/bin/sg", "/usr/bin/newgrp", "/usr/bin/chage", "/usr/bin/chfn", "/usr/bin/chsh",
    "/usr/bin/expiry", "/usr/bin/gpasswd", "/usr/bin/passwd", "/usr/bin/login",
    // The kernel lies in the UKI.
    "/boot/*", "/vmlinuz*", "/initrd.img*", "/usr/lib/linux-image-*",
    // Tables of hardware names, and rules for hardware that no virtual machine has. dm: our devices are
    // nobody else's business, and the rules start a program for each.
    "/usr/lib/udev/hwdb.d", "/usr/lib/udev/hwdb.bin", "/etc/udev/hwdb.d", "/etc/udev/hwdb.bin",
    "/usr/lib/udev/rules.d/50-firmware.rules", "/usr/lib/udev/rules.d/55-dm.rules",
    "/usr/lib/udev/rules.d/60-autosuspend.rules", "/usr/lib/udev/rules.d/60-cdrom_id.rules",
    "/usr/lib/udev/rules.d/60-drm.rules", "/usr/lib/udev/rules.d/60-evdev.rules",
    "/usr/lib/udev/rules.d/60-fido-id.rules", "/usr/lib/udev/rules.d/60-infiniband.rules",
    "/usr/lib/udev/rules.d/60-input-id.rules", "/usr/lib/udev/rules.d/60-persistent-alsa.rules",
    "/usr/lib/udev/rules.d/60-persistent-input.rules", "/usr/lib/udev/rules.d/60-persistent-storage-dm.rules",
    "/usr/lib/udev/rules.d/60-persistent-storage-tape.rules", "/usr/lib/udev/rules.d/60-persistent-v4l.rules",
    "/usr/lib/udev/rules.d/60-sensor.rules", "/usr/lib/udev/rules.d/60-serial.rules",
    "/usr/lib/udev/rules.d/64-btrfs.rules", "/usr/lib/udev/rules.d/70-*.rules",
    "/usr/lib/udev/rules.d/71-seat.rules", "/usr/lib/udev/rules.d/73-seat-late.rules",
    "/usr/lib/udev/rules.d/75-probe_mtd.rules", "/usr/lib/udev/rules.d/78-sound-card.rules",
    "/usr/lib/udev/rules.d/80-debian-compat.rules", "/usr/lib/udev/rules.d/80-drivers.rules",
    "/usr/lib/udev/rules.d/81-net-dhcp.rules", "/usr/lib/udev/rules.d/85-hwclock.rules",
    "/usr/lib/udev/rules.d/95-dm-notify.rules",
    // Programs that make units at each start from files that are not there: fstab, crypttab, gettys, init
    // scripts. Without them, no unit runs that is not in the image.
    "/usr/lib/systemd/system-generators/*", "/usr/lib/systemd/user-generators/*", "/etc/fstab",
    // What systemd's package starts by default and a sealed machine does not need; see WANTED_UNITS.
    "/usr/lib/systemd/system/getty.target.wants", "/usr/lib/systemd/system/graphical.target.wants",
    "/usr/lib/systemd/system/initrd*.wants", "/usr/lib/systemd/system/rescue.target.wants",
    "/usr/lib/systemd/system/runlevel*.target.wants",
    "/usr/lib/systemd/system/multi-user.target.wants/getty.target",
    "/usr/lib/systemd/system/multi-user.target.wants/systemd-*",
    "/usr/lib/systemd/system/sockets.target.wants/systemd-*",
    "/usr/lib/systemd/system/sysinit.target.wants/*",
    "/usr/lib/systemd/system/timers.target.wants/*",
    "/etc/systemd/system/getty.target.wants", "/etc/systemd/system/sysinit.target.wants/systemd-pstore.service",
    "/etc/systemd/system/multi-user.target.wants/remote-fs.target",
    "/etc/systemd/system/multi-user.target.wants/e2scrub_reap.service",
    "/etc/systemd/system/timers.target.wants/dpkg-db-backup.timer",
    "/etc/systemd/system/timers.target.wants/fstrim.timer",
    "/etc/systemd/system/timers.target.wants/apt-*", "/etc/systemd/system/timers.target.wants/e2scrub_all.timer",
    // Directories for people, and rules about them; made in /var and /run at each boot otherwise.
    "/usr/lib/tmpfiles.d/x11.conf", "/usr/lib/tmpfiles.d/home.conf", "/usr/lib/tmpfiles.d/debian.conf",
    "/usr/lib/tmpfiles.d/legacy.conf", "/usr/lib/tmpfiles.d/passwd.conf", "/usr/lib/tmpfiles.d/provision.conf",
    "/usr/lib/tmpfiles.d/journal-nocow.conf", "/usr/lib/tmpfiles.d/static-nodes-permissions.conf",
    "/usr/lib/tmpfiles.d/systemd-nologin.conf", "/usr/lib/tmpfiles.d/systemd-pstore.conf",
    // Keys and identities that belong to one machine.
    "/etc/ssh/ssh_host_*", "/var/lib/systemd/random-seed", "/var/lib/dbus/machine-id", "/etc/.updated",
    "/var/.updated",
];

/// Returns the digest of the whole profile, which is part of every image id.
#[must_use]
pub fn digest() -> Digest {
    let profile = (INITRD_MODULES, KERNEL_ARGS, MASKED_UNITS, WANTED_UNITS, LINKS, GUEST_PATH, FILES);
    Digest::of(format!("{profile:?} {SERVICE_SANDBOX:?} {EXCLUDED:?}").as_bytes())
}

/// Returns [`EXCLUDED`] as extended regular expressions over paths without the leading slash.
#[must_use]
pub fn excluded_expressions() -> Vec<String> {
    EXCLUDED
        .iter()
        .map(|pattern| {
            let path = pattern.trim_start_matches('/');
            format!("^{}$", path.replace('.', "\\.").replace('+', "\\+").replace('*', "[^/]*"))
        })
        .collect()
}

/// Returns the pattern of [`EXCLUDED`] that leaves `path` out of the sealed tree; `path` is absolute, and that of
/// a directory has no slash at its end.
#[must_use]
pub fn excluded_by(path: &str) -> Option<&'static str> {
    EXCLUDED.iter().copied().find(|pattern| matches(pattern, path))
}

/// Tells whether the pattern means the path itself or something above it; both as in [`excluded_by`].
#[must_use]
pub fn matches(pattern: &str, path: &str) -> bool {
    let mut wanted = pattern.split('/');
    let mut given = path.split('/');
    wanted.all(|wanted| given.next().is_some_and(|given| part_matches(wanted, given)))
}

/// Matches one part of a path; `*` stands for any text.
fn part_matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            ends.into_iter().any(|at| part_matches(after, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out() {
        for (path, out) in [
            ("/usr/share/doc", true),
            ("/usr/share/doc/nginx/copyright", true),
            ("/usr/share/docbook", false),
            ("/var/cache", false),
            ("/var/cache/ldconfig/aux-cache", true),
            ("/usr/bin/dpkg-query", true),
            ("/var/lib/dpkg/status", false),
            ("/var/lib/dpkg/status-old", true),
            ("/etc/ssl/certs/ca-certificates.crt", false),
            ("/usr/share/zoneinfo/UTC", false),
            ("/usr/lib/systemd/system/sockets.target.wants/dbus.socket", false),
            ("/usr/lib/systemd/system/sockets.target.wants/systemd-initctl.socket", true),
            ("/etc/systemd/system/multi-user.target.wants/nginx.service", false),
            ("/root", false),
            ("/root/.bashrc", true),
        ] {
            assert_eq!(excluded_by(path).is_some(), out, "{path}: {:?}", excluded_by(path));
        }
    }

    #[test]
    fn stars_within_a_part() {
        assert!(part_matches("a*c*e", "abcde") && part_matches("*", "") && !part_matches("a*c", "ab"));
    }

    #[test]
    fn nothing_is_both_wanted_and_masked() {
        for (_, unit) in WANTED_UNITS {
            assert!(!MASKED_UNITS.contains(unit), "{unit}");
        }
    }
}
