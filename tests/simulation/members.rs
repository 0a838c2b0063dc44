//! What else must hold where members hold data.

use std::collections::BTreeMap;

use rekiln::fleet::generation::Target;
use rekiln::fleet::history::{Event, History, Moved};
use rekiln::fleet::roll::Order;
use rekiln::provider::{Action, Outcome};

use super::harness::End;
use super::run::Ground;

impl Ground<'_> {
    /// Where too many members were lost, a roll says so and leaves what is left of their data alone: all else is a person's.
    pub fn is_lost(&mut self, fleet: usize, target: &Target) -> Result<bool, String> {
        if !self.fleets[fleet].sim.is_lost() {
            return Ok(false);
        }
        self.reach("lost for good", 1);
        let end = self.fleets[fleet].roll(target, Order::default(), None);
        self.sound(fleet)?;
        match end {
            End::Failed(error) if error.exit_code() == 3 && error.chain().contains("nobody leads") => {
                Ok(true)
            }
            other => Err(format!("it is lost, and a roll does not say so: {other:?}\n{}", self.tail(fleet))),
        }
    }

    /// Leadership goes to new members only, and by rekiln's own act once in a rollout, unless it was lost again.
    pub fn led(&mut self, fleet: usize) -> Result<(), String> {
        let name = self.fleets[fleet].name;
        let mut reached = [0; 4];
        let walked = self.fleets[fleet].read(|journal| {
            let (mut history, mut generations) = (History::default(), BTreeMap::new());
            for entry in journal.entries() {
                match &entry.event {
                    Event::Intent { action: Action::HandOver { id, to } } => {
                        let wanted = history.target.as_ref().map(|target| target.generation.id);
                        let heir = generations.get(to).copied().flatten();
                        if heir != wanted {
                            return Err(format!("entry {}: {to} is not new, and is to lead", entry.number));
                        }
                        let again = |moved: &Moved| moved.to == *id;
                        if history.leadership.moved.as_ref().is_some_and(again) {
                            return Err(format!(
                                "entry {}: {id} was to lead, and is to lead no more",
                                entry.number
                            ));
                        }
                    }
                    Event::Outcome { action: Action::HandOver { .. }, result: Ok(outcome) } => {
                        reached[usize::from(*outcome != Outcome::Applied)] += 1;
                    }
                    Event::Outcome {
                        action: Action::Launch { founds: true, .. },
                        result: Ok(Outcome::Applied),
                    } => reached[2] += 1,
                    Event::Led { instance: None } => reached[3] += 1,
                    Event::Seen { changed, .. } => generations.extend(changed.iter().map(|seen| {
                        (seen.id.clone(), seen.generation.as_ref().map(|generation| generation.id))
                    })),
                    _ => {}
                }
                history.add(entry.at, &entry.event);
            }
            Ok(())
        });
        let names = ["handed over", "not handed over", "founded", "nobody led for a while"];
        for (what, times) in names.into_iter().zip(reached) {
            self.reach(what, times);
        }
        walked.map_err(|why| format!("leadership of {name}: {why}\n{}", self.tail(fleet)))
    }
}
