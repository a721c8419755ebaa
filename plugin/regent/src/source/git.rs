//! A Git repository, read straight from its object database: no checkout, no hooks, no filters.

use std::path::Path;

use git2::{Commit, ObjectType, Odb, Oid, Repository, Tree, TreeEntry};
use regent_core::files::{Content, Files, wanted};
use regent_core::name::FilePath;

use super::{Bounds, Gathered, above, too_many_bytes, too_many_files};
use crate::failure::Failure;

/// Reads the files below `path` (`.` for the whole repository) at `revision`.
pub(crate) fn gather(repo: &Path, revision: &str, path: &str, bounds: Bounds) -> Result<Gathered, Failure> {
    let repository = open(repo)?;
    let commit = resolve(&repository, repo, revision)?;
    let top = commit.tree().map_err(|error| cannot_read(repo, &error))?;
    let path = normalised(path)?;
    let label = format!("{}@{revision}:{path}", repo.display());
    let folder = folder_at(&repository, &top, &path).ok_or_else(|| Failure::World {
        what: "read",
        name: label.clone(),
        reason: "there is no such folder in that revision".to_owned(),
    })?;
    let odb = repository.odb().map_err(|error| cannot_read(repo, &error))?;
    let files = {
        let files = Files::default();
        let mut walk =
            Walk { repository: &repository, odb, root: &folder, bounds, label: &label, names: 0, bytes: 0, files };
        walk.folder(&folder, &At::default(), 0)?;
        walk.files
    };
    let bootstraps_above = above(&path, |candidate| top.get_path(Path::new(candidate)).is_ok());
    Ok(Gathered { files, root: Some(path), bootstraps_above, label })
}

/// The commit that a revision means now, in hexadecimal.
pub(crate) fn commit(repo: &Path, revision: &str) -> Result<String, Failure> {
    let repository = open(repo)?;
    Ok(resolve(&repository, repo, revision)?.id().to_string())
}

/// Git's id of a file with these bytes, in hexadecimal.
pub(crate) fn blob_id(bytes: &[u8]) -> String {
    // Hashing cannot fail; a text that is no id is unlike every id.
    Oid::hash_object(ObjectType::Blob, bytes).map(|id| id.to_string()).unwrap_or_default()
}

/// Where a repository keeps its references, for whoever follows a branch.
pub(crate) fn folder_of(repo: &Path) -> Result<std::path::PathBuf, Failure> {
    Ok(open(repo)?.commondir().to_owned())
}

/// Links followed for one name; a longer chain is taken for a loop.
const MAX_LINKS: usize = 16;
/// Folders inside each other; Git itself has no bound, and ours must be far from the end of the stack.
const MAX_DEPTH: usize = 64;

/// Opens a local repository; an address is refused.
pub(crate) fn open(repo: &Path) -> Result<Repository, Failure> {
    if repo.to_str().is_some_and(|text| text.contains("://")) {
        return Err(Failure::Usage(format!(
            "`--repo {}` is an address, and a local repository is expected; clone it first (a bare clone is enough)",
            repo.display()
        )));
    }
    trust_every_owner();
    Repository::open(repo).map_err(|error| cannot_read(repo, &error))
}

/// Lets libgit2 open repositories of other users, such as a mounted volume: only objects are read, so no
/// configuration or hook of theirs is run.
fn trust_every_owner() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: the setting is a process-wide flag of libgit2, written once before any repository is opened.
        #[expect(unsafe_code, reason = "libgit2's options are a C interface without locks")]
        let set = unsafe { git2::opts::set_verify_owner_validation(false) };
        // It cannot fail for this option; if it did, opening says so itself.
        drop(set);
    });
}

/// The commit of a branch, tag or commit.
pub(crate) fn resolve<'r>(repository: &'r Repository, repo: &Path, revision: &str) -> Result<Commit<'r>, Failure> {
    let object = repository.revparse_single(revision).map_err(|error| Failure::World {
        what: "find",
        name: format!("revision `{revision}` in {}", repo.display()),
        reason: error.message().to_owned(),
    })?;
    object.peel_to_commit().map_err(|error| Failure::World {
        what: "read",
        name: format!("revision `{revision}` in {}", repo.display()),
        reason: error.message().to_owned(),
    })
}

/// A path in a repository without leading or trailing slash; `.` for the top.
pub(crate) fn normalised(path: &str) -> Result<String, Failure> {
    let trimmed = path.trim_start_matches("./").trim_matches('/');
    if trimmed.is_empty() || trimmed == "." {
        return Ok(".".to_owned());
    }
    match FilePath::parse(trimmed) {
        Ok(path) => Ok(path.as_str().to_owned()),
        Err(bad) => Err(Failure::Usage(format!("`--path`: {bad}"))),
    }
}

pub(crate) fn folder_at<'r>(repository: &'r Repository, top: &Tree<'r>, path: &str) -> Option<Tree<'r>> {
    if path == "." {
        return Some(top.clone());
    }
    let entry = top.get_path(Path::new(path)).ok()?;
    repository.find_tree(entry.id()).ok()
}

/// One walk over a tree of a commit.
struct Walk<'r> {
    repository: &'r Repository,
    odb: Odb<'r>,
    root: &'r Tree<'r>,
    bounds: Bounds,
    label: &'r str,
    /// Files and folders seen, those behind links each time they are reached: what bounds the walk.
    names: usize,
    /// Bytes read, likewise.
    bytes: usize,
    files: Files,
}

/// Git's file mode of a symbolic link.
pub(crate) const MODE_LINK: i32 = 0o120_000;

/// Where the walk is: by the names that lead there, and where that really is once links are followed. A link means
/// something only from where it really stands.
#[derive(Clone, Default)]
struct At {
    inside: String,
    real: String,
}

impl At {
    fn below(&self, name: &str) -> Self {
        let join = |folder: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        Self { inside: join(&self.inside), real: join(&self.real) }
    }
}

impl Walk<'_> {
    fn folder(&mut self, tree: &Tree<'_>, at: &At, depth: usize) -> Result<(), Failure> {
        for entry in tree {
            let Ok(name) = entry.name() else {
                return Err(self.failed(&at.inside, "it holds a file whose name is not UTF-8"));
            };
            if name.starts_with('.') {
                continue;
            }
            self.names += 1;
            if self.names > self.bounds.files {
                return Err(too_many_files(self.label, self.bounds.files));
            }
            self.entry(&entry, name, &at.below(name), depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &TreeEntry<'_>, name: &str, at: &At, depth: usize) -> Result<(), Failure> {
        match entry.kind() {
            Some(ObjectType::Tree) => self.subfolder(entry.id(), at, depth),
            Some(ObjectType::Blob) if entry.filemode() == MODE_LINK => self.link(entry.id(), name, at, depth),
            Some(ObjectType::Blob) => self.file(entry.id(), name, &at.inside),
            // A submodule: another repository's content, which is not here.
            Some(ObjectType::Commit | ObjectType::Tag | ObjectType::Any) | None => {
                self.note(&at.inside, Content::Special)
            }
        }
    }

    fn subfolder(&mut self, id: Oid, at: &At, depth: usize) -> Result<(), Failure> {
        if depth >= MAX_DEPTH {
            return Err(self.failed(&at.inside, "folders are nested too deeply (links in a loop?)"));
        }
        let tree = self.repository.find_tree(id).map_err(|error| self.failed(&at.inside, error.message()))?;
        self.folder(&tree, at, depth + 1)
    }

    fn file(&mut self, id: Oid, name: &str, inside: &str) -> Result<(), Failure> {
        let content = if wanted(name) { self.blob(id, inside)? } else { Content::NotRead };
        self.note(inside, content)
    }

    /// Follows a link inside the root's tree; one that leaves it, dangles or loops is named.
    fn link(&mut self, id: Oid, name: &str, at: &At, depth: usize) -> Result<(), Failure> {
        let mut from = FilePath::parse(&at.real).ok();
        let mut id = id;
        for _ in 0..MAX_LINKS {
            let Content::Bytes(target) = self.blob(id, &at.inside)? else { break };
            let Ok(target) = std::str::from_utf8(&target) else { break };
            let Some(next) = from.as_ref().and_then(|from| from.join(target)) else { break };
            let Ok(entry) = self.root.get_path(Path::new(next.as_str())) else { break };
            match entry.kind() {
                Some(ObjectType::Blob) if entry.filemode() == MODE_LINK => {
                    id = entry.id();
                    from = Some(next);
                }
                Some(ObjectType::Blob) => return self.file(entry.id(), name, &at.inside),
                // A folder that holds the link itself is a loop; longer ones end at the walk's bounds.
                Some(ObjectType::Tree) if !format!("{}/", at.real).starts_with(&format!("{next}/")) => {
                    let target = At { inside: at.inside.clone(), real: next.as_str().to_owned() };
                    return self.subfolder(entry.id(), &target, depth);
                }
                Some(ObjectType::Tree | ObjectType::Commit | ObjectType::Tag | ObjectType::Any) | None => break,
            }
        }
        self.note(&at.inside, Content::BadLink)
    }

    /// A blob's bytes; its header tells the size before anything is unpacked.
    fn blob(&self, id: Oid, inside: &str) -> Result<Content, Failure> {
        let (size, _) = self.odb.read_header(id).map_err(|error| self.failed(inside, error.message()))?;
        if size > self.bounds.document {
            return Ok(Content::TooLarge { size: size as u64 });
        }
        let object = self.odb.read(id).map_err(|error| self.failed(inside, error.message()))?;
        Ok(Content::Bytes(object.data().to_vec()))
    }

    fn note(&mut self, inside: &str, content: Content) -> Result<(), Failure> {
        let path =
            FilePath::parse(inside).map_err(|bad| self.failed(&bad.text.escape_debug().to_string(), bad.rule))?;
        if let Content::Bytes(bytes) = &content {
            self.bytes += bytes.len();
            if self.bytes > self.bounds.total {
                return Err(too_many_bytes(self.label, self.bounds.total));
            }
        }
        if !self.files.insert(path, content) {
            return Err(self.failed(inside, "its name stands twice in one folder of the revision"));
        }
        Ok(())
    }

    fn failed(&self, inside: &str, reason: &str) -> Failure {
        Failure::World { what: "read", name: format!("{}/{inside}", self.label), reason: reason.to_owned() }
    }
}

pub(crate) fn cannot_read(repo: &Path, error: &git2::Error) -> Failure {
    Failure::World { what: "read", name: repo.display().to_string(), reason: error.message().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { document: 100, files: 20, total: 250 };

    /// A bare repository whose branch `main` holds these blobs: path, mode, content.
    fn repository(blobs: &[(&str, i32, &str)]) -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        let repository = Repository::init_bare(temp.path()).unwrap();
        let mut index = git2::Index::new().unwrap();
        repository.set_index(&mut index).unwrap();
        for (path, mode, content) in blobs {
            let id = repository.blob(content.as_bytes()).unwrap();
            let entry = git2::IndexEntry {
                ctime: git2::IndexTime::new(0, 0),
                mtime: git2::IndexTime::new(0, 0),
                dev: 0,
                ino: 0,
                mode: u32::try_from(*mode).unwrap(),
                uid: 0,
                gid: 0,
                file_size: 0,
                id,
                flags: 0,
                flags_extended: 0,
                path: path.as_bytes().to_vec(),
            };
            index.add(&entry).unwrap();
        }
        let tree = repository.find_tree(index.write_tree_to(&repository).unwrap()).unwrap();
        let who = git2::Signature::new("a", "a@example.org", &git2::Time::new(0, 0)).unwrap();
        repository.commit(Some("refs/heads/main"), &who, &who, "one", &tree, &[]).unwrap();
        drop(tree);
        temp
    }

    const FILE: i32 = 0o100_644;

    fn content<'a>(gathered: &'a Gathered, path: &str) -> &'a Content {
        gathered.files.get(&FilePath::parse(path).unwrap()).unwrap()
    }

    #[test]
    fn a_branch_of_a_bare_repository_is_read_without_a_checkout() {
        let temp = repository(&[("a/x.yaml", FILE, "x: 1"), ("a/y.txt", FILE, "y"), ("regent.yaml", FILE, "")]);
        let gathered = gather(temp.path(), "main", "a", BOUNDS).ok().unwrap();
        assert!(matches!(content(&gathered, "x.yaml"), Content::Bytes(bytes) if bytes == b"x: 1"));
        assert!(matches!(content(&gathered, "y.txt"), Content::NotRead));
        assert_eq!(gathered.root.as_deref(), Some("a"));
        assert_eq!(gathered.bootstraps_above, ["regent.yaml"]);
    }

    #[test]
    fn links_are_resolved_inside_the_root_and_named_where_they_leave_it() {
        let temp = repository(&[
            ("outside.yaml", FILE, "secret: 1"),
            ("a/x.yaml", FILE, "x: 1"),
            ("a/b/in.yaml", MODE_LINK, "../x.yaml"),
            ("a/twice.yaml", MODE_LINK, "b/in.yaml"),
            ("a/out.yaml", MODE_LINK, "../outside.yaml"),
            ("a/absolute.yaml", MODE_LINK, "/etc/passwd"),
            ("a/gone.yaml", MODE_LINK, "nowhere.yaml"),
            ("a/self.yaml", MODE_LINK, "self.yaml"),
            ("a/b/up", MODE_LINK, "../b"),
        ]);
        let gathered = gather(temp.path(), "main", "a", BOUNDS).ok().unwrap();
        for good in ["b/in.yaml", "twice.yaml"] {
            assert!(matches!(content(&gathered, good), Content::Bytes(bytes) if bytes == b"x: 1"), "{good}");
        }
        for bad in ["out.yaml", "absolute.yaml", "gone.yaml", "self.yaml", "b/up"] {
            assert!(matches!(content(&gathered, bad), Content::BadLink), "{bad}");
        }
    }

    #[test]
    fn folders_that_link_to_each_other_end_at_a_bound() {
        let links: Vec<(String, &str)> =
            ["a", "b"].iter().flat_map(|f| [(format!("{f}/p"), "../a"), (format!("{f}/q"), "../b")]).collect();
        let blobs: Vec<_> = links.iter().map(|(path, target)| (path.as_str(), MODE_LINK, *target)).collect();
        let temp = repository(&blobs);
        assert!(matches!(gather(temp.path(), "main", ".", BOUNDS), Err(Failure::World { .. })));
    }

    #[test]
    fn a_large_blob_is_named_and_not_unpacked() {
        let temp = repository(&[("x.yaml", FILE, &"x".repeat(101))]);
        let gathered = gather(temp.path(), "main", ".", BOUNDS).ok().unwrap();
        assert!(matches!(content(&gathered, "x.yaml"), Content::TooLarge { size: 101 }));
    }

    #[test]
    fn what_does_not_exist_is_an_error_that_names_it() {
        let temp = repository(&[("x.yaml", FILE, "")]);
        for (revision, path) in [("gone", "."), ("main", "gone"), ("main", "x.yaml")] {
            assert!(matches!(gather(temp.path(), revision, path, BOUNDS), Err(Failure::World { .. })));
        }
        assert!(matches!(gather(temp.path(), "main", "../up", BOUNDS), Err(Failure::Usage(_))));
    }
}
