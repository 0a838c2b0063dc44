//! Fleets in the states that a plan finds them in.

use jiff::{SignedDuration, Timestamp};
use rekiln::digest::Digest;
use rekiln::fleet::Fleet;
use rekiln::fleet::census::{Census, Health, Instance, InstanceId, State};
use rekiln::fleet::generation::Target;
use rekiln::fleet::history::{History, Member};
use rekiln::fleet::plan::Situation;
use rekiln::fleet::policy::Policy;
use rekiln::fleet::surroundings::Outlook;

/// Long after everything that is in a state.
const NOW: Timestamp = Timestamp::constant(100_000, 0);

/// As most fleets are rolled.
pub const PLAIN: &str = "surge = '10%'\nunavailable = 0\n";

/// With everything that a policy knows.
const CAREFUL: &str = "surge = '10%'\nunavailable = 0\nzones = 'one-at-a-time'\ncanary = 1\n\
    waves = ['25%', '100%']\nsoak = '10m'\nrate = '100000/h'\nwindows = ['daily 00:00-24:00']\n";

/// A state's name, and how a fleet of so many instances comes to be in it.
type Named = (&'static str, fn(u64) -> Stand);

/// The states, by what is special in them.
pub const STATES: [Named; 6] = [
    ("nothing to do", settled),
    ("all stale", all_stale),
    ("half way", half_way),
    ("waves and zones", waves_and_zones),
    ("much is wrong", much_is_wrong),
    ("far too many", far_too_many),
];

/// Reads a fleet file of so many instances.
pub fn fleet(size: u64, roll: &str) -> Fleet {
    toml::from_str(&format!(
        "image = 'web'\nsize = {size}\n[local]\nlisten = '127.0.0.1:1'\nport = 80\nzones = ['a', 'b', 'c']\n\
         [health]\nhttp = {{ port = 80, path = '/' }}\n[roll]\n{roll}"
    ))
    .expect("a fleet file")
}

/// What one instance is.
#[derive(Debug, Clone, Copy)]
enum Is {
    Current,
    Stale,
    Booting,
    /// Healthy, and waiting for requests.
    Ready,
    /// Drained, and still serving some.
    Busy,
    /// Drained, and to be ended.
    Drained,
    Unhealthy,
    Failed,
    Dead,
    Unknown,
    Unseen,
}

/// Everything that a plan is made from.
pub struct Stand {
    policy: Policy,
    target: Target,
    pub census: Census,
    history: History,
    outlook: Outlook,
}

impl Stand {
    /// A fleet of `size` in which so many of a hundred are each of `kinds`, the oldest first.
    fn new(size: u64, roll: &str, kinds: &[(u64, Is)]) -> Self {
        let fleet = fleet(size, roll);
        let [before, target] =
            ["before", "after"].map(|name| Target::new(&fleet, Digest::of(name.as_bytes())));
        let mut stand = Self {
            policy: Policy::of(&fleet).expect("a policy"),
            census: Census::empty(NOW),
            history: History {
                target: Some(target.clone()),
                proven: Some(before.clone()),
                ..History::default()
            },
            target,
            outlook: Outlook::default(),
        };
        for (share, is) in kinds {
            for _ in 0..(size * share).div_ceil(100) {
                stand.add(*is, &before);
            }
        }
        // As maps and most providers list them.
        stand.census.instances.sort_by(|a, b| a.id.cmp(&b.id));
        stand
    }

    fn add(&mut self, is: Is, before: &Target) {
        self.history.launches += 1;
        let number = self.history.launches;
        let id = InstanceId::new("web", number);
        let ago = SignedDuration::from_secs;
        let old = matches!(is, Is::Stale | Is::Busy | Is::Drained);
        let generation = if old { &before.generation } else { &self.target.generation };
        let zone = ["a", "b", "c"].into_iter().cycle().nth(usize::try_from(number % 3).unwrap_or(0));
        let mut seen = Instance {
            id: id.clone(),
            image: generation.image(),
            generation: Some(generation.clone()),
            state: State::Running,
            health: Health::Healthy,
            in_service: true,
            launched_at: NOW - ago(60_000 - number.cast_signed() / 10),
            touched: None,
            connections: 2,
            address: None,
            zone: zone.map(str::to_owned),
            known_as: None,
            membership: None,
        };
        let mut member = Member {
            launched: true,
            generation: Some(generation.id),
            zone: seen.zone.clone(),
            served: true,
            ..Member::default()
        };
        match is {
            Is::Current | Is::Stale => {}
            Is::Booting | Is::Ready => {
                (seen.state, seen.in_service, seen.launched_at) = (State::Launching, false, NOW - ago(5));
                member.served = false;
                seen.health = if matches!(is, Is::Ready) { Health::Healthy } else { Health::Unhealthy };
            }
            Is::Busy | Is::Drained => {
                (seen.state, seen.in_service) = (State::Draining, false);
                (member.draining, member.drained) = (Some(NOW - ago(1)), true);
                seen.connections = if matches!(is, Is::Busy) { 2 } else { 0 };
                self.history.replaced.push_back(NOW - ago(1));
            }
            Is::Unhealthy => {
                // What served as the proven image may fall ill; the new one would have failed.
                seen.generation = Some(before.generation.clone());
                (seen.health, member.generation) = (Health::Unhealthy, Some(before.generation.id));
            }
            Is::Failed => {
                seen.health = Health::Unhealthy;
                member.failed = Some("it did not serve within 2m".to_owned());
                self.history.failures.insert(id.clone());
            }
            Is::Dead => {
                seen.generation = Some(before.generation.clone());
                (seen.state, seen.health, seen.in_service) = (State::Dead, Health::Unhealthy, false);
            }
            Is::Unknown => seen.health = Health::Unknown,
            Is::Unseen => member.absent = Some(NOW - ago(1)),
        }
        if !matches!(is, Is::Unseen) {
            self.census.instances.push(seen);
        }
        self.history.members.insert(id, member);
    }

    pub fn situation(&self) -> Situation<'_> {
        let Self { policy, target, census, history, outlook } = self;
        Situation { policy, fleet: "web", target, census, history, outlook, now: NOW }
    }
}

/// The last wave has passed, and every instance is new.
fn settled(size: u64) -> Stand {
    let mut stand = Stand::new(size, PLAIN, &[(100, Is::Current)]);
    stand.history.proven = Some(stand.target.clone());
    stand
}

fn all_stale(size: u64) -> Stand {
    Stand::new(size, PLAIN, &[(100, Is::Stale)])
}

/// Drains, ends, admits and launches in one step.
pub fn half_way(size: u64) -> Stand {
    let kinds = [
        (45, Is::Stale),
        (2, Is::Busy),
        (2, Is::Drained),
        (55, Is::Current),
        (3, Is::Booting),
        (2, Is::Ready),
    ];
    Stand::new(size, PLAIN, &kinds)
}

/// The second wave, with everything that a policy knows.
fn waves_and_zones(size: u64) -> Stand {
    let kinds = [(80, Is::Stale), (2, Is::Busy), (22, Is::Current), (2, Is::Ready)];
    let mut stand = Stand::new(size, CAREFUL, &kinds);
    stand.history.wave.number = 1;
    stand
}

/// After the loss of a zone, and with an image that often does not boot.
fn much_is_wrong(size: u64) -> Stand {
    let kinds = [
        (30, Is::Stale),
        (20, Is::Current),
        (20, Is::Unhealthy),
        (10, Is::Dead),
        (5, Is::Failed),
        (5, Is::Unknown),
        (5, Is::Unseen),
        (5, Is::Booting),
    ];
    let mut stand = Stand::new(size, PLAIN, &kinds);
    // Or nothing would be launched.
    stand.policy.failures = usize::MAX;
    stand
}

/// The fleet file asks for a tenth of what is there.
fn far_too_many(size: u64) -> Stand {
    let kinds = [(40, Is::Current), (30, Is::Booting), (30, Is::Ready)];
    let mut stand = Stand::new(size, PLAIN, &kinds);
    stand.policy = Policy::of(&fleet((size / 10).max(1), PLAIN)).expect("a policy");
    stand
}
