//! `rekiln demo`: the whole way, with the commands a person would type.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::watch;

use super::{Context, doctor};
use crate::catalog::Catalog;
use crate::error::{Doing as _, Error, Result};
use crate::load::{Load, LoadReport};
use crate::lock::tools;
use crate::repository::Repository;
use crate::store::Store;
use crate::{git, vm};

/// The recipe, and the fleet that runs it.
const IMAGE: &str = "web";
const FLEET: &str = "web";

/// The variable that the demo's commit changes, in lines of `images/web.toml`.
const GREETING: (&str, &str) = ("hello", "good morning");

/// Requests a second: above the fifty that the guarantee is tested with.
const REQUESTS_PER_SECOND: u32 = 60;

/// Arguments of `rekiln demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave the fleet running at the end.
    #[arg(long)]
    keep: bool,
    /// Install missing Debian packages without asking.
    #[arg(long, short)]
    yes: bool,
}

/// What the demo measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Summary {
    cold_bake_s: f64,
    second_bake_s: f64,
    boot_to_serving_s: Option<f64>,
    roll_s: f64,
    rotate_s: f64,
    instances_replaced: u64,
    requests: LoadReport,
    total_s: f64,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// The step that failed; what it started is taken down.
#[expect(clippy::needless_pass_by_value, reason = "all commands are called alike")]
pub fn run(context: &Context, args: Args) -> Result<u8> {
    doctor::install(context, args.yes)?;
    context.block_on(async {
        let mut demo = Demo::new(context, listen()?)?;
        // What an earlier demo left, by --keep or because it was killed.
        demo.take_down().await?;
        demo.prepare()?;
        let outcome = demo.all().await;
        match outcome {
            Ok(summary) => {
                demo.tell(&summary);
                if args.keep {
                    context.output.line(format!("\nit goes on serving: http://{}/", demo.listen));
                    context.output.line(format!("take it down with `{} down {FLEET}`", demo.shown()));
                } else {
                    demo.take_down().await?;
                }
                Ok(u8::from(summary.requests.failed > 0))
            }
            Err(error) => {
                demo.take_down().await?;
                Err(error)
            }
        }
    })
}

/// The scratch copy of the repository and its store.
struct Demo<'a> {
    context: &'a Context,
    /// This program.
    rekiln: PathBuf,
    repo: PathBuf,
    store: Store,
    listen: SocketAddr,
    /// The signal that asked for the demo's end.
    stop: watch::Receiver<Option<Signal>>,
}

/// Listens for signals from now on; they do nothing by themselves any more, so that nothing is left running.
fn listen() -> Result<watch::Receiver<Option<Signal>>> {
    let signals = |kind| unix::signal(kind).doing(|| "listening for signals");
    let mut int = signals(SignalKind::interrupt())?;
    let mut term = signals(SignalKind::terminate())?;
    let mut hangup = signals(SignalKind::hangup())?;
    let (tell, stop) = watch::channel(None);
    tokio::spawn(async move {
        let signal = tokio::select! {
            _ = int.recv() => Signal::INT,
            _ = term.recv() => Signal::TERM,
            _ = hangup.recv() => Signal::HUP,
        };
        let _ = tell.send(Some(signal));
        // Held until the end, as a channel without a sender would look like another signal.
        tell.closed().await;
    });
    Ok(stop)
}

impl<'a> Demo<'a> {
    fn new(context: &'a Context, stop: watch::Receiver<Option<Signal>>) -> Result<Self> {
        let original = Repository::open(&context.repo)?;
        original.recipe(IMAGE)?;
        let listen = original.fleet(FLEET)?.local()?.listen;
        let home = context.store()?.root().join("demo");
        let store = Store::open(&home.join("store").display().to_string())?;
        let rekiln = std::env::current_exe().doing(|| "finding this program")?;
        Ok(Self { context, rekiln, repo: home.join("repository"), store, listen, stop })
    }

    /// Makes a scratch copy of the repository, with a history of its own, and empties the store but for inputs,
    /// so that the first bake is cold.
    fn prepare(&mut self) -> Result<()> {
        let Self { context, repo, .. } = &self;
        // Only what an earlier demo made lies there.
        let _ = std::fs::remove_dir_all(repo);
        for dir in ["images", "bootstrap", "fleets"] {
            copy(&context.repo.join(dir), &repo.join(dir))?;
        }
        let listen = free(self.listen)?;
        if listen != self.listen {
            let file = repo.join("fleets").join(format!("{FLEET}.toml"));
            replace(&file, &self.listen.to_string(), &listen.to_string())?;
        }
        git::init(repo)?;
        git::commit_all(repo, "the repository as it is")?;
        self.listen = listen;
        for dir in [self.store.root().join("layers"), self.store.images(), self.store.journals()] {
            std::fs::remove_dir_all(&dir).doing(|| format!("emptying {}", dir.display()))?;
            std::fs::create_dir(&dir).doing(|| format!("making {}", dir.display()))?;
        }
        // What an earlier demo found too slow on a busy computer is not held against the same image now.
        for name in ["quarantine", "breaker"] {
            let _ = std::fs::remove_dir_all(self.store.root().join(name));
        }
        Ok(())
    }

    async fn all(&self) -> Result<Summary> {
        let start = Instant::now();
        self.heading("A recipe becomes a sealed image");
        self.lock().await?;
        let cold = self.bake().await?;
        self.heading("Three machines behind HAProxy");
        self.command(&["roll", FLEET]).await?;
        self.command(&["status", FLEET]).await?;
        self.show_page().await?;

        self.heading("A commit rolls the fleet, under load");
        let load = Load::start(self.listen, REQUESTS_PER_SECOND);
        let changed = self.changed_fleet().await;
        let requests = load.stop().await;
        let (second, roll_s, rotate_s) = changed?;
        self.command(&["history", FLEET]).await?;
        let boot_to_serving_s =
            Catalog::new(self.store.clone()).find(IMAGE)?.verdict.and_then(|verdict| verdict.serving_s);
        let size = u64::from(Repository::open(&self.repo)?.fleet(FLEET)?.size);
        Ok(Summary {
            cold_bake_s: cold,
            second_bake_s: second,
            boot_to_serving_s,
            roll_s,
            rotate_s,
            // The roll replaced every machine, the rotation one of them again.
            instances_replaced: size + 1,
            requests,
            total_s: start.elapsed().as_secs_f64(),
        })
    }

    /// Changes the recipe, bakes, rolls and rotates; returns the seconds of the bake, the roll and the rotation.
    async fn changed_fleet(&self) -> Result<(f64, f64, f64)> {
        let recipe = self.repo.join("images").join(format!("{IMAGE}.toml"));
        replace(&recipe, GREETING.0, GREETING.1)?;
        let commit = git::commit_all(&self.repo, "web: greet as the day does")?;
        self.context.output.line(format!(
            "  commit {}: greeting = \"{}\" instead of \"{}\"",
            &commit[..12],
            GREETING.1,
            GREETING.0
        ));
        let second = self.bake().await?;
        self.command(&["plan", FLEET]).await?;
        let start = Instant::now();
        self.command(&["roll", FLEET, "--reason", "the demo's commit"]).await?;
        let roll_s = start.elapsed().as_secs_f64();
        self.show_page().await?;
        let start = Instant::now();
        let instance = self.first_instance().await?;
        self.command(&["rotate", FLEET, "--instance", &instance, "--reason", "the demo shows how"]).await?;
        Ok((second, roll_s, start.elapsed().as_secs_f64()))
    }

    /// Locks the images where needed. Locks rot: the archive drops old versions, and this machine's tools may be
    /// others than those the locks were made with. Then the scratch copy gets fresh ones.
    async fn lock(&self) -> Result<()> {
        let repository = Repository::open(&self.repo)?;
        let host = tools::host_tools()?;
        let stale = match repository.links(IMAGE) {
            Err(error) => Some(error.chain()),
            Ok(links) => links
                .iter()
                .find_map(|link| tools::check(&link.name, &link.lock, &host).err())
                .map(|error| error.chain()),
        };
        let reason = match stale {
            Some(reason) => reason,
            None => match self.fetch(&repository) {
                Ok(()) => return Ok(()),
                Err(error) if crate::lock::fetch::is_gone(&error) => error.chain(),
                Err(error) => return Err(error),
            },
        };
        self.context.output.line(format!("  the scratch copy's locks are refreshed: {reason}"));
        self.command(&["lock", "--all", "--update"]).await?;
        git::commit_all(&self.repo, "locks: refreshed for this machine and today's archive").map(drop)
    }

    fn fetch(&self, repository: &Repository) -> Result<()> {
        let links = repository.links(IMAGE)?;
        let locks: Vec<_> = links.iter().map(|link| &link.lock).collect();
        let settings = crate::lock::settings::Settings::load(&self.context.repo)?;
        crate::lock::fetch::fetch_all(&self.store, &settings, &locks, self.context.progress())
    }

    /// Bakes the image and returns the seconds it took, without fetching and without the boot verdict.
    async fn bake(&self) -> Result<f64> {
        self.context.output.line(format!("\n  $ rekiln bake base {IMAGE}"));
        let text = self.captured(&["bake", "--json", "base", IMAGE]).await?;
        let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines
            .filter(|line| line["event"] == "baked")
            .filter_map(|line| line["seconds"].as_f64())
            .reduce(f64::max)
            .ok_or_else(|| Error::failed("`rekiln bake --json` said no seconds"))
    }

    async fn first_instance(&self) -> Result<String> {
        let text = self.captured(&["status", FLEET, "--json"]).await?;
        let status: serde_json::Value =
            serde_json::from_str(text.trim()).doing(|| "reading the fleet's status")?;
        let first = status["instances"][0]["id"].as_str();
        first.map(str::to_owned).ok_or_else(|| Error::failed("the fleet has no instance"))
    }

    async fn show_page(&self) -> Result<()> {
        let listen = self.listen;
        let answer = tokio::task::spawn_blocking(move || vm::http::get(listen, "/", Duration::from_secs(10)))
            .await
            .doing(|| "fetching the page")?
            .map_err(|reason| Error::failed(format!("fetching http://{listen}/: {reason}")))?;
        self.context.output.line(format!("\n  http://{listen}/ answers {}:", answer.status));
        for line in answer.body.lines() {
            self.context.output.line(format!("    {line}"));
        }
        Ok(())
    }

    /// Ends what runs, whether the demo was asked to end or not.
    async fn take_down(&self) -> Result<()> {
        if !self.repo.exists() {
            return Ok(());
        }
        let fleet = self.store.local(FLEET).exists().then_some(&["down", FLEET][..]);
        for words in fleet.into_iter().chain([&["reap"][..]]) {
            let status = self.child(words, Stdio::null())?.wait().await;
            self.check(status.doing(|| format!("waiting for `rekiln {}`", quoted(words)))?, words)?;
        }
        Ok(())
    }

    /// Runs a rekiln command as a person would, shown with its output.
    async fn command(&self, words: &[&str]) -> Result<()> {
        self.context.output.line(format!("\n  $ rekiln {}", quoted(words)));
        // With --json, standard output is for the events only.
        let out = if self.context.output.is_json() { Stdio::null() } else { Stdio::inherit() };
        self.wait(self.child(words, out)?, words).await.map(drop)
    }

    /// Runs a command for what it prints as JSON; its words for people go to standard error as ever.
    async fn captured(&self, words: &[&str]) -> Result<String> {
        let printed = self.wait(self.child(words, Stdio::piped())?, words).await?;
        String::from_utf8(printed).doing(|| format!("reading what `rekiln {}` prints", quoted(words)))
    }

    fn child(&self, words: &[&str], stdout: Stdio) -> Result<Child> {
        Command::new(&self.rekiln)
            .arg("--repo")
            .arg(&self.repo)
            .arg("--store")
            .arg(self.store.root())
            .args(words)
            .stdin(Stdio::null())
            .stdout(stdout)
            .spawn()
            .doing(|| format!("starting `rekiln {}`", quoted(words)))
    }

    /// Waits for a command's end and returns what it printed. When the demo is asked to end, the command is, and then
    /// the demo.
    async fn wait(&self, child: Child, words: &[&str]) -> Result<Vec<u8>> {
        let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let mut stop = self.stop.clone();
        let asked = async {
            let signal = stop.wait_for(Option::is_some).await.map_or(None, |signal| *signal);
            // Ctrl-C reaches the command too, from the terminal; other signals only us. It is not waited for yet, so
            // that its number is its own.
            if let (Some(pid), Some(Signal::TERM | Signal::HUP)) = (pid, signal) {
                let _ = kill_process(pid, Signal::TERM);
            }
            std::future::pending::<()>().await;
        };
        let output = tokio::select! {
            output = child.wait_with_output() => output,
            () = asked => Err(std::io::ErrorKind::Interrupted.into()),
        };
        let output = output.doing(|| format!("waiting for `rekiln {}`", quoted(words)))?;
        if self.stop.borrow().is_some() {
            return Err(Error::interrupted("the demo was interrupted; its fleet is taken down"));
        }
        self.check(output.status, words).map(|()| output.stdout)
    }

    fn check(&self, status: ExitStatus, words: &[&str]) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        Err(Error::failed(format!("`rekiln {}` ended with {status}; its words are above", quoted(words)))
            .hint(format!("the demo's repository and store: {}", self.repo.display())))
    }

    fn heading(&self, text: &str) {
        self.context.output.line(format!("\n{text}"));
    }

    fn shown(&self) -> String {
        format!("rekiln --repo {} --store {}", self.repo.display(), self.store.root().display())
    }

    fn tell(&self, summary: &Summary) {
        let Summary { requests, .. } = summary;
        let output = &self.context.output;
        let seconds = |value: f64| format!("{value:.1} s");
        let serving = summary.boot_to_serving_s.map_or_else(|| "not measured".to_owned(), seconds);
        self.heading("Summary");
        for (name, value) in [
            ("cold bake", seconds(summary.cold_bake_s)),
            ("bake after the commit", seconds(summary.second_bake_s)),
            ("machine start to serving", serving),
            ("roll of the fleet", seconds(summary.roll_s)),
            ("rotation of one instance", seconds(summary.rotate_s)),
            ("instances replaced", summary.instances_replaced.to_string()),
            ("requests sent meanwhile", requests.sent.to_string()),
            ("requests failed", requests.failed.to_string()),
            ("slowest answer", format!("{} ms", requests.slowest_ms)),
            ("all of it", seconds(summary.total_s)),
        ] {
            output.line(format!("  {name:26} {value:>12}"));
        }
        for failure in &requests.failures {
            output.line(format!("  failed {failure}"));
        }
        output.json(&serde_json::json!({ "event": "demo", "summary": summary }));
    }
}

/// Writes words as a person would type them.
fn quoted(words: &[&str]) -> String {
    let quote = |word: &&str| if word.contains(' ') { format!("\"{word}\"") } else { (*word).to_owned() };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// Returns the address if it is free, else the same one with another port.
fn free(wanted: SocketAddr) -> Result<SocketAddr> {
    if TcpListener::bind(wanted).is_ok() {
        return Ok(wanted);
    }
    let listener =
        TcpListener::bind((wanted.ip(), 0)).doing(|| format!("finding a free port on {}", wanted.ip()))?;
    listener.local_addr().doing(|| "finding a free port")
}

fn replace(file: &Path, from: &str, to: &str) -> Result<()> {
    let text = std::fs::read_to_string(file).doing(|| format!("reading {}", file.display()))?;
    if !text.contains(from) {
        return Err(Error::failed(format!("{} has no `{from}` to change", file.display()))
            .hint("the demo runs in rekiln's own repository, or one made by `rekiln init`"));
    }
    std::fs::write(file, text.replace(from, to)).doing(|| format!("writing {}", file.display()))
}

/// Copies a directory with everything in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).doing(|| format!("making {}", to.display()))?;
    for entry in std::fs::read_dir(from).doing(|| format!("listing {}", from.display()))? {
        let entry = entry.doing(|| format!("listing {}", from.display()))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        // Build output is of this machine and large.
        if entry.file_name() == "target" {
            continue;
        }
        if source.is_dir() {
            copy(&source, &target)?;
        } else {
            std::fs::copy(&source, &target).doing(|| format!("copying {}", source.display()))?;
        }
    }
    Ok(())
}
