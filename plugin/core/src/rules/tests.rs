use super::*;
use crate::name::ObjectName;

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
    assert_eq!(config.store, Store::Kubernetes { kubeconfig: None, context: None });
    let [rule] = config.rules.as_slice() else { panic!("one rule") };
    assert_eq!((rule.authority.as_str(), rule.bootstrap.as_str()), ("prod", "clusters/prod/regent.yaml"));
    assert_eq!(rule.project.as_deref(), Some("platform"));
    assert_eq!(rule.repo.as_ref().map(Repository::as_str), Some("https://git.example/infra.git"));
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

fn flux(section: &str) -> Result<Flux, RuleRefusal> {
    let rule = rule("namespaces: ['*']");
    parse(&format!("{HEADER}{rule}\nflux: {section}\n")).map(|config| config.flux)
}

const FLUX: &str = "endpoint: 'https://regent.flux-system.svc:8200', artifacts: 'http://regent.flux-system.svc:9790'";

#[test]
fn an_entry_of_flux_needs_no_more_than_what_cannot_be_known() {
    let entry = "{ authority: prod, kustomization: team/app, source: { gitRepository: flux-system/infra } }";
    let flux = flux(&format!("{{ {FLUX}, applications: [{entry}] }}")).unwrap();
    let [application] = flux.applications.as_slice() else { panic!("one entry") };
    assert_eq!(flux.namespace(), "flux-system");
    assert_eq!(application.token_secret.as_deref(), Some("regent-token"));
    let source = FluxSource::GitRepository(ObjectName::parse("flux-system/infra").unwrap());
    let artifact = FluxArtifact { name: "app".to_owned(), source, voucher: Voucher::Nobody };
    assert_eq!(application.delivery, Delivery::Artifact(artifact));
}

#[test]
fn an_entry_of_flux_that_cannot_work_is_refused_by_its_key() {
    let source = "source: { gitRepository: flux-system/infra }";
    let entry = format!("authority: prod, kustomization: team/app, {source}");
    for (section, said) in [
        (format!("{{ applications: [{{ {entry} }}] }}"), "`endpoint`"),
        (format!("{{ endpoint: 'http://x:1', applications: [{{ {entry} }}] }}"), "data keys are sent there"),
        (
            format!("{{ {FLUX}, applications: [{{ authority: other, kustomization: team/app, {source} }}] }}"),
            "authority",
        ),
        (format!("{{ {FLUX}, applications: [{{ {entry} }}, {{ {entry}, artifact: b }}] }}"), "[1].kustomization"),
        (
            format!(
                "{{ {FLUX}, applications: [{{ {entry} }}, {{ authority: prod, kustomization: team/b, artifact: app, {source} }}] }}"
            ),
            "[1].artifact",
        ),
        (
            format!(
                "{{ {FLUX}, applications: [{{ authority: prod, kustomization: team/app, source: {{ watch: true }} }}] }}"
            ),
            "`watch`",
        ),
        (
            format!("{{ {FLUX}, applications: [{{ authority: prod, kustomization: team/app, source: {{}} }}] }}"),
            "`gitRepository`",
        ),
        (format!("{{ {FLUX}, applications: [{{ {entry}, serviceAccount: true, tokenSecret: t }}] }}"), "`tokenSecret`"),
        (
            format!("{{ {FLUX}, applications: [{{ authority: prod, kustomization: app, {source} }}] }}"),
            "`namespace/name`",
        ),
    ] {
        let problem = flux(&section).expect_err(&section).to_string();
        assert!(problem.contains(said), "{section}: {problem}");
    }
}

#[test]
fn a_kustomization_without_an_artifact_takes_its_repository_itself() {
    const ENDPOINT: &str = "endpoint: 'https://regent.flux-system.svc:8200'";
    let entry = |of: &str, rest: &str| format!("{{ authority: prod, kustomization: team/{of}, {rest} }}");
    let patches = |rest: &str| entry("app", &format!("delivery: patches, {rest}"));
    // Nobody fetches an artifact, so there is no address of one.
    let alone = |entry: String| flux(&format!("{{ {ENDPOINT}, applications: [{entry}] }}"));
    let section = alone(patches("source: { gitRepository: a/b }")).unwrap();
    assert_eq!(section.applications[0].delivery, Delivery::Patches(ObjectName::parse("a/b").unwrap()));
    for (entry, said) in [
        (entry("app", "source: { gitRepository: a/b }"), "`artifacts`"),
        (patches("source: { gitRepository: a/b }, artifact: app"), "has no `artifact`"),
        (patches("source: { watch: true }"), "expects `gitRepository`"),
        (patches("source: { gitRepository: a/b }, serviceAccount: true"), "expects a `tokenSecret`"),
        (patches("source: { gitRepository: a/b, verified: true }"), "`verified`"),
        (entry("app", "delivery: patch, source: { gitRepository: a/b }"), "delivery"),
    ] {
        let problem = alone(entry.clone()).expect_err(&entry).to_string();
        assert!(problem.contains(said), "{entry}: {problem}");
    }
    let both = [patches("source: { gitRepository: a/b }"), entry("web", "source: { gitRepository: a/b }")].join(", ");
    let problem = flux(&format!("{{ {FLUX}, applications: [{both}] }}")).expect_err("two ways").to_string();
    assert!(problem.contains("[1].delivery"), "{problem}");
}

/// A token is one authority's, and the Secret has one key for it.
#[test]
fn two_authorities_share_no_token_secret_in_one_namespace() {
    let rule = |authority: &str| {
        format!(
            "- {{ authority: {authority}, bootstrap: {authority}/regent.yaml, project: p, repo: 'https://git.example/{authority}.git', paths: ['**'], namespaces: ['*'], revisions: [main], identities: [/keys/{authority}] }}\n"
        )
    };
    let entry = |authority: &str, of: &str, token: &str| {
        format!("{{ authority: {authority}, kustomization: {of}, source: {{ gitRepository: a/b }}{token} }}")
    };
    let config = |second: String| {
        let entries = format!("{}, {second}", entry("prod", "team/app", ""));
        let rules = [rule("prod"), rule("dev")].concat();
        parse(&format!(
            "{HEADER}store: {{ kind: kubernetes }}\nrules:\n{rules}flux: {{ {FLUX}, applications: [{entries}] }}\n"
        ))
        .map(drop)
    };
    let refused = config(entry("dev", "team/dev", "")).expect_err("one Secret, two tokens").to_string();
    assert!(refused.contains("[1].tokenSecret"), "{refused}");
    assert_eq!(config(entry("dev", "team/dev", ", tokenSecret: dev-token")), Ok(()));
    assert_eq!(config(entry("dev", "team/dev", ", serviceAccount: true")), Ok(()));
    assert_eq!(config(entry("dev", "other/dev", "")), Ok(()));
    assert_eq!(config(entry("prod", "team/second", "")), Ok(()));
}

#[test]
fn an_account_that_logs_in_has_no_token() {
    let entry = "{ authority: prod, kustomization: team/app, serviceAccount: true, source: { gitRepository: a/b } }";
    let flux = flux(&format!("{{ {FLUX}, applications: [{entry}] }}")).unwrap();
    assert_eq!(flux.applications[0].token_secret, None);
}

#[test]
fn who_vouches_for_a_commit_is_said_at_its_source() {
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 jane";
    let voucher = |source: &str| {
        let rule = rule("namespaces: ['*']");
        let watch = "watch: [{ repo: /srv/infra.git, revision: main, authority: prod }]";
        let entry = format!("{{ authority: prod, kustomization: team/app, source: {{ {source} }} }}");
        let config = parse(&format!("{HEADER}{rule}\n{watch}\nflux: {{ {FLUX}, applications: [{entry}] }}\n"));
        let voucher = |config: RegentConfig| config.flux.applications[0].delivery.artifact().unwrap().voucher.clone();
        config.map(voucher).map_err(|refused| refused.to_string())
    };
    assert_eq!(voucher("gitRepository: a/b"), Ok(Voucher::Nobody));
    assert_eq!(voucher("gitRepository: a/b, verified: false"), Ok(Voucher::Nobody));
    assert_eq!(voucher("gitRepository: a/b, verified: true"), Ok(Voucher::SourceController));
    assert_eq!(voucher("watch: true"), Ok(Voucher::Nobody));
    assert_eq!(voucher(&format!("watch: true, signers: ['{KEY}']")), Ok(Voucher::Signers(vec![KEY.to_owned()])));
    for (source, said) in [
        ("watch: true, signers: []".to_owned(), "expects at least one signer"),
        ("watch: true, signers: ['-----BEGIN OPENSSH PRIVATE KEY-----']".to_owned(), "is a secret key"),
        ("watch: true, signers: [jane]".to_owned(), "expects"),
        ("watch: true, verified: true".to_owned(), "`verified` expects `gitRepository`"),
        (format!("gitRepository: a/b, signers: ['{KEY}']"), "`signers` expects `watch: true`"),
    ] {
        let refused = voucher(&source).expect_err(&source);
        assert!(refused.contains(said) && refused.contains(":7:"), "{source}: {refused}");
    }
}

#[test]
fn what_is_watched_is_asked_as_often_as_it_says_within_bounds() {
    let interval = |written: &str| {
        let rule = rule("namespaces: ['*']");
        let entry = format!("{{ repo: /srv/infra.git, revision: main, authority: prod{written} }}");
        parse(&format!("{HEADER}{rule}\nwatch: [{entry}]\n")).map(|config| config.watch[0].interval)
    };
    assert_eq!(interval(""), Ok(Duration::from_secs(30)));
    assert_eq!(interval(", interval: 5s"), Ok(Duration::from_secs(5)));
    assert_eq!(interval(", interval: 24h"), Ok(Duration::from_secs(86_400)));
    for bad in ["4999ms", "0s", "86401s", "30", "-5s", "''"] {
        let refused = interval(&format!(", interval: {bad}")).expect_err(bad).to_string();
        assert!(refused.contains(":6:"), "{bad}: {refused}");
    }
}

#[test]
fn a_hook_has_its_secret_in_a_file_and_an_address_of_its_own() {
    let watch = |entries: &[&str]| {
        let rule = rule("namespaces: ['*']");
        let entries: Vec<_> = entries
            .iter()
            .map(|webhook| format!("{{ repo: /srv/infra.git, revision: main, authority: prod, webhook: {webhook} }}"))
            .collect();
        let file = format!("{HEADER}{rule}\nwatch: [{}]\n", entries.join(", "));
        parse(&file).map(|config| config.watch).map_err(|refused| refused.to_string())
    };
    let mut watched = watch(&["{ secretFile: hook }"]).unwrap();
    assert_eq!(watched[0].files_mut().map(|file| file.clone()).collect::<Vec<_>>(), [PathBuf::from("hook")]);
    for bad in ["{}", "{ secretFile: '' }", "{ secret: CANARY }", "CANARY"] {
        let refused = watch(&[bad]).expect_err(bad);
        assert!(refused.contains(":6:") && !refused.contains("CANARY"), "{bad}: {refused}");
    }
    let refused = watch(&["{ secretFile: a }", "{ secretFile: b }"]).expect_err("two secrets at one address");
    assert!(refused.contains("watch[1].webhook"), "{refused}");
}

#[test]
fn what_is_watched_belongs_to_an_authority_with_a_rule() {
    let watch = |entry: &str| {
        let rule = rule("namespaces: ['*']");
        parse(&format!("{HEADER}{rule}\nwatch: [{entry}]\n")).map_err(|refused| refused.to_string())
    };
    let config = watch("{ repo: /srv/infra.git, revision: main, authority: prod }").unwrap();
    let [followed] = config.watch.as_slice() else { panic!("one entry") };
    assert_eq!((followed.repo.to_string().as_str(), followed.revision.as_str()), ("/srv/infra.git", "main"));
    assert_eq!(followed.authority, authority("prod"));
    let other = watch("{ repo: /srv/infra.git, revision: main, authority: dev }").unwrap_err();
    assert_eq!(other, "regent-config.yaml: watch[0].authority: expects the authority of a rule");
    for bad in [
        "x",
        "{ repo: x }",
        "{ repo: x, revision: main }",
        "{ repo: '', revision: main, authority: prod }",
        "{ repo: x, revision: main, authority: prod, path: y }",
    ] {
        assert!(watch(bad).unwrap_err().contains(":6:"), "{bad}");
    }
}

#[test]
fn what_is_watched_elsewhere_names_the_files_that_it_is_reached_with() {
    let watch = |repo: &str, access: &str| {
        let rule = rule("namespaces: ['*']");
        let entry = format!("{{ repo: '{repo}', revision: main, authority: prod, access: {{ {access} }} }}");
        parse(&format!("{HEADER}{rule}\nwatch: [{entry}]\n")).map_err(|refused| refused.to_string())
    };
    let config = watch("https://git.example/infra.git", "tokenFile: /t, username: jane, caFile: ca.pem").unwrap();
    let [followed] = config.watch.as_slice() else { panic!("one entry") };
    assert_eq!(followed.access.token_file.as_deref(), Some("/t".as_ref()));
    assert!(watch("git@git.example:infra.git", "keyFile: /k, knownHostsFile: /h").is_ok());
    for (repo, access, said) in [
        ("https://jane:CANARY@git.example/infra.git", "", "holds a user or a password"),
        ("http://git.example/infra.git", "", "expects `https://`"),
        ("git@git.example:infra.git", "keyFile: /k", "watch[0].access: `ssh://` expects a known hosts file"),
        ("https://git.example/infra.git", "username: jane", "watch[0].access: a user name expects"),
        ("/srv/infra.git", "tokenFile: /t", "watch[0].access: a folder of this machine"),
        ("https://git.example/infra.git", "token: CANARY", "access"),
    ] {
        let refused = watch(repo, access).unwrap_err();
        assert!(refused.contains(said) && !refused.contains("CANARY"), "{refused}");
    }
}

/// The request that the example's rule is for.
const ASKED: Asked<'_> = Asked {
    project: "platform",
    repo: "https://git.example/infra.git",
    path: "clusters/prod/apps",
    target_revision: "main",
    revision: COMMIT,
    namespace: "app",
};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A configuration with the example's rule after `change`.
fn with(change: impl FnOnce(&mut Rule)) -> RegentConfig {
    let mut config = parse(COMPLETE).unwrap();
    change(&mut config.rules[0]);
    config
}

fn refusal(config: &RegentConfig, asked: &Asked<'_>) -> String {
    config.rule_for_application(asked).expect_err("no rule").to_string()
}

#[test]
fn a_rule_allows_what_it_names_in_every_respect() {
    let config = with(|_| {});
    assert_eq!(config.rule_for_application(&ASKED), Ok(&config.rules[0]));
}

#[test]
fn a_refusal_tells_where_the_rule_that_came_furthest_stops() {
    let config = with(|rule| rule.namespaces = vec!["app".to_owned()]);
    for (asked, said) in [
        (Asked { project: "", ..ASKED }, "a request without a project; Argo CD sends one since 3.0"),
        (Asked { project: "other", ..ASKED }, "project `other`"),
        (Asked { project: "Platform", ..ASKED }, "project `Platform`"),
        (Asked { project: "platform ", ..ASKED }, "project `platform `"),
        (
            Asked { repo: "https://git.example/apps", ..ASKED },
            "repository `https://git.example/apps` in project `platform`",
        ),
        (Asked { path: "clusters/dev", ..ASKED }, "path `clusters/dev` of repository `https://git.example/infra.git`"),
        (Asked { target_revision: "dev", ..ASKED }, "revision `dev` of path `clusters/prod/apps`"),
        (Asked { target_revision: "", ..ASKED }, "revision `HEAD` of path `clusters/prod/apps`"),
        (Asked { namespace: "db", ..ASKED }, "namespace `db` for path `clusters/prod/apps`"),
    ] {
        assert_eq!(refusal(&config, &asked), format!("no rule allows {said}"));
    }
    let two = RegentConfig {
        rules: vec![
            config.rules[0].clone(),
            Rule {
                project: Some("web".to_owned()),
                repo: Some(Repository::new("https://git.example/web")),
                ..config.rules[0].clone()
            },
        ],
        ..config
    };
    assert_eq!(
        refusal(&two, &Asked { target_revision: "dev", ..ASKED }),
        "no rule allows revision `dev` of path `clusters/prod/apps`"
    );
}

#[test]
fn the_first_rule_that_allows_a_request_of_argo_cd_counts() {
    let config = with(|_| {});
    let second = Rule { identities: vec!["second".to_owned()], ..config.rules[0].clone() };
    let narrow = Rule { revisions: Globs::of_revisions(vec!["v1".to_owned()]).unwrap(), ..config.rules[0].clone() };
    let config = RegentConfig { rules: vec![narrow, config.rules[0].clone(), second], ..config };
    assert_eq!(config.rule_for_application(&ASKED), Ok(&config.rules[1]));
}

#[test]
fn a_rule_without_the_fields_of_argo_cd_is_for_no_request_of_it() {
    let config = parse(&format!("{HEADER}{}\n", rule("namespaces: ['*']"))).unwrap();
    for project in ["", "platform", "default"] {
        assert!(config.rule_for_application(&Asked { project, ..ASKED }).is_err(), "{project}");
    }
}

#[test]
fn a_rule_that_is_half_for_argo_cd_is_an_error() {
    let all = ["project: platform", "repo: 'https://git.example/infra'", "paths: ['**']", "revisions: [main]"];
    let said = |fields: &[&str]| {
        let keys = fields.iter().fold("namespaces: ['*']".to_owned(), |keys, field| format!("{keys}, {field}"));
        parse(&format!("{HEADER}{}\n", rule(&keys))).map_err(|refused| refused.to_string())
    };
    assert!(said(&all).is_ok() && said(&[]).is_ok());
    for (index, field) in all.iter().enumerate() {
        let (name, _) = field.split_once(':').unwrap();
        let others: Vec<_> =
            all.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, field)| *field).collect();
        assert_eq!(
            said(&others).unwrap_err(),
            format!("regent-config.yaml: rules[0]: a rule for Argo CD expects `{name}` too")
        );
        assert!(said(&[field]).unwrap_err().contains("` and `"));
    }
}

#[test]
fn a_path_is_allowed_by_a_glob_of_the_repository() {
    for (patterns, path, allowed) in [
        (&["clusters/prod/**"][..], "clusters/prod/apps", true),
        (&["clusters/prod/**"], "clusters/prod/a/b/c", true),
        (&["clusters/prod/**"], "clusters/prod", true),
        (&["clusters/prod/**"], "./clusters//prod/", true),
        (&["clusters/prod/**"], "clusters/./prod/.", true),
        (&["clusters/prod/**"], "clusters/production", false),
        (&["clusters/prod/**"], "clusters", false),
        (&["clusters/prod/**"], "x/clusters/prod", false),
        (&["clusters/prod/**"], "/clusters/prod", false),
        (&["clusters/prod/**"], "//clusters/prod", false),
        (&["clusters/prod/**"], "clusters/prod/..", false),
        (&["clusters/prod/**"], "clusters/prod/../dev", false),
        (&["clusters/prod/**"], "clusters/dev/../prod", false),
        (&["clusters/prod/**"], "../clusters/prod", false),
        (&["clusters/prod/**"], "clusters/prod/a\nb", false),
        (&["clusters/prod/**"], "clusters\\prod", false),
        (&["clusters/prod/**"], "Clusters/prod", false),
        (&["clusters/prod/**"], ".", false),
        (&["clusters/prod/**"], "", false),
        (&["clusters/prod/"], "clusters/prod", true),
        (&["clusters/prod"], "clusters/prod/apps", false),
        (&["clusters/*"], "clusters/prod", true),
        (&["clusters/*"], "clusters/prod/apps", false),
        (&["clusters/*"], "clusters", false),
        (&["clusters/*/**"], "clusters/prod", true),
        (&["a", "b/**"], "b/c", true),
        (&["**"], "anything/at/all", true),
        (&["**"], ".", true),
        (&["**"], "", true),
        (&["**"], "..", false),
        (&["*"], "a", true),
        (&["*"], ".", false),
        (&["?"], ".", false),
        (&[], "a", false),
    ] {
        let config =
            with(|rule| rule.paths = Globs::of_paths(patterns.iter().map(ToString::to_string).collect()).unwrap());
        assert_eq!(config.rule_for_application(&Asked { path, ..ASKED }).is_ok(), allowed, "{patterns:?} {path:?}");
        assert_eq!(config.rules[0].allows_path(path), allowed, "{patterns:?} {path:?}");
    }
}

#[test]
fn a_revision_is_allowed_by_its_name() {
    for (entry, target, allowed) in [
        ("main", "main", true),
        ("main", "refs/heads/main", true),
        ("refs/heads/main", "main", true),
        ("main", "Main", false),
        ("main", "refs/tags/main", false),
        ("main", "main2", false),
        ("main", "refs/heads/main2", false),
        ("main", "", false),
        ("main", "HEAD", false),
        ("HEAD", "", true),
        ("HEAD", "HEAD", true),
        ("HEAD", "main", false),
        ("v1", "refs/tags/v1", false),
        ("refs/tags/v1", "refs/tags/v1", true),
        ("refs/tags/v1", "refs/heads/v1", false),
        ("refs/tags/*", "refs/tags/v1", true),
        ("refs/tags/*", "v1", false),
        ("refs/heads/**", "refs/tags/v1", false),
        ("refs/heads/**", "release/1", true),
        ("**", "release/1", true),
        ("**", "refs/tags/v1", false),
        ("**", "refs/pull/1/head", false),
        ("**", "HEAD", false),
        ("release/*", "release/1", true),
        ("release/*", "refs/heads/release/1", true),
        ("release/*", "release/1/2", false),
        ("release/*", "release", false),
        ("v1.*", "v1.2", true),
        ("v1.*", "v1.*", true),
        ("*", "", true),
        ("*", "refs/tags/v1", true),
        ("*", ">=1", true),
        ("*", COMMIT, true),
        // A range of versions and a commit are no names.
        ("v1.*", "v1.0||>=2", false),
        ("v1.*", "v1.0 || >=2", false),
        ("v*", "v>=0", false),
        ("**", "*", false),
        ("a*", "abcdef1", false),
        ("a*", "abcdef", true),
        ("0*", COMMIT, false),
        ("abcdef1", "abcdef1", true),
    ] {
        let config = with(|rule| rule.revisions = Globs::of_revisions(vec![entry.to_owned()]).unwrap());
        let asked = Asked { target_revision: target, ..ASKED };
        assert_eq!(config.rule_for_application(&asked).is_ok(), allowed, "{entry} {target}");
    }
}

#[test]
fn a_commit_of_a_rule_is_the_commit_that_argo_cd_resolved() {
    let upper = COMMIT.to_uppercase();
    let long = "f".repeat(64);
    for (entry, target_revision, revision, allowed) in [
        (COMMIT, "main", COMMIT, true),
        (COMMIT, COMMIT, COMMIT, true),
        (upper.as_str(), "main", COMMIT, true),
        (COMMIT, "main", "1123456789abcdef0123456789abcdef01234567", false),
        (COMMIT, COMMIT, "1123456789abcdef0123456789abcdef01234567", false),
        (long.as_str(), "main", long.as_str(), true),
        ("0123456", "main", COMMIT, false),
        ("main", COMMIT, COMMIT, false),
    ] {
        let config = with(|rule| rule.revisions = Globs::of_revisions(vec![entry.to_owned()]).unwrap());
        let asked = Asked { target_revision, revision, ..ASKED };
        assert_eq!(config.rule_for_application(&asked).is_ok(), allowed, "{entry} {target_revision} {revision}");
    }
}

#[test]
fn an_entry_of_revisions_is_a_name_or_a_glob() {
    let said = problem(&rule("namespaces: ['*'], project: p, repo: r, paths: ['**'], revisions: ['[']"));
    assert!(said.contains("rules[0].revisions[0]: expects a revision or a glob of revisions"), "{said}");
}

#[test]
fn a_destination_without_a_namespace_is_allowed_and_one_with_it_has_to_be_named() {
    for (namespaces, namespace, allowed) in [
        (&["app"][..], "app", true),
        (&["app"], "", true),
        (&["app"], "db", false),
        (&["app"], "App", false),
        (&["app"], "*", false),
        (&["*"], "db", true),
    ] {
        let config = with(|rule| rule.namespaces = namespaces.iter().map(ToString::to_string).collect());
        let asked = Asked { namespace, ..ASKED };
        assert_eq!(config.rule_for_application(&asked).is_ok(), allowed, "{namespaces:?} {namespace:?}");
    }
}

/// With the way out of `regent[allow]` (80 characters) and its name a public line stays below 200.
#[test]
fn a_refusal_is_one_short_line_without_credentials() {
    let long = "a\u{1b}\n".repeat(500);
    let path = format!("clusters/prod/{}", "b".repeat(900));
    let credentials = "https://user:canary-5f1e@git.example/other?token=canary-5f1e";
    let config = with(|rule| rule.namespaces = vec!["app".to_owned()]);
    for asked in [
        Asked { project: &long, ..ASKED },
        Asked { repo: &long, ..ASKED },
        Asked { repo: credentials, ..ASKED },
        Asked { path: &long, ..ASKED },
        Asked { path: &path, target_revision: &long, ..ASKED },
        Asked { path: &path, namespace: &long, ..ASKED },
    ] {
        let said = refusal(&config, &asked);
        assert!(said.chars().count() < 104 && !said.chars().any(char::is_control), "{said}");
        assert!(!said.contains("canary"), "{said}");
    }
    let own = with(|rule| rule.repo = Some(Repository::new("https://user:canary-5f1e@git.example/infra")));
    let asked = Asked { repo: "https://user:canary-5f1e@git.example/infra", path: "x", ..ASKED };
    assert!(!refusal(&own, &asked).contains("canary"));
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
        format!("{BARE}argocd: {{ redis: '{VALUE}' }}"),
        format!("{BARE}argocd: {{ redis: {{ address: 'x:1', tls: '{VALUE}' }} }}"),
        format!("{BARE}argocd: {{ redis: {{ address: 'x:1', database: '{VALUE}' }} }}"),
        format!("{BARE}argocd: {{ server: {{ address: '{VALUE}' }} }}"),
        rule(&format!("namespaces: ['{VALUE}!']")),
        rule(&format!("namespaces: ['*'], identities: {VALUE}")),
        rule(&format!("namespaces: ['*'], identities: [{VALUE}, {VALUE}]")),
    ] {
        let said = problem(&rest);
        assert!(!said.contains(VALUE), "{rest}: {said}");
    }
}

fn argocd(section: &str) -> Result<ArgoCd, RuleRefusal> {
    parse(&format!("{HEADER}{BARE}argocd: {section}\n")).map(|config| config.argocd)
}

#[test]
fn redis_and_argocds_server_are_an_address_or_a_mapping() {
    let short = argocd("{ redis: 'argocd-redis:6379', server: 'argocd.example:443' }").unwrap();
    let (redis, server) = (short.redis.unwrap(), short.server.unwrap());
    assert_eq!((redis.address.host(), redis.address.port(), redis.database), ("argocd-redis", 6379, 0));
    assert!(!redis.tls && redis.password_file.is_none() && redis.prefix.is_empty());
    assert_eq!((server.address.to_string().as_str(), server.root_path.as_str()), ("argocd.example:443", ""));
    assert!(!server.plaintext && server.token_file.is_none());
    let mut whole = argocd(
        "\n  redis: { address: '[::1]:6380', tls: true, caFile: ca.pem, username: regent, passwordFile: pass, database: 1, \
         prefix: 'team-a:' }\n  server: { address: 'localhost:80', plaintext: true, tokenFile: token, rootPath: /argo-cd/ }",
    )
    .unwrap();
    let redis = whole.redis.clone().unwrap();
    assert_eq!((redis.address.to_string().as_str(), redis.database), ("[::1]:6380", 1));
    assert_eq!((redis.tls, redis.username.as_deref(), redis.prefix.as_str()), (true, Some("regent"), "team-a:"));
    let server = whole.server.clone().unwrap();
    assert_eq!((server.plaintext, server.root_path.as_str()), (true, "/argo-cd"));
    let files: Vec<_> = whole.files_mut().map(|file| file.display().to_string()).collect();
    assert_eq!(files, ["ca.pem", "pass", "token"]);
    assert_eq!(argocd("{ redis: null, server: ~ }").unwrap(), ArgoCd::default());
}

#[test]
fn what_cannot_be_meant_for_redis_or_argocds_server_is_refused_where_it_stands() {
    for (section, said) in [
        ("{ redis: 'argocd-redis' }", ":5:18: argocd.redis: expects `host:port`"),
        ("{ redis: 'redis://x:1' }", "expects `host:port`"),
        ("{ redis: 'user@x:1' }", "expects `host:port`"),
        ("{ redis: { tls: true } }", "missing field `address`"),
        ("{ redis: { address: 'x:1', addres: y } }", ":5:36: argocd.redis: unknown field `addres`"),
        ("{ redis: { address: 'x:1', caFile: ca.pem } }", "`caFile` expects `tls: true`"),
        ("{ redis: { address: 'x:1', username: u } }", "`username` expects `passwordFile` too"),
        ("{ redis: { address: 'x:1', database: -1 } }", "the number of a database"),
        ("{ redis: { address: 'x:1', tls: 'yes' } }", "argocd.redis.tls: expects a boolean"),
        ("{ redis: [x] }", "expects `host:port` or a mapping"),
        ("{ server: { address: 'x:1', plaintext: true } }", "`plaintext` reaches this machine alone"),
        ("{ server: { address: 'localhost:1', plaintext: true, caFile: x } }", "`caFile` expects TLS"),
        ("{ server: { address: 'x:1', rootPath: argo } }", "argocd.server.rootPath: expects a path"),
        ("{ server: { address: 'x:1', rootPath: /a/../b } }", "argocd.server.rootPath: expects a path"),
        ("{ server: { address: 'x:1', token: y } }", "argocd.server: unknown field `token`"),
    ] {
        let problem = argocd(section).expect_err(section).to_string();
        assert!(problem.contains(said), "{section}: {problem}");
        assert!(problem.contains(":5:"), "{section}: {problem}");
    }
}
