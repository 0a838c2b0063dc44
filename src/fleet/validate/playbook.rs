//! What a playbook means.

use super::outside::Findings;
use super::pace::LONGEST;
use crate::diagnostic::Diagnostic;
use crate::fleet::outside::filling;
use crate::fleet::playbook::{PLACEHOLDERS, Playbook, Step, Wait};
use crate::notation;
use crate::recipe::document::Document;

/// Checks what a playbook says. Findings about its shape are in the document already.
#[must_use]
pub fn playbook(document: &Document<Playbook>) -> Vec<Diagnostic> {
    let Some(playbook) = &document.value else { return Vec::new() };
    let mut found = Findings::default();
    // A step that is understood in part may look like another one.
    if playbook.steps.is_empty() && document.is_whole() {
        found.say(String::new(), "a playbook has steps: `[[step]]`");
    }
    for (at, step) in playbook.steps.iter().enumerate() {
        let place = format!("/step/{at}");
        check(&mut found, &place, step, document.is_whole());
        if step.rotate && at + 1 < playbook.steps.len() {
            found.say(format!("{place}/rotate"), "the instance is gone after this: it must be the last step");
        }
    }
    found.of(document)
}

fn check(found: &mut Findings, place: &str, step: &Step, whole: bool) {
    let kinds = [
        ("command", step.command.is_some()),
        ("http", step.http.is_some()),
        ("wait", step.wait.is_some()),
        ("rotate", step.rotate),
    ];
    if whole {
        found.exactly_one(place, "step", &kinds);
    }
    if step.name.as_ref().is_some_and(|name| name.trim().is_empty() || name.chars().any(char::is_control)) {
        found.say(format!("{place}/name"), "a name is one line for people, and not empty");
    }
    command(found, place, step.command.as_deref());
    url(found, place, step.http.as_deref());
    if let Some(wait) = &step.wait {
        let place = format!("{place}/wait");
        let Wait { http, command: words, resolved } = wait;
        if whole {
            let kinds = [("http", http.is_some()), ("command", words.is_some()), ("resolved", *resolved)];
            found.exactly_one(&place, "wait", &kinds);
        }
        command(found, &place, words.as_deref());
        url(found, &place, http.as_deref());
    }
    times(found, place, step);
}

fn times(found: &mut Findings, place: &str, step: &Step) {
    for (key, text) in [("timeout", &step.timeout), ("every", &step.every)] {
        let Some(text) = text else { continue };
        let pointer = format!("{place}/{key}");
        if step.rotate {
            found.say(
                pointer,
                format!("replacing an instance has no `{key}` here: its fleet's file says how"),
            );
            continue;
        }
        if key == "every" && step.wait.is_none() {
            found.say(pointer, "only a `wait` is tried more than once");
            continue;
        }
        if notation::duration(text).is_ok_and(|time| time > LONGEST) {
            found.say(pointer.clone(), "this is more than ten years");
        }
        found.some_time(pointer, text);
    }
}

fn command(found: &mut Findings, place: &str, command: Option<&[String]>) {
    found.command(place, command);
    for (at, word) in command.unwrap_or_default().iter().enumerate() {
        found.ask(format!("{place}/command/{at}"), filling::check(word, &PLACEHOLDERS));
    }
}

fn url(found: &mut Findings, place: &str, url: Option<&str>) {
    let pointer = format!("{place}/http");
    found.url(pointer.clone(), url);
    found.ask(pointer, url.map_or(Ok(()), |url| filling::check(url, &PLACEHOLDERS)));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What is wrong with a playbook's text.
    fn shown(text: &str) -> Vec<String> {
        let document = Document::<Playbook>::read(Path::new("x.toml"), text);
        assert!(document.is_whole(), "{:?}", document.found);
        let shown = |found: &Diagnostic| {
            let help = found.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
            format!("{}:{} {}{help}", found.line, found.column, found.message)
        };
        playbook(&document).iter().map(shown).collect()
    }

    #[test]
    fn playbooks() {
        let good = "description = 'x'\n[[step]]\nname = 'flush'\ncommand = ['curl', 'http://{address}/{id}']\n\
            timeout = '5s'\non_failure = 'continue'\n[[step]]\nwait = { http = 'http://{address}/ready' }\n\
            every = '2s'\ntimeout = '60s'\n[[step]]\nrotate = true\n";
        let one = "a step has exactly one of `command`, `http`, `wait`, `rotate`; here is";
        let wait = "a wait has exactly one of `http`, `command`, `resolved`; here is";
        let command = "command = ['curl', 'http://{address}/{id}']\n";
        for (from, to, expected) in [
            ("", "", None),
            (command, "http = 'http://{address}/{fleet}/{alert}'\n", None),
            (command, "http = '$FLUSH'\n", None),
            (command, "wait = { resolved = true }\n", None),
            ("http = 'http://{address}/ready'", "command = ['true']", None),
            (command, "", Some(format!("2:1 {one} none"))),
            (command, "rotate = false\n", Some(format!("2:1 {one} none"))),
            ("timeout", "http = 'http://h'\ntimeout", Some(format!("2:1 {one} `command`, `http`"))),
            ("'flush'", "''", Some("3:8 a name is one line for people, and not empty".to_owned())),
            ("['curl', 'http://{address}/{id}']", "[]", Some("4:11 a command begins with a program".to_owned())),
            (
                "{address}/{id}",
                "{adress}",
                Some("4:20 nothing stands for `{adress}` (did you mean `{address}`?)".to_owned()),
            ),
            (
                "{address}/ready",
                "{host}/ready",
                Some(
                    "8:17 nothing stands for `{host}` (did you mean one of `{address}`, `{id}`, `{fleet}`, `{alert}`?)"
                        .to_owned(),
                ),
            ),
            ("'5s'", "'0s'", Some("5:11 0 is no time for anything".to_owned())),
            ("'60s'", "'4000d'", Some("10:11 this is more than ten years".to_owned())),
            (
                "timeout = '5s'",
                "every = '1s'",
                Some("5:9 only a `wait` is tried more than once".to_owned()),
            ),
            ("{ http = 'http://{address}/ready' }", "{}", Some(format!("8:8 {wait} none"))),
            (
                "http = 'http://{address}/ready'",
                "resolved = true, command = ['x']",
                Some(format!("8:8 {wait} `command`, `resolved`")),
            ),
            ("'2s'", "'often'", Some("9:9 `often` is not a duration such as \"60s\", \"5m\" or \"2h\"".to_owned())),
            (
                "rotate = true",
                "rotate = true\ntimeout = '5m'",
                Some("13:11 replacing an instance has no `timeout` here: its fleet's file says how".to_owned()),
            ),
            (
                "rotate = true",
                "rotate = true\n[[step]]\nhttp = '$X'",
                Some("12:10 the instance is gone after this: it must be the last step".to_owned()),
            ),
            (good, "description = 'x'\n", Some("0:0 a playbook has steps: `[[step]]`".to_owned())),
        ] {
            assert!(good.contains(from), "{from}");
            let found = shown(&good.replacen(from, to, 1));
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{from} {to}");
        }
    }

    #[test]
    fn an_url_that_is_none() {
        let found = shown("[[step]]\nhttp = 'ftp://{address}/'\n");
        assert!(found[0].starts_with("2:8 an URL begins with") && found.len() == 1, "{found:?}");
    }
}
