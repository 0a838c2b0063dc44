//! What the rules for alerts mean.

use super::outside::Findings;
use super::pace::LONGEST;
use crate::diagnostic::Diagnostic;
use crate::fleet::alert::repeated;
use crate::fleet::{Alert, Fleet};
use crate::notation;
use crate::recipe::document::Document;
use crate::watch::alert::NAME_LABEL;

/// Checks the rules for alerts of a fleet file as far as the file itself tells.
pub fn check(document: &Document<Fleet>, fleet: &Fleet) -> Vec<Diagnostic> {
    let mut found = Findings::default();
    for (at, rule) in fleet.alerts.iter().enumerate() {
        let place = format!("/alert/{at}");
        // What is written and wrong is a finding of its own, and not missing.
        let misses = rule.within.is_none() && document.is_whole();
        check_rule(&mut found, &place, rule, misses);
    }
    for (at, before) in repeated(&fleet.alerts) {
        let line = document.at(&format!("/alert/{before}/name"), "").line;
        found.say(
            format!("/alert/{at}/name"),
            format!("a rule before this one, in line {line}, is for the same alerts"),
        );
    }
    found.of(document)
}

fn check_rule(found: &mut Findings, place: &str, rule: &Alert, misses: bool) {
    if rule.name.trim().is_empty() {
        found.say(format!("{place}/name"), "an alert has a name");
    }
    for (label, value) in &rule.labels {
        let pointer = format!("{place}/match/{}", label.replace('~', "~0").replace('/', "~1"));
        if label == NAME_LABEL {
            found.say(pointer, format!("`{NAME_LABEL}` is `name`, and no label here"));
        } else if value.is_empty() {
            found.say(pointer, "no label is empty: leave it out");
        }
    }
    match rule.instance.as_deref() {
        Some("") => found.say(format!("{place}/instance"), "a label has a name"),
        Some(NAME_LABEL) => {
            found
                .say(format!("{place}/instance"), format!("`{NAME_LABEL}` names the alert, and no instance"));
        }
        _ => {}
    }
    if rule.within.is_some() || misses {
        let within = rule.within().and_then(|within| {
            if within > LONGEST { Err("this is more than ten years".to_owned()) } else { Ok(within) }
        });
        found.ask(format!("{place}/within"), within);
    }
    found.ask(format!("{place}/limit"), notation::rate(&rule.limit));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const GOOD: &str = "image = 'web'\nsize = 3\n[local]\nlisten = '127.0.0.1:8080'\nport = 80\n\
        [health]\nhttp = { port = 80, path = '/' }\n";
    const RULE: &str = "[[alert]]\nname = 'Errors'\nmatch = { severity = 'page' }\ninstance = 'host'\n\
        playbook = 'restart'\nwithin = '5m'\nlimit = '2/h'\n";

    /// What is wrong with `text` behind a good fleet's; lines are counted from its first.
    fn shown(text: &str) -> Vec<String> {
        let document = Document::<Fleet>::read(Path::new("x.toml"), &format!("{GOOD}{text}"));
        assert!(document.is_whole(), "{:?}", document.found);
        let fleet = document.value.as_ref().expect("a fleet");
        let before = GOOD.lines().count();
        let found = check(&document, fleet);
        let shown =
            |found: &Diagnostic| format!("{}:{} {}", found.line - before, found.column, found.message);
        found.iter().map(shown).collect()
    }

    #[test]
    fn rules() {
        for (from, to, expected) in [
            ("", "", None),
            (
                "match = { severity = 'page' }\ninstance = 'host'\nplaybook = 'restart'\nwithin = '5m'\nlimit = '2/h'\n",
                "",
                None,
            ),
            ("playbook = 'restart'\nwithin = '5m'\n", "", None),
            ("playbook = 'restart'\n", "", None),
            ("'Errors'", "' '", Some("2:8 an alert has a name")),
            ("severity =", "alertname =", Some("3:23 `alertname` is `name`, and no label here")),
            ("'page'", "''", Some("3:22 no label is empty: leave it out")),
            ("'host'", "''", Some("4:12 a label has a name")),
            ("'host'", "'alertname'", Some("4:12 `alertname` names the alert, and no instance")),
            (
                "within = '5m'\n",
                "",
                Some(
                    "1:1 `within` is missing: how long the playbook `restart` has until the instance is replaced",
                ),
            ),
            ("'5m'", "'soon'", Some("6:10 `soon` is not a duration such as \"60s\", \"5m\" or \"2h\"")),
            ("'5m'", "'4000d'", Some("6:10 this is more than ten years")),
            ("'2/h'", "'2'", Some("7:9 `2` is not a rate such as \"20/h\": so many an hour")),
            ("'2/h'", "'0/h'", Some("7:9 `0/h` is not a rate such as \"20/h\": so many an hour")),
        ] {
            assert!(RULE.contains(from), "{from}");
            let found = shown(&RULE.replacen(from, to, 1));
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{from} {to}");
        }
    }

    #[test]
    fn the_same_twice() {
        let other = RULE.replace("page", "ticket");
        assert_eq!(shown(&format!("{RULE}{other}")), Vec::<String>::new());
        let again = "a rule before this one, in line 9, is for the same alerts";
        assert_eq!(shown(&format!("{RULE}{other}{}", RULE.replace("5m", "6m"))), [format!("16:8 {again}")]);
    }
}
