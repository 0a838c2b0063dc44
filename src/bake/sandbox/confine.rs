//! What a process in the sandbox may no longer do.

use std::collections::BTreeMap;

use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::error::{Doing as _, Error, Result};

/// What maintainer scripts need of root: owning files, changing identity, ending their own processes.
/// Not among them: mounting, making device nodes, loading modules, tracing, the clock, raw I/O, opening files
/// by handle (`DAC_READ_SEARCH`, the way out of a mount namespace).
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP);

/// The highest capability of Linux 6.x (`CAP_CHECKPOINT_RESTORE` is 40); the kernel refuses higher ones, which
/// ends the loop on kernels that know more or fewer.
const LAST_CAPABILITY: u32 = 63;

/// System calls that wait for a disk. In a tree that is thrown away when anything goes wrong they only cost
/// time; they succeed without doing anything.
const SYNCS: [i64; 5] = [
    74,  // fsync
    75,  // fdatasync
    162, // sync
    277, // sync_file_range
    306, // syncfs
];

/// System calls that no package or script needs and that are doors to the host or its kernel.
const REFUSED: [i64; 23] = [
    101, // ptrace
    155, // pivot_root
    165, // mount
    166, // umount2
    167, // swapon
    168, // swapoff
    169, // reboot
    172, // iopl
    173, // ioperm
    175, // init_module
    176, // delete_module
    246, // kexec_load
    248, // add_key
    249, // request_key
    250, // keyctl
    272, // unshare: a new user namespace would give capabilities back
    298, // perf_event_open
    304, // open_by_handle_at
    308, // setns
    313, // finit_module
    320, // kexec_file_load
    321, // bpf
    323, // userfaultfd
];

/// Gives up what the sandbox's steps must not have. There is no way back.
///
/// # Errors
/// Whatever the kernel refuses; the caller must stop then.
pub(super) fn confine() -> Result<()> {
    for capability in 0..=LAST_CAPABILITY {
        if KEPT.bits() & (1 << capability) != 0 {
            continue;
        }
        if !drop_from_bounding_set(capability)? {
            break;
        }
    }
    let sets = CapabilitySets { effective: KEPT, permitted: KEPT, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).doing(|| "giving up capabilities")?;
    filter(&SYNCS, 0)?;
    filter(&REFUSED, rustix::io::Errno::PERM.raw_os_error().unsigned_abs())
}

/// Returns whether the kernel knows the capability.
fn drop_from_bounding_set(capability: u32) -> Result<bool> {
    let Some(flag) = CapabilitySet::from_bits(1 << capability) else { return Ok(true) };
    match rustix::thread::remove_capability_from_bounding_set(flag) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::INVAL) => Ok(false),
        Err(error) => Err(error).doing(|| format!("dropping capability {capability}")),
    }
}

/// Answers `calls` with `errno` (0: as if they had succeeded) from now on, in all children too.
fn filter(calls: &[i64], errno: u32) -> Result<()> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).doing(|| "choosing the system call table")?;
    if !matches!(arch, TargetArch::x86_64) {
        return Err(Error::failed(format!(
            "the sandbox knows the system calls of x86_64 only, not of {}",
            std::env::consts::ARCH
        )));
    }
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> =
        calls.iter().map(|call| (*call, Vec::new())).collect();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno), arch)
        .doing(|| "making a system call filter")?;
    let program: BpfProgram = filter.try_into().doing(|| "compiling a system call filter")?;
    seccompiler::apply_filter(&program).doing(|| "installing a system call filter")
}
