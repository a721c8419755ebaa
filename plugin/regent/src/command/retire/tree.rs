//! Git's side: the root at one commit, and what else of that commit Applications render.

use std::collections::BTreeSet;

use regent_core::bootstrap::Bootstrap;
use regent_core::emit::Identity;
use regent_core::evidence::ListedDocument;
use regent_core::files::{Content, Files};
use regent_core::name::{FilePath, SecretName};
use regent_core::render::Class;
use regent_core::rules::RegentConfig;
use regent_core::survey::{Sealing, SurveyedFile, survey};
use regent_sops::{Keyring, Limits};

use super::super::root::built;
use super::super::status::secret_name;
use crate::cli::CommitArgs;
use crate::failure::Failure;
use crate::flux::tree::Tree as FluxTree;
use crate::source::tar::UploadLimits;
use crate::source::{BOOTSTRAP, Bounds, Gathered, bootstrap_of, git};
use crate::witnesses::Store;

/// A root at one commit. Nothing of it is opened.
pub(super) struct Tree {
    held: git::Held,
    name: String,
    bounds: Bounds,
    upload: UploadLimits,
    pub(super) limits: Limits,
    pub(super) gathered: Gathered,
    pub(super) bootstrap: Bootstrap,
    /// Why the Kustomizations that deliver it were not followed, where there are some.
    pub(super) not_followed: Option<String>,
}

/// What lies in a folder of the commit.
pub(super) struct Folder {
    /// Encrypted files, by their paths in the repository.
    pub(super) sealed: Vec<SealedFile>,
    /// Objects that have an operator write a Secret, as `ExternalSecret namespace/name`.
    pub(super) delivering: BTreeSet<String>,
    /// Whether Argo CD takes it for a kustomization.
    pub(super) is_kustomized: bool,
}

/// An encrypted file.
pub(super) struct SealedFile {
    pub(super) path: String,
    blob: String,
    names: Vec<SecretName>,
    /// Whether it holds documents in the clear, too.
    pub(super) is_mixed: bool,
}

impl SealedFile {
    #[cfg(test)]
    pub(super) fn new(path: &str, is_mixed: bool) -> Self {
        Self { path: path.to_owned(), blob: String::new(), names: Vec::new(), is_mixed }
    }

    /// Whether it is one of these documents' files, wherever it lies now. By its name only one of `named` is.
    pub(super) fn is_of(&self, listed: &[ListedDocument], named: &[ListedDocument], root: &str) -> bool {
        let in_root = root == "." || self.path.starts_with(&format!("{root}/"));
        in_root || listed.iter().any(|it| it.blob == self.blob) || named.iter().any(|it| self.names.contains(&it.name))
    }
}

impl Tree {
    pub(super) fn at(args: &CommitArgs, config: Option<&RegentConfig>, store: &Store) -> Result<Self, Failure> {
        let limits = config.map(|config| config.limits).unwrap_or_default();
        let (bounds, upload) = (Bounds::of(&limits), UploadLimits::of(&limits));
        let place = git::Place::typed(&args.repo, &args.git)?;
        let held = git::Held::open(&place, &args.revision, git::History::None)?;
        let name = format!("{}@{}", place.location, args.revision);
        let mut gathered = git::gather_from(&held, &name, &args.path, bounds)?;
        // One that is gone already leaves the folder to speak for itself.
        let not_followed = config.and_then(|config| built(&mut gathered, config, store, &held).err());
        let not_followed = not_followed.map(|failure| failure.to_string());
        let bootstrap = bootstrap_of(&gathered.files)?.ok_or_else(|| Failure::World {
            what: "read",
            name: format!("{}/{BOOTSTRAP}", gathered.label),
            reason: "it does not exist".to_owned(),
        })?;
        let limits = Limits { document: limits.document, ..Limits::default() };
        Ok(Self { held, name, bounds, upload, limits, gathered, bootstrap, not_followed })
    }

    /// The whole repository at the commit, as Flux has it.
    pub(super) fn repository(&self) -> Result<Files, Failure> {
        let tree = FluxTree::of_commit(&self.held, &self.name, self.upload, None)?;
        Ok(tree.whole(self.limits.document))
    }

    /// The full id of the commit.
    pub(super) fn commit(&self) -> Result<String, Failure> {
        Ok(self.held.commit()?.id().to_string())
    }

    /// The path in the repository of a file of the root.
    pub(super) fn path_of(&self, file: &str) -> String {
        below(self.gathered.root.as_deref().unwrap_or("."), file)
    }

    /// A path of the repository as the root has it; `None` outside.
    pub(super) fn inside(&self, file: &FilePath) -> Option<FilePath> {
        match self.gathered.root.as_deref().filter(|root| *root != ".") {
            Some(root) => FilePath::parse(file.as_str().strip_prefix(root)?.strip_prefix('/')?).ok(),
            None => Some(file.clone()),
        }
    }

    /// Manifests of the root that regent does not render: excluded by `regent.yaml`, or hidden. Argo CD would.
    pub(super) fn unrendered(&self) -> Vec<String> {
        let paths = self.gathered.files.iter().map(|(path, _)| path);
        let is_manifest = |path: &str| [".yaml", ".yml", ".json"].iter().any(|end| path.ends_with(end));
        let is_hidden = |path: &str| path.split('/').any(|part| part.starts_with('.'));
        let is_left_out = |path: &&FilePath| {
            is_manifest(path.as_str()) && (self.bootstrap.excluded(path) || is_hidden(path.as_str()))
        };
        paths.filter(is_left_out).map(|path| path.as_str().to_owned()).collect()
    }

    /// What lies in a folder; `None` where the commit has no such folder.
    ///
    /// # Errors
    /// What regent does not render, in words.
    pub(super) fn folder(&self, path: &str) -> Result<Option<Folder>, String> {
        let path = if path.is_empty() { "." } else { path };
        let told = |failure: Failure| failure.to_string();
        if git::folder_id(&self.held, path).map_err(told)?.is_none() {
            return Ok(None);
        }
        let read = git::gather_from(&self.held, &self.name, path, self.bounds).map_err(told)?;
        let is_root = read.root == self.gathered.root;
        // A build may say what becomes of the root's files.
        let gathered = if is_root { &self.gathered } else { &read };
        let folder = gathered.root.clone().unwrap_or_else(|| ".".to_owned());
        let bootstrap = is_root.then_some(&self.bootstrap);
        let (files, problems) = survey(&gathered.files, bootstrap, &Keyring::default(), &self.limits);
        if let Some(problem) = problems.into_iter().next() {
            return Err(problem.to_string());
        }
        let sealed = files.iter().filter(|file| !matches!(file.sealing, Sealing::Clear)).map(|file| {
            let bytes = match gathered.files.get(&file.file) {
                Some(Content::Bytes(bytes)) => bytes.as_slice(),
                Some(Content::TooLarge { .. } | Content::BadLink | Content::Special | Content::NotRead) | None => &[],
            };
            SealedFile {
                path: below(&folder, file.file.as_str()),
                blob: git::blob_id(bytes),
                names: identities(file).filter_map(secret_name).collect(),
                is_mixed: is_mixed(file),
            }
        });
        let named = |identity: &Identity| {
            let namespace = identity.namespace.as_deref().unwrap_or_default();
            matches!(identity.kind.as_str(), "ExternalSecret" | "VaultStaticSecret")
                .then(|| format!("{} {namespace}/{}", identity.kind, identity.name))
        };
        let clear = files.iter().filter(|file| matches!(file.sealing, Sealing::Clear));
        let is_kustomized = ["kustomization.yaml", "kustomization.yml", "Kustomization"]
            .into_iter()
            .any(|name| gathered.files.iter().any(|(path, _)| path.as_str() == name));
        Ok(Some(Folder {
            sealed: sealed.collect(),
            delivering: clear.flat_map(identities).filter_map(named).collect(),
            is_kustomized,
        }))
    }
}

fn identities(file: &SurveyedFile) -> impl Iterator<Item = &Identity> {
    file.documents.as_ref().ok().into_iter().flatten().filter_map(|document| document.identity.as_ref())
}

fn is_mixed(file: &SurveyedFile) -> bool {
    let documents = file.documents.as_ref().ok().into_iter().flatten();
    documents.into_iter().any(|document| matches!(document.class, Ok((Class::Plain, _))))
}

/// A path in a folder of the repository.
pub(super) fn below(folder: &str, file: &str) -> String {
    if folder == "." { file.to_owned() } else { format!("{folder}/{file}") }
}
