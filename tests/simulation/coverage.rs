//! What a run reached: what never happens proves nothing.

use std::collections::BTreeMap;

use rekiln::fleet::history::Event;
use rekiln::fleet::surroundings::Reading;
use rekiln::provider::Outcome;

use super::run::Ground;
use super::schedule::FAULTS;

/// How often what happened: a fault that was never reached proves nothing.
pub type Coverage = BTreeMap<String, u64>;

impl Ground<'_> {
    pub(super) fn cover(&mut self, fleet: usize) {
        let mut reached = self.fleets[fleet].sim.reached();
        for (name, field, _) in FAULTS {
            let times = *field(&mut reached.faults);
            self.reach(name, times);
        }
        self.reach("acts", reached.acts);
        self.reach("looks", reached.looks);
        let mut coverage = std::mem::take(&mut self.coverage);
        self.fleets[fleet].read(|journal| {
            for entry in journal.entries() {
                if let Some(what) = told(&entry.event) {
                    *coverage.entry(what.to_owned()).or_default() += 1;
                }
            }
        });
        self.coverage = coverage;
    }
}

fn told(event: &Event) -> Option<&'static str> {
    Some(match event {
        Event::Opened { emergency: true, .. } => "emergency",
        Event::RolledBack { .. } => "rollback",
        Event::Halted { .. } => "halt",
        Event::Paused { .. } => "pause",
        Event::Resumed => "resume",
        Event::Cancelled { back: true, .. } => "cancel and go back",
        Event::Cancelled { back: false, .. } => "cancel and keep",
        Event::Retargeted { .. } => "retarget",
        Event::WavePassed { .. } => "wave passed",
        Event::WaveLost { .. } => "wave lost",
        Event::Judged { reading: Reading::Pass, .. } => "gate says yes",
        Event::Judged { reading: Reading::Fail(_), .. } => "gate says no",
        Event::Judged { reading: Reading::NotYet(_), .. } => "gate cannot tell",
        Event::Failed { .. } => "failed instance",
        Event::Absent { .. } => "absent instance",
        Event::Returned { .. } => "returned instance",
        Event::Spared { .. } => "end that was not done",
        Event::Rotate { .. } => "rotation",
        Event::SizeDiffers { .. } => "another size seen",
        Event::Sized { .. } => "size of a group",
        Event::Outcome { result: Ok(Outcome::Ended), .. } => "ended by itself",
        Event::Outcome { result: Ok(Outcome::Refused { .. }), .. } => "refused act",
        _ => return None,
    })
}
