//! What members that hold data do in a forecast: they copy at once, and hand over when they are asked.

use crate::fleet::census::{Census, Health, Instance, InstanceId, State};
use crate::fleet::cluster::{Cluster, Membership, Role, leader};
use crate::provider::Action;

/// Makes members as they are after an act that went well.
pub(super) fn suppose(census: &mut Census, action: &Action) {
    match action {
        Action::HandOver { id, to } => {
            let mut turn = |id: &InstanceId, role| {
                let found = census.instances.iter_mut().find(|seen| seen.id == *id);
                if let Some(membership) = found.and_then(|found| found.membership.as_mut()) {
                    membership.role = role;
                }
            };
            turn(id, Role::Synchronous);
            turn(to, Role::Leader);
        }
        Action::Terminate { id, .. } | Action::Deregister { id } => {
            let cluster = census.cluster.get_or_insert_default();
            cluster.voters.retain(|voter| voter != id);
            cluster.registered.retain(|registered| registered != id);
        }
        Action::Launch { .. } | Action::Admit { .. } | Action::Drain { .. } => {}
    }
    catch_up(census);
}

/// Who is healthy by now has all data; where nobody leads, the first of them does.
pub(super) fn catch_up(census: &mut Census) {
    let mut led = leader(&census.instances).is_some();
    let Census { instances, cluster, .. } = census;
    let joins =
        |seen: &&mut Instance| seen.health == Health::Healthy && seen.state != State::Dead && !seen.has_all();
    for seen in instances.iter_mut().filter(joins) {
        let role = if led { Role::Synchronous } else { Role::Leader };
        led = true;
        seen.membership = Some(Membership { role, caught_up: true, stays: None });
        let Cluster { voters, registered, .. } = cluster.get_or_insert_default();
        for known in [voters, registered] {
            if !known.contains(&seen.id) {
                known.push(seen.id.clone());
            }
        }
    }
}
