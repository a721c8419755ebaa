//! Files encrypted as a whole with age or OpenPGP: manifests that hide their structure too.
//!
//! There is no MAC of SOPS here. age and OpenPGP authenticate the file; nothing is handed out
//! before its end was seen, so a file that was cut off yields no shorter one.

use crate::error::{Error, KeyReport};
use crate::format::{Format, json, yaml};
use crate::key::{Keyring, age, pgp};
use crate::limits::Limits;
use crate::opener::Opener;
use crate::opening::Opened;
use crate::plaintext::Plaintext;
use crate::scalar::Dialect;
use crate::tree::{Branch, Element, Item, Node, Origin, Tree};

/// How a whole file is encrypted, by its name: `.age`; `.asc`, `.gpg`, `.pgp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// age, armored or binary.
    Age,
    /// OpenPGP, armored or binary.
    Pgp,
}

impl Envelope {
    /// The envelope that a file name promises, and the name without its suffix; `None` for other
    /// names and for a suffix alone.
    pub fn of_name(name: &str) -> Option<(Self, &str)> {
        const SUFFIXES: [(&str, Envelope); 4] =
            [(".age", Envelope::Age), (".asc", Envelope::Pgp), (".gpg", Envelope::Pgp), (".pgp", Envelope::Pgp)];
        SUFFIXES.into_iter().find_map(|(suffix, envelope)| {
            let inner = name.strip_suffix(suffix)?;
            let is_file = !inner.is_empty() && !inner.ends_with('/');
            is_file.then_some((envelope, inner))
        })
    }
}

/// Decrypts a whole file; ciphertext and plaintext are both bounded by [`Limits::document`]
/// (compressed OpenPGP packets can expand), recipients by [`Limits::recipients`].
///
/// # Errors
/// [`Error::TooLarge`]; [`Error::NoKey`] with the stanza types or key ids that the file names;
/// [`Error::Envelope`] for what is damaged, cut off, of another kind or under a passphrase; [`Error::Stopped`].
pub fn open<'a>(
    bytes: &[u8],
    envelope: Envelope,
    opener: impl Into<Opener<'a>>,
    limits: &Limits,
) -> Result<Plaintext, Error> {
    let opener = opener.into();
    let stopped_or = |error| if opener.is_stopped() { Error::Stopped } else { error };
    let keys = opener.keyring();
    let too_large = Error::TooLarge { limit: limits.document };
    if bytes.len() > limits.document {
        return Err(too_large);
    }
    match envelope {
        Envelope::Age => {
            let file = age::dearmor_where_armored(bytes).ok_or(refused(NO_AGE_FILE))?;
            age::open(&file, opener, "", limits.recipients, limits.document).map_err(|closed| match closed {
                age::Closed::Malformed => refused(NO_AGE_FILE),
                age::Closed::Passphrase => refused(UNDER_PASSPHRASE),
                age::Closed::NoIdentity(recipients) => stopped_or(no_key(recipients, keys)),
                age::Closed::Unauthentic => refused(CHANGED),
                age::Closed::TooLarge => too_large,
            })
        }
        Envelope::Pgp => {
            let packets = pgp::dearmor_where_armored(bytes).ok_or(refused(NO_PGP_MESSAGE))?;
            pgp::open(&packets, opener, limits.recipients, limits.document).map_err(|closed| match closed {
                pgp::Closed::Malformed => refused(NO_PGP_MESSAGE),
                pgp::Closed::Passphrase => refused(UNDER_PASSPHRASE),
                pgp::Closed::NoIdentity(recipients) => stopped_or(no_key(recipients, keys)),
                pgp::Closed::Unauthentic => refused(CHANGED),
                pgp::Closed::Content => refused(NO_LITERAL),
                pgp::Closed::TooLarge => too_large,
            })
        }
    }
}

/// Decrypts a whole file of manifests and parses it as Kubernetes does. `inner_name` (the name
/// without the envelope's suffix) decides between YAML and JSON; every leaf counts as decrypted.
///
/// # Errors
/// As [`open`], and as the parsers; positions are those of the decrypted text. A file inside that
/// has a `sops` block of its own is refused: it would have to be opened twice.
pub fn open_manifests<'a>(
    bytes: &[u8],
    envelope: Envelope,
    inner_name: &str,
    opener: impl Into<Opener<'a>>,
    limits: &Limits,
) -> Result<Opened, Error> {
    let format = Format::of_name(inner_name);
    match format {
        Format::Yaml | Format::Json => {}
        Format::Dotenv | Format::Ini | Format::Binary => return Err(refused(NO_MANIFESTS)),
    }
    let text = open(bytes, envelope, opener, limits)?;
    let mut tree = match format {
        Format::Yaml => {
            let stream = yaml::parse(text.bytes(), limits).map_err(without_key)?;
            if stream.has_top_level("sops") {
                return Err(refused(SOPS_INSIDE));
            }
            stream.into_tree(Dialect::Kubernetes).map_err(without_key)?
        }
        Format::Json | Format::Dotenv | Format::Ini | Format::Binary => {
            json::parse(text.bytes(), limits).map_err(without_key)?
        }
    };
    if tree.documents.iter().any(|document| document.get("sops").is_some()) {
        return Err(refused(SOPS_INSIDE));
    }
    mark_decrypted(&mut tree);
    Ok(Opened::from_envelope(tree))
}

/// Keys were ciphertext like everything else in the file, so no error names one.
fn without_key(mut error: Error) -> Error {
    if let Error::DuplicateKey { key, .. } = &mut error {
        "(a key)".clone_into(key);
    }
    error
}

const NO_AGE_FILE: &str = "it is no age file";
const NO_PGP_MESSAGE: &str = "it is no encrypted OpenPGP message";
const UNDER_PASSPHRASE: &str = "it is encrypted to a passphrase instead of recipients, which no identity opens";
const CHANGED: &str = "it was changed or cut off: it does not authenticate";
const NO_LITERAL: &str = "it holds no file";
const NO_MANIFESTS: &str = "its name without the suffix does not end in `.yaml`, `.yml` or `.json`";
const SOPS_INSIDE: &str = "the file inside it is encrypted once more, with SOPS";

fn refused(problem: &'static str) -> Error {
    Error::Envelope { problem }
}

fn no_key(recipients: Vec<String>, keys: &Keyring) -> Error {
    Error::NoKey(Box::new(KeyReport { recipients, identities: keys.describe(), damaged: Vec::new() }))
}

fn mark_decrypted(tree: &mut Tree) {
    tree.documents.iter_mut().for_each(mark_branch);
}

fn mark_branch(branch: &mut Branch) {
    for item in &mut branch.items {
        match item {
            Item::Entry(entry) => mark_node(&mut entry.value),
            Item::Comment(comment) => comment.origin = Origin::Decrypted,
        }
    }
}

/// As deep as [`Limits::nesting`] let the parsers go.
fn mark_node(node: &mut Node) {
    match node {
        Node::Leaf(leaf) => leaf.origin = Origin::Decrypted,
        Node::Map(branch) => mark_branch(branch),
        Node::List(elements) => {
            for element in elements {
                match element {
                    Element::Node(node) => mark_node(node),
                    Element::Comment(comment) => comment.origin = Origin::Decrypted,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
