//! `rekiln bake`.

use std::path::PathBuf;

use serde::Serialize;

use super::Context;
use crate::bake::identity::Identity;
use crate::bake::image::{Bake, Baked, Keep};
use crate::digest::{Digest, ImageId};
use crate::error::{Doing as _, Error, Result};
use crate::interrupt;
use crate::lock::settings::Settings;
use crate::notation;
use crate::repository::Repository;

/// Arguments of `rekiln bake`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Images to bake, with all images they stand on.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Do not boot the images: they have no verdict then, and no fleet may run them until they are baked again
    /// without this.
    #[arg(long)]
    no_boot: bool,
    /// Bake the debug variant: a root shell on the console, another image id, never a fleet's target.
    #[arg(long)]
    debug: bool,
    /// When deriving an image fails, keep its machine for this time, and say how to get in
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "30m")]
    keep_builder: Option<String>,
    /// The public key that --keep-builder lets in; without it, those of ~/.ssh
    #[arg(long, value_name = "FILE", requires = "keep_builder")]
    builder_key: Option<PathBuf>,
}

impl Args {
    /// Returns how long the machine of a failed bake is kept, and for whom.
    ///
    /// # Errors
    /// A time that is none, and no public key.
    fn keep(&self) -> Result<Option<Keep>> {
        let Some(time) = &self.keep_builder else { return Ok(None) };
        let time =
            notation::duration(time).map_err(|why| Error::invalid(format!("--keep-builder: {why}")))?;
        let files = match &self.builder_key {
            Some(file) => vec![file.clone()],
            None => own_keys(),
        };
        let read = |file: &PathBuf| {
            let text = std::fs::read_to_string(file).doing(|| format!("reading {}", file.display()))?;
            if text.contains("PRIVATE KEY") {
                let what = format!("{} is a private key: it stays with you", file.display());
                return Err(Error::invalid(what).hint("name the file beside it that ends in .pub"));
            }
            Ok(text)
        };
        let keys = files.iter().map(read).collect::<Result<Vec<_>>>()?;
        if keys.is_empty() {
            return Err(Error::invalid(
                "--keep-builder: there is no public key in ~/.ssh that could be let in",
            )
            .hint("make one with `ssh-keygen`, or name one with `--builder-key FILE`"));
        }
        Ok(Some(Keep { time, keys }))
    }
}

/// The public keys of whoever runs this.
fn own_keys() -> Vec<PathBuf> {
    let Some(home) = std::env::home_dir() else { return Vec::new() };
    let entries =
        std::fs::read_dir(home.join(".ssh")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut keys: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "pub")).collect();
    keys.sort();
    keys
}

/// The last line of `rekiln bake --json` for each image.
#[derive(Debug, Serialize)]
struct Line<'a> {
    event: &'static str,
    image: &'a str,
    id: ImageId,
    disk: PathBuf,
    sha256: Digest,
    cached: bool,
    /// Without fetching and without the boot verdict.
    seconds: f64,
    verdict_seconds: Option<f64>,
    /// Whether it may be a fleet's target; `None` when it was not booted.
    passed: Option<bool>,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// An image that could not be baked or did not pass its verdict.
#[expect(clippy::needless_pass_by_value, reason = "all commands are called alike")]
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let keep = args.keep()?;
    let work = || bake_keeping(context, &args.images, args.debug, !args.no_boot, keep.as_ref());
    let baked = interrupt::stoppable(work)?;
    let failed: Vec<&Baked> = baked
        .iter()
        .filter(|baked| baked.record.verdict.as_ref().is_some_and(|verdict| !verdict.passed))
        .collect();
    for baked in &baked {
        show(context, baked);
    }
    let Some(first) = failed.first() else {
        if let Some(last) = baked.last() {
            context.output.hint(super::image::next(&last.record));
        }
        return Ok(0);
    };
    let reasons = first.record.verdict.as_ref().map(|verdict| verdict.reasons.join("; ")).unwrap_or_default();
    Err(Error::failed(format!("{} was baked but did not pass its boot: {reasons}", first.record.name))
        .hint(format!("its console: {}", first.disk.with_file_name("verdict").join("console.log").display()))
        .hint(format!("look at it with `rekiln boot {} --debug`", first.record.name)))
}

/// Bakes images of the context's repository.
///
/// # Errors
/// As [`Bake::all`], and a repository that cannot be read.
pub fn bake(context: &Context, images: &[String], debug: bool, boot: bool) -> Result<Vec<Baked>> {
    bake_keeping(context, images, debug, boot, None)
}

fn bake_keeping(
    context: &Context,
    images: &[String],
    debug: bool,
    boot: bool,
    keep: Option<&Keep>,
) -> Result<Vec<Baked>> {
    let repository = Repository::open(&context.repo)?;
    let identities =
        images.iter().map(|name| Identity::of(&repository, name, debug)).collect::<Result<Vec<_>>>()?;
    let store = context.store()?;
    let settings = Settings::load(&context.repo)?;
    let rekiln = std::env::current_exe().doing(|| "finding this program")?;
    let bake = Bake {
        repository: &repository,
        store: &store,
        settings: &settings,
        rekiln: &rekiln,
        progress: context.progress(),
        boot,
        keep,
        checkout: None,
    };
    bake.all(&identities)
}

/// Tells of an image that was baked, or was there already.
pub(super) fn show(context: &Context, baked: &Baked) {
    let record = &baked.record;
    let passed = record.verdict.as_ref().map(|verdict| verdict.passed);
    let state = match (baked.cached, passed) {
        // A verdict that an earlier bake left out is news.
        (true, Some(true)) if baked.verdict_seconds.is_some() => "unchanged, passed",
        (true, Some(false)) => "unchanged, did not pass",
        (true, _) => "unchanged",
        (false, Some(true)) => "baked, passed",
        (false, Some(false)) => "baked, did not pass",
        (false, None) => "baked, not booted",
    };
    context.output.line(format!("{:12} {}  {state}  {:.1} s", record.name, record.id, baked.seconds));
    context.output.json(&Line {
        event: "baked",
        image: &record.name,
        id: record.id,
        disk: baked.disk.clone(),
        sha256: record.disk.sha256,
        cached: baked.cached,
        seconds: baked.seconds,
        verdict_seconds: baked.verdict_seconds,
        passed,
    });
}
