//! Backups of a real database on this computer, without a machine: taken of a server and of its replica, written down,
//! fetched by the program that images have, and refused when a byte differs. `bucket` has the same over the wire.

#[cfg(feature = "aws")]
mod bucket;
#[cfg(feature = "aws")]
pub mod played;
pub mod server;
#[cfg(feature = "aws")]
mod watched;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use rekiln::backup::run::{Member, Work, measured};
use rekiln::backup::serve::Serving;
use rekiln::backup::take::Source;
use rekiln::backup::{BackupId, Event, Journal, Place, Proof, State, Taken};
use rekiln::chain::Writer;
use rekiln::digest::Digest;
use rekiln::fleet::Fleet;
use rekiln::fleet::backup::Settings;
use rekiln::fleet::census::InstanceId;
use rekiln::objects::Objects;
use rekiln::progress::Silent;
use rekiln::store::Store;
use server::{PASSWORD, Server};
use tokio::runtime::Runtime;

const FLEET: &str = "image = 'db'\nsize = 3\n[local]\nlisten = '127.0.0.1:5432'\nport = 5432\nnetwork = true\ndata = '1G'\n\
    [health]\nhttp = { port = 8008, path = '/health' }\n[stateful]\npatroni = {}\n\
    [backup]\ntarget = 'file://@'\nkeep = 1\nquery = 'SELECT count(*) FROM t'\nat_least = 1\n";

/// A target, and who works at it.
struct Desk {
    dir: tempfile::TempDir,
    runtime: Runtime,
    fleet: Fleet,
}

impl Desk {
    fn new() -> Self {
        let dir = server::directory();
        let fleet = FLEET.replace('@', &dir.path().join("target").display().to_string());
        let fleet = toml::from_str(&fleet).expect("a fleet");
        Self { dir, runtime: Runtime::new().expect("a runtime"), fleet }
    }

    fn place(&self) -> Place {
        Place::new(Objects::Directory(self.dir.path().join("target")), "db")
    }

    /// A command that has read the journal.
    fn work(&self, command: &str) -> Work<'_> {
        let store = self.dir.path().join("store").display().to_string();
        Work {
            name: "db",
            fleet: &self.fleet,
            settings: Settings::of(&self.fleet).expect("it reads").expect("it has backups"),
            store: Store::open(&store).expect("a store"),
            place: self.place(),
            journal: self.runtime.block_on(self.place().journal(command)).expect("a journal"),
            has: false,
            handle: self.runtime.handle().clone(),
            progress: &Silent,
        }
    }

    fn member(&self, port: u16, password: &str) -> Member {
        let passwords = self.dir.path().join("pgpass");
        fs::write(&passwords, format!("*:*:*:backup:{password}\n")).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&passwords, mode).expect("set");
        let (id, image) = (InstanceId::new("db", 2), Digest::of(b"image"));
        let source = Source { address: ([127, 0, 0, 1], port).into(), role: "backup".to_owned(), passwords };
        Member { id, image, source }
    }

    fn parts(&self, id: &BackupId) -> PathBuf {
        self.dir.path().join("target/backups/db").join(&id.0)
    }

    fn say(&self, work: &mut Work<'_>, event: Event) {
        self.runtime.block_on(work.journal.record(Timestamp::now(), event)).expect("written");
    }

    /// Has the program of the image fetch and check it; nothing when that is as it should be.
    fn fetched(&self, id: &BackupId, taken: &Taken, data: &Path) -> Option<String> {
        let serving = Serving::start(self.place().parts(id), taken, self.runtime.handle()).expect("started");
        let told = serving.told();
        let url = told.url.replace("10.0.2.100", &serving.address().to_string());
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("bootstrap/db/member.py.hbs");
        let file = self.dir.path().join("member.py");
        fs::copy(program, &file).expect("copied");
        let script = "import importlib.util, json, os, sys\n\
            spec = importlib.util.spec_from_file_location('member', sys.argv[1])\n\
            member = importlib.util.module_from_spec(spec); spec.loader.exec_module(member)\n\
            os.mkdir(sys.argv[4], 0o700)\n\
            sys.stdout = sys.stderr\n\
            why = member.fetch(dict(url=sys.argv[2], sha256=sys.argv[3]), sys.argv[4])\n\
            print(json.dumps(why), file=sys.__stdout__)\n";
        let mut python = Command::new("python3");
        python.args(["-IB", "-c", script]).arg(&file).args([&url, &told.sha256.to_string()]).arg(data);
        let output = python.output().expect("python3 runs");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}");
        serde_json::from_slice(&output.stdout).expect("a word")
    }
}

fn proof() -> Proof {
    let (boot, restore) = (jiff::SignedDuration::from_secs(1), jiff::SignedDuration::from_secs(2));
    Proof { boot, restore, rows: 1, first: "1".to_owned(), data: None }
}

#[test]
fn what_is_taken_of_a_replica_is_restored_as_it_was() {
    let desk = Desk::new();
    let leader = Server::new(&desk.dir.path().join("leader"));
    leader.ask("CREATE TABLE t AS SELECT generate_series(1, 20000) AS id, repeat('x', 100) AS text");
    let replica = leader.replica(&desk.dir.path().join("replica"));
    leader.ask("INSERT INTO t VALUES (0, 'the last')");
    replica.until("SELECT count(*) FROM t", "20001");

    let mut work = desk.work("backup run");
    assert_eq!(work.begin().expect("nobody has it"), Vec::<String>::new());
    let (id, taken) = work.take(&desk.member(replica.port, PASSWORD)).expect("taken");
    assert!(taken.bytes > 100_000 && taken.parts == 1, "{taken:?}");
    let backup = work.journal.history().get(&id).expect("written down");
    assert_eq!((&backup.state, backup.proved()), (&State::Taken, None), "it does not count yet");
    // The argument of a process is for all to see, and so is a journal.
    let files = fs::read_dir(desk.dir.path().join("target/backups/db")).expect("a directory").flatten();
    for file in files.map(|entry| entry.path()).filter(|path| path.is_file()) {
        assert!(!fs::read_to_string(&file).expect("read").contains(PASSWORD), "{}", file.display());
    }

    // Another process may not work at them meanwhile.
    let mut other = desk.work("backup prove");
    let error = other.begin().expect_err("the first has it");
    assert_eq!(error.exit_code(), 4, "{}", error.chain());

    let data = desk.dir.path().join("restored");
    assert_eq!(desk.fetched(&id, &taken, &data), None);
    // As Patroni does it: what was a replica founds.
    fs::remove_file(data.join("standby.signal")).expect("it was a replica's");
    drop((leader, replica));
    let restored = Server::over(&data);
    restored.until("SELECT pg_is_in_recovery()", "f");
    assert_eq!(restored.ask("SELECT count(*), max(text) FROM t"), format!("20001|{}", "x".repeat(100)));

    desk.say(&mut work, Event::Tried { id: id.clone() });
    desk.say(&mut work, Event::Proved { id: id.clone(), proof: proof() });
    assert_eq!(work.prune().expect("pruned"), []);
    work.end().expect("given back");
    let work = desk.work("backup status");
    let measured = measured(work.journal.history()).expect("it counts");
    assert_eq!((measured.bytes, measured.restore.as_secs()), (taken.bytes, 2));
}

#[test]
fn what_is_not_as_it_was_is_refused() {
    let desk = Desk::new();
    let server = Server::new(&desk.dir.path().join("server"));
    server.ask("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id");
    let mut work = desk.work("backup run");
    work.begin().expect("nobody has it");
    let (id, taken) = work.take(&desk.member(server.port, PASSWORD)).expect("taken");
    let part = desk.parts(&id).join("00000001");
    let good = fs::read(&part).expect("read");
    let refused = |name: &str, bytes: &[u8], taken: &Taken| {
        fs::write(&part, bytes).expect("written");
        desk.fetched(&id, taken, &desk.dir.path().join(name)).expect("it is refused")
    };
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let why = refused("flipped", &flipped, &taken);
    assert!(
        why.starts_with("its SHA-256 is ") && why.ends_with(&format!("should be {}", taken.sha256)),
        "{why}"
    );
    let why = refused("half", &good[..middle], &Taken { bytes: middle as u64, ..taken.clone() });
    assert!(why.starts_with("its SHA-256 is "), "{why}");
    // Whoever took it wrote something else than what the server sent: the digest is right, and the files are not.
    let data = desk.dir.path().join("other");
    fs::create_dir(&data).expect("made");
    let tar = |args: &[&str]| {
        let done =
            Command::new("tar").args(args).arg("-C").arg(&data).args(["."; 1]).output().expect("tar runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    fs::write(&part, &good).expect("written");
    let unpacked =
        Command::new("tar").arg("-xzf").arg(&part).arg("-C").arg(&data).status().expect("tar runs");
    assert!(unpacked.success());
    fs::write(data.join("PG_VERSION"), "16\n").expect("written");
    tar(&["-czf", &part.display().to_string()]);
    let bytes = fs::read(&part).expect("read");
    let other = Taken { sha256: Digest::of(&bytes), bytes: bytes.len() as u64, ..taken };
    let why = refused("changed", &bytes, &other);
    assert!(why.starts_with("pg_verifybackup: ") && why.contains("PG_VERSION"), "{why}");
}

#[test]
fn what_failed_or_was_killed_leaves_nothing() {
    let desk = Desk::new();
    let server = Server::new(&desk.dir.path().join("server"));
    let mut work = desk.work("backup run");
    work.begin().expect("nobody has it");
    let error = work.take(&desk.member(server.port, "wrong")).expect_err("it is not let in");
    assert!(error.chain().contains("password authentication failed"), "{}", error.chain());
    assert!(error.hints().iter().any(|hint| hint.contains("role `backup`")), "{:?}", error.hints());
    assert!(!error.chain().contains("wrong\n"), "its words have no password");
    let failed: Vec<_> = work.journal.history().failed().map(|(id, _, _)| id.clone()).collect();
    assert!(failed.len() == 1 && !desk.parts(&failed[0]).exists());

    // Of a process that was killed there is a beginning, and some parts.
    let dead =
        Writer { pid: 4_194_304, started: 1, command: "rekiln backup run db".to_owned(), ..Writer::this("") };
    let target = Objects::Directory(desk.dir.path().join("target"));
    let killed = desk.runtime.block_on(async {
        let mut journal = Journal::open(&target, "db", dead).await.expect("a journal");
        let (id, now) = (journal.history().name(Timestamp::now()), Timestamp::now());
        journal.record(now, Event::Opened).await.expect("written");
        let (source, image) = (InstanceId::new("db", 2), Digest::of(b"image"));
        journal.record(now, Event::Begun { id: id.clone(), source, image }).await.expect("written");
        desk.place().parts(&id).write("00000001", b"some").await.expect("written");
        id
    });
    let mut work = desk.work("backup run");
    assert_eq!(work.journal.history().unfinished(), std::slice::from_ref(&killed));
    assert_eq!(work.begin().expect("the other is dead").len(), 1);
    assert!(!desk.parts(&killed).exists());
    let why: Vec<_> = work.journal.history().failed().map(|(_, _, why)| why.to_owned()).collect();
    assert_eq!(why.last().map(String::as_str), Some("its process ended before it did"));

    // What a newer one makes needless is removed, and what counts is not.
    let member = desk.member(server.port, PASSWORD);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (id, _) = work.take(&member).expect("taken");
        desk.say(&mut work, Event::Tried { id: id.clone() });
        desk.say(&mut work, Event::Proved { id: id.clone(), proof: proof() });
        ids.push(id);
    }
    assert_eq!(work.prune().expect("pruned"), [ids[0].clone()]);
    assert!(!desk.parts(&ids[0]).exists() && desk.parts(&ids[1]).exists());
    work.end().expect("given back");
}
