//! The layer with a recipe's own content: files, artifacts, scripts, services.

use std::path::Path;

use super::layers::Script;
use super::sandbox::{STAGE, Step};
use crate::error::{Doing as _, Error, Result};
use crate::notation;
use crate::recipe::render::Rendered;
use crate::recipe::{Fetch, Services};

/// Collects steps and the staged files they read.
#[derive(Debug)]
pub struct Staging<'a> {
    dir: &'a Path,
    count: usize,
    steps: Vec<Step>,
}

impl<'a> Staging<'a> {
    /// Starts with nothing; `dir` is staged as `files`.
    #[must_use]
    pub const fn new(dir: &'a Path) -> Self {
        Self { dir, count: 0, steps: Vec::new() }
    }

    /// Returns the steps.
    #[must_use]
    pub fn into_steps(self) -> Vec<Step> {
        self.steps
    }

    /// Adds any step.
    pub fn step(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Adds a file.
    ///
    /// # Errors
    /// Whatever staging its content returns.
    pub fn file(&mut self, file: &Rendered) -> Result<()> {
        let from = self.stage(&file.content)?;
        let Rendered { path, mode, owner, .. } = file.clone();
        self.steps.push(Step::Write { path, from, mode, owner });
        Ok(())
    }

    /// Adds an artifact from the vault, which is staged as `vault`.
    ///
    /// # Errors
    /// Permissions that are not octal.
    pub fn fetch(&mut self, fetch: &Fetch) -> Result<()> {
        let from = format!("{STAGE}/vault/{}", fetch.sha256);
        if fetch.unpack {
            self.steps.push(Step::Directory { path: fetch.path.clone() });
            let argv = ["tar", "--extract", "--no-same-owner", "--file", &from, "--directory", &fetch.path];
            self.steps.push(Step::Run { argv: argv.map(str::to_owned).into() });
        } else {
            let mode = notation::mode(&fetch.mode).map_err(Error::invalid)?;
            self.steps.push(Step::Write {
                path: fetch.path.clone(),
                from,
                mode,
                owner: "root:root".to_owned(),
            });
        }
        Ok(())
    }

    /// Adds a script, run by the program its first line names.
    ///
    /// # Errors
    /// Whatever staging it returns.
    pub fn script(&mut self, script: &Script) -> Result<()> {
        const PLACE: &str = "/tmp/rekiln-script";
        let from = self.stage(&script.text)?;
        // Copied out of the stage: that is mounted noexec.
        self.steps.push(Step::Write {
            path: PLACE.to_owned(),
            from,
            mode: 0o700,
            owner: "root:root".to_owned(),
        });
        let argv = vec![PLACE.to_owned()];
        // A script after which the machine restarts may restart it itself, and lose the connection with that.
        self.steps.push(if script.expect_disconnect || script.reboot {
            Step::RunDetached { argv, may_reboot: script.reboot }
        } else {
            Step::Run { argv }
        });
        // At once: a machine that is on its way down can still be waited for, and not be worked on.
        if script.reboot {
            self.steps.push(Step::Reboot);
        }
        self.steps.push(Step::Remove { path: PLACE.to_owned() });
        Ok(())
    }

    /// Adds the enabling and disabling of units, by the tree's own systemctl. Where a systemd runs, it need not read all units
    /// again for that: what is enabled starts at the image's own boot.
    pub fn services(&mut self, services: &Services) {
        for (verb, units) in [("disable", &services.disable), ("enable", &services.enable)] {
            if units.is_empty() {
                continue;
            }
            let mut argv: Vec<String> =
                ["systemctl", "--quiet", "--no-reload", verb, "--"].map(str::to_owned).into();
            argv.extend(units.iter().cloned());
            self.steps.push(Step::Run { argv });
        }
    }

    fn stage(&mut self, bytes: &[u8]) -> Result<String> {
        let name = self.count.to_string();
        self.count += 1;
        std::fs::write(self.dir.join(&name), bytes).doing(|| "staging a file")?;
        Ok(format!("{STAGE}/files/{name}"))
    }
}

/// What every bake leaves behind and no image may carry, as steps at the end of each layer: caches that name
/// times or inode numbers, backups of databases, logs, histories, keys, identities.
#[must_use]
pub fn tidy() -> Vec<Step> {
    let mut steps = vec![Step::Normalize { path: "/etc/shadow".to_owned() }];
    for path in [
        "/etc/passwd-",
        "/etc/shadow-",
        "/etc/group-",
        "/etc/gshadow-",
        "/etc/subuid-",
        "/etc/subgid-",
        "/etc/.pwd.lock",
        "/var/cache/ldconfig",
        "/var/lib/dpkg/lock",
        "/var/lib/dpkg/lock-frontend",
        "/var/lib/dpkg/triggers/Lock",
        "/var/lib/systemd/random-seed",
        "/var/lib/systemd/catalog/database",
        "/var/lib/dbus/machine-id",
        "/root/.bash_history",
        "/root/.wget-hsts",
        "/var/log/alternatives.log",
        "/var/log/bootstrap.log",
        "/var/log/dpkg.log",
        "/var/log/fontconfig.log",
        "/var/log/apt",
        "/var/log/faillog",
        "/var/log/lastlog",
        "/var/log/wtmp",
        "/var/log/btmp",
        "/var/cache/debconf/config.dat-old",
        "/var/cache/debconf/templates.dat-old",
        "/var/cache/debconf/passwords.dat",
    ] {
        steps.push(Step::Remove { path: path.to_owned() });
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_services_become_steps() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut staging = Staging::new(dir.path());
        let script = Script {
            name: "setup.sh".to_owned(),
            text: b"#!/bin/sh\n".to_vec(),
            reboot: false,
            expect_disconnect: false,
        };
        staging.script(&script).expect("staged");
        let services = Services { enable: ["nginx".to_owned()].into(), ..Services::default() };
        staging.services(&services);
        let steps = staging.into_steps();
        assert_eq!(steps.len(), 4);
        assert!(
            matches!(&steps[3], Step::Run { argv } if argv == &["systemctl", "--quiet", "--no-reload", "enable", "--", "nginx"])
        );
        assert_eq!(std::fs::read(dir.path().join("0")).expect("staged"), b"#!/bin/sh\n");
        let mut staging = Staging::new(dir.path());
        staging.script(&Script { reboot: true, expect_disconnect: true, ..script }).expect("staged");
        let steps = staging.into_steps();
        assert!(matches!(&steps[1], Step::RunDetached { may_reboot: true, .. }), "{steps:?}");
        // The machine may be on its way down: nothing comes between.
        assert_eq!(steps[2], Step::Reboot);
    }
}
