use super::*;

#[test]
fn a_backup_is_begun_when_it_is_due_and_its_members_are_left_alone() {
    let backups = |last: Option<i64>| Backups {
        every: SignedDuration::from_secs(1000),
        windows: Windows::default(),
        last: last.map(at),
        worked: false,
    };
    let with = |backups: Backups| Fleet { backups: Some(backups), ..fleet() };
    // The epoch was a Thursday.
    let night = Windows::parse(&["Thu 01:00-02:00".to_owned()], &[]).expect("windows");
    let at_night = || with(Backups { windows: night.clone(), ..backups(None) });
    let job = || Job::Backup { fleet: "web".into(), commit: "old".into() };
    let failed = |times: i64| {
        let each = |n: i64| [(n * 1000, began(job())), (n * 1000 + 10, ended(job(), 1))];
        let said = (11, Event::Unsaved { fleet: "web".into(), why: "why".into() });
        (0..times).flat_map(each).chain([said]).collect::<Vec<_>>()
    };
    let begins = "backup: fleet web: backup";
    for (events, fleet, seconds, expected) in [
        (vec![], fleet(), 99_999, ""),
        (vec![], with(backups(None)), 1, begins),
        (vec![], with(backups(Some(0))), 999, ""),
        (vec![], with(backups(Some(0))), 1000, begins),
        (vec![], at_night(), 3599, ""),
        (vec![], at_night(), 3600, begins),
        (vec![], with(Backups { worked: true, ..backups(None) }), 1, ""),
        (vec![], Fleet { rolled: true, ..with(backups(None)) }, 1, ""),
        (vec![], Fleet { paused: Some("a look".into()), ..with(backups(None)) }, 1, ""),
        // One whose rollout halted holds data all the same; one that is down does not.
        (vec![], Fleet { over: true, ..with(backups(None)) }, 1, begins),
        (vec![], Fleet { living: vec![], ..with(backups(None)) }, 1, ""),
        (vec![], Fleet { wants: Some("1 dead".into()), ..with(backups(None)) }, 1, "keep: fleet web: 1 dead"),
        // What failed is tried again, later and later, and not before the fleet was looked at.
        (failed(1), with(backups(None)), 909, ""),
        (failed(1), with(backups(None)), 910, begins),
        (failed(2), with(backups(None)), 4609, ""),
        (failed(2), with(backups(None)), 4610, begins),
        (failed(1), Fleet { at: at(5), ..with(backups(None)) }, 910, ""),
    ] {
        let found = told(&memory(&events), &seen("old", fleet.clone()), None, seconds);
        assert_eq!(found.join("\n"), expected, "{events:?} {fleet:?} {seconds}");
    }
    // Whom chaos would kill is being copied, and the other way round.
    let standing = Standing { every: SignedDuration::ZERO, windows: Windows::default(), leader: false };
    let both = Fleet { chaos: Some((standing, None)), ..with(backups(None)) };
    assert_eq!(told(&memory(&[]), &seen("old", both.clone()), None, 100), [begins]);
    for job in [job(), Job::Chaos { fleet: "web".into(), commit: "old".into(), leader: false }] {
        let running = Seen { running: vec![job], ..seen("old", both.clone()) };
        assert!(told(&memory(&[]), &running, None, 100).is_empty());
    }
}

#[test]
fn what_is_seen_of_backups_has_the_last_try_of_a_watcher() {
    let backups = |last: i64| Backups {
        every: SignedDuration::from_secs(1000),
        windows: Windows::default(),
        last: Some(at(last)),
        worked: false,
    };
    let failing = crate::watch::memory::Failing { times: 1, at: at(100) };
    let failed = crate::watch::memory::Unsaved { failing, why: "nobody\nat all".to_owned(), told: true };
    for (lacks, failed, last, expected) in [
        (None, None, None, None),
        (Some("none counts"), None, None, Some("none counts")),
        (Some("none counts"), Some(&failed), None, Some("none counts; the last try failed: nobody")),
        (None, Some(&failed), Some(99), Some("the last try failed: nobody")),
        // Somebody took one since, or the backups' own journal says it.
        (None, Some(&failed), Some(100), None),
        (Some("backup x failed: nobody"), Some(&failed), None, Some("backup x failed: nobody")),
    ] {
        let seen = last.map(backups);
        assert_eq!(shown(lacks, failed, seen.as_ref()).as_deref(), expected, "{lacks:?} {last:?}");
    }
}

#[test]
fn that_backups_fail_is_told_once() {
    let job = || Job::Backup { fleet: "web".into(), commit: "old".into() };
    let told = |events: &[(i64, Event)]| told(&memory(events), &seen("old", fleet()), None, 20);
    let mut events = vec![(1, began(job())), (2, ended(job(), 1))];
    assert_eq!(told(&events), ["the backup of fleet web failed: why"]);
    events.push((3, Event::Unsaved { fleet: "web".into(), why: "why".into() }));
    assert!(told(&events).is_empty());
    events.extend([(4, began(job())), (5, ended(job(), 1))]);
    assert!(told(&events).is_empty());
    events.extend([(6, began(job())), (7, ended(job(), 0)), (8, began(job())), (9, ended(job(), 1))]);
    assert_eq!(told(&events).len(), 1);
}
