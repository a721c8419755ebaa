use super::*;
use crate::evidence::{ListedClass, ListedDocument, RecordFacts, RecordedRoot};
use crate::name::{AuthorityName, FilePath};

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

fn clusters(witness: &str, target: &str) -> Clusters {
    Clusters { witness: witness.to_owned(), target: target.to_owned() }
}

fn vault_place(host: &str) -> WitnessedVault {
    WitnessedVault {
        address: format!("https://{host}"),
        namespace: String::new(),
        mount: "secret".into(),
        prefix: "bootstrap/prod".into(),
    }
}

fn git(number: u64, supersedes: Option<&str>) -> AuthorityWitness {
    AuthorityWitness {
        name: AuthorityName::parse("prod").unwrap(),
        holds: Holds::Git,
        epoch: epoch(number),
        supersedes: supersedes.map(id),
        root: Some("clusters/prod".into()),
        vault: Some(vault_place("vault.example")),
        clusters: Some(clusters("one", "one")),
        no_vault_yet: false,
        record: None,
    }
}

fn vault(number: u64, handover: &str, supersedes: Option<&str>) -> AuthorityWitness {
    let fact = || "x".to_owned();
    let record = RecordFacts {
        git_commit: fact(),
        tree_digest: fact(),
        vault_cluster_id: fact(),
        mount_uuid: fact(),
        marker_version: 1,
        marker_created_time: fact(),
        regent_version: fact(),
    };
    AuthorityWitness { holds: Holds::Vault(id(handover)), record: Some(record), ..git(number, supersedes) }
}

fn witness(authority: Option<AuthorityWitness>, number: u64, handover: &str) -> HandoverWitness {
    let document = ListedDocument {
        path: FilePath::parse("db.yaml").unwrap(),
        name: secret("app/listed"),
        kind: "Secret".into(),
        class: ListedClass::Handover,
        blob: "0".repeat(40),
    };
    HandoverWitness {
        name: AuthorityName::parse("prod").unwrap(),
        epoch: epoch(number),
        handover: id(handover),
        documents: vec![document],
        authority: authority.map(Box::new),
    }
}

fn bootstrap(number: u64, supersedes: Option<&str>, closed: Option<&str>) -> Bootstrap {
    let mut text = format!(
        "apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\nepoch: {number}\n\
         vault: {{ address: \"https://new.example\", mount: secret, prefix: bootstrap/prod }}\n"
    );
    for (key, value) in [("supersedes", supersedes), ("closed", closed)] {
        text.extend(value.map(|value| format!("{key}: {value}\n")));
    }
    Bootstrap::parse(&FilePath::parse("regent.yaml").unwrap(), text.as_bytes()).unwrap()
}

fn at(root: &str, recorded: RecordedRoot) -> Place {
    Place { root: Some(root.into()), recorded_root: recorded, ..Place::default() }
}

fn place(evidence: &Evidence) -> Place {
    at("clusters/prod", evidence.recorded_root())
}

/// What stands in the cluster: the Authority, and the handover witnesses of epochs 1, 2 and 3.
fn evidence(authority: Reading<AuthorityWitness>, witnesses: [Reading<HandoverWitness>; 3]) -> Evidence {
    let handovers = (1..).map(epoch).zip(witnesses).collect();
    Evidence { authority, handovers, ..Evidence::none() }
}

/// Everything as it has to be for a raise, but for what a test changes.
struct Case {
    bootstrap: Bootstrap,
    evidence: Evidence,
    clusters: Clusters,
    copy: Option<AuthorityWitness>,
    vault: VaultSays,
    abandoned: Option<HandoverId>,
    deliveries: Vec<Delivery>,
    secrets: BTreeMap<SecretName, Live>,
    overwrite: BTreeSet<SecretName>,
}

impl Case {
    fn lost_vault() -> Self {
        let whole = vault(1, A, None);
        Self {
            bootstrap: bootstrap(2, Some(A), None),
            evidence: evidence(
                Reading::Present(whole.clone()),
                [Reading::Present(witness(Some(whole), 1, A)), Reading::Absent, Reading::Absent],
            ),
            clusters: clusters("one", "one"),
            copy: None,
            vault: VaultSays::Absent,
            abandoned: None,
            deliveries: Vec::new(),
            secrets: BTreeMap::from([(secret("app/db"), Live::Same)]),
            overwrite: BTreeSet::new(),
        }
    }

    fn decide(&self) -> Result<Step, RebootstrapRefusal> {
        self.decide_at(&place(&self.evidence))
    }

    fn decide_at(&self, place: &Place) -> Result<Step, RebootstrapRefusal> {
        decide(&Facts {
            bootstrap: &self.bootstrap,
            place,
            evidence: &self.evidence,
            clusters: &self.clusters,
            copy: self.copy.as_ref(),
            vault: &self.vault,
            abandoned: self.abandoned.as_ref(),
            deliveries: &self.deliveries,
            secrets: &self.secrets,
            overwrite: &self.overwrite,
        })
    }
}

#[test]
fn a_lost_vault_is_superseded_by_git_of_the_next_epoch_with_the_place_that_git_names_now() {
    let expected = AuthorityWitness { vault: Some(vault_place("new.example")), ..git(2, Some(A)) };
    assert_eq!(Case::lost_vault().decide(), Ok(Step::Raise(Box::new(expected))));
}

/// architecture.md 1.6, the target of a hub, and later Vault: the hub's Authority names the target that was until then.
#[test]
fn a_target_that_was_taken_over_is_the_next_epochs_from_the_start() {
    let copy = |clusters, number, handover: &str| AuthorityWitness {
        clusters: Some(clusters),
        ..vault(number, handover, None)
    };
    let with =
        |copy: Option<AuthorityWitness>, asked: Clusters| Case { clusters: asked, copy, ..Case::lost_vault() }.decide();
    let new = || clusters("one", "new");
    let raised = AuthorityWitness { clusters: Some(new()), vault: Some(vault_place("new.example")), ..git(2, Some(A)) };
    assert_eq!(with(Some(copy(new(), 1, A)), new()), Ok(Step::Raise(Box::new(raised))));
    for (copy, asked) in [
        (None, new()),
        // Of another handover, of other witnesses, and copied on into a third cluster.
        (Some(copy(new(), 1, B)), new()),
        (Some(copy(clusters("two", "new"), 1, A)), new()),
        (Some(copy(new(), 1, A)), clusters("one", "third")),
        // The cluster that was has its copy, too, and is not the one that was taken over.
        (Some(copy(new(), 1, A)), clusters("one", "one")),
    ] {
        let refused = with(copy.clone(), asked);
        assert!(matches!(refused, Err(RebootstrapRefusal::OtherCluster { .. })), "{copy:?}: {refused:?}");
    }
}

fn refused(change: impl FnOnce(&mut Case)) -> String {
    let mut case = Case::lost_vault();
    change(&mut case);
    case.decide().expect_err("it is refused").to_string()
}

#[test]
fn what_stands_against_it_is_named() {
    let delivery = |secret: &str| Delivery { object: "ExternalSecret app/es".into(), secret: self::secret(secret) };
    let says = |text: &str, expected: &str| assert_eq!(text, expected);
    says(
        &refused(|case| case.vault = VaultSays::Present(Some(id(A)))),
        &format!("Vault holds the record of handover {A}: it is not lost"),
    );
    says(
        &refused(|case| case.vault = VaultSays::Silent("it is sealed".into())),
        "Vault does not say whether it holds the record: it is sealed",
    );
    says(
        &refused(|case| case.abandoned = Some(id(B))),
        &format!("`--abandon-vault` names handover {B}, and the witnesses say {A}"),
    );
    says(
        &refused(|case| case.deliveries = vec![delivery("app/other"), delivery("app/listed"), delivery("app/db")]),
        "ExternalSecret app/es still delivers Secret app/listed, and 1 more objects deliver others",
    );
    says(
        &refused(|case| {
            case.secrets.insert(secret("app/web"), Live::Different);
        }),
        "the live values of app/web differ from Git's and would be overwritten",
    );
    says(
        &refused(|case| {
            case.overwrite.insert(secret("app/typo"));
        }),
        "`--overwrite-live` names app/typo, and Git has no such Secret",
    );
    says(
        &refused(|case| case.clusters.target = "two".into()),
        "the authority is about Secrets in cluster one, and the one that was asked is two",
    );
    says(
        &refused(|case| case.bootstrap = bootstrap(1, None, None)),
        &format!("the witnesses say vault(1, {A}), and regent.yaml does not ask for an epoch that supersedes it"),
    );
    // After the raise P6 would refuse every rendering.
    let closed = refused(|case| case.bootstrap = bootstrap(2, Some(A), Some(B)));
    assert!(closed.starts_with("the witnesses say git(2"), "{closed}");
}

#[test]
fn no_write_is_made_on_a_way_that_does_not_lead_to_its_goal() {
    // Where the witness of the new epoch cannot be read, nobody would know who rules afterwards.
    for number in [2, 3] {
        let said = refused(|case| {
            case.evidence.handovers.insert(epoch(number), Reading::Unreadable("403".into()));
        });
        assert_eq!(said, "who holds the authority cannot be read: 403");
    }
    let said = refused(|case| {
        drop(case.evidence.handovers.insert(epoch(1), Reading::Unreadable("it is not immutable".into())));
    });
    assert_eq!(said, "who holds the authority cannot be read: it is not immutable");
}

#[test]
fn a_mirror_is_completed_only_from_a_whole_record_that_fits() {
    let unfinished = |authority, whole: Option<AuthorityWitness>| {
        refused(|case| {
            case.evidence =
                evidence(authority, [Reading::Present(witness(whole, 1, A)), Reading::Absent, Reading::Absent]);
        })
    };
    let said = unfinished(Reading::Absent, None);
    assert!(said.ends_with("the handover witness does not hold the whole record"), "{said}");
    let said = unfinished(Reading::Unreadable("schema 2".into()), Some(vault(1, A, None)));
    assert_eq!(said, "who holds the authority cannot be read: schema 2");
    let moved = AuthorityWitness { vault: Some(vault_place("other.example")), ..git(1, None) };
    let said = unfinished(Reading::Present(moved), Some(vault(1, A, None)));
    assert!(said.ends_with("a handover moves neither the root nor the place in Vault"), "{said}");
    let elsewhere = AuthorityWitness { root: Some("clusters/other".into()), ..vault(1, A, None) };
    let said = unfinished(Reading::Absent, Some(elsewhere));
    assert_eq!(said, "the authority covers clusters/other, and this is clusters/prod");
}

#[test]
fn the_root_is_the_recorded_one() {
    let case = Case::lost_vault();
    let other = at("clusters/copy", case.evidence.recorded_root());
    assert!(matches!(case.decide_at(&other), Err(RebootstrapRefusal::Authority(AuthorityRefusal::OtherRoot { .. }))));
}

/// A copy that lags behind is led along the same way as the Authority itself.
#[test]
fn a_copy_catches_up_by_what_its_rules_allow() {
    let (handover, raised) = (vault(1, A, None), git(2, Some(A)));
    let to = |from: Option<&AuthorityWitness>, between| catch_up(from, between, &raised).map(|way| way.len());
    assert_eq!(to(Some(&raised), None), Some(0));
    assert_eq!(to(None, None), Some(1));
    assert_eq!(to(Some(&handover), None), Some(1));
    assert_eq!(to(Some(&git(1, None)), Some(&handover)), Some(2));
    assert_eq!(to(Some(&git(1, None)), None), None);
    assert_eq!(to(Some(&vault(1, B, None)), Some(&handover)), None);
    assert_eq!(to(Some(&git(3, Some(B))), Some(&handover)), None);
}

/// Every combination of what can stand in the cluster, in Git, in Vault and on the command line, against the rules said
/// another way: `may` lists what has to hold, and whatever is allowed leads by allowed writes to git(2) and nowhere else.
#[test]
fn every_pair_of_facts_is_decided_by_the_rules_and_leads_to_its_goal() {
    let whole = || vault(1, A, None);
    let authorities = [
        Reading::Absent,
        Reading::Unreadable("no".into()),
        Reading::Present(git(1, None)),
        Reading::Present(whole()),
        Reading::Present(vault(1, B, None)),
        Reading::Present(git(2, Some(A))),
        Reading::Present(git(2, Some(B))),
        Reading::Present(vault(2, B, Some(A))),
    ];
    let firsts = [
        Reading::Absent,
        Reading::Unreadable("no".into()),
        Reading::Present(witness(Some(whole()), 1, A)),
        Reading::Present(witness(None, 1, A)),
        Reading::Present(witness(Some(vault(1, B, None)), 1, B)),
    ];
    let seconds = [Reading::Absent, Reading::Unreadable("no".into()), Reading::Present(witness(None, 2, B))];
    let written = [
        bootstrap(1, None, None),
        bootstrap(2, Some(A), None),
        bootstrap(2, Some(A), Some(A)),
        bootstrap(2, Some(B), None),
    ];
    let vaults =
        [VaultSays::Absent, VaultSays::Present(Some(id(A))), VaultSays::Present(None), VaultSays::Silent("no".into())];
    let abandons = [None, Some(id(A)), Some(id(B))];
    let delivery = |name: &str| vec![Delivery { object: "ExternalSecret app/x".into(), secret: secret(name) }];
    let deliveries = [Vec::new(), delivery("app/db"), delivery("app/else")];
    let lives = [Live::Absent, Live::Same, Live::Different];
    let overwrites = [BTreeSet::new(), BTreeSet::from([secret("app/db")]), BTreeSet::from([secret("app/else")])];

    let mut counts = BTreeMap::new();
    for authority in &authorities {
        for first in &firsts {
            for second in &seconds {
                for bootstrap in &written {
                    for vault in &vaults {
                        for abandoned in &abandons {
                            for deliveries in &deliveries {
                                for live in lives {
                                    for overwrite in &overwrites {
                                        let case = Case {
                                            bootstrap: bootstrap.clone(),
                                            evidence: evidence(
                                                authority.clone(),
                                                [first.clone(), second.clone(), Reading::Absent],
                                            ),
                                            clusters: clusters("one", "one"),
                                            copy: None,
                                            vault: vault.clone(),
                                            abandoned: abandoned.clone(),
                                            deliveries: deliveries.clone(),
                                            secrets: BTreeMap::from([(secret("app/db"), live)]),
                                            overwrite: overwrite.clone(),
                                        };
                                        *counts.entry(judge(case)).or_insert(0) += 1;
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    // Each outcome is met, or this test could not fail.
    for outcome in ["refused", "complete", "raise", "finish"] {
        assert!(counts.get(outcome).is_some_and(|count| *count > 50), "{outcome}: {counts:?}");
    }
}

fn judge(mut case: Case) -> &'static str {
    let handover = match case.evidence.holder() {
        Holder::Vault { epoch, handover, .. } if epoch == Epoch::FIRST => Some(handover),
        Holder::Vault { .. } | Holder::None | Holder::Git { .. } | Holder::Disagree(_) | Holder::Unreadable(_) => None,
    };
    let asked = case.bootstrap.supersedes.clone();
    let given_up = case.abandoned.is_none() && case.vault == VaultSays::Absent || case.abandoned == handover;
    let delivered = case.deliveries.iter().any(|delivery| delivery.secret == secret("app/db"));
    let named = case.overwrite.contains(&secret("app/db"));
    let typo = case.overwrite.contains(&secret("app/else"));
    let lost = case.secrets.values().any(|live| *live == Live::Different) && !named;
    let may = handover.is_some() && asked == handover && given_up && !delivered && !typo && !lost;

    let first = case.decide();
    let outcome = match &first {
        Err(_) => "refused",
        Ok(Step::CompleteMirrorFirst(_)) => "complete",
        Ok(Step::Raise(_)) => "raise",
        Ok(Step::Finish(_)) => "finish",
    };
    let is_git = matches!(case.evidence.holder(), Holder::Git { epoch, .. } if epoch == self::epoch(2));
    let readable = case.evidence.handovers.values().all(|reading| !matches!(reading, Reading::Unreadable(_)));
    let known = match (&case.evidence.authority, case.evidence.handovers.get(&Epoch::FIRST)) {
        (Reading::Unreadable(_), _) => false,
        (Reading::Present(AuthorityWitness { holds: Holds::Vault(_), .. }), _) => true,
        (_, Some(Reading::Present(witness))) => witness.authority.is_some(),
        (_, _) => false,
    };
    if may {
        assert_eq!(first.is_ok(), readable && known, "{first:?}: {:?}", case.evidence);
    } else {
        assert!(first.is_err() || is_git, "{outcome} was allowed: {:?} {:?}", case.evidence, case.abandoned);
    }
    if outcome == "raise" {
        assert!(matches!(&case.evidence.authority, Reading::Present(AuthorityWitness { holds: Holds::Vault(_), .. })));
    }
    // Write by write, each judged anew, as runs do that are cut off in between.
    let (mut step, mut writes) = (first, 0);
    loop {
        match step {
            Err(_) => {
                assert_eq!(writes, 0, "it stopped after a write: {:?}", case.evidence);
                break;
            }
            Ok(Step::Finish(authority)) => {
                assert_eq!(case.evidence.holder(), Holder::Git { epoch: epoch(2), supersedes: asked });
                assert_eq!(case.evidence.authority, Reading::Present(*authority));
                break;
            }
            Ok(Step::CompleteMirrorFirst(authority) | Step::Raise(authority)) => {
                let current = match &case.evidence.authority {
                    Reading::Present(current) => Some(current),
                    Reading::Absent => None,
                    Reading::Unreadable(_) => panic!("what cannot be read was written"),
                };
                AuthorityWitness::may_follow(current, &authority).expect("the API server's rules allow it");
                let rules_before = case.evidence.holder();
                case.evidence.authority = Reading::Present(*authority);
                let now = case.evidence.holder();
                let vault_still = |holder: &Holder| matches!(holder, Holder::Vault { .. });
                assert!(vault_still(&rules_before), "{rules_before}");
                assert!(
                    vault_still(&now) || matches!(now, Holder::Git { epoch, .. } if epoch == self::epoch(2)),
                    "{now}"
                );
                writes += 1;
                assert!(writes <= 3, "it does not end");
                step = case.decide();
            }
        }
    }
    outcome
}
