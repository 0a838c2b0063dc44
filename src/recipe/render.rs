//! Templates to bytes: handlebars in strict mode, nothing escaped, nothing seen but variables and templates.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use handlebars::{
    Context, Handlebars, Helper, HelperDef, HelperResult, JsonTruthy as _, Output, RenderContext,
    RenderError, RenderErrorReason, Renderable as _, TemplateErrorReason, no_escape,
};

use super::{Recipe, RunScript, Var};
use crate::diagnostic::{Diagnostic, nearest};
use crate::notation;

/// How a finding about an unknown variable begins; its name and a backtick follow.
const UNKNOWN: &str = "unknown variable `";

/// Variables by name: those of a recipe's chain, merged.
pub type Vars = BTreeMap<String, Var>;

/// A file of an image, as it will be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Absolute path in the image.
    pub path: String,
    /// Permissions.
    pub mode: u32,
    /// `user` or `user:group`, by name in the image.
    pub owner: String,
    /// The file's bytes.
    pub content: Vec<u8>,
}

/// A script that is run while the image is baked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedScript {
    /// The template, for error messages and logs.
    pub template: String,
    /// The script's bytes; its first line says what runs it.
    pub content: Vec<u8>,
    /// Whether the machine is rebooted after it; never without a machine.
    pub reboot: bool,
    /// Whether the connection may be lost while it runs; never without a machine.
    pub expect_disconnect: bool,
}

/// Everything that one recipe's templates yield.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RenderedRecipe {
    /// Files, in the recipe's order.
    pub files: Vec<Rendered>,
    /// Run scripts, in the recipe's order.
    pub scripts: Vec<RenderedScript>,
}

/// The variables of a chain of recipes: a later one's win.
#[must_use]
pub fn merged_vars<'a>(chain: impl IntoIterator<Item = &'a Recipe>) -> Vars {
    chain.into_iter().flat_map(|recipe| recipe.vars.clone()).collect()
}

/// The templates of a repository, by path below `bootstrap/`.
#[derive(Debug, Clone, Default)]
pub struct Templates {
    texts: BTreeMap<String, String>,
    registry: Handlebars<'static>,
    /// What is wrong with those that do not compile.
    broken: BTreeMap<String, Diagnostic>,
}

impl Templates {
    /// Compiles the templates. One can include another by its path: `{{> web/common.conf.hbs}}`.
    #[must_use]
    pub fn new(texts: BTreeMap<String, String>) -> Self {
        let mut registry = Handlebars::new();
        registry.set_strict_mode(true);
        registry.register_escape_fn(no_escape);
        registry.register_helper("if", Box::new(StrictIf { positive: true }));
        registry.register_helper("unless", Box::new(StrictIf { positive: false }));
        let mut broken = BTreeMap::new();
        for (name, text) in &texts {
            if let Err(error) = registry.register_template_string(name, text) {
                let why = match error.reason() {
                    TemplateErrorReason::InvalidSyntax(why) => {
                        format!("not a handlebars template: {}", why.trim())
                    }
                    other => format!("not a handlebars template: {other}"),
                };
                let (line, column) = error.pos().unwrap_or((1, 1));
                let at = offset(text, line, column);
                broken.insert(name.clone(), Diagnostic::at(file_of(name), text, at..at, why));
            }
        }
        Self { texts, registry, broken }
    }

    /// Returns the text of the template, when there is such a one.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// Returns the names of all templates.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.texts.keys().map(String::as_str)
    }

    /// Returns what is wrong with templates that do not compile.
    pub fn broken(&self) -> impl Iterator<Item = &Diagnostic> {
        self.broken.values()
    }

    /// Renders the template `name`.
    ///
    /// # Errors
    /// A missing or broken template, an unknown variable, a helper used wrongly: with its place.
    pub fn render(&self, name: &str, vars: &Vars) -> Result<Vec<u8>, Diagnostic> {
        self.render_with(name, vars, vars)
    }

    /// Renders with `values`; errors speak of `vars`.
    fn render_with(&self, name: &str, vars: &Vars, values: &Vars) -> Result<Vec<u8>, Diagnostic> {
        if let Some(diagnostic) = self.broken.get(name) {
            return Err(diagnostic.clone());
        }
        if !self.texts.contains_key(name) {
            return Err(Diagnostic::file(file_of(name), "there is no such template"));
        }
        let text = self.registry.render(name, values).map_err(|error| self.explain(name, &error, vars))?;
        Ok(text.into_bytes())
    }

    /// Says everything that is wrong with rendering the template `name`, not only the first thing.
    #[must_use]
    pub fn check(&self, name: &str, vars: &Vars) -> Vec<Diagnostic> {
        let mut found: Vec<Diagnostic> = Vec::new();
        let mut assumed = vars.clone();
        while let Err(diagnostic) = self.render_with(name, vars, &assumed) {
            let unknown = diagnostic.message.strip_prefix(UNKNOWN).and_then(|rest| rest.strip_suffix('`'));
            // Go on as if it were known; what only follows from that guess is not reported.
            let guess = unknown.filter(|name| !name.contains(['.', '/', '[', '@'])).map(str::to_owned);
            let follows = unknown.is_none() && !found.is_empty() || found.contains(&diagnostic);
            if !follows {
                found.push(diagnostic);
            }
            match guess {
                Some(guess) if !follows => assumed.insert(guess, Var::Text(String::new())),
                _ => break,
            };
        }
        found
    }

    /// Renders what `recipe` asks for; every finding at once.
    ///
    /// # Errors
    /// As [`Templates::render`], for each file and script.
    pub fn render_recipe(&self, recipe: &Recipe, vars: &Vars) -> Result<RenderedRecipe, Vec<Diagnostic>> {
        let mut rendered = RenderedRecipe::default();
        let mut found = Vec::new();
        for file in &recipe.files {
            let mode =
                notation::mode(&file.mode).map_err(|why| Diagnostic::file(file_of(&file.template), why));
            match mode.and_then(|mode| Ok((mode, self.render(&file.template, vars)?))) {
                Ok((mode, content)) => {
                    let (path, owner) = (file.path.clone(), file.owner.clone());
                    rendered.files.push(Rendered { path, mode, owner, content });
                }
                Err(diagnostic) => found.push(diagnostic),
            }
        }
        for run in &recipe.runs {
            match self.render(&run.script, vars) {
                Ok(content) => {
                    let RunScript { script, reboot, expect_disconnect } = run.clone();
                    let script = RenderedScript { template: script, content, reboot, expect_disconnect };
                    rendered.scripts.push(script);
                }
                Err(diagnostic) => found.push(diagnostic),
            }
        }
        if found.is_empty() { Ok(rendered) } else { Err(found) }
    }

    fn explain(&self, name: &str, error: &RenderError, vars: &Vars) -> Diagnostic {
        // The error of a partial names the partial.
        let name =
            error.template_name.as_deref().filter(|name| self.texts.contains_key(*name)).unwrap_or(name);
        let text = self.text(name).unwrap_or_default();
        let from = offset(text, error.line_no.unwrap_or(1), error.column_no.unwrap_or(1));
        match error.reason() {
            RenderErrorReason::MissingVariable(Some(variable)) => {
                // handlebars points at the braces; the reader looks for the name.
                let start = text[from..].find(variable.as_str()).map_or(from, |at| from + at);
                let span = start..start + variable.len();
                let known = dotted(vars);
                let found = Diagnostic::at(file_of(name), text, span, format!("{UNKNOWN}{variable}`"));
                match nearest(variable, known.iter().map(String::as_str)) {
                    Some(meant) => found.help(format!("did you mean `{meant}`?")),
                    None if known.is_empty() => found.help("no recipe in the chain sets any [vars]"),
                    None => found.help(format!("variables here: {}", known.join(", "))),
                }
            }
            RenderErrorReason::MissingVariable(None) => {
                Diagnostic::at(file_of(name), text, from..from, "unknown variable")
            }
            RenderErrorReason::PartialNotFound(partial) => {
                let found = Diagnostic::at(
                    file_of(name),
                    text,
                    from..from,
                    format!("no template `{partial}` to include"),
                );
                match nearest(partial, self.names()) {
                    Some(meant) => found.help(format!("did you mean `{meant}`?")),
                    None => found.help("paths are relative to bootstrap/"),
                }
            }
            reason => Diagnostic::at(file_of(name), text, from..from, reason.to_string()),
        }
    }
}

/// Tells whether a file of this name is a template: `.hbs`, and nothing else below `bootstrap/`.
#[must_use]
pub fn is_template(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "hbs")
}

/// Where a template lies in the repository.
#[must_use]
pub fn file_of(template: &str) -> PathBuf {
    Path::new("bootstrap").join(template)
}

/// `if` and `unless` that refuse an unknown variable: handlebars' own take it for false even in strict mode.
struct StrictIf {
    positive: bool,
}

impl HelperDef for StrictIf {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        render: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let param = helper.param(0).ok_or(RenderErrorReason::ParamNotFoundForIndex("if", 0))?;
        if param.is_value_missing() {
            return Err(RenderError::strict_error(param.relative_path()));
        }
        let branch = if param.value().is_truthy(false) == self.positive {
            helper.template()
        } else {
            helper.inverse()
        };
        branch.map_or(Ok(()), |template| template.render(registry, context, render, out))
    }
}

/// Lists variables as templates write them: `site.name` for a table's.
fn dotted(vars: &Vars) -> Vec<String> {
    let mut names = Vec::new();
    for (name, var) in vars {
        names.push(name.clone());
        if let Var::Table(table) = var {
            names.extend(dotted(table).into_iter().map(|below| format!("{name}.{below}")));
        }
    }
    names
}

/// Returns the byte offset of a line and column, both from 1.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let within = text[start..].char_indices().nth(column.saturating_sub(1)).map_or(0, |(at, _)| at);
    start + within
}

#[cfg(test)]
mod tests {
    use super::*;

    fn templates(texts: &[(&str, &str)]) -> Templates {
        Templates::new(texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    }

    fn vars(text: &str) -> Vars {
        toml::from_str(text).expect("the test's variables are TOML")
    }

    #[test]
    fn renders_without_escaping() {
        let all = templates(&[
            (
                "a.hbs",
                "x {{greeting}} {{#each list}}{{this}},{{/each}}{{#if on}}yes{{else}}no{{/if}} {{t.k}} {{> b/part.hbs}}\n",
            ),
            ("b/part.hbs", "<{{n}}>"),
        ]);
        let vars = vars("greeting = '<&\"'\nlist = ['p', 'q']\non = false\nn = 3\nt = { k = 'v' }");
        let text = all.render("a.hbs", &vars).expect("it renders");
        assert_eq!(String::from_utf8_lossy(&text), "x <&\" p,q,no v <3>\n");
    }

    #[test]
    fn unknown_variables_are_found_where_they_stand() {
        let known = vars("greeting = 'hello'\nsite = { name = 'x' }");
        for (text, line, column, message, help) in [
            ("a\n  b {{greting}}", 2, 7, "unknown variable `greting`", "did you mean `greeting`?"),
            ("{{ site.nam }}", 1, 4, "unknown variable `site.nam`", "did you mean `site.name`?"),
            ("\n{{#if greting}}x{{/if}}", 2, 7, "unknown variable `greting`", "did you mean `greeting`?"),
            (
                "\n{{#unless greting}}x{{/unless}}",
                2,
                11,
                "unknown variable `greting`",
                "did you mean `greeting`?",
            ),
            (
                "{{#each zzz}}x{{/each}}",
                1,
                9,
                "unknown variable `zzz`",
                "variables here: greeting, site, site.name",
            ),
            ("{{> a/x.hbs}}", 1, 1, "no template `a/x.hbs` to include", "did you mean `a/y.hbs`?"),
        ] {
            let found =
                templates(&[("t.hbs", text), ("a/y.hbs", "")]).render("t.hbs", &known).expect_err(text);
            assert_eq!(found.file, Path::new("bootstrap/t.hbs"), "{text}");
            assert_eq!((found.line, found.column, found.message.as_str()), (line, column, message), "{text}");
            assert_eq!(found.help.as_deref(), Some(help), "{text}");
        }
    }

    #[test]
    fn every_unknown_variable_at_once() {
        let all = templates(&[(
            "a.hbs",
            "{{one}} {{known}}\n{{#if two}}{{/if}} {{one}}\n{{#each three}}{{/each}} {{site.x}}",
        )]);
        let found = all.check("a.hbs", &vars("known = 1"));
        let places: Vec<_> =
            found.iter().map(|found| (found.line, found.column, found.message.as_str())).collect();
        let expected = [
            (1, 3, "unknown variable `one`"),
            (2, 7, "unknown variable `two`"),
            (3, 9, "unknown variable `three`"),
        ];
        assert_eq!(places, expected);
        assert_eq!(
            all.check("a.hbs", &vars("one = 1\ntwo = 2\nthree = []\nknown = 1\nsite = { x = 1 }")),
            []
        );
    }

    #[test]
    fn an_error_in_an_included_template_names_it() {
        let all = templates(&[("a.hbs", "{{> b.hbs}}"), ("b.hbs", "ok\n{{nope}}")]);
        let found = all.render("a.hbs", &Vars::new()).expect_err("nope is unknown");
        assert_eq!((found.file.as_path(), found.line, found.column), (Path::new("bootstrap/b.hbs"), 2, 3));
    }

    #[test]
    fn broken_templates_have_a_place() {
        let found =
            templates(&[("a.hbs", "fine\n{{#if x}}")]).render("a.hbs", &Vars::new()).expect_err("unclosed");
        assert_eq!(found.file, Path::new("bootstrap/a.hbs"));
        assert!(found.line >= 1, "{found}");
    }

    #[test]
    fn the_last_of_a_chain_wins() {
        let recipe = |vars: &str| -> Recipe {
            toml::from_str(&format!("source = {{ debian = 'bookworm' }}\n[vars]\n{vars}")).expect("a recipe")
        };
        let (ground, top) = (recipe("a = 1\nb = 1"), recipe("b = 2"));
        assert_eq!(merged_vars([&ground, &top]), vars("a = 1\nb = 2"));
    }
}
