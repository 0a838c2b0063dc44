//! What a recipe means, checked as far as its own file, the other recipes' names and the templates tell.

mod ami;
mod derived;
mod publish;

use std::collections::{BTreeMap, BTreeSet};

use super::document::Document;
use super::render::{Templates, is_template};
use super::{Recipe, Source};
use crate::diagnostic::{Diagnostic, nearest};
use crate::inspect::rule_names;
use crate::notation;

/// What a recipe can refer to.
pub struct Surroundings<'a> {
    /// Names of all recipes of the repository.
    pub recipes: &'a BTreeSet<String>,
    /// All templates of the repository.
    pub templates: &'a Templates,
}

/// Debian suites that bakes are tested with. Later ones compress their kernel modules, which the initrd's init
/// does not read.
const SUITES: [&str; 1] = ["bookworm"];

/// Checks what `document` says. Findings about its shape are in the document already.
#[must_use]
pub fn validate(document: &Document<Recipe>, around: &Surroundings<'_>) -> Vec<Diagnostic> {
    let Some(recipe) = &document.value else { return Vec::new() };
    let mut checks = Checks { document, found: Vec::new() };
    checks.source(recipe, around);
    checks.packages(recipe);
    checks.files(recipe, around);
    checks.fetches(recipe);
    checks.services(recipe);
    checks.kernel(recipe);
    checks.harden(recipe);
    checks.boot_checks(recipe);
    derived::check(&mut checks, recipe);
    publish::check(&mut checks, &recipe.publish);
    checks.found
}

struct Checks<'a> {
    document: &'a Document<Recipe>,
    found: Vec<Diagnostic>,
}

impl Checks<'_> {
    fn say(&mut self, pointer: &str, message: impl Into<String>) {
        self.found.push(self.document.at(pointer, message));
    }

    fn say_nearest<'c>(
        &mut self,
        pointer: &str,
        message: String,
        wrong: &str,
        known: impl Iterator<Item = &'c str> + Clone,
    ) {
        let found = self.document.at(pointer, message);
        let found = match nearest(wrong, known.clone()) {
            Some(meant) => found.help(format!("did you mean `{meant}`?")),
            None => match known.collect::<Vec<_>>().join(", ") {
                all if all.is_empty() => found,
                all => found.help(format!("known: {all}")),
            },
        };
        self.found.push(found);
    }

    /// Reports what a parser of [`notation`] says about the value at `pointer`.
    fn parsed<T>(&mut self, pointer: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|why| self.say(pointer, why)).ok()
    }

    fn entries<'e>(
        &mut self,
        pointer: &str,
        entries: impl IntoIterator<Item = &'e String>,
        check: impl Fn(&str) -> Result<(), String>,
    ) {
        for entry in entries {
            if let Err(why) = check(entry) {
                self.found.push(self.document.at_entry(pointer, entry, why));
            }
        }
    }

    fn source(&mut self, recipe: &Recipe, around: &Surroundings<'_>) {
        match &recipe.source {
            Source::Image(name) if !around.recipes.contains(name) => {
                let known = around.recipes.iter().map(String::as_str);
                self.say_nearest(
                    "/source/image",
                    format!("there is no recipe `images/{name}.toml`"),
                    name,
                    known,
                );
            }
            Source::Debian(suite) if !SUITES.contains(&suite.as_str()) => {
                let message = format!("`{suite}` is not a Debian suite that rekiln bakes");
                self.say_nearest("/source/debian", message, suite, SUITES.into_iter());
            }
            Source::Image(_) | Source::Debian(_) | Source::Disk(_) | Source::Ami(_) => {}
        }
    }

    fn packages(&mut self, recipe: &Recipe) {
        // Those of a vendor's disk have rules of their own.
        if recipe.source.is_derived() {
            return;
        }
        self.entries("/packages", &recipe.packages, notation::package);
    }

    fn files(&mut self, recipe: &Recipe, around: &Surroundings<'_>) {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, file) in recipe.files.iter().enumerate() {
            let at = |key: &str| format!("/file/{index}/{key}");
            self.parsed(&at("path"), notation::image_path(&file.path));
            if seen.insert(&file.path, index).is_some() {
                self.say(&at("path"), format!("`{}` is written by another [[file]] above", file.path));
            }
            self.parsed(&at("mode"), notation::mode(&file.mode));
            self.parsed(&at("owner"), notation::owner(&file.owner));
            self.template(&at("template"), &file.template, around);
        }
        for (index, run) in recipe.runs.iter().enumerate() {
            self.template(&format!("/run/{index}/script"), &run.script, around);
        }
    }

    fn template(&mut self, pointer: &str, name: &str, around: &Surroundings<'_>) {
        if around.templates.text(name).is_some() {
            return;
        }
        if !is_template(name) && around.templates.text(&format!("{name}.hbs")).is_none() {
            let found =
                self.document.at(pointer, format!("`{name}` is not a template: their names end in `.hbs`"));
            self.found.push(found.help(format!("rename it to bootstrap/{name}.hbs")));
            return;
        }
        let known: Vec<&str> = around.templates.names().collect();
        self.say_nearest(
            pointer,
            format!("there is no template `bootstrap/{name}`"),
            name,
            known.into_iter(),
        );
    }

    fn fetches(&mut self, recipe: &Recipe) {
        let mut seen: BTreeSet<&str> = recipe.files.iter().map(|file| file.path.as_str()).collect();
        for (index, fetch) in recipe.fetches.iter().enumerate() {
            let at = |key: &str| format!("/fetch/{index}/{key}");
            let scheme = fetch.url.split_once("://").map(|(scheme, _)| scheme);
            if !matches!(scheme, Some("https" | "http")) || fetch.url.contains(char::is_whitespace) {
                self.say(&at("url"), format!("`{}` is not an https:// or http:// URL", fetch.url));
            }
            self.parsed(&at("path"), notation::image_path(&fetch.path));
            self.parsed(&at("mode"), notation::mode(&fetch.mode));
            // Two archives may be unpacked into one directory; a file has one source.
            if !fetch.unpack && !seen.insert(&fetch.path) {
                self.say(
                    &at("path"),
                    format!("`{}` is written by another [[file]] or [[fetch]] above", fetch.path),
                );
            }
        }
    }

    fn services(&mut self, recipe: &Recipe) {
        let unit = |text: &str| notation::unit(text).map(drop);
        self.entries("/services/enable", &recipe.services.enable, unit);
        self.entries("/services/disable", &recipe.services.disable, unit);
        self.entries("/services/ports", &recipe.services.ports, |text| notation::port(text).map(drop));
        for both in recipe.services.enable.intersection(&recipe.services.disable) {
            let message = format!("`{both}` is both enabled and disabled");
            self.found.push(self.document.at_entry("/services/disable", both, message));
        }
    }

    fn kernel(&mut self, recipe: &Recipe) {
        for (index, arg) in recipe.kernel.args.iter().enumerate() {
            let pointer = format!("/kernel/args/{index}");
            if arg.is_empty() || arg.chars().any(|c| c.is_whitespace() || c.is_control()) {
                self.say(&pointer, format!("{arg:?} is not one kernel argument: one entry each, no spaces"));
            } else if ["rekiln.", "init=", "rdinit=", "root="].iter().any(|own| arg.starts_with(own)) {
                let whose = if recipe.source.is_derived() { "the vendor's" } else { "rekiln's" };
                self.say(&pointer, format!("`{arg}` is {whose} to set"));
            }
        }
        let module = |text: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            if !text.is_empty() && text.bytes().all(allowed) {
                Ok(())
            } else {
                Err(format!("`{text}` is not a kernel module's name"))
            }
        };
        self.entries("/kernel/modules", &recipe.kernel.modules, module);
    }

    fn harden(&mut self, recipe: &Recipe) {
        for (index, exception) in recipe.harden.allow.iter().enumerate() {
            let at = |key: &str| format!("/harden/allow/{index}/{key}");
            if !rule_names().contains(&exception.rule.as_str()) {
                let message = format!("`{}` is not a rule of `rekiln inspect`", exception.rule);
                self.say_nearest(&at("rule"), message, &exception.rule, rule_names().into_iter());
            }
            if exception.why.trim().is_empty() {
                self.say(&at("why"), "an exception needs its reason");
            }
        }
    }

    fn boot_checks(&mut self, recipe: &Recipe) {
        for (index, check) in recipe.checks.iter().enumerate() {
            let at = |key: &str| format!("/check/{index}/{key}");
            self.parsed(&at("within"), notation::duration(&check.within));
            if !check.http.path.starts_with('/') {
                self.say(
                    &at("http/path"),
                    format!("`{}` is not a request path: it begins with `/`", check.http.path),
                );
            }
            if !(100..=599).contains(&check.http.status) {
                self.say(&at("http/status"), format!("{} is not an HTTP status", check.http.status));
            }
            if check.http.port == 0 {
                self.say(&at("http/port"), "0 is not a port");
            }
        }
        if let Some(memory) = &recipe.trial.memory {
            self.parsed("/trial/memory", notation::memory(memory));
        }
        if let Some(data) = &recipe.trial.data {
            self.parsed("/trial/data", notation::size(data));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::*;

    /// Findings as `line:column message (help)`.
    pub fn found(text: &str) -> Vec<String> {
        let recipes = ["base".to_owned(), "web".to_owned()].into();
        let templates = Templates::new([("web/site.conf.hbs".to_owned(), String::new())].into());
        let document = Document::<Recipe>::read(Path::new("x.toml"), text);
        assert!(document.is_whole(), "{:?}", document.found);
        let around = Surroundings { recipes: &recipes, templates: &templates };
        let shown = |found: &Diagnostic| {
            let help = found.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
            format!("{}:{} {}{help}", found.line, found.column, found.message)
        };
        validate(&document, &around).iter().map(shown).collect()
    }

    #[test]
    fn meanings() {
        let file = "[[file]]\ntemplate = 'web/site.conf.hbs'\npath = '/etc/x'\n";
        let table: &[(String, &[&str])] = &[
            (file.to_owned(), &[]),
            (format!("{file}{file}"), &["7:8 `/etc/x` is written by another [[file]] above"]),
            (
                format!("{file}mode = '0999'"),
                &["5:8 `0999` is not a mode such as \"0644\": three or four octal digits"],
            ),
            (
                format!("{file}owner = 'a b'"),
                &["5:9 `a b` is not an owner such as \"root\" or \"www-data:adm\""],
            ),
            (
                file.replace("/etc/x", "/run/x"),
                &["4:8 `/run/x` would not be seen: /run is made anew at each boot"],
            ),
            (
                file.replace("site.conf", "site.cnf"),
                &[
                    "3:12 there is no template `bootstrap/web/site.cnf.hbs` (did you mean `web/site.conf.hbs`?)",
                ],
            ),
            (
                "[[run]]\nscript = 'web/setup.sh'".to_owned(),
                &[
                    "3:10 `web/setup.sh` is not a template: their names end in `.hbs` (rename it to bootstrap/web/setup.sh.hbs)",
                ],
            ),
            ("packages = ['good', \"Bad\"]".to_owned(), &["2:21 `Bad` is not a Debian package name"]),
            (
                "[services]\nenable = ['a', 'b/c']\ndisable = ['a']\nports = ['80']".to_owned(),
                &[
                    "3:16 `b/c` is not a unit name such as \"nginx\" or \"logrotate.timer\"",
                    "5:10 `80` is not a port such as \"80/tcp\" or \"53/udp\"",
                    "4:12 `a` is both enabled and disabled",
                ],
            ),
            (
                "[kernel]\nargs = ['quiet splash', 'rekiln.debug=1']\nmodules = ['../x']".to_owned(),
                &[
                    "3:9 \"quiet splash\" is not one kernel argument: one entry each, no spaces",
                    "3:25 `rekiln.debug=1` is rekiln's to set",
                    "4:12 `../x` is not a kernel module's name",
                ],
            ),
            (
                "[harden]\nallow = [{ rule = 'setuid', why = ' ' }]".to_owned(),
                &["3:35 an exception needs its reason"],
            ),
            (
                "[[check]]\nhttp = { port = 0, path = 'x', status = 99 }\nwithin = '1 moon'".to_owned(),
                &[
                    "4:10 `1 moon` is not a duration such as \"60s\", \"5m\" or \"2h\"",
                    "3:27 `x` is not a request path: it begins with `/`",
                    "3:41 99 is not an HTTP status",
                    "3:17 0 is not a port",
                ],
            ),
        ];
        for (text, expected) in table {
            assert_eq!(found(&format!("source = {{ image = 'base' }}\n{text}")), *expected, "{text}");
        }
    }

    #[test]
    fn sources_and_rules() {
        assert_eq!(
            found("source = { image = 'bsae' }"),
            ["1:20 there is no recipe `images/bsae.toml` (did you mean `base`?)"]
        );
        let rule =
            found("source = { debian = 'bookworm' }\n[harden]\nallow = [{ rule = 'setuit', why = 'x' }]");
        assert_eq!(rule, ["3:19 `setuit` is not a rule of `rekiln inspect` (did you mean `setuid`?)"]);
    }

    #[test]
    fn a_fetch() {
        let fetch = |url: &str, path: &str| {
            let sha256 = "0".repeat(64);
            found(&format!(
                "source = {{ image = 'base' }}\n[[fetch]]\nurl = '{url}'\npath = '{path}'\nsha256 = '{sha256}'"
            ))
        };
        assert_eq!(fetch("https://x.example/a", "/opt/a"), Vec::<String>::new());
        assert_eq!(
            fetch("file:///etc/passwd", "/opt/a"),
            ["3:7 `file:///etc/passwd` is not an https:// or http:// URL"]
        );
        assert_eq!(fetch("https://x.example/a", "opt"), ["4:8 `opt` is not an absolute path"]);
    }
}
