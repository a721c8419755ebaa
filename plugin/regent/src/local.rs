//! The embedded authority store: the witnesses as JSON files in a folder, for one machine without a cluster.
//!
//! ```text
//! <store>/store.json                  {"schema":1,"kind":"AuthorityStore"}: this folder is a store
//! <store>/lock                        flock'ed by whoever writes
//! <store>/<name>/authority.json       the Authority: who holds the current epoch
//! <store>/<name>/handover-<epoch>.json   the immutable witness of a handover, with the list of documents
//! <store>/<name>/status.json          what was seen since, as in the Authority's `status`: settled, imported, rebound, heartbeat
//! ```
//!
//! The fields are those of the handover record ([`regent_core::evidence`]). Folders are 0700, files 0600; what
//! anybody but its owner can write is no evidence.
//!
//! *Absent* is only what a store that calls itself one does not hold: a folder without `store.json` is an error,
//! because a disk that is not mounted looks just like that. Whatever else cannot be read is unreadable, never absent.
//!
//! A file is written beside its place, synced, renamed and its folder synced, under the lock: a crash between any
//! two steps leaves the old state or the new one, and a temporary file that the next writer removes. Readers need
//! no lock. What may replace what is [`AuthorityWitness::may_follow`]: the rules of the cluster's schema.

use crate::cluster::authority::AuthorityStatus;
use crate::config::{self, KUBERNETES_SERVICE_HOST};
use crate::durable::{self, is_temporary, remove_leftovers, sync_parent};
use crate::failure::{Failure, reason};
use regent_core::evidence::{AuthorityWitness, Evidence, HandoverWitness, Holds, Reading};
use regent_core::name::{AuthorityName, Epoch};
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// What a folder is before something is created in it.
pub(crate) enum Survey {
    /// It does not exist, or it is empty: a store can be made of it.
    NoStoreYet,
    /// It is a store, and this is what it knows of one authority.
    Store(Box<Evidence>),
}

/// Reads what the store in `folder` knows of the authority `name`.
///
/// # Errors
/// [`Failure::Store`] where the folder is no store, or others can write it.
pub(crate) fn read(folder: &Path, name: &AuthorityName) -> Result<Evidence, Failure> {
    match survey(folder, name)? {
        Survey::Store(evidence) => Ok(*evidence),
        Survey::NoStoreYet => Err(refused(folder, "it holds no store: not made yet, or not mounted")),
    }
}

/// What was seen of the authority `name`; nothing where nobody noted anything.
///
/// # Errors
/// [`Failure::Store`] where that cannot be read.
pub(crate) fn status(folder: &Path, name: &AuthorityName) -> Result<AuthorityStatus, Failure> {
    let read = || {
        let store = open_store(folder).map_err(told)?;
        let authority = match open_inside(&store, name.as_str(), OFlags::DIRECTORY) {
            Err(Errno::NOENT) => return Ok(None),
            authority => authority.map_err(told)?,
        };
        read_file(&authority, STATUS, MAX_WITNESS_BYTES)
    };
    let json = read().map_err(|problem| refused(folder, &problem))?;
    let parsed = json.map(|json| serde_json::from_slice(&json)).transpose();
    parsed.map(Option::unwrap_or_default).map_err(|_| refused(folder, &format!("{STATUS}: it is no status")))
}

/// Whether a server may take this store for evidence: it must not be able to write it, because whoever takes the
/// server over could then undo a handover; and a folder in a pod is gone with the node. `demo` allows both.
pub(crate) fn only_to_be_read(folder: &Path, demo: bool) -> Result<(), Failure> {
    if demo {
        return Ok(());
    }
    if config::variable(KUBERNETES_SERVICE_HOST).is_some() {
        return Err(refused(folder, "in a pod a folder is no store: it does not outlive the node"));
    }
    let writable = |path: &Path| rustix::fs::accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok();
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let below = entries.flat_map(|entry| {
        let inside = fs::read_dir(&entry).into_iter().flatten().filter_map(Result::ok).map(|inside| inside.path());
        inside.chain([entry.clone()]).collect::<Vec<_>>()
    });
    match below.chain([folder.to_owned()]).find(|path| writable(path)) {
        Some(path) => Err(refused(
            folder,
            &format!(
                "`serve` could write {}, and may only read (another account, or `--single-process-demo`)",
                path.display()
            ),
        )),
        None if replaceable(folder) => Err(refused(folder, "`serve` could put another folder in its place")),
        None => Ok(()),
    }
}

/// Whether this process could move the folder away and put another one there: it can write the folder above, and no
/// sticky bit keeps it from what belongs to others.
fn replaceable(folder: &Path) -> bool {
    let above = match folder.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        Some(_) | None => Path::new("."),
    };
    let own = own_uid();
    let sticky = rustix::fs::stat(above).is_ok_and(|status| status.st_mode & 0o1000 != 0);
    let ours = rustix::fs::stat(folder).is_ok_and(|status| status.st_uid == own);
    rustix::fs::accessat(CWD, above, Access::WRITE_OK, AtFlags::EACCESS).is_ok() && (!sticky || ours)
}

/// Reads as [`read`] does, and tells a folder that may become a store from one that may not.
pub(crate) fn survey(folder: &Path, name: &AuthorityName) -> Result<Survey, Failure> {
    let store = match open_store(folder) {
        Ok(store) => store,
        Err(Errno::NOENT) => return Ok(Survey::NoStoreYet),
        Err(errno) => return Err(refused(folder, &told(errno))),
    };
    if let Some(problem) = not_private(&store) {
        return Err(refused(folder, &problem));
    }
    Ok(if is_store(folder, &store)? { Survey::Store(Box::new(gather(&store, name))) } else { Survey::NoStoreYet })
}

/// The one writer of a store: holds its lock until it goes.
pub(crate) struct Writer {
    folder: PathBuf,
    _lock: OwnedFd,
}

impl Writer {
    /// Takes the store's lock; makes a store of a folder that is empty or not there (its parent must be).
    pub(crate) fn open(folder: &Path) -> Result<Self, Failure> {
        match fs::DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => sync_parent(folder)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Failure::io("make", folder, &error)),
        }
        let store = open_store(folder).map_err(|errno| refused(folder, &told(errno)))?;
        if let Some(problem) = not_private(&store) {
            return Err(refused(folder, &problem));
        }
        // Looked at before the lock too, so that a lock file is never left in a folder that is something else.
        is_store(folder, &store)?;
        let writer = Self { folder: folder.to_owned(), _lock: lock(folder, &store)? };
        remove_leftovers(folder)?;
        if !is_store(folder, &store)? {
            durable::replace(folder, MARKER, MARKER_TEXT.as_bytes())?;
        }
        Ok(writer)
    }

    /// What the store knows of the authority `name`, while nobody else can change it.
    pub(crate) fn evidence(&self, name: &AuthorityName) -> Result<Evidence, Failure> {
        read(&self.folder, name)
    }

    /// Puts the witness of a handover there, once: the same one again changes nothing, another one is refused.
    pub(crate) fn put_handover(&self, witness: &HandoverWitness) -> Result<(), Failure> {
        let refuse = |problem: &str| Err(refused(&self.folder, problem));
        let evidence = self.evidence(&witness.name)?;
        match evidence.handovers.get(&witness.epoch) {
            Some(Reading::Present(there)) if there == witness => return Ok(()),
            Some(Reading::Present(_)) => return refuse("it holds the witness of another handover of that epoch"),
            Some(Reading::Unreadable(why)) => return refuse(why),
            Some(Reading::Absent) => {}
            // A store that is lost begins again with what Vault's record says.
            None if evidence == Evidence::none() => {}
            None => return refuse("the epoch is not the Authority's, nor one beside it"),
        }
        let folder = self.authority_folder(&witness.name)?;
        durable::replace(&folder, &handover_file(witness.epoch), witness.to_json().as_bytes())
    }

    /// Changes what was seen of the authority `name`, by the rules of the cluster's schema.
    pub(crate) fn change_status(
        &self,
        name: &AuthorityName,
        change: impl FnOnce(&mut AuthorityStatus),
    ) -> Result<(), Failure> {
        let before = status(&self.folder, name)?;
        let mut next = before.clone();
        change(&mut next);
        if let Err(rule) = next.may_follow(&before) {
            return Err(refused(&self.folder, rule));
        }
        let text = serde_json::to_string(&next).map_err(|_| Failure::Bug)?;
        let folder = self.folder.join(name.as_str());
        remove_leftovers(&folder)?;
        durable::replace(&folder, STATUS, format!("{text}\n").as_bytes())
    }

    /// Puts the Authority into the place of the current one, if it may follow it.
    pub(crate) fn put(&self, next: &AuthorityWitness) -> Result<(), Failure> {
        let refuse = |problem: &str| Err(refused(&self.folder, problem));
        let evidence = self.evidence(&next.name)?;
        let current = match evidence.authority {
            Reading::Absent => None,
            Reading::Present(current) => Some(current),
            Reading::Unreadable(why) => return refuse(&why),
        };
        // Where the witness of its handover is there, Vault rules already, and an Authority that was lost begins with that.
        let is_witnessed = matches!(
            (&next.holds, evidence.handovers.get(&next.epoch)),
            (Holds::Vault(handover), Some(Reading::Present(witness))) if witness.handover == *handover
        );
        match AuthorityWitness::may_follow(current.as_ref(), next) {
            Err(rule) if current.is_some() || !is_witnessed => return refuse(rule),
            Ok(()) | Err(_) => {}
        }
        durable::replace(&self.authority_folder(&next.name)?, AUTHORITY, next.to_json().as_bytes())
    }

    /// The folder of an authority, made where it is missing.
    fn authority_folder(&self, name: &AuthorityName) -> Result<PathBuf, Failure> {
        let folder = self.folder.join(name.as_str());
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => sync_parent(&folder)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => remove_leftovers(&folder)?,
            Err(error) => return Err(Failure::io("make", &folder, &error)),
        }
        Ok(folder)
    }
}

/// Where the Authority of this name stands.
pub(crate) fn authority_file(folder: &Path, name: &AuthorityName) -> PathBuf {
    folder.join(name.as_str()).join(AUTHORITY)
}

const MARKER: &str = "store.json";
const MARKER_TEXT: &str = "{\"schema\":1,\"kind\":\"AuthorityStore\"}\n";
const LOCK: &str = "lock";
const AUTHORITY: &str = "authority.json";
const STATUS: &str = "status.json";

/// Largest `store.json`; ours is 40 bytes.
const MAX_MARKER_BYTES: u64 = 4 << 10;

/// Largest witness: a list of 20 000 documents, the most a root may have, needs about 6 MiB.
const MAX_WITNESS_BYTES: u64 = 16 << 20;

/// How long to wait for another writer; a write takes milliseconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Whether a folder calls itself a store; one that does not, and is not empty either, is something else.
fn is_store(folder: &Path, store: &OwnedFd) -> Result<bool, Failure> {
    match read_file(store, MARKER, MAX_MARKER_BYTES).map_err(|problem| refused(folder, &problem))? {
        Some(text) if text == MARKER_TEXT.as_bytes() => Ok(true),
        Some(_) => Err(refused(folder, "its store.json is not of a version that this regent reads")),
        None if is_empty(store).map_err(|errno| refused(folder, &told(errno)))? => Ok(false),
        None => Err(refused(folder, "it holds other files, and no store.json")),
    }
}

/// Every witness of one authority: the Authority first, then the handovers, so that a handover written meanwhile
/// is seen rather than missed.
fn gather(store: &OwnedFd, name: &AuthorityName) -> Evidence {
    let mut evidence = Evidence::none();
    let folder = match open_inside(store, name.as_str(), OFlags::DIRECTORY) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return evidence,
        Err(errno) => return unreadable(&format!("{name}: {}", told(errno))),
    };
    if let Some(problem) = not_private(&folder) {
        return unreadable(&format!("{name}: {problem}"));
    }
    evidence.authority = match read_file(&folder, AUTHORITY, MAX_WITNESS_BYTES) {
        Ok(Some(json)) => located(AUTHORITY, AuthorityWitness::from_json(name, &json)),
        Ok(None) => Reading::Absent,
        Err(problem) => Reading::Unreadable(problem),
    };
    let names = match names(&folder) {
        Ok(names) => names,
        Err(errno) => return unreadable(&format!("{name}: {}", told(errno))),
    };
    let mut handovers: BTreeMap<_, _> =
        Evidence::epochs_to_read(&evidence.authority, None).into_iter().map(|epoch| (epoch, Reading::Absent)).collect();
    for file in names.iter().filter(|file| file.starts_with("handover-")) {
        let Some(epoch) = epoch_of(file) else { return unreadable(&format!("{name}: {file} names no epoch")) };
        let reading = match read_file(&folder, file, MAX_WITNESS_BYTES) {
            Ok(Some(json)) => located(file, HandoverWitness::from_json(name, epoch, &json)),
            // Listed a moment ago, and nothing here ever removes a witness.
            Ok(None) => Reading::Unreadable(format!("{file} went away while it was read")),
            Err(problem) => Reading::Unreadable(problem),
        };
        handovers.insert(epoch, reading);
    }
    evidence.handovers = handovers;
    match read_file(&folder, STATUS, MAX_WITNESS_BYTES) {
        Ok(status) => evidence.with_status(status.as_deref()),
        Err(why) => Evidence {
            imported: Reading::Unreadable(why.clone()),
            settled: Reading::Unreadable(why.clone()),
            moved: Reading::Unreadable(why),
            ..evidence
        },
    }
}

fn handover_file(epoch: Epoch) -> String {
    format!("handover-{epoch}.json")
}

/// `handover-3.json` in its one spelling.
fn epoch_of(file: &str) -> Option<Epoch> {
    let digits = file.strip_prefix("handover-")?.strip_suffix(".json")?;
    let epoch = Epoch::new(digits.parse().ok()?).ok()?;
    (epoch.to_string() == digits).then_some(epoch)
}

fn unreadable(why: &str) -> Evidence {
    Evidence { authority: Reading::Unreadable(why.to_owned()), ..Evidence::none() }
}

/// A reading whose reason names the file.
fn located<T>(file: &str, reading: Reading<T>) -> Reading<T> {
    match reading {
        Reading::Unreadable(why) => Reading::Unreadable(format!("{file}: {why}")),
        Reading::Absent | Reading::Present(_) => reading,
    }
}

/// The store itself, which may be reached through links.
fn open_store(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// What lies in a store is no link.
fn open_inside(folder: &OwnedFd, name: &str, kind: OFlags) -> Result<OwnedFd, Errno> {
    // NONBLOCK: a pipe in a file's place must not stop the reader.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | kind;
    rustix::fs::openat(folder, name, flags, Mode::empty())
}

/// A whole file, `None` where it is certainly not there; a problem names the file.
fn read_file(folder: &OwnedFd, name: &str, limit: u64) -> Result<Option<Vec<u8>>, String> {
    let file = match open_inside(folder, name, OFlags::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(format!("{name}: {}", told(errno))),
    };
    let status = rustix::fs::fstat(&file).map_err(|errno| format!("{name}: {}", told(errno)))?;
    if !FileType::from_raw_mode(status.st_mode).is_file() {
        return Err(format!("{name}: it is no file"));
    }
    if let Some(problem) = of_others(&status) {
        return Err(format!("{name}: {problem}"));
    }
    // A byte more than the file has, so that one read also finds its end.
    let size = u64::try_from(status.st_size).unwrap_or_default().min(limit);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
    File::from(file).take(limit + 1).read_to_end(&mut bytes).map_err(|error| format!("{name}: {}", reason(&error)))?;
    if bytes.len() as u64 > limit {
        return Err(format!("{name}: it is larger than {limit} bytes"));
    }
    Ok(Some(bytes))
}

/// Why a file or folder is no evidence: others could have written it.
fn not_private(file: &OwnedFd) -> Option<String> {
    match rustix::fs::fstat(file) {
        Ok(status) => of_others(&status),
        Err(errno) => Some(told(errno)),
    }
}

fn of_others(status: &Stat) -> Option<String> {
    if status.st_mode & 0o022 != 0 {
        return Some("others can write it".to_owned());
    }
    (status.st_uid != 0 && status.st_uid != own_uid()).then(|| "it belongs to another account".to_owned())
}

/// Nothing here changes it.
fn own_uid() -> u32 {
    static OWN: OnceLock<u32> = OnceLock::new();
    *OWN.get_or_init(|| rustix::process::geteuid().as_raw())
}

/// The names in a folder, in no order.
fn names(folder: &OwnedFd) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(folder, &mut buffer);
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Whether a folder holds nothing but what a writer that stopped early leaves behind.
fn is_empty(folder: &OwnedFd) -> Result<bool, Errno> {
    Ok(names(folder)?.iter().all(|name| name == LOCK || is_temporary(name)))
}

fn lock(folder: &Path, store: &OwnedFd) -> Result<OwnedFd, Failure> {
    durable::lock(folder, store, LOCK, LOCK_PATIENCE, || refused(folder, "another regent has been writing it for long"))
}

fn told(errno: Errno) -> String {
    match errno {
        Errno::LOOP => "it is a link".to_owned(),
        _other => reason(&errno.into()),
    }
}

fn refused(folder: &Path, problem: &str) -> Failure {
    Failure::Store { folder: folder.display().to_string(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests;
