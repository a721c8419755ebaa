//! Keys of the KV store: what they are called, how one is created, what a read says.
//!
//! Keys are created and never changed: [`NewKey`] makes the only body that this program sends to the data route of a key that
//! was named to it, and it holds `options.cas = 0` and no way around it. `cas` anywhere else, also in the query, is ignored by
//! Vault, which then overwrites. The one key that is updated is the heartbeat, and [`NextBeat`] can name no other.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use regent_core::handover::record::Record;
use regent_core::name::{AuthorityName, Epoch, SecretName};
use regent_sops::{Plaintext, Wiping};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::answer::{Data, Route, VaultError, refusal};

/// A key below the mount, fit to stand in a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyPath {
    path: String,
    /// Largest answer that is read of it, in bytes.
    pub(super) limit: usize,
}

/// Largest answer with a Secret's values. Raft takes entries of 1 MiB; escapes may make more of it.
const MAX_SECRET_BYTES: usize = 4 << 20;

/// Largest answer with a record; that of a handover of 20 000 documents has some megabytes.
const MAX_RECORD_BYTES: usize = 16 << 20;

/// Largest answer with what was appended to a record; it has some names and ids.
const MAX_AMENDMENT_BYTES: usize = 64 << 10;

impl KeyPath {
    /// The place of a Secret's copy.
    pub(crate) fn secret(prefix: &str, name: &SecretName) -> Result<Self, VaultError> {
        Self::parse(&format!("{prefix}/{}/{}", name.namespace().as_str(), name.name()), MAX_SECRET_BYTES)
    }

    /// The place of a handover record.
    pub(crate) fn record(name: &AuthorityName, epoch: Epoch) -> Result<Self, VaultError> {
        Self::parse(&Record::path(name, epoch), MAX_RECORD_BYTES)
    }

    /// The place of an authority's heartbeat.
    pub(crate) fn heartbeat(name: &AuthorityName) -> Result<Self, VaultError> {
        Self::parse(&format!("regent/{name}/heartbeat"), MAX_AMENDMENT_BYTES)
    }

    /// A key below a record, which says where else it counts.
    pub(crate) fn below(&self, part: &str) -> Result<Self, VaultError> {
        Self::parse(&format!("{}/{part}", self.path), MAX_AMENDMENT_BYTES)
    }

    /// Vault cleans paths by a redirect (`//`, `/../`) or refuses them, and decodes `%2F` to a separator.
    fn parse(path: &str, limit: usize) -> Result<Self, VaultError> {
        let climbs = |part: &str| part.is_empty() || part == "." || part == "..";
        if path.split('/').any(climbs) || path.contains(char::is_control) {
            return Err(VaultError::BadPath(path.to_owned()));
        }
        Ok(Self { path: path.to_owned(), limit })
    }

    /// The path as policies and people write it.
    pub(crate) fn as_str(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// A path in a URL: every byte of a part but letters, digits and `-_.~` as `%XX`.
pub(super) fn encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.extend(["%", &format!("{byte:02X}")]);
        }
    }
    encoded
}

/// The request that creates a key, and can do nothing else. Holds values: no Debug, wiped when it goes.
pub(crate) struct NewKey {
    body: Bytes,
}

impl NewKey {
    /// One string field for each value.
    ///
    /// # Errors
    /// A value that is not UTF-8: Vault would store U+FFFD for every byte that is none.
    pub(crate) fn new<'a>(fields: impl IntoIterator<Item = (&'a str, &'a Plaintext)>) -> Result<Self, VaultError> {
        let mut body = Wiping::default();
        body.push(br#"{"options":{"cas":0},"data":{"#);
        for (position, (key, value)) in fields.into_iter().enumerate() {
            #[expect(clippy::disallowed_methods, reason = "the one exit of plaintext to Vault")]
            let text = std::str::from_utf8(value.expose()).map_err(|_| VaultError::NotText(key.to_owned()))?;
            if position > 0 {
                body.push(b",");
            }
            json_string(&mut body, key);
            body.push(b":");
            json_string(&mut body, text);
        }
        body.push(b"}}");
        Ok(Self { body: Bytes::from_owner(body.finish()) })
    }

    /// The same buffer, not a copy of it.
    pub(super) fn body(&self) -> Bytes {
        self.body.clone()
    }
}

/// The request that counts one heartbeat: it makes the next version of that one key, or nothing.
pub(crate) struct NextBeat {
    key: KeyPath,
    /// The version that is there now; 0 for none.
    after: u64,
}

impl NextBeat {
    /// The one after this version of the authority's heartbeat.
    pub(crate) fn after(version: u64, name: &AuthorityName) -> Result<Self, VaultError> {
        Ok(Self { key: KeyPath::heartbeat(name)?, after: version })
    }

    /// Where it goes.
    pub(super) fn key(&self) -> &KeyPath {
        &self.key
    }

    /// The version that it makes.
    pub(crate) fn version(&self) -> u64 {
        self.after + 1
    }

    /// The count is the version; the contents say to people whose key it is.
    pub(super) fn body(&self) -> Bytes {
        let body = format!(r#"{{"options":{{"cas":{}}},"data":{{"writtenBy":"regent verify"}}}}"#, self.after);
        Bytes::from(body)
    }
}

fn json_string(body: &mut Wiping, text: &str) {
    serde_json::to_writer(body, text).expect("a string is JSON, and memory takes every byte");
}

/// What a creation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Creation {
    /// This request, or nobody, made the key.
    Created(super::Created),
    /// Something is or was there, or the token may not make it there, or an earlier try of the same request made it and its
    /// answer was lost. A read decides.
    MaybeExists,
}

/// What Vault says of a key. Holds values: no Debug.
pub(crate) enum Reading {
    /// Certainly none.
    Absent,
    /// There was a version, and it was deleted or destroyed; or nothing but `null` was ever stored.
    Deleted,
    /// The newest version.
    Present(Present),
}

/// A version of a key.
pub(crate) struct Present {
    /// Its fields; `None` for one that is no text.
    pub(crate) fields: BTreeMap<String, Option<Plaintext>>,
    /// Counted from 1; from 1 again after the key's metadata was deleted.
    pub(crate) version: u64,
    /// When this version was written, to be compared for equality alone.
    pub(crate) created_time: String,
    /// When it goes by itself; empty for never.
    pub(crate) deletion_time: String,
}

/// A key, without its values.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct KeyMetadata {
    /// 0 where there are no versions; never lower while the key lives.
    pub(crate) current_version: u64,
    /// When the key was made: the same for all its life, another one after its metadata was deleted.
    pub(crate) created_time: String,
    /// When the newest version was written.
    pub(crate) updated_time: String,
}

/// Takes the answer to a read of a key for exactly what it says.
pub(super) fn reading(status: u16, body: &[u8]) -> Result<Reading, VaultError> {
    #[derive(Deserialize)]
    struct Version {
        data: Fields,
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        version: u64,
        created_time: String,
        deletion_time: String,
        destroyed: bool,
    }
    let version = || serde_json::from_slice::<Data<Version>>(body).map(|Data { data }| data);
    match status {
        200 => match version() {
            Ok(Version { data: Fields(None), .. }) => Ok(Reading::Deleted),
            Ok(Version { data: Fields(Some(fields)), metadata }) => {
                let Metadata { version, created_time, deletion_time, destroyed } = metadata;
                if version == 0 || created_time.is_empty() || destroyed {
                    return Err(VaultError::Incomplete("a live version"));
                }
                Ok(Reading::Present(Present { fields, version, created_time, deletion_time }))
            }
            Err(_) => Err(VaultError::Incomplete("the fields and the version of a key")),
        },
        404 if version().is_ok() => Ok(Reading::Deleted),
        404 if is_missing(body) => Ok(Reading::Absent),
        404 => Err(VaultError::NoRoute),
        _other => Err(refusal(Route::Data("read it"), status, body)),
    }
}

/// The answer to a read of a key's metadata; `None` where there certainly is no key.
pub(super) fn metadata(status: u16, body: &[u8]) -> Result<Option<KeyMetadata>, VaultError> {
    match status {
        200 => match serde_json::from_slice(body) {
            Ok(Data { data: KeyMetadata { created_time, .. } }) if created_time.is_empty() => {
                Err(VaultError::Incomplete("a key's `created_time`"))
            }
            Ok(Data { data }) => Ok(Some(data)),
            Err(_) => Err(VaultError::Incomplete("the metadata of a key")),
        },
        404 if is_missing(body) => Ok(None),
        404 => Err(VaultError::NoRoute),
        _other => Err(refusal(Route::Data("read its metadata"), status, body)),
    }
}

/// The 404 of a key that is not there, and of nothing else: an empty list of errors, and nothing beside it.
fn is_missing(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Missing {
        errors: Vec<IgnoredAny>,
        warnings: Option<IgnoredAny>,
        data: Option<IgnoredAny>,
    }
    matches!(serde_json::from_slice(body), Ok(Missing { errors, warnings: None, data: None }) if errors.is_empty())
}

/// The fields of a version; `None` for `null`. Values go into buffers that are wiped.
struct Fields(Option<BTreeMap<String, Option<Plaintext>>>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let fields = Option::<BTreeMap<String, Field>>::deserialize(from)?;
        Ok(Self(fields.map(|fields| fields.into_iter().map(|(key, Field(value))| (key, value)).collect())))
    }
}

struct Field(Option<Plaintext>);

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct AnyField;
        impl<'de> Visitor<'de> for AnyField {
            type Value = Field;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field")
            }
            fn visit_str<E>(self, text: &str) -> Result<Field, E> {
                Ok(Field(Some(Plaintext::new(text.as_bytes().to_vec()))))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
                Ok(Field(None))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
                Ok(Field(None))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
                Ok(Field(None))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
                Ok(Field(None))
            }
            fn visit_unit<E>(self) -> Result<Field, E> {
                Ok(Field(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Field(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Field(None))
            }
        }
        from.deserialize_any(AnyField)
    }
}

#[cfg(test)]
mod tests;
