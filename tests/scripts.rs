//! An operator's stories on the simulated world: `scripts/<name>.txt` has the commands, `<name>.out` what came of
//! them. `REKILN_BLESS=1 cargo test scripts` writes the outputs anew; read the difference before committing it.

mod meanwhile;

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::SignedDuration;
use object_store::memory::InMemory;
use rekiln::digest::Digest;
use rekiln::error::Result;
use rekiln::fleet::Fleet;
use rekiln::fleet::census::InstanceId;
use rekiln::fleet::chaos::Which;
use rekiln::fleet::chaos::strike::Striker;
use rekiln::fleet::experience::Experience;
use rekiln::fleet::generation::Target;
use rekiln::fleet::history::Event;
use rekiln::fleet::journal::{Journal, Writer};
use rekiln::fleet::plan::{Situation, Standing, outlook as outlook_of, plan, waiting};
use rekiln::fleet::policy::Policy;
use rekiln::fleet::roll::{Order, Roll, Summary, Wish};
use rekiln::fleet::story::{self, list};
use rekiln::fleet::surroundings::{Reading, Surroundings as _};
use rekiln::notation;
use rekiln::progress::Silent;
use rekiln::provider::sim::{GateFaults, Sim, SimStore, SimSurroundings};
use rekiln::provider::{Action, Outcome, Provider};

use crate::fleet::point::{AtPoint, Point, When};
use crate::simulation::harness::now_or_never;
use meanwhile::{Meddled, Meddling};

/// One story in the telling.
struct Story {
    dir: tempfile::TempDir,
    journal: Arc<InMemory>,
    store: SimStore,
    fleet: Fleet,
    sim: Sim,
    image: String,
    images: Vec<String>,
    gates: GateFaults,
    crash: Option<Point>,
    /// What happens after the first act of a kind of the next roll.
    meanwhile: Option<(String, Meddling)>,
    out: String,
}

impl Story {
    /// `fleet web size 3 surge 1 unavailable 0 failures 1 zones a,b`, what is left out is as here, but for the zones, of
    /// which there are none; then lines of `[roll]`.
    fn new(first: &str, rest: &str) -> Self {
        let words: Vec<_> = first.split_whitespace().collect();
        let set = |key: &str, default: &str| {
            let at = words.iter().position(|word| *word == key);
            at.and_then(|at| words.get(at + 1)).unwrap_or(&default).to_owned().to_owned()
        };
        let zones = set("zones", "");
        let zones: Vec<_> =
            zones.split(',').filter(|zone| !zone.is_empty()).map(|zone| format!("'{zone}'")).collect();
        let fleet: Fleet = toml::from_str(&format!(
            "image = 'web'\nsize = {}\n[local]\nlisten = '127.0.0.1:1'\nport = 80\nzones = [{}]\n\
             [health]\nhttp = {{ port = 80, path = '/' }}\ndeadline = '60s'\n\
             [roll]\nsurge = {}\nunavailable = {}\nfailures = {}\ndrain = '5s'\n{}\n",
            set("size", "3"),
            zones.join(", "),
            set("surge", "1"),
            set("unavailable", "0"),
            set("failures", "1"),
            rest
        ))
        .expect("a fleet");
        let dir = tempfile::tempdir().expect("a directory");
        let store = SimStore::new(1, fleet.roll.breaker.failures as usize, SignedDuration::from_hours(24));
        let sim = Sim::new(Policy::of(&fleet).expect("a policy"), 1);
        let (image, images, out) = (String::new(), Vec::new(), String::new());
        let (journal, gates) = (Arc::new(InMemory::new()), GateFaults::default());
        let (crash, meanwhile) = (None, None);
        Self { dir, journal, store, fleet, sim, image, images, gates, crash, meanwhile, out }
    }

    fn target(&self) -> Target {
        Target::new(&self.fleet, Digest::of(self.image.as_bytes()))
    }

    fn surroundings(&self) -> SimSurroundings<'_> {
        SimSurroundings { store: &self.store, sim: &self.sim, fleet: "web", gates: self.gates, bad_hooks: 0 }
    }

    async fn journal(&self, command: &str) -> Journal {
        // Its process is dead when the next command looks.
        let writer = Writer { pid: 0, started: 0, ..Writer::this(command) };
        Journal::over(Arc::clone(&self.journal) as _, "web", writer).await.expect("a sound journal")
    }

    async fn tell(&mut self, line: &str) {
        let _ = writeln!(self.out, "> {line}");
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["image", name, ref kind @ ..] => {
                name.clone_into(&mut self.image);
                self.images.push(name.to_owned());
                let id = Digest::of(name.as_bytes());
                match kind {
                    ["bad"] => self.sim.spoil(id),
                    ["debug"] => {
                        self.store.refused.borrow_mut().insert(id, "a debug variant".to_owned());
                    }
                    _ => {}
                }
            }
            ["memory", size] => {
                size.clone_into(&mut self.fleet.local.as_mut().expect("it is local").memory);
            }
            ["kill", id] => self.sim.kill(&InstanceId(id.to_owned())),
            ["touch", id] => self.sim.touch(&InstanceId(id.to_owned()), "an interactive session"),
            ["sicken", id] => self.sim.sicken(&InstanceId(id.to_owned())),
            ["crash", when, act] => {
                let when = if when == "before" { When::Before } else { When::After };
                self.crash = Some(Point { act: act.to_owned(), when });
            }
            ["chaos", ref whom @ ..] => self.chaos(whom).await,
            ["roll"] => self.roll(None).await,
            ["rotate", id, "reason", ref reason @ ..] => {
                let instances = vec![InstanceId(id.to_owned())];
                self.roll(Some(Wish { instances, reason: reason.join(" ") })).await;
            }
            ["plan"] => self.plan().await,
            ["history"] => self.history().await,
            ["full", zone, time] => {
                let time = notation::duration(time).expect("a duration");
                self.sim.fill(zone, SignedDuration::try_from(time).expect("a time"));
            }
            ["meanwhile", "after", act, ref what @ ..] => {
                self.meanwhile = Some((act.to_owned(), Meddling::parse(what)));
            }
            _ => panic!("`{line}` is no command"),
        }
        let violations = self.sim.violations();
        assert!(violations.is_empty(), "{line}: {violations:?}");
    }

    /// Rolls in a process of its own, which the caller may leave in the middle.
    async fn run<P: Provider>(
        &self,
        provider: &P,
        stop: &AtomicBool,
        wish: Option<Wish>,
        emergency: bool,
    ) -> Result<Summary> {
        let mut journal =
            self.journal(if emergency { "rekiln rotate web --emergency" } else { "rekiln roll web" }).await;
        let reason = wish.as_ref().map_or_else(|| "a story".to_owned(), |wish| wish.reason.clone());
        self.sim.order(|orders| orders.emergency = emergency);
        let roll = Roll {
            name: "web",
            fleet: &self.fleet,
            target: self.target(),
            provider,
            surroundings: &self.surroundings(),
            journal: &mut journal,
            progress: &Silent,
            stop,
        };
        roll.run(Order { reason, wish, emergency, commit: None }).await
    }

    async fn roll(&mut self, wish: Option<Wish>) {
        let seen = self.journal("a look").await.entries().len();
        let mark = self.dir.path().join("mark");
        let _ = fs::remove_file(&mark);
        let (crash, what, stop) = (self.crash.take(), self.meanwhile.take(), AtomicBool::new(false));
        let at = AtPoint::new(&self.sim, crash, mark);
        let provider =
            Meddled { story: self, at, stop: &stop, what: RefCell::new(what), acted: Cell::new(false) };
        // Everything is simulated and ready at once: what is not ready has crashed.
        let result = now_or_never(self.run(&provider, &stop, wish, false));
        assert!(provider.what.take().is_none(), "what should have happened did not");
        let proven =
            self.journal("a look").await.history().proven.as_ref().map(|proven| proven.generation.id);
        self.sim.order(|orders| orders.proven = proven);
        let entries = self.journal("a look").await;
        let waves = Policy::of(&self.fleet).expect("a policy").waves.len();
        let events = entries.entries().iter().skip(seen).map(|entry| &entry.event);
        let events = events.filter(|event| waves > 1 || !matches!(event, Event::WavePassed { .. }));
        let mut lines: Vec<_> = events.filter_map(said).collect();
        lines.push(match result {
            None => "crashed".to_owned(),
            Some(Ok(_)) => "done".to_owned(),
            Some(Err(error)) => format!("exit code {}: {}", error.exit_code(), error.chain()),
        });
        self.say(&lines);
    }

    /// Kills one, in a zone if one is named.
    async fn chaos(&mut self, whom: &[&str]) {
        let which = Which { zone: whom.first().map(|zone| (*zone).to_owned()), ..Which::default() };
        let policy = Policy::of(&self.fleet).expect("a policy");
        let surroundings = self.surroundings();
        let (name, fleet, provider) = ("web", &self.fleet, &self.sim);
        let striker = Striker { name, fleet, policy: &policy, provider, surroundings: &surroundings };
        let mut journal = self.journal("rekiln chaos web").await;
        let line = match striker.strike(&mut journal, &which, 0, "a drill").await.expect("no error") {
            Ok(struck) => format!("killed {}", struck.victim.instance),
            Err(refusal) => {
                let error = refusal.error("web");
                format!("exit code {}: {}", error.exit_code(), error.chain())
            }
        };
        self.say(&[line]);
    }

    async fn plan(&mut self) {
        let census = self.sim.census().await.expect("a census");
        let (journal, target) = (self.journal("a look").await, self.target());
        let policy = Policy::of(&self.fleet).expect("a policy");
        let outlook = self.surroundings().outlook(&[&target], census.at).await.expect("an outlook");
        let situation = Situation {
            policy: &policy,
            fleet: "web",
            target: &target,
            census: &census,
            history: &journal.history().opened(&target),
            outlook: &outlook,
            now: census.at,
        };
        let (acts, end) = outlook_of(&situation, &Experience::of(journal.entries()));
        let plan = plan(&situation);
        let seen = |id: &InstanceId| census.instances.iter().find(|seen| seen.id == *id);
        let told = |member: &Standing| format!("{} {}", member.id, member.told(seen(&member.id), &target));
        let mut lines: Vec<_> = plan.members.iter().map(told).collect();
        let acts = acts.iter().filter(|act| !matches!(act, Action::Admit { .. }));
        lines.extend((1..).zip(acts).map(|(at, act): (u32, _)| format!("{at}. {act}")));
        lines.extend(waiting(&plan.holds, census.at).iter().map(|text| format!("waiting: {text}")));
        if !plan.done() {
            lines.push(end.told(census.at));
        }
        self.say(&lines);
    }

    async fn history(&mut self) {
        let journal = self.journal("a look").await;
        let all = story::stories(journal.entries());
        let page = all.last().map(|story| story.page("web", None)).unwrap_or_default();
        self.say(&[list(&all), page].concat());
    }

    fn say(&mut self, lines: &[String]) {
        let here = format!(" on {}", rustix::system::uname().nodename().to_string_lossy());
        for line in lines.iter().flat_map(|line| line.lines()) {
            let named = self.images.iter().fold(line.to_owned(), |line, image| {
                line.replace(&Digest::of(image.as_bytes()).short(), &format!("image {image}"))
            });
            let _ = writeln!(
                self.out,
                "    {}",
                named.replace("image image", "image").replace(&here, " on desk").trim_end()
            );
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
        Event::WavePassed { wave } => Some(format!("wave {} has passed", wave + 1)),
        Event::Judged { gate, reading: Reading::Fail(why), .. } => {
            Some(format!("gate {gate} says no: {why}"))
        }
        Event::RolledBack { target, reason } => {
            Some(format!("rolls back to {}: {reason}", target.image.short()))
        }
        Event::Opened { reason, emergency: true, .. } => Some(format!("emergency: {reason}")),
        Event::Paused { reason } => Some(format!("paused: {reason}")),
        Event::Resumed => Some("resumed".to_owned()),
        Event::Cancelled { reason, .. } => Some(format!("cancelled: {reason}")),
        Event::Outcome { action, result: Ok(Outcome::NoCapacity { .. }) } => {
            Some(format!("{action}: no room"))
        }
        Event::Rotate { instances, reason } => {
            let ids: Vec<_> = instances.iter().map(ToString::to_string).collect();
            Some(format!("wanted: {} replaced ({reason})", ids.join(", ")))
        }
        _ => None,
    }
}

async fn play(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (policy, lines): (Vec<&str>, Vec<&str>) =
        lines.partition(|line| line.contains(" = ") || line.starts_with('['));
    let (first, lines) = lines.split_first().expect("a fleet");
    let mut story = Story::new(first, &policy.join("\n"));
    let _ = writeln!(story.out, "> {first}");
    for line in policy {
        let _ = writeln!(story.out, "  {line}");
    }
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
