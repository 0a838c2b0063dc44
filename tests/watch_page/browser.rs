//! A browser, by the `WebDriver` protocol: <https://www.w3.org/TR/webdriver2/>.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::site::PATIENCE;

const PACKAGES: &str = "apt-get install chromium chromium-driver";

/// Nothing here is to be updated, fetched or told to anybody.
const ARGUMENTS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
];

/// A browser with one window. It ends when this is dropped, and its driver with it.
pub struct Browser {
    driver: Child,
    port: u16,
    /// The path of the session.
    session: String,
    /// The browser's own process.
    process: Option<Pid>,
    /// Its profile.
    profile: TempDir,
}

impl Browser {
    pub fn start() -> Self {
        for program in ["/usr/bin/chromium", "/usr/bin/chromedriver"] {
            assert!(std::path::Path::new(program).exists(), "{program} is missing: {PACKAGES}");
        }
        let profile = tempfile::Builder::new().prefix("rekiln-browser-").tempdir().expect("a directory");
        let driver = Command::new("/usr/bin/chromedriver")
            .arg("--port=0")
            // What a browser leaves in its home directory and among temporary files goes with the profile.
            .env("HOME", profile.path())
            .env("TMPDIR", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect(PACKAGES);
        // From here on whatever was started is ended, also by a panic.
        let mut browser = Self { driver, port: 0, session: String::new(), process: None, profile };
        let output = browser.driver.stdout.take().expect("its output");
        let mut lines = BufReader::new(output).lines();
        // The first line repeats the port that was asked for, 0.
        let port_of = |line: String| {
            line.rsplit_once("successfully on port ")
                .and_then(|(_, port)| port.trim_end_matches('.').parse().ok())
        };
        let port = lines.by_ref().map_while(Result::ok).find_map(port_of);
        // It writes on, and must not be stopped by a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        browser.port = port.expect("its port");
        browser.open();
        browser
    }

    fn open(&mut self) {
        let mut arguments: Vec<_> = ARGUMENTS.iter().map(|text| (*text).to_owned()).collect();
        arguments.push(format!("--user-data-dir={}", self.profile.path().join("data").display()));
        let options = json!({ "binary": "/usr/bin/chromium", "args": arguments });
        let wanted = json!({
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": options,
        });
        let made = self.send("POST", "/session", &json!({ "capabilities": { "alwaysMatch": wanted } }));
        self.session = format!("/session/{}", made["sessionId"].as_str().expect("a session"));
        let process = made["capabilities"]["goog:processID"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        self.process = process.and_then(Pid::from_raw);
    }

    /// One command; what it returns is in `value`.
    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_send(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn try_send(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let text = |error: std::io::Error| error.to_string();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).map_err(text)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).map_err(text)?;
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).map_err(text)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().map_err(|_| line.clone())?;
            }
            if line.trim_end().is_empty() {
                break;
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer).map_err(text)?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        match answer["value"]["error"].as_str() {
            Some(error) => Err(format!("{error}: {}", answer["value"]["message"])),
            None => Ok(answer["value"].clone()),
        }
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        self.send("POST", &format!("{}{path}", self.session), body)
    }

    pub fn go(&self, url: &str) {
        self.command("/url", &json!({ "url": url }));
    }

    /// Runs a script's body in the page and returns what it returns.
    pub fn run(&self, script: &str) -> Value {
        self.command("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until a script returns `true`.
    pub fn wait(&self, script: &str) {
        let until = Instant::now() + PATIENCE;
        while self.run(script) != true {
            assert!(
                Instant::now() < until,
                "never: {script}\n{}",
                self.run("return document.body.innerText")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A command of Chromium's own protocol.
    pub fn cdp(&self, name: &str, params: &Value) {
        self.command("/goog/cdp/execute", &json!({ "cmd": name, "params": params }));
    }

    /// What the page looks like for who has a screen of this size and likes it light or dark.
    pub fn screen(&self, width: u32, height: u32, dark: bool) {
        self.cdp(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 }),
        );
        let scheme = if dark { "dark" } else { "light" };
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.cdp("Emulation.setEmulatedMedia", &json!({ "features": [feature] }));
    }

    /// A picture of the window, as PNG in base 64.
    pub fn picture(&self) -> String {
        let value = self.send("GET", &format!("{}/screenshot", self.session), &Value::Null);
        value.as_str().expect("a picture").to_owned()
    }

    /// What the browser complained of since it was asked last: errors, and what a policy forbade.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.command("/se/log", &json!({ "type": "browser" }));
        let lines = log.as_array().expect("a list").iter();
        lines.map(|line| format!("{} {}", line["level"], line["message"])).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A browser that is told to end takes its helpers with it; one that does not listen is ended.
        let told = self.session.is_empty() || self.try_send("DELETE", &self.session, &Value::Null).is_ok();
        if let Some(process) = self.process.filter(|_| !told) {
            let _ = kill_process(process, Signal::KILL);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        // Helpers write into the profile until they have ended too, some moments later.
        let until = Instant::now() + PATIENCE;
        while std::fs::remove_dir_all(self.profile.path()).is_err()
            && self.profile.path().exists()
            && Instant::now() < until
        {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
