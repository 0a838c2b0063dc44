//! Decide: which instances of a fleet a rotation means.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::census::{Census, Instance, InstanceId, State};
use crate::digest::ImageId;

/// What a person asked for. An instance is meant when everything that is asked for is so; without anything, all are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these.
    pub instances: Option<BTreeSet<InstanceId>>,
    /// Only those that run this image.
    pub image: Option<ImageId>,
    /// Only those whose image has a package.
    pub package: Option<Package>,
    /// Only those that were launched at least this long ago.
    pub older_than: Option<SignedDuration>,
    /// Only those that someone was on.
    pub touched: bool,
}

/// What the catalog says of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Package {
    /// The images that have it.
    pub images: BTreeSet<ImageId>,
    /// The images that the catalog knows; of others nobody can tell.
    pub known: BTreeSet<ImageId>,
}

/// What a selection finds in a fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chosen {
    /// The instances that are meant, in the order of the census.
    pub ids: Vec<InstanceId>,
    /// Instances that may be meant: what their image has cannot be told. They are in no one's way unless named.
    pub unclear: Vec<InstanceId>,
}

impl Selection {
    /// Tells whether nothing is asked for: then all instances are meant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Chooses among the living instances of a fleet.
    #[must_use]
    pub fn choose(&self, census: &Census) -> Chosen {
        let mut chosen = Chosen::default();
        let living = census.instances.iter().filter(|instance| instance.state != State::Dead);
        for instance in living.filter(|instance| self.but_for_the_package(census, instance)) {
            let has = match (&self.package, instance.image) {
                (None, _) => Some(true),
                (Some(package), Some(image)) if package.known.contains(&image) => {
                    Some(package.images.contains(&image))
                }
                (Some(_), _) => None,
            };
            match has {
                Some(true) => chosen.ids.push(instance.id.clone()),
                Some(false) => {}
                None => chosen.unclear.push(instance.id.clone()),
            }
        }
        chosen
    }

    fn but_for_the_package(&self, census: &Census, instance: &Instance) -> bool {
        let age = census.at.duration_since(instance.launched_at);
        self.instances.as_ref().is_none_or(|ids| ids.contains(&instance.id))
            && self.image.is_none_or(|image| instance.image == Some(image))
            && self.older_than.is_none_or(|least| age >= least)
            && (!self.touched || instance.touched.is_some())
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::digest::Digest;
    use crate::fleet::census::Health;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn image(name: &str) -> ImageId {
        Digest::of(name.as_bytes())
    }

    fn instance(number: u64, of: Option<&str>, hours: i64, touched: bool, state: State) -> Instance {
        Instance {
            id: InstanceId::new("web", number),
            generation: None,
            image: of.map(image),
            state,
            health: Health::Healthy,
            in_service: true,
            launched_at: NOW - SignedDuration::from_hours(hours),
            touched: touched.then(|| "a session".to_owned()),
            connections: 0,
            address: None,
            zone: None,
            known_as: None,
            membership: None,
        }
    }

    #[test]
    fn everything_asked_for_must_be_so() {
        let running = State::Running;
        let instances = vec![
            instance(1, Some("old"), 50, false, running),
            instance(2, Some("old"), 10, true, running),
            instance(3, Some("new"), 5, false, State::Draining),
            instance(4, Some("lost"), 5, false, running),
            instance(5, None, 60, false, State::Launching),
            instance(6, Some("old"), 90, true, State::Dead),
        ];
        let census = Census { at: NOW, instances, trouble: None, group: None, cluster: None };
        let any = Selection::default;
        let ids = |numbers: &[u64]| -> BTreeSet<_> {
            numbers.iter().map(|number| InstanceId::new("web", *number)).collect()
        };
        let package = || {
            let images = [image("old")].into();
            Some(Package { images, known: [image("old"), image("new")].into() })
        };
        let hours = |hours| Some(SignedDuration::from_hours(hours));
        let table: [(Selection, &[u64], &[u64]); 10] = [
            (any(), &[1, 2, 3, 4, 5], &[]),
            (Selection { instances: Some(ids(&[2, 6])), ..any() }, &[2], &[]),
            (Selection { image: Some(image("old")), ..any() }, &[1, 2], &[]),
            (Selection { image: Some(image("none")), ..any() }, &[], &[]),
            (Selection { package: package(), ..any() }, &[1, 2], &[4, 5]),
            (Selection { package: package(), older_than: hours(50), ..any() }, &[1], &[5]),
            (Selection { package: Some(Package::default()), touched: true, ..any() }, &[], &[2]),
            (Selection { older_than: hours(10), ..any() }, &[1, 2, 5], &[]),
            (Selection { touched: true, ..any() }, &[2], &[]),
            (Selection { touched: true, older_than: hours(11), ..any() }, &[], &[]),
        ];
        for (selection, meant, unclear) in table {
            let chosen = selection.choose(&census);
            let wanted =
                Chosen { ids: ids(meant).into_iter().collect(), unclear: ids(unclear).into_iter().collect() };
            assert_eq!(chosen, wanted, "{selection:?}");
        }
        assert!(any().is_all());
        assert!(!Selection { instances: Some(BTreeSet::new()), ..any() }.is_all());
    }
}
