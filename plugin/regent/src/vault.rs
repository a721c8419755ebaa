//! Vault, as far as it has to be asked by now: whether it holds a handover record, and what its copy of a Secret is.
//!
//! Reads with a token, never a write; redirects are not followed, because a token would go along.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use regent_core::evidence::WitnessedVault;
use regent_core::name::{AuthorityName, Epoch, HandoverId, SecretName};
use regent_sops::Plaintext;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;

use crate::config;
use crate::failure::{Failure, innermost};

/// What Vault says of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// Certainly none.
    Absent,
    /// There: its handover id, where it can be read. A record that was deleted was there.
    Present(Option<HandoverId>),
}

/// Largest answer read; a record with 20 000 documents has some megabytes.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A token, wiped when it goes.
pub(crate) struct Token(zeroize::Zeroizing<String>);

impl Token {
    /// Reads a token file; white space around it is not part of it.
    pub(crate) fn read(file: &std::path::Path) -> Result<Self, Failure> {
        let bytes = zeroize::Zeroizing::new(config::read_bounded(file, 64 << 10)?);
        let unusable = || Failure::World {
            what: "use",
            name: file.display().to_string(),
            reason: "it is no token: one line of printable characters".to_owned(),
        };
        let text = std::str::from_utf8(&bytes).map_err(|_| unusable())?.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unusable());
        }
        Ok(Self(zeroize::Zeroizing::new(text.to_owned())))
    }
}

/// The path of a handover record below the mount.
pub(crate) fn record_path(name: &AuthorityName, epoch: Epoch) -> String {
    format!("regent/{name}/authority/{epoch}")
}

/// Asks for the record of an epoch. Everything but a clear yes or no is an error.
pub(crate) async fn record(
    vault: &WitnessedVault,
    name: &AuthorityName,
    epoch: Epoch,
    token: &Token,
) -> Result<Record, Failure> {
    let failure = |problem: String| Failure::Vault { address: vault.address.clone(), problem };
    let (status, body) = ask(vault, &record_path(name, epoch), token, tls()?).await.map_err(failure)?;
    judged(status, &body).map_err(failure)
}

/// Vault's copy of a Secret. Holds values: no Debug.
pub(crate) enum Copy {
    /// Certainly none.
    Absent,
    /// It was there, and was deleted.
    Deleted,
    /// Its fields; `None` for one that is no text.
    Fields(BTreeMap<String, Option<Plaintext>>),
}

/// Asks for the copy of a Secret. Everything but a clear answer is an error, in words.
pub(crate) async fn copy(vault: &WitnessedVault, name: &SecretName, token: &Token) -> Result<Copy, Failure> {
    let failure = |problem: String| Failure::Vault { address: vault.address.clone(), problem };
    let path = format!("{}/{}/{}", vault.prefix, name.namespace().as_str(), name.name());
    let (status, body) = ask(vault, &path, token, tls()?).await.map_err(failure)?;
    match judged(status, &body).map_err(failure)? {
        Record::Absent => Ok(Copy::Absent),
        Record::Present(_) => Ok(fields(&body)),
    }
}

/// The fields of an answer that was judged; none where there is only the metadata of what was deleted.
fn fields(body: &[u8]) -> Copy {
    let mut json: Value = serde_json::from_slice(body).unwrap_or_default();
    let Value::Object(data) = json["data"]["data"].take() else { return Copy::Deleted };
    let field = |(key, value)| match value {
        Value::String(text) => (key, Some(Plaintext::new(text.into_bytes()))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => (key, None),
    };
    Copy::Fields(data.into_iter().map(field).collect())
}

/// One read below the mount: status and body. The active node is asked, since a standby answers from what it has seen so
/// far, and a KV store of version 2, since any other says of everything that it is not there.
async fn ask(
    vault: &WitnessedVault,
    path: &str,
    token: &Token,
    tls: rustls::ClientConfig,
) -> Result<(StatusCode, Bytes), String> {
    // One connection for all questions, so that one node answers them.
    let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(https);
    let address = vault.address.trim_end_matches('/');
    let get = async |path: String, token: Option<&Token>| {
        let mut request = Request::builder().method(Method::GET).uri(format!("{address}/v1/{path}"));
        request = request.header("X-Vault-Request", "true");
        if let Some(Token(token)) = token {
            let mut header = http::HeaderValue::from_str(token).map_err(|_| "its token is none".to_owned())?;
            header.set_sensitive(true);
            request = request.header("X-Vault-Token", header);
            if !vault.namespace.is_empty() {
                request = request.header("X-Vault-Namespace", &vault.namespace);
            }
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| innermost(&error))?;
        let exchange = async {
            let response = client.request(request).await.map_err(|error| innermost(&error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|_| "the answer was cut off, or is too large".to_owned())?.to_bytes();
            Ok((head.status, body))
        };
        let late = || Err(format!("no answer within {} s", PATIENCE.as_secs()));
        tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| late())
    };
    let (status, body) = get("sys/health".to_owned(), None).await?;
    active(status, &body)?;
    let (status, body) = get(format!("sys/internal/ui/mounts/{}", vault.mount), Some(token)).await?;
    versioned(status, &body, &vault.mount)?;
    get(format!("{}/data/{path}", vault.mount), Some(token)).await
}

/// Whether the node is the active one, by status and body of `sys/health`.
fn active(status: StatusCode, body: &[u8]) -> Result<(), String> {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    match status.as_u16() {
        200 if json["initialized"] == true && json["sealed"] == false && json["standby"] == false => Ok(()),
        300..=399 => Err(REDIRECTS.to_owned()),
        status @ (429 | 472..=474) => Err(format!("it is a standby ({status}): name the active node's address")),
        501 => Err("it is not initialized (501)".to_owned()),
        503 => Err("it is sealed (503)".to_owned()),
        status => Err(format!("it does not answer as Vault does ({status})")),
    }
}

const REDIRECTS: &str = "it redirects, and a token does not go along: name the address that answers";

/// Whether the mount is a KV store of version 2.
fn versioned(status: StatusCode, body: &[u8], mount: &str) -> Result<(), String> {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    match status.as_u16() {
        200 if json["data"]["type"] == "kv" && json["data"]["options"]["version"] == "2" => Ok(()),
        200 => Err(format!("its mount `{mount}` is no KV store of version 2")),
        403 => {
            Err(format!("the token is not accepted, or there is nothing that it may read in a mount `{mount}` (403)"))
        }
        404 => Err(format!("it has no such namespace, or no mount `{mount}` (404)")),
        300..=399 => Err(REDIRECTS.to_owned()),
        status => Err(format!("it answered {status}")),
    }
}

/// Takes an answer of the KV store, version 2, for exactly what it says.
fn judged(status: StatusCode, body: &[u8]) -> Result<Record, String> {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let id = |json: &Value| HandoverId::parse(json["data"]["data"]["handoverId"].as_str()?).ok();
    match (status.as_u16(), json) {
        (200, Some(json)) if json["data"]["metadata"].is_object() => Ok(Record::Present(id(&json))),
        // A version that was deleted or destroyed is a 404 with the metadata of what was there.
        (404, Some(json)) if json["data"]["metadata"].is_object() => Ok(Record::Present(None)),
        (404, Some(json)) if json["errors"].as_array().is_some_and(Vec::is_empty) && json["warnings"].is_null() => {
            Ok(Record::Absent)
        }
        (404, _) => Err("it has no such mount or namespace, or the mount is no KV store of version 2".to_owned()),
        (403, _) => Err("the token may not read it (403)".to_owned()),
        (300..=399, _) => Err(REDIRECTS.to_owned()),
        (503, _) => Err("it is sealed, or not ready (503)".to_owned()),
        (status, _) => Err(format!("it answered {status}")),
    }
}

/// Certificates of `VAULT_CACERT` or `BAO_CACERT`, else the system's.
fn tls() -> Result<rustls::ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    let named = [config::VAULT_CACERT, config::BAO_CACERT].into_iter().find_map(config::variable);
    match named {
        Some(file) => {
            let file = std::path::PathBuf::from(file);
            let bytes = config::read_bounded(&file, 4 << 20)?;
            let unusable = |reason: String| Failure::World { what: "use", name: file.display().to_string(), reason };
            for certificate in CertificateDer::pem_slice_iter(&bytes) {
                let certificate = certificate.map_err(|error| unusable(innermost(&error)))?;
                roots.add(certificate).map_err(|error| unusable(innermost(&error)))?;
            }
            if roots.is_empty() {
                return Err(unusable("it holds no certificate".to_owned()));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config =
        config.map_err(|error| Failure::World { what: "use", name: "TLS".to_owned(), reason: innermost(&error) })?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(status: u16, body: &str) -> Result<Record, String> {
        judged(StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    #[test]
    fn only_a_clear_answer_says_that_there_is_no_record() {
        assert_eq!(says(404, r#"{"errors":[]}"#), Ok(Record::Absent));
        for (status, body) in [
            (404, "404 page not found"),
            (404, r#"{"errors":["no handler for route \"kv/data/x\". route entry not found."]}"#),
            (404, r#"{"errors":["namespace not found"]}"#),
            (404, r#"{"errors":[],"warnings":["Invalid path for a versioned K/V secrets engine"]}"#),
            (404, "{}"),
            (403, r#"{"errors":["permission denied"]}"#),
            (503, r#"{"errors":["Vault is sealed"]}"#),
            (307, ""),
            (200, "{}"),
            (200, r#"{"data":{"handoverId":"x"}}"#),
            (500, ""),
        ] {
            assert!(says(status, body).is_err(), "{status} {body}");
        }
    }

    #[test]
    fn only_the_active_node_is_asked() {
        let says = |status, body: &str| active(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        assert_eq!(says(200, r#"{"initialized":true,"sealed":false,"standby":false}"#), Ok(()));
        for (status, body, word) in [
            (200, r#"{"initialized":true,"sealed":false,"standby":true}"#, "as Vault does"),
            (200, "<html>", "as Vault does"),
            (429, r#"{"standby":true}"#, "standby"),
            (473, "{}", "standby"),
            (501, "{}", "initialized"),
            (503, r#"{"sealed":true}"#, "sealed"),
            (307, "", "redirects"),
        ] {
            let said = says(status, body).unwrap_err();
            assert!(said.contains(word), "{status} {body}: {said}");
        }
    }

    #[test]
    fn a_store_without_versions_says_of_everything_that_it_is_not_there() {
        let says = |status, body: &str| versioned(StatusCode::from_u16(status).unwrap(), body.as_bytes(), "kv");
        assert_eq!(says(200, r#"{"data":{"type":"kv","options":{"version":"2"}}}"#), Ok(()));
        for (status, body) in [
            (200, r#"{"data":{"type":"kv","options":{"version":"1"}}}"#),
            (200, r#"{"data":{"type":"kv","options":null}}"#),
            (200, r#"{"data":{"type":"transit","options":{}}}"#),
            (200, ""),
            (307, ""),
            (403, r#"{"errors":["permission denied"]}"#),
            (404, r#"{"errors":[]}"#),
            (500, ""),
        ] {
            assert!(says(status, body).is_err(), "{status} {body}");
        }
    }

    #[test]
    fn a_record_that_was_deleted_was_there() {
        let deleted = r#"{"data":{"data":null,"metadata":{"deletion_time":"2026-11-24T08:23:28Z","destroyed":false,"version":1}}}"#;
        assert_eq!(says(404, deleted), Ok(Record::Present(None)));
        let live =
            r#"{"data":{"data":{"handoverId":"0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f"},"metadata":{"version":1}}}"#;
        let id = HandoverId::parse("0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f").unwrap();
        assert_eq!(says(200, live), Ok(Record::Present(Some(id))));
    }

    #[test]
    fn a_copy_has_fields_or_was_deleted() {
        let live = br#"{"data":{"data":{"a":"x","b":1},"metadata":{"version":2}}}"#;
        let Copy::Fields(fields_of) = fields(live) else { panic!("it has fields") };
        assert_eq!(
            fields_of.iter().map(|(key, text)| (key.as_str(), text.is_some())).collect::<Vec<_>>(),
            [("a", true), ("b", false)]
        );
        let deleted = br#"{"data":{"data":null,"metadata":{"deletion_time":"x","version":1}}}"#;
        assert!(matches!(fields(deleted), Copy::Deleted));
    }
}
