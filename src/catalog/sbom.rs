//! The software bill of materials of an image: CycloneDX 1.5 JSON, the same bytes for the same image.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Derived, Distribution, Origin, PackageKind, Record};
use crate::digest::Digest;
use crate::error::{Doing as _, Result};
use crate::lock::{Lock, Role};

/// The file in an image's directory.
pub const FILE: &str = "sbom.cdx.json";

/// Returns the bill of materials of an image: the packages and artifacts of its locks (its own and those of
/// the recipes it stands on), with the digests that the bake checked.
///
/// No lock has the packages of a derived image. They are those that were found in it, by name and version; the vendor's
/// disk is one more component.
///
/// # Errors
/// A lock's epoch that is no time.
pub fn bill(record: &Record, locks: &[&Lock]) -> Result<Value> {
    let epoch = locks.iter().map(|lock| lock.epoch).max().unwrap_or(0);
    let time = Timestamp::from_second(epoch).doing(|| "reading the lock's epoch")?;
    // By reference, so that the order is fixed and a package of two locks stands once.
    let mut components = BTreeMap::new();
    for package in locks.iter().flat_map(|lock| &lock.packages) {
        let purl = format!(
            "pkg:deb/debian/{}@{}?arch={}",
            encoded(&package.name),
            encoded(&package.version),
            encoded(&package.arch)
        );
        let role = match package.role {
            Role::Root => "root",
            Role::Kernel => "kernel",
            Role::Stub => "stub",
        };
        components.insert(
            purl.clone(),
            json!({
                "type": "library",
                "bom-ref": purl,
                "name": package.name,
                "version": package.version,
                "purl": purl,
                "hashes": [{ "alg": "SHA-256", "content": package.sha256 }],
                "properties": [{ "name": "rekiln:role", "value": role }],
            }),
        );
    }
    for fetch in locks.iter().flat_map(|lock| &lock.fetches) {
        let reference = format!("fetch:{}", fetch.sha256);
        components.insert(
            reference.clone(),
            json!({
                "type": "file",
                "bom-ref": reference,
                "name": fetch.url.rsplit('/').next().unwrap_or(&fetch.url),
                "hashes": [{ "alg": "SHA-256", "content": fetch.sha256 }],
                "externalReferences": [{ "type": "distribution", "url": url(&fetch.url) }],
            }),
        );
    }
    for (reference, component) in record.derived.iter().flat_map(|derived| found(record, derived)) {
        components.insert(reference, component);
    }
    let references: Vec<&String> = components.keys().collect();
    let image = format!("image:{}", record.id);
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": format!("urn:uuid:{}", uuid(record)),
        "version": 1,
        "metadata": {
            "timestamp": time.to_string(),
            "tools": { "components": [{ "type": "application", "name": "rekiln", "version": env!("CARGO_PKG_VERSION") }] },
            "component": {
                "type": "operating-system",
                "bom-ref": image,
                "name": record.name,
                "version": record.id,
                "hashes": [{ "alg": "SHA-256", "content": record.disk.sha256 }],
            },
        },
        "dependencies": [{ "ref": image, "dependsOn": references }],
        "components": components.values().collect::<Vec<_>>(),
    }))
}

/// Returns what a derived image consists of besides artifacts, by reference: what its vendor made, and every package.
fn found(record: &Record, derived: &Derived) -> Vec<(String, Value)> {
    let (reference, origin) = match &derived.origin {
        Origin::Disk { source, path } => {
            let reference = format!("disk:{source}");
            let disk = json!({
                "type": "file",
                "bom-ref": reference,
                "name": path.rsplit('/').next().unwrap_or(path),
                "description": "the vendor's disk that the image is derived from",
                "hashes": [{ "alg": "SHA-256", "content": source }],
            });
            (reference, disk)
        }
        Origin::Ami { ami, name, owner, region, made: _ } => {
            let reference = format!("ami:{ami}");
            let description =
                format!("the AMI {ami} of account {owner} in {region} that the image is derived from");
            let system = json!({
                "type": "operating-system",
                "bom-ref": reference,
                "name": name,
                "version": ami,
                "description": description,
            });
            (reference, system)
        }
    };
    let package = |(name, version): (&String, &String)| {
        let purl = derived.distribution.as_ref().map(|distribution| found_url(distribution, name, version));
        let reference = purl.clone().unwrap_or_else(|| format!("package:{name}@{version}"));
        let mut component =
            json!({ "type": "library", "bom-ref": reference, "name": name, "version": version });
        if let Some(purl) = purl {
            component["purl"] = purl.into();
        }
        (reference, component)
    };
    std::iter::once((reference, origin)).chain(record.packages.iter().map(package)).collect()
}

/// The package URL of a package that was found in an image. An rpm's epoch is a qualifier there, a deb's a part of its
/// version (purl-spec, types `deb` and `rpm`).
fn found_url(distribution: &Distribution, name: &str, version: &str) -> String {
    let Distribution { id, version: release, packages } = distribution;
    let (epoch, version) = match (packages, version.split_once(':')) {
        (PackageKind::Rpm, Some((epoch, version))) => (Some(epoch), version),
        _ => (None, version),
    };
    let release = release.as_ref().map(|release| format!("distro={}-{}", encoded(id), encoded(release)));
    let epoch = epoch.filter(|epoch| *epoch != "0").map(|epoch| format!("epoch={}", encoded(epoch)));
    let qualifiers: Vec<String> = release.into_iter().chain(epoch).collect();
    let qualifiers = if qualifiers.is_empty() { String::new() } else { format!("?{}", qualifiers.join("&")) };
    let kind = packages.as_str();
    format!("pkg:{kind}/{}/{}@{}{qualifiers}", encoded(id), encoded(name), encoded(version))
}

/// Returns the inputs that a bill names, by digest.
#[must_use]
pub fn inputs(bill: &Value) -> BTreeSet<Digest> {
    let components = bill["components"].as_array().into_iter().flatten();
    let hashes = components.filter_map(|component| component["hashes"].as_array()).flatten();
    hashes.filter_map(|hash| hash["content"].as_str()?.parse().ok()).collect()
}

/// A UUID out of the image id: version 8, "custom" (RFC 9562), so that nothing is random.
fn uuid(record: &Record) -> uuid::Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&record.id.as_bytes()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Percent-encodes what may not stand in a part of a package URL.
fn encoded(part: &str) -> String {
    percent(part, b":")
}

/// Percent-encodes what may not stand in a URL (RFC 3986): servers take a space in one, the standard does not.
fn url(text: &str) -> String {
    percent(text, b":/?#[]@!$&'()*+,;=%")
}

fn percent(text: &str, kept: &[u8]) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_~".contains(&byte) || kept.contains(&byte) {
            out.push(byte.into());
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
