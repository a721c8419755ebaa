//! Imports, explored: two runs of `regent import`, of two documents or of the same, which die anywhere; Vault and etcd are
//! restored in between, and a copy is rotated. What is decided, [`regent_core::import::decide`] decides, over the record that
//! [`regent_core::handover::decide`] finds the witnesses to agree with; the order of the three writes is the command's.
//!
//! [`REMOVED`] takes one rule after another away and names the invariant that falls.

use crate::settling::world::{Seen, Witnesses};
use crate::world::{self as mirrored, Copy, Says};
use crate::{each_is_needed, explored};
use regent_core::authority::Place;
use regent_core::bootstrap::Bootstrap;
use regent_core::evidence::{ListedClass, ListedDocument, Reading};
use regent_core::handover::decide::{self, Git, OtherVault, RecordKey};
use regent_core::import::{self, Facts, ImportRefusal};
use regent_core::name::{FilePath, SecretName};
use stateright::{Model, Property};
use std::collections::BTreeMap;
use std::sync::LazyLock;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Document {
    One,
    Other,
}

/// Numbers that are counted.
const NUMBERS: usize = 3;

/// By number, from 1 on.
type List = [Option<Document>; NUMBERS];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct World {
    vault: Vault,
    snapshot: Option<Vault>,
    etcd: Etcd,
    backup: Option<Etcd>,
    runs: [Option<Run>; 2],
    /// Every document that Vault ever listed under a number, a bit each.
    ever: [u8; NUMBERS],
    /// Vault was taken back while a run was about to write.
    taken_back: bool,
    happened: Option<Happened>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Vault {
    record: bool,
    copies: [Copy; 2],
    /// `imported/<n>`.
    entries: List,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Etcd {
    witnesses: Witnesses,
    /// `status.imported`.
    status: List,
}

/// A run, and what it decided and has not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Run {
    document: Document,
    next: Option<Next>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Next {
    /// Bring the value to Vault, for an entry of this number.
    Copy(usize),
    /// Write the entry: the value is there, and the witnesses still say vault.
    Entry(usize),
    /// Add these to the status.
    Mirror(List),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Happened {
    /// The document is listed, or a person is told why not.
    Ended,
    /// An entry or a copy in Vault was replaced.
    Overwritten,
    /// An entry of the status was replaced.
    Replaced,
    /// An entry was written, and Vault has no copy.
    Uncopied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Begin(usize, Document),
    /// A run reads all of it, and decides.
    Look(usize),
    /// It does what it decided.
    Act(usize),
    Crash(usize),
    /// Vault's operator writes a newer value there.
    Rotate(Document),
    Snapshot,
    RestoreVault,
    NewVault,
    Backup,
    Restore,
    /// `verify` mirrors the handover again.
    Verify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// After each write all lists are read again.
    ReadAgain,
    /// A document that is listed is not imported again.
    ListedIsDone,
    /// Vault's keys are written with `cas=0`.
    CheckAndSet,
    /// A copy that differs is a stop.
    DifferentIsAStop,
    /// Nothing is imported while the status lists what Vault does not.
    LostIsAStop,
    /// What the status lists stays.
    StatusStays,
    /// The value is in Vault before its entry.
    CopyFirst,
    /// The entry is in Vault before its mirror.
    EntryFirst,
}

const MIRRORED: &str = "the status lists under a number what vault listed under it";
const AGREE: &str = "the status and vault list one document under a number";
const ONCE: &str = "no document is imported twice";
const COPIED: &str = "no document is listed of which vault has no copy";
const OVERWRITTEN: &str = "nothing in vault is overwritten";
const GROWS: &str = "the list only grows";
const ENDS: &str = "every import ends, once the world is at rest: listed, or with a word to a person";

type Invariant = (&'static str, fn(&Importing, &World) -> bool);

/// Between what a run reads and what it writes Vault may be taken back, and `cas=0` does not see that. What can come of it is
/// a stop for a person, and a copy that `verify` names as missing.
const INVARIANTS: [Invariant; 7] = [
    (MIRRORED, |_, world| {
        let listed = world.etcd.status.iter().zip(world.ever);
        listed.into_iter().all(|(document, ever)| document.is_none_or(|document| ever & bit(document) != 0))
    }),
    (AGREE, |_, world| {
        let mut both = world.etcd.status.iter().zip(world.vault.entries);
        both.all(|(status, vault)| status.is_none() || vault.is_none() || *status == vault) || world.taken_back
    }),
    (ONCE, |_, world| {
        let count = |document| world.vault.entries.iter().filter(|entry| **entry == Some(document)).count();
        count(Document::One) <= 1 && count(Document::Other) <= 1 || world.taken_back
    }),
    (COPIED, |_, world| world.happened != Some(Happened::Uncopied) || world.taken_back),
    (OVERWRITTEN, |_, world| world.happened != Some(Happened::Overwritten)),
    (GROWS, |_, world| world.happened != Some(Happened::Replaced)),
    (ENDS, Importing::ends),
];

const BOTH: Invariant =
    ("both documents are imported", |_, world| world.etcd.status[1].is_some() && world.etcd.status[0].is_some());
const BEHIND: Invariant = ("a vault that lists less than the status", |_, world| {
    world.etcd.status[0].is_some() && world.vault.entries[0].is_none()
});
const TAKEN_BACK: Invariant =
    ("an entry without a copy, by a vault that was taken back between the two", |_, world| {
        world.happened == Some(Happened::Uncopied)
    });

fn bit(document: Document) -> u8 {
    1 << document as u8
}

struct Importing {
    removed: Option<Rule>,
    reached: Vec<Invariant>,
}

impl Importing {
    fn stands(&self, rule: Rule) -> bool {
        self.removed != Some(rule)
    }

    /// A run for either document, alone in a world where nothing is taken back any more.
    fn ends(&self, world: &World) -> bool {
        [Document::One, Document::Other].into_iter().all(|document| {
            let mut world = World { runs: [Some(Run { document, next: None }), None], ..*world };
            (0..2 * WRITES).any(|_| {
                for step in [Step::Look(0), Step::Act(0)] {
                    world = self.next_state(&world, step).unwrap_or(world);
                    if world.happened == Some(Happened::Ended) {
                        return true;
                    }
                }
                false
            })
        })
    }

    /// The real functions decide.
    fn look(&self, world: &mut World, at: usize) -> Option<()> {
        let run = world.runs[at].filter(|run| run.next.is_none())?;
        let in_vault: Vec<ListedDocument> = world.vault.entries.iter().map_while(|entry| entry.map(listed)).collect();
        let numbered = (1..).zip(world.etcd.status).filter_map(|(number, document)| Some((number, listed(document?))));
        let is_kept =
            |number: u32| self.stands(Rule::LostIsAStop) || usize::try_from(number).unwrap() <= in_vault.len();
        let in_status: BTreeMap<u32, ListedDocument> = numbered.filter(|(number, _)| is_kept(*number)).collect();
        let document = listed(run.document);
        let name = if self.stands(Rule::ListedIsDone) { &document.name } else { &named("never") };
        world.runs[at] = match decided(world, name, &in_vault, &in_status) {
            Some(Ok(import::Step::Copy(importation))) => {
                let number = usize::try_from(importation.number()).unwrap() - 1;
                let next = if self.stands(Rule::CopyFirst) { Next::Copy(number) } else { Next::Entry(number) };
                // More are not counted.
                (number < NUMBERS).then_some(Run { next: Some(next), ..run })
            }
            Some(Ok(import::Step::Mirror(missing))) => {
                let mut list = [None; NUMBERS];
                for number in missing.keys().map(|number| usize::try_from(*number).unwrap() - 1) {
                    list[number] = world.vault.entries[number];
                }
                Some(Run { next: Some(Next::Mirror(list)), ..run })
            }
            Some(Ok(import::Step::Done(_)) | Err(_)) | None => {
                world.happened = Some(Happened::Ended);
                None
            }
        };
        Some(())
    }

    fn act(&self, world: &mut World, at: usize) -> Option<()> {
        let mut run = world.runs[at]?;
        let document = run.document;
        match run.next.take()? {
            Next::Copy(number) => {
                let copy = &mut world.vault.copies[document as usize];
                match *copy {
                    Copy::Absent => *copy = Copy::FromGit,
                    Copy::FromGit => {}
                    Copy::Rotated if !self.stands(Rule::DifferentIsAStop) => {
                        world.runs[at] = Some(run);
                        return Some(());
                    }
                    Copy::Rotated if self.stands(Rule::CheckAndSet) => {
                        // It differs: a person decides.
                        (world.runs[at], world.happened) = (None, Some(Happened::Ended));
                        return Some(());
                    }
                    Copy::Rotated => {
                        *copy = Copy::FromGit;
                        world.happened = Some(Happened::Overwritten);
                    }
                }
                // Who rules is asked once more.
                if world.etcd.witnesses == Witnesses::Vault {
                    let entry_first = self.stands(Rule::EntryFirst);
                    run.next =
                        Some(if entry_first { Next::Entry(number) } else { Next::Mirror(only(number, document)) });
                }
            }
            Next::Entry(number) => {
                let entry = &mut world.vault.entries[number];
                if entry.is_none() || !self.stands(Rule::CheckAndSet) {
                    world.happened = if entry.is_some_and(|there| there != document) {
                        Some(Happened::Overwritten)
                    } else if world.vault.copies[document as usize] == Copy::Absent {
                        Some(Happened::Uncopied)
                    } else {
                        None
                    };
                    *entry = Some(document);
                    world.ever[number] |= bit(document);
                }
                if !self.stands(Rule::ReadAgain) {
                    run.next = Some(Next::Mirror(only(number, document)));
                }
            }
            Next::Mirror(missing) => {
                for (noted, new) in world.etcd.status.iter_mut().zip(missing) {
                    let Some(new) = new else { continue };
                    if noted.is_none() || !self.stands(Rule::StatusStays) {
                        if noted.is_some_and(|noted| noted != new) {
                            world.happened = Some(Happened::Replaced);
                        }
                        *noted = Some(new);
                    }
                }
            }
        }
        world.runs[at] = Some(run);
        Some(())
    }
}

/// Writes of an import, with another one before it.
const WRITES: usize = 4;

fn only(number: usize, document: Document) -> List {
    let mut list = [None; NUMBERS];
    list[number] = Some(document);
    list
}

fn listed(document: Document) -> ListedDocument {
    let name = match document {
        Document::One => "one",
        Document::Other => "other",
    };
    ListedDocument {
        path: FilePath::parse(&format!("{name}.yaml")).unwrap(),
        name: named(name),
        kind: "Secret".to_owned(),
        class: ListedClass::Handover,
        blob: "2".repeat(40),
    }
}

fn named(name: &str) -> SecretName {
    SecretName::parse(&format!("app/{name}")).unwrap()
}

/// `None` where record and witnesses do not agree: a handover, or a person, goes first.
fn decided(
    world: &World,
    name: &SecretName,
    in_vault: &[ListedDocument],
    in_status: &BTreeMap<u32, ListedDocument>,
) -> Option<Result<import::Step, ImportRefusal>> {
    static BOOTSTRAP: LazyLock<Bootstrap> = LazyLock::new(|| {
        let text = b"apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\nepoch: 1\n";
        Bootstrap::parse(&FilePath::parse("regent.yaml").unwrap(), text).unwrap()
    });
    static RECORD: LazyLock<RecordKey> = LazyLock::new(|| {
        let authority = Some(Says::Vault { epoch: 1, line: 0 });
        let cluster = mirrored::Cluster { authority, handovers: [Some(0), None, None], ..<_>::default() };
        mirrored::World::new(cluster, 0, 0).record_key(1, Copy::FromGit).clone()
    });
    let Seen { evidence, holder, .. } = Seen::of(world.etcd.witnesses, false, false);
    let place = Place::default();
    if let Err(refusal) = import::admitted(&BOOTSTRAP, &place, holder, name) {
        return Some(Err(refusal));
    }
    let ground = decide::decide(&decide::Facts {
        name: &BOOTSTRAP.name,
        git: Some(Git { bootstrap: &BOOTSTRAP, place: &place, outline: None }),
        holder,
        authority: match &evidence.authority {
            Reading::Present(authority) => Some(authority),
            Reading::Absent | Reading::Unreadable(_) => None,
        },
        record: if world.vault.record { &RECORD } else { &RecordKey::Absent },
        site: mirrored::site(),
        adopt: None,
        other_vault: OtherVault::Refused,
    });
    let Ok(decide::Step::Done(marked)) = ground else { return None };
    Some(import::decide(&Facts {
        bootstrap: &BOOTSTRAP,
        place: &place,
        evidence,
        marked: &marked,
        name,
        kind: "Secret",
        in_vault,
        in_status,
        of_other_epochs: 0,
    }))
}

impl Model for Importing {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let handed = Vault { record: true, ..Vault::default() };
        let before = Etcd { witnesses: Witnesses::Git, status: [None; NUMBERS] };
        let none = World {
            vault: handed,
            snapshot: None,
            etcd: Etcd { witnesses: Witnesses::Vault, ..before },
            backup: Some(before),
            runs: [None; 2],
            ever: [0; NUMBERS],
            taken_back: false,
            happened: None,
        };
        // One document is imported, and there is a snapshot from before.
        let list = only(0, Document::One);
        let one = World {
            vault: Vault { copies: [Copy::FromGit, Copy::Absent], entries: list, ..handed },
            snapshot: Some(handed),
            etcd: Etcd { status: list, ..none.etcd },
            ever: [bit(Document::One), 0, 0],
            ..none
        };
        // ... and its mirror is missing.
        let unmirrored = World { etcd: none.etcd, ..one };
        vec![none, one, unmirrored]
    }

    fn actions(&self, _: &World, actions: &mut Vec<Step>) {
        for run in 0..2 {
            let both = [Document::One, Document::Other].map(|document| Step::Begin(run, document));
            actions.extend(both.into_iter().chain([Step::Look(run), Step::Act(run), Step::Crash(run)]));
        }
        actions.extend([Step::Rotate(Document::One), Step::Snapshot, Step::RestoreVault, Step::NewVault]);
        actions.extend([Step::Backup, Step::Restore, Step::Verify]);
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut world = World { happened: None, ..*last };
        let about_to_write = world.runs.iter().flatten().any(|run| run.next.is_some());
        match step {
            Step::Begin(run, document) => {
                if world.runs[run].is_some() {
                    return None;
                }
                world.runs[run] = Some(Run { document, next: None });
            }
            Step::Look(run) => self.look(&mut world, run)?,
            Step::Act(run) => self.act(&mut world, run)?,
            Step::Crash(run) => world.runs[run] = None,
            Step::Rotate(document) => match &mut world.vault.copies[document as usize] {
                Copy::Absent => return None,
                copy @ (Copy::FromGit | Copy::Rotated) => *copy = Copy::Rotated,
            },
            Step::Snapshot => world.snapshot = Some(world.vault),
            Step::RestoreVault => {
                world.vault = world.snapshot?;
                world.taken_back |= about_to_write;
            }
            Step::NewVault => {
                world.vault = Vault::default();
                world.taken_back |= about_to_write;
            }
            Step::Backup => world.backup = Some(world.etcd),
            Step::Restore => world.etcd = world.backup?,
            Step::Verify => {
                Seen::of(world.etcd.witnesses, false, false).decision.filter(|_| world.vault.record)?;
                world.etcd.witnesses = Witnesses::Vault;
            }
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let always = INVARIANTS.into_iter().map(|(name, holds)| Property::always(name, holds));
        always.chain(self.reached.iter().map(|(name, reached)| Property::sometimes(name, *reached))).collect()
    }
}

/// Bound of the exploration: states on a path.
const DEPTH: usize = 11;

#[test]
fn the_list_of_imports_only_grows() {
    let reached = [BOTH, BEHIND, TAKEN_BACK].to_vec();
    explored("importing", Importing { removed: None, reached }, DEPTH);
}

/// A rule, and the invariant that falls without it.
const REMOVED: [(Rule, &str); 8] = [
    (Rule::ReadAgain, MIRRORED),
    (Rule::CheckAndSet, OVERWRITTEN),
    (Rule::LostIsAStop, AGREE),
    (Rule::StatusStays, GROWS),
    (Rule::CopyFirst, COPIED),
    (Rule::EntryFirst, MIRRORED),
    (Rule::ListedIsDone, ONCE),
    (Rule::DifferentIsAStop, ENDS),
];

#[test]
fn every_rule_of_an_import_is_needed() {
    for (invariant, _) in INVARIANTS {
        assert!(REMOVED.iter().any(|(_, falls)| *falls == invariant), "nothing shows `{invariant}` broken");
    }
    each_is_needed(REMOVED, |rule| Importing { removed: Some(rule), reached: Vec::new() }, DEPTH + 1);
}
