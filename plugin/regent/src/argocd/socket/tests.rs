use super::*;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

fn folder_and_path() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("regent-v1.sock");
    (folder, path)
}

/// A socket's file that nobody answers on, as a process leaves it that was killed.
fn leave_stale(path: &Path) {
    drop(StdListener::bind(path).unwrap());
    assert_eq!(UnixStream::connect(path).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

fn refusal(path: &Path) -> String {
    match Socket::bind(path.to_owned(), 0o666) {
        Ok(_) => panic!("{} was bound", path.display()),
        Err(failure) => failure.to_string().replace(&path.display().to_string(), "PATH"),
    }
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_name_is_the_plugins_with_the_version_of_its_contract() {
    let argocd = |name: &str, version: &str| {
        file_name(&ArgoCd { name: name.to_owned(), version: version.to_owned(), ..ArgoCd::default() })
    };
    assert_eq!(argocd("regent", "v1"), "regent-v1.sock");
    assert_eq!(argocd("regent", ""), "regent.sock");
    assert_eq!(file_name(&ArgoCd::default()), "regent-v1.sock");
}

#[tokio::test]
async fn whoever_connects_is_answered_and_nothing_else_is_in_the_folder() {
    let (folder, path) = folder_and_path();
    let (socket, listener) = Socket::bind(path.clone(), 0o666).unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    listener.accept().await.unwrap();
    assert_eq!(socket.file(), SocketFile::Ours);
    assert_eq!(names(folder.path()), ["regent-v1.sock"]);
}

#[tokio::test]
async fn permissions_are_those_asked_for() {
    for mode in [0o600, 0o660, 0o666, 0o777] {
        let (_folder, path) = folder_and_path();
        let (_socket, _listener) = Socket::bind(path.clone(), mode).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
    }
}

/// The umask is the process's, so this asks others: the test above, under one that takes all and one that takes none.
#[test]
fn permissions_do_not_depend_on_the_umask() {
    for umask in ["0077", "0000"] {
        let output = Command::new("sh")
            .args(["-c", "umask $1; exec $0 --exact argocd::socket::tests::permissions_are_those_asked_for"])
            .arg(std::env::current_exe().unwrap())
            .arg(umask)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{umask}: {text}");
    }
}

/// The volume's group, which a pod's `fsGroup` sets, is the socket's too.
#[tokio::test]
async fn the_group_is_the_folders_where_that_hands_it_down() {
    let (folder, path) = folder_and_path();
    // Only root may choose a group that is not its own.
    let other = rustix::process::geteuid().is_root().then_some(12_345);
    std::os::unix::fs::chown(folder.path(), None, other).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o2775)).unwrap();
    let (_socket, _listener) = Socket::bind(path.clone(), 0o660).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().gid(), fs::metadata(folder.path()).unwrap().gid());
}

/// Argo CD lists every socket of the folder, and dials one as soon as it is there.
#[tokio::test]
async fn nobody_ever_sees_a_socket_that_is_not_ready() {
    let (folder, path) = folder_and_path();
    let done = AtomicBool::new(false);
    let which = || fs::symlink_metadata(&path).ok().map(|status| (status.ino(), status.ctime(), status.ctime_nsec()));
    let seen = std::thread::scope(|threads| {
        let watch = threads.spawn(|| {
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) {
                for entry in fs::read_dir(folder.path()).unwrap() {
                    let entry = entry.unwrap();
                    if entry.file_type().is_ok_and(|kind| kind.is_socket()) {
                        assert_eq!(entry.file_name(), "regent-v1.sock");
                    }
                }
                if let Ok(status) = fs::symlink_metadata(&path) {
                    assert_eq!(status.mode() & 0o777, 0o666);
                }
                let before = which();
                match UnixStream::connect(&path) {
                    Ok(_) => seen += 1,
                    // Found, and ended before it was reached: it must be gone by now.
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                        assert!(before.is_none() || which() != before, "a socket refuses and stays");
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
                }
            }
            seen
        });
        for _ in 0..500 {
            let (socket, listener) = Socket::bind(path.clone(), 0o666).unwrap();
            std::thread::yield_now();
            drop(socket);
            drop(listener);
        }
        done.store(true, Ordering::Relaxed);
        watch.join().unwrap()
    });
    assert!(seen > 0);
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let (_folder, path) = folder_and_path();
    leave_stale(&path);
    let (socket, _listener) = Socket::bind(path.clone(), 0o666).unwrap();
    assert_eq!(socket.file(), SocketFile::Ours);
    UnixStream::connect(&path).unwrap();
}

#[tokio::test]
async fn a_socket_that_somebody_answers_on_is_refused_and_not_disturbed() {
    const ANSWERS: &str = "cannot bind PATH: another process answers on it; each plugin needs a name of its own \
                           (`argocd.name`, `argocd.version`)";
    let (_folder, path) = folder_and_path();
    let (socket, listener) = Socket::bind(path.clone(), 0o666).unwrap();
    assert_eq!(refusal(&path), ANSWERS);
    assert_eq!(socket.file(), SocketFile::Ours);
    let accepted = tokio::time::timeout(Duration::from_millis(20), listener.accept()).await;
    assert!(accepted.is_err(), "a connection came");
    drop((socket, listener));

    let _datagrams = UnixDatagram::bind(&path).unwrap();
    assert_eq!(refusal(&path), ANSWERS);
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    const OTHER: &str = "cannot bind PATH: something else than a socket is there, which regent leaves alone";
    let (folder, path) = folder_and_path();

    fs::write(&path, "a file").unwrap();
    assert_eq!(refusal(&path), OTHER);
    assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    assert_eq!(refusal(&path), OTHER);
    fs::remove_dir(&path).unwrap();

    let stale = folder.path().join("elsewhere.sock");
    leave_stale(&stale);
    for target in [stale.as_path(), Path::new("nowhere")] {
        symlink(target, &path).unwrap();
        assert_eq!(refusal(&path), OTHER);
        assert_eq!(fs::read_link(&path).unwrap(), target);
        fs::remove_file(&path).unwrap();
    }
    assert_eq!(names(folder.path()), ["elsewhere.sock"]);
}

#[tokio::test]
async fn a_folder_that_is_not_mounted_is_told() {
    let (folder, _) = folder_and_path();
    assert_eq!(
        refusal(&folder.path().join("plugins/regent-v1.sock")),
        "cannot bind PATH: its folder does not exist: mount the repo-server's volume `plugins`"
    );
}

#[tokio::test]
async fn a_path_that_no_address_holds_is_refused_with_both_numbers() {
    let (folder, _) = folder_and_path();
    let of_length = |length: usize| {
        let name = "x".repeat(length - folder.path().as_os_str().len() - 1);
        folder.path().join(name)
    };
    let text = refusal(&of_length(108));
    assert!(text.starts_with("the socket's path PATH has 108 bytes, and an address holds 107"), "{text}");
    let (_socket, _listener) = Socket::bind(of_length(107), 0o666).unwrap();
    UnixStream::connect(of_length(107)).unwrap();
}

#[tokio::test]
async fn what_a_start_left_that_stopped_early_is_removed() {
    let (folder, path) = folder_and_path();
    fs::create_dir(folder.path().join(WORKSHOP)).unwrap();
    leave_stale(&folder.path().join(WORKSHOP).join(UNNAMED));
    let (_socket, _listener) = Socket::bind(path, 0o666).unwrap();
    assert_eq!(names(folder.path()), ["regent-v1.sock"]);
}

#[tokio::test]
async fn what_else_stands_in_the_way_is_told_and_left_alone() {
    let (folder, path) = folder_and_path();
    let workshop = folder.path().join(WORKSHOP);
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join(UNNAMED), "a file").unwrap();
    symlink(elsewhere.path(), &workshop).unwrap();
    assert_eq!(refusal(&path), format!("cannot make {}: file exists", workshop.display()));
    assert_eq!(names(elsewhere.path()), [UNNAMED]);
    assert_eq!(names(folder.path()), [WORKSHOP]);
}

#[tokio::test]
async fn one_regent_binds_at_a_time() {
    let (folder, path) = folder_and_path();
    let held = lock(folder.path()).unwrap();
    assert_eq!(refusal(&path), "cannot bind PATH: another process has held the lock of its folder for long");
    drop(held);
    Socket::bind(path, 0o666).unwrap();
}

#[tokio::test]
async fn the_file_goes_with_the_socket() {
    let (folder, path) = folder_and_path();
    let (socket, _listener) = Socket::bind(path, 0o666).unwrap();
    drop(socket);
    assert_eq!(names(folder.path()), [""; 0]);
}

#[tokio::test]
async fn anothers_file_does_not_go_with_the_socket() {
    let (_folder, path) = folder_and_path();
    let (socket, _listener) = Socket::bind(path.clone(), 0o666).unwrap();
    fs::remove_file(&path).unwrap();
    let _other = StdListener::bind(&path).unwrap();
    assert_eq!(socket.file(), SocketFile::Replaced);
    drop(socket);
    UnixStream::connect(&path).unwrap();
}

/// Some file systems give the number of a removed file to the next one.
#[tokio::test]
async fn anothers_file_is_not_mistaken_for_ours_after_the_listener_is_gone() {
    let (_folder, path) = folder_and_path();
    let (socket, listener) = Socket::bind(path.clone(), 0o666).unwrap();
    drop(listener);
    fs::remove_file(&path).unwrap();
    assert_eq!(socket.file(), SocketFile::Vanished);
    let _other = StdListener::bind(&path).unwrap();
    assert_eq!(socket.file(), SocketFile::Replaced);
}

#[tokio::test]
async fn a_file_that_vanished_is_brought_back() {
    let (_folder, path) = folder_and_path();
    let (mut socket, _old) = Socket::bind(path.clone(), 0o640).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(socket.file(), SocketFile::Vanished);
    let listener = socket.restore().unwrap();
    assert_eq!(socket.file(), SocketFile::Ours);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
    let _client = UnixStream::connect(&path).unwrap();
    listener.accept().await.unwrap();
    drop(socket);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_that_was_replaced_is_brought_back_only_from_a_stale_one() {
    let (_folder, path) = folder_and_path();
    let (mut socket, _old) = Socket::bind(path.clone(), 0o666).unwrap();
    fs::remove_file(&path).unwrap();
    let other = StdListener::bind(&path).unwrap();
    assert!(socket.restore().err().unwrap().to_string().contains("another process answers on it"));
    assert_eq!(socket.file(), SocketFile::Replaced);
    drop(other);
    let _listener = socket.restore().unwrap();
    assert_eq!(socket.file(), SocketFile::Ours);
}
