//! Kubernetes objects as they stand in a file: merge keys resolved, lists flattened, empty
//! documents dropped. Nothing here decides; classes and rules are [`crate::render`]'s.

use crate::refusal::DocumentProblem;
use regent_sops::{Branch, Element, Entry, Error, Item, Leaf, Node, Origin, Position, Scalar};
use std::collections::{HashMap, HashSet};

/// How a document was read, and so which of its leaves are secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// A file without ciphertext.
    Clear,
    /// A file with a `sops` block, nothing decrypted: secret leaves are text that begins `ENC[`.
    Sealed,
    /// A decrypted file: secret leaves say so themselves.
    Opened,
}

/// One object of a file.
pub(crate) struct Object {
    /// The mapping: no merge keys, no key twice.
    pub(crate) tree: Branch,
    /// Where it starts, 0 where unknown.
    pub(crate) line: u32,
    /// How it was read.
    pub(crate) view: View,
}

/// What is wrong, and on which line (0: unknown).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The line.
    pub(crate) line: u32,
    /// The rule.
    pub(crate) problem: DocumentProblem,
}

/// The fields that make an object this object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    /// `apiVersion`.
    pub(crate) api_version: String,
    /// `kind`.
    pub(crate) kind: String,
    /// `metadata.namespace`, where it is there and not empty.
    pub(crate) namespace: Option<String>,
    /// `metadata.name`.
    pub(crate) name: String,
}

/// What stands for a key that must not be told.
pub(crate) const HIDDEN_KEY: &str = "(a key)";

/// A SOPS value begins so.
const SEALED: &[u8] = b"ENC[AES256_GCM,";

/// A SOPS value that is a comment ends so.
const SEALED_COMMENT: &[u8] = b",type:comment]";

/// Every object of a file, in order.
pub(crate) fn objects(documents: &[Branch], view: View) -> Vec<Result<Object, Problem>> {
    let mut found = Vec::new();
    for document in documents {
        let line = document.entries().next().map_or(0, |entry| entry.at.line);
        let tree = resolved(document).map(|mut tree| {
            if view == View::Sealed {
                drop_sealed_comments(&mut tree);
            }
            tree
        });
        match tree {
            Ok(tree) if tree.items.is_empty() => {}
            Ok(tree) => flatten(Object { tree, line, view }, None, &mut found),
            Err(problem) => found.push(Err(problem)),
        }
    }
    found
}

impl Problem {
    /// The same without the keys of the file: those of one that was encrypted as a whole are secret too,
    /// and a value that slipped into the place of a key would be told. Kind and names stay.
    pub(crate) fn without_keys(self) -> Self {
        let key = HIDDEN_KEY.to_owned();
        let problem = match self.problem {
            DocumentProblem::Sops(error) => DocumentProblem::Sops(match error {
                Error::DuplicateKey { at, .. } => Error::DuplicateKey { at, key },
                Error::Value { at, problem, .. } => Error::Value { path: key, at, problem },
                Error::Emit { format, problem, .. } => Error::Emit { format, path: key, problem },
                Error::Metadata { problem, .. } => Error::Metadata { field: key, problem },
                Error::Stopped
                | Error::TooLarge { .. }
                | Error::Limit { .. }
                | Error::Syntax { .. }
                | Error::MetadataAbsent
                | Error::NoKey(_)
                | Error::TooFewParts { .. }
                | Error::Parts { .. }
                | Error::Mac(_)
                | Error::Identity { .. }
                | Error::Envelope { .. } => error,
            }),
            DocumentProblem::Secret(problem) => DocumentProblem::Secret(problem.without_keys()),
            DocumentProblem::Gate(problem) => DocumentProblem::Gate(problem.without_keys()),
            DocumentProblem::DuplicateKey { line, .. } => DocumentProblem::DuplicateKey { key, line },
            DocumentProblem::Input { file, problem } => {
                let problem = Self { line: self.line, problem: *problem }.without_keys().problem;
                DocumentProblem::Input { file, problem: Box::new(problem) }
            }
            problem @ (DocumentProblem::NotAnObject { .. }
            | DocumentProblem::Generator(_)
            | DocumentProblem::MacOnlyEncrypted
            | DocumentProblem::ClearSecret(_)
            | DocumentProblem::EncryptedKind { .. }
            | DocumentProblem::NoNamespace { .. }
            | DocumentProblem::KustomizationNamespace { .. }
            | DocumentProblem::NamespaceNotAllowed { .. }
            | DocumentProblem::TwoObjects { .. }
            | DocumentProblem::NotListed
            | DocumentProblem::NameTaken
            | DocumentProblem::SeveralPlaces
            | DocumentProblem::OutsideRoot
            | DocumentProblem::AppliedTwice { .. }
            | DocumentProblem::NotApplied
            | DocumentProblem::NotHandedOver { .. }
            | DocumentProblem::IdentityEncrypted
            | DocumentProblem::BadMerge { .. }) => problem,
        };
        Self { line: self.line, problem }
    }
}

impl Meta {
    /// The group of `apiVersion`, empty for the core group.
    pub(crate) fn group(&self) -> &str {
        self.api_version.rsplit_once('/').map_or("", |(group, _)| group)
    }

    /// Whether it is a Secret of the core group.
    pub(crate) fn is_secret(&self) -> bool {
        self.kind == "Secret" && self.group().is_empty()
    }
}

impl Object {
    /// Name and place of the object. `Ok(None)`: a sealed file hides at least one of them.
    pub(crate) fn meta(&self) -> Result<Option<Meta>, Problem> {
        let paths: [&[&'static str]; 4] =
            [&["apiVersion"], &["kind"], &["metadata", "name"], &["metadata", "namespace"]];
        if self.view == View::Sealed && paths.iter().any(|path| self.tree.at(path).is_some_and(is_sealed_leaf)) {
            return Ok(None);
        }
        let needed = |path: &[&str], field: &'static str| {
            let text = self.tree.public_text(path).filter(|text| !text.is_empty() && !text.contains(char::is_control));
            text.map(str::to_owned)
                .ok_or(Problem { line: self.line, problem: DocumentProblem::NotAnObject { field, line: self.line } })
        };
        let namespace = match self.tree.at(&["metadata", "namespace"]) {
            None | Some(Node::Leaf(Leaf { scalar: Scalar::Null, .. })) => None,
            Some(_) if self.tree.public_text(&["metadata", "namespace"]) == Some("") => None,
            Some(_) => Some(needed(&["metadata", "namespace"], "metadata.namespace")?),
        };
        Ok(Some(Meta {
            api_version: needed(&["apiVersion"], "apiVersion")?,
            kind: needed(&["kind"], "kind")?,
            name: needed(&["metadata", "name"], "metadata.name")?,
            namespace,
        }))
    }

    /// Whether any value of it is, or was, encrypted. SOPS leaves empty text as it is, so empty
    /// text tells nothing.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.tree.entries().any(|entry| self.holds_secret(&entry.value))
    }

    fn holds_secret(&self, node: &Node) -> bool {
        match node {
            Node::Leaf(leaf) => is_secret_leaf(leaf, self.view),
            Node::Map(branch) => branch.entries().any(|entry| self.holds_secret(&entry.value)),
            Node::List(elements) => elements.iter().any(|element| match element {
                Element::Node(node) => self.holds_secret(node),
                Element::Comment(_) => false,
            }),
        }
    }

    /// A problem of this object, at its first line.
    pub(crate) fn problem(&self, problem: impl Into<DocumentProblem>) -> Problem {
        Problem { line: self.line, problem: problem.into() }
    }
}

/// Whether a leaf read in this way is secret.
pub(crate) fn is_secret_leaf(leaf: &Leaf, view: View) -> bool {
    let empty = matches!(&leaf.scalar, Scalar::Text(text) if text.is_empty());
    match view {
        View::Clear => false,
        View::Sealed => matches!(&leaf.scalar, Scalar::Text(text) if text.starts_with(SEALED)),
        View::Opened => leaf.origin == Origin::Decrypted && !empty,
    }
}

fn is_sealed_leaf(node: &Node) -> bool {
    matches!(node, Node::Leaf(leaf) if is_secret_leaf(leaf, View::Sealed))
}

/// SOPS writes an encrypted comment in a list as an element; opened it is a comment again and tells
/// nothing of the object, so the sealed view does not count it either. In the value of a key it stays:
/// such a file does not open.
fn drop_sealed_comments(tree: &mut Branch) {
    for item in &mut tree.items {
        match item {
            Item::Entry(entry) => drop_comments_in(&mut entry.value),
            Item::Comment(_) => {}
        }
    }
}

fn drop_comments_in(node: &mut Node) {
    match node {
        Node::Leaf(_) => {}
        Node::Map(branch) => drop_sealed_comments(branch),
        Node::List(elements) => elements.retain_mut(|element| match element {
            Element::Node(Node::Leaf(Leaf { scalar: Scalar::Text(text), .. })) => {
                !(text.starts_with(SEALED) && text.ends_with(SEALED_COMMENT))
            }
            Element::Node(node) => {
                drop_comments_in(node);
                true
            }
            Element::Comment(_) => false,
        }),
    }
}

/// `kind: List` and its typed forms (`SecretList`) stand for their items, also nested; an item of a
/// typed list may leave out what the list's own kind says (as Kubernetes' decoder allows).
fn flatten(mut object: Object, typed: Option<&(String, String)>, found: &mut Vec<Result<Object, Problem>>) {
    if let Some((api_version, kind)) = typed
        && object.tree.get("apiVersion").is_none()
        && object.tree.get("kind").is_none()
    {
        object.tree.items.splice(
            0..0,
            Branch::from_entries([
                ("apiVersion".to_owned(), Node::text(api_version.as_str())),
                ("kind".to_owned(), Node::text(kind.as_str())),
            ])
            .items,
        );
    }
    let kind = object.tree.public_text(&["kind"]).map(str::to_owned);
    let Some(element_kind) = kind.as_deref().and_then(|kind| kind.strip_suffix("List")) else {
        return found.push(Ok(object));
    };
    let is_list = match object.tree.get("items") {
        Some(Node::List(_) | Node::Leaf(Leaf { scalar: Scalar::Null, .. })) => true,
        Some(Node::Leaf(_) | Node::Map(_)) => false,
        None => element_kind.is_empty(),
    };
    if !is_list {
        return found.push(Ok(object));
    }
    let typed = object
        .tree
        .public_text(&["apiVersion"])
        .filter(|_| !element_kind.is_empty())
        .map(|api_version| (api_version.to_owned(), element_kind.to_owned()));
    let Some(Node::List(elements)) = object.tree.remove("items") else { return };
    for element in elements {
        match element {
            Element::Node(Node::Map(tree)) if tree.items.is_empty() => {}
            Element::Node(Node::Map(tree)) => {
                let line = tree.entries().next().map_or(object.line, |entry| entry.at.line);
                flatten(Object { tree, line, view: object.view }, typed.as_ref(), found);
            }
            Element::Node(Node::Leaf(_) | Node::List(_)) => {
                let problem = DocumentProblem::NotAnObject { field: "items", line: object.line };
                found.push(Err(object.problem(problem)));
            }
            Element::Comment(_) => {}
        }
    }
}

/// The mapping that every YAML reader sees: comments gone, `<<` merged. A key that stands twice is
/// refused, and so is a `<<` behind a key that it holds too: YAML keeps the key, Kubernetes' reader
/// (sigs.k8s.io/yaml 1.6) takes the merged value.
pub(crate) fn resolved(branch: &Branch) -> Result<Branch, Problem> {
    if !branch.entries().any(|entry| entry.merge) {
        return distinct(branch);
    }
    let mut own: HashMap<&str, usize> = HashMap::new();
    let mut merged: HashMap<String, usize> = HashMap::new();
    let mut entries: Vec<Option<Entry>> = Vec::new();
    for entry in branch.entries() {
        if entry.merge {
            for (key, value) in merge_sources(entry)? {
                if own.contains_key(key.as_str()) || merged.contains_key(&key) {
                    return Err(twice(&key, entry.at));
                }
                merged.insert(key.clone(), entries.len());
                entries.push(Some(Entry { key, merge: false, value, at: entry.at }));
            }
            continue;
        }
        if own.insert(&entry.key, entries.len()).is_some() {
            return Err(twice(&entry.key, entry.at));
        }
        if let Some(slot) = merged.remove(&entry.key).and_then(|index| entries.get_mut(index)) {
            *slot = None;
        }
        let value = resolved_node(&entry.value)?;
        entries.push(Some(Entry { key: entry.key.clone(), merge: false, value, at: entry.at }));
    }
    Ok(Branch { items: entries.into_iter().flatten().map(Item::Entry).collect() })
}

/// [`resolved`] of a mapping without `<<`, as nearly all are.
fn distinct(branch: &Branch) -> Result<Branch, Problem> {
    let mut items: Vec<Item> = Vec::with_capacity(branch.items.len());
    // A few keys are compared sooner than hashed.
    let mut many = (branch.items.len() > FEW_KEYS).then(HashSet::new);
    for entry in branch.entries() {
        let is_first = match &mut many {
            Some(seen) => seen.insert(entry.key.as_str()),
            None => !items.iter().any(|item| matches!(item, Item::Entry(other) if other.key == entry.key)),
        };
        if !is_first {
            return Err(twice(&entry.key, entry.at));
        }
        let value = resolved_node(&entry.value)?;
        items.push(Item::Entry(Entry { key: entry.key.clone(), merge: false, value, at: entry.at }));
    }
    Ok(Branch { items })
}

/// Keys of a mapping that are compared with each other one by one.
const FEW_KEYS: usize = 16;

/// What one `<<` brings: of a list's mappings the earlier one wins.
fn merge_sources(entry: &Entry) -> Result<Vec<(String, Node)>, Problem> {
    let bad = || Problem { line: entry.at.line, problem: DocumentProblem::BadMerge { line: entry.at.line } };
    let mut brought: Vec<(String, Node)> = Vec::new();
    let mut seen = HashSet::new();
    let mut take = |source: &Branch| -> Result<(), Problem> {
        for item in resolved(source)?.items {
            if let Item::Entry(source) = item
                && seen.insert(source.key.clone())
            {
                brought.push((source.key, source.value));
            }
        }
        Ok(())
    };
    match &entry.value {
        Node::Map(source) => take(source)?,
        Node::List(elements) => {
            for element in elements {
                match element {
                    Element::Node(Node::Map(source)) => take(source)?,
                    Element::Node(Node::Leaf(_) | Node::List(_)) => return Err(bad()),
                    Element::Comment(_) => {}
                }
            }
        }
        Node::Leaf(_) => return Err(bad()),
    }
    Ok(brought)
}

fn resolved_node(node: &Node) -> Result<Node, Problem> {
    Ok(match node {
        Node::Leaf(leaf) => Node::Leaf(leaf.duplicate()),
        Node::Map(branch) => Node::Map(resolved(branch)?),
        Node::List(elements) => {
            let mut list = Vec::with_capacity(elements.len());
            for element in elements {
                match element {
                    Element::Node(node) => list.push(Element::Node(resolved_node(node)?)),
                    Element::Comment(_) => {}
                }
            }
            Node::List(list)
        }
    })
}

fn twice(key: &str, at: Position) -> Problem {
    Problem { line: at.line, problem: DocumentProblem::DuplicateKey { key: key.to_owned(), line: at.line } }
}

#[cfg(test)]
mod tests;
