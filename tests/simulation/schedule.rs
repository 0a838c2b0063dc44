//! What happens to simulated fleets, drawn from a seed: their files, what is rolled out, what goes wrong, and who
//! meddles.

use std::fmt::Write as _;

use rekiln::fleet::policy::Policy;
use rekiln::provider::sim::{Chance, Faults, GateFaults, MemberFaults};

use super::harness::Crash;

/// Everything that happens in one run.
#[derive(Debug, Clone)]
pub struct Schedule {
    pub seed: u64,
    /// The fleet files, beyond what all have in common.
    pub fleets: Vec<File>,
    /// So many failed rollouts open the breaker; 0 means never.
    pub breaker: usize,
    /// What goes wrong among members that hold data, while anything does.
    pub members: MemberFaults,
    pub episodes: Vec<Episode>,
}

/// What a fleet file says.
#[derive(Debug, Clone)]
pub struct File {
    pub size: u64,
    pub zones: usize,
    /// Lines of `[roll]`.
    pub roll: Vec<String>,
    /// What follows it.
    pub rest: String,
    /// Whether it is a group, whose size its owner changes at will.
    pub group: bool,
    /// What `[stateful]` says, where its members hold data.
    pub stateful: Option<String>,
}

/// One roll.
#[derive(Debug, Clone)]
pub struct Episode {
    /// Which fleet.
    pub fleet: usize,
    pub aim: Aim,
    /// Whether everything is replaced although nothing changed.
    pub rotate: bool,
    pub emergency: bool,
    pub faults: Faults,
    pub gates: GateFaults,
    pub bad_hooks: u64,
    pub crash: Option<Crash>,
    /// What someone does at which look.
    pub meanwhile: Vec<(u64, Meddling)>,
}

/// What is rolled out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    New,
    /// A new image that never becomes healthy.
    Bad,
    /// What was rolled out last, again.
    Same,
    /// The image before it.
    Before,
}

/// What someone does in the middle of a roll.
#[derive(Debug, Clone, Copy)]
pub enum Meddling {
    Pause,
    Resume,
    Cancel { back: bool },
    Retarget(Aim),
    TakeOver(Aim),
    Kill(usize),
    Touch(usize),
    ScaleIn(usize),
    Resize(u32),
}

impl File {
    fn is_sensible(&self) -> bool {
        Policy::of(&toml::from_str(&self.text()).expect("a fleet file")).is_ok()
    }

    pub fn text(&self) -> String {
        let zones: Vec<_> = (0..self.zones).map(|zone| format!("'{}'", ["a", "b", "c"][zone])).collect();
        let mut text = format!(
            "image = 'web'\nsize = {}\n[local]\nlisten = '127.0.0.1:1'\nport = 80\nzones = [{}]\n\
             [health]\nhttp = {{ port = 80, path = '/' }}\ndeadline = '60s'\n[roll]\ndrain = '5s'\n",
            self.size,
            zones.join(", ")
        );
        for line in &self.roll {
            let _ = writeln!(text, "{line}");
        }
        text.push_str(&self.rest);
        if let Some(stateful) = &self.stateful {
            let _ = writeln!(text, "[stateful]\nhttp = '/member'\n{stateful}");
        }
        text
    }
}

/// In so many schedules of a sweep the fleets of one are groups.
pub const GROUPS: u64 = 4;

/// Draws one of several; all are equally likely.
fn one<T: Clone>(chance: &mut Chance, of: &[T]) -> T {
    of[usize::try_from(chance.below(of.len() as u64)).expect("a small number")].clone()
}

impl Schedule {
    pub fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let chance = &mut chance;
        let fleets: Vec<_> = (0..one(chance, &[1, 1, 1, 2])).map(|_| file(chance)).collect();
        let breaker = one(chance, &[0, 0, 2, 3]);
        let count = 1 + chance.below(4);
        let episodes = (0..count).map(|_| episode(chance, fleets.len())).collect();
        Self { seed, fleets, breaker, members: MemberFaults::default(), episodes }
    }

    /// The schedule of a seed in a sweep: in every fourth the fleets are groups, and in another fourth their members hold
    /// data.
    pub fn random(seed: u64) -> Self {
        match seed % GROUPS {
            1 => Self::of_members(seed),
            3 => Self::of_groups(seed),
            _ => Self::of(seed),
        }
    }

    /// The schedule of a seed with groups for fleets, whose owners change their sizes meanwhile.
    pub fn of_groups(seed: u64) -> Self {
        let mut schedule = Self::of(seed);
        // By dice of its own: what a seed meant before there were groups it means still.
        let mut chance = Chance::new(!seed);
        for file in &mut schedule.fleets {
            file.group = true;
        }
        for episode in &mut schedule.episodes {
            for _ in 0..one(&mut chance, &[0, 1, 1, 2, 3]) {
                let size = u32::try_from(chance.below(8)).expect("a small number");
                episode.meanwhile.push((chance.below(90), Meddling::Resize(size)));
            }
        }
        schedule
    }

    /// The schedule of a seed with fleets whose members hold data.
    pub fn of_members(seed: u64) -> Self {
        let mut schedule = Self::of(seed);
        let mut chance = Chance::new(seed.rotate_left(32) ^ 1);
        for file in &mut schedule.fleets {
            let synchronous = one(&mut chance, &[0, 1, 1, 1, 2]);
            let in_place = file.roll.iter().any(|line| line == "surge = 0");
            file.size = (1 + chance.below(5)).max(synchronous + 1 + u64::from(in_place));
            let durability = one(&mut chance, &["quorum", "quorum", "leader"]);
            let patience = one(&mut chance, &["10s", "2m"]);
            file.stateful = Some(format!(
                "synchronous = {synchronous}\ndurability = '{durability}'\nswitchover = '{patience}'"
            ));
        }
        schedule.members = MemberFaults {
            silent: one(&mut chance, &[0, 20, 100]),
            not_now: one(&mut chance, &[0, 300, 900]),
        };
        schedule
    }

    /// Returns schedules in which a little less happens, for finding the least that fails.
    pub fn smaller(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut change = |edit: &dyn Fn(&mut Self)| {
            let mut smaller = self.clone();
            edit(&mut smaller);
            all.push(smaller);
        };
        for at in 0..self.episodes.len() {
            change(&|it| drop(it.episodes.remove(at)));
            let episode = &self.episodes[at];
            if episode.faults != Faults::default() {
                change(&|it| it.episodes[at].faults = Faults::default());
            }
            for (_, field, _) in FAULTS {
                if *field(&mut episode.faults.clone()) > 0 {
                    change(&|it| *field(&mut it.episodes[at].faults) = 0);
                }
            }
            if episode.crash.is_some() {
                change(&|it| it.episodes[at].crash = None);
            }
            for which in 0..episode.meanwhile.len() {
                change(&|it| {
                    it.episodes[at].meanwhile.remove(which);
                });
            }
            if episode.gates.fail + episode.gates.not_yet + episode.bad_hooks > 0 {
                change(&|it| {
                    (it.episodes[at].gates, it.episodes[at].bad_hooks) = (GateFaults::default(), 0);
                });
            }
            if episode.rotate || episode.emergency {
                change(&|it| (it.episodes[at].rotate, it.episodes[at].emergency) = (false, false));
            }
        }
        for (at, file) in self.fleets.iter().enumerate() {
            for line in 0..file.roll.len() {
                change(&|it| drop(it.fleets[at].roll.remove(line)));
            }
            if file.size > 1 {
                change(&|it| it.fleets[at].size -= 1);
            }
            if file.zones > 0 && !file.roll.iter().any(|line| line.starts_with("zones")) {
                change(&|it| it.fleets[at].zones = 0);
            }
            if !file.rest.is_empty() {
                change(&|it| it.fleets[at].rest.clear());
            }
            if file.group {
                change(&|it| it.fleets[at].group = false);
            }
            if self.members != MemberFaults::default() {
                change(&|it| it.members = MemberFaults::default());
            }
        }
        all.retain(|smaller| smaller.fleets.iter().all(File::is_sensible));
        all
    }
}

fn file(chance: &mut Chance) -> File {
    let size = 1 + chance.below(6);
    let zones = one(chance, &[0, 0, 2, 3]);
    let (surge, unavailable) = one(
        chance,
        &[("1", "0"), ("1", "0"), ("2", "0"), ("'50%'", "1"), ("0", "1"), ("0", "1"), ("1", "'34%'")],
    );
    let mut roll = vec![
        format!("surge = {surge}"),
        format!("unavailable = {unavailable}"),
        format!("failures = {}", chance.below(3)),
        format!("on_failure = '{}'", one(chance, &["halt", "rollback"])),
    ];
    if chance.below(2) == 0 {
        roll.push(format!("canary = {}", one(chance, &["1", "2", "'20%'"])));
        roll.push(format!("soak = '{}'", one(chance, &["0s", "10s", "60s"])));
    }
    if chance.below(3) == 0 {
        roll.push(format!("waves = [{}]", one(chance, &["'50%'", "'40%', '70%'", "1, 3"])));
    }
    if zones > 0 && chance.below(2) == 0 {
        roll.push("zones = 'one-at-a-time'".to_owned());
    }
    if chance.below(6) == 0 {
        roll.push(format!("rate = '{}/h'", one(chance, &[3, 6])));
    }
    if chance.below(6) == 0 {
        let window =
            one(chance, &["Mon-Sun 00:00-00:20 UTC", "Mon-Sun 01:00-23:00 UTC", "Mon-Sun 12:00-13:00 UTC"]);
        roll.push(format!("windows = ['{window}']"));
    }
    let mut rest = String::new();
    // A fleet that ages faster than its window lets it be replaced is never done, and rightly so.
    if chance.below(8) == 0
        && !roll.iter().any(|line| line.starts_with("windows") || line.starts_with("rate"))
    {
        rest += "[replace]\nmax_age = '2h'\n";
    }
    if chance.below(3) == 0 {
        rest += "[[gate]]\nname = 'errors'\ncommand = ['true']\nmax = '1'\n";
    }
    if chance.below(3) == 0 {
        rest += "[[hook]]\non = 'after-launch'\ncommand = ['true']\n[[hook]]\non = 'before-drain'\ncommand = ['true']\n";
    }
    File { size, zones, roll, rest, group: false, stateful: None }
}

fn aim(chance: &mut Chance) -> Aim {
    one(chance, &[Aim::New, Aim::New, Aim::New, Aim::Bad, Aim::Same, Aim::Before])
}

/// A fault's name, where it is kept, and its greatest likelihood in thousandths.
type Fault = (&'static str, fn(&mut Faults) -> &mut u64, u64);

/// All of them. The likelihoods are high enough to happen in short runs, and low enough for some to get through.
pub const FAULTS: [Fault; 17] = [
    ("bad boot", |faults| &mut faults.bad_boot, 300),
    ("death", |faults| &mut faults.death, 4),
    ("flap", |faults| &mut faults.flap, 8),
    ("unknown health", |faults| &mut faults.unknown, 60),
    ("touch", |faults| &mut faults.touch, 4),
    ("stranger", |faults| &mut faults.stranger, 10),
    ("failure", |faults| &mut faults.failure, 150),
    ("lost reply", |faults| &mut faults.lost_reply, 300),
    ("duplicate", |faults| &mut faults.duplicate, 300),
    ("throttle", |faults| &mut faults.throttle, 60),
    ("no capacity", |faults| &mut faults.no_capacity, 300),
    ("stale census", |faults| &mut faults.stale, 200),
    ("partial census", |faults| &mut faults.partial, 100),
    ("reordered census", |faults| &mut faults.reordered, 300),
    ("endless drain", |faults| &mut faults.endless, 300),
    ("zone loss", |faults| &mut faults.zone_loss, 4),
    ("clock jump", |faults| &mut faults.clock_jump, 4),
];

fn faults(chance: &mut Chance) -> Faults {
    let mut faults = Faults::default();
    if chance.below(4) > 0 {
        for (_, field, most) in FAULTS {
            if chance.below(4) == 0 {
                *field(&mut faults) = 1 + chance.below(most);
            }
        }
    }
    faults
}

fn episode(chance: &mut Chance, fleets: usize) -> Episode {
    let crash = (chance.below(3) == 0).then(|| Crash { act: chance.below(24), after: chance.below(2) == 0 });
    let mut meanwhile = Vec::new();
    for _ in 0..one(chance, &[0, 0, 1, 1, 2]) {
        let look = chance.below(90);
        let nth = usize::try_from(chance.below(8)).expect("a small number");
        match chance.below(9) {
            0 => {
                meanwhile.push((look, Meddling::Pause));
                meanwhile.push((look + 1 + chance.below(60), Meddling::Resume));
            }
            1 => meanwhile.push((look, Meddling::Pause)),
            2 => meanwhile.push((look, Meddling::Cancel { back: false })),
            3 => meanwhile.push((look, Meddling::Cancel { back: true })),
            4 => meanwhile.push((look, Meddling::Retarget(aim(chance)))),
            5 => meanwhile.push((look, Meddling::TakeOver(aim(chance)))),
            6 => meanwhile.push((look, Meddling::Touch(nth))),
            7 => meanwhile.push((look, Meddling::ScaleIn(nth))),
            _ => meanwhile.push((look, Meddling::Kill(nth))),
        }
    }
    let gates = GateFaults { fail: one(chance, &[0, 0, 0, 300]), not_yet: one(chance, &[0, 300, 800]) };
    Episode {
        fleet: usize::try_from(chance.below(fleets as u64)).expect("a small number"),
        aim: aim(chance),
        rotate: chance.below(6) == 0,
        emergency: chance.below(8) == 0,
        faults: faults(chance),
        gates,
        bad_hooks: one(chance, &[0, 0, 100]),
        crash,
        meanwhile,
    }
}
