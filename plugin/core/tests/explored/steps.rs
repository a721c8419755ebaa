//! What can happen, one step at a time.

use crate::rules::{Account, Decision, Rule, Rules};
use crate::world::{
    self, Copy, EPOCHS, Found, Gathered, Happened, Phase, REVISIONS, Runner, Says, Settled, Since, TakenBack, World,
    Written, bit,
};
use regent_core::authority::{AuthorityRefusal, Mode};
use regent_core::evidence::{Holder, Mirror};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A door, by its place in the world's order, asks for a witness, or for all that are left. The first reading of
    /// a request that gives no values ends it: stubs or an error, and the process remembers.
    Read {
        door: usize,
        revision: usize,
        asks: Asks,
        fails: Fails,
    },
    /// The values of a door's answer arrive in the cache of a controller.
    Deliver(usize),
    /// A process dies, and another one starts.
    Restart(usize),
    /// A controller writes a cached value into the live Secret.
    Apply,
    /// Vault's operator writes a rotated value there.
    Rotate,
    /// Hard refreshes have succeeded, and the caches of earlier revisions are purged.
    Purge,
    /// `regent init`.
    Init {
        revision: usize,
        vault: Asked,
    },
    /// A handover of a revision looks at the witnesses and the record, and decides.
    Check {
        runner: usize,
        revision: usize,
    },
    /// It writes the copies, and reads them back.
    Copy(usize),
    /// It writes the record, the copies where that was not a step of its own, reads it back, and decides anew.
    Record(usize),
    /// `regent verify` looks at the witnesses and the record, and decides.
    Verify(usize),
    MirrorHandover(usize),
    MirrorAuthority(usize),
    /// Break-glass finishes a mirror from the `ConfigMap` alone (the first step of `rebootstrap`).
    Complete,
    Settle,
    Rebootstrap {
        revision: usize,
        vault: Asked,
    },
    /// Somebody of break-glass applies an Authority that they had at hand; the schema alone stands in the way.
    ApplyAuthority(Says),
    /// Somebody else writes that Vault holds the first epoch: in the Authority, or in a `ConfigMap`.
    ForgeAuthority,
    ForgeHandover,
    /// Break-glass deletes a witness.
    DeleteAuthority,
    DeleteHandover(u8),
    Backup,
    /// etcd is restored: all of the cluster, nothing of processes, caches and Vault.
    Restore,
    /// The cluster is lost, and an empty one takes its place.
    NewCluster,
    /// Vault is lost, and an empty one takes its place.
    NewVault,
    /// A snapshot of Vault.
    Snapshot,
    /// Vault is restored: all that it holds, nothing of the cluster.
    RestoreVault,
    /// Vault's operator writes a rotated value there.
    RotateInVault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    Authority,
    Handover(u8),
    /// Everything that is left, at one moment.
    Rest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fails {
    Nothing,
    Everything,
    Authority,
    Handover(u8),
}

/// What `init` and `rebootstrap` learn from Vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Answers,
    Silent,
    /// `--no-vault-yet`, `--abandon-vault ID`: a person says that this Vault does not count.
    GivenUp,
}

impl Asked {
    const ALL: [Self; 3] = [Self::Answers, Self::Silent, Self::GivenUp];
}

impl Readings {
    fn failures(self) -> &'static [Fails] {
        match self {
            Self::Whole => &[
                Fails::Nothing,
                Fails::Everything,
                Fails::Authority,
                Fails::Handover(1),
                Fails::Handover(2),
                Fails::Handover(3),
            ],
            Self::Torn => &[Fails::Nothing],
        }
    }
}

/// How much of the world takes part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    pub(crate) doors: usize,
    pub(crate) runners: usize,
    pub(crate) readings: Readings,
    /// The steps that are left out.
    pub(crate) without: fn(Step) -> bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readings {
    /// A reading happens at one moment; one witness of it, or all, may fail.
    Whole,
    /// In the last reading of a request witnesses are asked for one by one, in any order, with anything in between.
    /// None fails: nothing but the answers of all of them together gives Git an epoch. The first reading is whole:
    /// values leave only where the last one says by itself what the first one said.
    Torn,
}

pub(crate) fn steps(rules: &Rules, scope: Scope, world: &World, steps: &mut Vec<Step>) {
    all_steps(rules, scope, world, steps);
    steps.retain(|step| !(scope.without)(*step));
}

fn all_steps(rules: &Rules, scope: Scope, world: &World, steps: &mut Vec<Step>) {
    for door in 0..scope.doors {
        let mut read = |revision, asks, fails: &[Fails]| {
            steps.extend(fails.iter().map(|fails| Step::Read { door, revision, asks, fails: *fails }));
        };
        match (&world.doors[door].phase, scope.readings) {
            (Phase::Idle, readings) => {
                for revision in 0..REVISIONS.len() {
                    read(revision, Asks::Rest, readings.failures());
                }
            }
            (Phase::Working { revision, .. }, Readings::Whole) => {
                read(*revision, Asks::Rest, Readings::Whole.failures());
            }
            (Phase::Working { revision, before }, Readings::Torn) => {
                one_by_one(rules, &Gathered::new(*revision, Some(before.clone())), read);
            }
            (Phase::Reading(gathered), Readings::Whole | Readings::Torn) => one_by_one(rules, gathered, read),
            (Phase::Answered, Readings::Whole | Readings::Torn) => steps.push(Step::Deliver(door)),
        }
        steps.push(Step::Restart(door));
    }
    for runner in 0..scope.runners {
        // Where the Authority says vault, a handover does what `verify` does.
        if matches!(world.cluster.authority, None | Some(Says::Git { .. })) {
            steps.extend((0..REVISIONS.len()).map(|revision| Step::Check { runner, revision }));
        }
        steps.extend([Step::Verify(runner), Step::Copy(runner), Step::Record(runner)]);
        steps.extend([Step::MirrorHandover(runner), Step::MirrorAuthority(runner)]);
    }
    for vault in Asked::ALL {
        match world.cluster.authority {
            None => steps.extend((0..REVISIONS.len()).map(|revision| Step::Init { revision, vault })),
            Some(Says::Git { .. }) => {}
            Some(Says::Vault { .. }) => {
                steps.extend((0..REVISIONS.len()).map(|revision| Step::Rebootstrap { revision, vault }));
            }
        }
    }
    for (epoch, line) in [(1, 0), (2, 0), (2, 1)] {
        steps.push(Step::ApplyAuthority(Says::Git { epoch, line }));
    }
    steps.extend([Step::Apply, Step::Rotate, Step::Purge, Step::Complete, Step::Settle]);
    steps.extend([Step::ForgeAuthority, Step::ForgeHandover, Step::DeleteAuthority]);
    steps.extend((1..=EPOCHS).map(Step::DeleteHandover));
    steps.extend([Step::Backup, Step::Restore, Step::NewCluster, Step::NewVault]);
    steps.extend([Step::Snapshot, Step::RestoreVault, Step::RotateInVault]);
}

/// Any of the witnesses that are left, or all of them at once.
fn one_by_one(rules: &Rules, gathered: &Gathered, mut read: impl FnMut(usize, Asks, &[Fails])) {
    let handovers = rules.still_to_read(gathered).into_iter().map(Asks::Handover);
    let authority = (gathered.authority == Found::NotAsked).then_some(Asks::Authority);
    for asks in handovers.chain(authority).chain([Asks::Rest]) {
        read(gathered.revision, asks, &[Fails::Nothing]);
    }
}

pub(crate) fn next(rules: &Rules, last: &World, step: Step) -> Option<World> {
    let mut world = World { happened: None, ..last.clone() };
    let mut taken = None;
    match step {
        Step::Read { door, revision, asks, fails } => read(rules, &mut world, door, revision, asks, fails)?,
        Step::Deliver(door) => {
            world.cached = true;
            world.doors[door].phase = Phase::Idle;
        }
        Step::Restart(door) => world.doors[door] = <_>::default(),
        Step::Apply => {
            if !world.cached || !rules.lock_is_open(&world.cluster) {
                return None;
            }
            world.happened = world.cluster.rotated.then_some(Happened::Undone);
            world.cluster.rotated = false;
        }
        Step::Rotate => match world.cluster.authority? {
            Says::Vault { .. } => world.cluster.rotated = true,
            Says::Git { .. } => return None,
        },
        Step::Purge => world.cached = false,
        Step::Init { revision, vault } => init(rules, &mut world, revision, vault)?,
        Step::Check { runner, revision } => decide(rules, &mut world, runner, Some(revision))?,
        Step::Copy(runner) => {
            let Runner::Checked { epoch, line } = world.runners[runner] else { return None };
            copy(rules, &mut world);
            world.runners[runner] = Runner::Copied { epoch, line };
        }
        Step::Record(runner) => record(rules, &mut world, runner)?,
        Step::Verify(runner) => decide(rules, &mut world, runner, None)?,
        Step::MirrorHandover(runner) => mirror_handover(rules, &mut world, runner)?,
        Step::MirrorAuthority(runner) => mirror_authority(rules, &mut world, runner)?,
        Step::Complete => {
            let epoch = (1..=EPOCHS).rev().find(|epoch| world.cluster.handover(*epoch).is_some())?;
            let line = world.cluster.handover(epoch)?;
            if !mirrors(&world, epoch, line) {
                return None;
            }
            move_authority(rules, &mut world, Says::Vault { epoch, line }, Account::BreakGlass)?;
        }
        Step::Settle => settle(rules, &mut world)?,
        Step::Rebootstrap { revision, vault } => rebootstrap(rules, &mut world, revision, vault)?,
        Step::ApplyAuthority(says) => {
            let current = world.cluster.authority?;
            // Legal is only what `rebootstrap` does, and that is a step of its own.
            if let (Says::Vault { epoch, line }, Says::Git { epoch: next, line: next_line }) = (current, says)
                && next == epoch + 1
                && next_line == line
            {
                return None;
            }
            move_authority(rules, &mut world, says, Account::BreakGlass)?;
        }
        Step::ForgeAuthority => move_authority(rules, &mut world, Says::Vault { epoch: 1, line: 0 }, Account::Other)?,
        Step::ForgeHandover => create_handover(rules, &mut world, 1, 0, Account::Other)?,
        Step::DeleteAuthority | Step::DeleteHandover(_) if !rules.stands(Rule::BreakGlassDeletes) => return None,
        Step::DeleteAuthority => {
            world.cluster.authority.take()?;
            world.cluster.settled = Settled::No;
            taken = Some(TakenBack::Deleted);
        }
        Step::DeleteHandover(epoch) => {
            world.cluster.handovers[usize::from(epoch) - 1].take()?;
            taken = Some(TakenBack::Deleted);
        }
        Step::Backup => world.backup = Some(world.cluster),
        Step::Restore => {
            world.cluster = world.backup?;
            if world.cluster.settled == Settled::Yes {
                world.cluster.settled = Settled::Restored;
            }
            taken = Some(TakenBack::Restored);
        }
        Step::NewCluster => {
            world.cluster = <_>::default();
            world.doors.fill(<_>::default());
            world.runners.fill(<_>::default());
            world.cached = false;
            taken = Some(TakenBack::Deleted);
        }
        Step::NewVault => world.vault = <_>::default(),
        Step::Snapshot => world.snapshot = Some(world.vault),
        Step::RestoreVault => world.vault = world.snapshot?,
        Step::RotateInVault => match world.vault.copy {
            Copy::Absent => return None,
            Copy::FromGit | Copy::Rotated => world.vault.copy = Copy::Rotated,
        },
    }
    world.remember(taken);
    let world = world.in_order();
    (world != *last).then_some(world)
}

impl Gathered {
    fn new(revision: usize, before: Option<Holder>) -> Self {
        Self { revision, before, authority: <_>::default(), handovers: <_>::default(), since: <_>::default() }
    }
}

fn read(rules: &Rules, world: &mut World, door: usize, revision: usize, asks: Asks, fails: Fails) -> Option<()> {
    let mut gathered = match std::mem::take(&mut world.doors[door].phase) {
        Phase::Idle => Gathered::new(revision, None),
        Phase::Working { revision, before } => {
            let since = world.now();
            if !rules.stands(Rule::SecondReading) {
                answer(world, door, revision, since);
                return Some(());
            }
            Gathered { since, ..Gathered::new(revision, Some(before)) }
        }
        Phase::Reading(gathered) => gathered,
        Phase::Answered => return None,
    };
    let found_authority = match fails {
        Fails::Everything | Fails::Authority => Found::Failed,
        Fails::Nothing | Fails::Handover(_) => world.cluster.authority.map_or(Found::Absent, Found::There),
    };
    let found_handover = |epoch: u8| match fails {
        Fails::Handover(failing) if failing == epoch => Found::Failed,
        Fails::Everything => Found::Failed,
        Fails::Nothing | Fails::Authority | Fails::Handover(_) if epoch > EPOCHS => Found::Absent,
        Fails::Nothing | Fails::Authority | Fails::Handover(_) => {
            world.cluster.handover(epoch).map_or(Found::Absent, Found::There)
        }
    };
    match asks {
        Asks::Authority => gathered.authority = found_authority,
        Asks::Handover(epoch) => gathered.handovers[usize::from(epoch) - 1] = found_handover(epoch),
        Asks::Rest => {
            if gathered.authority == Found::NotAsked {
                gathered.authority = found_authority;
            }
            for epoch in rules.still_to_read(&gathered) {
                gathered.handovers[usize::from(epoch) - 1] = found_handover(epoch);
            }
        }
    }
    if gathered.authority == Found::NotAsked || !rules.still_to_read(&gathered).is_empty() {
        world.doors[door].phase = Phase::Reading(gathered);
        return Some(());
    }
    let evidence = rules.evidence(&gathered);
    let holder = rules.observe(&mut world.doors[door], revision, &evidence);
    match gathered.before {
        None => {
            if rules.rule(revision, &holder, &evidence) == Ok(Mode::Values) {
                world.doors[door].phase = Phase::Working { revision, before: holder };
            }
        }
        Some(before) => {
            if rules.values_may_leave(revision, &before, &holder, &evidence) {
                answer(world, door, revision, gathered.since);
            }
        }
    }
    Some(())
}

fn answer(world: &mut World, door: usize, revision: usize, since: Since) {
    world.doors[door].phase = Phase::Answered;
    let revision = u8::try_from(revision).unwrap();
    world.happened = Some(Happened::Values(Written { revision, saw: world.doors[door].saw, since }));
}

/// Moves the Authority if the API server lets that account do it.
fn move_authority(rules: &Rules, world: &mut World, next: Says, by: Account) -> Option<()> {
    let current = world.cluster.authority;
    if current == Some(next) || !rules.takes(current, next, by) {
        return None;
    }
    world.cluster.authority = Some(next);
    world.cluster.settled = Settled::No;
    // Git's first epoch names no handover.
    if current.is_some_and(|it| it != Says::Git { epoch: 1, line: 0 } && it.line() != next.line()) {
        world.happened = Some(Happened::Rewritten);
    }
    if let Says::Vault { epoch, line } = next {
        if world.cluster.handover(epoch) != Some(line) && by != Account::Other {
            world.happened = Some(Happened::Unlisted);
        }
        if !world.was_recorded(epoch, line) {
            world.happened = Some(Happened::Unrecorded);
        }
    }
    Some(())
}

fn create_handover(rules: &Rules, world: &mut World, epoch: u8, line: u8, by: Account) -> Option<()> {
    if world.cluster.handover(epoch).is_some() || !rules.takes_handover(by) {
        return None;
    }
    world.cluster.handovers[usize::from(epoch) - 1] = Some(line);
    if !world.was_recorded(epoch, line) {
        world.happened = Some(Happened::Unrecorded);
    }
    Some(())
}

fn mirror_handover(rules: &Rules, world: &mut World, runner: usize) -> Option<()> {
    let (epoch, line) = match world.runners[runner] {
        Runner::Holds { epoch, line } => (epoch, line),
        Runner::Checked { epoch, line } if !rules.stands(Rule::RecordFirst) => (epoch, line),
        Runner::Checked { .. } | Runner::Copied { .. } | Runner::Idle => return None,
    };
    let out_of_sight = world.cluster.authority.is_some_and(|says| epoch > says.epoch() + 1);
    if out_of_sight && rules.stands(Rule::MirrorFromBelow) {
        return None;
    }
    create_handover(rules, world, epoch, line, Account::Handover)
}

fn mirror_authority(rules: &Rules, world: &mut World, runner: usize) -> Option<()> {
    let Runner::Holds { epoch, line } = world.runners[runner] else { return None };
    let ordered = world.cluster.handover(epoch) == Some(line) && mirrors(world, epoch, line);
    if !ordered && rules.stands(Rule::HandoverWitnessFirst) {
        return None;
    }
    move_authority(rules, world, Says::Vault { epoch, line }, Account::Handover)
}

/// Whether K is that handover, so that the Authority may follow its `ConfigMap`.
fn mirrors(world: &World, epoch: u8, line: u8) -> bool {
    let mirror = Mirror::Incomplete;
    world.cluster.truth()
        == Holder::Vault { epoch: world::epoch(epoch), handover: world::handover_id(epoch, line), mirror }
}

/// A person makes an authority, and with it a new beginning: what Vault held before counts no more.
fn init(rules: &Rules, world: &mut World, revision: usize, vault: Asked) -> Option<()> {
    let witnessed = world.cluster.has_a_witness();
    let recorded = world.vault.records.iter().any(Option::is_some);
    let vault_consents = match vault {
        Asked::Answers => !recorded,
        Asked::Silent => false,
        Asked::GivenUp => true,
    };
    if witnessed && rules.stands(Rule::InitLooksForWitnesses)
        || !vault_consents && rules.stands(Rule::VaultIsAsked)
        || rules.bootstraps[revision].closed_counts()
        || world.cluster.authority.is_some()
    {
        return None;
    }
    let (epoch, line) = (REVISIONS[revision].epoch, REVISIONS[revision].line);
    let by = if epoch == 1 { Account::Init } else { Account::BreakGlass };
    move_authority(rules, world, Says::Git { epoch, line }, by)?;
    if witnessed || recorded && vault != Asked::GivenUp {
        world.happened = Some(Happened::MadeBeside);
    } else {
        world.vault_ever = 0;
        world.cluster.rotated = false;
    }
    Some(())
}

/// What the real function decides becomes the runner's next step; nothing, where it is done or stopped.
fn decide(rules: &Rules, world: &mut World, runner: usize, revision: Option<usize>) -> Option<()> {
    world.runners[runner] = match (rules.decide(world, revision)?, revision) {
        (Decision::Copy, Some(revision)) => {
            if matches!(world.cluster.truth(), Holder::Vault { .. }) {
                world.happened = Some(Happened::CopiedAfter);
            }
            Runner::Checked { epoch: REVISIONS[revision].epoch, line: REVISIONS[revision].line }
        }
        (Decision::Copy, None) => return None,
        (Decision::Mirror { epoch, line }, _) => {
            match world.cluster.truth() {
                // Once a witness says vault, another one moves nothing.
                Holder::Vault { handover, .. } if handover == world::handover_id(epoch, line) => {}
                Holder::Vault { .. } => world.happened = Some(Happened::MirroredAnother),
                Holder::None | Holder::Git { .. } | Holder::Disagree(_) | Holder::Unreadable(_) => {
                    if world.vault.copy == Copy::Absent {
                        world.happened = Some(Happened::MovedWithoutCopies);
                    }
                }
            }
            Runner::Holds { epoch, line }
        }
    };
    Some(())
}

fn copy(rules: &Rules, world: &mut World) {
    match world.vault.copy {
        Copy::Absent => world.vault.copy = Copy::FromGit,
        Copy::FromGit => {}
        Copy::Rotated if rules.stands(Rule::CheckAndSet) => {}
        Copy::Rotated => {
            world.vault.copy = Copy::FromGit;
            world.happened = Some(Happened::Overwritten);
        }
    }
}

fn record(rules: &Rules, world: &mut World, runner: usize) -> Option<()> {
    let (epoch, line) = match world.runners[runner] {
        Runner::Checked { epoch, line } => {
            copy(rules, world);
            (epoch, line)
        }
        Runner::Copied { epoch, line } => (epoch, line),
        Runner::Holds { .. } | Runner::Idle => return None,
    };
    let there = world.record(epoch);
    let line = match there {
        // Another run was first: its record is read back, and mirrored.
        Some(line) if rules.stands(Rule::CheckAndSet) => line,
        // Ids are random, so the second handover of the first epoch begins another line. A third is not modelled.
        Some(_) | None if epoch == 1 => (0..2).find(|line| !world.was_recorded(1, *line))?,
        Some(_) | None => line,
    };
    if there.is_some_and(|there| there != line) {
        world.happened = Some(Happened::Overwritten);
    }
    world.vault.records[usize::from(epoch) - 1] = Some(line);
    world.recorded |= bit(epoch, line);
    world.runners[runner] = Runner::Idle;
    // A stop leaves it at that.
    let _ = decide(rules, world, runner, None);
    Some(())
}

/// Notes that no old value can come back: the mirror is complete, the caches are clean, and no answer is under way
/// whose last reading began before Vault held the epoch.
fn settle(rules: &Rules, world: &mut World) -> Option<()> {
    let Some(Says::Vault { epoch, line }) = world.cluster.authority else { return None };
    let old = |phase: &Phase| match phase {
        Phase::Answered => true,
        Phase::Reading(gathered) => gathered.since.vault_least < epoch,
        Phase::Idle | Phase::Working { .. } => false,
    };
    if world.cluster.handover(epoch) != Some(line)
        || rules.stands(Rule::SettledWaitsForCaches) && world.cached
        || rules.stands(Rule::SettledWaitsForAnswers) && world.doors.iter().any(|door| old(&door.phase))
    {
        return None;
    }
    world.cluster.settled = Settled::Yes;
    Some(())
}

/// Only where the mirror is complete, and the Git that asks supersedes exactly that handover (P3). What is live and
/// differs is named by the person who asks, so a rotated value is given up.
fn rebootstrap(rules: &Rules, world: &mut World, revision: usize, vault: Asked) -> Option<()> {
    let evidence = world.cluster.evidence();
    let holder = evidence.holder();
    let Holder::Vault { mirror: Mirror::Complete, .. } = &holder else { return None };
    let Err(AuthorityRefusal::NextEpoch { .. }) = rules.rule(revision, &holder, &evidence) else { return None };
    let (epoch, line) = (REVISIONS[revision].epoch, REVISIONS[revision].line);
    let still_there = world.record(epoch - 1) == Some(line);
    let vault_consents = match vault {
        Asked::Answers => !still_there,
        Asked::Silent => false,
        Asked::GivenUp => true,
    };
    if !vault_consents && rules.stands(Rule::VaultIsAsked) {
        return None;
    }
    move_authority(rules, world, Says::Git { epoch, line }, Account::BreakGlass)?;
    world.cluster.rotated = false;
    if still_there && vault != Asked::GivenUp {
        world.happened = Some(Happened::VaultStillThere);
    }
    Some(())
}
