//! Do: what is published, and what reaches it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::{Ami, Basis, Decision, Kind, Published, Remnant, Seen, Site, plan};
use crate::error::{Doing as _, Error, Kind as ErrorKind, Result};
use crate::gc::Root;
use crate::provider::aws::{Aws, RESOLVE, insist};
use crate::publish::plan::{EXPIRES_TAG, IMAGE_TAG, RECIPE_TAG, SeenSnapshot, State, ami_name};

/// How many AMIs are asked about at once: AWS answers some 10 calls of this kind a second and account.
const AT_ONCE: usize = 8;

/// Accounts and regions, each with credentials.
pub type Clouds = BTreeMap<Site, Aws>;

/// Finds out whose places these are. Two ways to one account are one place. Also returns why places that only the ledger
/// knows are left alone.
///
/// # Errors
/// Credentials that are not there, or not valid.
pub async fn connect(published: &Published) -> Result<(Clouds, Vec<Error>)> {
    let mut work = JoinSet::new();
    for place in published.places.union(&published.former).cloned() {
        work.spawn(async move { (Aws::connect(&place.0, place.1.as_deref()).await, place) });
    }
    let (mut clouds, mut left) = (Clouds::new(), Vec::new());
    while let Some(ended) = work.join_next().await {
        match ended.doing(|| "connecting to AWS")? {
            (Ok(aws), _) => {
                clouds.insert(Site { account: aws.account.clone(), region: aws.region.clone() }, aws);
            }
            (Err(error), place)
                if published.places.contains(&place) || matches!(error.kind(), ErrorKind::Interrupted) =>
            {
                return Err(error);
            }
            (Err(error), _) => left.push(error),
        }
    }
    Ok((clouds, left))
}

/// Looks at everything, changing nothing, and decides.
///
/// # Errors
/// Anything that may reach something cannot be looked at.
pub async fn look(clouds: &Clouds, basis: Basis<'_>, now: Timestamp) -> Result<Vec<Decision>> {
    let mut seen = Seen { sites: clouds.keys().cloned().collect(), ..Seen::default() };
    let mut work = JoinSet::new();
    for (site, aws) in clouds.clone() {
        work.spawn(async move {
            let amis = amis(&site, &aws).await?;
            let remnants = remnants(&site, &aws, &amis).await?;
            Ok::<_, Error>((amis, remnants))
        });
    }
    while let Some(found) = work.join_next().await {
        let (amis, remnants) = found.doing(|| "looking at what is published")??;
        seen.amis.extend(amis);
        seen.remnants.extend(remnants);
    }
    // Also where nothing is published: another account's AMIs may be in use there.
    let mut work = JoinSet::new();
    for (site, aws) in clouds.clone() {
        let of_region = seen.amis.iter().filter(|ami| ami.site.region == site.region);
        let ids: Vec<String> = of_region.map(|ami| ami.seen.id.clone()).collect();
        work.spawn(async move { Reach::default().look(&aws, &ids).await });
    }
    while let Some(found) = work.join_next().await {
        let Reach(reached) = found.doing(|| "looking at what reaches AMIs")??;
        for (ami, roots) in reached {
            seen.reached.entry(ami).or_default().extend(roots);
        }
    }
    seen.remnants.sort_by(|one, other| (&one.site, &one.snapshot).cmp(&(&other.site, &other.snapshot)));
    // Asked one by one, and only of those that would go.
    let going: BTreeSet<(Site, String)> = plan(&seen, basis, now)
        .into_iter()
        .filter(|decision| decision.kind == Kind::Ami && decision.removes())
        .map(|decision| (decision.site, decision.id))
        .collect();
    let amis = seen.amis.iter_mut();
    let mut asked: Vec<&mut Ami> =
        amis.filter(|ami| going.contains(&(ami.site.clone(), ami.seen.id.clone()))).collect();
    for amis in asked.chunks_mut(AT_ONCE) {
        let mut work = JoinSet::new();
        for (number, ami) in amis.iter().enumerate() {
            let Some(aws) = clouds.get(&ami.site).cloned() else { continue };
            let id = ami.seen.id.clone();
            work.spawn(async move { (number, insist(&aws.region, || aws.grantees(&id)).await) });
        }
        while let Some(answer) = work.join_next().await {
            let (number, grantees) = answer.doing(|| "asking who may launch AMIs")?;
            amis[number].shared = Some(grantees?);
        }
    }
    Ok(plan(&seen, basis, now))
}

/// Returns what rekiln published there.
async fn amis(site: &Site, aws: &Aws) -> Result<Vec<Ami>> {
    let mut amis = Vec::new();
    for seen in insist(&aws.region, || aws.images(IMAGE_TAG)).await? {
        let (image, recipe) = (seen.tags.get(IMAGE_TAG), seen.tags.get(RECIPE_TAG));
        let (Some(image), Some(recipe)) = (image.and_then(|id| id.parse().ok()), recipe.cloned()) else {
            continue;
        };
        // A copy that somebody made under another name has our tags.
        if seen.name == ami_name(&recipe, image) {
            amis.push(Ami { site: site.clone(), image, recipe, seen, shared: None });
        }
    }
    Ok(amis)
}

/// Returns the snapshots that publications left and no AMI is made of.
async fn remnants(site: &Site, aws: &Aws, amis: &[Ami]) -> Result<Vec<Remnant>> {
    let of_amis: BTreeSet<&String> = amis.iter().filter_map(|ami| ami.seen.snapshot.as_ref()).collect();
    let mut found = insist(&aws.region, || aws.snapshots(EXPIRES_TAG, None)).await?;
    found.retain(|seen| seen.state != State::Gone && !of_amis.contains(&seen.id));
    let ids: Vec<String> = found.iter().map(|seen| seen.id.clone()).collect();
    let registered = insist(&aws.region, || aws.registered(&ids)).await?;
    let remnant = |seen: &SeenSnapshot| {
        Some(Remnant {
            site: site.clone(),
            image: seen.tags.get(IMAGE_TAG)?.parse().ok()?,
            recipe: seen.tags.get(RECIPE_TAG)?.clone(),
            snapshot: seen.id.clone(),
            expired: seen.tags.get(EXPIRES_TAG)?.parse().ok()?,
        })
    };
    Ok(found.iter().filter(|seen| !registered.contains_key(&seen.id)).filter_map(remnant).collect())
}

/// What reaches AMIs in one place, by their ids.
#[derive(Debug, Default)]
struct Reach(BTreeMap<String, BTreeSet<Root>>);

impl Reach {
    async fn look(mut self, aws: &Aws, amis: &[String]) -> Result<Self> {
        self.templates(aws).await?;
        let names = insist(&aws.region, || aws.image_parameters()).await?;
        for (name, ami) in insist(&aws.region, || aws.parameters(&names)).await? {
            self.add(ami, Root::Parameter(name));
        }
        for (name, ami) in insist(&aws.region, || aws.configurations()).await? {
            self.add(ami, Root::Configuration(name));
        }
        for (ami, count) in insist(&aws.region, || aws.instances(amis)).await? {
            self.add(ami, Root::Instances(count));
        }
        Ok(self)
    }

    fn add(&mut self, ami: String, root: Root) {
        self.0.entry(ami).or_default().insert(root);
    }

    async fn templates(&mut self, aws: &Aws) -> Result<()> {
        let mut reached = Vec::new();
        for version in insist(&aws.region, || aws.current_versions()).await? {
            let root = Root::Template(version.template, version.number, version.default);
            reached.extend(version.image.map(|image| (image, root)));
        }
        let mut used = BTreeMap::new();
        for group in insist(&aws.region, || aws.groups()).await? {
            reached.extend(group.images.into_iter().map(|image| (image, Root::Group(group.name.clone()))));
            for version in group.versions {
                used.entry(version).or_insert_with(Vec::new).push(group.name.clone());
            }
        }
        for ((template, number), groups) in used {
            let version = insist(&aws.region, || aws.version(&template, &number)).await?;
            if let Some(image) = version.and_then(|version| version.image) {
                reached.extend(groups.into_iter().map(|group| (image.clone(), Root::Group(group))));
            }
        }
        let mut named: BTreeMap<String, Option<String>> = BTreeMap::new();
        for (image, root) in reached {
            let Some(parameter) = image.strip_prefix(RESOLVE) else {
                self.add(image, root);
                continue;
            };
            if !named.contains_key(parameter) {
                let ami = insist(&aws.region, || aws.parameter(parameter)).await?;
                named.insert(parameter.to_owned(), ami);
            }
            // A launch from a parameter that is not there fails today.
            if let Some(Some(ami)) = named.get(parameter) {
                self.add(ami.clone(), root);
            }
        }
        Ok(())
    }
}
