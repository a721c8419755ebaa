//! Phase 3 in Argo CD: what has to be seen of its Applications before no old value can come back.
//!
//! ```text
//! stage      what every affected Application has to show                                   then
//! Mirrored   no operation that may have begun before, compared anew, each listed row       [`Next::Quiet`] until whatever
//!            without status, no error                                                      began before has ended, [`Next::Disarm`]
//! Disarmed   the same once more, compared since                                            [`Next::Note`]
//!            a row has a status again                                                      [`Next::Again`]
//! ```
//! Argo CD keeps what it rendered for a day and asks the plugin only in a hard refresh. One that falls into a refresh under
//! way is lost, and a generation that began earlier may end later, so what counts is the outcome: a row without a status
//! is a Secret that was compared with a stub. Times are compared with others of the same controller alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::evidence::ListedDocument;
use crate::name::{ObjectName, SecretName};
use crate::repository::Repository;

/// An Application, by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApplicationName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// An Application as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Its namespace and name.
    pub name: ApplicationName,
    /// `spec.destination`.
    pub destination: Destination,
    /// Whether its sources are one or a list.
    pub shape: Shape,
    /// `spec.sources`, else `spec.source`.
    pub sources: Vec<Source>,
    /// `status.history`, and the result of the last sync.
    pub deployed: Vec<Deployed>,
    /// The newest of `status.history`: what was synced last.
    pub synced: Option<Deployed>,
    /// `status.sync.revision` and `revisions`: what was compared last.
    pub compared: Vec<String>,
    /// `operation` and `status.operationState`.
    pub operation: Operation,
    /// Whether a refresh is asked for.
    pub is_refreshing: bool,
    /// `status.reconciledAt`.
    pub reconciled_at: Option<String>,
    /// `status.resources`.
    pub rows: Vec<Row>,
    /// `status.conditions`.
    pub conditions: Vec<Condition>,
}

/// How an Application names its sources; its revisions have the same shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `source`.
    One,
    /// `sources`, be it one.
    Each,
}

/// Where an Application deploys to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    /// `server`; empty where the cluster is named.
    pub server: String,
    /// `name`; empty where the server is.
    pub cluster: String,
    /// `namespace`; empty for none.
    pub namespace: String,
}

/// A source of an Application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// `repoURL`.
    pub repo: String,
    /// `path`; empty for the repository's own folder.
    pub path: String,
    /// `targetRevision`.
    pub target_revision: String,
    /// Who renders it.
    pub plugin: Plugin,
}

/// Who renders a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// Argo CD itself.
    None,
    /// Whichever plugin discovers it.
    Any,
    /// The plugin of this name.
    Named(String),
}

/// Something that was deployed, with the sources of that time: a rollback renders those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// Its sources.
    pub sources: Vec<Source>,
    /// Their revisions.
    pub revisions: Vec<String>,
}

/// What Argo CD is doing to an Application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Nothing.
    None,
    /// One was asked for, and has not begun.
    Requested,
    /// One is under way; `startedAt`, where it says so.
    Running(Option<String>),
}

/// A row of `status.resources`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// `Secret`; kinds outside the core group as `apps/v1/Deployment`.
    pub kind: String,
    /// Its namespace; empty for none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether it is compared with what was rendered. A stub is not.
    pub has_status: bool,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `ComparisonError`, for one.
    pub kind: String,
    /// What Argo CD says.
    pub message: String,
}

/// What is looked for: the handover's list, and how Applications reach it.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The plugin, as an Application names it.
    pub plugin: &'a str,
    /// The root's repository, by each URL that it may have; none where that is not known, and every one counts.
    pub repositories: &'a [Repository],
    /// The root's folder in its repository; `None` where that is not known, and every path counts.
    pub root: Option<&'a str>,
    /// What was handed over.
    pub listed: &'a [ListedDocument],
}

/// What a person gave up by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    /// `--skip-app`: neither asked nor waited for.
    pub skipped: BTreeSet<ApplicationName>,
    /// `--settle-without`.
    pub without: BTreeSet<Without>,
}

/// A proof that a person does without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Without {
    /// That operations begun before have ended.
    Operations,
    /// That every listed Secret was compared with a stub.
    Outcome,
    /// That no cached manifest holds a value.
    Caches,
}

/// How far this run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The witnesses say vault.
    Mirrored,
    /// ... and what was cached before is gone.
    Disarmed,
}

/// Whether a generation that began before the witnesses said vault may still be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// It may.
    NotYet,
    /// The longest that one may take is over.
    Over,
}

/// Everything that the next step is a function of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Every Application, as read now.
    pub applications: &'a [Application],
    /// What is looked for.
    pub scope: Scope<'a>,
    /// What a person gave up.
    pub decided: &'a Decided,
    /// How far this run is.
    pub stage: Stage,
    /// `reconciledAt` of each as it was when the stage began, which was after the witnesses said vault.
    pub since: &'a BTreeMap<ApplicationName, Option<String>>,
    /// Whether it was quiet long enough.
    pub quiet: Quiet,
}

/// What an Application still lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// An operation is under way that may hold what was rendered before.
    #[error("an operation is under way{}", started.as_ref().map(|at| format!(", begun at {at}")).unwrap_or_default())]
    Operation {
        /// When it began.
        started: Option<String>,
    },
    /// A refresh was asked for, and is not done.
    #[error("a refresh is not done yet")]
    Refreshing,
    /// It was not compared since.
    #[error("it was not refreshed since")]
    NotCompared,
    /// Argo CD compares these with what it rendered before.
    #[error("Argo CD still has the values of {}", names(rows))]
    Values {
        /// Which.
        rows: Vec<SecretName>,
    },
    /// It could not be compared.
    #[error("{message}")]
    Error {
        /// What may be told of it ([`Condition::told`]).
        message: String,
    },
}

/// An Application, and all that it lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// Which.
    pub name: ApplicationName,
    /// What.
    pub lacks: Vec<Lack>,
}

/// What is cached of an Application: by these revisions a person could bring it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// Which.
    pub name: ApplicationName,
    /// `spec.destination.namespace`.
    pub destination_namespace: Option<String>,
    /// Each at which it is known to have deployed or compared the root, by each source that reaches the root today.
    pub revisions: Vec<Revision>,
}

/// A revision of the root, as it can be rendered again today.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revision {
    /// Of an Application's one source.
    One(String),
    /// Of one among its sources.
    Of {
        /// Which, counted from 1.
        source: usize,
        /// Its revision; the others have theirs of today.
        revision: String,
    },
}

/// What is left behind, and named as long as the handover counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Affected, and skipped.
    pub skipped: Vec<ApplicationName>,
    /// Kustomizations of Flux, likewise.
    pub skipped_kustomizations: Vec<ObjectName>,
    /// What a person did without.
    pub without: BTreeSet<Without>,
    /// What Applications lacked in the end.
    pub lacking: Vec<Lacking>,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Have these compared again, all at once, and look again.
    Ask {
        /// Which.
        whom: Vec<ApplicationName>,
        /// All that is waited for.
        lacking: Vec<Lacking>,
    },
    /// Nothing is to be asked, only waited for.
    Wait(Vec<Lacking>),
    /// Wait until it was quiet long enough.
    Quiet,
    /// Remove or overwrite what is cached of these.
    Disarm(Vec<Cached>),
    /// A value came back after the caches were disarmed: once more from the beginning.
    Again(Vec<Lacking>),
    /// It is settled: note it, and what is left behind.
    Note(Left),
}

/// Conditions under which Argo CD did not compare; what failed in a sync is none.
pub const NOT_COMPARED: [&str; 3] = ["ComparisonError", "InvalidSpecError", "UnknownError"];

/// Decides what comes next.
pub fn next(facts: &Facts<'_>) -> Next {
    let affected = affected(facts.applications, &facts.scope);
    let (skipped, asked): (Vec<_>, Vec<_>) =
        affected.into_iter().partition(|application| facts.decided.skipped.contains(&application.name));
    let all =
        asked.iter().map(|application| Lacking { name: application.name.clone(), lacks: lacks(facts, application) });
    let all: Vec<Lacking> = all.filter(|lacking| !lacking.lacks.is_empty()).collect();
    let needed = |lack: &Lack| !facts.decided.without.contains(&lack.proof());
    let lacking = all.iter().map(|Lacking { name, lacks }| Lacking {
        name: name.clone(),
        lacks: lacks.iter().filter(|lack| needed(lack)).cloned().collect(),
    });
    let lacking: Vec<Lacking> = lacking.filter(|lacking| !lacking.lacks.is_empty()).collect();
    let came_back = lacking.iter().any(|lacking| lacking.lacks.iter().any(Lack::is_value));
    let asked_for = lacking.iter().filter(|lacking| lacking.lacks.iter().any(Lack::is_asked_for));
    let whom: Vec<ApplicationName> = asked_for.map(|lacking| lacking.name.clone()).collect();
    let disarms = !facts.decided.without.contains(&Without::Caches);
    match (facts.stage, facts.quiet) {
        (Stage::Disarmed, Quiet::NotYet | Quiet::Over) if came_back => Next::Again(lacking),
        (Stage::Mirrored | Stage::Disarmed, Quiet::NotYet | Quiet::Over) if !whom.is_empty() => {
            Next::Ask { whom, lacking }
        }
        (Stage::Mirrored | Stage::Disarmed, Quiet::NotYet | Quiet::Over) if !lacking.is_empty() => Next::Wait(lacking),
        (Stage::Mirrored, Quiet::NotYet) => Next::Quiet,
        (Stage::Mirrored, Quiet::Over) if disarms => {
            Next::Disarm(asked.into_iter().map(|application| Cached::of(application, &facts.scope)).collect())
        }
        (Stage::Mirrored, Quiet::Over) | (Stage::Disarmed, Quiet::NotYet | Quiet::Over) => Next::Note(Left {
            skipped: skipped.into_iter().map(|application| application.name.clone()).collect(),
            skipped_kustomizations: Vec::new(),
            without: facts.decided.without.clone(),
            lacking: all,
        }),
    }
}

/// Every Application that has the plugin render something of the root, or had it: those are what a rollback brings back.
pub fn affected<'a>(applications: &'a [Application], scope: &Scope<'_>) -> Vec<&'a Application> {
    let reaches = |sources: &[Source]| sources.iter().any(|source| scope.reaches(source));
    let is_affected = |application: &&Application| {
        reaches(&application.sources) || application.deployed.iter().any(|deployed| reaches(&deployed.sources))
    };
    applications.iter().filter(is_affected).collect()
}

/// Those that have the plugin render something of the root now, whatever they deployed before.
pub fn rendering<'a>(applications: &'a [Application], scope: &Scope<'_>) -> Vec<&'a Application> {
    let renders = |application: &&Application| application.sources.iter().any(|source| scope.reaches(source));
    applications.iter().filter(renders).collect()
}

/// The commits of the root that Argo CD holds in use, each with those that do: what it compares with, and what it synced
/// last.
pub fn in_use<'a>(
    applications: &[&'a Application],
    scope: &Scope<'_>,
) -> BTreeMap<&'a str, BTreeSet<&'a ApplicationName>> {
    let mut found: BTreeMap<&str, BTreeSet<&ApplicationName>> = BTreeMap::new();
    for application in applications {
        let compared = (&application.sources, &application.compared);
        let synced = application.synced.as_ref().map(|deployed| (&deployed.sources, &deployed.revisions));
        for (sources, revisions) in std::iter::once(compared).chain(synced) {
            for (source, revision) in sources.iter().zip(revisions) {
                // The name of a branch stands there where nothing could be rendered yet.
                if scope.reaches(source) && is_commit(revision) {
                    found.entry(revision).or_default().insert(&application.name);
                }
            }
        }
    }
    found
}

/// Whether this is the full id of a commit.
fn is_commit(revision: &str) -> bool {
    matches!(revision.len(), 40 | 64) && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Applications that name no such source and have listed Secrets all the same, by Argo CD's own tracking.
pub fn tracked_elsewhere<'a>(
    applications: &'a [Application],
    scope: &Scope<'_>,
) -> Vec<(&'a ApplicationName, Vec<SecretName>)> {
    let affected: BTreeSet<&ApplicationName> =
        affected(applications, scope).into_iter().map(|application| &application.name).collect();
    let others = applications.iter().filter(|application| !affected.contains(&application.name));
    let tracked = others.map(|application| (&application.name, scope.listed_rows(application, |_| true)));
    tracked.filter(|(_, rows)| !rows.is_empty()).collect()
}

/// What one Application lacks.
fn lacks(facts: &Facts<'_>, application: &Application) -> Vec<Lack> {
    let mut lacks = Vec::new();
    match &application.operation {
        // One that begins from now on finds what is looked at here.
        Operation::None | Operation::Requested => {}
        Operation::Running(started) if began_after(started.as_ref(), application.reconciled_at.as_ref()) => {}
        Operation::Running(started) => lacks.push(Lack::Operation { started: started.clone() }),
    }
    if application.is_refreshing {
        lacks.push(Lack::Refreshing);
    }
    let is_compared = application.reconciled_at.is_some()
        && facts.since.get(&application.name).is_none_or(|since| *since != application.reconciled_at);
    if !is_compared {
        lacks.push(Lack::NotCompared);
        return lacks;
    }
    let error = application.conditions.iter().find(|condition| NOT_COMPARED.contains(&condition.kind.as_str()));
    if let Some(error) = error {
        lacks.push(Lack::Error { message: error.told() });
        return lacks;
    }
    let rows = facts.scope.listed_rows(application, |row| row.has_status);
    if !rows.is_empty() {
        lacks.push(Lack::Values { rows });
    }
    lacks
}

/// Whether an operation certainly began after a comparison. Both are the same controller's clock, in seconds.
fn began_after(started: Option<&String>, compared: Option<&String>) -> bool {
    // As Argo CD writes them, times of one length are in the order of their text.
    let is_time = |text: &&String| text.len() == "2026-01-01T00:00:00Z".len() && text.ends_with('Z');
    match (started.filter(is_time), compared.filter(is_time)) {
        (Some(started), Some(compared)) => started > compared,
        (Some(_) | None, Some(_) | None) => false,
    }
}

impl Scope<'_> {
    /// Whether the plugin renders something of the root for a source.
    pub fn reaches(&self, source: &Source) -> bool {
        let asks = match &source.plugin {
            Plugin::None => false,
            Plugin::Any => true,
            // Argo CD takes the name as a path in its folder of sockets, so its last part counts.
            Plugin::Named(name) => name.rsplit('/').next() == Some(self.plugin),
        };
        asks && self.is_of_repository(source)
            && self.root.is_none_or(|root| {
                let (root, path) = (parts(root), parts(&source.path));
                root.iter().zip(&path).all(|(one, other)| one == other)
            })
    }

    /// Whether a source is of the root's repository.
    pub fn is_of_repository(&self, source: &Source) -> bool {
        let repository = Repository::new(&source.repo);
        self.repositories.is_empty() || self.repositories.iter().any(|ours| ours.is_same(&repository))
    }

    /// The listed documents among the rows of an Application.
    fn listed_rows(&self, application: &Application, wanted: fn(&Row) -> bool) -> Vec<SecretName> {
        let is_listed = |row: &&Row| {
            self.listed.iter().any(|document| {
                document.kind == row.kind
                    && document.name.name() == row.name
                    && document.name.namespace().as_str() == row.namespace
            })
        };
        let rows = application.rows.iter().filter(|row| wanted(row)).filter(is_listed);
        rows.filter_map(|row| SecretName::parse(&format!("{}/{}", row.namespace, row.name)).ok()).collect()
    }
}

impl Condition {
    /// What of it may be told: regent's own line, `regent[code]: ...`, which names no value. Argo CD's words may quote a
    /// whole object.
    pub fn told(&self) -> String {
        /// The longest line that regent gives Argo CD.
        const LONGEST: usize = 199;
        let is_code = |code: &str| {
            (1..=20).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let own = self.message.split_once("regent[").and_then(|(_, rest)| rest.split_once("]: "));
        match own.filter(|(code, _)| is_code(code)) {
            Some((code, sentence)) => {
                let line = format!("regent[{code}]: {sentence}");
                line.chars().take_while(|letter| !letter.is_control()).take(LONGEST).collect()
            }
            None => format!("{} (Argo CD shows it)", self.kind),
        }
    }
}

/// The folders of a path in a repository.
fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect()
}

impl Lack {
    /// The proof that is missing.
    pub fn proof(&self) -> Without {
        match self {
            Self::Operation { .. } => Without::Operations,
            Self::Refreshing | Self::NotCompared | Self::Values { .. } | Self::Error { .. } => Without::Outcome,
        }
    }

    fn is_value(&self) -> bool {
        match self {
            Self::Values { .. } => true,
            Self::Operation { .. } | Self::Refreshing | Self::NotCompared | Self::Error { .. } => false,
        }
    }

    /// Whether a refresh is what helps.
    fn is_asked_for(&self) -> bool {
        match self {
            Self::NotCompared | Self::Values { .. } | Self::Error { .. } => true,
            Self::Operation { .. } | Self::Refreshing => false,
        }
    }
}

impl Cached {
    /// What it deployed when its sources had another shape is cached under the same key, and a rollback brings it back, so
    /// every revision counts in the shape of today.
    fn of(application: &Application, scope: &Scope<'_>) -> Self {
        let own = &application.sources;
        let deployed = application.deployed.iter().map(|deployed| {
            // An operation that names none takes the Application's own.
            let sources = if deployed.sources.is_empty() { own } else { &deployed.sources };
            (sources, &deployed.revisions)
        });
        let known = deployed
            .chain([(own, &application.compared)])
            .flat_map(|(sources, revisions)| sources.iter().zip(revisions));
        let known: BTreeSet<&String> =
            known.filter(|(source, _)| scope.reaches(source)).map(|(_, revision)| revision).collect();
        let reaching = (1..).zip(own).filter(|(_, source)| scope.reaches(source));
        let revisions = reaching.flat_map(|(source, _)| {
            known.iter().map(move |&revision| match application.shape {
                Shape::One => Revision::One(revision.clone()),
                Shape::Each => Revision::Of { source, revision: revision.clone() },
            })
        });
        let namespace = &application.destination.namespace;
        Self {
            name: application.name.clone(),
            destination_namespace: (!namespace.is_empty()).then(|| namespace.clone()),
            revisions: revisions.collect(),
        }
    }
}

impl Left {
    /// Whether everything was seen.
    pub fn is_nothing(&self) -> bool {
        self.skipped.is_empty() && self.skipped_kustomizations.is_empty() && self.without.is_empty()
    }
}

impl Without {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Operations, Self::Outcome, Self::Caches];

    /// As a person types it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Operations => "operations",
            Self::Outcome => "outcome",
            Self::Caches => "caches",
        }
    }
}

impl fmt::Display for ApplicationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lacks: Vec<String> = self.lacks.iter().map(ToString::to_string).collect();
        write!(f, "{}: {}", self.name, lacks.join(", "))
    }
}

fn names(rows: &[SecretName]) -> String {
    rows.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
