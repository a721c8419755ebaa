use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::format::{dotenv, ini};
use crate::tree::{Comment, Origin};

/// `[input, output format, output]` as the program `sops` 3.11.0 reads and writes it; null where it
/// refuses. Made by giving `sops -d --ignore-mac` each input with the metadata of another file added.
const CORPUS: &str = include_str!("../../../tests/data/stores/json.jsonl");

fn read(text: &str) -> Result<Tree, Error> {
    parse(text.as_bytes(), &Limits::default())
}

fn document(text: &str) -> Branch {
    read(text).unwrap().documents.pop().unwrap()
}

fn written(plaintext: Result<Plaintext, Error>) -> Result<String, Error> {
    plaintext.map(|plaintext| String::from_utf8(plaintext.bytes().to_vec()).unwrap())
}

fn compact(scalar: Scalar) -> Result<String, Error> {
    written(emit_compact(&Branch::from_entries([("k".to_owned(), Node::Leaf(Leaf::clear(scalar)))])))
}

fn syntax_problem(bytes: &[u8]) -> (u32, u32, &'static str) {
    match parse(bytes, &Limits::default()) {
        Err(Error::Syntax { format: Format::Json, at, problem }) => (at.line, at.column, problem),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was read"),
    }
}

#[test]
fn json_is_read_and_written_as_sops_does() {
    for line in CORPUS.lines() {
        let (input, format, expected): (String, String, Option<String>) = serde_json::from_str(line).unwrap();
        let output = read(&input).and_then(|tree| match format.as_str() {
            "json" => emit(&tree),
            "dotenv" => dotenv::emit(&tree),
            _ => ini::emit(&tree),
        });
        assert_eq!(written(output).ok(), expected, "{input:?} as {format}");
    }
}

#[test]
fn integers_are_exact_in_64_bits_and_doubles_beyond() {
    let number = |text: &str| match document(&format!("{{\"n\":{text}}}")).get("n") {
        Some(Node::Leaf(Leaf { scalar: Scalar::Int(value), .. })) => format!("int {value}"),
        Some(Node::Leaf(Leaf { scalar: Scalar::Float(value), .. })) => format!("float {value:e}"),
        _ => "neither".to_owned(),
    };
    assert_eq!(number("9007199254740993"), "int 9007199254740993");
    assert_eq!(number("9223372036854775807"), "int 9223372036854775807");
    assert_eq!(number("9223372036854775808"), "float 9.223372036854776e18");
    assert_eq!(number("-9223372036854775808"), "int -9223372036854775808");
    assert_eq!(number("-9223372036854775809"), "float -9.223372036854776e18");
    assert_eq!(number("1.0"), "float 1e0");
    assert_eq!(number("1e2"), "float 1e2");
    assert_eq!(number("0"), "int 0");
}

#[test]
fn minus_zero_is_the_float_that_its_writers_hashed() {
    for text in ["-0", "-0.0", "-0e1"] {
        let document = document(&format!("{{\"n\":{text}}}"));
        let Some(Node::Leaf(Leaf { scalar: Scalar::Float(value), .. })) = document.get("n") else {
            panic!("{text} is no float");
        };
        assert!(*value == 0.0 && value.is_sign_negative());
        assert_eq!(written(emit_compact(&document)).unwrap(), r#"{"n":-0}"#);
    }
}

#[test]
fn text_that_is_not_utf8_is_refused_in_keys_and_values() {
    assert_eq!(syntax_problem(b"{\"a\": \"x\xff\"}"), (1, 8, NOT_UTF8));
    assert_eq!(syntax_problem(b"{\"\xc3\": 1}").2, NOT_UTF8);
    assert_eq!(syntax_problem(b"{\"a\": \"\xed\xa0\x80\"}").2, NOT_UTF8);
}

#[test]
fn half_a_surrogate_pair_is_refused() {
    for text in [r"\ud800", r"\udc00", r"\ud800x", r"\ud800\n", r"\ud800\u0041", r"\udc00\ud800"] {
        let file = format!("{{\"a\":\"{text}\"}}");
        assert_eq!(syntax_problem(file.as_bytes()).2, "refuses half a surrogate pair", "{text}");
    }
}

#[test]
fn problems_name_line_and_character() {
    assert_eq!(syntax_problem("{\n\t\"é\": tru}".as_bytes()).0, 2);
    assert_eq!(syntax_problem("{\n\t\"é\": tru}".as_bytes()).1, 7);
    assert_eq!(syntax_problem(b"[]").2, "expects one JSON object");
    assert_eq!(syntax_problem(b"\xef\xbb\xbf{}").2, "expects one JSON object");
    assert_eq!(syntax_problem(b"{} {}"), (1, 4, "expects nothing after the object"));
}

#[test]
fn entries_know_where_their_key_stands() {
    let document = document("{\"é\": {\"b\": 1}, \"c\": 2,\n  \"d\": 3}");
    let positions: Vec<_> = document.entries().map(|entry| (entry.at.line, entry.at.column)).collect();
    assert_eq!(positions, [(1, 2), (1, 17), (2, 3)]);
}

#[test]
fn duplicates_and_order_are_kept() {
    let document = document(r#"{"b":1,"a":2,"b":3}"#);
    assert_eq!(document.entries().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["b", "a", "b"]);
}

#[test]
fn nesting_is_bounded() {
    let limits = Limits { nesting: 5, ..Limits::default() };
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    assert!(parse(nested(5).as_bytes(), &limits).is_ok());
    let refused = parse(nested(6).as_bytes(), &limits).err();
    assert!(matches!(refused, Some(Error::Limit { bound: Bound::Nesting, limit: 5, .. })));
}

#[test]
fn nodes_are_bounded() {
    let limits = Limits { nodes: 4, ..Limits::default() };
    assert!(parse(br#"{"a":[1,2]}"#, &limits).is_ok());
    let refused = parse(br#"{"a":[1,2,3]}"#, &limits).err();
    assert!(matches!(refused, Some(Error::Limit { bound: Bound::Nodes, limit: 4, .. })));
    let limits = Limits { nodes: 3, ..Limits::default() };
    assert!(parse(br#"{"a":{},"b":{}}"#, &limits).is_ok());
    assert!(parse(br#"{"a":{},"b":{},"c":{}}"#, &limits).is_err());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a bound of cost is seen by a clock alone")]
fn hostile_files_are_refused_quickly() {
    let started = Instant::now();
    for file in ["{\"a\":".repeat(1_000_000), format!("{{\"a\":{}", "[".repeat(1_000_000)), "{\"".repeat(1_000_000)] {
        assert!(read(&file).is_err());
    }
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn several_documents_are_one_a_line() {
    let tree = Tree { documents: vec![document(r#"{"a":1}"#), Branch::default(), document(r#"{"b":[1,{}]}"#)] };
    assert_eq!(written(emit(&tree)).unwrap(), "{\"a\":1}\n{}\n{\"b\":[1,{}]}\n");
}

#[test]
fn comments_are_left_out() {
    let comment = || Comment { text: Plaintext::new(b"c".to_vec()), origin: Origin::Clear };
    let list = vec![Element::Comment(comment()), Element::Node(Node::text("x")), Element::Comment(comment())];
    let mut branch = Branch::from_entries([("l".to_owned(), Node::List(list))]);
    branch.items.insert(0, Item::Comment(comment()));
    branch.items.push(Item::Comment(comment()));
    assert_eq!(written(emit_compact(&branch)).unwrap(), r#"{"l":["x"]}"#);
    let only = Branch { items: vec![Item::Comment(comment())] };
    assert_eq!(written(emit(&Tree { documents: vec![only] })).unwrap(), "{}\n");
}

#[test]
fn a_merge_stays_the_key_it_is() {
    let branch = Branch {
        items: vec![Item::Entry(Entry {
            key: "<<".to_owned(),
            merge: true,
            value: Node::Map(Branch::default()),
            at: Position::default(),
        })],
    };
    assert_eq!(written(emit_compact(&branch)).unwrap(), "{\"\\u003c\\u003c\":{}}");
}

#[test]
fn numbers_are_written_as_go_writes_them() {
    for (value, text) in [
        (1.0, "1"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (1.5e-7, "1.5e-7"),
        (5e-324, "5e-324"),
        (123_456_789.5, "123456789.5"),
        (-0.0, "-0"),
    ] {
        assert_eq!(compact(Scalar::Float(value)).unwrap(), format!("{{\"k\":{text}}}"));
    }
    assert_eq!(compact(Scalar::Int(i64::MIN)).unwrap(), r#"{"k":-9223372036854775808}"#);
    assert_eq!(compact(Scalar::Uint(u64::MAX)).unwrap(), r#"{"k":18446744073709551615}"#);
    assert_eq!(
        compact(Scalar::Time("2001-02-03T04:05:06.7Z".to_owned())).unwrap(),
        r#"{"k":"2001-02-03T04:05:06.7Z"}"#
    );
}

#[test]
fn what_readers_of_yaml_refuse_is_escaped() {
    assert_eq!(
        compact(text("\u{7f}\u{80}\u{85}\u{9f}\u{a0}")).unwrap(),
        "{\"k\":\"\\u007f\\u0080\\u0085\\u009f\u{a0}\"}"
    );
    assert_eq!(compact(text("\u{2028}\u{2029}\0\u{1f}")).unwrap(), r#"{"k":"\u2028\u2029\u0000\u001f"}"#);
}

#[test]
fn what_json_cannot_hold_is_refused_by_its_path() {
    let refused = |scalar: Scalar, problem: EmitProblem| {
        let inner = Branch::from_entries([("b".to_owned(), Node::Leaf(Leaf::clear(scalar)))]);
        let list = Node::List(vec![Element::Node(Node::Map(inner))]);
        let error = emit_compact(&Branch::from_entries([("a".to_owned(), list)])).err();
        assert_eq!(error, Some(Error::Emit { format: Format::Json, path: "a.b".to_owned(), problem }));
    };
    refused(Scalar::Float(f64::NAN), EmitProblem::Number);
    refused(Scalar::Float(f64::INFINITY), EmitProblem::Number);
    refused(Scalar::Float(f64::NEG_INFINITY), EmitProblem::Number);
    refused(Scalar::Text(Plaintext::new(b"\xff".to_vec())), EmitProblem::NotText);
}

fn text(text: &str) -> Scalar {
    Scalar::Text(Plaintext::new(text.as_bytes().to_vec()))
}

proptest! {
    #[test]
    fn every_text_reads_back(key in ".*", value in ".*") {
        let branch = Branch::from_entries([(key.clone(), Node::text(value.clone()))]);
        for file in [emit_compact(&branch).unwrap(), emit(&Tree { documents: vec![branch.duplicate()] }).unwrap()] {
            let tree = parse(file.bytes(), &Limits::default()).unwrap();
            let Some(Node::Leaf(leaf)) = tree.documents[0].get(&key) else { panic!("no leaf") };
            prop_assert_eq!(leaf.clear_text(), Some(value.as_str()));
        }
    }

    #[test]
    fn every_double_reads_back(bits: u64) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        let tree = parse(compact(Scalar::Float(value)).unwrap().as_bytes(), &Limits::default()).unwrap();
        let read = match tree.documents[0].get("k") {
            Some(Node::Leaf(Leaf { scalar: Scalar::Float(read), .. })) => read.to_bits(),
            // Whole numbers are written without a point and so are read as integers.
            Some(Node::Leaf(Leaf { scalar: Scalar::Int(read), .. })) => (read.to_string().parse::<f64>().unwrap()).to_bits(),
            _ => panic!("no number"),
        };
        prop_assert_eq!(read, bits);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = parse(&bytes, &Limits::default());
    }
}
