//! Whom a token stands for: a namespace, by a token that was minted for it or by one that a login gave.
//!
//! Both are keyed hashes by the authority's wrapping keys, so nothing about them is kept anywhere, and one replica takes
//! what another gave:
//!
//! ```text
//! minted   43 characters                                             of authority, epoch, namespace
//! given    regent-login:<namespace>:<account>:<expires>:<hash>,..     of authority and what stands before
//! ```
//! A login is at an address and not at an authority's engine, so it gives one hash for each authority that has a
//! Kustomization in the namespace: who holds one authority's identities makes no token that another's engine takes.

use regent_core::flux::bound;
use regent_core::name::{AuthorityName, Epoch, Namespace};
use regent_core::rules::{Flux, FluxApplication};
use regent_sops::WrappingKeys;
use zeroize::Zeroizing;

/// An engine that a token may be for.
pub(super) struct Engine<'a> {
    pub(super) authority: &'a AuthorityName,
    pub(super) keys: &'a WrappingKeys,
    pub(super) flux: &'a Flux,
}

impl<'a> Engine<'a> {
    /// The namespace that a token stands for here: a minted one of this epoch, or a given one that is not over at `now` (in
    /// seconds of Unix). `likely` is only looked at first.
    pub(super) fn namespace_of(
        &self,
        token: &str,
        epoch: Option<Epoch>,
        likely: Option<&Namespace>,
        now: u64,
    ) -> Option<&'a Namespace> {
        if let Some(given) = Given::parse(token) {
            let context = given.context(self.authority);
            let is_authentic = given.hashes.split(',').take(MOST_HASHES).any(|hash| self.keys.is_token(hash, &context));
            let namespace = self.namespaces(logs_in).find(|namespace| namespace.as_str() == given.namespace);
            return namespace.filter(|_| is_authentic && now < given.expires);
        }
        let epoch = epoch?;
        let is_minted =
            |namespace: &&Namespace| self.keys.is_token(token, &bound::token_context(self.authority, epoch, namespace));
        let likely = likely.and_then(|likely| self.namespaces(has_token).find(|namespace| *namespace == likely));
        likely.filter(is_minted).or_else(|| {
            let mut namespaces: Vec<&Namespace> = self.namespaces(has_token).collect();
            namespaces.sort_unstable();
            namespaces.dedup();
            namespaces.into_iter().find(is_minted)
        })
    }

    fn namespaces(&self, may: fn(&FluxApplication) -> bool) -> impl Iterator<Item = &'a Namespace> {
        let (authority, applications) = (self.authority, &self.flux.applications);
        let own =
            applications.iter().filter(move |application| application.authority == *authority && may(application));
        own.map(|application| application.kustomization.namespace())
    }
}

/// Whether a Kustomization asks by its namespace's token.
fn has_token(application: &FluxApplication) -> bool {
    application.token_secret.is_some()
}

/// Whether a Kustomization asks as an account.
pub(super) fn logs_in(application: &FluxApplication) -> bool {
    application.token_secret.is_none()
}

/// A token for an account that proved who it is, until `expires` (in seconds of Unix).
pub(super) fn give<'a>(
    engines: impl Iterator<Item = (&'a AuthorityName, &'a WrappingKeys)>,
    namespace: &Namespace,
    account: &str,
    expires: u64,
) -> Option<Zeroizing<String>> {
    let head = format!("{GIVEN}:{namespace}:{account}:{expires}:");
    let hashes = engines.filter_map(|(authority, keys)| {
        keys.token(&bound::login_context(authority, namespace.as_str(), account, expires))
    });
    let hashes: Vec<Zeroizing<String>> = hashes.take(MOST_HASHES).collect();
    let mut token =
        Zeroizing::new(String::with_capacity(head.len() + hashes.iter().map(|hash| hash.len() + 1).sum::<usize>()));
    token.push_str(&head);
    for (index, hash) in hashes.iter().enumerate() {
        if index > 0 {
            token.push(',');
        }
        token.push_str(hash);
    }
    (!hashes.is_empty()).then_some(token)
}

/// A token that a login gave, taken apart. What it says holds only with its hash.
struct Given<'a> {
    namespace: &'a str,
    account: &'a str,
    expires: u64,
    hashes: &'a str,
}

impl<'a> Given<'a> {
    fn parse(token: &'a str) -> Option<Self> {
        let mut parts = token.strip_prefix(GIVEN)?.strip_prefix(':')?.splitn(4, ':');
        let (namespace, account, number, hashes) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let expires: u64 = number.parse().ok()?;
        (expires.to_string() == number).then_some(Self { namespace, account, expires, hashes })
    }

    fn context(&self, authority: &AuthorityName) -> Vec<u8> {
        bound::login_context(authority, self.namespace, self.account, self.expires)
    }
}

/// How a token begins that a login gave. A minted one has no colon.
const GIVEN: &str = "regent-login";

/// Most authorities with Kustomizations in one namespace whose hashes fit into a header and are looked at.
const MOST_HASHES: usize = 64;
