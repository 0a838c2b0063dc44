use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::fleet::Fleet;
use crate::fleet::census::{Health, Instance, InstanceId, State as Life};
use crate::fleet::generation::Target;
use crate::fleet::journal::Writer;
use crate::fleet::surroundings::Outlook;
use crate::provider::{Action, Outcome};

const DAY: i64 = 86_400;

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

/// So many days after the first one.
fn day(number: i64) -> Timestamp {
    Timestamp::from_second(number * DAY).expect("a time")
}

/// A usable image of `web`, baked on a day, made from the layer and the input of its name.
fn image(name: &str, made: i64) -> Image {
    Image {
        id: digest(name),
        name: "web".to_owned(),
        made: day(made),
        size: 1,
        state: State::Usable,
        layers: BTreeSet::from([digest(&format!("layer of {name}"))]),
        inputs: BTreeSet::from([digest(&format!("input of {name}"))]),
    }
}

fn part(name: &str, made: i64) -> Part {
    Part { digest: digest(name), made: day(made), size: 1 }
}

fn rules(keep: usize, days: i64) -> Rules {
    Rules { keep, younger: SignedDuration::from_secs(days * DAY) }
}

/// Returns what becomes of a thing, in words.
fn said(plan: &Plan, name: &str) -> String {
    let Plan(decisions) = plan;
    let found: Vec<_> = decisions.iter().filter(|decision| decision.digest == digest(name)).collect();
    let [decision] = found[..] else { panic!("{name}: {found:?}") };
    let why: Vec<_> = decision.why.iter().map(ToString::to_string).collect();
    format!("{}: {}", if decision.removes() { "remove" } else { "keep" }, why.join("; "))
}

#[test]
fn every_root_keeps_an_image() {
    let web = || "web".to_owned();
    let table = [
        (Root::Machine(web()), "fleet web runs it"),
        (Root::Rolling(web()), "fleet web is being rolled to it"),
        (Root::Rolled(web()), "the last rollout of fleet web went to it"),
        (Root::Proven(web()), "fleet web completed with it last"),
        (Root::Previous(web()), "fleet web completed with it before"),
        (Root::Member(web()), "the journal of fleet web has instances of it"),
        (Root::Git(web(), Place::WorkTree), "fleet web in the work tree asks for it"),
        (Root::Git(web(), Place::Revision("v1".to_owned())), "fleet web at v1 asks for it"),
        (Root::Evidence(web()), "evidence of fleet web is of it"),
        (Root::Pin("by a person since then: why".to_owned()), "pinned by a person since then: why"),
        (Root::Claim("a bake".to_owned(), "12".to_owned()), "a bake (process 12) uses it"),
    ];
    for (root, words) in table {
        for state in [State::Usable, State::Unusable, State::Half] {
            let reached = Image { state: state.clone(), ..image("reached", 0) };
            let images = vec![reached, image("other", 0)];
            let roots = Roots {
                images: BTreeMap::from([(digest("reached"), BTreeSet::from([root.clone()]))]),
                ..Roots::default()
            };
            let plan = plan(&Seen { images, roots, ..Seen::default() }, rules(0, 7), day(30));
            assert_eq!(said(&plan, "reached"), format!("keep: {words}"), "{state:?}");
            assert_eq!(plan.names(), BTreeSet::from([(Kind::Image, digest("other"))]));
        }
    }
}

#[test]
fn the_newest_that_a_fleet_may_run_stay() {
    let mut images: Vec<_> =
        [("first", 1), ("second", 2), ("third", 3), ("fourth", 4)].map(|(name, at)| image(name, at)).into();
    images.push(Image { state: State::Unusable, ..image("failed", 5) });
    images.push(Image { name: "base".to_owned(), ..image("base", 1) });
    let seen = Seen { images, ..Seen::default() };
    for (keep, expected) in [
        (
            2,
            [
                ("fourth", "keep: the newest of its recipe"),
                ("third", "keep: the newest but 1 of its recipe"),
                ("second", "remove: nothing reaches it, 2 of its recipe are newer, made 28 d ago"),
                ("first", "remove: nothing reaches it, 3 of its recipe are newer, made 29 d ago"),
                ("failed", "remove: nothing reaches it, no fleet may run it, made 25 d ago"),
                ("base", "keep: the newest of its recipe"),
            ],
        ),
        (
            0,
            [
                ("fourth", "remove: nothing reaches it, 0 of its recipe are newer, made 26 d ago"),
                ("third", "remove: nothing reaches it, 1 of its recipe are newer, made 27 d ago"),
                ("second", "remove: nothing reaches it, 2 of its recipe are newer, made 28 d ago"),
                ("first", "remove: nothing reaches it, 3 of its recipe are newer, made 29 d ago"),
                ("failed", "remove: nothing reaches it, no fleet may run it, made 25 d ago"),
                ("base", "remove: nothing reaches it, 0 of its recipe are newer, made 29 d ago"),
            ],
        ),
    ] {
        let plan = plan(&seen, rules(keep, 7), day(30));
        for (name, words) in expected {
            assert_eq!(said(&plan, name), words, "keep {keep}");
        }
        let names: Vec<_> = plan.0.iter().map(|decision| decision.digest).collect();
        let order = ["base", "failed", "fourth", "third", "second", "first"].map(digest);
        assert_eq!(names, order, "by recipe, the newest first");
    }
}

#[test]
fn what_is_young_or_not_understood_stays() {
    let half = |name: &str, made| Image { state: State::Half, ..image(name, made) };
    let images = vec![
        image("old", 22),
        image("young", 24),
        image("of the future", 40),
        half("half", 22),
        half("young half", 24),
        Image { state: State::Unreadable("format 2".to_owned()), ..image("newer", 0) },
    ];
    let layers = vec![part("old layer", 22), part("young layer", 24)];
    let inputs = vec![part("old input", 22), part("young input", 24)];
    let plan = plan(&Seen { images, layers, inputs, ..Seen::default() }, rules(0, 7), day(30));
    for (name, words) in [
        ("old", "remove: nothing reaches it, 2 of its recipe are newer, made 8 d ago"),
        ("young", "keep: made 6 d ago"),
        ("of the future", "keep: made 0 s ago"),
        ("half", "remove: half an image: it has no record"),
        ("young half", "keep: made 6 d ago"),
        ("newer", "keep: its record does not read: format 2"),
        ("old layer", "remove: nothing that is kept uses it, made 8 d ago"),
        ("young layer", "keep: made 6 d ago"),
        ("old input", "remove: nothing that is kept uses it, made 8 d ago"),
        ("young input", "keep: made 6 d ago"),
    ] {
        assert_eq!(said(&plan, name), words);
    }
    // Exactly as old as the rule says is not younger.
    let seen = Seen { layers: vec![part("a layer", 23)], ..Seen::default() };
    assert_eq!(super::plan(&seen, rules(0, 7), day(30)).removed().count(), 1);
}

#[test]
fn a_recipe_whose_image_cannot_be_told_keeps_all_of_it() {
    let images =
        vec![image("one", 1), image("two", 2), Image { name: "base".to_owned(), ..image("base", 1) }];
    let root = Root::Unclear("api".to_owned(), Place::WorkTree, "a stale lock".to_owned());
    let recipes = BTreeMap::from([("web".to_owned(), BTreeSet::from([root]))]);
    let roots = Roots { recipes, ..Roots::default() };
    let plan = plan(&Seen { images, roots, ..Seen::default() }, rules(0, 7), day(30));
    let words = "keep: fleet api in the work tree may ask for it, which cannot be told: a stale lock";
    assert_eq!((said(&plan, "one").as_str(), said(&plan, "two").as_str()), (words, words));
    assert_eq!(plan.names(), BTreeSet::from([(Kind::Image, digest("base"))]));
}

#[test]
fn parts_stay_with_kept_images_and_what_names_them() {
    let parts = |kind: &str| {
        let names = ["kept", "gone", "asked"].map(|name| format!("{kind} of {name}"));
        names.map(|name| part(&name, 0)).to_vec()
    };
    let asked = |root: Root, name: &str| BTreeMap::from([(digest(name), BTreeSet::from([root]))]);
    let seen = Seen {
        images: vec![image("kept", 2), image("gone", 1)],
        layers: parts("layer"),
        inputs: parts("input"),
        roots: Roots {
            layers: asked(Root::Git("web".to_owned(), Place::WorkTree), "layer of asked"),
            inputs: asked(Root::Lock("web".to_owned(), Place::WorkTree), "input of asked"),
            ..Roots::default()
        },
        ..Seen::default()
    };
    let plan = plan(&seen, rules(1, 7), day(30));
    let made = format!("keep: image {} was made from it", digest("kept").short());
    for (name, words) in [
        ("layer of kept", made.as_str()),
        ("input of kept", &made),
        ("layer of asked", "keep: fleet web in the work tree asks for it"),
        ("input of asked", "keep: the lock of web in the work tree names it"),
    ] {
        assert_eq!(said(&plan, name), words);
    }
    let gone = [(Kind::Image, "gone"), (Kind::Layer, "layer of gone"), (Kind::Input, "input of gone")];
    assert_eq!(plan.names(), gone.map(|(kind, name)| (kind, digest(name))).into());
}

fn target(name: &str) -> Target {
    let fleet: Fleet = toml::from_str(
        "image = 'web'\nsize = 1\n[local]\nlisten = '127.0.0.1:1'\nport = 80\n[health]\nhttp = { port = 80, path = '/' }\n",
    )
    .expect("a fleet");
    Target::new(&fleet, digest(name))
}

/// Returns what a journal of these events reaches: image and words.
fn reached(events: &[Event]) -> Vec<(ImageId, String)> {
    let entries = events.iter().cloned().zip(1..).map(|(event, number)| Entry {
        version: 1,
        number,
        previous: digest("before"),
        at: day(1),
        by: Writer::this("a test"),
        event,
    });
    let entries: Vec<_> = entries.collect();
    let history = History::of(entries.iter().map(|entry| (entry.at, &entry.event)));
    let mut reached: Vec<_> =
        of_journal("web", &entries, &history).into_iter().map(|(id, root)| (id, root.to_string())).collect();
    reached.sort();
    reached
}

#[test]
fn a_journal_reaches_its_rollback_set_and_its_members() {
    let opened = |name: &str| Event::Opened {
        target: target(name),
        reason: "a test".to_owned(),
        emergency: false,
        fleet: None,
        commit: None,
    };
    let id = |number| InstanceId::new("web", number);
    let launch = |name: &str, number| Action::Launch {
        id: id(number),
        generation: target(name).generation,
        zone: None,
        founds: false,
    };
    let ended = |number| {
        let action = Action::Terminate { id: id(number), healthy: true, reason: String::new() };
        Event::Outcome { action, result: Ok(Outcome::Applied) }
    };
    let known = |expected: &[(&str, &str)]| {
        let mut known: Vec<_> =
            expected.iter().map(|(name, words)| (digest(name), (*words).to_owned())).collect();
        known.sort();
        known
    };
    let (last, before) = ("fleet web completed with it last", "fleet web completed with it before");
    let (rolling, rolled) = ("fleet web is being rolled to it", "the last rollout of fleet web went to it");
    let member = "the journal of fleet web has instances of it";

    let mut events = vec![opened("one"), Event::Intent { action: launch("one", 1) }];
    assert_eq!(reached(&events), known(&[("one", rolling), ("one", member)]));
    events.push(Event::Completed);
    assert_eq!(reached(&events), known(&[("one", rolled), ("one", last), ("one", member)]));
    events.extend([opened("two"), Event::Intent { action: launch("two", 2) }, Event::Completed]);
    events.extend([opened("three")]);
    assert_eq!(
        reached(&events),
        known(&[("three", rolling), ("two", last), ("two", member), ("one", before), ("one", member)])
    );
    events.push(ended(1));
    assert_eq!(
        reached(&events),
        known(&[("three", rolling), ("two", last), ("two", member), ("one", before)])
    );
    let halted = Event::Halted { reason: "2 failed".to_owned() };
    let mut others = events.clone();
    others.push(halted);
    assert_eq!(
        reached(&others),
        known(&[("three", rolled), ("two", last), ("two", member), ("one", before)])
    );

    // What was seen of an instance counts beside what it was launched from.
    let seen = Instance {
        id: id(2),
        generation: None,
        image: Some(digest("another")),
        state: Life::Running,
        health: Health::Healthy,
        in_service: true,
        launched_at: day(1),
        touched: None,
        connections: 0,
        address: None,
        zone: None,
        known_as: None,
        membership: None,
    };
    let look = |instance| Event::Seen {
        changed: vec![instance],
        gone: Vec::new(),
        outlook: Outlook::default(),
        group: None,
        cluster: None,
    };
    let mut others = events.clone();
    others
        .extend([look(seen.clone()), look(Instance { id: id(9), image: Some(digest("nobody's")), ..seen })]);
    assert_eq!(
        reached(&others),
        known(&[("three", rolling), ("two", last), ("two", member), ("one", before), ("another", member)])
    );

    events.push(Event::Down);
    assert_eq!(reached(&events), []);
}
