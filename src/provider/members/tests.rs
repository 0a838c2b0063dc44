//! Members as they are asked: against a real HTTP server that answers as Patroni, etcd and others do.

use std::net::IpAddr;

use jiff::Timestamp;

use super::{Door, Login, Members, Names};
use crate::fleet::census::{Census, Health, Instance, InstanceId, State};
use crate::fleet::cluster::Role;
use crate::fleet::outside::server::Server;
use crate::fleet::stateful::Stateful;
use crate::provider::Outcome;

struct Nobody;

impl Names for Nobody {
    fn at(&self, _: IpAddr) -> Option<InstanceId> {
        None
    }
}

fn id(number: u64) -> InstanceId {
    InstanceId::new("db", number)
}

fn door(number: u64, server: &Server) -> Door {
    let at = server.address();
    Door { id: id(number), known_as: None, inside: None, health: at, etcd: Some(at), healthy: true }
}

fn census(numbers: &[u64]) -> Census {
    let instance = |number: &u64| Instance {
        id: id(*number),
        generation: None,
        image: None,
        state: State::Running,
        health: Health::Healthy,
        in_service: true,
        launched_at: Timestamp::UNIX_EPOCH,
        touched: None,
        connections: 0,
        address: None,
        zone: None,
        known_as: None,
        membership: None,
    };
    Census { instances: numbers.iter().map(instance).collect(), ..Census::empty(Timestamp::UNIX_EPOCH) }
}

fn members(section: &str) -> Members {
    let stateful: Stateful = toml::from_str(section).expect("a section");
    Members::of(&stateful, Some(Login::new("rekiln", "s3cret:/@"))).expect("sound")
}

const CLUSTER: &str = r#"{"members":[
    {"name":"db-1","role":"leader","state":"running","host":"10.77.0.2","port":5432,"timeline":1},
    {"name":"db-2","role":"sync_standby","state":"running","lag":0},
    {"name":"db-3","role":"replica","state":"creating replica","lag":"unknown"}]}"#;

const CONFIG: &str = r#"{"synchronous_mode":true,"synchronous_mode_strict":true,"synchronous_node_count":1}"#;

const ETCD: &str = r#"{"members":[{"ID":"9372538179322589801","name":"db-1"},{"ID":"2","name":"db-2"},
    {"ID":"3","name":"db-3","isLearner":true},{"ID":"7","name":"db-0"}]}"#;

/// Answers as one machine of three with Patroni and etcd does, whoever asks in which order.
fn patroni(count: usize) -> Server {
    Server::start(count, |_, request| {
        let line = request.lines().next().unwrap_or_default();
        let answer = match line.split(' ').nth(1).unwrap_or_default() {
            "/cluster" => (200, CLUSTER),
            "/config" => (200, CONFIG),
            "/v3/cluster/member/list" => (200, ETCD),
            "/v3/cluster/member/remove" if request.contains(r#"{"ID":"7"}"#) => (200, "{}"),
            "/switchover" if request.contains(r#""candidate":"db-2""#) => {
                (200, "Successfully switched over to \"db-2\"")
            }
            "/switchover" => (412, "candidate name does not match with sync_standby"),
            _ => (404, ""),
        };
        (answer.0, answer.1.to_owned())
    })
}

#[test]
fn patroni_and_its_etcd_say_who_everyone_is() {
    let server = patroni(3);
    let mut census = census(&[1, 2, 3, 4]);
    // That of a machine that ended, or is ill, is what others do not know yet.
    census.instances[1].health = Health::Unhealthy;
    members("patroni = { etcd = 2379 }").look(
        &[door(1, &server), door(2, &server), door(3, &server)],
        &Nobody,
        &mut census,
    );
    let roles: Vec<_> = census
        .instances
        .iter()
        .map(|seen| seen.membership.as_ref().map(|found| (found.role, found.caught_up)))
        .collect();
    assert_eq!(roles, [Some((Role::Leader, true)), None, Some((Role::Joining, false)), None]);
    let cluster = census.cluster.expect("it answered");
    assert_eq!(cluster.registered, [0, 1, 2, 3].map(id));
    assert_eq!(cluster.voters, [0, 1, 2].map(id));
    assert_eq!(cluster.refuses, Vec::<String>::new());
    let heard = server.heard();
    assert!(
        heard.iter().all(|request| !request.contains("Authorization")),
        "who only asks needs no login: {heard:?}"
    );
}

#[test]
fn who_does_not_answer_is_not_known() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = nobody.local_addr().expect("bound");
    drop(nobody);
    let closed = Door { id: id(1), known_as: None, inside: None, health: at, etcd: Some(at), healthy: true };
    let mut first = census(&[1]);
    members("patroni = { etcd = 2379 }").look(std::slice::from_ref(&closed), &Nobody, &mut first);
    assert_eq!((first.cluster, first.instances[0].membership.clone()), (None, None));
    // The next one is asked, and the whole is known.
    let server = patroni(3);
    let mut second = census(&[1, 2]);
    members("patroni = { etcd = 2379 }").look(&[closed, door(2, &server)], &Nobody, &mut second);
    assert!(second.instances[0].leads() && second.cluster.is_some());
    drop(server);
}

#[test]
fn etcd_that_does_not_answer_lets_nobody_leave() {
    let server = Server::start(3, |_, request| match request.split(' ').nth(1) {
        Some("/cluster") => (200, CLUSTER.to_owned()),
        Some("/config") => (200, CONFIG.to_owned()),
        _ => (503, r#"{"error":"etcdserver: no leader","code":14}"#.to_owned()),
    });
    let mut census = census(&[1]);
    members("patroni = { etcd = 2379 }").look(&[door(1, &server)], &Nobody, &mut census);
    let cluster = census.cluster.expect("Patroni answered");
    assert!(cluster.refuses[0].contains("etcdserver: no leader") && cluster.voters.is_empty(), "{cluster:?}");
}

#[test]
fn a_leader_hands_over_with_a_login_that_is_in_no_error() {
    let server = patroni(4);
    let doors = [door(1, &server), door(2, &server), door(3, &server)];
    let members = members("patroni = {}");
    assert_eq!(members.hand_over(&doors, &id(1), &id(2)).expect("answered"), Outcome::Applied);
    let refused = members.hand_over(&doors, &id(1), &id(3)).expect("answered");
    let wanted = "Patroni on db-1 says (HTTP 412): candidate name does not match with sync_standby";
    assert_eq!(refused, Outcome::refused(wanted));
    let heard = server.heard();
    // `rekiln:s3cret:/@` in base 64.
    assert!(heard[1].contains("Authorization: Basic cmVraWxuOnMzY3JldDovQA=="), "{}", heard[1]);
    let locked = Server::answering(&[(200, CLUSTER), (401, "no auth")]);
    let error =
        members.hand_over(&[door(1, &locked), door(2, &locked)], &id(1), &id(2)).expect_err("no login");
    let text = format!("{} {}", error.chain(), error.hints().join(" "));
    assert!(text.contains("refuses the login") && !text.contains("s3cret"), "{text}");
}

#[test]
fn who_has_ended_loses_its_vote_once() {
    let server = patroni(2);
    let members = members("patroni = { etcd = 2379 }");
    let doors = [door(1, &server)];
    assert_eq!(members.deregister(&doors, &Nobody, &id(0)).expect("answered"), Outcome::Applied);
    assert!(server.heard()[1].starts_with("POST /v3/cluster/member/remove "));
    let server = patroni(1);
    assert_eq!(
        members.deregister(&[door(1, &server)], &Nobody, &id(5)).expect("answered"),
        Outcome::AlreadyDone
    );
    // Never by the one that is to go.
    let error = members.deregister(&[door(1, &server)], &Nobody, &id(1)).expect_err("nobody else is there");
    assert_eq!(error.chain(), "no member answers");
}

#[test]
fn others_answer_in_the_documented_json() {
    let server = Server::start(4, |at, request| {
        let answer = match (request.starts_with("POST"), at) {
            (false, _) => {
                r#"{"role":"leader","votes":true,"registered":["db-1","db-7"],"voters":["db-1"],"data":7}"#
            }
            (true, 1) => r#"{"done":true}"#,
            (true, _) => r#"{"done":false,"why":"a checkpoint"}"#,
        };
        (200, answer.to_owned())
    });
    let members = members("http = '/member'");
    let mut census = census(&[1]);
    members.look(&[door(1, &server)], &Nobody, &mut census);
    assert!(census.instances[0].leads());
    assert_eq!(census.cluster.expect("it answered").data, Some(7));
    let doors = [door(1, &server), door(2, &server)];
    assert_eq!(members.hand_over(&doors, &id(1), &id(2)).expect("answered"), Outcome::Applied);
    assert_eq!(
        members.hand_over(&doors, &id(1), &id(2)).expect("answered"),
        Outcome::refused("a checkpoint")
    );
    assert_eq!(
        members.deregister(&doors, &Nobody, &id(7)).expect("answered"),
        Outcome::refused("a checkpoint")
    );
    let heard = server.heard();
    assert!(heard[1].ends_with(r#"{"do":"hand_over","to":"db-2"}"#), "{}", heard[1]);
    assert!(heard[3].ends_with(r#"{"do":"deregister","instance":"db-7"}"#), "{}", heard[3]);
}

/// As of an Auto Scaling group: members call each other by what EC2 calls them.
struct Ec2;

impl Names for Ec2 {
    fn at(&self, _: IpAddr) -> Option<InstanceId> {
        None
    }

    fn known_as(&self, name: &str) -> Option<InstanceId> {
        Some(id(name.strip_prefix("i-")?.parse().ok()?))
    }

    fn called(&self, id: &InstanceId) -> String {
        format!("i-{}", id.number())
    }
}

#[test]
fn members_are_told_and_say_what_their_provider_calls_them() {
    let server = Server::start(3, |_, request| {
        let leader =
            r#"{"role":"leader","votes":true,"registered":["i-1","i-2","i-7"],"voters":["i-1","i-2","i-7"]}"#;
        let answer = if request.starts_with("GET") { leader } else { r#"{"done":true}"# };
        (200, answer.to_owned())
    });
    let known = |number| Door { known_as: Some(format!("i-{number}")), ..door(number, &server) };
    let (doors, asked) = ([known(1), known(2)], members("http = '/member'"));
    let mut census = census(&[1]);
    asked.look(&doors[..1], &Ec2, &mut census);
    let cluster = census.cluster.expect("it answered");
    let ids = [1, 2, 7].map(id).to_vec();
    assert_eq!((cluster.registered, cluster.voters), (ids.clone(), ids));
    assert_eq!(asked.hand_over(&doors, &id(1), &id(2)).expect("answered"), Outcome::Applied);
    assert_eq!(asked.deregister(&doors, &Ec2, &id(7)).expect("answered"), Outcome::Applied);
    let heard = server.heard();
    assert!(heard[1].ends_with(r#"{"do":"hand_over","to":"i-2"}"#), "{}", heard[1]);
    assert!(heard[2].ends_with(r#"{"do":"deregister","instance":"i-7"}"#), "{}", heard[2]);
    // etcd has the name of one that has ended, and nobody has its address any more.
    let list = r#"{"members":[{"ID":"1","name":"i-1"},{"ID":"7","name":"i-7"}]}"#;
    let etcd = Server::answering(&[(200, list), (200, "{}")]);
    let doors = [Door { known_as: Some("i-1".to_owned()), ..door(1, &etcd) }];
    let asked = members("patroni = { etcd = 2379 }");
    assert_eq!(asked.deregister(&doors, &Ec2, &id(7)).expect("answered"), Outcome::Applied);
    assert!(etcd.heard()[1].ends_with(r#"{"ID":"7"}"#));
}

#[test]
fn a_program_is_told_what_their_provider_calls_them() {
    let script = r#"read line; case "$line" in
        *'"instance":"i-1"'*) echo '{"members":{"i-1":{"role":"leader","votes":true}}}';; esac"#;
    let members = members(&format!("command = ['sh', '-c', '''{script}''']"));
    let server = Server::answering(&[]);
    let doors = [Door { known_as: Some("i-1".to_owned()), ..door(1, &server) }];
    let mut census = census(&[1]);
    members.look(&doors, &Ec2, &mut census);
    assert!(census.instances[0].leads());
}

#[test]
fn one_that_copies_is_heard_whatever_its_health_check_says() {
    for (health, role, heard) in [
        (Health::Unhealthy, "joining", true),
        (Health::Unhealthy, "replica", false),
        (Health::Unhealthy, "leader", false),
        (Health::Healthy, "replica", true),
    ] {
        let answer = format!(r#"{{"role":"{role}","lag":0,"votes":true}}"#);
        let server = Server::answering(&[(200, &answer)]);
        let mut census = census(&[1]);
        census.instances[0].health = health;
        members("http = '/member'").look(&[door(1, &server)], &Nobody, &mut census);
        let (seen, well) = (&census.instances[0], health == Health::Healthy);
        assert_eq!(seen.membership.is_some(), heard, "{role} {health:?}");
        assert_eq!((seen.votes(), seen.has_all()), (well, well), "{role} {health:?}");
    }
}

#[test]
fn a_program_answers_for_all() {
    let script = r#"read line; case "$line" in
        *'"do":"look"'*) echo '{"members":{"db-1":{"role":"leader","votes":true},"db-2":{"role":"replica","lag":1}}}';;
        *) echo '{"done":false}';; esac"#;
    let members = members(&format!("command = ['sh', '-c', '''{script}''']"));
    let server = Server::answering(&[]);
    let doors = [door(1, &server), door(2, &server)];
    let mut census = census(&[1, 2]);
    members.look(&doors, &Nobody, &mut census);
    assert!(census.instances[0].leads() && census.instances[1].has_all());
    assert_eq!(members.hand_over(&doors, &id(1), &id(2)).expect("it ran"), Outcome::refused("not now"));
}
