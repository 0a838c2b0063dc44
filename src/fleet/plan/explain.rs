//! Tell: what each instance is, and what is waited for, with all that a person asks next.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Hold, Kind, Standing};
use crate::fleet::census::Instance;
use crate::fleet::generation::Target;

/// So many instances that wait for the same are named in lines of their own; more of them in one line.
const ONE_BY_ONE: usize = 3;

impl Standing {
    /// Says what it is and, of a stale one, what each part that differs is and should be. `seen` is what was seen of it.
    #[must_use]
    pub fn told(&self, seen: Option<&Instance>, target: &Target) -> String {
        let Kind::Stale(why) = &self.kind else { return self.kind.to_string() };
        let generation = seen.and_then(|seen| seen.generation.as_ref());
        let reasons = why.reasons.iter().map(|reason| {
            let differs = generation.and_then(|generation| generation.difference(&target.generation, reason));
            differs.unwrap_or_else(|| reason.clone())
        });
        format!("stale: {}", reasons.collect::<Vec<_>>().join(", "))
    }
}

/// Says what is waited for to who reads at `now`, in the order of `holds`: what many instances wait for in one line.
#[must_use]
pub fn waiting(holds: &[Hold], now: Timestamp) -> Vec<String> {
    let mut alike: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (id, what) in holds.iter().filter_map(of_one) {
        alike.entry(what).or_default().push(id);
    }
    alike.retain(|_, ids| ids.len() > ONE_BY_ONE);
    let mut lines = Vec::new();
    for hold in holds {
        match of_one(hold).filter(|(_, what)| alike.contains_key(what)) {
            None => lines.push(hold.told(now)),
            Some((id, what)) => {
                let Some(ids) = alike.get(what).filter(|ids| ids.first() == Some(&id)) else { continue };
                lines.push(format!("{} {what}: {}, …", ids.len(), ids[..ONE_BY_ONE].join(", ")));
            }
        }
    }
    lines
}

/// What a hold of one instance is of many.
fn of_one(hold: &Hold) -> Option<(&str, &'static str)> {
    let (id, what) = match hold {
        Hold::Starting { id } => (id, "do not serve yet"),
        Hold::Draining { id, .. } => (id, "still serve their last connections"),
        Hold::Unknown { id } => (id, "are of unknown health"),
        Hold::Absent { id } => (id, "are not seen; absent once is not gone"),
        Hold::Floor { id } => (id, "serve until enough others do"),
        _ => return None,
    };
    Some((&id.0, what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::census::InstanceId;

    #[test]
    fn what_many_wait_for_is_one_line() {
        let starting = |number| Hold::Starting { id: InstanceId::new("web", number) };
        let floor = || Hold::Floor { id: InstanceId::new("web", 99) };
        let now = Timestamp::UNIX_EPOCH;
        let few: Vec<_> = (1..=3).map(starting).chain([floor()]).collect();
        assert_eq!(waiting(&few, now).len(), 4, "{:?}", waiting(&few, now));
        let many: Vec<_> = [floor()].into_iter().chain((1..=17).map(starting)).collect();
        assert_eq!(
            waiting(&many, now),
            ["web-99 serves until enough others do", "17 do not serve yet: web-1, web-2, web-3, …"]
        );
    }
}
