//! From sealed to opened: the data key, every value, the MAC.
//!
//! Nothing leaves a [`Sealed`] before all of it decrypted and the MAC matched; there is no way to
//! skip that, and no way to see half of a file.

use crate::error::{Error, KeyReport, MacProblem, ValueProblem, shown};
use crate::format::{Format, binary, dotenv, ini, json, yaml};
use crate::key::{NotOpened, shamir};
use crate::mac::Mac;
use crate::metadata::{Metadata, Recipient, RecipientKind};
use crate::opener::Opener;
use crate::plaintext::Plaintext;
use crate::sealing::Selection;
use crate::select::{CIPHERTEXT_PREFIX, Reach, Rule};
use crate::tree::{Branch, Comment, Element, Entry, Item, Leaf, Node, Origin, Position, Scalar, Tree};
use crate::value::{Cipher, Decrypted};
use crate::wrapping::DataKey;

/// A file with a `sops` block: parsed, nothing decrypted. Only [`crate::Document::parse`] makes one.
pub struct Sealed {
    tree: Tree,
    metadata: Metadata,
}

impl Sealed {
    /// A tree whose block was taken out of it.
    pub(crate) fn new(tree: Tree, metadata: Metadata) -> Self {
        Self { tree, metadata }
    }

    /// The documents as they stand in the file, without the `sops` block: encrypted leaves are text.
    pub fn documents(&self) -> &[Branch] {
        &self.tree.documents
    }

    /// Everyone the file is encrypted to, key groups in order.
    pub fn recipients(&self) -> impl Iterator<Item = &Recipient> {
        self.metadata.groups.iter().flatten()
    }

    /// The key groups: one, or several that hold a part of the data key each.
    pub fn groups(&self) -> &[Vec<Recipient>] {
        &self.metadata.groups
    }

    /// How many of several key groups are needed; 0 where the file does not say. Without a meaning
    /// where there is one group.
    pub fn threshold(&self) -> usize {
        self.metadata.threshold
    }

    /// Whether the MAC covers encrypted values alone: then everything else in the file may have been
    /// changed by anybody.
    pub fn mac_only_encrypted(&self) -> bool {
        self.metadata.mac_only_encrypted
    }

    /// Which leaves are encrypted, as the file says it: what goes back to ciphertext keeps it.
    pub fn selection(&self) -> Selection {
        Selection::of_file(&self.metadata)
    }

    /// Recovers the data key, decrypts every selected value and compares the MAC, in constant time
    /// and always.
    ///
    /// # Errors
    /// [`Error::Stopped`] where nobody waits for the data key any more; else in this order, as the `sops` program:
    /// [`Error::NoKey`], [`Error::TooFewParts`] and [`Error::Parts`] for the data key, [`Error::Metadata`] for a pattern that costs too much,
    /// [`Error::Value`] for the first value that does not decrypt, [`Error::Mac`].
    pub fn open<'a>(self, opener: impl Into<Opener<'a>>) -> Result<Opened, Error> {
        self.open_with_key(opener).map(|(opened, _)| opened)
    }

    /// As [`Self::open`], and keeps the data key for what goes back to ciphertext: it comes only with a file whose MAC
    /// matched.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with_key<'a>(self, opener: impl Into<Opener<'a>>) -> Result<(Opened, DataKey), Error> {
        let data_key = DataKey::new(data_key(&self.metadata, opener.into())?).ok_or(WRONG_LENGTH)?;
        self.open_under(data_key)
    }

    /// Decrypts and compares, in this order.
    pub(crate) fn open_under(self, data_key: DataKey) -> Result<(Opened, DataKey), Error> {
        let Self { mut tree, metadata } = self;
        let cipher = Cipher::new(data_key.plaintext()).ok_or(WRONG_LENGTH)?;
        let computed = open_documents(&mut tree.documents, &cipher, &metadata.rule, metadata.mac_only_encrypted)?;
        if metadata.mac.is_empty() {
            return Err(Error::Mac(MacProblem::Absent));
        }
        match cipher.decrypt(metadata.mac.as_bytes(), metadata.last_modified.as_bytes()) {
            Ok(Decrypted::Value(Scalar::Text(written))) if computed.matches(&written) => {
                Ok((Opened { tree }, data_key))
            }
            Ok(_) => Err(Error::Mac(MacProblem::Mismatch)),
            Err(_) => Err(Error::Mac(MacProblem::Unreadable)),
        }
    }
}

const WRONG_LENGTH: Error = Error::Parts { problem: "is not 32 bytes long" };

/// Decrypts every selected value in place; the MAC that all of them should have.
pub(crate) fn open_documents(
    documents: &mut [Branch],
    cipher: &Cipher,
    rule: &Rule,
    mac_only_encrypted: bool,
) -> Result<Mac, Error> {
    let mut walk = Walk {
        cipher,
        rule,
        mac: if mac_only_encrypted { Mac::over_encrypted() } else { Mac::over_all() },
        only_encrypted: mac_only_encrypted,
        path: Path::default(),
    };
    let walked = documents.iter_mut().try_for_each(|document| walk.branch(document, Reach::Outside));
    rule.check_exhausted()?;
    walked?;
    Ok(walk.mac)
}

/// A file whose MAC matched (or which was encrypted as a whole and authenticated by its envelope).
pub struct Opened {
    tree: Tree,
}

/// Whether decrypted leaves are written or described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reveal {
    /// `<redacted str, 12 bytes>`.
    Redacted,
    /// The values.
    Values,
}

impl Opened {
    /// A tree out of a file encrypted as a whole, which its envelope authenticated. Every leaf of it is
    /// secret, so the caller has marked each as decrypted.
    pub(crate) fn from_envelope(tree: Tree) -> Self {
        Self { tree }
    }

    /// The opened documents.
    pub fn documents(&self) -> &[Branch] {
        &self.tree.documents
    }

    /// All documents in the given format. JSON: one document a line where there are several.
    ///
    /// # Errors
    /// [`Error::Emit`] where the format cannot hold the tree.
    pub fn emit(&self, format: Format, reveal: Reveal) -> Result<Plaintext, Error> {
        let redacted;
        let tree = match reveal {
            Reveal::Values => &self.tree,
            Reveal::Redacted => {
                redacted = Tree { documents: self.tree.documents.iter().map(redact_branch).collect() };
                &redacted
            }
        };
        match format {
            Format::Yaml => yaml::emit(tree),
            Format::Json => json::emit(tree),
            Format::Dotenv => dotenv::emit(tree),
            Format::Ini => ini::emit(tree),
            Format::Binary => binary::emit(tree),
        }
    }
}

impl Opened {
    /// All documents as the `sops` program decrypts a file of this format, to the byte. A comment of YAML that stands in
    /// another column than in the file belongs to something else for `sops`, and one behind a value may stay there.
    ///
    /// # Errors
    /// [`Error::Emit`] where the format cannot hold the tree, and where what `sops` writes depends on more than the tree
    /// tells.
    pub fn emit_verbatim(&self, format: Format) -> Result<Plaintext, Error> {
        match format {
            Format::Yaml => yaml::emit_verbatim(&self.tree),
            Format::Json => json::emit_verbatim(&self.tree),
            Format::Ini => ini::emit_verbatim(&self.tree),
            Format::Dotenv | Format::Binary => self.emit(format, Reveal::Values),
        }
    }
}

/// The data key: of the one group, or combined from the parts of several.
fn data_key(metadata: &Metadata, opener: Opener<'_>) -> Result<Plaintext, Error> {
    let mut damaged = Vec::new();
    let report = |damaged| {
        Box::new(KeyReport {
            recipients: metadata.groups.iter().flatten().map(Recipient::to_string).collect(),
            identities: opener.keyring().describe(),
            damaged,
        })
    };
    if let [group] = metadata.groups.as_slice() {
        return unwrap_any(group, opener, &mut damaged)?.ok_or_else(|| Error::NoKey(report(damaged)));
    }
    // No early stop, as in SOPS: more parts than the threshold must agree as well.
    let parts = metadata.groups.iter().map(|group| unwrap_any(group, opener, &mut damaged));
    let parts: Vec<Plaintext> = parts.filter_map(Result::transpose).collect::<Result<_, _>>()?;
    if parts.is_empty() {
        return Err(Error::NoKey(report(damaged)));
    }
    let need = metadata.threshold.max(FEWEST_PARTS);
    if parts.len() < need {
        return Err(Error::TooFewParts { have: parts.len(), need, report: report(damaged) });
    }
    shamir::combine(&parts)
}

/// The first copy of a group's key that opens: age before OpenPGP, and in each kind first those
/// whose public part is at hand, because trying the others costs a key exchange each. The name in
/// the file does not have to be the right one, so the others are tried as well.
///
/// What was unwrapped before is looked up in its turn and not first: which copy opens a file must not depend on
/// what was opened earlier.
fn unwrap_any(group: &[Recipient], opener: Opener<'_>, damaged: &mut Vec<String>) -> Result<Option<Plaintext>, Error> {
    let keys = opener.keyring();
    for kind in [RecipientKind::Age, RecipientKind::Pgp] {
        for at_hand in [true, false] {
            for recipient in group.iter().filter(|one| one.kind == kind && keys.matches(one) == at_hand) {
                match opener.unwrap(recipient) {
                    Ok(key) => return Ok(Some(key)),
                    Err(NotOpened::Stopped) => return Err(Error::Stopped),
                    Err(NotOpened::Damaged) => damaged.push(recipient.to_string()),
                    Err(NotOpened::NoIdentity) => {}
                }
            }
        }
    }
    Ok(None)
}

/// SOPS combines no single part, whatever the threshold says.
const FEWEST_PARTS: usize = 2;

/// One pass over the tree in file order: decrypts in place and hashes. The parsers' bound on nesting
/// bounds the recursion.
struct Walk<'a> {
    cipher: &'a Cipher,
    rule: &'a Rule,
    mac: Mac,
    only_encrypted: bool,
    path: Path,
}

impl Walk<'_> {
    fn branch(&mut self, branch: &mut Branch, reach: Reach) -> Result<(), Error> {
        // Comments have no position of their own: the entry before, or the first one.
        let mut near = branch.entries().next().map(|entry| entry.at).unwrap_or_default();
        for item in &mut branch.items {
            match item {
                Item::Comment(comment) => self.comment(comment, reach, near)?,
                Item::Entry(Entry { key, value, at, .. }) => {
                    near = *at;
                    let reach = self.rule.below(key, reach);
                    self.path.push(key);
                    match value {
                        Node::Leaf(leaf) => {
                            if self.leaf(leaf, reach, *at)?.is_some() {
                                // A comment's ciphertext as a value: SOPS would hand out no value at all.
                                return Err(self.path.refused(*at, ValueProblem::WrongType));
                            }
                        }
                        Node::Map(branch) => self.branch(branch, reach)?,
                        Node::List(elements) => self.list(elements, reach, *at)?,
                    }
                    self.path.pop();
                }
            }
        }
        Ok(())
    }

    /// List indexes are no part of the path. `at` is the key that holds the list.
    fn list(&mut self, elements: &mut [Element], reach: Reach, at: Position) -> Result<(), Error> {
        for element in elements {
            match element {
                Element::Comment(comment) => self.comment(comment, reach, at)?,
                Element::Node(Node::Map(branch)) => self.branch(branch, reach)?,
                Element::Node(Node::List(elements)) => self.list(elements, reach, at)?,
                Element::Node(Node::Leaf(leaf)) => {
                    // SOPS writes an encrypted comment in a list as an element; it is no value.
                    if let Some(comment) = self.leaf(leaf, reach, at)? {
                        *element = Element::Comment(comment);
                    }
                }
            }
        }
        Ok(())
    }

    /// Decrypts a selected leaf in place, and hashes it. A comment in a value's place is returned,
    /// not hashed.
    fn leaf(&mut self, leaf: &mut Leaf, reach: Reach, at: Position) -> Result<Option<Comment>, Error> {
        let selected = match &leaf.scalar {
            Scalar::Null => return Ok(None),
            // SOPS cannot walk over it, encrypted or not.
            Scalar::Uint(_) => return Err(self.path.refused(at, ValueProblem::Unhashable)),
            Scalar::Text(text) => self.rule.selects(reach, text.bytes()),
            Scalar::Bool(_) | Scalar::Int(_) | Scalar::Float(_) | Scalar::Time(_) => {
                match self.rule.selects_other(reach) {
                    Some(true) => return Err(self.path.refused(at, ValueProblem::NotText)),
                    Some(false) | None => false,
                }
            }
        };
        if let (true, Scalar::Text(text)) = (selected, &leaf.scalar) {
            // An empty text is never encrypted.
            if !text.is_empty() {
                match self.cipher.decrypt(text.bytes(), self.path.additional()) {
                    Ok(Decrypted::Value(scalar)) => *leaf = Leaf { scalar, origin: Origin::Decrypted },
                    Ok(Decrypted::Comment(text)) => return Ok(Some(Comment { text, origin: Origin::Decrypted })),
                    Err(ValueProblem::Malformed) if !text.starts_with(CIPHERTEXT_PREFIX) => {
                        return Err(self.path.refused(at, ValueProblem::Clear));
                    }
                    Err(problem) => return Err(self.path.refused(at, problem)),
                }
            }
        }
        if selected || !self.only_encrypted {
            self.mac.add(&leaf.scalar);
        }
        Ok(None)
    }

    /// Decrypts a comment where that works. Where not, it is kept as it stands, as in SOPS: old
    /// versions did not encrypt comments, and no comment is in the MAC. Authentic ciphertext of
    /// another type is refused: SOPS would take it for a value and count it in the MAC.
    fn comment(&mut self, comment: &mut Comment, reach: Reach, near: Position) -> Result<(), Error> {
        if !comment.text.starts_with(CIPHERTEXT_PREFIX) || self.rule.selects_other(reach) == Some(false) {
            return Ok(());
        }
        match self.cipher.decrypt(comment.text.bytes(), self.path.additional()) {
            Ok(Decrypted::Comment(text)) => *comment = Comment { text, origin: Origin::Decrypted },
            Ok(Decrypted::Value(_)) | Err(ValueProblem::UnknownType | ValueProblem::WrongType) => {
                return Err(self.path.refused(near, ValueProblem::WrongType));
            }
            Err(
                ValueProblem::Clear
                | ValueProblem::NotText
                | ValueProblem::Malformed
                | ValueProblem::NonceLength
                | ValueProblem::Unauthentic
                | ValueProblem::Uncovered
                | ValueProblem::Merged
                | ValueProblem::Unhashable,
            ) => {}
        }
        Ok(())
    }
}

/// The keys from a document's root to here.
#[derive(Default)]
pub(crate) struct Path {
    /// Each key with a colon behind it.
    joined: String,
    /// Where each key begins.
    starts: Vec<usize>,
}

impl Path {
    pub(crate) fn push(&mut self, key: &str) {
        self.starts.push(self.joined.len());
        self.joined.push_str(key);
        self.joined.push(':');
    }

    pub(crate) fn pop(&mut self) {
        self.joined.truncate(self.starts.pop().unwrap_or_default());
    }

    /// The additional data of a value here; the root's is a lone colon.
    pub(crate) fn additional(&self) -> &[u8] {
        if self.joined.is_empty() { b":" } else { self.joined.as_bytes() }
    }

    pub(crate) fn refused(&self, at: Position, problem: ValueProblem) -> Error {
        Error::Value { path: shown(&self.keys().collect::<Vec<_>>().join(".")), at, problem }
    }

    /// One after the other.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        let ends = self.starts.iter().skip(1).copied().chain([self.joined.len()]);
        self.starts.iter().zip(ends).filter_map(|(start, end)| self.joined.get(*start..end - 1))
    }
}

/// The same mapping with a description in each decrypted place.
fn redact_branch(branch: &Branch) -> Branch {
    let redact = |item: &Item| match item {
        Item::Comment(comment) => Item::Comment(redact_comment(comment)),
        Item::Entry(Entry { key, merge, value, at }) => {
            Item::Entry(Entry { key: key.clone(), merge: *merge, value: redact_node(value), at: *at })
        }
    };
    Branch { items: branch.items.iter().map(redact).collect() }
}

fn redact_node(node: &Node) -> Node {
    match node {
        Node::Map(branch) => Node::Map(redact_branch(branch)),
        Node::List(elements) => Node::List(
            elements
                .iter()
                .map(|element| match element {
                    Element::Comment(comment) => Element::Comment(redact_comment(comment)),
                    Element::Node(node) => Element::Node(redact_node(node)),
                })
                .collect(),
        ),
        Node::Leaf(leaf) => match (leaf.origin, &leaf.scalar) {
            (Origin::Clear, _) => Node::Leaf(leaf.duplicate()),
            (Origin::Decrypted, Scalar::Text(text)) => Node::text(format!("<redacted str, {} bytes>", text.len())),
            (Origin::Decrypted, other) => Node::text(format!("<redacted {}>", other.type_name())),
        },
    }
}

fn redact_comment(comment: &Comment) -> Comment {
    match comment.origin {
        Origin::Clear => comment.duplicate(),
        Origin::Decrypted => Comment { text: Plaintext::new(b" <redacted comment>".to_vec()), origin: Origin::Clear },
    }
}

#[cfg(test)]
mod tests;
