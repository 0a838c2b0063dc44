use std::path::Path;

use super::*;
use crate::digest::Digest;

fn image() -> ImageId {
    Digest::of(b"web")
}

/// A fleet of two instances into which nobody gets.
fn closed() -> Seen {
    let origin = Origin { name: "ami-1".to_owned(), image: Some(image()) };
    let member = |id: &str| Member {
        id: id.to_owned(),
        origin: origin.clone(),
        doors: Doors {
            security_groups: ["sg-1".to_owned()].into(),
            profile: Some("web".to_owned()),
            ..Doors::default()
        },
        ..Member::default()
    };
    let web = Ingress { ports: (80, 80), sources: ["0.0.0.0/0".to_owned()].into() };
    Seen {
        instances: vec![member("i-1"), member("i-2")],
        sources: vec![Source {
            name: "launch template web version 7".to_owned(),
            origins: vec![origin.clone()],
            doors: Doors::default(),
        }],
        security_groups: [("sg-1".to_owned(), vec![web])].into(),
        profiles: [("web".to_owned(), Vec::new())].into(),
        images: [(image(), Known::default())].into(),
        ..Seen::default()
    }
}

fn ingress(first: u16, last: u16, sources: &[&str]) -> Ingress {
    Ingress { ports: (first, last), sources: sources.iter().map(ToString::to_string).collect() }
}

/// What stands in the fleet's way, or someone's: a change, and each finding as `rule: what: where`.
type Case = (&'static str, fn(&mut Seen), &'static str);

const DOORS: [Case; 10] = [
    (
        "a key pair of one instance",
        |seen| seen.instances[1].doors.key_pair = Some("ops".to_owned()),
        "key-pair: key pair ops: i-2",
    ),
    (
        "the same key pair everywhere is one finding",
        |seen| {
            for doors in seen.instances.iter_mut().map(|member| &mut member.doors) {
                doors.key_pair = Some("ops".to_owned());
            }
            seen.sources[0].doors.key_pair = Some("ops".to_owned());
        },
        "key-pair: key pair ops: i-1, i-2, launch template web version 7",
    ),
    (
        "SSH, from two places by two rules",
        |seen| opened(seen, &[ingress(22, 22, &["sg-9"]), ingress(0, 1024, &["10.0.0.0/8"])]),
        "open-port: sg-1 opens port 22 (SSH) to 10.0.0.0/8, sg-9: i-1, i-2",
    ),
    (
        "RDP, at the edge of a range",
        |seen| opened(seen, &[ingress(3389, 4000, &["::/0"])]),
        "open-port: sg-1 opens port 3389 (RDP) to ::/0: i-1, i-2",
    ),
    ("ports beside them", |seen| opened(seen, &[ingress(23, 3388, &["0.0.0.0/0"])]), ""),
    ("a rule that lets nobody in", |seen| opened(seen, &[ingress(22, 22, &[])]), ""),
    (
        "another group, which no instance has",
        |seen| {
            seen.security_groups.insert("sg-2".to_owned(), vec![ingress(22, 22, &["0.0.0.0/0"])]);
        },
        "",
    ),
    (
        "a profile with an agent's permissions",
        |seen| {
            seen.profiles.insert("web".to_owned(), vec!["ssm:UpdateInstanceInformation".to_owned()]);
        },
        "remote-access: web allows ssm:UpdateInstanceInformation: i-1, i-2",
    ),
    (
        "metadata without a token, from now on",
        |seen| seen.sources[0].doors.metadata_v1 = true,
        "metadata-v1: metadata is given without a token: launch template web version 7",
    ),
    (
        "a public address",
        |seen| seen.instances[0].doors.public_address = Some("198.51.100.7".to_owned()),
        "public-address: 198.51.100.7: i-1",
    ),
];

const REST: [Case; 10] = [
    (
        "a foreign image",
        |seen| seen.instances[0].origin.image = None,
        "foreign-image: ami-1 is no image of rekiln: i-1",
    ),
    (
        "an image that the store does not have",
        |seen| {
            seen.images.clear();
            seen.sources.clear();
        },
        "foreign-image: ami-1 says it is image IMAGE, which this store does not have: i-1, i-2",
    ),
    (
        "a debug variant",
        |seen| seen.images.entry(image()).or_default().debug = true,
        "weak-image: image IMAGE is a debug variant, with a root shell: i-1, i-2, launch template web version 7",
    ),
    (
        "an exception that lets someone in",
        |seen| excepted(seen, "ssh-server"),
        "weak-image: image IMAGE is excepted from ssh-server: for now: i-1, i-2, launch template web version 7",
    ),
    ("an exception that does not", |seen| excepted(seen, "setuid"), ""),
    (
        "touched",
        |seen| seen.instances[0].touched = Some("a shell on tty1".to_owned()),
        "touched: a shell on tty1: i-1",
    ),
    (
        "Systems Manager",
        |seen| seen.instances[0].managed = true,
        "managed: Systems Manager's agent answers: i-1",
    ),
    (
        "a session",
        |seen| seen.instances[0].sessions = ["ops at noon".to_owned()].into(),
        "session: ops at noon: i-1",
    ),
    (
        "serial consoles",
        |seen| seen.serial_consoles = true,
        "serial-console: serial consoles can be opened in this region: ",
    ),
    (
        "what nobody may look at",
        |seen| seen.unseen = vec![("profiles".to_owned(), "AccessDenied".to_owned())],
        "unseen: profiles: AccessDenied: ",
    ),
];

fn opened(seen: &mut Seen, rules: &[Ingress]) {
    seen.security_groups.entry("sg-1".to_owned()).or_default().extend(rules.iter().cloned());
}

fn excepted(seen: &mut Seen, rule: &str) {
    let exception = (rule.to_owned(), "for now".to_owned());
    seen.images.entry(image()).or_default().exceptions = vec![exception];
}

#[test]
fn each_way_in_is_found_and_a_closed_fleet_has_none() {
    assert_eq!(audit(&closed()), []);
    for (name, change, expected) in DOORS.into_iter().chain(REST) {
        let mut seen = closed();
        change(&mut seen);
        let found = audit(&seen);
        let found = found.iter().map(|one| format!("{}: {}: {}", one.rule, one.what, one.on.join(", ")));
        assert_eq!(
            found.collect::<Vec<_>>().join("\n"),
            expected.replace("IMAGE", &image().short()),
            "{name}"
        );
    }
}

#[test]
fn without_instances_nobody_needs_their_consoles() {
    assert_eq!(audit(&Seen { serial_consoles: true, ..Seen::default() }), []);
}

#[test]
fn what_is_worst_comes_first() {
    let mut seen = closed();
    seen.instances[0].doors.public_address = Some("198.51.100.7".to_owned());
    seen.instances[0].doors.key_pair = Some("ops".to_owned());
    seen.instances[1].touched = Some("a shell".to_owned());
    let rules: Vec<_> = audit(&seen).into_iter().map(|finding| finding.rule).collect();
    assert_eq!(rules, ["touched", "key-pair", "public-address"]);
}

#[test]
fn a_report_for_other_programs_names_file_rule_and_instances() {
    let mut seen = closed();
    seen.instances[0].doors.key_pair = Some("ops".to_owned());
    let findings = audit(&seen);
    let report = sarif([(Path::new("fleets/web.toml"), findings.as_slice())]);
    assert_eq!(report["version"], "2.1.0");
    let run = &report["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().expect("rules");
    assert_eq!(rules.len(), RULES.len());
    let result = &run["results"][0];
    assert!(rules.iter().any(|rule| rule["id"] == result["ruleId"]), "{result}");
    assert_eq!((&result["ruleId"], &result["level"]), (&"key-pair".into(), &"error".into()));
    assert_eq!(result["message"]["text"], "key pair ops");
    let place = &result["locations"][0];
    assert_eq!(place["physicalLocation"]["artifactLocation"]["uri"], "fleets/web.toml");
    assert_eq!(place["logicalLocations"][0]["fullyQualifiedName"], "i-1");
}
