//! What gates, hooks and notifications mean.

use std::collections::BTreeSet;

use crate::diagnostic::Diagnostic;
use crate::fleet::outside::Url;
use crate::fleet::outside::filling::{ADDRESS, ID};
use crate::fleet::{Fleet, Gate, Hook};
use crate::notation;
use crate::recipe::document::Document;

/// With fewer numbers on each side, no comparison can ever be significant.
const LEAST_COMPARED: u32 = 8;

/// Checks the gates, hooks and notifications of a fleet file.
pub fn check(document: &Document<Fleet>, fleet: &Fleet) -> Vec<Diagnostic> {
    let mut found = Findings::default();
    let mut names = BTreeSet::new();
    for (at, gate) in fleet.gates.iter().enumerate() {
        let place = format!("/gate/{at}");
        found.gate(&place, gate);
        if !names.insert(&gate.name) {
            found.say(format!("{place}/name"), format!("there is a gate `{}` before this one", gate.name));
        }
    }
    for (at, hook) in fleet.hooks.iter().enumerate() {
        found.hook(&format!("/hook/{at}"), hook);
    }
    for (at, notify) in fleet.notify.iter().enumerate() {
        found.ask(format!("/notify/{at}/webhook"), Url::check(&notify.webhook));
    }
    found.of(document)
}

/// What is wrong, by JSON pointer.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<(String, String)>);

impl Findings {
    /// Returns what is wrong with a document, with its places; what was probably meant becomes a finding's help.
    pub(super) fn of<T>(self, document: &Document<T>) -> Vec<Diagnostic> {
        let found = self.0.into_iter();
        found
            .map(|(pointer, message)| match message.split_once(": did you mean ") {
                Some((message, meant)) => {
                    document.at(&pointer, message).help(format!("did you mean {meant}"))
                }
                None => document.at(&pointer, message),
            })
            .collect()
    }

    pub(super) fn say(&mut self, pointer: String, message: impl Into<String>) {
        self.0.push((pointer, message.into()));
    }

    pub(super) fn ask<T>(&mut self, pointer: String, result: Result<T, String>) -> Option<T> {
        result.map_err(|why| self.say(pointer, why)).ok()
    }

    fn gate(&mut self, place: &str, gate: &Gate) {
        self.ask(format!("{place}/name"), notation::name(&gate.name));
        let kinds = [
            ("command", gate.command.is_some()),
            ("http", gate.http.is_some()),
            ("prometheus", gate.prometheus.is_some()),
        ];
        self.exactly_one(place, "gate", &kinds);
        self.command(place, gate.command.as_deref());
        self.url(format!("{place}/http"), gate.http.as_deref());
        if let Some(prometheus) = &gate.prometheus {
            self.url(format!("{place}/prometheus/server"), Some(&prometheus.server));
            if prometheus.query.trim().is_empty() {
                self.say(format!("{place}/prometheus/query"), "an empty query asks nothing");
            }
        }
        self.timeout(place, &gate.timeout);
        self.limits(place, gate);
        if gate.samples == 0 {
            self.say(format!("{place}/samples"), "0 numbers say nothing: at least 1");
        }
        if gate.compare.is_some() {
            self.comparison(place, gate);
        }
    }

    fn limits(&mut self, place: &str, gate: &Gate) {
        if gate.min.is_none() && gate.max.is_none() && gate.compare.is_none() {
            self.say(place.to_owned(), "a gate needs a `min`, a `max` or a `compare`: this one never shuts");
        }
        let mut limit = |key: &str, text: &Option<String>| {
            text.as_deref().and_then(|text| self.ask(format!("{place}/{key}"), notation::decimal(text)))
        };
        if let (Some(min), Some(max)) = (limit("min", &gate.min), limit("max", &gate.max))
            && min > max
        {
            self.say(
                format!("{place}/min"),
                format!("`min` {min} is above `max` {max}: no number is between"),
            );
        }
    }

    fn comparison(&mut self, place: &str, gate: &Gate) {
        let mut texts: Vec<&str> = gate.command.iter().flatten().map(String::as_str).collect();
        texts.extend(gate.http.as_deref());
        texts.extend(gate.prometheus.iter().flat_map(|asked| [asked.server.as_str(), &asked.query]));
        if !texts.iter().any(|text| text.contains(ADDRESS) || text.contains(ID)) {
            self.say(
                format!("{place}/compare"),
                format!(
                    "what is compared must tell instances apart: it needs `{ADDRESS}` or `{ID}` somewhere"
                ),
            );
        }
        if (1..LEAST_COMPARED).contains(&gate.samples) {
            self.say(
                format!("{place}/samples"),
                format!(
                    "`compare` with `samples = {}` can never tell anything: at least {LEAST_COMPARED}",
                    gate.samples
                ),
            );
        }
    }

    fn hook(&mut self, place: &str, hook: &Hook) {
        let kinds = [("command", hook.command.is_some()), ("http", hook.http.is_some())];
        self.exactly_one(place, "hook", &kinds);
        self.command(place, hook.command.as_deref());
        self.url(format!("{place}/http"), hook.http.as_deref());
        self.timeout(place, &hook.timeout);
    }

    pub(super) fn exactly_one(&mut self, place: &str, what: &str, kinds: &[(&str, bool)]) {
        let list = |kinds: Vec<&str>| format!("`{}`", kinds.join("`, `"));
        let written: Vec<_> = kinds.iter().filter(|(_, written)| *written).map(|(kind, _)| *kind).collect();
        if written.len() != 1 {
            let here = if written.is_empty() { "none".to_owned() } else { list(written) };
            let all = list(kinds.iter().map(|(kind, _)| *kind).collect());
            self.say(place.to_owned(), format!("a {what} has exactly one of {all}; here is {here}"));
        }
    }

    pub(super) fn command(&mut self, place: &str, command: Option<&[String]>) {
        if command.is_some_and(|command| command.first().is_none_or(String::is_empty)) {
            self.say(format!("{place}/command"), "a command begins with a program");
        }
    }

    pub(super) fn url(&mut self, pointer: String, url: Option<&str>) {
        self.ask(pointer, url.map_or(Ok(()), Url::check));
    }

    fn timeout(&mut self, place: &str, timeout: &str) {
        self.some_time(format!("{place}/timeout"), timeout);
    }

    /// Checks a time that may not be 0.
    pub(super) fn some_time(&mut self, pointer: String, text: &str) {
        let time = notation::duration(text).and_then(|time| {
            if time.is_zero() { Err("0 is no time for anything".to_owned()) } else { Ok(time) }
        });
        self.ask(pointer, time);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const GOOD: &str = "image = 'web'\nsize = 3\n[local]\nlisten = '127.0.0.1:8080'\nport = 80\n\
        [health]\nhttp = { port = 80, path = '/' }\n";

    /// What is wrong with `text` behind a good fleet's; lines are counted from its first.
    fn shown(text: &str) -> Vec<String> {
        let document = Document::<Fleet>::read(Path::new("x.toml"), &format!("{GOOD}{text}"));
        assert!(document.is_whole(), "{:?}", document.found);
        let fleet = document.value.as_ref().expect("a fleet");
        let before = GOOD.lines().count();
        let found = check(&document, fleet);
        found
            .iter()
            .map(|found| format!("{}:{} {}", found.line - before, found.column, found.message))
            .collect()
    }

    fn table(good: &str, table: &[(&str, &str, Option<&str>)]) {
        for (from, to, expected) in table {
            assert!(good.contains(from), "{from}");
            let expected: Vec<_> = expected.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(shown(&good.replacen(from, to, 1)), expected, "{from} {to}");
        }
    }

    #[test]
    fn gates() {
        let good = "[[gate]]\nname = 'errors'\ncommand = ['check']\nmax = '1'\nmin = '0.5'\nsamples = 3\n\
            timeout = '5s'\n";
        let one = "a gate has exactly one of `command`, `http`, `prometheus`; here is";
        table(
            good,
            &[
                ("", "", None),
                ("command = ['check']", "http = 'https://h/{id}'", None),
                ("command = ['check']", "http = '$STATS'", None),
                ("command = ['check']", "prometheus = { server = '$PROM', query = 'up' }", None),
                ("max = '1'\nmin = '0.5'", "min = '-1'", None),
                ("max = '1'", "max = '0.5'", None),
                (
                    "'errors'",
                    "'Errors'",
                    Some(
                        "2:8 `Errors` is not a name: lower-case letters, digits and `-`, \
                    beginning with a letter",
                    ),
                ),
                ("command = ['check']\n", "", Some(&format!("1:1 {one} none"))),
                ("max", "http = 'http://h'\nmax", Some(&format!("1:1 {one} `command`, `http`"))),
                ("['check']", "[]", Some("3:11 a command begins with a program")),
                ("['check']", "['', 'x']", Some("3:11 a command begins with a program")),
                (
                    "command = ['check']",
                    "http = 'ftp://h/'",
                    Some(
                        "3:8 an URL begins with `http://` or `https://` and a host, or is `$NAME`: the name of an \
                        environment variable that has it",
                    ),
                ),
                (
                    "command = ['check']",
                    "prometheus = { server = 'http://h', query = ' ' }",
                    Some("3:45 an empty query asks nothing"),
                ),
                (
                    "max = '1'\nmin = '0.5'\n",
                    "",
                    Some("1:1 a gate needs a `min`, a `max` or a `compare`: this one never shuts"),
                ),
                ("'1'", "'1%'", Some("4:7 `1%` is not a decimal number such as \"0.5\" or \"250\"")),
                ("'0.5'", "'inf'", Some("5:7 `inf` is not a decimal number such as \"0.5\" or \"250\"")),
                ("'0.5'", "'1.5'", Some("5:7 `min` 1.5 is above `max` 1: no number is between")),
                ("= 3", "= 0", Some("6:11 0 numbers say nothing: at least 1")),
                ("'5s'", "'5'", Some("7:11 `5` is not a duration such as \"60s\", \"5m\" or \"2h\"")),
                ("'5s'", "'0s'", Some("7:11 0 is no time for anything")),
            ],
        );
        let second = format!("{good}{}", good.replace("'5s'", "'6s'"));
        assert_eq!(shown(&second), ["9:8 there is a gate `errors` before this one"]);
        assert_eq!(shown(&second.replacen("errors", "latency", 1)), Vec::<String>::new());
    }

    #[test]
    fn comparisons() {
        let good = "[[gate]]\nname = 'errors'\nhttp = 'http://{address}/'\ncompare = 'higher'\nsamples = 8\n";
        let apart = "what is compared must tell instances apart: it needs `{address}` or `{id}` somewhere";
        let few = "can never tell anything: at least 8";
        table(
            good,
            &[
                ("", "", None),
                ("http = 'http://{address}/'", "command = ['check', '--of={id}']", None),
                (
                    "http = 'http://{address}/'",
                    "prometheus = { server = 'http://h', query = 'x{i=\"{id}\"}' }",
                    None,
                ),
                ("{address}", "h", Some(&format!("4:11 {apart}"))),
                ("http://{address}/", "$STATS", Some(&format!("4:11 {apart}"))),
                ("= 8", "= 7", Some(&format!("5:11 `compare` with `samples = 7` {few}"))),
                ("samples = 8", "", Some(&format!("1:1 `compare` with `samples = 1` {few}"))),
                ("= 8", "= 0", Some("5:11 0 numbers say nothing: at least 1")),
            ],
        );
    }

    #[test]
    fn hooks_and_notifications() {
        let good = "[[hook]]\non = 'after-launch'\ncommand = ['register']\ntimeout = '5s'\n[[notify]]\n\
            webhook = '$SLACK'\n";
        let one = "a hook has exactly one of `command`, `http`; here is";
        let url = "an URL begins with `http://` or `https://` and a host, or is `$NAME`: the name of an environment \
            variable that has it";
        table(
            good,
            &[
                ("", "", None),
                ("command = ['register']", "http = '$HOOK'", None),
                ("$SLACK", "https://hooks.example/x", None),
                ("command = ['register']\n", "", Some(&format!("1:1 {one} none"))),
                ("timeout", "http = 'http://h'\ntimeout", Some(&format!("1:1 {one} `command`, `http`"))),
                ("['register']", "[]", Some("3:11 a command begins with a program")),
                ("command = ['register']", "http = 'h'", Some(&format!("3:8 {url}"))),
                ("'5s'", "'-5s'", Some("4:11 `-5s` is not a duration such as \"60s\", \"5m\" or \"2h\"")),
                ("$SLACK", "${SLACK}", Some(&format!("6:11 {url}"))),
            ],
        );
    }
}
