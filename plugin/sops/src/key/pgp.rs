//! OpenPGP: secret keys unlocked once, and messages that they open.
//!
//! The `pgp` crate does the cryptography. Packets are walked here, for three reasons: a key file is
//! taken by its secret key packets alone (a primary that was left out, a missing or expired
//! signature do not matter for decryption); a message is read to its end, with its integrity
//! checked, before any byte inside it is interpreted; and what compressed packets expand to is bounded.

use std::io::{BufRead, Read};

use ::pgp::armor::Dearmor;
use ::pgp::composed::{DecryptionOptions, Edata, Esk, Message, PlainSessionKey};
use ::pgp::crypto::public_key::PublicKeyAlgorithm;
use ::pgp::packet::{
    Decompressor, LiteralDataHeader, PacketHeader, PacketParser, PublicKeyEncryptedSessionKey, SecretKey, SecretSubkey,
};
use ::pgp::types::{
    DecryptionKey, EskType, KeyDetails, PacketLength, Password, PkeskBytes, PkeskVersion, S2kParams, SecretParams,
    StringToKey, Tag,
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    MAX_DATA_KEY, MAX_DATA_KEY_STANZAS, MAX_DATA_KEY_TEXT, MAX_KEY_FILE, NotOpened, Passphrase, Refused, fresh_number,
};
use crate::error::IdentityProblem;
use crate::metadata::Recipient;
use crate::opener::Opener;
use crate::plaintext::{Plaintext, Wiping};
use crate::wrapping::{Kind, Root};

/// The keys of one certificate that decrypt, unlocked.
pub(crate) struct Certificate {
    /// The primary key's fingerprint, upper case; of a subkey without its primary, its own.
    fingerprint: String,
    keys: Vec<Unlocked>,
}

/// One unlocked key.
struct Unlocked {
    fingerprint: String,
    mark: [u8; 32],
    root: Option<Root>,
    secret: Secret,
}

enum Secret {
    Primary(SecretKey),
    Subkey(SecretSubkey),
}

impl Certificate {
    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// For each key what only the holder of this very secret has: a digest of it and its fingerprint.
    pub(super) fn marks(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.keys.iter().map(|key| &key.mark)
    }

    /// What the wrapping keys are derived from, one for each key.
    pub(super) fn roots(&self) -> impl Iterator<Item = &Root> {
        self.keys.iter().filter_map(|key| key.root.as_ref())
    }

    /// Takes over the keys that are not known yet.
    pub(super) fn merge(&mut self, other: Self) {
        for key in other.keys {
            if !self.keys.iter().any(|known| known.fingerprint == key.fingerprint) {
                self.keys.push(key);
            }
        }
    }

    /// Whether `recipient`, as a document names it, is this certificate or one of its subkeys: a
    /// fingerprint or long key id in any case, with blanks, with gpg's `!` or `0x`. (`sops` hands
    /// the text to `gpg -r`, so it can be a mail address; that is no public part and matches nothing.)
    pub(super) fn is(&self, recipient: &str) -> bool {
        const LONG_KEY_ID: usize = 16;
        let mut name: String = recipient.chars().filter(|character| !character.is_whitespace()).collect();
        name.make_ascii_uppercase();
        let name = name.strip_prefix("0X").unwrap_or(&name);
        let name = name.strip_suffix('!').unwrap_or(name);
        let own = self.keys.iter().map(|key| &key.fingerprint);
        own.chain(std::iter::once(&self.fingerprint)).any(|fingerprint| {
            // The long key id is the end of a version 4 fingerprint and the beginning of a version 6 one.
            name == fingerprint
                || name.len() == LONG_KEY_ID && (fingerprint.ends_with(name) || fingerprint.starts_with(name))
        })
    }
}

/// Whether a file holds OpenPGP data: armor at the beginning of a line, or a binary key packet.
pub(super) fn looks_like(bytes: &[u8]) -> bool {
    armor_blocks(bytes).next().is_some() || is_binary_key(bytes)
}

/// The keys of a file.
pub(super) struct Keys {
    pub(super) certificates: Vec<Certificate>,
    /// Keys that stay locked or are of an unsupported kind while another one can be used, with the
    /// position of their packet.
    pub(super) skipped: Vec<(usize, IdentityProblem)>,
}

/// Reads every secret key that can decrypt and unlocks it with a passphrase, or with none.
pub(super) fn read_keys(bytes: &[u8], passphrases: &[Passphrase]) -> Result<Keys, Refused> {
    let mut ring = Ring { passwords: passwords(passphrases), ..Ring::default() };
    if is_binary_key(bytes) {
        ring.read(bytes)?;
    } else {
        for block in armor_blocks(bytes) {
            let mut binary = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE));
            Dearmor::new(block).read_to_end(&mut binary).map_err(|_| IdentityProblem::Damaged)?;
            ring.read(&binary)?;
        }
    }
    if ring.certificates.is_empty() {
        let locked = ring.skipped.iter().map(|(_, problem)| *problem).max_by_key(|problem| urgency(*problem));
        let problem = locked
            .or(ring.signs.then_some(IdentityProblem::Unsupported))
            .or(ring.public.then_some(IdentityProblem::PublicOnly));
        return Err(problem.unwrap_or(IdentityProblem::Unknown).into());
    }
    Ok(Keys { certificates: ring.certificates, skipped: ring.skipped })
}

/// Unwraps the PGP message of a `sops.pgp` entry.
pub(super) fn unwrap(opener: Opener<'_>, recipient: &Recipient) -> Result<Plaintext, NotOpened> {
    let text = recipient.enc.as_bytes();
    let named = opener.keyring().pgp.iter().any(|certificate| certificate.is(&recipient.name));
    let closed = if named { NotOpened::Damaged } else { NotOpened::NoIdentity };
    if text.len() > MAX_DATA_KEY_TEXT {
        return Err(closed);
    }
    let packets = dearmor_message(text).ok_or(closed)?;
    match open(&packets, opener, MAX_DATA_KEY_STANZAS, MAX_DATA_KEY) {
        Ok(key) if key.is_empty() => Err(NotOpened::Damaged),
        Ok(key) => Ok(key),
        Err(Closed::NoIdentity(_)) => Err(NotOpened::NoIdentity),
        Err(Closed::Malformed | Closed::Passphrase) => Err(closed),
        Err(Closed::Unauthentic | Closed::Content | Closed::TooLarge) => Err(NotOpened::Damaged),
    }
}

/// Why a message is not opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// No encrypted OpenPGP message, or more recipients than allowed.
    Malformed,
    /// Encrypted to a passphrase alone.
    Passphrase,
    /// No key fits; the key ids that the message names.
    NoIdentity(Vec<String>),
    /// A key fits, and its packet or the contents do not decrypt or authenticate.
    Unauthentic,
    /// Authentic, and not one literal packet inside.
    Content,
    /// The plaintext is longer than allowed.
    TooLarge,
}

/// Opens a binary message. Keys that the message names are tried first, then all on packets that
/// name none (`--throw-keyids`). An opener that is stopped meanwhile tries no further key.
pub(crate) fn open<'a>(
    packets: &[u8],
    opener: impl Into<Opener<'a>>,
    recipients: usize,
    most: usize,
) -> Result<Plaintext, Closed> {
    let opener = opener.into();
    let esks = match Message::from_bytes(packets) {
        Ok(Message::Encrypted { esk, .. }) => esk,
        Ok(Message::Literal { .. } | Message::Compressed { .. } | Message::Signed { .. }) | Err(_) => {
            return Err(Closed::Malformed);
        }
    };
    if esks.len() > recipients {
        return Err(Closed::Malformed);
    }
    let to_keys: Vec<&PublicKeyEncryptedSessionKey> = esks
        .iter()
        .filter_map(|esk| match esk {
            Esk::PublicKeyEncryptedSessionKey(packet) => Some(packet),
            Esk::SymKeyEncryptedSessionKey(_) => None,
        })
        .collect();
    if to_keys.is_empty() {
        return Err(if esks.is_empty() { Closed::Malformed } else { Closed::Passphrase });
    }
    let mut damaged = false;
    for hidden in [false, true] {
        for packet in to_keys.iter().filter(|packet| is_hidden(packet) == hidden) {
            for key in opener.keyring().pgp.iter().flat_map(|certificate| &certificate.keys) {
                if opener.is_stopped() || !key.secret.is_meant_by(packet) {
                    continue;
                }
                let Some(session_key) = key.secret.session_key(packet) else {
                    damaged |= !hidden;
                    continue;
                };
                match decrypt(packets, &session_key) {
                    Some(inside) => return unpack(inside, most),
                    // A hidden recipient's packet can look opened by a wrong key: a checksum has 16 bits.
                    None => damaged = true,
                }
            }
        }
    }
    if damaged { Err(Closed::Unauthentic) } else { Err(Closed::NoIdentity(names(&to_keys))) }
}

/// The binary form of a message out of its armor; text before the armor is skipped as gpg does.
pub(crate) fn dearmor_message(text: &[u8]) -> Option<Vec<u8>> {
    let block = armor_blocks(text).next().filter(|block| block.starts_with(ARMOR_MESSAGE))?;
    let mut packets = Vec::with_capacity(text.len() / 4 * 3);
    Dearmor::new(block).read_to_end(&mut packets).ok()?;
    Some(packets)
}

/// The binary form of a message: as it is, or out of its armor.
pub(crate) fn dearmor_where_armored(bytes: &[u8]) -> Option<Vec<u8>> {
    match bytes.first() {
        Some(first) if first & PACKET_BIT != 0 => Some(bytes.to_vec()),
        Some(_) => dearmor_message(bytes),
        None => None,
    }
}

const ARMOR: &[u8] = b"-----BEGIN PGP ";
const ARMOR_MESSAGE: &[u8] = b"-----BEGIN PGP MESSAGE-----";

/// Set in the first byte of every packet and never in text.
const PACKET_BIT: u8 = 0x80;

/// Layers of compression in a message; gpg writes one.
const MAX_LAYERS: usize = 4;

/// Room for the headers and signatures around the literal data that a compressed packet holds.
const AROUND_LITERAL: usize = 64 << 10;

/// Highest memory that Argon2 may ask for when a key is unlocked, as a power of two of KiB: 1 GiB,
/// as for age's scrypt. RFC 9580's own recommendation is 2 GiB for machines without limits, 64 MiB else.
const MAX_ARGON2_MEMORY: u8 = 20;

/// The armored blocks of a text, each from its first line on (and to the end of the text).
fn armor_blocks(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = text.get(from..)?;
            let at = from + rest.windows(ARMOR.len()).position(|window| window == ARMOR)?;
            from = at + ARMOR.len();
            let begins_line = at.checked_sub(1).and_then(|before| text.get(before)).is_none_or(|byte| *byte == b'\n');
            if begins_line {
                return text.get(at..);
            }
        }
    })
}

fn is_binary_key(bytes: &[u8]) -> bool {
    let Ok(header) = PacketHeader::try_from_reader(bytes) else {
        return false;
    };
    bytes.first().is_some_and(|first| first & PACKET_BIT != 0)
        && matches!(header.tag(), Tag::SecretKey | Tag::SecretSubkey | Tag::PublicKey | Tag::PublicSubkey | Tag::Marker)
}

/// The passphrases in the order they are tried; the empty one first, because it costs a hash alone.
fn passwords(passphrases: &[Passphrase]) -> Vec<Password> {
    let given = passphrases.iter().map(|passphrase| Password::from(passphrase.bytes()));
    std::iter::once(Password::empty()).chain(given).collect()
}

/// Which of several problems a person should hear of first.
fn urgency(problem: IdentityProblem) -> u8 {
    match problem {
        IdentityProblem::PassphraseMissing | IdentityProblem::PassphraseWrong => 3,
        IdentityProblem::TooCostly => 2,
        IdentityProblem::Damaged => 1,
        IdentityProblem::Unknown
        | IdentityProblem::BadLine
        | IdentityProblem::Unsupported
        | IdentityProblem::PublicOnly
        | IdentityProblem::Empty
        | IdentityProblem::TooLarge => 0,
    }
}

/// What a key file was read into so far.
#[derive(Default)]
struct Ring {
    passwords: Vec<Password>,
    certificates: Vec<Certificate>,
    /// Fingerprint of the primary key whose packets are being read.
    primary: Option<String>,
    /// A key without its secret was seen.
    public: bool,
    /// A secret key that cannot decrypt was seen.
    signs: bool,
    skipped: Vec<(usize, IdentityProblem)>,
    packets: usize,
}

impl Ring {
    fn read(&mut self, binary: &[u8]) -> Result<(), IdentityProblem> {
        let mut parser = PacketParser::new(binary);
        while let Some(packet) = parser.next_ref() {
            let mut body = packet.map_err(|_| IdentityProblem::Damaged)?;
            let header = body.packet_header();
            let tag = header.tag();
            self.packets += 1;
            if is_of_message(tag) {
                return Err(IdentityProblem::Unknown);
            }
            if matches!(tag, Tag::SecretKey | Tag::SecretSubkey) {
                let mut bytes = buffer_for(header, binary.len());
                body.read_to_end(&mut bytes).map_err(|_| IdentityProblem::Damaged)?;
                self.take(header, &bytes);
                continue;
            }
            self.public |= matches!(tag, Tag::PublicKey | Tag::PublicSubkey);
            // Signatures, user ids and whatever else surrounds keys do not matter for decryption.
            std::io::copy(&mut body, &mut std::io::sink()).map_err(|_| IdentityProblem::Damaged)?;
        }
        Ok(())
    }

    fn take(&mut self, header: PacketHeader, body: &[u8]) {
        if header.tag() == Tag::SecretKey {
            let parsed = SecretKey::try_from_reader(header, body);
            self.primary = parsed.as_ref().ok().map(hex);
            self.add(parsed.map(Secret::Primary).ok(), body);
        } else {
            let parsed = SecretSubkey::try_from_reader(header, body);
            self.add(parsed.map(Secret::Subkey).ok(), body);
        }
    }

    fn add(&mut self, parsed: Option<Secret>, body: &[u8]) {
        let Some(mut secret) = parsed else {
            if is_stub(body) {
                self.public = true;
            } else {
                // A version or an algorithm of its own: another key of the ring may still be usable.
                self.skipped.push((self.packets, IdentityProblem::Unsupported));
            }
            return;
        };
        if !secret.decrypts() {
            self.signs = true;
            return;
        }
        match secret.unlock(&self.passwords) {
            Unlocking::Unlocked => {
                let fingerprint = secret.fingerprint();
                let certificate = self.primary.clone().unwrap_or_else(|| fingerprint.clone());
                let key = Unlocked { mark: secret.mark(&fingerprint), root: secret.root(), fingerprint, secret };
                match self.certificates.iter_mut().find(|known| known.fingerprint == certificate) {
                    Some(known) => known.keys.push(key),
                    None => self.certificates.push(Certificate { fingerprint: certificate, keys: vec![key] }),
                }
            }
            Unlocking::Stub => self.public = true,
            Unlocking::TooCostly => self.skipped.push((self.packets, IdentityProblem::TooCostly)),
            Unlocking::Locked => {
                const EMPTY_ALONE: usize = 1;
                let missing = self.passwords.len() == EMPTY_ALONE;
                let problem =
                    if missing { IdentityProblem::PassphraseMissing } else { IdentityProblem::PassphraseWrong };
                self.skipped.push((self.packets, problem));
            }
        }
    }
}

/// Whether a secret key packet holds no secret: gpg's `gnu-dummy` (the primary was left out) and
/// `gnu-divert-to-card`.
fn is_stub(body: &[u8]) -> bool {
    const GNU: &[u8] = b"GNU";
    body.windows(GNU.len()).any(|window| window == GNU)
}

enum Unlocking {
    Unlocked,
    Stub,
    TooCostly,
    Locked,
}

impl Secret {
    fn fingerprint(&self) -> String {
        match self {
            Self::Primary(key) => hex(key),
            Self::Subkey(key) => hex(key),
        }
    }

    fn mark(&self, fingerprint: &str) -> [u8; 32] {
        let (params, version) = match self {
            Self::Primary(key) => (key.secret_params(), key.version()),
            Self::Subkey(key) => (key.secret_params(), key.version()),
        };
        let mut digest = Sha256::new_with_prefix(fingerprint);
        digest.update(b"\0");
        if params.to_writer(&mut digest, version).is_err() {
            // No digest cannot be written to; should a kind of key be unwritable, it is shared with nobody.
            digest.update(fresh_number().to_be_bytes());
        }
        digest.finalize().into()
    }

    /// Of the secret parameters alone. `None` for what is locked or cannot be written.
    fn root(&self) -> Option<Root> {
        let (params, version) = match self {
            Self::Primary(key) => (key.secret_params(), key.version()),
            Self::Subkey(key) => (key.secret_params(), key.version()),
        };
        match params {
            SecretParams::Plain(plain) => {
                let mut secret = Wiping::with_capacity(plain.write_len(version));
                plain.to_writer(&mut secret, version).ok()?;
                Some(Root::of(Kind::OpenPgp, &secret.finish()))
            }
            SecretParams::Encrypted(_) => None,
        }
    }

    /// Whether keys of this algorithm decrypt at all.
    fn decrypts(&self) -> bool {
        let algorithm = match self {
            Self::Primary(key) => key.algorithm(),
            Self::Subkey(key) => key.algorithm(),
        };
        matches!(
            algorithm,
            PublicKeyAlgorithm::RSA
                | PublicKeyAlgorithm::RSAEncrypt
                | PublicKeyAlgorithm::ECDH
                | PublicKeyAlgorithm::X25519
                | PublicKeyAlgorithm::X448
        )
    }

    fn unlock(&mut self, passwords: &[Password]) -> Unlocking {
        let params = match self {
            Self::Primary(key) => key.secret_params(),
            Self::Subkey(key) => key.secret_params(),
        };
        match params {
            SecretParams::Plain(_) => return Unlocking::Unlocked,
            SecretParams::Encrypted(locked) => match locked.string_to_key_params() {
                S2kParams::Aead { s2k, .. } | S2kParams::Cfb { s2k, .. } | S2kParams::MalleableCfb { s2k, .. } => {
                    match s2k {
                        StringToKey::Private { .. } | StringToKey::Reserved { .. } | StringToKey::Other { .. } => {
                            return Unlocking::Stub;
                        }
                        StringToKey::Argon2 { m_enc, .. } if *m_enc > MAX_ARGON2_MEMORY => {
                            return Unlocking::TooCostly;
                        }
                        StringToKey::Argon2 { .. }
                        | StringToKey::Simple { .. }
                        | StringToKey::Salted { .. }
                        | StringToKey::IteratedAndSalted { .. } => {}
                    }
                }
                S2kParams::Unprotected | S2kParams::LegacyCfb { .. } => {}
            },
        }
        let unlocked = passwords.iter().any(|password| match self {
            Self::Primary(key) => key.remove_password(password).is_ok(),
            Self::Subkey(key) => key.remove_password(password).is_ok(),
        });
        if unlocked { Unlocking::Unlocked } else { Unlocking::Locked }
    }

    fn is_meant_by(&self, packet: &PublicKeyEncryptedSessionKey) -> bool {
        match self {
            Self::Primary(key) => packet.match_identity(key),
            Self::Subkey(key) => packet.match_identity(key),
        }
    }

    fn session_key(&self, packet: &PublicKeyEncryptedSessionKey) -> Option<PlainSessionKey> {
        let kind = match packet.version() {
            PkeskVersion::V3 => EskType::V3_4,
            PkeskVersion::V6 => EskType::V6,
            PkeskVersion::Other(_) => return None,
        };
        let values: &PkeskBytes = packet.values().ok()?;
        let key: &dyn DecryptionKey = match self {
            Self::Primary(key) => key,
            Self::Subkey(key) => key,
        };
        key.decrypt(&Password::empty(), values, kind).ok()?.ok()
    }
}

/// A buffer for a packet's body that need not grow, so that nothing is left behind unwiped. The
/// length is the packet's own claim, so `most` bounds it.
fn buffer_for(header: PacketHeader, most: usize) -> Zeroizing<Vec<u8>> {
    let length = match header.packet_length() {
        PacketLength::Fixed(length) => usize::try_from(length).unwrap_or(most).min(most),
        PacketLength::Indeterminate | PacketLength::Partial(_) => most,
    };
    Zeroizing::new(Vec::with_capacity(length))
}

/// Packets of messages, which no key file has.
fn is_of_message(tag: Tag) -> bool {
    matches!(
        tag,
        Tag::PublicKeyEncryptedSessionKey
            | Tag::SymKeyEncryptedSessionKey
            | Tag::SymEncryptedData
            | Tag::SymEncryptedProtectedData
            | Tag::GnupgAeadData
            | Tag::CompressedData
            | Tag::LiteralData
    )
}

/// Packets that may stand before and after a message's content.
fn is_around_content(tag: Tag) -> bool {
    matches!(
        tag,
        Tag::Signature
            | Tag::OnePassSignature
            | Tag::Marker
            | Tag::Padding
            | Tag::UnassignedNonCritical(_)
            | Tag::Experimental(_)
    )
}

/// A fingerprint in upper case, as gpg shows it.
fn hex(key: &impl KeyDetails) -> String {
    format!("{:X}", key.fingerprint())
}

fn is_hidden(packet: &PublicKeyEncryptedSessionKey) -> bool {
    packet.id().is_ok_and(::pgp::types::KeyId::is_wildcard) || packet.fingerprint().is_ok_and(|named| named.is_none())
}

fn names(packets: &[&PublicKeyEncryptedSessionKey]) -> Vec<String> {
    let name = |packet: &&PublicKeyEncryptedSessionKey| match (packet.id(), packet.fingerprint()) {
        (Ok(id), _) if !id.is_wildcard() => format!("pgp {}", id.to_string().to_ascii_uppercase()),
        (_, Ok(Some(fingerprint))) => format!("pgp {fingerprint:X}"),
        (_, _) => "a hidden pgp recipient".to_owned(),
    };
    packets.iter().map(name).collect()
}

/// Decrypts the container to its authenticated end: MDC, or every AEAD chunk and the final tag.
fn decrypt(packets: &[u8], session_key: &PlainSessionKey) -> Option<Zeroizing<Vec<u8>>> {
    let Ok(Message::Encrypted { mut edata, .. }) = Message::from_bytes(packets) else {
        return None;
    };
    // Without integrity protection (tag 9) nothing is opened; gpg refuses it as well.
    edata.decrypt_with_options(session_key, DecryptionOptions::new().enable_gnupg_aead()).ok()?;
    let mut inside = Zeroizing::new(Vec::with_capacity(packets.len()));
    edata.read_to_end(&mut inside).ok()?;
    nothing_follows(&mut edata).then_some(inside)
}

fn nothing_follows(edata: &mut Edata<'_>) -> bool {
    edata.get_mut().get_mut().fill_buf().is_ok_and(<[u8]>::is_empty)
}

/// The literal data in a decrypted message. Signatures are passed over: who may write to a
/// repository is not decided here.
fn unpack(mut packets: Zeroizing<Vec<u8>>, most: usize) -> Result<Plaintext, Closed> {
    for _ in 0..MAX_LAYERS {
        match content(&packets)? {
            Content::Literal(literal) if literal.len() > most => return Err(Closed::TooLarge),
            Content::Literal(mut literal) => return Ok(Plaintext::new(std::mem::take(&mut *literal))),
            Content::Compressed(compressed) => {
                let most = most.saturating_add(AROUND_LITERAL);
                let expanded = Decompressor::from_reader(compressed.as_slice()).map_err(|_| Closed::Content)?;
                let mut inside = Zeroizing::new(Vec::with_capacity(most + 1));
                expanded.take(most as u64 + 1).read_to_end(&mut inside).map_err(|_| Closed::Content)?;
                if inside.len() > most {
                    return Err(Closed::TooLarge);
                }
                packets = inside;
            }
        }
    }
    Err(Closed::Content)
}

enum Content {
    Literal(Zeroizing<Vec<u8>>),
    Compressed(Zeroizing<Vec<u8>>),
}

/// The one packet with content among signatures, markers and padding.
fn content(packets: &[u8]) -> Result<Content, Closed> {
    let mut found = None;
    let mut parser = PacketParser::new(packets);
    while let Some(packet) = parser.next_ref() {
        let mut packet = packet.map_err(|_| Closed::Content)?;
        let header = packet.packet_header();
        let kind: fn(_) -> _ = if header.tag() == Tag::LiteralData {
            // The header's mode is passed over. gpg drops carriage returns from what is marked as text;
            // go-crypto marks by default whatever it is given, also a data key.
            LiteralDataHeader::try_from_reader(&mut packet).map_err(|_| Closed::Content)?;
            Content::Literal
        } else if header.tag() == Tag::CompressedData {
            Content::Compressed
        } else if is_around_content(header.tag()) {
            std::io::copy(&mut packet, &mut std::io::sink()).map_err(|_| Closed::Content)?;
            continue;
        } else {
            return Err(Closed::Content);
        };
        let mut body = buffer_for(header, packets.len());
        packet.read_to_end(&mut body).map_err(|_| Closed::Content)?;
        if found.replace(kind(body)).is_some() {
            return Err(Closed::Content);
        }
    }
    found.ok_or(Closed::Content)
}
