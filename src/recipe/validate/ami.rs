//! What `[source] ami` of a recipe may say.

use super::Checks;
use crate::notation;
use crate::notation::aws::{is_account, is_region, no_account, no_region, role};
use crate::recipe::ami::AmiSource;
use crate::recipe::publish::Publish;

/// Owners that AWS has names for (EC2 API reference, `DescribeImages`, `Owner`); `self` is whoever asks.
const OWNERS: [&str; 4] = ["amazon", "aws-marketplace", "aws-backup-vault", "self"];

/// The most security groups that an interface may have by default (VPC user guide, quotas).
const MOST_GROUPS: usize = 5;

/// Checks `[source] ami`.
pub(super) fn check(found: &mut Checks<'_>, source: &AmiSource, publish: &Publish) {
    found.parsed("/source/ami/id", resource(&source.id, "ami"));
    if !is_account(&source.owner) && !OWNERS.contains(&source.owner.as_str()) {
        let message =
            format!("`{}` is neither an account (12 digits) nor one of AWS's names of owners", source.owner);
        found.say_nearest("/source/ami/owner", message, &source.owner, OWNERS.into_iter());
    }
    if !is_region(&source.region) {
        meant(found, "/source/ami/region", no_region(&source.region));
    }
    if let Some(size) = &source.size {
        found.parsed("/source/ami/size", notation::size(size));
    }
    if let Some(time) = &source.ssh_timeout {
        found.parsed("/source/ami/ssh_timeout", notation::duration(time));
    }
    if source.types.is_empty() {
        found.say("/source/ami/types", "no type of instance is left to try".to_owned());
    }
    found.entries("/source/ami/types", &source.types, kind);
    found.entries("/source/ami/subnets", &source.subnets, |text| resource(text, "subnet"));
    found.entries("/source/ami/security_groups", &source.security_groups, |text| resource(text, "sg"));
    if source.security_groups.len() > MOST_GROUPS {
        let message = format!(
            "an instance takes {MOST_GROUPS} security groups, and these are {}",
            source.security_groups.len()
        );
        found.say("/source/ami/security_groups", message);
    }
    if source.from.is_some() && !source.security_groups.is_empty() {
        found.say(
            "/source/ami/from",
            "with `security_groups`, no group is made that could admit an address".to_owned(),
        );
    }
    if let Some(account) = source.account.as_deref().filter(|account| !is_account(account)) {
        meant(found, "/source/ami/account", no_account(account));
    }
    if let Some(arn) = &source.assume_role {
        found.parsed("/source/ami/assume_role", role(arn));
    }
    if !source.encrypt && publish.kms.contains_key(&source.region) {
        let message = format!(
            "[publish] has a key for {}, where the image is made: `encrypt = true` uses it from the beginning",
            source.region
        );
        found.say("/source/ami", message);
    }
}

fn meant(found: &mut Checks<'_>, pointer: &str, (message, meant): (String, Option<String>)) {
    let finding = found.document.at(pointer, message);
    found.found.push(match meant {
        Some(meant) => finding.help(format!("did you mean `{meant}`?")),
        None => finding,
    });
}

/// Checks the id of one of EC2's resources: 8 or 17 hexadecimal digits behind its kind.
fn resource(text: &str, kind: &str) -> Result<(), String> {
    let digits = text.strip_prefix(kind).and_then(|rest| rest.strip_prefix('-'));
    let good = digits.is_some_and(|digits| {
        matches!(digits.len(), 8 | 17)
            && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    });
    if good { Ok(()) } else { Err(format!("`{text}` is no id such as \"{kind}-0123456789abcdef0\"")) }
}

/// Checks the name of a type of instances, of which new ones come every month.
fn kind(text: &str) -> Result<(), String> {
    let allowed = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if text.split_once('.').is_some_and(|(family, size)| allowed(family) && allowed(size)) {
        return Ok(());
    }
    Err(format!("`{text}` is no type of instances such as \"m7i.large\""))
}

#[cfg(test)]
mod tests {
    use super::super::tests::found;

    const GOOD: &str = "id = 'ami-0123456789abcdef0', owner = '136693071363', region = 'eu-west-1'";

    fn said(entries: &str) -> Vec<String> {
        found(&format!("source.ami = {{ {GOOD}, {entries} }}"))
    }

    #[test]
    fn what_an_ami_may_say() {
        let all = "size = '16G', types = ['m7i-flex.large'], subnets = ['subnet-12345678'], security_groups = \
                   ['sg-0123456789abcdef0'], private = true, encrypt = true, account = '111122223333', assume_role = \
                   'arn:aws:iam::111122223333:role/bake'";
        assert_eq!(said(all), Vec::<String>::new());
        assert_eq!(said("from = '203.0.113.7'"), Vec::<String>::new());
        for (entries, expected) in [
            ("types = []", "no type of instance is left to try"),
            ("types = ['large']", "`large` is no type of instances such as \"m7i.large\""),
            ("subnets = ['sg-12345678']", "`sg-12345678` is no id such as \"subnet-0123456789abcdef0\""),
            (
                "security_groups = ['sg-12345678'], from = '203.0.113.7'",
                "with `security_groups`, no group is made that could admit an address",
            ),
            ("size = 'big'", "`big`"),
            ("account = '1'", "`1`"),
            ("assume_role = 'bake'", "`bake` is not the ARN of a role"),
        ] {
            let found = said(entries);
            assert!(found.len() == 1 && found[0].contains(expected), "{entries}: {found:?}");
        }
        let found = found("source.ami = { id = 'ami-1', owner = 'amazom', region = 'eu-west' }");
        assert_eq!(found.len(), 3, "{found:?}");
        let kms = "\n[publish]\nregions = ['eu-west-1']\nkms = { eu-west-1 = 'arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab' }";
        let found = super::super::tests::found(&format!("source.ami = {{ {GOOD} }}{kms}"));
        assert!(found.len() == 1 && found[0].contains("`encrypt = true` uses it"), "{found:?}");
    }
}
