//! Decide: what the last step of a derived image removes, and what of the profile does not hold for a vendor's disk.

/// Patterns of [`crate::bake::trim::EXCLUDED`] that stay on a vendor's disk: it boots by its own kernel, initrd and boot loader, mounts
/// what its fstab says, and loads modules for the hardware that it finds.
pub(super) const KEPT: &[&str] = &[
    "/boot/*",
    "/vmlinuz*",
    "/initrd.img*",
    "/usr/lib/linux-image-*",
    "/etc/fstab",
    "/etc/kernel",
    "/usr/lib/systemd/system-generators/*",
    "/usr/lib/udev/hwdb.d",
    "/usr/lib/udev/hwdb.bin",
    "/usr/lib/systemd/system/sysinit.target.wants/*",
    "/usr/lib/systemd/system/sockets.target.wants/systemd-*",
    "/usr/lib/systemd/system/initrd*.wants",
    "/usr/lib/tmpfiles.d/static-nodes-permissions.conf",
    "/etc/init.d",
];

/// Units of [`crate::bake::trim::MASKED_UNITS`] that a writable root and modules on demand need.
pub(super) const UNMASKED: &[&str] = &["systemd-remount-fs.service", "modprobe@.service"];

/// Profile files that a vendor's disk does not get: coldplugging is the vendor's, and its resolver may be a service.
pub(super) const NOT_WRITTEN: &[&str] =
    &["/usr/lib/systemd/system/systemd-udev-trigger.service.d/50-rekiln.conf", "/etc/resolv.conf"];

/// systemd-resolved, where a vendor has it, answers its neighbours' questions on port 5355 unless it is told not to.
pub(super) const RESOLVED: (&str, &str) =
    ("/usr/lib/systemd/resolved.conf.d/50-rekiln.conf", "[Resolve]\nLLMNR=no\nMulticastDNS=no\n");

/// A line of the profile's kernel settings that a machine which loads modules on demand cannot have.
pub(super) const NO_MODULES: &str = "kernel.modules_disabled = 1";

/// Packages that let someone in or carry out what the cloud says. With their files gone but their entries left, scanners
/// would go on reporting them.
pub(super) const PURGED: &[(&str, &str)] = &[
    ("openssh-server", "ssh-server"),
    ("openssh-sftp-server", "ssh-server"),
    ("dropbear", "ssh-server"),
    ("cloud-init", "cloud-agent"),
    ("cloud-guest-utils", "cloud-agent"),
    ("cloud-initramfs-growroot", "cloud-agent"),
    ("amazon-ssm-agent", "cloud-agent"),
    ("ec2-instance-connect", "cloud-agent"),
    ("ec2-hibinit-agent", "cloud-agent"),
    ("qemu-guest-agent", "cloud-agent"),
    ("walinuxagent", "cloud-agent"),
    ("google-guest-agent", "cloud-agent"),
    ("open-vm-tools", "cloud-agent"),
    ("sudo", "privilege-tool"),
    ("unattended-upgrades", "package-manager"),
];

/// Programs besides those of [`crate::bake::trim::EXCLUDED`] that rules refuse: other families of Linux have them elsewhere or more.
pub(super) const REMOVED: &[&str] = &[
    "/usr/bin/sudo*",
    "/usr/bin/pkexec",
    "/usr/bin/runuser",
    "/usr/sbin/runuser",
    "/usr/bin/newuidmap",
    "/usr/bin/newgidmap",
    "/usr/bin/yum*",
    "/usr/bin/dnf*",
    "/usr/bin/rpm*",
    "/usr/bin/microdnf",
    "/usr/bin/snap*",
    "/usr/bin/unattended-upgrade*",
    "/var/lib/snapd",
    "/var/lib/dnf",
    "/sbin/agetty",
    "/usr/sbin/agetty",
];

/// What the first boot left, and what belongs to one machine.
pub(super) const STATE: &[&str] = &[
    "/var/lib/cloud",
    "/etc/cloud",
    // Ours: a cloud-init that an exception keeps would never run.
    "/etc/cloud/cloud-init.disabled",
    "/run/cloud-init",
    "/etc/netplan/50-cloud-init.yaml",
    "/etc/network/interfaces.d/50-cloud-init*",
    "/etc/sudoers.d/90-cloud-init-users",
    "/etc/sudoers.d",
    "/etc/sudoers",
    "/var/lib/dhcp/*",
    "/var/lib/dhclient/*",
    "/var/lib/NetworkManager/*",
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/credential.secret",
    "/var/lib/systemd/network/*",
    "/var/lib/systemd/timesync/*",
    "/var/lib/systemd/timers/*",
    "/var/lib/systemd/linger/*",
    "/var/lib/systemd/deb-systemd-user-helper-enabled",
    "/var/lib/private/*",
    "/etc/ssh/ssh_host_*",
    "/etc/ssh/sshd_config*",
    "/etc/udev/rules.d/70-persistent-net.rules",
    "/etc/hostid",
    "/root/.ssh",
    "/root/.bash_history",
    "/home/*/.ssh",
    "/home/*/.bash_history",
    "/home/*/.cache",
    "/root/.cache",
    "/tmp/*",
    "/tmp/.[!.]*",
    "/var/tmp/*",
    "/var/tmp/.[!.]*",
    "/var/spool/mail/*",
    "/var/crash/*",
    "/var/log/journal",
    "/var/lib/ucf",
    "/var/lib/apt",
    "/var/cache/apt",
    "/swapfile.rekiln",
];

/// Directories in which files are removed and directories stay: services do not start without theirs.
pub(super) const EMPTIED: &[&str] = &["/var/log", "/var/cache", "/var/backups"];
