//! The tree that all stores share: ordered, duplicates and comments kept, every leaf with its type
//! and whether it was encrypted.
//!
//! A file is a list of documents; each document is a [`Branch`] (a mapping). Every format but YAML
//! has exactly one. The same types hold a sealed file (encrypted leaves are text beginning
//! `ENC[AES256_GCM,`) and an opened one.

use crate::error::Error;
use crate::plaintext::Plaintext;

/// A place in a file: line and column, both from 1; column counts characters. Zero: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// A parsed file: its documents in order.
#[derive(Default)]
pub struct Tree {
    /// One mapping a document; an empty YAML document is an empty mapping.
    pub documents: Vec<Branch>,
}

/// A mapping in file order, duplicate keys and comments included.
#[derive(Default)]
pub struct Branch {
    /// Entries and comments in file order.
    pub items: Vec<Item>,
}

/// One line of a mapping.
pub enum Item {
    /// A key with its value.
    Entry(Entry),
    /// A comment that stands in this mapping.
    Comment(Comment),
}

/// A key with its value.
pub struct Entry {
    /// The key as SOPS sees it: raw text, no escaping.
    pub key: String,
    /// Whether a YAML reader merges this entry's value into the mapping (`<<`).
    pub merge: bool,
    /// The value.
    pub value: Node,
    /// Where the key stands.
    pub at: Position,
}

/// A value: a leaf, a mapping or a list.
pub enum Node {
    /// A scalar.
    Leaf(Leaf),
    /// A mapping.
    Map(Branch),
    /// A list, with its comments.
    List(Vec<Element>),
}

/// One element of a list.
pub enum Element {
    /// A value.
    Node(Node),
    /// A comment that stands in this list.
    Comment(Comment),
}

/// A scalar and where it came from.
pub struct Leaf {
    /// The typed value.
    pub scalar: Scalar,
    /// Whether it stood in the file as it is, or was decrypted.
    pub origin: Origin,
}

/// Whether a leaf stood in the file as it is, or was decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Readable by everybody who reads the file.
    Clear,
    /// Decrypted: secret.
    Decrypted,
}

/// A typed scalar. No `Debug`: any of these can be secret.
pub enum Scalar {
    /// Nothing (`null`, `~`, an omitted node).
    Null,
    /// A truth value.
    Bool(bool),
    /// A signed integer (Go's `int` on 64 bit).
    Int(i64),
    /// An unsigned integer beyond `i64`; only in files that SOPS did not write.
    Uint(u64),
    /// A double.
    Float(f64),
    /// A time in the form that SOPS hashes: RFC 3339, fraction without trailing zeros.
    Time(String),
    /// Text or bytes.
    Text(Plaintext),
}

/// A comment, without its `#`.
pub struct Comment {
    /// One line of text (INI: one block), or ciphertext while sealed.
    pub text: Plaintext,
    /// Whether it was decrypted.
    pub origin: Origin,
}

impl Leaf {
    /// A leaf that stands readable in the file.
    pub fn clear(scalar: Scalar) -> Self {
        Self { scalar, origin: Origin::Clear }
    }

    /// The text of a leaf that stood readable in the file; `None` for what was decrypted.
    pub fn clear_text(&self) -> Option<&str> {
        match (&self.scalar, self.origin) {
            (Scalar::Text(text), Origin::Clear) => text.text(),
            _ => None,
        }
    }
}

impl Node {
    /// A clear text leaf.
    pub fn text(text: impl Into<Vec<u8>>) -> Self {
        Self::Leaf(Leaf::clear(Scalar::Text(Plaintext::new(text.into()))))
    }

    /// A second tree with the same values, wiped like this one.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        match self {
            Self::Leaf(leaf) => Self::Leaf(leaf.duplicate()),
            Self::Map(branch) => Self::Map(branch.duplicate()),
            Self::List(elements) => Self::List(elements.iter().map(Element::duplicate).collect()),
        }
    }
}

impl Leaf {
    /// A second leaf with the same value, wiped like this one.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self { scalar: self.scalar.duplicate(), origin: self.origin }
    }
}

impl Scalar {
    /// A second scalar with the same value, wiped like this one.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        match self {
            Self::Null => Self::Null,
            Self::Bool(value) => Self::Bool(*value),
            Self::Int(value) => Self::Int(*value),
            Self::Uint(value) => Self::Uint(*value),
            Self::Float(value) => Self::Float(*value),
            Self::Time(value) => Self::Time(value.clone()),
            Self::Text(value) => Self::Text(value.duplicate()),
        }
    }

    /// The name of the type, as SOPS writes it (`str`, `int`, ...).
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::Uint(_) => "int",
            Self::Float(_) => "float",
            Self::Time(_) => "time",
            Self::Text(_) => "str",
        }
    }
}

impl Element {
    /// A second element with the same value, wiped like this one.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        match self {
            Self::Node(node) => Self::Node(node.duplicate()),
            Self::Comment(comment) => Self::Comment(comment.duplicate()),
        }
    }
}

impl Comment {
    /// A second comment with the same text, wiped like this one.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self { text: self.text.duplicate(), origin: self.origin }
    }
}

/// The fields of a Kubernetes object that name and route it. Kubernetes keeps no secret there, and
/// every log of the API server shows them.
pub(crate) const PUBLIC_FIELDS: [&str; 5] = ["apiVersion", "kind", "metadata", "type", "immutable"];

impl Branch {
    /// A mapping with these entries, positions unknown.
    pub fn from_entries(entries: impl IntoIterator<Item = (String, Node)>) -> Self {
        let entry = |(key, value)| Item::Entry(Entry { key, merge: false, value, at: Position::default() });
        Self { items: entries.into_iter().map(entry).collect() }
    }

    /// The entries in order, comments left out.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.items.iter().filter_map(|item| match item {
            Item::Entry(entry) => Some(entry),
            Item::Comment(_) => None,
        })
    }

    /// The value of `key`: the first, where it stands twice.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The value at a path of mapping keys.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        let (first, rest) = path.split_first()?;
        let node = self.get(first)?;
        if rest.is_empty() {
            return Some(node);
        }
        match node {
            Node::Map(branch) => branch.at(rest),
            Node::Leaf(_) | Node::List(_) => None,
        }
    }

    /// Text that names or routes a Kubernetes object, also where it was decrypted: only below
    /// `apiVersion`, `kind`, `metadata`, `type`, `immutable`; `None` elsewhere, and for what is not text.
    pub fn public_text(&self, path: &[&str]) -> Option<&str> {
        path.first().filter(|first| PUBLIC_FIELDS.contains(first))?;
        match self.at(path)? {
            Node::Leaf(Leaf { scalar: Scalar::Text(text), .. }) => text.text(),
            Node::Leaf(_) | Node::Map(_) | Node::List(_) => None,
        }
    }

    /// Puts `value` at `key`: in the place of the first such entry, else at the end. Further entries of
    /// the same key go.
    pub fn set(&mut self, key: &str, value: Node) {
        let mut value = Some(value);
        self.items.retain_mut(|item| match item {
            Item::Entry(entry) if entry.key == key => match value.take() {
                Some(new) => {
                    entry.value = new;
                    true
                }
                None => false,
            },
            Item::Entry(_) | Item::Comment(_) => true,
        });
        if let Some(value) = value {
            self.items.push(Item::Entry(Entry { key: key.to_owned(), merge: false, value, at: Position::default() }));
        }
    }

    /// Takes every entry of `key` out and returns the first one's value.
    pub fn remove(&mut self, key: &str) -> Option<Node> {
        let mut taken = None;
        let mut kept = Vec::with_capacity(self.items.len());
        for item in self.items.drain(..) {
            match item {
                Item::Entry(entry) if entry.key == key => {
                    taken.get_or_insert(entry.value);
                }
                Item::Entry(_) | Item::Comment(_) => kept.push(item),
            }
        }
        self.items = kept;
        taken
    }

    /// One compact JSON object, deterministic to the byte, no line break at the end; comments go.
    pub fn to_json_line(&self) -> Result<Plaintext, Error> {
        crate::format::json::emit_compact(self)
    }

    /// One YAML document that Kubernetes reads back as this mapping, strings double-quoted; comments go.
    pub fn to_yaml_document(&self) -> Result<Plaintext, Error> {
        crate::format::yaml::emit_manifest(self)
    }

    /// A second mapping with the same values, wiped like this one.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let copy = |item: &Item| match item {
            Item::Entry(entry) => Item::Entry(Entry {
                key: entry.key.clone(),
                merge: entry.merge,
                value: entry.value.duplicate(),
                at: entry.at,
            }),
            Item::Comment(comment) => Item::Comment(comment.duplicate()),
        };
        Self { items: self.items.iter().map(copy).collect() }
    }
}
