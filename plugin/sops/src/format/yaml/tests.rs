use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::error::{Bound, EmitProblem, Error, ValueProblem};
use crate::limits::Limits;
use crate::plaintext::Plaintext;
use crate::scalar::Dialect;
use crate::tree::{Branch, Comment, Element, Entry, Item, Leaf, Node, Origin, Position, Scalar, Tree};

fn read(text: &str, dialect: Dialect) -> Result<Tree, Error> {
    parse(text.as_bytes(), &Limits::default())?.into_tree(dialect)
}

/// The documents in one line each, read as SOPS does.
fn sops(text: &str) -> Vec<String> {
    read(text, Dialect::Sops).unwrap().documents.iter().map(shape).collect()
}

fn kubernetes(text: &str) -> Vec<String> {
    read(text, Dialect::Kubernetes).unwrap().documents.iter().map(shape).collect()
}

fn refusal(text: &str, dialect: Dialect) -> Error {
    read(text, dialect).err().unwrap_or_else(|| panic!("was read: {text}"))
}

fn rule(error: &Error) -> (u32, &'static str) {
    let Error::Syntax { at, problem, .. } = error else { panic!("no rule of the format: {error}") };
    (at.line, problem)
}

/// `{#comment key=value ..}`; text in single quotes, other types bare, times with `@`.
fn shape(branch: &Branch) -> String {
    let item = |item: &Item| match item {
        Item::Comment(comment) => shape_of_comment(comment),
        Item::Entry(entry) => {
            let equals = if entry.merge { "<=" } else { "=" };
            format!("{}{equals}{}", entry.key, shape_of_node(&entry.value))
        }
    };
    format!("{{{}}}", branch.items.iter().map(item).collect::<Vec<_>>().join(" "))
}

fn shape_of_node(node: &Node) -> String {
    let element = |element: &Element| match element {
        Element::Comment(comment) => shape_of_comment(comment),
        Element::Node(node) => shape_of_node(node),
    };
    match node {
        Node::Map(branch) => shape(branch),
        Node::List(elements) => format!("[{}]", elements.iter().map(element).collect::<Vec<_>>().join(" ")),
        Node::Leaf(leaf) => match &leaf.scalar {
            Scalar::Null => "null".to_owned(),
            Scalar::Bool(value) => value.to_string(),
            Scalar::Int(value) => value.to_string(),
            Scalar::Uint(value) => format!("{value}u"),
            Scalar::Float(value) => format!("{value:?}"),
            Scalar::Time(value) => format!("@{value}"),
            Scalar::Text(value) => format!("'{}'", String::from_utf8_lossy(value.bytes())),
        },
    }
}

fn shape_of_comment(comment: &Comment) -> String {
    format!("#{}", String::from_utf8_lossy(comment.text.bytes()))
}

// What a stream holds.

#[test]
fn every_scalar_style_is_read() {
    let text = "a: plain text\n\
                b: 'single '' quote'\n\
                c: \"double \\u00e9\\n\"\n\
                d: |\n  two\n  lines\n\
                e: >-\n  folded\n  text\n\
                f: plain\n  continued\n";
    let expected =
        "{a='plain text' b='single ' quote' c='double é\n' d='two\nlines\n' e='folded text' f='plain continued'}";
    assert_eq!(sops(text), [expected]);
}

#[test]
fn quoted_and_block_text_is_text() {
    assert_eq!(sops("a: '1'\nb: \"true\"\nc: |-\n  1\nd: >-\n  null\n"), ["{a='1' b='true' c='1' d='null'}"]);
}

#[test]
fn a_block_at_the_end_without_line_break_has_none() {
    assert_eq!(sops("a: |\n  text"), ["{a='text'}"]);
    assert_eq!(sops("a: |\n  text\n"), ["{a='text\n'}"]);
}

#[test]
fn documents_are_kept_in_order_and_empty_ones_are_empty_mappings() {
    assert_eq!(
        sops("a: 1\n---\nb: 2\n...\n---\n---\nnull\n---\nc: 3\n---\n"),
        ["{a=1}", "{b=2}", "{}", "{}", "{c=3}", "{}"]
    );
    assert_eq!(sops(""), [""; 0]);
    assert_eq!(sops("# nothing\n"), [""; 0]);
}

#[test]
fn tags_type_a_value_or_vanish() {
    let text =
        "a: !!str 12\nb: !!int \"42\"\nc: !!float 1\nd: !foo 1\ne: ! 12\nf: !!binary aGk=\ng: !!set {x: 1}\nh: !!str\n";
    assert_eq!(sops(text), ["{a='12' b=42 c=1.0 d='1' e=12 f='hi' g={x=1} h=''}"]);
    assert_eq!(kubernetes(text), ["{a='12' b=42 c=1.0 d='1' e='12' f='hi' g={x=1} h=''}"]);
    assert_eq!(
        sops("%TAG !y! tag:yaml.org,2002:\n---\na: !y!str 1\nb: !<tag:yaml.org,2002:str> 2\n"),
        ["{a='1' b='2'}"]
    );
}

#[test]
fn the_two_readers_disagree_on_words_times_and_big_integers() {
    let text = "a: yes\nb: off\nc: 2001-12-14\nd: 0o14\n";
    assert_eq!(sops(text), ["{a='yes' b='off' c=@2001-12-14T00:00:00Z d=12}"]);
    assert_eq!(kubernetes(text), ["{a=true b=false c='2001-12-14' d=12}"]);
    assert_eq!(kubernetes("a: 18446744073709551615\n"), ["{a=18446744073709551615u}"]);
}

#[test]
fn an_integer_that_sops_cannot_hash_is_refused_by_its_path() {
    let error = refusal("a:\n  b:\n  - c: 18446744073709551615\n", Dialect::Sops);
    let at = Position { line: 3, column: 8 };
    assert_eq!(error, Error::Value { path: "a.b.c".to_owned(), at, problem: ValueProblem::Unhashable });
}

#[test]
fn numbers_that_json_cannot_hold_are_refused_for_kubernetes() {
    for text in ["a: .nan\n", "a: .inf\n", "a: -.Inf\n", "a: !!binary /w==\n"] {
        assert_eq!(rule(&refusal(text, Dialect::Kubernetes)).0, 1);
        assert!(read(text, Dialect::Sops).is_ok());
    }
}

#[test]
fn entries_know_where_they_stand() {
    let tree = read("a: 1\nb:\n  é: {x: 2, y: 3}\n", Dialect::Sops).unwrap();
    let positions =
        |branch: &Branch| branch.entries().map(|entry| (entry.at.line, entry.at.column)).collect::<Vec<_>>();
    assert_eq!(positions(&tree.documents[0]), [(1, 1), (2, 1)]);
    let Some(Node::Map(inner)) = tree.documents[0].at(&["b", "é"]) else { panic!("a mapping") };
    assert_eq!(positions(inner), [(3, 7), (3, 13)]);
}

// Encodings.

#[test]
fn utf_16_is_read_where_a_mark_says_so() {
    let text = "a: é\u{1F600}\n";
    let units = || std::iter::once(0xFEFF).chain(text.encode_utf16());
    let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
    for bytes in [little, big] {
        let tree = parse(&bytes, &Limits::default()).unwrap().into_tree(Dialect::Sops).unwrap();
        assert_eq!(shape(&tree.documents[0]), "{a='é\u{1F600}'}");
    }
}

#[test]
fn half_a_utf_16_character_is_refused() {
    for bytes in [&[0xFF, 0xFE, b'a'][..], &[0xFF, 0xFE, 0x00, 0xD8]] {
        let error = parse(bytes, &Limits::default()).err().unwrap();
        assert_eq!(rule(&error).1, "a UTF-16 file has half a character");
    }
}

#[test]
fn the_utf_8_mark_is_skipped() {
    assert_eq!(sops("\u{FEFF}a: 1\n"), ["{a=1}"]);
}

#[test]
fn what_is_not_utf_8_is_refused_at_its_line() {
    let error = parse(b"a: 1\nb: \xFF\n", &Limits::default()).err().unwrap();
    assert_eq!(
        error,
        Error::Syntax {
            format: crate::Format::Yaml,
            at: Position { line: 2, column: 4 },
            problem: "a byte is not UTF-8"
        }
    );
}

#[test]
fn windows_line_breaks_are_line_breaks() {
    assert_eq!(sops("a: |\r\n  x\r\n  y\r\nb: 1\r\n"), ["{a='x\ny\n' b=1}"]);
}

#[test]
fn line_breaks_that_only_go_sees_are_refused_wherever_they_stand() {
    for character in ['\u{85}', '\u{2028}', '\u{2029}'] {
        for text in [format!("a: x{character}y\n"), format!("# x{character}b: 1\n"), format!("a: \"x{character}y\"\n")]
        {
            assert!(rule(&refusal(&text, Dialect::Sops)).1.starts_with("a raw U+0085"), "{text:?}");
        }
    }
    assert_eq!(sops("a: \"\\N\\L\\P\"\n"), ["{a='\u{85}\u{2028}\u{2029}'}"]);
}

#[test]
fn raw_control_characters_are_refused() {
    for character in ['\0', '\u{1}', '\u{b}', '\u{1b}', '\u{7f}', '\u{80}', '\u{9f}', '\u{FFFE}', '\u{FFFF}'] {
        let text = format!("a: \"x{character}\"\n");
        assert!(rule(&refusal(&text, Dialect::Sops)).1.starts_with("a control character"), "{text:?}");
    }
    assert_eq!(sops("a: \"\u{a0}\u{FFFD}\u{10FFFF}\"\n"), ["{a='\u{a0}\u{FFFD}\u{10FFFF}'}"]);
}

// Keys.

#[test]
fn a_document_must_be_a_mapping() {
    for dialect in [Dialect::Sops, Dialect::Kubernetes] {
        assert!(rule(&refusal("a: 1\n---\n- b\n", dialect)).1.starts_with("a document is a list"));
        assert!(rule(&refusal("text\n", dialect)).1.starts_with("a document is a single value"));
        assert!(rule(&refusal("12\n", dialect)).1.starts_with("a document is a single value"));
    }
}

#[test]
fn sops_reads_text_keys_only() {
    assert_eq!(sops("yes: 1\n\"80\": 2\n\"\": 3\n!!str 1: 4\n"), ["{yes=1 80=2 =3 1=4}"]);
    for key in ["80", "1.5", "true", "~", "2001-12-14", ""] {
        assert!(rule(&refusal(&format!("{key}: x\n"), Dialect::Sops)).1.starts_with("a key is not text"), "{key}");
    }
}

#[test]
fn kubernetes_makes_integers_and_truth_values_text_keys() {
    assert_eq!(kubernetes("80: 1\n0x10: 2\nyes: 3\n2001-12-14: 4\n"), ["{80=1 16=2 true=3 2001-12-14=4}"]);
    for key in ["1.5", "~", "18446744073709551615"] {
        assert!(
            rule(&refusal(&format!("{key}: x\n"), Dialect::Kubernetes)).1.starts_with("a key is not text"),
            "{key}"
        );
    }
}

#[test]
fn a_mapping_or_list_is_no_key() {
    for text in ["? {a: 1}\n: x\n", "? [a]\n: x\n", "[a]: x\n", "a: &x {b: 1}\n*x : 1\n"] {
        assert!(rule(&refusal(text, Dialect::Sops)).1.starts_with("a key is a mapping or a list"), "{text}");
    }
}

#[test]
fn a_key_twice_is_refused_in_the_first_document_at_every_level() {
    for text in ["a: 1\nb: 2\n'a': 3\n", "x:\n  y:\n  - {a: 1, b: 2, a: 3}\n"] {
        let Error::DuplicateKey { key, at } = refusal(text, Dialect::Sops) else { panic!("another error") };
        assert_eq!((key.as_str(), at.line), ("a", 3));
    }
    let many = (0..100).map(|index| format!("k{index}: 1\n")).collect::<Vec<_>>().concat();
    let Error::DuplicateKey { at, .. } = refusal(&format!("{many}k7: 2\n"), Dialect::Sops) else {
        panic!("another error")
    };
    assert_eq!(at.line, 101);
}

#[test]
fn sops_keeps_a_key_twice_in_later_documents_and_kubernetes_does_not() {
    let text = "a: 1\n---\nb: 1\nb: 2\n";
    assert_eq!(sops(text), ["{a=1}", "{b=1 b=2}"]);
    assert!(matches!(refusal(text, Dialect::Kubernetes), Error::DuplicateKey { at: Position { line: 4, .. }, .. }));
    assert!(matches!(refusal("80: 1\n'80': 2\n", Dialect::Kubernetes), Error::DuplicateKey { .. }));
}

#[test]
fn a_merge_key_is_an_ordinary_entry_that_is_marked() {
    assert_eq!(sops("a: &x {b: 1}\n<<: *x\nc: {'<<': {d: 1}}\n"), ["{a={b=1} <<<={b=1} c={<<<={d=1}}}"]);
    let text = "a: {<<: {x: 1}}\nb: {'<<': 1}\nc: {!!merge <<: {}}\nd: {!!str <<: 1}\n";
    assert_eq!(kubernetes(text), ["{a={<<<={x=1}} b={<<=1} c={<<<={}} d={<<=1}}"]);
}

#[test]
fn only_mappings_and_lists_of_mappings_are_merged() {
    let rule = "merges what is no mapping and no list of mappings";
    for text in ["<<: x\n", "a: {<<: 1}\n", "<<: [{a: 1}, x]\n", "<<:\n", "<<: [[]]\n"] {
        for dialect in [Dialect::Sops, Dialect::Kubernetes] {
            assert!(matches!(refusal(text, dialect), Error::Syntax { problem, .. } if problem == rule), "{text}");
        }
    }
    assert_eq!(sops("<<: [{a: 1}, {b: 2}]\n"), ["{<<<=[{a=1} {b=2}]}"]);
}

#[test]
fn the_yaml_1_2_directive_is_read() {
    assert_eq!(sops("%YAML 1.2\n---\na: 1\n"), ["{a=1}"]);
}

#[test]
fn a_top_level_key_is_found_in_any_document() {
    let found = |text: &str| parse(text.as_bytes(), &Limits::default()).unwrap().has_top_level("sops");
    assert!(found("a: 1\nsops: {}\n"));
    assert!(found("a: 1\n---\n'sops': {}\n"));
    assert!(!found("a: {sops: 1}\nb: sops\nc: [sops]\n"));
}

// Anchors.

#[test]
fn aliases_are_expanded() {
    let text = "a: &x\n  b: [1, &y two]\nc: *x\nd: *y\n*y : 3\n";
    assert_eq!(sops(text), ["{a={b=[1 'two']} c={b=[1 'two']} d='two' two=3}"]);
    assert_eq!(sops("&k key: 1\nb: *k\n"), ["{key=1 b='key'}"]);
}

#[test]
fn an_anchor_ends_with_its_document() {
    assert!(rule(&refusal("a: &x 1\n---\nb: *x\n", Dialect::Sops)).1.starts_with("an alias names an anchor"));
    assert!(rule(&refusal("a: *x\nb: &x 1\n", Dialect::Sops)).1.starts_with("an alias names an anchor"));
}

#[test]
fn an_anchor_has_a_name_that_every_reader_ends_at_the_same_place() {
    assert_eq!(sops("a: &N_1-x 1\nb: *N_1-x\n"), ["{a=1 b=1}"]);
    for text in ["a: &n:b c\n", "a: &é 1\n", "a: &n 1\nb: [&n.x 2, *n.x ]\n"] {
        assert!(rule(&refusal(text, Dialect::Sops)).1.starts_with("an anchor's name"), "{text}");
    }
}

#[test]
fn plain_text_that_go_splits_is_refused() {
    assert_eq!(
        sops("a: ?x\nb: :x\nc: ['?x', x?, x:y, 'x:', {y: , z}]\n"),
        ["{a='?x' b=':x' c=['?x' 'x?' 'x:y' 'x:' {y=null z=null}]}"]
    );
    for text in
        ["a: [?x]\n", "a: {?x: 1}\n", "a: [:x]\n", "a: {b: [x, ?y]}\n", "a: [x:]\n", "a: {x:, y}\n", "a: [x :, y]\n"]
    {
        assert!(rule(&refusal(text, Dialect::Sops)).1.starts_with("inside `[]`"), "{text}");
    }
}

#[test]
fn an_alias_inside_its_own_node_is_refused() {
    let error = refusal("a: &x\n  b: *x\n", Dialect::Sops);
    assert_eq!(rule(&error), (2, "an alias stands inside the node that it repeats"));
}

// Bounds.

fn bounded(text: &str, limits: Limits) -> Result<(), (Bound, usize)> {
    match parse(text.as_bytes(), &limits) {
        Ok(_) => Ok(()),
        Err(Error::Limit { bound, limit, .. }) => Err((bound, limit)),
        Err(other) => panic!("another error: {other}"),
    }
}

#[test]
fn nesting_is_bounded() {
    let flow = |depth: usize| format!("a: {}{}\n", "[".repeat(depth - 1), "]".repeat(depth - 1));
    let block = |depth: usize| format!("a:\n  {}x\n", "- ".repeat(depth - 1));
    let aliased = |depth: usize| format!("a: &x [[]]\nb: {}*x{}\n", "[".repeat(depth - 3), "]".repeat(depth - 3));
    let limits = Limits { nesting: 7, ..Limits::default() };
    for text in [flow, block, aliased] {
        assert_eq!(bounded(&text(7), limits), Ok(()));
        assert_eq!(bounded(&text(8), limits), Err((Bound::Nesting, 7)), "{}", text(8));
    }
}

#[test]
fn nodes_are_bounded() {
    // The mapping, the list and its elements.
    let limits = Limits { nodes: 5, ..Limits::default() };
    assert_eq!(bounded("a: [1, 2, 3]\n", limits), Ok(()));
    assert_eq!(bounded("a: [1, 2, 3, 4]\n", limits), Err((Bound::Nodes, 5)));
    assert_eq!(bounded("a: 1\n---\nb: 1\n---\n", limits), Ok(()));
    assert_eq!(bounded("a: 1\n---\nb: 1\n---\n---\n", limits), Err((Bound::Nodes, 5)));
}

#[test]
fn what_aliases_make_is_bounded() {
    let limits = Limits { alias_nodes: 6, ..Limits::default() };
    assert_eq!(bounded("a: &x [1, 2]\nb: [*x, *x]\n", limits), Ok(()));
    assert_eq!(bounded("a: &x [1, 2]\nb: [*x, *x, *x]\n", limits), Err((Bound::AliasNodes, 6)));
    let limits = Limits { alias_bytes: 10, ..Limits::default() };
    assert_eq!(bounded("a: &x {key: te}\nb: [*x, *x]\n", limits), Ok(()));
    assert_eq!(bounded("a: &x {key: tex}\nb: [*x, *x]\n", limits), Err((Bound::AliasBytes, 10)));
}

#[test]
fn comments_are_bounded() {
    let limits = Limits { comments: 200, ..Limits::default() };
    for start in ["a:\n", "a: 1\n", ""] {
        assert_eq!(bounded(&format!("{start}{}", "# c\n".repeat(200)), limits), Ok(()));
        assert_eq!(bounded(&format!("{start}{}", "# c\n".repeat(201)), limits), Err((Bound::Comments, 200)));
    }
}

#[test]
fn hostile_input_is_refused_before_it_costs() {
    let bomb = {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..30 {
            let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
            text.extend(["a", &level.to_string(), ": &a", &level.to_string(), " [", &aliases, "]\n"]);
        }
        text
    };
    assert_eq!(bounded(&bomb, Limits::default()), Err((Bound::AliasNodes, 50_000)));
    for (open, rest) in [("[", ""), ("{a: ", ""), ("- ", ""), ("? ", ""), ("[", "]"), ("- [", "")] {
        let text = format!("a:\n  {}{}", open.repeat(100_000), rest.repeat(100_000));
        let found = parse(text.as_bytes(), &Limits::default());
        assert!(found.is_err_and(|error| !matches!(error, Error::TooLarge { .. })), "{open}");
    }
    let stairs = (0..3000).map(|level| " ".repeat(level) + "a:\n").collect::<Vec<_>>().concat();
    assert_eq!(bounded(&stairs, Limits::default()), Err((Bound::Nesting, 100)));
}

// Comments; the places are those that go-yaml gives SOPS.

#[test]
fn a_comment_above_a_key_stands_before_it() {
    assert_eq!(sops("# head\n\n# above\na: 1\n# next\nb: 2\n# end\n"), ["{# head # above a=1 # next b=2 # end}"]);
}

#[test]
fn an_inline_comment_comes_before_its_entry() {
    assert_eq!(
        sops("x: 0\na: 1 # one\nb: # two\n  c: 1\nd: | # three\n  text\n"),
        ["{x=0 # one a=1 # two b={c=1} # three d='text\n'}"]
    );
    assert_eq!(sops("a:\n- x # one\n- y\n"), ["{a=[# one 'x' 'y']}"]);
    assert_eq!(sops("a: &x 1\nb: *x # one\n"), ["{a=1 # one b=1}"]);
}

#[test]
fn a_comment_indented_like_a_nested_block_belongs_to_it() {
    assert_eq!(sops("a:\n  # in\n  b: 1\n  # foot\n# out\nc: 2\n"), ["{a={# in b=1 # foot} # out c=2}"]);
    assert_eq!(sops("a:\n  - x\n  # foot\nb: 1\n"), ["{a=['x' # foot] b=1}"]);
    assert_eq!(sops("a:\n- x\n# out\nb: 1\n"), ["{a=['x'] # out b=1}"]);
    assert_eq!(sops("a:\n    - b:\n        - x\n      # out\n      c: 1\n"), ["{a=[{b=['x'] # out c=1}]}"]);
    assert_eq!(sops("a:\n- - x\n# out\nb:\n  - - y\n    # foot\n  - z\n"), ["{a=[['x']] # out b=[['y' # foot] 'z']}"]);
}

#[test]
fn a_comment_above_an_element_is_the_lists() {
    assert_eq!(
        sops("a:\n  # one\n  - x\n  # two\n  - b: 1\n    # three\n    c: 2\n"),
        ["{a=[# one 'x' # two {b=1 # three c=2}]}"]
    );
}

#[test]
fn a_comment_behind_the_first_key_of_an_element_is_in_its_mapping() {
    assert_eq!(sops("a:\n- b: x # c\n  d: 1\n"), ["{a=[{# c b='x' d=1}]}"]);
}

#[test]
fn a_comment_behind_a_flow_collection_stands_before_its_first_element() {
    assert_eq!(sops("k: [x, y] # c\nl: {g: 1} # d\n"), ["{k=[# c 'x' 'y'] l={# d g=1}}"]);
}

#[test]
fn a_comment_between_documents_ends_the_first() {
    assert_eq!(sops("# head\n---\na: 1\n# foot\n---\n# second\nb: 1\n"), ["{# head a=1 # foot}", "{# second b=1}"]);
}

#[test]
fn an_alias_repeats_values_but_no_comments() {
    assert_eq!(sops("a: &x\n  # c\n  b: 1\nd: *x\n"), ["{a={# c b=1} d={b=1}}"]);
}

#[test]
fn many_comments_in_a_row_are_read() {
    let text = format!("a:\n{}  b: 1\n", "  # c\n".repeat(5000));
    assert!(parse(text.as_bytes(), &Limits::default()).is_ok());
}

// Writing.

fn written(text: &str) -> String {
    let tree = read(text, Dialect::Sops).unwrap();
    String::from_utf8(emit(&tree).unwrap().bytes().to_vec()).unwrap()
}

fn manifest(entries: Vec<(&str, Node)>) -> String {
    let branch = Branch::from_entries(entries.into_iter().map(|(key, node)| (key.to_owned(), node)));
    String::from_utf8(emit_manifest(&branch).unwrap().bytes().to_vec()).unwrap()
}

#[test]
fn what_is_in_its_written_form_is_written_again() {
    let text = "# head\n\
                a: plain text\n\
                # above\n\
                b:\n    \
                    # inside\n    \
                    c: \"yes\"\n    \
                    d:\n        \
                        - 1\n        \
                        # in the list\n        \
                        - e: 2.0\n          \
                          f: |\n              \
                                two\n              \
                                lines\n        \
                        - - null\n          \
                          - true\n        \
                        - {}\n    \
                    g: 2001-12-14T00:00:00Z\n\
                <<:\n    h: []\n\
                ---\n\
                {}\n\
                ---\n\
                i: 1.0e+300\n";
    assert_eq!(written(text), text);
}

#[test]
fn text_stands_plain_only_where_it_is_text_for_every_reader() {
    let quoted = [
        "yes",
        "NO",
        "off",
        "y",
        "null",
        "~",
        "",
        "1_000",
        "0b11",
        "12:30:45",
        "2001-12-14",
        ".5",
        "=",
        "<<",
        "- a",
        "a: b",
        "a #b",
        " a",
        "a ",
        "a:",
        "!a",
        "&a",
        "*a",
        "[a]",
        "{a}",
        "a, b",
        "%a",
        "@a",
        "`a",
        "'a",
        "---",
        "\u{85}",
        "\u{FEFF}a",
        "a\tb",
    ];
    for text in quoted {
        assert!(manifest_like(text).starts_with("k: \""), "{text}");
    }
    for text in ["word", "two words", "http://host:80/path", "größe"] {
        assert_eq!(manifest_like(text), format!("k: {text}\n"));
    }
}

/// `k: text` as people get it.
fn manifest_like(text: &str) -> String {
    let branch = Branch::from_entries([("k".to_owned(), Node::text(text))]);
    String::from_utf8(emit(&Tree { documents: vec![branch] }).unwrap().bytes().to_vec()).unwrap()
}

#[test]
fn a_manifest_quotes_every_text_and_escapes_what_readers_disagree_on() {
    let entries = vec![
        ("plain", Node::text("word")),
        ("on", Node::text("a\"b\\c\n\t\u{0}\u{7f}\u{85}\u{2028}\u{FEFF}\u{FDD0}\u{1FFFE}é\u{1F600}")),
        ("list", Node::List(vec![Element::Node(Node::text("1")), Element::Node(Node::Map(Branch::default()))])),
        ("time", Node::Leaf(Leaf::clear(Scalar::Time("2001-12-14T00:00:00Z".to_owned())))),
    ];
    let expected = "plain: \"word\"\n\
                    \"on\": \"a\\\"b\\\\c\\n\\t\\u0000\\u007F\\u0085\\u2028\\uFEFF\\uFDD0\\U0001FFFEé\u{1F600}\"\n\
                    list:\n  - \"1\"\n  - {}\n\
                    time: \"2001-12-14T00:00:00Z\"\n";
    assert_eq!(manifest(entries), expected);
}

#[test]
fn a_manifest_with_what_json_cannot_hold_is_refused_by_its_path() {
    for (node, problem) in [
        (Node::Leaf(Leaf::clear(Scalar::Float(f64::NAN))), EmitProblem::Number),
        (Node::text(vec![0xFF]), EmitProblem::NotText),
    ] {
        let inner = Branch::from_entries([("b".to_owned(), node)]);
        let outer = Branch::from_entries([("a".to_owned(), Node::List(vec![Element::Node(Node::Map(inner))]))]);
        let error = emit_manifest(&outer).err().unwrap();
        assert_eq!(error, Error::Emit { format: crate::Format::Yaml, path: "a.b".to_owned(), problem });
    }
}

#[test]
fn no_line_of_a_decrypted_comment_becomes_data() {
    for line_break in ["\n", "\r", "\r\n", "\u{85}", "\u{2028}"] {
        let text = Plaintext::new(format!(" c{line_break}b: 2\u{1}").into_bytes());
        let comment = Item::Comment(Comment { text, origin: Origin::Decrypted });
        let mut branch = Branch::from_entries([("a".to_owned(), Node::text("x"))]);
        branch.items.insert(0, comment);
        let out = emit(&Tree { documents: vec![branch] }).unwrap();
        let back = read(out.text().unwrap(), Dialect::Sops).unwrap();
        assert_eq!(back.documents[0].entries().count(), 1, "{line_break:?}");
    }
}

#[test]
fn bytes_that_are_no_text_are_written_as_binary() {
    let branch = Branch::from_entries([("k".to_owned(), Node::text(vec![0xFF, 0x00]))]);
    let out = emit(&Tree { documents: vec![branch] }).unwrap();
    assert_eq!(out.text(), Some("k: !!binary /wA=\n"));
    let back = read("k: !!binary /wA=\n", Dialect::Sops).unwrap();
    let Some(Node::Leaf(Leaf { scalar: Scalar::Text(bytes), .. })) = back.documents[0].get("k") else { panic!("text") };
    assert_eq!(bytes.bytes(), [0xFF, 0x00]);
}

#[test]
fn what_is_written_reads_back() {
    for seed in 0..2000 {
        let mut random = Random(seed);
        let tree = Tree { documents: (0..=seed % 3).map(|_| random.branch(3, Wanted::Anything)).collect() };
        let out = emit(&tree).unwrap();
        let back =
            read(out.text().unwrap(), Dialect::Sops).unwrap_or_else(|error| panic!("{error}\n{}", out.text().unwrap()));
        let shapes =
            |tree: &Tree| tree.documents.iter().map(|branch| value_of_map(branch).to_string()).collect::<Vec<_>>();
        assert_eq!(shapes(&back), shapes(&tree), "{}", out.text().unwrap());
    }
}

/// The cases that `hack/yaml-readback` gives to the Go libraries.
#[test]
#[ignore = "a part of `hack/yaml-readback`: writes cases to the file that an environment variable names"]
fn write_cases_for_the_go_libraries() {
    use std::io::Write as _;
    #[expect(clippy::disallowed_methods, reason = "a test driver: `hack/yaml-readback` names the file")]
    let path = std::env::var("REGENT_YAML_CASES").unwrap();
    let mut lines = Vec::new();
    let mut line = |kind: &str, out: &Plaintext, value: serde_json::Value| {
        writeln!(lines, "{kind} {} {value}", STANDARD.encode(out.bytes())).unwrap();
    };
    for seed in 0..3000 {
        let mut random = Random(seed);
        let branch = random.branch(3, Wanted::ForKubernetes);
        line("manifest", &emit_manifest(&branch).unwrap(), value_of_map(&branch));
        let tree = Tree { documents: (0..=seed % 3).map(|_| random.branch(3, Wanted::Anything)).collect() };
        let documents: Vec<_> = tree.documents.iter().map(value_of_map).collect();
        line("people", &emit(&tree).unwrap(), serde_json::json!({ "documents": documents }));
    }
    // Every character, alone and between letters.
    let characters: Vec<char> =
        ('\0'..='\u{FFFF}').chain('\u{1F5F0}'..='\u{1F64F}').chain(['\u{1FFFE}', '\u{10FFFF}']).collect();
    for chunk in characters.chunks(500) {
        let texts = chunk
            .iter()
            .flat_map(|character| [format!("{character}"), format!("a{character}b"), format!("a\n{character}b\n")]);
        let list = Node::List(texts.map(|text| Element::Node(Node::text(text))).collect());
        let mut branch = Branch::from_entries([("list".to_owned(), list)]);
        branch.items.extend(chunk.iter().map(|character| entry(format!("a{character}"), Node::text("x"))));
        line("manifest", &emit_manifest(&branch).unwrap(), value_of_map(&branch));
        let value = value_of_map(&branch);
        line("people", &emit(&Tree { documents: vec![branch] }).unwrap(), serde_json::json!({ "documents": [value] }));
    }
    // Every text that either library might take for something else.
    for case in include_str!("../../../tests/data/scalar/vectors.tsv").lines().filter(|line| !line.starts_with('#')) {
        let text: String = serde_json::from_str(case.split('\t').nth(2).unwrap()).unwrap();
        let branch = Branch::from_entries([
            ("key".to_owned(), Node::text(text.clone())),
            (text.clone() + "k", Node::text("x")),
            (text, Node::text("x")),
        ]);
        let value = value_of_map(&branch);
        line("manifest", &emit_manifest(&branch).unwrap(), value.clone());
        line("people", &emit(&Tree { documents: vec![branch] }).unwrap(), serde_json::json!({ "documents": [value] }));
    }
    #[expect(clippy::disallowed_methods, reason = "a test driver: `hack/yaml-readback` names the file")]
    std::fs::write(path, lines).unwrap();
}

/// A value with its type, comments left out: the form that `hack/scalar-vectors` compares.
fn value_of(node: &Node) -> serde_json::Value {
    use serde_json::json;
    match node {
        Node::Map(branch) => value_of_map(branch),
        Node::List(elements) => {
            let nodes = elements.iter().filter_map(|element| match element {
                Element::Node(node) => Some(value_of(node)),
                Element::Comment(_) => None,
            });
            json!({ "list": nodes.collect::<Vec<_>>() })
        }
        Node::Leaf(leaf) => match &leaf.scalar {
            Scalar::Null => json!({ "null": true }),
            Scalar::Bool(value) => json!({ "bool": value }),
            Scalar::Int(value) => json!({ "int": value.to_string() }),
            Scalar::Uint(value) => json!({ "int": value.to_string() }),
            Scalar::Float(value) => json!({ "float": format!("{value:?}") }),
            Scalar::Time(value) => json!({ "time": value }),
            Scalar::Text(value) => json!({ "text": STANDARD.encode(value.bytes()) }),
        },
    }
}

fn value_of_map(branch: &Branch) -> serde_json::Value {
    let entry = |entry: &Entry| serde_json::json!({ "key": entry.key, "value": value_of(&entry.value) });
    serde_json::json!({ "map": branch.entries().map(entry).collect::<Vec<_>>() })
}

fn entry(key: String, value: Node) -> Item {
    Item::Entry(Entry { key, merge: false, value, at: Position::default() })
}

/// Which values a generated tree holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// What the YAML of Kubernetes can hold.
    ForKubernetes,
    /// Also bytes, infinity and comments.
    Anything,
}

/// A small generator of trees (splitmix64), so that a seed names a case for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn branch(&mut self, depth: usize, wanted: Wanted) -> Branch {
        let mut branch = Branch::default();
        for index in 0..self.below(5) {
            if wanted == Wanted::Anything && self.below(4) == 0 {
                branch.items.push(Item::Comment(self.comment()));
            }
            // The index keeps keys apart.
            let mut key = format!("{}{index}", self.text());
            if self.below(20) == 0 {
                key = key.repeat(100);
            }
            branch.items.push(entry(key, self.node(depth, wanted)));
        }
        if wanted == Wanted::Anything && self.below(4) == 0 {
            branch.items.push(Item::Comment(self.comment()));
        }
        branch
    }

    fn comment(&mut self) -> Comment {
        Comment { text: Plaintext::new(self.text().into_bytes()), origin: Origin::Decrypted }
    }

    fn node(&mut self, depth: usize, wanted: Wanted) -> Node {
        match self.below(if depth == 0 { 6 } else { 8 }) {
            0..5 => Node::text(self.text()),
            5 => Node::Leaf(Leaf::clear(self.scalar(wanted))),
            6 => Node::Map(self.branch(depth - 1, wanted)),
            _ => {
                let mut elements: Vec<_> =
                    (0..self.below(4)).map(|_| Element::Node(self.node(depth - 1, wanted))).collect();
                if wanted == Wanted::Anything && self.below(3) == 0 {
                    let index = self.below(elements.len() + 1);
                    elements.insert(index, Element::Comment(self.comment()));
                }
                Node::List(elements)
            }
        }
    }

    fn scalar(&mut self, wanted: Wanted) -> Scalar {
        let bits = self.next();
        match self.below(8) {
            0 => Scalar::Null,
            1 => Scalar::Bool(bits.is_multiple_of(2)),
            2 => Scalar::Int(i64::from_ne_bytes(bits.to_ne_bytes()) >> (bits % 60)),
            3 if wanted == Wanted::ForKubernetes => Scalar::Uint(bits | (1 << 63)),
            4 | 5 => match f64::from_bits(bits) {
                value if value.is_finite() => Scalar::Float(value),
                _ if wanted == Wanted::ForKubernetes => Scalar::Float(-0.0),
                value => Scalar::Float(if value.is_nan() { f64::NAN } else { value }),
            },
            6 if wanted == Wanted::Anything => Scalar::Text(Plaintext::new(bits.to_le_bytes().to_vec())),
            7 if wanted == Wanted::Anything => Scalar::Time("2001-12-14T21:59:43.1-05:00".to_owned()),
            _ => Scalar::Float([0.0, 1.0, 1e21, 1e-7, 0.5, 1e16][self.below(6)]),
        }
    }

    fn text(&mut self) -> String {
        const PIECES: [&str; 46] = [
            "a",
            "b",
            "word",
            " ",
            "  ",
            "\n",
            "\n\n",
            "\t",
            ":",
            ": ",
            "#",
            " #",
            "-",
            "- ",
            "---",
            "...",
            "\"",
            "'",
            "\\",
            "%",
            "@",
            "`",
            "!",
            "&",
            "*",
            "|",
            ">",
            "?",
            "? ",
            "[",
            "]",
            "{",
            "}",
            ",",
            "0",
            "1",
            ".",
            "e",
            "~",
            "<<",
            "\r",
            "\u{85}",
            "\u{2028}",
            "\u{FEFF}",
            "é",
            "\u{1F600}",
        ];
        (0..self.below(7)).map(|_| PIECES[self.below(PIECES.len())]).collect()
    }
}

/// `sops --decrypt` wrote the file, of one that has every style, nesting and comment that is written here.
#[test]
fn what_sops_wrote_is_written_to_the_byte() {
    let written = include_str!("as-sops-writes-it.yaml");
    let tree = read(written, Dialect::Sops).unwrap();
    assert_eq!(emit_verbatim(&tree).unwrap().bytes(), written.as_bytes());
}

#[test]
fn what_sops_writes_by_more_than_the_tree_is_not_written_to_the_byte() {
    for text in [
        "a:\n  - b\n  # behind a list\nc: d\n",
        "? |\n  two\n  lines\n: a\n",
        "a: \"\\u2028\"\n",
        "a: \"\\uFEFFb\"\n",
        "a: \"<<\"\n",
        "a: !!binary gIA=\n",
    ] {
        let tree = read(text, Dialect::Sops).unwrap();
        assert!(matches!(emit_verbatim(&tree), Err(Error::Emit { format: crate::Format::Yaml, .. })), "{text}");
    }
}
