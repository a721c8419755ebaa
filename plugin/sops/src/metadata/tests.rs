use rstest::rstest;

use super::*;
use crate::select::Pattern;
use crate::tree::Element;

/// A mapping of texts, mappings and lists, as parsers make them.
fn map<const N: usize>(entries: [(&str, Node); N]) -> Branch {
    Branch::from_entries(entries.map(|(key, value)| (key.to_owned(), value)))
}

fn leaf(scalar: Scalar) -> Node {
    Node::Leaf(Leaf::clear(scalar))
}

fn list<const N: usize>(nodes: [Node; N]) -> Node {
    Node::List(nodes.into_iter().map(Element::Node).collect())
}

fn age(name: &str) -> Node {
    Node::Map(map([("recipient", Node::text(name)), ("enc", Node::text("wrapped"))]))
}

/// A block that is complete, with one age recipient.
fn complete() -> Branch {
    map([
        ("age", list([age("age1one")])),
        ("lastmodified", Node::text("2024-05-06T07:08:09Z")),
        ("mac", Node::text("mac")),
        ("version", Node::text("3.11.0")),
    ])
}

/// The complete block with a field more, or another value in one.
fn with(field: &str, value: Node) -> Branch {
    let mut block = complete();
    block.set(field, value);
    block
}

fn read_under(block: Branch, limits: &Limits) -> Result<Metadata, Error> {
    let mut tree = Tree { documents: vec![map([("a", Node::text("v")), ("sops", Node::Map(block))])] };
    let metadata = take(&mut tree, Format::Json, limits)?.expect("a block");
    assert!(tree.documents.iter().all(|document| document.get("sops").is_none()));
    Ok(metadata)
}

fn read(block: Branch) -> Result<Metadata, Error> {
    read_under(block, &Limits::default())
}

/// Which field a block is refused for, and why.
fn refusal(block: Branch) -> (String, &'static str) {
    match read(block) {
        Err(Error::Metadata { field, problem }) => (field, problem),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it is read"),
    }
}

fn names(metadata: &Metadata) -> Vec<Vec<String>> {
    metadata.groups.iter().map(|group| group.iter().map(ToString::to_string).collect()).collect()
}

/// The block of a flat file.
fn read_flat(format: Format, entries: &[(&str, &str)]) -> Result<Option<Metadata>, Error> {
    let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), Node::text(*value)));
    let document = match format {
        Format::Ini => map([("sops", Node::Map(Branch::from_entries(entries)))]),
        Format::Dotenv | Format::Yaml | Format::Json | Format::Binary => {
            let prefixed = entries.map(|(key, value)| (format!("sops_{key}"), value));
            Branch::from_entries(prefixed.chain([("A".to_owned(), Node::text("v"))]))
        }
    };
    take(&mut Tree { documents: vec![document] }, format, &Limits::default())
}

const FLAT: [(&str, &str); 5] = [
    ("age__list_0__map_recipient", "age1one"),
    ("age__list_0__map_enc", "one"),
    ("lastmodified", "2024-05-06T07:08:09Z"),
    ("mac", "mac"),
    ("version", "3.11.0"),
];

#[test]
fn a_complete_block_is_read() {
    let metadata = read(complete()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(names(&metadata), [["age age1one"]]);
    assert_eq!((metadata.mac.as_str(), metadata.last_modified.as_str()), ("mac", "2024-05-06T07:08:09Z"));
    assert_eq!((metadata.threshold, metadata.mac_only_encrypted), (0, false));
    assert!(matches!(metadata.rule, Rule::UnencryptedSuffix(suffix) if suffix == "_unencrypted"));
}

#[test]
fn field_names_count_in_any_case_and_only_once() {
    let mut block = complete();
    let mac = block.remove("mac").expect("a mac");
    block.set("MaC", mac);
    assert_eq!(read(block).map(|metadata| metadata.mac).ok().as_deref(), Some("mac"));
    assert_eq!(refusal(with("MAC", Node::text("other"))), ("mac".to_owned(), "stands twice"));
}

#[test]
fn unknown_fields_are_ignored_at_every_level() {
    let mut recipient = map([("recipient", Node::text("age1one")), ("enc", Node::text("e"))]);
    recipient.set("new", list([Node::text("x")]));
    assert!(read(with("age", list([Node::Map(recipient)]))).is_ok());
    assert!(read(with("new", Node::Map(map([("x", leaf(Scalar::Int(1)))])))).is_ok());
}

#[rstest]
#[case::null(leaf(Scalar::Null))]
#[case::empty_list(list([]))]
#[case::empty_mapping(Node::Map(Branch::default()))]
#[case::empty_text(Node::text(""))]
fn a_list_may_be_empty_in_every_way(#[case] value: Node) {
    assert_eq!(
        read(with("kms", value)).map(|metadata| names(&metadata)).ok(),
        Some(vec![vec!["age age1one".to_owned()]])
    );
}

#[test]
fn a_lone_mapping_is_a_list_of_one() {
    let metadata = read(with("age", age("age1lone"))).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(names(&metadata), [["age age1lone"]]);
}

#[rstest]
#[case::integer(leaf(Scalar::Int(2)))]
#[case::float(leaf(Scalar::Float(2.0)))]
#[case::text(Node::text("2"))]
#[case::float_as_text(Node::text("2.000000"))]
fn a_threshold_is_a_number_in_every_spelling(#[case] value: Node) {
    assert_eq!(read(with("shamir_threshold", value)).map(|metadata| metadata.threshold).ok(), Some(2));
}

#[rstest]
#[case::negative(leaf(Scalar::Int(-1)))]
#[case::fraction(leaf(Scalar::Float(2.5)))]
#[case::word(Node::text("two"))]
#[case::truth(leaf(Scalar::Bool(true)))]
fn a_threshold_is_whole(#[case] value: Node) {
    assert_eq!(refusal(with("shamir_threshold", value)).0, "shamir_threshold");
}

#[test]
fn a_flag_is_true_or_false_also_as_text() {
    let flag = |value| read(with("mac_only_encrypted", value)).map(|metadata| metadata.mac_only_encrypted).ok();
    assert_eq!(flag(leaf(Scalar::Bool(true))), Some(true));
    assert_eq!(flag(Node::text("true")), Some(true));
    assert_eq!(flag(Node::text("false")), Some(false));
    assert_eq!(flag(leaf(Scalar::Null)), Some(false));
    // Versions read these differently.
    for unclear in [Node::text("yes"), Node::text("1"), Node::text("True"), leaf(Scalar::Int(1))] {
        assert_eq!(flag(unclear), None);
    }
}

#[test]
fn lastmodified_may_be_unquoted_and_is_needed() {
    let read = |value| read(with("lastmodified", value)).map(|metadata| metadata.last_modified).ok();
    let time = || Some("2024-05-06T07:08:09Z".to_owned());
    assert_eq!(read(leaf(Scalar::Time("2024-05-06T07:08:09Z".to_owned()))), time());
    assert_eq!(read(Node::text("2024-05-06T7:08:09.5+00:00")), time());
    for other in [leaf(Scalar::Null), Node::text(""), Node::text("2024-05-06"), leaf(Scalar::Int(1))] {
        assert_eq!(read(other), None);
    }
}

#[rstest]
#[case("3.11.0")]
#[case("v3.11.0")]
#[case("3.9.0-rc.1+build.01")]
#[case("99.0.0")]
#[case("1.x")]
fn versions_that_the_sops_program_takes(#[case] version: &str) {
    assert!(read(with("version", Node::text(version))).is_ok());
}

#[rstest]
#[case("")]
#[case("3.8")]
#[case("V3.8.0")]
#[case("vv3.8.0")]
#[case("03.8.0")]
#[case("3.8.0.1")]
#[case("3.8.0-")]
#[case("3.8.0-01")]
#[case("3.8.0-a..b")]
#[case("3.8.0+")]
#[case(" 3.8.0")]
#[case("99999999999999999999.0.0")]
fn versions_that_the_sops_program_refuses(#[case] version: &str) {
    assert_eq!(refusal(with("version", Node::text(version))).0, "version");
}

#[test]
fn a_version_of_one_point_something_may_be_a_number() {
    assert!(read(with("version", leaf(Scalar::Float(1.1)))).is_ok());
    assert_eq!(refusal(with("version", leaf(Scalar::Float(3.8)))).0, "version");
}

#[test]
fn every_kind_of_recipient_is_named_and_tried_age_first() {
    let at = || ("created_at", Node::text("2024-05-06T07:08:09Z"));
    let block = [
        (
            "hc_vault",
            list([Node::Map(map([
                at(),
                ("vault_address", Node::text("https://v:8200")),
                ("engine_path", Node::text("transit")),
                ("key_name", Node::text("k")),
            ]))]),
        ),
        (
            "azure_kv",
            list([Node::Map(map([
                at(),
                ("vault_url", Node::text("https://a")),
                ("name", Node::text("n")),
                ("version", Node::text("1")),
            ]))]),
        ),
        ("hckms", list([Node::Map(map([at(), ("key_id", Node::text("r:u"))]))])),
        ("gcp_kms", list([Node::Map(map([at(), ("resource_id", Node::text("projects/p"))]))])),
        ("kms", list([Node::Map(map([at(), ("arn", Node::text("arn:aws:kms:r:1:key/x"))]))])),
        ("pgp", list([Node::Map(map([at(), ("fp", Node::text("ABCD"))]))])),
        ("age", list([age("age1one"), age("age1two")])),
    ]
    .into_iter()
    .fold(complete(), |mut block, (field, value)| {
        block.set(field, value);
        block
    });
    let metadata = read(block).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        names(&metadata),
        [[
            "age age1one",
            "age age1two",
            "pgp ABCD",
            "kms arn:aws:kms:r:1:key/x",
            "gcp_kms projects/p",
            "hckms r:u",
            "azure_kv https://a/keys/n/1",
            "hc_vault https://v:8200/v1/transit/keys/k",
        ]]
    );
}

#[test]
fn created_at_is_needed_for_every_kind_but_age() {
    let pgp = |entry: Branch| with("pgp", list([Node::Map(entry)]));
    assert_eq!(refusal(pgp(map([("fp", Node::text("AB"))]))), ("pgp[0].created_at".to_owned(), "is missing"));
    let wrong = map([("fp", Node::text("AB")), ("created_at", Node::text("yesterday"))]);
    assert_eq!(refusal(pgp(wrong)).0, "pgp[0].created_at");
}

#[test]
fn key_groups_count_only_where_no_recipient_stands_in_the_block_itself() {
    let group = |name| Node::Map(map([("age", list([age(name)])), ("hc_vault", list([]))]));
    let groups = || list([group("age1g"), group("age1h")]);
    assert_eq!(names(&read(with("key_groups", groups())).unwrap_or_else(|error| panic!("{error}"))), [["age age1one"]]);
    let mut block = with("key_groups", groups());
    block.remove("age");
    assert_eq!(names(&read(block).unwrap_or_else(|error| panic!("{error}"))), [["age age1g"], ["age age1h"]]);
}

#[test]
fn a_file_without_any_key_is_refused() {
    let mut block = complete();
    block.remove("age");
    assert_eq!(refusal(block), (String::new(), "names no key"));
}

#[test]
fn recipients_and_groups_are_bounded() {
    let recipients = |count: usize| Node::List((0..count).map(|_| Element::Node(age("a"))).collect());
    let groups = |count: usize| {
        let mut block = complete();
        block.remove("age");
        block.set("key_groups", Node::List((0..count).map(|_| Element::Node(Node::Map(Branch::default()))).collect()));
        block
    };
    let limits = Limits { recipients: 3, ..Limits::default() };
    let limited =
        |block| matches!(read_under(block, &limits), Err(Error::Limit { bound: Bound::Recipients, limit: 3, .. }));
    assert!(!limited(with("age", recipients(3))));
    assert!(limited(with("age", recipients(4))));
    assert!(!limited(groups(3)));
    assert!(limited(groups(4)));
}

#[rstest]
#[case("unencrypted_suffix", "s", |rule: &Rule| matches!(rule, Rule::UnencryptedSuffix(s) if s == "s"))]
#[case("encrypted_suffix", "s", |rule: &Rule| matches!(rule, Rule::EncryptedSuffix(s) if s == "s"))]
#[case("unencrypted_regex", "s", |rule: &Rule| matches!(rule, Rule::UnencryptedRegex(Pattern::Usable(_))))]
#[case("encrypted_regex", "s", |rule: &Rule| matches!(rule, Rule::EncryptedRegex(Pattern::Usable(_))))]
#[case("encrypted_regex", "(", |rule: &Rule| matches!(rule, Rule::EncryptedRegex(Pattern::NeverMatches)))]
#[case("unencrypted_comment_regex", "s", |rule: &Rule| matches!(rule, Rule::Comments))]
#[case("encrypted_comment_regex", "s", |rule: &Rule| matches!(rule, Rule::Comments))]
#[case("encrypted_regex", "", |rule: &Rule| matches!(rule, Rule::UnencryptedSuffix(s) if s == "_unencrypted"))]
fn each_rule_has_its_field(#[case] field: &str, #[case] text: &str, #[case] is: fn(&Rule) -> bool) {
    let metadata = read(with(field, Node::text(text))).unwrap_or_else(|error| panic!("{error}"));
    assert!(is(&metadata.rule));
}

#[test]
fn a_second_rule_is_refused_and_named() {
    let mut block = with("encrypted_regex", Node::text("^data$"));
    block.set("unencrypted_suffix", Node::text("_clear"));
    assert_eq!(refusal(block).0, "encrypted_regex");
}

#[rstest]
#[case(leaf(Scalar::Int(1)))]
#[case(Node::text("x"))]
#[case(list([]))]
fn the_block_is_a_mapping(#[case] block: Node) {
    let mut tree = Tree { documents: vec![map([("sops", block)])] };
    let result = take(&mut tree, Format::Yaml, &Limits::default()).map(|_| ());
    assert_eq!(result, Err(Error::Metadata { field: String::new(), problem: "must be a mapping" }));
}

#[test]
fn of_several_documents_the_first_ones_block_counts() {
    let sealed = || map([("sops", Node::Map(complete()))]);
    let garbage = || map([("sops", Node::text("garbage")), ("a", Node::text("v"))]);
    let clear = || map([("a", Node::text("v"))]);
    let mut tree = Tree { documents: vec![sealed(), garbage(), clear()] };
    assert!(matches!(take(&mut tree, Format::Yaml, &Limits::default()), Ok(Some(_))));
    assert!(tree.documents.iter().all(|document| document.get("sops").is_none()));
    let absent =
        |documents| take(&mut Tree { documents }, Format::Yaml, &Limits::default()).map(|found| found.is_some());
    assert_eq!(absent(vec![clear(), sealed()]), Err(Error::MetadataAbsent));
    assert_eq!(absent(vec![map([("sops", leaf(Scalar::Null))])]), Err(Error::MetadataAbsent));
    assert_eq!(absent(vec![clear(), clear()]), Ok(false));
    assert_eq!(absent(vec![]), Ok(false));
}

#[test]
fn a_block_that_stands_twice_is_refused() {
    let mut document = map([("sops", Node::Map(complete()))]);
    document.items.extend(map([("sops", Node::Map(complete()))]).items);
    let result = take(&mut Tree { documents: vec![document] }, Format::Json, &Limits::default()).map(|_| ());
    assert_eq!(result, Err(Error::Metadata { field: String::new(), problem: "stands twice" }));
}

#[rstest]
#[case(Format::Dotenv)]
#[case(Format::Ini)]
fn a_flat_block_has_its_levels_in_its_names(#[case] format: Format) {
    let more = [
        ("key_groups__list_0__map_age__list_0__map_enc", "x"),
        ("shamir_threshold", "2.000000"),
        ("mac_only_encrypted", "true"),
    ];
    let metadata = read_flat(format, &[FLAT.as_slice(), &more].concat()).ok().flatten().expect("a block");
    assert_eq!(names(&metadata), [["age age1one"]]);
    assert_eq!((metadata.threshold, metadata.mac_only_encrypted), (2, true));
}

#[test]
fn a_dotenv_file_keeps_its_own_keys() {
    let mut tree = Tree {
        documents: vec![map([
            ("sops", Node::text("mine")),
            ("sops_version", Node::text("3.0.0")),
            ("A", Node::text("v")),
        ])],
    };
    let _ = take(&mut tree, Format::Dotenv, &Limits::default());
    let keys: Vec<&str> = tree.documents[0].entries().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["sops", "A"]);
    assert!(matches!(read_flat(Format::Dotenv, &[]), Ok(None)));
}

#[test]
fn ini_spells_line_breaks_in_two_ways() {
    for spelled in ["one\\ntwo", "one\ntwo"] {
        let entries = FLAT.map(|(key, value)| (key, if value == "one" { spelled } else { value }));
        let metadata = read_flat(Format::Ini, &entries).ok().flatten().expect("a block");
        assert_eq!(metadata.groups[0][0].enc, "one\ntwo");
    }
}

#[test]
fn flat_lists_may_have_holes_and_huge_indexes_cost_nothing() {
    let entries = [
        ("age__list_4294967295__map_recipient", "age1last"),
        ("age__list_7__map_recipient", "age1seven"),
        ("lastmodified", "2024-05-06T07:08:09Z"),
        ("version", "3.11.0"),
    ];
    let metadata = read_flat(Format::Dotenv, &entries).ok().flatten().expect("a block");
    assert_eq!(names(&metadata), [["age age1seven", "age age1last"]]);
}

#[rstest]
#[case::no_number("age__list_x__map_enc")]
#[case::negative("age__list_-1__map_enc")]
#[case::twice("mac")]
#[case::text_and_list("age")]
#[case::map_and_list("age__map_enc")]
fn flat_names_that_contradict_are_refused(#[case] name: &str) {
    let entries = [FLAT.as_slice(), &[(name, "x")]].concat();
    assert!(matches!(read_flat(Format::Dotenv, &entries), Err(Error::Metadata { field, .. }) if field == name));
}

#[test]
fn flat_names_deeper_than_any_field_are_ignored() {
    let deep = format!("x{}", "__map_y".repeat(100_000));
    assert!(read_flat(Format::Dotenv, &[FLAT.as_slice(), &[(deep.as_str(), "v")]].concat()).is_ok());
}

#[test]
fn a_recipient_is_shown_in_one_line_of_bounded_length() {
    let name = format!("evil\nname{}", "x".repeat(10_000));
    let shown = Recipient { kind: RecipientKind::Age, name, enc: String::new() }.to_string();
    assert!(!shown.contains('\n'));
    assert!(shown.len() < 300);
}
