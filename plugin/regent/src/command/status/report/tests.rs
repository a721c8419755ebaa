use super::super::flux::Flux;
use std::path::PathBuf;

use regent_core::evidence::{Clusters, Evidence, RecordFacts};
use regent_core::name::{Epoch, FilePath, HandoverId};
use regent_core::rules::ConfigLimits;
use regent_core::survey::survey;
use regent_sops::{Keyring, Limits};

use super::super::cluster::Noted;
use super::super::{Authority, Live};
use super::*;
use crate::source::{Bounds, bootstrap_of, dir};

const UID: &str = "0f0e0d0c-0000-4000-8000-000000000001";
const HANDOVER: &str = "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f";

fn prod() -> AuthorityName {
    AuthorityName::parse("prod").unwrap()
}

fn name(text: &str) -> SecretName {
    SecretName::parse(text).unwrap()
}

fn witness(holds: Holds) -> AuthorityWitness {
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
    AuthorityWitness {
        name: prod(),
        record: matches!(holds, Holds::Vault(_)).then_some(record),
        holds,
        epoch: Epoch::FIRST,
        supersedes: None,
        root: None,
        vault: None,
        clusters: Some(Clusters { witness: UID.to_owned(), target: UID.to_owned() }),
        no_vault_yet: false,
    }
}

fn git() -> Evidence {
    let handovers = [1, 2].map(|epoch| (Epoch::new(epoch).unwrap(), Reading::Absent)).into_iter().collect();
    Evidence { authority: Reading::Present(witness(Holds::Git)), handovers, ..Evidence::none() }
}

fn vault() -> Evidence {
    let handover = HandoverId::parse(HANDOVER).unwrap();
    let document = |path: &str, of: &str, class| ListedDocument {
        path: FilePath::parse(path).unwrap(),
        name: name(of),
        kind: "Secret".to_owned(),
        class,
        blob: "0".repeat(40),
    };
    let documents = vec![
        document("secrets/db.yaml", "app/db", ListedClass::Handover),
        document("secrets/unseal.yaml", "vault/unseal", ListedClass::Permanent),
    ];
    let confirmed =
        HandoverWitness { name: prod(), epoch: Epoch::FIRST, handover: handover.clone(), documents, authority: None };
    let mut evidence = Evidence {
        authority: Reading::Present(witness(Holds::Vault(handover))),
        settled: Reading::Present(()),
        ..git()
    };
    evidence.handovers.insert(Epoch::FIRST, Reading::Present(confirmed));
    evidence
}

fn guarded() -> Value {
    json!({
        "labels": { "regent.dev/authority": "prod" },
        "annotations": {
            "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
            "argocd.argoproj.io/compare-options": "IgnoreExtraneous",
            "kustomize.toolkit.fluxcd.io/prune": "disabled",
        },
        "managedFields": [{ "manager": "argocd-controller", "operation": "Apply", "fieldsV1": { "f:data": {} } }],
    })
}

fn live(metadata: &Value) -> Reading<LiveSecret> {
    Reading::Present(LiveSecret::of_metadata(metadata))
}

/// A cluster in which all is as it should be.
fn facts(evidence: Evidence) -> Facts {
    let policy = |name: &str| Policy { name: name.to_owned(), in_force: InForce::Yes };
    let ours = [name("app/db"), name("vault/unseal")];
    Facts {
        witnesses: "https://hub".to_owned(),
        target: None,
        noted: Ok(Some(Noted { tracking: Tracking::default(), heartbeat: Some(1_000_000), settled: None })),
        witness_uid: Ok(UID.to_owned()),
        target_uid: Ok(UID.to_owned()),
        copy: None,
        policies: ["regent-keep", "regent-first"].map(policy).to_vec(),
        target_policies: Vec::new(),
        lock: policy("regent-lock-prod"),
        doors: Some(vec!["system:serviceaccount:argocd:argocd-application-controller".to_owned()]),
        keys: if evidence.is_settled() {
            Keys::Left { files: Vec::new(), mounted: Ok(Vec::new()) }
        } else {
            Keys::Needed
        },
        flux: Flux::None,
        account: if evidence.is_settled() { Account::Left(Vec::new()) } else { Account::Needed },
        secrets: ours
            .clone()
            .map(|name| (name, live(&guarded())))
            .into_iter()
            .chain([(name("app/public"), Reading::Absent)])
            .collect(),
        labelled: Ok(ours.into_iter().collect()),
        evidence,
        now: 1_000_900,
    }
}

/// The root of the fixtures; without its mistake unless `with_mistake`.
fn report_of(facts: Facts, with_mistake: bool) -> Report {
    let fixture = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cmd/status.in/prod"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    for file in ["regent.yaml", "public.yaml", "settings.yaml", "secrets/db.yaml", "secrets/unseal.yaml", "leaked.yaml"]
    {
        if file != "leaked.yaml" || with_mistake {
            std::fs::copy(fixture.join(file), folder.path().join(file)).unwrap();
        }
    }
    let gathered = dir::gather(folder.path(), Bounds::of(&ConfigLimits::default())).unwrap();
    let bootstrap = bootstrap_of(&gathered.files).unwrap().unwrap();
    let (files, problems) = survey(&gathered.files, Some(&bootstrap), &Keyring::default(), &Limits::default());
    let authority = Authority::of(&gathered, Some(bootstrap.clone()), None, (Some(&facts.evidence), live_of(&facts)));
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Report::of(facts, &bootstrap, gathered.root, (authority.phase, authority.ruled), &files, &problems)
}

fn report(facts: Facts) -> Report {
    report_of(facts, false)
}

/// What a report says after one thing changed.
fn after(evidence: Evidence, change: impl FnOnce(&mut Facts)) -> (Vec<&'static str>, Exit, Report) {
    let mut facts = facts(evidence);
    change(&mut facts);
    let report = report(facts);
    (report.warnings.iter().map(|warning| warning.code).collect(), report.exit(), report)
}

fn row(report: &Report, of: &str) -> (&'static str, Next) {
    let row = report.secrets.iter().find(|row| row.name.to_string() == of).unwrap();
    (row.class, row.next)
}

#[test]
fn where_all_is_as_it_should_be_a_check_ends_with_0() {
    for (evidence, says) in
        [(git(), "Git rules (phase 2, bootstrap)"), (vault(), "Vault rules (phase 4, steady state)")]
    {
        let (warnings, exit, report) = after(evidence, |_| {});
        assert_eq!((warnings, exit), (vec![], Exit::Done));
        let text = report.for_people("context prod");
        assert!(text.starts_with(&format!("prod: {says}")), "{text}");
        assert!(text.contains("\nAll is as it should be.\n") && report.could_tell(), "{text}");
    }
}

#[test]
fn each_secret_tells_what_happens_to_it_next() {
    let git = report(facts(git()));
    assert_eq!(row(&git, "app/db"), ("handover", Next::Rendered));
    assert_eq!(row(&git, "vault/unseal"), ("permanent", Next::Rendered));
    assert_eq!(row(&git, "app/public"), ("plain", Next::Created));
    let vault = report(facts(vault()));
    assert_eq!(row(&vault, "app/db"), ("handover", Next::Stub));
    assert_eq!(row(&vault, "vault/unseal"), ("permanent", Next::Stub));
    assert_eq!(row(&vault, "app/public"), ("plain", Next::Created));
}

#[test]
fn a_refused_root_ends_with_the_rules_own_code_and_says_so_first() {
    let (_, exit, report) = after(Evidence::none(), |facts| facts.noted = Ok(None));
    let text = report.for_people("context prod");
    assert!(text.starts_with("prod: nothing is rendered, and nothing live changes. P5: "), "{text}");
    assert_eq!((exit, row(&report, "app/db").1, report.could_tell()), (Exit::Authority, Next::Nothing, true));
    let away = Evidence { authority: Reading::Unreadable("no answer within 3 s".to_owned()), ..Evidence::none() };
    let (_, exit, report) = after(away, |_| {});
    assert_eq!((exit, report.could_tell()), (Exit::Authority, false));
    let mut two = vault();
    if let Some(Reading::Present(witness)) = two.handovers.get_mut(&Epoch::FIRST) {
        witness.handover = HandoverId::parse("1b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f").unwrap();
    }
    assert_eq!(after(two, |_| {}).1, Exit::Person);
    let elsewhere = Evidence {
        authority: Reading::Present(AuthorityWitness { root: Some("clusters/prod".to_owned()), ..witness(Holds::Git) }),
        ..git()
    };
    let (_, exit, report) = after(elsewhere, |_| {});
    assert_eq!(exit, Exit::Refused);
    assert!(report.for_people("c").contains("P0: "));
}

#[test]
fn recorded_and_not_mirrored_is_the_first_line_and_ends_with_7() {
    let behind = Evidence { authority: Reading::Present(witness(Holds::Git)), ..vault() };
    let (_, exit, report) = after(behind, |_| {});
    let text = report.for_people("context prod");
    assert!(text.starts_with("recorded, not mirrored: handover 0b5f2c1e; the Authority still says git;"), "{text}");
    assert_eq!(exit, Exit::Underway);
    let lost = Evidence { authority: Reading::Absent, ..vault() };
    assert!(report_of(facts(lost), false).for_people("c").contains("the Authority is missing"));
    let mut gone = vault();
    gone.handovers.insert(Epoch::FIRST, Reading::Absent);
    let (warnings, exit, report) = after(gone, |_| {});
    assert!(report.for_people("c").contains("ConfigMap regent-authority-prod-1 is missing"));
    assert_eq!((warnings, exit), (vec!["list"], Exit::Underway), "without the list hidden names are refused");
}

#[test]
fn an_activation_under_way_ends_with_7() {
    let (_, exit, report) = after(Evidence { settled: Reading::Absent, ..vault() }, |facts| facts.keys = Keys::Needed);
    assert_eq!(exit, Exit::Underway);
    assert!(report.headline().contains("do not rotate yet"), "{}", report.headline());
}

type Change = Box<dyn FnOnce(&mut Facts)>;

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_needs_a_person_is_a_warning_and_ends_with_1() {
    let db = || name("app/db");
    let changed = |path: &'static str, value: Value| {
        move |facts: &mut Facts| {
            let mut metadata = guarded();
            *metadata.pointer_mut(path).unwrap() = value;
            facts.secrets.insert(name("app/db"), live(&metadata));
        }
    };
    let added = |map: &'static str, key: &'static str| {
        move |facts: &mut Facts| {
            let mut metadata = guarded();
            metadata[map][key] = json!("x");
            facts.secrets.insert(name("app/db"), live(&metadata));
        }
    };
    let second = json!([
        { "manager": "argocd-controller", "operation": "Apply", "fieldsV1": { "f:data": {} } },
        { "manager": "vault-operator", "operation": "Apply", "fieldsV1": { "f:data": {} } },
    ]);
    let cases: Vec<(&str, Evidence, Change)> = vec![
        ("policies", git(), Box::new(|facts| facts.policies[0].in_force = InForce::Missing)),
        ("policies", git(), Box::new(|facts| facts.policies[1].in_force = InForce::Differs)),
        (
            "not-seen",
            git(),
            Box::new(|facts| {
                let forbidden = |name: &str| InForce::Unknown(format!("policies \"{name}\" is forbidden"));
                facts.policies.iter_mut().for_each(|policy| policy.in_force = forbidden(&policy.name));
                facts.lock.in_force = forbidden("regent-lock-prod");
            }),
        ),
        ("lock", git(), Box::new(|facts| facts.lock.in_force = InForce::Missing)),
        ("lock", vault(), Box::new(|facts| facts.lock.in_force = InForce::Toothless)),
        ("lock", vault(), Box::new(|facts| facts.doors = Some(Vec::new()))),
        (
            "tracked",
            vault(),
            Box::new(|facts| {
                let tracking = Tracking { argocd: Some("infra".to_owned()), flux: None };
                facts.noted = Ok(Some(Noted { tracking, heartbeat: None, settled: None }));
            }),
        ),
        ("other-cluster", git(), Box::new(|facts| facts.witness_uid = Ok("another".to_owned()))),
        (
            "vault-place",
            git(),
            Box::new(|facts| {
                let place = || "x".to_owned();
                let vault =
                    Some(WitnessedVault { address: place(), namespace: place(), mount: place(), prefix: place() });
                facts.evidence.authority = Reading::Present(AuthorityWitness { vault, ..witness(Holds::Git) });
            }),
        ),
        (
            "copy",
            git(),
            Box::new(|facts| {
                facts.target = Some("https://target".to_owned());
                facts.copy = Some(Reading::Absent);
            }),
        ),
        ("contended", git(), Box::new(changed("/managedFields", second))),
        ("unguarded", git(), Box::new(changed("/annotations/argocd.argoproj.io~1sync-options", json!("")))),
        ("clear-copy", vault(), Box::new(added("annotations", "kubectl.kubernetes.io/last-applied-configuration"))),
        (
            "unlisted",
            git(),
            Box::new(|facts| {
                facts.secrets.insert(name("app/old"), live(&guarded()));
                facts.labelled.as_mut().unwrap().insert(name("app/old"));
            }),
        ),
        ("absent", vault(), Box::new(move |facts| drop(facts.secrets.insert(db(), Reading::Absent)))),
        (
            "keys",
            vault(),
            Box::new(|facts| {
                facts.keys = Keys::Left { files: vec!["/keys/prod".into()], mounted: Ok(Vec::new()) };
            }),
        ),
        (
            "keys",
            vault(),
            Box::new(|facts| {
                facts.keys = Keys::Left { files: Vec::new(), mounted: Ok(vec!["regent-keys-prod".to_owned()]) };
            }),
        ),
        (
            "not-seen",
            vault(),
            Box::new(|facts| {
                facts.keys = Keys::Left { files: Vec::new(), mounted: Err("forbidden".to_owned()) };
            }),
        ),
        ("not-seen", git(), Box::new(|facts| facts.labelled = Err("forbidden".to_owned()))),
        ("not-seen", git(), Box::new(|facts| facts.witness_uid = Err("forbidden".to_owned()))),
        (
            "not-seen",
            git(),
            Box::new(|facts| {
                facts.secrets.insert(name("app/db"), Reading::Unreadable("forbidden".to_owned()));
            }),
        ),
    ];
    for (code, evidence, change) in cases {
        let (warnings, exit, report) = after(evidence, change);
        assert_eq!((warnings, exit), (vec![code], Exit::Refused), "{:?}", report.warnings);
        let text = report.for_people("context prod");
        assert!(text.contains("\nOne thing needs a person:\n") && text.contains(&format!("- {code}: ")), "{text}");
        assert!(!text.contains("All is as it should be"), "{text}");
    }
}

/// architecture.md 1.6, the target of a hub.
#[test]
fn a_target_that_was_taken_over_is_the_authoritys_own_and_another_is_named() {
    const NEW: &str = "0f0e0d0c-0000-4000-8000-000000000002";
    let of = |handover: &str, target: &str| AuthorityWitness {
        clusters: Some(Clusters { witness: UID.to_owned(), target: target.to_owned() }),
        ..witness(Holds::Vault(HandoverId::parse(handover).unwrap()))
    };
    let in_new = |copy: AuthorityWitness| {
        after(vault(), |facts| {
            facts.target = Some("https://target".to_owned());
            facts.target_uid = Ok(NEW.to_owned());
            facts.copy = Some(Reading::Present(copy));
        })
    };
    let (warnings, exit, report) = in_new(of(HANDOVER, NEW));
    assert_eq!((warnings, exit), (Vec::new(), Exit::Done), "{:?}", report.warnings);
    let text = report.for_people("c").split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(&format!("Secrets in {UID}, taken over by {NEW}, as here")), "{text}");
    // The copy of the cluster that was, restored into this one; and one of another handover.
    for copy in [of(HANDOVER, UID), of(UID, NEW)] {
        let (warnings, ..) = in_new(copy.clone());
        assert!(warnings.contains(&"other-cluster"), "{copy:?}: {warnings:?}");
    }
}

#[test]
fn another_authoritys_label_is_named_beside_the_guards_that_it_costs() {
    let (warnings, _, report) = after(git(), |facts| {
        let mut metadata = guarded();
        metadata["labels"]["regent.dev/authority"] = json!("staging");
        facts.secrets.insert(name("app/db"), live(&metadata));
        facts.labelled.as_mut().unwrap().remove(&name("app/db"));
    });
    assert_eq!(warnings, ["unguarded", "other-authority"]);
    assert!(report.for_people("c").contains("app/db (staging)"));
}

#[test]
fn a_refused_document_is_named_with_its_reason() {
    let report = report_of(facts(git()), true);
    let text = report.for_people("context prod");
    assert!(text.contains("- documents: ") && text.contains("leaked.yaml"), "{text}");
    assert_eq!(row(&report, "app/leaked"), ("refused", Next::Refused));
}

#[test]
fn nothing_is_warned_of_that_belongs_to_a_later_step() {
    let (warnings, ..) = after(Evidence::none(), |facts| {
        facts.noted = Ok(None);
        facts.lock.in_force = InForce::Missing;
        facts.doors = None;
        facts.secrets.insert(name("app/db"), live(&json!({})));
        facts.secrets.insert(name("vault/unseal"), Reading::Absent);
        facts.labelled = Ok(BTreeSet::new());
    });
    assert_eq!(warnings, [""; 0], "before init there is neither a lock nor a guard");
}

#[test]
fn the_text_stays_within_a_hundred_columns_and_on_its_lines() {
    let (_, _, report) = after(vault(), |facts| {
        facts.secrets.insert(name(&format!("app/{}", "long-".repeat(30) + "name")), live(&guarded()));
        facts.policies[0].in_force = InForce::Unknown("a\u{1b}[2Jb ".repeat(40));
    });
    let text = report.for_people("context prod");
    for line in text.lines() {
        assert!(line.chars().count() <= 100 && line == line.trim_end(), "{line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
    assert!(text.contains("NEXT"), "{text}");
}

/// Every key that programs may rely on, with where it is.
fn keys(json: &Value, path: &str, found: &mut BTreeSet<String>) {
    match json {
        Value::Object(map) => {
            for (key, value) in map {
                found.insert(format!("{path}{key}"));
                keys(value, &format!("{path}{key}."), found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| keys(value, path, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_keys_of_the_json_are_these() {
    let (_, _, report) = after(vault(), |facts| {
        facts.target = Some("https://target".to_owned());
        facts.copy = Some(Reading::Absent);
        facts.target_policies = vec![Policy { name: "p".to_owned(), in_force: InForce::Differs }];
        let mut metadata = guarded();
        metadata["ownerReferences"] = json!([{ "kind": "ExternalSecret", "name": "db" }]);
        facts.secrets.insert(name("app/db"), live(&metadata));
    });
    let mut found = BTreeSet::new();
    keys(&report.as_json(), "", &mut found);
    let expected = "
        cluster cluster.secrets cluster.witnesses
        evidence
        evidence.authority evidence.authority.reading evidence.authority.why
        evidence.authority.witness evidence.authority.witness.authority evidence.authority.witness.epoch
        evidence.authority.witness.handoverId evidence.authority.witness.noVaultYet evidence.authority.witness.supersedes
        evidence.clusters
        evidence.clusters.secrets evidence.clusters.secrets.now evidence.clusters.secrets.real evidence.clusters.secrets.recorded
        evidence.clusters.secrets.same evidence.clusters.secrets.why
        evidence.clusters.witnesses evidence.clusters.witnesses.now evidence.clusters.witnesses.real
        evidence.clusters.witnesses.recorded
        evidence.clusters.witnesses.same evidence.clusters.witnesses.why
        evidence.copy evidence.copy.reading evidence.copy.why evidence.copy.witness
        evidence.handovers evidence.handovers.documents evidence.handovers.epoch evidence.handovers.handoverId
        evidence.handovers.name evidence.handovers.reading evidence.handovers.why
        evidence.heartbeat evidence.heartbeat.ageSeconds evidence.heartbeat.unix
        evidence.imported evidence.imported.documents evidence.imported.reading evidence.imported.why
        evidence.root evidence.root.here evidence.root.recorded evidence.root.same
        evidence.settled evidence.settled.message evidence.settled.reading evidence.settled.why
        evidence.tracking evidence.tracking.argocd evidence.tracking.flux
        evidence.vault evidence.vault.here evidence.vault.moved evidence.vault.recorded evidence.vault.same
        exitCode flux headline
        keys keys.files keys.mounted keys.why
        lock lock.doors lock.policy lock.policy.inForce lock.policy.name lock.policy.why
        notes
        policies policies.inForce policies.name policies.why
        recordedNotMirrored
        secrets secrets.class secrets.clearCopy secrets.contenders secrets.file
        secrets.guards secrets.guards.complete secrets.guards.missing
        secrets.inGit secrets.label secrets.leaving secrets.listed
        secrets.live secrets.live.reading secrets.live.why
        secrets.managers secrets.managers.name secrets.managers.operation secrets.managers.writesValues
        secrets.name
        secrets.next secrets.next.code secrets.next.meaning
        secrets.owners secrets.owners.controller secrets.owners.kind secrets.owners.name
        secrets.tracking secrets.tracking.argocd secrets.tracking.flux
        secrets.vault
        targetPolicies targetPolicies.inForce targetPolicies.name targetPolicies.why
        warnings warnings.about warnings.code warnings.text warnings.wayOut
    ";
    let expected: BTreeSet<String> = expected.split_whitespace().map(str::to_owned).collect();
    let (missing, new): (Vec<_>, Vec<_>) =
        (expected.difference(&found).collect(), found.difference(&expected).collect());
    assert!(missing.is_empty() && new.is_empty(), "missing {missing:?}, new {new:?}");
}

#[test]
fn live_secrets_are_none_only_where_every_one_was_looked_for() {
    let mut facts = facts(git());
    assert_eq!(live_of(&facts), Live::Some);
    facts.secrets.values_mut().for_each(|live| *live = Reading::Absent);
    assert_eq!(live_of(&facts), Live::None);
    facts.labelled = Err("forbidden".to_owned());
    assert_eq!(live_of(&facts), Live::Unknown);
    facts.labelled = Ok(BTreeSet::new());
    facts.secrets.insert(name("app/db"), Reading::Unreadable("forbidden".to_owned()));
    assert_eq!(live_of(&facts), Live::Unknown);
}

#[test]
fn many_names_are_shortened_in_the_text_and_whole_in_the_json() {
    let (_, _, report) = after(git(), |facts| {
        for number in 0..20 {
            facts.secrets.insert(name(&format!("old/s{number}")), live(&guarded()));
            facts.labelled.as_mut().unwrap().insert(name(&format!("old/s{number}")));
        }
    });
    assert!(report.for_people("c").contains("and 12 more"));
    assert_eq!(report.as_json()["warnings"][0]["about"].as_array().unwrap().len(), 20);
}

#[test]
fn nothing_is_read_out_of_an_authority_that_cannot_be_read() {
    let away = Evidence { authority: Reading::Unreadable("403".to_owned()), settled: Reading::Absent, ..vault() };
    let (_, _, report) = after(away, |facts| {
        facts.keys = Keys::Needed;
        facts.noted = Err("403".to_owned());
    });
    let json = report.as_json();
    for part in ["settled", "imported"] {
        assert_eq!(json["evidence"][part]["reading"], "unreadable", "{part}");
    }
    assert!(report.for_people("c").contains("heartbeat     not known\n"));
}

#[test]
fn spans_of_time_are_said_as_people_do() {
    let said = [0, 119, 120, 7199, 7200, 172_799, 172_800].map(age);
    assert_eq!(said, ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d"]);
}

#[test]
fn the_account_that_handed_over_is_named_until_it_is_gone_and_is_no_alarm() {
    let left = || Account::Left(vec!["ServiceAccount regent-system/regent-handover-prod".to_owned()]);
    let (warnings, exit, report) = after(vault(), |facts| facts.account = left());
    assert_eq!((warnings, exit), (vec![], Exit::Done));
    let text = report.for_people("context prod");
    for words in [
        "All is as it should be.",
        "- handover-account: ",
        "delete serviceaccount regent-handover-prod",
        "Vault, which was",
    ] {
        assert!(text.split_whitespace().collect::<Vec<_>>().join(" ").contains(words), "{words}: {text}");
    }
    assert_eq!(report.as_json()["notes"][0]["code"], "handover-account");
    let (_, _, gone) = after(vault(), |_| {});
    assert_eq!(gone.as_json()["notes"], serde_json::json!([]));
    let (warnings, exit, _) = after(vault(), |facts| facts.account = Account::Unseen("no right".to_owned()));
    assert_eq!((warnings, exit), (vec!["not-seen"], Exit::Refused));
}

#[test]
fn where_vault_moved_to_counts_and_where_it_was_is_told() {
    let place = |address: &str| WitnessedVault {
        address: address.to_owned(),
        namespace: String::new(),
        mount: "secret".to_owned(),
        prefix: "bootstrap/prod".to_owned(),
    };
    let (warnings, _, report) = after(Evidence { moved: Reading::Present(place("https://new")), ..vault() }, |_| {});
    assert_eq!(warnings, ["vault-place"]);
    let text = report.for_people("context prod");
    assert!(text.contains("moved to https://new secret/bootstrap/prod"), "{text}");
    assert_eq!(report.as_json()["evidence"]["vault"]["same"], false);
}
