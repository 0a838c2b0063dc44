//! A fleet whose members hold data: each look asks them, and each act is checked with them right before it is done.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::At;
use crate::error::{Doing as _, Error, Kind, Result};
use crate::fleet::Fleet;
use crate::fleet::census::{Census, Health, Instance, InstanceId};
use crate::fleet::chaos;
use crate::fleet::cluster::{leader, objection};
use crate::fleet::stateful::Copies;
use crate::provider::members::{Door, Login, Members, Names};
use crate::provider::{Action, Outcome, ProviderError};
use crate::vm::document;

/// The user of Patroni's REST API that images of rekiln's own have, where the fleet file names none.
const USER: &str = "rekiln";

/// The label of its password, which comes of the fleet's secret.
const LABEL: &str = "rest";

/// The members of one fleet.
pub(super) struct Stateful {
    fleet: Fleet,
    copies: Copies,
}

/// What instances are called elsewhere than here.
struct Others {
    /// In the private network of a fleet on this computer: the fleet, and the number of its newest instance. Everyone up to
    /// it may have had an address there.
    launched: Option<(String, u64)>,
    /// By the provider, those included that have ended.
    known_as: BTreeMap<String, InstanceId>,
}

impl Names for Others {
    fn at(&self, address: IpAddr) -> Option<InstanceId> {
        let (fleet, newest) = self.launched.as_ref()?;
        // The newest first: far apart, two have one address.
        let number = (1..=*newest).rev().find(|number| IpAddr::V4(document::address(*number)) == address)?;
        Some(InstanceId::new(fleet, number))
    }

    fn known_as(&self, name: &str) -> Option<InstanceId> {
        self.known_as.get(name).cloned()
    }

    fn called(&self, id: &InstanceId) -> String {
        let known = self.known_as.iter().find(|(_, known)| *known == id);
        known.map_or_else(|| id.0.clone(), |(name, _)| name.clone())
    }
}

impl Stateful {
    /// Reads it from a fleet file; `None` where members hold no data.
    pub(super) fn of(fleet: &Fleet) -> Result<Option<Self>> {
        let Some(copies) = Copies::of(fleet)? else { return Ok(None) };
        Ok(Some(Self { fleet: fleet.clone(), copies }))
    }

    /// Looks, and asks the members.
    pub(super) async fn census(&self, at: &At) -> Result<Census, ProviderError> {
        let census = at.census().await?;
        self.ask(at, census).await
    }

    async fn ask(&self, at: &At, mut census: Census) -> Result<Census, ProviderError> {
        let (members, doors, names) = self.reach(at, &census)?;
        // Answers are waited for on threads of their own: nothing else waits with them.
        let asked = tokio::task::spawn_blocking(move || {
            members.look(&doors, &names, &mut census);
            census
        });
        let mut census = asked.await.doing(|| "asking the members of the fleet")?;
        let leader = leader(&census.instances).cloned();
        if let (Some(leader), Some(cluster)) = (leader, &mut census.cluster) {
            cluster.data = cluster.data.or_else(|| at.data(&leader));
        }
        Ok(census)
    }

    /// Asks the members once more, and does what they have nothing against.
    pub(super) async fn apply(&self, at: &At, action: &Action) -> Result<Outcome, ProviderError> {
        if matches!(action, Action::Launch { founds: false, .. } | Action::Admit { .. }) {
            return at.apply(action).await;
        }
        let census = self.census(at).await?;
        if let Some(why) = objection(action, &census, &self.copies) {
            return Ok(Outcome::refused(why));
        }
        match action {
            Action::HandOver { id, to } => {
                let (id, to) = (id.clone(), to.clone());
                self.tell(at, &census, move |members, doors, _| members.hand_over(doors, &id, &to)).await
            }
            Action::Deregister { id } => {
                let id = id.clone();
                self.tell(at, &census, move |members, doors, names| members.deregister(doors, names, &id))
                    .await
            }
            Action::Terminate { id, .. } => {
                // Before it is gone: those who are left decide by as many votes as they are.
                let registered = |census: &Census| {
                    census.cluster.as_ref().is_some_and(|cluster| cluster.registered.contains(id))
                };
                let found = id.clone();
                let forget = move |members: &Members, doors: &[Door], names: &Others| {
                    members.deregister(doors, names, &found)
                };
                if registered(&census)
                    && census.cluster.as_ref().is_some_and(|cluster| cluster.registered.len() > 1)
                {
                    match self.tell(at, &census, forget).await? {
                        Outcome::Applied | Outcome::AlreadyDone => {}
                        other => return Ok(other),
                    }
                }
                at.apply(action).await
            }
            _ => at.apply(action).await,
        }
    }

    /// Asks the members once more, and kills one that none of them needs.
    pub(super) async fn kill(
        &self,
        at: &At,
        id: &InstanceId,
        others: usize,
    ) -> Result<Outcome, ProviderError> {
        let census = self.census(at).await?;
        let seen = census.instances.iter().find(|seen| seen.id == *id);
        match seen.map(|seen| chaos::needed(seen, &census, &self.copies)) {
            None => Ok(Outcome::refused(format!("{id} is not there"))),
            Some(Some(why)) => Ok(Outcome::refused(why)),
            Some(None) => at.kill(id, others).await,
        }
    }

    async fn tell(
        &self,
        at: &At,
        census: &Census,
        wish: impl FnOnce(&Members, &[Door], &Others) -> Result<Outcome> + Send + 'static,
    ) -> Result<Outcome, ProviderError> {
        let (members, doors, names) = self.reach(at, census)?;
        let told = tokio::task::spawn_blocking(move || wish(&members, &doors, &names)).await;
        told.doing(|| "asking the members of the fleet")?.map_err(|error| match error.kind() {
            // What is wrong with the fleet's file stays so.
            Kind::Invalid(_) => ProviderError::Failed(error),
            // Nobody answered, or not all of it: whether it is done, the next look tells.
            _ => ProviderError::Unclear(error.chain()),
        })
    }

    /// Returns how members are asked, and where.
    fn reach(&self, at: &At, census: &Census) -> Result<(Members, Vec<Door>, Others)> {
        let stateful = self.fleet.stateful.as_ref();
        let stateful = stateful.ok_or_else(|| Error::invalid("the fleet file has no `[stateful]`"))?;
        let members = Members::of(stateful, self.login(at)?)?;
        let etcd = members.etcd();
        let door = |seen: &Instance| {
            let health = seen.address?;
            Some(Door {
                id: seen.id.clone(),
                known_as: seen.known_as.clone(),
                inside: at.inside(seen),
                health,
                etcd: etcd.and_then(|port| at.reached(seen, port)),
                healthy: seen.health == Health::Healthy,
            })
        };
        let doors: Vec<_> = census.instances.iter().filter_map(door).collect();
        let known_as = |seen: &Instance| Some((seen.known_as.clone()?, seen.id.clone()));
        let known_as = census.instances.iter().filter_map(known_as).collect();
        let names = Others { launched: at.launched(census), known_as };
        Ok((members, doors, names))
    }

    /// Returns the login for what changes something.
    fn login(&self, at: &At) -> Result<Option<Login>> {
        let Some(patroni) = self.fleet.stateful.as_ref().and_then(|stateful| stateful.patroni.as_ref())
        else {
            return Ok(None);
        };
        let user = patroni.user.as_deref();
        if let Some(file) = &patroni.password_file {
            let text = fs::read_to_string(Path::new(file));
            let text = text.doing(|| format!("reading the password of Patroni's REST API in {file}"))?;
            return Ok(Some(Login::new(user.unwrap_or(USER), text.trim())));
        }
        Ok(at.password(LABEL).map(|password| Login::new(user.unwrap_or(USER), &password)))
    }
}

impl At {
    /// Returns the address of an instance among the members.
    #[cfg_attr(
        not(feature = "aws"),
        expect(clippy::unnecessary_wraps, reason = "elsewhere it may have none yet")
    )]
    fn inside(&self, seen: &Instance) -> Option<IpAddr> {
        match self {
            Self::Local(_) => Some(document::address(seen.id.number()).into()),
            #[cfg(feature = "aws")]
            Self::Group(_) => seen.address.map(|address| address.ip()),
        }
    }

    /// Returns where a port of an instance is reached from here.
    fn reached(&self, seen: &Instance, port: u16) -> Option<SocketAddr> {
        match self {
            Self::Local(local) => {
                let record = local.record(&seen.id).ok().flatten()?;
                Some(([127, 0, 0, 1], record.host_port(port)?).into())
            }
            #[cfg(feature = "aws")]
            Self::Group(_) => seen.address.map(|address| SocketAddr::new(address.ip(), port)),
        }
    }

    /// Returns how much the data disk of an instance has, in bytes, where it has one that is seen from here: a little more than
    /// what a new member copies of it.
    fn data(&self, id: &InstanceId) -> Option<u64> {
        match self {
            Self::Local(local) => {
                let disk = local.record(id).ok().flatten()?.spec.extras.data?;
                // What was written of a file without content, in units of 512 bytes whatever the file system's are: stat(2).
                Some(fs::metadata(disk).ok()?.blocks() * 512)
            }
            #[cfg(feature = "aws")]
            Self::Group(_) => None,
        }
    }

    /// Returns the fleet and the number of its newest instance, where there is a private network.
    fn launched(&self, census: &Census) -> Option<(String, u64)> {
        match self {
            Self::Local(local) => {
                let newest = census.instances.iter().map(|seen| seen.id.number()).max()?;
                Some((local.name().to_owned(), newest))
            }
            #[cfg(feature = "aws")]
            Self::Group(_) => None,
        }
    }

    /// Returns the password that members make for `label` of what they were told.
    fn password(&self, label: &str) -> Option<String> {
        match self {
            Self::Local(local) => local.secret().ok().map(|secret| secret.password(label)),
            #[cfg(feature = "aws")]
            Self::Group(_) => None,
        }
    }
}
