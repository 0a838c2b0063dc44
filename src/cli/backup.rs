//! `rekiln backup`.

mod restore;
mod status;

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use jiff::Timestamp;

use super::Context;
use super::fleet::Site;
use crate::backup::run::{Member, Work};
use crate::backup::take::{ROLE, Source};
use crate::backup::{BackupId, Place, Proof, Taken};
use crate::error::{Doing as _, Error, Result};
use crate::fleet::backup::{Settings, Target};
use crate::fleet::moment::lasting;
use crate::interrupt::stoppable;
use crate::objects::{Objects, S3Url};
use crate::provider::Provider as _;
use crate::provider::local::Founding;
use crate::scratch::Scratch;

/// Arguments of `rekiln backup`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Takes a backup and proves it: restores it into a fresh machine and asks that.
    Run {
        /// The fleet: the name of a file in `fleets/`, or of one of its shards.
        fleet: String,
    },
    /// Says which backups count, and which failed since. Exit code 1 where the last that counts is too old.
    Status {
        /// The fleet, or the file whose shards are all meant; all that have backups when none is named.
        fleet: Option<String>,
    },
    /// Proves a backup once more, or one that was not proved.
    Prove {
        /// The fleet.
        fleet: String,
        /// Which, as `rekiln backup status` has it [default: the last one].
        id: Option<String>,
    },
    /// Has the next roll found the fleet anew from a backup: the way out when all members are gone for good.
    Restore {
        /// The fleet.
        fleet: String,
        /// Which, as `rekiln backup status` has it [default: the last proved one].
        #[arg(long, value_name = "ID")]
        from: Option<String>,
        /// Goes on without asking.
        #[arg(long)]
        yes: bool,
    },
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What went wrong.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    match args.command {
        Command::Run { fleet } => stoppable(|| take_and_prove(context, &fleet)),
        Command::Status { fleet } => status::run(context, fleet),
        Command::Prove { fleet, id } => stoppable(|| prove(context, &fleet, id)),
        Command::Restore { fleet, from, yes } => restore::run(context, &fleet, from, yes),
    }
}

fn take_and_prove(context: &Context, name: &str) -> Result<u8> {
    let site = Site::open(context, name)?;
    let mut work = work(context, &site, "backup run")?;
    begin(context, &mut work)?;
    let mut worked = || -> Result<(BackupId, Taken, Proof, Member)> {
        // Its password is in a file of this process alone.
        let scratch = Scratch::new(&site.store, "backup")?;
        let member = member(context, &site, &scratch)?;
        let (id, taken) = work.take(&member)?;
        drop(scratch);
        let proof = work.prove(&id)?;
        for gone in work.prune()? {
            context.progress().note(name, format!("backup {gone} is no longer kept"));
        }
        work.end()?;
        Ok((id, taken, proof, member))
    };
    let done = worked();
    let (id, taken, proof, source) = finish(&mut work, done)?;
    context.output.json(&serde_json::json!({
        "event": "backup", "fleet": name, "id": id, "source": source.id, "taken": taken, "proof": proof,
    }));
    context.output.line(format!(
        "backup {id} of {name} counts: {} from {} in {}; restored in {} ({} to boot), and it answered {}",
        size(taken.bytes),
        source.id,
        lasting(taken.took),
        lasting(proof.restore),
        lasting(proof.boot),
        answered(&proof)
    ));
    context.output.line(format!("it is in {}", place(context, &site)?.told(&id)));
    Ok(0)
}

fn prove(context: &Context, name: &str, id: Option<String>) -> Result<u8> {
    let site = Site::open(context, name)?;
    let mut work = work(context, &site, "backup prove")?;
    begin(context, &mut work)?;
    let backups = work.journal.history();
    let last = || backups.iter().rev().find(|(_, backup)| backup.is_kept()).map(|(id, _)| id.clone());
    let Some(id) = id.map(BackupId).or_else(last) else {
        work.end()?;
        return Err(nothing_kept(name));
    };
    let proof = work.prove(&id);
    let proof = finish(&mut work, proof)?;
    work.end()?;
    context.output.json(&serde_json::json!({ "event": "proved", "fleet": name, "id": id, "proof": proof }));
    context.output.line(format!(
        "backup {id} of {name} counts: restored in {} ({} to boot), and it answered {}",
        lasting(proof.restore),
        lasting(proof.boot),
        answered(&proof)
    ));
    Ok(0)
}

fn nothing_kept(name: &str) -> Error {
    Error::failed(format!("no backup of {name} is kept"))
        .hint(format!("`rekiln backup run {name}` takes one"))
}

/// Gives the journal back where the work failed. That is written down already; whoever reads the error wants to know where it
/// is seen.
fn finish<T>(work: &mut Work<'_>, done: Result<T>) -> Result<T> {
    done.map_err(|error| {
        // What cannot be given back is free once this process has ended.
        let _ = work.end();
        error.hint(format!(
            "`rekiln backup status {}` has the last backup that counts, and what failed since",
            work.name
        ))
    })
}

/// Opens the journal of a fleet's backups.
fn work<'a>(context: &'a Context, site: &'a Site, command: &str) -> Result<Work<'a>> {
    let settings = settings(site)?;
    let place = place(context, site)?;
    let journal = context.block_on(place.journal(command))?;
    let (store, handle) = (site.store.clone(), context.handle()?.clone());
    Ok(Work {
        name: &site.name,
        fleet: &site.fleet,
        settings,
        store,
        place,
        journal,
        has: false,
        handle,
        progress: context.progress(),
    })
}

fn begin(context: &Context, work: &mut Work<'_>) -> Result<()> {
    for removed in work.begin()? {
        context.progress().note(work.name, format!("removed {removed}"));
    }
    Ok(())
}

fn settings(site: &Site) -> Result<Settings> {
    Settings::of(&site.fleet)?.ok_or_else(|| {
        Error::invalid(format!(
            "fleet {} has no backups: {} has no `[backup]`",
            site.name,
            site.file().display()
        ))
        .hint("`target` and `query` there: docs/databases.md, Backups")
    })
}

/// Returns where the backups of a fleet are.
pub fn place(context: &Context, site: &Site) -> Result<Place> {
    let region = site.fleet.aws.as_ref().map(|aws| aws.region.as_str());
    let target = match settings(site)?.target {
        Target::Directory(dir) => Objects::Directory(dir),
        Target::Bucket(url) => context.block_on(bucket(context, &url, region))?,
    };
    Ok(Place::new(target, &site.name))
}

#[cfg(feature = "aws")]
async fn bucket(context: &Context, url: &S3Url, region: Option<&str>) -> Result<Objects> {
    let region = url.region.as_deref().or(region).ok_or_else(|| {
        Error::invalid(format!("`backup.target` does not say in which region {url} is"))
            .hint(format!("`target = \"{url}?region=eu-west-1\"`"))
    })?;
    context.buckets.of(url, region).await.map(Objects::Bucket)
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "with AWS it waits for S3")]
async fn bucket(_: &Context, url: &S3Url, _: Option<&str>) -> Result<Objects> {
    Err(Error::failed(format!("backups are in {url}, and this rekiln was built without AWS"))
        .hint("build it with its default features"))
}

/// Has whoever founds the fleet begin with the backup that its journal names, if it names one.
///
/// # Errors
/// It is not kept any more, or cannot be reached: the fleet must not be founded blank then.
pub fn begin_with(context: &Context, site: &Site) -> Result<()> {
    if site.fleet.stateful.is_none() {
        return Ok(());
    }
    let restore = context.block_on(async { Ok(site.journal("look").await?.history().restore.clone()) })?;
    let Some(id) = restore.map(BackupId) else { return Ok(()) };
    let doing = |error: Error| error.during(format!("founding fleet {} from backup {id}", site.name));
    let found = || -> Result<Founding> {
        let place = place(context, site)?;
        let journal = context.block_on(place.journal("look"))?;
        let taken =
            journal.history().get(&id).filter(|backup| backup.is_kept()).and_then(|it| it.taken.clone());
        let taken = taken.ok_or_else(|| {
            Error::failed("it is not kept any more")
                .hint(format!("`rekiln backup restore {} --from ID` names another one", site.name))
        })?;
        Ok(Founding { parts: place.parts(&id), taken, handle: context.handle()?.clone() })
    };
    let founding = found().map_err(doing)?;
    site.provider.here("a fleet that is founded from a backup")?.begin_with(founding);
    Ok(())
}

/// Removes what killed processes left of backups, of each fleet of the repository. Returns what could not be removed, when
/// all else was.
pub fn reap(context: &Context, removed: &mut Vec<String>) -> Option<Error> {
    // Not every command needs a repository.
    let fleets = status::backed_up(context).ok()?;
    let mut failed = Vec::new();
    for name in fleets {
        match leftovers(context, &name) {
            Ok(found) => removed.extend(found),
            Err(error) => failed.push(error.during(format!("looking for what is left of backups of {name}"))),
        }
    }
    let last = failed.pop();
    for error in &failed {
        context.output.error(error);
    }
    last
}

fn leftovers(context: &Context, name: &str) -> Result<Vec<String>> {
    let site = Site::open(context, name)?;
    let mut work = work(context, &site, "reap")?;
    if let Some(entry) = work.journal.roller(Timestamp::now()) {
        context
            .output
            .line(format!("`{}` works at backups of {name}; what is its is left alone", entry.by.command));
        return Ok(Vec::new());
    }
    let backups = work.journal.history();
    if backups.unfinished().is_empty() && context.block_on(work.place.leftovers(backups))?.is_empty() {
        return Ok(Vec::new());
    }
    let removed = work.begin()?;
    work.end()?;
    Ok(removed)
}

/// Chooses the member that is copied.
fn member(context: &Context, site: &Site, scratch: &Scratch) -> Result<Member> {
    let census = context.block_on(async { site.provider.census().await.map_err(Error::from) })?;
    let source = crate::backup::memory::source(&census).map_err(|why| {
        Error::failed(format!("nobody in fleet {} can be copied: {why}", site.name))
            .hint(format!("`rekiln status {}` shows them; the last backup that counts is kept", site.name))
    })?;
    let gone = || Error::failed(format!("{source} has just ended")).hint("run this again");
    if let Some(login) = site.fleet.backup.as_ref().and_then(|backup| backup.login.as_ref()) {
        let seen = census.instances.iter().find(|seen| seen.id == *source).ok_or_else(gone)?;
        let address = seen.address.ok_or_else(|| Error::failed(format!("{source} has no address")))?;
        let image = seen.image.ok_or_else(|| {
            Error::failed(format!("{source} runs no image of rekiln's")).hint(format!(
                "a backup is restored into a machine of the same image: roll {} first",
                site.name
            ))
        })?;
        let passwords = passwords(scratch, &login.user, &password(&login.password_file)?)?;
        let address = SocketAddr::new(address.ip(), login.port);
        let source = Source { address, role: login.user.clone(), passwords };
        return Ok(Member { id: seen.id.clone(), image, source });
    }
    let here = site.provider.here("`rekiln backup`")?;
    let record = here.record(source)?.ok_or_else(gone)?;
    let passwords = passwords(scratch, ROLE, &here.secret()?.password(ROLE))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, record.port));
    let source = Source { address, role: ROLE.to_owned(), passwords };
    Ok(Member { id: record.id, image: record.image, source })
}

/// Reads a password from the first line of a file.
fn password(file: &str) -> Result<String> {
    let text = fs::read_to_string(file).doing(|| format!("reading `backup.login.password_file`, {file}"))?;
    text.lines().next().filter(|line| !line.is_empty()).map(str::to_owned).ok_or_else(|| {
        Error::invalid(format!(
            "{file} is empty: it should have the password of `[backup.login]` in its first line"
        ))
    })
}

/// Writes a password where only this process's user reads it, as `libpq` wants it.
fn passwords(scratch: &Scratch, role: &str, password: &str) -> Result<PathBuf> {
    let file = scratch.dir().join("pgpass");
    let made = File::options().write(true).create_new(true).mode(0o600).open(&file);
    made.and_then(|mut made| writeln!(made, "*:*:*:{}:{}", escaped(role), escaped(password)))
        .doing(|| format!("writing {}", file.display()))?;
    Ok(file)
}

/// Writes a field of a password file. Source: libpq's documentation, "The Password File".
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace(':', "\\:")
}

/// Says what the query answered.
fn answered(proof: &Proof) -> String {
    match proof.rows {
        1 => format!("`{}`", proof.first),
        rows => format!("{rows} rows, the first of which begins with `{}`", proof.first),
    }
}

/// Says how many bytes that are, as people do.
fn size(bytes: u64) -> String {
    // Three digits and a unit are enough for anyone.
    let mut unit = ("B", 1_u64);
    for larger in [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)] {
        if bytes >= larger.1 {
            unit = larger;
        }
    }
    let (name, one) = unit;
    let tenths = bytes.saturating_mul(10) / one % 10;
    if bytes / one < 100 && one > 1 {
        format!("{}.{tenths} {name}", bytes / one)
    } else {
        format!("{} {name}", bytes / one)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_password_may_have_any_sign() {
        assert_eq!(super::escaped(r"a:b\c"), r"a\:b\\c");
    }

    #[test]
    fn sizes() {
        for (bytes, expected) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (123 << 30, "123 GiB")]
        {
            assert_eq!(super::size(bytes), expected);
        }
    }
}
