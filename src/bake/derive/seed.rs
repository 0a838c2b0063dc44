//! The machine's first instructions: a `NoCloud` seed for cloud-init, nowhere but in memory, for it holds the machine's
//! private host key.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::json;

use crate::digest::ImageId;
use crate::error::{Doing as _, Result};
use crate::process::{cannot_start, failure};
use crate::ssh::Keys;

/// Bytes of the seed: the smallest FAT that `mkfs.vfat` makes without complaint is well below it.
const SIZE: u64 = 1 << 20;

/// Returns the user data: the keys, and nothing that a vendor's image would do besides. A machine that does not end with us
/// gets a `lifetime`, after which it switches itself off even if nobody ever gets in.
///
/// # Errors
/// Keys that cannot be written.
pub fn user_data(keys: &Keys, lifetime: Option<Duration>) -> Result<String> {
    // JSON is YAML. Nothing of it needs to be escaped by hand.
    let mut config = json!({
        "disable_root": false,
        // Root alone: the vendor's own user, with its sudo rights, is not made.
        "users": [{ "name": "root", "lock_passwd": true, "ssh_authorized_keys": [keys.client_public()?] }],
        "ssh_pwauth": false,
        "ssh_deletekeys": true,
        "ssh_keys": {
            "ed25519_private": keys.host_private()?.as_str(),
            "ed25519_public": keys.host_public()?,
        },
        // The rest of a first boot is for people's own machines, and takes translated ones longer than the boot. What would
        // run later is not started any more; each of its two parts takes them ten seconds to do nothing.
        "cloud_init_modules": ["growpart", "resizefs", "users_groups", "ssh", "bootcmd"],
        "cloud_config_modules": [],
        "cloud_final_modules": [],
        "bootcmd": ["systemctl --no-block stop cloud-config.service cloud-final.service || :"],
    });
    if let Some(lifetime) = lifetime {
        // Set by cloud-init, at the end of its work and without us. A restart forgets it.
        let minutes = format!("+{}", lifetime.as_secs().div_ceil(60));
        config["power_state"] = json!({ "mode": "poweroff", "delay": minutes, "timeout": 1 });
        config["cloud_final_modules"] = json!(["power_state_change"]);
        config["bootcmd"] = json!(["systemctl --no-block stop cloud-config.service || :"]);
    }
    let text = serde_json::to_string_pretty(&config).doing(|| "writing the machine's user data")?;
    Ok(format!("#cloud-config\n{text}\n"))
}

/// Makes the seed.
///
/// # Errors
/// Missing tools, and whatever they say.
pub fn seed(id: ImageId, user_data: &str) -> Result<OwnedFd> {
    let memory = memfd_create("rekiln-seed", MemfdFlags::CLOEXEC).doing(|| "making the seed")?;
    rustix::fs::ftruncate(&memory, SIZE).doing(|| "making the seed")?;
    // Each program gets the memory as its standard input and opens it from there; no path leads to it.
    let on_seed = |command: &mut Command| -> Result<()> {
        let copy = memory.try_clone().doing(|| "sharing the seed")?;
        let output = command
            .stdin(Stdio::from(copy))
            .output()
            .map_err(|error| cannot_start(command.get_program(), error))?;
        if output.status.success() {
            return Ok(());
        }
        Err(failure(command, &format!("ended with {}", output.status), &output.stdout, &output.stderr))
    };
    on_seed(Command::new("mkfs.vfat").args(["-n", "CIDATA", "/proc/self/fd/0"]))?;
    let meta_data = format!("instance-id: rekiln-{}\nlocal-hostname: localhost\n", id.short());
    for (name, text) in [("user-data", user_data), ("meta-data", &meta_data)] {
        let mut part = std::fs::File::from(
            memfd_create("rekiln-seed-part", MemfdFlags::CLOEXEC).doing(|| "making the seed")?,
        );
        part.write_all(text.as_bytes()).doing(|| "making the seed")?;
        let part = held(&part);
        on_seed(Command::new("mcopy").args(["-i", "/proc/self/fd/0", &part, &format!("::{name}")]))
            .map_err(|error| error.during(format!("writing {name} into the seed")))?;
    }
    Ok(memory)
}

/// Returns a path by which our children reach a file of ours.
fn held(file: &std::fs::File) -> String {
    use std::os::fd::AsRawFd as _;
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::process::Run as _;

    #[test]
    fn the_seed_holds_what_cloud_init_reads() {
        let keys = Keys::new().expect("keys");
        let text = user_data(&keys, None).expect("written");
        let json: serde_json::Value =
            serde_json::from_str(text.strip_prefix("#cloud-config\n").expect("the first line"))
                .expect("JSON");
        assert_eq!(json["users"].as_array().map(Vec::len), Some(1));
        let seed = seed(Digest::of(b"x"), &text).expect("made");
        let file = std::fs::File::from(seed);
        let read = Command::new("mtype").args(["-i", &held(&file), "::user-data"]).run_text().expect("there");
        assert_eq!(read, text);
        let label = Command::new("mlabel").args(["-s", "-i", &held(&file)]).run_text().expect("it has one");
        assert!(label.contains("CIDATA"), "{label}");
    }
}
