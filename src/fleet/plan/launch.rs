//! Decide: what is launched into the room that is there, and where.

use std::collections::{BTreeMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::members::Known;
use super::room::Batch;
use super::{Hold, Kind, Situation, Standing};
use crate::fleet::census::InstanceId;
use crate::fleet::generation::Target;
use crate::fleet::history::Shortage;
use crate::provider::Action;

/// How long a zone without room is left alone after the first refusal; twice as long after each further one.
const SHORT: SignedDuration = SignedDuration::from_secs(30);
/// And at most so long: a zone that has room again is used within ten minutes.
const LONG: SignedDuration = SignedDuration::from_mins(10);

/// Returns when a zone is asked again.
fn asked_again(shortage: Shortage) -> Timestamp {
    // Five doublings are more than the longest wait.
    let doubled = 1 << shortage.times.saturating_sub(1).min(5);
    shortage.at + (SHORT * doubled).min(LONG)
}

/// Begins a launch again under the name, and in the zone, that it was begun with.
fn launch_again(target: &Target, Standing { id, zone, .. }: &Standing) -> Action {
    Action::Launch {
        id: id.clone(),
        generation: target.generation.clone(),
        zone: zone.clone(),
        founds: false,
    }
}

impl<'a> Batch<'a> {
    /// Returns why a target's image must not be launched; for the rollout's own target also why it has failed.
    pub(super) fn refusal(&self, target: &Target) -> Option<Hold> {
        if let Some(reason) = self.situation.outlook.refusal(target.image) {
            return Some(Hold::Refused { reason: reason.to_owned() });
        }
        self.failure().map(|reason| Hold::Halted { reason })
    }

    /// Returns those whose launch as a target asks was begun, was never finished, and is to be begun again.
    pub(super) fn again(&self, target: &Target) -> Vec<&'a Standing> {
        let Situation { policy, target: wanted, .. } = *self.situation;
        let own = target.generation.id == wanted.generation.id;
        let most = if own {
            let current = self.count(|kind| matches!(kind, Kind::Current | Kind::Starting));
            if current < policy.size { usize::MAX } else { 0 }
        } else {
            // What is proven fills what is missing, and takes no room from the new one beyond that.
            policy.size.saturating_sub(self.living())
        };
        if most == 0 || self.refusal(wanted).or_else(|| self.refusal(target)).is_some() {
            return Vec::new();
        }
        let begun = |(member, known): &(&Standing, &Known<'_>)| {
            member.kind == Kind::Unfinished
                && known.member.is_some_and(|member| member.generation == Some(target.generation.id))
        };
        self.each().filter(begun).map(|(member, _)| member).take(most).collect()
    }

    /// What completed before the rollout's own target, and may be launched to fill a gap.
    pub(super) fn filling(&self) -> Option<&'a Target> {
        let Situation { history, target, .. } = *self.situation;
        let proven = history.proven.as_ref().filter(|proven| proven.generation.id != target.generation.id)?;
        self.refusal(proven).is_none().then_some(proven)
    }

    /// Launches what is missing, ending unhealthy ones when there is no room beside them.
    pub(super) fn launch(&mut self) {
        let Situation { policy, target, .. } = *self.situation;
        let held =
            self.count(|kind| matches!(kind, Kind::Current | Kind::Unknown | Kind::Absent | Kind::Gone));
        let starting = |new: bool| {
            self.members.iter().filter(|member| member.kind == Kind::Starting && member.new == new).count()
        };
        let readmitted = self.readmitted();
        let wanted_again = readmitted.iter().filter(|member| member.new).count();
        let wanted = policy.size.saturating_sub(held + starting(true) + wanted_again);
        let missing = policy.size.saturating_sub(self.living() + readmitted.len());
        if wanted == 0 && missing == 0 {
            return;
        }
        if let Some(hold) = self.refusal(target) {
            self.holds.push(hold);
            return;
        }
        // What is begun has its room already, and comes first.
        let filling = self.filling();
        let mut fills = filling.map(|proven| self.again(proven)).unwrap_or_default();
        fills.truncate(missing);
        let missing = missing - fills.len();
        let fresh = self.fresh(wanted, missing);
        let mut own = self.again(target);
        own.truncate(fresh);
        // While a wave of the new image soaks, a gap is filled with what is proven.
        let filled = filling.map_or(0, |_| missing.saturating_sub(fresh));
        let others = fresh - own.len() + filled;
        let room = policy.ceiling().saturating_sub(self.existing());
        let own = own.into_iter().map(|member| launch_again(target, member));
        let fills =
            filling.into_iter().flat_map(|proven| fills.iter().map(|member| launch_again(proven, member)));
        let begun: Vec<_> = own.chain(fills).collect();
        if room == 0 && begun.is_empty() && others > 0 {
            self.make_room();
            return;
        }
        let targets = std::iter::repeat_n(target, others - filled);
        let fills = filling.into_iter().flat_map(|proven| std::iter::repeat_n(proven, filled));
        self.actions.extend(begun);
        self.place(targets.chain(fills).take(room));
    }

    /// Ends an unhealthy one, if there is any; the next plan launches into its room.
    fn make_room(&mut self) {
        let ends = |action: &Action| matches!(action, Action::Terminate { .. });
        let ended: HashSet<_> = self.actions.iter().filter(|a| ends(a)).map(Action::id).collect();
        let sick = self.members.iter().find(|m| m.kind == Kind::Unhealthy && !ended.contains(&m.id));
        if let Some(id) = sick.map(|member| member.id.clone()) {
            self.terminate(&id, false, "unhealthy, to make room for its replacement");
        }
    }

    /// How many of the new image may be launched now: as far as the wave goes and, beyond what is missing, as far as
    /// the pace allows.
    fn fresh(&mut self, wanted: usize, missing: usize) -> usize {
        let Situation { policy, .. } = *self.situation;
        let limit = self.stage().map_or(policy.size, |stage| stage.limit);
        // What failed still is there until it is ended, and before the last wave it takes its place until then.
        let counts = |kind: &Kind| match kind {
            Kind::Failed(_) | Kind::Outdated => limit < policy.size,
            kind => kind.stays(),
        };
        let new = self.members.iter().filter(|member| member.new && counts(&member.kind)).count();
        let within = wanted.min(limit.saturating_sub(new));
        let cures = within.min(missing);
        let pace = self.pace();
        // Without surge, a voluntary launch follows a drain, which the pace has allowed.
        let voluntary = if policy.surge == 0 { 0 } else { (within - cures).min(pace.may_begin) };
        if within > cures + voluntary {
            self.holds.extend(pace.hold);
        }
        cures + voluntary
    }

    /// Those that drain and are given requests again by this plan: they are missing no more.
    fn readmitted(&self) -> Vec<&Standing> {
        let found = |id: &InstanceId| {
            let at = self.members.binary_search_by(|member| member.id.cmp(id)).ok()?;
            self.members.get(at).filter(|member| member.kind == Kind::Draining)
        };
        let admits = |action: &Action| match action {
            Action::Admit { id } => found(id),
            _ => None,
        };
        self.actions.iter().filter_map(admits).collect()
    }

    /// Launches one instance of each target, each in the zone that has the fewest.
    fn place<'b>(&mut self, targets: impl Iterator<Item = &'b Target>) {
        let Situation { fleet, history, .. } = *self.situation;
        let fresh = (1..).map(|offset| InstanceId::new(fleet, history.launches.saturating_add(offset)));
        let mut zones = Zones::new(self);
        for (wanted, id) in targets.zip(fresh) {
            match zones.next() {
                Ok(zone) => {
                    self.actions.push(Action::Launch {
                        id,
                        generation: wanted.generation.clone(),
                        zone,
                        founds: false,
                    });
                }
                Err(hold) => {
                    self.holds.push(hold);
                    return;
                }
            }
        }
    }
}

/// Where the next instances go.
struct Zones {
    /// How many that stay each zone with room has; empty when there are no zones.
    open: BTreeMap<String, usize>,
    /// The zone that is replaced now, when that is one at a time.
    only: Option<String>,
    /// The zone that is asked again first, when one has no room.
    short: Option<(Timestamp, String)>,
    /// Whether the provider has zones at all.
    any: bool,
}

impl Zones {
    fn new(batch: &Batch<'_>) -> Self {
        let Situation { policy, history, now, .. } = *batch.situation;
        let waits = |zone: &str| history.shortages.get(zone).map(|s| asked_again(*s)).filter(|at| now < *at);
        let mut open: BTreeMap<String, usize> = BTreeMap::new();
        let mut short: Option<(Timestamp, String)> = None;
        let named = policy.zones.iter().map(String::as_str);
        for zone in named.chain(policy.zones.is_empty().then_some("")) {
            match waits(zone) {
                Some(at) => short = short.into_iter().chain([(at, zone.to_owned())]).min(),
                None => drop(open.insert(zone.to_owned(), 0)),
            }
        }
        for member in batch.members {
            let stays = member.kind.stays();
            if let Some(count) = open.get_mut(member.zone.as_deref().unwrap_or_default()).filter(|_| stays) {
                *count += 1;
            }
        }
        let only = batch.active_zone().map(str::to_owned);
        Self { open, only, short, any: !policy.zones.is_empty() }
    }

    /// Returns the zone of the next instance: the one being replaced, else the one with the fewest.
    fn next(&mut self) -> Result<Option<String>, Hold> {
        let only = self.only.as_ref().filter(|zone| self.open.contains_key(*zone)).cloned();
        let fewest = || self.open.iter().min_by_key(|(_, count)| **count).map(|(zone, _)| zone.clone());
        let Some(zone) = only.or_else(fewest) else {
            let (until, zone) = self.short.clone().unwrap_or_default();
            return Err(Hold::Capacity { zone, until });
        };
        if let Some(count) = self.open.get_mut(&zone) {
            *count += 1;
        }
        Ok(self.any.then_some(zone))
    }
}
