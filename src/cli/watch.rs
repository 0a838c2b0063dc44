//! `rekiln watch`.

mod hands;
mod look;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use jiff::Timestamp;

use self::hands::Computer;
use super::Context;
use crate::chain::Writer;
use crate::error::{Doing as _, Error, Result};
use crate::git::{self, branch};
use crate::notation;
use crate::watch::schedule::Daily;
use crate::watch::secret::Secret;
use crate::watch::server::{self, Door, Request};
use crate::watch::service::{Message, Service, Settings};
use crate::watch::view::View;

/// Reads the time of a night.
const DAILY: fn(&str) -> Result<Daily, String> = str::parse;

/// How many requests may wait for the service: each of its turns takes them all.
const WAITING: usize = 64;

/// Arguments of `rekiln watch`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The remote repository that is followed.
    #[arg(long, value_name = "REMOTE", default_value = "origin")]
    remote: String,
    /// The branch that is carried out.
    #[arg(long, value_name = "NAME", default_value = "main")]
    branch: String,
    /// How often the remote is asked; a push can also say so by a webhook.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = notation::duration)]
    poll: Duration,
    /// How often fleets are looked at: what is sick, too old, touched or unfinished is replaced.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = notation::duration)]
    look: Duration,
    /// When updates are looked for, each day, such as `02:30 Europe/Berlin` [default: never].
    #[arg(long, value_name = "TIME", value_parser = DAILY)]
    nightly: Option<Daily>,
    /// The branch that gets the updates, as for `rekiln nightly`.
    #[arg(long, value_name = "NAME", default_value = "rekiln/nightly", requires = "nightly")]
    nightly_branch: String,
    /// Publishes what the updates make, as `rekiln nightly --publish` does.
    #[cfg(feature = "aws")]
    #[arg(long, requires = "nightly")]
    nightly_publish: bool,
    /// Carries out a commit only if it is signed with an SSH key that this file of allowed signers has.
    #[arg(long, value_name = "FILE", env = "REKILN_ALLOWED_SIGNERS")]
    allowed_signers: Option<PathBuf>,
    /// Where the page, the metrics and the webhooks are. There is no TLS here, and whoever reaches it can read it: put a
    /// proxy in front, or a network that only you have.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9180")]
    listen: SocketAddr,
    /// A name by which browsers may reach the page, besides `localhost` and addresses.
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// The file with the secret of the webhooks; without it, there are none.
    #[arg(long, value_name = "FILE", env = "REKILN_WATCH_SECRET_FILE")]
    secret_file: Option<PathBuf>,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What keeps it from starting. What goes wrong later is said, and tried again.
#[expect(clippy::needless_pass_by_value, reason = "all commands are called alike")]
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let settings = settings(context, &args)?;
    let secret = args.secret_file.as_deref().map(Secret::read).transpose()?.map(Arc::new);
    let computer = Computer::new(context, &args)?;
    let runtime = context.handle()?;
    let (sender, messages) = mpsc::channel();
    let (shown, view) = tokio::sync::watch::channel(Arc::new(View::before(&settings)));
    let (incoming, requests) = tokio::sync::mpsc::channel(WAITING);
    let listener = context.block_on(async {
        let listener = tokio::net::TcpListener::bind(args.listen).await;
        listener.doing(|| format!("listening on {}", args.listen))
    });
    let listener = listener.map_err(|error| error.hint("name another address with `--listen`"))?;
    let address = listener.local_addr().doing(|| "asking where it listens")?;
    let door = Door { view, secret, incoming, hosts: args.hosts.clone() };
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let serving = runtime.spawn(server::serve(listener, door, async { drop(ended.await) }));
    runtime.spawn(forward(requests, sender.clone()));
    runtime.spawn(stop_on_signals(sender.clone()));
    let log = |word: &str, text: &str, value: serde_json::Value| log(context, word, text, value);
    let listening = format!("the page is on http://{address}/, metrics on /metrics");
    log("starts", &listening, serde_json::json!({ "address": address, "branch": settings.branch }));
    std::thread::scope(|threads| {
        Service::new(&computer, &settings, runtime.clone(), &log, (sender, messages), &shown).run(threads);
    });
    drop(end);
    // Answers that are under way are given.
    context.block_on(async { serving.await.doing(|| "ending the server") })?;
    log("ends", "everything that was begun has ended", serde_json::json!({}));
    Ok(0)
}

fn settings(context: &Context, args: &Args) -> Result<Settings> {
    let Args { remote, branch, poll, look, .. } = args;
    branch::check_name(&context.repo, branch)?;
    branch::check_trusted(&context.repo)?;
    let address = git::remote(&context.repo, remote).ok_or_else(|| {
        Error::invalid(format!("{} has no remote `{remote}`", context.repo.display()))
            .hint("`git remote -v` lists those that it has; name one with `--remote`")
    })?;
    for (name, time) in [("--poll", poll), ("--look", look)] {
        if *time < Duration::from_secs(1) {
            return Err(Error::invalid(format!("`{name}` must be a second at least")));
        }
    }
    Ok(Settings {
        remote: address,
        branch: branch.clone(),
        poll: *poll,
        look: *look,
        nights: args.nightly.clone(),
        signed: args.allowed_signers.is_some(),
        journals: context.store()?.objects(),
        writer: Writer::this(format!("rekiln watch --branch {branch}")),
    })
}

/// Writes a line for people, with the time, and the same for programs.
fn log(context: &Context, word: &str, text: &str, mut value: serde_json::Value) {
    let now = Timestamp::now();
    context.output.line(format!("{now:.0}  {word:8}  {text}"));
    if let Some(map) = value.as_object_mut() {
        map.insert("event".to_owned(), word.into());
        map.insert("at".to_owned(), format!("{now:.3}").into());
        map.insert("text".to_owned(), text.into());
    }
    context.output.json(&value);
}

async fn forward(mut requests: tokio::sync::mpsc::Receiver<Request>, to: Sender<Message>) {
    while let Some(request) = requests.recv().await {
        if to.send(Message::Incoming(request)).is_err() {
            return;
        }
    }
}

async fn stop_on_signals(to: Sender<Message>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    loop {
        tokio::select! { _ = int.recv() => {} _ = term.recv() => {} }
        if to.send(Message::Stop).is_err() {
            return;
        }
    }
}
