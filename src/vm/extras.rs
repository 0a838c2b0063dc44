//! What a machine has besides its sealed disk and its card: a disk of its own, a second card, documents.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::machine::{join, quoted};
use crate::error::{Doing as _, Result};

/// Where systemd's credentials are among the names that QEMU hands to its guest. systemd takes them from there by itself,
/// unless the strict profile forbids it, which it does; a unit of a recipe then names the ones that it loads.
const CREDENTIALS: &str = "opt/io.systemd.credentials/";

/// Where a machine finds what [`Extras::fetch`] leads to: an address of QEMU's user-mode network that nothing else has there.
pub const FETCH: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);

/// What a machine has besides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Extras {
    /// A raw disk that takes what the guest writes. In the guest it has the serial number `data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// A second card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<Segment>,
    /// Documents that the guest finds in `/sys/firmware/qemu_fw_cfg`, once the module of that name is loaded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Credential>,
    /// The one server of this computer that the guest reaches, at port 80 of [`FETCH`], by one connection at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetch: Option<SocketAddrV4>,
}

/// A network of machines of this computer, without privileges and without a process that must run for it: each QEMU sends
/// the guest's frames to a multicast group on the loopback interface, and takes what the others send there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The group that makes it this network and no other.
    pub group: SocketAddrV4,
    /// The card's address, such as `0e:72:6b:4d:00:07`.
    pub mac: String,
}

/// One document. Only its file's name is in QEMU's arguments, which every user of the host can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Its name, such as `rekiln.instance`.
    pub name: String,
    /// The file that has it, when the machine is started.
    pub file: PathBuf,
}

impl Extras {
    /// Tells whether there is nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.data.is_none() && self.segment.is_none() && self.credentials.is_empty() && self.fetch.is_none()
    }

    /// What the card that leads to this computer has besides, as part of its argument.
    pub(super) fn card(&self) -> String {
        self.fetch.map_or_else(String::new, |_| format!(",guestfwd=tcp:{FETCH}:80-chardev:fetch"))
    }

    pub(super) fn arguments(&self, command: &mut Command) {
        if let Some(fetch) = &self.fetch {
            // One that asks again finds a connection again. The server may be gone by then: that ends no machine.
            let (host, port) = (fetch.ip(), fetch.port());
            command.args(["-chardev", &format!("socket,id=fetch,host={host},port={port},reconnect=1")]);
        }
        if let Some(file) = &self.data {
            // What the guest no longer needs becomes holes again. It is flushed when the guest says so: that is what a
            // database means by written.
            let how = "if=none,id=data,format=raw,discard=unmap,detect-zeroes=unmap,file=";
            command.arg("-drive").arg(join(how, &quoted(file.as_os_str()), ""));
            command.args(["-device", "virtio-blk-pci,drive=data,serial=data"]);
        }
        if let Some(Segment { group, mac }) = &self.segment {
            command.args(["-netdev", &format!("socket,id=segment,mcast={group},localaddr=127.0.0.1")]);
            command.args(["-device", &format!("virtio-net-pci,netdev=segment,mac={mac},romfile=")]);
        }
        for Credential { name, file } in &self.credentials {
            let mut value = OsString::from(format!("name={CREDENTIALS}{name},file="));
            value.push(quoted(file.as_os_str()));
            command.arg("-fw_cfg").arg(value);
        }
    }
}

/// Makes sure that there is a data disk of so many bytes: blank, and taking no room until it is written. One that is there
/// stays as it is.
///
/// # Errors
/// The host's disk refuses.
pub fn blank(file: &Path, bytes: u64) -> Result<()> {
    if file.exists() {
        return Ok(());
    }
    // Under its name only when it has its size: one that a killed process left half made would be taken for a disk.
    let aside = file.with_extension("new");
    let make = || {
        File::create(&aside)?.set_len(bytes)?;
        fs::rename(&aside, file)
    };
    make().doing(|| format!("making the data disk {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_files_and_no_content() {
        let extras = Extras {
            data: Some("/store/a,b/data.raw".into()),
            segment: Some(Segment {
                group: "239.192.1.2:20001".parse().expect("an address"),
                mac: "0e:72:6b:4d:00:07".to_owned(),
            }),
            credentials: vec![Credential { name: "rekiln.secret".to_owned(), file: "/store/secret".into() }],
            fetch: Some("127.0.0.1:4000".parse().expect("an address")),
        };
        assert_eq!(extras.card(), ",guestfwd=tcp:10.0.2.100:80-chardev:fetch");
        let mut command = Command::new("qemu");
        extras.arguments(&mut command);
        let said: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        assert_eq!(
            said,
            [
                "-chardev",
                "socket,id=fetch,host=127.0.0.1,port=4000,reconnect=1",
                "-drive",
                "if=none,id=data,format=raw,discard=unmap,detect-zeroes=unmap,file=/store/a,,b/data.raw",
                "-device",
                "virtio-blk-pci,drive=data,serial=data",
                "-netdev",
                "socket,id=segment,mcast=239.192.1.2:20001,localaddr=127.0.0.1",
                "-device",
                "virtio-net-pci,netdev=segment,mac=0e:72:6b:4d:00:07,romfile=",
                "-fw_cfg",
                "name=opt/io.systemd.credentials/rekiln.secret,file=/store/secret",
            ]
        );
        assert!(Extras::default().is_empty() && !extras.is_empty());
    }

    #[test]
    fn a_data_disk_is_sparse_and_made_once() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("data.raw");
        blank(&file, 1 << 30).expect("made");
        let found = fs::metadata(&file).expect("there");
        assert_eq!((found.len(), found.blocks()), (1 << 30, 0));
        fs::write(&file, "what the guest wrote").expect("written");
        blank(&file, 1 << 30).expect("it is there");
        assert_eq!(fs::metadata(&file).expect("there").len(), 20);
    }
}
