//! Witnesses, and what they say together: K.
//!
//! A witness is read by whoever knows its place (an API server, the embedded store) and comes here as a
//! [`Reading`]. Its JSON carries the field names of the handover record. A reader gathers the Authority first
//! and then the handover witnesses of [`Evidence::epochs_to_read`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::{AuthorityName, Epoch, FilePath, HandoverId, SecretName};

/// What reading one witness gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading<T> {
    /// Certainly not there.
    Absent,
    /// There.
    Present(T),
    /// There may be one: why it could not be read.
    Unreadable(String),
}

impl<T> Reading<T> {
    /// What is there, as far as it was read.
    pub fn present(&self) -> Option<&T> {
        match self {
            Self::Present(what) => Some(what),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }
}

/// The `Authority` witness: who holds the current epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityWitness {
    /// `authorityId`: the authority's name.
    pub name: AuthorityName,
    /// `authority` and `handoverId`.
    pub holds: Holds,
    /// `epoch`.
    pub epoch: Epoch,
    /// `supersedes`: the handover that this epoch replaces; there exactly where the epoch is above the first.
    pub supersedes: Option<HandoverId>,
    /// `root`: the folder of `regent.yaml` in its repository, `.` for the repository's own, `None` outside one.
    pub root: Option<String>,
    /// The place in Vault, as `init` found it in `regent.yaml`.
    pub vault: Option<WitnessedVault>,
    /// The clusters; a store in a folder has none.
    pub clusters: Option<Clusters>,
    /// `noVaultYet`: `init` was told that there is no Vault to ask for a record.
    pub no_vault_yet: bool,
    /// What the handover record says besides; a store in a folder may do without.
    pub record: Option<RecordFacts>,
}

/// Which clusters an authority is about, as the uids of their `kube-system` namespaces: a witness that was copied
/// into another cluster is not evidence there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clusters {
    /// `witnessKubeUid`: where the witnesses live.
    pub witness: String,
    /// `targetKubeUid`: where the Secrets live.
    pub target: String,
}

/// What a handover record holds that no decision of rendering needs; nothing of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordFacts {
    /// `gitCommit`: the full id of the commit that was handed over.
    pub git_commit: String,
    /// `treeDigest`: over paths and blob ids of the root's encrypted files.
    pub tree_digest: String,
    /// `vaultClusterId`.
    pub vault_cluster_id: String,
    /// `mountUuid`.
    pub mount_uuid: String,
    /// `markerVersion`: the version of the record's key in Vault; 1.
    pub marker_version: u32,
    /// `markerCreatedTime`, as Vault says it.
    pub marker_created_time: String,
    /// `regentVersion` that made the handover.
    pub regent_version: String,
}

/// The place in Vault that an authority was created with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessedVault {
    /// `vaultAddress`.
    pub address: String,
    /// `vaultNamespace`, empty for none.
    pub namespace: String,
    /// `mount`.
    pub mount: String,
    /// `prefix`.
    pub prefix: String,
}

/// As it is told: whoever reads a plan has to see every part of where the values go.
impl std::fmt::Display for WitnessedVault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { address, namespace, mount, prefix } = self;
        let namespace = if namespace.is_empty() { String::new() } else { format!("namespace {namespace} ") };
        write!(f, "{address} {namespace}{mount}/{prefix}")
    }
}

/// Who holds an epoch, as one witness says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Git.
    Git,
    /// Vault, since this handover.
    Vault(HandoverId),
}

/// The immutable witness of a handover (a `ConfigMap` in a cluster), with the list of documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandoverWitness {
    /// `authorityId`.
    pub name: AuthorityName,
    /// `epoch`.
    pub epoch: Epoch,
    /// `handoverId`.
    pub handover: HandoverId,
    /// `documents`: what was handed over.
    pub documents: Vec<ListedDocument>,
    /// The Authority as this handover leaves it: what completes a mirror that stopped between its two witnesses. A
    /// store in a folder may do without.
    pub authority: Option<Box<AuthorityWitness>>,
}

/// One handed-over document; nothing of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedDocument {
    /// Its file in the root.
    pub path: FilePath,
    /// `ns/name`.
    pub name: SecretName,
    /// `Secret`, or one of `secrets.kinds`: kinds of the core group as `ConfigMap`, others as `apps/v1/Deployment`.
    pub kind: String,
    /// Its class at the handover.
    pub class: ListedClass,
    /// Git blob id of the file.
    pub blob: String,
}

/// The class under which a document was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListedClass {
    /// Copied, then owned by Vault.
    Handover,
    /// Needed again before Vault in every bootstrap.
    Permanent,
}

/// Everything that was read before a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The Authority.
    pub authority: Reading<AuthorityWitness>,
    /// The handover witnesses of the epochs that were asked for.
    pub handovers: BTreeMap<Epoch, Reading<HandoverWitness>>,
    /// Documents that `regent import` added to the list of the current epoch.
    pub imported: Reading<Vec<ListedDocument>>,
    /// Whether the handover is settled: no old value can come back. Unreadable means not.
    pub settled: Reading<()>,
    /// Where the Vault of K's handover is since a person said that it moved. The witnesses stay as they are, final.
    pub moved: Reading<WitnessedVault>,
}

/// K: who is authoritative.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// No witness.
    None,
    /// Git.
    Git {
        /// e.
        epoch: Epoch,
        /// What the witness supersedes.
        supersedes: Option<HandoverId>,
    },
    /// Vault.
    Vault {
        /// e.
        epoch: Epoch,
        /// h.
        handover: HandoverId,
        /// Both witnesses say so, or one is missing.
        mirror: Mirror,
    },
    /// Witnesses that were both read and cannot both be true.
    Disagree(String),
    /// Anything else: what could not be read.
    Unreadable(String),
}

/// Whether both witnesses of a handover are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mirror {
    /// Both.
    Complete,
    /// One is missing or unreadable.
    Incomplete,
}

/// The root that an Authority was created for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RecordedRoot {
    /// There is no Authority, or it could not be read.
    #[default]
    Unknown,
    /// Its `root`: a folder in a repository, or `None` for one outside any.
    Is(Option<String>),
}

/// The list that stubs are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentList {
    /// Readable, imported documents included.
    Readable(Vec<ListedDocument>),
    /// Not readable.
    Unreadable,
}

impl Evidence {
    /// Nothing was found anywhere.
    pub fn none() -> Self {
        Self {
            authority: Reading::Absent,
            handovers: BTreeMap::new(),
            imported: Reading::Absent,
            settled: Reading::Absent,
            moved: Reading::Absent,
        }
    }

    /// The epochs whose handover witnesses a reader asks for: those around the Authority's and around
    /// `regent.yaml`'s, so that neither a lost Authority nor a rolled-back Git hides a handover.
    pub fn epochs_to_read(authority: &Reading<AuthorityWitness>, bootstrap: Option<Epoch>) -> Vec<Epoch> {
        let witnessed = match authority {
            Reading::Present(witness) => Some(witness.epoch),
            Reading::Absent | Reading::Unreadable(_) => None,
        };
        let around = |epoch: Epoch| [epoch.previous(), Some(epoch), epoch.next()];
        let mut epochs: Vec<Epoch> = witnessed.into_iter().chain(bootstrap).flat_map(around).flatten().collect();
        epochs.sort_unstable();
        epochs.dedup();
        epochs
    }

    /// K, by the witness table.
    pub fn holder(&self) -> Holder {
        let authority_epoch = match &self.authority {
            Reading::Present(witness) => Some(witness.epoch),
            Reading::Absent | Reading::Unreadable(_) => None,
        };
        let present = |(epoch, reading): (&Epoch, &Reading<HandoverWitness>)| match reading {
            Reading::Present(_) => Some(*epoch),
            Reading::Absent | Reading::Unreadable(_) => None,
        };
        let highest = self.handovers.iter().filter_map(present).chain(authority_epoch).max();
        match highest {
            Some(epoch) => self.holder_at(epoch),
            None => self.holder_of_nothing(),
        }
    }

    /// No witness could be read: certainly none, or not known.
    fn holder_of_nothing(&self) -> Holder {
        if let Reading::Unreadable(why) = &self.authority {
            return Holder::Unreadable(why.clone());
        }
        let unreadable = self.handovers.values().find_map(|reading| match reading {
            Reading::Unreadable(why) => Some(why.clone()),
            Reading::Absent | Reading::Present(_) => None,
        });
        unreadable.map_or(Holder::None, Holder::Unreadable)
    }

    fn holder_at(&self, epoch: Epoch) -> Holder {
        let handover = self.handover(epoch);
        let authority = match &self.authority {
            Reading::Present(witness) if witness.epoch == epoch => Reading::Present(witness),
            Reading::Present(witness) => {
                return Holder::Unreadable(format!(
                    "the Authority is at epoch {}, and a handover witness at epoch {epoch}",
                    witness.epoch
                ));
            }
            Reading::Absent => Reading::Absent,
            Reading::Unreadable(why) => Reading::Unreadable(why.clone()),
        };
        match (authority, &handover) {
            (Reading::Present(AuthorityWitness { holds: Holds::Git, supersedes, .. }), Reading::Absent) => {
                self.git_holder(epoch, supersedes.as_ref())
            }
            (Reading::Present(AuthorityWitness { holds: Holds::Git, .. }), Reading::Unreadable(why)) => {
                Holder::Unreadable(why.clone())
            }
            (
                Reading::Present(AuthorityWitness { holds: Holds::Git, .. }) | Reading::Absent | Reading::Unreadable(_),
                Reading::Present(witness),
            ) => Holder::Vault { epoch, handover: witness.handover.clone(), mirror: Mirror::Incomplete },
            (
                Reading::Present(AuthorityWitness { holds: Holds::Vault(id), .. }),
                Reading::Absent | Reading::Unreadable(_),
            ) => Holder::Vault { epoch, handover: id.clone(), mirror: Mirror::Incomplete },
            (Reading::Present(AuthorityWitness { holds: Holds::Vault(id), .. }), Reading::Present(witness)) => {
                if *id == witness.handover {
                    Holder::Vault { epoch, handover: id.clone(), mirror: Mirror::Complete }
                } else {
                    Holder::Disagree(format!(
                        "epoch {epoch}: the Authority names handover {id}, its witness {}",
                        witness.handover
                    ))
                }
            }
            // `epoch` is the highest that a readable witness names, so one of the two is present.
            (Reading::Absent | Reading::Unreadable(_), Reading::Absent | Reading::Unreadable(_)) => {
                Holder::Unreadable(format!("no witness of epoch {epoch} could be read"))
            }
        }
    }

    /// Git holds `epoch` unless the epoch before it, or something above it, speaks against that.
    fn git_holder(&self, epoch: Epoch, supersedes: Option<&HandoverId>) -> Holder {
        // A witness above that may be there and cannot be read could be a handover; the next epoch's must have
        // been looked for.
        let above = self.handovers.range(epoch..).map(|(above, _)| *above).chain(epoch.next());
        for above in above {
            match self.handover(above) {
                Reading::Absent | Reading::Present(_) => {}
                Reading::Unreadable(why) => return Holder::Unreadable(why),
            }
        }
        let before = epoch.previous().map_or(Reading::Absent, |previous| self.handover(previous));
        match before {
            Reading::Absent => Holder::Git { epoch, supersedes: supersedes.cloned() },
            Reading::Present(witness) if supersedes == Some(&witness.handover) => {
                Holder::Git { epoch, supersedes: supersedes.cloned() }
            }
            Reading::Present(witness) => Holder::Unreadable(format!(
                "epoch {epoch} does not supersede handover {}, which ended the epoch before it",
                witness.handover
            )),
            Reading::Unreadable(why) => Holder::Unreadable(why),
        }
    }

    /// One handover witness; one that nobody looked for may be there.
    fn handover(&self, epoch: Epoch) -> Reading<&HandoverWitness> {
        match self.handovers.get(&epoch) {
            Some(Reading::Absent) => Reading::Absent,
            Some(Reading::Present(witness)) => Reading::Present(witness),
            Some(Reading::Unreadable(why)) => Reading::Unreadable(why.clone()),
            None => Reading::Unreadable(format!("the handover witness of epoch {epoch} was not read")),
        }
    }

    /// The documents that K's epoch handed over, imported ones included; K by the witness table.
    pub fn documents(&self) -> DocumentList {
        self.documents_of(&self.holder())
    }

    /// The documents that `holder` handed over, imported ones included. For a K out of a process's memory that
    /// is not what these witnesses say, and then there is no list.
    pub fn documents_of(&self, holder: &Holder) -> DocumentList {
        let Holder::Vault { epoch, handover, .. } = holder else { return DocumentList::Unreadable };
        let Some(Reading::Present(witness)) = self.handovers.get(epoch) else { return DocumentList::Unreadable };
        if witness.handover != *handover {
            return DocumentList::Unreadable;
        }
        match &self.imported {
            Reading::Absent => DocumentList::Readable(witness.documents.clone()),
            Reading::Present(imported) => {
                DocumentList::Readable(witness.documents.iter().chain(imported).cloned().collect())
            }
            Reading::Unreadable(_) => DocumentList::Unreadable,
        }
    }

    /// Adds what the Authority's `status` (as JSON, `None` where there is none) says of K's epoch: the documents that
    /// were imported later, whether the handover is settled, and where its Vault moved to. What speaks of another epoch says
    /// nothing here.
    #[must_use]
    pub fn with_status(self, status: Option<&[u8]>) -> Self {
        let holder = self.holder();
        let (imported, settled) = json::status(status, &holder);
        let moved = json::moved(status, &holder, self.witnessed().and_then(|witness| witness.vault.as_ref()));
        Self { imported, settled, moved, ..self }
    }

    /// The Authority: as it is there, or, where it is not or cannot be read, as the handover of K's epoch left it.
    pub fn witnessed(&self) -> Option<&AuthorityWitness> {
        self.authority.present().or_else(|| self.left_by_the_handover())
    }

    /// The Authority as the handover of K's epoch left it, by its own witness.
    pub fn left_by_the_handover(&self) -> Option<&AuthorityWitness> {
        let Holder::Vault { epoch, .. } = self.holder() else { return None };
        self.handovers.get(&epoch)?.present()?.authority.as_deref()
    }

    /// The one place where Vault is asked, and a token is sent to, as far as the witnesses are asked: where they say, or where
    /// a person said that it moved to. Absent where they name none.
    pub fn place(&self) -> Reading<WitnessedVault> {
        // It would say whether Vault moved.
        if let Reading::Unreadable(why) = &self.authority {
            return Reading::Unreadable(why.clone());
        }
        match &self.moved {
            Reading::Present(_) | Reading::Unreadable(_) => self.moved.clone(),
            Reading::Absent => {
                let recorded = self.witnessed().and_then(|witness| witness.vault.clone());
                recorded.map_or(Reading::Absent, Reading::Present)
            }
        }
    }

    /// The root that the Authority was created for, where it could be read.
    pub fn recorded_root(&self) -> RecordedRoot {
        match &self.authority {
            Reading::Present(witness) => RecordedRoot::Is(witness.root.clone()),
            Reading::Absent | Reading::Unreadable(_) => RecordedRoot::Unknown,
        }
    }

    /// Whether that was seen and noted: no old value can come back.
    pub fn is_settled(&self) -> bool {
        match self.settled {
            Reading::Present(()) => true,
            Reading::Absent | Reading::Unreadable(_) => false,
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Git { epoch, supersedes: None } => write!(f, "git({epoch})"),
            Self::Git { epoch, supersedes: Some(handover) } => {
                write!(f, "git({epoch}, supersedes {})", handover.short())
            }
            Self::Vault { epoch, handover, .. } => write!(f, "vault({epoch}, {handover})"),
            Self::Disagree(_) => f.write_str("disagree"),
            Self::Unreadable(_) => f.write_str("unreadable"),
        }
    }
}

/// The highest K that this process has seen. It keeps a restored backup of the cluster, a deleted witness or an
/// outage from undoing a handover for as long as the process lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    seen: Seen,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum Seen {
    #[default]
    Nothing,
    Git(Epoch, Option<HandoverId>),
    Vault(Epoch, HandoverId),
}

impl Memory {
    /// What counts, given what was just read. Remembers it where it is the higher of the two.
    pub fn observe(&mut self, read: Holder) -> Holder {
        let counts = self.weigh(read);
        match &counts {
            Holder::Git { epoch, supersedes } => self.seen = Seen::Git(*epoch, supersedes.clone()),
            Holder::Vault { epoch, handover, .. } => self.seen = Seen::Vault(*epoch, handover.clone()),
            Holder::None | Holder::Disagree(_) | Holder::Unreadable(_) => {}
        }
        counts
    }

    fn weigh(&self, read: Holder) -> Holder {
        match (&self.seen, read) {
            (Seen::Nothing, read) => read,
            (Seen::Vault(epoch, handover), read) => after_vault(*epoch, handover, read),
            (Seen::Git(epoch, supersedes), read) => after_git(*epoch, supersedes.as_ref(), read),
        }
    }
}

/// After vault(e,h) only git(e+1) superseding h, or vault of a higher epoch, replaces it; less is answered as
/// vault(e,h); what contradicts it is no answer at all.
fn after_vault(epoch: Epoch, handover: &HandoverId, read: Holder) -> Holder {
    let remembered = Holder::Vault { epoch, handover: handover.clone(), mirror: Mirror::Incomplete };
    match read {
        Holder::None | Holder::Unreadable(_) => remembered,
        Holder::Disagree(why) => Holder::Disagree(why),
        Holder::Vault { epoch: e, handover: h, mirror } => match e.cmp(&epoch) {
            std::cmp::Ordering::Less => remembered,
            std::cmp::Ordering::Greater => Holder::Vault { epoch: e, handover: h, mirror },
            std::cmp::Ordering::Equal if h == *handover => Holder::Vault { epoch: e, handover: h, mirror },
            std::cmp::Ordering::Equal => Holder::Disagree(format!(
                "epoch {epoch}: the witnesses name handover {h}, and {handover} was seen before"
            )),
        },
        Holder::Git { epoch: e, .. } if e <= epoch => remembered,
        Holder::Git { epoch: e, supersedes } => {
            if Some(e) == epoch.next() && supersedes.as_ref() == Some(handover) {
                Holder::Git { epoch: e, supersedes }
            } else {
                Holder::Disagree(format!(
                    "the witnesses say git({e}), which does not supersede handover {handover} of epoch {epoch} seen before"
                ))
            }
        }
    }
}

/// After git(e) anything lower is no answer: somebody restored an older state, and nobody knows what it forgot.
fn after_git(epoch: Epoch, supersedes: Option<&HandoverId>, read: Holder) -> Holder {
    let lower = |what: &Holder| {
        Holder::Disagree(format!("the witnesses say {what}, which is lower than git({epoch}) seen before"))
    };
    match read {
        Holder::None => lower(&Holder::None),
        Holder::Disagree(why) => Holder::Disagree(why),
        Holder::Unreadable(why) => Holder::Unreadable(why),
        Holder::Git { epoch: e, supersedes: s } => match e.cmp(&epoch) {
            std::cmp::Ordering::Less => lower(&Holder::Git { epoch: e, supersedes: s }),
            std::cmp::Ordering::Greater => Holder::Git { epoch: e, supersedes: s },
            std::cmp::Ordering::Equal if s.as_ref() == supersedes => Holder::Git { epoch: e, supersedes: s },
            std::cmp::Ordering::Equal => {
                Holder::Disagree(format!("epoch {epoch} supersedes another handover than was seen before"))
            }
        },
        Holder::Vault { epoch: e, handover, mirror } => {
            let read = Holder::Vault { epoch: e, handover, mirror };
            if e < epoch { lower(&read) } else { read }
        }
    }
}

impl AuthorityWitness {
    /// The clusters that it is about while `holder` rules. A target that was rebuilt is another one than it names until the
    /// epoch is over; `copy`, the Authority that stands there, says that it was taken over for this very handover, under the
    /// same witnesses. Only the handover's own accounts begin one with vault.
    pub fn clusters_now<'a>(&'a self, holder: &Holder, copy: Option<&'a Self>) -> Option<&'a Clusters> {
        let witness = |of: &Self| of.clusters.as_ref().map(|clusters| clusters.witness.clone());
        let is_taken_over = |copy: &&Self| match holder {
            Holder::Vault { epoch, handover, .. } => {
                copy.name == self.name
                    && copy.epoch == *epoch
                    && copy.holds == Holds::Vault(handover.clone())
                    && witness(copy) == witness(self)
            }
            Holder::None | Holder::Git { .. } | Holder::Disagree(_) | Holder::Unreadable(_) => false,
        };
        copy.filter(is_taken_over).unwrap_or(self).clusters.as_ref()
    }

    /// Whether `next` may replace this witness: the same one-way rules as the cluster's schema has. `None` for
    /// `current` is the creation of the first witness.
    pub fn may_follow(current: Option<&Self>, next: &Self) -> Result<(), &'static str> {
        let Some(current) = current else {
            return match next.holds {
                Holds::Git => Ok(()),
                Holds::Vault(_) => Err("an authority starts as git"),
            };
        };
        if next.name != current.name {
            return Err("the authority's name is fixed");
        }
        let witness = |of: &Self| of.clusters.as_ref().map(|clusters| clusters.witness.clone());
        if witness(next) != witness(current) {
            return Err("the cluster of the witnesses is fixed");
        }
        if next.epoch < current.epoch {
            return Err("the epoch never goes down");
        }
        if next.epoch == current.epoch {
            if next.clusters != current.clusters {
                return Err("the cluster of the Secrets is fixed for an epoch");
            }
            if next.supersedes != current.supersedes {
                return Err("`supersedes` is fixed for an epoch");
            }
            return match (&current.holds, &next.holds) {
                (Holds::Vault(_), _) if next != current => Err("authority is vault: this epoch is final"),
                (Holds::Git, Holds::Vault(_)) if (&next.root, &next.vault) != (&current.root, &current.vault) => {
                    Err("a handover moves neither the root nor the place in Vault")
                }
                (Holds::Git | Holds::Vault(_), Holds::Git | Holds::Vault(_)) => Ok(()),
            };
        }
        match (&current.holds, &next.holds) {
            (Holds::Vault(id), Holds::Git)
                if Some(next.epoch) == current.epoch.next() && next.supersedes.as_ref() == Some(id) =>
            {
                Ok(())
            }
            (Holds::Git | Holds::Vault(_), Holds::Git | Holds::Vault(_)) => {
                Err("a new epoch starts as git from vault, is the old epoch + 1 and supersedes its handover")
            }
        }
    }
}

mod json;
pub(crate) use json::{documents_from_json, documents_to_json};
#[cfg(test)]
mod tests;
