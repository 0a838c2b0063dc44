//! Decide: which Auto Scaling groups cannot be rolled, and why. `docs/aws.md` has the same as a table.

use super::seen::{Features, Group};
use crate::error::Error;

/// Processes without which nothing can be replaced safely, each with why.
const NEEDED: [(&str, &str); 3] = [
    ("Launch", "nothing can be launched"),
    ("Terminate", "nothing can be ended, and the group may grow beyond its size"),
    ("AddToLoadBalancer", "what is launched meanwhile is never given requests"),
];

/// Returns why a group cannot be rolled; `None` when it can.
#[must_use]
pub fn refusal(name: &str, group: &Group) -> Option<Error> {
    let Features {
        launch_configuration,
        mixed_instances,
        warm_pool,
        classic_balancers,
        other_sources,
        deleting,
    } = &group.features;
    let refused = |why: String, hint: &str| {
        Some(Error::invalid(format!("Auto Scaling group {name} cannot be rolled: {why}")).hint(hint))
    };
    if let Some(status) = deleting {
        return refused(format!("it is being deleted ({status})"), "remove the fleet's file");
    }
    if let Some(configuration) = launch_configuration {
        return refused(
            format!("it launches from launch configuration {configuration}, which has no versions to pin"),
            "give it a launch template (EC2 user guide, \"Migrate your Auto Scaling groups to launch templates\")",
        );
    }
    if *mixed_instances {
        return refused(
            "it has a mixed instances policy: its size may be in weights, and which type is launched is not rekiln's to say"
                .to_owned(),
            "give it one launch template with one instance type, or roll it with an instance refresh",
        );
    }
    if *warm_pool {
        return refused(
            "it has a warm pool: what waits there is of the old image and would come back in the middle of a roll"
                .to_owned(),
            "delete the warm pool (`aws autoscaling delete-warm-pool`) before a roll, and make it anew after it",
        );
    }
    if let Some(name) = classic_balancers.first() {
        return refused(
            format!(
                "classic load balancer {name} is attached, which tells nobody when an instance is drained"
            ),
            "move it to an application or network load balancer",
        );
    }
    if let Some(name) = other_sources.first() {
        return refused(
            format!("traffic source {name} is attached, and it is no target group"),
            "rekiln knows target groups of Elastic Load Balancing only",
        );
    }
    if let Some((process, why)) = NEEDED.iter().find(|(process, _)| group.suspended.contains(*process)) {
        return refused(
            format!("its process {process} is suspended: {why}"),
            "`aws autoscaling resume-processes` lets it go on; AWS suspends it by itself after a day of failed launches",
        );
    }
    if group.template.is_none() {
        return refused("it names no launch template".to_owned(), "give it one");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::aws::reach::Template;

    /// What makes a group one that cannot be rolled.
    type Change = fn(&mut Group);

    #[test]
    fn what_cannot_be_rolled_is_refused_with_its_reason() {
        let good = Group {
            template: Some((Template::Id("lt-1".to_owned()), "1".to_owned())),
            suspended: ["AZRebalance".to_owned(), "AlarmNotification".to_owned()].into(),
            ..Group::default()
        };
        assert!(refusal("web", &good).is_none());
        let cases: [(&str, Change); 9] = [
            ("being deleted", |group| group.features.deleting = Some("Delete in progress".to_owned())),
            ("launch configuration old", |group| {
                group.features.launch_configuration = Some("old".to_owned());
            }),
            ("mixed instances policy", |group| group.features.mixed_instances = true),
            ("warm pool", |group| group.features.warm_pool = true),
            ("classic load balancer", |group| group.features.classic_balancers = vec!["elb".to_owned()]),
            ("traffic source", |group| group.features.other_sources = vec!["lattice".to_owned()]),
            ("process Launch", |group| group.suspended.extend(["Launch".to_owned()])),
            ("process AddToLoadBalancer", |group| group.suspended.extend(["AddToLoadBalancer".to_owned()])),
            ("no launch template", |group| group.template = None),
        ];
        for (words, change) in cases {
            let mut group = good.clone();
            change(&mut group);
            let error = refusal("web", &group).expect(words);
            assert!(error.chain().contains(words), "{words}: {}", error.chain());
            assert_eq!(error.exit_code(), 2);
        }
    }
}
