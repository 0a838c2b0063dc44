//! The archive format of initrds: `newc`, uncompressed, as the kernel unpacks it
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use crate::error::{Doing as _, Result};

/// An archive that grows entry by entry. Owners and times are zero.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a file, a directory or what else `mode` says.
    ///
    /// # Errors
    /// A content or name of 4 GiB or more.
    pub fn add(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len()).doing(|| format!("adding {name} to the initrd"))?;
        let name_size = u32::try_from(name.len() + 1).doing(|| format!("adding {name} to the initrd"))?;
        // Inode, mode, owner, group, links, time, size, device ×4, length of the name, checksum (unused).
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    /// Ends the archive and returns its bytes.
    ///
    /// # Errors
    /// As [`Archive::add`].
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.add("TRAILER!!!", 0, b"")?;
        Ok(self.bytes)
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
