//! An artifact, fetched from source-controller: plain HTTP inside the cluster, or HTTPS by the system's roots. One
//! request and no second one: whoever waits for the next revision asks again.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH};
use http::uri::Scheme;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::{Artifact, Digest};
use crate::failure::{Failure, innermost};
use crate::tls::{self, Roots};

/// What the status of a source offers (`status.artifact`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offered {
    pub(crate) url: String,
    pub(crate) digest: String,
    /// Bytes, where it says so.
    pub(crate) size: Option<u64>,
}

/// Fetches artifacts.
pub(crate) struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    /// Most bytes of one artifact.
    largest: u64,
    within: Duration,
}

impl Fetcher {
    /// `largest` is the most bytes that one artifact may have as it is sent: `limits.upload`.
    ///
    /// # Errors
    /// TLS that does not fit together.
    pub(crate) fn new(largest: u64) -> Result<Self, Failure> {
        let tls = tls::client(&Roots::System, None)?;
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT));
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        // Artifacts come minutes apart: a connection that waits for the next one only waits to be closed.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(https.wrap_connector(http));
        Ok(Self { client, largest, within: WITHIN })
    }

    /// Fetches what is offered, and compares its digest before anybody looks into it.
    ///
    /// # Errors
    /// An offer that is not followed, no answer in time, another answer than 200 (redirects too), more bytes than
    /// allowed or told, or other bytes.
    pub(crate) async fn fetch(&self, offered: &Offered) -> Result<Artifact, Failure> {
        let Offered { url, digest, size } = offered;
        let failed = |reason: String| Failure::World { what: "fetch", name: url.clone(), reason };
        // An address with a password is not told.
        let uri = address(url).map_err(|reason| Failure::World {
            what: "fetch",
            name: "the artifact".to_owned(),
            reason: reason.to_owned(),
        })?;
        let digest = Digest::parse(digest).map_err(|rule| failed(rule.to_owned()))?;
        let limit = size.unwrap_or(self.largest);
        if limit > self.largest {
            return Err(failed(format!("it has {limit} bytes, more than {} (`limits.upload`)", self.largest)));
        }
        let exchange = async {
            let mut request = Request::get(uri);
            if let Some(headers) = request.headers_mut() {
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
            let request = request.body(Empty::new()).map_err(|error| innermost(&error))?;
            let response = self.client.request(request).await.map_err(|error| innermost(&error))?;
            whole(response, limit).await
        };
        let gzip = tokio::time::timeout(self.within, exchange).await;
        let gzip = gzip.map_err(|_| failed(format!("it did not arrive within {} s", self.within.as_secs())))?;
        Artifact::checked(gzip.map_err(failed)?, digest, url)
    }
}

/// An address that is followed: nothing in it is a secret, because it stands in errors.
fn address(url: &str) -> Result<Uri, &'static str> {
    let uri: Uri = url.parse().map_err(|_| "its address is no URL")?;
    let known = uri.scheme() == Some(&Scheme::HTTP) || uri.scheme() == Some(&Scheme::HTTPS);
    match uri.authority() {
        Some(authority) if known && !authority.as_str().contains('@') => Ok(uri),
        Some(_) if known => Err("its address holds a user, and an artifact's has none"),
        Some(_) | None => Err("its address is neither `http://` nor `https://`"),
    }
}

async fn whole(response: Response<Incoming>, limit: u64) -> Result<Bytes, String> {
    let too_large = || format!("it has more than {limit} bytes");
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Err("it is not there (404): replaced, or its server was restarted".to_owned()),
        other => return Err(format!("its server answers {}", other.as_u16())),
    }
    let told = response.headers().get(CONTENT_LENGTH).and_then(|told| told.to_str().ok()?.parse::<u64>().ok());
    if told.is_some_and(|told| told > limit) {
        return Err(too_large());
    }
    let mut body = response.into_body();
    let mut bytes = BytesMut::with_capacity(usize::try_from(told.unwrap_or_default()).map_err(|_| too_large())?);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| "it was cut off".to_owned())?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() as u64 + data.len() as u64 > limit {
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

const CONNECT: Duration = Duration::from_secs(5);

/// How long an artifact may take, from the connection to its last byte.
const WITHIN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
