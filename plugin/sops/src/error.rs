//! Why a file is not opened. Names, positions and rules; never a value, never a MAC.

use crate::format::Format;
use crate::tree::Position;

/// Everything that can be wrong with ciphertext, keys or their combination.
///
/// Display gives what stands behind `cannot open FILE: `; the way out is told by whoever knows the
/// command that was typed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file is larger than [`crate::Limits::document`].
    #[error("it is larger than {limit} bytes")]
    TooLarge {
        /// The bound in bytes.
        limit: usize,
    },
    /// Another bound of [`crate::Limits`] is exceeded.
    #[error("line {}: it has more than {limit} {bound}", at.line)]
    Limit {
        /// What there is too much of.
        bound: Bound,
        /// How much is allowed.
        limit: usize,
        /// Where the bound was crossed.
        at: Position,
    },
    /// The text is not of its format.
    #[error("line {}, column {}: {problem}", at.line, at.column)]
    Syntax {
        /// Which format was expected.
        format: Format,
        /// Where.
        at: Position,
        /// The rule, without any text of the file.
        problem: &'static str,
    },
    /// A key stands twice in one mapping.
    #[error("line {}: key `{key}` stands twice in one mapping", at.line)]
    DuplicateKey {
        /// Where the second one stands.
        at: Position,
        /// The key.
        key: String,
    },
    /// Nobody waits for the answer any more ([`crate::Stop`]).
    #[error("it was not opened in time")]
    Stopped,
    /// No `sops` block where one is needed.
    #[error("it has no `sops` metadata")]
    MetadataAbsent,
    /// The `sops` block does not follow its own rules.
    #[error("`sops{}{field}` {problem}", if field.is_empty() { "" } else { "." })]
    Metadata {
        /// The field's path below `sops`; empty for the block itself.
        field: String,
        /// The rule.
        problem: &'static str,
    },
    /// No identity opens the data key.
    #[error("no identity opens it: {0}")]
    NoKey(Box<KeyReport>),
    /// Fewer Shamir parts than the threshold.
    #[error("only {have} of {need} key groups could be opened: {report}")]
    TooFewParts {
        /// Groups that were opened.
        have: usize,
        /// The file's threshold.
        need: usize,
        /// Which recipients there are and which identities were tried.
        report: Box<KeyReport>,
    },
    /// The data key cannot be combined from its parts, or is no key.
    #[error("its data key {problem}")]
    Parts {
        /// The rule.
        problem: &'static str,
    },
    /// A value in an encrypted position does not decrypt.
    #[error("line {}: `{path}` {problem}", at.line)]
    Value {
        /// Keys joined with `.`, from the document's root.
        path: String,
        /// Where the key stands.
        at: Position,
        /// What is wrong.
        problem: ValueProblem,
    },
    /// The MAC does not vouch for the file.
    #[error("{0}")]
    Mac(MacProblem),
    /// An identity (a key file, or a line of one) cannot be used.
    #[error("{source_name}{}: {problem}", line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Identity {
        /// The key file's name.
        source_name: String,
        /// The line in it, from 1, where lines have a meaning.
        line: Option<usize>,
        /// What is wrong.
        problem: IdentityProblem,
    },
    /// A file encrypted as a whole is damaged or of an unknown kind.
    #[error("{problem}")]
    Envelope {
        /// The rule.
        problem: &'static str,
    },
    /// The opened tree cannot be written in the asked format.
    #[error("cannot be written as {format}: `{path}` {problem}")]
    Emit {
        /// The output format.
        format: Format,
        /// Keys joined with `.`.
        path: String,
        /// What the format cannot hold.
        problem: EmitProblem,
    },
}

/// What there is too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Mappings and lists inside each other.
    Nesting,
    /// Scalars, mappings and lists.
    Nodes,
    /// Nodes that come out of aliases.
    AliasNodes,
    /// Bytes that come out of aliases.
    AliasBytes,
    /// Recipients over all key groups.
    Recipients,
    /// Comments.
    Comments,
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nesting => "levels of nesting",
            Self::Nodes => "nodes",
            Self::AliasNodes => "nodes made by aliases",
            Self::AliasBytes => "bytes made by aliases",
            Self::Recipients => "recipients",
            Self::Comments => "comments",
        })
    }
}

/// Why a value in an encrypted position does not decrypt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueProblem {
    /// A clear value where the file's rules say encrypted.
    #[error("stands in the clear where the file's rules say encrypted")]
    Clear,
    /// A clear value that is not even text.
    #[error("is not text, so it cannot be ciphertext")]
    NotText,
    /// Not of the form `ENC[AES256_GCM,data:..,iv:..,tag:..,type:..]`.
    #[error("is not well-formed ciphertext")]
    Malformed,
    /// A nonce of a length that no known program writes.
    #[error("has a nonce of a length that is not supported")]
    NonceLength,
    /// A type that no SOPS writes.
    #[error("has a type that SOPS does not write")]
    UnknownType,
    /// GCM says no: damaged, moved from another place, or another key.
    #[error("does not decrypt: it was changed, moved from another key, or belongs to another file")]
    Unauthentic,
    /// Decrypted, but not of its own type.
    #[error("does not hold what its type says")]
    WrongType,
    /// A value that came out of ciphertext, in a place where the rule for sealing it again leaves it clear.
    #[error("was encrypted, and would be written in the clear")]
    Uncovered,
    /// Below a merge key: ciphertext is bound to its path, and a reader of Kubernetes moves it.
    #[error("is merged into another mapping, so its ciphertext is bound to another path")]
    Merged,
    /// Clear and unsigned: an integer that SOPS itself cannot read.
    #[error("is an integer that SOPS cannot hold")]
    Unhashable,
}

/// Why the MAC does not vouch for the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MacProblem {
    /// No MAC, or an empty one.
    #[error("it has no MAC")]
    Absent,
    /// The MAC itself does not decrypt.
    #[error("its MAC does not decrypt: it or `lastmodified` was changed")]
    Unreadable,
    /// The MAC is another file's, or values were changed.
    #[error("its MAC does not match its contents")]
    Mismatch,
}

/// Why an identity cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityProblem {
    /// Neither an age identity, an OpenSSH key nor an OpenPGP secret key.
    #[error("is no age identity, OpenSSH private key or OpenPGP secret key")]
    Unknown,
    /// A line of an age key file that is no identity.
    #[error("is no age identity")]
    BadLine,
    /// The key file is encrypted and no passphrase was given.
    #[error("is protected by a passphrase, and none was given")]
    PassphraseMissing,
    /// No given passphrase opens the key file.
    #[error("is not opened by any passphrase given")]
    PassphraseWrong,
    /// A kind of key that regent does not support.
    #[error("is of a kind that is not supported")]
    Unsupported,
    /// A public key where a secret one is needed.
    #[error("holds only public keys")]
    PublicOnly,
    /// The key material is damaged.
    #[error("is damaged")]
    Damaged,
    /// The file holds no identity at all.
    #[error("holds no identity")]
    Empty,
    /// The file is larger than any key file.
    #[error("is larger than a key file may be")]
    TooLarge,
    /// Its passphrase protection asks for more work than any writer of key files does.
    #[error("asks for more work than a key file may")]
    TooCostly,
}

/// Which recipients a document has and which identities were tried; public parts only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyReport {
    /// The document's recipients, as the document names them.
    pub recipients: Vec<String>,
    /// The identities at hand: kind and public part.
    pub identities: Vec<String>,
    /// Recipients for which an identity is at hand that still did not open its stanza.
    pub damaged: Vec<String>,
}

impl std::fmt::Display for KeyReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it is encrypted to {}", list(&self.recipients))?;
        write!(f, "; identities at hand: {}", list(&self.identities))?;
        if !self.damaged.is_empty() {
            write!(f, "; damaged for {}", list(&self.damaged))?;
        }
        Ok(())
    }
}

/// A name or path from a file, fit for a sentence: no control characters, and not longer than one
/// reads.
pub(crate) fn shown(name: &str) -> String {
    const SHOWN: usize = 200;
    let mut text: String =
        name.chars().take(SHOWN).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    if name.chars().nth(SHOWN).is_some() {
        text.push_str("...");
    }
    text
}

/// Names joined for a sentence, cut after a few: a hostile file may name many.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    if names.is_empty() {
        return "none".to_owned();
    }
    let mut text = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if let Some(more) = names.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        text.push_str(" and ");
        text.push_str(&more.to_string());
        text.push_str(" more");
    }
    text
}

/// What an output format cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmitProblem {
    /// A mapping or list in a flat format.
    #[error("is not a single value")]
    Nested,
    /// Bytes that are not text.
    #[error("is not text")]
    NotText,
    /// Infinity or NaN in JSON.
    #[error("is a number that the format cannot hold")]
    Number,
    /// A key or value with a character that the format cannot hold.
    #[error("has a character that the format cannot hold")]
    Character,
    /// Several documents in a format that has one.
    #[error("is one of several documents, and the format holds one")]
    Documents,
    /// Null in a format that has only text.
    #[error("is null, which the format cannot hold")]
    Null,
    /// A key that stands twice in a format that keeps the last one.
    #[error("stands twice, and the format holds it once")]
    Repeated,
    /// A value outside of a section in a format that has sections.
    #[error("is not a mapping, and the format holds only mappings at the top")]
    NoSection,
    /// Binary output needs a text under `data`.
    #[error("is needed for binary output, as one text")]
    NoData,
}
