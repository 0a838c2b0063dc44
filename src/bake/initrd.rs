//! The initrd: our init, the modules it loads, and nothing else. And the kernel they belong to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::deb::unpack_tar;
use super::packages;
use crate::cpio::Archive;
use crate::digest::Digest;
use crate::error::{Doing as _, Error, Result};
use crate::lock::Package;
use crate::process::Run as _;
use crate::scratch::Scratch;
use crate::store::Store;

/// The kernel of an image, ready to be booted: `layers/<key>/{vmlinuz,stub,initrd}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The key of its layer.
    pub key: Digest,
    /// The kernel itself.
    pub vmlinuz: PathBuf,
    /// The initrd that goes with it.
    pub initrd: PathBuf,
    /// systemd's UEFI stub, which becomes a unified kernel image.
    pub stub: PathBuf,
}

/// Where the package `systemd-boot-efi` has the stub.
const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// What the kernel and initrd are made from.
#[derive(Debug, Clone, Copy)]
pub struct KernelInputs<'a> {
    /// The packages with the kernel, its modules and the UEFI stub.
    pub packages: &'a [&'a Package],
    /// Modules to load by name, in any order; those they depend on come along, before them.
    pub modules: &'a [String],
    /// The init program.
    pub guest: &'a [u8],
    /// The host's zstd, whose version shapes the initrd.
    pub zstd: &'a str,
}

impl KernelInputs<'_> {
    /// Returns the key of the layer: the digest of all that shapes it.
    #[must_use]
    pub fn key(&self) -> Digest {
        let names = serde_json::json!([
            "rekiln initrd 1",
            self.packages.iter().map(|package| package.sha256).collect::<Vec<_>>(),
            self.modules,
            Digest::of(self.guest),
            self.zstd
        ]);
        Digest::of(names.to_string().as_bytes())
    }
}

/// Returns the kernel and initrd for `inputs`, making them if the store has none.
///
/// # Errors
/// A module that the kernel lacks, and whatever unpacking returns.
pub fn kernel(store: &Store, inputs: KernelInputs<'_>) -> Result<Kernel> {
    let key = inputs.key();
    let place = store.layer(key);
    let made = |dir: &Path| Kernel {
        key,
        vmlinuz: dir.join("vmlinuz"),
        initrd: dir.join("initrd"),
        stub: dir.join("stub"),
    };
    if place.join("initrd").exists() {
        return Ok(made(&place));
    }
    let scratch = Scratch::new(store, "kernel")?;
    let (tree, out) = (scratch.subdirectory("tree")?, scratch.subdirectory("out")?);
    for package in inputs.packages {
        unpack(&packages::verified(store, package)?, &tree)?;
    }
    let boot = tree.join("boot");
    let vmlinuz = find(&boot, "vmlinuz-")?;
    std::fs::copy(&vmlinuz, out.join("vmlinuz")).doing(|| "taking the kernel")?;
    std::fs::copy(tree.join(STUB), out.join("stub")).doing(|| "taking the UEFI stub")?;
    let modules = modules_in_order(&tree, inputs.modules)?;
    let archive = archive(inputs.guest, &modules)?;
    let packed =
        Command::new("zstd").args(["-q", "-12", "-T1", "--no-check", "-c"]).run_with_input(&archive)?;
    std::fs::write(out.join("initrd.new"), packed.stdout).doing(|| "writing the initrd")?;
    std::fs::rename(out.join("initrd.new"), out.join("initrd")).doing(|| "writing the initrd")?;
    if std::fs::rename(&out, &place).is_err() && !place.join("initrd").exists() {
        let _ = std::fs::remove_dir_all(&place);
        std::fs::rename(&out, &place).doing(|| format!("keeping the initrd in {}", place.display()))?;
    }
    Ok(made(&place))
}

/// Unpacks the files of a .deb into `tree` with the host's dpkg and tar; nothing of it runs.
fn unpack(deb: &Path, tree: &Path) -> Result<()> {
    // Behind the packages of the root: their installing is what a bake waits for, and it leaves processors idle.
    let mut files = Command::new("nice")
        .args(["dpkg-deb", "--fsys-tarfile"])
        .arg(deb)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| crate::process::cannot_start("nice".as_ref(), error))?;
    let stdout = files.stdout.take().ok_or_else(|| Error::failed("dpkg-deb has no output"))?;
    let unpacked = unpack_tar(Stdio::from(stdout), tree, &[]);
    let status = files.wait().doing(|| "waiting for dpkg-deb")?;
    unpacked.map_err(|error| error.during(format!("unpacking {}", deb.display())))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::failed(format!("dpkg-deb could not read {}: it ended with {status}", deb.display())))
}

fn find(dir: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = std::fs::read_dir(dir).doing(|| format!("looking for {prefix}… in {}", dir.display()))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found.pop().ok_or_else(|| {
        Error::failed(format!(
            "the locked kernel package has no {prefix}… in /{}",
            dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
        ))
    })
}

/// Returns the wanted modules and those they depend on, each after what it needs: name and content.
fn modules_in_order(tree: &Path, wanted: &[String]) -> Result<Vec<(String, Vec<u8>)>> {
    let files = module_files(&tree.join("lib/modules"))?;
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for name in wanted {
        add_module(name, &files, &mut seen, &mut order)?;
    }
    Ok(order)
}

type ModuleFiles = std::collections::BTreeMap<String, PathBuf>;

fn module_files(dir: &Path) -> Result<ModuleFiles> {
    let mut files = ModuleFiles::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).doing(|| format!("listing modules in {}", dir.display()))? {
            let entry = entry.doing(|| "listing modules")?;
            let path = entry.path();
            if entry.file_type().doing(|| "listing modules")?.is_dir() {
                todo.push(path);
            } else if let Some(name) = entry.file_name().to_str().and_then(|name| name.strip_suffix(".ko")) {
                files.insert(name.replace('-', "_"), path);
            }
        }
    }
    Ok(files)
}

fn add_module(
    name: &str,
    files: &ModuleFiles,
    seen: &mut BTreeSet<String>,
    order: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    let name = name.replace('-', "_");
    if !seen.insert(name.clone()) {
        return Ok(());
    }
    let Some(path) = files.get(&name) else {
        let nearest = crate::diagnostic::nearest(&name, files.keys().map(String::as_str));
        let error = Error::invalid(format!("the locked kernel has no module `{name}`"));
        return Err(match nearest {
            Some(near) => error.hint(format!("did you mean `{near}`? (`[kernel] modules` of the recipe)")),
            None => error.hint("it may be built in; see `[kernel] modules` of the recipe"),
        });
    };
    let content = std::fs::read(path).doing(|| format!("reading module {name}"))?;
    for needed in dependencies(&content) {
        add_module(&needed, files, seen, order)?;
    }
    order.push((format!("{name}.ko"), content));
    Ok(())
}

/// Returns the modules a module names in its `.modinfo` section: `depends=` and the `softdep=` that come before.
fn dependencies(module: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in module.split(|byte| *byte == 0) {
        let Ok(text) = std::str::from_utf8(entry) else { continue };
        if let Some(list) = text.strip_prefix("depends=") {
            found.extend(list.split(',').filter(|name| !name.is_empty()).map(str::to_owned));
        }
    }
    found
}

/// Returns the uncompressed archive in the `newc` format, which the kernel unpacks
/// (Documentation/driver-api/early-userspace/buffer-format.rst).
fn archive(init: &[u8], modules: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let order: String = modules.iter().flat_map(|(name, _)| [name, "\n"]).collect();
    let mut archive = Archive::default();
    for dir in ["dev", "modules", "proc", "root", "run", "sys"] {
        archive.add(dir, 0o040_755, b"")?;
    }
    archive.add("init", 0o100_755, init)?;
    archive.add("modules/order", 0o100_644, order.as_bytes())?;
    for (name, content) in modules {
        archive.add(&format!("modules/{name}"), 0o100_644, content)?;
    }
    archive.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_of_a_module() {
        let module = b"\x7fELF junk\0license=GPL\0depends=dm-bufio,dm-mod\0retpoline=Y\0";
        assert_eq!(dependencies(module), ["dm-bufio", "dm-mod"]);
        assert!(dependencies(b"depends=\0").is_empty());
    }

    #[test]
    fn another_program_reads_the_archive() {
        let bytes = archive(b"program", &[("a.ko".to_owned(), vec![7; 5])]).expect("made");
        let dir = tempfile::tempdir().expect("a directory");
        Command::new("cpio")
            .args(["-id", "--quiet"])
            .current_dir(dir.path())
            .run_with_input(&bytes)
            .expect("cpio reads it");
        assert_eq!(std::fs::read(dir.path().join("modules/a.ko")).expect("read"), vec![7; 5]);
        assert_eq!(std::fs::read(dir.path().join("init")).expect("read"), b"program");
        assert_eq!(std::fs::read_to_string(dir.path().join("modules/order")).expect("read"), "a.ko\n");
    }
}
