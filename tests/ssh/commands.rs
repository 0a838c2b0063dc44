//! Commands over a session: what they get, what comes back, how they end.

use std::io::{self, Read};

use rekiln::ssh::{Ended, Lines};

use super::server::{Stage, bytes};

/// More than the windows of both sides hold together (2 MiB each), and than what pipes and sockets take besides.
const MUCH: usize = 8 << 20;

#[test]
fn commands_end_with_their_codes_and_both_outputs_come() {
    let mut stage = Stage::new("key");
    for code in [0, 1, 255] {
        assert_eq!(stage.text(&format!("exit {code}"), b""), (Ended::Exit(code), String::new()));
    }
    let (ended, text) = stage.text("echo out; echo err >&2; exit 3", b"");
    assert_eq!(ended, Ended::Exit(3));
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["err", "out"]);
    // What is no name of a program, to a shell.
    assert_eq!(stage.run("/nowhere/at/all 2>/dev/null", b""), (Ended::Exit(127), Vec::new()));
    stage.session.close();
    stage.server.log_with("Received disconnect from");
}

#[test]
fn output_comes_while_the_command_runs() {
    let mut stage = Stage::new("key");
    let dir = tempfile::tempdir().expect("a directory");
    let seen = dir.path().join("seen");
    // It waits for somebody who has read its first word.
    let command = format!("echo first; while [ ! -e {} ]; do sleep 0.05; done; echo second", seen.display());
    let mut output = Vec::new();
    let ended = stage.session.run(&command, &mut io::empty(), &mut |bytes| {
        output.extend_from_slice(bytes);
        std::fs::write(&seen, "").expect("a file");
    });
    assert_eq!(ended.expect("nobody interrupts"), Ended::Exit(0));
    assert_eq!(output, b"first\nsecond\n");
}

#[test]
fn much_input_arrives_as_it_is_though_it_is_read_late() {
    let mut stage = Stage::new("key");
    let input = bytes(MUCH);
    let sum = rekiln::digest::Digest::of(&input).to_string();
    for command in ["sha256sum", "sleep 1; exec sha256sum"] {
        let (ended, text) = stage.text(command, &input);
        assert_eq!(ended, Ended::Exit(0));
        assert_eq!(text.split(' ').next(), Some(sum.trim_start_matches("sha256:")), "{command}");
    }
}

#[test]
fn much_output_comes_as_it_is_while_input_is_sent() {
    let mut stage = Stage::new("key");
    let input = bytes(MUCH);
    let (ended, output) = stage.run("exec cat", &input);
    assert_eq!(ended, Ended::Exit(0));
    assert!(output == input, "{} of {} bytes came, or others", output.len(), input.len());
    // Everything on the other stream, and nothing read before much is said.
    let (ended, output) = stage.run(&format!("exec >&2; head -c {MUCH} /dev/zero; exec cat"), &input);
    assert_eq!(ended, Ended::Exit(0));
    assert_eq!(output.len(), 2 * MUCH);
    assert!(output[..MUCH].iter().all(|byte| *byte == 0) && output[MUCH..] == input);
}

#[test]
fn what_commands_print_is_cut_into_lines_that_a_terminal_can_take() {
    let mut stage = Stage::new("key");
    let mut hostile: Vec<u8> = (0..=255).collect();
    hostile.extend_from_slice(
        b"\x1b]0;title\x07\x1b[2J\x1b[31mred\x1b[0m\x9b31m\xc2\x9b31m\x1bc\x1b[\n\x1b\nend\r\n",
    );
    hostile.extend(bytes(1 << 20));
    hostile.extend(std::iter::repeat_n(b'x', 1 << 20));
    hostile.extend_from_slice("\u{1b}[1;1H\u{202e}".repeat(100_000).as_bytes());

    let (mut lines, mut seen) = (Lines::default(), Vec::new());
    let mut line = |text: &str| seen.push(text.to_owned());
    let ended =
        stage.session.run("exec cat", &mut hostile.as_slice(), &mut |bytes| lines.take(bytes, &mut line));
    assert_eq!(ended.expect("nobody interrupts"), Ended::Exit(0));
    lines.end(&mut line);
    for text in &seen {
        assert!(text.chars().all(|c| c == '\t' || !c.is_control()), "{text:?}");
        assert!(text.len() <= 3 * 4096, "{} bytes in a line", text.len());
    }
    assert!(seen.iter().any(|text| text == "end"), "{:?}", &seen[..4]);
    let long = seen.iter().filter(|text| **text == "x".repeat(4096)).count();
    assert!((254..=256).contains(&long), "{long} lines of x");
}

#[test]
fn a_signal_is_no_exit_code() {
    let mut stage = Stage::new("key");
    for signal in ["TERM", "KILL"] {
        let (ended, _) = stage.run(&format!("kill -{signal} $$; sleep 60"), b"");
        assert_eq!(ended, Ended::Signal(signal.to_owned()));
    }
    // One that the protocol has no name for: sshd calls all of those the same.
    let (ended, _) = stage.run("kill -SYS $$; sleep 60", b"");
    assert_eq!(ended, Ended::Signal("SIG@openssh.com".to_owned()));
}

#[test]
fn a_command_need_not_read_its_input() {
    let mut stage = Stage::new("key");
    let input = bytes(MUCH);
    assert_eq!(stage.run("head -c 5; exit 3", &input), (Ended::Exit(3), input[..5].to_vec()));
    assert_eq!(stage.run("exit 4", &input), (Ended::Exit(4), Vec::new()));
    let closed = "exec < /dev/null; echo closed; sleep 0.5; echo later; exit 5";
    assert_eq!(stage.text(closed, &input), (Ended::Exit(5), "closed\nlater\n".to_owned()));
    // The session took no harm.
    assert_eq!(stage.text("cat", b"whole"), (Ended::Exit(0), "whole".to_owned()));
}

/// A file on a disk that breaks.
struct Broken(usize);

impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(1).ok_or_else(|| io::Error::other("the disk broke"))?;
        buffer.fill(b'x');
        Ok(buffer.len())
    }
}

#[test]
fn input_that_cannot_be_read_is_an_error_and_ends_the_command() {
    let mut stage = Stage::new("key");
    let error = stage.session.run("exec yes", &mut Broken(3), &mut |_| {}).expect_err("no input");
    assert_eq!(error.chain(), "reading what is sent to the machine: the disk broke");
    // What the command goes on to say until it is gone is nobody's.
    assert_eq!(stage.text("echo well", b""), (Ended::Exit(0), "well\n".to_owned()));
}

#[test]
fn a_lost_connection_is_no_exit_code_and_no_error() {
    let Stage { mut session, server } = Stage::new("key");
    let mut server = Some(server);
    let mut output = Vec::new();
    let ended = session.run("echo begun; sleep 100", &mut io::empty(), &mut |bytes| {
        output.extend_from_slice(bytes);
        drop(server.take());
    });
    let lost = Ended::Lost("it closed the connection".to_owned());
    assert_eq!((ended.expect("nobody interrupts"), output.as_slice()), (lost.clone(), &b"begun\n"[..]));
    // Nor is one that was lost before.
    assert_eq!(session.run("true", &mut io::empty(), &mut |_| {}).expect("nobody interrupts"), lost);
    session.close();
}

#[test]
fn a_connection_that_is_lost_while_much_is_sent_does_not_hang() {
    let Stage { mut session, server } = Stage::new("key");
    let mut server = Some(server);
    let input = bytes(MUCH);
    // It reads nothing, so all windows are full by then.
    let ended = session.run("echo begun; sleep 100", &mut input.as_slice(), &mut |_| drop(server.take()));
    assert!(matches!(ended, Ok(Ended::Lost(_))), "{ended:?}");
}

#[test]
fn servers_may_say_much_first_or_have_their_own_command() {
    let mut stage = Stage::new("forced-banner");
    assert_eq!(stage.text("echo in", b""), (Ended::Exit(0), "in\n".to_owned()));
    let mut stage = Stage::new("close-in-session");
    assert_eq!(stage.text("echo in", b"input"), (Ended::Exit(7), String::new()));
}

#[test]
fn a_server_that_starts_no_command_is_an_error() {
    let mut stage = Stage::new("no-sessions");
    let error = stage.session.run("true", &mut io::empty(), &mut |_| {}).expect_err("no command");
    assert_eq!(error.chain(), "the machine's SSH server starts no command: ConnectFailed");
    assert_eq!(error.hints(), ["it may allow none (`MaxSessions`), or have no memory for one"]);
}
