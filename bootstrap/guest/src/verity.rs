//! Device-mapper: the verity device over the root partition and one linear device a layer.
//!
//! This is the only file with `unsafe`: device-mapper is driven by ioctls on a buffer whose layout the kernel
//! defines (`linux/dm-ioctl.h`), and no safe wrapper for them exists in rustix.

use std::ffi::c_void;
use std::fs::File;
use std::path::PathBuf;

use rustix::fs::{major, minor};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};

use crate::cmdline::Layer;
use crate::{Doing as _, Result};

/// Sectors of 512 bytes, device-mapper's unit, in a block of 4096 bytes, ours.
const SECTORS: u64 = 8;

/// `DM_READONLY_FLAG`: every device here is read-only.
const READONLY: u32 = 1;

const CREATE: u8 = 3;
const SUSPEND: u8 = 6;
const LOAD: u8 = 9;

/// The size of `struct dm_ioctl`; part of the ioctl numbers.
const HEADER: u16 = 312;
/// The size of `struct dm_target_spec`.
const SPEC: u16 = 40;
/// Room for a target's parameters: two device numbers, two digests of at most 64 bytes and a few numbers.
const PARAMS: u16 = 672;

/// The size of the whole buffer.
const WHOLE: u16 = HEADER + SPEC + PARAMS;

/// The buffer of one device-mapper ioctl: `struct dm_ioctl`, then at most one target.
/// Aligned as the kernel's structures are.
#[repr(C, align(8))]
struct Request {
    bytes: [u8; WHOLE as usize],
}

/// One ioctl on a [`Request`].
struct Call<'a> {
    number: u8,
    request: &'a mut Request,
}

// SAFETY: the opcode carries the direction and size that the kernel's header gives these ioctls, and the pointer
// is to a buffer that lives as long as the call and whose `data_size` field says how large it is; the kernel
// reads and writes nothing beyond that.
unsafe impl Ioctl for Call<'_> {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<[u8; HEADER as usize]>(0xfd, self.number)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.request.bytes.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

impl Request {
    fn new(name: &str) -> Self {
        let mut request = Self { bytes: [0; WHOLE as usize] };
        request.put(0, &4_u32.to_ne_bytes()); // interface version 4.0.0, which every kernel since 2.6 has
        request.put(12, &u32::from(WHOLE).to_ne_bytes()); // data_size
        request.put(16, &u32::from(HEADER).to_ne_bytes()); // data_start
        request.put(28, &READONLY.to_ne_bytes()); // flags
        request.put(48, name.as_bytes());
        request
    }

    fn put(&mut self, at: u16, bytes: &[u8]) {
        let at = usize::from(at);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn call(&mut self, control: &File, number: u8) -> rustix::io::Result<()> {
        // SAFETY: see `impl Ioctl for Call`.
        unsafe { ioctl(control, Call { number, request: self }) }
    }

    /// Returns the device that the last call was about: field `dev`, in the kernel's encoding.
    fn device(&self) -> u64 {
        self.bytes[40..48].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }
}

/// A device-mapper device.
pub struct Device {
    major: u32,
    minor: u32,
}

impl Device {
    /// Creates a read-only device of `sectors` with one target.
    fn create(control: &File, name: &str, sectors: u64, target: &str, params: &str) -> Result<Self> {
        if params.len() >= usize::from(PARAMS) {
            return Err(format!("the table of {name} is too long"));
        }
        let doing = format!("creating device {name}");
        let mut request = Request::new(name);
        request.call(control, CREATE).doing(&doing)?;
        let device = request.device();
        let mut request = Request::new(name);
        request.put(20, &1_u32.to_ne_bytes()); // target_count
        request.put(HEADER + 8, &sectors.to_ne_bytes()); // from sector 0, so many
        request.put(HEADER + 24, target.as_bytes());
        request.put(HEADER + SPEC, params.as_bytes());
        request.call(control, LOAD).doing(&doing)?;
        // "Suspend" without the suspend flag means resume: the loaded table becomes the live one.
        Request::new(name).call(control, SUSPEND).doing(&doing)?;
        Ok(Self { major: major(device), minor: minor(device) })
    }

    /// Returns the device's path; devtmpfs has made the node.
    pub fn path(&self) -> PathBuf {
        format!("/dev/dm-{}", self.minor).into()
    }

    fn number(&self) -> String {
        format!("{}:{}", self.major, self.minor)
    }
}

/// Creates the verity device and returns the device of each layer, ground layer first.
///
/// `data` and `hash` are device numbers as `major:minor`. No error option is given on purpose: then a block that
/// does not fit the root hash makes its read fail with EIO and nothing else happens. `restart_on_corruption` and
/// `panic_on_corruption` would turn one bad sector into an outage of a machine that may still drain its
/// requests, and `ignore_corruption` would serve the block. `check_at_most_once` would save time, and would
/// serve a block that changes after it was first read.
pub fn open(
    data: &str,
    hash: &str,
    blocks: u64,
    roothash: &str,
    salt: &str,
    layers: &[Layer],
) -> Result<Vec<Device>> {
    let control = File::options().read(true).write(true).open("/dev/mapper/control");
    let control = control.doing("opening device-mapper")?;
    // Hash type 1, both block sizes, data blocks, first hash block (block 0 is the superblock).
    let params = format!("1 {data} {hash} 4096 4096 {blocks} 1 sha256 {roothash} {salt}");
    let verity = Device::create(&control, "rekiln-root", blocks * SECTORS, "verity", &params)?;
    let number = verity.number();
    let linear = |(index, layer): (usize, &Layer)| {
        let params = format!("{number} {}", layer.offset * SECTORS);
        Device::create(&control, &format!("rekiln-layer{index}"), layer.size * SECTORS, "linear", &params)
    };
    layers.iter().enumerate().map(linear).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_laid_out_as_the_kernel_says() {
        let call = Call { number: CREATE, request: &mut Request::new("x") };
        assert_eq!(call.opcode(), 0xc138_fd03);
        assert_eq!(call.request.bytes[48], b'x');
        call.request.put(40, &0xfe00_u64.to_ne_bytes());
        assert_eq!((major(call.request.device()), minor(call.request.device())), (254, 0));
    }
}
