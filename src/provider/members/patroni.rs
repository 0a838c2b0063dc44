//! Patroni's REST API: `GET /cluster`, `GET /config`, `POST /switchover`.
//!
//! Source: Patroni's documentation, "Patroni REST API", and the answers of Patroni 3.0.2.

use serde::Deserialize;
use serde_json::json;

use super::{ANSWER, Door, HANDOVER, Login, Names, Told, etcd, first};
use crate::error::{Doing as _, Error, Result};
use crate::fleet::census::InstanceId;
use crate::fleet::cluster::{Membership, Role};
use crate::fleet::stateful::{Durability, Stateful};
use crate::provider::Outcome;

/// Patroni, and how it is logged in to.
#[derive(Debug, Clone)]
pub(super) struct Patroni {
    pub(super) login: Option<Login>,
}

/// What `GET /cluster` answers, as far as it matters.
#[derive(Debug, Deserialize)]
struct State {
    members: Vec<Member>,
    /// Maintenance: nobody is promoted.
    #[serde(default)]
    pause: bool,
    #[serde(default)]
    scheduled_switchover: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Member {
    name: String,
    role: String,
    state: String,
    #[serde(default)]
    host: Option<String>,
    /// Bytes, or `unknown`.
    #[serde(default)]
    lag: serde_json::Value,
}

/// What `GET /config` answers, as far as it matters.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    synchronous_mode: serde_json::Value,
    synchronous_mode_strict: bool,
    synchronous_node_count: Option<u32>,
    postgresql: Postgresql,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Postgresql {
    parameters: Parameters,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Parameters {
    synchronous_commit: serde_json::Value,
}

impl Patroni {
    /// Asks all that is to be known at one look.
    pub(super) fn ask(stateful: &Stateful, max_lag: u64, doors: &[Door], names: &dyn Names) -> Told {
        let get = |path: &'static str| {
            first(doors, |door| {
                let (status, body) = super::json(door.health, None, path, None, ANSWER)?;
                if status == 200 { Ok(body) } else { Err(Error::failed(format!("HTTP status {status}"))) }
            })
        };
        let lives_beside = stateful.patroni.as_ref().is_some_and(|patroni| patroni.etcd.is_some());
        let (cluster, config, store) = std::thread::scope(|scope| {
            let cluster = scope.spawn(|| get("/cluster"));
            let config = scope.spawn(|| get("/config"));
            let store = lives_beside.then(|| etcd::members(doors));
            let failed = || Err(Error::failed("asking failed"));
            (cluster.join().unwrap_or_else(|_| failed()), config.join().unwrap_or_else(|_| failed()), store)
        });
        let Ok(state) =
            cluster.and_then(|text| serde_json::from_str::<State>(&text).doing(|| "reading /cluster"))
        else {
            return Told::default();
        };
        let mut told = read(&state, max_lag, doors);
        let cluster = told.cluster.get_or_insert_default();
        let config =
            config.and_then(|text| serde_json::from_str::<Config>(&text).doing(|| "reading /config"));
        cluster.refuses.extend(refuses(stateful, &state, config.as_ref()));
        match store {
            None => {}
            Some(Ok(members)) => {
                (cluster.registered, cluster.voters) = etcd::named(&members, doors, names);
            }
            Some(Err(error)) => {
                cluster.refuses.push(format!("what decides who leads does not answer: {}", error.chain()));
            }
        }
        told
    }

    /// Has the leader hand over, and waits until it has or has not.
    pub(super) fn hand_over(&self, doors: &[Door], from: &InstanceId, to: &InstanceId) -> Result<Outcome> {
        let door = |id: &InstanceId| {
            let found = doors.iter().find(|door| door.id == *id);
            found.ok_or_else(|| Error::failed(format!("{id} has no address")))
        };
        let (leader, candidate) = (door(from)?, door(to)?);
        // The names that Patroni knows are those that its members have.
        let (_, text) = super::json(leader.health, None, "/cluster", None, ANSWER)?;
        let state: State = serde_json::from_str(&text).doing(|| format!("reading /cluster of {from}"))?;
        let name = |door: &Door| {
            let found = state.members.iter().find(|member| member.is(door));
            found
                .map(|member| member.name.clone())
                .ok_or_else(|| Error::failed(format!("Patroni does not know {}", door.id)))
        };
        let body = json!({ "leader": name(leader)?, "candidate": name(candidate)? });
        let (status, said) =
            super::json(leader.health, self.login.as_ref(), "/switchover", Some(&body), HANDOVER)?;
        let said = said.trim();
        Ok(match status {
            200 => Outcome::Applied,
            401 | 403 => {
                return Err(Error::invalid(format!("Patroni on {from} refuses the login for a switchover"))
                    .hint("`[stateful] patroni = { user = …, password_file = … }` says which it wants"));
            }
            status => Outcome::refused(format!("Patroni on {from} says (HTTP {status}): {said}")),
        })
    }
}

impl Member {
    /// Tells whether it is the one behind a door: by name, as its provider or rekiln calls it, or by its address.
    fn is(&self, door: &Door) -> bool {
        let host = || self.host.as_ref().and_then(|host| host.parse().ok());
        self.name == door.id.0
            || door.known_as.as_ref() == Some(&self.name)
            || door.inside.is_some() && host() == door.inside
    }
}

/// Reads what members are.
fn read(state: &State, max_lag: u64, doors: &[Door]) -> Told {
    let mut told = Told::default();
    for member in &state.members {
        let Some(door) = doors.iter().find(|door| member.is(door)) else { continue };
        // `streaming` since Patroni 3.1, `running` before.
        let follows = matches!(member.state.as_str(), "running" | "streaming" | "in archive recovery");
        let role = match member.role.as_str() {
            "leader" | "master" | "primary" | "standby_leader" => Role::Leader,
            _ if !follows => Role::Joining,
            "sync_standby" | "quorum_standby" => Role::Synchronous,
            _ => Role::Replica,
        };
        let near = member.lag.as_u64().is_some_and(|lag| lag <= max_lag);
        let caught_up = follows && (role == Role::Leader || near);
        told.members.insert(door.id.clone(), Membership { role, caught_up, stays: None });
    }
    told
}

/// Says why nobody may leave.
fn refuses(stateful: &Stateful, state: &State, config: Result<&Config, &Error>) -> Vec<String> {
    let mut why = Vec::new();
    if state.pause {
        why.push(
            "Patroni is paused, for maintenance: nobody would be promoted; `patronictl resume` ends it"
                .to_owned(),
        );
    }
    if state.scheduled_switchover.is_some() {
        why.push("a switchover is scheduled; `patronictl flush` takes it back".to_owned());
    }
    if stateful.durability != Durability::Quorum {
        return why;
    }
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            why.push(format!("what Patroni is set to is not known: {}", error.chain()));
            return why;
        }
    };
    let mode = &config.synchronous_mode;
    if !matches!(mode.as_str(), Some("on" | "quorum" | "true")) && mode.as_bool() != Some(true) {
        why.push("`synchronous_mode` is off: acknowledged writes may be on the leader only".to_owned());
    } else if !config.synchronous_mode_strict {
        why.push("`synchronous_mode_strict` is off: without a standby, writes are acknowledged that only the leader has".to_owned());
    }
    let count = config.synchronous_node_count.unwrap_or(1);
    if count < stateful.synchronous {
        let wanted = stateful.synchronous;
        why.push(format!("`synchronous_node_count` is {count}, and `stateful.synchronous` is {wanted}"));
    }
    let commit = &config.postgresql.parameters.synchronous_commit;
    let waits = match commit {
        // PostgreSQL's default is `on`.
        serde_json::Value::Null => true,
        serde_json::Value::Bool(on) => *on,
        serde_json::Value::String(text) => matches!(text.as_str(), "on" | "remote_apply" | "true" | "yes"),
        _ => false,
    };
    if !waits {
        why.push(format!(
            "`synchronous_commit` is {commit}: writes are acknowledged before a standby has them on disk"
        ));
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(number: u64) -> Door {
        Door {
            id: InstanceId::new("db", number),
            known_as: None,
            inside: Some([10, 77, 0, u8::try_from(number).expect("small") + 1].into()),
            health: ([127, 0, 0, 1], 1).into(),
            etcd: None,
            healthy: true,
        }
    }

    fn state(members: &str) -> State {
        serde_json::from_str(&format!("{{\"members\": [{members}]}}")).expect("an answer")
    }

    #[test]
    fn roles_are_those_that_patroni_tells() {
        let table = [
            (r#"{"name":"db-1","role":"leader","state":"running","timeline":1}"#, Some((Role::Leader, true))),
            (
                r#"{"name":"db-1","role":"sync_standby","state":"running","lag":0}"#,
                Some((Role::Synchronous, true)),
            ),
            (
                r#"{"name":"db-1","role":"sync_standby","state":"streaming","lag":0}"#,
                Some((Role::Synchronous, true)),
            ),
            (r#"{"name":"db-1","role":"replica","state":"running","lag":100}"#, Some((Role::Replica, true))),
            (r#"{"name":"db-1","role":"replica","state":"running","lag":101}"#, Some((Role::Replica, false))),
            (
                r#"{"name":"db-1","role":"replica","state":"running","lag":"unknown"}"#,
                Some((Role::Replica, false)),
            ),
            (
                r#"{"name":"db-1","role":"replica","state":"creating replica","lag":0}"#,
                Some((Role::Joining, false)),
            ),
            (
                r#"{"name":"db-1","role":"replica","state":"start failed","lag":0}"#,
                Some((Role::Joining, false)),
            ),
            // A leader whose database does not run leads, and has nothing to show for it.
            (r#"{"name":"db-1","role":"leader","state":"stopped"}"#, Some((Role::Leader, false))),
            (
                r#"{"name":"pg1","host":"10.77.0.2","role":"leader","state":"running"}"#,
                Some((Role::Leader, true)),
            ),
            (r#"{"name":"pg9","host":"10.77.0.9","role":"leader","state":"running"}"#, None),
        ];
        for (member, wanted) in table {
            let told = read(&state(member), 100, &[door(1)]);
            let got = told.members.values().next().map(|found| (found.role, found.caught_up));
            assert_eq!(got, wanted, "{member}");
        }
    }

    #[test]
    fn what_would_lose_acknowledged_writes_is_refused() {
        let table = [
            (r#"{"synchronous_mode":true,"synchronous_mode_strict":true}"#, None),
            (
                r#"{"synchronous_mode":"quorum","synchronous_mode_strict":true,"synchronous_node_count":2}"#,
                None,
            ),
            (
                r#"{"synchronous_mode":"on","synchronous_mode_strict":true,"postgresql":{"parameters":{"synchronous_commit":"remote_apply"}}}"#,
                None,
            ),
            ("{}", Some("synchronous_mode` is off")),
            (
                r#"{"synchronous_mode":false,"synchronous_mode_strict":true}"#,
                Some("synchronous_mode` is off"),
            ),
            (r#"{"synchronous_mode":true}"#, Some("synchronous_mode_strict")),
            (
                r#"{"synchronous_mode":true,"synchronous_mode_strict":true,"synchronous_node_count":0}"#,
                Some("synchronous_node_count"),
            ),
            (
                r#"{"synchronous_mode":true,"synchronous_mode_strict":true,"postgresql":{"parameters":{"synchronous_commit":"local"}}}"#,
                Some("synchronous_commit"),
            ),
            (
                r#"{"synchronous_mode":true,"synchronous_mode_strict":true,"postgresql":{"parameters":{"synchronous_commit":"remote_write"}}}"#,
                Some("synchronous_commit"),
            ),
            (
                r#"{"synchronous_mode":true,"synchronous_mode_strict":true,"postgresql":{"parameters":{"synchronous_commit":false}}}"#,
                Some("synchronous_commit"),
            ),
        ];
        let stateful: Stateful = toml::from_str("patroni = {}").expect("a section");
        for (config, wanted) in table {
            let config: Config = serde_json::from_str(config).expect("an answer");
            let got = refuses(&stateful, &state(""), Ok(&config));
            match wanted {
                None => assert_eq!(got, Vec::<String>::new(), "{config:?}"),
                Some(wanted) => assert!(got.len() == 1 && got[0].contains(wanted), "{config:?}: {got:?}"),
            }
        }
        let leader: Stateful = toml::from_str("patroni = {}\ndurability = 'leader'").expect("a section");
        assert_eq!(refuses(&leader, &state(""), Ok(&Config::default())), Vec::<String>::new());
        assert_eq!(refuses(&stateful, &state(""), Err(&Error::failed("no"))).len(), 1);
    }

    #[test]
    fn nobody_leaves_while_a_person_has_it_paused() {
        let stateful: Stateful = toml::from_str("patroni = {}\ndurability = 'leader'").expect("a section");
        let paused: State = serde_json::from_str(r#"{"members":[],"pause":true}"#).expect("an answer");
        assert!(refuses(&stateful, &paused, Ok(&Config::default()))[0].contains("patronictl resume"));
    }
}
