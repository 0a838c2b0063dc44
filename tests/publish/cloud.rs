//! The AWS of these tests: the endpoint, and the proxy before it that spoils calls.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Deref;
use std::os::unix::fs::FileExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::tools;

/// How long anything may take before a test gives up: only one that hangs waits so long.
pub const PATIENCE: Duration = Duration::from_mins(3);
/// How often something is looked at that is waited for.
pub const LOOK: Duration = Duration::from_millis(20);

/// One of the two programs. Its input stays open as long as it is needed: it ends with it, whatever becomes of the test.
struct Program {
    child: Child,
    port: u16,
}

impl Program {
    fn start(name: &str, args: &[&str]) -> Self {
        let mut python = Command::new("python3");
        python.arg("-B").arg(tools::scripts().join(name)).args(args).env("PYTHONPATH", tools::dir());
        let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("a pipe");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let port = line.strip_prefix("listening ").and_then(|port| port.trim().parse().ok());
        let port = port.unwrap_or_else(|| panic!("{name} does not listen: {line:?}"));
        Self { child, port }
    }

    fn control(&self, method: &str, path: &str, given: &Value) -> Value {
        let (status, body) =
            http(self.port, method, &format!("/control/{path}"), &[], given.to_string().as_bytes());
        let text = String::from_utf8_lossy(&body);
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request on a connection of its own; the status and the body of the answer.
fn http(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the program listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n").into_bytes();
    for (name, value) in headers {
        request.extend(format!("{name}: {value}\r\n").as_bytes());
    }
    request.extend(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    request.extend(body);
    stream.write_all(&request).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let status = String::from_utf8_lossy(&answer[..end]).split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.expect("a status"), answer.split_off(end + 4))
}

/// A call as the proxy saw it.
#[derive(Debug, Clone, Deserialize)]
pub struct Call {
    pub service: String,
    pub region: String,
    pub operation: String,
    pub path: String,
    /// Its number among those that change something.
    pub mutating: Option<u64>,
    /// What the client was answered.
    pub status: Option<u16>,
    /// What was done to it.
    pub fault: Option<String>,
}

/// The endpoint and the proxy.
pub struct Cloud {
    endpoint: Program,
    proxy: Program,
    /// Where something is done past the proxy: the access key that says in whose account, and the region where that is not
    /// the one that is asked for.
    place: Mutex<(String, Option<String>)>,
}

/// The access key of the tests' own account.
const OWN_KEY: &str = "test";

/// A cloud that nobody else uses; it is empty and spoils nothing.
pub struct Lease(Option<Cloud>);

/// Clouds that wait for the next test: starting one takes seconds, emptying it does not.
static IDLE: Mutex<Vec<Cloud>> = Mutex::new(Vec::new());

impl Lease {
    pub fn new() -> Self {
        let idle = IDLE.lock().expect("no test panics in here").pop();
        let cloud = idle.unwrap_or_else(|| {
            let endpoint = Program::start("endpoint.py", &[]);
            let proxy = Program::start("faults.py", &["--upstream", &endpoint.port.to_string()]);
            Cloud { endpoint, proxy, place: Mutex::new((OWN_KEY.to_owned(), None)) }
        });
        cloud.reset();
        Self(Some(cloud))
    }
}

impl Deref for Lease {
    type Target = Cloud;

    fn deref(&self) -> &Cloud {
        self.0.as_ref().expect("it is there until the end")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // What a failed test did with it nobody knows.
        if !std::thread::panicking()
            && let (Ok(mut idle), Some(cloud)) = (IDLE.lock(), self.0.take())
        {
            idle.push(cloud);
        }
    }
}

impl Cloud {
    /// The address that commands are given.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.proxy.port)
    }

    /// Forgets everything.
    pub fn reset(&self) {
        self.forget_calls();
        self.here();
        self.endpoint.control("POST", "reset", &json!({}));
    }

    /// Forgets rules, calls and their numbers, and drops what is held.
    pub fn forget_calls(&self) {
        self.proxy.control("POST", "reset", &json!({}));
    }

    /// Sets which calls are spoiled how.
    pub fn rules(&self, rules: &Value) {
        self.proxy.control("POST", "rules", rules);
    }

    pub fn calls(&self) -> Vec<Call> {
        serde_json::from_value(self.proxy.control("GET", "calls", &json!({}))).expect("calls")
    }

    /// The operations of the calls that changed something, or were to.
    pub fn changes(&self) -> Vec<String> {
        let calls = self.calls().into_iter().filter(|call| call.mutating.is_some());
        calls.map(|call| call.operation).collect()
    }

    pub fn release(&self) {
        self.proxy.control("POST", "release", &json!({}));
    }

    /// Waits until a call is held; fails when the process ends without having made it.
    pub fn wait_for_held(&self, child: &mut Child) {
        let begun = Instant::now();
        while self.proxy.control("GET", "held", &json!({})) == json!([]) {
            let ended = child.try_wait().expect("its state");
            assert!(
                ended.is_none(),
                "it ended with {ended:?} before the call to be held; calls: {:?}",
                self.calls()
            );
            assert!(begun.elapsed() < PATIENCE, "nothing is held; calls: {:?}", self.calls());
            sleep(LOOK);
        }
    }

    /// Waits until the process has every answer but those held back, and has nothing left to do with them.
    pub fn wait_for_quiet(&self, pid: u32) {
        let (begun, mut quiet) = (Instant::now(), 0);
        while quiet < 5 {
            assert!(begun.elapsed() < PATIENCE, "it never comes to rest; calls: {:?}", self.calls());
            sleep(LOOK);
            let open = self.calls().iter().any(|call| call.status.is_none() && call.fault.is_none());
            quiet = if open || !asleep(pid) { 0 } else { quiet + 1 };
        }
    }

    /// How often a fresh resource is seen before it is ready.
    pub fn looks(&self, number: u32) {
        self.endpoint.control("POST", "looks", &json!({ "n": number }));
    }

    /// Moves the endpoint's clock.
    pub fn clock(&self, seconds: u32) {
        self.endpoint.control("POST", "clock", &json!({ "seconds": seconds }));
    }

    /// All snapshots, images and parameters.
    pub fn state(&self) -> Value {
        self.endpoint.control("GET", "state", &json!({}))
    }

    /// The digest of each block of a snapshot that is not all zero.
    pub fn content(&self, snapshot: &str) -> BTreeMap<u64, String> {
        let content = self.endpoint.control("POST", "content", &json!({ "snapshot": snapshot }));
        let content: BTreeMap<u64, String> = serde_json::from_value(content).expect("digests");
        let zero = super::stage::digest(&vec![0; super::stage::BLOCK]);
        content.into_iter().filter(|(_, digest)| *digest != zero).collect()
    }

    /// Puts another byte into a block of a snapshot, or takes the block away.
    pub fn spoil(&self, snapshot: &str, block: u64, missing: bool) {
        let given = json!({ "snapshot": snapshot, "block": block, "missing": missing });
        self.endpoint.control("POST", "spoil", &given);
    }

    /// Calls EC2 past the proxy, as somebody else would; the answer's XML.
    pub fn ec2(&self, region: &str, parameters: &str) -> String {
        self.form(region, "ec2", &format!("Version=2016-11-15&{parameters}"))
    }

    /// Calls EC2 Auto Scaling past the proxy.
    pub fn autoscaling(&self, region: &str, parameters: &str) -> String {
        self.form(region, "autoscaling", &format!("Version=2011-01-01&{parameters}"))
    }

    /// Calls Elastic Load Balancing past the proxy.
    pub fn elb(&self, region: &str, parameters: &str) -> String {
        self.form(region, "elasticloadbalancing", &format!("Version=2015-12-01&{parameters}"))
    }

    /// Tells the endpoint how instances, groups and target groups behave: see `tests/aws/endpoint.py`.
    pub fn control(&self, what: &str, given: &Value) -> Value {
        self.endpoint.control("POST", what, given)
    }

    /// What happened to instances, groups and target groups, from the entry on that has this number.
    pub fn log(&self, from: usize) -> Vec<Value> {
        let log = self.endpoint.control("GET", &format!("log?from={from}"), &json!({}));
        serde_json::from_value(log).expect("a list")
    }

    /// Calls IAM, which is in no region, past the proxy.
    pub fn iam(&self, parameters: &str) -> String {
        self.form("us-east-1", "iam", &format!("Version=2010-05-08&{parameters}"))
    }

    /// Says who could log in to instances, and who did.
    pub fn access(&self, given: &Value) {
        self.endpoint.control("POST", "access", given);
    }

    fn form(&self, region: &str, service: &str, body: &str) -> String {
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        self.call(region, service, "POST", "/", &[form], body.as_bytes())
    }

    /// From here on everything past the proxy is done in a region as a role.
    pub fn elsewhere(&self, region: &str, role: &str) {
        let parameters =
            format!("Version=2011-06-15&Action=AssumeRole&RoleArn={role}&RoleSessionName=somebody");
        let answer = self.form(region, "sts", &parameters);
        let key = answer.split_once("<AccessKeyId>").and_then(|(_, rest)| rest.split_once('<'));
        let key = key.unwrap_or_else(|| panic!("{answer}")).0.to_owned();
        *self.place.lock().expect("no panic") = (key, Some(region.to_owned()));
    }

    /// And again in the tests' own account, where it is asked for.
    pub fn here(&self) {
        *self.place.lock().expect("no panic") = (OWN_KEY.to_owned(), None);
    }

    /// The region where something is done that is asked for in this one.
    pub fn region(&self, asked: &str) -> String {
        self.place.lock().expect("no panic").1.clone().unwrap_or_else(|| asked.to_owned())
    }

    /// Makes a bucket.
    pub fn bucket(&self, region: &str, name: &str) {
        let place = format!(
            "<CreateBucketConfiguration><LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
        );
        self.call(region, "s3", "PUT", &format!("/{name}"), &[], place.as_bytes());
    }

    /// The names of all objects in a bucket, in their order; there must be fewer than a thousand.
    pub fn objects(&self, region: &str, bucket: &str) -> Vec<String> {
        let listed = self.call(region, "s3", "GET", &format!("/{bucket}?list-type=2"), &[], b"");
        assert!(listed.contains("<IsTruncated>false"), "{listed}");
        let names = listed.split("<Key>").skip(1).filter_map(|rest| rest.split_once('<'));
        names.map(|(name, _)| name.to_owned()).collect()
    }

    /// Reads an object past the proxy.
    pub fn object(&self, region: &str, bucket: &str, name: &str) -> Vec<u8> {
        self.answer(region, "s3", "GET", &format!("/{bucket}/{name}"), &[], b"")
    }

    /// Writes an object past the proxy.
    pub fn put_object(&self, region: &str, bucket: &str, name: &str, bytes: &[u8]) {
        self.answer(region, "s3", "PUT", &format!("/{bucket}/{name}"), &[], bytes);
    }

    /// Removes an object past the proxy.
    pub fn remove_object(&self, region: &str, bucket: &str, name: &str) {
        self.answer(region, "s3", "DELETE", &format!("/{bucket}/{name}"), &[], b"");
    }

    /// Writes a parameter past the proxy.
    pub fn parameter(&self, region: &str, name: &str, value: &str) {
        let headers =
            [("Content-Type", "application/x-amz-json-1.1"), ("X-Amz-Target", "AmazonSSM.PutParameter")];
        let body = json!({ "Name": name, "Value": value, "Type": "String", "Overwrite": true });
        self.call(region, "ssm", "POST", "/", &headers, body.to_string().as_bytes());
    }

    /// Makes an AMI with an empty snapshot, as somebody else would.
    pub fn foreign_image(&self, region: &str, name: &str) -> String {
        self.looks(0);
        let started: Value = serde_json::from_str(&self.call(
            region,
            "ebs",
            "POST",
            "/snapshots",
            &[],
            br#"{"VolumeSize":1}"#,
        ))
        .expect("JSON");
        let snapshot = started["SnapshotId"].as_str().expect("an id");
        let complete = format!("/snapshots/completion/{snapshot}");
        self.call(region, "ebs", "POST", &complete, &[("x-amz-ChangedBlocksCount", "0")], b"");
        let mapping = format!(
            "BlockDeviceMapping.1.DeviceName=/dev/xvda&BlockDeviceMapping.1.Ebs.SnapshotId={snapshot}"
        );
        let names = format!("Name={name}&RootDeviceName=/dev/xvda&VirtualizationType=hvm");
        let answer = self.ec2(region, &format!("Action=RegisterImage&{names}&{mapping}"));
        let at = answer.find("ami-").unwrap_or_else(|| panic!("{answer}"));
        answer[at..].chars().take_while(|letter| *letter != '<').collect()
    }

    /// Writes what a snapshot has, block by block, as EBS direct gives it to anyone who may read.
    pub fn read_snapshot(&self, region: &str, snapshot: &str, file: &File) {
        let get = |path: &str| self.answer(region, "ebs", "GET", path, &[], b"");
        let mut page = String::new();
        loop {
            let listed = get(&format!("/snapshots/{snapshot}/blocks{page}"));
            let listed: Value = serde_json::from_slice(&listed).expect("JSON");
            file.set_len(listed["VolumeSize"].as_u64().expect("a size") << 30).expect("sized");
            for block in listed["Blocks"].as_array().expect("a list") {
                let index = block["BlockIndex"].as_u64().expect("a number");
                let token = block["BlockToken"].as_str().expect("a token");
                let bytes = get(&format!("/snapshots/{snapshot}/blocks/{index}?blockToken={token}"));
                file.write_all_at(&bytes, index * super::stage::BLOCK as u64).expect("written");
            }
            let Some(next) = listed["NextToken"].as_str() else { return };
            page = format!("?pageToken={next}");
        }
    }

    fn call(
        &self,
        region: &str,
        service: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> String {
        String::from_utf8(self.answer(region, service, method, path, headers, body)).expect("UTF-8")
    }

    fn answer(
        &self,
        region: &str,
        service: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Vec<u8> {
        let (key, elsewhere) = self.place.lock().expect("no panic").clone();
        let region = elsewhere.as_deref().unwrap_or(region);
        let scope = format!(
            "AWS4-HMAC-SHA256 Credential={key}/20300101/{region}/{service}/aws4_request, SignedHeaders=host, Signature=0"
        );
        let headers = [headers, &[("Authorization", &scope)]].concat();
        let (status, answer) = http(self.endpoint.port, method, path, &headers, body);
        assert!((200..300).contains(&status), "{path}: {status} {}", String::from_utf8_lossy(&answer));
        answer
    }
}

/// Tells whether every thread of a process sleeps; one that could run counts as running, however busy the machine is.
fn asleep(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it lives").flatten();
    let mut stats = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    // The state follows the name, which is in parentheses and may have any letter.
    stats.all(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')))
}
