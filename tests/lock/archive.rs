//! A tiny signed Debian archive on disk: real packages, real signatures, no network.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rekiln::digest::Digest;
use rekiln::lock::settings::Settings;
use tempfile::TempDir;

/// An archive of `bookworm`, its updates and its security updates.
pub struct Archive {
    dir: TempDir,
    packages: BTreeMap<String, Deb>,
}

/// One package of the archive.
#[derive(Clone)]
struct Deb {
    archive: &'static str,
    file: String,
    stanza: String,
}

impl Archive {
    /// An archive without a package.
    pub fn empty() -> Self {
        let archive = Self { dir: tempfile::tempdir().expect("a directory"), packages: BTreeMap::new() };
        archive.make_key("home", "keyring.gpg");
        archive
    }

    /// An archive with what every image needs, and `web` that depends on `libweb` and on `libc6`.
    pub fn new() -> Self {
        let mut archive = Self::empty();
        let kernel = "linux-image-6.1.0-1-cloud-amd64";
        for (name, version, fields) in [
            ("base-files", "12", "Essential: yes\nPre-Depends: libc6"),
            ("apt", "2.6", "Essential: yes\nDepends: libc6"),
            ("libc6", "2.36-9", ""),
            ("usr-is-merged", "37", ""),
            ("systemd", "252", "Depends: libc6 (>= 2.36)"),
            ("systemd-sysv", "252", "Depends: systemd (= 252)"),
            ("udev", "252", "Breaks: libweb (>= 9)"),
            ("systemd-boot-efi", "252", "Depends: only-for-boot"),
            ("only-for-boot", "1", ""),
            ("linux-image-cloud-amd64", "6.1", "Depends: linux-image-6.1.0-1-cloud-amd64 (= 6.1)"),
            (kernel, "6.1", "Depends: linux-base, initramfs-tools | linux-initramfs-tool"),
            ("linux-base", "4.9", ""),
            ("initramfs-tools", "0.142", ""),
            ("web", "1:1.0+b1", "Depends: libweb (>= 1), libc6 (>= 2.36)\nRecommends: unwanted"),
            ("libweb", "1.0", "Depends: libc6 (>= 2.36)"),
            ("unwanted", "1", ""),
        ] {
            archive.add("debian", name, version, fields);
        }
        archive.publish();
        archive
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Settings that name this archive and its key.
    pub fn settings(&self) -> Settings {
        Settings {
            mirror: Some(format!("file:{}", self.path("debian").display())),
            security_mirror: None,
            snapshots: Vec::new(),
            keyring: Some(self.path("keyring.gpg")),
        }
    }

    /// Where the file of a package lies.
    pub fn deb(&self, name: &str) -> PathBuf {
        let deb = &self.packages[name];
        self.path(deb.archive).join(&deb.file)
    }

    /// Builds a package and lists it instead of an older one of its name, whose file is removed.
    pub fn add(&mut self, archive: &'static str, name: &str, version: &str, fields: &str) {
        if let Some(old) = self.packages.remove(name) {
            fs::remove_file(self.path(old.archive).join(old.file)).expect("removed");
        }
        let tree = self.path("tree");
        fs::create_dir_all(tree.join("DEBIAN")).expect("made");
        let fields = if fields.is_empty() { String::new() } else { format!("{fields}\n") };
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: none\nInstalled-Size: 1\n{fields}Description: a test\n"
        );
        fs::write(tree.join("DEBIAN/control"), &control).expect("written");
        let plain = version.split_once(':').map_or(version, |(_, plain)| plain);
        let file = format!("pool/main/{name}_{plain}_amd64.deb");
        let path = self.path(archive).join(&file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        done(
            Command::new("dpkg-deb").args(["--root-owner-group", "-Znone", "--build"]).arg(&tree).arg(&path),
        );
        let bytes = fs::read(&path).expect("read");
        let stanza =
            format!("{}Filename: {file}\nSize: {}\nSHA256: {}\n\n", control, bytes.len(), Digest::of(&bytes));
        self.packages.insert(name.to_owned(), Deb { archive, file, stanza });
    }

    /// Lists the package `deb` of another archive as the file `file`. Its bytes are not copied.
    pub fn list(&mut self, archive: &'static str, deb: &Path, file: &str) {
        let output = Command::new("dpkg-deb").arg("--field").arg(deb).output().expect("dpkg-deb starts");
        assert!(output.status.success(), "{}", deb.display());
        let control = String::from_utf8(output.stdout).expect("UTF-8");
        let name =
            control.lines().find_map(|line| line.strip_prefix("Package: ")).expect("a name").to_owned();
        let bytes = fs::read(deb).expect("read");
        let stanza =
            format!("{control}Filename: {file}\nSize: {}\nSHA256: {}\n\n", bytes.len(), Digest::of(&bytes));
        self.packages.insert(name, Deb { archive, file: file.to_owned(), stanza });
    }

    /// Writes and signs the indexes of all suites.
    pub fn publish(&self) {
        for (archive, suite) in
            [("debian", "bookworm"), ("debian", "bookworm-updates"), ("debian-security", "bookworm-security")]
        {
            let listed = |deb: &&Deb| deb.archive == archive && suite != "bookworm-updates";
            let index: String =
                self.packages.values().filter(listed).map(|deb| deb.stanza.as_str()).collect();
            let dist = self.path(archive).join("dists").join(suite);
            fs::create_dir_all(dist.join("main/binary-amd64")).expect("made");
            fs::write(dist.join("main/binary-amd64/Packages"), &index).expect("written");
            let release = format!(
                "Origin: Test\nSuite: {suite}\nCodename: {suite}\nDate: Sat, 21 Nov 2026 00:53:02 UTC\n\
Architectures: amd64\nComponents: main\nSHA256:\n {} {} main/binary-amd64/Packages\n",
                Digest::of(index.as_bytes()),
                index.len()
            );
            fs::write(self.path("Release"), release).expect("written");
            let signed = dist.join("InRelease");
            done(
                self.gpg("home").args(["--yes", "--clearsign", "-o"]).arg(&signed).arg(self.path("Release")),
            );
        }
    }

    /// Makes a key in its own home and exports it.
    pub fn make_key(&self, home: &str, exported: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = self.path(home);
        fs::create_dir(&dir).expect("made");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("set");
        done(self.gpg(home).args([
            "--passphrase",
            "",
            "--quick-generate-key",
            "test",
            "ed25519",
            "sign",
            "never",
        ]));
        done(self.gpg(home).args(["--export", "-o"]).arg(self.path(exported)));
    }

    fn gpg(&self, home: &str) -> Command {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--quiet", "--pinentry-mode", "loopback", "--homedir"]).arg(self.path(home));
        command
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        for home in fs::read_dir(self.dir.path()).into_iter().flatten().flatten() {
            if home.path().join("private-keys-v1.d").is_dir() {
                let _ = Command::new("gpgconf")
                    .arg("--homedir")
                    .arg(home.path())
                    .args(["--kill", "gpg-agent"])
                    .status();
            }
        }
    }
}

fn done(command: &mut Command) {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Names in a directory, in order.
pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
