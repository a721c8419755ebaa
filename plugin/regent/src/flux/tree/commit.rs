//! The tree of a commit, as source-controller would pack it: links that stay inside are copies of what they lead to,
//! and what a `.sourceignore` or the default rules name is left out.

use std::path::Path;

use bytes::Bytes;
use git2::{ObjectType, Odb, Oid, Repository, TreeEntry};
use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::ParallelSlice as _;
use regent_core::name::FilePath;

use super::sourceignore::Rules;
use super::{File, Filling, Tree, refused};
use crate::failure::Failure;
use crate::source::git::{self, At, Held, MODE_LINK};
use crate::source::tar::UploadLimits;

impl Tree {
    /// Reads the tree of the commit at hand; `label` is what a person calls it. A submodule is another repository's
    /// content, and is left out as by a `GitRepository` that does not ask for it. What `before`, another commit of the same
    /// repository, has already is not read again.
    ///
    /// # Errors
    /// A repository that cannot be read, a tree larger than the limits, or a name that is refused.
    pub(crate) fn of_commit(
        held: &Held,
        label: &str,
        limits: UploadLimits,
        before: Option<&Self>,
    ) -> Result<Self, Failure> {
        let repository = held.repository();
        let failed = |error: git2::Error| refused(label, error.message());
        let top = held.commit()?.tree().map_err(failed)?;
        let odb = repository.odb().map_err(failed)?;
        let mut walk = Walk { repository, odb, top: &top, label, limits, names: 0, found: Vec::new() };
        walk.folder(&top, &At::default(), 0)?;
        let Walk { odb, found, .. } = walk;

        let mut filling = Filling::new(label, limits);
        let rules = rules(&odb, &found, limits.document, label)?;
        let mut files = Vec::new();
        for Found { path, what } in found.into_iter().filter(|found| !rules.ignore(&found.path)) {
            let path = FilePath::parse(&path).map_err(|bad| filling.refused(&bad.to_string()))?;
            match what {
                What::Lost => filling.lost(path)?,
                What::File { id, is_executable } => files.push((path, id, is_executable)),
            }
        }
        // Most of the time goes into unpacking objects, and none is unpacked before there is room for it.
        let known = |id: Oid| before.and_then(|before| before.blob(id));
        // libgit2 reads one object of an `Odb` at a time, so each thread has its own.
        let threads = rayon::current_num_threads().min(files.len().div_ceil(FEW));
        let own = || git::open(repository.path());
        let repositories = (0..threads).map(|_| own()).collect::<Result<Vec<_>, _>>()?;
        let readers = repositories.iter().map(Repository::odb).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        for files in files.chunks(CHUNK) {
            let size = |odb: &Odb<'_>, id: Oid| match known(id) {
                Some(bytes) => Ok(bytes.len()),
                None => odb.read_header(id).map(|(size, _)| size),
            };
            for ((path, _, _), size) in files.iter().zip(by_all(&readers, files, |odb, (_, id, _)| size(odb, *id))) {
                filling.reserve(path, size.map_err(failed)? as u64)?;
            }
            let read = |odb: &Odb<'_>, id: Oid| match known(id) {
                Some(bytes) => Ok(bytes.clone()),
                None => odb.read(id).map(|object| Bytes::copy_from_slice(object.data())),
            };
            let read = by_all(&readers, files, |odb, (_, id, _)| read(odb, *id));
            for ((path, id, is_executable), bytes) in files.iter().zip(read) {
                let bytes = bytes.map_err(failed)?;
                filling.file(path.clone(), File { bytes, is_executable: *is_executable })?;
                filling.tree.blobs.insert(*id, path.clone());
            }
        }
        Ok(filling.tree)
    }

    fn blob(&self, id: Oid) -> Option<&Bytes> {
        self.files.get(self.blobs.get(&id)?).map(|file| &file.bytes)
    }
}

/// Asks all readers, each for a part of the things; the answers are in the order of the things.
fn by_all<T: Sync, A: Send>(readers: &[Odb<'_>], things: &[T], ask: impl Fn(&Odb<'_>, &T) -> A + Sync) -> Vec<A> {
    let parts = things.par_chunks(things.len().div_ceil(readers.len().max(1)).max(1));
    parts.zip(readers).flat_map_iter(|(things, odb)| things.iter().map(|thing| ask(odb, thing))).collect()
}

/// What the `.sourceignore` files say, wherever they are.
fn rules(odb: &Odb<'_>, found: &[Found], largest: usize, label: &str) -> Result<Rules, Failure> {
    let failed = |error: git2::Error| refused(label, error.message());
    let mut files = Vec::new();
    for Found { path, what } in found {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let (SOURCE_IGNORE, What::File { id, .. }) = (name, what) else { continue };
        let (size, _) = odb.read_header(*id).map_err(failed)?;
        if size > largest {
            return Err(refused(label, &format!("`{path}` has more than {largest} bytes (`limits.document`)")));
        }
        files.push((folder, odb.read(*id).map_err(failed)?.data().to_vec()));
    }
    Ok(Rules::new(files))
}

/// Objects that are unpacked at one time.
const CHUNK: usize = 512;
/// Objects for which opening the repository once more is not worth it.
const FEW: usize = 64;

const SOURCE_IGNORE: &str = ".sourceignore";

/// Git's file mode of a file that anybody may run.
const MODE_EXECUTABLE: i32 = 0o100_755;
/// Links followed for one name; a longer chain is taken for a loop.
const MAX_LINKS: usize = 16;
/// Folders inside each other, far from the end of the stack.
const MAX_DEPTH: usize = 64;

/// Something at a path, before its bytes are read.
struct Found {
    path: String,
    what: What,
}

enum What {
    File {
        id: Oid,
        is_executable: bool,
    },
    /// A link that leaves the repository, dangles or loops.
    Lost,
}

/// One walk over the whole tree, in the order of its names.
struct Walk<'r> {
    repository: &'r Repository,
    odb: Odb<'r>,
    top: &'r git2::Tree<'r>,
    label: &'r str,
    limits: UploadLimits,
    /// Names seen, those behind links each time they are reached: what bounds the walk.
    names: usize,
    found: Vec<Found>,
}

impl Walk<'_> {
    fn folder(&mut self, tree: &git2::Tree<'_>, at: &At, depth: usize) -> Result<(), Failure> {
        if depth > MAX_DEPTH {
            return Err(refused(self.label, &format!("`{}`: folders are nested too deeply", at.inside)));
        }
        for entry in tree {
            self.names += 1;
            if self.names > self.limits.files {
                let limit = self.limits.files;
                return Err(refused(
                    self.label,
                    &format!("it holds more than {limit} files and folders (`limits.files`)"),
                ));
            }
            let Ok(name) = entry.name() else {
                return Err(refused(self.label, &format!("`{}` holds a name that is not UTF-8", at.inside)));
            };
            self.entry(&entry, &at.below(name), depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &TreeEntry<'_>, at: &At, depth: usize) -> Result<(), Failure> {
        match entry.kind() {
            Some(ObjectType::Tree) => self.subfolder(entry.id(), at, depth)?,
            Some(ObjectType::Blob) if entry.filemode() == MODE_LINK => self.link(entry.id(), at, depth)?,
            Some(ObjectType::Blob) => self.file(entry, at),
            Some(ObjectType::Commit | ObjectType::Tag | ObjectType::Any) | None => {}
        }
        Ok(())
    }

    fn subfolder(&mut self, id: Oid, at: &At, depth: usize) -> Result<(), Failure> {
        let tree = self.repository.find_tree(id).map_err(|error| refused(self.label, error.message()))?;
        self.folder(&tree, at, depth + 1)
    }

    fn file(&mut self, entry: &TreeEntry<'_>, at: &At) {
        let is_executable = entry.filemode() == MODE_EXECUTABLE;
        self.found.push(Found { path: at.inside.clone(), what: What::File { id: entry.id(), is_executable } });
    }

    /// Puts what a link leads to into its place, where that lies in the repository.
    fn link(&mut self, id: Oid, at: &At, depth: usize) -> Result<(), Failure> {
        let (mut id, mut from) = (id, FilePath::parse(&at.real).ok());
        for _ in 0..MAX_LINKS {
            let Some(next) = from.as_ref().and_then(|from| from.join(&self.target(id)?)) else { break };
            let Ok(entry) = self.top.get_path(Path::new(next.as_str())) else { break };
            match entry.kind() {
                Some(ObjectType::Blob) if entry.filemode() == MODE_LINK => {
                    id = entry.id();
                    from = Some(next);
                }
                Some(ObjectType::Blob) => {
                    self.file(&entry, at);
                    return Ok(());
                }
                // A folder that holds the link itself is a loop; longer ones end at the walk's bounds.
                Some(ObjectType::Tree) if !format!("{}/", at.real).starts_with(&format!("{next}/")) => {
                    let target = At { inside: at.inside.clone(), real: next.as_str().to_owned() };
                    return self.subfolder(entry.id(), &target, depth);
                }
                Some(ObjectType::Tree | ObjectType::Commit | ObjectType::Tag | ObjectType::Any) | None => break,
            }
        }
        self.found.push(Found { path: at.inside.clone(), what: What::Lost });
        Ok(())
    }

    /// Where a link leads; `None` where that is no path.
    fn target(&self, link: Oid) -> Option<String> {
        let (size, _) = self.odb.read_header(link).ok()?;
        let object = (size <= MAX_TARGET).then(|| self.odb.read(link)).and_then(Result::ok)?;
        String::from_utf8(object.data().to_vec()).ok()
    }
}

/// Longest target of a link, in bytes, as on Linux.
const MAX_TARGET: usize = 4096;
