//! What the documentation repeats from the code is what the code says.

use std::path::Path;
use std::process::Command;

use rekiln::fleet::audit::RULES as AUDITED;
use rekiln::inspect::rules::RULES;

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display()))
}

#[test]
fn schemas_are_current() {
    for of in ["recipe", "fleet", "playbook"] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_rekiln")).args(["schema", of]).output().expect("rekiln starts");
        let made = String::from_utf8_lossy(&output.stdout);
        assert!(
            text(&format!("docs/schema/{of}.json")) == made,
            "docs/schema/{of}.json is old: run `just schemas`"
        );
    }
}

#[test]
fn table_of_what_an_audit_looks_for_is_current() {
    let rows = AUDITED.iter().map(|rule| {
        format!("| `{}` | {} | {} | {} |", rule.name, rule.severity.as_str(), rule.reason, rule.help)
    });
    let table = rows.collect::<Vec<_>>().join("\n");
    assert!(
        text("docs/audit.md").contains(&table),
        "the table in docs/audit.md is old; it must be:\n{table}"
    );
}

#[test]
fn table_of_rules_is_current() {
    let rows = RULES
        .iter()
        .map(|rule| format!("| `{}` | {} | {} |", rule.name, rule.severity.as_str(), rule.reason));
    let table = rows.collect::<Vec<_>>().join("\n");
    assert!(
        text("docs/images.md").contains(&table),
        "the table in docs/images.md is old; it must be:\n{table}"
    );
}
