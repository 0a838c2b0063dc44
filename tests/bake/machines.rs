//! The sealed disk boots wherever it should, and serves no byte that was changed.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use rekiln::repository::Repository;
use rekiln::vm::machine::Machine;
use rekiln::vm::verdict::{Trial, free_ports, judge};
use rekiln::vm::{Boot, Forward, Spec, accel, http, report};

use super::ground::{Ground, ground, scratch, turn};
use super::read_back::{extract, verity};

/// Longer than any boot on a busy machine; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_mins(3);

/// A machine that ends with the test.
struct Running(Machine);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.stop();
    }
}

fn accelerator(ground: &Ground) -> accel::Accelerator {
    let kernel = ground.site.store().image(ground.web.id).join("kernel");
    accel::probe(&ground.site.store(), &kernel).expect("probed").accelerator
}

#[test]
fn the_verdict_of_the_bake_says_how_it_was() {
    let _turn = turn();
    let web = &ground().web;
    let verdict = web.verdict.as_ref().expect("it was booted");
    assert!(verdict.passed && verdict.reasons.is_empty(), "{:?}", verdict.reasons);
    assert_eq!(verdict.open_ports, [80]);
    assert!(verdict.serving_s.is_some() && verdict.ready_s.is_some() && verdict.failed_units.is_empty());
    assert!(web.may_be_target());
    let kept = ground().site.store().image(web.id).join("verdict/console.log");
    assert!(fs::metadata(kept).expect("the console is kept").len() > 0);
    eprintln!("booted directly: serving after {:?} s", verdict.serving_s);
}

#[test]
fn the_same_disk_boots_with_firmware_from_nvme() {
    let _turn = turn();
    let ground = ground();
    let web = &ground.web;
    let dir = scratch();
    let repository = Repository::load(&ground.site.repo).expect("a repository");
    let links = repository.links("web").expect("recipes");
    let mut checks: Vec<_> = links.iter().flat_map(|link| link.recipe.checks.iter().cloned()).collect();
    for check in &mut checks {
        // A firmware takes its time, and nobody's is asserted here.
        check.within = format!("{}s", PATIENCE.as_secs());
    }
    let trial = Trial {
        dir: dir.path(),
        disk: &ground.site.store().image(web.id).join("disk.raw"),
        boot: Boot::Uefi,
        id: web.id,
        root_hash: web.root_hash,
        checks: &checks,
        ports: &web.ports.iter().cloned().collect(),
        memory_mib: 256,
        cpus: 1,
        extras: rekiln::vm::Extras::default(),
    };
    let verdict = judge(&trial, accelerator(ground)).expect("judged");
    assert!(verdict.passed, "{:?}\n{}", verdict.reasons, report::console_tail(dir.path(), 20).join("\n"));
    eprintln!("booted with OVMF from NVMe: serving after {:?} s", verdict.serving_s);
}

/// How often the page is asked for when everything is up.
const ASKED: usize = 5;

/// What the changed page has in the middle of many blocks of its own.
const WORDS: &str = "these words are in the middle";

/// Changes a byte of [`WORDS`] in the root partition.
fn tamper(disk: &Path, (offset, size): (u64, u64)) {
    let mut file = File::options().read(true).write(true).open(disk).expect("opened");
    file.seek(SeekFrom::Start(offset)).expect("there");
    let mut root = Vec::new();
    (&mut file).take(size).read_to_end(&mut root).expect("read");
    let is_there = |window: &[u8]| window == WORDS.as_bytes();
    let found: Vec<usize> = root
        .windows(WORDS.len())
        .enumerate()
        .filter(|(_, window)| is_there(window))
        .map(|(at, _)| at)
        .collect();
    let [at] = found[..] else { panic!("the page is in the image {} times", found.len()) };
    file.seek(SeekFrom::Start(offset + at as u64)).expect("there");
    file.write_all(b"T").expect("written");
}

#[test]
fn a_flipped_byte_is_never_served() {
    let _turn = turn();
    let ground = ground();
    let dir = scratch();
    // A page of many blocks: the file system's own blocks stay whole, so that the machine comes up.
    let site = ground.warm(dir.path());
    let lines = "<p>a line of a long page, to fill blocks</p>\n".repeat(400);
    site.edit("bootstrap/web/index.html.hbs", "</body>", &format!("{lines}{WORDS}\n{lines}</body>"));
    let web = site.record(site.bake("web").id);
    let image = site.store().image(web.id);
    let disk = dir.path().join("disk.raw");
    fs::copy(image.join("disk.raw"), &disk).expect("copied");
    let [_, root, hash] = &web.disk.partitions[..] else { panic!("three partitions") };
    let check = |when: &str| {
        let [root, hash] =
            [root, hash].map(|part| extract(&disk, part.offset, part.size, dir.path().join(&part.name)));
        let verified = verity(&root, &hash, &web.root_hash.expect("a root hash").to_string());
        eprintln!("veritysetup {when}: {}", verified.status);
        verified.status.success()
    };
    assert!(check("before"));
    tamper(&disk, (root.offset, root.size));
    assert!(!check("after"), "veritysetup accepts the changed disk");

    assert_eq!(
        ask_for_long(ground, &image, &dir.path().join("changed"), disk),
        ASKED,
        "never the whole page"
    );
    let whole = image.join("disk.raw");
    assert_eq!(
        ask_for_long(ground, &image, &dir.path().join("whole"), whole),
        0,
        "the unchanged disk serves"
    );
}

/// Boots `disk` and asks for its page from before nginx runs until some time after everything is up; returns how
/// many requests after that did not bring the whole page. Panics when one brings changed words.
fn ask_for_long(ground: &Ground, image: &Path, dir: &Path, disk: std::path::PathBuf) -> usize {
    let forward = Forward { host: free_ports(1).expect("a port")[0], guest: 80 };
    let spec = Spec {
        dir: dir.to_owned(),
        disk,
        boot: Boot::direct(image).expect("a command line"),
        memory_mib: 256,
        cpus: 1,
        forwards: vec![forward],
        name: "tampered".to_owned(),
        extras: rekiln::vm::Extras::default(),
    };
    let running = Running(spec.start(accelerator(ground)).expect("started"));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, forward.host));
    let start = Instant::now();
    let tail = || report::console_tail(&spec.dir, 20).join("\n");
    let (mut asked, mut failed) = (0, 0);
    while asked < ASKED {
        assert!(start.elapsed() < PATIENCE && running.0.alive(), "it did not come up: {}", tail());
        let ready = report::last(&spec.dir).is_some_and(|report| report.ready);
        let answer = http::get(address, "/", Duration::from_secs(5));
        let changed = WORDS.replacen('t', "T", 1);
        assert!(
            !answer.as_ref().is_ok_and(|answer| answer.body.contains(&changed)),
            "the changed block was served"
        );
        let whole = answer.is_ok_and(|answer| {
            answer.status == 200 && answer.body.contains(WORDS) && answer.body.contains("</html>")
        });
        asked += usize::from(ready);
        failed += usize::from(ready && !whole);
        std::thread::sleep(Duration::from_millis(100));
    }
    failed
}
