//! `regent render --via`: what a plugin answers Argo CD, asked as Argo CD asks.
//!
//! The plugin has keys and evidence; this end has none, so it cannot know which leaves were encrypted. Without
//! `--reveal` it describes every value of a Secret, and of whatever carries the guards that regent puts on values.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use git2::{ErrorCode, Repository};
use regent_core::emit::Encoding;
use regent_core::remote::Location;
use regent_core::rules::ConfigLimits;
use regent_sops::{Branch, Document, Element, Entry, Format, Item, Leaf, Limits, Node, Plaintext, Scalar};

use super::{encoding, frame};
use crate::argocd::client::{self, Application, Packed};
use crate::cli::{RenderArgs, SourceArgs, ViaArgs};
use crate::failure::{Failure, one_line};
use crate::source::dir::repository_top;
use crate::source::git::{self, Place};
use crate::{config, output};

pub(super) fn run(args: &RenderArgs, socket: &Path) -> Result<ExitCode, Failure> {
    let limits = match &args.store.config {
        Some(file) => config::load(file)?.limits,
        None => ConfigLimits::default(),
    };
    let Source { packed, mut application } = Source::gather(&args.source, limits.stream)?;
    adjust(&mut application, &args.via);
    let manifests = client::ask(socket, &application, &packed, Duration::from_secs(args.via.timeout))?;
    drop(packed);
    if manifests.is_empty() {
        output::note("the plugin answers no manifest");
    }
    let encoding = encoding(args.output);
    let parts =
        manifests.into_iter().enumerate().map(|(number, manifest)| shown(number, manifest, encoding, args.reveal));
    let parts = parts.collect::<Result<Vec<_>, Failure>>()?;
    let (before, after) = frame(encoding);
    output::parts(before, &parts, after)?;
    Ok(ExitCode::SUCCESS)
}

/// What is sent: a packed repository, and the application that Git itself suggests.
struct Source {
    packed: Packed,
    application: Application,
}

impl Source {
    fn gather(args: &SourceArgs, limit: u64) -> Result<Self, Failure> {
        match (&args.repo, &args.revision) {
            (Some(repo), Some(revision)) => {
                let place = Place::typed(repo, &args.git)?;
                Self::commit(&place, revision, args.path.as_deref().unwrap_or("."), limit)
            }
            (None, _) => Self::folder(args.dir.as_deref().unwrap_or(Path::new(".")), limit),
            (Some(_), None) => {
                Err(Failure::Usage("`--repo` expects `--revision` too: a branch, tag or commit".to_owned()))
            }
        }
    }

    /// The work tree around a folder, as it is on disk; the folder alone outside one.
    fn folder(dir: &Path, limit: u64) -> Result<Self, Failure> {
        let real = dir.canonicalize().map_err(|error| Failure::io("read", dir, &error))?;
        if !real.is_dir() {
            return Err(Failure::Usage(format!("`{}` is a file, and a folder is expected", dir.display())));
        }
        let tree = repository_top(&real);
        let top = tree.as_deref().unwrap_or(&real);
        let path = match real.strip_prefix(top).ok().and_then(Path::to_str) {
            Some("") => ".".to_owned(),
            Some(inside) => inside.to_owned(),
            None => return Err(Failure::Usage(format!("`{}` has a name that is not UTF-8", dir.display()))),
        };
        let repository = tree.as_deref().map(git::open).transpose()?;
        let (revision, branch) = match &repository {
            Some(repository) => head(repository).map_err(|error| git::cannot_read(top, &error))?,
            None => (String::new(), None),
        };
        let application = Application {
            name: base_name(&real),
            namespace: String::new(),
            project: "default".to_owned(),
            revision,
            repo_url: repository.as_ref().and_then(origin).unwrap_or_else(|| file_url(top)),
            path,
            folder_name: base_name(&real),
            target_revision: branch.unwrap_or_else(|| "HEAD".to_owned()),
            plugin_env: Vec::new(),
        };
        Ok(Self { packed: client::folder(top, limit)?, application })
    }

    /// A revision from a repository's object database.
    fn commit(place: &Place, revision: &str, path: &str, limit: u64) -> Result<Self, Failure> {
        let held = git::Held::open(place, revision, git::History::None)?;
        let (repository, commit) = (held.repository(), held.commit()?);
        let (top, repo_url) = match &place.location {
            Location::Folder(repo) => {
                let top = repo.canonicalize().map_err(|error| Failure::io("read", repo, &error))?;
                let url = origin(repository).unwrap_or_else(|| file_url(&top));
                (top, url)
            }
            Location::Remote(address) => (PathBuf::from(address.to_string()), address.to_string()),
        };
        let path = git::normalised(path)?;
        let label = format!("{}@{revision}", place.location);
        let tree = commit.tree().map_err(|error| git::cannot_read(&top, &error))?;
        git::folder_at(repository, &tree, &path).ok_or_else(|| Failure::World {
            what: "read",
            name: format!("{label}:{path}"),
            reason: "there is no such folder in that revision".to_owned(),
        })?;
        let folder = if path == "." { top } else { PathBuf::from(&path) };
        let application = Application {
            name: base_name(&folder),
            namespace: String::new(),
            project: "default".to_owned(),
            revision: commit.id().to_string(),
            repo_url,
            path,
            folder_name: base_name(&folder),
            target_revision: revision.to_owned(),
            plugin_env: Vec::new(),
        };
        Ok(Self { packed: client::commit(repository, &commit, &label, limit)?, application })
    }
}

/// What was typed wins over what Git suggests.
fn adjust(application: &mut Application, typed: &ViaArgs) {
    let places = [
        (&mut application.name, &typed.app),
        (&mut application.namespace, &typed.namespace),
        (&mut application.project, &typed.project),
        (&mut application.repo_url, &typed.repo_url),
        (&mut application.target_revision, &typed.target_revision),
    ];
    for (place, typed) in places {
        if let Some(typed) = typed {
            place.clone_from(typed);
        }
    }
    application.plugin_env.clone_from(&typed.env);
}

/// The commit and the branch of `HEAD`; nothing before the first commit.
fn head(repository: &Repository) -> Result<(String, Option<String>), git2::Error> {
    let head = match repository.head() {
        Ok(head) => head,
        Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => {
            return Ok((String::new(), None));
        }
        Err(error) => return Err(error),
    };
    let branch = if head.is_branch() { head.shorthand().ok().map(str::to_owned) } else { None };
    Ok((head.peel_to_commit()?.id().to_string(), branch))
}

fn origin(repository: &Repository) -> Option<String> {
    repository.find_remote("origin").ok()?.url().ok().map(str::to_owned)
}

fn file_url(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

/// As Go's `filepath.Base` has it.
fn base_name(folder: &Path) -> String {
    folder.file_name().map_or_else(|| "/".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// One manifest of the answer as it is printed.
fn shown(number: usize, manifest: String, encoding: Encoding, reveal: bool) -> Result<Plaintext, Failure> {
    let refused = |why: &str| Failure::Plugin { message: format!("manifest {} of its answer {why}", number + 1) };
    // An answer has one bound already, that of a message.
    let limits = Limits { document: usize::MAX, nodes: usize::MAX, ..Limits::default() };
    let mut tree = match Document::parse(manifest.as_bytes(), Format::Json, &limits) {
        Ok(Document::Clear(tree)) => tree,
        Ok(Document::Sealed(_)) => return Err(refused("is still encrypted")),
        // Where it breaks is between the lines of an answer that nobody sees.
        Err(_) => return Err(refused("is not one JSON object")),
    };
    let Some(object) = tree.documents.first_mut() else { return Err(refused("is not one JSON object")) };
    if reveal && encoding == Encoding::Json {
        return Ok(Plaintext::new(manifest.into_bytes()));
    }
    if !reveal {
        describe_object(object);
    }
    let written = match encoding {
        Encoding::Json => object.to_json_line(),
        Encoding::Yaml => object.to_yaml_document(),
    };
    written.map_err(|error| refused(&format!("cannot be written: {}", one_line(&error.to_string()))))
}

/// As on every object of a preview: a label that no API server takes.
const PREVIEW: (&str, &str) = ("regent.dev/redacted", "<not for apply>");
/// The guard that regent puts on every object with decrypted values.
const GUARD: (&str, &str) = ("kustomize.toolkit.fluxcd.io/prune", "disabled");

/// Describes what may be secret, in the items of a `List` too. Where a key stands twice, each of them counts: readers
/// disagree on which one wins.
fn describe_object(object: &mut Branch) {
    let is_secret = object.entries().any(|entry| match (&*entry.key, &entry.value) {
        ("kind", Node::Leaf(leaf)) => leaf.clear_text() == Some("Secret"),
        _ => false,
    });
    let is_guarded = object.public_text(&["metadata", "annotations", GUARD.0]) == Some(GUARD.1);
    for Entry { key, value, .. } in entries_mut(object) {
        match (key.as_str(), value) {
            ("items", Node::List(items)) => items.iter_mut().for_each(|item| {
                if let Element::Node(Node::Map(item)) = item {
                    describe_object(item);
                }
            }),
            ("apiVersion" | "kind" | "metadata" | "type" | "immutable", _) => {}
            ("data", value) if is_secret => describe(value, true),
            (_, value) if is_secret || is_guarded => describe(value, false),
            (_, _) => {}
        }
    }
    if is_secret || is_guarded {
        mapping(mapping(object, "metadata"), "labels").set(PREVIEW.0, Node::text(PREVIEW.1));
    }
}

/// Replaces every leaf by what it is; the length is that of the value, not of its base64.
fn describe(node: &mut Node, base64: bool) {
    match node {
        Node::Leaf(Leaf { scalar, .. }) => {
            let described = match scalar {
                Scalar::Text(text) => {
                    let decoded = if base64 { text.decode_base64() } else { None };
                    format!("<redacted str, {} bytes>", decoded.as_ref().unwrap_or(text).len())
                }
                Scalar::Null => return,
                Scalar::Bool(_) | Scalar::Int(_) | Scalar::Uint(_) | Scalar::Float(_) | Scalar::Time(_) => {
                    format!("<redacted {}>", scalar.type_name())
                }
            };
            *node = Node::text(described);
        }
        Node::Map(branch) => entries_mut(branch).for_each(|entry| describe(&mut entry.value, base64)),
        Node::List(elements) => {
            for element in elements {
                if let Element::Node(node) = element {
                    describe(node, base64);
                }
            }
        }
    }
}

fn entries_mut(branch: &mut Branch) -> impl Iterator<Item = &mut Entry> {
    branch.items.iter_mut().filter_map(|item| match item {
        Item::Entry(entry) => Some(entry),
        Item::Comment(_) => None,
    })
}

/// The mapping at `key`, made where there is none.
fn mapping<'b>(branch: &'b mut Branch, key: &str) -> &'b mut Branch {
    if !matches!(branch.get(key), Some(Node::Map(_))) {
        branch.set(key, Node::Map(Branch::default()));
    }
    let map = entries_mut(branch).find_map(|entry| match &mut entry.value {
        Node::Map(map) if entry.key == key => Some(map),
        Node::Leaf(_) | Node::Map(_) | Node::List(_) => None,
    });
    map.expect("the mapping was found or set right above")
}

#[cfg(test)]
mod tests;
