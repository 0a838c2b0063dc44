//! What comes in from outside.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::super::alert::{self, Aws, Heard};
use super::super::duty::Fleet;
use super::super::event::{Event, Job};
use super::super::hands::{Hands, Sighting};
use super::super::server::{Answer, Incoming, Request};
use super::Service;
use crate::error::Result;
use crate::fleet::alert::instance;
use crate::fleet::census::InstanceId;
use crate::fleet::outside::request;

/// How long SNS may take to confirm a subscription; whoever asked waits half a minute.
const CONFIRMING: Duration = Duration::from_secs(20);

/// What an alert means here.
struct Meaning {
    fleet: String,
    rule: String,
    instance: Option<InstanceId>,
}

impl<H: Hands> Service<'_, H> {
    pub(super) fn hear(&mut self, request: Request) {
        let Request { incoming, answer } = request;
        let said = match incoming {
            Incoming::Pushed => {
                self.fetching.next = Instant::now();
                Answer::Taken("the remote is asked".to_owned())
            }
            Incoming::Alertmanager(body) => self.take_alerts(alert::alertmanager(&body)),
            Incoming::CloudWatch(body) => match alert::cloudwatch(&body) {
                Ok(Aws::Heard(heard)) => self.take_alerts(Ok(heard)),
                Ok(Aws::Nothing(why)) => Answer::Taken(why),
                Ok(Aws::Confirm(url)) => return confirm(url, answer),
                Err(error) => Answer::Refused(error.chain()),
            },
        };
        // Whoever asked may have gone.
        let _ = answer.send(said);
    }

    fn take_alerts(&mut self, heard: Result<Vec<Heard>>) -> Answer {
        let heard = match heard {
            Ok(heard) => heard,
            Err(error) => return Answer::Refused(error.chain()),
        };
        let mut told = Vec::new();
        for one in heard {
            match self.take_alert(&one) {
                Ok(line) => told.push(line),
                Err(why) => return Answer::NotNow(why),
            }
        }
        Answer::Taken(told.join("\n"))
    }

    /// Writes an alert down. Returns what becomes of it.
    ///
    /// # Errors
    /// It is not written, and its sender shall try again.
    fn take_alert(&mut self, heard: &Heard) -> Result<String, String> {
        if self.fleets.is_empty() {
            return Err("no fleet was seen yet".to_owned());
        }
        let blind = self.fleets.iter().find(|(_, of)| !of.alerts.is_empty() && of.census.is_none());
        let meanings: Vec<Meaning> =
            self.fleets.iter().filter_map(|(name, of)| meanings(name, of, heard)).flatten().collect();
        if meanings.is_empty() {
            // A fleet that cannot be seen may have what it names.
            if let Some((fleet, _)) = blind {
                return Err(format!("fleet {fleet} cannot be seen"));
            }
            self.counts.alerts_unknown += u64::from(heard.firing);
            return Ok(format!("{}: no fleet has a rule for it, or the instance that it names", heard.name));
        }
        for meaning in meanings {
            self.write_alert(heard, meaning)?;
        }
        Ok(format!("{}: taken", heard.name))
    }

    fn write_alert(&mut self, heard: &Heard, meaning: Meaning) -> Result<(), String> {
        let Meaning { fleet, rule, instance } = meaning;
        let key = heard.key();
        let open = self.memory().and_then(|memory| memory.open((&fleet, &rule, &key)));
        // Senders say again what they said before.
        if open.is_some() == heard.firing {
            return Ok(());
        }
        if heard.firing {
            self.counts.alerts += 1;
        } else {
            self.resolve(open);
        }
        let event = Event::Heard { fleet, rule, key, heard: heard.clone(), instance };
        let Some(journal) = &mut self.journal else {
            return Err("the journal cannot be written now".to_owned());
        };
        let now = Timestamp::now();
        let written = self.runtime.block_on(async {
            // Whoever leads goes on leading; whoever does not only says what it heard.
            if self.leads {
                journal.record(now, event.clone()).await
            } else {
                journal.command(now, event.clone()).await
            }
        });
        match written {
            Ok(()) => {
                self.said(&event);
                Ok(())
            }
            Err(error) => {
                self.step_down(&error);
                Err(error.chain())
            }
        }
    }

    /// Lets a step that waits for it know that its alert is resolved.
    fn resolve(&self, case: Option<u64>) {
        for running in self.running.values() {
            if matches!(&running.job, Job::Step { case: of, .. } if Some(*of) == case) {
                running.resolved.store(true, Ordering::SeqCst);
            }
        }
    }
}

/// Confirms that a topic of SNS may send here. The URL is one of SNS, whoever sent it; it may take its time.
fn confirm(url: String, answer: tokio::sync::oneshot::Sender<Answer>) {
    std::thread::spawn(move || {
        let said = match request(&url, None, CONFIRMING) {
            Ok(_) => Answer::Taken("the subscription is confirmed".to_owned()),
            Err(error) => Answer::NotNow(error.chain()),
        };
        let _ = answer.send(said);
    });
}

/// Finds the rules of a fleet that an alert is for. An alert that names an instance which the fleet does not have is none.
fn meanings<'a>(
    name: &'a str,
    sighting: &'a Sighting,
    heard: &'a Heard,
) -> Option<impl Iterator<Item = Meaning> + 'a> {
    let (seen, census): (&Fleet, _) = (sighting.seen.as_ref()?, sighting.census.as_ref()?);
    let rules = sighting.alerts.iter().zip(&seen.rules).filter(|(alert, _)| alert.is_for(heard));
    Some(rules.filter_map(move |(alert, rule)| {
        let found = alert.names(heard).map(|text| instance(census, text).map(|found| found.id.clone()));
        // What is over was about an instance that may be gone.
        let instance = match found {
            Some(None) if heard.firing => return None,
            found => found.flatten(),
        };
        Some(Meaning { fleet: name.to_owned(), rule: rule.name.clone(), instance })
    }))
}
