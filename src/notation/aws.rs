//! How AWS writes regions, accounts and names of resources.

/// What matters of an Amazon resource name.
pub struct Arn<'a> {
    /// Such as `iam`.
    pub service: &'a str,
    /// Empty where it is in no region.
    pub region: &'a str,
    /// What follows the account.
    pub resource: &'a str,
}

impl<'a> Arn<'a> {
    /// Reads an ARN of one account.
    #[must_use]
    pub fn read(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, service, region, account, resource] = *parts.as_slice() else { return None };
        let variant = partition.strip_prefix("aws")?;
        let good =
            variant.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') && is_account(account);
        good.then_some(Self { service, region, resource })
    }
}

/// Tells whether `text` has the shape of an AWS region's name, of which there are new ones every year.
#[must_use]
pub fn is_region(text: &str) -> bool {
    let letters = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    let parts: Vec<&str> = text.split('-').collect();
    let [area, places @ .., number] = parts.as_slice() else { return false };
    // Four letters as in `eusc-de-east-1`, the European Sovereign Cloud.
    matches!(area.len(), 2 | 4)
        && letters(area)
        && !places.is_empty()
        && places.iter().all(letters)
        && matches!(number.as_bytes(), [b'0'..=b'9'])
}

/// Says that this is no region, and which was meant by another spelling of it, or by one of its zones.
#[must_use]
pub fn no_region(text: &str) -> (String, Option<String>) {
    let plain = text.trim().to_ascii_lowercase().replace(['_', ' '], "-");
    let outside = plain.strip_suffix(|last: char| last.is_ascii_lowercase());
    let meant = [Some(plain.as_str()), outside].into_iter().flatten().find(|text| is_region(text));
    (format!("`{text}` is not an AWS region such as \"eu-west-1\""), meant.map(str::to_owned))
}

/// Tells whether `text` is the number of an account.
#[must_use]
pub fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Says that this is no account, and which was meant: the console writes them in groups.
#[must_use]
pub fn no_account(text: &str) -> (String, Option<String>) {
    let meant = text.replace(['-', ' '], "");
    (format!("`{text}` is not an AWS account: 12 digits"), Some(meant).filter(|meant| is_account(meant)))
}

/// Checks the ARN of a role.
///
/// # Errors
/// It is none.
pub fn role(text: &str) -> Result<(), String> {
    // Names and paths as IAM has them (IAM quotas: "name requirements").
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-/".contains(&byte);
    let good = Arn::read(text).is_some_and(|arn| {
        let name = arn.resource.strip_prefix("role/");
        arn.service == "iam"
            && arn.region.is_empty()
            && name.is_some_and(|name| !name.is_empty() && !name.ends_with('/') && name.bytes().all(allowed))
    });
    if good {
        return Ok(());
    }
    Err(format!("`{text}` is not the ARN of a role such as \"arn:aws:iam::111122223333:role/publisher\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions() {
        for good in ["eu-west-1", "ap-southeast-7", "us-gov-west-1", "us-isob-east-1", "eusc-de-east-1"] {
            assert!(is_region(good), "{good}");
        }
        for bad in
            ["", "eu", "eu-1", "eu-west", "eu-west-1a", "eu-west-12", "eu--1", "EU-west-1", "euro-we_st-1"]
        {
            assert!(!is_region(bad), "{bad}");
        }
    }
}
