//! Every finding about a repository: what each file says, and what the files say of each other.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::SignedDuration;

use super::{Repository, playbook_file, recipe_file};
use crate::diagnostic::{Diagnostic, nearest};
use crate::fleet::moment::lasting;
use crate::fleet::specification::{any_image, too_large, vars};
use crate::fleet::{self, Alert, Fleet};
use crate::notation;
use crate::pipeline::order::circle;
use crate::recipe::Recipe;
use crate::recipe::document::Document;
use crate::recipe::render::{is_template, merged_vars};
use crate::recipe::validate::{Surroundings, validate};

impl Repository {
    /// Collects every finding, sorted by file and place.
    pub(super) fn check(&self) -> Vec<Diagnostic> {
        let names: BTreeSet<String> = self.recipes.keys().cloned().collect();
        let around = Surroundings { recipes: &names, templates: &self.templates };
        let mut found: Vec<Diagnostic> = self.templates.broken().cloned().collect();
        for (name, document) in &self.recipes {
            found.extend(bad_name(name, &document.file));
            found.extend(document.found.iter().cloned());
            found.extend(validate(document, &around));
            found.extend(self.check_parent(name, document));
            found.extend(self.check_chain(name, document));
        }
        for (name, document) in self.fleets.files() {
            found.extend(bad_name(name, &document.file));
            found.extend(document.found.iter().cloned());
            found.extend(fleet::validate::shards(document));
            found.extend(self.check_order(name, document));
            found.extend(self.check_playbooks(document));
        }
        found.extend(self.fleets.clashes());
        for (name, document) in self.fleets.iter() {
            found.extend(fleet::validate::validate(document, &names));
            found.extend(self.check_fleet_ports(document));
            found.extend(self.check_user_data(name, document));
        }
        for (name, document) in &self.playbooks {
            found.extend(bad_name(name, &document.file));
            found.extend(document.found.iter().cloned());
            found.extend(fleet::validate::playbook(document));
        }
        let key = |found: &Diagnostic| (found.file.clone(), found.line, found.column, found.message.clone());
        found.sort_by_key(key);
        // One template that several recipes use, one recipe seen from two, or what a file says of all its shards, is one finding.
        found.dedup();
        found
    }

    /// Checks that the recipe does not stand on an image that is derived from a vendor's disk.
    fn check_parent(&self, name: &str, document: &Document<Recipe>) -> Option<Diagnostic> {
        let below = document.value.as_ref()?.source.parent()?;
        self.recipes.get(below)?.value.as_ref()?.source.vendor()?;
        let message = format!(
            "`{name}` stands on `{below}`, which is derived from a vendor's disk: nothing is baked on top of such an image; put it into that recipe"
        );
        Some(document.at("/source/image", message))
    }

    /// Checks what needs a recipe's whole chain: that it ends, its variables, its ports.
    fn check_chain(&self, name: &str, document: &Document<Recipe>) -> Vec<Diagnostic> {
        let (documents, cycle) = self.documents(name);
        if let Some(cycle) = cycle {
            return vec![document.at("/source/image", format!("the recipe stands on itself: {cycle}"))];
        }
        // What is left out of a broken file is no ground for findings about what is missing.
        let recipes: Vec<&Recipe> = documents.iter().filter_map(|document| document.value.as_ref()).collect();
        let whole = documents.iter().all(|document| document.is_whole());
        let (Some(recipe), true) = (&document.value, whole && ends(&recipes)) else { return Vec::new() };
        let mut found = Vec::new();
        let vars = merged_vars(recipes.iter().copied());
        let own = recipe.files.iter().map(|file| &file.template);
        for template in own.chain(recipe.runs.iter().map(|run| &run.script)) {
            if self.templates.text(template).is_some() {
                found.extend(self.templates.check(template, &vars));
            }
        }
        let ports = tcp_ports(&recipes);
        for (index, check) in recipe.checks.iter().enumerate() {
            let port = check.http.port;
            if port != 0 && !ports.contains(&port) {
                let pointer = format!("/check/{index}/http/port");
                let found_here =
                    document.at(&pointer, format!("port {port} is not declared in [services] ports"));
                found.push(found_here.help(format!("add \"{port}/tcp\" there")));
            }
        }
        found
    }

    /// Checks that the ports a fleet talks to are open in its image.
    fn check_fleet_ports(&self, document: &Document<Fleet>) -> Vec<Diagnostic> {
        let Some(fleet) = &document.value else { return Vec::new() };
        let documents = self.documents(&fleet.image).0;
        let recipes: Vec<&Recipe> = documents.iter().filter_map(|document| document.value.as_ref()).collect();
        if !ends(&recipes) || !documents.iter().all(|document| document.is_whole()) {
            return Vec::new();
        }
        let ports = tcp_ports(&recipes);
        let port = fleet.local.as_ref().map(|local| ("/local/port", local.port));
        port.into_iter()
            .chain(fleet.health.http.iter().map(|http| ("/health/http/port", http.port)))
            .filter(|(_, port)| *port != 0 && !ports.contains(port))
            .map(|(pointer, port)| {
                let file = recipe_file(&fleet.image);
                let message = format!("the image `{}` does not declare port {port}", fleet.image);
                let help = format!("add \"{port}/tcp\" to [services] ports in {}", file.display());
                document.at(pointer, message).help(help)
            })
            .collect()
    }

    /// Checks that the fleets exist after which those of a file are rolled, and that none is rolled after itself.
    fn check_order(&self, name: &str, document: &Document<Fleet>) -> Vec<Diagnostic> {
        let Some(fleet) = &document.value else { return Vec::new() };
        let unknown =
            fleet.after.iter().enumerate().filter(|(_, after)| self.fleets.file_of(after).is_none());
        let mut found: Vec<Diagnostic> = unknown
            .map(|(index, after)| {
                let found = document.at(&format!("/after/{index}"), format!("there is no fleet `{after}`"));
                match nearest(after, self.fleets.known()) {
                    Some(meant) => found.help(format!("did you mean `{meant}`?")),
                    None => found,
                }
            })
            .collect();
        if let Some(circle) = circle(name, &self.fleets.files_after()) {
            found.push(document.at("/after", format!("the fleet is rolled after itself: {circle}")));
        }
        found
    }

    /// Checks that the playbooks of a fleet's rules exist, and that each has the time that it may take.
    fn check_playbooks(&self, document: &Document<Fleet>) -> Vec<Diagnostic> {
        let rules = document.value.iter().flat_map(|fleet| &fleet.alerts).enumerate();
        let check = |(at, rule): (usize, &Alert)| {
            let name = rule.playbook.as_ref()?;
            let Some(playbook) = self.playbooks.get(name) else {
                let found = document.at(
                    &format!("/alert/{at}/playbook"),
                    format!("there is no playbook `{}`", playbook_file(name).display()),
                );
                return Some(match nearest(name, self.playbooks.keys().map(String::as_str)) {
                    Some(meant) => found.help(format!("did you mean `{meant}`?")),
                    None => found,
                });
            };
            // What cannot be read is a finding of its own.
            let longest = playbook.value.as_ref().filter(|_| playbook.is_whole())?.longest().ok()?;
            let within = rule.within().ok()?;
            let shown = |time| lasting(SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX));
            (within < longest).then(|| {
                let message = format!(
                    "{} is less than the steps of `{name}` may take in all, {}: the instance would be replaced in the middle",
                    shown(within),
                    shown(longest)
                );
                document.at(&format!("/alert/{at}/within"), message)
            })
        };
        rules.filter_map(check).collect()
    }

    /// Checks that the user data of a fleet's instances are a template that renders to something that EC2 takes.
    fn check_user_data(&self, name: &str, document: &Document<Fleet>) -> Vec<Diagnostic> {
        const HERE: &str = "/aws/group/user_data";
        let aws = document.value.as_ref().and_then(|fleet| Some((fleet, fleet.aws.as_ref()?)));
        let group = aws.and_then(|(fleet, aws)| Some((fleet, aws, aws.group.as_ref()?)));
        let Some((fleet, aws, group)) = group else { return Vec::new() };
        let Some(template) = &group.user_data else { return Vec::new() };
        if self.templates.text(template).is_none() {
            if !is_template(template) {
                let message = format!("`{template}` is not a template: their names end in `.hbs`");
                return vec![document.at(HERE, message)];
            }
            let found = document.at(HERE, format!("there is no template `bootstrap/{template}`"));
            return vec![match nearest(template, self.templates.names()) {
                Some(meant) => found.help(format!("did you mean `{meant}`?")),
                None => found,
            }];
        }
        // What is left out of a broken file is no ground for findings about what is missing.
        if !document.is_whole() {
            return Vec::new();
        }
        let vars = vars(name, &fleet.image, any_image(), &aws.region, &group.vars);
        match self.templates.render(template, &vars) {
            Ok(text) => too_large(&text).map(|why| document.at(HERE, why)).into_iter().collect(),
            Err(_) => self.templates.check(template, &vars),
        }
    }

    /// Returns the documents from the ground to `name` as far as they exist, and the cycle if there is one.
    fn documents(&self, name: &str) -> (Vec<&Document<Recipe>>, Option<String>) {
        let mut documents = Vec::new();
        let mut names = vec![name];
        while let Some(document) = names.last().and_then(|name| self.recipes.get(*name)) {
            documents.push(document);
            match document.value.as_ref().and_then(|recipe| recipe.source.parent()) {
                Some(next) if names.contains(&next) => {
                    names.push(next);
                    // One that only leads into a cycle is not on it; those that are say so.
                    let on_it = next == name;
                    return (documents, Some(names.join(" → ")).filter(|_| on_it));
                }
                Some(next) => names.push(next),
                None => break,
            }
        }
        documents.reverse();
        (documents, None)
    }
}

/// Tells whether a chain reaches the ground.
fn ends(recipes: &[&Recipe]) -> bool {
    recipes.first().is_some_and(|ground| ground.source.parent().is_none())
}

/// Collects the TCP ports that a chain declares.
fn tcp_ports(chain: &[&Recipe]) -> BTreeSet<u16> {
    let declared = chain.iter().flat_map(|recipe| &recipe.services.ports);
    let ports = declared.filter_map(|port| notation::port(port).ok());
    ports.filter(|port| port.tcp).map(|port| port.number).collect()
}

fn bad_name(name: &str, file: &Path) -> Option<Diagnostic> {
    notation::name(name).err().map(|why| Diagnostic::file(file, why))
}
