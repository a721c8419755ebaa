//! A repository elsewhere: one revision of it is fetched into a private folder, and read there like any other.
//!
//! libgit2 speaks Git's protocol and knows nothing of addresses and credentials: what it asks for goes through a
//! [`Session`], over HTTP by the project's own TLS or through an `ssh` process. Nothing is checked out, no hook, filter
//! or submodule is looked at, and no configuration is read. What lies in the folder is what the server gives everyone
//! who may read: ciphertext and ordinary files.

mod advertised;
mod http;
mod ssh;

use std::cell::RefCell;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use git2::transport::Transport;
use git2::{AutotagOption, Direction, FetchOptions, Oid, Remote, RemoteCallbacks, Repository};
use regent_core::remote::{Access, Address};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use self::advertised::{Advertised, Want};
use super::History;
use crate::failure::{Failure, one_line};

/// Why a server does not give what is asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RemoteProblem {
    /// No connection.
    #[error("{0}")]
    Unreachable(String),
    /// It took too long.
    #[error("it was not there within {} s", PATIENCE.as_secs())]
    Late,
    /// More than is taken.
    #[error("it is larger than {0}")]
    TooLarge(&'static str),
    /// 401 or 403.
    #[error("{}", if *.given { "the server does not accept the credentials" } else { "the server asks for credentials" })]
    Unauthorized {
        /// Whether any were sent.
        given: bool,
    },
    /// 404.
    #[error("the server has no such repository, or not for everybody (404)")]
    NotFound,
    /// A redirect that is not followed.
    #[error("the server redirects to another place, and credentials do not go along")]
    Redirected,
    /// Any other status.
    #[error("the server answers {0}")]
    Status(u16),
    /// Not Git's protocol.
    #[error("the server does not answer as Git's do")]
    NotGit,
    /// What the server, `ssh` or libgit2 says, on one line.
    #[error("{0}")]
    Said(String),
    /// There is no `ssh`.
    #[error("the program `ssh` is not in PATH")]
    NoSsh,
    /// The private key can be read by others.
    #[error("others may read the private key file {0}")]
    OpenKey(String),
    /// Neither branch nor tag.
    #[error("it has no branch or tag `{0}`")]
    NoSuchRevision(String),
    /// Branch and tag.
    #[error("`{0}` is a branch, and a tag of another commit")]
    Ambiguous(String),
    /// An expression, or a part of an id.
    #[error("`{0}` is no branch, no tag, and no commit id in full")]
    NotARevision(String),
    /// A commit that no branch or tag leads to.
    #[error("no branch or tag leads to the commit {0}")]
    NoSuchCommit(Oid),
}

impl RemoteProblem {
    /// What helps.
    pub(crate) fn way_out(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::Late | Self::Status(_) => {
                "check address, network and CA (`--git-ca-file`), then try again"
            }
            Self::TooLarge(_) => "clone it (`git clone --bare`) and name the folder",
            Self::Unauthorized { given: false } => {
                "give `--git-token-file`, and `--git-username` where the server wants a user too"
            }
            Self::Unauthorized { given: true } => {
                "check the token, and `--git-username`: GitHub takes `x-access-token`, GitLab `oauth2`"
            }
            Self::NotFound => "check the address; many servers say so of what a token may not read",
            Self::Redirected | Self::NotGit => "name the address that answers `git clone`",
            Self::Said(_) => "`git ls-remote` with the same address and credentials tells more",
            Self::NoSsh => "install OpenSSH's client, or use `https://`",
            Self::OpenKey(_) => "`chmod 600` it; a mounted Secret gets `defaultMode: 0400`",
            Self::NoSuchRevision(_) | Self::NotARevision(_) | Self::NoSuchCommit(_) => {
                "name a branch, a tag, `HEAD`, or a commit by its full id"
            }
            Self::Ambiguous(_) => "say which: `refs/heads/NAME` or `refs/tags/NAME`",
        }
    }
}

/// What was fetched. The folder goes when this does.
pub(super) struct Fetched {
    pub(super) repository: Repository,
    pub(super) commit: Oid,
    pub(super) folder: TempDir,
}

/// The commit that a revision means now; a full id is taken for what it is.
pub(super) fn commit(address: &Address, access: &Access, revision: &str) -> Result<Oid, Failure> {
    if let Some(id) = full_id(revision) {
        return Ok(id);
    }
    with_session(address, access, |session| {
        let mut remote = Remote::create_detached(URL).map_err(|error| session.told(&error))?;
        let _connection = connect(&mut remote, session)?;
        Ok(session.advertised()?.tip(revision)?.id)
    })
}

/// Commits on the way to the one that is asked for, [`History::Recent`].
const RECENT: i32 = 1000;

/// Fetches a revision: that commit and this much of its history where the server can, else all branches and tags.
pub(super) fn fetch(address: &Address, access: &Access, revision: &str, history: History) -> Result<Fetched, Failure> {
    with_session(address, access, |session| {
        let folder = private_folder().map_err(|error| RemoteProblem::Said(one_line(&error.to_string())))?;
        let told = |error: &git2::Error| session.told(error);
        let repository = Repository::init_bare(folder.path()).map_err(|error| told(&error))?;
        let commit = {
            let mut remote = repository.remote_anonymous(URL).map_err(|error| told(&error))?;
            let mut connection = connect(&mut remote, session)?;
            let advertised = session.advertised()?;
            let want = match full_id(revision) {
                Some(id) => advertised.commit(id),
                None => Want::Tip(advertised.tip(revision)?),
            };
            let specs: Vec<String> = match &want {
                Want::Tip(tip) => vec![tip.reference.clone()],
                Want::Commit(id) => vec![id.to_string()],
                Want::Everything(_) => ["heads", "tags"].map(|kind| format!("+refs/{kind}/*:refs/{kind}/*")).into(),
            };
            let mut options = options(session);
            if advertised.can("shallow") && !matches!(want, Want::Everything(_)) {
                match history {
                    History::None => drop(options.depth(1)),
                    History::Recent => drop(options.depth(RECENT)),
                    History::Whole => {}
                }
            }
            connection.remote().download(&specs, Some(&mut options)).map_err(|error| told(&error))?;
            want.id()
        };
        if repository.find_commit(commit).is_err() {
            return Err(RemoteProblem::NoSuchCommit(commit));
        }
        Ok(Fetched { repository, commit, folder })
    })
}

/// Git's own name for a commit, where it is complete.
pub(super) fn full_id(revision: &str) -> Option<Oid> {
    let is_full = revision.len() == 40 && revision.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_full.then(|| Oid::from_str(revision).ok()).flatten()
}

/// What libgit2 takes for the address: the session knows the real one, so no credential, no `insteadOf` and no other
/// transport of libgit2 comes near it.
const URL: &str = "regent://repository";
/// The scheme in it.
pub(super) const SCHEME: &str = "regent";

/// How long a fetch may take in all.
const PATIENCE: Duration = Duration::from_secs(120);
/// Most bytes that are received in a fetch. A repository of manifests has some megabytes.
const MAX_BYTES: u64 = 1 << 30;
/// Most objects in a pack: files, folders and commits.
const MAX_OBJECTS: usize = 2_000_000;
/// Longest list of branches and tags, in bytes; half a million of them.
const MAX_ADVERTISED: usize = 32 << 20;

/// One conversation with a server, on a thread of its own.
struct Session {
    address: Address,
    credentials: Credentials,
    runtime: Runtime,
    deadline: Instant,
    received: AtomicU64,
    /// The server's list of references, as it passed by: libgit2's own has no place for names that are not UTF-8.
    list: Mutex<Vec<u8>>,
    /// What went wrong in a transport: libgit2 carries words only.
    problem: Mutex<Option<RemoteProblem>>,
}

enum Credentials {
    Http(Box<http::Credentials>),
    Ssh(ssh::Credentials),
}

thread_local! {
    /// The session that libgit2's transports on this thread belong to.
    static SESSION: RefCell<Option<Arc<Session>>> = const { RefCell::new(None) };
}

/// Makes libgit2's transport of the thread's session; what [`SCHEME`] is registered with.
pub(super) fn transport(remote: &Remote<'_>) -> Result<Transport, git2::Error> {
    let session = SESSION.with_borrow(Option::clone).ok_or_else(|| git2::Error::from_str("there is no session"))?;
    match &session.credentials {
        Credentials::Http(_) => Transport::smart(remote, true, http::Transport::new(session)),
        Credentials::Ssh(_) => Transport::smart(remote, false, ssh::Transport::new(session)),
    }
}

/// Runs a conversation on a thread of its own, so that it may be had from inside an asynchronous caller too.
fn with_session<T: Send>(
    address: &Address,
    access: &Access,
    talk: impl FnOnce(&Arc<Session>) -> Result<T, RemoteProblem> + Send,
) -> Result<T, Failure> {
    super::settle_libgit2();
    let failed = |problem| Failure::Git { repository: address.to_string(), problem };
    let credentials = match address {
        Address::Http { .. } => Credentials::Http(Box::new(http::Credentials::read(access)?)),
        Address::Ssh { .. } => Credentials::Ssh(ssh::Credentials::find(access).map_err(|problem| match problem {
            ssh::Unusable::Key(problem) => failed(problem),
            ssh::Unusable::File(failure) => failure,
        })?),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("start", "the runtime".as_ref(), &error))?;
    let session = Arc::new(Session {
        address: address.clone(),
        credentials,
        runtime,
        deadline: Instant::now() + PATIENCE,
        received: AtomicU64::new(0),
        list: Mutex::default(),
        problem: Mutex::default(),
    });
    let talked = std::thread::scope(|threads| {
        // The session ends there too: an asynchronous caller may not give a runtime back.
        let talking = threads.spawn(move || {
            SESSION.set(Some(Arc::clone(&session)));
            let talked = talk(&session);
            SESSION.set(None);
            talked
        });
        talking.join()
    });
    talked.map_err(|_panic| Failure::Bug)?.map_err(failed)
}

fn connect<'r, 'c>(
    remote: &'c mut Remote<'r>,
    session: &Session,
) -> Result<git2::RemoteConnection<'r, 'c, 'static>, RemoteProblem> {
    remote.connect_auth(Direction::Fetch, None, None).map_err(|error| session.told(&error))
}

fn options(session: &Session) -> FetchOptions<'_> {
    let mut callbacks = RemoteCallbacks::new();
    callbacks.transfer_progress(|progress| {
        if progress.total_objects() > MAX_OBJECTS {
            session.fail(RemoteProblem::TooLarge("two million objects"));
        } else if Instant::now() > session.deadline {
            session.fail(RemoteProblem::Late);
        } else {
            return true;
        }
        false
    });
    let mut options = FetchOptions::new();
    options.remote_callbacks(callbacks).download_tags(AutotagOption::None).update_fetchhead(false);
    options
}

/// A folder that nobody else can look into.
fn private_folder() -> std::io::Result<TempDir> {
    let only_mine = std::fs::Permissions::from_mode(0o700);
    let folder = tempfile::Builder::new().prefix("regent-git-").permissions(only_mine).tempdir()?;
    let mut folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
    folders.retain(|folder| folder.exists());
    folders.push(folder.path().to_owned());
    Ok(folder)
}

/// The folders of fetches that may not be over.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes what was fetched, for a process that ends while other threads still hold it.
pub(crate) fn abandon() {
    for folder in FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        // What is gone needs nothing, and what cannot be removed is ciphertext.
        drop(std::fs::remove_dir_all(folder));
    }
}

impl Session {
    /// Waits for the network, no longer than the session may take.
    fn wait<T>(&self, work: impl Future<Output = Result<T, RemoteProblem>>) -> Result<T, RemoteProblem> {
        let work = async { tokio::time::timeout_at(self.deadline.into(), work).await };
        self.runtime.block_on(work).unwrap_or(Err(RemoteProblem::Late))
    }

    /// Counts what came in.
    fn count(&self, bytes: usize) -> Result<(), RemoteProblem> {
        let before = self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        if before + bytes as u64 > MAX_BYTES { Err(RemoteProblem::TooLarge("1 GiB")) } else { Ok(()) }
    }

    /// Keeps a part of the server's list of references.
    fn note(&self, part: &[u8]) -> Result<(), RemoteProblem> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() + part.len() > MAX_ADVERTISED {
            return Err(RemoteProblem::TooLarge("half a million branches and tags"));
        }
        list.extend_from_slice(part);
        Ok(())
    }

    fn advertised(&self) -> Result<Advertised, RemoteProblem> {
        Advertised::parse(&self.list.lock().unwrap_or_else(PoisonError::into_inner)).ok_or(RemoteProblem::NotGit)
    }

    /// Keeps the first problem, and gives what stops libgit2.
    fn fail(&self, problem: RemoteProblem) -> std::io::Error {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(problem);
        std::io::Error::other("the transport failed")
    }

    /// What stopped libgit2: our own problem, else its words, which may be the server's.
    fn told(&self, error: &git2::Error) -> RemoteProblem {
        let ours = self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ours.unwrap_or_else(|| self.said(error.message()))
    }

    /// Words from elsewhere: one bounded line, and nothing of a credential that was sent.
    fn said(&self, words: &str) -> RemoteProblem {
        const LONGEST: usize = 300;
        let is_secret = match &self.credentials {
            Credentials::Http(credentials) => credentials.are_in(words),
            Credentials::Ssh(_) => false,
        };
        if is_secret {
            return RemoteProblem::Said("the server repeats the credentials in its answer".to_owned());
        }
        RemoteProblem::Said(one_line(words.trim()).chars().take(LONGEST).collect())
    }
}

#[cfg(test)]
mod tests;
