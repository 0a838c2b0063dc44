//! What of a bake could be left on the host: processes, mounts, loop devices.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rekiln::process::{parent, start_time};

/// Short tools that a killed bake had started (an archiver, a compressor) end by themselves; nothing waits so
/// long unless it stays.
const GRACE: Duration = Duration::from_secs(10);

/// A process that ran: its number and when it started.
type Process = (u32, u64);

fn processes() -> BTreeMap<u32, u32> {
    let pids = fs::read_dir("/proc")
        .expect("listed")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, parent(pid)?))).collect()
}

/// Returns a process and all that it and they started.
pub fn family(pid: u32) -> Vec<Process> {
    let all = processes();
    let mut family = vec![pid];
    let mut next = 0;
    while next < family.len() {
        let parent = family[next];
        family.extend(all.iter().filter(|(_, of)| **of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    family.into_iter().filter_map(|pid| Some((pid, start_time(pid)?))).collect()
}

/// Asserts that nothing of the family, nor any other process, mount or loop device, has to do with `place`.
pub fn assert_none(place: &Path, family: &[Process]) {
    let start = Instant::now();
    loop {
        let mut found = using(place);
        found.extend(
            family.iter().filter(|(pid, at)| start_time(*pid) == Some(*at) && !is_zombie(*pid)).map(describe),
        );
        if found.is_empty() {
            return;
        }
        assert!(start.elapsed() < GRACE, "still there: {found:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}

fn describe((pid, _): &Process) -> String {
    let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!("process {pid}: {}", String::from_utf8_lossy(&cmdline).replace('\0', " "))
}

/// Returns what uses `place`, in words.
fn using(place: &Path) -> Vec<String> {
    let name = place.to_str().expect("UTF-8");
    let mut found = Vec::new();
    for pid in processes().into_keys().filter(|pid| *pid != std::process::id()) {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let links = ["cwd", "root", "exe"].map(|link| dir.join(link)).into_iter();
        let fds = fs::read_dir(dir.join("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
        let open =
            links.chain(fds).any(|link| fs::read_link(link).is_ok_and(|target| target.starts_with(place)));
        let text =
            |file: &str| String::from_utf8_lossy(&fs::read(dir.join(file)).unwrap_or_default()).into_owned();
        if open || text("cmdline").contains(name) || text("mountinfo").contains(name) {
            found.push(describe(&(pid, 0)));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read");
    found.extend(mounts.lines().filter(|line| line.contains(name)).map(|line| format!("mount {line}")));
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let backing = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        if backing.contains(name) {
            found.push(format!("loop device {} on {backing}", entry.file_name().display()));
        }
    }
    found
}
