//! Who regent is to Vault: a token from a file, or one that it logs in for, renews while it works, and gives back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::answer::{Data, Route, VaultError, refusal, said};
use super::{Question, Vault};
use crate::config;
use crate::failure::Failure;

/// How a token is come by. Never from the environment: see `environment.rs`.
pub(crate) enum Login {
    /// One that somebody made. It is neither renewed nor revoked: it is theirs.
    Token(Token),
    /// A signed token that the platform keeps in a file: a pod's projected service account, a CI's. The logins of
    /// Vault's methods `kubernetes` and `jwt` have the same body and differ in the mount alone. The file is read at every
    /// login, since it is replaced before it expires.
    Jwt {
        /// Where the method is mounted, below `auth/`.
        mount: String,
        /// The role there.
        role: String,
        /// The file.
        file: PathBuf,
    },
    /// A machine without a platform: a role, and a secret id that came wrapped, so that nobody on the way can have used it
    /// unseen.
    AppRole {
        /// Where the method is mounted, below `auth/`.
        mount: String,
        /// The role's id, which is no secret.
        role_id: String,
        /// The token that wraps the secret id.
        wrapping: Token,
    },
}

/// A token, or another secret of one line, wiped when it goes. No Debug.
pub(crate) struct Token(Zeroizing<String>);

impl Token {
    /// Reads a token file; white space around it is not part of it.
    pub(crate) fn read(file: &Path) -> Result<Self, Failure> {
        let bytes = Zeroizing::new(config::read_bounded(file, 64 << 10)?);
        let unusable = || Failure::World {
            what: "use",
            name: file.display().to_string(),
            reason: "it is no token: one line of printable characters".to_owned(),
        };
        let text = std::str::from_utf8(&bytes).map_err(|_| unusable())?.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unusable());
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// A second one, wiped like this one.
    pub(super) fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    pub(super) fn header(&self) -> Result<http::HeaderValue, VaultError> {
        let mut header = http::HeaderValue::from_str(&self.0)
            .map_err(|_| VaultError::LoginFile("its token is no line of printable characters".to_owned()))?;
        header.set_sensitive(true);
        Ok(header)
    }
}

/// What a login gave, and what is needed for the next one.
#[derive(Default)]
pub(super) struct Session {
    token: Option<Arc<Token>>,
    lease: Option<Lease>,
    /// What came wrapped; it is unwrapped once.
    secret_id: Option<Token>,
}

/// How long a token of our own is good for.
struct Lease {
    since: Instant,
    /// Zero: for ever.
    ttl: Duration,
    /// What the login gave; renewals are capped by the token's longest life.
    first: Duration,
    renewable: bool,
    /// A batch token is not stored, so it cannot be revoked.
    revocable: bool,
}

impl Lease {
    /// The last third is for the request that is about to be sent, and for what goes wrong with the renewal.
    fn is_due(&self) -> bool {
        !self.ttl.is_zero() && self.since.elapsed() >= self.ttl * 2 / 3
    }
}

impl Vault {
    /// The token to ask with. A token of our own is renewed, or replaced by another login, when two thirds of its life are
    /// over, and replaced where it is the one that was found to be `over`.
    pub(super) async fn token(&self, over: Option<&Arc<Token>>) -> Result<Arc<Token>, VaultError> {
        // One login for all who wait for it.
        let mut session = self.session.lock().await;
        if let Some(token) = session.token.clone()
            && !over.is_some_and(|over| Arc::ptr_eq(over, &token))
        {
            let Some(lease) = session.lease.as_mut().filter(|lease| lease.is_due()) else { return Ok(token) };
            if lease.renewable && self.renew(&token, lease).await {
                return Ok(token);
            }
        }
        let (token, lease) = match &self.login {
            Login::Token(token) => (token.duplicate(), None),
            Login::Jwt { mount, role, file } => {
                let jwt = Token::read(file).map_err(|failure| VaultError::LoginFile(failure.to_string()))?;
                self.log_in(mount, role, &JwtLogin { role, jwt: &jwt.0 }).await?
            }
            Login::AppRole { mount, role_id, wrapping } => {
                // Kept before anything else is waited for: whoever gives up must not lose it.
                let secret_id = match session.secret_id.as_ref() {
                    Some(secret_id) => secret_id,
                    None => session.secret_id.insert(self.unwrap(mount, wrapping).await?),
                };
                self.log_in(mount, role_id, &AppRoleLogin { role_id, secret_id: &secret_id.0 }).await?
            }
        };
        let token = Arc::new(token);
        (session.token, session.lease) = (Some(Arc::clone(&token)), lease);
        Ok(token)
    }

    /// Whether a 403 may mean that the token is over, and another login helps.
    pub(super) fn can_log_in_again(&self) -> bool {
        match self.login {
            Login::Token(_) => false,
            Login::Jwt { .. } | Login::AppRole { .. } => true,
        }
    }

    /// Whether the login's own secret is used up: another run cannot have it.
    pub(crate) async fn is_used_up(&self) -> bool {
        self.session.lock().await.secret_id.is_some()
    }

    /// Revokes a token that a login gave. Whoever asks something afterwards logs in again.
    pub(crate) async fn leave(&self) -> Result<(), VaultError> {
        let mut session = self.session.lock().await;
        let (token, lease) = (session.token.take(), session.lease.take());
        let (Some(token), Some(Lease { revocable: true, .. })) = (token, lease) else { return Ok(()) };
        let question = Question::post("auth/token/revoke-self", Bytes::new());
        self.persist(&question, Some(&token), |status, body| match status {
            200 | 204 => Ok(()),
            _other => Err(refusal(Route::Plain("revoke itself"), status, body)),
        })
        .await
    }

    /// Whether the token lives on for long enough to be worth it: at least a third of what a login gives.
    async fn renew(&self, token: &Token, lease: &mut Lease) -> bool {
        let question = Question::post("auth/token/renew-self", Bytes::from_static(b"{}"));
        let since = Instant::now();
        let renewed = self.persist(&question, Some(token), |status, body| match status {
            200 => given(body),
            _other => Err(refusal(Route::Plain("renew itself"), status, body)),
        });
        match renewed.await {
            Ok(auth) if auth.ttl() * 3 >= lease.first => {
                (lease.since, lease.ttl, lease.renewable) = (since, auth.ttl(), auth.renewable);
                true
            }
            // Whatever the reason is, a login says it better.
            Ok(_) | Err(_) => false,
        }
    }

    async fn log_in(
        &self,
        mount: &str,
        who: &str,
        login: &impl Serialize,
    ) -> Result<(Token, Option<Lease>), VaultError> {
        let body = Zeroizing::new(serde_json::to_vec(login).expect("strings are JSON"));
        let question = Question::post(&format!("auth/{mount}/login"), Bytes::from_owner(body));
        let since = Instant::now();
        let auth = self.persist(&question, None, |status, body| match status {
            200 => given(body),
            400 | 403 | 404 => {
                let said = said(body);
                Err(VaultError::Login { mount: mount.to_owned(), who: who.to_owned(), status, said })
            }
            _other => Err(refusal(Route::Plain("log in"), status, body)),
        });
        let auth = auth.await?;
        let lease = Lease {
            since,
            ttl: auth.ttl(),
            first: auth.ttl(),
            renewable: auth.renewable,
            revocable: auth.token_type != "batch",
        };
        Ok((Token(Zeroizing::new(auth.client_token)), Some(lease)))
    }

    /// The secret id that a token wraps. The token is good for one answer; if that is lost, it looks as if somebody else had
    /// it, and has to be taken for that.
    async fn unwrap(&self, mount: &str, wrapping: &Token) -> Result<Token, VaultError> {
        #[derive(Serialize)]
        struct Lookup<'a> {
            token: &'a str,
        }
        #[derive(Deserialize)]
        struct Wrapping {
            creation_path: String,
        }
        #[derive(Deserialize)]
        struct Secret {
            secret_id: String,
        }
        let lookup = serde_json::to_vec(&Lookup { token: &wrapping.0 }).expect("a string is JSON");
        let question = Question::post("sys/wrapping/lookup", Bytes::from_owner(Zeroizing::new(lookup)));
        let looked_up = self.persist(&question, None, |status, body| match status {
            200 => match serde_json::from_slice(body) {
                Ok(Data { data: Wrapping { creation_path } }) => Ok(creation_path),
                Err(_) => Err(VaultError::Incomplete("`creation_path`")),
            },
            400 | 403 | 404 => Err(VaultError::Unwrapped),
            _other => Err(refusal(Route::Plain("look up what it wraps"), status, body)),
        });
        let made_by = looked_up.await?;
        if !makes_secret_ids(&made_by, mount) {
            return Err(VaultError::OtherWrapping { mount: mount.to_owned(), made_by });
        }
        let question = Question::post("sys/wrapping/unwrap", Bytes::new());
        self.persist(&question, Some(wrapping), |status, body| match status {
            200 => match serde_json::from_slice(body) {
                Ok(Data { data: Secret { secret_id } }) => Ok(Token(Zeroizing::new(secret_id))),
                Err(_) => Err(VaultError::Incomplete("`secret_id`")),
            },
            400 | 403 | 404 => Err(VaultError::Unwrapped),
            _other => Err(refusal(Route::Plain("unwrap it"), status, body)),
        })
        .await
    }
}

#[derive(Serialize)]
struct JwtLogin<'a> {
    role: &'a str,
    jwt: &'a str,
}

#[derive(Serialize)]
struct AppRoleLogin<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

/// What a login or a renewal gives.
#[derive(Deserialize)]
struct Auth {
    client_token: String,
    lease_duration: u64,
    renewable: bool,
    #[serde(default)]
    token_type: String,
}

impl Auth {
    fn ttl(&self) -> Duration {
        Duration::from_secs(self.lease_duration)
    }
}

fn given(body: &[u8]) -> Result<Auth, VaultError> {
    #[derive(Deserialize)]
    struct Given {
        auth: Auth,
    }
    match serde_json::from_slice(body) {
        Ok(Given { auth }) if !auth.client_token.is_empty() => Ok(auth),
        Ok(Given { .. }) | Err(_) => Err(VaultError::Incomplete("a token")),
    }
}

/// Whether a secret id of a role of this mount was made there. Anybody can wrap anything; what somebody else wraps would log
/// in as somebody else's role.
fn makes_secret_ids(path: &str, mount: &str) -> bool {
    path.strip_prefix("auth/")
        .and_then(|path| path.strip_prefix(mount))
        .and_then(|path| path.strip_prefix("/role/"))
        .and_then(|path| path.strip_suffix("/secret-id"))
        .is_some_and(|role| !role.is_empty() && !role.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_secret_id_of_this_mount_is_unwrapped() {
        assert!(makes_secret_ids("auth/approle/role/regent/secret-id", "approle"));
        assert!(makes_secret_ids("auth/team/approle/role/regent/secret-id", "team/approle"));
        for other in [
            "auth/other/role/regent/secret-id",
            "auth/approle/role/regent/custom-secret-id",
            "auth/approle/role/regent/x/secret-id",
            "auth/approle/role//secret-id",
            "auth/approle2/role/regent/secret-id",
            "sys/wrapping/wrap",
            "cubbyhole/response",
        ] {
            assert!(!makes_secret_ids(other, "approle"), "{other}");
        }
    }

    #[test]
    fn a_token_is_due_when_two_thirds_of_its_life_are_over() {
        let lease = |age: u64, ttl: u64| Lease {
            since: Instant::now().checked_sub(Duration::from_secs(age)).unwrap(),
            ttl: Duration::from_secs(ttl),
            first: Duration::from_secs(ttl),
            renewable: true,
            revocable: true,
        };
        assert!(!lease(390, 600).is_due() && lease(400, 600).is_due());
        assert!(!lease(4000, 0).is_due(), "a token without an end is never due");
    }
}
