//! From a recipe's wishes to every package by digest.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use super::apt::{Apt, Choice};
use super::archive::Archives;
use super::stale::asked_source;
use super::stanza::{self, Stanza};
use super::{Asked, Lock, LockedFetch, Package, Role, tools, vault};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::process::Run as _;
use crate::recipe::{Recipe, Source};
use crate::store::Store;

/// The root's ground: what Debian calls essential, but for apt, since nothing is installed in a running image.
const ESSENTIAL: &str = "?and(?essential,?not(?exact-name(apt)))";

/// Packages of every image besides the essential ones: an init that the guest program can hand over to.
/// `usr-is-merged` satisfies what would else pull `usrmerge` and perl.
const GROUND: &[&str] = &["usr-is-merged", "systemd", "systemd-sysv", "udev"];

/// The package with the UEFI stub.
const STUB: &str = "systemd-boot-efi";

/// The start of every kernel package's name.
const KERNEL: &str = "linux-image-";

/// Stands in for initramfs-tools, which kernels ask for: rekiln makes the initrd itself.
const STAND_IN: &str = "Package: rekiln-initrd\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\
Provides: linux-initramfs-tool\nMaintainer: none\nDescription: stand-in\n\n";

/// Returns what a lock of `recipe` must say that it was made for.
#[must_use]
pub fn asked(recipe: &Recipe, parent_lock: Option<Digest>, architecture: &str) -> Asked {
    Asked {
        source: asked_source(&recipe.source),
        parent_lock,
        architecture: architecture.to_owned(),
        packages: recipe.packages.clone(),
    }
}

/// Returns the Debian release that `recipe` stands on, through its parents.
#[must_use]
pub fn suite<'a>(recipe: &'a Recipe, parents: &[&'a Lock]) -> Option<&'a str> {
    match &recipe.source {
        Source::Debian(suite) => Some(suite),
        Source::Image(_) => parents.iter().find_map(|lock| lock.asked.source.strip_prefix("debian:")),
        Source::Disk(_) | Source::Ami(_) => None,
    }
}

/// Resolves `recipe` on top of `parents` (the locks of all images it stands on, in any order).
///
/// `parent_lock` is the digest of the nearest parent's lock file; `fetches` are the recipe's artifacts, found
/// by [`super::fetch::artifacts`].
///
/// # Errors
/// Packages that do not exist or do not fit together, a change to a package of a parent, and a locked package
/// of a parent that neither the archive nor the vault has any more.
pub fn resolve(
    recipe: &Recipe,
    parents: &[&Lock],
    parent_lock: Option<Digest>,
    fetches: Vec<LockedFetch>,
    apt: &Apt,
    store: &Store,
) -> Result<Lock> {
    let (kernels, roots): (Vec<&str>, Vec<&str>) =
        recipe.packages.iter().map(String::as_str).partition(|name| name.starts_with(KERNEL));
    check_names(&recipe.packages)?;
    let packages = match &recipe.source {
        Source::Debian(_) => ground(&kernels, &roots, apt)?,
        Source::Image(name) => addition(name, &kernels, &roots, parents, apt, store)?,
        Source::Disk(_) | Source::Ami(_) => {
            return Err(Error::failed("the packages of a vendor's system are not resolved here"));
        }
    };
    let suites = apt.suites()?;
    let epoch = suites.iter().map(|suite| suite.date.as_second()).max().unwrap_or_default();
    Ok(Lock {
        version: 1,
        asked: asked(recipe, parent_lock, apt.architecture()),
        epoch,
        tools: tools::host_tools()?,
        suites,
        packages,
        fetches,
        layout: None,
    })
}

/// Resolves an image from packages: the root without a kernel, then kernel and stub by themselves, since what
/// only the kernel's package pulls is not needed in the root.
fn ground(kernels: &[&str], roots: &[&str], apt: &Apt) -> Result<Vec<Package>> {
    let mut wanted = vec![ESSENTIAL];
    wanted.extend(GROUND);
    wanted.extend(roots);
    let root = apt.install(STAND_IN, &wanted).map_err(explain)?;

    let usual = format!("{KERNEL}cloud-{}", apt.architecture());
    let mut wanted = if kernels.is_empty() { vec![usual.as_str()] } else { kernels.to_vec() };
    wanted.push(STUB);
    let mut boot = apt.install(STAND_IN, &wanted).map_err(explain)?;
    boot.retain(|choice| choice.name.starts_with(KERNEL) || choice.name == STUB);

    let mut packages = locked(&root, apt)?;
    packages.retain(|(package, _)| !package.name.starts_with(KERNEL));
    // A package that only depends on the kernel of the day has nothing in it.
    let real = |stanza: &Stanza| !stanza.field("Depends").is_some_and(|list| list.contains(KERNEL));
    for (mut package, stanza) in locked(&boot, apt)? {
        package.role = if package.name == STUB { Role::Stub } else { Role::Kernel };
        if package.role == Role::Stub || real(&stanza) {
            packages.push((package, stanza));
        }
    }
    Ok(packages.into_iter().map(|(package, _)| package).collect())
}

/// Resolves what an image adds to its parents, whose packages stay as they are.
fn addition(
    parent: &str,
    kernels: &[&str],
    roots: &[&str],
    parents: &[&Lock],
    apt: &Apt,
    store: &Store,
) -> Result<Vec<Package>> {
    if let Some(kernel) = kernels.first() {
        return Err(Error::invalid(format!(
            "`{kernel}` is a kernel, and the kernel is that of the image `{parent}`"
        ))
        .hint("name it in the recipe that starts from packages"));
    }
    if roots.is_empty() {
        return Ok(Vec::new());
    }
    let installed: Vec<&Package> =
        parents.iter().flat_map(|lock| &lock.packages).filter(|package| package.role == Role::Root).collect();
    let status = installed_status(parent, &installed, apt, store)?;
    let relock = || format!("relock the parent first: `rekiln lock --update {parent}`");
    let conflict = |error: &Error| {
        let text = error.chain();
        ["unmet dependencies", "held packages", "remove is disabled"].iter().any(|words| text.contains(words))
    };
    let mut chosen = apt
        .install(&status, roots)
        .map_err(|error| if conflict(&error) { explain(error).hint(relock()) } else { explain(error) })?;
    let held: BTreeMap<_, _> =
        installed.iter().map(|package| (package.name.as_str(), package.version.as_str())).collect();
    // A rebuild under the same version is no other version; what the parent has locked stays.
    chosen.retain(|choice| held.get(choice.name.as_str()) != Some(&choice.version.as_str()));
    let changed: Vec<String> = chosen
        .iter()
        .filter_map(|choice| {
            let old = held.get(choice.name.as_str())?;
            Some(format!("{} {old} → {}", choice.name, choice.version))
        })
        .collect();
    if !changed.is_empty() {
        return Err(Error::failed(format!(
            "the packages would change what the image `{parent}` has locked: {}",
            changed.join(", ")
        ))
        .hint(relock()));
    }
    Ok(locked(&chosen, apt)?.into_iter().map(|(package, _)| package).collect())
}

/// Writes the status file that says the parents' packages are installed.
fn installed_status(parent: &str, installed: &[&Package], apt: &Apt, store: &Store) -> Result<String> {
    let pairs: Vec<_> =
        installed.iter().map(|package| format!("{}={}", package.name, package.version)).collect();
    let index = by_identity(apt.show(&pairs)?);
    let mut status = STAND_IN.to_owned();
    let mut gone = Vec::new();
    for package in installed {
        let identity = (package.name.clone(), package.version.clone(), package.arch.clone());
        if let Some(stanza) = index.get(&identity).and_then(|found| found.first()) {
            status.push_str(&stanza.installed());
        } else if vault::has(store, package.sha256, package.size) {
            // The archive has moved on, but the package itself says what it depends on.
            let deb = vault::verified(store, package.sha256)?;
            let text = Command::new("dpkg-deb").arg("--field").arg(deb).run_text()?;
            status.extend(stanza::parse(&text).iter().map(Stanza::installed));
        } else {
            gone.push(format!("{} {}", package.name, package.version));
        }
    }
    if gone.is_empty() {
        return Ok(status);
    }
    Err(Error::failed(format!(
        "the archive no longer has packages that `{parent}` or an image below it has locked: {}",
        gone.join(", ")
    ))
    .hint(format!("refresh the parent's lock first: `rekiln lock --update {parent}`")))
}

type Identity = (String, String, String);

fn by_identity(stanzas: Vec<Stanza>) -> BTreeMap<Identity, Vec<Stanza>> {
    let mut all: BTreeMap<Identity, Vec<Stanza>> = BTreeMap::new();
    for stanza in stanzas {
        let field = |name| stanza.field(name).unwrap_or_default().to_owned();
        let identity = (field("Package"), field("Version"), field("Architecture"));
        all.entry(identity).or_default().push(stanza);
    }
    all
}

/// Adds to apt's choices what the signed indexes say about them.
fn locked(chosen: &[Choice], apt: &Apt) -> Result<Vec<(Package, Stanza)>> {
    let pairs: Vec<_> = chosen.iter().map(|choice| format!("{}={}", choice.name, choice.version)).collect();
    let index = by_identity(apt.show(&pairs)?);
    chosen.iter().map(|choice| join(choice, &index, apt.archives())).collect()
}

/// Finds the index entry of a choice: same package, same file, same size.
fn join(
    choice: &Choice,
    index: &BTreeMap<Identity, Vec<Stanza>>,
    archives: &Archives,
) -> Result<(Package, Stanza)> {
    let bad = |what: &str| {
        Error::failed(format!("apt chose {} {} from {}, but {what}", choice.name, choice.version, choice.url))
    };
    let (archive, path) =
        archives.split(&choice.url).ok_or_else(|| bad("that is in none of the configured mirrors"))?;
    let identity = (choice.name.clone(), choice.version.clone(), choice.arch.clone());
    let entries = index.get(&identity).ok_or_else(|| bad("no index has it"))?;
    let stanza = entries
        .iter()
        .find(|entry| entry.field("Filename") == Some(&path))
        .ok_or_else(|| bad("no index has it under that path"))?;
    if stanza.field("Size").and_then(|size| size.parse().ok()) != Some(choice.size) {
        return Err(bad("the index has another size for it"));
    }
    let sha256 = stanza.field("SHA256").ok_or_else(|| bad("the index has no SHA-256 for it"))?;
    let package = Package {
        name: choice.name.clone(),
        version: choice.version.clone(),
        arch: choice.arch.clone(),
        role: Role::Root,
        size: choice.size,
        sha256: sha256.parse().map_err(|text: String| bad(&text))?,
        path,
        archive: archive.to_owned(),
    };
    Ok((package, stanza.clone()))
}

/// Refuses names that apt would take for an option, a removal or a pattern.
fn check_names(names: &BTreeSet<String>) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    let good = |name: &str| {
        name.len() > 1
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(plain)
            && !name.ends_with('-')
    };
    match names.iter().find(|name| !good(name)) {
        Some(name) => Err(Error::invalid(format!("`{name}` is not the name of a Debian package"))),
        None => Ok(()),
    }
}

fn explain(error: Error) -> Error {
    error.during("resolving packages")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::settings::Settings;

    #[test]
    fn names_that_apt_would_misread() {
        let names = |name: &str| BTreeSet::from([name.to_owned()]);
        for good in ["nginx-light", "g++", "libstdc++6", "2ping", "python3.11"] {
            assert!(check_names(&names(good)).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "-o",
            "--allow-unauthenticated",
            "nginx-",
            "nginx=1",
            "?essential",
            "a/b",
            "Nginx",
            "a b",
        ] {
            assert!(check_names(&names(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_choice_must_be_what_the_index_says() {
        let digest = Digest::of(b"deb");
        let entry = |path: &str, size: u64, sha256: &str| {
            format!(
                "Package: a\nVersion: 1:2\nArchitecture: all\nFilename: {path}\nSize: {size}\nSHA256: {sha256}\n\n"
            )
        };
        let choice = |url: &str| Choice {
            name: "a".to_owned(),
            version: "1:2".to_owned(),
            arch: "all".to_owned(),
            size: 3,
            url: url.to_owned(),
        };
        let settings = Settings { mirror: Some("file:/m/debian".to_owned()), ..Settings::default() };
        let archives = Archives::configured(&settings, "bookworm").expect("set");
        let seen = |text: &str, url: &str| join(&choice(url), &by_identity(stanza::parse(text)), &archives);
        let good = entry("pool/a_2.deb", 3, &digest.to_string());
        let both = entry("pool/else.deb", 3, &digest.to_string()) + &good;
        let (package, _) = seen(&both, "file:/m/debian-security/pool/a_2.deb").expect("joined");
        assert_eq!((package.archive.as_str(), package.path.as_str()), ("debian-security", "pool/a_2.deb"));
        assert_eq!(package.sha256, digest);
        let table: &[(&str, &str, &str)] = &[
            (&good, "file:/elsewhere/pool/a_2.deb", "none of the configured mirrors"),
            (&good, "file:/m/debian/pool/a_3.deb", "under that path"),
            ("", "file:/m/debian/pool/a_2.deb", "no index has it"),
            (&entry("pool/a_2.deb", 4, &digest.to_string()), "file:/m/debian/pool/a_2.deb", "another size"),
            (&entry("pool/a_2.deb", 3, "beef"), "file:/m/debian/pool/a_2.deb", "not a SHA-256"),
        ];
        for (index, url, expected) in table {
            let error = seen(index, url).expect_err(expected);
            assert!(error.chain().contains(expected), "{error:?}");
        }
    }
}
