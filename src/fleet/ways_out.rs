//! Tell: what a person can do where automation must not: nobody leads members that hold data, and nobody will by itself.

use super::census::{Census, Health, Instance, InstanceId, State};
use super::cluster::Role;

/// Says what was seen of each member, what must not be done, and each way out with its commands. `here` is whether the
/// machines are this computer's: one that ended still has its disk. `backups` is whether the fleet file has `[backup]`.
#[must_use]
pub fn ways_out(fleet: &str, census: &Census, here: bool, backups: bool) -> Vec<String> {
    let mut lines: Vec<String> = census.instances.iter().map(seen).collect();
    let voters = census.cluster.iter().flat_map(|cluster| &cluster.voters);
    let gone = voters.filter(|id| census.instances.iter().all(|seen| seen.id != **id));
    lines.extend(gone.map(|id| format!("seen: {id} has a vote, and there is no such machine")));
    lines.push(format!(
        "do not end, rotate or take down anything of {fleet}, and delete no disk: one of them may be the only one that has \
         what was acknowledged last"
    ));
    let ended = census.instances.iter().any(|seen| seen.state == State::Dead);
    lines.push(if here && ended {
        format!(
            "way out: start what ended again, with its disk; nothing is lost: `rekiln revive {fleet}`, then `rekiln roll \
             {fleet} --to current`"
        )
    } else {
        format!(
            "way out: bring the missing members back as they were (their machines, their zone, their network); nothing is \
             lost: then `rekiln roll {fleet} --to current`"
        )
    });
    if let Some(id) = survivor(census) {
        lines.push(format!(
            "way out: {id} says that it has all data; make it the only member with the tools of what decides who leads (etcd: \
             `--force-new-cluster`, by an image that does so), then `rekiln roll {fleet} --to current`"
        ));
    }
    lines.push(if backups && !here {
        format!(
            "last way out: a new cluster from the last proved backup; what was written since is lost: `rekiln backup status \
             {fleet}` says how old it is, docs/databases.md, Backups, how it is unpacked by hand"
        )
    } else if backups {
        format!(
            "last way out: found anew from the last proved backup; what was written since is lost: `rekiln backup status \
             {fleet}` says how old it is, `rekiln backup restore {fleet}` does it"
        )
    } else {
        "last way out: restore a backup; rekiln knows of none, since the fleet file has no `[backup]`".to_owned()
    });
    lines
}

/// Who has all data, if anybody says so.
fn survivor(census: &Census) -> Option<&InstanceId> {
    census.instances.iter().find(|seen| seen.has_all()).map(|seen| &seen.id)
}

fn seen(seen: &Instance) -> String {
    let id = &seen.id;
    if seen.state == State::Dead {
        return format!("seen: the machine of {id} ended");
    }
    let says = match &seen.membership {
        None => "says nothing of itself",
        Some(found) if !found.caught_up => "does not have all data",
        Some(found) => match found.role {
            Role::Leader => "says that it leads",
            Role::Synchronous => "was waited for with each write: it has all that was acknowledged",
            Role::Replica => "follows, and may lack what was acknowledged last",
            Role::Joining => "copies",
        },
    };
    let health = if seen.health == Health::Healthy { "is well" } else { "is not well" };
    format!("seen: {id} runs, {health}, and {says}")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::fleet::cluster::{Cluster, Membership};

    fn member(number: u64, state: State, role: Option<Role>) -> Instance {
        Instance {
            id: InstanceId::new("db", number),
            generation: None,
            image: None,
            state,
            health: if state == State::Dead { Health::Unhealthy } else { Health::Healthy },
            in_service: false,
            launched_at: Timestamp::UNIX_EPOCH,
            touched: None,
            connections: 0,
            address: None,
            zone: None,
            known_as: None,
            membership: role.map(|role| Membership { role, caught_up: true, stays: None }),
        }
    }

    #[test]
    fn what_was_seen_what_must_not_be_done_and_each_way_out() {
        let instances = vec![
            member(1, State::Dead, None),
            member(3, State::Running, Some(Role::Synchronous)),
            member(4, State::Running, None),
        ];
        let voters = [1, 2, 3].map(|number| InstanceId::new("db", number)).to_vec();
        let cluster = Some(Cluster { registered: voters.clone(), voters, refuses: Vec::new(), data: None });
        let census = Census { instances, cluster, ..Census::empty(Timestamp::UNIX_EPOCH) };
        let here = ways_out("db", &census, true, true);
        assert_eq!(
            here[..4],
            [
                "seen: the machine of db-1 ended",
                "seen: db-3 runs, is well, and was waited for with each write: it has all that was acknowledged",
                "seen: db-4 runs, is well, and says nothing of itself",
                "seen: db-2 has a vote, and there is no such machine",
            ]
        );
        assert!(here[4].starts_with("do not end, rotate or take down anything of db"), "{here:?}");
        assert!(here[5].contains("`rekiln revive db`") && here[6].contains("db-3 says that it has all data"));
        assert!(here[7].contains("`rekiln backup restore db`") && here.len() == 8, "{here:?}");
        let elsewhere = ways_out("db", &census, false, true);
        assert!(elsewhere.iter().all(|line| !line.contains("backup restore")), "{elsewhere:?}");
        let elsewhere = ways_out("db", &census, false, false);
        assert!(elsewhere.iter().all(|line| !line.contains("revive")), "{elsewhere:?}");
        assert!(elsewhere.last().is_some_and(|line| line.contains("no `[backup]`")));
    }
}
