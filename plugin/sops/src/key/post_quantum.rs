//! Hybrid post-quantum age identities: `AGE-SECRET-KEY-PQ-1...`, stanza `mlkem768x25519`, written
//! by age 1.3 and `sops` 3.12 and later.
//!
//! Chosen: X-Wing and the HPKE key schedule are composed here from the primitives that `age` 0.12
//! already brings (`ml-kem`, `x25519-dalek`, `sha3`, `hkdf`, `chacha20poly1305`); no crate is added
//! to the tree. The ready-made set (`hpke` 0.15 with `x-wing` 0.1) works too, but it pins `kem`
//! 0.3.0, which forces `age`'s own `ml-kem` from 0.2.3 back to 0.2.1, and brings twenty-two crates
//! of a second generation of the same primitives. The composition is about sixty lines without a
//! branch on secret data, and the tests open files of the real age 1.3.1.
//!
//! Sources: the X-Wing draft (draft-connolly-cfrg-xwing-kem) for the KEM, RFC 9180 for HPKE in base
//! mode, the age specification (C2SP) for the stanza.

use ::age::DecryptError;
use age_core::format::{FILE_KEY_BYTES, FileKey, Stanza};
use age_core::primitives::{bech32_decode, bech32_encode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bech32::Hrp;
use chacha20poly1305::aead::{Aead as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use hkdf::Hkdf;
use ml_kem::kem::Decapsulate as _;
use ml_kem::{B32, Ciphertext, EncodedSizeUser as _, KemCore, MlKem768};
use sha2::Sha256;
use sha3::digest::{Digest as _, ExtendableOutput as _, Update as _, XofReader as _};
use sha3::{Sha3_256, Shake256};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize as _, Zeroizing};

use crate::wrapping::{Kind, Root};

/// An X-Wing key pair, expanded once.
pub(super) struct Hybrid {
    seed: Zeroizing<[u8; 32]>,
    lattice: Box<<MlKem768 as KemCore>::DecapsulationKey>,
    lattice_public: Box<<MlKem768 as KemCore>::EncapsulationKey>,
    curve: StaticSecret,
    curve_public: PublicKey,
}

impl Hybrid {
    /// Reads `AGE-SECRET-KEY-PQ-1...`: Bech32 of a 32-byte seed.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_secret = |hrp: Hrp| if hrp == SECRET_KEY { Ok(()) } else { Err(()) };
        let seed = bech32_decode(text, |_| (), is_secret, |_, bytes| Ok(Zeroizing::new(bytes.collect::<Vec<u8>>())));
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(seed.ok()?.as_slice().try_into().ok()?);

        // expandDecapsulationKey: SHAKE256 of the seed gives d and z of ML-KEM, then the X25519 key.
        let (mut d, mut z, mut scalar) = (B32::default(), B32::default(), Zeroizing::new([0; 32]));
        let mut expanded = Shake256::default().chain(seed.as_slice()).finalize_xof();
        expanded.read(&mut d);
        expanded.read(&mut z);
        expanded.read(&mut *scalar);
        let (lattice, lattice_public) = MlKem768::generate_deterministic(&d, &z);
        d.zeroize();
        z.zeroize();
        let curve = StaticSecret::from(*scalar);
        Some(Self {
            seed,
            lattice: Box::new(lattice),
            lattice_public: Box::new(lattice_public),
            curve_public: PublicKey::from(&curve),
            curve,
        })
    }

    /// `age1pq1...`: Bech32 of the ML-KEM encapsulation key and the X25519 public key.
    pub(super) fn recipient(&self) -> String {
        let mut bytes = self.lattice_public.as_bytes().to_vec();
        bytes.extend_from_slice(self.curve_public.as_bytes());
        bech32_encode(RECIPIENT, &bytes)
    }

    /// Of the seed.
    pub(super) fn root(&self) -> Root {
        Root::of(Kind::PostQuantum, self.seed.as_slice())
    }

    /// X-Wing decapsulation. `None` where X25519 gives the all-zero secret, which age refuses.
    fn decapsulate(&self, encapsulated: &Encapsulated) -> Option<Zeroizing<[u8; 32]>> {
        let lattice_secret = self.lattice.decapsulate(&encapsulated.lattice).ok()?;
        let curve_secret = self.curve.diffie_hellman(&encapsulated.curve);
        if !curve_secret.was_contributory() {
            return None;
        }
        let combined = Sha3_256::new()
            .chain(lattice_secret)
            .chain(curve_secret.as_bytes())
            .chain(encapsulated.curve.as_bytes())
            .chain(self.curve_public.as_bytes())
            .chain(XWING_LABEL);
        Some(Zeroizing::new(combined.finalize().into()))
    }
}

impl ::age::Identity for Hybrid {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        if stanza.tag != STANZA_TAG {
            return None;
        }
        let [argument] = stanza.args.as_slice() else {
            return Some(Err(DecryptError::InvalidHeader));
        };
        let Some(encapsulated) = Encapsulated::parse(argument) else {
            return Some(Err(DecryptError::InvalidHeader));
        };
        if stanza.body.len() != FILE_KEY_BYTES + TAG_BYTES {
            return Some(Err(DecryptError::InvalidHeader));
        }
        let Some(shared_secret) = self.decapsulate(&encapsulated) else {
            return Some(Err(DecryptError::InvalidHeader));
        };
        // ML-KEM always yields a secret; that the body does not open with it says "another's stanza".
        let opened = Zeroizing::new(open_base(&shared_secret, &stanza.body)?);
        let opened = <&[u8; FILE_KEY_BYTES]>::try_from(opened.as_slice()).ok()?;
        Some(Ok(FileKey::init_with_mut(|key| key.copy_from_slice(opened))))
    }
}

/// A KEM ciphertext: ML-KEM's, then the ephemeral X25519 key.
struct Encapsulated {
    lattice: Ciphertext<MlKem768>,
    curve: PublicKey,
}

impl Encapsulated {
    fn parse(base64: &str) -> Option<Self> {
        let bytes = STANDARD_NO_PAD.decode(base64).ok()?;
        let (lattice, curve) = bytes.split_last_chunk::<32>()?;
        Some(Self { lattice: lattice.try_into().ok()?, curve: PublicKey::from(*curve) })
    }
}

const SECRET_KEY: Hrp = Hrp::parse_unchecked("AGE-SECRET-KEY-PQ-");
const RECIPIENT: Hrp = Hrp::parse_unchecked("age1pq");
const STANZA_TAG: &str = "mlkem768x25519";
const INFO: &[u8] = b"age-encryption.org/mlkem768x25519";
const XWING_LABEL: &[u8] = br"\.//^\";
const TAG_BYTES: usize = 16;

/// `suite_id` of RFC 9180: KEM X-Wing, KDF HKDF-SHA256, AEAD `ChaCha20Poly1305`.
const SUITE: &[u8] = b"HPKE\x64\x7a\x00\x01\x00\x03";

/// Base mode: no sender is authenticated.
const BASE_MODE: &[u8] = &[0];

/// `OpenBase` of RFC 9180 with empty additional data, first (and only) message.
fn open_base(shared_secret: &[u8; 32], sealed: &[u8]) -> Option<Vec<u8>> {
    let (psk_id_hash, _) = labeled_extract(&[], b"psk_id_hash", &[]);
    let (info_hash, _) = labeled_extract(&[], b"info_hash", INFO);
    let context = [BASE_MODE, &*psk_id_hash, &*info_hash].concat();
    let (_, secret) = labeled_extract(shared_secret, b"secret", &[]);
    let key = labeled_expand::<32>(&secret, b"key", &context)?;
    let nonce = labeled_expand::<12>(&secret, b"base_nonce", &context)?;
    ChaCha20Poly1305::new(Key::from_slice(&*key)).decrypt(Nonce::from_slice(&*nonce), sealed).ok()
}

fn labeled_extract(salt: &[u8], label: &[u8], input: &[u8]) -> (Zeroizing<[u8; 32]>, Hkdf<Sha256>) {
    let labeled = Zeroizing::new([b"HPKE-v1", SUITE, label, input].concat());
    let (extracted, kdf) = Hkdf::<Sha256>::extract(Some(salt), &labeled);
    (Zeroizing::new(extracted.into()), kdf)
}

fn labeled_expand<const N: usize>(secret: &Hkdf<Sha256>, label: &[u8], info: &[u8]) -> Option<Zeroizing<[u8; N]>> {
    let length = u16::try_from(N).ok()?.to_be_bytes();
    let mut output = Zeroizing::new([0; N]);
    secret.expand_multi_info(&[&length, b"HPKE-v1", SUITE, label, info], &mut *output).ok()?;
    Some(output)
}
