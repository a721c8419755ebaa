//! Real key files and wrapped keys (tests/data/keys, made by hack/key-fixtures).

use std::path::{Path, PathBuf};

use base64::Engine as _;

use super::*;

#[expect(clippy::disallowed_methods, reason = "tests read their fixtures")]
fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn text(name: &str) -> String {
    String::from_utf8(fixture(name)).unwrap().trim_end().to_owned()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/keys")
}

fn passphrase() -> Vec<Passphrase> {
    vec![Passphrase::new(b"not it".to_vec()), Passphrase::new(fixture("passphrase"))]
}

fn keyring(names: &[&str]) -> Keyring {
    let mut keys = Keyring::default();
    for name in names {
        keys.load(name, &fixture(name), &passphrase()).unwrap_or_else(|error| panic!("{error}"));
    }
    keys
}

fn refusal(bytes: &[u8], passphrases: &[Passphrase]) -> (Option<usize>, IdentityProblem) {
    let mut keys = Keyring::default();
    match keys.load("key", bytes, passphrases) {
        Err(Error::Identity { source_name, line, problem }) => {
            assert_eq!(source_name, "key");
            assert!(keys.is_empty(), "a refused file adds nothing");
            (line, problem)
        }
        Err(other) => panic!("{other:?}"),
        Ok(loaded) => panic!("loaded: {loaded:?}"),
    }
}

fn age_recipient(name: &str, enc: &str) -> Recipient {
    Recipient { kind: RecipientKind::Age, name: name.to_owned(), enc: enc.to_owned() }
}

fn pgp_recipient(name: &str, enc: &str) -> Recipient {
    Recipient { kind: RecipientKind::Pgp, name: name.to_owned(), enc: enc.to_owned() }
}

/// A line of a `.case` file.
fn field<'a>(case: &'a str, name: &str) -> &'a str {
    case.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap()
}

struct Case {
    name: String,
    identity: String,
    recipient: Recipient,
    data_key: Vec<u8>,
}

#[expect(clippy::disallowed_methods, reason = "tests read their fixtures")]
fn cases() -> Vec<Case> {
    let mut names: Vec<String> = std::fs::read_dir(folder().join("data-keys"))
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".case")?.to_owned()))
        .collect();
    names.sort();
    assert!(names.len() > 50, "the corpus is there");
    names
        .into_iter()
        .map(|name| {
            let case = text(&format!("data-keys/{name}.case"));
            let kind = match field(&case, "kind") {
                "age" => RecipientKind::Age,
                "pgp" => RecipientKind::Pgp,
                other => panic!("{other}"),
            };
            Case {
                identity: field(&case, "identity").to_owned(),
                recipient: Recipient {
                    kind,
                    name: field(&case, "recipient").to_owned(),
                    enc: String::from_utf8(fixture(&format!("data-keys/{name}.enc"))).unwrap(),
                },
                data_key: fixture(if name.starts_with("sops-") { "sops-data-key" } else { "data-key" }),
                name,
            }
        })
        .collect()
}

#[test]
fn every_wrapped_key_opens_with_its_identity() {
    for case in cases() {
        let keys = keyring(&[&case.identity]);
        match Opener::new(&keys).unwrap(&case.recipient) {
            Ok(key) => assert!(key.bytes() == case.data_key, "{}: another key", case.name),
            Err(why) => panic!("{}: {why:?}", case.name),
        }
    }
}

#[test]
fn recipients_match_by_their_public_part() {
    for case in cases() {
        let named = !matches!(case.name.as_str(), "age-bogus-recipient" | "pgp-seipd2" | "pgp-seipd2-v6");
        assert_eq!(keyring(&[&case.identity]).matches(&case.recipient), named, "{}", case.name);
        assert!(!keyring(&["age/other", "pgp/stranger"]).matches(&case.recipient), "{}", case.name);
    }
}

#[test]
fn the_wrong_identity_opens_nothing() {
    let keys = keyring(&["age/other", "pgp/revoked"]);
    for case in cases() {
        if case.name.starts_with("pgp-revoked") || case.name.starts_with("age-several") {
            continue;
        }
        assert_eq!(Opener::new(&keys).unwrap(&case.recipient).err(), Some(NotOpened::NoIdentity), "{}", case.name);
    }
}

#[test]
fn identities_of_all_kinds_share_a_keyring() {
    let keys = keyring(&["age/x25519", "age/post-quantum", "ssh/ed25519", "ssh/rsa", "pgp/cv25519", "pgp/rsa2048"]);
    for case in cases().into_iter().filter(|case| case.name.starts_with("sops-")) {
        assert!(
            Opener::new(&keys).unwrap(&case.recipient).is_ok_and(|key| key.bytes() == case.data_key),
            "{}",
            case.name
        );
    }
    // The hidden recipient's packet is tried with every key, also with those of other algorithms.
    let hidden = cases().into_iter().find(|case| case.name == "pgp-hidden-in-ring").unwrap();
    assert!(Opener::new(&keys).unwrap(&hidden.recipient).is_ok());
}

#[test]
fn a_damaged_copy_is_told_from_a_foreign_one() {
    for case in cases() {
        let keys = keyring(&[&case.identity]);
        let mut damaged = case.recipient.clone();
        // One base64 digit in the last full line: the payload, or its MAC.
        let lines: Vec<&str> = case.recipient.enc.lines().collect();
        let line = lines.iter().rposition(|line| line.trim_end().len() > 20 && !line.starts_with("-----")).unwrap();
        let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let digit = changed[line].as_bytes()[4];
        changed[line].replace_range(4..5, if digit == b'A' { "B" } else { "A" });
        damaged.enc = changed.join("\n") + "\n";
        assert_eq!(Opener::new(&keys).unwrap(&damaged).err(), Some(NotOpened::Damaged), "{}", case.name);
    }
}

#[test]
fn a_copy_that_was_cut_off_yields_nothing() {
    for case in cases() {
        let keys = keyring(&[&case.identity]);
        for keep in [case.recipient.enc.len() / 2, case.recipient.enc.trim_end().len() - 1] {
            let mut cut = case.recipient.clone();
            cut.enc.truncate(keep);
            // The armor's last dash is not needed to decode OpenPGP, and gpg does not insist on it.
            if let Ok(key) = Opener::new(&keys).unwrap(&cut) {
                assert!(case.name.contains("pgp") && key.bytes() == case.data_key, "{}", case.name);
            }
        }
    }
}

#[test]
fn age_copies_follow_the_rules_of_sops() {
    let keys = keyring(&["age/x25519"]);
    let public = text("age/x25519.pub");
    let unarmored = String::from_utf8_lossy(&fixture("data-keys/age-unarmored.bin")).into_owned();
    assert_eq!(Opener::new(&keys).unwrap(&age_recipient(&public, &unarmored)).err(), Some(NotOpened::Damaged));
    let good = text("data-keys/age-x25519.enc");
    let trailing = format!("{good}\nmore");
    assert_eq!(Opener::new(&keys).unwrap(&age_recipient(&public, &trailing)).err(), Some(NotOpened::Damaged));
    let with_comment = format!("{public} laptop of the operator");
    assert!(keys.matches(&age_recipient(&with_comment, "")));
    assert!(Opener::new(&keys).unwrap(&age_recipient(&with_comment, &good)).is_ok());
}

#[test]
fn stanzas_and_length_of_a_data_key_are_bounded() {
    let keys = keyring(&["age/x25519"]);
    let public = text("age/x25519.pub");
    let unwrap = |name: &str| Opener::new(&keys).unwrap(&age_recipient(&public, &text(name)));
    assert!(unwrap("data-keys/age-16-stanzas.txt").is_ok());
    assert_eq!(unwrap("data-keys/age-17-stanzas.txt").err(), Some(NotOpened::Damaged));
    assert_eq!(unwrap("data-keys/age-65-bytes.txt").err(), Some(NotOpened::Damaged));
    let good = text("data-keys/age-x25519.enc");
    let padded = format!("{good}{}x", "\n".repeat(MAX_DATA_KEY_TEXT));
    assert_eq!(Opener::new(&keys).unwrap(&age_recipient(&public, &padded)).err(), Some(NotOpened::Damaged));
}

#[test]
fn pgp_copies_without_a_key_or_integrity_are_refused() {
    let keys = keyring(&["pgp/cv25519"]);
    let public = text("pgp/cv25519.fingerprint");
    let unwrap = |name: &str| Opener::new(&keys).unwrap(&pgp_recipient(&public, &text(name))).err();
    assert_eq!(unwrap("data-keys/pgp-empty.txt"), Some(NotOpened::Damaged));
    assert_eq!(unwrap("data-keys/pgp-65-bytes.txt"), Some(NotOpened::Damaged));
    assert_eq!(unwrap("data-keys/pgp-passphrase.txt"), Some(NotOpened::Damaged));
    // `gpg --ignore-mdc-error` opens it: only the missing protection is the reason.
    assert_eq!(unwrap("data-keys/pgp-without-integrity.txt"), Some(NotOpened::Damaged));
    assert_eq!(Opener::new(&keys).unwrap(&pgp_recipient(&public, "")).err(), Some(NotOpened::Damaged));
    assert_eq!(Opener::new(&keys).unwrap(&pgp_recipient("0000", "")).err(), Some(NotOpened::NoIdentity));
}

#[test]
fn clouds_are_nobody_s_identity() {
    let keys = keyring(&["age/x25519"]);
    for kind in [
        RecipientKind::AwsKms,
        RecipientKind::GcpKms,
        RecipientKind::AzureKeyVault,
        RecipientKind::VaultTransit,
        RecipientKind::HuaweiKms,
    ] {
        let recipient = Recipient { kind, name: text("age/x25519.pub"), enc: text("data-keys/age-x25519.enc") };
        assert!(!keys.matches(&recipient));
        assert_eq!(Opener::new(&keys).unwrap(&recipient).err(), Some(NotOpened::NoIdentity));
    }
}

#[test]
fn a_plugin_is_asked_after_native_identities() {
    struct Counting(::age::x25519::Identity, std::sync::Arc<std::sync::atomic::AtomicUsize>);
    impl ::age::Identity for Counting {
        fn unwrap_stanza(
            &self,
            stanza: &age_core::format::Stanza,
        ) -> Option<Result<age_core::format::FileKey, ::age::DecryptError>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.unwrap_stanza(stanza)
        }
    }
    let secret = text("age/x25519");
    let secret = secret.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap();
    let asked = std::sync::Arc::default();
    let plugin = Counting(secret.parse().unwrap(), std::sync::Arc::clone(&asked));
    let asked = || asked.load(Ordering::Relaxed);
    let copy = age_recipient("age1device1xyz", &text("data-keys/age-x25519.enc"));

    let mut keys = keyring(&["age/other"]);
    assert!(!keys.matches(&copy));
    keys.add_plugin("age-plugin-device".to_owned(), Box::new(plugin));
    assert!(keys.matches(&copy));
    assert!(!keys.matches(&age_recipient("age1device2xyz", "")));
    assert!(Opener::new(&keys).unwrap(&copy).is_ok());
    assert_eq!(asked(), 1);
    keys.load("native", secret.as_bytes(), &[]).unwrap();
    assert!(Opener::new(&keys).unwrap(&copy).is_ok());
    assert_eq!(asked(), 1, "a native identity opened it");
    assert_eq!(keys.describe().last().unwrap(), "age-plugin-device");
}

#[test]
fn a_mixed_key_file_gives_all_it_holds() {
    let mut keys = Keyring::default();
    let loaded = keys.load("mixed", &fixture("age/mixed"), &[]).unwrap();
    assert_eq!((loaded.added, loaded.skipped.len()), (2, 0));
    let [(line, plugin)] = loaded.plugins.as_slice() else { panic!("{loaded:?}") };
    assert_eq!((*line, plugin.name()), (5, "batchpass"));
    assert!(plugin.as_str().starts_with("AGE-PLUGIN-BATCHPASS-1"));
    assert_eq!(format!("{plugin:?}"), "PluginLine(batchpass)");
    assert!(keys.matches(&age_recipient(&text("age/x25519.pub"), "")));
    assert!(keys.matches(&age_recipient(&text("age/post-quantum.pub"), "")));
}

#[test]
fn a_bad_line_is_named_by_its_number_alone() {
    let good = text("age/x25519");
    let secret = good.lines().last().unwrap();
    let (head, tail) = secret.split_at(secret.len() - 1);
    let flipped = format!("{head}{}", if tail == "Q" { "P" } else { "Q" });
    for bad in
        [&flipped, &secret.to_lowercase(), secret.split_at(40).0, "AGE-PLUGIN-BROKEN", "AGE-SECRET-KEY-PQ-1QQ", "hello"]
    {
        let file = format!("# comment\n\n{secret}\n{bad}\n");
        assert_eq!(refusal(file.as_bytes(), &[]), (Some(4), IdentityProblem::BadLine), "{bad}");
        let error = Keyring::default().load("keys.txt", file.as_bytes(), &[]).unwrap_err();
        assert_eq!(error.to_string(), "keys.txt, line 4: is no age identity");
    }
    let public = text("age/x25519.pub");
    assert_eq!(refusal(public.as_bytes(), &[]), (Some(1), IdentityProblem::PublicOnly));
    assert_eq!(refusal(&fixture("ssh/ed25519.pub"), &[]), (Some(1), IdentityProblem::PublicOnly));
}

#[test]
fn several_identities_may_stand_in_one_line() {
    let mut keys = Keyring::default();
    let both = format!("{} {}", text("age/x25519").lines().last().unwrap(), text("age/other").lines().last().unwrap());
    assert_eq!(keys.load("variable", both.as_bytes(), &[]).unwrap().added, 2);
}

#[test]
fn an_identity_counts_once() {
    let mut keys = keyring(&["age/x25519", "ssh/rsa", "pgp/cv25519"]);
    for again in ["age/x25519", "ssh/rsa-pem", "ssh/rsa-locked", "pgp/subkeys-only", "pgp/binary"] {
        assert_eq!(keys.load(again, &fixture(again), &passphrase()).unwrap().added, 0, "{again}");
    }
    assert_eq!(keys.describe().len(), 3);
}

#[test]
fn locked_files_ask_for_their_passphrase_at_load() {
    let wrong = || vec![Passphrase::new(b"wrong".to_vec()), Passphrase::new(b"\xff\xfe".to_vec())];
    for name in [
        "age/locked-armored",
        "age/locked-binary",
        "age/locked-post-quantum",
        "ssh/ed25519-locked",
        "ssh/rsa-locked",
        "pgp/locked",
        "pgp/rsa-locked",
        "pgp/subkeys-only-locked",
    ] {
        assert_eq!(refusal(&fixture(name), &[]), (None, IdentityProblem::PassphraseMissing), "{name}");
        assert_eq!(refusal(&fixture(name), &wrong()), (None, IdentityProblem::PassphraseWrong), "{name}");
        let mut keys = Keyring::default();
        assert_eq!(keys.load(name, &fixture(name), &passphrase()).unwrap().added, 1, "{name}");
    }
    let mut keys = Keyring::default();
    keys.load("age/locked-armored", &fixture("age/locked-armored"), &passphrase()).unwrap();
    assert!(Opener::new(&keys).unwrap(&age_recipient("", &text("data-keys/age-x25519.enc"))).is_ok());
}

#[test]
fn a_trailing_line_break_is_not_part_of_a_passphrase() {
    for ending in ["", "\n", "\r\n"] {
        let given = [text("passphrase").as_bytes(), ending.as_bytes()].concat();
        assert!(Keyring::default().load("k", &fixture("pgp/locked"), &[Passphrase::new(given)]).is_ok(), "{ending:?}");
    }
    let two = [text("passphrase").as_bytes(), b"\n\n"].concat();
    assert!(Keyring::default().load("k", &fixture("pgp/locked"), &[Passphrase::new(two)]).is_err());
}

#[test]
fn work_before_a_key_opens_is_bounded() {
    let locked = fixture("age/locked-binary");
    let asking = |factor: &str| {
        let at = locked.windows(4).position(|window| window == b" 10\n").unwrap();
        [&locked[..=at], factor.as_bytes(), &locked[at + 3..]].concat()
    };
    // One above the bound is refused before any work; the bound itself would take 1 GiB here.
    assert_eq!(refusal(&asking("21"), &passphrase()), (None, IdentityProblem::TooCostly));
    assert_eq!(refusal(&asking("11"), &passphrase()), (None, IdentityProblem::PassphraseWrong));
    assert_eq!(refusal(&fixture("ssh/ed25519-costly"), &passphrase()), (None, IdentityProblem::TooCostly));
}

#[test]
fn files_that_are_no_keys_are_named_as_such() {
    use IdentityProblem::{Empty, PublicOnly, Unknown, Unsupported};
    for (bytes, problem) in [
        (b"".to_vec(), Empty),
        (b" \r\n".to_vec(), Empty),
        (b"# only a comment\n".to_vec(), Empty),
        (vec![0; 100], Unknown),
        (b"\xffnot text".to_vec(), Unknown),
        (fixture("ssh/ecdsa"), Unsupported),
        (fixture("ssh/rsa-pem-locked"), Unsupported),
        (b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n".to_vec(), Unsupported),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec(), Unknown),
        (fixture("pgp/public-only"), PublicOnly),
        (fixture("pgp/signs-only"), Unsupported),
        (fixture("data-keys/pgp-cv25519.enc"), Unknown),
        (fixture("age/no-identity-file"), Unknown),
    ] {
        assert_eq!(refusal(&bytes, &passphrase()), (None, problem), "{:?}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn a_key_file_may_have_one_mebibyte() {
    let mut file = fixture("age/x25519");
    file.push(b'\n');
    file.resize(MAX_KEY_FILE, b'\n');
    assert_eq!(Keyring::default().load("key", &file, &[]).unwrap().added, 1);
    file.push(b'\n');
    assert_eq!(refusal(&file, &[]), (None, IdentityProblem::TooLarge));
}

#[test]
fn a_damaged_key_file_is_an_error_and_never_a_panic() {
    for name in
        ["ssh/ed25519", "ssh/rsa", "ssh/rsa-pem", "ssh/ed25519-locked", "pgp/cv25519", "pgp/ring", "age/locked-binary"]
    {
        let whole = fixture(name);
        for keep in [whole.len() / 4, whole.len() / 2, whole.len() * 3 / 4] {
            assert!(
                Keyring::default().load("key", &whole[..keep], &passphrase()).is_err() || name == "pgp/ring",
                "{name}"
            );
        }
        for at in (60..whole.len()).step_by(whole.len() / 40) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            let _ = Keyring::default().load("key", &flipped, &passphrase());
        }
    }
}

#[test]
fn one_locked_key_does_not_spoil_a_ring() {
    let mut keys = Keyring::default();
    let loaded = keys.load("ring", &fixture("pgp/one-of-two-locked"), &[]).unwrap();
    assert_eq!(loaded.added, 1);
    let [(packet, problem)] = loaded.skipped.as_slice() else { panic!("{loaded:?}") };
    assert_eq!((*packet, *problem), (4, IdentityProblem::PassphraseMissing));
    assert_eq!(Keyring::default().load("ring", &fixture("pgp/one-of-two-locked"), &passphrase()).unwrap().added, 2);
    assert_eq!(Keyring::default().load("ring", &fixture("pgp/ring"), &[]).unwrap().added, 3);
    assert_eq!(Keyring::default().load("two", &fixture("pgp/two-armors"), &[]).unwrap().added, 2);
}

#[test]
fn identities_are_described_by_their_public_parts() {
    let keys = keyring(&["age/x25519", "age/post-quantum", "ssh/ed25519", "ssh/rsa", "pgp/subkeys-only"]);
    let described = keys.describe();
    assert_eq!(described[0], format!("age {}", text("age/x25519.pub")));
    assert_eq!(described[1], format!("age {}..", text("age/post-quantum.pub").split_at(62).0));
    assert_eq!(described[2], format!("ssh-ed25519 {}", text("ssh/ed25519.fingerprint")));
    assert_eq!(described[3], format!("ssh-rsa {}", text("ssh/rsa.fingerprint")));
    assert_eq!(described[4], format!("pgp {}", text("pgp/cv25519.fingerprint")));
}

#[test]
fn a_keyring_is_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Keyring>();
}

#[test]
fn a_big_number_of_zero_bytes_is_a_damaged_key() {
    // age's own parser indexes past its end (RFC 4251 writes zero as an empty string).
    let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let private = [&[7; 8][..], &string(b"ssh-rsa"), &string(&[0]), &string(&[0])].concat();
    let none = [string(b"none"), string(b"none"), string(b"")].concat();
    let key = [b"openssh-key-v1\0".as_slice(), &none, &[0, 0, 0, 1], &string(b"public"), &string(&private)].concat();
    let base64 = base64::engine::general_purpose::STANDARD.encode(key);
    let pem = format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{base64}\n-----END OPENSSH PRIVATE KEY-----\n");
    assert_eq!(refusal(pem.as_bytes(), &[]), (None, IdentityProblem::Damaged));
}
