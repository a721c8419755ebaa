//! The API server, as far as regent asks it: where the witnesses live, and where the Secrets do.
//!
//! Requests are plain JSON over kube's client, which knows kubeconfigs, credentials and TLS. What decides is the exact
//! answer, so nothing is typed away before it is looked at: *not found* is only what the API server itself says in
//! JSON about the very object. Reads carry no `resourceVersion`, so they are answered by etcd and never by a cache.

mod access;
pub(crate) mod applications;
pub(crate) mod authority;
pub(crate) mod discovery;
pub(crate) mod doors;
pub(crate) mod flux;
pub(crate) mod installation;
pub(crate) mod jobs;
pub(crate) mod kustomizations;
pub(crate) mod lease;
pub(crate) mod lock;
pub(crate) mod review;
pub(crate) mod rights;
pub(crate) mod secrets;
pub(crate) mod watch;
pub(crate) mod witness;

use std::path::PathBuf;
use std::time::Duration;

use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Limited};
use kube::client::Body;
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use regent_sops::Plaintext;
use serde_json::{Value, json};

use self::access::told;
use crate::failure::{Failure, innermost, one_line};
use crate::telemetry::Metrics;

/// How a cluster is found and as whom it is asked; everything left out is decided as `kubectl` does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// A kubeconfig; else `KUBECONFIG`, `~/.kube/config`, the pod's own account.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// A context of it; else its current one.
    pub(crate) context: Option<String>,
    /// Impersonated user.
    pub(crate) user: Option<String>,
    /// Impersonated groups.
    pub(crate) groups: Vec<String>,
}

/// A connection to one API server as one identity.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    /// How errors name it: its address.
    name: String,
    patience: Duration,
    /// Where requests are counted, in a server.
    metrics: Option<Metrics>,
}

/// Why an API server did not do what was asked. No body is quoted but the server's own message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClusterError {
    /// The kubeconfig, the token, the certificate, the connection.
    #[error("{0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// 401.
    #[error("it does not know the caller (401): the token is expired, or another cluster's")]
    Unauthorized,
    /// 403 by RBAC.
    #[error("{0}")]
    Forbidden(String),
    /// 403 by an admission policy: its own sentence.
    #[error("{0}")]
    Denied(String),
    /// 409: it exists, or somebody else was quicker or owns it.
    #[error("{0}")]
    Conflict(String),
    /// The kind is not served: a 404 that is not about an object.
    #[error("it does not serve {0}: are the manifests of `manifests/cluster` installed?")]
    NotServed(String),
    /// Any other status.
    #[error("it answered {status}: {message}")]
    Status {
        /// HTTP status.
        status: u16,
        /// Its message, in one line.
        message: String,
    },
}

impl ClusterError {
    /// Whether asking again is of no use: somebody has to change something first.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Unauthorized | Self::Forbidden(_) | Self::Denied(_) => true,
            Self::Unreachable(_) | Self::Late(_) | Self::Conflict(_) | Self::NotServed(_) | Self::Status { .. } => {
                false
            }
        }
    }
}

/// Largest answer read; a list is asked for in pages.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// What a person waits for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Objects in a page of a list.
const PAGE: usize = 500;

/// The field manager of everything that regent writes.
pub(crate) const MANAGER: &str = "regent";

impl Cluster {
    /// Reads the kubeconfig (or what a pod has) and makes a client. Nothing is sent yet.
    pub(crate) async fn connect(access: &Access) -> Result<Self, Failure> {
        let unusable =
            |what: String, why: String| Failure::Cluster { cluster: what, problem: ClusterError::Unreachable(why) };
        let options = KubeConfigOptions { context: access.context.clone(), ..KubeConfigOptions::default() };
        let (name, kubeconfig) = access::kubeconfig(access)?;
        let says_nothing = kubeconfig.contexts.is_empty() && kubeconfig.current_context.is_none();
        // As kubectl: the pod's own account is for who has no kubeconfig, never for who has one that does not do.
        let mut config = if says_nothing && access.kubeconfig.is_none() && access.context.is_none() {
            Config::incluster().map_err(|_| unusable(name.clone(), "there is none, and this is no pod".to_owned()))?
        } else {
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            config.map_err(|error| unusable(name.clone(), told(&error)))?
        };
        access::trimmed(&mut config.auth_info);
        if access::is_no_token(&config.auth_info) {
            return Err(unusable(name, "its token is none: one line of printable characters".to_owned()));
        }
        if access.user.is_some() {
            config.auth_info.impersonate.clone_from(&access.user);
        }
        if !access.groups.is_empty() {
            config.auth_info.impersonate_groups = Some(access.groups.clone());
        }
        // Who retries is decided by the caller, who knows how long there is.
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(10));
        config.read_timeout = Some(Duration::from_secs(300));
        let name = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = Client::try_from(config).map_err(|error| unusable(name.clone(), told(&error)))?;
        Ok(Self { client, name, patience: PATIENCE, metrics: None })
    }

    /// The same connection, whose requests are counted.
    pub(crate) fn counted(self, metrics: Metrics) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Whatever answers like an API server.
    #[cfg(test)]
    pub(crate) fn of_service<S>(service: S) -> Self
    where
        S: tower::Service<Request<Body>, Response = http::Response<Body>, Error = std::convert::Infallible>,
        S: Send + Sync + Clone + 'static,
        S::Future: Send + 'static,
    {
        let client = Client::new(service, "default");
        Self { client, name: "https://test".to_owned(), patience: PATIENCE, metrics: None }
    }

    /// Its address, as errors and reports name it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A failure of this cluster.
    pub(crate) fn failure(&self, problem: ClusterError) -> Failure {
        Failure::Cluster { cluster: self.name.clone(), problem }
    }

    /// The object at `path`; `None` only where the API server says of this very object that it does not exist.
    pub(crate) async fn get(&self, path: &str) -> Result<Option<Value>, ClusterError> {
        self.found(Method::GET, path, None).await
    }

    /// The `metadata` of the object at `path`. Of a Secret no data is asked for, and a whole one is not taken.
    pub(crate) async fn get_metadata(&self, path: &str) -> Result<Option<Value>, ClusterError> {
        match self.exchange_as(Method::GET, path, None, METADATA_OF_ONE, self.patience).await? {
            Answer::Object(mut object) => {
                only_metadata(&object, "PartialObjectMetadata")?;
                Ok(Some(object["metadata"].take()))
            }
            Answer::NotFound => Ok(None),
        }
    }

    /// The `metadata` of every object of a list, in the same way.
    pub(crate) async fn list_metadata(&self, path: &str, query: &str) -> Result<Vec<Value>, ClusterError> {
        let objects = self.list_as(path, query, METADATA).await?;
        Ok(objects.into_iter().map(|mut object| object["metadata"].take()).collect())
    }

    /// All objects of a list, page by page.
    pub(crate) async fn list(&self, path: &str, query: &str) -> Result<Vec<Value>, ClusterError> {
        self.list_as(path, query, JSON).await
    }

    async fn list_as(&self, path: &str, query: &str, accept: &str) -> Result<Vec<Value>, ClusterError> {
        let (mut objects, mut token) = (Vec::new(), String::new());
        loop {
            let more = if token.is_empty() { String::new() } else { format!("&continue={}", encoded(&token)) };
            let page = format!("{path}?limit={PAGE}{query}{more}");
            let mut page = match self.exchange_as(Method::GET, &page, None, accept, self.patience).await? {
                Answer::Object(page) => page,
                Answer::NotFound => return Err(ClusterError::NotServed(path.to_owned())),
            };
            if accept == METADATA {
                only_metadata(&page, "PartialObjectMetadataList")?;
            }
            // A list without objects says `null`; what is no list at all says nothing of them.
            match page.get_mut("items").map(Value::take) {
                Some(Value::Array(items)) => objects.extend(items),
                Some(Value::Null) => {}
                _no_list => {
                    return Err(ClusterError::Status { status: 200, message: "the answer is no list".to_owned() });
                }
            }
            match page["metadata"]["continue"].as_str() {
                Some(next) if !next.is_empty() => next.clone_into(&mut token),
                Some(_) | None => return Ok(objects),
            }
        }
    }

    /// The names of all objects of a list; nothing else of them is asked for.
    pub(crate) async fn names(&self, path: &str) -> Result<Vec<String>, ClusterError> {
        let metadata = self.list_metadata(path, "").await?;
        Ok(metadata.iter().filter_map(|metadata| metadata["name"].as_str().map(ToOwned::to_owned)).collect())
    }

    /// Makes or changes an object by server-side apply as regent, taking over what others own where `force` says so.
    pub(crate) async fn apply(
        &self,
        path: &str,
        object: &Value,
        force: bool,
        dry: bool,
    ) -> Result<Value, ClusterError> {
        let dry = if dry { "&dryRun=All" } else { "" };
        let query = format!("{path}?fieldManager={MANAGER}&force={force}&fieldValidation=Strict{dry}");
        self.send(Method::PATCH, &query, Some((APPLY, object))).await
    }

    /// Creates an object that must not exist.
    pub(crate) async fn create(&self, path: &str, object: &Value, dry: bool) -> Result<Value, ClusterError> {
        let dry = if dry { "&dryRun=All" } else { "" };
        let query = format!("{path}?fieldManager={MANAGER}&fieldValidation=Strict{dry}");
        self.send(Method::POST, &query, Some((JSON, object))).await
    }

    /// Creates a Secret that must not exist. What is quoted of a refusal is the lock's own sentence and RBAC's alone: an
    /// API server or a webhook that refuses an object may print parts of it.
    pub(crate) async fn create_secret(&self, path: &str, secret: &Plaintext) -> Result<Value, ClusterError> {
        #[expect(clippy::disallowed_methods, reason = "the one exit of plaintext to an API server")]
        let body = secret.expose().to_vec();
        let query = format!("{path}?fieldManager={MANAGER}&fieldValidation=Strict");
        let missing = || ClusterError::Status { status: 404, message: "the namespace is missing".to_owned() };
        match self.exchange_bytes(Method::POST, &query, (JSON, body), JSON, self.patience).await {
            Ok(Answer::Object(object)) => Ok(object),
            Ok(Answer::NotFound) | Err(ClusterError::Status { status: 404, .. }) => Err(missing()),
            Err(error) => Err(unquoted(error)),
        }
    }

    /// Makes or changes a Secret of regent's own by server-side apply. Nothing of its data comes back, and a refusal is quoted
    /// as [`Self::create_secret`] does.
    pub(crate) async fn apply_secret(&self, path: &str, secret: &Value) -> Result<(), ClusterError> {
        let query = format!("{path}?fieldManager={MANAGER}&force=true&fieldValidation=Strict");
        let body = Some((APPLY, secret));
        match self.exchange_as(Method::PATCH, &query, body, METADATA_OF_ONE, self.patience).await {
            Ok(Answer::Object(_)) => Ok(()),
            Ok(Answer::NotFound) => {
                Err(ClusterError::Status { status: 404, message: "the namespace is missing".to_owned() })
            }
            Err(error) => Err(unquoted(error)),
        }
    }

    /// Merges into an object that exists (RFC 7386).
    pub(crate) async fn merge(&self, path: &str, changes: &Value) -> Result<Value, ClusterError> {
        self.send(Method::PATCH, &format!("{path}?fieldManager={MANAGER}"), Some((MERGE, changes))).await
    }

    /// The same of a Secret's metadata: nothing of its data comes back, and a refusal is quoted as [`Self::create_secret`] does.
    pub(crate) async fn merge_secret_metadata(&self, path: &str, metadata: &Value) -> Result<(), ClusterError> {
        let (path, changes) = (format!("{path}?fieldManager={MANAGER}"), json!({ "metadata": metadata }));
        let body = Some((MERGE, &changes));
        match self.exchange_as(Method::PATCH, &path, body, METADATA_OF_ONE, self.patience).await {
            Ok(Answer::Object(_)) => Ok(()),
            Ok(Answer::NotFound) => Err(ClusterError::Status { status: 404, message: "it is gone".to_owned() }),
            Err(error) => Err(unquoted(error)),
        }
    }

    /// Whether this identity may merge into an object: a dry run of it.
    pub(crate) async fn may_merge(&self, path: &str, changes: &Value) -> Result<(), ClusterError> {
        let path = format!("{path}?fieldManager={MANAGER}&dryRun=All");
        self.send(Method::PATCH, &path, Some((MERGE, changes))).await.map(drop)
    }

    /// Deletes an object; whether it was there.
    pub(crate) async fn delete(&self, path: &str, dry: bool) -> Result<bool, ClusterError> {
        let dry = if dry { "?dryRun=All" } else { "" };
        Ok(self.found(Method::DELETE, &format!("{path}{dry}"), None).await?.is_some())
    }

    /// Deletes the Secret that has this metadata, and no other: one that was changed or made again since stays. Whether it was
    /// there. Nothing of its data comes back.
    pub(crate) async fn delete_secret(&self, path: &str, metadata: &Value) -> Result<bool, ClusterError> {
        let preconditions = json!({ "uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"] });
        let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions });
        let body = Some((JSON, &options));
        match self.exchange_as(Method::DELETE, path, body, METADATA_OF_ONE, self.patience).await {
            Ok(Answer::Object(_)) => Ok(true),
            Ok(Answer::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn found(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Option<Value>, ClusterError> {
        match self.exchange(method, path, body, self.patience).await? {
            Answer::Object(object) => Ok(Some(object)),
            Answer::NotFound => Ok(None),
        }
    }

    async fn send(&self, method: Method, path: &str, body: Option<(&str, &Value)>) -> Result<Value, ClusterError> {
        let not_found = || ClusterError::Status { status: 404, message: "the object is gone".to_owned() };
        self.found(method, path, body).await?.ok_or_else(not_found)
    }

    /// One request and its whole answer within `patience`.
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
        patience: Duration,
    ) -> Result<Answer, ClusterError> {
        self.exchange_as(method, path, body, JSON, patience).await
    }

    async fn exchange_as(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
        accept: &str,
        patience: Duration,
    ) -> Result<Answer, ClusterError> {
        let body = body.map_or((JSON, Vec::new()), |(kind, value)| (kind, value.to_string().into_bytes()));
        self.exchange_bytes(method, path, body, accept, patience).await
    }

    async fn exchange_bytes(
        &self,
        method: Method,
        path: &str,
        body: (&str, Vec<u8>),
        accept: &str,
        patience: Duration,
    ) -> Result<Answer, ClusterError> {
        let request = request(method, path, body, accept)?;
        let exchange = async {
            let response = self.client.send(request).await;
            whole(response.map_err(|error| ClusterError::Unreachable(told(&error)))?).await
        };
        let answered = tokio::time::timeout(patience, exchange).await.unwrap_or(Err(ClusterError::Late(patience)));
        self.count(answered.as_ref().ok().map(|(status, _)| *status));
        let (status, body) = answered?;
        judged(status, path, &body)
    }

    /// What the API server goes on telling at `path`: the body of an answer that ends when it, or the connection, does.
    async fn stream(&self, path: &str) -> Result<Body, ClusterError> {
        let request = request(Method::GET, path, (JSON, Vec::new()), JSON)?;
        let sent = tokio::time::timeout(self.patience, self.client.send(request)).await;
        let response = match sent {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(ClusterError::Unreachable(told(&error))),
            Err(_) => Err(ClusterError::Late(self.patience)),
        };
        self.count(response.as_ref().ok().map(|response| response.status().as_u16()));
        let response = response?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let refused = tokio::time::timeout(self.patience, whole(response)).await;
        let (status, body) = refused.unwrap_or(Err(ClusterError::Late(self.patience)))?;
        judged(status, path, &body)?;
        Err(ClusterError::Status { status, message: String::new() })
    }

    /// Counts an answer by its status, or none.
    fn count(&self, status: Option<u16>) {
        if let Some(metrics) = &self.metrics {
            metrics.asked(status);
        }
    }
}

fn request(
    method: Method,
    path: &str,
    (kind, bytes): (&str, Vec<u8>),
    accept: &str,
) -> Result<Request<Body>, ClusterError> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::ACCEPT, accept)
        .header(header::CONTENT_TYPE, kind)
        .body(Body::from(bytes))
        .map_err(|error| ClusterError::Unreachable(innermost(&error)))
}

/// Status and body of an answer that ends.
async fn whole(response: http::Response<Body>) -> Result<(u16, bytes::Bytes), ClusterError> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|_| ClusterError::Unreachable("the answer was cut off, or is too large".to_owned()))?;
    Ok((head.status.as_u16(), body.to_bytes()))
}

/// Whether an answer is the kind that was asked for: something between us and the API server may not know it, and give
/// whole objects.
fn only_metadata(answer: &Value, kind: &str) -> Result<(), ClusterError> {
    if answer["kind"] == kind {
        return Ok(());
    }
    Err(ClusterError::Status { status: 200, message: "a whole object where only metadata was asked for".to_owned() })
}

/// Runs what a command asks of clusters, on this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::io("start", "the runtime".as_ref(), &error))?.block_on(work)
}

const JSON: &str = "application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const METADATA_OF_ONE: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";

/// What the API server says of one object.
enum Answer {
    Object(Value),
    NotFound,
}

/// The metadata of what regent makes: known as regent's, and not to be pruned by a GitOps tool that came to own it.
pub(crate) fn metadata(name: &str, namespace: Option<&str>) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": { "app.kubernetes.io/managed-by": MANAGER },
        "annotations": {
            "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
            "kustomize.toolkit.fluxcd.io/prune": "disabled",
            "helm.sh/resource-policy": "keep",
        },
    });
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    metadata
}

/// Takes an answer for exactly what it says.
fn judged(status: u16, path: &str, body: &[u8]) -> Result<Answer, ClusterError> {
    let path = path.split('?').next().unwrap_or(path);
    let json: Option<Value> = serde_json::from_slice(body).ok();
    if (200..300).contains(&status) {
        let broken = || ClusterError::Status { status, message: "the answer is no JSON".to_owned() };
        return json.map(Answer::Object).ok_or_else(broken);
    }
    let said = json.as_ref().filter(|json| json["kind"] == "Status");
    let message = said.and_then(|said| said["message"].as_str()).map(bounded).unwrap_or_default();
    let reason = said.and_then(|said| said["reason"].as_str()).unwrap_or_default();
    // A policy leaves a cause, RBAC none.
    let denied = said.is_some_and(|said| said["details"]["causes"].as_array().is_some_and(|causes| !causes.is_empty()));
    match (status, reason) {
        (404, "NotFound") => {
            let name = path.rsplit('/').next().unwrap_or_default();
            match said.map(|said| &said["details"]["name"]) {
                Some(Value::String(named)) if named == name => Ok(Answer::NotFound),
                _other => Err(ClusterError::Status { status, message }),
            }
        }
        (404, _) => Err(ClusterError::NotServed(path.to_owned())),
        (401, _) => Err(ClusterError::Unauthorized),
        (403, _) if denied => Err(ClusterError::Denied(message)),
        (403, _) => Err(ClusterError::Forbidden(message)),
        (409, _) => Err(ClusterError::Conflict(message)),
        (status, _) => Err(ClusterError::Status { status, message }),
    }
}

/// A refusal of a Secret without words that may be the Secret's: of a webhook, of somebody's policy, of validation.
fn unquoted(error: ClusterError) -> ClusterError {
    let withheld = || "what it says is not shown: it may quote the Secret".to_owned();
    match error {
        ClusterError::Denied(message) if message.contains("'regent-lock-") => ClusterError::Denied(message),
        ClusterError::Forbidden(message)
            if [" cannot create resource ", " cannot patch resource "].iter().any(|words| message.contains(words)) =>
        {
            ClusterError::Forbidden(message)
        }
        ClusterError::Denied(_) | ClusterError::Forbidden(_) => ClusterError::Denied(withheld()),
        ClusterError::Status { status, .. } => ClusterError::Status { status, message: withheld() },
        ClusterError::Conflict(_) => ClusterError::Conflict("it exists".to_owned()),
        other @ (ClusterError::Unreachable(_)
        | ClusterError::Late(_)
        | ClusterError::Unauthorized
        | ClusterError::NotServed(_)) => other,
    }
}

/// A server's own message, in one bounded line.
fn bounded(text: &str) -> String {
    const LONGEST: usize = 400;
    one_line(text).chars().take(LONGEST).collect()
}

/// A part of a path or of a query: every byte but letters, digits and `-_.~` as `%XX`.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.extend(["%", &format!("{byte:02X}")]);
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/apis/regent.dev/v1alpha1/authorities/prod";

    fn says(status: u16, body: &str) -> String {
        match judged(status, PATH, body.as_bytes()) {
            Ok(Answer::Object(object)) => object.to_string(),
            Ok(Answer::NotFound) => "absent".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn absent_is_only_what_the_api_server_says_in_json_about_this_very_object() {
        let status = |reason: &str, name: &str| {
            format!(
                r#"{{"kind":"Status","status":"Failure","message":"no","reason":"{reason}","details":{{"name":"{name}"}}}}"#
            )
        };
        assert_eq!(says(404, &status("NotFound", "prod")), "absent");
        for (code, body) in [
            (404, "404 page not found\n".to_owned()),
            (404, status("NotFound", "other")),
            (404, status("Unknown", "prod")),
            (404, "{}".to_owned()),
            (404, r#"{"kind":"Status","reason":"NotFound"}"#.to_owned()),
            (403, status("Forbidden", "prod")),
            (500, status("NotFound", "prod")),
            (504, status("Timeout", "prod")),
            (200, "no json".to_owned()),
        ] {
            assert_ne!(says(code, &body), "absent", "{code} {body}");
            assert!(judged(code, PATH, body.as_bytes()).is_err(), "{code} {body}");
        }
    }

    #[test]
    fn a_policy_is_told_from_missing_rights_by_its_cause() {
        let policy =
            r#"{"kind":"Status","reason":"Forbidden","message":"denied","details":{"causes":[{"message":"m"}]}}"#;
        assert!(matches!(judged(403, PATH, policy.as_bytes()), Err(ClusterError::Denied(_))));
        let rbac = r#"{"kind":"Status","reason":"Forbidden","message":"cannot get","details":{}}"#;
        assert!(matches!(judged(403, PATH, rbac.as_bytes()), Err(ClusterError::Forbidden(_))));
    }

    #[test]
    fn of_a_refused_secret_only_the_lock_and_rbac_are_quoted() {
        let withheld = |error: ClusterError| unquoted(error).to_string().ends_with("it may quote the Secret");
        let lock =
            "ValidatingAdmissionPolicy 'regent-lock-prod' with binding 'regent-lock-prod' denied request: regent: no";
        assert!(!withheld(ClusterError::Denied(lock.to_owned())));
        let rbac = r#"secrets is forbidden: User "jane" cannot create resource "secrets" in API group "" in the namespace "app""#;
        assert!(!withheld(ClusterError::Forbidden(rbac.to_owned())));
        assert!(!withheld(ClusterError::Forbidden(rbac.replace("create", "patch"))));
        for text in [
            "ValidatingAdmissionPolicy 'talkative' denied request: regent: x",
            "admission webhook \"w\" denied the request: x",
        ] {
            assert!(
                withheld(ClusterError::Denied(text.to_owned())) && withheld(ClusterError::Forbidden(text.to_owned()))
            );
        }
        assert!(withheld(ClusterError::Status { status: 422, message: "data: Invalid value: x".to_owned() }));
    }
}
