use super::*;
use crate::evidence::Reading;

const H: &str = "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f";
const BEFORE: &str = "9b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f";
const CREATED: &str = "2026-11-24T08:23:28.612274215Z";

fn id(text: &str) -> HandoverId {
    HandoverId::parse(text).unwrap()
}

fn prod() -> AuthorityName {
    AuthorityName::parse("prod").unwrap()
}

fn document(path: &str, name: &str, kind: &str, class: ListedClass) -> ListedDocument {
    ListedDocument {
        path: FilePath::parse(path).unwrap(),
        name: SecretName::parse(name).unwrap(),
        kind: kind.to_owned(),
        class,
        blob: "1".repeat(40),
    }
}

/// A copied Secret, a permanent one that is not, and a document of another kind in one file with it.
fn record() -> Record {
    let documents = vec![
        document("db.yaml", "app/db", "Secret", ListedClass::Handover),
        document("unseal.yaml", "vault/unseal", "Secret", ListedClass::Permanent),
        document("unseal.yaml", "vault/unseal", "apps/v1/Deployment", ListedClass::Permanent),
    ];
    Record {
        name: prod(),
        epoch: Epoch::FIRST,
        supersedes: None,
        handover: id(H),
        root: Some("clusters/prod".to_owned()),
        site: Site {
            vault: VaultIdentity {
                place: WitnessedVault {
                    address: "https://vault:8200".to_owned(),
                    namespace: String::new(),
                    mount: "secret".to_owned(),
                    prefix: "bootstrap/prod".to_owned(),
                },
                cluster_id: "9e122dbc-952d-eed7-8321-3bb05d02a4e9".to_owned(),
                mount_uuid: "2bb7d456-952d-eed7-8321-3bb05d02a4e9".to_owned(),
            },
            clusters: Some(Clusters { witness: "hub".to_owned(), target: "spoke".to_owned() }),
        },
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

fn read(fields: &BTreeMap<String, String>) -> Result<Record, String> {
    Record::from_fields(&prod(), Epoch::FIRST, fields)
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let in_second = Record { epoch: Epoch::new(2).unwrap(), supersedes: Some(id(BEFORE)), ..record() };
    let outside = Record { root: None, ..record() };
    let in_a_folder = Record { site: Site { clusters: None, ..record().site }, ..record() };
    for record in [record(), in_second, outside, in_a_folder] {
        assert_eq!(Record::from_fields(&prod(), record.epoch, &record.to_fields()), Ok(record));
    }
}

/// architecture.md 1.3: the same names in record, Authority, `ConfigMap` and the embedded store.
#[test]
fn its_fields_have_the_names_of_the_witnesses_and_are_text() {
    let fields = record().to_fields();
    let expected = [
        "authority",
        "authorityId",
        "documents",
        "epoch",
        "gitCommit",
        "handoverId",
        "mount",
        "mountUuid",
        "prefix",
        "records",
        "regentVersion",
        "root",
        "schema",
        "targetKubeUid",
        "treeDigest",
        "vaultAddress",
        "vaultClusterId",
        "vaultNamespace",
        "witnessKubeUid",
    ];
    assert_eq!(fields.keys().map(String::as_str).collect::<Vec<_>>(), expected);
    assert_eq!(fields["records"], format!("[[\"app/db\",1,\"{CREATED}\"]]"));
    assert_eq!(
        (fields["schema"].as_str(), fields["authority"].as_str(), fields["epoch"].as_str()),
        ("1", "vault", "1")
    );
    let witness: serde_json::Value = serde_json::from_str(&record().witnesses(1, CREATED).0.to_json()).unwrap();
    for (key, value) in fields.iter().filter(|(key, _)| !["records", "documents"].contains(&key.as_str())) {
        let mirrored = &witness[key];
        assert_eq!(mirrored.as_str().map_or_else(|| mirrored.to_string(), str::to_owned), *value, "{key}");
    }
}

#[test]
fn a_missing_an_unknown_or_another_field_is_no_record() {
    let good = record().to_fields();
    for key in good.keys() {
        let mut fields = good.clone();
        fields.remove(key);
        let told = read(&fields);
        // A record from outside a repository has no root, which is another record and none of this one's.
        assert_eq!(told.is_err(), key != "root", "{key}: {told:?}");
        // Empty is what a missing Vault namespace is.
        fields.insert(key.clone(), String::new());
        assert_eq!(read(&fields).is_err(), key != "vaultNamespace", "{key}");
        fields.insert(key.clone(), "canary \u{1}".to_owned());
        let told = read(&fields).unwrap_err();
        assert!(!told.contains("canary"), "{told}");
    }
    for more in ["value", "supersedes", "noVaultYet"] {
        let mut fields = good.clone();
        fields.insert(more.to_owned(), BEFORE.to_owned());
        assert!(read(&fields).is_err(), "{more}");
    }
    assert!(Record::from_fields(&prod(), Epoch::new(2).unwrap(), &good).is_err());
    assert!(Record::from_fields(&AuthorityName::parse("other").unwrap(), Epoch::FIRST, &good).is_err());
}

type Change = fn(&mut Record);

#[test]
fn a_record_that_contradicts_itself_is_none() {
    let name = |text: &str| SecretName::parse(text).unwrap();
    let key = |text: &str, version, created: &str| RecordedKey {
        name: name(text),
        version,
        created_time: created.to_owned(),
    };
    let changed: [(&str, Change); 8] = [
        ("another tree", |it| it.tree_digest = "0".repeat(64)),
        ("a document more than the tree has", |it| {
            it.documents.push(document("more.yaml", "app/more", "Secret", ListedClass::Permanent));
        }),
        ("a document twice", |it| it.documents.push(it.documents[0].clone())),
        ("a Secret of Vault's without a copy", |it| it.records.clear()),
        ("a short commit", |it| it.git_commit = "abc".to_owned()),
        ("a handover that supersedes itself", |it| {
            it.epoch = Epoch::new(2).unwrap();
            it.supersedes = Some(it.handover.clone());
        }),
        ("an uid longer than the schema takes", |it| {
            it.site.clusters = Some(Clusters { witness: "u".repeat(37), target: "t".to_owned() });
        }),
        ("a root that climbs", |it| it.root = Some("../x".to_owned())),
    ];
    for (what, change) in changed {
        let mut record = record();
        change(&mut record);
        assert!(record.check().is_err(), "{what}");
        assert!(Record::from_fields(&prod(), record.epoch, &record.to_fields()).is_err(), "{what}");
    }
    for records in [
        vec![key("app/db", 1, CREATED), key("app/db", 1, CREATED)],
        vec![key("app/db", 0, CREATED)],
        vec![key("app/db", 1, "")],
        vec![key("app/db", 1, CREATED), key("app/none", 1, CREATED)],
    ] {
        assert!(Record { records, ..record() }.check().is_err());
    }
    // A permanent Secret may have a copy, and need not.
    let both = vec![key("app/db", 1, CREATED), key("vault/unseal", 7, CREATED)];
    assert_eq!(Record { records: both, ..record() }.check(), Ok(()));
}

#[test]
fn the_witnesses_hold_the_record_and_are_read_as_one_handover() {
    let marked = Marked { record: record(), version: 1, created_time: CREATED.to_owned() };
    let (handover, authority) = marked.witnesses();
    assert_eq!(
        HandoverWitness::from_json(&prod(), Epoch::FIRST, handover.to_json().as_bytes()),
        Reading::Present(handover.clone())
    );
    assert_eq!(
        AuthorityWitness::from_json(&prod(), authority.to_json().as_bytes()),
        Reading::Present(authority.clone())
    );
    assert_eq!(handover.authority.as_deref(), Some(&authority));
    assert_eq!(handover.documents, record().documents);
    let facts = authority.record.clone().unwrap();
    assert_eq!((facts.marker_version, facts.marker_created_time.as_str()), (1, CREATED));
    // The Authority that `init` made may become it.
    let before = AuthorityWitness { holds: Holds::Git, record: None, no_vault_yet: true, ..authority.clone() };
    assert_eq!(AuthorityWitness::may_follow(Some(&before), &authority), Ok(()));
}

#[test]
fn a_copy_is_lost_unless_its_key_is_the_same_and_not_older() {
    let mut record = record();
    record.records[0].version = 3;
    let name = record.records[0].name.clone();
    let how = |now: KeyNow| {
        let losses = record.losses(&BTreeMap::from([(name.clone(), now)]));
        losses.first().map(|loss| loss.how)
    };
    let present = |version, created: &str| KeyNow::Present { version, created_time: created.to_owned() };
    assert_eq!(how(present(3, CREATED)), None);
    assert_eq!(how(present(9, CREATED)), None);
    assert_eq!(how(present(2, CREATED)), Some(Lost::RolledBack));
    assert_eq!(how(present(9, "2026-11-24T08:23:28.612274216Z")), Some(Lost::Recreated));
    assert_eq!(how(KeyNow::Absent), Some(Lost::Absent));
    assert_eq!(how(KeyNow::Deleted), Some(Lost::Deleted));
    assert_eq!(record.losses(&BTreeMap::new())[0].how, Lost::NotRead);
}

/// vault.md fact 7 and 8: few strings, and no larger than an entry of raft; kubernetes.md: a `ConfigMap` has 1 MiB.
#[test]
fn a_record_that_vault_or_the_api_server_would_not_take_is_refused_by_its_counts() {
    let of = |count: usize| {
        let documents: Vec<_> = (0..count)
            .map(|number| {
                document(&format!("{number}.yaml"), &format!("app/db-{number}"), "Secret", ListedClass::Handover)
            })
            .collect();
        let key =
            |it: &ListedDocument| RecordedKey { name: it.name.clone(), version: 1, created_time: CREATED.to_owned() };
        Record {
            records: documents.iter().map(key).collect(),
            tree_digest: tree_digest(documents.iter().map(|it| (&it.path, it.blob.as_str()))),
            documents,
            ..record()
        }
    };
    let thousand = of(1000);
    assert_eq!((thousand.check(), thousand.check_size()), (Ok(()), Ok(())));
    assert_eq!(thousand.to_fields().len(), record().to_fields().len());
    let too_large = of(10_000).check_size().unwrap_err();
    assert_eq!((too_large.records, too_large.documents), (10_000, 10_000));
    assert!(too_large.to_string().contains("10000 copies"), "{too_large}");
}

#[test]
fn an_amendment_is_read_as_it_was_written_and_is_no_record() {
    let record = record();
    let amendment = Amendment {
        name: record.name.clone(),
        epoch: record.epoch,
        handover: record.handover.clone(),
        site: record.site.clone(),
    };
    let fields = amendment.to_fields();
    assert_eq!(Amendment::from_fields(&prod(), Epoch::FIRST, &fields), Ok(amendment));
    assert!(read(&fields).is_err());
    assert!(Amendment::from_fields(&prod(), Epoch::FIRST, &record.to_fields()).is_err());
}

#[test]
fn an_adoption_is_found_by_the_clusters_alone() {
    let key = |witness: &str, target: &str| {
        Amendment::adopted_key(&Clusters { witness: witness.to_owned(), target: target.to_owned() })
    };
    assert_eq!((key("a", "a"), key("hub", "a")), ("adopted/a".to_owned(), "adopted/hub.a".to_owned()));
    assert_eq!(Amendment::rebind_key(2), "rebind-2");
}
