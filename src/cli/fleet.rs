//! What the commands about fleets share: the fleet file, the target, the provider, the journal.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Context;
use crate::bake::identity::Identity;
use crate::catalog::{Catalog, Record};
use crate::error::{Error, Result};
use crate::fleet::Fleet;
use crate::fleet::generation::Target;
use crate::fleet::journal::{Journal, Writer};
use crate::fleet::policy::Policy;
use crate::fleet::roll::{Order, Roll, Summary};
use crate::fleet::surroundings::OfStore;
use crate::provider::local::{Local, Qemu};
use crate::repository::Repository;
use crate::store::Store;

/// One fleet as a command sees it.
pub struct Site {
    pub name: String,
    pub fleet: Fleet,
    pub policy: Policy,
    pub store: Store,
    pub provider: Local<Qemu>,
    repository: Repository,
}

impl Site {
    pub fn open(context: &Context, name: &str) -> Result<Self> {
        let repository = Repository::open(&context.repo)?;
        let fleet = repository.fleet(name)?.clone();
        let policy =
            Policy::of(&fleet).map_err(|error| error.during(format!("reading fleets/{name}.toml")))?;
        let store = context.store()?;
        let provider = Local::new(store.clone(), name, fleet.clone(), Qemu::new(store.clone()));
        Ok(Self { name: name.to_owned(), fleet, policy, store, provider, repository })
    }

    pub async fn journal(&self, command: &str) -> Result<Journal> {
        Journal::open(&self.store, &self.name, Writer::this(format!("rekiln {command} {}", self.name))).await
    }

    /// Returns what Git asks the fleet to run, and the record of its image.
    pub fn target(&self) -> Result<(Target, Record)> {
        let image = &self.fleet.image;
        let identity = Identity::of(&self.repository, image, false)?;
        let record = Catalog::new(self.store.clone()).get(identity.id)?.ok_or_else(|| {
            Error::failed(format!(
                "fleet {} needs image {image} {}, which is not baked",
                self.name,
                identity.id.short()
            ))
            .hint(format!("bake it: `rekiln bake {image}`"))
        })?;
        Ok((Target::new(&self.fleet, record.id), record))
    }

    /// Returns what surrounds the fleet.
    pub fn surroundings<'a>(&self, context: &'a Context) -> OfStore<'a> {
        OfStore::new(self.store.clone(), &self.name, self.fleet.clone(), context.progress())
    }

    /// Rolls, stopping between two acts on Ctrl-C or SIGTERM.
    pub fn roll(&self, context: &Context, command: &str, target: Target, order: Order) -> Result<Summary> {
        let stop = Arc::new(AtomicBool::new(false));
        let surroundings = self.surroundings(context);
        context.block_on(async {
            let asked = Arc::clone(&stop);
            tokio::spawn(async move {
                let term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
                if let Ok(mut term) = term {
                    tokio::select! { _ = tokio::signal::ctrl_c() => {} _ = term.recv() => {} }
                    asked.store(true, Ordering::Relaxed);
                }
            });
            let mut journal = self.journal(command).await?;
            let roll = Roll {
                name: &self.name,
                fleet: &self.fleet,
                target,
                provider: &self.provider,
                surroundings: &surroundings,
                journal: &mut journal,
                progress: context.progress(),
                stop: &stop,
            };
            roll.run(order).await
        })
    }
}

/// Returns the names of all fleets, sorted.
pub fn names(repo: &Path) -> Result<Vec<String>> {
    Ok(Repository::open(repo)?.fleet_names().map(str::to_owned).collect())
}

/// Aligns columns with two spaces between them.
pub fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |column| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell: &String| cell.chars().count()).max()
    };
    let widths: Vec<_> = (0..columns).map(|column| wide(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
