//! `rekiln chaos`.

mod report;
mod series;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::SignedDuration;

use super::Context;
use super::desk::reason;
use super::fleet::Site;
use crate::error::{Doing as _, Error, Result};
use crate::fleet::chaos::Which;
use crate::fleet::chaos::probe::Door;
use crate::fleet::{Fleet, Protocol};
use crate::notation;
use series::{Series, Times};

/// How often the time in which an instance may take to serve is what a fleet has to get over a kill, where nobody says: once to
/// notice, once to boot, and once for a boot that fails.
const HEALS_WITHIN: i32 = 3;

/// Reads where clients come in.
const DOOR: fn(&str) -> Result<String, String> = |text| Door::check(text).map(|()| text.to_owned());

/// Arguments of `rekiln chaos`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet: the name of a file in `fleets/`, or of one of its shards.
    fleet: String,
    /// Kills the instance that leads.
    #[arg(long)]
    leader: bool,
    /// Kills an instance of this zone.
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Kills this instance, by its id here or at its provider.
    #[arg(long, value_name = "ID", conflicts_with_all = ["leader", "zone", "every"])]
    instance: Option<String>,
    /// Kills again and again, so long after the last kill, such as `10m`: until Ctrl-C, or `--for`.
    #[arg(long, value_name = "TIME", value_parser = notation::duration)]
    every: Option<Duration>,
    /// Begins no further kill after this time, such as `2h`.
    #[arg(long = "for", value_name = "TIME", value_parser = notation::duration, requires = "every")]
    lasts: Option<Duration>,
    /// What chance is drawn from; printed, so that the same can be repeated [default: another one each time].
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// What clients ask: an URL, or `tcp://HOST:PORT` [default: `probe` of [chaos]; on this computer, where the fleet listens].
    #[arg(long, value_name = "URL", value_parser = DOOR)]
    probe: Option<String>,
    /// How long the fleet has to get over a kill [default: three times `deadline` of [health]].
    #[arg(long, value_name = "TIME", value_parser = notation::duration)]
    heal_within: Option<Duration>,
    /// Why, for the journal.
    #[arg(long, default_value = "chaos", value_name = "TEXT", value_parser = reason)]
    reason: String,
}

/// When to end.
#[derive(Debug, Clone, Default)]
struct Asked {
    /// Between two kills.
    end: Arc<AtomicBool>,
    /// At once, between two acts.
    stop: Arc<AtomicBool>,
}

impl Asked {
    /// Listens to signals: the first Ctrl-C lets the fleet get over the kill at hand, a second one does not, and nor does SIGTERM.
    fn listen(context: &Context) -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let asked = Self::default();
        let (end, stop) = (Arc::clone(&asked.end), Arc::clone(&asked.stop));
        let _inside = context.handle()?.enter();
        let mut int = signal(SignalKind::interrupt()).doing(|| "listening to signals")?;
        let mut term = signal(SignalKind::terminate()).doing(|| "listening to signals")?;
        context.handle()?.spawn(async move {
            loop {
                let at_once = tokio::select! {
                    _ = int.recv() => end.swap(true, Ordering::Relaxed),
                    _ = term.recv() => true,
                };
                if at_once {
                    end.store(true, Ordering::Relaxed);
                    stop.store(true, Ordering::Relaxed);
                }
            }
        });
        Ok(asked)
    }

    fn ends(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What went wrong; a fleet that did not get over a kill in time.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let Args { fleet, leader, zone, instance, every, lasts, seed, probe, heal_within, reason } = args;
    let site = Site::open(context, &fleet)?;
    let times = Times {
        every,
        lasts,
        heals_within: match heal_within {
            Some(time) => time.try_into().doing(|| "reading `--heal-within`")?,
            None => site.policy.deadline.checked_mul(HEALS_WITHIN).unwrap_or(SignedDuration::MAX),
        },
    };
    let door = door(&site.fleet, probe.as_deref())?;
    let seed = match seed {
        Some(seed) => seed,
        None => any_seed()?,
    };
    let which = Which { leader, zone, instance };
    let asked = Asked::listen(context)?;
    Series { context, site: &site, which: &which, door, seed, times, reason: &reason, asked: &asked }.run()
}

/// Where clients come in; `None` where nobody says.
fn door(fleet: &Fleet, asked: Option<&str>) -> Result<Option<Door>> {
    let named = asked.or_else(|| fleet.chaos.as_ref()?.probe.as_deref());
    if let Some(named) = named {
        return Door::read(named).map(Some);
    }
    let Some(local) = &fleet.local else { return Ok(None) };
    Ok(Some(match local.protocol {
        Protocol::Http => Door::Http(local.listen, fleet.health()?.path.clone()),
        Protocol::Tcp => Door::Tcp(local.listen.to_string()),
    }))
}

/// Draws what a series is drawn from. Short enough to be typed again.
fn any_seed() -> Result<u64> {
    let mut bytes = [0; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Error::failed(format!("drawing a seed: {error}")))?;
    Ok(u32::from_le_bytes(bytes).into())
}
