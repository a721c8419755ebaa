//! Files that survive a crash as a whole: written beside their place, synced, renamed, their folder synced. A crash
//! between any two steps leaves the old file or the new one, and a temporary file that the next writer removes.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::failure::Failure;

/// Puts a file (0600) into its place as a whole.
pub(crate) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let path = folder.join(name);
    let failed = |error: io::Error| Failure::io("write", &path, &error);
    // Created 0600.
    let mut file =
        tempfile::Builder::new().prefix(TEMPORARY.0).suffix(TEMPORARY.1).tempfile_in(folder).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(&path).map_err(|refused| failed(refused.error))?;
    sync(folder)
}

/// So that what was renamed in a folder survives a crash.
pub(crate) fn sync(folder: &Path) -> Result<(), Failure> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| Failure::io("write", folder, &error))
}

/// So that a new folder itself survives a crash.
pub(crate) fn sync_parent(folder: &Path) -> Result<(), Failure> {
    match folder.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync(Path::new(".")),
        Some(parent) => sync(parent),
        None => Ok(()),
    }
}

/// Whether a file is what a writer that stopped early left behind.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY.0) && name.ends_with(TEMPORARY.1)
}

/// Removes temporary files of writers that stopped early. Whoever calls holds the lock: there is no other writer.
pub(crate) fn remove_leftovers(folder: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::io("read", folder, &error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if is_temporary(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path()).map_err(|error| Failure::io("remove", &entry.path(), &error))?;
        }
    }
    Ok(())
}

/// Takes the lock of a folder, a file in it, for as long as what is given back lives. Waits for another process that
/// holds it.
///
/// # Errors
/// It cannot be made or taken; `still_held` says it where the other process did not let go in time.
pub(crate) fn lock(
    folder: &Path,
    opened: &OwnedFd,
    name: &str,
    patience: Duration,
    still_held: impl FnOnce() -> Failure,
) -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let failed = |errno: Errno| Failure::io("lock", &folder.join(name), &errno.into());
    let lock = match rustix::fs::openat(opened, name, flags, Mode::RUSR | Mode::WUSR) {
        // What lies on a volume that was mounted so can still be read, and a lock needs no more.
        Err(Errno::ROFS) => {
            let reading = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            rustix::fs::openat(opened, name, reading, Mode::empty())
        }
        opened => opened,
    };
    let lock = lock.map_err(failed)?;
    let start = Instant::now();
    loop {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(Errno::WOULDBLOCK | Errno::INTR) if start.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(Errno::WOULDBLOCK) => return Err(still_held()),
            Err(errno) => return Err(failed(errno)),
        }
    }
}

const TEMPORARY: (&str, &str) = (".regent-", ".tmp");
