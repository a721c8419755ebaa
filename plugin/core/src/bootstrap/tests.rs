use super::*;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

const H1: &str = "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f";
const H2: &str = "5d1c9f7a-3b2e-4c8d-8f60-7a9b1c2d3e4f";
const HEADER: &str = "apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\nepoch: 1\n";

/// The example of the architecture, every key given.
const COMPLETE: &str = r#"
apiVersion: regent.dev/v1alpha1
kind: Bootstrap
name: prod
epoch: 2
supersedes: 0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f
closed: 5d1c9f7a-3b2e-4c8d-8f60-7a9b1c2d3e4f
recipients:
  root: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p]
  cluster: [85D77543B3D624B63CEA9E6DBC17301B491B3F21, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN"]
secrets:
  namespace: app
  permanent: [{ name: argocd/repo-creds }, { name: vault/unseal, vault: false }]
  plain: [app/public-bundle]
  kinds: [ConfigMap]
  encoding: { app/keystore: base64 }
  exclude: ["docs/**"]
  macOnlyEncrypted: allow
vault: { address: "https://vault.vault.svc:8200", namespace: "", mount: secret, prefix: bootstrap/prod }
after: { emit: stub }
handover: { acceptExisting: [app/db], acceptChanged: [], signers: [] }
"#;

fn parse(text: &str) -> Result<Bootstrap, BootstrapError> {
    Bootstrap::parse(&FilePath::parse("prod/regent.yaml").unwrap(), text.as_bytes())
}

/// Header plus `rest`, refused: the whole sentence.
fn problem(rest: &str) -> String {
    parse(&format!("{HEADER}{rest}\n")).expect_err(rest).to_string()
}

fn accepted(rest: &str) -> Bootstrap {
    parse(&format!("{HEADER}{rest}\n")).unwrap_or_else(|error| panic!("{rest}: {error}"))
}

fn secret(name: &str) -> SecretName {
    SecretName::parse(name).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a bound on time is shown with a clock")]
fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

#[test]
fn every_key_of_the_schema_is_read() {
    let read = parse(COMPLETE).unwrap();
    assert_eq!((read.name.as_str(), read.epoch.get()), ("prod", 2));
    assert_eq!(read.supersedes.as_ref().map(HandoverId::as_str), Some(H1));
    assert_eq!(read.closed.as_ref().map(HandoverId::as_str), Some(H2));
    assert_eq!(read.recipients[&RecipientGroup::Root].len(), 1);
    assert_eq!(read.recipients[&RecipientGroup::Cluster].len(), 2);
    assert_eq!(read.secrets.namespace.as_ref().map(Namespace::as_str), Some("app"));
    assert_eq!(read.secrets.permanent[0], Permanent { name: secret("argocd/repo-creds"), vault: true });
    assert_eq!(read.secrets.permanent[1], Permanent { name: secret("vault/unseal"), vault: false });
    assert_eq!(read.secrets.encoding[&secret("app/keystore")], Encoding::Base64);
    assert_eq!(read.secrets.mac_only_encrypted, MacOnlyEncrypted::Allow);
    assert_eq!(read.vault.as_ref().unwrap().prefix, "bootstrap/prod");
    assert_eq!(read.after, Some(After::Stub));
    assert_eq!(read.handover.accept_existing, [secret("app/db")]);
}

#[test]
fn what_is_left_out_has_no_authority_in_it() {
    let read = accepted("");
    assert!(read.vault.is_none() && read.after.is_none() && read.supersedes.is_none() && read.closed.is_none());
    assert_eq!(read.secrets.mac_only_encrypted, MacOnlyEncrypted::Refuse);
    for needed in ["name: prod\n", "epoch: 1\n", "kind: Bootstrap\n", "apiVersion: regent.dev/v1alpha1\n"] {
        assert!(parse(&HEADER.replace(needed, "")).is_err(), "without {needed}");
    }
}

#[test]
fn an_unknown_key_is_named_with_line_and_column() {
    assert!(problem("epok: 2").starts_with("prod/regent.yaml:5:1: unknown field `epok`"), "{}", problem("epok: 2"));
    for (rest, at) in [
        ("secrets:\n  namspace: app", ":6:3: secrets: unknown field `namspace`"),
        ("secrets:\n  permanent:\n  - { name: a/b, valt: false }", ":7:18: secrets.permanent[0]: unknown field `valt`"),
        ("vault: { adress: x }", ":5:10: vault: unknown field `adress`"),
        ("after:\n  emit: stub\n  stoer: x", ":7:3: after: unknown field `stoer`"),
        ("handover: { accept: [] }", ":5:13: handover: unknown field `accept`"),
        ("recipients: { others: [] }", ":5:15: recipients: unknown field `others`"),
    ] {
        assert!(problem(rest).contains(at), "{}", problem(rest));
    }
}

#[test]
fn a_value_that_breaks_its_rule_is_found_at_its_place() {
    for (rest, at) in [
        ("secrets:\n  plain:\n  - app/ok\n  - App/db", ":8:5: secrets.plain[1]: expects a DNS label"),
        ("secrets:\n  exclude: ['{a']", ":6:13: secrets.exclude[0]: expects a glob"),
        ("closed: 00000000-0000-0000-0000-000000000000", ":5:9: closed: expects a random UUID"),
    ] {
        assert!(problem(rest).contains(at), "{}", problem(rest));
    }
}

#[test]
fn another_kind_of_file_is_called_that() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: { name: x }\n";
    assert!(parse(secret).unwrap_err().to_string().contains(":1:13: apiVersion: expects `regent.dev/v1alpha1`"));
    let config = "apiVersion: regent.dev/v1alpha1\nkind: RegentConfig\nrules: []\n";
    assert!(parse(config).unwrap_err().to_string().contains(":2:7: kind: expects `Bootstrap`"));
}

#[test]
fn a_key_that_stands_twice_is_an_error() {
    for rest in [
        "epoch: 1",
        "secrets: {}\nsecrets: {}",
        "secrets: { plain: [], plain: [] }",
        "secrets: { encoding: { a/b: base64, a/b: base64 } }",
        "secrets: { permanent: [{ name: a/b, name: a/c }] }",
        "vault: { address: 'https://v', mount: a, mount: a, prefix: b }",
    ] {
        let said = problem(rest);
        assert!(said.contains("duplicate field") || said.contains("twice"), "{said}");
    }
}

#[test]
fn a_list_names_each_thing_once() {
    for rest in [
        "secrets: { plain: [a/b, a/b] }",
        "secrets: { permanent: [{ name: a/b }, { name: a/b }] }",
        "secrets: { permanent: [{ name: a/b }, { name: a/b, vault: false }] }",
        "secrets: { kinds: [ConfigMap, ConfigMap] }",
        "secrets: { permanent: [{ name: a/b }], plain: [a/b] }",
        "secrets: { encoding: { a/b: base64 }, plain: [a/b] }",
        "handover: { acceptChanged: [a/b, a/b] }",
    ] {
        problem(rest);
    }
}

#[test]
fn supersedes_stands_exactly_where_the_epoch_is_above_one() {
    assert!(problem(&format!("supersedes: {H1}")).contains("`supersedes`"));
    let second = HEADER.replace("epoch: 1", "epoch: 2");
    assert!(parse(&second).unwrap_err().to_string().contains("`supersedes`"));
    assert!(parse(&format!("{second}supersedes: {H1}\n")).is_ok());
}

#[test]
fn closed_counts_unless_it_equals_supersedes() {
    let second = format!("{}supersedes: {H1}\n", HEADER.replace("epoch: 1", "epoch: 2"));
    assert!(!parse(&second).unwrap().closed_counts());
    assert!(!parse(&format!("{second}closed: {H1}\n")).unwrap().closed_counts());
    assert!(parse(&format!("{second}closed: {H2}\n")).unwrap().closed_counts());
    assert!(!accepted("").closed_counts());
    assert!(accepted(&format!("closed: {H1}")).closed_counts());
}

#[test]
fn no_value_is_quoted() {
    const VALUE: &str = "canary-5f1e";
    for rest in [
        format!("secrets: {VALUE}"),
        format!("secrets: ['{VALUE}']"),
        format!("secrets: {{ namespace: '{VALUE} ' }}"),
        format!("secrets: {{ permanent: '{VALUE}' }}"),
        format!("secrets: {{ permanent: ['{VALUE}'] }}"),
        format!("secrets: {{ permanent: [{{ name: a/b, vault: '{VALUE}' }}] }}"),
        format!("secrets: {{ plain: ['{VALUE}'] }}"),
        format!("secrets: {{ kinds: ['{VALUE}'] }}"),
        format!("secrets: {{ encoding: {{ a/b: '{VALUE}' }} }}"),
        format!("secrets: {{ encoding: {{ '{VALUE}': base64 }} }}"),
        format!("secrets: {{ exclude: ['{{{VALUE}'] }}"),
        format!("secrets: {{ macOnlyEncrypted: '{VALUE}' }}"),
        format!("closed: '{VALUE}'"),
        format!("recipients: '{VALUE}'"),
        format!("recipients: {{ root: '{VALUE}' }}"),
        format!("recipients: {{ root: ['{VALUE}'] }}"),
        format!("vault: '{VALUE}'"),
        format!("vault: {{ address: '{VALUE}' }}"),
        format!("vault: {{ mount: '/{VALUE}' }}"),
        format!("after: '{VALUE}'"),
        format!("after: {{ emit: '{VALUE}' }}"),
        format!("after: {{ emit: '{VALUE}, expected nothing' }}"),
        format!("secrets: '{VALUE}, expected nothing'"),
        format!("after: {{ emit: externalSecret, store: '{VALUE}' }}"),
        format!("handover: {{ signers: '{VALUE}' }}"),
        format!("handover: *{VALUE}"),
        format!("'{VALUE}"),
        format!("handover: {{ signers: [\"{VALUE}\\q\"] }}"),
    ] {
        let said = problem(&rest);
        assert!(!said.contains(VALUE), "{rest}: {said}");
    }
}

#[test]
fn a_value_of_another_type_is_an_error() {
    for rest in [
        "secrets: { namespace: 123 }",
        "secrets: { namespace: true }",
        "secrets: { permanent: [{ name: a/b, vault: 1 }] }",
        "secrets: { permanent: [{ name: a/b, vault: yes }] }",
        "secrets: { plain: a/b }",
        "secrets: { exclude: { a: b } }",
        "recipients: []",
    ] {
        problem(rest);
    }
    for epoch in ["0", "-1", "1.0", "'1'", "1000001", "18446744073709551616", "~", "[1]"] {
        assert!(parse(&HEADER.replace("epoch: 1", &format!("epoch: {epoch}"))).is_err(), "{epoch}");
    }
}

#[test]
fn one_document_of_bounded_size() {
    assert!(parse(&format!("{HEADER}---\n{HEADER}")).is_err());
    assert!(parse("").is_err() && parse("# nothing\n").is_err() && parse("[]").is_err());
    let padded = |size: usize| format!("{HEADER}#{}", "x".repeat(size - HEADER.len() - 1));
    assert!(parse(&padded(1 << 20)).is_ok());
    assert!(parse(&padded((1 << 20) + 1)).unwrap_err().to_string().contains("larger than 1024 KiB"));
    let not_text = Bootstrap::parse(&FilePath::parse("regent.yaml").unwrap(), b"name: \xff");
    assert!(not_text.unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn a_bomb_costs_little() {
    let mut billion = String::from("x0: &x0 [a/b]\n");
    for level in 1..30 {
        let below = level - 1;
        writeln!(billion, "x{level}: &x{level} [{}]", vec![format!("*x{below}"); 10].join(", ")).unwrap();
    }
    let list = (0..10_000).map(|n| format!("a/b{n}")).collect::<Vec<_>>().join(",");
    let repeated =
        format!("secrets: {{ plain: &l [{list}] }}\nrecipients: {{ root: [{}] }}", vec!["*l"; 200_000].join(","));
    let many = format!("secrets: {{ permanent: [&p {{ name: a/b }}, {}] }}", vec!["*p"; 200_000].join(","));
    for bomb in [
        billion.as_str(),
        &repeated,
        &many,
        &"[".repeat(1_000_000),
        &format!("secrets: {}", "{a: ".repeat(200_000)),
        &format!("secrets: {}", "{a: ".repeat(9_999)),
        &format!("secrets: {}", "[".repeat(9_999)),
        &"- ".repeat(400_000),
        &"? ".repeat(400_000),
        &format!("secrets: {{ exclude: [{}] }}", vec!["'{a,b}'"; 90_000].join(",")),
    ] {
        let took = timed(|| drop(problem(bomb)));
        assert!(took < Duration::from_secs(5), "{took:?}: {bomb:.40}");
    }
}

#[test]
fn recipients_look_like_recipients() {
    let list = |recipient: &str| format!("recipients: {{ root: ['{recipient}'] }}");
    for good in [
        "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
        "age1yubikey1q2w7u3vpya839jxxuq8g0sedh3d740d4xvn639sqhr95ejj8vu3hyfumptt",
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ comment",
        "85D77543B3D624B63CEA9E6DBC17301B491B3F21",
        "85d77543b3d624b63cea9e6dbc17301b491b3f21",
        "arn:aws:kms:us-east-1:656532927350:key/920aff2e-c5f1-4040-943a-047fa387b27e",
        "projects/my-project/locations/global/keyRings/sops/cryptoKeys/sops-key",
        "https://sops.vault.azure.net/keys/sops-key/some-string",
        "http-not",
    ] {
        let read = parse(&format!("{HEADER}{}\n", list(good)));
        assert_eq!(read.is_ok(), good != "http-not", "{good}");
    }
    for bad in ["", " ", "age1", "AGE1QL3Z7HJY54", "85D77543", "someone@example.org", "age1ql3z7 hjy54pw"] {
        problem(&list(bad));
    }
    assert!(problem("recipients: { root: [] }").contains("at least one"));
}

#[test]
fn a_secret_key_among_the_recipients_is_called_that_and_not_shown() {
    for key in
        ["AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQ", "age-secret-key-1qqqqqqqqqqqqqq", "AGE-PLUGIN-YUBIKEY-1QQQQQQQQ"]
    {
        let said = problem(&format!("recipients: {{ root: [{key}] }}"));
        assert!(said.contains("secret key") && !said.to_uppercase().contains("1QQQ"), "{said}");
    }
}

#[test]
fn vault_is_reached_over_tls_except_on_this_machine() {
    let at = |address: &str| format!("vault: {{ address: '{address}', mount: kv/team, prefix: a/b.c-d_e }}");
    for good in [
        "https://vault",
        "https://vault.example:8200",
        "https://10.0.0.1:8200",
        "https://[2001:db8::1]:8200",
        "http://127.0.0.1:8200",
        "http://localhost:8200",
        "http://[::1]:8200",
    ] {
        accepted(&at(good));
    }
    for bad in [
        "vault:8200",
        "http://vault:8200",
        "http://10.0.0.1",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "https://",
        "https://:8200",
        "https://vault:0",
        "https://vault:65536",
        "https://vault:+1",
        "https://vault:",
        "https://vault/",
        "https://vault/v1",
        "https://user@vault",
        "https://vault?x",
        "https://vault#x",
        "https://[::1",
        "https://[vault]",
        "https://va ult",
        "ftp://vault",
        "HTTPS://vault",
    ] {
        problem(&at(bad));
    }
}

#[test]
fn mount_and_prefix_are_plain_paths() {
    for bad in ["", "/a", "a/", "a//b", "a/../b", "..", ".", "a b", "a%2fb", "a\\b", "ä"] {
        problem(&format!("vault: {{ address: 'https://v', mount: '{bad}', prefix: p }}"));
        problem(&format!("vault: {{ address: 'https://v', mount: m, prefix: '{bad}' }}"));
    }
    for records in ["regent", "regent/prod"] {
        let said = problem(&format!("vault: {{ address: 'https://v', mount: m, prefix: {records} }}"));
        assert!(said.contains("handover records"), "{said}");
    }
    accepted("vault: { address: 'https://v', mount: m, prefix: regents, namespace: team/app }");
}

#[test]
fn after_says_what_it_needs() {
    let after = |text: &str| accepted(&format!("after: {text}")).after.unwrap();
    assert_eq!(
        after("{ emit: externalSecret, store: { name: vault, kind: ClusterSecretStore } }"),
        After::ExternalSecret { store: "vault".into(), store_kind: "ClusterSecretStore".into() }
    );
    assert_eq!(
        after("{ emit: vaultStaticSecret, auth: vso/main }"),
        After::VaultStaticSecret { auth: "vso/main".into() }
    );
    for bad in [
        "{}",
        "{ emit: nothing }",
        "{ emit: stub, auth: x }",
        "{ emit: stub, store: { name: x, kind: SecretStore } }",
        "{ emit: externalSecret }",
        "{ emit: externalSecret, store: vault }",
        "{ emit: externalSecret, store: { name: vault } }",
        "{ emit: externalSecret, store: { name: vault, kind: Store } }",
        "{ emit: externalSecret, store: { name: a/vault, kind: SecretStore } }",
        "{ emit: externalSecret, store: { name: vault, kind: SecretStore }, auth: x }",
        "{ emit: vaultStaticSecret }",
        "{ emit: vaultStaticSecret, auth: A }",
        "{ emit: vaultStaticSecret, auth: a, store: { name: vault, kind: SecretStore } }",
    ] {
        problem(&format!("after: {bad}"));
    }
}

#[test]
fn excluded_files_are_named_by_globs_from_the_root() {
    let root = accepted("secrets: { exclude: ['docs/**', '*.md', '**/test-?.{yaml,yml}'] }");
    for (file, excluded) in [
        ("docs/a.yaml", true),
        ("docs/a/b.yaml", true),
        ("docs", false),
        ("x/docs/a.yaml", false),
        ("README.md", true),
        ("x/README.md", false),
        ("test-1.yaml", true),
        ("a/b/test-1.yml", true),
        ("a/test-12.yaml", false),
        ("a/test-/.yaml", false),
    ] {
        assert_eq!(root.excluded(&FilePath::parse(file).unwrap()), excluded, "{file}");
    }
    assert_eq!(root.secrets.exclude.patterns().len(), 3);
    for bad in ["", "/docs/**", "../x", "a/./b", "a\\*", "[", "a{b", " a"] {
        problem(&format!("secrets: {{ exclude: ['{bad}'] }}"));
    }
}

#[test]
fn the_worst_accepted_patterns_compile_quickly() {
    let patterns: Vec<_> = (0..MAX_PATTERNS).map(|n| format!("'{n}{}'", "{a,*b?}".repeat(36))).collect();
    let took = timed(|| drop(accepted(&format!("secrets: {{ exclude: [{}] }}", patterns.join(",")))));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_secret_is_permanent_where_listed_and_handed_over_otherwise() {
    let root = parse(COMPLETE).unwrap();
    assert_eq!(root.class_of(&secret("vault/unseal")), Class::Permanent);
    assert_eq!(root.class_of(&secret("app/unseal")), Class::Handover);
    assert!(root.is_plain(&secret("app/public-bundle")) && !root.is_plain(&secret("app/db")));
    assert!(root.kind_allowed("Secret") && root.kind_allowed("ConfigMap") && !root.kind_allowed("configmap"));
    for bad in ["Secret", "List", "configMap", "Config Map", ""] {
        problem(&format!("secrets: {{ kinds: ['{bad}'] }}"));
    }
}

#[test]
fn signers_are_public_keys() {
    let block = |inside: &str| {
        format!(
            "handover:\n  signers:\n  - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 jane\n  - |\n    -----BEGIN PGP PUBLIC KEY BLOCK-----\n\n    \
             {inside}\n    -----END PGP PUBLIC KEY BLOCK-----"
        )
    };
    assert_eq!(accepted(&block("mDMEZ")).handover.signers.len(), 2);
    for bad in [
        "jane@example.org".to_owned(),
        "0123456789abcdef0123456789abcdef01234567".to_owned(),
        "ssh-dss AAAAB3NzaC1kc3M".to_owned(),
        "ssh-ed25519".to_owned(),
        "ssh-ed25519 CANARY".to_owned(),
        "\"-----BEGIN OPENSSH PRIVATE KEY-----\\nCANARY\"".to_owned(),
        "\"-----BEGIN PGP PRIVATE KEY BLOCK-----\\nCANARY\"".to_owned(),
        "\"-----BEGIN PGP PUBLIC KEY BLOCK-----\\nCANARY\"".to_owned(),
    ] {
        let said = problem(&format!("handover: {{ signers: [{bad}] }}"));
        assert!(said.contains("expects") && !said.contains("CANARY"), "{bad}: {said}");
    }
    assert!(problem(&block(&"m".repeat(64 << 10))).contains("at most 64 KiB"));
}
