//! The cases of `tests/render/`, read as a source reads a root, and who may be asked about them.

use regent_core::Refusal;
use regent_core::authority::{self, Assumption, Place, Ruling};
use regent_core::bootstrap::Bootstrap;
use regent_core::emit::{Encoding, Manifest};
use regent_core::evidence::{
    AuthorityWitness, DocumentList, Evidence, Holder, Holds, ListedClass, ListedDocument, Mirror, Reading,
    WitnessedVault,
};
use regent_core::files::{Content, Files, wanted};
use regent_core::name::{FilePath, HandoverId, SecretName};
use regent_core::render::{self, Door, Request};
use regent_sops::{Keyring, Limits};
use serde_json::Value;
use std::path::{Path, PathBuf};

pub(crate) const CANARY: &str = "canary-";

pub(crate) struct Case {
    pub(crate) folder: PathBuf,
    pub(crate) files: Files,
    pub(crate) bootstrap: Bootstrap,
    pub(crate) namespaces: Vec<String>,
    /// The folder of the root that is asked for.
    pub(crate) asked_for: Option<FilePath>,
}

/// Who is asked.
#[derive(Clone, Copy)]
pub(crate) enum Asked {
    Git,
    Nobody,
    Vault(Door),
    Settled(Door),
    Unreadable,
}

pub(crate) const ALL: [Asked; 7] = [
    Asked::Git,
    Asked::Nobody,
    Asked::Vault(Door::ArgoCd),
    Asked::Vault(Door::Flux),
    Asked::Settled(Door::ArgoCd),
    Asked::Settled(Door::Flux),
    Asked::Unreadable,
];

impl Asked {
    pub(crate) fn door(self) -> Door {
        match self {
            Self::Vault(door) | Self::Settled(door) => door,
            Self::Git | Self::Nobody | Self::Unreadable => Door::ArgoCd,
        }
    }
}

impl Case {
    pub(crate) fn name(&self) -> String {
        self.folder.file_name().unwrap().to_string_lossy().into_owned()
    }

    pub(crate) fn render(&self, asked: Asked) -> Result<Vec<Manifest>, Refusal> {
        self.render_with(asked, &keys())
    }

    pub(crate) fn render_with(&self, asked: Asked, keys: &Keyring) -> Result<Vec<Manifest>, Refusal> {
        self.render_by(&self.ruling(asked), asked.door(), keys)
    }

    pub(crate) fn ruling(&self, asked: Asked) -> Ruling {
        let list = || DocumentList::Readable(self.handed_over());
        match asked {
            Asked::Git => Ruling::assume(Assumption::Git, Some(&self.bootstrap), &Place::default(), None).unwrap(),
            Asked::Nobody => Ruling::unasked(),
            Asked::Vault(_) => self.vault(list()),
            Asked::Settled(_) => self.vault(list()).settled_by(&settled(Reading::Present(self.witness()))),
            // Without a list nothing is known of what was handed over, settled or not.
            Asked::Unreadable => {
                let ruling = self.vault(DocumentList::Unreadable);
                ruling.settled_by(&settled(Reading::Present(self.witness())))
            }
        }
    }

    pub(crate) fn render_by(&self, ruling: &Ruling, door: Door, keys: &Keyring) -> Result<Vec<Manifest>, Refusal> {
        render::render(&Request {
            files: &self.files,
            folder: self.asked_for.as_ref(),
            bootstrap: Some(&self.bootstrap),
            ruling,
            keys: keys.into(),
            namespaces: &self.namespaces,
            limits: &Limits::default(),
            door,
        })
    }

    pub(crate) fn vault(&self, documents: DocumentList) -> Ruling {
        let holder = Holder::Vault { epoch: self.bootstrap.epoch, handover: handover(), mirror: Mirror::Complete };
        authority::rule(&self.bootstrap, &Place::default(), &holder, documents).unwrap()
    }

    /// The Authority, with the place that `regent.yaml` names.
    pub(crate) fn witness(&self) -> AuthorityWitness {
        let vault = self.bootstrap.vault.as_ref().map(|vault| WitnessedVault {
            address: vault.address.clone(),
            namespace: vault.namespace.clone(),
            mount: vault.mount.clone(),
            prefix: vault.prefix.clone(),
        });
        AuthorityWitness {
            name: self.bootstrap.name.clone(),
            holds: Holds::Vault(handover()),
            epoch: self.bootstrap.epoch,
            supersedes: None,
            root: None,
            vault,
            clusters: None,
            no_vault_yet: false,
            record: None,
        }
    }

    pub(crate) fn handed_over(&self) -> Vec<ListedDocument> {
        let Ok(text) = std::fs::read_to_string(self.folder.join("handed-over.yaml")) else { return Vec::new() };
        let entries: Vec<Value> = yaml_serde::from_str(&text).unwrap();
        let entry = |value: &Value| {
            let field = |name: &str| value[name].as_str().unwrap().to_owned();
            ListedDocument {
                path: FilePath::parse(&field("path")).unwrap(),
                name: SecretName::parse(&field("name")).unwrap(),
                kind: field("kind"),
                class: if field("class") == "permanent" { ListedClass::Permanent } else { ListedClass::Handover },
                blob: "0".repeat(40),
            }
        };
        entries.iter().map(entry).collect()
    }
}

pub(crate) fn handover() -> HandoverId {
    HandoverId::parse("6b4e0a0e-7d0a-4b4e-9d3b-0d5a3f6f4a11").unwrap()
}

pub(crate) fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/render");
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names.into_iter().filter(|path| path.is_dir()).map(|path| load(&path)).collect()
}

pub(crate) fn case(name: &str) -> Case {
    load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/render").join(name))
}

pub(crate) fn load(folder: &Path) -> Case {
    let root = folder.join("root");
    let mut files = Files::default();
    for path in file_paths(&root) {
        gather(&root, &path, &mut files);
    }
    let own = FilePath::parse(Bootstrap::FILE_NAME).unwrap();
    let Some(Content::Bytes(bytes)) = files.get(&own) else { panic!("{} has no regent.yaml", folder.display()) };
    let bootstrap = Bootstrap::parse(&own, bytes).unwrap();
    let namespaces = std::fs::read_to_string(folder.join("namespaces")).unwrap_or_else(|_| "*".to_owned());
    let namespaces = namespaces.lines().map(str::to_owned).collect();
    let asked_for = std::fs::read_to_string(folder.join("folder")).ok();
    let asked_for = asked_for.map(|path| FilePath::parse(path.trim_end()).unwrap());
    Case { folder: folder.to_owned(), files, bootstrap, namespaces, asked_for }
}

/// What a source does: a file that is not wanted is not read.
pub(crate) fn gather(root: &Path, path: &Path, files: &mut Files) {
    let relative = path.strip_prefix(root).unwrap().to_str().unwrap();
    let is_wanted = wanted(path.file_name().unwrap().to_str().unwrap());
    let content = if is_wanted { Content::Bytes(std::fs::read(path).unwrap()) } else { Content::NotRead };
    insert(files, relative, content);
}

pub(crate) fn insert(files: &mut Files, path: &str, content: Content) {
    assert!(files.insert(FilePath::parse(path).unwrap(), content));
}

pub(crate) fn file_paths(folder: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { paths.extend(file_paths(&path)) } else { paths.push(path) }
    }
    paths.sort();
    paths
}

pub(crate) fn keys() -> Keyring {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/render/key.txt");
    let mut keyring = Keyring::default();
    keyring.load("key.txt", &std::fs::read(path).unwrap(), &[]).unwrap();
    keyring
}

pub(crate) fn settled(authority: Reading<AuthorityWitness>) -> Evidence {
    Evidence { authority, settled: Reading::Present(()), ..Evidence::none() }
}

pub(crate) fn json_lines(manifests: Vec<Manifest>) -> Vec<Value> {
    let bytes = manifests.into_iter().map(|manifest| manifest.into_bytes(Encoding::Json).unwrap());
    bytes.map(|bytes| serde_json::from_slice(bytes.expose()).unwrap()).collect()
}

pub(crate) fn holds_canary(text: &str) -> bool {
    // `canary-` in base64 begins so.
    text.contains(CANARY) || text.contains("Y2FuYXJ5L")
}
