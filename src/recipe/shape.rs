//! The shape of a TOML document: its keys and types against a JSON schema.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use crate::diagnostic::{Diagnostic, nearest};
use crate::digest::Digest;

/// One walk over a document beside its schema. Each step returns the value without its wrong parts.
pub(super) struct Walk<'a> {
    file: &'a Path,
    text: &'a str,
    /// The schema of the whole document, where its references lead.
    root: &'a Value,
    /// What is wrong.
    pub(super) found: Vec<Diagnostic>,
    /// Where each value stands, by JSON pointer.
    pub(super) spans: BTreeMap<String, Range<usize>>,
}

impl<'a> Walk<'a> {
    /// Starts a walk over `text`, the content of `file`.
    pub(super) const fn new(file: &'a Path, text: &'a str, root: &'a Value) -> Self {
        Self { file, text, root, found: Vec::new(), spans: BTreeMap::new() }
    }

    /// Walks the document and returns it without its wrong parts.
    pub(super) fn document(&mut self, document: &Spanned<DeTable<'_>>) -> Value {
        self.table(document.get_ref(), document.span(), self.root, "")
    }

    fn say(&mut self, span: Range<usize>, message: String, help: Option<String>) {
        let mut diagnostic = Diagnostic::at(self.file, self.text, span, message);
        diagnostic.help = help;
        self.found.push(diagnostic);
    }

    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let mut schema = schema;
        while let Some(name) = reference(schema) {
            schema = &self.root["$defs"][name];
        }
        schema
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, schema: &'a Value, at: &str) -> Option<Value> {
        self.spans.insert(at.to_owned(), value.span());
        let is_digest = reference(schema) == Some("Digest");
        let schema = self.resolve(schema);
        if let Some(variants) = schema["oneOf"].as_array() {
            return self.variant(value, variants, at);
        }
        if let Some(choices) = schema["anyOf"].as_array() {
            return self.any_of(value, choices, at);
        }
        if !accepts(schema, value.get_ref()) {
            let message = format!("expected {}, found {}", wanted(schema), kind(value.get_ref()).1);
            self.say(value.span(), message, None);
            return None;
        }
        match value.get_ref() {
            DeValue::Table(table) => Some(self.table(table, value.span(), schema, at)),
            DeValue::Array(array) => {
                let items = array
                    .iter()
                    .enumerate()
                    .filter_map(|(index, item)| self.value(item, &schema["items"], &format!("{at}/{index}")))
                    .collect();
                Some(Value::Array(items))
            }
            DeValue::String(text) => {
                if is_digest && let Err(why) = text.parse::<Digest>() {
                    self.say(value.span(), why, None);
                    return None;
                }
                Some(Value::String(text.clone().into_owned()))
            }
            DeValue::Boolean(flag) => Some(Value::Bool(*flag)),
            DeValue::Integer(number) => self.integer(number, value.span(), schema),
            DeValue::Float(_) | DeValue::Datetime(_) => None,
        }
    }

    fn table(&mut self, table: &DeTable<'_>, span: Range<usize>, schema: &'a Value, at: &str) -> Value {
        let schema = self.resolve(schema);
        let properties = schema["properties"].as_object();
        let mut out = Map::new();
        for (key, value) in table {
            let name: &str = key.get_ref();
            let pointer = format!("{at}/{}", escape(name));
            let below = properties
                .and_then(|known| known.get(name))
                .or_else(|| Some(&schema["additionalProperties"]).filter(|other| other.is_object()));
            match below {
                Some(below) => {
                    if let Some(value) = self.value(value, below, &pointer) {
                        out.insert(name.to_owned(), value);
                    }
                }
                None => self.unknown_key(name, key.span(), properties, at),
            }
        }
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let missing: Vec<&str> = required.filter(|name| !table.contains_key(*name)).collect();
        for name in &missing {
            // A table's own span is its header; the document's is all of its text, which says nothing.
            if at.is_empty() {
                self.found.push(Diagnostic::file(self.file, format!("missing key `{name}`")));
            } else {
                self.say(span.clone(), format!("missing key `{name}` in {}", shown(at)), None);
            }
        }
        Value::Object(out)
    }

    fn unknown_key(
        &mut self,
        name: &str,
        span: Range<usize>,
        properties: Option<&Map<String, Value>>,
        at: &str,
    ) {
        let known: Vec<&str> = properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
        // A table of this one is nearer than any other section.
        let below = properties.into_iter().flatten().filter(|_| !at.is_empty());
        let below = below.filter(|(_, schema)| self.has(schema, name)).map(|(key, _)| key).next();
        let home = below.map(|key| format!("in [{}.{key}]", shown(at).trim_matches(['[', ']'])));
        let help = match (home.or_else(|| self.home(name)), nearest(name, known.iter().copied())) {
            (Some(home), _) => format!("`{name}` belongs {home}"),
            (None, Some(meant)) => format!("did you mean `{meant}`?"),
            (None, None) => format!("known keys here: {}", known.join(", ")),
        };
        let place = if at.is_empty() { String::new() } else { format!(" in {}", shown(at)) };
        self.say(span, format!("unknown key `{name}`{place}"), Some(help));
    }

    /// Says where a key is known that stands in the wrong section, in which a person easily errs.
    fn home(&self, name: &str) -> Option<String> {
        let top = self.root["properties"].as_object()?;
        if top.contains_key(name) {
            return Some("at the top, before the first section".to_owned());
        }
        top.iter().find_map(|(section, schema)| {
            let lists = schema["items"].is_object();
            self.has(schema, name)
                .then(|| if lists { format!("in [[{section}]]") } else { format!("in [{section}]") })
        })
    }

    /// Tells whether tables of `schema`, or those in a list of it, have a key.
    fn has(&self, schema: &Value, name: &str) -> bool {
        let alternatives = schema["anyOf"].as_array().map_or(&[] as &[Value], Vec::as_slice);
        let mut schemas = alternatives.iter().chain([schema, &schema["items"]]);
        schemas.any(|schema| self.known(schema).is_some_and(|known| known.contains_key(name)))
    }

    fn known<'s>(&'s self, schema: &'s Value) -> Option<&'s Map<String, Value>> {
        let schema = reference(schema).map_or(schema, |name| &self.root["$defs"][name]);
        schema["properties"].as_object()
    }

    /// An enum: either one word of several, or a table with exactly one of several keys.
    fn variant(&mut self, value: &Spanned<DeValue<'_>>, variants: &'a [Value], at: &str) -> Option<Value> {
        let words: Vec<&str> = variants.iter().filter_map(|variant| variant["const"].as_str()).collect();
        if !words.is_empty() {
            return self.word(value, &words);
        }
        let keys: BTreeMap<&str, &Value> = variants
            .iter()
            .filter_map(|variant| variant["properties"].as_object())
            .flat_map(|properties| properties.iter().map(|(key, schema)| (key.as_str(), schema)))
            .collect();
        let names = keys.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        let DeValue::Table(table) = value.get_ref() else {
            let message = format!("expected a table with one of {names}, found {}", kind(value.get_ref()).1);
            self.say(value.span(), message, None);
            return None;
        };
        let mut out = Map::new();
        let mut known = 0;
        for (key, below) in table {
            let name: &str = key.get_ref();
            if let Some(schema) = keys.get(name) {
                known += 1;
                if known > 1 {
                    self.say(key.span(), format!("exactly one of {names} can be set in {}", shown(at)), None);
                } else if let Some(below) = self.value(below, schema, &format!("{at}/{name}")) {
                    out.insert(name.to_owned(), below);
                }
            } else {
                let help = match nearest(name, keys.keys().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("one of {names}"),
                };
                self.say(key.span(), format!("unknown key `{name}` in {}", shown(at)), Some(help));
            }
        }
        if table.is_empty() {
            self.say(value.span(), format!("{} needs one of {names}", shown(at)), None);
        }
        (out.len() == 1).then_some(Value::Object(out))
    }

    fn word(&mut self, value: &Spanned<DeValue<'_>>, words: &[&str]) -> Option<Value> {
        let all = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let DeValue::String(text) = value.get_ref() else {
            let message = format!("expected one of {all}, found {}", kind(value.get_ref()).1);
            self.say(value.span(), message, None);
            return None;
        };
        if words.contains(&text.as_ref()) {
            return Some(Value::String(text.clone().into_owned()));
        }
        let help = match nearest(text, words.iter().copied()) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!("one of {all}"),
        };
        self.say(value.span(), format!("unknown value \"{text}\""), Some(help));
        None
    }

    /// A value of one of several types: checked as the first type that it could be.
    fn any_of(&mut self, value: &Spanned<DeValue<'_>>, choices: &'a [Value], at: &str) -> Option<Value> {
        let choices = choices.iter().map(|choice| self.resolve(choice));
        let choices: Vec<&'a Value> = choices.filter(|choice| choice["type"] != "null").collect();
        if let Some(choice) = choices.iter().find(|choice| accepts(choice, value.get_ref())) {
            return self.value(value, choice, at);
        }
        let all = choices.iter().map(|choice| wanted(choice)).collect::<Vec<_>>().join(" or ");
        self.say(value.span(), format!("expected {all}, found {}", kind(value.get_ref()).1), None);
        None
    }

    fn integer(&mut self, number: &DeInteger<'_>, span: Range<usize>, schema: &Value) -> Option<Value> {
        let least = schema["minimum"].as_i64().unwrap_or(i64::MIN);
        let most = schema["maximum"].as_i64().unwrap_or(match schema["format"].as_str() {
            Some("uint32") => i64::from(u32::MAX),
            _ => i64::MAX,
        });
        match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) if (least..=most).contains(&value) => Some(Value::from(value)),
            _ => {
                self.say(span, format!("{number} is not from {least} to {most}"), None);
                None
            }
        }
    }
}

fn reference(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix("#/$defs/")
}

/// The JSON schema's and a reader's word for what a value is.
fn kind(value: &DeValue<'_>) -> (&'static str, &'static str) {
    match value {
        DeValue::String(_) => ("string", "text"),
        DeValue::Integer(_) => ("integer", "a whole number"),
        DeValue::Float(_) => ("number", "a number with a fraction"),
        DeValue::Boolean(_) => ("boolean", "true or false"),
        DeValue::Datetime(_) => ("datetime", "a date or time (put it in quotes?)"),
        DeValue::Array(_) => ("array", "a list"),
        DeValue::Table(_) => ("object", "a table"),
    }
}

fn accepts(schema: &Value, value: &DeValue<'_>) -> bool {
    let kind = kind(value).0;
    match &schema["type"] {
        Value::String(name) => name == kind,
        Value::Array(names) => names.iter().any(|name| name == kind),
        _ => true,
    }
}

fn wanted(schema: &Value) -> &'static str {
    let name = match &schema["type"] {
        Value::Array(names) => names.iter().find(|name| *name != "null").and_then(Value::as_str),
        other => other.as_str(),
    };
    match name {
        Some("string") => "text in quotes",
        Some("integer") => "a whole number",
        Some("boolean") => "true or false",
        Some("array") => "a list",
        Some("object") => "a table",
        _ => "another value",
    }
}

/// Writes a JSON pointer as TOML does: `/file/0` is `[[file]]` to its reader.
fn shown(pointer: &str) -> String {
    let (mut name, mut listed) = (String::new(), false);
    for part in pointer.split('/').skip(1) {
        if part.parse::<usize>().is_ok() {
            listed = true;
        } else {
            name.push_str(if name.is_empty() { "" } else { "." });
            name.push_str(part);
            listed = false;
        }
    }
    if listed { format!("[[{name}]]") } else { format!("[{name}]") }
}

/// Writes a key as a part of a JSON pointer.
pub(super) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
