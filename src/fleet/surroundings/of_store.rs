//! Do: the surroundings of a real fleet: its store, its gates, its hooks, and whoever is told.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use super::{News, Outlook, Reading, Surroundings};
use crate::catalog::Catalog;
use crate::catalog::quarantine::{Quarantine, Quarantined};
use crate::digest::ImageId;
use crate::error::Result;
use crate::fleet::breaker::{Failure, Failures, open_by};
use crate::fleet::census::{Census, Instance, InstanceId};
use crate::fleet::generation::Target;
use crate::fleet::statistics::{self, Comparison};
use crate::fleet::{Fleet, Gate, HookFailure, Step, Worse, gate, hook, notify};
use crate::objects::Objects;
use crate::progress::Progress;
use crate::store::Store;

/// The numbers that a comparison has so far.
#[derive(Debug, Default)]
struct Samples {
    old: Vec<f64>,
    new: Vec<f64>,
}

/// What surrounds a fleet of a store.
pub struct OfStore<'a> {
    store: Store,
    /// Where it is kept what fleets have to know of each other.
    places: Vec<Objects>,
    name: String,
    fleet: Fleet,
    progress: &'a dyn Progress,
    /// What each comparing gate has measured of a wave, by gate and target; lost in a crash and measured again.
    samples: Mutex<BTreeMap<(String, ImageId), Samples>>,
}

impl<'a> OfStore<'a> {
    /// Surrounds the fleet `name` of a store, whose journal may be elsewhere.
    #[must_use]
    pub fn new(
        store: Store,
        journals: &Objects,
        name: &str,
        fleet: Fleet,
        progress: &'a dyn Progress,
    ) -> Self {
        let places = store.and(journals);
        Self { store, places, name: name.to_owned(), fleet, progress, samples: Mutex::default() }
    }

    /// Says why an image must not be launched.
    async fn refusal(&self, image: ImageId) -> Result<Option<String>> {
        if let Some(found) = Quarantine::new(&self.places).get(image).await? {
            return Ok(Some(format!("it is quarantined {found}")));
        }
        Ok(match Catalog::new(self.store.clone()).get(image)? {
            None => Some("the store does not have it".to_owned()),
            Some(record) if record.debug => Some("it is a debug variant".to_owned()),
            Some(record) if !record.may_be_target() => Some("it has no passing verdict".to_owned()),
            Some(_) => None,
        })
    }

    async fn breaker(&self) -> Result<Option<String>> {
        open_by(&self.fleet.roll.breaker, &Failures::new(&self.places).list().await?)
    }

    /// Measures each serving instance once, and compares all numbers so far.
    fn compare(&self, gate: &Gate, worse: Worse, target: &Target, census: &Census) -> Reading {
        let mut all = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let samples = all.entry((gate.name.clone(), target.image)).or_default();
        let mut failed = None;
        for instance in census.instances.iter().filter(|instance| instance.serves()) {
            let Instance { id, address, generation, .. } = instance;
            let new = generation.as_ref().is_some_and(|generation| generation.id == target.generation.id);
            match gate::measure(gate, *address, Some(&id.0)) {
                Ok(found) => if new { &mut samples.new } else { &mut samples.old }.extend(found),
                Err(error) => failed = Some(error.chain()),
            }
        }
        match statistics::compare(&samples.old, &samples.new, worse, gate.samples as usize) {
            Comparison::TooFew { old, new } => {
                let why = failed.map(|why| format!("; {why}")).unwrap_or_default();
                Reading::NotYet(format!(
                    "{old} numbers of old and {new} of new instances, {} wanted{why}",
                    gate.samples
                ))
            }
            Comparison::NotWorse { .. } => Reading::Pass,
            Comparison::Worse { p } => {
                Reading::Fail(format!("new instances are worse than old ones (p = {p:.4})"))
            }
        }
    }
}

/// Runs blocking work inside the runtime without holding up its other tasks.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

impl Surroundings for OfStore<'_> {
    async fn outlook(&self, targets: &[&Target], _: Timestamp) -> Result<Outlook> {
        let mut refused = Vec::new();
        for target in targets {
            if let Some(why) = self.refusal(target.image).await? {
                refused.push((target.image, why));
            }
        }
        Ok(Outlook { refused, breaker: self.breaker().await? })
    }

    async fn judge(&self, gate: &Gate, target: &Target, census: &Census) -> Reading {
        blocking(|| {
            if let Some(worse) = gate.compare {
                return self.compare(gate, worse, target, census);
            }
            match gate::measure(gate, None, None) {
                Err(error) => Reading::NotYet(error.chain()),
                Ok(samples) => gate::threshold(gate, &samples).unwrap_or_else(Reading::NotYet),
            }
        })
    }

    async fn hook(
        &self,
        step: Step,
        instance: &InstanceId,
        seen: Option<&Instance>,
        reason: &str,
    ) -> Result<()> {
        blocking(|| {
            for hook in self.fleet.hooks.iter().filter(|hook| hook.on == step) {
                let document = hook::Document {
                    fleet: &self.name,
                    step,
                    instance,
                    image: seen.and_then(|seen| seen.image),
                    generation: seen.and_then(|seen| seen.generation.as_ref()),
                    reason,
                    at: Timestamp::now(),
                };
                match hook::call(hook, &document) {
                    Err(error) if hook.on_failure == HookFailure::Ignore => {
                        self.progress.note(&instance.0, error.chain());
                    }
                    done => done?,
                }
            }
            Ok(())
        })
    }

    async fn tell(&self, news: News<'_>) {
        blocking(|| {
            let message = notify::Message {
                fleet: &self.name,
                event: news.event,
                text: &news.text,
                at: news.at,
                image: None,
                instance: news.instance,
            };
            for notify in &self.fleet.notify {
                // A deaf listener is no reason to stop a rollout.
                if let Err(error) = notify::send(notify, &message) {
                    self.progress.note(&self.name, format!("nobody was told: {}", error.chain()));
                }
            }
        });
    }

    async fn condemn(
        &self,
        rollout: u64,
        target: &Target,
        proven: bool,
        reason: &str,
        now: Timestamp,
    ) -> Result<()> {
        let failure =
            Failure { fleet: self.name.clone(), image: target.image, reason: reason.to_owned(), at: now };
        Failures::new(&self.places).add(rollout, &failure).await?;
        if proven {
            return Ok(());
        }
        let by = format!("fleet {}", self.name);
        let entry = Quarantined { image: target.image, reason: reason.to_owned(), by, at: now };
        Quarantine::new(&self.places).add(&entry).await
    }
}
