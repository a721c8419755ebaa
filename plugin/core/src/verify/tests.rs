use super::*;
use crate::evidence::WitnessedVault;
use crate::handover::record::{RecordedKey, Site, VaultIdentity};
use crate::name::{AuthorityName, Epoch, HandoverId};

const CREATED: &str = "2026-11-24T08:23:28.612274215Z";
const LATER: &str = "2026-11-25T08:23:28.612274215Z";

fn name(text: &str) -> SecretName {
    SecretName::parse(text).unwrap()
}

fn document(secret: &str, kind: &str, class: ListedClass) -> ListedDocument {
    ListedDocument {
        path: FilePath::parse("db.yaml").unwrap(),
        name: name(secret),
        kind: kind.to_owned(),
        class,
        blob: "1".repeat(40),
    }
}

fn documents() -> Vec<ListedDocument> {
    vec![
        document("app/db", "Secret", ListedClass::Handover),
        document("vault/tls", "Secret", ListedClass::Permanent),
        document("vault/tls", "ConfigMap", ListedClass::Permanent),
    ]
}

/// `app/db` and the permanent `vault/tls`, both copied, at version 2.
fn record() -> Record {
    let place = WitnessedVault {
        address: "https://vault:8200".to_owned(),
        namespace: String::new(),
        mount: "secret".to_owned(),
        prefix: "bootstrap/prod".to_owned(),
    };
    let key = |text| RecordedKey { name: name(text), version: 2, created_time: CREATED.to_owned() };
    Record {
        name: AuthorityName::parse("prod").unwrap(),
        epoch: Epoch::FIRST,
        supersedes: None,
        handover: HandoverId::parse("0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f").unwrap(),
        root: Some("clusters/prod".to_owned()),
        site: Site {
            vault: VaultIdentity { place, cluster_id: "c".to_owned(), mount_uuid: "m".to_owned() },
            clusters: None,
        },
        git_commit: "a".repeat(40),
        tree_digest: "b".repeat(64),
        records: vec![key("app/db"), key("vault/tls")],
        documents: documents(),
        regent_version: "0.1.0".to_owned(),
    }
}

fn present(version: u32, created_time: &str) -> KeyNow {
    KeyNow::Present { version, created_time: created_time.to_owned() }
}

/// Everything as the handover left it; each test says what is not.
struct Left {
    record: Record,
    vault: SameVault,
    mirrored: Mirrored,
    settled: Settlement,
    list: DocumentList,
    witnessed: Option<Vec<ListedDocument>>,
    keys: BTreeMap<SecretName, KeyNow>,
    pulse: Pulse,
    live: Option<BTreeMap<SecretName, Live>>,
    revision: Option<Revision>,
    history: Option<History>,
}

impl Left {
    fn fine() -> Self {
        let whole = || Live::Compared(BTreeSet::new());
        let keys = [("app/db", 2), ("vault/tls", 3)].map(|(key, version)| (name(key), present(version, CREATED)));
        let permanent = Some(BTreeMap::from([(name("vault/tls"), InGit::Same)]));
        Self {
            record: record(),
            vault: SameVault::Yes,
            mirrored: Mirrored::Before,
            settled: Settlement::Settled,
            list: DocumentList::Readable(documents()),
            witnessed: Some(documents()),
            keys: keys.into(),
            pulse: Pulse::Steady { version: 7 },
            live: Some([(name("app/db"), whole()), (name("vault/tls"), whole())].into()),
            revision: Some(Revision { rendering: Ok(Rendering { documents: 3, with_values: Vec::new() }), permanent }),
            history: Some(History { commits: 9, ..History::default() }),
        }
    }

    fn found(&self) -> Vec<Finding> {
        verify(&Facts {
            record: &self.record,
            vault: self.vault,
            mirrored: self.mirrored,
            settled: &self.settled,
            list: &self.list,
            witnessed: self.witnessed.as_deref(),
            keys: &self.keys,
            pulse: &self.pulse,
            live: self.live.as_ref(),
            revision: self.revision.as_ref(),
            history: self.history.as_ref(),
        })
    }

    /// What is found, in stable names, and the worst of it.
    fn told(&self) -> (Vec<&'static str>, Severity) {
        let found = self.found();
        (found.iter().map(Finding::code).collect(), worst(&found))
    }
}

#[test]
fn nothing_is_found_where_everything_is_as_the_handover_left_it() {
    assert_eq!(Left::fine().told(), (vec![], Severity::Note));
    let alone = Left { live: None, revision: None, history: None, ..Left::fine() };
    assert_eq!(alone.told(), (vec![], Severity::Note));
}

/// vault.md 3.5: current version below the recorded one, or another `created_time` of the key.
#[test]
fn a_copy_is_there_at_or_above_its_version_as_the_same_key() {
    for (now, expected) in [
        (Some(present(2, CREATED)), None),
        (Some(present(9, CREATED)), None),
        (Some(present(1, CREATED)), Some(("copy-rolled-back", Severity::Person))),
        (Some(present(2, LATER)), Some(("copy-recreated", Severity::Person))),
        (Some(KeyNow::Absent), Some(("copy-absent", Severity::Person))),
        (Some(KeyNow::Deleted), Some(("copy-deleted", Severity::Person))),
        (None, Some(("copy-unknown", Severity::Unknown))),
    ] {
        let mut left = Left::fine();
        left.keys.remove(&name("app/db"));
        left.keys.extend(now.clone().map(|now| (name("app/db"), now)));
        let expected = expected.map_or((vec![], Severity::Note), |(code, severity)| (vec![code], severity));
        assert_eq!(left.told(), expected, "{now:?}");
    }
}

#[test]
fn in_a_vault_that_a_person_accepted_a_copy_only_has_to_be_there() {
    let mut left = Left { vault: SameVault::Accepted, ..Left::fine() };
    left.keys.insert(name("app/db"), present(1, LATER));
    assert_eq!(left.told(), (vec![], Severity::Note));
    left.keys.insert(name("app/db"), KeyNow::Deleted);
    assert_eq!(left.told(), (vec!["copy-deleted"], Severity::Person));
}

#[test]
fn what_was_imported_is_expected_too() {
    let mut all = documents();
    all.push(document("app/new", "Secret", ListedClass::Handover));
    all.push(document("app/other", "ConfigMap", ListedClass::Permanent));
    assert!(expected(&record(), &all).into_iter().eq([name("app/db"), name("app/new"), name("vault/tls")]));
    let mut left = Left { list: DocumentList::Readable(all), live: None, ..Left::fine() };
    assert_eq!(left.told().0, ["copy-unknown"]);
    left.keys.insert(name("app/new"), present(1, LATER));
    assert_eq!(left.told().0, [""; 0]);
}

/// vault.md 3.5, and what a run that is cut off between its two writes leaves behind.
#[test]
fn the_heartbeat_tells_which_side_was_taken_back() {
    for (before, vault, after, expected) in [
        // The first run, in Vault and outside; and that of a later epoch.
        (None, Beat::At(0), None, Pulse::Steady { version: 0 }),
        (None, Beat::At(40), None, Pulse::Steady { version: 40 }),
        (Some(5), Beat::At(5), Some(5), Pulse::Steady { version: 5 }),
        // Cut off after Vault was written.
        (Some(5), Beat::At(6), Some(5), Pulse::Steady { version: 6 }),
        // Another run between the two looks at the mirror.
        (Some(5), Beat::At(6), Some(6), Pulse::Steady { version: 6 }),
        (Some(5), Beat::At(7), Some(6), Pulse::Steady { version: 7 }),
        (Some(5), Beat::At(5), Some(7), Pulse::Steady { version: 5 }),
        (Some(5), Beat::At(4), Some(5), Pulse::RolledBack { beats: 1 }),
        (Some(5), Beat::At(0), Some(5), Pulse::RolledBack { beats: 5 }),
        (Some(5), Beat::At(7), Some(5), Pulse::Ahead { beats: 2 }),
        (None, Beat::At(7), Some(5), Pulse::Ahead { beats: 2 }),
        (Some(5), Beat::Deleted, Some(5), Pulse::Deleted),
        (None, Beat::Deleted, None, Pulse::Deleted),
    ] {
        assert_eq!(pulse(before, vault, after), expected, "{before:?} {vault:?} {after:?}");
    }
}

/// Every interleaving of runs that write Vault, then the mirror, and are cut off anywhere: no alarm.
#[test]
fn runs_that_are_cut_off_raise_no_false_alarm() {
    // Two bits a run: ended before the mirror is brought up, before Vault is written, before the mirror is, or never.
    for cuts in 0_u32..4_u32.pow(6) {
        let (mut vault, mut mirror) = (0, None);
        for run in 0..6 {
            let Pulse::Steady { version } = pulse(mirror, Beat::At(vault), mirror) else {
                panic!("{cuts:b}: {vault} {mirror:?}")
            };
            let cut = cuts / 4_u32.pow(run) % 4;
            if cut >= 1 {
                mirror = mirror.max(Some(version));
            }
            if cut >= 2 {
                vault += 1;
            }
            if cut >= 3 {
                mirror = Some(vault);
            }
        }
    }
}

#[test]
fn what_the_heartbeat_tells_is_for_a_person_and_unknown_is_unknown() {
    for (pulse, code, severity) in [
        (Pulse::Accepted { version: 9 }, "restore-accepted", Severity::Note),
        (Pulse::RolledBack { beats: 3 }, "rolled-back", Severity::Person),
        (Pulse::Ahead { beats: 3 }, "ahead", Severity::Person),
        (Pulse::Deleted, "heartbeat-deleted", Severity::Person),
        (Pulse::Unknown("x".to_owned()), "heartbeat-unknown", Severity::Unknown),
    ] {
        assert_eq!(Left { pulse, ..Left::fine() }.told(), (vec![code], severity));
    }
}

#[test]
fn a_listed_secret_is_live_and_is_what_vault_holds() {
    let keys = || BTreeSet::from(["password".to_owned()]);
    for (live, expected) in [
        (Some(Live::Present), None),
        (Some(Live::Compared(BTreeSet::new())), None),
        (Some(Live::Compared(keys())), Some(("live-differs", Severity::Attention))),
        (Some(Live::Absent), Some(("not-live", Severity::Attention))),
        (Some(Live::Unknown("forbidden".to_owned())), Some(("live-unknown", Severity::Unknown))),
        (None, Some(("live-unknown", Severity::Unknown))),
    ] {
        let mut left = Left::fine();
        let others = left.live.take().into_iter().flatten().filter(|(secret, _)| *secret != name("app/db"));
        left.live = Some(others.chain(live.clone().map(|live| (name("app/db"), live))).collect());
        let expected = expected.map_or((vec![], Severity::Note), |(code, severity)| (vec![code], severity));
        assert_eq!(left.told(), expected, "{live:?}");
    }
}

#[test]
fn an_unsettled_handover_is_underway_and_an_unknown_one_unknown() {
    let unsettled = Left { settled: Settlement::NotYet, ..Left::fine() };
    assert_eq!(unsettled.told(), (vec!["unsettled"], Severity::Underway));
    let unknown = Left { settled: Settlement::Unreadable("x".to_owned()), ..Left::fine() };
    assert_eq!(unknown.told(), (vec!["settlement-unknown"], Severity::Unknown));
    // Mirrored a moment ago, as after a restore of the cluster: told, and what follows is what counts.
    let mirrored = Left { mirrored: Mirrored::Now, ..unsettled };
    assert_eq!(mirrored.told(), (vec!["mirrored", "unsettled"], Severity::Underway));
    let unlisted = Left { list: DocumentList::Unreadable, ..Left::fine() };
    assert_eq!(unlisted.told(), (vec!["list-unreadable"], Severity::Unknown));
}

#[test]
fn the_witness_lists_what_the_record_lists() {
    let mut other = documents();
    other.reverse();
    assert_eq!(Left { witnessed: Some(other.clone()), ..Left::fine() }.told().0, [""; 0]);
    other[0].blob = "2".repeat(40);
    other.pop();
    let found = Left { witnessed: Some(other), ..Left::fine() }.found();
    assert_eq!(found, [Finding::ListDiffers(BTreeSet::from([name("app/db"), name("vault/tls")]))]);
    assert_eq!(worst(&found), Severity::Person);
    assert_eq!(Left { witnessed: None, ..Left::fine() }.told().0, [""; 0]);
}

#[test]
fn a_revision_renders_no_value_and_its_permanent_documents_are_vaults() {
    let rendering = |with_values: &[&str]| {
        Ok(Rendering { documents: 1, with_values: with_values.iter().map(ToString::to_string).collect() })
    };
    let permanent = |in_git: InGit| Some(BTreeMap::from([(name("vault/tls"), in_git)]));
    for (rendering, permanent, expected) in [
        (rendering(&["Secret app/db"]), permanent(InGit::Same), ("renders-value", Severity::Person)),
        (Err("not listed".to_owned()), permanent(InGit::Same), ("renders-nothing", Severity::Attention)),
        (rendering(&[]), permanent(InGit::Differs), ("stale-in-git", Severity::Attention)),
        (rendering(&[]), permanent(InGit::Absent), ("absent-in-git", Severity::Attention)),
        (rendering(&[]), permanent(InGit::Unknown("no key".to_owned())), ("git-unknown", Severity::Unknown)),
        (rendering(&[]), None, ("no-identity", Severity::Note)),
    ] {
        let left = Left { revision: Some(Revision { rendering, permanent }), ..Left::fine() };
        assert_eq!(left.told(), (vec![expected.0], expected.1));
    }
}

#[test]
fn what_history_holds_is_to_be_rotated_as_long_as_vault_holds_it() {
    let exposed = |secret: Option<&str>, values| Exposed {
        file: FilePath::parse("db.yaml").unwrap(),
        name: secret.map(name),
        commits: vec!["a".repeat(40)],
        values,
    };
    let in_use = || Values::InUse(BTreeSet::from(["password".to_owned()]));
    for (opened, expected) in [
        (exposed(Some("app/db"), Values::Rotated), None),
        (exposed(Some("app/db"), in_use()), Some(("to-rotate", Severity::Attention))),
        (exposed(Some("app/old"), Values::Unknown), Some(("forgotten", Severity::Note))),
        (exposed(None, Values::Unknown), Some(("in-the-clear", Severity::Attention))),
    ] {
        let left = Left { history: Some(History { opened: vec![opened], ..History::default() }), ..Left::fine() };
        let expected = expected.map_or((vec![], Severity::Note), |(code, severity)| (vec![code], severity));
        assert_eq!(left.told(), expected);
    }
    let cut = History { cut: Some("shallow".to_owned()), ..History::default() };
    assert_eq!(Left { history: Some(cut), ..Left::fine() }.told(), (vec!["history-cut"], Severity::Unknown));
}

#[test]
fn the_worst_counts() {
    assert!(Severity::ALL.is_sorted());
    let mut left = Left { settled: Settlement::NotYet, ..Left::fine() };
    left.live = Some(BTreeMap::new());
    assert_eq!(left.told().1, Severity::Unknown);
    left.pulse = Pulse::Deleted;
    assert_eq!(left.told().1, Severity::Person);
}

#[test]
fn live_values_are_compared_key_by_key_as_text_or_in_base64() {
    let bytes = |text: &str| Plaintext::new(text.as_bytes().to_vec());
    let live = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), bytes(value))).collect();
    let copy = |pairs: &[(&str, Option<&str>)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.map(bytes))).collect()
    };
    // `dmFsdWU=` is `value`.
    for (in_cluster, in_vault, expected) in [
        (live(&[("a", "dmFsdWU=")]), copy(&[("a", Some("value"))]), vec![]),
        (live(&[("a", "dmFsdWU=")]), copy(&[("a", Some("dmFsdWU="))]), vec![]),
        (live(&[("a", "dmFsdWU=")]), copy(&[("a", Some("other"))]), vec!["a"]),
        (live(&[("a", "dmFsdWU=")]), copy(&[("a", None)]), vec!["a"]),
        (live(&[("a", "not base64")]), copy(&[("a", Some("value"))]), vec!["a"]),
        (live(&[("a", "dmFsdWU="), ("b", "")]), copy(&[("a", Some("value"))]), vec!["b"]),
        (live(&[("a", "dmFsdWU=")]), copy(&[("a", Some("value")), ("b", Some(""))]), vec!["b"]),
        (live(&[("a", "dmFsdWU="), ("_raw", "e30=")]), copy(&[("a", Some("value"))]), vec![]),
        (live(&[("_raw", "e30=")]), copy(&[("_raw", Some("other"))]), vec!["_raw"]),
    ] {
        let in_cluster: BTreeMap<String, Plaintext> = in_cluster;
        let in_vault: BTreeMap<String, Option<Plaintext>> = in_vault;
        assert!(differing(&in_cluster, &in_vault).into_iter().eq(expected));
    }
}

#[test]
fn a_live_secret_counts_as_replaced_only_where_it_is_certainly_not_another() {
    let keys = |keys: &[&str]| Live::Compared(keys.iter().map(|key| (*key).to_owned()).collect());
    let live = [
        ("app/absent", Live::Absent),
        ("app/equal", keys(&[])),
        ("app/old", keys(&["password", "user"])),
        ("app/unknown", Live::Unknown("403".to_owned())),
        ("app/without-a-copy", Live::Present),
    ];
    let live = live.into_iter().map(|(name, live)| (SecretName::parse(name).unwrap(), live)).collect();
    assert_eq!(
        not_replaced(&live),
        ["app/old differs from Vault in password, user", "app/unknown cannot be compared: 403"]
    );
}
