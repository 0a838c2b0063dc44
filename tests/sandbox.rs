//! A hostile script in the bake's sandbox cannot reach the host.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rekiln::bake::sandbox::{STAGE, Spec, Step, run};

/// A small tree made of the host's own programs and the libraries they need.
fn tree(dir: &Path) -> PathBuf {
    let tree = dir.join("tree");
    let script = r#"
        set -e
        mkdir -p "$1"/etc "$1"/usr/bin "$1"/usr/lib "$1"/usr/lib64
        ln -s usr/bin usr/lib usr/lib64 "$1"/
        for name in bash cat mknod mount chroot unshare nsenter touch ls kill mkdir dd; do
            program=$(type -P $name) || continue
            cp -L "$program" "$1"/usr/bin/
            ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
                mkdir -p "$1/$(dirname "$library")"
                cp -L "$library" "$1/$library"
            done
        done
    "#;
    std::fs::create_dir(&tree).expect("made");
    let status = Command::new("bash").args(["-c", script, "bash"]).arg(&tree).status().expect("bash runs");
    assert!(status.success());
    tree
}

fn spec(dir: &Path, lower: PathBuf, steps: Vec<Step>) -> Spec {
    let make = |name: &str| {
        let path = dir.join(name);
        std::fs::create_dir(&path).expect("made");
        path
    };
    let stage = make("stage");
    Spec {
        mountpoint: make("root"),
        lowers: vec![lower],
        upper: make("upper"),
        work: make("work"),
        stages: BTreeMap::from([("files".to_owned(), stage)]),
        epoch: 1_700_000_000,
        steps,
    }
}

fn rekiln() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_rekiln"))
}

#[test]
fn a_hostile_script_reaches_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "of the host").expect("written");
    let mut victim = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().expect("sleep runs");
    let attempts = format!(
        r#"
        try() {{ name=$1; shift; if "$@" >/dev/null 2>&1; then echo "REACHED $name"; else echo "refused $name"; fi; }}
        try mount mount -t tmpfs none /mnt
        try remount mount -o remount,rw /proc/sys
        try device mknod /tmp/disk b 254 0
        try host-file cat {secret}
        try host-file-by-pid cat /proc/{victim}/root{secret}
        try kill kill -9 {victim}
        try network bash -c 'echo >/dev/tcp/127.0.0.1/{port}'
        try user-namespace unshare --user --map-root-user true
        try chroot chroot /proc/1/root true
        try setns nsenter --target 1 --mount true
        try sysctl bash -c 'echo 1 >/proc/sys/kernel/panic'
        try stage touch {STAGE}/files/x
        try kernel-memory dd if=/proc/kcore of=/tmp/memory bs=1 count=1 conv=nocreat
        echo h >/proc/sysrq-trigger
        echo done >/etc/mark
        for other in $(ls -d /proc/[0-9]*); do echo "process $other"; done
        bash -c 'echo left >/tmp/left; exec >/dev/null; trap "" HUP TERM; while :; do :; done' &
        "#,
        secret = secret.display(),
        victim = victim.id(),
    );
    let steps = vec![Step::Run { argv: vec!["bash".to_owned(), "-c".to_owned(), attempts] }];
    let spec = spec(dir.path(), tree(dir.path()), steps);
    let mut lines = Vec::new();
    run(rekiln(), &spec, &mut |line| lines.push(line.to_owned())).expect("the script itself ends well");
    let alive = victim.try_wait().expect("asked").is_none();
    victim.kill().expect("ended");
    victim.wait().expect("ended");
    assert!(alive, "the script killed a process of the host");
    let reached: Vec<_> = lines.iter().filter(|line| line.starts_with("REACHED")).collect();
    assert!(reached.is_empty(), "{reached:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("refused")).count(), 13, "{lines:?}");
    assert!(lines.iter().filter(|line| line.starts_with("process")).count() < 6, "{lines:?}");
    // What it did in its own tree is in the upper directory, and nothing is mounted any more.
    assert_eq!(std::fs::read_to_string(spec.upper.join("etc/mark")).expect("written"), "done\n");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("read");
    assert!(!mounts.contains(&dir.path().display().to_string()));
}

#[test]
fn a_failing_script_shows_its_last_words_and_stops_the_rest() {
    let dir = tempfile::tempdir().expect("a directory");
    let shell = |text: &str| Step::Run { argv: vec!["bash".to_owned(), "-c".to_owned(), text.to_owned()] };
    let steps = vec![shell("echo one; echo two >&2; exit 7"), shell("echo never")];
    let spec = spec(dir.path(), tree(dir.path()), steps);
    let mut lines = Vec::new();
    let error = run(rekiln(), &spec, &mut |line| lines.push(line.to_owned())).expect_err("it fails");
    assert!(error.chain().contains("two") && error.chain().contains("exit status: 7"), "{error:?}");
    assert!(!lines.iter().any(|line| line == "never"));
}

#[test]
fn syncs_cost_nothing_and_identity_is_fixed() {
    let dir = tempfile::tempdir().expect("a directory");
    let steps = vec![Step::Run {
        argv: vec![
            "bash".to_owned(),
            "-c".to_owned(),
            "echo $HOSTNAME $SOURCE_DATE_EPOCH $TZ $(umask)".to_owned(),
        ],
    }];
    let spec = spec(dir.path(), tree(dir.path()), steps);
    let mut lines = Vec::new();
    run(rekiln(), &spec, &mut |line| lines.push(line.to_owned())).expect("it runs");
    assert_eq!(lines.last().map(String::as_str), Some("localhost 1700000000 UTC 0022"), "{lines:?}");
}
