//! The layer with a recipe's Debian packages: installed by the tree's own dpkg.

use std::path::{Path, PathBuf};

use super::deb::PlainDeb;
use super::sandbox::{STAGE, Step};
use crate::error::{Doing as _, Error, Result};
use crate::lock::{Package, Role, vault};
use crate::store::Store;

/// Files under these paths are never unpacked: nobody reads manuals on a machine that nobody logs in to.
const NOT_UNPACKED: [&str; 8] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
    "/usr/share/linda/*",
    "/usr/share/bug/*",
    "/usr/share/groff/*",
];

/// The top directories that Debian 12 keeps in `/usr`.
pub const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Keeps services from starting while packages are configured (policy-rc.d; invoke-rc.d(8)).
const POLICY: &str = "#!/bin/sh\nexit 101\n";

/// Makes the ground of a tree that has no parent: merged `/usr`, an empty package database, and the files of
/// all packages, so that the tree's own dpkg can run in it.
///
/// # Errors
/// Whatever unpacking returns.
pub fn bootstrap(tree: &Path, packages: &[PlainDeb]) -> Result<()> {
    for dir in MERGED {
        std::fs::create_dir_all(tree.join("usr").join(dir)).doing(|| format!("making /usr/{dir}"))?;
        std::os::unix::fs::symlink(format!("usr/{dir}"), tree.join(dir))
            .doing(|| format!("making /{dir}"))?;
    }
    for dir in ["etc", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"] {
        std::fs::create_dir_all(tree.join(dir)).doing(|| format!("making /{dir}"))?;
    }
    for file in ["var/lib/dpkg/status", "var/lib/dpkg/available"] {
        std::fs::write(tree.join(file), "").doing(|| format!("making /{file}"))?;
    }
    packages.iter().try_for_each(|package| package.unpack(tree, &NOT_UNPACKED))
}

/// Returns the file of a package, after checking all of its bytes: a vault may have been damaged since it was
/// filled.
///
/// # Errors
/// Bytes that are not the locked ones.
pub fn verified(store: &Store, package: &Package) -> Result<PathBuf> {
    vault::verified(store, package.sha256)
        .map_err(|error| error.during(format!("checking {} {}", package.name, package.version)))
}

/// Returns the packages that are installed in the root, in the lock's order.
#[must_use]
pub fn rooted(packages: &[Package]) -> Vec<&Package> {
    packages.iter().filter(|package| package.role == Role::Root).collect()
}

/// Returns the configuration of the tree's dpkg.
#[must_use]
pub fn config() -> String {
    let excluded: String = NOT_UNPACKED.iter().flat_map(|path| ["path-exclude=", path, "\n"]).collect();
    format!("force-unsafe-io\nno-debsig\nno-pager\n{excluded}")
}

/// Writes what the steps read into the directory staged as `packages`.
///
/// # Errors
/// Whatever writing returns.
pub fn stage(dir: &Path) -> Result<()> {
    for (name, text) in [("dpkg.cfg", config().as_str()), ("policy-rc.d", POLICY), ("machine-id", "")] {
        std::fs::write(dir.join(name), text).doing(|| format!("staging {name}"))?;
    }
    Ok(())
}

/// Returns the steps that install `packages` in a tree, given stages `debs` and `packages`. No file keeps a
/// set-user-id or set-group-id bit but those in `privileged`.
#[must_use]
pub fn steps(packages: &[&Package], privileged: &[String]) -> Vec<Step> {
    const CONFIG: &str = "/etc/dpkg/dpkg.cfg.d/rekiln";
    const POLICY_FILE: &str = "/usr/sbin/policy-rc.d";
    let dpkg = |args: &[&str], files: Vec<String>| {
        // The first error is the last of its words; going on, as it does up to 50 times, would bury the cause
        // under what follows from it.
        let mut argv: Vec<String> =
            ["dpkg", "--force-depends", "--force-confnew", "--abort-after=1"].map(str::to_owned).into();
        argv.extend(args.iter().map(|&arg| arg.to_owned()));
        argv.extend(files);
        Step::Run { argv }
    };
    let debs = packages.iter().map(|package| format!("{STAGE}/debs/{}", package.sha256)).collect();
    let staged = |path: &str, from: &str, mode| Step::Write {
        path: path.to_owned(),
        from: format!("{STAGE}/packages/{from}"),
        mode,
        owner: "0:0".to_owned(),
    };
    vec![
        staged(CONFIG, "dpkg.cfg", 0o644),
        staged(POLICY_FILE, "policy-rc.d", 0o755),
        // All are unpacked before any is configured, so that dpkg can order the configuring by itself; what
        // is not configured yet when another is unpacked is the "depends" that is forced.
        dpkg(&["--unpack"], debs),
        dpkg(&["--configure", "--pending"], Vec::new()),
        Step::Remove { path: CONFIG.to_owned() },
        Step::Remove { path: POLICY_FILE.to_owned() },
        // systemd's package makes a random one. Empty and not removed: images above must not lose the ground's.
        staged("/etc/machine-id", "machine-id", 0o644),
        Step::Unprivilege { except: privileged.to_vec() },
    ]
}

/// Checks that the package database, whose text is `status`, says that every package is installed.
///
/// # Errors
/// The packages that are not, by name.
pub fn check_installed(status: &str, packages: &[&Package]) -> Result<()> {
    let mut installed = std::collections::BTreeSet::new();
    for stanza in status.split("\n\n") {
        let name = stanza.lines().find_map(|line| line.strip_prefix("Package: "));
        if stanza.lines().any(|line| line == "Status: install ok installed") {
            installed.extend(name);
        }
    }
    let missing: Vec<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .filter(|name| !installed.contains(name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::failed(format!("dpkg did not finish installing {}", missing.join(", "))))
}
