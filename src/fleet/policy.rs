//! Decide: the fleet file's words as numbers.

use jiff::SignedDuration;

use super::census::{Census, Group};
use super::history::History;
use super::stateful::Copies;
use super::windows::Windows;
use super::{Fleet, OnFailure, Share, Zones};
use crate::error::{Doing as _, Error, Result};
use crate::notation;

/// What the planner needs of a fleet file, parsed and consistent: `surge` and `unavailable` are not both 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How many instances.
    pub size: usize,
    /// How many may exist above `size`.
    pub surge: usize,
    /// How many below `size` may be serving by our own doing.
    pub unavailable: usize,
    /// How many instances are new at the end of each wave; ascending, the last is `size`.
    pub waves: Vec<usize>,
    /// How long a wave must serve before the next one.
    pub soak: SignedDuration,
    /// Launched and not serving after this long: failed.
    pub deadline: SignedDuration,
    /// How long a drained instance may take to finish its requests.
    pub drain: SignedDuration,
    /// More failed instances than this end the rollout.
    pub failures: usize,
    /// What happens then.
    pub on_failure: OnFailure,
    /// The zones that instances are spread over; none when there are no zones.
    pub zones: Vec<String>,
    /// Whether one zone is finished before the next begins.
    pub one_zone: bool,
    /// When replacing may begin.
    pub windows: Windows,
    /// How many may be replaced in an hour.
    pub rate: Option<usize>,
    /// Older instances are replaced.
    pub max_age: Option<SignedDuration>,
    /// The gates that each wave must pass, by name.
    pub gates: Vec<String>,
    /// How its members hold data; `None` where they hold none.
    pub copies: Option<Copies>,
}

impl Policy {
    /// Reads the policy of a fleet file.
    ///
    /// # Errors
    /// Words that cannot be read; `surge` and `unavailable` both 0; waves that do not ascend.
    pub fn of(fleet: &Fleet) -> Result<Self> {
        let zones = fleet.local.as_ref().map_or_else(Vec::new, |local| local.zones.clone());
        let policy = Self::with(fleet, fleet.size as usize, zones)?;
        if policy.surge == 0 && policy.unavailable == 0 {
            return Err(Error::invalid(
                "`roll.surge` and `roll.unavailable` are both 0: nothing could ever be replaced",
            )
            .hint(
                "set `surge = 1` to launch the replacement first, or `unavailable = 1` to replace in place",
            ));
        }
        policy.holds_data()?;
        Ok(policy.within_size())
    }

    /// Checks that so many members can be replaced while as many others have all data as must.
    fn holds_data(&self) -> Result<()> {
        let Some(copies) = &self.copies else { return Ok(()) };
        // The leader, and without surge the one that is missing meanwhile.
        let others = self.size.saturating_sub(1 + usize::from(self.surge == 0));
        // A group's size is not the file's.
        if self.size == 0 || others >= copies.synchronous {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "`stateful.synchronous` is {}, and while one of {} members is replaced {others} are left beside the leader",
            copies.synchronous, self.size
        ))
        .hint("a larger `size`, `roll.surge = 1`, or fewer synchronous members"))
    }

    /// Reads the policy of a fleet for a size that is not the fleet file's. Shares of a small one may leave neither one
    /// above it nor one below: then the replacement is launched first, since the file's shares let others be replaced.
    ///
    /// # Errors
    /// Words that cannot be read.
    pub fn sized(fleet: &Fleet, size: u32, zones: Vec<String>) -> Result<Self> {
        let policy = Self::with(fleet, size as usize, zones)?.within_size();
        let stuck = policy.surge == 0 && policy.unavailable == 0;
        Ok(Self { surge: if stuck { 1 } else { policy.surge }, ..policy })
    }

    /// Reads the policy of a fleet whose size and zones its provider says; `None` when they are the fleet file's.
    ///
    /// # Errors
    /// As [`Policy::of`].
    pub fn seen(fleet: &Fleet, census: &Census, history: &History) -> Result<Option<Self>> {
        let sized = |group: &Group| {
            let seen = || u32::try_from(own_size(group, history).max(0)).unwrap_or(u32::MAX);
            let size = history.size.unwrap_or_else(seen);
            Self::sized(fleet, size, group.zones.clone())
        };
        census.group.as_ref().map(sized).transpose()
    }

    fn with(fleet: &Fleet, size: usize, zones: Vec<String>) -> Result<Self> {
        let roll = &fleet.roll;
        let words = |key: &str, why: String| Error::invalid(format!("`{key}`: {why}"));
        let policy = Self {
            size,
            // A share of nothing is nothing; a group that is empty now may grow.
            surge: share("roll.surge", &roll.surge, size.max(1), true)?,
            unavailable: share("roll.unavailable", &roll.unavailable, size.max(1), false)?,
            waves: waves(fleet, size)?,
            soak: duration("roll.soak", &roll.soak)?,
            deadline: duration("health.deadline", &fleet.health.deadline)?,
            drain: duration("roll.drain", &roll.drain)?,
            failures: roll.failures as usize,
            on_failure: roll.on_failure,
            zones,
            one_zone: roll.zones == Zones::OneAtATime,
            windows: Windows::parse(&roll.windows, &roll.except).map_err(|why| words("roll.windows", why))?,
            rate: match &roll.rate {
                Some(text) => Some(notation::rate(text).map_err(|why| words("roll.rate", why))? as usize),
                None => None,
            },
            max_age: match &fleet.replace.max_age {
                Some(text) => Some(duration("replace.max_age", text)?),
                None => None,
            },
            gates: fleet.gates.iter().map(|gate| gate.name.clone()).collect(),
            copies: Copies::of(fleet)?,
        };
        Ok(policy)
    }

    /// No more can be missing than there are.
    fn within_size(self) -> Self {
        Self { unavailable: self.unavailable.min(self.size), ..self }
    }

    /// Returns how many instances may exist at most.
    #[must_use]
    pub const fn ceiling(&self) -> usize {
        self.size + self.surge
    }

    /// Returns how many must serve before and after whatever we do.
    #[must_use]
    pub const fn floor(&self) -> usize {
        self.size - self.unavailable
    }
}

/// The size of a group without what rekiln added, as a list says it that may be older than the last acts; below 0 where its
/// owner took away some of that too.
pub(super) fn own_size(group: &Group, history: &History) -> i64 {
    i64::from(group.desired) - history.added
}

/// The canary, the waves and the whole fleet, as counts; what is not more than what came before is left out.
fn waves(fleet: &Fleet, size: usize) -> Result<Vec<usize>> {
    let named = std::iter::once(("roll.canary", &fleet.roll.canary));
    let named = named.chain(fleet.roll.waves.iter().map(|wave| ("roll.waves", wave)));
    let mut counts: Vec<usize> = Vec::new();
    for (key, wave) in named {
        let count = share(key, wave, size, true)?.min(size);
        if counts.last().is_none_or(|last| count > *last) && count > 0 {
            counts.push(count);
        }
    }
    if counts.last() != Some(&size) {
        counts.push(size);
    }
    Ok(counts)
}

/// Reads the duration of a key of the fleet file.
///
/// # Errors
/// It does not read; the key is named.
pub(super) fn duration(key: &str, text: &str) -> Result<SignedDuration> {
    let value = notation::duration(text).map_err(|why| Error::invalid(format!("`{key}`: {why}")))?;
    SignedDuration::try_from(value).doing(|| format!("reading `{key}`"))
}

/// Reads a count, or a share of `size`, rounded up or down.
///
/// # Errors
/// It does not read; the key is named.
pub fn share(key: &str, share: &Share, size: usize, up: bool) -> Result<usize> {
    match share {
        Share::Count(count) => Ok(*count as usize),
        Share::Percent(text) => {
            let percent = notation::percent(text).map_err(|why| Error::invalid(format!("`{key}`: {why}")))?;
            let part = size * percent as usize;
            Ok(if up { part.div_ceil(100) } else { part / 100 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(size: u32, surge: &str, unavailable: &str) -> Result<Policy> {
        let text = format!(
            "image = 'web'\nsize = {size}\n[local]\nlisten = '127.0.0.1:1'\nport = 80\n\
             [health]\nhttp = {{ port = 80, path = '/' }}\n[roll]\nsurge = {surge}\nunavailable = {unavailable}\n"
        );
        Policy::of(&toml::from_str(&text).expect("a fleet file"))
    }

    #[test]
    fn shares_round_to_the_side_that_serves() {
        let table = [
            (3, "1", "0", (1, 0)),
            (3, "'25%'", "'25%'", (1, 0)),
            (4, "'25%'", "'25%'", (1, 1)),
            (5, "'25%'", "'50%'", (2, 2)),
            (10, "'100%'", "'0%'", (10, 0)),
            (2, "0", "7", (0, 2)),
            // A group's size is not the file's: what it allows is found when it is seen.
            (0, "0", "1", (0, 0)),
            (100, "'1%'", "'1%'", (1, 1)),
        ];
        for (size, surge, unavailable, wanted) in table {
            let policy = policy(size, surge, unavailable).expect("a policy");
            assert_eq!((policy.surge, policy.unavailable), wanted, "{size} {surge} {unavailable}");
            assert_eq!(policy.ceiling() - policy.floor(), wanted.0 + wanted.1);
        }
    }

    #[test]
    fn a_group_of_few_is_replaced_one_above_its_size_where_its_shares_leave_none() {
        let text = "image = 'web'\nsize = 9\n[local]\nlisten = '127.0.0.1:1'\nport = 80\n\
                    [health]\nhttp = { port = 80, path = '/' }\n[roll]\nsurge = 0\nunavailable = '34%'\n";
        let fleet: Fleet = toml::from_str(text).expect("a fleet file");
        for (size, wanted) in [(0, (1, 0)), (1, (1, 0)), (2, (1, 0)), (3, (0, 1)), (9, (0, 3))] {
            let policy = Policy::sized(&fleet, size, Vec::new()).expect("a policy");
            assert_eq!((policy.surge, policy.unavailable), wanted, "{size}");
        }
    }

    #[test]
    fn waves_are_counts_and_end_with_the_whole_fleet() {
        let table: [(u32, &str, &[usize]); 6] = [
            (10, "", &[10]),
            (10, "canary = 1", &[1, 10]),
            (10, "canary = '5%'\nwaves = ['25%', '100%']", &[1, 3, 10]),
            (2, "canary = 1\nwaves = ['5%', '25%', '100%']", &[1, 2]),
            (3, "waves = [2]", &[2, 3]),
            (3, "canary = 7", &[3]),
        ];
        for (size, roll, wanted) in table {
            let text = format!(
                "image = 'web'\nsize = {size}\n[local]\nlisten = '127.0.0.1:1'\nport = 80\n\
                 [health]\nhttp = {{ port = 80, path = '/' }}\n[roll]\n{roll}\n"
            );
            let policy = Policy::of(&toml::from_str(&text).expect("a fleet file")).expect("a policy");
            assert_eq!(policy.waves, wanted, "{size} {roll}");
        }
    }

    #[test]
    fn what_can_never_move_or_be_read_is_refused() {
        for (size, surge, unavailable) in [
            (3, "0", "0"),
            (3, "0", "'25%'"),
            (3, "'101%'", "0"),
            (3, "'-1%'", "0"),
            (3, "'some'", "0"),
            (3, "' 1%'", "0"),
        ] {
            let error = policy(size, surge, unavailable).expect_err(surge);
            assert_eq!(error.exit_code(), 2, "{error:?}");
        }
    }
}
