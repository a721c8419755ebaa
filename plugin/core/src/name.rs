//! Names, parsed at the door; afterwards the type is the proof.
//!
//! Kubernetes' rules are those of its own validation (`IsDNS1123Label`, `IsDNS1123Subdomain`): what
//! passes here is accepted there. Each type also parses itself out of the files that a person writes
//! and out of the witnesses, so that an error there stands at the line of the name.

use crate::written;
use serde::{Deserialize, Deserializer};
use std::fmt;

/// A path relative to a root: `/` between parts, no empty, `.` or `..` part, no backslash, no control
/// characters; at most 4096 bytes, 255 a part (what Linux can store).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilePath(String);

/// An authority's name: a DNS label of at most 63 characters (it is a label value and part of object names).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AuthorityName(String);

/// A Kubernetes namespace (RFC 1123 label).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(String);

/// `namespace/name` of a Secret (name: RFC 1123 subdomain).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretName {
    namespace: Namespace,
    name: String,
}

/// `namespace/name` of any object that lives in a namespace (name: RFC 1123 subdomain).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    namespace: Namespace,
    name: String,
}

/// A handover's id: a lower-case UUID v4.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandoverId(String);

/// An epoch, 1 to 1 000 000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(u32);

/// A name that does not follow its rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{text}` {rule}")]
pub struct BadName {
    /// Which name (`authority`, `namespace`, ...).
    pub what: &'static str,
    /// What was written, cut to 80 characters and escaped, so that it is one harmless line.
    pub text: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

impl FilePath {
    /// Parses a relative path.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        match path_rule(text) {
            Some(rule) => Err(BadName::new("path", text, rule)),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part.
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// The folder, `None` at the root.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(folder, _)| Self(folder.to_owned()))
    }

    /// The path of `relative` beside this file, that is, seen from its folder: resolved lexically (`.`, `..`
    /// and doubled or closing slashes as in a kustomization). `None` where it is absolute, leaves the
    /// root, is the root itself, or is no path at all.
    pub fn join(&self, relative: &str) -> Option<Self> {
        if relative.starts_with('/') {
            return None;
        }
        let mut parts: Vec<&str> = self.0.split('/').collect();
        parts.pop();
        for part in relative.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()?),
                name => parts.push(name),
            }
        }
        Self::parse(&parts.join("/")).ok()
    }
}

impl AuthorityName {
    /// Parses the name.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        if is_label(text) { Ok(Self(text.to_owned())) } else { Err(BadName::new("authority", text, LABEL)) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Namespace {
    /// Parses the name.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        if is_label(text) { Ok(Self(text.to_owned())) } else { Err(BadName::new("namespace", text, LABEL)) }
    }

    /// `argocd`, where Argo CD's own manifests install it.
    pub fn argocd() -> Self {
        Self("argocd".to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SecretName {
    /// Parses `namespace/name`.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let bad = |rule| BadName::new("secret", text, rule);
        let (namespace, name) = text.split_once('/').ok_or_else(|| bad(SECRET))?;
        if !is_label(namespace) {
            return Err(bad("expects a DNS label before the slash: at most 63 of a-z, 0-9 and inner `-`"));
        }
        if !is_subdomain(name) {
            return Err(bad("expects a DNS name after the slash: at most 253 of a-z, 0-9 and inner `-` and `.`"));
        }
        Ok(Self { namespace: Namespace(namespace.to_owned()), name: name.to_owned() })
    }

    /// From its parts.
    pub fn new(namespace: Namespace, name: &str) -> Result<Self, BadName> {
        if is_subdomain(name) {
            Ok(Self { namespace, name: name.to_owned() })
        } else {
            Err(BadName::new("secret", name, SUBDOMAIN))
        }
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The name without the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl ObjectName {
    /// Parses `namespace/name`.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        match text.split_once('/') {
            Some((namespace, name)) if is_label(namespace) && is_subdomain(name) => {
                Ok(Self { namespace: Namespace(namespace.to_owned()), name: name.to_owned() })
            }
            Some(_) | None => Err(BadName::new("object", text, OBJECT)),
        }
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The name without the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl HandoverId {
    /// Parses the id. Version and variant are checked: an id that was made up, derived from a clock or is
    /// all zeros is no random one.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        if is_uuid_v4(text) { Ok(Self(text.to_owned())) } else { Err(BadName::new("handover", text, UUID)) }
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its first eight characters, for sentences that name several: a door's answer has 200 characters.
    pub fn short(&self) -> &str {
        self.0.split_once('-').map_or(&self.0, |(first, _)| first)
    }
}

impl Epoch {
    /// The first epoch.
    pub const FIRST: Self = Self(1);

    /// The last epoch; the cluster's schema has the same bound.
    pub const LAST: Self = Self(1_000_000);

    /// From a number.
    pub fn new(number: u64) -> Result<Self, BadName> {
        match u32::try_from(number) {
            Ok(number) if (Self::FIRST.0..=Self::LAST.0).contains(&number) => Ok(Self(number)),
            Ok(_) | Err(_) => Err(BadName::new("epoch", &number.to_string(), EPOCH)),
        }
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The epoch after this one, `None` at the end of the range.
    pub fn next(self) -> Option<Self> {
        (self < Self::LAST).then_some(Self(self.0 + 1))
    }

    /// The epoch before this one, `None` for the first.
    pub fn previous(self) -> Option<Self> {
        (self > Self::FIRST).then_some(Self(self.0 - 1))
    }
}

impl BadName {
    fn new(what: &'static str, text: &str, rule: &'static str) -> Self {
        const SHOWN: usize = 80;
        let text = match text.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
            None => text.to_owned(),
        };
        Self { what, text: text.escape_debug().to_string(), rule }
    }
}

/// Whether this is a DNS label as Kubernetes reads RFC 1123.
pub(crate) fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_label_of_any_length(text)
}

/// Whether this is a DNS subdomain as Kubernetes reads RFC 1123: the parts between dots have no bound of
/// their own.
pub(crate) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label_of_any_length)
}

fn is_label_of_any_length(text: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
}

fn is_uuid_v4(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            14 => byte == b'4',
            19 => matches!(byte, b'8' | b'9' | b'a' | b'b'),
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

fn path_rule(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("expects at least one part");
    }
    if text.len() > 4096 {
        return Some("is longer than 4096 bytes");
    }
    if text.starts_with('/') {
        return Some("expects a relative path");
    }
    if text.contains('\\') {
        return Some("holds a backslash; parts are separated by `/`");
    }
    if text.chars().any(|char| char.is_control() || is_direction_or_line(char)) {
        return Some("holds a control character");
    }
    text.split('/').find_map(|part| match part {
        "" => Some("has an empty part"),
        "." | ".." => Some("has a part `.` or `..`"),
        part if part.len() > 255 => Some("has a part longer than 255 bytes"),
        _ => None,
    })
}

/// Characters that make a terminal or a review show another path than the one that is meant.
fn is_direction_or_line(char: char) -> bool {
    matches!(char, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

const LABEL: &str = "expects a DNS label: 1 to 63 of a-z, 0-9 and inner `-`";
const SUBDOMAIN: &str = "expects a DNS name: 1 to 253 of a-z, 0-9 and inner `-` and `.`";
const SECRET: &str = "expects `namespace/name`";
const OBJECT: &str = "expects `namespace/name`, both of a-z, 0-9 and inner `-`, the name also with `.`";
const UUID: &str = "expects a random UUID (version 4) in lower case";
const EPOCH: &str = "expects a number from 1 to 1000000";

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AuthorityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for HandoverId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl<'de> Deserialize<'de> for FilePath {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "a relative path", |it| Self::parse(it).map_err(|bad| bad.rule))
    }
}

impl<'de> Deserialize<'de> for AuthorityName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "the name of an authority", |it| Self::parse(it).map_err(|bad| bad.rule))
    }
}

impl<'de> Deserialize<'de> for ObjectName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "`namespace/name`", |it| Self::parse(it).map_err(|bad| bad.rule))
    }
}

impl<'de> Deserialize<'de> for Namespace {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "a namespace", |it| Self::parse(it).map_err(|bad| bad.rule))
    }
}

impl<'de> Deserialize<'de> for SecretName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "`namespace/name`", |it| Self::parse(it).map_err(|bad| bad.rule))
    }
}

impl<'de> Deserialize<'de> for HandoverId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "the id of a handover", |it| Self::parse(it).map_err(|bad| bad.rule))
    }
}

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::number(from, EPOCH.trim_start_matches("expects "), |it| Self::new(it).map_err(|bad| bad.rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f";

    #[test]
    fn a_label_is_what_kubernetes_takes_for_one() {
        let longest = "a".repeat(63);
        for good in ["a", "0", "prod", "a-b", "1-2", longest.as_str()] {
            assert!(AuthorityName::parse(good).is_ok() && Namespace::parse(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(64);
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", "a b", "a\n", "a/b", too_long.as_str()] {
            assert!(AuthorityName::parse(bad).is_err() && Namespace::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secrets_name_is_a_subdomain_after_a_label() {
        let longest = format!("app/{}", "a".repeat(253));
        for good in ["app/db", "app/db.example-1", "a/0", longest.as_str()] {
            assert_eq!(SecretName::parse(good).unwrap().to_string(), good);
        }
        let too_long = format!("app/{}", "a".repeat(254));
        for bad in [
            "app", "app/", "/db", "app/db/x", "a.b/db", "app/.db", "app/db.", "app/a..b", "app/-a.b", "app/DB",
            &too_long,
        ] {
            assert!(SecretName::parse(bad).is_err(), "{bad}");
        }
        let app = Namespace::parse("app").unwrap();
        assert_eq!(SecretName::new(app.clone(), "db").unwrap(), SecretName::parse("app/db").unwrap());
        assert!(SecretName::new(app, "a/b").is_err());
    }

    #[test]
    fn a_handover_id_is_a_lower_case_uuid_of_version_4() {
        assert_eq!(HandoverId::parse(ID).unwrap().as_str(), ID);
        for variant in ["8", "9", "a", "b"] {
            assert!(HandoverId::parse(&format!("0b5f2c1e-8a3d-4f6b-{variant}c2e-1d7a5e4b3c2f")).is_ok());
        }
        for bad in [
            "",
            "00000000-0000-0000-0000-000000000000",
            "0B5F2C1E-8A3D-4F6B-9C2E-1D7A5E4B3C2F",
            "0b5f2c1e-8a3d-1f6b-9c2e-1d7a5e4b3c2f",
            "0b5f2c1e-8a3d-4f6b-7c2e-1d7a5e4b3c2f",
            "0b5f2c1e-8a3d-4f6b-cc2e-1d7a5e4b3c2f",
            "0b5f2c1e8a3d4f6b9c2e1d7a5e4b3c2f",
            "{0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2}",
            "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2",
            "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f\n",
            "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2é",
        ] {
            assert!(HandoverId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_epoch_counts_from_one_to_a_million() {
        assert_eq!(Epoch::new(1).unwrap(), Epoch::FIRST);
        assert_eq!(Epoch::new(1_000_000).unwrap(), Epoch::LAST);
        for bad in [0, 1_000_001, u64::from(u32::MAX) + 2, u64::MAX] {
            assert!(Epoch::new(bad).is_err(), "{bad}");
        }
        assert_eq!(Epoch::FIRST.next().unwrap().get(), 2);
        assert_eq!(Epoch::FIRST.next().unwrap().previous(), Some(Epoch::FIRST));
        assert_eq!((Epoch::FIRST.previous(), Epoch::LAST.next()), (None, None));
    }

    #[test]
    fn a_path_stays_inside_its_root() {
        let longest_part = "a".repeat(255);
        let longest = vec!["abcdefg"; 512].join("/");
        for good in ["a", "a/b.yaml", ".a/b", "..a/b..", "a b/ü", "~/x", longest_part.as_str(), longest.as_str()] {
            assert_eq!(FilePath::parse(good).unwrap().as_str(), good);
        }
        let part_too_long = "a".repeat(256);
        let too_long = format!("{longest}/abc");
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "./a",
            "a/./b",
            "a/../b",
            "../a",
            "a\\b",
            "..\\a",
            "a\0",
            "a\nb",
            "a\u{7f}",
            "a\u{85}b",
            "a\u{202e}b",
            "a\u{2028}b",
            &part_too_long,
            &too_long,
        ] {
            assert!(FilePath::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_path_is_joined_from_the_folder_of_its_file() {
        let file = FilePath::parse("a/b/kustomization.yaml").unwrap();
        let joined = |relative| file.join(relative).map(|path| path.as_str().to_owned());
        assert_eq!(joined("c.yaml").as_deref(), Some("a/b/c.yaml"));
        assert_eq!(joined("./c/../d//e/").as_deref(), Some("a/b/d/e"));
        assert_eq!(joined("../x.yaml").as_deref(), Some("a/x.yaml"));
        assert_eq!(joined("../../x.yaml").as_deref(), Some("x.yaml"));
        for outside in ["../../../x.yaml", "../../../a/b/c.yaml", "../..", "/etc/passwd", "c\\d", "c\0"] {
            assert_eq!(joined(outside), None, "{outside:?}");
        }
        assert_eq!(joined("").as_deref(), Some("a/b"));
        assert_eq!((file.file_name(), file.parent().unwrap().as_str()), ("kustomization.yaml", "a/b"));
        let top = FilePath::parse("x").unwrap();
        assert_eq!((top.file_name(), top.parent()), ("x", None));
    }

    #[test]
    fn an_error_shows_a_hostile_name_as_one_short_harmless_line() {
        let error = Namespace::parse(&format!("\u{1b}[31m\n{}", "x".repeat(9000))).unwrap_err().to_string();
        assert!(error.len() < 300 && !error.contains(['\u{1b}', '\n']), "{error}");
    }
}
