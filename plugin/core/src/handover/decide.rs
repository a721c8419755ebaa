//! What the handover job does next: one function of what Vault's record says, of K, of where we are, and of what people
//! decided. Whatever is not certainly so is a stop, and a stop changes nothing.
//!
//! ```text
//! record's key             K                  then
//! absent                   git(E)             copy everything, write the record, read it back      [`Step::Copy`]
//! present                  git(E), none       mirror it, if it is the one of this plan             [`Step::Mirror`]
//! present h                vault(h)           a missing witness, or nothing                        [`Step::Complete`], [`Step::Done`]
//! absent                   vault(h)           lost: never copy, never write a record
//! present h'               vault(h)           replaced
//! present, other Vault     any                a person accepts it: an appended key, then again     [`Step::Rebind`]
//! present, other cluster   any                a person adopts it: an appended key, then again      [`Step::Adopt`]
//! deleted, written twice   any                somebody has touched it
//! unreadable               any                nobody knows
//! any                      disagree, unreadable
//! ```
//! Values leave for Vault by [`Step::Copy`] alone. Everything else moves authority to where the record says that it is.

use std::collections::{BTreeMap, BTreeSet};

use crate::authority::{self, AuthorityRefusal, Place};
use crate::bootstrap::Bootstrap;
use crate::evidence::{AuthorityWitness, Clusters, DocumentList, Holder, Holds, ListedClass, ListedDocument, Mirror};
use crate::handover::plan::Outline;
use crate::handover::record::{Amendment, KeyNow, Loss, Marked, Record, Site, VaultIdentity};
use crate::name::{AuthorityName, Epoch, HandoverId, SecretName};

/// Everything that a decision is a function of.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The authority.
    pub name: &'a AuthorityName,
    /// What Git says; `None` for `regent verify`, which has the witnesses and the record alone.
    pub git: Option<Git<'a>>,
    /// K.
    pub holder: &'a Holder,
    /// The Authority that K comes from, where it could be read.
    pub authority: Option<&'a AuthorityWitness>,
    /// What Vault says of the key of the record of [`epoch_to_read`].
    pub record: &'a RecordKey,
    /// The Vault that was asked, and the clusters.
    pub site: &'a Site,
    /// `--adopt ID`: the handover that a person takes over in this cluster.
    pub adopt: Option<&'a HandoverId>,
    /// `--accept-vault-identity`.
    pub other_vault: OtherVault,
}

/// The revision that is handed over.
#[derive(Clone, Copy)]
pub struct Git<'a> {
    /// `regent.yaml`: E, S, `closed`.
    pub bootstrap: &'a Bootstrap,
    /// Where its folder stands.
    pub place: &'a Place,
    /// What it would hand over; `None` where nothing may be opened, because K is not git(E).
    pub outline: Option<&'a Outline>,
}

/// What a person says of a Vault with another identity than the record's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherVault {
    /// Nothing: it is not the one.
    Refused,
    /// It is the one, moved or restored.
    Accepted,
}

/// What Vault says of the record's key. Only a clear answer of the active node is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordKey {
    /// Certainly not there.
    Absent,
    /// There.
    Present(Box<Found>),
    /// It was there, and was deleted or destroyed.
    Deleted,
    /// No clear answer, or no record of this authority and epoch: why.
    Unreadable(String),
}

/// A record, and what lies beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The record.
    pub marked: Marked,
    /// The adoption at [`Amendment::adopted_key`] of the clusters that were asked.
    pub adopted: Option<Amendment>,
    /// The rebindings, from the first on.
    pub rebound: Vec<Amendment>,
    /// The keys of its copies. Not asked about once K is vault.
    pub keys: BTreeMap<SecretName, KeyNow>,
}

/// Leave to write values into Vault. Only [`decide`] makes one, and [`crate::import::decide`] for the one document of an
/// import.
#[derive(Debug)]
pub struct Leave(());

impl Leave {
    /// For an [`crate::import::Importation`], and nobody else.
    pub(crate) fn of_import() -> Self {
        Self(())
    }
}

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    /// Git rules, and there is no record: copy all, read all back, write the record. What the draft's copies need to
    /// leave.
    Copy(Leave),
    /// The record is not mirrored: write both witnesses from it, its `ConfigMap` first.
    Mirror(Box<Marked>),
    /// Vault rules, and one of the witnesses is missing: write it from the record.
    Complete(Box<Marked>),
    /// The witnesses are there: verify.
    Done(Box<Marked>),
    /// Append this at [`Amendment::adopted_key`], with `cas=0`, and decide again.
    Adopt(Box<Amendment>),
    /// Append this at [`Amendment::rebind_key`] of this number, with `cas=0`, and decide again.
    Rebind(usize, Box<Amendment>),
    /// Git rules, there is no record, and no plan is at hand: nothing was handed over yet.
    NotYet,
}

/// Why nothing is done. No stop changes anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// P0..P6.
    #[error(transparent)]
    Authority(#[from] AuthorityRefusal),
    /// Vault does not say, or what is there is no record.
    #[error("Vault does not say whether it holds the handover record of epoch {epoch}: {why}")]
    RecordUnreadable {
        /// The epoch.
        epoch: Epoch,
        /// Why.
        why: String,
    },
    /// The record was taken away.
    #[error("the handover record of epoch {epoch} was deleted in Vault")]
    RecordDeleted {
        /// The epoch.
        epoch: Epoch,
    },
    /// The record was written over.
    #[error("the handover record of epoch {epoch} is at version {version}: it was written again")]
    RecordRewritten {
        /// The epoch.
        epoch: Epoch,
        /// The version of its key.
        version: u32,
    },
    /// An older backup of Vault, an empty Vault, or another one.
    #[error(
        "authority is lost: the witnesses say vault({epoch}, {handover}), and Vault has no record of it (an older \
         backup, an empty Vault or another one)"
    )]
    Lost {
        /// e.
        epoch: Epoch,
        /// h.
        handover: HandoverId,
    },
    /// Another handover of the same epoch.
    #[error("the record was replaced: the witnesses name handover {held}, and Vault's record names {found}")]
    Replaced {
        /// h.
        held: HandoverId,
        /// h'.
        found: HandoverId,
    },
    /// The record and the witnesses cannot both be true.
    #[error("the handover record and the witnesses disagree: {why}")]
    Disagree {
        /// Both sides.
        why: String,
    },
    /// Another Vault answers.
    #[error("the record was written in another Vault: its {what} is {recorded}, and this one's is {found}")]
    OtherVault {
        /// What tells them apart.
        what: &'static str,
        /// In the record.
        recorded: String,
        /// Of the Vault that was asked.
        found: String,
    },
    /// The copies are elsewhere.
    #[error("the record's copies are below `{recorded}`, and the authority's place in Vault is `{found}`")]
    OtherPrefix {
        /// In the record.
        recorded: String,
        /// `vault.prefix`.
        found: String,
    },
    /// Another cluster's record.
    #[error("the record of handover {handover} is another cluster's: {recorded}, and this is {found}")]
    OtherCluster {
        /// Its handover.
        handover: HandoverId,
        /// In the record.
        recorded: String,
        /// The clusters that were asked.
        found: String,
    },
    /// Another root's record.
    #[error("the record of handover {handover} is of the root {recorded}, and this is {found}")]
    OtherRoot {
        /// Its handover.
        handover: HandoverId,
        /// In the record.
        recorded: String,
        /// That of the request.
        found: String,
    },
    /// `--adopt` names another handover.
    #[error("`--adopt` names handover {given}, and Vault's record is of {found}")]
    OtherHandover {
        /// On the command line.
        given: HandoverId,
        /// In the record.
        found: HandoverId,
    },
    /// `--adopt` without a record: nothing is copied by a command that asks for the opposite.
    #[error("`--adopt` names handover {given}, and Vault holds no record: restore the snapshot first")]
    NothingToAdopt {
        /// On the command line.
        given: HandoverId,
    },
    /// A folder has no identity that a record could be adopted for.
    #[error("the record of handover {handover} is a cluster's, and a store in a folder cannot adopt it")]
    NoCluster {
        /// Its handover.
        handover: HandoverId,
    },
    /// There is a record, and no plan of the tree that was handed over to compare it with.
    #[error(
        "Vault holds the record of handover {handover}, not mirrored here yet; commit {commit} was handed over, and \
         that is not what was planned"
    )]
    OtherTree {
        /// Its handover.
        handover: HandoverId,
        /// The commit in the record.
        commit: String,
    },
    /// There is a record, and Git's revision may not be asked about it.
    #[error("Vault holds the record of handover {handover}, not mirrored here yet: {why}")]
    NotMirrored {
        /// Its handover.
        handover: HandoverId,
        /// What Git's revision says.
        why: AuthorityRefusal,
    },
    /// The record of this very tree is about other Secrets.
    #[error("the record of handover {handover} is not that of this plan: {}", differences(missing, foreign))]
    PlanDiffers {
        /// Its handover.
        handover: HandoverId,
        /// Planned, and not in the record.
        missing: Vec<SecretName>,
        /// In the record, and not planned.
        foreign: Vec<SecretName>,
    },
    /// Copies are not in Vault any more as they were recorded.
    #[error("Vault lost copies of handover {handover}: {}", listed(losses))]
    CopiesLost {
        /// Its handover.
        handover: HandoverId,
        /// Which, and how.
        losses: Vec<Loss>,
    },
    /// Nothing was planned, so nothing can be copied.
    #[error("nothing was planned, so nothing is copied")]
    NotPlanned,
}

/// What a stop means for whoever waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopKind {
    /// A rule says no (P0, P3, P6).
    Refused,
    /// The authority is unknown or absent: try again, or `init`.
    Unknown,
    /// A person decides.
    Person,
    /// Stopped before the record: nothing moved.
    BeforeRecord,
    /// Recorded, and not mirrored or settled.
    Underway,
}

/// The epoch whose record is read: K's, or where there is no witness that of `regent.yaml`. `None` where neither is
/// known.
pub fn epoch_to_read(holder: &Holder, bootstrap: Option<&Bootstrap>) -> Option<Epoch> {
    match holder {
        Holder::Git { epoch, .. } | Holder::Vault { epoch, .. } => Some(*epoch),
        Holder::None | Holder::Disagree(_) | Holder::Unreadable(_) => bootstrap.map(|bootstrap| bootstrap.epoch),
    }
}

/// Decides what comes next.
///
/// # Errors
/// Why nothing does.
pub fn decide(facts: &Facts<'_>) -> Result<Step, Stop> {
    let known = match facts.holder {
        Holder::Unreadable(why) => return Err(AuthorityRefusal::Unreadable { why: why.clone() }.into()),
        Holder::Disagree(why) => return Err(AuthorityRefusal::Disagree { why: why.clone() }.into()),
        Holder::None => Known::Nothing,
        Holder::Git { supersedes, .. } => Known::Git(supersedes.as_ref()),
        Holder::Vault { epoch, handover, mirror } => Known::Vault(*epoch, handover, *mirror),
    };
    let none = || AuthorityRefusal::NoAuthority { name: facts.name.clone() };
    let epoch = epoch_to_read(facts.holder, facts.git.map(|git| git.bootstrap)).ok_or_else(none)?;
    match facts.record {
        RecordKey::Unreadable(why) => Err(Stop::RecordUnreadable { epoch, why: why.clone() }),
        RecordKey::Deleted => Err(Stop::RecordDeleted { epoch }),
        RecordKey::Absent => absent(facts, known),
        RecordKey::Present(found) => present(facts, known, epoch, found),
    }
}

/// K, where it is known.
#[derive(Clone, Copy)]
enum Known<'a> {
    Nothing,
    Git(Option<&'a HandoverId>),
    Vault(Epoch, &'a HandoverId, Mirror),
}

fn absent(facts: &Facts<'_>, known: Known<'_>) -> Result<Step, Stop> {
    match (known, facts.git) {
        (Known::Nothing, _) => Err(AuthorityRefusal::NoAuthority { name: facts.name.clone() }.into()),
        (Known::Vault(epoch, handover, _), git) => match git.map(|git| ruled(facts, git)) {
            // That Vault is lost is why a person asks for the next epoch.
            Some(Err(refusal @ AuthorityRefusal::NextEpoch { .. })) => Err(refusal.into()),
            Some(Ok(()) | Err(_)) | None => Err(Stop::Lost { epoch, handover: handover.clone() }),
        },
        (Known::Git(..), None) => Ok(Step::NotYet),
        (Known::Git(..), Some(git)) => {
            ruled(facts, git)?;
            match (facts.adopt, git.outline) {
                (Some(given), _) => Err(Stop::NothingToAdopt { given: given.clone() }),
                (None, None) => Err(Stop::NotPlanned),
                (None, Some(_)) => Ok(Step::Copy(Leave(()))),
            }
        }
    }
}

fn present(facts: &Facts<'_>, known: Known<'_>, epoch: Epoch, found: &Found) -> Result<Step, Stop> {
    let Marked { record, version, .. } = &found.marked;
    if *version != 1 {
        return Err(Stop::RecordRewritten { epoch, version: *version });
    }
    same_handover(facts, known, epoch, found)?;
    if let Some(given) = facts.adopt.filter(|given| **given != record.handover) {
        return Err(Stop::OtherHandover { given: given.clone(), found: record.handover.clone() });
    }
    if let Some(git) = facts.git {
        same_root(git, record)?;
    }
    // Whose record it is comes first: whatever else is wrong with another's is not ours to say.
    let is_this_vault = match (same_vault(found, &facts.site.vault), facts.other_vault) {
        (Ok(()), OtherVault::Refused | OtherVault::Accepted) => true,
        (Err(stop), OtherVault::Refused) | (Err(stop @ Stop::OtherPrefix { .. }), OtherVault::Accepted) => {
            return Err(stop);
        }
        (Err(_), OtherVault::Accepted) => false,
    };
    let is_this_cluster = match (same_clusters(found, facts.site.clusters.as_ref()), facts.adopt, &facts.site.clusters)
    {
        (Ok(()), _, _) => true,
        (Err(stop), None, _) => return Err(stop),
        (Err(_), Some(_), None) => return Err(Stop::NoCluster { handover: record.handover.clone() }),
        (Err(_), Some(_), Some(_)) => false,
    };
    match known {
        Known::Vault(..) => facts.git.map_or(Ok(()), |git| ruled(facts, git))?,
        Known::Git(..) | Known::Nothing => mirrorable(facts, known, found)?,
    }
    let amendment = || {
        Box::new(Amendment {
            name: record.name.clone(),
            epoch: record.epoch,
            handover: record.handover.clone(),
            site: facts.site.clone(),
        })
    };
    // Whatever is read in a Vault that a person accepts was put there anew.
    let is_put_back = !is_this_vault || found.rebound.iter().any(|it| it.site.vault == facts.site.vault);
    let marked = Box::new(seen_from_here(facts, found, is_put_back)?);
    if !is_this_vault {
        return Ok(Step::Rebind(found.rebound.len() + 1, amendment()));
    }
    if !is_this_cluster {
        return Ok(Step::Adopt(amendment()));
    }
    Ok(match known {
        Known::Nothing | Known::Git(..) => Step::Mirror(marked),
        Known::Vault(_, _, Mirror::Incomplete) => Step::Complete(marked),
        Known::Vault(_, _, Mirror::Complete) => Step::Done(marked),
    })
}

/// The record as it is mirrored here: what was adopted or rebound counts, unless the Authority says vault already, which
/// is final. The Authority must be able to become it: the `ConfigMap` is written first, and never again.
fn seen_from_here(facts: &Facts<'_>, found: &Found, is_put_back: bool) -> Result<Marked, Stop> {
    let mut marked = found.marked.clone();
    marked.record.site = facts.site.clone();
    if let Some(AuthorityWitness {
        holds: Holds::Vault(_), vault: Some(place), record: Some(recorded), clusters, ..
    }) = facts.authority
    {
        let vault = VaultIdentity {
            place: place.clone(),
            cluster_id: recorded.vault_cluster_id.clone(),
            mount_uuid: recorded.mount_uuid.clone(),
        };
        marked.record.site = Site { vault, clusters: clusters.clone() };
        if is_put_back {
            (marked.version, marked.created_time) = (recorded.marker_version, recorded.marker_created_time.clone());
        }
    }
    match facts.authority {
        // A store in a folder may do without the record's facts.
        None | Some(AuthorityWitness { holds: Holds::Vault(_), record: None, .. }) => {}
        Some(current) => AuthorityWitness::may_follow(Some(current), &marked.witnesses().1).map_err(|why| {
            Stop::Disagree { why: format!("the Authority cannot become what the record says: {why}") }
        })?,
    }
    Ok(marked)
}

/// The record, what was appended to it, and K are about one handover.
fn same_handover(facts: &Facts<'_>, known: Known<'_>, epoch: Epoch, found: &Found) -> Result<(), Stop> {
    let record = &found.marked.record;
    let disagree = |why: String| Err(Stop::Disagree { why });
    if record.epoch != epoch {
        return disagree(format!("the record is of epoch {}, and the witnesses are at {epoch}", record.epoch));
    }
    if let Some(amendment) = found.adopted.iter().chain(&found.rebound).find(|it| it.handover != record.handover) {
        let (appended, recorded) = (&amendment.handover, &record.handover);
        return disagree(format!("the record is of handover {recorded}, and what was appended to it of {appended}"));
    }
    match known {
        Known::Vault(_, held, _) if *held != record.handover => {
            Err(Stop::Replaced { held: held.clone(), found: record.handover.clone() })
        }
        Known::Git(supersedes) if supersedes != record.supersedes.as_ref() => {
            disagree(format!("the record of epoch {epoch} supersedes another handover than the Authority"))
        }
        Known::Nothing if facts.git.is_some_and(|git| git.bootstrap.supersedes != record.supersedes) => {
            disagree(format!("the record of epoch {epoch} supersedes another handover than regent.yaml"))
        }
        Known::Vault(..) | Known::Git(..) | Known::Nothing => Ok(()),
    }
}

/// Whether a record may be mirrored that is not yet: the copies are there, and where Git is at hand it is the record of
/// this plan. `verify` has the record's own word alone, and so has `init --from-vault`, with a person who names it.
fn mirrorable(facts: &Facts<'_>, known: Known<'_>, found: &Found) -> Result<(), Stop> {
    let record = &found.marked.record;
    let handover = || record.handover.clone();
    match (known, facts.git) {
        (_, None) | (Known::Nothing | Known::Vault(..), Some(Git { outline: None, .. })) => {}
        (Known::Git(..), Some(git @ Git { outline: None, .. })) => {
            let other_tree = || Stop::OtherTree { handover: handover(), commit: record.git_commit.clone() };
            let refused = |why| Stop::NotMirrored { handover: handover(), why };
            return Err(ruled(facts, git).map_or_else(refused, |()| other_tree()));
        }
        (_, Some(git @ Git { outline: Some(outline), .. })) => {
            if let Known::Git(..) = known {
                ruled(facts, git).map_err(|why| Stop::NotMirrored { handover: handover(), why })?;
            }
            same_plan(outline, record)?;
        }
    }
    let losses = record.losses(&found.keys);
    if losses.is_empty() { Ok(()) } else { Err(Stop::CopiesLost { handover: handover(), losses }) }
}

/// The record is that of the plan for its tree.
fn same_plan(outline: &Outline, record: &Record) -> Result<(), Stop> {
    if outline.tree_digest != record.tree_digest {
        return Err(Stop::OtherTree { handover: record.handover.clone(), commit: record.git_commit.clone() });
    }
    let missing = names_without(&outline.documents, &outline.copied, &record.documents, &record.copied());
    let foreign = names_without(&record.documents, &record.copied(), &outline.documents, &outline.copied);
    if missing.is_empty() && foreign.is_empty() {
        Ok(())
    } else {
        Err(Stop::PlanDiffers { handover: record.handover.clone(), missing, foreign })
    }
}

/// Names of documents that the others do not have as they are, and of copies that the others do not have.
fn names_without(
    documents: &[ListedDocument],
    copied: &BTreeSet<SecretName>,
    other_documents: &[ListedDocument],
    other_copied: &BTreeSet<SecretName>,
) -> Vec<SecretName> {
    let key = |document: &ListedDocument| {
        let ListedDocument { path, name, kind, class, blob } = document.clone();
        (name, kind, class == ListedClass::Permanent, path, blob)
    };
    let others: BTreeSet<_> = other_documents.iter().map(key).collect();
    let documents = documents.iter().map(key).filter(|document| !others.contains(document)).map(|(name, ..)| name);
    let names: BTreeSet<_> = documents.chain(copied.difference(other_copied).cloned()).collect();
    names.into_iter().collect()
}

/// P0..P6 for Git's revision.
fn ruled(facts: &Facts<'_>, git: Git<'_>) -> Result<(), AuthorityRefusal> {
    authority::rule(git.bootstrap, git.place, facts.holder, DocumentList::Unreadable).map(drop)
}

fn same_root(git: Git<'_>, record: &Record) -> Result<(), Stop> {
    if record.root == git.place.root {
        return Ok(());
    }
    let folder = |root: &Option<String>| root.clone().unwrap_or_else(|| "(outside a repository)".to_owned());
    Err(Stop::OtherRoot {
        handover: record.handover.clone(),
        recorded: folder(&record.root),
        found: folder(&git.place.root),
    })
}

/// The Vault that was asked is the record's, or one that a person accepted for it.
fn same_vault(found: &Found, asked: &VaultIdentity) -> Result<(), Stop> {
    let recorded = &found.marked.record.site.vault;
    // Nobody moves the copies.
    if recorded.place.prefix != asked.place.prefix {
        let (recorded, found) = (recorded.place.prefix.clone(), asked.place.prefix.clone());
        return Err(Stop::OtherPrefix { recorded, found });
    }
    if found.rebound.iter().any(|rebound| rebound.site.vault == *asked) {
        return Ok(());
    }
    for (what, recorded, found) in [
        ("cluster id", &recorded.cluster_id, &asked.cluster_id),
        ("mount's uuid", &recorded.mount_uuid, &asked.mount_uuid),
        ("address", &recorded.place.address, &asked.place.address),
        ("namespace", &recorded.place.namespace, &asked.place.namespace),
        ("mount", &recorded.place.mount, &asked.place.mount),
    ] {
        if recorded != found {
            return Err(Stop::OtherVault { what, recorded: recorded.clone(), found: found.clone() });
        }
    }
    Ok(())
}

/// The clusters are the record's, or those that a person adopted it for.
fn same_clusters(found: &Found, asked: Option<&Clusters>) -> Result<(), Stop> {
    let record = &found.marked.record;
    let adopted = found.adopted.as_ref().and_then(|adopted| adopted.site.clusters.as_ref());
    if record.site.clusters.as_ref() == asked || (asked.is_some() && adopted == asked) {
        return Ok(());
    }
    let shown = |clusters: Option<&Clusters>| match clusters {
        None => "a store in a folder".to_owned(),
        Some(Clusters { witness, target }) if witness == target => format!("cluster {target}"),
        Some(Clusters { witness, target }) => format!("cluster {target}, witnessed in {witness}"),
    };
    Err(Stop::OtherCluster {
        handover: record.handover.clone(),
        recorded: shown(record.site.clusters.as_ref()),
        found: shown(asked),
    })
}

impl Stop {
    /// What it means for whoever waits.
    pub fn kind(&self) -> StopKind {
        match self {
            Self::Authority(refusal) => match refusal.rule() {
                authority::Rule::P0 | authority::Rule::P3 | authority::Rule::P6 => StopKind::Refused,
                authority::Rule::P1 => match refusal {
                    AuthorityRefusal::Disagree { .. } => StopKind::Person,
                    AuthorityRefusal::OtherAuthority { .. }
                    | AuthorityRefusal::OtherBootstrap { .. }
                    | AuthorityRefusal::OtherRoot { .. }
                    | AuthorityRefusal::Unreadable { .. }
                    | AuthorityRefusal::NextEpoch { .. }
                    | AuthorityRefusal::NoAuthority { .. }
                    | AuthorityRefusal::Mismatch { .. }
                    | AuthorityRefusal::AssumedAgainst { .. }
                    | AuthorityRefusal::Moved { .. } => StopKind::Unknown,
                },
                authority::Rule::P5 => StopKind::Unknown,
            },
            Self::RecordUnreadable { .. } => StopKind::Unknown,
            Self::RecordDeleted { .. }
            | Self::RecordRewritten { .. }
            | Self::Lost { .. }
            | Self::Replaced { .. }
            | Self::Disagree { .. }
            | Self::OtherVault { .. }
            | Self::OtherPrefix { .. }
            | Self::OtherCluster { .. }
            | Self::OtherRoot { .. }
            | Self::OtherHandover { .. }
            | Self::NoCluster { .. }
            | Self::PlanDiffers { .. }
            | Self::CopiesLost { .. } => StopKind::Person,
            Self::NothingToAdopt { .. } | Self::NotPlanned => StopKind::BeforeRecord,
            Self::OtherTree { .. } | Self::NotMirrored { .. } => StopKind::Underway,
        }
    }
}

fn listed<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn differences(missing: &[SecretName], foreign: &[SecretName]) -> String {
    let part = |names: &[SecretName], what: &str| (!names.is_empty()).then(|| format!("{} {what}", listed(names)));
    let parts = [part(missing, "missing in it"), part(foreign, "in it and not planned")];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
