use std::collections::BTreeMap;

use regent_core::evidence::{AuthorityWitness, HandoverWitness, Holds};
use regent_core::name::HandoverId;

use super::*;
use crate::failure::Exit;

const ID: &str = "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f";

fn place(address: &str) -> WitnessedVault {
    WitnessedVault {
        address: address.to_owned(),
        namespace: String::new(),
        mount: "secret".to_owned(),
        prefix: "bootstrap/prod".to_owned(),
    }
}

fn name() -> AuthorityName {
    AuthorityName::parse("prod").unwrap()
}

fn authority(holds: Holds) -> AuthorityWitness {
    AuthorityWitness {
        name: name(),
        holds,
        epoch: Epoch::FIRST,
        supersedes: None,
        root: None,
        vault: Some(place("old")),
        clusters: None,
        no_vault_yet: false,
        record: None,
    }
}

fn handed_over() -> Holds {
    Holds::Vault(HandoverId::parse(ID).unwrap())
}

fn evidence(authority: Reading<AuthorityWitness>, handover: bool) -> Evidence {
    let left = self::authority(handed_over());
    let witness = HandoverWitness {
        name: name(),
        epoch: Epoch::FIRST,
        handover: HandoverId::parse(ID).unwrap(),
        documents: Vec::new(),
        authority: Some(Box::new(left)),
    };
    let first = if handover { Reading::Present(witness) } else { Reading::Absent };
    let handovers = BTreeMap::from([(Epoch::FIRST, first), (Epoch::new(2).unwrap(), Reading::Absent)]);
    Evidence { authority, handovers, ..Evidence::none() }
}

/// K is vault, by both witnesses or by either one.
fn vault() -> [Evidence; 4] {
    [
        evidence(Reading::Present(authority(handed_over())), true),
        evidence(Reading::Present(authority(handed_over())), false),
        evidence(Reading::Present(authority(Holds::Git)), true),
        evidence(Reading::Absent, true),
    ]
}

fn exit(written: &WitnessedVault, evidence: &Evidence, other_vault: OtherVault) -> Result<At, Exit> {
    at(Some(written), evidence, other_vault).map_err(|failure| failure.exit())
}

#[test]
fn another_place_is_a_persons_decision_once_vault_rules() {
    for evidence in vault() {
        let moved = [
            place("new"),
            WitnessedVault { namespace: "team".to_owned(), ..place("old") },
            WitnessedVault { mount: "kv".to_owned(), ..place("old") },
        ];
        for written in moved {
            assert_eq!(exit(&written, &evidence, OtherVault::Refused), Err(Exit::Person), "{written:?}");
            assert_eq!(exit(&written, &evidence, OtherVault::Accepted), Ok(At::Moved(written)));
        }
        let elsewhere = WitnessedVault { prefix: "bootstrap/test".to_owned(), ..place("new") };
        for other_vault in [OtherVault::Refused, OtherVault::Accepted] {
            assert_eq!(exit(&elsewhere, &evidence, other_vault), Err(Exit::Person));
            assert_eq!(exit(&place("old"), &evidence, other_vault), Ok(At::Recorded(place("old"))));
        }
    }
}

#[test]
fn the_stop_names_both_places_and_the_option() {
    let [evidence, ..] = vault();
    let failure = at(Some(&place("new")), &evidence, OtherVault::Refused).unwrap_err();
    let said = format!("{failure}; {}", failure.hint());
    for word in ["new secret/bootstrap/prod", "old secret/bootstrap/prod", "--accept-vault-identity"] {
        assert!(said.contains(word), "{said}");
    }
    assert_eq!(failure.code().entry().name, "other-place");
}

#[test]
fn where_it_moved_to_is_the_place_from_then_on() {
    let [evidence, ..] = vault();
    let evidence = Evidence { moved: Reading::Present(place("new")), ..evidence };
    assert_eq!(exit(&place("new"), &evidence, OtherVault::Refused), Ok(At::Recorded(place("new"))));
    assert_eq!(exit(&place("old"), &evidence, OtherVault::Refused), Err(Exit::Person));
    assert_eq!(exit(&place("old"), &evidence, OtherVault::Accepted), Ok(At::Moved(place("old"))));
    let unknown = Evidence { moved: Reading::Unreadable("no".to_owned()), ..evidence };
    for written in [place("old"), place("new")] {
        assert_eq!(exit(&written, &unknown, OtherVault::Accepted), Err(Exit::Authority));
    }
}

#[test]
fn while_git_rules_nothing_moves() {
    let git = evidence(Reading::Present(authority(Holds::Git)), false);
    for other_vault in [OtherVault::Refused, OtherVault::Accepted] {
        assert_eq!(exit(&place("new"), &git, other_vault), Err(Exit::Stopped));
        assert_eq!(exit(&place("old"), &git, other_vault), Ok(At::Recorded(place("old"))));
        let none = evidence(Reading::Absent, false);
        assert_eq!(exit(&place("new"), &none, other_vault), Ok(At::Recorded(place("new"))));
    }
}

#[test]
fn each_place_is_noted_after_the_last_one_and_no_place_twice() {
    let rebound = |address: &str| Rebound {
        handover_id: ID.to_owned(),
        vault_address: address.to_owned(),
        vault_namespace: String::new(),
        mount: "secret".to_owned(),
    };
    let mut status = AuthorityStatus::default();
    assert_eq!(last(&status, Epoch::FIRST), None);
    for number in [9, 10] {
        status.rebound.insert(format!("1-{number}"), rebound(&number.to_string()));
    }
    status.rebound.insert("11-12".to_owned(), rebound("of another epoch"));
    assert_eq!(last(&status, Epoch::FIRST), Some((10, &rebound("10"))));
}
