use super::*;
use regent_sops::Branch;

fn map(entries: Vec<(&str, Node)>) -> Branch {
    Branch::from_entries(entries.into_iter().map(|(key, value)| (key.to_owned(), value)))
}

/// A Secret of a type with `stringData`.
fn secret(kind: &str, values: Vec<(&str, Node)>) -> Object {
    let tree = map(vec![
        ("apiVersion", Node::text("v1")),
        ("kind", Node::text("Secret")),
        ("metadata", Node::Map(map(vec![("name", Node::text("s"))]))),
        ("type", Node::text(kind)),
        ("stringData", Node::Map(map(values))),
    ]);
    Object { tree, line: 1, view: View::Opened }
}

fn problems(object: &Object) -> Vec<SecretProblem> {
    data(object).err().unwrap_or_default().into_iter().map(|(_, problem)| problem).collect()
}

fn annotated(mut object: Object, section: &str, key: &str, value: Node) -> Object {
    crate::guard::section(&mut object.tree, section).set(key, value);
    object
}

// Kubernetes 1.36, pkg/apis/core/validation: ValidateSecret and IsConfigMapKey.

#[test]
fn each_type_needs_its_keys() {
    let text = |text: &str| Node::text(text);
    for (kind, values) in [
        ("Opaque", vec![]),
        ("", vec![]),
        ("example.com/own", vec![]),
        ("kubernetes.io/tls", vec![("tls.crt", text("")), ("tls.key", text(""))]),
        ("kubernetes.io/basic-auth", vec![("username", text(""))]),
        ("kubernetes.io/basic-auth", vec![("password", text(""))]),
        ("kubernetes.io/ssh-auth", vec![("ssh-privatekey", text("k"))]),
        ("kubernetes.io/dockercfg", vec![(".dockercfg", text("{}"))]),
        ("kubernetes.io/dockerconfigjson", vec![(".dockerconfigjson", text("{\"auths\": {}}"))]),
    ] {
        assert_eq!(problems(&secret(kind, values)), [], "{kind}");
    }
    for (kind, values, count) in [
        ("kubernetes.io/tls", vec![], 2),
        ("kubernetes.io/tls", vec![("tls.crt", text(""))], 1),
        ("kubernetes.io/basic-auth", vec![("user", text(""))], 1),
        ("kubernetes.io/ssh-auth", vec![("ssh-privatekey", text(""))], 1),
        ("kubernetes.io/dockercfg", vec![("dockercfg", text("{}"))], 1),
        ("kubernetes.io/dockerconfigjson", vec![(".dockerconfigjson", text("[]"))], 1),
        ("kubernetes.io/dockerconfigjson", vec![(".dockerconfigjson", text("{\"auths\": "))], 1),
        ("kubernetes.io/service-account-token", vec![], 1),
    ] {
        assert_eq!(problems(&secret(kind, values)).len(), count, "{kind}");
    }
    let token = secret("kubernetes.io/service-account-token", vec![]);
    assert_eq!(problems(&annotated(token, "annotations", SERVICE_ACCOUNT_NAME, text("builder"))), []);
}

#[test]
fn keys_are_those_that_kubernetes_takes() {
    let longest = "k".repeat(253);
    for key in ["a", "A-b_c.d", ".dockercfg", "9", "a..", longest.as_str()] {
        assert_eq!(key_problem(key), None, "{key}");
    }
    let longer = "k".repeat(254);
    for key in ["", ".", "..", "..a", "a b", "a/b", "ä", "a\n", longer.as_str()] {
        assert!(key_problem(key).is_some(), "{key}");
    }
}

#[test]
fn values_are_strings_and_others_are_refused_by_key_alone() {
    let secret_leaf = |scalar| Node::Leaf(Leaf { scalar, origin: Origin::Decrypted });
    for value in [
        secret_leaf(Scalar::Int(4711)),
        secret_leaf(Scalar::Uint(u64::MAX)),
        secret_leaf(Scalar::Bool(true)),
        secret_leaf(Scalar::Float(47.11)),
        secret_leaf(Scalar::Time("2001-01-01T00:00:00Z".to_owned())),
        secret_leaf(Scalar::Null),
        Node::List(Vec::new()),
        Node::Map(Branch::default()),
        secret_leaf(Scalar::Text(Plaintext::new(vec![0xff]))),
    ] {
        let found = problems(&secret("Opaque", vec![("pin", value)]));
        assert_eq!(found, [SecretProblem::NotAString { key: "pin".to_owned() }]);
    }
}

#[test]
fn data_is_base64() {
    let mut object = secret("Opaque", vec![]);
    object.tree.set("data", Node::Map(map(vec![("a", Node::text("not base64!"))])));
    assert_eq!(problems(&object), [SecretProblem::NotBase64 { key: "a".to_owned() }]);
}

#[test]
fn all_values_together_have_at_most_one_mebibyte() {
    let of = |bytes: usize| {
        let half = "x".repeat(bytes / 2);
        let rest = "x".repeat(bytes - bytes / 2);
        problems(&secret("Opaque", vec![("a", Node::text(half)), ("b", Node::text(rest))]))
    };
    assert_eq!(of(1 << 20), []);
    assert_eq!(of((1 << 20) + 1), [SecretProblem::TooLarge { size: (1 << 20) + 1 }]);
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let mut object =
        secret("kubernetes.io/tls", vec![("a b", Node::text("")), ("n", Node::Leaf(Leaf::clear(Scalar::Int(1))))]);
    object.tree.set("extra", Node::text(""));
    object.tree.set("immutable", Node::text("true"));
    object.tree.set("apiVersion", Node::text("v2"));
    assert_eq!(problems(&object).len(), 7);
}

#[test]
fn labels_and_annotations_are_those_that_kubernetes_takes() {
    let labelled =
        |key: &str, value: &str| problems(&annotated(secret("Opaque", vec![]), "labels", key, Node::text(value)));
    let annotation = |key: &str, value: Node| problems(&annotated(secret("Opaque", vec![]), "annotations", key, value));
    for (key, value) in [("app", ""), ("example.com/app", "a.b-c_d"), ("A", "9")] {
        assert_eq!(labelled(key, value), [], "{key}");
    }
    for (key, value) in [("app", "-a"), ("app", "a b"), ("", "a"), ("/a", "b"), ("a/b/c", "d"), ("-a.b/c", "d")] {
        assert_eq!(labelled(key, value).len(), 1, "{key}: {value}");
    }
    assert_eq!(labelled("app", &"x".repeat(64)).len(), 1);
    assert_eq!(annotation("note", Node::text("any text at all\n")), []);
    assert_eq!(annotation("count", Node::Leaf(Leaf::clear(Scalar::Int(1)))).len(), 1);
    assert_eq!(annotation("big", Node::text("x".repeat((256 << 10) - 3))), []);
    assert_eq!(annotation("big", Node::text("x".repeat((256 << 10) - 2))).len(), 1);
}

#[test]
fn a_secret_of_many_keys_is_refused_for_its_size_alone() {
    let keys: Vec<String> = (0..100_000).map(|number| format!("not a key {number}")).collect();
    let with = |value: &str| {
        problems(&secret("kubernetes.io/tls", keys.iter().map(|key| (key.as_str(), Node::text(value))).collect()))
    };
    assert_eq!(with("eleven byte"), [SecretProblem::TooLarge { size: 1_100_000 }]);
    assert_eq!(with("small").len(), MAX_PROBLEMS);
}

#[test]
fn string_data_takes_the_place_of_data_among_many_keys() {
    let keys: Vec<String> = (0..20_000).map(|number| format!("k{number}")).collect();
    let all = |text: &str| Node::Map(map(keys.iter().map(|key| (key.as_str(), Node::text(text))).collect()));
    let mut object = secret("", vec![]);
    object.tree.set("data", all("b2xk"));
    object.tree.set("stringData", all("new"));
    let data = data(&object).ok().unwrap();
    let found: Vec<&String> = data.iter().map(|(key, _)| key).collect();
    assert_eq!(found, keys.iter().collect::<Vec<_>>());
    assert!(data.iter().all(|(_, leaf)| matches!(&leaf.scalar, Scalar::Text(text) if text.starts_with(b"bmV3"))));
}
