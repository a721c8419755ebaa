//! The rows of vault.md 3.5 and 3.6, and the invariants over the whole product of inputs.

use super::*;
use crate::evidence::WitnessedVault;
use crate::handover::record::{Lost, RecordedKey};
use crate::handover::tree::tree_digest;
use crate::name::FilePath;

const H: &str = "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f";
const OTHER: &str = "1b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f";
const BEFORE: &str = "9b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f";
const CREATED: &str = "2026-11-24T08:23:28.612274215Z";

fn id(text: &str) -> HandoverId {
    HandoverId::parse(text).unwrap()
}

fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

fn prod() -> AuthorityName {
    AuthorityName::parse("prod").unwrap()
}

fn bootstrap(rest: &str) -> Bootstrap {
    let text = format!("apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\n{rest}\n");
    Bootstrap::parse(&FilePath::parse("regent.yaml").unwrap(), text.as_bytes()).unwrap()
}

fn site() -> Site {
    Site {
        vault: VaultIdentity {
            place: WitnessedVault {
                address: "https://vault:8200".to_owned(),
                namespace: String::new(),
                mount: "secret".to_owned(),
                prefix: "bootstrap/prod".to_owned(),
            },
            cluster_id: "vault-a".to_owned(),
            mount_uuid: "mount-a".to_owned(),
        },
        clusters: cluster("cluster-a"),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as a site has it")]
fn cluster(uid: &str) -> Option<Clusters> {
    Some(Clusters { witness: uid.to_owned(), target: uid.to_owned() })
}

fn in_cluster(uid: &str) -> Site {
    Site { clusters: cluster(uid), ..site() }
}

fn at_vault(change: fn(&mut VaultIdentity)) -> Site {
    let mut other = site();
    change(&mut other.vault);
    other
}

fn document(name: &str) -> ListedDocument {
    ListedDocument {
        path: FilePath::parse("db.yaml").unwrap(),
        name: SecretName::parse(name).unwrap(),
        kind: "Secret".to_owned(),
        class: ListedClass::Handover,
        blob: "1".repeat(40),
    }
}

fn record() -> Record {
    let documents = vec![document("app/db")];
    Record {
        name: prod(),
        epoch: Epoch::FIRST,
        supersedes: None,
        handover: id(H),
        root: Some("prod".to_owned()),
        site: site(),
        git_commit: "a".repeat(40),
        tree_digest: tree_digest(documents.iter().map(|it| (&it.path, it.blob.as_str()))),
        records: vec![RecordedKey {
            name: SecretName::parse("app/db").unwrap(),
            version: 1,
            created_time: CREATED.to_owned(),
        }],
        documents,
        regent_version: "0.1.0".to_owned(),
    }
}

fn found(record: Record) -> Found {
    let kept = |key: &RecordedKey| {
        (key.name.clone(), KeyNow::Present { version: key.version, created_time: key.created_time.clone() })
    };
    let keys = record.records.iter().map(kept).collect();
    let marked = Marked { record, version: 1, created_time: CREATED.to_owned() };
    Found { marked, adopted: None, rebound: Vec::new(), keys }
}

fn present(found: Found) -> RecordKey {
    RecordKey::Present(Box::new(found))
}

fn amendment(site: Site) -> Amendment {
    Amendment { name: prod(), epoch: Epoch::FIRST, handover: id(H), site }
}

fn outline() -> Outline {
    let Record { tree_digest, documents, .. } = record();
    Outline { tree_digest, copied: documents.iter().map(|it| it.name.clone()).collect(), documents }
}

fn git(number: u64, supersedes: Option<&str>) -> Holder {
    Holder::Git { epoch: epoch(number), supersedes: supersedes.map(id) }
}

fn vault(number: u64, handover: &str, mirror: Mirror) -> Holder {
    Holder::Vault { epoch: epoch(number), handover: id(handover), mirror }
}

/// One question, with everything as it is on a good day; a row changes what it is about.
#[derive(Clone)]
struct Case {
    holder: Holder,
    /// Another Authority than the one that `holder` comes from.
    authority: Option<AuthorityWitness>,
    record: RecordKey,
    bootstrap: Option<Bootstrap>,
    root: &'static str,
    outline: Option<Outline>,
    site: Site,
    adopt: Option<HandoverId>,
    other_vault: OtherVault,
}

impl Case {
    /// Git rules epoch 1, and Vault is empty.
    fn first() -> Self {
        Self {
            holder: git(1, None),
            authority: None,
            record: RecordKey::Absent,
            bootstrap: Some(bootstrap("epoch: 1")),
            root: "prod",
            outline: Some(outline()),
            site: site(),
            adopt: None,
            other_vault: OtherVault::Refused,
        }
    }

    /// The record is there, and was not mirrored.
    fn crashed() -> Self {
        Self { record: present(found(record())), ..Self::first() }
    }

    /// Vault rules.
    fn handed_over() -> Self {
        Self { holder: vault(1, H, Mirror::Complete), outline: None, ..Self::crashed() }
    }

    fn decide(&self) -> Result<Step, Stop> {
        let place = Place { root: Some(self.root.to_owned()), ..Place::default() };
        decide(&Facts {
            name: &prod(),
            git: self.bootstrap.as_ref().map(|it| Git { bootstrap: it, place: &place, outline: self.outline.as_ref() }),
            holder: &self.holder,
            authority: self.authority.clone().or_else(|| self.authority()).as_ref(),
            record: &self.record,
            site: &self.site,
            adopt: self.adopt.as_ref(),
            other_vault: self.other_vault,
        })
    }

    /// The Authority that says what `holder` is: with an incomplete mirror it is behind its `ConfigMap`.
    fn authority(&self) -> Option<AuthorityWitness> {
        let (epoch, supersedes, handover) = match &self.holder {
            Holder::Git { epoch, supersedes } => (*epoch, supersedes.clone(), None),
            Holder::Vault { epoch, handover, mirror } => {
                let supersedes = match &self.record {
                    RecordKey::Present(found) => found.marked.record.supersedes.clone(),
                    RecordKey::Absent | RecordKey::Deleted | RecordKey::Unreadable(_) => None,
                };
                (*epoch, supersedes, (*mirror == Mirror::Complete).then(|| handover.clone()))
            }
            Holder::None | Holder::Disagree(_) | Holder::Unreadable(_) => return None,
        };
        let handed_over = Record {
            epoch,
            supersedes,
            handover: handover.clone().unwrap_or(id(H)),
            site: self.site.clone(),
            ..record()
        };
        let (_, witness) = handed_over.witnesses(1, CREATED);
        Some(match handover {
            Some(_) => witness,
            None => AuthorityWitness { holds: Holds::Git, record: None, no_vault_yet: true, ..witness },
        })
    }

    fn stop(&self) -> Stop {
        self.decide().unwrap_err()
    }

    /// The step's name.
    fn step(&self) -> &'static str {
        named(&self.decide().unwrap())
    }
}

fn named(step: &Step) -> &'static str {
    match step {
        Step::Copy(_) => "copy",
        Step::Mirror(_) => "mirror",
        Step::Complete(_) => "complete",
        Step::Done(_) => "done",
        Step::Adopt(_) => "adopt",
        Step::Rebind(..) => "rebind",
        Step::NotYet => "not yet",
    }
}

// ---- vault.md 3.5, row by row

#[test]
fn absent_and_git_is_a_full_run() {
    assert_eq!(Case::first().step(), "copy");
    let second = Case {
        holder: git(2, Some(BEFORE)),
        bootstrap: Some(bootstrap(&format!("epoch: 2\nsupersedes: {BEFORE}\nclosed: {BEFORE}"))),
        ..Case::first()
    };
    assert_eq!(second.step(), "copy");
}

#[test]
fn present_and_git_resumes() {
    let Step::Mirror(marked) = Case::crashed().decide().unwrap() else { panic!() };
    assert_eq!((marked.record, marked.version), (record(), 1));
}

#[test]
fn present_and_git_with_a_copy_that_is_not_as_recorded_stops() {
    let mut there = found(record());
    for (now, how) in [
        (KeyNow::Absent, Lost::Absent),
        (KeyNow::Deleted, Lost::Deleted),
        (KeyNow::Present { version: 1, created_time: "another".to_owned() }, Lost::Recreated),
    ] {
        there.keys.insert(SecretName::parse("app/db").unwrap(), now);
        let stop = Case { record: present(there.clone()), ..Case::crashed() }.stop();
        assert!(matches!(&stop, Stop::CopiesLost { losses, .. } if losses[0].how == how), "{stop}");
    }
    there
        .keys
        .insert(SecretName::parse("app/db").unwrap(), KeyNow::Present { version: 2, created_time: CREATED.to_owned() });
    assert_eq!(Case { record: present(there), ..Case::crashed() }.step(), "mirror");
}

#[test]
fn present_and_vault_is_done() {
    assert_eq!(Case::handed_over().step(), "done");
    let incomplete = Case { holder: vault(1, H, Mirror::Incomplete), ..Case::handed_over() };
    assert_eq!(incomplete.step(), "complete");
}

#[test]
fn absent_and_vault_is_authority_lost() {
    for mirror in [Mirror::Complete, Mirror::Incomplete] {
        let lost = Case { holder: vault(1, H, mirror), record: RecordKey::Absent, ..Case::handed_over() };
        assert!(matches!(lost.stop(), Stop::Lost { .. }));
        assert_eq!(lost.stop().kind(), StopKind::Person);
    }
}

#[test]
fn another_handover_and_vault_is_replaced() {
    let replaced = Case { holder: vault(1, OTHER, Mirror::Complete), ..Case::handed_over() }.stop();
    assert_eq!(replaced, Stop::Replaced { held: id(OTHER), found: id(H) });
    assert_eq!(replaced.kind(), StopKind::Person);
}

#[test]
fn present_and_another_vault_stops_unless_a_person_accepts_it() {
    let changes: [fn(&mut VaultIdentity); 5] = [
        |it| it.cluster_id = "vault-b".to_owned(),
        |it| it.mount_uuid = "mount-b".to_owned(),
        |it| it.place.address = "https://other:8200".to_owned(),
        |it| it.place.mount = "kv".to_owned(),
        |it| it.place.namespace = "team".to_owned(),
    ];
    for change in changes {
        for case in [Case::crashed(), Case::handed_over()] {
            let other = Case { site: at_vault(change), ..case };
            assert!(matches!(other.stop(), Stop::OtherVault { .. }));
            let accepted = Case { other_vault: OtherVault::Accepted, ..other };
            let Step::Rebind(1, appended) = accepted.decide().unwrap() else { panic!() };
            assert_eq!(*appended, amendment(at_vault(change)));
            // It counts from then on, without the flag.
            let mut there = found(record());
            there.rebound.push(*appended);
            let again = Case { record: present(there), other_vault: OtherVault::Refused, ..accepted };
            assert!(["mirror", "done"].contains(&again.step()));
        }
    }
}

#[test]
fn a_deleted_record_is_tampering() {
    for holder in [git(1, None), vault(1, H, Mirror::Complete), Holder::None] {
        let stop = Case { holder, record: RecordKey::Deleted, ..Case::first() }.stop();
        assert_eq!((stop.kind(), stop), (StopKind::Person, Stop::RecordDeleted { epoch: Epoch::FIRST }));
    }
}

#[test]
fn an_unreadable_record_changes_nothing() {
    for holder in [git(1, None), vault(1, H, Mirror::Complete), Holder::None] {
        let record = RecordKey::Unreadable("it is sealed (503)".to_owned());
        let stop = Case { holder, record, ..Case::first() }.stop();
        assert!(matches!(stop, Stop::RecordUnreadable { .. }));
        assert_eq!(stop.kind(), StopKind::Unknown);
    }
}

#[test]
fn present_and_another_cluster_stops_unless_a_person_adopts_it() {
    for holder in [git(1, None), Holder::None] {
        let outline = (holder != Holder::None).then(outline);
        let rebuilt = Case { holder, outline, site: in_cluster("cluster-b"), ..Case::crashed() };
        assert!(matches!(rebuilt.stop(), Stop::OtherCluster { .. }));
        let wrong = Case { adopt: Some(id(OTHER)), ..rebuilt.clone() };
        assert_eq!(wrong.stop(), Stop::OtherHandover { given: id(OTHER), found: id(H) });
        let adopting = Case { adopt: Some(id(H)), ..rebuilt };
        let Step::Adopt(appended) = adopting.decide().unwrap() else { panic!() };
        assert_eq!(*appended, amendment(in_cluster("cluster-b")));
        // Appended, and cut off: the next run needs no flag, and mirrors what this cluster is.
        let there = Found { adopted: Some(*appended), ..found(record()) };
        let again = Case { record: present(there), adopt: None, ..adopting };
        let Step::Mirror(marked) = again.decide().unwrap() else { panic!() };
        assert_eq!(marked.witnesses().1.clusters, cluster("cluster-b"));
        assert_eq!(marked.record, Record { site: in_cluster("cluster-b"), ..record() });
    }
}

// ---- vault.md 3.6, what 3.5 does not say

#[test]
fn witnesses_deleted_in_a_living_cluster_come_back_from_the_record() {
    assert_eq!(Case { holder: Holder::None, outline: None, ..Case::crashed() }.step(), "mirror");
}

#[test]
fn no_witness_and_no_record_is_for_init() {
    let stop = Case { holder: Holder::None, outline: None, ..Case::first() }.stop();
    assert!(matches!(stop, Stop::Authority(AuthorityRefusal::NoAuthority { .. })));
    assert_eq!(stop.kind(), StopKind::Unknown);
}

#[test]
fn git_rolled_back_after_the_handover_is_done() {
    let older = Case {
        holder: vault(2, OTHER, Mirror::Complete),
        record: present(found(Record {
            epoch: epoch(2),
            supersedes: Some(id(BEFORE)),
            handover: id(OTHER),
            ..record()
        })),
        ..Case::handed_over()
    };
    assert_eq!(epoch_to_read(&older.holder, older.bootstrap.as_ref()), Some(epoch(2)));
    assert_eq!(older.step(), "done");
}

#[test]
fn two_roots_with_one_name_stop() {
    for case in [Case::crashed(), Case::handed_over()] {
        assert!(matches!(Case { root: "staging", ..case }.stop(), Stop::OtherRoot { .. }));
    }
}

/// kubernetes.md 3: a `ConfigMap` is immutable, so a record that the Authority cannot become is not half mirrored.
#[test]
fn a_record_that_the_authority_cannot_become_is_not_mirrored() {
    let alone = Case { bootstrap: None, outline: None, ..Case::crashed() };
    for case in [Case::crashed(), alone] {
        let authority = case.authority().unwrap();
        let other_root = AuthorityWitness { root: Some("staging".to_owned()), ..authority.clone() };
        let other_cluster = AuthorityWitness { clusters: cluster("cluster-b"), ..authority };
        for authority in [other_root, other_cluster] {
            let stop = Case { authority: Some(authority), ..case.clone() }.stop();
            assert!(matches!(stop, Stop::Disagree { .. }), "{stop}");
        }
    }
    let mut forged = Case::handed_over().authority().unwrap();
    forged.record.as_mut().unwrap().tree_digest = "0".repeat(64);
    assert!(matches!(Case { authority: Some(forged), ..Case::handed_over() }.stop(), Stop::Disagree { .. }));
}

/// What was rebound after the mirror does not change an Authority that is final.
#[test]
fn an_authority_that_says_vault_stays_as_it_is() {
    let moved = at_vault(|it| it.cluster_id = "vault-b".to_owned());
    let there = Found { rebound: vec![amendment(moved.clone())], ..found(record()) };
    let mirrored = Case::handed_over().authority();
    let case = Case { record: present(there), site: moved, authority: mirrored.clone(), ..Case::handed_over() };
    let Step::Done(marked) = case.decide().unwrap() else { panic!() };
    assert_eq!(Some(marked.witnesses().1), mirrored);
}

#[test]
fn another_prefix_stops_whatever_a_person_accepts() {
    let other = Case { site: at_vault(|it| it.place.prefix = "elsewhere".to_owned()), ..Case::crashed() };
    for other_vault in [OtherVault::Refused, OtherVault::Accepted] {
        assert!(matches!(Case { other_vault, ..other.clone() }.stop(), Stop::OtherPrefix { .. }));
    }
}

#[test]
fn a_store_in_a_folder_adopts_no_clusters_record() {
    let folder = Case { site: Site { clusters: None, ..site() }, ..Case::crashed() };
    assert!(matches!(folder.stop(), Stop::OtherCluster { .. }));
    assert!(matches!(Case { adopt: Some(id(H)), ..folder }.stop(), Stop::NoCluster { .. }));
}

// ---- architecture.md 1.2 and 1.6

#[test]
fn a_closed_epoch_and_another_epoch_are_not_copied() {
    for text in [format!("epoch: 1\nclosed: {H}"), format!("epoch: 2\nsupersedes: {H}")] {
        let stop = Case { bootstrap: Some(bootstrap(&text)), ..Case::first() }.stop();
        assert!(matches!(stop, Stop::Authority(AuthorityRefusal::Mismatch { .. })), "{stop}");
        assert_eq!(stop.kind(), StopKind::Refused);
        // But what was recorded is not forgotten for it.
        let stop = Case { bootstrap: Some(bootstrap(&text)), outline: None, ..Case::crashed() }.stop();
        assert!(matches!(stop, Stop::NotMirrored { .. }), "{stop}");
        assert_eq!(stop.kind(), StopKind::Underway);
    }
}

#[test]
fn a_lost_vault_and_the_next_epoch_is_for_rebootstrap() {
    let asked = Some(bootstrap(&format!("epoch: 2\nsupersedes: {H}")));
    let lost = Case { record: RecordKey::Absent, bootstrap: asked, ..Case::handed_over() };
    assert!(matches!(lost.stop(), Stop::Authority(AuthorityRefusal::NextEpoch { .. })));
}

#[test]
fn adopting_from_an_empty_vault_copies_nothing() {
    let early = Case { adopt: Some(id(H)), ..Case::first() };
    assert_eq!(early.stop(), Stop::NothingToAdopt { given: id(H) });
    assert_eq!(early.stop().kind(), StopKind::BeforeRecord);
}

#[test]
fn without_git_verify_mirrors_and_never_copies() {
    let alone = |case: Case| Case { bootstrap: None, outline: None, ..case };
    assert_eq!(alone(Case::first()).step(), "not yet");
    assert_eq!(alone(Case::crashed()).step(), "mirror");
    assert_eq!(alone(Case::handed_over()).step(), "done");
    assert!(matches!(
        alone(Case { holder: Holder::None, ..Case::crashed() }).stop(),
        Stop::Authority(AuthorityRefusal::NoAuthority { .. })
    ));
}

#[test]
fn only_the_record_of_this_plan_is_resumed_or_adopted() {
    let adopting = Case { site: in_cluster("cluster-b"), adopt: Some(id(H)), ..Case::crashed() };
    for case in [Case::crashed(), adopting] {
        let other_tree = Outline { tree_digest: "0".repeat(64), ..outline() };
        let stop = Case { outline: Some(other_tree), ..case.clone() }.stop();
        assert!(matches!(&stop, Stop::OtherTree { commit, .. } if *commit == "a".repeat(40)), "{stop}");
        assert_eq!(stop.kind(), StopKind::Underway);
        assert!(matches!(Case { outline: None, ..case.clone() }.stop(), Stop::OtherTree { .. }));
        let more = SecretName::parse("app/more").unwrap();
        let mut other_copies = outline();
        other_copies.copied = [more.clone()].into();
        let expected = Stop::PlanDiffers {
            handover: id(H),
            missing: vec![more],
            foreign: vec![SecretName::parse("app/db").unwrap()],
        };
        assert_eq!(Case { outline: Some(other_copies), ..case.clone() }.stop(), expected);
        let mut other_class = outline();
        other_class.documents[0].class = ListedClass::Permanent;
        assert!(matches!(Case { outline: Some(other_class), ..case }.stop(), Stop::PlanDiffers { .. }));
    }
}

#[test]
fn a_record_that_was_written_twice_or_is_of_another_epoch_stops() {
    let mut twice = found(record());
    twice.marked.version = 2;
    assert!(matches!(
        Case { record: present(twice), ..Case::crashed() }.stop(),
        Stop::RecordRewritten { version: 2, .. }
    ));
    let second = Record { epoch: epoch(2), supersedes: Some(id(BEFORE)), ..record() };
    assert!(matches!(Case { record: present(found(second.clone())), ..Case::crashed() }.stop(), Stop::Disagree { .. }));
    let superseding = Case {
        holder: git(2, Some(OTHER)),
        bootstrap: Some(bootstrap(&format!("epoch: 2\nsupersedes: {OTHER}"))),
        record: present(found(second)),
        ..Case::crashed()
    };
    assert!(matches!(superseding.stop(), Stop::Disagree { .. }));
    let rebuilt = Case { holder: Holder::None, outline: None, ..superseding };
    assert!(matches!(rebuilt.stop(), Stop::Disagree { .. }));
    let mut foreign = found(record());
    foreign.rebound.push(Amendment { handover: id(OTHER), ..amendment(site()) });
    assert!(matches!(Case { record: present(foreign), ..Case::crashed() }.stop(), Stop::Disagree { .. }));
}

// ---- the whole product

fn every_case(mut look: impl FnMut(&Case)) -> usize {
    let second = || Record { epoch: epoch(2), supersedes: Some(id(H)), handover: id(OTHER), ..record() };
    let rewritten = Found { marked: Marked { version: 2, ..found(record()).marked }, ..found(record()) };
    let lost = Found { keys: BTreeMap::new(), ..found(record()) };
    let adopted = Found { adopted: Some(amendment(in_cluster("cluster-b"))), ..found(record()) };
    let moved = || at_vault(|it| it.cluster_id = "vault-b".to_owned());
    let rebound = Found { rebound: vec![amendment(moved())], ..found(record()) };
    let folder = Site { clusters: None, ..site() };
    let records = [
        RecordKey::Absent,
        RecordKey::Deleted,
        RecordKey::Unreadable("timeout".to_owned()),
        present(found(record())),
        present(found(Record { handover: id(OTHER), ..record() })),
        present(found(second())),
        present(found(Record { site: folder.clone(), ..record() })),
        present(rewritten),
        present(lost),
        present(adopted),
        present(rebound),
    ];
    let holders = [
        Holder::None,
        git(1, None),
        git(2, Some(H)),
        git(2, Some(OTHER)),
        vault(1, H, Mirror::Complete),
        vault(1, H, Mirror::Incomplete),
        vault(1, OTHER, Mirror::Complete),
        vault(2, OTHER, Mirror::Complete),
        Holder::Disagree("two".to_owned()),
        Holder::Unreadable("timeout".to_owned()),
    ];
    let bootstraps = [
        None,
        Some(bootstrap("epoch: 1")),
        Some(bootstrap(&format!("epoch: 1\nclosed: {H}"))),
        Some(bootstrap(&format!("epoch: 2\nsupersedes: {H}"))),
        Some(bootstrap(&format!("epoch: 2\nsupersedes: {H}\nclosed: {H}"))),
        Some(bootstrap(&format!("epoch: 3\nsupersedes: {H}"))),
    ];
    let outlines = [None, Some(outline()), Some(Outline { tree_digest: "0".repeat(64), ..outline() })];
    let sites = [
        site(),
        in_cluster("cluster-b"),
        moved(),
        at_vault(|it| it.mount_uuid = "mount-b".to_owned()),
        at_vault(|it| it.place.prefix = "elsewhere".to_owned()),
        folder,
    ];
    let mut count = 0;
    for record in &records {
        for holder in &holders {
            for bootstrap in &bootstraps {
                for outline in &outlines {
                    for site in &sites {
                        for adopt in [None, Some(id(H)), Some(id(OTHER))] {
                            for other_vault in [OtherVault::Refused, OtherVault::Accepted] {
                                for root in ["prod", "staging"] {
                                    count += 1;
                                    look(&Case {
                                        holder: holder.clone(),
                                        authority: None,
                                        record: record.clone(),
                                        bootstrap: bootstrap.clone(),
                                        root,
                                        outline: outline.clone(),
                                        site: site.clone(),
                                        adopt: adopt.clone(),
                                        other_vault,
                                    });
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    count
}

#[test]
fn the_invariants_hold_for_every_question() {
    let mut steps = BTreeMap::new();
    let count = every_case(|case| {
        let decided = case.decide();
        let what = || format!("{} {:?} {decided:?}", case.holder, case.record);
        let found = match &case.record {
            RecordKey::Present(found) => Some(&**found),
            RecordKey::Absent | RecordKey::Deleted | RecordKey::Unreadable(_) => None,
        };
        let git = match &case.holder {
            Holder::Git { epoch, supersedes } => Some((*epoch, supersedes)),
            Holder::None | Holder::Vault { .. } | Holder::Disagree(_) | Holder::Unreadable(_) => None,
        };
        *steps.entry(decided.as_ref().map_or("stop", named)).or_insert(0) += 1;
        match &decided {
            Ok(Step::Copy(_)) => {
                assert_eq!(case.record, RecordKey::Absent, "{}", what());
                let (epoch, supersedes) = git.unwrap();
                let bootstrap = case.bootstrap.as_ref().unwrap();
                assert_eq!((bootstrap.epoch, &bootstrap.supersedes), (epoch, supersedes), "{}", what());
                assert!(!bootstrap.closed_counts() && case.outline.is_some() && case.adopt.is_none(), "{}", what());
            }
            Ok(Step::NotYet) => {
                assert!(git.is_some() && case.bootstrap.is_none() && case.record == RecordKey::Absent, "{}", what());
            }
            Ok(Step::Mirror(marked)) => {
                assert!(git.is_some() || case.holder == Holder::None, "{}", what());
                assert_seen_from_here(case, found.unwrap(), marked);
                assert!(marked.record.losses(&found.unwrap().keys).is_empty(), "{}", what());
                // With Git's word it is the record of this plan; K none is where nothing may be opened.
                let same = case.outline.as_ref().map(|it| it.tree_digest == marked.record.tree_digest);
                let without = case.bootstrap.is_none() || case.holder == Holder::None;
                assert!(case.bootstrap.is_none() || same.unwrap_or(without), "{}", what());
            }
            Ok(Step::Complete(marked) | Step::Done(marked)) => {
                let Holder::Vault { handover, .. } = &case.holder else { panic!("{}", what()) };
                assert_eq!(*handover, marked.record.handover, "{}", what());
                assert_seen_from_here(case, found.unwrap(), marked);
            }
            Ok(Step::Adopt(appended)) => {
                assert_eq!(case.adopt.as_ref(), Some(&appended.handover), "{}", what());
                assert!(appended.site.clusters.is_some(), "{}", what());
                assert_eq!(found.unwrap().marked.record.handover, appended.handover, "{}", what());
            }
            Ok(Step::Rebind(number, appended)) => {
                assert_eq!(case.other_vault, OtherVault::Accepted, "{}", what());
                assert_eq!(*number, found.unwrap().rebound.len() + 1);
                assert_eq!(found.unwrap().marked.record.handover, appended.handover, "{}", what());
            }
            Err(stop) => {
                let text = stop.to_string();
                assert!(!text.is_empty() && !text.contains('\n') && !text.ends_with('.'), "{text}");
            }
        }
        // Nothing is decided on what is not known.
        match (&case.holder, &case.record) {
            (Holder::Disagree(_) | Holder::Unreadable(_), _)
            | (_, RecordKey::Deleted | RecordKey::Unreadable(_))
            | (Holder::None | Holder::Vault { .. }, RecordKey::Absent) => assert!(decided.is_err(), "{}", what()),
            (Holder::Vault { handover, .. }, RecordKey::Present(found)) => {
                assert!(*handover == found.marked.record.handover || decided.is_err(), "{}", what());
            }
            (Holder::None | Holder::Git { .. }, RecordKey::Present(_)) | (Holder::Git { .. }, RecordKey::Absent) => {}
        }
    });
    assert_eq!(count, 11 * 10 * 6 * 3 * 6 * 3 * 2 * 2);
    let all = ["adopt", "complete", "copy", "done", "mirror", "not yet", "rebind", "stop"];
    assert_eq!(steps.keys().copied().collect::<Vec<_>>(), all);
}

/// The record is of this Vault and these clusters, by itself or by what a person appended.
fn assert_seen_from_here(case: &Case, found: &Found, marked: &Marked) {
    let record = &found.marked.record;
    assert_eq!(marked.record, Record { site: case.site.clone(), ..record.clone() });
    let is_rebound = found.rebound.iter().any(|it| it.site.vault == case.site.vault);
    let is_adopted = found.adopted.iter().any(|it| it.site.clusters == case.site.clusters);
    assert!(record.site.vault == case.site.vault || is_rebound);
    assert!(record.site.clusters == case.site.clusters || is_adopted);
}

#[test]
fn every_stop_has_a_kind_that_a_shell_can_tell() {
    let mut kinds = Vec::new();
    every_case(|case| {
        if let Err(stop) = case.decide() {
            let kind = stop.kind();
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
    });
    assert_eq!(kinds.len(), 5, "{kinds:?}");
}
