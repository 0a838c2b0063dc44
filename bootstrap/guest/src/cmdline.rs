//! The sealed command line: what `src/bake/layout.rs` wrote and the boot loader handed over.

use crate::{Doing as _, Result};

/// The `rekiln.*` words of the command line.
#[derive(Debug, PartialEq, Eq)]
pub struct Cmdline {
    /// The image id, 64 hexadecimal digits.
    pub image: String,
    /// The root hash of the verity tree, in hexadecimal.
    pub roothash: String,
    /// The salt of the verity tree, in hexadecimal.
    pub salt: String,
    /// Data blocks of 4096 bytes in the root partition.
    pub blocks: u64,
    /// The erofs layers in the root partition, ground layer first.
    pub layers: Vec<Layer>,
    /// Whether this is the debug variant.
    pub debug: bool,
}

/// What a running machine says that it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    /// The image id, 64 hexadecimal digits.
    pub image: String,
    /// The root hash of the verity tree, in hexadecimal; empty on a vendor's disk, which has no such tree.
    pub roothash: String,
    /// Whether this is the debug variant.
    pub debug: bool,
}

impl Identity {
    /// Reads the command line of the running kernel.
    pub fn read() -> Result<Self> {
        Self::parse(&std::fs::read_to_string("/proc/cmdline").doing("reading /proc/cmdline")?)
    }

    fn parse(text: &str) -> Result<Self> {
        let roothash = match value(text, "roothash") {
            Ok(_) => hex(text, "roothash")?,
            Err(_) => String::new(),
        };
        Ok(Self { image: image(text)?, roothash, debug: debug(text) })
    }
}

fn value<'a>(text: &'a str, key: &str) -> Result<&'a str> {
    text.split_whitespace()
        .find_map(|word| word.strip_prefix("rekiln.")?.strip_prefix(key)?.strip_prefix('='))
        .ok_or_else(|| format!("the command line has no rekiln.{key}"))
}

fn hex(text: &str, key: &str) -> Result<String> {
    let found = value(text, key)?;
    // These words end up in a device-mapper table; anything but digits could change its meaning.
    if found.is_empty() || !found.bytes().all(|c| c.is_ascii_hexdigit()) {
        return Err(format!("rekiln.{key} is not hexadecimal"));
    }
    Ok(found.to_owned())
}

fn image(text: &str) -> Result<String> {
    let image = hex(text, "image")?;
    if image.len() == 64 { Ok(image) } else { Err("rekiln.image has not 64 digits".to_owned()) }
}

fn debug(text: &str) -> bool {
    value(text, "debug").is_ok_and(|value| value == "1")
}

/// One erofs layer, in blocks of 4096 bytes from the start of the root partition.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Layer {
    /// First block.
    pub offset: u64,
    /// Number of blocks.
    pub size: u64,
}

impl Cmdline {
    /// Reads the command line of the running kernel.
    pub fn read() -> Result<Self> {
        Self::parse(&std::fs::read_to_string("/proc/cmdline").doing("reading /proc/cmdline")?)
    }

    fn parse(text: &str) -> Result<Self> {
        let blocks = value(text, "blocks")?.parse().doing("reading rekiln.blocks")?;
        let layers = value(text, "layers")?
            .split(',')
            .map(|layer| Layer::parse(layer, blocks))
            .collect::<Result<_>>()
            .doing("reading rekiln.layers")?;
        let (roothash, salt) = (hex(text, "roothash")?, hex(text, "salt")?);
        Ok(Self { image: image(text)?, roothash, salt, blocks, layers, debug: debug(text) })
    }

    /// Returns the part of the image id that names the partitions.
    pub fn short(&self) -> &str {
        &self.image[..16]
    }
}

impl Layer {
    fn parse(text: &str, blocks: u64) -> Result<Self> {
        let (offset, size) = text.split_once('+').ok_or_else(|| format!("`{text}` has no `+`"))?;
        let offset: u64 = offset.parse().doing(text)?;
        let size: u64 = size.parse().doing(text)?;
        match offset.checked_add(size) {
            Some(end) if size > 0 && end <= blocks => Ok(Self { offset, size }),
            _ => Err(format!("`{text}` is not within {blocks} blocks")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(rest: &str) -> String {
        format!("quiet rekiln.image={} rekiln.roothash=ab rekiln.salt=cd {rest}\n", "0".repeat(64))
    }

    #[test]
    fn reads_its_words() {
        let got = Cmdline::parse(&line("rekiln.blocks=9 rekiln.layers=0+4,4+5 rekiln.debug=1"))
            .expect("it is whole");
        assert_eq!(got.layers, [Layer { offset: 0, size: 4 }, Layer { offset: 4, size: 5 }]);
        assert!(got.debug && got.blocks == 9 && got.short() == "0000000000000000");
    }

    #[test]
    fn a_vendors_disk_says_which_image_it_is() {
        let id = "0".repeat(64);
        let got = Identity::parse(&format!("ro quiet rekiln.image={id}\n")).expect("an image");
        assert_eq!(got, Identity { image: id, roothash: String::new(), debug: false });
        assert_eq!(Identity::parse(&line("")).expect("an image").roothash, "ab");
        assert!(Identity::parse("ro rekiln.image=12").is_err() && Identity::parse("ro").is_err());
    }

    #[test]
    fn refuses_what_is_not_sealed_so() {
        for bad in [
            "rekiln.blocks=9",
            "rekiln.blocks=9 rekiln.layers=0+10",
            "rekiln.blocks=9 rekiln.layers=4",
            "rekiln.blocks=9 rekiln.layers=18446744073709551615+2",
            "rekiln.blocks=x rekiln.layers=0+1",
        ] {
            assert!(Cmdline::parse(&line(bad)).is_err(), "{bad}");
        }
        let table = line("rekiln.blocks=9 rekiln.layers=0+9").replace("roothash=ab", "roothash=ab;0");
        assert!(Cmdline::parse(&table).is_err());
    }
}
