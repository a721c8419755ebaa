//! The vectors come from kustomize's own `secretGenerator`: `hack/kustomize-vectors`.

use super::*;
use serde_json::Value;

const VECTORS: &str = include_str!("vectors.jsonl");

fn decoded(base64: &str) -> Plaintext {
    Plaintext::new(base64.into()).decode_base64().unwrap()
}

#[test]
fn the_hash_is_the_one_of_kustomize() {
    let mut with = [0; 3];
    for line in VECTORS.lines() {
        let vector: Value = serde_json::from_str(line).unwrap();
        let data = vector[1].as_object().unwrap();
        let data: BTreeMap<String, Plaintext> =
            data.iter().map(|(key, value)| (key.clone(), decoded(value.as_str().unwrap()))).collect();
        with[0] += usize::from(data.is_empty());
        with[1] += usize::from(data.values().any(|value| value.to_base64().len() == LINE || value.len() > 2 * LINE));
        with[2] += usize::from(data.len() > 1);
        assert_eq!(of_secret(vector[0].as_str().unwrap(), &data), vector[2].as_str().unwrap(), "{line}");
        assert!(is_hash(vector[2].as_str().unwrap()), "{line}");
    }
    assert!(with.iter().all(|count| *count > 20), "{with:?}");
}

#[test]
fn another_value_key_or_type_is_another_name() {
    let one = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), Plaintext::new(value.into()))]);
    let hashes = [
        of_secret("Opaque", &one("a", "b")),
        of_secret("Opaque", &one("a", "c")),
        of_secret("Opaque", &one("b", "b")),
        of_secret("other", &one("a", "b")),
    ];
    assert_eq!(hashes.iter().collect::<std::collections::BTreeSet<_>>().len(), hashes.len());
    assert_eq!(of_secret("", &one("a", "b")), hashes[0], "no type is `Opaque`");
}

#[test]
fn what_no_hash_can_be_is_none() {
    for text in ["", "2456789bc", "2456789bcdf", "2456789bca", "2456789bce", "0123456789", "2456789bc-", "2456789BCD"] {
        assert!(!is_hash(text), "{text}");
    }
}
