//! The repository on disk: every recipe, lock, template, fleet file and playbook, read once and checked together.

mod check;
mod fleets;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, nearest};
use crate::digest::Digest;
use crate::error::{Doing as _, Error, Result};
use crate::fleet::Fleet;
use crate::fleet::playbook::Playbook;
use crate::lock::{self, Lock};
use crate::pipeline::order::After;
use crate::recipe::Recipe;
use crate::recipe::document::Document;
use crate::recipe::inputs::Link;
use crate::recipe::render::{Templates, file_of, is_template, merged_vars};
use fleets::Fleets;

/// Everything that people wrote, as it was at one moment.
#[derive(Debug, Clone)]
pub struct Repository {
    root: PathBuf,
    recipes: BTreeMap<String, Document<Recipe>>,
    fleets: Fleets,
    playbooks: BTreeMap<String, Document<Playbook>>,
    templates: Templates,
    locks: BTreeMap<String, String>,
    found: Vec<Diagnostic>,
}

impl Repository {
    /// Reads the repository at `root` and keeps what is wrong with it for [`Repository::found`].
    ///
    /// What needs one image or fleet only is stopped by findings about that one only.
    ///
    /// # Errors
    /// No repository there, and files that cannot be read.
    pub fn open(root: &Path) -> Result<Self> {
        if !root.join("images").is_dir() {
            return Err(Error::invalid(format!(
                "{} is no rekiln repository: it has no images/",
                root.display()
            ))
            .hint("name one with `--repo DIR`, or write one with `rekiln init DIR`"));
        }
        let recipes: BTreeMap<_, _> = texts(root, "images", ".toml")?
            .into_iter()
            .map(|(name, text)| (name.clone(), Document::read(&recipe_file(&name), &text)))
            .collect();
        let fleets = Fleets::read(&texts(root, "fleets", ".toml")?);
        let playbooks: BTreeMap<_, _> = texts(root, PLAYBOOKS, ".toml")?
            .into_iter()
            .map(|(name, text)| (name.clone(), Document::read(&playbook_file(&name), &text)))
            .collect();
        let mut templates = BTreeMap::new();
        read_templates(&root.join("bootstrap"), "", &mut templates)?;
        let templates = Templates::new(templates);
        let locks = texts(root, "images", ".lock")?;
        let mut repository =
            Self { root: root.to_owned(), recipes, fleets, playbooks, templates, locks, found: Vec::new() };
        repository.found = repository.check();
        Ok(repository)
    }

    /// Reads the repository at `root` and refuses it when anything is wrong.
    ///
    /// # Errors
    /// As [`Repository::open`], and all findings at once.
    pub fn load(root: &Path) -> Result<Self> {
        let repository = Self::open(root)?;
        if repository.found.is_empty() { Ok(repository) } else { Err(Error::diagnostics(repository.found)) }
    }

    /// Returns the root directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns what is wrong, by file and line.
    #[must_use]
    pub fn found(&self) -> &[Diagnostic] {
        &self.found
    }

    /// Returns the names of all recipes.
    pub fn recipe_names(&self) -> impl Iterator<Item = &str> {
        self.recipes.keys().map(String::as_str)
    }

    /// Returns the names of all fleets: by file, and those of one file in its order.
    pub fn fleet_names(&self) -> impl Iterator<Item = &str> {
        self.fleets.iter().map(|(name, _)| name)
    }

    /// Returns the fleets that a person means by `name`: the one that is called so, or all shards of the file that is, in
    /// its order.
    ///
    /// # Errors
    /// Nothing is called so.
    pub fn fleets_meant(&self, name: &str) -> Result<Vec<&str>> {
        let meant = self.fleets.meant(name);
        if meant.is_empty() { Err(self.no_fleet(name)) } else { Ok(meant) }
    }

    /// Returns the shards of the fleet file `name`; `None` where it has none, or there is no such file.
    #[must_use]
    pub fn shards(&self, name: &str) -> Option<Vec<&str>> {
        self.fleets.shards(name)
    }

    /// Returns the file that the fleet `name` is in; of one that is nowhere, that which would be called so.
    #[must_use]
    pub fn file_of_fleet(&self, name: &str) -> PathBuf {
        fleet_file(self.fleets.file_of(name).unwrap_or(name))
    }

    /// Says where the fleet `name` is written: in which file, or as which shard of it.
    #[must_use]
    pub fn place_of_fleet(&self, name: &str) -> String {
        let file = self.file_of_fleet(name);
        match self.fleets.shard_of(name) {
            Some(shard) => format!("shard `{shard}` of {}", file.display()),
            None => file.display().to_string(),
        }
    }

    /// Returns the names of all playbooks, whether a fleet's rule has them or not.
    pub fn playbook_names(&self) -> impl Iterator<Item = &str> {
        self.playbooks.keys().map(String::as_str)
    }

    /// Returns the names of all locks, whether there is a recipe or not.
    pub fn lock_names(&self) -> impl Iterator<Item = &str> {
        self.locks.keys().map(String::as_str)
    }

    /// Returns the templates.
    #[must_use]
    pub const fn templates(&self) -> &Templates {
        &self.templates
    }

    /// Returns the recipe `name`.
    ///
    /// # Errors
    /// No such recipe, or findings in its file or templates.
    pub fn recipe(&self, name: &str) -> Result<&Recipe> {
        let document = self.recipes.get(name).ok_or_else(|| no_such("recipe", name, keys(&self.recipes)))?;
        self.refuse(|file| file == document.file || uses(document, file))?;
        document
            .value
            .as_ref()
            .ok_or_else(|| Error::invalid(format!("{} is not a recipe", document.file.display())))
    }

    /// Returns the fleet `name`. Its image must exist, and may have findings.
    ///
    /// # Errors
    /// No such fleet, or findings in its file or in the template of its instances' user data.
    pub fn fleet(&self, name: &str) -> Result<&Fleet> {
        let document = self.fleets.get(name).ok_or_else(|| self.no_fleet(name))?;
        self.refuse(|file| file == document.file || starts_from(document, file))?;
        document
            .value
            .as_ref()
            .ok_or_else(|| Error::invalid(format!("{} is not a fleet", document.file.display())))
    }

    /// Returns the playbook `name`.
    ///
    /// # Errors
    /// No such playbook, or findings in its file.
    pub fn playbook(&self, name: &str) -> Result<&Playbook> {
        let document =
            self.playbooks.get(name).ok_or_else(|| no_such("playbook", name, keys(&self.playbooks)))?;
        self.refuse(|file| file == document.file)?;
        document
            .value
            .as_ref()
            .ok_or_else(|| Error::invalid(format!("{} is not a playbook", document.file.display())))
    }

    /// Returns after which others each fleet is rolled; of one whose file is not understood, nothing is known.
    #[must_use]
    pub fn after(&self) -> After<'_> {
        self.fleets.after()
    }

    /// Returns how many instances all fleets are to have together; one whose file is not understood counts none.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.fleets
            .iter()
            .filter_map(|(_, document)| document.value.as_ref())
            .map(|fleet| fleet.size as usize)
            .sum()
    }

    /// Checks that there is a fleet `name`, whatever its file says: a rollout is paused with a broken file too.
    ///
    /// # Errors
    /// No such fleet, or several.
    pub fn has_fleet(&self, name: &str) -> Result<()> {
        if self.fleets.get(name).is_some() { Ok(()) } else { Err(self.no_fleet(name)) }
    }

    /// Returns why no one fleet is called `name`.
    fn no_fleet(&self, name: &str) -> Error {
        match self.fleets.shards(name) {
            Some(shards) if !shards.is_empty() => {
                Error::invalid(format!("{name} has the shards {}: name one", shards.join(", ")))
            }
            // None of them has a name that is one: that is a finding.
            Some(_) => Error::diagnostics(self.found_in(|file| *file == *fleet_file(name))),
            None => no_such("fleet", name, self.fleets.known()),
        }
    }

    /// Returns the recipes from the ground to `name`, each with its name.
    ///
    /// # Errors
    /// As [`Repository::recipe`] for each, and a cycle.
    pub fn chain(&self, name: &str) -> Result<Vec<(&str, &Recipe)>> {
        let mut chain = Vec::new();
        let mut next = Some(name);
        while let Some(name) = next {
            let recipe = self.recipe(name)?;
            let own = self.recipes.get_key_value(name).map_or("", |(own, _)| own.as_str());
            if chain.iter().any(|(seen, _)| *seen == own) {
                // `recipe` has refused it already: a cycle is a finding.
                return Err(Error::invalid(format!("the recipe `{name}` stands on itself")));
            }
            chain.push((own, recipe));
            next = recipe.source.parent();
        }
        chain.reverse();
        Ok(chain)
    }

    /// Returns the lock of the recipe `name` and the digest of its file.
    ///
    /// # Errors
    /// No lock yet, one of a newer format, or text that is none.
    pub fn lock(&self, name: &str) -> Result<(Lock, Digest)> {
        let file = lock_file(name);
        let Some(text) = self.locks.get(name) else {
            return Err(Error::invalid(format!("{} is missing", file.display()))
                .hint(format!("resolve the recipe's inputs with `rekiln lock {name}`")));
        };
        let lock = Lock::parse(text).map_err(|error| error.during(format!("reading {}", file.display())))?;
        Ok((lock, Digest::of(text.as_bytes())))
    }

    /// Returns everything that was read for the image `name`, from the ground up, its locks checked.
    ///
    /// # Errors
    /// As [`Repository::chain`] and [`Repository::lock`], and a lock that does not fit its recipe.
    pub fn links(&self, name: &str) -> Result<Vec<Link>> {
        let chain = self.chain(name)?;
        let mut links: Vec<Link> = Vec::new();
        for (index, (name, recipe)) in chain.iter().enumerate() {
            let (lock, lock_digest) = self.lock(name)?;
            let below = links.last().map(|link| link.lock_digest);
            let differs = lock::stale::stale(recipe, below, &lock);
            if !differs.is_empty() {
                let file = lock_file(name);
                let message = format!("{} does not fit its recipe: {}", file.display(), differs.join("; "));
                return Err(Error::invalid(message).hint(format!("refresh it with `rekiln lock {name}`")));
            }
            let vars = merged_vars(chain[..=index].iter().map(|(_, recipe)| *recipe));
            let rendered = self.templates.render_recipe(recipe, &vars).map_err(Error::diagnostics)?;
            links.push(Link {
                name: (*name).to_owned(),
                recipe: (*recipe).clone(),
                rendered,
                lock,
                lock_digest,
            });
        }
        Ok(links)
    }

    fn found_in(&self, about: impl Fn(&Path) -> bool) -> Vec<Diagnostic> {
        self.found.iter().filter(|found| about(&found.file)).cloned().collect()
    }

    fn refuse(&self, about: impl Fn(&Path) -> bool) -> Result<()> {
        let found = self.found_in(about);
        if found.is_empty() { Ok(()) } else { Err(Error::diagnostics(found)) }
    }
}

/// Tells whether `file` is a template of the recipe.
fn uses(document: &Document<Recipe>, file: &Path) -> bool {
    let Some(recipe) = &document.value else { return false };
    let own = recipe.files.iter().map(|file| &file.template);
    let mut own = own.chain(recipe.runs.iter().map(|run| &run.script));
    own.any(|template| file_of(template) == file)
}

/// Tells whether `file` is the template of the user data of a fleet's instances.
fn starts_from(document: &Document<Fleet>, file: &Path) -> bool {
    let group = document.value.as_ref().and_then(|fleet| fleet.aws.as_ref()?.group.as_ref());
    group.and_then(|group| group.user_data.as_ref()).is_some_and(|template| file_of(template) == file)
}

/// Returns where the recipe `name` lies in a repository.
#[must_use]
pub fn recipe_file(name: &str) -> PathBuf {
    Path::new("images").join(format!("{name}.toml"))
}

/// Returns where the lock of the recipe `name` lies in a repository.
#[must_use]
pub fn lock_file(name: &str) -> PathBuf {
    Path::new("images").join(format!("{name}.lock"))
}

/// Returns where the fleet file `name` lies in a repository.
#[must_use]
pub fn fleet_file(name: &str) -> PathBuf {
    Path::new("fleets").join(format!("{name}.toml"))
}

/// The folder of playbooks in a repository.
const PLAYBOOKS: &str = "fleets/playbooks";

/// Returns where the playbook `name` lies in a repository.
#[must_use]
pub fn playbook_file(name: &str) -> PathBuf {
    Path::new(PLAYBOOKS).join(format!("{name}.toml"))
}

fn keys<T>(map: &BTreeMap<String, T>) -> impl Iterator<Item = &str> {
    map.keys().map(String::as_str)
}

fn no_such<'a>(what: &str, name: &str, all: impl Iterator<Item = &'a str>) -> Error {
    let (error, all) = (Error::invalid(format!("there is no {what} `{name}`")), all.collect::<Vec<_>>());
    match nearest(name, all.iter().copied()) {
        Some(meant) => error.hint(format!("did you mean `{meant}`?")),
        None if all.is_empty() => error,
        None => error.hint(format!("known: {}", all.join(", "))),
    }
}

/// Reads the files `<name><suffix>` of a directory that need not be there.
fn texts(root: &Path, folder: &str, suffix: &str) -> Result<BTreeMap<String, String>> {
    let dir = root.join(folder);
    let mut texts = BTreeMap::new();
    if !dir.is_dir() {
        return Ok(texts);
    }
    for entry in std::fs::read_dir(&dir).doing(|| format!("reading {}", dir.display()))? {
        let path = entry.doing(|| format!("reading {}", dir.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(name) = name.strip_suffix(suffix).filter(|name| !name.starts_with('.')) {
            texts.insert(name.to_owned(), read(&path)?);
        }
    }
    Ok(texts)
}

/// Reads every `.hbs` file below `dir`; links that lead elsewhere are not followed.
fn read_templates(dir: &Path, prefix: &str, into: &mut BTreeMap<String, String>) -> Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir).doing(|| format!("reading {}", dir.display()))? {
        let entry = entry.doing(|| format!("reading {}", dir.display()))?;
        let kind = entry.file_type().doing(|| format!("reading {}", entry.path().display()))?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if kind.is_dir() {
            read_templates(&entry.path(), &format!("{name}/"), into)?;
        } else if kind.is_file() && is_template(&name) {
            into.insert(name, read(&entry.path())?);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).doing(|| format!("reading {}", path.display()))
}
