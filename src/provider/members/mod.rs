//! Do: ask the members of a stateful fleet what they are to each other, and have them change it.
//!
//! One seam with three ways: Patroni's REST API, any HTTP that answers as documented, and a program. What they answer is
//! read by pure functions beside.

mod etcd;
mod generic;
mod patroni;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::fleet::census::{Census, Health, Instance, InstanceId, State};
use crate::fleet::cluster::{Cluster, Membership, Role};
use crate::fleet::stateful::Stateful;
use crate::notation;
use crate::provider::Outcome;

/// How long one answer may take. Health checks have as long; a machine that is translated answers within a second or two.
const ANSWER: Duration = Duration::from_secs(5);

/// How long a handover may take to be answered: Patroni waits itself until the new one leads, or not, within its own
/// `retry_timeout` and one `loop_wait`, 20 s by default.
const HANDOVER: Duration = Duration::from_mins(1);

/// The members of one fleet, as they are asked.
#[derive(Debug, Clone)]
pub struct Members {
    way: Way,
    /// What they are asked as.
    settings: Stateful,
    /// How many bytes behind still counts as caught up.
    max_lag: u64,
}

/// How they are asked.
#[derive(Debug, Clone)]
enum Way {
    Patroni(patroni::Patroni),
    Http(String),
    Command(Vec<String>),
}

/// Where one member answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// Its instance.
    pub id: InstanceId,
    /// What its provider calls it, where that is another name.
    pub known_as: Option<String>,
    /// Its address among the members, where rekiln knows it.
    pub inside: Option<IpAddr>,
    /// Where `[health] http` is asked.
    pub health: SocketAddr,
    /// Where the etcd beside it is asked, where one is.
    pub etcd: Option<SocketAddr>,
    /// Whether its health checks pass: those are asked first.
    pub healthy: bool,
}

impl Door {
    /// Returns what members call it: an instance knows what its provider calls it, and not what rekiln does.
    fn called(&self) -> &str {
        self.known_as.as_deref().unwrap_or(&self.id.0)
    }
}

/// Who a name or an address is.
pub trait Names {
    /// Returns the instance that had an address among the members, though it is not there any more.
    fn at(&self, address: IpAddr) -> Option<InstanceId>;

    /// Returns the instance that its provider calls so, where that is another name; also one that has ended.
    fn known_as(&self, _name: &str) -> Option<InstanceId> {
        None
    }

    /// Returns what members call an instance; also one that has ended.
    fn called(&self, id: &InstanceId) -> String {
        id.0.clone()
    }
}

/// What members said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    members: BTreeMap<InstanceId, Membership>,
    cluster: Option<Cluster>,
}

/// A login of an HTTP server. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    user: String,
    password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({})", self.user)
    }
}

impl Login {
    /// Makes one of a user and a password.
    #[must_use]
    pub fn new(user: &str, password: &str) -> Self {
        Self { user: user.to_owned(), password: password.to_owned() }
    }

    /// Returns `user:password@`, encoded as an URL has it.
    fn encoded(&self) -> String {
        let encoded = |text: &str| crate::fleet::outside::filling::encoded(text, b"");
        format!("{}:{}@", encoded(&self.user), encoded(&self.password))
    }
}

impl Members {
    /// Reads how members are asked. `login` is what Patroni's REST API wants for a switchover, if it wants one.
    ///
    /// # Errors
    /// As [`Stateful::check`], and words that cannot be read.
    pub fn of(stateful: &Stateful, login: Option<Login>) -> Result<Self> {
        stateful.check()?;
        let way = match (&stateful.patroni, &stateful.http, &stateful.command) {
            (Some(_), ..) => Way::Patroni(patroni::Patroni { login }),
            (_, Some(path), _) => Way::Http(path.clone()),
            (_, _, Some(command)) => Way::Command(command.clone()),
            (None, None, None) => {
                return Err(Error::invalid("`[stateful]` does not say how members are asked"));
            }
        };
        let max_lag = notation::memory(&stateful.max_lag)
            .map_err(|why| Error::invalid(format!("`stateful.max_lag`: {why}")))?;
        Ok(Self { way, settings: stateful.clone(), max_lag })
    }

    /// Returns the port of the etcd beside each member, where one is.
    #[must_use]
    pub fn etcd(&self) -> Option<u16> {
        self.settings.patroni.as_ref().and_then(|patroni| patroni.etcd)
    }

    /// Asks the members, and adds to a look what they say. Takes as long as the slowest answer; nothing is an error: who
    /// says nothing is not known.
    pub fn look(&self, doors: &[Door], names: &dyn Names, census: &mut Census) {
        let told = match &self.way {
            _ if doors.is_empty() => Told::default(),
            Way::Patroni(_) => patroni::Patroni::ask(&self.settings, self.max_lag, doors, names),
            Way::Http(path) => generic::ask_each(path, self.max_lag, doors),
            Way::Command(command) => generic::ask_program(command, self.max_lag, doors),
        };
        census.cluster = told.cluster;
        for known in census.cluster.iter_mut().flat_map(|one| [&mut one.registered, &mut one.voters]) {
            for id in &mut *known {
                *id = names.known_as(&id.0).unwrap_or_else(|| id.clone());
            }
            known.sort();
            known.dedup();
        }
        for seen in &mut census.instances {
            seen.membership = told.members.get(&seen.id).filter(|said| is_heard(seen, said)).cloned();
        }
    }

    /// Has the leader hand over.
    ///
    /// # Errors
    /// Nobody answered: it may be done or not.
    pub fn hand_over(&self, doors: &[Door], from: &InstanceId, to: &InstanceId) -> Result<Outcome> {
        match &self.way {
            Way::Patroni(patroni) => patroni.hand_over(doors, from, to),
            Way::Http(path) => generic::tell_one(path, doors, from, &generic::hand_over(called(doors, to))),
            Way::Command(command) => {
                generic::tell_program(command, doors, &generic::hand_over(called(doors, to)))
            }
        }
    }

    /// Has the others forget who has ended, or is about to.
    ///
    /// # Errors
    /// Nobody answered: it may be done or not.
    pub fn deregister(&self, doors: &[Door], names: &dyn Names, id: &InstanceId) -> Result<Outcome> {
        match &self.way {
            Way::Patroni(_) => etcd::remove(doors, names, id),
            Way::Http(path) => {
                let other = doors.iter().filter(|door| door.id != *id).max_by_key(|door| door.healthy);
                match other {
                    Some(other) => {
                        generic::tell_one(path, doors, &other.id, &generic::deregister(&names.called(id)))
                    }
                    None => Ok(Outcome::refused("no other member answers")),
                }
            }
            Way::Command(command) => {
                generic::tell_program(command, doors, &generic::deregister(&names.called(id)))
            }
        }
    }
}

/// Returns what members call one that is there.
fn called<'a>(doors: &'a [Door], id: &'a InstanceId) -> &'a str {
    doors.iter().find(|door| door.id == *id).map_or(&id.0, Door::called)
}

/// Tells whether what others say of it counts: they may not know yet that it is gone.
fn is_heard(seen: &Instance, said: &Membership) -> bool {
    match seen.state {
        State::Dead => false,
        // Health checks are for those that have all data.
        State::Launching => true,
        // Some providers send requests to whatever is up, so that one that copies runs: that it does is worth knowing, and
        // is nothing that anybody could count on.
        State::Running | State::Draining => seen.health == Health::Healthy || said.role == Role::Joining,
    }
}

/// Asks one URL of a member, and reads its JSON whatever the status. The login is in no error.
fn json(
    at: SocketAddr,
    login: Option<&Login>,
    path: &str,
    body: Option<&serde_json::Value>,
    limit: Duration,
) -> Result<(u16, String)> {
    let login = login.map(Login::encoded).unwrap_or_default();
    let url = crate::fleet::outside::Url::resolve(&format!("http://{login}{at}{path}"))?;
    let body = body.map(|body| body.to_string().into_bytes());
    let answer = crate::fleet::outside::ask(&url, body.as_deref(), limit)?;
    Ok((answer.status, answer.body))
}

/// Asks members in turn until one answers as wanted, those first that are well.
fn first<T>(doors: &[Door], ask: impl Fn(&Door) -> Result<T>) -> Result<T> {
    let mut doors: Vec<_> = doors.iter().collect();
    doors.sort_by_key(|door| !door.healthy);
    let mut last = Error::failed("no member answers");
    for door in doors {
        match ask(door) {
            Ok(answer) => return Ok(answer),
            Err(error) => last = error.during(format!("asking {}", door.id)),
        }
    }
    Err(last)
}
