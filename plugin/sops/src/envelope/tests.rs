//! Real files (tests/data/keys/files, made by hack/key-fixtures).

use std::path::Path;

use super::*;
use crate::key::Passphrase;

#[expect(clippy::disallowed_methods, reason = "tests read their fixtures")]
fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/keys").join(name);
    std::fs::read(path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn keyring(names: &[&str]) -> Keyring {
    let mut keys = Keyring::default();
    for name in names {
        keys.load(name, &fixture(name), &[Passphrase::new(fixture("passphrase"))]).unwrap();
    }
    keys
}

fn everybody() -> Keyring {
    keyring(&["age/x25519", "age/post-quantum", "pgp/cv25519"])
}

fn open_file(name: &str, keys: &Keyring) -> Result<Plaintext, Error> {
    let (envelope, _) = Envelope::of_name(name).unwrap();
    open(&fixture(&format!("files/{name}")), envelope, keys, &Limits::default())
}

const OPEN: [&str; 9] = [
    "binary.yaml.age",
    "armored.yaml.age",
    "post-quantum.yaml.age",
    "binary.yaml.gpg",
    "armored.yaml.asc",
    "signed.yaml.asc",
    "hidden.yaml.pgp",
    "passphrase-or-key.yaml.gpg",
    "text-mode.yaml.gpg",
];

#[test]
fn the_name_promises_the_envelope() {
    assert_eq!(Envelope::of_name("db.yaml.age"), Some((Envelope::Age, "db.yaml")));
    assert_eq!(Envelope::of_name("a/db.json.asc"), Some((Envelope::Pgp, "a/db.json")));
    assert_eq!(Envelope::of_name("db.yaml.gpg"), Some((Envelope::Pgp, "db.yaml")));
    assert_eq!(Envelope::of_name("db.yaml.pgp"), Some((Envelope::Pgp, "db.yaml")));
    for name in ["db.yaml", ".age", "a/.gpg", "age", "db.AGE", ""] {
        assert_eq!(Envelope::of_name(name), None, "{name}");
    }
}

#[test]
fn files_of_the_real_programs_open() {
    let keys = everybody();
    let manifest = fixture("files/manifest.yaml");
    for name in OPEN {
        let opened = open_file(name, &keys).unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = match name {
            // OpenPGP text has network line ends; YAML reads them alike.
            "text-mode.yaml.gpg" => String::from_utf8(manifest.clone()).unwrap().replace('\n', "\r\n").into_bytes(),
            _ => manifest.clone(),
        };
        assert!(opened.bytes() == expected, "{name}");
    }
}

#[test]
fn without_an_identity_the_error_names_both_sides() {
    let keys = keyring(&["age/other", "pgp/stranger"]);
    let other = keys.describe();
    for name in OPEN {
        let Err(Error::NoKey(report)) = open_file(name, &keys) else { panic!("{name}") };
        assert_eq!(report.identities, other);
        let expected: Vec<&str> = match name {
            "binary.yaml.age" | "armored.yaml.age" => vec!["X25519"],
            "post-quantum.yaml.age" => vec!["mlkem768x25519"],
            "hidden.yaml.pgp" => vec!["a hidden pgp recipient"],
            _ => {
                assert!(report.recipients.iter().all(|name| name.len() == "pgp ".len() + 16), "{name}");
                continue;
            }
        };
        assert_eq!(report.recipients, expected, "{name}");
    }
}

#[test]
fn a_file_that_was_changed_anywhere_does_not_open() {
    let keys = everybody();
    for name in OPEN {
        let (envelope, _) = Envelope::of_name(name).unwrap();
        let whole = fixture(&format!("files/{name}"));
        for at in (0..whole.len()).step_by(7) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            match open(&changed, envelope, &keys, &Limits::default()) {
                Err(Error::Envelope { .. } | Error::NoKey(_)) => {}
                Err(other) => panic!("{name}, byte {at}: {other:?}"),
                // Not everything is ciphertext: armor, its checksum, the unused lengths and key ids
                // of other recipients. What opens is the file itself.
                Ok(opened) => assert!(opened.bytes() == open_file(name, &keys).unwrap().bytes(), "{name}, byte {at}"),
            }
        }
    }
}

#[test]
fn a_file_that_was_cut_off_yields_no_shorter_one() {
    let keys = everybody();
    for name in OPEN.into_iter().chain(["three-chunks.age"]) {
        let (envelope, _) = Envelope::of_name(name).unwrap();
        let whole = fixture(&format!("files/{name}"));
        let armored = whole.starts_with(b"-----");
        // Within the last line of an armor nothing is lost.
        let last = if armored { whole.len() - 40 } else { whole.len() - 1 };
        for keep in (1..last).step_by((whole.len() / 50).max(1)).chain([last]) {
            let cut = open(&whole[..keep], envelope, &keys, &Limits::default());
            assert!(matches!(cut, Err(Error::Envelope { .. })), "{name}, {keep} bytes: {cut:?}");
        }
    }
    // At the boundary of a chunk each chunk authenticates on its own.
    let whole = fixture("files/three-chunks.age");
    let header = whole.len() - (200_000 + 4 * 16);
    let cut = open(&whole[..header + 65_536 + 16], Envelope::Age, &keys, &Limits::default());
    assert_eq!(cut.unwrap_err(), refused(CHANGED));
}

#[test]
fn what_no_identity_can_open_is_told() {
    let keys = everybody();
    assert_eq!(open_file("passphrase.yaml.age", &keys).unwrap_err(), refused(UNDER_PASSPHRASE));
    assert_eq!(open_file("passphrase.yaml.gpg", &keys).unwrap_err(), refused(UNDER_PASSPHRASE));
    assert_eq!(open_file("signed-only.yaml.gpg", &keys).unwrap_err(), refused(NO_PGP_MESSAGE));
    for bytes in [b"".as_slice(), b"kind: Secret\n", b"\xff\xff\xff\xff", b"age-encryption.org/v2\n"] {
        assert_eq!(open(bytes, Envelope::Age, &keys, &Limits::default()).unwrap_err(), refused(NO_AGE_FILE));
        assert_eq!(open(bytes, Envelope::Pgp, &keys, &Limits::default()).unwrap_err(), refused(NO_PGP_MESSAGE));
    }
    // The content decides nothing: a file is what its name says.
    assert_eq!(
        open(&fixture("files/binary.yaml.age"), Envelope::Pgp, &keys, &Limits::default()).unwrap_err(),
        refused(NO_PGP_MESSAGE)
    );
}

#[test]
fn ciphertext_and_plaintext_are_bounded_by_the_document() {
    let keys = everybody();
    let manifest = fixture("files/manifest.yaml").len();
    for name in ["three-chunks.age", "binary.yaml.age", "binary.yaml.gpg", "armored.yaml.asc"] {
        let (envelope, _) = Envelope::of_name(name).unwrap();
        let file = fixture(&format!("files/{name}"));
        let at = |document| open(&file, envelope, &keys, &Limits { document, ..Limits::default() });
        assert!(at(file.len()).is_ok(), "{name}");
        let limit = file.len() - 1;
        assert_eq!(at(limit).unwrap_err(), Error::TooLarge { limit }, "{name}");
    }
    // The plaintext's own bound, without the ciphertext's.
    let age = age::dearmor_where_armored(&fixture("files/binary.yaml.age")).unwrap();
    assert!(age::open(&age, &keys, "", 100, manifest).is_ok());
    assert_eq!(age::open(&age, &keys, "", 100, manifest - 1).unwrap_err(), age::Closed::TooLarge);
    let pgp = fixture("files/binary.yaml.gpg");
    assert!(pgp::open(&pgp, &keys, 100, manifest).is_ok());
    assert_eq!(pgp::open(&pgp, &keys, 100, manifest - 1).unwrap_err(), pgp::Closed::TooLarge);
}

#[test]
fn a_decompression_bomb_is_refused() {
    let limit = Limits::default().document;
    assert_eq!(open_file("bomb.gpg", &everybody()).unwrap_err(), Error::TooLarge { limit });
}

#[test]
fn recipients_are_bounded() {
    let keys = everybody();
    let file = fixture("files/binary.yaml.gpg");
    let two = |recipients| open(&file, Envelope::Pgp, &keys, &Limits { recipients, ..Limits::default() });
    assert!(two(2).is_ok());
    assert_eq!(two(1).unwrap_err(), refused(NO_PGP_MESSAGE));
}

#[test]
fn a_header_of_many_lines_costs_linear_time() {
    // 200 KB of stanza lines: parsed again for each line, they would take a minute.
    let mut file = b"age-encryption.org/v1\n".to_vec();
    for _ in 0..100 {
        file.extend_from_slice(b"-> X25519 stanza\n");
        file.extend_from_slice(&b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n".repeat(30));
        file.extend_from_slice(b"\n");
    }
    file.extend_from_slice(b"--- AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n0123456789abcdef0123456789abcdef");
    let error = open(&file, Envelope::Age, &everybody(), &Limits::default()).unwrap_err();
    // Each stanza is one of the identity's kind, and none is well-formed.
    assert_eq!(error, refused(CHANGED));
}

#[test]
fn manifests_count_as_decrypted_to_the_last_leaf() {
    let opened =
        open_manifests(&fixture("files/binary.yaml.age"), Envelope::Age, "db.yaml", &everybody(), &Limits::default())
            .unwrap();
    let [document] = opened.documents() else { panic!("one document") };
    assert_eq!(document.public_text(&["metadata", "namespace"]), Some("app"));
    let Some(Node::Leaf(password)) = document.at(&["stringData", "password"]) else { panic!("a leaf") };
    assert_eq!(password.origin, Origin::Decrypted);
    assert_eq!(password.clear_text(), None);
    let comments: Vec<Origin> = document
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Comment(comment) => Some(comment.origin),
            Item::Entry(_) => None,
        })
        .collect();
    assert_eq!(comments, [Origin::Decrypted]);
}

#[test]
fn json_manifests_open_too() {
    let file = fixture("files/manifest.json.age");
    let opened = open_manifests(&file, Envelope::Age, "db.json", &everybody(), &Limits::default()).unwrap();
    assert_eq!(opened.documents().len(), 1);
}

#[test]
fn sops_inside_an_envelope_is_refused() {
    let file = fixture("files/sops-inside.yaml.age");
    let error = open_manifests(&file, Envelope::Age, "db.yaml", &everybody(), &Limits::default()).err();
    assert_eq!(error, Some(refused(SOPS_INSIDE)));
}

#[test]
fn only_yaml_and_json_are_manifests() {
    let file = fixture("files/binary.yaml.age");
    for name in ["db.env", "db.ini", "db.txt", "db"] {
        let error = open_manifests(&file, Envelope::Age, name, &everybody(), &Limits::default()).err();
        assert_eq!(error, Some(refused(NO_MANIFESTS)), "{name}");
    }
}
