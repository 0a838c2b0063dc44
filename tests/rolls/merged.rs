//! `rekiln apply`: what a merge touches is rolled, in order, once, and never back by accident.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::stage::{Group, Setup, members};
use crate::change::git;
use crate::publish::stage::{Ended, Stage};

/// Which fleets are rolled after which.
const ORDER: [(&str, &str); 3] =
    [("api", ""), ("web", "after = [\"api\"]\n"), ("edge", "after = [\"web\"]\n")];

/// Three groups that run the old image, in a repository whose last commit asks for the new one.
pub(super) struct Site<'a> {
    pub(super) group: Group<'a>,
    pub(super) old: String,
    pub(super) new: String,
}

impl<'a> Site<'a> {
    pub(super) fn on(stage: &'a Stage) -> Self {
        let group = Group::on(stage, Setup { size: 1, zones: 1, ..Setup::default() });
        let launches = "LaunchTemplate.LaunchTemplateName=web&LaunchTemplate.Version=1";
        let file = stage.repo().join("fleets/web.toml");
        let text = fs::read_to_string(&file).expect("a file");
        for (name, after) in ORDER {
            if name != "web" {
                group.make(name, &format!("MinSize=0&MaxSize=20&DesiredCapacity=1&{launches}"));
            }
            let own = format!("auto_scaling_group = \"{name}\"");
            let text = text.replace("auto_scaling_group = \"web\"", &own);
            fs::write(file.with_file_name(format!("{name}.toml")), format!("{after}{text}"))
                .expect("written");
        }
        group.waits_until(|| {
            ORDER.iter().all(|(name, _)| images(&stage.cloud.state(), name) == [group.old.id.clone()])
        });
        git(&stage.repo(), &["init", "-q", "-b", "main"]);
        page(stage, "an old page");
        let old = commit(stage, "as it was");
        page(stage, "the page that is asked for");
        let new = commit(stage, "another page");
        stage.cloud.forget_calls();
        Self { group, old, new }
    }

    /// The AMIs that the members of the groups run, in the order of [`ORDER`].
    pub(super) fn run(&self) -> Vec<Vec<String>> {
        let state = self.group.stage.cloud.state();
        ORDER.iter().map(|(name, _)| images(&state, name)).collect()
    }

    fn apply(&self, args: &[&str]) -> Ended {
        self.group.run(&[&["apply"], args].concat())
    }
}

pub(super) fn page(stage: &Stage, text: &str) {
    fs::write(stage.repo().join("bootstrap/web/index.html.hbs"), text).expect("written");
}

pub(super) fn commit(stage: &Stage, message: &str) -> String {
    git(&stage.repo(), &["add", "images", "bootstrap", "fleets"]);
    git(&stage.repo(), &["commit", "-q", "-m", message]);
    git(&stage.repo(), &["rev-parse", "HEAD"])
}

pub(super) fn images(state: &Value, name: &str) -> Vec<String> {
    let mut groups = state["groups"].as_array().expect("a list").iter();
    let group = groups.find(|group| group["name"] == name).expect("the group");
    let image = |member: &Value| member["image"].as_str().expect("an AMI").to_owned();
    let mut all: Vec<String> = members(group).iter().map(|member| image(member)).collect();
    all.sort();
    all
}

pub(super) fn rolled(ended: &Ended) -> Vec<String> {
    ended.events("rolled").iter().map(|event| event["fleet"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn a_merge_rolls_what_it_touches_in_order_and_never_back_by_accident() {
    let stage = Stage::new();
    let site = Site::on(&stage);
    let (old, new) = ([site.group.old.id.clone()], [site.group.wanted.id.clone()]);
    let ended = site.apply(&["--from", &site.old]).must(0);
    assert_eq!(rolled(&ended), ["api", "web", "edge"], "{}", ended.stderr);
    let applied = &ended.events("applied")[0];
    assert_eq!(applied["waves"], json!([["api"], ["web"], ["edge"]]));
    assert_eq!((&applied["images"], &applied["commit"]), (&json!(["web"]), &json!(site.new)));
    assert_eq!(site.run(), [&new; 3]);
    // Again, as a job that is run a second time: nothing is done.
    stage.cloud.forget_calls();
    site.apply(&["--from", &site.old]).must(0);
    assert_eq!(stage.cloud.changes(), [""; 0]);
    // A job of an earlier merge that comes late takes nothing back.
    let late = site.apply(&["--to", &site.old]).must(2);
    assert!(
        late.stderr.contains("does not come after it") && late.stderr.contains("--older"),
        "{}",
        late.stderr
    );
    assert_eq!(stage.cloud.changes(), [""; 0]);
    // What touches one fleet rolls that one, and only if it has to.
    let file = stage.repo().join("fleets/edge.toml");
    let text = fs::read_to_string(&file).expect("a file");
    fs::write(&file, text.replace("deadline = \"60s\"", "deadline = \"61s\"")).expect("written");
    // What is in no commit is not applied, and nobody takes it for that.
    let dirty = site.apply(&["--from", &site.old]).must(2);
    assert!(dirty.stderr.contains("changes that are in no commit"), "{}", dirty.stderr);
    let next = commit(&stage, "more patience");
    // What a change would do knows from the journal how large the group is.
    let plan = site.group.run(&["plan", "--from", &site.new]).must(0);
    let fleets = &plan.events("change")[0]["fleets"];
    assert_eq!((&fleets[0]["name"], &fleets[0]["size"]), (&json!("edge"), &json!(1)), "{fleets:#}");
    let ended = site.apply(&["--from", &site.new, "--to", "main"]).must(0);
    assert_eq!(ended.events("applied")[0]["waves"], json!([["edge"]]));
    assert_eq!(stage.cloud.changes(), [""; 0]);
    // A revert is a commit like any other.
    page(&stage, "an old page");
    commit(&stage, "back");
    let ended = site.apply(&["--from", &next]).must(0);
    assert_eq!(rolled(&ended), ["api", "web", "edge"]);
    assert_eq!(site.run(), [&old; 3]);
    // And who says that an older one is meant gets it: all fleets, since nothing says what was before.
    site.apply(&["--to", &site.new, "--older"]).must(0);
    assert_eq!(site.run(), [&new; 3]);
}

#[test]
fn after_a_failure_nothing_is_begun_and_the_same_commit_goes_on() {
    let stage = Stage::new();
    let site = Site::on(&stage);
    let (old, new) = ([site.group.old.id.clone()], [site.group.wanted.id.clone()]);
    site.group.run(&["pause", "web", "--reason", "a talk"]).must(0);
    let held = site.apply(&["--from", &site.old]).must(3);
    assert_eq!(rolled(&held), ["api"]);
    assert!(held.stderr.contains("fleet web is paused: a talk"), "{}", held.stderr);
    assert!(held.stderr.contains("not begun: edge"), "{}", held.stderr);
    assert_eq!(site.run(), [&new, &old, &old]);
    site.group.run(&["resume", "web"]).must(0);
    // Killed in the middle of a roll, and run again.
    stage.cloud.forget_calls();
    let held = |operation| json!({ "operation": operation, "do": "hold_before" });
    stage.cloud.rules(&json!([held("LaunchInstances"), held("SetDesiredCapacity")]));
    let mut running = stage.begin(&["apply", "--from", &site.old]);
    assert!(site.group.comes(&mut running, || {
        stage.cloud.changes().iter().any(|call| call == "LaunchInstances" || call == "SetDesiredCapacity")
    }));
    // Whoever comes second meanwhile is refused, and the first goes on.
    let second = site.apply(&["--from", &site.old]).must(4);
    assert!(second.stderr.contains("has the journal of"), "{}", second.stderr);
    assert_eq!(running.child.try_wait().expect("its state"), None);
    running.child.kill().expect("killed");
    assert_eq!(running.end().code, None);
    stage.cloud.forget_calls();
    let ended = site.apply(&["--from", &site.old]).must(0);
    assert_eq!(rolled(&ended), ["api", "web", "edge"], "{}", ended.stderr);
    assert_eq!(site.run(), [&new; 3]);
    assert_eq!(crate::bake::names(&stage.path("store/tmp")), [""; 0]);
}

#[test]
fn what_is_not_valid_is_refused_before_anything_is_done() {
    let stage = Stage::new();
    let site = Site::on(&stage);
    let edit = |path: &str, from: &str, to: &str| {
        let text = fs::read_to_string(stage.repo().join(path)).expect("a file");
        assert!(text.contains(from), "{path}: {text}");
        fs::write(stage.repo().join(path), text.replacen(from, to, 1)).expect("written");
    };
    for (path, from, to, words) in [
        (
            "images/web.toml",
            "\"nginx-light\"",
            "\"nginx-light\", \"curl\"",
            "images/web.lock does not fit its recipe",
        ),
        ("fleets/edge.toml", "after = [\"web\"]", "after = [\"wep\"]", "did you mean `web`?"),
        (
            "fleets/api.toml",
            "image = ",
            "after = [\"edge\"]\nimage = ",
            "the fleet is rolled after itself: api → edge → web → api",
        ),
    ] {
        edit(path, from, to);
        commit(&stage, "a slip");
        let ended = site.apply(&["--from", &site.new]).must(2);
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
        git(&stage.repo(), &["reset", "-q", "--hard", &site.new]);
    }
    // An image that did not pass is baked, and rolled nowhere.
    stage.change_record(&site.group.wanted.image, |record| {
        record.verdict = Some(crate::publish::stage::verdict(false));
    });
    let ended = site.apply(&["--from", &site.old]).must(1);
    assert!(ended.stderr.contains("no fleet was rolled"), "{}", ended.stderr);
    assert_eq!(stage.cloud.changes(), [""; 0]);
    let old = [site.group.old.id.clone()];
    assert_eq!(site.run(), [&old; 3]);
}

/// Writes a private key as openssl does, of 32 equal bytes.
fn key(stage: &Stage, seed: u8) -> String {
    let path = stage.path(&format!("key-{seed}.pem"));
    let script = "import base64, sys; print(base64.b64encode(bytes.fromhex('302e020100300506032b657004220420') + \
                  bytes([int(sys.argv[1])]) * 32).decode())";
    let made =
        Command::new("python3").args(["-c", script, &seed.to_string()]).output().expect("python3 runs");
    let body = String::from_utf8(made.stdout).expect("UTF-8");
    fs::write(&path, format!("-----BEGIN PRIVATE KEY-----\n{body}-----END PRIVATE KEY-----\n"))
        .expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

/// Checks an envelope as another program would: DSSE over in-toto's statement, by the public key in DER.
const CHECK: &str = "
import base64, json, sys
from cryptography.hazmat.primitives.serialization import load_der_public_key
envelope = json.load(open(sys.argv[1]))
payload = base64.b64decode(envelope['payload'])
kind = envelope['payloadType'].encode()
message = b'DSSEv1 %d %b %d %b' % (len(kind), kind, len(payload), payload)
key = load_der_public_key(base64.b64decode(sys.argv[2]))
for signature in envelope['signatures']:
    key.verify(base64.b64decode(signature['sig']), message)
statement = json.loads(payload)
assert statement['_type'] == 'https://in-toto.io/Statement/v1', statement
assert statement['predicateType'] == 'https://slsa.dev/provenance/v1', statement
print(json.dumps(statement['subject']))
";

#[test]
fn only_what_a_trusted_key_signed_is_rolled() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup { size: 1, zones: 1, ..Setup::default() });
    let image = group.wanted.image.short();
    let (ours, theirs) = (key(&stage, 1), key(&stage, 2));
    let url = "https://git.example.com/images";
    let sign = |key: &str, url: &str| stage.run(&["sign", &image, "--key", key, "--repository", url]);
    let public = |ended: &Ended| ended.events("signed")[0]["key"].as_str().expect("a key").to_owned();
    let trusted = public(&sign(&ours, url).must(0));
    let envelope = stage.store().image(group.wanted.image.id).join("provenance.dsse.json");
    fs::remove_file(&envelope).expect("removed");
    let file = stage.repo().join("fleets/web.toml");
    let text = fs::read_to_string(&file).expect("a file");
    let with = format!("{text}\n[trust]\nkeys = [\"{trusted}\"]\nrepository = \"{url}\"\n");
    fs::write(&file, with).expect("written");
    let refused = |words: &str| {
        let ended = stage.run(&["roll", "web"]).must(2);
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    };
    stage.cloud.forget_calls();
    refused("nobody has signed its provenance");
    sign(&theirs, url).must(0);
    refused("signed by no key that `trust.keys` names");
    sign(&ours, "https://git.example.com/others").must(0);
    refused("it was made from https://git.example.com/others");
    // By the start of a key that only looks right, nothing is checked.
    fs::write(&file, format!("{text}\n[trust]\nkeys = [\"MCowBQYDK2VwAyEA\"]\n")).expect("written");
    refused("is no public Ed25519 key");
    fs::write(&file, format!("{text}\n[trust]\nkeys = [\"{trusted}\"]\nrepository = \"{url}\"\n"))
        .expect("written");
    assert_eq!(stage.cloud.changes(), [""; 0]);

    sign(&ours, url).must(0);
    let mut python = Command::new("python3");
    python.args(["-c", CHECK]).arg(&envelope).arg(&trusted).env("PYTHONPATH", crate::publish::tools::dir());
    let checked = python.output().expect("python3 runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let subject: Value = serde_json::from_slice(&checked.stdout).expect("JSON");
    assert_eq!(subject[0]["digest"]["sha256"], group.wanted.image.sha256.to_string());
    let rolled = stage.run(&["roll", "web"]).must(0);
    assert_eq!(rolled.events("rolled").len(), 1);
    // A record that was changed since is another one, whatever was changed.
    stage.change_record(&group.wanted.image, |record| record.clean = !record.clean);
    refused("its record was changed after it was signed");
    // Nobody vouches for what did not pass, nor with another kind of key; what the file holds is not shown.
    stage.change_record(&group.wanted.image, |record| {
        record.verdict = Some(crate::publish::stage::verdict(false));
    });
    assert!(sign(&ours, url).must(2).stderr.contains("it has no passing verdict"));
    fs::write(&ours, "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n").expect("written");
    let ended = sign(&ours, url).must(2);
    assert!(ended.stderr.contains("is not in PEM") && !ended.stderr.contains("c2VjcmV0"), "{}", ended.stderr);
}
