//! What Vault's answers mean: status and body in, a fact or a reason out. Pure, so that the table can be read and tested.
//!
//! Bodies of data routes hold secrets. Of them only the texts known here are recognized, and nothing is quoted; what
//! other routes say of an error is quoted in one bounded line.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regent_core::handover::rights::{Bearer, Kept};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::failure::one_line;

/// Why Vault did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VaultError {
    /// No connection, or one that broke.
    #[error("{0}")]
    Unreachable(String),
    /// Whoever answers does not prove to be Vault, or does not take the client's certificate.
    #[error("{0}")]
    Untrusted(String),
    /// No whole answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// A larger answer than is read, in bytes.
    #[error("its answer is larger than {0} bytes")]
    Oversized(usize),
    /// A redirect. 307 and 308 mean that no node is active right now.
    #[error("it redirects ({0}), and a token does not go along: name the address that answers")]
    Redirects(u16),
    /// A standby, told by `sys/health`.
    #[error("it is a standby ({0}): name the active node's address")]
    Standby(u16),
    /// Sealed.
    #[error("it is sealed (503)")]
    Sealed,
    /// Never initialized.
    #[error("it is not initialized (501)")]
    NotInitialized,
    /// `sys/health` is not what Vault says there.
    #[error("it does not answer as Vault does ({0})")]
    NotVault(u16),
    /// The node has not yet seen what was written, or limits how often it may be asked.
    #[error("it lags behind, or limits how often it may be asked ({0})")]
    Busy(u16),
    /// An answer of a server in trouble.
    #[error("it is not ready ({status}){}{said}", if said.is_empty() { "" } else { ": " })]
    Unready {
        /// HTTP status.
        status: u16,
        /// Its own words; empty for a data route.
        said: String,
    },
    /// Just after a KV store of version 2 was made.
    #[error("the mount is still being upgraded to version 2 (400)")]
    Upgrading,
    /// `cas` did not match.
    #[error("the key has, or had, a version (400)")]
    Conflict,
    /// 403.
    #[error("the token may not {0} (403)")]
    Denied(&'static str),
    /// 403 where the token, the mount and the policy cannot be told apart.
    #[error("the token is not accepted, or there is nothing that it may read in a mount `{0}` (403)")]
    NoMount(String),
    /// Another kind of store.
    #[error("its mount `{0}` is no KV store of version 2")]
    OtherStore(String),
    /// 404 that is not about a key.
    #[error("it has no such mount or namespace, or the mount is no KV store of version 2 (404)")]
    NoRoute,
    /// More bytes than the storage, or the listener, takes at once.
    #[error("the values are too large for it ({0})")]
    TooLarge(u16),
    /// More strings than OpenBao takes in one request.
    #[error("there are too many keys for one request (400)")]
    TooManyStrings,
    /// A write was answered, but not with the version of a key that it makes.
    #[error("it did not create that version: {0}")]
    NotCreated(&'static str),
    /// A success without what belongs into it.
    #[error("its answer lacks {0}")]
    Incomplete(&'static str),
    /// Any other answer; `said` is empty for a data route.
    #[error("it answered {status}{}{said}", if said.is_empty() { "" } else { ": " })]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its own words.
        said: String,
    },
    /// A login was not taken. Neither JWT nor secret id is named.
    #[error("the login at `auth/{mount}` as `{who}` is refused ({status}): {said}")]
    Login {
        /// The auth mount.
        mount: String,
        /// The role, or the role id.
        who: String,
        /// HTTP status.
        status: u16,
        /// Its own words.
        said: String,
    },
    /// A login's own file.
    #[error("cannot log in: {0}")]
    LoginFile(String),
    /// The token that wraps a secret id was used up.
    #[error(
        "the wrapping token is not valid any more: each run uses one up, with `--plan` too; or it expired, its answer was lost, or \
         somebody else used it"
    )]
    Unwrapped,
    /// What was wrapped is no secret id of this mount.
    #[error("the wrapping token holds no secret id of `auth/{mount}`: it was made by `{made_by}`")]
    OtherWrapping {
        /// The auth mount.
        mount: String,
        /// `creation_path`.
        made_by: String,
    },
    /// A path that would mean another key.
    #[error("`{0}` is no path of a key: a part is empty, `.` or `..`, or holds a control character")]
    BadPath(String),
    /// A field that cannot be sent: Vault would replace the bytes.
    #[error("the value of `{0}` is no text")]
    NotText(String),
}

impl VaultError {
    /// Whether the same request may do a little later: a failover, a full queue, a lost answer. Everything else is asked
    /// once.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Unreachable(_)
            | Self::Late(_)
            | Self::Redirects(307 | 308)
            | Self::Standby(_)
            | Self::Sealed
            | Self::Busy(_)
            | Self::Unready { .. }
            | Self::Upgrading => true,
            Self::Untrusted(_)
            | Self::Oversized(_)
            | Self::Redirects(_)
            | Self::NotInitialized
            | Self::NotVault(_)
            | Self::Conflict
            | Self::Denied(_)
            | Self::NoMount(_)
            | Self::OtherStore(_)
            | Self::NoRoute
            | Self::TooLarge(_)
            | Self::TooManyStrings
            | Self::NotCreated(_)
            | Self::Incomplete(_)
            | Self::Refused { .. }
            | Self::Login { .. }
            | Self::LoginFile(_)
            | Self::Unwrapped
            | Self::OtherWrapping { .. }
            | Self::BadPath(_)
            | Self::NotText(_) => false,
        }
    }
}

/// What an answer's body may hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// Values: nothing of it is quoted. What a denied token may not do there, in words.
    Data(&'static str),
    /// None.
    Plain(&'static str),
}

/// The reason in an answer that is no success.
pub(super) fn refusal(route: Route, status: u16, body: &[u8]) -> VaultError {
    let errors = errors(body);
    let says = |text: &str| errors.iter().any(|error| error.contains(text));
    let (doing, said) = match route {
        Route::Data(doing) => (doing, String::new()),
        Route::Plain(doing) => (doing, quoted(&errors)),
    };
    match status {
        300..=399 => VaultError::Redirects(status),
        400 if says(UPGRADING) || says(WAITING) => VaultError::Upgrading,
        400 if says(CAS_MISMATCH) => VaultError::Conflict,
        400 if says(TOO_COMPLEX) => VaultError::TooManyStrings,
        403 => VaultError::Denied(doing),
        404 if says(NO_HANDLER) || says(NO_NAMESPACE) => VaultError::NoRoute,
        412 | 429 => VaultError::Busy(status),
        413 => VaultError::TooLarge(status),
        500 if says(VALUE_TOO_LARGE) => VaultError::TooLarge(status),
        503 if says(SEALED) => VaultError::Sealed,
        // 504 is what a proxy in front says of a server that did not answer in time.
        500 | 502..=504 => VaultError::Unready { status, said },
        _other => VaultError::Refused { status, said },
    }
}

/// Whether a 403 is about what a policy allows. Every other 403 may mean that the token is over.
pub(super) fn denied_by_policy(body: &[u8]) -> bool {
    // An ACL's refusal counts its errors, a bad token's does not; Vault counts a bad token's too, and names it.
    let texts = errors(body);
    texts.iter().any(|error| error.starts_with(ONE_ERROR)) && !texts.iter().any(|error| error.contains(INVALID_TOKEN))
}

/// `errors` of a body; none where it has none.
fn errors(body: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    serde_json::from_slice(body).map(|Errors { errors }| errors).unwrap_or_default()
}

/// A server's own words on an error, in one bounded line.
pub(super) fn said(body: &[u8]) -> String {
    quoted(&errors(body))
}

fn quoted(errors: &[String]) -> String {
    const LONGEST: usize = 400;
    let words: Vec<&str> = errors.iter().flat_map(|error| error.split_whitespace()).collect();
    one_line(&words.join(" ")).chars().take(LONGEST).collect()
}

// Texts of OpenBao and of Vault; the statuses beside them are in the match above.
const CAS_MISMATCH: &str = "check-and-set parameter did not match the current version";
const UPGRADING: &str = "Upgrading from non-versioned to versioned data";
const WAITING: &str = "Waiting for the primary to upgrade";
const TOO_COMPLEX: &str = "refused JSON input due to high complexity";
const VALUE_TOO_LARGE: &str = "value being too large";
const NO_HANDLER: &str = "no handler for route";
const NO_NAMESPACE: &str = "namespace not found";
const SEALED: &str = "Vault is sealed";
const ONE_ERROR: &str = "1 error occurred:";
const INVALID_TOKEN: &str = "invalid token";

/// The active node, as `sys/health` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Active {
    /// `cluster_id`. It survives restores, so it tells another Vault, never an older one.
    pub(crate) cluster_id: Option<String>,
    /// `version`.
    pub(crate) version: Option<String>,
    /// `server_time_utc`, in seconds since 1970.
    pub(crate) server_time: Option<i64>,
}

/// Only the active node is asked: a standby answers reads from what it has seen so far. Status and body must agree; a
/// load balancer's check may have changed the status.
pub(super) fn active(status: u16, body: &[u8]) -> Result<Active, VaultError> {
    #[derive(Deserialize)]
    struct Health {
        initialized: bool,
        sealed: bool,
        standby: bool,
        cluster_id: Option<String>,
        version: Option<String>,
        server_time_utc: Option<i64>,
    }
    let health = serde_json::from_slice(body);
    match status {
        200 => match health {
            Ok(Health { initialized: true, sealed: false, standby: false, cluster_id, version, server_time_utc }) => {
                Ok(Active { cluster_id, version, server_time: server_time_utc })
            }
            Ok(Health { .. }) | Err(_) => Err(VaultError::NotVault(status)),
        },
        300..=399 => Err(VaultError::Redirects(status)),
        429 | 472..=474 => Err(VaultError::Standby(status)),
        501 => Err(VaultError::NotInitialized),
        503 if health.is_ok_and(|health| health.sealed) => Err(VaultError::Sealed),
        // What stands in front of it answers so, too.
        500 | 502..=504 => Err(VaultError::Unready { status, said: String::new() }),
        _other => Err(VaultError::NotVault(status)),
    }
}

/// `storage_type` of `sys/seal-status`: `inmem` is a development server, which forgets.
pub(super) fn storage(status: u16, body: &[u8]) -> Result<String, VaultError> {
    #[derive(Deserialize)]
    struct Seal {
        storage_type: String,
    }
    if status != 200 {
        return Err(refusal(Route::Plain("ask for its storage"), status, body));
    }
    let Ok(Seal { storage_type }) = serde_json::from_slice(body) else {
        return Err(VaultError::Incomplete("`storage_type`"));
    };
    Ok(storage_type)
}

/// The KV store of version 2 that a mount is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Store {
    /// `uuid`: a mount that was made again has another one.
    pub(crate) uuid: Option<String>,
}

/// Whether the mount is a KV store of version 2. Any other would say of every key that it is not there, or overwrite it.
pub(super) fn versioned(status: u16, body: &[u8], mount: &str) -> Result<Store, VaultError> {
    #[derive(Deserialize)]
    struct Mount {
        r#type: String,
        path: String,
        options: Option<Options>,
        uuid: Option<String>,
    }
    #[derive(Deserialize)]
    struct Options {
        version: Option<String>,
    }
    match status {
        200 => {}
        403 => return Err(VaultError::NoMount(mount.to_owned())),
        404 => return Err(VaultError::NoRoute),
        _other => return Err(refusal(Route::Plain("look at the mount"), status, body)),
    }
    let Ok(Data { data: Mount { r#type, path, options, uuid } }) = serde_json::from_slice(body) else {
        return Err(VaultError::Incomplete("what a mount is"));
    };
    let second = options.and_then(|options| options.version).is_some_and(|version| version == "2");
    // The answer is about the longest mount on the way to what was asked for.
    if r#type == "kv" && second && path.trim_end_matches('/') == mount {
        return Ok(Store { uuid });
    }
    Err(VaultError::OtherStore(mount.to_owned()))
}

/// Who the token is. `None` where it may not look itself up, and where anything is said of it that is not known here. The
/// answer holds the token itself, so most of it is passed over and not kept.
pub(super) fn bearer(status: u16, body: &[u8]) -> Result<Option<Bearer>, VaultError> {
    #[derive(Deserialize)]
    struct LookedUp {
        r#type: String,
        policies: Option<BTreeSet<String>>,
        identity_policies: Option<BTreeSet<String>>,
        external_namespace_policies: Option<BTreeMap<String, BTreeSet<String>>>,
        namespace_path: Option<String>,
    }
    match status {
        200 => {}
        403 => return Ok(None),
        _other => return Err(refusal(Route::Plain("look itself up"), status, body)),
    }
    #[expect(clippy::zero_sized_map_values, reason = "names of fields, whose contents are passed over")]
    let Ok(Data { data: said }) = serde_json::from_slice::<Data<BTreeMap<String, IgnoredAny>>>(body) else {
        return Ok(None);
    };
    if !said.keys().all(|field| OF_A_TOKEN.contains(&field.as_str())) {
        return Ok(None);
    }
    let Ok(Data { data: token }) = serde_json::from_slice::<Data<LookedUp>>(body) else { return Ok(None) };
    let mut policies = token.policies.unwrap_or_default();
    policies.extend(token.identity_policies.unwrap_or_default());
    Ok(Some(Bearer {
        kept: if token.r#type == "service" { Kept::Stored } else { Kept::InItself },
        namespace: token.namespace_path.unwrap_or_default(),
        policies,
        elsewhere: token.external_namespace_policies.unwrap_or_default().into_keys().collect(),
    }))
}

/// All that OpenBao and Vault say of a token. Another field may be about what it may do.
const OF_A_TOKEN: [&str; 25] = [
    "accessor",
    "bound_cidrs",
    "creation_time",
    "creation_ttl",
    "display_name",
    "entity_id",
    "expire_time",
    "explicit_max_ttl",
    "external_namespace_policies",
    "id",
    "identity_policies",
    "issue_time",
    "last_renewal",
    "last_renewal_time",
    "meta",
    "namespace_path",
    "num_uses",
    "orphan",
    "path",
    "period",
    "policies",
    "renewable",
    "role",
    "ttl",
    "type",
];

/// The text of a policy; `None` where it may not be read, or is none.
pub(super) fn policy(status: u16, body: &[u8]) -> Result<Option<String>, VaultError> {
    #[derive(Deserialize)]
    struct Policy {
        policy: String,
    }
    match status {
        200 => Ok(serde_json::from_slice(body).ok().map(|Data { data: Policy { policy } }| policy)),
        403 | 404 => Ok(None),
        _other => Err(refusal(Route::Plain("read its policy"), status, body)),
    }
}

/// The body of a success, as far as it is looked at.
#[derive(Deserialize)]
pub(super) struct Data<T> {
    pub(super) data: T,
}

/// A first version, and when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Created {
    /// `created_time` of the version, to be compared for equality alone.
    pub(crate) created_time: String,
}

/// Takes the answer to a write with `cas=0` for exactly what it says. A KV store of version 1 answers 204, and has
/// overwritten; a warning tells that something of the request was ignored, which may be the `cas`.
pub(super) fn created(status: u16, body: &[u8]) -> Result<Created, VaultError> {
    written(status, body, 1)
}

/// The answer to a write that makes this version of a key.
pub(super) fn written(status: u16, body: &[u8], version: u64) -> Result<Created, VaultError> {
    #[derive(Deserialize)]
    struct Written {
        data: Option<Made>,
        warnings: Option<IgnoredAny>,
    }
    #[derive(Deserialize)]
    struct Made {
        version: u64,
        created_time: String,
        deletion_time: String,
        destroyed: bool,
    }
    match status {
        200 => {}
        201..=299 => return Err(VaultError::NotCreated("the status is not 200")),
        _other => return Err(refusal(Route::Data("write it"), status, body)),
    }
    let Ok(Written { data: Some(written), warnings }) = serde_json::from_slice(body) else {
        return Err(VaultError::NotCreated("the answer names no version"));
    };
    if warnings.is_some() {
        return Err(VaultError::NotCreated("it warns of something in the request"));
    }
    if written.version != version {
        return Err(VaultError::NotCreated("it is another version"));
    }
    if !written.deletion_time.is_empty() || written.destroyed {
        return Err(VaultError::NotCreated("the mount or the key deletes it by itself (`delete_version_after`)"));
    }
    if written.created_time.is_empty() {
        return Err(VaultError::NotCreated("the answer names no time"));
    }
    Ok(Created { created_time: written.created_time })
}

#[cfg(test)]
mod tests;
