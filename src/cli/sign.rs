//! `rekiln sign`.

use std::path::PathBuf;

use super::Context;
use crate::catalog::Catalog;
use crate::catalog::provenance::{Envelope, FILE, PrivateKey, statement};
use crate::error::{Doing as _, Error, Result};
use crate::git;

/// Arguments of `rekiln sign`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Images: recipes' names (their newest images), ids, or the starts of ids.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// The private key, as `openssl genpkey -algorithm ed25519` writes it. No bake should be able to read it.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The repository that they are made from [default: the address of this one's remote `origin`].
    #[arg(long, value_name = "URL")]
    repository: Option<String>,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// A key that is none; an image that no fleet may run, for which nobody should vouch; no repository that could be named.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let reading = || format!("reading the key {}", args.key.display());
    let text = std::fs::read_to_string(&args.key).doing(reading)?;
    let key = PrivateKey::read(&text).map_err(|error| error.during(reading()))?;
    let repository = match args.repository {
        Some(url) => url,
        None => git::remote(&context.repo, "origin").ok_or_else(|| {
            Error::invalid(
                "which repository the images are made from is not known: there is no remote `origin`",
            )
            .hint("say it: `--repository URL`")
        })?,
    };
    let catalog = Catalog::new(context.store()?);
    let records = args.images.iter().map(|name| catalog.find(name)).collect::<Result<Vec<_>>>()?;
    if let Some(record) = records.iter().find(|record| !record.may_be_target()) {
        let why = if record.debug { "it is a debug variant" } else { "it has no passing verdict" };
        return Err(Error::invalid(format!(
            "image {} of {} is not signed: {why}",
            record.id.short(),
            record.name
        ))
        .hint(format!("`rekiln image {}` has its verdict", record.id.short())));
    }
    for record in &records {
        let (bytes, before) = (catalog.bytes(record.id)?, catalog.envelope(record.id)?);
        let envelope = Envelope::sign(&statement(record, &bytes, &repository), &key, before)?;
        let text = serde_json::to_vec_pretty(&envelope).doing(|| "writing the provenance")?;
        catalog.write(record.id, FILE, &text)?;
        let (name, id, public) = (&record.name, record.id.short(), key.public());
        context.output.line(format!("{name} {id}: signed as made from {repository}"));
        context.output.json(&serde_json::json!({
            "event": "signed", "image": record.id, "name": name, "repository": repository, "key": public.to_string(),
            "signers": envelope.signers().collect::<Vec<_>>(),
        }));
    }
    context
        .output
        .hint(format!("fleets that ask for it name this key: `[trust] keys = [\"{}\"]`", key.public()));
    Ok(0)
}
