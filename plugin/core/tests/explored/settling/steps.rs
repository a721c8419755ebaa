//! What can happen in phase 3, one step at a time, and the order that the command keeps.

use super::world::{
    Act, Content, Depth, Disarmed, Entry, Happened, Live, Manifests, Noted, Outcome, Record, Revision, Run, Second,
    Shown, Since, Story, Under, Way, Witnesses, World, application, new, scope, since,
};
use crate::rules::Decision;
use crate::world as mirrored;
use regent_core::authority::{self, Recheck};
use regent_core::evidence::{Holder, ListedDocument, Mirror};
use regent_core::handover::tree::slipped_in;
use regent_core::settle::{self, Application, Decided, Facts, Lack, Next, Operation, Quiet, Stage, Without};
use regent_core::verify::{Live as Compared, not_replaced};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A commit slips in: the Application's branch moves on.
    Commit,
    /// ... and it is taken back.
    Revert,
    /// The handover looks whether the tree stood still, right before the record.
    Freeze,
    /// It writes the record.
    Record,
    /// A handover or `verify` writes the next witness.
    Mirror,
    /// The new document is imported: it is in Vault, and in the list.
    Import,
    /// A run begins to see to it that nothing old comes back.
    Begin(usize, Way),
    /// It looks at the Application, and decides. A refresh is asked for at once.
    Look(usize),
    /// It does what it decided.
    Act(usize),
    /// The longest request that was under way when it began is over.
    Quiet(usize),
    /// It dies.
    Crash(usize),
    /// The controller begins to compare: by itself, or because a refresh is asked for. It asks for manifests.
    Compare,
    /// An operation begins, in a later second than all before or in the same as the last: a sync, which heals itself or is
    /// asked for, or a rollback.
    Sync(Revision, IsLater),
    /// Somebody else asks for manifests, past the cache: a second replica, or a person through argocd-server.
    Render(Revision),
    /// The plugin reads the witnesses again, and answers.
    Answer(Who),
    /// It fails.
    Fail(Who),
    /// What was asked for is there: the cache has it, and whoever asked.
    Arrive(Who),
    /// The comparison ends.
    Compared(IsLater),
    /// The operation applies what it has, and ends.
    Apply,
    /// Vault's operator, or a person, writes Vault's value.
    Rotate,
    /// A person removes the lock.
    Unlock,
    Backup,
    /// etcd is restored: the API server, and with it the controllers, begin again; Redis and the plugin go on.
    Restore,
}

type IsLater = bool;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Comparison,
    Operation,
    Other,
}

/// A rule of phase 3 that is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// What is cached is rendered anew before anything is judged by it.
    Hard,
    /// What began before the witnesses said vault is waited for.
    Quiet,
    /// ... before the caches are disarmed, not after.
    QuietBeforeDisarm,
    /// After the caches were disarmed everything is seen once more.
    SecondOutcome,
    /// Only a comparison that ended since the stage began counts.
    ComparedSince,
    /// A row with a status is a value.
    Rows,
    /// A comparison that failed is none.
    Errors,
    /// Operations that began before are waited for.
    Operations,
    /// ... also those of which that is not certain.
    SameSecond,
    /// Redis is searched for entries that nothing names.
    EveryEntry,
    /// What was imported is looked for like what was handed over.
    ImportedCounts,
    /// ... and was in the list when the caches were disarmed.
    SameList,
    /// argocd-server is enough only with the lock in force.
    ServerNeedsLock,
    /// Without Redis and argocd-server there must be the lock.
    NothingNeedsLock,
    /// The tree stood still right before the record.
    FrozenForRecord,
    /// ... and right before it is settled.
    FrozenForSettled,
    /// A cluster that took a handover over has Vault's values right before it is noted.
    ReplacedAtLast,
    /// It is noted only beside the very witness that the run began with.
    SameWitness,
    /// Vault's operator is told where the copies are only once it is settled.
    DeliveredOnceSettled,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) removed: Option<Rule>,
}

impl Rules {
    pub(crate) fn stands(self, rule: Rule) -> bool {
        self.removed != Some(rule)
    }
}

pub(crate) const RUNS: usize = 2;

pub(crate) fn all_steps(steps: &mut Vec<Step>) {
    steps.extend([Step::Commit, Step::Revert, Step::Freeze, Step::Record, Step::Mirror, Step::Import]);
    for run in 0..RUNS {
        steps.extend([Way::Redis, Way::Server, Way::Lock, Way::Word].map(|way| Step::Begin(run, way)));
        steps.extend([Step::Look(run), Step::Act(run), Step::Quiet(run), Step::Crash(run)]);
    }
    steps.push(Step::Compare);
    for revision in Revision::ALL {
        steps.extend([Step::Sync(revision, true), Step::Sync(revision, false), Step::Render(revision)]);
    }
    for who in [Who::Comparison, Who::Operation, Who::Other] {
        steps.extend([Step::Answer(who), Step::Fail(who), Step::Arrive(who)]);
    }
    steps.extend([Step::Compared(true), Step::Compared(false), Step::Apply]);
    steps.extend([Step::Rotate, Step::Unlock, Step::Backup, Step::Restore]);
}

pub(crate) fn next(rules: Rules, last: &World, step: Step) -> Option<World> {
    let mut world = World { happened: None, ..*last };
    match step {
        Step::Commit => world.etcd.app.target = Revision::Slipped,
        Step::Revert => world.etcd.app.target = Revision::Recorded,
        Step::Freeze => freeze(rules, &mut world)?,
        Step::Record => record(&mut world)?,
        Step::Mirror => mirror(&mut world)?,
        Step::Import => {
            if world.story != Story::New || world.etcd.witnesses != Witnesses::Vault {
                return None;
            }
            world.etcd.imported = true;
        }
        Step::Begin(run, way) => begin(rules, &mut world, run, way)?,
        Step::Look(run) => look(rules, &mut world, run)?,
        Step::Act(run) => act(rules, &mut world, run)?,
        Step::Quiet(run) => {
            if under_way(&world).any(|since| since & bit(run) != 0) {
                return None;
            }
            world.runs[run].as_mut()?.quiet = true;
        }
        Step::Crash(run) => end(&mut world, run),
        Step::Compare => {
            if world.comparing.is_some() {
                return None;
            }
            let revision = world.etcd.app.target;
            let past = world.etcd.app.refresh == Some(Depth::Hard);
            world.comparing = Some((revision, ask(rules, &mut world, revision, past)));
        }
        Step::Sync(revision, is_later) => {
            if world.etcd.app.operation.is_some() {
                return None;
            }
            let (started, manifests) = (world.now(is_later), ask(rules, &mut world, revision, false));
            world.etcd.app.operation = Some(Under { revision, started, manifests });
        }
        Step::Render(revision) => {
            if world.other.is_some() {
                return None;
            }
            let manifests = ask(rules, &mut world, revision, true);
            world.other = match manifests {
                Manifests::Working(_) | Manifests::Answered(_) => Some((revision, manifests)),
                Manifests::Have(_) => None,
            };
        }
        Step::Answer(who) => answer(rules, &mut world, who)?,
        Step::Fail(who) => {
            let (_, manifests) = asked(&mut world, who)?;
            let (Manifests::Working(_) | Manifests::Answered(_)) = manifests else { return None };
            *manifests = Manifests::Have(Content::Failed);
        }
        Step::Arrive(who) => {
            let (revision, manifests) = asked(&mut world, who)?;
            let Manifests::Answered(_) = manifests else { return None };
            *manifests = Manifests::Have(Content::Value);
            *world.entry(revision) = Entry::Value;
        }
        Step::Compared(is_later) => compared(&mut world, is_later)?,
        Step::Apply => apply(&mut world)?,
        Step::Rotate => {
            if world.etcd.witnesses == Witnesses::Git || world.etcd.live == Live::Absent {
                return None;
            }
            world.etcd.live = Live::Vaults;
        }
        Step::Unlock => world.lock = false,
        Step::Backup => world.backup = Some(world.etcd),
        Step::Restore => restore(&mut world)?,
    }
    // Whoever asked past the cache is done.
    world.other = world.other.filter(|(_, manifests)| !matches!(manifests, Manifests::Have(_)));
    let world = world.in_order();
    (world != *last).then_some(world)
}

fn bit(run: usize) -> Since {
    1 << run
}

/// What whoever asks waits for.
fn asked(world: &mut World, who: Who) -> Option<(Revision, &mut Manifests)> {
    match who {
        Who::Comparison => world.comparing.as_mut().map(|(revision, manifests)| (*revision, manifests)),
        Who::Operation => {
            world.etcd.app.operation.as_mut().map(|operation| (operation.revision, &mut operation.manifests))
        }
        Who::Other => world.other.as_mut().map(|(revision, manifests)| (*revision, manifests)),
    }
}

/// Everything that the plugin is asked for.
fn under_way(world: &World) -> impl Iterator<Item = Since> {
    let operation = world.etcd.app.operation.map(|operation| operation.manifests);
    let [comparing, other] = [world.comparing, world.other].map(|asked| asked.map(|(_, manifests)| manifests));
    [operation, comparing, other].into_iter().flatten().filter_map(|manifests| match manifests {
        Manifests::Working(since) | Manifests::Answered(since) => Some(since),
        Manifests::Have(_) => None,
    })
}

/// The repo-server takes manifests from the cache, or asks the plugin, which reads the witnesses first.
fn ask(rules: Rules, world: &mut World, revision: Revision, past: bool) -> Manifests {
    match *world.entry(revision) {
        Entry::Value if !past => return Manifests::Have(Content::Value),
        Entry::Stub if !past => return Manifests::Have(Content::Stub),
        Entry::Empty | Entry::Value | Entry::Stub => {}
    }
    match rendered(rules, world, revision) {
        Content::Value => Manifests::Working(0),
        Content::Stub => {
            *world.entry(revision) = Entry::Stub;
            Manifests::Have(Content::Stub)
        }
        // What was cached stays.
        Content::Failed => Manifests::Have(Content::Failed),
    }
}

/// What the plugin answers at this moment.
fn rendered(rules: Rules, world: &mut World, revision: Revision) -> Content {
    let seen = world.seen();
    if !world.story.has(revision) {
        return Content::Stub;
    }
    let delivers = if rules.stands(Rule::DeliveredOnceSettled) {
        seen.delivers
    } else {
        matches!(seen.holder, Holder::Vault { .. })
    };
    if delivers && world.settled().is_none() {
        world.happened = Some(Happened::DeliveredEarly);
    }
    match world.story {
        Story::Handed | Story::Adopted => seen.content,
        Story::New => seen.content_of_new,
    }
}

/// The plugin worked with values: by the witnesses that it reads now they leave or not.
fn answer(rules: Rules, world: &mut World, who: Who) -> Option<()> {
    let (revision, manifests) = asked(world, who)?;
    let Manifests::Working(since) = *manifests else { return None };
    let git = &super::world::Seen::of(Witnesses::Git, false, false).holder;
    let answer = match authority::recheck(git, &world.seen().holder) {
        Ok(Recheck::Same) => Manifests::Answered(since),
        Ok(Recheck::NowStubs) => {
            let content = rendered(rules, world, revision);
            if content == Content::Stub {
                *world.entry(revision) = Entry::Stub;
            }
            Manifests::Have(content)
        }
        Err(_) => Manifests::Have(Content::Failed),
    };
    *asked(world, who)?.1 = answer;
    Some(())
}

/// A comparison ends: whatever refresh was asked for meanwhile is done with it.
fn compared(world: &mut World, is_later: bool) -> Option<()> {
    let (revision, Manifests::Have(content)) = world.comparing? else { return None };
    let now = world.now(is_later);
    let has = world.story.has(revision);
    let app = &mut world.etcd.app;
    let is_lost = app.refresh == Some(Depth::Hard) && content == Content::Value;
    (app.reconciled, app.compared, app.refresh) = (now, revision, None);
    app.row = match content {
        Content::Failed => match app.row {
            Shown::Nothing | Shown::FailedBare => Shown::FailedBare,
            Shown::Stub | Shown::Value | Shown::Failed => Shown::Failed,
        },
        Content::Value => Shown::Value,
        Content::Stub if has => Shown::Stub,
        Content::Stub => Shown::Nothing,
    };
    world.comparing = None;
    if is_lost {
        world.happened = Some(Happened::Lost);
    }
    Some(())
}

fn apply(world: &mut World) -> Option<()> {
    let operation = world.etcd.app.operation?;
    let Manifests::Have(content) = operation.manifests else { return None };
    world.etcd.app.operation = None;
    match content {
        Content::Failed => return Some(()),
        Content::Stub => {}
        Content::Value if world.lock && world.etcd.witnesses == Witnesses::Vault => {
            world.happened = Some(Happened::Refused);
            return Some(());
        }
        Content::Value => {
            if world.etcd.live == Live::Vaults {
                world.happened = Some(Happened::Undone);
            }
            world.etcd.live = Live::Git(operation.revision);
        }
    }
    world.etcd.app.synced = operation.revision;
    world.etcd.app.history |= operation.revision.bit();
    Some(())
}

/// Whether every commit that the Application holds in use has the files that are handed over, or were imported since.
fn stands_still(world: &World, application: &Application) -> bool {
    let handed = &mirrored::outline().documents;
    let imported: &[ListedDocument] = if world.etcd.imported { std::slice::from_ref(new()) } else { &[] };
    let used = settle::in_use(&[application], &scope(handed));
    used.keys().all(|commit| slipped_in(handed, imported, &world.story.files(Revision::of(commit)), &[]).is_empty())
}

fn freeze(rules: Rules, world: &mut World) -> Option<()> {
    let application = application(world.story, &world.etcd.app);
    if world.record != Record::No || !stands_still(world, &application) && rules.stands(Rule::FrozenForRecord) {
        return None;
    }
    if is_other(world) {
        world.happened = Some(Happened::RecordedOther);
    }
    world.record = Record::Frozen;
    Some(())
}

/// Whether a value is live that Vault never got, and the revision that brought it is the one that was synced last.
pub(super) fn is_other(world: &World) -> bool {
    match world.etcd.live {
        Live::Absent | Live::Vaults => false,
        Live::Git(revision) => is_unknown(world, revision) && world.etcd.app.synced == revision,
    }
}

/// Whether Vault never got a revision's value.
pub(super) fn is_unknown(world: &World, revision: Revision) -> bool {
    match (world.story, revision) {
        (Story::Handed, Revision::Recorded) => false,
        (Story::Handed, Revision::Older | Revision::Slipped | Revision::Forgotten) | (Story::Adopted, _) => true,
        (Story::New, _) => !world.etcd.imported,
    }
}

fn record(world: &mut World) -> Option<()> {
    if world.record != Record::Frozen {
        return None;
    }
    world.record = Record::Yes;
    Some(())
}

/// The real decision, of a run that has the record and the witnesses alone.
fn mirror(world: &mut World) -> Option<()> {
    if world.record != Record::Yes {
        return None;
    }
    let Decision::Mirror { .. } = world.seen().decision? else { return None };
    world.etcd.witnesses = match world.etcd.witnesses {
        Witnesses::Git => Witnesses::Half,
        Witnesses::Half | Witnesses::Vault => Witnesses::Vault,
    };
    Some(())
}

/// Only once both witnesses say vault, and where it is not settled. What a run without Redis has to have for the caches is
/// asked for before anything is waited for.
fn begin(rules: Rules, world: &mut World, run: usize, way: Way) -> Option<()> {
    let Holder::Vault { mirror: Mirror::Complete, .. } = world.seen().holder else { return None };
    if world.runs[run].is_some() || world.settled().is_some() || !may_disarm(rules, world, way) {
        return None;
    }
    if world.story == Story::Adopted && !is_replaced(world) {
        return None;
    }
    // All that is under way now began before.
    let mark = |manifests: &mut Manifests| match manifests {
        Manifests::Working(since) | Manifests::Answered(since) => *since |= bit(run),
        Manifests::Have(_) => {}
    };
    world.comparing.iter_mut().chain(&mut world.other).for_each(|(_, manifests)| mark(manifests));
    world.etcd.app.operation.iter_mut().for_each(|operation| mark(&mut operation.manifests));
    world.runs[run] = Some(Run { way, disarmed: None, since: None, quiet: false, next: None, orphaned: false });
    Some(())
}

fn is_replaced(world: &World) -> bool {
    let live = match world.etcd.live {
        Live::Absent => Compared::Absent,
        Live::Vaults => Compared::Compared(BTreeSet::new()),
        Live::Git(_) => Compared::Compared(BTreeSet::from(["password".to_owned()])),
    };
    not_replaced(&BTreeMap::from([(world.story.name().clone(), live)])).is_empty()
}

fn may_disarm(rules: Rules, world: &World, way: Way) -> bool {
    match way {
        Way::Redis | Way::Word => true,
        Way::Server => world.lock || !rules.stands(Rule::ServerNeedsLock),
        Way::Lock => world.lock || !rules.stands(Rule::NothingNeedsLock),
    }
}

/// A run is over, and what it waited for concerns nobody.
fn end(world: &mut World, run: usize) {
    world.runs[run] = None;
    let forget = |manifests: &mut Manifests| match manifests {
        Manifests::Working(since) | Manifests::Answered(since) => *since &= !bit(run),
        Manifests::Have(_) => {}
    };
    world.comparing.iter_mut().chain(&mut world.other).for_each(|(_, manifests)| forget(manifests));
    world.etcd.app.operation.iter_mut().for_each(|operation| forget(&mut operation.manifests));
}

/// A run looks at the Application, and the real function decides, of what the rules leave of it.
fn look(rules: Rules, world: &mut World, at: usize) -> Option<()> {
    let mut run = world.runs[at].filter(|run| run.next.is_none())?;
    let real = application(world.story, &world.etcd.app);
    let mut shown = real.clone();
    if !rules.stands(Rule::Operations) {
        shown.operation = Operation::None;
    }
    if !rules.stands(Rule::Rows) {
        shown.rows.clear();
    }
    if !rules.stands(Rule::Errors) {
        shown.conditions.clear();
    }
    if !rules.stands(Rule::SameSecond)
        && let Operation::Running(started) = &mut shown.operation
        && *started == shown.reconciled_at
    {
        *started = Some(format!("2026-01-01T00:{}:00Z", 59));
    }
    let handed = &mirrored::outline().documents;
    let mut listed = handed.clone();
    if world.etcd.imported && rules.stands(Rule::ImportedCounts) {
        listed.push(new().clone());
    }
    let at_first: Second = *run.since.get_or_insert(world.etcd.app.reconciled);
    let since = if rules.stands(Rule::ComparedSince) { since(at_first) } else { BTreeMap::new() };
    let without = if run.way == Way::Word { BTreeSet::from([Without::Caches]) } else { BTreeSet::new() };
    let stage = if run.disarmed.is_some() { Stage::Disarmed } else { Stage::Mirrored };
    let is_quiet =
        run.quiet || !rules.stands(Rule::Quiet) || !rules.stands(Rule::QuietBeforeDisarm) && run.disarmed.is_none();
    let applications = [shown];
    let decided = Decided { without, ..Decided::default() };
    let next = settle::next(&Facts {
        applications: &applications,
        scope: scope(&listed),
        decided: &decided,
        stage,
        since: &since,
        quiet: if is_quiet { Quiet::Over } else { Quiet::NotYet },
    });
    let is_waiting = run.disarmed.is_some() && !run.quiet && !rules.stands(Rule::QuietBeforeDisarm);
    match next {
        Next::Ask { lacking, .. } => {
            let failed = lacking.iter().flat_map(|it| &it.lacks).any(|it| matches!(it, Lack::Error { .. }));
            let is_soft = run.disarmed.is_some() && !failed || !rules.stands(Rule::Hard);
            let depth = if is_soft { Depth::Soft } else { Depth::Hard };
            // One that is asked for already is waited for.
            world.etcd.app.refresh = world.etcd.app.refresh.or(Some(depth));
        }
        Next::Wait(_) => world.happened = Some(Happened::Waited),
        Next::Quiet => {}
        Next::Again(_) => {
            world.happened = Some(Happened::CameBack);
            (run.disarmed, run.since) = (None, None);
        }
        Next::Disarm(cached) => {
            let known = cached.iter().flat_map(|cached| &cached.revisions).map(|revision| match revision {
                settle::Revision::One(commit) | settle::Revision::Of { revision: commit, .. } => commit,
            });
            run.next = Some(Act::Disarm(known.map(|commit| Revision::of(commit).bit()).fold(0, |all, one| all | one)));
        }
        Next::Note(_) if is_waiting => {}
        // What was imported since is not disarmed.
        Next::Note(_)
            if rules.stands(Rule::SameList)
                && run.disarmed.is_some_and(|disarmed| disarmed.imported != world.etcd.imported) =>
        {
            (run.disarmed, run.since) = (None, None);
        }
        Next::Note(_) => {
            if !stands_still(world, &real) && rules.stands(Rule::FrozenForSettled) {
                end(world, at);
                world.happened = Some(Happened::Stopped);
                return Some(());
            }
            run.next = Some(Act::Note(outcome(world, at_first), world.etcd.imported));
        }
    }
    world.runs[at] = Some(run);
    Some(())
}

/// By the words of the issue: no error, no row with a status, and `reconciledAt` another than when the stage began.
fn outcome(world: &World, at_first: Second) -> Outcome {
    let app = &world.etcd.app;
    let is_compared = app.reconciled != at_first;
    match app.row {
        Shown::Nothing | Shown::Stub if is_other(world) && world.story != Story::Adopted => Outcome::Other,
        Shown::Nothing | Shown::Stub if is_compared => Outcome::Seen,
        Shown::Nothing | Shown::Stub | Shown::Value | Shown::Failed | Shown::FailedBare => Outcome::NotSeen,
    }
}

fn act(rules: Rules, world: &mut World, at: usize) -> Option<()> {
    let run = world.runs[at].as_mut()?;
    match run.next.take()? {
        Act::Disarm(known) => {
            let way = run.way;
            let disarmed = Disarmed { locked: world.lock, imported: world.etcd.imported };
            (run.disarmed, run.since) = (Some(disarmed), None);
            if !rules.stands(Rule::SecondOutcome) {
                run.next = Some(Act::Note(Outcome::NotSeen, world.etcd.imported));
            }
            if !may_disarm(rules, world, way) || !disarm(rules, world, way, known) {
                end(world, at);
                world.happened = Some(Happened::Stopped);
            }
        }
        Act::Note(outcome, imported) => {
            let noted = Noted {
                way: run.way,
                locked: run.disarmed.is_some_and(|disarmed| disarmed.locked),
                imported,
                restored: false,
            };
            let is_orphaned = run.orphaned && rules.stands(Rule::SameWitness);
            end(world, at);
            let is_replaced =
                world.story != Story::Adopted || is_replaced(world) || !rules.stands(Rule::ReplacedAtLast);
            if is_orphaned || !is_replaced {
                world.happened = Some(Happened::Stopped);
                return Some(());
            }
            // Another run may have been quicker, and nothing is taken back.
            world.etcd.settled = world.etcd.settled.or(Some(noted));
            world.happened = Some(Happened::Noted(outcome));
        }
    }
    Some(())
}

/// Gives whether it could.
fn disarm(rules: Rules, world: &mut World, way: Way, known: u8) -> bool {
    match way {
        Way::Redis => {
            // An entry goes if it holds a value of what is looked for.
            let is_looked_for = match world.story {
                Story::Handed | Story::Adopted => true,
                Story::New => world.etcd.imported && rules.stands(Rule::ImportedCounts),
            };
            for revision in Revision::ALL {
                let is_found = rules.stands(Rule::EveryEntry) || known & revision.bit() != 0;
                let entry = world.entry(revision);
                if is_looked_for && is_found && *entry == Entry::Value {
                    *entry = Entry::Empty;
                }
            }
            true
        }
        Way::Server => {
            let known = Revision::ALL.into_iter().filter(|revision| known & revision.bit() != 0);
            known.fold(true, |could, revision| match rendered(rules, world, revision) {
                Content::Stub => {
                    *world.entry(revision) = Entry::Stub;
                    could
                }
                Content::Value | Content::Failed => false,
            })
        }
        Way::Lock | Way::Word => true,
    }
}

fn restore(world: &mut World) -> Option<()> {
    world.etcd = world.backup?;
    // What was noted then was true then.
    world.etcd.settled.iter_mut().for_each(|noted| noted.restored = true);
    // The `ConfigMap` is not the one that a run began with, even where it is written again.
    if world.etcd.witnesses == Witnesses::Git {
        world.runs.iter_mut().flatten().for_each(|run| run.orphaned = true);
    }
    // The controllers begin again: an operation that the backup has under way asks for its manifests anew.
    world.comparing = None;
    if let Some(operation) = world.etcd.app.operation.as_mut() {
        operation.manifests = Manifests::Have(Content::Failed);
    }
    Some(())
}
