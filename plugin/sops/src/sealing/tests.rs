use std::collections::BTreeMap;

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::format::Document;
use crate::key::Keyring;
use crate::limits::Limits;
use crate::opening::{Opened, Sealed};
use crate::plaintext::Plaintext;

const STANZA: Stanza<'_> =
    Stanza { address: "https://regent.flux-system.svc:8200", engine: "regent", key: "team/app", enc: "text" };

/// Two of the corpus's throw-away identities.
fn keyring() -> Keyring {
    let mut keys = Keyring::default();
    keys.load("age", include_bytes!("../../tests/corpus/keys/age.txt"), &[]).unwrap();
    keys.load("ssh", include_bytes!("../../tests/corpus/keys/ssh_ed25519"), &[]).unwrap();
    keys
}

fn parse(bytes: &[u8], format: Format) -> Sealed {
    match Document::parse(bytes, format, &Limits::default()) {
        Ok(Document::Sealed(sealed)) => sealed,
        Ok(Document::Clear(_)) => panic!("a clear document"),
        Err(error) => panic!("{error}"),
    }
}

/// A clear document of Kubernetes.
fn clear(yaml: &str) -> Branch {
    match Document::parse(yaml.as_bytes(), Format::Yaml, &Limits::default()) {
        Ok(Document::Clear(mut tree)) => tree.documents.remove(0),
        Ok(Document::Sealed(_)) => panic!("a sealed document"),
        Err(error) => panic!("{error}"),
    }
}

fn yaml(document: &Branch) -> String {
    String::from_utf8(document.to_yaml_document().unwrap().bytes().to_vec()).unwrap()
}

fn json(document: &Branch) -> String {
    String::from_utf8(document.to_json_line().unwrap().bytes().to_vec()).unwrap()
}

fn data_key(byte: u8) -> DataKey {
    DataKey::from_plaintext(&Plaintext::new(vec![byte; 32])).unwrap()
}

/// What a reader does that was given the data key: values decrypted, MAC compared.
fn open(document: &Branch, data_key: &DataKey) -> Result<Opened, Error> {
    let copy = DataKey::from_plaintext(data_key.plaintext()).unwrap();
    parse(yaml(document).as_bytes(), Format::Yaml).open_under(copy).map(|(opened, _)| opened)
}

fn value_problem(result: Result<Branch, Error>) -> (String, ValueProblem) {
    match result {
        Err(Error::Value { path, problem, .. }) => (path, problem),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it is given back"),
    }
}

/// A file of the corpus: its first document sealed and opened, its rule and its data key.
struct File {
    sealed: Branch,
    opened: Opened,
    selection: Selection,
    data_key: DataKey,
}

impl File {
    fn of(bytes: &[u8]) -> Self {
        let file = parse(bytes, Format::Yaml);
        let (sealed, selection) = (file.documents()[0].duplicate(), file.selection());
        let (opened, data_key) = file.open_with_key(&keyring()).unwrap_or_else(|error| panic!("{error}"));
        Self { sealed, opened, selection, data_key }
    }

    fn repoint(&self) -> Result<Branch, Error> {
        self.selection.repoint(self.sealed.duplicate(), &self.data_key, &STANZA)
    }
}

/// Corpus files whose rule any reader can follow, with what is special about each.
#[rstest]
#[case::default_rule(include_bytes!("../../tests/corpus/opens/rule-default.yaml"))]
#[case::no_rule_at_all(include_bytes!("../../tests/corpus/opens/rule-absent.yaml"))]
#[case::encrypted_regex(include_bytes!("../../tests/corpus/opens/rule-encrypted-regex.yaml"))]
#[case::encrypted_suffix(include_bytes!("../../tests/corpus/opens/rule-encrypted-suffix.yaml"))]
#[case::unencrypted_regex(include_bytes!("../../tests/corpus/opens/rule-unencrypted-regex.yaml"))]
#[case::unencrypted_suffix(include_bytes!("../../tests/corpus/opens/rule-unencrypted-suffix.yaml"))]
#[case::a_pattern_that_go_refuses(include_bytes!("../../tests/corpus/opens/rule-regex-that-go-refuses.yaml"))]
#[case::mac_only_encrypted(include_bytes!("../../tests/corpus/opens/mac-only-encrypted.yaml"))]
#[case::shamir(include_bytes!("../../tests/corpus/opens/groups-all-of-two.yaml"))]
#[case::comments_in_lists(include_bytes!("../../tests/corpus/opens/yaml-comments-in-lists.yaml"))]
fn a_file_opens_to_the_same_values_whichever_way_it_is_given_back(#[case] bytes: &[u8]) {
    let file = File::of(bytes);
    let values = json(&file.opened.documents()[0]);
    let repointed = file.repoint().unwrap();
    assert_eq!(json(&open(&repointed, &file.data_key).unwrap().documents()[0]), values);
    let other_key = data_key(7);
    let sealed = file.selection.seal(&file.opened.documents()[0], &other_key, &STANZA).unwrap();
    assert_eq!(json(&open(&sealed, &other_key).unwrap().documents()[0]), values);
    // The same key and the same input: the same bytes.
    assert_eq!(yaml(&file.repoint().unwrap()), yaml(&repointed));
    let again = file.selection.seal(&file.opened.documents()[0], &other_key, &STANZA).unwrap();
    assert_eq!(yaml(&again), yaml(&sealed));
    for document in [&repointed, &sealed] {
        let reread = parse(yaml(document).as_bytes(), Format::Yaml);
        assert_eq!(reread.selection(), file.selection);
        let recipients: Vec<String> = reread.recipients().map(ToString::to_string).collect();
        assert_eq!(recipients, ["hc_vault https://regent.flux-system.svc:8200/v1/regent/keys/team/app"]);
        assert_eq!((reread.groups().len(), reread.threshold()), (1, 0));
    }
}

#[test]
fn a_repointed_document_keeps_its_ciphertext_and_names_the_stanza_alone() {
    let file = File::of(include_bytes!("../../tests/corpus/opens/groups-all-of-two.yaml"));
    let repointed = file.repoint().unwrap();
    assert_eq!(repointed.at(&["a"]).and_then(text_of), file.sealed.at(&["a"]).and_then(text_of));
    let Some(Node::Map(block)) = repointed.get("sops") else { panic!("no block") };
    let fields: Vec<&str> = block.entries().map(|entry| entry.key.as_str()).collect();
    assert_eq!(fields, ["hc_vault", "lastmodified", "mac", "unencrypted_suffix", "version"]);
    assert_eq!(block.at(&["lastmodified"]).and_then(text_of), Some("2026-11-25T00:57:11Z"));
    let Some(Node::List(stanzas)) = block.get("hc_vault") else { panic!("no stanzas") };
    let [Element::Node(Node::Map(stanza))] = stanzas.as_slice() else { panic!("not one stanza") };
    let fields: Vec<_> = stanza.entries().map(|entry| (entry.key.as_str(), text_of(&entry.value).unwrap())).collect();
    assert_eq!(
        fields,
        [
            ("vault_address", "https://regent.flux-system.svc:8200"),
            ("engine_path", "regent"),
            ("key_name", "team/app"),
            ("created_at", "2026-01-01T00:00:00Z"),
            ("enc", "text"),
        ]
    );
}

fn text_of(node: &Node) -> Option<&str> {
    match node {
        Node::Leaf(leaf) => leaf.clear_text(),
        Node::Map(_) | Node::List(_) => None,
    }
}

/// A Secret sealed under a rule of ours, ready to be given another recipient.
fn sealed_secret(selection: &Selection) -> (Branch, DataKey) {
    let key = data_key(1);
    let mut sealed = selection.seal(&clear(SECRET), &key, &STANZA).unwrap();
    sealed.remove("sops");
    (sealed, key)
}

const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, labels: {app: db}}\ntype: Opaque\n\
    data: {password: aHVudGVyMg==, empty: ''}\nstringData: {user: admin}\n";

#[test]
fn clear_values_may_be_added_where_the_rule_leaves_them_clear() {
    let selection = Selection::of_secret();
    let (mut sealed, key) = sealed_secret(&selection);
    assert!(selection.leaves_clear(&["metadata", "annotations", "kustomize.toolkit.fluxcd.io/prune"]));
    let Some(Node::Map(metadata)) = sealed.get("metadata") else { panic!("no metadata") };
    let mut metadata = metadata.duplicate();
    let annotation = [("kustomize.toolkit.fluxcd.io/prune".to_owned(), Node::text("disabled"))];
    metadata.set("annotations", Node::Map(Branch::from_entries(annotation)));
    sealed.set("metadata", Node::Map(metadata));
    let repointed = selection.repoint(sealed.duplicate(), &key, &STANZA).unwrap();
    let opened = open(&repointed, &key).unwrap();
    let path = ["metadata", "annotations", "kustomize.toolkit.fluxcd.io/prune"];
    assert_eq!(opened.documents()[0].at(&path).and_then(text_of), Some("disabled"));
}

#[test]
fn a_clear_value_in_a_selected_place_is_refused() {
    let selection = Selection::of_secret();
    let (mut sealed, key) = sealed_secret(&selection);
    sealed.set("stringData", Node::Map(Branch::from_entries([("user".to_owned(), Node::text("clear"))])));
    let refused = selection.repoint(sealed.duplicate(), &key, &STANZA);
    assert_eq!(value_problem(refused), ("stringData.user".to_owned(), ValueProblem::Clear));
    let number = Node::Leaf(Leaf::clear(Scalar::Int(5)));
    sealed.set("stringData", Node::Map(Branch::from_entries([("user".to_owned(), number)])));
    let refused = selection.repoint(sealed.duplicate(), &key, &STANZA);
    assert_eq!(value_problem(refused), ("stringData.user".to_owned(), ValueProblem::NotText));
    // A file without a rule encrypts its metadata as well.
    let file = File::of(include_bytes!("../../tests/corpus/opens/rule-absent.yaml"));
    assert!(!file.selection.leaves_clear(&["metadata", "annotations", "x"]));
    let mut sealed = file.sealed.duplicate();
    sealed.set("metadata", Node::Map(Branch::from_entries([("x".to_owned(), Node::text("clear"))])));
    let refused = file.selection.repoint(sealed.duplicate(), &file.data_key, &STANZA);
    assert_eq!(value_problem(refused), ("metadata.x".to_owned(), ValueProblem::Clear));
}

#[test]
fn ciphertext_that_was_moved_or_is_anothers_is_refused() {
    let selection = Selection::of_secret();
    let (mut sealed, key) = sealed_secret(&selection);
    let refused = selection.repoint(sealed.duplicate(), &data_key(2), &STANZA);
    assert_eq!(value_problem(refused), ("data.password".to_owned(), ValueProblem::Unauthentic));
    let password = sealed.at(&["data", "password"]).unwrap().duplicate();
    sealed.set("stringData", Node::Map(Branch::from_entries([("user".to_owned(), password)])));
    let refused = selection.repoint(sealed.duplicate(), &key, &STANZA);
    assert_eq!(value_problem(refused), ("stringData.user".to_owned(), ValueProblem::Unauthentic));
}

#[test]
fn a_merge_key_is_refused_because_ciphertext_is_bound_to_its_path() {
    let document = clear("base: &b {x: 1}\ndata: {<<: *b, y: z}\n");
    let key = data_key(1);
    let refused = Selection::of_secret().seal(&document, &key, &STANZA);
    assert_eq!(value_problem(refused), ("data.<<".to_owned(), ValueProblem::Merged));
    let refused = Selection::of_object().repoint(clear("metadata: {<<: {x: y}}\n"), &key, &STANZA);
    assert_eq!(value_problem(refused), ("metadata.<<".to_owned(), ValueProblem::Merged));
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let entries = ["a", "b", "a"].map(|key| (key.to_owned(), Node::text("")));
    let document = Branch::from_entries([("data".to_owned(), Node::Map(Branch::from_entries(entries)))]);
    let selection = Selection::of_secret();
    for refused in [
        selection.repoint(document.duplicate(), &data_key(1), &STANZA),
        selection.seal(&document, &data_key(1), &STANZA),
    ] {
        assert!(matches!(refused, Err(Error::DuplicateKey { key, .. }) if key == "a"));
    }
}

#[rstest]
#[case(include_bytes!("../../tests/corpus/opens/rule-encrypted-comment-regex.yaml"), "encrypted_comment_regex")]
#[case(include_bytes!("../../tests/corpus/opens/rule-unencrypted-comment-regex.yaml"), "unencrypted_comment_regex")]
fn a_rule_that_follows_comments_is_not_portable(#[case] bytes: &[u8], #[case] rule: &str) {
    let file = File::of(bytes);
    assert!(!file.selection.is_portable());
    assert!(!file.selection.leaves_clear(&["metadata", "name"]));
    let sealing = file.selection.seal(&file.opened.documents()[0], &file.data_key, &STANZA);
    for refused in [file.repoint(), sealing] {
        match refused {
            Err(Error::Metadata { field, problem }) => {
                assert_eq!((field.as_str(), problem), (rule, "follows comments, which kustomize drops"));
            }
            Err(other) => panic!("another error: {other}"),
            Ok(_) => panic!("it is given back"),
        }
    }
    assert!(Selection::of_secret().is_portable() && Selection::of_object().is_portable());
}

#[test]
fn a_document_that_has_a_block_is_refused() {
    let selection = Selection::of_secret();
    let sealed = selection.seal(&clear(SECRET), &data_key(1), &STANZA).unwrap();
    let again =
        [selection.repoint(sealed.duplicate(), &data_key(1), &STANZA), selection.seal(&sealed, &data_key(1), &STANZA)];
    for refused in again {
        assert!(matches!(refused, Err(Error::Metadata { field, .. }) if field.is_empty()));
    }
}

#[rstest]
#[case::below_data(Selection::of_secret(), &["data", "a"], false)]
#[case::below_string_data(Selection::of_secret(), &["stringData", "a"], false)]
#[case::metadata_of_a_secret(Selection::of_secret(), &["metadata", "labels", "a"], true)]
#[case::a_label_named_data(Selection::of_secret(), &["metadata", "labels", "data"], false)]
#[case::metadata_of_an_object(Selection::of_object(), &["metadata", "labels", "a"], true)]
#[case::data_of_an_object(Selection::of_object(), &["data", "a"], false)]
#[case::immutable_of_an_object(Selection::of_object(), &["immutable"], false)]
fn a_rule_tells_where_it_leaves_a_leaf_clear(#[case] selection: Selection, #[case] path: &[&str], #[case] clear: bool) {
    assert_eq!(selection.leaves_clear(path), clear);
}

/// Marks the text leaves below a key as decrypted, as in a file that was opened.
fn as_decrypted(document: &mut Branch, key: &str) {
    fn mark(node: &mut Node) {
        match node {
            Node::Leaf(leaf) => leaf.origin = Origin::Decrypted,
            Node::Map(branch) => branch.items.iter_mut().for_each(|item| match item {
                Item::Entry(entry) => mark(&mut entry.value),
                Item::Comment(_) => {}
            }),
            Node::List(elements) => elements.iter_mut().for_each(|element| match element {
                Element::Node(node) => mark(node),
                Element::Comment(_) => {}
            }),
        }
    }
    let mut value = document.get(key).unwrap().duplicate();
    mark(&mut value);
    document.set(key, value);
}

#[test]
fn a_value_that_was_encrypted_is_never_left_clear_outside_of_what_names_an_object() {
    let mut document = clear("kind: ConfigMap\nmetadata: {name: a}\ndata: {kind: secret}\n");
    assert!(Selection::of_object().seal(&document, &data_key(1), &STANZA).is_ok());
    as_decrypted(&mut document, "data");
    let refused = Selection::of_object().seal(&document, &data_key(1), &STANZA);
    assert_eq!(value_problem(refused), ("data.kind".to_owned(), ValueProblem::Uncovered));
    // Names were encrypted too where a file has no rule; the reader has to know them.
    let mut document = clear(SECRET);
    as_decrypted(&mut document, "metadata");
    as_decrypted(&mut document, "data");
    let sealed = Selection::of_secret().seal(&document, &data_key(1), &STANZA).unwrap();
    assert_eq!(json_at(&sealed, "metadata"), r#"{"name":"db","labels":{"app":"db"}}"#);
    assert!(!json(&sealed).contains("aHVudGVyMg=="));
}

fn json_at(document: &Branch, key: &str) -> String {
    match document.get(key) {
        Some(Node::Map(branch)) => json(branch),
        Some(Node::Leaf(_) | Node::List(_)) | None => panic!("no mapping"),
    }
}

#[test]
fn by_its_own_fields_an_object_is_sealed_whatever_stands_in_them() {
    let mut document = clear(
        "apiVersion: v1\nkind: X\nmetadata: {name: a}\nspec: {metadata: {kind: secret}}\n\
        \"a.b\": {k: secret}\nroleRef: {kind: secret}\n",
    );
    let fields: Vec<String> = document.entries().map(|entry| entry.key.clone()).collect();
    for field in &fields {
        as_decrypted(&mut document, field);
    }
    let selection = Selection::of_fields(&document);
    let sealed = selection.seal(&document, &data_key(1), &STANZA).unwrap();
    assert!(!json(&sealed).contains("secret"));
    assert_eq!(sealed.at(&["metadata", "name"]).and_then(text_of), None, "still marked as decrypted");
    assert_eq!(json_at(&sealed, "metadata"), r#"{"name":"a"}"#);
    assert_eq!(json(&open(&sealed, &data_key(1)).unwrap().documents()[0]), json(&document));
    assert!(selection.leaves_clear(&["metadata", "annotations", "a"]));
    // A dot in a field's name is no wildcard.
    assert!(selection.leaves_clear(&["metadata", "annotations", "axb"]));
    assert!(!selection.leaves_clear(&["a.b"]));
}

#[test]
fn every_type_is_sealed_as_sops_types_it_and_what_is_empty_stays() {
    let document = clear("data: {t: text, i: 5, b: true, f: 1.5, nil: null, e: '', m: {}, l: [a, [b]]}\nclear: 5\n");
    let sealed = Selection::of_secret().seal(&document, &data_key(1), &STANZA).unwrap();
    let type_of = |key: &str| {
        let text = text_of(sealed.at(&["data", key]).unwrap()).unwrap();
        assert!(text.starts_with("ENC[AES256_GCM,data:"), "{key}");
        text.rsplit_once("type:").unwrap().1.to_owned()
    };
    assert_eq!(["t", "i", "b", "f"].map(type_of), ["str]", "int]", "bool]", "float]"]);
    assert!(matches!(sealed.at(&["data", "nil"]), Some(Node::Leaf(Leaf { scalar: Scalar::Null, .. }))));
    assert_eq!(text_of(sealed.at(&["data", "e"]).unwrap()), Some(""));
    assert!(yaml(&sealed).contains("\nclear: 5\n"));
    let opened = open(&sealed, &data_key(1)).unwrap();
    assert_eq!(json(&opened.documents()[0]), json(&document));
}

#[test]
fn equal_values_in_two_places_of_a_list_share_no_nonce() {
    let sealed = Selection::of_secret().seal(&clear("data: {l: [a, a, [a]], k: a}\n"), &data_key(1), &STANZA).unwrap();
    let text = yaml(&sealed);
    let mut nonces: Vec<&str> = text.split(",iv:").skip(1).filter_map(|rest| rest.split(',').next()).collect();
    assert_eq!(nonces.len(), 5, "four values and the MAC");
    nonces.sort_unstable();
    nonces.dedup();
    assert_eq!(nonces.len(), 5);
}

#[test]
fn what_no_reader_of_json_can_hold_is_refused() {
    let with = |scalar: Scalar| {
        let data = Branch::from_entries([("x".to_owned(), Node::Leaf(Leaf::clear(scalar)))]);
        let document = Branch::from_entries([("data".to_owned(), Node::Map(data))]);
        Selection::of_secret().seal(&document, &data_key(1), &STANZA).map(|_| ())
    };
    let unwritable = |problem| Err(Error::Emit { format: Format::Json, path: "data.x".to_owned(), problem });
    assert_eq!(with(Scalar::Float(f64::NAN)), unwritable(EmitProblem::Number));
    assert_eq!(with(Scalar::Text(Plaintext::new(vec![0xff]))), unwritable(EmitProblem::NotText));
    assert!(matches!(with(Scalar::Uint(u64::MAX)), Err(Error::Value { problem: ValueProblem::Unhashable, .. })));
}

#[test]
fn ciphertext_stands_in_double_quotes() {
    let sealed = Selection::of_secret().seal(&clear(SECRET), &data_key(1), &STANZA).unwrap();
    let text = yaml(&sealed);
    assert_eq!(text.matches("ENC[").count(), 3);
    assert_eq!(text.matches("\"ENC[").count(), 3);
    assert_eq!(text.matches("type:str]\"\n").count(), 3);
    let line = json(&sealed);
    assert_eq!(parse(line.as_bytes(), Format::Json).documents().len(), 1);
}

/// A value below `data`, of any type that a manifest can hold.
#[derive(Clone, Debug)]
enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
}

impl Value {
    fn any() -> impl Strategy<Value = Self> {
        let scalar = prop_oneof![
            Just(Self::Null),
            any::<bool>().prop_map(Self::Bool),
            any::<i64>().prop_map(Self::Int),
            (-1e300..1e300).prop_map(Self::Float),
            any::<String>().prop_map(Self::Text),
        ];
        scalar.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Self::List),
                proptest::collection::btree_map("[a-z]{1,3}|.{1,3}", inner, 0..4).prop_map(Self::Map),
            ]
        })
    }

    /// As it stands in a file that was opened.
    fn decrypted(self) -> Node {
        let leaf = |scalar| Node::Leaf(Leaf { scalar, origin: Origin::Decrypted });
        match self {
            Self::Null => Node::Leaf(Leaf::clear(Scalar::Null)),
            Self::Bool(value) => leaf(Scalar::Bool(value)),
            Self::Int(value) => leaf(Scalar::Int(value)),
            Self::Float(value) => leaf(Scalar::Float(value)),
            Self::Text(value) => leaf(Scalar::Text(Plaintext::new(value.into_bytes()))),
            Self::List(values) => {
                Node::List(values.into_iter().map(|value| Element::Node(value.decrypted())).collect())
            }
            Self::Map(values) => {
                Node::Map(Branch::from_entries(values.into_iter().map(|(key, value)| (key, value.decrypted()))))
            }
        }
    }
}

/// Whether a selected leaf still stands as it was decrypted.
fn has_decrypted(node: &Node) -> bool {
    match node {
        Node::Leaf(leaf) => leaf.origin == Origin::Decrypted,
        Node::Map(branch) => branch.entries().any(|entry| has_decrypted(&entry.value)),
        Node::List(elements) => {
            elements.iter().any(|element| matches!(element, Element::Node(node) if has_decrypted(node)))
        }
    }
}

proptest! {
    #[test]
    fn sealing_and_opening_is_nothing(value in Value::any(), key: u8) {
        let document = Branch::from_entries([("kind".to_owned(), Node::text("Secret")), ("data".to_owned(), value.decrypted())]);
        let key = data_key(key);
        let sealed = Selection::of_secret().seal(&document, &key, &STANZA).unwrap();
        prop_assert!(!has_decrypted(sealed.get("data").unwrap()));
        let opened = open(&sealed, &key).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(json(&opened.documents()[0]), json(&document));
    }
}
