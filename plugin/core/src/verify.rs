//! `regent verify`: whether everything is still as the handover left it. Facts in, findings out; who rules was decided
//! before ([`crate::handover::decide`]), and nothing that is found here moves it.
//!
//! ```text
//! copies       there, at or above their recorded version, and still the same keys      Vault was taken back, or touched
//! heartbeat    a count in Vault, and its mirror outside                                a backup newer than the handover
//! live         each listed Secret is there, and holds what Vault holds                 what delivers it lags, or does not
//! revision     its rendering holds no value, its permanent documents are Vault's       what a person forgot to follow
//! history      values in old commits that open, and that Vault still holds             what is to be rotated
//! ```

use std::collections::{BTreeMap, BTreeSet};

use regent_sops::Plaintext;

use crate::evidence::{DocumentList, ListedClass, ListedDocument};
use crate::handover::record::{KeyNow, Loss, Lost, Record};
use crate::name::{FilePath, SecretName};

/// Everything that the findings are a function of.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The record, as both witnesses mirror it.
    pub record: &'a Record,
    /// Whose keys are compared with it.
    pub vault: SameVault,
    /// Whether it was mirrored before this run.
    pub mirrored: Mirrored,
    /// Whether it is settled.
    pub settled: &'a Settlement,
    /// The list, imported documents included.
    pub list: &'a DocumentList,
    /// The list as the handover's witness alone has it; `None` where that cannot be read.
    pub witnessed: Option<&'a [ListedDocument]>,
    /// Where the copies' keys are now, imported ones included.
    pub keys: &'a BTreeMap<SecretName, KeyNow>,
    /// What the heartbeat told.
    pub pulse: &'a Pulse,
    /// The live Secrets of the list; `None` where there is no cluster.
    pub live: Option<&'a BTreeMap<SecretName, Live>>,
    /// Git's revision; `None` where none was named.
    pub revision: Option<&'a Revision>,
    /// Git's history; `None` where nobody asked for it.
    pub history: Option<&'a History>,
}

/// Whether the Vault that was asked is the one that the record was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameVault {
    /// It is: versions and times are those of the record, or later.
    Yes,
    /// A person accepted another identity for it. Its copies may have been put there anew, so only that they are there
    /// can be compared.
    Accepted,
}

/// When the witnesses came to say what the record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirrored {
    /// They said so.
    Before,
    /// This run made them.
    Now,
}

/// Whether no old value can come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Noted.
    Settled,
    /// Not noted, and a folder does not know who renders from it.
    Unseen,
    /// Not noted yet.
    NotYet,
    /// Not known: why.
    Unreadable(String),
}

/// A live Secret, beside Vault's copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Live {
    /// Certainly not there.
    Absent,
    /// There, and Vault keeps no copy of it.
    Present,
    /// There, and these keys are not as Vault's copy has them; none where all are.
    Compared(BTreeSet<String>),
    /// Not known: why.
    Unknown(String),
}

/// A revision of Git, rendered and opened beside Vault's copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// What a front door answers for it now; or why it answers nothing.
    pub rendering: Result<Rendering, String>,
    /// Its permanent documents that Vault keeps a copy of; `None` where there is no identity to open them with.
    pub permanent: Option<BTreeMap<SecretName, InGit>>,
}

/// What a front door answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendering {
    /// How many documents.
    pub documents: usize,
    /// Those with a value, by kind and name. Once Vault rules there is none.
    pub with_values: Vec<String>,
}

/// A permanent document in Git, beside Vault's copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InGit {
    /// The same values.
    Same,
    /// Other values.
    Differs,
    /// No document of that name.
    Absent,
    /// Not known: why.
    Unknown(String),
}

/// What Git's history holds of values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Commits that were looked at.
    pub commits: usize,
    /// Why older ones were not.
    pub cut: Option<String>,
    /// Versions of files that the identities do not open.
    pub closed: usize,
    /// Versions of files that are no documents as `regent.yaml` has them now: not judged.
    pub unclear: usize,
    /// Documents that they do open.
    pub opened: Vec<Exposed>,
}

/// A document in history that opens, or never was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    /// Its file in the root.
    pub file: FilePath,
    /// The Secret; `None` for one in the clear, of which only the file is told.
    pub name: Option<SecretName>,
    /// The commits that brought its versions.
    pub commits: Vec<String>,
    /// What has become of its values.
    pub values: Values,
}

/// What has become of values that history holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    /// Vault holds another value for every key by now.
    Rotated,
    /// Vault still holds those of these keys.
    InUse(BTreeSet<String>),
    /// Vault holds no such copy, so nobody can tell.
    Unknown,
}

/// The heartbeat: Vault counts the runs of `verify` in the versions of one key, and its mirror outside Vault keeps the last
/// count. Both are restored only together by nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// They go together: at this count.
    Steady {
        /// The count that is in Vault.
        version: u64,
    },
    /// A person said that Vault or the cluster was restored, and they go together again from here.
    Accepted {
        /// The count that is in Vault.
        version: u64,
    },
    /// Vault is behind by so many: it is an older one than was seen.
    RolledBack {
        /// How many.
        beats: u64,
    },
    /// Vault is ahead by more than one run that was cut off: the mirror is an older one, or somebody else counts too.
    Ahead {
        /// How many.
        beats: u64,
    },
    /// The key was deleted in Vault.
    Deleted,
    /// Not known: why.
    Unknown(String),
}

/// What Vault's key of the heartbeat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Its version; 0 where there certainly is no key.
    At(u64),
    /// It was deleted.
    Deleted,
}

/// Reads the heartbeat before the next one. The mirror is written after Vault, and brought up to it before Vault is written
/// again: so at any time Vault is where the mirror is, or one beat ahead, wherever a run is cut off. Other runs may beat
/// meanwhile: what the mirror said *before* Vault was asked, Vault is not behind of; and what it said *after*, Vault was not
/// more than one ahead of. Without a mirror nothing can be compared, as in the first run of an epoch.
pub fn pulse(before: Option<u64>, vault: Beat, after: Option<u64>) -> Pulse {
    match (before, vault, after) {
        (_, Beat::Deleted, _) => Pulse::Deleted,
        (Some(before), Beat::At(version), _) if version < before => Pulse::RolledBack { beats: before - version },
        (_, Beat::At(version), Some(after)) if version > after.saturating_add(1) => {
            Pulse::Ahead { beats: version - after }
        }
        (None | Some(_), Beat::At(version), None | Some(_)) => Pulse::Steady { version },
    }
}

/// What a finding means for whoever reads it, worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Told, and fine.
    Note,
    /// Something is to be rotated, delivered or corrected.
    Attention,
    /// Recorded, and not settled.
    Underway,
    /// Not known.
    Unknown,
    /// A person decides.
    Person,
}

impl Severity {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Note, Self::Attention, Self::Underway, Self::Unknown, Self::Person];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Attention => "attention",
            Self::Underway => "underway",
            Self::Unknown => "unknown",
            Self::Person => "person",
        }
    }
}

/// Something that a person should know. Names and counts, never values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The record was found, and mirrored.
    Mirrored,
    /// A restore is accepted.
    Accepted,
    /// Not settled yet.
    Unsettled,
    /// From a folder nobody can tell.
    SettlementUnseen,
    /// Whether it is settled is not known.
    SettlementUnknown(String),
    /// The list cannot be read.
    ListUnreadable,
    /// The list is not that of the record, in documents of these names.
    ListDiffers(BTreeSet<SecretName>),
    /// A copy is not there any more as it was recorded.
    Copy(Loss),
    /// Vault was taken back.
    RolledBack {
        /// By so many heartbeats.
        beats: u64,
    },
    /// The mirror was taken back, or somebody else counts too.
    Ahead {
        /// By so many heartbeats.
        beats: u64,
    },
    /// The heartbeat was deleted.
    HeartbeatDeleted,
    /// The heartbeat could not be read or written.
    HeartbeatUnknown(String),
    /// A listed Secret is not live.
    NotLive(SecretName, ListedClass),
    /// A live Secret is not what Vault holds.
    Differs(SecretName, ListedClass, BTreeSet<String>),
    /// A live Secret, or its copy, could not be read.
    NotCompared(SecretName, String),
    /// A front door would answer with a value.
    RendersValue(String),
    /// A front door answers nothing.
    RendersNothing(String),
    /// Git's permanent document is not what Vault holds.
    StaleInGit(SecretName),
    /// Git has no such permanent document any more.
    AbsentInGit(SecretName),
    /// Git's permanent document could not be compared.
    UnknownInGit(SecretName, String),
    /// There was no identity to open permanent documents with.
    NoIdentity,
    /// Values in history that Vault still holds.
    ToRotate(Exposed),
    /// A Secret that was committed in the clear.
    InTheClear(Exposed),
    /// Values in history that Vault has no copy of.
    Forgotten(Exposed),
    /// Only a part of history was looked at.
    HistoryCut(String),
}

/// Looks at everything.
pub fn verify(facts: &Facts<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    match facts.mirrored {
        Mirrored::Before => {}
        Mirrored::Now => found.push(Finding::Mirrored),
    }
    match facts.settled {
        Settlement::Settled => {}
        Settlement::Unseen => found.push(Finding::SettlementUnseen),
        Settlement::NotYet => found.push(Finding::Unsettled),
        Settlement::Unreadable(why) => found.push(Finding::SettlementUnknown(why.clone())),
    }
    let listed: &[ListedDocument] = match facts.list {
        DocumentList::Readable(documents) => documents,
        DocumentList::Unreadable => {
            found.push(Finding::ListUnreadable);
            &facts.record.documents
        }
    };
    if let Some(witnessed) = facts.witnessed {
        let names = unlike(&facts.record.documents, witnessed);
        found.extend((!names.is_empty()).then_some(Finding::ListDiffers(names)));
    }
    found.extend(copies(facts, listed));
    match facts.pulse {
        Pulse::Steady { .. } => {}
        Pulse::Accepted { .. } => found.push(Finding::Accepted),
        Pulse::RolledBack { beats } => found.push(Finding::RolledBack { beats: *beats }),
        Pulse::Ahead { beats } => found.push(Finding::Ahead { beats: *beats }),
        Pulse::Deleted => found.push(Finding::HeartbeatDeleted),
        Pulse::Unknown(why) => found.push(Finding::HeartbeatUnknown(why.clone())),
    }
    if let Some(live) = facts.live {
        found.extend(secrets(listed).filter_map(|(name, class)| of_live(name, class, live.get(name))));
    }
    if let Some(revision) = facts.revision {
        found.extend(of_revision(revision));
    }
    if let Some(history) = facts.history {
        found.extend(history.cut.clone().map(Finding::HistoryCut));
        found.extend(history.opened.iter().filter_map(of_history));
    }
    found
}

/// The worst of them: how a run ends.
pub fn worst(findings: &[Finding]) -> Severity {
    findings.iter().map(Finding::severity).max().unwrap_or(Severity::Note)
}

/// The Secrets of a list, each once.
pub fn secrets(listed: &[ListedDocument]) -> impl Iterator<Item = (&SecretName, ListedClass)> {
    let secrets = listed.iter().filter(|document| document.kind == "Secret");
    let by_name: BTreeMap<_, _> = secrets.map(|document| (&document.name, document.class)).collect();
    by_name.into_iter()
}

/// The copies that Vault has to hold: those of the record, and those of imported Secrets, of which only that they are
/// there is known.
pub fn expected(record: &Record, listed: &[ListedDocument]) -> BTreeSet<SecretName> {
    let handed: BTreeSet<&SecretName> = record.documents.iter().map(|document| &document.name).collect();
    let imported = secrets(listed)
        .filter(|(name, class)| !handed.contains(name) && *class == ListedClass::Handover)
        .map(|(name, _)| name.clone());
    record.copied().into_iter().chain(imported).collect()
}

/// The names of documents that only one of two lists has as they are.
fn unlike(one: &[ListedDocument], other: &[ListedDocument]) -> BTreeSet<SecretName> {
    let key = |document: &ListedDocument| {
        let ListedDocument { path, name, kind, class, blob } = document.clone();
        (name, kind, class == ListedClass::Permanent, path, blob)
    };
    let (one, other): (BTreeSet<_>, BTreeSet<_>) = (one.iter().map(key).collect(), other.iter().map(key).collect());
    one.symmetric_difference(&other).map(|(name, ..)| name.clone()).collect()
}

fn copies(facts: &Facts<'_>, listed: &[ListedDocument]) -> Vec<Finding> {
    let recorded = match facts.vault {
        SameVault::Yes => facts.record.losses(facts.keys),
        SameVault::Accepted => Vec::new(),
    };
    let told: BTreeSet<SecretName> = recorded.iter().map(|loss| loss.name.clone()).collect();
    let there = expected(facts.record, listed).into_iter().filter(|name| !told.contains(name)).filter_map(|name| {
        let how = match facts.keys.get(&name) {
            Some(KeyNow::Present { .. }) => return None,
            Some(KeyNow::Absent) => Lost::Absent,
            Some(KeyNow::Deleted) => Lost::Deleted,
            None => Lost::NotRead,
        };
        Some(Loss { name, how })
    });
    recorded.into_iter().chain(there).map(Finding::Copy).collect()
}

fn of_live(name: &SecretName, class: ListedClass, live: Option<&Live>) -> Option<Finding> {
    match live {
        Some(Live::Present) => None,
        Some(Live::Compared(keys)) if keys.is_empty() => None,
        Some(Live::Compared(keys)) => Some(Finding::Differs(name.clone(), class, keys.clone())),
        Some(Live::Absent) => Some(Finding::NotLive(name.clone(), class)),
        Some(Live::Unknown(why)) => Some(Finding::NotCompared(name.clone(), why.clone())),
        None => Some(Finding::NotCompared(name.clone(), "it was not read".to_owned())),
    }
}

fn of_revision(revision: &Revision) -> Vec<Finding> {
    let mut found: Vec<Finding> = match &revision.rendering {
        Ok(rendering) => rendering.with_values.iter().cloned().map(Finding::RendersValue).collect(),
        Err(why) => vec![Finding::RendersNothing(why.clone())],
    };
    let Some(permanent) = &revision.permanent else {
        found.push(Finding::NoIdentity);
        return found;
    };
    found.extend(permanent.iter().filter_map(|(name, in_git)| match in_git {
        InGit::Same => None,
        InGit::Differs => Some(Finding::StaleInGit(name.clone())),
        InGit::Absent => Some(Finding::AbsentInGit(name.clone())),
        InGit::Unknown(why) => Some(Finding::UnknownInGit(name.clone(), why.clone())),
    }));
    found
}

fn of_history(exposed: &Exposed) -> Option<Finding> {
    match (&exposed.name, &exposed.values) {
        (None, Values::Rotated | Values::InUse(_) | Values::Unknown) => Some(Finding::InTheClear(exposed.clone())),
        (Some(_), Values::Rotated) => None,
        (Some(_), Values::InUse(_)) => Some(Finding::ToRotate(exposed.clone())),
        (Some(_), Values::Unknown) => Some(Finding::Forgotten(exposed.clone())),
    }
}

/// Live Secrets that may still hold another value than Vault, each with what is known of it: a cluster that took a handover
/// over began with Git's.
pub fn not_replaced(live: &BTreeMap<SecretName, Live>) -> Vec<String> {
    let told = |(name, live): (&SecretName, &Live)| match live {
        Live::Absent | Live::Present => None,
        Live::Compared(keys) if keys.is_empty() => None,
        Live::Compared(keys) => {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            Some(format!("{name} differs from Vault in {}", keys.join(", ")))
        }
        Live::Unknown(why) => Some(format!("{name} cannot be compared: {why}")),
    };
    live.iter().filter_map(told).collect()
}

/// The keys of a live Secret that are not as Vault's copy has them, or that only one of the two has. Vault holds a value as
/// text, or in base64 where its bytes are none. All of them are compared, none with an early end.
pub fn differing(live: &BTreeMap<String, Plaintext>, copy: &BTreeMap<String, Option<Plaintext>>) -> BTreeSet<String> {
    let mut differing = BTreeSet::new();
    for (key, base64) in live {
        let same = match copy.get(key) {
            Some(Some(field)) => {
                let as_text = base64.decode_base64().is_some_and(|value| value.same_bytes(field));
                as_text | base64.same_bytes(field)
            }
            Some(None) | None => key == WHOLE_ANSWER,
        };
        if !same {
            differing.insert(key.clone());
        }
    }
    differing.extend(copy.keys().filter(|key| !live.contains_key(*key)).cloned());
    differing
}

/// Where the Vault Secrets Operator keeps the whole answer of Vault beside the fields, unless it is told not to.
const WHOLE_ANSWER: &str = "_raw";

impl Finding {
    /// What it means.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Mirrored | Self::Accepted | Self::SettlementUnseen | Self::NoIdentity | Self::Forgotten(_) => {
                Severity::Note
            }
            Self::NotLive(..)
            | Self::Differs(..)
            | Self::RendersNothing(_)
            | Self::StaleInGit(_)
            | Self::AbsentInGit(_)
            | Self::ToRotate(_)
            | Self::InTheClear(_) => Severity::Attention,
            Self::Unsettled => Severity::Underway,
            Self::SettlementUnknown(_)
            | Self::ListUnreadable
            | Self::Copy(Loss { how: Lost::NotRead, .. })
            | Self::HeartbeatUnknown(_)
            | Self::NotCompared(..)
            | Self::UnknownInGit(..)
            | Self::HistoryCut(_) => Severity::Unknown,
            Self::Copy(Loss { how: Lost::Absent | Lost::Deleted | Lost::RolledBack | Lost::Recreated, .. })
            | Self::RolledBack { .. }
            | Self::Ahead { .. }
            | Self::HeartbeatDeleted
            | Self::ListDiffers(_)
            | Self::RendersValue(_) => Severity::Person,
        }
    }

    /// Its stable name, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Mirrored => "mirrored",
            Self::Accepted => "restore-accepted",
            Self::Unsettled => "unsettled",
            Self::SettlementUnseen => "settlement-unseen",
            Self::SettlementUnknown(_) => "settlement-unknown",
            Self::ListUnreadable => "list-unreadable",
            Self::ListDiffers(_) => "list-differs",
            Self::Copy(Loss { how: Lost::NotRead, .. }) => "copy-unknown",
            Self::Copy(Loss { how: Lost::Absent, .. }) => "copy-absent",
            Self::Copy(Loss { how: Lost::Deleted, .. }) => "copy-deleted",
            Self::Copy(Loss { how: Lost::RolledBack, .. }) => "copy-rolled-back",
            Self::Copy(Loss { how: Lost::Recreated, .. }) => "copy-recreated",
            Self::RolledBack { .. } => "rolled-back",
            Self::Ahead { .. } => "ahead",
            Self::HeartbeatDeleted => "heartbeat-deleted",
            Self::HeartbeatUnknown(_) => "heartbeat-unknown",
            Self::NotLive(..) => "not-live",
            Self::Differs(..) => "live-differs",
            Self::NotCompared(..) => "live-unknown",
            Self::RendersValue(_) => "renders-value",
            Self::RendersNothing(_) => "renders-nothing",
            Self::StaleInGit(_) => "stale-in-git",
            Self::AbsentInGit(_) => "absent-in-git",
            Self::UnknownInGit(..) => "git-unknown",
            Self::NoIdentity => "no-identity",
            Self::ToRotate(_) => "to-rotate",
            Self::InTheClear(_) => "in-the-clear",
            Self::Forgotten(_) => "forgotten",
            Self::HistoryCut(_) => "history-cut",
        }
    }

    /// The Secret that it is about.
    pub fn secret(&self) -> Option<&SecretName> {
        match self {
            Self::Copy(Loss { name, .. })
            | Self::NotLive(name, _)
            | Self::Differs(name, ..)
            | Self::NotCompared(name, _)
            | Self::StaleInGit(name)
            | Self::AbsentInGit(name)
            | Self::UnknownInGit(name, _) => Some(name),
            Self::ToRotate(exposed) | Self::Forgotten(exposed) | Self::InTheClear(exposed) => exposed.name.as_ref(),
            Self::Mirrored
            | Self::Accepted
            | Self::Unsettled
            | Self::SettlementUnseen
            | Self::SettlementUnknown(_)
            | Self::ListUnreadable
            | Self::ListDiffers(_)
            | Self::RolledBack { .. }
            | Self::Ahead { .. }
            | Self::HeartbeatDeleted
            | Self::HeartbeatUnknown(_)
            | Self::RendersValue(_)
            | Self::RendersNothing(_)
            | Self::NoIdentity
            | Self::HistoryCut(_) => None,
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let joined = |keys: &BTreeSet<String>| keys.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        match self {
            Self::Mirrored => f.write_str("the record was not mirrored, and is now"),
            Self::Accepted => f.write_str("a restore was accepted: the heartbeat goes on from here"),
            Self::Unsettled => f.write_str("Vault rules, and it is not settled: an old value may still come back"),
            Self::SettlementUnseen => f.write_str(
                "Vault rules, and a folder does not tell who rendered from it: an old value may be cached there",
            ),
            Self::SettlementUnknown(why) => write!(f, "whether it is settled is not known: {why}"),
            Self::ListUnreadable => f.write_str("the list of documents cannot be read"),
            Self::ListDiffers(names) => {
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                write!(f, "the witness of the handover lists other documents than the record: {}", names.join(", "))
            }
            Self::Copy(loss) => write!(f, "Vault's copy of {loss}"),
            Self::RolledBack { beats } => {
                write!(f, "Vault was taken back: it is {beats} heartbeats older than was seen. Authority stays with it")
            }
            Self::Ahead { beats } => write!(
                f,
                "Vault is {beats} heartbeats ahead of the witnesses: they were taken back, or somebody else writes it"
            ),
            Self::HeartbeatDeleted => f.write_str("the heartbeat was deleted in Vault"),
            Self::HeartbeatUnknown(why) => write!(f, "the heartbeat is not known: {why}"),
            Self::NotLive(name, _) => write!(f, "Secret {name} is not live"),
            Self::Differs(name, _, keys) => write!(f, "live Secret {name} is not what Vault holds: {}", joined(keys)),
            Self::NotCompared(name, why) => write!(f, "Secret {name} was not compared: {why}"),
            Self::RendersValue(what) => write!(f, "a front door would answer with a value: {what}"),
            Self::RendersNothing(why) => write!(f, "a front door answers nothing for this revision: {why}"),
            Self::StaleInGit(name) => write!(f, "Git's permanent copy of {name} is not what Vault holds"),
            Self::AbsentInGit(name) => write!(f, "{name} is permanent, and Git's revision does not hold it"),
            Self::UnknownInGit(name, why) => write!(f, "Git's permanent copy of {name} was not compared: {why}"),
            Self::NoIdentity => f.write_str("permanent documents were not compared: no identity opens them"),
            Self::ToRotate(Exposed { file, name, commits, values }) => {
                let keys = match values {
                    Values::InUse(keys) => joined(keys),
                    Values::Rotated | Values::Unknown => String::new(),
                };
                let name = name.as_ref().map(ToString::to_string).unwrap_or_default();
                write!(f, "{name} is to be rotated: {file} opens in {}, and Vault still holds {keys}", told(commits))
            }
            Self::InTheClear(Exposed { file, commits, .. }) => {
                write!(f, "{file} holds a Secret in the clear in {}", told(commits))
            }
            Self::Forgotten(Exposed { file, name, commits, .. }) => {
                let name = name.as_ref().map(ToString::to_string).unwrap_or_default();
                write!(
                    f,
                    "{file} opens in {}, and Vault holds no copy of {name}: nobody knows of its values",
                    told(commits)
                )
            }
            Self::HistoryCut(why) => write!(f, "history was not looked at as a whole: {why}"),
        }
    }
}

/// Commits in words: few by name.
fn told(commits: &[String]) -> String {
    let (named, more) = (commits.iter().take(MOST_NAMED), commits.len().saturating_sub(MOST_NAMED));
    let named: Vec<&str> = named.map(|id| id.get(..SHORT).unwrap_or(id)).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{} {}{more}", if commits.len() == 1 { "commit" } else { "commits" }, named.join(", "))
}

/// Commits that a sentence names.
const MOST_NAMED: usize = 3;

/// Digits of a commit's id that a sentence shows.
const SHORT: usize = 12;

#[cfg(test)]
mod tests;
