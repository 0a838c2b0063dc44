//! Gates: do measures something outside, decide says whether the numbers are good enough to go on.

mod prometheus;

use std::net::SocketAddr;

use super::outside::filling::{ADDRESS, ID};
use super::outside::{Filling, request, run};
use super::surroundings::Reading;
use super::{Gate, Prometheus};
use crate::error::{Error, Result};
use crate::notation;

/// How many characters of a line that is no number are shown: enough to see what it is instead.
const SHOWN: usize = 80;

/// Decide: says whether the mean of `samples` is within the gate's `min` and `max`. Fewer samples than the gate needs
/// are [`Reading::NotYet`], and a mean that is no number, as that of infinities may be, is [`Reading::Fail`]: what
/// cannot be told is not good.
///
/// # Errors
/// A gate without `min` and `max`, which only compares, and limits that are no decimal numbers.
pub fn threshold(gate: &Gate, samples: &[f64]) -> Result<Reading, String> {
    let limit = |text: &Option<String>| text.as_deref().map(notation::decimal).transpose();
    let (min, max) = (limit(&gate.min)?, limit(&gate.max)?);
    if min.is_none() && max.is_none() {
        return Err(format!("gate {} has neither `min` nor `max`", gate.name));
    }
    // No numbers have no mean, whatever the gate asks for.
    let needed = usize::try_from(gate.samples.max(1)).unwrap_or(usize::MAX);
    if samples.len() < needed {
        return Ok(Reading::NotYet(format!("{} of the {needed} numbers that it needs", samples.len())));
    }
    let (sum, count) = samples.iter().fold((0.0, 0.0), |(sum, count), sample| (sum + sample, count + 1.0));
    let mean: f64 = sum / count;
    let reason = if mean.is_nan() {
        Some("the mean is no number".to_owned())
    } else if let Some(max) = max.filter(|max| mean > *max) {
        Some(format!("the mean {mean} is above {max}"))
    } else {
        min.filter(|min| mean < *min).map(|min| format!("the mean {mean} is below {min}"))
    };
    Ok(reason.map_or(Reading::Pass, Reading::Fail))
}

/// Measures once: runs the gate's command, or asks its URL or Prometheus server, with [`ADDRESS`] and [`ID`] filled in,
/// and returns the numbers of the answer; there may be none.
///
/// # Errors
/// Whatever running or asking returns; a placeholder with nothing to fill in; an answer with anything but numbers.
pub fn measure(gate: &Gate, address: Option<SocketAddr>, id: Option<&str>) -> Result<Vec<f64>> {
    let filling = Filling::new(
        vec![(ADDRESS, address.map(|address| address.to_string().into())), (ID, id.map(Into::into))],
        "only a gate with `compare` measures instances; one that just began may have no address",
    );
    let measured = || {
        let limit = notation::duration(&gate.timeout).map_err(Error::invalid)?;
        match (&gate.command, &gate.http, &gate.prometheus) {
            (Some(command), None, None) => numbers(&run(&filling.fill_words(command)?, b"", limit)?),
            (None, Some(url), None) => numbers(&request(&filling.fill(url)?, None, limit)?),
            (None, None, Some(Prometheus { server, query })) => {
                prometheus::query(&filling.fill(server)?, &filling.fill(query)?, limit)
            }
            _ => Err(Error::invalid("it has not exactly one of `command`, `http` and `prometheus`")),
        }
    };
    measured().map_err(|error| {
        let of = id.map_or_else(String::new, |id| format!(" of {id}"));
        error.during(format!("measuring gate {}{of}", gate.name))
    })
}

/// Reads numbers, one a line; blank lines count for nothing.
fn numbers(text: &str) -> Result<Vec<f64>> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty());
    let number = |(at, line): (usize, &str)| {
        line.parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(|| {
            let shown: String = line.chars().take(SHOWN).collect();
            Error::failed(format!("line {at} of the answer is no number: {shown:?}"))
        })
    };
    lines.map(number).collect()
}

#[cfg(test)]
mod tests;
