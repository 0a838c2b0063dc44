use super::*;
use crate::digest::Digest;
use crate::fleet::cluster::Membership;

fn at(hours: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
}

fn taken() -> Taken {
    Taken { sha256: Digest::of(b"x"), bytes: 1, parts: 1, took: SignedDuration::from_secs(1) }
}

fn proof() -> Proof {
    let (boot, restore) = (SignedDuration::from_secs(1), SignedDuration::from_secs(2));
    Proof { boot, restore, rows: 1, first: "1".to_owned(), data: None }
}

/// One that began at `hours`, and what was said of it: `t`aken, t`r`ied, `p`roved, `f`ailed, `x` removed.
fn said(backups: &mut Backups, hours: i64, how: &str) -> BackupId {
    let id = backups.name(at(hours));
    let source = InstanceId::new("db", 2);
    backups.add(at(hours), &Event::Begun { id: id.clone(), source, image: Digest::of(b"image") });
    for what in how.chars() {
        say(backups, hours, &id, what);
    }
    id
}

fn say(backups: &mut Backups, hours: i64, id: &BackupId, what: char) {
    let (id, why) = (id.clone(), "why".to_owned());
    let event = match what {
        't' => Event::Taken { id, taken: taken() },
        'r' => Event::Tried { id },
        'p' => Event::Proved { id, proof: proof() },
        'f' => Event::Failed { id, why },
        _ => Event::Removed { id, why },
    };
    backups.add(at(hours), &event);
}

#[test]
fn only_a_proved_one_counts() {
    for (how, counts, kept, unfinished, failed) in [
        ("", false, false, true, false),
        ("f", false, false, false, true),
        ("t", false, true, false, false),
        ("tr", false, true, true, false),
        ("trf", false, true, false, true),
        ("trp", true, true, false, false),
        // Asked again later: what was good may have become bad.
        ("trprf", false, true, false, true),
        ("trprfrp", true, true, false, false),
        ("trpx", false, false, false, false),
    ] {
        let mut backups = Backups::default();
        let id = said(&mut backups, 1, how);
        assert_eq!(backups.proved().is_some(), counts, "{how}");
        let backup = backups.get(&id).expect("it is known");
        assert_eq!(backup.is_kept(), kept, "{how}");
        assert_eq!(!backups.unfinished().is_empty(), unfinished, "{how}");
        assert_eq!(backups.failed().count(), usize::from(failed), "{how}");
    }
}

#[test]
fn what_is_written_is_what_is_read() {
    let id = BackupId::at(at(1));
    let (why, source, image) = ("why".to_owned(), InstanceId::new("db", 1), Digest::of(b"image"));
    for event in [
        Event::Opened,
        Event::Begun { id: id.clone(), source, image },
        Event::Taken { id: id.clone(), taken: taken() },
        Event::Tried { id: id.clone() },
        Event::Proved { id: id.clone(), proof: proof() },
        Event::Failed { id: id.clone(), why: why.clone() },
        Event::Removed { id, why },
        Event::Closed,
    ] {
        let written = serde_json::to_string(&event).expect("it is written");
        let read: Event = serde_json::from_str(&written).unwrap_or_else(|why| panic!("{written}: {why}"));
        assert_eq!(read, event, "{written}");
    }
}

#[test]
fn names_are_times_and_used_once() {
    let mut backups = Backups::default();
    assert_eq!(said(&mut backups, 1, "").0, "19700101T010000Z");
    assert_eq!(backups.name(at(1)).0, "19700101T010001Z");
    // What was forgotten is not used again, and a clock that went back makes none look older than it is.
    said(&mut backups, 2, "trp");
    assert_eq!(backups.name(at(1)).0, "19700101T020001Z");
}

#[test]
fn what_is_kept() {
    for (all, keep, expected) in [
        // Nothing is removed before something counts.
        (&["t", "f", "trf"][..], 1, &[][..]),
        (&["trp", "trp", "trp"], 2, &[0]),
        (&["trp", "trp", "trp"], 3, &[]),
        // What is newer than the last that counts may be proved yet.
        (&["trf", "trp", "trf", "t"], 1, &[0]),
        (&["trp", "t", "trp", "trp"], 1, &[0, 1, 2]),
        // The last that counts stays, whatever is asked for.
        (&["trp"], 0, &[]),
        (&["trp", "trp"], 0, &[0]),
        (&["trpx", "trp"], 1, &[]),
    ] {
        let mut backups = Backups::default();
        let ids: Vec<_> = all.iter().zip(1..).map(|(how, hours)| said(&mut backups, hours, how)).collect();
        let surplus: Vec<_> = backups.surplus(keep).into_iter().map(|(id, _)| id).collect();
        let expected: Vec<_> = expected.iter().map(|at: &usize| ids[*at].clone()).collect();
        assert_eq!(surplus, expected, "{all:?}, {keep}");
    }
}

#[test]
fn failures_are_forgotten_once_something_counts() {
    let mut backups = Backups::default();
    said(&mut backups, 1, "f");
    said(&mut backups, 2, "trp");
    said(&mut backups, 3, "f");
    assert_eq!(backups.failed().count(), 1);
    assert_eq!(backups.iter().count(), 2);
}

#[test]
fn too_old_is_twice_as_old_as_it_should_become() {
    let every = SignedDuration::from_hours(6);
    for (last, now, expected) in [
        (Some(0), 12, None),
        (Some(0), 13, Some(at(12))),
        (None, 1, Some(Timestamp::UNIX_EPOCH)),
        // A clock that went back.
        (Some(5), 1, None),
    ] {
        assert_eq!(overdue(last.map(at), every, at(now)), expected, "{last:?} {now}");
    }
}

#[test]
fn whom_to_copy_from() {
    let member = |(number, role, caught_up, health): (u64, Option<Role>, bool, Health)| Instance {
        id: InstanceId::new("db", number),
        generation: None,
        image: None,
        state: Is::Running,
        health,
        in_service: true,
        launched_at: at(0),
        touched: None,
        connections: 0,
        address: None,
        zone: None,
        known_as: None,
        membership: role.map(|role| Membership { role, caught_up, stays: None }),
    };
    let (well, sick) = (Health::Healthy, Health::Unhealthy);
    let leader = (1, Some(Role::Leader), true, well);
    for (members, expected) in [
        (vec![leader], Some(1)),
        (
            vec![leader, (2, Some(Role::Replica), true, well), (3, Some(Role::Synchronous), true, well)],
            Some(3),
        ),
        (vec![leader, (2, Some(Role::Replica), true, well)], Some(2)),
        (vec![leader, (2, Some(Role::Replica), false, well)], Some(1)),
        (
            vec![leader, (2, Some(Role::Synchronous), true, sick), (3, Some(Role::Joining), true, well)],
            Some(1),
        ),
        (vec![leader, (4, Some(Role::Replica), true, well), (2, Some(Role::Replica), true, well)], Some(2)),
        (vec![(1, None, true, well)], None),
        (vec![], None),
    ] {
        let instances = members.iter().copied().map(member).collect();
        let census = Census { instances, ..Census::empty(at(1)) };
        let found = source(&census).ok().map(InstanceId::number);
        assert_eq!(found, expected, "{members:?}");
    }
}

#[test]
fn answers() {
    let row = |value: &str| vec![vec![value.to_owned()]];
    for (rows, least, expected) in [
        (row("x"), None, Ok(())),
        (vec![], None, Err("the query returned no row")),
        (row("20"), Some(20), Ok(())),
        (row("20.5"), Some(20), Ok(())),
        (row("19"), Some(20), Err("the query returned 19, and 20 is the least that is good")),
        (row(""), Some(0), Err("the query returned ``, which is no number, and `at_least` wants one")),
    ] {
        assert_eq!(judge(&rows, least), expected.map_err(str::to_owned), "{rows:?}");
    }
}
