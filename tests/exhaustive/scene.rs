//! What a small world is made of, and all that can happen in it.

use rekiln::fleet::Fleet;
use rekiln::fleet::generation::Target;
use rekiln::fleet::policy::Policy;

/// What does not change while the model runs.
pub struct Scene {
    pub name: &'static str,
    pub fleet: Fleet,
    pub policy: Policy,
    /// What is rolled out.
    pub goal: Target,
    /// What ran before.
    pub old: Target,
    /// What a second process rolls out.
    pub rival: Target,
    /// Whether instances of what is rolled out never become healthy.
    pub is_bad: bool,
    /// Where processes run: `None` for here, where one that lives is taken for dead.
    pub host: Option<&'static str>,
    pub budget: Budget,
}

/// How many more things may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Budget {
    pub crash: u8,
    /// A second process begins although one rolls.
    pub rival: u8,
    /// The same in an emergency.
    pub emergency: u8,
    /// Of answers, acts and looks.
    pub fault: u8,
    /// An instance dies, falls ill, or is touched.
    pub harm: u8,
    /// A second terminal pauses, cancels or goes back.
    pub word: u8,
    /// A process does not run for longer than any lease, while time passes.
    pub stall: u8,
    /// Who rolls again after a roll that stopped.
    pub again: u8,
}

/// What can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The process gets the answer that it waits for. What follows an act takes its shorter time.
    Go(usize),
    /// The same, and its longer time.
    Slow(usize),
    Wrong(usize, Fault),
    Crash(usize),
    /// Time passes.
    Tick,
    Stall,
    /// Someone rolls: nobody does, and what was begun is not over.
    Start,
    Rival,
    Emergency,
    Again,
    Harm(usize, Harm),
    Say(Word),
    Resume,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The act was done, and its answer is lost.
    NoAnswer,
    /// It was not done.
    Failed,
    /// It was done twice.
    Twice,
    NoCapacity,
    /// What is launched never gets healthy, what is drained never finishes.
    Never,
    /// The look is the one before.
    Stale,
    /// The look lacks an instance, and so do all until time has passed.
    Partial(usize),
    /// The entry was written, and the answer is lost.
    Unsure,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    Kill,
    Sicken,
    Touch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Pause,
    Cancel,
    GoBack,
}

impl Step {
    /// Tells whether it is one of the things that go wrong, or that someone does who need not.
    pub const fn is_fault(self) -> bool {
        matches!(
            self,
            Self::Wrong(..)
                | Self::Crash(_)
                | Self::Stall
                | Self::Rival
                | Self::Emergency
                | Self::Harm(..)
                | Self::Say(_)
        )
    }
}
