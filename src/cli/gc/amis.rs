//! What `rekiln gc` does where images are published.

use std::fmt;

use super::super::Context;
use super::super::fleet::table;
use super::plural;
#[cfg(feature = "aws")]
use crate::error::Kind as ErrorKind;
use crate::error::{Error, Result};
#[cfg(feature = "aws")]
use crate::gc::amis::Basis;
#[cfg(feature = "aws")]
use crate::gc::amis::look::{Clouds, connect, look};
#[cfg(feature = "aws")]
use crate::gc::amis::remove::{Removed, remove};
use crate::gc::amis::{Decision, Kind};
use crate::gc::look::Sources;
use crate::gc::{Rules, Seen};

/// What was decided about published images.
pub(super) struct Amis {
    decisions: Vec<Decision>,
    /// Whether what is shared with accounts that were not looked at goes too.
    #[cfg(feature = "aws")]
    shared: bool,
    #[cfg(feature = "aws")]
    clouds: Clouds,
}

impl Amis {
    /// Looks at every place that is published in, and decides.
    ///
    /// # Errors
    /// One of them cannot be looked at.
    #[cfg(feature = "aws")]
    pub(super) fn look(context: &Context, seen: &Seen, rules: Rules, shared: bool) -> Result<Self> {
        let looked = context.block_on(async {
            let (clouds, left) = connect(&seen.published).await?;
            for error in left {
                let why = error.during("left alone, as Git publishes nothing there any more").chain();
                context.output.line(why);
            }
            let basis = Basis { seen, rules, shared };
            let decisions = look(&clouds, basis, jiff::Timestamp::now()).await?;
            Ok(Self { decisions, shared, clouds })
        });
        looked.map_err(|error: Error| {
            error.during("looking at what is published").hint(
                "nothing was removed, as this may reach anything; `--local` leaves out what is published",
            )
        })
    }

    /// Without AWS nothing can be seen there; nothing is claimed to be.
    #[cfg(not(feature = "aws"))]
    #[expect(clippy::unnecessary_wraps, reason = "with AWS it can fail")]
    pub(super) fn look(context: &Context, seen: &Seen, _: Rules, _: bool) -> Result<Self> {
        if !seen.published.places.is_empty() || !seen.published.former.is_empty() {
            context.output.line("what is published is left alone: this rekiln was built without AWS");
        }
        Ok(Self { decisions: Vec::new() })
    }

    /// How much goes.
    pub(super) fn going(&self) -> Count {
        Count::of(self.decisions.iter().filter(|decision| decision.removes()))
    }

    /// Shows each with its reasons.
    pub(super) fn show(&self, context: &Context) {
        let mut rows = Vec::new();
        for decision in &self.decisions {
            let Decision { kind, site, id, image, recipe, why, .. } = decision;
            let goes = decision.removes();
            let why: Vec<_> = why.iter().map(ToString::to_string).collect();
            context.output.json(&serde_json::json!({
                "event": if goes { "removes" } else { "keeps" }, "what": kind, "id": id, "image": image,
                "name": recipe, "account": site.account, "region": site.region, "why": why,
            }));
            let verb = if goes { "remove" } else { "keep" };
            let cells = [verb, id, &site.region, &site.account, recipe, &image.short(), &why.join("; ")];
            rows.push(cells.map(str::to_owned).to_vec());
        }
        for line in table(&rows) {
            context.output.line(line);
        }
    }

    /// Removes what was decided, as far as nothing reaches it by now, and says what stays. Returns how much is gone, and
    /// what could not be removed, when all else was.
    ///
    /// # Errors
    /// What reaches what cannot be told any more; Ctrl-C.
    #[cfg(feature = "aws")]
    pub(super) fn remove(
        &self,
        context: &Context,
        sources: Sources<'_>,
        rules: Rules,
    ) -> Result<(Count, Option<Error>)> {
        let work = || {
            context.block_on(async {
                let seen = sources.look(false).await?;
                let basis = Basis { seen: &seen, rules, shared: self.shared };
                let still = look(&self.clouds, basis, jiff::Timestamp::now()).await?;
                remove(sources.store, &self.clouds, &self.decisions, &still, context.progress()).await
            })
        };
        let removed = crate::interrupt::stoppable(work).map_err(|error| match error.kind() {
            ErrorKind::Interrupted => Error::interrupted("interrupted; what was removed is gone")
                .hint("run `rekiln gc` again for the rest"),
            _ => error,
        });
        let Removed { gone, left, mut failed } = removed?;
        for line in left {
            context.output.line(line);
        }
        let last = failed.pop();
        for error in &failed {
            context.output.error(error);
        }
        Ok((Count::of(gone.iter()), last))
    }

    #[cfg(not(feature = "aws"))]
    #[expect(clippy::unnecessary_wraps, reason = "with AWS it can fail")]
    pub(super) fn remove(&self, _: &Context, _: Sources<'_>, _: Rules) -> Result<(Count, Option<Error>)> {
        Ok((self.going(), None))
    }
}

/// How many of what.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) amis: usize,
    pub(super) snapshots: usize,
}

impl Count {
    fn of<'a>(decisions: impl Iterator<Item = &'a Decision>) -> Self {
        decisions.fold(Self::default(), |mut count, decision| {
            match decision.kind {
                Kind::Ami => count.amis += 1,
                Kind::Snapshot => count.snapshots += 1,
            }
            count
        })
    }
}

impl fmt::Display for Count {
    /// Nothing where nothing is meant, so that those who publish nothing do not read of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return Ok(());
        }
        write!(f, "; {}", plural(self.amis, "AMI"))?;
        if self.snapshots > 0 {
            write!(f, " and {} without one", plural(self.snapshots, "snapshot"))?;
        }
        Ok(())
    }
}
