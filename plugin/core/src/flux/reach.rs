//! What a Flux Kustomization reaches of a repository, and which object each encrypted document becomes.
//!
//! kustomize-controller runs kustomize over an artifact in which regent changes single files. kustomize renames and
//! moves objects on the way, so a document is handed over, released and let go under the name that the build gives
//! it: the outermost `namespace`, all prefixes and suffixes from the inside out, a component's on top of what was
//! gathered when it is listed. This module follows the same files in the same order and computes the names alone.
//!
//! ```text
//! Files, spec.path, Overrides --reach--> Reach   how each file is read, each encrypted document with its place,
//!                                                each secretGenerator, and every obstacle
//!                                        Parsed  its encrypted files, for whoever opens them next
//! ```
//! What regent does not follow and what could touch an encrypted document is an [`Obstacle`]. With one nothing is
//! published or handed over: half of a build is no build. What cannot touch one is none of regent's business.
//!
//! The files are those of the artifact: what the source leaves out (`.sops.yaml`, `.git*`, what `.sourceignore`
//! names) is not among them, and each of the others was read, whatever its name: an input of a generator has any.
//! `regent.yaml` is left out here too, as no artifact may hold it.

use crate::emit::Identity;
use crate::files::Files;
use crate::name::FilePath;
use regent_sops::{Format, Limits, Sealed};
use std::collections::{BTreeMap, HashMap};

mod obstacle;
mod overlay;
mod patch;
mod walk;

pub use obstacle::{Listing, Obstacle, Rule, Site};
pub(crate) use overlay::Generator as Entry;
pub use overlay::Selector;

/// The fields of a Flux Kustomization's `spec` that say what its build reads and how it names it. An empty text is
/// an absent one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `targetNamespace`: in place of the `namespace` of the kustomization at `path`.
    pub target_namespace: Option<String>,
    /// `namePrefix`: in place of its `namePrefix`.
    pub name_prefix: Option<String>,
    /// `nameSuffix`: in place of its `nameSuffix`.
    pub name_suffix: Option<String>,
    /// `components`, seen from `path`: after its own.
    pub components: Vec<String>,
    /// `ignoreMissingComponents`.
    pub ignore_missing_components: bool,
    /// `patches`: after its own.
    pub patches: Vec<InlinePatch>,
    /// Whether `postBuild` replaces variables in what the build made.
    pub substitutes: bool,
    /// `commonMetadata.labels`: put on every object after the build.
    pub common_labels: BTreeMap<String, String>,
    /// `commonMetadata.annotations`, likewise.
    pub common_annotations: BTreeMap<String, String>,
}

/// An entry of `spec.patches`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InlinePatch {
    /// The patch: a strategic merge, or a list of operations.
    pub patch: String,
    /// Which objects it is for; without one it names its object itself.
    pub target: Option<Selector>,
}

/// What a build reaches. Everything is told, also beside obstacles; but it may be acted on only without one.
#[derive(Debug, Default)]
pub struct Reach {
    /// Each file that the build reads, with every way in which it does. A file that is not here is not reached.
    pub files: BTreeMap<FilePath, Vec<Use>>,
    /// Each encrypted document among the resources, in the order of the build.
    pub documents: Vec<Reached>,
    /// Each entry of a `secretGenerator`, also those that read nothing encrypted, in the order of the build.
    pub generators: Vec<Generated>,
    /// Each encrypted patch, in the order of the build.
    pub patches: Vec<Patched>,
    /// Why the tree cannot be handed over, sorted, none twice.
    pub obstacles: Vec<Obstacle>,
}

/// One way in which a build reads a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// A kustomization or component that is followed.
    Kustomization,
    /// Its objects become objects of the build.
    Resource {
        /// What the build makes of their names.
        place: Place,
        /// The path under which kustomize finds it in the artifact: its own, but for a file that is encrypted as a
        /// whole (`db.yaml.age`) in a folder that no kustomization lists. kustomize-controller looks for `*.yaml`
        /// there, so it is published as `db.yaml`.
        published: FilePath,
    },
    /// An input of a `secretGenerator`.
    GeneratorInput {
        /// Its index in [`Reach::generators`].
        generator: usize,
        /// Its index in [`Generated::inputs`].
        input: usize,
    },
    /// A patch.
    Patch {
        /// Its index in [`Reach::patches`]; `None` for one in clear text.
        encrypted: Option<usize>,
    },
    /// Anything else; such a file is in clear text, or an obstacle.
    Other {
        /// The field that names it.
        field: &'static str,
    },
}

/// What the build makes of an object: its name, its namespace, and what becomes of its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The namespace that replaces the object's own, where one does.
    pub namespace: Option<String>,
    /// All prefixes, the outermost first.
    pub prefix: String,
    /// All suffixes, the outermost last. A generator's hash stands behind them.
    pub suffix: String,
    /// Whether variables are replaced in it after the build, values that were decrypted included.
    pub substituted: bool,
}

/// An encrypted document among the resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The file.
    pub file: FilePath,
    /// Where the document starts, 0 where unknown.
    pub line: u32,
    /// What it says of itself; `None` where that is encrypted too. Then [`Place`] tells the rest once it is opened.
    pub own: Option<Identity>,
    /// What the build makes of that.
    pub place: Place,
}

/// An entry of a `secretGenerator`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The kustomization.
    pub file: FilePath,
    /// The line of the entry.
    pub line: u32,
    /// Which entry of that `secretGenerator` it is, from 0.
    pub index: usize,
    /// The name in the entry, before prefixes, suffixes and hash.
    pub name: String,
    /// The namespace in the entry.
    pub namespace: Option<String>,
    /// The type of the Secret.
    pub kind: String,
    /// What the build makes of name and namespace.
    pub place: Place,
    /// Whether the build appends `-` and [`name_hash::of_secret`](super::name_hash::of_secret) of the plaintext.
    pub has_hash: bool,
    /// Whether it has `literals`, which are values in clear text.
    pub has_literals: bool,
    /// `files`, then `envs`, in order.
    pub inputs: Vec<Input>,
}

/// One input of a `secretGenerator`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The file.
    pub file: FilePath,
    /// What becomes of it.
    pub form: InputForm,
    /// Whether it is encrypted; then it is a SOPS file of [`Input::format`].
    pub is_encrypted: bool,
    /// The format as which kustomize-controller decrypts it.
    pub format: Format,
}

/// What a generator makes of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputForm {
    /// `files`: the whole text under one key.
    Files {
        /// The key.
        key: String,
    },
    /// `envs`: a key for each line.
    Envs,
}

/// An encrypted patch and the object that it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patched {
    /// The patch file.
    pub file: FilePath,
    /// The file of the object.
    pub target_file: FilePath,
    /// The object as its file says.
    pub target: Identity,
    /// What the build makes of its name.
    pub place: Place,
}

/// Follows the build of the Kustomization with this `spec.path` (`""`, `./` and `/` are the root).
pub fn reach(files: &Files, path: &str, overrides: &Overrides, limits: &Limits) -> Reach {
    let mut walk = walk::Walk::new(files, overrides, limits, walk::Read::Sealed);
    walk.build(path);
    walk.finish().0
}

/// The same, with the encrypted files as they were parsed on the way.
pub fn reach_parsed(files: &Files, path: &str, overrides: &Overrides, limits: &Limits) -> (Reach, Parsed) {
    let mut walk = walk::Walk::new(files, overrides, limits, walk::Read::Kept);
    walk.build(path);
    walk.finish()
}

/// Files with a `sops` block as a walk parsed them. Parsing is most of what the walk costs, and whoever makes the artifact
/// of the very same files, within the same limits, goes on from here. Nothing in it is decrypted.
#[derive(Default)]
pub struct Parsed {
    files: HashMap<FilePath, (Format, Sealed)>,
}

impl Parsed {
    /// Those of a root, by their paths in it.
    #[must_use]
    pub fn inside(self, root: Option<&FilePath>) -> Self {
        let Some(root) = root else { return self };
        let inside = |path: &FilePath| {
            let path = path.as_str().strip_prefix(root.as_str())?.strip_prefix('/')?;
            FilePath::parse(path).ok()
        };
        let files = self.files.into_iter().filter_map(|(path, parsed)| Some((inside(&path)?, parsed)));
        Self { files: files.collect() }
    }

    /// One of them, which nobody else needs; `None` where it was not read, or not as this format.
    pub(crate) fn take(&mut self, path: &FilePath, format: Format) -> Option<Sealed> {
        self.files.remove(path).filter(|(parsed_as, _)| *parsed_as == format).map(|(_, sealed)| sealed)
    }
}

/// An entry of the `secretGenerator` of a kustomization that was followed, global options merged in.
pub(crate) fn entry(file: &FilePath, bytes: &[u8], index: usize, limits: &Limits) -> Option<Entry> {
    overlay::Overlay::read(file, bytes, limits).ok()?.secret_generators.into_iter().nth(index)
}

/// The names in the `secretGenerator` of a kustomization; `None` where it cannot be read.
pub(crate) fn entry_names(file: &FilePath, bytes: &[u8], limits: &Limits) -> Option<Vec<String>> {
    let overlay = overlay::Overlay::read(file, bytes, limits).ok()?;
    Some(overlay.secret_generators.into_iter().map(|entry| entry.name).collect())
}

impl Place {
    /// The name that an object of this name gets; a generator's hash is not in it.
    pub fn name(&self, own: &str) -> String {
        format!("{}{own}{}", self.prefix, self.suffix)
    }

    /// The name that an object has of which the build makes this one; `None` where it makes it of none.
    pub fn own<'n>(&self, name: &'n str) -> Option<&'n str> {
        name.strip_prefix(self.prefix.as_str())?.strip_suffix(self.suffix.as_str()).filter(|own| !own.is_empty())
    }

    /// The namespace that an object gets: the build's, else its own.
    pub fn namespace<'p>(&'p self, own: Option<&'p str>) -> Option<&'p str> {
        self.namespace.as_deref().or(own)
    }

    /// The identity that an object gets.
    pub fn of(&self, own: &Identity) -> Identity {
        Identity {
            api_version: own.api_version.clone(),
            kind: own.kind.clone(),
            namespace: self.namespace(own.namespace.as_deref()).map(str::to_owned),
            name: self.name(&own.name),
        }
    }
}

impl Reached {
    /// The object that it becomes; `None` where its own name is encrypted.
    pub fn becomes(&self) -> Option<Identity> {
        self.own.as_ref().map(|own| self.place.of(own))
    }
}

impl Generated {
    /// The Secret that it becomes, its hash not in the name.
    pub fn becomes(&self) -> Identity {
        self.place.of(&generated_secret(&self.name, self.namespace.as_deref()))
    }

    /// Whether any input is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.inputs.iter().any(|input| input.is_encrypted)
    }
}

impl Patched {
    /// The object whose values the patch brings.
    pub fn becomes(&self) -> Identity {
        self.place.of(&self.target)
    }
}

/// The Secret that a generator makes.
fn generated_secret(name: &str, namespace: Option<&str>) -> Identity {
    Identity {
        api_version: "v1".to_owned(),
        kind: "Secret".to_owned(),
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
