//! What the commands about fleets share: the fleet file, the target, the provider, the journal.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::desk::refuse_quarantined;
use super::{Context, confirm};
use crate::bake::identity::Identity;
use crate::catalog::{Catalog, Record};
use crate::claim::{Claim, Claimed};
use crate::digest::ImageId;
use crate::error::{Error, Result};
use crate::fleet::Fleet;
use crate::fleet::census::{Census, Instance};
use crate::fleet::cluster::Role;
use crate::fleet::copying::{Copying, copying};
use crate::fleet::experience::Experience;
use crate::fleet::generation::Target;
use crate::fleet::guard::Reach;
use crate::fleet::history::History;
use crate::fleet::journal::{Journal, Writer};
use crate::fleet::plan::{Plan, Situation, plan};
use crate::fleet::policy::Policy;
use crate::fleet::roll::{Order, Roll, Summary};
use crate::fleet::specification::Design;
use crate::fleet::surroundings::{OfStore, Outlook, Surroundings as _};
use crate::objects::Objects;
use crate::provider::Place;
use crate::provider::Provider as _;
use crate::provider::local::{Local, Qemu};
use crate::recipe::render::Templates;
use crate::repository::Repository;
use crate::store::Store;
pub use crate::table::table;

/// What a person calls the image that was proven before.
const PREVIOUS: &str = "previous";

/// What a person calls where the last rollout went, or goes.
const CURRENT: &str = "current";

/// One fleet as a command sees it.
pub struct Site {
    pub name: String,
    pub fleet: Fleet,
    pub policy: Policy,
    pub store: Store,
    pub provider: Place,
    /// Where its journal is.
    journals: Objects,
    repository: Repository,
}

impl Site {
    pub fn open(context: &Context, name: &str) -> Result<Self> {
        let repository = Repository::open(&context.repo)?;
        let fleet = repository.fleet(name)?.clone();
        let reading = |error: Error| error.during(format!("reading {}", repository.place_of_fleet(name)));
        let policy = Policy::of(&fleet).map_err(reading)?;
        let store = context.store()?;
        let opening = |error: Error| error.during(format!("opening fleet {name}"));
        let journals = context.block_on(context.journals(name)).map_err(opening)?;
        let provider =
            place(context, &store, &journals, name, &fleet, repository.templates()).map_err(opening)?;
        Ok(Self { name: name.to_owned(), fleet, policy, store, provider, journals, repository })
    }

    /// Returns the file that says what it should be.
    pub fn file(&self) -> PathBuf {
        self.repository.file_of_fleet(&self.name)
    }

    pub async fn journal(&self, command: &str) -> Result<Journal> {
        Journal::open(&self.journals, &self.name, Writer::this(format!("rekiln {command} {}", self.name)))
            .await
    }

    /// Where it is kept what fleets have to know of each other.
    pub fn places(&self) -> Vec<Objects> {
        self.store.and(&self.journals)
    }

    /// Returns what Git asks the fleet to run, and the record of its image.
    pub fn target(&self) -> Result<(Target, Record)> {
        let image = &self.fleet.image;
        let identity = Identity::of(&self.repository, image, false)?;
        let record = Catalog::new(self.store.clone()).get(identity.id)?.ok_or_else(|| {
            Error::failed(format!(
                "fleet {} needs image {image} {}, which is not baked",
                self.name,
                identity.id.short()
            ))
            .hint(format!("bake it: `rekiln bake {image}`"))
        })?;
        self.may_run(&record)?;
        Ok((self.provider.target(&self.fleet, record.id)?, record))
    }

    /// Refuses an image that this fleet's instances must not or cannot run.
    fn may_run(&self, record: &Record) -> Result<()> {
        if let Some(trust) = &self.fleet.trust {
            let trusted = Catalog::new(self.store.clone()).trusted(record, trust);
            trusted.map_err(|error| error.during(format!("looking at what fleet {} may run", self.name)))?;
        }
        self.provider.may_run(record)
    }

    /// Returns where a person wants the fleet: what Git asks for, what was proven before, where its last rollout went, or a
    /// baked image.
    ///
    /// It is launched as the fleet file says now: that is what the provider reads, whatever was proven. Where a launch template
    /// has kept what was proven, what was before is launched as it was.
    pub async fn target_to(&self, to: Option<&str>, history: &History) -> Result<(Target, Record)> {
        let catalog = Catalog::new(self.store.clone());
        let name = &self.name;
        let mut as_it_was = None;
        let record = match to {
            None => return self.target(),
            Some(PREVIOUS) => {
                let before = history.before().ok_or_else(|| {
                    Error::invalid(format!("fleet {name} has no previous image: too few rollouts completed"))
                        .hint(format!(
                            "`rekiln history {name}` has its rollouts, `rekiln images` what was baked"
                        ))
                })?;
                as_it_was = self.provider.as_it_was(before);
                catalog.get(before.image)?.ok_or_else(|| {
                    let image = before.image.short();
                    Error::failed(format!("the previous image of fleet {name}, {image}, is not in the store"))
                        .hint("check out its commit and bake it, or name another: `rekiln images` lists them")
                })?
            }
            Some(CURRENT) => {
                let target = history.target.as_ref().ok_or_else(|| {
                    Error::invalid(format!("fleet {name} has no current image: nothing was ever rolled"))
                        .hint(format!("`rekiln roll {name}` rolls it to what Git asks for"))
                })?;
                as_it_was = Some(target.clone());
                catalog.get(target.image)?.ok_or_else(|| {
                    let image = target.image.short();
                    Error::failed(format!("the current image of fleet {name}, {image}, is not in the store"))
                        .hint("check out its commit and bake it")
                })?
            }
            Some(image) => catalog.find(image)?,
        };
        let (image, wanted) = (record.id.short(), &self.fleet.image);
        if record.name != *wanted {
            let of = &record.name;
            return Err(Error::invalid(format!(
                "image {image} is one of {of}, and fleet {name} runs {wanted}"
            ))
            .hint(format!("`rekiln images {wanted}` lists those")));
        }
        if !record.may_be_target() {
            let why = if record.debug { "it is a debug variant" } else { "it has no passing verdict" };
            return Err(Error::invalid(format!("no fleet may run image {image}: {why}"))
                .hint(format!("`rekiln image {image}` has its verdict")));
        }
        self.may_run(&record)?;
        refuse_quarantined(&self.places(), record.id).await?;
        let target = as_it_was.map_or_else(|| self.provider.target(&self.fleet, record.id), Ok)?;
        Ok((target, record))
    }

    /// Returns the same, with the journal as it is now.
    pub fn target_now(&self, context: &Context, to: Option<&str>) -> Result<Target> {
        match to {
            None => self.target().map(|(target, _)| target),
            Some(_) => context.block_on(async {
                let history = self.journal("look").await?.history().clone();
                Ok(self.target_to(to, &history).await?.0)
            }),
        }
    }

    /// Looks at the fleet, changing nothing.
    pub async fn look(&self, context: &Context, target: &Target) -> Result<Look> {
        self.look_with(context, target, &self.journal("plan").await?).await
    }

    /// Looks with a journal that was read already.
    pub async fn look_with(&self, context: &Context, target: &Target, journal: &Journal) -> Result<Look> {
        let (history, experience) = (journal.history().clone(), Experience::of(journal.entries()));
        let census = self.provider.census().await?;
        let targets: Vec<_> = std::iter::once(target).chain(&history.proven).collect();
        let outlook = self.surroundings(context).outlook(&targets, census.at).await?;
        let policy = Policy::seen(&self.fleet, &census, &history)?.unwrap_or_else(|| self.policy.clone());
        let now = census.cluster.as_ref().and_then(|cluster| cluster.data);
        let copying =
            policy.copies.as_ref().and_then(|copies| copying(journal.entries(), now, copies.max_copy));
        Ok(Look { policy, census, history, experience, copying, outlook })
    }

    /// Asks before a roll that reaches more of the repository's instances than `roll.guard` allows.
    pub fn ask_if_many(&self, context: &Context, target: &Target, yes: bool) -> Result<()> {
        let guard = self.fleet.roll.guard.as_deref();
        if guard.is_none() || yes {
            return Ok(());
        }
        let look = context.block_on(self.look(context, target))?;
        let plan = plan(&look.situation(self, target));
        // The sizes of groups in AWS are in no file; that of the one that is rolled is known.
        let sized = if self.fleet.aws.is_some() { look.policy.size } else { 0 };
        let reach = Reach::of(&plan.members, self.repository.instances() + sized);
        match reach.beyond(guard).map_err(Error::invalid)? {
            Some(why) => confirm::require(yes, &format!("rolling {}", self.name), &why),
            None => Ok(()),
        }
    }

    /// Claims a target, which may have been collected while a person thought.
    pub fn claim(&self, image: ImageId) -> Result<Claim> {
        let claim = Claimed::image(format!("a rollout of {}", self.name), image).hold(&self.store)?;
        match Catalog::new(self.store.clone()).get(image)? {
            Some(_) => Ok(claim),
            None => Err(Error::failed(format!("image {} is not in the store any more", image.short()))
                .hint("bake it again, or name another: `rekiln images` lists them")),
        }
    }

    /// Returns what surrounds the fleet.
    pub fn surroundings<'a>(&self, context: &'a Context) -> OfStore<'a> {
        let (store, fleet) = (self.store.clone(), self.fleet.clone());
        OfStore::new(store, &self.journals, &self.name, fleet, context.progress())
    }

    /// Rolls, stopping between two acts on Ctrl-C or SIGTERM.
    pub fn roll(&self, context: &Context, command: &str, target: Target, order: Order) -> Result<Summary> {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        context.handle()?.spawn(async move {
            let term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
            if let Ok(mut term) = term {
                tokio::select! { _ = tokio::signal::ctrl_c() => {} _ = term.recv() => {} }
                asked.store(true, Ordering::Relaxed);
            }
        });
        self.roll_until(context, command, target, order, &stop)
    }

    /// Rolls, stopping between two acts when `stop` is set.
    pub fn roll_until(
        &self,
        context: &Context,
        command: &str,
        target: Target,
        order: Order,
        stop: &AtomicBool,
    ) -> Result<Summary> {
        let surroundings = self.surroundings(context);
        let _while_it_rolls = self.claim(target.image)?;
        super::backup::begin_with(context, self)?;
        context.block_on(async {
            let mut journal = self.journal(command).await?;
            let roll = Roll {
                name: &self.name,
                fleet: &self.fleet,
                target,
                provider: &self.provider,
                surroundings: &surroundings,
                journal: &mut journal,
                progress: context.progress(),
                stop,
            };
            // It carries what all of its calls may need at once.
            Box::pin(roll.run(order)).await
        })
    }
}

/// What a plan of a fleet is made from, beside its file.
pub struct Look {
    /// How the fleet is rolled, with the size that was seen.
    pub policy: Policy,
    pub census: Census,
    pub history: History,
    pub experience: Experience,
    /// How long a new member copies, where members hold data and one has joined so far.
    pub copying: Option<Copying>,
    pub outlook: Outlook,
}

impl Look {
    pub fn situation<'a>(&'a self, site: &'a Site, target: &'a Target) -> Situation<'a> {
        let Self { policy, census, history, outlook, .. } = self;
        let (fleet, now) = (site.name.as_str(), census.at);
        Situation { policy, fleet, target, census, history, outlook, now }
    }
}

/// Plans as a roll does that has written down what it saw: a reader wants to know what it does then.
pub fn settled(situation: &Situation<'_>) -> Plan {
    let first = plan(situation);
    if first.notes.is_empty() {
        return first;
    }
    let mut history = situation.history.clone();
    for note in &first.notes {
        history.add(situation.now, note);
    }
    plan(&Situation { history: &history, ..*situation })
}

/// What a member that holds data says that it is; nothing where it says nothing.
pub fn role(seen: Option<&Instance>) -> String {
    let Some(membership) = seen.and_then(|seen| seen.membership.as_ref()) else { return String::new() };
    match membership.role {
        Role::Leader => "leads",
        Role::Synchronous => "synchronous",
        Role::Replica if !membership.caught_up => "lags behind",
        Role::Replica => "follows",
        Role::Joining => "copies",
    }
    .to_owned()
}

/// Returns the fleets that a command is about: all, or those that the named one means: itself, or the shards of that file.
///
/// # Errors
/// Nothing is called so.
pub fn meant(context: &Context, named: Option<&str>) -> Result<Vec<String>> {
    let Some(name) = named else { return names(context) };
    let repository = Repository::open(&context.repo)?;
    Ok(repository.fleets_meant(name)?.into_iter().map(str::to_owned).collect())
}

/// Returns the names of all fleets: by file, and those of one file in its order.
pub fn names(context: &Context) -> Result<Vec<String>> {
    let repository = Repository::open(&context.repo)?;
    Ok(repository.fleet_names().map(str::to_owned).collect())
}

/// Finds the provider that a fleet's file names.
fn place(
    context: &Context,
    store: &Store,
    journals: &Objects,
    name: &str,
    fleet: &Fleet,
    templates: &Templates,
) -> Result<Place> {
    match &fleet.aws {
        None => {
            let local = Local::new(store.clone(), name, fleet.clone(), Qemu::new(store.clone()));
            Place::local(local, fleet)
        }
        Some(group) => {
            // What does not render is known before AWS is asked for anything.
            let design = Design::of(name, fleet, templates)?;
            in_aws(context, store, journals, name, fleet, group, design)
        }
    }
}

#[cfg(feature = "aws")]
fn in_aws(
    context: &Context,
    store: &Store,
    journals: &Objects,
    name: &str,
    fleet: &Fleet,
    group: &crate::fleet::AutoScaling,
    design: Option<Design>,
) -> Result<Place> {
    use crate::provider::aws::group::AutoScalingGroup;
    context.block_on(async {
        let cloud = context.clouds.of(&group.region, group.assume_role.as_deref()).await?;
        let group = AutoScalingGroup::open(cloud, store, journals, name, fleet, group, design).await?;
        Place::group(group, fleet)
    })
}

#[cfg(not(feature = "aws"))]
fn in_aws(
    _: &Context,
    _: &Store,
    _: &Objects,
    _: &str,
    _: &Fleet,
    _: &crate::fleet::AutoScaling,
    _: Option<Design>,
) -> Result<Place> {
    Err(Error::failed("this rekiln was built without AWS").hint("build it with its default features"))
}
