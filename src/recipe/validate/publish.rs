//! What `[publish]` of a recipe may say: the bounds are those of AWS.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Checks;
use crate::diagnostic::Diagnostic;
use crate::notation;
use crate::notation::aws::{Arn, is_account, is_region, no_account, no_region, role};
use crate::recipe::publish::Publish;
use crate::recipe::shape::escape;

/// AWS allows 50 tags, of which rekiln sets its own.
const MOST_TAGS: usize = 40;

/// AWS's bounds of a tag's key and value, in characters.
const LONGEST_TAG: (usize, usize) = (128, 256);

/// AWS deprecates up to ten years ahead; leap days are left to it.
const LATEST_DEPRECATION: Duration = Duration::from_hours(3650 * 24);

/// AWS's bounds of a parameter's name: characters (the ARN's are counted too, so not its 2048) and levels.
const LONGEST_PARAMETER: (usize, usize) = (1011, 15);

/// AWS's bound of `UefiData` of `RegisterImage`, in characters of base64 (EC2 API reference).
const MOST_UEFI_DATA: usize = 64_000;

/// Checks `[publish]`.
pub(super) fn check(found: &mut Checks<'_>, publish: &Publish) {
    // In a document of which parts are wrong, the regions may be among them.
    if publish.regions.is_empty() && *publish != Publish::default() && found.document.is_whole() {
        let finding = found.document.at("/publish", "nothing is published without `regions`");
        found
            .found
            .push(finding.help("name them, such as `regions = [\"eu-west-1\"]`, or leave [publish] out"));
    }
    for region in publish.regions.iter().filter(|region| !is_region(region)) {
        let (message, meant) = no_region(region);
        say_entry(found, "/publish/regions", region, message, meant);
    }
    for account in publish.accounts.iter().filter(|account| !is_account(account)) {
        let (message, meant) = no_account(account);
        say_entry(found, "/publish/accounts", account, message, meant);
    }
    roles(found, publish);
    found.entries("/publish/organisations", &publish.organisations, organisation);
    keys(found, publish);
    tags(found, &publish.tags);
    if let Some(text) = &publish.deprecate_after {
        found.parsed("/publish/deprecate_after", deprecation(text));
    }
    if let Some(name) = &publish.parameter {
        parameter(found, name);
    }
    if let Some(text) = &publish.uefi_data {
        found.parsed("/publish/uefi_data", uefi_data(text));
    }
}

fn uefi_data(text: &str) -> Result<(), String> {
    if text.len() > MOST_UEFI_DATA {
        return Err(format!("these are {} characters, and AWS takes {MOST_UEFI_DATA}", text.len()));
    }
    let digits = text.trim_end_matches('=');
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"+/".contains(&byte);
    if digits.is_empty()
        || !text.len().is_multiple_of(4)
        || text.len() - digits.len() > 2
        || !digits.bytes().all(good)
    {
        return Err(
            "this is not base64, in one line, as `aws ec2 get-instance-uefi-data` prints it".to_owned()
        );
    }
    Ok(())
}

/// Checks in which accounts it is published, and by whom.
fn roles(found: &mut Checks<'_>, publish: &Publish) {
    if let Some(account) = publish.account.as_deref().filter(|account| !is_account(account)) {
        let (message, meant) = no_account(account);
        let finding = found.document.at("/publish/account", message);
        say_meant(found, finding, meant);
    }
    if publish.account.is_some() && !publish.roles.is_empty() {
        found.say("/publish/account", "with `roles`, the accounts are those of the roles".to_owned());
    }
    found.entries("/publish/roles", &publish.roles, role);
}

fn say_entry(found: &mut Checks<'_>, pointer: &str, entry: &str, message: String, meant: Option<String>) {
    let finding = found.document.at_entry(pointer, entry, message);
    say_meant(found, finding, meant);
}

fn say_meant(found: &mut Checks<'_>, finding: Diagnostic, meant: Option<String>) {
    found.found.push(match meant {
        Some(meant) => finding.help(format!("did you mean `{meant}`?")),
        None => finding,
    });
}

fn organisation(text: &str) -> Result<(), String> {
    let id = |text: &str, kind: &str| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        text.strip_prefix(kind).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(allowed))
    };
    let good = Arn::read(text).is_some_and(|arn| {
        let parts: Vec<&str> = arn.resource.split('/').collect();
        arn.service == "organizations"
            && arn.region.is_empty()
            && match *parts.as_slice() {
                ["organization", whole] => id(whole, "o-"),
                ["ou", whole, unit] => id(whole, "o-") && id(unit, "ou-"),
                _ => false,
            }
    });
    if good {
        return Ok(());
    }
    Err(format!(
        "`{text}` is not the ARN of an organisation or organisational unit such as \
         \"arn:aws:organizations::111122223333:organization/o-a1b2c3d4e5\""
    ))
}

fn keys(found: &mut Checks<'_>, publish: &Publish) {
    for (region, key) in &publish.kms {
        let pointer = format!("/publish/kms/{}", escape(region));
        let published = publish.regions.contains(region);
        // Without any region there is one finding, about that.
        if !published && !publish.regions.is_empty() {
            let known = publish.regions.iter().map(String::as_str);
            found.say_nearest(&pointer, format!("`{region}` is not in `regions`"), region, known);
        }
        found.parsed(&pointer, kms_key(key, published.then_some(region)));
    }
}

/// Checks the ARN of a key, of `region` where that is known to be meant.
fn kms_key(text: &str, region: Option<&String>) -> Result<(), String> {
    let id = |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let arn = Arn::read(text).filter(|arn| arn.service == "kms" && is_region(arn.region));
    let resource = arn.as_ref().map_or(text, |arn| arn.resource);
    if resource.starts_with("alias/") {
        return Err(format!("`{text}` is an alias, and EBS wants the ARN of the key itself"));
    }
    match arn {
        Some(arn) if resource.strip_prefix("key/").is_some_and(id) => match region {
            Some(region) if region != arn.region => Err(format!(
                "this key is in {}, and an image in {region} wants one of its own region",
                arn.region
            )),
            _ => Ok(()),
        },
        None if id(text) => {
            Err(format!("`{text}` is not the ARN of a key: EBS wants all of it, with its region and account"))
        }
        _ => Err(format!(
            "`{text}` is not the ARN of a key such as \"arn:aws:kms:eu-west-1:111122223333:key/…\""
        )),
    }
}

fn tags(found: &mut Checks<'_>, tags: &BTreeMap<String, String>) {
    if tags.len() > MOST_TAGS {
        let message =
            format!("{} tags are more than {MOST_TAGS}: AWS allows 50, and rekiln has its own", tags.len());
        found.say("/publish/tags", message);
    }
    let (longest_key, longest_value) = LONGEST_TAG;
    for (key, value) in tags {
        let pointer = format!("/publish/tags/{}", escape(key));
        if key.is_empty() {
            found.say(&pointer, "a tag needs a key");
        }
        let prefix = key.split_once(':').map(|(prefix, _)| prefix.to_ascii_lowercase());
        match prefix.as_deref() {
            Some("aws") => found.say(&pointer, format!("`{key}` is AWS's to set")),
            Some("rekiln") => found.say(&pointer, format!("`{key}` is rekiln's to set")),
            _ => {}
        }
        for (what, text, longest) in [("key", key, longest_key), ("value", value, longest_value)] {
            let length = text.chars().count();
            if length > longest {
                let message = format!("the tag's {what} has {length} characters, and AWS allows {longest}");
                found.say(&pointer, message);
            }
        }
    }
}

fn deprecation(text: &str) -> Result<(), String> {
    let after = notation::duration(text)?;
    if after < Duration::from_hours(24) {
        Err(format!("`{text}` is less than a day"))
    } else if after > LATEST_DEPRECATION {
        Err(format!("`{text}` is more than ten years (\"3650d\"), and AWS allows no more"))
    } else {
        Ok(())
    }
}

fn parameter(found: &mut Checks<'_>, name: &str) {
    let at = "/publish/parameter";
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let levels: Vec<&str> = name.strip_prefix('/').unwrap_or(name).split('/').collect();
    if levels.iter().any(|level| level.is_empty() || !level.bytes().all(allowed)) {
        let message =
            format!("`{name}` is not a parameter's name: `/` before each part, and parts of letters");
        found.say(at, format!("{message}, digits, `_`, `.` and `-`"));
    } else if !name.starts_with('/') {
        let finding =
            found.document.at(at, format!("`{name}` is not a parameter's name: it begins with `/`"));
        found.found.push(finding.help(format!("did you mean `/{name}`?")));
    }
    let top = levels.first().map(|level| level.to_ascii_lowercase()).unwrap_or_default();
    if let Some(own) = ["aws", "ssm"].into_iter().find(|own| top.starts_with(own)) {
        found.say(at, format!("names that begin with `/{own}` are AWS's, in any case of the letters"));
    }
    let (longest, deepest) = LONGEST_PARAMETER;
    let length = name.chars().count();
    if length > longest {
        found.say(at, format!("the name has {length} characters, and AWS allows {longest}"));
    }
    if levels.len() > deepest {
        found.say(at, format!("the name has {} levels, and AWS allows {deepest}", levels.len()));
    }
}

#[cfg(test)]
mod tests;
