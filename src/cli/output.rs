//! How everything looks: calm text on a terminal, plain lines elsewhere, JSON for machines.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::error::{Error, Kind};
use crate::fleet::glance::Glance;
use crate::progress::{Event, Progress};

/// Columns of a line when there is no terminal to ask: what files and mails have been read at for long.
const WIDTH: usize = 80;

/// Where a command's text, progress and JSON go.
///
/// With `--json`, standard output carries one JSON object a line and nothing else; all text goes to standard
/// error. Without it, results go to standard output and progress to standard error.
pub struct Output {
    json: bool,
    bars: MultiProgress,
    /// The spinner of each running step, by scope and step; empty when standard error is no terminal.
    running: Mutex<BTreeMap<(String, String), ProgressBar>>,
    /// What is shown of each fleet that is rolled, and how it looks.
    rolling: Mutex<BTreeMap<String, Picture>>,
    terminal: bool,
}

/// The picture of a fleet that is rolled.
struct Picture {
    glance: Glance,
    /// Where it is drawn; hidden where nothing may be.
    bar: ProgressBar,
}

impl Output {
    /// Makes the output of one command.
    #[must_use]
    pub fn new(json: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self {
            json,
            bars: MultiProgress::new(),
            running: Mutex::default(),
            rolling: Mutex::default(),
            terminal,
        }
    }

    /// Tells whether JSON was asked for.
    #[must_use]
    pub const fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a line of the command's result; to standard error with `--json`.
    pub fn line(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        self.bars.suspend(|| {
            // A reader who went away (`| head`) is no error.
            let _ = if self.json {
                writeln!(std::io::stderr(), "{text}")
            } else {
                writeln!(std::io::stdout(), "{text}")
            };
        });
    }

    /// Prints the next step that suggests itself, to standard error: it is no part of the result.
    pub fn hint(&self, text: impl AsRef<str>) {
        self.say(&format!("{}  {}", self.paint("hint:", "1;36"), text.as_ref()));
    }

    /// Returns how many columns a line of the result may have: those of the terminal, else 80.
    #[must_use]
    pub fn width(&self) -> usize {
        if self.json { columns(rustix::stdio::stderr()) } else { columns(rustix::stdio::stdout()) }
    }

    /// Prints `value` as one JSON line on standard output, with `--json` only.
    pub fn json(&self, value: &impl Serialize) {
        if !self.json {
            return;
        }
        if let Ok(text) = serde_json::to_string(value) {
            let _ = writeln!(std::io::stdout(), "{text}");
        }
    }

    /// Prints an error: findings, message, causes, next steps.
    pub fn error(&self, error: &Error) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let _ = self.bars.clear();
        let mut text = String::new();
        if let Kind::Invalid(found) = error.kind() {
            for diagnostic in found {
                text.extend([diagnostic.to_string().as_str(), "\n\n"]);
            }
        }
        text.extend([self.paint("error:", "1;31").as_str(), " ", &error.chain(), "\n"]);
        for hint in error.hints() {
            text.extend([self.paint("hint:", "1;36").as_str(), "  ", hint, "\n"]);
        }
        let _ = write!(std::io::stderr(), "{text}");
        self.json(&serde_json::json!({ "event": "error", "message": error.chain(), "line": error.line(), "hints": error.hints(), "exit_code": error.exit_code() }));
    }

    fn colours(&self) -> bool {
        self.terminal && std::env::var_os("NO_COLOR").is_none()
    }

    fn paint(&self, text: &str, code: &str) -> String {
        if self.colours() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn say(&self, text: &str) {
        self.bars.suspend(|| {
            let _ = writeln!(std::io::stderr(), "{text}");
        });
    }
}

impl Output {
    /// Draws how a rollout is in the place where it drew it before. Machines are told only of what changed.
    fn show(&self, glance: Glance) {
        let mut rolling = self.rolling.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = glance.lines(columns(rustix::stdio::stderr()), self.colours()).join("\n");
        let before = rolling.remove(&glance.fleet);
        if before.as_ref().is_none_or(|before| !glance.is_as(&before.glance)) {
            self.json(&Event::Rolling(Box::new(glance.clone())));
        }
        let bar = before.map_or_else(|| self.canvas(), |before| before.bar);
        bar.set_message(lines);
        rolling.insert(glance.fleet.clone(), Picture { glance, bar });
    }

    fn canvas(&self) -> ProgressBar {
        // With JSON on it, standard output may be the same terminal.
        if self.json || !self.terminal {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{msg}");
        let bar = ProgressBar::no_length();
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        self.bars.add(bar)
    }

    /// Takes the picture of a fleet away.
    fn hide(&self, fleet: &str) {
        let mut rolling = self.rolling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Picture { bar, .. }) = rolling.remove(fleet) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    /// Tells whether a rollout is drawn, which says of every instance what its own line would.
    fn draws(&self) -> bool {
        !self.json && !self.rolling.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// Returns how many columns a line on `file` may have: those of the terminal, else 80.
fn columns(file: impl AsFd) -> usize {
    // A terminal that does not know its size says 0.
    let size = rustix::termios::tcgetwinsize(file);
    size.map(|size| usize::from(size.ws_col)).ok().filter(|columns| *columns > 0).unwrap_or(WIDTH)
}

impl Progress for Output {
    fn watches(&self) -> bool {
        self.terminal || self.json
    }

    fn tell(&self, event: Event) {
        // A picture is no line; machines are told of it where it is drawn.
        let event = match event {
            Event::Rolling(glance) => return self.show(*glance),
            Event::Ended { scope } => return self.hide(&scope),
            event => event,
        };
        self.json(&event);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started { scope, step } if self.terminal && !self.draws() => {
                let style = ProgressStyle::with_template("{prefix:12} {spinner} {msg}  {elapsed}");
                let bar = self.bars.add(ProgressBar::new_spinner());
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                bar.set_prefix(scope.clone());
                bar.set_message(step.clone());
                // Ten frames a second look smooth and cost nothing.
                bar.enable_steady_tick(Duration::from_millis(100));
                running.insert((scope, step), bar);
            }
            Event::Started { .. } | Event::Output { .. } | Event::Rolling(_) | Event::Ended { .. } => {}
            Event::Advanced { scope, step, done, total } => {
                if let Some(bar) = running.get(&(scope, step.clone())) {
                    bar.set_message(format!("{step}  {done}/{total}"));
                }
            }
            Event::Finished { scope, step, seconds } => {
                if let Some(bar) = running.remove(&(scope.clone(), step.clone())) {
                    bar.finish_and_clear();
                    self.bars.remove(&bar);
                }
                self.say(&format!("{scope:12} {step:<44} {seconds:6.1} s"));
            }
            Event::Note { scope, text } => self.say(&format!("{scope:12} {text}")),
        }
    }
}
