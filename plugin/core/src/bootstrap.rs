//! `regent.yaml`: what a root says of itself.
//!
//! The schema is complete: an unknown key is an error with line and column, and so is a value of another
//! type. What a person may leave out has one default, and it is never an authority.
#![expect(clippy::zero_sized_map_values, reason = "a second encoding is a second variant")]

use crate::name::{self, AuthorityName, Epoch, FilePath, HandoverId, Namespace, SecretName};
use crate::written::{self, ApiVersion, Fault};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The parsed `regent.yaml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// The authority that covers this root.
    pub name: AuthorityName,
    /// E.
    pub epoch: Epoch,
    /// S: required exactly where the epoch is above 1.
    pub supersedes: Option<HandoverId>,
    /// `closed`: the handover after which Git itself says that the epoch is over; see
    /// [`Bootstrap::closed_counts`].
    pub closed: Option<HandoverId>,
    /// Recipients that every document must have, by group (`root`, `cluster`). Empty where the file leaves
    /// the section out.
    pub recipients: BTreeMap<RecipientGroup, Vec<String>>,
    /// How secrets are treated.
    pub secrets: Secrets,
    /// The place in Vault, where given.
    pub vault: Option<VaultPlace>,
    /// What stands in for a Secret after the handover; no default.
    pub after: Option<After>,
    /// People's decisions about the handover.
    pub handover: HandoverDecisions,
}

/// Whom a group of recipients stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecipientGroup {
    /// The offline root: opens everything, always.
    Root,
    /// The cluster's front doors.
    Cluster,
}

/// The `secrets` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default, expecting = "a mapping")]
pub struct Secrets {
    /// For documents without a namespace.
    pub namespace: Option<Namespace>,
    /// Needed again before Vault in every bootstrap.
    #[serde(deserialize_with = "written::list::<_, _, MAX_SECRETS>")]
    pub permanent: Vec<Permanent>,
    /// Secrets that may stand in the clear.
    #[serde(deserialize_with = "written::list::<_, _, MAX_SECRETS>")]
    pub plain: Vec<SecretName>,
    /// Other kinds that may be encrypted.
    #[serde(deserialize_with = "kinds")]
    pub kinds: Vec<String>,
    /// Secrets whose values in Vault are encoded, because they are not UTF-8; Vault's readers must know.
    #[serde(deserialize_with = "written::map::<_, _, _, MAX_SECRETS>")]
    pub encoding: BTreeMap<SecretName, Encoding>,
    /// Files that are not read.
    pub exclude: Exclude,
    /// Whether `mac_only_encrypted` files are accepted.
    pub mac_only_encrypted: MacOnlyEncrypted,
}

/// One `permanent` entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with `name`")]
pub struct Permanent {
    /// The Secret.
    pub name: SecretName,
    /// Whether it is copied to Vault too.
    #[serde(default = "yes")]
    pub vault: bool,
}

/// How a value that is not UTF-8 is kept in Vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Standard base64.
    Base64,
}

/// Globs of files that are not read, from the root: `*` and `?` stay inside one folder, `**` crosses
/// folders (`docs/**`, `**/*.md`), `{a,b}` and `[a-z]` choose; case counts.
#[derive(Clone, Debug, Default)]
pub struct Exclude {
    patterns: Vec<String>,
    compiled: GlobSet,
}

impl PartialEq for Exclude {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl Eq for Exclude {}

/// Whether a MAC over encrypted values alone is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MacOnlyEncrypted {
    /// No.
    #[default]
    Refuse,
    /// Yes.
    Allow,
}

/// The class of a Secret that stands encrypted in the root, or of a document of another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Copied, then owned by Vault.
    Handover,
    /// Stays in Git for the next bootstrap.
    Permanent,
}

/// The `vault` section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub struct VaultPlace {
    /// `https://host` or `https://host:port`; `http` for this very machine alone.
    #[serde(deserialize_with = "address")]
    pub address: String,
    /// Vault namespace (`team/app`), empty for none.
    #[serde(default, deserialize_with = "vault_namespace")]
    pub namespace: String,
    /// The KV version 2 mount.
    #[serde(deserialize_with = "mount")]
    pub mount: String,
    /// ns/name -> `<prefix>/<ns>/<name>`. Never below `regent`: the handover records are there.
    #[serde(deserialize_with = "prefix")]
    pub prefix: String,
}

/// The `after` section; see [`crate::after`].
///
/// ```yaml
/// after: { emit: stub }
/// after: { emit: externalSecret, store: { name: vault, kind: ClusterSecretStore } }
/// after: { emit: vaultStaticSecret, auth: vault }        # or namespace/name
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenAfter")]
pub enum After {
    /// A stub: another controller delivers.
    Stub,
    /// An `ExternalSecret` with this store reference.
    ExternalSecret {
        /// Name of the store.
        store: String,
        /// `SecretStore` or `ClusterSecretStore`.
        store_kind: String,
    },
    /// A `VaultStaticSecret` with this auth reference.
    VaultStaticSecret {
        /// `vaultAuthRef`: a name, or `namespace/name`.
        auth: String,
    },
}

/// The `handover` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default, expecting = "a mapping")]
pub struct HandoverDecisions {
    /// Secrets of which Vault may hold another value already: that one stands.
    #[serde(deserialize_with = "written::list::<_, _, MAX_SECRETS>")]
    pub accept_existing: Vec<SecretName>,
    /// Secrets that changed in Git while the handover ran: what was copied stands.
    #[serde(deserialize_with = "written::list::<_, _, MAX_SECRETS>")]
    pub accept_changed: Vec<SecretName>,
    /// Allowed signers of a commit that is named by its branch: SSH public keys in a line, `OpenPGP` public key blocks.
    #[serde(deserialize_with = "signers_from")]
    pub signers: Vec<String>,
}

/// Why `regent.yaml` is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {problem}", match at { Some((line, column)) => format!(":{line}:{column}"), None => String::new() })]
pub struct BootstrapError {
    /// The file.
    pub file: String,
    /// Line and column from 1, where known.
    pub at: Option<(usize, usize)>,
    /// The rule, with key names and no values.
    pub problem: String,
}

impl Bootstrap {
    /// The name of the file.
    pub const FILE_NAME: &str = "regent.yaml";

    /// Parses the file's bytes (at most 1 MiB); `file` is what errors call it.
    pub fn parse(file: &FilePath, bytes: &[u8]) -> Result<Self, BootstrapError> {
        let bootstrap = written::yaml::<KindBootstrap, Written>(bytes).and_then(Self::checked);
        bootstrap.map_err(|Fault { at, problem }| BootstrapError { file: file.to_string(), at, problem })
    }

    /// Whether `closed` says that the epoch is over: it does unless it names the handover that this epoch
    /// supersedes (then it was written in the epoch before, and the revision that raised the epoch kept it).
    pub fn closed_counts(&self) -> bool {
        self.closed.is_some() && self.closed != self.supersedes
    }

    /// The class of an encrypted Secret.
    pub fn class_of(&self, secret: &SecretName) -> Class {
        if self.permanent(secret).is_some() { Class::Permanent } else { Class::Handover }
    }

    /// The `permanent` entry of a Secret, if it has one.
    pub fn permanent(&self, secret: &SecretName) -> Option<&Permanent> {
        self.secrets.permanent.iter().find(|entry| entry.name == *secret)
    }

    /// Whether a Secret may stand in the clear.
    pub fn is_plain(&self, secret: &SecretName) -> bool {
        self.secrets.plain.contains(secret)
    }

    /// Whether documents of this kind may be encrypted. `Secret` always; any other is listed.
    pub fn kind_allowed(&self, kind: &str) -> bool {
        kind == "Secret" || self.secrets.kinds.iter().any(|allowed| allowed == kind)
    }

    /// Whether `secrets.exclude` names this file of the root.
    pub fn excluded(&self, file: &FilePath) -> bool {
        self.secrets.exclude.matches(file)
    }

    fn checked(written: Written) -> Result<Self, Fault> {
        let Written { name, epoch, supersedes, closed, secrets, .. } = written;
        match (epoch > Epoch::FIRST, &supersedes) {
            (true, None) => return Err(Fault::anywhere("expects `supersedes`: the epoch is above 1")),
            (false, Some(_)) => return Err(Fault::anywhere("`supersedes` expects an epoch above 1")),
            (true, Some(_)) | (false, None) => {}
        }
        let mut permanent = BTreeSet::new();
        for Permanent { name, vault: _ } in &secrets.permanent {
            if !permanent.insert(name) {
                return Err(Fault::anywhere(format!("`secrets.permanent` lists {name} twice")));
            }
        }
        if let Some(both) = secrets.plain.iter().find(|name| permanent.contains(name)) {
            return Err(Fault::anywhere(format!(
                "{both} is in `secrets.permanent` and in `secrets.plain`: it is encrypted or it is not"
            )));
        }
        if let Some(clear) = secrets.plain.iter().find(|name| secrets.encoding.contains_key(name)) {
            return Err(Fault::anywhere(format!(
                "{clear} is in `secrets.plain` and in `secrets.encoding`: what is plain never reaches Vault"
            )));
        }
        let mut recipients = BTreeMap::new();
        for (group, list) in
            [(RecipientGroup::Root, written.recipients.root), (RecipientGroup::Cluster, written.recipients.cluster)]
        {
            match list {
                Some(list) if list.is_empty() => {
                    return Err(Fault::anywhere("a group in `recipients` expects at least one recipient"));
                }
                Some(list) => drop(recipients.insert(group, list)),
                None => {}
            }
        }
        Ok(Self {
            name,
            epoch,
            supersedes,
            closed,
            recipients,
            secrets,
            vault: written.vault,
            after: written.after,
            handover: written.handover,
        })
    }
}

impl RecipientGroup {
    /// The key in `recipients`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Cluster => "cluster",
        }
    }
}

impl Class {
    /// The word in witnesses and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Handover => "handover",
            Self::Permanent => "permanent",
        }
    }
}

impl Exclude {
    /// The patterns as written.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Whether one of them names this file of the root.
    pub fn matches(&self, file: &FilePath) -> bool {
        self.compiled.is_match(file.as_str())
    }
}

/// Names of Secrets in one list. A root with more is several roots.
const MAX_SECRETS: usize = 10_000;

/// Most patterns in one list, and their length: compiling them stays below a few milliseconds.
pub(crate) const MAX_PATTERNS: usize = 256;
const MAX_PATTERN_BYTES: usize = 256;

/// Longest recipient: a post-quantum age recipient has about 2000 characters.
const MAX_RECIPIENT_BYTES: usize = 4096;

/// The file as serde reads it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
struct Written {
    #[serde(rename = "apiVersion")]
    _version: ApiVersion,
    #[serde(rename = "kind")]
    _kind: KindBootstrap,
    name: AuthorityName,
    epoch: Epoch,
    supersedes: Option<HandoverId>,
    closed: Option<HandoverId>,
    #[serde(default)]
    recipients: WrittenRecipients,
    #[serde(default)]
    secrets: Secrets,
    vault: Option<VaultPlace>,
    after: Option<After>,
    #[serde(default)]
    handover: HandoverDecisions,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a mapping")]
struct WrittenRecipients {
    #[serde(deserialize_with = "recipients")]
    root: Option<Vec<String>>,
    #[serde(deserialize_with = "recipients")]
    cluster: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with `emit`")]
struct WrittenAfter {
    emit: Emit,
    store: Option<WrittenStore>,
    auth: Option<Reference>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with `name` and `kind`")]
struct WrittenStore {
    name: Reference,
    kind: StoreKind,
}

enum Emit {
    Stub,
    ExternalSecret,
    VaultStaticSecret,
}

/// The name of another object: `name`, or `namespace/name`.
struct Reference(String);

struct StoreKind(&'static str);

/// The `kind` of the file.
struct KindBootstrap;

impl TryFrom<WrittenAfter> for After {
    type Error = &'static str;

    fn try_from(written: WrittenAfter) -> Result<Self, &'static str> {
        match (written.emit, written.store, written.auth) {
            (Emit::Stub, None, None) => Ok(Self::Stub),
            (Emit::Stub, Some(_), _) | (Emit::Stub, None, Some(_)) => Err("`emit: stub` expects no `store`, no `auth`"),
            (Emit::ExternalSecret, Some(store), None) if store.name.0.contains('/') => {
                Err("`store.name` expects a name without a namespace")
            }
            (Emit::ExternalSecret, Some(store), None) => {
                Ok(Self::ExternalSecret { store: store.name.0, store_kind: store.kind.0.to_owned() })
            }
            (Emit::ExternalSecret, None, _) | (Emit::ExternalSecret, Some(_), Some(_)) => {
                Err("`emit: externalSecret` expects `store: { name, kind }` and no `auth`")
            }
            (Emit::VaultStaticSecret, None, Some(auth)) => Ok(Self::VaultStaticSecret { auth: auth.0 }),
            (Emit::VaultStaticSecret, _, None) | (Emit::VaultStaticSecret, Some(_), Some(_)) => {
                Err("`emit: vaultStaticSecret` expects `auth` and no `store`")
            }
        }
    }
}

impl<'de> Deserialize<'de> for Emit {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        const RULE: &str = "expects `stub`, `externalSecret` or `vaultStaticSecret`";
        written::text(from, "`stub`, `externalSecret` or `vaultStaticSecret`", |text| match text {
            "stub" => Ok(Self::Stub),
            "externalSecret" => Ok(Self::ExternalSecret),
            "vaultStaticSecret" => Ok(Self::VaultStaticSecret),
            _ => Err(RULE),
        })
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "a name", |text| {
            let fits = match text.split_once('/') {
                Some((namespace, object)) => name::is_label(namespace) && name::is_subdomain(object),
                None => name::is_subdomain(text),
            };
            if fits { Ok(Self(text.to_owned())) } else { Err("expects a DNS name: a-z, 0-9 and inner `-` and `.`") }
        })
    }
}

impl<'de> Deserialize<'de> for StoreKind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "`SecretStore` or `ClusterSecretStore`", |text| match text {
            "SecretStore" => Ok(Self("SecretStore")),
            "ClusterSecretStore" => Ok(Self("ClusterSecretStore")),
            _ => Err("expects `SecretStore` or `ClusterSecretStore`"),
        })
    }
}

impl<'de> Deserialize<'de> for KindBootstrap {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "`Bootstrap`", |text| match text {
            "Bootstrap" => Ok(Self),
            _ => Err("expects `Bootstrap`"),
        })
    }
}

impl<'de> Deserialize<'de> for Encoding {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "`base64`", |text| match text {
            "base64" => Ok(Self::Base64),
            _ => Err("expects `base64`"),
        })
    }
}

impl<'de> Deserialize<'de> for MacOnlyEncrypted {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "`refuse` or `allow`", |text| match text {
            "refuse" => Ok(Self::Refuse),
            "allow" => Ok(Self::Allow),
            _ => Err("expects `refuse` or `allow`"),
        })
    }
}

impl<'de> Deserialize<'de> for Exclude {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let patterns = written::list::<_, Pattern, MAX_PATTERNS>(from)?;
        let mut set = GlobSetBuilder::new();
        for Pattern(text) in &patterns {
            set.add(glob(text).map_err(serde::de::Error::custom)?);
        }
        let compiled = set.build().map_err(|_| serde::de::Error::custom("holds patterns that are too large"))?;
        Ok(Self { patterns: patterns.into_iter().map(|Pattern(text)| text).collect(), compiled })
    }
}

/// A glob that compiles, as written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pattern(pub(crate) String);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "a pattern", |text| {
            let line = written::line(text, MAX_PATTERN_BYTES)?;
            if text.starts_with('/') || text.contains('\\') || text.split('/').any(|part| part == "." || part == "..") {
                return Err("expects a pattern from the root: no slash in front, no `.` or `..` part, no backslash");
            }
            glob(&line).map(|_| Self(line))
        })
    }
}

/// A glob whose `*` stays between two slashes.
pub(crate) fn glob(pattern: &str) -> Result<globset::Glob, &'static str> {
    GlobBuilder::new(pattern).literal_separator(true).build().map_err(|_| "expects a glob, such as `docs/**`")
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind(String);

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "a kind", |text| match text {
            "Secret" => Err("expects other kinds than `Secret`, which may always be encrypted"),
            "List" => Err("expects the kinds inside a `List`, which is flattened"),
            kind if is_kind(kind) => Ok(Self(kind.to_owned())),
            _ => Err("expects a kind, such as `ConfigMap`"),
        })
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Signer(String);

impl<'de> Deserialize<'de> for Signer {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "a signer", |text| {
            if text.contains("PRIVATE KEY") {
                return Err("is a secret key; expects its public key, and the key must be replaced");
            }
            let (begin, end) = SIGNER_BLOCK;
            if let Some(block) = text.trim().strip_prefix(begin) {
                return match block.strip_suffix(end) {
                    Some(inside) if text.len() <= MAX_SIGNER_BYTES && !inside.contains("-----") => {
                        Ok(Self(text.to_owned()))
                    }
                    Some(_) | None => Err("expects one whole `OpenPGP` public key block, at most 64 KiB"),
                };
            }
            let line = written::line(text, MAX_RECIPIENT_BYTES)?;
            let fits = |kind: &str| text.strip_prefix(kind).is_some_and(|key| key.starts_with(" AAAA"));
            if SIGNER_KINDS.iter().any(|kind| fits(kind)) { Ok(Self(line)) } else { Err(SIGNER) }
        })
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Recipient(String);

impl<'de> Deserialize<'de> for Recipient {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "a recipient", |text| {
            let line = written::line(text, MAX_RECIPIENT_BYTES)?;
            if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-")
                || text.to_ascii_uppercase().starts_with("AGE-PLUGIN-")
            {
                return Err("is a secret key; expects its public recipient, and the key must be replaced");
            }
            if is_recipient(text) { Ok(Self(line)) } else { Err(RECIPIENT) }
        })
    }
}

fn kinds<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let kinds = written::list::<_, Kind, 256>(from)?;
    Ok(kinds.into_iter().map(|Kind(text)| text).collect())
}

/// Reads signers of commits, for whichever file lists them.
pub(crate) fn signers_from<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let signers = written::list::<_, Signer, 256>(from)?;
    Ok(signers.into_iter().map(|Signer(text)| text).collect())
}

fn recipients<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    let recipients = written::list::<_, Recipient, 256>(from)?;
    Ok(Some(recipients.into_iter().map(|Recipient(text)| text).collect()))
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    written::text(from, "an address", |text| {
        let line = written::line(text, 512)?;
        match text.split_once("://") {
            Some(("https", server)) if host_of(server).is_some() => Ok(line),
            Some(("http", server)) if host_of(server).is_some_and(is_this_machine) => Ok(line),
            Some(("http", _)) => Err("expects `https://`; `http://` reaches this machine alone"),
            Some(_) | None => Err("expects `https://host:port`, no path, no user"),
        }
    })
}

fn vault_namespace<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    written::text(from, "a Vault namespace", |text| if text.is_empty() { Ok(String::new()) } else { vault_path(text) })
}

fn mount<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    written::text(from, "a mount", vault_path)
}

fn prefix<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    written::text(from, "a path in the mount", |text| {
        if text == "regent" || text.starts_with("regent/") {
            return Err("is below `regent`, where the handover records are");
        }
        vault_path(text)
    })
}

/// A path that means the same in a URL, a policy and a log: no escapes, no empty or climbing parts.
fn vault_path(text: &str) -> Result<String, &'static str> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let fits = |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(letter);
    if text.len() <= 512 && text.split('/').all(fits) {
        Ok(text.to_owned())
    } else {
        Err("expects parts of letters, digits, `-`, `_` and `.`, separated by `/`, none of them `..`")
    }
}

/// The host of `host`, `host:port` or `[v6]:port`, where there is nothing else.
pub(crate) fn host_of(server: &str) -> Option<&str> {
    let (host, port) = match server.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match server.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (server, None),
        },
    };
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if port.is_some_and(|port| !digits(port) || !matches!(port.parse::<u16>(), Ok(1..))) {
        return None;
    }
    (server.starts_with('[') || name::is_subdomain(&host.to_ascii_lowercase())).then_some(host)
}

pub(crate) fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_kind(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The shapes in which SOPS names recipients. Whether one is real shows when documents are compared with it.
fn is_recipient(text: &str) -> bool {
    let hex = |text: &str| matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bech32 =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let age = text.strip_prefix("age1").is_some_and(|rest| rest.len() > 6 && bech32(rest));
    let ssh = ["ssh-ed25519 ", "ssh-rsa "].iter().any(|kind| text.strip_prefix(kind).is_some_and(|key| key.len() > 16));
    let kms = text.starts_with("arn:aws") && text.contains(":kms:")
        || text.starts_with("projects/") && text.contains("/cryptoKeys/")
        || text.starts_with("https://") && (text.contains("/keys/") || text.contains("/transit"));
    age || ssh || hex(text) || kms
}

fn yes() -> bool {
    true
}

const RECIPIENT: &str = "expects a recipient: `age1...`, `ssh-ed25519 ...`, `ssh-rsa ...`, an OpenPGP fingerprint of 40 \
                         hexadecimal digits, or the name of a cloud key";

/// The first and the last line of a signer that is an `OpenPGP` key.
const SIGNER_BLOCK: (&str, &str) = ("-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----");
/// The kinds of SSH keys whose signatures are verified.
const SIGNER_KINDS: [&str; 3] = ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"];
/// Longest `OpenPGP` key; one with many user ids and subkeys has some ten thousand characters.
const MAX_SIGNER_BYTES: usize = 64 << 10;

const SIGNER: &str = "expects an SSH public key (`ssh-ed25519 AAAA..`, `ecdsa-sha2-nistp256 AAAA..`, `ssh-rsa AAAA..`) or \
                      an OpenPGP public key block";

#[cfg(test)]
mod tests;
