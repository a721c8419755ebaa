//! The rules explored, not sampled: every interleaving, up to a depth, of two front doors, a Git that is asked for any
//! revision, the steps of handovers by two runners and of the rebuilds between them, witnesses that cannot be read or
//! are deleted, restarts, an etcd that is restored, clusters and Vaults that are lost, and a controller that writes
//! whatever it ever had in its cache. The model keeps the world ([`world`]) and what can happen ([`steps`]); what is
//! decided, the real functions decide ([`rules`]).
//!
//! The handover job decides by the real function, over real records. It has one Vault and one cluster: what a person
//! accepts for another Vault, or adopts in another cluster, goes on as if it were the same, and that is all that it
//! changes. A reading of Vault that fails is a stop, and a stop is a job that dawdles.
//!
//! What must hold is the table [`INVARIANTS`]. Nothing of it would mean much if the model could not see it broken:
//! [`REMOVED`] takes one rule after another away and names the invariant that falls.
//!
//! Two exceptions are known, and printed. A value of an epoch that Vault held is written again where the witnesses were
//! taken back, the process had not seen them (it was restarted, or read nothing meanwhile), and the revision has no
//! `closed`. They are taken back where etcd is restored to before the handover, or where break-glass deletes the
//! `ConfigMap` of a mirror whose Authority does not say vault yet. `verify` mirrors again.
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::disallowed_methods, reason = "how long an exploration took is printed")]

mod importing;
mod letting_go;
mod patching;
mod rules;
mod settling;
mod steps;
mod world;

use regent_core::authority::Mode;
use regent_core::evidence::{Evidence, Holder, Reading};
use regent_core::handover::decide::RecordKey;
use rules::{Rule, Rules};
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::io::Write as _;
use std::time::Instant;
use steps::{Fails, Readings, Scope, Step};
use world::{Cluster, Copy, Door, Happened, Phase, REVISIONS, Says, Settled, TakenBack, Vault, World, Written, bit};

const SEEN: &str = "no value by a process that has seen its epoch end";
const SAID: &str = "no value while a witness says vault";
const EVER: &str = "no value after vault, but for the exceptions";
const GIVEN: &str = "no value without witnesses that say git";
const ALIKE: &str = "one authority for all that read the same";
const STUBS: &str = "who has seen vault gives stubs through any outage";
const UNDONE: &str = "no rotated value is undone";
const SETTLED: &str = "once settled, nothing old can come back";
const OVERWRITTEN: &str = "nothing in vault is overwritten";
const COPIED_ONCE: &str = "no value leaves for vault while a witness says that vault has it";
const ANOTHER: &str = "no record of another handover is mirrored than the witnesses name";
const COPIES: &str = "no record moves authority whose copies are not in vault";
const RECORDED: &str = "no witness without a record";
const LISTED: &str = "no authority says vault without the list";
const REWRITTEN: &str = "no authority names another handover than before";
const BESIDE: &str = "no authority beside a witness or a record";
const GIVEN_UP: &str = "no new epoch while vault holds the old, unless given up by name";
const WAY_OUT: &str = "every state has a way out";

/// What must hold or be reached, and how it shows in a world.
type Invariant = (&'static str, fn(&Regent, &World) -> bool);

/// A reading takes a while, and what it says may be over when it ends. So a value is judged by its last reading: there
/// was a moment in it at which it was true. A reading that begins after Vault took over gives stubs; the lock takes
/// care of values from those that began before. Where a witness is deleted, or etcd restored, in the middle of that
/// reading, there may be no such moment: it can combine a witness from before with one from after. That needs
/// break-glass within milliseconds, and is printed; what is live is guarded by the lock even then.
const INVARIANTS: [Invariant; 18] = [
    (SEEN, |_, world| world.wrote().is_none_or(|it| it.epoch() > it.saw)),
    (SAID, |_, world| world.wrote().is_none_or(|it| it.epoch() > it.since.vault_least || it.since.disturbed)),
    (EVER, |_, world| {
        world.wrote().is_none_or(|it| {
            let exception = it.since.taken_back.is_some() && !it.revision().is_closed() && it.saw < it.epoch();
            it.epoch() > it.since.vault_ever || exception || it.since.disturbed
        })
    }),
    (GIVEN, |_, world| {
        world.wrote().is_none_or(|it| it.since.git & bit(it.epoch(), it.revision().line) != 0 || it.since.disturbed)
    }),
    (ALIKE, |model, world| {
        let evidence = world.cluster.evidence();
        let holder = evidence.holder();
        let ruled = (0..REVISIONS.len()).filter_map(|revision| model.rules.rule(revision, &holder, &evidence).ok());
        let modes: Vec<_> = ruled.collect();
        modes.windows(2).all(|pair| (pair[0] == Mode::Values) == (pair[1] == Mode::Values))
    }),
    (STUBS, |model, world| world.doors.iter().all(|door| model.gives_stubs_if_it_must(door))),
    (UNDONE, |_, world| world.happened != Some(Happened::Undone)),
    (SETTLED, |_, world| {
        let old = world.cached || world.doors.iter().any(|door| door.phase == Phase::Answered);
        world.cluster.settled != Settled::Yes || !old
    }),
    (OVERWRITTEN, |_, world| world.happened != Some(Happened::Overwritten)),
    (COPIED_ONCE, |_, world| world.happened != Some(Happened::CopiedAfter)),
    (ANOTHER, |_, world| world.happened != Some(Happened::MirroredAnother)),
    (COPIES, |_, world| world.happened != Some(Happened::MovedWithoutCopies)),
    (RECORDED, |_, world| world.happened != Some(Happened::Unrecorded)),
    (LISTED, |_, world| world.happened != Some(Happened::Unlisted)),
    (REWRITTEN, |_, world| world.happened != Some(Happened::Rewritten)),
    (BESIDE, |_, world| world.happened != Some(Happened::MadeBeside)),
    (GIVEN_UP, |_, world| world.happened != Some(Happened::VaultStillThere)),
    (WAY_OUT, |model, world| model.has_way_out(&world.cluster)),
];

/// What must be reached: without it the invariants could hold because nothing happens.
const FIRST_VALUES: Invariant = ("values of the first epoch", |_, world| {
    world.wrote().is_some_and(|it| it.epoch() == 1 && it.since.vault_ever == 0)
});
const SECOND_VALUES: Invariant = ("values of the second epoch", |_, world| {
    world.wrote().is_some_and(|it| it.epoch() == 2 && it.since.vault_ever == 1)
});
const ONE_LOST: Invariant = ("an authority lost, and the other witness speaks", |_, world| {
    world.cluster.authority.is_none() && matches!(world.cluster.truth(), Holder::Vault { .. })
});
const DISAGREE: Invariant =
    ("witnesses that disagree", |_, world| matches!(world.cluster.truth(), Holder::Disagree(_)));
const SETTLES: Invariant = ("a handover settled", |_, world| world.cluster.settled == Settled::Yes);
const RESTORED: Invariant = ("the one exception, by an etcd restored to before the handover", |_, world| {
    world.exception() == Some(TakenBack::Restored)
});
const DELETED: Invariant =
    ("the one exception, by a half-done mirror of which the only witness was deleted", |_, world| {
        world.exception() == Some(TakenBack::Deleted)
    });
const LOST: Invariant = ("an authority lost by a vault that was taken back", |_, world| match world.cluster.truth() {
    Holder::Vault { epoch, .. } => {
        world.snapshot.is_some() && world.record(u8::try_from(epoch.get()).unwrap()).is_none()
    }
    Holder::None | Holder::Git { .. } | Holder::Disagree(_) | Holder::Unreadable(_) => false,
});
const KEPT: Invariant = ("a first record beside a value that vault's operator wrote", |_, world| {
    let recorded = world.vault == Vault { records: [Some(0), None, None], copy: Copy::Rotated };
    recorded
        && world.cluster.truth()
            == Cluster { authority: Some(Says::Git { epoch: 1, line: 0 }), ..<_>::default() }.truth()
});
const DISTURBED: Invariant = ("a value by a reading in the middle of which a witness was taken away", |_, world| {
    world.wrote().is_some_and(|it| it.since.disturbed && it.epoch() <= it.since.vault_least)
});

struct Regent {
    rules: Rules,
    scope: Scope,
    reached: Vec<Invariant>,
}

impl Regent {
    fn without(removed: Option<Rule>, scope: Scope) -> Self {
        Self { rules: Rules::without(removed), scope, reached: Vec::new() }
    }

    /// Whether a process that has seen Vault take over, and now can read nothing at all, still answers.
    fn gives_stubs_if_it_must(&self, door: &Door) -> bool {
        let outage = Evidence { authority: Reading::Unreadable("timeout".into()), ..Evidence::none() };
        let seen = door.faithful.clone().observe(outage.holder());
        let Holder::Vault { epoch, .. } = seen else { return true };
        let mut process = door.clone();
        (0..REVISIONS.len()).filter(|revision| u32::from(REVISIONS[*revision].epoch) <= epoch.get()).all(|revision| {
            let holder = self.rules.observe(&mut process, revision, &outage);
            matches!(self.rules.rule(revision, &holder, &outage), Ok(Mode::Stubs(_)))
        })
    }

    /// What a person can do about a state, once the outages are over and the processes are restarted: some revision
    /// gives values or stubs, or `init` creates the authority; or some revision gives them when break-glass has deleted
    /// the one witness that is wrong.
    fn has_way_out(&self, cluster: &Cluster) -> bool {
        let answers = |cluster: &Cluster| {
            let evidence = cluster.evidence();
            let holder = evidence.holder();
            (0..REVISIONS.len()).any(|revision| self.rules.rule(revision, &holder, &evidence).is_ok())
        };
        let without_handover = |epoch: usize| {
            let mut cluster = *cluster;
            cluster.handovers[epoch] = None;
            answers(&cluster)
        };
        let deletes = self.rules.stands(Rule::BreakGlassDeletes);
        cluster.truth() == Holder::None
            || answers(cluster)
            || deletes && answers(&Cluster { authority: None, ..*cluster })
            || deletes && (0..cluster.handovers.len()).any(without_handover)
    }
}

impl World {
    fn wrote(&self) -> Option<Written> {
        match self.happened {
            Some(Happened::Values(written)) => Some(written),
            _ => None,
        }
    }

    /// A value of an epoch that Vault had held.
    fn exception(&self) -> Option<TakenBack> {
        let written = self.wrote().filter(|it| it.epoch() <= it.since.vault_ever && !it.since.disturbed)?;
        written.since.taken_back
    }
}

impl Written {
    fn revision(self) -> world::Revision {
        REVISIONS[usize::from(self.revision)]
    }

    fn epoch(self) -> u8 {
        self.revision().epoch
    }
}

impl Model for Regent {
    type State = World;
    type Action = Step;

    /// Deep states are started from, so that the bound on depth is spent on what may go wrong there.
    fn init_states(&self) -> Vec<World> {
        let world = |cluster| World::new(cluster, self.scope.doors, self.scope.runners);
        let at = |authority, handovers| Cluster { authority: Some(authority), handovers, ..Cluster::default() };
        let git_1 = at(Says::Git { epoch: 1, line: 0 }, [None; 3]);
        let half_1 = at(Says::Git { epoch: 1, line: 0 }, [Some(0), None, None]);
        let vault_1 = at(Says::Vault { epoch: 1, line: 0 }, [Some(0), None, None]);
        let git_2 = at(Says::Git { epoch: 2, line: 0 }, [Some(0), None, None]);
        let vault_2 = at(Says::Vault { epoch: 2, line: 0 }, [Some(0), Some(0), None]);
        let later = |cluster, backup| World { backup: Some(backup), cached: true, ..world(cluster) };
        vec![
            world(Cluster::default()),
            world(git_1),
            later(half_1, git_1),
            later(vault_1, git_1),
            later(git_2, vault_1),
            later(vault_2, git_1),
            later(vault_2, git_2),
        ]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Step>) {
        steps::steps(&self.rules, self.scope, world, actions);
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        steps::next(&self.rules, last, step)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let always = INVARIANTS.into_iter().map(|(name, holds)| Property::always(name, holds));
        always.chain(self.reached.iter().map(|(name, reached)| Property::sometimes(name, *reached))).collect()
    }
}

/// Explores, and prints how much that was.
fn explore(scope: Scope, depth: usize, reached: &[Invariant]) {
    let model = Regent { reached: reached.to_vec(), ..Regent::without(None, scope) };
    let Scope { doors, runners, readings, .. } = scope;
    explored(&format!("doors: {doors}, runners: {runners}, readings {readings:?}"), model, depth);
}

fn explored<M>(name: &str, model: M, depth: usize)
where
    M: Model<State: Clone + Debug + Hash + PartialEq + Send + Sync> + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let start = Instant::now();
    let checker = model.checker().target_max_depth(depth).spawn_bfs().join();
    say(&format!(
        "{name}: {} states, {} unique, depth {}, {:.1} s",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        start.elapsed().as_secs_f64()
    ));
    checker.assert_properties();
}

/// Takes one rule after another away, and expects that the invariant beside it falls.
fn each_is_needed<R, M>(removed: impl IntoIterator<Item = (R, &'static str)>, without: impl Fn(R) -> M, depth: usize)
where
    R: Clone + Debug,
    M: Model<State: Clone + Debug + Hash + PartialEq + Send + Sync> + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let mut not_needed = Vec::new();
    for (rule, invariant) in removed {
        match found(without(rule.clone()), invariant, depth) {
            Some((_, steps)) => {
                let (count, steps) = (steps.len(), in_words(&steps));
                say(&format!("without {rule:?} falls `{invariant}`: steps: {count}, {steps}"));
            }
            None => not_needed.push(format!("{rule:?}: {invariant}")),
        }
    }
    assert!(not_needed.is_empty(), "nothing falls without these: {not_needed:?}");
}

/// Prints, also where a test passes: unlike `println`, this is not captured.
fn say(line: &str) {
    std::io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// The shortest way to a state in which an invariant falls, or one that must be reached is: how many steps, and
/// which. One thread alone explores in order of length, but the checker keeps the last of what it finds at once; so it
/// is asked for one length after another.
fn shortest(model: impl Fn() -> Regent, name: &'static str) -> Option<(usize, String)> {
    let (first, steps) = (2..=MOST_STEPS + 2).find_map(|depth| found(model(), name, depth))?;
    Some((steps.len(), format!("from {}: {}", first.cluster.truth(), in_words(&steps))))
}

/// A way there of less than so many states: where it begins, and its steps.
fn found<M>(model: M, name: &'static str, depth: usize) -> Option<(M::State, Vec<M::Action>)>
where
    M: Model<State: Clone + Debug + Hash + PartialEq + Send + Sync> + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let checker = model.checker().target_max_depth(depth);
    let checker = checker.finish_when(HasDiscoveries::AnyOf(BTreeSet::from([name]))).spawn_bfs().join();
    let path = checker.discovery(name)?.into_vec();
    let first = path.first()?.0.clone();
    Some((first, path.into_iter().filter_map(|(_, step)| step).collect()))
}

fn in_words(steps: &[impl Debug]) -> String {
    steps.iter().map(|step| format!("{step:?}")).collect::<Vec<_>>().join(", ")
}

/// Longest story that is looked for; all of those below are shorter.
const MOST_STEPS: usize = 8;

/// Everything at once. Doors do not hear of each other, nor runners but through Vault and the cluster, so what two of
/// them break together is little more than what one breaks: the scopes below have one of each, and go deeper.
const EVERYTHING: Scope = Scope { doors: 2, runners: 2, readings: Readings::Whole, without: is_in_vault };

/// One of each, and every step.
const ONE_OF_EACH: Scope = Scope { doors: 1, runners: 1, without: |_| false, ..EVERYTHING };

/// What happens inside Vault; [`HANDOVERS`] is about it.
fn is_in_vault(step: Step) -> bool {
    matches!(step, Step::Copy(_) | Step::Snapshot | Step::RestoreVault | Step::RotateInVault)
}

/// Handovers, losses and rebuilds; no controllers.
const REBUILDS: Scope = Scope {
    without: |step| is_in_vault(step) || matches!(step, Step::Apply | Step::Rotate | Step::Purge | Step::Settle),
    ..ONE_OF_EACH
};

/// Two runners that may be cut off anywhere, one door, the revisions of Git, snapshots of Vault and of etcd.
const HANDOVERS: Scope = Scope {
    runners: 2,
    readings: Readings::Whole,
    without: |step| match step {
        Step::Read { fails, .. } => fails != Fails::Nothing,
        Step::Check { .. }
        | Step::Copy(_)
        | Step::Record(_)
        | Step::Verify(_)
        | Step::MirrorHandover(_)
        | Step::MirrorAuthority(_)
        | Step::Rebootstrap { .. }
        | Step::Backup
        | Step::Restore
        | Step::NewVault
        | Step::Snapshot
        | Step::RestoreVault
        | Step::RotateInVault => false,
        Step::Deliver(_)
        | Step::Restart(_)
        | Step::Apply
        | Step::Rotate
        | Step::Purge
        | Step::Init { .. }
        | Step::Complete
        | Step::Settle
        | Step::ApplyAuthority(_)
        | Step::ForgeAuthority
        | Step::ForgeHandover
        | Step::DeleteAuthority
        | Step::DeleteHandover(_)
        | Step::NewCluster => true,
    },
    ..ONE_OF_EACH
};

/// Controllers and their caches; no outages, and of the losses only those of etcd and of the Authority.
const CONTROLLERS: Scope = Scope {
    without: |step| {
        let outage = matches!(step, Step::Read { fails, .. } if fails != Fails::Nothing);
        let lost = matches!(step, Step::DeleteHandover(_) | Step::NewCluster | Step::NewVault | Step::Verify(_));
        outage || lost || is_in_vault(step)
    },
    ..ONE_OF_EACH
};

/// Readings in the middle of which anything may be written, deleted or restored.
const TORN_READINGS: Scope = Scope {
    readings: Readings::Torn,
    without: |step| (REBUILDS.without)(step) || matches!(step, Step::NewCluster | Step::NewVault | Step::Init { .. }),
    ..ONE_OF_EACH
};

// The bound of each is a number of states on a path, counted from each of the starting states; the last is not looked
// at. Which revision a request is for and whether a witness can be read are part of its step, so two steps are a whole
// answer, four a handover, one a rebuild. A longer story passes through what is a starting state here, as far as
// processes forget, and is found from there. Each step more costs two to three times as much.

#[test]
fn everything_at_once_brings_no_value_back() {
    explore(EVERYTHING, 8, &[FIRST_VALUES, SECOND_VALUES, ONE_LOST, SETTLES, RESTORED, DELETED]);
}

#[test]
fn no_rebuild_brings_a_value_back() {
    explore(REBUILDS, 10, &[FIRST_VALUES, SECOND_VALUES, ONE_LOST, DISAGREE, RESTORED, DELETED]);
}

#[test]
fn no_handover_and_no_snapshot_brings_a_value_back() {
    explore(HANDOVERS, 12, &[FIRST_VALUES, SECOND_VALUES, RESTORED, LOST, KEPT]);
}

#[test]
fn no_controller_brings_a_value_back() {
    explore(CONTROLLERS, 14, &[FIRST_VALUES, SECOND_VALUES, ONE_LOST, SETTLES, RESTORED]);
}

#[test]
fn no_torn_reading_brings_a_value_back() {
    explore(TORN_READINGS, 11, &[FIRST_VALUES, SECOND_VALUES, ONE_LOST, RESTORED, DELETED, DISTURBED]);
}

#[test]
fn the_exceptions_are_known() {
    for (scope, exception) in [(REBUILDS, RESTORED), (REBUILDS, DELETED), (TORN_READINGS, DISTURBED)] {
        let (name, _) = exception;
        let model = || Regent { reached: vec![exception], ..Regent::without(None, scope) };
        let (steps, path) = shortest(model, name).unwrap();
        say(&format!("{name}: steps: {steps}, {path}"));
    }
}

/// A rule, and the invariant that falls without it.
const REMOVED: [(Rule, &str); 36] = [
    (Rule::UnreadableIsUnknown, SAID),
    (Rule::EitherWitnessCounts, SAID),
    (Rule::NextEpochIsLookedFor, SAID),
    (Rule::PreviousEpochIsLookedAt, GIVEN),
    (Rule::Memory, SEEN),
    (Rule::Memory, STUBS),
    (Rule::MemoryOfGit, SEEN),
    (Rule::DisagreeIsAnError, SAID),
    (Rule::EpochFits, SAID),
    (Rule::SupersedesFits, GIVEN),
    (Rule::ClosedCounts, EVER),
    (Rule::SecondReading, SAID),
    (Rule::SecondReadingSucceeds, SAID),
    (Rule::OtherMovesAreErrors, SAID),
    (Rule::NextEpochIsRefused, ALIKE),
    (Rule::SupersedesIsFixed, REWRITTEN),
    (Rule::VaultIsFinal, UNDONE),
    (Rule::EpochOnlyRises, UNDONE),
    (Rule::NewEpochSupersedes, UNDONE),
    (Rule::VaultByAccountOnly, RECORDED),
    (Rule::BreakGlassDeletes, WAY_OUT),
    (Rule::Lock, UNDONE),
    (Rule::LockWithoutAuthority, UNDONE),
    (Rule::CheckAndSet, OVERWRITTEN),
    (Rule::LostIsAStop, COPIED_ONCE),
    (Rule::ReplacedIsAStop, ANOTHER),
    (Rule::CopiesAreLookedAt, COPIES),
    (Rule::MirrorFromBelow, SAID),
    (Rule::RecordFirst, RECORDED),
    (Rule::HandoverWitnessFirst, LISTED),
    (Rule::InitLooksForWitnesses, BESIDE),
    (Rule::InitLooksForWitnesses, UNDONE),
    (Rule::VaultIsAsked, GIVEN_UP),
    (Rule::VaultIsAsked, BESIDE),
    (Rule::SettledWaitsForAnswers, SETTLED),
    (Rule::SettledWaitsForCaches, SETTLED),
];

/// The model's witnesses say of authority what those of the real records say.
#[test]
fn the_witnesses_of_the_model_are_those_of_a_record() {
    for (number, line) in (1..=world::EPOCHS).flat_map(|number| [(number, 0), (number, 1)]) {
        let mut handovers = [None; 3];
        handovers[usize::from(number) - 1] = Some(line);
        let cluster = Cluster { authority: Some(Says::Vault { epoch: number, line }), handovers, ..<_>::default() };
        let world = World::new(cluster, 1, 1);
        let RecordKey::Present(found) = world.record_key(number, Copy::FromGit) else { panic!() };
        let (handover, authority) = found.marked.witnesses();
        let modelled = world::authority_witness(Says::Vault { epoch: number, line });
        let facts = |it: &regent_core::evidence::AuthorityWitness| {
            (it.name.clone(), it.holds.clone(), it.epoch, it.supersedes.clone())
        };
        assert_eq!(facts(&authority), facts(&modelled));
        let mut real = cluster.evidence();
        real.authority = Reading::Present(authority);
        real.handovers.insert(world::epoch(number), Reading::Present(handover));
        assert_eq!(real.holder(), cluster.truth());
    }
}

#[test]
fn every_rule_is_needed() {
    for (invariant, _) in INVARIANTS {
        assert!(REMOVED.iter().any(|(_, falls)| *falls == invariant), "nothing shows `{invariant}` broken");
    }
    for (rule, invariant) in REMOVED {
        // A second record needs a second runner.
        let scope = if rule == Rule::ReplacedIsAStop { HANDOVERS } else { ONE_OF_EACH };
        let fallen = shortest(|| Regent::without(Some(rule), scope), invariant);
        let (steps, path) = fallen.unwrap_or_else(|| panic!("without {rule:?} nothing shows that {invariant}"));
        say(&format!("without {rule:?} falls `{invariant}`: steps: {steps}, {path}"));
    }
}
