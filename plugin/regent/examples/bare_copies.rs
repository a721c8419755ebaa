//! The least that copying to Vault can be: two requests for each key, a write with `cas=0` and a read, over the same HTTP and TLS
//! as regent's, and nothing that is done with the answers. What a handover costs is measured against it.
//!
//! `bare_copies ADDRESS CA_FILE TOKEN_FILE PREFIX BODIES CONCURRENCY [--reads]`: BODIES has one body of a write a line;
//! `--reads` only reads. Prints seconds.

use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, ca, token, prefix, bodies, at_once, ..] = words.as_slice() else {
        return Err("bare_copies ADDRESS CA_FILE TOKEN_FILE PREFIX BODIES CONCURRENCY [--reads]".into());
    };
    let only_reads = words.iter().any(|word| word == "--reads");
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().wrap_connector(http);
    let at_once: usize = at_once.parse()?;
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(at_once).build(https);
    let token = std::fs::read_to_string(token)?.trim().to_owned();
    let bodies: Vec<Bytes> =
        std::fs::read_to_string(bodies)?.lines().map(|line| Bytes::from(line.to_owned())).collect();
    let start = Instant::now();
    let one = async |(number, body): (usize, Bytes)| {
        let url = format!("{address}/v1/secret/data/{prefix}/s{number}");
        if !only_reads {
            ask(&client, Method::POST, &url, &token, body).await?;
        }
        ask(&client, Method::GET, &url, &token, Bytes::new()).await
    };
    stream::iter(bodies.into_iter().enumerate())
        .map(one)
        .buffer_unordered(at_once)
        .try_for_each(async |()| Ok(()))
        .await?;
    writeln!(std::io::stdout(), "{}", start.elapsed().as_secs_f64())?;
    Ok(())
}

async fn ask(
    client: &Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    method: Method,
    url: &str,
    token: &str,
    body: Bytes,
) -> Result<(), Failure> {
    let request = Request::builder().method(method).uri(url).header("X-Vault-Token", token).body(Full::new(body))?;
    let response = client.request(request).await?;
    let status = response.status();
    response.into_body().collect().await?;
    if status == 200 { Ok(()) } else { Err(format!("{url}: {status}").into()) }
}
