//! Known values (`scipy.stats.mannwhitneyu` 1.17 where nothing else is said), and every order of small samples.

use super::*;

fn p(comparison: Comparison) -> f64 {
    match comparison {
        Comparison::NotWorse { p } | Comparison::Worse { p } => p,
        Comparison::TooFew { .. } => f64::NAN,
    }
}

#[track_caller]
fn near(found: f64, wanted: f64, within: f64) {
    assert!((found - wanted).abs() <= within, "{found} is not {wanted}");
}

#[test]
fn known_values_of_few_samples() {
    let table: [(&[f64], &[f64], f64); 5] = [
        (&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0], 0.014_285_714_285_714_285),
        (&[1.0, 2.0, 3.0, 4.0], &[4.5, 3.5, 6.0, 7.0], 0.028_571_428_571_428_57),
        (&[10.0, 12.0, 11.0, 13.0, 12.5], &[14.0, 15.0, 13.5, 11.5, 16.0], 0.027_777_777_777_777_776),
        (&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[6.5, 7.0, 8.0, 2.5, 9.0], 0.025_974_025_974_025_976),
        (&[19.0, 22.0, 16.0, 29.0, 24.0], &[20.0, 11.0, 17.0, 12.0], 0.968_253_968_253_968_3),
    ];
    for (old, new, wanted) in table {
        near(p(compare(old, new, Worse::Higher, 1)), wanted, 1e-12);
        let turned = |side: &[f64]| side.iter().map(|value| -value).collect::<Vec<_>>();
        near(p(compare(&turned(old), &turned(new), Worse::Lower, 1)), wanted, 1e-12);
    }
}

#[test]
fn known_values_of_many_samples() {
    let old: Vec<f64> = (0..60).map(|i| f64::from(i * 37 % 101)).collect();
    let new: Vec<f64> = (0..50).map(|i| f64::from(i * 53 % 103 + 12)).collect();
    near(p(compare(&old, &new, Worse::Higher, 1)), 0.082_299_334, 1e-6);
    near(p(compare(&new, &old, Worse::Higher, 1)), 0.918_608_649, 1e-6);
    let coarse = |side: &[f64]| side.iter().map(|value| (value / 20.0).floor()).collect::<Vec<_>>();
    near(p(compare(&coarse(&old), &coarse(&new), Worse::Higher, 1)), 0.094_892_682, 1e-6);
}

/// Every way to call some of the samples new, with and without ties: the definition of the test.
#[test]
fn few_samples_agree_with_an_enumeration() {
    let pools: [&[f64]; 4] = [
        &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
        &[1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 4.0, 4.0, 9.0],
        &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0],
        &[5.0; 9],
    ];
    let wins = |old: &[f64], new: &[f64]| -> f64 {
        let win = |old: f64, new: f64| {
            if new > old {
                1.0
            } else if new < old {
                0.0
            } else {
                0.5
            }
        };
        new.iter().flat_map(|new| old.iter().map(move |old| win(*old, *new))).sum()
    };
    for pool in pools {
        for count in [1, 4, 5, 8] {
            let splits: Vec<(Vec<f64>, Vec<f64>)> = (0_u32..1 << pool.len())
                .filter(|mask| mask.count_ones() == count)
                .map(|mask| {
                    let side = |bit| (0..pool.len()).filter(move |i| mask >> i & 1 == bit).map(|i| pool[i]);
                    (side(0).collect(), side(1).collect())
                })
                .collect();
            let all: Vec<f64> = splits.iter().map(|(old, new)| wins(old, new)).collect();
            for ((old, new), own) in splits.iter().zip(&all) {
                let as_much = all.iter().filter(|other| *other >= own).count();
                near(chance(old, new), real(as_much) / real(all.len()), 1e-12);
            }
        }
    }
}

#[test]
fn the_normal_distribution_takes_over_without_a_step() {
    for shift in [0.0, 14.0, 17.0, 20.0] {
        for (olds, news) in [(31, 33), (8, 200), (200, 8), (5, 300), (4, 490)] {
            let old: Vec<f64> = (0..olds).map(|i| f64::from(i * 37 % 101)).collect();
            let new: Vec<f64> = (0..news).map(|i| f64::from(i * 53 % 103) + shift).collect();
            let (mut old, mut new) = (old, new);
            old.sort_by(f64::total_cmp);
            new.sort_by(f64::total_cmp);
            let ranks = Ranks::of(&old, &new);
            let above = real(ranks.new) / 2.0 - real(new.len()) * real(new.len() + 1) / 2.0;
            let approximate = normal(real(old.len()), real(new.len()), above, ranks.ties);
            let exact = chance(&old, &new);
            near(approximate, exact, if exact < 0.05 { 0.003 } else { 0.005 });
        }
    }
    for (z, wanted) in
        [(0.0, 0.5), (1.0, 0.158_655_254), (-1.0, 0.841_344_746), (2.053_749, 0.02), (9.0, 0.0)]
    {
        near(upper_tail(z), wanted, 1e-7);
    }
}

#[test]
fn too_few_is_never_a_pass() {
    let side = |count: u32| (0..count).map(f64::from).collect::<Vec<_>>();
    for (old, new, least, enough) in [
        (0, 0, 0, false),
        (0, 50, 1, false),
        (50, 0, 0, false),
        (1, 1, 1, false),
        (3, 3, 1, false),
        (3, 4, 1, false),
        (4, 4, 1, true),
        (4, 4, 5, false),
        (3, 5, 1, true),
        (8, 2, 1, false),
        (9, 2, 1, true),
        (49, 1, 1, false),
        (50, 1, 1, true),
        (10, 20, 10, true),
        (10, 20, 11, false),
    ] {
        let found = compare(&side(old), &side(new), Worse::Higher, least);
        assert_eq!(!matches!(found, Comparison::TooFew { .. }), enough, "{old} {new} {least}: {found:?}");
    }
    let found = compare(&[1.0, f64::NAN, 2.0, 3.0, f64::NAN], &[f64::NAN; 9], Worse::Lower, 1);
    assert_eq!(found, Comparison::TooFew { old: 3, new: 0 });
}

#[test]
fn worse_needs_a_difference_that_is_sure_and_matters() {
    // Evenly spread by 1 % around 100, then shifted; zeros and infinities by hand.
    let around = |middle: f64| (0..40_i32).map(|i| middle - 0.5 + f64::from(i) / 40.0).collect::<Vec<_>>();
    let spread = |middle: f64| (0..40_i32).map(|i| middle - 50.0 + f64::from(i) * 2.5).collect::<Vec<_>>();
    let rare = |bad: usize| (0..40).map(|i| if i < bad { 3.0 } else { 0.0 }).collect::<Vec<_>>();
    let timeouts =
        |bad: usize| (0..40).map(|i| if i < bad { f64::INFINITY } else { 9.0 }).collect::<Vec<_>>();
    for (name, old, new, direction, wanted) in [
        ("the same", around(100.0), around(100.0), Worse::Higher, false),
        ("sure and tiny", around(100.0), around(104.0), Worse::Higher, false),
        ("sure and large", around(100.0), around(106.0), Worse::Higher, true),
        ("better", around(100.0), around(50.0), Worse::Higher, false),
        ("less throughput", around(100.0), around(94.0), Worse::Lower, true),
        ("a little less throughput", around(100.0), around(96.0), Worse::Lower, false),
        ("more throughput", around(100.0), around(150.0), Worse::Lower, false),
        ("large and not sure", spread(100.0), spread(107.0), Worse::Higher, false),
        ("errors where there were none", rare(0), rare(12), Worse::Higher, true),
        ("as few errors", rare(1), rare(2), Worse::Higher, false),
        ("most time out", timeouts(0), timeouts(30), Worse::Higher, true),
        ("as many time out", timeouts(30), timeouts(30), Worse::Higher, false),
        ("all alike", rare(0), rare(0), Worse::Higher, false),
        ("no response time but 0", vec![0.0; 9], vec![-0.0; 9], Worse::Higher, false),
    ] {
        let found = compare(&old, &new, direction, 1);
        assert_eq!(matches!(found, Comparison::Worse { .. }), wanted, "{name}: {found:?}");
        assert!((0.0..=1.0).contains(&p(found)), "{name}: {found:?}");
    }
    // A difference that is too small is still told by its p.
    assert!(p(compare(&around(100.0), &around(104.0), Worse::Higher, 1)) < 1e-9);
}
