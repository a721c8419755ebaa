//! Each known revision rendered again through argocd-server, past the cache: the repo-server then overwrites its entry.
//!
//! That reaches what Argo CD would render today. An entry of a revision with another source (its path, the plugin's
//! settings), of another list of the cluster's APIs, or of a revision that nobody named stays for its 24 hours.
//!
//! The plugin is told that the Application names the revision itself, which is a commit here. So the rule that allows the
//! Application has to allow such: its `revisions` say `*`, or the commits. Else the plugin refuses, and nothing is overwritten.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use regent_core::rules;
use regent_core::settle::Revision;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::entry::Rendered;
use super::{Cached, CachesError, Stale};
use crate::cluster::encoded;
use crate::config;
use crate::failure::{Failure, innermost};
use crate::tls::{self, Roots};

/// argocd-server, and as whom it is asked. No Debug: it holds a token.
pub(crate) struct Server {
    /// Scheme, host, port and root path.
    address: String,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    token: Option<HeaderValue>,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overwritten {
    /// Revisions that were rendered again, and hold no value now.
    pub(crate) revisions: usize,
}

impl Server {
    /// Reads the files that are named. Nothing is sent yet.
    ///
    /// # Errors
    /// Certificates or a token that cannot be read.
    pub(crate) fn new(written: &rules::Server) -> Result<Self, Failure> {
        let rules::Server { address, plaintext, ca_file, token_file, root_path } = written;
        let tls = tls::client(&Roots::file_or_system(ca_file.as_deref()), None)?;
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls);
        let builder = if *plaintext { builder.https_or_http() } else { builder.https_only() };
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT));
        let client = Client::builder(TokioExecutor::new()).build(builder.enable_http1().wrap_connector(http));
        let token = match token_file {
            Some(file) => {
                let bearer = Zeroizing::new(format!("Bearer {}", config::one_line_of(file)?.as_str()));
                let mut header = HeaderValue::from_str(&bearer).map_err(|_| config::no_line(file))?;
                header.set_sensitive(true);
                Some(header)
            }
            None => None,
        };
        let scheme = if *plaintext { "http" } else { "https" };
        Ok(Self { address: format!("{scheme}://{address}{root_path}"), client, token })
    }

    /// Whether it answers, and takes the token, where there is one. Nothing is rendered. It answers everybody who asks who he
    /// is, and says of a token that it does not know that nobody is logged in.
    ///
    /// # Errors
    /// It does not.
    pub(crate) async fn reachable(&self) -> Result<(), CachesError> {
        let exchange = async {
            let response = self.ask(format!("{}/api/v1/session/userinfo", self.address)).await?;
            match response.status().as_u16() {
                200 => {
                    let user: User = serde_json::from_slice(&body(response).await?).map_err(|_| STRANGE)?;
                    let is_known = user.is_logged_in || self.token.is_none();
                    is_known.then_some(()).ok_or(CachesError::Unauthorized)
                }
                401 => Err(CachesError::Unauthorized),
                _ => Err(STRANGE),
            }
        };
        tokio::time::timeout(CONNECT, exchange).await.map_err(|_| CachesError::Late(CONNECT))?
    }

    /// One request, as whoever has the token.
    async fn ask(&self, uri: String) -> Result<Response<Incoming>, CachesError> {
        let mut request = Request::get(uri);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        let request = request.body(Empty::new()).map_err(|error| CachesError::Unreachable(innermost(&error)))?;
        let response = self.client.request(request).await;
        response.map_err(|error| CachesError::Unreachable(innermost(&error)))
    }

    /// Renders one revision, and makes sure that no value came of it.
    async fn overwrite(&self, cached: &Cached, revision: &Revision, stale: &Stale<'_>) -> Result<(), CachesError> {
        let Cached { namespace, name, destination_namespace, revisions: _ } = cached;
        let application = format!("{namespace}/{name}");
        let path = format!("{}/api/v1/applications/{}/manifests", self.address, encoded(name));
        let uri = format!("{path}?noCache=true&appNamespace={}{}", encoded(namespace), query(revision));
        let exchange = async {
            let response = self.ask(uri).await?;
            match response.status().as_u16() {
                200 => body(response).await,
                401 => Err(CachesError::Unauthorized),
                403 => Err(CachesError::Forbidden(application.clone())),
                status => Err(CachesError::NotRendered {
                    status,
                    code: code(response).await,
                    application: application.clone(),
                    revision: told(revision),
                }),
            }
        };
        let body = tokio::time::timeout(ONE_RENDERING, exchange).await;
        let body = body.map_err(|_| CachesError::Late(ONE_RENDERING))??;
        let Rendered { manifests } = serde_json::from_slice(&body).map_err(|_| STRANGE)?;
        let destination = destination_namespace.as_deref();
        if manifests.iter().any(|manifest| manifest.holds_value_of(stale.identities, destination)) {
            return Err(CachesError::StillRenders { application, revision: told(revision) });
        }
        Ok(())
    }
}

/// What argocd-server says of whoever asks.
#[derive(Deserialize)]
struct User {
    #[serde(rename = "loggedIn", default)]
    is_logged_in: bool,
}

/// Has every known revision rendered again, one after the other.
///
/// # Errors
/// The first that was not rendered, or came with a value: see [`CachesError`].
pub(crate) async fn through_server(server: &Server, stale: &Stale<'_>) -> Result<Overwritten, CachesError> {
    let mut revisions = 0;
    for cached in stale.applications {
        for revision in &cached.revisions {
            server.overwrite(cached, revision, stale).await?;
            revisions += 1;
        }
    }
    Ok(Overwritten { revisions })
}

/// A revision as argocd-server's query has it.
fn query(revision: &Revision) -> String {
    match revision {
        Revision::One(revision) => format!("&revision={}", encoded(revision)),
        Revision::Of { source, revision } => format!("&sourcePositions={source}&revisions={}", encoded(revision)),
    }
}

/// A revision in words.
fn told(revision: &Revision) -> String {
    match revision {
        Revision::One(revision) => format!("`{revision}`"),
        Revision::Of { source, revision } => format!("`{revision}` of source {source}"),
    }
}

/// The whole body of an answer of argocd-server. It answers 200 to paths that it does not have too, with its pages.
async fn body(response: Response<Incoming>) -> Result<Zeroizing<Vec<u8>>, CachesError> {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next() != Some("application/json") {
        return Err(STRANGE);
    }
    whole(response.into_body(), MAX_BODY_BYTES).await
}

/// The code of regent's refusal in an answer, `regent[allow]`, and nothing else of it: other words may quote what was
/// rendered.
async fn code(response: Response<Incoming>) -> Option<String> {
    let bytes = whole(response.into_body(), MAX_ERROR_BYTES).await.ok()?;
    let (_, rest) = std::str::from_utf8(&bytes).ok()?.split_once("regent[")?;
    let (code, _) = rest.split_once(']')?;
    (code.len() <= 20 && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
        .then(|| format!("regent[{code}]"))
}

async fn whole(mut body: Incoming, limit: usize) -> Result<Zeroizing<Vec<u8>>, CachesError> {
    let mut bytes = Zeroizing::new(Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| CachesError::Unreachable("its answer was cut off".to_owned()))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(CachesError::Oversized(limit));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

const STRANGE: CachesError = CachesError::Strange("argocd-server");

const CONNECT: Duration = Duration::from_secs(5);

/// How long the repo-server may take for one revision: a clone, and the plugin's own 90 seconds behind it.
const ONE_RENDERING: Duration = Duration::from_secs(180);

/// Largest answer read, in bytes; Argo CD's own bound (`ARGOCD_GRPC_MAX_SIZE_MB`) is 200 MB.
const MAX_BODY_BYTES: usize = 200 << 20;

/// Of an error.
const MAX_ERROR_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests;
