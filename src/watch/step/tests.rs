use std::sync::Arc;
use std::thread;

use super::*;
use crate::fleet::outside::server::Server;

static NO: AtomicBool = AtomicBool::new(false);

fn step(text: &str) -> Step {
    toml::from_str(text).expect(text)
}

/// Carries out a step of a case of `web-7` at `address`.
fn at(address: Option<SocketAddr>, step: &Step, resolved: &AtomicBool, stopped: &AtomicBool) -> Result<()> {
    let labels = BTreeMap::from([("severity".to_owned(), "page".to_owned())]);
    let document = Document {
        fleet: "web",
        alert: "High errors",
        labels: &labels,
        summary: Some("too many"),
        instance: Some(&InstanceId::new("web", 7)),
        address,
        since: Timestamp::UNIX_EPOCH,
        playbook: "restart",
        step: 2,
    };
    carry_out(step, &document, resolved, stopped)
}

fn carried(text: &str) -> Result<()> {
    at(Some(([127, 0, 0, 1], 4711).into()), &step(text), &NO, &NO)
}

const TOLD: &str = r#"{"fleet":"web","alert":"High errors","labels":{"severity":"page"},"summary":"too many","instance":"web-7","address":"127.0.0.1:4711","since":"1970-01-01T00:00:00Z","playbook":"restart","step":2}"#;

#[test]
fn what_a_step_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("told");
    let words = "'{address} {id} {fleet} {alert}'";
    let script = format!("'cat > {0}; echo \"$1\" >> {0}'", file.display());
    carried(&format!("command = ['sh', '-c', {script}, 'x', {words}]")).expect("it runs");
    let told = std::fs::read_to_string(file).expect("it was told");
    assert_eq!(told, format!("{TOLD}127.0.0.1:4711 web-7 web High errors\n"));
    let server = Server::answering(&[(204, "")]);
    carried(&format!("http = '{}/{{id}}?of={{alert}}'", server.url(""))).expect("it answers");
    let heard = server.heard().remove(0);
    assert!(heard.starts_with("POST /web-7?of=High%20errors HTTP") && heard.ends_with(TOLD), "{heard}");
    // The instance itself is asked.
    let server = Server::answering(&[(200, "")]);
    at(Some(server.address()), &step("http = 'http://{address}/flush'"), &NO, &NO).expect("it answers");
}

#[test]
fn failures() {
    let server = Server::answering(&[(503, "secret")]);
    let url = server.url("/secret?secret");
    let bad = format!("http = '{}'", url.replace("http://", "http://u:secret@"));
    for (text, expected) in [
        (
            "command = ['sh', '-c', 'echo not now >&2; exit 1']",
            "carrying out step 2 of playbook restart, run `sh`, for web-7 of fleet web: `sh -c echo not now >&2; exit 1` ended with exit status: 1:\nnot now",
        ),
        ("command = ['sleep', '60']\ntimeout = '100ms'", "was not done after 100ms and was killed"),
        (
            "command = ['sh', '-c', 'echo asking $1 >&2; exit 1', 'x', 'https://u:secret@h.example/secret']",
            "asking https://h.example/…",
        ),
        ("command = ['/nowhere/program']", "/nowhere/program"),
        (
            &bad,
            &format!(
                "send a request, for web-7 of fleet web: {} answered with HTTP status 503",
                server.url("")
            ),
        ),
        ("http = '$REKILN_TEST_NOT_SET'", "the environment variable REKILN_TEST_NOT_SET is not set"),
        ("rotate = true", "an instance is not replaced as other steps are carried out"),
        ("", "exactly one of"),
        ("wait = {}", "exactly one of"),
        ("name = 'flush'\nhttp = 'http://h'\ntimeout = 'x'", "playbook restart, flush, for web-7"),
    ] {
        let error = carried(text).expect_err(text).chain();
        assert!(error.contains(expected) && !error.contains("secret"), "{error}");
    }
}

#[test]
fn nothing_to_fill_in() {
    for text in [
        "http = 'http://{address}/'",
        "command = ['true', '{address}']",
        "wait = { http = 'http://{address}/' }",
        "wait = { command = ['true', '{address}'] }",
    ] {
        let error = at(None, &step(text), &NO, &NO).expect_err(text);
        assert!(error.chain().contains("nothing to fill in for `{address}`"), "{error:?}");
    }
    at(None, &step("command = ['true', '{id}']"), &NO, &NO).expect("it needs no address");
}

#[test]
fn waits() {
    let server = Server::answering(&[(503, ""), (404, ""), (200, "")]);
    let ready = format!("wait = {{ http = '{}' }}\nevery = '10ms'", server.url("/ready"));
    carried(&ready).expect("it is ready at last");
    let heard = server.heard();
    assert!(heard.len() == 3 && heard[0].starts_with("GET /ready HTTP"), "{heard:?}");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("tries").display().to_string();
    let script = format!("'cat > /dev/null; echo >> {file}; test $(wc -l < {file}) = 3'");
    carried(&format!("wait = {{ command = ['sh', '-c', {script}] }}\nevery = '10ms'")).expect("the third");
    assert_eq!(std::fs::read(&file).expect("tried").len(), 3);
}

#[test]
fn waits_in_vain() {
    let server = Server::start(1000, |_, _| (503, String::new()));
    let url = server.url("/secret");
    for (wait, expected) in [
        (format!("{{ http = '{url}' }}"), "answered with HTTP status 503"),
        ("{ command = ['sh', '-c', 'echo no >&2; exit 1'] }".to_owned(), "ended with exit status: 1:\nno"),
        ("{ command = ['sleep', '60'] }".to_owned(), "and was killed"),
        ("{ resolved = true }".to_owned(), "it is not resolved"),
    ] {
        let text = format!("wait = {wait}\nevery = '50ms'\ntimeout = '300ms'");
        let error = carried(&text).expect_err("in vain").chain();
        assert!(
            error.contains("waiting for 300ms, in vain; at last: ") && error.contains(expected),
            "{error}"
        );
        assert!(!error.contains("secret"), "{error}");
    }
}

/// Runs a wait that would be in vain for an hour, sets one of its ends while it sleeps, and returns what comes of it.
fn ended(wait: &str, well: bool) -> Result<()> {
    let (resolved, stopped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let text = format!("wait = {wait}\nevery = '30m'\ntimeout = '1h'");
    let waiting = {
        let (resolved, stopped) = (Arc::clone(&resolved), Arc::clone(&stopped));
        thread::spawn(move || at(None, &step(&text), &resolved, &stopped))
    };
    thread::sleep(Duration::from_millis(200));
    (if well { &resolved } else { &stopped }).store(true, Ordering::SeqCst);
    waiting.join().expect("it ends")
}

#[test]
fn what_ends_a_wait() {
    for wait in ["{ resolved = true }", "{ command = ['false'] }", "{ http = 'http://127.0.0.1:1/' }"] {
        ended(wait, true).expect("it is resolved");
        let error = ended(wait, false).expect_err("it was stopped");
        assert!(error.chain().contains("stopped before its end") && error.exit_code() == 130, "{error:?}");
    }
    let yes = AtomicBool::new(true);
    // Nothing is even tried, and what is resolved is not stopped.
    at(None, &step("wait = { http = 'http://{address}/' }"), &yes, &yes).expect("it is resolved");
    let error = at(None, &step("wait = { command = ['true'] }"), &NO, &yes).expect_err("it was stopped");
    assert!(error.chain().contains("stopped before its end"), "{error:?}");
}
