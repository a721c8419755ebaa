//! A repository that comes as a gzipped tar, read as it arrives and never written to a disk.
//!
//! Kept until the end are symbolic links and the files that may be manifests or `regent.yaml`, from anywhere in
//! the tar, because only its end tells where a link leads. Of other files the name is kept, because a file that is
//! skipped in silence is an object that a prune deletes. Nothing is known of what lies in a `.git`: no root can be in
//! there, and it alone can hold more files than everything else. Its bytes count, its names do not.
//!
//! One difference to a checkout: a link named like a manifest to a file that is not (`a.yaml -> a.txt`) is
//! [`Content::NotRead`], where a folder on disk can still be asked for the bytes.

pub(crate) mod archive;
mod gzip;
pub(crate) mod header;

use std::collections::{BTreeMap, HashSet};
use std::io::BufRead;
use std::mem;

use regent_core::files::{Content, Files, wanted};
use regent_core::name::FilePath;
use regent_core::rules::ConfigLimits;

use self::archive::{Archive, Entry, Kind};
use super::{BOOTSTRAP, Gathered, above};

/// What one upload may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UploadLimits {
    /// Largest file kept, in bytes; a larger one is named, not kept.
    pub(crate) document: usize,
    /// Most bytes kept, names included.
    pub(crate) kept: u64,
    /// Most bytes after decompression.
    pub(crate) stream: u64,
    /// Most files, folders and links.
    pub(crate) files: usize,
}

impl UploadLimits {
    /// What the operator's file allows.
    pub(crate) fn of(limits: &ConfigLimits) -> Self {
        Self { document: limits.document, kept: limits.upload, stream: limits.stream, files: limits.files }
    }
}

/// Why an upload is refused. Names and rules, never contents. Names are the sender's: at most 200 bytes of one are
/// told, control characters and all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UploadProblem {
    /// No gzip, no tar, or one that ends early.
    #[error("it is no gzipped tar, or damaged")]
    Damaged,
    /// The sender failed before the end.
    #[error("it did not arrive to its end")]
    Broken,
    /// A header that two readers could understand differently.
    #[error("it holds a tar header that {rule}")]
    Header {
        /// The rule it breaks.
        rule: &'static str,
    },
    /// `limits.stream`.
    #[error("it holds more than {limit} bytes once unpacked (`limits.stream`)")]
    StreamTooLarge {
        /// The bound in bytes.
        limit: u64,
    },
    /// `limits.upload`.
    #[error("its manifests, links and names hold more than {limit} bytes, each counted once a link (`limits.upload`)")]
    KeptTooLarge {
        /// The bound in bytes.
        limit: u64,
    },
    /// `limits.files`.
    #[error("it holds more than {limit} files and folders, each counted once a link (`limits.files`)")]
    TooManyFiles {
        /// The bound.
        limit: usize,
    },
    /// Far more unpacked bytes than any repository gives.
    #[error("it unpacks to more than {ratio} times its size, as a decompression bomb does")]
    Bomb {
        /// The bound.
        ratio: u64,
    },
    /// A name that no file of a repository has.
    #[error("`{name}` {rule}")]
    BadName {
        /// The name.
        name: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A second name of a file.
    #[error("`{name}` is a hard link, and files, folders and symbolic links are expected")]
    HardLink {
        /// The entry.
        name: String,
    },
    /// A device or a named pipe.
    #[error("`{name}` is a device or a named pipe, and files, folders and symbolic links are expected")]
    Special {
        /// The entry.
        name: String,
    },
    /// A kind of entry that Argo CD does not send.
    #[error("`{name}` is of an unknown or sparse kind, and files, folders and symbolic links are expected")]
    UnknownKind {
        /// The entry.
        name: String,
    },
    /// Two entries of one path.
    #[error("`{name}` is in it twice")]
    Twice {
        /// The path.
        name: String,
    },
    /// What would be written through a link.
    #[error("`{name}` lies below a link or a file of the same upload")]
    BelowAFile {
        /// The path.
        name: String,
    },
    /// A folder that is asked for and not there.
    #[error("there is no folder `{path}` in it")]
    NoFolder {
        /// The path.
        path: String,
    },
    /// A link on the way leads nowhere.
    #[error("`{path}` is or passes a symbolic link to what is not in it")]
    Dangling {
        /// The path.
        path: String,
    },
    /// A link on the way, or the path itself, leads outside.
    #[error("`{path}` leads out of it")]
    LinkOut {
        /// The path.
        path: String,
    },
    /// Links that lead to each other.
    #[error("`{path}` passes too many symbolic links (in a loop?)")]
    LinkLoop {
        /// The path.
        path: String,
    },
    /// A root that is reached through a link.
    #[error("`{path}` is or passes a symbolic link, and a root is named by its real path")]
    LinkedRoot {
        /// The root.
        path: String,
    },
}

/// A repository as Argo CD sent it.
pub(crate) struct Upload {
    limits: UploadLimits,
    size: UploadSize,
    /// The first is the top.
    nodes: Vec<Node>,
}

/// What an upload was made of; for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UploadSize {
    /// Bytes after decompression.
    pub(crate) stream: u64,
    /// Bytes kept.
    pub(crate) kept: u64,
    /// Files, folders and links, without those of `.git`.
    pub(crate) files: usize,
}

impl Upload {
    /// Reads the whole of a gzipped tar. An error ends it: what is left of the stream is for the caller to drain.
    pub(crate) fn read(gzip: impl BufRead, limits: UploadLimits) -> Result<Self, UploadProblem> {
        let top = Node { parent: TOP, what: What::Folder(BTreeMap::new()) };
        let mut upload = Self { limits, size: UploadSize::default(), nodes: vec![top] };
        let mut archive = Archive::new(gzip, limits.stream);
        let mut entry = Entry::default();
        while archive.next(&mut entry)? {
            upload.entry(&entry, &mut archive)?;
        }
        upload.size.stream = archive.unpacked();
        Ok(upload)
    }

    /// What it was made of.
    pub(crate) fn size(&self) -> UploadSize {
        self.size
    }

    /// Where a folder of the upload really is (`.` for its top): symbolic links on the way are followed.
    pub(crate) fn folder(&self, path: &str) -> Result<String, UploadProblem> {
        let told = || shown(path.as_bytes());
        let id = self.resolve(TOP, path.as_bytes()).map_err(|lost| match lost {
            Lost::Missing => UploadProblem::NoFolder { path: told() },
            Lost::Dangling => UploadProblem::Dangling { path: told() },
            Lost::Out => UploadProblem::LinkOut { path: told() },
            Lost::TooFar => UploadProblem::LinkLoop { path: told() },
        })?;
        match self.nodes[id].what {
            What::Folder(_) => self.real_path(id),
            What::Link(_) | What::File(_) => Err(UploadProblem::NoFolder { path: told() }),
        }
    }

    /// The root of a `regent.yaml` as every source gives it: what lies in its folder, with paths relative to that,
    /// links resolved inside the whole upload.
    pub(crate) fn gathered(mut self, bootstrap: &FilePath) -> Result<Gathered, UploadProblem> {
        let root = bootstrap.parent().map_or_else(|| ".".to_owned(), |folder| folder.as_str().to_owned());
        let folders = self.literal_folders(&root)?;
        let id = folders.last().copied().unwrap_or(TOP);
        if let Some(What::Link(_)) = self.literal(bootstrap.as_str()).map(|id| &self.nodes[id].what) {
            return Err(UploadProblem::LinkedRoot { path: shown(bootstrap.as_str().as_bytes()) });
        }
        let mut bootstraps_above = above(&root, |path| self.literal(path).is_some());
        let uses = vec![0; self.nodes.len()];
        let mut walk = Walk {
            upload: &self,
            root: id,
            open: folders,
            names: 0,
            kept: self.size.kept,
            uses,
            found: Vec::new(),
            elsewhere: Vec::new(),
            looked: HashSet::new(),
        };
        walk.folder(id, "")?;
        let (found, uses, elsewhere) = (walk.found, walk.uses, walk.elsewhere);
        for folder in elsewhere {
            let folder = self.real_path(folder)?;
            bootstraps_above.push(if folder == "." { BOOTSTRAP.to_owned() } else { format!("{folder}/{BOOTSTRAP}") });
        }
        let files = self.contents(found, uses)?;
        Ok(Gathered { files, label: format!("upload:{root}"), root: Some(root), bootstraps_above })
    }

    /// Whether there is such a file, or a link to one.
    pub(crate) fn has(&self, path: &FilePath) -> bool {
        // Once the path is there by its own names, the last of them is the only link that is followed.
        self.literal(path.as_str()).is_some()
            && self.resolve(TOP, path.as_str().as_bytes()).is_ok_and(|id| matches!(self.nodes[id].what, What::File(_)))
    }

    /// The files below a folder that [`Self::folder`] gave, with paths relative to it. Links are not followed, and names
    /// that are not UTF-8 are passed over.
    pub(crate) fn files_below(&self, folder: &str) -> Vec<String> {
        let top = if folder == "." { Some(TOP) } else { self.literal(folder) };
        let mut folders: Vec<(NodeId, String)> = top.map(|id| (id, String::new())).into_iter().collect();
        let mut files = Vec::new();
        while let Some((id, prefix)) = folders.pop() {
            let What::Folder(children) = &self.nodes[id].what else { continue };
            for (name, id) in children {
                let Ok(name) = str::from_utf8(name) else { continue };
                match &self.nodes[*id].what {
                    What::Folder(_) => folders.push((*id, format!("{prefix}{name}/"))),
                    What::File(_) | What::Link(_) => files.push(format!("{prefix}{name}")),
                }
            }
        }
        files
    }

    /// Keeps what is needed of one entry.
    fn entry<R: BufRead>(&mut self, entry: &Entry, archive: &mut Archive<R>) -> Result<(), UploadProblem> {
        let Some(name) = place(entry)? else { return Ok(()) };
        let what = match entry.kind {
            Kind::Folder => What::Folder(BTreeMap::new()),
            Kind::Link => {
                if entry.target.is_empty() || entry.target.len() > MAX_PATH || entry.target.contains(&0) {
                    return Err(bad_name(name, "is a symbolic link without a target, or with one that is no path"));
                }
                self.keep(entry.target.len() as u64)?;
                What::Link(entry.target.as_slice().into())
            }
            Kind::File => {
                let base = name.rsplit(|byte| *byte == b'/').next().unwrap_or(name);
                if !str::from_utf8(base).is_ok_and(wanted) {
                    What::File(Content::NotRead)
                } else if entry.size > self.limits.document as u64 {
                    What::File(Content::TooLarge { size: entry.size })
                } else {
                    self.keep(entry.size)?;
                    What::File(Content::Bytes(archive.body()?))
                }
            }
        };
        self.insert(name, what)
    }

    /// Puts a node at its path; folders that the tar did not name come to be as they do on a disk.
    fn insert(&mut self, name: &[u8], what: What) -> Result<(), UploadProblem> {
        let mut parts = name.split(|byte| *byte == b'/').peekable();
        let mut folder = TOP;
        while let Some(part) = parts.next() {
            let is_last = parts.peek().is_none();
            let What::Folder(children) = &self.nodes[folder].what else {
                return Err(UploadProblem::BelowAFile { name: shown(name) });
            };
            match children.get(part) {
                Some(id) if !is_last => folder = *id,
                Some(id) => {
                    return match (&self.nodes[*id].what, &what) {
                        (What::Folder(_), What::Folder(_)) => Ok(()),
                        (What::Folder(_) | What::Link(_) | What::File(_), _) => {
                            Err(UploadProblem::Twice { name: shown(name) })
                        }
                    };
                }
                None if is_last => {
                    self.add(folder, part, what)?;
                    break;
                }
                None => folder = self.add(folder, part, What::Folder(BTreeMap::new()))?,
            }
        }
        Ok(())
    }

    fn add(&mut self, parent: NodeId, name: &[u8], what: What) -> Result<NodeId, UploadProblem> {
        let cost = match &what {
            What::Folder(_) => FOLDER_BYTES,
            What::Link(_) | What::File(_) => NAME_BYTES,
        };
        self.keep(cost + name.len() as u64)?;
        self.size.files += 1;
        if self.size.files > self.limits.files {
            return Err(UploadProblem::TooManyFiles { limit: self.limits.files });
        }
        let id = self.nodes.len();
        self.nodes.push(Node { parent, what });
        if let What::Folder(children) = &mut self.nodes[parent].what {
            children.insert(name.into(), id);
        }
        Ok(id)
    }

    /// Counts bytes before they are kept.
    fn keep(&mut self, bytes: u64) -> Result<(), UploadProblem> {
        self.size.kept = self.size.kept.saturating_add(bytes);
        if self.size.kept > self.limits.kept {
            return Err(UploadProblem::KeptTooLarge { limit: self.limits.kept });
        }
        Ok(())
    }

    /// Follows a path from a folder as a kernel does: part by part, each link where it stands, `..` to the real
    /// parent. It never returns a link.
    fn resolve(&self, folder: NodeId, path: &[u8]) -> Result<NodeId, Lost> {
        if path.first() == Some(&b'/') {
            return Err(Lost::Out);
        }
        let parts = |path| <[u8]>::split(path, |byte: &u8| *byte == b'/');
        let mut at = folder;
        let mut ahead = vec![parts(path)];
        let (mut steps, mut links) = (0, 0);
        while let Some(next) = ahead.last_mut() {
            let Some(part) = next.next() else {
                ahead.pop();
                continue;
            };
            steps += 1;
            if steps > MAX_STEPS {
                return Err(Lost::TooFar);
            }
            let missing = if links == 0 { Lost::Missing } else { Lost::Dangling };
            let What::Folder(children) = &self.nodes[at].what else { return Err(missing) };
            match part {
                b"" | b"." => {}
                b".." if at == TOP => return Err(Lost::Out),
                b".." => at = self.nodes[at].parent,
                name => {
                    let id = *children.get(name).ok_or(missing)?;
                    let What::Link(target) = &self.nodes[id].what else {
                        at = id;
                        continue;
                    };
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Lost::TooFar);
                    }
                    if target.first() == Some(&b'/') {
                        return Err(Lost::Out);
                    }
                    ahead.push(parts(target));
                }
            }
        }
        Ok(at)
    }

    /// The node of exactly this path: no link on the way is followed, nor one at its end.
    fn literal(&self, path: &str) -> Option<NodeId> {
        path.split('/').try_fold(TOP, |folder, part| match &self.nodes[folder].what {
            What::Folder(children) => children.get(part.as_bytes()).copied(),
            What::Link(_) | What::File(_) => None,
        })
    }

    /// The folders from the top to this one, itself included, none of them behind a link.
    fn literal_folders(&self, path: &str) -> Result<Vec<NodeId>, UploadProblem> {
        let mut folders = vec![TOP];
        if path == "." {
            return Ok(folders);
        }
        let mut folder = TOP;
        for part in path.split('/') {
            let child = match &self.nodes[folder].what {
                What::Folder(children) => children.get(part.as_bytes()).copied(),
                What::Link(_) | What::File(_) => None,
            };
            match child.map(|id| (id, &self.nodes[id].what)) {
                Some((id, What::Folder(_))) => folder = id,
                Some((_, What::Link(_))) => return Err(UploadProblem::LinkedRoot { path: shown(path.as_bytes()) }),
                Some((_, What::File(_))) | None => {
                    return Err(UploadProblem::NoFolder { path: shown(path.as_bytes()) });
                }
            }
            folders.push(folder);
        }
        Ok(folders)
    }

    fn real_path(&self, folder: NodeId) -> Result<String, UploadProblem> {
        let mut parts = Vec::new();
        let mut at = folder;
        while at != TOP {
            let parent = self.nodes[at].parent;
            if let What::Folder(children) = &self.nodes[parent].what {
                parts.extend(children.iter().find(|(_, id)| **id == at).map(|(name, _)| &**name));
            }
            at = parent;
        }
        if parts.is_empty() {
            return Ok(".".to_owned());
        }
        parts.reverse();
        String::from_utf8(parts.join(&b'/')).map_err(|bad| bad_name(bad.as_bytes(), NOT_UTF8))
    }

    /// Takes what was found out of the nodes: bytes move, and are copied only where the same file is used again.
    fn contents(&mut self, found: Vec<(FilePath, Found)>, mut uses: Vec<u32>) -> Result<Files, UploadProblem> {
        let mut files = Files::default();
        for (path, found) in found {
            let content = match found {
                Found::BadLink => Content::BadLink,
                Found::NotRead => Content::NotRead,
                Found::File(id) => {
                    uses[id] -= 1;
                    match &mut self.nodes[id].what {
                        What::File(Content::Bytes(bytes)) if uses[id] == 0 => Content::Bytes(mem::take(bytes)),
                        What::File(Content::Bytes(bytes)) => Content::Bytes(bytes.clone()),
                        What::File(Content::TooLarge { size }) => Content::TooLarge { size: *size },
                        What::File(Content::NotRead | Content::BadLink | Content::Special)
                        | What::Folder(_)
                        | What::Link(_) => Content::NotRead,
                    }
                }
            };
            let told = shown(path.as_str().as_bytes());
            if !files.insert(path, content) {
                return Err(UploadProblem::Twice { name: told });
            }
        }
        Ok(files)
    }
}

/// Longest path and link target, in bytes, as on Linux.
const MAX_PATH: usize = 4096;
/// Longest part of a path, in bytes, likewise.
const MAX_PART: usize = 255;
/// Folders inside each other; far from the end of the stack, and from any repository.
const MAX_DEPTH: usize = 256;
/// Links followed on one path, as on Linux.
const MAX_LINKS: u32 = 40;
/// Parts looked up on one path: forty targets of 2048 parts each, on every name of an upload, would take a minute.
const MAX_STEPS: u32 = 1024;
/// Bytes that a name costs beside itself.
const NAME_BYTES: u64 = 64;
/// The same for a folder, whose children need a first block.
const FOLDER_BYTES: u64 = 384;
/// Longest name told, in bytes.
const MAX_SHOWN: usize = 200;
const NOT_UTF8: &str = "is not UTF-8";

/// A place among the nodes.
type NodeId = usize;

const TOP: NodeId = 0;

/// What stands at one path.
struct Node {
    /// The real folder; the top's is the top.
    parent: NodeId,
    what: What,
}

enum What {
    /// Names are bytes, so that one that is not UTF-8 stops whoever needs its folder, and nobody else.
    Folder(BTreeMap<Box<[u8]>, NodeId>),
    /// The target as it was written.
    Link(Box<[u8]>),
    /// Bytes, too large, or not needed.
    File(Content),
}

/// Why a path leads nowhere.
#[derive(Clone, Copy)]
enum Lost {
    Missing,
    Dangling,
    Out,
    TooFar,
}

/// One walk over a root.
struct Walk<'a> {
    upload: &'a Upload,
    /// The folders from the top to here, by where they really are, to see loops of links.
    open: Vec<NodeId>,
    /// Names seen, those behind links each time they are reached: what bounds the walk.
    names: usize,
    /// Bytes kept of the upload, and those that the walk adds: paths, and files that are used again.
    kept: u64,
    /// How often each file is used.
    uses: Vec<u32>,
    found: Vec<(FilePath, Found)>,
    /// The root's own folder.
    root: NodeId,
    /// Folders around the targets of links that have a `regent.yaml` of their own: another authority may speak for
    /// what lies there.
    elsewhere: Vec<NodeId>,
    /// Folders that were looked into for one.
    looked: HashSet<NodeId>,
}

/// A name found while walking.
enum Found {
    File(NodeId),
    NotRead,
    BadLink,
}

impl Walk<'_> {
    fn folder(&mut self, folder: NodeId, prefix: &str) -> Result<(), UploadProblem> {
        let upload = self.upload;
        let What::Folder(children) = &upload.nodes[folder].what else { return Ok(()) };
        for (name, id) in children {
            // Dot-files too: a folder of them behind many links is work.
            self.names += 1;
            if self.names > upload.limits.files {
                return Err(UploadProblem::TooManyFiles { limit: upload.limits.files });
            }
            let Ok(name) = str::from_utf8(name) else {
                let path = [prefix.as_bytes(), b"/", name].concat();
                return Err(bad_name(path.strip_prefix(b"/").unwrap_or(&path), NOT_UTF8));
            };
            if name.starts_with('.') {
                continue;
            }
            let inside = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            match &upload.nodes[*id].what {
                What::Folder(_) => self.subfolder(*id, &inside)?,
                What::File(_) => self.file(*id, name, &inside)?,
                What::Link(_) => match upload.resolve(folder, name.as_bytes()) {
                    Ok(id) => {
                        self.look_around(id);
                        match &upload.nodes[id].what {
                            What::Folder(_) if self.open.contains(&id) => self.note(&inside, Found::BadLink)?,
                            What::Folder(_) => self.subfolder(id, &inside)?,
                            What::File(_) | What::Link(_) => self.file(id, name, &inside)?,
                        }
                    }
                    Err(Lost::Missing | Lost::Dangling | Lost::Out | Lost::TooFar) => {
                        self.note(&inside, Found::BadLink)?;
                    }
                },
            }
        }
        Ok(())
    }

    /// Notes every `regent.yaml` above a link's target but the root's own.
    fn look_around(&mut self, target: NodeId) {
        let nodes = &self.upload.nodes;
        let mut at = if let What::Folder(_) = nodes[target].what { target } else { nodes[target].parent };
        while at != self.root && self.looked.insert(at) {
            if let What::Folder(children) = &nodes[at].what
                && children.contains_key(BOOTSTRAP.as_bytes())
            {
                self.elsewhere.push(at);
            }
            at = nodes[at].parent;
        }
    }

    fn subfolder(&mut self, folder: NodeId, inside: &str) -> Result<(), UploadProblem> {
        if self.open.len() > MAX_DEPTH {
            return Err(bad_name(inside.as_bytes(), TOO_DEEP));
        }
        self.open.push(folder);
        self.folder(folder, inside)?;
        self.open.pop();
        Ok(())
    }

    fn file(&mut self, file: NodeId, name: &str, inside: &str) -> Result<(), UploadProblem> {
        self.note(inside, if wanted(name) { Found::File(file) } else { Found::NotRead })
    }

    fn note(&mut self, inside: &str, found: Found) -> Result<(), UploadProblem> {
        let path = FilePath::parse(inside).map_err(|bad| bad_name(inside.as_bytes(), bad.rule))?;
        self.kept = self.kept.saturating_add(NAME_BYTES + inside.len() as u64);
        if let Found::File(id) = found {
            if self.uses[id] > 0
                && let What::File(Content::Bytes(bytes)) = &self.upload.nodes[id].what
            {
                self.kept = self.kept.saturating_add(bytes.len() as u64);
            }
            self.uses[id] += 1;
        }
        if self.kept > self.upload.limits.kept {
            return Err(UploadProblem::KeptTooLarge { limit: self.upload.limits.kept });
        }
        self.found.push((path, found));
        Ok(())
    }
}

const TOO_DEEP: &str = "lies more than 256 folders deep";

/// An entry's path without what a writer may put around it; `None` for the top itself and for what belongs to a
/// `.git`.
pub(crate) fn place(entry: &Entry) -> Result<Option<&[u8]>, UploadProblem> {
    let written = entry.name.as_slice();
    let mut name = written.strip_prefix(b"./").unwrap_or(written);
    if entry.kind == Kind::Folder {
        name = name.strip_suffix(b"/").unwrap_or(name);
        if matches!(written, b"." | b"./") {
            return Ok(None);
        }
    }
    let bad = |rule| Err(bad_name(written, rule));
    if name.len() > MAX_PATH {
        return bad("is longer than 4096 bytes");
    }
    if name.starts_with(b"/") {
        return bad("is no relative path");
    }
    if name.contains(&0) {
        return bad("holds a NUL");
    }
    let (mut depth, mut is_git) = (0, false);
    for part in name.split(|byte| *byte == b'/') {
        depth += 1;
        match part {
            b"" => return bad("has an empty part"),
            b"." | b".." => return bad("has a part `.` or `..`"),
            part if part.len() > MAX_PART => return bad("has a part longer than 255 bytes"),
            part => is_git |= part == b".git",
        }
    }
    if depth > MAX_DEPTH {
        return bad(TOO_DEEP);
    }
    Ok((!is_git).then_some(name))
}

fn bad_name(name: &[u8], rule: &'static str) -> UploadProblem {
    UploadProblem::BadName { name: shown(name), rule }
}

/// The end of a long name says more than its beginning, but the beginning is what a person can look for.
fn shown(name: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&name[..name.len().min(MAX_SHOWN)]).into_owned();
    while text.len() > MAX_SHOWN {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests;
