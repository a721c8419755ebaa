//! A folder, key files or a repository's references, followed: tells *that* something may have changed.
//! Whoever waits reads again and compares; events only save the waiting.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::failure::Failure;

/// What to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A folder with everything below it.
    Tree(PathBuf),
    /// A file, watched through its folder: a mounted Secret or an editor replaces the file itself, and a
    /// watch on the file would die with the first replacement.
    File(PathBuf),
    /// A folder without what is below its folders: a mounted Secret, whose `..data` is swapped.
    Folder(PathBuf),
}

impl Target {
    /// Whether it can be watched now.
    pub(crate) fn is_there(&self) -> bool {
        match self {
            Self::Tree(path) | Self::Folder(path) => path.is_dir(),
            Self::File(path) => folder_of(path).is_dir(),
        }
    }
}

/// Followed places.
pub(crate) struct Watch {
    /// Lives as long as events are wanted.
    _watcher: RecommendedWatcher,
    events: Receiver<()>,
    quiet: Duration,
}

/// How long it must be quiet after an event: a checkout or a mount swap is many events.
const QUIET: Duration = Duration::from_millis(100);
/// The same for branches: each is moved by one rename, and looking where it stands costs next to nothing.
const QUIET_BRANCHES: Duration = Duration::from_millis(2);
/// How long an unbroken row of events is waited out before it is read all the same.
const PATIENCE: usize = 20;
/// Without events (a network file system sends none, a replaced folder no more) things are looked at this often.
const POLL: Duration = Duration::from_secs(5);

impl Watch {
    /// Starts following. A place that cannot be watched is an error: silence would look like calm.
    pub(crate) fn start(targets: &[Target]) -> Result<Self, Failure> {
        let (sender, events) = channel();
        let concerned = targets.to_vec();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is an event too, and our own reading must not wake us. Nor must what else lies beside a
            // file, which may be a log.
            if event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_)) || !concerns(&concerned, &event)) {
                return;
            }
            // Nobody listens any more only when the program ends.
            let _ = sender.send(());
        })
        .map_err(|error| cannot_watch(Path::new("files"), &error))?;
        for target in targets {
            let (path, mode) = match target {
                Target::Tree(path) => (path.as_path(), RecursiveMode::Recursive),
                Target::Folder(path) => (path.as_path(), RecursiveMode::NonRecursive),
                Target::File(path) => (folder_of(path), RecursiveMode::NonRecursive),
            };
            watcher.watch(path, mode).map_err(|error| cannot_watch(path, &error))?;
        }
        Ok(Self { _watcher: watcher, events, quiet: QUIET })
    }

    /// As [`Self::start`], for the places of [`repository`].
    pub(crate) fn branches(targets: &[Target]) -> Result<Self, Failure> {
        Ok(Self { quiet: QUIET_BRANCHES, ..Self::start(targets)? })
    }

    /// Blocks until something may have changed.
    pub(crate) fn wait(&self) {
        self.wait_at_most(POLL);
    }

    /// As [`Self::wait`], for somebody who looks again by himself after that time.
    pub(crate) fn wait_at_most(&self, poll: Duration) {
        match self.events.recv_timeout(poll) {
            Ok(()) => {
                let quiet = |_: &usize| matches!(self.events.recv_timeout(self.quiet), Ok(()));
                (0..PATIENCE).take_while(quiet).for_each(drop);
            }
            Err(RecvTimeoutError::Timeout) => {}
            // The watcher's thread ended: only time is left to go by.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(poll),
        }
    }
}

/// The places where a repository's branches move: its own folder (HEAD, packed-refs) and the references.
pub(crate) fn repository(folder: &Path) -> Vec<Target> {
    let mut targets = vec![Target::File(folder.join("packed-refs"))];
    let trees = ["refs", "reftable"].map(|name| folder.join(name));
    targets.extend(trees.into_iter().filter(|tree| tree.is_dir()).map(Target::Tree));
    targets
}

/// Whether an event is about one of the targets. One without a path tells that events were lost.
fn concerns(targets: &[Target], event: &notify::Event) -> bool {
    let of_target = |target: &Target, path: &Path| match target {
        Target::Tree(folder) | Target::Folder(folder) => path.starts_with(folder),
        Target::File(file) => {
            // A mounted file is a link through `..data`, and only that link changes.
            let is_mount = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".."));
            is_mount || path.file_name() == file.file_name() || path == folder_of(file)
        }
    };
    event.paths.is_empty() || event.paths.iter().any(|path| targets.iter().any(|target| of_target(target, path)))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

fn cannot_watch(path: &Path, error: &notify::Error) -> Failure {
    Failure::World { what: "watch", name: path.display().to_string(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn woken_by(watch: &Watch, change: impl FnOnce()) -> bool {
        let before = Instant::now();
        change();
        watch.wait();
        before.elapsed() < POLL
    }

    #[test]
    fn a_replaced_file_is_seen_every_time() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("key.txt");
        std::fs::write(&file, "0").unwrap();
        let watch = Watch::start(&[Target::File(file.clone())]).ok().unwrap();
        for round in ["1", "2"] {
            assert!(woken_by(&watch, || {
                std::fs::write(temp.path().join("new"), round).unwrap();
                std::fs::rename(temp.path().join("new"), &file).unwrap();
            }));
        }
    }

    #[test]
    fn what_lies_beside_a_file_wakes_nobody_and_a_swapped_mount_does() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("file"), "0").unwrap();
        let watch = Watch::start(&[Target::File(temp.path().join("file"))]).ok().unwrap();
        let wait = |change: &dyn Fn()| {
            let before = Instant::now();
            change();
            watch.wait_at_most(Duration::from_millis(500));
            before.elapsed() < Duration::from_millis(400)
        };
        assert!(!wait(&|| std::fs::write(temp.path().join("log"), "a line").unwrap()));
        assert!(wait(&|| {
            std::os::unix::fs::symlink("..one", temp.path().join("..data_tmp")).unwrap();
            std::fs::rename(temp.path().join("..data_tmp"), temp.path().join("..data")).unwrap();
        }));
    }

    #[test]
    fn a_moved_branch_of_a_bare_repository_is_seen() {
        let temp = tempfile::tempdir().unwrap();
        let repository = git2::Repository::init_bare(temp.path()).unwrap();
        let blob = repository.blob(b"x").unwrap();
        let watch = Watch::start(&super::repository(temp.path())).ok().unwrap();
        assert!(woken_by(&watch, || {
            repository.reference("refs/heads/deep/main", blob, true, "test").unwrap();
        }));
    }

    #[test]
    fn a_folder_that_is_not_there_cannot_be_watched() {
        assert!(Watch::start(&[Target::Tree(PathBuf::from("/does/not/exist"))]).is_err());
    }
}
