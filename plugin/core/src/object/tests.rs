use super::*;

fn leaf(value: i64) -> Node {
    Node::Leaf(Leaf::clear(Scalar::Int(value)))
}

fn map(entries: Vec<(&str, Node)>) -> Branch {
    let mut branch = Branch::from_entries(entries.into_iter().map(|(key, value)| (key.to_owned(), value)));
    for item in &mut branch.items {
        if let Item::Entry(entry) = item {
            entry.merge = entry.key == "<<";
        }
    }
    branch
}

/// `key=value` of every leaf, in order.
fn flat(branch: &Branch) -> String {
    let text = |entry: &Entry| match &entry.value {
        Node::Leaf(Leaf { scalar: Scalar::Int(value), .. }) => format!("{}={value}", entry.key),
        Node::Leaf(_) | Node::List(_) => entry.key.clone(),
        Node::Map(inner) => format!("{}({})", entry.key, flat(inner)),
    };
    branch.entries().map(text).collect::<Vec<_>>().join(" ")
}

// The expectations of the merge tests are what sigs.k8s.io/yaml 1.6.0 answers.

#[test]
fn a_key_after_the_merge_wins_over_it() {
    let document = map(vec![("<<", Node::Map(map(vec![("a", leaf(2)), ("b", leaf(3))]))), ("a", leaf(1))]);
    assert_eq!(flat(&resolved(&document).unwrap()), "b=3 a=1");
}

#[test]
fn of_a_list_of_mappings_the_earlier_wins() {
    let sources = vec![
        Element::Node(Node::Map(map(vec![("a", leaf(2))]))),
        Element::Node(Node::Map(map(vec![("a", leaf(3)), ("b", leaf(3))]))),
    ];
    assert_eq!(flat(&resolved(&map(vec![("<<", Node::List(sources))])).unwrap()), "a=2 b=3");
}

#[test]
fn merges_inside_merges_are_resolved() {
    let inner = map(vec![("<<", Node::Map(map(vec![("c", leaf(1))]))), ("b", leaf(2))]);
    assert_eq!(flat(&resolved(&map(vec![("<<", Node::Map(inner))])).unwrap()), "c=1 b=2");
}

#[test]
fn a_merge_behind_a_key_it_holds_is_refused_because_readers_disagree() {
    let document = map(vec![("a", leaf(1)), ("<<", Node::Map(map(vec![("a", leaf(2))])))]);
    let problem = resolved(&document).err().unwrap().problem;
    assert!(matches!(problem, DocumentProblem::DuplicateKey { ref key, .. } if key == "a"), "{problem}");
}

#[test]
fn a_key_that_stands_twice_is_refused_at_any_depth() {
    let document =
        map(vec![("x", Node::List(vec![Element::Node(Node::Map(map(vec![("a", leaf(1)), ("a", leaf(1))])))]))]);
    assert!(matches!(resolved(&document).err().unwrap().problem, DocumentProblem::DuplicateKey { .. }));
}

#[test]
fn of_many_keys_too_one_that_stands_twice_is_refused() {
    let names: Vec<String> = (0..=FEW_KEYS + 2).map(|number| format!("k{number}")).collect();
    let with = |last: &'static str| {
        let all = names.iter().map(String::as_str).chain([last]);
        resolved(&map(all.map(|name| (name, leaf(1))).collect()))
    };
    assert_eq!(with("last").unwrap().entries().count(), names.len() + 1);
    let problem = with("k3").err().unwrap().problem;
    assert!(matches!(problem, DocumentProblem::DuplicateKey { ref key, .. } if key == "k3"), "{problem}");
}

#[test]
fn a_merge_of_something_else_than_mappings_is_refused() {
    for value in [leaf(1), Node::List(vec![Element::Node(leaf(1))]), Node::Leaf(Leaf::clear(Scalar::Null))] {
        let problem = resolved(&map(vec![("<<", value)])).err().unwrap().problem;
        assert!(matches!(problem, DocumentProblem::BadMerge { .. }), "{problem}");
    }
}

fn config_map(name: &str) -> Branch {
    map(vec![
        ("apiVersion", Node::text("v1")),
        ("kind", Node::text("ConfigMap")),
        ("metadata", Node::Map(map(vec![("name", Node::text(name))]))),
    ])
}

fn names(documents: &[Branch]) -> Vec<String> {
    let name = |object: Result<Object, Problem>| object.ok().unwrap().meta().unwrap().unwrap().name;
    objects(documents, View::Clear).into_iter().map(name).collect()
}

#[test]
fn lists_are_flattened_also_inside_each_other_and_empty_documents_go() {
    let item = |branch| Element::Node(Node::Map(branch));
    let inner = map(vec![("kind", Node::text("List")), ("items", Node::List(vec![item(config_map("b"))]))]);
    let outer = map(vec![
        ("apiVersion", Node::text("v1")),
        ("kind", Node::text("List")),
        ("items", Node::List(vec![item(config_map("a")), item(inner), item(Branch::default())])),
    ]);
    assert_eq!(names(&[Branch::default(), outer, config_map("c")]), ["a", "b", "c"]);
}

#[test]
fn an_item_of_a_typed_list_may_leave_out_its_kind() {
    let bare = map(vec![("metadata", Node::Map(map(vec![("name", Node::text("a"))])))]);
    let list = map(vec![
        ("apiVersion", Node::text("v1")),
        ("kind", Node::text("ConfigMapList")),
        ("items", Node::List(vec![Element::Node(Node::Map(bare))])),
    ]);
    let found = objects(&[list], View::Clear).remove(0).ok().unwrap().meta().unwrap().unwrap();
    assert_eq!((found.api_version.as_str(), found.kind.as_str()), ("v1", "ConfigMap"));
}

#[test]
fn a_kind_that_merely_ends_in_list_is_an_object() {
    let mut tree = config_map("a");
    tree.set("kind", Node::text("AllowList"));
    assert_eq!(names(&[tree]), ["a"]);
}

#[test]
fn what_names_no_object_is_refused_by_field() {
    for (field, missing) in [("apiVersion", "apiVersion"), ("kind", "kind"), ("metadata.name", "metadata")] {
        let mut tree = config_map("a");
        tree.remove(missing);
        let object = objects(&[tree], View::Clear).remove(0).ok().unwrap();
        let problem = object.meta().unwrap_err().problem;
        assert!(matches!(problem, DocumentProblem::NotAnObject { field: f, .. } if f == field), "{problem}");
    }
}

#[test]
fn a_sealed_name_is_not_known() {
    let mut tree = config_map("a");
    tree.set("kind", Node::text("ENC[AES256_GCM,data:QQ==,iv:QQ==,tag:QQ==,type:str]"));
    let object = Object { tree, line: 1, view: View::Sealed };
    assert_eq!(object.meta(), Ok(None));
    assert!(object.is_encrypted());
}

#[test]
fn an_encrypted_comment_in_a_list_makes_no_object_encrypted() {
    let sealed = |kind: &str| Node::text(format!("ENC[AES256_GCM,data:QUJD,iv:QUJD,tag:QUJD,type:{kind}]"));
    let object = |list: Vec<Node>| {
        let list = Node::List(list.into_iter().map(Element::Node).collect());
        let nested = Node::List(vec![Element::Node(Node::Map(map(vec![("args", list)])))]);
        let tree = map(vec![("kind", Node::text("Deployment")), ("containers", nested)]);
        objects(&[tree], View::Sealed).remove(0).ok().unwrap()
    };
    let plain = object(vec![sealed("comment"), Node::text("--verbose")]);
    assert!(!plain.is_encrypted());
    assert_eq!(crate::gate::check(&plain.tree), Ok(()));
    assert!(object(vec![sealed("comment"), sealed("str")]).is_encrypted());
    let in_a_value = map(vec![("kind", Node::text("Secret")), ("note", sealed("comment"))]);
    assert!(objects(&[in_a_value], View::Sealed).remove(0).ok().unwrap().is_encrypted());
}
