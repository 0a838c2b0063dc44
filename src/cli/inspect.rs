//! `rekiln inspect`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use super::Context;
use super::wrap::{self, LABEL};
use crate::catalog::{Catalog, Record};
use crate::error::Result;
use crate::inspect::disk::SealedDisk;
use crate::inspect::inventory::Inventory;
use crate::inspect::{Expected, Finding, Inspection, Severity, inspect_disk};

/// How many directories the text shows; all are in the JSON.
const DIRECTORIES: usize = 10;

/// What is said of a disk that the store does not know.
const NO_RECORD: &str = "none: services, ports and exceptions of the recipe are not known";

/// Arguments of `rekiln inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A recipe's name (its newest image), an image id or the start of one, or the path of a disk.
    #[arg(value_name = "IMAGE|ID|DISK")]
    image: String,
    /// Skips computing the root hash anew.
    #[arg(long)]
    no_verify: bool,
}

/// Runs the command and returns the exit code: 1 when there are findings that no exception accepts.
///
/// # Errors
/// What went wrong.
#[expect(clippy::needless_pass_by_value, reason = "all commands are called alike")]
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let catalog = Catalog::new(context.store()?);
    let (disk, record) = locate(&catalog, &args.image)?;
    let mut expected = record.as_ref().map(Expected::from).unwrap_or_default();
    expected.verify = !args.no_verify;
    let inspection = inspect_disk(&disk, &expected)?;
    let open = inspection.unexcepted().count();
    let output = &context.output;
    let width = output.width();
    let mut lines = head(&disk, record.as_ref(), width);
    if let Some(hash) = inspection.root_hash {
        let how = if expected.verify { "computed anew" } else { "as sealed, not checked" };
        lines.extend([row("root hash", &hash), row("", &how)]);
    }
    lines.extend(inventory(&inspection.inventory, width));
    lines.push(String::new());
    lines.extend(findings(&inspection, width));
    for line in lines {
        output.line(line);
    }
    if record.as_ref().is_some_and(|record| record.debug) {
        output.hint("a debug variant breaks the profile by design; it is never a fleet's target");
    } else if open > 0 {
        output.hint("remove the cause, or except it with a reason: [harden] allow = [{ rule, path, why }]");
    }
    output.json(&serde_json::json!({
        "event": "inspection",
        "disk": disk,
        "image": record.as_ref().map(|record| record.id),
        "name": record.as_ref().map(|record| &record.name),
        "unexcepted": open,
        "findings": inspection.findings,
        "inventory": inspection.inventory,
        "root_hash": inspection.root_hash,
        "verified": expected.verify,
    }));
    Ok(u8::from(open > 0))
}

/// Finds the disk and its record; that of a disk by path is the one of the image id sealed in it.
pub(super) fn locate(catalog: &Catalog, name: &str) -> Result<(PathBuf, Option<Record>)> {
    let path = Path::new(name);
    if path.is_file() {
        let id = SealedDisk::open(path)?.cmdline.image().ok();
        let record = id.map(|id| catalog.get(id)).transpose()?.flatten();
        return Ok((path.to_owned(), record));
    }
    let record = catalog.find(name)?;
    Ok((catalog.disk(record.id), Some(record)))
}

/// What was opened.
fn head(disk: &Path, record: Option<&Record>, width: usize) -> Vec<String> {
    let mut lines = vec![row("disk", &disk.display())];
    match record {
        Some(record) => lines.push(row("image", &format_args!("{} {}", record.name, record.id))),
        None => lines.extend(wrap::text("record", NO_RECORD, width)),
    }
    lines
}

/// One line of a table of labels.
pub(super) fn row(label: &str, value: &dyn Display) -> String {
    format!("{label:LABEL$}{value}")
}

fn inventory(inventory: &Inventory, width: usize) -> Vec<String> {
    let list = |label: &str, found: &[String]| wrap::items(label, found, ", ", width);
    let pairs = |label: &str, found: &BTreeMap<String, String>| {
        let found: Vec<String> = found.iter().map(|(name, value)| format!("{name} {value}")).collect();
        list(label, &found)
    };
    let mut lines = vec![row("packages", &inventory.packages.len())];
    if !inventory.packages.is_empty() {
        lines.extend(pairs("", &inventory.packages));
    }
    lines.extend(list("services", &inventory.services));
    lines.extend(list("ports", &inventory.ports));
    lines.extend(pairs("setuid", &inventory.setuid));
    lines.extend(pairs("capable", &inventory.capabilities));
    lines.extend(pairs("users", &inventory.users));
    lines.extend(wrap::items("kernel", &inventory.kernel_args, " ", width));
    lines.push(row("files", &format_args!("{} with {:.1} MiB", inventory.files, mib(inventory.bytes))));
    let mut directories: Vec<_> = inventory.directories.iter().collect();
    directories.sort_by_key(|(path, bytes)| (std::cmp::Reverse(**bytes), path.as_str()));
    let labels = std::iter::once("largest").chain(std::iter::repeat(""));
    lines.extend(
        directories
            .into_iter()
            .take(DIRECTORIES)
            .zip(labels)
            .map(|((path, bytes), label)| row(label, &format_args!("{:7.1} MiB  {path}", mib(*bytes)))),
    );
    for partition in &inventory.partitions {
        // A partition's name ends in a part of the image id; what it is stands before.
        let name = partition.name.trim_end_matches(|c: char| c.is_ascii_hexdigit()).trim_end_matches('-');
        let place = format_args!("{:7.1} MiB  at {:>11}  {name}", mib(partition.size), partition.offset);
        lines.push(row("partition", &place));
    }
    for (offset, size) in &inventory.layers {
        lines.push(row("layer", &format_args!("{:7.1} MiB  at {offset:>11}", mib(*size))));
    }
    lines
}

/// The findings, the worst first, each with its reason below, and their count.
fn findings(inspection: &Inspection, width: usize) -> Vec<String> {
    let rules = inspection.findings.iter().map(|finding| finding.rule.len());
    let rule = rules.max().unwrap_or(0);
    let mut lines = Vec::new();
    for finding in &inspection.findings {
        lines.push(format!("{:LABEL$}{:rule$}  {}", finding.severity.as_str(), finding.rule, finding.path));
        lines.extend(wrap::text("", &finding.reason, width));
        if let Some(why) = &finding.excepted {
            lines.extend(wrap::text("", &format!("excepted: {why}"), width));
        }
    }
    lines.push(summary(&inspection.findings));
    lines
}

/// Says how many findings there are, how bad those are that no exception accepts, and how many are accepted.
fn summary(findings: &[Finding]) -> String {
    let severities = [Severity::Critical, Severity::High, Severity::Medium];
    let open = |severity| {
        let open =
            findings.iter().filter(|finding| finding.excepted.is_none() && finding.severity == severity);
        (open.count(), severity)
    };
    let open = severities.map(open).into_iter().filter(|(count, _)| *count > 0);
    let mut parts: Vec<String> =
        open.map(|(count, severity)| format!("{count} {}", severity.as_str())).collect();
    let excepted = findings.iter().filter(|finding| finding.excepted.is_some()).count();
    if excepted > 0 {
        parts.push(format!("{excepted} excepted"));
    }
    match findings.len() {
        0 => "no findings".to_owned(),
        1 => format!("1 finding: {}", parts.join(", ")),
        count => format!("{count} findings: {}", parts.join(", ")),
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes for people, with one digit after the point")]
pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_show_their_reasons_and_exceptions() {
        let finding = |severity, path: &str, excepted: Option<&str>| Finding {
            severity,
            rule: "setuid".to_owned(),
            path: path.to_owned(),
            reason: "a setuid or setgid file is not on the profile's list".to_owned(),
            excepted: excepted.map(str::to_owned),
        };
        let inspection = Inspection {
            findings: vec![
                finding(Severity::High, "/usr/bin/a", None),
                finding(Severity::High, "/usr/bin/b", Some("the tool needs it")),
            ],
            inventory: Inventory::default(),
            root_hash: None,
        };
        assert_eq!(
            findings(&inspection, 60),
            [
                "high        setuid  /usr/bin/a",
                "            a setuid or setgid file is not on the profile's",
                "            list",
                "high        setuid  /usr/bin/b",
                "            a setuid or setgid file is not on the profile's",
                "            list",
                "            excepted: the tool needs it",
                "2 findings: 1 high, 1 excepted",
            ]
        );
        assert_eq!(summary(&[]), "no findings");
    }
}
