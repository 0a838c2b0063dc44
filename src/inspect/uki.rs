//! The command line inside the unified kernel image on the EFI system partition.

use std::process::Command;

use super::window::{Window, u16_at, u32_at};
use crate::error::{Error, Result};
use crate::process::Run as _;

/// Where firmware looks for what to start when no boot entry says so (UEFI, section 3.5.1.1).
const FALLBACK: &str = "::EFI/BOOT/BOOTX64.EFI";

/// Reads the unified kernel image off a FAT file system.
///
/// # Errors
/// No such file, and a missing mcopy.
pub fn read(esp: &Window) -> Result<Vec<u8>> {
    let output = mtools("mcopy", esp, &["-n"], &[FALLBACK, "-"])?
        .run()
        .map_err(|error| error.during("reading the kernel image on the EFI system partition"))?;
    Ok(output.stdout)
}

/// Tells whether a FAT file system has the program that firmware starts when no boot entry says so.
///
/// # Errors
/// No FAT, and a missing mdir.
pub fn exists(esp: &Window) -> Result<bool> {
    let found = mtools("mdir", esp, &["-b"], &[FALLBACK])?.run();
    match found {
        Ok(_) => Ok(true),
        // mtools has one exit code for everything; an empty file system has no such directory either.
        Err(error) if error.chain().contains("not found") => Ok(false),
        Err(error) => Err(error.during("looking at the EFI system partition")),
    }
}

fn mtools(program: &str, esp: &Window, options: &[&str], files: &[&str]) -> Result<Command> {
    let (path, offset) = esp.in_file()?;
    let mut command = Command::new(program);
    // Images made elsewhere need not have a size that suits a floppy's geometry.
    command.env("MTOOLS_SKIP_CHECK", "1").args(options);
    command.arg("-i").arg(format!("{}@@{offset}", path.display())).args(files);
    Ok(command)
}

/// Returns the section of this name of a PE file.
#[must_use]
pub fn section<'a>(image: &'a [u8], name: &str) -> Option<&'a [u8]> {
    // PE format: the offset of the PE header stands at 0x3c; it has a signature of 4 bytes and 20 bytes with
    // the number of sections at 2 and the size of the optional header at 16; sections are 40 bytes each.
    let header = usize::try_from(u32_at(image, 0x3c)).ok()?;
    if image.get(header..header.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let count = usize::from(u16_at(image, header + 6));
    let first = header + 24 + usize::from(u16_at(image, header + 20));
    (0..count).find_map(|number| {
        let entry = image.get(first + 40 * number..)?.get(..40)?;
        let end = entry[..8].iter().position(|byte| *byte == 0).unwrap_or(8);
        if &entry[..end] != name.as_bytes() {
            return None;
        }
        let virtual_size = usize::try_from(u32_at(entry, 8)).ok()?;
        let raw_size = usize::try_from(u32_at(entry, 16)).ok()?;
        let from = usize::try_from(u32_at(entry, 20)).ok()?;
        // The raw size is padded to the file alignment.
        image.get(from..)?.get(..virtual_size.min(raw_size))
    })
}

/// Returns the sealed kernel command line of a unified kernel image.
///
/// # Errors
/// No such section, and one that is no text.
pub fn cmdline(image: &[u8]) -> Result<String> {
    let bytes = section(image, ".cmdline").ok_or_else(|| {
        Error::failed("the kernel image has no sealed command line (no `.cmdline` section)")
    })?;
    let text = std::str::from_utf8(bytes).map_err(|_| Error::failed("the sealed command line is no text"))?;
    Ok(text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned())
}
