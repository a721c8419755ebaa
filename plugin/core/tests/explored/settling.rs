//! Phase 3, explored: from right before the record until it is settled that no old value can come back. Argo CD compares,
//! syncs and rolls back whenever it likes, out of its cache or past it, and the plugin's answers take their time; a commit
//! slips in; up to two runs of `regent handover` look, wait, disarm and note, and die anywhere; the lock is removed, etcd
//! is restored, a document is imported. What is decided, [`regent_core::settle`] and the functions beside it decide; the
//! order in which the command acts on it is [`steps`].
//!
//! The worlds are finite, and explored to their end but for the bounds named below: there is no longer story than those
//! that were looked at.
//!
//! Time passes in one way: what the plugin was asked for before a run began is over when that run's quiet period is
//! (`limits.request` and a margin). Whoever restores etcd has the controllers begin again.

mod steps;
pub(crate) mod world;

use crate::{explored, found, in_words, say};
use stateright::{Model, Property};
use std::collections::HashMap;
use std::sync::Mutex;
use steps::{RUNS, Rule, Rules, Step, Who};
use world::{Etcd, Happened, Live, Noted, Outcome, Record, Revision, Shown, Story, Way, Witnesses, World};

const CLEAN: &str = "settled by redis, no old value is anywhere in Argo CD";
const UNDONE: &str = "settled, no value of Vault's is undone, but where a person removed the lock that was relied on";
const OUTCOME: &str = "settled only after what came of it was seen";
const RECORDED: &str = "nothing is recorded while Argo CD has applied something else";
const FROZEN: &str = "nothing is settled while Argo CD has applied what Vault never got";
const REPLACED: &str = "nothing is settled while a cluster that took a handover over has older values";
const DELIVERED: &str = "what delivers from Vault is emitted only once settled";
const OF_VAULT: &str = "nothing is settled that the Authority does not give to Vault";
const ENDS: &str = "every run ends, once the world is at rest: settled, or with a word to a person";

type Invariant = (&'static str, fn(&Settling, &World) -> bool);

const INVARIANTS: [Invariant; 9] = [
    (CLEAN, |_, world| {
        let is_promised = world.settled().is_some_and(|noted| noted.way == Way::Redis && promises(world, noted));
        !is_promised || !world.holds_a_value()
    }),
    (UNDONE, |_, world| {
        let is_promised = world.settled().is_some_and(|noted| match noted.way {
            Way::Redis => promises(world, noted),
            Way::Server | Way::Lock => !noted.locked && promises(world, noted),
            Way::Word => false,
        });
        world.happened != Some(Happened::Undone) || !is_promised
    }),
    (OUTCOME, |_, world| world.happened != Some(Happened::Noted(Outcome::NotSeen))),
    (RECORDED, |_, world| world.happened != Some(Happened::RecordedOther)),
    (FROZEN, |_, world| world.happened != Some(Happened::Noted(Outcome::Other))),
    (REPLACED, |_, world| {
        let is_noted = matches!(world.happened, Some(Happened::Noted(_))) && world.story == Story::Adopted;
        !is_noted || world.etcd.live == Live::Vaults
    }),
    (DELIVERED, |_, world| world.happened != Some(Happened::DeliveredEarly)),
    (OF_VAULT, |_, world| world.etcd.settled.is_none() || world.etcd.witnesses == Witnesses::Vault),
    (ENDS, Settling::ends),
];

/// What must be reached: without it the invariants could hold because nothing happens.
const BY_REDIS: Invariant = ("settled by redis", |_, world| is_settled_by(world, Way::Redis));
const BY_SERVER: Invariant = ("settled by argocd-server", |_, world| is_settled_by(world, Way::Server));
const BY_LOCK: Invariant = ("settled by the lock alone", |_, world| is_settled_by(world, Way::Lock));
const BY_WORD: Invariant = ("settled by a person's word", |_, world| is_settled_by(world, Way::Word));
const CAME_BACK: Invariant =
    ("a value that came back after the caches were disarmed", |_, world| world.happened == Some(Happened::CameBack));
const LOST: Invariant =
    ("a hard refresh that was lost in one under way", |_, world| world.happened == Some(Happened::Lost));
const WAITED: Invariant = ("an operation that is waited for", |_, world| world.happened == Some(Happened::Waited));
const REFUSED: Invariant = ("an old value that the lock refuses", |_, world| world.happened == Some(Happened::Refused));
const STOPPED: Invariant = ("a run that stops for a person", |_, world| world.happened == Some(Happened::Stopped));
const UNDONE_BEFORE: Invariant = ("a value of Vault's undone before it is settled, without the lock", |_, world| {
    world.happened == Some(Happened::Undone) && world.settled().is_none()
});

/// Three ways are known in which an old value comes back all the same, without the lock.
const FORGOTTEN: Invariant =
    ("settled beside a value that vault never got, after argo cd synced another commit", |_, world| {
        let is_noted = matches!(world.happened, Some(Happened::Noted(_)));
        is_noted && matches!(world.etcd.live, Live::Git(revision) if steps::is_unknown(world, revision))
    });
const LATE: Invariant =
    ("a value of a document that was imported once it was settled, and cached before", |_, world| {
        world.settled().is_some_and(|noted| !noted.imported) && world.etcd.imported && world.holds_a_value()
    });
const RESTORED: Invariant = ("settled, by a restored etcd, while an old value is cached", |_, world| {
    world.settled().is_some_and(|noted| noted.restored) && world.holds_a_value()
});

/// Whether what is noted counts for the document: it was handed over, or in the list when the caches were disarmed, and it
/// was noted in this very etcd.
fn promises(world: &World, noted: Noted) -> bool {
    !noted.restored && (noted.imported || world.story != Story::New)
}

fn is_settled_by(world: &World, way: Way) -> bool {
    world.settled().is_some_and(|noted| noted.way == way)
}

/// A part of the world.
#[derive(Clone, Copy)]
struct Scope {
    name: &'static str,
    starts: fn() -> Vec<World>,
    with: fn(Step) -> bool,
}

struct Settling {
    rules: Rules,
    scope: Scope,
    reached: Vec<Invariant>,
    /// Worlds at rest, and whether a run ends there.
    ends: Mutex<HashMap<World, bool>>,
}

impl Settling {
    fn new(removed: Option<Rule>, scope: Scope, reached: &[Invariant]) -> Self {
        Self { rules: Rules { removed }, scope, reached: reached.to_vec(), ends: Mutex::default() }
    }

    fn step(&self, world: &World, step: Step) -> Option<World> {
        steps::next(self.rules, world, step)
    }

    /// The world as it comes to rest: everything under way ends.
    fn at_rest(&self, world: &World) -> World {
        let mut world = *world;
        let ends = [Who::Comparison, Who::Operation, Who::Other].map(|who| [Step::Answer(who), Step::Arrive(who)]);
        let runs = (0..RUNS).map(Step::Crash);
        for step in ends.into_iter().flatten().chain([Step::Compared(true), Step::Apply]).chain(runs) {
            world = self.step(&world, step).unwrap_or(world);
        }
        world
    }

    /// Whether a run that nobody disturbs ends. Where there was no record there is none.
    fn ends(&self, world: &World) -> bool {
        let mut world = World { backup: None, happened: None, ..self.at_rest(world) };
        if world.record != Record::Yes {
            return true;
        }
        if let Some(ends) = self.ends.lock().unwrap().get(&world) {
            return *ends;
        }
        let (at_rest, way) = (world, if world.lock { Way::Lock } else { Way::Redis });
        while let Some(next) = self.step(&world, Step::Mirror) {
            world = next;
        }
        // In a cluster that took a handover over a person sees to Vault's values.
        if world.story == Story::Adopted {
            world = self.step(&world, Step::Rotate).unwrap_or(world);
        }
        let begun = self.step(&world, Step::Begin(0, way));
        let ends = begun.map_or(world.settled().is_some(), |begun| self.comes_to_an_end(begun));
        self.ends.lock().unwrap().insert(at_rest, ends);
        ends
    }

    fn comes_to_an_end(&self, mut world: World) -> bool {
        for _ in 0..ROUNDS {
            for step in [Step::Look(0), Step::Act(0), Step::Compare, Step::Compared(true), Step::Quiet(0)] {
                world = self.step(&world, step).unwrap_or(world);
                if world.settled().is_some() || world.happened == Some(Happened::Stopped) {
                    return true;
                }
            }
        }
        // It was waited for in vain, and the plugin's own word is told.
        matches!(world.etcd.app.row, Shown::Failed | Shown::FailedBare)
    }
}

/// Looks of a run that nobody disturbs: six are enough for the longest way.
const ROUNDS: usize = 12;

impl Model for Settling {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        (self.scope.starts)()
    }

    fn actions(&self, _: &World, actions: &mut Vec<Step>) {
        steps::all_steps(actions);
        actions.retain(|step| (self.scope.with)(*step));
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        self.step(last, step)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let always = INVARIANTS.into_iter().map(|(name, holds)| Property::always(name, holds));
        always.chain(self.reached.iter().map(|(name, reached)| Property::sometimes(name, *reached))).collect()
    }
}

/// Recorded, and about to be mirrored.
fn recorded(story: Story, lock: bool) -> World {
    World { record: Record::Yes, ..World::new(story, lock) }
}

/// What the controller does by itself, and what one run does.
fn is_daily(step: Step) -> bool {
    matches!(
        step,
        Step::Mirror
            | Step::Look(0)
            | Step::Act(0)
            | Step::Quiet(0)
            | Step::Compare
            | Step::Compared(true)
            | Step::Answer(_)
            | Step::Arrive(_)
            | Step::Apply
            | Step::Rotate
    )
}

/// One run with Redis, and no lock: syncs, renderings past the cache, and all of their races.
const REDIS: Scope = Scope {
    name: "redis, no lock",
    starts: || vec![recorded(Story::Handed, false)],
    with: |step| {
        let syncs = [Revision::Older, Revision::Recorded, Revision::Forgotten];
        is_daily(step)
            || matches!(step, Step::Begin(0, Way::Redis) | Step::Crash(0) | Step::Fail(Who::Comparison))
            || step == Step::Compared(false)
            || matches!(step, Step::Sync(revision, _) if syncs.contains(&revision))
            || matches!(step, Step::Render(Revision::Older | Revision::Recorded))
    },
};

/// One run that relies on the lock, with argocd-server or alone, or on a person's word; the lock may be removed.
const GUARDED: Scope = Scope {
    name: "without redis",
    starts: || vec![recorded(Story::Handed, true)],
    with: |step| {
        let ways = [Way::Server, Way::Lock, Way::Word];
        is_daily(step)
            || matches!(step, Step::Begin(0, way) if ways.contains(&way))
            || matches!(step, Step::Crash(0) | Step::Unlock | Step::Render(Revision::Older))
            || matches!(step, Step::Sync(Revision::Older | Revision::Forgotten, true))
    },
};

/// Two runs at once.
const TWO_RUNS: Scope = Scope {
    name: "two runs",
    starts: || vec![recorded(Story::Handed, false)],
    with: |step| {
        is_daily(step)
            || matches!(step, Step::Look(1) | Step::Act(1) | Step::Quiet(1) | Step::Begin(_, Way::Redis))
            || matches!(step, Step::Crash(_) | Step::Sync(Revision::Older, true) | Step::Render(Revision::Older))
    },
};

/// A commit that slips in, from before the record on, and is taken back or not.
const COMMITS: Scope = Scope {
    name: "a commit slips in",
    starts: || vec![World::new(Story::Handed, false)],
    with: |step| {
        is_daily(step)
            || matches!(step, Step::Commit | Step::Revert | Step::Freeze | Step::Record | Step::Begin(0, Way::Redis))
            || matches!(step, Step::Sync(Revision::Older | Revision::Recorded | Revision::Slipped, true))
    },
};

/// A new document that slips in, and is imported.
const IMPORTS: Scope = Scope {
    name: "a new document is imported",
    starts: || vec![World::new(Story::New, false)],
    with: |step| {
        is_daily(step)
            || matches!(step, Step::Commit | Step::Revert | Step::Freeze | Step::Record | Step::Begin(0, Way::Redis))
            || matches!(step, Step::Import | Step::Sync(Revision::Slipped, true))
            || matches!(step, Step::Render(Revision::Forgotten))
    },
};

/// A cluster that took a handover over, with older values.
const ADOPTED: Scope = Scope {
    name: "an adopted handover",
    starts: || vec![recorded(Story::Adopted, true), recorded(Story::Adopted, false)],
    with: |step| {
        is_daily(step)
            || matches!(step, Step::Begin(0, Way::Redis) | Step::Unlock | Step::Sync(Revision::Recorded, true))
    },
};

/// etcd is restored at any time, to before the mirror or to a moment after it.
const RESTORES: Scope = Scope {
    name: "etcd restored",
    starts: || {
        let before = recorded(Story::Handed, false);
        let vault = Etcd { witnesses: Witnesses::Vault, ..before.etcd };
        let later = World { etcd: vault, ..before };
        let noted = Noted { way: Way::Redis, locked: false, imported: false, restored: false };
        let settled = Etcd { settled: Some(noted), ..vault };
        vec![
            World { backup: Some(settled), ..before },
            World { backup: Some(before.etcd), ..before },
            World { backup: Some(before.etcd), ..later },
            World { backup: Some(vault), ..later },
        ]
    },
    with: |step| {
        is_daily(step) && step != Step::Rotate
            || matches!(step, Step::Begin(0, Way::Redis) | Step::Restore | Step::Sync(Revision::Older, true))
    },
};

/// Longer than any story: every scope is explored to its end.
const END: usize = 200;

fn explore(scope: Scope, reached: &[Invariant]) {
    explored(&format!("settling, {}", scope.name), Settling::new(None, scope, reached), END);
}

#[test]
fn nothing_in_argo_cd_brings_an_old_value_back_once_redis_was_searched() {
    explore(REDIS, &[BY_REDIS, CAME_BACK, LOST, WAITED, UNDONE_BEFORE]);
}

#[test]
fn nothing_in_argo_cd_brings_an_old_value_back_while_the_lock_stays() {
    explore(GUARDED, &[BY_SERVER, BY_LOCK, BY_WORD, WAITED, REFUSED, STOPPED]);
}

#[test]
fn two_runs_settle_as_one() {
    explore(TWO_RUNS, &[BY_REDIS, WAITED]);
}

#[test]
fn no_commit_slips_in() {
    explore(COMMITS, &[BY_REDIS, STOPPED, FORGOTTEN]);
}

#[test]
fn what_is_imported_before_it_is_settled_stays_vaults() {
    explore(IMPORTS, &[BY_REDIS, STOPPED, LATE]);
}

#[test]
fn a_cluster_that_took_a_handover_over_has_vaults_values_first() {
    explore(ADOPTED, &[BY_REDIS, STOPPED]);
}

#[test]
fn no_restore_of_etcd_settles_anything() {
    explore(RESTORES, &[BY_REDIS, STOPPED, RESTORED]);
}

/// A rule, the invariant that falls without it, and where.
const REMOVED: [(Rule, &str, Scope); 22] = [
    (Rule::Quiet, CLEAN, REDIS),
    (Rule::Quiet, UNDONE, REDIS),
    (Rule::QuietBeforeDisarm, CLEAN, REDIS),
    (Rule::SecondOutcome, CLEAN, REDIS),
    (Rule::SecondOutcome, OUTCOME, REDIS),
    (Rule::ComparedSince, CLEAN, REDIS),
    (Rule::Rows, OUTCOME, REDIS),
    (Rule::Errors, OUTCOME, IMPORTS),
    (Rule::Operations, CLEAN, REDIS),
    (Rule::SameSecond, CLEAN, REDIS),
    (Rule::EveryEntry, CLEAN, REDIS),
    (Rule::ImportedCounts, CLEAN, IMPORTS),
    (Rule::SameList, CLEAN, IMPORTS),
    (Rule::ServerNeedsLock, UNDONE, GUARDED),
    (Rule::NothingNeedsLock, UNDONE, GUARDED),
    (Rule::FrozenForRecord, RECORDED, COMMITS),
    (Rule::FrozenForSettled, FROZEN, COMMITS),
    (Rule::ReplacedAtLast, REPLACED, ADOPTED),
    (Rule::SameWitness, CLEAN, RESTORES),
    (Rule::SameWitness, OF_VAULT, RESTORES),
    (Rule::DeliveredOnceSettled, DELIVERED, REDIS),
    (Rule::Hard, ENDS, REDIS),
];

#[test]
fn every_rule_of_phase_3_is_needed() {
    for (invariant, _) in INVARIANTS {
        assert!(REMOVED.iter().any(|(_, falls, _)| *falls == invariant), "nothing shows `{invariant}` broken");
    }
    let mut not_needed = Vec::new();
    for (rule, invariant, scope) in REMOVED {
        match found(Settling::new(Some(rule), scope, &[]), invariant, END) {
            Some((_, steps)) => {
                let (count, steps) = (steps.len(), in_words(&steps));
                say(&format!("without {rule:?} falls `{invariant}`: steps: {count}, {steps}"));
            }
            None => not_needed.push(rule),
        }
    }
    assert_eq!(not_needed, [], "nothing falls without these");
}
