//! What is published, on a volume: after a restart it is served again although nothing else can be reached.
//!
//! ```text
//! <folder>/.lock                                flock'ed by the process that serves from it
//! <folder>/.identity                            what that process is called, now and after a restart
//! <folder>/<namespace>/<name>/<sha256>.tar.gz   an artifact; its time is when it was current last
//! <folder>/<namespace>/<name>/published.json    the one that was published last: see [`Published`]
//! ```
//!
//! Files are written beside their place, synced and renamed, the artifact before the index that names it. What cannot be
//! read, or is not what its name or the index says, is told at the start and not served; what a volume brings along of
//! its own (`lost+found`) is passed over.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use regent_core::name::{AuthorityName, Epoch, ObjectName};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::pack::Packed;
use super::tree::Digest;
use crate::config;
use crate::durable;
use crate::failure::{Failure, reason};

/// What was published last under a name, as an `ExternalArtifact`'s status tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    /// `<word>@sha256:<digits>`; another one is what makes kustomize-controller look.
    pub(crate) revision: String,
    /// Of the artifact's bytes.
    pub(crate) digest: Digest,
    /// Its bytes.
    pub(crate) size: u64,
    /// The status's metadata, such as the revision of the repository.
    pub(crate) metadata: BTreeMap<String, String>,
    /// Whose documents are in it.
    pub(crate) authority: AuthorityName,
    /// The epoch in which it was made.
    pub(crate) epoch: Epoch,
    /// What it holds of the authority's secrets.
    pub(crate) holds: Holds,
}

/// What an artifact holds of secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Holds {
    /// Ciphertext that opens with regent's help: Git rules.
    Ciphertext,
    /// Stubs: Vault rules.
    Stubs,
}

/// What lies in the folder and is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unsound {
    /// The file or folder.
    pub(crate) path: PathBuf,
    /// The rule it breaks.
    pub(crate) problem: String,
}

/// An artifact that can be sent.
pub(crate) struct Shelved {
    /// Its bytes.
    pub(crate) size: u64,
    /// Where they are.
    pub(crate) content: Content,
}

/// Where an artifact's bytes are.
pub(crate) enum Content {
    Memory(Bytes),
    /// To be opened with [`open_whole`], which waits for the volume.
    File(PathBuf),
}

/// The artifacts of one process. Readers and one writer at a time.
pub(crate) struct Shelf {
    folder: PathBuf,
    names: RwLock<HashMap<ObjectName, Kept>>,
    /// Held while files change.
    writing: Mutex<()>,
    _lock: OwnedFd,
}

/// What is known of one name.
#[derive(Default)]
struct Kept {
    published: Option<Published>,
    /// Every artifact that is served, by what it says of itself.
    sizes: HashMap<Digest, u64>,
    /// The current one, where it is small.
    current: Option<Bytes>,
}

impl Shelf {
    /// Opens a folder that is there, compares every artifact with its name, and tells what is not served.
    ///
    /// # Errors
    /// A folder that is not there, cannot be read or locked, or serves another process.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Vec<Unsound>), Failure> {
        Self::open_within(folder, LOCK_PATIENCE)
    }

    fn open_within(folder: &Path, patience: Duration) -> Result<(Self, Vec<Unsound>), Failure> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(folder, flags, Mode::empty());
        let opened = opened.map_err(|errno| Failure::io("open", folder, &errno.into()))?;
        let lock = durable::lock(folder, &opened, LOCK, patience, || Failure::World {
            what: "lock",
            name: folder.display().to_string(),
            reason: "another process serves from it; each replica needs a folder of its own".to_owned(),
        })?;
        let (mut names, mut unsound) = (HashMap::new(), Vec::new());
        for (namespace, path) in listed(folder, &mut unsound)? {
            if namespace.starts_with('.') || namespace == LOST_AND_FOUND {
                continue;
            }
            if !is_folder(&path) {
                unsound.push(Unsound::new(&path, "it is no folder of a namespace"));
                continue;
            }
            for (name, path) in listed(&path, &mut unsound).unwrap_or_default() {
                match ObjectName::parse(&format!("{namespace}/{name}")) {
                    Ok(object) if is_folder(&path) => {
                        names.insert(object, read(&path, &mut unsound));
                    }
                    Ok(_) | Err(_) => unsound.push(Unsound::new(&path, "it is no folder of an artifact's name")),
                }
            }
        }
        let mut in_memory = 0;
        for (name, kept) in &mut names {
            kept.current = small(&folder.join(name.to_string()), kept, &mut in_memory);
        }
        let shelf =
            Self { folder: folder.to_owned(), names: RwLock::new(names), writing: Mutex::default(), _lock: lock };
        Ok((shelf, unsound))
    }

    /// What nobody else is called: the folder serves one process. It is the same after a restart, unless it could not be
    /// noted.
    pub(crate) fn identity(&self) -> String {
        let noted = fs::read_to_string(self.folder.join(IDENTITY)).ok();
        let noted = noted.filter(|noted| Uuid::parse_str(noted).is_ok());
        let id = noted.unwrap_or_else(|| {
            let id = Uuid::new_v4().to_string();
            drop(durable::replace(&self.folder, IDENTITY, id.as_bytes()));
            id
        });
        let host = rustix::system::uname();
        format!("{}_{id}", host.nodename().to_string_lossy())
    }

    /// What was published last under a name.
    pub(crate) fn published(&self, name: &ObjectName) -> Option<Published> {
        self.names.read().unwrap_or_else(PoisonError::into_inner).get(name)?.published.clone()
    }

    /// All names under which something was published.
    pub(crate) fn names(&self) -> Vec<ObjectName> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.iter().filter(|(_, kept)| kept.published.is_some()).map(|(name, _)| name.clone()).collect()
    }

    /// The artifact of these bytes under a name; `None` where there is none that is sound. It waits for no volume.
    pub(crate) fn find(&self, name: &ObjectName, digest: Digest) -> Option<Shelved> {
        let size = {
            let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
            let kept = names.get(name)?;
            let size = *kept.sizes.get(&digest)?;
            if let Some(bytes) = &kept.current
                && kept.published.as_ref().is_some_and(|published| published.digest == digest)
            {
                return Some(Shelved { size, content: Content::Memory(bytes.clone()) });
            }
            size
        };
        Some(Shelved { size, content: Content::File(self.file(name, digest)) })
    }

    /// Puts an artifact on the shelf and makes it the one that was published last. Whoever fetches an older one still finds
    /// it for a while. What is there already is not written again. It blocks: files are synced.
    ///
    /// # Errors
    /// A file that cannot be written (a full disk, a read-only folder). Then everything is served as before.
    pub(crate) fn put(&self, name: &ObjectName, packed: &Packed, published: &Published) -> Result<(), Failure> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if published.digest != packed.digest || published.size != packed.gzip.len() as u64 {
            return Err(Failure::Bug);
        }
        let folder = self.folder_of(name)?;
        let before = self.published(name);
        if open_whole(&self.file(name, packed.digest), published.size).is_none() {
            durable::replace(&folder, &file_name(packed.digest), &packed.gzip)?;
        }
        if before.as_ref() != Some(published) {
            durable::replace(&folder, INDEX, &published.to_json())?;
        }
        if let Some(before) = before.filter(|before| before.digest != packed.digest) {
            touch(&folder.join(file_name(before.digest)));
        }
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        let in_memory = |kept: &Kept| kept.current.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let held: u64 = names.iter().filter(|(other, _)| *other != name).map(|(_, kept)| in_memory(kept)).sum();
        let kept = names.entry(name.clone()).or_default();
        kept.published = Some(published.clone());
        kept.sizes.insert(packed.digest, published.size);
        kept.current = (held + published.size <= IN_MEMORY).then(|| packed.gzip.clone());
        for old in outdated(&folder, kept) {
            // What cannot be removed takes room, and is tried again with the next one.
            if fs::remove_file(folder.join(file_name(old))).is_ok() {
                kept.sizes.remove(&old);
            }
        }
        Ok(())
    }

    fn file(&self, name: &ObjectName, digest: Digest) -> PathBuf {
        self.folder.join(name.to_string()).join(file_name(digest))
    }

    /// The folder of a name, made where it is missing.
    fn folder_of(&self, name: &ObjectName) -> Result<PathBuf, Failure> {
        let namespace = self.folder.join(name.namespace().as_str());
        let folder = namespace.join(name.name());
        for folder in [&namespace, &folder] {
            match DirBuilder::new().mode(0o700).create(folder) {
                Ok(()) => durable::sync_parent(folder)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Failure::io("make", folder, &error)),
            }
        }
        durable::remove_leftovers(&folder)?;
        Ok(folder)
    }
}

impl Published {
    /// The path under which it is served, as `status.artifact.path` has it.
    pub(crate) fn path(&self, name: &ObjectName) -> String {
        format!("{PREFIX}/{name}/{}", file_name(self.digest))
    }

    fn to_json(&self) -> Vec<u8> {
        let Self { revision, digest, size, metadata, authority, epoch, holds } = self;
        let written = Written {
            schema: SCHEMA,
            revision: revision.clone(),
            digest: digest.to_string(),
            size: *size,
            metadata: metadata.clone(),
            authority: authority.as_str().to_owned(),
            epoch: u64::from(epoch.get()),
            holds: *holds,
        };
        // Text and numbers are always JSON.
        serde_json::to_vec(&written).unwrap_or_default()
    }

    fn from_json(json: &[u8]) -> Option<Self> {
        let written: Written = serde_json::from_slice(json).ok()?;
        let Written { schema, revision, digest, size, metadata, authority, epoch, holds } = written;
        if schema != SCHEMA {
            return None;
        }
        let digest = Digest::parse(&digest).ok()?;
        let authority = AuthorityName::parse(&authority).ok()?;
        Some(Self { revision, digest, size, metadata, authority, epoch: Epoch::new(epoch).ok()?, holds })
    }
}

impl Unsound {
    fn new(path: &Path, problem: &str) -> Self {
        Self { path: path.to_owned(), problem: problem.to_owned() }
    }
}

/// `published.json`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    schema: u32,
    revision: String,
    digest: String,
    size: u64,
    metadata: BTreeMap<String, String>,
    authority: String,
    epoch: u64,
    holds: Holds,
}

/// Reads the folder of one name.
fn read(folder: &Path, unsound: &mut Vec<Unsound>) -> Kept {
    let mut kept = Kept::default();
    let Ok(files) = listed(folder, unsound) else { return kept };
    for (name, path) in files {
        if name == INDEX || durable::is_temporary(&name) {
            continue;
        }
        let Some(digest) = name.strip_suffix(SUFFIX).and_then(Digest::of_digits) else {
            unsound.push(Unsound::new(&path, "it is neither an artifact nor an index"));
            continue;
        };
        match hashed(&path) {
            Ok((found, size)) if found == digest => drop(kept.sizes.insert(digest, size)),
            Ok(_) => unsound.push(Unsound::new(&path, "its bytes are not those that its name says")),
            Err(error) => unsound.push(Unsound::new(&path, &reason(&error))),
        }
    }
    let index = folder.join(INDEX);
    match index.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return kept,
        Err(error) => {
            unsound.push(Unsound::new(&index, &reason(&error)));
            return kept;
        }
        Ok(_) => {}
    }
    let published = config::read_bounded(&index, MAX_INDEX_BYTES).ok().and_then(|json| Published::from_json(&json));
    match published {
        Some(published) if kept.sizes.get(&published.digest) == Some(&published.size) => {
            kept.published = Some(published);
        }
        Some(_) => unsound.push(Unsound::new(&index, "the artifact that it names is not there, or damaged")),
        None => unsound.push(Unsound::new(&index, "it is no index that this regent reads")),
    }
    kept
}

/// What lies in a folder, in the order of the names.
fn listed(folder: &Path, unsound: &mut Vec<Unsound>) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let entries = fs::read_dir(folder).and_then(|entries| {
        entries
            .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())))
            .collect()
    });
    entries.map_err(|error| {
        unsound.push(Unsound::new(folder, &reason(&error)));
        Failure::io("read", folder, &error)
    })
}

fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

/// The current artifact's bytes, where there is room for them.
fn small(folder: &Path, kept: &Kept, in_memory: &mut u64) -> Option<Bytes> {
    let published = kept.published.as_ref()?;
    if *in_memory + published.size > IN_MEMORY {
        return None;
    }
    let bytes = config::read_bounded(&folder.join(file_name(published.digest)), published.size).ok()?;
    (Digest::of(&bytes) == published.digest).then(|| {
        *in_memory += published.size;
        bytes.into()
    })
}

/// The artifacts that nobody can be asking for any more.
fn outdated(folder: &Path, kept: &Kept) -> Vec<Digest> {
    let current = kept.published.as_ref().map(|published| published.digest);
    let now = SystemTime::now();
    let left = |digest: &Digest| {
        let time = folder.join(file_name(*digest)).metadata().and_then(|metadata| metadata.modified());
        // A time to come is that of a clock that was set back.
        time.ok().and_then(|time| now.duration_since(time).ok()).unwrap_or_default()
    };
    let mut older: Vec<(Duration, Digest)> =
        kept.sizes.keys().filter(|digest| Some(**digest) != current).map(|digest| (left(digest), *digest)).collect();
    older.sort();
    older.into_iter().skip(KEPT - 1).filter(|(left, _)| *left > FETCHED_WITHIN).map(|(_, digest)| digest).collect()
}

/// Notes that an artifact was current until now.
fn touch(file: &Path) {
    // Where that is not noted, it is kept for a shorter time.
    let _ = File::options().write(true).open(file).and_then(|file| file.set_modified(SystemTime::now()));
}

/// A file's own digest and size.
fn hashed(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = open_file(path)?;
    let (mut hasher, mut size, mut piece) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((Digest::of_hasher(hasher), size)),
            read => {
                hasher.update(&piece[..read]);
                size += read as u64;
            }
        }
    }
}

/// A published artifact's file; `None` where it is gone, or was cut since.
pub(super) fn open_whole(path: &Path, size: u64) -> Option<File> {
    open_file(path).ok().filter(|file| file.metadata().is_ok_and(|metadata| metadata.len() == size))
}

/// A regular file, neither a link nor something that would stop the reader.
fn open_file(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

fn file_name(digest: Digest) -> String {
    format!("{}{SUFFIX}", digest.digits())
}

/// The first folder of an artifact's path, which Flux' own sources have by their kind.
pub(super) const PREFIX: &str = "externalartifact";
pub(super) const SUFFIX: &str = ".tar.gz";
const INDEX: &str = "published.json";
const SCHEMA: u32 = 1;
/// No namespace begins with a dot.
const LOCK: &str = ".lock";
const IDENTITY: &str = ".identity";
/// What a new ext4 volume holds.
const LOST_AND_FOUND: &str = "lost+found";

/// Largest index, in bytes: revisions and some metadata.
const MAX_INDEX_BYTES: u64 = 64 << 10;

/// How long to wait for a process that is about to end.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// How many artifacts of a name are kept, as source-controller keeps them.
const KEPT: usize = 2;

/// How long somebody may still be about to fetch one that is no longer current: the controller has a copy of the status,
/// and waits up to 30 seconds between two attempts.
const FETCHED_WITHIN: Duration = Duration::from_secs(300);

/// Most bytes of current artifacts in memory, all names together.
const IN_MEMORY: u64 = 64 << 20;

#[cfg(test)]
mod tests;
