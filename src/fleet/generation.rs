//! Decide: what makes two instances the same, and what makes them differ.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Fleet;
use crate::digest::{Digest, ImageId};

/// What an instance was launched from: the image and the launch configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// The digest over all parts.
    pub id: Digest,
    /// The parts by name, kept so that a difference can be named; shared, as thousands of instances have the same.
    pub parts: Arc<BTreeMap<String, String>>,
}

impl Generation {
    /// Returns the generation of `image` launched as `fleet` says.
    ///
    /// Only what reaches the instance is a part: the address of the load balancer or the pace of a roll are not. Of a fleet
    /// that is an Auto Scaling group the launch template has them, and only its provider can tell.
    #[must_use]
    pub fn of(fleet: &Fleet, image: ImageId) -> Self {
        let local = fleet.local.iter().flat_map(|local| {
            [
                ("memory", local.memory.clone()),
                ("cpus", local.cpus.to_string()),
                ("port", local.port.to_string()),
            ]
        });
        // Named only where they are there: other fleets keep their generations.
        let further = fleet.local.iter().flat_map(|local| {
            let forward = local.forward.iter().map(u16::to_string).collect::<Vec<_>>().join(" ");
            [
                local.network.then(|| ("network", "yes".to_owned())),
                local.data.clone().map(|data| ("data", data)),
                Some(("forward", forward)).filter(|(_, ports)| !ports.is_empty()),
            ]
        });
        let health = fleet.health.http.iter().map(|http| ("health port", http.port.to_string()));
        let parts =
            std::iter::once(("image", image.to_string())).chain(health).chain(local).chain(further.flatten());
        Self::from_parts(parts.map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// Returns the generation that has these parts.
    #[must_use]
    pub fn from_parts(parts: BTreeMap<String, String>) -> Self {
        // Lengths keep apart what would read the same when joined.
        let text: Vec<_> = parts.iter().map(|(n, v)| format!("{}:{n}{}:{v}", n.len(), v.len())).collect();
        let text = text.concat();
        Self { id: Digest::of(text.as_bytes()), parts: Arc::new(parts) }
    }

    /// Returns the image.
    #[must_use]
    pub fn image(&self) -> Option<ImageId> {
        self.parts.get("image").and_then(|image| image.parse().ok())
    }

    /// Names the parts in which `self` differs from `wanted`, in order; empty when it does not.
    #[must_use]
    pub fn drift(&self, wanted: &Self) -> Vec<String> {
        let (mut ours, mut theirs) = (self.parts.iter().peekable(), wanted.parts.iter().peekable());
        let mut names = Vec::new();
        // Both are in the order of names; each stale instance is asked at each look.
        while let Some((name, _)) = ours.peek().into_iter().chain(theirs.peek()).min() {
            let name = *name;
            if ours.next_if(|(other, _)| *other == name) != theirs.next_if(|(other, _)| *other == name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// Says what `part` is and should be, such as `memory 256M instead of 512M`; `None` when it is as it should be.
    #[must_use]
    pub fn difference(&self, wanted: &Self, part: &str) -> Option<String> {
        let (is, should) = (self.parts.get(part), wanted.parts.get(part));
        let shown = |value: Option<&String>| match value {
            None => "none".to_owned(),
            Some(value) => value.parse::<ImageId>().map_or_else(|_| value.clone(), |image| image.short()),
        };
        (is != should).then(|| format!("{part} {} instead of {}", shown(is), shown(should)))
    }
}

/// What the fleet should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The image.
    pub image: ImageId,
    /// The image and the launch configuration.
    pub generation: Generation,
}

impl Target {
    /// Returns the target of `fleet` with `image`.
    #[must_use]
    pub fn new(fleet: &Fleet, image: ImageId) -> Self {
        Self { image, generation: Generation::of(fleet, image) }
    }
}
