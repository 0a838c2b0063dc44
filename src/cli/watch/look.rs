//! What the service sees of fleets and images.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::backup;
use crate::backup::memory::lacks;
use crate::catalog::Catalog;
use crate::cli::Context;
use crate::cli::fleet::{Look, Site, settled};
use crate::cli::images::verdict;
use crate::cli::status::{state, word};
use crate::error::{Error, Result};
use crate::fleet::backup::Settings;
use crate::fleet::breaker::{Failures, open_by};
use crate::fleet::census::{Census, Instance, InstanceId, State};
use crate::fleet::generation::Target;
use crate::fleet::glance::{Glance, States};
use crate::fleet::history::{Event, History, Kill};
use crate::fleet::journal::Journal;
use crate::fleet::plan::{Kind, Plan, Standing, Urgency, expected, waiting};
use crate::fleet::story::stories;
use crate::pipeline::tree::Tree;
use crate::provider::Provider as _;
use crate::store::Store;
use crate::watch::duty;
use crate::watch::hands::{Ask, Round, Sighting};
use crate::watch::rule::Rule;
use crate::watch::view::{self, Image, Line};

/// How many entries of each fleet's journal are shown.
const LINES: usize = 20;

/// How many images are shown.
const IMAGES: usize = 30;

/// How often the catalog is read: a page does not need to know sooner, and it may have hundreds of records.
const CATALOG: Duration = Duration::from_mins(1);

/// A commit, checked out beside everything, with what its fleets are reached through.
pub(super) struct Stand {
    tree: Tree,
    context: Context,
}

impl Stand {
    pub(super) fn dir(&self) -> &Path {
        self.tree.dir()
    }

    pub(super) const fn tree(&self) -> &Tree {
        &self.tree
    }

    pub(super) const fn context(&self) -> &Context {
        &self.context
    }
}

/// A fleet's journal, and what it says to people: told anew only when it says more, since the story of a long one takes its
/// time, and looks come every few seconds.
struct Followed {
    journal: Journal,
    /// How many entries were told.
    told: usize,
    lines: Vec<Line>,
    /// That of its backups, where it has any; nothing while it cannot be read, and why.
    backups: Option<Result<backup::Journal, String>>,
}

impl Followed {
    /// Takes up what was written since.
    async fn follow(&mut self, fleet: &str) -> Result<()> {
        self.journal.follow().await?;
        self.journal.hear().await?;
        let count = self.journal.entries().len();
        if count != self.told {
            (self.told, self.lines) = (count, lines(fleet, &self.journal));
        }
        Ok(())
    }
}

/// What looks, and what it keeps between two looks.
pub(super) struct Lookout<'a> {
    context: &'a Context,
    store: Store,
    stands: BTreeMap<String, Arc<Stand>>,
    journals: BTreeMap<String, Followed>,
    /// The commit that each fleet was last seen in.
    carried: BTreeMap<String, String>,
    images: Option<(Instant, Vec<Image>)>,
}

impl<'a> Lookout<'a> {
    pub(super) fn new(context: &'a Context) -> Result<Self> {
        Ok(Self {
            context,
            store: context.store()?,
            stands: BTreeMap::new(),
            journals: BTreeMap::new(),
            carried: BTreeMap::new(),
            images: None,
        })
    }

    /// Returns a commit's checkout, making it where it is not there.
    pub(super) fn stand(&mut self, commit: &str) -> Result<Arc<Stand>> {
        if let Some(stand) = self.stands.get(commit) {
            return Ok(Arc::clone(stand));
        }
        let tree = Tree::read(&self.context.repo, commit, &self.store)?;
        let context = self.context.of(&tree);
        let stand = Arc::new(Stand { tree, context });
        self.stands.insert(commit.to_owned(), Arc::clone(&stand));
        Ok(stand)
    }

    /// Returns the checkout in which a fleet was last seen.
    pub(super) fn of(&self, fleet: &str) -> Option<Arc<Stand>> {
        self.stands.get(self.carried.get(fleet)?).cloned()
    }

    pub(super) fn look(&mut self, ask: &Ask) -> Result<Round> {
        let mut round = Round { images: self.images()?, ..Round::default() };
        let Some(standing) = &ask.standing else { return Ok(round) };
        let stand = self.stand(standing)?;
        let names: Vec<String> = stand.tree.repository.fleet_names().map(str::to_owned).collect();
        let mut carried = BTreeMap::new();
        for name in names {
            let (commit, sighting) = match self.fleet(&name, standing) {
                Ok(found) => found,
                Err(error) => (standing.clone(), unseen(&name, &error)),
            };
            carried.insert(name.clone(), commit);
            round.fleets.insert(name, sighting);
        }
        self.carried = carried;
        round.waiting = ask.waiting.as_ref().map(|commit| self.would_move(commit));
        let used = |commit: &String| {
            *commit == *standing
                || ask.waiting.as_ref() == Some(commit)
                || self.carried.values().any(|carried| carried == commit)
        };
        let unused: Vec<String> = self.stands.keys().filter(|commit| !used(commit)).cloned().collect();
        for commit in unused {
            self.stands.remove(&commit);
        }
        name_users(&mut round);
        Ok(round)
    }

    /// Looks at a fleet, in the commit that it carries. Returns that.
    fn fleet(&mut self, name: &str, standing: &str) -> Result<(String, Sighting)> {
        let mut followed = if let Some(followed) = self.journals.remove(name) {
            followed
        } else {
            let stand = self.stand(standing)?;
            let site = Site::open(&stand.context, name)?;
            let journal = stand.context.block_on(site.journal("watch"))?;
            Followed { journal, told: 0, lines: Vec::new(), backups: None }
        };
        self.context.block_on(followed.follow(name))?;
        self.follow_backups(name, standing, &mut followed)?;
        let found = self.with_journal(name, standing, &followed);
        self.journals.insert(name.to_owned(), followed);
        found
    }

    /// Takes up what was written of a fleet's backups since. That they cannot be read hides nothing else of it.
    fn follow_backups(&mut self, name: &str, standing: &str, followed: &mut Followed) -> Result<()> {
        let stand = self.stand(standing)?;
        if stand.tree.repository.fleet(name).is_ok_and(|fleet| fleet.backup.is_none()) {
            followed.backups = None;
            return Ok(());
        }
        let read = || -> Result<backup::Journal> {
            let site = Site::open(&stand.context, name)?;
            let place = crate::cli::backup::place(&stand.context, &site)?;
            stand.context.block_on(place.journal("watch"))
        };
        let again = |mut journal: backup::Journal| -> Result<backup::Journal> {
            self.context.block_on(async {
                journal.follow().await?;
                journal.hear().await?;
                Ok(journal)
            })
        };
        let found = match followed.backups.take() {
            Some(Ok(journal)) => again(journal),
            _ => read(),
        };
        followed.backups = Some(found.map_err(|error| error.chain()));
        Ok(())
    }

    fn with_journal(
        &mut self,
        name: &str,
        standing: &str,
        followed: &Followed,
    ) -> Result<(String, Sighting)> {
        let Followed { journal, lines, backups, .. } = followed;
        let carried = journal.history().commit.clone().filter(|carried| carried != standing);
        let has = |stand: &Arc<Stand>| stand.tree.repository.has_fleet(name).is_ok();
        // One that this clone cannot read is taken for the one that stands.
        let own = carried.and_then(|commit| Some((self.stand(&commit).ok().filter(has)?, commit)));
        let (stand, commit) = match own {
            Some(found) => found,
            None => (self.stand(standing)?, standing.to_owned()),
        };
        let site = Site::open(&stand.context, name)?;
        let sighting = Seeing {
            context: &stand.context,
            stand: &stand,
            site: &site,
            journal,
            commit: &commit,
            lines,
            backups,
        };
        Ok((commit.clone(), sighting.see()?))
    }

    /// Tells whether rolls to what a commit asks for would do anything now. What cannot be told may.
    fn would_move(&mut self, commit: &str) -> bool {
        let Ok(stand) = self.stand(commit) else { return true };
        let names: Vec<String> = stand.tree.repository.fleet_names().map(str::to_owned).collect();
        let moves = |name: &String| -> Result<bool> {
            let site = Site::open(&stand.context, name)?;
            let (target, _) = site.target()?;
            let look = stand.context.block_on(site.look(&stand.context, &target))?;
            let (plan, _) = planned(&site, look, &target);
            Ok(plan.moves() || !plan.done() && !plan.blocked())
        };
        names.iter().any(|name| moves(name).unwrap_or(true))
    }

    fn images(&mut self) -> Result<Vec<Image>> {
        if let Some((_, images)) = self.images.as_ref().filter(|(at, _)| at.elapsed() < CATALOG) {
            return Ok(images.clone());
        }
        let records = Catalog::new(self.store.clone()).list()?.records;
        let images = records.iter().take(IMAGES).map(|record| Image {
            name: record.name.clone(),
            id: record.id.to_string(),
            baked: record.baked,
            verdict: verdict(record).to_owned(),
            size: record.disk.size,
            fleets: Vec::new(),
        });
        let images: Vec<Image> = images.collect();
        self.images = Some((Instant::now(), images.clone()));
        Ok(images)
    }
}

/// Says which fleets have instances of an image.
fn name_users(round: &mut Round) {
    for image in &mut round.images {
        let runs = |(name, of): (&String, &Sighting)| {
            let mut living = of.census.iter().flat_map(|census| &census.instances);
            living.any(|seen| seen.image.is_some_and(|id| id.to_string() == image.id)).then(|| name.clone())
        };
        image.fleets = round.fleets.iter().filter_map(runs).collect();
    }
}

/// Plans as a roll would that began now.
fn planned(site: &Site, mut look: Look, target: &Target) -> (Plan, Look) {
    look.history = look.history.opened(target);
    let plan = settled(&look.situation(site, target));
    (plan, look)
}

fn unseen(name: &str, error: &Error) -> Sighting {
    let view = view::Fleet {
        name: name.to_owned(),
        image: String::new(),
        place: String::new(),
        size: 0,
        seen: None,
        trouble: Some(error.line()),
        instances: Vec::new(),
        rollout: None,
        remarks: Vec::new(),
        paused: None,
        glance: None,
        backup: None,
    };
    Sighting { seen: None, alerts: Vec::new(), census: None, view, lines: Vec::new() }
}

/// One look at one fleet.
struct Seeing<'a> {
    context: &'a Context,
    stand: &'a Stand,
    site: &'a Site,
    journal: &'a Journal,
    commit: &'a str,
    lines: &'a [Line],
    backups: &'a Option<Result<backup::Journal, String>>,
}

impl Seeing<'_> {
    fn see(&self) -> Result<Sighting> {
        let Self { context, site, journal, .. } = *self;
        let history = journal.history();
        let Some(target) = &history.target else {
            let census = context.block_on(async { site.provider.census().await.map_err(Error::from) })?;
            return self.put_together(&census, None, site.policy.size);
        };
        let look = context.block_on(site.look_with(context, target, journal))?;
        let found = planned(site, look, target);
        self.put_together(&found.1.census, Some(&found), found.1.policy.size)
    }

    fn put_together(&self, census: &Census, found: Option<&(Plan, Look)>, size: usize) -> Result<Sighting> {
        let Self { stand, site, journal, commit, .. } = *self;
        let history = journal.history();
        let rules: Vec<_> = site
            .fleet
            .alerts
            .iter()
            .map(|alert| {
                let playbook = alert.playbook.as_deref();
                let playbook = playbook.map(|name| stand.tree.repository.playbook(name)).transpose()?;
                Rule::of(alert, playbook).map_err(Error::invalid)
            })
            .collect::<Result<_>>()?;
        let rolled = journal.roller(Timestamp::now()).is_some();
        let last = journal.entries().iter().rev().find(|entry| !entry.event.is_command());
        let down = last.is_some_and(|entry| matches!(entry.event, Event::Down | Event::Ending));
        let living = census.instances.iter().filter(|seen| seen.state != State::Dead);
        let file = &site.fleet;
        let standing =
            file.chaos.as_ref().map(|chaos| chaos.standing(&file.roll.except)).transpose()?.flatten();
        let seen = duty::Fleet {
            at: census.at,
            commit: commit.to_owned(),
            rules,
            living: living.map(|seen| seen.id.clone()).collect(),
            file: stand.tree.repository.file_of_fleet(&site.name),
            can_wait: found.is_some_and(|(plan, look)| can_wait(plan, look.policy.size)),
            wants: found.and_then(|(plan, _)| wants(plan, history)).or_else(|| forgotten(history, census)),
            rolled,
            paused: history.paused.clone(),
            backups: self.backups()?,
            chaos: standing.map(|standing| (standing, history.chaos)),
            killed: uncured(history, census).map(|kill| kill.instance.clone()),
            over: down || history.target.is_none() || history.halted.is_some() || history.cancelled.is_some(),
        };
        Ok(Sighting {
            seen: Some(seen),
            alerts: site.fleet.alerts.clone(),
            view: self.view(census, found, size)?,
            census: Some(census.clone()),
            lines: self.lines.to_vec(),
        })
    }

    fn view(&self, census: &Census, found: Option<&(Plan, Look)>, size: usize) -> Result<view::Fleet> {
        let Self { context, site, journal, .. } = *self;
        let history = journal.history();
        let (rollout, reason) = state(history);
        let mut remarks: Vec<String> = census.trouble.iter().cloned().collect();
        if let Some(reason) = reason {
            remarks.push(format!("{}: {reason}", rollout.unwrap_or_default()));
        }
        remarks.extend(uncured(history, census).map(|kill| kill.told(census.at)));
        let failures = context.block_on(async { Failures::new(&site.places()).list().await })?;
        if let Some(why) = open_by(&site.fleet.roll.breaker, &failures)? {
            remarks.push(format!("the circuit breaker is open: {why}"));
        }
        let mut glance = None;
        if let (Some((plan, look)), Some(target), true) = (found, &history.target, history.unfinished()) {
            remarks.extend(waiting(&plan.holds, census.at).iter().map(|text| format!("waiting: {text}")));
            let situation = look.situation(site, target);
            let opened = journal.entries().iter().rev();
            let mut opened = opened.filter(|entry| matches!(entry.event, Event::Opened { .. }));
            let begun = opened.next().map_or(census.at, |entry| entry.at);
            let end = expected(&situation, &look.experience);
            glance = Some(Glance::of(&situation, plan, end, begun));
        }
        Ok(view::Fleet {
            name: site.name.clone(),
            image: site.fleet.image.clone(),
            place: site.provider.told(&site.fleet),
            size,
            seen: Some(census.at),
            trouble: None,
            instances: instances(census, found, history.target.as_ref()),
            rollout: rollout.map(str::to_owned),
            remarks,
            paused: history.paused.clone(),
            glance,
            backup: self.lacks(census.at)?,
        })
    }

    /// Returns how the fleet's backups stand.
    fn backups(&self) -> Result<Option<duty::Backups>> {
        let (Some(settings), Some(Ok(journal))) = (Settings::of(&self.site.fleet)?, self.backups) else {
            return Ok(None);
        };
        let last = journal.history().proved().map(|(_, backup, _)| backup.begun);
        let worked = journal.roller(Timestamp::now()).is_some();
        Ok(Some(duty::Backups { every: settings.every, windows: settings.windows, last, worked }))
    }

    /// Says what they lack.
    fn lacks(&self, now: Timestamp) -> Result<Option<String>> {
        let Some(settings) = Settings::of(&self.site.fleet)? else { return Ok(None) };
        Ok(match self.backups {
            Some(Ok(journal)) => lacks(journal.history(), settings.every, now),
            Some(Err(why)) => Some(format!("its backups cannot be looked at: {why}")),
            None => None,
        })
    }
}

/// Whom chaos killed, where that is not replaced yet.
fn uncured<'h>(history: &'h History, census: &Census) -> Option<&'h Kill> {
    let serves = |id: &InstanceId| census.instances.iter().any(|seen| seen.id == *id && seen.serves());
    history.uncured(census.at, serves)
}

/// Says whom chaos killed where the provider does not list it any more, and may have replaced it: only a roll makes sure of that,
/// and writes it down.
fn forgotten(history: &History, census: &Census) -> Option<String> {
    let kill = uncured(history, census)?;
    let listed = census.instances.iter().any(|seen| seen.id == kill.instance);
    (!listed).then(|| format!("{}, which chaos killed, is not seen any more", kill.instance))
}

/// Tells whether nobody is sick, missing or touched: what else is to be replaced can wait for its turn.
fn can_wait(plan: &Plan, size: usize) -> bool {
    let well = |member: &Standing| match &member.kind {
        Kind::Current => true,
        Kind::Stale(why) => why.urgency >= Urgency::Wanted,
        _ => false,
    };
    plan.members.len() >= size && plan.members.iter().all(well)
}

/// Says what a roll that keeps a fleet would do something about; nothing when it would do nothing now.
fn wants(plan: &Plan, history: &History) -> Option<String> {
    let goes_on = history.unfinished() && !plan.done() && !plan.blocked();
    if !plan.moves() && !goes_on {
        return None;
    }
    let words = States::of(plan).words().join(", ");
    let first = || plan.actions.first().map(ToString::to_string);
    Some(if goes_on {
        "its rollout is unfinished".to_owned()
    } else if words.is_empty() {
        first().unwrap_or_else(|| "it is not as it should be".to_owned())
    } else {
        words
    })
}

fn instances(census: &Census, found: Option<&(Plan, Look)>, target: Option<&Target>) -> Vec<view::Instance> {
    let members = found.map(|(plan, _)| plan.members.as_slice()).unwrap_or_default();
    let standing: BTreeMap<_, _> = members.iter().map(|member| (&member.id, member)).collect();
    let instance = |seen: &Instance| {
        let member = standing.get(&seen.id);
        let is = member.zip(target).map(|(member, target)| member.told(Some(seen), target));
        view::Instance {
            id: seen.id.to_string(),
            known_as: seen.known_as.clone(),
            image: seen.image.map(|image| image.short()),
            state: word(seen.state),
            health: word(seen.health),
            in_service: seen.in_service,
            address: seen.address.map(|address| address.to_string()),
            zone: seen.zone.clone(),
            launched: seen.launched_at,
            is: is.unwrap_or_else(|| "not rolled yet".to_owned()),
            good: member.is_some_and(|member| member.kind == Kind::Current),
        }
    };
    census.instances.iter().map(instance).collect()
}

/// The last entries of a fleet's journal, the newest first.
fn lines(fleet: &str, journal: &Journal) -> Vec<Line> {
    let told = stories(journal.entries());
    let lines = told.iter().flat_map(|story| &story.lines).rev().take(LINES);
    lines
        .map(|line| Line { at: line.at, of: fleet.to_owned(), entry: line.entry, text: line.text.clone() })
        .collect()
}
