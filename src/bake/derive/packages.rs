//! Packages on a vendor's machine, by its own package manager.
//!
//! Nothing is left to guess: each name must be that of a package (no virtual one, no group, no pattern), what is merely
//! recommended stays out, and questions are answered with the package's own configuration. dnf's part is tested with Debian's
//! dnf and packages of the test's own (tests/derive/dnf.rs), and was not run on a distribution that lives by it.

use std::fmt::Write as _;

use crate::bake::shell::quoted;

/// Refuses to start what is being installed: its state would be in the image, and its start costs time.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Where a systemctl lies that does not have systemd read all units again for each package, which takes translated machines
/// seconds. Nothing that is installed starts here, and systemd finds units that it has not read yet.
const PROGRAMS: &str = "/run/rekiln-programs";

/// apt, which asks nothing. The vendor's own timers may hold its lock for a while.
const APT: &str = "apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confnew \
    -o Dpkg::Options::=--force-unsafe-io -o Acquire::Retries=3";

/// Returns the script that installs the packages, each a name or `name=version`; nothing when there are none.
#[must_use]
pub fn install<'a>(packages: impl IntoIterator<Item = &'a String>) -> Option<String> {
    let packages: Vec<&String> = packages.into_iter().collect();
    if packages.is_empty() {
        return None;
    }
    let mut script = String::from("exec < /dev/null\nif command -v apt-get > /dev/null; then\n");
    apt(&mut script, &packages);
    script.push_str("elif command -v dnf > /dev/null; then\n");
    dnf(&mut script, &packages);
    script.push_str(
        "else\n  echo 'this system has neither apt nor dnf: its packages cannot be installed'\n  exit 1\nfi\n",
    );
    Some(script)
}

fn apt(script: &mut String, packages: &[&String]) {
    // An archive that does not answer is an error, and not a reason to install what was known before.
    let _ = writeln!(script, "  {APT} -o APT::Update::Error-Mode=any update");
    // One call for all: each reads all that the archive has, four seconds on a translated machine. `show` knows virtual
    // packages, too, but has nothing to say about them.
    let _ = writeln!(
        script,
        "  found=\"$(apt-cache show --no-all-versions -- {} 2> /dev/null | sed -n 's/^Package: //p')\"",
        names(packages)
    );
    for package in packages {
        let said = quoted(&format!(
            "the archive has no package `{package}` (a virtual package is none: name the one that is meant)"
        ));
        let _ = writeln!(
            script,
            "  echo \"$found\" | grep -Fqx -- {} || {{ echo {said}; exit 1; }}",
            quoted(plain(package))
        );
    }
    script.push_str(&installing(&names(packages)));
}

/// Returns the shell's lines that have apt install `what`, words of the shell.
pub(super) fn installing(what: &str) -> String {
    format!(
        "  [ -e {POLICY} ] || {{ printf '#!/bin/sh\\nexit 101\\n' > {POLICY}; chmod 755 {POLICY}; made=1; }}\n  \
         mkdir -p {PROGRAMS}\n  \
         printf '%s\\n' '#!/bin/sh' 'for word; do case $word in daemon-reload|daemon-reexec) exit 0; esac; done' 'exec /bin/systemctl \"$@\"' > {PROGRAMS}/systemctl\n  \
         chmod 755 {PROGRAMS}/systemctl\n  \
         {APT} -o DPkg::Path={PROGRAMS}:$PATH install --no-install-recommends --allow-downgrades -- {what}\n  \
         rm -rf {PROGRAMS}\n  \
         [ -z \"${{made:-}}\" ] || rm -f {POLICY}\n"
    )
}

fn dnf(script: &mut String, packages: &[&String]) {
    // dnf writes a version behind a dash.
    let packages: Vec<String> = packages.iter().map(|package| package.replacen('=', "-", 1)).collect();
    let packages: Vec<&String> = packages.iter().collect();
    script.push_str("  dnf='dnf -y --setopt=install_weak_deps=False --setopt=tsflags=nodocs'\n");
    for package in &packages {
        let said = quoted(&format!("the repositories have no package `{package}`"));
        let _ = writeln!(
            script,
            "  [ -n \"$(dnf -q repoquery --qf '%{{name}}' -- {0} 2> /dev/null | grep -Fx -- {1})\" ] || {{ echo {said}; exit 1; }}",
            quoted(package),
            quoted(&unversioned(package)),
        );
    }
    let _ = writeln!(script, "  $dnf install -- {}", names(&packages));
}

/// Returns a deb's name without the version that was written behind it, or the architecture.
pub(super) fn plain(package: &str) -> &str {
    package.split(['=', ':']).next().unwrap_or(package)
}

/// Returns an rpm's name without the version that was written behind it.
fn unversioned(package: &str) -> String {
    let version = |at: &usize| package[at + 1..].starts_with(|c: char| c.is_ascii_digit());
    let at = package.match_indices('-').map(|(at, _)| at).find(version);
    at.map_or(package, |at| &package[..at]).to_owned()
}

fn names(packages: &[&String]) -> String {
    packages.iter().map(|package| quoted(package)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Run as _;

    #[test]
    fn nothing_to_install_is_nothing_to_run() {
        assert_eq!(install([]), None);
    }

    #[test]
    fn the_script_is_one() {
        let packages = ["nginx-light=1.22.1-9".to_owned(), "a'b".to_owned()];
        let script = install(&packages).expect("a script");
        std::process::Command::new("sh")
            .args(["-n", "-s"])
            .run_with_input(script.as_bytes())
            .expect("a shell reads it");
        assert!(script.contains("-- 'nginx-light=1.22.1-9' 'a'\\''b'"), "{script}");
        assert!(script.contains("'nginx-light-1.22.1-9'"), "{script}");
        assert_eq!(unversioned("nginx-light-1.22.1-9"), "nginx-light");
        assert_eq!(unversioned("python3-libs"), "python3-libs");
    }
}
