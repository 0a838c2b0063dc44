//! `rekiln doctor`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use super::{Context, confirm};
use crate::bake::initrd::{self, KernelInputs};
use crate::error::{Doing as _, Error, Result};
use crate::lock::settings::Settings;
use crate::lock::{Role, fetch};
use crate::process::{PROGRAMS, Run as _};
use crate::repository::Repository;
use crate::scratch::Scratch;
use crate::store::Store;
use crate::vm::accel::{self, Accelerator};
use crate::vm::guest::GUEST;
use crate::vm::machine::OVMF_CODE;

/// What a bake of the example images and their fleet take, with room for a second generation.
const DISK_GIB: u64 = 4;

/// Arguments of `rekiln doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Installs the Debian packages that are missing, after asking.
    #[arg(long)]
    pub install: bool,
    /// Answers yes.
    #[arg(long, short, requires = "install")]
    pub yes: bool,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    what: String,
    state: State,
    found: String,
    /// What follows from it.
    follows: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Good,
    /// Works, but worse.
    Poor,
    /// Something does not work without it.
    Missing,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What went wrong.
#[expect(clippy::needless_pass_by_value, reason = "all commands are called alike")]
pub fn run(context: &Context, args: Args) -> Result<u8> {
    if args.install {
        install(context, args.yes)?;
    }
    let store = context.store()?;
    let mut rows = programs();
    rows.push(firmware());
    rows.push(kvm(context, &store));
    rows.push(disk(&store)?);
    rows.extend([rights(), user_namespaces(), overlay(&store)]);
    for row in &rows {
        let mark = match row.state {
            State::Good => "ok",
            State::Poor => "poor",
            State::Missing => "LACKS",
        };
        context.output.line(format!("{mark:6} {:20} {}", row.what, row.found));
        if row.state != State::Good {
            context.output.line(format!("{:6} {:20} -> {}", "", "", row.follows));
        }
        context.output.json(row);
    }
    let lacks = rows.iter().filter(|row| row.state == State::Missing).count();
    if lacks > 0 {
        let text =
            format!("{lacks} of {} lacking; `rekiln doctor --install` installs missing packages", rows.len());
        context.output.line(text);
    }
    Ok(u8::from(lacks > 0))
}

/// Installs what [`missing_packages`] returns, after asking; does nothing when nothing is missing.
///
/// # Errors
/// The answer was no, nobody can answer, we are not root, or apt failed.
pub fn install(context: &Context, yes: bool) -> Result<()> {
    let packages = missing_packages();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.iter().copied().collect::<Vec<_>>().join(" ");
    let command = format!("apt-get install --no-install-recommends {list}");
    let question = format!("Missing Debian packages: {list}\nInstall them with apt-get?");
    if !yes && !confirm::ask(&question)?.unwrap_or(false) {
        return Err(Error::failed(format!("missing Debian packages: {list}"))
            .hint(format!("install them: `{command}`")));
    }
    if !is_root() {
        return Err(Error::failed("installing packages needs root").hint(format!("run `sudo {command}`")));
    }
    let apt = |args: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").args(args);
        apt
    };
    context.progress().step("doctor", "installing Debian packages", || {
        let wanted: Vec<&str> = ["install", "--yes", "--no-install-recommends"]
            .into_iter()
            .chain(packages.iter().copied())
            .collect();
        // An index that is older than the archive names files that are gone; then it is fetched and tried again.
        if apt(&wanted).run().is_ok() {
            return Ok(());
        }
        apt(&["update"]).run()?;
        apt(&wanted).run().map(|_| ())
    })
}

/// Returns the Debian packages of [`PROGRAMS`] and of the firmware that this machine lacks.
#[must_use]
pub fn missing_packages() -> BTreeSet<&'static str> {
    let mut missing: BTreeSet<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| path_of(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if !Path::new(OVMF_CODE).is_file() {
        missing.insert("ovmf");
    }
    missing
}

fn path_of(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // mkfs and friends are in sbin, which is not in everyone's PATH; then rekiln itself would not find them.
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn programs() -> Vec<Row> {
    let row = |(program, package): &(&str, &str)| match path_of(program) {
        Some(_) => Row {
            what: (*program).to_owned(),
            state: State::Good,
            found: version(package),
            follows: String::new(),
        },
        None => Row {
            what: (*program).to_owned(),
            state: State::Missing,
            found: "not installed".to_owned(),
            follows: format!("baking or running images fails; `apt-get install {package}`"),
        },
    };
    PROGRAMS.iter().map(row).collect()
}

/// Returns the installed version of a Debian package: the one form of version that all these programs share.
fn version(package: &str) -> String {
    let mut query = Command::new("dpkg-query");
    let text = query.args(["--show", "--showformat=${Version}", package]).run_text();
    text.map_or_else(
        |_| "installed, not from a Debian package".to_owned(),
        |version| format!("{package} {version}"),
    )
}

fn firmware() -> Row {
    let there = Path::new(OVMF_CODE).is_file();
    Row {
        what: "UEFI firmware".to_owned(),
        state: if there { State::Good } else { State::Missing },
        found: if there { version("ovmf") } else { format!("no {OVMF_CODE}") },
        follows: "`rekiln boot --uefi` and the UEFI verdict do not work; `apt-get install ovmf`".to_owned(),
    }
}

/// Really starts a kernel, when there is one to start.
fn kvm(context: &Context, store: &Store) -> Row {
    let row = |state, found: String| Row {
        what: "KVM".to_owned(),
        state,
        found,
        follows: "machines run translated: booting takes about 7 s instead of 1 s".to_owned(),
    };
    if let Err(error) = fs::File::options().read(true).write(true).open("/dev/kvm") {
        return row(State::Poor, format!("/dev/kvm does not open: {error}"));
    }
    let kernel = match any_kernel(store).map_or_else(|| locked_kernel(context, store), Ok) {
        Ok(kernel) => kernel,
        Err(error) => {
            let found = format!("/dev/kvm opens, and there is no kernel to try it with: {}", error.chain());
            return row(State::Poor, found);
        }
    };
    match context.progress().step("doctor", "booting a kernel under KVM", || accel::probe(store, &kernel)) {
        Ok(probed) if probed.accelerator == Accelerator::Kvm => row(State::Good, probed.why),
        Ok(probed) => row(State::Poor, probed.why),
        Err(error) => row(State::Poor, format!("it could not be tried: {}", error.chain())),
    }
}

/// Returns the kernel of a baked image, or else the host's.
fn any_kernel(store: &Store) -> Option<PathBuf> {
    let images = fs::read_dir(store.images()).ok()?.flatten().map(|entry| entry.path().join("kernel"));
    let host = fs::read_dir("/boot").into_iter().flatten().flatten().map(|entry| entry.path());
    let host = host
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-")));
    images.chain(host).find(|path| path.is_file())
}

/// Fetches and unpacks the kernel that a lock of the repository names.
fn locked_kernel(context: &Context, store: &Store) -> Result<PathBuf> {
    let repository = Repository::open(&context.repo)?;
    let locks = repository.recipe_names().filter_map(|name| repository.lock(name).ok());
    let mut lock = locks
        .map(|(lock, _)| lock)
        .find(|lock| lock.packages.iter().any(|package| package.role == Role::Kernel))
        .ok_or_else(|| Error::failed("no lock of this repository names a kernel"))?;
    lock.packages.retain(|package| package.role != Role::Root);
    lock.fetches.clear();
    fetch::fetch_all(store, &Settings::load(&context.repo)?, &[&lock], context.progress())?;
    let packages: Vec<_> = lock.packages.iter().collect();
    let inputs = KernelInputs { packages: &packages, modules: &[], guest: GUEST, zstd: "" };
    Ok(initrd::kernel(store, inputs)?.vmlinuz)
}

fn disk(store: &Store) -> Result<Row> {
    let root = store.root();
    let space = rustix::fs::statvfs(root).doing(|| format!("asking for free space in {}", root.display()))?;
    let free = (space.f_bavail * space.f_frsize) >> 30;
    Ok(Row {
        what: "disk space".to_owned(),
        state: if free >= DISK_GIB { State::Good } else { State::Missing },
        found: format!("{free} GiB free in {}", root.display()),
        follows: format!(
            "a bake may run out of space: {DISK_GIB} GiB are wanted; `--store` can name another place"
        ),
    })
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn rights() -> Row {
    let root = is_root();
    Row {
        what: "rights".to_owned(),
        state: if root { State::Good } else { State::Missing },
        found: if root { "root" } else { "not root" }.to_owned(),
        follows: "baking needs root (packages own files of many users); the other commands do not".to_owned(),
    }
}

fn user_namespaces() -> Row {
    let works = Command::new("unshare").args(["--user", "--map-root-user", "true"]).run().is_ok();
    Row {
        what: "user namespaces".to_owned(),
        state: if works { State::Good } else { State::Poor },
        found: if works { "usable" } else { "not usable" }.to_owned(),
        follows: "bakes are confined without a user namespace of their own".to_owned(),
    }
}

/// Mounts an overlay in a mount namespace of its own, with the store's file system below and above.
fn overlay(store: &Store) -> Row {
    let script = "set -e; cd \"$1\"; mkdir -p lower upper work merged; \
        mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged";
    let tried = Scratch::new(store, "overlay").and_then(|scratch| {
        let namespaces: &[&str] =
            if is_root() { &["--mount"] } else { &["--mount", "--user", "--map-root-user"] };
        Command::new("unshare").args(namespaces).args(["sh", "-c", script, "sh"]).arg(scratch.dir()).run()
    });
    Row {
        what: "overlayfs".to_owned(),
        state: if tried.is_ok() { State::Good } else { State::Missing },
        found: tried.map_or_else(|error| error.chain(), |_| "usable in the store".to_owned()),
        follows: "baking an image on top of another one fails; put the store on ext4, xfs, btrfs or tmpfs"
            .to_owned(),
    }
}
