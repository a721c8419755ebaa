//! A Kubernetes Secret, checked as the API server would, before it could print a value.
//!
//! API server and controllers quote what they refuse (a number in `stringData` stands in Argo CD's
//! application status), so everything they would refuse is refused here first, by key name. The
//! rules are those of Kubernetes' `ValidateSecret` and `IsConfigMapKey`; `stringData` wins over
//! `data`, as in its conversion.

use crate::name::{Namespace, SecretName};
use crate::object::{HIDDEN_KEY, Object, View, is_secret_leaf};
use regent_sops::{Branch, Entry, Leaf, Node, Origin, Plaintext, Scalar};
use std::collections::HashMap;

/// Why a Secret is refused; key names, never values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretProblem {
    /// A value that is not text.
    #[error("Secret key `{key}` is not a string")]
    NotAString {
        /// The key in `data` or `stringData`.
        key: String,
    },
    /// A `data` value that is not base64.
    #[error("Secret key `{key}` stands in `data` and is not base64")]
    NotBase64 {
        /// The key.
        key: String,
    },
    /// A key that no Secret may have.
    #[error("Secret key `{key}` {rule}")]
    BadKey {
        /// The key.
        key: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The values together are too large.
    #[error("the values have {size} bytes together, more than the {MAX_SECRET_BYTES} that a Secret may have")]
    TooLarge {
        /// Their size in bytes.
        size: usize,
    },
    /// A key that the type needs.
    #[error("type `{kind}` needs the key {needs}")]
    KeyMissing {
        /// The type.
        kind: String,
        /// The key or keys.
        needs: &'static str,
    },
    /// A value that is not what the type says.
    #[error("type `{kind}`: key `{key}` is not a JSON object")]
    NotJson {
        /// The type.
        kind: String,
        /// The key.
        key: &'static str,
    },
    /// A value that Flux would change on its way: another one would be live than the one that Vault gets.
    #[error(
        "`{key}` holds `${{` or `$$`, and its Kustomization replaces variables in what was decrypted (`spec.postBuild`)"
    )]
    Substituted {
        /// The keys down to it, joined with `.`.
        key: String,
    },
    /// A service account token without its service account.
    #[error("type `{SERVICE_ACCOUNT_TOKEN}` needs the annotation `{SERVICE_ACCOUNT_NAME}`")]
    ServiceAccountMissing,
    /// A field that a Secret does not have.
    #[error("a Secret has no field `{field}`")]
    UnknownField {
        /// The field.
        field: String,
    },
    /// A field of another type than Kubernetes expects.
    #[error("`{field}` is not {expected}")]
    BadField {
        /// Keys joined with `.`.
        field: String,
        /// What Kubernetes expects.
        expected: &'static str,
    },
    /// A name that Kubernetes does not take.
    #[error("{0}")]
    Name(#[from] crate::name::BadName),
    /// A label or annotation that Kubernetes does not take.
    #[error("`{field}` has the key `{key}`, which {rule}")]
    BadLabel {
        /// `metadata.labels` or `metadata.annotations`.
        field: &'static str,
        /// The key.
        key: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// Hooks are created anew with every sync, so no guard holds them.
    #[error("it carries `{annotation}`: a hook is deleted and created again, whoever holds its values")]
    Hook {
        /// The annotation.
        annotation: &'static str,
    },
    /// An API version that no Secret has.
    #[error("a Secret has apiVersion `v1`")]
    ApiVersion,
}

impl SecretProblem {
    /// The same without the keys of the file; keys that a Secret's type asks for are the type's.
    pub(crate) fn without_keys(self) -> Self {
        let hidden = || HIDDEN_KEY.to_owned();
        match self {
            Self::NotAString { .. } => Self::NotAString { key: hidden() },
            Self::NotBase64 { .. } => Self::NotBase64 { key: hidden() },
            Self::BadKey { rule, .. } => Self::BadKey { key: hidden(), rule },
            Self::UnknownField { .. } => Self::UnknownField { field: hidden() },
            Self::Substituted { .. } => Self::Substituted { key: hidden() },
            Self::BadLabel { field, rule, .. } => Self::BadLabel { field, key: hidden(), rule },
            Self::TooLarge { .. }
            | Self::KeyMissing { .. }
            | Self::NotJson { .. }
            | Self::ServiceAccountMissing
            | Self::BadField { .. }
            | Self::Name(_)
            | Self::Hook { .. }
            | Self::ApiVersion => self,
        }
    }
}

/// The checked values of a Secret: keys in file order, base64 of the bytes, secret where they were
/// encrypted.
pub(crate) type Data = Vec<(String, Leaf)>;

/// The API server's `MaxSecretSize`: all values together, decoded.
const MAX_SECRET_BYTES: usize = 1 << 20;

/// DNS-1123 subdomain bound, which `IsConfigMapKey` uses for keys as well.
const MAX_KEY_BYTES: usize = 253;

/// The API server's `TotalAnnotationSizeLimitB`: keys and values together.
const MAX_ANNOTATION_BYTES: usize = 256 << 10;

const SERVICE_ACCOUNT_TOKEN: &str = "kubernetes.io/service-account-token";
const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

/// Annotations that make an object a hook of Argo CD (which reads Helm's as well).
pub(crate) const HOOKS: [&str; 2] = ["argocd.argoproj.io/hook", "helm.sh/hook"];

const FIELDS: [&str; 7] = ["apiVersion", "kind", "metadata", "type", "immutable", "data", "stringData"];

/// Problems told of one Secret: a hostile file could name one for every key.
const MAX_PROBLEMS: usize = 100;

/// The values of a Secret, or what is wrong with it, each with its line: everything up to
/// [`MAX_PROBLEMS`], or its size alone. A sealed Secret is checked as far as ciphertext tells: its
/// types show, its values do not, and its data is empty.
pub(crate) fn data(object: &Object) -> Result<Data, Vec<(u32, SecretProblem)>> {
    let mut problems = Problems { line: object.line, found: Vec::new() };
    fields(object, &mut problems);
    metadata(object, &mut problems);
    let data = values(object, &mut problems);
    let decoded_size: usize = data.iter().map(|value| value.size).sum();
    if decoded_size > MAX_SECRET_BYTES {
        // What else is wrong with it would be told by the thousand.
        return Err(vec![(object.line, SecretProblem::TooLarge { size: decoded_size })]);
    }
    let kind = object.tree.public_text(&["type"]).unwrap_or("");
    typed(object, kind, &data, &mut problems);
    if problems.found.is_empty() { Ok(encoded(data)) } else { Err(problems.found) }
}

/// The full name, checked.
pub(crate) fn name(namespace: &str, name: &str) -> Result<SecretName, SecretProblem> {
    Ok(SecretName::new(Namespace::parse(namespace)?, name)?)
}

/// A hook annotation, where there is one.
pub(crate) fn hook(object: &Object) -> Option<&'static str> {
    HOOKS.into_iter().find(|hook| object.tree.at(&["metadata", "annotations", hook]).is_some())
}

/// One value on its way: `bytes` is none where it is still sealed or was refused.
struct Value {
    key: String,
    bytes: Option<Plaintext>,
    origin: Origin,
    size: usize,
}

struct Problems {
    line: u32,
    found: Vec<(u32, SecretProblem)>,
}

impl Problems {
    fn add(&mut self, line: u32, problem: SecretProblem) {
        if self.found.len() < MAX_PROBLEMS {
            self.found.push((if line == 0 { self.line } else { line }, problem));
        }
    }
}

fn fields(object: &Object, problems: &mut Problems) {
    for entry in object.tree.entries() {
        if !FIELDS.contains(&entry.key.as_str()) {
            problems.add(entry.at.line, SecretProblem::UnknownField { field: entry.key.clone() });
        }
    }
    if object.tree.public_text(&["apiVersion"]) != Some("v1") {
        problems.add(0, SecretProblem::ApiVersion);
    }
    let bad = |field: &str, expected| SecretProblem::BadField { field: field.to_owned(), expected };
    match object.tree.get("type") {
        None | Some(Node::Leaf(Leaf { scalar: Scalar::Null | Scalar::Text(_), .. })) => {}
        Some(Node::Leaf(_) | Node::Map(_) | Node::List(_)) => problems.add(0, bad("type", "text")),
    }
    match object.tree.get("immutable") {
        None | Some(Node::Leaf(Leaf { scalar: Scalar::Null | Scalar::Bool(_), .. })) => {}
        Some(Node::Leaf(leaf)) if is_secret_leaf(leaf, object.view) && sealed_type(leaf) == Some(b"type:bool]") => {}
        Some(Node::Leaf(_) | Node::Map(_) | Node::List(_)) => problems.add(0, bad("immutable", "true or false")),
    }
}

fn metadata(object: &Object, problems: &mut Problems) {
    if let Some(annotation) = hook(object) {
        problems.add(0, SecretProblem::Hook { annotation });
    }
    let mut annotation_bytes = 0;
    for (field, name) in [("metadata.labels", "labels"), ("metadata.annotations", "annotations")] {
        let Some(branch) = mapping(object.tree.at(&["metadata", name]), field, problems) else { continue };
        for entry in branch.entries() {
            let refuse = |rule| SecretProblem::BadLabel { field, key: entry.key.clone(), rule };
            let Node::Leaf(leaf @ Leaf { scalar: Scalar::Text(text), .. }) = &entry.value else {
                problems.add(entry.at.line, refuse("is not text"));
                continue;
            };
            if let Some(rule) = qualified_name_problem(&entry.key) {
                problems.add(entry.at.line, refuse(rule));
            }
            let sealed = is_secret_leaf(leaf, View::Sealed) && object.view == View::Sealed;
            if name == "annotations" {
                annotation_bytes += entry.key.len() + text.len();
            } else if !sealed && !is_label(leaf) {
                problems.add(entry.at.line, refuse("has a value that is no label value"));
            }
        }
    }
    if annotation_bytes > MAX_ANNOTATION_BYTES {
        let field = "metadata.annotations".to_owned();
        problems.add(0, SecretProblem::BadField { field, expected: "at most 256 KiB" });
    }
}

/// The mapping under `field`; nothing for an absent one or null, and a problem for anything else.
fn mapping<'o>(node: Option<&'o Node>, field: &str, problems: &mut Problems) -> Option<&'o Branch> {
    match node? {
        Node::Map(branch) => Some(branch),
        Node::Leaf(Leaf { scalar: Scalar::Null, .. }) => None,
        Node::Leaf(_) | Node::List(_) => {
            problems.add(0, SecretProblem::BadField { field: field.to_owned(), expected: "a mapping" });
            None
        }
    }
}

/// Whether a label may have this value. Asked of a mapping of its own: a look-up among all labels for
/// each of them takes minutes where a file has many.
fn is_label(leaf: &Leaf) -> bool {
    let label = Branch::from_entries([("label".to_owned(), Node::Leaf(leaf.duplicate()))]);
    let tree = Branch::from_entries([("metadata".to_owned(), Node::Map(label))]);
    tree.public_text(&["metadata", "label"]).is_some_and(is_label_value)
}

/// Decoded values, `stringData` over `data`.
fn values(object: &Object, problems: &mut Problems) -> Vec<Value> {
    let mut values: Vec<Value> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (field, base64) in [("data", true), ("stringData", false)] {
        let Some(branch) = mapping(object.tree.get(field), field, problems) else { continue };
        for entry in branch.entries() {
            if let Some(rule) = key_problem(&entry.key) {
                problems.add(entry.at.line, SecretProblem::BadKey { key: entry.key.clone(), rule });
            }
            match value(entry, base64, object.view) {
                Ok(value) => {
                    if let Some(known) = places.get(entry.key.as_str()).and_then(|place| values.get_mut(*place)) {
                        *known = value;
                    } else {
                        places.insert(&entry.key, values.len());
                        values.push(value);
                    }
                }
                Err(problem) => problems.add(entry.at.line, problem),
            }
        }
    }
    values
}

fn value(entry: &Entry, base64: bool, view: View) -> Result<Value, SecretProblem> {
    let key = entry.key.clone();
    let Node::Leaf(leaf) = &entry.value else { return Err(SecretProblem::NotAString { key }) };
    if view == View::Sealed && is_secret_leaf(leaf, view) {
        return match sealed_type(leaf) {
            Some(_) => Err(SecretProblem::NotAString { key }),
            None => Ok(Value { key, bytes: None, origin: leaf.origin, size: 0 }),
        };
    }
    let Scalar::Text(text) = &leaf.scalar else { return Err(SecretProblem::NotAString { key }) };
    let bytes = if base64 {
        text.decode_base64().ok_or_else(|| SecretProblem::NotBase64 { key: key.clone() })?
    } else if text.is_utf8() {
        text.duplicate()
    } else {
        // stringData is text; bytes belong into data. JSON could not even hold them.
        return Err(SecretProblem::NotAString { key });
    };
    Ok(Value { key, size: bytes.len(), bytes: Some(bytes), origin: leaf.origin })
}

/// The type that a sealed leaf shows, where it is another than text.
fn sealed_type(leaf: &Leaf) -> Option<&'static [u8]> {
    const OTHERS: [&[u8]; 4] = [b"type:int]", b"type:float]", b"type:bool]", b"type:time]"];
    match &leaf.scalar {
        Scalar::Text(text) => OTHERS.into_iter().find(|suffix| text.ends_with(suffix)),
        Scalar::Null | Scalar::Bool(_) | Scalar::Int(_) | Scalar::Uint(_) | Scalar::Float(_) | Scalar::Time(_) => None,
    }
}

/// What the type needs, as the API server checks it; types it does not know need nothing.
fn typed(object: &Object, kind: &str, data: &[Value], problems: &mut Problems) {
    let find = |key: &str| data.iter().find(|value| value.key == key);
    let mut missing = |needs| problems.add(0, SecretProblem::KeyMissing { kind: kind.to_owned(), needs });
    let json = match kind {
        "kubernetes.io/tls" => {
            if find("tls.crt").is_none() {
                missing("`tls.crt`");
            }
            if find("tls.key").is_none() {
                missing("`tls.key`");
            }
            return;
        }
        "kubernetes.io/basic-auth" => {
            if find("username").is_none() && find("password").is_none() {
                missing("`username` or `password`");
            }
            return;
        }
        "kubernetes.io/ssh-auth" => {
            if find("ssh-privatekey").is_none_or(|value| value.bytes.as_ref().is_some_and(Plaintext::is_empty)) {
                missing("`ssh-privatekey`, not empty");
            }
            return;
        }
        SERVICE_ACCOUNT_TOKEN => {
            let account = object.tree.public_text(&["metadata", "annotations", SERVICE_ACCOUNT_NAME]);
            if account.is_none_or(str::is_empty) {
                problems.add(0, SecretProblem::ServiceAccountMissing);
            }
            return;
        }
        "kubernetes.io/dockercfg" => (".dockercfg", "`.dockercfg`"),
        "kubernetes.io/dockerconfigjson" => (".dockerconfigjson", "`.dockerconfigjson`"),
        _ => return,
    };
    let (key, needs) = json;
    match find(key) {
        None => missing(needs),
        Some(value) if value.bytes.as_ref().is_some_and(|bytes| !bytes.is_json_map()) => {
            problems.add(0, SecretProblem::NotJson { kind: kind.to_owned(), key });
        }
        Some(_) => {}
    }
}

fn encoded(values: Vec<Value>) -> Data {
    let leaf = |value: Value| {
        let bytes = value.bytes?;
        Some((value.key, Leaf { scalar: Scalar::Text(bytes.to_base64()), origin: value.origin }))
    };
    values.into_iter().filter_map(leaf).collect()
}

/// Kubernetes' `IsConfigMapKey`.
pub(crate) fn key_problem(key: &str) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if key.is_empty() || !key.bytes().all(allowed) {
        Some("may hold letters, digits, `-`, `_` and `.` only")
    } else if key.len() > MAX_KEY_BYTES {
        Some("is longer than 253 bytes")
    } else if key == "." || key.starts_with("..") {
        Some("is `.` or begins with `..`")
    } else {
        None
    }
}

/// Kubernetes' `IsQualifiedName`, for keys of labels and annotations.
fn qualified_name_problem(key: &str) -> Option<&'static str> {
    const RULE: &str = "is no qualified name (`name` or `prefix/name`)";
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let subdomain = |prefix: &str| {
        prefix.len() <= MAX_KEY_BYTES
            && prefix.split('.').all(|label| {
                let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
                !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
            })
    };
    // Annotation keys are lower-cased before the check; a label's prefix may not have upper case.
    let fits =
        prefix.is_none_or(|prefix| subdomain(&prefix.to_ascii_lowercase())) && !name.is_empty() && is_label_value(name);
    (!fits).then_some(RULE)
}

/// Kubernetes' `IsValidLabelValue`.
fn is_label_value(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let bytes = text.as_bytes();
    text.len() <= 63 && edge(bytes.first()) && edge(bytes.last()) && text.bytes().all(inner)
}

#[cfg(test)]
mod tests;
