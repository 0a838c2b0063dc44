//! What goes wrong in the simulated world, and the one source of chance.

use jiff::SignedDuration;

/// What goes wrong, each in thousandths: of launches, of acts, of looks, or of looks at one instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// A launched instance never becomes healthy.
    pub bad_boot: u64,
    /// An instance dies, at each look at it.
    pub death: u64,
    /// An instance answers no more for a while, at each look at it.
    pub flap: u64,
    /// An instance's health cannot be told, at each look at it.
    pub unknown: u64,
    /// Someone logs in to an instance, at each look at it.
    pub touch: u64,
    /// Someone who is not rekiln launches an instance of the last image, at each look.
    pub stranger: u64,
    /// An act fails and nothing happened.
    pub failure: u64,
    /// An act happened and its answer is lost.
    pub lost_reply: u64,
    /// An act happens twice.
    pub duplicate: u64,
    /// A burst of "too many requests" begins, at each act and look.
    pub throttle: u64,
    /// A zone has no room for some minutes, at each launch.
    pub no_capacity: u64,
    /// A census is an older one.
    pub stale: u64,
    /// A census lacks some instances.
    pub partial: u64,
    /// A census is in another order.
    pub reordered: u64,
    /// A drained instance never finishes its requests.
    pub endless: u64,
    /// Every instance of a zone dies, at each look.
    pub zone_loss: u64,
    /// The clock jumps by up to an hour, forward or back, at each look.
    pub clock_jump: u64,
}

/// How often each thing happened in the simulated world; a fault that never happens proves nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reached {
    /// Acts carried out.
    pub acts: u64,
    /// Looks.
    pub looks: u64,
    /// How often each fault happened; each refused launch counts.
    pub faults: Faults,
}

/// The source of all chance in a simulation: `SplitMix64`, the same on every machine.
#[derive(Debug, Clone, Copy)]
pub struct Chance(u64);

impl Chance {
    /// Starts from a seed; near seeds give unlike sequences.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Draws 64 bits.
    pub fn draw(&mut self) -> u64 {
        // The constants of Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Draws a number below `end`; 0 when that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.draw() % end }
    }

    /// Draws true in so many of a thousand cases, and counts those.
    pub fn happens(&mut self, thousandths: u64, counter: &mut u64) -> bool {
        // Nothing is drawn for what cannot happen, so that switching a fault on moves no other's dice.
        let happens = thousandths > 0 && self.below(1000) < thousandths;
        *counter += u64::from(happens);
        happens
    }

    /// Draws a duration from `from` on and below `end`.
    pub fn between(&mut self, from: SignedDuration, end: SignedDuration) -> SignedDuration {
        let span = u64::try_from((end - from).as_millis()).unwrap_or(0);
        from + SignedDuration::from_millis(self.below(span).cast_signed())
    }
}
