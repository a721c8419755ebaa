use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::format::json;

/// `[input, output format, output]` as the program `sops` 3.11.0 reads and writes it; null where it
/// refuses. Made by giving `sops -d --ignore-mac` each input with the metadata of another file added.
const CORPUS: &str = include_str!("../../../tests/data/stores/ini.jsonl");

fn read(bytes: &[u8]) -> Result<Tree, Error> {
    parse(bytes, &Limits::default())
}

fn written(plaintext: Result<Plaintext, Error>) -> Result<String, Error> {
    plaintext.map(|plaintext| String::from_utf8(plaintext.bytes().to_vec()).unwrap())
}

fn section(name: &str, entries: impl IntoIterator<Item = (&'static str, Node)>) -> Tree {
    let entries = entries.into_iter().map(|(key, value)| (key.to_owned(), value));
    Tree { documents: vec![Branch::from_entries([(name.to_owned(), Node::Map(Branch::from_entries(entries)))])] }
}

fn refusal(tree: &Tree) -> (String, EmitProblem) {
    match emit(tree) {
        Err(Error::Emit { format: Format::Ini, path, problem }) => (path, problem),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was written"),
    }
}

fn value_at<'t>(tree: &'t Tree, path: &[&str]) -> &'t [u8] {
    match tree.documents[0].at(path) {
        Some(Node::Leaf(Leaf { scalar: Scalar::Text(text), .. })) => text.bytes(),
        _ => panic!("no text at {path:?}"),
    }
}

#[test]
fn ini_is_read_and_written_as_sops_does() {
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
fn comments_stand_first_in_a_section_and_behind_their_key() {
    let tree = read(b"; of the section\n[s]\n# of a\na = 1\n;of b\n;more\nb = 2 # inline\n").unwrap();
    let Some(Node::Map(branch)) = tree.documents[0].get("s") else { panic!("no section") };
    let items: Vec<String> = branch
        .items
        .iter()
        .map(|item| match item {
            Item::Entry(entry) => format!("{}@{}", entry.key, entry.at.line),
            Item::Comment(comment) => format!("#{}", comment.text.text().unwrap()),
        })
        .collect();
    assert_eq!(items, ["#of the section", "a@4", "#of a", "b@7", "#of b\n;more\n# inline"]);
}

#[test]
fn metadata_is_read_with_escaped_and_with_real_line_breaks() {
    // Up to 3.12 and from 3.13.2 on; then 3.13.0 and 3.13.1.
    let escaped = read(b"[sops]\nage__list_0__map_enc = -----BEGIN\\nYWdl\\n-----END\\n\nmac = x\n").unwrap();
    assert_eq!(value_at(&escaped, &["sops", "age__list_0__map_enc"]), br"-----BEGIN\nYWdl\n-----END\n");
    let real = read(b"[sops]\nage__list_0__map_enc = \"\"\"-----BEGIN\nYWdl\n-----END\n\"\"\"\nmac = x\n").unwrap();
    assert_eq!(value_at(&real, &["sops", "age__list_0__map_enc"]), b"-----BEGIN\nYWdl\n-----END\n");
    assert_eq!(value_at(&real, &["sops", "mac"]), b"x");
}

#[test]
fn values_are_bytes_and_names_are_text() {
    let tree = read(b"k = \xff;\n").unwrap();
    assert_eq!(value_at(&tree, &["DEFAULT", "k"]), b"\xff");
    assert_eq!(emit(&tree).unwrap().bytes(), b"; ;\nk = \xff\n".strip_prefix(b"; ;\n").unwrap());
    let problem = "refuses a key or section name that is not UTF-8";
    for file in [b"a=\n\xff=\n".as_slice(), b"a=\n[\xff]\n"] {
        let at = Position { line: 2, column: 1 };
        assert_eq!(read(file).err(), Some(Error::Syntax { format: Format::Ini, at, problem }));
    }
}

#[test]
fn utf16_is_refused() {
    for file in [b"\xff\xfea\0=\0".as_slice(), b"\xfe\xff\0a\0="] {
        assert!(matches!(read(file), Err(Error::Syntax { problem: "refuses UTF-16", .. })));
    }
}

#[test]
fn sections_keys_and_comments_are_bounded() {
    let limits = Limits { nodes: 3, comments: 1, ..Limits::default() };
    assert!(parse(b"[s]\na=\nb= ;\n", &limits).is_ok());
    let refused = |file: &[u8]| match parse(file, &limits) {
        Err(Error::Limit { bound, limit, at }) => (bound, limit, at.line),
        _ => panic!("no bound was crossed"),
    };
    assert_eq!(refused(b"[s]\na=\nb=\nc=\n"), (Bound::Nodes, 3, 4));
    assert_eq!(refused(b"[s]\n[s]\n[s]\n[s]\n"), (Bound::Nodes, 3, 4));
    assert_eq!(refused(b"a= ;\nb= ;\n"), (Bound::Comments, 1, 2));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a bound of cost is seen by a clock alone")]
fn hostile_files_cost_no_more_than_their_size() {
    let started = Instant::now();
    let keys = (0..100_000).fold(String::new(), |keys, number| keys + &format!("k{number}=\n"));
    let _ = read(keys.as_bytes()).unwrap();
    let _ = read(&[b"k = ".as_slice(), "a\\\n".repeat(500_000).as_bytes()].concat()).unwrap();
    let _ = read(&[b"k = `".as_slice(), "\"\"\"\n".repeat(500_000).as_bytes()].concat());
    let _ = read(&[b"k = ".as_slice(), &b"\xe2\x80\x80".repeat(500_000)].concat()).unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn what_would_read_back_as_something_else_is_refused() {
    let refused = |tree: Tree, path: &str, problem: EmitProblem| assert_eq!(refusal(&tree), (path.to_owned(), problem));
    // `sops` writes each of these but an empty name: a comment, a header, a shorter key, garbage.
    for (key, path) in
        [("#1", "s.#1"), ("[x", "s.[x"), (" a", "s. a"), ("a`=", "s.a`="), ("", "s."), ("a\nb", "s.a\nb"), ("-", "s.-")]
    {
        refused(section("s", [(key, Node::text("v"))]), path, EmitProblem::Character);
    }
    refused(section("a\nb", []), "a\nb", EmitProblem::Character);
    refused(section("", []), "", EmitProblem::Character);
    refused(section("s", [("k", Node::text("\"\"\"\n`\nx"))]), "s.k", EmitProblem::Character);
    refused(section("s", [("k", Node::Leaf(Leaf::clear(Scalar::Null)))]), "s.k", EmitProblem::Null);
    refused(section("s", [("k", Node::List(Vec::new()))]), "s.k", EmitProblem::Nested);
    refused(section("s", [("k", Node::text("1")), ("k", Node::text("2"))]), "s.k", EmitProblem::Repeated);
    let flat = Tree { documents: vec![Branch::from_entries([("k".to_owned(), Node::text("v"))])] };
    refused(flat, "k", EmitProblem::NoSection);
    let two = Tree { documents: vec![Branch::default(), Branch::default()] };
    refused(two, "", EmitProblem::Documents);
}

#[test]
fn a_value_is_quoted_differently_where_the_form_of_sops_would_lose_it() {
    // `sops` writes these bare; they would be read without their quotes, or joined with the next line.
    for (value, line) in [("\"v\"", "k = `\"v\"`\n"), ("'v'", "k = `'v'`\n"), ("a\\", "k = `a\\`\n")] {
        let file = emit(&section("DEFAULT", [("k", Node::text(value))])).unwrap();
        assert_eq!(file.bytes(), line.as_bytes());
        assert_eq!(value_at(&read(line.as_bytes()).unwrap(), &["DEFAULT", "k"]), value.as_bytes());
    }
}

#[test]
fn a_first_section_named_like_the_default_keeps_its_header() {
    // `sops` leaves it out, which renames the section.
    assert_eq!(written(emit(&section("default", [("k", Node::text("v"))]))).unwrap(), "[default]\nk = v\n");
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        name in "[a\\]\\[ ;#\\n]{1,3}",
        keys in proptest::collection::btree_set("[a`\"=:#; \\-\\[\\n]{0,4}", 1..3),
        value in "[a`\"'=:#; \\\\\\r\\n\u{a0}]{0,6}",
    ) {
        let entries = keys.iter().map(|key| (key.clone(), Node::text(value.clone())));
        let section = Node::Map(Branch::from_entries(entries));
        let tree = Tree { documents: vec![Branch::from_entries([(name.clone(), section)])] };
        if let Ok(file) = emit(&tree) {
            let read = parse(file.bytes(), &Limits::default()).unwrap();
            let sections: Vec<&str> = read.documents[0].entries().map(|entry| entry.key.as_str()).collect();
            prop_assert_eq!(sections, ["DEFAULT", name.as_str()]);
            let Some(Node::Map(branch)) = read.documents[0].get(&name) else { panic!("no section") };
            prop_assert_eq!(branch.entries().map(|entry| entry.key.clone()).collect::<std::collections::BTreeSet<_>>(), keys.clone());
            for key in &keys {
                prop_assert_eq!(value_at(&read, &[&name, key]), value.as_bytes());
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = parse(&bytes, &Limits::default()).map(|tree| emit(&tree));
    }
}
