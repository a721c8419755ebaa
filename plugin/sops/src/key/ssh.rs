//! SSH private keys as age identities: OpenSSH's own format and PEM (`RSA PRIVATE KEY`), Ed25519
//! and RSA. age does not read ECDSA, hardware keys or encrypted PEM.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ::age::ssh::{Identity, Recipient};
use aes::Aes256;
use aes::cipher::{KeyIvInit as _, StreamCipher as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bcrypt_pbkdf::bcrypt_pbkdf;
use ctr::Ctr128BE;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::Passphrase;
use super::age::{Native, Public};
use crate::error::IdentityProblem;
use crate::wrapping::{Kind, Root, length};

/// Reads one private key, unlocking it where it is locked.
pub(super) fn read_key(pem: &[u8], passphrases: &[Passphrase]) -> Result<Native, IdentityProblem> {
    if pem.len() > MAX_PRIVATE_KEY {
        return Err(IdentityProblem::TooLarge);
    }
    let text = std::str::from_utf8(pem).map_err(|_| IdentityProblem::Damaged)?;
    if !text.starts_with(OPENSSH) && !text.starts_with(PEM_RSA) {
        return Err(if text.contains("PRIVATE KEY-----") {
            IdentityProblem::Unsupported
        } else {
            IdentityProblem::Unknown
        });
    }
    let unix = Zeroizing::new(text.replace("\r\n", "\n"));
    if bcrypt_rounds(&unix).is_some_and(|rounds| rounds > MAX_BCRYPT_ROUNDS) {
        return Err(IdentityProblem::TooCostly);
    }
    // age's parser indexes past the end of a damaged big number (an SSH `mpint` of zero bytes).
    catch_unwind(AssertUnwindSafe(|| unlock(&unix, passphrases))).unwrap_or(Err(IdentityProblem::Damaged))
}

fn unlock(pem: &str, passphrases: &[Passphrase]) -> Result<Native, IdentityProblem> {
    let parsed = Identity::from_buffer(pem.as_bytes(), None).map_err(|_| IdentityProblem::Damaged)?;
    let (unlocked, passphrase) = match parsed {
        Identity::Unencrypted(_) => (parsed, None),
        Identity::Encrypted(ref key) => {
            // The public part stands in the clear: say so before asking for a passphrase in vain.
            public_part(parsed.clone())?;
            let unlock = |passphrase: &Passphrase| key.decrypt(passphrase.secret_string()?).ok();
            match passphrases.iter().find_map(|passphrase| Some((unlock(passphrase)?, passphrase))) {
                Some((key, passphrase)) => (Identity::from(key), Some(passphrase)),
                None if passphrases.is_empty() => return Err(IdentityProblem::PassphraseMissing),
                None => return Err(IdentityProblem::PassphraseWrong),
            }
        }
        Identity::Unsupported(_) => return Err(IdentityProblem::Unsupported),
    };
    Ok(Native::new(public_part(unlocked.clone())?, pem, root(pem, passphrase), Box::new(unlocked)))
}

const OPENSSH: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const PEM_RSA: &str = "-----BEGIN RSA PRIVATE KEY-----";

/// Longest private key, in bytes of text: RSA with 16384 bits is 13 KB.
const MAX_PRIVATE_KEY: usize = 64 << 10;

/// Most rounds of bcrypt, about 6 ms each. `ssh-keygen` writes 16 or 24 unless told otherwise.
const MAX_BCRYPT_ROUNDS: u32 = 1024;

/// The `authorized_keys` form, from which the fingerprint is computed.
fn public_part(identity: Identity) -> Result<Public, IdentityProblem> {
    let line = Recipient::try_from(identity).map_err(|_| IdentityProblem::Unsupported)?.to_string();
    let (algorithm, blob) = line.split_once(' ').ok_or(IdentityProblem::Damaged)?;
    let raw = STANDARD.decode(blob).map_err(|_| IdentityProblem::Damaged)?;
    let fingerprint = format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(raw)));
    Ok(Public::Ssh { algorithm: algorithm.to_owned(), blob: blob.to_owned(), fingerprint })
}

/// The bcrypt rounds that an OpenSSH key asks for (OpenSSH's PROTOCOL.key: cipher, KDF, KDF options
/// = salt, rounds); `None` where there is no KDF or the key is too damaged to tell.
fn bcrypt_rounds(pem: &str) -> Option<u32> {
    let bytes = decode(pem, OPENSSH)?;
    let (_cipher, rest) = string(bytes.strip_prefix(MAGIC)?)?;
    let (_kdf, rest) = string(rest)?;
    let (options, _) = string(rest)?;
    let (_salt, rounds) = string(options)?;
    Some(u32::from_be_bytes(rounds.try_into().ok()?))
}

/// What the wrapping key of a private key is derived from: the secret alone, so that passphrase, comment, check bytes
/// and the form of the file do not matter. The age crate keeps what it read to itself, so it is read again here; `None`
/// where that is not possible.
fn root(pem: &str, passphrase: Option<&Passphrase>) -> Option<Root> {
    if let Some(bytes) = decode(pem, PEM_RSA) {
        // PKCS #1: a sequence of version, n, e, d, p, q and more.
        let (sequence, _) = der(&bytes, SEQUENCE)?;
        let rest = (0..4).try_fold(sequence, |rest, _| Some(der(rest, INTEGER)?.1))?;
        let (p, rest) = der(rest, INTEGER)?;
        return Some(root_of_primes(p, der(rest, INTEGER)?.0));
    }
    let bytes = decode(pem, OPENSSH)?;
    let (cipher, rest) = string(bytes.strip_prefix(MAGIC)?)?;
    // KDF, its options, how many keys, the public key, then the secret part.
    let (_kdf, rest) = string(rest)?;
    let (options, rest) = string(rest)?;
    let (_count, rest) = rest.split_first_chunk::<4>()?;
    let (_public, rest) = string(rest)?;
    let (secret, _) = string(rest)?;
    let secret = match (cipher, passphrase) {
        (b"none", None) => Zeroizing::new(secret.to_vec()),
        (b"aes256-ctr", Some(passphrase)) => decrypt(secret, options, passphrase)?,
        // Ciphers that `ssh-keygen` uses only when it is told to.
        _ => return None,
    };
    let (_checks, rest) = secret.split_first_chunk::<8>()?;
    match string(rest)? {
        (b"ssh-ed25519", rest) => {
            let (_public, rest) = string(rest)?;
            let (seed, _public) = string(rest)?.0.split_first_chunk::<32>()?;
            Some(Root::of(Kind::SshEd25519, seed))
        }
        (b"ssh-rsa", rest) => {
            // n, e, d, the coefficient, p and q.
            let rest = (0..4).try_fold(rest, |rest, _| Some(string(rest)?.1))?;
            let (p, rest) = string(rest)?;
            Some(root_of_primes(p, string(rest)?.0))
        }
        _ => None,
    }
}

/// The secret part of a key that `ssh-keygen` locked: bcrypt gives the key of AES and its first counter.
fn decrypt(secret: &[u8], options: &[u8], passphrase: &Passphrase) -> Option<Zeroizing<Vec<u8>>> {
    let (salt, rounds) = string(options)?;
    let rounds = u32::from_be_bytes(rounds.try_into().ok()?);
    let mut derived = Zeroizing::new([0; 48]);
    bcrypt_pbkdf(passphrase.bytes(), salt, rounds, derived.as_mut_slice()).ok()?;
    let (key, counter) = derived.split_at(32);
    let mut secret = Zeroizing::new(secret.to_vec());
    Ctr128BE::<Aes256>::new_from_slices(key, counter).ok()?.apply_keystream(&mut secret);
    Some(secret)
}

fn root_of_primes(p: &[u8], q: &[u8]) -> Root {
    // Both forms put a zero before a number whose first bit is set.
    let bare = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
    let mut primes = [Zeroizing::new(bare(p)), Zeroizing::new(bare(q))];
    primes.sort_by(|one, other| one.len().cmp(&other.len()).then_with(|| one.as_slice().cmp(other)));
    let [smaller, larger] = &primes;
    let joined = [length(smaller).as_slice(), smaller, &length(larger), larger].concat();
    Root::of(Kind::SshRsa, &Zeroizing::new(joined))
}

/// The bytes between a PEM's first line, which must be `head`, and its last.
fn decode(pem: &str, head: &str) -> Option<Zeroizing<Vec<u8>>> {
    let base64 = pem.strip_prefix(head)?.split('-').next()?;
    let mut packed = Zeroizing::new(String::with_capacity(base64.len()));
    packed.extend(base64.split_ascii_whitespace());
    let mut bytes = Zeroizing::new(Vec::with_capacity(base64.len()));
    STANDARD.decode_vec(packed.as_bytes(), &mut bytes).ok()?;
    Some(bytes)
}

const MAGIC: &[u8] = b"openssh-key-v1\0";

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;

/// The contents of a DER value of this tag, and what follows it.
fn der(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(&[tag])?;
    let (first, rest) = rest.split_first()?;
    match *first {
        short @ ..0x80 => rest.split_at_checked(usize::from(short)),
        long => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            // A key file has at most 64 KiB, so a length has at most three bytes.
            let length = digits.iter().try_fold(0_u32, |sum, digit| Some(sum.checked_mul(256)? + u32::from(*digit)))?;
            rest.split_at_checked(usize::try_from(length).ok()?)
        }
    }
}

/// An SSH `string` (RFC 4251): its length as 32 bits, then its bytes; and what follows.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}
