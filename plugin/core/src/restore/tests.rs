use super::*;
use crate::evidence::{HandoverWitness, Holds, Reading};
use crate::name::{AuthorityName, Epoch, FilePath, HandoverId};

const A: &str = "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f";
const B: &str = "5d1c9f7a-3b2e-4c8d-8f60-7a9b1c2d3e4f";

fn id(text: &str) -> HandoverId {
    HandoverId::parse(text).unwrap()
}

fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

fn secret(name: &str) -> SecretName {
    SecretName::parse(name).unwrap()
}

fn here() -> Clusters {
    Clusters { witness: "one".into(), target: "one".into() }
}

fn asked_of(clusters: &Clusters) -> Asked<'_> {
    Asked { clusters, copy: None }
}

fn authority(number: u64, holds: Holds) -> AuthorityWitness {
    AuthorityWitness {
        name: AuthorityName::parse("prod").unwrap(),
        holds,
        epoch: epoch(number),
        supersedes: (number > 1).then(|| id(B)),
        root: Some("clusters/prod".into()),
        vault: None,
        clusters: Some(here()),
        no_vault_yet: false,
        record: None,
    }
}

fn listed(name: &str, kind: &str, class: ListedClass) -> ListedDocument {
    ListedDocument {
        path: FilePath::parse("creds.yaml").unwrap(),
        name: secret(name),
        kind: kind.into(),
        class,
        blob: "0".repeat(40),
    }
}

fn witness(number: u64, handover: &str) -> HandoverWitness {
    HandoverWitness {
        name: AuthorityName::parse("prod").unwrap(),
        epoch: epoch(number),
        handover: id(handover),
        documents: vec![
            listed("argocd/creds", "Secret", ListedClass::Permanent),
            listed("argocd/unseal", "Secret", ListedClass::Permanent),
            listed("argocd/dropped", "Secret", ListedClass::Permanent),
            listed("app/db", "Secret", ListedClass::Handover),
            listed("app/settings", "ConfigMap", ListedClass::Permanent),
        ],
        authority: None,
    }
}

fn bootstrap(number: u64) -> Bootstrap {
    let supersedes = if number > 1 { format!("supersedes: {B}\n") } else { String::new() };
    let text = format!(
        "apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\nepoch: {number}\n{supersedes}secrets:\n  permanent: \
         [{{ name: argocd/creds }}, {{ name: argocd/unseal, vault: false }}, {{ name: app/new }}, {{ name: app/db }}, {{ name: app/settings }}]\n"
    );
    Bootstrap::parse(&FilePath::parse("regent.yaml").unwrap(), text.as_bytes()).unwrap()
}

fn vault_rules(number: u64) -> Evidence {
    let mut handovers: std::collections::BTreeMap<_, _> =
        (1..=4).map(|number| (epoch(number), Reading::Absent)).collect();
    handovers.insert(epoch(number), Reading::Present(witness(number, A)));
    Evidence { authority: Reading::Present(authority(number, Holds::Vault(id(A)))), handovers, ..Evidence::none() }
}

fn place(evidence: &Evidence) -> Place {
    Place { root: Some("clusters/prod".into()), recorded_root: evidence.recorded_root(), ..Place::default() }
}

fn asked(evidence: &Evidence, number: u64, name: &str) -> Result<bool, String> {
    let bootstrap = bootstrap(number);
    let permitted = permitted(&bootstrap, &place(evidence), evidence, asked_of(&here()), &secret(name));
    permitted.map(|permitted| permitted.permanent.vault).map_err(|refusal| refusal.to_string())
}

#[test]
fn a_secret_comes_back_where_both_lists_say_that_it_is_permanent() {
    let evidence = vault_rules(1);
    assert_eq!(asked(&evidence, 1, "argocd/creds"), Ok(true));
    assert_eq!(asked(&evidence, 1, "argocd/unseal"), Ok(false));
    for (name, expected) in [
        ("app/db", "Secret app/db is not permanent in the handover's list: Vault delivers it"),
        ("argocd/dropped", "Secret argocd/dropped is not permanent in regent.yaml: Vault delivers it"),
        ("app/new", "the handover does not list Secret app/new"),
        ("app/settings", "the handover does not list Secret app/settings"),
    ] {
        assert_eq!(asked(&evidence, 1, name), Err(expected.to_owned()));
    }
}

#[test]
fn an_imported_secret_is_on_the_list() {
    let imported = vec![listed("app/new", "Secret", ListedClass::Permanent)];
    let evidence = Evidence { imported: Reading::Present(imported), ..vault_rules(1) };
    assert_eq!(asked(&evidence, 1, "app/new"), Ok(true));
    let evidence = Evidence { imported: Reading::Unreadable("no".into()), ..vault_rules(1) };
    assert_eq!(asked(&evidence, 1, "argocd/creds"), Err("the list of what was handed over is not readable".into()));
}

#[test]
fn it_is_an_exception_to_p2_and_to_nothing_else() {
    let creds = |evidence: &Evidence, number| asked(evidence, number, "argocd/creds").unwrap_err();
    let git = Evidence { authority: Reading::Present(authority(1, Holds::Git)), ..vault_rules(1) };
    let mut git_rules = git.clone();
    git_rules.handovers.insert(epoch(1), Reading::Absent);
    assert_eq!(creds(&git_rules, 1), "the witnesses say git(1): Git rules, and its front door writes argocd/creds");
    // The mirror is unfinished, and Vault rules all the same.
    assert_eq!(asked(&git, 1, "argocd/creds"), Ok(true));
    assert_eq!(creds(&Evidence::none(), 1), "authority `prod` does not exist");
    let unreadable = Evidence { authority: Reading::Unreadable("timeout".into()), ..Evidence::none() };
    assert_eq!(creds(&unreadable, 1), "who holds the authority cannot be read: timeout");
    // P3, P6, and a revision from before an earlier handover.
    assert!(creds(&vault_rules(1), 2).starts_with("the witnesses say vault(1"), "{}", creds(&vault_rules(1), 2));
    assert!(creds(&vault_rules(2), 1).ends_with("and regent.yaml says epoch 1"), "{}", creds(&vault_rules(2), 1));
    let mut lost_list = vault_rules(1);
    lost_list.handovers.insert(epoch(1), Reading::Absent);
    assert_eq!(creds(&lost_list, 1), "the list of what was handed over is not readable");
}

#[test]
fn it_comes_back_where_it_belongs() {
    let (bootstrap, evidence) = (bootstrap(1), vault_rules(1));
    for (witness, target, expected) in
        [("two", "one", "witnesses in cluster one"), ("one", "two", "Secrets in cluster one")]
    {
        let asked = Clusters { witness: witness.into(), target: target.into() };
        let refusal =
            permitted(&bootstrap, &place(&evidence), &evidence, asked_of(&asked), &secret("argocd/creds")).unwrap_err();
        assert!(refusal.to_string().contains(expected), "{refusal}");
    }
    let other =
        Place { root: Some("clusters/copy".into()), recorded_root: evidence.recorded_root(), ..Place::default() };
    let refusal = permitted(&bootstrap, &other, &evidence, asked_of(&here()), &secret("argocd/creds")).unwrap_err();
    assert!(matches!(refusal, RestoreRefusal::Authority(AuthorityRefusal::OtherRoot { .. })), "{refusal}");
}

#[test]
fn an_absent_secret_comes_back_unless_vault_left_gits_values_behind() {
    let (bootstrap, evidence, name) = (bootstrap(1), vault_rules(1), secret("argocd/creds"));
    let copies = [
        (VaultCopy::NotKept, true),
        (VaultCopy::Same, true),
        (VaultCopy::Absent, true),
        (VaultCopy::Different, false),
        (VaultCopy::Deleted, false),
        (VaultCopy::Silent("it is sealed".into()), false),
    ];
    for (copy, is_current) in &copies {
        for live in [Live::Absent, Live::Present] {
            for stale in [Stale::Refused, Stale::Accepted] {
                let decided = decide(&Facts {
                    bootstrap: &bootstrap,
                    place: &place(&evidence),
                    evidence: &evidence,
                    asked: asked_of(&here()),
                    name: &name,
                    live,
                    copy,
                    stale,
                });
                let expected = live == Live::Absent && (*is_current || stale == Stale::Accepted);
                assert_eq!(decided.is_ok(), expected, "{copy:?} {live:?} {stale:?}");
                match decided {
                    Ok(restoration) => assert_eq!(restoration.name(), &name),
                    Err(RestoreRefusal::Present { .. }) => assert_eq!(live, Live::Present),
                    Err(refusal) => assert!(matches!(refusal, RestoreRefusal::Stale { .. }), "{refusal}"),
                }
            }
        }
    }
}

/// architecture.md 1.6, the target of a hub: `init --target-only`, then `restore`.
#[test]
fn it_comes_back_in_a_target_that_was_taken_over_for_this_handover() {
    let (bootstrap, evidence) = (bootstrap(1), vault_rules(1));
    let clusters = |witness: &str, target: &str| Clusters { witness: witness.into(), target: target.into() };
    let rebuilt = clusters("one", "new");
    let copy = |number, holds, clusters| AuthorityWitness { clusters: Some(clusters), ..authority(number, holds) };
    let is_permitted = |copy: Option<&AuthorityWitness>, asked: &Clusters| {
        let asked = Asked { clusters: asked, copy };
        permitted(&bootstrap, &place(&evidence), &evidence, asked, &secret("argocd/creds")).is_ok()
    };
    let taken_over = copy(1, Holds::Vault(id(A)), rebuilt.clone());
    assert!(is_permitted(Some(&taken_over), &rebuilt));
    assert!(!is_permitted(None, &rebuilt));
    // A copy of another handover, of Git, of another hub, and one that was copied on into a third cluster.
    for other in [
        copy(1, Holds::Vault(id(B)), rebuilt.clone()),
        copy(1, Holds::Git, rebuilt.clone()),
        copy(2, Holds::Vault(id(A)), rebuilt.clone()),
        copy(1, Holds::Vault(id(A)), clusters("two", "new")),
    ] {
        assert!(!is_permitted(Some(&other), &rebuilt), "{other:?}");
    }
    assert!(!is_permitted(Some(&taken_over), &clusters("one", "third")));
}
