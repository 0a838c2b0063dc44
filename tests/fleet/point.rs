//! Where a rolling process is killed: it waits there, having said so, and the test ends it.

use std::cell::Cell;
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use rekiln::error::Result;
use rekiln::fleet::census::{Census, InstanceId};
use rekiln::provider::{Action, Outcome, Provider, ProviderError};
use serde::{Deserialize, Serialize};

/// A moment of a roll: around the first act of a kind, whose intent is in the journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Point {
    /// `launch`, `admit`, `drain` or `terminate`.
    pub act: String,
    pub when: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum When {
    /// The intent is written, nothing is done.
    Before,
    /// It is said before the act and the process goes on: the kill comes somewhere in the act or behind it.
    Amid,
    /// It is done, and its outcome is not written.
    After,
    /// The intent is written, and it is done late: once the mark is gone.
    Late,
}

/// A provider that waits for its end at a point.
pub struct AtPoint<'a, P> {
    provider: &'a P,
    point: Option<Point>,
    mark: PathBuf,
    passed: Cell<bool>,
}

impl<'a, P> AtPoint<'a, P> {
    pub fn new(provider: &'a P, point: Option<Point>, mark: PathBuf) -> Self {
        Self { provider, point, mark, passed: Cell::new(false) }
    }
}

pub fn kind(action: &Action) -> &'static str {
    match action {
        Action::Launch { .. } => "launch",
        Action::Admit { .. } => "admit",
        Action::Drain { .. } => "drain",
        Action::Terminate { .. } => "terminate",
        Action::HandOver { .. } => "hand over",
        Action::Deregister { .. } => "deregister",
    }
}

impl<P: Provider> Provider for AtPoint<'_, P> {
    fn prepare(&self) -> impl Future<Output = Result<()>> {
        self.provider.prepare()
    }

    fn census(&self) -> impl Future<Output = Result<Census, ProviderError>> {
        self.provider.census()
    }

    async fn apply(&self, action: &Action) -> Result<Outcome, ProviderError> {
        let here = self.point.as_ref().filter(|point| point.act == kind(action) && !self.passed.get());
        let Some(when) = here.map(|point| point.when) else { return self.provider.apply(action).await };
        self.passed.set(true);
        if when == When::After {
            let _ = self.provider.apply(action).await;
        }
        fs::write(&self.mark, "").expect("a mark");
        while when == When::Late && self.mark.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if matches!(when, When::Amid | When::Late) {
            return self.provider.apply(action).await;
        }
        std::future::pending().await
    }

    async fn console_tail(&self, id: &InstanceId) -> Vec<String> {
        self.provider.console_tail(id).await
    }

    fn now(&self) -> Timestamp {
        self.provider.now()
    }

    fn wait(&self, time: Duration) -> impl Future<Output = ()> {
        self.provider.wait(time)
    }
}
