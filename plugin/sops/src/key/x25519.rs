//! X25519 age identities: `AGE-SECRET-KEY-1...`, stanza `X25519`.
//!
//! The `age` crate opens these too, but derives the public key again for every stanza: a second scalar
//! multiplication, a fifth of what opening a small SOPS file costs. Here it is derived once, when the key is
//! loaded. Parsing and the recipient's text stay the crate's; so does everything around the stanza.
//!
//! Source: the age specification (C2SP), "X25519 recipient type".

use ::age::DecryptError;
use age_core::format::{FILE_KEY_BYTES, FileKey, Stanza};
use age_core::primitives::{aead_decrypt, bech32_decode, hkdf};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bech32::Hrp;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::wrapping::{Kind, Root};

/// An X25519 key pair.
pub(super) struct X25519 {
    secret: StaticSecret,
    public: PublicKey,
    recipient: String,
}

impl X25519 {
    /// Reads `AGE-SECRET-KEY-1...`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let identity: ::age::x25519::Identity = text.parse().ok()?;
        let is_secret = |hrp: Hrp| if hrp == SECRET_KEY { Ok(()) } else { Err(()) };
        let bytes = bech32_decode(text, |_| (), is_secret, |_, bytes| Ok(Zeroizing::new(bytes.collect::<Vec<u8>>())));
        let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(bytes.ok()?.as_slice().try_into().ok()?);
        let secret = StaticSecret::from(*bytes);
        Some(Self { public: PublicKey::from(&secret), secret, recipient: identity.to_public().to_string() })
    }

    /// `age1...`.
    pub(super) fn recipient(&self) -> String {
        self.recipient.clone()
    }

    /// Of the scalar.
    pub(super) fn root(&self) -> Root {
        Root::of(Kind::X25519, self.secret.as_bytes())
    }
}

impl ::age::Identity for X25519 {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        if stanza.tag != STANZA_TAG {
            return None;
        }
        let [argument] = stanza.args.as_slice() else {
            return Some(Err(DecryptError::InvalidHeader));
        };
        let ephemeral = STANDARD_NO_PAD.decode(argument).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let Some(ephemeral) = ephemeral else { return Some(Err(DecryptError::InvalidHeader)) };
        if stanza.body.len() != FILE_KEY_BYTES + TAG_BYTES {
            return Some(Err(DecryptError::InvalidHeader));
        }
        let shared = self.secret.diffie_hellman(&PublicKey::from(ephemeral));
        // A point of small order gives a secret that everybody knows.
        if !shared.was_contributory() {
            return Some(Err(DecryptError::InvalidHeader));
        }
        let mut salt = [0; 64];
        let (first, second) = salt.split_at_mut(32);
        first.copy_from_slice(&ephemeral);
        second.copy_from_slice(self.public.as_bytes());
        let key = Zeroizing::new(hkdf(&salt, LABEL, shared.as_bytes()));
        // That the body does not open says "another's stanza".
        let opened = Zeroizing::new(aead_decrypt(&key, FILE_KEY_BYTES, &stanza.body).ok()?);
        let opened = <&[u8; FILE_KEY_BYTES]>::try_from(opened.as_slice()).ok()?;
        Some(Ok(FileKey::init_with_mut(|key| key.copy_from_slice(opened))))
    }
}

const SECRET_KEY: Hrp = Hrp::parse_unchecked("AGE-SECRET-KEY-");
const STANZA_TAG: &str = "X25519";
const LABEL: &[u8] = b"age-encryption.org/v1/X25519";
const TAG_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use ::age::Identity as _;
    use age_core::format::Stanza;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;

    use super::X25519;

    fn stanza(point: &[u8], body: usize) -> Stanza {
        Stanza { tag: "X25519".into(), args: vec![STANDARD_NO_PAD.encode(point)], body: vec![7; body] }
    }

    fn identity() -> X25519 {
        let text = include_str!("../../tests/corpus/keys/age.txt");
        X25519::parse(text.lines().find(|line| line.starts_with("AGE-")).unwrap()).unwrap()
    }

    #[test]
    fn the_recipient_is_that_of_the_age_crate() {
        let text = include_str!("../../tests/corpus/keys/age.txt");
        assert!(text.contains(&identity().recipient()), "age-keygen wrote the recipient above the identity");
    }

    #[test]
    fn another_tag_or_another_key_is_somebody_elses_stanza() {
        let mut other = stanza(&[9; 32], 32);
        assert!(identity().unwrap_stanza(&other).is_none());
        other.tag = "scrypt".into();
        assert!(identity().unwrap_stanza(&other).is_none());
    }

    #[test]
    fn a_point_of_small_order_or_of_another_length_is_refused() {
        for bad in [stanza(&[0; 32], 32), stanza(&[9; 31], 32), stanza(&[9; 32], 31)] {
            assert!(matches!(identity().unwrap_stanza(&bad), Some(Err(_))));
        }
        let mut two = stanza(&[9; 32], 32);
        two.args.push("x".into());
        assert!(matches!(identity().unwrap_stanza(&two), Some(Err(_))));
    }
}
