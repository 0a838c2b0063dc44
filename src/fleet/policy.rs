//! Decide: the fleet file's words as numbers.

use jiff::SignedDuration;

use super::{Fleet, Share};
use crate::error::{Doing as _, Error, Result};
use crate::notation;

/// What the planner needs of a fleet file, parsed and consistent: `surge` and `unavailable` are not both 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How many instances.
    pub size: usize,
    /// How many may exist above `size`.
    pub surge: usize,
    /// How many below `size` may be serving by our own doing.
    pub unavailable: usize,
    /// Launched and not serving after this long: failed.
    pub deadline: SignedDuration,
    /// How long a drained instance may take to finish its requests.
    pub drain: SignedDuration,
    /// More failed instances than this end the rollout.
    pub failures: usize,
}

impl Policy {
    /// Reads the policy of a fleet file.
    ///
    /// # Errors
    /// A duration or share that cannot be read; `surge` and `unavailable` both 0.
    pub fn of(fleet: &Fleet) -> Result<Self> {
        let size = fleet.size as usize;
        let policy = Self {
            size,
            surge: share("roll.surge", &fleet.roll.surge, size, true)?,
            unavailable: share("roll.unavailable", &fleet.roll.unavailable, size, false)?.min(size),
            deadline: duration("health.deadline", &fleet.health.deadline)?,
            drain: duration("roll.drain", &fleet.roll.drain)?,
            failures: fleet.roll.failures as usize,
        };
        if policy.surge == 0 && policy.unavailable == 0 {
            return Err(Error::invalid(
                "`roll.surge` and `roll.unavailable` are both 0: nothing could ever be replaced",
            )
            .hint(
                "set `surge = 1` to launch the replacement first, or `unavailable = 1` to replace in place",
            ));
        }
        Ok(policy)
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

fn duration(key: &str, text: &str) -> Result<SignedDuration> {
    let value = notation::duration(text).map_err(|why| Error::invalid(format!("`{key}`: {why}")))?;
    SignedDuration::try_from(value).doing(|| format!("reading `{key}`"))
}

fn share(key: &str, share: &Share, size: usize, up: bool) -> Result<usize> {
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
            (100, "'1%'", "'1%'", (1, 1)),
        ];
        for (size, surge, unavailable, wanted) in table {
            let policy = policy(size, surge, unavailable).expect("a policy");
            assert_eq!((policy.surge, policy.unavailable), wanted, "{size} {surge} {unavailable}");
            assert_eq!(policy.ceiling() - policy.floor(), wanted.0 + wanted.1);
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
