//! What Argo CD has cached of older revisions, disarmed.
//!
//! The repo-server keeps in Redis what the plugin answered, for each revision, 24 hours long. A rollback applies that
//! without asking the plugin, so it would bring old values back after the handover. A hard refresh replaces the entry of
//! the current revision alone. So after it either the entries that hold a value are unlinked ([`in_redis`]), or each
//! known revision is rendered again ([`through_server`]), which replaces its entry.
//!
//! Neither can stop a rendering that began before the authority moved and ends later: it writes an entry again. So
//! the caller first waits for as long as one may take.

mod entry;
#[cfg(test)]
mod real;
mod redis;
mod server;

use std::collections::BTreeSet;
use std::time::Duration;

use regent_core::name::{Namespace, SecretName};
use regent_core::settle::Revision;

pub(crate) use self::redis::{Redis, in_redis, reachable};
pub(crate) use self::server::{Server, through_server};

/// What must not come back.
#[derive(Clone, Copy)]
pub(crate) struct Stale<'a> {
    /// The Applications that have the plugin render the root, each with the revisions that are known.
    pub(crate) applications: &'a [Cached],
    /// The Secrets that Vault rules now.
    pub(crate) identities: &'a BTreeSet<SecretName>,
    /// Argo CD's own namespace: an Application elsewhere has another name in the cache.
    pub(crate) control_plane: &'a Namespace,
}

/// An Application, and what Argo CD may have cached of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cached {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// Where manifests without a namespace go.
    pub(crate) destination_namespace: Option<String>,
    /// Those of the root, as they can be rendered again.
    pub(crate) revisions: Vec<Revision>,
}

impl Cached {
    /// What the cache calls it.
    fn instance(&self, control_plane: &Namespace) -> String {
        let Self { namespace, name, .. } = self;
        if namespace == control_plane.as_str() { name.clone() } else { format!("{namespace}_{name}") }
    }
}

/// Why it is not known that no old value can come back. Nothing of a value or a password is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CachesError {
    /// There was no connection, or it broke.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// One answer did not come in time.
    #[error("it did not answer within {} s", .0.as_secs())]
    Late(Duration),
    /// Redis wants a password.
    #[error("it expects a password")]
    PasswordMissing,
    /// It wants another one.
    #[error("it does not take the user or the password")]
    PasswordRefused,
    /// The access list forbids a command.
    #[error("the user may not do what is needed (hello, select, scan, getrange, unlink): {0}")]
    NotPermitted(String),
    /// What is unlinked there comes back from the primary.
    #[error("it is a replica; the primary is needed")]
    Replica,
    /// A part of a cluster, a sentinel: not where all of the cache is.
    #[error("it runs as `{0}`, not as one server with the whole cache")]
    NotWhole(String),
    /// Redis says no for another reason.
    #[error("it answers `{0}`")]
    Refused(String),
    /// No answer of Redis, or of argocd-server.
    #[error("it does not answer like {0}")]
    Strange(&'static str),
    /// More than a cache holds.
    #[error("it holds more than {0} keys")]
    Endless(usize),
    /// Another Redis, database or prefix, where nothing would ever be found.
    #[error("it holds nothing of the Application `{0}`: another Redis, database or prefix than Argo CD's")]
    NotArgoCds(String),
    /// Somebody goes on writing values.
    #[error("entries with values come back: {0} in the last of several rounds; something still renders them")]
    ComeBack(usize),
    /// argocd-server wants a token.
    #[error("argocd-server expects a token, or another one")]
    Unauthorized,
    /// Its account may not see the Application.
    #[error("argocd-server does not let the account see the Application `{0}`")]
    Forbidden(String),
    /// Something else than a rendering.
    #[error("argocd-server answers {status}{} for the Application `{application}` at {revision}",
        code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default())]
    NotRendered {
        /// The HTTP status.
        status: u16,
        /// How the plugin calls its refusal, where it is the plugin's. `regent[allow]`: the rule's `revisions` do not allow
        /// an Application that names the commit.
        code: Option<String>,
        /// As `namespace/name`.
        application: String,
        /// Which one.
        revision: String,
    },
    /// The plugin gave values.
    #[error("the Application `{application}` still renders values at {revision}")]
    StillRenders {
        /// As `namespace/name`.
        application: String,
        /// Which one.
        revision: String,
    },
    /// Larger than is read.
    #[error("its answer is larger than {0} bytes")]
    Oversized(usize),
}
