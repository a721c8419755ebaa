//! One artifact: gathered, decided by core, packed.
//!
//! ```text
//! gather   tree, regent.yaml, witnesses                  tree.rs, witnesses.rs
//! decide   P0..P6, what becomes of each file             regent-core
//! act      witnesses again, then the packed tree         pack.rs
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use regent_core::Refusal;
use regent_core::authority::{self, Mode, Place, Recheck};
use regent_core::emit::{Encoding, Manifest};
use regent_core::files::{Content, Files};
use regent_core::flux::artifact::{self, Artifact, Change, Known, Phase};
use regent_core::flux::bound::Bound;
use regent_core::flux::{reach, reached};
use regent_core::name::{Epoch, FilePath};
use regent_core::rules::FluxApplication;
use regent_sops::{Branch, DataKeys, Keyring, Limits, Opener};
use tokio::runtime::Handle;

use super::pack::{self, Changes, Packed};
use super::tree::Tree;
use crate::cluster::flux::Kustomization;
use crate::failure::Failure;
use crate::reload::Loaded;
use crate::source::{bootstrap_of, other_bootstraps};
use crate::witnesses::{Observed, Witnesses};

/// What an artifact is made of, and for whom.
pub(crate) struct Build<'a> {
    pub(crate) loaded: &'a Loaded,
    pub(crate) application: &'a FluxApplication,
    pub(crate) kustomization: &'a Kustomization,
    pub(crate) tree: &'a Tree,
    /// What a person calls the tree.
    pub(crate) label: &'a str,
    pub(crate) witnesses: &'a Witnesses,
    /// What they said when the builder began to look.
    pub(crate) observed: &'a Observed,
    pub(crate) data_keys: &'a DataKeys,
    /// Of the artifact before, or of none.
    pub(crate) memory: &'a Memory,
}

/// What an artifact was made of, so that the next of the same Kustomization makes only what changed. It holds what was published
/// and nothing else.
#[derive(Default)]
pub(crate) struct Memory {
    /// Of which configuration, and so with which keys.
    generation: u64,
    known: Known,
    /// By paths relative to the root.
    written: BTreeMap<FilePath, Bytes>,
}

/// A packed artifact, and what it holds.
pub(crate) struct Built {
    pub(crate) packed: Packed,
    pub(crate) phase: Phase,
    /// In which epoch.
    pub(crate) epoch: Epoch,
    /// How many files the tree has.
    pub(crate) files: usize,
    /// Those of them that are others than in the repository, or none.
    pub(crate) changed: usize,
    /// For the next.
    pub(crate) memory: Memory,
}

/// What is to be packed.
struct Decided {
    changes: Changes,
    phase: Phase,
    epoch: Epoch,
    memory: Memory,
}

impl Build<'_> {
    /// Builds it, on a thread that may wait. If Vault takes over meanwhile, it holds the stubs.
    ///
    /// # Errors
    /// Whatever stands in the way. Nothing is built then, and what was published stays.
    pub(crate) fn run(&self) -> Result<Built, Failure> {
        let decided = self.decided(self.observed);
        // Packed while the witnesses are asked once more.
        let runtime = Handle::current();
        let (built, now) = std::thread::scope(|threads| {
            let asked = threads.spawn(|| runtime.block_on(self.look_again()));
            (decided.and_then(|decided| self.packed(decided)), asked.join())
        });
        let now = now.map_err(|_panic| Failure::Bug)?;
        let recheck = authority::recheck(&self.observed.holder, &now.holder);
        if recheck != Ok(Recheck::Same) {
            // What was unwrapped meanwhile, for a holder that is none any more, is not kept.
            self.data_keys.forget();
        }
        match recheck {
            Ok(Recheck::Same) => built,
            Ok(Recheck::NowStubs) => self.packed(self.decided(&now)?),
            // What was wrong before is still the reason.
            Err(moved) => built.and_then(|_built| Err(Refusal::from(moved).into())),
        }
    }

    fn look(&self, bootstrap: Epoch) -> Observed {
        let reading = self.witnesses.read(self.loaded.store(), &self.application.authority, Some(bootstrap));
        Handle::current().block_on(reading)
    }

    async fn look_again(&self) -> Observed {
        self.witnesses.read_again(self.loaded.store(), &self.application.authority, self.observed).await
    }

    fn packed(&self, decided: Decided) -> Result<Built, Failure> {
        let Decided { changes, phase, epoch, memory } = decided;
        let packed = pack::pack(self.tree, &changes)?;
        Ok(Built { packed, phase, epoch, files: self.tree.len(), changed: changes.len(), memory })
    }

    fn decided(&self, observed: &Observed) -> Result<Decided, Failure> {
        let authority = &self.application.authority;
        let position = self.loaded.config.rules.iter().position(|rule| rule.authority == *authority);
        // The operator's file is refused where an entry names an authority without a rule.
        let position = position.ok_or(Failure::Bug)?;
        let rule = self.loaded.rule(position);
        let limits = Limits { document: self.loaded.config.limits.document, ..Limits::default() };
        let mut gathered = self.tree.gathered(&rule.bootstrap, limits.document, self.label)?;
        let root = rule.bootstrap.parent();
        let whole = self.tree.whole(limits.document);
        let Kustomization { path, overrides, .. } = self.kustomization;
        let (reach, parsed) = reach::reach_parsed(&whole, path, overrides, &limits);
        let in_tree = reached::Place { repository: &whole, root: root.as_ref(), limits: &limits };
        gathered.files = gathered.files.built_as(reached::listing(&reach, in_tree)?);
        let missing = || Failure::World {
            what: "find",
            name: rule.bootstrap.to_string(),
            reason: format!("it is not in {}", self.label),
        };
        let bootstrap = bootstrap_of(&gathered.files)?.ok_or_else(missing)?;
        // Of a root that was never seen before: only now its epoch is known.
        let again = (!observed.covers(bootstrap.epoch)).then(|| self.look(bootstrap.epoch));
        let Observed { evidence, holder, at: _ } = again.as_ref().unwrap_or(observed);
        let place = Place {
            root: gathered.root.clone(),
            other_bootstraps: other_bootstraps(&gathered),
            admitted_by: Some(rule.authority.clone()),
            recorded_root: evidence.recorded_root(),
        };
        let ruling = authority::rule(&bootstrap, &place, holder, evidence.documents_of(holder));
        let ruling = ruling.map_err(Refusal::from)?.settled_by(evidence);
        let none = Keyring::default();
        let no_wrapping = none.wrapping_keys();
        let (keyring, wrapping) = match ruling.mode() {
            Mode::Values | Mode::Unasked => (self.loaded.keyring(position)?, self.loaded.wrapping_keys(authority)?),
            Mode::Stubs(_) => (&none, &no_wrapping),
        };
        let kustomization = self.application.kustomization.clone();
        let bound = Bound { authority: authority.clone(), epoch: bootstrap.epoch, kustomization };
        let generation = self.loaded.generation;
        let nothing = Known::default();
        let request = artifact::Request {
            files: &gathered.files,
            bootstrap: &bootstrap,
            ruling: &ruling,
            keys: Opener::new(keyring).sharing(self.data_keys),
            wrapping,
            namespaces: &rule.namespaces,
            limits: &limits,
            bound: &bound,
            endpoint: &self.loaded.config.flux.endpoint,
            known: if self.memory.generation == generation { &self.memory.known } else { &nothing },
        };
        let Artifact { phase, changes, known } = artifact::artifact(&request, parsed.inside(root.as_ref()))?;
        let written = self.written(changes)?;
        let memory = match phase {
            Phase::Bootstrap => {
                let kept = written.iter().filter_map(|(path, bytes)| Some((path.clone(), bytes.clone()?)));
                Memory { generation, known, written: kept.collect() }
            }
            Phase::Handover => Memory::default(),
        };
        let changes = self.in_repository(written, root.as_ref(), &gathered.files)?;
        Ok(Decided { changes, phase, epoch: bootstrap.epoch, memory })
    }

    /// What each file becomes.
    fn written(&self, changes: BTreeMap<FilePath, Change>) -> Result<Changes, Failure> {
        let one = |(path, change): (FilePath, Change)| {
            let bytes = match change {
                Change::Remove => None,
                Change::Write(manifests) => Some(documents(manifests)?.into()),
                Change::Same(before) => Some(self.memory.written.get(&before).ok_or(Failure::Bug)?.clone()),
                Change::Kustomization(kustomization) => Some(clear(&kustomization)?.into()),
            };
            Ok((path, bytes))
        };
        changes.into_par_iter().map(one).collect()
    }

    /// The changes by their paths in the repository, and without what is encrypted and was read by nobody: outside the root,
    /// hidden, or of a name that no manifest has.
    fn in_repository(&self, changes: Changes, root: Option<&FilePath>, files: &Files) -> Result<Changes, Failure> {
        let placed = |(path, bytes): (FilePath, Option<Bytes>)| {
            let path = match root {
                Some(root) => FilePath::parse(&format!("{root}/{path}")).map_err(|_| Failure::Bug)?,
                None => path,
            };
            Ok((path, bytes))
        };
        let mut written: Changes = changes.into_iter().map(placed).collect::<Result<_, Failure>>()?;
        let inside = |path: &FilePath| match root {
            Some(root) => FilePath::parse(path.as_str().strip_prefix(root.as_str())?.strip_prefix('/')?).ok(),
            None => Some(path.clone()),
        };
        for (path, file) in self.tree.iter().filter(|(path, _)| !written.contains_key(path)).collect::<Vec<_>>() {
            let content = inside(path).and_then(|inside| files.get(&inside));
            let is_read = match content {
                Some(Content::Bytes(_) | Content::TooLarge { .. } | Content::BadLink | Content::Special) => true,
                Some(Content::NotRead) | None => false,
            };
            if !is_read && artifact::is_encrypted(path, &file.bytes) {
                written.insert(path.clone(), None);
            }
        }
        Ok(written)
    }
}

/// A kustomization, which holds no ciphertext and no value of one.
fn clear(kustomization: &Branch) -> Result<Vec<u8>, Failure> {
    let text = kustomization.to_yaml_document().map_err(|_| Failure::Bug)?;
    #[expect(clippy::disallowed_methods, reason = "what stands in the clear in Git, without a part of it")]
    Ok(text.expose().to_vec())
}

/// A file of YAML documents.
fn documents(manifests: Vec<Manifest>) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    for manifest in manifests {
        #[expect(clippy::disallowed_methods, reason = "the one exit of manifests to Flux")]
        let document = manifest.into_bytes(Encoding::Yaml)?;
        bytes.extend_from_slice(b"---\n");
        #[expect(clippy::disallowed_methods, reason = "the same exit: an artifact owns its bytes")]
        bytes.extend_from_slice(document.expose());
    }
    Ok(bytes)
}
