//! An artifact as kustomize-controller takes it: a gzipped tar of regular files in the byte order of their paths, as
//! source-controller writes it (modes 0600 and 0700, no owner, no time), without folders, which come to be by themselves.
//!
//! The bytes are a function of the tree, for every replica, processor and version: a replica of another version serves
//! the artifact that a status names, or the controller finds none. That is why nothing is compressed. What a compressor
//! makes of a text is its own affair and changes with its versions; gzip's stored blocks leave nothing to choose. An
//! artifact of manifests is small, and most of it is ciphertext.

use std::collections::BTreeMap;

use bytes::Bytes;
use flate2::Crc;
use regent_core::name::FilePath;
use tar::{EntryType, Header};

use super::tree::{Digest, Tree};
use crate::failure::Failure;
use crate::source::tar::header;

/// A packed tree.
#[derive(Clone)]
pub(crate) struct Packed {
    /// The gzipped tar.
    pub(crate) gzip: Bytes,
    /// Of these bytes.
    pub(crate) digest: Digest,
}

/// What becomes of single files: other bytes, or none. A path that the tree does not have is a new file.
pub(crate) type Changes = BTreeMap<FilePath, Option<Bytes>>;

/// Packs a tree with its changes. A file keeps its mode; a new one cannot be run.
///
/// # Errors
/// A new file that lies below another file, or is the folder of one: no disk can hold both.
pub(crate) fn pack(tree: &Tree, changes: &Changes) -> Result<Packed, Failure> {
    let mut files: BTreeMap<&FilePath, (&[u8], bool)> =
        tree.iter().map(|(path, file)| (path, (&*file.bytes, file.is_executable))).collect();
    for (path, change) in changes {
        match change {
            Some(bytes) => {
                let is_executable = files.get(path).is_some_and(|(_, is_executable)| *is_executable);
                files.insert(path, (bytes, is_executable));
            }
            None => drop(files.remove(path)),
        }
    }
    for path in changes.keys() {
        fits(path, &files)?;
    }
    let size = files.iter().map(|(path, (bytes, _))| entry_bytes(path, bytes)).sum::<usize>() + END;
    let mut gzip = Stored::new(size);
    for (path, (bytes, is_executable)) in &files {
        let mut header = Header::new_ustar();
        if !header::place(&mut header, path.as_str().as_bytes()) {
            let records = path_record(path.as_str());
            gzip.push(head(&mut long_name(), EntryType::XHeader, records.len(), FILE));
            gzip.push(records.as_bytes());
            gzip.fill();
            // What a reader without PAX records sees.
            header::place(&mut header, LONG_NAME);
        }
        gzip.push(head(&mut header, EntryType::Regular, bytes.len(), if *is_executable { PROGRAM } else { FILE }));
        gzip.push(bytes);
        gzip.fill();
    }
    gzip.push(&[0; END]);
    let gzip = Bytes::from(gzip.finish());
    Ok(Packed { digest: Digest::of(&gzip), gzip })
}

/// Whether a disk can hold a file beside the others.
fn fits(path: &FilePath, files: &BTreeMap<&FilePath, (&[u8], bool)>) -> Result<(), Failure> {
    let refused = |other: &FilePath| Failure::World {
        what: "pack",
        name: path.as_str().to_owned(),
        reason: format!("`{other}` is a file too, and only one of them can be a folder"),
    };
    if !files.contains_key(path) {
        return Ok(());
    }
    let mut above = path.parent();
    while let Some(folder) = above {
        if files.contains_key(&folder) {
            return Err(refused(&folder));
        }
        above = folder.parent();
    }
    let mut below = files.range::<&FilePath, _>(path..).skip(1).map(|(other, _)| *other);
    // All that begin with its name stand together, those in it and others.
    let inside = below.find_map(|other| match other.as_str().strip_prefix(path.as_str()) {
        Some(rest) if rest.starts_with('/') => Some(Some(other)),
        Some(_) => None,
        None => Some(None),
    });
    inside.flatten().map_or(Ok(()), |other| Err(refused(other)))
}

/// A header of root's, at no time.
fn head(header: &mut Header, kind: EntryType, size: usize, mode: u32) -> &[u8] {
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size as u64);
    header.set_cksum();
    header.as_bytes()
}

/// The name of the entry that holds a long name.
fn long_name() -> Header {
    let mut header = Header::new_ustar();
    header::place(&mut header, LONG_NAME);
    header
}

/// A PAX record of a path: its own length, with the digits of that, stands in front.
fn path_record(path: &str) -> String {
    let rest = format!(" path={path}\n");
    let mut length = rest.len();
    while length.to_string().len() + rest.len() != length {
        length = length.to_string().len() + rest.len();
    }
    format!("{length}{rest}")
}

/// Bytes of an entry with all that belongs to it.
fn entry_bytes(path: &FilePath, bytes: &[u8]) -> usize {
    let is_short = header::place(&mut Header::new_ustar(), path.as_str().as_bytes());
    let long = if is_short { 0 } else { BLOCK + path_record(path.as_str()).len().next_multiple_of(BLOCK) };
    long + BLOCK + bytes.len().next_multiple_of(BLOCK)
}

/// A gzip of stored blocks (RFC 1951, 3.2.4; RFC 1952) around a known number of bytes.
struct Stored {
    gzip: Vec<u8>,
    checksum: Crc,
    /// Bytes that are still to come, and those of the block that was begun.
    left: usize,
    block: usize,
}

impl Stored {
    fn new(size: usize) -> Self {
        let blocks = size.div_ceil(MAX_STORED);
        let mut gzip = Vec::with_capacity(HEAD.len() + blocks * STORED_HEAD + size + TRAILER);
        gzip.extend_from_slice(&HEAD);
        Self { gzip, checksum: Crc::new(), left: size, block: 0 }
    }

    fn push(&mut self, mut bytes: &[u8]) {
        self.checksum.update(bytes);
        while !bytes.is_empty() {
            if self.block == 0 {
                self.begin();
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.block));
            self.gzip.extend_from_slice(now);
            self.block -= now.len();
            self.left -= now.len();
            bytes = later;
        }
    }

    fn begin(&mut self) {
        let length = u16::try_from(self.left).unwrap_or(u16::MAX);
        self.block = usize::from(length);
        self.gzip.push(u8::from(self.block == self.left));
        self.gzip.extend_from_slice(&length.to_le_bytes());
        self.gzip.extend_from_slice(&(!length).to_le_bytes());
    }

    /// Zeros up to the next whole block of a tar.
    fn fill(&mut self) {
        let written = self.checksum.amount() as usize;
        self.push(&[0; BLOCK][..written.next_multiple_of(BLOCK) - written]);
    }

    fn finish(mut self) -> Vec<u8> {
        self.gzip.extend_from_slice(&self.checksum.sum().to_le_bytes());
        self.gzip.extend_from_slice(&self.checksum.amount().to_le_bytes());
        self.gzip
    }
}

/// Gzip's header: deflate, no flags, no time, no level, no system.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// Most bytes of a stored block, and those in front of it.
const MAX_STORED: usize = u16::MAX as usize;
const STORED_HEAD: usize = 5;
/// The checksum and the size.
const TRAILER: usize = 8;
/// A tar's unit, and its end: two of them.
const BLOCK: usize = 512;
const END: usize = 2 * BLOCK;
/// Source-controller's modes for a file, and for one that can be run.
const FILE: u32 = 0o600;
const PROGRAM: u32 = 0o700;
const LONG_NAME: &[u8] = b"long-name";

#[cfg(test)]
mod tests;
