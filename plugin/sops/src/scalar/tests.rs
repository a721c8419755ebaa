use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

/// What the two Go libraries themselves say: `hack/scalar-vectors` wrote it.
const VECTORS: &str = include_str!("../../tests/data/scalar/vectors.tsv");

/// Names a file of further vectors; `hack/test` sets it to fresh ones.
const MORE_VECTORS: &str = "REGENT_SCALAR_VECTORS";

#[test]
fn scalars_are_what_the_go_libraries_say() {
    assert!(check(VECTORS) >= 20_000);
}

#[test]
fn fresh_scalars_are_what_the_go_libraries_say() {
    #[expect(clippy::disallowed_methods, reason = "a test driver: `hack/test` names a file")]
    if let Ok(path) = std::env::var(MORE_VECTORS) {
        assert!(check(&std::fs::read_to_string(path).unwrap()) > 0);
    }
}

#[test]
fn a_tag_is_known_however_it_is_spelled() {
    assert_eq!(Tag::of("tag:yaml.org,2002:", "int"), Tag::Int);
    assert_eq!(Tag::of("", "tag:yaml.org,2002:int"), Tag::Int);
    assert_eq!(Tag::of("tag:yaml.org,2002:i", "nt"), Tag::Int);
    assert_eq!(Tag::of("tag:yaml", ".org,2002:binary"), Tag::Binary);
    assert_eq!(Tag::of("", "!"), Tag::NonSpecific);
    assert_eq!(Tag::of("!", "int"), Tag::Other);
    assert_eq!(Tag::of("tag:yaml.org,2002:", "set"), Tag::Other);
}

#[test]
fn text_for_every_reader_is_text_for_both_libraries() {
    for case in VECTORS.lines().filter_map(Case::parse) {
        if case.how == (Presentation { plain: true, tag: Tag::Absent }) && is_text_for_every_reader(&case.text) {
            assert_eq!((case.sops, case.kubernetes), ("str", "str"), "{:?}", case.text);
        }
    }
}

/// Compares every line and returns how many there were.
fn check(vectors: &str) -> usize {
    let cases = vectors.lines().filter_map(Case::parse);
    cases
        .map(|case| {
            for (dialect, expected) in [(Dialect::Sops, case.sops), (Dialect::Kubernetes, case.kubernetes)] {
                let found = resolve(Plaintext::new(case.text.clone().into_bytes()), case.how, dialect);
                assert_eq!(describe(found, &case.text), expected, "{dialect:?} {:?} {:?}", case.how, case.text);
            }
        })
        .count()
}

struct Case<'l> {
    how: Presentation,
    text: String,
    sops: &'l str,
    kubernetes: &'l str,
}

impl<'l> Case<'l> {
    /// A line of the file; `None` for a comment.
    fn parse(line: &'l str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let fields: Vec<_> = line.split('\t').collect();
        let [tag, style, quoted, sops, kubernetes] = fields[..] else { panic!("five fields: {line}") };
        let tag = match tag {
            "-" => Tag::Absent,
            "!" => Tag::NonSpecific,
            "!own" => Tag::of("!", "own"),
            core => Tag::of("tag:yaml.org,2002:", core.strip_prefix("!!").unwrap()),
        };
        // Go's quoting of ASCII is JSON's but for bytes that no vector has.
        let text: String = serde_json::from_str(quoted).unwrap();
        let kubernetes = if kubernetes == "=" { sops } else { kubernetes };
        Some(Self { how: Presentation { plain: style == "p", tag }, text, sops, kubernetes })
    }
}

fn describe(found: Result<Scalar, &'static str>, text: &str) -> String {
    match found {
        Err(_) => "error".to_owned(),
        Ok(Scalar::Null) => "null".to_owned(),
        Ok(Scalar::Bool(value)) => format!("bool {value}"),
        Ok(Scalar::Int(value)) => format!("int {value}"),
        Ok(Scalar::Uint(value)) => format!("uint {value}"),
        Ok(Scalar::Float(value)) if value.is_nan() => "float nan".to_owned(),
        Ok(Scalar::Float(value)) => format!("float {:x}", value.to_bits()),
        Ok(Scalar::Time(value)) => format!("time {value}"),
        Ok(Scalar::Text(value)) if value.bytes() == text.as_bytes() => "str".to_owned(),
        Ok(Scalar::Text(value)) => format!("bytes {}", STANDARD.encode(value.bytes())),
    }
}
