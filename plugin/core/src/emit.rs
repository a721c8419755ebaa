//! Manifests: the last form, and the one exit for their bytes.

use crate::after::Stub;
use crate::gate::{self, Exit, GateProblem, Permit};
use crate::guard;
use crate::name::{AuthorityName, FilePath};
use crate::object::{Meta, Problem};
use crate::refusal::{DocumentProblem, Refusal};
use crate::render::{Class, Door};
use crate::secret::Data;
use regent_sops::envelope::Envelope;
use regent_sops::{Branch, Element, Item, Leaf, Node, Origin, Plaintext, Scalar};
use std::collections::BTreeMap;

/// One object, ready to leave. Holds plaintext: no Debug.
pub struct Manifest {
    file: FilePath,
    identity: Identity,
    class: Class,
    content: Content,
    tree: Branch,
    exit: Exit,
}

/// Which object it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// The effective namespace, `None` for what has none.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
}

/// What a manifest holds of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Everything, and nothing of it was encrypted.
    Plain,
    /// Everything, decrypted values too.
    Values,
    /// Its name, and the word that its controller leaves the live object alone.
    Stub,
}

/// How a manifest is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// One compact JSON object, no line break at the end.
    Json,
    /// One YAML document, strings double-quoted.
    Yaml,
}

/// What differs from an earlier rendering; names, never values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Keys joined with `.`.
    pub path: String,
    /// How.
    pub kind: ChangeKind,
}

/// How a value differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It was not there.
    Added,
    /// It is not there any more.
    Removed,
    /// It was another.
    Changed,
}

/// A label that no API server takes, on every object of a preview that must not be applied: redacted
/// values would become the Secret's values, a stub applied by hand would delete them.
const PREVIEW_LABEL: &str = "regent.dev/redacted";
const PREVIEW_VALUE: &str = "<not for apply>";

impl Manifest {
    /// The file it came from.
    pub fn file(&self) -> &FilePath {
        &self.file
    }

    /// Which object it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How the object is treated.
    pub fn class(&self) -> Class {
        self.class
    }

    /// What it holds of its object.
    pub fn content(&self) -> Content {
        self.content
    }

    /// What it would say, every secret described (`<redacted str, 12 bytes>`); the API server refuses it, should
    /// somebody apply it. A `Plaintext` all the same, so that one place writes whatever a command prints.
    pub fn preview(&self, encoding: Encoding) -> Result<Plaintext, Refusal> {
        let mut tree = match self.content {
            Content::Plain | Content::Stub => self.tree.duplicate(),
            Content::Values => described(&self.tree, &self.identity),
        };
        match self.content {
            Content::Plain => {}
            Content::Values | Content::Stub => {
                guard::section(&mut tree, "labels").set(PREVIEW_LABEL, Node::text(PREVIEW_VALUE));
            }
        }
        written(&self.file, &tree, encoding)
    }

    /// The bytes, for a front door. Refused where no authority was asked. Disallowed outside one reviewed place.
    pub fn into_bytes(self, encoding: Encoding) -> Result<Plaintext, Refusal> {
        match self.exit {
            Exit::Bytes => written(&self.file, &self.tree, encoding),
            Exit::Described => Err(Refusal::Unasked),
        }
    }

    /// What differs from `old`, an earlier manifest of the same object, in the order of paths.
    pub fn changes_since(&self, old: &Self) -> Vec<Change> {
        let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
        leaves(&old.tree, "", &mut before);
        leaves(&self.tree, "", &mut after);
        let mut changes = Vec::new();
        for (path, leaf) in &after {
            let kind = match before.remove(path) {
                None => ChangeKind::Added,
                Some(known) if same(known, *leaf) => continue,
                Some(_) => ChangeKind::Changed,
            };
            changes.push(Change { path: path.clone(), kind });
        }
        changes.extend(before.into_keys().map(|path| Change { path, kind: ChangeKind::Removed }));
        changes.sort();
        changes
    }

    /// An object without secret values, as it stands in the file. A Secret's namespace is written out:
    /// the rules were asked about that very namespace.
    pub(crate) fn plain(
        file: &FilePath,
        permit: &Permit<'_>,
        meta: Meta,
        namespace: Option<String>,
        write_namespace: bool,
    ) -> Result<Self, GateProblem> {
        let mut tree = permit.object().tree.duplicate();
        if let Some(namespace) = namespace.as_deref().filter(|_| write_namespace) {
            guard::mapping(&mut tree, "metadata").set("namespace", Node::text(namespace));
        }
        Self::new(file, identity(meta, namespace), Class::Plain, Content::Plain, tree, permit.exit())
    }

    /// A Secret: guarded, `data` only. `data` was checked on the permit's document.
    pub(crate) fn secret(
        file: &FilePath,
        permit: &Permit<'_>,
        placed: Placed,
        data: Data,
        authority: Option<&AuthorityName>,
    ) -> Result<Self, GateProblem> {
        let source = &permit.object().tree;
        let mut tree = Branch::default();
        for key in ["apiVersion", "kind", "metadata", "type", "immutable"] {
            match source.get(key) {
                None | Some(Node::Leaf(Leaf { scalar: Scalar::Null, .. })) => {}
                Some(value) => tree.set(key, value.duplicate()),
            }
        }
        let data = data.into_iter().map(|(key, leaf)| (key, Node::Leaf(leaf)));
        tree.set("data", Node::Map(Branch::from_entries(data)));
        placed.guarded(file, tree, permit, authority)
    }

    /// An encrypted object of another kind: guarded, otherwise as it was decrypted.
    pub(crate) fn other(file: &FilePath, permit: &Permit<'_>, placed: Placed) -> Result<Self, GateProblem> {
        placed.guarded(file, permit.object().tree.duplicate(), permit, None)
    }

    /// What stands in once Vault rules.
    pub(crate) fn stub(
        file: &FilePath,
        stub: Stub,
        class: Class,
        door: Door,
        authority: Option<&AuthorityName>,
        exit: Exit,
    ) -> Result<Self, GateProblem> {
        let tree = stub.tree(door, authority);
        Self::new(file, identity(stub.meta, stub.namespace), class, Content::Stub, tree, exit)
    }

    fn new(
        file: &FilePath,
        identity: Identity,
        class: Class,
        content: Content,
        tree: Branch,
        exit: Exit,
    ) -> Result<Self, GateProblem> {
        gate::check(&tree)?;
        Ok(Self { file: file.clone(), identity, class, content, tree, exit })
    }
}

/// Where an encrypted object goes, and as what.
pub(crate) struct Placed {
    /// Its name and kind.
    pub(crate) meta: Meta,
    /// Its effective namespace.
    pub(crate) namespace: Option<String>,
    /// How it is treated.
    pub(crate) class: Class,
}

impl Placed {
    fn guarded(
        self,
        file: &FilePath,
        mut tree: Branch,
        permit: &Permit<'_>,
        label: Option<&AuthorityName>,
    ) -> Result<Manifest, GateProblem> {
        if let Some(namespace) = &self.namespace {
            guard::mapping(&mut tree, "metadata").set("namespace", Node::text(namespace.as_str()));
        }
        guard::guard(&mut tree, label);
        Manifest::new(file, identity(self.meta, self.namespace), self.class, Content::Values, tree, permit.exit())
    }
}

fn identity(meta: Meta, namespace: Option<String>) -> Identity {
    Identity { api_version: meta.api_version, kind: meta.kind, namespace, name: meta.name }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

fn written(file: &FilePath, tree: &Branch, encoding: Encoding) -> Result<Plaintext, Refusal> {
    let bytes = match encoding {
        Encoding::Json => tree.to_json_line(),
        Encoding::Yaml => tree.to_yaml_document(),
    };
    bytes.map_err(|error| {
        let mut problem = Problem { line: 0, problem: DocumentProblem::Sops(error) };
        if Envelope::of_name(file.file_name()).is_some() {
            problem = problem.without_keys();
        }
        Refusal::Document { file: file.clone(), problem: problem.problem }
    })
}

/// The same object, every decrypted leaf described; of a Secret all `data`. What names the object stays
/// readable, or nobody could tell which one it is, and so does a Secret's type; text alone: whatever else was
/// put in such a place may be secret.
fn described(tree: &Branch, identity: &Identity) -> Branch {
    let is_secret = identity.kind == "Secret" && identity.api_version == "v1";
    let items = tree.entries().map(|entry| {
        let value = match (entry.key.as_str(), &entry.value) {
            ("apiVersion" | "kind", value) => shown(value),
            ("type", value) if is_secret => shown(value),
            ("metadata", Node::Map(metadata)) => Node::Map(Branch::from_entries(metadata.entries().map(|entry| {
                let value = match entry.key.as_str() {
                    "name" | "namespace" => shown(&entry.value),
                    _ => describe(&entry.value),
                };
                (entry.key.clone(), value)
            }))),
            ("data", Node::Map(data)) if is_secret => Node::Map(Branch::from_entries(
                data.entries().map(|entry| (entry.key.clone(), describe_data(&entry.value))),
            )),
            (_, value) => describe(value),
        };
        (entry.key.clone(), value)
    });
    Branch::from_entries(items)
}

/// Text as it is, anything else described.
fn shown(node: &Node) -> Node {
    match node {
        Node::Leaf(Leaf { scalar: Scalar::Text(_), .. }) => node.duplicate(),
        Node::Leaf(_) | Node::Map(_) | Node::List(_) => describe(node),
    }
}

fn describe(node: &Node) -> Node {
    match node {
        Node::Leaf(Leaf { scalar, origin: Origin::Decrypted }) => Node::text(match scalar {
            Scalar::Text(text) => format!("<redacted {}, {} bytes>", scalar.type_name(), text.len()),
            Scalar::Null | Scalar::Bool(_) | Scalar::Int(_) | Scalar::Uint(_) | Scalar::Float(_) | Scalar::Time(_) => {
                format!("<redacted {}>", scalar.type_name())
            }
        }),
        Node::Leaf(leaf) => Node::Leaf(leaf.duplicate()),
        Node::Map(branch) => {
            Node::Map(Branch::from_entries(branch.entries().map(|entry| (entry.key.clone(), describe(&entry.value)))))
        }
        Node::List(elements) => Node::List(
            elements
                .iter()
                .filter_map(|element| match element {
                    Element::Node(node) => Some(Element::Node(describe(node))),
                    Element::Comment(_) => None,
                })
                .collect(),
        ),
    }
}

/// A value of `data`: the length is that of the value, not of its base64.
fn describe_data(node: &Node) -> Node {
    match node {
        Node::Leaf(Leaf { scalar: Scalar::Text(text), .. }) => {
            let size = text.decode_base64().map_or(text.len(), |bytes| bytes.len());
            Node::text(format!("<redacted str, {size} bytes>"))
        }
        Node::Leaf(_) | Node::Map(_) | Node::List(_) => Node::text("<redacted>"),
    }
}

/// Every leaf (and empty mapping or list) by its path.
fn leaves<'t>(branch: &'t Branch, prefix: &str, found: &mut BTreeMap<String, Option<&'t Leaf>>) {
    for item in &branch.items {
        match item {
            Item::Entry(entry) => node_leaves(&entry.value, joined(prefix, &entry.key), found),
            Item::Comment(_) => {}
        }
    }
}

fn node_leaves<'t>(node: &'t Node, path: String, found: &mut BTreeMap<String, Option<&'t Leaf>>) {
    match node {
        Node::Leaf(leaf) => {
            found.insert(path, Some(leaf));
        }
        Node::Map(branch) if branch.items.is_empty() => {
            found.insert(path, None);
        }
        Node::Map(branch) => leaves(branch, &path, found),
        Node::List(elements) if elements.is_empty() => {
            found.insert(path, None);
        }
        Node::List(elements) => {
            for (index, element) in elements.iter().enumerate() {
                match element {
                    Element::Node(node) => node_leaves(node, joined(&path, &index.to_string()), found),
                    Element::Comment(_) => {}
                }
            }
        }
    }
}

fn joined(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

fn same(one: Option<&Leaf>, other: Option<&Leaf>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return one.is_none() && other.is_none() };
    match (&one.scalar, &other.scalar) {
        (Scalar::Null, Scalar::Null) => true,
        (Scalar::Bool(one), Scalar::Bool(other)) => one == other,
        (Scalar::Int(one), Scalar::Int(other)) => one == other,
        (Scalar::Uint(one), Scalar::Uint(other)) => one == other,
        (Scalar::Float(one), Scalar::Float(other)) => one.to_bits() == other.to_bits(),
        (Scalar::Time(one), Scalar::Time(other)) => one == other,
        (Scalar::Text(one), Scalar::Text(other)) => one.same_bytes(other),
        (
            Scalar::Null
            | Scalar::Bool(_)
            | Scalar::Int(_)
            | Scalar::Uint(_)
            | Scalar::Float(_)
            | Scalar::Time(_)
            | Scalar::Text(_),
            _,
        ) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decrypted(text: &str) -> Node {
        Node::Leaf(Leaf { scalar: Scalar::Text(Plaintext::new(text.into())), origin: Origin::Decrypted })
    }

    fn map<const N: usize>(entries: [(&str, Node); N]) -> Node {
        Node::Map(Branch::from_entries(entries.map(|(key, value)| (key.to_owned(), value))))
    }

    fn preview(api_version: &str, kind: &str, own: (&str, Node)) -> Branch {
        let metadata = map([
            ("name", decrypted("shown-name")),
            ("labels", map([("tier", decrypted("canary-label"))])),
            ("annotations", decrypted("canary-annotations")),
        ]);
        let (key, value) = own;
        let Node::Map(tree) = map([
            ("apiVersion", decrypted(api_version)),
            ("kind", decrypted(kind)),
            ("metadata", metadata),
            (key, value),
            ("spec", map([("a", Node::List(vec![Element::Node(decrypted("canary-spec"))]))])),
        ]) else {
            unreachable!()
        };
        let identity = Identity {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: None,
            name: "shown-name".to_owned(),
        };
        described(&tree, &identity)
    }

    /// Whether any text of the tree begins as the canaries do.
    fn holds_canary(branch: &Branch) -> bool {
        let mut found = BTreeMap::new();
        leaves(branch, "", &mut found);
        found.into_values().flatten().any(|leaf| match &leaf.scalar {
            Scalar::Text(text) => text.starts_with(b"canary-"),
            Scalar::Null | Scalar::Bool(_) | Scalar::Int(_) | Scalar::Uint(_) | Scalar::Float(_) | Scalar::Time(_) => {
                false
            }
        })
    }

    #[test]
    fn a_preview_shows_nothing_decrypted_but_the_name_of_the_object() {
        for (api_version, kind) in [("example.com/v1", "Thing"), ("example.com/v1", "Secret"), ("v1", "Secret")] {
            for key in ["type", "immutable", "status"] {
                for secret in
                    [map([("password", decrypted("canary-1"))]), Node::List(vec![Element::Node(decrypted("canary-2"))])]
                {
                    let tree = preview(api_version, kind, (key, secret));
                    assert!(!holds_canary(&tree), "{api_version} {kind} {key}");
                    assert_eq!(tree.public_text(&["kind"]), Some(kind));
                    assert_eq!(tree.public_text(&["metadata", "name"]), Some("shown-name"));
                }
            }
        }
        assert!(!holds_canary(&preview("example.com/v1", "Thing", ("type", decrypted("canary-3")))));
        assert!(!holds_canary(&preview("v1", "Secret", ("immutable", decrypted("canary-4")))));
    }

    #[test]
    fn a_preview_shows_the_type_of_a_secret() {
        let tree = preview("v1", "Secret", ("type", decrypted("kubernetes.io/tls")));
        assert_eq!(tree.public_text(&["type"]), Some("kubernetes.io/tls"));
    }
}
