//! What happens in the middle of a roll: someone else does something after the first act of a kind.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use rekiln::error::Result;
use rekiln::fleet::census::{Census, InstanceId};
use rekiln::fleet::roll::Wish;
use rekiln::provider::sim::Sim;
use rekiln::provider::{Action, Outcome, Provider, ProviderError};

use super::Story;
use crate::fleet::point::{AtPoint, kind};

/// What someone else does.
#[derive(Clone)]
pub enum Meddling {
    /// An autoscaler launches so many.
    ScaleOut(usize),
    /// An autoscaler ends one.
    ScaleIn(InstanceId),
    /// A person calls an emergency on another terminal.
    Emergency(String),
    /// A person interrupts the roll.
    Interrupt,
}

impl Meddling {
    pub fn parse(words: &[&str]) -> Self {
        match *words {
            ["autoscaler", "launches", count] => Self::ScaleOut(count.parse().expect("a number")),
            ["autoscaler", "ends", id] => Self::ScaleIn(InstanceId(id.to_owned())),
            ["emergency", ref reason @ ..] => Self::Emergency(reason.join(" ")),
            ["interrupt"] => Self::Interrupt,
            _ => panic!("`{words:?}` is nothing that happens"),
        }
    }
}

/// The simulated cloud of a story, in which something happens at the first look after the first act of a kind.
pub struct Meddled<'a> {
    pub story: &'a Story,
    pub at: AtPoint<'a, Sim>,
    pub stop: &'a AtomicBool,
    pub what: RefCell<Option<(String, Meddling)>>,
    pub acted: Cell<bool>,
}

impl Meddled<'_> {
    async fn happen(&self, what: Meddling) {
        let Story { sim, .. } = self.story;
        match what {
            Meddling::ScaleOut(count) => (0..count).for_each(|_| sim.stray()),
            Meddling::ScaleIn(id) => sim.kill(&id),
            Meddling::Interrupt => self.stop.store(true, Ordering::Relaxed),
            Meddling::Emergency(reason) => {
                let wish = Wish { instances: Vec::new(), reason };
                let own = AtomicBool::new(false);
                let result = Box::pin(self.story.run(sim, &own, Some(wish), true)).await;
                result.expect("an emergency goes through");
            }
        }
    }
}

impl Provider for Meddled<'_> {
    fn prepare(&self) -> impl Future<Output = Result<()>> {
        self.at.prepare()
    }

    async fn census(&self) -> Result<Census, ProviderError> {
        if self.acted.get()
            && let Some((_, what)) = self.what.take()
        {
            self.happen(what).await;
        }
        self.at.census().await
    }

    async fn apply(&self, action: &Action) -> Result<Outcome, ProviderError> {
        let here = self.what.borrow().as_ref().is_some_and(|(act, _)| act == kind(action));
        self.acted.set(self.acted.get() || here);
        self.at.apply(action).await
    }

    async fn console_tail(&self, id: &InstanceId) -> Vec<String> {
        self.at.console_tail(id).await
    }

    fn now(&self) -> Timestamp {
        self.at.now()
    }

    fn wait(&self, time: Duration) -> impl Future<Output = ()> {
        self.at.wait(time)
    }
}
