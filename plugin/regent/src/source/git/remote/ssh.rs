//! Git over SSH, through the system's own `ssh`: the implementation that the server's owner trusts too. It is told
//! everything on its command line and reads no configuration, asks nobody, and believes no server but those in the
//! file of known hosts.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream};
use regent_core::remote::{Access, Address};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::{RemoteProblem, Session};
use crate::config;
use crate::failure::{Failure, innermost};

/// Key and known hosts under names of our own: `ssh` reads `%`, `~`, blanks and quotes in a path as its own language.
pub(super) struct Credentials {
    folder: TempDir,
}

/// Why key or known hosts cannot be used.
pub(super) enum Unusable {
    Key(RemoteProblem),
    File(Failure),
}

impl Credentials {
    /// Finds the files. The key stays where it is.
    pub(super) fn find(access: &Access) -> Result<Self, Unusable> {
        let missing =
            || Unusable::File(Failure::Usage("`ssh://` expects a private key and a known hosts file".to_owned()));
        let (Some(key), Some(known_hosts)) = (&access.key_file, &access.known_hosts_file) else {
            return Err(missing());
        };
        private(key)?;
        let failed = |path: &Path, error: &std::io::Error| Unusable::File(Failure::io("use", path, error));
        let folder = super::private_folder().map_err(|error| failed("a private folder".as_ref(), &error))?;
        for (file, name) in [(key, KEY), (known_hosts, KNOWN_HOSTS)] {
            let real = file.canonicalize().map_err(|error| failed(file, &error))?;
            symlink(&real, folder.path().join(name)).map_err(|error| failed(&real, &error))?;
        }
        Ok(Self { folder })
    }
}

/// Refuses a key that others may read, as `ssh` does for a key of one's own; where it is another's (a mounted Secret
/// belongs to root), its group may be ours and read it.
fn private(key: &Path) -> Result<(), Unusable> {
    let found = key.metadata().map_err(|error| Unusable::File(Failure::io("use", key, &error)))?;
    let is_mine = found.uid() == rustix::process::getuid().as_raw();
    let others = if is_mine { 0o077 } else { 0o007 };
    if found.mode() & others == 0 {
        return Ok(());
    }
    Err(Unusable::Key(RemoteProblem::OpenKey(key.display().to_string())))
}

const KEY: &str = "key";
const KNOWN_HOSTS: &str = "known_hosts";

/// `-F none`: neither the user's nor the system's configuration. `-a -x -T`: no agent, no X11, no terminal.
const FIXED: [&str; 32] = [
    "-F",
    "none",
    "-a",
    "-x",
    "-T",
    "-i",
    KEY,
    "-o",
    "UserKnownHostsFile=known_hosts",
    "-o",
    "GlobalKnownHostsFile=none",
    "-o",
    "StrictHostKeyChecking=yes",
    "-o",
    "UpdateHostKeys=no",
    "-o",
    "BatchMode=yes",
    "-o",
    "IdentitiesOnly=yes",
    "-o",
    "IdentityAgent=none",
    "-o",
    "PreferredAuthentications=publickey",
    "-o",
    "ClearAllForwardings=yes",
    "-o",
    "ConnectTimeout=15",
    "-o",
    "ServerAliveInterval=15",
    "-o",
    "LogLevel=ERROR",
    "--",
];

/// Most bytes of what `ssh` says that are kept.
const MAX_SAID: u64 = 4096;

/// libgit2's connection: one process for the whole conversation.
pub(super) struct Transport {
    session: Arc<Session>,
}

impl Transport {
    pub(super) fn new(session: Arc<Session>) -> Self {
        Self { session }
    }
}

impl SmartSubtransport for Transport {
    fn action(&self, _url: &str, service: Service) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        match service {
            Service::UploadPackLs => {}
            // libgit2 goes on with the stream that it has.
            Service::UploadPack | Service::ReceivePackLs | Service::ReceivePack => {
                return Err(git2::Error::from_str("nothing is ever pushed"));
            }
        }
        match Conversation::start(&self.session) {
            Ok(conversation) => Ok(Box::new(conversation)),
            Err(problem) => Err(git2::Error::from_str(&self.session.fail(problem).to_string())),
        }
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}

/// A running `ssh`. It is killed when this goes.
struct Conversation {
    session: Arc<Session>,
    process: Child,
    to: ChildStdin,
    from: ChildStdout,
    /// What it says to a person, as it comes.
    said: Arc<Mutex<Vec<u8>>>,
    listening: JoinHandle<()>,
    /// Whether nothing was asked yet: what comes is the list of references.
    is_list: bool,
}

impl Conversation {
    fn start(session: &Arc<Session>) -> Result<Self, RemoteProblem> {
        let Address::Ssh { user, host, port, path } = &session.address else { return Err(RemoteProblem::NotGit) };
        let super::Credentials::Ssh(Credentials { folder }) = &session.credentials else {
            return Err(RemoteProblem::NotGit);
        };
        let _inside = session.runtime.enter();
        let search = config::variable("PATH").unwrap_or_default();
        let mut command = Command::new("ssh");
        // Nothing of our environment: keys may stand in it.
        command.env_clear().env("PATH", absolute(&search)).current_dir(folder.path()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (options, end) = FIXED.split_at(FIXED.len() - 1);
        command.args(options);
        if let Some(port) = port {
            command.args(["-p", &port.to_string()]);
        }
        if let Some(user) = user {
            command.args(["-l", user]);
        }
        command.args(end).args([host, &format!("git-upload-pack {}", quoted(path))]);
        let mut process = command.spawn().map_err(|error| {
            let is_missing = error.kind() == std::io::ErrorKind::NotFound;
            if is_missing { RemoteProblem::NoSsh } else { RemoteProblem::Said(innermost(&error)) }
        })?;
        let (Some(to), Some(from), Some(errors)) = (process.stdin.take(), process.stdout.take(), process.stderr.take())
        else {
            return Err(RemoteProblem::Said("`ssh` has no standard streams".to_owned()));
        };
        let said = Arc::new(Mutex::new(Vec::new()));
        let listening = session.runtime.spawn(listen(errors, Arc::clone(&said)));
        let session = Arc::clone(session);
        Ok(Self { session, process, to, from, said, listening, is_list: true })
    }

    /// Why it ended: what it said last, because its first words may be the server's banner.
    async fn ended(&mut self) -> RemoteProblem {
        // Without its words there is at least that it ended.
        let _ = (&mut self.listening).await;
        let _ = self.process.wait().await;
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        match lines.as_slice() {
            [] => RemoteProblem::NotGit,
            [.., last] if lines.len() == 1 => self.session.said(&format!("`ssh` says: {last}")),
            [.., before, last] => self.session.said(&format!("`ssh` says: {before} {last}")),
            [last] => self.session.said(&format!("`ssh` says: {last}")),
        }
    }
}

impl Read for Conversation {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let session = Arc::clone(&self.session);
        let part = session.wait(async {
            let read = self.from.read(into).await.map_err(|error| RemoteProblem::Unreachable(innermost(&error)))?;
            // The server never ends a conversation that libgit2 still listens to.
            if read == 0 { Err(self.ended().await) } else { Ok(read) }
        });
        let read = part.and_then(|read| {
            session.count(read)?;
            if self.is_list {
                session.note(&into[..read])?;
            }
            Ok(read)
        });
        read.map_err(|problem| session.fail(problem))
    }
}

impl Write for Conversation {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.is_list = false;
        let session = Arc::clone(&self.session);
        let written = session.wait(async {
            match self.to.write_all(bytes).await {
                Ok(()) => Ok(bytes.len()),
                Err(_closed) => Err(self.ended().await),
            }
        });
        written.map_err(|problem| session.fail(problem))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        // tokio's processes and streams are given back inside their runtime.
        let _inside = self.session.runtime.enter();
        self.listening.abort();
        let _ = self.process.start_kill();
        let _ = self.session.runtime.block_on(self.process.wait());
    }
}

/// Keeps the first words and reads the rest away, so that nobody waits for room.
async fn listen(mut errors: impl AsyncRead + Unpin, said: Arc<Mutex<Vec<u8>>>) {
    let mut part = [0; 1024];
    while let Ok(read @ 1..) = errors.read(&mut part).await {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        let room = usize::try_from(MAX_SAID).unwrap_or_default().saturating_sub(said.len());
        said.extend_from_slice(&part[..read.min(room)]);
    }
}

/// One word for the server's shell.
fn quoted(path: &str) -> String {
    format!("'{}'", path.replace('\'', r"'\''"))
}

/// The process runs in another folder, where relative entries would mean something else.
fn absolute(search: &std::ffi::OsStr) -> std::ffi::OsString {
    let folders = std::env::split_paths(search).filter(|folder| folder.is_absolute());
    std::env::join_paths(folders.collect::<Vec<PathBuf>>()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_path_is_one_word_for_the_servers_shell() {
        assert_eq!(quoted("/srv/infra.git"), "'/srv/infra.git'");
        assert_eq!(quoted("/srv/it's;$(x)"), r"'/srv/it'\''s;$(x)'");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let (key, known_hosts) = (temp.path().join("k e%y"), temp.path().join("known"));
        std::fs::write(&key, "CANARY").unwrap();
        std::fs::write(&known_hosts, "").unwrap();
        let access = Access { key_file: Some(key.clone()), known_hosts_file: Some(known_hosts), ..Access::default() };
        for (mode, is_private) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o644, false)] {
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
            let found = Credentials::find(&access);
            assert_eq!(found.is_ok(), is_private, "{mode:o}");
            assert!(is_private || matches!(found, Err(Unusable::Key(RemoteProblem::OpenKey(_)))), "{mode:o}");
        }
    }
}
