//! Decide: how long a fleet took to get over a kill, and what its clients saw meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::Victim;
use crate::fleet::census::{Census, Instance, InstanceId, State};
use crate::fleet::history::Event;
use crate::provider::{Action, Outcome};

/// A fleet that gets over a kill, as its own machinery and its journal say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cure {
    /// Who was killed.
    victim: InstanceId,
    /// Who was there before.
    before: BTreeSet<InstanceId>,
    /// How many are to serve.
    size: usize,
    /// When it was killed.
    pub killed: Timestamp,
    /// When something first said that it is not well.
    pub detected: Option<Timestamp>,
    /// Whose launch replaces it.
    pub replacement: Option<InstanceId>,
    /// When that was launched.
    pub launched: Option<Timestamp>,
    /// When that served.
    pub serving: Option<Timestamp>,
    /// When as many served again as should.
    pub whole: Option<Timestamp>,
}

impl Cure {
    /// Begins at the kill of `victim`; `census` is the last look before it, and `size` how many are to serve.
    #[must_use]
    pub fn of(victim: &Victim, census: &Census, size: usize, killed: Timestamp) -> Self {
        Self {
            victim: victim.instance.clone(),
            before: census.instances.iter().map(|seen| seen.id.clone()).collect(),
            size,
            killed,
            detected: None,
            replacement: None,
            launched: None,
            serving: None,
            whole: None,
        }
    }

    /// Takes up a look.
    pub fn saw(&mut self, census: &Census) {
        let at = census.at;
        let victim = census.instances.iter().find(|seen| seen.id == self.victim);
        // A list that has it well may be older than its kill.
        if census.trouble.is_some() || victim.is_some_and(Instance::serves) {
            return;
        }
        self.detect(at);
        for seen in census.instances.iter().filter(|seen| !seen.id.is_coming() && seen.state != State::Dead) {
            // Those that were there before serve all the time.
            if !self.before.contains(&seen.id) {
                self.launch(&seen.id, seen.launched_at.clamp(self.killed, at.max(self.killed)));
                if seen.serves() {
                    self.serve(&seen.id, at);
                }
            }
        }
        if census.instances.iter().filter(|seen| seen.serves()).count() >= self.size {
            self.whole.get_or_insert(at.max(self.killed));
        }
    }

    /// Takes up what the fleet's journal says after the kill.
    pub fn read(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::Seen { changed, gone, .. } => {
                let ill = changed.iter().any(|seen| seen.id == self.victim && !seen.serves());
                if ill || gone.contains(&self.victim) {
                    self.detect(at);
                }
            }
            Event::Absent { instance } if *instance == self.victim => self.detect(at),
            Event::Intent { action: Action::Terminate { id, .. } } if *id == self.victim => self.detect(at),
            Event::Outcome {
                action: Action::Launch { id, .. },
                result: Ok(Outcome::Applied | Outcome::AlreadyDone),
            } => {
                self.launch(id, at);
            }
            Event::Serving { instance } if !self.before.contains(instance) => self.serve(instance, at),
            Event::Completed => self.whole = Some(self.whole.map_or(at, |whole| whole.min(at))),
            _ => {}
        }
    }

    /// Tells whether as many serve again as should.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.whole.is_some()
    }

    fn detect(&mut self, at: Timestamp) {
        let at = at.max(self.killed);
        self.detected = Some(self.detected.map_or(at, |before| before.min(at)));
    }

    fn launch(&mut self, id: &InstanceId, at: Timestamp) {
        if self.launched.is_none_or(|before| at < before) {
            (self.replacement, self.launched) = (Some(id.clone()), Some(at));
        }
    }

    fn serve(&mut self, id: &InstanceId, at: Timestamp) {
        self.launch(id, at);
        self.serving = Some(self.serving.map_or(at, |before| before.min(at)));
    }

    /// Says how it went, in seconds since the kill.
    #[must_use]
    pub fn times(&self) -> Times {
        let since =
            |at: Option<Timestamp>| at.map(|at| at.duration_since(self.killed).as_secs_f64().max(0.0));
        Times {
            detected_s: since(self.detected),
            launched_s: since(self.launched),
            serving_s: since(self.serving),
            whole_s: since(self.whole),
        }
    }
}

/// How long something took after a kill, in seconds; `None` for what did not come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Times {
    /// Until it was noticed.
    pub detected_s: Option<f64>,
    /// Until its replacement was launched.
    pub launched_s: Option<f64>,
    /// Until that served.
    pub serving_s: Option<f64>,
    /// Until as many served again as should.
    pub whole_s: Option<f64>,
}

/// One request of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// When it was sent, since the first.
    pub at: Duration,
    /// Whether a good answer came in time.
    pub good: bool,
}

/// What clients saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Clients {
    /// How many requests were sent.
    pub asked: u64,
    /// How many of them had no good answer.
    pub failed: u64,
    /// The longest time without any good answer, in milliseconds: from the first of a row of failures until the next that was
    /// answered well was sent.
    pub longest_ms: u64,
}

impl Clients {
    /// Sums up requests; they need not be in order, since answers are not. `every` is how far apart they were sent: a row that
    /// has no end yet lasts as long as until the next one would have been.
    #[must_use]
    pub fn of(mut all: Vec<Asked>, every: Duration) -> Self {
        all.sort_by_key(|asked| asked.at);
        let mut clients = Self { asked: all.len() as u64, ..Self::default() };
        let mut since = None;
        for asked in &all {
            let end = match (asked.good, since) {
                (true, None) => continue,
                (true, Some(_)) => asked.at,
                (false, _) => {
                    clients.failed += 1;
                    asked.at + every
                }
            };
            let begun = *since.get_or_insert(asked.at);
            let lasted = u64::try_from(end.saturating_sub(begun).as_millis()).unwrap_or(u64::MAX);
            clients.longest_ms = clients.longest_ms.max(lasted);
            if asked.good {
                since = None;
            }
        }
        clients
    }
}

/// Returns the middle one; of an even number the lower one of the two, which was really taken.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::fleet::census::Health;

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
    }

    fn instance(number: u64, serves: bool, launched: i64) -> Instance {
        Instance {
            id: InstanceId::new("web", number),
            generation: None,
            image: None,
            state: if serves { State::Running } else { State::Launching },
            health: if serves { Health::Healthy } else { Health::Unhealthy },
            in_service: serves,
            launched_at: at(launched),
            touched: None,
            connections: 0,
            address: None,
            zone: None,
            known_as: None,
            membership: None,
        }
    }

    fn look(second: i64, instances: Vec<Instance>) -> Census {
        Census { instances, ..Census::empty(at(second)) }
    }

    fn cure() -> Cure {
        let before = look(99, (1..=3).map(|number| instance(number, true, 0)).collect());
        let victim = Victim { instance: InstanceId::new("web", 2), zone: None, others: 2 };
        Cure::of(&victim, &before, 3, at(100))
    }

    #[test]
    fn looks_alone_tell_how_it_went() {
        let mut cure = cure();
        let two = || vec![instance(1, true, 0), instance(3, true, 0)];
        // Older than the kill, and one that could not see.
        cure.saw(&look(101, (1..=3).map(|number| instance(number, true, 0)).collect()));
        cure.saw(&Census { trouble: Some("no answer".to_owned()), ..look(102, two()) });
        assert_eq!(cure.times(), Times::default());
        cure.saw(&look(103, two()));
        assert_eq!((cure.detected, cure.whole), (Some(at(103)), None));
        cure.saw(&look(106, [two(), vec![instance(4, false, 104)]].concat()));
        cure.saw(&look(120, [two(), vec![instance(4, true, 104)]].concat()));
        cure.saw(&look(130, [two(), vec![instance(4, true, 104)]].concat()));
        let times = Times {
            detected_s: Some(3.0),
            launched_s: Some(4.0),
            serving_s: Some(20.0),
            whole_s: Some(20.0),
        };
        assert_eq!(cure.times(), times);
        assert_eq!(cure.replacement, Some(InstanceId::new("web", 4)));
    }

    #[test]
    fn what_the_journal_knew_before_the_next_look_counts() {
        let mut cure = cure();
        let (id, victim) = (InstanceId::new("web", 4), InstanceId::new("web", 2));
        let ends = Action::Terminate { id: victim, healthy: false, reason: String::new() };
        cure.read(at(102), &Event::Intent { action: ends });
        cure.saw(&look(110, vec![instance(1, true, 0), instance(3, true, 0), instance(4, true, 104)]));
        cure.read(at(109), &Event::Serving { instance: id });
        cure.read(at(111), &Event::Completed);
        let times = cure.times();
        assert_eq!((times.detected_s, times.serving_s, times.whole_s), (Some(2.0), Some(9.0), Some(10.0)));
    }

    #[test]
    fn what_clients_saw() {
        let asked = |text: &str| {
            let one =
                |(at, good): (u64, char)| Asked { at: Duration::from_millis(100 * at), good: good == '.' };
            (0..).zip(text.chars()).map(one).collect::<Vec<_>>()
        };
        for (text, failed, longest) in [
            ("", 0, 0),
            ("....", 0, 0),
            (".x..", 1, 100),
            (".xx..x", 3, 200),
            ("x", 1, 100),
            ("xxx", 3, 300),
            (".x.xxx.xx", 6, 300),
        ] {
            let clients = Clients::of(asked(text), Duration::from_millis(100));
            assert_eq!(clients, Clients { asked: text.len() as u64, failed, longest_ms: longest }, "{text}");
        }
        // Answers come in another order than questions.
        let mut late = asked(".xx.");
        late.reverse();
        assert_eq!(Clients::of(late, Duration::from_millis(100)).longest_ms, 200);
    }

    #[test]
    fn medians() {
        for (values, expected) in
            [(vec![], None), (vec![3.0], Some(3.0)), (vec![9.0, 1.0, 2.0, 3.0], Some(2.0))]
        {
            assert_eq!(median(values), expected);
        }
    }
}
