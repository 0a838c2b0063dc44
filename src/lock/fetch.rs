//! Inputs into the vault: from mirrors, then from archives of old versions, every byte checked.

use std::collections::BTreeMap;

use super::archive::Archives;
use super::settings::Settings;
use super::{Lock, LockedFetch, download, vault};
use crate::digest::Digest;
use crate::error::{Doing as _, Error, Result};
use crate::progress::{Event, Progress};
use crate::recipe::Fetch;
use crate::scratch::Scratch;
use crate::store::Store;

/// What progress is reported under.
const SCOPE: &str = "vault";
const STEP: &str = "fetching inputs";

/// Inputs that every configured place was asked for and none has.
#[derive(Debug, thiserror::Error)]
#[error("{} of the locked inputs are nowhere any more:\n  {}", missing.len(), missing.join("\n  "))]
pub struct Gone {
    /// One line an input.
    pub missing: Vec<String>,
}

/// Tells whether an error means that inputs are gone from the archives: a refreshed lock cures it.
#[must_use]
pub fn is_gone(error: &Error) -> bool {
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        if source.is::<Gone>() {
            return true;
        }
        next = source.source();
    }
    false
}

/// An input that the vault lacks, and where it may be.
#[derive(Debug)]
struct Wanted {
    name: String,
    sha256: Digest,
    /// Unknown for an artifact that is being locked.
    size: Option<u64>,
    /// In the order they are asked.
    urls: Vec<String>,
    /// Why a place could not answer; a place that answered "not here" is none.
    failures: Vec<String>,
}

/// Makes sure that every package and artifact of `locks` is in the vault. A full vault touches no network.
///
/// # Errors
/// Bytes that differ from the lock, with where they came from; inputs that are nowhere (see [`is_gone`]);
/// places that could not be reached.
pub fn fetch_all(store: &Store, settings: &Settings, locks: &[&Lock], progress: &dyn Progress) -> Result<()> {
    let mut wanted = BTreeMap::new();
    for lock in locks {
        let mut archives = None;
        for package in &lock.packages {
            if vault::has(store, package.sha256, package.size) || wanted.contains_key(&package.sha256) {
                continue;
            }
            let archives = match &mut archives {
                Some(known) => &*known,
                none => none.insert(archives_of(lock, settings)?),
            };
            wanted.insert(
                package.sha256,
                Wanted {
                    name: format!("{} {}", package.name, package.version),
                    sha256: package.sha256,
                    size: Some(package.size),
                    urls: archives.candidates(package, lock.epoch),
                    failures: Vec::new(),
                },
            );
        }
        for fetch in lock.fetches.iter().filter(|fetch| !vault::has(store, fetch.sha256, fetch.size)) {
            wanted.insert(fetch.sha256, artifact(&fetch.url, fetch.sha256, Some(fetch.size)));
        }
    }
    fetch(store, wanted.into_values().collect(), progress)
}

/// Fetches a recipe's artifacts and returns them with their sizes, for its lock.
///
/// # Errors
/// As [`fetch_all`].
pub fn artifacts(store: &Store, fetches: &[Fetch], progress: &dyn Progress) -> Result<Vec<LockedFetch>> {
    let missing = fetches
        .iter()
        .filter(|fetch| !store.vault(fetch.sha256).is_file())
        .map(|fetch| (fetch.sha256, artifact(&fetch.url, fetch.sha256, None)));
    // A map, since two artifacts may be the same bytes.
    let missing: BTreeMap<_, _> = missing.collect();
    fetch(store, missing.into_values().collect(), progress)?;
    fetches
        .iter()
        .map(|fetch| {
            let file = vault::open(store, fetch.sha256)?;
            let size = file.metadata().doing(|| format!("reading the size of {}", fetch.url))?.len();
            Ok(LockedFetch { url: fetch.url.clone(), sha256: fetch.sha256, size })
        })
        .collect()
}

fn artifact(url: &str, sha256: Digest, size: Option<u64>) -> Wanted {
    Wanted { name: url.to_owned(), sha256, size, urls: vec![url.to_owned()], failures: Vec::new() }
}

fn archives_of(lock: &Lock, settings: &Settings) -> Result<Archives> {
    let suite = lock.suites.first().ok_or_else(|| {
        Error::failed("the lock has packages, but no suite that they come from")
            .hint("make it anew with `rekiln lock --update`")
    })?;
    Archives::configured(settings, &suite.name)
}

/// Asks the first place of every input, then the second of those that it did not have, and so on.
fn fetch(store: &Store, mut wanted: Vec<Wanted>, progress: &dyn Progress) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let total = wanted.len() as u64;
    progress.step(SCOPE, STEP, || {
        let scratch = Scratch::new(store, "fetch")?;
        let mut done = 0;
        for round in 0.. {
            let (asked, exhausted): (Vec<_>, Vec<_>) =
                wanted.into_iter().partition(|input| round < input.urls.len());
            if asked.is_empty() {
                return conclude(store, exhausted);
            }
            let mut missing = exhausted;
            missing.extend(ask(store, &scratch, asked, round, &mut || {
                done += 1;
                progress.tell(Event::Advanced {
                    scope: SCOPE.to_owned(),
                    step: STEP.to_owned(),
                    done,
                    total,
                });
            })?);
            wanted = missing;
            if wanted.is_empty() {
                break;
            }
        }
        Ok(())
    })
}

/// Asks one place for each input; returns those that it does not have.
fn ask(
    store: &Store,
    scratch: &Scratch,
    mut asked: Vec<Wanted>,
    round: usize,
    arrived: &mut dyn FnMut(),
) -> Result<Vec<Wanted>> {
    let file = |input: &Wanted| scratch.dir().join(input.sha256.to_string());
    let transfers: Vec<_> = asked
        .iter()
        .map(|input| download::Transfer { url: input.urls[round].clone(), to: file(input), size: input.size })
        .collect();
    let mut here = vec![false; asked.len()];
    download::run(scratch.dir(), &transfers, |at, outcome| {
        let Some(input) = asked.get_mut(at) else { return Ok(()) };
        match outcome {
            download::Outcome::Arrived => {
                check(input, &transfers[at])?;
                vault::keep(store, &transfers[at].to, input.sha256)?;
                here[at] = true;
                arrived();
            }
            download::Outcome::Absent => {}
            download::Outcome::Failed(why) => input.failures.push(format!("{}: {why}", transfers[at].url)),
        }
        Ok(())
    })?;
    let mut here = here.into_iter();
    asked.retain(|_| !here.next().unwrap_or(false));
    Ok(asked)
}

/// Compares the bytes that arrived with the lock.
fn check(input: &Wanted, transfer: &download::Transfer) -> Result<()> {
    let what = || format!("reading {}", transfer.to.display());
    let size = std::fs::metadata(&transfer.to).doing(what)?.len();
    let got = Digest::of_file(&transfer.to).doing(what)?;
    if got == input.sha256 && input.size.is_none_or(|expected| expected == size) {
        return Ok(());
    }
    let expected = input.size.map_or_else(String::new, |size| format!(" ({size} bytes)"));
    Err(Error::failed(format!(
        "{} is not what is locked\n  from      {}\n  expected  {}{expected}\n  got       {got} ({size} bytes)",
        input.name, transfer.url, input.sha256
    ))
    .hint("the source is wrong or altered; nothing of it was kept"))
}

/// Says what is missing: gone, when every place answered that it does not have it.
fn conclude(store: &Store, missing: Vec<Wanted>) -> Result<()> {
    let failures: Vec<&str> = missing.iter().flat_map(|input| &input.failures).map(String::as_str).collect();
    if let Some(first) = failures.first() {
        let more = match failures.len() - 1 {
            0 => String::new(),
            n => format!(" (and {n} more)"),
        };
        return Err(Error::failed(format!("{} inputs could not be fetched: {first}{more}", missing.len()))
            .hint("check the network and the mirrors: REKILN_MIRROR, or this machine's apt sources"));
    }
    let missing = missing.into_iter().map(|input| format!("{}  {}", input.sha256, input.name)).collect();
    let vault = store.root().join("vault");
    let gone: Result<()> = Err(Gone { missing }).doing(|| "fetching inputs");
    gone.map_err(|error| {
        error
            .hint("refresh the lock: `rekiln lock --update IMAGE`; the image then has newer packages")
            .hint(format!(
                "or bring the locked versions: set REKILN_SNAPSHOTS (`snapshots` in .rekiln.toml) to archives of old versions, or copy the files from another vault to {}",
                vault.display()
            ))
    })
}
