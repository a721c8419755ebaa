//! The MAC: SHA-512 over the values in tree order, written as upper-case hex and encrypted like a
//! value. Keys, structure, comments and nulls are not in it.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha512};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::plaintext::Plaintext;
use crate::tree::Scalar;

/// The hash while the tree is walked.
pub(crate) struct Mac {
    hash: Sha512,
    /// The text of a number, before it is hashed.
    number: Zeroizing<String>,
}

impl Mac {
    /// Over every value.
    pub(crate) fn over_all() -> Self {
        Self { hash: Sha512::new(), number: Zeroizing::new(String::with_capacity(LONGEST_NUMBER)) }
    }

    /// Over encrypted values alone (`mac_only_encrypted`): begins with a constant, so that neither
    /// kind of MAC passes for the other.
    pub(crate) fn over_encrypted() -> Self {
        let mut mac = Self::over_all();
        mac.hash.update(ONLY_ENCRYPTED);
        mac
    }

    /// Adds a value. What is hashed is its form alone, so the integer 1, the float 1.0 and the text `1` count alike, as
    /// do true and the text `True`.
    pub(crate) fn add(&mut self, value: &Scalar) {
        self.hash.update(form(value, &mut self.number));
    }

    /// Whether the decrypted `mac` of a file is this one, in constant time.
    pub(crate) fn matches(self, written: &Plaintext) -> bool {
        self.into_hex().as_bytes().ct_eq(written.bytes()).into()
    }

    /// What a file's `mac` holds, before it is encrypted.
    pub(crate) fn into_hex(self) -> Zeroizing<String> {
        let digest = Zeroizing::new(<[u8; 64]>::from(self.hash.finalize()));
        let mut hex = Zeroizing::new(String::with_capacity(2 * digest.len()));
        // By hand: formatting each byte costs as much as hashing a small file.
        let digit = |half: u8| char::from(if half < 10 { b'0' + half } else { b'A' + half - 10 });
        hex.extend(digest.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
        hex
    }
}

/// The form of a value that SOPS hashes and encrypts; empty for null. `number` is where one is written.
pub(crate) fn form<'a>(value: &'a Scalar, number: &'a mut Zeroizing<String>) -> &'a [u8] {
    number.clear();
    // Writing to a string cannot fail.
    let _ = match value {
        Scalar::Null => return b"",
        Scalar::Text(text) => return text.bytes(),
        Scalar::Time(time) => return time.as_bytes(),
        Scalar::Bool(true) => return b"True",
        Scalar::Bool(false) => return b"False",
        Scalar::Int(value) => write!(number, "{value}"),
        Scalar::Uint(value) => write!(number, "{value}"),
        Scalar::Float(value) if value.is_nan() => return b"NaN",
        Scalar::Float(value) if value.is_infinite() => return if *value > 0.0 { b"+Inf" } else { b"-Inf" },
        // The shortest digits that read back as the same number, never an exponent: Go's 'f', -1.
        Scalar::Float(value) => write!(number, "{value}"),
    };
    number.as_bytes()
}

/// SHA-256 of `sops`.
const ONLY_ENCRYPTED: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b, 0x0b, 0x97, 0x5b,
    0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];

/// Digits of the smallest double: `-0.` and 324 decimals, then up to 16 more. Reserved, so that no
/// number's digits stay behind in a buffer that was too small.
pub(crate) const LONGEST_NUMBER: usize = 352;

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// The MAC text of these values.
    pub(crate) fn hex(mac: Mac) -> String {
        format!("{:X}", mac.hash.finalize())
    }

    fn over(values: impl IntoIterator<Item = Scalar>) -> String {
        let mut mac = Mac::over_all();
        values.into_iter().for_each(|value| mac.add(&value));
        hex(mac)
    }

    fn text(text: &str) -> Scalar {
        Scalar::Text(Plaintext::new(text.as_bytes().to_vec()))
    }

    #[rstest]
    #[case(1.0, "1")]
    #[case(1e21, "1000000000000000000000")]
    #[case(1e-7, "0.0000001")]
    #[case(-0.0, "-0")]
    #[case(0.1, "0.1")]
    #[case(9_007_199_254_740_993.0, "9007199254740992")]
    #[case(1_234_567_890_123_456_789.0, "1234567890123456800")]
    #[case(f64::INFINITY, "+Inf")]
    #[case(f64::NEG_INFINITY, "-Inf")]
    #[case(f64::NAN, "NaN")]
    fn a_float_is_hashed_in_its_shortest_digits_without_exponent(#[case] number: f64, #[case] expected: &str) {
        assert_eq!(over([Scalar::Float(number)]), over([text(expected)]));
    }

    #[test]
    fn the_smallest_and_largest_doubles_are_written_out() {
        assert_eq!(over([Scalar::Float(5e-324)]), over([text(&format!("0.{}5", "0".repeat(323)))]));
        assert_eq!(over([Scalar::Float(1e308)]), over([text(&format!("1{}", "0".repeat(308)))]));
        assert!(format!("{}", -f64::MIN_POSITIVE.next_down()).len() <= LONGEST_NUMBER);
    }

    #[test]
    fn types_do_not_count_but_spelling_does() {
        assert_eq!(over([Scalar::Int(1)]), over([text("1")]));
        assert_eq!(over([Scalar::Bool(true)]), over([text("True")]));
        assert_ne!(over([Scalar::Bool(true)]), over([text("true")]));
        assert_eq!(over([text("ab"), Scalar::Null, text("")]), over([text("a"), text("b")]));
    }

    #[test]
    fn a_mac_over_encrypted_values_begins_with_the_hash_of_the_word_sops() {
        assert_eq!(ONLY_ENCRYPTED, <[u8; 32]>::from(sha2::Sha256::digest("sops")));
        assert_ne!(hex(Mac::over_encrypted()), hex(Mac::over_all()));
    }

    #[test]
    fn only_the_same_upper_case_text_matches() {
        let own = hex(Mac::over_all());
        let matches = |written: &str| Mac::over_all().matches(&Plaintext::new(written.as_bytes().to_vec()));
        // SHA-512 of nothing, from FIPS 180.
        assert!(own.starts_with("CF83E1357EEFB8BDF1542850D66D8007"));
        assert!(matches(&own));
        assert!(!matches(&own.to_lowercase()));
        assert!(!matches(&format!("{own} ")));
        assert!(!matches(""));
    }
}
