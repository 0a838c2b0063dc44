//! Tell: the command line. One file a command; `Context` is what they share.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use clap::{Parser, Subcommand};

use crate::error::{Doing as _, Result};
use crate::progress::Progress;
use crate::store::Store;

pub mod apply;
mod audit;
pub mod aws;
mod backup;
pub mod bake;
pub mod boot;
pub mod breaker;
pub mod cancel;
pub mod chaos;
pub mod check;
pub mod completions;
mod confirm;
pub mod demo;
mod desk;
pub mod diff;
pub mod doctor;
pub mod down;
mod fleet;
pub mod gc;
pub mod history;
pub mod id;
pub mod image;
pub mod images;
pub mod init;
pub mod inspect;
mod journals;
pub mod lock;
pub mod man;
mod marks;
pub mod nightly;
mod output;
pub mod pause;
pub mod plan;
#[cfg(feature = "aws")]
pub mod publish;
pub mod quarantine;
pub mod reap;
pub mod replay;
pub mod resume;
pub mod retarget;
pub mod revive;
pub mod roll;
pub mod rotate;
pub mod schema;
pub mod sign;
mod simulate;
pub mod status;
mod turn;
#[cfg(feature = "aws")]
pub mod verify_ami;
mod watch;
mod wrap;

pub use output::Output;

/// Bakes hardened machine images from recipes in Git and rolls fleets by replacing instances.
///
/// Exit codes: 0 done; 1 failed; 2 usage or an invalid file; 3 holding (work remains and something named
/// blocks it); 4 lost the journal to another writer; 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "rekiln", version, propagate_version = true)]
pub struct Cli {
    /// The repository with `images/`, `bootstrap/` and `fleets/` [default: the nearest one above this directory].
    #[arg(long, short = 'C', global = true, value_name = "DIR")]
    repo: Option<PathBuf>,
    /// Where rekiln keeps what is not in Git: a directory or file:// URL [default: `.rekiln` in the repository].
    #[arg(long, global = true, env = "REKILN_STORE", value_name = "URL")]
    store: Option<String>,
    /// One JSON event a line on standard output; text goes to standard error.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Validates every recipe, template and fleet file, and every reference between them.
    Check(check::Args),
    /// Resolves packages and artifacts and writes `images/<name>.lock`.
    Lock(lock::Args),
    /// Prints the image id without building anything.
    Id(id::Args),
    /// Bakes images from their locks, inspects them and boots each once.
    Bake(bake::Args),
    /// Brings all locks up to date with the archive, bakes and boots what changes, and commits it to a branch.
    Nightly(nightly::Args),
    /// Opens a sealed disk: findings by rule, and the inventory.
    Inspect(inspect::Args),
    /// Boots an image to look at; there is no way to log in.
    Boot(boot::Args),
    /// Lists the images in the store.
    Images(images::Args),
    /// Shows the record of one image.
    Image(image::Args),
    /// Shows what changed between two images.
    Diff(diff::Args),
    /// Vouches for images: signs where they come from, for fleets that run only what is signed.
    Sign(sign::Args),
    /// Publishes baked, passing images as AMIs: only what changed is sent, and a run that was stopped goes on.
    #[cfg(feature = "aws")]
    Publish(publish::Args),
    /// Reads published AMIs back and says whether they are byte for byte the images in the store.
    #[cfg(feature = "aws")]
    VerifyAmi(verify_ami::Args),
    /// Says what AWS has to allow.
    Aws(aws::Args),
    /// Says for each instance what it is and what will happen, changing nothing.
    Plan(plan::Args),
    /// Carries out a merge: bakes and publishes what a commit changes, and rolls the fleets that it touches.
    Apply(apply::Args),
    /// Follows a branch as a service: carries out each commit, looks for updates, keeps fleets as they should be, answers alerts.
    ///
    /// Each of these is the command that a person would run, in a process of its own. Its page, its metrics and its webhooks
    /// are on `--listen`. Of several that watch the same branch with the same store, one leads; when it dies, another one goes
    /// on where it stopped.
    Watch(watch::Args),
    /// Rolls a fleet to the image that Git asks for, or to another one.
    Roll(roll::Args),
    /// Replaces instances although nothing changed.
    Rotate(rotate::Args),
    /// Kills instances on purpose, as failures would, and says how the fleet got over each and what clients saw.
    ///
    /// One instance at a time, of a fleet that is whole and at rest, and never below its floor. What was killed is replaced by
    /// whoever keeps the fleet, such as `rekiln watch`, or else by this command. `rekiln pause` stops it, from anywhere.
    Chaos(chaos::Args),
    /// Tries a fleet file out: rolls a simulated fleet, with what goes wrong.
    Simulate(simulate::Args),
    /// Keeps a fleet from being replaced any further, or at all; what is sick is still cured.
    Pause(pause::Args),
    /// Lets a paused fleet go on.
    Resume(resume::Args),
    /// Starts machines that ended again, with their disks, where too many of those that hold data did.
    Revive(revive::Args),
    /// Ends a rollout and leaves everything as it is, or goes back.
    Cancel(cancel::Args),
    /// Gives a running rollout another target.
    Retarget(retarget::Args),
    /// Lists, adds or clears images that no fleet may launch.
    Quarantine(quarantine::Args),
    /// Takes backups of a fleet that holds data, and proves each by a restore; or founds the fleet anew from one.
    Backup(backup::Args),
    /// Shows or clears the circuit breaker, which failed rollouts open.
    Breaker(breaker::Args),
    /// Says whether anyone could log in to a fleet's instances, or did.
    Audit(audit::Args),
    /// Says what runs.
    Status(status::Args),
    /// Tells the rollouts of a fleet as stories, from its journal.
    History(history::Args),
    /// Checks a fleet's journal, and makes every decision in it again.
    Replay(replay::Args),
    /// Ends every instance of a fleet and its load balancer.
    Down(down::Args),
    /// Removes what no record claims, and what publications made that were never finished.
    Reap(reap::Args),
    /// Removes images, layers and inputs that nothing reaches from the local store, or pins those that are to stay.
    ///
    /// Kept is what is reached by a fleet in Git (in the work tree, at HEAD and at each --ref), by the journal of a
    /// fleet (where its rollout goes, what it can go back to, what its instances were launched from), by a running
    /// machine, by evidence, by a pin, or by a bake or rollout that is under way; and what is new. Locks in Git and kept
    /// images keep their inputs and layers.
    Gc(gc::Args),
    /// Says what this machine has and lacks, and what follows from it.
    Doctor(doctor::Args),
    /// Writes a small repository of one's own.
    Init(init::Args),
    /// Bakes, starts, rolls and rotates a fleet on this machine, under load.
    Demo(demo::Args),
    /// Prints the JSON schema of recipes or fleets.
    Schema(schema::Args),
    /// Prints shell completions.
    Completions(completions::Args),
    /// Prints the manual page.
    Man(man::Args),
    /// Carries out the steps of a bake in a tree; started by a bake.
    #[command(hide = true)]
    Sandbox,
}

/// What every command gets.
pub struct Context {
    /// The repository's root; absolute. Not checked to be one.
    pub repo: PathBuf,
    /// The store's URL.
    pub store_url: String,
    /// Where text, progress and JSON go.
    pub output: Arc<Output>,
    /// What all asynchronous work of this process runs on, fleets at the same time included: they share connections, which
    /// end with the runtime that made them. Made when it is first needed.
    pub runtime: OnceLock<tokio::runtime::Runtime>,
    /// The accounts and regions that were reached, each once.
    #[cfg(feature = "aws")]
    pub clouds: crate::provider::aws::group::Clouds,
    /// The buckets that were reached, each once.
    #[cfg(feature = "aws")]
    pub buckets: crate::provider::aws::Buckets,
}

impl Context {
    /// Opens the store.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn store(&self) -> Result<Store> {
        Store::open(&self.store_url)
    }

    /// Returns where long work reports to.
    #[must_use]
    pub fn progress(&self) -> &dyn Progress {
        &*self.output
    }

    /// Runs asynchronous work to its end.
    ///
    /// # Errors
    /// What the work returns, or that the runtime could not start.
    pub fn block_on<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.handle()?.block_on(work)
    }

    /// Returns what asynchronous work is started on.
    ///
    /// # Errors
    /// The runtime could not start.
    pub fn handle(&self) -> Result<&tokio::runtime::Handle> {
        let runtime = if let Some(runtime) = self.runtime.get() {
            runtime
        } else {
            let made = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            let made = made.doing(|| "starting the asynchronous runtime")?;
            // Another thread may have been first; then this one's is dropped.
            self.runtime.get_or_init(|| made)
        };
        Ok(runtime.handle())
    }
}

/// Parses the command line, runs the command, and returns the exit code.
#[must_use]
pub fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let output = Arc::new(Output::new(cli.json));
    match run(cli, &output) {
        Ok(code) => code.into(),
        Err(error) => {
            output.error(&error);
            error.exit_code().into()
        }
    }
}

fn run(cli: Cli, output: &Arc<Output>) -> Result<u8> {
    let here = std::env::current_dir().doing(|| "finding the current directory")?;
    let repo = match cli.repo {
        Some(dir) => here.join(dir),
        None => here.ancestors().find(|dir| dir.join("images").is_dir()).unwrap_or(&here).to_owned(),
    };
    let store_url = cli.store.unwrap_or_else(|| repo.join(".rekiln").display().to_string());
    let context = Context {
        repo,
        store_url,
        output: Arc::clone(output),
        runtime: OnceLock::new(),
        #[cfg(feature = "aws")]
        clouds: crate::provider::aws::group::Clouds::default(),
        #[cfg(feature = "aws")]
        buckets: crate::provider::aws::Buckets::default(),
    };
    match cli.command {
        Command::Check(args) => check::run(&context, args),
        Command::Lock(args) => lock::run(&context, args),
        Command::Id(args) => id::run(&context, args),
        Command::Bake(args) => bake::run(&context, args),
        Command::Nightly(args) => nightly::run(&context, args),
        Command::Inspect(args) => inspect::run(&context, args),
        Command::Boot(args) => boot::run(&context, args),
        Command::Images(args) => images::run(&context, args),
        Command::Image(args) => image::run(&context, args),
        Command::Diff(args) => diff::run(&context, args),
        #[cfg(feature = "aws")]
        Command::Publish(args) => publish::run(&context, args),
        #[cfg(feature = "aws")]
        Command::VerifyAmi(args) => verify_ami::run(&context, args),
        Command::Aws(args) => aws::run(&context, args),
        Command::Sign(args) => sign::run(&context, args),
        Command::Plan(args) => plan::run(&context, args),
        Command::Apply(args) => apply::run(&context, args),
        Command::Watch(args) => watch::run(&context, args),
        Command::Roll(args) => roll::run(&context, args),
        Command::Rotate(args) => rotate::run(&context, args),
        Command::Chaos(args) => chaos::run(&context, args),
        Command::Simulate(args) => simulate::run(&context, args),
        Command::Pause(args) => pause::run(&context, args),
        Command::Resume(args) => resume::run(&context, args),
        Command::Revive(args) => revive::run(&context, args),
        Command::Cancel(args) => cancel::run(&context, args),
        Command::Retarget(args) => retarget::run(&context, args),
        Command::Quarantine(args) => quarantine::run(&context, args),
        Command::Backup(args) => backup::run(&context, args),
        Command::Breaker(args) => breaker::run(&context, args),
        Command::Audit(args) => audit::run(&context, args),
        Command::Status(args) => status::run(&context, args),
        Command::History(args) => history::run(&context, args),
        Command::Replay(args) => replay::run(&context, args),
        Command::Down(args) => down::run(&context, args),
        Command::Reap(args) => reap::run(&context, args),
        Command::Gc(args) => gc::run(&context, args),
        Command::Doctor(args) => doctor::run(&context, args),
        Command::Init(args) => init::run(&context, args),
        Command::Demo(args) => demo::run(&context, args),
        Command::Schema(args) => schema::run(&context, args),
        Command::Completions(args) => completions::run(&context, args),
        Command::Man(args) => man::run(&context, args),
        Command::Sandbox => Ok(crate::bake::sandbox::enter()),
    }
}

/// Who says so: the person behind sudo too.
fn person() -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let name = name.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    format!("{name}@{}", rustix::system::uname().nodename().to_string_lossy())
}
