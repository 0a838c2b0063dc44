//! What the service does, on this computer.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::Args;
use super::look::{Lookout, Stand};
use crate::cli::Context;
use crate::cli::fleet::Site;
use crate::error::{Doing as _, Error, Result};
use crate::fleet::playbook::StepFailure;
use crate::fleet::surroundings::{News, Surroundings as _};
use crate::git::{self, branch};
use crate::watch::command::{self, End};
use crate::watch::event::Job;
use crate::watch::hands::{Ask, Hands, Round, Work};
use crate::watch::rule::Rule;
use crate::watch::step;
use crate::watch::view::Commit;

/// The longest reason that a command is given: alerts are others' words.
const LONGEST: usize = 400;

/// This computer.
pub(super) struct Computer<'a> {
    context: &'a Context,
    args: &'a Args,
    /// This program.
    rekiln: PathBuf,
    lookout: Mutex<Lookout<'a>>,
}

impl<'a> Computer<'a> {
    pub(super) fn new(context: &'a Context, args: &'a Args) -> Result<Self> {
        let rekiln = std::env::current_exe().doing(|| "finding this program")?;
        let lookout = Mutex::new(Lookout::new(context)?);
        Ok(Self { context, args, rekiln, lookout })
    }

    fn stand(&self, commit: &str) -> Result<Arc<Stand>> {
        self.lookout.lock().unwrap_or_else(PoisonError::into_inner).stand(commit)
    }

    /// The command that a job is.
    fn arguments(&self, job: &Job, stand: Option<&Stand>) -> Vec<OsString> {
        let Args { allowed_signers, nightly_branch, remote, .. } = self.args;
        let dir = stand.map_or(self.context.repo.as_path(), Stand::dir);
        let mut line: Vec<OsString> = vec!["--json".into(), "--store".into()];
        line.extend([OsString::from(&self.context.store_url), "-C".into(), dir.into()]);
        let mut add = |words: &[&str]| line.extend(words.iter().map(OsString::from));
        match job {
            Job::Apply { commit } => {
                add(&["apply", "--to", commit]);
                if let Some(file) = allowed_signers {
                    line.extend(["--allowed-signers".into(), here(file).into()]);
                }
            }
            Job::Nightly { base, .. } => {
                add(&["nightly", "--base", base, "--branch", nightly_branch, "--push", remote]);
                #[cfg(feature = "aws")]
                if self.args.nightly_publish {
                    line.push("--publish".into());
                }
            }
            Job::Keep { fleet, why, .. } => {
                add(&["roll", fleet, "--to", "current", &format!("--reason=kept: {}", cut(why))]);
            }
            Job::Replace { fleet, instance, why, .. } => {
                let (instance, reason) = (format!("--instance={instance}"), cut(why));
                let reason = format!("--reason=alert {reason}");
                add(&["rotate", fleet, &instance, "--to", "current", &reason, "--emergency", "--yes"]);
            }
            Job::Backup { fleet, .. } => add(&["backup", "run", fleet]),
            Job::Chaos { fleet, leader, .. } => {
                add(&["chaos", fleet, "--reason=the schedule of its file"]);
                if *leader {
                    add(&["--leader"]);
                }
            }
            Job::Step { .. } => {}
        }
        line
    }

    /// Carries out a step of the playbook that a case's rule names.
    fn step(stand: &Stand, number: usize, work: &Work<'_>) -> Result<End> {
        let none = || Error::failed("its rule or its playbook is gone");
        let case = work.case.ok_or_else(none)?;
        let repository = &stand.tree().repository;
        let fleet = repository.fleet(&case.fleet)?;
        let is_its = |alert: &&crate::fleet::Alert| {
            let playbook = alert.playbook.as_deref().and_then(|name| repository.playbook(name).ok());
            Rule::of(alert, playbook).is_ok_and(|rule| rule.name == case.rule)
        };
        let name = fleet.alerts.iter().find(is_its).and_then(|alert| alert.playbook.as_deref());
        let name = name.ok_or_else(none)?;
        let step = repository.playbook(name)?.steps.get(number).ok_or_else(none)?;
        let seen = work
            .census
            .and_then(|census| census.instances.iter().find(|seen| Some(&seen.id) == case.instance.as_ref()));
        let document = step::Document {
            fleet: &case.fleet,
            alert: &case.heard.name,
            labels: &case.heard.labels,
            summary: case.heard.summary.as_deref(),
            instance: case.instance.as_ref(),
            address: seen.and_then(|seen| seen.address),
            since: case.since,
            playbook: name,
            step: number + 1,
        };
        match step::carry_out(step, &document, work.resolved, work.stop.flag()) {
            Ok(()) => Ok(End { code: 0, why: None }),
            Err(error) if step.on_failure == StepFailure::Continue && !work.stop.asked() => Ok(End {
                code: 0,
                why: Some(format!("it failed, and the next one begins: {}", error.chain())),
            }),
            Err(error) => Err(error),
        }
    }
}

impl Hands for Computer<'_> {
    fn fetch(&self) -> Result<String> {
        let (repo, Args { remote, branch: name, .. }) = (&self.context.repo, self.args);
        let tip = branch::remote_tip(repo, remote, name)?;
        let tip = tip.ok_or_else(|| Error::failed(format!("`{remote}` has no branch {name}")))?;
        branch::keep(repo, name, &tip)?;
        Ok(tip)
    }

    fn commit(&self, id: &str) -> Commit {
        let (subject, at) = git::about(&self.context.repo, id).unwrap_or_default();
        Commit { id: id.to_owned(), subject, at }
    }

    fn look(&self, ask: &Ask) -> Result<Round> {
        self.lookout.lock().unwrap_or_else(PoisonError::into_inner).look(ask)
    }

    fn carry_out(&self, job: &Job, work: &Work<'_>, said: &dyn Fn(String)) -> Result<End> {
        let stand = match job {
            Job::Apply { .. } | Job::Nightly { .. } => None,
            Job::Keep { commit, .. }
            | Job::Replace { commit, .. }
            | Job::Backup { commit, .. }
            | Job::Chaos { commit, .. }
            | Job::Step { commit, .. } => Some(self.stand(commit)?),
        };
        if let (Job::Step { number, .. }, Some(stand)) = (job, &stand) {
            return Self::step(stand, *number, work);
        }
        let arguments = self.arguments(job, stand.as_deref());
        command::run(&self.rekiln, &arguments, work.stop, said)
    }

    fn tell(&self, fleet: &str, event: &str, text: &str, at: Timestamp) {
        let told = || -> Result<()> {
            let stand = {
                let lookout = self.lookout.lock().unwrap_or_else(PoisonError::into_inner);
                lookout.of(fleet).ok_or_else(|| Error::failed("nobody knows the fleet any more"))?
            };
            let context = stand.context();
            let site = Site::open(context, fleet)?;
            let news = News { at, event, text: text.to_owned(), instance: None };
            context.block_on(async {
                site.surroundings(context).tell(news).await;
                Ok(())
            })
        };
        if let Err(error) = told() {
            self.context.progress().note(fleet, format!("nobody was told: {}", error.chain()));
        }
    }
}

/// A command has another directory than this process.
fn here(file: &Path) -> PathBuf {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned())
}

fn cut(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}
