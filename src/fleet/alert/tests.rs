use jiff::Timestamp;

use super::super::census::{Health, InstanceId};
use super::*;

fn rule(text: &str) -> Alert {
    toml::from_str(&format!("name = 'Errors'\n{text}")).expect(text)
}

fn heard(name: &str, labels: &[(&str, &str)]) -> Heard {
    let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
    Heard { name: name.to_owned(), labels, firing: true, summary: None }
}

fn census(instances: &[(&str, State, Option<&str>)]) -> Census {
    let instance = |(id, state, address): &(&str, State, Option<&str>)| Instance {
        id: InstanceId((*id).to_owned()),
        generation: None,
        image: None,
        state: *state,
        health: Health::Unknown,
        in_service: false,
        launched_at: Timestamp::UNIX_EPOCH,
        touched: None,
        connections: 0,
        address: address.map(|address| address.parse().expect("an address")),
        zone: None,
        known_as: id.strip_prefix("aws-").map(|number| format!("i-{number}")),
        membership: None,
    };
    Census { instances: instances.iter().map(instance).collect(), ..Census::empty(Timestamp::UNIX_EPOCH) }
}

#[test]
fn whose_alert_it_is() {
    let page = [("severity", "page"), ("job", "web")];
    for (text, name, labels, expected) in [
        ("", "Errors", &page[..], true),
        ("", "errors", &page, false),
        ("match = { severity = 'page' }", "Errors", &page, true),
        ("match = { severity = 'page', job = 'web' }", "Errors", &page, true),
        ("match = { severity = 'pag' }", "Errors", &page, false),
        ("match = { severity = 'page', zone = 'a' }", "Errors", &page, false),
        ("match = { severity = 'page' }", "Errors", &[], false),
    ] {
        let mut heard = heard(name, labels);
        assert_eq!(rule(text).is_for(&heard), expected, "{text}");
        // It closes what it opened.
        heard.firing = false;
        assert_eq!(rule(text).is_for(&heard), expected, "{text}");
    }
}

#[test]
fn what_names_the_instance() {
    for (text, labels, expected) in [
        ("", &[("instance", "a"), ("InstanceId", "b")][..], Some("a")),
        ("", &[("InstanceId", "b")], Some("b")),
        ("", &[("instance", ""), ("InstanceId", "b")], Some("b")),
        ("", &[("host", "c")], None),
        ("instance = 'host'", &[("host", "c"), ("instance", "a")], Some("c")),
        // What a rule says is not guessed beside.
        ("instance = 'host'", &[("instance", "a")], None),
    ] {
        assert_eq!(rule(text).names(&heard("Errors", labels)), expected, "{text} {labels:?}");
    }
}

#[test]
fn times_and_limits() {
    for (text, within, limit) in [
        ("", Ok(0), Ok(1)),
        ("playbook = 'x'\nwithin = '5m'\nlimit = '3/h'", Ok(300), Ok(3)),
        ("within = '5m'", Ok(300), Ok(1)),
        ("playbook = 'x'", Err(()), Ok(1)),
        ("within = 'x'\nlimit = 'x'", Err(()), Err(())),
    ] {
        let rule = rule(text);
        assert_eq!(rule.within().map_err(drop), within.map(Duration::from_secs), "{text}");
        assert_eq!(rule.limit().map_err(drop), limit, "{text}");
    }
}

#[test]
fn whom_a_text_names() {
    let seen = census(&[
        ("web-1", State::Dead, Some("10.0.0.1:80")),
        ("web-2", State::Running, Some("10.0.0.1:80")),
        ("web-3", State::Draining, Some("10.0.0.3:80")),
        ("web-4", State::Launching, None),
        ("web-5", State::Running, Some("127.0.0.1:4001")),
        ("web-6", State::Running, Some("127.0.0.1:4002")),
        ("web-7", State::Running, Some("[fd00::7]:80")),
        ("web-8", State::Running, Some("10.0.0.8:80")),
        ("web-9", State::Running, Some("10.0.0.8:80")),
        ("i-0abc", State::Running, Some("10.0.0.10:80")),
        // One that a look saw twice.
        ("i-0abc", State::Running, Some("10.0.0.10:80")),
        ("coming#1", State::Launching, None),
        ("aws-1f", State::Running, Some("10.0.1.1:80")),
        ("aws-2f", State::Dead, Some("10.0.1.2:80")),
    ]);
    for (text, expected) in [
        ("web-2", Some("web-2")),
        ("web-4", Some("web-4")),
        ("i-0abc", Some("i-0abc")),
        // As EC2 calls those that rekiln gave a name.
        ("i-1f", Some("aws-1f")),
        ("aws-1f", Some("aws-1f")),
        ("i-2f", None),
        ("i-3f", None),
        ("web-1", None),
        ("web", None),
        ("coming#1", None),
        ("", None),
        // The dead one that had this address does not make it doubtful.
        ("10.0.0.1:80", Some("web-2")),
        ("10.0.0.1:9100", Some("web-2")),
        ("10.0.0.1", Some("web-2")),
        ("::ffff:10.0.0.1", Some("web-2")),
        ("10.0.0.3:9100", Some("web-3")),
        ("10.0.0.10:9100", Some("i-0abc")),
        ("10.0.0.11:80", None),
        // Machines of one computer share its host.
        ("127.0.0.1:4001", Some("web-5")),
        ("127.0.0.1:4002", Some("web-6")),
        ("127.0.0.1:9100", None),
        ("127.0.0.1", None),
        ("[fd00::7]:9100", Some("web-7")),
        ("fd00::7", Some("web-7")),
        ("[fd00::7]", Some("web-7")),
        ("10.0.0.8:80", None),
        ("10.0.0.8:81", None),
        ("localhost:80", None),
        ("10.0.0.1:", None),
        ("http://10.0.0.1:80/", None),
    ] {
        assert_eq!(instance(&seen, text).map(|instance| instance.id.0.as_str()), expected, "{text}");
    }
}

#[test]
fn an_absent_rule_leaves_no_trace() {
    let text = "image = 'web'\n[health]\n";
    let fleet: crate::fleet::Fleet = toml::from_str(text).expect("a fleet");
    assert!(!serde_json::to_string(&fleet).expect("written").contains("alert"));
}
