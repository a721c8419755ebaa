//! Where files come from: a folder, or a commit read straight from a Git repository.

pub(crate) mod dir;
pub(crate) mod git;
pub(crate) mod tar;

use regent_core::Refusal;
use regent_core::bootstrap::Bootstrap;
use regent_core::files::{Content, Files};
use regent_core::name::FilePath;
use regent_core::rules::ConfigLimits;

use crate::cli::SourceArgs;
use crate::failure::Failure;

/// A root's files and what lies around it, as plain data.
pub(crate) struct Gathered {
    /// The files, paths relative to the root.
    pub(crate) files: Files,
    /// The root's folder in its repository (`.` for the repository's own), `None` outside one.
    pub(crate) root: Option<String>,
    /// `regent.yaml` files in the folders above, up to the repository's top.
    pub(crate) bootstraps_above: Vec<String>,
    /// What a person calls this source.
    pub(crate) label: String,
}

/// What gathering may cost.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// Largest file read, in bytes; larger ones are named, not read.
    pub(crate) document: usize,
    /// Largest number of files and folders below a root.
    pub(crate) files: usize,
    /// Largest sum of all bytes read: one large file behind many links is read once a link.
    pub(crate) total: usize,
}

impl Bounds {
    /// What the operator's file allows; its defaults where there is none.
    pub(crate) fn of(limits: &ConfigLimits) -> Self {
        // A sum beyond the address space is no bound, and none is needed.
        let total = usize::try_from(limits.upload).unwrap_or(usize::MAX);
        Self { document: limits.document, files: limits.files, total }
    }
}

/// The name of the file that makes a folder a root.
pub(crate) const BOOTSTRAP: &str = Bootstrap::FILE_NAME;

/// Gathers what the arguments name: a folder (the current one by default), or a revision of a repository.
pub(crate) fn gather(args: &SourceArgs, bounds: Bounds) -> Result<Gathered, Failure> {
    match (&args.repo, &args.revision) {
        (Some(repo), Some(revision)) => {
            let place = git::Place::typed(repo, &args.git)?;
            git::gather(&place, revision, args.path.as_deref().unwrap_or("."), bounds)
        }
        (None, _) => dir::gather(args.dir.as_deref().unwrap_or(std::path::Path::new(".")), bounds),
        (Some(_), None) => Err(Failure::Usage("`--repo` expects `--revision` too: a branch, tag or commit".to_owned())),
    }
}

/// The root's own `regent.yaml`, where it has one.
pub(crate) fn bootstrap_of(files: &Files) -> Result<Option<Bootstrap>, Failure> {
    let path = FilePath::parse(BOOTSTRAP).map_err(|bad| Failure::Usage(bad.to_string()))?;
    match files.get(&path) {
        Some(Content::Bytes(bytes)) => Ok(Some(Bootstrap::parse(&path, bytes).map_err(Refusal::from)?)),
        Some(Content::TooLarge { .. } | Content::BadLink | Content::Special | Content::NotRead) => {
            Err(Failure::World {
                what: "read",
                name: BOOTSTRAP.to_owned(),
                reason: "it is no file of its own".to_owned(),
            })
        }
        None => Ok(None),
    }
}

/// Other `regent.yaml` files that could speak for the same documents: above the root and below it.
pub(crate) fn other_bootstraps(gathered: &Gathered) -> Vec<String> {
    let below = gathered.files.iter().map(|(path, _)| path.as_str());
    let other = below.filter(|path| *path != BOOTSTRAP && path.rsplit('/').next() == Some(BOOTSTRAP));
    gathered.bootstraps_above.iter().cloned().chain(other.map(str::to_owned)).collect()
}

/// The failure of a root with more files than allowed.
fn too_many_files(name: &str, limit: usize) -> Failure {
    Failure::World {
        what: "read",
        name: name.to_owned(),
        reason: format!("it holds more than {limit} files and folders; point at the folder of the manifests"),
    }
}

/// The failure of a root whose manifests are larger than allowed, taken together.
fn too_many_bytes(name: &str, limit: usize) -> Failure {
    Failure::World {
        what: "read",
        name: name.to_owned(),
        reason: format!(
            "its manifests hold more than {limit} bytes, each counted once a link; point at a smaller root"
        ),
    }
}

/// The `regent.yaml` paths in the folders above `root`, as far as `exists` says so.
pub(crate) fn above(root: &str, mut exists: impl FnMut(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    if root == "." {
        return found;
    }
    let mut folder = root;
    while let Some((parent, _)) = folder.rsplit_once('/') {
        let candidate = format!("{parent}/{BOOTSTRAP}");
        if exists(&candidate) {
            found.push(candidate);
        }
        folder = parent;
    }
    if exists(BOOTSTRAP) {
        found.push(BOOTSTRAP.to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::above;

    #[test]
    fn every_folder_above_the_root_is_looked_into_and_the_root_itself_is_not() {
        let mut asked = Vec::new();
        let found = above("clusters/eu/prod", |path| {
            asked.push(path.to_owned());
            path == "clusters/regent.yaml"
        });
        assert_eq!(asked, ["clusters/eu/regent.yaml", "clusters/regent.yaml", "regent.yaml"]);
        assert_eq!(found, ["clusters/regent.yaml"]);
    }

    #[test]
    fn nothing_lies_above_the_repository() {
        assert!(above(".", |_| true).is_empty());
    }
}
