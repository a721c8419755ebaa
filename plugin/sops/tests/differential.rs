//! regent against the real `sops`, on generated documents and on what tampering makes of them.
//!
//! Both must open a file to the same values, or both must refuse it. regent may refuse more, for a reason that
//! [`stricter`] names; it never opens what `sops` refuses. And what regent gives back to ciphertext, `sops` opens to the
//! same values, its MAC included, with a data key that it asks for. Needs `REGENT_SOPS`, the path of the program;
//! `REGENT_CASES` and `REGENT_SEED` choose how much and what. `hack/differential` sets them.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that starts another program and tells what came of it"
)]

mod json;
mod transit;

use json::{Json, Number};
use regent_sops::{
    Bound, Branch, DataKey, Document, EmitProblem, Error, Format, Keyring, Limits, Opened, Reveal, Selection, Stanza,
    ValueProblem, WrappingKeys,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use transit::Transit;

/// The corpus's throw-away identity.
const IDENTITY: &str = include_str!("corpus/keys/age.txt");

/// How often a generated file is tampered with.
const MUTANTS: u64 = 3;

#[test]
#[ignore = "needs the real sops: run hack/differential"]
fn regent_and_sops_agree_on_generated_and_tampered_files() {
    let sops = Sops::find();
    let cases: u64 = number("REGENT_CASES").unwrap_or(300);
    let seed = number("REGENT_SEED").unwrap_or(1);
    let next = AtomicU64::new(0);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let keys = keyring();
                loop {
                    let case = next.fetch_add(1, Ordering::Relaxed);
                    if case >= cases {
                        return;
                    }
                    one_case(&sops, &keys, seed.wrapping_mul(1_000_003).wrapping_add(case), &tally);
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    println!("{tally}");
    assert!(tally.wrong.is_empty(), "{} disagreements:\n{}", tally.wrong.len(), tally.wrong.join("\n\n"));
    // A generator that sops cannot use, or tampering that nobody notices, would prove nothing.
    assert!(tally.opened * 4 > cases * 3, "too few files were opened");
    assert!(tally.refused > cases / 2, "too few files were refused");
}

/// What came of all cases.
#[derive(Default)]
struct Tally {
    opened: u64,
    refused: u64,
    not_encrypted: u64,
    not_compared: u64,
    stricter: BTreeMap<&'static str, u64>,
    wider: BTreeMap<&'static str, u64>,
    /// What became of the text that has to be the same to the byte.
    verbatim: BTreeMap<&'static str, u64>,
    wrong: Vec<String>,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "opened by both, with the same values: {}", self.opened)?;
        writeln!(f, "refused by both: {}", self.refused)?;
        writeln!(f, "documents that sops does not encrypt: {}", self.not_encrypted)?;
        writeln!(f, "several documents that sops does not take one by one: {}", self.not_compared)?;
        for (reason, count) in &self.stricter {
            writeln!(f, "refused by regent alone, {reason}: {count}")?;
        }
        for (reason, count) in &self.wider {
            writeln!(f, "opened by regent alone, {reason}: {count}")?;
        }
        for (how, count) in &self.verbatim {
            writeln!(f, "decrypted as text, {how}: {count}")?;
        }
        write!(f, "disagreements: {}", self.wrong.len())
    }
}

fn one_case(sops: &Sops, keys: &Keyring, seed: u64, tally: &Mutex<Tally>) {
    let mut dice = Dice(seed);
    let format = dice.pick(&[
        Format::Yaml,
        Format::Yaml,
        Format::Yaml,
        Format::Json,
        Format::Dotenv,
        Format::Ini,
        Format::Binary,
    ]);
    let plain = generate(&mut dice, format);
    let rule = rule(&mut dice);
    let Some(sealed) = sops.encrypt(&plain, format, &rule) else {
        tally.lock().unwrap().not_encrypted += 1;
        return;
    };
    judge(sops, keys, &sealed, format, &format!("seed {seed}, as encrypted with {rule:?}"), tally);
    for number in 0..MUTANTS {
        let mutant = mutate(&mut dice, &sealed);
        if mutant != sealed {
            judge(sops, keys, &mutant, format, &format!("seed {seed}, mutant {number}"), tally);
        }
    }
}

#[test]
#[ignore = "needs the real sops: run hack/differential"]
fn sops_opens_what_regent_gives_back_to_ciphertext() {
    let sops = Sops::find();
    let cases: u64 = number("REGENT_CASES").unwrap_or(300).div_ceil(2);
    let seed = number("REGENT_SEED").unwrap_or(1);
    let transit = Transit::serve(keyring().wrapping_keys());
    let next = AtomicU64::new(0);
    let tally = Mutex::new(Returned::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let keys = keyring();
                let returning =
                    Returning { sops: &sops, transit: &transit, wrapping: keys.wrapping_keys(), tally: &tally };
                loop {
                    let case = next.fetch_add(1, Ordering::Relaxed);
                    if case >= cases {
                        return;
                    }
                    returning.one_case(&keys, seed.wrapping_mul(1_000_003).wrapping_add(case));
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    println!("{tally}");
    assert!(tally.wrong.is_empty(), "{} disagreements:\n{}", tally.wrong.len(), tally.wrong.join("\n\n"));
    assert!(tally.repointed * 2 > cases && tally.sealed * 2 > cases, "too few documents were given back");
    assert!(transit.answered() >= tally.repointed + tally.sealed, "sops did not ask for each data key");
}

#[test]
#[ignore = "needs the real sops: run hack/differential"]
fn sops_opens_the_corpus_that_regent_gives_back_to_ciphertext() {
    let sops = Sops::find();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut keys = Keyring::default();
    for key in std::fs::read_dir(corpus.join("keys")).unwrap().map(|entry| entry.unwrap().path()) {
        if !key.extension().is_some_and(|extension| extension == "md" || extension == "pub") {
            keys.load("key", &std::fs::read(key).unwrap(), &[]).unwrap();
        }
    }
    let transit = Transit::serve(keys.wrapping_keys());
    let tally = Mutex::new(Returned::default());
    let returning = Returning { sops: &sops, transit: &transit, wrapping: keys.wrapping_keys(), tally: &tally };
    for path in std::fs::read_dir(corpus.join("opens")).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let format = Format::of_name(name);
        if matches!(format, Format::Yaml | Format::Json) {
            returning.give_back(&std::fs::read(&path).unwrap(), format, &keys, name, name);
        }
    }
    let deployment = manifest(DEPLOYMENT);
    for (name, document, selection) in [
        ("secret", manifest(SECRET), Selection::of_secret()),
        ("config-map", manifest(CONFIG_MAP), Selection::of_object()),
        ("deployment", manifest(DEPLOYMENT), Selection::of_object()),
        ("deployment-by-fields", manifest(DEPLOYMENT), Selection::of_fields(&deployment)),
    ] {
        let expected = document.to_json_line().unwrap();
        let key = returning.wrapping.data_key(name.as_bytes(), &expected).unwrap();
        let sealed = returning.give(name, &key, |stanza| selection.seal(&document, &key, stanza));
        returning.open(sealed, &Json::lines(expected.expose()), name, |tally| &mut tally.sealed);
    }
    let tally = tally.into_inner().unwrap();
    println!("{tally}");
    assert!(tally.wrong.is_empty(), "{} disagreements:\n{}", tally.wrong.len(), tally.wrong.join("\n\n"));
    assert!(transit.answered() >= tally.repointed + tally.sealed, "sops did not ask for each data key");
    // Key groups, MACs over encrypted values alone, rules of every kind: all of them, or the corpus shrank.
    assert!(tally.repointed > 100 && tally.sealed > 100, "too few documents were given back");
}

fn manifest(yaml: &str) -> Branch {
    match Document::parse(yaml.as_bytes(), Format::Yaml, &Limits::default()) {
        Ok(Document::Clear(mut tree)) => tree.documents.remove(0),
        Ok(Document::Sealed(_)) | Err(_) => panic!("no clear document"),
    }
}

const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: team}\ntype: Opaque\nimmutable: false\n\
    data: {password: aHVudGVyMg==, empty: '', nothing: null}\nstringData: {pin: '12345678', text: \"a\\nb\"}\n";
const CONFIG_MAP: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, annotations: {a: b}}\ndata: {k: v, e: ''}\n";
const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec:\n  replicas: 2\n  paused: true\n  \
    template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, args: [x, x]}, {name: b, cpu: 1.5}]}}\n";

/// Gives documents back to ciphertext and has `sops` open them.
struct Returning<'a> {
    sops: &'a Sops,
    transit: &'a Transit,
    wrapping: WrappingKeys,
    tally: &'a Mutex<Returned>,
}

/// What came of all documents; each counts once as YAML and once as JSON.
#[derive(Default)]
struct Returned {
    repointed: u64,
    sealed: u64,
    refused: BTreeMap<&'static str, u64>,
    wrong: Vec<String>,
}

impl std::fmt::Display for Returned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "given another recipient, and opened by sops: {}", self.repointed)?;
        writeln!(f, "encrypted anew, and opened by sops: {}", self.sealed)?;
        for (reason, count) in &self.refused {
            writeln!(f, "not given back, {reason}: {count}")?;
        }
        write!(f, "disagreements: {}", self.wrong.len())
    }
}

impl Returning<'_> {
    fn one_case(&self, keys: &Keyring, seed: u64) {
        let mut dice = Dice(seed);
        let format = dice.pick(&[Format::Yaml, Format::Yaml, Format::Json]);
        let plain = generate(&mut dice, format);
        let rule = rule(&mut dice);
        let Some(file) = self.sops.encrypt(&plain, format, &rule) else { return };
        self.give_back(&file, format, keys, &format!("app-{seed}"), &format!("seed {seed}, {format}, {rule:?}"));
    }

    /// Both ways with each document of a file. `name` is the transit key's, `which` tells a person.
    fn give_back(&self, file: &[u8], format: Format, keys: &Keyring, name: &str, which: &str) {
        let Ok(Document::Sealed(sealed)) = Document::parse(file, format, &Limits::default()) else {
            return self.refused("not opened in the first place");
        };
        let selection = sealed.selection();
        let documents: Vec<Branch> = sealed.documents().iter().map(Branch::duplicate).collect();
        let Ok((opened, data_key)) = sealed.open_with_key(keys) else {
            return self.refused("not opened in the first place");
        };
        for (sealed, opened) in documents.iter().zip(opened.documents()) {
            let Ok(content) = opened.to_json_line() else {
                self.refused("no JSON holds it");
                continue;
            };
            let expected = Json::lines(content.expose());
            let given = self.give(name, &data_key, |stanza| selection.repoint(sealed.duplicate(), &data_key, stanza));
            self.open(given, &expected, which, |tally| &mut tally.repointed);
            let fresh = self.wrapping.data_key(name.as_bytes(), &content).unwrap();
            let given = self.give(name, &fresh, |stanza| selection.seal(opened, &fresh, stanza));
            self.open(given, &expected, which, |tally| &mut tally.sealed);
        }
    }

    fn give(
        &self,
        name: &str,
        data_key: &DataKey,
        give: impl FnOnce(&Stanza<'_>) -> Result<Branch, Error>,
    ) -> Result<Branch, Error> {
        let enc = self.wrapping.wrap(data_key, name.as_bytes()).unwrap();
        give(&Stanza { address: self.transit.address(), engine: "regent", key: name, enc: &enc })
    }

    fn open(
        &self,
        given: Result<Branch, Error>,
        expected: &[Json],
        which: &str,
        count: impl Fn(&mut Returned) -> &mut u64,
    ) {
        let document = match given {
            Ok(document) => document,
            Err(Error::Metadata { problem, .. }) if problem.contains("comments") => {
                return self.refused("the rule follows comments");
            }
            Err(Error::Value { problem: ValueProblem::Merged, .. }) => return self.refused("a merge key"),
            Err(Error::DuplicateKey { .. }) => return self.refused("a key stands twice"),
            Err(error) => return self.tally.lock().unwrap().wrong.push(format!("{which}: {error}")),
        };
        for (format, text) in [(Format::Yaml, document.to_yaml_document()), (Format::Json, document.to_json_line())] {
            let text = text.unwrap();
            let verdict = self.sops.ask(text.expose(), format);
            let mut tally = self.tally.lock().unwrap();
            match verdict {
                Ok(json) if Json::lines(&json) == expected => *count(&mut tally) += 1,
                Ok(json) => tally.wrong.push(format!(
                    "{which}: other values\n{}\n{}",
                    String::from_utf8_lossy(&json),
                    String::from_utf8_lossy(text.expose())
                )),
                Err(told) if told.contains("MAC mismatch") && format == Format::Json && has_wide_integer(expected) => {
                    *tally.refused.entry("a clear integer that sops reads as a double in JSON").or_default() += 1;
                }
                Err(told) => {
                    let text = String::from_utf8_lossy(text.expose());
                    tally.wrong.push(format!("{which}: sops refuses the {format}: {told}\n{text}"));
                }
            }
        }
    }

    fn refused(&self, reason: &'static str) {
        *self.tally.lock().unwrap().refused.entry(reason).or_default() += 1;
    }
}

/// Whether an integer is beyond 2^53: in JSON, `sops` reads it as a double up to 3.13.1.
fn has_wide_integer(values: &[Json]) -> bool {
    values.iter().any(|value| match value {
        Json::Number(Number::Integer(number)) => number.unsigned_abs() > 1 << 53,
        Json::Null | Json::Bool(_) | Json::Number(Number::Double(_)) | Json::Text(_) => false,
        Json::List(values) => has_wide_integer(values),
        Json::Object(entries) => entries.iter().any(|(_, value)| has_wide_integer(std::slice::from_ref(value))),
    })
}

/// Both programs on one file.
fn judge(sops: &Sops, keys: &Keyring, file: &[u8], format: Format, which: &str, tally: &Mutex<Tally>) {
    let ours = match Document::parse(file, format, &Limits::default()) {
        Ok(Document::Sealed(sealed)) => sealed.open(keys).map_err(Some),
        Ok(Document::Clear(_)) => Err(None),
        Err(error) => Err(Some(error)),
    };
    let documents = ours.as_ref().map_or(1, |opened| opened.documents().len());
    let theirs = sops.decrypt(file, format, documents);
    let written = match (&ours, &theirs) {
        (Ok(opened), Verdict::Opened(_)) => Some(verbatim(sops, opened, file, format)),
        _ => None,
    };
    let mut tally = tally.lock().unwrap();
    match written {
        Some(Ok(how)) => *tally.verbatim.entry(how).or_default() += 1,
        Some(Err(problem)) => {
            tally.wrong.push(format!("{format}, {which}: {problem}\n{}", String::from_utf8_lossy(file)));
        }
        None => {}
    }
    let problem = match (&ours, &theirs) {
        (Err(_), Verdict::Refused(_)) => {
            tally.refused += 1;
            return;
        }
        (Err(error), Verdict::Opened(_) | Verdict::NotWritten) => {
            if let Some(reason) = error.as_ref().and_then(|error| stricter(error, file)) {
                *tally.stricter.entry(reason).or_default() += 1;
                return;
            }
            format!("sops opens it, regent says: {}", error.as_ref().map_or("clear".to_owned(), ToString::to_string))
        }
        (_, Verdict::NotCompared) => {
            tally.not_compared += 1;
            return;
        }
        (Ok(_), Verdict::Refused(told)) => {
            if let Some(reason) = wider(told, file) {
                *tally.wider.entry(reason).or_default() += 1;
                return;
            }
            format!("regent opens what sops refuses: {told}")
        }
        (Ok(opened), Verdict::NotWritten) => match opened.emit(Format::Json, Reveal::Values) {
            Err(Error::Emit { problem: EmitProblem::Number, .. }) => return,
            _ => "sops cannot write it as JSON, regent can".to_owned(),
        },
        (Ok(opened), Verdict::Opened(theirs)) => {
            let output = if format == Format::Binary { Format::Binary } else { Format::Json };
            match opened.emit(output, Reveal::Values) {
                Ok(ours) if format == Format::Binary && ours.expose() == theirs => {
                    tally.opened += 1;
                    return;
                }
                Ok(ours) if format != Format::Binary && Json::lines(ours.expose()) == Json::lines(theirs) => {
                    tally.opened += 1;
                    return;
                }
                Ok(ours) => format!(
                    "other values:\n  sops:   {}\n  regent: {}",
                    String::from_utf8_lossy(theirs),
                    String::from_utf8_lossy(ours.expose())
                ),
                Err(Error::Emit { problem: EmitProblem::NotText, .. }) => {
                    *tally.stricter.entry("bytes that are no text are not written as JSON").or_default() += 1;
                    return;
                }
                Err(error) => format!("regent opens it and says: {error}"),
            }
        }
    };
    tally.wrong.push(format!("{format}, {which}: {problem}\n{}", String::from_utf8_lossy(file)));
}

/// What became of the text that regent takes for the very bytes of `sops`. That it writes none is no mistake.
fn verbatim(sops: &Sops, opened: &Opened, file: &[u8], format: Format) -> Result<&'static str, String> {
    let Ok(ours) = opened.emit_verbatim(format) else { return Ok("not written by regent") };
    let (code, theirs, told) =
        sops.run(file, &["--decrypt", "--input-type", format.name(), "--output-type", format.name()]);
    if code != 0 {
        return Err(format!("regent writes what sops does not: {told}"));
    }
    if ours.expose() == theirs {
        return Ok("the same bytes");
    }
    // Whoever needs the bytes looks at that himself: `emit_verbatim` says so.
    if format == Format::Yaml && columns_of_comments(file) != columns_of_comments(ours.expose()) {
        return Ok("a comment not in its column");
    }
    let (theirs, ours) = (String::from_utf8_lossy(&theirs), String::from_utf8_lossy(ours.expose()));
    Err(format!("other bytes:\n  sops:   {theirs:?}\n  regent: {ours:?}"))
}

fn columns_of_comments(yaml: &[u8]) -> Vec<usize> {
    let column = |line: &[u8]| line.iter().position(|byte| *byte != b' ').filter(|at| line.get(*at) == Some(&b'#'));
    yaml.split(|byte| *byte == b'\n').filter_map(column).collect()
}

/// Why regent refuses a file that `sops` opens; `None` is a defect.
fn stricter(error: &Error, file: &[u8]) -> Option<&'static str> {
    match error {
        Error::DuplicateKey { .. } => Some("a key stands twice"),
        Error::Limit { bound: Bound::Nesting | Bound::Nodes | Bound::AliasNodes | Bound::AliasBytes, .. } => {
            Some("a bound on memory and recursion")
        }
        Error::Limit { bound: Bound::Recipients | Bound::Comments, .. } => Some("a bound on work"),
        Error::Syntax { problem, .. } if problem.contains("UTF-8") => Some("text that is not UTF-8"),
        Error::Metadata { problem: "stands twice", .. } => Some("a metadata field stands twice"),
        Error::Metadata { problem: "must be text", .. } => Some("a metadata field of another type, or not UTF-8"),
        Error::Metadata { problem: "has a list index that is no number", .. } => Some("a metadata field of no meaning"),
        Error::Syntax { problem, .. } if problem.starts_with("merges") => {
            Some("a merge of no mapping, below the top level")
        }
        Error::Value { problem: ValueProblem::WrongType, .. } if has_odd_comment(file) => {
            Some("an encrypted comment of a type that SOPS does not write")
        }
        Error::Value { .. } if has_comment_rule(file) => {
            Some("a clear text that looks like ciphertext, under a comment rule")
        }
        Error::Value { problem: ValueProblem::Malformed, .. } => Some("base64 with stray bits or line breaks"),
        Error::Stopped
        | Error::TooLarge { .. }
        | Error::Syntax { .. }
        | Error::MetadataAbsent
        | Error::Metadata { .. }
        | Error::NoKey(_)
        | Error::TooFewParts { .. }
        | Error::Parts { .. }
        | Error::Value { .. }
        | Error::Mac(_)
        | Error::Identity { .. }
        | Error::Envelope { .. }
        | Error::Emit { .. } => None,
    }
}

/// Why regent opens a file that this version of `sops` refuses; `None` is a defect.
fn wider(told: &str, file: &[u8]) -> Option<&'static str> {
    let refusals_of_values = ["MAC mismatch", "does not match sops' data format", "main.go:"]; // the last: a panic
    if has_comment_rule(file) && refusals_of_values.iter().any(|words| told.contains(words)) {
        // SOPS loses its own marker where it writes a comment elsewhere than it read it, and then cannot read its own
        // file. regent takes what reads as ciphertext for selected: the MAC still vouches for every value.
        return Some("a marker moved or lost, under a comment rule");
    }
    told.contains("cannot unmarshal !!map into []stores.")
        .then_some("a list of one written as a mapping, which sops reads since 3.13")
}

fn has_comment_rule(file: &[u8]) -> bool {
    contains(file, b"encrypted_comment_regex")
}

/// Whether a comment is ciphertext of another type than `comment`.
fn has_odd_comment(file: &[u8]) -> bool {
    file.split(|byte| *byte == b'\n').any(|line| {
        let line = line.trim_ascii();
        (line.starts_with(b"#") || line.starts_with(b";"))
            && contains(line, b"ENC[")
            && !line.ends_with(b"type:comment]")
    })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn keyring() -> Keyring {
    let mut keys = Keyring::default();
    keys.load("age.txt", IDENTITY.as_bytes(), &[]).unwrap();
    keys
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

/// The real program, in an empty folder and with no key but the corpus's.
struct Sops {
    program: PathBuf,
    home: tempfile::TempDir,
}

/// What `sops --decrypt` did.
enum Verdict {
    /// The values, as JSON (binary: as they are).
    Opened(Vec<u8>),
    /// It decrypted and cannot write it as JSON.
    NotWritten,
    /// It decrypted several documents, and one of them cannot be shown alone.
    NotCompared,
    /// Refused, with the last line of what it told.
    Refused(String),
}

impl Sops {
    fn find() -> Self {
        let program =
            std::env::var_os("REGENT_SOPS").expect("REGENT_SOPS names the real sops; hack/differential sets it");
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("age.txt"), IDENTITY).unwrap();
        Self { program: program.into(), home }
    }

    fn run(&self, input: &[u8], arguments: &[&str]) -> (i32, Vec<u8>, String) {
        let home: &Path = self.home.path();
        let mut child = Command::new(&self.program)
            .args(["--disable-version-check"])
            .args(arguments)
            .arg("/dev/stdin")
            .env_clear()
            .env("HOME", home)
            .env("SOPS_AGE_KEY_FILE", home.join("age.txt"))
            .env("VAULT_TOKEN", "any")
            .current_dir(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sops starts");
        // All inputs fit into a pipe's buffer or are read before anything is written.
        let _ = child.stdin.take().unwrap().write_all(input);
        let done = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&done.stderr).lines().last().unwrap_or_default().to_owned();
        (done.status.code().unwrap_or(-1), done.stdout, told)
    }

    fn encrypt(&self, plain: &[u8], format: Format, rule: &[String]) -> Option<Vec<u8>> {
        let recipient = IDENTITY.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
        let mut arguments =
            vec!["--encrypt", "--age", recipient, "--input-type", format.name(), "--output-type", format.name()];
        arguments.extend(rule.iter().map(String::as_str));
        let (code, sealed, _) = self.run(plain, &arguments);
        (code == 0).then_some(sealed)
    }

    /// The values of one document as JSON, or all that sops told: the MAC counts.
    fn ask(&self, file: &[u8], format: Format) -> Result<Vec<u8>, String> {
        let (code, json, told) = self.run(file, &["--decrypt", "--input-type", format.name(), "--output-type", "json"]);
        if code == 0 { Ok(json) } else { Err(told) }
    }

    fn decrypt(&self, file: &[u8], format: Format, documents: usize) -> Verdict {
        const DUMP_FAILED: i32 = 4;
        let output = if format == Format::Binary { Format::Binary } else { Format::Json };
        let as_json =
            |file: &[u8]| self.run(file, &["--decrypt", "--input-type", format.name(), "--output-type", output.name()]);
        let (code, json, told) = as_json(file);
        match code {
            0 => {}
            DUMP_FAILED if format != Format::Binary => return Verdict::NotWritten,
            _ => return Verdict::Refused(told),
        }
        if documents == 1 {
            return Verdict::Opened(json);
        }
        // As JSON, sops writes the first document alone: each one takes the way through a file of its own.
        let (_, yaml, _) = self.run(file, &["--decrypt", "--input-type", format.name(), "--output-type", "yaml"]);
        let yaml = String::from_utf8(yaml).unwrap();
        let mut all = Vec::new();
        for document in yaml.split_inclusive('\n').fold(vec![String::new()], |mut texts, line| {
            if line == "---\n" {
                texts.push(String::new());
            } else {
                texts.last_mut().unwrap().push_str(line);
            }
            texts
        }) {
            let Some(sealed) = self.encrypt(document.as_bytes(), Format::Yaml, &[]) else {
                return Verdict::NotCompared;
            };
            match as_json(&sealed) {
                (0, json, _) => all.extend(json),
                _ => return Verdict::NotCompared,
            }
        }
        Verdict::Opened(all)
    }
}

// --- documents -----------------------------------------------------------------------------------

/// A small generator of numbers (SplitMix64): the same seed gives the same case on every machine.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// Texts on which readers of YAML, JSON, dotenv and INI differ.
#[rustfmt::skip]
const TEXTS: &[&str] = &[
    "", " ", "a", "secret", "two words", " leading", "trailing ", "null", "~", "true", "True", "yes", "no", "on", "y",
    "N", "off", "42", "-1", "1.0", "1e3", "0x1F", "0o17", "0777", "1_000", ".5", "-.inf", ".nan", "+1", "1.", "--1",
    "12:30:45", "2001-12-14", "2001-12-14T21:59:43Z", "- a", "a: b", "a:b", "a #b", "#a", "{a}", "[a]", "*a", "&a",
    "!a", "|", ">", "%a", "@a", "`a`", "'", "\"", "''", "\\", "\\n", "\\\\n", "<<", "=", "a=b", "line\nline",
    "line\n", "\nline", "a\n\n\nb\n\n", "tab\there", "\t", "cr\rhere", "\r\n", "ünïcödé", "日本語", "😀", "\u{feff}",
    "\u{a0}", "\u{0}", "\u{7f}", "\u{1b}[0m", "<script>&amp;</script>", "---", "...", "--- a",
    "ENC[AES256_GCM,data:AAAA,iv:AAAA,tag:AAAA,type:str]", "ENC[", "sops", ";", "a;b", "a # b", "\"quoted\"",
    "'quoted'", "`", "\"\"\"", "$HOME", "export A", "k_unencrypted", "__map_", "__list_0",
    "-----BEGIN X-----\nQUJD\n-----END X-----\n",
];

/// Plain YAML scalars at the edges of their types.
#[rustfmt::skip]
const PLAIN: &[&str] = &[
    "0", "-0", "1", "-1", "007", "0777", "09", "0o17", "0o8", "0x1F", "0X1f", "-0x1F", "0b101", "0b2", "1_000",
    "1__0", "_1", "+1", "+0o17", "9223372036854775807", "-9223372036854775808", "-9223372036854775809",
    "18446744073709551616", "9007199254740993", "0x7FFFFFFFFFFFFFFF", "-0x8000000000000001", "1.0", "1.", ".5", "-.5",
    "+.5", ".5_0", "._5", "1e3", "1E3", "1e-7", "1e21", "1e308", "1e309", "-1e400", "5e-324", "1e-400",
    "2.2250738585072014e-308", "0.1", "123456789012345680", "1.7976931348623157e308", "09e1", "1e", "1.2.3", "true",
    "True", "TRUE", "tRue", "false", "yes", "no", "on", "Off", "y", "n", "null", "Null", "NULL", "nULL", "~", "",
    ".inf", "-.INF", "+.Inf", ".nan", ".NaN", "inf", "NaN", "2001-12-14", "2001-1-1", "2001-12-14t21:59:43.10-05:00",
    "2001-12-14 21:59:43", "2001-12-14T21:59:43Z", "2001-12-14T21:59:43.123456789Z", "2001-02-29", "2000-02-29",
    "2001-13-01", "0000-01-01", "9999-12-31", "2001-12-14 21:59:43 Z", "2001-12-14T21:59:43+05:30",
    "2001-12-14T21:59:43z", "12:30:45", "!!str 42", "!!float 3", "!!int 7", "!!str", "! 12", "!local x",
    "!!binary aGVsbG8=", "<<", "=", "a b", "a'b", "a\"b", "-a", "1,000",
];

#[rustfmt::skip]
const KEYS: &[&str] = &[
    "a", "b", "c", "data", "stringData", "metadata", "password", "user_unencrypted", "x_secret", "x_clear", "k 1",
    "k.2", "k-3", "ü", "KEY", "Data", "data2", "a1", "yes", "80", "null", "~", "2001-12-14", "a:b", "", "k'", "k\"",
    "#k", "k#", "k\\n",
    "very long key with many words in it so that a writer may want to break it or quote it, who knows, it goes on and on",
];

/// A selection rule, as flags of `sops --encrypt`.
fn rule(dice: &mut Dice) -> Vec<String> {
    let mut flags: Vec<&str> = match dice.below(9) {
        0 | 1 => vec![],
        2 => vec!["--encrypted-suffix", "_secret"],
        3 => vec!["--unencrypted-suffix", "_clear"],
        4 => vec![
            "--encrypted-regex",
            dice.pick(&[
                "^(data|stringData)$",
                "a",
                r"^\w\d?$",
                "(?i)^data",
                "[[:upper:]]",
                "^[a-c&&b]$",
                "(",
                r"\Qk.\E",
                "x{,2}",
            ]),
        ],
        5 => vec!["--unencrypted-regex", dice.pick(&["^metadata$", r"\s", "^.$", r"[^\w]", "[", r"\pL{3}"])],
        6 => vec!["--encrypted-comment-regex", "enc"],
        7 => vec!["--unencrypted-comment-regex", "clear"],
        _ => vec!["--encrypted-regex", "^(data|stringData)$"],
    };
    if dice.one_in(6) {
        flags.push("--mac-only-encrypted");
    }
    flags.into_iter().map(str::to_owned).collect()
}

/// A clear document of the format.
fn generate(dice: &mut Dice, format: Format) -> Vec<u8> {
    match format {
        Format::Yaml => {
            let mut text = String::new();
            for number in 0..if dice.one_in(8) { 1 + dice.below(3) } else { 1 } {
                if number > 0 {
                    text.push_str("---\n");
                }
                yaml_map(dice, &mut text, 0, 3);
            }
            text.into_bytes()
        }
        Format::Json => {
            let mut text = String::new();
            json_value(dice, &mut text, 3, true);
            text.into_bytes()
        }
        Format::Dotenv => {
            let mut text = String::new();
            for key in keys(dice) {
                if dice.one_in(6) {
                    text.push_str(dice.pick(&["# comment\n", "#enc\n", "#clear\n", "\n"]));
                }
                let value = some_text(dice).replace('\n', "\\n");
                let _ = writeln!(text, "{}={value}", key.replace(['=', '\n', '#'], "_"));
            }
            text.into_bytes()
        }
        Format::Ini => {
            let mut text = String::new();
            for (number, section) in ["", "s", "data", "other section"].into_iter().enumerate() {
                if number > 0 {
                    if dice.one_in(3) {
                        continue;
                    }
                    let _ = writeln!(text, "[{section}]");
                }
                for key in keys(dice) {
                    if dice.one_in(6) {
                        text.push_str(dice.pick(&["; comment\n", "# enc\n", "; clear\n", "\n"]));
                    }
                    let key: String = key.chars().filter(|c| c.is_ascii_alphanumeric() || "_. ".contains(*c)).collect();
                    let value = some_text(dice);
                    let value = match dice.below(4) {
                        0 => format!("`{}`", value.replace('`', "'")),
                        1 => format!("\"\"\"{}\"\"\"", value.replace('"', "'")),
                        _ => value.replace(['\n', '\r'], " "),
                    };
                    let _ = writeln!(text, "{key}{}{value}", dice.pick(&["=", " = ", ":", " : "]));
                }
            }
            text.into_bytes()
        }
        Format::Binary => (0..dice.below(200)).map(|_| u8::try_from(dice.below(256)).unwrap()).collect(),
    }
}

/// Distinct keys.
fn keys(dice: &mut Dice) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for _ in 0..=dice.below(6) {
        let key = dice.pick(KEYS);
        if !keys.iter().any(|have| have == key) {
            keys.push(key.to_owned());
        }
    }
    keys
}

fn some_text(dice: &mut Dice) -> String {
    let mut text = dice.pick(TEXTS).to_owned();
    while dice.one_in(3) {
        text.push_str(dice.pick(TEXTS));
    }
    text
}

/// A double-quoted text that JSON and YAML read alike; some characters are escaped that need not be.
fn quoted(dice: &mut Dice, text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '\u{7f}'..='\u{a0}' | '\u{feff}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ if u32::from(character) < 0x1_0000 && dice.one_in(12) => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
    out.push('"');
    out
}

fn yaml_map(dice: &mut Dice, out: &mut String, indent: usize, depth: usize) {
    for key in keys(dice) {
        yaml_comment(dice, out, indent);
        let _ = write!(out, "{:indent$}{}:", "", quoted(dice, &key));
        yaml_value(dice, out, indent, depth);
    }
    if dice.one_in(12) {
        let _ = writeln!(
            out,
            "{:indent$}{}",
            "",
            dice.pick(&["<<: {m: 1, n: secret}", "<<: [{m: 1}, {n: ''}]", "\"<<\": text", "'<<': {m: 1}"])
        );
    }
}

/// Never an empty comment: in a list sops makes an empty text of it, which is one element more.
fn yaml_comment(dice: &mut Dice, out: &mut String, indent: usize) {
    if dice.one_in(5) {
        let _ = writeln!(
            out,
            "{:indent$}{}",
            "",
            dice.pick(&["# enc", "# clear", "# some comment", "#  two  ", "# enc\n\n# ünï"])
        );
    }
}

/// A value after `key:` or `-`, with its line break.
fn yaml_value(dice: &mut Dice, out: &mut String, indent: usize, depth: usize) {
    let inner = indent + 2;
    match dice.below(if depth == 0 { 6 } else { 9 }) {
        0 | 1 => {
            let text = some_text(dice);
            let _ = writeln!(out, " {}", quoted(dice, &text));
        }
        2 | 3 => {
            let _ = writeln!(out, " {}", dice.pick(PLAIN));
        }
        4 => {
            let text: String =
                some_text(dice).chars().filter(|c| *c == '\n' || !c.is_control() && *c != '\u{feff}').collect();
            let _ = writeln!(out, " {}2{}", dice.pick(&["|", ">"]), dice.pick(&["", "-", "+"]));
            for line in text.split('\n') {
                let _ = writeln!(out, "{:inner$}{line}", "");
            }
        }
        5 => {
            let text = some_text(dice);
            let line = quoted(dice, &text);
            let _ = writeln!(out, " {line}{}", dice.pick(&["", " # enc", " # clear", " # inline"]));
        }
        6 | 7 => {
            out.push('\n');
            let before = out.len();
            yaml_map(dice, out, inner, depth - 1);
            if out.len() == before {
                out.push_str(" {}\n");
            }
        }
        _ => {
            if dice.one_in(5) {
                out.push_str(dice.pick(&[" []\n", " {}\n", " [a, 1, [x, {k: v}]]\n"]));
                return;
            }
            out.push('\n');
            for _ in 0..=dice.below(4) {
                yaml_comment(dice, out, inner);
                let _ = write!(out, "{:inner$}-", "");
                yaml_value(dice, out, inner, depth - 1);
            }
        }
    }
}

fn json_value(dice: &mut Dice, out: &mut String, depth: usize, object: bool) {
    if object || depth > 0 && dice.one_in(4) {
        out.push('{');
        for (number, key) in keys(dice).into_iter().enumerate() {
            if number > 0 {
                out.push(',');
            }
            let _ = write!(out, "{}:", quoted(dice, &key));
            json_value(dice, out, depth.saturating_sub(1), false);
        }
        out.push('}');
    } else if depth > 0 && dice.one_in(4) {
        out.push('[');
        for number in 0..dice.below(4) {
            if number > 0 {
                out.push(',');
            }
            json_value(dice, out, depth - 1, false);
        }
        out.push(']');
    } else if dice.one_in(2) {
        // Integers beyond 2^53 differ between versions of sops and have their place in the corpus.
        out.push_str(dice.pick(&[
            "0",
            "1",
            "-1",
            "42",
            "1.0",
            "1.5",
            "-2.25",
            "1e3",
            "1E-7",
            "1e21",
            "1e308",
            "5e-324",
            "123456789",
            "9007199254740991",
            "true",
            "false",
            "null",
            "{}",
            "[]",
            "0.1",
        ]));
    } else {
        let text = some_text(dice);
        out.push_str(&quoted(dice, &text));
    }
}

// --- tampering -----------------------------------------------------------------------------------

/// The file with one thing changed.
fn mutate(dice: &mut Dice, file: &[u8]) -> Vec<u8> {
    let mut out = file.to_vec();
    let text = String::from_utf8_lossy(file).into_owned();
    let values: Vec<(usize, usize)> = text
        .match_indices("ENC[AES256_GCM,")
        .filter_map(|(start, _)| text[start..].find(']').map(|length| (start, start + length + 1)))
        .collect();
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let line = dice.below(lines.len());
    match dice.below(16) {
        0 | 1 if !values.is_empty() => {
            let (start, end) = values[dice.below(values.len())];
            let at = start + dice.below(end - start);
            out[at] = dice.pick(b"Az0+/=,:\\");
        }
        2 | 3 if values.len() > 1 => {
            let (one, other) = (dice.below(values.len()), dice.below(values.len()));
            let ((a, b), (c, d)) = (values[one.min(other)], values[one.max(other)]);
            if a != c {
                return [&file[..a], &file[c..d], &file[b..c], &file[a..b], &file[d..]].concat();
            }
        }
        4 if !values.is_empty() => {
            let (start, end) = values[dice.below(values.len())];
            let kind = text[start..end].rfind("type:").map_or(end - 1, |at| start + at + 5);
            let new = dice.pick(&["str", "int", "float", "bool", "time", "bytes", "comment", "", "Str"]);
            return [&file[..kind], new.as_bytes(), &file[end - 1..]].concat();
        }
        5 if !values.is_empty() => {
            let (start, end) = values[dice.below(values.len())];
            let new = dice.pick(&["", "clear", "5", "true", "null", "[]", "{}", "ENC[AES256_GCM]"]);
            return [&file[..start], new.as_bytes(), &file[end..]].concat();
        }
        6 | 7 => {
            lines.remove(line);
            return lines.concat().into_bytes();
        }
        8 => {
            lines.insert(line, lines[line]);
            return lines.concat().into_bytes();
        }
        9 => {
            let other = dice.below(lines.len());
            lines.swap(line, other);
            return lines.concat().into_bytes();
        }
        10 => out.truncate(dice.below(file.len())),
        11 => {
            let at = dice.below(file.len());
            out[at] = u8::try_from(32 + dice.below(95)).unwrap();
        }
        12 => {
            let new = dice.pick(&[
                "x: y\n",
                "\"x\": \"y\",\n",
                "x = y\n",
                "x=y\n",
                "# comment\n",
                "x: ''\n",
                "\n",
                "---\n",
                "\"\": \"\",\n",
                "sops: {}\n",
                "[s]\n",
                "    - x\n",
            ]);
            lines.insert(line, new);
            return lines.concat().into_bytes();
        }
        13 => {
            let new = dice.pick(PLAIN);
            if let Some(at) = lines[line].find(": ").filter(|_| !lines[line].contains("ENC[")) {
                let changed = format!("{}: {new}\n", &lines[line][..at]);
                lines[line] = &changed;
                return lines.concat().into_bytes();
            }
        }
        14 => {
            let (from, to) = dice.pick(&[
                ("lastmodified: \"20", "lastmodified: \"21"),
                ("Z\"\n", "+00:00\"\n"),
                ("Z\",\n", ".5Z\",\n"),
                ("mac: ENC", "mac: XNC"),
                ("\"mac\"", "\"cam\""),
                ("sops_mac=", "sops_cam="),
                ("_unencrypted\n", "_other\n"),
                ("mac_only_encrypted: true", "mac_only_encrypted: false"),
                ("encrypted_regex", "unencrypted_regex"),
                ("version: ", "versions: "),
                ("\n", "\r\n"),
                ("BEGIN AGE", "BEGIN  AGE"),
            ]);
            return text.replacen(from, to, 1).into_bytes();
        }
        _ => {
            let at = dice.below(file.len());
            out.insert(at, u8::try_from(dice.below(256)).unwrap());
        }
    }
    out
}
