//! Where a fleet's instances live: whichever provider its file names.

use std::time::Duration;

use jiff::Timestamp;

#[cfg(feature = "aws")]
use super::aws::group::AutoScalingGroup;
use super::local::{Local, Qemu, bootable};
use super::{Action, Outcome, Provider, ProviderError};

use crate::catalog::Record;
use crate::digest::ImageId;
use crate::error::Result;
use crate::fleet::census::{Census, InstanceId};
use crate::fleet::generation::{Generation, Target};
use crate::fleet::{Fleet, Protocol};

mod stateful;

use stateful::Stateful;

/// The provider of one fleet, and its members, where they hold data.
pub struct Place {
    at: At,
    members: Option<Stateful>,
}

/// Where that is.
enum At {
    /// This computer.
    Local(Box<Local<Qemu>>),
    /// An EC2 Auto Scaling group.
    #[cfg(feature = "aws")]
    Group(Box<AutoScalingGroup>),
}

/// Does the same with whichever provider it is.
macro_rules! each {
    ($place:expr, $provider:ident => $work:expr) => {
        match $place {
            At::Local($provider) => $work,
            #[cfg(feature = "aws")]
            At::Group($provider) => $work,
        }
    };
}

impl Place {
    /// Returns a fleet of machines on this computer.
    ///
    /// # Errors
    /// Its `[stateful]` cannot be read.
    pub fn local(local: Local<Qemu>, fleet: &Fleet) -> Result<Self> {
        Ok(Self { at: At::Local(Box::new(local)), members: Stateful::of(fleet)? })
    }

    /// Returns an Auto Scaling group.
    ///
    /// # Errors
    /// Its `[stateful]` cannot be read.
    #[cfg(feature = "aws")]
    pub fn group(group: AutoScalingGroup, fleet: &Fleet) -> Result<Self> {
        Ok(Self { at: At::Group(Box::new(group)), members: Stateful::of(fleet)? })
    }

    /// Returns the machines on this computer.
    ///
    /// # Errors
    /// They live elsewhere; `doing` says what cannot be done there.
    #[cfg_attr(not(feature = "aws"), expect(unused_variables, reason = "without AWS everything is here"))]
    pub fn here(&self, doing: &str) -> Result<&Local<Qemu>> {
        match &self.at {
            At::Local(local) => Ok(local),
            #[cfg(feature = "aws")]
            At::Group(group) => {
                Err(crate::error::Error::invalid(format!("{doing} is not for {}", group.place())))
            }
        }
    }

    /// Returns what `image` is launched as.
    ///
    /// # Errors
    /// The provider does not have it.
    pub fn target(&self, fleet: &Fleet, image: ImageId) -> Result<Target> {
        match &self.at {
            At::Local(_) => Ok(Target::new(fleet, image)),
            #[cfg(feature = "aws")]
            At::Group(group) => group.target(image, &fleet.image),
        }
    }

    /// Refuses an image that instances here cannot run.
    ///
    /// # Errors
    /// As [`bootable`] for a fleet on this computer.
    pub fn may_run(&self, image: &Record) -> Result<()> {
        match &self.at {
            At::Local(_) => bootable(image).map(drop),
            #[cfg(feature = "aws")]
            At::Group(_) => Ok(()),
        }
    }

    /// Returns where its requests arrive, or where it is, for people.
    #[must_use]
    pub fn told(&self, fleet: &Fleet) -> String {
        match &self.at {
            At::Local(_) => fleet.local.as_ref().map_or_else(String::new, |local| match local.protocol {
                Protocol::Http => format!("http://{}/", local.listen),
                Protocol::Tcp => local.listen.to_string(),
            }),
            #[cfg(feature = "aws")]
            At::Group(group) => group.place(),
        }
    }

    /// Says what a roll would make first; `None` where all that instances live in is there.
    #[must_use]
    pub fn unmade(&self) -> Option<String> {
        match &self.at {
            At::Local(_) => None,
            #[cfg(feature = "aws")]
            At::Group(group) => group.unmade(),
        }
    }

    /// Tells whether the fleet's file says what instances are launched as, whatever is launched now.
    #[must_use]
    pub fn is_designed(&self) -> bool {
        match &self.at {
            At::Local(_) => false,
            #[cfg(feature = "aws")]
            At::Group(group) => group.is_designed(),
        }
    }

    /// Tells whether this process has made what the instances live in.
    #[must_use]
    pub fn is_made(&self) -> bool {
        match &self.at {
            At::Local(_) => false,
            #[cfg(feature = "aws")]
            At::Group(group) => group.is_made(),
        }
    }

    /// Says in what that is other than the fleet's file says and no roll changes, one line each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        match &self.at {
            At::Local(_) => &[],
            #[cfg(feature = "aws")]
            At::Group(group) => group.notes(),
        }
    }

    /// Returns a target that completed before as it was then; `None` where it is launched as the fleet's file says now.
    #[cfg_attr(not(feature = "aws"), expect(unused_variables, reason = "without AWS everything is here"))]
    #[must_use]
    pub fn as_it_was(&self, before: &Target) -> Option<Target> {
        match &self.at {
            At::Local(_) => None,
            #[cfg(feature = "aws")]
            At::Group(group) => group.as_it_was(before),
        }
    }

    /// Returns how many calls were made of the provider, where that is worth knowing.
    #[must_use]
    pub fn calls(&self) -> Option<u64> {
        match &self.at {
            At::Local(_) => None,
            #[cfg(feature = "aws")]
            At::Group(group) => Some(group.calls()),
        }
    }
}

impl At {
    async fn census(&self) -> Result<Census, ProviderError> {
        each!(self, provider => provider.census().await)
    }

    async fn apply(&self, action: &Action) -> Result<Outcome, ProviderError> {
        each!(self, provider => provider.apply(action).await)
    }

    async fn kill(&self, id: &InstanceId, others: usize) -> Result<Outcome, ProviderError> {
        each!(self, provider => provider.kill(id, others).await)
    }
}

impl Provider for Place {
    async fn make(&self, target: &Target) -> Result<()> {
        each!(&self.at, provider => provider.make(target).await)
    }

    async fn prepare(&self) -> Result<()> {
        each!(&self.at, provider => provider.prepare().await)
    }

    async fn census(&self) -> Result<Census, ProviderError> {
        match &self.members {
            None => self.at.census().await,
            Some(members) => members.census(&self.at).await,
        }
    }

    async fn apply(&self, action: &Action) -> Result<Outcome, ProviderError> {
        match &self.members {
            None => self.at.apply(action).await,
            Some(members) => members.apply(&self.at, action).await,
        }
    }

    async fn kill(&self, id: &InstanceId, others: usize) -> Result<Outcome, ProviderError> {
        match &self.members {
            None => self.at.kill(id, others).await,
            Some(members) => members.kill(&self.at, id, others).await,
        }
    }

    async fn console_tail(&self, id: &InstanceId) -> Vec<String> {
        each!(&self.at, provider => provider.console_tail(id).await)
    }

    async fn release(&self, arrived: Option<&Generation>) -> Result<()> {
        each!(&self.at, provider => provider.release(arrived).await)
    }

    fn now(&self) -> Timestamp {
        each!(&self.at, provider => provider.now())
    }

    async fn wait(&self, time: Duration) {
        each!(&self.at, provider => provider.wait(time).await);
    }
}
