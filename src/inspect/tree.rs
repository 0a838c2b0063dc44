//! The root file system as the machine sees it: layers stacked as overlayfs stacks them, or volumes mounted into one
//! another.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use super::erofs::{Entry, Erofs, Inode, Kind};
use super::volume::{self, Object, Volume};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// The most objects a layer or volume may have; an image has about ten thousand, a vendor's about a hundred thousand.
const OBJECTS_MAX: usize = 1 << 20;

/// The longest path that Linux takes.
const PATH_LIMIT: usize = 4096;

/// How many symbolic links Linux follows in one path.
const LINKS_MAX: usize = 40;

/// One object of the tree.
#[derive(Clone)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permissions with setuid, setgid and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Target of a symbolic link; else empty.
    pub target: String,
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Layer(usize, Inode),
    /// A volume and the number of an inode in it.
    Volume(usize, u64),
    Memory(Vec<u8>),
}

#[cfg(test)]
impl Node {
    /// The number of its inode on a volume.
    pub(crate) fn inode(&self) -> Option<u64> {
        match self.content {
            Content::Volume(_, inode) => Some(inode),
            _ => None,
        }
    }
}

/// Paths (absolute, `/` not included) and what is there.
#[derive(Clone, Default)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
    layers: Vec<Erofs>,
    volumes: Vec<Volume>,
}

impl Tree {
    /// Reads the metadata of all layers, the ground first, and stacks them.
    ///
    /// # Errors
    /// Damaged layers, and overlayfs features that a bake never writes (redirects, metadata copies).
    pub fn stack(layers: Vec<Erofs>) -> Result<Self> {
        let mut tree = Self::default();
        for (number, layer) in layers.iter().enumerate() {
            tree.add(number, layer).map_err(|error| error.during(format!("reading layer {number}")))?;
        }
        tree.layers = layers;
        Ok(tree)
    }

    /// Reads the metadata of a volume as the root.
    ///
    /// # Errors
    /// A damaged volume.
    pub fn of_volume(volume: &Volume) -> Result<Self> {
        let mut tree = Self::default();
        tree.mount("", volume)?;
        Ok(tree)
    }

    /// Puts a volume at a directory; what the directory had is hidden, as a mount does it. Contents are read when they
    /// are asked for.
    ///
    /// # Errors
    /// A damaged volume.
    pub fn mount(&mut self, at: &str, volume: &Volume) -> Result<()> {
        self.remove(at);
        let number = self.volumes.len();
        let root = volume.root();
        if !at.is_empty() {
            let object = volume.object(root)?;
            // The directory itself is the volume's root.
            self.place(at.to_owned(), object, (number, root));
        }
        self.volumes.push(volume.clone());
        let mut seen = BTreeSet::new();
        let mut objects = 0;
        let mut waiting = vec![(at.to_owned(), root)];
        while let Some((directory, inode)) = waiting.pop() {
            // A directory below itself would never end.
            if !seen.insert(inode) {
                return Err(Error::failed(format!("the directory {directory} has two places")));
            }
            for volume::Entry { name, inode } in volume.entries(inode)? {
                let path = format!("{directory}/{}", shown(&name));
                objects += 1;
                if objects > OBJECTS_MAX || path.len() > PATH_LIMIT {
                    return Err(Error::failed(format!("too many objects or too long a path at {directory}")));
                }
                let object = volume.object(inode).map_err(|error| error.during(format!("reading {path}")))?;
                if object.kind == Kind::Directory {
                    waiting.push((path.clone(), inode));
                }
                self.place(path, object, (number, inode));
            }
        }
        Ok(())
    }

    fn place(&mut self, path: String, object: Object, (volume, inode): (usize, u64)) {
        let Object { kind, mode, uid, gid, size, target, xattrs } = object;
        let target = shown(&target);
        let content = Content::Volume(volume, inode);
        self.nodes.insert(path, Node { kind, mode, uid, gid, size, target, xattrs, content });
    }

    fn add(&mut self, number: usize, layer: &Erofs) -> Result<()> {
        let mut seen = BTreeSet::new();
        let mut objects = 0;
        let mut waiting = vec![(String::new(), layer.root()?)];
        while let Some((directory, inode)) = waiting.pop() {
            // A directory below itself would never end.
            if !seen.insert(inode.nid) {
                return Err(Error::failed(format!("the directory {directory} has two places")));
            }
            for Entry { name, nid } in layer.entries(&inode)? {
                let path = format!("{directory}/{}", shown(&name));
                objects += 1;
                if objects > OBJECTS_MAX || path.len() > PATH_LIMIT {
                    return Err(Error::failed(format!("too many objects or too long a path at {directory}")));
                }
                let child = layer.inode(nid).map_err(|error| error.during(format!("reading {path}")))?;
                if child.kind == Kind::Directory {
                    waiting.push((path.clone(), child.clone()));
                }
                self.put(number, layer, path, child)?;
            }
        }
        Ok(())
    }

    fn put(&mut self, number: usize, layer: &Erofs, path: String, inode: Inode) -> Result<()> {
        if inode.kind == Kind::Character(0, 0) {
            // A whiteout hides what the layers below have here.
            self.remove(&path);
            return Ok(());
        }
        let xattrs = layer.xattrs(&inode).map_err(|error| error.during(format!("reading {path}")))?;
        for refused in ["trusted.overlay.redirect", "trusted.overlay.metacopy"] {
            if xattrs.contains_key(refused) {
                return Err(Error::failed(format!("{path} has `{refused}`, which no bake writes")));
            }
        }
        let merges = inode.kind == Kind::Directory
            && xattrs.get("trusted.overlay.opaque").is_none_or(|value| value != b"y")
            && self.nodes.get(&path).is_some_and(|below| below.kind == Kind::Directory);
        if !merges {
            self.remove(&path);
        }
        let target = if inode.kind == Kind::Symlink {
            shown(&layer.read(&inode, PATH_LIMIT as u64)?)
        } else {
            String::new()
        };
        let Inode { kind, mode, uid, gid, size, .. } = inode;
        let node =
            Node { kind, mode, uid, gid, size, target, xattrs, content: Content::Layer(number, inode) };
        self.nodes.insert(path, node);
        Ok(())
    }

    /// Removes a path and everything below it.
    fn remove(&mut self, path: &str) {
        self.nodes.remove(path);
        // `0` is the character after `/`, so this range is everything below.
        let below: Vec<String> =
            self.nodes.range(format!("{path}/")..format!("{path}0")).map(|(path, _)| path.clone()).collect();
        for path in below {
            self.nodes.remove(&path);
        }
    }

    /// Returns all paths with what is there, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Returns everything below a directory, in order.
    pub fn below<'a>(&'a self, directory: &str) -> impl Iterator<Item = (&'a str, &'a Node)> + use<'a> {
        let directory = directory.trim_end_matches('/');
        self.nodes
            .range(format!("{directory}/")..format!("{directory}0"))
            .map(|(path, node)| (path.as_str(), node))
    }

    /// Returns the names directly in a directory, symbolic links to it followed.
    #[must_use]
    pub fn names(&self, directory: &str) -> Vec<&str> {
        let Some(directory) = self.resolve(directory) else { return Vec::new() };
        self.below(&directory)
            .filter_map(|(path, _)| path.strip_prefix(&directory)?.strip_prefix('/'))
            .filter(|name| !name.contains('/'))
            .collect()
    }

    /// Returns what is at a path, symbolic links not followed.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Returns what is at a path, symbolic links followed.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&Node> {
        self.nodes.get(&self.resolve(path)?)
    }

    /// Follows the symbolic links of a path; nothing when there is nothing.
    #[must_use]
    pub fn resolve(&self, path: &str) -> Option<String> {
        let mut waiting: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut done = String::new();
        let mut links = 0;
        while let Some(part) = waiting.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    done.truncate(done.rfind('/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let next = format!("{done}/{part}");
            let node = self.nodes.get(&next)?;
            if node.kind == Kind::Symlink {
                links += 1;
                if links > LINKS_MAX {
                    return None;
                }
                if node.target.starts_with('/') {
                    done.clear();
                }
                waiting.extend(node.target.split('/').rev().map(str::to_owned));
            } else {
                done = next;
            }
        }
        Some(done)
    }

    /// Returns a file's bytes, symbolic links followed; nothing when there is no file.
    ///
    /// # Errors
    /// More than `limit` bytes, and damaged layers.
    pub fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(node) = self.find(path).filter(|node| node.kind == Kind::File) else { return Ok(None) };
        let mut bytes = Vec::new();
        if node.size > limit {
            return Err(Error::failed(format!("{path} has {} bytes, more than {limit}", node.size)));
        }
        self.copy(node, &mut bytes).map_err(|error| error.during(format!("reading {path}")))?;
        Ok(Some(bytes))
    }

    /// Returns a file's text, symbolic links followed; empty when there is no file.
    ///
    /// # Errors
    /// As [`Tree::read`].
    pub fn text(&self, path: &str) -> Result<String> {
        // 16 MiB: the package database of a large installation has 5.
        let bytes = self.read(path, 1 << 24)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Returns the digest of a file's bytes.
    ///
    /// # Errors
    /// Damaged layers.
    pub fn digest(&self, node: &Node) -> Result<Digest> {
        use sha2::Digest as _;
        let mut hasher = Hasher(sha2::Sha256::new());
        self.copy(node, &mut hasher)?;
        Ok(Digest::from_bytes(hasher.0.finalize().into()))
    }

    fn copy(&self, node: &Node, to: &mut dyn Write) -> Result<()> {
        match &node.content {
            Content::Layer(number, inode) => match self.layers.get(*number) {
                Some(layer) => layer.copy(inode, to),
                None => Err(Error::failed("there is no such layer")),
            },
            Content::Volume(number, inode) => match self.volumes.get(*number) {
                Some(volume) => volume.copy(*inode, to),
                None => Err(Error::failed("there is no such volume")),
            },
            Content::Memory(bytes) => {
                to.write_all(bytes).map_err(|error| Error::failed(format!("copying: {error}")))
            }
        }
    }

    /// Puts a file, with its directories, for tests and for trees that are not on a disk.
    pub fn plant(&mut self, path: &str, mode: u32, bytes: &[u8]) {
        self.plant_node(path, Kind::File, mode, bytes, "");
    }

    /// Puts a symbolic link, with its directories.
    pub fn plant_link(&mut self, path: &str, target: &str) {
        self.plant_node(path, Kind::Symlink, 0o777, b"", target);
    }

    /// Puts any object, with its directories.
    pub fn plant_node(&mut self, path: &str, kind: Kind, mode: u32, bytes: &[u8], target: &str) {
        let at = path.rfind('/').unwrap_or(0);
        if at > 0 && !self.nodes.contains_key(&path[..at]) {
            self.plant_node(&path[..at], Kind::Directory, 0o755, b"", "");
        }
        let node = Node {
            kind,
            mode,
            uid: 0,
            gid: 0,
            size: bytes.len() as u64,
            target: target.to_owned(),
            xattrs: BTreeMap::new(),
            content: Content::Memory(bytes.to_owned()),
        };
        self.nodes.insert(path.to_owned(), node);
    }

    /// Gives access to one object, to change owner or attributes of what was planted.
    pub fn get_mut(&mut self, path: &str) -> Option<&mut Node> {
        self.nodes.get_mut(path)
    }
}

struct Hasher(sha2::Sha256);

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        use sha2::Digest as _;
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Returns a name as text; one that is no UTF-8 is escaped, so that two names never look the same.
fn shown(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) => text.to_owned(),
        Err(_) => name.escape_ascii().to_string(),
    }
}
