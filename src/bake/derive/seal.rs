//! The last step: the machine gives up every way in and everything that is its own, and puts its disk to rest. What it says of
//! itself is not believed: the bytes are inspected afterwards, with the rules and exceptions of every image.

use std::fmt::Write as _;

use super::machine::Rest;
use super::removed::{EMPTIED, KEPT, NO_MODULES, NOT_WRITTEN, PURGED, REMOVED, RESOLVED, STATE, UNMASKED};
use crate::bake::files::tidy;
use crate::bake::sandbox::{STAGE, Step};
use crate::bake::{shell, trim};
use crate::digest::{Digest, ImageId};
use crate::recipe::Exception;
use crate::recipe::inputs::RecipeInputs;
use crate::recipe::render::Rendered;

/// What the machine writes to its console before each of its last words.
pub const SAYS: &str = "rekiln-seal: ";
/// How its last word begins when something went wrong.
pub const FAILED: &str = "rekiln-seal: failed";
/// Its last word when all went well.
pub const DONE: &str = "rekiln-seal: done";

/// See [`drop_ins`]. A recipe loosens it with a file of a higher number.
const PROTECT_ROOT: &str = "[Service]\nProtectSystem=full\n";

/// Returns what the profile puts into a derived image before its last step: files staged below `stage` by number.
#[must_use]
pub fn profile_files() -> Vec<(String, Vec<u8>, u32)> {
    let mut files = vec![(trim::GUEST_PATH.to_owned(), crate::vm::guest::GUEST.to_vec(), 0o755)];
    for file in trim::FILES.iter().filter(|file| !NOT_WRITTEN.contains(&file.path)) {
        let lines = file.text.lines().filter(|line| line.trim() != NO_MODULES);
        let text: String = lines.flat_map(|line| [line, "\n"]).collect();
        files.push((file.path.to_owned(), text.into_bytes(), 0o644));
    }
    files.push((RESOLVED.0.to_owned(), RESOLVED.1.as_bytes().to_vec(), 0o644));
    files
}

/// Returns the files that make the writable root of a vendor's disk read-only for the services that recipes enable.
pub fn drop_ins(recipes: &[RecipeInputs]) -> impl Iterator<Item = Rendered> + use<'_> {
    let units =
        recipes.iter().flat_map(|recipe| &recipe.files.enable).filter(|unit| unit.ends_with(".service"));
    units.map(|unit| Rendered {
        path: format!("/usr/lib/systemd/system/{unit}.d/51-rekiln-root.conf"),
        mode: 0o644,
        owner: "root:root".to_owned(),
        content: PROTECT_ROOT.as_bytes().to_vec(),
    })
}

/// The kernel arguments of a derived image besides those of its vendor: the profile's, the recipe's, and the image id.
fn kernel_args(id: ImageId, recipe: &[String]) -> String {
    let own = trim::KERNEL_ARGS.iter().map(|&arg| arg.to_owned());
    own.chain(recipe.iter().cloned()).chain([format!("rekiln.image={id}")]).collect::<Vec<_>>().join(" ")
}

/// What the last step is made from.
#[derive(Debug)]
pub struct Sealing<'a> {
    /// The image id.
    pub id: ImageId,
    /// The recipe's kernel arguments.
    pub kernel_args: &'a [String],
    /// The recipe's exceptions: what they accept stays.
    pub exceptions: &'a [Exception],
}

impl Sealing<'_> {
    /// Returns the steps before the last one: the profile's files, masks and links, and the boot loader's arguments. The
    /// files are staged as `profile`, by their number in [`profile_files`].
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let files = profile_files();
        let mut steps: Vec<Step> = files
            .iter()
            .enumerate()
            .map(|(number, (path, _, mode))| Step::Write {
                path: path.clone(),
                from: format!("{STAGE}/profile/{number}"),
                mode: *mode,
                owner: "root:root".to_owned(),
            })
            .collect();
        let masked = trim::MASKED_UNITS.iter().filter(|unit| !UNMASKED.contains(unit) && !self.excepts(unit));
        steps.extend(masked.map(|unit| Step::Link {
            path: format!("/etc/systemd/system/{unit}"),
            target: "/dev/null".to_owned(),
        }));
        steps.push(Step::Link {
            path: "/etc/systemd/system/multi-user.target.wants/rekiln-agent.service".to_owned(),
            target: "/usr/lib/systemd/system/rekiln-agent.service".to_owned(),
        });
        steps.extend(
            trim::LINKS
                .iter()
                .map(|(path, target)| Step::Link { path: (*path).to_owned(), target: (*target).to_owned() }),
        );
        steps.push(Step::Run { argv: ["sh", "-eu", "-c", &self.boot_loader()].map(str::to_owned).into() });
        steps
    }

    fn excepts(&self, path: &str) -> bool {
        excepted_paths(self.exceptions).any(|excepted| excepted == path)
    }

    /// Debian's and Red Hat's ways to give the kernel arguments. Debian's program asks for the same file systems again and
    /// again, a minute long on a translated machine; so where it would write what is there already, the arguments are put
    /// behind those that are there.
    fn boot_loader(&self) -> String {
        let args = kernel_args(self.id, self.kernel_args);
        // On a system with SELinux the list of security modules is the vendor's: ours would leave it out.
        let plain: Vec<&str> = args.split(' ').filter(|arg| !arg.starts_with("lsm=")).collect();
        format!(
            "if [ -e /etc/selinux/config ]; then args={}; else args={}; fi\n\
             made=/boot/grub/grub.cfg\n\
             if command -v update-grub > /dev/null; then\n\
             if [ -e $made ]; then changed=$(find /etc/default/grub /etc/default/grub.d /etc/grub.d /boot -maxdepth 1 -newer $made ! -type d 2> /dev/null || :); else changed=all; fi\n\
             mkdir -p /etc/default/grub.d\n\
             printf 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX %s\"\\nGRUB_DISABLE_RECOVERY=true\\nGRUB_TIMEOUT=0\\nGRUB_DISABLE_OS_PROBER=true\\n' \
             \"$args\" > /etc/default/grub.d/99-rekiln.cfg\n\
             if [ -n \"$changed\" ] || grep -q recovery $made; then update-grub 2>&1; else\n\
             args=\"$args\" awk '/^[ \\t]*linux(16|efi)?[ \\t]/ {{ $0 = $0 \" \" ENVIRON[\"args\"] }} /^[ \\t]*set timeout=/ {{ sub(/=.*/, \"=0\") }} {{ print }}' $made > $made.rekiln-new\n\
             grep -qF -- \"$args\" $made.rekiln-new || {{ echo \"$made starts no kernel\"; exit 1; }}\n\
             chmod --reference=$made $made.rekiln-new\nmv $made.rekiln-new $made\necho \"GRUB's configuration has the kernel's arguments\"; fi\n\
             elif command -v grubby > /dev/null; then\n\
             grubby --update-kernel=ALL --args=\"$args\"\n\
             else echo 'the boot loader is neither Debian'\\''s nor Red Hat'\\''s GRUB: kernel arguments cannot be set'; exit 1; fi\n\
             if systemctl cat systemd-networkd.service > /dev/null 2>&1; then systemctl --quiet --no-reload enable systemd-networkd.service; fi\n",
            shell::quoted(&plain.join(" ")),
            shell::quoted(&args)
        )
    }

    /// Returns the program of the last step. It runs apart from every connection, says each part on the console, and ends by
    /// putting the disk to rest: after [`DONE`] when that is switching the machine off, before it otherwise. Whatever fails
    /// switches the machine off.
    #[must_use]
    pub fn program(&self, rest: Rest) -> String {
        let mut text = format!(
            "#!/bin/sh\nexec > /dev/console 2>&1 < /dev/null\n\
             end() {{ sync; echo s > /proc/sysrq-trigger; echo u > /proc/sysrq-trigger; sleep 2; echo o > /proc/sysrq-trigger; sleep 60; }}\n\
             failed() {{ echo; echo '{SAYS}failed: '\"$1\"; end; exit 1; }}\n\
             part=; trap 'failed \"$part\"' EXIT\nset -eu\n\
             export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive SUDO_FORCE_REMOVE=yes\n\
             say() {{ part=\"$1\"; echo; echo '{SAYS}'\"$1\"; }}\n"
        );
        end_services(&mut text);
        self.purge(&mut text);
        self.files(&mut text);
        // What was removed while something still had it open stays on the disk, with its content, until that has ended: the SSH
        // server's program, private directories of services. Nothing is left but systemd, this shell, and what systemd starts
        // again, which finds nothing of that.
        text.push_str(
            "say 'ending what still runs'\nsystemctl stop systemd-logind.service dbus.socket dbus.service 2> /dev/null || :\n\
             kill -KILL -1 || :\nsleep 1\nrm -rf /tmp/systemd-private-* /var/tmp/systemd-private-*\n",
        );
        // What was removed is not to be found on the disk. A volume in EC2 discards nothing: it is filled with zeros, which
        // ends when there is no room left. ext4 keeps some for itself, 16 MiB as a rule (kernel: ext4_calculate_resv_clusters).
        text.push_str(
            "fill() { for kept in /sys/fs/ext4/*/reserved_clusters; do [ ! -w \"$kept\" ] || echo 0 > \"$kept\"; done; dd if=/dev/zero of=\"$1/.rekiln-zeros\" bs=1M 2> /dev/null || :; sync; rm -f \"$1/.rekiln-zeros\"; sync; }\n\
             say 'trimming free space'\nsync\n\
             for at in $(awk '$3 ~ /^(ext4|xfs|btrfs)$/ { print $2 }' /proc/mounts); do fstrim \"$at\" 2> /dev/null || fill \"$at\"; done\n",
        );
        match rest {
            Rest::Off => {
                let _ = write!(text, "trap - EXIT\necho; echo '{DONE}'\nend\n");
            }
            // The kernel does it later than it says so; its own log of a file system is empty afterwards.
            Rest::ReadOnly(time) => {
                let _ = write!(
                    text,
                    "say 'making it read-only'\nsync\necho u > /proc/sysrq-trigger\nleft=60\n\
                     while awk '$3 ~ /^(ext[234]|xfs|btrfs|vfat)$/ && $4 ~ /^rw/ {{ found = 1 }} END {{ exit !found }}' /proc/mounts; do\n\
                     left=$((left - 1))\n[ $left -gt 0 ] || exit 1\nsleep 1\ndone\n\
                     trap - EXIT\necho; echo '{DONE}'\nsleep {}\nend\n",
                    time.as_secs()
                );
            }
        }
        text
    }

    fn purge(&self, text: &mut String) {
        // The keys of this bake are written over where they lie, on whatever disk that is; their copies of a moment, which
        // cloud-init makes, are in free space.
        text.push_str(
            "say 'removing ways in'\n\
             find /root/.ssh /etc/ssh/ssh_host_* /var/lib/cloud -xdev -type f -exec shred -n 0 -z {} + 2> /dev/null || :\n",
        );
        let kept_rules: Vec<&str> = self.exceptions.iter().map(|exception| exception.rule.as_str()).collect();
        let purged: Vec<&str> = PURGED
            .iter()
            .filter(|(_, rule)| !kept_rules.contains(rule))
            .map(|(package, _)| *package)
            .collect();
        // The packages' scripts would have systemd read all its units again for each of them, on a machine that is about to
        // be switched off, which takes it seconds each time.
        let _ = write!(
            text,
            "packages='{}'\n\
             if command -v dpkg > /dev/null; then\n\
             there=$(dpkg-query -W -f '${{Package}}\\n' $packages 2> /dev/null || :)\n\
             mkdir -p /run/rekiln-programs\nln -sf /bin/true /run/rekiln-programs/systemctl\n\
             [ -z \"$there\" ] || PATH=/run/rekiln-programs:$PATH dpkg --purge --force-depends --force-remove-protected --force-unsafe-io $there > /run/rekiln-purge 2>&1 || {{ cat /run/rekiln-purge; exit 1; }}\n\
             else for package in $packages; do if rpm -q \"$package\" > /dev/null 2>&1; then rpm -e --nodeps \"$package\"; fi; done; fi\n",
            purged.join(" ")
        );
        // No account keeps a password, and none a shell but root, which nobody can become.
        text.push_str(
            "say 'locking accounts'\n\
             sed -i -E 's/^([^:]*):[^:]*:/\\1:*:/' /etc/shadow\n\
             [ ! -f /etc/gshadow ] || sed -i -E 's/^([^:]*):[^:]*:/\\1:*:/' /etc/gshadow\n\
             sed -i -E '/^root:/!s,:[^:]*$,:/usr/sbin/nologin,' /etc/passwd\n",
        );
    }

    fn files(&self, text: &mut String) {
        let managed = self
            .exceptions
            .iter()
            .any(|exception| exception.rule == "package-manager" && exception.path.is_none());
        let kept = |pattern: &str| {
            KEPT.contains(&pattern)
                || (managed && is_package_manager(pattern))
                || excepted_paths(self.exceptions).any(|path| trim::matches(pattern, path))
        };
        let _ = writeln!(text, "say 'taking privileges'");
        let mut except: Vec<String> = crate::inspect::SETUID.iter().map(|&path| path.to_owned()).collect();
        except.extend(excepted_paths(self.exceptions).map(str::to_owned));
        text.extend(shell::lines(&Step::Unprivilege { except }));
        text.push_str(
            "if command -v getcap > /dev/null; then for at in $(awk '$3 ~ /^(ext4|xfs|btrfs)$/ { print $2 }' /proc/mounts); do \
             find \"$at\" -xdev -type f -exec getcap -- {} + 2> /dev/null | while read -r file _; do setcap -r \"$file\"; done; done; fi\n",
        );
        let _ = writeln!(text, "say 'removing what belongs to this machine'");
        // One program for all: each that a translated machine starts costs 50 ms.
        let mut removed = String::new();
        for step in tidy() {
            match step {
                Step::Remove { path } => removed.extend([" ", &shell::quoted(&path)]),
                step => text.extend(shell::lines(&step)),
            }
        }
        for pattern in trim::EXCLUDED.iter().chain(REMOVED).chain(STATE).filter(|pattern| !kept(pattern)) {
            removed.extend([" ", &glob(pattern)]);
        }
        let _ = writeln!(text, "rm -rf --{removed}");
        for directory in EMPTIED.iter().filter(|directory| !kept(directory)) {
            let _ =
                writeln!(text, "if [ -d {directory} ]; then find {directory} -xdev ! -type d -delete; fi");
        }
        let denied: Vec<String> = denied_modules()
            .map(|module| {
                format!("-name {}", shell::quoted(&format!("{}.ko*", module.replace(['-', '_'], "[-_]"))))
            })
            .collect();
        let _ = writeln!(
            text,
            "say 'removing modules that no server needs'\nfind /lib/modules/ \\( {} \\) -delete",
            denied.join(" -o ")
        );
        // What lies below the mounts of the running system, among it device nodes for a system without devtmpfs.
        text.push_str(
            "mkdir -p /run/rekiln-root\nmount --bind / /run/rekiln-root\n\
             for at in dev run tmp proc sys; do find /run/rekiln-root/$at -mindepth 1 -xdev -delete; done\n\
             umount /run/rekiln-root\n",
        );
        // Written anew after everything that may have filled them.
        text.push_str(
            ": > /etc/machine-id\nchmod 444 /etc/machine-id\nrm -f /var/lib/dbus/machine-id\n\
             if [ ! -L /etc/resolv.conf ]; then printf 'nameserver 169.254.169.253\\noptions timeout:2\\n' > /etc/resolv.conf; fi\n",
        );
    }
}

/// Everything ends that could write after this: what is removed must stay removed.
fn end_services(text: &mut String) {
    text.push_str(
        "say 'ending services'\n\
         systemctl stop systemd-random-seed.service systemd-timesyncd.service chrony.service rsyslog.service cron.service \
         dbus.service NetworkManager.service networking.service systemd-networkd.service systemd-resolved.service \
         systemd-journald-dev-log.socket systemd-journald-audit.socket systemd-journald.socket systemd-update-utmp.service \
         unattended-upgrades.service apt-daily.timer apt-daily-upgrade.timer logrotate.timer 2> /dev/null || :\n\
         for unit in $(systemctl list-units --plain --no-legend --type=service --state=running | awk '{ print $1 }'); do\n\
         case $unit in rekiln-seal*|systemd-journald*|systemd-udevd*|systemd-logind*) ;; *) systemctl stop --no-block \"$unit\" || : ;; esac\ndone\n\
         sleep 1\nsystemctl kill --signal=KILL systemd-journald.service 2> /dev/null || :\n",
    );
}

/// Returns the file names, without their ending, of the modules that the profile forbids to load. The kernel takes `-` and
/// `_` for the same, file names do not.
fn denied_modules() -> impl Iterator<Item = &'static str> {
    let files = trim::FILES.iter().filter(|file| file.path.contains("/modprobe.d/"));
    let lines = files.flat_map(|file| file.text.lines());
    lines.filter_map(|line| line.strip_prefix("install ")?.split_whitespace().next())
}

/// Returns the paths that exceptions name.
fn excepted_paths(exceptions: &[Exception]) -> impl Iterator<Item = &str> {
    exceptions.iter().filter_map(|exception| exception.path.as_deref())
}

/// Tells whether a pattern means a package manager's own files.
fn is_package_manager(pattern: &str) -> bool {
    ["apt", "dpkg", "rpm", "dnf", "yum"].iter().any(|name| pattern.contains(name))
}

/// Writes a pattern so that the shell expands its stars and nothing else.
fn glob(pattern: &str) -> String {
    // `.*` would mean the directory itself and the one above.
    let pattern = pattern.replace("/.*", "/.[!.]*");
    let mut text = String::new();
    for part in pattern.split_inclusive("[!.]*").flat_map(|part| part.split_inclusive('*')) {
        match part.strip_suffix('*') {
            Some(plain) if plain.ends_with("[!.]") => {
                text.push_str(&shell::quoted(plain.trim_end_matches("[!.]")));
                text.push_str("[!.]*");
            }
            Some(plain) => {
                if !plain.is_empty() {
                    text.push_str(&shell::quoted(plain));
                }
                text.push('*');
            }
            None => text.push_str(&shell::quoted(part)),
        }
    }
    text
}

/// Returns the digest of everything here that shapes a derived image's bytes.
#[must_use]
pub fn digest() -> Digest {
    let none = Sealing { id: Digest::of(b""), kernel_args: &[], exceptions: &[] };
    Digest::of(
        format!("{:?} {:?} {} {PROTECT_ROOT}", profile_files(), none.steps(), none.program(Rest::Off))
            .as_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Run as _;

    fn shell_reads(text: &str) {
        std::process::Command::new("sh")
            .args(["-n", "-s"])
            .run_with_input(text.as_bytes())
            .expect("a shell reads it");
    }

    #[test]
    fn the_last_step_is_a_program_that_always_puts_the_disk_to_rest() {
        let sealing = Sealing { id: Digest::of(b"x"), kernel_args: &["quiet".to_owned()], exceptions: &[] };
        let stays = sealing.program(Rest::ReadOnly(std::time::Duration::from_secs(5)));
        shell_reads(&stays);
        let (before, after) = stays.split_once(DONE).expect("its last word");
        assert!(
            before.contains("echo u > /proc/sysrq-trigger\n") && after.contains("sleep 5\nend\n"),
            "{stays}"
        );
        let text = sealing.program(Rest::Off);
        shell_reads(&text);
        shell_reads(&sealing.boot_loader());
        assert!(text.trim_end().ends_with("end") && text.contains("trap 'failed"), "{text}");
        assert!(text.contains("openssh-server"));
        assert!(!text.contains("'/boot/'"), "a vendor's disk boots from there");
    }

    #[test]
    fn what_an_exception_accepts_stays() {
        let exception = |rule: &str, path: Option<&str>| Exception {
            rule: rule.to_owned(),
            path: path.map(str::to_owned),
            why: "because".to_owned(),
        };
        let exceptions = [
            exception("package-manager", Some("/usr/bin/apt-get")),
            exception("cloud-agent", None),
            exception("setuid", Some("/usr/bin/ping")),
            exception("getty", Some("serial-getty@.service")),
        ];
        let sealing = Sealing { id: Digest::of(b"x"), kernel_args: &[], exceptions: &exceptions };
        let text = sealing.program(Rest::Off);
        assert!(!text.contains("'/usr/bin/apt'*"), "{text}");
        assert!(text.contains("'/usr/bin/dpkg'*"), "{text}");
        assert!(!text.contains(" cloud-init ") && text.contains(" sudo"), "{text}");
        assert!(text.contains("! -path '/usr/bin/ping'"), "{text}");
        let masks = |unit: &str| {
            sealing.steps().iter().any(|step| matches!(step, Step::Link { path, .. } if path.ends_with(unit)))
        };
        assert!(!masks("/serial-getty@.service") && masks("/getty@.service"));
    }

    #[test]
    fn stars_and_nothing_else_are_expanded() {
        assert_eq!(glob("/usr/bin/apt*"), "'/usr/bin/apt'*");
        assert_eq!(glob("/root/.*"), "'/root/.'[!.]*");
        assert_eq!(glob("/home/*/.ssh"), "'/home/'*'/.ssh'");
        assert_eq!(glob("/tmp/.[!.]*"), "'/tmp/.'[!.]*");
        assert_eq!(glob("/etc/fstab"), "'/etc/fstab'");
    }
}
