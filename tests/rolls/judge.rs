//! The judge: goes through what the endpoint wrote down of all that happened, and through what there is in the end.
//!
//! It believes nothing that rekiln says. Whose act an entry is, the name of the call tells: what rekiln calls nobody else
//! calls on these stages, and the other way round.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::stage::{Group, NAME, members};

/// Calls that rekiln makes and the tests do not, once a group is made.
const OURS: [&str; 6] = [
    "LaunchInstances",
    "TerminateInstanceInAutoScalingGroup",
    "DeregisterTargets",
    "RegisterTargets",
    "SuspendProcesses",
    "ResumeProcesses",
];
/// What changes bounds and versions; both say how large a group is to be only if somebody lets them.
const UPDATE: &str = "UpdateAutoScalingGroup";
/// Calls that no roll makes: they say how large the group is to be, go past it, or cannot be undone.
const NEVER: [&str; 10] = [
    "SetDesiredCapacity",
    "TerminateInstances",
    "AttachInstances",
    "DetachInstances",
    "EnterStandby",
    "ExitStandby",
    "StartInstanceRefresh",
    "DeleteAutoScalingGroup",
    "DeleteLaunchTemplateVersions",
    "ModifyLaunchTemplate",
];
/// How many entries before a bad one are shown with it.
const CONTEXT: usize = 8;

/// What the owner of a group wants: its size without what rekiln added, and between what it was so far.
struct Size {
    now: i64,
    least: i64,
    most: i64,
}

impl Size {
    fn change(&mut self, by: i64) {
        self.now += by;
        self.least = self.least.min(self.now);
        self.most = self.most.max(self.now);
    }
}

/// Where requests may be under way: whether those to an instance in a target group would be cut off. One that was
/// healthy and drains has some until it is gone.
#[derive(Default)]
struct Requests(BTreeMap<(String, String), bool>);

impl Requests {
    fn see(&mut self, event: &str, instance: &str, target_group: &str, state: &str) {
        let key = (instance.to_owned(), target_group.to_owned());
        match (event, state) {
            ("target", "draining") => {}
            ("target", "unused") => {
                self.0.remove(&key);
            }
            ("target", _) => {
                self.0.insert(key, state == "healthy");
            }
            // Nobody can answer any more, whatever is under way.
            ("instance", "shutting-down" | "stopping") => self.0.retain(|(of, _), _| of != instance),
            _ => {}
        }
    }

    /// The target groups with requests to an instance.
    fn of(&self, instance: &str) -> Vec<&str> {
        let under_way = self.0.iter().filter(|((of, _), busy)| of == instance && **busy);
        under_way.map(|((_, target_group), _)| target_group.as_str()).collect()
    }
}

impl Group<'_> {
    /// Fails if an act of rekiln broke a rule: the floor, the ceiling, the drain, whose the size is. Returns the size that
    /// the owner wants by now.
    pub fn watch(&self) -> u64 {
        let entries = self.stage.cloud.log(0);
        let whole = |number: u64| i64::try_from(number).expect("a small number");
        let first = whole(self.setup.size);
        let mut size = Size { now: first, least: first, most: first };
        let mut requests = Requests::default();
        let mut broken = Vec::new();
        for (number, entry) in entries.iter().enumerate() {
            let text = |name: &str| entry[name].as_str().unwrap_or_default();
            let count = |name: &str| entry[name].as_i64().unwrap_or_default();
            let (event, by, instance, state) = (text("event"), text("by"), text("instance"), text("state"));
            if number >= self.from && entry["group"] == NAME {
                let wrong = match event {
                    "healthy" if entry["healthy"] == false && OURS.contains(&by) => {
                        let floor = size.least - whole(self.setup.unavailable);
                        let serve = count("healthy_targets");
                        (serve < floor).then(|| format!("floor: {serve} serve, and {floor} must"))
                    }
                    "member" if by == "LaunchInstances" && state == "Pending" => {
                        let ceiling = size.most + whole(self.setup.surge);
                        let exist = count("members");
                        (exist > ceiling).then(|| format!("ceiling: {exist} exist, and {ceiling} may"))
                    }
                    "member" if by == "TerminateInstanceInAutoScalingGroup" && state == "Terminating" => {
                        let cut = requests.of(instance);
                        (!cut.is_empty()).then(|| format!("drain: {instance} still has requests of {cut:?}"))
                    }
                    "desired" if by == UPDATE => {
                        Some("size: an update says how many there are to be".to_owned())
                    }
                    "desired" if !OURS.contains(&by) => {
                        size.change(count("desired") - count("before"));
                        None
                    }
                    _ => None,
                };
                broken.extend(wrong.map(|wrong| format!("{wrong}\n{}", shown(&entries, number))));
            }
            requests.see(event, instance, text("target_group"), state);
        }
        let calls = self.stage.cloud.changes();
        let never = calls.iter().filter(|call| NEVER.contains(&call.as_str()));
        broken.extend(never.map(|call| format!("call: no roll calls {call}")));
        assert!(broken.is_empty(), "{} rules were broken:\n{}", broken.len(), broken.join("\n\n"));
        u64::try_from(size.now).expect("no group has less than none")
    }

    /// Fails if a rule was broken on the way, or if the group is not as its owner had it, whole, and with nothing but what
    /// is launched from an AMI. What stands by is its owner's affair.
    pub fn judge(&self, ami: &str) {
        let size = self.watch();
        let now = self.settled();
        for what in ["min", "max", "suspended", "hooks", "tags"] {
            assert_eq!(now[what], self.before[what], "`{what}` is not as it was: {now:#}");
        }
        assert_eq!(now["desired"], json!(size), "the size is the owner's: {now:#}");
        let other: Vec<_> = members(&now)
            .into_iter()
            .filter(|member| member["state"] != "Standby" && member["image"] != ami)
            .collect();
        assert_eq!(other, Vec::<&Value>::new(), "members that are not of {ami}");
        let state = self.stage.cloud.state();
        assert_eq!(launched(&state, &now), ami, "what the group launches by itself: {:#}", now["template"]);
        let mut names = BTreeSet::new();
        for one in state["instances"].as_array().expect("a list") {
            if let Some(name) = one["tags"]["rekiln:name"].as_str() {
                assert!(
                    names.insert(name.to_owned()),
                    "two instances are called {name}: {:#}",
                    state["instances"]
                );
            }
        }
        assert_eq!(self.leases(), Vec::<std::path::PathBuf>::new(), "all leases are given back");
    }
}

/// The AMI that a group launches by itself, from a version that it names by its number.
fn launched(state: &Value, group: &Value) -> String {
    let template = &group["template"];
    let mut templates = state["templates"].as_array().expect("a list").iter();
    let found = templates.find(|one| one["id"] == template["LaunchTemplateId"]).expect("its template");
    let number = template["Version"].as_str().and_then(|text| text.parse::<u64>().ok());
    let number = number.unwrap_or_else(|| panic!("the group's version is no number: {template}"));
    let mut versions = found["versions"].as_array().expect("a list").iter();
    let version = versions.find(|one| one["number"] == number);
    let version = version.unwrap_or_else(|| panic!("there is no version {number}: {found}"));
    version["image"].as_str().expect("an AMI").to_owned()
}

/// An entry and those before it.
fn shown(entries: &[Value], number: usize) -> String {
    let first = number.saturating_sub(CONTEXT);
    let lines = entries[first..=number].iter().enumerate();
    lines.map(|(at, entry)| format!("  {}: {entry}", first + at)).collect::<Vec<_>>().join("\n")
}
