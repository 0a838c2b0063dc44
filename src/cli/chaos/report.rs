//! What is said of kills: a row each, and the medians of all.

use jiff::Timestamp;
use serde::Serialize;

use crate::fleet::census::InstanceId;
use crate::fleet::chaos::measure::{Clients, Times, median};
use crate::table::table;

/// One kill, and how the fleet got over it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Told {
    /// Which one, from 1.
    pub(super) number: usize,
    /// Who was killed.
    pub(super) instance: InstanceId,
    /// Its zone, where there are zones.
    pub(super) zone: Option<String>,
    /// When.
    pub(super) at: Timestamp,
    /// Who came in its place.
    pub(super) replacement: Option<InstanceId>,
    /// How long everything took.
    #[serde(flatten)]
    pub(super) times: Times,
    /// What clients saw; `None` when none were asked.
    pub(super) clients: Option<Clients>,
    /// Whose command replaced it.
    pub(super) healer: Option<String>,
    /// Whether the fleet got over it in time.
    pub(super) healed: bool,
}

impl Told {
    /// Says it in a line.
    pub(super) fn text(&self) -> String {
        let Self { instance, times, clients, .. } = self;
        let text = format!(
            "{instance} killed: noticed after {}, launched {}, serving {}, whole {}",
            seconds(times.detected_s),
            seconds(times.launched_s),
            seconds(times.serving_s),
            seconds(times.whole_s)
        );
        match clients {
            None => text,
            Some(Clients { asked, failed, longest_ms }) => {
                format!("{text}; clients: {asked} asked, {failed} failed, longest {longest_ms} ms")
            }
        }
    }
}

/// Says how a series of kills went, as an aligned table with the medians at its end.
pub(super) fn lines(kills: &[Told]) -> Vec<String> {
    let head =
        ["  kill", "instance", "noticed", "launched", "serving", "whole", "asked", "failed", "longest"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let whole = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let row = |first: String, second: String, times: &Times, clients: Option<&Clients>| {
        vec![
            first,
            second,
            seconds(times.detected_s),
            seconds(times.launched_s),
            seconds(times.serving_s),
            seconds(times.whole_s),
            whole(clients.map(|clients| clients.asked)),
            whole(clients.map(|clients| clients.failed)),
            clients.map_or_else(|| "-".to_owned(), |clients| format!("{} ms", clients.longest_ms)),
        ]
    };
    for Told { number, instance, times, clients, .. } in kills {
        rows.push(row(format!("  {number}"), instance.to_string(), times, clients.as_ref()));
    }
    if kills.len() > 1 {
        let Medians { times, clients } = Medians::of(kills);
        rows.push(row("  median".to_owned(), String::new(), &times, clients.as_ref()));
    }
    table(&rows)
}

fn seconds(time: Option<f64>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{time:.1} s"))
}

/// The medians of kills. What did not come, such as a replacement that never served, is in none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Medians {
    #[serde(flatten)]
    pub(super) times: Times,
    pub(super) clients: Option<Clients>,
}

impl Medians {
    pub(super) fn of(kills: &[Told]) -> Self {
        let time = |of: fn(&Times) -> Option<f64>| median(kills.iter().filter_map(|told| of(&told.times)));
        let count = |of: fn(&Clients) -> u64| {
            // Far below 2^52, from where on such a number would not be whole.
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let middle =
                median(kills.iter().filter_map(|told| Some(of(&told.clients?) as f64))).map(|it| it as u64);
            middle
        };
        let clients = count(|it| it.asked).zip(count(|it| it.failed)).zip(count(|it| it.longest_ms));
        Self {
            times: Times {
                detected_s: time(|it| it.detected_s),
                launched_s: time(|it| it.launched_s),
                serving_s: time(|it| it.serving_s),
                whole_s: time(|it| it.whole_s),
            },
            clients: clients.map(|((asked, failed), longest_ms)| Clients { asked, failed, longest_ms }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(number: usize, whole: Option<f64>, clients: Option<(u64, u64, u64)>) -> Told {
        Told {
            number,
            instance: InstanceId::new("web", number as u64),
            zone: None,
            at: Timestamp::UNIX_EPOCH,
            replacement: None,
            times: Times { detected_s: Some(0.25), whole_s: whole, ..Times::default() },
            clients: clients.map(|(asked, failed, longest_ms)| Clients { asked, failed, longest_ms }),
            healer: None,
            healed: whole.is_some(),
        }
    }

    #[test]
    fn a_row_for_each_kill_and_the_medians() {
        let kills = [
            told(1, Some(21.04), Some((210, 3, 300))),
            told(2, Some(9.0), Some((90, 0, 0))),
            told(3, None, Some((900, 1, 100))),
        ];
        assert_eq!(
            lines(&kills),
            [
                "  kill    instance  noticed  launched  serving  whole   asked  failed  longest",
                "  1       web-1     0.2 s    -         -        21.0 s  210    3       300 ms",
                "  2       web-2     0.2 s    -         -        9.0 s   90     0       0 ms",
                "  3       web-3     0.2 s    -         -        -       900    1       100 ms",
                "  median            0.2 s    -         -        9.0 s   210    1       100 ms",
            ]
        );
        assert_eq!(
            kills[0].text(),
            "web-1 killed: noticed after 0.2 s, launched -, serving -, whole 21.0 s; clients: 210 asked, 3 failed, longest 300 ms"
        );
        // One is its own median, and nobody asked.
        let one = lines(&[told(1, Some(1.0), None)]);
        assert_eq!(one[1..], ["  1     web-1     0.2 s    -         -        1.0 s  -      -       -"]);
    }
}
