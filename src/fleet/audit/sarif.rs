//! Findings as SARIF 2.1.0 (OASIS, "Static Analysis Results Interchange Format"), which code hosts and dashboards read.

use std::path::Path;

use serde_json::{Value, json};

use super::{Finding, RULES};
use crate::inspect::Severity;

/// Where the format is described; readers check it.
const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// Writes the findings of fleets; each stands at its fleet's file, and names the instances.
#[must_use]
pub fn sarif<'a>(fleets: impl IntoIterator<Item = (&'a Path, &'a [Finding])>) -> Value {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|rule| {
            json!({
                "id": rule.name,
                "shortDescription": { "text": rule.reason },
                "help": { "text": rule.help },
                "defaultConfiguration": { "level": level(rule.severity) },
            })
        })
        .collect();
    let results: Vec<Value> = fleets
        .into_iter()
        .flat_map(|(file, findings)| findings.iter().map(move |finding| result(file, finding)))
        .collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "rekiln", "semanticVersion": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "results": results,
        }],
    })
}

fn result(file: &Path, finding: &Finding) -> Value {
    let places: Vec<Value> =
        finding.on.iter().map(|on| json!({ "fullyQualifiedName": on, "kind": "resource" })).collect();
    // A file's place is a URI reference with `/` everywhere; fleets' names need no escapes.
    let uri = file.display().to_string();
    json!({
        "ruleId": finding.rule,
        "level": level(finding.severity),
        "message": { "text": finding.what },
        "locations": [{
            "physicalLocation": { "artifactLocation": { "uri": uri }, "region": { "startLine": 1 } },
            "logicalLocations": places,
        }],
        // The same thing on other instances tomorrow is the same finding.
        "partialFingerprints": { "rekiln/v1": format!("{uri} {} {}", finding.rule, finding.what) },
    })
}

const fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
    }
}
