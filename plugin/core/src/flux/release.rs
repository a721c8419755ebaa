//! Whether a data key is released: asked by kustomize-controller for each document in each reconcile.
//!
//! What is known of a request is the engine and the key in its path, the namespace that its token stands for, and the
//! `enc` of the document. Kind and name of the document are not: kustomize-controller does not send them, so they were
//! judged when the artifact was built. Inside one namespace there is no isolation: a token is the namespace's.

use crate::evidence::Holder;
use crate::flux::bound::Bound;
use crate::name::{AuthorityName, Epoch, Namespace, ObjectName};

/// One request for a data key.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The authority that the engine's path names.
    pub authority: &'a AuthorityName,
    /// The key's name in the path: the Kustomization's.
    pub key: &'a str,
    /// The namespace that the token stands for.
    pub namespace: &'a Namespace,
    /// What stands in the document's stanza.
    pub enc: &'a str,
}

/// Leave to unwrap one data key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release<'a> {
    /// What it must be bound to.
    pub bound: Bound,
    /// The wrapped data key.
    pub wrapped: &'a str,
}

/// Why a data key is not released. Each is one short plain sentence: kustomize-controller wraps lines at 60 columns, and
/// shows it only in `kubectl describe`, in `-o yaml` and in the event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Withheld {
    /// Vault rules.
    #[error(
        "Vault is the authority for {authority} now, so no value is decrypted from Git; this revision is from before the handover"
    )]
    VaultRules {
        /// Whose.
        authority: AuthorityName,
    },
    /// No witness, or witnesses that contradict each other.
    #[error("nobody rules {authority}: {why}")]
    NobodyRules {
        /// Whose.
        authority: AuthorityName,
        /// What the witnesses say.
        why: String,
    },
    /// The witnesses cannot be read: the one passing trouble.
    #[error("who rules {authority} cannot be read right now; it is asked again")]
    Unreadable {
        /// Whose.
        authority: AuthorityName,
    },
    /// The artifact is of another epoch than the one that runs.
    #[error("this revision is of epoch {of} of {authority}, and epoch {now} runs")]
    OtherEpoch {
        /// Whose.
        authority: AuthorityName,
        /// The document's.
        of: Epoch,
        /// The one that runs.
        now: Epoch,
    },
    /// No `enc` of regent.
    #[error("the document was not encrypted to regent")]
    NotOurs,
    /// The document is another authority's.
    #[error("the document belongs to authority {of}, and {asked} was asked")]
    OtherAuthority {
        /// Whose it is.
        of: AuthorityName,
        /// Who was asked.
        asked: AuthorityName,
    },
    /// The document is another namespace's.
    #[error("the document was made for Kustomization {of}, and the token is of namespace {asked}")]
    OtherNamespace {
        /// Whom it was made for.
        of: ObjectName,
        /// The token's.
        asked: Namespace,
    },
    /// The stanza's key is not the Kustomization that the document was made for.
    #[error("the document was made for Kustomization {of}, and its stanza was changed")]
    OtherKey {
        /// Whom it was made for.
        of: ObjectName,
    },
    /// The key in the path is no name that a Kustomization can have.
    #[error("the key's name is no name of a Kustomization")]
    NoName,
    /// The Kustomization is none of the operator's file (any more).
    #[error("regent has no Kustomization {of} for {authority}")]
    NotConfigured {
        /// Whom the document was made for.
        of: ObjectName,
        /// Whose.
        authority: AuthorityName,
    },
}

impl Withheld {
    /// Whether the same request may be answered in a moment; nothing else is worth asking again.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreadable { .. } => true,
            Self::VaultRules { .. }
            | Self::NobodyRules { .. }
            | Self::OtherEpoch { .. }
            | Self::NotOurs
            | Self::OtherAuthority { .. }
            | Self::OtherNamespace { .. }
            | Self::OtherKey { .. }
            | Self::NoName
            | Self::NotConfigured { .. } => false,
        }
    }
}

/// Decides. `configured` says whether the operator's file has this Kustomization for this authority. Vault is asked about
/// first: from the moment it rules, that is the answer to everybody.
pub fn release<'a>(
    asked: &Asked<'a>,
    holder: &Holder,
    configured: impl Fn(&ObjectName) -> bool,
) -> Result<Release<'a>, Withheld> {
    let authority = || asked.authority.clone();
    let now = epoch_of_git(asked.authority, holder)?;
    let (bound, wrapped) = Bound::parse(asked.enc).ok_or(Withheld::NotOurs)?;
    let of = || bound.kustomization.clone();
    if bound.authority != *asked.authority {
        return Err(Withheld::OtherAuthority { of: bound.authority, asked: authority() });
    }
    if bound.kustomization.namespace() != asked.namespace {
        return Err(Withheld::OtherNamespace { of: of(), asked: asked.namespace.clone() });
    }
    if bound.kustomization.name() != asked.key {
        return Err(Withheld::OtherKey { of: of() });
    }
    if bound.epoch != now {
        return Err(Withheld::OtherEpoch { authority: authority(), of: bound.epoch, now });
    }
    if !configured(&bound.kustomization) {
        return Err(Withheld::NotConfigured { of: of(), authority: authority() });
    }
    Ok(Release { bound, wrapped })
}

/// Decides what a data key may be bound to that somebody encrypts with: a Kustomization of the token's own namespace, and
/// no longer than Git rules.
pub fn bind(
    authority: &AuthorityName,
    key: &str,
    namespace: &Namespace,
    holder: &Holder,
    configured: impl Fn(&ObjectName) -> bool,
) -> Result<Bound, Withheld> {
    let epoch = epoch_of_git(authority, holder)?;
    let kustomization = ObjectName::parse(&format!("{namespace}/{key}")).map_err(|_| Withheld::NoName)?;
    if !configured(&kustomization) {
        return Err(Withheld::NotConfigured { of: kustomization, authority: authority.clone() });
    }
    Ok(Bound { authority: authority.clone(), epoch, kustomization })
}

/// The epoch in which Git rules now.
fn epoch_of_git(authority: &AuthorityName, holder: &Holder) -> Result<Epoch, Withheld> {
    let authority = || authority.clone();
    match holder {
        Holder::Git { epoch, supersedes: _ } => Ok(*epoch),
        Holder::Vault { .. } => Err(Withheld::VaultRules { authority: authority() }),
        Holder::None => {
            let why = "it was never bootstrapped, or its witnesses are gone".to_owned();
            Err(Withheld::NobodyRules { authority: authority(), why })
        }
        Holder::Disagree(why) => Err(Withheld::NobodyRules { authority: authority(), why: why.clone() }),
        Holder::Unreadable(_) => Err(Withheld::Unreadable { authority: authority() }),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::evidence::Mirror;
    use crate::name::HandoverId;

    const ENC: &str = "regent:v1:prod:2:team:app:QUJD";

    fn authority(name: &str) -> AuthorityName {
        AuthorityName::parse(name).unwrap()
    }

    fn namespace(name: &str) -> Namespace {
        Namespace::parse(name).unwrap()
    }

    fn git(epoch: u64) -> Holder {
        Holder::Git { epoch: Epoch::new(epoch).unwrap(), supersedes: None }
    }

    fn vault() -> Holder {
        let handover = HandoverId::parse("5b1f4c1e-9d6a-4f0e-8a55-3c1f4f4f9a10").unwrap();
        Holder::Vault { epoch: Epoch::new(2).unwrap(), handover, mirror: Mirror::Complete }
    }

    fn ask(engine: &str, key: &str, of: &str, enc: &str, holder: &Holder) -> Result<(), Withheld> {
        let (authority, namespace) = (authority(engine), namespace(of));
        let asked = Asked { authority: &authority, key, namespace: &namespace, enc };
        release(&asked, holder, |name| name.to_string() == "team/app").map(drop)
    }

    #[test]
    fn a_document_is_released_to_whom_it_was_made_for_while_git_rules_its_epoch() {
        let (authority, namespace) = (authority("prod"), namespace("team"));
        let asked = Asked { authority: &authority, key: "app", namespace: &namespace, enc: ENC };
        let release = release(&asked, &git(2), |_| true).unwrap();
        assert_eq!((release.bound.to_string().as_str(), release.wrapped), ("regent:v1:prod:2:team:app", "QUJD"));
    }

    #[rstest]
    #[case("dev", "app", "team", ENC)]
    #[case("prod", "app2", "team", ENC)]
    #[case("prod", "app", "team2", ENC)]
    #[case("prod", "app", "team", "regent:v1:prod:1:team:app:QUJD")]
    #[case("prod", "app", "team", "regent:v1:prod:3:team:app:QUJD")]
    #[case("prod", "other", "team", "regent:v1:prod:2:team:other:QUJD")]
    #[case("prod", "app", "team", "vault:v1:QUJD")]
    fn nothing_is_released_to_anybody_else(
        #[case] engine: &str,
        #[case] key: &str,
        #[case] of: &str,
        #[case] enc: &str,
    ) {
        let withheld = ask(engine, key, of, enc, &git(2)).unwrap_err();
        assert!(!withheld.is_passing(), "{withheld}");
    }

    #[test]
    fn once_vault_rules_that_is_the_answer_whatever_is_asked() {
        let rules = Err(Withheld::VaultRules { authority: authority("prod") });
        assert_eq!(ask("prod", "app", "team", ENC, &vault()), rules);
        assert_eq!(ask("prod", "x", "y", "garbage", &vault()), rules);
    }

    #[test]
    fn no_doubt_counts_as_leave_and_only_what_cannot_be_read_is_asked_again() {
        for (holder, passing) in [
            (Holder::None, false),
            (Holder::Disagree("two handovers".to_owned()), false),
            (Holder::Unreadable("no answer".to_owned()), true),
        ] {
            let withheld = ask("prod", "app", "team", ENC, &holder).unwrap_err();
            assert_eq!(withheld.is_passing(), passing, "{withheld}");
        }
    }

    #[test]
    fn a_data_key_is_bound_to_a_kustomization_of_ones_own_namespace_while_git_rules() {
        let bound = |key: &str, holder: &Holder| {
            bind(&authority("prod"), key, &namespace("team"), holder, |name| name.to_string() == "team/app")
        };
        assert_eq!(bound("app", &git(2)).unwrap().enc("QUJD"), ENC);
        assert_eq!(bound("a/b", &git(2)), Err(Withheld::NoName));
        assert!(matches!(bound("other", &git(2)), Err(Withheld::NotConfigured { .. })));
        assert_eq!(bound("app", &vault()), Err(Withheld::VaultRules { authority: authority("prod") }));
        for holder in [Holder::None, Holder::Disagree(String::new()), Holder::Unreadable(String::new())] {
            assert!(bound("app", &holder).is_err());
        }
    }

    #[test]
    fn a_sentence_is_short_and_on_one_line() {
        let long = |length: usize| "n".repeat(length);
        let of = ObjectName::parse(&format!("{}/{}", long(20), long(30))).unwrap();
        let name = authority(&long(20));
        for withheld in [
            Withheld::VaultRules { authority: name.clone() },
            Withheld::NobodyRules { authority: name.clone(), why: "gone".to_owned() },
            Withheld::Unreadable { authority: name.clone() },
            Withheld::OtherEpoch { authority: name.clone(), of: Epoch::FIRST, now: Epoch::LAST },
            Withheld::NotOurs,
            Withheld::OtherAuthority { of: name.clone(), asked: name.clone() },
            Withheld::OtherNamespace { of: of.clone(), asked: namespace("team") },
            Withheld::OtherKey { of: of.clone() },
            Withheld::NoName,
            Withheld::NotConfigured { of, authority: name },
        ] {
            let said = withheld.to_string();
            assert!(said.len() < 200 && !said.contains('\n'), "{said}");
        }
    }
}
