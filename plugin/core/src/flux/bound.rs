//! Whom a wrapped data key is for.
//!
//! SOPS hands whatever stands in `enc` to the endpoint, as it is. So a person who reads an artifact sees whose document it
//! is, and a refusal can say it: `regent:v1:<authority>:<epoch>:<namespace>:<kustomization>:<wrapped>`. What stands before
//! the last colon is the context that the wrapped key is authenticated with, so none of it can be changed.

use std::fmt;

use crate::name::{AuthorityName, Epoch, Namespace, ObjectName};

/// Authority, epoch and Kustomization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The authority that allows it.
    pub authority: AuthorityName,
    /// In which epoch.
    pub epoch: Epoch,
    /// Who may ask, and in which namespace.
    pub kustomization: ObjectName,
}

/// What every `enc` of ours begins with; another format would get another number.
const PREFIX: &str = "regent:v1";

impl Bound {
    /// `enc` of a stanza: this, and the wrapped data key (text without a colon).
    pub fn enc(&self, wrapped: &str) -> String {
        format!("{self}:{wrapped}")
    }

    /// What the wrapped data key is authenticated with. No name has a colon in it, so no two of them read alike.
    pub fn context(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }

    /// Takes an `enc` apart; `None` for one that regent did not write. What it says holds only once the wrapped key was
    /// found to be authentic.
    pub fn parse(enc: &str) -> Option<(Self, &str)> {
        let mut parts = enc.strip_prefix(PREFIX)?.strip_prefix(':')?.splitn(5, ':');
        let authority = AuthorityName::parse(parts.next()?).ok()?;
        let number = parts.next()?;
        let epoch = Epoch::new(number.parse().ok()?).ok().filter(|epoch| epoch.to_string() == number)?;
        let (namespace, name) = (parts.next()?, parts.next()?);
        let kustomization = ObjectName::parse(&format!("{namespace}/{name}")).ok()?;
        Some((Self { authority, epoch, kustomization }, parts.next()?))
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { authority, epoch, kustomization } = self;
        write!(f, "{PREFIX}:{authority}:{epoch}:{}:{}", kustomization.namespace(), kustomization.name())
    }
}

/// The path of the transit engine that stands for an authority.
pub fn engine(authority: &AuthorityName) -> String {
    format!("{ENGINE}/{authority}")
}

/// The authority of an engine's path.
pub fn authority_of(engine: &str) -> Option<AuthorityName> {
    let (first, authority) = engine.split_once('/')?;
    AuthorityName::parse(authority).ok().filter(|_| first == ENGINE)
}

const ENGINE: &str = "regent";

/// What the token of a namespace is made from: a new epoch has new tokens.
pub fn token_context(authority: &AuthorityName, epoch: Epoch, namespace: &Namespace) -> Vec<u8> {
    format!("{PREFIX}:token:{authority}:{epoch}:{namespace}").into_bytes()
}

/// What the token is made from that a service account gets when it logs in: good until `expires`, in seconds of Unix.
/// Namespace and account are as whoever asks says them; with a colon in one of them they are nobody's.
pub fn login_context(authority: &AuthorityName, namespace: &str, account: &str, expires: u64) -> Vec<u8> {
    format!("{PREFIX}:login:{authority}:{namespace}:{account}:{expires}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(authority: &str, epoch: u64, kustomization: &str) -> Bound {
        Bound {
            authority: AuthorityName::parse(authority).unwrap(),
            epoch: Epoch::new(epoch).unwrap(),
            kustomization: ObjectName::parse(kustomization).unwrap(),
        }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let bound = bound("prod", 12, "team-a/app.v2");
        let enc = bound.enc("QUJD+/=");
        assert_eq!(enc, "regent:v1:prod:12:team-a:app.v2:QUJD+/=");
        assert_eq!(Bound::parse(&enc), Some((bound, "QUJD+/=")));
    }

    #[test]
    fn no_two_contexts_read_alike() {
        let contexts = [bound("a", 1, "b/c"), bound("a", 1, "b/c.d"), bound("a", 11, "b/c"), bound("b", 1, "a/c")]
            .map(|bound| bound.context());
        for (index, context) in contexts.iter().enumerate() {
            assert!(!contexts[..index].contains(context));
        }
    }

    #[test]
    fn what_regent_did_not_write_is_none_of_ours() {
        for enc in [
            "",
            "vault:v1:QUJD",
            "regent:v2:prod:1:team:app:QUJD",
            "regent:v1:prod:01:team:app:QUJD",
            "regent:v1:prod:+1:team:app:QUJD",
            "regent:v1:prod:0:team:app:QUJD",
            "regent:v1:Prod:1:team:app:QUJD",
            "regent:v1:prod:1:team/x:app:QUJD",
            "regent:v1:prod:1:team:app",
        ] {
            assert_eq!(Bound::parse(enc), None, "{enc}");
        }
    }

    #[test]
    fn an_engine_is_one_authoritys() {
        let prod = AuthorityName::parse("prod").unwrap();
        assert_eq!(authority_of(&engine(&prod)), Some(prod));
        for path in ["prod", "regent", "regent/", "regent/prod/x", "transit/prod", "regent/../prod"] {
            assert_eq!(authority_of(path), None, "{path}");
        }
    }
}
