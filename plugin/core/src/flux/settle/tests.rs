use std::time::Duration;

use super::super::observed::{Built, Entry};
use super::super::reach::{InlinePatch, Selector};
use super::*;
use crate::evidence::{ListedClass, ListedDocument};
use crate::name::{AuthorityName, FilePath};
use crate::rules::{Delivery, FluxApplication, FluxArtifact, FluxSource, Voucher};

const OLD: &str = "bootstrap@sha256:0a";
const STUBS: &str = "handover@sha256:0b";

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

fn application() -> FluxApplication {
    FluxApplication {
        authority: AuthorityName::parse("prod").unwrap(),
        kustomization: name("team/app"),
        delivery: Delivery::Artifact(FluxArtifact {
            name: "app-tree".to_owned(),
            source: FluxSource::Watch,
            voucher: Voucher::Nobody,
        }),
        token_secret: Some("regent-token".to_owned()),
    }
}

fn artifact(revision: &str) -> BTreeMap<SourceRef, Published> {
    let published = Published { revision: Some(revision.to_owned()), ..Published::default() };
    BTreeMap::from([(SourceRef::of(&application()), published)])
}

fn listed() -> Vec<ListedDocument> {
    vec![ListedDocument {
        path: FilePath::parse("db.yaml").unwrap(),
        name: SecretName::parse("team/db").unwrap(),
        kind: "Secret".to_owned(),
        class: ListedClass::Handover,
        blob: "0".repeat(40),
    }]
}

/// One that shows everything.
fn let_go() -> Kustomization {
    Kustomization {
        name: name("team/app"),
        is_suspended: false,
        generation: 3,
        observed: 3,
        source: SourceRef::of(&application()),
        token_secret: Some("regent-token".to_owned()),
        service_account: None,
        is_remote: false,
        timeout: Duration::from_secs(90),
        retry: Duration::from_secs(10),
        attempted: Some(STUBS.to_owned()),
        applied: Some(STUBS.to_owned()),
        origin: None,
        ready: Ready::Yes,
        is_reconciling: false,
        history: Vec::new(),
        inventory: vec![secret()],
        patches: Vec::new(),
    }
}

fn secret() -> Entry {
    Entry { kind: "Secret".to_owned(), namespace: "team".to_owned(), name: "db".to_owned() }
}

/// What comes next with the stubs published, unless another revision is.
fn step_of(all: &[Kustomization], revision: &str, skipped: &[&str], quiet: Quiet) -> Next {
    let (application, artifacts, listed) = (application(), artifact(revision), listed());
    let skipped = skipped.iter().map(|text| name(text)).collect();
    let scope = Scope { applications: &[&application], listed: &listed };
    next(&Facts { kustomizations: all, artifacts: &artifacts, scope, skipped: &skipped, quiet })
}

fn step(kustomization: Kustomization) -> Next {
    step_of(&[kustomization], STUBS, &[], Quiet::Over)
}

fn lacking(lacks: Vec<Lack>) -> Vec<Lacking> {
    vec![Lacking { name: name("team/app"), lacks }]
}

fn asked(lacks: Vec<Lack>) -> Next {
    Next::Ask { whom: vec![name("team/app")], lacking: lacking(lacks) }
}

fn not_applied() -> Lack {
    Lack::NotApplied { applied: Some(OLD.to_owned()), wanted: STUBS.to_owned() }
}

fn reconciling(revision: &str) -> Lack {
    Lack::Reconciling { revision: Some(revision.to_owned()), most: Duration::from_secs(90) }
}

#[test]
fn it_has_let_go_when_the_stubs_are_applied_ready_and_at_rest() {
    assert_eq!(step_of(&[let_go()], STUBS, &[], Quiet::NotYet), Next::Quiet);
    assert_eq!(step(let_go()), Next::Note(Seen { let_go: vec![name("team/app")], skipped: vec![] }));
}

#[test]
fn an_artifact_with_ciphertext_or_none_lets_nobody_go_and_nobody_is_asked() {
    let old = Kustomization { applied: Some(OLD.to_owned()), attempted: Some(OLD.to_owned()), ..let_go() };
    let lack = Lack::NoStubs { revision: OLD.to_owned(), refusal: None };
    assert_eq!(step_of(&[old], OLD, &[], Quiet::Over), Next::Wait(lacking(vec![lack])));
    // Nor does a revision that is none of regent's, whatever it holds.
    assert!(matches!(step_of(&[let_go()], "main@sha1:00", &[], Quiet::Over), Next::Wait(_)));
    let application = application();
    let scope = Scope { applications: &[&application], listed: &[] };
    let (kustomizations, artifacts, skipped) = ([let_go()], BTreeMap::new(), BTreeSet::new());
    let facts =
        Facts { kustomizations: &kustomizations, artifacts: &artifacts, scope, skipped: &skipped, quiet: Quiet::Over };
    let lack = Lack::NoArtifact { artifact: SourceRef::of(&application) };
    assert_eq!(next(&facts), Next::Wait(lacking(vec![lack])));
}

#[test]
fn one_that_waits_for_health_with_the_revision_before_is_waited_for_and_not_asked() {
    let waiting = Kustomization {
        applied: Some(OLD.to_owned()),
        attempted: Some(OLD.to_owned()),
        ready: Ready::Unknown,
        is_reconciling: true,
        ..let_go()
    };
    assert_eq!(step(waiting), Next::Wait(lacking(vec![not_applied(), reconciling(OLD)])));
}

#[test]
fn the_revision_alone_is_no_proof_while_something_is_under_way() {
    // Its status names the stubs until the build under way is over, whatever that applies.
    let again = Kustomization { ready: Ready::Unknown, is_reconciling: true, ..let_go() };
    assert_eq!(step(again), Next::Wait(lacking(vec![reconciling(STUBS)])));
    let changed = Kustomization { generation: 4, ..let_go() };
    assert_eq!(step(changed), Next::Wait(lacking(vec![reconciling(STUBS)])));
    let began = Kustomization { is_reconciling: true, ..let_go() };
    assert_eq!(step(began), Next::Wait(lacking(vec![reconciling(STUBS)])));
    let other = Kustomization { attempted: Some(OLD.to_owned()), ..let_go() };
    assert_eq!(step(other), Next::Wait(lacking(vec![reconciling(OLD)])));
}

#[test]
fn one_that_failed_is_asked_to_try_again_before_its_interval_is_over() {
    let failed = Kustomization {
        applied: Some(OLD.to_owned()),
        attempted: Some(OLD.to_owned()),
        ready: Ready::No("BuildFailed".to_owned()),
        // So the controller says between two tries.
        is_reconciling: true,
        generation: 4,
        ..let_go()
    };
    assert_eq!(step(failed), asked(vec![not_applied(), Lack::NotReady { reason: "BuildFailed".to_owned() }]));
    let idle = Kustomization { applied: Some(OLD.to_owned()), attempted: Some(OLD.to_owned()), ..let_go() };
    assert_eq!(step(idle), asked(vec![not_applied()]));
    let unwell = Kustomization { ready: Ready::No("PruneFailed".to_owned()), ..let_go() };
    assert_eq!(step(unwell), asked(vec![Lack::NotReady { reason: "PruneFailed".to_owned() }]));
}

#[test]
fn a_suspended_one_is_a_persons_even_where_it_holds_stubs() {
    let suspended = Kustomization { is_suspended: true, ..let_go() };
    let Next::Person(stops) = step(suspended.clone()) else { panic!("it went on") };
    assert_eq!(stops, [Stop { name: name("team/app"), why: Why::Suspended(name("team/app")) }]);
    assert!(stops[0].to_string().contains("flux resume kustomization app -n team"), "{}", stops[0]);
    let given_up = step_of(&[suspended], STUBS, &["team/app"], Quiet::Over);
    assert_eq!(given_up, Next::Note(Seen { let_go: vec![], skipped: vec![name("team/app")] }));
}

#[test]
fn one_that_is_gone_or_takes_another_source_is_a_persons() {
    let missing = Next::Person(vec![Stop { name: name("team/app"), why: Why::Missing }]);
    assert_eq!(step_of(&[], STUBS, &[], Quiet::Over), missing);
    for (kind, namespace, other) in [
        ("GitRepository", "team", "app-tree"),
        ("ExternalArtifact", "team", "app"),
        ("ExternalArtifact", "other", "app-tree"),
    ] {
        let found = SourceRef { kind: kind.to_owned(), namespace: namespace.to_owned(), name: other.to_owned() };
        let expected = SourceRef::of(&application());
        let moved = Kustomization { source: found.clone(), ..let_go() };
        let why = Why::OtherSource { found, expected };
        assert_eq!(step(moved), Next::Person(vec![Stop { name: name("team/app"), why }]));
    }
}

#[test]
fn another_kustomization_that_has_a_listed_secret_or_takes_the_artifact_is_a_persons() {
    let plain = SourceRef { kind: "GitRepository".to_owned(), namespace: "flux".to_owned(), name: "infra".to_owned() };
    let other = Kustomization { name: name("flux/all"), source: plain, ..let_go() };
    let stop = |why| Next::Person(vec![Stop { name: name("flux/all"), why }]);
    let tracks = Why::Tracks(vec![SecretName::parse("team/db").unwrap()]);
    assert_eq!(step_of(&[let_go(), other.clone()], STUBS, &[], Quiet::Over), stop(tracks));
    let elsewhere = Entry { namespace: "other".to_owned(), ..secret() };
    let of_another_kind = Entry { kind: "ConfigMap".to_owned(), ..secret() };
    let unrelated = Kustomization { inventory: vec![elsewhere, of_another_kind], ..other.clone() };
    assert!(matches!(step_of(&[let_go(), unrelated.clone()], STUBS, &[], Quiet::Over), Next::Note(_)));
    let copy = Kustomization { source: SourceRef::of(&application()), ..unrelated };
    let unknown = Why::Unknown(SourceRef::of(&application()));
    assert_eq!(step_of(&[let_go(), copy], STUBS, &[], Quiet::Over), stop(unknown));
    let given_up = step_of(&[let_go(), other], STUBS, &["flux/all"], Quiet::Over);
    let seen = Seen { let_go: vec![name("team/app")], skipped: vec![name("flux/all")] };
    assert_eq!(given_up, Next::Note(seen));
}

#[test]
fn without_the_operators_file_whoever_has_a_listed_secret_is_named() {
    let listed = listed();
    let (kustomizations, artifacts, skipped) = ([let_go()], BTreeMap::new(), BTreeSet::new());
    let step = |listed| {
        let scope = Scope { applications: &[], listed };
        let (kustomizations, quiet) = (&kustomizations, Quiet::NotYet);
        next(&Facts { kustomizations, artifacts: &artifacts, scope, skipped: &skipped, quiet })
    };
    assert!(matches!(step(&listed), Next::Person(_)));
    // With nobody to wait for, nothing is waited for.
    assert_eq!(step(&[]), Next::Note(Seen::default()));
}

#[test]
fn the_longest_is_two_waits_for_health_of_half_a_minute_at_least_and_one_pause() {
    let (application, artifacts) = (application(), artifact(STUBS));
    let scope = Scope { applications: &[&application], listed: &[] };
    let longest_of = |timeout, skipped: &[&str]| {
        let all = [Kustomization { timeout: Duration::from_secs(timeout), ..let_go() }];
        let skipped = skipped.iter().map(|text| name(text)).collect();
        longest(&Facts { kustomizations: &all, artifacts: &artifacts, scope, skipped: &skipped, quiet: Quiet::Over })
    };
    assert_eq!(longest_of(90, &[]).as_secs(), 190);
    assert_eq!(longest_of(5, &[]).as_secs(), 70);
    assert_eq!(longest_of(90, &["team/app"]).as_secs(), 0);
}

#[test]
fn the_newest_ciphertext_that_was_tried_is_found_behind_stubs() {
    let built = |revision: &str, origin: &str| Built {
        revision: revision.to_owned(),
        origin: Some(origin.to_owned()),
        is_unbuilt: false,
    };
    let history =
        vec![built(STUBS, "main@sha1:3"), built(OLD, "main@sha1:2"), built("bootstrap@sha256:09", "main@sha1:1")];
    let of = |history| {
        let (application, kustomization) = (application(), Kustomization { history, ..let_go() });
        let one = Configured { application: &application, kustomization: Some(&kustomization), artifact: None };
        one.last_values("1").into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of(history), ["main@sha1:2"]);
    assert_eq!(of(Vec::new()), [""; 0]);
}

const COMMIT: &str = "main@sha1:2";

fn without_artifact() -> FluxApplication {
    FluxApplication { delivery: Delivery::Patches(name("flux/infra")), ..application() }
}

/// One without an artifact, as the controller leaves it when it was built with the patch.
fn patched() -> Kustomization {
    let annotations = ["decrypt: disabled", "ssa: Ignore", "prune: disabled"];
    let annotations = annotations.map(|it| format!("    kustomize.toolkit.fluxcd.io/{it}\n")).concat();
    let patch = InlinePatch {
        patch: format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: any\n  annotations:\n{annotations}"),
        target: Some(Selector {
            kind: Some("Secret".to_owned()),
            label_selector: Some("regent.dev/authority=prod".to_owned()),
            ..Selector::default()
        }),
    };
    Kustomization {
        source: SourceRef::of(&without_artifact()),
        attempted: Some(COMMIT.to_owned()),
        applied: Some(COMMIT.to_owned()),
        patches: vec![patch],
        ..let_go()
    }
}

fn step_without_artifact(all: &[Kustomization]) -> Next {
    let (application, artifacts, listed, skipped) = (without_artifact(), BTreeMap::new(), listed(), BTreeSet::new());
    let scope = Scope { applications: &[&application], listed: &listed };
    next(&Facts { kustomizations: all, artifacts: &artifacts, scope, skipped: &skipped, quiet: Quiet::Over })
}

#[test]
fn without_an_artifact_it_has_let_go_when_it_is_ready_with_the_patch() {
    let seen = Seen { let_go: vec![name("team/app")], skipped: vec![] };
    assert_eq!(step_without_artifact(&[patched()]), Next::Note(seen));
    // The repository is everybody's.
    let other = Kustomization { name: name("flux/other"), inventory: Vec::new(), ..patched() };
    assert!(matches!(step_without_artifact(&[patched(), other]), Next::Note(_)));
}

#[test]
fn without_the_patch_it_is_waited_for_however_well_it_is_and_the_entry_is_told() {
    let none = Kustomization { patches: Vec::new(), ..patched() };
    let failed = Kustomization { ready: Ready::No("BuildFailed".to_owned()), ..none.clone() };
    for without in [none, failed] {
        let Next::Wait(lacking) = step_without_artifact(&[without]) else { panic!("it went on") };
        assert_eq!(lacking[0].lacks, [Lack::NoPatch(AuthorityName::parse("prod").unwrap())]);
        let told = lacking[0].to_string();
        for word in ["decrypt: disabled", "ssa: Ignore", "prune: disabled", "regent.dev/authority=prod"] {
            assert!(told.contains(word) && !told.contains('\n'), "{told}");
        }
    }
}

#[test]
fn the_patch_alone_is_no_proof_before_a_build_with_it_is_over_and_well() {
    let waits = |kustomization: Kustomization| match step_without_artifact(&[kustomization]) {
        Next::Wait(lacking) | Next::Ask { lacking, .. } => !lacking.is_empty(),
        Next::Person(_) | Next::Quiet | Next::Note(_) => false,
    };
    // Its status is about the spec before the patch, or a build is under way, or nothing was applied by it.
    assert!(waits(Kustomization { observed: 2, ..patched() }));
    assert!(waits(Kustomization { is_reconciling: true, ..patched() }));
    assert!(waits(Kustomization { ready: Ready::Unknown, ..patched() }));
    assert!(waits(Kustomization { ready: Ready::No("BuildFailed".to_owned()), ..patched() }));
    assert!(waits(Kustomization { applied: Some("main@sha1:1".to_owned()), ..patched() }));
    assert!(waits(Kustomization { applied: None, attempted: None, ..patched() }));
}

#[test]
fn without_an_artifact_another_source_or_a_suspended_one_is_a_persons() {
    let artifact = Kustomization { source: SourceRef::of(&application()), ..patched() };
    let suspended = Kustomization { is_suspended: true, ..patched() };
    for one in [artifact, suspended] {
        assert!(matches!(step_without_artifact(&[one]), Next::Person(_)));
    }
}

/// A build that failed applied nothing; any other may have slipped in before the witness.
#[test]
fn without_an_artifact_every_build_since_the_commit_that_was_handed_over_is_compared() {
    let built = |commit: &str, is_unbuilt| Built { revision: format!("main@sha1:{commit}"), origin: None, is_unbuilt };
    let history = vec![built("5", false), built("4", true), built("3", false), built("2", false), built("1", false)];
    let (application, kustomization) = (without_artifact(), Kustomization { history, ..patched() });
    let one = Configured { application: &application, kustomization: Some(&kustomization), artifact: None };
    assert_eq!(one.last_values("2"), ["main@sha1:5", "main@sha1:3", "main@sha1:2"]);
    assert_eq!(one.last_values("5"), ["main@sha1:5"]);
    // One that was never built there, or is forgotten.
    assert_eq!(one.last_values("4"), ["main@sha1:5", "main@sha1:3"]);
    assert_eq!(one.in_use().collect::<Vec<_>>(), [COMMIT]);
}
