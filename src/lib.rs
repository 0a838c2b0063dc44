//! rekiln bakes hardened machine images from recipes in Git and rolls fleets by replacing instances.
//!
//! This page is the architecture: the data's way, the parts, what always holds, and what was decided.
//!
//! # The data's way
//!
//! ```text
//! images/web.toml --> Recipe --resolve--> Lock --fetch--> vault (inputs by digest)
//! Recipe + Lock + templates --> ImageId
//! Lock --> layers --> sealed disk --> findings, boot verdict --> catalog
//! fleets/web.toml --> Fleet;   provider --> Census;   journal --> History
//! plan(Fleet, target, Census, History, now) --> Plan { actions, holds }
//! roll: intent into the journal --> check --> act --> outcome --> next census
//! ```
//!
//! Nothing flows left. Every value on the right of an arrow can be printed, saved and compared.
//!
//! # Three kinds of code
//!
//! *Decide* is values in, values out: no clock, no randomness, no I/O; what was seen and the time are
//! arguments. *Do* is I/O and makes no choice that a decision could have made. *Tell* is the command line.
//! Decide imports neither of the others.
//!
//! # The parts
//!
//! Along the data's way:
//!
//! * [`repository`]: recipes, templates, fleet files and playbooks of one Git repository, read and checked together
//!   (do); [`git`] says at which revision.
//! * [`recipe`]: what a person wrote for an image, its templates rendered, and the image id (decide).
//! * [`lock`]: every input by digest. `Lock` and its comparisons decide; apt, downloads and the vault do.
//! * [`bake`]: from a lock to a sealed disk (do). `layout`, `arrange` (where each file lies) and `trim`, the strict
//!   profile, are values (decide).
//! * [`inspect`]: what is on a sealed disk and what is wrong with it; reads GPT, FAT, erofs and dm-verity
//!   itself.
//! * [`vm`]: virtual machines, and the boot verdict of an image (do).
//! * [`catalog`]: records of the images made, with their bills of materials and their signed provenance.
//! * [`publish`]: from a baked image to AMIs: blocks, pace and plan decide; with the ledger, the rest does.
//! * [`fleet`]: `Fleet`, census, plan (decide); the roll loop and the journal (do).
//! * [`backup`]: what members hold, copied to an object store and proved by a restore (do); what the journal means and what is
//!   kept decide.
//! * [`provider`]: the seam to where instances live: this computer, Auto Scaling groups, and simulated worlds. Only
//!   `provider::aws` knows AWS's SDK.
//! * [`pipeline`]: what automation runs, from a commit to a commit; what differs, which vulnerabilities that fixes, in which
//!   order, who waits for whom and the message decide.
//! * [`watch`]: the pipeline as a service; who leads, what is due and what an alert means decide, the rest runs commands of
//!   rekiln and shows what is seen (do, tell).
//! * [`gc`]: what of the store nothing reaches (decide), looked up and removed (do).
//! * [`cli`]: one file a command (tell).
//!
//! What they share: [`chain`] (journals), [`store`] (everything that is not in Git) and [`scratch`] (what is half made),
//! [`claim`] (what a process uses of the store and must not be collected), [`digest`], [`cpio`], [`holes`] (what of a
//! file is data), [`notation`] (the small languages inside values: sizes, durations, paths, ports, versions),
//! [`diagnostic`] and [`error`] (what is wrong, where, and what to do next), [`process`] (the one way to run
//! another program), [`curl`] (the one way to reach an URL), `ssh` (the one way into a machine that becomes an image), [`interrupt`] (Ctrl-C in the middle of work),
//! [`mod@atomic_write`] (files that are never half there), [`markup`] (text in XML and HTML), [`progress`], [`load`] (steady requests, to see that none is
//! lost).
//!
//! Outside this crate, `bootstrap/guest` is the program in each image: the initrd's init and the agent.
//!
//! # What always holds
//!
//! * The image id covers everything that can change the bytes, and nothing else: [`recipe::inputs`].
//! * A bake takes a lock, never a recipe's wishes. A byte that differs from the lock stops it.
//! * No byte of an image comes from a random source or a clock: identifiers come from the image id, times
//!   from the lock's epoch.
//! * A name in the store is whole: everything is made in scratch space and renamed. `record.json` comes last.
//! * Whatever runs in an image's tree runs in namespaces that end with the process that made them.
//! * What a process uses of the store is claimed before it is looked up; what is collected leaves its place in one
//!   step, while nobody can claim it.
//! * Only an image with a passing verdict is a fleet's target, and never a debug variant.
//! * An intent is in the journal before its act. Who loses the journal does not act.
//! * A healthy instance is drained only while enough others serve, and ended only after it was drained. What
//!   cannot be told is neither healthy nor gone.
//!
//! # Decided
//!
//! * **The root is a stack of uncompressed erofs layers under one dm-verity tree**, put together by the
//!   initrd with overlayfs: two layers for each recipe, packages and files. A change of a template makes one
//!   small layer, the digest and the hash tree anew and nothing else, and unchanged layers keep their place
//!   on the disk, which upload by blocks will use. Compression with lz4hc halves a layer and takes about
//!   seven times as long (measured).
//! * **Modules are in the initrd only**, and `kernel.modules_disabled=1` follows. The root has none, so that
//!   nothing can be loaded later; a recipe names further ones in `[kernel] modules`.
//! * **The guest program is built by this crate's build script** and embedded, with paths remapped and a
//!   profile of its own. One `cargo build` gives everything, and its digest, which is part of every image id,
//!   does not depend on who builds.
//! * **The package database is made by the tree's own dpkg, which runs in the sandbox**; rekiln only unpacks
//!   the first packages. mmdebstrap is not used: it would resolve again, and cannot stop at a layer.
//! * **No unit is skipped at run time that can be left out**: on a translated machine each process that
//!   systemd starts costs about 50 ms. Generators and most of the units that systemd's package starts by
//!   default are not in the image.
//! * **File systems and partition tables are written as plain files** by user-space programs. Nothing of an
//!   image is mounted on the host, whose kernel may lack vfat, partition tables and device-mapper.
//! * **`inspect` reads the disk with code of its own** and not with the tools that wrote it, and sees what
//!   the kernel would see.
//! * **Git is a program here, not a library**: rekiln asks it little, and every newcomer would compile
//!   a library. curl and apt fetch, for the same reason, and because they know the host's proxies.
//! * **Health is HAProxy's**: `consecutive` is its own counter of good answers in a row, so that what rekiln
//!   believes and what requests meet cannot differ.
//! * **Collections and bakes do not wait for each other**: a bake says in a file of its scratch space what it will use,
//!   as Nix's temporary roots do. A lock held for whole bakes would let a busy store never be collected.
//! * **An Auto Scaling group is made from the fleet's file, and changed only by replacing its instances**: what these are
//!   launched with is rolled in steps that can be stopped; another subnet or bound would take effect at once, and over
//!   what its owner has done meanwhile. Whose it is a tag says, as it does for AMIs, and no state file.
//! * **A shard is a fleet**, with a name, a journal and machines of its own: what a file says of several becomes one `Fleet` for
//!   each where the repository is read, and nothing after that knows of shards but in which order they come.
//! * **A vendor's system starts without its boot loader and cloud-init where it can**, and its packages are chosen and
//!   downloaded on this computer meanwhile: the same files come out in six tenths of the time of Packer, which has the
//!   translated machine do all of it. What the disk lacks for that is found before, and then its vendor's way is taken.
//! * **KVM is tried by booting a kernel**, since `/dev/kvm` may open and still not work.
//! * **The verdict and local fleets boot kernel and initrd directly**, with the sealed command line: the
//!   firmware's seconds say nothing about the image.
//!
//! # Deliberately absent
//!
//! * A state file that says what a fleet runs: the provider is asked, and the journal remembers only intents
//!   and outcomes.
//! * Patching in place, and any way to log in to a machine.
//! * A database, a lock service, and a daemon that anything depends on: the store is files, created once, and `watch` only
//!   says when commands run that anybody could run.
//! * Retries in decisions, and defaults that depend on the host.
//! * Names of mirrors: they are the host's or the user's.

pub mod atomic_write;
pub mod backup;
pub mod bake;
pub mod catalog;
pub mod chain;
pub mod claim;
pub mod cli;
pub mod cpio;
pub mod curl;
pub mod diagnostic;
pub mod digest;
pub mod error;
pub mod fleet;
pub mod gc;
pub mod git;
pub mod holes;
pub mod inspect;
pub mod interrupt;
pub mod load;
pub mod lock;
pub mod markup;
pub mod notation;
pub mod objects;
pub mod pipeline;
pub mod process;
pub mod progress;
pub mod provider;
pub mod publish;
pub mod recipe;
pub mod repository;
pub mod scratch;
#[cfg(feature = "ssh")]
pub mod ssh;
pub mod store;
pub mod table;
pub mod vm;
pub mod watch;
