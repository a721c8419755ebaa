//! What the model of phase 3 keeps: what etcd holds, Argo CD's cache and what it has under way, the runs of
//! `regent handover`, and what a property has to know of the past.
//!
//! There is one document, one Application that renders it and one handover. Of the repository there are four revisions; by
//! what of the handover they differ the [`Story`] says.

use crate::rules::{Decision, Rules};
use crate::world::{self as mirrored, Copy, Says};
use regent_core::authority::{self, Mode, Place};
use regent_core::bootstrap::Bootstrap;
use regent_core::evidence::{DocumentList, Evidence, Holder, ListedClass, ListedDocument, Reading};
use regent_core::handover::tree::EncryptedFile;
use regent_core::name::{FilePath, SecretName};
use regent_core::settle::{
    Application, ApplicationName, Condition, Deployed, Destination, Operation, Plugin, Row, Scope, Shape, Source,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Revision {
    /// Deployed before, and still in the Application's history.
    Older,
    /// The one that is handed over.
    Recorded,
    /// Committed while it was handed over.
    Slipped,
    /// Cached, and named by nothing that the Application says of itself: of another shape, or of an Application that was
    /// deleted.
    Forgotten,
}

impl Revision {
    pub(crate) const ALL: [Self; 4] = [Self::Older, Self::Recorded, Self::Slipped, Self::Forgotten];

    fn commit(self) -> String {
        (self as u8 + 1).to_string().repeat(40)
    }

    pub(crate) fn bit(self) -> u8 {
        1 << self as u8
    }

    pub(crate) fn of(commit: &str) -> Self {
        Self::ALL.into_iter().find(|revision| revision.commit() == commit).unwrap()
    }
}

/// Which document the Application renders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Story {
    /// One that is handed over. Every revision has another value of it, but for one that slipped in where nothing did.
    Handed,
    /// A new one, beside what is handed over: it came with the commit that slipped in.
    New,
    /// One that is handed over, in a cluster that took the handover over: it began with a value older than Vault's.
    Adopted,
}

impl Story {
    /// Whether a revision has the document.
    pub(crate) fn has(self, revision: Revision) -> bool {
        match (self, revision) {
            (Self::Handed | Self::Adopted, _) | (Self::New, Revision::Slipped | Revision::Forgotten) => true,
            (Self::New, Revision::Older | Revision::Recorded) => false,
        }
    }

    pub(crate) fn name(self) -> &'static SecretName {
        static NAMES: LazyLock<[SecretName; 2]> =
            LazyLock::new(|| ["app/db", "app/new"].map(|name| SecretName::parse(name).unwrap()));
        match self {
            Self::Handed | Self::Adopted => &NAMES[0],
            Self::New => &NAMES[1],
        }
    }

    /// The encrypted files of a revision, as far as they are told unopened.
    pub(crate) fn files(self, revision: Revision) -> Vec<EncryptedFile> {
        let file = |document: &ListedDocument, blob: &str| EncryptedFile {
            path: document.path.clone(),
            blob: blob.repeat(40),
            names: vec![document.name.clone()],
        };
        let db = &mirrored::outline().documents[0];
        match (self, revision) {
            (Self::New, Revision::Slipped | Revision::Forgotten) => vec![file(db, "1"), file(new(), "1")],
            (Self::New, Revision::Older | Revision::Recorded) | (Self::Handed | Self::Adopted, Revision::Recorded) => {
                vec![file(db, "1")]
            }
            (Self::Handed | Self::Adopted, Revision::Older) => vec![file(db, "2")],
            (Self::Handed | Self::Adopted, Revision::Slipped) => vec![file(db, "3")],
            (Self::Handed | Self::Adopted, Revision::Forgotten) => vec![file(db, "4")],
        }
    }
}

/// The document that came later, as it is imported.
pub(crate) fn new() -> &'static ListedDocument {
    static NEW: LazyLock<ListedDocument> = LazyLock::new(|| ListedDocument {
        path: FilePath::parse("new.yaml").unwrap(),
        name: Story::New.name().clone(),
        kind: "Secret".to_owned(),
        class: ListedClass::Handover,
        blob: "1".repeat(40),
    });
    &NEW
}

/// What the API server holds, and a backup of etcd with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Etcd {
    pub(crate) witnesses: Witnesses,
    pub(crate) settled: Option<Noted>,
    pub(crate) imported: bool,
    pub(crate) live: Live,
    pub(crate) app: App,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Witnesses {
    Git,
    /// The `ConfigMap` alone says vault.
    Half,
    Vault,
}

/// `Settled`, and how it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Noted {
    pub(crate) way: Way,
    /// The lock was in force when the caches were disarmed.
    pub(crate) locked: bool,
    /// What was imported was in the list at the last look.
    pub(crate) imported: bool,
    /// etcd was restored since.
    pub(crate) restored: bool,
}

/// What a run does about Argo CD's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Way {
    /// It unlinks what holds a value.
    Redis,
    /// It has argocd-server render what the Application names, and relies on the lock for the rest.
    Server,
    /// It relies on the lock.
    Lock,
    /// A person says that it need not be seen: `--settle-without caches`.
    Word,
}

/// The live Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Live {
    Absent,
    /// A value from Git.
    Git(Revision),
    /// Vault's own, and newer than any of Git.
    Vaults,
}

/// The Application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct App {
    pub(crate) target: Revision,
    /// The annotation.
    pub(crate) refresh: Option<Depth>,
    pub(crate) reconciled: Second,
    pub(crate) row: Shown,
    pub(crate) compared: Revision,
    pub(crate) synced: Revision,
    /// `status.history`, a bit for each revision.
    pub(crate) history: u8,
    pub(crate) operation: Option<Under>,
}

/// Moments, as the controller's clock writes them: only their order counts, see [`World::in_order`].
pub(crate) type Second = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Depth {
    Soft,
    Hard,
}

/// The document in `status.resources`, or why there is nothing to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shown {
    /// No row.
    Nothing,
    Stub,
    Value,
    /// The last comparison failed, and the row says `Unknown`.
    Failed,
    /// The last comparison failed, and there never was a row.
    FailedBare,
}

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Under {
    pub(crate) revision: Revision,
    pub(crate) started: Second,
    pub(crate) manifests: Manifests,
}

/// Manifests that the controller asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Manifests {
    /// The plugin has begun with values, when the witnesses said git.
    Working(Since),
    /// Values left it, and are not in the cache yet.
    Answered(Since),
    Have(Content),
}

/// Which runs began while this was under way already, a bit each.
pub(crate) type Since = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Content {
    Value,
    /// No value: a stub, or nothing of the document.
    Stub,
    Failed,
}

/// An entry of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    Empty,
    Value,
    Stub,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) story: Story,
    pub(crate) etcd: Etcd,
    pub(crate) backup: Option<Etcd>,
    pub(crate) record: Record,
    /// Whether the lock is in force.
    pub(crate) lock: bool,
    /// By revision.
    pub(crate) cache: [Entry; 4],
    /// A comparison that the controller has begun, with what it asked for at its beginning.
    pub(crate) comparing: Option<(Revision, Manifests)>,
    /// A rendering that somebody else asked for, past the cache.
    pub(crate) other: Option<(Revision, Manifests)>,
    pub(crate) runs: [Option<Run>; 2],
    /// The last step did this.
    pub(crate) happened: Option<Happened>,
}

/// How far the handover itself is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Record {
    No,
    /// The tree stood still right before.
    Frozen,
    Yes,
}

/// A run of `regent handover` that sees to it that nothing old comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Run {
    pub(crate) way: Way,
    pub(crate) disarmed: Option<Disarmed>,
    /// `reconciledAt` at the first look in the stage.
    pub(crate) since: Option<Second>,
    /// As long as a request may take is over.
    pub(crate) quiet: bool,
    /// What it decided, and has not done.
    pub(crate) next: Option<Act>,
    /// The `ConfigMap` of the handover is gone, or another one, since it began.
    pub(crate) orphaned: bool,
}

/// How it was when a run had disarmed the caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Disarmed {
    /// The lock was in force.
    pub(crate) locked: bool,
    /// What was imported was in the list.
    pub(crate) imported: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Act {
    /// With the revisions that it knows of, a bit each.
    Disarm(u8),
    /// With what it saw, and whether something was imported then.
    Note(Outcome, bool),
}

/// What a run saw of the Application right before it notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// No value, in a comparison that ended since the caches were disarmed, or since they were given up.
    Seen,
    NotSeen,
    /// A live value that Vault never got, of the revision that was synced last.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Happened {
    /// A run stopped for a person.
    Stopped,
    /// A value from Git was written over Vault's.
    Undone,
    /// It was noted, after that had been seen.
    Noted(Outcome),
    /// A rendering told Vault's operator where the copies are, and it was not settled.
    DeliveredEarly,
    /// It was recorded, and Argo CD applied something else.
    RecordedOther,
    /// A value was found after the caches were disarmed.
    CameBack,
    /// A refresh that was asked for was lost in one under way.
    Lost,
    /// Something was waited for.
    Waited,
    /// An operation was refused by the lock.
    Refused,
}

impl World {
    /// Everything is deployed, cached and live as Git has it, and nothing was handed over.
    pub(crate) fn new(story: Story, lock: bool) -> Self {
        let entry = |revision| if story.has(revision) { Entry::Value } else { Entry::Stub };
        let app = App {
            target: Revision::Recorded,
            refresh: None,
            reconciled: 0,
            row: if story.has(Revision::Recorded) { Shown::Value } else { Shown::Nothing },
            compared: Revision::Recorded,
            synced: Revision::Recorded,
            history: Revision::Older.bit() | Revision::Recorded.bit(),
            operation: None,
        };
        let live = if story.has(Revision::Recorded) { Live::Git(Revision::Recorded) } else { Live::Absent };
        Self {
            story,
            etcd: Etcd { witnesses: Witnesses::Git, settled: None, imported: false, live, app },
            backup: None,
            record: Record::No,
            lock,
            cache: [
                entry(Revision::Older),
                entry(Revision::Recorded),
                Entry::Empty,
                // What nothing names was deployed once, where there was something to be deployed.
                if story == Story::New { Entry::Empty } else { Entry::Value },
            ],
            comparing: None,
            other: None,
            runs: [None; 2],
            happened: None,
        }
    }

    /// What the witnesses and the status say, as the real functions find it.
    pub(crate) fn seen(&self) -> &'static Seen {
        let Etcd { witnesses, settled, imported, .. } = self.etcd;
        Seen::of(witnesses, settled.is_some(), imported)
    }

    pub(crate) fn settled(&self) -> Option<Noted> {
        self.etcd.settled.filter(|_| self.seen().evidence.is_settled())
    }

    pub(crate) fn entry(&mut self, revision: Revision) -> &mut Entry {
        &mut self.cache[revision as usize]
    }

    /// Whether a value could still reach the live Secret by what Argo CD holds, if nothing refused it.
    pub(crate) fn holds_a_value(&self) -> bool {
        let operation = self.etcd.app.operation.map(|operation| operation.manifests);
        let comparing = self.comparing.map(|(_, manifests)| manifests);
        let other = self.other.map(|(_, manifests)| manifests);
        let is_value = |manifests: &Manifests| match manifests {
            Manifests::Answered(_) | Manifests::Have(Content::Value) => true,
            // By its second reading it becomes a stub.
            Manifests::Working(_) | Manifests::Have(Content::Stub | Content::Failed) => false,
        };
        // What a comparison took from the cache goes nowhere.
        let is_written = |manifests: &Manifests| matches!(manifests, Manifests::Answered(_));
        self.cache.contains(&Entry::Value)
            || operation.iter().any(is_value)
            || comparing.iter().chain(&other).any(is_written)
    }

    /// The moment now: later than all before, or in the same second as the last.
    pub(crate) fn now(&self, is_later: bool) -> Second {
        let last = self.seconds().into_iter().flatten().max();
        last.map_or(0, |last| last + u8::from(is_later))
    }

    fn seconds(&self) -> [Option<Second>; 6] {
        let of = |etcd: &Etcd| [Some(etcd.app.reconciled), etcd.app.operation.map(|operation| operation.started)];
        let [reconciled, started] = of(&self.etcd);
        let [restored, restarted] = self.backup.as_ref().map_or([None; 2], of);
        let [one, other] = self.runs.map(|run| run?.since);
        [reconciled, started, restored, restarted, one, other]
    }

    /// Of moments only the order counts, and runs are alike: worlds that differ in no more are one.
    pub(crate) fn in_order(mut self) -> Self {
        let seconds: BTreeSet<Second> = self.seconds().into_iter().flatten().collect();
        let rank = |second: &mut Second| {
            *second = u8::try_from(seconds.range(..*second).count()).unwrap();
        };
        for etcd in std::iter::once(&mut self.etcd).chain(&mut self.backup) {
            rank(&mut etcd.app.reconciled);
            etcd.app.operation.iter_mut().for_each(|operation| rank(&mut operation.started));
        }
        self.runs.iter_mut().flatten().filter_map(|run| run.since.as_mut()).for_each(rank);
        self
    }
}

/// What the real functions make of one state of witnesses and status.
pub(crate) struct Seen {
    pub(crate) evidence: Evidence,
    pub(crate) holder: Holder,
    /// What a front door answers for the document: values, or nothing of a value; `None` for an error.
    pub(crate) content: Content,
    /// ... where the document came later.
    pub(crate) content_of_new: Content,
    /// It tells Vault's operator where the copies are.
    pub(crate) delivers: bool,
    /// What `regent verify` and a handover do about the witnesses.
    pub(crate) decision: Option<Decision>,
}

impl Seen {
    pub(crate) fn of(witnesses: Witnesses, settled: bool, imported: bool) -> &'static Self {
        static SEEN: LazyLock<Vec<Seen>> = LazyLock::new(|| {
            let both = [false, true];
            let all = [Witnesses::Git, Witnesses::Half, Witnesses::Vault].into_iter();
            let all = all.flat_map(|witnesses| both.map(|settled| (witnesses, settled)));
            let all = all.flat_map(|(witnesses, settled)| both.map(|imported| (witnesses, settled, imported)));
            all.map(|(witnesses, settled, imported)| Seen::new(witnesses, settled, imported)).collect()
        });
        &SEEN[4 * witnesses as usize + 2 * usize::from(settled) + usize::from(imported)]
    }

    fn new(witnesses: Witnesses, settled: bool, imported: bool) -> Self {
        let (authority, handover) = match witnesses {
            Witnesses::Git => (Says::Git { epoch: 1, line: 0 }, None),
            Witnesses::Half => (Says::Git { epoch: 1, line: 0 }, Some(0)),
            Witnesses::Vault => (Says::Vault { epoch: 1, line: 0 }, Some(0)),
        };
        let cluster =
            mirrored::Cluster { authority: Some(authority), handovers: [handover, None, None], ..<_>::default() };
        let mut evidence = cluster.evidence();
        let (witness, _) = mirrored::marked(1, 0).witnesses();
        evidence.authority = Reading::Present(mirrored::recorded_authority(authority).clone());
        if handover.is_some() {
            evidence.handovers.insert(mirrored::epoch(1), Reading::Present(witness));
        }
        let evidence = evidence.with_status(Some(status(settled, imported).as_bytes()));
        let holder = evidence.holder();
        let text = b"apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\nepoch: 1\n";
        let bootstrap = Bootstrap::parse(&FilePath::parse("regent.yaml").unwrap(), text).unwrap();
        let ruling = authority::rule(&bootstrap, &Place::default(), &holder, evidence.documents_of(&holder)).unwrap();
        let content = |name: &SecretName| match ruling.mode() {
            Mode::Values => Content::Value,
            Mode::Stubs(DocumentList::Readable(list)) if list.iter().any(|listed| listed.name == *name) => {
                Content::Stub
            }
            // A document that is not in the list.
            Mode::Stubs(DocumentList::Readable(_) | DocumentList::Unreadable) | Mode::Unasked => Content::Failed,
        };
        let mut recorded = mirrored::World::new(cluster, 0, 0);
        recorded.vault = mirrored::Vault { records: [Some(0), None, None], copy: Copy::FromGit };
        Self {
            content: content(Story::Handed.name()),
            content_of_new: content(Story::New.name()),
            delivers: ruling.clone().settled_by(&evidence) != ruling,
            decision: Rules::without(None).decide(&recorded, None),
            evidence,
            holder,
        }
    }
}

/// The Authority's status.
fn status(settled: bool, imported: bool) -> String {
    let settled =
        settled.then(|| format!(r#""settled": {{"epoch": 1, "handoverId": "{}"}}"#, mirrored::handover_id(1, 0)));
    let imported = imported.then(|| {
        let ListedDocument { path, name, kind, blob, .. } = new();
        format!(
            r#""imported": {{"1-1": {{"path": "{path}", "name": "{name}", "kind": "{kind}", "class": "handover", "blob": "{blob}"}}}}"#
        )
    });
    let fields: Vec<String> = settled.into_iter().chain(imported).collect();
    format!("{{{}}}", fields.join(", "))
}

pub(crate) fn application_name() -> ApplicationName {
    ApplicationName { namespace: "argocd".to_owned(), name: "app".to_owned() }
}

/// What is looked for, with the documents that count as listed.
pub(crate) fn scope(listed: &[ListedDocument]) -> Scope<'_> {
    Scope { plugin: "regent-v1", repositories: &[], root: Some("prod"), listed }
}

/// The one place where a model's Application becomes a real one.
pub(crate) fn application(story: Story, app: &App) -> Application {
    let source = || Source {
        repo: "https://git.example/infra".to_owned(),
        path: "prod".to_owned(),
        target_revision: "main".to_owned(),
        plugin: Plugin::Named("regent-v1".to_owned()),
    };
    let deployed = |revision: Revision| Deployed { sources: vec![source()], revisions: vec![revision.commit()] };
    let row = |has_status| Row {
        kind: "Secret".to_owned(),
        namespace: story.name().namespace().as_str().to_owned(),
        name: story.name().name().to_owned(),
        has_status,
    };
    let failed = || Condition { kind: "ComparisonError".to_owned(), message: "no".to_owned() };
    Application {
        name: application_name(),
        destination: Destination::default(),
        shape: Shape::One,
        sources: vec![source()],
        deployed: Revision::ALL
            .into_iter()
            .filter(|revision| app.history & revision.bit() != 0)
            .chain(app.operation.map(|operation| operation.revision))
            .map(deployed)
            .collect(),
        synced: Some(deployed(app.synced)),
        compared: vec![app.compared.commit()],
        operation: app
            .operation
            .map_or(Operation::None, |operation| Operation::Running(Some(second(operation.started)))),
        is_refreshing: app.refresh.is_some(),
        reconciled_at: Some(second(app.reconciled)),
        rows: match app.row {
            Shown::Nothing | Shown::FailedBare => Vec::new(),
            Shown::Stub => vec![row(false)],
            Shown::Value | Shown::Failed => vec![row(true)],
        },
        conditions: match app.row {
            Shown::Failed | Shown::FailedBare => vec![failed()],
            Shown::Nothing | Shown::Stub | Shown::Value => Vec::new(),
        },
    }
}

pub(crate) fn since(of: Second) -> BTreeMap<ApplicationName, Option<String>> {
    BTreeMap::from([(application_name(), Some(second(of)))])
}

fn second(of: Second) -> String {
    format!("2026-01-01T00:00:{of:02}Z")
}
