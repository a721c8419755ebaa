//! Every failure once: exit code, stable name, public sentence, way out. The only file that knows codes.

use crate::cluster::ClusterError;
use crate::command::{HandoverStop, ImportStop, JobStop};
use crate::flux::endpoint::{LoginProblem, Unanswered};
use crate::source::git::{RemoteProblem, SignatureProblem};
use crate::source::tar::UploadProblem;
use regent_core::authority::{AuthorityRefusal, Rule};
use regent_core::files::{FileProblem, FilesError};
use regent_core::flux::release::Withheld;
use regent_core::flux::substitution;
use regent_core::handover::decide::{Stop, StopKind};
use regent_core::handover::plan::PlanRefusal;
use regent_core::import::ImportRefusal;
use regent_core::rebootstrap::RebootstrapRefusal;
use regent_core::restore::RestoreRefusal;
use regent_core::retire::RetireRefusal;
use regent_core::rules::RuleRefusal;
use regent_core::secret::SecretProblem;
use regent_core::{DocumentProblem, Refusal};
use regent_sops::IdentityProblem;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;

/// Why a command did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Core says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A file does not open: its name and why.
    #[error("cannot open {file}: {error}")]
    Open {
        /// The file as it was typed.
        file: String,
        /// Why.
        error: regent_sops::Error,
    },
    /// An identity cannot be used; the error names the key file.
    #[error("cannot use {0}")]
    Identity(regent_sops::Error),
    /// The embedded authority store is not what it should be.
    #[error("cannot use the authority store {folder}: {problem}")]
    Store {
        /// Its folder.
        folder: String,
        /// The rule it breaks.
        problem: String,
    },
    /// A cluster did not do what was asked.
    #[error("the API server {cluster}: {problem}")]
    Cluster {
        /// Its address, or the kubeconfig that leads to none.
        cluster: String,
        /// Why.
        problem: ClusterError,
    },
    /// Vault was asked whether there is a record, and does not say.
    #[error("Vault {address} does not say whether it holds a handover record: {problem}")]
    Vault {
        /// Its address, as `regent.yaml` has it.
        address: String,
        /// Why.
        problem: String,
    },
    /// The environment means another Vault, or does not say how to trust it.
    #[error("cannot follow {variable}: {problem}")]
    VaultEnvironment {
        /// The variable.
        variable: &'static str,
        /// Why.
        problem: String,
    },
    /// A repository elsewhere does not give what was asked for.
    #[error("cannot fetch from {repository}: {problem}")]
    Git {
        /// Its address, without credentials.
        repository: String,
        /// Why.
        problem: RemoteProblem,
    },
    /// A commit is not one that a handover may begin from.
    #[error("{commit}: {problem}")]
    Signature {
        /// The commit, or the revision that led to it.
        commit: String,
        /// Why.
        problem: SignatureProblem,
    },
    /// Nobody whom the operator's file asks vouches for a revision.
    #[error("{what} builds no artifact: {problem}")]
    Unvouched {
        /// The commit, or the revision of a `GitRepository`.
        what: String,
        /// Why.
        problem: String,
    },
    /// A cluster is not as it has to be.
    #[error("{cluster} is not ready: {problem}")]
    NotReady {
        /// The API server's address.
        cluster: String,
        /// What is missing or in the way.
        problem: String,
        /// What helps.
        way_out: String,
    },
    /// `init` with an epoch that comes after a loss, by somebody who may not decide that.
    #[error("the API server {address} lets nobody begin with epoch {epoch}: {problem}")]
    LaterEpoch {
        /// The API server's address.
        address: String,
        /// What regent.yaml says.
        epoch: u32,
        /// What the API server said.
        problem: String,
        /// The command that goes on.
        way_out: String,
    },
    /// `rebootstrap` does not raise the epoch.
    #[error("{refusal}")]
    Rebootstrap {
        /// Why.
        refusal: RebootstrapRefusal,
        /// The command that goes on.
        way_out: String,
    },
    /// `restore` brings nothing back.
    #[error("{refusal}")]
    Restore {
        /// Why.
        refusal: RestoreRefusal,
        /// The command that goes on.
        way_out: String,
    },
    /// `handover` stops where it is, and nothing is lost.
    #[error("{stop}")]
    Handover {
        /// Why.
        stop: Box<HandoverStop>,
        /// The command that goes on.
        way_out: String,
    },
    /// `handover --in-cluster` does not make its Jobs, or follow them to their end.
    #[error("{stop}")]
    Job {
        /// Why.
        stop: Box<JobStop>,
        /// Whether Vault rules already.
        has_moved: bool,
        /// The command that goes on.
        way_out: String,
    },
    /// `import` stops where it is, and nothing is lost.
    #[error("{stop}")]
    Import {
        /// Why.
        stop: Box<ImportStop>,
        /// The command that goes on.
        way_out: String,
    },
    /// `retire` is not for this root, or not yet.
    #[error("{refusal}")]
    Retire {
        /// Why.
        refusal: RetireRefusal,
        /// The command that goes on.
        way_out: String,
    },
    /// `init --from-vault` stops where it is.
    #[error("{stop}")]
    FromVault {
        /// Why.
        stop: Box<HandoverStop>,
        /// The command that goes on.
        way_out: String,
    },
    /// `init` where a witness is.
    #[error("authority `{name}` exists: {witness}")]
    Exists {
        /// The authority.
        name: String,
        /// What is there.
        witness: String,
    },
    /// `init` where Git says that the epoch is over.
    #[error("{file} says that epoch {epoch} was handed over (`closed: {handover}`)")]
    Closed {
        /// The `regent.yaml`.
        file: String,
        /// E.
        epoch: u32,
        /// The handover.
        handover: String,
    },
    /// A plugin's answer on its socket is a refusal, or none that can be shown.
    #[error("the plugin does not render: {message}")]
    Plugin {
        /// Its own public sentence, on one line and bounded.
        message: String,
    },
    /// The world: a file that cannot be read, a repository, a store.
    #[error("cannot {what} {name}: {reason}")]
    World {
        /// `read`, `write`, ...
        what: &'static str,
        /// The thing.
        name: String,
        /// The system's own words.
        reason: String,
    },
    /// A request through a plugin's socket contradicts itself or its contract.
    #[error("the request {0}")]
    Request(String),
    /// The repository that came with a request cannot be taken in.
    #[error("cannot read the repository that Argo CD sent: {0}")]
    Upload(#[from] UploadProblem),
    /// The repository came without the root's `regent.yaml`.
    #[error("{bootstrap} is not in what Argo CD sent")]
    NotUploaded {
        /// The `regent.yaml`, as the rule names it.
        bootstrap: String,
    },
    /// The folder that was asked for is not in the root of the rule that allows it.
    #[error("the folder {folder} is not one of the rule, whose root is {root}")]
    Outside {
        /// Where the folder really is in the repository.
        folder: String,
        /// The root's folder.
        root: String,
    },
    /// More than Argo CD's client takes.
    #[error("the answer is larger than the {limit} bytes that Argo CD takes")]
    AnswerTooLarge {
        /// The bound in bytes.
        limit: usize,
    },
    /// The answer would come too late.
    #[error("the answer was not ready in time")]
    Late,
    /// The command line asks for what does not go together.
    #[error("{0}")]
    Usage(String),
    /// Whoever read the output stopped; not worth a word.
    #[error("the output was closed")]
    OutputClosed,
    /// A case that regent does not know; the panic was reported where it happened.
    #[error("regent met a case that it does not know")]
    Bug,
}

/// Exit codes, as a shell sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked is done.
    Done = 0,
    /// A rule says no.
    Refused = 1,
    /// The command line, a file it names, or the machine.
    Usage = 2,
    /// A document cannot be opened.
    Document = 3,
    /// The authority is unknown or absent.
    Authority = 4,
    /// A person decides.
    Person = 5,
    /// A handover stopped before the record: nothing moved.
    Stopped = 6,
    /// Vault has the record, and the cluster does not show all of it yet.
    Underway = 7,
    /// A bug.
    Bug = 70,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The exit codes of the help.
pub(crate) const EXIT_CODES: [(u8, &str); 9] = [
    (Exit::Done as u8, "done"),
    (Exit::Refused as u8, "refused by a rule"),
    (Exit::Usage as u8, "usage: the command line, a configuration file, or a file that cannot be read or written"),
    (Exit::Document as u8, "a document cannot be opened"),
    (Exit::Authority as u8, "the authority is unknown or absent: try again, or `regent init`"),
    (Exit::Person as u8, "witnesses contradict each other: a person decides"),
    (Exit::Stopped as u8, "a handover stopped before the record: Git rules as before"),
    (Exit::Underway as u8, "recorded, but not yet mirrored or settled: run it again"),
    (Exit::Bug as u8, "a bug in regent"),
];

/// Stable names: what stands in `regent: error[..]`, and what `regent explain` explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    P0,
    P1,
    P2,
    P3,
    P4,
    P5,
    P6,
    Allow,
    Exists,
    Closed,
    Unasked,
    Late,
    Request,
    Upload,
    NotUploaded,
    Release,
    Token,
    Store,
    Cluster,
    Forbidden,
    Denied,
    NotReady,
    Vault,
    VaultEnvironment,
    Git,
    Signature,
    NextEpoch,
    OtherCluster,
    Mirror,
    Abandon,
    Delivered,
    LiveDiffers,
    Moved,
    NotPermanent,
    Present,
    Stale,
    Plan,
    Conflict,
    Preflight,
    Approval,
    Changed,
    Interrupted,
    Lost,
    Replaced,
    Record,
    OtherPlace,
    Unmirrored,
    Job,
    Import,
    Retire,
    Config,
    Files,
    Object,
    ClearSecret,
    EncryptedKind,
    Namespace,
    Twice,
    NotListed,
    Secret,
    Gate,
    MacScope,
    NoKey,
    Mac,
    Value,
    Metadata,
    Syntax,
    Limit,
    Envelope,
    Emit,
    Identity,
    Plugin,
    Io,
    Usage,
    /// The last one: [`Code::COUNT`] counts on it.
    Bug,
}

/// What `regent explain` tells of a code.
pub(crate) struct Entry {
    /// The stable name.
    pub(crate) name: &'static str,
    /// Exit codes it ends with; empty for an answer that is no error.
    pub(crate) exits: &'static [Exit],
    /// One line.
    pub(crate) meaning: &'static str,
    /// Why the rule exists.
    pub(crate) why: &'static str,
    /// The way out; a hint under the error.
    pub(crate) way_out: &'static str,
}

impl Failure {
    /// A failure of the file system.
    pub(crate) fn io(what: &'static str, path: &Path, error: &std::io::Error) -> Self {
        Self::World { what, name: path.display().to_string(), reason: reason(error) }
    }

    /// A failure of standard output.
    pub(crate) fn output(error: &std::io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        Self::World { what: "write", name: "standard output".to_owned(), reason: reason(error) }
    }

    /// Prints error and hint to standard error and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if !matches!(self, Self::OutputClosed) {
            let code = self.code().entry().name;
            let (error, hint, off) = ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m");
            let mut stderr = anstream::stderr().lock();
            // Nothing is left to be done about a standard error that cannot be written.
            let _ = writeln!(stderr, "regent: {error}error[{code}]{off}: {}", one_line(&self.to_string()));
            // A command line that was mistyped needs no more explanation.
            let more =
                if self.code() == Code::Usage { String::new() } else { format!("; more: `regent explain {code}`") };
            let _ = writeln!(stderr, "regent: {hint}hint{off}: {}{more}", self.hint());
        }
        self.exit_code()
    }

    /// The failure as it leaves through a plugin's socket: code, public sentence and way out in one line of less
    /// than 200 characters, because Argo CD prepends as many of its own and people read it in a table. `refresh` is
    /// the command that makes Argo CD ask again, named where nothing in Git changes that would.
    pub(crate) fn status(&self, refresh: &str) -> tonic::Status {
        tonic::Status::new(self.grpc(), self.line(Some(refresh), SHORT))
    }

    /// The same line for a condition of Flux, which asks again by itself and shows more of it.
    pub(crate) fn public_line(&self) -> String {
        self.line(None, LONG)
    }

    fn line(&self, refresh: Option<&str>, longest: usize) -> String {
        let code = self.code();
        let way_out = if code == Code::P1 {
            then("look at the store", refresh)
        } else if code == Code::P5 {
            then("`regent init`", refresh)
        } else if code == Code::NoKey {
            "encrypt it to an identity of the rule (`sops updatekeys`)".to_owned()
        } else {
            self.hint()
        };
        let head = format!("regent[{}]: ", code.entry().name);
        // A way out may name a file, too; most of the line is for the sentence only where it needs it.
        let sentence = one_line(&self.sentence());
        let left = longest - head.chars().count() - "; ".len();
        let tail = shortened(&one_line(&way_out), left - sentence.chars().count().min(left / 3));
        let sentence = shortened(&sentence, left - tail.chars().count());
        format!("{head}{sentence}; {tail}")
    }

    /// What is told to somebody who holds no key: lists of recipients and identities only fill the line.
    fn sentence(&self) -> String {
        use regent_sops::Error;
        let Self::Refused(Refusal::Document { file, problem: DocumentProblem::Sops(error) }) = self else {
            return self.to_string();
        };
        if let Error::NoKey(_) = error {
            format!("{file}: no identity of the rule opens it")
        } else if let Error::TooFewParts { have, need, .. } = error {
            format!("{file}: the rule's identities open {have} of {need} key groups")
        } else {
            self.to_string()
        }
    }

    /// The code that Argo CD shows as a word; it acts on none of them.
    fn grpc(&self) -> tonic::Code {
        let (code, exit) = self.verdict();
        match (exit, code) {
            (_, Code::Late) => tonic::Code::DeadlineExceeded,
            (_, Code::Request) => tonic::Code::InvalidArgument,
            (Exit::Refused, _) => tonic::Code::PermissionDenied,
            (Exit::Usage | Exit::Document | Exit::Person | Exit::Stopped, _) => tonic::Code::FailedPrecondition,
            (Exit::Authority | Exit::Underway, _) => tonic::Code::Unavailable,
            (Exit::Done | Exit::Bug, _) => tonic::Code::Internal,
        }
    }

    /// The exit code alone.
    pub(crate) fn exit_code(&self) -> ExitCode {
        self.exit().into()
    }

    /// How a command ends that fails so.
    pub(crate) fn exit(&self) -> Exit {
        self.verdict().1
    }

    /// The stable name.
    pub(crate) fn code(&self) -> Code {
        self.verdict().0
    }

    /// The way out: the code's own, or more to the point where the failure knows more.
    pub(crate) fn hint(&self) -> String {
        if let Some(program) = self.missing_plugin() {
            return format!("one recipient needs the program `{program}` in PATH");
        }
        if let Self::Refused(Refusal::Files(error)) = self {
            return error.way_out();
        }
        if let Self::Refused(Refusal::Obstacle(obstacle)) = self {
            return obstacle.way_out().to_owned();
        }
        if let Self::Refused(Refusal::Document { problem, .. }) = self
            && let Some(way_out) = way_out_of_flux(problem)
        {
            return way_out.to_owned();
        }
        if let Self::Upload(problem) = self
            && let Some(way_out) = way_out_of_upload(problem)
        {
            return way_out.to_owned();
        }
        if let Self::Identity(regent_sops::Error::Identity { problem, .. }) = self
            && let Some(way_out) = way_out_of_identity(*problem)
        {
            return way_out.to_owned();
        }
        if let Self::Git { problem, .. } = self {
            return problem.way_out().to_owned();
        }
        if let Self::Signature { problem, .. } = self {
            return problem.way_out();
        }
        if let Self::Unvouched { .. } = self {
            return "sign a new commit with a listed key; the last artifact stays".to_owned();
        }
        if let Self::NotReady { way_out, .. }
        | Self::LaterEpoch { way_out, .. }
        | Self::Rebootstrap { way_out, .. }
        | Self::Restore { way_out, .. }
        | Self::Handover { way_out, .. }
        | Self::Job { way_out, .. }
        | Self::Import { way_out, .. }
        | Self::Retire { way_out, .. }
        | Self::FromVault { way_out, .. } = self
        {
            return way_out.clone();
        }
        self.code().entry().way_out.to_owned()
    }

    /// The program of an age plugin that a recipient asks for and that is not in `PATH`.
    fn missing_plugin(&self) -> Option<String> {
        use regent_sops::Error;
        let (Self::Open { error, .. } | Self::Refused(Refusal::Document { problem: DocumentProblem::Sops(error), .. })) =
            self
        else {
            return None;
        };
        let (Error::NoKey(report) | Error::TooFewParts { report, .. }) = error else { return None };
        report.recipients.iter().find_map(|recipient| {
            // A report names kind and recipient: `age age1yubikey1..`.
            let name = crate::keys::plugin_of_recipient(recipient.rsplit(' ').next()?)?;
            (!crate::keys::plugin_is_installed(name)).then(|| format!("age-plugin-{name}"))
        })
    }

    /// The one match: every failure's code and exit.
    fn verdict(&self) -> (Code, Exit) {
        match self {
            Self::Refused(refusal) => of_refusal(refusal),
            Self::Open { error, .. } | Self::Identity(error) => of_ciphertext(error),
            Self::Store { .. } => (Code::Store, Exit::Authority),
            Self::Cluster { problem, .. } => of_cluster(problem),
            Self::Vault { .. } => (Code::Vault, Exit::Authority),
            Self::VaultEnvironment { .. } => (Code::VaultEnvironment, Exit::Usage),
            Self::Git { .. } => (Code::Git, Exit::Usage),
            Self::Signature { .. } | Self::Unvouched { .. } => (Code::Signature, Exit::Refused),
            Self::NotReady { .. } => (Code::NotReady, Exit::Refused),
            Self::LaterEpoch { .. } => (Code::Denied, Exit::Refused),
            Self::Rebootstrap { refusal, .. } => of_rebootstrap(refusal),
            Self::Restore { refusal, .. } => of_restore(refusal),
            Self::Handover { stop, .. } => of_handover(stop),
            Self::Job { stop, has_moved, .. } => of_job(stop, *has_moved),
            Self::Import { stop, .. } => of_import(stop),
            Self::Retire { refusal, .. } => of_retire(refusal),
            Self::FromVault { stop, .. } => of_vault(stop),
            Self::Exists { .. } => (Code::Exists, Exit::Refused),
            Self::Closed { .. } => (Code::Closed, Exit::Refused),
            Self::Plugin { .. } => (Code::Plugin, Exit::Refused),
            Self::World { .. } => (Code::Io, Exit::Usage),
            Self::Request(_) => (Code::Request, Exit::Usage),
            Self::Upload(_) => (Code::Upload, Exit::Refused),
            Self::NotUploaded { .. } => (Code::NotUploaded, Exit::Refused),
            Self::Outside { .. } => (Code::Allow, Exit::Refused),
            Self::AnswerTooLarge { .. } => (Code::Limit, Exit::Document),
            Self::Late => (Code::Late, Exit::Authority),
            Self::Usage(_) => (Code::Usage, Exit::Usage),
            // The reader has what it wanted, as `regent explain | head` shows.
            Self::OutputClosed => (Code::Io, Exit::Done),
            Self::Bug => (Code::Bug, Exit::Bug),
        }
    }
}

/// What helps with an upload, where that is more than giving it more room.
fn way_out_of_upload(problem: &UploadProblem) -> Option<&'static str> {
    match problem {
        UploadProblem::StreamTooLarge { .. }
        | UploadProblem::KeptTooLarge { .. }
        | UploadProblem::TooManyFiles { .. }
        | UploadProblem::Bomb { .. } => None,
        UploadProblem::Damaged | UploadProblem::Broken | UploadProblem::Header { .. } => {
            Some("refresh hard; where it lasts, the log of repo-server tells more")
        }
        UploadProblem::BadName { .. }
        | UploadProblem::HardLink { .. }
        | UploadProblem::Special { .. }
        | UploadProblem::UnknownKind { .. }
        | UploadProblem::Twice { .. }
        | UploadProblem::BelowAFile { .. } => {
            Some("remove it from the repository, or leave it out (`--plugin-tar-exclude`)")
        }
        UploadProblem::NoFolder { .. }
        | UploadProblem::Dangling { .. }
        | UploadProblem::LinkOut { .. }
        | UploadProblem::LinkLoop { .. } => Some("correct the Application's `path`, or the link in the repository"),
        UploadProblem::LinkedRoot { .. } => Some("name the root by its real path in the rule's `bootstrap`"),
    }
}

/// What helps with a document that a Flux Kustomization reaches in a way that cannot be handed over.
fn way_out_of_flux(problem: &DocumentProblem) -> Option<&'static str> {
    if let DocumentProblem::NotHandedOver { .. } = problem {
        Some("make it a Secret of its own among the `resources`")
    } else if let DocumentProblem::Generator(problem) = problem {
        Some(problem.way_out())
    } else if let DocumentProblem::AppliedTwice { .. } = problem {
        Some("let one of them apply it")
    } else if let DocumentProblem::Secret(SecretProblem::Substituted { .. }) = problem {
        Some(substitution::WAY_OUT)
    } else if let DocumentProblem::SeveralPlaces = problem {
        Some("give each of them a file of its own")
    } else if let DocumentProblem::NotApplied = problem {
        Some("list it in a kustomization, in `flux.applications`' Kustomizations, or in `secrets.exclude`")
    } else if let DocumentProblem::OutsideRoot = problem {
        Some("move it into the root, or give its folder a `regent.yaml` and an entry of its own")
    } else {
        None
    }
}

/// Characters of a line that Argo CD shows, and of a condition's message.
const SHORT: usize = 199;
const LONG: usize = 1000;

/// A step, and the command after it.
fn then(first: &str, refresh: Option<&str>) -> String {
    refresh.map_or_else(|| first.to_owned(), |refresh| format!("{first}, then `{refresh}`"))
}

/// What helps with one key file, where that is more than what helps with any.
fn way_out_of_identity(problem: IdentityProblem) -> Option<&'static str> {
    match problem {
        IdentityProblem::PassphraseMissing => Some("`--passphrase-file FILE` names the file with its passphrase"),
        IdentityProblem::PassphraseWrong => Some("check the passphrase file; only a line break at its end is left out"),
        IdentityProblem::PublicOnly => Some("name the file of the secret key"),
        IdentityProblem::Unsupported => Some("`ssh-keygen -p -f KEY` writes an old SSH key in today's form"),
        IdentityProblem::Unknown
        | IdentityProblem::BadLine
        | IdentityProblem::Damaged
        | IdentityProblem::Empty
        | IdentityProblem::TooLarge
        | IdentityProblem::TooCostly => None,
    }
}

fn of_refusal(refusal: &Refusal) -> (Code, Exit) {
    match refusal {
        Refusal::Authority(refusal) => of_authority(refusal),
        Refusal::Bootstrap(_) | Refusal::Rule(RuleRefusal::Config { .. }) => (Code::Config, Exit::Usage),
        Refusal::Rule(RuleRefusal::NotAllowed { .. }) => (Code::Allow, Exit::Refused),
        Refusal::Files(FilesError::File { problem: FileProblem::TooLarge { .. }, .. }) => (Code::Limit, Exit::Document),
        Refusal::Files(_) | Refusal::Obstacle(_) => (Code::Files, Exit::Refused),
        Refusal::Document { problem, .. } => of_document(problem),
        Refusal::Unasked => (Code::Unasked, Exit::Authority),
        Refusal::NoWrappingKey => (Code::Identity, Exit::Usage),
        Refusal::Stopped => (Code::Late, Exit::Authority),
    }
}

fn of_authority(refusal: &AuthorityRefusal) -> (Code, Exit) {
    let code = match refusal.rule() {
        Rule::P0 => Code::P0,
        Rule::P1 => Code::P1,
        Rule::P3 => Code::P3,
        Rule::P5 => Code::P5,
        Rule::P6 => Code::P6,
    };
    let exit = match refusal {
        AuthorityRefusal::OtherAuthority { .. }
        | AuthorityRefusal::OtherBootstrap { .. }
        | AuthorityRefusal::OtherRoot { .. }
        | AuthorityRefusal::NextEpoch { .. }
        | AuthorityRefusal::Mismatch { .. }
        | AuthorityRefusal::AssumedAgainst { .. } => Exit::Refused,
        // Asked again, the store answers, or the move is over.
        AuthorityRefusal::Unreadable { .. } | AuthorityRefusal::Moved { .. } | AuthorityRefusal::NoAuthority { .. } => {
            Exit::Authority
        }
        AuthorityRefusal::Disagree { .. } => Exit::Person,
    };
    (code, exit)
}

fn of_cluster(problem: &ClusterError) -> (Code, Exit) {
    match problem {
        ClusterError::Forbidden(_) => (Code::Forbidden, Exit::Refused),
        ClusterError::Denied(_) => (Code::Denied, Exit::Refused),
        ClusterError::Unreachable(_)
        | ClusterError::Late(_)
        | ClusterError::Unauthorized
        | ClusterError::Conflict(_)
        | ClusterError::NotServed(_)
        | ClusterError::Status { .. } => (Code::Cluster, Exit::Authority),
    }
}

fn of_rebootstrap(refusal: &RebootstrapRefusal) -> (Code, Exit) {
    match refusal {
        RebootstrapRefusal::Authority(refusal) => of_authority(refusal),
        RebootstrapRefusal::NotAsked { .. } => (Code::NextEpoch, Exit::Refused),
        RebootstrapRefusal::OtherCluster { .. } => (Code::OtherCluster, Exit::Refused),
        RebootstrapRefusal::Mirror { .. } => (Code::Mirror, Exit::Person),
        RebootstrapRefusal::OtherHandover { .. } | RebootstrapRefusal::VaultHolds { .. } => {
            (Code::Abandon, Exit::Refused)
        }
        RebootstrapRefusal::VaultSilent { .. } => (Code::Abandon, Exit::Authority),
        RebootstrapRefusal::Delivered { .. } => (Code::Delivered, Exit::Refused),
        RebootstrapRefusal::NoSuchSecret { .. } => (Code::Usage, Exit::Usage),
        RebootstrapRefusal::LiveDiffers { .. } => (Code::LiveDiffers, Exit::Refused),
        RebootstrapRefusal::Moved => (Code::Moved, Exit::Authority),
    }
}

fn of_restore(refusal: &RestoreRefusal) -> (Code, Exit) {
    match refusal {
        RestoreRefusal::Authority(refusal) => of_authority(refusal),
        RestoreRefusal::GitRules { .. }
        | RestoreRefusal::NotListed { .. }
        | RestoreRefusal::NotPermanent { .. }
        | RestoreRefusal::NoDocument { .. } => (Code::NotPermanent, Exit::Refused),
        RestoreRefusal::ListUnreadable => (Code::NotPermanent, Exit::Authority),
        RestoreRefusal::OtherCluster { .. } => (Code::OtherCluster, Exit::Refused),
        RestoreRefusal::Present { .. } => (Code::Present, Exit::Refused),
        RestoreRefusal::Stale { .. } => (Code::Stale, Exit::Refused),
    }
}

fn of_handover(stop: &HandoverStop) -> (Code, Exit) {
    let exit = match stop.kind() {
        StopKind::Refused => Exit::Refused,
        StopKind::Unknown => Exit::Authority,
        StopKind::Person => Exit::Person,
        StopKind::BeforeRecord => Exit::Stopped,
        StopKind::Underway => Exit::Underway,
    };
    let code = match stop {
        HandoverStop::Decided(stop) => match stop {
            Stop::Authority(refusal) => return of_authority(refusal),
            Stop::RecordUnreadable { .. } => Code::Vault,
            Stop::RecordDeleted { .. }
            | Stop::RecordRewritten { .. }
            | Stop::Disagree { .. }
            | Stop::PlanDiffers { .. }
            | Stop::CopiesLost { .. } => Code::Record,
            Stop::Lost { .. } => Code::Lost,
            Stop::Replaced { .. } => Code::Replaced,
            Stop::OtherVault { .. }
            | Stop::OtherPrefix { .. }
            | Stop::OtherCluster { .. }
            | Stop::OtherRoot { .. }
            | Stop::OtherHandover { .. }
            | Stop::NothingToAdopt { .. }
            | Stop::NoCluster { .. } => Code::OtherPlace,
            Stop::OtherTree { .. } | Stop::NotMirrored { .. } => Code::Unmirrored,
            Stop::NotPlanned => Code::Plan,
        },
        HandoverStop::Moved { .. } => Code::OtherPlace,
        HandoverStop::Plan(PlanRefusal::Conflicts { .. }) => Code::Conflict,
        HandoverStop::Plan(_) | HandoverStop::NoPlace | HandoverStop::OtherPlace { .. } => Code::Plan,
        HandoverStop::Vault { .. } => Code::Vault,
        HandoverStop::Preflight(_) | HandoverStop::NotReadBack(_) => Code::Preflight,
        HandoverStop::NotApproved { .. } | HandoverStop::Declined => Code::Approval,
        HandoverStop::Undone(_) => Code::Moved,
        HandoverStop::Slipped { .. } => Code::Changed,
        HandoverStop::Interrupted => Code::Interrupted,
        HandoverStop::KeysInUse(_) => Code::Retire,
        HandoverStop::MaybeRecorded(_) | HandoverStop::NotMirrored { .. } | HandoverStop::NotSettled(_) => {
            Code::Unmirrored
        }
    };
    (code, exit)
}

fn of_job(stop: &JobStop, has_moved: bool) -> (Code, Exit) {
    match stop {
        JobStop::NotReady(_) | JobStop::NotAllowed(_) => (Code::Job, Exit::Refused),
        JobStop::Contradicted(_) => (Code::Record, Exit::Person),
        // A Job may have written the record, or still write it.
        JobStop::Busy(_)
        | JobStop::Stuck { .. }
        | JobStop::NoCode { .. }
        | JobStop::NoPlan(_)
        | JobStop::Lost { .. }
        | JobStop::Interrupted(_) => (Code::Job, if has_moved { Exit::Underway } else { Exit::Authority }),
    }
}

fn of_retire(refusal: &RetireRefusal) -> (Code, Exit) {
    match refusal {
        RetireRefusal::GitRules => (Code::Retire, Exit::Refused),
        RetireRefusal::NotSettled { .. } => (Code::Unmirrored, Exit::Underway),
        RetireRefusal::Nothing => (Code::P5, Exit::Authority),
        RetireRefusal::Unknown(_) => (Code::P1, Exit::Authority),
        RetireRefusal::Disagree(_) => (Code::P1, Exit::Person),
    }
}

fn of_import(stop: &ImportStop) -> (Code, Exit) {
    match stop {
        ImportStop::Refused(refusal) => match refusal {
            ImportRefusal::Authority(refusal) => of_authority(refusal),
            ImportRefusal::GitRules { .. }
            | ImportRefusal::Full
            | ImportRefusal::LongPath { .. }
            | ImportRefusal::NoDocument { .. } => (Code::Import, Exit::Refused),
            ImportRefusal::ListUnreadable => (Code::Import, Exit::Authority),
            ImportRefusal::Lost { .. } => (Code::Lost, Exit::Person),
            ImportRefusal::Disagree { .. } => (Code::Record, Exit::Person),
        },
        ImportStop::Handover(stop) => of_vault(stop),
        ImportStop::Unfinished(_) => (Code::Unmirrored, Exit::Underway),
    }
}

/// A handover's stop where Vault rules already: there is no "as before" of Git.
fn of_vault(stop: &HandoverStop) -> (Code, Exit) {
    let (code, exit) = of_handover(stop);
    match exit {
        Exit::Stopped => (code, Exit::Refused),
        Exit::Done
        | Exit::Refused
        | Exit::Usage
        | Exit::Document
        | Exit::Authority
        | Exit::Person
        | Exit::Underway
        | Exit::Bug => (code, exit),
    }
}

fn of_document(problem: &DocumentProblem) -> (Code, Exit) {
    match problem {
        DocumentProblem::Sops(error) => of_ciphertext(error),
        DocumentProblem::Secret(_) => (Code::Secret, Exit::Refused),
        DocumentProblem::Gate(_) => (Code::Gate, Exit::Refused),
        DocumentProblem::NotAnObject { .. } => (Code::Object, Exit::Refused),
        DocumentProblem::MacOnlyEncrypted => (Code::MacScope, Exit::Refused),
        DocumentProblem::ClearSecret(_) => (Code::ClearSecret, Exit::Refused),
        DocumentProblem::EncryptedKind { .. } => (Code::EncryptedKind, Exit::Refused),
        DocumentProblem::NoNamespace { .. } | DocumentProblem::KustomizationNamespace { .. } => {
            (Code::Namespace, Exit::Refused)
        }
        DocumentProblem::NamespaceNotAllowed { .. } => (Code::Allow, Exit::Refused),
        DocumentProblem::OutsideRoot
        | DocumentProblem::AppliedTwice { .. }
        | DocumentProblem::NotApplied
        | DocumentProblem::SeveralPlaces
        | DocumentProblem::NotHandedOver { .. }
        | DocumentProblem::Generator(_) => (Code::Files, Exit::Refused),
        DocumentProblem::Input { problem, .. } => of_document(problem),
        DocumentProblem::TwoObjects { .. } | DocumentProblem::NameTaken => (Code::Twice, Exit::Refused),
        DocumentProblem::NotListed | DocumentProblem::IdentityEncrypted => (Code::NotListed, Exit::Refused),
        DocumentProblem::DuplicateKey { .. } | DocumentProblem::BadMerge { .. } => (Code::Syntax, Exit::Document),
    }
}

fn of_ciphertext(error: &regent_sops::Error) -> (Code, Exit) {
    use regent_sops::Error;
    match error {
        Error::Stopped => (Code::Late, Exit::Authority),
        Error::TooLarge { .. } | Error::Limit { .. } => (Code::Limit, Exit::Document),
        Error::Syntax { .. } | Error::DuplicateKey { .. } => (Code::Syntax, Exit::Document),
        Error::MetadataAbsent | Error::Metadata { .. } => (Code::Metadata, Exit::Document),
        Error::NoKey(_) | Error::TooFewParts { .. } => (Code::NoKey, Exit::Document),
        Error::Parts { .. } | Error::Envelope { .. } => (Code::Envelope, Exit::Document),
        Error::Value { .. } => (Code::Value, Exit::Document),
        Error::Mac(_) => (Code::Mac, Exit::Document),
        Error::Identity { .. } => (Code::Identity, Exit::Usage),
        Error::Emit { .. } => (Code::Emit, Exit::Document),
    }
}

/// What leaves through Flux' endpoint. kustomize-controller asks again only where the status is 503.
impl Unanswered {
    /// The stable name.
    pub(crate) fn code(&self) -> Code {
        self.verdict().0
    }

    /// The status.
    pub(crate) fn http(&self) -> http::StatusCode {
        self.verdict().1
    }

    /// Code and sentence in one line of less than 200 characters.
    pub(crate) fn line(&self) -> String {
        const LONGEST: usize = 199;
        let head = format!("regent[{}]: ", self.code().entry().name);
        let sentence = shortened(&one_line(&self.to_string()), LONGEST - head.chars().count());
        head + &sentence
    }

    /// The one match: code and status of everything that gets nothing.
    fn verdict(&self) -> (Code, http::StatusCode) {
        use http::StatusCode as Http;
        match self {
            Self::Withheld(withheld) => of_withheld(withheld),
            Self::VaultNamespace | Self::Wrapped(_) => (Code::Release, Http::FORBIDDEN),
            Self::NoKeys(_) => (Code::Identity, Http::FORBIDDEN),
            Self::NoConfig => (Code::Config, Http::FORBIDDEN),
            Self::Stranger
            | Self::Login(
                LoginProblem::NotAuthentic { .. }
                | LoginProblem::OtherRole
                | LoginProblem::Controller
                | LoginProblem::NotConfigured { .. }
                | LoginProblem::NoCluster,
            ) => (Code::Token, Http::FORBIDDEN),
            Self::Login(LoginProblem::NotAllowed) => (Code::Forbidden, Http::FORBIDDEN),
            Self::NoReview => (Code::Cluster, Http::SERVICE_UNAVAILABLE),
            Self::Late => (Code::Late, Http::SERVICE_UNAVAILABLE),
            Self::NoDataKey | Self::Body(_) | Self::CutOff => (Code::Request, Http::BAD_REQUEST),
            Self::TooLarge(_) => (Code::Request, Http::PAYLOAD_TOO_LARGE),
            Self::NoRoute => (Code::Request, Http::NOT_FOUND),
            Self::Method => (Code::Request, Http::METHOD_NOT_ALLOWED),
        }
    }
}

fn of_withheld(withheld: &Withheld) -> (Code, http::StatusCode) {
    let code = match withheld {
        Withheld::Unreadable { .. } => Code::P1,
        Withheld::VaultRules { .. }
        | Withheld::NobodyRules { .. }
        | Withheld::OtherEpoch { .. }
        | Withheld::NotOurs
        | Withheld::OtherAuthority { .. }
        | Withheld::OtherNamespace { .. }
        | Withheld::OtherKey { .. }
        | Withheld::NoName
        | Withheld::NotConfigured { .. } => Code::Release,
    };
    let status =
        if withheld.is_passing() { http::StatusCode::SERVICE_UNAVAILABLE } else { http::StatusCode::FORBIDDEN };
    (code, status)
}

impl Code {
    const COUNT: usize = Self::Bug as usize + 1;
    /// Every code, in the order of the catalogue.
    pub(crate) const ALL: [Self; Self::COUNT] = [
        Self::P0,
        Self::P1,
        Self::P2,
        Self::P3,
        Self::P4,
        Self::P5,
        Self::P6,
        Self::Allow,
        Self::Exists,
        Self::Closed,
        Self::Unasked,
        Self::Late,
        Self::Request,
        Self::Upload,
        Self::NotUploaded,
        Self::Release,
        Self::Token,
        Self::Store,
        Self::Cluster,
        Self::Forbidden,
        Self::Denied,
        Self::NotReady,
        Self::Vault,
        Self::VaultEnvironment,
        Self::Git,
        Self::Signature,
        Self::NextEpoch,
        Self::OtherCluster,
        Self::Mirror,
        Self::Abandon,
        Self::Delivered,
        Self::LiveDiffers,
        Self::Moved,
        Self::NotPermanent,
        Self::Present,
        Self::Stale,
        Self::Plan,
        Self::Conflict,
        Self::Preflight,
        Self::Approval,
        Self::Changed,
        Self::Interrupted,
        Self::Lost,
        Self::Replaced,
        Self::Record,
        Self::OtherPlace,
        Self::Unmirrored,
        Self::Job,
        Self::Import,
        Self::Retire,
        Self::Config,
        Self::Files,
        Self::Object,
        Self::ClearSecret,
        Self::EncryptedKind,
        Self::Namespace,
        Self::Twice,
        Self::NotListed,
        Self::Secret,
        Self::Gate,
        Self::MacScope,
        Self::NoKey,
        Self::Mac,
        Self::Value,
        Self::Metadata,
        Self::Syntax,
        Self::Limit,
        Self::Envelope,
        Self::Emit,
        Self::Identity,
        Self::Plugin,
        Self::Io,
        Self::Usage,
        Self::Bug,
    ];

    /// The code of this name, in any case.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.entry().name.eq_ignore_ascii_case(name))
    }

    /// The catalogue.
    #[expect(clippy::too_many_lines, reason = "a table: one entry a code")]
    pub(crate) fn entry(self) -> Entry {
        match self {
            Self::P0 => Entry {
                name: "P0",
                exits: &[Exit::Refused],
                meaning: "the folder is not the root that this authority covers",
                why: "An authority covers exactly one root. If two regent.yaml files could speak for one document, or one \
                      folder could name another's authority, a copy of a folder would bring back values that Vault owns.",
                way_out: "keep one regent.yaml per root, with the name that the operator's file and the authority have",
            },
            Self::P1 => Entry {
                name: "P1",
                exits: &[Exit::Authority, Exit::Person],
                meaning: "the witnesses of the authority cannot be read, or contradict each other",
                why: "Unknown is an error, never a default: a wrong guess would overwrite rotated values, and an empty \
                      answer would let a controller prune live Secrets.",
                way_out: "unreadable: try again when the store answers; contradiction: `regent status DIR` shows both sides",
            },
            Self::P2 => Entry {
                name: "P2",
                exits: &[],
                meaning: "Vault rules this epoch, so no value is rendered, ever",
                why: "After the handover Vault's values change by rotation. A value from Git would overwrite them, whether \
                      Vault is up, down or lost, and whether Git was rolled back.",
                way_out: "change the value in Vault; stubs in place of Secrets are the right answer",
            },
            Self::P3 => Entry {
                name: "P3",
                exits: &[Exit::Refused],
                meaning: "regent.yaml starts the next epoch, and the authority has not followed yet",
                why: "Taking authority back from Vault happens on purpose, after looking at what Vault still holds; a \
                      commit alone is not enough.",
                way_out: "`regent rebootstrap` after Vault is certainly lost; else take the commit back",
            },
            Self::P4 => Entry {
                name: "P4",
                exits: &[],
                meaning: "Git rules this epoch: values are rendered, guarded against pruning",
                why: "The authority, the epoch and regent.yaml agree, and no handover has been recorded.",
                way_out: "nothing to do; `regent handover` when Vault is ready",
            },
            Self::P5 => Entry {
                name: "P5",
                exits: &[Exit::Authority],
                meaning: "no authority exists for this root",
                why: "Nothing is decided by default. A store without witnesses may be a new cluster, or one that was lost \
                      and restored; only a person knows.",
                way_out: "`regent init DIR` creates it (`--context` or `--store`); `--assume git` shows values on your own machine",
            },
            Self::P6 => Entry {
                name: "P6",
                exits: &[Exit::Refused],
                meaning: "regent.yaml and the authority name different epochs or handovers",
                why: "Either Git or the cluster was restored from an older state. Rendering would follow whichever side is \
                      wrong.",
                way_out: "bring the older side up to date: `regent status DIR` shows both",
            },
            Self::Allow => Entry {
                name: "allow",
                exits: &[Exit::Refused],
                meaning: "no rule of the operator's file allows it",
                why: "SOPS does not bind a document to its place, so whoever can write a repository could move another's \
                      Secret into a namespace of his own. Rules say which root may fill which namespaces, with which keys.",
                way_out: "widen a rule in the operator's file, or move what asks for too much",
            },
            Self::Exists => Entry {
                name: "exists",
                exits: &[Exit::Refused],
                meaning: "`regent init` found a witness of this authority",
                why: "Git rules once per epoch. Starting over beside an existing witness would give one secret two owners.",
                way_out: "`regent status DIR` shows who rules; with Vault's record alone, `--from-vault` begins there",
            },
            Self::Closed => Entry {
                name: "closed",
                exits: &[Exit::Refused],
                meaning: "regent.yaml says that this epoch was handed over to Vault",
                why: "`closed` is Git's own memory of the handover, for the day the cluster is gone. That Git rules again is \
                      a decision that belongs in a reviewed commit.",
                way_out: "if cluster and Vault are lost, remove `closed` in a reviewed commit, then `regent init` again",
            },
            Self::Unasked => Entry {
                name: "unasked",
                exits: &[Exit::Authority],
                meaning: "values were asked for, and no authority was",
                why: "A value that leaves regent may be applied. That needs an authority that says git, or a person who \
                      says so.",
                way_out: "give `--config FILE` or `--store DIR`, or `--assume git` on your own machine",
            },
            Self::Late => Entry {
                name: "late",
                exits: &[Exit::Authority],
                meaning: "the answer was not ready in time",
                why: "Values are answered only for as long as the evidence for them is fresh, and before whoever asked \
                      stops listening: an answer that nobody reads ends up as a failure without a reason.",
                way_out: "try again; where it lasts, raise `limits.request`, or ask for less at once",
            },
            Self::Request => Entry {
                name: "request",
                exits: &[Exit::Usage],
                meaning: "a request through the plugin's socket breaks its contract",
                why: "What was asked for is not certain, so it is not guessed.",
                way_out: "compare the versions of Argo CD and regent; `regent render --via SOCKET` shows a good request",
            },
            Self::Upload => Entry {
                name: "upload",
                exits: &[Exit::Refused],
                meaning: "the repository that came with a request is damaged, hostile or too large",
                why: "A part of a repository is never rendered, and a hostile one must not fill the machine.",
                way_out: "leave out what is not needed (`--plugin-tar-exclude`), or raise the bound under `limits`",
            },
            Self::NotUploaded => Entry {
                name: "not-uploaded",
                exits: &[Exit::Refused],
                meaning: "the root's regent.yaml is not in what Argo CD sent",
                why: "With `--plugin-use-manifest-generate-paths` Argo CD sends only the folders that the Application's \
                      annotation names. Without regent.yaml nothing tells which authority rules.",
                way_out: "add regent.yaml's folder to the annotation `argocd.argoproj.io/manifest-generate-paths`",
            },
            Self::Release => Entry {
                name: "release",
                exits: &[Exit::Refused],
                meaning: "kustomize-controller asked for a data key that it does not get",
                why: "A data key is given back only while Git rules, and only for the Kustomization that its document was made \
                      for. kustomize-controller then applies nothing and prunes nothing.",
                way_out: "do what the sentence says; after a handover the next artifact holds stubs, which need no key",
            },
            Self::Token => Entry {
                name: "token",
                exits: &[Exit::Refused],
                meaning: "who asks for a data key has no token for it, or no such key exists",
                why: "Whoever cannot prove a namespace learns nothing of what is there. A token is a namespace's, and a new \
                      epoch has new ones.",
                way_out: "name the Secret that regent fills in `decryption.secretRef`, or an account of the same namespace",
            },
            Self::Store => Entry {
                name: "store",
                exits: &[Exit::Authority],
                meaning: "the authority store on this machine cannot be trusted as it is",
                why: "A folder that others can write, that is no store, or that is not mounted must not be mistaken for one \
                      without an authority.",
                way_out: "check the path, whether it is mounted, and its mode (0700); `regent init DIR` makes a new store",
            },
            Self::Cluster => Entry {
                name: "cluster",
                exits: &[Exit::Authority],
                meaning: "the API server cannot be asked, or does not do what was asked",
                why: "The witnesses are what the API server says now. No answer, and any answer but a clear one, is \
                      unknown, and unknown is an error.",
                way_out: "check context, token, CA and network (`kubectl get authorities`), then try again",
            },
            Self::Forbidden => Entry {
                name: "forbidden",
                exits: &[Exit::Refused],
                meaning: "the API server does not let this identity do it",
                why: "Each identity has the few rights that its task needs: `regent init` those of the ClusterRole \
                      `regent-init`, repairs those of `regent-break-glass`.",
                way_out: "use an identity with ClusterRole `regent-init`, or for repairs `--as USER --as-group regent:break-glass`",
            },
            Self::Denied => Entry {
                name: "denied",
                exits: &[Exit::Refused],
                meaning: "an admission policy refuses it, for cluster administrators too",
                why: "What keeps the authority one-way is enforced by the API server itself, so that no mistake of a \
                      person or a program undoes it.",
                way_out: "if it must be: `--as $USER --as-group regent:break-glass`, by whoever may impersonate that group",
            },
            Self::NotReady => Entry {
                name: "not-ready",
                exits: &[Exit::Refused],
                meaning: "something that protects the authority is missing in the cluster, or something stands in its way",
                why: "An authority is only as safe as what keeps it one-way: the schema, the policies, the lock. None is \
                      created where they do not bind.",
                way_out: "`regent status` shows what is in force; `manifests/cluster` holds what belongs there",
            },
            Self::Vault => Entry {
                name: "vault",
                exits: &[Exit::Refused, Exit::Authority, Exit::Stopped],
                meaning: "Vault does not do what it was asked, or does not say whether it holds a handover record",
                why: "A record means that Vault rules already, and a second start of Git's rule would overwrite what was \
                      rotated since. No answer is not a no.",
                way_out: "make it answer (`--vault-token-file`); if there is no Vault yet, `--no-vault-yet` says so",
            },
            Self::VaultEnvironment => Entry {
                name: "environment",
                exits: &[Exit::Usage],
                meaning: "a variable of the environment means another Vault, or asks for less than a verified connection",
                why: "The place in Vault is in regent.yaml and in the Authority. Who has another one in mind should not find \
                      out afterwards which of them was asked.",
                way_out: "unset the variable, or set it to what the authority says (`regent status DIR`)",
            },
            Self::Git => Entry {
                name: "git",
                exits: &[Exit::Usage],
                meaning: "a repository elsewhere does not give the revision",
                why: "A repository is fetched by `https` or `ssh`, with credentials from files, from exactly the server that \
                      was named: credentials do not follow a redirect elsewhere, and no `ssh` server is trusted at first \
                      sight. What was fetched lies in a private folder until the command ends.",
                way_out: "check address, revision and credentials: `git ls-remote` with the same ones tells more",
            },
            Self::Signature => Entry {
                name: "signature",
                exits: &[Exit::Refused],
                meaning: "nobody who is asked vouches for the commit that a handover or an artifact would begin from",
                why: "A branch is whatever the server says at that moment. A full id binds every byte; a signature by \
                      somebody whom `handover.signers` lists says who wants that commit handed over. Flux' artifacts are \
                      built from signed commits alone where the operator's file lists `signers`, or asks that \
                      source-controller `verified` them.",
                way_out: "name the commit by its full id, or sign it with a key of `handover.signers`",
            },
            Self::NextEpoch => Entry {
                name: "next-epoch",
                exits: &[Exit::Refused],
                meaning: "`regent rebootstrap` found nothing to do: regent.yaml asks for no epoch after the one that rules",
                why: "That Git rules again is a decision that belongs in a reviewed commit. The command only carries it out.",
                way_out: "where Vault is lost, commit `epoch` raised by one and `supersedes: HANDOVER`",
            },
            Self::OtherCluster => Entry {
                name: "other-cluster",
                exits: &[Exit::Refused],
                meaning: "the authority is about another cluster than the one that was asked",
                why: "Witnesses that were copied or restored into another cluster are no evidence there, and live Secrets \
                      would be compared with the wrong ones.",
                way_out: "check `--context` (the witnesses) and `--target-context` (the Secrets)",
            },
            Self::Mirror => Entry {
                name: "mirror",
                exits: &[Exit::Person],
                meaning: "a handover stopped between its witnesses, and they do not say enough to complete them",
                why: "The next epoch follows vault of this one, so the Authority has to say vault first, in the handover's own \
                      words.",
                way_out: "`regent verify` mirrors Vault's record again; else break-glass corrects the Authority by hand",
            },
            Self::Abandon => Entry {
                name: "abandon",
                exits: &[Exit::Refused, Exit::Authority],
                meaning: "Vault holds, or may hold, what `regent rebootstrap` would give up",
                why: "Values that were rotated in Vault are nowhere else. A Vault that only does not answer is not lost.",
                way_out: "make Vault answer; if it is to be given up, `--abandon-vault HANDOVER` says so",
            },
            Self::Delivered => Entry {
                name: "delivered",
                exits: &[Exit::Refused],
                meaning: "an ExternalSecret or VaultStaticSecret still writes a Secret that Git is about to write",
                why: "Two writers of one Secret overwrite each other for ever, and a new Vault with old values would win.",
                way_out: "remove it and what applies it, without its Secret (`--cascade=orphan`), then go on",
            },
            Self::LiveDiffers => Entry {
                name: "live-differs",
                exits: &[Exit::Refused],
                meaning: "a live Secret holds values that Git does not have, and they would be overwritten",
                why: "With Vault lost the live Secret may be the last place of a rotated value.",
                way_out: "put it into Git; or `--save-live FILE` and `--overwrite-live NAMESPACE/NAME` for each",
            },
            Self::Moved => Entry {
                name: "moved",
                exits: &[Exit::Refused, Exit::Authority, Exit::Stopped],
                meaning: "what a decision stood on changed before it was carried out",
                why: "Somebody else was at work in the cluster or in Vault. What a person agreed to was something else.",
                way_out: "run it again and read what it shows",
            },
            Self::NotPermanent => Entry {
                name: "not-permanent",
                exits: &[Exit::Refused, Exit::Authority],
                meaning: "`regent restore` brings back permanent Secrets that were handed over, and nothing else",
                why: "Once Vault rules no value is rendered any more. The one exception are Secrets that every bootstrap needs \
                      before Vault, and only where the handover's list and regent.yaml both call them permanent.",
                way_out: "have it delivered from Vault; `regent status DIR` shows the class of each document",
            },
            Self::Present => Entry {
                name: "present",
                exits: &[Exit::Refused],
                meaning: "the Secret that `regent restore` would create exists",
                why: "What is live may have been rotated, and is never overwritten from Git while Vault rules.",
                way_out: "leave it; or delete it by hand, then restore",
            },
            Self::Stale => Entry {
                name: "stale",
                exits: &[Exit::Refused],
                meaning: "Vault's copy of a permanent Secret is another one than Git's, or nobody knows",
                why: "It was rotated in one of the two places. The older value would lock out whoever has the newer one.",
                way_out: "make Git and Vault agree; or `--stale-ok` takes Git's",
            },
            Self::Plan => Entry {
                name: "plan",
                exits: &[Exit::Refused, Exit::Stopped],
                meaning: "the root cannot be handed over as it is",
                why: "Whatever Vault would not take, or would give back changed, is found before the first write: text that is \
                      none, more keys or bytes than a key of Vault holds, a place that Authority and regent.yaml do not agree on.",
                way_out: "correct it in Git, and hand the new commit over",
            },
            Self::Conflict => Entry {
                name: "conflict",
                exits: &[Exit::Refused, Exit::Stopped],
                meaning: "Vault holds another value, or a deleted one, where a copy should go",
                why: "A handover overwrites nothing. Which of two values is right only a person knows; what was deleted was \
                      deleted on purpose.",
                way_out: "list it in `handover.acceptExisting` where Vault is right; else a Vault administrator removes it",
            },
            Self::Preflight => Entry {
                name: "preflight",
                exits: &[Exit::Refused, Exit::Stopped],
                meaning: "something would fail in the middle of the handover, or a token may do more than hand over",
                why: "All rights, the lock and every limit are tried before the first write. A token that can change what exists \
                      could undo the handover.",
                way_out: "`regent handover --plan` names all of it again",
            },
            Self::Approval => Entry {
                name: "approval",
                exits: &[Exit::Refused, Exit::Stopped],
                meaning: "the plan was not approved, or it is not the one that was",
                why: "A handover cannot be taken back. The digest of a plan covers commit, documents, places in Vault, and whose \
                      value stands.",
                way_out: "look at the plan (`--plan`), and approve that one (`--approve DIGEST`)",
            },
            Self::Changed => Entry {
                name: "changed",
                exits: &[Exit::Stopped, Exit::Underway],
                meaning: "Argo CD uses a commit whose encrypted files are not those that are handed over",
                why: "A Secret would keep a value that Vault never got. What a person accepts stands in regent.yaml, where others \
                      review it.",
                way_out: "sync the commit that is handed over, or list the Secrets in `handover.acceptChanged`",
            },
            Self::Interrupted => Entry {
                name: "interrupted",
                exits: &[Exit::Refused, Exit::Stopped],
                meaning: "somebody stopped the handover before the record",
                why: "Copies that were made are inert until there is a record, and the next run finds them equal.",
                way_out: "run `regent handover` again: it goes on from here",
            },
            Self::Lost => Entry {
                name: "lost",
                exits: &[Exit::Person],
                meaning: "the witnesses say vault, and this Vault has no record of it",
                why: "It is an older backup, an empty Vault or another one. Copying again would bring back values that were rotated \
                      since.",
                way_out: "restore a newer snapshot; or raise the epoch in Git, then `regent rebootstrap`",
            },
            Self::Replaced => Entry {
                name: "replaced",
                exits: &[Exit::Person],
                meaning: "Vault's record is another handover's than the witnesses'",
                why: "One epoch is handed over once. Somebody put another Vault, or another record, in its place.",
                way_out: "compare Vault's record with `regent status`: a person decides",
            },
            Self::Record => Entry {
                name: "record",
                exits: &[Exit::Person],
                meaning: "the handover record, or what it lists, is not as a handover leaves it",
                why: "The record is written once, and nothing may change it. Where it or a recorded copy was deleted, written \
                      again or contradicts the witnesses, nobody can tell what else was.",
                way_out: "a Vault administrator looks at the key's metadata and audit log",
            },
            Self::OtherPlace => Entry {
                name: "other-place",
                exits: &[Exit::Person, Exit::Stopped],
                meaning: "the record was made for another Vault, cluster or root",
                why: "A clone, a rebuilt cluster and a second cluster look alike. Which it is a person says, once, and it is \
                      appended to the record.",
                way_out: "`--adopt ID` for a rebuilt cluster, `--accept-vault-identity` for the same Vault elsewhere",
            },
            Self::Unmirrored => Entry {
                name: "unmirrored",
                exits: &[Exit::Underway],
                meaning: "Vault rules already; the witnesses or the controllers do not all show it yet",
                why: "The record is what moves authority. What follows repeats until it is done, from any machine.",
                way_out: "run `regent handover` again: it goes on from here",
            },
            Self::Job => Entry {
                name: "job",
                exits: &[Exit::Refused, Exit::Authority, Exit::Underway],
                meaning: "a Job of `regent handover --in-cluster` cannot be made, or followed to its end",
                why: "Each identity has a Job of its own, which goes on without whoever follows it. What it lacks is named \
                      before there is one; how one ended is told by its exit code, and without it is not known.",
                way_out: "run the same command again: it follows what runs, and makes what ended anew",
            },
            Self::Import => Entry {
                name: "import",
                exits: &[Exit::Refused, Exit::Authority],
                meaning: "`regent import` brings encrypted documents into Vault that came after the handover, and nothing else",
                why: "What is in the list is Vault's already, and what Git rules is handed over with everything else. The list \
                      in the authority's status takes 256 documents.",
                way_out: "name the document and a commit that has it; `regent status` shows who rules",
            },
            Self::Retire => Entry {
                name: "retire",
                exits: &[Exit::Refused, Exit::Authority],
                meaning: "what regent is made of goes only after a settled handover, and only what nobody else needs",
                why: "Before Settled an old value can still come back, and the doors, the keys and the lock are what keeps that from \
                      happening. A key that another authority's rule names still opens its documents.",
                way_out: "`regent status` shows who rules; `regent handover` goes on until it is settled",
            },
            Self::Config => Entry {
                name: "config",
                exits: &[Exit::Usage],
                meaning: "regent.yaml or the operator's file does not follow its schema",
                why: "An unknown key may be a safety rule with a typing error in it, so it is not skipped.",
                way_out: "correct the file at the line given",
            },
            Self::Files => Entry {
                name: "files",
                exits: &[Exit::Refused],
                meaning: "the folder holds something that regent does not render",
                why: "Skipping it would give fewer objects than the folder asks for, and a controller prunes what is \
                      missing.",
                way_out: "move it out of the root, or list it under `secrets.exclude` in regent.yaml",
            },
            Self::Object => Entry {
                name: "object",
                exits: &[Exit::Refused],
                meaning: "a document is no Kubernetes object",
                why: "A manifest needs apiVersion, kind and metadata.name; without them nobody can say what it is.",
                way_out: "complete the document, or list its file under `secrets.exclude` in regent.yaml",
            },
            Self::ClearSecret => Entry {
                name: "clear-secret",
                exits: &[Exit::Refused],
                meaning: "a Secret stands in Git unencrypted",
                why: "It is readable by everyone who reads the repository; and after the handover a decrypted commit would \
                      overwrite Vault's value.",
                way_out: "`sops encrypt --in-place FILE`; or, where it is public, list it under `secrets.plain`",
            },
            Self::EncryptedKind => Entry {
                name: "encrypted-kind",
                exits: &[Exit::Refused],
                meaning: "an encrypted document is no Secret",
                why: "Only Secrets can be handed over to Vault. Another kind stays in Git for ever, which somebody should \
                      have decided.",
                way_out: "put the value into a Secret, or list the kind under `secrets.kinds`",
            },
            Self::Namespace => Entry {
                name: "namespace",
                exits: &[Exit::Refused],
                meaning: "a Secret or encrypted document has no namespace, or one that is not its own",
                why: "Place in Vault and permission both depend on the namespace, so none is guessed.",
                way_out: "add `metadata.namespace`, or `secrets.namespace` in regent.yaml",
            },
            Self::Twice => Entry {
                name: "twice",
                exits: &[Exit::Refused],
                meaning: "one object stands in two files",
                why: "Which of the two wins would depend on the order in which they are applied.",
                way_out: "remove one of them",
            },
            Self::NotListed => Entry {
                name: "not-listed",
                exits: &[Exit::Refused],
                meaning: "Vault rules, and the handover does not know this encrypted document",
                why: "A Secret committed after the handover is in Git alone. Rendering it would give it the wrong owner; \
                      leaving it out would hide it.",
                way_out: "`regent import` puts its value into Vault and lists it; or take the document out of the root",
            },
            Self::Secret => Entry {
                name: "secret",
                exits: &[Exit::Refused],
                meaning: "a Secret is not valid",
                why: "API server and controllers print parts of a Secret that they refuse, so an invalid one never leaves \
                      regent.",
                way_out: "correct the named key with `sops edit FILE`; numbers and booleans need quotes",
            },
            Self::Gate => Entry {
                name: "gate",
                exits: &[Exit::Refused],
                meaning: "something that is still ciphertext was about to leave",
                why: "A cluster would take ciphertext for the value, and a program would use it as its password.",
                way_out: "decrypt the document fully, or encrypt it once instead of twice",
            },
            Self::MacScope => Entry {
                name: "mac-scope",
                exits: &[Exit::Refused],
                meaning: "the file's MAC covers encrypted values alone",
                why: "Clear parts, such as the namespace, could be changed without the key.",
                way_out: "encrypt without `mac_only_encrypted`, or `secrets.macOnlyEncrypted: allow` in regent.yaml",
            },
            Self::NoKey => Entry {
                name: "no-key",
                exits: &[Exit::Document],
                meaning: "no identity at hand opens the file",
                why: "The file is encrypted to other recipients, or to too few of the needed key groups.",
                way_out: "give the identity with `-i FILE`; `regent status DIR` shows which identities open what",
            },
            Self::Mac => Entry {
                name: "mac",
                exits: &[Exit::Document],
                meaning: "the file's MAC does not vouch for its contents",
                why: "Somebody changed, added or removed something without the key, perhaps by editing or merging the \
                      encrypted file. Nothing of it can be trusted.",
                way_out: "go back to the last commit that opened, then change it with `sops edit`",
            },
            Self::Value => Entry {
                name: "value",
                exits: &[Exit::Document],
                meaning: "a value does not decrypt",
                why: "A ciphertext is bound to its key's path and to its file; copied, moved or edited it no longer opens.",
                way_out: "go back to the last commit that opened, then change it with `sops edit`",
            },
            Self::Metadata => Entry {
                name: "metadata",
                exits: &[Exit::Document],
                meaning: "the `sops` block is missing or damaged",
                why: "Without it nothing tells which values are encrypted, and with which key.",
                way_out: "check that the file is encrypted and that `--input-type` fits; else restore it from Git",
            },
            Self::Syntax => Entry {
                name: "syntax",
                exits: &[Exit::Document],
                meaning: "the file is not of its format, or readers disagree about it",
                why: "Where two readers keep different values, a review would see one and the cluster get the other.",
                way_out: "correct the file at the line given; `--input-type` where its name misleads",
            },
            Self::Limit => Entry {
                name: "limit",
                exits: &[Exit::Document],
                meaning: "the file is larger or deeper than regent reads",
                why: "A hostile file must not stall or fill a machine. A part of a file is never rendered.",
                way_out: "split the file; real manifests stay far below every bound",
            },
            Self::Envelope => Entry {
                name: "envelope",
                exits: &[Exit::Document],
                meaning: "the encryption around the file or its data key is damaged",
                why: "What does not authenticate is not opened, not even in part.",
                way_out: "restore the file from Git, or encrypt it again",
            },
            Self::Emit => Entry {
                name: "emit",
                exits: &[Exit::Document],
                meaning: "the opened file cannot be written in the format asked for",
                why: "dotenv and INI hold flat text, JSON holds no infinity, binary holds one value.",
                way_out: "choose another `--output-type`",
            },
            Self::Identity => Entry {
                name: "identity",
                exits: &[Exit::Usage],
                meaning: "a key file cannot be used",
                why: "A key file that was asked for and skipped would show up later as a document that does not open.",
                way_out: "correct or remove the key file; `--passphrase-file` where it is protected",
            },
            Self::Plugin => Entry {
                name: "plugin",
                exits: &[Exit::Refused],
                meaning: "the plugin that was asked through its socket does not render",
                why: "Argo CD would show the same sentence at the application, and leave what is live as it is.",
                way_out: "follow the plugin's own sentence; its log tells more",
            },
            Self::Io => Entry {
                name: "io",
                exits: &[Exit::Usage],
                meaning: "a file, folder or repository cannot be read or written",
                why: "The reason is the operating system's, or Git's.",
                way_out: "check the path, what lies there, and its permissions",
            },
            Self::Usage => Entry {
                name: "usage",
                exits: &[Exit::Usage],
                meaning: "the command line does not fit together",
                why: "regent does not guess what was meant.",
                way_out: "`regent COMMAND --help` shows examples",
            },
            Self::Bug => Entry {
                name: "bug",
                exits: &[Exit::Bug],
                meaning: "regent met a case that it does not know",
                why: "Its own checks stopped it before it decided anything. Nothing was quoted, because a message may hold \
                      what was being worked on.",
                way_out: "report the line, the version and what was typed",
            },
        }
    }
}

/// The system's words without Rust's `(os error 2)`, in lower case.
pub(crate) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// The text itself, or its head and its end around an ellipsis: a path's end tells more than its middle.
fn shortened(text: &str, room: usize) -> String {
    let length = text.chars().count();
    if length <= room {
        return text.to_owned();
    }
    let kept = room.saturating_sub(1);
    let head: String = text.chars().take(kept.div_ceil(2)).collect();
    let end: String = text.chars().skip(length - kept / 2).collect();
    format!("{head}\u{2026}{end}")
}

/// What lies at the bottom of an error, in one bounded line: what wraps it are only names.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    const LONGEST: usize = 400;
    let mut bottom = error;
    while let Some(source) = bottom.source() {
        bottom = source;
    }
    let text = bottom.to_string();
    one_line(text.split(" (os error").next().unwrap_or_default()).chars().take(LONGEST).collect()
}

/// Names come from files: a control character in one must neither break the line nor steer a terminal.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_lists_every_code_once_under_one_name() {
        for (position, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, position, "{}", code.entry().name);
            assert_eq!(Code::of_name(code.entry().name), Some(code), "{}", code.entry().name);
        }
    }

    #[test]
    fn every_entry_tells_meaning_reason_and_way_out_in_the_same_style() {
        for entry in Code::ALL.into_iter().map(Code::entry) {
            assert!(entry.meaning.len() > 10 && entry.why.ends_with('.'), "{}", entry.name);
            for line in [entry.meaning, entry.way_out] {
                assert!(!line.ends_with('.') && line.len() <= 120, "{}: {line}", entry.name);
            }
        }
    }

    #[test]
    fn a_failure_ends_with_an_exit_code_that_its_entry_names() {
        let open = |error| Failure::Open { file: "db.yaml".to_owned(), error };
        let failures = [
            Failure::Refused(Refusal::Unasked),
            open(regent_sops::Error::MetadataAbsent),
            open(regent_sops::Error::NoKey(Box::default())),
            open(regent_sops::Error::Mac(regent_sops::MacProblem::Mismatch)),
            Failure::Store { folder: "/s".to_owned(), problem: "is no store".to_owned() },
            Failure::Exists { name: "prod".to_owned(), witness: "git(1)".to_owned() },
            Failure::Plugin { message: "no".to_owned() },
            Failure::Usage("no".to_owned()),
            undone(),
            Failure::Import { stop: Box::new(ImportStop::Handover(HandoverStop::Undone(64))), way_out: String::new() },
            Failure::Bug,
        ];
        for failure in failures {
            let (code, exit) = failure.verdict();
            assert!(code.entry().exits.contains(&exit), "{failure}");
        }
    }

    fn undone() -> Failure {
        Failure::Handover { stop: Box::new(HandoverStop::Undone(16)), way_out: String::new() }
    }

    /// Whoever undoes each step is somebody else, and nothing of regent's is wrong.
    #[test]
    fn a_run_that_is_undone_again_and_again_is_no_bug() {
        let failure = undone();
        assert_eq!((failure.verdict().0.entry().name, failure.exit()), ("moved", Exit::Stopped));
        assert!(failure.to_string().contains("after 16 steps") && failure.to_string().contains("somebody else"));
    }

    #[test]
    fn a_name_from_a_hostile_file_stays_on_its_line_and_steers_no_terminal() {
        assert_eq!(one_line("a\n\u{1b}[2Jb"), "a\u{fffd}\u{fffd}[2Jb");
    }

    #[test]
    fn a_line_for_argo_cd_stays_below_200_characters_and_keeps_both_ends() {
        let long = regent_core::name::FilePath::parse(&format!("{}/x.txt", "deep/".repeat(60) + "folder")).unwrap();
        let problem = FileProblem::NotAManifest;
        let failures = [
            Failure::Refused(Refusal::Files(FilesError::File { file: long, problem })),
            Failure::Refused(Refusal::Stopped),
            Failure::Request("x".repeat(1000)),
            Failure::Store { folder: "/s".to_owned(), problem: "a\nb".to_owned() },
        ];
        for failure in failures {
            let line = failure.line(Some("kubectl -n argocd annotate app NAME argocd.argoproj.io/refresh=hard"), SHORT);
            assert!(line.chars().count() < 200 && !line.contains('\n'), "{line}");
            assert!(line.starts_with("regent[") && line.contains("]: ") && line.contains("; "), "{line}");
        }
        assert_eq!(shortened("abcdefgh", 5), "ab\u{2026}gh");
        assert_eq!(shortened("abc", 3), "abc");
    }

    #[test]
    fn system_errors_are_told_in_the_same_style() {
        assert_eq!(reason(&std::io::Error::from_raw_os_error(2)), "no such file or directory");
    }
}
