//! Decide: whether new instances are worse than old ones, by the Mann-Whitney U test.
//!
//! The test looks at the order of the samples only, so it needs no assumption about how latencies or error counts are
//! distributed, and one outlier cannot decide it. It answers one question: is a new sample the worse one of a pair
//! more often than chance explains? What it cannot see is a minority: when a few in a hundred of the new samples are
//! terrible and the rest is as before, the typical sample has not moved, and that is for a gate's `max`.

use super::Worse;

/// A difference that chance alone would make in fewer than this share of comparisons is believed: one in fifty, as
/// Kayenta's default confidence of 0.98 has it. A canary is compared a few times in a rollout, so at one in twenty
/// every tenth good image or so would be refused.
pub const SIGNIFICANCE: f64 = 0.02;

/// How large a difference must be to matter, as a share of the old median. With thousands of samples the test also
/// finds a difference of a thousandth, which is true and no reason to stop a rollout; below 5 % one machine differs
/// from its neighbour.
const EFFECT: f64 = 0.05;

/// Up to so many samples on the smaller side times all samples every order is counted, and beyond it U is taken to be
/// normal, which is then right to three thousandths near [`SIGNIFICANCE`]. Counting costs twice the square of this: 8
/// million additions, some milliseconds. So 30 and 35 samples are counted, and 4 and 490; only for one to three
/// samples against many hundreds the normal distribution is too mild.
const EXACT: usize = 2000;

/// What a comparison found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Comparison {
    /// There are too few numbers to say anything; never a pass.
    TooFew {
        /// Numbers of old instances.
        old: usize,
        /// Numbers of new instances.
        new: usize,
    },
    /// The new ones are not worse, or not by enough to matter.
    NotWorse {
        /// How likely so large a difference, in the direction of worse, is by chance; small when there is a
        /// difference that is too small to matter.
        p: f64,
    },
    /// The new ones are worse.
    Worse {
        /// How likely so large a difference is by chance: below [`SIGNIFICANCE`].
        p: f64,
    },
}

/// Compares the samples of new instances with those of old ones: are the new ones worse?
///
/// NaN is no number and does not count; infinite samples count as the largest there are. Fewer than `least` numbers on
/// one side are too few, and so are numbers that could not show a difference whatever they were (see [`decidable`]): a
/// question that has one answer is not asked.
///
/// The new ones are worse when two things are so. The test is significant at [`SIGNIFICANCE`], one-sided: exact for
/// few samples, ties or not, else by the normal approximation with corrections for ties and continuity. And the
/// difference matters: the Hodges-Lehmann shift, the median of all differences between a new sample and an old one, is
/// at least 5 % of the old median. When the old median is 0, as with errors that hardly occur, any shift matters.
#[must_use]
pub fn compare(old: &[f64], new: &[f64], worse: Worse, least: usize) -> Comparison {
    let (old, new) = (numbers(old, worse), numbers(new, worse));
    if old.len() < least || new.len() < least || !decidable(old.len(), new.len()) {
        return Comparison::TooFew { old: old.len(), new: new.len() };
    }
    let p = chance(&old, &new);
    if p < SIGNIFICANCE && matters(&old, &new) { Comparison::Worse { p } } else { Comparison::NotWorse { p } }
}

/// Tells whether so many samples can show a difference at all: when every new one is worse than every old one, that is
/// one order of all that are equally likely, and there must be more than 50 of them. 4 and 4 are enough, 3 and 5, 2
/// and 9, 1 and 50.
#[must_use]
pub fn decidable(old: usize, new: usize) -> bool {
    let few = old.min(new);
    let mut orders = 1.0;
    for i in 1..=few {
        orders *= real(old + new - few + i) / real(i);
        if 1.0 / orders < SIGNIFICANCE {
            return true;
        }
    }
    false
}

/// The numbers among the samples, ascending, turned so that more is worse.
fn numbers(samples: &[f64], worse: Worse) -> Vec<f64> {
    let sign = match worse {
        Worse::Higher => 1.0,
        Worse::Lower => -1.0,
    };
    // Finite, so that differences are numbers too; `+ 0.0` makes the two zeros one.
    let turned = |sample: &f64| (sign * sample).clamp(f64::MIN, f64::MAX) + 0.0;
    let mut numbers: Vec<f64> = samples.iter().filter(|sample| !sample.is_nan()).map(turned).collect();
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// The place of every sample among all samples.
struct Ranks {
    /// Twice the rank of each, ascending; those that are alike share the mean of their ranks, hence twice.
    all: Vec<usize>,
    /// The sum of those that are of new samples.
    new: usize,
    /// The sum of t³ - t over groups of t samples that are alike.
    ties: f64,
}

impl Ranks {
    /// Ranks two ascending sides together.
    fn of(old: &[f64], new: &[f64]) -> Self {
        let mut ranks = Self { all: Vec::with_capacity(old.len() + new.len()), new: 0, ties: 0.0 };
        let (mut old, mut new) = (old, new);
        while let Some(value) = [old.first(), new.first()].into_iter().flatten().copied().reduce(f64::min) {
            let alike = |side: &[f64]| side.iter().take_while(|number| **number <= value).count();
            let (of_old, of_new) = (alike(old), alike(new));
            let group = of_old + of_new;
            let rank = 2 * ranks.all.len() + group + 1;
            ranks.all.extend(std::iter::repeat_n(rank, group));
            ranks.new += of_new * rank;
            ranks.ties += real(group).powi(3) - real(group);
            (old, new) = (&old[of_old..], &new[of_new..]);
        }
        ranks
    }
}

/// Returns how likely it is by chance that new samples are above old ones as often as they are; both ascending.
fn chance(old: &[f64], new: &[f64]) -> f64 {
    let ranks = Ranks::of(old, new);
    if old.len().min(new.len()) * ranks.all.len() > EXACT {
        // U counts the pairs in which the new sample is above, one half for each that is alike.
        let above = real(ranks.new) / 2.0 - real(new.len()) * real(new.len() + 1) / 2.0;
        normal(real(old.len()), real(new.len()), above, ranks.ties)
    } else if new.len() <= old.len() {
        exact(&ranks.all, new.len(), |sum| sum >= ranks.new)
    } else {
        let of_old = ranks.all.iter().sum::<usize>() - ranks.new;
        exact(&ranks.all, old.len(), |sum| sum <= of_old)
    }
}

/// Returns how likely `few` of these ranks have such a sum, when every choice of them is equally likely.
fn exact(ranks: &[usize], few: usize, such: impl Fn(usize) -> bool) -> f64 {
    let most: usize = ranks.iter().rev().take(few).sum();
    // choices[k][s]: how many choices of k ranks have the sum s. Only additions, so nothing cancels.
    let mut choices = vec![vec![0.0; most + 1]; few + 1];
    choices[0][0] = 1.0;
    for rank in ranks {
        for k in (1..=few).rev() {
            let (without, with) = choices.split_at_mut(k);
            for (with, without) in with[0].iter_mut().skip(*rank).zip(&without[k - 1]) {
                *with += without;
            }
        }
    }
    let all: f64 = choices[few].iter().sum();
    let those = choices[few].iter().enumerate().filter(|(sum, _)| such(*sum));
    those.map(|(_, choices)| choices).sum::<f64>() / all
}

/// Returns P(U >= `above`) as if U was normal.
fn normal(old: f64, new: f64, above: f64, ties: f64) -> f64 {
    let all = old + new;
    let variance = old * new / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)));
    // U goes in steps: half of one is the correction for continuity.
    let distance = above - old * new / 2.0 - 0.5;
    // When all samples are alike there is nothing to see.
    if variance > 0.0 { upper_tail(distance / variance.sqrt()) } else { 1.0 }
}

/// Returns the share of the standard normal distribution above `z`, right to 7.5e-8 (Abramowitz and Stegun, 26.2.17,
/// whose constants these are).
fn upper_tail(z: f64) -> f64 {
    const COEFFICIENTS: [f64; 5] =
        [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    if z < 0.0 {
        return 1.0 - upper_tail(-z);
    }
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let polynomial = COEFFICIENTS.iter().rev().fold(0.0, |sum, coefficient| (sum + coefficient) * t);
    (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * polynomial
}

/// Tells whether the median of all differences new - old is at least the share of the old median that matters; both
/// ascending. That is so when at least half of all pairs differ by so much, which one pass counts: the differences of
/// thousands of samples are millions, and need not be made.
fn matters(old: &[f64], new: &[f64]) -> bool {
    let median = old[(old.len() - 1) / 2] / 2.0 + old[old.len() / 2] / 2.0;
    let least = median.abs() * EFFECT;
    let (mut pairs, mut reached) = (0, 0);
    for value in new {
        while old.get(reached).is_some_and(|old| *value >= old + least) {
            reached += 1;
        }
        pairs += reached;
    }
    pairs * 2 >= old.len() * new.len()
}

/// A count as a number.
#[expect(clippy::cast_precision_loss, reason = "no count of samples comes near 2^53")]
const fn real(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
