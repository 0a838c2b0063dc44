//! What a watcher can do, apart from deciding: a seam, so that the service is tried with and without a computer behind it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;

use super::command::{End, Stop};
use super::duty;
use super::event::Job;
use super::memory::Case;
use super::view::{self, Commit, Image, Line};
use crate::error::Result;
use crate::fleet;
use crate::fleet::census::Census;

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The commit whose fleets are looked at; each in the commit that it carries, where that is another one.
    pub standing: Option<String>,
    /// The commit of which it is asked whether rolls to it would do anything.
    pub waiting: Option<String>,
}

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Round {
    /// The fleets by name.
    pub fleets: BTreeMap<String, Sighting>,
    /// Whether rolls to the commit that was asked about would do anything.
    pub waiting: Option<bool>,
    /// Images in the store, the newest first.
    pub images: Vec<Image>,
}

/// A fleet that was looked at.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// What decisions need; nothing when it could not be seen.
    pub seen: Option<duty::Fleet>,
    /// Its rules as its file has them, in the order of those in `seen`.
    pub alerts: Vec<fleet::Alert>,
    /// Its instances.
    pub census: Option<Census>,
    /// What people see of it.
    pub view: view::Fleet,
    /// What its journal said last, the newest first.
    pub lines: Vec<Line>,
}

/// What a watcher can do. Everything here may take its time and is called on threads of its own.
pub trait Hands: Sync {
    /// Asks the remote where the branch is, and brings the commit here.
    ///
    /// # Errors
    /// The remote does not answer, or has no such branch.
    fn fetch(&self) -> Result<String>;

    /// Returns what people want to know of a commit that was fetched.
    fn commit(&self, id: &str) -> Commit;

    /// Looks. What cannot be seen of one fleet is in its sighting.
    ///
    /// # Errors
    /// Nothing can be seen at all.
    fn look(&self, ask: &Ask) -> Result<Round>;

    /// Does a job, and hears when its alert was resolved or it is to stop; `said` takes what it says meanwhile.
    ///
    /// # Errors
    /// It cannot be begun.
    fn carry_out(&self, job: &Job, work: &Work<'_>, said: &dyn Fn(String)) -> Result<End>;

    /// Tells the people of a fleet what is worth their attention.
    fn tell(&self, fleet: &str, event: &str, text: &str, at: Timestamp);
}

/// What a job needs besides what it is.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// The case that it is for.
    pub case: Option<&'a Case>,
    /// The instances of its fleet.
    pub census: Option<&'a Census>,
    /// Set when the case's alert is resolved.
    pub resolved: &'a AtomicBool,
    /// Asks it to stop.
    pub stop: &'a Stop,
}
