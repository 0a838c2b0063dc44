//! What is said of each kind of nonsense, and where.

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
         protect = true\nuefi_data = 'QU1aTlVFRkk='\n[publish.tags]\nteam = 'web'\n'cost/centre' = ''\n"
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
    ("account = '111122223333'", &[]),
    (
        "account = '1111-2222-3333'",
        &["4:11 `1111-2222-3333` is not an AWS account: 12 digits (did you mean `111122223333`?)"],
    ),
    ("roles = ['arn:aws:iam::111122223333:role/ci/publisher', 'arn:aws-cn:iam::111122223333:role/x']", &[]),
    (
        "account = '111122223333'\nroles = ['arn:aws:iam::111122223333:role/publisher']",
        &["4:11 with `roles`, the accounts are those of the roles"],
    ),
    (
        "roles = ['publisher', 'arn:aws:iam::111122223333:user/me', 'arn:aws:iam::111122223333:role/x/']",
        &[
            "4:60 `arn:aws:iam::111122223333:role/x/` is not the ARN of a role such as \
             \"arn:aws:iam::111122223333:role/publisher\"",
            "4:23 `arn:aws:iam::111122223333:user/me` is not the ARN of a role such as \
             \"arn:aws:iam::111122223333:role/publisher\"",
            "4:10 `publisher` is not the ARN of a role such as \
             \"arn:aws:iam::111122223333:role/publisher\"",
        ],
    ),
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
        &["4:15 a tag needs a key", "4:30 `AWS:x` is AWS's to set", "4:52 `rekiln:image` is rekiln's to set"],
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
        &["4:13 `images/web` is not a parameter's name: it begins with `/` (did you mean `/images/web`?)"],
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
    ("parameter = '/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p'", &["4:13 the name has 16 levels, and AWS allows 15"]),
    ("organizations = []", &["4:1 unknown key `organizations` in [publish] (did you mean `organisations`?)"]),
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

#[test]
fn uefi_data_is_base64() {
    let data = |text: &str| found(&format!("[publish]\nregions = ['eu-west-1']\nuefi_data = '{text}'"));
    for good in ["QUJD", "QUI=", "QQ==", "+/9a"] {
        assert_eq!(data(good), [""; 0], "{good}");
    }
    for bad in ["", "QUJ", "QU JD", "Q===", "====", "QUJD\\n", "QU-_"] {
        let said = data(bad);
        assert!(
            said.len() == 1 && said[0].starts_with("4:") && said[0].contains("base64"),
            "{bad}: {said:?}"
        );
    }
    let said = data(&"QUJD".repeat(16_001));
    assert!(said.len() == 1 && said[0].contains("64004 characters"), "{said:?}");
}
