//! What a YAML scalar is: nothing, a truth value, a number, a time or text.
//!
//! Two readers count, and they disagree: SOPS (`go.yaml.in/yaml/v3`), whose typing decides the bytes
//! of the MAC, and Kubernetes (`sigs.k8s.io/yaml` on `yaml.v2`), which decides what a manifest says.
//! Both are followed to the letter; `hack/scalar-vectors` asks the two libraries themselves.
//!
//! | text | SOPS | Kubernetes |
//! |---|---|---|
//! | `yes`, `off`, `n` | text | truth value |
//! | `0o14` | 12 | 12 |
//! | `2001-12-14` | time | text |
//! | `18446744073709551615` | refused: SOPS cannot hash it | unsigned integer |
//! | `.nan`, `.inf` | float | refused: JSON cannot hold it |
//! | `! 12` | 12 | text |

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::plaintext::Plaintext;
use crate::tree::Scalar;

/// Whose rules type a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// SOPS: go.yaml.in/yaml/v3.
    Sops,
    /// Kubernetes: sigs.k8s.io/yaml, that is YAML 1.1 words (`yes`) and times as text.
    Kubernetes,
}

/// The tag of a scalar, as far as either reader looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// No tag.
    Absent,
    /// `!` alone.
    NonSpecific,
    /// `!!str`.
    Str,
    /// `!!bool`.
    Bool,
    /// `!!int`.
    Int,
    /// `!!float`.
    Float,
    /// `!!null`.
    Null,
    /// `!!timestamp`.
    Timestamp,
    /// `!!binary`: base64.
    Binary,
    /// `!!merge`.
    Merge,
    /// Any other: text for both readers, the tag is lost.
    Other,
}

/// How a scalar stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Presentation {
    /// Neither quoted nor a block.
    pub(crate) plain: bool,
    /// Its tag.
    pub(crate) tag: Tag,
}

impl Tag {
    /// The tag that a resolved handle and suffix spell together.
    pub(crate) fn of(handle: &str, suffix: &str) -> Self {
        if handle.is_empty() && suffix == "!" {
            return Self::NonSpecific;
        }
        let name = |prefix: &str| {
            let rest = prefix.strip_prefix(handle);
            rest.map_or_else(
                || handle.strip_prefix(prefix).map(|tail| format!("{tail}{suffix}")),
                |rest| suffix.strip_prefix(rest).map(str::to_owned),
            )
        };
        match name("tag:yaml.org,2002:").as_deref() {
            Some("str") => Self::Str,
            Some("bool") => Self::Bool,
            Some("int") => Self::Int,
            Some("float") => Self::Float,
            Some("null") => Self::Null,
            Some("timestamp") => Self::Timestamp,
            Some("binary") => Self::Binary,
            Some("merge") => Self::Merge,
            Some(_) | None => Self::Other,
        }
    }
}

/// Types a scalar. The error is the rule that its text breaks.
pub(crate) fn resolve(text: Plaintext, how: Presentation, dialect: Dialect) -> Result<Scalar, &'static str> {
    let kind = {
        let Some(text) = text.text() else { return Ok(Scalar::Text(text)) };
        match (how.tag, dialect) {
            (Tag::Absent, _) | (Tag::NonSpecific, Dialect::Sops) if how.plain => classify(text, Tag::Absent, dialect)?,
            (Tag::Absent | Tag::NonSpecific | Tag::Str | Tag::Merge | Tag::Other, _) => Kind::Text,
            (Tag::Binary, _) => return binary(text, dialect).map(Scalar::Text),
            (tag @ (Tag::Bool | Tag::Int | Tag::Float | Tag::Null | Tag::Timestamp), _) => {
                fitting(classify(text, tag, dialect)?, tag)?
            }
        }
    };
    Ok(match kind {
        Kind::Null => Scalar::Null,
        Kind::Bool(value) => Scalar::Bool(value),
        Kind::Int(value) => Scalar::Int(value),
        Kind::Uint(value) => Scalar::Uint(value),
        Kind::Float(value) if value.is_finite() || dialect == Dialect::Sops => Scalar::Float(value),
        Kind::Float(_) => return Err("infinity and NaN are no JSON numbers, so Kubernetes cannot read them"),
        Kind::Time(value) if dialect == Dialect::Sops => Scalar::Time(value),
        Kind::Time(_) | Kind::Text => Scalar::Text(text),
    })
}

/// Whether a plain scalar is text for SOPS and for Kubernetes alike, and for readers of YAML 1.2 and
/// of the types that YAML 1.1 once had (base 60, `=`).
pub(crate) fn is_text_for_every_reader(text: &str) -> bool {
    let number_like = text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-' | '.'));
    let word = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    !number_like && !word(&["", "~", "<<", "=", "null", "true", "false", "yes", "no", "on", "off", "y", "n"])
}

/// Whether a plain scalar is text for SOPS.
pub(crate) fn is_text_for_sops(text: &str) -> bool {
    matches!(classify(text, Tag::Absent, Dialect::Sops), Ok(Kind::Text))
}

/// A scalar's type, its text still where it was.
enum Kind {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Time(String),
    Text,
}

/// What both libraries do in `resolve`: words, then by the first byte.
fn classify(text: &str, tag: Tag, dialect: Dialect) -> Result<Kind, &'static str> {
    if let Some(word) = word(text, dialect) {
        return Ok(word);
    }
    Ok(match text.as_bytes().first() {
        Some(b'.') => dotted_float(text).map_or(Kind::Text, Kind::Float),
        Some(b'0'..=b'9' | b'+' | b'-') => {
            // Kubernetes reads a time as its own text, so there only the tag asks.
            if (tag == Tag::Timestamp || (tag == Tag::Absent && dialect == Dialect::Sops))
                && let Some(time) = timestamp(text)
            {
                return match dialect {
                    Dialect::Sops => time.map(Kind::Time),
                    Dialect::Kubernetes => Ok(Kind::Time(String::new())),
                };
            }
            number(text, dialect)
        }
        Some(_) | None => Kind::Text,
    })
}

fn word(text: &str, dialect: Dialect) -> Option<Kind> {
    Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Kind::Null,
        "true" | "True" | "TRUE" => Kind::Bool(true),
        "false" | "False" | "FALSE" => Kind::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Kind::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Kind::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Kind::Float(f64::NEG_INFINITY),
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" if dialect == Dialect::Kubernetes => Kind::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" if dialect == Dialect::Kubernetes => Kind::Bool(false),
        _ => return None,
    })
}

/// The type as a tag demands it: an integer may stand for a float, nothing else for anything else.
fn fitting(kind: Kind, tag: Tag) -> Result<Kind, &'static str> {
    match (tag, kind) {
        #[expect(clippy::cast_precision_loss, reason = "Go's own conversion, float64(int)")]
        (Tag::Float, Kind::Int(value)) => Ok(Kind::Float(value as f64)),
        (Tag::Bool, kind @ Kind::Bool(_))
        | (Tag::Int, kind @ (Kind::Int(_) | Kind::Uint(_)))
        | (Tag::Float, kind @ Kind::Float(_))
        | (Tag::Null, kind @ Kind::Null)
        | (Tag::Timestamp, kind @ Kind::Time(_)) => Ok(kind),
        (
            _,
            Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Uint(_) | Kind::Float(_) | Kind::Time(_) | Kind::Text,
        ) => Err("a value does not fit its tag"),
    }
}

/// What begins with a digit or a sign and is no time.
fn number(text: &str, dialect: Dialect) -> Kind {
    // All underscores go, wherever they stand: `1__0` is ten.
    let stripped;
    let digits = if text.contains('_') {
        stripped = Zeroizing::new(text.replace('_', ""));
        stripped.as_str()
    } else {
        text
    };
    if let Some(value) = signed(digits, unsigned) {
        return Kind::Int(value);
    }
    if let Some(value) = unsigned(digits) {
        return Kind::Uint(value);
    }
    if is_decimal_float(digits) {
        // What overflows is text, not infinity.
        if let Some(value) = digits.parse::<f64>().ok().filter(|value| value.is_finite()) {
            return Kind::Float(value);
        }
    }
    // Go's second try parses what follows the prefix with a sign of its own: `0b-1` is -1.
    let signed_after = |prefix: &str, radix: u32| {
        let rest = digits.strip_prefix(prefix)?;
        signed(rest, |magnitude| in_radix(magnitude, radix))
    };
    signed_after("0b", 2)
        .or_else(|| signed_after("0o", 8).filter(|_| dialect == Dialect::Sops))
        .map_or(Kind::Text, Kind::Int)
}

/// Go's `ParseInt`: an optional sign before a magnitude, within 64 bits.
fn signed(text: &str, magnitude: impl Fn(&str) -> Option<u64>) -> Option<i64> {
    match text.strip_prefix('-') {
        Some(rest) => 0_i64.checked_sub_unsigned(magnitude(rest)?),
        None => i64::try_from(magnitude(text.strip_prefix('+').unwrap_or(text))?).ok(),
    }
}

/// Go's `ParseUint` with base 0: `0x`, `0b`, `0o` in either case, and a leading zero is octal.
fn unsigned(text: &str) -> Option<u64> {
    let Some(rest) = text.strip_prefix('0').filter(|rest| !rest.is_empty()) else {
        return in_radix(text, 10);
    };
    let digits = |letters: [char; 2]| rest.strip_prefix(letters).filter(|digits| !digits.is_empty());
    if let Some(digits) = digits(['x', 'X']) {
        in_radix(digits, 16)
    } else if let Some(digits) = digits(['b', 'B']) {
        in_radix(digits, 2)
    } else if let Some(digits) = digits(['o', 'O']) {
        in_radix(digits, 8)
    } else {
        in_radix(rest, 8)
    }
}

fn in_radix(digits: &str, radix: u32) -> Option<u64> {
    // Rust would read a sign here.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, both ends anchored.
fn is_decimal_float(text: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let after = |text, count| str::get(text, count..).unwrap_or_default();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let whole = digits(unsigned);
    let mut rest = after(unsigned, whole);
    if let Some(fraction) = rest.strip_prefix('.') {
        let count = digits(fraction);
        if whole == 0 && count == 0 {
            return false;
        }
        rest = after(fraction, count);
    } else if whole == 0 {
        return false;
    }
    rest.strip_prefix(['e', 'E']).map_or(rest.is_empty(), |exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent) == exponent.len()
    })
}

/// Go's `ParseFloat` on text that begins with a dot: here an underscore must stand between digits.
fn dotted_float(text: &str) -> Option<f64> {
    if text.contains('_') {
        let between_digits = |window: &[u8]| match window {
            [before, b'_', after] => before.is_ascii_digit() && after.is_ascii_digit(),
            [_, _, _] | [..] => true,
        };
        if text.ends_with('_') || !text.as_bytes().windows(3).all(between_digits) {
            return None;
        }
    }
    let digits = Zeroizing::new(text.replace('_', ""));
    if !is_decimal_float(&digits) {
        return None;
    }
    digits.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// The three forms of a time that the Go library reads, in SOPS's form: RFC 3339, fraction without
/// trailing zeros, the offset kept. The inner error: a time that Go reads but cannot write.
fn timestamp(text: &str) -> Option<Result<String, &'static str>> {
    let mut rest = Digits(text);
    if text.bytes().take_while(u8::is_ascii_digit).count() != 4 {
        return None;
    }
    let year = rest.take(4, 4)?;
    rest.skip('-')?;
    let month = rest.take(1, 2)?;
    rest.skip('-')?;
    let day = rest.take(1, 2)?;
    if !(1..=12).contains(&month) || day < 1 || day > days_in(month, year) {
        return None;
    }
    if rest.0.is_empty() {
        return Some(Ok(format!("{year:04}-{month:02}-{day:02}T00:00:00Z")));
    }
    let zoned = rest.skip('T').or_else(|| rest.skip('t')).is_some();
    if !zoned {
        rest.skip(' ')?;
        rest.0 = rest.0.trim_start_matches(' ');
    }
    let hour = rest.take(1, 2)?;
    rest.skip(':')?;
    let minute = rest.take(1, 2)?;
    rest.skip(':')?;
    let second = rest.take(1, 2)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction = rest.fraction();
    let zone = if zoned { rest.zone()? } else { Ok("Z".to_owned()) };
    if !rest.0.is_empty() {
        return None;
    }
    Some(zone.map(|zone| format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}")))
}

fn days_in(month: u32, year: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

/// The rest of a time.
struct Digits<'t>(&'t str);

impl<'t> Digits<'t> {
    fn skip(&mut self, expected: char) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }

    /// A number of `least` to `most` digits.
    fn take(&mut self, least: usize, most: usize) -> Option<u32> {
        let count = self.0.bytes().take(most).take_while(u8::is_ascii_digit).count();
        if count < least {
            return None;
        }
        self.split(count)?.parse().ok()
    }

    /// `.digits` or `,digits` where they stand: cut to nanoseconds, zeros at the end gone.
    fn fraction(&mut self) -> String {
        let Some(rest) = self.0.strip_prefix(['.', ',']) else { return String::new() };
        let count = rest.bytes().take_while(u8::is_ascii_digit).count();
        if count == 0 {
            return String::new();
        }
        self.0 = rest;
        let digits = self.split(count).unwrap_or_default();
        let nanoseconds = digits.get(..9).unwrap_or(digits).trim_end_matches('0');
        if nanoseconds.is_empty() { String::new() } else { format!(".{nanoseconds}") }
    }

    /// `Z` or `+hh:mm`. Go reads up to 24 hours and 60 minutes, and writes less than 24 hours.
    fn zone(&mut self) -> Option<Result<String, &'static str>> {
        if self.skip('Z').is_some() {
            return Some(Ok("Z".to_owned()));
        }
        let sign = if self.skip('+').is_some() { '+' } else { self.skip('-').map(|()| '-')? };
        let hours = self.take(2, 2)?;
        self.skip(':')?;
        let minutes = self.take(2, 2)?;
        if hours > 24 || minutes > 60 {
            return None;
        }
        let (hours, minutes) = (hours + minutes / 60, minutes % 60);
        Some(match hours {
            0 if minutes == 0 => Ok("Z".to_owned()),
            0..24 => Ok(format!("{sign}{hours:02}:{minutes:02}")),
            _ => Err("a time's offset is 24 hours or more, which SOPS cannot write"),
        })
    }

    fn split(&mut self, count: usize) -> Option<&'t str> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

/// Go's `base64.StdEncoding`: padded, line breaks skipped, stray bits at the end accepted.
const GO_BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The bytes of a `!!binary`, which both readers take for text.
fn binary(text: &str, dialect: Dialect) -> Result<Plaintext, &'static str> {
    let mut packed = Zeroizing::new(text.as_bytes().to_vec());
    packed.retain(|byte| !matches!(byte, b'\r' | b'\n'));
    let bytes = GO_BASE64.decode(&*packed).map(Plaintext::new).map_err(|_| "a `!!binary` value is not base64")?;
    if dialect == Dialect::Kubernetes && !bytes.is_utf8() {
        return Err(
            "a `!!binary` value is not text, so Kubernetes cannot hold it; a Secret's `data` takes base64 as a string",
        );
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
