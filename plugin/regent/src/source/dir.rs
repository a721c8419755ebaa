//! A folder on disk. Links that stay inside are followed; one that leaves the folder is named, not read.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use regent_core::files::{Content, Files, wanted};
use regent_core::name::FilePath;

use super::{BOOTSTRAP, Bounds, Gathered, above, too_many_bytes, too_many_files};
use crate::failure::Failure;

/// Reads the folder's files in parallel: names first, then the wanted ones' bytes.
pub(crate) fn gather(dir: &Path, bounds: Bounds) -> Result<Gathered, Failure> {
    let label = dir.display().to_string();
    let real = dir.canonicalize().map_err(|error| cannot_read(dir, &error))?;
    if !real.is_dir() {
        return Err(Failure::Usage(format!(
            "`{label}` is a file, and a folder is expected; `regent open` opens one file"
        )));
    }
    let mut walk = Walk { root: &real, bounds, label: &label, names: 0, found: Vec::new() };
    walk.folder(&real, "", &mut vec![real.clone()])?;

    let total = AtomicUsize::new(0);
    let contents = walk
        .found
        .into_par_iter()
        .map(|(name, seen)| {
            let path = FilePath::parse(&name).map_err(|bad| Failure::World {
                what: "read",
                name: format!("{label}/{}", bad.text.escape_debug()),
                reason: bad.rule.to_owned(),
            })?;
            let content = match seen {
                Seen::File(real) => read_bounded(&real, bounds.document).map_err(|error| cannot_read(&real, &error))?,
                Seen::Other(content) => content,
            };
            if let Content::Bytes(bytes) = &content
                && total.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len() > bounds.total
            {
                return Err(too_many_bytes(&label, bounds.total));
            }
            Ok((path, content))
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let mut files = Files::default();
    for (path, content) in contents {
        if !files.insert(path, content) {
            return Err(Failure::World {
                what: "read",
                name: label,
                reason: "it changed while it was read; try again".to_owned(),
            });
        }
    }

    let top = repository_top(&real);
    let root = top.as_ref().map(|top| match real.strip_prefix(top).ok().and_then(Path::to_str) {
        Some("") | None => ".".to_owned(),
        Some(inside) => inside.to_owned(),
    });
    let bootstraps_above = match (&top, &root) {
        (Some(top), Some(root)) => above(root, |path| top.join(path).exists()),
        _ => real
            .ancestors()
            .skip(1)
            .map(|folder| folder.join(BOOTSTRAP))
            .filter(|path| path.exists())
            .map(|path| path.display().to_string())
            .collect(),
    };
    Ok(Gathered { files, root, bootstraps_above, label })
}

/// The top of the work tree that holds a folder: where `.git` stands.
pub(crate) fn repository_top(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().find(|above| above.join(".git").exists()).map(Path::to_owned)
}

/// Reads a whole file, or tells that it is larger than `limit`: never its head.
pub(crate) fn read_bounded(path: &Path, limit: usize) -> io::Result<Content> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if size > limit as u64 {
        return Ok(Content::TooLarge { size });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(limit) + 1);
    // One byte more than the bound tells a file that grew meanwhile.
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Ok(Content::TooLarge { size: bytes.len() as u64 });
    }
    Ok(Content::Bytes(bytes))
}

/// A name found while walking.
enum Seen {
    /// A file to read, by its real path.
    File(PathBuf),
    /// Anything that is not read.
    Other(Content),
}

/// One walk over a folder.
struct Walk<'a> {
    root: &'a Path,
    bounds: Bounds,
    label: &'a str,
    /// Files and folders seen, those behind links each time they are reached: what bounds the walk.
    names: usize,
    found: Vec<(String, Seen)>,
}

impl Walk<'_> {
    /// Notes everything in `folder`; `open` holds the real paths of the folders being walked, to see loops of links.
    fn folder(&mut self, folder: &Path, prefix: &str, open: &mut Vec<PathBuf>) -> Result<(), Failure> {
        for entry in fs::read_dir(folder).map_err(|error| cannot_read(folder, &error))? {
            let entry = entry.map_err(|error| cannot_read(folder, &error))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return Err(Failure::World {
                    what: "read",
                    name: entry.path().display().to_string(),
                    reason: "its name is not UTF-8".to_owned(),
                });
            };
            // Dot-files are never manifests, and `.git` alone can hold more files than the root.
            if name.starts_with('.') {
                continue;
            }
            self.names += 1;
            if self.names > self.bounds.files {
                return Err(too_many_files(self.label, self.bounds.files));
            }
            let inside = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            let kind = entry.file_type().map_err(|error| cannot_read(&entry.path(), &error))?;
            if kind.is_symlink() {
                self.link(&entry.path(), name, inside, open)?;
            } else if kind.is_dir() {
                let path = entry.path();
                open.push(path.clone());
                self.folder(&path, &inside, open)?;
                open.pop();
            } else {
                self.found.push((inside, seen(entry.path(), name, kind)));
            }
        }
        Ok(())
    }

    fn link(&mut self, path: &Path, name: &str, inside: String, open: &mut Vec<PathBuf>) -> Result<(), Failure> {
        let target = path.canonicalize().ok().filter(|real| real.starts_with(self.root) && !open.contains(real));
        let Some(real) = target else {
            self.found.push((inside, Seen::Other(Content::BadLink)));
            return Ok(());
        };
        let kind = fs::metadata(&real).map_err(|error| cannot_read(path, &error))?.file_type();
        if kind.is_dir() {
            open.push(real.clone());
            self.folder(&real, &inside, open)?;
            open.pop();
        } else {
            self.found.push((inside, seen(real, name, kind)));
        }
        Ok(())
    }
}

fn seen(real: PathBuf, name: &str, kind: fs::FileType) -> Seen {
    if !kind.is_file() {
        Seen::Other(Content::Special)
    } else if wanted(name) {
        Seen::File(real)
    } else {
        Seen::Other(Content::NotRead)
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::io("read", path, error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const BOUNDS: Bounds = Bounds { document: 100, files: 8, total: 150 };

    fn content<'a>(gathered: &'a Gathered, path: &str) -> &'a Content {
        gathered.files.get(&FilePath::parse(path).unwrap()).unwrap()
    }

    #[test]
    fn links_inside_are_followed_and_links_out_are_named() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        fs::create_dir_all(root.join("a")).unwrap();
        fs::write(root.join("a/x.yaml"), "x: 1").unwrap();
        fs::write(temp.path().join("outside.yaml"), "secret: 1").unwrap();
        symlink("a/x.yaml", root.join("in.yaml")).unwrap();
        symlink("../outside.yaml", root.join("out.yaml")).unwrap();
        symlink("gone.yaml", root.join("gone.yaml")).unwrap();
        symlink("..", root.join("a/loop")).unwrap();
        let gathered = gather(&root, BOUNDS).ok().unwrap();
        assert!(matches!(content(&gathered, "in.yaml"), Content::Bytes(bytes) if bytes == b"x: 1"));
        for bad in ["out.yaml", "gone.yaml", "a/loop"] {
            assert!(matches!(content(&gathered, bad), Content::BadLink), "{bad}");
        }
    }

    #[test]
    fn a_file_at_the_bound_is_read_and_one_above_is_not() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("at.yaml"), [b'x'; 100]).unwrap();
        fs::write(temp.path().join("above.yaml"), [b'x'; 101]).unwrap();
        let gathered = gather(temp.path(), BOUNDS).ok().unwrap();
        assert!(matches!(content(&gathered, "at.yaml"), Content::Bytes(bytes) if bytes.len() == 100));
        assert!(matches!(content(&gathered, "above.yaml"), Content::TooLarge { size: 101 }));
    }

    #[test]
    fn more_files_than_the_bound_are_refused_and_dot_files_do_not_count() {
        let temp = tempfile::tempdir().unwrap();
        for number in 0..8 {
            fs::write(temp.path().join(format!("{number}.yaml")), "").unwrap();
            fs::write(temp.path().join(format!(".{number}.yaml")), "").unwrap();
        }
        assert_eq!(gather(temp.path(), BOUNDS).ok().unwrap().files.len(), 8);
        fs::write(temp.path().join("one-more.yaml"), "").unwrap();
        assert!(matches!(gather(temp.path(), BOUNDS), Err(Failure::World { .. })));
    }

    #[test]
    fn one_large_file_behind_many_links_counts_each_time() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("a.yaml"), [b'x'; 75]).unwrap();
        symlink("a.yaml", temp.path().join("b.yaml")).unwrap();
        assert!(gather(temp.path(), BOUNDS).is_ok());
        symlink("a.yaml", temp.path().join("c.yaml")).unwrap();
        assert!(matches!(gather(temp.path(), BOUNDS), Err(Failure::World { .. })));
    }

    #[test]
    fn the_root_is_named_as_its_repository_sees_it() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("clusters/prod");
        fs::create_dir_all(&root).unwrap();
        fs::create_dir(temp.path().join(".git")).unwrap();
        fs::write(temp.path().join("clusters/regent.yaml"), "").unwrap();
        let gathered = gather(&root, BOUNDS).ok().unwrap();
        assert_eq!(gathered.root.as_deref(), Some("clusters/prod"));
        assert_eq!(gathered.bootstraps_above, ["clusters/regent.yaml"]);
    }
}
