//! The work tree of a repository as it is on disk, so that a change can be looked at before it is committed: the files that
//! a commit of everything would hold, and of these what source-controller would pack. Content is as it is on disk: what a filter
//! of Git (LFS, git-crypt) would write otherwise is not known here.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use git2::Repository;
use regent_core::name::FilePath;

use super::sourceignore::Rules;
use super::{File, Filling, Tree, refused};
use crate::failure::Failure;
use crate::source::git;
use crate::source::tar::UploadLimits;

impl Tree {
    /// Reads the work tree whose top this folder is; `label` is what a person calls it. What Git ignores and does not hold
    /// is left out, and so are other repositories in it. A link is a copy of what it leads to where that stays inside.
    ///
    /// # Errors
    /// A folder that cannot be read or is no work tree, one larger than the limits, or a name that is refused.
    pub(crate) fn of_folder(top: &Path, label: &str, limits: UploadLimits) -> Result<Self, Failure> {
        let repository = git::open(top)?;
        let failed = |error: git2::Error| refused(label, error.message());
        let held = held(&repository, label)?;
        let mut walk = Walk { top, repository: &repository, held, label, limits, names: 0, found: Vec::new() };
        walk.folder(top, "", &mut vec![top.to_owned()]).map_err(|problem| match problem {
            Problem::Refused(failure) => failure,
            Problem::Git(error) => failed(error),
        })?;
        let found = walk.found;

        let rules = rules(&found, limits.document, label)?;
        let mut filling = Filling::new(label, limits);
        for Found { path, real } in found.into_iter().filter(|found| !rules.ignore(&found.path)) {
            let path = FilePath::parse(&path).map_err(|bad| filling.refused(&bad.to_string()))?;
            let Some(real) = real else {
                filling.lost(path)?;
                continue;
            };
            let cannot = |error| Failure::io("read", &real, &error);
            let file = fs::File::open(&real).map_err(cannot)?;
            let metadata = file.metadata().map_err(cannot)?;
            filling.reserve(&path, metadata.len())?;
            let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default() + 1);
            // One byte more than it had tells a file that grew meanwhile.
            file.take(metadata.len() + 1).read_to_end(&mut bytes).map_err(cannot)?;
            if bytes.len() as u64 > metadata.len() {
                return Err(refused(label, &format!("`{path}` grew while it was read; try again")));
            }
            let is_executable = metadata.permissions().mode() & 0o111 != 0;
            filling.file(path, File { bytes: bytes.into(), is_executable })?;
        }
        Ok(filling.tree)
    }
}

const SOURCE_IGNORE: &str = ".sourceignore";

/// Folders inside each other, far from the end of the stack.
const MAX_DEPTH: usize = 64;

/// What Git holds already, whatever is ignored since.
fn held(repository: &Repository, label: &str) -> Result<BTreeSet<String>, Failure> {
    let index = repository.index().map_err(|error| refused(label, error.message()))?;
    Ok(index.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect())
}

/// What the `.sourceignore` files say, wherever they are.
fn rules(found: &[Found], largest: usize, label: &str) -> Result<Rules, Failure> {
    let mut files = Vec::new();
    for Found { path, real } in found {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let (SOURCE_IGNORE, Some(real)) = (name, real) else { continue };
        let cannot = |error| Failure::io("read", real, &error);
        if fs::metadata(real).map_err(cannot)?.len() > largest as u64 {
            return Err(refused(label, &format!("`{path}` has more than {largest} bytes (`limits.document`)")));
        }
        files.push((folder, fs::read(real).map_err(cannot)?));
    }
    Ok(Rules::new(files))
}

/// A name that is not a folder.
struct Found {
    path: String,
    /// The file, behind all links; `None` for a link that leaves the repository, dangles or loops, and for what is no file.
    real: Option<PathBuf>,
}

enum Problem {
    Refused(Failure),
    Git(git2::Error),
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

/// One walk over the whole work tree.
struct Walk<'a> {
    top: &'a Path,
    repository: &'a Repository,
    held: BTreeSet<String>,
    label: &'a str,
    limits: UploadLimits,
    /// Names seen, those behind links each time they are reached: what bounds the walk.
    names: usize,
    found: Vec<Found>,
}

impl Walk<'_> {
    /// `open` holds the real paths of the folders that are being walked, to see loops of links.
    fn folder(&mut self, folder: &Path, prefix: &str, open: &mut Vec<PathBuf>) -> Result<(), Problem> {
        if open.len() > MAX_DEPTH {
            return Err(refused(self.label, &format!("`{prefix}`: folders are nested too deeply")).into());
        }
        let cannot = |error| Failure::io("read", folder, &error);
        let mut entries = fs::read_dir(folder).map_err(cannot)?.collect::<Result<Vec<_>, _>>().map_err(cannot)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let Ok(name) = entry.file_name().into_string() else {
                return Err(refused(self.label, &format!("`{prefix}` holds a name that is not UTF-8")).into());
            };
            let inside = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            let path = entry.path();
            if self.is_left_out(&path)? {
                continue;
            }
            self.names += 1;
            if self.names > self.limits.files {
                let limit = self.limits.files;
                let problem = format!("it holds more than {limit} files and folders (`limits.files`)");
                return Err(refused(self.label, &problem).into());
            }
            let kind = entry.file_type().map_err(|error| Failure::io("read", &path, &error))?;
            let real = if kind.is_symlink() { self.target(&path, open)? } else { Some(path) };
            match real {
                // Another repository, which no commit of this one holds.
                Some(real) if real.is_dir() && real.join(GIT).exists() => {}
                Some(real) if real.is_dir() => {
                    open.push(real.clone());
                    self.folder(&real, &inside, open)?;
                    open.pop();
                }
                Some(real) if real.is_file() => self.found.push(Found { path: inside, real: Some(real) }),
                Some(_) | None => self.found.push(Found { path: inside, real: None }),
            }
        }
        Ok(())
    }

    /// What a link leads to; `None` where a commit would hold nothing there.
    fn target(&self, link: &Path, open: &[PathBuf]) -> Result<Option<PathBuf>, Problem> {
        let is_relative = fs::read_link(link).is_ok_and(|target| target.is_relative());
        let real = link.canonicalize().ok().filter(|real| is_relative && real.starts_with(self.top));
        match real {
            Some(real) if !open.contains(&real) && !self.is_left_out(&real)? => Ok(Some(real)),
            Some(_) | None => Ok(None),
        }
    }

    /// Whether Git ignores a path and holds nothing there.
    fn is_left_out(&self, real: &Path) -> Result<bool, Problem> {
        let Some(path) = real.strip_prefix(self.top).ok().and_then(Path::to_str) else { return Ok(false) };
        if path == GIT || path.starts_with(".git/") {
            return Ok(true);
        }
        if path.is_empty() || self.holds(path) {
            return Ok(false);
        }
        self.repository.is_path_ignored(path).map_err(Problem::Git)
    }

    fn holds(&self, path: &str) -> bool {
        let below = format!("{path}/");
        let first_below = self.held.range(below.clone()..).next();
        self.held.contains(path) || first_below.is_some_and(|first| first.starts_with(&below))
    }
}

const GIT: &str = ".git";
