//! Where a file has data: what lies between is holes, which read as zeros and take no room.

use std::fs::File;
use std::ops::Range;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Returns the parts of a file of `size` bytes that are no holes, in order. Where the file system knows no holes, that is
/// all of it.
///
/// # Errors
/// Whatever seeking returns.
pub fn data(file: &File, size: u64) -> std::io::Result<Vec<Range<u64>>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        let data = match seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            Err(error) => return Err(error.into()),
        };
        let hole = seek(file, SeekFrom::Hole(data)).unwrap_or(size);
        found.push(data..hole);
        at = hole;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn only_what_was_written_is_data() {
        const MIB: u64 = 1 << 20;
        let file = tempfile::tempfile().expect("a file");
        file.set_len(8 * MIB).expect("a size");
        assert_eq!(data(&file, 8 * MIB).expect("it is read"), []);
        file.write_all_at(b"in the middle", 3 * MIB).expect("it is written");
        file.write_all_at(b"at the end", 8 * MIB - 10).expect("it is written");
        let found = data(&file, 8 * MIB).expect("it is read");
        let has = |at: u64| found.iter().any(|part| part.contains(&at));
        assert!(has(3 * MIB) && has(8 * MIB - 10) && has(8 * MIB - 1), "{found:?}");
        assert!(!has(0) && !has(5 * MIB), "{found:?}");
    }
}
