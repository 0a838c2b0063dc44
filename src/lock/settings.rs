//! Where this machine gets inputs from: a setting, never part of a lock.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Doing as _, Result};

/// The settings file in the repository's root. It names hosts, so it is one person's and not for Git.
pub const FILE: &str = ".rekiln.toml";

/// Mirrors and archives. What is not set comes from the machine's own apt sources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// URL of a mirror of `debian`; `REKILN_MIRROR`.
    pub mirror: Option<String>,
    /// URL of a mirror of `debian-security`; `REKILN_SECURITY_MIRROR`. Without it, `mirror` with `-security`
    /// appended.
    pub security_mirror: Option<String>,
    /// Archives of old versions, in the order they are asked; `REKILN_SNAPSHOTS`, separated by blanks.
    /// `{archive}` and `{timestamp}` in a URL are filled in; a URL without them gets `/{archive}/{timestamp}`.
    pub snapshots: Vec<String>,
    /// Keys that the archives' signatures are checked against; `REKILN_KEYRING`. Without it, Debian's own.
    pub keyring: Option<PathBuf>,
}

impl Settings {
    /// Reads the settings file of the repository at `repo`, if there is one; the environment overrides it.
    ///
    /// # Errors
    /// A settings file that cannot be read or has an unknown key.
    pub fn load(repo: &Path) -> Result<Self> {
        let path = repo.join(FILE);
        let settings = match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).doing(|| format!("reading {}", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(error) => return Err(error).doing(|| format!("reading {}", path.display())),
        };
        Ok(settings.overridden(|name| std::env::var(name).ok().filter(|value| !value.is_empty())))
    }

    /// Returns the settings with those replaced that `variable` has a value for.
    fn overridden(mut self, variable: impl Fn(&str) -> Option<String>) -> Self {
        self.mirror = variable("REKILN_MIRROR").or(self.mirror);
        self.security_mirror = variable("REKILN_SECURITY_MIRROR").or(self.security_mirror);
        self.keyring = variable("REKILN_KEYRING").map(PathBuf::from).or(self.keyring);
        if let Some(list) = variable("REKILN_SNAPSHOTS") {
            self.snapshots = list.split_whitespace().map(str::to_owned).collect();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_overrides_the_file() {
        let file = "mirror = \"http://a.example/debian\"\nsnapshots = [\"http://s.example\"]\n";
        let settings: Settings = toml::from_str(file).expect("it parses");
        let seen = settings.clone().overridden(|_| None);
        assert_eq!(seen, settings);
        let seen = settings.overridden(|name| match name {
            "REKILN_MIRROR" => Some("http://b.example/debian".to_owned()),
            "REKILN_SNAPSHOTS" => Some("http://x.example  http://y.example".to_owned()),
            _ => None,
        });
        assert_eq!(seen.mirror.as_deref(), Some("http://b.example/debian"));
        assert_eq!(seen.snapshots, ["http://x.example", "http://y.example"]);
        assert!(toml::from_str::<Settings>("mirrors = 1").is_err(), "unknown keys are refused");
    }
}
