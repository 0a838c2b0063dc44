//! What an instance is launched as, where there is room for it, and what becomes of one that nobody gets into.

use serde_json::{Value, json};

use super::site::Site;
use crate::publish::stage::REGION;

/// The addresses of nobody's SSH server: connections are refused at once.
const WAIT: &str = "ssh_timeout = \"1s\"\n";

#[test]
fn an_instance_is_closed_encrypted_tagged_and_ends_itself() {
    let site = Site::new("127.34");
    let key = format!("arn:aws:kms:{REGION}:123456789012:key/11111111-2222-4333-8444-555555555555");
    let publish = format!("[publish]\nregions = [\"{REGION}\"]\nkms = {{ {REGION} = \"{key}\" }}\n");
    site.recipe(&format!("{WAIT}encrypt = true\nsize = \"3G\"\n"), &publish);
    // Held there, everything is still to be seen.
    site.stage.cloud.rules(&json!([{ "operation": "TerminateInstances", "do": "hold_before" }]));
    let mut baking = site.stage.begin(&["bake", "--no-boot", "vendor"]);
    site.stage.cloud.wait_for_held(&mut baking.child);
    let state = site.stage.cloud.state();
    let instance = &state["instances"][0];
    assert_eq!(instance["state"], "running");
    assert_eq!(instance["tokens"], "required");
    assert_eq!(instance["shutdown"], "terminate");
    assert_eq!(instance["volumes"], json!([{ "gib": 3, "encrypted": true, "key": key }]));
    assert_eq!(instance["type"], "m7i.large");
    for tag in ["rekiln:image", "rekiln:run", "rekiln:recipe", "rekiln:expires", "rekiln:owner"] {
        assert!(instance["tags"][tag].is_string(), "{tag}: {instance}");
    }
    // What it is told: our keys, and its own end.
    let told = decoded(instance["user_data"].as_str().expect("text"));
    let told: Value =
        serde_json::from_str(told.strip_prefix("#cloud-config\n").expect("cloud-init's")).expect("JSON");
    assert_eq!(told["power_state"]["mode"], "poweroff");
    assert_eq!(told["power_state"]["delay"], "+240");
    assert!(told["ssh_keys"]["ed25519_private"].as_str().expect("a key").contains("PRIVATE KEY"));
    assert_eq!(told["ssh_pwauth"], false);
    // Who may connect: this machine, and nobody else.
    let groups = state["security_groups"].as_array().expect("a list");
    let group = groups.iter().find(|group| group["name"] != "web").expect("one of its own");
    assert_eq!(instance["security_groups"], json!([group["id"]]));
    assert_eq!(group["rules"], json!([{ "from": 22, "to": 22, "ranges": ["127.0.0.1/32"] }]));
    site.stage.cloud.forget_calls();
    let ended = baking.end().must(1);
    for words in ["did not let us in within 1 s", "its console ends with", "--keep-builder"] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
    assert!(!ended.stderr.contains("PRIVATE KEY"));
    assert_eq!(site.nothing_is_left().len(), 1);
}

#[test]
fn where_there_is_no_room_the_next_place_is_tried() {
    let site = Site::new("127.35");
    let none = |zone: &str, kind: Value| {
        let zone = format!("{REGION}{zone}");
        site.stage.cloud.control("capacity", &json!({ "zone": zone, "type": kind, "until": 3600 }));
    };
    site.recipe(&format!("{WAIT}types = [\"m7i.large\", \"m5.large\"]\n"), "");
    none("a", Value::Null);
    none("b", json!("m7i.large"));
    let ended = site.bake().must(1);
    let launched = site.nothing_is_left();
    let place: Vec<(&str, &str)> = launched
        .iter()
        .map(|one| (one["type"].as_str().expect("text"), one["zone"].as_str().expect("text")))
        .collect();
    assert_eq!(place, [("m5.large", format!("{REGION}b").as_str())], "{}", ended.stderr);
    none("b", Value::Null);
    let ended = site.bake().must(1);
    assert!(
        ended.stderr.contains("no instance of any type could be launched in any subnet"),
        "{}",
        ended.stderr
    );
    assert_eq!(
        ended.stderr.matches("InsufficientInstanceCapacity").count() % 4,
        0,
        "each of four places is named"
    );
    assert_eq!(site.nothing_is_left().len(), 1);
}

/// Which instances there were: whether for spot, of which type and in which zone.
fn launched(instances: &[Value]) -> Vec<(bool, String, String)> {
    let text = |one: &Value, name: &str| one[name].as_str().expect("text").to_owned();
    instances.iter().map(|one| (one["lifecycle"] == "spot", text(one, "type"), text(one, "zone"))).collect()
}

#[test]
fn where_there_is_no_spot_an_ordinary_instance_does_it() {
    let site = Site::new("127.42");
    site.recipe(&format!("{WAIT}spot = true\ntypes = [\"m7i.large\"]\n"), "");
    let ended = site.bake().must(1);
    assert!(ended.stderr.contains("did not let us in within 1 s"), "{}", ended.stderr);
    let first = (true, "m7i.large".to_owned(), format!("{REGION}a"));
    assert_eq!(launched(&site.nothing_is_left()), [first]);
    // It cannot be stopped, so it must not be told to; and its disk goes with it.
    assert!(!site.stage.cloud.changes().contains(&"ModifyInstanceAttribute".to_owned()));
    for zone in ["a", "b"] {
        let zone = format!("{REGION}{zone}");
        site.stage.cloud.control("capacity", &json!({ "zone": zone, "type": "spot", "until": 3600 }));
    }
    let ended = site.bake().must(1);
    assert!(ended.stderr.contains("no m7i.large for spot in"), "{}", ended.stderr);
    let second = (false, "m7i.large".to_owned(), format!("{REGION}a"));
    assert_eq!(launched(&site.nothing_is_left())[1..], [second]);
}

#[test]
fn a_spot_instance_that_is_taken_back_is_followed_by_an_ordinary_one() {
    let site = Site::new("127.43");
    site.recipe("ssh_timeout = \"10m\"\nspot = true\ntypes = [\"m7i.large\"]\n", "");
    let mut baking = site.stage.begin(&["bake", "--no-boot", "vendor"]);
    let mut there = |count: usize| loop {
        assert!(baking.child.try_wait().expect("its state").is_none(), "it ended early");
        let calls = site.stage.cloud.changes();
        if calls.iter().filter(|call| *call == "AuthorizeSecurityGroupIngress").count() == count {
            break site.stage.cloud.state()["instances"].as_array().expect("a list").clone();
        }
        std::thread::sleep(crate::publish::cloud::LOOK);
    };
    let first = there(1);
    site.stage.cloud.control("instances", &json!({ "instance": first[0]["id"], "kill": "spot" }));
    let both = there(2);
    let spot: Vec<bool> = launched(&both).iter().map(|(spot, ..)| *spot).collect();
    assert_eq!(spot, [true, false]);
    let pid = rustix::process::Pid::from_child(&baking.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("sent");
    let ended = baking.end();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("AWS took the spot instance back: begun again on demand"),
        "{}",
        ended.stderr
    );
    site.nothing_is_left();
}

#[test]
fn groups_that_the_recipe_names_are_used_and_stay() {
    let site = Site::new("127.36");
    site.recipe(&format!("{WAIT}security_groups = [\"{}\"]\n", site.ground.secured), "");
    site.bake().must(1);
    let changes = site.stage.cloud.changes();
    assert_eq!(changes, ["RunInstances", "TerminateInstances"]);
    site.nothing_is_left();
}

#[test]
fn an_answer_that_is_lost_makes_nothing_twice() {
    let site = Site::new("127.37");
    site.recipe(WAIT, "");
    for operation in [
        "CreateSecurityGroup",
        "RunInstances",
        "AuthorizeSecurityGroupIngress",
        "TerminateInstances",
        "DeleteSecurityGroup",
    ] {
        let before = site.stage.cloud.state()["instances"].as_array().expect("a list").len();
        site.stage.cloud.rules(&json!([{ "operation": operation, "do": "lost" }]));
        let ended = site.bake().must(1);
        assert!(ended.stderr.contains("did not let us in"), "{operation}: {}", ended.stderr);
        assert_eq!(site.nothing_is_left().len(), before + 1, "{operation}");
    }
}

pub fn decoded(base64: &str) -> String {
    let mut python = std::process::Command::new("python3");
    python.args(["-c", "import base64,sys; sys.stdout.buffer.write(base64.b64decode(sys.argv[1]))", base64]);
    String::from_utf8(python.output().expect("python3 runs").stdout).expect("UTF-8")
}
