//! What a bake makes in EC2 for its own time: an instance, a security group, and an AMI that is not finished. Written down
//! before it is made, found again by the tag of the run, and removed by whoever comes next.
//!
//! ```text
//! building/<account>/<region>/<image>/entry.json   what is being made
//! building/<account>/<region>/<image>/lock         held by the process that bakes
//! ```
//!
//! How it can fail, and what is then. Killed before a call: nothing is there. Killed in a call, or its answer lost: what it
//! made has the run's tag, and an instance the run's client token too; for two minutes it need not be listed, so that no
//! entry is forgotten before. Killed later: the same, and the instance ends itself by its timer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::atomic_write::atomic_write;
use crate::digest::{Digest, ImageId};
use crate::error::{Doing as _, Error, Result};
use crate::provider::aws::{Aws, CallError, Patience, Phase};
use crate::publish::ledger::{VERSION, hold, read};
use crate::publish::plan::{DISK_TAG, EXPIRES_TAG, GRACE, IMAGE_TAG, RECIPE_TAG, RUN_TAG, ami_name};
use crate::publish::reap::Reaped;
use crate::store::{Store, directories};

/// The first wait between two looks at an instance that ends; doubled after each, up to the longest.
const LOOK: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// How long an instance may take to be terminated: minutes where it does not answer the hypervisor.
const ENDING: SignedDuration = SignedDuration::from_mins(15);

/// One bake of one image in one account and region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Building {
    /// Format version.
    pub version: u32,
    /// The image.
    pub image: ImageId,
    /// Its recipe.
    pub recipe: String,
    /// The account.
    pub account: String,
    /// The region.
    pub region: String,
    /// The role that was assumed, by ARN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// What tells all that was made for this bake from all else: a tag of it.
    pub run: String,
    /// Who bakes: the computer.
    pub owner: String,
    /// When it was begun.
    pub begun: Timestamp,
    /// When the last instance was asked for: for a moment after it, it need not be listed.
    pub asked: Option<Timestamp>,
    /// The instance, once it is known.
    pub instance: Option<String>,
    /// The security group, once it is known.
    pub group: Option<String>,
    /// The AMI, once it is known.
    pub ami: Option<String>,
}

impl Building {
    /// Begins an entry: nothing is made yet.
    #[must_use]
    pub fn new(image: ImageId, recipe: &str, aws: &Aws, role: Option<&str>, now: Timestamp) -> Self {
        let seed = format!("building {image} {} {} {now} {}", aws.account, aws.region, std::process::id());
        Self {
            version: VERSION,
            image,
            recipe: recipe.to_owned(),
            account: aws.account.clone(),
            region: aws.region.clone(),
            role: role.map(str::to_owned),
            run: Digest::of(seed.as_bytes()).short(),
            owner: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            begun: now,
            asked: None,
            instance: None,
            group: None,
            ami: None,
        }
    }

    /// Returns the name of the image's AMI.
    #[must_use]
    pub fn ami_name(&self) -> String {
        ami_name(&self.recipe, self.image)
    }

    /// Returns the tags of everything that is made; `expires` is when none of it is of use any more.
    #[must_use]
    pub fn tags(&self, expires: Timestamp) -> BTreeMap<String, String> {
        [
            ("Name", format!("rekiln bake of {}", self.recipe)),
            (IMAGE_TAG, self.image.to_string()),
            (RUN_TAG, self.run.clone()),
            (RECIPE_TAG, self.recipe.clone()),
            ("rekiln:owner", self.owner.clone()),
            (EXPIRES_TAG, expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

/// The entry of one image in one account and region, held by this process.
#[derive(Debug)]
pub struct Held {
    dir: PathBuf,
    _lock: File,
}

impl Held {
    /// Takes the entry of an image, whether there is one or not.
    ///
    /// # Errors
    /// Another process has it; the store cannot be written.
    pub fn take(store: &Store, aws: &Aws, image: ImageId) -> Result<Self> {
        Self::try_take(place(store, &aws.account, &aws.region, image))?.ok_or_else(|| {
            Error::holding(format!(
                "another process is baking image {} in {} of account {}",
                image.short(),
                aws.region,
                aws.account
            ))
            .hint("wait for it, and bake again to see what came of it")
        })
    }

    fn try_take(dir: PathBuf) -> Result<Option<Self>> {
        Ok(hold(&dir)?.map(|lock| Self { dir, _lock: lock }))
    }

    /// Returns what was begun; `None` when nothing was.
    ///
    /// # Errors
    /// It does not read, or is of a newer format.
    pub fn entry(&self) -> Result<Option<Building>> {
        read(&self.dir)
    }

    /// Writes the entry; before what it speaks of is done.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn write(&self, entry: &Building) -> Result<()> {
        let text = serde_json::to_vec_pretty(entry).doing(|| "writing a ledger entry as JSON")?;
        atomic_write(&self.dir.join("entry.json"), &text)
    }

    /// Forgets the entry, since nothing of it is temporary any more.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn clear(&self) -> Result<()> {
        match fs::remove_file(self.dir.join("entry.json")) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).doing(|| format!("removing the ledger {}", self.dir.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Held {
    /// Where nothing was begun, nothing is left. The lock is held until after this.
    fn drop(&mut self) {
        if !self.dir.join("entry.json").exists() {
            let _ = fs::remove_file(self.dir.join("lock"));
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

fn place(store: &Store, account: &str, region: &str, image: ImageId) -> PathBuf {
    store.root().join("building").join(account).join(region).join(image.to_string())
}

/// What of a bake is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remains {
    /// The instance and its security group; the AMI is what was wanted.
    Machine,
    /// Also an AMI that nobody has checked.
    Unfinished,
    /// Everything.
    All,
}

/// Removes what a bake made, and returns a line for each thing. Ctrl-C does not end it.
///
/// # Errors
/// Something could not be removed, or for too long; the entry stays.
pub async fn remove(aws: &Aws, entry: &Building, what: Remains) -> Result<Vec<String>> {
    let start = Timestamp::now();
    let mut removed = BTreeSet::new();
    let mut patience = Patience::to_the_end();
    let mut look = LOOK.0;
    loop {
        match remove_once(aws, entry, what, &mut removed).await {
            Ok(true) => return Ok(removed.into_iter().collect()),
            Ok(false) if Timestamp::now().duration_since(start) > ENDING => {
                let (image, region) = (entry.image.short(), &entry.region);
                return Err(Error::failed(format!("the instance of image {image} in {region} does not end"))
                    .hint("look at it in AWS's console; `rekiln reap` tries again"));
            }
            Ok(false) => {
                patience.renew();
                tokio::time::sleep(look).await;
                look = (look * 2).min(LOOK.1);
            }
            Err(error) => patience.after(error, &entry.region).await?,
        }
    }
}

/// Goes as far as it can; tells whether that was to the end.
async fn remove_once(
    aws: &Aws,
    entry: &Building,
    what: Remains,
    removed: &mut BTreeSet<String>,
) -> Result<bool, CallError> {
    let of = format!("of image {} in {}", entry.image.short(), entry.region);
    let mut instances = aws.builders(&entry.run).await?;
    if let Some(id) = &entry.instance
        && !instances.iter().any(|one| one.id == *id)
    {
        instances.extend(aws.builder(id).await?);
    }
    let mut ended = true;
    for instance in instances.iter().filter(|instance| instance.phase != Phase::Terminated) {
        aws.terminate_builder(&instance.id).await?;
        removed.insert(format!("instance {} {of}", instance.id));
        ended = false;
    }
    // One whose answer was lost may come to be listed.
    let new = entry.asked.is_some_and(|at| Timestamp::now().duration_since(at) < GRACE);
    if !ended || instances.is_empty() && new {
        return Ok(false);
    }
    let mut groups: BTreeSet<String> = aws.security_groups(&entry.run).await?.into_iter().collect();
    groups.extend(entry.group.clone());
    for group in groups {
        aws.delete_security_group(&group).await?;
        removed.insert(format!("security group {group} {of}"));
    }
    if what != Remains::Machine {
        remove_ami(aws, entry, what, removed, &of).await?;
    }
    Ok(true)
}

async fn remove_ami(
    aws: &Aws,
    entry: &Building,
    what: Remains,
    removed: &mut BTreeSet<String>,
    of: &str,
) -> Result<(), CallError> {
    let image = aws.image(&entry.ami_name()).await?;
    // One that another run made is not this one's to remove.
    let image = image.filter(|image| image.tags.get(RUN_TAG) == Some(&entry.run));
    if let Some(image) = image {
        if what == Remains::Unfinished && image.tags.contains_key(DISK_TAG) {
            return Ok(());
        }
        aws.deregister(&image.id).await?;
        removed.insert(format!("{} {of}", image.id));
    }
    for snapshot in aws.snapshots(RUN_TAG, Some(&entry.run)).await? {
        aws.delete_snapshot(&snapshot.id).await?;
        removed.insert(format!("{} {of}", snapshot.id));
    }
    Ok(())
}

/// Removes everything that bakes of the store made in EC2 and did not finish. AWS is asked only when there are any, and one
/// that cannot be removed keeps no other from it.
///
/// # Errors
/// The store cannot be read.
pub async fn reap(store: &Store) -> Result<Reaped> {
    let mut reaped = Reaped::default();
    for account in directories(&store.root().join("building"))? {
        for region in directories(&account)? {
            for image in directories(&region)? {
                if let Err(error) = reap_one(store, image.clone(), &mut reaped).await {
                    reaped.failed.push(error.during(format!("removing what {} speaks of", image.display())));
                }
            }
        }
    }
    Ok(reaped)
}

async fn reap_one(store: &Store, dir: PathBuf, reaped: &mut Reaped) -> Result<()> {
    let Some(held) = Held::try_take(dir.clone())? else {
        reaped
            .left
            .push(format!("{} is of a bake that is going on; what is its is left alone", dir.display()));
        return Ok(());
    };
    let Some(entry) = held.entry()? else { return Ok(()) };
    let aws = Aws::connect(&entry.region, entry.role.as_deref()).await?;
    let (image, region) = (entry.image.short(), &entry.region);
    if aws.account != entry.account {
        reaped.left.push(format!(
            "the bake of image {image} in {region} of account {} was begun; these credentials are of account {}",
            entry.account, aws.account
        ));
        return Ok(());
    }
    // An image of the store has its AMI from this run or another one.
    let kept = store.image(entry.image).join("record.json").is_file();
    let what = if kept { Remains::Unfinished } else { Remains::All };
    reaped.removed.extend(remove(&aws, &entry, what).await?);
    held.clear()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_has_an_entry_and_a_newer_format_is_not_guessed() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = dir.path().join("1/r/x");
        let held = Held::try_take(place.clone()).expect("taken").expect("free");
        assert!(Held::try_take(place.clone()).expect("asked").is_none());
        assert_eq!(held.entry().expect("read"), None);
        fs::write(place.join("entry.json"), "{\"version\": 2}").expect("written");
        let error = held.entry().expect_err("newer").chain();
        assert!(error.contains("this rekiln reads format 1"), "{error}");
        held.clear().expect("removed");
        drop(held);
        assert!(!place.exists());
    }
}
