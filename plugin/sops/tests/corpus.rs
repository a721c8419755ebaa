//! The corpus of rules: every file of `corpus/opens` opens to what `sops` says it holds, every file of
//! `corpus/refused` is refused for the rule that its name states.
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests read files and compare plaintext")]

mod json;

use json::Json;
use regent_sops::{
    Branch, Document, Element, Error, Format, Item, Keyring, Limits, MacProblem, Node, Opened, Origin, Reveal, Scalar,
    ValueProblem,
};
use std::fs;
use std::path::{Path, PathBuf};

/// What every secret value of the corpus contains.
const CANARY: &[u8] = b"CANARY";

#[test]
fn files_that_sops_opens_are_opened_to_the_same_values() {
    let keys = keyring();
    let wrong = rules("opens").into_iter().filter_map(|(path, expect)| {
        let opened = match open(&path, &keys) {
            Ok(opened) => opened,
            Err(error) => return Some(format!("{}: {error}", name(&path))),
        };
        let same = if Format::of_name(name(&path)) == Format::Binary {
            opened.emit(Format::Binary, Reveal::Values).map(|bytes| bytes.expose() == expect)
        } else {
            opened.emit(Format::Json, Reveal::Values).map(|bytes| Json::lines(bytes.expose()) == Json::lines(&expect))
        };
        match same {
            Ok(true) => None,
            Ok(false) => Some(format!("{}: holds something else", name(&path))),
            Err(error) => Some(format!("{}: {error}", name(&path))),
        }
    });
    assert_none(wrong);
}

#[test]
fn files_that_break_a_rule_are_refused_for_it() {
    let keys = keyring();
    let wrong = rules("refused").into_iter().filter_map(|(path, expect)| {
        let expect = String::from_utf8(expect).unwrap();
        let rule = expect.lines().find_map(|line| line.strip_prefix("regent: ")).expect("a rule");
        let found = match open(&path, &keys) {
            Ok(_) => "opens".to_owned(),
            Err(refusal) => refusal.rule(),
        };
        (found != rule).then(|| format!("{}: {found}, not {rule}", name(&path)))
    });
    assert_none(wrong);
}

#[test]
fn errors_never_quote_a_value() {
    let keys = keyring();
    let wrong = rules("refused").into_iter().filter_map(|(path, _)| match open(&path, &keys) {
        Ok(_) => Some(format!("{}: opens", name(&path))),
        Err(refusal) => {
            let told = format!("{refusal} {refusal:?}");
            (told.contains("CANARY") || told.contains("ENC[")).then(|| format!("{}: {told}", name(&path)))
        }
    });
    assert_none(wrong);
}

#[test]
fn redacted_output_holds_no_decrypted_text() {
    let keys = keyring();
    let mut seen = 0;
    for (path, _) in rules("opens") {
        let opened = open(&path, &keys).unwrap_or_else(|error| panic!("{}: {error}", name(&path)));
        seen += usize::from(opened.documents().iter().any(holds_canary));
        for format in [Format::Json, Format::Yaml] {
            let shown = opened.emit(format, Reveal::Redacted).unwrap();
            assert!(!contains(shown.expose(), CANARY), "{} as {format}", name(&path));
        }
    }
    assert!(seen > 50, "only {seen} files have a value that could show");
}

#[test]
fn what_is_opened_can_be_written_in_its_own_format_and_read_again() {
    let keys = keyring();
    for (path, _) in rules("opens") {
        let format = Format::of_name(name(&path));
        let opened = open(&path, &keys).unwrap_or_else(|error| panic!("{}: {error}", name(&path)));
        let text = opened.emit(format, Reveal::Values).unwrap_or_else(|error| panic!("{}: {error}", name(&path)));
        match (format, Document::parse(text.expose(), format, &Limits::default())) {
            // These are never clear documents.
            (Format::Dotenv | Format::Ini | Format::Binary, _) | (_, Ok(Document::Clear(_))) => {}
            (_, Ok(Document::Sealed(_))) => panic!("{}: still has a `sops` block", name(&path)),
            // Several documents as JSON are one a line, which is no JSON file.
            (_, Err(error)) => panic!("{}: {error}", name(&path)),
        }
    }
}

#[test]
fn every_file_stands_beside_its_expectation() {
    for kind in ["opens", "refused"] {
        for entry in fs::read_dir(corpus().join(kind)).unwrap() {
            let path = entry.unwrap().path();
            let partner = match path.extension() {
                Some(end) if end == "expect" => path.with_extension(""),
                _ => expect_of(&path),
            };
            assert!(partner.is_file(), "{} has no partner", path.display());
        }
    }
}

/// Why a file of the corpus is not opened; a clear document is no error of the crate, but it is not sealed.
#[derive(Debug)]
enum Refusal {
    Clear,
    Broken(Error),
}

impl Refusal {
    /// The words of the `.expect` files.
    fn rule(&self) -> String {
        match self {
            Self::Clear => "clear".to_owned(),
            Self::Broken(error) => rule(error),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Clear => f.write_str("clear"),
            Self::Broken(error) => error.fmt(f),
        }
    }
}

/// The corpus's word for an error.
fn rule(error: &Error) -> String {
    match error {
        Error::TooLarge { .. } => "too-large",
        Error::Limit { .. } => "limit",
        Error::Syntax { .. } => "syntax",
        Error::DuplicateKey { .. } => "duplicate-key",
        Error::Stopped => "stopped",
        Error::MetadataAbsent => "metadata-absent",
        Error::Metadata { .. } => "metadata",
        Error::NoKey(_) => "no-key",
        Error::TooFewParts { .. } => "too-few-parts",
        Error::Parts { .. } => "parts",
        Error::Value { problem, .. } => match problem {
            ValueProblem::Clear => "value clear",
            ValueProblem::NotText => "value not-text",
            ValueProblem::Malformed => "value malformed",
            ValueProblem::UnknownType => "value unknown-type",
            ValueProblem::Unauthentic => "value unauthentic",
            ValueProblem::WrongType => "value wrong-type",
            ValueProblem::NonceLength => "value nonce-length",
            ValueProblem::Uncovered => "value uncovered",
            ValueProblem::Merged => "value merged",
            ValueProblem::Unhashable => "value unhashable",
        },
        Error::Mac(problem) => match problem {
            MacProblem::Absent => "mac absent",
            MacProblem::Unreadable => "mac unreadable",
            MacProblem::Mismatch => "mac mismatch",
        },
        Error::Identity { .. } => "identity",
        Error::Envelope { .. } => "envelope",
        Error::Emit { .. } => "emit",
    }
    .to_owned()
}

fn open(path: &Path, keys: &Keyring) -> Result<Opened, Refusal> {
    let bytes = fs::read(path).unwrap();
    match Document::parse(&bytes, Format::of_name(name(path)), &Limits::default()).map_err(Refusal::Broken)? {
        Document::Clear(_) => Err(Refusal::Clear),
        Document::Sealed(sealed) => sealed.open(keys).map_err(Refusal::Broken),
    }
}

/// Every identity of `corpus/keys`.
fn keyring() -> Keyring {
    let mut keys = Keyring::default();
    for entry in fs::read_dir(corpus().join("keys")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "md" && end != "pub") {
            let loaded = keys.load(name(&path), &fs::read(&path).unwrap(), &[]).unwrap();
            assert_eq!((loaded.added, loaded.skipped), (1, vec![]), "{}", path.display());
        }
    }
    keys
}

/// The files of a folder with their expectations, in order of name.
fn rules(kind: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut paths: Vec<_> = fs::read_dir(corpus().join(kind)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_none_or(|end| end != "expect"));
    paths.sort();
    assert!(paths.len() > 50, "the corpus is not there");
    paths.into_iter().map(|path| (path.clone(), fs::read(expect_of(&path)).unwrap())).collect()
}

fn expect_of(path: &Path) -> PathBuf {
    path.with_file_name(format!("{}.expect", name(path)))
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn assert_none(wrong: impl Iterator<Item = String>) {
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{} files:\n{}", wrong.len(), wrong.join("\n"));
}

/// Whether a decrypted text of this mapping contains the canary.
fn holds_canary(branch: &Branch) -> bool {
    fn inside(node: &Node) -> bool {
        match node {
            Node::Leaf(leaf) => match &leaf.scalar {
                Scalar::Text(text) => leaf.origin == Origin::Decrypted && contains(text.expose(), CANARY),
                Scalar::Null
                | Scalar::Bool(_)
                | Scalar::Int(_)
                | Scalar::Uint(_)
                | Scalar::Float(_)
                | Scalar::Time(_) => false,
            },
            Node::Map(branch) => holds_canary(branch),
            Node::List(elements) => elements.iter().any(|element| match element {
                Element::Node(node) => inside(node),
                Element::Comment(_) => false,
            }),
        }
    }
    branch.items.iter().any(|item| match item {
        Item::Entry(entry) => inside(&entry.value),
        Item::Comment(_) => false,
    })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
