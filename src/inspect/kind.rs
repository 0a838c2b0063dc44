//! What an inode is, whatever file system it lies in.

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link; its data is the target.
    Symlink,
    /// A character device: major and minor number.
    Character(u32, u32),
    /// A block device: major and minor number.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl Kind {
    /// Reads it off the upper four bits of a mode (`inode(7)`); `None` for a mode that no kernel writes. `device` is
    /// the major and minor number, which only device nodes have.
    #[must_use]
    pub const fn of(mode: u32, (major, minor): (u32, u32)) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o100_000 => Self::File,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Symlink,
            0o020_000 => Self::Character(major, minor),
            0o060_000 => Self::Block(major, minor),
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            _ => return None,
        })
    }
}

/// Splits a device number of the kernel's 32-bit form: 12 bits major between 8 and 12 bits minor
/// (`new_decode_dev` in `linux/kdev_t.h`).
#[must_use]
pub const fn device(number: u32) -> (u32, u32) {
    ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xf_ff00))
}
