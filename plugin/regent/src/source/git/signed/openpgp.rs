//! Signatures by `OpenPGP` keys, as `gpg` makes them (RFC 9580). rPGP computes; which key may sign, and until when, is
//! decided here.

use std::time::{Duration, SystemTime};

use pgp::composed::{Deserializable as _, DetachedSignature, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{PublicKey, PublicSubkey, Signature, SignatureType};
use pgp::types::{KeyDetails, Tag, VerifyingKey};

use super::SignatureProblem;

/// How an armored signature begins.
pub(super) const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
/// How an armored certificate begins.
pub(super) const CERTIFICATE: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// The keys of one person.
pub(super) type Certificate = SignedPublicKey;

/// Reads a block; it may hold more than one certificate.
pub(super) fn certificates(armored: &str) -> Result<Vec<Certificate>, &'static str> {
    let (read, _headers) = SignedPublicKey::from_armor_many(armored.trim_start().as_bytes())
        .map_err(|_| "it is no OpenPGP public key block")?;
    let read: Vec<_> = read.collect::<Result<_, _>>().map_err(|_| "it is no OpenPGP public key block")?;
    if read.is_empty() { Err("it holds no OpenPGP public key") } else { Ok(read) }
}

/// The allowed key that signed `payload`.
pub(super) fn signer(
    armored: &str,
    payload: &[u8],
    allowed: &[Certificate],
    now: SystemTime,
) -> Result<String, SignatureProblem> {
    let unusable = SignatureProblem::Unusable;
    let signature = only_one(armored).ok_or(unusable("it is no single OpenPGP signature"))?;
    let (Some(SignatureType::Binary), Some(hash)) = (signature.typ(), signature.hash_alg()) else {
        return Err(unusable("it is not of a kind that Git makes"));
    };
    if !is_strong(hash) {
        return Err(unusable("it stands on a hash that is too weak, such as SHA-1"));
    }
    let mut keys = allowed.iter().flat_map(Candidate::of);
    let Some(candidate) = keys.find(|candidate| candidate.is_named_by(&signature)) else {
        return Err(SignatureProblem::NotAllowed { signer: named(&signature) });
    };
    let signer = candidate.fingerprint();
    if !candidate.verifies(&signature, payload) {
        return Err(SignatureProblem::Bad { signer });
    }
    candidate.may_sign(&signature, now)?;
    Ok(signer)
}

fn only_one(armored: &str) -> Option<Signature> {
    let (read, _headers) = DetachedSignature::from_armor_many(armored.as_bytes()).ok()?;
    let read: Vec<_> = read.collect::<Result<_, _>>().ok()?;
    <[DetachedSignature; 1]>::try_from(read).ok().map(|[one]| one.signature)
}

/// Any other hash is too weak, or not known here.
fn is_strong(hash: HashAlgorithm) -> bool {
    use HashAlgorithm as H;
    matches!(hash, H::Sha256 | H::Sha384 | H::Sha512 | H::Sha3_256 | H::Sha3_512)
}

/// The issuer that a signature names: only a hint until it verifies.
fn named(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(|fingerprint| format!("{fingerprint:X}"));
    let key_id = || signature.issuer_key_id().first().map(|id| id.to_string().to_ascii_uppercase());
    fingerprint.or_else(key_id).unwrap_or_else(|| "it does not tell which".to_owned())
}

/// A key that may have made a signature.
enum Candidate<'c> {
    Primary(&'c Certificate),
    Subkey(&'c Certificate, &'c SignedPublicSubKey),
}

impl<'c> Candidate<'c> {
    fn of(certificate: &'c Certificate) -> impl Iterator<Item = Self> {
        let subkeys = certificate.public_subkeys.iter().map(|subkey| Self::Subkey(certificate, subkey));
        std::iter::once(Self::Primary(certificate)).chain(subkeys)
    }

    fn certificate(&self) -> &'c Certificate {
        match self {
            Self::Primary(certificate) | Self::Subkey(certificate, _) => certificate,
        }
    }

    fn details(&self) -> &dyn KeyDetails {
        match self {
            Self::Primary(certificate) => &certificate.primary_key,
            Self::Subkey(_, subkey) => &subkey.key,
        }
    }

    fn fingerprint(&self) -> String {
        format!("{:X}", self.details().fingerprint())
    }

    fn is_named_by(&self, signature: &Signature) -> bool {
        let key = self.details();
        let fingerprints = signature.issuer_fingerprint();
        if fingerprints.is_empty() {
            return signature.issuer_key_id().into_iter().any(|id| *id == key.legacy_key_id());
        }
        fingerprints.into_iter().any(|fingerprint| *fingerprint == key.fingerprint())
    }

    fn verifies(&self, signature: &Signature, payload: &[u8]) -> bool {
        match self {
            Self::Primary(certificate) => signature.verify(&certificate.primary_key, payload).is_ok(),
            Self::Subkey(_, subkey) => signature.verify(&subkey.key, payload).is_ok(),
        }
    }

    /// Whether its owner let it sign then, and still does.
    fn may_sign(&self, signature: &Signature, now: SystemTime) -> Result<(), SignatureProblem> {
        let signer = self.fingerprint();
        let certificate = self.certificate();
        let primary = &certificate.primary_key;
        // Whoever put the certificate into a reviewed file has not left a revocation in it by mistake.
        if !certificate.details.revocation_signatures.is_empty() {
            return Err(SignatureProblem::Revoked { signer });
        }
        let Some(own) = own_signature(certificate) else { return Err(SignatureProblem::NotForSigning { signer }) };
        let made = signature.created().map(SystemTime::from);
        let Some(made) = made else { return Err(SignatureProblem::Unusable("it does not tell when it was made")) };
        let mut lives = vec![Life::of(primary, own)];
        let allowing = match self {
            Self::Primary(_) => own,
            Self::Subkey(_, subkey) => {
                let is_revocation = |one: &Signature| one.typ() == Some(SignatureType::SubkeyRevocation);
                if subkey.signatures.iter().any(is_revocation) {
                    return Err(SignatureProblem::Revoked { signer });
                }
                let Some(binding) = binding(primary, subkey) else {
                    return Err(SignatureProblem::NotForSigning { signer });
                };
                lives.push(Life::of(&subkey.key, binding));
                binding
            }
        };
        if !allowing.key_flags().sign() {
            return Err(SignatureProblem::NotForSigning { signer });
        }
        // Zero means no end, here and below.
        if let Some(time) = signature.signature_expiration_time().map(Duration::from).filter(|time| !time.is_zero()) {
            lives.push(Life { from: made, until: Some(made + time) });
        }
        // A signature from before its key or after its end, and one whose key has ended since.
        if lives.iter().all(|life| life.covers(made) && life.covers(now)) {
            Ok(())
        } else {
            Err(SignatureProblem::Expired { signer })
        }
    }
}

/// The newest of a certificate's signatures over itself: what its owner says of it now.
fn own_signature(certificate: &Certificate) -> Option<&Signature> {
    let primary = &certificate.primary_key;
    let direct = certificate.details.direct_signatures.iter().filter(|one| one.verify_key(primary).is_ok());
    let of_users = certificate.details.users.iter().flat_map(|user| {
        let own = |one: &&Signature| one.verify_certification(primary, Tag::UserId, &user.id).is_ok();
        let is_revocation = |one: &Signature| one.typ() == Some(SignatureType::CertRevocation);
        let mut all: Vec<&Signature> = user.signatures.iter().filter(own).collect();
        if all.iter().any(|one| is_revocation(one)) {
            all.clear();
        }
        all
    });
    direct.chain(of_users).max_by_key(|one| one.created().map(SystemTime::from))
}

/// The newest signature that binds a subkey to its certificate. A key that signs has agreed to that itself.
fn binding<'s>(primary: &PublicKey, subkey: &'s SignedPublicSubKey) -> Option<&'s Signature> {
    let binds = |one: &&Signature| one.verify_subkey_binding(primary, &subkey.key).is_ok();
    let newest = subkey.signatures.iter().filter(binds).max_by_key(|one| one.created().map(SystemTime::from))?;
    let agrees = |back: &Signature| back.verify_primary_key_binding::<PublicSubkey, _>(&subkey.key, primary).is_ok();
    newest.embedded_signature().is_some_and(agrees).then_some(newest)
}

/// From when until when something counts.
struct Life {
    from: SystemTime,
    until: Option<SystemTime>,
}

impl Life {
    fn of(key: &impl VerifyingKey, says: &Signature) -> Self {
        let from = SystemTime::from(key.created_at());
        let time = says.key_expiration_time().map(Duration::from).filter(|time| !time.is_zero());
        Self { from, until: time.map(|time| from + time) }
    }

    fn covers(&self, moment: SystemTime) -> bool {
        self.from <= moment && self.until.is_none_or(|until| moment < until)
    }
}
