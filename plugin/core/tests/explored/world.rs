//! What the model keeps: a cluster with its witnesses, a Vault with its records, front doors, runners of a handover,
//! the cache of a controller, and what a property has to know of the past.
//!
//! Epochs are 1, 2 and 3. Of epoch 1 there may be two handovers (a second one after a first Vault was lost), and the
//! later epochs follow one of the two: a *line*. So an epoch and a line name a handover, and what it supersedes.

use regent_core::evidence::{
    AuthorityWitness, Clusters, Evidence, HandoverWitness, Holder, Holds, ListedClass, ListedDocument, Memory, Reading,
    WitnessedVault,
};
use regent_core::handover::decide::{Found as InVault, RecordKey};
use regent_core::handover::plan::Outline;
use regent_core::handover::record::{KeyNow, Marked, Record, RecordedKey, Site, VaultIdentity};
use regent_core::handover::tree::tree_digest;
use regent_core::name::{AuthorityName, Epoch, FilePath, HandoverId, SecretName};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

/// The epochs that the model counts.
pub(crate) const EPOCHS: u8 = 3;

/// What `regent.yaml` says in each revision of the repository. Git moves as it likes, forwards and back: each
/// request may be for any of them.
pub(crate) const REVISIONS: [Revision; 7] = [
    Revision { epoch: 1, line: 0, closed: None },
    Revision { epoch: 1, line: 0, closed: Some((1, 0)) },
    Revision { epoch: 2, line: 0, closed: None },
    Revision { epoch: 2, line: 0, closed: Some((1, 0)) },
    Revision { epoch: 2, line: 0, closed: Some((2, 0)) },
    Revision { epoch: 2, line: 1, closed: None },
    Revision { epoch: 3, line: 0, closed: None },
];

#[derive(Clone, Copy, Debug)]
pub(crate) struct Revision {
    pub(crate) epoch: u8,
    pub(crate) line: u8,
    /// The handover that `closed` names.
    pub(crate) closed: Option<(u8, u8)>,
}

impl Revision {
    /// Whether Git itself says that the epoch is over.
    pub(crate) fn is_closed(self) -> bool {
        self.closed.is_some_and(|(epoch, _)| epoch == self.epoch)
    }
}

/// What the API server holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Cluster {
    pub(crate) authority: Option<Says>,
    /// The `ConfigMap` of each epoch: the line of its handover.
    pub(crate) handovers: [Option<u8>; EPOCHS as usize],
    pub(crate) settled: Settled,
    /// A labelled live Secret holds a value that Vault's operator wrote.
    pub(crate) rotated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Says {
    Git { epoch: u8, line: u8 },
    Vault { epoch: u8, line: u8 },
}

/// What Vault holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Vault {
    /// The record of each epoch: the line of its handover.
    pub(crate) records: [Option<u8>; EPOCHS as usize],
    pub(crate) copy: Copy,
}

/// The one Secret that is handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Copy {
    #[default]
    Absent,
    /// With a value from Git.
    FromGit,
    /// With a value that Vault's operator wrote. Where a handover finds it, a person has accepted it.
    Rotated,
}

/// `Settled`, in the status of the Authority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Settled {
    #[default]
    No,
    Yes,
    /// It came back with a backup of etcd, and what it says was true then.
    Restored,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) backup: Option<Cluster>,
    /// It outlives the cluster.
    pub(crate) vault: Vault,
    /// A snapshot of it.
    pub(crate) snapshot: Option<Vault>,
    /// In an order of their own, see [`World::in_order`].
    pub(crate) doors: Vec<Door>,
    pub(crate) runners: Vec<Runner>,
    /// A controller has manifests with values, of some revision, and may apply them whenever it likes.
    pub(crate) cached: bool,

    /// Every handover that was ever recorded, a bit each.
    pub(crate) recorded: u8,
    /// The highest epoch that a witness in the cluster gave to Vault since a person last made an authority.
    pub(crate) vault_ever: u8,
    /// By what the witnesses say less than `vault_ever`.
    pub(crate) taken_back: Option<TakenBack>,
    /// The last step did this.
    pub(crate) happened: Option<Happened>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TakenBack {
    /// etcd was restored.
    Restored,
    /// Break-glass deleted the last witness that said vault.
    Deleted,
}

/// A process that answers one request after another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Door {
    pub(crate) memory: Memory,
    pub(crate) phase: Phase,
    /// What it would remember by all the rules.
    pub(crate) faithful: Memory,
    /// The highest epoch of which this process knows that it is over: Vault held it, or Git held a later one.
    pub(crate) saw: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    #[default]
    Idle,
    Reading(Gathered),
    /// K was `before`: values may be opened, and are being rendered.
    Working {
        revision: usize,
        before: Holder,
    },
    /// The values are on their way to the controller.
    Answered,
}

/// A reading under way. Each witness is asked for by itself, so writes may fall between.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Gathered {
    pub(crate) revision: usize,
    /// K from before the work; `None` in the first reading.
    pub(crate) before: Option<Holder>,
    pub(crate) authority: Found<Says>,
    /// One more than there are epochs: nobody ever finds the last.
    pub(crate) handovers: [Found<u8>; EPOCHS as usize + 1],
    pub(crate) since: Since,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Found<T> {
    #[default]
    NotAsked,
    Failed,
    Absent,
    There(T),
}

/// What was true since the last reading of a request began, at its beginning and after every step since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Since {
    /// [`World::vault_ever`] at its beginning.
    pub(crate) vault_ever: u8,
    /// The lowest that [`Cluster::vault_now`] was.
    pub(crate) vault_least: u8,
    /// What the witnesses together gave to Git at some moment, a bit for each epoch and line.
    pub(crate) git: u8,
    pub(crate) taken_back: Option<TakenBack>,
    /// A witness was deleted, or etcd restored, while it was read.
    pub(crate) disturbed: bool,
}

/// A run of `regent handover` or `regent verify`. It may die or dawdle anywhere, and begin again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Runner {
    #[default]
    Idle,
    /// It decided to copy: the witnesses gave the epoch to Git, and there was no record.
    Checked { epoch: u8, line: u8 },
    /// The copy is in Vault, and was read back.
    Copied { epoch: u8, line: u8 },
    /// It has read the record back, and decided to mirror it.
    Holds { epoch: u8, line: u8 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Happened {
    /// A door answered with values.
    Values(Written),
    /// A controller wrote a value from Git over one that Vault's operator wrote.
    Undone,
    /// A record or a copy in Vault was replaced.
    Overwritten,
    /// A runner decided to copy values into Vault while a witness said that Vault has them.
    CopiedAfter,
    /// A runner decided to mirror another handover than the witnesses name.
    MirroredAnother,
    /// A runner decided to move authority by a record whose copies are not in Vault.
    MovedWithoutCopies,
    /// An authority was made although a witness or a record said that there is one.
    MadeBeside,
    /// Git was given a new epoch although Vault holds the record, and nobody gave that Vault up by name.
    VaultStillThere,
    /// The Authority says vault, and the list of that handover is nowhere in the cluster.
    Unlisted,
    /// A witness names a handover that was never recorded.
    Unrecorded,
    /// The Authority names another handover, or supersedes another one, than it did before.
    Rewritten,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Written {
    pub(crate) revision: u8,
    /// [`Door::saw`] of the door that wrote.
    pub(crate) saw: u8,
    pub(crate) since: Since,
}

impl Cluster {
    /// The highest epoch that any witness gives to Vault.
    pub(crate) fn vault_now(&self) -> u8 {
        let vault = |says: Says| if matches!(says, Says::Vault { .. }) { says.epoch() } else { 0 };
        let by_authority = self.authority.map_or(0, vault);
        (1..=EPOCHS).filter(|epoch| self.handover(*epoch).is_some()).max().unwrap_or(0).max(by_authority)
    }

    pub(crate) fn handover(&self, epoch: u8) -> Option<u8> {
        self.handovers.get(usize::from(epoch) - 1).copied().flatten()
    }

    pub(crate) fn has_a_witness(&self) -> bool {
        *self != Self { rotated: self.rotated, ..Self::default() }
    }

    /// K as somebody would see it who can read everything at one moment and remembers nothing.
    pub(crate) fn truth(&self) -> Holder {
        self.evidence().holder()
    }

    pub(crate) fn evidence(&self) -> Evidence {
        let authority = self.authority.map_or(Reading::Absent, |says| Reading::Present(authority_witness(says)));
        let handover = |number: u8| match self.handover(number) {
            Some(line) => (epoch(number), Reading::Present(handover_witness(number, line))),
            None => (epoch(number), Reading::Absent),
        };
        Evidence { authority, handovers: (1..=EPOCHS + 1).map(handover).collect(), ..Evidence::none() }
    }

    /// What the witnesses together give to Git, as a bit of [`Since::git`].
    fn git(&self) -> u8 {
        match (self.truth(), self.authority) {
            (Holder::Git { .. }, Some(says)) => bit(says.epoch(), says.line()),
            _ => 0,
        }
    }
}

impl Says {
    pub(crate) fn epoch(self) -> u8 {
        match self {
            Self::Git { epoch, .. } | Self::Vault { epoch, .. } => epoch,
        }
    }

    pub(crate) fn line(self) -> u8 {
        match self {
            Self::Git { line, .. } | Self::Vault { line, .. } => line,
        }
    }
}

impl World {
    /// A world in which everything went well so far: what the witnesses name was recorded, and is in Vault.
    pub(crate) fn new(cluster: Cluster, doors: usize, runners: usize) -> Self {
        let records = cluster.handovers;
        let copy = if records.iter().any(Option::is_some) { Copy::FromGit } else { Copy::Absent };
        let recorded = (1..=EPOCHS).zip(records).filter_map(|(epoch, line)| Some(bit(epoch, line?))).sum();
        Self {
            cluster,
            backup: None,
            vault: Vault { records, copy },
            snapshot: None,
            doors: vec![Door::default(); doors],
            runners: vec![Runner::Idle; runners],
            cached: false,
            recorded,
            vault_ever: cluster.vault_now(),
            taken_back: None,
            happened: None,
        }
    }

    pub(crate) fn record(&self, epoch: u8) -> Option<u8> {
        self.vault.records.get(usize::from(epoch) - 1).copied().flatten()
    }

    /// What Vault says of the key of an epoch's record.
    pub(crate) fn record_key(&self, epoch: u8, copy: Copy) -> &'static RecordKey {
        static KEYS: LazyLock<Vec<RecordKey>> = LazyLock::new(|| {
            let handovers = (1..=EPOCHS).flat_map(|number| [(number, 0), (number, 1)]);
            handovers
                .flat_map(|(number, line)| [record_key(number, line, false), record_key(number, line, true)])
                .collect()
        });
        match self.record(epoch) {
            None => &RecordKey::Absent,
            Some(line) => {
                let at = 2 * (2 * (epoch - 1) + line) + u8::from(copy != Copy::Absent);
                &KEYS[usize::from(at)]
            }
        }
    }

    pub(crate) fn was_recorded(&self, epoch: u8, line: u8) -> bool {
        self.recorded & bit(epoch, line) != 0
    }

    /// The ghosts of a last reading that begins now.
    pub(crate) fn now(&self) -> Since {
        Since {
            vault_ever: self.vault_ever,
            vault_least: self.cluster.vault_now(),
            git: self.cluster.git(),
            taken_back: self.taken_back,
            disturbed: false,
        }
    }

    /// What a property has to know of the past, after a step; `taken` where that step took witnesses away.
    pub(crate) fn remember(&mut self, taken: Option<TakenBack>) {
        let now = self.cluster.vault_now();
        self.vault_ever = self.vault_ever.max(now);
        self.taken_back = if now < self.vault_ever { taken.or(self.taken_back) } else { None };
        let is_last = |phase: &Phase| matches!(phase, Phase::Reading(Gathered { before: Some(_), .. }));
        if !self.doors.iter().any(|door| is_last(&door.phase)) {
            return;
        }
        let moment = Since { disturbed: taken.is_some(), ..self.now() };
        for door in &mut self.doors {
            if let Phase::Reading(Gathered { before: Some(_), since, .. }) = &mut door.phase {
                since.vault_least = since.vault_least.min(moment.vault_least);
                since.git |= moment.git;
                since.taken_back = since.taken_back.or(moment.taken_back);
                since.disturbed |= moment.disturbed;
            }
        }
    }

    /// Doors are alike, and so are runners: worlds that differ in their order only are one.
    pub(crate) fn in_order(mut self) -> Self {
        let key = |door: &Door| {
            let mut hasher = DefaultHasher::new();
            door.hash(&mut hasher);
            hasher.finish()
        };
        self.doors.sort_by_cached_key(key);
        self.runners.sort_unstable();
        self
    }
}

pub(crate) fn bit(epoch: u8, line: u8) -> u8 {
    1 << (2 * (epoch - 1) + line)
}

pub(crate) fn epoch(number: u8) -> Epoch {
    Epoch::new(number.into()).unwrap()
}

pub(crate) fn handover_id(number: u8, line: u8) -> HandoverId {
    static IDS: LazyLock<Vec<HandoverId>> = LazyLock::new(|| {
        let text = |number| format!("{number:08x}-8a3d-4f6b-9c2e-1d7a5e4b3c2f");
        (0..2 * EPOCHS).map(|number| HandoverId::parse(&text(number)).unwrap()).collect()
    });
    IDS[usize::from(2 * (number - 1) + line)].clone()
}

/// The one place where a model's Authority becomes a real one.
pub(crate) fn authority_witness(says: Says) -> AuthorityWitness {
    let (number, line) = (says.epoch(), says.line());
    let holds = match says {
        Says::Git { .. } => Holds::Git,
        Says::Vault { .. } => Holds::Vault(handover_id(number, line)),
    };
    let supersedes = (number > 1).then(|| handover_id(number - 1, line));
    AuthorityWitness {
        name: prod(),
        holds,
        epoch: epoch(number),
        supersedes,
        root: None,
        vault: None,
        clusters: None,
        no_vault_yet: false,
        record: None,
    }
}

/// The one place where a model's `ConfigMap` becomes a real one.
pub(crate) fn handover_witness(number: u8, line: u8) -> HandoverWitness {
    HandoverWitness {
        name: prod(),
        epoch: epoch(number),
        handover: handover_id(number, line),
        documents: Vec::new(),
        authority: None,
    }
}

/// The epoch and line of a handover.
pub(crate) fn handover_of(id: &HandoverId) -> (u8, u8) {
    let handovers = (1..=EPOCHS).flat_map(|number| [(number, 0), (number, 1)]);
    handovers.into_iter().find(|(number, line)| handover_id(*number, *line) == *id).unwrap()
}

/// The same Authority with everything that `init` and a record put into it.
pub(crate) fn recorded_authority(says: Says) -> &'static AuthorityWitness {
    static WITNESSES: LazyLock<Vec<AuthorityWitness>> = LazyLock::new(|| {
        let handovers = (1..=EPOCHS).flat_map(|number| [(number, 0), (number, 1)]);
        let both = |(number, line)| {
            let (_, vault) = marked(number, line).witnesses();
            let git = AuthorityWitness { holds: Holds::Git, record: None, ..vault.clone() };
            [git, vault]
        };
        handovers.flat_map(both).collect()
    });
    let at = 2 * (2 * (says.epoch() - 1) + says.line()) + u8::from(matches!(says, Says::Vault { .. }));
    &WITNESSES[usize::from(at)]
}

/// One Vault and one cluster: what a person adopts or accepts for another one counts as if it were the same.
pub(crate) fn site() -> &'static Site {
    static SITE: LazyLock<Site> = LazyLock::new(|| Site {
        vault: VaultIdentity {
            place: WitnessedVault {
                address: "https://vault:8200".to_owned(),
                namespace: String::new(),
                mount: "secret".to_owned(),
                prefix: "bootstrap/prod".to_owned(),
            },
            cluster_id: "vault".to_owned(),
            mount_uuid: "mount".to_owned(),
        },
        clusters: Some(Clusters { witness: "cluster".to_owned(), target: "cluster".to_owned() }),
    });
    &SITE
}

/// What every revision would hand over.
pub(crate) fn outline() -> &'static Outline {
    static OUTLINE: LazyLock<Outline> = LazyLock::new(|| {
        let document = ListedDocument {
            path: FilePath::parse("db.yaml").unwrap(),
            name: db(),
            kind: "Secret".to_owned(),
            class: ListedClass::Handover,
            blob: "1".repeat(40),
        };
        let tree_digest = tree_digest([(&document.path, document.blob.as_str())]);
        Outline { tree_digest, documents: vec![document], copied: [db()].into() }
    });
    &OUTLINE
}

/// The one place where a model's record becomes a real one.
pub(crate) fn marked(number: u8, line: u8) -> Marked {
    let record = Record {
        name: prod(),
        epoch: epoch(number),
        supersedes: (number > 1).then(|| handover_id(number - 1, line)),
        handover: handover_id(number, line),
        root: None,
        site: site().clone(),
        git_commit: "a".repeat(40),
        tree_digest: outline().tree_digest.clone(),
        records: vec![RecordedKey { name: db(), version: 1, created_time: CREATED.to_owned() }],
        documents: outline().documents.clone(),
        regent_version: "0.1.0".to_owned(),
    };
    let read = Record::from_fields(&record.name, record.epoch, &record.to_fields());
    Marked { record: read.unwrap(), version: 1, created_time: CREATED.to_owned() }
}

const CREATED: &str = "2026-11-24T08:23:28.612274215Z";

fn record_key(number: u8, line: u8, copied: bool) -> RecordKey {
    let kept = KeyNow::Present { version: 1, created_time: CREATED.to_owned() };
    let now = if copied { kept } else { KeyNow::Absent };
    RecordKey::Present(Box::new(InVault {
        marked: marked(number, line),
        adopted: None,
        rebound: Vec::new(),
        keys: [(db(), now)].into(),
    }))
}

fn db() -> SecretName {
    SecretName::parse("app/db").unwrap()
}

fn prod() -> AuthorityName {
    AuthorityName::parse("prod").unwrap()
}
