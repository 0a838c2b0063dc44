use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::digest::Digest;
use crate::gc::{Place, Seen as Here};

const NOW: Timestamp = Timestamp::constant(2_000_000_000, 0);
const RULES: Rules = Rules { keep: 1, younger: SignedDuration::from_hours(24 * 7) };

fn id(name: &str) -> ImageId {
    Digest::of(name.as_bytes())
}

fn site(account: &str) -> Site {
    Site { account: account.to_owned(), region: "r".to_owned() }
}

/// An AMI of `web` in account 1 that is so many days old.
fn ami(name: &str, days: i64) -> Ami {
    let seen = SeenImage {
        id: format!("ami-{name}"),
        name: String::new(),
        state: State::Ready,
        created: Some(NOW - SignedDuration::from_hours(24 * days)),
        snapshot: Some(format!("snap-{name}")),
        tags: BTreeMap::new(),
        deprecation: None,
        protected: false,
    };
    Ami { site: site("1"), image: id(name), recipe: "web".to_owned(), seen, shared: Some(BTreeSet::new()) }
}

/// What Git says: `web` is known, and its AMIs are protected or not.
fn here(protect: bool) -> Here {
    let mut here = Here::default();
    here.published.recipes.insert("web".to_owned(), protect);
    here
}

/// The newest one is there always.
fn seen(old: Ami) -> Seen {
    Seen { sites: [site("1")].into(), amis: vec![ami("newest", 10), old], ..Seen::default() }
}

/// Why the old one goes or stays.
fn why(seen: &Seen, here: &Here, shared: bool) -> (bool, String) {
    let decisions = plan(seen, Basis { seen: here, rules: RULES, shared }, NOW);
    let [newest, old] = decisions.as_slice() else { panic!("{decisions:?}") };
    assert!(!newest.removes() && newest.id == "ami-newest", "{newest:?}");
    let words: Vec<String> = old.why.iter().map(ToString::to_string).collect();
    (old.removes(), words.join("; "))
}

fn goes(seen: &Seen, here: &Here) -> bool {
    why(seen, here, false).0
}

#[test]
fn what_nothing_reaches_goes() {
    let (goes, why) = why(&seen(ami("old", 20)), &here(false), false);
    assert!(goes && why.contains("1 of its recipe are newer"), "{why}");
}

#[test]
fn each_root_keeps_it() {
    for root in [
        Root::Template("web".to_owned(), 3, false),
        Root::Group("web".to_owned()),
        Root::Configuration("web".to_owned()),
        Root::Instances(2),
        Root::Parameter("/images/web".to_owned()),
    ] {
        let mut seen = seen(ami("old", 20));
        seen.reached.insert("ami-old".to_owned(), [root.clone()].into());
        let (goes, words) = why(&seen, &here(false), true);
        assert!(!goes && words == root.to_string(), "{words}");
    }
    let root = || [Root::Git("web".to_owned(), Place::WorkTree)].into();
    let mut images = here(false);
    images.roots.images.insert(id("old"), root());
    let mut recipes = here(false);
    recipes.roots.recipes.insert("web".to_owned(), root());
    let mut unfinished = here(false);
    unfinished.published.unfinished.insert((site("1"), id("old")));
    for here in [images, recipes, unfinished] {
        assert!(!goes(&seen(ami("old", 20)), &here), "{here:?}");
    }
    // Elsewhere it is another publication.
    let mut elsewhere = here(false);
    elsewhere.published.unfinished.insert((site("2"), id("old")));
    assert!(goes(&seen(ami("old", 20)), &elsewhere));
}

#[test]
fn the_young_and_the_newest_stay() {
    let patient = Rules { younger: SignedDuration::from_hours(24 * 21), ..RULES };
    let decisions =
        plan(&seen(ami("old", 20)), Basis { seen: &here(false), rules: patient, shared: false }, NOW);
    assert_eq!(decisions[1].why, [Why::Young(SignedDuration::from_hours(24 * 20))]);
    let mut undated = ami("old", 20);
    undated.seen.created = None;
    let decisions = plan(&seen(undated), Basis { seen: &here(false), rules: RULES, shared: false }, NOW);
    assert!(!decisions[0].removes() && decisions[0].id == "ami-old", "one without a date is young");
    // What no fleet may run takes no place among the newest.
    let mut here = here(false);
    here.quarantined.insert(id("newest"));
    let decisions = plan(&seen(ami("old", 20)), Basis { seen: &here, rules: RULES, shared: false }, NOW);
    let words: Vec<_> = decisions.iter().map(|decision| (decision.removes(), &*decision.id)).collect();
    assert_eq!(words, [(true, "ami-newest"), (false, "ami-old")]);
}

#[test]
fn each_account_has_its_own_newest() {
    let mut seen = seen(ami("old", 20));
    let other = Ami { site: site("2"), ..ami("old", 20) };
    seen.amis.push(other);
    let decisions = plan(&seen, Basis { seen: &here(false), rules: RULES, shared: false }, NOW);
    let gone: Vec<_> = decisions.iter().filter(|decision| decision.removes()).collect();
    assert!(gone.len() == 1 && gone[0].site == site("1"), "{gone:?}");
}

#[test]
fn states() {
    for (state, expected) in [
        (State::Ready, true),
        (State::Failed("why".to_owned()), true),
        (State::Pending, false),
        (State::Disabled, false),
    ] {
        let mut old = ami("old", 20);
        old.seen.state = state.clone();
        assert_eq!(goes(&seen(old), &here(false)), expected, "{state:?}");
    }
}

#[test]
fn protection_counts_unless_it_is_from_git() {
    let mut old = ami("old", 20);
    old.seen.protected = true;
    assert!(!goes(&seen(old.clone()), &here(false)));
    assert!(goes(&seen(old), &here(true)));
}

#[test]
fn what_is_shared_stays_unless_that_account_was_looked_at() {
    let shared = |grantee: Grantee| Ami { shared: Some([grantee].into()), ..ami("old", 20) };
    let account = || Grantee::Account("2".to_owned());
    for grantee in [account(), Grantee::Everyone, Grantee::Organisation("arn".to_owned())] {
        let seen = seen(shared(grantee.clone()));
        let (goes, words) = why(&seen, &here(false), false);
        assert!(!goes && words.contains(&grantee.to_string()), "{words}");
        assert!(why(&seen, &here(false), true).0);
    }
    let mut both = seen(shared(account()));
    both.sites.insert(site("2"));
    assert!(goes(&both, &here(false)));
    let mut other_region = seen(shared(account()));
    other_region.sites.insert(Site { region: "s".to_owned(), ..site("2") });
    assert!(!goes(&other_region, &here(false)));
}

#[test]
fn other_recipes_are_nobodys_business() {
    let mut foreign = ami("foreign", 20);
    foreign.recipe = "db".to_owned();
    let mut seen = seen(ami("old", 20));
    seen.amis.push(foreign);
    let decisions = plan(&seen, Basis { seen: &here(false), rules: RULES, shared: false }, NOW);
    assert!(decisions.iter().all(|decision| decision.recipe == "web"), "{decisions:?}");
}

#[test]
fn a_snapshot_goes_when_its_time_is_over() {
    let remnant = |minutes: i64| Remnant {
        site: site("1"),
        image: id("half"),
        recipe: "web".to_owned(),
        snapshot: "snap-half".to_owned(),
        expired: NOW - SignedDuration::from_mins(minutes),
    };
    let decide = |minutes: i64, here: &Here| {
        let seen = Seen { remnants: vec![remnant(minutes)], ..Seen::default() };
        let decisions = plan(&seen, Basis { seen: here, rules: RULES, shared: false }, NOW);
        decisions.first().map(Decision::removes)
    };
    assert_eq!(decide(60, &here(false)), Some(true));
    assert_eq!(decide(9, &here(false)), None, "clocks differ");
    assert_eq!(decide(-60, &here(false)), None);
    let mut unfinished = here(false);
    unfinished.published.unfinished.insert((site("1"), id("half")));
    assert_eq!(decide(60, &unfinished), Some(false), "`reap` or `publish` is for it");
}
