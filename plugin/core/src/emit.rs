//! Manifests: the last form, and the one exit for their bytes.

use crate::after::Stub;
use crate::after::delivery::Delivered;
use crate::bootstrap;
use crate::gate::{self, Exit, GateProblem, Permit};
use crate::guard;
use crate::name::{AuthorityName, FilePath, SecretName};
use crate::object::{Meta, Problem};
use crate::refusal::{DocumentProblem, Refusal};
use crate::render::{Class, Door};
use crate::restore::Restoration;
use crate::secret::Data;
use regent_sops::envelope::Envelope;
use regent_sops::{Branch, Element, Entry, Item, Leaf, Node, Origin, Plaintext, Scalar};
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
    /// Everything, and what was encrypted is encrypted to regent alone: for who asks regent for the data key.
    Sealed,
    /// Its name, and the word that its controller leaves the live object alone.
    Stub,
    /// An object of its own, beside a stub: from where Vault's operator delivers the Secret.
    Delivery,
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

    /// Whether it holds a value: whatever was decrypted, and a stub with anything where data belongs.
    pub fn holds_values(&self) -> bool {
        match self.content {
            Content::Values => true,
            Content::Stub | Content::Delivery => {
                ["data", "stringData", "binaryData"].iter().any(|key| self.tree.get(key).is_some())
            }
            // The values of a sealed one are ciphertext.
            Content::Plain | Content::Sealed => false,
        }
    }

    /// What it would say, every secret described (`<redacted str, 12 bytes>`); the API server refuses it, should
    /// somebody apply it. A `Plaintext` all the same, so that one place writes whatever a command prints.
    pub fn preview(&self, encoding: Encoding) -> Result<Plaintext, Refusal> {
        let mut tree = match self.content {
            Content::Plain | Content::Sealed | Content::Stub | Content::Delivery => self.tree.duplicate(),
            Content::Values => described(&self.tree, &self.identity),
        };
        match self.content {
            // Who applies it by hand does no harm.
            Content::Plain | Content::Delivery => {}
            Content::Values | Content::Sealed | Content::Stub => {
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

    /// The Secret that it holds with values, by name.
    pub fn secret_name(&self) -> Option<SecretName> {
        let Identity { api_version, kind, namespace, name } = &self.identity;
        let holds = api_version == "v1" && kind == "Secret" && self.content == Content::Values;
        let full = |namespace: &String| SecretName::parse(&format!("{namespace}/{name}")).ok();
        namespace.as_ref().filter(|_| holds).and_then(full)
    }

    /// Whether it holds this Secret's values.
    pub(crate) fn is_secret(&self, name: &SecretName) -> bool {
        self.secret_name().as_ref() == Some(name)
    }

    /// Whether a live Secret has exactly these values: base64 by key, as the API server gives them. All of them are
    /// compared, none with an early end.
    pub fn has_data(&self, live: &BTreeMap<String, Plaintext>) -> bool {
        self.has_values(|key, base64| live.get(key).is_some_and(|live| live.same_bytes(base64)), live.len())
    }

    /// Whether Vault's copy has exactly these values: one field a key, text as it is or in the encoding that
    /// `regent.yaml` gives it. A field that is no text (`None`) is another value. Compared as [`Self::has_data`] does.
    pub fn has_fields(
        &self,
        fields: &BTreeMap<String, Option<Plaintext>>,
        encoding: Option<bootstrap::Encoding>,
    ) -> bool {
        let same = |key: &str, base64: &Plaintext| {
            let Some(Some(field)) = fields.get(key) else { return false };
            match encoding {
                Some(bootstrap::Encoding::Base64) => field.same_bytes(base64),
                None => base64.decode_base64().is_some_and(|value| value.same_bytes(field)),
            }
        };
        self.has_values(same, fields.len())
    }

    /// Whether every value of `data` is the `same` as another's of that key, who has `count` of them.
    fn has_values(&self, same: impl Fn(&str, &Plaintext) -> bool, count: usize) -> bool {
        let Some(Node::Map(data)) = self.tree.get("data") else { return false };
        let (mut all_same, mut values) = (true, 0);
        for entry in data.entries() {
            values += 1;
            all_same &= match &entry.value {
                Node::Leaf(Leaf { scalar: Scalar::Text(base64), .. }) => same(&entry.key, base64),
                Node::Leaf(_) | Node::Map(_) | Node::List(_) => false,
            };
        }
        all_same && values == count
    }

    /// The same, allowed to leave: the one way in which a value leaves once Vault rules. A restoration is for one Secret.
    pub fn restored(self, restoration: &Restoration) -> Result<Self, Refusal> {
        if self.is_secret(restoration.name()) { Ok(Self { exit: Exit::Bytes, ..self }) } else { Err(Refusal::Unasked) }
    }

    /// The values of the Secret that it holds, base64 by key, for a handover; none of anything else.
    pub(crate) fn into_data(mut self) -> Vec<(String, Plaintext)> {
        if self.secret_name().is_none() {
            return Vec::new();
        }
        let Some(Node::Map(data)) = self.tree.remove("data") else { return Vec::new() };
        let value = |item| match item {
            Item::Entry(Entry { key, value: Node::Leaf(Leaf { scalar: Scalar::Text(base64), .. }), .. }) => {
                Some((key, base64))
            }
            // `data` was made of text alone.
            Item::Entry(_) | Item::Comment(_) => None,
        };
        data.items.into_iter().filter_map(value).collect()
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

    /// The same object, its values ciphertext again.
    pub(crate) fn sealed(self, tree: Branch) -> Result<Self, GateProblem> {
        gate::check_sealed(&tree)?;
        Ok(Self { content: Content::Sealed, tree, ..self })
    }

    /// The same object, written under the name that a build turns into its own.
    pub(crate) fn written_as(mut self, name: &str) -> Self {
        guard::mapping(&mut self.tree, "metadata").set("name", Node::text(name));
        self
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

    /// What delivers a Secret from Vault.
    pub(crate) fn delivery(file: &FilePath, delivered: Delivered, exit: Exit) -> Result<Self, GateProblem> {
        let Delivered { meta, namespace, tree } = delivered;
        Self::new(file, identity(meta, namespace), Class::Handover, Content::Delivery, tree, exit)
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
        if tree.public_text(&["metadata", "name"]) != Some(self.meta.name.as_str()) {
            // A build renames it.
            guard::mapping(&mut tree, "metadata").set("name", Node::text(self.meta.name.as_str()));
        }
        guard::guard(&mut tree, label);
        Manifest::new(file, identity(self.meta, self.namespace), self.class, Content::Values, tree, permit.exit())
    }
}

fn identity(meta: Meta, namespace: Option<String>) -> Identity {
    Identity { api_version: meta.api_version, kind: meta.kind, namespace, name: meta.name }
}

impl Identity {
    /// Whether it is a Secret of the core group.
    pub(crate) fn is_secret(&self) -> bool {
        self.kind == "Secret" && !self.api_version.contains('/')
    }
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

    /// Of `app/db` with these values, from where nobody was asked.
    fn described_secret(values: &[(&str, &str)]) -> Manifest {
        let leaf = |text: &str| Leaf {
            scalar: Scalar::Text(Plaintext::new(text.into()).to_base64()),
            origin: Origin::Decrypted,
        };
        let data = values.iter().map(|(key, value)| ((*key).to_owned(), Node::Leaf(leaf(value))));
        let mut tree = Branch::default();
        tree.set("data", Node::Map(Branch::from_entries(data)));
        let identity = Identity {
            api_version: "v1".into(),
            kind: "Secret".into(),
            namespace: Some("app".into()),
            name: "db".into(),
        };
        let file = FilePath::parse("db.yaml").unwrap();
        Manifest { file, identity, class: Class::Handover, content: Content::Values, tree, exit: Exit::Described }
    }

    #[test]
    fn live_values_are_the_same_only_key_by_key() {
        let manifest = described_secret(&[("a", "1"), ("b", "2")]);
        let has = |live: &[(&str, &str)]| {
            let live = live.iter().map(|(key, value)| ((*key).to_owned(), Plaintext::new((*value).into()).to_base64()));
            manifest.has_data(&live.collect())
        };
        assert!(has(&[("a", "1"), ("b", "2")]));
        for other in [
            &[][..],
            &[("a", "1")],
            &[("a", "1"), ("b", "3")],
            &[("a", "1"), ("b", "2"), ("c", "3")],
            &[("a", "1"), ("c", "2")],
        ] {
            assert!(!has(other), "{other:?}");
        }
        assert!(described_secret(&[]).has_data(&BTreeMap::new()));
    }

    #[test]
    fn vaults_fields_are_text_or_what_regent_yaml_says() {
        let manifest = described_secret(&[("a", "value")]);
        let has = |field: Option<&str>, encoding| {
            let field = field.map(|text| Plaintext::new(text.into()));
            manifest.has_fields(&BTreeMap::from([("a".to_owned(), field)]), encoding)
        };
        let base64 = Some(bootstrap::Encoding::Base64);
        assert!(has(Some("value"), None) && has(Some("dmFsdWU="), base64));
        assert!(
            !has(Some("dmFsdWU="), None) && !has(Some("value"), base64) && !has(None, None) && !has(Some(""), None)
        );
        assert!(!manifest.has_fields(&BTreeMap::new(), None));
    }

    #[test]
    fn what_nobody_was_asked_about_does_not_leave() {
        #[expect(clippy::disallowed_methods, reason = "a test of the exit")]
        let left = described_secret(&[]).into_bytes(Encoding::Json);
        assert!(matches!(left, Err(Refusal::Unasked)));
    }
}
