//! Carries out a schedule, and says what must not have happened.

use std::collections::{BTreeMap, BTreeSet};

use rekiln::fleet::Fleet;
use rekiln::fleet::census::{Census, Health, State};
use rekiln::fleet::generation::Target;
use rekiln::fleet::history::Event;
use rekiln::fleet::journal::{Entry, Journal};
use rekiln::fleet::policy::Policy;
use rekiln::fleet::replay::replay;
use rekiln::fleet::roll::{Order, Wish};
use rekiln::provider::sim::{Faults, GateFaults, MemberFaults, SimStore};
use rekiln::provider::{Action, Outcome, Provider as _};

use super::coverage::Coverage;
use super::harness::{End, Meanwhile, Simulated, journal, now_or_never};
use super::schedule::{Aim, Episode, GROUPS, Meddling, Schedule};
use jiff::{SignedDuration, Timestamp};

/// After so many looks a process gives up while things go wrong: faults that never stop need never end.
const PATIENCE: u64 = 600;
/// And so many are enough for anything that ends: a wave a minute, a replacement a minute, an hour's rate.
const ENOUGH: u64 = 20_000;
/// So many rolls in a row are enough once nothing goes wrong: a window lets at least one replacement begin, and a fleet has six.
const ROLLS: usize = 30;

/// The journal of every so manieth schedule is replayed: each replay plans all looks again, and so costs as much as the run.
const REPLAYED: u64 = 16;

/// A load balancer has so long to send requests to what it was told to: as long as the engine says it may take.
const REGISTERS: SignedDuration = SignedDuration::from_secs(10);

/// So many entries of a journal show how it came to what they end with.
const LAST: usize = 120;

pub(super) struct Ground<'a> {
    pub(super) fleets: Vec<Simulated<'a>>,
    /// The images that each fleet was rolled to, in order.
    images: Vec<Vec<Target>>,
    bad: Vec<Target>,
    count: usize,
    members: MemberFaults,
    pub(super) coverage: Coverage,
}

/// Runs a schedule.
///
/// # Errors
/// What must not have happened.
pub fn run(schedule: &Schedule) -> Result<Coverage, String> {
    let store = SimStore::new(schedule.seed, schedule.breaker, SignedDuration::from_hours(24));
    let fleets = schedule.fleets.iter().zip(0..).map(|(file, at): (_, u64)| {
        let fleet: Fleet = toml::from_str(&file.text()).expect("a fleet file");
        let new = if file.group { Simulated::group } else { Simulated::new };
        new(fleet, &store, ["web", "db"][usize::try_from(at).unwrap_or(0)], schedule.seed ^ (at << 32))
    });
    let fleets: Vec<_> = fleets.collect();
    let images = vec![Vec::new(); fleets.len()];
    let members = schedule.members;
    let mut ground = Ground { fleets, images, bad: Vec::new(), count: 0, members, coverage: Coverage::new() };
    for episode in &schedule.episodes {
        ground.episode(episode)?;
    }
    let broken = store.failures.borrow().len();
    ground.reach("failed rollout", broken as u64);
    for fleet in 0..schedule.fleets.len() {
        ground.settle(fleet, &store)?;
    }
    for fleet in 0..schedule.fleets.len() {
        ground.cover(fleet);
        ground.no_churn(fleet)?;
        ground.orderly(fleet)?;
        ground.reserved(fleet)?;
        ground.led(fleet)?;
        ground.drained(fleet).map_err(|why| format!("{why}\n{}", ground.tail(fleet)))?;
        if [0, GROUPS - 1].contains(&(schedule.seed % REPLAYED)) {
            ground.replays(fleet)?;
        }
    }
    ground.reach("news", store.news.borrow().len() as u64);
    Ok(ground.coverage)
}

impl Ground<'_> {
    pub(super) fn reach(&mut self, what: &str, times: u64) {
        *self.coverage.entry(what.to_owned()).or_default() += times;
    }

    fn aim(&mut self, fleet: usize, aim: Aim) -> Target {
        let known = &self.images[fleet];
        let before = if aim == Aim::Before { known.len().checked_sub(2) } else { known.len().checked_sub(1) };
        if let (Aim::Same | Aim::Before, Some(at)) = (aim, before) {
            return known[at].clone();
        }
        self.count += 1;
        let target = self.fleets[fleet].target(&format!("image {}", self.count));
        if aim == Aim::Bad {
            for fleet in &self.fleets {
                fleet.sim.spoil(target.image);
            }
            self.bad.push(target.clone());
        }
        self.images[fleet].push(target.clone());
        target
    }

    fn meddle(&mut self, fleet: usize, meddling: Meddling) -> Meanwhile {
        match meddling {
            Meddling::Pause => Meanwhile::Pause,
            Meddling::Resume => Meanwhile::Resume,
            Meddling::Cancel { back } => Meanwhile::Cancel { back },
            Meddling::Retarget(aim) => Meanwhile::Retarget(self.aim(fleet, aim)),
            Meddling::TakeOver(aim) => Meanwhile::TakeOver(self.aim(fleet, aim)),
            Meddling::Kill(nth) => Meanwhile::Kill(nth),
            Meddling::Touch(nth) => Meanwhile::Touch(nth),
            Meddling::ScaleIn(keep) => Meanwhile::ScaleIn(keep),
            Meddling::Resize(size) => Meanwhile::Resize(size),
        }
    }

    fn episode(&mut self, episode: &Episode) -> Result<(), String> {
        let Episode { fleet, faults, gates, bad_hooks, crash, .. } = *episode;
        let target = self.aim(fleet, episode.aim);
        let meanwhile: Vec<_> =
            episode.meanwhile.iter().map(|(look, what)| (*look, self.meddle(fleet, *what))).collect();
        let it = &mut self.fleets[fleet];
        it.sim.set_faults(faults);
        it.sim.set_member_faults(self.members);
        (it.gates, it.bad_hooks, it.patience) = (gates, bad_hooks, PATIENCE);
        *it.meanwhile.borrow_mut() = meanwhile;
        let wish = episode.rotate.then(|| Wish { instances: Vec::new(), reason: "a schedule".to_owned() });
        let order =
            Order { reason: "a schedule".to_owned(), wish, emergency: episode.emergency, commit: None };
        let end = it.roll(&target, order, crash);
        it.meanwhile.borrow_mut().clear();
        self.sound(fleet)?;
        let rivalled = episode.meanwhile.iter().any(|(_, what)| matches!(what, Meddling::TakeOver(_)));
        let quiet = faults == Faults::default()
            && self.members == MemberFaults::default()
            && episode.meanwhile.is_empty()
            && bad_hooks == 0;
        match &end {
            End::Done(_) => {
                self.reach("completed", 1);
                let target = self.fleets[fleet].read(|journal| journal.history().target.clone());
                let target = target.ok_or("completed without a target")?;
                if quiet {
                    let all = self.fleets[fleet].converged(&target);
                    all.map_err(|why| format!("{why}\n{}", self.tail(fleet)))?;
                }
            }
            End::Crashed => self.reach(
                if crash.is_some_and(|it| it.after) { "crash after an act" } else { "crash before an act" },
                1,
            ),
            End::Endless => self.reach("still going", 1),
            End::Failed(error) => {
                let words = error.chain();
                for (what, sign) in [
                    ("held by the breaker", "circuit breaker"),
                    ("held by a window", "window"),
                    ("held by quarantine", "quarantined"),
                    ("halted", "halted"),
                    ("rolled back", "was rolled back"),
                    ("paused before it began", "is paused"),
                    ("cancelled", "was cancelled"),
                ] {
                    self.reach(what, u64::from(words.contains(sign)));
                }
                let expected = match error.exit_code() {
                    3 => true,
                    4 => rivalled,
                    1 => faults.failure > 0 || bad_hooks > 0,
                    _ => false,
                };
                self.reach(&format!("exit code {}", error.exit_code()), 1);
                if !expected {
                    return Err(format!("exit code {} was not to be expected: {words}", error.exit_code()));
                }
            }
        }
        Ok(())
    }

    /// The end of the journal, for whoever looks into it.
    pub(super) fn tail(&self, fleet: usize) -> String {
        let told = |entry: &Entry| match &entry.event {
            Event::Seen { changed, group, .. } => {
                let seen =
                    changed.iter().map(|i| format!("{} {:?} {:?} {}", i.id, i.state, i.health, i.in_service));
                let of = group.as_ref().map_or_else(String::new, |group| format!(" (of {})", group.desired));
                format!("{} saw{of} {}", entry.at, seen.collect::<Vec<_>>().join(", "))
            }
            Event::Intent { action } => format!("{} intends {action}", entry.at),
            Event::Outcome { action, result } => format!("{} {action}: {result:?}", entry.at),
            Event::Opened { target, .. } => format!("{} opened {}", entry.at, target.image.short()),
            other => format!("{} {other:?}", entry.at),
        };
        self.fleets[fleet].read(|journal| {
            let entries = journal.entries();
            let last = entries.iter().skip(entries.len().saturating_sub(LAST));
            last.map(told).collect::<Vec<_>>().join("\n")
        })
    }

    /// Once nothing goes wrong any more and a good image is there, every fleet gets to it.
    fn settle(&mut self, fleet: usize, store: &SimStore) -> Result<(), String> {
        let target = self.aim(fleet, Aim::New);
        store.clear_breaker();
        let it = &mut self.fleets[fleet];
        it.sim.set_faults(Faults::default());
        it.sim.set_member_faults(MemberFaults::default());
        (it.gates, it.bad_hooks, it.patience) = (GateFaults::default(), 0, ENOUGH);
        let resumed = async {
            let mut other = journal(&it.journal, it.name, "resume").await;
            other.command(it.sim.now(), Event::Resumed).await
        };
        now_or_never(resumed).ok_or("a journal in memory waits")?.map_err(|error| error.chain())?;
        if self.is_lost(fleet, &target)? {
            return Ok(());
        }
        self.arrive(fleet, &target, Order::default())?;
        if self.fleets[fleet].sim.sizes().is_some_and(|(_, size)| size == 0) {
            self.reach("a group of none", 1);
            self.fleets[fleet].sim.resize(2).map_err(|error| error.chain())?;
            self.arrive(fleet, &target, Order::default())?;
        }
        self.replace(fleet, &target)
    }

    /// Replaces, of a fleet that is as it should be, what someone logged in to, what someone wants replaced, and what is
    /// too old.
    fn replace(&mut self, fleet: usize, target: &Target) -> Result<(), String> {
        let it = &self.fleets[fleet];
        let policy = Policy::of(&it.fleet).expect("a policy");
        let ids = it.sim.ids();
        let (Some(first), Some(last)) = (ids.first().cloned(), ids.last().cloned()) else {
            return Err("a fleet that is as it should be has no instance".to_owned());
        };
        it.sim.touch(&first, "an interactive session");
        let mut wanted = vec![first, last.clone()];
        if let Some(age) = policy.max_age {
            it.sim.pass(age);
            wanted = ids;
        }
        let wish = Wish { instances: vec![last], reason: "a schedule".to_owned() };
        self.arrive(fleet, target, Order { wish: Some(wish), ..Order::default() })?;
        self.reach("replaced on request", 1);
        let left = self.fleets[fleet].sim.ids().into_iter().find(|id| wanted.contains(id));
        left.map_or(Ok(()), |id| Err(format!("{id} was to be replaced, and was not")))
    }

    /// Rolls, where nothing goes wrong any more, until all is as it should be.
    fn arrive(&mut self, fleet: usize, target: &Target, mut order: Order) -> Result<(), String> {
        for _ in 0..ROLLS {
            let it = &self.fleets[fleet];
            let end = it.roll(target, std::mem::take(&mut order), None);
            self.sound(fleet)?;
            match end {
                End::Done(_) => {
                    let all = self.fleets[fleet].converged(target);
                    return all.map_err(|why| format!("{why}\n{}", self.tail(fleet)));
                }
                End::Failed(error) if error.chain().contains("window") => {
                    let now = it.sim.now();
                    let windows = Policy::of(&it.fleet).expect("a policy").windows;
                    let opens = windows.opens_at(now).ok_or("its window never opens")?;
                    it.sim.pass(opens.duration_since(now));
                }
                // A clock that went back an hour makes what waits for a time wait longer, and says for what.
                End::Failed(error)
                    if error.exit_code() == 3
                        && ["does not serve yet", "nobody leads"]
                            .iter()
                            .any(|why| error.chain().contains(why)) =>
                {
                    it.sim.pass(SignedDuration::from_mins(5));
                }
                other => {
                    let tail = self.tail(fleet);
                    return Err(format!(
                        "nothing goes wrong any more, and it does not end: {other:?}\n{tail}"
                    ));
                }
            }
        }
        let tail = self.tail(fleet);
        Err(format!("nothing goes wrong any more, and it has not ended after {ROLLS} rolls\n{tail}"))
    }

    /// Every decision comes out the same when it is made again from what the journal says was seen.
    fn replays(&mut self, fleet: usize) -> Result<(), String> {
        let name = self.fleets[fleet].name;
        let all = self.fleets[fleet].read(|journal| replay(name, journal.entries()));
        self.reach("replayed decision", all.iter().map(|replayed| replayed.decisions as u64).sum());
        match all.into_iter().find_map(|replayed| replayed.differs) {
            Some(differs) => Err(format!("replay: {differs:?}")),
            None => Ok(()),
        }
    }

    /// The journal tells it in the order in which it may happen: no outcome without its intent before it, and nothing is
    /// begun after a rollout was cancelled or has ended, until the next one is opened.
    fn orderly(&self, fleet: usize) -> Result<(), String> {
        let walk = |journal: &Journal| {
            let (mut intended, mut over) = (None, true);
            for Entry { number, event, .. } in journal.entries() {
                match event {
                    Event::Intent { action } if over => {
                        return Err(format!(
                            "order: entry {number} intends `{action}`, and nothing is rolled"
                        ));
                    }
                    Event::Intent { action } => intended = Some(action),
                    Event::Outcome { action, .. } if intended.take() != Some(action) => {
                        return Err(format!(
                            "order: entry {number} says what came of `{action}` without an intent"
                        ));
                    }
                    Event::Opened { .. } | Event::Retargeted { .. } => over = false,
                    Event::Cancelled { back: false, .. } => over = true,
                    other if other.ends() => over = true,
                    _ => {}
                }
            }
            Ok(())
        };
        self.fleets[fleet].read(walk)
    }

    /// What was drained and is healthy is kept for as long as too few others were seen to serve: it is the quickest cure.
    fn reserved(&self, fleet: usize) -> Result<(), String> {
        let (mut floor, mut size, mut file) = (0, None, None);
        self.seen_along(fleet, |census, Entry { number, event, .. }| {
            match event {
                Event::Opened { fleet: Some(fleet), .. } => {
                    file = Some(fleet.clone());
                    floor = match size {
                        Some(size) => Policy::sized(fleet, size, Vec::new()).expect("a policy").floor(),
                        None => Policy::of(fleet).expect("a policy").floor(),
                    };
                }
                Event::Sized { size: owned, .. } => {
                    size = Some(*owned);
                    if let Some(file) = &file {
                        floor = Policy::sized(file, *owned, Vec::new()).expect("a policy").floor();
                    }
                }
                Event::Intent { action: Action::Terminate { id, healthy: true, .. } } => {
                    let serve = census.instances.iter().filter(|seen| seen.serves()).count();
                    if serve < floor {
                        return Err(format!(
                            "reserve: entry {number} ends {id}, and {serve} were seen to serve, {floor} must"
                        ));
                    }
                }
                _ => {}
            }
            Ok(())
        })
    }

    /// What was just given requests and is healthy may serve though no list says so yet: it is drained before it is ended.
    /// The world sees only those that serve by then, and a provider refuses to end them.
    fn drained(&self, fleet: usize) -> Result<(), String> {
        let mut given = BTreeMap::new();
        self.seen_along(fleet, |census, Entry { number, at, event, .. }| {
            match event {
                Event::Intent { action: Action::Admit { id } } => drop(given.insert(id.clone(), *at)),
                Event::Outcome {
                    action: Action::Drain { id, .. } | Action::Terminate { id, .. },
                    result: Ok(Outcome::Applied | Outcome::AlreadyDone | Outcome::Ended),
                } => drop(given.remove(id)),
                Event::Intent { action: Action::Terminate { id, reason, .. } } => {
                    let seen = census.instances.iter().find(|seen| seen.id == *id);
                    let well = seen.is_some_and(|seen| seen.health == Health::Healthy);
                    let since = given.get(id).map(|since| at.duration_since(*since).abs());
                    if well && since.is_some_and(|since| since < REGISTERS) {
                        return Err(format!(
                            "drain: entry {number} ends {id}, which may serve by now: {reason}"
                        ));
                    }
                }
                _ => {}
            }
            Ok(())
        })
    }

    /// Judges each entry of the journal beside what was seen until then.
    fn seen_along(
        &self,
        fleet: usize,
        mut judge: impl FnMut(&Census, &Entry) -> Result<(), String>,
    ) -> Result<(), String> {
        self.fleets[fleet].read(|journal| {
            let mut census = Census::empty(Timestamp::UNIX_EPOCH);
            journal.entries().iter().try_for_each(|entry| {
                if let Event::Seen { changed, gone, .. } = &entry.event {
                    census.advance(entry.at, changed, gone, None, None);
                }
                judge(&census, entry)
            })
        })
    }

    /// No law is broken.
    pub(super) fn sound(&self, fleet: usize) -> Result<(), String> {
        let broken = self.fleets[fleet].sim.violations();
        if broken.is_empty() {
            return Ok(());
        }
        Err(format!("{}\n{}", broken.join("\n"), self.tail(fleet)))
    }

    /// A bad image is given up, and not tried for ever.
    fn no_churn(&self, fleet: usize) -> Result<(), String> {
        let it = &self.fleets[fleet];
        let count = |bad: &Target, journal: &Journal| {
            let (mut opened, mut launched) = (0, BTreeSet::new());
            // What someone logged in to while it booted is replaced, and says nothing about its image.
            let mut touched = BTreeSet::new();
            for entry in journal.entries() {
                match &entry.event {
                    Event::Opened { target, .. } | Event::Retargeted { target, .. } if target == bad => {
                        opened += 1;
                    }
                    Event::Outcome {
                        action: Action::Launch { id, generation, .. },
                        result: Ok(Outcome::Applied),
                    } if *generation == bad.generation => {
                        launched.insert(id.clone());
                    }
                    Event::Seen { changed, .. } => {
                        let booting = changed.iter().filter(|seen| seen.state == State::Launching);
                        let booting =
                            booting.filter(|seen| seen.generation.as_ref() == Some(&bad.generation));
                        let found = booting.filter(|seen| seen.touched.is_some());
                        touched.extend(found.map(|seen| seen.id.clone()));
                    }
                    _ => {}
                }
            }
            (opened, launched.difference(&touched).count())
        };
        // An autoscaler makes a group larger than its file was.
        let most_wanted = if it.sim.sizes().is_some() { 8 } else { 0 };
        for bad in &self.bad {
            let (opened, launched) = it.read(|journal| count(bad, journal));
            let most =
                opened * (it.fleet.roll.failures as usize + 2 * it.fleet.size.max(most_wanted) as usize + 2);
            if launched > most {
                return Err(format!("{launched} launches of a bad image in {opened} rollouts"));
            }
        }
        Ok(())
    }
}
