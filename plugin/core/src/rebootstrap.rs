//! Whether authority comes back from a lost Vault: the only way in which an epoch is raised.
//!
//! ```text
//! P3            the witnesses say vault(e,h), and regent.yaml asks for epoch e+1, which supersedes h
//! and           Vault holds no record any more, or a person gives it up by its handover's id
//!               nothing delivers a Secret from Vault any more
//!               no live value that differs from Git's is lost unnamed
//! then, one write at a time
//!   complete    the Authority, where the handover stopped before it:    none -> git(e) -> vault(e,h)
//!   raise       the Authority:                                          vault(e,h) -> git(e+1), supersedes h
//!   finish      what follows the Authority (a hub's copy, rights, caches)
//! ```
//! The decision is made anew after each write, so a run that was cut off between any two is gone on with by the next.

use std::collections::{BTreeMap, BTreeSet};

use crate::authority::{self, AuthorityRefusal, Place};
use crate::bootstrap::Bootstrap;
use crate::evidence::{
    AuthorityWitness, Clusters, DocumentList, Evidence, HandoverWitness, Holder, Holds, Reading, WitnessedVault,
};
use crate::name::{Epoch, HandoverId, SecretName};

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
    pub clusters: &'a Clusters,
    /// The copy of the Authority in a target that is another cluster than that of the witnesses, where it could be read.
    pub copy: Option<&'a AuthorityWitness>,
    /// What Vault says of the record of K's epoch.
    pub vault: &'a VaultSays,
    /// The handover that a person gives up.
    pub abandoned: Option<&'a HandoverId>,
    /// Objects that deliver Secrets from Vault.
    pub deliveries: &'a [Delivery],
    /// The Secrets that Git would render, and what is live of them.
    pub secrets: &'a BTreeMap<SecretName, Live>,
    /// Secrets whose live value a person gives up.
    pub overwrite: &'a BTreeSet<SecretName>,
}

/// What Vault says of a handover record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VaultSays {
    /// Certainly none.
    Absent,
    /// There is one, or was: its handover, where that can be read.
    Present(Option<HandoverId>),
    /// No clear answer, and why.
    Silent(String),
}

/// An object that has its controller write a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// `ExternalSecret namespace/name`.
    pub object: String,
    /// The Secret.
    pub secret: SecretName,
}

/// A live Secret beside Git's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Live {
    /// There is none.
    Absent,
    /// It has the values that Git has.
    Same,
    /// It has others.
    Different,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The mirror of the handover is unfinished: the Authority becomes this first.
    CompleteMirrorFirst(Box<AuthorityWitness>),
    /// The Authority becomes this: Git rules the next epoch.
    Raise(Box<AuthorityWitness>),
    /// It says so already: what follows it remains.
    Finish(Box<AuthorityWitness>),
}

/// Why the epoch is not raised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RebootstrapRefusal {
    /// P0..P6, everything but P3.
    #[error(transparent)]
    Authority(#[from] AuthorityRefusal),
    /// Git and the witnesses agree, and nobody asks for another epoch.
    #[error("the witnesses say {held}, and regent.yaml does not ask for an epoch that supersedes it")]
    NotAsked {
        /// K.
        held: String,
    },
    /// The witnesses are another cluster's, or the Secrets are looked for in another one.
    #[error("the authority is about {whose} {recorded}, and the one that was asked is {asked}")]
    OtherCluster {
        /// Which of the two.
        whose: &'static str,
        /// Its uid in the witness.
        recorded: String,
        /// The uid found.
        asked: String,
    },
    /// The mirror cannot be completed.
    #[error("the handover's mirror is unfinished and cannot be completed: {why}")]
    Mirror {
        /// What is missing or contradicts.
        why: String,
    },
    /// Another handover was given up than the one that rules.
    #[error("`--abandon-vault` names handover {given}, and the witnesses say {held}")]
    OtherHandover {
        /// On the command line.
        given: HandoverId,
        /// h.
        held: HandoverId,
    },
    /// Vault is there and holds the record.
    #[error(
        "Vault holds the record of handover {}: it is not lost",
        found.as_ref().map_or("(unreadable)".to_owned(), ToString::to_string)
    )]
    VaultHolds {
        /// The handover in the record, where it can be read.
        found: Option<HandoverId>,
        /// h.
        held: HandoverId,
    },
    /// Vault may be there.
    #[error("Vault does not say whether it holds the record: {why}")]
    VaultSilent {
        /// Why there is no answer.
        why: String,
        /// h.
        held: HandoverId,
    },
    /// A controller would go on writing Vault's values.
    #[error("{} still delivers Secret {}{}", first.object, first.secret, more(*others))]
    Delivered {
        /// The first of them.
        first: Delivery,
        /// How many more there are.
        others: usize,
    },
    /// A Secret was named that Git does not render.
    #[error("`--overwrite-live` names {name}, and Git has no such Secret")]
    NoSuchSecret {
        /// The name.
        name: SecretName,
    },
    /// Live values would be lost.
    #[error("the live values of {} differ from Git's and would be overwritten", listed(secrets))]
    LiveDiffers {
        /// Those that were not named.
        secrets: Vec<SecretName>,
    },
    /// What was decided upon is not so any more.
    #[error("what is in the cluster changed meanwhile")]
    Moved,
}

/// Decides what comes next.
///
/// # Errors
/// What stands against it.
pub fn decide(facts: &Facts<'_>) -> Result<Step, RebootstrapRefusal> {
    let Facts { bootstrap, place, evidence, .. } = *facts;
    let holder = evidence.holder();
    let not_asked = || RebootstrapRefusal::NotAsked { held: holder.to_string() };
    match (authority::rule(bootstrap, place, &holder, DocumentList::Unreadable), &holder) {
        (Err(AuthorityRefusal::NextEpoch { .. }), Holder::Vault { epoch, handover, .. }) => {
            next(facts, &holder, *epoch, handover)
        }
        (Err(refusal), _) => Err(refusal.into()),
        (Ok(_), Holder::Git { supersedes: Some(_), .. }) => {
            let raised = raised(evidence).ok_or_else(not_asked)?;
            clusters(facts, raised, &holder)?;
            Ok(Step::Finish(Box::new(raised.clone())))
        }
        (
            Ok(_),
            Holder::Git { supersedes: None, .. }
            | Holder::Vault { .. }
            | Holder::None
            | Holder::Disagree(_)
            | Holder::Unreadable(_),
        ) => Err(not_asked()),
    }
}

/// What an Authority that lags behind (a hub's copy) becomes on its way to `to`, step by step; `None` where there is no
/// way that its rules allow. `handover` is the Authority as the handover in between left it.
pub fn catch_up(
    from: Option<&AuthorityWitness>,
    handover: Option<&AuthorityWitness>,
    to: &AuthorityWitness,
) -> Option<Vec<AuthorityWitness>> {
    if from == Some(to) {
        return Some(Vec::new());
    }
    if AuthorityWitness::may_follow(from, to).is_ok() {
        return Some(vec![to.clone()]);
    }
    let between = handover?;
    let leads =
        AuthorityWitness::may_follow(from, between).is_ok() && AuthorityWitness::may_follow(Some(between), to).is_ok();
    leads.then(|| vec![between.clone(), to.clone()])
}

/// P3: vault(e,h), and Git asks for e+1.
fn next(facts: &Facts<'_>, holder: &Holder, epoch: Epoch, handover: &HandoverId) -> Result<Step, RebootstrapRefusal> {
    let Facts { bootstrap, place, evidence, .. } = *facts;
    let current = match &evidence.authority {
        Reading::Present(current) => Some(current),
        Reading::Absent => None,
        // It will be written, and what it says counts.
        Reading::Unreadable(why) => return Err(AuthorityRefusal::Unreadable { why: why.clone() }.into()),
    };
    let witness = witness(evidence, epoch);
    let recorded = recorded(current, witness)?;
    if recorded.root != place.root {
        let refusal = AuthorityRefusal::OtherRoot { recorded: recorded.root.clone(), root: place.root.clone() };
        return Err(refusal.into());
    }
    clusters(facts, recorded, holder)?;
    let raised = raise(facts, recorded, handover)?;
    // Looked at now: no write is made on a way that ends before its goal.
    let after = Evidence { authority: Reading::Present(raised.clone()), ..evidence.clone() }.holder();
    authority::rule(bootstrap, place, &after, DocumentList::Unreadable)?;

    vault(facts, handover)?;
    deliveries(facts, witness)?;
    live(facts)?;

    let step = match current {
        None => AuthorityWitness { holds: Holds::Git, record: None, ..recorded.clone() },
        Some(AuthorityWitness { holds: Holds::Vault(_), .. }) => return Ok(Step::Raise(Box::new(raised))),
        Some(AuthorityWitness { holds: Holds::Git, .. }) => recorded.clone(),
    };
    AuthorityWitness::may_follow(current, &step).map_err(|why| RebootstrapRefusal::Mirror { why: why.to_owned() })?;
    Ok(Step::CompleteMirrorFirst(Box::new(step)))
}

/// The handover witness of an epoch, where it is there.
fn witness(evidence: &Evidence, epoch: Epoch) -> Option<&HandoverWitness> {
    match evidence.handovers.get(&epoch) {
        Some(Reading::Present(witness)) => Some(witness),
        Some(Reading::Absent | Reading::Unreadable(_)) | None => None,
    }
}

/// The Authority as the handover leaves it: it says so itself, or its `ConfigMap` does.
fn recorded<'a>(
    current: Option<&'a AuthorityWitness>,
    witness: Option<&'a HandoverWitness>,
) -> Result<&'a AuthorityWitness, RebootstrapRefusal> {
    if let Some(current @ AuthorityWitness { holds: Holds::Vault(_), .. }) = current {
        return Ok(current);
    }
    let whole = witness.and_then(|witness| witness.authority.as_deref());
    whole.ok_or_else(|| RebootstrapRefusal::Mirror {
        why: "the handover witness does not hold the whole record".to_owned(),
    })
}

/// The Authority that says git of a later epoch.
fn raised(evidence: &Evidence) -> Option<&AuthorityWitness> {
    match &evidence.authority {
        Reading::Present(witness @ AuthorityWitness { holds: Holds::Git, .. }) => Some(witness),
        Reading::Present(_) | Reading::Absent | Reading::Unreadable(_) => None,
    }
}

/// The Authority of the next epoch. The root stays; the place in Vault is the one that Git names now, and the clusters are
/// those that were asked and found to be its own: a target that was taken over is the new epoch's from the start.
fn raise(
    facts: &Facts<'_>,
    recorded: &AuthorityWitness,
    handover: &HandoverId,
) -> Result<AuthorityWitness, RebootstrapRefusal> {
    let bootstrap = facts.bootstrap;
    let vault = bootstrap.vault.as_ref().map(|vault| WitnessedVault {
        address: vault.address.clone(),
        namespace: vault.namespace.clone(),
        mount: vault.mount.clone(),
        prefix: vault.prefix.clone(),
    });
    let raised = AuthorityWitness {
        name: bootstrap.name.clone(),
        holds: Holds::Git,
        epoch: bootstrap.epoch,
        supersedes: Some(handover.clone()),
        root: recorded.root.clone(),
        vault,
        clusters: Some(facts.clusters.clone()),
        no_vault_yet: false,
        record: None,
    };
    match AuthorityWitness::may_follow(Some(recorded), &raised) {
        Ok(()) => Ok(raised),
        Err(why) => Err(RebootstrapRefusal::Mirror { why: why.to_owned() }),
    }
}

/// Live values are compared, and later overwritten, in the very clusters that the authority is about.
fn clusters(facts: &Facts<'_>, witness: &AuthorityWitness, holder: &Holder) -> Result<(), RebootstrapRefusal> {
    let recorded = witness.clusters_now(holder, facts.copy);
    same_clusters(recorded, facts.clusters).map_err(|(whose, recorded, asked)| RebootstrapRefusal::OtherCluster {
        whose,
        recorded,
        asked,
    })
}

/// Which of the two clusters is another one, as `(which, recorded uid, uid found)`.
pub(crate) fn same_clusters(
    recorded: Option<&Clusters>,
    asked: &Clusters,
) -> Result<(), (&'static str, String, String)> {
    let uid =
        |of: fn(&Clusters) -> &String| recorded.map_or("(not recorded)".to_owned(), |clusters| of(clusters).clone());
    for (whose, of) in [
        ("witnesses in cluster", (|clusters: &Clusters| &clusters.witness) as fn(&Clusters) -> &String),
        ("Secrets in cluster", |clusters: &Clusters| &clusters.target),
    ] {
        if uid(of) != *of(asked) {
            return Err((whose, uid(of), of(asked).clone()));
        }
    }
    Ok(())
}

fn vault(facts: &Facts<'_>, held: &HandoverId) -> Result<(), RebootstrapRefusal> {
    let held = held.clone();
    match (facts.abandoned, facts.vault) {
        (Some(given), _) if *given != held => Err(RebootstrapRefusal::OtherHandover { given: given.clone(), held }),
        (Some(_), VaultSays::Absent | VaultSays::Present(_) | VaultSays::Silent(_)) | (None, VaultSays::Absent) => {
            Ok(())
        }
        (None, VaultSays::Present(found)) => Err(RebootstrapRefusal::VaultHolds { found: found.clone(), held }),
        (None, VaultSays::Silent(why)) => Err(RebootstrapRefusal::VaultSilent { why: why.clone(), held }),
    }
}

/// A Secret counts where it was handed over or Git would render it. Without a readable list only Git tells.
fn deliveries(facts: &Facts<'_>, witness: Option<&HandoverWitness>) -> Result<(), RebootstrapRefusal> {
    let imported = match &facts.evidence.imported {
        Reading::Present(imported) => imported.as_slice(),
        Reading::Absent | Reading::Unreadable(_) => &[],
    };
    let handed_over = witness.map(|witness| witness.documents.as_slice()).unwrap_or_default().iter().chain(imported);
    let listed: BTreeSet<&SecretName> = handed_over.map(|document| &document.name).collect();
    let ours = |delivery: &&Delivery| listed.contains(&delivery.secret) || facts.secrets.contains_key(&delivery.secret);
    let mut ours = facts.deliveries.iter().filter(ours);
    match ours.next() {
        None => Ok(()),
        Some(first) => Err(RebootstrapRefusal::Delivered { first: first.clone(), others: ours.count() }),
    }
}

fn live(facts: &Facts<'_>) -> Result<(), RebootstrapRefusal> {
    if let Some(name) = facts.overwrite.iter().find(|name| !facts.secrets.contains_key(name)) {
        return Err(RebootstrapRefusal::NoSuchSecret { name: name.clone() });
    }
    let lost = facts.secrets.iter().filter(|(name, live)| match live {
        Live::Different => !facts.overwrite.contains(name),
        Live::Absent | Live::Same => false,
    });
    let secrets: Vec<SecretName> = lost.map(|(name, _)| name.clone()).collect();
    if secrets.is_empty() { Ok(()) } else { Err(RebootstrapRefusal::LiveDiffers { secrets }) }
}

fn more(others: usize) -> String {
    if others == 0 { String::new() } else { format!(", and {others} more objects deliver others") }
}

fn listed(names: &[SecretName]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
