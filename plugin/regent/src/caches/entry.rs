//! One entry of the repo-server's cache: whose it is, and whether a value is in it. Values are read past, never kept.
//!
//! What Argo CD 3.6 writes (`reposerver/cache/cache.go`, `util/cache/redis.go`):
//! - the key: `<prefix>mfst|<tracking>|<application>|<revision>|<destination namespace>|<hash>|<more>|<version>[.gz]`,
//! - the value: JSON, gzipped where the key says so: `manifestResponse` (null where rendering never succeeded) with
//!   `manifests`, each of them a JSON object in a string, and `mostRecentError`.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read as _;

use flate2::bufread::MultiGzDecoder;
use regent_core::name::{Namespace, SecretName};
use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// What the keys of rendered manifests begin with, behind the prefix.
pub(super) const MANIFESTS: &str = "mfst|";

/// Most bytes of a value as it is stored, and unpacked. What Argo CD itself takes from the repo-server is at most 200 MB
/// (`ARGOCD_GRPC_MAX_SIZE_MB`); manifests shrink to less than a third.
pub(super) const MAX_STORED_BYTES: usize = 64 << 20;
const MAX_UNPACKED_BYTES: u64 = 256 << 20;

/// What is in an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// No value of a Secret that Vault rules.
    Harmless,
    /// A value.
    Value,
    /// An error of the last rendering, which may quote what was rendered.
    Error,
    /// Nobody can tell.
    Unreadable,
}

/// What the key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key<'k> {
    /// The Application, as the cache calls it.
    pub(super) application: &'k str,
    /// Its destination's namespace; empty for none.
    pub(super) namespace: &'k str,
    is_gzip: bool,
}

impl<'k> Key<'k> {
    /// Reads what follows the prefix.
    pub(super) fn parse(key: &'k str) -> Option<Self> {
        let mut parts = key.strip_prefix(MANIFESTS)?.split('|');
        let (_tracking, application, _revision, namespace) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let _hash = parts.next()?;
        Some(Self { application, namespace, is_gzip: key.strip_suffix(".gz").is_some() })
    }
}

/// Looks into an entry. `destination` is where a manifest without a namespace goes; where that is not known, its name
/// alone decides.
pub(super) fn look(
    key: Key<'_>,
    value: &[u8],
    destination: Option<&str>,
    identities: &BTreeSet<SecretName>,
) -> Content {
    let unpacked;
    let json = if key.is_gzip {
        match unzipped(value) {
            Some(bytes) => {
                unpacked = bytes;
                unpacked.as_slice()
            }
            None => return Content::Unreadable,
        }
    } else {
        value
    };
    let Ok(Entry { response, error }) = serde_json::from_slice(json) else { return Content::Unreadable };
    let manifests = response.map(|Response { manifests }| manifests).unwrap_or_default();
    if manifests.iter().any(|manifest| manifest.holds_value_of(identities, destination)) {
        Content::Value
    } else if error.0 {
        Content::Error
    } else {
        Content::Harmless
    }
}

/// Not by the inflaters that uploads are unpacked with: those are kept, and with them what they unpacked last.
fn unzipped(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut unpacked = Zeroizing::new(Vec::new());
    let read = MultiGzDecoder::new(bytes).take(MAX_UNPACKED_BYTES + 1).read_to_end(&mut unpacked).ok()?;
    (read as u64 <= MAX_UNPACKED_BYTES).then_some(unpacked)
}

/// Go writes each of its keys, also where it has nothing to say; without them it is something else.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "manifestResponse", deserialize_with = "Option::deserialize")]
    response: Option<Response>,
    #[serde(rename = "mostRecentError")]
    error: IsNotEmpty,
}

/// Without a manifest there is no `manifests` either. That may as well be a form that is not known, so it is unreadable.
#[derive(Deserialize)]
struct Response {
    manifests: Vec<Manifest>,
}

/// What argocd-server answers; it masks the values, and leaves the keys.
#[derive(Deserialize)]
pub(super) struct Rendered {
    #[serde(default)]
    pub(super) manifests: Vec<Manifest>,
}

/// What is kept of a manifest.
pub(super) struct Manifest(Object);

#[derive(Deserialize)]
struct Object {
    kind: String,
    metadata: Metadata,
    #[serde(default)]
    data: IsNotEmpty,
    #[serde(default, rename = "stringData")]
    string_data: IsNotEmpty,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
}

impl Manifest {
    /// Whether it is one of these Secrets, and not a stub.
    pub(super) fn holds_value_of(&self, identities: &BTreeSet<SecretName>, destination: Option<&str>) -> bool {
        let Self(Object { kind, metadata: Metadata { name, namespace }, data, string_data }) = self;
        if kind != "Secret" || !(data.0 || string_data.0) {
            return false;
        }
        let namespace = Some(namespace.as_str()).filter(|namespace| !namespace.is_empty()).or(destination);
        match namespace.map(Namespace::parse) {
            Some(Ok(namespace)) => {
                SecretName::new(namespace, name).is_ok_and(|identity| identities.contains(&identity))
            }
            // No object can be there.
            Some(Err(_)) => false,
            None => identities.iter().any(|identity| identity.name() == name),
        }
    }
}

impl<'de> Deserialize<'de> for Manifest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Manifest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a manifest in a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Manifest, E> {
                // The parser's own words could quote the manifest.
                serde_json::from_str(text).map(Manifest).map_err(|_| E::custom("no object of Kubernetes"))
            }
        }
        from.deserialize_str(Text)
    }
}

/// Whether there is anything, whatever it is.
#[derive(Clone, Copy, Default)]
struct IsNotEmpty(bool);

impl<'de> Deserialize<'de> for IsNotEmpty {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Anything;
        impl<'de> Visitor<'de> for Anything {
            type Value = IsNotEmpty;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_unit<E: de::Error>(self) -> Result<IsNotEmpty, E> {
                Ok(IsNotEmpty(false))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<IsNotEmpty, E> {
                Ok(IsNotEmpty(!text.is_empty()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<IsNotEmpty, A::Error> {
                let mut found = false;
                while from.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    found = true;
                }
                Ok(IsNotEmpty(found))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<IsNotEmpty, A::Error> {
                while from.next_element::<IgnoredAny>()?.is_some() {}
                Ok(IsNotEmpty(true))
            }
            fn visit_bool<E: de::Error>(self, _: bool) -> Result<IsNotEmpty, E> {
                Ok(IsNotEmpty(true))
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<IsNotEmpty, E> {
                Ok(IsNotEmpty(true))
            }
            fn visit_u64<E: de::Error>(self, _: u64) -> Result<IsNotEmpty, E> {
                Ok(IsNotEmpty(true))
            }
            fn visit_f64<E: de::Error>(self, _: f64) -> Result<IsNotEmpty, E> {
                Ok(IsNotEmpty(true))
            }
        }
        from.deserialize_any(Anything)
    }
}

#[cfg(test)]
mod tests;
