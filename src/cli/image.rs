//! `rekiln image`.

use std::path::PathBuf;

use serde::Serialize;

use super::Context;
use super::inspect::{mib, row};
use super::wrap;
use crate::catalog::provenance::Envelope;
use crate::catalog::{Catalog, Derived, Distribution, Origin, Record, sbom};
use crate::error::Result;

/// Arguments of `rekiln image`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A recipe's name (its newest image), an image id or the start of one.
    #[arg(value_name = "IMAGE|ID")]
    image: String,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What went wrong.
#[expect(clippy::needless_pass_by_value, reason = "all commands are called alike")]
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let catalog = Catalog::new(context.store()?);
    let record = catalog.find(&args.image)?;
    let output = &context.output;
    let envelope = catalog.envelope(record.id)?;
    let signers: Vec<String> = envelope.iter().flat_map(Envelope::signers).map(str::to_owned).collect();
    for line in lines(&catalog, &record, &signers, output.width()) {
        output.line(line);
    }
    let disk = catalog.disk(record.id);
    let sbom = disk.with_file_name(sbom::FILE);
    let whole = Whole { event: "record", sbom, path: disk, signers: &signers, record: &record };
    output.json(&whole);
    output.hint(next(&record));
    Ok(0)
}

/// The record with where its files are.
#[derive(Serialize)]
struct Whole<'a> {
    event: &'static str,
    path: PathBuf,
    sbom: PathBuf,
    signers: &'a [String],
    #[serde(flatten)]
    record: &'a Record,
}

/// What one would do with the image now.
pub(super) fn next(record: &Record) -> String {
    let (name, id) = (&record.name, record.id.short());
    match &record.verdict {
        _ if record.debug => format!("boot it with `rekiln boot {name} --debug`"),
        None => format!("no fleet may run it before it was booted: `rekiln bake {name}`"),
        Some(verdict) if verdict.passed => {
            format!("look into it with `rekiln inspect {id}`, boot it with `rekiln boot {id}`")
        }
        Some(_) => format!("look at it with `rekiln boot {name} --debug`"),
    }
}

fn lines(catalog: &Catalog, record: &Record, signers: &[String], width: usize) -> Vec<String> {
    let path = catalog.disk(record.id);
    let commit = record.commit.as_deref().unwrap_or("none");
    let tree = match (&record.commit, record.clean) {
        (None, _) => "",
        (_, true) => ", clean",
        (_, false) => ", with changes that are in no commit",
    };
    let parents: Vec<String> = record.parents.iter().map(ToString::to_string).collect();
    let mut lines = vec![
        row("image", &format_args!("{}{}", record.name, if record.debug { " (debug variant)" } else { "" })),
        row("id", &record.id),
        row("baked", &record.baked.strftime("%Y-%m-%d %H:%M:%S UTC")),
        row("commit", &format_args!("{commit}{tree}")),
        row("lock", &record.lock),
    ];
    lines.extend(wrap::items("parents", &parents, ", ", width));
    lines.extend([
        row("disk", &path.display()),
        row("", &format_args!("{:.1} MiB", mib(record.disk.size))),
        row("disk sha256", &record.disk.sha256),
    ]);
    lines.extend(record.root_hash.iter().map(|hash| row("root hash", hash)));
    lines.extend(record.derived.iter().flat_map(|derived| derived_lines(derived, width)));
    lines.extend([row("sbom", &path.with_file_name(sbom::FILE).display())]);
    // Names of keys, as long as digests are.
    lines.extend(wrap::items("signed by", signers, ", ", width));
    lines.extend(verdict_lines(record, width));
    lines.push(row("packages", &record.packages.len()));
    lines.extend(wrap::items("services", &record.services, ", ", width));
    lines.extend(wrap::items("ports", &record.ports, ", ", width));
    lines.extend(wrap::text("kernel", &record.cmdline, width));
    for exception in &record.exceptions {
        let path = exception.path.as_deref().unwrap_or("(anywhere)");
        lines.extend(wrap::text(
            "exception",
            &format!("{} {path}: {}", exception.rule, exception.why),
            width,
        ));
    }
    for found in record.findings.iter().filter(|found| found.excepted.is_none()) {
        lines.extend(wrap::text(
            "finding",
            &format!("{} {}: {}", found.rule, found.path, found.reason),
            width,
        ));
    }
    for layer in &record.layers {
        let size = mib(layer.size);
        let what = format_args!("{size:7.1} MiB  {}  {} {}", layer.sha256.short(), layer.image, layer.kind);
        lines.push(row("layer", &what));
    }
    let timings = record.timings.iter();
    lines.extend(timings.map(|(step, seconds)| row("time", &format_args!("{seconds:7.2} s    {step}"))));
    lines
}

/// What the image is derived from, and what of it cannot be made again.
fn derived_lines(derived: &Derived, width: usize) -> Vec<String> {
    let mut lines = match &derived.origin {
        Origin::Disk { source, path } => {
            vec![row("derived", &format_args!("from {path}")), row("", &format_args!("sha256 {source}"))]
        }
        Origin::Ami { ami, name, owner, region, made } => vec![
            row("derived", &format_args!("from {ami} of {owner} in {region}")),
            row("", name),
            row("AMI", &format_args!("{made} in {region}")),
        ],
    };
    if let Some(Distribution { id, version, packages }) = &derived.distribution {
        let version = version.as_deref().unwrap_or("without a version");
        lines.push(row("", &format_args!("{id} {version}, {} packages", packages.as_str())));
    }
    lines.push(row("firmware", &derived.firmware.as_str()));
    for (index, what) in derived.not_reproducible.iter().enumerate() {
        lines.extend(wrap::text(if index == 0 { "not again" } else { "" }, what, width));
    }
    lines
}

/// The verdict with its reasons, and how long the machine took.
fn verdict_lines(record: &Record, width: usize) -> Vec<String> {
    let Some(verdict) = &record.verdict else {
        let why = if record.debug {
            "none: a debug variant is never a fleet's target"
        } else {
            "none: not booted yet"
        };
        return vec![row("verdict", &why)];
    };
    let seconds =
        |time: Option<f64>| time.map_or_else(|| "never".to_owned(), |time| format!("after {time:.1} s"));
    let (ready, serving) = (seconds(verdict.ready_s), seconds(verdict.serving_s));
    let word = if verdict.passed { "passed" } else { "failed" };
    let mut lines = vec![row(
        "verdict",
        &format_args!("{word}: ready {ready}, serving {serving} ({})", verdict.accelerator),
    )];
    lines.extend(verdict.reasons.iter().flat_map(|reason| wrap::text("", reason, width)));
    lines
}
