//! Logins of service accounts: the JWT that kustomize-controller asked the API server for, in exchange for a short token.
//!
//! The API server vouches for the JWT, for this endpoint's address as its audience. What it said is remembered for a
//! minute: kustomize-controller sends the same JWT in each reconcile.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::unanswered::{LoginProblem, Unanswered};
use crate::cluster::review::review;
use crate::cluster::{Cluster, ClusterError};

/// What a JWT says of itself. It holds only once the API server vouched for it.
pub(super) struct Claims {
    /// `sub` without its prefix, in its two parts.
    pub(super) namespace: String,
    pub(super) account: String,
    /// `exp`, in seconds of Unix.
    pub(super) expires: u64,
}

impl Claims {
    /// Reads the claims of a service account's token for this audience. What is none is not worth a question.
    pub(super) fn of(jwt: &str, audience: &str, now: u64) -> Option<Self> {
        #[derive(Deserialize)]
        struct Payload {
            aud: Audiences,
            sub: String,
            exp: u64,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Audiences {
            One(String),
            Several(Vec<String>),
        }
        let mut parts = jwt.split('.');
        let (_header, payload) = (parts.next()?, parts.next()?);
        let Payload { aud, sub, exp } = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        let is_for_us = match aud {
            Audiences::One(one) => one == audience,
            Audiences::Several(several) => several.iter().any(|one| one == audience),
        };
        let (namespace, account) = sub.strip_prefix(ACCOUNT)?.split_once(':')?;
        (is_for_us && now < exp).then(|| Self {
            namespace: namespace.to_owned(),
            account: account.to_owned(),
            expires: exp,
        })
    }

    /// The user name of the account, as the API server says it.
    pub(super) fn user(&self) -> String {
        format!("{ACCOUNT}{}:{}", self.namespace, self.account)
    }

    /// The role that kustomize-controller logs this account in as.
    pub(super) fn role(&self) -> String {
        format!("{}_{}", self.namespace, self.account)
    }
}

const ACCOUNT: &str = "system:serviceaccount:";

/// What the API server said of tokens.
pub(super) struct Reviews {
    known: Mutex<HashMap<[u8; 32], Known>>,
    /// Room for questions that are under way.
    room: Semaphore,
}

#[derive(Clone)]
struct Known {
    /// `None`: the API server does not vouch for it.
    user: Option<String>,
    until: Instant,
}

/// How long an answer is remembered: a token whose account was deleted meanwhile logs in that much longer.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Most answers remembered.
const MOST_KNOWN: usize = 1000;

/// Questions at one time; whoever sends tokens that are none must not keep the API server busy.
const QUESTIONS_AT_ONCE: usize = 8;

impl Reviews {
    pub(super) fn new() -> Self {
        Self { known: Mutex::default(), room: Semaphore::new(QUESTIONS_AT_ONCE) }
    }

    /// The user name behind a token for this audience.
    pub(super) async fn user(&self, cluster: &Cluster, jwt: &str, audience: &str) -> Result<String, Unanswered> {
        let not_authentic = || Unanswered::Login(LoginProblem::NotAuthentic { audience: audience.to_owned() });
        let mut hasher = Sha256::new();
        for part in [audience, jwt] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        let digest = hasher.finalize().into();
        if let Some(known) = self.known(&digest) {
            return known.user.ok_or_else(not_authentic);
        }
        // Closed by nobody.
        let _room = self.room.acquire().await.map_err(|_| Unanswered::NoReview)?;
        // Somebody else may have asked the same meanwhile.
        if let Some(known) = self.known(&digest) {
            return known.user.ok_or_else(not_authentic);
        }
        let user = review(cluster, jwt, audience).await.map_err(|error| of_cluster(&error))?;
        self.remember(digest, user.clone(), Instant::now());
        user.ok_or_else(not_authentic)
    }

    fn known(&self, digest: &[u8; 32]) -> Option<Known> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(digest).filter(|known| Instant::now() < known.until).cloned()
    }

    fn remember(&self, digest: [u8; 32], user: Option<String>, now: Instant) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KNOWN {
            known.retain(|_, known| now < known.until);
        }
        if known.len() >= MOST_KNOWN {
            // Asked again, each gives the same answer.
            known.clear();
        }
        known.insert(digest, Known { user, until: now + REMEMBERED });
    }
}

/// Why there was no review. Only the kind is told: the API server's own words may quote what it was sent.
fn of_cluster(error: &ClusterError) -> Unanswered {
    let kind = match error {
        ClusterError::Unreachable(_) => "unreachable",
        ClusterError::Late(_) => "late",
        ClusterError::Unauthorized => "unauthorized",
        ClusterError::Forbidden(_) | ClusterError::Denied(_) => "forbidden",
        ClusterError::Conflict(_) => "conflict",
        ClusterError::NotServed(_) => "not served",
        ClusterError::Status { .. } => "status",
    };
    tracing::warn!(kind, "the API server did not review a token");
    if error.is_final() { Unanswered::Login(LoginProblem::NotAllowed) } else { Unanswered::NoReview }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUDIENCE: &str = "https://regent.flux-system.svc:8200";

    fn claims(payload: &str) -> Option<Claims> {
        let jwt = ["e30", &URL_SAFE_NO_PAD.encode(payload), "c2ln"].join(".");
        Claims::of(&jwt, AUDIENCE, 1000)
    }

    #[test]
    fn the_claims_are_those_of_an_account_for_this_audience_until_it_expires() {
        let own = claims(&format!(r#"{{"aud":["{AUDIENCE}"],"sub":"system:serviceaccount:team:app.v2","exp":1001}}"#));
        let own = own.unwrap();
        assert_eq!((own.user().as_str(), own.role().as_str()), ("system:serviceaccount:team:app.v2", "team_app.v2"));
        assert!(claims(&format!(r#"{{"aud":"{AUDIENCE}","sub":"system:serviceaccount:t:a","exp":1001}}"#)).is_some());
        for payload in [
            r#"{"aud":["https://kubernetes.default.svc"],"sub":"system:serviceaccount:team:app","exp":1001}"#
                .to_owned(),
            format!(r#"{{"aud":["{AUDIENCE}/"],"sub":"system:serviceaccount:team:app","exp":1001}}"#),
            format!(r#"{{"aud":["{AUDIENCE}"],"sub":"system:serviceaccount:team:app","exp":1000}}"#),
            format!(r#"{{"aud":["{AUDIENCE}"],"sub":"system:node:app","exp":1001}}"#),
            format!(r#"{{"aud":["{AUDIENCE}"],"exp":1001}}"#),
            "no json".to_owned(),
        ] {
            assert!(claims(&payload).is_none(), "{payload}");
        }
        for text in ["", "a", "a.b", "..", "e30.?.x"] {
            assert!(Claims::of(text, AUDIENCE, 0).is_none(), "{text}");
        }
    }

    #[test]
    fn what_the_api_server_said_is_remembered_for_a_while_and_not_without_end() {
        let reviews = Reviews::new();
        let now = Instant::now();
        let digest = |number: usize| -> [u8; 32] { Sha256::digest(number.to_be_bytes()).into() };
        reviews.remember(digest(0), Some("user".to_owned()), now);
        assert_eq!(reviews.known(&digest(0)).unwrap().user.as_deref(), Some("user"));
        reviews.remember(digest(1), Some("user".to_owned()), now.checked_sub(REMEMBERED).unwrap());
        assert!(reviews.known(&digest(1)).is_none());
        for number in 0..3 * MOST_KNOWN {
            reviews.remember(digest(number), None, now);
            assert!(reviews.known.lock().unwrap().len() <= MOST_KNOWN);
        }
    }
}
