//! What the keys are derived from, and what a wrapped key is bound to.
//!
//! The expected texts are computed by another implementation (Python's `hmac` and `cryptography`) from the module's
//! own description and from the corpus's identities.

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::key::{Keyring, Passphrase};

const AGE: &[u8] = include_bytes!("../../tests/corpus/keys/age.txt");
const POST_QUANTUM: &[u8] = include_bytes!("../../tests/corpus/keys/post-quantum.txt");
const SSH_ED25519: &[u8] = include_bytes!("../../tests/corpus/keys/ssh_ed25519");
const SSH_RSA: &[u8] = include_bytes!("../../tests/corpus/keys/ssh_rsa");
const PGP_RSA: &[u8] = include_bytes!("../../tests/corpus/keys/pgp-rsa.asc");
const PGP_NISTP256: &[u8] = include_bytes!("../../tests/corpus/keys/pgp-nistp256.asc");
const PGP_CURVE25519: &[u8] = include_bytes!("../../tests/corpus/keys/pgp-curve25519.asc");
const EVERY_KIND: [&[u8]; 7] = [AGE, POST_QUANTUM, SSH_ED25519, SSH_RSA, PGP_RSA, PGP_NISTP256, PGP_CURVE25519];

const CONTEXT: &[u8] = b"prod/1/team/app";

/// What `wrap` makes of [`counting`] with the corpus's age identity under [`CONTEXT`].
const WRAPPED: &str = "OMxImck9G0DLACWv9U3aAiIIBCO76K05DhR4/jNQEOjHcZ5qzG6KMNOXRnpUKP/PcNu7k/OaKw3bBwRkntRHDs+u1V3e\
    Jc45U/SboozluRVViDoxFtWkZQ==";

/// The wrapping keys of these key files.
fn keys(files: &[&[u8]]) -> WrappingKeys {
    let passphrases = [Passphrase::new(include_bytes!("../../tests/data/keys/passphrase").to_vec())];
    let mut keyring = Keyring::default();
    for file in files {
        keyring.load("key", file, &passphrases).unwrap();
    }
    keyring.wrapping_keys()
}

fn data_key(bytes: [u8; 32]) -> DataKey {
    DataKey::from_plaintext(&Plaintext::new(bytes.to_vec())).unwrap()
}

fn plaintext(bytes: &[u8]) -> Plaintext {
    Plaintext::new(bytes.to_vec())
}

/// The bytes 0 to 31.
fn counting() -> DataKey {
    data_key(std::array::from_fn(|index| u8::try_from(index).unwrap()))
}

fn ids(keys: &WrappingKeys) -> Vec<[u8; 8]> {
    keys.0.iter().map(|key| key.id).collect()
}

fn problem(unwrapped: Result<DataKey, WrapProblem>) -> WrapProblem {
    unwrapped.err().expect("a refusal")
}

#[test]
fn another_implementation_wraps_to_the_same_text() {
    let keys = keys(&[AGE]);
    assert_eq!(keys.wrap(&counting(), CONTEXT).unwrap(), WRAPPED);
    assert!(keys.unwrap(WRAPPED, CONTEXT).ok().unwrap().is_same(&counting()));
}

#[test]
fn another_implementation_derives_the_same_data_key() {
    let derived = keys(&[AGE]).data_key(CONTEXT, &plaintext(b"a document")).unwrap();
    let expected = "uQO9XYUwC3iRvkNEz3/fTfvn8K42/QKDF/8U6+TMpfI=";
    assert_eq!(STANDARD.encode(derived.plaintext().bytes()), expected);
}

#[rstest]
#[case::x25519(AGE, "502TdGLjE30sJQlx-PkG16otM3am1y_fUCrDii9HhFY")]
#[case::post_quantum(POST_QUANTUM, "0EsEvVPpPercm1C8hczrFrhz8fg-l0Jzr7Zuy6n9g7A")]
#[case::ssh_ed25519(SSH_ED25519, "IzJ0OJHT8sH-vT4WedRPK3XTmizBoznyDFwkcQ53Ghs")]
#[case::ssh_rsa(SSH_RSA, "A0BXvnt7M625Lj7L7RIyAPkJ0Z8tSsrbGPMy-6NgBww")]
fn another_implementation_reads_the_same_secret_out_of_each_kind(#[case] file: &[u8], #[case] token: &str) {
    assert_eq!(*keys(&[file]).token(CONTEXT).unwrap(), token);
}

#[test]
fn every_native_identity_gives_one_key() {
    // gpg's primary RSA key could decrypt as well, so it counts.
    let expected = EVERY_KIND.map(|file| if file == PGP_RSA { 2 } else { 1 });
    assert_eq!(EVERY_KIND.map(|file| ids(&keys(&[file])).len()), expected);
    let all = ids(&keys(&EVERY_KIND));
    assert_eq!(all.len(), expected.iter().sum::<usize>());
    assert!(all.is_sorted());
    let twice = [AGE, AGE, SSH_RSA, AGE];
    assert_eq!(ids(&keys(&twice)).len(), 2);
}

#[test]
fn the_order_of_files_does_not_matter() {
    let mut files = EVERY_KIND;
    let one = keys(&files);
    files.reverse();
    let other = keys(&files);
    assert_eq!(ids(&one), ids(&other));
    assert_eq!(one.wrap(&counting(), CONTEXT), other.wrap(&counting(), CONTEXT));
    assert_eq!(one.token(CONTEXT), other.token(CONTEXT));
}

#[test]
fn the_form_of_a_key_file_does_not_matter() {
    let ed25519: [&[u8]; 3] = [
        include_bytes!("../../tests/data/keys/ssh/ed25519"),
        include_bytes!("../../tests/data/keys/ssh/ed25519-crlf"),
        include_bytes!("../../tests/data/keys/ssh/ed25519-locked"),
    ];
    let rsa: [&[u8]; 3] = [
        include_bytes!("../../tests/data/keys/ssh/rsa"),
        include_bytes!("../../tests/data/keys/ssh/rsa-pem"),
        include_bytes!("../../tests/data/keys/ssh/rsa-locked"),
    ];
    let pgp: [&[u8]; 2] =
        [include_bytes!("../../tests/data/keys/pgp/subkeys-only"), include_bytes!("../../tests/data/keys/pgp/binary")];
    for forms in [ed25519.as_slice(), &rsa, &pgp] {
        let [first, others @ ..] = forms else { panic!("no form") };
        assert_eq!(ids(&keys(&[first])).len(), 1);
        for other in others {
            assert_eq!(ids(&keys(&[first])), ids(&keys(&[other])));
        }
    }
    assert_ne!(ids(&keys(&ed25519)), ids(&keys(&[SSH_ED25519])));
}

#[test]
fn without_a_native_identity_there_is_no_key() {
    let mut keyring = Keyring::default();
    assert!(keyring.wrapping_keys().is_empty());
    let plugin: ::age::x25519::Identity = ::age::x25519::Identity::generate();
    keyring.add_plugin("test".to_owned(), Box::new(plugin));
    let keys = keyring.wrapping_keys();
    assert!(keys.is_empty());
    assert!(keys.wrap(&counting(), CONTEXT).is_none());
    assert!(keys.data_key(CONTEXT, &plaintext(b"")).is_none());
    assert!(keys.token(CONTEXT).is_none());
    assert!(!keys.is_token("", CONTEXT));
    assert_eq!(problem(keys.unwrap(WRAPPED, CONTEXT)), WrapProblem::UnknownKey);
}

#[test]
fn what_was_wrapped_is_unwrapped_by_whoever_has_the_identity_also_among_others() {
    for file in EVERY_KIND {
        let text = keys(&[file]).wrap(&counting(), CONTEXT).unwrap();
        assert!(keys(&EVERY_KIND).unwrap(&text, CONTEXT).ok().unwrap().is_same(&counting()));
        let others: Vec<&[u8]> = EVERY_KIND.into_iter().filter(|other| *other != file).collect();
        assert_eq!(problem(keys(&others).unwrap(&text, CONTEXT)), WrapProblem::UnknownKey);
    }
}

#[test]
fn another_key_under_the_id_opens_nothing() {
    let age = keys(&[AGE]);
    let other = STANDARD.decode(keys(&[SSH_RSA]).wrap(&counting(), CONTEXT).unwrap()).unwrap();
    let renamed = STANDARD.encode([ids(&age)[0].as_slice(), &other[ID_BYTES..]].concat());
    assert_eq!(problem(age.unwrap(&renamed, CONTEXT)), WrapProblem::Unauthentic);
}

#[test]
fn another_context_opens_nothing() {
    let keys = keys(&[AGE]);
    let text = keys.wrap(&counting(), CONTEXT).unwrap();
    for other in ["", "prod/1/team", "prod/2/team/app", "prod/1/other/app", "dev/1/team/app", "prod/1/team/app "] {
        assert_eq!(problem(keys.unwrap(&text, other.as_bytes())), WrapProblem::Unauthentic, "{other}");
        assert_ne!(keys.wrap(&counting(), other.as_bytes()).unwrap(), text);
        assert_ne!(keys.token(other.as_bytes()), keys.token(CONTEXT));
    }
}

#[test]
fn every_bit_of_a_wrapped_key_counts() {
    let keys = keys(&[AGE]);
    let wrapped = STANDARD.decode(WRAPPED).unwrap();
    for bit in 0..wrapped.len() * 8 {
        let mut changed = wrapped.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let expected = if bit / 8 < ID_BYTES { WrapProblem::UnknownKey } else { WrapProblem::Unauthentic };
        assert_eq!(problem(keys.unwrap(&STANDARD.encode(changed), CONTEXT)), expected, "bit {bit}");
    }
}

#[test]
fn what_decrypts_under_a_nonce_of_anothers_choice_is_not_taken() {
    let keys = keys(&[AGE]);
    let key = &keys.0[0];
    let nonce = [7; NONCE_BYTES];
    let mut body = [1; 32];
    let tag = key.encryption.encrypt_in_place_detached(&nonce.into(), CONTEXT, &mut body).unwrap();
    let text = STANDARD.encode([&key.id[..], &nonce, &body, &tag].concat());
    assert_eq!(problem(keys.unwrap(&text, CONTEXT)), WrapProblem::Unauthentic);
}

#[test]
fn other_lengths_and_spellings_are_malformed() {
    let keys = keys(&[AGE]);
    let long = "A".repeat(10 << 20);
    let unpadded = WRAPPED.trim_end_matches('=');
    let url_safe = WRAPPED.replace('/', "_").replace('+', "-");
    let stray_bits = WRAPPED.replace("ZQ==", "ZR==");
    let spaced = format!(" {}", WRAPPED.strip_suffix('=').unwrap());
    let not_ascii = "é".repeat(WRAPPED_TEXT / 2);
    let longer = STANDARD.encode([0; WRAPPED_BYTES + 1]);
    for text in ["", "=", unpadded, &url_safe, &stray_bits, &spaced, &not_ascii, &longer, &long] {
        assert_eq!(problem(keys.unwrap(text, CONTEXT)), WrapProblem::Malformed);
    }
}

#[test]
fn a_data_key_has_32_bytes() {
    for length in [0, 16, 31, 33, 64] {
        assert!(DataKey::from_plaintext(&Plaintext::new(vec![0; length])).is_none(), "{length}");
    }
}

#[test]
fn a_data_key_belongs_to_its_context_and_document() {
    let keys = keys(&[AGE]);
    let derived = |context: &[u8], document: &[u8]| keys.data_key(context, &plaintext(document)).unwrap();
    assert!(derived(b"c", b"d").is_same(&derived(b"c", b"d")));
    // Parts that read alike when joined are two.
    for (context, document) in [(b"cd".as_slice(), b"".as_slice()), (b"", b"cd"), (b"c", b"x"), (b"x", b"d")] {
        assert!(!derived(b"c", b"d").is_same(&derived(context, document)));
    }
}

#[test]
fn a_token_is_known_by_every_key_and_for_its_context_alone() {
    let all = keys(&EVERY_KIND);
    for file in EVERY_KIND {
        let token = keys(&[file]).token(CONTEXT).unwrap();
        assert_eq!(token.len(), 43);
        assert!(all.is_token(&token, CONTEXT));
        assert!(!all.is_token(&token, b"prod/1/other/app"));
        assert!(!all.is_token(&format!("{}A", *token), CONTEXT));
        assert!(!all.is_token(token.get(..42).unwrap(), CONTEXT));
    }
    assert!(!all.is_token("", CONTEXT));
    assert!(!keys(&[AGE]).is_token(&keys(&[SSH_RSA]).token(CONTEXT).unwrap(), CONTEXT));
}

#[test]
fn nothing_that_is_derived_for_one_use_serves_another() {
    let keys = keys(&[AGE]);
    let key = &keys.0[0];
    let derived = [key.nonce.to_vec(), key.token.to_vec(), key.data_key.to_vec()];
    for (index, one) in derived.iter().enumerate() {
        assert!(!one.starts_with(&key.id));
        assert!(derived.iter().skip(index + 1).all(|other| other != one));
    }
}

proptest! {
    #[test]
    fn wrapping_and_unwrapping_is_nothing(bytes: [u8; 32], context in proptest::collection::vec(any::<u8>(), 0..64)) {
        let keys = keys(&[AGE]);
        let text = keys.wrap(&data_key(bytes), &context).unwrap();
        prop_assert_eq!(text.len(), WRAPPED_TEXT);
        prop_assert!(keys.unwrap(&text, &context).ok().unwrap().is_same(&data_key(bytes)));
    }

    #[test]
    fn no_text_makes_unwrapping_panic(text in "[A-Za-z0-9+/=]{0,160}|.{0,130}") {
        prop_assert!(keys(&[AGE]).unwrap(&text, CONTEXT).is_err());
    }
}
