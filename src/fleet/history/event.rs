//! What a journal says, one thing at a time.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fleet::Fleet;
use crate::fleet::census::{Group, Instance, InstanceId};
use crate::fleet::cluster::Cluster;
use crate::fleet::generation::Target;
use crate::fleet::surroundings::{Outlook, Reading};
use crate::provider::{Action, Outcome};

/// One thing that a journal says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// A roll began.
    Opened {
        /// Where it goes.
        target: Target,
        /// Why.
        reason: String,
        /// Whether soak, canary, windows, rate and gates are skipped.
        #[serde(default)]
        emergency: bool,
        /// The fleet file at that time, so that every decision can be made again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fleet: Option<Box<Fleet>>,
        /// The commit that asks for it, where a merge is applied.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commit: Option<String>,
    },
    /// What the next decisions were made from: what is new since the last time.
    Seen {
        /// Instances that were not there or were not so.
        changed: Vec<Instance>,
        /// Instances that are not there any more.
        gone: Vec<InstanceId>,
        /// What the rest of the store says.
        outlook: Outlook,
        /// The fleet as a whole, where its size is the provider's to say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<Group>,
        /// What the members of a stateful fleet say of the whole.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<Cluster>,
    },
    /// The provider's group seems to have another size, without what rekiln added: its owner changed it, or the list is
    /// older than the last acts.
    SizeDiffers {
        /// Which.
        size: u32,
    },
    /// This is the size of the provider's group, without what rekiln added.
    Sized {
        /// How many instances.
        size: u32,
        /// How many of those that rekiln added are no longer in it: its owner wants fewer than rekiln added.
        #[serde(default, skip_serializing_if = "is_none")]
        lost: u32,
    },
    /// This will be done next.
    Intent {
        /// What.
        action: Action,
    },
    /// This came of it.
    Outcome {
        /// What was tried.
        action: Action,
        /// What came of it; `Err` has the provider's words.
        result: Result<Outcome, String>,
    },
    /// An instance served for the first time.
    Serving {
        /// Which.
        instance: InstanceId,
    },
    /// An instance that never served is given up.
    Failed {
        /// Which.
        instance: InstanceId,
        /// Why.
        reason: String,
        /// The end of its console.
        console: Vec<String>,
        /// Whether it counts against the budget: what an earlier rollout launched, or fills a gap, says nothing against
        /// the image that is rolled out.
        #[serde(default = "counts")]
        counts: bool,
    },
    /// An instance is no longer seen.
    Absent {
        /// Which.
        instance: InstanceId,
    },
    /// An absent instance is seen again.
    Returned {
        /// Which.
        instance: InstanceId,
    },
    /// An instance has said for the first time what it is among those that hold data, and does not serve yet: it copies, or has
    /// copied. What it needs for that counts, also while it says nothing.
    Joined {
        /// Which.
        instance: InstanceId,
    },
    /// An instance that holds data fell ill: it has some time to recover.
    Ill {
        /// Which.
        instance: InstanceId,
    },
    /// It is well again.
    Recovered {
        /// Which.
        instance: InstanceId,
    },
    /// An instance whose end was begun lives on: it was not ended, and takes nothing from the size of the provider's group.
    Spared {
        /// Which.
        instance: InstanceId,
    },
    /// As many serve as the wave asks for; its soak begins.
    WaveReached {
        /// Which, from 0.
        wave: usize,
    },
    /// Fewer serve again; its soak is void.
    WaveLost {
        /// Which, from 0.
        wave: usize,
    },
    /// A gate was measured for a wave.
    Judged {
        /// Which wave, from 0.
        wave: usize,
        /// The gate's name.
        gate: String,
        /// What it said.
        reading: Reading,
    },
    /// The wave has soaked and every gate lets it pass.
    WavePassed {
        /// Which, from 0.
        wave: usize,
    },
    /// Someone wants these replaced although nothing changed.
    Rotate {
        /// Which.
        instances: Vec<InstanceId>,
        /// Why.
        reason: String,
    },
    /// The rollout failed and goes back to what completed last.
    RolledBack {
        /// Where it goes now.
        target: Target,
        /// Why.
        reason: String,
    },
    /// Someone is about to kill an instance on purpose, to see that the fleet bears it.
    Chaos {
        /// Which.
        instance: InstanceId,
        /// Why.
        reason: String,
        /// How many others must serve at that moment.
        others: usize,
    },
    /// This came of it.
    Killed {
        /// Which.
        instance: InstanceId,
        /// What came of it; `Err` has the provider's words where nobody can tell.
        result: Result<Outcome, String>,
    },
    /// Someone stopped all that is voluntary.
    Paused {
        /// Why.
        reason: String,
    },
    /// It goes on.
    Resumed,
    /// Someone ended the rollout: it stops and leaves everything as it is, or goes back.
    Cancelled {
        /// Whether it goes back to what completed last.
        back: bool,
        /// Why.
        reason: String,
    },
    /// Someone gave the running rollout another target.
    Retargeted {
        /// Where it goes now.
        target: Target,
        /// Why.
        reason: String,
    },
    /// The failure budget is spent.
    Halted {
        /// Why.
        reason: String,
    },
    /// The roll stopped before its end, between two acts, and left things as they are.
    Stopped {
        /// Why.
        reason: String,
    },
    /// Another member leads than before, whoever made it so.
    Led {
        /// Which; nobody when none says that it leads.
        instance: Option<InstanceId>,
    },
    /// The next instance that founds the fleet begins with a backup: all that held its data were lost.
    Restores {
        /// Which.
        backup: String,
        /// When it was taken: what was written later is lost.
        taken: Timestamp,
    },
    /// Every instance is what it should be.
    Completed,
    /// The fleet is about to be ended.
    Ending,
    /// The fleet was ended.
    Down,
}

const fn counts() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_none(count: &u32) -> bool {
    *count == 0
}

impl Event {
    /// Tells whether a second process may say it while another one rolls: the roller takes it up and goes on.
    #[must_use]
    pub const fn is_command(&self) -> bool {
        matches!(
            self,
            Self::Paused { .. }
                | Self::Resumed
                | Self::Cancelled { .. }
                | Self::Retargeted { .. }
                | Self::Chaos { .. }
                | Self::Killed { .. }
        )
    }

    /// Tells whether nobody rolls after it.
    #[must_use]
    pub const fn ends(&self) -> bool {
        matches!(self, Self::Completed | Self::Halted { .. } | Self::Stopped { .. } | Self::Down)
    }
}
