//! Several fleets of one command, one after the other.

use super::Context;
use crate::error::{Error, Result};

/// Carries a command out for each fleet, and ends with the first that fails: what goes wrong in one is not repeated in the
/// next. Returns the highest exit code. `again` is the command for one fleet, for whoever goes on from there: those that are
/// done may not be as they are once more, as a rollback would bring them forward again.
///
/// # Errors
/// The first failure, with the fleets that were done and those that were not begun.
pub fn in_turn<T>(
    context: &Context,
    fleets: &[T],
    name: impl Fn(&T) -> &str,
    again: impl Fn(&str) -> String,
    mut one: impl FnMut(&T) -> Result<u8>,
) -> Result<u8> {
    let mut code = 0;
    for (at, fleet) in fleets.iter().enumerate() {
        code = code.max(one(fleet).map_err(|error| {
            let names: Vec<&str> = fleets.iter().map(&name).collect();
            if names.len() == 1 { error } else { stopped(context, error, &names, at, &again(names[at])) }
        })?);
    }
    Ok(code)
}

/// Carries a command out for each fleet, whatever becomes of the others.
///
/// # Errors
/// The last failure, with the fleets that were done and those that were not; each before it is printed.
pub fn for_each(
    context: &Context,
    fleets: &[String],
    doing: &str,
    mut one: impl FnMut(&str) -> Result<u8>,
) -> Result<u8> {
    let (mut done, mut failed, mut last) = (Vec::new(), Vec::new(), None);
    for fleet in fleets {
        let Err(error) = one(fleet) else {
            done.push(fleet.as_str());
            continue;
        };
        failed.push(fleet.as_str());
        let error = if fleets.len() == 1 { error } else { error.during(format!("{doing} fleet {fleet}")) };
        let before = last.replace(error);
        if let Some(before) = before {
            context.output.error(&before);
        }
    }
    let Some(error) = last else { return Ok(0) };
    Err(if fleets.len() == 1 { error } else { error.hint(told(&done, &failed, &[])) })
}

/// Says how far it came.
fn stopped(context: &Context, error: Error, fleets: &[&str], at: usize, again: &str) -> Error {
    let (done, failed, rest) = (&fleets[..at], fleets[at], &fleets[at + 1..]);
    context.output.json(&serde_json::json!({
        "event": "stopped", "done": done, "failed": failed, "not_begun": rest, "exit_code": error.exit_code(),
    }));
    let then =
        if rest.is_empty() { String::new() } else { format!(", then the same for {}", rest.join(", ")) };
    error.hint(told(done, &[failed], rest)).hint(format!("to go on from there: `{again}`{then}"))
}

fn told(done: &[&str], failed: &[&str], rest: &[&str]) -> String {
    let parts = [("done", done), ("failed", failed), ("not begun", rest)];
    let parts = parts.iter().filter(|(_, fleets)| !fleets.is_empty());
    parts.map(|(what, fleets)| format!("{what}: {}", fleets.join(", "))).collect::<Vec<_>>().join("; ")
}
