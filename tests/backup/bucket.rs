//! `rekiln backup` with a bucket, over the wire: a real database, and S3 as moto has it behind a proxy that spoils requests.

use std::process::{Command, Stdio};

use rekiln::digest::Digest;
use rekiln::process::Run as _;
use serde_json::{Value, json};

use super::played::{BUCKET, Is, Played};
use crate::publish::stage::{self, Ended, REGION, elsewhere};

/// More than one part of it: 16 MiB, compressed. What is random does not get smaller than its digits allow.
const MUCH: &str = "CREATE TABLE t AS SELECT g, (SELECT string_agg(md5(random()::text || g || n), '') FROM generate_series(1, 32768) n) \
                    FROM generate_series(1, 40) g";

/// What `backup run` says of the one that it took.
fn backup(ended: &Ended) -> Value {
    ended.events("backup").pop().expect("a backup")
}

fn id(backup: &Value) -> String {
    backup["id"].as_str().expect("an id").to_owned()
}

fn must_say(ended: &Ended, words: &[&str]) {
    for word in words {
        assert!(ended.stderr.contains(word), "`{word}` is not said: {}", ended.stderr);
    }
}

#[test]
fn a_backup_in_a_bucket_is_restored_byte_by_byte_or_does_not_count() {
    let played = Played::new(Is::Well);
    played.server.ask(MUCH);
    must_say(&played.run(&["backup", "status", "db"]).must(1), &["no backup counts"]);
    let ended = played.run(&["backup", "run", "db"]).must(0);
    let first = backup(&ended);
    let parts = played.parts(&id(&first));
    assert_eq!((&first["source"], &first["taken"]["parts"]), (&json!("db-1"), &json!(2)), "{first:#}");
    assert_eq!(parts, [1, 2].map(|number| format!("{}/{number:08}", id(&first))));
    assert_eq!(played.kinds(), ["opened", "begun", "taken", "tried", "proved", "closed"]);
    // Whoever has no rekiln has the parts: one after the other, they are what was taken.
    let bytes: Vec<u8> = parts.iter().flat_map(|part| played.read(part)).collect();
    assert_eq!(first["taken"]["sha256"], Digest::of(&bytes).to_string());
    assert_eq!(first["taken"]["bytes"], bytes.len());
    assert_eq!(played.read(&parts[0]).len(), 16 << 20);
    let listed =
        Command::new("tar").args(["-tz"]).stderr(Stdio::null()).run_with_input(&bytes).expect("an archive");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("backup_manifest") && listed.contains("pg_wal/"), "{listed}");
    // The password is nowhere where others look.
    let said = format!("{}{}{:?}", ended.stdout, ended.stderr, played.journal());
    assert!(!said.contains(&played.password));

    // With one kept, the next makes the first needless.
    let second = backup(&played.run(&["backup", "run", "db"]).must(0));
    assert_eq!(played.parts(&id(&first)), [""; 0]);
    let parts = played.parts(&id(&second));
    assert!(parts.len() == 2 && played.kinds().contains(&"removed".to_owned()), "{parts:?}");
    let status = played.run(&["backup", "status", "db"]).must(0);
    assert!(status.stdout.contains(&id(&second)), "{}", status.stdout);

    // A byte that changed, and a part that is gone: it does not count any more, and counts again once it is as it was.
    let good = played.read(&parts[1]);
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    played.write(&parts[1], &bad);
    let refused = played.run(&["backup", "prove", "db"]).must(1);
    must_say(&refused, &["the machine refuses it: its SHA-256 is", "rekiln backup status db"]);
    must_say(&played.run(&["backup", "status", "db"]).must(1), &["no backup counts", "its SHA-256 is"]);
    played.remove(&parts[1]);
    let missing = played.run(&["backup", "prove", "db"]).must(1);
    must_say(
        &missing,
        &[&format!("s3://{BUCKET}/prod/backups/db/{} is not there", parts[1]), "is not whole"],
    );
    // It is kept: whoever takes it away decides that.
    assert_eq!(played.parts(&id(&second)), &parts[..1]);
    played.write(&parts[1], &good);
    played.run(&["backup", "prove", "db"]).must(0);
    played.run(&["backup", "status", "db"]).must(0);

    // What somebody took out of the journal is noticed before anything is done.
    let entry = format!("{:020}.json", 3);
    let bytes = played.read(&entry);
    played.remove(&entry);
    for command in ["run", "status", "prove"] {
        must_say(&played.run(&["backup", command, "db"]).must(1), &["is broken at entry 3"]);
    }
    played.write(&entry, &bytes);
    played.run(&["backup", "status", "db"]).must(0);
}

#[test]
fn of_two_one_works_and_what_a_killed_one_left_is_removed() {
    let played = Played::new(Is::Well);
    // That it begins, what it begins, and then a part, which the bucket has and nobody hears of.
    let killed = |with: &dyn Fn()| {
        played.stage.cloud.rules(&json!([{ "operation": "s3:PUT", "nth": 3, "do": "hold_after" }]));
        let mut running = played.begin(&["backup", "run", "db"]);
        played.stage.cloud.wait_for_held(&mut running.child);
        with();
        running.child.kill().expect("killed");
        assert_eq!(running.end().code, None);
        played.stage.cloud.forget_calls();
        let begun = played.journal().pop().expect("an entry");
        assert_eq!((&begun["kind"], played.parts(&id(&begun)).len()), (&json!("begun"), 1), "{begun}");
        // Nobody goes on copying from the database.
        played.server.until("SELECT count(*) FROM pg_stat_replication", "0");
        id(&begun)
    };
    let first = killed(&|| {
        for command in ["run", "prove"] {
            let second = played.run(&["backup", command, "db"]).must(4);
            must_say(&second, &["`rekiln backup run db`", "has the journal of the backups of db"]);
        }
        // Nobody on another computer can look whether a process lives: it is heard of.
        let second = elsewhere(&played.command(&["backup", "run", "db"])).must(4);
        must_say(&second, &["it counts as gone as of"]);
        let status = played.run(&["backup", "status", "db"]).must(1);
        assert!(status.stdout.contains("\"working\":\"rekiln backup run db\""), "{}", status.stdout);
        let reaped = played.run(&["reap"]).must(0);
        assert!(reaped.stderr.contains("works at backups of db"), "{}", reaped.stderr);
    });
    let reaped = played.run(&["reap"]).must(0);
    assert!(
        reaped.stdout.contains(&format!("backup {first} of db, which is not whole")),
        "{}",
        reaped.stdout
    );
    assert_eq!(played.parts(&first), [""; 0]);
    let failed = |id: &str| {
        let why = json!({ "kind": "failed", "id": id, "why": "its process ended before it did" });
        assert!(played.journal().contains(&why), "{:?}", played.journal());
    };
    failed(&first);
    // There is nothing to do, and nothing is written.
    let entries = played.kinds().len();
    played.run(&["reap"]).must(0);
    assert_eq!(played.kinds().len(), entries);
    // Nobody has to: the next one does the same first.
    let second = killed(&|| ());
    assert_ne!(first, second);
    let next = backup(&played.run(&["backup", "run", "db"]).must(0));
    failed(&second);
    let parts: Vec<_> = played.kept().into_iter().filter(|name| name.contains('/')).collect();
    assert_eq!(parts, played.parts(&id(&next)));
    assert_eq!(crate::bake::names(&played.stage.path("store/tmp")), [""; 0]);
}

#[test]
fn what_a_bucket_does_not_take_loses_nothing() {
    let played = Played::new(Is::Well);
    let cloud = &played.stage.cloud;
    // Each request may fail, or be carried out and not answered.
    let rule = |call: &str, nth: u32, fault: &str| json!({ "operation": call, "nth": nth, "do": fault });
    cloud.rules(&json!([
        rule("s3:PUT", 1, "lost"),
        rule("s3:PUT", 3, "500"),
        rule("s3:PUT", 5, "lost"),
        rule("s3:PUT", 7, "503"),
        rule("s3:PUT", 9, "reset"),
        rule("s3:GET", 2, "reset"),
        rule("s3:GET", 6, "truncate"),
    ]));
    let good = backup(&played.run(&["backup", "run", "db"]).must(0));
    let struck = cloud.calls().iter().filter(|call| call.fault.is_some()).count();
    assert!(struck >= 5, "{struck} requests were spoiled");
    cloud.rules(&json!([]));
    assert_eq!(played.kinds(), ["opened", "begun", "taken", "tried", "proved", "closed"]);
    let bytes: Vec<u8> = played.parts(&id(&good)).iter().flat_map(|part| played.read(part)).collect();
    assert_eq!(good["taken"]["sha256"], Digest::of(&bytes).to_string());

    // Who may not look begins nothing.
    let denied = |call: &str, nth: u32| {
        json!([{ "operation": call, "nth": nth, "times": -1, "do": "error", "code": "AccessDenied", "status": 403,
            "message": "Access Denied" }])
    };
    let entries = played.kinds().len();
    cloud.rules(&denied("s3:GET", 1));
    for command in ["run", "status", "prove"] {
        let ended = played.run(&["backup", command, "db"]).must(1);
        must_say(&ended, &["backups", "403", "s3:ListBucket", "rekiln aws policy --roll"]);
    }
    must_say(&played.run(&["reap"]).must(1), &["what is left of backups of db", "s3:ListBucket"]);
    cloud.rules(&json!([]));
    assert_eq!(played.kinds().len(), entries);
    // Who may not write any more, in the middle of it, says so, and what counts goes on counting.
    cloud.rules(&denied("s3:PUT", 3));
    let ended = played.run(&["backup", "run", "db"]).must(1);
    must_say(&ended, &["writing s3://backups/prod/backups/db/", "s3:PutObject", "could not be written down"]);
    cloud.rules(&json!([]));
    let status = played.run(&["backup", "status", "db"]).must(0);
    assert!(status.stdout.contains(&id(&good)), "{}", status.stdout);
    assert_eq!(played.kinds().last().map(String::as_str), Some("begun"));
    let next = backup(&played.run(&["backup", "run", "db"]).must(0));
    assert_eq!(played.parts(&id(&good)), [""; 0]);
    // Who may not remove (S3 takes several names at once, by a POST) says what is left, and the next one removes it.
    cloud.rules(&denied("s3:POST", 1));
    let ended = played.run(&["backup", "run", "db"]);
    cloud.rules(&json!([]));
    must_say(&ended.must(1), &["removing s3://backups/prod/backups/db/", "s3:DeleteObject"]);
    assert!(!played.parts(&id(&next)).is_empty());
    played.run(&["reap"]).must(0);
    assert_eq!(played.parts(&id(&next)), [""; 0]);
    played.run(&["backup", "status", "db"]).must(0);

    // A network that leads nowhere.
    let entries = played.kinds().len();
    for command in ["run", "status"] {
        let mut away = played.command(&["backup", command, "db"]);
        let away = stage::ended(away.env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")).must(1);
        must_say(&away, &["opening the bucket backups", "127.0.0.1:9", "is reached from here"]);
    }
    assert_eq!(played.kinds().len(), entries);
    // A bucket that is not there.
    played.edit("s3://backups/prod", "s3://nowhere/prod");
    for command in ["run", "status"] {
        let ended = played.run(&["backup", command, "db"]).must(1);
        must_say(
            &ended,
            &[&format!("opening the bucket nowhere in {REGION}"), "check that the bucket is there"],
        );
    }
}
