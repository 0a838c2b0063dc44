use super::*;
use crate::provider::aws::group::seen::{Group as SeenGroup, Target};
use std::time::Instant;

/// The ARN of the only target group.
const TARGETS: &str = "arn:targets";

/// A member in AWS's words, with what EC2 and the target group say of it; an empty word is nothing said.
struct Word<'a> {
    lifecycle: &'a str,
    ec2: &'a str,
    target: &'a str,
    reason: &'a str,
}

fn look(words: &[Word<'_>]) -> Seen {
    let id = |number: usize| format!("i-{number}");
    let mut seen = Seen {
        began: Instant::now(),
        at: "2026-11-28T12:00:00Z".parse().expect("a time"),
        group: SeenGroup { target_groups: vec![TARGETS.to_owned()], ..SeenGroup::default() },
        machines: BTreeMap::new(),
        targets: BTreeMap::new(),
    };
    for (number, word) in words.iter().enumerate() {
        if !word.lifecycle.is_empty() {
            seen.group.desired += 1;
            let lifecycle = word.lifecycle.to_owned();
            seen.group.members.push(Member { id: id(number), lifecycle, healthy: true, ..Member::default() });
        }
        if !word.ec2.is_empty() {
            let machine = Machine { state: word.ec2.to_owned(), ..Machine::default() };
            seen.machines.insert(id(number), machine);
        }
        if !word.target.is_empty() {
            let target = Target { state: word.target.to_owned(), reason: word.reason.to_owned() };
            seen.targets.entry(TARGETS.to_owned()).or_default().insert(id(number), target);
        }
    }
    seen
}

/// Nothing is known beside the look, but what a test says.
fn with<T>(names: &BTreeMap<String, InstanceId>, ended: &[&str], work: impl FnOnce(&Known<'_>) -> T) -> T {
    work(&Known {
        names,
        ended: &|id| ended.contains(&id.0.as_str()),
        drained: &BTreeSet::new(),
        generation: &|_, _| None,
        launches: None,
        images: &BTreeMap::new(),
        answers: None,
        port: 80,
    })
}

fn plainly(seen: &Seen) -> Census {
    with(&BTreeMap::new(), &[], |known| census(seen, known))
}

#[test]
fn each_word_of_aws_is_one_of_ours() {
    let running = |health, in_service, connections| Some((State::Running, health, in_service, connections));
    for (lifecycle, ec2, target, reason, expected) in [
        ("InService", "running", "healthy", "", running(Health::Healthy, true, 0)),
        // Nobody sends requests to the target group at all.
        ("InService", "running", "unused", "Target.NotInUse", running(Health::Healthy, true, 0)),
        (
            "InService",
            "running",
            "initial",
            "Elb.RegistrationInProgress",
            running(Health::Unhealthy, false, 0),
        ),
        ("InService", "running", "unhealthy", "Target.Timeout", running(Health::Unhealthy, false, 0)),
        ("InService", "running", "unavailable", "", running(Health::Unknown, false, 0)),
        // Requests are still under way; and when they are not, it is only out of service.
        ("InService", "running", "draining", "", running(Health::Healthy, false, 1)),
        ("InService", "running", "unused", "Target.NotRegistered", running(Health::Healthy, false, 0)),
        ("InService", "running", "", "", running(Health::Healthy, false, 0)),
        // The group has not noticed yet.
        ("InService", "shutting-down", "healthy", "", Some((State::Dead, Health::Unhealthy, false, 0))),
        ("InService", "stopped", "healthy", "", Some((State::Dead, Health::Unhealthy, false, 0))),
        ("Pending", "pending", "", "", Some((State::Launching, Health::Unhealthy, false, 0))),
        ("Pending:Wait", "running", "healthy", "", Some((State::Launching, Health::Unhealthy, false, 0))),
        // EC2's list is behind.
        ("InService", "", "healthy", "", Some((State::Launching, Health::Unknown, false, 0))),
        ("Terminating", "running", "draining", "", Some((State::Dead, Health::Unhealthy, false, 0))),
        ("Terminating:Wait", "running", "", "", Some((State::Dead, Health::Unhealthy, false, 0))),
        ("Terminated", "terminated", "", "", Some((State::Dead, Health::Unhealthy, false, 0))),
        // Someone else's.
        ("Standby", "running", "", "", None),
        ("EnteringStandby", "running", "draining", "", None),
        ("Detaching", "running", "", "", None),
    ] {
        let seen = look(&[Word { lifecycle, ec2, target, reason }]);
        let found = plainly(&seen).instances;
        let found = found.iter().find(|instance| !instance.id.is_coming());
        let found = found.map(|one| (one.state, one.health, one.in_service, one.connections));
        assert_eq!(found, expected, "{lifecycle} {ec2} {target} {reason}");
    }
}

#[test]
fn what_the_group_is_about_to_launch_counts() {
    let up = Word { lifecycle: "InService", ec2: "running", target: "healthy", reason: "" };
    let mut seen = look(&[up]);
    seen.group.desired = 3;
    let found = plainly(&seen);
    let coming = found.instances.iter().filter(|one| one.id.is_coming());
    assert_eq!(coming.map(|one| one.state).collect::<Vec<_>>(), [State::Launching; 2]);
    // One that leaves is replaced unless the size shrinks with it.
    seen.group.members[0].lifecycle = "Terminating".to_owned();
    assert_eq!(plainly(&seen).instances.iter().filter(|one| one.state == State::Launching).count(), 3);
    // Nor does it wait for the group to notice that its machine has ended: a list may be older than the other.
    seen.group.members[0].lifecycle = "InService".to_owned();
    seen.machines.get_mut("i-0").expect("a machine").state = "shutting-down".to_owned();
    assert_eq!(plainly(&seen).instances.iter().filter(|one| one.state == State::Launching).count(), 3);
    seen.machines.get_mut("i-0").expect("a machine").state = "running".to_owned();
    // One that is out for a while does not count, and its place is taken if the size did not shrink.
    seen.group.members[0].lifecycle = "Standby".to_owned();
    let found = plainly(&seen);
    assert_eq!(found.instances.iter().filter(|one| one.state == State::Launching).count(), 3);
    assert!(found.trouble.is_some_and(|text| text.contains("i-0 in standby")));
}

#[test]
fn what_nobody_ends_is_named() {
    let kept = Word { lifecycle: "TerminatingRetained", ec2: "running", target: "", reason: "" };
    let mut seen = look(&[kept]);
    seen.group.desired = 0;
    assert!(plainly(&seen).trouble.is_some_and(|text| text.starts_with("i-0 kept by a lifecycle hook")));
}

#[test]
fn what_was_given_up_is_not_seen_again_and_what_died_by_itself_is() {
    let gone = |lifecycle| Word { lifecycle, ec2: "terminated", target: "", reason: "" };
    let names = BTreeMap::from([("i-0".to_owned(), InstanceId("web-1".to_owned()))]);
    for lifecycle in ["Terminating", "InService", ""] {
        let mut seen = look(&[gone(lifecycle)]);
        seen.group.desired = 0;
        let ids = |ended: &[&str]| -> Vec<(String, State)> {
            let found = with(&names, ended, |known| census(&seen, known));
            found.instances.into_iter().map(|one| (one.id.0, one.state)).collect()
        };
        assert_eq!(ids(&[]), [("web-1".to_owned(), State::Dead)], "{lifecycle}");
        assert_eq!(ids(&["web-1"]), [], "{lifecycle}");
        // AWS took it back: that says nothing against what it ran.
        let machine = seen.machines.get_mut("i-0").expect("a machine");
        machine.taken_back = true;
        let found = with(&names, &[], |known| census(&seen, known));
        assert_eq!(found.instances, [], "{lifecycle}");
    }
    // What rekiln did not launch and the group has no more is nobody's.
    let mut seen = look(&[gone("")]);
    seen.group.desired = 0;
    assert_eq!(plainly(&seen).instances, []);
}

#[test]
fn what_ec2_calls_those_that_have_a_name_is_kept() {
    let up = || Word { lifecycle: "InService", ec2: "running", target: "healthy", reason: "" };
    let names = BTreeMap::from([("i-0".to_owned(), InstanceId("web-1".to_owned()))]);
    let found = with(&names, &[], |known| census(&look(&[up(), up()]), known));
    let called: Vec<_> =
        found.instances.iter().map(|one| (one.id.0.as_str(), one.known_as.as_deref())).collect();
    assert_eq!(called, [("i-1", None), ("web-1", Some("i-0"))]);
    // Others may know one that has ended by it, too.
    let mut lost = look(&[Word { lifecycle: "", ec2: "terminated", target: "", reason: "" }]);
    lost.group.desired = 0;
    let found = with(&names, &[], |known| census(&lost, known)).instances;
    assert_eq!((found.len(), found[0].state, found[0].known_as.as_deref()), (1, State::Dead, Some("i-0")));
}

#[test]
fn a_health_check_of_the_fleets_own_has_a_say() {
    let up = || Word { lifecycle: "InService", ec2: "running", target: "healthy", reason: "" };
    let seen = look(&[up(), up(), up()]);
    let answers =
        BTreeMap::from([("i-0".to_owned(), Health::Healthy), ("i-1".to_owned(), Health::Unhealthy)]);
    let names = BTreeMap::new();
    let found = with(&names, &[], |known| census(&seen, &Known { answers: Some(&answers), ..*known }));
    let health: Vec<_> = found.instances.iter().map(|one| (one.health, one.in_service)).collect();
    // What the load balancer finds well, and the fleet does not yet, has not served: it is no failure before its deadline.
    let expected = [(Health::Healthy, true), (Health::Unhealthy, false), (Health::Unknown, false)];
    assert_eq!(health, expected);
}
