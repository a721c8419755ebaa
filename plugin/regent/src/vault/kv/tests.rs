use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn text(text: &str) -> Plaintext {
    Plaintext::new(text.as_bytes().to_vec())
}

fn sent(new: &NewKey) -> Value {
    serde_json::from_slice(&new.body()).unwrap()
}

#[test]
fn a_creation_cannot_be_said_without_cas_0_in_its_place() {
    let (a, empty) = (text("x\"\\\r\n\0\u{2028}\u{1f600}<>&"), text(""));
    let new = NewKey::new([("a", &a), ("", &empty)]).unwrap();
    let expected = json!({ "options": { "cas": 0 }, "data": { "a": "x\"\\\r\n\0\u{2028}\u{1f600}<>&", "": "" } });
    assert_eq!(sent(&new), expected);
    // Vault is weakly typed (`"0"` would do); a number is what the API describes.
    assert!(new.body().starts_with(br#"{"options":{"cas":0},"data":{"#));
    // An empty object can be stored; `null` would be stored, too, and be nothing.
    assert_eq!(sent(&NewKey::new([]).unwrap()), json!({ "options": { "cas": 0 }, "data": {} }));
}

#[test]
fn a_heartbeat_is_the_next_version_of_its_own_key() {
    let prod = AuthorityName::parse("prod").unwrap();
    for after in [0, 1, 41] {
        let next = NextBeat::after(after, &prod).unwrap();
        let body: Value = serde_json::from_slice(&next.body()).unwrap();
        assert_eq!(body, json!({ "options": { "cas": after }, "data": { "writtenBy": "regent verify" } }));
        // vault.md 3.5.
        assert_eq!((next.key().as_str(), next.version()), ("regent/prod/heartbeat", after + 1));
    }
}

#[test]
fn bytes_that_are_no_text_are_not_sent() {
    let value = Plaintext::new(b"REGENT-CANARY \xff".to_vec());
    let problem = NewKey::new([("k", &value)]).err().unwrap();
    assert_eq!(problem, VaultError::NotText("k".to_owned()));
    assert!(!format!("{problem} {problem:?}").contains("CANARY"));
}

proptest! {
    #[test]
    fn every_text_comes_back_as_it_went(fields in proptest::collection::btree_map(".*", ".*", 0..6)) {
        let values: BTreeMap<&str, Plaintext> = fields.iter().map(|(key, value)| (key.as_str(), text(value))).collect();
        let new = NewKey::new(values.iter().map(|(key, value)| (*key, value))).unwrap();
        prop_assert_eq!(&sent(&new)["data"], &json!(fields));
        let metadata = json!({ "version": 1, "created_time": "t", "deletion_time": "", "destroyed": false });
        let answer = json!({ "data": { "data": &fields, "metadata": metadata } }).to_string();
        let Ok(Reading::Present(present)) = reading(200, answer.as_bytes()) else { panic!("it is there") };
        prop_assert_eq!(present.fields.len(), values.len());
        for (key, value) in &present.fields {
            prop_assert!(value.as_ref().unwrap().same_bytes(&values[key.as_str()]));
        }
    }
}

#[test]
fn a_path_names_one_key_or_none() {
    let path = |text: &str| KeyPath::parse(text, 1).map(|key| encoded(key.as_str()));
    assert_eq!(path("bootstrap/prod/app/db.tls"), Ok("bootstrap/prod/app/db.tls".to_owned()));
    assert_eq!(path("a b/%2F/ä?#"), Ok("a%20b/%252F/%C3%A4%3F%23".to_owned()));
    for bad in ["", "/", "a/", "/a", "a//b", "a/./b", "a/../b", "..", "a\nb", "a\0b"] {
        assert_eq!(path(bad), Err(VaultError::BadPath(bad.to_owned())), "{bad:?}");
    }
    let record = KeyPath::record(&AuthorityName::parse("prod").unwrap(), Epoch::FIRST).unwrap();
    assert_eq!(record.to_string(), "regent/prod/authority/1");
    assert_eq!(record.below("adopted").unwrap().as_str(), "regent/prod/authority/1/adopted");
    assert!(record.below("../2").is_err());
    let secret = KeyPath::secret("bootstrap/prod", &SecretName::parse("app/db").unwrap()).unwrap();
    assert_eq!(secret.as_str(), "bootstrap/prod/app/db");
}

/// The kinds of answers of reference OpenBao 2.7.2.
#[test]
fn a_read_says_absent_only_for_the_404_of_a_key() {
    let says = |status, body: &str| match reading(status, body.as_bytes()) {
        Ok(Reading::Absent) => "absent".to_owned(),
        Ok(Reading::Deleted) => "deleted".to_owned(),
        Ok(Reading::Present(Present { fields, version, created_time, deletion_time })) => {
            let texts: Vec<&str> =
                fields.iter().filter(|(_, text)| text.is_some()).map(|(key, _)| key.as_str()).collect();
            format!("{} of {}, {version}, {created_time}, {deletion_time}", texts.join(" "), fields.len())
        }
        Err(problem) => problem.to_string(),
    };
    let live = r#"{"data":{"data":{"a":"x","n":1,"f":1.5,"z":-1,"b":true,"o":{"x":["y"]},"u":null,"l":["y"]},"metadata":{"created_time":"T","custom_metadata":null,"deletion_time":"","destroyed":false,"version":2}},"warnings":null}"#;
    assert_eq!(says(200, live), "a of 8, 2, T, ");
    let soft = r#"{"data":{"data":null,"metadata":{"created_time":"T","deletion_time":"2026-11-24T08:23:28Z","destroyed":false,"version":1}}}"#;
    assert_eq!(says(404, soft), "deleted");
    assert_eq!(says(404, &soft.replace("false", "true").replace("2026-11-24T08:23:28Z", "")), "deleted");
    assert_eq!(says(404, r#"{"errors":[]}"#), "absent");
    // It goes by itself, later.
    assert_eq!(says(200, &live.replace(r#""deletion_time":"""#, r#""deletion_time":"D""#)), "a of 8, 2, T, D");
    // `null` can be stored, and is nothing.
    assert_eq!(says(200, &soft.replace("2026-11-24T08:23:28Z", "")), "deleted");
    for (status, body) in [
        (404, "404 page not found"),
        (404, r#"{"errors":["no handler for route \"kv/data/x\". route entry not found."]}"#),
        (404, r#"{"errors":["namespace not found"]}"#),
        (404, r#"{"errors":[],"warnings":["Invalid path for a versioned K/V secrets engine"]}"#),
        (404, r#"{"errors":[],"data":{}}"#),
        (404, "{}"),
        (403, r#"{"errors":["permission denied"]}"#),
        (503, r#"{"errors":["Vault is sealed"]}"#),
        (307, ""),
        (200, "{}"),
        (200, r#"{"data":{"a":"x"}}"#),
        (200, r#"{"data":{"data":{"a":"x"},"metadata":{}}}"#),
        (
            200,
            r#"{"data":{"data":["x"],"metadata":{"created_time":"T","deletion_time":"","destroyed":false,"version":1}}}"#,
        ),
        (204, ""),
        (500, ""),
    ] {
        assert!(reading(status, body.as_bytes()).is_err(), "{status} {body}");
    }
}

#[test]
fn metadata_tells_a_key_from_one_that_was_made_again() {
    let body = r#"{"data":{"cas_required":false,"created_time":"T1","current_version":12,"oldest_version":3,"max_versions":0,"delete_version_after":"0s","updated_time":"T2","versions":{},"custom_metadata":null}}"#;
    let is = KeyMetadata { current_version: 12, created_time: "T1".to_owned(), updated_time: "T2".to_owned() };
    assert_eq!(metadata(200, body.as_bytes()), Ok(Some(is)));
    assert_eq!(metadata(404, br#"{"errors":[]}"#), Ok(None));
    for (status, body) in
        [(404, "{}"), (404, r#"{"errors":["namespace not found"]}"#), (200, "{}"), (403, ""), (204, "")]
    {
        assert!(metadata(status, body.as_bytes()).is_err(), "{status} {body}");
    }
}
