//! `rekiln nightly`.

use std::path::PathBuf;

use super::Context;
use crate::bake::identity::Identity;
use crate::bake::image::{Bake, Checkout};
use crate::catalog::Record;
use crate::error::{Doing as _, Result};
use crate::git::Revision;
use crate::interrupt;
use crate::lock::settings::Settings;
use crate::pipeline::message::{Updated, lines};
use crate::pipeline::nightly::{Delivered, Night, Nightly};
use crate::pipeline::tree::short;
use crate::repository::Repository;
use crate::store::Store;

/// Arguments of `rekiln nightly`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The revision whose locks are brought up to date.
    #[arg(long, value_name = "REV", default_value = "HEAD")]
    base: String,
    /// The branch that gets the commit. One that nobody else commits on is made anew from the base each night; on any
    /// other, which must be at the base, the commit goes on top.
    #[arg(long, value_name = "NAME", default_value = "rekiln/nightly")]
    branch: String,
    /// Pushes the branch to this remote.
    #[arg(long, value_name = "REMOTE", num_args = 0..=1, default_missing_value = "origin")]
    push: Option<String>,
    /// Publishes each good image whose recipe says where, as `rekiln publish` does. One that cannot be published is not
    /// committed.
    #[cfg(feature = "aws")]
    #[arg(long)]
    publish: bool,
    /// Gives images that are derived from a vendor's disk or AMI a new lock too. That makes a new image each time,
    /// whether the vendor's archive has something new or not: only a bake shows it.
    #[arg(long)]
    derived: bool,
    /// Says in the commit also which vulnerabilities it fixes, brings and leaves open, by this JSON export of Debian's
    /// security tracker. By default that of the environment variable `REKILN_VULNERABILITIES`, if it is set.
    #[arg(long, value_name = "FILE")]
    vulnerabilities: Option<PathBuf>,
    /// Do not boot the images. They have no verdict then, and no fleet may run them: they are committed only on a branch
    /// that is made anew each night, for review.
    #[cfg_attr(feature = "aws", arg(long, conflicts_with = "publish"))]
    #[cfg_attr(not(feature = "aws"), arg(long))]
    no_boot: bool,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What kept it from looking, committing or pushing.
#[expect(clippy::needless_pass_by_value, reason = "all commands are called alike")]
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let (store, settings) = (context.store()?, Settings::load(&context.repo)?);
    let make = |repository: &Repository, revision: &Revision, images: &[Identity]| {
        make(context, &args, &Inputs { repository, revision, store: &store, settings: &settings }, images)
    };
    let vulnerabilities = super::plan::known(args.vulnerabilities.clone());
    let nightly = Nightly {
        repo: &context.repo,
        store: &store,
        settings: &settings,
        progress: context.progress(),
        base: &args.base,
        branch: &args.branch,
        remote: args.push.as_deref(),
        derived: args.derived,
        unproven: args.no_boot,
        vulnerabilities: vulnerabilities.as_deref(),
        make: &make,
    };
    let night = interrupt::stoppable(|| nightly.run())?;
    show(context, &night);
    let failed = night.left.iter().filter(|left| left.failed).count();
    let Night { base, images, updated, left, delivered } = night;
    let delivered = delivered?;
    let pushed = delivered.as_ref().and_then(|delivered| delivered.pushed.as_ref());
    context.output.json(&serde_json::json!({
        "event": "nightly", "base": base, "images": images, "updated": updated.len(), "left": left.len(),
        "branch": args.branch, "commit": delivered.as_ref().map(|delivered| &delivered.commit),
        "new": delivered.as_ref().is_some_and(|delivered| delivered.new),
        "pushed": pushed.map(Result::is_ok),
    }));
    if let Some(delivered) = delivered {
        told(context, &args, &base, delivered)?;
    }
    if failed == 0 {
        return Ok(0);
    }
    // What failed has its line; the next run tries it again.
    context.output.hint("images that failed keep their locks; the next nightly tries them again");
    Ok(1)
}

/// What images are made from.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    repository: &'a Repository,
    revision: &'a Revision,
    store: &'a Store,
    settings: &'a Settings,
}

/// Bakes, boots and publishes.
fn make(
    context: &Context,
    args: &Args,
    inputs: &Inputs<'_>,
    images: &[Identity],
) -> Result<Vec<Result<Record>>> {
    let rekiln = std::env::current_exe().doing(|| "finding this program")?;
    let checkout = Checkout { of: &context.repo, revision: inputs.revision.clone() };
    let bake = Bake {
        repository: inputs.repository,
        store: inputs.store,
        settings: inputs.settings,
        rekiln: &rekiln,
        progress: context.progress(),
        boot: !args.no_boot,
        keep: None,
        checkout: Some(&checkout),
    };
    let baked = bake.each(images)?;
    let each = baked.into_iter().zip(images);
    Ok(each.map(|(baked, image)| published(context, args, inputs.store, image, baked?.record)).collect())
}

/// Publishes an image where that is asked for.
#[cfg(feature = "aws")]
fn published(
    context: &Context,
    args: &Args,
    store: &Store,
    image: &Identity,
    record: Record,
) -> Result<Record> {
    // One that did not pass is told of as that, and not as one that is refused.
    if args.publish && record.may_be_target() {
        let settings = image.links.last().map(|link| link.recipe.publish.clone()).unwrap_or_default();
        super::publish::image(context, store, &record, settings)?;
    }
    Ok(record)
}

/// Without AWS, images are published nowhere.
#[cfg(not(feature = "aws"))]
#[expect(clippy::unnecessary_wraps, reason = "with AWS, it can fail")]
fn published(_: &Context, _: &Args, _: &Store, _: &Identity, record: Record) -> Result<Record> {
    Ok(record)
}

fn show(context: &Context, night: &Night) {
    let output = &context.output;
    if night.updated.is_empty() && night.left.is_empty() {
        let (count, are) = (night.images, if night.images == 1 { "image is" } else { "images are" });
        output.line(format!("nothing changed: {count} {are} up to date with the archive"));
    }
    for image in &night.updated {
        for line in lines(image) {
            output.line(line);
        }
        json(context, image);
    }
    for left in &night.left {
        output.line(format!("{} was not updated: {}", left.image, left.why));
        output.json(&serde_json::json!({
            "event": "left", "image": left.image, "why": left.why, "failed": left.failed,
        }));
    }
}

fn json(context: &Context, image: &Updated) {
    let seen = image.new.seen.as_ref();
    let boot = seen.and_then(|seen| seen.boot.as_ref());
    context.output.json(&serde_json::json!({
        "event": "updated",
        "image": image.image,
        "old": image.old.as_ref().map(|old| old.id),
        "new": image.new.id,
        "changes": image.changes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "security": image.security,
        "below": image.below,
        "vulnerabilities": image.vulnerabilities,
        "size": seen.map(|seen| seen.size),
        "boot_s": boot.and_then(|boot| boot.seconds),
        "passed": boot.map(|boot| boot.passed),
    }));
}

/// Says where the commit is.
fn told(context: &Context, args: &Args, base: &str, delivered: Delivered) -> Result<()> {
    let Delivered { commit, new, pushed } = delivered;
    let commit = short(&commit);
    let (branch, output) = (&args.branch, &context.output);
    output.line(if new {
        format!("committed {commit} on {branch}")
    } else {
        format!("{branch} has this already as {commit}")
    });
    match (pushed, &args.push) {
        (Some(Ok(true)), Some(remote)) => output.line(format!("pushed to {remote}")),
        (Some(Ok(false)), Some(remote)) => output.line(format!("{remote} has it already")),
        (Some(Err(error)), _) => return Err(error),
        _ => {}
    }
    let base = short(base);
    output
        .hint(format!("look at it with `git diff {base} {commit}`; no fleet is rolled before it is merged"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::Args;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_push_goes_to_origin_unless_it_is_told_where() {
        let parse = |line: &[&str]| Line::try_parse_from([&["nightly"], line].concat()).map(|line| line.args);
        let push = |line: &[&str]| parse(line).expect("it parses").push;
        assert_eq!(push(&[]), None);
        assert_eq!(push(&["--push"]).as_deref(), Some("origin"));
        assert_eq!(push(&["--push", "backup", "--derived"]).as_deref(), Some("backup"));
        assert_eq!(push(&["--push", "--derived"]).as_deref(), Some("origin"));
        #[cfg(feature = "aws")]
        assert!(parse(&["--publish", "--no-boot"]).is_err());
    }
}
