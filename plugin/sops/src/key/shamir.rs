//! Shamir's secret sharing as SOPS uses it: a data key split over key groups.
//!
//! Each byte of the key is the value at 0 of a polynomial of its own over GF(2^8), modulo the AES
//! polynomial `x^8 + x^4 + x^3 + x + 1`. A part is one byte for each byte of the key, then one last
//! byte: the place `x` at which the polynomials were evaluated. No branch and no table look-up
//! depends on a byte of a part's values.

use crate::error::Error;
use crate::plaintext::Plaintext;

/// The key that these parts share: Lagrange's interpolation at 0 over all of them.
///
/// A wrong number of parts gives a wrong key, which only the values' authentication notices.
///
/// # Errors
/// [`Error::Parts`]: fewer than two parts, a part of less than two bytes, unequal lengths, the
/// same `x` twice.
pub(crate) fn combine(parts: &[Plaintext]) -> Result<Plaintext, Error> {
    let split: Vec<(u8, &[u8])> = parts
        .iter()
        .map(|part| match part.bytes().split_last() {
            Some((x, values)) if !values.is_empty() => Ok((*x, values)),
            Some(_) | None => Err(Error::Parts { problem: "has a part of less than two bytes" }),
        })
        .collect::<Result<_, _>>()?;
    let length = match split.as_slice() {
        [] | [_] => return Err(Error::Parts { problem: "needs at least two parts" }),
        [(_, values), ..] => values.len(),
    };
    if split.iter().any(|(_, values)| values.len() != length) {
        return Err(Error::Parts { problem: "has parts of different lengths" });
    }
    let mut secret = vec![0; length];
    for (own, (x, values)) in split.iter().enumerate() {
        let mut weight = 1;
        for (_, (other, _)) in split.iter().enumerate().filter(|(index, _)| *index != own) {
            // The places are no secrets: whoever holds a part sees its own, and they count from 1.
            if other == x {
                return Err(Error::Parts { problem: "has the same part twice" });
            }
            weight = multiply(weight, multiply(*other, inverse(x ^ other)));
        }
        for (byte, value) in secret.iter_mut().zip(*values) {
            *byte ^= multiply(weight, *value);
        }
    }
    Ok(Plaintext::new(secret))
}

/// The product in GF(2^8), in eight steps whatever the factors are.
fn multiply(a: u8, b: u8) -> u8 {
    let (mut product, mut shifted, mut bits) = (0, a, b);
    for _ in 0..8 {
        product ^= shifted & (bits & 1).wrapping_neg();
        let overflow = (shifted >> 7).wrapping_neg();
        shifted = (shifted << 1) ^ (overflow & REDUCTION);
        bits >>= 1;
    }
    product
}

/// `a^254`, which is `1/a`; 0 for 0.
fn inverse(a: u8) -> u8 {
    let mut power = a;
    let mut result = 1;
    for _ in 0..7 {
        power = multiply(power, power);
        result = multiply(result, power);
    }
    result
}

/// `x^8` modulo the AES polynomial.
const REDUCTION: u8 = 0x1b;

#[cfg(test)]
mod tests {
    use super::*;

    fn part(bytes: &[u8]) -> Plaintext {
        Plaintext::new(bytes.to_vec())
    }

    /// The part at `x` of a secret under polynomials of degree 2 with these coefficients.
    fn evaluate(secret: &[u8], linear: u8, square: u8, x: u8) -> Plaintext {
        let values = secret.iter().map(|byte| byte ^ multiply(linear, x) ^ multiply(square, multiply(x, x)));
        Plaintext::new(values.chain([x]).collect())
    }

    fn problem(parts: &[Plaintext]) -> &'static str {
        match combine(parts) {
            Err(Error::Parts { problem }) => problem,
            other => panic!("expected a refusal, not {other:?}"),
        }
    }

    #[test]
    fn the_field_is_the_one_of_aes() {
        assert_eq!(multiply(3, 7), 9);
        assert_eq!(multiply(6, inverse(3)), 2);
        assert_eq!(multiply(0x53, 0xca), 1);
        assert_eq!(multiply(200, 0), 0);
        assert!((1..=255).all(|a| multiply(a, inverse(a)) == 1));
    }

    #[test]
    fn any_parts_of_threshold_or_more_give_the_secret() {
        let secret = b"0123456789abcdef";
        let parts = |places: &[u8]| places.iter().map(|x| evaluate(secret, 0x8e, 0x31, *x)).collect::<Vec<_>>();
        for places in [&[1, 2, 3][..], &[5, 1, 255], &[4, 2, 3, 1], &[9, 8, 7, 6, 5]] {
            assert_eq!(combine(&parts(places)).unwrap().bytes(), secret, "{places:?}");
        }
        assert_ne!(combine(&parts(&[1, 2])).unwrap().bytes(), secret);
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        assert_eq!(problem(&[]), "needs at least two parts");
        assert_eq!(problem(&[part(&[7, 1])]), "needs at least two parts");
        assert_eq!(problem(&[part(&[1]), part(&[2])]), "has a part of less than two bytes");
        assert_eq!(problem(&[part(&[]), part(&[7, 2])]), "has a part of less than two bytes");
        assert_eq!(problem(&[part(&[7, 1]), part(&[7, 7, 2])]), "has parts of different lengths");
        assert_eq!(problem(&[part(&[7, 1]), part(&[9, 1])]), "has the same part twice");
    }
}
