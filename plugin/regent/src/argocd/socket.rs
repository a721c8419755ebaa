//! The plugin's socket in Argo CD's folder: its name, its life, its permissions.
//!
//! The repo-server takes a plugin's readiness from the name of its socket, dials it without a time limit, and lists
//! every socket of the folder as a plugin. So a name appears only when somebody listens and the mode is right: the
//! socket is bound in a folder beside its place, `.regent`, which nobody else can enter and no listing shows, and
//! then moved. Nothing depends on the umask.
//!
//! Whoever binds or removes holds a lock on the folder. Two regents can therefore not both find the same stale
//! file, and a `.regent` that is found under the lock was left by one that stopped early.

use crate::config::{self, ARGOCD_PLUGINSOCKFILEPATH};
use crate::failure::{Failure, reason};
use regent_core::rules::ArgoCd;
use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::UnixListener;

/// Where Argo CD looks for plugins, unless `ARGOCD_PLUGINSOCKFILEPATH` says another place.
pub(crate) const PLUGIN_FOLDER: &str = "/home/argocd/cmp-server/plugins";

/// The plugin's socket: `<name>[-<version>].sock`, by which an Application names the plugin. The version is the
/// contract's, which the operator's file names, so that an upgrade of regent renames nothing.
pub(crate) fn path(argocd: &ArgoCd) -> PathBuf {
    let folder = config::variable(ARGOCD_PLUGINSOCKFILEPATH).unwrap_or_else(|| PLUGIN_FOLDER.into());
    Path::new(&folder).join(file_name(argocd))
}

/// A bound socket. Dropped, it removes its file, unless that is another one's by now.
pub(crate) struct Socket {
    path: PathBuf,
    mode: u32,
    /// The socket's file. As long as it is held no other file gets its inode number.
    file: OwnedFd,
}

/// What became of a socket's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketFile {
    /// As it was bound.
    Ours,
    /// Nothing is there, or nothing that can be looked at.
    Vanished,
    /// Another socket, or something else, has its place.
    Replaced,
}

impl Socket {
    /// Binds the socket, replacing a stale one: a file that nobody answers on. Anything else in its place is left
    /// alone. From the moment the file is there, with `mode`, connections wait in the listener. Needs a runtime.
    ///
    /// # Errors
    /// [`Failure::Usage`] for a path that no address holds, [`Failure::World`] for the rest.
    pub(crate) fn bind(path: PathBuf, mode: u32) -> Result<(Self, UnixListener), Failure> {
        let (listener, file) = publish(&path, mode)?;
        Ok((Self { path, mode, file }, listener))
    }

    /// Where its file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What became of its file.
    pub(crate) fn file(&self) -> SocketFile {
        let (Ok(there), Ok(bound)) = (rustix::fs::lstat(&self.path), rustix::fs::fstat(&self.file)) else {
            return SocketFile::Vanished;
        };
        if (there.st_dev, there.st_ino) == (bound.st_dev, bound.st_ino) {
            SocketFile::Ours
        } else {
            SocketFile::Replaced
        }
    }

    /// Brings back a file that is not [`SocketFile::Ours`] any more, by the rules of [`Socket::bind`]. The old
    /// listener may still hold connections, so it goes after this one is listened to.
    pub(crate) fn restore(&mut self) -> Result<UnixListener, Failure> {
        let (listener, file) = publish(&self.path, self.mode)?;
        self.file = file;
        Ok(listener)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Without the lock the file may be another one's a moment after the look. A stale file is the lesser evil.
        if let Ok(_lock) = lock(folder(&self.path))
            && self.file() == SocketFile::Ours
        {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Most bytes of a socket's path: an address has room for 108, and the last one is NUL (unix(7)).
const MAX_PATH_BYTES: usize = 107;

/// The folder in which a socket is made ready, and the socket's name there: short, for it has to fit an address too.
const WORKSHOP: &str = ".regent";
const UNNAMED: &str = "s";

/// How long to wait for another regent that binds; that takes less than a millisecond.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

fn file_name(argocd: &ArgoCd) -> String {
    format!("{}.sock", argocd.plugin())
}

/// Makes the socket ready and moves it to its place: the listener, and the file that it is bound to.
fn publish(path: &Path, mode: u32) -> Result<(UnixListener, OwnedFd), Failure> {
    let folder = folder(path);
    let workshop = folder.join(WORKSHOP);
    let unnamed = workshop.join(UNNAMED);
    for address in [path, &unnamed] {
        let bytes = address.as_os_str().as_bytes().len();
        if bytes > MAX_PATH_BYTES {
            return Err(Failure::Usage(format!(
                "the socket's path {} has {bytes} bytes, and an address holds {MAX_PATH_BYTES}; shorten `argocd.name` \
                 or the folder ({ARGOCD_PLUGINSOCKFILEPATH})",
                address.display()
            )));
        }
    }
    let _lock = lock(folder).map_err(|errno| match errno {
        Errno::NOENT => cannot_bind(path, "its folder does not exist: mount the repo-server's volume `plugins`"),
        Errno::WOULDBLOCK => cannot_bind(path, "another process has held the lock of its folder for long"),
        errno => Failure::io("lock", folder, &errno.into()),
    })?;
    expect_free(path)?;
    let failed = |error: io::Error| cannot_bind(path, &reason(&error));
    remove_leftover(&workshop, &unnamed)?;
    // Without chmod, which would take the folder's group from what is made in it.
    fs::DirBuilder::new().mode(0o700).create(&workshop).map_err(|error| Failure::io("make", &workshop, &error))?;
    let bound = UnixListener::bind(&unnamed).and_then(|listener| {
        fs::set_permissions(&unnamed, Permissions::from_mode(mode))?;
        let file = rustix::fs::open(&unnamed, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        fs::rename(&unnamed, path)?;
        Ok((listener, file))
    });
    // The socket is bound by now or is not; what is left of the way there changes neither.
    let _ = remove_leftover(&workshop, &unnamed);
    bound.map_err(failed)
}

/// Passes if the place is free or holds a stale socket.
fn expect_free(path: &Path) -> Result<(), Failure> {
    match rustix::fs::lstat(path) {
        Ok(status) if FileType::from_raw_mode(status.st_mode).is_socket() => {}
        Ok(_other) => {
            return Err(cannot_bind(path, "something else than a socket is there, which regent leaves alone"));
        }
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(cannot_bind(path, &reason(&errno.into()))),
    }
    // A datagram socket never gets through to a listener of streams, so whoever is there is not disturbed, and a full
    // queue does not keep us waiting. What the kernel says tells them apart: the wrong type, or nobody.
    match UnixDatagram::unbound().and_then(|probe| probe.connect(path)) {
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Ok(()),
        Err(error) if error.raw_os_error() != Some(Errno::PROTOTYPE.raw_os_error()) => {
            Err(cannot_bind(path, &reason(&error)))
        }
        Ok(()) | Err(_) => Err(cannot_bind(
            path,
            "another process answers on it; each plugin needs a name of its own (`argocd.name`, `argocd.version`)",
        )),
    }
}

/// Removes the folder in which a socket was made ready. Only for who holds the lock.
fn remove_leftover(workshop: &Path, unnamed: &Path) -> Result<(), Failure> {
    // A link in its place would lead to somebody else's file.
    if !fs::symlink_metadata(workshop).is_ok_and(|status| status.is_dir()) {
        return Ok(());
    }
    for removed in [fs::remove_file(unnamed), fs::remove_dir(workshop)] {
        match removed {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::io("remove", workshop, &error)),
        }
    }
    Ok(())
}

/// Locks a folder until the result is dropped.
fn lock(folder: &Path) -> Result<OwnedFd, Errno> {
    let lock = rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let start = Instant::now();
    loop {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(Errno::WOULDBLOCK | Errno::INTR) if start.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(errno) => return Err(errno),
        }
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn cannot_bind(path: &Path, reason: &str) -> Failure {
    Failure::World { what: "bind", name: path.display().to_string(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests;
