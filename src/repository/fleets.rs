//! The fleet files of a repository, and the fleets that they stand for.

use std::collections::BTreeMap;

use super::fleet_file;
use crate::diagnostic::Diagnostic;
use crate::fleet::{Fleet, shard};
use crate::notation;
use crate::pipeline::order::After;
use crate::recipe::document::Document;

/// All fleet files, by name.
#[derive(Debug, Clone)]
pub(super) struct Fleets(BTreeMap<String, File>);

/// A fleet file.
#[derive(Debug, Clone)]
struct File {
    /// As it was written.
    document: Document<Fleet>,
    /// The fleets that it stands for, in its order; `None` where it is one.
    shards: Option<Vec<Part>>,
}

/// One of several fleets under one file.
#[derive(Debug, Clone)]
struct Part {
    /// The name of the fleet.
    name: String,
    /// Which `[[shard]]` it is.
    at: usize,
    /// What the file says of it.
    document: Document<Fleet>,
}

impl File {
    fn read(name: &str, text: &str) -> Self {
        let document = Document::<Fleet>::read(&fleet_file(name), text);
        // Of a file that is not understood, names may be: what they stand for can be paused all the same.
        let names = match &document.value {
            Some(fleet) => fleet.shards.iter().map(|shard| shard.name.clone()).collect(),
            None => shard::names(text),
        };
        if names.is_empty() {
            return Self { document, shards: None };
        }
        let mut shards: Vec<Part> = Vec::new();
        for (at, own) in names.iter().enumerate() {
            let name = shard::fleet_name(name, own);
            // What is no name, or one of two, is a finding; a name becomes part of paths.
            if notation::name(own).is_err() || shards.iter().any(|part| part.name == name) {
                continue;
            }
            let value = document.value.as_ref().map(|fleet| fleet.shards[at].of(fleet));
            let moved = shard::OWN.map(|(key, place)| (format!("/shard/{at}/{key}"), place));
            shards.push(Part { name, at, document: document.part(value, &moved) });
        }
        Self { document, shards: Some(shards) }
    }
}

impl Fleets {
    /// Reads the texts of all files, by name.
    pub(super) fn read(texts: &BTreeMap<String, String>) -> Self {
        Self(texts.iter().map(|(name, text)| (name.clone(), File::read(name, text))).collect())
    }

    /// Returns the files as they were written.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &Document<Fleet>)> {
        self.0.iter().map(|(name, file)| (name.as_str(), &file.document))
    }

    /// Returns the fleets by file, and those of one file in its order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Document<Fleet>)> {
        self.0.iter().flat_map(|(name, file)| {
            let whole = file.shards.is_none().then_some((name.as_str(), &file.document));
            let parts = file.shards.iter().flatten().map(|part| (part.name.as_str(), &part.document));
            whole.into_iter().chain(parts)
        })
    }

    /// Returns what is said of a fleet.
    pub(super) fn get(&self, fleet: &str) -> Option<&Document<Fleet>> {
        self.iter().find(|(name, _)| *name == fleet).map(|(_, document)| document)
    }

    /// Returns the shards of a file, in its order; `None` where it has none.
    pub(super) fn shards(&self, file: &str) -> Option<Vec<&str>> {
        let shards = self.0.get(file)?.shards.as_ref()?;
        Some(shards.iter().map(|part| part.name.as_str()).collect())
    }

    /// Returns the fleets that a name means: that one, or the shards of the file that is called so; none where nothing is.
    pub(super) fn meant(&self, name: &str) -> Vec<&str> {
        let one = || self.iter().map(|(fleet, _)| fleet).find(|fleet| *fleet == name).into_iter().collect();
        self.shards(name).unwrap_or_else(one)
    }

    /// Returns the name of the file that a fleet is in, or that is called so.
    pub(super) fn file_of(&self, name: &str) -> Option<&str> {
        let has = |file: &File| file.shards.iter().flatten().any(|part| part.name == name);
        let found = self.0.get_key_value(name).or_else(|| self.0.iter().find(|(_, file)| has(file)));
        found.map(|(name, _)| name.as_str())
    }

    /// Returns which shard of its file a fleet is.
    pub(super) fn shard_of<'a>(&self, fleet: &'a str) -> Option<&'a str> {
        let rest = fleet.strip_prefix(self.file_of(fleet)?)?;
        rest.strip_prefix('-')
    }

    /// Returns every name that means something.
    pub(super) fn known(&self) -> impl Iterator<Item = &str> {
        let groups = self.0.iter().filter(|(_, file)| file.shards.is_some()).map(|(name, _)| name.as_str());
        self.iter().map(|(name, _)| name).chain(groups)
    }

    /// Returns after which others each fleet is rolled: what its file says, and the shard before it. Of one whose file is not
    /// understood, nothing is known.
    pub(super) fn after(&self) -> After<'_> {
        let mut after = After::new();
        for (name, file) in &self.0 {
            let Some(written) = &file.document.value else { continue };
            let said: Vec<&str> = written.after.iter().flat_map(|name| self.meant(name)).collect();
            let Some(shards) = &file.shards else {
                after.insert(name, said);
                continue;
            };
            for (at, part) in shards.iter().enumerate() {
                let before = at.checked_sub(1).map(|before| shards[before].name.as_str());
                after.insert(&part.name, said.iter().copied().chain(before).collect());
            }
        }
        after
    }

    /// Returns the same in terms of files, as people wrote it: whoever is rolled after a shard is rolled after its file.
    pub(super) fn files_after(&self) -> After<'_> {
        let understood = self.0.iter().filter_map(|(name, file)| Some((name, file.document.value.as_ref()?)));
        let files = |fleet: &Fleet| fleet.after.iter().filter_map(|name| self.file_of(name)).collect();
        understood.map(|(name, fleet)| (name.as_str(), files(fleet))).collect()
    }

    /// Finds names that two files stand for. Each of them is told: neither's fleet may be touched before that is clear.
    pub(super) fn clashes(&self) -> Vec<Diagnostic> {
        let mut claims: BTreeMap<&str, Vec<(&File, Option<usize>)>> = BTreeMap::new();
        for (name, file) in &self.0 {
            claims.entry(name).or_default().push((file, None));
            for part in file.shards.iter().flatten() {
                claims.entry(&part.name).or_default().push((file, Some(part.at)));
            }
        }
        let mut found = Vec::new();
        for (name, claims) in claims {
            for (at, (file, shard)) in claims.iter().enumerate() {
                let Some((_, (other, of))) = claims.iter().enumerate().find(|(other, _)| *other != at) else {
                    continue;
                };
                let (path, what) =
                    (other.document.file.display(), if of.is_some() { "a shard of " } else { "" });
                let message = format!("`{name}` is {what}{path} already: another name");
                found.push(match shard {
                    Some(at) => file.document.at(&format!("/shard/{at}/name"), message),
                    None => Diagnostic::file(&file.document.file, message),
                });
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "image = 'db'\nsize = 3\n";
    const REST: &str = "[local]\nport = 80\n[health]\nhttp = { port = 80, path = '/' }\n";

    fn fleets(files: &[(&str, &str, &[&str])]) -> Fleets {
        let text = |(after, shards): (&str, &[&str])| {
            let shards: Vec<_> = shards.iter().map(|name| format!("[[shard]]\nname = '{name}'\n")).collect();
            format!("{HEAD}{after}\n{REST}{}", shards.concat())
        };
        let texts = files.iter().map(|(name, after, shards)| ((*name).to_owned(), text((after, shards))));
        Fleets::read(&texts.collect())
    }

    #[test]
    fn a_file_stands_for_its_shards_in_its_order() {
        let fleets = fleets(&[("db", "", &["z", "a"]), ("web", "", &[])]);
        let names: Vec<_> = fleets.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["db-z", "db-a", "web"]);
        assert_eq!(fleets.meant("db"), ["db-z", "db-a"]);
        assert_eq!(fleets.meant("db-a"), ["db-a"]);
        assert_eq!(fleets.meant("db-b"), [""; 0]);
        assert_eq!(fleets.shards("web"), None);
        assert!(fleets.get("db").is_none());
        assert_eq!((fleets.file_of("db-a"), fleets.file_of("web")), (Some("db"), Some("web")));
        assert_eq!((fleets.shard_of("db-a"), fleets.shard_of("web")), (Some("a"), None));
    }

    #[test]
    fn each_shard_comes_after_the_one_before_it() {
        let fleets = fleets(&[
            ("db", "after = ['net']", &["z", "a", "m"]),
            ("api", "after = ['db']", &[]),
            ("job", "after = ['db-z', 'nobody']", &[]),
            ("net", "", &[]),
        ]);
        let after: Vec<(&str, Vec<&str>)> = fleets.after().into_iter().collect();
        assert_eq!(
            after,
            [
                ("api", vec!["db-z", "db-a", "db-m"]),
                ("db-a", vec!["net", "db-z"]),
                ("db-m", vec!["net", "db-a"]),
                ("db-z", vec!["net"]),
                ("job", vec!["db-z"]),
                ("net", vec![]),
            ]
        );
        let files: Vec<(&str, Vec<&str>)> = fleets.files_after().into_iter().collect();
        assert_eq!(files, [("api", vec!["db"]), ("db", vec!["net"]), ("job", vec!["db"]), ("net", vec![])]);
    }

    #[test]
    fn a_broken_file_stands_for_the_same_fleets() {
        let broken = "imag = 1\n[[shard]]\nname = 'a'\nlisten = \n[[shard]]\nname = 'b'\n";
        let fleets = Fleets::read(&[("db".to_owned(), broken.to_owned())].into());
        assert_eq!(fleets.meant("db"), ["db-a", "db-b"]);
        // What is no name of a fleet is part of no path.
        let evil = "[[shard]]\nname = '../x'\n[[shard]]\nname = 'b'\n[[shard]]\nname = 'b'\n";
        let fleets = Fleets::read(&[("db".to_owned(), evil.to_owned())].into());
        assert_eq!(fleets.meant("db"), ["db-b"]);
    }

    #[test]
    fn two_files_stand_for_one_name() {
        let shown = |files: &[(&str, &str, &[&str])]| -> Vec<String> {
            fleets(files).clashes().iter().map(Diagnostic::line).collect()
        };
        assert_eq!(shown(&[("db", "", &["a", "b"]), ("db-c", "", &[])]), [""; 0]);
        assert_eq!(
            shown(&[("db", "", &["a", "b"]), ("db-b", "", &[])]),
            [
                "fleets/db.toml:11:8: `db-b` is fleets/db-b.toml already: another name",
                "fleets/db-b.toml: `db-b` is a shard of fleets/db.toml already: another name",
            ]
        );
        assert_eq!(
            shown(&[("db", "", &["a-b"]), ("db-a", "", &["b"])]),
            [
                "fleets/db.toml:9:8: `db-a-b` is a shard of fleets/db-a.toml already: another name",
                "fleets/db-a.toml:9:8: `db-a-b` is a shard of fleets/db.toml already: another name",
            ]
        );
    }
}
