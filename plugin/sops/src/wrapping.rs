//! Keys for what goes back to ciphertext: a file's data key, wrapped so that only a holder of the same identities
//! unwraps it, and the tokens that go with it.
//!
//! ```text
//! Keyring --Keyring::wrapping_keys--> WrappingKeys      one key an identity, the lowest id first
//! DataKey + context --wrap--> text                      the same text in every replica
//! text + context --unwrap--> DataKey                    another context opens nothing
//! ```
//!
//! A wrapping key is derived from an identity's secret and stored nowhere: whoever holds the identities has it, in
//! every replica and after every restart, and nobody else. Nothing here is random, so equal input gives equal output;
//! two different inputs never share a nonce, because the nonce is a keyed hash of all that is encrypted under it (a
//! synthetic IV, as in RFC 5297).
//!
//! # How it is derived
//!
//! ```text
//! root  = HKDF-Extract(SHA-256, salt = ROOT, kind || length of secret || secret)
//! key   = HKDF-Expand(root, label)               one label each: id (8 bytes), encryption, nonce, token, data key
//! nonce = HMAC-SHA256(nonce key, length of context || context || data key)
//! text  = base64(id || nonce || AES-256-GCM(encryption key, nonce, data key, additional data: context) || tag)
//! ```
//!
//! Lengths are 64 bits, big-endian. A context is the caller's: what the wrapped key is bound to, its parts joined so
//! that no two contexts read alike.

use aes::Aes256;
use aes_gcm::aead::consts::U32;
use aes_gcm::aead::generic_array::GenericArray;
use aes_gcm::{AeadInPlace as _, AesGcm, KeyInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use crate::plaintext::Plaintext;

/// The wrapping keys of a keyring's native identities, in the order of their ids: whatever the order of the key files,
/// the first is the same everywhere.
pub struct WrappingKeys(Vec<WrappingKey>);

/// A file's data key: 32 secret bytes, wiped on drop. No `Debug`, `Display` or `Clone`.
pub struct DataKey(Plaintext);

/// Why a wrapped data key is not unwrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrapProblem {
    /// Not of the form that [`WrappingKeys::wrap`] writes.
    #[error("is no wrapped data key")]
    Malformed,
    /// Wrapped by a key whose identity is not at hand.
    #[error("was wrapped with an identity that is not at hand")]
    UnknownKey,
    /// Damaged, or bound to another context.
    #[error("was changed, or is bound to something else")]
    Unauthentic,
}

impl DataKey {
    /// The key in these bytes; `None` unless there are 32.
    pub fn from_plaintext(bytes: &Plaintext) -> Option<Self> {
        Self::new(bytes.duplicate())
    }

    /// The same without a copy.
    pub(crate) fn new(bytes: Plaintext) -> Option<Self> {
        (bytes.len() == DATA_KEY_BYTES).then_some(Self(bytes))
    }

    /// The 32 bytes, for the one place that answers with them.
    ///
    /// A disallowed method everywhere else: whoever holds a data key opens a file with it.
    pub fn expose(&self) -> &[u8] {
        self.0.bytes()
    }

    /// Whether both are the same key, compared without an early end.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.same_bytes(&other.0)
    }

    /// The key, for this crate's own cipher.
    pub(crate) fn plaintext(&self) -> &Plaintext {
        &self.0
    }
}

impl WrappingKeys {
    /// A key for each root, each once.
    pub(crate) fn of<'a>(roots: impl Iterator<Item = &'a Root>) -> Self {
        let mut keys: Vec<WrappingKey> = roots.filter_map(WrappingKey::derive).collect();
        keys.sort_by_key(|key| key.id);
        keys.dedup_by_key(|key| key.id);
        Self(keys)
    }

    /// Whether there is none: no identity, or plugins alone, whose secrets are not known here.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Wraps a data key with the first key, bound to `context`: one line of 120 characters of base64, equal for equal
    /// input. `None` where there is no key.
    pub fn wrap(&self, data_key: &DataKey, context: &[u8]) -> Option<String> {
        let key = self.0.first()?;
        let nonce = key.nonce(data_key, context);
        let mut sealed = [0; WRAPPED_BYTES];
        let (head, rest) = sealed.split_at_mut(ID_BYTES + NONCE_BYTES);
        let (id, iv) = head.split_at_mut(ID_BYTES);
        let (body, tag) = rest.split_at_mut(DATA_KEY_BYTES);
        id.copy_from_slice(&key.id);
        iv.copy_from_slice(&nonce);
        body.copy_from_slice(data_key.plaintext().bytes());
        let authenticated =
            key.encryption.encrypt_in_place_detached(GenericArray::from_slice(&nonce), context, body).ok()?;
        tag.copy_from_slice(&authenticated);
        Some(STANDARD.encode(sealed))
    }

    /// Unwraps what [`Self::wrap`] made under the same context, with the key that the text names and no other. A
    /// hostile text costs at most one decryption of 32 bytes.
    ///
    /// # Errors
    /// [`WrapProblem`]; none of them tells more of the context than that it is another.
    pub fn unwrap(&self, text: &str, context: &[u8]) -> Result<DataKey, WrapProblem> {
        if text.len() != WRAPPED_TEXT {
            return Err(WrapProblem::Malformed);
        }
        let wrapped = STANDARD.decode(text).ok().and_then(|bytes| <[u8; WRAPPED_BYTES]>::try_from(bytes).ok());
        let wrapped = wrapped.ok_or(WrapProblem::Malformed)?;
        let (id, rest) = wrapped.split_first_chunk::<ID_BYTES>().ok_or(WrapProblem::Malformed)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(WrapProblem::Malformed)?;
        let (sealed, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(WrapProblem::Malformed)?;
        let key = self.0.iter().find(|key| key.id == *id).ok_or(WrapProblem::UnknownKey)?;
        // Decrypted where it comes to stay, so that no copy is left behind.
        let mut bytes = Zeroizing::new(sealed.to_vec());
        key.encryption
            .decrypt_in_place_detached(GenericArray::from_slice(nonce), context, &mut bytes, &(*tag).into())
            .map_err(|_| WrapProblem::Unauthentic)?;
        let data_key = DataKey(Plaintext::new(std::mem::take(&mut *bytes)));
        // Nothing but `wrap` makes a nonce that fits.
        if bool::from(key.nonce(&data_key, context).ct_eq(nonce)) {
            Ok(data_key)
        } else {
            Err(WrapProblem::Unauthentic)
        }
    }

    /// A data key for a document that is sealed anew: a function of the context and of what is sealed, so that equal
    /// documents are equal to the byte and different ones share no key. `None` where there is no wrapping key.
    pub fn data_key(&self, context: &[u8], document: &Plaintext) -> Option<DataKey> {
        let key = self.0.first()?;
        let derived = keyed_hash(key.data_key.as_slice(), &[&length(context), context, document.bytes()]);
        Some(DataKey(Plaintext::new(derived.to_vec())))
    }

    /// A token for whoever may ask under this context, by the first key: 43 characters, safe in a URL and in a header.
    /// `None` where there is no key.
    pub fn token(&self, context: &[u8]) -> Option<Zeroizing<String>> {
        self.0.first().map(|key| key.token_for(context))
    }

    /// Whether this is the token of the context, by any of the keys; compared without an early end.
    pub fn is_token(&self, text: &str, context: &[u8]) -> bool {
        let is_own = |key: &WrappingKey| key.token_for(context).as_bytes().ct_eq(text.as_bytes());
        self.0.iter().fold(Choice::from(0), |found, key| found | is_own(key)).into()
    }
}

/// One identity's keys.
struct WrappingKey {
    id: [u8; ID_BYTES],
    encryption: AesGcm<Aes256, U32>,
    nonce: Derived,
    token: Derived,
    data_key: Derived,
}

/// 32 secret bytes on the heap: moving them leaves no copy behind.
type Derived = Box<Zeroizing<[u8; 32]>>;

impl WrappingKey {
    /// `None` never happens: HKDF expands to 32 bytes from any root.
    fn derive(root: &Root) -> Option<Self> {
        let expander = Hkdf::<Sha256>::from_prk(root.0.as_slice()).ok()?;
        let expand = |label: &str| {
            let mut derived: Derived = Box::default();
            expander.expand(label.as_bytes(), derived.as_mut_slice()).ok().map(|()| derived)
        };
        let mut id = [0; ID_BYTES];
        expander.expand(KEY_ID.as_bytes(), &mut id).ok()?;
        Some(Self {
            id,
            encryption: AesGcm::new_from_slice(expand(ENCRYPTION)?.as_slice()).ok()?,
            nonce: expand(NONCE)?,
            token: expand(TOKEN)?,
            data_key: expand(DATA_KEY)?,
        })
    }

    fn nonce(&self, data_key: &DataKey, context: &[u8]) -> [u8; NONCE_BYTES] {
        *keyed_hash(self.nonce.as_slice(), &[&length(context), context, data_key.plaintext().bytes()])
    }

    fn token_for(&self, context: &[u8]) -> Zeroizing<String> {
        let hash = keyed_hash(self.token.as_slice(), &[&length(context), context]);
        Zeroizing::new(URL_SAFE_NO_PAD.encode(*hash))
    }
}

/// What all of an identity's keys are expanded from; made when the identity is loaded.
pub(crate) struct Root(Derived);

/// Which kind of secret a root is made of, so that equal bytes of two kinds give two roots.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// The scalar of an age X25519 identity, 32 bytes.
    X25519,
    /// The seed of a post-quantum identity, 32 bytes.
    PostQuantum,
    /// The seed of an SSH Ed25519 key, 32 bytes.
    SshEd25519,
    /// The two primes of an SSH RSA key, the smaller first, each behind its length.
    SshRsa,
    /// An unlocked OpenPGP secret key's parameters, as they stand in its packet.
    OpenPgp,
}

impl Kind {
    fn tag(self) -> u8 {
        match self {
            Self::X25519 => 1,
            Self::PostQuantum => 2,
            Self::SshEd25519 => 3,
            Self::SshRsa => 4,
            Self::OpenPgp => 5,
        }
    }
}

impl Root {
    /// The root of an identity's whole secret. Public parts alone must never get here.
    pub(crate) fn of(kind: Kind, secret: &[u8]) -> Self {
        let mut root: Derived = Box::default();
        let extracted = keyed_hash(ROOT.as_bytes(), &[&[kind.tag()], &length(secret), secret]);
        root.copy_from_slice(extracted.as_slice());
        Self(root)
    }
}

/// HMAC-SHA256 over the parts, one after the other. (HKDF-Extract is this with the salt as the key.)
pub(crate) fn keyed_hash(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let hash = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes keys of every length");
    let hash = parts.iter().fold(hash, Mac::chain_update);
    Zeroizing::new(hash.finalize().into_bytes().into())
}

/// What stands before a part of varying length.
pub(crate) fn length(part: &[u8]) -> [u8; 8] {
    (part.len() as u64).to_be_bytes()
}

/// Length of a SOPS data key.
const DATA_KEY_BYTES: usize = 32;

/// Length of a wrapping key's public id. Ids tell a handful of keys apart; nothing hangs on nobody finding a second one.
const ID_BYTES: usize = 8;

/// Length of the synthetic nonce.
const NONCE_BYTES: usize = 32;

/// Length of a GCM tag.
const TAG_BYTES: usize = 16;

/// Id, nonce, data key and tag.
const WRAPPED_BYTES: usize = ID_BYTES + NONCE_BYTES + DATA_KEY_BYTES + TAG_BYTES;

/// The same in base64, padded.
const WRAPPED_TEXT: usize = WRAPPED_BYTES.div_ceil(3) * 4;

// The labels. Changing one changes every key, so the version is in them.
const ROOT: &str = "regent wrapping v1 root";
const KEY_ID: &str = "regent wrapping v1 key id";
const ENCRYPTION: &str = "regent wrapping v1 data key encryption";
const NONCE: &str = "regent wrapping v1 data key nonce";
const TOKEN: &str = "regent wrapping v1 token";
const DATA_KEY: &str = "regent wrapping v1 new data key";

#[cfg(test)]
mod tests;
