//! Identities: age, SSH and OpenPGP secret keys, and how they open a data key.
//!
//! ```text
//! key file --Keyring::load--> Keyring      every passphrase is asked for and checked here, once
//! Recipient --Opener::unwrap--> Plaintext  the data key (or one Shamir part of it)
//! ```
//!
//! A keyring is read by many threads at once: nothing in it changes after loading, and whatever
//! can be computed once (an unlocked OpenPGP subkey, an expanded post-quantum key) is.
//!
//! Secret keys stand behind types without `Debug`. What a name of an identity shows is public: a
//! recipient, a fingerprint, a plugin's name.

pub(crate) mod age;
mod data_keys;
pub(crate) mod pgp;
mod post_quantum;
pub(crate) mod shamir;
mod ssh;
#[cfg(test)]
mod tests;
mod x25519;

use std::sync::atomic::{AtomicU64, Ordering};

pub use data_keys::{DataKeyCounts, DataKeys};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::error::{Error, IdentityProblem};
use crate::metadata::{Recipient, RecipientKind};
use crate::opener::Opener;
use crate::plaintext::Plaintext;
use crate::wrapping::WrappingKeys;

/// A passphrase, wiped when it goes.
pub struct Passphrase(Plaintext);

impl Passphrase {
    /// Takes the bytes over; one trailing line break (LF or CRLF) is not part of a passphrase.
    pub fn new(mut bytes: Vec<u8>) -> Self {
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        Self(Plaintext::new(bytes))
    }

    /// The passphrase as age and OpenSSH take it; `None` where it is not text.
    fn secret_string(&self) -> Option<::age::secrecy::SecretString> {
        self.0.text().map(::age::secrecy::SecretString::from)
    }

    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// The identities at hand.
#[derive(Default)]
pub struct Keyring {
    age: Vec<age::Native>,
    pgp: Vec<pgp::Certificate>,
    plugins: Vec<Plugin>,
    /// See [`Keyring::fingerprint`].
    fingerprint: [u8; 32],
}

/// An identity that an age plugin's process answers for.
struct Plugin {
    name: String,
    /// Tells it from every other of the process, also from one of the same name.
    number: u64,
    identity: Box<dyn ::age::Identity + Send + Sync>,
}

/// What loading one key file brought.
#[derive(Debug, Default)]
pub struct Loaded {
    /// How many identities were added; one that is there already does not count. An OpenPGP
    /// certificate counts once, however many subkeys it has.
    pub added: usize,
    /// What cannot be used while the rest of the file was loaded: a line's number, or in an OpenPGP
    /// ring the position of the key packet, both from 1.
    pub skipped: Vec<(usize, IdentityProblem)>,
    /// `AGE-PLUGIN-` lines and their numbers: whoever may start programs makes identities of them
    /// and calls [`Keyring::add_plugin`].
    pub plugins: Vec<(usize, PluginLine)>,
}

/// One `AGE-PLUGIN-` line of a key file. What a plugin keeps in it may be secret, so it is wiped
/// and `Debug` shows the plugin's name alone.
pub struct PluginLine {
    name: String,
    text: Zeroizing<String>,
}

impl PluginLine {
    /// The plugin's name, lower case: `age-plugin-<name>` is its program.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The line, for the plugin.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Debug for PluginLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PluginLine({})", self.name)
    }
}

/// Why a recipient's copy is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotOpened {
    /// No identity for it.
    NoIdentity,
    /// An identity is at hand, and the copy is damaged.
    Damaged,
    /// Nobody waits for it any more.
    Stopped,
}

impl Keyring {
    /// Loads a key file: age identities (also in an age file that a passphrase opens), an OpenSSH
    /// or PEM private key, OpenPGP secret keys (armored or binary, one or many).
    ///
    /// Every passphrase is tried on whatever is locked, and locked keys are unlocked here, so that
    /// a wrong one is reported now. A file is taken as a whole or not at all; only what
    /// [`Loaded::skipped`] names is left out.
    ///
    /// # Errors
    /// [`Error::Identity`] with `source_name`, and with the line where lines have a meaning.
    pub fn load(&mut self, source_name: &str, bytes: &[u8], passphrases: &[Passphrase]) -> Result<Loaded, Error> {
        let (brought, mut loaded) = read_key_file(bytes, passphrases).map_err(|refused| Error::Identity {
            source_name: source_name.to_owned(),
            line: refused.line,
            problem: refused.problem,
        })?;
        for native in brought.age {
            if !self.age.iter().any(|known| known.public() == native.public()) {
                self.age.push(native);
                loaded.added += 1;
            }
        }
        for certificate in brought.pgp {
            let known = self.pgp.iter_mut().find(|known| known.fingerprint() == certificate.fingerprint());
            if let Some(known) = known {
                known.merge(certificate);
            } else {
                self.pgp.push(certificate);
                loaded.added += 1;
            }
        }
        self.fingerprint = self.take_fingerprint();
        Ok(loaded)
    }

    /// Adds an identity of an age plugin under the plugin's name or its program's (`yubikey`,
    /// `age-plugin-yubikey`). It is asked after every native identity, because asking starts a process.
    pub fn add_plugin(&mut self, name: String, identity: Box<dyn ::age::Identity + Send + Sync>) {
        let name = name.strip_prefix("age-plugin-").map(str::to_owned).unwrap_or(name);
        self.plugins.push(Plugin { name, number: fresh_number(), identity });
        self.fingerprint = self.take_fingerprint();
    }

    /// Kind and public part of each identity, in the order they are tried.
    pub fn describe(&self) -> Vec<String> {
        let age = self.age.iter().map(age::Native::describe);
        let pgp = self.pgp.iter().map(|certificate| format!("pgp {}", certificate.fingerprint()));
        let plugins = self.plugins.iter().map(|plugin| format!("age-plugin-{}", plugin.name));
        age.chain(pgp).chain(plugins).collect()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.age.is_empty() && self.pgp.is_empty() && self.plugins.is_empty()
    }

    /// Whether an identity at hand has this recipient's public part (nothing is decrypted). Of a
    /// plugin only the name is known, so its recipients match by that.
    pub fn matches(&self, recipient: &Recipient) -> bool {
        match recipient.kind {
            RecipientKind::Age => {
                self.age.iter().any(|native| native.is(&recipient.name))
                    || self.plugins.iter().any(|plugin| age::is_plugin_recipient(&recipient.name, &plugin.name))
            }
            RecipientKind::Pgp => self.pgp.iter().any(|certificate| certificate.is(&recipient.name)),
            RecipientKind::AwsKms
            | RecipientKind::GcpKms
            | RecipientKind::AzureKeyVault
            | RecipientKind::VaultTransit
            | RecipientKind::HuaweiKms => false,
        }
    }

    /// A wrapping key for each identity whose secret is known here: age keys, SSH keys, and of an OpenPGP certificate
    /// each secret key that can decrypt. Plugins give none, and neither does an SSH key that is locked with another
    /// cipher than `ssh-keygen` takes by itself.
    pub fn wrapping_keys(&self) -> WrappingKeys {
        let age = self.age.iter().filter_map(age::Native::root);
        WrappingKeys::of(age.chain(self.pgp.iter().flat_map(pgp::Certificate::roots)))
    }

    /// Who opens with these identities: equal for keyrings that hold the same secrets in the same order, and for
    /// no others.
    ///
    /// Public parts would not do. A key file states its own, and neither an OpenSSH nor an OpenPGP key is checked
    /// against them: whoever writes another's public key over a secret of their own would pass for the other.
    /// What a plugin keeps is unknown here, so a keyring with one equals itself alone.
    pub(crate) fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    fn take_fingerprint(&self) -> [u8; 32] {
        // Each part begins with its kind and has the length of its kind, so no two lists read alike.
        let mut digest = Sha256::new_with_prefix("regent keyring\0");
        for native in &self.age {
            digest.update(b"a");
            digest.update(native.mark());
        }
        for mark in self.pgp.iter().flat_map(pgp::Certificate::marks) {
            digest.update(b"p");
            digest.update(mark);
        }
        for plugin in &self.plugins {
            digest.update(b"x");
            digest.update(plugin.number.to_be_bytes());
        }
        digest.finalize().into()
    }
}

/// Unwraps one recipient's copy of the data key (or Shamir part).
///
/// The identity that the recipient names is tried first, then all others: `sops` opens a copy
/// whose recipient is wrongly named as well.
pub(crate) fn unwrap(opener: Opener<'_>, recipient: &Recipient) -> Result<Plaintext, NotOpened> {
    match recipient.kind {
        RecipientKind::Age => age::unwrap(opener, recipient),
        RecipientKind::Pgp => pgp::unwrap(opener, recipient),
        RecipientKind::AwsKms
        | RecipientKind::GcpKms
        | RecipientKind::AzureKeyVault
        | RecipientKind::VaultTransit
        | RecipientKind::HuaweiKms => Err(NotOpened::NoIdentity),
    }
}

/// A number that this process has not given out before.
fn fresh_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Largest key file, in bytes. A ring of a hundred RSA 4096 keys with their signatures is half of
/// that; whatever is larger is no key file but a mistyped path.
const MAX_KEY_FILE: usize = 1 << 20;

/// Recipients in one wrapped data key. `sops` writes one, whoever wraps by hand a few; each costs a
/// try with each identity (75 µs with X25519, 16 ms with RSA 4096).
const MAX_DATA_KEY_STANZAS: usize = 16;

/// Longest wrapped data key, in bytes of text. Sixteen post-quantum stanzas are 26 KB.
const MAX_DATA_KEY_TEXT: usize = 64 << 10;

/// Longest data key: 32 bytes, 33 as a Shamir part. Twice that leaves room for a key that a
/// later check names as of the wrong length.
const MAX_DATA_KEY: usize = 64;

/// What a key file holds.
#[derive(Default)]
struct Brought {
    age: Vec<age::Native>,
    pgp: Vec<pgp::Certificate>,
}

/// Why a key file is not loaded.
struct Refused {
    line: Option<usize>,
    problem: IdentityProblem,
}

impl From<IdentityProblem> for Refused {
    fn from(problem: IdentityProblem) -> Self {
        Self { line: None, problem }
    }
}

/// Tells the kind of a key file by its contents and reads it.
fn read_key_file(bytes: &[u8], passphrases: &[Passphrase]) -> Result<(Brought, Loaded), Refused> {
    if bytes.len() > MAX_KEY_FILE {
        return Err(IdentityProblem::TooLarge.into());
    }
    let trimmed = bytes.trim_ascii();
    if trimmed.is_empty() {
        return Err(IdentityProblem::Empty.into());
    }
    if pgp::looks_like(bytes) {
        let keys = pgp::read_keys(bytes, passphrases)?;
        let brought = Brought { pgp: keys.certificates, ..Brought::default() };
        return Ok((brought, Loaded { skipped: keys.skipped, ..Loaded::default() }));
    }
    if age::looks_like_file(trimmed) {
        let text = age::open_identity_file(trimmed, passphrases)?;
        return read_lines(text.bytes());
    }
    if trimmed.starts_with(b"-----BEGIN ") {
        let key = ssh::read_key(trimmed, passphrases)?;
        return Ok((Brought { age: vec![key], ..Brought::default() }, Loaded::default()));
    }
    read_lines(bytes)
}

fn read_lines(bytes: &[u8]) -> Result<(Brought, Loaded), Refused> {
    let text = std::str::from_utf8(bytes).map_err(|_| IdentityProblem::Unknown)?;
    let lines = age::read_lines(text)?;
    if lines.natives.is_empty() && lines.plugins.is_empty() {
        return Err(IdentityProblem::Empty.into());
    }
    let brought = Brought { age: lines.natives, ..Brought::default() };
    Ok((brought, Loaded { plugins: lines.plugins, ..Loaded::default() }))
}
