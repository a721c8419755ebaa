//! SSH private keys as age identities: OpenSSH's own format and PEM (`RSA PRIVATE KEY`), Ed25519
//! and RSA. age does not read ECDSA, hardware keys or encrypted PEM.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ::age::ssh::{Identity, Recipient};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::Passphrase;
use super::age::{Native, Public};
use crate::error::IdentityProblem;

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
    let unlocked = match parsed {
        Identity::Unencrypted(_) => parsed,
        Identity::Encrypted(ref key) => {
            // The public part stands in the clear: say so before asking for a passphrase in vain.
            public_part(parsed.clone())?;
            let mut secrets = passphrases.iter().filter_map(Passphrase::secret_string);
            match secrets.find_map(|passphrase| key.decrypt(passphrase).ok()) {
                Some(key) => Identity::from(key),
                None if passphrases.is_empty() => return Err(IdentityProblem::PassphraseMissing),
                None => return Err(IdentityProblem::PassphraseWrong),
            }
        }
        Identity::Unsupported(_) => return Err(IdentityProblem::Unsupported),
    };
    Ok(Native::new(public_part(unlocked.clone())?, pem, Box::new(unlocked)))
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
    let base64 = pem.strip_prefix(OPENSSH)?.split('-').next()?;
    let packed = Zeroizing::new(base64.split_ascii_whitespace().collect::<String>());
    let bytes = Zeroizing::new(STANDARD.decode(packed.as_bytes()).ok()?);
    let (_cipher, rest) = string(bytes.strip_prefix(b"openssh-key-v1\0")?)?;
    let (_kdf, rest) = string(rest)?;
    let (options, _) = string(rest)?;
    let (_salt, rounds) = string(options)?;
    Some(u32::from_be_bytes(rounds.try_into().ok()?))
}

/// An SSH `string` (RFC 4251): its length as 32 bits, then its bytes; and what follows.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}
