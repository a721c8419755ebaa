use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::observed::Scope;
use super::super::reach::{InlinePatch, Selector};
use super::*;
use crate::name::AuthorityName;
use crate::rules::{Delivery, FluxApplication, FluxArtifact, FluxSource, Voucher};
use crate::settle::Quiet;

const OLD: &str = "bootstrap@sha256:0a";
const NEW: &str = "bootstrap@sha256:0b";

fn name() -> ObjectName {
    ObjectName::parse("team/app").unwrap()
}

fn application() -> FluxApplication {
    FluxApplication {
        authority: AuthorityName::parse("prod").unwrap(),
        kustomization: name(),
        delivery: Delivery::Artifact(FluxArtifact {
            name: "app".to_owned(),
            source: FluxSource::Watch,
            voucher: Voucher::Nobody,
        }),
        token_secret: Some("regent-token".to_owned()),
    }
}

fn published(revision: &str) -> Published {
    Published { revision: Some(revision.to_owned()), ..Published::default() }
}

/// One that holds what is published, and rests.
fn at_rest() -> Kustomization {
    Kustomization {
        name: name(),
        is_suspended: false,
        generation: 1,
        observed: 1,
        source: SourceRef::of(&application()),
        token_secret: Some("regent-token".to_owned()),
        service_account: None,
        is_remote: false,
        timeout: Duration::from_secs(60),
        retry: Duration::from_secs(60),
        attempted: Some(NEW.to_owned()),
        applied: Some(NEW.to_owned()),
        origin: Some("main@sha1:00".to_owned()),
        ready: Ready::Yes,
        is_reconciling: false,
        history: Vec::new(),
        inventory: Vec::new(),
        patches: Vec::new(),
    }
}

fn found_in(kustomization: Kustomization, artifact: Option<Published>) -> Vec<Obstacle> {
    let application = application();
    let artifacts: BTreeMap<_, _> =
        artifact.into_iter().map(|artifact| (SourceRef::of(&application), artifact)).collect();
    let (kustomizations, skipped) = ([kustomization], BTreeSet::new());
    let scope = Scope { applications: &[&application], listed: &[] };
    let facts =
        Facts { kustomizations: &kustomizations, artifacts: &artifacts, scope, skipped: &skipped, quiet: Quiet::Over };
    obstacles(&facts).remove(&name()).unwrap_or_default()
}

#[test]
fn one_that_applied_what_is_published_and_rests_is_in_nobodys_way() {
    assert_eq!(found_in(at_rest(), Some(published(NEW))), []);
}

#[test]
fn what_is_not_applied_or_not_at_rest_is_in_the_way() {
    let behind = Kustomization { applied: Some(OLD.to_owned()), ..at_rest() };
    let applied = Some(OLD.to_owned());
    let expected = Obstacle::NotApplied { name: name(), applied, published: NEW.to_owned() };
    assert_eq!(found_in(behind, Some(published(NEW))), [expected]);
    let failed = Kustomization { ready: Ready::No("BuildFailed".to_owned()), ..at_rest() };
    let reason = Some("BuildFailed".to_owned());
    assert_eq!(found_in(failed, Some(published(NEW))), [Obstacle::NotReady { reason }]);
    let busy = Kustomization { is_reconciling: true, ..at_rest() };
    assert_eq!(found_in(busy, Some(published(NEW))), [Obstacle::NotReady { reason: None }]);
    let suspended = Kustomization { is_suspended: true, ..at_rest() };
    assert_eq!(found_in(suspended, Some(published(NEW))), [Obstacle::Stops(Why::Suspended(name()))]);
}

#[test]
fn an_artifact_that_is_not_there_not_regents_or_behind_its_repository_is_in_the_way() {
    let none = Obstacle::NoArtifact { artifact: SourceRef::of(&application()) };
    assert_eq!(found_in(at_rest(), None), std::slice::from_ref(&none));
    // Stubs of an epoch before are not what is handed over now.
    for revision in ["main@sha1:00", "handover@sha256:0c"] {
        assert_eq!(found_in(at_rest(), Some(published(revision))), std::slice::from_ref(&none));
    }
    let refusal = "regent[P6]: why".to_owned();
    let behind = Published { refusal: Some(refusal.clone()), ..published(NEW) };
    assert_eq!(found_in(at_rest(), Some(behind)), [Obstacle::Behind(refusal)]);
}

/// It would not have applied what Git has, and the token is asked for all the same.
#[test]
fn without_an_artifact_a_patch_that_lets_go_too_early_is_in_the_way() {
    let delivery = Delivery::Patches(ObjectName::parse("flux/infra").unwrap());
    let application = FluxApplication { delivery, ..application() };
    let found = |change: fn(&mut Kustomization)| {
        let mut kustomization = Kustomization { source: SourceRef::of(&application), ..at_rest() };
        change(&mut kustomization);
        let (kustomizations, artifacts, skipped) = ([kustomization], BTreeMap::new(), BTreeSet::new());
        let scope = Scope { applications: &[&application], listed: &[] };
        let (kustomizations, artifacts, quiet) = (&kustomizations, &artifacts, Quiet::Over);
        obstacles(&Facts { kustomizations, artifacts, scope, skipped: &skipped, quiet })
            .remove(&name())
            .unwrap_or_default()
    };
    let reason = Some("BuildFailed".to_owned());
    assert_eq!(found(|_| {}), []);
    assert_eq!(found(|it| it.ready = Ready::No("BuildFailed".to_owned())), [Obstacle::NotReady { reason }]);
    assert!(matches!(found(|it| it.token_secret = None).as_slice(), [Obstacle::OtherToken { .. }]));
    assert!(matches!(found(|it| it.is_suspended = true).as_slice(), [Obstacle::Stops(Why::Suspended(_))]));
    let lets_go = |it: &mut Kustomization| {
        let annotations = ["decrypt: disabled", "ssa: Ignore", "prune: disabled"];
        let annotations = annotations.map(|it| format!("    kustomize.toolkit.fluxcd.io/{it}\n")).concat();
        it.patches.push(InlinePatch {
            patch: format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: any\n  annotations:\n{annotations}"),
            target: Some(Selector {
                kind: Some("Secret".to_owned()),
                label_selector: Some("regent.dev/authority=prod".to_owned()),
                ..Selector::default()
            }),
        });
    };
    assert_eq!(found(lets_go), [Obstacle::LetsGo]);
}

#[test]
fn a_token_of_somebody_else_is_in_the_way() {
    let found = Some("sops-age".to_owned());
    let other = Kustomization { token_secret: found.clone(), ..at_rest() };
    let expected = Obstacle::OtherToken { found, expected: "regent-token".to_owned() };
    assert_eq!(found_in(other, Some(published(NEW))), [expected]);
}

#[test]
fn what_is_applied_is_seen_by_the_account_that_is_impersonated() {
    assert_eq!(
        account(&at_rest(), "flux-system", None).unwrap(),
        "system:serviceaccount:flux-system:kustomize-controller"
    );
    assert_eq!(account(&at_rest(), "flux-system", Some("flux")).unwrap(), "system:serviceaccount:team:flux");
    let tenant = Kustomization { service_account: Some("deployer".to_owned()), ..at_rest() };
    assert_eq!(account(&tenant, "flux-system", Some("flux")).unwrap(), "system:serviceaccount:team:deployer");
    assert_eq!(account(&Kustomization { is_remote: true, ..at_rest() }, "flux-system", Some("flux")), None);
}
