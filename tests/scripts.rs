//! An operator's stories on the simulated world: `scripts/<name>.txt` has the commands, `<name>.out` what came of
//! them. `REKILN_BLESS=1 cargo test scripts` writes the outputs anew; read the difference before committing it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rekiln::digest::Digest;
use rekiln::fleet::Fleet;
use rekiln::fleet::census::InstanceId;
use rekiln::fleet::generation::Target;
use rekiln::fleet::history::Event;
use rekiln::fleet::journal::{Journal, Writer};
use rekiln::fleet::plan::{forecast, plan};
use rekiln::fleet::policy::Policy;
use rekiln::fleet::roll::{Roll, Wish};
use rekiln::progress::Silent;
use rekiln::provider::sim::Sim;
use rekiln::provider::{Action, Outcome, Provider as _};
use rekiln::store::Store;

use crate::fleet::point::{AtPoint, Point, When};

/// One story in the telling.
struct Story {
    dir: tempfile::TempDir,
    store: Store,
    fleet: Fleet,
    sim: Sim,
    image: String,
    images: Vec<String>,
    debug: bool,
    crash: Option<Point>,
    out: String,
}

impl Story {
    /// `fleet web size 3 surge 1 unavailable 0 failures 1`; what is left out is as here.
    fn new(words: &[&str]) -> Self {
        let set = |key: &str, default: &str| {
            let at = words.iter().position(|word| *word == key);
            at.and_then(|at| words.get(at + 1)).unwrap_or(&default).to_owned().to_owned()
        };
        let fleet: Fleet = toml::from_str(&format!(
            "image = 'web'\nsize = {}\n[local]\nlisten = '127.0.0.1:1'\nport = 80\n\
             [health]\nhttp = {{ port = 80, path = '/' }}\ndeadline = '60s'\n\
             [roll]\nsurge = {}\nunavailable = {}\nfailures = {}\ndrain = '5s'\n",
            set("size", "3"),
            set("surge", "1"),
            set("unavailable", "0"),
            set("failures", "1"),
        ))
        .expect("a fleet");
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path().to_str().expect("UTF-8")).expect("a store");
        let sim = Sim::new(Policy::of(&fleet).expect("a policy"), 1);
        let (image, images, out) = (String::new(), Vec::new(), String::new());
        Self { dir, store, fleet, sim, image, images, debug: false, crash: None, out }
    }

    fn target(&self) -> Target {
        let refused = self.debug.then(|| "a debug variant".to_owned());
        Target::new(&self.fleet, Digest::of(self.image.as_bytes()), refused)
    }

    async fn journal(&self) -> Journal {
        // Its process is dead when the next command looks.
        let writer = Writer { pid: 0, started: 0, ..Writer::this("roll") };
        Journal::open(&self.store, "web", writer).await.expect("a sound journal")
    }

    async fn tell(&mut self, line: &str) {
        let _ = writeln!(self.out, "> {line}");
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["image", name, ref kind @ ..] => {
                name.clone_into(&mut self.image);
                self.images.push(name.to_owned());
                self.debug = kind == ["debug"];
                if kind == ["bad"] {
                    self.sim.spoil(Digest::of(name.as_bytes()));
                }
            }
            ["memory", size] => size.clone_into(&mut self.fleet.local.memory),
            ["kill", id] => self.sim.kill(&InstanceId(id.to_owned())),
            ["touch", id] => self.sim.touch(&InstanceId(id.to_owned()), "an interactive session"),
            ["sicken", id] => self.sim.sicken(&InstanceId(id.to_owned())),
            ["crash", when, act] => {
                let when = if when == "before" { When::Before } else { When::After };
                self.crash = Some(Point { act: act.to_owned(), when });
            }
            ["roll"] => self.roll(None).await,
            ["rotate", id, "reason", ref reason @ ..] => {
                let instances = vec![InstanceId(id.to_owned())];
                self.roll(Some(Wish { instances, reason: reason.join(" ") })).await;
            }
            ["plan"] => self.plan().await,
            _ => panic!("`{line}` is no command"),
        }
        let violations = self.sim.violations();
        assert!(violations.is_empty(), "{line}: {violations:?}");
    }

    async fn roll(&mut self, wish: Option<Wish>) {
        let mut journal = self.journal().await;
        let seen = journal.entries().len();
        let mark = self.dir.path().join("mark");
        let _ = fs::remove_file(&mark);
        let provider = AtPoint::new(&self.sim, self.crash.take(), mark.clone());
        let stop = AtomicBool::new(false);
        let roll = Roll {
            fleet: "web",
            policy: Policy::of(&self.fleet).expect("a policy"),
            target: self.target(),
            provider: &provider,
            journal: &mut journal,
            progress: &Silent,
            stop: &stop,
        };
        let mut rolling = Box::pin(roll.run("a story", wish));
        let result = loop {
            if let Ok(result) = tokio::time::timeout(Duration::from_millis(20), rolling.as_mut()).await {
                break Some(result);
            }
            if mark.exists() {
                break None;
            }
        };
        drop(rolling);
        let entries = self.journal().await;
        let mut lines: Vec<_> = entries.entries().iter().skip(seen).filter_map(|e| said(&e.event)).collect();
        lines.push(match result {
            None => "crashed".to_owned(),
            Some(Ok(_)) => "done".to_owned(),
            Some(Err(error)) => format!("exit code {}: {}", error.exit_code(), error.chain()),
        });
        self.say(&lines);
    }

    async fn plan(&mut self) {
        let census = self.sim.census().await.expect("a census");
        let (history, target) = (self.journal().await.history(), self.target());
        let policy = Policy::of(&self.fleet).expect("a policy");
        let plan = plan(&policy, "web", &target, &census, &history, census.at);
        let acts = forecast(&policy, "web", &target, &census, &history, census.at);
        let mut lines: Vec<_> =
            plan.members.iter().map(|member| format!("{} {}", member.id, member.kind)).collect();
        let acts = acts.iter().filter(|act| !matches!(act, Action::Admit { .. }));
        lines.extend((1..).zip(acts).map(|(at, act): (u32, _)| format!("{at}. {act}")));
        lines.extend(plan.holds.iter().map(|hold| format!("waiting: {hold}")));
        self.say(&lines);
    }

    fn say(&mut self, lines: &[String]) {
        for line in lines.iter().flat_map(|line| line.lines()) {
            let named = self.images.iter().fold(line.to_owned(), |line, image| {
                line.replace(&Digest::of(image.as_bytes()).short(), &format!("image {image}"))
            });
            let _ = writeln!(self.out, "    {named}");
        }
    }
}

/// The journal's words, short: what was done and what was seen.
fn said(event: &Event) -> Option<String> {
    match event {
        Event::Outcome { action, result: Ok(Outcome::Applied) } => Some(action.to_string()),
        Event::Outcome { action, result: Ok(Outcome::AlreadyDone) } => {
            Some(format!("{action}: it was so already"))
        }
        Event::Outcome { action, result: Ok(Outcome::Refused { precondition }) } => {
            Some(format!("{action}: refused, {precondition}"))
        }
        Event::Failed { instance, reason, .. } => Some(format!("{instance} failed: {reason}")),
        Event::Absent { instance } => Some(format!("{instance} is not seen")),
        Event::Rotate { instances, reason } => {
            let ids: Vec<_> = instances.iter().map(ToString::to_string).collect();
            Some(format!("wanted: {} replaced ({reason})", ids.join(", ")))
        }
        _ => None,
    }
}

async fn play(text: &str) -> String {
    let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = lines.next().expect("a fleet");
    let mut story = Story::new(&first.split_whitespace().collect::<Vec<_>>());
    let _ = writeln!(story.out, "> {first}");
    for line in lines {
        story.tell(line).await;
    }
    story.out
}

#[tokio::test]
async fn stories() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let bless = std::env::var_os("REKILN_BLESS").is_some();
    let entries = fs::read_dir(&dir).expect("scripts").flatten().map(|entry| entry.path());
    let mut scripts: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|ext| ext == "txt")).collect();
    scripts.sort_unstable();
    assert!(scripts.len() > 4);
    let mut differ = Vec::new();
    for script in scripts {
        let found = play(&fs::read_to_string(&script).expect("a script")).await;
        let golden = script.with_extension("out");
        if bless {
            fs::write(&golden, found).expect("written");
        } else if fs::read_to_string(&golden).unwrap_or_default() != found {
            differ.push(format!("{} is not what came:\n{found}", golden.display()));
        }
    }
    assert!(differ.is_empty(), "{}\nREKILN_BLESS=1 takes them over", differ.join("\n"));
}
