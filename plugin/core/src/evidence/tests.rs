#![expect(clippy::wildcard_enum_match_arm, reason = "a row of a table names what it is about")]

use super::*;

const A: &str = "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f";
const B: &str = "5d1c9f7a-3b2e-4c8d-8f60-7a9b1c2d3e4f";

fn id(text: &str) -> HandoverId {
    HandoverId::parse(text).unwrap()
}

fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

fn prod() -> AuthorityName {
    AuthorityName::parse("prod").unwrap()
}

fn authority(number: u64, holds: Holds, supersedes: Option<&str>) -> AuthorityWitness {
    AuthorityWitness {
        name: prod(),
        holds,
        epoch: epoch(number),
        supersedes: supersedes.map(id),
        root: None,
        vault: None,
        clusters: None,
        no_vault_yet: false,
        record: None,
    }
}

fn handover(number: u64, handover: &str) -> HandoverWitness {
    HandoverWitness {
        name: prod(),
        epoch: epoch(number),
        handover: id(handover),
        documents: vec![document("app/db")],
        authority: None,
    }
}

fn document(name: &str) -> ListedDocument {
    ListedDocument {
        path: FilePath::parse("app/db.yaml").unwrap(),
        name: SecretName::parse(name).unwrap(),
        kind: "Secret".into(),
        class: ListedClass::Handover,
        blob: "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391".into(),
    }
}

fn git(number: u64, supersedes: Option<&str>) -> Holder {
    Holder::Git { epoch: epoch(number), supersedes: supersedes.map(id) }
}

fn vault(number: u64, handover: &str, mirror: Mirror) -> Holder {
    Holder::Vault { epoch: epoch(number), handover: id(handover), mirror }
}

/// What a witness of one epoch says, in the words of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    /// A handover witness that nobody looked for.
    Unasked,
    Absent,
    Unreadable,
    Git(u64, Option<&'static str>),
    Vault(u64, &'static str),
}

/// The table of the architecture, row by row, and nothing else: at most one row fits, none is `unreadable`.
fn by_the_table(says: Says, witnesses: [Says; 3]) -> &'static str {
    let at = |number: u64| match number {
        1..=3 => witnesses[usize::try_from(number).unwrap() - 1],
        _ => Says::Absent,
    };
    let named = [says, at(1), at(2), at(3)].into_iter().filter_map(|witness| match witness {
        Says::Git(number, _) | Says::Vault(number, _) => Some(number),
        Says::Unasked | Says::Absent | Says::Unreadable => None,
    });
    let nothing_unreadable = ![says, at(1), at(2), at(3)].contains(&Says::Unreadable);
    let Some(e) = named.max() else {
        return if says == Says::Absent && nothing_unreadable { "none" } else { "unreadable" };
    };
    let unknown = |witness: Says| matches!(witness, Says::Unreadable | Says::Unasked);
    let git_row = match says {
        Says::Git(number, supersedes) if number == e => {
            let before = match at(e - 1) {
                Says::Absent => true,
                Says::Vault(_, handover) => supersedes == Some(handover),
                Says::Unasked | Says::Unreadable | Says::Git(..) => false,
            };
            at(e) == Says::Absent && before && !unknown(at(e + 1)) && at(e + 2) != Says::Unreadable
        }
        _ => false,
    };
    let says_git_or_nothing = match says {
        Says::Git(number, _) => number == e,
        Says::Absent | Says::Unreadable => true,
        Says::Unasked | Says::Vault(..) => false,
    };
    let handover = match at(e) {
        Says::Vault(_, handover) => Some(handover),
        _ => None,
    };
    let held = match says {
        Says::Vault(number, handover) if number == e => Some(handover),
        _ => None,
    };
    let rows = [
        (git_row, "git"),
        (says_git_or_nothing && handover.is_some(), "vault, mirror incomplete"),
        (held.is_some() && handover.is_none(), "vault, mirror incomplete"),
        (held.is_some() && handover == held, "vault"),
        (held.is_some() && handover.is_some() && handover != held, "disagree"),
    ];
    let mut fitting = rows.into_iter().filter(|(fits, _)| *fits).map(|(_, k)| k);
    let k = fitting.next().unwrap_or("unreadable");
    assert_eq!(fitting.next(), None, "two rows fit {says:?} {witnesses:?}");
    k
}

#[test]
fn k_is_what_the_witness_table_says_for_every_pair_of_witnesses() {
    let mut authorities = vec![Says::Absent, Says::Unreadable, Says::Git(1, None)];
    for h in [A, B] {
        authorities.extend([Says::Git(2, Some(h)), Says::Git(3, Some(h))]);
        authorities.extend([1, 2, 3].map(|number| Says::Vault(number, h)));
    }
    let handovers =
        |number: u64| [Says::Unasked, Says::Absent, Says::Unreadable, Says::Vault(number, A), Says::Vault(number, B)];
    let mut seen = BTreeMap::<&str, usize>::new();
    for says in authorities {
        for one in handovers(1) {
            for two in handovers(2) {
                for three in handovers(3) {
                    let expected = by_the_table(says, [one, two, three]);
                    let read = match evidence(says, [one, two, three]).holder() {
                        Holder::None => "none",
                        Holder::Git { epoch: e, supersedes } => {
                            let Says::Git(number, s) = says else { panic!("git out of nothing") };
                            assert_eq!((u64::from(e.get()), supersedes), (number, s.map(id)));
                            "git"
                        }
                        Holder::Vault { epoch: e, handover, mirror } => {
                            let named = [says, one, two, three];
                            let number = u64::from(e.get());
                            assert!(named.contains(&Says::Vault(number, if handover == id(A) { A } else { B })));
                            match mirror {
                                Mirror::Complete => "vault",
                                Mirror::Incomplete => "vault, mirror incomplete",
                            }
                        }
                        Holder::Disagree(_) => "disagree",
                        Holder::Unreadable(_) => "unreadable",
                    };
                    assert_eq!(read, expected, "{says:?} {one:?} {two:?} {three:?}");
                    *seen.entry(expected).or_default() += 1;
                }
            }
        }
    }
    assert_eq!(seen.len(), 6, "every answer of the table is among them: {seen:?}");
}

fn evidence(says: Says, witnesses: [Says; 3]) -> Evidence {
    let authority = match says {
        Says::Absent | Says::Unasked => Reading::Absent,
        Says::Unreadable => Reading::Unreadable("403".into()),
        Says::Git(number, supersedes) => Reading::Present(authority(number, Holds::Git, supersedes)),
        Says::Vault(number, h) => Reading::Present(authority(number, Holds::Vault(id(h)), (number > 1).then_some(A))),
    };
    let handovers = (1..).zip(witnesses).filter_map(|(number, witness)| match witness {
        Says::Unasked => None,
        Says::Absent => Some((epoch(number), Reading::Absent)),
        Says::Unreadable => Some((epoch(number), Reading::Unreadable("timeout".into()))),
        Says::Vault(number, h) => Some((epoch(number), Reading::Present(handover(number, h)))),
        Says::Git(..) => panic!("a handover witness never says git"),
    });
    let above = (epoch(4), Reading::Absent);
    Evidence { authority, handovers: handovers.chain([above]).collect(), ..Evidence::none() }
}

/// What a process answers that has seen the row and reads the column: `=` the reading, `m` the remembered
/// vault (its mirror unknown), `x` no answer (P1).
#[test]
fn a_process_remembers_the_highest_k() {
    let c = Mirror::Complete;
    let states = [
        Holder::None,
        Holder::Unreadable("timeout".into()),
        Holder::Disagree("two".into()),
        git(1, None),
        git(2, Some(A)),
        git(2, Some(B)),
        git(3, Some(A)),
        vault(1, A, c),
        vault(1, B, c),
        vault(2, A, c),
        vault(2, B, Mirror::Incomplete),
    ];
    //              none unr dis g1 g2A g2B g3A v1A v1B v2A v2B
    let table: [(usize, &str); 8] = [
        (3, "        x    x   x   =  =   =   =   =   =   =   ="),
        (4, "        x    x   x   x  =   x   =   x   x   =   ="),
        (5, "        x    x   x   x  x   =   =   x   x   =   ="),
        (6, "        x    x   x   x  x   x   =   x   x   x   x"),
        (7, "        m    m   x   m  =   x   x   =   x   =   ="),
        (8, "        m    m   x   m  x   =   x   x   =   =   ="),
        (9, "        m    m   x   m  m   m   =   m   m   =   x"),
        (10, "       m    m   x   m  m   m   x   m   m   x   ="),
    ];
    for (seen, row) in table {
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(cells.len(), states.len());
        for (read, cell) in states.iter().zip(cells) {
            let mut memory = Memory::default();
            assert_eq!(memory.observe(states[seen].clone()), states[seen], "the first K is what is read");
            let answer = memory.observe(read.clone());
            let context = format!("seen {}, read {read}, answered {answer}", states[seen]);
            match (cell, &states[seen]) {
                ("=", _) => assert_eq!(answer, *read, "{context}"),
                ("x", _) => assert!(matches!(answer, Holder::Unreadable(_) | Holder::Disagree(_)), "{context}"),
                ("m", Holder::Vault { epoch, handover, .. }) => assert_eq!(
                    answer,
                    Holder::Vault { epoch: *epoch, handover: handover.clone(), mirror: Mirror::Incomplete },
                    "{context}"
                ),
                _ => panic!("{context}"),
            }
        }
    }
}

#[test]
fn no_sequence_of_readings_gives_back_what_vault_took() {
    let c = Mirror::Complete;
    let readings = [
        Holder::None,
        Holder::Unreadable("timeout".into()),
        Holder::Disagree("two".into()),
        git(1, None),
        git(2, Some(A)),
        git(2, Some(B)),
        git(3, Some(B)),
        vault(1, A, c),
        vault(1, B, c),
        vault(2, B, c),
    ];
    let mut sequences = vec![(Memory::default(), None::<Holder>)];
    for _ in 0..5 {
        let mut longer = Vec::new();
        for (memory, highest) in sequences {
            for reading in &readings {
                let mut memory = memory.clone();
                let answer = memory.observe(reading.clone());
                match (&highest, &answer) {
                    (Some(Holder::Vault { epoch, handover, .. }), Holder::Git { epoch: e, supersedes }) => {
                        assert_eq!((Some(*e), supersedes.as_ref()), (epoch.next(), Some(handover)));
                    }
                    (Some(Holder::Vault { epoch, handover, .. }), Holder::Vault { epoch: e, handover: h, .. }) => {
                        assert!(e > epoch || (e, h) == (epoch, handover));
                    }
                    (Some(Holder::Vault { .. }), Holder::None) => panic!("vault was forgotten"),
                    (
                        Some(Holder::Git { epoch, .. }),
                        Holder::Git { epoch: e, .. } | Holder::Vault { epoch: e, .. },
                    ) => {
                        assert!(e >= epoch);
                    }
                    (Some(Holder::Git { .. }), Holder::None) => panic!("git was forgotten"),
                    (Some(_), Holder::Disagree(_) | Holder::Unreadable(_)) | (None, _) => {}
                    (Some(Holder::None | Holder::Disagree(_) | Holder::Unreadable(_)), _) => unreachable!(),
                }
                let highest = match answer {
                    Holder::Git { .. } | Holder::Vault { .. } => Some(answer),
                    Holder::None | Holder::Disagree(_) | Holder::Unreadable(_) => highest.clone(),
                };
                longer.push((memory, highest));
            }
        }
        // A memory and what it answered last say everything about what may come.
        longer.sort_by_key(|state| format!("{state:?}"));
        longer.dedup();
        sequences = longer;
    }
    assert!(sequences.len() > readings.len() / 2);
}

#[test]
fn a_reader_looks_around_the_authority_and_around_git() {
    let numbers = |witness: &Reading<AuthorityWitness>, bootstrap: Option<u64>| {
        let epochs = Evidence::epochs_to_read(witness, bootstrap.map(epoch));
        epochs.into_iter().map(Epoch::get).collect::<Vec<_>>()
    };
    let at_five = Reading::Present(authority(5, Holds::Git, Some(A)));
    assert_eq!(numbers(&at_five, None), [4, 5, 6]);
    assert_eq!(numbers(&at_five, Some(1)), [1, 2, 4, 5, 6]);
    assert_eq!(numbers(&Reading::Absent, Some(3)), [2, 3, 4]);
    assert_eq!(numbers(&Reading::Absent, Some(1_000_000)), [999_999, 1_000_000]);
    let all_absent = |epochs: &[u32]| epochs.iter().map(|e| (epoch((*e).into()), Reading::Absent)).collect();
    let read = Evidence { authority: at_five, handovers: all_absent(&[4, 5, 6]), ..Evidence::none() };
    assert_eq!(read.holder(), git(5, Some(A)), "what it asks for is enough to know K");
}

#[test]
fn the_list_is_that_of_the_handover_and_grows_by_imports() {
    let mut read = evidence(Says::Vault(1, A), [Says::Vault(1, A), Says::Absent, Says::Absent]);
    assert_eq!(read.documents(), DocumentList::Readable(vec![document("app/db")]));
    read.imported = Reading::Present(vec![document("app/new")]);
    assert_eq!(read.documents(), DocumentList::Readable(vec![document("app/db"), document("app/new")]));
    read.imported = Reading::Unreadable("timeout".into());
    assert_eq!(read.documents(), DocumentList::Unreadable, "half a list would make the other half an error");
    let lost = evidence(Says::Vault(1, A), [Says::Absent, Says::Absent, Says::Absent]);
    assert_eq!(lost.documents(), DocumentList::Unreadable);
}

#[test]
fn a_remembered_handover_is_not_answered_with_the_list_of_another() {
    let rolled_back = evidence(Says::Vault(1, A), [Says::Vault(1, A), Says::Absent, Says::Absent]);
    let mut memory = Memory::default();
    memory.observe(vault(2, B, Mirror::Complete));
    let holder = memory.observe(rolled_back.holder());
    assert_eq!(holder, vault(2, B, Mirror::Incomplete));
    assert_eq!(rolled_back.documents_of(&holder), DocumentList::Unreadable);
}

#[test]
fn witnesses_are_read_back_as_written() {
    let place =
        WitnessedVault { address: "https://v".into(), namespace: String::new(), mount: "m".into(), prefix: "p".into() };
    for witness in [
        authority(1, Holds::Git, None),
        authority(2, Holds::Vault(id(B)), Some(A)),
        AuthorityWitness { root: Some("clusters/prod".into()), vault: Some(place), ..authority(1, Holds::Git, None) },
        AuthorityWitness { root: Some(".".into()), ..authority(1, Holds::Git, None) },
    ] {
        assert_eq!(AuthorityWitness::from_json(&prod(), witness.to_json().as_bytes()), Reading::Present(witness));
    }
    let witness = handover(1, A);
    let read = HandoverWitness::from_json(&prod(), epoch(1), witness.to_json().as_bytes());
    assert_eq!(read, Reading::Present(witness));
}

#[test]
fn an_authority_that_is_not_exactly_one_is_unreadable() {
    const GIT: &str = r#"{"schema":1,"authorityId":"prod","authority":"git","epoch":1}"#;
    let vault = format!(r#"{{"schema":1,"authorityId":"prod","authority":"vault","epoch":1,"handoverId":"{A}"}}"#);
    let read = |json: &str| AuthorityWitness::from_json(&prod(), json.as_bytes());
    assert!(matches!(read(GIT), Reading::Present(_)) && matches!(read(&vault), Reading::Present(_)));
    for (from, to) in [
        ("\"schema\":1", "\"schema\":2"),
        ("\"schema\":1", "\"schema\":\"1\""),
        ("\"schema\":1,", ""),
        ("\"prod\"", "\"test\""),
        ("\"git\"", "\"Git\""),
        ("\"git\"", "\"vault\""),
        ("\"git\"", "null"),
        ("\"epoch\":1", "\"epoch\":0"),
        ("\"epoch\":1", "\"epoch\":2"),
        ("\"epoch\":1", "\"epoch\":\"1\""),
        ("\"epoch\":1", "\"epoch\":1.0"),
        ("\"epoch\":1", "\"epoch\":1,\"epoch\":1"),
        ("\"epoch\":1", "\"epoch\":1,\"extra\":1"),
        ("\"epoch\":1", "\"epoch\":1,\"root\":\"/etc\""),
        ("\"epoch\":1", "\"epoch\":1,\"root\":\"a/../b\""),
        ("\"epoch\":1", "\"epoch\":1,\"mount\":\"secret\""),
        ("}", "}}"),
        ("}", ""),
        ("{", "[{"),
    ] {
        let json = GIT.replacen(from, to, 1);
        assert!(matches!(read(&json), Reading::Unreadable(_)), "{json}");
    }
    let supersedes = format!("\"epoch\":1,\"supersedes\":\"{A}\"");
    let held = format!("\"epoch\":1,\"handoverId\":\"{A}\"");
    assert!(matches!(read(&GIT.replace("\"epoch\":1", &supersedes)), Reading::Unreadable(_)));
    assert!(matches!(read(&GIT.replace("\"epoch\":1", &held)), Reading::Unreadable(_)));
    assert!(matches!(read(&vault.replace(A, &A.to_uppercase())), Reading::Unreadable(_)));
    for json in ["", "null", "404 page not found", "{}", "[]", "\u{feff}{}"] {
        assert!(matches!(read(json), Reading::Unreadable(_)), "{json}");
    }
}

#[test]
fn a_handover_witness_that_is_not_exactly_one_is_unreadable() {
    let good = handover(2, A).to_json();
    let read = |number: u64, json: &str| HandoverWitness::from_json(&prod(), epoch(number), json.as_bytes());
    assert!(matches!(read(2, &good), Reading::Present(_)));
    assert!(matches!(read(1, &good), Reading::Unreadable(_)), "in the place of another epoch");
    for (from, to) in [
        ("\"schema\": 1", "\"schema\": 9"),
        ("\"prod\"", "\"test\""),
        ("\"authority\": \"vault\"", "\"authority\": \"git\""),
        ("\"documents\"", "\"document\""),
        ("\"app/db\"", "\"db\""),
        ("\"app/db.yaml\"", "\"../db.yaml\""),
        ("\"handover\"", "\"plain\""),
        (A, "0b5f2c1e"),
    ] {
        assert!(good.contains(from), "{from}");
        assert!(matches!(read(2, &good.replacen(from, to, 1)), Reading::Unreadable(_)), "{to}");
    }
}

#[test]
fn an_authority_moves_one_way() {
    let all = [
        authority(1, Holds::Git, None),
        authority(1, Holds::Vault(id(A)), None),
        authority(1, Holds::Vault(id(B)), None),
        authority(2, Holds::Git, Some(A)),
        authority(2, Holds::Git, Some(B)),
        authority(2, Holds::Vault(id(B)), Some(A)),
        authority(3, Holds::Git, Some(A)),
        authority(3, Holds::Git, Some(B)),
    ];
    // Row: what is; column: what may follow, in the order above.
    let table = ["11100000", "01010000", "00101000", "00010100", "00001000", "00000101", "00000010", "00000001"];
    let expected = |from: usize, to: usize| table[from].as_bytes()[to] == b'1';
    for (from, current) in all.iter().enumerate() {
        for (to, next) in all.iter().enumerate() {
            let may = AuthorityWitness::may_follow(Some(current), next).is_ok();
            assert_eq!(may, expected(from, to), "{current:?} -> {next:?}");
        }
    }
    let first = |next: &AuthorityWitness| AuthorityWitness::may_follow(None, next).is_ok();
    assert!(first(&all[0]) && !first(&all[1]));
    let renamed = AuthorityWitness { name: AuthorityName::parse("test").unwrap(), ..all[1].clone() };
    assert!(AuthorityWitness::may_follow(Some(&all[0]), &renamed).is_err());
}

/// What a handover in a cluster leaves: the whole record.
fn recorded(number: u64, handover: &str) -> AuthorityWitness {
    AuthorityWitness {
        root: Some("clusters/prod".into()),
        clusters: Some(Clusters { witness: "uid-1".into(), target: "uid-2".into() }),
        record: Some(RecordFacts {
            git_commit: "c".repeat(40),
            tree_digest: "d".repeat(64),
            vault_cluster_id: "v".into(),
            mount_uuid: "m".into(),
            marker_version: 1,
            marker_created_time: "2026-01-01T00:00:00Z".into(),
            regent_version: "0.1.0".into(),
        }),
        ..authority(number, Holds::Vault(id(handover)), None)
    }
}

#[test]
fn the_whole_record_survives_its_json_in_both_witnesses() {
    let whole = recorded(1, A);
    let read = AuthorityWitness::from_json(&prod(), whole.to_json().as_bytes());
    assert_eq!(read, Reading::Present(whole.clone()));
    let witness = HandoverWitness { authority: Some(Box::new(whole)), ..handover(1, A) };
    let read = HandoverWitness::from_json(&prod(), epoch(1), witness.to_json().as_bytes());
    assert_eq!(read, Reading::Present(witness));
}

#[test]
fn half_a_record_is_unreadable() {
    let json: serde_json::Value = serde_json::from_str(&recorded(1, A).to_json()).unwrap();
    for field in [
        "gitCommit",
        "treeDigest",
        "vaultClusterId",
        "mountUuid",
        "markerVersion",
        "markerCreatedTime",
        "regentVersion",
        "witnessKubeUid",
        "targetKubeUid",
    ] {
        let mut half = json.clone();
        assert!(half.as_object_mut().unwrap().remove(field).is_some(), "{field}");
        let read = AuthorityWitness::from_json(&prod(), half.to_string().as_bytes());
        assert!(matches!(read, Reading::Unreadable(_)), "{field}: {read:?}");
    }
    let mut git = json.clone();
    git["authority"] = "git".into();
    git.as_object_mut().unwrap().remove("handoverId");
    assert!(matches!(AuthorityWitness::from_json(&prod(), git.to_string().as_bytes()), Reading::Unreadable(_)));
    let mut listed = json;
    listed["documents"] = serde_json::Value::Array(Vec::new());
    assert!(matches!(AuthorityWitness::from_json(&prod(), listed.to_string().as_bytes()), Reading::Unreadable(_)));
}

#[test]
fn a_handover_moves_nothing_but_the_holder() {
    let git = AuthorityWitness { holds: Holds::Git, record: None, ..recorded(1, A) };
    assert_eq!(AuthorityWitness::may_follow(Some(&git), &recorded(1, A)), Ok(()));
    let place =
        WitnessedVault { address: "https://v".into(), namespace: String::new(), mount: "m".into(), prefix: "p".into() };
    let other = Clusters { witness: "uid-3".into(), target: "uid-2".into() };
    for moved in [
        AuthorityWitness { root: Some("clusters/test".into()), ..recorded(1, A) },
        AuthorityWitness { vault: Some(place.clone()), ..recorded(1, A) },
        AuthorityWitness { clusters: Some(other.clone()), ..recorded(1, A) },
        AuthorityWitness { clusters: Some(other), ..git.clone() },
    ] {
        assert!(AuthorityWitness::may_follow(Some(&git), &moved).is_err(), "{moved:?}");
    }
    let target = Some(Clusters { witness: "uid-1".into(), target: "uid-3".into() });
    for moved in [recorded(1, A), git.clone()] {
        let moved = AuthorityWitness { clusters: target.clone(), ..moved };
        assert!(AuthorityWitness::may_follow(Some(&git), &moved).is_err(), "{moved:?}");
    }
    // A new epoch may begin in a target that was taken over, under the same witnesses.
    let next = AuthorityWitness { epoch: epoch(2), supersedes: Some(id(A)), ..git.clone() };
    let moved = AuthorityWitness { clusters: target, ..next.clone() };
    assert_eq!(AuthorityWitness::may_follow(Some(&recorded(1, A)), &moved), Ok(()));
    let moved =
        AuthorityWitness { clusters: Some(Clusters { witness: "uid-3".into(), target: "uid-2".into() }), ..next };
    assert!(AuthorityWitness::may_follow(Some(&recorded(1, A)), &moved).is_err());
    // `init --move` corrects root and place in Vault while Git rules.
    let moved = AuthorityWitness { root: Some("clusters/test".into()), vault: Some(place), ..git.clone() };
    assert_eq!(AuthorityWitness::may_follow(Some(&git), &moved), Ok(()));
}

#[test]
fn status_counts_for_the_epoch_and_handover_of_k_alone() {
    let with = |status: Option<&str>| {
        let evidence = Evidence {
            authority: Reading::Present(authority(1, Holds::Vault(id(A)), None)),
            handovers: [(epoch(1), Reading::Present(handover(1, A))), (epoch(2), Reading::Absent)].into(),
            ..Evidence::none()
        };
        evidence.with_status(status.map(str::as_bytes))
    };
    let settled =
        |number: u64, handover: &str| format!(r#"{{"settled":{{"epoch":{number},"handoverId":"{handover}"}}}}"#);
    assert!(with(Some(&settled(1, A))).is_settled());
    for not in [None, Some("{}"), Some(&*settled(2, A)), Some(&*settled(1, B)), Some(r#"{"settled":true}"#), Some("no")]
    {
        assert!(!with(not).is_settled(), "{not:?}");
    }
    let imported = |key: &str| {
        format!(
            r#"{{"heartbeat":{{"epoch":1,"version":7,"time":0}},"conditions":[],"imported":{{"{key}":{{"path":"a.yaml","name":"app/a","kind":"Secret","class":"handover","blob":"b"}}}}}}"#
        )
    };
    let listed = |status: &str| match with(Some(status)).documents() {
        DocumentList::Readable(documents) => documents.len(),
        DocumentList::Unreadable => 0,
    };
    assert_eq!(listed("{}"), 1);
    assert_eq!(listed(&imported("1-1")), 2);
    // Of another epoch, whose number begins with the same digit.
    assert_eq!(listed(&imported("11-1")), 1);
    assert_eq!(listed(&imported("2-1")), 1);
    // A list that cannot be read whole is none.
    assert_eq!(listed(r#"{"imported":{"1-1":{"path":"../a"}}}"#), 0);
    assert_eq!(listed("no"), 0);
}

#[test]
fn vault_is_asked_where_a_person_accepted_it_last_and_else_where_the_witnesses_say() {
    let place = |address: &str| WitnessedVault {
        address: address.to_owned(),
        namespace: String::new(),
        mount: "secret".to_owned(),
        prefix: "bootstrap/prod".to_owned(),
    };
    let recorded = AuthorityWitness { vault: Some(place("old")), ..authority(1, Holds::Vault(id(A)), None) };
    let witness = HandoverWitness { authority: Some(Box::new(recorded.clone())), ..handover(1, A) };
    let with = |authority: Reading<AuthorityWitness>, status: Option<&str>| {
        let handovers = [(epoch(1), Reading::Present(witness.clone())), (epoch(2), Reading::Absent)].into();
        Evidence { authority, handovers, ..Evidence::none() }.with_status(status.map(str::as_bytes)).place()
    };
    let rebound = |entries: &[(&str, &str, &str)]| {
        let entry = |(key, handover, address): &(&str, &str, &str)| {
            format!(
                r#""{key}":{{"handoverId":"{handover}","vaultAddress":"{address}","vaultNamespace":"","mount":"secret"}}"#
            )
        };
        format!(r#"{{"rebound":{{{}}}}}"#, entries.iter().map(entry).collect::<Vec<_>>().join(","))
    };
    let there = || Reading::Present(recorded.clone());
    for (status, address) in [
        (None, "old"),
        (Some("{}".to_owned()), "old"),
        (Some(rebound(&[("1-1", A, "new")])), "new"),
        // By number, not by text.
        (Some(rebound(&[("1-10", A, "newest"), ("1-9", A, "new")])), "newest"),
        // Of other epochs.
        (Some(rebound(&[("11-1", A, "new"), ("2-1", A, "new"), ("0-0", A, "new")])), "old"),
    ] {
        assert_eq!(with(there(), status.as_deref()), Reading::Present(place(address)), "{status:?}");
    }
    for unknown in
        [rebound(&[("1-1", B, "new")]), rebound(&[("1-x", A, "new")]), r#"{"rebound":{"1-1":{}}}"#.to_owned()]
    {
        assert!(matches!(with(there(), Some(&unknown)), Reading::Unreadable(_)), "{unknown}");
    }
    // Where the Authority is missing, the handover's own witness says it; one that cannot be read may say that it moved.
    assert_eq!(with(Reading::Absent, None), Reading::Present(place("old")));
    assert!(matches!(with(Reading::Unreadable("timeout".to_owned()), None), Reading::Unreadable(_)));
    // While Git rules nothing moved.
    let git = AuthorityWitness { holds: Holds::Git, record: None, ..recorded.clone() };
    let handovers = [(epoch(1), Reading::Absent), (epoch(2), Reading::Absent)].into();
    let git = Evidence { authority: Reading::Present(git), handovers, ..Evidence::none() };
    assert_eq!(git.with_status(Some(rebound(&[("1-1", A, "new")]).as_bytes())).place(), Reading::Present(place("old")));
}

#[test]
fn a_place_in_vault_is_told_with_every_part() {
    let of = |namespace: &str| WitnessedVault {
        address: "https://v".into(),
        namespace: namespace.into(),
        mount: "m".into(),
        prefix: "p".into(),
    };
    assert_eq!(of("").to_string(), "https://v m/p");
    assert_eq!(of("team/a").to_string(), "https://v namespace team/a m/p");
}
