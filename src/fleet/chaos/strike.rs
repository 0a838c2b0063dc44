//! Do: kill one instance, and look how the fleet gets over it. Nothing is chosen here.
//!
//! # How it can fail
//!
//! * *This process dies between the intent and the kill*: the instance lives on, and the journal says that it was to be killed.
//!   Nobody relies on it for a minute; after that it is seen to serve, and counts as before.
//! * *A rollout begins in between*: it reads the intent before it plans, and does not count on the instance. What it drained
//!   before lets no kill begin, since the journal has it.
//! * *Something else breaks in between*: the provider looks once more right before the kill, and refuses when too few others
//!   serve.

use jiff::Timestamp;

use super::measure::Cure;
use super::{Chaos, Refusal, Situation, Victim, Which, victim};
use crate::error::{Error, Result};
use crate::fleet::Fleet;
use crate::fleet::census::InstanceId;
use crate::fleet::history::{Event, History};
use crate::fleet::journal::Journal;
use crate::fleet::policy::Policy;
use crate::fleet::surroundings::Surroundings;
use crate::provider::{Outcome, Provider, ProviderError};

/// What is needed to kill.
#[derive(Debug, Clone, Copy)]
pub struct Striker<'a, P, S> {
    /// The fleet's name.
    pub name: &'a str,
    /// The fleet file.
    pub fleet: &'a Fleet,
    /// How the fleet is rolled, where the fleet file says its size.
    pub policy: &'a Policy,
    /// Where the instances live.
    pub provider: &'a P,
    /// What is neither the fleet nor its journal.
    pub surroundings: &'a S,
}

/// A kill that was done, or may have been.
#[derive(Debug, Clone)]
pub struct Struck {
    /// Who was killed.
    pub victim: Victim,
    /// How many instances the fleet is to have.
    pub size: usize,
    /// How many must serve whatever is killed.
    pub floor: usize,
    /// How it gets over it.
    pub cure: Cure,
    /// Whose command began to roll it since.
    pub healer: Option<String>,
    /// How many entries of its journal were taken up.
    read: usize,
}

/// What was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    /// Whether as many serve as should, and the journal knows that the killed one is gone, and nothing is under way.
    pub cured: bool,
    /// Whether a living process rolls the fleet.
    pub rolled: bool,
    /// How many serve.
    pub serving: usize,
}

impl<P: Provider, S: Surroundings> Striker<'_, P, S> {
    /// Kills one instance, if one may be killed now, having written so into the journal. Returns why not otherwise.
    ///
    /// # Errors
    /// The provider cannot look, or could not do it; the journal cannot be written.
    pub async fn strike(
        &self,
        journal: &mut Journal,
        which: &Which,
        draw: u64,
        reason: &str,
    ) -> Result<Result<Struck, Refusal>> {
        journal.follow().await?;
        let census = self.provider.census().await.map_err(Error::from)?;
        let history = journal.history();
        let targets: Vec<_> = history.target.iter().chain(&history.proven).collect();
        let outlook = self.surroundings.outlook(&targets, census.at).await?;
        let seen = Policy::seen(self.fleet, &census, history)?;
        let policy = seen.as_ref().unwrap_or(self.policy);
        let (size, copies) = (policy.size, policy.copies.as_ref());
        let none = Chaos::default();
        let floor = self.fleet.chaos.as_ref().unwrap_or(&none).floor(size)?;
        let breaker = outlook.breaker.as_deref();
        let choose = |history: &History| {
            let (fleet, now) = (self.name, census.at);
            let situation =
                Situation { fleet, which, size, floor, copies, census: &census, history, breaker, now };
            victim(&situation, draw)
        };
        let chosen = match choose(history) {
            Ok(chosen) => chosen,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let event = Event::Chaos {
            instance: chosen.instance.clone(),
            reason: reason.to_owned(),
            others: chosen.others,
        };
        // Whatever others wrote meanwhile may forbid it.
        let refused = journal.command_unless(self.provider.now(), event, |now, _| choose(now).err()).await?;
        if let Some(refusal) = refused {
            return Ok(Err(refusal));
        }
        let killed = self.provider.now();
        let result = self.provider.kill(&chosen.instance, chosen.others).await;
        let said = match &result {
            Ok(outcome) => Ok(outcome.clone()),
            Err(ProviderError::Unclear(words)) => Err(words.clone()),
            Err(error @ ProviderError::Throttled(_)) => Ok(Outcome::Throttled { words: error.words() }),
            // That it was not done is certain.
            Err(error @ ProviderError::Failed(_)) => Ok(Outcome::refused(error.words())),
        };
        let instance = chosen.instance.clone();
        journal.command(self.provider.now(), Event::Killed { instance, result: said }).await?;
        match result {
            Ok(Outcome::Refused { precondition }) => Ok(Err(Refusal::NotYet(vec![precondition]))),
            Err(ProviderError::Throttled(words)) => Ok(Err(Refusal::NotYet(vec![words]))),
            Err(ProviderError::Failed(error)) => Err(error.during(format!("killing {}", chosen.instance))),
            Ok(_) | Err(ProviderError::Unclear(_)) => {
                let cure = Cure::of(&chosen, &census, size, killed);
                let read = journal.entries().len();
                Ok(Ok(Struck { victim: chosen, size, floor, cure, healer: None, read }))
            }
        }
    }

    /// Looks how far a fleet got over a kill. `None` when it could not look now, and may try again.
    ///
    /// # Errors
    /// The provider cannot look; the journal cannot be read.
    pub async fn look(&self, journal: &mut Journal, struck: &mut Struck) -> Result<Option<Looked>> {
        journal.follow().await?;
        journal.hear().await?;
        for entry in &journal.entries()[struck.read.min(journal.entries().len())..] {
            struck.cure.read(entry.at, &entry.event);
            if matches!(entry.event, Event::Opened { .. }) {
                struck.healer = Some(entry.by.command.clone());
            }
        }
        struck.read = journal.entries().len();
        let census = match self.provider.census().await {
            Err(ProviderError::Throttled(_) | ProviderError::Unclear(_)) => return Ok(None),
            other => other.map_err(Error::from)?,
        };
        struck.cure.saw(&census);
        let history = journal.history();
        let serves = |id: &InstanceId| census.instances.iter().any(|seen| seen.id == *id && seen.serves());
        let serving = census.instances.iter().filter(|seen| seen.serves()).count();
        let at_rest = history.uncured(census.at, serves).is_none() && !history.unfinished();
        Ok(Some(Looked {
            cured: struck.cure.is_whole() && at_rest,
            rolled: journal.roller(Timestamp::now()).is_some(),
            serving,
        }))
    }
}

#[cfg(test)]
mod tests;
