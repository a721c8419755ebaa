//! The wire, as Vault's clients speak it: paths and bodies in, JSON out.
//!
//! ```text
//! PUT /v1/regent/<authority>/decrypt/<key>  {"ciphertext":".."}        {"data":{"plaintext":".."}}
//! PUT /v1/regent/<authority>/encrypt/<key>  {"plaintext":".."}         {"data":{"ciphertext":".."}}
//! PUT /v1/auth/<path>/login                 {"jwt":"..","role":".."}   {"auth":{"client_token":".."}}
//! ```
//! POST is the same. A failure is `{"errors":[".."]}` with one entry, always JSON: Vault's client takes an empty 404 for a
//! key that is empty.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use regent_sops::{DataKey, Plaintext, Wiping};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::unanswered::Unanswered;

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// A data key is asked for.
    Decrypt(Key),
    /// A data key is to be wrapped.
    Encrypt(Key),
    /// A service account says who it is.
    Login,
}

/// A key by its path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// The engine's path.
    pub(super) engine: String,
    /// The key's name.
    pub(super) name: String,
}

impl Route {
    /// Reads method and path; the path as it was sent.
    pub(super) fn of(method: &Method, path: &str) -> Result<Self, Unanswered> {
        let parts: Option<Vec<String>> =
            path.strip_prefix("/v1/").and_then(|path| path.split('/').map(decoded).collect());
        let parts = parts.filter(|parts| parts.iter().all(|part| !part.is_empty())).ok_or(Unanswered::NoRoute)?;
        let route = match parts.as_slice() {
            [auth, path @ .., login] if auth == "auth" && login == "login" && !path.is_empty() => Self::Login,
            [engine @ .., what, name] if !engine.is_empty() => {
                let key = Key { engine: engine.join("/"), name: name.clone() };
                match what.as_str() {
                    "decrypt" => Self::Decrypt(key),
                    "encrypt" => Self::Encrypt(key),
                    _other => return Err(Unanswered::NoRoute),
                }
            }
            _other => return Err(Unanswered::NoRoute),
        };
        if *method == Method::PUT || *method == Method::POST { Ok(route) } else { Err(Unanswered::Method) }
    }
}

/// A part of a path with its `%XX` decoded; `None` for one that is none.
fn decoded(part: &str) -> Option<String> {
    let mut rest = part.as_bytes().iter();
    let mut bytes = Vec::with_capacity(part.len());
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    while let Some(byte) = rest.next() {
        bytes.push(if *byte == b'%' { digit(rest.next()?)? << 4 | digit(rest.next()?)? } else { *byte });
    }
    String::from_utf8(bytes).ok()
}

/// The token of a request; `None` where there is none that could be one.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-vault-token")?.to_str().ok().filter(|token| !token.is_empty())
}

/// Passes for a request that names no namespace but the root.
pub(super) fn expect_root(headers: &HeaderMap) -> Result<(), Unanswered> {
    let names_root = |value: &HeaderValue| matches!(value.as_bytes(), b"" | b"/" | b"root" | b"root/");
    if headers.get_all("x-vault-namespace").iter().all(names_root) { Ok(()) } else { Err(Unanswered::VaultNamespace) }
}

/// The document's `enc`.
pub(super) fn ciphertext(body: &[u8]) -> Result<Cow<'_, str>, Unanswered> {
    #[derive(Deserialize)]
    struct Asked<'a> {
        #[serde(borrow)]
        ciphertext: Cow<'a, str>,
    }
    let asked: Asked<'_> = serde_json::from_slice(body).map_err(|_| Unanswered::Body("`ciphertext`"))?;
    Ok(asked.ciphertext)
}

/// The data key that is to be wrapped.
pub(super) fn plaintext(body: &[u8]) -> Result<DataKey, Unanswered> {
    #[derive(Deserialize)]
    struct Asked<'a> {
        #[serde(borrow)]
        plaintext: Secret<'a>,
    }
    let asked: Asked<'_> = serde_json::from_slice(body).map_err(|_| Unanswered::Body("`plaintext`"))?;
    let bytes = STANDARD.decode(asked.plaintext.0.as_bytes()).map(Plaintext::new);
    bytes.ok().and_then(|bytes| DataKey::from_plaintext(&bytes)).ok_or(Unanswered::NoDataKey)
}

/// A login.
#[derive(Deserialize)]
pub(super) struct Credentials<'a> {
    #[serde(borrow)]
    pub(super) jwt: Secret<'a>,
    #[serde(borrow)]
    pub(super) role: Cow<'a, str>,
}

/// Who wants to log in, and as what.
pub(super) fn credentials(body: &[u8]) -> Result<Credentials<'_>, Unanswered> {
    serde_json::from_slice(body).map_err(|_| Unanswered::Body("`jwt` and `role`"))
}

/// A secret in a body: no Debug. It borrows from the body unless it was escaped, and a freed copy is wiped as all memory is.
#[derive(Deserialize)]
pub(super) struct Secret<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// What is answered, and can be nothing else. Holds secrets: no Debug, wiped when it goes.
pub(super) struct Answer(Zeroizing<Vec<u8>>);

impl Answer {
    /// A data key.
    pub(super) fn data_key(data_key: &DataKey) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(64));
        #[expect(clippy::disallowed_methods, reason = "the one exit of data keys")]
        STANDARD.encode_string(data_key.expose(), &mut text);
        Self::of(r#"{"data":{"plaintext":"#, &text)
    }

    /// A wrapped data key.
    pub(super) fn wrapped(enc: &str) -> Self {
        Self::of(r#"{"data":{"ciphertext":"#, enc)
    }

    /// A token.
    pub(super) fn client_token(token: &str) -> Self {
        Self::of(r#"{"auth":{"client_token":"#, token)
    }

    fn of(head: &str, text: &str) -> Self {
        let mut body = Wiping::with_capacity(head.len() + text.len() + 16);
        body.push(head.as_bytes());
        serde_json::to_writer(&mut body, text).expect("a string is JSON, and memory takes every byte");
        body.push(b"}}");
        Self(body.finish())
    }
}

/// The response to a request.
pub(super) fn response(answer: Result<Answer, Unanswered>) -> Response<Full<Bytes>> {
    let (status, body) = match answer {
        Ok(Answer(body)) => (StatusCode::OK, Bytes::from_owner(body)),
        Err(unanswered) => {
            let errors = serde_json::json!({ "errors": [unanswered.line()] });
            (unanswered.http(), Bytes::from(errors.to_string()))
        }
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("PUT, POST"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(engine: &str, name: &str) -> Key {
        Key { engine: engine.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn an_engine_may_be_nested_and_a_name_encoded() {
        for (path, route) in [
            ("/v1/regent/prod/decrypt/app", Route::Decrypt(key("regent/prod", "app"))),
            ("/v1/a/b/c/decrypt/x%20y", Route::Decrypt(key("a/b/c", "x y"))),
            ("/v1/regent/prod/encrypt/a%2Eb", Route::Encrypt(key("regent/prod", "a.b"))),
            ("/v1/auth/regent/login", Route::Login),
            ("/v1/auth/a/b/login", Route::Login),
        ] {
            for method in [Method::PUT, Method::POST] {
                assert_eq!(Route::of(&method, path).as_ref(), Ok(&route), "{path}");
            }
            assert_eq!(Route::of(&Method::GET, path), Err(Unanswered::Method), "{path}");
        }
    }

    #[test]
    fn every_other_path_is_none() {
        for path in [
            "/",
            "/v1",
            "/v1/",
            "/v1/decrypt/app",
            "/v1/regent/prod/decrypt",
            "/v1/regent/prod/decrypt/",
            "/v1/regent//decrypt/app",
            "/v1/regent/prod/rewrap/app",
            "/v1/regent/prod/decrypt/%",
            "/v1/regent/prod/decrypt/%g0",
            "/v1/regent/prod/decrypt/%ff",
            "/v1/auth/login",
            "/v2/regent/prod/decrypt/app",
            "/v1/sys/health",
        ] {
            for method in [Method::PUT, Method::GET] {
                assert_eq!(Route::of(&method, path), Err(Unanswered::NoRoute), "{path}");
            }
        }
    }

    #[test]
    fn only_the_root_namespace_is_one() {
        let with = |name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("X-Vault-Namespace", HeaderValue::from_static(name));
            expect_root(&headers)
        };
        assert!(expect_root(&HeaderMap::new()).is_ok() && with("root").is_ok() && with("").is_ok());
        assert!(with("team").is_err() && with("root/team").is_err());
    }

    #[test]
    fn a_body_is_an_object_with_that_text_and_other_fields_do_not_matter() {
        assert_eq!(ciphertext(br#"{"context":1,"ciphertext":"a\/b"}"#).unwrap(), "a/b");
        for body in [
            "",
            "null",
            "[]",
            "{}",
            r#""x""#,
            r#"{"ciphertext":1}"#,
            r#"{"ciphertext":null}"#,
            r#"{"ciphertext":"x""#,
            r#"{"ciphertext":"x"} x"#,
            r#"{"ciphertext":"x","ciphertext":"y"}"#,
        ] {
            assert_eq!(ciphertext(body.as_bytes()), Err(Unanswered::Body("`ciphertext`")), "{body}");
        }
    }

    #[test]
    fn a_data_key_has_32_bytes() {
        let of = |length: usize| format!(r#"{{"plaintext":"{}"}}"#, STANDARD.encode(vec![7; length]));
        assert!(plaintext(of(32).as_bytes()).is_ok());
        for body in [of(0), of(31), of(33), r#"{"plaintext":"?"}"#.to_owned()] {
            assert_eq!(plaintext(body.as_bytes()).err(), Some(Unanswered::NoDataKey), "{body}");
        }
    }
}
