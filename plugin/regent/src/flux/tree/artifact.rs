//! The tree in an artifact of source-controller, read by the rules by which kustomize-controller unpacks it
//! (`fluxcd/pkg/tar`), with bounds of its own.

use std::fmt;

use bytes::Bytes;
use regent_core::name::FilePath;
use sha2::{Digest as _, Sha256};

use super::{File, Filling, Tree, refused};
use crate::failure::Failure;
use crate::source::tar::archive::{Archive, Entry, Kind};
use crate::source::tar::{UploadLimits, UploadProblem, place};

/// The SHA-256 of an artifact's bytes, as Flux writes it: `sha256:` and 64 lower-case digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Digest([u8; 32]);

/// An artifact whose bytes are those that its digest names.
pub(crate) struct Artifact {
    gzip: Bytes,
}

impl Digest {
    /// Reads a digest of a status. Without a prefix it is SHA-256, as for kustomize-controller.
    ///
    /// # Errors
    /// The rule that it breaks. Of the algorithms that source-controller can be told to use, SHA-256 is its default
    /// and the only one that is read.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let (algorithm, digits) = text.split_once(':').unwrap_or(("sha256", text));
        match algorithm {
            "sha256" => Self::of_digits(digits).ok_or("its digest is no SHA-256 in lower-case hexadecimal"),
            "sha384" | "sha512" | "blake3" => {
                Err("its digest is no SHA-256; start source-controller with `--artifact-digest-algo=sha256`")
            }
            _other => Err("its digest names no algorithm that Flux has"),
        }
    }

    /// From 64 lower-case hexadecimal digits.
    pub(crate) fn of_digits(digits: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if digits.len() != 64 || !digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// Of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// What was hashed piece by piece.
    pub(crate) fn of_hasher(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// The digits alone, as in the name of an artifact's file.
    pub(crate) fn digits(self) -> String {
        let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from(DIGITS[usize::from(digit)]));
        self.0.iter().flat_map(digits).collect()
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.digits())
    }
}

impl Artifact {
    /// The bytes, where they are those of the digest. Nothing of them was looked at before.
    ///
    /// # Errors
    /// They are others.
    pub(crate) fn checked(gzip: Bytes, digest: Digest, label: &str) -> Result<Self, Failure> {
        if Digest::of(&gzip) == digest {
            return Ok(Self { gzip });
        }
        Err(refused(label, "its bytes are not those that its digest names; try again, it may have been replaced"))
    }
}

impl Tree {
    /// Unpacks an artifact: regular files, and folders for their rules; symbolic links are left out, as
    /// kustomize-controller does; everything else is refused.
    ///
    /// # Errors
    /// An archive that is damaged, larger than the limits, or has a name that is refused.
    pub(crate) fn unpack(artifact: &Artifact, label: &str, limits: UploadLimits) -> Result<Self, Failure> {
        let failed = |problem: UploadProblem| refused(label, &problem.to_string());
        let mut filling = Filling::new(label, limits);
        let mut archive = Archive::new(&*artifact.gzip, limits.stream);
        let mut entry = Entry::default();
        while archive.next(&mut entry).map_err(failed)? {
            let Some(name) = place(&entry).map_err(failed)? else { continue };
            let path = str::from_utf8(name).map_err(|_| refused(label, "it holds a name that is not UTF-8"))?;
            let path = FilePath::parse(path).map_err(|bad| refused(label, &bad.to_string()))?;
            match entry.kind {
                Kind::Folder => filling.folder(path)?,
                Kind::Link => filling.lost(path)?,
                Kind::File => {
                    filling.reserve(&path, entry.size)?;
                    let bytes = archive.body().map_err(failed)?;
                    filling.file(path, File { bytes: bytes.into(), is_executable: entry.is_executable })?;
                }
            }
        }
        Ok(filling.tree)
    }
}
