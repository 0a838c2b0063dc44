//! Members that hold data in an Auto Scaling group: replicas are replaced first and the leader last, whatever answers for them.

use std::fs;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::scope;

use rustix::process::Signal;

use super::cluster::{Cluster, ETCD, Happened, PASSWORD, PORT};
use super::stage::{Group, NAME, Setup, instance, members};
use crate::fleet::stage::signal;
use crate::publish::stage::{Ended, REGION, Stage, Started};

/// Asked as documented for any members.
const GENERIC: &str = "http = '/member'";
/// How many looks a new member copies, where that is not what is tried.
const COPYING: u32 = 6;

/// A network that no other test has: all of 127/8 is this machine. Its last address is held while it is used.
fn net() -> (String, TcpListener) {
    static NEXT: AtomicU8 = AtomicU8::new(20);
    loop {
        let net = format!("127.{}", NEXT.fetch_add(1, Ordering::Relaxed).max(20));
        if let Ok(held) = TcpListener::bind(format!("{net}.255.254:{PORT}")) {
            return (net, held);
        }
    }
}

/// A group of three whose instances hold data.
pub struct Site<'a> {
    pub group: Group<'a>,
    pub cluster: &'a Cluster,
}

/// Says that it is over when it goes.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a test with a cluster that is played meanwhile; `section` is how its members are asked.
pub fn with(section: &str, more: &str, deadline: &'static str, play: impl FnOnce(&Site<'_>)) {
    let (stage, cluster, over) = (Stage::new(), Cluster::default(), AtomicBool::new(false));
    let (net, _held) = net();
    cluster.model().copying = COPYING;
    let setup = Setup { target_groups: 0, surge: 1, deadline, roll: "drain = \"200ms\"", ..Setup::default() };
    let group = Group::at(&stage, setup, &net);
    let password = stage.path("password");
    fs::write(&password, format!("{PASSWORD}\n")).expect("written");
    let file = stage.repo().join("fleets/web.toml");
    let text = fs::read_to_string(&file).expect("a file");
    let health = format!("[health]\nhttp = {{ port = {PORT}, path = '/health' }}\nconsecutive = 1\n");
    let section = section.replace("PASSWORD", &password.display().to_string());
    let text = text.replace("[health]\n", &health);
    fs::write(&file, format!("{text}[stateful]\n{section}\n{more}\n")).expect("written");
    cluster.turn(&stage);
    scope(|scope| {
        // Whatever happens, the thread ends.
        let _end = End(&over);
        scope.spawn(|| cluster.play(&stage, &over));
        play(&Site { group, cluster: &cluster });
    });
}

pub fn patroni() -> String {
    format!("patroni = {{ etcd = {ETCD}, user = 'rekiln', password_file = 'PASSWORD' }}")
}

impl Site<'_> {
    fn run(&self, args: &[&str]) -> Ended {
        self.group.run(args)
    }

    /// The ids of the group's members, in their order.
    fn ids(&self) -> Vec<String> {
        let mut ids: Vec<_> = members(&self.group.settled()).into_iter().map(instance).collect();
        ids.sort();
        ids
    }

    /// Fails unless nothing broke, and exactly those are there, registered and in the group, that are to be.
    fn is_whole(&self) {
        let ids = self.ids();
        self.group.waits_until(|| self.cluster.model().known().0 == ids);
        let model = self.cluster.model();
        assert_eq!(model.broken, Vec::<String>::new(), "{:#?}", model.happened);
        assert_eq!(model.known(), (ids.clone(), ids), "{:#?}", model.happened);
    }

    /// Fails unless three were replaced in the one way that is right, and returns who leads then.
    fn replaced_in_order(&self, old: &[String], leader: &str) -> String {
        self.is_whole();
        let happened = self.cluster.model().since();
        let (mut joined, mut gone, mut handed) = (Vec::new(), Vec::new(), Vec::new());
        for one in &happened {
            match one {
                Happened::Joined(id) => {
                    // Three and one more, of which one goes before the next one comes.
                    assert_eq!(joined.len(), gone.len(), "{happened:#?}");
                    joined.push(id.clone());
                }
                Happened::Deregistered(id) => {
                    let last = joined.last().expect("somebody joined");
                    assert!(happened.contains(&Happened::CaughtUp(last.clone())), "{happened:#?}");
                    assert!(old.contains(id) && !gone.contains(id), "{happened:#?}");
                    gone.push(id.clone());
                }
                Happened::Ended(id) => assert_eq!(gone.last(), Some(id), "{happened:#?}"),
                Happened::HandedOver { from, to } => {
                    // When only the leader is old.
                    assert_eq!((from.as_str(), joined.len(), gone.len()), (leader, 3, 2), "{happened:#?}");
                    assert!(joined.contains(to), "{happened:#?}");
                    handed.push(to.clone());
                }
                Happened::CaughtUp(_) | Happened::NotNow => {}
                Happened::Elected(_) => panic!("nobody was to be elected: {happened:#?}"),
            }
        }
        assert_eq!((gone.len(), gone.last().map(String::as_str)), (3, Some(leader)), "{happened:#?}");
        let [new] = &handed[..] else { panic!("leadership moves once: {happened:#?}") };
        assert_eq!(self.cluster.model().leads(), *new);
        assert!(self.ids().contains(new));
        new.clone()
    }

    /// Whether the journal is whole, and each decision of it is made again from what it was made from.
    fn is_sound(&self) {
        let replayed = self.run(&["replay", NAME]).must(0).events("replayed");
        assert!(!replayed.is_empty() && replayed.iter().all(|one| one["identical"] == true), "{replayed:?}");
    }

    fn comes(&self, running: &mut Started, mut so: impl FnMut(&Cluster) -> bool) -> bool {
        self.group.comes(running, || so(self.cluster))
    }

    /// Ends an instance as somebody else would, and waits until the others see that.
    fn end(&self, id: &str) {
        self.cluster.model().disaster = true;
        self.group.stage.cloud.ec2(REGION, &format!("Action=TerminateInstances&InstanceId.1={id}"));
        self.group.waits_until(|| self.cluster.model().happened.contains(&Happened::Ended(id.to_owned())));
        self.cluster.model().disaster = false;
    }

    /// The same with the leader: another one leads then.
    fn lose(&self, id: &str) {
        self.end(id);
        self.group.waits_until(|| {
            let happened = &self.cluster.model().happened;
            happened.iter().any(|one| matches!(one, Happened::Elected(_)))
        });
    }
}

#[test]
fn members_of_any_kind_are_replaced_and_the_leader_last() {
    with(GENERIC, "", "60s", |site| {
        let (old, leader) = (site.ids(), site.cluster.model().leads());
        // A leader that nobody can ask, and that nobody has ever heard: nobody is removed, and nobody joins.
        site.cluster.model().silent = true;
        let unheard = site.run(&["roll", NAME]).must(3);
        assert!(
            unheard.stderr.contains("nobody leads") && unheard.stderr.contains(&leader),
            "{}",
            unheard.stderr
        );
        assert_eq!(site.cluster.model().since(), []);
        assert_eq!((site.ids(), site.group.called("LaunchInstances")), (old.clone(), 0));
        // It can be asked again, and hands over at the third time of asking.
        (site.cluster.model().silent, site.cluster.model().not_now) = (false, 2);
        site.run(&["roll", NAME]).must(0);
        let asked = site.cluster.model().happened.iter().filter(|one| **one == Happened::NotNow).count();
        let first = site.replaced_in_order(&old, &leader);
        assert_eq!(asked, 2);
        site.group.judge(&site.group.wanted.id);
        let told = site.run(&["history", NAME]).must(0).stderr;
        assert!(told.contains(" leads"), "{told}");
        // There is nothing to do, and nothing is done.
        site.run(&["roll", NAME]).must(0);
        assert_eq!(site.cluster.model().since(), []);
        // Those that rekiln launched have names of their own here, and EC2's among themselves.
        let old = site.ids();
        // One that does not answer any more may lead all the same: that is waited for, and nothing is done.
        site.cluster.model().silent = true;
        let before = site.group.stage.cloud.changes();
        let rotate = ["rotate", NAME, "--reason", "x", "--emergency", "--yes"];
        let (mut rolling, looks) = (site.group.stage.begin(&rotate), site.cluster.model().looks);
        let waits = |cluster: &Cluster| cluster.model().looks > looks + 15;
        assert!(site.comes(&mut rolling, waits), "it does not wait: {}", rolling.end().stderr);
        signal(rolling.child.id(), Signal::INT);
        rolling.end().must(130);
        assert_eq!(site.cluster.model().since(), []);
        let ends = |calls: &[String]| calls.iter().filter(|call| call.contains("Terminate")).count();
        assert_eq!((site.ids(), ends(&site.group.stage.cloud.changes())), (old.clone(), ends(&before)));
        site.cluster.model().silent = false;
        site.run(&rotate).must(0);
        let second = site.replaced_in_order(&old, &first);

        // Somebody ends the leader: the others elect, the group launches, and nothing of the lost one is left behind.
        site.lose(&second);
        site.run(&["roll", NAME, "--to", "current"]).must(0);
        site.is_whole();
        let happened = site.cluster.model().since();
        let count = |wanted: &Happened| happened.iter().filter(|one| *one == wanted).count();
        assert_eq!(count(&Happened::Deregistered(second.clone())), 1, "{happened:#?}");
        assert!(!happened.iter().any(|one| matches!(one, Happened::HandedOver { .. })), "{happened:#?}");
        site.is_sound();

        // Once more, and nobody looks before EC2 has forgotten it: its name is in the journal.
        let third = site.cluster.model().leads();
        site.lose(&third);
        site.group.waits_until(|| site.cluster.model().known().0.len() == 3);
        site.group.stage.cloud.clock(4000);
        site.run(&["roll", NAME, "--to", "current"]).must(0);
        site.is_whole();
        assert!(site.cluster.model().since().contains(&Happened::Deregistered(third)));
        site.is_sound();
    });
}

#[test]
fn patroni_with_etcd_is_replaced_and_a_killed_roll_hands_over_once() {
    with(&patroni(), "", "10s", |site| {
        let (old, leader) = (site.ids(), site.cluster.model().leads());
        // Killed when leadership has moved and nobody was told.
        site.cluster.model().unanswered = true;
        let mut rolling = site.group.start();
        let handed = |cluster: &Cluster| {
            cluster.model().happened.iter().any(|one| matches!(one, Happened::HandedOver { .. }))
        };
        assert!(site.comes(&mut rolling, handed), "it does not hand over: {}", rolling.end().stderr);
        rolling.child.kill().expect("killed");
        assert_eq!(rolling.end().code, None);
        site.cluster.answer();
        site.run(&["roll", NAME]).must(0);
        let new = site.replaced_in_order(&old, &leader);
        site.is_sound();
        // The leader's machine is lost, and the one that comes for it copies for longer than a machine may take to boot.
        site.cluster.model().copying = 100;
        site.lose(&new);
        site.run(&["roll", NAME, "--to", "current"]).must(0);
        site.is_whole();
        let happened = site.cluster.model().since();
        assert!(happened.contains(&Happened::Deregistered(new)), "{happened:#?}");
        let joined = happened.iter().filter(|one| matches!(one, Happened::Joined(_))).count();
        assert_eq!(joined, 1, "nobody was given up while it copied: {happened:#?}");
        // And one that the group launched by itself, which has no other name: nobody lists it any more once it is gone.
        let state = site.group.stage.cloud.state();
        let mut instances = state["instances"].as_array().expect("a list").iter();
        let unnamed = instances.find(|one| one["state"] == "running" && one["tags"]["rekiln:name"].is_null());
        let unnamed = unnamed.expect("the group launched it")["id"].as_str().expect("an id").to_owned();
        site.cluster.model().copying = COPYING;
        site.end(&unnamed);
        site.run(&["roll", NAME, "--to", "current"]).must(0);
        site.is_whole();
        assert!(site.cluster.model().since().contains(&Happened::Deregistered(unnamed)));
        site.is_sound();
    });
}

#[test]
fn a_leader_that_never_hands_over_stays() {
    with(&patroni(), "switchover = '7s'", "60s", |site| {
        let leader = site.cluster.model().leads();
        site.cluster.model().not_now = u32::MAX;
        let ended = site.run(&["roll", NAME]).must(3);
        assert!(ended.stderr.contains("a checkpoint is under way"), "{}", ended.stderr);
        let model = site.cluster.model();
        assert_eq!((model.leads(), model.broken.clone()), (leader.clone(), Vec::new()));
        let first = model.happened.iter().position(|one| *one == Happened::NotNow).expect("it was asked");
        let after = &model.happened[first..];
        assert!(after.len() > 1 && after.iter().all(|one| *one == Happened::NotNow), "{:#?}", model.happened);
        drop(model);
        assert!(site.ids().contains(&leader));
        // Whoever has no login changes nothing, either, and is told what is missing.
        site.cluster.model().not_now = 0;
        let file = site.group.stage.path("password");
        fs::write(&file, "another\n").expect("written");
        let refused = site.run(&["roll", NAME]).must(2).stderr;
        assert!(refused.contains("refuses the login") && refused.contains("password_file"), "{refused}");
        assert_eq!(site.cluster.model().leads(), leader);
        // Then it goes on from where it was.
        fs::write(&file, PASSWORD).expect("written");
        site.run(&["roll", NAME]).must(0);
        site.is_whole();
        let happened = site.cluster.model().since();
        let handed = happened.iter().filter(|one| matches!(one, Happened::HandedOver { .. })).count();
        assert_eq!(handed, 1, "{happened:#?}");
        assert_eq!(happened.last(), Some(&Happened::Ended(leader)), "{happened:#?}");
        assert_eq!(site.group.called("TerminateInstanceInAutoScalingGroup"), 3);
        let lines = site.run(&["history", NAME, "--entries"]).must(0).stderr;
        assert!(!lines.contains(PASSWORD), "a password is in the journal");
    });
}
