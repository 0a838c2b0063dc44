//! Decide: what was seen of a fleet, and when.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cluster::{Cluster, Membership};
use super::generation::Generation;
use crate::digest::ImageId;

/// What the names of those begin with that a group is about to launch by itself: no fleet's name has such a sign.
const COMING: &str = "coming#";

/// The name of one instance: the fleet's name and its launch number, such as `web-7`. Never used twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(pub String);

impl InstanceId {
    /// Returns the id of the launch `number` of `fleet`.
    #[must_use]
    pub fn new(fleet: &str, number: u64) -> Self {
        Self(format!("{fleet}-{number}"))
    }

    /// Returns the name of the `number`th that a group is about to launch by itself, and that has none yet. Whoever counts
    /// instances counts it, and nothing can be done to it.
    #[must_use]
    pub fn coming(number: usize) -> Self {
        Self(format!("{COMING}{number}"))
    }

    /// Tells whether it is not there yet, and comes by itself.
    #[must_use]
    pub fn is_coming(&self) -> bool {
        self.0.starts_with(COMING)
    }

    /// Returns the launch number; 0 when it has none.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What was seen of one fleet. It may be stale, and an instance that is absent once is not gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// When it was taken, by the provider's clock.
    pub at: Timestamp,
    /// Every instance that the provider knows.
    pub instances: Vec<Instance>,
    /// What kept it from seeing everything, such as a load balancer that does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The fleet as a whole, where the provider says how large it is and in which zones, and not the fleet file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// What the members of a stateful fleet say of the whole; `None` where there are none, or none answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
}

/// What a provider says of a fleet whose size is not rekiln's to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// How many instances it is to have, what rekiln added included: an autoscaler or a person may change it at any time.
    pub desired: u32,
    /// The zones that it is spread over, in order.
    pub zones: Vec<String>,
}

impl Census {
    /// A look that saw nothing.
    #[must_use]
    pub const fn empty(at: Timestamp) -> Self {
        Self { at, instances: Vec::new(), trouble: None, group: None, cluster: None }
    }

    /// Returns what is new since `before`: instances that changed or appeared, and those that are not there any more.
    #[must_use]
    pub fn since(&self, before: &Self) -> (Vec<Instance>, Vec<InstanceId>) {
        // Sorting what is sorted costs nothing; maps of ten thousand names would be most of a look's cost.
        let (old, now) = (sorted(&before.instances), sorted(&self.instances));
        let mut old = old.into_iter().peekable();
        let (mut changed, mut gone): (Vec<Instance>, Vec<InstanceId>) = (Vec::new(), Vec::new());
        for same in now.chunk_by(|a, b| a.id == b.id) {
            let id = &same[0].id;
            while let Some(passed) = old.next_if(|other| other.id < *id) {
                gone.push(passed.id.clone());
            }
            let mut last = None;
            while let Some(other) = old.next_if(|other| other.id == *id) {
                last = Some(other);
            }
            // Of two answers about one instance both are new, or the reader would learn of one only.
            if same.len() > 1 || last != Some(same[0]) {
                changed.extend(same.iter().map(|instance| (*instance).clone()));
            }
        }
        gone.extend(old.map(|instance| instance.id.clone()));
        gone.dedup();
        (changed, gone)
    }

    /// Takes over what [`Census::since`] said, and what was seen of the whole.
    pub fn advance(
        &mut self,
        at: Timestamp,
        changed: &[Instance],
        gone: &[InstanceId],
        group: Option<&Group>,
        cluster: Option<&Cluster>,
    ) {
        self.at = at;
        (self.group, self.cluster) = (group.cloned(), cluster.cloned());
        if changed.is_empty() && gone.is_empty() {
            return;
        }
        let gone: BTreeSet<_> = gone.iter().chain(changed.iter().map(|instance| &instance.id)).collect();
        self.instances.retain(|instance| !gone.contains(&instance.id));
        self.instances.extend(changed.iter().cloned());
        self.instances.sort_by(|a, b| a.id.cmp(&b.id));
    }
}

/// By name, in the order of the list where names are alike.
fn sorted(instances: &[Instance]) -> Vec<&Instance> {
    let mut sorted: Vec<_> = instances.iter().collect();
    sorted.sort_by(|a, b| a.id.cmp(&b.id));
    sorted
}

/// What was seen of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its name.
    pub id: InstanceId,
    /// What it was launched from; `None` when its record cannot be read.
    pub generation: Option<Generation>,
    /// The image it was launched from; one that reports another counts as touched.
    pub image: Option<ImageId>,
    /// Where it is in its life.
    pub state: State,
    /// What its health checks say, whether it gets requests or not.
    pub health: Health,
    /// Whether the load balancer gives it new requests.
    pub in_service: bool,
    /// When it was launched.
    pub launched_at: Timestamp,
    /// Why it counts as touched (someone was on it).
    pub touched: Option<String>,
    /// Requests and connections that it still serves.
    pub connections: u32,
    /// Where its health port answers.
    pub address: Option<SocketAddr>,
    /// The zone it is in, where there are zones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What its provider calls it where that is not `id`, such as `i-0123456789abcdef0`: what others say of it, such as
    /// alarms, has no other name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_as: Option<String>,
    /// What it is among the members of a stateful fleet; `None` where the fleet is none, or where it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub membership: Option<Membership>,
}

impl Instance {
    /// Tells whether it serves: running, healthy and in service. Anything unknown is a no.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.state == State::Running && self.health == Health::Healthy && self.in_service
    }
}

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Started; never in service yet.
    Launching,
    /// In service, or has been.
    Running,
    /// Taken out of service, finishing its requests.
    Draining,
    /// Its machine has ended; its record is still there.
    Dead,
}

/// What the health checks of an instance say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// The wanted number of good answers in a row.
    Healthy,
    /// Not, or not yet.
    Unhealthy,
    /// Cannot be told; never counts as healthy and never as failed.
    Unknown,
}
