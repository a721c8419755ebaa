//! Whether a person may bring an absent permanent Secret back once Vault rules: the one exception to P2. No front door
//! comes here.

use crate::authority::{self, AuthorityRefusal, Place, written};
use crate::bootstrap::{Bootstrap, Permanent};
use crate::evidence::{AuthorityWitness, Clusters, DocumentList, Evidence, Holder, ListedClass, ListedDocument};
use crate::name::SecretName;
use crate::rebootstrap::same_clusters;

/// Leave for the values of one Secret. Only [`decide`] makes one.
#[derive(Debug)]
pub struct Restoration(SecretName);

impl Restoration {
    /// The Secret.
    pub fn name(&self) -> &SecretName {
        &self.0
    }
}

/// Everything that a decision is a function of.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// `regent.yaml`.
    pub bootstrap: &'a Bootstrap,
    /// Where its folder stands.
    pub place: &'a Place,
    /// What the witnesses say.
    pub evidence: &'a Evidence,
    /// The clusters that were asked.
    pub asked: Asked<'a>,
    /// The Secret.
    pub name: &'a SecretName,
    /// Whether it is live.
    pub live: Live,
    /// What Vault holds of it.
    pub copy: &'a VaultCopy,
    /// Whether a person takes a copy that Vault has left behind.
    pub stale: Stale,
}

/// The clusters that were asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Their uids.
    pub clusters: &'a Clusters,
    /// The copy of the Authority in a target that is another cluster than that of the witnesses, where it could be read.
    pub copy: Option<&'a AuthorityWitness>,
}

/// Whether the Secret is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Live {
    /// The API server says that there is none.
    Absent,
    /// It is there, whatever it holds.
    Present,
}

/// What Vault holds of a Secret, beside Git's values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VaultCopy {
    /// It is not copied to Vault (`vault: false`).
    NotKept,
    /// The same values.
    Same,
    /// Certainly none.
    Absent,
    /// Other values.
    Different,
    /// It was there and was deleted.
    Deleted,
    /// No clear answer, and why.
    Silent(String),
}

/// `--stale-ok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// Only what Vault has, or never had.
    Refused,
    /// Git's values all the same.
    Accepted,
}

/// A Secret that may come back, if it is absent and Vault does not hold another copy.
#[derive(Clone, Debug)]
pub struct Permitted<'a> {
    /// Its entry in the handover's list.
    pub listed: ListedDocument,
    /// Its entry in `regent.yaml`.
    pub permanent: &'a Permanent,
}

/// Why a Secret is not brought back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreRefusal {
    /// P0..P6, everything but P2.
    #[error(transparent)]
    Authority(#[from] AuthorityRefusal),
    /// Git rules: a front door brings it.
    #[error("the witnesses say {held}: Git rules, and its front door writes {name}")]
    GitRules {
        /// K.
        held: String,
        /// The Secret.
        name: SecretName,
    },
    /// Nobody knows what was handed over.
    #[error("the list of what was handed over is not readable")]
    ListUnreadable,
    /// It was never handed over.
    #[error("the handover does not list Secret {name}")]
    NotListed {
        /// The Secret.
        name: SecretName,
    },
    /// Vault delivers it.
    #[error("Secret {name} is not permanent {by}: Vault delivers it")]
    NotPermanent {
        /// The Secret.
        name: SecretName,
        /// By whose word.
        by: &'static str,
    },
    /// The witnesses are another cluster's, or the Secret belongs into another one.
    #[error("the authority is about {whose} {recorded}, and the one that was asked is {asked}")]
    OtherCluster {
        /// Which of the two.
        whose: &'static str,
        /// Its uid in the witness.
        recorded: String,
        /// The uid found.
        asked: String,
    },
    /// It is live.
    #[error("Secret {name} exists, and what exists is never overwritten")]
    Present {
        /// The Secret.
        name: SecretName,
    },
    /// Vault has left Git's values behind, or nobody knows.
    #[error("Git's values of {name} may be old: {why}")]
    Stale {
        /// The Secret.
        name: SecretName,
        /// What Vault says.
        why: String,
    },
    /// No document of the root holds it.
    #[error("no document of the root holds Secret {name}")]
    NoDocument {
        /// The Secret.
        name: SecretName,
    },
}

/// What evidence alone says, before a key is used or Vault asked.
///
/// # Errors
/// Everything but P2, and everything but a listed permanent Secret.
pub fn permitted<'a>(
    bootstrap: &'a Bootstrap,
    place: &Place,
    evidence: &Evidence,
    asked: Asked<'_>,
    name: &SecretName,
) -> Result<Permitted<'a>, RestoreRefusal> {
    let holder = evidence.holder();
    authority::rule(bootstrap, place, &holder, DocumentList::Unreadable)?;
    let epoch = match &holder {
        Holder::Vault { epoch, .. } => *epoch,
        Holder::None | Holder::Git { .. } | Holder::Disagree(_) | Holder::Unreadable(_) => {
            return Err(RestoreRefusal::GitRules { held: holder.to_string(), name: name.clone() });
        }
    };
    // A revision from before an earlier handover has values from before it, too.
    if bootstrap.epoch != epoch {
        return Err(AuthorityRefusal::Mismatch { held: holder.to_string(), written: written(bootstrap) }.into());
    }
    let DocumentList::Readable(documents) = evidence.documents_of(&holder) else {
        return Err(RestoreRefusal::ListUnreadable);
    };
    let listed = documents.into_iter().find(|document| document.name == *name && document.kind == "Secret");
    let listed = listed.ok_or_else(|| RestoreRefusal::NotListed { name: name.clone() })?;
    let not_permanent = |by| RestoreRefusal::NotPermanent { name: name.clone(), by };
    match listed.class {
        ListedClass::Permanent => {}
        ListedClass::Handover => return Err(not_permanent("in the handover's list")),
    }
    let permanent = bootstrap.permanent(name).ok_or_else(|| not_permanent("in regent.yaml"))?;
    if let Some(authority) = evidence.witnessed() {
        same_clusters(authority.clusters_now(&holder, asked.copy), asked.clusters)
            .map_err(|(whose, recorded, asked)| RestoreRefusal::OtherCluster { whose, recorded, asked })?;
    }
    Ok(Permitted { listed, permanent })
}

/// Decides whether the Secret comes back.
///
/// # Errors
/// What stands against it.
pub fn decide(facts: &Facts<'_>) -> Result<Restoration, RestoreRefusal> {
    let name = facts.name.clone();
    permitted(facts.bootstrap, facts.place, facts.evidence, facts.asked, &name)?;
    match facts.live {
        Live::Absent => {}
        Live::Present => return Err(RestoreRefusal::Present { name }),
    }
    let why = match (facts.copy, facts.stale) {
        (VaultCopy::NotKept | VaultCopy::Same | VaultCopy::Absent, Stale::Refused | Stale::Accepted)
        | (VaultCopy::Different | VaultCopy::Deleted | VaultCopy::Silent(_), Stale::Accepted) => {
            return Ok(Restoration(name));
        }
        (VaultCopy::Different, Stale::Refused) => "Vault holds others".to_owned(),
        (VaultCopy::Deleted, Stale::Refused) => "Vault's copy was deleted".to_owned(),
        (VaultCopy::Silent(why), Stale::Refused) => format!("Vault does not say what it holds: {why}"),
    };
    Err(RestoreRefusal::Stale { name, why })
}

#[cfg(test)]
mod tests;
