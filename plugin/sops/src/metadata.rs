//! The `sops` block: who a file is encrypted to, what is encrypted, and the MAC.
//!
//! Every version of SOPS wrote it a little differently. What any of them reads is read here, as far
//! as all that read it agree on the meaning: lists that are null, empty or missing, a lone mapping
//! for a list, numbers and truth values as text, field names in any case, times quoted or not.
//! Unknown fields are ignored. Errors name the field.

use std::collections::BTreeMap;

use crate::error::{Bound, Error, shown};
use crate::format::Format;
use crate::limits::Limits;
use crate::rfc3339::Moment;
use crate::select::Rule;
use crate::tree::{Branch, Element, Entry, Item, Leaf, Node, Position, Scalar, Tree};

/// Someone whom a document is encrypted to.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// Which kind of key.
    pub kind: RecipientKind,
    /// What the document calls it: an age recipient, a fingerprint, an ARN, a URI.
    pub name: String,
    /// The wrapped data key, as it stands in the file.
    pub(crate) enc: String,
}

impl Recipient {
    /// The data key as it is wrapped for this one (`enc`), unopened.
    pub fn wrapped(&self) -> &str {
        &self.enc
    }
}

/// Kinds of recipient, by the field of the `sops` block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientKind {
    /// `age`: X25519, SSH keys, plugins, post-quantum.
    Age,
    /// `pgp`.
    Pgp,
    /// `kms`: AWS KMS.
    AwsKms,
    /// `gcp_kms`.
    GcpKms,
    /// `azure_kv`.
    AzureKeyVault,
    /// `hc_vault`: the transit engine of Vault or `OpenBao`.
    VaultTransit,
    /// `hckms`: Huawei Cloud.
    HuaweiKms,
}

impl RecipientKind {
    /// Every kind, in the order in which keys are tried: those that need no network first.
    pub const ALL: [Self; 7] =
        [Self::Age, Self::Pgp, Self::AwsKms, Self::GcpKms, Self::HuaweiKms, Self::AzureKeyVault, Self::VaultTransit];

    /// The field of the `sops` block, which is also what `sops --decryption-order` takes.
    pub fn field(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Pgp => "pgp",
            Self::AwsKms => "kms",
            Self::GcpKms => "gcp_kms",
            Self::AzureKeyVault => "azure_kv",
            Self::VaultTransit => "hc_vault",
            Self::HuaweiKms => "hckms",
        }
    }
}

/// Kind and name for a sentence: `age age1...`, `kms arn:...`; one line, and cut where a hostile
/// file names something very long.
impl std::fmt::Display for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.field(), shown(&self.name))
    }
}

/// The parsed block.
pub(crate) struct Metadata {
    /// Key groups; in each, recipients in the order in which they are tried.
    pub(crate) groups: Vec<Vec<Recipient>>,
    /// Shamir threshold, 0 where not set.
    pub(crate) threshold: usize,
    /// `lastmodified`, formatted as the MAC's additional data.
    pub(crate) last_modified: String,
    /// `mac`, empty where absent.
    pub(crate) mac: String,
    /// Which leaves are encrypted.
    pub(crate) rule: Rule,
    /// The rule's field and text as they stand, `None` where the file has none.
    pub(crate) stated_rule: Option<(&'static str, String)>,
    /// Whether the MAC covers encrypted leaves alone.
    pub(crate) mac_only_encrypted: bool,
}

/// Takes the block out of the tree (YAML: out of every document; the first one's counts).
/// `None` where there is none.
///
/// # Errors
/// [`Error::MetadataAbsent`] where a later YAML document has a block and the first has none, or an
/// empty one; [`Error::Metadata`] naming the field; [`Error::Limit`] for too many recipients.
pub(crate) fn take(tree: &mut Tree, format: Format, limits: &Limits) -> Result<Option<Metadata>, Error> {
    let mut documents = tree.documents.iter_mut();
    let first = match documents.next() {
        Some(document) => match format {
            Format::Yaml | Format::Json | Format::Binary => take_block(document)?,
            Format::Ini => take_block(document)?.map(unflatten_section).transpose()?,
            Format::Dotenv => take_prefixed(document)?,
        },
        None => None,
    };
    // What stands in a later document's copy is not looked at; only that it is one.
    let mut later = false;
    for document in documents {
        refuse_second_block(document)?;
        later |= document.remove(BLOCK).is_some();
    }
    match first {
        Some(block) => Metadata::read(&block, limits).map(Some),
        None if later => Err(Error::MetadataAbsent),
        None => Ok(None),
    }
}

impl Metadata {
    fn read(fields: &Branch, limits: &Limits) -> Result<Self, Error> {
        let block = Block { fields, path: String::new(), at: Position::default() };
        block.check_version()?;
        let last_modified = block.moment("lastmodified")?;
        let mut room = Room { limit: limits.recipients, taken: 0 };
        let flat = block.group(&mut room)?;
        let groups = if flat.is_empty() {
            // As in SOPS: `key_groups` counts only where no recipient stands directly in the block.
            let listed = block.list("key_groups")?;
            listed
                .iter()
                .map(|group| room.take(group.at).and_then(|()| group.group(&mut room)))
                .collect::<Result<_, _>>()?
        } else {
            vec![flat]
        };
        if groups.is_empty() {
            return Err(refused("", "names no key"));
        }
        let stated_rule = block.rule()?;
        let rule = match &stated_rule {
            None => Rule::default_suffix(),
            Some((field, text)) => Rule::stated(field, text).map_err(|problem| block.refused(field, problem))?,
        };
        Ok(Self {
            groups,
            threshold: block.count("shamir_threshold")?,
            last_modified,
            mac: block.text("mac")?.to_owned(),
            rule,
            stated_rule,
            mac_only_encrypted: block.flag("mac_only_encrypted")?,
        })
    }
}

/// A mapping of the block, or the block itself.
struct Block<'a> {
    fields: &'a Branch,
    /// Its path below `sops`, empty for the block itself.
    path: String,
    /// Where its key stands.
    at: Position,
}

impl<'a> Block<'a> {
    /// A field's entry; `None` where it is missing or null. Names count in any case, so two of them
    /// can be one field.
    fn get(&self, name: &str) -> Result<Option<&'a Entry>, Error> {
        let mut found = self.fields.entries().filter(|entry| entry.key.eq_ignore_ascii_case(name));
        let first = found.next();
        if found.next().is_some() {
            return Err(self.refused(name, "stands twice"));
        }
        Ok(first.filter(|entry| !matches!(&entry.value, Node::Leaf(Leaf { scalar: Scalar::Null, .. }))))
    }

    fn scalar(&self, name: &str) -> Result<Option<&'a Scalar>, Error> {
        match self.get(name)?.map(|entry| &entry.value) {
            Some(Node::Leaf(leaf)) => Ok(Some(&leaf.scalar)),
            Some(Node::Map(_) | Node::List(_)) => Err(self.refused(name, "must be a single value")),
            None => Ok(None),
        }
    }

    /// A text, empty where it is missing.
    fn text(&self, name: &str) -> Result<&'a str, Error> {
        match self.scalar(name)? {
            Some(Scalar::Text(text)) => text.text().ok_or_else(|| self.refused(name, "must be text")),
            Some(_) => Err(self.refused(name, "must be text")),
            None => Ok(""),
        }
    }

    /// A time, with or without quotes, as Go prints it in whole seconds.
    fn moment(&self, name: &str) -> Result<String, Error> {
        let text = match self.scalar(name)? {
            Some(Scalar::Time(time)) => time,
            Some(_) => self.text(name)?,
            None => return Err(self.refused(name, "is missing")),
        };
        let moment = Moment::parse(text).ok_or_else(|| self.refused(name, "must be an RFC 3339 time"))?;
        Ok(moment.to_seconds())
    }

    /// A number from 0: as integer, as float or as text of either; 0 where it is missing.
    fn count(&self, name: &str) -> Result<usize, Error> {
        let count = match self.scalar(name)? {
            None => return Ok(0),
            Some(Scalar::Int(number)) => usize::try_from(*number).ok(),
            Some(Scalar::Uint(number)) => usize::try_from(*number).ok(),
            Some(Scalar::Float(number)) => whole(*number),
            Some(Scalar::Text(text)) => match text.text() {
                Some("") => Some(0),
                Some(text) => text.parse().ok().or_else(|| text.parse().ok().and_then(whole)),
                None => None,
            },
            Some(Scalar::Null | Scalar::Bool(_) | Scalar::Time(_)) => None,
        };
        count.ok_or_else(|| self.refused(name, "must be a whole number"))
    }

    /// A truth value, also as text; false where it is missing.
    fn flag(&self, name: &str) -> Result<bool, Error> {
        match self.scalar(name)? {
            None => Ok(false),
            Some(Scalar::Bool(value)) => Ok(*value),
            Some(Scalar::Text(text)) if text.bytes() == b"true" => Ok(true),
            Some(Scalar::Text(text)) if text.is_empty() || text.bytes() == b"false" => Ok(false),
            Some(_) => Err(self.refused(name, "must be `true` or `false`")),
        }
    }

    /// A list of mappings. Null, an empty text and an empty mapping are empty lists; a lone mapping
    /// is a list of one.
    fn list(&self, name: &str) -> Result<Vec<Block<'a>>, Error> {
        let Some(Entry { value, at, .. }) = self.get(name)? else { return Ok(Vec::new()) };
        let inside = |index: usize, fields: &'a Branch| Block {
            fields,
            path: format!("{}[{index}]", self.path_of(name)),
            at: *at,
        };
        match value {
            Node::Map(fields) if fields.items.is_empty() => Ok(Vec::new()),
            Node::Map(fields) => Ok(vec![inside(0, fields)]),
            Node::List(elements) => elements
                .iter()
                .filter_map(|element| match element {
                    Element::Node(node) => Some(node),
                    Element::Comment(_) => None,
                })
                .enumerate()
                .map(|(index, node)| match node {
                    Node::Map(fields) => Ok(inside(index, fields)),
                    Node::Leaf(_) | Node::List(_) => Err(self.refused(name, "must be a list of mappings")),
                })
                .collect(),
            Node::Leaf(Leaf { scalar: Scalar::Text(text), .. }) if text.is_empty() => Ok(Vec::new()),
            Node::Leaf(_) => Err(self.refused(name, "must be a list of mappings")),
        }
    }

    /// What the `sops` program asks of `version`: a semantic version, one leading `v` allowed, or
    /// anything that begins `1.`, which YAML may have made a number of.
    fn check_version(&self) -> Result<(), Error> {
        let version = match self.scalar("version")? {
            Some(Scalar::Float(number)) if (1.0..2.0).contains(number) => return Ok(()),
            Some(_) | None => self.text("version")?,
        };
        if version.is_empty() {
            return Err(self.refused("version", "is missing"));
        }
        if version.starts_with("1.") || is_semantic_version(version.strip_prefix('v').unwrap_or(version)) {
            return Ok(());
        }
        Err(self.refused("version", "must be a semantic version"))
    }

    /// The recipients that stand in this mapping, in the order in which they are tried.
    fn group(&self, room: &mut Room) -> Result<Vec<Recipient>, Error> {
        let mut recipients = Vec::new();
        for kind in RecipientKind::ALL {
            for entry in self.list(kind.field())? {
                room.take(entry.at)?;
                recipients.push(entry.recipient(kind)?);
            }
        }
        Ok(recipients)
    }

    fn recipient(&self, kind: RecipientKind) -> Result<Recipient, Error> {
        let name = match kind {
            RecipientKind::Age => self.text("recipient")?.to_owned(),
            RecipientKind::Pgp => self.text("fp")?.to_owned(),
            RecipientKind::AwsKms => self.text("arn")?.to_owned(),
            RecipientKind::GcpKms => self.text("resource_id")?.to_owned(),
            RecipientKind::HuaweiKms => self.text("key_id")?.to_owned(),
            RecipientKind::AzureKeyVault => {
                format!("{}/keys/{}/{}", self.text("vault_url")?, self.text("name")?, self.text("version")?)
            }
            RecipientKind::VaultTransit => {
                let (address, engine) = (self.text("vault_address")?, self.text("engine_path")?);
                format!("{address}/v1/{engine}/keys/{}", self.text("key_name")?)
            }
        };
        if kind != RecipientKind::Age {
            // SOPS refuses the whole file, even where another key would do.
            self.moment("created_at")?;
        }
        Ok(Recipient { kind, name, enc: self.text("enc")?.to_owned() })
    }

    /// The field of the one selection rule, and its text; `None` for the default. (A binary file has none since 3.11,
    /// and its one key `data` is encrypted by the default.)
    fn rule(&self) -> Result<Option<(&'static str, String)>, Error> {
        let mut set = Vec::new();
        for field in RULES {
            let text = self.text(field)?;
            if !text.is_empty() {
                set.push((field, text));
            }
        }
        if let [_, (second, _), ..] = set.as_slice() {
            return Err(self.refused(second, "is a second selection rule, and a file may have one"));
        }
        Ok(set.pop().map(|(field, text)| (field, text.to_owned())))
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn refused(&self, name: &str, problem: &'static str) -> Error {
        refused(&self.path_of(name), problem)
    }
}

fn refused(field: &str, problem: &'static str) -> Error {
    Error::Metadata { field: field.to_owned(), problem }
}

/// How many recipients and key groups there may still be.
struct Room {
    limit: usize,
    taken: usize,
}

impl Room {
    fn take(&mut self, at: Position) -> Result<(), Error> {
        self.taken += 1;
        if self.taken > self.limit {
            return Err(Error::Limit { bound: Bound::Recipients, limit: self.limit, at });
        }
        Ok(())
    }
}

/// A count that was written as a float (`2.000000`, as old versions wrote it).
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded and whole")]
fn whole(number: f64) -> Option<usize> {
    (number.fract() == 0.0 && (0.0..1e6).contains(&number)).then_some(number as usize)
}

fn is_semantic_version(version: &str) -> bool {
    let numeric = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'))
            && text.parse::<u64>().is_ok()
    };
    let identifier =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let (version, build) = match version.split_once('+') {
        Some((version, build)) => (version, Some(build)),
        None => (version, None),
    };
    let (numbers, pre) = match version.split_once('-') {
        Some((numbers, pre)) => (numbers, Some(pre)),
        None => (version, None),
    };
    let numbers: Vec<&str> = numbers.split('.').collect();
    numbers.len() == 3
        && numbers.into_iter().all(numeric)
        && pre.is_none_or(|pre| {
            let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
            pre.split('.').all(|part| identifier(part) && (!all_digits(part) || numeric(part)))
        })
        && build.is_none_or(|build| build.split('.').all(identifier))
}

/// Takes the key `sops` out of a document.
fn take_block(document: &mut Branch) -> Result<Option<Branch>, Error> {
    refuse_second_block(document)?;
    match document.remove(BLOCK) {
        Some(Node::Map(block)) => Ok(Some(block)),
        Some(Node::Leaf(Leaf { scalar: Scalar::Null, .. })) => Err(Error::MetadataAbsent),
        Some(Node::Leaf(_) | Node::List(_)) => Err(refused("", "must be a mapping")),
        None => Ok(None),
    }
}

/// SOPS refuses a document with two blocks, whichever document it is.
fn refuse_second_block(document: &Branch) -> Result<(), Error> {
    if document.entries().filter(|entry| entry.key == BLOCK).count() > 1 {
        return Err(refused("", "stands twice"));
    }
    Ok(())
}

/// Takes the keys that begin `sops_` out of a dotenv document.
fn take_prefixed(document: &mut Branch) -> Result<Option<Branch>, Error> {
    let mut fields = Flattened::default();
    let mut kept = Vec::with_capacity(document.items.len());
    for item in document.items.drain(..) {
        match item {
            Item::Entry(Entry { key, value, at, .. }) if key.starts_with(PREFIX) => {
                let name = key.strip_prefix(PREFIX).unwrap_or_default();
                fields.insert(name, flat_text(name, &value)?.to_owned(), at)?;
            }
            Item::Entry(_) | Item::Comment(_) => kept.push(item),
        }
    }
    document.items = kept;
    Ok(fields.into_block())
}

/// Builds the block from the keys of INI's section `[sops]`. In its values `\n` stands for a line
/// break (SOPS 3.13.0 and 3.13.1 wrote the line break itself).
fn unflatten_section(section: Branch) -> Result<Branch, Error> {
    let mut fields = Flattened::default();
    for Entry { key, value, at, .. } in section.entries() {
        fields.insert(key, flat_text(key, value)?.replace("\\n", "\n"), *at)?;
    }
    Ok(fields.into_block().unwrap_or(section))
}

fn flat_text<'a>(name: &str, value: &'a Node) -> Result<&'a str, Error> {
    match value {
        Node::Leaf(Leaf { scalar: Scalar::Text(text), .. }) => text.text().ok_or_else(|| refused(name, "must be text")),
        Node::Leaf(_) | Node::Map(_) | Node::List(_) => Err(refused(name, "must be text")),
    }
}

/// A block in one level: `age__list_0__map_enc` is the field `enc` of the first element of `age`.
#[derive(Default)]
struct Flattened {
    fields: BTreeMap<String, Slot>,
    /// Where the first field stood.
    at: Option<Position>,
}

/// What stands at a name of the flattened block.
enum Slot {
    Text(String),
    Map(BTreeMap<String, Slot>),
    /// By index; old versions left holes.
    List(BTreeMap<u32, Slot>),
}

impl Flattened {
    fn insert(&mut self, name: &str, text: String, at: Position) -> Result<(), Error> {
        self.at.get_or_insert(at);
        let (first, steps) = Step::split(name)?;
        if steps.len() > DEEPEST {
            return Ok(());
        }
        let mut value = Slot::Text(text);
        for step in steps.iter().rev() {
            value = match step {
                Step::Name(name) => Slot::Map(BTreeMap::from([((*name).to_owned(), value)])),
                Step::Index(index) => Slot::List(BTreeMap::from([(*index, value)])),
            };
        }
        match self.fields.remove(first) {
            None => self.fields.insert(first.to_owned(), value),
            Some(slot) => {
                self.fields.insert(first.to_owned(), slot.joined(value).ok_or_else(|| refused(name, "stands twice"))?)
            }
        };
        Ok(())
    }

    /// The block with its levels; `None` where there was no field at all.
    fn into_block(self) -> Option<Branch> {
        let at = self.at?;
        Some(branch_of(self.fields, at))
    }
}

impl Slot {
    /// Both values in one; `None` where they are not of one kind or are the same text's place.
    fn joined(self, other: Self) -> Option<Self> {
        fn merge<Name: Ord>(into: &mut BTreeMap<Name, Slot>, from: BTreeMap<Name, Slot>) -> Option<()> {
            for (name, slot) in from {
                let slot = match into.remove(&name) {
                    Some(earlier) => earlier.joined(slot)?,
                    None => slot,
                };
                into.insert(name, slot);
            }
            Some(())
        }
        match (self, other) {
            (Self::Map(mut into), Self::Map(from)) => merge(&mut into, from).map(|()| Self::Map(into)),
            (Self::List(mut into), Self::List(from)) => merge(&mut into, from).map(|()| Self::List(into)),
            (Self::Text(_) | Self::Map(_) | Self::List(_), _) => None,
        }
    }

    fn into_node(self, at: Position) -> Node {
        match self {
            Self::Text(text) => Node::text(text),
            Self::Map(fields) => Node::Map(branch_of(fields, at)),
            Self::List(slots) => {
                Node::List(slots.into_values().map(|slot| Element::Node(slot.into_node(at))).collect())
            }
        }
    }
}

fn branch_of(fields: BTreeMap<String, Slot>, at: Position) -> Branch {
    let entry = |(key, slot): (String, Slot)| Item::Entry(Entry { key, merge: false, value: slot.into_node(at), at });
    Branch { items: fields.into_iter().map(entry).collect() }
}

/// A step down in a flattened name.
enum Step<'a> {
    Name(&'a str),
    Index(u32),
}

impl<'a> Step<'a> {
    /// The field of the block, and the steps below it.
    fn split(name: &'a str) -> Result<(&'a str, Vec<Self>), Error> {
        let next = |text: &str| match (text.find(MAP), text.find(LIST)) {
            (Some(map), Some(list)) => Some(map.min(list)),
            (found, None) | (None, found) => found,
        };
        let (first, mut rest) = name.split_at(next(name).unwrap_or(name.len()));
        let mut steps = Vec::new();
        while !rest.is_empty() && steps.len() <= DEEPEST {
            let (text, is_index) = match rest.strip_prefix(LIST) {
                Some(text) => (text, true),
                None => (rest.strip_prefix(MAP).unwrap_or_default(), false),
            };
            let (own, below) = text.split_at(next(text).unwrap_or(text.len()));
            steps.push(if is_index {
                Self::Index(own.parse().map_err(|_| refused(name, "has a list index that is no number"))?)
            } else {
                Self::Name(own)
            });
            rest = below;
        }
        Ok((first, steps))
    }
}

/// The key, or section, that holds the block.
pub(crate) const BLOCK: &str = "sops";
/// What the block's keys begin with in dotenv files.
const PREFIX: &str = "sops_";
const MAP: &str = "__map_";
const LIST: &str = "__list_";
/// Steps below the field in the deepest name that has a meaning
/// (`key_groups__list_0__map_kms__list_0__map_context__map_name`); what is deeper is unknown, so ignored.
const DEEPEST: usize = 5;

/// The selection rules' fields.
const RULES: [&str; 6] = [
    "unencrypted_suffix",
    "encrypted_suffix",
    "unencrypted_regex",
    "encrypted_regex",
    "unencrypted_comment_regex",
    "encrypted_comment_regex",
];

#[cfg(test)]
mod tests;
