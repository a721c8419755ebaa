use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::*;

/// As Argo CD 3.6.1 named one: annotation tracking, no source integrity, cache version 1.8.3.
const KEY: &str = "mfst|annotation:app.kubernetes.io/instance|shop|5f1e|app|2166136261|nil|1.8.3.gz";

fn identities() -> BTreeSet<SecretName> {
    ["app/db", "vault/unseal"].map(|name| SecretName::parse(name).unwrap()).into()
}

fn zipped(json: &[u8]) -> Vec<u8> {
    let mut writer = GzEncoder::new(Vec::new(), Compression::default());
    writer.write_all(json).unwrap();
    writer.finish().unwrap()
}

fn written(manifests: &[Value], error: &str) -> Value {
    let manifests: Vec<_> = manifests.iter().map(Value::to_string).collect();
    let response = json!({ "manifests": manifests, "revision": "5f1e", "sourceType": "Plugin" });
    json!({ "cacheEntryHash": "x", "manifestResponse": response, "mostRecentError": error, "firstFailureTimestamp": 0,
            "numberOfConsecutiveFailures": 0, "numberOfCachedResponsesReturned": 0 })
}

#[expect(clippy::needless_pass_by_value, reason = "literals")]
fn secret(namespace: Option<&str>, name: &str, more: Value) -> Value {
    let mut secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name } });
    if let Some(namespace) = namespace {
        secret["metadata"]["namespace"] = namespace.into();
    }
    for (key, value) in more.as_object().unwrap() {
        secret[key] = value.clone();
    }
    secret
}

fn looked(entry: &Value, destination: Option<&str>) -> Content {
    look(Key::parse(KEY).unwrap(), &zipped(entry.to_string().as_bytes()), destination, &identities())
}

fn of(manifest: Value, destination: Option<&str>) -> Content {
    looked(
        &written(&[json!({ "kind": "ConfigMap", "metadata": { "name": "db" }, "data": { "a": "b" } }), manifest], ""),
        destination,
    )
}

#[test]
fn a_key_names_application_and_namespace_whatever_stands_behind() {
    let key = Key::parse(KEY).unwrap();
    assert_eq!((key.application, key.namespace, key.is_gzip), ("shop", "app", true));
    // By label, of another namespace, without a destination's, by an older version, with an installation's id.
    let older = Key::parse("mfst|app.kubernetes.io/instance|team_shop|5f1e||1|1.8.3").unwrap();
    assert_eq!((older.application, older.namespace, older.is_gzip), ("team_shop", "", false));
    assert!(Key::parse("mfst|t|a|r|n|1|nil|installed|1.8.3.gz").is_some());
    for other in ["mfst|t|a|r|n", "mfst|", "app|managed-resources|shop", "x:mfst|t|a|r|n|1"] {
        assert_eq!(Key::parse(other), None, "{other}");
    }
}

#[test]
fn a_secret_that_vault_rules_counts_with_data_or_string_data_and_only_then() {
    let values = [json!({ "data": { "p": "YQ==" } }), json!({ "stringData": { "p": "a" } }), json!({ "data": "x" })];
    for value in values {
        assert_eq!(of(secret(Some("app"), "db", value.clone()), None), Content::Value);
        assert_eq!(of(secret(Some("app"), "other", value.clone()), None), Content::Harmless);
        assert_eq!(of(secret(Some("other"), "db", value), None), Content::Harmless);
    }
    for stub in
        [json!({}), json!({ "data": {} }), json!({ "data": null }), json!({ "stringData": {}, "type": "Opaque" })]
    {
        assert_eq!(of(secret(Some("app"), "db", stub), None), Content::Harmless);
    }
}

#[test]
fn a_manifest_without_a_namespace_is_the_destinations_else_its_name_decides() {
    let value = json!({ "data": { "p": "YQ==" } });
    for (namespace, destination, content) in [
        (None, Some("app"), Content::Value),
        (None, Some("other"), Content::Harmless),
        (None, None, Content::Value),
        (Some(""), Some("app"), Content::Value),
        (Some("other"), Some("app"), Content::Harmless),
        (Some("Not A Namespace"), Some("app"), Content::Harmless),
    ] {
        assert_eq!(of(secret(namespace, "db", value.clone()), destination), content, "{namespace:?} {destination:?}");
    }
}

#[test]
fn an_entry_without_gzip_is_read_as_its_key_says() {
    let entry = written(&[secret(Some("app"), "db", json!({ "data": { "p": "YQ==" } }))], "").to_string();
    let plain = Key::parse(KEY.strip_suffix(".gz").unwrap()).unwrap();
    assert_eq!(look(plain, entry.as_bytes(), None, &identities()), Content::Value);
    assert_eq!(look(plain, &zipped(entry.as_bytes()), None, &identities()), Content::Unreadable);
    assert_eq!(look(Key::parse(KEY).unwrap(), entry.as_bytes(), None, &identities()), Content::Unreadable);
}

#[test]
fn an_error_may_quote_what_was_rendered() {
    let stub = secret(Some("app"), "db", json!({}));
    assert_eq!(looked(&written(&[stub], "Object 'Kind' is missing"), None), Content::Error);
    // Rendering never succeeded.
    let mut never = written(&[], "no");
    never["manifestResponse"] = Value::Null;
    assert_eq!(looked(&never, None), Content::Error);
    // A value counts more.
    let full = secret(Some("app"), "db", json!({ "data": { "p": "YQ==" } }));
    assert_eq!(looked(&written(&[full], "no"), None), Content::Value);
}

#[test]
fn what_is_no_entry_is_unreadable() {
    let good = written(&[secret(Some("app"), "db", json!({}))], "");
    assert_eq!(looked(&good, None), Content::Harmless);
    for missing in ["manifestResponse", "mostRecentError"] {
        let mut entry = good.clone();
        entry.as_object_mut().unwrap().remove(missing);
        assert_eq!(looked(&entry, None), Content::Unreadable, "{missing}");
    }
    for response in
        [json!({ "revision": "x" }), json!({ "manifests": null }), json!({ "manifests": ["no json"] }), json!([])]
    {
        let mut entry = good.clone();
        entry["manifestResponse"] = response.clone();
        assert_eq!(looked(&entry, None), Content::Unreadable, "{response}");
    }
    // Which of the two counts?
    let twice = r#"{"kind":"Secret","metadata":{"name":"db"},"data":{},"data":{"p":"YQ=="}}"#;
    let mut entry = good.clone();
    entry["manifestResponse"]["manifests"] = json!([twice]);
    assert_eq!(looked(&entry, Some("app")), Content::Unreadable);
    let whole = zipped(good.to_string().as_bytes());
    let key = Key::parse(KEY).unwrap();
    assert_eq!(look(key, &whole[..whole.len() - 4], None, &identities()), Content::Unreadable);
    assert_eq!(look(key, b"", None, &identities()), Content::Unreadable);
}

#[test]
fn what_unpacks_to_more_than_argo_cd_takes_is_unreadable() {
    let mut writer = GzEncoder::new(Vec::new(), Compression::fast());
    let blanks = vec![b' '; 1 << 20];
    for _ in 0..=(MAX_UNPACKED_BYTES >> 20) {
        writer.write_all(&blanks).unwrap();
    }
    assert_eq!(look(Key::parse(KEY).unwrap(), &writer.finish().unwrap(), None, &identities()), Content::Unreadable);
}
