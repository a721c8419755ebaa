use proptest::prelude::*;

use super::*;
use crate::format::json;

/// `[input, output format, output]` as the program `sops` 3.11.0 reads and writes it; null where it
/// refuses. Made by giving `sops -d --ignore-mac` each input with the metadata of another file added.
const CORPUS: &str = include_str!("../../../tests/data/stores/dotenv.jsonl");

fn read(bytes: &[u8]) -> Result<Tree, Error> {
    parse(bytes, &Limits::default())
}

fn written(plaintext: Result<Plaintext, Error>) -> Result<String, Error> {
    plaintext.map(|plaintext| String::from_utf8(plaintext.bytes().to_vec()).unwrap())
}

fn emitted(key: &str, value: Node) -> Result<String, Error> {
    written(emit(&Tree { documents: vec![Branch::from_entries([(key.to_owned(), value)])] }))
}

fn scalar(scalar: Scalar) -> Node {
    Node::Leaf(Leaf::clear(scalar))
}

#[test]
fn dotenv_is_read_and_written_as_sops_does() {
    for line in CORPUS.lines() {
        let (input, format, expected): (String, String, Option<String>) = serde_json::from_str(line).unwrap();
        let output = read(input.as_bytes()).and_then(|tree| match format.as_str() {
            "json" => json::emit(&tree),
            _ => emit(&tree),
        });
        assert_eq!(written(output).ok(), expected, "{input:?} as {format}");
    }
}

#[test]
fn comments_and_metadata_stay_in_their_places() {
    let tree = read(b"#ENC[x]\nA=1\n\nsops_version=3\n# b\n").unwrap();
    let items: Vec<String> = tree.documents[0]
        .items
        .iter()
        .map(|item| match item {
            Item::Entry(entry) => format!("{}@{}", entry.key, entry.at.line),
            Item::Comment(comment) => format!("#{}", comment.text.text().unwrap()),
        })
        .collect();
    assert_eq!(items, ["#ENC[x]", "A@2", "sops_version@4", "# b"]);
}

#[test]
fn values_are_bytes_and_keys_are_text() {
    let tree = read(b"A=\xff\xfe\r\n").unwrap();
    assert_eq!(emit(&tree).unwrap().bytes(), b"A=\xff\xfe\r\n");
    let at = Position { line: 2, column: 1 };
    let problem = "refuses a key that is not UTF-8";
    assert_eq!(read(b"A=\n\xff=\n").err(), Some(Error::Syntax { format: Format::Dotenv, at, problem }));
}

#[test]
fn entries_and_comments_are_bounded() {
    let limits = Limits { nodes: 2, comments: 1, ..Limits::default() };
    assert!(parse(b"A=\nB=\n#\n", &limits).is_ok());
    let refused = |file: &[u8]| match parse(file, &limits) {
        Err(Error::Limit { bound, limit, at }) => (bound, limit, at.line),
        _ => panic!("no bound was crossed"),
    };
    assert_eq!(refused(b"A=\nB=\nC=\n"), (Bound::Nodes, 2, 3));
    assert_eq!(refused(b"#\n#\n"), (Bound::Comments, 1, 2));
}

#[test]
fn what_would_read_back_as_something_else_is_refused() {
    let refused = |key: &str, value: Node, problem: EmitProblem| {
        let expected = Error::Emit { format: Format::Dotenv, path: key.to_owned(), problem };
        assert_eq!(emitted(key, value), Err(expected));
    };
    // `sops` writes each of these but the nested ones: `A=B=x` is then another key, and so on.
    for key in ["A=B", "A\nB", "#A", "A\0"] {
        refused(key, Node::text("x"), EmitProblem::Character);
    }
    refused("A", Node::text(r"C:\new"), EmitProblem::Character);
    refused("A", scalar(Scalar::Null), EmitProblem::Null);
    refused("A", Node::Map(Branch::default()), EmitProblem::Nested);
    refused("A", Node::List(Vec::new()), EmitProblem::Nested);
}

#[test]
fn one_document_is_written_and_several_are_refused() {
    assert_eq!(written(emit(&Tree::default())), Ok(String::new()));
    let problem = EmitProblem::Documents;
    let two = Tree { documents: vec![Branch::default(), Branch::default()] };
    assert_eq!(written(emit(&two)), Err(Error::Emit { format: Format::Dotenv, path: String::new(), problem }));
}

#[test]
fn typed_values_are_written_as_sops_writes_them() {
    let text = |value: Scalar| emitted("A", scalar(value)).unwrap();
    assert_eq!(text(Scalar::Bool(true)), "A=true\n");
    assert_eq!(text(Scalar::Int(-5)), "A=-5\n");
    assert_eq!(text(Scalar::Uint(u64::MAX)), "A=18446744073709551615\n");
    assert_eq!(text(Scalar::Time("2001-02-03T04:05:06.75+01:00".to_owned())), "A=2001-02-03T04:05:06+01:00\n");
    for (value, expected) in [
        (1.0, "1.0"),
        (2e5, "200000.0"),
        (1e6, "1E+06"),
        (-2e10, "-2E+10"),
        (1e21, "1E+21"),
        (1.2345e-100, "1.2345E-100"),
        (1e-4, "0.0001"),
        (1e-5, "1E-05"),
        (-0.0, "-0.0"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
        (f64::NAN, "NaN"),
    ] {
        assert_eq!(text(Scalar::Float(value)), format!("A={expected}\n"));
    }
}

#[test]
fn every_line_of_a_comment_stays_a_comment() {
    let comment = Comment { text: Plaintext::new(b"a\nB=1".to_vec()), origin: Origin::Clear };
    let tree = Tree { documents: vec![Branch { items: vec![Item::Comment(comment)] }] };
    assert_eq!(written(emit(&tree)).unwrap(), "#a\n#B=1\n");
}

proptest! {
    #[test]
    fn what_is_written_reads_back(key in "[a#=\\n\\\\ ]{0,3}", value in "[a#=\\n\\\\nr\\r ]{0,5}") {
        if let Ok(file) = emitted(&key, Node::text(value.clone())) {
            let tree = read(file.as_bytes()).unwrap();
            let entries: Vec<_> = tree.documents[0].entries().collect();
            prop_assert_eq!(entries.len(), 1);
            prop_assert_eq!(&entries[0].key, &key);
            let Node::Leaf(leaf) = &entries[0].value else { panic!("no leaf") };
            prop_assert_eq!(leaf.clear_text(), Some(value.as_str()));
        }
    }
}
