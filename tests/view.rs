//! What a person sees of a roll: a simulated fleet is rolled in a process of its own on a terminal of its own, with the
//! output of the real commands.

use std::process::{Command, Output as Ran, Stdio};
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Waker};

use jiff::SignedDuration;
use rekiln::cli::Output;
use rekiln::digest::Digest;
use rekiln::fleet::Fleet;
use rekiln::fleet::generation::Target;
use rekiln::fleet::journal::{Journal, Writer};
use rekiln::fleet::policy::Policy;
use rekiln::fleet::roll::{Order, Roll};
use rekiln::provider::sim::{GateFaults, Sim, SimStore, SimSurroundings};

/// Set in the process that rolls; with `json` the output is for machines.
const ROLLING: &str = "REKILN_TEST_VIEW";

/// Rolls six simulated instances, twice. Does nothing in an ordinary test run.
#[test]
fn rolling() {
    let Some(how) = std::env::var_os(ROLLING) else { return };
    let fleet: Fleet = toml::from_str(
        "image = 'web'\nsize = 6\n[local]\nlisten = '127.0.0.1:1'\nport = 80\n\
         [health]\nhttp = { port = 80, path = '/' }\n[roll]\ncanary = 1\nsoak = '2m'\n",
    )
    .expect("a fleet");
    let policy = Policy::of(&fleet).expect("a policy");
    let (sim, store) = (Sim::new(policy, 1), SimStore::new(1, 0, SignedDuration::from_hours(1)));
    let gates = GateFaults::default();
    let surroundings = SimSurroundings { store: &store, sim: &sim, fleet: "web", gates, bad_hooks: 0 };
    let mut journal = Journal::fleeting("web", Writer::this("rekiln roll web"));
    let (output, stop) = (Output::new(how == "json"), AtomicBool::new(false));
    for image in ["first", "second"] {
        let roll = Roll {
            name: "web",
            fleet: &fleet,
            target: Target::new(&fleet, Digest::of(image.as_bytes())),
            provider: &sim,
            surroundings: &surroundings,
            journal: &mut journal,
            progress: &output,
            stop: &stop,
        };
        let mut run = Box::pin(roll.run(Order::default()));
        // Everything simulated is ready at once.
        let Poll::Ready(result) = run.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("it waits")
        };
        result.expect("it completes");
        drop(run);
        output.line("it is done");
    }
}

/// Runs `rolling` in a shell command, in which `$ROLLING` is how.
fn run(shell: &str, how: &str, colour: bool) -> Ran {
    let this = std::env::current_exe().expect("this binary");
    let test = format!("'{}' --exact view::rolling --nocapture --test-threads=1", this.display());
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &shell.replace("ROLLING", &test)]).env(ROLLING, how).env("TERM", "xterm");
    if colour {
        command.env_remove("NO_COLOR");
    } else {
        command.env("NO_COLOR", "1");
    }
    let ran = command.stdin(Stdio::null()).output().expect("a shell");
    assert!(ran.status.success(), "{ran:?}");
    ran
}

/// Returns what a terminal of so many columns got; `script` of util-linux makes one.
fn on_a_terminal(columns: usize, colour: bool) -> String {
    // What it says has `ROLLING` in double quotes, since its own path is in single ones.
    let shell = format!("script -qec \"stty cols {columns} rows 24; ROLLING\" /dev/null");
    String::from_utf8(run(&shell, "text", colour).stdout).expect("UTF-8")
}

/// The lines of a terminal of so many columns, from its bytes, without what steers it.
fn letters(text: &str, columns: usize) -> Vec<String> {
    let mut letters = String::new();
    let mut rest = text.chars();
    while let Some(sign) = rest.next() {
        match sign {
            // A sequence ends with its first letter.
            '\x1b' => drop(rest.by_ref().find(char::is_ascii_alphabetic)),
            '\r' => letters.push('\n'),
            _ => letters.push(sign),
        }
    }
    // A line that fills the terminal ends there, without a sign that says so.
    let lines = letters.lines().flat_map(|line| {
        let signs: Vec<char> = line.chars().collect();
        signs.chunks(columns).map(|row| row.iter().collect::<String>()).collect::<Vec<_>>()
    });
    lines.map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn on_a_terminal_a_roll_is_drawn_in_place() {
    let text = on_a_terminal(80, true);
    let lines_up = (1..9).any(|lines| text.contains(&format!("\x1b[{lines}A")));
    assert!(lines_up, "it is drawn over what it drew: {text:?}");
    assert!(text.contains("\x1b[32m█"), "{text:?}");
    let lines = letters(&text, 80);
    let has = |part: &str| lines.iter().any(|line| line.contains(part));
    for part in ["fleet web rolls to", "wave 1 of 2", "of 6 current", "starting", "so far", "web-7"] {
        assert!(has(part), "{part}: {lines:#?}");
    }
    // Nothing of it stays, and what is said for good stands by itself.
    assert_eq!(lines.iter().filter(|line| *line == "it is done").count(), 2, "{lines:#?}");
    let end = text.rfind("it is done").expect("said");
    assert!(!text[end..].contains("current"), "{:?}", &text[end..]);
}

#[test]
fn a_narrow_terminal_gets_narrow_lines_and_who_wants_no_colour_none() {
    let text = on_a_terminal(30, false);
    let lines = letters(&text, 30);
    let below = lines.windows(2).filter(|two| two[0].starts_with("fleet web rolls to"));
    let below: Vec<_> = below.map(|two| two[1].clone()).collect();
    // A line that was too long would reach into the next.
    assert!(!below.is_empty() && below.iter().all(|line| line.ends_with("of 6 current")), "{lines:#?}");
    let coloured = ["\x1b[32m", "\x1b[36m", "\x1b[2m"].iter().any(|code| text.contains(code));
    assert!(!coloured, "{text:?}");
}

#[test]
fn where_nobody_watches_there_are_lines_and_for_machines_events() {
    let said = run("ROLLING", "text", true);
    let text = String::from_utf8(said.stderr).expect("UTF-8");
    assert!(!text.contains("current") && !text.contains('\x1b') && !text.contains('\r'), "{text:?}");
    assert!(text.contains("web-7        launched from "), "{text}");

    let said = run("ROLLING", "json", true);
    let text = String::from_utf8(said.stdout).expect("UTF-8");
    let objects: Vec<serde_json::Value> = text
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let seen: Vec<_> = objects.iter().filter(|object| object["event"] == "rolling").collect();
    assert!(seen.len() > 6 && seen.iter().all(|object| object["fleet"] == "web" && object["size"] == 6));
    let state = |object: &serde_json::Value| {
        (object["states"].clone(), object["holds"].clone(), object["wave"].clone())
    };
    assert!(seen.windows(2).all(|two| state(two[0]) != state(two[1]) || two[0]["begun"] != two[1]["begun"]));
    assert_eq!(seen.last().expect("one")["states"]["current"], 6);
}
