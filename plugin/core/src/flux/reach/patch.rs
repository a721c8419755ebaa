//! What a patch may do to an encrypted document: add, change or remove labels and annotations, nothing else.
//!
//! A patch can rename, move, delete or empty an object. Of an encrypted document that would be another identity
//! than the one that is handed over, or other values than Vault gets; of a stub it could take away what keeps
//! kustomize-controller from emptying the live Secret.

use super::overlay::Selector;
use crate::flux::substitution;
use crate::object;
use crate::object::View;
use regent_sops::{Branch, Document, Element, Entry, Format, Leaf, Limits, Node, Scalar};

/// A patch's text.
pub(super) enum Text {
    /// Strategic merge: one change an object.
    Merge(Vec<Change>),
    /// A list of operations (RFC 6902); what one of them does that it may not.
    Operations(Result<(), String>),
    /// Strategic merge with encrypted values.
    Sealed(Vec<Change>),
    /// Neither.
    Unreadable(String),
}

/// One object of a strategic merge patch.
pub(super) struct Change {
    /// The object that it names, as far as it does in clear text.
    pub(super) kind: Option<String>,
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
    /// What it does that it may not.
    pub(super) outcome: Result<(), String>,
    /// A key that begins with `$` directs the merge, and can delete the object.
    pub(super) has_directive: bool,
}

/// An encrypted document as patches see it, before names are changed.
pub(super) struct Target<'t> {
    pub(super) kind: &'t str,
    pub(super) name: &'t str,
}

impl Text {
    pub(super) fn read(bytes: &[u8], limits: &Limits) -> Self {
        let error = match Document::parse(bytes, Format::Yaml, limits) {
            Ok(Document::Clear(tree)) => {
                return merge(&tree.documents, View::Clear).map_or_else(Self::Unreadable, Self::Merge);
            }
            Ok(Document::Sealed(sealed)) => {
                return merge(sealed.documents(), View::Sealed).map_or_else(Self::Unreadable, Self::Sealed);
            }
            Err(error) => error,
        };
        match operations(bytes, limits) {
            Some(outcome) => Self::Operations(outcome),
            None => Self::Unreadable(error.to_string()),
        }
    }
}

impl Selector {
    /// Whether it may select the object. Certain is only that it does not: a kind or a name that is written
    /// literally and is another one. Every name that an object had on the way ends up holding the first one.
    pub(super) fn may_select(&self, target: &Target<'_>) -> bool {
        let literal = |text: &Option<String>| text.clone().filter(|text| is_literal(text));
        literal(&self.kind).is_none_or(|kind| kind == target.kind)
            && literal(&self.name).is_none_or(|name| name.contains(target.name))
    }
}

impl Change {
    /// Whether it may be for the object, where nothing else selects.
    pub(super) fn may_be_for(&self, target: &Target<'_>) -> bool {
        self.kind.as_deref().is_none_or(|kind| kind == target.kind)
            && self.name.as_deref().is_none_or(|name| name.contains(target.name))
    }
}

/// Whether a label or an annotation with this key decides what becomes of an object: whether kustomize keeps and
/// how it names it, whether and how kustomize-controller decrypts, applies and prunes it, who may write it.
pub(super) fn is_reserved(key: &str, value: Option<&str>) -> bool {
    match key {
        "kustomize.toolkit.fluxcd.io/prune" | substitution::MARK => value != Some("disabled"),
        _ => RESERVED.iter().any(|prefix| key.starts_with(prefix)),
    }
}

const RESERVED: [&str; 5] = [
    "kustomize.toolkit.fluxcd.io/",
    "kustomize.config.k8s.io/",
    "internal.config.kubernetes.io/",
    "config.kubernetes.io/",
    "regent.dev/",
];

/// Whether a regular expression means this text and no other.
fn is_literal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn merge(documents: &[Branch], view: View) -> Result<Vec<Change>, String> {
    let mut changes = Vec::new();
    for object in object::objects(documents, view) {
        let tree = object.map_err(|problem| problem.problem.to_string())?.tree;
        let named = |path: &[&str]| match tree.at(path) {
            Some(Node::Leaf(leaf)) if !object::is_secret_leaf(leaf, view) => leaf.clear_text().map(str::to_owned),
            Some(Node::Leaf(_) | Node::Map(_) | Node::List(_)) | None => None,
        };
        changes.push(Change {
            kind: named(&["kind"]),
            name: named(&["metadata", "name"]),
            namespace: named(&["metadata", "namespace"]),
            outcome: change(&tree),
            has_directive: directs(&Node::Map(tree)),
        });
    }
    if changes.is_empty() { Err("it is empty".to_owned()) } else { Ok(changes) }
}

/// What a merge does besides labels and annotations.
fn change(tree: &Branch) -> Result<(), String> {
    for entry in tree.entries() {
        match entry.key.as_str() {
            // They say which object it is; kustomize puts them back afterwards.
            "apiVersion" | "kind" => {}
            "metadata" => metadata(entry)?,
            key => return Err(format!("it changes `{key}`")),
        }
    }
    Ok(())
}

fn metadata(entry: &Entry) -> Result<(), String> {
    let Node::Map(metadata) = &entry.value else { return Err("it changes `metadata`".to_owned()) };
    for entry in metadata.entries() {
        match entry.key.as_str() {
            "name" | "namespace" => {}
            field @ ("labels" | "annotations") => {
                let Node::Map(marks) = &entry.value else { return Err(format!("it changes `metadata.{field}`")) };
                for mark in marks.entries() {
                    let value = match &mark.value {
                        Node::Leaf(leaf) => leaf.clear_text(),
                        Node::Map(_) | Node::List(_) => return Err(format!("it changes `metadata.{field}`")),
                    };
                    may_set(&mark.key, value)?;
                }
            }
            key => return Err(format!("it changes `metadata.{key}`")),
        }
    }
    Ok(())
}

fn may_set(key: &str, value: Option<&str>) -> Result<(), String> {
    if key.starts_with('$') || is_reserved(key, value) {
        return Err(format!("it sets `{key}`"));
    }
    Ok(())
}

/// What operations do besides labels and annotations; `None` where the text is no list of operations.
fn operations(bytes: &[u8], limits: &Limits) -> Option<Result<(), String>> {
    let text = std::str::from_utf8(bytes).ok()?;
    // The parser reads mappings, so the list becomes the value of one.
    let list = text.trim_start();
    let list = list.strip_prefix("---").map_or(text, |rest| rest.trim_start_matches([' ', '\t']));
    let wrapped = if list.trim_start().starts_with('[') {
        format!("{{\"operations\": {}\n}}", list.trim_start())
    } else {
        format!("operations:\n{list}")
    };
    let Ok(Document::Clear(tree)) = Document::parse(wrapped.as_bytes(), Format::Yaml, limits) else { return None };
    let [document] = tree.documents.as_slice() else { return None };
    let document = object::resolved(document).ok()?;
    let Some(Node::List(elements)) = document.get("operations") else { return None };
    let operations = elements.iter().filter_map(|element| match element {
        Element::Node(Node::Map(operation)) => Some(Some(operation)),
        Element::Node(Node::Leaf(_) | Node::List(_)) => Some(None),
        Element::Comment(_) => None,
    });
    let operations: Vec<&Branch> = operations.collect::<Option<_>>()?;
    Some(operations.into_iter().try_for_each(operation))
}

fn operation(operation: &Branch) -> Result<(), String> {
    let text = |key: &str| match operation.get(key) {
        Some(Node::Leaf(leaf)) => leaf.clear_text(),
        Some(Node::Map(_) | Node::List(_)) | None => None,
    };
    let path = text("path").unwrap_or_default();
    let told = || Err(format!("it changes `{path}`"));
    if !matches!(text("op"), Some("add" | "replace" | "remove" | "test")) {
        return told();
    }
    let key = path.strip_prefix("/metadata/labels/").or_else(|| path.strip_prefix("/metadata/annotations/"));
    match key {
        Some(key) if !key.is_empty() && !key.contains('/') => {
            let value = match operation.get("value") {
                Some(Node::Leaf(Leaf { scalar: Scalar::Text(_), .. })) => text("value"),
                Some(Node::Leaf(_)) | None => None,
                Some(Node::Map(_) | Node::List(_)) => return told(),
            };
            may_set(&key.replace("~1", "/").replace("~0", "~"), value)
        }
        Some(_) | None => told(),
    }
}

/// Whether a key below begins with `$`.
fn directs(node: &Node) -> bool {
    match node {
        Node::Leaf(_) => false,
        Node::Map(branch) => branch.entries().any(|entry| entry.key.starts_with('$') || directs(&entry.value)),
        Node::List(elements) => elements.iter().any(|element| match element {
            Element::Node(node) => directs(node),
            Element::Comment(_) => false,
        }),
    }
}
