//! Tell: what a reader sees of a roll: how it is at each look; one line an instance for its start, and one for its
//! drain.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use jiff::SignedDuration;

use super::{Look, Roll, Running};
use crate::fleet::census::InstanceId;
use crate::fleet::experience::Experience;
use crate::fleet::glance::Glance;
use crate::fleet::plan::{Kind, Plan, expected};
use crate::fleet::surroundings::Surroundings;
use crate::progress::{self, Progress};
use crate::provider::{Action, Provider};

/// How long an expected end is shown before it is found anew: finding it takes longer than drawing it.
const AFRESH: SignedDuration = SignedDuration::from_secs(5);

impl<P: Provider, S: Surroundings> Roll<'_, P, S> {
    /// Tells who watches how it is.
    pub(super) fn show(&self, running: &mut Running, look: &Look) {
        if !self.progress.watches() {
            return;
        }
        let now = look.census.at;
        let fresh = running.expected.take().filter(|(at, _)| now.duration_since(*at).abs() < AFRESH);
        let situation = self.situation(running, &look.census, &look.outlook);
        let (at, found) =
            fresh.unwrap_or_else(|| (now, expected(&situation, &Experience::of(self.journal.entries()))));
        let glance = Glance::of(&situation, &look.plan, found.clone(), running.begun);
        running.expected = Some((at, found));
        self.progress.tell(progress::Event::Rolling(Box::new(glance)));
    }
}

/// The steps a reader sees: one line an instance for its start, and one for its drain.
#[derive(Clone, Default)]
pub(super) struct Steps(BTreeMap<InstanceId, (&'static str, Instant)>);

impl Steps {
    /// Tells what began and ended since the plan before.
    pub(super) fn follow(&mut self, progress: &dyn Progress, plan: &Plan) {
        let mut gone: BTreeSet<_> = self.0.keys().cloned().collect();
        for member in &plan.members {
            gone.remove(&member.id);
            match member.kind {
                Kind::Starting => self.turn(progress, &member.id, Some("starting")),
                Kind::Draining => self.turn(progress, &member.id, Some("draining")),
                // A look that failed ends no step.
                Kind::Unknown | Kind::Absent | Kind::Unfinished => {}
                _ => self.turn(progress, &member.id, None),
            }
        }
        for id in gone {
            self.turn(progress, &id, None);
        }
    }

    fn turn(&mut self, progress: &dyn Progress, id: &InstanceId, step: Option<&'static str>) {
        let now = self.0.get(id).map(|(step, _)| *step);
        if now == step {
            return;
        }
        let scope = id.0.clone();
        if let Some((step, start)) = self.0.remove(id) {
            let seconds = start.elapsed().as_secs_f64();
            progress.tell(progress::Event::Finished { scope: scope.clone(), step: step.to_owned(), seconds });
        }
        if let Some(step) = step {
            progress.tell(progress::Event::Started { scope, step: step.to_owned() });
            self.0.insert(id.clone(), (step, Instant::now()));
        }
    }
}

/// What a reader is told of an act that was done; the steps tell of the others.
pub(super) fn told(action: &Action) -> Option<String> {
    match action {
        Action::Launch { generation, .. } => Some(
            generation
                .image()
                .map_or_else(|| "launched".to_owned(), |image| format!("launched from {}", image.short())),
        ),
        Action::Terminate { reason, .. } => Some(format!("ended ({reason})")),
        Action::Admit { .. } => Some("serves".to_owned()),
        Action::HandOver { to, .. } => Some(format!("handed leadership over to {to}")),
        Action::Deregister { .. } => Some("what it left with the others was removed".to_owned()),
        Action::Drain { .. } => None,
    }
}
