//! `rekiln boot`.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use super::Context;
use super::bake::bake;
use crate::bake::identity::Identity;
use crate::catalog::{Catalog, Record};
use crate::claim::Claimed;
use crate::error::{Doing as _, Error, Result};
use crate::process::cannot_start;
use crate::repository::Repository;
use crate::scratch::Scratch;
use crate::store::Store;
use crate::vm::accel::{self, Accelerator};
use crate::vm::machine::{Console, QEMU, Wire};
use crate::vm::{Boot, Forward, Spec, report, verdict};

/// How often the console is looked at: what appears within a twentieth of a second appears at once.
const LOOK: Duration = Duration::from_millis(50);

/// Arguments of `rekiln boot`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An image's name or id (or the beginning of one).
    image: String,
    /// Bakes and boots the debug variant: a root shell on this terminal. It can never be a fleet's target.
    #[arg(long)]
    debug: bool,
    /// Boots the disk as a computer does: firmware, UKI, `NVMe`. Slower; needs the package `ovmf`.
    #[arg(long)]
    uefi: bool,
    /// Memory in MiB.
    #[arg(long, default_value_t = 256, value_name = "MIB")]
    memory: u32,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What went wrong.
#[expect(clippy::needless_pass_by_value, reason = "all commands are called alike")]
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let store = context.store()?;
    let record =
        if args.debug { debug_variant(context, &args.image)? } else { find(context, &store, &args.image)? };
    let dir = store.image(record.id);
    let _while_it_boots = Claimed::image("`rekiln boot`", record.id).hold(&store)?;
    // Not beside a fleet's machines: what has no record there is ended by `reap`.
    let scratch = Scratch::new(&store, "boot")?;
    let spec = spec(scratch.dir(), &record, &dir, &args)?;
    let accelerator = accelerator(context, &store, &dir)?;
    if record.debug { interactive(&spec, accelerator) } else { stream(context, &spec, accelerator) }
}

/// Bakes the debug variant of a recipe; it gets no verdict, as no fleet may run it.
fn debug_variant(context: &Context, image: &str) -> Result<Record> {
    let baked = bake(context, &[image.to_owned()], true, false)?;
    let baked = baked.into_iter().next().ok_or_else(|| Error::failed("the bake returned no image"))?;
    Ok(baked.record)
}

/// Returns the image that Git asks for when `wanted` is a recipe of the repository, else the one in the store
/// whose id begins so.
fn find(context: &Context, store: &Store, wanted: &str) -> Result<Record> {
    let catalog = Catalog::new(store.clone());
    let repository = Repository::open(&context.repo).ok();
    let Some(repository) =
        repository.filter(|repository| repository.recipe_names().any(|name| name == wanted))
    else {
        return catalog.find(wanted);
    };
    let id = Identity::of(&repository, wanted, false)?.id;
    let record = catalog.get(id)?.ok_or_else(|| {
        Error::failed(format!("the store has no image `{wanted}` as Git asks for it ({})", id.short()))
            .hint(format!("bake it with `rekiln bake {wanted}`"))
    });
    // An older one boots too, but only when it is asked for by its id.
    match catalog.find(wanted) {
        Ok(older) => record.map_err(|error| {
            error.hint(format!("boot the last one that was baked with `rekiln boot {}`", older.id.short()))
        }),
        Err(_) => record,
    }
}

/// Every declared TCP port is forwarded from a free one here.
fn spec(scratch: &Path, record: &Record, dir: &Path, args: &Args) -> Result<Spec> {
    let guest: Vec<u16> =
        record.ports.iter().filter_map(|port| port.strip_suffix("/tcp")?.parse().ok()).collect();
    let host = verdict::free_ports(guest.len())?;
    let boot = if args.uefi { Boot::Uefi } else { Boot::direct(dir)? };
    Ok(Spec {
        dir: scratch.to_owned(),
        disk: dir.join("disk.raw"),
        boot,
        memory_mib: args.memory,
        cpus: 1,
        forwards: host.into_iter().zip(guest).map(|(host, guest)| Forward { host, guest }).collect(),
        name: format!("boot-{}", record.name),
        extras: crate::vm::Extras::default(),
    })
}

fn accelerator(context: &Context, store: &Store, dir: &Path) -> Result<Accelerator> {
    let probed = accel::probe(store, &dir.join("kernel"))?;
    if probed.accelerator == Accelerator::Tcg {
        context.progress().note("boot", format!("without KVM, and so slower: {}", probed.why));
    }
    Ok(probed.accelerator)
}

/// Starts QEMU as a child that ends with us: the kernel ends it when this thread ends, Ctrl-C included.
fn spawn(spec: &Spec, accelerator: Accelerator, console: Console) -> Result<Child> {
    let qemu = spec.command(accelerator, console, Wire::Forwards)?;
    let mut command = std::process::Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", QEMU]).args(qemu.get_args());
    if console == Console::File {
        command.stdin(Stdio::null()).stdout(Stdio::null());
    }
    command.spawn().map_err(|error| cannot_start("setpriv".as_ref(), error))
}

/// The debug variant: this terminal is the machine's console until the machine ends.
fn interactive(spec: &Spec, accelerator: Accelerator) -> Result<u8> {
    let mut child = spawn(spec, accelerator, Console::Terminal)?;
    let status = child.wait().doing(|| "waiting for the machine")?;
    Ok(u8::from(!status.success()))
}

/// Shows the console and what the agent says until Ctrl-C or the machine's end.
fn stream(context: &Context, spec: &Spec, accelerator: Accelerator) -> Result<u8> {
    let output = &context.output;
    let mut child = spawn(spec, accelerator, Console::File)?;
    for forward in &spec.forwards {
        output.line(format!("port {} of the machine is at 127.0.0.1:{}", forward.guest, forward.host));
        output.json(&serde_json::json!({ "event": "forward", "host": forward.host, "guest": forward.guest }));
    }
    output.line("its console follows; there is no way to log in; Ctrl-C ends it");
    let work = async {
        let mut console = Follow::new(spec.dir.join("console.log"));
        let mut ready = false;
        loop {
            console.show();
            if let (false, Some(said)) = (ready, report::last(&spec.dir).filter(|report| report.ready)) {
                ready = true;
                output.line(format!(
                    "up after {:.1} s; listening: {}",
                    said.uptime_s,
                    said.listening.join(" ")
                ));
                output.json(&serde_json::json!({ "event": "report", "report": said }));
            }
            if let Some(status) = child.try_wait().doing(|| "watching the machine")? {
                console.show();
                return Ok(u8::from(!status.success()));
            }
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return Ok(0),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    };
    let code = context.block_on(work);
    let _ = child.kill();
    let _ = child.wait();
    code
}

/// A file that grows, shown as it does.
struct Follow {
    path: PathBuf,
    seen: u64,
}

impl Follow {
    const fn new(path: PathBuf) -> Self {
        Self { path, seen: 0 }
    }

    /// Shows what is new. The file may not be there yet, and a reader who went away is no error.
    fn show(&mut self) {
        let Ok(mut file) = fs::File::open(&self.path) else { return };
        let mut new = Vec::new();
        if file.seek(SeekFrom::Start(self.seen)).is_ok() && file.read_to_end(&mut new).is_ok() {
            self.seen += new.len() as u64;
            let _ = std::io::stderr().write_all(report::plain(&String::from_utf8_lossy(&new)).as_bytes());
        }
    }
}
