//! `rekiln audit`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{Context, wrap};
use crate::atomic_write::atomic_write;
use crate::catalog::Catalog;
use crate::digest::ImageId;
use crate::error::{Doing as _, Error, Kind, Result};
use crate::fleet::Fleet;
use crate::fleet::audit::{Finding, Known, Member, Origin, RULES, Seen, audit, sarif};
use crate::interrupt;
use crate::provider::Provider as _;
use crate::provider::local::{Local, Qemu};
use crate::repository::Repository;
use crate::store::Store;

/// How many instances of a finding are named; all are in the JSON.
const NAMED: usize = 5;

/// Arguments of `rekiln audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleets, or files whose shards are all meant [default: all].
    fleets: Vec<String>,
    /// Writes the findings into this file as SARIF 2.1.0, which code hosts and dashboards read.
    #[arg(long, value_name = "FILE")]
    sarif: Option<PathBuf>,
}

/// Runs the command and returns the exit code: 3 when there are findings.
///
/// # Errors
/// A fleet that is not there or not valid, or that cannot be looked at; the others are audited all the same.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let Args { fleets: named, sarif: file } = args;
    let (repository, store) = (Repository::open(&context.repo)?, context.store()?);
    let mut fleets: Vec<&str> = if named.is_empty() {
        repository.fleet_names().collect()
    } else {
        named.iter().map(|name| repository.fleets_meant(name)).collect::<Result<Vec<_>>>()?.concat()
    };
    fleets.sort_unstable();
    fleets.dedup();
    let known = fleets.iter().map(|&name| Ok((name, repository.fleet(name)?))).collect::<Result<Vec<_>>>()?;
    let (mut audited, mut failed) = (Vec::new(), None);
    for (name, fleet) in known {
        let look =
            || context.progress().step(name, "looking for ways in", || look(context, &store, name, fleet));
        match interrupt::stoppable(look) {
            Ok(seen) => audited.push((name, tell(context, name, &seen))),
            Err(error) if matches!(error.kind(), Kind::Interrupted) => return Err(error),
            Err(error) => {
                let error = error.during(format!("auditing fleet {name}"));
                failed.replace(error).into_iter().for_each(|before: Error| context.output.error(&before));
            }
        }
    }
    if let Some(file) = &file {
        let paths: Vec<_> =
            audited.iter().map(|(name, findings)| (repository.file_of_fleet(name), findings)).collect();
        let report = sarif(paths.iter().map(|(path, findings)| (path.as_path(), findings.as_slice())));
        let text = serde_json::to_string_pretty(&report).doing(|| "writing the report")?;
        atomic_write(file, format!("{text}\n").as_bytes())?;
        context.output.line(format!("written: {}", file.display()));
    }
    let clean = audited.iter().all(|(_, findings)| findings.is_empty());
    failed.map_or(Ok(if clean { 0 } else { 3 }), Err)
}

fn look(context: &Context, store: &Store, name: &str, fleet: &Fleet) -> Result<Seen> {
    let mut seen = match &fleet.aws {
        Some(group) => in_aws(context, store, name, group)?,
        None => here(context, store, name, fleet)?,
    };
    let origins = seen.instances.iter().map(|one| &one.origin);
    let origins = origins.chain(seen.sources.iter().flat_map(|one| &one.origins));
    let images: BTreeSet<ImageId> = origins.filter_map(|origin| origin.image).collect();
    let catalog = Catalog::new(store.clone());
    for image in images {
        if let Some(record) = catalog.get(image)? {
            let exceptions = record.exceptions.into_iter().map(|one| (one.rule, one.why)).collect();
            seen.images.insert(image, Known { debug: record.debug, exceptions });
        }
    }
    Ok(seen)
}

/// A machine on this computer has no doors but what its image has, and says itself when someone was on it.
fn here(context: &Context, store: &Store, name: &str, fleet: &Fleet) -> Result<Seen> {
    let provider = Local::new(store.clone(), name, fleet.clone(), Qemu::new(store.clone()));
    let census = context.block_on(async { provider.census().await.map_err(Error::from) })?;
    let member = |one: crate::fleet::census::Instance| Member {
        id: one.id.0,
        origin: Origin {
            name: one.image.map_or_else(|| "its record".to_owned(), |image| image.short()),
            image: one.image,
        },
        touched: one.touched,
        ..Member::default()
    };
    Ok(Seen { instances: census.instances.into_iter().map(member).collect(), ..Seen::default() })
}

#[cfg(feature = "aws")]
fn in_aws(context: &Context, store: &Store, name: &str, group: &crate::fleet::AutoScaling) -> Result<Seen> {
    let entries = crate::publish::ledger::entries(store)?.into_iter();
    let published = entries
        .filter(|entry| entry.region == group.region)
        .filter_map(|entry| Some((entry.ami?, entry.image)))
        .collect();
    context.block_on(async {
        let aws = crate::provider::aws::Aws::connect(&group.region, group.assume_role.as_deref()).await?;
        aws.must_be(group.account.as_deref())?;
        let maker = group.group.as_ref().map(|_| name);
        aws.audit(&group.auto_scaling_group, &published, maker).await
    })
}

#[cfg(not(feature = "aws"))]
fn in_aws(_: &Context, _: &Store, _: &str, _: &crate::fleet::AutoScaling) -> Result<Seen> {
    Err(Error::failed("this rekiln was built without AWS").hint("build it with its default features"))
}

fn tell(context: &Context, name: &str, seen: &Seen) -> Vec<Finding> {
    let (output, findings) = (&context.output, audit(seen));
    let instances = match seen.instances.len() {
        1 => "1 instance".to_owned(),
        n => format!("{n} instances"),
    };
    output.json(&serde_json::json!({
        "event": "audit", "fleet": name, "instances": seen.instances.len(), "findings": findings,
    }));
    if findings.is_empty() {
        output.line(format!("fleet {name}: {instances}; nobody could log in, and nobody did"));
        return findings;
    }
    output.line(format!("fleet {name}: {instances}"));
    for finding in &findings {
        let (severity, width) = (finding.severity.as_str(), output.width());
        let head = format!("{}: {}", finding.rule, finding.what);
        let rule = RULES.iter().find(|rule| rule.name == finding.rule);
        let on = on(finding);
        let lines = [Some(on.as_str()), rule.map(|rule| rule.reason), rule.map(|rule| rule.help)];
        let lines = lines.into_iter().flatten().filter(|line| !line.is_empty());
        let lines = lines.flat_map(|line| wrap::text("", line, width.saturating_sub(2)));
        let head = wrap::text(severity, &head, width.saturating_sub(2));
        head.into_iter().chain(lines).for_each(|line| output.line(format!("  {line}")));
    }
    findings
}

/// Where it is, when it is not about the whole account.
fn on(finding: &Finding) -> String {
    let named = finding.on.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match finding.on.len() {
        0 => String::new(),
        n if n > NAMED => format!("on {named} and {} more", n - NAMED),
        _ => format!("on {named}"),
    }
}
