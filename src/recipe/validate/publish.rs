//! What `[publish]` of a recipe may say: the bounds are those of AWS.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Checks;
use crate::notation;
use crate::recipe::publish::{Publish, is_region};
use crate::recipe::shape::escape;

/// AWS allows 50 tags, of which rekiln sets its own.
const MOST_TAGS: usize = 40;

/// AWS's bounds of a tag's key and value, in characters.
const LONGEST_TAG: (usize, usize) = (128, 256);

/// AWS deprecates up to ten years ahead; leap days are left to it.
const LATEST_DEPRECATION: Duration = Duration::from_hours(3650 * 24);

/// AWS's bounds of a parameter's name: characters (the ARN's are counted too, so not its 2048) and levels.
const LONGEST_PARAMETER: (usize, usize) = (1011, 15);

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
        let message = format!("`{region}` is not an AWS region such as \"eu-west-1\"");
        say_entry(found, "/publish/regions", region, message, meant_region(region));
    }
    for account in publish.accounts.iter().filter(|account| !is_account(account)) {
        let message = format!("`{account}` is not an AWS account: 12 digits");
        // The console writes accounts in groups.
        let meant = account.replace(['-', ' '], "");
        say_entry(
            found,
            "/publish/accounts",
            account,
            message,
            Some(meant).filter(|meant| is_account(meant)),
        );
    }
    found.entries("/publish/organisations", &publish.organisations, organisation);
    keys(found, publish);
    tags(found, &publish.tags);
    if let Some(text) = &publish.deprecate_after {
        found.parsed("/publish/deprecate_after", deprecation(text));
    }
    if let Some(name) = &publish.parameter {
        parameter(found, name);
    }
}

fn say_entry(found: &mut Checks<'_>, pointer: &str, entry: &str, message: String, meant: Option<String>) {
    let finding = found.document.at_entry(pointer, entry, message);
    found.found.push(match meant {
        Some(meant) => finding.help(format!("did you mean `{meant}`?")),
        None => finding,
    });
}

/// Returns the region that was meant by another spelling of it, or by one of its zones.
fn meant_region(text: &str) -> Option<String> {
    let plain = text.trim().to_ascii_lowercase().replace(['_', ' '], "-");
    let outside = plain.strip_suffix(|last: char| last.is_ascii_lowercase());
    [Some(plain.as_str()), outside].into_iter().flatten().find(|text| is_region(text)).map(str::to_owned)
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What matters of an Amazon resource name.
struct Arn<'a> {
    service: &'a str,
    region: &'a str,
    resource: &'a str,
}

impl<'a> Arn<'a> {
    /// Reads an ARN of one account.
    fn read(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, service, region, account, resource] = *parts.as_slice() else { return None };
        let variant = partition.strip_prefix("aws")?;
        let good =
            variant.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') && is_account(account);
        good.then_some(Self { service, region, resource })
    }
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
mod tests {
    use std::path::Path;

    use super::super::{Document, Recipe, Surroundings, Templates, validate};
    use super::*;

    /// Findings about a recipe with `text` after its source, as `line:column message (help)`.
    fn found(text: &str) -> Vec<String> {
        let text = format!("source = {{ debian = 'bookworm' }}\n{text}");
        let document = Document::<Recipe>::read(Path::new("x.toml"), &text);
        let (recipes, templates) = ([].into(), Templates::default());
        let around = Surroundings { recipes: &recipes, templates: &templates };
        let all = document.found.iter().cloned().chain(validate(&document, &around));
        all.map(|found| {
            let help = found.help.map(|help| format!(" ({help})")).unwrap_or_default();
            format!("{}:{} {}{help}", found.line, found.column, found.message)
        })
        .collect()
    }

    const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

    #[test]
    fn all_of_it() {
        let text = format!(
            "[publish]\nregions = ['eu-west-1', 'us-gov-east-1']\naccounts = ['111122223333']\n\
             organisations = ['arn:aws:organizations::111122223333:ou/o-a1b2c3d4e5/ou-ab12-11111111']\n\
             kms = {{ eu-west-1 = '{KEY}' }}\ndeprecate_after = '90d'\nparameter = '/images/web'\n\
             protect = true\n[publish.tags]\nteam = 'web'\n'cost/centre' = ''\n"
        );
        assert_eq!(found(&text), [""; 0]);
        assert_eq!(found("[publish]\n"), [""; 0]);
    }

    #[test]
    fn without_regions() {
        let nothing = "nothing is published without `regions` \
            (name them, such as `regions = [\"eu-west-1\"]`, or leave [publish] out)";
        for text in [
            "[publish]\nprotect = true".to_owned(),
            "[publish]\nregions = []\nparameter = '/x'".to_owned(),
            "[publish]\naccounts = ['111122223333']".to_owned(),
            format!("[publish]\nkms = {{ eu-west-1 = '{KEY}' }}"),
        ] {
            assert_eq!(found(&text), [format!("2:1 {nothing}")], "{text}");
        }
        assert_eq!(found("[publish.tags]\na = 'b'"), [format!("2:2 {nothing}")]);
        // They were left out by mistake, and that is said already.
        for (regions, said) in [
            ("region = ['eu-west-1']", "3:1 unknown key `region` in [publish] (did you mean `regions`?)"),
            ("regions = 'eu-west-1'", "3:11 expected a list, found text"),
        ] {
            assert_eq!(found(&format!("[publish]\n{regions}\nprotect = true")), [said], "{regions}");
        }
    }

    #[test]
    fn regions() {
        for (bad, meant) in [
            ("eu-west-1a", Some("eu-west-1")),
            ("EU-West-1", Some("eu-west-1")),
            ("eu_west_1", Some("eu-west-1")),
            (" us gov-west-1", Some("us-gov-west-1")),
            ("eu-west", None),
            ("eu-1", None),
            ("eu-west-12", None),
            ("eu--1", None),
            ("europe-west-1", None),
            ("e-west-1", None),
            ("eu-west-1-", None),
            ("é-west-1", None),
            ("", None),
        ] {
            let help = meant.map(|meant| format!(" (did you mean `{meant}`?)")).unwrap_or_default();
            let said = format!("3:25 `{bad}` is not an AWS region such as \"eu-west-1\"{help}");
            assert_eq!(found(&format!("[publish]\nregions = ['us-east-1', '{bad}']")), [said]);
        }
    }

    #[test]
    fn organisations() {
        for good in [
            "arn:aws:organizations::111122223333:organization/o-a1b2c3d4e5",
            "arn:aws-us-gov:organizations::111122223333:ou/o-a1b2c3d4e5/ou-ab12-11111111",
        ] {
            assert_eq!(organisation(good), Ok(()));
        }
        for bad in [
            "",
            "o-a1b2c3d4e5",
            "arn:aws:organizations::1111:organization/o-a1b2c3d4e5",
            "arn:aws:organizations:eu-west-1:111122223333:organization/o-a1b2c3d4e5",
            "arn:aws:organizations::111122223333:organization/a1b2c3d4e5",
            "arn:aws:organizations::111122223333:organization/o-",
            "arn:aws:organizations::111122223333:organization/o-A1",
            "arn:aws:organizations::111122223333:organization/o-a1b2c3d4e5/x",
            "arn:aws:organizations::111122223333:ou/ou-ab12-11111111",
            "arn:aws:organizations::111122223333:ou/o-a1b2c3d4e5/r-ab12",
            "arn:aws:organizations::111122223333:account/o-a1b2c3d4e5/111122223333",
            "arn:aws:iam::111122223333:organization/o-a1b2c3d4e5",
            "arn:AWS:organizations::111122223333:organization/o-a1b2c3d4e5",
            "arn:gcp:organizations::111122223333:organization/o-a1b2c3d4e5",
        ] {
            assert!(organisation(bad).is_err_and(|why| why.starts_with(&format!("`{bad}` is not"))), "{bad}");
        }
    }

    /// What follows `regions = ["eu-west-1"]` and what is said.
    const NONSENSE: &[(&str, &[&str])] = &[
        (
            "accounts = ['1111-2222-3333', '42', '11112222333x']",
            &[
                "4:13 `1111-2222-3333` is not an AWS account: 12 digits (did you mean `111122223333`?)",
                "4:37 `11112222333x` is not an AWS account: 12 digits",
                "4:31 `42` is not an AWS account: 12 digits",
            ],
        ),
        ("accounts = [111122223333]", &["4:13 expected text in quotes, found a whole number"]),
        (
            "organisations = ['o-a1b2c3d4e5']",
            &["4:18 `o-a1b2c3d4e5` is not the ARN of an organisation or organisational unit such as \
               \"arn:aws:organizations::111122223333:organization/o-a1b2c3d4e5\""],
        ),
        (
            "kms.eu-wset-1 = 'arn:aws:kms:eu-west-1:111122223333:key/a'",
            &["4:17 `eu-wset-1` is not in `regions` (did you mean `eu-west-1`?)"],
        ),
        (
            "kms.us-east-2 = 'alias/web'",
            &[
                "4:17 `us-east-2` is not in `regions` (known: eu-west-1)",
                "4:17 `alias/web` is an alias, and EBS wants the ARN of the key itself",
            ],
        ),
        (
            "kms.eu-west-1 = 'arn:aws:kms:eu-west-1:111122223333:alias/web'",
            &["4:17 `arn:aws:kms:eu-west-1:111122223333:alias/web` is an alias, \
               and EBS wants the ARN of the key itself"],
        ),
        (
            "kms.eu-west-1 = 'mrk-1234abcd12ab34cd56ef1234567890ab'",
            &["4:17 `mrk-1234abcd12ab34cd56ef1234567890ab` is not the ARN of a key: \
               EBS wants all of it, with its region and account"],
        ),
        (
            "kms.eu-west-1 = 'arn:aws:kms:us-east-1:111122223333:key/a'",
            &["4:17 this key is in us-east-1, and an image in eu-west-1 wants one of its own region"],
        ),
        (
            "kms.eu-west-1 = 'arn:aws:s3:eu-west-1:111122223333:key/a'",
            &["4:17 `arn:aws:s3:eu-west-1:111122223333:key/a` is not the ARN of a key such as \
               \"arn:aws:kms:eu-west-1:111122223333:key/…\""],
        ),
        (
            "tags = { '' = 'a', 'AWS:x' = 'b', 'rekiln:image' = 'c', 'a/b' = 'd' }",
            &[
                "4:15 a tag needs a key",
                "4:30 `AWS:x` is AWS's to set",
                "4:52 `rekiln:image` is rekiln's to set",
            ],
        ),
        ("deprecate_after = '1d'", &[]),
        ("deprecate_after = '3650d'", &[]),
        ("deprecate_after = '90'", &["4:19 `90` is not a duration such as \"60s\", \"5m\" or \"2h\""]),
        ("deprecate_after = '23h 59m'", &["4:19 `23h 59m` is less than a day"]),
        (
            "deprecate_after = '3651d'",
            &["4:19 `3651d` is more than ten years (\"3650d\"), and AWS allows no more"],
        ),
        (
            "parameter = 'images/web'",
            &[
                "4:13 `images/web` is not a parameter's name: it begins with `/` (did you mean `/images/web`?)",
            ],
        ),
        (
            "parameter = '/images/my web'",
            &["4:13 `/images/my web` is not a parameter's name: `/` before each part, \
               and parts of letters, digits, `_`, `.` and `-`"],
        ),
        (
            "parameter = '/AWS/service/web'",
            &["4:13 names that begin with `/aws` are AWS's, in any case of the letters"],
        ),
        (
            "parameter = 'Ssmith'",
            &[
                "4:13 `Ssmith` is not a parameter's name: it begins with `/` (did you mean `/Ssmith`?)",
                "4:13 names that begin with `/ssm` are AWS's, in any case of the letters",
            ],
        ),
        ("parameter = '/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o'", &[]),
        (
            "parameter = '/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p'",
            &["4:13 the name has 16 levels, and AWS allows 15"],
        ),
        (
            "organizations = []",
            &["4:1 unknown key `organizations` in [publish] (did you mean `organisations`?)"],
        ),
    ];

    #[test]
    fn nonsense() {
        let mut wrong = Vec::new();
        for (text, expected) in NONSENSE {
            let said = found(&format!("[publish]\nregions = ['eu-west-1']\n{text}"));
            if said != *expected {
                wrong.push((text, said));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn parameters() {
        for bad in ["", "/", "/images/", "//web", "/images//web", "/é", "/a:1", "/a,b"] {
            let text = format!("[publish]\nregions = ['eu-west-1']\nparameter = '{bad}'");
            assert_eq!(found(&text).len(), 1, "{bad}");
        }
    }

    #[test]
    fn lengths() {
        let publish = "[publish]\nregions = ['eu-west-1']\n";
        let tag = |key: usize, value: usize| {
            found(&format!("{publish}tags = {{ {} = '{}' }}", "k".repeat(key), "ü".repeat(value)))
        };
        assert_eq!(tag(128, 256), [""; 0]);
        assert_eq!(
            tag(129, 257),
            [
                "4:142 the tag's key has 129 characters, and AWS allows 128",
                "4:142 the tag's value has 257 characters, and AWS allows 256",
            ]
        );
        let tags = |count: usize| {
            let tags: String = (0..count).map(|tag| ["t", &tag.to_string(), " = ''\n"].concat()).collect();
            found(&format!("{publish}[publish.tags]\n{tags}"))
        };
        assert_eq!(tags(40), [""; 0]);
        assert_eq!(tags(41), ["4:1 41 tags are more than 40: AWS allows 50, and rekiln has its own"]);
        let name = |length: usize| found(&format!("{publish}parameter = '/{}'", "x".repeat(length - 1)));
        assert_eq!(name(1011), [""; 0]);
        assert_eq!(name(1012), ["4:13 the name has 1012 characters, and AWS allows 1011"]);
    }
}
