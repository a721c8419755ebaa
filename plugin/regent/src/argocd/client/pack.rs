//! A repository packed as Argo CD's repo-server packs it (`util/io/files/tar.go`): gzip of a tar in lexical order
//! whose first entry is `.`, folders without a slash, links as links. Packed in memory, because the checksum goes
//! ahead of the first byte and nothing is to be left on a disk; so the packed repository must fit there.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use git2::{Commit, ObjectType, Oid, Repository};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use crate::failure::Failure;
use crate::source::git::MODE_LINK;
use crate::source::tar::header;

/// A packed repository.
pub(crate) struct Packed {
    /// The gzipped tar.
    pub(super) gzip: Bytes,
    /// Its SHA-256, in lower-case hexadecimal.
    pub(super) checksum: String,
}

/// Packs a folder with everything in it, `.git` too, as Argo CD does with its clone. Sockets, devices and pipes are
/// left out. `limit` bounds the unpacked tar, in bytes.
pub(crate) fn folder(top: &Path, limit: u64) -> Result<Packed, Failure> {
    let label = top.display().to_string();
    let mut packer = Packer::new(&label, limit);
    let mut ahead = vec![PathBuf::new()];
    while let Some(inside) = ahead.pop() {
        let path = top.join(&inside);
        let cannot_read = |error: io::Error| Failure::io("read", &path, &error);
        let status = fs::symlink_metadata(&path).map_err(cannot_read)?;
        let name = if inside.as_os_str().is_empty() { b"." } else { inside.as_os_str().as_bytes() };
        let entry = Entry { name, mode: status.mode() & 0o7777, mtime: status.mtime() };
        if status.is_dir() {
            packer.folder(&entry)?;
            let mut names = fs::read_dir(&path)
                .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>())
                .map_err(cannot_read)?;
            // The last one is taken first.
            names.sort_unstable_by(|a, b| b.cmp(a));
            ahead.extend(names.iter().map(|name| inside.join(name)));
        } else if status.is_symlink() {
            let target = fs::read_link(&path).map_err(cannot_read)?.into_os_string().into_vec();
            packer.link(&entry, &target)?;
        } else if status.is_file() {
            let file = File::open(&path).map_err(cannot_read)?;
            packer.file(&entry, status.len(), file)?;
        }
    }
    packer.finish()
}

/// Packs the tree of a commit, as Argo CD would with `.git` excluded; a submodule is an empty folder.
pub(crate) fn commit(repository: &Repository, commit: &Commit<'_>, label: &str, limit: u64) -> Result<Packed, Failure> {
    let failed = |error: git2::Error| Failure::World {
        what: "read",
        name: label.to_owned(),
        reason: error.message().to_owned(),
    };
    let odb = repository.odb().map_err(failed)?;
    let mtime = commit.time().seconds();
    let mut packer = Packer::new(label, limit);
    packer.folder(&Entry { name: b".", mode: 0o755, mtime })?;
    let mut ahead = Vec::new();
    below(repository, commit.tree_id(), b"", &mut ahead).map_err(failed)?;
    while let Some(Seen { name, id, kind, mode }) = ahead.pop() {
        let entry = Entry { name: &name, mode: u32::try_from(mode & 0o777).unwrap_or_default(), mtime };
        match kind {
            ObjectType::Tree => {
                packer.folder(&Entry { mode: 0o755, ..entry })?;
                below(repository, id, &name, &mut ahead).map_err(failed)?;
            }
            ObjectType::Blob => {
                let (size, _) = odb.read_header(id).map_err(failed)?;
                packer.reserve(size as u64)?;
                let object = odb.read(id).map_err(failed)?;
                if mode == MODE_LINK {
                    packer.link(&Entry { mode: 0o777, ..entry }, object.data())?;
                } else {
                    packer.file(&entry, object.data().len() as u64, object.data())?;
                }
            }
            ObjectType::Commit | ObjectType::Tag | ObjectType::Any => {
                packer.folder(&Entry { mode: 0o755, ..entry })?;
            }
        }
    }
    packer.finish()
}

/// An entry of a tree, still to be packed.
struct Seen {
    name: Vec<u8>,
    id: Oid,
    kind: ObjectType,
    mode: i32,
}

/// Notes the entries of a tree so that the first by name is taken first: Git sorts folders as if their names ended
/// with a slash, a walk over files does not.
fn below(repository: &Repository, tree: Oid, folder: &[u8], ahead: &mut Vec<Seen>) -> Result<(), git2::Error> {
    let tree = repository.find_tree(tree)?;
    let at = ahead.len();
    for entry in &tree {
        let name =
            if folder.is_empty() { entry.name_bytes().to_vec() } else { [folder, entry.name_bytes()].join(&b'/') };
        let kind = entry.kind().unwrap_or(ObjectType::Any);
        ahead.push(Seen { name, id: entry.id(), kind, mode: entry.filemode() });
    }
    ahead[at..].sort_unstable_by(|a, b| b.name.cmp(&a.name));
    Ok(())
}

/// What every entry has.
struct Entry<'a> {
    name: &'a [u8],
    mode: u32,
    mtime: i64,
}

struct Packer<'a> {
    tar: Builder<GzEncoder<Vec<u8>>>,
    label: &'a str,
    limit: u64,
    /// Bytes of the unpacked tar so far.
    size: u64,
    files: usize,
}

impl<'a> Packer<'a> {
    fn new(label: &'a str, limit: u64) -> Self {
        // The level that Go's gzip has by default.
        let gzip = GzEncoder::new(Vec::new(), Compression::new(6));
        Self { tar: Builder::new(gzip), label, limit, size: 0, files: 0 }
    }

    fn folder(&mut self, entry: &Entry<'_>) -> Result<(), Failure> {
        self.append(entry, EntryType::Directory, b"", 0, io::empty())
    }

    fn link(&mut self, entry: &Entry<'_>, target: &[u8]) -> Result<(), Failure> {
        self.append(entry, EntryType::Symlink, target, 0, io::empty())
    }

    fn file(&mut self, entry: &Entry<'_>, size: u64, content: impl Read) -> Result<(), Failure> {
        self.files += 1;
        self.append(entry, EntryType::Regular, b"", size, content)
    }

    fn append(
        &mut self,
        entry: &Entry<'_>,
        kind: EntryType,
        target: &[u8],
        size: u64,
        content: impl Read,
    ) -> Result<(), Failure> {
        self.reserve(size)?;
        self.size += BLOCK + size.next_multiple_of(BLOCK);
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(entry.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(u64::try_from(entry.mtime).unwrap_or_default());
        header.set_size(size);
        let mut extensions: Vec<(&str, &[u8])> = Vec::new();
        if !header::place(&mut header, entry.name) {
            extensions.push(("path", entry.name));
        }
        if target.is_ascii() && target.len() <= header::MAX_NAME {
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
        } else {
            extensions.push(("linkpath", target));
        }
        header.set_cksum();
        let mut content = Counted { inner: content.take(size), read: 0 };
        let packed = self.tar.append_pax_extensions(extensions).and_then(|()| self.tar.append(&header, &mut content));
        let inside = || format!("{}/{}", self.label, String::from_utf8_lossy(entry.name));
        packed.map_err(|error| Failure::io("read", Path::new(&inside()), &error))?;
        if content.read != size {
            return Err(Failure::World {
                what: "read",
                name: inside(),
                reason: "it changed while it was read; try again".to_owned(),
            });
        }
        Ok(())
    }

    /// Whether an entry of this many bytes may come.
    fn reserve(&self, size: u64) -> Result<(), Failure> {
        if self.size.saturating_add(size) <= self.limit {
            return Ok(());
        }
        Err(self.failed(format!("it holds more than {} bytes (`limits.stream` of the operator's file)", self.limit)))
    }

    fn finish(self) -> Result<Packed, Failure> {
        if self.files == 0 {
            return Err(self.failed("it holds no file, and Argo CD sends no such repository".to_owned()));
        }
        let label = self.label;
        let gzip = self.tar.into_inner().and_then(GzEncoder::finish);
        let gzip = gzip.map_err(|error| Failure::io("pack", Path::new(label), &error))?;
        let checksum = format!("{:x}", Sha256::digest(&gzip));
        Ok(Packed { gzip: gzip.into(), checksum })
    }

    fn failed(&self, reason: String) -> Failure {
        Failure::World { what: "pack", name: self.label.to_owned(), reason }
    }
}

/// A tar is made of such blocks, in bytes.
const BLOCK: u64 = 512;
/// Tells how much of a file was read: one that shrank meanwhile would spoil the tar.
struct Counted<R> {
    inner: R,
    read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read += count as u64;
        Ok(count)
    }
}
