//! Decide: whether anyone could log in to a fleet's instances, or did.
//!
//! # How it can fail, and what is done about it
//!
//! * *Something cannot be looked at.* It is a finding of its own: nobody is told that all is well by someone who did not
//!   look.
//! * *An instance is launched while it is looked at.* What new ones are launched from is judged like an instance.
//! * *A way in is closed by something that is not looked at*, such as a network's own filters or a program that is not in
//!   the image. It is a finding all the same: one change there, and the way is open.

mod policy;
mod sarif;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use policy::policy;
pub use sarif::sarif;

use crate::digest::ImageId;
use crate::inspect::Severity;

/// One thing that the audit looks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, as reports have it.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it means.
    pub reason: &'static str,
    /// What to do.
    pub help: &'static str,
}

macro_rules! rules {
    ($($constant:ident $name:literal $severity:ident $reason:literal $help:literal)*) => {
        $(
            #[doc = $reason]
            pub const $constant: Rule =
                Rule { name: $name, severity: Severity::$severity, reason: $reason, help: $help };
        )*
        /// Every rule, in the order of reports.
        pub const RULES: &[&Rule] = &[$(&$constant),*];
    };
}

rules! {
    TOUCHED "touched" Critical
        "someone was on the instance: it is not what its image says any more"
        "replace it: `rekiln rotate FLEET --touched --reason TEXT`"
    SESSION "session" Critical
        "someone had a session on the instance through Systems Manager"
        "replace it, and take the permission to start sessions away"
    MANAGED "managed" Critical
        "Systems Manager runs commands and shells on the instance"
        "publish an image without its agent; see also the account's default host management role"
    REMOTE_ACCESS "remote-access" Critical
        "the instance profile lets an agent give a shell, or the instance reach others' shells"
        "take the permission away from the role"
    FOREIGN_IMAGE "foreign-image" Critical
        "it was not launched from an image that rekiln published and this store knows"
        "publish an image of Git, and launch from that"
    WEAK_IMAGE "weak-image" Critical
        "its image has a way in"
        "bake an image without it, and roll the fleet"
    OPEN_PORT "open-port" High
        "a port for logging in can be reached"
        "remove the rule from the security group: nothing in the image listens there"
    KEY_PAIR "key-pair" High
        "a key for logging in is given to the instance"
        "launch without a key pair: a new version of the launch template"
    SERIAL_CONSOLE "serial-console" High
        "the account lets people open serial consoles of its instances"
        "`aws ec2 disable-serial-console-access`"
    METADATA_V1 "metadata-v1" High
        "whoever makes the instance send a request gets its role's credentials"
        "require tokens: `HttpTokens = required` in the launch template"
    PUBLIC_ADDRESS "public-address" Medium
        "the instance can be reached from outside at its own address, past the load balancer"
        "launch in private subnets, without public addresses"
    UNSEEN "unseen" High
        "this could not be looked at, so nobody knows whether someone can log in"
        "allow these credentials to look; `rekiln aws policy --audit` prints how"
}

/// The ports for logging in, and what they are for.
pub const PORTS: [(u16, &str); 2] = [(22, "SSH"), (3389, "RDP")];

/// What a profile must not allow: what Systems Manager's agent needs to give a shell, and what whoever has the
/// instance's credentials needs to get on others (Systems Manager user guide, "Reference: ec2messages, ssmmessages, and
/// other API operations"; EC2 user guide, "Grant IAM permissions for EC2 Instance Connect").
pub const PERMISSIONS: [&str; 9] = [
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ec2messages:GetMessages",
    "ssm:StartSession",
    "ssm:SendCommand",
    "ec2-instance-connect:SendSSHPublicKey",
    "ec2-instance-connect:SendSerialConsoleSSHPublicKey",
    "ec2-instance-connect:OpenTunnel",
];

/// Rules of the strict profile whose exceptions let someone in.
const WAYS_IN: [&str; 7] =
    ["ssh-server", "getty", "password", "authorized-keys", "cloud-agent", "uid0", "login-shell"];

/// What was seen of one fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its instances, whatever state they are in.
    pub instances: Vec<Member>,
    /// What new ones are launched from.
    pub sources: Vec<Source>,
    /// What security groups let in, by id.
    pub security_groups: BTreeMap<String, Vec<Ingress>>,
    /// Which of [`PERMISSIONS`] an instance profile allows, by its ARN.
    pub profiles: BTreeMap<String, Vec<String>>,
    /// Whether serial consoles can be opened; nothing where there are none.
    pub serial_consoles: bool,
    /// Images that are known, by id.
    pub images: BTreeMap<ImageId, Known>,
    /// What could not be looked at, and why.
    pub unseen: Vec<(String, String)>,
}

/// One instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub id: String,
    /// What it was launched from.
    pub origin: Origin,
    /// How one could get in.
    pub doors: Doors,
    /// Whether Systems Manager runs commands on it.
    pub managed: bool,
    /// Who had sessions on it, and when.
    pub sessions: BTreeSet<String>,
    /// Why it counts as touched.
    pub touched: Option<String>,
}

/// What new instances are launched from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// What it is called, such as `launch template web version 7`.
    pub name: String,
    /// The images that it names.
    pub origins: Vec<Origin>,
    /// How one could get into what is launched from it.
    pub doors: Doors,
}

/// What an instance was launched from, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// What the provider calls it, such as an AMI's id.
    pub name: String,
    /// The image that it is, as far as rekiln published it.
    pub image: Option<ImageId>,
}

/// How one could get in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doors {
    /// The key pair's name.
    pub key_pair: Option<String>,
    /// Ids of security groups.
    pub security_groups: BTreeSet<String>,
    /// The instance profile's ARN.
    pub profile: Option<String>,
    /// Whether metadata is given without a token.
    pub metadata_v1: bool,
    /// The public address, or words for the one that it will get.
    pub public_address: Option<String>,
}

/// What a security group lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingress {
    /// The first port and the last one.
    pub ports: (u16, u16),
    /// From where: addresses, security groups, prefix lists.
    pub sources: BTreeSet<String>,
}

/// What the catalog knows of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Whether it has a root shell on its console.
    pub debug: bool,
    /// Exceptions from the strict profile: rule, path and reason.
    pub exceptions: Vec<(String, String)>,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule's name.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found, such as `key pair ops`.
    pub what: String,
    /// On which instances or sources, in the order that they were seen; empty when it is about the whole account.
    pub on: Vec<String>,
}

/// Judges what was seen: most severe rules first, the same thing on many instances once.
#[must_use]
pub fn audit(seen: &Seen) -> Vec<Finding> {
    let mut found = Findings::default();
    for member in &seen.instances {
        let id = &member.id;
        found.doors(seen, id, &member.doors);
        found.origin(seen, id, &member.origin);
        if let Some(why) = &member.touched {
            found.add(&TOUCHED, why.clone(), id);
        }
        if member.managed {
            found.add(&MANAGED, "Systems Manager's agent answers".to_owned(), id);
        }
        for session in &member.sessions {
            found.add(&SESSION, session.clone(), id);
        }
    }
    for source in &seen.sources {
        found.doors(seen, &source.name, &source.doors);
        for origin in &source.origins {
            found.origin(seen, &source.name, origin);
        }
    }
    if seen.serial_consoles && !seen.instances.is_empty() {
        found.whole(&SERIAL_CONSOLE, "serial consoles can be opened in this region".to_owned());
    }
    for (what, why) in &seen.unseen {
        found.whole(&UNSEEN, format!("{what}: {why}"));
    }
    found.sorted()
}

/// What was found, by rule and text.
#[derive(Debug, Default)]
struct Findings(BTreeMap<(usize, String), Vec<String>>);

impl Findings {
    fn add(&mut self, rule: &Rule, what: String, on: &str) {
        let on = on.to_owned();
        let places = self.place(rule, what);
        if !places.contains(&on) {
            places.push(on);
        }
    }

    fn whole(&mut self, rule: &Rule, what: String) {
        self.place(rule, what);
    }

    fn place(&mut self, rule: &Rule, what: String) -> &mut Vec<String> {
        let number = RULES.iter().position(|other| other.name == rule.name).unwrap_or(RULES.len());
        self.0.entry((number, what)).or_default()
    }

    fn doors(&mut self, seen: &Seen, on: &str, doors: &Doors) {
        if let Some(key) = &doors.key_pair {
            self.add(&KEY_PAIR, format!("key pair {key}"), on);
        }
        for group in &doors.security_groups {
            for (port, what) in PORTS {
                let ingress = seen.security_groups.get(group).into_iter().flatten();
                let open = ingress.filter(|rule| (rule.ports.0..=rule.ports.1).contains(&port));
                let sources: BTreeSet<&str> =
                    open.flat_map(|rule| rule.sources.iter().map(String::as_str)).collect();
                if !sources.is_empty() {
                    let sources = sources.into_iter().collect::<Vec<_>>().join(", ");
                    self.add(&OPEN_PORT, format!("{group} opens port {port} ({what}) to {sources}"), on);
                }
            }
        }
        if let Some(profile) = &doors.profile
            && let Some(allowed) = seen.profiles.get(profile).filter(|allowed| !allowed.is_empty())
        {
            self.add(&REMOTE_ACCESS, format!("{profile} allows {}", allowed.join(", ")), on);
        }
        if doors.metadata_v1 {
            self.add(&METADATA_V1, "metadata is given without a token".to_owned(), on);
        }
        if let Some(address) = &doors.public_address {
            self.add(&PUBLIC_ADDRESS, address.clone(), on);
        }
    }

    fn origin(&mut self, seen: &Seen, on: &str, origin: &Origin) {
        let Some(image) = origin.image else {
            return self.add(&FOREIGN_IMAGE, format!("{} is no image of rekiln", origin.name), on);
        };
        let short = image.short();
        let Some(known) = seen.images.get(&image) else {
            let what = format!("{} says it is image {short}, which this store does not have", origin.name);
            return self.add(&FOREIGN_IMAGE, what, on);
        };
        if known.debug {
            self.add(&WEAK_IMAGE, format!("image {short} is a debug variant, with a root shell"), on);
        }
        for (rule, why) in &known.exceptions {
            if WAYS_IN.contains(&rule.as_str()) {
                self.add(&WEAK_IMAGE, format!("image {short} is excepted from {rule}: {why}"), on);
            }
        }
    }

    fn sorted(self) -> Vec<Finding> {
        let finding = |((number, what), on): ((usize, String), Vec<String>)| {
            let rule = RULES.get(number)?;
            Some(Finding { rule: rule.name, severity: rule.severity, what, on })
        };
        let mut found: Vec<Finding> = self.0.into_iter().filter_map(finding).collect();
        found.sort_by_key(|finding| finding.severity);
        found
    }
}
