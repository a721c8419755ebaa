//! A Kustomization and its artifact as they were read: what kustomize-controller says of itself.
//!
//! kustomize-controller works on one Kustomization at a time, and says so before it fetches anything. So a status that
//! names a revision, is ready and not reconciling is what its last build left, and nothing older is under way.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::evidence::ListedDocument;
use crate::flux::reach::InlinePatch;
use crate::name::{ObjectName, SecretName};
use crate::rules::{Delivery, FluxApplication};

/// A Kustomization as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kustomization {
    /// Its namespace and name.
    pub name: ObjectName,
    /// `spec.suspend`.
    pub is_suspended: bool,
    /// `metadata.generation`.
    pub generation: i64,
    /// `status.observedGeneration`.
    pub observed: i64,
    /// `spec.sourceRef`.
    pub source: SourceRef,
    /// `spec.patches`.
    pub patches: Vec<InlinePatch>,
    /// `spec.decryption.secretRef.name`.
    pub token_secret: Option<String>,
    /// `spec.serviceAccountName`.
    pub service_account: Option<String>,
    /// Whether it applies elsewhere (`spec.kubeConfig`): who it is there cannot be told from here.
    pub is_remote: bool,
    /// `spec.timeout`, which stands for a health wait; without one it is the interval less half a minute.
    pub timeout: Duration,
    /// `spec.retryInterval`, else `spec.interval`: how long a failure is left alone.
    pub retry: Duration,
    /// `status.lastAttemptedRevision`.
    pub attempted: Option<String>,
    /// `status.lastAppliedRevision`.
    pub applied: Option<String>,
    /// `status.lastAppliedOriginRevision`.
    pub origin: Option<String>,
    /// The condition `Ready`.
    pub ready: Ready,
    /// Whether the condition `Reconciling` holds: so it does during a build, and between two tries.
    pub is_reconciling: bool,
    /// `status.history`, the newest first.
    pub history: Vec<Built>,
    /// `status.inventory`.
    pub inventory: Vec<Entry>,
}

/// Where a Kustomization takes its tree from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceRef {
    /// `ExternalArtifact`, `GitRepository`, ...
    pub kind: String,
    /// Its namespace; that of the Kustomization where it names none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The condition `Ready`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// It holds.
    Yes,
    /// It does not: the reason, one word. The message may quote an object.
    No(String),
    /// Nothing is said, or something is under way.
    Unknown,
}

/// What was built once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The revision of the artifact.
    pub revision: String,
    /// The revision of the repository that it was made of.
    pub origin: Option<String>,
    /// Whether it ended before anything was applied.
    pub is_unbuilt: bool,
}

/// An entry of `status.inventory`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `Secret`; kinds outside the core group as `apps/v1/Deployment`.
    pub kind: String,
    /// Its namespace; empty for none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// An `ExternalArtifact` as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// `status.artifact.revision`: `bootstrap@sha256:..`, or `handover@sha256:..` with nothing but stubs.
    pub revision: Option<String>,
    /// The revision of the repository in its metadata: `main@sha1:<commit>`.
    pub origin: Option<String>,
    /// Why there is no newer one, where regent says so itself (the message of a condition `Ready` that does not hold).
    pub refusal: Option<String>,
}

/// What a revision says of the artifact that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Ciphertext whose data keys regent releases.
    Bootstrap,
    /// Stubs.
    Stubs,
    /// It is none of regent's.
    Other,
}

/// What is looked for: an authority's Kustomizations in the operator's file, and what was handed over.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Those of the authority alone.
    pub applications: &'a [&'a FluxApplication],
    /// What was handed over, or would be.
    pub listed: &'a [ListedDocument],
}

/// One Kustomization of the operator's file, and what there is of it.
#[derive(Clone, Copy, Debug)]
pub struct Configured<'a> {
    /// As the file has it.
    pub application: &'a FluxApplication,
    /// As the cluster has it, where it does.
    pub kustomization: Option<&'a Kustomization>,
    /// Its artifact, where it is there.
    pub artifact: Option<&'a Published>,
}

/// The shortest `spec.timeout` that kustomize-controller takes, whatever is written.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(30);

impl Kustomization {
    /// How long it may wait for health with a revision that it took up before: nothing newer is looked at meanwhile.
    pub fn health_wait(&self) -> Duration {
        self.timeout.max(SHORTEST_TIMEOUT)
    }

    /// The longest until a revision that is published now was taken up: one wait for health with an older one, one
    /// pause after a failure, and the wait for its own.
    pub fn longest(&self) -> Duration {
        self.health_wait().saturating_mul(2).saturating_add(self.retry)
    }

    /// Whether a build is under way, or was asked for by a change of its spec. Between two tries of one that failed the
    /// controller says that it reconciles, too, and goes on to say that it is not ready.
    pub fn is_busy(&self) -> bool {
        match self.ready {
            Ready::Unknown => true,
            Ready::Yes => self.is_reconciling || self.observed != self.generation,
            Ready::No(_) => false,
        }
    }

    /// The listed documents that it counts as its own.
    pub fn tracks(&self, listed: &[ListedDocument]) -> Vec<SecretName> {
        let is_its = |document: &&ListedDocument| {
            self.inventory.iter().any(|entry| {
                entry.kind == document.kind
                    && entry.name == document.name.name()
                    && entry.namespace == document.name.namespace().as_str()
            })
        };
        listed.iter().filter(is_its).map(|document| document.name.clone()).collect()
    }
}

impl Configured<'_> {
    /// The revisions of the repository that are in use: published, and applied.
    pub fn in_use(&self) -> impl Iterator<Item = &str> {
        let applied = self.kustomization.and_then(|it| match &self.application.delivery {
            Delivery::Artifact(_) => it.origin.as_deref(),
            Delivery::Patches(_) => it.applied.as_deref(),
        });
        let published = self.artifact.and_then(|artifact| artifact.origin.as_deref());
        [published, applied].into_iter().flatten()
    }

    /// The revisions of the repository of which it may have applied values last. An artifact's own revision tells which held
    /// some. Without one a build with the patch cannot be told from one before it, so all are named since the commit that was
    /// `handed_over`; where the history does not reach that far, the newest with the patch and the one before it.
    pub fn last_values(&self, handed_over: &str) -> Vec<&str> {
        let history = self.kustomization.map(|it| &*it.history).unwrap_or_default();
        match &self.application.delivery {
            Delivery::Artifact(_) => {
                let built = history.iter().find(|built| Holds::of(&built.revision) == Holds::Bootstrap);
                built.and_then(|built| built.origin.as_deref()).into_iter().collect()
            }
            Delivery::Patches(_) => {
                let built = history.iter().filter(|built| !built.is_unbuilt);
                let mut revisions: Vec<&str> = built.map(|built| &*built.revision).collect();
                let known = revisions.iter().position(|revision| commit_of(revision) == Some(handed_over));
                revisions.truncate(known.map_or(2, |at| at + 1));
                revisions
            }
        }
    }
}

impl SourceRef {
    /// What an entry of the operator's file takes its tree from.
    pub fn of(application: &FluxApplication) -> Self {
        let (kind, namespace, name) = match &application.delivery {
            Delivery::Artifact(artifact) => {
                ("ExternalArtifact", application.kustomization.namespace(), &*artifact.name)
            }
            Delivery::Patches(repository) => ("GitRepository", repository.namespace(), repository.name()),
        };
        Self { kind: kind.to_owned(), namespace: namespace.to_string(), name: name.to_owned() }
    }

    /// The artifact that regent publishes for it, where it does.
    pub fn artifact_of(application: &FluxApplication) -> Option<Self> {
        application.delivery.artifact().map(|_| Self::of(application))
    }
}

impl Holds {
    /// By the word before the `@`.
    pub fn of(revision: &str) -> Self {
        match revision.split_once('@') {
            Some(("bootstrap", _)) => Self::Bootstrap,
            Some(("handover", _)) => Self::Stubs,
            Some(_) | None => Self::Other,
        }
    }
}

impl<'a> Scope<'a> {
    /// Each Kustomization of the file, with what there is of it.
    pub fn configured(
        &self,
        kustomizations: &'a [Kustomization],
        artifacts: &'a BTreeMap<SourceRef, Published>,
    ) -> Vec<Configured<'a>> {
        let one = |&application: &&'a FluxApplication| Configured {
            application,
            kustomization: kustomizations.iter().find(|it| it.name == application.kustomization),
            artifact: SourceRef::artifact_of(application).and_then(|artifact| artifacts.get(&artifact)),
        };
        self.applications.iter().map(one).collect()
    }

    /// Those that are not in the file and take one of its artifacts all the same, or count a listed document as theirs.
    pub fn others(&self, kustomizations: &'a [Kustomization]) -> Vec<(&'a Kustomization, Vec<SecretName>)> {
        let is_configured = |it: &Kustomization| self.applications.iter().any(|one| one.kustomization == it.name);
        let takes = |it: &Kustomization| {
            self.applications.iter().filter_map(|one| SourceRef::artifact_of(one)).any(|artifact| artifact == it.source)
        };
        let others = kustomizations.iter().filter(|it| !is_configured(it));
        let found = others.map(|it| (it, it.tracks(self.listed)));
        found.filter(|(it, tracked)| !tracked.is_empty() || takes(it)).collect()
    }
}

/// The commit of a revision of a repository: `main@sha1:<commit>`.
pub fn commit_of(origin: &str) -> Option<&str> {
    let (_, id) = origin.rsplit_once('@')?;
    id.strip_prefix("sha1:").or_else(|| id.strip_prefix("sha256:"))
}

/// A revision, short enough for a sentence.
pub fn short(revision: &str) -> String {
    /// A word, `@sha256:`, and what tells two apart.
    const LONGEST: usize = 32;
    if revision.chars().count() <= LONGEST {
        return revision.to_owned();
    }
    revision.chars().take(LONGEST - 2).chain("..".chars()).collect()
}

impl fmt::Display for SourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}
