use super::*;
use crate::evidence::Mirror;
use crate::name::{Epoch, HandoverId};
use serde_json::json;

fn prod() -> AuthorityName {
    AuthorityName::parse("prod").unwrap()
}

fn guarded() -> Value {
    json!({
        "labels": { "regent.dev/authority": "prod" },
        "annotations": {
            "argocd.argoproj.io/sync-options": "Prune=false,Delete=false,ServerSideApply=true",
            "argocd.argoproj.io/compare-options": "IgnoreExtraneous",
            "kustomize.toolkit.fluxcd.io/prune": "disabled",
        },
    })
}

/// A Secret with this in one place of its metadata.
fn with(map: &str, key: &str, value: Value) -> LiveSecret {
    let mut metadata = guarded();
    metadata[map][key] = value;
    LiveSecret::of_metadata(&metadata)
}

fn managed(managers: &[(&str, &str)]) -> Value {
    let entry = |(name, part): &(&str, &str)| json!({ "manager": name, "operation": "Apply", "fieldsV1": { *part: { "f:password": {} } } });
    json!(managers.iter().map(entry).collect::<Vec<_>>())
}

fn fight(ruler: Ruler, metadata: &Value) -> Vec<String> {
    LiveSecret::of_metadata(metadata).contenders(ruler).iter().map(ToString::to_string).collect()
}

#[test]
fn what_regent_renders_bears_every_guard() {
    assert_eq!(LiveSecret::of_metadata(&guarded()).missing_guards(&prod()), []);
    assert_eq!(LiveSecret::default().missing_guards(&prod()), Guard::ALL);
}

#[test]
fn a_guard_counts_only_where_every_version_of_its_controller_obeys_it() {
    let sync = "argocd.argoproj.io/sync-options";
    for (options, missing) in [
        ("Prune=false,Delete=false", vec![]),
        ("Replace=true, Prune=false ,Delete=false", vec![]),
        ("Prune=false,Prune=true,Delete=false", vec![]),
        ("Prune=true,Prune=false,Delete=false", vec![Guard::Prune]),
        ("prune=false,Delete=false", vec![Guard::Prune]),
        ("Prune=False,Delete=false", vec![Guard::Prune]),
        ("Prune=confirm,Delete=confirm", vec![Guard::Prune, Guard::Delete]),
        ("Prune=false", vec![Guard::Delete]),
        ("", vec![Guard::Prune, Guard::Delete]),
    ] {
        let secret = with("annotations", sync, json!(options));
        assert_eq!(secret.missing_guards(&prod()), missing, "{options}");
    }
    let compare =
        |text: &str| with("annotations", "argocd.argoproj.io/compare-options", json!(text)).missing_guards(&prod());
    assert_eq!(compare("ServerSideDiff=true,IgnoreExtraneous"), []);
    assert_eq!(compare("ignoreextraneous"), [Guard::Compare]);
    let flux =
        |text: &str| with("annotations", "kustomize.toolkit.fluxcd.io/prune", json!(text)).missing_guards(&prod());
    assert_eq!((flux("Disabled"), flux("enabled")), (vec![], vec![Guard::FluxPrune]));
    let label = |text: &str| with("labels", "regent.dev/authority", json!(text)).missing_guards(&prod());
    assert_eq!((label("prod"), label("prod-1")), (vec![], vec![Guard::Label]));
}

#[test]
fn flux_takes_its_guard_as_a_label_too() {
    let mut metadata = guarded();
    metadata["annotations"].as_object_mut().unwrap().remove("kustomize.toolkit.fluxcd.io/prune");
    assert_eq!(LiveSecret::of_metadata(&metadata).missing_guards(&prod()), [Guard::FluxPrune]);
    metadata["labels"]["kustomize.toolkit.fluxcd.io/prune"] = json!("disabled");
    assert_eq!(LiveSecret::of_metadata(&metadata).missing_guards(&prod()), []);
}

#[test]
fn of_the_copy_that_client_side_apply_leaves_only_its_presence_is_kept() {
    let applied = "kubectl.kubernetes.io/last-applied-configuration";
    let secret = with("annotations", applied, json!("{\"stringData\":{\"password\":\"REGENT-CANARY\"}}"));
    assert!(secret.has_clear_copy);
    assert!(!format!("{secret:?}").contains("REGENT-CANARY"));
    assert!(!LiveSecret::of_metadata(&guarded()).has_clear_copy);
}

#[test]
fn metadata_of_any_shape_is_read_without_a_panic() {
    for odd in [json!(null), json!([]), json!("x"), json!({ "labels": [], "annotations": 1, "managedFields": [1, {}] })]
    {
        assert_eq!(LiveSecret::of_metadata(&odd), LiveSecret::default(), "{odd}");
    }
}

#[test]
fn an_object_is_tracked_by_annotation_or_label() {
    let tracked = |metadata: Value| {
        let Tracking { argocd, flux } = Tracking::of_metadata(&metadata);
        (argocd.unwrap_or_default(), flux.unwrap_or_default())
    };
    let said = |argocd: &str, flux: &str| (argocd.to_owned(), flux.to_owned());
    assert_eq!(tracked(json!({})), said("", ""));
    let id = json!({ "argocd.argoproj.io/tracking-id": "web:/Secret:app/db" });
    let instance = json!({ "app.kubernetes.io/instance": "old" });
    assert_eq!(tracked(json!({ "annotations": id, "labels": instance })), said("web", ""));
    assert_eq!(tracked(json!({ "labels": instance })), said("old", ""));
    let kustomization =
        json!({ "kustomize.toolkit.fluxcd.io/name": "infra", "kustomize.toolkit.fluxcd.io/namespace": "flux" });
    assert_eq!(tracked(json!({ "labels": kustomization })), said("", "Kustomization flux/infra"));
    assert_eq!(tracked(json!({ "labels": { "helm.toolkit.fluxcd.io/name": "vault" } })), said("", "HelmRelease vault"));
}

#[test]
fn while_git_rules_one_tool_writes_and_nobody_else() {
    let manage = |managers: &[(&str, &str)]| json!({ "managedFields": managed(managers) });
    for alone in ["argocd-controller", "kustomize-controller", "kubectl-client-side-apply", "regent"] {
        assert_eq!(fight(Ruler::Git, &manage(&[(alone, "f:data")])), [""; 0], "{alone}");
    }
    let two = manage(&[("argocd-controller", "f:data"), ("vault-operator", "f:data")]);
    assert_eq!(fight(Ruler::Git, &two), ["`vault-operator` writes its values"]);
    let labels = manage(&[("argocd-controller", "f:data"), ("vault-operator", "f:metadata")]);
    assert_eq!(fight(Ruler::Git, &labels), [""; 0]);
    let tools = manage(&[("argocd-controller", "f:data"), ("helm-controller", "f:stringData")]);
    assert_eq!(fight(Ruler::Git, &tools), ["Argo CD delivers it", "Flux delivers it"]);
    let tracked = json!({
        "annotations": { "argocd.argoproj.io/tracking-id": "web:/Secret:app/db" },
        "labels": { "kustomize.toolkit.fluxcd.io/name": "infra" },
    });
    assert_eq!(fight(Ruler::Git, &tracked), ["Argo CD delivers it", "Flux delivers it"]);
    let owned = json!({ "ownerReferences": [{ "kind": "ExternalSecret", "name": "db", "controller": true }] });
    assert_eq!(fight(Ruler::Git, &owned), ["ExternalSecret `db` owns it"]);
}

#[test]
fn once_vault_rules_one_operator_writes() {
    let owner = |name: &str| json!({ "kind": "ExternalSecret", "name": name });
    let mut metadata = json!({ "managedFields": managed(&[("argocd-controller", "f:data"), ("eso", "f:data")]) });
    assert_eq!(fight(Ruler::Vault, &metadata), [""; 0]);
    metadata["ownerReferences"] = json!([owner("db")]);
    assert_eq!(fight(Ruler::Vault, &metadata), [""; 0], "an owner and its manager are one");
    metadata["ownerReferences"] = json!([owner("db"), owner("web")]);
    assert_eq!(fight(Ruler::Vault, &metadata), ["ExternalSecret `db` owns it", "ExternalSecret `web` owns it"]);
    let two = json!({ "managedFields": managed(&[("eso", "f:data"), ("vso", "f:data")]) });
    assert_eq!(fight(Ruler::Vault, &two), ["`eso` writes its values", "`vso` writes its values"]);
}

#[test]
fn where_nobody_rules_more_than_one_is_a_fight() {
    let one =
        json!({ "managedFields": managed(&[("eso", "f:data")]), "ownerReferences": [{ "kind": "E", "name": "db" }] });
    assert_eq!(fight(Ruler::Nobody, &one), [""; 0]);
    let two = json!({ "managedFields": managed(&[("eso", "f:data"), ("argocd-controller", "f:data")]) });
    assert_eq!(fight(Ruler::Nobody, &two), ["Argo CD delivers it", "`eso` writes its values"]);
}

#[test]
fn who_rules_follows_k() {
    let vault = |mirror| Holder::Vault {
        epoch: Epoch::FIRST,
        handover: HandoverId::parse("0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f").unwrap(),
        mirror,
    };
    for (holder, ruler) in [
        (Holder::Git { epoch: Epoch::FIRST, supersedes: None }, Ruler::Git),
        (vault(Mirror::Complete), Ruler::Vault),
        (vault(Mirror::Incomplete), Ruler::Vault),
        (Holder::None, Ruler::Nobody),
        (Holder::Disagree(String::new()), Ruler::Nobody),
        (Holder::Unreadable(String::new()), Ruler::Nobody),
    ] {
        assert_eq!(Ruler::of(&holder), ruler, "{holder}");
    }
}

/// Every document, in every state of its Secret, under every answer.
#[test]
fn what_happens_next_is_told_for_every_case() {
    let leaving = |mut metadata: Value| {
        metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        LiveSecret::of_metadata(&metadata)
    };
    let lives = [
        Reading::Present(LiveSecret::of_metadata(&guarded())),
        Reading::Present(LiveSecret::default()),
        Reading::Absent,
        Reading::Present(leaving(guarded())),
        Reading::Present(leaving(json!({}))),
        Reading::Unreadable("forbidden".to_owned()),
    ];
    let written = |class, listed| Standing::Written { class, listed };
    let permanent = Class::Permanent { vault: true };
    let local = Class::Permanent { vault: false };
    // guarded, unguarded, absent, leaving, leaving unguarded, unreadable
    let row = |guarded, unguarded, absent, unknown| [guarded, unguarded, absent, absent, absent, unknown];
    let rendered = row(Next::Rendered, Next::RenderedUnguarded, Next::Created, Next::Unknown);
    let applied = row(Next::Applied, Next::Applied, Next::Created, Next::Unknown);
    let gone = row(Next::Kept, Next::Pruned, Next::Nowhere, Next::Unknown);
    let stub = |absent| row(Next::Stub, Next::StubUnguarded, absent, Next::Unknown);
    let mut told = 0;
    let mut check = |standing, answer, expected: [Next; 6]| {
        for (live, expected) in lives.iter().zip(expected) {
            assert_eq!(next(standing, live, answer, &prod()), expected, "{standing:?} {live:?} {answer:?}");
            told += 1;
        }
    };
    for listed in [None, Some(true), Some(false)] {
        for class in [Class::Handover, permanent, local] {
            check(written(class, listed), Answer::Values, rendered);
            check(written(class, listed), Answer::Refused, [Next::Nothing; 6]);
        }
        check(written(Class::Plain, listed), Answer::Values, applied);
        check(written(Class::Plain, listed), Answer::Refused, [Next::Nothing; 6]);
    }
    for listed in [None, Some(true)] {
        check(written(Class::Handover, listed), Answer::Stubs, stub(Next::Delivered));
        check(written(permanent, listed), Answer::Stubs, stub(Next::Restore));
        check(written(local, listed), Answer::Stubs, stub(Next::Restore));
    }
    for class in [Class::Handover, permanent, local] {
        check(written(class, Some(false)), Answer::Stubs, [Next::NotListed; 6]);
    }
    check(written(Class::Plain, Some(true)), Answer::Stubs, stub(Next::Delivered));
    check(written(Class::Plain, Some(false)), Answer::Stubs, applied);
    check(written(Class::Plain, None), Answer::Stubs, applied);
    for answer in [Answer::Values, Answer::Stubs] {
        check(Standing::Refused, answer, [Next::Refused; 6]);
        check(Standing::Gone, answer, gone);
    }
    for standing in [Standing::Refused, Standing::Gone] {
        check(standing, Answer::Refused, [Next::Nothing; 6]);
    }
    // 4 classes in 3 lists, refused and gone, under 3 answers, in 6 states.
    assert_eq!(told, (4 * 3 + 2) * 3 * 6);
}

#[test]
fn everything_that_can_happen_has_a_word_and_a_sentence_of_its_own() {
    let mut said: Vec<_> = Next::ALL.iter().flat_map(|next| [next.name(), next.meaning()]).collect();
    said.sort_unstable();
    said.dedup();
    assert_eq!(said.len(), 2 * Next::ALL.len());
    for next in Next::ALL {
        assert!(next.name().bytes().all(|byte| byte.is_ascii_alphabetic()) && next.meaning().len() <= 75, "{next:?}");
    }
}

#[test]
fn guards_are_put_beside_whatever_the_annotations_say() {
    for (own, expected) in [
        (json!({}), ["Prune=false,Delete=false", "IgnoreExtraneous"]),
        (
            json!({ guard::SYNC_OPTIONS: "Prune=true, Delete=confirm,Replace=true", guard::COMPARE_OPTIONS: "ServerSideDiff=true" }),
            ["Prune=false,Delete=false,Replace=true", "ServerSideDiff=true,IgnoreExtraneous"],
        ),
    ] {
        let patch = LiveSecret::of_metadata(&json!({ "annotations": own })).guarded(&prod());
        let annotations = &patch["annotations"];
        assert_eq!([&annotations[guard::SYNC_OPTIONS], &annotations[guard::COMPARE_OPTIONS]], expected);
        assert!(LiveSecret::of_metadata(&patch).missing_guards(&prod()).is_empty());
    }
}

#[test]
fn flux_drops_a_guard_that_kubectl_alone_wrote() {
    let mut metadata = guarded();
    let entry = |manager: &str| {
        let annotations = json!({ "f:kustomize.toolkit.fluxcd.io/prune": {} });
        json!({ "manager": manager, "operation": "Update", "fieldsV1": { "f:metadata": { "f:annotations": annotations } } })
    };
    metadata["managedFields"] = json!([entry("kubectl-annotate")]);
    // Where Flux does not deliver it, nobody drops anything.
    assert_eq!(LiveSecret::of_metadata(&metadata).dropped_guards(), []);
    metadata["labels"]["kustomize.toolkit.fluxcd.io/name"] = json!("app");
    assert_eq!(LiveSecret::of_metadata(&metadata).dropped_guards(), [Guard::FluxPrune]);
    for other in ["regent", "kustomize-controller"] {
        metadata["managedFields"] = json!([entry("kubectl-annotate"), entry(other)]);
        assert_eq!(LiveSecret::of_metadata(&metadata).dropped_guards(), [], "{other}");
    }
}
