//! What the two files a person writes have in common with each other (and their leaves with the
//! witnesses): bounds, one document, and errors that say line and column and quote nothing.
//!
//! An error names keys and rules. The text of a value is never in it: what stands in the wrong place
//! may be a secret that was pasted there.

use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

/// What is wrong, and where: line and column from 1.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) at: Option<(usize, usize)>,
    pub(crate) problem: String,
}

/// `apiVersion` of both files.
pub(crate) struct ApiVersion;

/// Reads one YAML document whose `kind` is a `K`. The header is looked at first, so that another kind of
/// file is called that and not a list of unknown keys.
pub(crate) fn yaml<K: DeserializeOwned, T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    if bytes.len() > MAX_BYTES {
        return Err(Fault::anywhere(format!("it is larger than {} KiB", MAX_BYTES >> 10)));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Fault::anywhere("it is not UTF-8 text"))?;
    if text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).nth(MAX_FLOW).is_some() {
        return Err(Fault::anywhere(format!("it holds more than {MAX_FLOW} of `[` and `{{`")));
    }
    yaml_serde::from_str::<Header<K>>(text).map_err(|error| Fault::of(&error))?;
    yaml_serde::from_str(text).map_err(|error| Fault::of(&error))
}

/// Text that `parse` makes a `T` of, or the rule it breaks. `expects` is what errors about other types say.
pub(crate) fn text<'de, D: Deserializer<'de>, T>(
    from: D,
    expects: &'static str,
    parse: impl FnOnce(&str) -> Result<T, &'static str>,
) -> Result<T, D::Error> {
    struct Text<P>(&'static str, P);
    impl<T, P: FnOnce(&str) -> Result<T, &'static str>> Visitor<'_> for Text<P> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            (self.1)(text).map_err(E::custom)
        }
    }
    // `any`, so that `name: 123` and `name: true` are what YAML and the API server take them for: no text.
    from.deserialize_any(Text(expects, parse))
}

/// A whole number that `parse` makes a `T` of.
pub(crate) fn number<'de, D: Deserializer<'de>, T>(
    from: D,
    expects: &'static str,
    parse: impl FnOnce(u64) -> Result<T, &'static str>,
) -> Result<T, D::Error> {
    struct Number<P>(&'static str, P);
    impl<T, P: FnOnce(u64) -> Result<T, &'static str>> Visitor<'_> for Number<P> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
            (self.1)(number).map_err(E::custom)
        }
    }
    from.deserialize_any(Number(expects, parse))
}

/// A list of at most `MAX` entries, all different. The bound is what keeps aliases harmless: without it a
/// small document could name one long list a hundred thousand times.
pub(crate) fn list<'de, D, T, const MAX: usize>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Clone + Ord,
{
    struct List<T, const MAX: usize>(PhantomData<T>);
    impl<'de, T: Deserialize<'de> + Clone + Ord, const MAX: usize> Visitor<'de> for List<T, MAX> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Vec<T>, A::Error> {
            let (mut entries, mut seen) = (Vec::new(), BTreeSet::new());
            while let Some(entry) = from.next_element::<T>()? {
                if entries.len() == MAX {
                    return Err(de::Error::custom(format!("expects at most {MAX} entries")));
                }
                if !seen.insert(entry.clone()) {
                    return Err(de::Error::custom(format!("entry {} stands there twice", entries.len() + 1)));
                }
                entries.push(entry);
            }
            Ok(entries)
        }
    }
    from.deserialize_any(List::<T, MAX>(PhantomData))
}

/// A mapping of at most `MAX` entries; a key that stands twice is an error.
pub(crate) fn map<'de, D, K, V, const MAX: usize>(from: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    struct Map<K, V, const MAX: usize>(PhantomData<(K, V)>);
    impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>, const MAX: usize> Visitor<'de> for Map<K, V, MAX> {
        type Value = BTreeMap<K, V>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a mapping")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
            let mut entries = BTreeMap::new();
            while let Some((key, value)) = from.next_entry()? {
                if entries.len() == MAX {
                    return Err(de::Error::custom(format!("expects at most {MAX} entries")));
                }
                if entries.insert(key, value).is_some() {
                    return Err(de::Error::custom(format!("key {} stands there twice", entries.len() + 1)));
                }
            }
            Ok(entries)
        }
    }
    from.deserialize_any(Map::<K, V, MAX>(PhantomData))
}

/// One line of printable text, not empty, at most `max` bytes: the rule of leaves that have no other.
pub(crate) fn line(text: &str, max: usize) -> Result<String, &'static str> {
    if text.is_empty() || text.trim() != text {
        Err("expects text without blanks around it")
    } else if text.chars().any(char::is_control) {
        Err("holds a control character")
    } else if text.len() > max {
        Err("is too long")
    } else {
        Ok(text.to_owned())
    }
}

impl Fault {
    /// A rule over the file as a whole.
    pub(crate) fn anywhere(problem: impl Into<String>) -> Self {
        Self { at: None, problem: problem.into() }
    }

    fn of(error: &yaml_serde::Error) -> Self {
        let at = error.location().map(|place| (place.line(), place.column()));
        let said = error.to_string();
        let problem = match at {
            Some((line, column)) => said.replacen(&format!(" at line {line} column {column}"), "", 1),
            None => said,
        };
        Self { at, problem: one_line(&without_values(&problem)) }
    }
}

/// serde quotes the value that has the wrong type (``invalid type: string "..", expected ..``): its kind is
/// kept, its text is not. The last `expected` is ours, as `expecting` texts never hold the word.
fn without_values(said: &str) -> String {
    for rule in ["invalid type: ", "invalid value: "] {
        if let Some((path, (found, expected))) =
            said.split_once(rule).and_then(|(path, rest)| Some((path, rest.rsplit_once(", expected ")?)))
        {
            let kind = found.split(['"', '`']).next().unwrap_or_default().trim_end();
            return format!("{path}expects {expected}, found {kind}");
        }
    }
    said.to_owned()
}

/// Key names come from the file: what a terminal would obey is escaped, what is endless is cut.
fn one_line(text: &str) -> String {
    const SHOWN: usize = 400;
    let mut line = String::new();
    for char in text.chars().take(SHOWN) {
        if char.is_control() { line.extend(char.escape_default()) } else { line.push(char) }
    }
    line
}

/// Largest file, in bytes: what the API server stores in one `ConfigMap`, where the operator's file lives.
const MAX_BYTES: usize = 1 << 20;

/// Most `[` and `{`, wherever they stand: the YAML reader's work grows with the square of their depth, and
/// their depth cannot be told before reading. At the bound that is a few hundredths of a second.
const MAX_FLOW: usize = 10_000;

/// The first keys of both files; the others are somebody else's in this pass.
#[derive(Deserialize)]
#[serde(expecting = "a mapping")]
struct Header<K> {
    #[serde(rename = "apiVersion")]
    _version: ApiVersion,
    #[serde(rename = "kind")]
    _kind: K,
}

impl<'de> Deserialize<'de> for ApiVersion {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        text(from, "`regent.dev/v1alpha1`", |text| match text {
            "regent.dev/v1alpha1" => Ok(Self),
            _ => Err("expects `regent.dev/v1alpha1`"),
        })
    }
}
