//! Back to ciphertext: a document whose one recipient is a Vault transit key, for a reader that asks there.
//!
//! ```text
//! Sealed --selection--> Selection                          the file's own rule
//! sealed document + data key --Selection::repoint--> Branch    values stay as they are, other recipients
//! opened document + data key --Selection::seal-----> Branch    values encrypted anew
//! ```
//!
//! Either way the document gets a block with one `hc_vault` stanza, which says where the data key is asked for, and a
//! MAC of its own: the real `sops` opens it. Nothing is random and no clock is read, so equal input gives equal bytes.
//!
//! The reader may bring the document into another order and drop its comments (kustomize does both), so comments are
//! left out here, and rules that follow comments are refused.

use std::collections::HashSet;

use zeroize::Zeroizing;

use crate::error::{EmitProblem, Error, ValueProblem, shown};
use crate::format::Format;
use crate::mac::{self, Mac};
use crate::metadata::{BLOCK, Metadata, RecipientKind};
use crate::opening::{Path, open_documents};
use crate::plaintext::Plaintext;
use crate::select::{Reach, Rule};
use crate::tree::{Branch, Element, Entry, Item, Leaf, Node, Origin, PUBLIC_FIELDS, Position, Scalar};
use crate::value::Cipher;
use crate::wrapping::{DataKey, keyed_hash, length};

/// Where a reader asks for the data key, and what it shows there: the fields of `sops.hc_vault[0]`.
#[derive(Clone, Copy, Debug)]
pub struct Stanza<'a> {
    /// `vault_address`: `https://host:port`.
    pub address: &'a str,
    /// `engine_path`: where the transit engine is mounted.
    pub engine: &'a str,
    /// `key_name`.
    pub key: &'a str,
    /// `enc`: the wrapped data key, as the engine will be asked to decrypt it.
    pub enc: &'a str,
}

/// Which leaves of a document are encrypted, with what the MAC hangs on: a file's own rule, or one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The rule's field and text; `None` for the default of SOPS.
    rule: Option<(&'static str, String)>,
    mac_only_encrypted: bool,
    last_modified: String,
}

impl Selection {
    /// For a Secret: everything below `data` and `stringData`.
    pub fn of_secret() -> Self {
        Self::of_ours("encrypted_regex", "^(data|stringData)$")
    }

    /// For any other object: everything but what names it. A key `metadata` or `kind` deeper in the object counts as
    /// well, so [`Self::seal`] refuses an object with an encrypted value below one.
    pub fn of_object() -> Self {
        Self::of_ours("unencrypted_regex", "^(apiVersion|kind|metadata)$")
    }

    /// For an object in which [`Self::of_object`] would leave too much clear: everything below the fields that it has at
    /// its root, but for `apiVersion`, `kind` and `metadata`. Below `metadata`, a key of the same name as a field counts
    /// as well.
    pub fn of_fields(document: &Branch) -> Self {
        let fields = document.entries().map(|entry| entry.key.as_str());
        let named: Vec<String> =
            fields.filter(|field| !["apiVersion", "kind", "metadata"].contains(field)).map(literal).collect();
        Self::of_ours("encrypted_regex", &format!("^({})$", named.join("|")))
    }

    fn of_ours(field: &'static str, text: &str) -> Self {
        Self {
            rule: Some((field, text.to_owned())),
            mac_only_encrypted: false,
            last_modified: CONSTANT_TIME.to_owned(),
        }
    }

    /// As a file's block says it.
    pub(crate) fn of_file(metadata: &Metadata) -> Self {
        Self {
            rule: metadata.stated_rule.clone(),
            mac_only_encrypted: metadata.mac_only_encrypted,
            last_modified: metadata.last_modified.clone(),
        }
    }

    /// Whether every reader finds the same leaves. Not so with a rule that follows comments: kustomize drops them, and
    /// its controller then takes ciphertext for clear text, or the other way round.
    pub fn is_portable(&self) -> bool {
        !self.rule.as_ref().is_some_and(|(field, _)| field.ends_with("_comment_regex"))
    }

    /// Whether a leaf at this path of mapping keys is left in the clear, so that one may be added there. `false` where
    /// the rule is not portable.
    pub fn leaves_clear(&self, path: &[&str]) -> bool {
        let Ok(rule) = self.rule() else { return false };
        let reach = path.iter().fold(Reach::Outside, |reach, key| rule.below(key, reach));
        rule.check_exhausted().is_ok() && rule.selects_other(reach) == Some(false)
    }

    /// Gives a sealed document another recipient: its ciphertext stays as it is, and its block names the stanza alone.
    /// Key groups and their threshold are gone; rule and `lastmodified` stay as they stood; the MAC is made for this
    /// document. Clear values may have been added where [`Self::leaves_clear`].
    ///
    /// The document has no block, and its merge keys are resolved. It is decrypted for a look, as SOPS would.
    ///
    /// # Errors
    /// [`Error::Value`] for the first selected value that is clear or does not decrypt, or that stands below a merge
    /// key; [`Error::DuplicateKey`]; [`Error::Metadata`] for a rule that is not portable or too costly, and for a block.
    pub fn repoint(&self, sealed: Branch, data_key: &DataKey, stanza: &Stanza<'_>) -> Result<Branch, Error> {
        refuse_block(&sealed)?;
        let (rule, cipher) = (self.rule()?, cipher(data_key));
        let mut opened = [sealed.duplicate()];
        let mac = open_documents(&mut opened, &cipher, &rule, self.mac_only_encrypted)?;
        let [opened] = &opened;
        let kept = values_of(sealed, opened, &mut Path::default())?;
        Ok(self.with_block(kept, mac, &cipher, data_key, stanza))
    }

    /// Encrypts an opened document anew, under a data key that belongs to this very content (see
    /// [`crate::WrappingKeys::data_key`]). Every selected value becomes ciphertext but empty texts and nulls, as in
    /// SOPS; what is not selected stands in the clear.
    ///
    /// # Errors
    /// [`Error::Value`] for a value that was encrypted and is not selected here, unless it stands at the root below what
    /// names and routes an object (`metadata`, `kind`, ..); for one below a merge key; for an integer that SOPS cannot
    /// hold. [`Error::Emit`] for a value that JSON cannot hold: the reader makes JSON of it. [`Error::DuplicateKey`] and
    /// [`Error::Metadata`] as [`Self::repoint`].
    pub fn seal(&self, opened: &Branch, data_key: &DataKey, stanza: &Stanza<'_>) -> Result<Branch, Error> {
        refuse_block(opened)?;
        let (rule, cipher) = (self.rule()?, cipher(data_key));
        let mut sealing = Sealing {
            cipher: &cipher,
            data_key,
            rule: &rule,
            only_encrypted: self.mac_only_encrypted,
            mac: if self.mac_only_encrypted { Mac::over_encrypted() } else { Mac::over_all() },
            path: Path::default(),
            place: Vec::new(),
            number: Zeroizing::new(String::with_capacity(mac::LONGEST_NUMBER)),
        };
        let sealed = sealing.branch(opened, Reach::Outside);
        rule.check_exhausted()?;
        let (sealed, mac) = (sealed?, sealing.mac);
        Ok(self.with_block(sealed, mac, &cipher, data_key, stanza))
    }

    /// The rule at work. Each document gets its own: a pattern may cost as much as one document needs.
    fn rule(&self) -> Result<Rule, Error> {
        let Some((field, text)) = &self.rule else { return Ok(Rule::default_suffix()) };
        let refused = |problem| Error::Metadata { field: (*field).to_owned(), problem };
        if !self.is_portable() {
            return Err(refused("follows comments, which kustomize drops"));
        }
        Rule::stated(field, text).map_err(refused)
    }

    /// The document with its block at the end.
    fn with_block(
        &self,
        mut document: Branch,
        mac: Mac,
        cipher: &Cipher,
        data_key: &DataKey,
        stanza: &Stanza<'_>,
    ) -> Branch {
        let hex = mac.into_hex();
        let nonce = nonce(data_key, MAC_NONCE, self.last_modified.as_bytes(), "str", hex.as_bytes());
        let mac = cipher.encrypt(hex.as_bytes(), "str", self.last_modified.as_bytes(), &nonce);
        let text = |name: &str, text: &str| (name.to_owned(), Node::text(text));
        let recipient = Branch::from_entries([
            text("vault_address", stanza.address),
            text("engine_path", stanza.engine),
            text("key_name", stanza.key),
            text("created_at", CONSTANT_TIME),
            text("enc", stanza.enc),
        ]);
        let recipients = Node::List(vec![Element::Node(Node::Map(recipient))]);
        let mut block = Branch::from_entries([(RecipientKind::VaultTransit.field().to_owned(), recipients)]);
        block.set("lastmodified", Node::text(self.last_modified.as_str()));
        block.set("mac", Node::text(mac));
        if let Some((field, text)) = &self.rule {
            block.set(field, Node::text(text.as_str()));
        }
        if self.mac_only_encrypted {
            block.set("mac_only_encrypted", Node::Leaf(Leaf::clear(Scalar::Bool(true))));
        }
        block.set("version", Node::text(VERSION));
        document.set(BLOCK, Node::Map(block));
        document
    }
}

/// A pattern of Go's that matches this text.
fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_punctuation() {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

fn refuse_block(document: &Branch) -> Result<(), Error> {
    match document.get(BLOCK) {
        Some(_) => Err(Error::Metadata { field: String::new(), problem: "stands in a document that gets one" }),
        None => Ok(()),
    }
}

fn cipher(data_key: &DataKey) -> Cipher {
    Cipher::new(data_key.plaintext()).expect("a data key has 32 bytes")
}

/// The sealed document without comments: also without those that stand encrypted in a list, which only `opened` tells
/// from values. Both have the same shape.
fn values_of(sealed: Branch, opened: &Branch, path: &mut Path) -> Result<Branch, Error> {
    refuse_second(&sealed)?;
    let mut items = Vec::with_capacity(sealed.items.len());
    let entries = sealed.items.into_iter().filter_map(|item| match item {
        Item::Entry(entry) => Some(entry),
        Item::Comment(_) => None,
    });
    for (sealed, opened) in entries.zip(opened.entries()) {
        path.push(&sealed.key);
        refuse_merge(&sealed, path)?;
        let value = values_of_node(sealed.value, &opened.value, path)?;
        path.pop();
        items.push(Item::Entry(Entry { value, ..sealed }));
    }
    Ok(Branch { items })
}

fn values_of_node(sealed: Node, opened: &Node, path: &mut Path) -> Result<Node, Error> {
    Ok(match (sealed, opened) {
        (Node::Map(sealed), Node::Map(opened)) => Node::Map(values_of(sealed, opened, path)?),
        (Node::List(sealed), Node::List(opened)) => {
            let mut elements = Vec::with_capacity(sealed.len());
            for pair in sealed.into_iter().zip(opened) {
                if let (Element::Node(sealed), Element::Node(opened)) = pair {
                    elements.push(Element::Node(values_of_node(sealed, opened, path)?));
                }
            }
            Node::List(elements)
        }
        (sealed @ (Node::Leaf(_) | Node::Map(_) | Node::List(_)), _) => sealed,
    })
}

fn refuse_merge(entry: &Entry, path: &Path) -> Result<(), Error> {
    if entry.merge { Err(path.refused(entry.at, ValueProblem::Merged)) } else { Ok(()) }
}

/// JSON of SOPS may hold a key twice, and readers disagree on which one counts.
fn refuse_second(branch: &Branch) -> Result<(), Error> {
    let mut seen = HashSet::new();
    match branch.entries().find(|entry| !seen.insert(&entry.key)) {
        Some(entry) => Err(Error::DuplicateKey { at: entry.at, key: shown(&entry.key) }),
        None => Ok(()),
    }
}

/// One pass over an opened tree: encrypts and hashes. The parsers' bound on nesting bounds the recursion.
struct Sealing<'a> {
    cipher: &'a Cipher,
    data_key: &'a DataKey,
    rule: &'a Rule,
    only_encrypted: bool,
    mac: Mac,
    path: Path,
    /// Keys and list indexes from the root to here, no two places alike.
    place: Vec<u8>,
    number: Zeroizing<String>,
}

impl Sealing<'_> {
    fn branch(&mut self, opened: &Branch, reach: Reach) -> Result<Branch, Error> {
        refuse_second(opened)?;
        let mut items = Vec::with_capacity(opened.items.len());
        for entry in opened.entries() {
            let outside = self.place.len();
            self.place.push(IN_MAPPING);
            self.place.extend(length(entry.key.as_bytes()));
            self.place.extend(entry.key.as_bytes());
            self.path.push(&entry.key);
            refuse_merge(entry, &self.path)?;
            let value = self.node(&entry.value, self.rule.below(&entry.key, reach), entry.at)?;
            self.path.pop();
            self.place.truncate(outside);
            items.push(Item::Entry(Entry { key: entry.key.clone(), merge: false, value, at: entry.at }));
        }
        Ok(Branch { items })
    }

    /// `at` is the key that holds the value.
    fn node(&mut self, opened: &Node, reach: Reach, at: Position) -> Result<Node, Error> {
        Ok(match opened {
            Node::Map(branch) => Node::Map(self.branch(branch, reach)?),
            Node::Leaf(leaf) => Node::Leaf(self.leaf(leaf, reach, at)?),
            Node::List(elements) => {
                let mut sealed = Vec::with_capacity(elements.len());
                for element in elements {
                    let Element::Node(node) = element else { continue };
                    let outside = self.place.len();
                    self.place.push(IN_LIST);
                    self.place.extend((sealed.len() as u64).to_be_bytes());
                    sealed.push(Element::Node(self.node(node, reach, at)?));
                    self.place.truncate(outside);
                }
                Node::List(sealed)
            }
        })
    }

    fn leaf(&mut self, leaf: &Leaf, reach: Reach, at: Position) -> Result<Leaf, Error> {
        let selected = self.rule.selects_other(reach) == Some(true);
        if selected || !self.only_encrypted {
            self.mac.add(&leaf.scalar);
        }
        match &leaf.scalar {
            Scalar::Null => return Ok(leaf.duplicate()),
            Scalar::Uint(_) => return Err(self.path.refused(at, ValueProblem::Unhashable)),
            Scalar::Text(text) if !text.is_utf8() => return Err(self.unwritable(EmitProblem::NotText)),
            Scalar::Float(number) if !number.is_finite() => return Err(self.unwritable(EmitProblem::Number)),
            Scalar::Text(text) if selected && text.is_empty() => return Ok(Leaf::clear(leaf.scalar.duplicate())),
            Scalar::Text(_) | Scalar::Bool(_) | Scalar::Int(_) | Scalar::Float(_) | Scalar::Time(_) => {}
        }
        if !selected {
            return match leaf.origin {
                Origin::Decrypted if !self.is_public() => Err(self.path.refused(at, ValueProblem::Uncovered)),
                Origin::Decrypted | Origin::Clear => Ok(leaf.duplicate()),
            };
        }
        let type_name = leaf.scalar.type_name();
        let bytes = mac::form(&leaf.scalar, &mut self.number);
        let nonce = nonce(self.data_key, VALUE_NONCE, &self.place, type_name, bytes);
        let ciphertext = self.cipher.encrypt(bytes, type_name, self.path.additional(), &nonce);
        Ok(Leaf::clear(Scalar::Text(Plaintext::new(ciphertext.into_bytes()))))
    }

    /// Whether this place names or routes an object.
    fn is_public(&self) -> bool {
        self.path.keys().next().is_some_and(|first| PUBLIC_FIELDS.contains(&first))
    }

    fn unwritable(&self, problem: EmitProblem) -> Error {
        Error::Emit { format: Format::Json, path: self.path.keys().collect::<Vec<_>>().join("."), problem }
    }
}

/// A nonce that is a keyed hash of where a value stands and of the value: another value, or another place, has
/// another one.
fn nonce(data_key: &DataKey, label: &str, place: &[u8], type_name: &str, bytes: &[u8]) -> [u8; 32] {
    let parts = [label.as_bytes(), &length(place), place, &length(type_name.as_bytes()), type_name.as_bytes(), bytes];
    *keyed_hash(data_key.plaintext().bytes(), &parts)
}

/// What a step of a place begins with.
const IN_MAPPING: u8 = b'k';
const IN_LIST: u8 = b'i';

/// Labels of one length, so that neither is the beginning of the other.
const VALUE_NONCE: &str = "regent sealing v1 nonce of value";
const MAC_NONCE: &str = "regent sealing v1 nonce of a mac";

/// For `created_at`, and for `lastmodified` where no file states one: SOPS wants a time, and there is no clock here.
const CONSTANT_TIME: &str = "2026-01-01T00:00:00Z";

/// The version whose form the block has.
const VERSION: &str = "3.11.0";

#[cfg(test)]
mod tests;
