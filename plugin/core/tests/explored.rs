//! The rules explored, not sampled: every interleaving, up to a depth, of two front doors, a Git that moves back
//! and forth, the steps of two handovers and of the rebuild between them, unreadable and deleted witnesses,
//! restarts, and an etcd that is restored. The model keeps the world; what is decided, the real functions decide.
//!
//! What must hold:
//! - a value is never written by a process that has seen Vault take that epoch, whatever it reads now;
//! - a value is never written while a witness says that Vault holds that epoch, even one that cannot be read;
//! - a value of an epoch that Vault ever held is never written, with one exception, which the test prints: etcd was
//!   restored to before the handover, the process had not seen it (it was restarted, or read nothing meanwhile), and
//!   the revision has no `closed`;
//! - a value is written only of the epoch that the witnesses give to Git at that moment, so never of two at once;
//! - the same evidence never means values for one revision and stubs for another;
//! - every state has a way out.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use regent_core::authority::{self, Mode, Place, Recheck};
use regent_core::bootstrap::Bootstrap;
use regent_core::evidence::{AuthorityWitness, Evidence, HandoverWitness, Holder, Holds, Memory, Mirror, Reading};
use regent_core::name::{AuthorityName, Epoch, FilePath, HandoverId};
use stateright::{Checker, Model, Property};
use std::collections::BTreeMap;

const HANDOVERS: [&str; 2] = ["0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f", "5d1c9f7a-3b2e-4c8d-8f60-7a9b1c2d3e4f"];

/// What `regent.yaml` says in each revision of the repository: epoch, `supersedes`, `closed` (1 and 2 are the
/// handovers).
const REVISIONS: [(u64, Option<usize>, Option<usize>); 5] =
    [(1, None, None), (1, None, Some(1)), (2, Some(1), None), (2, Some(1), Some(1)), (2, Some(1), Some(2))];

/// What the API server holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Cluster {
    authority: Option<Says>,
    /// The handover witnesses of epochs 1 and 2.
    handed_over: [bool; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Says {
    Git(u64),
    Vault(u64),
}

/// A process that answers one request after another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Door {
    memory: Memory,
    /// A request under way: the revision it opened, and K from before the work.
    pending: Option<(usize, Holder)>,
    /// The highest epoch that this process has seen in Vault's hands.
    saw_vault: u64,
}

/// A value that was written in the last step: by which door, of which revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Written {
    door: usize,
    revision: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    cluster: Cluster,
    backup: Option<Cluster>,
    /// Vault's records of epochs 1 and 2; they outlive the cluster.
    records: [bool; 2],
    revision: usize,
    authority_unreadable: bool,
    witnesses_unreadable: bool,
    doors: [Door; 2],
    /// The highest epoch that a witness in the cluster ever gave to Vault.
    vault_ever: u64,
    /// A backup from before that was restored.
    restored_before_vault: bool,
    written: Option<Written>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Checkout(usize),
    Init,
    Record,
    MirrorWitness,
    MirrorAuthority,
    Rebootstrap,
    AuthorityOutage,
    WitnessOutage,
    DeleteAuthority,
    Backup,
    Restore,
    Restart(usize),
    /// A door reads evidence and begins the work.
    Begin(usize),
    /// It reads again and answers.
    Answer(usize),
}

struct Regent {
    revisions: Vec<Bootstrap>,
}

impl Regent {
    fn new() -> Self {
        let bootstrap = |(epoch, supersedes, closed): (u64, Option<usize>, Option<usize>)| {
            let mut text = format!("apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\nepoch: {epoch}\n");
            for (key, handover) in [("supersedes", supersedes), ("closed", closed)] {
                text.extend(handover.map(|number| format!("{key}: {}\n", HANDOVERS[number - 1])));
            }
            Bootstrap::parse(&FilePath::parse("regent.yaml").unwrap(), text.as_bytes()).unwrap()
        };
        Self { revisions: REVISIONS.into_iter().map(bootstrap).collect() }
    }

    fn rule(&self, revision: usize, holder: &Holder, evidence: &Evidence) -> Option<Mode> {
        let documents = evidence.documents_of(holder);
        let ruling = authority::rule(&self.revisions[revision], &Place::default(), holder, documents);
        ruling.ok().map(|ruling| ruling.mode().clone())
    }

    fn begin(&self, world: &mut World, door: usize) {
        let evidence = world.evidence();
        let process = &mut world.doors[door];
        let holder = process.observe(&evidence);
        if self.rule(world.revision, &holder, &evidence) == Some(Mode::Values) {
            process.pending = Some((world.revision, holder));
        }
    }

    fn answer(&self, world: &mut World, door: usize) {
        let evidence = world.evidence();
        let process = &mut world.doors[door];
        let Some((revision, before)) = process.pending.take() else { return };
        let after = process.observe(&evidence);
        match authority::recheck(&before, &after) {
            Ok(Recheck::Same) => world.written = Some(Written { door, revision }),
            // Whatever the rule says now, it is asked again: were it values, they would be counted.
            Ok(Recheck::NowStubs) => {
                if self.rule(revision, &after, &evidence) == Some(Mode::Values) {
                    world.written = Some(Written { door, revision });
                }
            }
            Err(_) => {}
        }
    }

    /// What a person can do about a state, once the outages are over and the processes are restarted: some revision
    /// gives values or stubs, or `init` creates the authority.
    fn has_way_out(&self, world: &World) -> bool {
        let healed = World { authority_unreadable: false, witnesses_unreadable: false, ..world.clone() };
        let evidence = healed.evidence();
        let holder = evidence.holder();
        holder == Holder::None || (0..REVISIONS.len()).any(|revision| self.rule(revision, &holder, &evidence).is_some())
    }
}

impl Door {
    fn observe(&mut self, evidence: &Evidence) -> Holder {
        let holder = self.memory.observe(evidence.holder());
        if let Holder::Vault { epoch, .. } = &holder {
            self.saw_vault = self.saw_vault.max(u64::from(epoch.get()));
        }
        holder
    }
}

impl World {
    fn evidence(&self) -> Evidence {
        let authority = match self.cluster.authority {
            _ if self.authority_unreadable => Reading::Unreadable("timeout".into()),
            None => Reading::Absent,
            Some(says) => Reading::Present(witness(says)),
        };
        let handover = |number: u64, exists: bool| match exists {
            _ if self.witnesses_unreadable => Reading::Unreadable("timeout".into()),
            false => Reading::Absent,
            true => Reading::Present(HandoverWitness {
                name: prod(),
                epoch: epoch(number),
                handover: handover_of(number),
                documents: Vec::new(),
            }),
        };
        let [one, two] = self.cluster.handed_over;
        let handovers = BTreeMap::from([
            (epoch(1), handover(1, one)),
            (epoch(2), handover(2, two)),
            (epoch(3), handover(3, false)),
        ]);
        Evidence { authority, handovers, ..Evidence::none() }
    }

    /// K as somebody would see it who can read everything and remembers nothing.
    fn truth(&self) -> Holder {
        Self { authority_unreadable: false, witnesses_unreadable: false, ..self.clone() }.evidence().holder()
    }

    /// The highest epoch that any witness gives to Vault now.
    fn vault_now(&self) -> u64 {
        let by_authority = match self.cluster.authority {
            Some(Says::Vault(number)) => number,
            Some(Says::Git(_)) | None => 0,
        };
        let [one, two] = self.cluster.handed_over;
        by_authority.max(u64::from(one)).max(if two { 2 } else { 0 })
    }

    /// Moves the Authority if its own rules allow that.
    fn move_authority(&mut self, next: Says) -> bool {
        let current = self.cluster.authority.map(witness);
        let may = AuthorityWitness::may_follow(current.as_ref(), &witness(next)).is_ok();
        if may {
            self.cluster.authority = Some(next);
        }
        may
    }
}

impl Model for Regent {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let fresh = World {
            cluster: Cluster::default(),
            backup: None,
            records: [false; 2],
            revision: 0,
            authority_unreadable: false,
            witnesses_unreadable: false,
            doors: <[Door; 2]>::default(),
            vault_ever: 0,
            restored_before_vault: false,
            written: None,
        };
        // Deep states are started from, so that the bound on depth is spent on what may go wrong there.
        let at = |authority, handed_over, records, revision| {
            let cluster = Cluster { authority: Some(authority), handed_over };
            let mut world = World { cluster, records, revision, ..fresh.clone() };
            world.vault_ever = world.vault_now();
            world
        };
        vec![
            at(Says::Git(1), [false; 2], [false; 2], 0),
            at(Says::Vault(1), [true, false], [true, false], 1),
            at(Says::Git(2), [true, false], [true, false], 2),
            at(Says::Vault(2), [true; 2], [true; 2], 4),
            fresh,
        ]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        steps.extend((0..REVISIONS.len()).filter(|revision| *revision != world.revision).map(Step::Checkout));
        steps.extend([
            Step::Init,
            Step::Record,
            Step::MirrorWitness,
            Step::MirrorAuthority,
            Step::Rebootstrap,
            Step::AuthorityOutage,
            Step::WitnessOutage,
            Step::DeleteAuthority,
            Step::Backup,
            Step::Restore,
        ]);
        for door in [0, 1] {
            steps.extend([Step::Begin(door), Step::Answer(door), Step::Restart(door)]);
        }
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut world = World { written: None, ..last.clone() };
        let bootstrap = &self.revisions[world.revision];
        let asked = u64::from(bootstrap.epoch.get());
        match step {
            Step::Checkout(revision) => world.revision = revision,
            Step::Init => {
                if last.truth() != Holder::None || bootstrap.closed_counts() || !world.move_authority(Says::Git(asked))
                {
                    return None;
                }
            }
            Step::Record => {
                let index = usize::try_from(asked - 1).unwrap();
                let evidence = last.evidence();
                if self.rule(last.revision, &evidence.holder(), &evidence) != Some(Mode::Values) || world.records[index]
                {
                    return None;
                }
                world.records[index] = true;
            }
            Step::MirrorWitness => {
                let index = usize::try_from(last.current_epoch()? - 1).unwrap();
                if !world.records[index] || world.cluster.handed_over[index] {
                    return None;
                }
                world.cluster.handed_over[index] = true;
            }
            Step::MirrorAuthority => {
                let number = last.current_epoch()?;
                let index = usize::try_from(number - 1).unwrap();
                if !world.cluster.handed_over[index] || !world.move_authority(Says::Vault(number)) {
                    return None;
                }
            }
            Step::Rebootstrap => {
                // Only where the mirror is complete, and the Git that asks supersedes exactly that handover (P3).
                let holder = last.evidence().holder();
                let Holder::Vault { epoch: held, handover, mirror: Mirror::Complete } = &holder else { return None };
                let next = Some(bootstrap.epoch) == held.next() && bootstrap.supersedes.as_ref() == Some(handover);
                if !next || !world.move_authority(Says::Git(asked)) {
                    return None;
                }
            }
            Step::AuthorityOutage => world.authority_unreadable = !world.authority_unreadable,
            Step::WitnessOutage => world.witnesses_unreadable = !world.witnesses_unreadable,
            Step::DeleteAuthority => world.cluster.authority = None,
            Step::Backup => world.backup = Some(world.cluster),
            Step::Restore => {
                world.cluster = world.backup?;
                world.restored_before_vault |= world.vault_now() < world.vault_ever;
            }
            Step::Restart(door) => world.doors[door] = Door::default(),
            Step::Begin(door) => self.begin(&mut world, door),
            Step::Answer(door) => self.answer(&mut world, door),
        }
        world.vault_ever = world.vault_ever.max(world.vault_now());
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no value by a process that has seen vault", |_, world: &World| {
                world.written.is_none_or(|it| REVISIONS[it.revision].0 > world.doors[it.door].saw_vault)
            }),
            Property::always("no value while a witness says vault", |_, world: &World| {
                world.written.is_none_or(|it| REVISIONS[it.revision].0 > world.vault_now())
            }),
            Property::always("no value after vault, but for the one exception", |_, world: &World| {
                world.written.is_none_or(|it| {
                    let (number, supersedes, closed) = REVISIONS[it.revision];
                    let reopened = closed.is_none() || closed == supersedes;
                    let exception = world.restored_before_vault && reopened && world.doors[it.door].saw_vault < number;
                    number > world.vault_ever || exception
                })
            }),
            Property::always("no value without an authority that says git", |_, world: &World| {
                world.written.is_none_or(|it| matches!(world.truth(), Holder::Git { epoch, .. } if u64::from(epoch.get()) == REVISIONS[it.revision].0))
            }),
            Property::always("one authority for all that read the same", |model: &Self, world: &World| {
                let (evidence, holder) = (world.evidence(), world.evidence().holder());
                let modes: Vec<_> =
                    (0..REVISIONS.len()).filter_map(|revision| model.rule(revision, &holder, &evidence)).collect();
                modes.windows(2).all(|pair| (pair[0] == Mode::Values) == (pair[1] == Mode::Values))
            }),
            Property::always("every state has a way out", |model: &Self, world: &World| model.has_way_out(world)),
            // Without these the ones above could hold because nothing happens.
            Property::sometimes("values of the first epoch", |_, world: &World| {
                world.written.is_some_and(|it| REVISIONS[it.revision].0 == 1 && !world.restored_before_vault)
            }),
            Property::sometimes("values of the second epoch", |_, world: &World| {
                world.written.is_some_and(|it| REVISIONS[it.revision].0 == 2 && world.vault_ever == 1)
            }),
            Property::sometimes("an authority lost, and the other witness speaks", |_, world: &World| {
                world.cluster.authority.is_none() && matches!(world.truth(), Holder::Vault { .. })
            }),
            Property::sometimes("the one exception", |_, world: &World| {
                world.written.is_some_and(|it| REVISIONS[it.revision].0 <= world.vault_ever)
            }),
        ]
    }
}

impl World {
    /// The epoch that the handover works on: the Authority's.
    fn current_epoch(&self) -> Option<u64> {
        self.cluster.authority.map(|says| match says {
            Says::Git(number) | Says::Vault(number) => number,
        })
    }
}

fn prod() -> AuthorityName {
    AuthorityName::parse("prod").unwrap()
}

fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

fn handover_of(number: u64) -> HandoverId {
    HandoverId::parse(HANDOVERS[usize::try_from(number).unwrap() - 1]).unwrap()
}

fn witness(says: Says) -> AuthorityWitness {
    let (number, holds) = match says {
        Says::Git(number) => (number, Holds::Git),
        Says::Vault(number) => (number, Holds::Vault(handover_of(number))),
    };
    let supersedes = (number > 1).then(|| handover_of(number - 1));
    AuthorityWitness { name: prod(), holds, epoch: epoch(number), supersedes, root: None, vault: None }
}

#[test]
fn no_interleaving_brings_a_value_back() {
    let checker = Regent::new().checker().threads(2).target_max_depth(DEPTH).spawn_bfs().join();
    println!(
        "{} states, {} unique, depth {}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth()
    );
    if let Some(path) = checker.discovery("the one exception") {
        println!("the one exception: {:?}", path.into_actions());
    }
    checker.assert_properties();
    assert!(checker.unique_state_count() > 10_000, "the model is alive");
}

/// Steps from each of the starting states.
const DEPTH: usize = 10;
