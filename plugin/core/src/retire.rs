//! Leaving: what of regent is still there once its handover is settled, in which order it goes, and when keys may.
//!
//! ```text
//! closed      Git itself says that the epoch is over            before the witnesses, which say it now
//! keys        no door mounts a key any more                     before the sidecar, which shows who uses them
//! guards      controllers leave the live Secrets alone          before a stub goes that stands for them
//! delivery    what delivers from Vault is plain in Git          before the plugin, which renders it now
//! files       no Application's path holds ciphertext            before the plugin, without which Argo CD applies it
//! plugin      Argo CD renders without it                        before the sidecar: its Applications would only get errors
//! flux        Kustomizations take their trees without it        before the doors: their artifact would be answered nowhere
//! sidecar     regent runs nowhere                               before the lock, which holds a door off that still renders
//! lock        the API server refuses nothing any more           before its Authority, without which it refuses everything
//! accounts, policies, witnesses, schema, home                   before the CRD: what it takes away with it
//! ```
//! Nothing here changes anything. A step is offered once all before it are done, so that whoever stops anywhere loses nothing
//! live: Secrets stay, and what delivers them goes on.

pub mod lock;

use std::collections::{BTreeMap, BTreeSet};

use crate::evidence::{Evidence, Holder, ListedClass, ListedDocument, Mirror, Reading};
use crate::name::{AuthorityName, HandoverId, SecretName};
use crate::rules::Rule;

/// A step, in the order of leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// `closed:` in `regent.yaml`.
    Closed,
    /// The Secrets with keys that doors mount.
    Keys,
    /// Annotations that keep controllers off the live Secrets.
    Guards,
    /// The objects of `after:`, in Git and live.
    Delivery,
    /// Encrypted files in the paths of Applications.
    Files,
    /// The plugin block of Applications.
    Plugin,
    /// The artifacts of Flux' Kustomizations, and the Secrets with their tokens.
    Flux,
    /// The container in the repo-server's pod, and what was made for it.
    Sidecar,
    /// The authority's lock.
    Lock,
    /// The authority's accounts and rights.
    Accounts,
    /// The policies and roles of `manifests/cluster`.
    Policies,
    /// Authority and `ConfigMap`s.
    Witnesses,
    /// The CRD.
    Schema,
    /// The namespace of the accounts.
    Home,
}

impl Step {
    /// Every one, in order.
    pub const ALL: [Self; 14] = [
        Self::Closed,
        Self::Keys,
        Self::Guards,
        Self::Delivery,
        Self::Files,
        Self::Plugin,
        Self::Flux,
        Self::Sidecar,
        Self::Lock,
        Self::Accounts,
        Self::Policies,
        Self::Witnesses,
        Self::Schema,
        Self::Home,
    ];

    /// As it is told.
    pub fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Keys => "keys",
            Self::Guards => "guards",
            Self::Delivery => "delivery",
            Self::Files => "files",
            Self::Plugin => "plugin",
            Self::Flux => "flux",
            Self::Sidecar => "sidecar",
            Self::Lock => "lock",
            Self::Accounts => "accounts",
            Self::Policies => "policies",
            Self::Witnesses => "witnesses",
            Self::Schema => "crd",
            Self::Home => "namespace",
        }
    }
}

/// What was seen of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing of it is left.
    Gone,
    /// These are left.
    Left(Vec<String>),
    /// It stays, because others need it.
    Kept(String),
    /// It could not be looked at.
    Unknown(String),
}

impl Seen {
    /// Gone where nothing is left.
    pub fn left(left: Vec<String>) -> Self {
        if left.is_empty() { Self::Gone } else { Self::Left(left) }
    }
}

/// How a step stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There is nothing to do any more.
    Done,
    /// It stays, because others need it.
    Kept(String),
    /// It may be done now: this is left of it.
    ToDo(Vec<String>),
    /// This is left of it, and another step comes first.
    NotYet {
        /// What is left.
        left: Vec<String>,
        /// What comes first.
        first: Step,
    },
    /// It could not be looked at.
    Unknown(String),
}

/// Where the leaving stands. A step is offered only where everything before it is done; what could not be looked at counts
/// as not done.
pub fn order(seen: &dyn Fn(Step) -> Seen) -> Vec<(Step, State)> {
    let mut first = None;
    let state = |step| {
        let state = match (seen(step), first) {
            (Seen::Gone, Some(_) | None) => return (step, State::Done),
            (Seen::Kept(why), Some(_) | None) => return (step, State::Kept(why)),
            (Seen::Left(left), None) => State::ToDo(left),
            (Seen::Left(left), Some(first)) => State::NotYet { left, first },
            (Seen::Unknown(why), Some(_) | None) => State::Unknown(why),
        };
        first.get_or_insert(step);
        (step, state)
    };
    Step::ALL.into_iter().map(state).collect()
}

/// Whether one may leave at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum May {
    /// It is settled, and the witnesses say so.
    Settled {
        /// The handover.
        handover: HandoverId,
    },
    /// Witnesses are gone already, and Git says that this handover ended the epoch.
    Closed {
        /// The handover.
        handover: HandoverId,
    },
}

/// Why one may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetireRefusal {
    /// Git rules.
    #[error("Git still rules this root: nothing was handed over")]
    GitRules,
    /// Old values may still come back.
    #[error("handover {handover} is not settled: an old value could still come back")]
    NotSettled {
        /// The handover.
        handover: HandoverId,
    },
    /// No witness, and Git says nothing of a handover.
    #[error("there is no authority, and regent.yaml names no handover that ended its epoch (`closed`)")]
    Nothing,
    /// Nobody knows who rules.
    #[error("who rules is not known: {0}")]
    Unknown(String),
    /// A person decides.
    #[error("the witnesses contradict each other: {0}")]
    Disagree(String),
}

/// Whether one may leave: never before it is settled. While witnesses are taken away it is Git that remembers; `closed` is
/// what `regent.yaml` says, and it counts only where the Authority, which would say it itself, is certainly gone.
///
/// # Errors
/// Where one may not.
pub fn may(evidence: &Evidence, closed: Option<&HandoverId>) -> Result<May, RetireRefusal> {
    let is_gone = match evidence.authority {
        Reading::Absent => true,
        Reading::Present(_) | Reading::Unreadable(_) => false,
    };
    match evidence.holder() {
        Holder::Vault { handover, mirror: Mirror::Complete | Mirror::Incomplete, .. } => {
            if evidence.is_settled() {
                Ok(May::Settled { handover })
            } else if is_gone && closed == Some(&handover) {
                Ok(May::Closed { handover })
            } else {
                Err(RetireRefusal::NotSettled { handover })
            }
        }
        Holder::None => match closed {
            Some(handover) => Ok(May::Closed { handover: handover.clone() }),
            None => Err(RetireRefusal::Nothing),
        },
        Holder::Git { .. } => Err(RetireRefusal::GitRules),
        Holder::Disagree(why) => Err(RetireRefusal::Disagree(why)),
        Holder::Unreadable(why) => Err(RetireRefusal::Unknown(why)),
    }
}

/// An object that has its operator write a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivers {
    /// `ExternalSecret namespace/name`.
    pub object: String,
    /// The Secret.
    pub secret: SecretName,
    /// Whether regent made it: then it has to be in Git before regent goes.
    pub is_regents: bool,
}

/// Who delivers after regent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Objects that regent renders.
    Rendered,
    /// Somebody else, by the word of `regent.yaml`.
    Others,
}

/// What is missing until every Secret that was handed over is delivered without regent. `in_git` are the objects that stand
/// plain in the commit. With [`After::Others`] only what regent once made itself can be looked at.
pub fn delivery(after: After, listed: &[ListedDocument], live: &[Delivers], in_git: &BTreeSet<String>) -> Vec<String> {
    let handed_over = listed.iter().filter(|it| it.kind == "Secret" && it.class == ListedClass::Handover);
    let mut missing = Vec::new();
    for name in handed_over.map(|document| &document.name).collect::<BTreeSet<_>>() {
        let by: Vec<&Delivers> = live.iter().filter(|delivers| delivers.secret == *name).collect();
        match (by.as_slice(), after) {
            ([], After::Rendered) => missing.push(format!("Secret {name}: nothing live delivers it")),
            ([], After::Others) | ([_, ..], After::Rendered | After::Others) => {}
        }
        let only_rendered = by.iter().filter(|delivers| delivers.is_regents && !in_git.contains(&delivers.object));
        missing.extend(only_rendered.map(|delivers| format!("{} is not in this commit", delivers.object)));
    }
    missing
}

/// Who mounts a Secret with keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySecret {
    /// Its name.
    pub name: String,
    /// Every container of Argo CD's namespace that mounts it, or has it in its environment.
    pub mounts: Vec<Mount>,
}

/// Where one container has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `Deployment/container`; the same of what else runs Pods.
    pub container: String,
    /// The folder; empty for the environment.
    pub path: String,
    /// Whether that is one of regent's doors.
    pub is_door: bool,
}

/// What is known of another authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its handover is settled: no door opens anything for it any more.
    Settled,
    /// Git rules it, or an old value could still come back.
    NeedsKeys,
    /// Nobody could look.
    Unknown(String),
}

/// What becomes of a Secret with keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody needs it.
    Remove,
    /// It is another authority's.
    NotIts,
    /// It stays.
    Keep(InUse),
}

/// Why a Secret with keys stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InUse {
    /// This authority needs it.
    #[error("it is needed until the handover is settled")]
    NotSettled,
    /// Another one needs it.
    #[error("the rule of `{0}`, which is not settled, opens documents with it")]
    By(AuthorityName),
    /// Perhaps another one needs it.
    #[error("the rule of `{0}` names it, and whether that is settled is not known: {1}")]
    Maybe(AuthorityName, String),
    /// Somebody else mounts it.
    #[error("{0} has it, which is no door of regent")]
    Mounted(String),
    /// The door's own file does not say.
    #[error("who opens documents with it is not known: {0}")]
    Unknown(String),
    /// No rule names it.
    #[error("no rule of the door names a key below it, so whose it is is not known")]
    Unnamed,
}

/// What becomes of a Secret with keys, for whoever asks as `authority`. `rules` are those of the doors that mount it.
pub fn key(
    secret: &KeySecret,
    authority: &AuthorityName,
    own: &Standing,
    rules: Result<&[Rule], &str>,
    others: &BTreeMap<AuthorityName, Standing>,
) -> Verdict {
    let rules = match rules {
        Ok(rules) => rules,
        Err(why) => return Verdict::Keep(InUse::Unknown(why.to_owned())),
    };
    let users: BTreeSet<&AuthorityName> =
        rules.iter().filter(|rule| uses(rule, secret)).map(|rule| &rule.authority).collect();
    if users.is_empty() {
        return Verdict::Keep(InUse::Unnamed);
    }
    if !users.contains(authority) {
        return Verdict::NotIts;
    }
    match own {
        Standing::Settled => {}
        Standing::NeedsKeys => return Verdict::Keep(InUse::NotSettled),
        Standing::Unknown(why) => return Verdict::Keep(InUse::Unknown(why.clone())),
    }
    if let Some(mount) = secret.mounts.iter().find(|mount| !mount.is_door) {
        return Verdict::Keep(InUse::Mounted(mount.container.clone()));
    }
    for other in users.into_iter().filter(|other| *other != authority) {
        match others.get(other) {
            Some(Standing::Settled) => {}
            Some(Standing::NeedsKeys) => return Verdict::Keep(InUse::By(other.clone())),
            Some(Standing::Unknown(why)) => return Verdict::Keep(InUse::Maybe(other.clone(), why.clone())),
            None => return Verdict::Keep(InUse::Maybe(other.clone(), "nobody asked".to_owned())),
        }
    }
    Verdict::Remove
}

/// Where a door finds what its file names: beside that file, which lies in `folder`. `None` where that is not clear: beyond
/// a name `..` may lead anywhere, since a name may be a link.
pub fn found(folder: &str, path: &str) -> Option<String> {
    let is_absolute = path.starts_with('/');
    if !is_absolute && !folder.starts_with('/') {
        return None;
    }
    let mut found = if is_absolute { Vec::new() } else { parts(folder) };
    let mut is_beyond = false;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if is_beyond => return None,
            ".." => drop(found.pop()),
            name => {
                found.push(name);
                is_beyond = true;
            }
        }
    }
    Some(format!("/{}", found.join("/")))
}

/// Whether a rule has identities in it, by their paths as [`found`] has them.
pub fn uses(rule: &Rule, secret: &KeySecret) -> bool {
    let doors = secret.mounts.iter().filter(|mount| mount.is_door);
    doors.into_iter().any(|mount| rule.identities.iter().any(|path| overlap(path, &mount.path)))
}

/// Whether one of two folders is, or lies in, the other.
pub fn overlap(one: &str, other: &str) -> bool {
    parts(one).iter().zip(parts(other)).all(|(one, other)| *one == other)
}

/// The folders of a path. `/var/run` is a link to `/run` in most images, and counts as one with it.
fn parts(path: &str) -> Vec<&str> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    match parts.as_slice() {
        ["var", run @ ..] if run.first() == Some(&"run") => run.to_vec(),
        _elsewhere => parts,
    }
}

#[cfg(test)]
mod tests;
