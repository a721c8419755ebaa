use super::*;
use crate::cluster::authority::{Heartbeat, Settled};
use regent_core::evidence::{Holder, Holds, ListedClass, ListedDocument, Mirror};
use regent_core::name::{FilePath, HandoverId, SecretName};
use std::os::unix::fs::PermissionsExt as _;

const H1: &str = "6f1c7f0e-3d0b-4a44-9d57-0c1c5a4f5b11";
const H2: &str = "0b6f6f54-5df0-4b6a-8a53-7b1f0f0c9d22";

fn name() -> AuthorityName {
    AuthorityName::parse("prod").unwrap()
}

fn id(text: &str) -> HandoverId {
    HandoverId::parse(text).unwrap()
}

fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

fn git(number: u64, supersedes: Option<&str>) -> AuthorityWitness {
    let supersedes = supersedes.map(id);
    AuthorityWitness {
        name: name(),
        holds: Holds::Git,
        epoch: epoch(number),
        supersedes,
        root: None,
        vault: None,
        clusters: None,
        no_vault_yet: false,
        record: None,
    }
}

fn vault(number: u64, handover: &str) -> AuthorityWitness {
    AuthorityWitness { holds: Holds::Vault(id(handover)), ..git(number, None) }
}

fn handover(number: u64, handover: &str) -> HandoverWitness {
    let document = ListedDocument {
        path: FilePath::parse("db.yaml").unwrap(),
        name: SecretName::parse("app/db").unwrap(),
        kind: "Secret".to_owned(),
        class: ListedClass::Handover,
        blob: "0".repeat(40),
    };
    HandoverWitness {
        name: name(),
        epoch: epoch(number),
        handover: id(handover),
        documents: vec![document],
        authority: None,
    }
}

/// A store with git(1), in a folder that goes with it.
fn store() -> (tempfile::TempDir, PathBuf) {
    let (around, folder) = nothing();
    Writer::open(&folder).unwrap().put(&git(1, None)).unwrap();
    (around, folder)
}

/// A place for a store.
fn nothing() -> (tempfile::TempDir, PathBuf) {
    let around = tempfile::tempdir().unwrap();
    let folder = around.path().join("store");
    (around, folder)
}

fn holder(folder: &Path) -> Holder {
    read(folder, &name()).unwrap().holder()
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    mode(path, 0o600);
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_was_put_is_read_back() {
    let (_around, folder) = store();
    assert_eq!(holder(&folder), Holder::Git { epoch: epoch(1), supersedes: None });
}

#[test]
fn another_authority_of_the_same_store_is_absent() {
    let (_around, folder) = store();
    let other = AuthorityName::parse("staging").unwrap();
    assert_eq!(read(&folder, &other).unwrap().holder(), Holder::None);
}

#[test]
fn folders_are_for_one_account_and_so_are_files() {
    let (_around, folder) = store();
    for (path, expected) in
        [("", 0o700), ("prod", 0o700), ("prod/authority.json", 0o600), ("store.json", 0o600), ("lock", 0o600)]
    {
        assert_eq!(fs::metadata(folder.join(path)).unwrap().permissions().mode() & 0o777, expected, "{path}");
    }
}

#[test]
fn a_folder_that_is_no_store_is_an_error_and_never_absence() {
    let (_around, folder) = nothing();
    assert!(read(&folder, &name()).is_err(), "missing");
    fs::create_dir(&folder).unwrap();
    assert!(read(&folder, &name()).is_err(), "empty, as a mount point without its disk is");
    fs::write(folder.join("photo.jpg"), "").unwrap();
    assert!(survey(&folder, &name()).is_err() && Writer::open(&folder).is_err(), "somebody's folder");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "and nothing is left in it");
}

#[test]
fn a_store_that_others_can_write_is_refused() {
    for open in [0o770, 0o702] {
        let (_around, folder) = store();
        mode(&folder, open);
        assert!(read(&folder, &name()).is_err() && Writer::open(&folder).is_err(), "{open:o}");
    }
}

#[test]
fn a_witness_that_others_can_write_or_that_is_a_link_is_unreadable() {
    let cases: [fn(&Path); 5] = [
        |folder| mode(&folder.join("prod"), 0o770),
        |folder| mode(&folder.join("prod/authority.json"), 0o620),
        |folder| {
            fs::rename(folder.join("prod/authority.json"), folder.join("elsewhere")).unwrap();
            std::os::unix::fs::symlink("../elsewhere", folder.join("prod/authority.json")).unwrap();
        },
        |folder| {
            fs::rename(folder.join("prod"), folder.join("elsewhere")).unwrap();
            std::os::unix::fs::symlink("elsewhere", folder.join("prod")).unwrap();
        },
        |folder| {
            fs::remove_file(folder.join("prod/authority.json")).unwrap();
            fs::create_dir(folder.join("prod/authority.json")).unwrap();
        },
    ];
    for (number, spoil) in cases.into_iter().enumerate() {
        let (_around, folder) = store();
        spoil(&folder);
        assert!(matches!(holder(&folder), Holder::Unreadable(_)), "case {number}");
        assert!(Writer::open(&folder).unwrap().put(&git(1, None)).is_err(), "case {number}");
    }
}

#[test]
fn a_damaged_witness_is_unreadable_and_is_not_overwritten() {
    for text in ["", "{", "{}", "null", "{\"schema\":2}"] {
        let (_around, folder) = store();
        let file = authority_file(&folder, &name());
        write(&file, text);
        assert!(matches!(holder(&folder), Holder::Unreadable(_)), "{text}");
        assert!(Writer::open(&folder).unwrap().put(&git(1, None)).is_err(), "{text}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
}

#[test]
fn a_handover_witness_outweighs_a_lost_authority() {
    let (_around, folder) = store();
    write(&folder.join("prod/handover-1.json"), &handover(1, H1).to_json());
    let by_vault = Holder::Vault { epoch: epoch(1), handover: id(H1), mirror: Mirror::Incomplete };
    assert_eq!(holder(&folder), by_vault);
    fs::remove_file(authority_file(&folder, &name())).unwrap();
    assert_eq!(holder(&folder), by_vault);
}

#[test]
fn a_file_of_no_known_epoch_makes_the_store_unreadable() {
    for file in ["handover-.json", "handover-01.json", "handover-0.json", "handover-1.json.bak"] {
        let (_around, folder) = store();
        write(&folder.join("prod").join(file), "{}");
        assert!(matches!(holder(&folder), Holder::Unreadable(_)), "{file}");
    }
}

#[test]
fn a_witness_under_another_epochs_name_is_unreadable() {
    let (_around, folder) = store();
    write(&folder.join("prod/handover-1.json"), &handover(2, H1).to_json());
    assert!(matches!(holder(&folder), Holder::Unreadable(_)));
}

#[test]
fn what_was_seen_since_is_evidence_of_its_handover_and_is_never_taken_back() {
    let (_around, folder) = store();
    let first = Writer::open(&folder).unwrap();
    let beat = |version| Heartbeat { epoch: 1, version, time: 0 };
    first.put_handover(&handover(1, H1)).unwrap();
    first.put(&vault(1, H1)).unwrap();
    let settle = |handover: &str| {
        let settled = Settled { epoch: 1, handover_id: handover.to_owned() };
        first.change_status(&name(), |status| status.settled = Some(settled))
    };
    assert!(!read(&folder, &name()).unwrap().is_settled());
    settle(H1).unwrap();
    assert!(read(&folder, &name()).unwrap().is_settled());
    settle(H2).unwrap_err();
    first.change_status(&name(), |status| status.settled = None).unwrap_err();
    first.change_status(&name(), |status| status.heartbeat = Some(beat(7))).unwrap();
    assert!(read(&folder, &name()).unwrap().is_settled());
    assert_eq!(status(&folder, &name()).unwrap().heartbeat, Some(beat(7)));
    // Another handover's says nothing of this one.
    let (_around, other) = store();
    let writer = Writer::open(&other).unwrap();
    writer.put(&vault(1, H2)).unwrap();
    writer
        .change_status(&name(), |status| {
            status.settled = Some(Settled { epoch: 1, handover_id: H1.to_owned() });
        })
        .unwrap();
    assert!(!read(&other, &name()).unwrap().is_settled());
    // What cannot be read is not settled either, and is not written over.
    write(&folder.join("prod/status.json"), "{");
    assert!(!read(&folder, &name()).unwrap().is_settled());
    assert!(matches!(read(&folder, &name()).unwrap().imported, Reading::Unreadable(_)));
    first.change_status(&name(), |status| status.heartbeat = Some(beat(8))).unwrap_err();
}

#[test]
fn the_authority_only_moves_one_way() {
    let steps: [(AuthorityWitness, bool); 9] = [
        (vault(1, H1), false),
        (git(1, None), true),
        (git(2, Some(H1)), false),
        (vault(1, H1), true),
        (git(1, None), false),
        (vault(1, H2), false),
        (git(2, Some(H2)), false),
        (git(2, Some(H1)), true),
        (vault(1, H1), false),
    ];
    let (_around, folder) = nothing();
    for (number, (next, allowed)) in steps.into_iter().enumerate() {
        let outcome = Writer::open(&folder).unwrap().put(&next);
        assert_eq!(outcome.is_ok(), allowed, "step {number}: {outcome:?}");
    }
}

/// The handover witness first, as a cluster has it; without one no Authority begins with vault, and none is replaced.
#[test]
fn a_store_that_is_lost_begins_again_from_the_record() {
    let (_around, folder) = nothing();
    let first = Writer::open(&folder).unwrap();
    first.put(&vault(1, H1)).unwrap_err();
    first.put_handover(&handover(1, H1)).unwrap();
    assert!(matches!(holder(&folder), Holder::Vault { mirror: Mirror::Incomplete, .. }));
    first.put(&vault(1, H2)).unwrap_err();
    first.put_handover(&handover(1, H2)).unwrap_err();
    first.put(&vault(1, H1)).unwrap();
    assert!(matches!(holder(&folder), Holder::Vault { mirror: Mirror::Complete, .. }));
    first.put(&git(1, None)).unwrap_err();
}

#[test]
fn a_crash_between_any_two_steps_leaves_nothing_or_all() {
    let half = "{\"schema\":1,\"authorityId\":\"pr";
    let crashes: [fn(&Path, &str); 6] = [
        |folder, _| fs::create_dir(folder).unwrap(),
        |folder, _| {
            fs::create_dir(folder).unwrap();
            write(&folder.join("lock"), "");
        },
        |folder, half| {
            fs::create_dir(folder).unwrap();
            write(&folder.join("lock"), "");
            write(&folder.join(".regent-x1.tmp"), half);
        },
        |folder, _| drop(Writer::open(folder).unwrap()),
        |folder, _| {
            drop(Writer::open(folder).unwrap());
            fs::create_dir(folder.join("prod")).unwrap();
        },
        |folder, half| {
            drop(Writer::open(folder).unwrap());
            fs::create_dir(folder.join("prod")).unwrap();
            write(&folder.join("prod/.regent-x1.tmp"), half);
        },
    ];
    for (number, crash) in crashes.into_iter().enumerate() {
        let (_around, folder) = nothing();
        crash(&folder, half);
        let seen = match survey(&folder, &name()).unwrap() {
            Survey::NoStoreYet => Holder::None,
            Survey::Store(evidence) => evidence.holder(),
        };
        assert_eq!(seen, Holder::None, "crash {number}");
        Writer::open(&folder).unwrap().put(&git(1, None)).unwrap();
        assert_eq!(holder(&folder), Holder::Git { epoch: epoch(1), supersedes: None }, "crash {number}");
        let left: Vec<_> = fs::read_dir(folder.join("prod")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["authority.json"], "crash {number}");
    }
}

#[test]
fn a_crash_while_replacing_leaves_the_old_witness() {
    let (_around, folder) = store();
    write(&folder.join("prod/.regent-x1.tmp"), &vault(1, H1).to_json());
    assert_eq!(holder(&folder), Holder::Git { epoch: epoch(1), supersedes: None });
}

#[test]
fn one_writer_waits_for_the_other() {
    let (_around, folder) = store();
    let first = Writer::open(&folder).unwrap();
    let waiting = std::thread::spawn({
        let folder = folder.clone();
        move || Writer::open(&folder).unwrap().evidence(&name()).unwrap().holder()
    });
    std::thread::sleep(Duration::from_millis(100));
    assert!(!waiting.is_finished());
    first.put(&vault(1, H1)).unwrap();
    drop(first);
    assert_eq!(
        waiting.join().unwrap(),
        Holder::Vault { epoch: epoch(1), handover: id(H1), mirror: Mirror::Incomplete }
    );
}
