use sha2::Digest as _;

use super::*;
use crate::key::{DataKeyCounts, DataKeys, Keyring};
use crate::opener::Stop;
use crate::value::tests::{KEY, encrypt};

const LAST_MODIFIED: &str = "2024-05-06T07:08:09Z";

/// A keyring with one age identity, and the copy of a secret that it opens.
struct Holder {
    keys: Keyring,
    recipient: ::age::x25519::Recipient,
}

impl Holder {
    fn new() -> Self {
        let identity = ::age::x25519::Identity::generate();
        let mut holder = Self { keys: Keyring::default(), recipient: identity.to_public() };
        holder.add(&identity);
        holder
    }

    fn add(&mut self, identity: &::age::x25519::Identity) {
        use ::age::secrecy::ExposeSecret as _;
        let text = identity.to_string();
        assert_eq!(self.keys.load("k", text.expose_secret().as_bytes(), &[]).unwrap().added, 1);
    }

    fn wraps(&self, secret: &[u8]) -> Recipient {
        wrap(&self.recipient, secret)
    }
}

fn wrap(recipient: &::age::x25519::Recipient, secret: &[u8]) -> Recipient {
    let enc = ::age::encrypt_and_armor(recipient, secret).unwrap();
    Recipient { kind: RecipientKind::Age, name: recipient.to_string(), enc }
}

/// The `mac` of a file whose values have these bytes.
fn mac_of(values: &[u8]) -> String {
    let hex = format!("{:X}", sha2::Sha512::digest(values));
    encrypt(hex.as_bytes(), "str", LAST_MODIFIED)
}

fn metadata(groups: Vec<Vec<Recipient>>, mac: String) -> Metadata {
    Metadata {
        groups,
        threshold: 0,
        last_modified: LAST_MODIFIED.to_owned(),
        mac,
        rule: Rule::default_suffix(),
        stated_rule: None,
        mac_only_encrypted: false,
    }
}

fn map(entries: Vec<(&str, Node)>) -> Branch {
    Branch::from_entries(entries.into_iter().map(|(key, value)| (key.to_owned(), value)))
}

fn leaf(scalar: Scalar) -> Node {
    Node::Leaf(Leaf::clear(scalar))
}

fn ciphertext(value: &str, type_name: &str, path: &str) -> Node {
    Node::text(encrypt(value.as_bytes(), type_name, path))
}

fn comment(text: String) -> Comment {
    Comment { text: Plaintext::new(text.into_bytes()), origin: Origin::Clear }
}

/// Opens one document whose values have these bytes.
fn open(document: Branch, hashed: &str) -> Result<Opened, Error> {
    open_with(document, hashed, |_| {})
}

fn open_with(document: Branch, hashed: &str, change: impl FnOnce(&mut Metadata)) -> Result<Opened, Error> {
    let holder = Holder::new();
    let mut metadata = metadata(vec![vec![holder.wraps(&KEY)]], mac_of(hashed.as_bytes()));
    change(&mut metadata);
    Sealed::new(Tree { documents: vec![document] }, metadata).open(&holder.keys)
}

/// The value problem that a document is refused for, and its path.
fn problem(document: Branch) -> (String, ValueProblem) {
    match open(document, "") {
        Err(Error::Value { path, problem, .. }) => (path, problem),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it opens"),
    }
}

fn mac_problem(result: Result<Opened, Error>) -> MacProblem {
    match result {
        Err(Error::Mac(problem)) => problem,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it opens"),
    }
}

#[test]
fn values_of_every_type_open_under_their_own_path() {
    let document = map(vec![
        ("s", ciphertext("text", "str", "s:")),
        ("m", Node::Map(map(vec![("i", ciphertext("7", "int", "m:i:")), ("f", ciphertext("1.50", "float", "m:f:"))]))),
        ("l", Node::List(vec![Element::Node(ciphertext("True", "bool", "l:"))])),
        ("", ciphertext("2024-05-06T07:08:09Z", "time", ":")),
        ("p_unencrypted", leaf(Scalar::Int(5))),
        ("e", Node::text("")),
        ("n", leaf(Scalar::Null)),
    ]);
    let opened = open(document, "text71.5True2024-05-06T07:08:09Z5").unwrap_or_else(|error| panic!("{error}"));
    let [document] = opened.documents() else { panic!("one document") };
    let origin = |path: &[&str]| match document.at(path) {
        Some(Node::Leaf(leaf)) => (leaf.scalar.type_name(), leaf.origin),
        Some(Node::Map(_) | Node::List(_)) | None => panic!("no leaf at {path:?}"),
    };
    assert_eq!(origin(&["s"]), ("str", Origin::Decrypted));
    assert_eq!(origin(&["m", "i"]), ("int", Origin::Decrypted));
    assert_eq!(origin(&["m", "f"]), ("float", Origin::Decrypted));
    assert_eq!(origin(&[""]), ("time", Origin::Decrypted));
    assert_eq!(origin(&["p_unencrypted"]), ("int", Origin::Clear));
    assert_eq!(origin(&["e"]), ("str", Origin::Clear));
    assert_eq!(origin(&["n"]), ("null", Origin::Clear));
}

#[test]
fn a_value_moved_to_another_key_does_not_open() {
    assert_eq!(problem(map(vec![("b", ciphertext("v", "str", "a:"))])), ("b".to_owned(), ValueProblem::Unauthentic));
    // `a:b` as one key has the path of `b` below `a`: SOPS cannot tell them apart either.
    assert!(open(map(vec![("a:b", ciphertext("v", "str", "a:b:"))]), "v").is_ok());
}

#[test]
fn a_refused_value_is_named_by_its_path() {
    let inner = map(vec![("c", Node::List(vec![Element::Node(Node::text("clear"))]))]);
    let document = map(vec![("x", Node::Map(map(vec![]))), ("a", Node::Map(map(vec![("b", Node::Map(inner))])))]);
    assert_eq!(problem(document), ("a.b.c".to_owned(), ValueProblem::Clear));
}

#[test]
fn what_is_no_ciphertext_in_an_encrypted_position_is_refused() {
    let alone = |node| problem(map(vec![("a", node)])).1;
    assert_eq!(alone(Node::text("clear")), ValueProblem::Clear);
    assert_eq!(alone(Node::text("ENC[AES256_GCM,data:")), ValueProblem::Malformed);
    for scalar in [Scalar::Bool(true), Scalar::Int(1), Scalar::Float(1.0), Scalar::Time(LAST_MODIFIED.to_owned())] {
        assert_eq!(alone(leaf(scalar)), ValueProblem::NotText);
    }
    assert_eq!(alone(ciphertext("c", "comment", "a:")), ValueProblem::WrongType);
}

#[test]
fn an_integer_that_sops_cannot_hold_is_refused_also_in_the_clear() {
    let document = map(vec![("a_unencrypted", leaf(Scalar::Uint(u64::MAX)))]);
    assert_eq!(problem(document).1, ValueProblem::Unhashable);
}

#[test]
fn encrypted_comments_are_no_values_and_count_nowhere() {
    let mut document = map(vec![(
        "l",
        Node::List(vec![
            Element::Node(ciphertext(" first", "comment", "l:")),
            Element::Node(ciphertext("v", "str", "l:")),
            Element::Comment(comment(encrypt(b" second", "comment", "l:"))),
        ]),
    )]);
    document.items.push(Item::Comment(comment(encrypt(b" third", "comment", ":"))));
    let opened = open(document, "v").unwrap_or_else(|error| panic!("{error}"));
    let Some(Node::List(elements)) = opened.documents()[0].get("l") else { panic!("a list") };
    let texts: Vec<&str> = elements
        .iter()
        .map(|element| match element {
            Element::Comment(comment) if comment.origin == Origin::Decrypted => comment.text.text().unwrap(),
            Element::Comment(_) => panic!("a comment is not decrypted"),
            Element::Node(_) => "value",
        })
        .collect();
    assert_eq!(texts, [" first", "value", " second"]);
}

#[test]
fn a_comment_that_does_not_decrypt_is_kept_as_it_stands() {
    let moved = encrypt(b"elsewhere", "comment", "x:");
    let mut document = map(vec![]);
    for text in [" clear", "ENC[AES256_GCM,", &moved] {
        document.items.push(Item::Comment(comment(text.to_owned())));
    }
    let opened = open(document, "").unwrap_or_else(|error| panic!("{error}"));
    let kept: Vec<(&str, Origin)> = opened.documents()[0]
        .items
        .iter()
        .map(|item| match item {
            Item::Comment(comment) => (comment.text.text().unwrap(), comment.origin),
            Item::Entry(_) => panic!("an entry"),
        })
        .collect();
    assert_eq!(kept, [" clear", "ENC[AES256_GCM,", moved.as_str()].map(|text| (text, Origin::Clear)));
}

#[test]
fn a_value_cannot_be_turned_into_a_comment() {
    let value = Element::Comment(comment(encrypt(b"one", "str", "l:")));
    let in_list = map(vec![("l", Node::List(vec![value]))]);
    assert_eq!(problem(in_list), ("l".to_owned(), ValueProblem::WrongType));
    let mut in_mapping = map(vec![]);
    in_mapping.items.push(Item::Comment(comment(encrypt(b"x", "unheard", ":"))));
    assert_eq!(problem(in_mapping), (String::new(), ValueProblem::WrongType));
}

#[test]
fn the_mac_is_never_optional() {
    let document = || map(vec![("a", ciphertext("v", "str", "a:"))]);
    assert!(open(document(), "v").is_ok());
    assert_eq!(mac_problem(open(document(), "w")), MacProblem::Mismatch);
    let with = |mac: String| mac_problem(open_with(document(), "v", |metadata| metadata.mac = mac));
    assert_eq!(with(String::new()), MacProblem::Absent);
    assert_eq!(with("text".to_owned()), MacProblem::Unreadable);
    assert_eq!(with(encrypt(b"v", "str", "a:")), MacProblem::Unreadable);
    assert_eq!(with(encrypt(b"7", "int", LAST_MODIFIED)), MacProblem::Mismatch);
    let later = |metadata: &mut Metadata| metadata.last_modified = "2024-05-06T07:08:10Z".to_owned();
    assert_eq!(mac_problem(open_with(document(), "v", later)), MacProblem::Unreadable);
}

#[test]
fn a_value_that_does_not_decrypt_is_named_before_the_mac() {
    let document = map(vec![("a", ciphertext("v", "str", "b:"))]);
    let result = open_with(document, "", |metadata| metadata.mac = String::new());
    assert!(matches!(result, Err(Error::Value { .. })));
}

#[test]
fn with_mac_only_encrypted_clear_values_do_not_count_and_the_hash_begins_with_a_constant() {
    let document = || map(vec![("a", ciphertext("v", "str", "a:")), ("b_unencrypted", Node::text("clear"))]);
    let init = sha2::Sha256::digest("sops");
    let only = |metadata: &mut Metadata| {
        metadata.mac_only_encrypted = true;
        metadata.mac = mac_of(&[init.as_slice(), b"v"].concat());
    };
    assert!(open_with(document(), "", only).is_ok());
    assert!(open(document(), "vclear").is_ok());
    assert_eq!(
        mac_problem(open_with(document(), "v", |metadata| metadata.mac_only_encrypted = true)),
        MacProblem::Mismatch
    );
}

#[test]
fn one_mac_covers_all_documents() {
    let holder = Holder::new();
    let documents = ["one", "two"].map(|text| map(vec![("a", ciphertext(text, "str", "a:"))])).into();
    let metadata = metadata(vec![vec![holder.wraps(&KEY)]], mac_of(b"onetwo"));
    assert!(Sealed::new(Tree { documents }, metadata).open(&holder.keys).is_ok());
}

#[test]
fn a_data_key_of_another_length_is_refused() {
    let holder = Holder::new();
    let metadata = metadata(vec![vec![holder.wraps(&KEY[..16])]], mac_of(b""));
    let result = Sealed::new(Tree::default(), metadata).open(&holder.keys).map(|_| ());
    assert_eq!(result, Err(Error::Parts { problem: "is not 32 bytes long" }));
}

#[test]
fn without_an_identity_all_recipients_are_named_also_those_of_clouds() {
    let (holder, stranger) = (Holder::new(), Holder::new());
    let cloud = Recipient { kind: RecipientKind::AwsKms, name: "arn:aws:kms:x".to_owned(), enc: String::new() };
    let own = Recipient { enc: "damaged".to_owned(), ..holder.wraps(&KEY) };
    let groups = vec![vec![stranger.wraps(&KEY), own, cloud]];
    let result = Sealed::new(Tree::default(), metadata(groups, String::new())).open(&holder.keys).map(|_| ());
    let Err(Error::NoKey(report)) = result else { panic!("{result:?}") };
    let [stranger, own] = [stranger.recipient, holder.recipient].map(|recipient| format!("age {recipient}"));
    assert_eq!(report.recipients, [stranger, own.clone(), "kms arn:aws:kms:x".to_owned()]);
    assert_eq!(report.damaged, [own]);
    assert_eq!(report.identities, holder.keys.describe());
}

/// Three parts of [`KEY`] for any two holders: values on a line through it.
fn parts() -> [Vec<u8>; 3] {
    // With slope 1 the value at x is the key byte plus x, and plus is exclusive or.
    [1, 2, 3].map(|x| KEY.iter().map(|byte| byte ^ x).chain([x]).collect())
}

fn open_parts(held: usize, threshold: usize) -> Result<(), Error> {
    let identities = [(); 3].map(|()| ::age::x25519::Identity::generate());
    let groups = identities.iter().zip(parts()).map(|(one, part)| vec![wrap(&one.to_public(), &part)]).collect();
    let mut holder = Holder::new();
    identities.iter().take(held).for_each(|identity| holder.add(identity));
    let metadata = Metadata { threshold, ..metadata(groups, mac_of(b"")) };
    Sealed::new(Tree::default(), metadata).open(&holder.keys).map(|_| ())
}

#[test]
fn enough_key_groups_combine_to_the_data_key() {
    assert_eq!(open_parts(2, 2), Ok(()));
    assert_eq!(open_parts(3, 2), Ok(()));
    assert_eq!(open_parts(2, 0), Ok(()));
}

#[test]
fn too_few_key_groups_are_counted() {
    let counted = |held, threshold| match open_parts(held, threshold) {
        Err(Error::TooFewParts { have, need, .. }) => (have, need),
        other => panic!("{other:?}"),
    };
    assert_eq!(counted(2, 3), (2, 3));
    assert_eq!(counted(1, 2), (1, 2));
    // One part is no key, whatever the threshold says.
    assert_eq!(counted(1, 0), (1, 2));
    assert!(matches!(open_parts(0, 2), Err(Error::NoKey(_))));
}

#[test]
fn redacted_output_tells_type_and_length_and_nothing_else() {
    let mut document = map(vec![
        ("s", ciphertext("canary", "str", "s:")),
        ("i", ciphertext("424242", "int", "i:")),
        ("t", ciphertext("2031-01-01T00:00:00Z", "time", "t:")),
        ("e", Node::text("")),
        ("p_unencrypted", Node::text("clear")),
    ]);
    document.items.push(Item::Comment(comment(encrypt(b" canary", "comment", ":"))));
    let opened = open(document, "canary4242422031-01-01T00:00:00Zclear").unwrap_or_else(|error| panic!("{error}"));
    let text = |format, reveal| {
        let emitted = opened.emit(format, reveal).unwrap_or_else(|error| panic!("{error}"));
        emitted.text().unwrap().to_owned()
    };
    let redacted = text(Format::Json, Reveal::Redacted);
    for shown in ["<redacted str, 6 bytes>", "<redacted int>", "<redacted time>", "clear"] {
        // JSON as `sops` writes it escapes the brackets.
        let escaped = shown.replace('<', "\\u003c").replace('>', "\\u003e");
        assert!(redacted.contains(shown) || redacted.contains(&escaped), "{shown} in {redacted}");
    }
    let yaml = text(Format::Yaml, Reveal::Redacted);
    assert!(yaml.contains("# <redacted comment>"), "{yaml}");
    for secret in ["canary", "424242", "2031"] {
        assert!(!redacted.contains(secret) && !yaml.contains(secret));
        assert!(text(Format::Yaml, Reveal::Values).contains(secret));
    }
}

#[test]
fn several_documents_as_json_stand_one_a_line() {
    let holder = Holder::new();
    let documents = ["one", "two"].map(|text| map(vec![("a", ciphertext(text, "str", "a:"))])).into();
    let metadata = metadata(vec![vec![holder.wraps(&KEY)]], mac_of(b"onetwo"));
    let opened = Sealed::new(Tree { documents }, metadata).open(&holder.keys).unwrap_or_else(|error| panic!("{error}"));
    let json = opened.emit(Format::Json, Reveal::Values).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(json.text().unwrap(), "{\"a\":\"one\"}\n{\"a\":\"two\"}\n");
    let dotenv = opened.emit(Format::Dotenv, Reveal::Values).map(|_| ());
    assert!(matches!(dotenv, Err(Error::Emit { problem: crate::EmitProblem::Documents, .. })));
}

#[test]
fn documents_with_the_same_copies_share_their_unwraps() {
    let (holder, stranger) = (Holder::new(), Holder::new());
    let shared = DataKeys::new(10, 10);
    let sealed = |groups| {
        let tree = Tree { documents: vec![map(vec![("a", ciphertext("v", "str", "a:"))])] };
        Sealed::new(tree, metadata(groups, mac_of(b"v")))
    };
    let copy = holder.wraps(&KEY);
    for _ in 0..3 {
        sealed(vec![vec![copy.clone()]]).open(Opener::new(&holder.keys).sharing(&shared)).unwrap();
    }
    assert_eq!(shared.counts(), DataKeyCounts { hits: 2, misses: 1, held: 1 });
    // Who does not hold the identity gets nothing, and hears it as ever.
    let foreign = sealed(vec![vec![copy]]).open(Opener::new(&stranger.keys).sharing(&shared));
    assert!(matches!(foreign, Err(Error::NoKey(_))));

    // Two groups: each part is a copy of its own. On a polynomial of degree 0 every part has the key's bytes.
    let part = |x| [&KEY[..], &[x]].concat();
    let groups = vec![vec![holder.wraps(&part(1))], vec![stranger.wraps(&part(3)), holder.wraps(&part(2))]];
    let before = shared.counts();
    for _ in 0..2 {
        sealed(groups.clone()).open(Opener::new(&holder.keys).sharing(&shared)).unwrap();
    }
    let after = shared.counts();
    assert_eq!((after.hits - before.hits, after.held - before.held), (2, 2));
}

#[test]
fn a_stopped_opener_opens_nothing_and_says_so() {
    let holder = Holder::new();
    let stop = Stop::default();
    stop.stop();
    let copy = || vec![holder.wraps(&KEY)];
    let foreign = || vec![Holder::new().wraps(&KEY)];
    for groups in [vec![copy()], vec![foreign()], vec![copy(), copy()], vec![foreign(), foreign()]] {
        let sealed = Sealed::new(Tree { documents: vec![map(vec![])] }, metadata(groups, mac_of(b"")));
        let opened = sealed.open(Opener::new(&holder.keys).until(&stop));
        assert!(matches!(opened, Err(Error::Stopped)));
    }
}
