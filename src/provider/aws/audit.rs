//! Do: look at what an audit of an Auto Scaling group is about.

use std::collections::{BTreeMap, BTreeSet};

use tokio::task::JoinSet;

use super::doors::Exposed;
use super::launcher::{Blueprint, Launcher};
use super::{Aws, CallError, RESOLVE, insist};
use crate::digest::ImageId;
use crate::error::{Doing as _, Error, Kind, Result};
use crate::fleet::audit::{Member, Origin, PERMISSIONS, Seen, Source};
use crate::publish::plan::IMAGE_TAG;
use crate::vm::report;

/// How many instances are asked about at once: AWS gives out some 10 consoles a second and account.
const AT_ONCE: usize = 8;

/// An AMI as a launcher names it, what it is called, and what it launches.
type Launched = Vec<(String, Blueprint)>;

impl Aws {
    /// Looks at an Auto Scaling group. `published` says which AMIs of this region are which images; `maker` is the fleet
    /// whose roll makes the group where there is none.
    ///
    /// # Errors
    /// There is no such group, or it or its instances cannot be looked at. What else cannot be is in [`Seen::unseen`].
    pub async fn audit(
        &self,
        group: &str,
        published: &BTreeMap<String, ImageId>,
        maker: Option<&str>,
    ) -> Result<Seen> {
        let Some(group_seen) = insist(&self.region, || self.membership(group)).await? else {
            let error = self.no_group(group);
            return Err(match maker {
                Some(fleet) => {
                    error.hint(format!("there is nothing to audit yet: `rekiln roll {fleet}` makes it"))
                }
                None => error,
            });
        };
        let ids: Vec<String> = group_seen.instances.iter().cloned().collect();
        let exposed = insist(&self.region, || self.exposed(&ids)).await?;
        let mut blind = Blind::default();
        let launched = self.launched(&group_seen.launchers, &mut blind).await?;
        let written =
            exposed.iter().map(|(_, ami, _)| ami).chain(launched.iter().flat_map(|(_, one)| &one.ami));
        let origins = self.origins_of(written.cloned().collect(), published, &mut blind).await?;
        let subnets =
            self.try_to("the subnets", &mut blind, || self.public_subnets(&group_seen.subnets)).await?;
        let sources = launched.into_iter().map(|(name, launched)| source(name, launched, &origins, &subnets));
        let member = |(id, ami, doors): Exposed| {
            let origin = origins.of(&ami);
            Member { id, origin, doors, ..Member::default() }
        };
        let mut seen = Seen {
            sources: sources.collect(),
            instances: exposed.into_iter().map(member).collect(),
            ..Seen::default()
        };
        self.behind(&mut seen, &mut blind).await?;
        seen.unseen = blind.0;
        Ok(seen)
    }

    /// Looks at what new instances are launched from.
    async fn launched(&self, launchers: &BTreeSet<Launcher>, blind: &mut Blind) -> Result<Launched> {
        let mut all = Launched::new();
        for launcher in launchers {
            let found = insist(&self.region, || self.blueprint(launcher)).await.map(|found| {
                found.ok_or_else(|| "it is not there, and nothing can be launched from it".to_owned())
            });
            match found {
                Ok(Ok(found)) => all.push(found),
                Ok(Err(why)) => blind.0.push((launcher.to_string(), why)),
                Err(error) => blind.add(&launcher.to_string(), error)?,
            }
        }
        Ok(all)
    }

    /// Looks at AMIs as they are written: by their ids, or by parameters that name them.
    async fn origins_of(
        &self,
        written: BTreeSet<String>,
        published: &BTreeMap<String, ImageId>,
        blind: &mut Blind,
    ) -> Result<Origins> {
        let mut origins = Origins { published: published.clone(), ..Origins::default() };
        let mut amis = BTreeSet::new();
        for written in written {
            let Some(parameter) = written.strip_prefix(RESOLVE) else {
                amis.insert(written);
                continue;
            };
            let found = self.try_to("a parameter", blind, || self.parameter(parameter)).await?;
            if let Some(ami) = found {
                amis.insert(ami.clone());
                origins.parameters.insert(written, ami);
            }
        }
        let amis: Vec<String> = amis.into_iter().collect();
        origins.amis = self.try_to("the AMIs", blind, || self.origins(&amis, IMAGE_TAG)).await?;
        Ok(origins)
    }

    /// Looks at what is behind the instances: their groups and profiles, and who is on them.
    async fn behind(&self, seen: &mut Seen, blind: &mut Blind) -> Result<()> {
        let doors =
            || seen.instances.iter().map(|one| &one.doors).chain(seen.sources.iter().map(|one| &one.doors));
        let groups: BTreeSet<String> =
            doors().flat_map(|doors| doors.security_groups.iter().cloned()).collect();
        let groups: Vec<String> = groups.into_iter().collect();
        let profiles: BTreeSet<String> = doors().filter_map(|doors| doors.profile.clone()).collect();
        seen.security_groups = self.try_to("the security groups", blind, || self.ingress(&groups)).await?;
        for profile in profiles {
            let what = format!("what the instance profile {profile} allows");
            let allowed = self.try_to(&what, blind, || self.allowed(&profile, &PERMISSIONS)).await?;
            seen.profiles.insert(profile, allowed);
        }
        seen.serial_consoles =
            self.try_to("whether serial consoles can be opened", blind, || self.serial_consoles()).await?;
        let ids: Vec<String> = seen.instances.iter().map(|one| one.id.clone()).collect();
        let managed =
            self.try_to("what Systems Manager runs commands on", blind, || self.managed(&ids)).await?;
        let mut asked: Vec<&mut Member> = seen.instances.iter_mut().collect();
        for member in &mut asked {
            member.managed = managed.contains(&member.id);
        }
        for members in asked.chunks_mut(AT_ONCE) {
            let mut work = JoinSet::new();
            for (number, member) in members.iter().enumerate() {
                let (aws, id, managed) = (self.clone(), member.id.clone(), member.managed);
                work.spawn(async move { (number, aws.one(&id, managed).await) });
            }
            while let Some(answer) = work.join_next().await {
                let (number, answer) = answer.doing(|| "looking at instances")?;
                let (touched, sessions, unseen) = answer?;
                (members[number].touched, members[number].sessions) = (touched, sessions);
                blind.0.extend(unseen.0);
            }
        }
        Ok(())
    }

    /// Looks at one instance: why it counts as touched, and who was on it.
    async fn one(&self, id: &str, managed: bool) -> Result<(Option<String>, BTreeSet<String>, Blind)> {
        let mut blind = Blind::default();
        let console = self.try_to(&format!("the console of {id}"), &mut blind, || self.console(id)).await?;
        let touched = report::on_console(&console).and_then(|report| report.touched);
        let sessions = if managed {
            self.try_to(&format!("the sessions of {id}"), &mut blind, || self.sessions(id)).await?
        } else {
            BTreeSet::new()
        };
        Ok((touched, sessions, blind))
    }

    /// Looks at something; when it cannot, that is remembered and nothing is seen there.
    async fn try_to<T, F>(&self, what: &str, blind: &mut Blind, ask: impl Fn() -> F) -> Result<T>
    where
        T: Default,
        F: Future<Output = Result<T, CallError>>,
    {
        match insist(&self.region, ask).await {
            Ok(seen) => Ok(seen),
            Err(error) => blind.add(what, error).map(|()| T::default()),
        }
    }
}

/// What is launched from a source. Where nothing is said of metadata, the AMI decides.
fn source(name: String, launched: Blueprint, origins: &Origins, subnets: &BTreeSet<String>) -> Source {
    let Blueprint { ami, mut doors, token, public } = launched;
    let ami = ami.as_deref();
    doors.metadata_v1 = !token.unwrap_or_else(|| ami.is_some_and(|ami| origins.token(ami)));
    doors.public_address = match (public, subnets.first()) {
        (Some(true), _) => Some("new instances get a public address".to_owned()),
        (None, Some(subnet)) => Some(format!("new instances get a public address in {subnet}")),
        _ => None,
    };
    Source { name, origins: ami.map(|ami| origins.of(ami)).into_iter().collect(), doors }
}

/// What is known of AMIs.
#[derive(Debug, Default)]
struct Origins {
    /// Those that the store's ledger has published.
    published: BTreeMap<String, ImageId>,
    /// The AMI for each parameter, as it is written in its place.
    parameters: BTreeMap<String, String>,
    /// The tag of those that are this account's own, and whether they require a token for metadata by themselves.
    amis: BTreeMap<String, (Option<String>, bool)>,
}

impl Origins {
    fn ami<'a>(&'a self, written: &'a str) -> &'a str {
        self.parameters.get(written).map_or(written, String::as_str)
    }

    fn of(&self, written: &str) -> Origin {
        let ami = self.ami(written);
        // The ledger knows more than a tag, which others may set.
        let tag = || self.amis.get(ami).and_then(|(tag, _)| tag.as_ref()?.parse().ok());
        Origin { name: ami.to_owned(), image: self.published.get(ami).copied().or_else(tag) }
    }

    fn token(&self, written: &str) -> bool {
        self.amis.get(self.ami(written)).is_some_and(|(_, token)| *token)
    }
}

/// What could not be looked at, and why.
#[derive(Debug, Default)]
struct Blind(Vec<(String, String)>);

impl Blind {
    /// Remembers why something could not be looked at.
    fn add(&mut self, what: &str, error: Error) -> Result<()> {
        if matches!(error.kind(), Kind::Interrupted) {
            return Err(error);
        }
        self.0.push((what.to_owned(), error.chain()));
        Ok(())
    }
}
