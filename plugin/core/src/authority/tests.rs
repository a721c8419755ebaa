use super::*;
use crate::evidence::Mirror;
use crate::name::FilePath;

const A: &str = "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f";
const B: &str = "5d1c9f7a-3b2e-4c8d-8f60-7a9b1c2d3e4f";
const C: &str = "9e8d7c6b-5a49-4382-b716-05f4e3d2c1b0";
const HANDOVERS: [&str; 3] = [A, B, C];

type Written = (u64, Option<&'static str>, Option<&'static str>);

fn id(text: &str) -> HandoverId {
    HandoverId::parse(text).unwrap()
}

fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

fn bootstrap((epoch, supersedes, closed): Written) -> Bootstrap {
    let mut text = format!("apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\nepoch: {epoch}\n");
    for (key, value) in [("supersedes", supersedes), ("closed", closed)] {
        text.extend(value.map(|value| format!("{key}: {value}\n")));
    }
    Bootstrap::parse(&FilePath::parse("regent.yaml").unwrap(), text.as_bytes()).unwrap()
}

/// Every E, S and `closed` that a `regent.yaml` can hold, over three epochs and three handovers.
fn all_written() -> Vec<Written> {
    let some = || HANDOVERS.into_iter().map(Some);
    let mut all = Vec::new();
    for number in 1..=3 {
        let supersedes: Vec<_> = if number == 1 { vec![None] } else { some().collect() };
        for supersedes in supersedes {
            all.extend(some().chain([None]).map(|closed| (number, supersedes, closed)));
        }
    }
    all
}

/// K as the test writes it, and as the code reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum K {
    None,
    Git(u64, Option<&'static str>),
    Vault(u64, &'static str, Mirror),
    Disagree,
    Unreadable,
}

fn all_k() -> Vec<K> {
    let mut all = vec![K::None, K::Disagree, K::Unreadable, K::Git(1, None)];
    for handover in HANDOVERS {
        all.extend([2, 3].map(|number| K::Git(number, Some(handover))));
        for mirror in [Mirror::Complete, Mirror::Incomplete] {
            all.extend([1, 2, 3].map(|number| K::Vault(number, handover, mirror)));
        }
    }
    all
}

fn holder(k: K) -> Holder {
    match k {
        K::None => Holder::None,
        K::Git(number, supersedes) => Holder::Git { epoch: epoch(number), supersedes: supersedes.map(id) },
        K::Vault(number, h, mirror) => Holder::Vault { epoch: epoch(number), handover: id(h), mirror },
        K::Disagree => Holder::Disagree("two sides".into()),
        K::Unreadable => Holder::Unreadable("timeout".into()),
    }
}

/// The table P1..P6 over plain numbers: the rows that fit, of which there must be one.
fn by_the_table(k: K, (e_git, s, closed): Written) -> &'static str {
    let counts = closed.is_some() && closed != s;
    let p1 = matches!(k, K::Unreadable | K::Disagree);
    let p2 = matches!(k, K::Vault(e, _, _) if e_git <= e);
    let p3 = matches!(k, K::Vault(e, h, _) if e_git == e + 1 && s == Some(h));
    let p4 = matches!(k, K::Git(e, witness) if e_git == e && s == witness) && !counts;
    let p5 = k == K::None;
    let rows: Vec<_> = [(p1, "P1"), (p2, "P2"), (p3, "P3"), (p4, "P4"), (p5, "P5")]
        .into_iter()
        .filter_map(|(fits, rule)| fits.then_some(rule))
        .collect();
    match rows.as_slice() {
        [] => "P6",
        [row] => row,
        several => panic!("{several:?} fit {k:?}"),
    }
}

fn decided(answer: &Result<Ruling, AuthorityRefusal>) -> &'static str {
    match answer.as_ref().map(Ruling::mode) {
        Ok(Mode::Stubs(_)) => "P2",
        Ok(Mode::Values) => "P4",
        Ok(Mode::Unasked) => "nobody asked",
        Err(refusal) => match refusal.rule() {
            Rule::P0 => "P0",
            Rule::P1 => "P1",
            Rule::P3 => "P3",
            Rule::P5 => "P5",
            Rule::P6 => "P6",
        },
    }
}

fn decide(k: K, written: Written) -> Result<Ruling, AuthorityRefusal> {
    rule(&bootstrap(written), &Place::default(), &holder(k), DocumentList::Unreadable)
}

#[test]
fn every_pair_of_k_and_regent_yaml_is_decided_as_the_table_says() {
    let mut count = std::collections::BTreeMap::<&str, usize>::new();
    for k in all_k() {
        for written in all_written() {
            let expected = by_the_table(k, written);
            assert_eq!(decided(&decide(k, written)), expected, "{k:?}, regent.yaml {written:?}");
            *count.entry(expected).or_default() += 1;
        }
    }
    assert_eq!(count.keys().copied().collect::<Vec<_>>(), ["P1", "P2", "P3", "P4", "P5", "P6"], "{count:?}");
}

/// The rows that a person would look up, spelled out.
#[test]
fn the_story_of_two_epochs() {
    let complete = Mirror::Complete;
    for (k, written, rule) in [
        (K::None, (1, None, None), "P5"),
        (K::Git(1, None), (1, None, None), "P4"),
        (K::Vault(1, A, complete), (1, None, None), "P2"),
        (K::Vault(1, A, complete), (1, None, Some(A)), "P2"),
        (K::Git(1, None), (1, None, Some(A)), "P6"),
        (K::Vault(1, A, complete), (2, Some(A), Some(A)), "P3"),
        (K::Vault(1, A, complete), (2, Some(B), None), "P6"),
        (K::Vault(1, A, complete), (3, Some(A), None), "P6"),
        (K::Git(2, Some(A)), (2, Some(A), None), "P4"),
        (K::Git(2, Some(A)), (2, Some(A), Some(A)), "P4"),
        (K::Git(2, Some(A)), (2, Some(A), Some(B)), "P6"),
        (K::Git(2, Some(A)), (1, None, None), "P6"),
        (K::Git(2, Some(A)), (1, None, Some(A)), "P6"),
        (K::Vault(2, B, complete), (1, None, None), "P2"),
        (K::Vault(2, B, complete), (2, Some(A), None), "P2"),
        (K::Vault(2, B, Mirror::Incomplete), (2, Some(C), None), "P2"),
    ] {
        assert_eq!(decided(&decide(k, written)), rule, "{k:?}, regent.yaml {written:?}");
    }
}

#[test]
fn stubs_are_made_from_the_list_that_was_read() {
    let list = DocumentList::Readable(Vec::new());
    let answer = rule(&bootstrap((1, None, None)), &Place::default(), &holder(K::Vault(1, A, Mirror::Complete)), list);
    assert_eq!(answer.unwrap().mode(), &Mode::Stubs(DocumentList::Readable(Vec::new())));
}

#[test]
fn a_request_stands_where_the_authority_was_created() {
    let right = Place {
        root: Some("clusters/prod".into()),
        other_bootstraps: Vec::new(),
        admitted_by: Some(AuthorityName::parse("prod").unwrap()),
        recorded_root: RecordedRoot::Is(Some("clusters/prod".into())),
    };
    let wrong = [
        Place { admitted_by: Some(AuthorityName::parse("test").unwrap()), ..right.clone() },
        Place { other_bootstraps: vec!["clusters/regent.yaml".into()], ..right.clone() },
        Place { root: Some("clusters/prod2".into()), ..right.clone() },
        Place { root: Some(".".into()), ..right.clone() },
        Place { root: None, ..right.clone() },
        Place { recorded_root: RecordedRoot::Is(None), ..right.clone() },
    ];
    let outside = Place { root: None, recorded_root: RecordedRoot::Is(None), ..right.clone() };
    let nothing_recorded = Place { recorded_root: RecordedRoot::Unknown, ..right.clone() };
    for k in all_k() {
        for written in all_written() {
            let bootstrap = bootstrap(written);
            let at = |place: &Place| rule(&bootstrap, place, &holder(k), DocumentList::Unreadable);
            for place in [&right, &outside, &nothing_recorded] {
                assert_eq!(decided(&at(place)), by_the_table(k, written), "{place:?}");
            }
            for place in &wrong {
                assert_eq!(decided(&at(place)), "P0", "{k:?} {place:?}");
            }
        }
    }
}

#[test]
fn evidence_that_moved_meanwhile_gives_the_stubs_or_an_error() {
    for before in all_k() {
        for after in all_k() {
            let same = match (before, after) {
                (K::Vault(e, h, _), K::Vault(f, i, _)) => (e, h) == (f, i),
                (K::Git(..), K::Git(..)) => before == after,
                _ => false,
            };
            let to_vault = matches!((before, after), (K::Git(e, _), K::Vault(f, _, _)) if f >= e);
            let expected = if same { Some(Recheck::Same) } else { to_vault.then_some(Recheck::NowStubs) };
            let answer = recheck(&holder(before), &holder(after));
            assert_eq!(answer.as_ref().ok(), expected.as_ref(), "{before:?} -> {after:?}");
            if let Err(refusal) = answer {
                assert_eq!(refusal.rule(), Rule::P1);
            }
        }
    }
}

#[test]
fn git_is_assumed_only_where_no_store_says_otherwise() {
    for written in all_written() {
        let bootstrap = bootstrap(written);
        let assume = |assumption, k: Option<K>| {
            Ruling::assume(assumption, Some(&bootstrap), &Place::default(), k.map(holder).as_ref())
        };
        let unwitnessed = if bootstrap.closed_counts() { "P6" } else { "P4" };
        assert_eq!(decided(&assume(Assumption::Git, None)), unwitnessed, "{written:?}");
        for k in all_k() {
            let expected = match k {
                K::None => unwitnessed,
                K::Git(..) => by_the_table(k, written),
                K::Vault(..) => "P6",
                K::Disagree | K::Unreadable => "P1",
            };
            assert_eq!(decided(&assume(Assumption::Git, Some(k))), expected, "{k:?} {written:?}");
            let vault = assume(Assumption::Vault, Some(k)).unwrap();
            assert_eq!(vault.mode(), &Mode::Stubs(DocumentList::Unreadable), "{k:?}");
        }
        assert_eq!(assume(Assumption::Vault, None).unwrap().mode(), &Mode::Stubs(DocumentList::Unreadable));
    }
    assert_eq!(Ruling::unasked().mode(), &Mode::Unasked);
}

#[test]
fn an_assumption_stands_in_for_no_place() {
    let between = Place { other_bootstraps: vec!["clusters/regent.yaml".into()], ..Place::default() };
    for assumption in [Assumption::Git, Assumption::Vault] {
        for bootstrap in [None, Some(bootstrap((1, None, None)))] {
            let answer = Ruling::assume(assumption, bootstrap.as_ref(), &between, None);
            assert_eq!(decided(&answer), "P0", "{assumption:?}");
            assert!(Ruling::assume(assumption, bootstrap.as_ref(), &Place::default(), None).is_ok());
        }
    }
}

#[test]
fn a_refusal_is_one_line_that_names_both_sides() {
    for k in all_k() {
        for written in all_written() {
            let Err(refusal) = decide(k, written) else { continue };
            let said = refusal.to_string();
            assert!(!said.contains('\n') && said.len() < 150, "{said}");
            if refusal.rule() == Rule::P6 {
                assert!(said.contains(&holder(k).to_string()), "{said}");
                assert!(said.contains(&format!("epoch {}", written.0)), "{said}");
            }
        }
    }
}
