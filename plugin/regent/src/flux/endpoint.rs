//! Vault's transit engine, as far as kustomize-controller and `sops` ask for it: data keys are given back while Git rules,
//! and refused from the moment a witness says otherwise.
//!
//! ```text
//! connection --listener--> request --wire--> decrypt --tokens--> namespace --core: release--> data key, or one sentence
//!                                            encrypt                 |
//!                                            login --> token         witnesses, read for this request
//! ```
//! kustomize-controller asks for each document of each reconcile, on a connection of its own. Nothing that was answered is
//! kept: the witnesses are read for each request again, or a moment before it (see [`foresight`]).

mod certificate;
mod foresight;
mod listener;
mod login;
mod tokens;
mod unanswered;
mod wire;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Body;
use regent_core::evidence::Holder;
use regent_core::flux::bound::{self, Bound};
use regent_core::flux::release::{self, Asked, Withheld};
use regent_core::name::{AuthorityName, Epoch, Namespace, ObjectName};
use regent_core::rules::FluxApplication;
use regent_sops::{Wiping, WrappingKeys};
use tokio::sync::{Semaphore, mpsc};
use zeroize::Zeroizing;

pub(crate) use self::certificate::Certificate;
use self::foresight::{Arrival, Foresight};
pub(crate) use self::listener::{Ending, Listeners, serve};
use self::login::{Claims, Reviews};
use self::tokens::Engine;
pub(crate) use self::unanswered::{LoginProblem, Unanswered};
use self::wire::{Answer, Key, Route};
use crate::reload::{Current, Loaded};
use crate::telemetry::Metrics;
use crate::witnesses::{Store, Witnesses};

/// Answers requests for data keys; what all connections share.
pub(crate) struct Endpoint {
    current: Arc<Current>,
    witnesses: Arc<Witnesses>,
    reviews: Reviews,
    foresight: Foresight,
    /// Room for bodies larger than [`SMALL_BODY`].
    large_bodies: Semaphore,
    refusals: mpsc::Sender<Refused>,
    metrics: Metrics,
}

/// A refusal that a person has to see at the Kustomization. The sentence is public, and one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// One of the operator's file, of the namespace that the token stood for.
    pub(crate) kustomization: ObjectName,
    /// What kustomize-controller was told.
    pub(crate) sentence: String,
}

/// How long a request may take, its body included; the witnesses have three seconds of it, a review the same.
const PATIENCE: Duration = Duration::from_secs(10);

/// Largest body in bytes. An `enc` of ours has some 200, a JWT some 2000; `sops` lets any size through.
const MAX_BODY: usize = 1 << 20;

/// Most that is read of a larger body, so that its sender gets to the answer.
const MAX_DROPPED: usize = 16 << 20;

/// Bodies up to this size in bytes are taken in as they come, larger ones only [`LARGE_BODIES`] at a time: nobody has
/// proved anything yet.
const SMALL_BODY: usize = 16 << 10;
const LARGE_BODIES: usize = 16;

/// How long a token is good that a login gave. kustomize-controller logs in for each reconcile.
const TOKEN_LIFE: Duration = Duration::from_secs(600);

impl Endpoint {
    /// With what the process shares. Refusals go to whoever publishes Events; where he is behind, they are left out.
    pub(crate) fn new(
        current: Arc<Current>,
        witnesses: Arc<Witnesses>,
        metrics: Metrics,
        refusals: mpsc::Sender<Refused>,
    ) -> Self {
        let (reviews, foresight, large_bodies) = (Reviews::new(), Foresight::default(), Semaphore::new(LARGE_BODIES));
        Self { current, witnesses, reviews, foresight, large_bodies, refusals, metrics }
    }

    /// A connection begins.
    fn arrival(&self, peer: IpAddr) -> Arrival {
        self.foresight.arrival(peer, self.current.get().ok(), &self.witnesses)
    }

    /// Answers one request, after its body was read to its end: a connection that is closed before is reset, and its sender
    /// would ask again instead of reading the refusal.
    async fn respond<B>(&self, request: Request<B>, arrival: &Arrival) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut told = Told::default();
        let answered = async {
            let (head, body) = request.into_parts();
            let body = self.whole(body).await;
            let route = Route::of(&head.method, head.uri.path())?;
            let body = body?;
            wire::expect_root(&head.headers)?;
            match route {
                Route::Decrypt(key) => {
                    let answer = self.decrypt(&key, &head.headers, &body, arrival, &mut told).await;
                    answer.map_err(|unanswered| self.or_vault_rules(&key, unanswered))
                }
                Route::Encrypt(key) => self.encrypt(&key, &head.headers, &body, &mut told).await,
                Route::Login => self.login(&body, &mut told).await,
            }
        };
        let answered = tokio::time::timeout(PATIENCE, answered).await.unwrap_or(Err(Unanswered::Late));
        self.tell(&told, answered.as_ref().err());
        wire::response(answered)
    }

    /// Gives a data key back.
    async fn decrypt(
        &self,
        key: &Key,
        headers: &HeaderMap,
        body: &[u8],
        arrival: &Arrival,
        told: &mut Told,
    ) -> Result<Answer, Unanswered> {
        let loaded = self.loaded()?;
        let enc = wire::ciphertext(body)?;
        let (authority, token) = told.engine(key, headers, &loaded)?;
        let keys = keys(&loaded, &authority)?;
        let engine = Engine { authority: &authority, keys, flux: &loaded.config.flux };
        let claimed = Bound::parse(&enc).map(|(bound, _)| bound);
        // A token of the document's own epoch; core refuses the document unless that is the one that runs. So nobody makes
        // the API server work without a token.
        let by_document = claimed.as_ref().map(|bound| {
            let likely = bound.kustomization.namespace();
            engine.namespace_of(token, Some(bound.epoch), Some(likely), now()).ok_or(Unanswered::Stranger)
        });
        let by_document = by_document.transpose()?;
        let holder = arrival.read(&loaded, &self.witnesses, &authority).await.holder;
        let namespace = match by_document {
            Some(namespace) => namespace,
            None => engine.namespace_of(token, epoch_of(&holder), None, now()).ok_or(Unanswered::Stranger)?,
        };
        told.namespace = Some(namespace.clone());
        let asked = Asked { authority: &authority, key: &key.name, namespace, enc: &enc };
        let release = release::release(&asked, &holder, |name| is_configured(&loaded, &authority, name))?;
        let data_key = keys.unwrap(release.wrapped, &release.bound.context()).map_err(Unanswered::Wrapped)?;
        self.foresight.given_to(arrival, &authority, &loaded, &self.witnesses);
        Ok(Answer::data_key(&data_key))
    }

    /// After a handover the token is taken away and the identities may be, and whoever puts an old artifact back is told the
    /// reason that counts. That Vault rules is no secret.
    fn or_vault_rules(&self, key: &Key, unanswered: Unanswered) -> Unanswered {
        let has_no_right = matches!(unanswered, Unanswered::Stranger | Unanswered::NoKeys(_));
        let Some(authority) = bound::authority_of(&key.engine).filter(|_| has_no_right) else { return unanswered };
        let is_ours = |loaded: &Loaded| loaded.config.flux.applications.iter().any(|it| it.authority == authority);
        if self.current.get().is_ok_and(|loaded| is_ours(&loaded)) && self.witnesses.found_vault(&authority) {
            return Withheld::VaultRules { authority }.into();
        }
        unanswered
    }

    /// Wraps a data key that a person encrypts with.
    async fn encrypt(
        &self,
        key: &Key,
        headers: &HeaderMap,
        body: &[u8],
        told: &mut Told,
    ) -> Result<Answer, Unanswered> {
        let loaded = self.loaded()?;
        let data_key = wire::plaintext(body)?;
        let (authority, token) = told.engine(key, headers, &loaded)?;
        let keys = keys(&loaded, &authority)?;
        let engine = Engine { authority: &authority, keys, flux: &loaded.config.flux };
        let holder = self.witnesses.read(loaded.store(), &authority, None).await.holder;
        let namespace = engine.namespace_of(token, epoch_of(&holder), None, now()).ok_or(Unanswered::Stranger)?;
        told.namespace = Some(namespace.clone());
        let configured = |name: &ObjectName| is_configured(&loaded, &authority, name);
        let bound = release::bind(&authority, &key.name, namespace, &holder, configured)?;
        let wrapped = keys.wrap(&data_key, &bound.context()).ok_or(Unanswered::NoKeys(authority))?;
        Ok(Answer::wrapped(&bound.enc(&wrapped)))
    }

    /// Gives a token to an account that the API server vouches for.
    async fn login(&self, body: &[u8], told: &mut Told) -> Result<Answer, Unanswered> {
        let loaded = self.loaded()?;
        let flux = &loaded.config.flux;
        let (credentials, now) = (wire::credentials(body)?, now());
        let jwt = credentials.jwt.0.as_ref();
        let not_authentic = || LoginProblem::NotAuthentic { audience: flux.endpoint.clone() };
        let claims = Claims::of(jwt, &flux.endpoint, now).ok_or_else(not_authentic)?;
        let Store::Cluster(access) = loaded.store().map_err(|_| Unanswered::NoReview)? else {
            return Err(LoginProblem::NoCluster.into());
        };
        let cluster = self.witnesses.cluster(access).await.map_err(|_| Unanswered::NoReview)?;
        if self.reviews.user(&cluster, jwt, &flux.endpoint).await? != claims.user() {
            return Err(not_authentic().into());
        }
        if credentials.role != claims.role() {
            return Err(LoginProblem::OtherRole.into());
        }
        if (claims.namespace.as_str(), claims.account.as_str()) == (flux.namespace(), CONTROLLER) {
            return Err(LoginProblem::Controller.into());
        }
        let namespace = || LoginProblem::NotConfigured { namespace: claims.namespace.clone() };
        let own: Vec<&FluxApplication> = flux
            .applications
            .iter()
            .filter(|application| tokens::logs_in(application))
            .filter(|application| application.kustomization.namespace().as_str() == claims.namespace)
            .collect();
        let namespace = own.first().ok_or_else(namespace)?.kustomization.namespace();
        told.namespace = Some(namespace.clone());
        let mut authorities: Vec<&AuthorityName> = own.iter().map(|application| &application.authority).collect();
        authorities.sort_unstable();
        authorities.dedup();
        // An authority whose identities cannot be used is left out: its own requests say so.
        let engines = authorities.iter().filter_map(|authority| Some((*authority, keys(&loaded, authority).ok()?)));
        let expires = claims.expires.min(now + TOKEN_LIFE.as_secs());
        let token = tokens::give(engines, namespace, &claims.account, expires);
        let no_keys = || authorities.first().map_or(Unanswered::NoConfig, |first| Unanswered::NoKeys((*first).clone()));
        Ok(Answer::client_token(&token.ok_or_else(no_keys)?))
    }

    fn loaded(&self) -> Result<Arc<Loaded>, Unanswered> {
        self.current.get().map_err(|_| Unanswered::NoConfig)
    }

    /// A body from its beginning to its end.
    async fn whole<B: Body<Data = Bytes> + Unpin>(&self, mut body: B) -> Result<Zeroizing<Vec<u8>>, Unanswered> {
        let (mut bytes, mut dropped) = (Wiping::default(), 0);
        let mut room = None;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Unanswered::CutOff)?.into_data() else { continue };
            if dropped > 0 || bytes.len() + data.len() > MAX_BODY {
                dropped += data.len().max(1);
                if dropped > MAX_DROPPED {
                    break;
                }
                continue;
            }
            if room.is_none() && bytes.len() + data.len() > SMALL_BODY {
                // Closed by nobody.
                room = Some(self.large_bodies.acquire().await.map_err(|_| Unanswered::CutOff)?);
            }
            bytes.push(&data);
        }
        drop(room);
        if dropped > 0 { Err(Unanswered::TooLarge(MAX_BODY)) } else { Ok(bytes.finish()) }
    }

    /// Counts, writes a refusal's audit line, and passes it on to the Events of a Kustomization that is ours.
    fn tell(&self, told: &Told, unanswered: Option<&Unanswered>) {
        self.metrics.data_key_asked(unanswered.map(Unanswered::code));
        let kustomization = told.kustomization();
        let Some(unanswered) = unanswered else {
            tracing::debug!(
                authority = told.authority.as_ref().map(AuthorityName::as_str).unwrap_or_default(),
                kustomization = kustomization.as_ref().map(ToString::to_string).unwrap_or_default(),
                "a data key was asked for, and given"
            );
            return;
        };
        let sentence = unanswered.line();
        tracing::info!(
            authority = told.authority.as_ref().map(AuthorityName::as_str).unwrap_or_default(),
            namespace = told.namespace.as_ref().map(Namespace::as_str).unwrap_or_default(),
            kustomization = kustomization.as_ref().map(ToString::to_string).unwrap_or_default(),
            code = unanswered.code().entry().name,
            status = unanswered.http().as_u16(),
            problem = sentence,
            "a data key was asked for, and refused"
        );
        let is_ours = |name: &ObjectName, authority: &AuthorityName| {
            self.current.get().is_ok_and(|loaded| is_configured(&loaded, authority, name))
        };
        if let (Some(kustomization), Some(authority)) = (kustomization, &told.authority)
            && is_ours(&kustomization, authority)
        {
            drop(self.refusals.try_send(Refused { kustomization, sentence }));
        }
    }
}

/// What the audit log may say of a request: nothing of it that was not parsed.
#[derive(Default)]
struct Told {
    authority: Option<AuthorityName>,
    /// The one that the token stands for.
    namespace: Option<Namespace>,
    key: Option<String>,
}

impl Told {
    /// The authority of a request's engine, and its token. An engine that is none of the operator's file is like a wrong
    /// token.
    fn engine<'a>(
        &mut self,
        key: &Key,
        headers: &'a HeaderMap,
        loaded: &Loaded,
    ) -> Result<(AuthorityName, &'a str), Unanswered> {
        let of = |authority: &AuthorityName| {
            loaded.config.flux.applications.iter().any(|application| application.authority == *authority)
        };
        let authority = bound::authority_of(&key.engine).filter(of).ok_or(Unanswered::Stranger)?;
        self.authority = Some(authority.clone());
        self.key = Some(key.name.clone());
        Ok((authority, wire::token(headers).ok_or(Unanswered::Stranger)?))
    }

    /// The Kustomization that asked, as far as its token shows: in its namespace there is no isolation.
    fn kustomization(&self) -> Option<ObjectName> {
        ObjectName::parse(&format!("{}/{}", self.namespace.as_ref()?, self.key.as_ref()?)).ok()
    }
}

/// The authority's wrapping keys; there is at least one.
fn keys<'a>(loaded: &'a Loaded, authority: &AuthorityName) -> Result<&'a WrappingKeys, Unanswered> {
    let keys = loaded.wrapping_keys(authority).ok().filter(|keys| !keys.is_empty());
    keys.ok_or_else(|| Unanswered::NoKeys(authority.clone()))
}

/// Whether the operator's file has this Kustomization for this authority.
fn is_configured(loaded: &Loaded, authority: &AuthorityName, name: &ObjectName) -> bool {
    let applications = &loaded.config.flux.applications;
    applications.iter().any(|application| application.authority == *authority && application.kustomization == *name)
}

/// The epoch whose tokens count, where it is known.
fn epoch_of(holder: &Holder) -> Option<Epoch> {
    match holder {
        Holder::Git { epoch, .. } | Holder::Vault { epoch, .. } => Some(*epoch),
        Holder::None | Holder::Disagree(_) | Holder::Unreadable(_) => None,
    }
}

/// Seconds of Unix, for what expires.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs())
}

/// The account that kustomize-controller runs as, in Flux' own namespace.
const CONTROLLER: &str = "kustomize-controller";

#[cfg(test)]
mod tests;
