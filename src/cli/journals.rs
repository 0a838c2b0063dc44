//! Where commands find the journal of a fleet and what is under way in it: in the store, or in the bucket that its file
//! names.

use std::collections::BTreeMap;

use super::Context;
use crate::error::{Doing as _, Error, Result};
use crate::fleet::shard::{self, files_of};
use crate::objects::{Objects, S3Url};
use crate::repository::fleet_file;
use crate::store::Store;

/// A bucket as a fleet's file names it, and the region that it is in unless it says another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    url: S3Url,
    region: String,
}

impl Context {
    /// Returns where the journal of a fleet is. Its file need not be sound, or there: a rollout is stopped whatever else is
    /// wrong. But nothing is said into a journal that nobody reads.
    ///
    /// # Errors
    /// The file does not say; the bucket cannot be reached.
    pub async fn journals(&self, fleet: &str) -> Result<Objects> {
        match self.named(fleet)? {
            None => Ok(self.store()?.objects()),
            Some(named) => self.bucket(&named).await,
        }
    }

    /// Returns every place that has journals: the store, and each bucket that a fleet's file names, once.
    ///
    /// # Errors
    /// As [`Context::journals`].
    pub async fn all_journals(&self, store: &Store) -> Result<Vec<Objects>> {
        let mut all = vec![store.objects()];
        for named in self.all_named()?.into_values() {
            all.push(self.bucket(&named).await?);
        }
        Ok(all)
    }

    /// Returns the places in buckets that fleets' files name, each once.
    fn all_named(&self) -> Result<BTreeMap<String, Named>> {
        let dir = self.repo.join("fleets");
        let entries = match std::fs::read_dir(&dir) {
            // Not every command needs a repository.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            entries => entries.doing(|| format!("listing {}", dir.display()))?,
        };
        let mut all = BTreeMap::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(fleet) = name.to_str().and_then(|name| name.strip_suffix(".toml")) else { continue };
            if let Some(named) = self.named(fleet)? {
                all.insert(named.url.to_string(), named);
            }
        }
        Ok(all)
    }

    fn named(&self, fleet: &str) -> Result<Option<Named>> {
        for (name, shard) in files_of(fleet) {
            let path = fleet_file(name);
            let file = self.repo.join(&path);
            let text = match std::fs::read_to_string(&file) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                text => text.doing(|| format!("reading {}", file.display()))?,
            };
            if shard.is_some_and(|shard| !may_have(&text, shard)) {
                continue;
            }
            return named(&text).map_err(|why| {
                Error::invalid(format!("{} does not say where its journal is: {why}", path.display()))
                    .hint("`rekiln check` says what else is wrong with it")
            });
        }
        Ok(None)
    }

    #[cfg(feature = "aws")]
    async fn bucket(&self, named: &Named) -> Result<Objects> {
        self.buckets.of(&named.url, &named.region).await.map(Objects::Bucket)
    }

    #[cfg(not(feature = "aws"))]
    #[expect(clippy::unused_async, reason = "with AWS it waits for S3")]
    async fn bucket(&self, named: &Named) -> Result<Objects> {
        Err(Error::failed(format!("the journal is in {}, and this rekiln was built without AWS", named.url))
            .hint("build it with its default features"))
    }
}

/// Tells whether a fleet's file may have this shard: what is no TOML may have any.
fn may_have(text: &str, shard: &str) -> bool {
    shard::names(text).iter().any(|name| name == shard)
        || (text.contains("[[shard]]") && text.parse::<toml::Table>().is_err())
}

/// Reads which bucket a fleet's file names, and nothing else of it.
fn named(text: &str) -> Result<Option<Named>, String> {
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        // A file that is no TOML at all might name one.
        Err(error) if text.contains("s3://") => return Err(error.message().to_owned()),
        Err(_) => return Ok(None),
    };
    let Some(aws) = table.get("aws").and_then(|aws| aws.as_table()) else { return Ok(None) };
    let Some(journal) = aws.get("journal") else { return Ok(None) };
    let url: S3Url = journal.as_str().ok_or("`journal` is no text")?.parse()?;
    let region = url.region.as_deref().or_else(|| aws.get("region").and_then(|region| region.as_str()));
    let region = region.ok_or("there is no `region`")?.to_owned();
    Ok(Some(Named { url, region }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_broken_may_have_any_shard() {
        let file = "[[shard]]\nname = 'a'\n";
        for (text, expected) in [
            (file.to_owned(), [true, false]),
            (format!("{file}x = \n"), [true, true]),
            (file.replace("[[shard]]", "[[gate]]"), [false, false]),
        ] {
            assert_eq!(["a", "b"].map(|shard| may_have(&text, shard)), expected, "{text}");
        }
    }

    #[test]
    fn a_file_that_is_not_sound_names_its_bucket() {
        let of = |text: &str| named(text).map(|named| named.map(|n| format!("{} in {}", n.url, n.region)));
        let file = "imag = 'web'\n[aws]\nregion = 'eu-west-1'\njournal = 's3://bucket/x'\n";
        assert_eq!(of(file), Ok(Some("s3://bucket/x in eu-west-1".to_owned())));
        let there = file.replace("/x'", "?region=eu-north-1'");
        assert_eq!(of(&there), Ok(Some("s3://bucket in eu-north-1".to_owned())));
        assert_eq!(of("image = 'web'\n[local]\n"), Ok(None));
        assert_eq!(of("[aws]\nregion = 'eu-west-1'"), Ok(None));
        assert_eq!(of("image = "), Ok(None));
        // Nobody may take such a fleet's journal for one in the store.
        for unclear in [
            format!("{file}x = "),
            file.replace("s3://bucket", "s3://Bucket"),
            file.replace("region = ", "regoin = "),
            file.replace("'s3://bucket/x'", "1"),
        ] {
            assert!(of(&unclear).is_err(), "{unclear}");
        }
    }
}
