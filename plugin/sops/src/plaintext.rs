//! Bytes that must not be seen: a buffer that is wiped when it goes, cannot be printed, and is
//! read in one place only.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

/// Secret bytes (not necessarily UTF-8), wiped on drop. No `Display`, `Serialize`, `Deref` or
/// `Clone`; `Debug` shows the length alone.
pub struct Plaintext(Zeroizing<Vec<u8>>);

impl Plaintext {
    /// Takes the buffer over; it is wiped when this value goes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves, for the one place that writes them to their destination.
    ///
    /// A disallowed method everywhere else: whoever needs a property of the bytes asks for the
    /// property.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no byte at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the bytes are text.
    pub fn is_utf8(&self) -> bool {
        std::str::from_utf8(&self.0).is_ok()
    }

    /// Whether the bytes begin with `prefix`.
    pub fn starts_with(&self, prefix: &[u8]) -> bool {
        self.0.starts_with(prefix)
    }

    /// Whether the bytes end with `suffix`.
    pub fn ends_with(&self, suffix: &[u8]) -> bool {
        self.0.ends_with(suffix)
    }

    /// Whether `part`, which is not empty, stands somewhere in the bytes.
    pub fn contains(&self, part: &[u8]) -> bool {
        self.0.windows(part.len()).any(|window| window == part)
    }

    /// Whether both hold the same bytes, compared without an early end.
    pub fn same_bytes(&self, other: &Self) -> bool {
        bool::from(subtle::ConstantTimeEq::ct_eq(self.0.as_slice(), other.0.as_slice()))
    }

    /// Whether the bytes are one JSON object or `null`: what Go decodes into a map, and so what the
    /// API server takes as `.dockerconfigjson`.
    pub fn is_json_map(&self) -> bool {
        serde_json::from_slice::<Option<JsonMap>>(&self.0).is_ok()
    }

    /// Whether this is still ciphertext: the bytes begin as a SOPS value, an age file or a PGP
    /// message, or as base64 (of base64) of one. Spaces and line breaks in front do not hide it.
    pub fn is_ciphertext(&self) -> bool {
        // The longest marker has 34 bytes; twice in base64 that is 62, and wrapped lines add a few.
        const HEAD: usize = 256;
        let start = self.0.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(self.0.len());
        let seen = self.0.get(start..).unwrap_or_default();
        if CIPHERTEXT_MARKERS.iter().any(|marker| seen.starts_with(marker)) {
            return true;
        }
        // How the markers begin in base64, once and twice: a first look that spares most values the decoding.
        if !seen.first().is_some_and(|byte| b"RLYUTW".contains(byte)) {
            return false;
        }
        let mut head = Zeroizing::new(seen.iter().copied().take(HEAD).collect::<Vec<_>>());
        for _ in 0..3 {
            if CIPHERTEXT_MARKERS.iter().any(|marker| head.starts_with(marker)) {
                return true;
            }
            let mut packed = Zeroizing::new(Vec::with_capacity(HEAD));
            packed.extend(head.iter().copied().filter(|byte| !byte.is_ascii_whitespace()));
            let foreign = |byte: &u8| !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
            let whole = packed.iter().position(foreign).unwrap_or(packed.len()) / 4 * 4;
            packed.truncate(whole);
            match STANDARD.decode(&*packed) {
                Ok(decoded) => head = Zeroizing::new(decoded),
                Err(_) => return false,
            }
        }
        false
    }

    /// Standard base64 with padding, the form of a Kubernetes Secret's `data`.
    #[must_use]
    pub fn to_base64(&self) -> Self {
        Self::new(STANDARD.encode(&*self.0).into_bytes())
    }

    /// The decoded bytes if these are standard padded base64 (line breaks inside are skipped, as
    /// Go's decoder and so the API server does).
    pub fn decode_base64(&self) -> Option<Self> {
        let mut packed = Zeroizing::new(self.0.to_vec());
        packed.retain(|byte| !matches!(byte, b'\r' | b'\n'));
        STANDARD.decode(&*packed).ok().map(Self::new)
    }

    /// A second buffer with the same bytes, wiped like this one. Spelled out, because every copy
    /// of a secret is a decision.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    /// The bytes, for this crate's own ciphers, hashes and emitters.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, for this crate's own parsers.
    pub(crate) fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

/// How ciphertext begins: a SOPS value, an age file (armored, binary), an armored PGP message.
const CIPHERTEXT_MARKERS: [&[u8]; 4] = [
    b"ENC[AES256_GCM,",
    b"-----BEGIN AGE ENCRYPTED FILE-----",
    b"age-encryption.org/v1",
    b"-----BEGIN PGP MESSAGE-----",
];

/// A JSON object, read and forgotten: no key and no value is kept.
struct JsonMap;

impl<'de> serde::Deserialize<'de> for JsonMap {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Skip;
        impl<'de> serde::de::Visitor<'de> for Skip {
            type Value = JsonMap;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<JsonMap, A::Error> {
                while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
                Ok(JsonMap)
            }
        }
        deserializer.deserialize_map(Skip)
    }
}

impl std::fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plaintext({} bytes)", self.0.len())
    }
}

impl Zeroize for Plaintext {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

/// Growing bytes that may hold values: where they must move to a larger buffer, the smaller one is wiped.
#[derive(Default)]
pub struct Wiping(Zeroizing<Vec<u8>>);

impl Wiping {
    /// Room for this many bytes before the first move.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(bytes)))
    }

    /// Appends `bytes`.
    pub fn push(&mut self, bytes: &[u8]) {
        let needed = self.0.len().saturating_add(bytes.len());
        if needed > self.0.capacity() {
            let mut larger =
                Zeroizing::new(Vec::with_capacity(needed.max(self.0.capacity().saturating_mul(2)).max(64)));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was written.
    pub fn finish(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

/// Never fails.
impl std::io::Write for Wiping {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A growing [`Plaintext`].
#[derive(Default)]
pub(crate) struct PlaintextWriter(Wiping);

impl PlaintextWriter {
    /// Room for this many bytes before the first move.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Wiping::with_capacity(bytes))
    }

    /// Appends `bytes`.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.0.push(bytes);
    }

    /// What was written.
    pub(crate) fn finish(self) -> Plaintext {
        Plaintext::new(std::mem::take(&mut *self.0.finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ciphertext_is_known_through_two_layers_of_base64() {
        for marker in CIPHERTEXT_MARKERS {
            let mut bytes = marker.to_vec();
            bytes.extend(b"data:QUJD,iv:QUJD,tag:QUJD,type:str]");
            let once = Plaintext::new(bytes);
            let twice = once.to_base64();
            let thrice = twice.to_base64();
            assert!(once.is_ciphertext() && twice.is_ciphertext() && thrice.is_ciphertext());
            let mut wrapped = b" \n".to_vec();
            for chunk in twice.bytes().chunks(10) {
                wrapped.extend(chunk);
                wrapped.extend(b"\r\n");
            }
            assert!(Plaintext::new(wrapped).is_ciphertext());
            // A line break inside the inner layer moves every character of the outer one.
            let (first, rest) = twice.bytes().split_at(1);
            let broken = Plaintext::new([first, b"\n", rest].concat());
            assert!(broken.is_ciphertext() && broken.to_base64().is_ciphertext());
        }
    }

    #[test]
    fn text_that_only_mentions_ciphertext_is_none() {
        for text in ["", "see ENC[AES256_GCM, in the file", "ENC[", "RU5D", "-----BEGIN CERTIFICATE-----", "hunter2"] {
            assert!(!Plaintext::new(text.into()).is_ciphertext(), "{text}");
        }
    }

    #[test]
    fn a_json_map_is_what_go_decodes_into_a_map() {
        for yes in ["{}", " {\"auths\": {\"r\": {}}} ", "null", "{\"a\":1,\"a\":2}"] {
            assert!(Plaintext::new(yes.into()).is_json_map(), "{yes}");
        }
        for no in ["", "[]", "\"x\"", "{", "{} {}", "1"] {
            assert!(!Plaintext::new(no.into()).is_json_map(), "{no}");
        }
    }
}
