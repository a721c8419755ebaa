//! A Git repository, read straight from its object database: no checkout, no hooks, no filters. One elsewhere is
//! fetched first, into a private folder.

mod remote;
mod signed;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use git2::{Commit, ConfigLevel, FileMode, ObjectType, Odb, Oid, Repository, Tree, TreeEntry};
use regent_core::files::{Content, Files, wanted};
use regent_core::name::FilePath;
use regent_core::remote::{Access, Location};
use regent_core::repository::shown;
use regent_core::rules::Followed;
use tempfile::TempDir;

use super::{Bounds, Gathered, above, too_many_bytes, too_many_files};
use crate::cli::GitArgs;
use crate::failure::Failure;

pub(crate) use self::remote::{RemoteProblem, abandon};
pub(crate) use self::signed::SignatureProblem;
pub(crate) use self::signed::{pinned, vouched};

/// Where a repository is, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) location: Location,
    pub(crate) access: Access,
}

impl Place {
    /// What was typed: `--repo`, and the files that it is reached with.
    pub(crate) fn typed(repo: &Path, args: &GitArgs) -> Result<Self, Failure> {
        let location = match repo.to_str() {
            Some(text) => Location::parse(text)
                .map_err(|rule| Failure::Usage(format!("`--repo {}`: {rule}", shown(text).escape_debug())))?,
            None => Location::Folder(repo.to_owned()),
        };
        let GitArgs { token_file, username, ca_file, key_file, known_hosts_file } = args.clone();
        let access = Access { token_file, username, ca_file, key_file, known_hosts_file };
        let fits = access.fits(&location);
        fits.map_err(|rule| Failure::Usage(format!("`--repo {location}`: {rule} ({FLAGS})")))?;
        Ok(Self { location, access })
    }

    /// What the operator's file follows.
    pub(crate) fn followed(entry: &Followed) -> Self {
        Self { location: entry.repo.clone(), access: entry.access.clone() }
    }

    /// Where a local repository keeps its references, for whoever follows a branch; `None` for one elsewhere.
    pub(crate) fn references(&self) -> Option<Result<PathBuf, Failure>> {
        match &self.location {
            Location::Folder(repo) => Some(open(repo).map(|repository| repository.commondir().to_owned())),
            Location::Remote(_) => None,
        }
    }
}

const FLAGS: &str = "`--git-token-file`, `--git-username`, `--git-ca-file`; `--ssh-key-file`, `--ssh-known-hosts-file`";

/// How much of what led to a commit is fetched with it, where the repository is elsewhere and its server can leave it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum History {
    /// The commit alone.
    None,
    /// As much as tells who changed a file last, for most of them.
    Recent,
    /// All of it.
    Whole,
}

/// One commit of a repository, with everything in it at hand.
pub(crate) struct Held {
    repository: Repository,
    commit: Oid,
    /// What was fetched lies here; it goes after the repository.
    _fetched: Option<TempDir>,
}

impl Held {
    /// The commit of a branch, tag or commit, fetched where the repository is elsewhere.
    pub(crate) fn open(place: &Place, revision: &str, history: History) -> Result<Self, Failure> {
        match &place.location {
            Location::Folder(repo) => {
                let repository = open(repo)?;
                let commit = resolve(&repository, repo, revision)?.id();
                Ok(Self { repository, commit, _fetched: None })
            }
            Location::Remote(address) => {
                let fetched = remote::fetch(address, &place.access, revision, history)?;
                Ok(Self { repository: fetched.repository, commit: fetched.commit, _fetched: Some(fetched.folder) })
            }
        }
    }

    pub(crate) fn repository(&self) -> &Repository {
        &self.repository
    }

    pub(crate) fn commit(&self) -> Result<Commit<'_>, Failure> {
        self.repository.find_commit(self.commit).map_err(|error| cannot_read(self.repository.path(), &error))
    }
}

/// Reads the files below `path` (`.` for the whole repository) at `revision`.
pub(crate) fn gather(place: &Place, revision: &str, path: &str, bounds: Bounds) -> Result<Gathered, Failure> {
    let held = Held::open(place, revision, History::None)?;
    gather_from(&held, &format!("{}@{revision}", place.location), path, bounds)
}

/// The same from a commit at hand; `name` is what a person calls it.
pub(crate) fn gather_from(held: &Held, name: &str, path: &str, bounds: Bounds) -> Result<Gathered, Failure> {
    let repository = held.repository();
    let failed = |error: &git2::Error| Failure::World {
        what: "read",
        name: name.to_owned(),
        reason: error.message().to_owned(),
    };
    let top = held.commit()?.tree().map_err(|error| failed(&error))?;
    let path = normalised(path)?;
    let label = format!("{name}:{path}");
    let folder = folder_at(repository, &top, &path).ok_or_else(|| Failure::World {
        what: "read",
        name: label.clone(),
        reason: "there is no such folder in that revision".to_owned(),
    })?;
    let odb = repository.odb().map_err(|error| failed(&error))?;
    let files = {
        let files = Files::default();
        let mut walk = Walk { repository, odb, root: &folder, bounds, label: &label, names: 0, bytes: 0, files };
        walk.folder(&folder, &At::default(), 0)?;
        walk.files
    };
    let bootstraps_above = above(&path, |candidate| top.get_path(Path::new(candidate)).is_ok());
    Ok(Gathered { files, root: Some(path), bootstraps_above, label })
}

/// Git's id of a folder in a commit, with all that is in it; `None` where there is none.
pub(crate) fn folder_id(held: &Held, path: &str) -> Result<Option<Oid>, Failure> {
    let repository = held.repository();
    let top = held.commit()?.tree().map_err(|error| cannot_read(repository.path(), &error))?;
    Ok(folder_at(repository, &top, &normalised(path)?).map(|folder| folder.id()))
}

/// The commit that a revision means now, in hexadecimal. Of a repository elsewhere nothing is fetched.
pub(crate) fn commit(place: &Place, revision: &str) -> Result<String, Failure> {
    match &place.location {
        Location::Folder(repo) => Ok(resolve(&open(repo)?, repo, revision)?.id().to_string()),
        Location::Remote(address) => Ok(remote::commit(address, &place.access, revision)?.to_string()),
    }
}

/// Who changed a file last, and when.
#[derive(Clone)]
pub(crate) struct LastChange {
    /// The day of the commit, as its author wrote it: `2026-11-29`.
    pub(crate) date: String,
    /// The author's name.
    pub(crate) author: String,
}

/// Commits looked at for the last changes; what is older is not told.
const MAX_HISTORY: usize = 20_000;

/// How long is looked.
const HISTORY_WITHIN: Duration = Duration::from_secs(5);

/// The last commit that changed each of these files below `root`, along first parents: what came by a merge came with the
/// merge. What is older than what was fetched is not told.
pub(crate) fn last_changes(
    held: &Held,
    root: &str,
    files: &BTreeSet<&FilePath>,
) -> Result<BTreeMap<FilePath, LastChange>, Failure> {
    let failed = |error: &git2::Error| cannot_read(held.repository.path(), error);
    let folder = |commit: &Commit<'_>| {
        let top = held.repository.find_tree(commit.tree_id()).ok()?;
        folder_at(&held.repository, &top, root)
    };
    let mut open: BTreeSet<&FilePath> = files.clone();
    let (mut changes, end) = (BTreeMap::new(), Instant::now() + HISTORY_WITHIN);
    let mut commit = held.commit()?;
    for _ in 0..MAX_HISTORY {
        let parent = match commit.parent(0) {
            Ok(parent) => Some(parent),
            // The beginning, or the end of what was fetched.
            Err(error) if error.code() == git2::ErrorCode::NotFound => None,
            Err(error) => return Err(failed(&error)),
        };
        if (parent.is_none() && held.repository.is_shallow()) || Instant::now() >= end {
            break;
        }
        let (before, now) = (parent.as_ref().and_then(folder), folder(&commit));
        if before.as_ref().map(Tree::id) != now.as_ref().map(Tree::id) {
            let diff = held.repository.diff_tree_to_tree(before.as_ref(), now.as_ref(), None);
            for delta in diff.map_err(|error| failed(&error))?.deltas() {
                let path = delta.new_file().path().and_then(Path::to_str).and_then(|path| FilePath::parse(path).ok());
                if let Some(file) = path.filter(|file| open.remove(file)) {
                    changes.insert(file, LastChange::of(&commit));
                }
            }
        }
        match parent {
            Some(parent) if !open.is_empty() => commit = parent,
            Some(_) | None => break,
        }
    }
    Ok(changes)
}

/// Versions of files in the commits that lead to a revision.
pub(crate) struct Versions {
    /// Commits that were looked at.
    pub(crate) commits: usize,
    /// Why others were not.
    pub(crate) cut: Option<String>,
    /// The files, by their path in the root and the blob, with the commits that brought that version.
    pub(crate) files: BTreeMap<(FilePath, Oid), Vec<String>>,
}

/// How long a history is walked for a person who waits.
const VERSIONS_WITHIN: Duration = Duration::from_secs(600);

/// Every version of a file below `root` that may be a manifest, in every commit that leads to the one at hand, merged branches
/// included. `seen` is told how many commits were looked at.
pub(crate) fn versions(held: &Held, root: &str, mut seen: impl FnMut(usize)) -> Result<Versions, Failure> {
    let repository = held.repository();
    let failed = |error: &git2::Error| cannot_read(repository.path(), error);
    let folder = |commit: &Commit<'_>| {
        let top = repository.find_tree(commit.tree_id()).ok()?;
        folder_at(repository, &top, root)
    };
    let mut walk = repository.revwalk().map_err(|error| failed(&error))?;
    walk.push(held.commit()?.id()).map_err(|error| failed(&error))?;
    let mut found = Versions { commits: 0, cut: None, files: BTreeMap::new() };
    if repository.is_shallow() {
        found.cut = Some("only a part of it was fetched: name a whole clone".to_owned());
    }
    let end = Instant::now() + VERSIONS_WITHIN;
    for id in walk {
        let commit = id.and_then(|id| repository.find_commit(id)).map_err(|error| failed(&error))?;
        if found.commits >= MAX_HISTORY || Instant::now() >= end {
            found.cut = Some(format!("{} commits were, and older ones were not", found.commits));
            break;
        }
        found.commits += 1;
        seen(found.commits);
        // What a merge brought from elsewhere its own commits brought, too.
        let before = commit.parent(0).ok().as_ref().and_then(folder);
        let now = folder(&commit);
        if before.as_ref().map(Tree::id) == now.as_ref().map(Tree::id) {
            continue;
        }
        let diff = repository.diff_tree_to_tree(before.as_ref(), now.as_ref(), None);
        for delta in diff.map_err(|error| failed(&error))?.deltas() {
            let file = delta.new_file();
            let path = file.path().and_then(Path::to_str).and_then(|path| FilePath::parse(path).ok());
            let is_file = !file.id().is_zero() && !matches!(file.mode(), FileMode::Link | FileMode::Commit);
            if let Some(path) = path.filter(|path| is_file && wanted(path.file_name())) {
                found.files.entry((path, file.id())).or_default().push(commit.id().to_string());
            }
        }
    }
    Ok(found)
}

/// The contents of a file, as [`versions`] names it.
pub(crate) fn version(held: &Held, blob: Oid, largest: usize) -> Result<Content, Failure> {
    let failed = |error: &git2::Error| cannot_read(held.repository.path(), error);
    let odb = held.repository.odb().map_err(|error| failed(&error))?;
    let (size, _) = odb.read_header(blob).map_err(|error| failed(&error))?;
    if size > largest {
        return Ok(Content::TooLarge { size: size as u64 });
    }
    let object = odb.read(blob).map_err(|error| failed(&error))?;
    Ok(Content::Bytes(object.data().to_vec()))
}

impl LastChange {
    fn of(commit: &Commit<'_>) -> Self {
        let author = commit.author();
        let day = k8s_openapi::jiff::Timestamp::from_second(author.when().seconds()).unwrap_or_default();
        Self {
            date: day.to_string().chars().take_while(|char| *char != 'T').collect(),
            author: String::from_utf8_lossy(author.name_bytes()).into_owned(),
        }
    }
}

/// Git's id of a file with these bytes, in hexadecimal.
pub(crate) fn blob_id(bytes: &[u8]) -> String {
    // Hashing cannot fail; a text that is no id is unlike every id.
    Oid::hash_object(ObjectType::Blob, bytes).map(|id| id.to_string()).unwrap_or_default()
}

/// Links followed for one name; a longer chain is taken for a loop.
const MAX_LINKS: usize = 16;
/// Folders inside each other; Git itself has no bound, and ours must be far from the end of the stack.
const MAX_DEPTH: usize = 64;

/// Opens a local repository.
pub(crate) fn open(repo: &Path) -> Result<Repository, Failure> {
    settle_libgit2();
    Repository::open(repo).map_err(|error| cannot_read(repo, &error))
}

/// What holds for libgit2 in this process. Repositories of other users are opened, such as a mounted volume: objects are read,
/// and of a work tree its index and what it ignores, so no hook or filter of theirs is run. No configuration of user or system is read: it could
/// send an address elsewhere (`insteadOf`). And what is elsewhere is reached through our own transports.
fn settle_libgit2() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let levels = [ConfigLevel::ProgramData, ConfigLevel::System, ConfigLevel::XDG, ConfigLevel::Global];
        // SAFETY: these are process-wide settings of libgit2, written once before any repository is opened and before
        // any transport is made.
        #[expect(unsafe_code, reason = "libgit2's options are a C interface without locks")]
        let settled = unsafe {
            git2::opts::set_verify_owner_validation(false)
                .and_then(|()| levels.into_iter().try_for_each(|level| git2::opts::set_search_path(level, "")))
                .and_then(|()| git2::transport::register(remote::SCHEME, remote::transport))
        };
        // None of it can fail; if it did, opening or fetching says so itself.
        drop(settled);
    });
}

/// The commit of a branch, tag or commit.
fn resolve<'r>(repository: &'r Repository, repo: &Path, revision: &str) -> Result<Commit<'r>, Failure> {
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
pub(crate) struct At {
    pub(crate) inside: String,
    pub(crate) real: String,
}

impl At {
    pub(crate) fn below(&self, name: &str) -> Self {
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

    fn gather(repo: &Path, revision: &str, path: &str, bounds: Bounds) -> Result<Gathered, Failure> {
        super::gather(&Place::typed(repo, &GitArgs::default())?, revision, path, bounds)
    }

    /// A bare repository whose branch `main` holds these blobs: path, mode, content.
    fn repository(blobs: &[(&str, i32, &str)]) -> TempDir {
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
