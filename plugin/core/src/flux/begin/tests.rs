use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::observed::Scope;
use super::*;
use crate::name::AuthorityName;
use crate::rules::{FluxApplication, FluxSource, Voucher};
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
        artifact: "app".to_owned(),
        source: FluxSource::Watch,
        token_secret: Some("regent-token".to_owned()),
        voucher: Voucher::Nobody,
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
        source: SourceRef::artifact_of(&application()),
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
    }
}

fn found_in(kustomization: Kustomization, artifact: Option<Published>) -> Vec<Obstacle> {
    let application = application();
    let artifacts: BTreeMap<_, _> =
        artifact.into_iter().map(|artifact| (SourceRef::artifact_of(&application), artifact)).collect();
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
    let none = Obstacle::NoArtifact { artifact: SourceRef::artifact_of(&application()) };
    assert_eq!(found_in(at_rest(), None), std::slice::from_ref(&none));
    // Stubs of an epoch before are not what is handed over now.
    for revision in ["main@sha1:00", "handover@sha256:0c"] {
        assert_eq!(found_in(at_rest(), Some(published(revision))), std::slice::from_ref(&none));
    }
    let refusal = "regent[P6]: why".to_owned();
    let behind = Published { refusal: Some(refusal.clone()), ..published(NEW) };
    assert_eq!(found_in(at_rest(), Some(behind)), [Obstacle::Behind(refusal)]);
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
    assert_eq!(account(&at_rest(), "flux-system").unwrap(), "system:serviceaccount:flux-system:kustomize-controller");
    let tenant = Kustomization { service_account: Some("deployer".to_owned()), ..at_rest() };
    assert_eq!(account(&tenant, "flux-system").unwrap(), "system:serviceaccount:team:deployer");
    assert_eq!(account(&Kustomization { is_remote: true, ..at_rest() }, "flux-system"), None);
}
