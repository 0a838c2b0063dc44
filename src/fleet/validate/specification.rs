//! What a group is made from, as far as the file itself tells.

use std::collections::BTreeSet;

use super::Findings;
use crate::fleet::AutoScaling;
use crate::fleet::specification::{GIVEN, Specification};
use crate::notation;
use crate::notation::aws::Arn;

/// The lengths of a launch template's name (EC2 API reference, `CreateLaunchTemplate`); it is called as its group is.
const TEMPLATE_NAME: std::ops::RangeInclusive<usize> = 3..=128;
/// The longest key and value of a tag (EC2 Auto Scaling API reference, `Tag`).
const TAG: (usize, usize) = (128, 256);
/// The longest name of an instance profile (IAM API reference, `CreateInstanceProfile`).
const PROFILE: usize = 128;
/// Beginnings of tags that are AWS's and ours.
const TAKEN: [&str; 2] = ["aws:", "rekiln:"];

/// Checks what `[aws.group]` says.
pub fn check(found: &mut Findings<'_>, aws: &AutoScaling, group: &Specification) {
    sizes(found, group);
    ids(found, "subnets", "subnet-", "subnet", &group.subnets);
    ids(found, "security_groups", "sg-", "security group", &group.security_groups);
    found.ask("/aws/group/instance_type", instance_type(&group.instance_type));
    if let Some(name) = &group.instance_profile {
        found.ask("/aws/group/instance_profile", profile(name));
    }
    for (index, arn) in group.target_groups.iter().enumerate() {
        found.ask(&format!("/aws/group/target_groups/{index}"), target_group(arn, &aws.region));
    }
    if let Some(grace) = &group.health_check_grace {
        found.ask("/aws/group/health_check_grace", notation::duration(grace));
    }
    for (key, value) in &group.tags {
        // Keys may have what a pointer has a meaning for.
        let pointer = format!("/aws/group/tags/{}", key.replace('~', "~0").replace('/', "~1"));
        found.ask(&pointer, tag(key, value));
    }
    for name in group.vars.keys().filter(|name| GIVEN.contains(&name.as_str())) {
        found
            .say(&format!("/aws/group/vars/{name}"), format!("`{name}` is set by rekiln: call it otherwise"));
    }
    if group.user_data.is_none() && !group.vars.is_empty() {
        found.say("/aws/group/vars", "nothing uses these: there is no `user_data`");
    }
    let name = &aws.auto_scaling_group;
    // EC2 API reference, `CreateLaunchTemplate`.
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"()./_-".contains(&byte);
    if !TEMPLATE_NAME.contains(&name.len()) || !name.bytes().all(allowed) {
        let message = format!(
            "`{name}` is no name of a launch template, which is called as its group: {} to {} letters, digits and `()./_-`",
            TEMPLATE_NAME.start(),
            TEMPLATE_NAME.end()
        );
        found.say("/aws/auto_scaling_group", message);
    }
}

fn sizes(found: &mut Findings<'_>, group: &Specification) {
    let Specification { min, max, desired, .. } = group;
    found.at_least_one("/aws/group/max", *max, "instances at most");
    if min > max {
        found.say(
            "/aws/group/min",
            format!("at least {min} and at most {max} instances: `min` is above `max`"),
        );
    } else if let Some(desired) = desired.filter(|desired| !(min..=max).contains(&desired)) {
        found.say(
            "/aws/group/desired",
            format!("{desired} instances are not between `min` {min} and `max` {max}"),
        );
    }
}

/// Checks a list of ids, which begin all alike.
fn ids(found: &mut Findings<'_>, key: &str, prefix: &str, what: &str, ids: &[String]) {
    let pointer = format!("/aws/group/{key}");
    if ids.is_empty() {
        found.say(&pointer, format!("a group needs a {what}: name one at least"));
    }
    let mut seen = BTreeSet::new();
    for (index, id) in ids.iter().enumerate() {
        let pointer = format!("{pointer}/{index}");
        let digits = id.strip_prefix(prefix).unwrap_or_default();
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.is_empty() || !digits.bytes().all(hex) {
            found.say(
                &pointer,
                format!("`{id}` is not the id of a {what} such as \"{prefix}0123456789abcdef0\""),
            );
        } else if !seen.insert(id) {
            found.say(&pointer, format!("{id} is named twice"));
        }
    }
}

fn instance_type(text: &str) -> Result<(), String> {
    let good = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !part.is_empty() && part.bytes().all(allowed)
    };
    match text.split_once('.') {
        Some((family, size)) if good(family) && good(size) => Ok(()),
        _ => Err(format!("`{text}` is not an instance type such as \"t3.micro\": a group has one")),
    }
}

fn profile(name: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    if (1..=PROFILE).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    let message = format!("`{name}` is not the name of an instance profile");
    // People copy the ARN, whose last part it is.
    match Arn::read(name).and_then(|arn| arn.resource.rsplit_once('/')) {
        Some((_, meant)) => Err(format!("{message}: did you mean `{meant}`?")),
        None => Err(message),
    }
}

fn target_group(text: &str, region: &str) -> Result<(), String> {
    let arn = Arn::read(text);
    let arn =
        arn.filter(|arn| arn.service == "elasticloadbalancing" && arn.resource.starts_with("targetgroup/"));
    match arn {
        None => Err(format!(
            "`{text}` is not the ARN of a target group such as \
             \"arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/web/0123456789abcdef\""
        )),
        Some(arn) if arn.region != region => {
            Err(format!("this target group is in {}, and the group in {region}", arn.region))
        }
        Some(_) => Ok(()),
    }
}

fn tag(key: &str, value: &str) -> Result<(), String> {
    if let Some(taken) = TAKEN.iter().find(|taken| key.to_ascii_lowercase().starts_with(**taken)) {
        return Err(format!("tags that begin with `{taken}` are not yours to set"));
    }
    let (longest_key, longest_value) = TAG;
    if key.is_empty() || key.chars().count() > longest_key || value.chars().count() > longest_value {
        return Err(format!(
            "a tag has a key of 1 to {longest_key} characters and a value of up to {longest_value}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::fleet::Fleet;
    use crate::fleet::validate::validate;
    use crate::recipe::document::Document;

    const GOOD: &str = "image = 'web'\n[health]\n[aws]\nregion = 'eu-west-1'\nauto_scaling_group = 'web'\n[aws.group]\n\
        min = 2\nmax = 10\ndesired = 4\nsubnets = ['subnet-0a', 'subnet-0b']\nsecurity_groups = ['sg-01']\n\
        instance_type = 't3.micro'\ninstance_profile = 'web'\nuser_data = 'web/user-data.hbs'\n\
        target_groups = ['arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/web/01']\n\
        health_check_grace = '60s'\ntags = { team = 'edge', 'a/b' = 'c' }\nvars = { greeting = 'hello' }\n";

    #[test]
    fn specifications() {
        for (from, to, expected) in [
            ("", "", None),
            ("desired = 4\n", "", None),
            ("min = 2", "min = 11", Some("7:7 at least 11 and at most 10 instances: `min` is above `max`")),
            (
                "min = 2\nmax = 10\ndesired = 4",
                "min = 0\nmax = 0",
                Some("8:7 0 instances at most is nonsense: at least 1"),
            ),
            ("desired = 4", "desired = 1", Some("9:11 1 instances are not between `min` 2 and `max` 10")),
            ("['subnet-0a', 'subnet-0b']", "[]", Some("10:11 a group needs a subnet: name one at least")),
            ("'subnet-0b'", "'subnet-0a'", Some("10:25 subnet-0a is named twice")),
            (
                "'subnet-0b'",
                "'vpc-0b'",
                Some("10:25 `vpc-0b` is not the id of a subnet such as \"subnet-0123456789abcdef0\""),
            ),
            ("['sg-01']", "[]", Some("11:19 a group needs a security group: name one at least")),
            (
                "'sg-01'",
                "'web'",
                Some("11:20 `web` is not the id of a security group such as \"sg-0123456789abcdef0\""),
            ),
            (
                "t3.micro",
                "t3.micro, t3.large",
                Some(
                    "12:17 `t3.micro, t3.large` is not an instance type such as \"t3.micro\": a group has one",
                ),
            ),
            (
                "instance_profile = 'web'",
                "instance_profile = 'arn:aws:iam::111122223333:instance-profile/a/web'",
                Some(
                    "13:20 `arn:aws:iam::111122223333:instance-profile/a/web` is not the name of an instance profile (did you mean `web`?)",
                ),
            ),
            (
                "eu-west-1:1",
                "eu-west-2:1",
                Some("15:18 this target group is in eu-west-2, and the group in eu-west-1"),
            ),
            (
                "arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/web/01",
                "web",
                Some(
                    "15:18 `web` is not the ARN of a target group such as \"arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/web/0123456789abcdef\"",
                ),
            ),
            ("'60s'", "'soon'", Some("16:22 `soon` is not a duration such as \"60s\", \"5m\" or \"2h\"")),
            ("'a/b'", "'aws:b'", Some("17:35 tags that begin with `aws:` are not yours to set")),
            ("'a/b'", "'Rekiln:fleet'", Some("17:42 tags that begin with `rekiln:` are not yours to set")),
            ("greeting =", "region =", Some("18:19 `region` is set by rekiln: call it otherwise")),
            (
                "user_data = 'web/user-data.hbs'\n",
                "",
                Some("17:8 nothing uses these: there is no `user_data`"),
            ),
            (
                "auto_scaling_group = 'web'",
                "auto_scaling_group = 'our web'",
                Some(
                    "5:22 `our web` is no name of a launch template, which is called as its group: 3 to 128 letters, digits and `()./_-`",
                ),
            ),
        ] {
            let text = GOOD.replacen(from, to, 1);
            let document = Document::<Fleet>::read(Path::new("x.toml"), &text);
            assert!(document.is_whole(), "{:?}", document.found);
            let found = validate(&document, &["web".to_owned()].into());
            let shown = |found: &crate::diagnostic::Diagnostic| {
                let help = found.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
                format!("{}:{} {}{help}", found.line, found.column, found.message)
            };
            let found: Vec<String> = found.iter().map(shown).collect();
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{to}");
        }
    }

    #[test]
    fn what_would_weaken_it_is_no_key() {
        for key in [
            "key_pair = 'ops'",
            "metadata = 'optional'",
            "public_address = true",
            "instance_types = ['t3.micro']",
        ] {
            let text = GOOD.replace("min = 2\n", &format!("min = 2\n{key}\n"));
            let document = Document::<Fleet>::read(Path::new("x.toml"), &text);
            assert_eq!(document.found.len(), 1, "{key}: {:?}", document.found);
            assert!(document.found[0].message.starts_with("unknown key"), "{:?}", document.found);
            assert_eq!(document.found[0].line, 8, "{key}");
        }
    }
}
