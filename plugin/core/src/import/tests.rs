use super::*;
use crate::evidence::{AuthorityWitness, Clusters, HandoverWitness, Holds, WitnessedVault};
use crate::handover::record::{Record, VaultIdentity};
use crate::handover::tree::tree_digest;

const A: &str = "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f";
const B: &str = "5d1c9f7a-3b2e-4c8d-8f60-7a9b1c2d3e4f";
const CREATED: &str = "2026-11-24T08:23:28.612274215Z";

fn id(text: &str) -> HandoverId {
    HandoverId::parse(text).unwrap()
}

fn prod() -> AuthorityName {
    AuthorityName::parse("prod").unwrap()
}

fn secret(name: &str) -> SecretName {
    SecretName::parse(name).unwrap()
}

fn document(name: &str) -> ListedDocument {
    ListedDocument {
        path: FilePath::parse(&format!("{}.yaml", name.replace('/', "-"))).unwrap(),
        name: secret(name),
        kind: "Secret".to_owned(),
        class: ListedClass::Handover,
        blob: "1".repeat(40),
    }
}

fn site() -> Site {
    let place = WitnessedVault {
        address: "https://vault:8200".to_owned(),
        namespace: String::new(),
        mount: "secret".to_owned(),
        prefix: "bootstrap/prod".to_owned(),
    };
    Site {
        vault: VaultIdentity { place, cluster_id: "vault-a".to_owned(), mount_uuid: "mount-a".to_owned() },
        clusters: Some(Clusters { witness: "a".to_owned(), target: "a".to_owned() }),
    }
}

/// `app/db` was handed over.
fn marked() -> Marked {
    let documents = vec![document("app/db")];
    let record = Record {
        name: prod(),
        epoch: Epoch::FIRST,
        supersedes: None,
        handover: id(A),
        root: Some("clusters/prod".to_owned()),
        site: site(),
        git_commit: "a".repeat(40),
        tree_digest: tree_digest(documents.iter().map(|it| (&it.path, it.blob.as_str()))),
        records: vec![RecordedKey { name: secret("app/db"), version: 1, created_time: CREATED.to_owned() }],
        documents,
        regent_version: "0.1.0".to_owned(),
    };
    Marked { record, version: 1, created_time: CREATED.to_owned() }
}

fn evidence() -> Evidence {
    let (handover, authority) = marked().witnesses();
    let next = Epoch::FIRST.next().unwrap();
    Evidence {
        authority: Reading::Present(authority),
        handovers: BTreeMap::from([(Epoch::FIRST, Reading::Present(handover)), (next, Reading::Absent)]),
        ..Evidence::none()
    }
}

fn bootstrap(rest: &str) -> Bootstrap {
    let text = format!("apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\n{rest}");
    Bootstrap::parse(&FilePath::parse("regent.yaml").unwrap(), text.as_bytes()).unwrap()
}

/// What is asked for, and what both lists say.
struct Asked<'a> {
    bootstrap: &'a str,
    evidence: Evidence,
    root: &'a str,
    name: &'a str,
    kind: &'a str,
    in_vault: &'a [&'a str],
    in_status: &'a [(u32, &'a str)],
    of_other_epochs: usize,
}

impl Default for Asked<'_> {
    fn default() -> Self {
        Self {
            bootstrap: "epoch: 1",
            evidence: evidence(),
            root: "clusters/prod",
            name: "app/new",
            kind: "Secret",
            in_vault: &[],
            in_status: &[],
            of_other_epochs: 0,
        }
    }
}

impl Asked<'_> {
    fn decide(self) -> Result<Step, ImportRefusal> {
        let place = Place {
            root: Some(self.root.to_owned()),
            recorded_root: self.evidence.recorded_root(),
            ..Place::default()
        };
        decide(&Facts {
            bootstrap: &bootstrap(self.bootstrap),
            place: &place,
            evidence: &self.evidence,
            marked: &marked(),
            name: &secret(self.name),
            kind: self.kind,
            in_vault: &self.in_vault.iter().map(|name| document(name)).collect::<Vec<_>>(),
            in_status: &self.in_status.iter().map(|(number, name)| (*number, document(name))).collect(),
            of_other_epochs: self.of_other_epochs,
        })
    }

    fn refused(self) -> String {
        self.decide().unwrap_err().to_string()
    }

    /// The number that it would get.
    fn copied(self) -> u32 {
        match self.decide() {
            Ok(Step::Copy(importation)) => importation.number(),
            decided => panic!("{decided:?}"),
        }
    }

    fn done(self) -> Listed {
        match self.decide() {
            Ok(Step::Done(listed)) => listed,
            decided => panic!("{decided:?}"),
        }
    }
}

#[test]
fn a_new_document_gets_the_next_number_without_a_gap() {
    assert_eq!(Asked::default().copied(), 1);
    let two = Asked { in_vault: &["app/a", "app/b"], in_status: &[(1, "app/a"), (2, "app/b")], ..Asked::default() };
    assert_eq!(two.copied(), 3);
}

#[test]
fn what_is_listed_is_not_imported_again() {
    assert_eq!(Asked { name: "app/db", ..Asked::default() }.done(), Listed::HandedOver);
    let imported = || Asked { in_vault: &["app/a", "app/new"], ..Asked::default() };
    let noted = &[(1, "app/a"), (2, "app/new")];
    assert_eq!(Asked { in_status: noted, ..imported() }.done(), Listed::Imported(2));
    // Another kind of the same name is another document.
    assert_eq!(Asked { kind: "ConfigMap", in_status: noted, ..imported() }.copied(), 3);
    assert_eq!(Asked { name: "app/db", kind: "ConfigMap", ..Asked::default() }.copied(), 1);
}

/// Stopped between Vault and the status, by whomever, for whatever document.
#[test]
fn what_vault_lists_is_mirrored_first() {
    for name in ["app/new", "app/db", "app/another"] {
        let asked =
            Asked { name, in_vault: &["app/a", "app/new", "app/b"], in_status: &[(2, "app/new")], ..Asked::default() };
        let Ok(Step::Mirror(missing)) = asked.decide() else { panic!("{name}") };
        let missing: Vec<_> = missing.iter().map(|(number, it)| (*number, it.name.to_string())).collect();
        assert_eq!(missing, [(1, "app/a".to_owned()), (3, "app/b".to_owned())]);
    }
}

#[test]
fn lists_that_contradict_each_other_are_for_a_person() {
    let other = Asked { in_vault: &["app/a"], in_status: &[(1, "app/b")], ..Asked::default() };
    assert_eq!(other.refused(), "imported/1 is app/a in Vault, and app/b in the status");
    for number in [0, 2] {
        let told =
            Asked { in_vault: &["app/a"], in_status: &[(1, "app/a"), (number, "app/b")], ..Asked::default() }.refused();
        assert!(
            told.starts_with(&format!("the status lists app/b as imported/{number}, and Vault does not")),
            "{told}"
        );
    }
}

#[test]
fn the_status_has_room_for_256_documents_of_all_epochs() {
    let names: Vec<String> = (0..200).map(|number| format!("app/n{number}")).collect();
    let in_vault: Vec<&str> = names.iter().map(String::as_str).collect();
    let in_status: Vec<(u32, &str)> = (1..).zip(in_vault.iter().copied()).collect();
    let asked =
        |of_other_epochs| Asked { in_vault: &in_vault, in_status: &in_status, of_other_epochs, ..Asked::default() };
    assert_eq!(asked(55).copied(), 201);
    assert!(matches!(asked(56).decide(), Err(ImportRefusal::Full)));
    // What is complete is told all the same.
    assert_eq!(Asked { name: "app/n7", ..asked(56) }.done(), Listed::Imported(8));
    // What could not be mirrored is not begun.
    assert!(matches!(Asked { in_status: &[], ..asked(57) }.decide(), Err(ImportRefusal::Full)));
}

#[test]
fn nothing_is_imported_but_under_vault_in_this_epoch_and_root() {
    let git = AuthorityWitness { holds: Holds::Git, record: None, ..marked().witnesses().1 };
    let git = Evidence {
        authority: Reading::Present(git),
        handovers: [1, 2].map(|number| (Epoch::new(number).unwrap(), Reading::Absent)).into(),
        ..Evidence::none()
    };
    assert_eq!(
        Asked { evidence: git, ..Asked::default() }.refused(),
        "the witnesses say git(1): Git rules, and app/new is handed over with everything else"
    );
    let none = Asked { evidence: Evidence::none(), ..Asked::default() };
    assert!(matches!(none.decide(), Err(ImportRefusal::Authority(AuthorityRefusal::NoAuthority { .. }))));
    let unknown = Evidence { authority: Reading::Unreadable("timeout".to_owned()), ..Evidence::none() };
    assert!(Asked { evidence: unknown, ..Asked::default() }.refused().contains("timeout"));
    let later = format!("epoch: 2\nsupersedes: {A}");
    assert!(matches!(
        Asked { bootstrap: &later, ..Asked::default() }.decide(),
        Err(ImportRefusal::Authority(AuthorityRefusal::NextEpoch { .. }))
    ));
    assert!(matches!(
        Asked { root: "clusters/other", ..Asked::default() }.decide(),
        Err(ImportRefusal::Authority(AuthorityRefusal::OtherRoot { .. }))
    ));
    // Neither by Git's own word that the epoch is over.
    let closed = format!("epoch: 1\nclosed: {A}");
    assert_eq!(Asked { bootstrap: &closed, ..Asked::default() }.copied(), 1);
}

#[test]
fn without_a_readable_list_nothing_is_known_to_be_new() {
    let without = |change: fn(&mut Evidence)| {
        let mut evidence = evidence();
        change(&mut evidence);
        Asked { evidence, ..Asked::default() }.decide()
    };
    let changes: [fn(&mut Evidence); 4] = [
        |it| drop(it.handovers.insert(Epoch::FIRST, Reading::Absent)),
        |it| drop(it.handovers.insert(Epoch::FIRST, Reading::Unreadable("403".to_owned()))),
        |it| it.imported = Reading::Unreadable("it is no status".to_owned()),
        // The record that was read is another's.
        |it| {
            let (handover, authority) = marked().witnesses();
            let (handover, authority) = (
                HandoverWitness { handover: id(B), authority: None, ..handover },
                AuthorityWitness { holds: Holds::Vault(id(B)), ..authority },
            );
            it.authority = Reading::Present(authority);
            it.handovers.insert(Epoch::FIRST, Reading::Present(handover));
        },
    ];
    for change in changes {
        assert!(matches!(without(change), Err(ImportRefusal::ListUnreadable)));
    }
}

fn imported() -> Imported {
    Imported {
        name: prod(),
        epoch: Epoch::FIRST,
        handover: id(A),
        site: site(),
        git_commit: "a".repeat(40),
        regent_version: "0.1.0".to_owned(),
        document: document("app/new"),
        copy: Some(RecordedKey { name: secret("app/new"), version: 2, created_time: CREATED.to_owned() }),
    }
}

fn read(imported: &Imported) -> Result<Imported, String> {
    Imported::from_fields(&prod(), Epoch::FIRST, &imported.to_fields())
}

#[test]
fn an_entry_is_read_as_it_was_written() {
    let permanent = ListedDocument { class: ListedClass::Permanent, ..document("app/new") };
    let not_copied = Imported { document: permanent.clone(), copy: None, ..imported() };
    let copied = Imported { document: permanent, ..imported() };
    let in_a_folder = Imported { site: Site { clusters: None, ..site() }, ..imported() };
    for imported in [imported(), not_copied, copied, in_a_folder] {
        assert_eq!(read(&imported), Ok(imported));
    }
    assert_eq!(Imported::key(7), "imported/7");
}

#[test]
fn an_entry_that_contradicts_itself_is_none() {
    let changes: [fn(&mut Imported); 6] = [
        |it| it.copy = None,
        |it| it.copy.iter_mut().for_each(|copy| copy.name = secret("app/db")),
        |it| it.copy.iter_mut().for_each(|copy| copy.version = 0),
        |it| it.document.kind = "ConfigMap".to_owned(),
        |it| it.document.blob = "x".to_owned(),
        |it| it.git_commit = "main".to_owned(),
    ];
    for change in changes {
        let mut imported = imported();
        change(&mut imported);
        assert!(read(&imported).is_err(), "{imported:?}");
    }
    let fields = |key: &str, text: &str| {
        let mut fields = imported().to_fields();
        fields.insert(key.to_owned(), text.to_owned());
        Imported::from_fields(&prod(), Epoch::FIRST, &fields)
    };
    for (key, text) in [("documents", "[]"), ("more", ""), ("schema", "2"), ("authorityId", "other"), ("epoch", "2")] {
        assert!(fields(key, text).is_err(), "{key}");
    }
}
