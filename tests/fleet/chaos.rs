//! Chaos kills a real process behind a real `HAProxy`, as its host's failure would; what is left of it stays.

use rekiln::fleet::census::InstanceId;
use rekiln::fleet::chaos::probe::{Door, Probe};
use rekiln::fleet::chaos::strike::Striker;
use rekiln::fleet::chaos::{Refusal, Which};
use rekiln::fleet::history::Event;
use rekiln::fleet::policy::Policy;
use rekiln::fleet::surroundings::OfStore;
use rekiln::progress::Silent;
use rekiln::provider::{Outcome, Provider as _};

use super::stage::{Stage, StandIns, none_failed, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn chaos_kills_one_machine_and_its_clients_notice_nothing() {
    let stage = Stage::new();
    let image = stage.image("first");
    stage.roll(image).await;
    let load = stage.load();
    let probe = Probe::start(Door::Http(stage.fleet.local().expect("it is local").listen, "/".to_owned()));
    let balancers = stage.balancers();
    // Whoever would be one too many is refused by the provider itself, and so is one that is not there.
    let id = InstanceId::new("web", 2);
    for (id, others) in [(id.clone(), 3), (InstanceId::new("web", 9), 0)] {
        let outcome = stage.local.kill(&id, others).await.expect("an answer");
        assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
    }
    let dir = stage.store.local("web").join("web-2");
    assert!(StandIns::pid(&dir).is_some());
    let policy = Policy::of(&stage.fleet).expect("a policy");
    let surroundings =
        OfStore::new(stage.store.clone(), &stage.store.objects(), "web", stage.fleet.clone(), &Silent);
    let striker = Striker {
        name: "web",
        fleet: &stage.fleet,
        policy: &policy,
        provider: &stage.local,
        surroundings: &surroundings,
    };
    let which = Which { instance: Some("web-2".to_owned()), ..Which::default() };
    let mut journal = stage.journal().await;
    let mut struck = striker.strike(&mut journal, &which, 0, "a test").await.expect("done").expect("it may");
    assert_eq!(struck.victim.instance, id);
    assert!(wait_until(|| StandIns::pid(&dir).is_none()));
    // Its record is there, and so is the load balancer.
    assert!(dir.join("instance.json").exists());
    assert_eq!(stage.balancers(), balancers);
    let any = Which::default();
    let again = striker.strike(&mut journal, &any, 0, "a test").await.expect("an answer");
    assert!(matches!(again, Err(Refusal::NotYet(_))), "{again:?}");
    let looked = striker.look(&mut journal, &mut struck).await.expect("a look").expect("it sees");
    assert!(!looked.cured && struck.cure.detected.is_some(), "{looked:?}");
    stage.roll(image).await;
    let looked = striker.look(&mut journal, &mut struck).await.expect("a look").expect("it sees");
    assert!(looked.cured, "{looked:?}");
    assert_eq!(struck.cure.replacement, Some(InstanceId::new("web", 4)));
    let times = struck.cure.times();
    assert!(times.serving_s.is_some() && times.whole_s >= times.serving_s, "{times:?}");
    let journal = stage.journal().await;
    assert!(journal.entries().iter().all(|entry| !matches!(entry.event, Event::Failed { .. })));
    let clients = probe.stop().await;
    assert!(clients.asked > 5 && clients.failed == 0, "{clients:?}");
    none_failed(load).await;
}
