//! What tells one simulated world from another: for whoever goes through every world that there can be, and must know
//! which of them were there before.

use std::hash::{Hash, Hasher};

use super::Sim;
use crate::fleet::census::{Health, State};

impl Sim {
    /// Feeds `hasher` with everything that the future depends on: times as distances from now, as far as they make a
    /// difference, so that worlds are alike which differ only in what the clock says. Chance and faults are left out:
    /// whoever compares worlds decides what happens in them.
    pub fn tell_apart(&self, hasher: &mut impl Hasher) {
        let (world, law, policy) = (self.world.borrow(), self.law.borrow(), self.policy.borrow());
        let now = world.now;
        let mut by_age: Vec<_> = world.instances.values().collect();
        for found in &by_age {
            let seen = &found.seen;
            (&seen.id, seen.generation.as_ref().map(|generation| generation.id)).hash(hasher);
            (state(seen.state), health(seen.health), seen.in_service, seen.connections).hash(hasher);
            (&seen.touched, &seen.zone, found.ours).hash(hasher);
            now.duration_since(seen.launched_at).min(policy.deadline).hash(hasher);
            found.ahead(now).hash(hasher);
        }
        // Ages beyond the deadline matter all the same where the oldest goes first.
        by_age.sort_by_key(|found| found.seen.launched_at);
        let ids: Vec<_> = by_age.iter().map(|found| &found.seen.id).collect();
        ids.hash(hasher);
        (&world.bad, &world.launched, &world.ended).hash(hasher);
        for (zone, until) in world.full.iter().filter(|(_, until)| **until > now) {
            (zone, until.duration_since(now)).hash(hasher);
        }
        for (wave, since) in &law.reached {
            (wave, now.duration_since(*since).min(policy.soak)).hash(hasher);
        }
        (&law.soaked, &law.lasting).hash(hasher);
        if policy.rate.is_some() {
            let ago: Vec<_> =
                law.drained.iter().map(|(at, count)| (now.duration_since(*at), count)).collect();
            ago.hash(hasher);
        }
    }
}

const fn state(state: State) -> u8 {
    match state {
        State::Launching => 0,
        State::Running => 1,
        State::Draining => 2,
        State::Dead => 3,
    }
}

const fn health(health: Health) -> u8 {
    match health {
        Health::Healthy => 0,
        Health::Unhealthy => 1,
        Health::Unknown => 2,
    }
}
