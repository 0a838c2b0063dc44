//! Bytes on a disk, looked for in all of it: in files, in what was deleted, between the partitions.

use std::path::Path;
use std::process::Command;

/// Returns which of the texts are on the disk, as `grep` finds them; none may have a line's end.
pub fn found<'a>(disk: &Path, texts: &[&'a str]) -> Vec<&'a str> {
    let mut grep = Command::new("grep");
    // Lines end with a zero byte here: a disk has gigabytes of them, and few others.
    grep.args(["--null-data", "--text", "--only-matching", "--fixed-strings"]).env("LC_ALL", "C");
    for text in texts {
        assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
        grep.args(["-e", text]);
    }
    let output = grep.arg(disk).output().expect("grep runs");
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).collect();
    texts.iter().copied().filter(|text| seen.contains(&text.as_bytes())).collect()
}
