use super::*;
use crate::name::{Epoch, FilePath};
use crate::rules::RegentConfig;

const ID: &str = "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f";

fn prod() -> AuthorityName {
    AuthorityName::parse("prod").unwrap()
}

fn id() -> HandoverId {
    HandoverId::parse(ID).unwrap()
}

// --- the order

/// Every combination of what may be seen of thirteen steps would be 67 million; where what is left is, and whether that is
/// known, is what the order is about.
fn combinations() -> impl Iterator<Item = Vec<Seen>> {
    let of = |digit: u32| match digit {
        0 => Seen::Gone,
        1 => Seen::Left(vec!["x".to_owned()]),
        _unknown => Seen::Unknown("u".to_owned()),
    };
    (0..3_u32.pow(14)).step_by(23).map(move |number| (0..14).map(|at| of(number / 3_u32.pow(at) % 3)).collect())
}

fn at(seen: &[Seen], step: Step) -> Seen {
    let position = Step::ALL.iter().position(|it| *it == step).unwrap();
    seen[position].clone()
}

#[test]
fn a_step_is_offered_only_where_everything_before_it_is_done() {
    for seen in combinations() {
        let told = order(&|step| at(&seen, step));
        let offered: Vec<usize> = told
            .iter()
            .enumerate()
            .filter(|(_, (_, state))| matches!(state, State::ToDo(_)))
            .map(|(at, _)| at)
            .collect();
        assert!(offered.len() <= 1);
        for at in offered {
            assert!(told[..at].iter().all(|(_, state)| matches!(state, State::Done)), "{seen:?}");
        }
    }
}

#[test]
fn what_is_left_and_not_offered_names_what_comes_first() {
    for seen in combinations() {
        let told = order(&|step| at(&seen, step));
        let open = told.iter().find(|(_, state)| !matches!(state, State::Done)).map(|(step, _)| *step);
        for (_, state) in &told {
            if let State::NotYet { first, .. } = state {
                assert_eq!(Some(*first), open);
            }
        }
    }
}

#[test]
fn what_others_need_stays_and_stands_in_nobodys_way() {
    let seen = |step| {
        if step == Step::Policies {
            Seen::Kept("edge".to_owned())
        } else {
            Seen::left(if step == Step::Witnesses { vec!["Authority prod".to_owned()] } else { Vec::new() })
        }
    };
    let told = order(&seen);
    assert!(told.contains(&(Step::Policies, State::Kept("edge".to_owned()))));
    assert!(told.contains(&(Step::Witnesses, State::ToDo(vec!["Authority prod".to_owned()]))));
}

/// What each constraint of the order keeps alive: the second must not go while the first is still there.
#[test]
fn the_order_is_the_one_that_loses_nothing() {
    for (before, after) in [
        // Git remembers, before the witnesses forget.
        (Step::Closed, Step::Witnesses),
        // Who uses the keys is read off the sidecar.
        (Step::Keys, Step::Sidecar),
        // A Secret without guards is pruned with its stub.
        (Step::Guards, Step::Files),
        (Step::Guards, Step::Plugin),
        // The stub of a document that is taken out of Git goes, and the object that delivers it with it.
        (Step::Delivery, Step::Files),
        (Step::Delivery, Step::Plugin),
        // Without the plugin Argo CD applies ciphertext as it is.
        (Step::Files, Step::Plugin),
        (Step::Plugin, Step::Sidecar),
        (Step::Flux, Step::Sidecar),
        (Step::Flux, Step::Lock),
        // The lock bites while a door could render.
        (Step::Plugin, Step::Lock),
        (Step::Sidecar, Step::Lock),
        (Step::Sidecar, Step::Accounts),
        // A lock without its Authority refuses every write of a labelled Secret.
        (Step::Lock, Step::Witnesses),
        (Step::Sidecar, Step::Witnesses),
        // A CRD takes every Authority with it.
        (Step::Witnesses, Step::Schema),
        (Step::Accounts, Step::Home),
        (Step::Policies, Step::Witnesses),
    ] {
        let told =
            order(&|step| if step == before || step == after { Seen::left(vec!["x".to_owned()]) } else { Seen::Gone });
        let (_, state) = told.into_iter().find(|(step, _)| *step == after).unwrap();
        assert_eq!(state, State::NotYet { left: vec!["x".to_owned()], first: before }, "{before:?} {after:?}");
    }
}

// --- who may leave

fn vault(authority: bool, settled: bool) -> Evidence {
    let witness = crate::evidence::HandoverWitness {
        name: prod(),
        epoch: Epoch::FIRST,
        handover: id(),
        documents: Vec::new(),
        authority: None,
    };
    let mut evidence = Evidence::none();
    evidence.handovers.insert(Epoch::FIRST, Reading::Present(witness));
    evidence.authority = if authority { Reading::Unreadable("not asked".to_owned()) } else { Reading::Absent };
    evidence.settled = if settled { Reading::Present(()) } else { Reading::Absent };
    evidence
}

#[test]
fn nobody_leaves_before_it_is_settled() {
    assert_eq!(may(&vault(true, true), None), Ok(May::Settled { handover: id() }));
    assert_eq!(may(&vault(true, false), None), Err(RetireRefusal::NotSettled { handover: id() }));
    // An Authority that cannot be read may say that it is not.
    assert_eq!(may(&vault(true, false), Some(&id())), Err(RetireRefusal::NotSettled { handover: id() }));
}

#[test]
fn git_remembers_while_the_witnesses_go() {
    assert_eq!(may(&vault(false, false), Some(&id())), Ok(May::Closed { handover: id() }));
    assert_eq!(may(&vault(false, false), None), Err(RetireRefusal::NotSettled { handover: id() }));
    let other = HandoverId::parse("7e1d3c8a-2b4f-4a6d-8c9e-5f0a1b2c3d4e").unwrap();
    assert_eq!(may(&vault(false, false), Some(&other)), Err(RetireRefusal::NotSettled { handover: id() }));
    assert_eq!(may(&nothing(), Some(&id())), Ok(May::Closed { handover: id() }));
    assert_eq!(may(&nothing(), None), Err(RetireRefusal::Nothing));
}

/// Every witness around epoch 1 was asked for, and none is there.
fn nothing() -> Evidence {
    let mut evidence = Evidence::none();
    for epoch in Evidence::epochs_to_read(&Reading::Absent, Some(Epoch::FIRST)) {
        evidence.handovers.insert(epoch, Reading::Absent);
    }
    evidence
}

// --- delivery

fn listed(name: &str, class: ListedClass) -> ListedDocument {
    ListedDocument {
        path: FilePath::parse("x.yaml").unwrap(),
        name: SecretName::parse(name).unwrap(),
        kind: "Secret".to_owned(),
        class,
        blob: String::new(),
    }
}

fn delivers(name: &str, is_regents: bool) -> Delivers {
    Delivers { object: format!("ExternalSecret {name}"), secret: SecretName::parse(name).unwrap(), is_regents }
}

#[test]
fn what_regent_made_has_to_be_in_git_and_whatever_delivers_has_to_be_live() {
    let list = [listed("app/db", ListedClass::Handover), listed("app/creds", ListedClass::Permanent)];
    let none = BTreeSet::new();
    let in_git = BTreeSet::from(["ExternalSecret app/db".to_owned()]);
    assert_eq!(delivery(After::Rendered, &list, &[], &none), ["Secret app/db: nothing live delivers it"]);
    let by_regent = [delivers("app/db", true)];
    assert_eq!(delivery(After::Rendered, &list, &by_regent, &none), ["ExternalSecret app/db is not in this commit"]);
    assert_eq!(delivery(After::Rendered, &list, &by_regent, &in_git), [""; 0]);
    assert_eq!(delivery(After::Rendered, &list, &[], &in_git), ["Secret app/db: nothing live delivers it"]);
    assert_eq!(delivery(After::Rendered, &list, &[delivers("app/db", false)], &none), [""; 0]);
    // Of another controller nothing is known.
    assert_eq!(delivery(After::Others, &list, &[], &none), [""; 0]);
    assert_eq!(delivery(After::Others, &list, &by_regent, &none), ["ExternalSecret app/db is not in this commit"]);
}

// --- keys

fn rules(rules: &[(&str, &str)]) -> Vec<Rule> {
    let rules: Vec<String> = rules
        .iter()
        .map(|(authority, keys)| {
            format!("- {{ authority: {authority}, bootstrap: {authority}/regent.yaml, namespaces: ['*'], identities: ['{keys}'] }}\n")
        })
        .collect();
    let yaml = format!(
        "apiVersion: regent.dev/v1alpha1\nkind: RegentConfig\nstore: {{ kind: kubernetes }}\nrules:\n{}",
        rules.concat()
    );
    RegentConfig::parse("regent.yaml", yaml.as_bytes()).unwrap().rules
}

fn secret(mounts: &[(&str, bool)]) -> KeySecret {
    let mounts = mounts.iter().map(|(path, is_door)| Mount {
        container: "argocd-repo-server/x".to_owned(),
        path: (*path).to_owned(),
        is_door: *is_door,
    });
    KeySecret { name: "regent-keys-prod".to_owned(), mounts: mounts.collect() }
}

#[test]
fn a_key_goes_once_it_is_settled_and_nobody_else_has_it() {
    let mounted = secret(&[("/keys/prod", true)]);
    let others = BTreeMap::new();
    let own = rules(&[("prod", "/keys/prod/age.key"), ("edge", "/keys/prod2")]);
    let verdict =
        |own_standing: &Standing, rules: Result<&[Rule], &str>| key(&mounted, &prod(), own_standing, rules, &others);
    assert_eq!(verdict(&Standing::Settled, Ok(&own)), Verdict::Remove);
    assert_eq!(verdict(&Standing::NeedsKeys, Ok(&own)), Verdict::Keep(InUse::NotSettled));
    let unknown = || "no answer".to_owned();
    assert_eq!(verdict(&Standing::Unknown(unknown()), Ok(&own)), Verdict::Keep(InUse::Unknown(unknown())));
    assert_eq!(verdict(&Standing::Settled, Err("no answer")), Verdict::Keep(InUse::Unknown(unknown())));
    assert_eq!(verdict(&Standing::Settled, Ok(&rules(&[("edge", "/keys/prod")]))), Verdict::NotIts);
    assert_eq!(verdict(&Standing::Settled, Ok(&[])), Verdict::Keep(InUse::Unnamed));
}

#[test]
fn a_key_that_others_have_goes_when_all_of_them_are_settled() {
    let mounted = secret(&[("/keys/both", true)]);
    let both = rules(&[("prod", "/keys/both"), ("edge", "/keys/both/edge.key"), ("lab", "/keys")]);
    let [edge, lab] = ["edge", "lab"].map(|name| AuthorityName::parse(name).unwrap());
    let verdict = |standings: &[(&AuthorityName, Standing)]| {
        let others = standings.iter().map(|(name, standing)| ((*name).clone(), standing.clone())).collect();
        key(&mounted, &prod(), &Standing::Settled, Ok(&both), &others)
    };
    let settled = || Standing::Settled;
    assert_eq!(verdict(&[(&edge, settled()), (&lab, settled())]), Verdict::Remove);
    assert_eq!(verdict(&[(&edge, Standing::NeedsKeys), (&lab, settled())]), Verdict::Keep(InUse::By(edge.clone())));
    let why = || "403".to_owned();
    assert_eq!(
        verdict(&[(&edge, settled()), (&lab, Standing::Unknown(why()))]),
        Verdict::Keep(InUse::Maybe(lab.clone(), why()))
    );
    assert_eq!(verdict(&[(&edge, settled())]), Verdict::Keep(InUse::Maybe(lab.clone(), "nobody asked".to_owned())));
}

#[test]
fn an_identity_counts_where_the_door_finds_it() {
    let at = |path: &str| found("/etc/regent", path);
    for (written, is) in [
        ("keys/prod", "/etc/regent/keys/prod"),
        ("./keys//prod/", "/etc/regent/keys/prod"),
        ("../../keys/prod", "/keys/prod"),
        ("../../../keys", "/keys"),
        ("/keys/prod", "/keys/prod"),
        ("/./keys", "/keys"),
    ] {
        assert_eq!(at(written).as_deref(), Some(is), "{written}");
    }
    assert_eq!(found("/var/run/regent", "../../keys").as_deref(), Some("/keys"));
    // What is a link is not known.
    for unclear in ["keys/../prod", "/keys/prod/../edge"] {
        assert_eq!(at(unclear), None, "{unclear}");
    }
    assert_eq!(found("etc/regent", "keys"), None);
    assert_eq!(found("etc/regent", "/keys").as_deref(), Some("/keys"));
}

#[test]
fn a_folder_has_two_names_where_it_is_a_link_in_every_image() {
    let mounted = secret(&[("/var/run/regent/keys", true)]);
    let both = rules(&[("prod", "/var/run/regent/keys/prod"), ("edge", "/run/regent/keys/edge")]);
    assert!(both.iter().all(|rule| uses(rule, &mounted)));
    assert!(rules(&[("edge", "/var/lib/regent/keys")]).iter().all(|rule| !uses(rule, &mounted)));
}

#[test]
fn a_key_that_another_program_mounts_stays() {
    let mounted = secret(&[("/keys/prod", true), ("/elsewhere", false)]);
    let verdict = key(&mounted, &prod(), &Standing::Settled, Ok(&rules(&[("prod", "/keys/prod")])), &BTreeMap::new());
    assert_eq!(verdict, Verdict::Keep(InUse::Mounted("argocd-repo-server/x".to_owned())));
}
