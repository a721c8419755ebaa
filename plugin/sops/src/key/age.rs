//! age: identities line by line, and files that they open.
//!
//! The `age` crate does the cryptography. What is added: key files in which one unusable line does
//! not spoil the others, a trial of identities that starts with the named one and outlives a
//! damaged stanza, and bounds on headers and payloads.

use std::cell::RefCell;
use std::io::{self, BufRead, Read};

use ::age::armor::ArmoredReader;
use ::age::{DecryptError, Decryptor};
use age_core::format::{FileKey, Stanza};
use age_core::primitives::bech32_decode;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::post_quantum::Hybrid;
use super::x25519::X25519;
use super::{
    MAX_DATA_KEY, MAX_DATA_KEY_STANZAS, MAX_DATA_KEY_TEXT, MAX_KEY_FILE, NotOpened, Passphrase, PluginLine, Refused,
};
use crate::error::IdentityProblem;
use crate::metadata::Recipient;
use crate::opener::Opener;
use crate::plaintext::Plaintext;
use crate::wrapping::Root;

/// An identity that needs no other program.
pub(crate) struct Native {
    public: Public,
    mark: [u8; 32],
    root: Option<Root>,
    identity: Box<dyn ::age::Identity + Send + Sync>,
}

/// The public part of an identity.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Public {
    /// `age1...` or `age1pq1...`.
    Recipient(String),
    /// An SSH public key: its type, its base64 and its `SHA256:` fingerprint.
    Ssh {
        /// `ssh-ed25519` or `ssh-rsa`.
        algorithm: String,
        /// The key as in an `authorized_keys` line.
        blob: String,
        /// As `ssh-keygen -l` shows it.
        fingerprint: String,
    },
}

impl Native {
    /// `text` is what the identity was read from, `root` what its wrapping key is derived from.
    pub(super) fn new(
        public: Public,
        text: &str,
        root: Option<Root>,
        identity: Box<dyn ::age::Identity + Send + Sync>,
    ) -> Self {
        Self { public, mark: Sha256::digest(text).into(), root, identity }
    }

    /// What its wrapping key is derived from; `None` where the secret could not be read.
    pub(super) fn root(&self) -> Option<&Root> {
        self.root.as_ref()
    }

    /// What only the holder of this very secret has: a digest of the text that it was read from.
    pub(super) fn mark(&self) -> &[u8; 32] {
        &self.mark
    }

    pub(super) fn public(&self) -> &Public {
        &self.public
    }

    /// Kind and public part. A post-quantum recipient has 1959 characters, so it is cut.
    pub(super) fn describe(&self) -> String {
        const SHOWN: usize = 62;
        match &self.public {
            Public::Recipient(text) => match text.get(..SHOWN) {
                Some(head) if head.len() < text.len() => format!("age {head}.."),
                Some(_) | None => format!("age {text}"),
            },
            Public::Ssh { algorithm, fingerprint, .. } => format!("{algorithm} {fingerprint}"),
        }
    }

    /// Whether `recipient`, as a document names it, is this identity's public part. `sops` keeps
    /// the whole line with its comment.
    pub(super) fn is(&self, recipient: &str) -> bool {
        let mut words = recipient.split_ascii_whitespace();
        match &self.public {
            Public::Recipient(text) => words.next() == Some(text),
            Public::Ssh { algorithm, blob, .. } => words.next() == Some(algorithm) && words.next() == Some(blob),
        }
    }
}

/// Whether a recipient `age1NAME1...` is one of the plugin `name`.
pub(super) fn is_plugin_recipient(recipient: &str, name: &str) -> bool {
    let rest = recipient.trim_ascii_start().strip_prefix("age1").and_then(|rest| rest.strip_prefix(name));
    rest.is_some_and(|rest| rest.starts_with('1'))
}

/// The identities of a key file.
#[derive(Default)]
pub(super) struct Lines {
    pub(super) natives: Vec<Native>,
    pub(super) plugins: Vec<(usize, PluginLine)>,
}

/// Reads identities line by line: `AGE-SECRET-KEY-1`, `AGE-SECRET-KEY-PQ-1`, `AGE-PLUGIN-`, upper
/// case as age writes them. Empty lines and lines that begin with `#` are skipped; several
/// identities may stand in one line, as `sops` 3.13 reads them.
pub(super) fn read_lines(text: &str) -> Result<Lines, Refused> {
    let mut lines = Lines::default();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if line.starts_with('#') {
            continue;
        }
        for word in line.split_ascii_whitespace() {
            let nothing_known = lines.natives.is_empty() && lines.plugins.is_empty() && !word.starts_with("AGE-");
            read_identity(word, number, &mut lines).map_err(|problem| {
                if nothing_known && problem == IdentityProblem::BadLine {
                    // Whatever this file is, it is not a key file with a bad line.
                    return Refused::from(IdentityProblem::Unknown);
                }
                Refused { line: Some(number), problem }
            })?;
        }
    }
    Ok(lines)
}

fn read_identity(word: &str, number: usize, lines: &mut Lines) -> Result<(), IdentityProblem> {
    if word.starts_with("AGE-SECRET-KEY-PQ-1") {
        let hybrid = Hybrid::parse(word).ok_or(IdentityProblem::BadLine)?;
        let public = Public::Recipient(hybrid.recipient());
        lines.natives.push(Native::new(public, word, Some(hybrid.root()), Box::new(hybrid)));
    } else if word.starts_with("AGE-SECRET-KEY-1") {
        let identity = X25519::parse(word).ok_or(IdentityProblem::BadLine)?;
        let public = Public::Recipient(identity.recipient());
        lines.natives.push(Native::new(public, word, Some(identity.root()), Box::new(identity)));
    } else if word.starts_with("AGE-PLUGIN-") {
        let name = plugin_name(word).ok_or(IdentityProblem::BadLine)?;
        lines.plugins.push((number, PluginLine { name, text: Zeroizing::new(word.to_owned()) }));
    } else if word.starts_with("age1") || word.starts_with("ssh-") {
        return Err(IdentityProblem::PublicOnly);
    } else {
        return Err(IdentityProblem::BadLine);
    }
    Ok(())
}

/// The name in `AGE-PLUGIN-NAME-1...`, lower case; `None` where the line is no Bech32.
fn plugin_name(word: &str) -> Option<String> {
    let hrp = bech32_decode(word, |_| (), |_| Ok(()), |hrp, _| Ok(hrp.to_string())).ok()?;
    let name = hrp.strip_prefix("AGE-PLUGIN-")?.strip_suffix('-')?;
    (!name.is_empty()).then(|| name.to_ascii_lowercase())
}

/// Whether a file begins as an age file does, armored or not.
pub(crate) fn looks_like_file(bytes: &[u8]) -> bool {
    bytes.starts_with(b"age-encryption.org/") || is_armored(bytes)
}

fn is_armored(bytes: &[u8]) -> bool {
    bytes.starts_with(ARMOR_BEGIN)
}

/// Opens a key file that is itself an age file under a passphrase.
pub(super) fn open_identity_file(bytes: &[u8], passphrases: &[Passphrase]) -> Result<Plaintext, IdentityProblem> {
    let file = dearmor_where_armored(bytes).ok_or(IdentityProblem::Damaged)?;
    if !parse(&file).map_err(|_| IdentityProblem::Damaged)?.is_scrypt() {
        return Err(IdentityProblem::Unknown);
    }
    if passphrases.is_empty() {
        return Err(IdentityProblem::PassphraseMissing);
    }
    for passphrase in passphrases.iter().filter_map(Passphrase::secret_string) {
        let mut identity = ::age::scrypt::Identity::new(passphrase);
        identity.set_max_work_factor(MAX_WORK_FACTOR);
        let parsed = parse(&file).map_err(|_| IdentityProblem::Damaged)?;
        match parsed.decrypt(std::iter::once(&identity as &dyn ::age::Identity)) {
            Ok(stream) => return read_bounded(stream, MAX_KEY_FILE).map_err(|_| IdentityProblem::Damaged),
            Err(DecryptError::DecryptionFailed | DecryptError::NoMatchingKeys) => {}
            Err(DecryptError::ExcessiveWork { .. }) => return Err(IdentityProblem::TooCostly),
            // Not exhaustive upstream: all others say that header or payload break the format.
            Err(_) => return Err(IdentityProblem::Damaged),
        }
    }
    Err(IdentityProblem::PassphraseWrong)
}

/// Unwraps the armored age file of a `sops.age` entry.
pub(super) fn unwrap(opener: Opener<'_>, recipient: &Recipient) -> Result<Plaintext, NotOpened> {
    // A plugin's name alone does not say whose recipient it is, so it is no evidence of damage.
    let named = opener.keyring().age.iter().any(|native| native.is(&recipient.name));
    let closed = if named { NotOpened::Damaged } else { NotOpened::NoIdentity };
    let text = recipient.enc.as_bytes().trim_ascii();
    if text.len() > MAX_DATA_KEY_TEXT || !is_armored(text) {
        return Err(closed);
    }
    let file = dearmor(text).ok_or(closed)?;
    match open(&file, opener, &recipient.name, MAX_DATA_KEY_STANZAS, MAX_DATA_KEY) {
        Ok(key) => Ok(key),
        Err(Closed::NoIdentity(_) | Closed::Malformed | Closed::Passphrase) => Err(closed),
        Err(Closed::Unauthentic | Closed::TooLarge) => Err(NotOpened::Damaged),
    }
}

/// Why an age file is not opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// Not an age file, or one whose header breaks its rules or the bounds.
    Malformed,
    /// Encrypted to a passphrase.
    Passphrase,
    /// No identity fits any stanza; the stanzas' types.
    NoIdentity(Vec<String>),
    /// An identity fits, and stanza, header or payload do not authenticate.
    Unauthentic,
    /// The plaintext is longer than allowed.
    TooLarge,
}

/// Opens a binary age file. `recipient` is the identity to begin with, empty where none is named. An opener that
/// is stopped meanwhile finds no identity.
pub(crate) fn open<'a>(
    file: &[u8],
    opener: impl Into<Opener<'a>>,
    recipient: &str,
    stanzas: usize,
    plaintext: usize,
) -> Result<Plaintext, Closed> {
    let parsed = parse(file)?;
    if parsed.is_scrypt() {
        return Err(Closed::Passphrase);
    }
    let trial = Trial { opener: opener.into(), recipient, most_stanzas: stanzas, seen: RefCell::default() };
    match parsed.decrypt(std::iter::once(&trial as &dyn ::age::Identity)) {
        Ok(stream) => read_bounded(stream, plaintext),
        Err(DecryptError::NoMatchingKeys) => Err(match trial.seen.into_inner() {
            Seen { damaged: true, .. } => Closed::Unauthentic,
            Seen { types, .. } => Closed::NoIdentity(types),
        }),
        Err(DecryptError::InvalidHeader) => Err(Closed::Malformed),
        // Not exhaustive upstream: all others come after a stanza was opened.
        Err(_) => Err(Closed::Unauthentic),
    }
}

/// The binary form of an age file: as it is, or out of its armor.
pub(crate) fn dearmor_where_armored(bytes: &[u8]) -> Option<Vec<u8>> {
    let trimmed = bytes.trim_ascii();
    if is_armored(trimmed) { dearmor(trimmed) } else { Some(bytes.to_vec()) }
}

const ARMOR_BEGIN: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";
const ARMOR_END: &[u8] = b"-----END AGE ENCRYPTED FILE-----";

/// Highest scrypt work factor of a key file, as a power of two. `age` writes 18 (256 MiB, about a
/// second), `rage` what takes a second on its machine; 20 asks for 1 GiB of memory, and each step
/// doubles it. A front door must not be stopped by one key file.
const MAX_WORK_FACTOR: u8 = 20;

/// Longest header, in bytes: a hundred post-quantum stanzas are 160 KB.
const MAX_HEADER: usize = 256 << 10;

fn dearmor(text: &[u8]) -> Option<Vec<u8>> {
    if !text.ends_with(ARMOR_END) {
        return None;
    }
    let mut file = Vec::with_capacity(text.len() / 4 * 3);
    ArmoredReader::new(text).read_to_end(&mut file).ok()?;
    Some(file)
}

fn parse(file: &[u8]) -> Result<Decryptor<WholeHeader<'_>>, Closed> {
    const LAST_LINE: &[u8] = b"\n--- ";
    let head = file.get(..MAX_HEADER).unwrap_or(file);
    let last = head.windows(LAST_LINE.len()).position(|window| window == LAST_LINE).ok_or(Closed::Malformed)?;
    let mac = head.get(last + LAST_LINE.len()..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n'));
    let header = last + LAST_LINE.len() + mac.ok_or(Closed::Malformed)? + 1;
    Decryptor::new_buffered(WholeHeader { rest: file, header }).map_err(|_| Closed::Malformed)
}

/// A reader that hands out an age file's header as one line: the `age` crate parses from the start
/// again for every line it reads, which a header of thousands of lines would make quadratic.
struct WholeHeader<'a> {
    rest: &'a [u8],
    header: usize,
}

impl Read for WholeHeader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.rest.read(buffer)
    }
}

impl BufRead for WholeHeader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.rest)
    }

    fn consume(&mut self, amount: usize) {
        self.rest.consume(amount);
    }

    fn read_until(&mut self, _line_break: u8, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let length = std::mem::take(&mut self.header);
        let Some((header, rest)) = self.rest.split_at_checked(length) else {
            return Ok(0);
        };
        buffer.extend_from_slice(header);
        self.rest = rest;
        Ok(length)
    }
}

/// Reads a payload to its authenticated end, refusing more than `most` bytes.
fn read_bounded(stream: impl Read, most: usize) -> Result<Plaintext, Closed> {
    /// One chunk of an age payload; buffers grow by that until `most` is near.
    const CHUNK: usize = 64 << 10;
    let mut bytes = Zeroizing::new(Vec::with_capacity(most.min(CHUNK) + 1));
    let mut stream = stream.take(most as u64 + 1);
    loop {
        if bytes.len() == bytes.capacity() {
            // Growing by hand wipes the old buffer, which `Vec` would leave behind.
            let mut larger = Zeroizing::new(Vec::with_capacity(bytes.capacity() * 2));
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        let filled = bytes.len();
        let free = bytes.capacity();
        bytes.resize(free, 0);
        let target = bytes.get_mut(filled..).unwrap_or_default();
        let read = stream.read(target).map_err(|_| Closed::Unauthentic)?;
        bytes.truncate(filled + read);
        if read == 0 {
            break;
        }
    }
    if bytes.len() > most {
        return Err(Closed::TooLarge);
    }
    Ok(Plaintext::new(std::mem::take(&mut *bytes)))
}

/// Tries identities on a file's stanzas: the named one, the other native ones, plugins. A stanza
/// that is damaged for one identity does not stop the others, as it would in the `age` crate.
struct Trial<'a> {
    opener: Opener<'a>,
    recipient: &'a str,
    most_stanzas: usize,
    seen: RefCell<Seen>,
}

#[derive(Default)]
struct Seen {
    types: Vec<String>,
    damaged: bool,
}

impl ::age::Identity for Trial<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        self.unwrap_stanzas(std::slice::from_ref(stanza))
    }

    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, DecryptError>> {
        if stanzas.len() > self.most_stanzas {
            return Some(Err(DecryptError::InvalidHeader));
        }
        let keys = self.opener.keyring();
        let mut damaged = false;
        for named in [true, false] {
            for native in keys.age.iter().filter(|native| native.is(self.recipient) == named) {
                for stanza in stanzas {
                    if self.opener.is_stopped() {
                        return None;
                    }
                    match native.identity.unwrap_stanza(stanza) {
                        Some(Ok(key)) => return Some(Ok(key)),
                        Some(Err(_)) => damaged = true,
                        None => {}
                    }
                }
            }
        }
        for plugin in &keys.plugins {
            if self.opener.is_stopped() {
                return None;
            }
            // All stanzas in one question: each starts a process.
            if let Some(Ok(key)) = plugin.identity.unwrap_stanzas(stanzas) {
                return Some(Ok(key));
            }
        }
        let types = stanzas.iter().map(|stanza| stanza.tag.clone()).collect();
        *self.seen.borrow_mut() = Seen { types, damaged };
        None
    }
}
