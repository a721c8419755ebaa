//! A whole repository as plain data: every regular file with its bytes, as kustomize-controller would find it on its
//! disk. It comes as the artifact that source-controller packed, from a commit, or from a work tree.
//!
//! Nothing in it is opened, and what is left out is known: a symbolic link whose target is not there becomes
//! [`Content::BadLink`] for whoever decides about a root, because a file that is skipped in silence is an object that
//! a prune deletes.

mod artifact;
mod commit;
mod fetch;
mod folder;
mod sourceignore;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use git2::Oid;
use regent_core::files::{Content, Files, wanted};
use regent_core::name::FilePath;

use crate::failure::Failure;
use crate::source::tar::UploadLimits;
use crate::source::{Gathered, above};

pub(crate) use self::artifact::{Artifact, Digest};
pub(crate) use self::fetch::{Fetcher, Offered};

/// A repository's files.
#[derive(Default)]
pub(crate) struct Tree {
    files: BTreeMap<FilePath, File>,
    /// Links that lead to nothing in it.
    lost: BTreeSet<FilePath>,
    /// Of a commit, where each of its blobs is: the next commit has most of them too.
    blobs: HashMap<Oid, FilePath>,
}

/// A regular file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) bytes: Bytes,
    pub(crate) is_executable: bool,
}

impl Tree {
    /// All files in the byte order of their paths.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&FilePath, &File)> {
        self.files.iter()
    }

    /// One file.
    #[cfg(test)]
    pub(crate) fn get(&self, path: &FilePath) -> Option<&File> {
        self.files.get(path)
    }

    /// How many files.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// Every file of the repository, whatever its name: a build may read any. `document` is the size of the largest that is
    /// handed on, in bytes.
    pub(crate) fn whole(&self, document: usize) -> Files {
        let mut files = Files::default();
        for (path, file) in &self.files {
            let size = file.bytes.len();
            let content = if size > document {
                Content::TooLarge { size: size as u64 }
            } else {
                Content::Bytes(file.bytes.to_vec())
            };
            // Paths of a tree differ.
            let _is_new = files.insert(path.clone(), content);
        }
        for path in &self.lost {
            let _is_new = files.insert(path.clone(), Content::BadLink);
        }
        files
    }

    /// The root of a `regent.yaml` as every source gives it: what lies in its folder, with paths relative to that.
    /// `document` is the size of the largest file handed on, in bytes.
    ///
    /// # Errors
    /// The folder is not there.
    pub(crate) fn gathered(&self, bootstrap: &FilePath, document: usize, label: &str) -> Result<Gathered, Failure> {
        let root = bootstrap.parent();
        let prefix = root.as_ref().map_or_else(String::new, |folder| format!("{folder}/"));
        let label = format!("{label}:{}", root.as_ref().map_or(".", FilePath::as_str));
        let mut files = Files::default();
        for (path, file) in &self.files {
            if let Some(inside) = path.as_str().strip_prefix(&prefix).filter(|inside| !is_hidden(inside)) {
                insert(&mut files, inside, file.content(path, document), &label)?;
            }
        }
        for path in &self.lost {
            if let Some(inside) = path.as_str().strip_prefix(&prefix).filter(|inside| !is_hidden(inside)) {
                insert(&mut files, inside, Content::BadLink, &label)?;
            }
        }
        if files.is_empty() {
            return Err(refused(&label, "there is no such folder in it"));
        }
        let root = root.map_or_else(|| ".".to_owned(), |folder| folder.as_str().to_owned());
        let bootstraps_above =
            above(&root, |candidate| FilePath::parse(candidate).is_ok_and(|path| self.files.contains_key(&path)));
        Ok(Gathered { files, root: Some(root), bootstraps_above, label })
    }
}

impl File {
    fn content(&self, path: &FilePath, document: usize) -> Content {
        if !wanted(path.file_name()) {
            Content::NotRead
        } else if self.bytes.len() > document {
            Content::TooLarge { size: self.bytes.len() as u64 }
        } else {
            Content::Bytes(self.bytes.to_vec())
        }
    }
}

/// Dot-files are never manifests, nor is what lies in a dot-folder.
fn is_hidden(inside: &str) -> bool {
    inside.split('/').any(|part| part.starts_with('.'))
}

fn insert(files: &mut Files, inside: &str, content: Content, label: &str) -> Result<(), Failure> {
    let path = FilePath::parse(inside).map_err(|bad| refused(label, &bad.to_string()))?;
    // Paths of a tree differ, so their ends behind one prefix do.
    if files.insert(path, content) { Ok(()) } else { Err(Failure::Bug) }
}

/// A tree that is being filled, within its bounds.
struct Filling<'a> {
    tree: Tree,
    folders: BTreeSet<FilePath>,
    label: &'a str,
    limits: UploadLimits,
    kept: u64,
}

impl<'a> Filling<'a> {
    fn new(label: &'a str, limits: UploadLimits) -> Self {
        Self { tree: Tree::default(), folders: BTreeSet::new(), label, limits, kept: 0 }
    }

    /// Whether a file of this many bytes may come; asked before its bytes are there.
    fn reserve(&mut self, path: &FilePath, size: u64) -> Result<(), Failure> {
        self.kept = self.kept.saturating_add(size).saturating_add(NAME_BYTES + path.as_str().len() as u64);
        if self.kept > self.limits.kept {
            let limit = self.limits.kept;
            return Err(
                self.refused(&format!("its files and their names hold more than {limit} bytes (`limits.upload`)"))
            );
        }
        Ok(())
    }

    /// Puts a file at its path. Its room was reserved.
    fn file(&mut self, path: FilePath, file: File) -> Result<(), Failure> {
        if self.folders.contains(&path) || self.tree.lost.contains(&path) || self.tree.files.contains_key(&path) {
            return Err(self.refused(&format!("`{path}` is in it twice")));
        }
        self.folders_above(&path)?;
        self.tree.files.insert(path, file);
        self.count()
    }

    /// Notes a folder, for the rules that a disk has: a path is a folder or a file.
    fn folder(&mut self, path: FilePath) -> Result<(), Failure> {
        if self.tree.files.contains_key(&path) {
            return Err(self.refused(&format!("`{path}` is in it twice")));
        }
        self.folders_above(&path)?;
        if !self.folders.contains(&path) {
            self.reserve(&path, 0)?;
            self.folders.insert(path);
        }
        self.count()
    }

    /// Notes a link that leads to nothing.
    fn lost(&mut self, path: FilePath) -> Result<(), Failure> {
        self.reserve(&path, 0)?;
        if self.tree.files.contains_key(&path) || self.tree.lost.contains(&path) {
            return Err(self.refused(&format!("`{path}` is in it twice")));
        }
        self.tree.lost.insert(path);
        self.count()
    }

    fn folders_above(&mut self, path: &FilePath) -> Result<(), Failure> {
        let mut above = path.parent();
        while let Some(folder) = above {
            if self.folders.contains(&folder) {
                break;
            }
            if self.tree.files.contains_key(&folder) {
                return Err(self.refused(&format!("`{path}` lies below a file of the same tree")));
            }
            self.reserve(&folder, 0)?;
            above = folder.parent();
            self.folders.insert(folder);
        }
        self.count()
    }

    fn count(&self) -> Result<(), Failure> {
        let limit = self.limits.files;
        if self.tree.files.len() + self.tree.lost.len() + self.folders.len() > limit {
            return Err(self.refused(&format!("it holds more than {limit} files and folders (`limits.files`)")));
        }
        Ok(())
    }

    fn refused(&self, problem: &str) -> Failure {
        refused(self.label, problem)
    }
}

/// Bytes that a name costs beside itself.
const NAME_BYTES: u64 = 128;

fn refused(label: &str, problem: &str) -> Failure {
    Failure::World { what: "read", name: label.to_owned(), reason: problem.to_owned() }
}

#[cfg(test)]
mod tests;
