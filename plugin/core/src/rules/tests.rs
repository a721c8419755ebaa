use super::*;

const HEADER: &str = "apiVersion: regent.dev/v1alpha1\nkind: RegentConfig\n";
const BARE: &str = "store: { kind: kubernetes }\nrules: []\n";

/// The example of the architecture.
const COMPLETE: &str = r#"
apiVersion: regent.dev/v1alpha1
kind: RegentConfig
store: { kind: kubernetes }
rules:
- authority: prod
  bootstrap: clusters/prod/regent.yaml
  project: platform
  repo: "https://git.example/infra.git"
  paths: ["clusters/prod/**"]
  namespaces: ["*"]
  revisions: ["main"]
  identities: [/var/run/regent/keys/prod]
argocd: { name: regent, version: v1, discover: [], namespace: argocd, redis: null, server: null }
flux: {}
watch: []
limits: { document: 5MiB, upload: 256MiB, stream: 4GiB, files: 20000, request: 60s }
"#;

fn parse(text: &str) -> Result<RegentConfig, RuleRefusal> {
    RegentConfig::parse("regent-config.yaml", text.as_bytes())
}

fn problem(rest: &str) -> String {
    parse(&format!("{HEADER}{rest}\n")).expect_err(rest).to_string()
}

fn rule(keys: &str) -> String {
    format!("store: {{ kind: kubernetes }}\nrules:\n- {{ authority: prod, bootstrap: a/regent.yaml, {keys} }}")
}

fn authority(name: &str) -> AuthorityName {
    AuthorityName::parse(name).unwrap()
}

#[test]
fn every_key_of_the_schema_is_read() {
    let config = parse(COMPLETE).unwrap();
    assert_eq!(config.store, Store::Kubernetes);
    let [rule] = config.rules.as_slice() else { panic!("one rule") };
    assert_eq!((rule.authority.as_str(), rule.bootstrap.as_str()), ("prod", "clusters/prod/regent.yaml"));
    assert_eq!(rule.project.as_deref(), Some("platform"));
    assert_eq!(rule.repo.as_deref(), Some("https://git.example/infra.git"));
    assert_eq!(
        (rule.paths.as_slice(), rule.revisions.as_slice()),
        (["clusters/prod/**".to_owned()].as_slice(), ["main".to_owned()].as_slice())
    );
    assert_eq!(rule.identities, ["/var/run/regent/keys/prod"]);
    assert_eq!(config.argocd, ArgoCd::default());
    assert_eq!(config.limits, ConfigLimits::default());
}

#[test]
fn defaults_are_those_of_the_example() {
    let limits = parse(&format!("{HEADER}{BARE}")).unwrap().limits;
    assert_eq!((limits.document, limits.upload, limits.stream), (5_242_880, 268_435_456, 4_294_967_296));
    assert_eq!((limits.files, limits.request), (20_000, Duration::from_secs(60)));
    let argocd = parse(&format!("{HEADER}{BARE}")).unwrap().argocd;
    assert_eq!((argocd.name.as_str(), argocd.version.as_str(), argocd.namespace.as_str()), ("regent", "v1", "argocd"));
    assert!(argocd.discover.is_empty() && argocd.redis.is_none() && argocd.server.is_none());
}

#[test]
fn nothing_is_allowed_by_silence() {
    let config = parse(&format!("{HEADER}{BARE}")).unwrap();
    assert!(config.rule_for(&authority("prod"), "regent.yaml").is_err());
    for missing in ["store: { kind: kubernetes }", "rules: []"] {
        problem(missing);
    }
    problem(&rule("identities: []"));
    problem(&rule("namespaces: []"));
    problem("store: { kind: kubernetes }\nrules: [{ authority: prod, namespaces: ['*'] }]");
    problem("store: { kind: kubernetes }\nrules: [{ bootstrap: regent.yaml, namespaces: ['*'] }]");
}

#[test]
fn the_first_rule_that_matches_counts() {
    let config = parse(&format!(
        "{HEADER}store: {{ kind: kubernetes }}\nrules:\n\
         - {{ authority: dev, bootstrap: a/regent.yaml, namespaces: [dev], identities: [d] }}\n\
         - {{ authority: prod, bootstrap: a/regent.yaml, namespaces: [app], identities: [first] }}\n\
         - {{ authority: prod, bootstrap: a/regent.yaml, namespaces: ['*'], identities: [second] }}\n"
    ))
    .unwrap();
    assert_eq!(config.rule_for(&authority("prod"), "a/regent.yaml").unwrap().identities, ["first"]);
    assert_eq!(config.rule_for(&authority("dev"), "a/regent.yaml").unwrap().identities, ["d"]);
    for (name, path) in [("prod", "regent.yaml"), ("prod", "a/b/regent.yaml"), ("prod", ""), ("test", "a/regent.yaml")]
    {
        let refused = config.rule_for(&authority(name), path).unwrap_err();
        assert!(matches!(refused, RuleRefusal::NotAllowed { .. }) && refused.to_string().contains(name), "{refused}");
    }
}

#[test]
fn a_namespace_is_allowed_by_its_exact_name_or_by_the_star() {
    let config =
        |namespaces: &str| parse(&format!("{HEADER}{}\n", rule(&format!("namespaces: {namespaces}")))).unwrap();
    let some = &config("[app, db]").rules[0];
    assert!(some.allows_namespace("app") && some.allows_namespace("db"));
    assert!(!some.allows_namespace("ap") && !some.allows_namespace("app2") && !some.allows_namespace("*"));
    assert!(config("['*']").rules[0].allows_namespace("anything"));
    for bad in ["['app-*']", "['*', app]", "[App]", "['']", "'*'", "[app, app]", "['**']"] {
        problem(&rule(&format!("namespaces: {bad}")));
    }
}

#[test]
fn an_authority_has_one_root() {
    let two = "store: { kind: kubernetes }\nrules:\n\
               - { authority: prod, bootstrap: a/regent.yaml, namespaces: ['*'] }\n\
               - { authority: prod, bootstrap: b/regent.yaml, namespaces: ['*'] }";
    assert!(problem(two).contains("two roots"));
}

#[test]
fn a_store_says_where_it_is() {
    let store = |text: &str| parse(&format!("{HEADER}store: {text}\nrules: []\n"));
    assert_eq!(
        store("{ kind: directory, path: /var/lib/regent }").unwrap().store,
        Store::Directory { path: "/var/lib/regent".into() }
    );
    for bad in [
        "{}",
        "kubernetes",
        "{ kind: directory }",
        "{ kind: directory, path: '' }",
        "{ kind: kubernetes, path: /x }",
        "{ kind: etcd }",
    ] {
        assert!(store(bad).is_err(), "{bad}");
    }
}

#[test]
fn unknown_keys_and_broken_rules_have_line_and_column() {
    for (rest, at) in [
        (format!("{BARE}rulez: []"), ":5:1: unknown field `rulez`"),
        (rule("namespaces: ['*'], repos: x"), ":5:67: rules[0]: unknown field `repos`"),
        (format!("{BARE}argocd: {{ names: x }}"), ":5:11: argocd: unknown field `names`"),
        (format!("{BARE}limits:\n  documents: 5MiB"), ":6:3: limits: unknown field `documents`"),
        (format!("{BARE}limits:\n  document: 5MB"), ":6:13: limits.document: expects a size"),
        (rule("namespaces: ['*'], paths: ['[']"), ":5:75: rules[0].paths[0]: expects a glob"),
        ("store: { kind: kubernetes, where: x }\nrules: []".to_owned(), ":3:28: store: unknown field `where`"),
    ] {
        assert!(problem(&rest).contains(at), "{at}: {}", problem(&rest));
    }
}

#[test]
fn flux_and_watch_are_empty_until_their_doors_exist() {
    for later in ["flux: { address: x }", "watch: [x]", "watch: [{ repo: x }]"] {
        let said = problem(&format!("{BARE}{later}"));
        assert!(said.contains("not supported by this version") && said.contains(":5:"), "{said}");
    }
    assert!(parse(&format!("{HEADER}{BARE}flux: {{}}\nwatch: []\n")).is_ok());
}

#[test]
fn sizes_and_times_have_units_and_bounds() {
    let limits = |text: &str| parse(&format!("{HEADER}{BARE}limits: {{ {text} }}\n"));
    assert_eq!(limits("document: 1KiB").unwrap().limits.document, 1024);
    assert_eq!(limits("document: 1048576").unwrap().limits.document, 1 << 20);
    assert_eq!(limits("stream: 1024GiB").unwrap().limits.stream, 1 << 40);
    assert_eq!(limits("request: 1500ms").unwrap().limits.request, Duration::from_millis(1500));
    assert_eq!(limits("request: 24h").unwrap().limits.request, Duration::from_secs(86_400));
    for bad in [
        "document: 0",
        "document: 1023",
        "document: 1025MiB",
        "document: 5MB",
        "document: 5 MiB",
        "document: -5MiB",
        "document: 1.5MiB",
        "document: MiB",
        "document: '5'",
        "upload: 99999999999999999999GiB",
        "stream: 1025GiB",
        "files: 0",
        "files: 10000001",
        "files: '5'",
        "files: 5KiB",
        "request: 60",
        "request: 0s",
        "request: 25h",
        "request: 1d",
        "request: s",
        "document: true",
        "document: ~",
    ] {
        assert!(limits(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_rule_names_a_regent_yaml_inside_the_repository() {
    for bad in [
        "clusters/prod",
        "/regent.yaml",
        "../regent.yaml",
        "a//regent.yaml",
        "regent.yml",
        "a/regent.yaml/",
        "a\\regent.yaml",
    ] {
        problem(&format!(
            "store: {{ kind: kubernetes }}\nrules:\n- {{ authority: prod, bootstrap: '{bad}', namespaces: ['*'] }}"
        ));
    }
}

#[test]
fn no_value_is_quoted() {
    const VALUE: &str = "canary-5f1e";
    for rest in [
        format!("store: {VALUE}\nrules: []"),
        format!("store: {{ kind: {VALUE} }}\nrules: []"),
        format!("{BARE}limits: {{ document: {VALUE} }}"),
        format!("{BARE}limits: {{ request: {VALUE} }}"),
        format!("{BARE}limits: {{ files: {VALUE} }}"),
        format!("{BARE}limits: {VALUE}"),
        format!("{BARE}flux: {VALUE}"),
        format!("{BARE}watch: [{VALUE}]"),
        format!("{BARE}argocd: {{ namespace: '{VALUE}!' }}"),
        format!("{BARE}argocd: {{ name: '{VALUE}!' }}"),
        rule(&format!("namespaces: ['{VALUE}!']")),
        rule(&format!("namespaces: ['*'], identities: {VALUE}")),
        rule(&format!("namespaces: ['*'], identities: [{VALUE}, {VALUE}]")),
    ] {
        let said = problem(&rest);
        assert!(!said.contains(VALUE), "{rest}: {said}");
    }
}
