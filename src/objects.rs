//! Do: small objects by name: files of a directory, or objects of a bucket that several computers share.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ListResult, ObjectStore, ObjectStoreExt as _};
use serde::de::DeserializeOwned;

use crate::atomic_write::atomic_write;
use crate::error::{Doing as _, Error, Result};

/// Where small objects lie.
#[derive(Debug, Clone)]
pub enum Objects {
    /// In a directory of this computer, which need not be there yet. What is written is on the disk.
    Directory(PathBuf),
    /// In a bucket.
    Bucket(Bucket),
}

/// A place in a bucket that is read and written as S3 does it: what was written is what is read from then on.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// The whole bucket.
    pub objects: Arc<dyn ObjectStore>,
    /// What all names here begin with; may be empty.
    pub prefix: Path,
    /// The same for people: `s3://bucket/prefix`.
    pub url: String,
}

impl Bucket {
    fn path(&self, name: &str) -> Path {
        name.split('/').fold(self.prefix.clone(), Path::join)
    }

    async fn list(&self) -> Result<ListResult> {
        let listed = self.objects.list_with_delimiter(Some(&self.prefix)).await;
        listed.map_err(|error| failed(&error, &format!("listing {}/", self.url)))
    }

    /// Returns what is here, as an object store of its own.
    #[must_use]
    pub fn part(&self) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(Arc::clone(&self.objects), self.prefix.clone()))
    }
}

/// What an `s3://bucket/prefix?region=name` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Url {
    /// The bucket's name.
    pub bucket: String,
    /// What all names begin with; may be empty.
    pub prefix: String,
    /// The bucket's region, where it is said.
    pub region: Option<String>,
}

impl FromStr for S3Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("s3://").ok_or("it is no `s3://bucket/prefix`")?;
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let region = match query.map(|query| query.strip_prefix("region=")) {
            None => None,
            Some(Some(region)) if !region.is_empty() => Some(region.to_owned()),
            Some(_) => return Err("after `?` only `region=NAME` may follow".to_owned()),
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        // S3 user guide, "General purpose bucket naming rules".
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(fits) {
            return Err(format!(
                "`{bucket}` is no bucket: 3 to 63 lower-case letters, digits, dots and hyphens"
            ));
        }
        let prefix = prefix.trim_end_matches('/');
        if !prefix.is_empty() && prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("`{prefix}` is no prefix: it has a part that is empty or dots"));
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned(), region })
    }
}

impl fmt::Display for S3Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "s3://{}{slash}{}", self.bucket, self.prefix)
    }
}

/// An object in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name, without what it was listed under.
    pub name: String,
    /// When it was last written.
    pub changed: Timestamp,
}

impl Objects {
    /// Returns the objects whose names begin with `part` and a slash, named by what comes after it.
    #[must_use]
    pub fn under(&self, part: &str) -> Self {
        match self {
            Self::Directory(dir) => Self::Directory(dir.join(part)),
            Self::Bucket(bucket) => Self::Bucket(Bucket {
                objects: Arc::clone(&bucket.objects),
                prefix: bucket.path(part),
                url: format!("{}/{part}", bucket.url),
            }),
        }
    }

    /// Where an object is, for people.
    #[must_use]
    pub fn place(&self, name: &str) -> String {
        match self {
            Self::Directory(dir) => dir.join(name).display().to_string(),
            Self::Bucket(bucket) => format!("{}/{name}", bucket.url),
        }
    }

    /// Reads an object; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be read, or whether it is there cannot be told.
    pub async fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let doing = || format!("reading {}", self.place(name));
        match self {
            Self::Directory(dir) => match fs::read(dir.join(name)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                read => read.doing(doing).map(Some),
            },
            Self::Bucket(bucket) => {
                let found = get(&*bucket.objects, &bucket.path(name)).await;
                found.map_err(|error| failed(&error, &doing()))
            }
        }
    }

    /// Reads an object that is JSON; `None` when there is none.
    ///
    /// # Errors
    /// As [`Objects::read`]; it is not what it should be.
    pub async fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(bytes) = self.read(name).await? else { return Ok(None) };
        serde_json::from_slice(&bytes).doing(|| format!("reading {}", self.place(name))).map(Some)
    }

    /// Writes an object as a whole, whether there is one or not.
    ///
    /// # Errors
    /// It cannot be written, or whether it was cannot be told.
    pub async fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Directory(dir) => {
                let file = dir.join(name);
                let parent = file.parent().unwrap_or(dir);
                fs::create_dir_all(parent).doing(|| format!("creating {}", parent.display()))?;
                atomic_write(&file, bytes)
            }
            Self::Bucket(bucket) => {
                let written = bucket.objects.put(&bucket.path(name), bytes.to_vec().into()).await;
                written.map(drop).map_err(|error| failed(&error, &format!("writing {}", self.place(name))))
            }
        }
    }

    /// Removes an object, whether there is one or not.
    ///
    /// # Errors
    /// It cannot be removed, or whether it was cannot be told.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let doing = || format!("removing {}", self.place(name));
        match self {
            Self::Directory(dir) => match fs::remove_file(dir.join(name)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                removed => removed.doing(doing),
            },
            Self::Bucket(bucket) => match bucket.objects.delete(&bucket.path(name)).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                removed => removed.map_err(|error| failed(&error, &doing())),
            },
        }
    }

    /// Returns what lies directly here, in the order of the names.
    ///
    /// # Errors
    /// It cannot be listed.
    pub async fn list(&self) -> Result<Vec<Listed>> {
        let doing = || format!("listing {}", self.place(""));
        let mut all = Vec::new();
        match self {
            Self::Directory(dir) => {
                let entries = match fs::read_dir(dir) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(all),
                    entries => entries.doing(doing)?,
                };
                for entry in entries {
                    let entry = entry.doing(doing)?;
                    // One that went meanwhile is not there.
                    let Ok(about) = entry.metadata() else { continue };
                    let name = entry.file_name().into_string();
                    // A hidden one is being written.
                    if let (true, Ok(name)) = (about.is_file(), name)
                        && !name.starts_with('.')
                    {
                        let changed = Timestamp::try_from(about.modified().doing(doing)?).doing(doing)?;
                        all.push(Listed { name, changed });
                    }
                }
            }
            Self::Bucket(bucket) => {
                for object in bucket.list().await?.objects {
                    let name = object.location.filename().unwrap_or_default().to_owned();
                    let changed = Timestamp::from_second(object.last_modified.timestamp()).doing(doing)?;
                    all.push(Listed { name, changed });
                }
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Returns the names of what lies deeper, up to the next slash, in their order.
    ///
    /// # Errors
    /// It cannot be listed.
    pub async fn folders(&self) -> Result<Vec<String>> {
        match self {
            Self::Directory(dir) => {
                let name = |path: PathBuf| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
                Ok(crate::store::directories(dir)?.into_iter().filter_map(name).collect())
            }
            Self::Bucket(bucket) => {
                let name = |path: Path| path.filename().map(str::to_owned);
                let deeper = bucket.list().await?.common_prefixes;
                let mut names: Vec<_> = deeper.into_iter().filter_map(name).collect();
                names.sort();
                Ok(names)
            }
        }
    }
}

/// Reads an object of any store; `None` when there is none.
pub(crate) async fn get(objects: &dyn ObjectStore, path: &Path) -> object_store::Result<Option<Vec<u8>>> {
    match objects.get(path).await {
        Ok(found) => Ok(Some(found.bytes().await?.to_vec())),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A bucket's error, for people.
pub(crate) fn failed(error: &object_store::Error, doing: &str) -> Error {
    let words = chain(error);
    // Of lists, only the words say it.
    let denied = words.contains("403 Forbidden")
        || matches!(
            error,
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }
        );
    let hint = if denied {
        "check the credentials, and that they and the bucket's policy allow s3:GetObject, s3:PutObject and s3:DeleteObject \
         on its objects and s3:ListBucket on the bucket: `rekiln aws policy --roll` prints it"
    } else {
        "check that the bucket is there, and is reached from here by its name and region; what was begun is written down as \
         far as it came: run it again to go on"
    };
    Error::failed(format!("{doing}: {words}")).hint(hint)
}

/// The error with what it comes from, each once.
fn chain(error: &object_store::Error) -> String {
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let more = inner.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        source = inner.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    async fn play(objects: Objects) {
        let part = objects.under("aws/web");
        assert_eq!(part.read("a.json").await.expect("read"), None);
        assert_eq!(part.list().await.expect("listed"), []);
        part.remove("a.json").await.expect("nothing to do");
        part.write("b.json", b"b").await.expect("written");
        part.write("a.json", b"1").await.expect("written");
        part.write("a.json", b"2").await.expect("written over");
        part.write("leases/c.json", b"c").await.expect("written");
        assert_eq!(part.read("a.json").await.expect("read").as_deref(), Some(&b"2"[..]));
        let names = |listed: Vec<Listed>| listed.into_iter().map(|one| one.name).collect::<Vec<_>>();
        assert_eq!(names(part.list().await.expect("listed")), ["a.json", "b.json"]);
        assert_eq!(names(part.under("leases").list().await.expect("listed")), ["c.json"]);
        assert_eq!(part.folders().await.expect("listed"), ["leases"]);
        // What begins alike is not what is meant.
        objects.write("aws/web-2/x", b"x").await.expect("written");
        assert_eq!(objects.under("aws").folders().await.expect("listed"), ["web", "web-2"]);
        part.remove("a.json").await.expect("removed");
        assert_eq!(names(part.list().await.expect("listed")), ["b.json"]);
    }

    #[test]
    fn what_a_url_says() {
        let read = |text: &str| text.parse::<S3Url>();
        let full = read("s3://my.bucket-1/some/where/?region=eu-west-1").expect("an URL");
        assert_eq!(full.to_string(), "s3://my.bucket-1/some/where");
        assert_eq!(full.region.as_deref(), Some("eu-west-1"));
        assert_eq!(read("s3://bucket").expect("an URL").to_string(), "s3://bucket");
        for wrong in [
            "bucket",
            "file:///x",
            "s3://",
            "s3://Bucket/x",
            "s3://ab",
            "s3://abc//x",
            "s3://abc/../x",
            "s3://abc?x=y",
            "s3://abc?region=",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_directory_and_a_bucket_are_alike() {
        let dir = tempfile::tempdir().expect("a directory");
        play(Objects::Directory(dir.path().join("store"))).await;
        let (objects, url) = (Arc::new(InMemory::new()), "s3://bucket/some/where".to_owned());
        play(Objects::Bucket(Bucket { objects, prefix: Path::from("some/where"), url })).await;
    }
}
