//! Vault and OpenBao, as far as a handover needs them: about ten endpoints, and one write to a key.
//!
//! What the client rests on, whoever calls it:
//! - A key is created or left alone: what goes to its data route holds `options.cas = 0` (`kv.rs`). One key is counted up,
//!   the heartbeat of `regent verify`.
//! - An answer counts only for exactly what it says; everything else is an error (`answer.rs`). Redirects are never
//!   followed: a token would go along.
//! - A read sees at least what this client wrote: standbys answer reads from what they have seen so far, so each request
//!   names the newest state that an answer told of.
//! - What may pass by itself (a failover takes 11 to 20 s) is asked again for as long as the caller's patience lasts.
//!   A future that is dropped stops at once. Whatever was under way is found out by asking again.

mod answer;
mod environment;
mod kv;
mod login;
#[cfg(test)]
mod real;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use regent_core::evidence::WitnessedVault;
use regent_core::handover::rights::Bearer;
use regent_core::name::{AuthorityName, Epoch, HandoverId, SecretName};
use regent_sops::{Plaintext, Wiping};
use serde::Deserialize;
use tokio::time::Instant;
use zeroize::Zeroizing;

pub(crate) use self::answer::{Active, Created, Store, VaultError};
use self::answer::{Data, Route, refusal};
use self::environment::Environment;
pub(crate) use self::kv::{Creation, KeyMetadata, KeyPath, NewKey, NextBeat, Present, Reading};
pub(crate) use self::login::{Login, Token};
use crate::config;
use crate::failure::{Failure, innermost};

/// How Vault is asked.
pub(crate) struct VaultAccess {
    /// As whom.
    pub(crate) login: Login,
    /// How long what may pass by itself is waited for, request by request. Zero: each request is sent once.
    pub(crate) patience: Duration,
    /// How many requests are under way at one time; as many connections stay open.
    pub(crate) concurrency: usize,
}

/// A connection to one place in one Vault, as one identity. Shared by all who ask at the same time.
pub(crate) struct Vault {
    place: WitnessedVault,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    login: Login,
    session: tokio::sync::Mutex<login::Session>,
    patience: Duration,
    /// How long one answer may take.
    one_answer: Duration,
    /// The newest state that an answer told of.
    index: std::sync::Mutex<Option<Index>>,
}

/// How long the answer to one request may take, with everything that comes before it.
const ONE_ANSWER: Duration = Duration::from_secs(10);

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(3);

impl Vault {
    /// A client for the place that `regent.yaml` and the Authority name. Nothing is sent yet; the first request that needs a
    /// token logs in.
    ///
    /// # Errors
    /// An environment that means another Vault, or does not fit together; certificates that cannot be read.
    pub(crate) fn connect(place: &WitnessedVault, access: VaultAccess) -> Result<Self, Failure> {
        Self::connect_in(place, access, config::as_set)
    }

    fn connect_in(
        place: &WitnessedVault,
        access: VaultAccess,
        look: impl Fn(&'static str) -> Option<std::ffi::OsString>,
    ) -> Result<Self, Failure> {
        let environment = Environment::read(place, look)?;
        if !place.address.parse().is_ok_and(|address: Uri| environment::is_private(&address)) {
            let problem = "it is no `https://` address; `http://` reaches this machine alone".to_owned();
            return Err(Failure::Vault { address: place.address.clone(), problem });
        }
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT));
        let mut https = HttpsConnectorBuilder::new().with_tls_config(environment.tls()?).https_or_http();
        if let Some(name) = environment.server_name {
            https = https.with_server_name_resolver(FixedServerNameResolver::new(name));
        }
        let https = https.enable_http1().wrap_connector(http);
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(access.concurrency).build(https);
        Ok(Self {
            place: place.clone(),
            client,
            login: access.login,
            session: tokio::sync::Mutex::default(),
            patience: access.patience,
            one_answer: ONE_ANSWER,
            index: std::sync::Mutex::default(),
        })
    }

    /// A failure of this Vault.
    pub(crate) fn failure(&self, problem: &VaultError) -> Failure {
        Failure::Vault { address: self.place.address.clone(), problem: problem.to_string() }
    }

    // --- before anything is written

    /// Whether the node that answers is the active one. Asked first: no token goes to an address before it answered like
    /// Vault.
    pub(crate) async fn active(&self) -> Result<Active, VaultError> {
        // With a namespace this route would answer 400.
        let question = Question { namespace: false, ..Question::get("sys/health") };
        self.persist(&question, None, answer::active).await
    }

    /// `storage_type`, as the server names it. `inmem` forgets everything when it stops.
    pub(crate) async fn storage(&self) -> Result<String, VaultError> {
        let question = Question { namespace: false, ..Question::get("sys/seal-status") };
        self.persist(&question, None, answer::storage).await
    }

    /// Whether the mount is a KV store of version 2.
    pub(crate) async fn store(&self) -> Result<Store, VaultError> {
        let mount = &self.place.mount;
        let question = Question::get(&format!("sys/internal/ui/mounts/{}", kv::encoded(mount)));
        self.ask(&question, |status, body| answer::versioned(status, body, mount)).await
    }

    /// What the token may do with each key (`create`, `read`, `update`, ..., or `root`, or `deny`), at one kind of route.
    pub(crate) async fn may(&self, of: Of, keys: &[KeyPath]) -> Result<Vec<BTreeSet<String>>, VaultError> {
        let of = of.as_str();
        let paths: Vec<String> = keys.iter().map(|key| format!("{}/{of}/{key}", self.place.mount)).collect();
        let body = serde_json::json!({ "paths": paths }).to_string();
        let question = Question::post("sys/capabilities-self", Bytes::from(body));
        self.ask(&question, |status, body| {
            if status != 200 {
                return Err(refusal(Route::Plain("ask what it may do"), status, body));
            }
            // Beside the paths stands `capabilities`, which is about one of them.
            let lacks = || VaultError::Incomplete("what the token may do");
            let Data { data } =
                serde_json::from_slice::<Data<BTreeMap<String, BTreeSet<String>>>>(body).map_err(|_| lacks())?;
            paths.iter().map(|path| data.get(path).cloned().ok_or_else(lacks)).collect()
        })
        .await
    }

    /// Who the token is; `None` where that is not known for sure.
    pub(crate) async fn bearer(&self) -> Result<Option<Bearer>, VaultError> {
        self.ask(&Question::get("auth/token/lookup-self"), answer::bearer).await
    }

    /// The text of a policy; `None` where the token may not read it, or there is none.
    pub(crate) async fn policy(&self, name: &str) -> Result<Option<String>, VaultError> {
        self.ask(&Question::get(&format!("sys/policies/acl/{}", kv::encoded(name))), answer::policy).await
    }

    /// `delete_version_after` of the mount, as it is written there (`0s`: never); `None` where the token may not look.
    pub(crate) async fn delete_version_after(&self) -> Result<Option<String>, VaultError> {
        #[derive(Deserialize)]
        struct Config {
            delete_version_after: String,
        }
        let question = Question::get(&format!("{}/config", kv::encoded(&self.place.mount)));
        self.ask(&question, |status, body| match status {
            200 => match serde_json::from_slice(body) {
                Ok(Data { data: Config { delete_version_after } }) => Ok(Some(delete_version_after)),
                Err(_) => Err(VaultError::Incomplete("`delete_version_after`")),
            },
            403 => Ok(None),
            _other => Err(refusal(Route::Plain("read the mount's settings"), status, body)),
        })
        .await
    }

    // --- keys

    /// Creates a key. A request whose answer was lost is sent again: with `cas=0` the second one finds what the first one
    /// made, which then reads [`Creation::MaybeExists`], as it does where the policy allows no change (403). What is there is
    /// for [`Vault::read_existing`] to say.
    pub(crate) async fn create(&self, key: &KeyPath, new: &NewKey) -> Result<Creation, VaultError> {
        let question = Question::post(&self.url("data", key), new.body());
        match self.ask(&question, answer::created).await {
            Ok(created) => Ok(Creation::Created(created)),
            Err(VaultError::Conflict | VaultError::Denied(_)) => Ok(Creation::MaybeExists),
            Err(problem) => Err(problem),
        }
    }

    /// Counts one heartbeat. `false` where another run has counted it, or an earlier try of this one whose answer was lost: a
    /// read tells the count.
    pub(crate) async fn beat(&self, next: &NextBeat) -> Result<bool, VaultError> {
        let question = Question::post(&self.url("data", next.key()), next.body());
        match self.ask(&question, |status, body| answer::written(status, body, next.version())).await {
            Ok(_) => Ok(true),
            Err(VaultError::Conflict) => Ok(false),
            Err(problem) => Err(problem),
        }
    }

    /// Reads the newest version of a key.
    pub(crate) async fn read(&self, key: &KeyPath) -> Result<Reading, VaultError> {
        let question = Question { limit: key.limit, ..Question::get(&self.url("data", key)) };
        self.ask(&question, kv::reading).await
    }

    /// Reads a key that a creation met. A refused write tells of no state, so a standby may not have seen the key yet, and
    /// is asked for longer than it lags behind.
    pub(crate) async fn read_existing(&self, key: &KeyPath) -> Result<Reading, VaultError> {
        let end = Instant::now() + LONGEST_LAG;
        loop {
            match self.read(key).await? {
                Reading::Absent if Instant::now() < end => tokio::time::sleep(Duration::from_millis(50)).await,
                reading @ (Reading::Absent | Reading::Deleted | Reading::Present(_)) => return Ok(reading),
            }
        }
    }

    /// Reads what stands about a key; `None` where there is none.
    pub(crate) async fn metadata(&self, key: &KeyPath) -> Result<Option<KeyMetadata>, VaultError> {
        let question = Question { limit: key.limit, ..Question::get(&self.url("metadata", key)) };
        self.ask(&question, kv::metadata).await
    }

    fn url(&self, of: &str, key: &KeyPath) -> String {
        format!("{}/{of}/{}", kv::encoded(&self.place.mount), kv::encoded(key.as_str()))
    }

    // --- requests

    /// Asks as who regent is. A token that is found to be over is replaced once, by another login; what was decided on the
    /// answer before is the same request's to decide again.
    async fn ask<T>(
        &self,
        question: &Question,
        judge: impl Fn(u16, &[u8]) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        let token = self.token(None).await?;
        let unless_over = |status, body: &[u8]| {
            let over = status == 403 && self.can_log_in_again() && !answer::denied_by_policy(body);
            if over { Ok(None) } else { judge(status, body).map(Some) }
        };
        if let Some(fact) = self.persist(question, Some(&token), unless_over).await? {
            return Ok(fact);
        }
        let token = self.token(Some(&token)).await?;
        self.persist(question, Some(&token), judge).await
    }

    /// Asks until there is an answer that does not pass by itself, or patience ends.
    async fn persist<T>(
        &self,
        question: &Question,
        token: Option<&Token>,
        judge: impl Fn(u16, &[u8]) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        let end = Instant::now() + self.patience;
        let mut pause = Duration::from_millis(100);
        loop {
            let (problem, after) = match self.send(question, token).await {
                Ok(Reply { status, retry_after, body }) => match judge(status, &body) {
                    Ok(fact) => return Ok(fact),
                    Err(problem) => (problem, retry_after),
                },
                Err(problem) => (problem, Duration::ZERO),
            };
            let next = Instant::now() + pause.max(after);
            if !problem.passes() || next > end {
                return Err(problem);
            }
            tokio::time::sleep_until(next).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One request and its whole answer.
    async fn send(&self, question: &Question, token: Option<&Token>) -> Result<Reply, VaultError> {
        let address = self.place.address.trim_end_matches('/');
        let mut request = Request::builder()
            .method(question.method.clone())
            .uri(format!("{address}/v1/{}", question.path))
            .header("X-Vault-Request", "true");
        if question.namespace && !self.place.namespace.is_empty() {
            request = request.header("X-Vault-Namespace", &self.place.namespace);
        }
        if let Some(token) = token {
            request = request.header("X-Vault-Token", token.header()?);
            if let Some(index) = &*self.index.lock().unwrap_or_else(PoisonError::into_inner) {
                request = request.header(INDEX, &index.header).header("X-Vault-Inconsistent", "forward-active-node");
            }
        }
        let request = request.body(Full::new(question.body.clone()));
        let request = request.map_err(|error| VaultError::Unreachable(innermost(&error)))?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| not_reached(&error))?;
            let (head, mut body) = response.into_parts();
            if let Some(header) = head.headers.get(INDEX) {
                self.saw(header);
            }
            let retry_after = head.headers.get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            let retry_after = retry_after
                .and_then(|seconds| seconds.parse().ok())
                .map_or(Duration::ZERO, |seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE));
            let mut bytes = Wiping::default();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|_| VaultError::Unreachable("its answer was cut off".to_owned()))?;
                let Ok(data) = frame.into_data() else { continue };
                if bytes.len() + data.len() > question.limit {
                    return Err(VaultError::Oversized(question.limit));
                }
                bytes.push(&data);
            }
            Ok(Reply { status: head.status.as_u16(), retry_after, body: bytes.finish() })
        };
        tokio::time::timeout(self.one_answer, exchange).await.unwrap_or(Err(VaultError::Late(self.one_answer)))
    }

    /// Keeps the newest state: answers to requests that were under way together come in any order.
    fn saw(&self, header: &HeaderValue) {
        let seen = Index::of(header);
        let mut newest = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.as_ref().is_none_or(|newest| seen.replaces(newest)) {
            *newest = Some(seen);
        }
    }
}

/// The routes of a key that policies name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// Its versions.
    Data,
    /// What stands about them.
    Metadata,
    /// Versions are deleted, brought back, destroyed.
    Delete,
    Undelete,
    Destroy,
}

impl Of {
    pub(crate) const ALL: [Self; 5] = [Self::Data, Self::Metadata, Self::Delete, Self::Undelete, Self::Destroy];

    fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Metadata => "metadata",
            Self::Delete => "delete",
            Self::Undelete => "undelete",
            Self::Destroy => "destroy",
        }
    }
}

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long a standby lags behind at the most: 102 ms were seen between idle nodes.
const LONGEST_LAG: Duration = Duration::from_secs(2);

/// The header with the state that an answer knows of, and that a request wants to be known.
const INDEX: &str = "X-Vault-Index";

/// A request, which may be sent more than once.
struct Question {
    method: Method,
    /// Below `/v1/`, encoded.
    path: String,
    body: Bytes,
    /// Whether it is about the place's namespace, and not about the node.
    namespace: bool,
    /// Largest answer read, in bytes.
    limit: usize,
}

impl Question {
    /// Largest answer of a route without values; `capabilities-self` for a thousand paths has some hundred KiB.
    const LIMIT: usize = 4 << 20;

    fn get(path: &str) -> Self {
        Self { method: Method::GET, path: path.to_owned(), body: Bytes::new(), namespace: true, limit: Self::LIMIT }
    }

    fn post(path: &str, body: Bytes) -> Self {
        Self { method: Method::POST, body, ..Self::get(path) }
    }
}

/// A whole answer. Its body may hold values.
struct Reply {
    status: u16,
    retry_after: Duration,
    body: Zeroizing<Vec<u8>>,
}

/// A state of Vault's storage, as a header tells it: base64 of `{"cluster":"..","value":"29"}` in OpenBao. Vault Enterprise
/// has a form of its own, which is sent back as it came.
struct Index {
    header: HeaderValue,
    position: Option<(String, u64)>,
}

impl Index {
    fn of(header: &HeaderValue) -> Self {
        #[derive(Deserialize)]
        struct Position {
            cluster: String,
            value: String,
        }
        let position = STANDARD.decode(header.as_bytes()).ok().and_then(|json| {
            let Position { cluster, value } = serde_json::from_slice(&json).ok()?;
            Some((cluster, value.parse().ok()?))
        });
        Self { header: header.clone(), position }
    }

    /// Of one cluster the higher one counts; what cannot be compared is taken as it comes.
    fn replaces(&self, older: &Self) -> bool {
        match (&self.position, &older.position) {
            (Some((cluster, value)), Some((old_cluster, old))) if cluster == old_cluster => value >= old,
            (_, _) => true,
        }
    }
}

/// Why there was no answer. A certificate that is refused is refused again; a connection that is not taken may be later.
fn not_reached(error: &(dyn std::error::Error + 'static)) -> VaultError {
    let reason = innermost(error);
    let mut next = Some(error);
    while let Some(error) = next {
        let mut inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        while let Some(within) = inner {
            if within.is::<rustls::Error>() {
                return VaultError::Untrusted(reason);
            }
            inner = within.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        }
        next = error.source();
    }
    VaultError::Unreachable(reason)
}

/// What Vault says of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// Certainly none.
    Absent,
    /// There: its handover id, where it can be read. A record that was deleted was there.
    Present(Option<HandoverId>),
}

/// Asks once for the record of an epoch. Everything but a clear yes or no is an error.
pub(crate) async fn record(
    place: &WitnessedVault,
    name: &AuthorityName,
    epoch: Epoch,
    token: &Token,
) -> Result<Record, Failure> {
    let id = |text: &Plaintext| {
        #[expect(clippy::disallowed_methods, reason = "the id of a handover is no secret")]
        let text = std::str::from_utf8(text.expose()).ok()?;
        HandoverId::parse(text).ok()
    };
    Ok(match once(place, token, KeyPath::record(name, epoch)).await? {
        Reading::Absent => Record::Absent,
        Reading::Deleted => Record::Present(None),
        Reading::Present(Present { fields, .. }) => {
            Record::Present(fields.get("handoverId").and_then(Option::as_ref).and_then(id))
        }
    })
}

/// Asks once for the copy of a Secret. Everything but a clear answer is an error.
pub(crate) async fn copy(place: &WitnessedVault, name: &SecretName, token: &Token) -> Result<Reading, Failure> {
    once(place, token, KeyPath::secret(&place.prefix, name)).await
}

/// One read, for a person who waits. One connection for all questions, so that one node answers them.
async fn once(place: &WitnessedVault, token: &Token, key: Result<KeyPath, VaultError>) -> Result<Reading, Failure> {
    let access = VaultAccess { login: Login::Token(token.duplicate()), patience: Duration::ZERO, concurrency: 1 };
    let vault = Vault::connect(place, access)?;
    let asked = async {
        let key = key?;
        vault.active().await?;
        vault.store().await?;
        vault.read(&key).await
    };
    asked.await.map_err(|problem| vault.failure(&problem))
}
