//! `POST /hook/<authority>`: the server of a Git repository tells that it moved, and whoever follows it looks at once. Nothing
//! of what it tells is read: a right hook only asks for what would happen a little later anyway.
//!
//! It proves itself by an HMAC-SHA256 of the exact body, in hexadecimal after `sha256=`: in `X-Hub-Signature-256` (GitHub,
//! Gitea, Forgejo) or `X-Signature` (Flux' `generic-hmac`). GitLab's `X-Gitlab-Token` is the secret itself, and these
//! listeners are plain HTTP: it is not taken.

use std::sync::Arc;

use bytes::Bytes;
use hmac::{Hmac, Mac as _};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use regent_core::name::AuthorityName;
use sha2::Sha256;
use tokio::sync::Semaphore;

use super::wake::Wakes;
use crate::reload::Current;

/// Answers hooks.
pub(crate) struct Hooks {
    current: Arc<Current>,
    wakes: Arc<Wakes>,
    /// For those that are read at the same time.
    places: Semaphore,
}

const PREFIX: &str = "/hook/";

/// Largest body, in bytes. GitHub's may have 25 MiB, and those of pushes have a few KiB.
const MOST_BYTES: usize = 1 << 20;

/// Most hooks at once: artifacts have the same listener, and must not wait for them.
const PLACES: usize = 32;

/// One sentence for everything that is not right: who guesses learns nothing, not even which authorities there are.
const REFUSED: (StatusCode, &str) = (StatusCode::FORBIDDEN, "the hook does not prove that it knows the secret\n");

impl Hooks {
    pub(crate) fn new(current: Arc<Current>, wakes: Arc<Wakes>) -> Self {
        Self { current, wakes, places: Semaphore::new(PLACES) }
    }

    /// Whether a request is a hook, whoever sent it.
    pub(crate) fn is_one<B>(request: &Request<B>) -> bool {
        request.method() == Method::POST && request.uri().path().starts_with(PREFIX)
    }

    /// Status and body of the answer. How long the body may take is the connection's bound.
    pub(crate) async fn answer<B>(&self, request: Request<B>) -> (StatusCode, &'static str)
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let Ok(_place) = self.places.try_acquire() else {
            return (StatusCode::TOO_MANY_REQUESTS, "there are too many hooks at once\n");
        };
        let (head, mut body) = request.into_parts();
        let authority = head.uri.path().strip_prefix(PREFIX).and_then(|name| AuthorityName::parse(name).ok());
        let loaded = self.current.get().ok();
        let secret = loaded.as_ref().zip(authority.as_ref()).and_then(|(loaded, of)| loaded.hook_secret(of));
        // Under no secret where the authority has no hook: it takes as long to be refused.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.unwrap_or_default().as_bytes()) else { return REFUSED };
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return REFUSED };
            if let Some(data) = frame.data_ref() {
                bytes += data.len();
                if bytes > MOST_BYTES {
                    return (StatusCode::PAYLOAD_TOO_LARGE, "a hook has at most 1 MiB\n");
                }
                mac.update(data);
            }
        }
        // In constant time.
        let is_right = mac.verify_slice(&told(&head.headers).unwrap_or_default()).is_ok();
        match authority.filter(|_| is_right && secret.is_some()) {
            Some(authority) => {
                tracing::debug!(%authority, "a hook told that the repository moved");
                self.wakes.wake(&authority);
                (StatusCode::OK, "")
            }
            None => REFUSED,
        }
    }
}

/// The HMAC that a request tells; `None` where it tells none, or more than one.
fn told(headers: &HeaderMap) -> Option<[u8; 32]> {
    let name = ["x-hub-signature-256", "x-signature"].into_iter().find(|name| headers.contains_key(*name))?;
    let mut values = headers.get_all(name).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let digits = value.as_bytes().strip_prefix(b"sha256=")?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let mut mac = [0; 32];
    if pairs.len() != mac.len() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    for (byte, [high, low]) in mac.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(mac)
}

#[cfg(test)]
pub(super) mod tests;
