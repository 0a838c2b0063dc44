//! Digests of values: the image id and the keys of layers.

use serde::Serialize;

use crate::digest::Digest;

/// Returns the digest of `value` as canonical JSON, in a domain of its own.
///
/// Canonical: no blanks, fields in the type's order, maps and sets sorted, no floating-point numbers. Two
/// kinds of digests never meet, because the domain is digested before the value.
///
/// # Panics
/// Never for the values of this crate: only maps with keys that are no text, or a failing `Serialize`.
#[must_use]
pub fn digest(domain: &str, value: &impl Serialize) -> Digest {
    let json = serde_json::to_string(value).expect("inputs are plain values with text keys");
    Digest::of(format!("rekiln {domain}\n{json}").as_bytes())
}
