use super::*;
use crate::evidence::ListedClass;
use crate::name::FilePath;

const BEFORE: &str = "2026-01-01T00:00:00Z";
const FLIP: &str = "2026-01-01T00:00:10Z";
const SINCE: &str = "2026-01-01T00:00:20Z";
const LATER: &str = "2026-01-01T00:00:30Z";

fn listed() -> Vec<ListedDocument> {
    vec![ListedDocument {
        path: FilePath::parse("db.yaml").unwrap(),
        name: SecretName::parse("app/db").unwrap(),
        kind: "Secret".to_owned(),
        class: ListedClass::Handover,
        blob: "0".repeat(40),
    }]
}

fn source(path: &str, plugin: Plugin) -> Source {
    Source { repo: "r".to_owned(), path: path.to_owned(), target_revision: "main".to_owned(), plugin }
}

fn ours() -> Plugin {
    Plugin::Named("regent-v1".to_owned())
}

fn row(has_status: bool) -> Row {
    Row { kind: "Secret".to_owned(), namespace: "app".to_owned(), name: "db".to_owned(), has_status }
}

fn name(name: &str) -> ApplicationName {
    ApplicationName { namespace: "argocd".to_owned(), name: name.to_owned() }
}

/// One that shows everything.
fn clean(of: &str) -> Application {
    Application {
        name: name(of),
        destination: Destination { namespace: "app".to_owned(), ..Destination::default() },
        shape: Shape::One,
        sources: vec![source("clusters/prod", ours())],
        deployed: vec![Deployed { sources: vec![source("clusters/prod", ours())], revisions: vec!["old".to_owned()] }],
        synced: None,
        compared: vec!["new".to_owned()],
        operation: Operation::None,
        is_refreshing: false,
        reconciled_at: Some(SINCE.to_owned()),
        rows: vec![row(false)],
        conditions: Vec::new(),
    }
}

fn condition(kind: &str) -> Vec<Condition> {
    vec![Condition { kind: kind.to_owned(), message: "why".to_owned() }]
}

/// What comes next where each was compared at `FLIP` when the stage began.
fn step(applications: &[Application], decided: &Decided, stage: Stage, quiet: Quiet) -> Next {
    let since = applications.iter().map(|application| (application.name.clone(), Some(FLIP.to_owned()))).collect();
    let listed = listed();
    let scope = Scope { plugin: "regent-v1", repositories: &[], root: Some("clusters/prod"), listed: &listed };
    next(&Facts { applications, scope, decided, stage, since: &since, quiet })
}

fn none() -> Decided {
    Decided::default()
}

fn without(one: Without) -> Decided {
    Decided { without: BTreeSet::from([one]), ..none() }
}

#[test]
fn it_is_settled_when_all_was_seen_twice_and_the_caches_were_disarmed_between() {
    let all = [clean("a")];
    assert_eq!(step(&all, &none(), Stage::Mirrored, Quiet::NotYet), Next::Quiet);
    let cached = Cached {
        name: name("a"),
        destination_namespace: Some("app".to_owned()),
        revisions: vec![Revision::One("new".to_owned()), Revision::One("old".to_owned())],
    };
    assert_eq!(step(&all, &none(), Stage::Mirrored, Quiet::Over), Next::Disarm(vec![cached]));
    assert_eq!(step(&all, &none(), Stage::Disarmed, Quiet::Over), Next::Note(Left::default()));
}

/// What Argo CD cached does not know in which shape an Application named its sources.
#[test]
fn every_known_revision_of_the_root_is_rendered_again_by_the_sources_of_today() {
    let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    let deployed = |sources: Vec<Source>, revisions: &[&str]| Deployed { sources, revisions: texts(revisions) };
    let (root, plain) = (|| source("clusters/prod", ours()), || source("plain", Plugin::None));
    let history = || {
        vec![
            deployed(vec![root()], &["alone"]),
            deployed(vec![plain(), root()], &["of plain", "second"]),
            deployed(vec![root(), plain()], &["first", "of plain"]),
            // An operation under way that names none.
            deployed(Vec::new(), &["asked"]),
        ]
    };
    let disarmed = |application: Application| {
        let Next::Disarm(cached) = step(&[application], &none(), Stage::Mirrored, Quiet::Over) else { panic!() };
        cached[0].revisions.clone()
    };
    let one = Application { deployed: history(), ..clean("a") };
    let known = ["alone", "asked", "first", "new", "second"];
    assert_eq!(disarmed(one), known.map(|revision| Revision::One(revision.to_owned())));

    let of = |source, revision: &str| Revision::Of { source, revision: revision.to_owned() };
    let each = Application {
        shape: Shape::Each,
        sources: vec![plain(), root()],
        compared: texts(&["of plain", "new"]),
        deployed: [history(), vec![deployed(Vec::new(), &["of plain", "asked"])]].concat(),
        ..clean("a")
    };
    // One revision for two sources is that of the first.
    let known = ["alone", "asked", "first", "new", "second"];
    assert_eq!(disarmed(each), known.map(|revision| of(2, revision)));
    // Today none reaches the root: there is nothing that could be rendered again.
    assert_eq!(disarmed(Application { sources: vec![plain()], deployed: history(), ..clean("a") }), []);
}

/// Every single thing that an Application may lack, and what is done about it in each stage.
#[test]
fn nothing_is_noted_while_anything_is_missing() {
    let running = |at: Option<&str>| Operation::Running(at.map(ToOwned::to_owned));
    let missing = [
        ("an operation begun before", Application { operation: running(Some(BEFORE)), ..clean("a") }, "wait"),
        ("one in the second of the refresh", Application { operation: running(Some(SINCE)), ..clean("a") }, "wait"),
        ("one begun nobody knows when", Application { operation: running(None), ..clean("a") }, "wait"),
        ("one begun at no time", Application { operation: running(Some("soon")), ..clean("a") }, "wait"),
        ("a refresh under way", Application { is_refreshing: true, ..clean("a") }, "wait"),
        ("never compared", Application { reconciled_at: None, ..clean("a") }, "ask"),
        ("not compared since", Application { reconciled_at: Some(FLIP.to_owned()), ..clean("a") }, "ask"),
        ("a value", Application { rows: vec![row(false), row(true)], ..clean("a") }, "value"),
        ("an error", Application { conditions: condition("ComparisonError"), ..clean("a") }, "ask"),
        ("no project", Application { conditions: condition("InvalidSpecError"), ..clean("a") }, "ask"),
        ("unknown", Application { conditions: condition("UnknownError"), ..clean("a") }, "ask"),
    ];
    for (what, application, expected) in missing {
        for stage in [Stage::Mirrored, Stage::Disarmed] {
            for quiet in [Quiet::NotYet, Quiet::Over] {
                let said = match step(&[clean("b"), application.clone()], &none(), stage, quiet) {
                    Next::Ask { .. } => "ask",
                    Next::Wait(_) => "wait",
                    Next::Again(_) => "again",
                    Next::Quiet | Next::Disarm(_) | Next::Note(_) => "go on",
                };
                let expected = match (expected, stage) {
                    ("value", Stage::Mirrored) => "ask",
                    ("value", Stage::Disarmed) => "again",
                    (other, Stage::Mirrored | Stage::Disarmed) => other,
                };
                assert_eq!(said, expected, "{what}, {stage:?}, {quiet:?}");
            }
        }
    }
}

#[test]
fn what_begins_from_now_on_and_what_fails_in_a_sync_is_not_waited_for() {
    for application in [
        Application { operation: Operation::Requested, ..clean("a") },
        Application { operation: Operation::Running(Some(LATER.to_owned())), ..clean("a") },
        Application { conditions: condition("SyncError"), ..clean("a") },
        Application { rows: Vec::new(), ..clean("a") },
        Application { rows: vec![Row { namespace: "other".to_owned(), ..row(true) }], ..clean("a") },
        Application { rows: vec![Row { kind: "ConfigMap".to_owned(), ..row(true) }], ..clean("a") },
    ] {
        let said = step(std::slice::from_ref(&application), &none(), Stage::Disarmed, Quiet::Over);
        assert_eq!(said, Next::Note(Left::default()), "{application:?}");
    }
}

#[test]
fn an_application_that_came_since_needs_no_other_comparison_than_its_first() {
    let listed = listed();
    let scope = Scope { plugin: "regent-v1", repositories: &[], root: Some("clusters/prod"), listed: &listed };
    let of = |reconciled_at: Option<&str>| Application {
        reconciled_at: reconciled_at.map(ToOwned::to_owned),
        ..clean("new")
    };
    for (application, is_settled) in [(of(Some(SINCE)), true), (of(None), false)] {
        let facts = Facts {
            applications: &[application],
            scope,
            decided: &none(),
            stage: Stage::Disarmed,
            since: &BTreeMap::new(),
            quiet: Quiet::Over,
        };
        assert_eq!(matches!(next(&facts), Next::Note(_)), is_settled);
    }
}

#[test]
fn whoever_renders_the_root_or_did_so_is_affected() {
    let listed = listed();
    let affects = |root: Option<&str>, path: &str, plugin: Plugin| {
        let scope = Scope { plugin: "regent-v1", repositories: &[], root, listed: &listed };
        let now = Application { sources: vec![source(path, plugin.clone())], deployed: Vec::new(), ..clean("a") };
        let once = Application {
            sources: vec![source("elsewhere", Plugin::None)],
            deployed: vec![Deployed { sources: now.sources.clone(), revisions: Vec::new() }],
            ..clean("a")
        };
        let found = affected(std::slice::from_ref(&now), &scope).len();
        assert_eq!(affected(&[once], &scope).len(), found, "{path}");
        found == 1
    };
    for path in ["clusters/prod", "./clusters/prod/", "clusters/prod/sub", "clusters", "", "."] {
        for plugin in [ours(), Plugin::Named("./regent-v1".to_owned()), Plugin::Any] {
            assert!(affects(Some("clusters/prod"), path, plugin), "{path}");
        }
        for plugin in [Plugin::None, Plugin::Named("avp".to_owned()), Plugin::Named("regent".to_owned())] {
            assert!(!affects(Some("clusters/prod"), path, plugin), "{path}");
        }
        assert!(affects(Some("."), path, ours()));
    }
    for path in ["clusters/prod-1", "clusters/pro", "other", "prod"] {
        assert!(!affects(Some("clusters/prod"), path, ours()), "{path}");
        assert!(affects(None, path, ours()), "{path}");
    }
}

#[test]
fn the_same_path_in_another_repository_is_not_the_root() {
    let listed = listed();
    let urls = ["https://git.example/ops.git", "https://mirror.example/ops"].map(Repository::new);
    let scope =
        |repositories| Scope { plugin: "regent-v1", repositories, root: Some("clusters/prod"), listed: &listed };
    for (url, is_same) in [
        ("https://git.example/ops", true),
        ("https://mirror.example/ops", true),
        ("https://git.example/apps", false),
        ("", false),
    ] {
        let sources = vec![Source { repo: url.to_owned(), ..source("clusters/prod", ours()) }];
        let now = Application { sources: sources.clone(), deployed: Vec::new(), ..clean("now") };
        let deployed = vec![Deployed { sources, revisions: Vec::new() }];
        let once = Application { sources: vec![source("elsewhere", Plugin::None)], deployed, ..clean("once") };
        let all = [now, once];
        assert_eq!(affected(&all, &scope(&urls)).len(), if is_same { 2 } else { 0 }, "{url}");
        assert_eq!(affected(&all, &scope(&[])).len(), 2, "{url}: nobody knows the root's repository");
        // What it has of the list all the same is named.
        assert_eq!(tracked_elsewhere(&all, &scope(&urls)).len(), if is_same { 0 } else { 2 }, "{url}");
    }
}

#[test]
fn a_listed_secret_of_another_application_is_named() {
    let listed = listed();
    let scope = Scope { plugin: "regent-v1", repositories: &[], root: Some("clusters/prod"), listed: &listed };
    let other = |rows: Vec<Row>| Application {
        sources: vec![source("clusters/prod", Plugin::None)],
        deployed: Vec::new(),
        rows,
        ..clean("other")
    };
    for is_stub in [true, false] {
        let all = [clean("a"), other(vec![row(is_stub)])];
        assert_eq!(tracked_elsewhere(&all, &scope), [(&name("other"), vec![SecretName::parse("app/db").unwrap()])]);
    }
    assert_eq!(tracked_elsewhere(&[clean("a"), other(Vec::new())], &scope), []);
}

#[test]
fn what_a_person_gives_up_is_named_as_left() {
    let broken = Application { conditions: condition("ComparisonError"), ..clean("a") };
    let skipped = Decided { skipped: BTreeSet::from([name("a"), name("not-there")]), ..none() };
    assert_eq!(
        step(&[broken.clone(), clean("b")], &skipped, Stage::Disarmed, Quiet::Over),
        Next::Note(Left { skipped: vec![name("a")], ..Left::default() })
    );
    // ... and its cache is not touched, because nobody looks at what comes of it.
    let Next::Disarm(cached) = step(&[broken.clone(), clean("b")], &skipped, Stage::Mirrored, Quiet::Over) else {
        panic!()
    };
    assert_eq!(cached.iter().map(|it| it.name.name.as_str()).collect::<Vec<_>>(), ["b"]);

    let not_told = Lack::Error { message: "ComparisonError (Argo CD shows it)".to_owned() };
    let Next::Note(left) = step(&[broken], &without(Without::Outcome), Stage::Disarmed, Quiet::Over) else { panic!() };
    assert_eq!(left.without, BTreeSet::from([Without::Outcome]));
    assert_eq!(left.lacking, [Lacking { name: name("a"), lacks: vec![not_told] }]);
    assert!(!left.is_nothing());

    let running = Application { operation: Operation::Running(Some(BEFORE.to_owned())), ..clean("a") };
    for (proof, is_settled) in [(Without::Operations, true), (Without::Outcome, false), (Without::Caches, false)] {
        let said = step(std::slice::from_ref(&running), &without(proof), Stage::Disarmed, Quiet::Over);
        assert_eq!(matches!(said, Next::Note(_)), is_settled, "{proof:?}");
    }
    let said = step(&[clean("a")], &without(Without::Caches), Stage::Mirrored, Quiet::Over);
    assert!(matches!(said, Next::Note(Left { without, .. }) if without.contains(&Without::Caches)));
}

/// Argo CD may quote the object that it could not compare, values included.
#[test]
fn of_an_error_only_what_regent_says_is_told() {
    let told = |message: &str| Condition { kind: "ComparisonError".to_owned(), message: message.to_owned() }.told();
    let argocds = "ComparisonError (Argo CD shows it)";
    let ours = "rpc error: code = PermissionDenied desc = regent[allow]: no rule allows it; commit one";
    assert_eq!(told(ours), "regent[allow]: no rule allows it; commit one");
    assert_eq!(told("regent[no-key]: a\nstringData: {password: x}"), "regent[no-key]: a");
    assert_eq!(told(&format!("regent[P5]: {}", "\u{e4}".repeat(500))).chars().count(), 199);
    for quoted in [
        r#"error unmarshaling {"stringData":{"password":"x"}}"#,
        r#"regent["password"]: x"#,
        "regent[]: x",
        "regent[allow",
        "regent[allow] x",
        "",
    ] {
        assert_eq!(told(quoted), argocds, "{quoted}");
    }
}

#[test]
fn with_no_application_only_the_quiet_is_waited_for() {
    assert_eq!(step(&[], &none(), Stage::Mirrored, Quiet::NotYet), Next::Quiet);
    assert_eq!(step(&[], &none(), Stage::Mirrored, Quiet::Over), Next::Disarm(Vec::new()));
    assert_eq!(step(&[], &none(), Stage::Disarmed, Quiet::Over), Next::Note(Left::default()));
}

#[test]
fn in_use_is_what_is_compared_and_what_was_synced_last_of_the_roots_own_repository() {
    let commit = |digit: &str| digit.repeat(40);
    let deployed =
        |revision: String| Deployed { sources: vec![source("clusters/prod", ours())], revisions: vec![revision] };
    let other = Source { repo: "another".to_owned(), ..source("clusters/prod", ours()) };
    let behind = Application { compared: vec![commit("2")], synced: Some(deployed(commit("1"))), ..clean("behind") };
    let several = Application {
        sources: vec![source("elsewhere", ours()), other, source("clusters/prod", ours())],
        compared: vec![commit("3"), commit("4"), commit("2")],
        ..clean("several")
    };
    // Never rendered, so nothing of it was ever applied.
    let failing = Application { compared: vec!["main".to_owned()], ..clean("failing") };
    let listed = listed();
    let scope = Scope { plugin: "regent-v1", repositories: &[], root: Some("clusters/prod"), listed: &listed };
    let scope = Scope { repositories: &[Repository::new("r")], ..scope };
    let found = in_use(&[&behind, &several, &failing], &scope);
    let found: Vec<_> = found
        .into_iter()
        .map(|(revision, names)| {
            (revision.to_owned(), names.into_iter().map(|name| name.name.as_str()).collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(found, [(commit("1"), vec!["behind"]), (commit("2"), vec!["behind", "several"])]);
}
