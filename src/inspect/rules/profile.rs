//! The strict profile's minimum, in tables. What a bake sets may be stricter; `bake::trim` has it.

/// Kernel arguments that must be there: name and the values that will do; no values means any.
/// From `bake::trim`, those without which a barrier is missing rather than lower.
pub const KERNEL_ARGS: &[(&str, &[&str])] = &[
    ("rekiln.image", &[]),
    ("rekiln.roothash", &[]),
    ("lockdown", &["confidentiality", "integrity"]),
    ("init_on_alloc", &["1"]),
    ("init_on_free", &["1"]),
    ("slab_nomerge", &[""]),
    ("page_alloc.shuffle", &["1"]),
    ("randomize_kstack_offset", &["on", "1"]),
    ("vsyscall", &["none"]),
    ("debugfs", &["off"]),
    ("systemd.gpt_auto", &["0"]),
    ("systemd.import_credentials", &["no", "0"]),
];

/// Those of them that only a sealed disk has: image and root hash, which its initrd reads.
pub const SEALED_ARGS: &[&str] = &["rekiln.image", "rekiln.roothash"];

/// Kernel arguments that must not be there, with the values meant; no values means any.
pub const FORBIDDEN_ARGS: &[(&str, &[&str])] = &[
    // Another first program, or a shell beside the system.
    ("init", &[]),
    ("rdinit", &[]),
    ("rekiln.debug", &[]),
    ("systemd.debug-shell", &[]),
    ("systemd.debug_shell", &[]),
    ("systemd.unit", &[]),
    ("systemd.run", &[]),
    ("systemd.wants", &[]),
    ("rd.break", &[]),
    ("single", &[]),
    ("S", &[]),
    ("s", &[]),
    ("1", &[]),
    ("emergency", &[]),
    ("rescue", &[]),
    ("systemd.set_credential", &[]),
    ("systemd.set_credential_binary", &[]),
    // The kernel's own defences off.
    ("mitigations", &["off"]),
    ("nokaslr", &[]),
    ("nosmep", &[]),
    ("nosmap", &[]),
    ("nopti", &[]),
    ("pti", &["off"]),
    ("spectre_v2", &["off"]),
    ("nospectre_v2", &[]),
    ("iomem", &["relaxed"]),
    ("apparmor", &["0"]),
    ("module.sig_enforce", &["0"]),
    ("kgdboc", &[]),
    ("ima_appraise", &["off"]),
];

/// Kernel settings that must be there: key and the values that will do.
pub const SYSCTL: &[(&str, &[&str])] = &[
    ("fs.protected_fifos", &["1", "2"]),
    ("fs.protected_hardlinks", &["1"]),
    ("fs.protected_regular", &["1", "2"]),
    ("fs.protected_symlinks", &["1"]),
    ("fs.suid_dumpable", &["0"]),
    ("kernel.dmesg_restrict", &["1"]),
    ("kernel.kexec_load_disabled", &["1"]),
    ("kernel.kptr_restrict", &["1", "2"]),
    ("kernel.perf_event_paranoid", &["2", "3", "4"]),
    ("kernel.randomize_va_space", &["2"]),
    ("kernel.sysrq", &["0"]),
    ("kernel.unprivileged_bpf_disabled", &["1", "2"]),
    ("kernel.unprivileged_userns_clone", &["0"]),
    ("kernel.yama.ptrace_scope", &["1", "2", "3"]),
    ("net.core.bpf_jit_harden", &["2"]),
    ("net.ipv4.conf.all.accept_redirects", &["0"]),
    ("net.ipv4.conf.all.accept_source_route", &["0"]),
    ("net.ipv4.conf.all.rp_filter", &["1", "2"]),
    ("net.ipv4.conf.all.send_redirects", &["0"]),
    ("net.ipv4.tcp_syncookies", &["1"]),
    ("net.ipv6.conf.all.accept_redirects", &["0"]),
    ("net.ipv6.conf.all.accept_source_route", &["0"]),
];

/// Modules that must be refused by an `install … /bin/false` line: those with a record of holes that a program
/// without rights could make the kernel load.
pub const DENIED_MODULES: &[&str] = &[
    "algif_aead",
    "algif_skcipher",
    "appletalk",
    "ax25",
    "bluetooth",
    "can",
    "cramfs",
    "dccp",
    "firewire-core",
    "freevxfs",
    "hfs",
    "hfsplus",
    "jffs2",
    "netrom",
    "n-hdlc",
    "rds",
    "rose",
    "sctp",
    "tipc",
    "udf",
    "usb-storage",
    "x25",
];

/// Settings that each service of a recipe needs, and the values that will do. A sealed root is read-only already, so
/// `ProtectSystem=` is asked for on other disks only ([`WRITABLE_SANDBOX`]).
pub const SANDBOX: &[(&str, &[&str])] = &[
    ("NoNewPrivileges", YES),
    ("PrivateTmp", YES),
    ("ProtectHome", &["yes", "true", "1", "on", "read-only", "tmpfs"]),
    ("ProtectControlGroups", YES),
    ("ProtectKernelModules", YES),
    ("ProtectKernelTunables", YES),
    ("RestrictSUIDSGID", YES),
    ("LockPersonality", YES),
];

/// What each service needs besides where the root is writable: without it, one that is taken over changes what root
/// runs. `full` is the least that covers `/etc` (`systemd.exec(5)`).
pub const WRITABLE_SANDBOX: &[(&str, &[&str])] = &[("ProtectSystem", &["full", "strict"])];

/// What systemd takes for true (`systemd.syntax(7)`).
pub const YES: &[&str] = &["yes", "true", "1", "on"];

/// Files that may be setuid or setgid: the message bus starts services for others with the first, which checks
/// its caller itself and may be run by the bus alone.
pub const SETUID: &[&str] = &["/usr/lib/dbus-1.0/dbus-daemon-launch-helper"];

/// Files that may have capabilities: none, since systemd gives services theirs.
pub const CAPABILITIES: &[&str] = &[];
