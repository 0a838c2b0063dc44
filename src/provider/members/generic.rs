//! Members of any other kind: they, or a program for them, answer in the JSON that `docs/databases.md` describes.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{ANSWER, Door, HANDOVER, Told};
use crate::error::{Doing as _, Error, Result};
use crate::fleet::census::InstanceId;
use crate::fleet::cluster::{Membership, Role};
use crate::provider::Outcome;

/// What a member says of itself and, a leader, of the whole.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    role: Role,
    /// How many bytes behind; a leader leaves it out.
    #[serde(default)]
    lag: Option<u64>,
    /// Why it may not leave.
    #[serde(default)]
    stays: Option<String>,
    /// Whether it has a vote.
    #[serde(default)]
    votes: bool,
    /// Who is registered with it, by instance; of the leader.
    #[serde(default)]
    registered: Vec<InstanceId>,
    /// Who has a vote, as far as it knows, also of those that have ended; of the leader.
    #[serde(default)]
    voters: Vec<InstanceId>,
    /// Why nobody may leave; of the leader.
    #[serde(default)]
    refuses: Vec<String>,
    /// How many bytes a new member copies; of the leader.
    #[serde(default)]
    data: Option<u64>,
}

/// What a program answers to `look`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Everyone {
    members: std::collections::BTreeMap<InstanceId, Said>,
}

/// What came of a wish.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Done {
    done: bool,
    #[serde(default)]
    why: Option<String>,
}

/// A member, as a program is told of it.
#[derive(Debug, Serialize)]
struct Known<'a> {
    instance: &'a str,
    address: std::net::SocketAddr,
    healthy: bool,
}

pub(super) fn hand_over(to: &str) -> serde_json::Value {
    json!({ "do": "hand_over", "to": to })
}

pub(super) fn deregister(id: &str) -> serde_json::Value {
    json!({ "do": "deregister", "instance": id })
}

/// Asks each member, all at the same time.
pub(super) fn ask_each(path: &str, max_lag: u64, doors: &[Door]) -> Told {
    let ask = |door: &Door| {
        let (status, body) = super::json(door.health, None, path, None, ANSWER).ok()?;
        (status == 200).then(|| serde_json::from_str::<Said>(&body).ok()).flatten()
    };
    let said = std::thread::scope(|scope| {
        let threads: Vec<_> = doors.iter().map(|door| (door, scope.spawn(move || ask(door)))).collect();
        let answers = threads.into_iter().map(|(door, thread)| (door, thread.join().ok().flatten()));
        answers.filter_map(|(door, said)| Some((door.id.clone(), said?))).collect::<Vec<_>>()
    });
    told(said, max_lag)
}

/// Asks a program.
pub(super) fn ask_program(command: &[String], max_lag: u64, doors: &[Door]) -> Told {
    let said = tell(command, doors, json!({ "do": "look" }), ANSWER)
        .and_then(|text| serde_json::from_str::<Everyone>(&text).doing(|| "reading what it printed"));
    let named = |(called, said): (InstanceId, Said)| {
        let door = doors.iter().find(|door| door.called() == called.0);
        (door.map_or(called, |door| door.id.clone()), said)
    };
    said.map_or_else(|_| Told::default(), |said| told(said.members.into_iter().map(named), max_lag))
}

/// Tells one member.
pub(super) fn tell_one(
    path: &str,
    doors: &[Door],
    id: &InstanceId,
    wish: &serde_json::Value,
) -> Result<Outcome> {
    let door = doors.iter().find(|door| door.id == *id);
    let door = door.ok_or_else(|| Error::failed(format!("{id} has no address")))?;
    let (status, body) = super::json(door.health, None, path, Some(wish), HANDOVER)?;
    if status != 200 {
        return Ok(Outcome::refused(format!("{id} answered with HTTP status {status}")));
    }
    outcome(&body)
}

/// Tells a program.
pub(super) fn tell_program(command: &[String], doors: &[Door], wish: &serde_json::Value) -> Result<Outcome> {
    outcome(&tell(command, doors, wish.clone(), HANDOVER)?)
}

fn tell(
    command: &[String],
    doors: &[Door],
    mut wish: serde_json::Value,
    limit: std::time::Duration,
) -> Result<String> {
    let known = doors.iter().map(|door| Known {
        instance: door.called(),
        address: door.health,
        healthy: door.healthy,
    });
    let known: Vec<_> = known.collect();
    wish["members"] = serde_json::to_value(&known).doing(|| "describing members")?;
    crate::fleet::outside::run(command, wish.to_string().as_bytes(), limit)
}

fn outcome(text: &str) -> Result<Outcome> {
    let Done { done, why } = serde_json::from_str(text).doing(|| "reading `{\"done\": …}`")?;
    Ok(if done { Outcome::Applied } else { Outcome::refused(why.unwrap_or_else(|| "not now".to_owned())) })
}

fn told(said: impl IntoIterator<Item = (InstanceId, Said)>, max_lag: u64) -> Told {
    let mut told = Told::default();
    let mut voting = Vec::new();
    for (id, said) in said {
        let leads = said.role == Role::Leader;
        let near = said.lag.is_some_and(|lag| lag <= max_lag);
        let caught_up = leads || said.role != Role::Joining && near;
        if said.votes {
            voting.push(id.clone());
        }
        let cluster = told.cluster.get_or_insert_default();
        if leads {
            (cluster.registered, cluster.voters, cluster.refuses) =
                (said.registered, said.voters, said.refuses);
            cluster.data = said.data;
        }
        told.members.insert(id, Membership { role: said.role, caught_up, stays: said.stays });
    }
    if let Some(cluster) = &mut told.cluster {
        // Who says so has a vote, whether the leader knows it or not.
        cluster.voters.extend(voting);
        for known in [&mut cluster.voters, &mut cluster.registered] {
            known.sort();
            known.dedup();
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_members_say_is_read_and_nothing_else() {
        let one = |text: &str| serde_json::from_str::<Said>(text);
        let said = [
            (
                1,
                r#"{"role":"leader","votes":true,"registered":["db-1","db-9"],"voters":["db-1","db-9"],"refuses":["a restore"]}"#,
            ),
            (2, r#"{"role":"replica","lag":7,"votes":true,"stays":"a backup"}"#),
            (3, r#"{"role":"synchronous","lag":17}"#),
            (4, r#"{"role":"joining","lag":0}"#),
        ];
        let said =
            said.map(|(number, text)| (InstanceId::new("db", number), one(text).expect("as documented")));
        let told = told(said, 10);
        let got: Vec<_> = told.members.values().map(|found| (found.role, found.caught_up)).collect();
        let wanted =
            [(Role::Leader, true), (Role::Replica, true), (Role::Synchronous, false), (Role::Joining, false)];
        assert_eq!(got, wanted);
        let cluster = told.cluster.expect("they said something");
        let ids =
            |numbers: &[u64]| numbers.iter().map(|number| InstanceId::new("db", *number)).collect::<Vec<_>>();
        assert_eq!((cluster.voters, cluster.registered), (ids(&[1, 2, 9]), ids(&[1, 9])));
        assert_eq!(cluster.refuses, ["a restore"]);
        for bad in [r#"{"role":"boss"}"#, "{}", r#"{"role":"leader","vote":true}"#] {
            assert!(one(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn not_now_is_no_error() {
        assert_eq!(outcome(r#"{"done":true}"#).expect("read"), Outcome::Applied);
        let refused = outcome(r#"{"done":false,"why":"a checkpoint"}"#).expect("read");
        assert_eq!(refused, Outcome::refused("a checkpoint"));
        assert!(outcome("yes").is_err());
    }
}
