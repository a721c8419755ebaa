//! One encrypted value: `ENC[AES256_GCM,data:..,iv:..,tag:..,type:..]`, parsed as Go's regular
//! expression of SOPS does and decrypted with AES-256-GCM.

use aes::Aes256;
use aes_gcm::aead::consts::{U12, U16, U24, U32, U64};
use aes_gcm::aead::generic_array::{ArrayLength, GenericArray};
use aes_gcm::{AeadInPlace, AesGcm, KeyInit};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::error::ValueProblem;
use crate::plaintext::Plaintext;
use crate::rfc3339::Moment;
use crate::tree::Scalar;

/// A file's data key, its round keys made once. They are wiped on drop.
pub(crate) struct Cipher {
    /// With the nonce that SOPS writes; other lengths are set up when one comes along.
    gcm: AesGcm<Aes256, U32>,
    block: Aes256,
}

/// What a ciphertext held.
pub(crate) enum Decrypted {
    /// A value of one of the types that SOPS writes.
    Value(Scalar),
    /// `type:comment`: text without its `#`.
    Comment(Plaintext),
}

impl Cipher {
    /// Sets the data key up; `None` unless it has 32 bytes. (Go would also take 16 and 24, which
    /// no SOPS has written.)
    pub(crate) fn new(data_key: &Plaintext) -> Option<Self> {
        let block = Aes256::new_from_slice(data_key.bytes()).ok()?;
        Some(Self { gcm: AesGcm::from(block.clone()), block })
    }

    /// Decrypts one ciphertext under its additional data. The empty text is no ciphertext here:
    /// callers leave it as it is.
    pub(crate) fn decrypt(&self, ciphertext: &[u8], additional: &[u8]) -> Result<Decrypted, ValueProblem> {
        let fields = Fields::parse(ciphertext)?;
        let nonce = decode(fields.iv, Vec::new())?;
        // Go joins both fields before it decrypts, so bytes may stand in either; and what fits here
        // is never moved again: the plaintext comes to stand in this buffer.
        let room = Vec::with_capacity(decoded_capacity(fields.data) + decoded_capacity(fields.tag));
        let mut bytes = Zeroizing::new(decode(fields.tag, decode(fields.data, room)?)?);
        let end = bytes.len().checked_sub(TAG_BYTES).ok_or(ValueProblem::Unauthentic)?;
        let tag = *bytes.last_chunk::<TAG_BYTES>().ok_or(ValueProblem::Unauthentic)?;
        bytes.truncate(end);
        match nonce.len() {
            32 => unseal(&self.gcm, &nonce, additional, &mut bytes, tag),
            12 => unseal::<U12>(&self.block.clone().into(), &nonce, additional, &mut bytes, tag),
            16 => unseal::<U16>(&self.block.clone().into(), &nonce, additional, &mut bytes, tag),
            24 => unseal::<U24>(&self.block.clone().into(), &nonce, additional, &mut bytes, tag),
            64 => unseal::<U64>(&self.block.clone().into(), &nonce, additional, &mut bytes, tag),
            _ => Err(ValueProblem::NonceLength),
        }?;
        typed(bytes, fields.type_name)
    }
}

impl Cipher {
    /// Encrypts one value as SOPS writes it. The nonce must not have been used for another value under this key.
    pub(crate) fn encrypt(&self, bytes: &[u8], type_name: &str, additional: &[u8], nonce: &[u8; 32]) -> String {
        let mut data = Zeroizing::new(bytes.to_vec());
        let tag = self
            .gcm
            .encrypt_in_place_detached(GenericArray::from_slice(nonce), additional, &mut data)
            .expect("a document is shorter than the 64 GiB of GCM");
        let [data, iv, tag] = [BASE64.encode(&*data), BASE64.encode(nonce), BASE64.encode(tag)];
        format!("ENC[AES256_GCM,data:{data},iv:{iv},tag:{tag},type:{type_name}]")
    }
}

/// The four fields of a ciphertext, still encoded.
struct Fields<'a> {
    data: &'a [u8],
    iv: &'a [u8],
    tag: &'a [u8],
    type_name: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Finds the fields as SOPS does: anchored at the start only, each field one or more of any byte
    /// but a line feed, as long as can be. So the last of each separator counts, from right to left.
    fn parse(text: &'a [u8]) -> Result<Self, ValueProblem> {
        let rest = text.strip_prefix(b"ENC[AES256_GCM,data:").ok_or(ValueProblem::Malformed)?;
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or(rest);
        let (line, _) = line.split_at(line.iter().rposition(|byte| *byte == b']').ok_or(ValueProblem::Malformed)?);
        let (line, type_name) = split_last(line, b",type:")?;
        let (line, tag) = split_last(line, b",tag:")?;
        let (data, iv) = split_last(line, b",iv:")?;
        if data.is_empty() {
            return Err(ValueProblem::Malformed);
        }
        Ok(Self { data, iv, tag, type_name })
    }
}

/// What stands before and after the last `separator` that something follows.
fn split_last<'a>(text: &'a [u8], separator: &[u8]) -> Result<(&'a [u8], &'a [u8]), ValueProblem> {
    let found = text
        .split_last()
        .and_then(|(_, but_last)| but_last.windows(separator.len()).rposition(|window| window == separator))
        .ok_or(ValueProblem::Malformed)?;
    let (before, after) = text.split_at(found);
    Ok((before, after.get(separator.len()..).unwrap_or_default()))
}

/// Go's `base64.StdEncoding`: padding is mandatory, unused bits may be anything, line breaks are
/// skipped (a carriage return alone can occur here).
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// Appends the decoded bytes.
fn decode(encoded: &[u8], mut onto: Vec<u8>) -> Result<Vec<u8>, ValueProblem> {
    let malformed = |_| ValueProblem::Malformed;
    if encoded.contains(&b'\r') {
        let joined: Vec<u8> = encoded.iter().copied().filter(|byte| *byte != b'\r').collect();
        BASE64.decode_vec(joined, &mut onto).map_err(malformed)?;
    } else {
        BASE64.decode_vec(encoded, &mut onto).map_err(malformed)?;
    }
    Ok(onto)
}

fn decoded_capacity(encoded: &[u8]) -> usize {
    encoded.len().div_ceil(4) * 3
}

/// Decrypts in place.
fn unseal<Nonce: ArrayLength<u8>>(
    gcm: &AesGcm<Aes256, Nonce>,
    nonce: &[u8],
    additional: &[u8],
    bytes: &mut [u8],
    tag: [u8; TAG_BYTES],
) -> Result<(), ValueProblem> {
    gcm.decrypt_in_place_detached(GenericArray::from_slice(nonce), additional, bytes, &tag.into())
        .map_err(|_| ValueProblem::Unauthentic)
}

/// Gives the bytes the type that the ciphertext names. The name is not authenticated: a person
/// without the key can change it.
fn typed(mut bytes: Zeroizing<Vec<u8>>, type_name: &[u8]) -> Result<Decrypted, ValueProblem> {
    let value = match type_name {
        b"str" => Scalar::Text(Plaintext::new(std::mem::take(&mut *bytes))),
        b"comment" => return Ok(Decrypted::Comment(Plaintext::new(std::mem::take(&mut *bytes)))),
        b"int" => Scalar::Int(text_of(&bytes)?.parse().map_err(|_| ValueProblem::WrongType)?),
        b"float" => Scalar::Float(parse_float(text_of(&bytes)?).ok_or(ValueProblem::WrongType)?),
        b"bool" => Scalar::Bool(parse_bool(text_of(&bytes)?).ok_or(ValueProblem::WrongType)?),
        b"time" => Scalar::Time(
            Moment::parse(text_of(&bytes)?)
                .and_then(|moment| moment.to_nanoseconds())
                .ok_or(ValueProblem::WrongType)?,
        ),
        _ => return Err(ValueProblem::UnknownType),
    };
    Ok(Decrypted::Value(value))
}

fn text_of(bytes: &[u8]) -> Result<&str, ValueProblem> {
    std::str::from_utf8(bytes).map_err(|_| ValueProblem::WrongType)
}

/// Go's `strconv.ParseFloat` on decimal numbers and its words. Its hexadecimal numbers and its
/// underscores are refused: SOPS does not write them.
fn parse_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is = |word: &str| unsigned.eq_ignore_ascii_case(word);
    if is("inf") || is("infinity") || (is("nan") && unsigned == text) {
        return text.parse().ok();
    }
    let decimal = unsigned.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    if !decimal {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Length of a GCM tag.
const TAG_BYTES: usize = 16;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD as ENCODE;
    use rstest::rstest;

    pub(crate) const KEY: [u8; 32] = *b"0123456789abcdef0123456789abcdef";

    /// What SOPS writes for these bytes, with a nonce of this length.
    fn encrypt_with<Nonce: ArrayLength<u8>>(bytes: &[u8], type_name: &str, additional: &str) -> String {
        let gcm: AesGcm<Aes256, Nonce> = Aes256::new(&KEY.into()).into();
        let nonce = GenericArray::<u8, Nonce>::default();
        let mut data = bytes.to_vec();
        let tag = gcm.encrypt_in_place_detached(&nonce, additional.as_bytes(), &mut data).unwrap();
        let [data, iv, tag] = [ENCODE.encode(data), ENCODE.encode(nonce), ENCODE.encode(tag)];
        format!("ENC[AES256_GCM,data:{data},iv:{iv},tag:{tag},type:{type_name}]")
    }

    /// What SOPS writes for these bytes under [`KEY`].
    pub(crate) fn encrypt(bytes: &[u8], type_name: &str, additional: &str) -> String {
        encrypt_with::<U32>(bytes, type_name, additional)
    }

    fn cipher() -> Cipher {
        Cipher::new(&Plaintext::new(KEY.to_vec())).unwrap()
    }

    fn decrypt(ciphertext: &str) -> Result<Scalar, ValueProblem> {
        match cipher().decrypt(ciphertext.as_bytes(), b"k:")? {
            Decrypted::Value(value) => Ok(value),
            Decrypted::Comment(_) => panic!("a comment"),
        }
    }

    /// The text that ciphertext holds.
    fn text(ciphertext: &str) -> Result<String, ValueProblem> {
        match decrypt(ciphertext)? {
            Scalar::Text(text) => Ok(text.text().unwrap().to_owned()),
            Scalar::Null | Scalar::Bool(_) | Scalar::Int(_) | Scalar::Uint(_) | Scalar::Float(_) | Scalar::Time(_) => {
                panic!("another type")
            }
        }
    }

    fn problem(ciphertext: &str) -> ValueProblem {
        decrypt(ciphertext).map(|value| value.type_name()).expect_err("a refusal")
    }

    #[test]
    fn the_vector_of_sops_own_tests_opens_under_its_path_alone() {
        const VECTOR: &[u8] = b"ENC[AES256_GCM,data:oYyi,iv:MyIDYbT718JRr11QtBkcj3Dwm4k1aCGZBVeZf0EyV8o=,\
            tag:t5z2Z023Up0kxwCgw1gNxg==,type:str]";
        let cipher = Cipher::new(&Plaintext::new(vec![b'f'; 32])).unwrap();
        let Ok(Decrypted::Value(Scalar::Text(text))) = cipher.decrypt(VECTOR, b"bar:") else {
            panic!("the vector does not open");
        };
        assert_eq!(text.bytes(), b"foo");
        assert_eq!(cipher.decrypt(VECTOR, b"").err(), Some(ValueProblem::Unauthentic));
        assert_eq!(cipher.decrypt(VECTOR, b"baz:").err(), Some(ValueProblem::Unauthentic));
    }

    #[test]
    fn a_data_key_has_32_bytes() {
        for length in [0, 16, 24, 31, 33] {
            assert!(Cipher::new(&Plaintext::new(vec![0; length])).is_none(), "{length}");
        }
    }

    #[test]
    fn nonces_of_the_lengths_that_writers_use_open_and_others_are_named() {
        assert_eq!(text(&encrypt_with::<U12>(b"v", "str", "k:")).unwrap(), "v");
        assert_eq!(text(&encrypt_with::<U16>(b"v", "str", "k:")).unwrap(), "v");
        assert_eq!(text(&encrypt_with::<U24>(b"v", "str", "k:")).unwrap(), "v");
        assert_eq!(text(&encrypt_with::<U64>(b"v", "str", "k:")).unwrap(), "v");
        let other = encrypt_with::<aes_gcm::aead::consts::U31>(b"v", "str", "k:");
        assert_eq!(problem(&other), ValueProblem::NonceLength);
    }

    #[test]
    fn what_stands_after_the_last_bracket_of_the_first_line_is_not_read() {
        let value = encrypt(b"v", "str", "k:");
        assert_eq!(text(&format!("{value} and more")).unwrap(), "v");
        assert_eq!(text(&format!("{value}\n]")).unwrap(), "v");
        assert_eq!(problem(&format!("{value}]")), ValueProblem::UnknownType);
        assert_eq!(problem(&format!(" {value}")), ValueProblem::Malformed);
        assert_eq!(problem(&value.replace(",iv:", ",\niv:")), ValueProblem::Malformed);
        assert_eq!(problem(&value.replace("AES256_GCM", "aes256_gcm")), ValueProblem::Malformed);
    }

    #[test]
    fn a_field_is_as_long_as_it_can_be_and_never_empty() {
        let fields = |text: &str| {
            let text = text.to_owned().into_bytes();
            Fields::parse(&text).ok().map(|fields| {
                [fields.data, fields.iv, fields.tag, fields.type_name]
                    .map(|field| String::from_utf8(field.to_vec()).unwrap())
                    .join(" ")
            })
        };
        let parse = |rest: &str| fields(&format!("ENC[AES256_GCM,data:{rest}"));
        assert_eq!(parse("d,iv:i,tag:t,type:y]").unwrap(), "d i t y");
        assert_eq!(parse("d,iv:x,iv:i,tag:t,type:y]").unwrap(), "d,iv:x i t y");
        assert_eq!(parse("d,iv:i,tag:t,type:x,type:y]]").unwrap(), "d i t,type:x y]");
        // A separator that nothing follows belongs to the field before it.
        assert_eq!(parse("d,iv:i,tag:t,type:,type:]").unwrap(), "d i t ,type:");
        assert_eq!(parse("d,iv:,iv:,tag:t,type:y]").unwrap(), "d ,iv: t y");
        for empty in [",iv:i,tag:t,type:y]", "d,iv:,tag:t,type:y]", "d,iv:i,tag:,type:y]", "d,iv:i,tag:t,type:]"] {
            assert_eq!(parse(empty), None, "{empty}");
        }
    }

    #[test]
    fn base64_is_read_as_go_does() {
        // 32 zero bytes of nonce end in `A=`; `B=` differs in unused bits alone.
        let value = encrypt(b"vv", "str", "k:");
        assert!(value.contains("A=,tag:"));
        assert_eq!(text(&value.replace("A=,tag:", "B=,tag:")).unwrap(), "vv");
        assert_eq!(text(&value.replace("A=,tag:", "A\r=,tag:")).unwrap(), "vv");
        assert_eq!(problem(&value.replace("A=,tag:", "A,tag:")), ValueProblem::Malformed);
        assert_eq!(problem(&value.replace("A=,tag:", "A=A,tag:")), ValueProblem::Malformed);
    }

    #[test]
    fn bytes_may_stand_in_the_data_or_in_the_tag() {
        let value = encrypt(b"vvv", "str", "k:");
        let (head, tail) = value.split_once(",tag:").unwrap();
        let (tag, _) = tail.split_once(",type").unwrap();
        let tag = ENCODE.decode(tag).unwrap();
        let (moved, kept) = (ENCODE.encode(&tag[..3]), ENCODE.encode(&tag[3..]));
        let shifted = head.replace(",iv:", &format!("{moved},iv:"));
        assert_eq!(text(&format!("{shifted},tag:{kept},type:str]")).unwrap(), "vvv");
    }

    #[rstest]
    #[case::sign("+7", 7)]
    #[case::zeros("042", 42)]
    #[case::smallest("-9223372036854775808", i64::MIN)]
    fn an_int_is_decimal_with_an_optional_sign(#[case] written: &str, #[case] expected: i64) {
        let Ok(Scalar::Int(int)) = decrypt(&encrypt(written.as_bytes(), "int", "k:")) else { panic!("no int") };
        assert_eq!(int, expected);
    }

    #[rstest]
    #[case("1e3", 1000.0)]
    #[case("-.5", -0.5)]
    #[case("+Inf", f64::INFINITY)]
    #[case("-infinity", f64::NEG_INFINITY)]
    fn a_float_is_decimal_or_a_word(#[case] written: &str, #[case] expected: f64) {
        let Ok(Scalar::Float(float)) = decrypt(&encrypt(written.as_bytes(), "float", "k:")) else { panic!("no float") };
        assert_eq!(float.to_bits(), expected.to_bits());
    }

    #[test]
    fn a_time_is_kept_as_sops_hashes_it() {
        let Ok(Scalar::Time(time)) = decrypt(&encrypt(b"2024-05-06T7:08:09.10+00:00", "time", "k:")) else {
            panic!("no time")
        };
        assert_eq!(time, "2024-05-06T07:08:09.1Z");
    }

    #[rstest]
    #[case("0x10", "int")]
    #[case("1_0", "int")]
    #[case("", "int")]
    #[case("9223372036854775808", "int")]
    #[case("1e400", "float")]
    #[case("1e", "float")]
    #[case("0x1p4", "float")]
    #[case("-nan", "float")]
    #[case("yes", "bool")]
    #[case("tRUE", "bool")]
    #[case("2024-05-06", "time")]
    #[case("2024-05-06T07:08:09+24:00", "time")]
    fn bytes_that_are_not_of_their_type_are_refused(#[case] written: &str, #[case] type_name: &str) {
        // An empty value is never encrypted, so its ciphertext is no ciphertext.
        let expected = if written.is_empty() { ValueProblem::Malformed } else { ValueProblem::WrongType };
        assert_eq!(problem(&encrypt(written.as_bytes(), type_name, "k:")), expected);
    }

    #[test]
    fn types_that_sops_does_not_write_are_refused() {
        for type_name in ["bytes", "STR", "str ", "null"] {
            assert_eq!(problem(&encrypt(b"v", type_name, "k:")), ValueProblem::UnknownType, "{type_name}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_survive_as_str() {
        let Ok(Scalar::Text(text)) = decrypt(&encrypt(&[0xff, 0], "str", "k:")) else { panic!("no text") };
        assert_eq!(text.bytes(), [0xff, 0]);
    }
}
