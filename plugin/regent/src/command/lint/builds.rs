//! What Flux Kustomizations make of a root, read from their manifests: without a cluster, and before anything is committed.

use std::path::{Path, PathBuf};

use regent_core::Refusal;
use regent_core::bootstrap::Bootstrap;
use regent_core::flux::reach::{self, Obstacle, Reach};
use regent_core::flux::{patches, reached};
use regent_core::lint::{self, Finding};
use regent_core::name::FilePath;
use regent_core::remote::Location;
use regent_core::rules::ConfigLimits;
use regent_sops::{Branch, Document, Format, Limits};
use serde_json::Value;

use crate::cli::SourceArgs;
use crate::cluster::flux::Kustomization;
use crate::config;
use crate::failure::Failure;
use crate::flux::tree::Tree;
use crate::source::dir::repository_top;
use crate::source::tar::UploadLimits;
use crate::source::{BOOTSTRAP, Gathered, git};

/// The repository around a root, and the Kustomizations that may apply it.
pub(super) struct Builds {
    tree: Tree,
    kustomizations: Vec<Named>,
}

/// A Kustomization of a manifest.
pub(super) struct Named {
    name: String,
    file: PathBuf,
    kustomization: Kustomization,
}

impl Builds {
    /// Reads the whole repository and the manifests, and of the repository the root.
    pub(super) fn gather(source: &SourceArgs, files: &[PathBuf]) -> Result<(Self, Gathered), Failure> {
        let mut kustomizations = Vec::new();
        for file in files {
            for mut one in read(file)? {
                // Overlays of several clusters give the same name.
                if kustomizations.iter().any(|other: &Named| other.name == one.name) {
                    one.name = format!("{} of {}", one.name, file.display());
                }
                kustomizations.push(one);
            }
        }
        let bounds = ConfigLimits::default();
        let limits = UploadLimits::of(&bounds);
        let (tree, label, root) = match (&source.repo, &source.revision) {
            (Some(repo), Some(revision)) => {
                let place = git::Place::typed(repo, &source.git)?;
                let held = git::Held::open(&place, revision, git::History::None)?;
                let label = format!("{}@{revision}", place.location);
                let root = git::normalised(source.path.as_deref().unwrap_or("."))?;
                (Tree::of_commit(&held, &label, limits, None)?, label, root)
            }
            (None, _) => {
                let dir = source.dir.as_deref().unwrap_or(Path::new("."));
                let real = dir.canonicalize().map_err(|error| Failure::io("read", dir, &error))?;
                let top = repository_top(&real).ok_or_else(|| Failure::World {
                    what: "follow the Kustomizations of",
                    name: dir.display().to_string(),
                    reason: "it is in no Git repository, and their paths are seen from the top of one".to_owned(),
                })?;
                let inside = real.strip_prefix(&top).ok().and_then(Path::to_str).ok_or(Failure::Bug)?;
                let root = if inside.is_empty() { "." } else { inside }.to_owned();
                let label = Location::Folder(top.clone()).to_string();
                (Tree::of_folder(&top, &label, limits)?, label, root)
            }
            (Some(_), None) => {
                return Err(Failure::Usage("`--repo` expects `--revision` too: a branch, tag or commit".to_owned()));
            }
        };
        let bootstrap = if root == "." { BOOTSTRAP.to_owned() } else { format!("{root}/{BOOTSTRAP}") };
        let bootstrap = FilePath::parse(&bootstrap).map_err(|bad| Failure::Usage(bad.to_string()))?;
        let gathered = tree.gathered(&bootstrap, bounds.document, &label)?;
        Ok((Self { tree, kustomizations }, gathered))
    }

    /// Has them decide what becomes of the root, as far as they are followed, and tells where they are not.
    pub(super) fn follow(
        &self,
        gathered: &mut Gathered,
        bootstrap: &Bootstrap,
        limits: &Limits,
    ) -> Result<Vec<Finding>, Failure> {
        let whole = self.tree.whole(limits.document);
        let root = match bootstrap_folder(gathered) {
            "." => None,
            root => Some(FilePath::parse(root).map_err(|bad| Failure::Usage(bad.to_string()))?),
        };
        let root = root.as_ref();
        let mut findings = Vec::new();
        let mut reaches: Vec<(&String, Reach)> = Vec::new();
        for Named { name, kustomization, .. } in &self.kustomizations {
            let mut overrides = kustomization.overrides.clone();
            // The one that lets go changes nothing of what a document is.
            let without = patches::without_letting_go(std::mem::take(&mut overrides.patches), &bootstrap.name);
            let reason = match without {
                Ok(others) => {
                    overrides.patches = others;
                    None
                }
                Err(Refusal::Obstacle(obstacle)) => Some(reached::Reason::Obstacle(obstacle)),
                Err(refusal) => return Err(refusal.into()),
            };
            let reach = reach::reach(&whole, &kustomization.path, &overrides, limits);
            if !touches(&reach, root) {
                let refused = |it: &Obstacle| reached::Reason::Obstacle(Box::new(it.clone()));
                let refused = |it| reached::Refused { kustomization: Some(name.clone()), reason: refused(it) };
                let refused: Vec<_> = reach.obstacles.iter().map(refused).collect();
                findings.extend((!refused.is_empty()).then(|| lint::not_followed(name, &refused)));
                continue;
            }
            let refused = reason.map(|reason| reached::Refused { kustomization: Some(name.clone()), reason });
            findings.extend(lint::of_builds(refused.as_slice(), root));
            reaches.push((name, reach));
        }
        if reaches.is_empty() {
            return Err(self.none_applies(gathered));
        }
        let place = reached::Place { repository: &whole, root, limits };
        let all = reaches.iter().map(|(name, reach)| (*name, reach));
        let (built, refused) = reached::look_at_all(all, place, &gathered.files, bootstrap);
        findings.extend(lint::of_builds(&refused, root));
        gathered.files = std::mem::take(&mut gathered.files).built_as(built);
        Ok(findings)
    }

    /// The file of a Kustomization.
    pub(super) fn file_of(&self, name: &str) -> Option<&Path> {
        self.kustomizations.iter().find(|named| named.name == name).map(|named| named.file.as_path())
    }

    fn none_applies(&self, gathered: &Gathered) -> Failure {
        let told = |named: &Named| format!("{} applies `{}`", named.name, named.kustomization.path);
        let told: Vec<String> = self.kustomizations.iter().map(told).collect();
        Failure::World {
            what: "follow the Kustomizations of",
            name: gathered.label.clone(),
            reason: format!("none of them reaches a file of it: {}", told.join(", ")),
        }
    }
}

fn bootstrap_folder(gathered: &Gathered) -> &str {
    gathered.root.as_deref().unwrap_or(".")
}

/// Whether a build reads a file of the root.
fn touches(reach: &Reach, root: Option<&FilePath>) -> bool {
    let is_inside = |file: &FilePath| root.is_none_or(|root| file.as_str().starts_with(&format!("{root}/")));
    reach.files.keys().any(is_inside)
}

/// The Kustomizations of a manifest.
fn read(file: &Path) -> Result<Vec<Named>, Failure> {
    let refused =
        |reason: String| Failure::World { what: "read Kustomizations from", name: file.display().to_string(), reason };
    let limits = Limits::default();
    let bytes = config::read_bounded(file, limits.document as u64)?;
    let format = match file.extension().and_then(|extension| extension.to_str()) {
        Some("json") => Format::Json,
        Some(_) | None => Format::Yaml,
    };
    let tree = match Document::parse(&bytes, format, &limits) {
        Ok(Document::Clear(tree)) => tree,
        Ok(Document::Sealed(_)) => return Err(refused("it is encrypted".to_owned())),
        Err(error) => return Err(refused(error.to_string())),
    };
    let mut found = Vec::new();
    let objects = tree.documents.iter().map(|document| value(document).map_err(&refused));
    for object in objects.collect::<Result<Vec<_>, _>>()?.into_iter().flat_map(listed) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let is_one = object["kind"] == "Kustomization" && text(&object["apiVersion"]).starts_with(GROUP);
        // One that takes its kind from elsewhere may be one.
        let may_be_one = is_one || !object["<<"].is_null();
        if !may_be_one {
            continue;
        }
        if merges(&object) {
            return Err(refused("an object has a merge key (`<<`), which is not followed: write it out".to_owned()));
        }
        let (name, namespace) = (text(&object["metadata"]["name"]), text(&object["metadata"]["namespace"]));
        let name = if namespace.is_empty() { name } else { format!("{namespace}/{name}") };
        found.push(Named { name, file: file.to_owned(), kustomization: Kustomization::of(&object) });
    }
    if found.is_empty() {
        return Err(refused(format!("it holds none (`apiVersion: {GROUP}v1`, `kind: Kustomization`)")));
    }
    Ok(found)
}

const GROUP: &str = "kustomize.toolkit.fluxcd.io/";

#[expect(clippy::disallowed_methods, reason = "a manifest in clear text, which holds nothing of a document")]
fn value(document: &Branch) -> Result<Value, String> {
    let json = document.to_json_line().map_err(|error| error.to_string())?;
    serde_json::from_slice(json.expose()).map_err(|error| error.to_string())
}

/// The objects of a list as `kubectl get` prints it, or the object itself.
fn listed(object: Value) -> Vec<Value> {
    match object["items"].as_array() {
        Some(items) if object["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => items.clone(),
        Some(_) | None => vec![object],
    }
}

/// Whether any mapping in it takes keys from another one.
fn merges(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, value)| key == "<<" || merges(value)),
        Value::Array(items) => items.iter().any(merges),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
