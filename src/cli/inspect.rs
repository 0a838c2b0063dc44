//! `rekiln inspect`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use super::Context;
use super::wrap::{self, LABEL};
use crate::catalog::{Catalog, Record};
use crate::error::{Error, Result};
use crate::inspect::disk::Disk;
use crate::inspect::inventory::Inventory;
use crate::inspect::raw::RawDisk;
use crate::inspect::{Expected, Finding, Inspection, Severity, inspect};
use crate::interrupt;
use crate::store::Store;

/// How many directories the text shows; all are in the JSON.
const DIRECTORIES: usize = 10;

/// What is said of a disk that the store does not know.
const NO_RECORD: &str = "none: services, ports and exceptions of the recipe are not known";

/// Arguments of `rekiln inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A recipe's name (its newest image), an image id or the start of one, the path of a disk (raw or qcow2; one that
    /// rekiln sealed, or a vendor's with its root in ext4 or XFS), or an AMI or a snapshot with `--region`.
    #[arg(value_name = "IMAGE|ID|DISK|AMI")]
    image: String,
    /// The region of the AMI or snapshot. Of it, only the blocks are fetched that are looked at.
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
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
    let store = context.store()?;
    interrupt::stoppable(|| {
        let subject = Subject::find(context, &store, &args)?;
        tell(context, &subject, !args.no_verify)
    })
}

/// What is inspected.
struct Subject {
    /// As people call it: a path, or an AMI and its snapshot.
    name: String,
    disk: Disk,
    record: Option<Record>,
    /// Keeps a converted disk while it is read.
    _raw: Option<RawDisk>,
}

impl Subject {
    fn find(context: &Context, store: &Store, args: &Args) -> Result<Self> {
        let is_cloud = args.image.starts_with("ami-") || args.image.starts_with("snap-");
        if is_cloud && !Path::new(&args.image).exists() {
            return Self::in_cloud(context, store, args);
        }
        if args.region.is_some() {
            return Err(Error::invalid(format!(
                "`--region` goes with an AMI or a snapshot, and not with `{}`",
                args.image
            )));
        }
        let (raw, record) = locate(store, &args.image)?;
        let disk = Disk::open(&raw.path)?;
        // The path that was given, and not that of a converted copy.
        let given = Path::new(&args.image);
        let name = if given.is_file() { given } else { &raw.path }.display().to_string();
        Ok(Self { name, disk, record, _raw: Some(raw) })
    }

    #[cfg(feature = "aws")]
    fn in_cloud(context: &Context, store: &Store, args: &Args) -> Result<Self> {
        let Some(region) = &args.region else {
            return Err(Error::invalid(format!("the region of {} is not given", args.image))
                .hint("give it: `--region eu-west-1`"));
        };
        if !crate::notation::aws::is_region(region) {
            return Err(Error::invalid(format!("`--region {region}`: this is no AWS region"))
                .hint("regions look like `eu-west-1`"));
        }
        let (snapshot, window) = context.block_on(async {
            let aws = crate::provider::aws::Aws::connect(region, None).await?;
            let snapshot = match args.image.strip_prefix("ami-") {
                Some(_) => aws.root_snapshot(&args.image).await?,
                None => args.image.clone(),
            };
            let window = aws.disk(&snapshot, store).await?;
            Ok((snapshot, window))
        })?;
        let name = if args.image == snapshot {
            format!("{snapshot} in {region}")
        } else {
            format!("{} in {region} ({snapshot})", args.image)
        };
        let disk = Disk::of(window).map_err(|error| error.during(format!("opening the disk of {name}")))?;
        let record = disk.image().map(|id| Catalog::new(store.clone()).get(id)).transpose()?.flatten();
        Ok(Self { name, disk, record, _raw: None })
    }

    #[cfg(not(feature = "aws"))]
    fn in_cloud(_: &Context, _: &Store, args: &Args) -> Result<Self> {
        Err(Error::invalid(format!("{} is in AWS, and this rekiln was compiled without", args.image)))
    }
}

fn tell(context: &Context, subject: &Subject, verify: bool) -> Result<u8> {
    let record = subject.record.as_ref();
    let mut expected = record.map(Expected::from).unwrap_or_default();
    expected.verify = verify;
    let inspection = inspect(&subject.disk, &expected)
        .map_err(|error| error.during(format!("reading {}", subject.name)))?;
    let open = inspection.unexcepted().count();
    let output = &context.output;
    let width = output.width();
    let mut lines = head(&subject.name, record, width);
    let verified = expected.verify && inspection.root_hash.is_some();
    if let Some(hash) = inspection.root_hash {
        let how = if verified { "computed anew" } else { "as sealed, not checked" };
        lines.extend([row("root hash", &hash), row("", &how)]);
    }
    lines.extend(inventory(&inspection.inventory, width));
    lines.push(String::new());
    lines.extend(findings(&inspection, width));
    for line in lines {
        output.line(line);
    }
    if record.is_some_and(|record| record.debug) {
        output.hint("a debug variant breaks the profile by design; it is never a fleet's target");
    } else if open > 0 {
        output.hint("remove the cause, or except it with a reason: [harden] allow = [{ rule, path, why }]");
    }
    output.json(&serde_json::json!({
        "event": "inspection",
        "disk": subject.name,
        "image": record.map(|record| record.id),
        "name": record.map(|record| &record.name),
        "unexcepted": open,
        "findings": inspection.findings,
        "inventory": inspection.inventory,
        "root_hash": inspection.root_hash,
        "verified": verified,
    }));
    Ok(u8::from(open > 0))
}

/// Finds the disk and its record; that of a disk by path is the one of the image id sealed in it.
pub(super) fn locate(store: &Store, name: &str) -> Result<(RawDisk, Option<Record>)> {
    let catalog = Catalog::new(store.clone());
    let path = Path::new(name);
    if path.is_file() {
        let raw = RawDisk::open(path, store)?;
        let id = Disk::open(&raw.path)?.image();
        let record = id.map(|id| catalog.get(id)).transpose()?.flatten();
        return Ok((raw, record));
    }
    let record = catalog.find(name)?;
    Ok((RawDisk::at(catalog.disk(record.id)), Some(record)))
}

/// What was opened.
fn head(disk: &str, record: Option<&Record>, width: usize) -> Vec<String> {
    let mut lines = vec![row("disk", &disk)];
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
    lines.push(row("root", &inventory.file_system));
    if !inventory.uefi {
        lines.extend(wrap::text(
            "uefi",
            "no EFI/BOOT/BOOTX64.EFI: firmware needs a boot entry, or starts it as a BIOS",
            width,
        ));
    }
    for partition in &inventory.partitions {
        // A partition's name ends in a part of the image id; what it is stands before.
        let name = partition.name.trim_end_matches(|c: char| c.is_ascii_hexdigit()).trim_end_matches('-');
        let place = format_args!("{:7.1} MiB  at {:>11}  {name}", mib(partition.size), partition.offset);
        lines.push(row("partition", &place).trim_end().to_owned());
    }
    for (offset, size) in &inventory.layers {
        lines.push(row("layer", &format_args!("{:7.1} MiB  at {offset:>11}", mib(*size))));
    }
    for note in &inventory.notes {
        lines.extend(wrap::text("note", note, width));
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
