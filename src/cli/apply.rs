//! `rekiln apply`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::Context;
use super::fleet::Site;
use crate::bake::identity::Identity;
use crate::bake::image::{Bake, Baked, Checkout};
use crate::error::{Doing as _, Error, Result};
use crate::fleet::generation::Target;
use crate::fleet::roll::{Order, Summary};
use crate::git::{self, Revision, branch, signature};
use crate::interrupt;
use crate::lock::settings::Settings;
use crate::pipeline::apply::Work;
use crate::pipeline::change::Change;
use crate::pipeline::tree::{Tree, short};
use crate::store::Store;

/// Arguments of `rekiln apply`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The commit that was applied before: only what differs from it is baked and rolled. Without it, all fleets are.
    #[arg(long, value_name = "REV")]
    from: Option<String>,
    /// The commit that is applied.
    #[arg(long, value_name = "REV", default_value = "HEAD")]
    to: String,
    /// Applies the commit only if it is signed with an SSH key that this file of allowed signers has.
    #[arg(long, value_name = "FILE", env = "REKILN_ALLOWED_SIGNERS")]
    allowed_signers: Option<PathBuf>,
    /// Applies a commit that does not come after the one that a fleet carries.
    #[arg(long)]
    older: bool,
    /// Goes on without asking when more instances are to be replaced than `roll.guard` allows.
    #[arg(long)]
    yes: bool,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// A commit that is not valid or is older than what runs; an image that failed, and then no fleet is rolled; a fleet that
/// failed, and then those after it are not begun.
#[expect(clippy::needless_pass_by_value, reason = "all commands are called alike")]
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let store = context.store()?;
    // From here on it is a name that means the same bytes for ever.
    let commit = git::commit_of(&context.repo, &args.to)?;
    let signer = args.allowed_signers.as_deref();
    let signer = signer.map(|allowed| signature::signer(&context.repo, &commit, allowed)).transpose()?;
    let tree = Tree::read(&context.repo, &commit, &store)?;
    let change = match &args.from {
        Some(from) => {
            let before = Tree::read(&context.repo, from, &store)?;
            Some(Change::between(&before.repository, &tree.repository))
        }
        None => None,
    };
    let work = Work::of(change.as_ref(), &tree.repository)?;
    for fleet in &work.gone {
        let ends = format!("`rekiln down {fleet}` ends it, from a commit that has it");
        context.output.line(match tree.repository.shards(fleet) {
            None => format!("fleet {fleet} is in no file any more and is left as it is: {ends}"),
            // The name means others now, which must not be ended for it.
            Some(shards) => format!(
                "fleet {fleet} is no fleet any more and is left as it is: {ends}, and not from here, where that ends {}",
                shards.join(", ")
            ),
        });
    }
    if work.is_empty() {
        context.output.line(format!("{} changes no image and no fleet", tree.short()));
        context.output.json(&ended(&tree, signer.as_deref(), &work, 0));
        return Ok(0);
    }
    let there = context.of(&tree);
    let waves = work
        .waves
        .iter()
        .map(|wave| wave.iter().map(|name| Site::open(&there, name)).collect::<Result<Vec<_>>>())
        .collect::<Result<Vec<_>>>()?;
    refuse_dirty(context, &tree, &waves)?;
    for site in waves.iter().flatten() {
        refuse_older(&there, &context.repo, site, &tree.commit, args.older)?;
    }
    let baked = interrupt::stoppable(|| bake(context, &store, &tree, &work.images))?;
    publish(context, &store, &baked)?;
    let code = roll(&there, &context.repo, &tree, &waves, &args)?;
    context.output.json(&ended(&tree, signer.as_deref(), &work, code));
    if code == 0 && !work.waves.is_empty() {
        context.output.hint("`rekiln status` shows the fleets, `rekiln history` tells what was done");
    }
    Ok(code)
}

fn ended(tree: &Tree, signer: Option<&str>, work: &Work, code: u8) -> serde_json::Value {
    serde_json::json!({
        "event": "applied", "commit": tree.commit, "signer": signer, "images": work.images, "waves": work.waves, "gone": work.gone,
        "exit_code": code,
    })
}

impl Context {
    /// Returns a context of the same store and output in which the repository is that of a commit.
    pub(super) fn of(&self, tree: &Tree) -> Self {
        Self {
            repo: tree.dir().to_owned(),
            store_url: self.store_url.clone(),
            output: std::sync::Arc::clone(&self.output),
            runtime: OnceLock::new(),
            #[cfg(feature = "aws")]
            clouds: crate::provider::aws::group::Clouds::default(),
            #[cfg(feature = "aws")]
            buckets: crate::provider::aws::Buckets::default(),
        }
    }
}

/// Refuses a work tree with changes that are in no commit, since whoever made them takes them for applied. Fleets on this
/// computer are somebody's own: there it is only said.
fn refuse_dirty(context: &Context, tree: &Tree, waves: &[Vec<Site>]) -> Result<()> {
    let revision = git::revision(&context.repo)?;
    if revision.clean || revision.commit.as_ref() != Some(&tree.commit) {
        return Ok(());
    }
    let said =
        format!("the work tree has changes that are in no commit; {} is applied without them", tree.short());
    match waves.iter().flatten().find(|site| site.fleet.local.is_none()) {
        None => {
            context.output.hint(said);
            Ok(())
        }
        Some(site) => Err(Error::invalid(format!(
            "the work tree has changes that are in no commit, and fleet {} is not one of this computer",
            site.name
        ))
        .hint("commit them, or put them aside with `git stash`; nothing was done")),
    }
}

/// Refuses a commit that does not come after the one that a fleet carries: a job that was late, or run again, would take back
/// what was merged meanwhile.
fn refuse_older(there: &Context, repo: &Path, site: &Site, commit: &str, older: bool) -> Result<()> {
    let carried = there.block_on(async { Ok(site.journal("apply").await?.history().commit.clone()) })?;
    let Some(carried) = carried.filter(|carried| carried != commit && !older) else { return Ok(()) };
    let (fleet, was, is) = (&site.name, short(&carried), short(commit));
    if branch::is_before(repo, &carried, commit) {
        return Ok(());
    }
    if !git::knows(repo, &carried) {
        return Err(Error::invalid(format!(
            "fleet {fleet} carries {was}, which this clone does not have: whether {is} comes after it cannot be told"
        ))
        .hint("fetch more history (`git fetch --unshallow`; `fetch-depth: 0` in a workflow)")
        .hint("where that history was rewritten, say so: `rekiln apply --older`"));
    }
    Err(Error::invalid(format!("fleet {fleet} carries {was} already, and {is} does not come after it"))
        .hint("to go back, revert the commit in Git and apply that; or say that it is meant: `rekiln apply --older`"))
}

/// Bakes what the catalog lacks.
fn bake(context: &Context, store: &Store, tree: &Tree, images: &[String]) -> Result<Vec<(Identity, Baked)>> {
    let identities =
        images.iter().map(|name| Identity::of(&tree.repository, name, false)).collect::<Result<Vec<_>>>()?;
    let settings = Settings::load(&context.repo)?;
    let rekiln = std::env::current_exe().doing(|| "finding this program")?;
    let revision = Revision { commit: Some(tree.commit.clone()), clean: true };
    let checkout = Checkout { of: &context.repo, revision };
    let bake = Bake {
        repository: &tree.repository,
        store,
        settings: &settings,
        rekiln: &rekiln,
        progress: context.progress(),
        boot: true,
        keep: None,
        checkout: Some(&checkout),
    };
    let none = |error: Error| {
        error.hint("no fleet was rolled; apply again when it is mended: what is baked is kept")
    };
    let baked = bake.all(&identities).map_err(none)?;
    for one in &baked {
        super::bake::show(context, one);
    }
    let failed = |baked: &&Baked| baked.record.verdict.as_ref().is_some_and(|verdict| !verdict.passed);
    if let Some(failed) = baked.iter().find(failed) {
        let reasons = failed.record.verdict.as_ref().map(|verdict| verdict.reasons.join("; "));
        return Err(none(Error::failed(format!(
            "{} was baked and did not pass its boot: {}",
            failed.record.name,
            reasons.unwrap_or_default()
        ))));
    }
    Ok(identities.into_iter().zip(baked).collect())
}

#[cfg(feature = "aws")]
fn publish(context: &Context, store: &Store, baked: &[(Identity, Baked)]) -> Result<()> {
    interrupt::stoppable(|| {
        for (identity, baked) in baked {
            let settings = identity.links.last().map(|link| link.recipe.publish.clone()).unwrap_or_default();
            super::publish::image(context, store, &baked.record, settings)
                .map_err(|error| error.hint("no fleet was rolled; apply again to go on from there"))?;
        }
        Ok(())
    })
}

#[cfg(not(feature = "aws"))]
fn publish(_: &Context, _: &Store, baked: &[(Identity, Baked)]) -> Result<()> {
    let published = |identity: &Identity| {
        identity.links.last().is_some_and(|link| !link.recipe.publish.regions.is_empty())
    };
    match baked.iter().find(|(identity, _)| published(identity)) {
        None => Ok(()),
        Some((identity, _)) => Err(Error::failed(format!(
            "{} is to be published, and this rekiln was built without AWS",
            identity.name
        ))
        .hint("build it with its default features; no fleet was rolled")),
    }
}

/// Rolls the fleets, wave after wave, and returns the exit code. After a wave in which one failed, none is begun.
fn roll<'w>(context: &Context, repo: &Path, tree: &Tree, waves: &'w [Vec<Site>], args: &Args) -> Result<u8> {
    let targets = waves
        .iter()
        .map(|wave| wave.iter().map(|site| Ok((site, site.target()?.0))).collect::<Result<Vec<_>>>())
        .collect::<Result<Vec<_>>>()?;
    // All are asked for before the first is begun.
    for (site, target) in targets.iter().flatten() {
        site.ask_if_many(context, target, args.yes)?;
    }
    for (number, wave) in targets.iter().enumerate() {
        let results: Vec<(&Site, Result<Summary>)> = std::thread::scope(|scope| {
            let begin = |one: &(&'w Site, Target)| {
                let (site, target) = (one.0, one.1.clone());
                let order = Order {
                    reason: format!("merge of {}", tree.short()),
                    commit: Some(tree.commit.clone()),
                    ..Order::default()
                };
                // Another one may have applied a newer commit while this one baked.
                let work = move || {
                    refuse_older(context, repo, site, &tree.commit, args.older)?;
                    site.roll(context, "apply", target, order)
                };
                (site, scope.spawn(work))
            };
            let threads: Vec<_> = wave.iter().map(begin).collect();
            let lost = |_| Err(Error::failed("the thread of a fleet ended without an answer"));
            threads.into_iter().map(|(site, thread)| (site, thread.join().unwrap_or_else(lost))).collect()
        });
        let mut code = 0;
        for (site, result) in results {
            let fleet = &site.name;
            match result {
                Ok(summary) => {
                    let (launched, ended) = (summary.launched.len(), summary.ended.len());
                    context.output.line(if launched + ended == 0 {
                        format!("fleet {fleet} is as {} asks; nothing to do", tree.short())
                    } else {
                        format!(
                            "fleet {fleet} is as {} asks: {launched} launched, {ended} ended",
                            tree.short()
                        )
                    });
                    context
                        .output
                        .json(&serde_json::json!({ "event": "rolled", "fleet": fleet, "summary": summary }));
                }
                Err(error) => {
                    code = code.max(error.exit_code());
                    context.output.error(&error.during(format!("rolling fleet {fleet}")));
                }
            }
        }
        if code != 0 {
            let rest: Vec<&str> =
                waves[number + 1..].iter().flatten().map(|site| site.name.as_str()).collect();
            if !rest.is_empty() {
                context.output.line(format!("not begun: {}", rest.join(", ")));
            }
            context.output.hint("apply the same commit again to go on, or one that mends it");
            return Ok(code);
        }
    }
    Ok(0)
}
