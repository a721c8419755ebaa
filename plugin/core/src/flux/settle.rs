//! Phase 3 in Flux: what has to be seen of Kustomizations before no old value can come back.
//!
//! ```text
//! each Kustomization of the operator's file                                        then
//! suspended, missing, another source; another one that has listed Secrets         [`Next::Person`]
//! its artifact holds stubs, and that very revision is applied, ready, at rest     [`Next::Note`]
//! not yet, and at rest                                                            [`Next::Ask`]
//! not yet, and at work: it may wait for health with the revision before           [`Next::Wait`]
//! ```
//! One without an artifact has let go when it is ready, and at rest, with the patch that lets go ([`patches`]).
//!
//! From the moment a witness says vault no data key is released, and the next artifact holds stubs. So a revision
//! `handover@..` is younger than the witness. What is left is a build that has its keys already: the controller says
//! that it reconciles before it fetches, works on one build of a Kustomization at a time, and names the revision only
//! when it is over. That it acknowledged a request says nothing: a suspended one does, too, and does not build.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::observed::{Configured, Holds, Kustomization, Published, Ready, Scope, SourceRef, short};
use super::patches;
use crate::name::{AuthorityName, ObjectName, SecretName};
use crate::rules::Delivery;
use crate::settle::Quiet;

/// Everything that the next step is a function of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Every Kustomization of the cluster, as read now.
    pub kustomizations: &'a [Kustomization],
    /// The `ExternalArtifact`s of the operator's file, as read now.
    pub artifacts: &'a BTreeMap<SourceRef, Published>,
    /// What is looked for.
    pub scope: Scope<'a>,
    /// `--skip-kustomization`: neither asked nor waited for.
    pub skipped: &'a BTreeSet<ObjectName>,
    /// Whether what the controller read before the witness has shown in its status: between the two lie milliseconds.
    pub quiet: Quiet,
}

/// Why only a person goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// It is in the operator's file, and not in the cluster.
    #[error("it is in the operator's file and not in the cluster")]
    Missing,
    /// What it applies when it goes on cannot be seen.
    #[error("it is suspended (`flux resume kustomization {} -n {}`)", .0.name(), .0.namespace())]
    Suspended(ObjectName),
    /// What it applies is none of regent's business, and may be old.
    #[error("it takes its tree from {found}, and not from {expected}")]
    OtherSource {
        /// What it names.
        found: SourceRef,
        /// What the operator's file has for it.
        expected: SourceRef,
    },
    /// It is not in the operator's file, and takes an artifact of one that is.
    #[error("it takes {0} and is not in the operator's file (`flux.applications`)")]
    Unknown(SourceRef),
    /// It is not in the operator's file, and has Secrets that were handed over.
    #[error("it has {} and is not in the operator's file (`flux.applications`), so it may apply what it likes", names(.0))]
    Tracks(Vec<SecretName>),
}

/// A Kustomization that a person decides about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Which.
    pub name: ObjectName,
    /// Why.
    pub why: Why,
}

/// What a Kustomization still lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// Its artifact is not there.
    #[error("{artifact} offers nothing (`regent serve flux` publishes it)")]
    NoArtifact {
        /// Which.
        artifact: SourceRef,
    },
    /// Its artifact still holds ciphertext.
    #[error("its artifact is still {}{}", short(revision), refusal.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    NoStubs {
        /// The revision.
        revision: String,
        /// What regent says there.
        refusal: Option<String>,
    },
    /// Without an artifact, it would still decrypt.
    #[error("its `spec.patches` do not end with what lets go; commit as their last entry `- {}`", patches::entry(.0))]
    NoPatch(AuthorityName),
    /// It is at work.
    #[error("it reconciles{} (with an older revision it may wait for health for {} s)", with(revision.as_ref()), most.as_secs())]
    Reconciling {
        /// What it tries.
        revision: Option<String>,
        /// How long it may wait for health.
        most: Duration,
    },
    /// It did not get that far.
    #[error("it applied {} last, and not {}", applied.as_ref().map_or_else(|| "nothing".to_owned(), |it| short(it)), short(wanted))]
    NotApplied {
        /// What it applied.
        applied: Option<String>,
        /// What it is to apply.
        wanted: String,
    },
    /// It applied that, and is not well.
    #[error("it is not ready: {reason}")]
    NotReady {
        /// The reason of its condition, one word.
        reason: String,
    },
}

/// A Kustomization, and all that it lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// Which.
    pub name: ObjectName,
    /// What.
    pub lacks: Vec<Lack>,
}

/// What was seen, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Those that hold stubs.
    pub let_go: Vec<ObjectName>,
    /// Those that a person gave up.
    pub skipped: Vec<ObjectName>,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A person decides about these.
    Person(Vec<Stop>),
    /// Have these reconcile now, and look again.
    Ask {
        /// Which.
        whom: Vec<ObjectName>,
        /// All that is waited for.
        lacking: Vec<Lacking>,
    },
    /// Nothing is to be asked, only waited for.
    Wait(Vec<Lacking>),
    /// Wait until it was quiet long enough.
    Quiet,
    /// No old value can come back through Flux.
    Note(Seen),
}

/// Decides what comes next.
pub fn next(facts: &Facts<'_>) -> Next {
    let stops = stops(facts);
    if !stops.is_empty() {
        return Next::Person(stops);
    }
    let is_skipped = |name: &ObjectName| facts.skipped.contains(name);
    let configured = facts.scope.configured(facts.kustomizations, facts.artifacts);
    let awaited: Vec<&Configured<'_>> =
        configured.iter().filter(|one| !is_skipped(&one.application.kustomization)).collect();
    let all = awaited.iter().map(|one| Lacking { name: one.application.kustomization.clone(), lacks: one.lacks() });
    let lacking: Vec<Lacking> = all.filter(|lacking| !lacking.lacks.is_empty()).collect();
    let asked = lacking.iter().filter(|lacking| lacking.is_asked_for());
    let whom: Vec<ObjectName> = asked.map(|lacking| lacking.name.clone()).collect();
    match facts.quiet {
        Quiet::NotYet | Quiet::Over if !whom.is_empty() => Next::Ask { whom, lacking },
        Quiet::NotYet | Quiet::Over if !lacking.is_empty() => Next::Wait(lacking),
        Quiet::NotYet if !awaited.is_empty() => Next::Quiet,
        Quiet::NotYet | Quiet::Over => {
            let others = facts.scope.others(facts.kustomizations);
            let given_up = configured.iter().map(|one| &one.application.kustomization);
            let given_up = given_up.chain(others.iter().map(|(other, _)| &other.name)).filter(|name| is_skipped(name));
            Next::Note(Seen {
                let_go: awaited.iter().map(|one| one.application.kustomization.clone()).collect(),
                skipped: given_up.cloned().collect(),
            })
        }
    }
}

/// Everything that a person decides about.
pub fn stops(facts: &Facts<'_>) -> Vec<Stop> {
    let configured = facts.scope.configured(facts.kustomizations, facts.artifacts);
    let configured = configured.iter().filter_map(|one| Some((&one.application.kustomization, one.stop()?)));
    let others = facts.scope.others(facts.kustomizations);
    let others = others.into_iter().map(|(other, tracked)| {
        let why = if tracked.is_empty() { Why::Unknown(other.source.clone()) } else { Why::Tracks(tracked) };
        (&other.name, why)
    });
    let all = configured.chain(others).filter(|(name, _)| !facts.skipped.contains(name));
    all.map(|(name, why)| Stop { name: name.clone(), why }).collect()
}

impl Configured<'_> {
    /// Why only a person goes on with it.
    pub fn stop(&self) -> Option<Why> {
        let Some(kustomization) = self.kustomization else { return Some(Why::Missing) };
        let expected = SourceRef::of(self.application);
        if kustomization.source != expected {
            return Some(Why::OtherSource { found: kustomization.source.clone(), expected });
        }
        kustomization.is_suspended.then(|| Why::Suspended(kustomization.name.clone()))
    }

    /// What it lacks until no value of Git can come of it. For one that [`stops`](Self::stop), nothing is said.
    pub fn lacks(&self) -> Vec<Lack> {
        let Some(kustomization) = self.kustomization else { return Vec::new() };
        match &self.application.delivery {
            Delivery::Artifact(_) => self.lacks_of_stubs(kustomization),
            Delivery::Patches(_) => self.lacks_of_patch(kustomization),
        }
    }

    /// It has let go when it was built with the patch that its spec has. Since no data key is released any more, a build is
    /// over well only where nothing was decrypted.
    fn lacks_of_patch(&self, kustomization: &Kustomization) -> Vec<Lack> {
        if !patches::let_go(&kustomization.patches, &self.application.authority) {
            return vec![Lack::NoPatch(self.application.authority.clone())];
        }
        let Kustomization { applied, attempted, .. } = kustomization;
        match &kustomization.ready {
            Ready::No(reason) => vec![Lack::NotReady { reason: reason.clone() }],
            Ready::Yes | Ready::Unknown if kustomization.is_busy() || applied.is_none() || applied != attempted => {
                vec![Lack::Reconciling { revision: attempted.clone(), most: kustomization.health_wait() }]
            }
            Ready::Yes | Ready::Unknown => Vec::new(),
        }
    }

    fn lacks_of_stubs(&self, kustomization: &Kustomization) -> Vec<Lack> {
        let Some(wanted) = self.artifact.and_then(|artifact| artifact.revision.as_ref()) else {
            return vec![Lack::NoArtifact { artifact: SourceRef::of(self.application) }];
        };
        match Holds::of(wanted) {
            Holds::Stubs => {}
            Holds::Bootstrap | Holds::Other => {
                let refusal = self.artifact.and_then(|artifact| artifact.refusal.clone());
                return vec![Lack::NoStubs { revision: wanted.clone(), refusal }];
            }
        }
        let mut lacks = Vec::new();
        if kustomization.applied.as_ref() != Some(wanted) {
            lacks.push(Lack::NotApplied { applied: kustomization.applied.clone(), wanted: wanted.clone() });
        }
        let has_tried_another = kustomization.attempted.as_ref() != Some(wanted);
        match &kustomization.ready {
            Ready::No(reason) => lacks.push(Lack::NotReady { reason: reason.clone() }),
            // Applied once, and at something else by now.
            Ready::Yes | Ready::Unknown if kustomization.is_busy() || (lacks.is_empty() && has_tried_another) => {
                let (revision, most) = (kustomization.attempted.clone(), kustomization.health_wait());
                lacks.push(Lack::Reconciling { revision, most });
            }
            Ready::Yes | Ready::Unknown => {}
        }
        lacks
    }
}

impl Lacking {
    /// Whether a reconcile is what helps: not while one is under way, and not before there is something to fetch.
    fn is_asked_for(&self) -> bool {
        let helps = |lack: &Lack| match lack {
            Lack::NotApplied { .. } | Lack::NotReady { .. } => true,
            Lack::NoArtifact { .. } | Lack::NoStubs { .. } | Lack::NoPatch(_) | Lack::Reconciling { .. } => false,
        };
        !self.lacks.is_empty() && self.lacks.iter().all(helps)
    }
}

/// How long it may take until all of them have let go.
pub fn longest(facts: &Facts<'_>) -> Duration {
    let configured = facts.scope.configured(facts.kustomizations, facts.artifacts);
    let awaited = configured.iter().filter(|one| !facts.skipped.contains(&one.application.kustomization));
    awaited.filter_map(|one| Some(one.kustomization?.longest())).max().unwrap_or_default()
}

fn with(revision: Option<&String>) -> String {
    revision.map(|revision| format!(" with {}", short(revision))).unwrap_or_default()
}

fn names(secrets: &[SecretName]) -> String {
    secrets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kustomization {}: {}", self.name, self.why)
    }
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lacks: Vec<String> = self.lacks.iter().map(ToString::to_string).collect();
        write!(f, "Kustomization {}: {}", self.name, lacks.join(", "))
    }
}

#[cfg(test)]
mod tests;
