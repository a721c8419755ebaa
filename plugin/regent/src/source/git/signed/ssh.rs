//! Signatures by SSH keys, as `ssh-keygen -Y sign -n git` makes them (OpenSSH's PROTOCOL.sshsig; keys and signatures
//! in it as in RFC 4253, 5656, 8332 and 8709).

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use sha2::{Digest as _, Sha256, Sha512};

use super::SignatureProblem;

/// How an armored signature begins.
pub(super) const SIGNATURE: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
/// What the signed bytes and the signature begin with.
const MAGIC: &[u8] = b"SSHSIG";
/// The purpose that Git signs for; a signature for another one says nothing about a commit.
const NAMESPACE: &[u8] = b"git";

const ED25519_KIND: &[u8] = b"ssh-ed25519";
const ECDSA_KIND: &[u8] = b"ecdsa-sha2-nistp256";
const RSA_KIND: &[u8] = b"ssh-rsa";

/// A public key, as it stands in files and signatures.
#[derive(Debug)]
pub(super) struct Key {
    blob: Vec<u8>,
}

impl Key {
    /// Reads `kind base64 comment`.
    pub(super) fn parse(line: &str) -> Result<Self, &'static str> {
        let mut words = line.split_ascii_whitespace();
        let (Some(kind), Some(encoded)) = (words.next(), words.next()) else { return Err("it is no public key") };
        let blob = BASE64_STANDARD.decode(encoded).map_err(|_| "its key is no base64")?;
        let public = Public::read(&blob).ok_or("it is no key of the kind that it names")?;
        if public.kind() != kind.as_bytes() {
            return Err("it is no key of the kind that it names");
        }
        Ok(Self { blob })
    }
}

/// As `ssh-keygen -l` shows a key.
fn fingerprint(blob: &[u8]) -> String {
    format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(Sha256::digest(blob)))
}

/// The allowed key that signed `payload`.
pub(super) fn signer(armored: &str, payload: &[u8], allowed: &[Key]) -> Result<String, SignatureProblem> {
    let unusable = SignatureProblem::Unusable;
    let blob = dearmored(armored).ok_or(unusable("it is no SSH signature"))?;
    let signature = Signature::read(&blob).ok_or(unusable("it is no SSH signature"))?;
    let signer = fingerprint(signature.key);
    if signature.namespace != NAMESPACE {
        return Err(unusable("it was made for another purpose than a commit"));
    }
    let hash = match signature.hash {
        b"sha256" => Sha256::digest(payload).to_vec(),
        b"sha512" => Sha512::digest(payload).to_vec(),
        _ => return Err(unusable("its hash is neither SHA-256 nor SHA-512")),
    };
    if !allowed.iter().any(|key| key.blob == signature.key) {
        return Err(SignatureProblem::NotAllowed { signer });
    }
    let mut bytes = MAGIC.to_vec();
    for part in [signature.namespace, signature.reserved, signature.hash, &hash] {
        bytes.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    let public = Public::read(signature.key).ok_or(unusable("its key is none that is known"))?;
    match public.verifies(&bytes, signature.raw) {
        Verdict::Good => Ok(signer),
        Verdict::Bad => Err(SignatureProblem::Bad { signer }),
        Verdict::Weak => Err(unusable("it stands on SHA-1, which is broken")),
    }
}

fn dearmored(armored: &str) -> Option<Vec<u8>> {
    let inside = armored.trim().strip_prefix(SIGNATURE)?.strip_suffix(END)?;
    let text: String = inside.split_ascii_whitespace().collect();
    BASE64_STANDARD.decode(text).ok()
}

/// The parts of a signature file.
struct Signature<'a> {
    key: &'a [u8],
    namespace: &'a [u8],
    reserved: &'a [u8],
    hash: &'a [u8],
    raw: &'a [u8],
}

impl<'a> Signature<'a> {
    fn read(blob: &'a [u8]) -> Option<Self> {
        let mut from = Reader(blob.strip_prefix(MAGIC)?);
        if from.number()? != 1 {
            return None;
        }
        let (key, namespace) = (from.string()?, from.string()?);
        let (reserved, hash, raw) = (from.string()?, from.string()?, from.string()?);
        from.end()?;
        Some(Self { key, namespace, reserved, hash, raw })
    }
}

/// The parts of a public key.
enum Public<'a> {
    Ed25519(&'a [u8]),
    Ecdsa(&'a [u8]),
    Rsa { exponent: &'a [u8], modulus: &'a [u8] },
}

enum Verdict {
    Good,
    Bad,
    Weak,
}

impl<'a> Public<'a> {
    fn read(blob: &'a [u8]) -> Option<Self> {
        let mut from = Reader(blob);
        let public = match from.string()? {
            ED25519_KIND => Self::Ed25519(from.string()?),
            ECDSA_KIND => {
                if from.string()? != b"nistp256" {
                    return None;
                }
                Self::Ecdsa(from.string()?)
            }
            RSA_KIND => Self::Rsa { exponent: from.unsigned()?, modulus: from.unsigned()? },
            _ => return None,
        };
        from.end()?;
        Some(public)
    }

    fn kind(&self) -> &'static [u8] {
        match self {
            Self::Ed25519(_) => ED25519_KIND,
            Self::Ecdsa(_) => ECDSA_KIND,
            Self::Rsa { .. } => RSA_KIND,
        }
    }

    /// `raw` is the algorithm's name and its signature.
    fn verifies(&self, signed: &[u8], raw: &[u8]) -> Verdict {
        let mut from = Reader(raw);
        let (Some(algorithm), Some(signature), Some(())) = (from.string(), from.string(), from.end()) else {
            return Verdict::Bad;
        };
        let is_good = match (self, algorithm) {
            (Self::Ed25519(key), ED25519_KIND) => {
                UnparsedPublicKey::new(&ED25519, key).verify(signed, signature).is_ok()
            }
            (Self::Ecdsa(key), ECDSA_KIND) => fixed(signature).is_some_and(|signature| {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(signed, &signature).is_ok()
            }),
            (Self::Rsa { exponent, modulus }, b"rsa-sha2-256" | b"rsa-sha2-512") => {
                let with = if algorithm == b"rsa-sha2-256" {
                    &RSA_PKCS1_2048_8192_SHA256
                } else {
                    &RSA_PKCS1_2048_8192_SHA512
                };
                RsaPublicKeyComponents { n: modulus, e: exponent }.verify(with, signed, signature).is_ok()
            }
            (Self::Rsa { .. }, RSA_KIND) => return Verdict::Weak,
            (Self::Ed25519(_) | Self::Ecdsa(_) | Self::Rsa { .. }, _) => false,
        };
        if is_good { Verdict::Good } else { Verdict::Bad }
    }
}

/// An ECDSA signature as two numbers of 32 bytes each.
fn fixed(signature: &[u8]) -> Option<[u8; 64]> {
    let mut from = Reader(signature);
    let (r, s) = (from.unsigned()?, from.unsigned()?);
    from.end()?;
    let mut fixed = [0; 64];
    fixed.get_mut(32_usize.checked_sub(r.len())?..32)?.copy_from_slice(r);
    fixed.get_mut(64_usize.checked_sub(s.len())?..)?.copy_from_slice(s);
    (s.len() <= 32).then_some(fixed)
}

/// The wire format of SSH (RFC 4251, section 5).
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }

    /// A positive number without zeros in front.
    fn unsigned(&mut self) -> Option<&'a [u8]> {
        let number = self.string()?;
        let number = match number {
            [0, rest @ ..] => rest,
            [first, ..] if *first >= 0x80 => return None,
            whole => whole,
        };
        (!matches!(number, [] | [0, ..])).then_some(number)
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
