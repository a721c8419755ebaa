//! `RegentConfig`, the operator's file: who may ask for what, with which identities. Nothing is allowed by
//! silence.
//!
//! The schema is complete; what a later door needs is parsed and checked here already, so that a file
//! with a slip in it is refused on the day it is written.

use crate::bootstrap::{Bootstrap, MAX_PATTERNS, Pattern};
use crate::name::{AuthorityName, FilePath, Namespace};
use crate::written::{self, ApiVersion, Fault};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The parsed operator's file.
#[derive(Clone, Debug)]
pub struct RegentConfig {
    /// Where the witnesses are. No default: a wrong place would be a place without witnesses.
    pub store: Store,
    /// The first rule that matches counts.
    pub rules: Vec<Rule>,
    /// Argo CD's door.
    pub argocd: ArgoCd,
    /// Bounds.
    pub limits: ConfigLimits,
}

/// Where the witnesses are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenStore")]
pub enum Store {
    /// In the cluster.
    Kubernetes,
    /// On one machine.
    Directory {
        /// The folder.
        path: String,
    },
}

/// One rule: requests for this authority's root, and what they get.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub struct Rule {
    /// The authority it speaks for.
    pub authority: AuthorityName,
    /// Exact path of `regent.yaml` in the repository.
    #[serde(deserialize_with = "bootstrap_path")]
    pub bootstrap: FilePath,
    /// Argo CD's project; a rule without one is for no request of Argo CD.
    #[serde(default, deserialize_with = "optional_line")]
    pub project: Option<String>,
    /// Repository, compared after Argo CD's own normalisation; likewise.
    #[serde(default, deserialize_with = "optional_line")]
    pub repo: Option<String>,
    /// Globs of application paths; likewise.
    #[serde(default, deserialize_with = "patterns")]
    pub paths: Vec<String>,
    /// Namespaces of the documents: exact names, or the one entry `*` for all.
    #[serde(deserialize_with = "namespaces")]
    pub namespaces: Vec<String>,
    /// Revisions that Argo CD may ask for.
    #[serde(default, deserialize_with = "lines")]
    pub revisions: Vec<String>,
    /// Key files or folders: age, SSH, `OpenPGP` secret keys. A door needs none once Vault rules.
    #[serde(default, deserialize_with = "lines")]
    pub identities: Vec<String>,
}

/// The `argocd` section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a mapping")]
pub struct ArgoCd {
    /// The plugin's name, as an Application names it.
    #[serde(deserialize_with = "plugin_word")]
    pub name: String,
    /// Its version, empty for none.
    #[serde(deserialize_with = "plugin_word")]
    pub version: String,
    /// Globs of files by which Argo CD finds roots on its own; none by default.
    #[serde(deserialize_with = "patterns")]
    pub discover: Vec<String>,
    /// Argo CD's namespace.
    pub namespace: Namespace,
    /// Its Redis, `host:port`.
    #[serde(deserialize_with = "optional_line")]
    pub redis: Option<String>,
    /// Its API server, `host:port`.
    #[serde(deserialize_with = "optional_line")]
    pub server: Option<String>,
}

/// The `limits` section. Sizes are bytes, or a number with `KiB`, `MiB` or `GiB`; times a number with
/// `ms`, `s`, `m` or `h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a mapping")]
pub struct ConfigLimits {
    /// Largest document in bytes, 1 KiB to 1 GiB.
    #[serde(deserialize_with = "document_size")]
    pub document: usize,
    /// Largest upload of one request in bytes, up to 1 TiB.
    #[serde(deserialize_with = "size")]
    pub upload: u64,
    /// Most bytes that all running requests hold together, up to 1 TiB.
    #[serde(deserialize_with = "size")]
    pub stream: u64,
    /// Largest number of files, 1 to 10 million.
    #[serde(deserialize_with = "files")]
    pub files: usize,
    /// Longest request, up to a day.
    #[serde(deserialize_with = "duration")]
    pub request: Duration,
}

/// Why the operator's file or a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleRefusal {
    /// The operator's file is not what it should be.
    #[error("{file}{}: {problem}", match at { Some((line, column)) => format!(":{line}:{column}"), None => String::new() })]
    Config {
        /// The file.
        file: String,
        /// Line and column from 1, where known.
        at: Option<(usize, usize)>,
        /// The rule, with key names and no values.
        problem: String,
    },
    /// No rule allows the request.
    #[error("no rule allows {what}")]
    NotAllowed {
        /// The request, without values.
        what: String,
    },
}

impl RegentConfig {
    /// Parses the file's bytes (at most 1 MiB); `file` is what errors call it.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, RuleRefusal> {
        let config = written::yaml::<KindRegentConfig, Written>(bytes).and_then(Self::checked);
        config.map_err(|Fault { at, problem }| RuleRefusal::Config { file: file.to_owned(), at, problem })
    }

    /// The rule for a request from the command line: the first that names this authority and this path of
    /// `regent.yaml` in its repository.
    pub fn rule_for(&self, authority: &AuthorityName, bootstrap_path: &str) -> Result<&Rule, RuleRefusal> {
        let matches = |rule: &&Rule| rule.authority == *authority && rule.bootstrap.as_str() == bootstrap_path;
        self.rules.iter().find(matches).ok_or_else(|| RuleRefusal::NotAllowed {
            what: format!("authority `{authority}` at `{}`", bootstrap_path.escape_debug()),
        })
    }

    /// An authority covers one root: two rules for it with two places cannot both be meant.
    fn checked(written: Written) -> Result<Self, Fault> {
        let mut roots = BTreeMap::new();
        for rule in &written.rules {
            let first = roots.entry(&rule.authority).or_insert(&rule.bootstrap);
            if *first != &rule.bootstrap {
                return Err(Fault::anywhere(format!(
                    "rules give authority `{}` two roots: {first} and {}",
                    rule.authority, rule.bootstrap
                )));
            }
        }
        Ok(Self { store: written.store, rules: written.rules, argocd: written.argocd, limits: written.limits })
    }
}

impl Rule {
    /// Whether a document of this effective namespace may be in the answer.
    pub fn allows_namespace(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|allowed| allowed == ALL || allowed == namespace)
    }
}

impl Default for ArgoCd {
    fn default() -> Self {
        Self {
            name: "regent".to_owned(),
            version: "v1".to_owned(),
            discover: Vec::new(),
            namespace: Namespace::argocd(),
            redis: None,
            server: None,
        }
    }
}

impl Default for ConfigLimits {
    fn default() -> Self {
        Self { document: 5 << 20, upload: 256 << 20, stream: 4 << 30, files: 20_000, request: Duration::from_secs(60) }
    }
}

/// Every namespace.
const ALL: &str = "*";

/// Most rules, and entries of a list in one: together they keep a file of aliases below a hundred megabytes.
const MAX_RULES: usize = 500;
const MAX_ENTRIES: usize = 256;

/// Longest line of text: a path or an address.
const MAX_LINE: usize = 1024;

/// The file as serde reads it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
struct Written {
    #[serde(rename = "apiVersion")]
    _version: ApiVersion,
    #[serde(rename = "kind")]
    _kind: KindRegentConfig,
    store: Store,
    #[serde(deserialize_with = "written::list::<_, _, MAX_RULES>")]
    rules: Vec<Rule>,
    #[serde(default)]
    argocd: ArgoCd,
    #[serde(default, rename = "flux")]
    _flux: NothingYet,
    #[serde(default, rename = "watch")]
    _watch: NothingYet,
    #[serde(default)]
    limits: ConfigLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with `kind`")]
struct WrittenStore {
    kind: StoreKind,
    path: Option<Line>,
}

enum StoreKind {
    Kubernetes,
    Directory,
}

impl TryFrom<WrittenStore> for Store {
    type Error = &'static str;

    fn try_from(written: WrittenStore) -> Result<Self, &'static str> {
        match (written.kind, written.path) {
            (StoreKind::Kubernetes, None) => Ok(Self::Kubernetes),
            (StoreKind::Directory, Some(Line(path))) => Ok(Self::Directory { path }),
            (StoreKind::Kubernetes, Some(_)) => Err("`kind: kubernetes` expects no `path`"),
            (StoreKind::Directory, None) => Err("`kind: directory` expects `path`"),
        }
    }
}

impl<'de> Deserialize<'de> for StoreKind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "`kubernetes` or `directory`", |text| match text {
            "kubernetes" => Ok(Self::Kubernetes),
            "directory" => Ok(Self::Directory),
            _ => Err("expects `kubernetes` or `directory`"),
        })
    }
}

/// The `kind` of the file.
struct KindRegentConfig;

impl<'de> Deserialize<'de> for KindRegentConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "`RegentConfig`", |text| match text {
            "RegentConfig" => Ok(Self),
            _ => Err("expects `RegentConfig`"),
        })
    }
}

/// A section whose door does not exist in this version: empty, because settings that nothing reads would look
/// as if they counted.
#[derive(Default)]
struct NothingYet;

impl<'de> Deserialize<'de> for NothingYet {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Empty;
        const RULE: &str = "is not supported by this version: expects it empty or left out";
        impl<'de> Visitor<'de> for Empty {
            type Value = NothingYet;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("nothing: this version does not support the section")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<NothingYet, A::Error> {
                match from.next_key::<de::IgnoredAny>()? {
                    Some(_) => Err(de::Error::custom(RULE)),
                    None => Ok(NothingYet),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<NothingYet, A::Error> {
                match from.next_element::<de::IgnoredAny>()? {
                    Some(_) => Err(de::Error::custom(RULE)),
                    None => Ok(NothingYet),
                }
            }
        }
        from.deserialize_any(Empty)
    }
}

/// One line of text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Line(String);

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "text", |text| written::line(text, MAX_LINE).map(Self))
    }
}

/// `*`, or the name of a namespace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct AllowedNamespace(String);

impl<'de> Deserialize<'de> for AllowedNamespace {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "a namespace or `*`", |text| match Namespace::parse(text) {
            Ok(namespace) => Ok(Self(namespace.to_string())),
            Err(_) if text == ALL => Ok(Self(ALL.to_owned())),
            Err(_) => Err("expects the exact name of a namespace, or `*` for all"),
        })
    }
}

fn bootstrap_path<'de, D: Deserializer<'de>>(from: D) -> Result<FilePath, D::Error> {
    written::text(from, "a path", |text| match FilePath::parse(text) {
        Ok(path) if path.file_name() == Bootstrap::FILE_NAME => Ok(path),
        Ok(_) => Err("expects the path of a `regent.yaml`"),
        Err(bad) => Err(bad.rule),
    })
}

fn namespaces<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let list = written::list::<_, AllowedNamespace, MAX_ENTRIES>(from)?;
    let names: Vec<String> = list.into_iter().map(|AllowedNamespace(text)| text).collect();
    match names.as_slice() {
        [] => Err(de::Error::custom("expects at least one namespace, or `*` for all")),
        [_, _, ..] if names.iter().any(|name| name == ALL) => {
            Err(de::Error::custom("`*` is all namespaces; expects it alone"))
        }
        [_, ..] => Ok(names),
    }
}

fn patterns<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let patterns = written::list::<_, Pattern, MAX_PATTERNS>(from)?;
    Ok(patterns.into_iter().map(|Pattern(text)| text).collect())
}

fn lines<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let lines = written::list::<_, Line, MAX_ENTRIES>(from)?;
    Ok(lines.into_iter().map(|Line(text)| text).collect())
}

fn optional_line<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<Line>::deserialize(from)?.map(|Line(text)| text))
}

/// Argo CD joins name and version with `-` into the name of the plugin's socket.
fn plugin_word<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    written::text(from, "text", |text| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if text.len() <= 63 && text.bytes().all(letter) {
            Ok(text.to_owned())
        } else {
            Err("expects at most 63 letters, digits, `-`, `.` and `_`")
        }
    })
}

fn document_size<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    let bytes = from.deserialize_any(Size { min: 1 << 10, max: 1 << 30 })?;
    usize::try_from(bytes).map_err(de::Error::custom)
}

fn size<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    from.deserialize_any(Size { min: 1 << 10, max: 1 << 40 })
}

fn files<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    const RULE: &str = "expects a number from 1 to 10000000";
    written::number(from, "a number from 1 to 10000000", |number| match usize::try_from(number) {
        Ok(files @ 1..=10_000_000) => Ok(files),
        Ok(_) | Err(_) => Err(RULE),
    })
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    const RULE: &str = "expects a time such as `60s`, more than 0 and at most a day";
    written::text(from, "a time such as `60s`", |text| {
        let (number, unit) = number_and_unit(text).ok_or(RULE)?;
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(RULE),
        };
        match number.checked_mul(milliseconds) {
            Some(time @ 1..=86_400_000) => Ok(Duration::from_millis(time)),
            Some(_) | None => Err(RULE),
        }
    })
}

/// Reads a size between two bounds in bytes.
struct Size {
    min: u64,
    max: u64,
}

impl Size {
    fn within<E: de::Error>(&self, bytes: Option<u64>) -> Result<u64, E> {
        let range = || de::Error::custom(format!("expects a size from {} to {} bytes", self.min, self.max));
        bytes.filter(|bytes| (self.min..=self.max).contains(bytes)).ok_or_else(range)
    }
}

impl Visitor<'_> for Size {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as `5MiB`")
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<u64, E> {
        self.within(Some(bytes))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        const RULE: &str = "expects a size such as `5MiB`";
        let (number, unit) = number_and_unit(text).ok_or_else(|| E::custom(RULE))?;
        let bytes = match unit {
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(E::custom(RULE)),
        };
        self.within(number.checked_mul(bytes))
    }
}

/// `5MiB` in its two halves; no sign, no blank, no fraction.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|char: char| !char.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests;
