//! Decide: whether a change reaches so many instances that a person has to say yes.

use super::plan::{Kind, Standing};
use crate::notation;

/// How much a change reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Instances that serve and that the change makes stale.
    pub stale: usize,
    /// How many instances all fleets of the repository are to have.
    pub all: usize,
}

impl Reach {
    /// Counts in a plan's members. One that is old or touched as well is counted: it goes because of the change too;
    /// one that is only old is not. One of which nothing can be told is taken for one that serves.
    #[must_use]
    pub fn of(members: &[Standing], all: usize) -> Self {
        let serves = |kind: &Kind| {
            matches!(kind, Kind::Stale(_) | Kind::Starting | Kind::Unknown | Kind::Absent | Kind::Current)
        };
        let stale = members.iter().filter(|member| !member.new && serves(&member.kind)).count();
        Self { stale, all }
    }

    /// Says what is out of the ordinary when the change reaches more than the share `guard`, such as `25%`; `None`
    /// when it does not, or there is no guard.
    ///
    /// # Errors
    /// A share that does not read.
    pub fn beyond(self, guard: Option<&str>) -> Result<Option<String>, String> {
        let Some(guard) = guard else { return Ok(None) };
        let percent = notation::percent(guard).map_err(|why| format!("`roll.guard`: {why}"))? as usize;
        // Multiplied out, so that nothing is rounded: exactly the share is still in order.
        let beyond = self.stale * 100 > percent * self.all;
        Ok(beyond.then(|| {
            let Self { stale, all } = self;
            format!("it replaces {stale} of the {all} instances of all fleets, and `roll.guard` is {guard}")
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::census::InstanceId;
    use crate::fleet::plan::{Urgency, Why};

    #[test]
    fn more_than_the_share_is_out_of_the_ordinary() {
        for (stale, all, guard, beyond) in [
            (3, 3, None, false),
            (0, 3, Some("0%"), false),
            (1, 3, Some("0%"), true),
            (1, 4, Some("25%"), false),
            (2, 4, Some("25%"), true),
            // A third is more than 33 %, and not more than 34 %.
            (1, 3, Some("33%"), true),
            (1, 3, Some("34%"), false),
            (3, 3, Some("100%"), false),
            // More run than the files ask for.
            (4, 3, Some("100%"), true),
            (0, 0, Some("50%"), false),
        ] {
            let said = Reach { stale, all }.beyond(guard).expect("a share");
            assert_eq!(said.is_some(), beyond, "{stale} of {all}, {guard:?}: {said:?}");
        }
        for guard in ["25", "101%", "some"] {
            assert!(Reach { stale: 0, all: 1 }.beyond(Some(guard)).is_err(), "{guard}");
        }
    }

    #[test]
    fn what_serves_and_differs_is_counted() {
        let stale = |urgency| Kind::Stale(Why { urgency, reasons: Vec::new() });
        let member = |kind, new| Standing {
            id: InstanceId("web-1".to_owned()),
            kind,
            zone: None,
            new,
            launched_at: None,
        };
        for (kind, new, count) in [
            (stale(Urgency::Differs), false, 1),
            (stale(Urgency::TooOld), false, 1),
            (stale(Urgency::TooOld), true, 0),
            (stale(Urgency::Wanted), true, 0),
            (Kind::Current, true, 0),
            (Kind::Unknown, false, 1),
            (Kind::Starting, false, 1),
            (Kind::Unhealthy, false, 0),
            (Kind::Draining, false, 0),
        ] {
            let reach = Reach::of(&[member(kind.clone(), new)], 9);
            assert_eq!(reach, Reach { stale: count, all: 9 }, "{kind:?}");
        }
    }
}
