//! The seam between a rollout and what is neither its fleet nor its journal: the store's other fleets, measurements,
//! hooks, and people.

mod of_store;

use std::future::Future;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::census::{Census, Instance, InstanceId};
use super::generation::Target;
use super::{Gate, Step};
use crate::digest::ImageId;
use crate::error::Result;
pub use of_store::OfStore;

/// What the rest of the store says at one moment; an input of each plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlook {
    /// Images that must not be launched, and why: quarantined, without a passing verdict, a debug variant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<(ImageId, String)>,
    /// Why nothing voluntary may begin in any fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<String>,
}

impl Outlook {
    /// Returns why an image must not be launched; `None` when it may.
    #[must_use]
    pub fn refusal(&self, image: ImageId) -> Option<&str> {
        self.refused.iter().find(|(refused, _)| *refused == image).map(|(_, why)| why.as_str())
    }
}

/// What a gate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "says", content = "why")]
pub enum Reading {
    /// It is good.
    Pass,
    /// It is not: the numbers.
    Fail(String),
    /// It cannot be told yet: too few numbers, or the measurement failed. Never a pass.
    NotYet(String),
}

/// What happened that is worth a person's attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News<'a> {
    /// When.
    pub at: Timestamp,
    /// One word for machines: `opened`, `failed`, `rolled_back` …
    pub event: &'a str,
    /// A sentence for people.
    pub text: String,
    /// The instance it is about, if it is about one.
    pub instance: Option<&'a InstanceId>,
}

/// What surrounds one fleet's rollout.
///
/// Nothing here changes the fleet. An error of [`Surroundings::tell`] is nobody's business but the log's.
pub trait Surroundings {
    /// Looks at what the rest of the store says about images that the fleet may launch.
    ///
    /// # Errors
    /// The store cannot be read.
    fn outlook(&self, targets: &[&Target], now: Timestamp) -> impl Future<Output = Result<Outlook>>;

    /// Measures a gate once. A measurement that fails is `NotYet`.
    fn judge(&self, gate: &Gate, target: &Target, census: &Census) -> impl Future<Output = Reading>;

    /// Calls the hooks of a step. `seen` is the last look at the instance, if there was one.
    ///
    /// # Errors
    /// A hook that failed and whose failure is not ignored.
    fn hook(
        &self,
        step: Step,
        instance: &InstanceId,
        seen: Option<&Instance>,
        reason: &str,
    ) -> impl Future<Output = Result<()>>;

    /// Tells people.
    fn tell(&self, news: News<'_>) -> impl Future<Output = ()>;

    /// Remembers that the rollout to `target` that began with entry `rollout` of the journal failed: its image is quarantined
    /// for every fleet, unless it is `proven` there, however it was launched, and the failure counts for the circuit breaker.
    /// Safe to repeat.
    ///
    /// # Errors
    /// The store cannot be written.
    fn condemn(
        &self,
        rollout: u64,
        target: &Target,
        proven: bool,
        reason: &str,
        now: Timestamp,
    ) -> impl Future<Output = Result<()>>;
}

/// Nothing: no other fleets, no gates, no hooks, nobody to tell.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nothing;

impl Surroundings for Nothing {
    async fn outlook(&self, _: &[&Target], _: Timestamp) -> Result<Outlook> {
        Ok(Outlook::default())
    }

    async fn judge(&self, _: &Gate, _: &Target, _: &Census) -> Reading {
        Reading::NotYet("nothing measures here".to_owned())
    }

    async fn hook(&self, _: Step, _: &InstanceId, _: Option<&Instance>, _: &str) -> Result<()> {
        Ok(())
    }

    async fn tell(&self, _: News<'_>) {}

    async fn condemn(&self, _: u64, _: &Target, _: bool, _: &str, _: Timestamp) -> Result<()> {
        Ok(())
    }
}
