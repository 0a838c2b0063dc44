//! A watcher that runs, and the remote that it follows.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::change::git;
use crate::publish::stage::{Ended, Stage, Started};

/// What a watcher may take for anything here; far beyond what it needs.
const PATIENCE: Duration = Duration::from_mins(3);

/// How often is looked whether something is so.
const LOOK: Duration = Duration::from_millis(100);

pub const SECRET: &str = "a-secret-of-sixteen-letters-and-more";

/// The remote of a stage's repository, which watchers follow.
pub struct Remote<'a> {
    stage: &'a Stage,
    secret: PathBuf,
}

impl<'a> Remote<'a> {
    pub fn of(stage: &'a Stage) -> Self {
        let (origin, secret) = (stage.path("origin.git"), stage.path("secret"));
        fs::write(&secret, SECRET).expect("written");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("set");
        fs::create_dir(&origin).expect("a folder");
        git(&origin, &["init", "-q", "--bare", "-b", "main"]);
        git(&stage.repo(), &["remote", "add", "origin", &origin.display().to_string()]);
        Self { stage, secret }
    }

    pub fn push(&self, commit: &str) {
        let to = format!("+{commit}:refs/heads/main");
        git(&self.stage.repo(), &["push", "-q", "origin", &to]);
    }

    pub fn watch(&self, more: &[&str]) -> Watcher {
        self.watch_in(&[], more)
    }

    /// Watches in an environment of its own.
    pub fn watch_in(&self, environment: &[(&str, &str)], more: &[&str]) -> Watcher {
        let secret = self.secret.display().to_string();
        let usual =
            ["watch", "--listen", "127.0.0.1:0", "--poll", "1h", "--look", "1s", "--secret-file", &secret];
        // No archive is reached from here: what it has today is not what is tried.
        let archive = ["REKILN_MIRROR", "REKILN_SECURITY_MIRROR"].map(|name| (name, "http://127.0.0.1:9"));
        let started =
            self.stage.begin_with(&[&usual[..], more].concat(), &[&archive[..], environment].concat());
        let mut watcher = Watcher { started, port: 0 };
        watcher.port = watcher.until("it listens", |watcher| {
            let starts = watcher.events().into_iter().find(|event| event["event"] == "starts")?;
            starts["address"].as_str()?.rsplit(':').next()?.parse().ok()
        });
        watcher
    }

    /// What the journal of the watchers says, entry by entry.
    pub fn journal(&self) -> Vec<Value> {
        let dir = self.stage.path("store/watch/main");
        let mut files: Vec<PathBuf> =
            fs::read_dir(dir).expect("a journal").map(|entry| entry.expect("an entry").path()).collect();
        files.retain(|file| file.file_name().is_some_and(|name| name != "alive.json"));
        files.sort();
        let read = |file: &PathBuf| serde_json::from_slice(&fs::read(file).expect("read")).expect("JSON");
        files.iter().map(read).collect()
    }

    pub fn kinds(&self) -> Vec<String> {
        let kind = |entry: &Value| {
            let job = entry["event"]["job"]["do"].as_str().map(|job| format!(" {job}")).unwrap_or_default();
            format!("{}{job}", entry["event"]["kind"].as_str().expect("a kind"))
        };
        self.journal().iter().map(kind).collect()
    }
}

/// A watcher that runs; it is killed with the test.
pub struct Watcher {
    pub started: Started,
    port: u16,
}

impl Watcher {
    pub fn events(&self) -> Vec<Value> {
        let said = self.started.said();
        // The last line may not be there to its end.
        said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub fn until<T>(&self, what: &str, mut so: impl FnMut(&Self) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = so(self) {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "{what} never comes: {}", self.started.said());
            std::thread::sleep(LOOK);
        }
    }

    pub fn view(&self) -> Value {
        let (status, body) = self.http("GET", "/view.json", "");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    pub fn until_view(&self, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        self.until(what, |watcher| Some(watcher.view()).filter(|view| so(view)))
    }

    /// Waits until nothing is done, and the one instance of `web` is seen to be well.
    pub fn until_whole(&self) {
        self.until_view("it is whole", |view| {
            let mut fleets = view["fleets"].as_array().expect("a list").iter();
            let Some(web) = fleets.find(|fleet| fleet["name"] == "web") else { return false };
            let instances = web["instances"].as_array().expect("a list");
            let well = instances.len() == 1 && instances[0]["good"] == true;
            view["jobs"] == json!([]) && well && web["rollout"] == "completed"
        });
    }

    pub fn applied(&self, commit: &str) -> Value {
        self.until_view("the commit is carried out", |view| view["git"]["applied"]["id"] == commit)
    }

    pub fn http(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.http_as(&format!("Bearer {SECRET}"), method, path, body)
    }

    pub fn http_as(&self, who: &str, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: {who}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status"), body.to_owned())
    }

    pub fn pushed(&self) {
        let (status, body) = self.http("POST", "/hooks/git", "{}");
        assert_eq!(status, 200, "{body}");
    }

    /// Sends what Alertmanager sends.
    pub fn alert(&self, name: &str, instance: &str, status: &str) -> String {
        let alert = json!({
            "status": status, "labels": { "alertname": name, "instance": instance, "severity": "page" },
            "annotations": { "summary": "it is <slow>" },
        });
        let body = json!({ "version": "4", "status": status, "alerts": [alert] });
        let (code, said) = self.http("POST", "/hooks/alertmanager", &body.to_string());
        assert_eq!(code, 200, "{said}");
        said.trim_end().to_owned()
    }

    pub fn metric(&self, line: &str) -> bool {
        self.http("GET", "/metrics", "").1.lines().any(|found| found == line)
    }

    pub fn leads(&self) -> bool {
        self.view()["lead"]["mine"] == true
    }

    /// Ends it as a supervisor does.
    pub fn stop(mut self) -> Ended {
        let pid = self.started.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        self.started.end()
    }
}
