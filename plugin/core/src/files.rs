//! A folder as plain data: which files are manifests, in which order, and what may not be there.
//!
//! A folder is walked in the byte order of its paths. Where a folder has a `kustomization.yaml`,
//! that file decides about everything below it ([`crate::kustomization`]). Where one folder of the root is
//! asked for, the walk begins there and kustomizations above it are not looked at. Dot-files and
//! dot-folders are never read, `regent.yaml` is never a manifest; every other file is a manifest, is
//! excluded by `secrets.exclude`, or stops the answer: a file that is skipped in silence is an object
//! that a prune deletes.

use crate::bootstrap::Bootstrap;
use crate::flux::generator::Generator;
use crate::flux::reach::Place;
use crate::kustomization;
use crate::name::FilePath;
use crate::object::{Meta, Object, Problem};
use regent_sops::envelope::Envelope;
use regent_sops::{Format, Limits};
use std::collections::{BTreeMap, BTreeSet};

/// A folder's files, gathered by a source. Order is the byte order of paths.
#[derive(Default)]
pub struct Files {
    entries: BTreeMap<FilePath, Content>,
    /// What a build makes of them, where one decides instead of the walk.
    built: Option<Built>,
}

/// What a build makes of a root.
#[derive(Default)]
pub struct Built {
    /// The files that become objects, and what the build makes of the names of each.
    pub files: BTreeMap<FilePath, Place>,
    /// Generators with encrypted inputs, each of which becomes a Secret.
    pub generators: Vec<Generator>,
}

/// What a source found at a path.
pub enum Content {
    /// The bytes (of the target, where it is a link that stays inside).
    Bytes(Vec<u8>),
    /// Larger than the bound; not read.
    TooLarge {
        /// Size in bytes.
        size: u64,
    },
    /// A link that leaves the tree, dangles or loops.
    BadLink,
    /// Neither file, folder nor link (a socket, a device).
    Special,
    /// There, and not needed ([`wanted`] said no).
    NotRead,
}

/// Why a folder is refused before any document is opened. Display names the file and the rule,
/// [`FilesError::way_out`] what a person can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// A file that regent does not render.
    #[error("{file}: {problem}")]
    File {
        /// The file.
        file: FilePath,
        /// The rule.
        problem: FileProblem,
    },
    /// A `kustomization.yaml` that asks for more than regent does.
    #[error("{file}:{line}: {problem}")]
    Kustomization {
        /// The file.
        file: FilePath,
        /// Line of the field, 0 where unknown.
        line: u32,
        /// The rule, naming the field.
        problem: String,
    },
    /// A folder that was asked for and in which nothing lies: a slip in its path, and no reason for an answer
    /// without objects.
    #[error("{folder}: nothing lies in this folder of the root")]
    EmptyFolder {
        /// The folder.
        folder: FilePath,
    },
}

/// Why a file is not rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileProblem {
    /// Not a name that a manifest has.
    #[error("it is no manifest (`*.yaml`, `*.yml`, `*.json`, or one encrypted as a whole)")]
    NotAManifest,
    /// A store of SOPS that holds no manifest.
    #[error("a SOPS file of this format holds no manifest")]
    NotAManifestStore,
    /// Above the bound.
    #[error("it has {size} bytes, more than the {limit} that are read")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The bound in bytes.
        limit: usize,
    },
    /// A link that cannot be followed.
    #[error("it is a link that leaves the tree, dangles or loops")]
    BadLink,
    /// A socket, a device.
    #[error("it is neither a file nor a folder")]
    Special,
    /// A Helm chart.
    #[error("a Helm chart is not rendered")]
    Chart,
    /// Listed by two kustomizations, or twice by one.
    #[error("it is listed twice")]
    ListedTwice,
    /// A source that did not read what it should have.
    #[error("it was not read")]
    NotRead,
    /// What regent does not look at cannot become a part of a Secret.
    #[error("`secrets.exclude` names {file}, which it is made of")]
    ExcludedInput {
        /// The file.
        file: FilePath,
    },
}

/// A manifest file, ready to be parsed.
pub(crate) struct Input<'a> {
    /// Where it is.
    pub(crate) path: &'a FilePath,
    /// What it says.
    pub(crate) bytes: &'a [u8],
    /// How it says it.
    pub(crate) form: Form<'a>,
    /// What becomes of the names in it: the `namespace` of the kustomization that lists it, or all that a build does.
    pub(crate) place: Place,
}

/// How a manifest file is written.
#[derive(Clone, Copy)]
pub(crate) enum Form<'a> {
    /// YAML or JSON, with or without a `sops` block.
    Manifest(Format),
    /// Encrypted as a whole; the inner name decides YAML or JSON.
    Whole(Envelope, &'a str),
    /// No file: what a generator makes of encrypted inputs.
    Generated(&'a Generator),
}

impl Input<'_> {
    /// Name and place of an object of it; `Ok(None)` as in [`Object::meta`]. The name is the one that the build gives, the
    /// namespace still the object's own.
    pub(crate) fn meta(&self, object: &Object) -> Result<Option<Meta>, Problem> {
        let named = |mut meta: Meta| {
            if !kustomization::keeps_its_name(&meta) {
                meta.name = self.place.name(&meta.name);
            }
            meta
        };
        Ok(object.meta()?.map(named))
    }
}

/// Whether a source needs to read a file of this name.
pub fn wanted(file_name: &str) -> bool {
    !file_name.starts_with('.') && matches!(Role::of(file_name), Role::Manifest(_) | Role::Known)
}

impl Files {
    /// The same, of which a build decides what becomes an object (see [`crate::flux::reached::listing`]), and nothing else.
    #[must_use]
    pub fn built_as(self, built: Built) -> Self {
        Self { built: Some(built), ..self }
    }

    /// One file as another revision has it, alone: where a build names it, it names that one the same.
    #[must_use]
    pub fn other_version(&self, path: &FilePath, content: Content) -> Self {
        let built = self.built.as_ref().and_then(|built| {
            let place = built.files.get(path)?.clone();
            Some(Built { files: BTreeMap::from([(path.clone(), place)]), generators: Vec::new() })
        });
        Self { entries: BTreeMap::from([(path.clone(), content)]), built }
    }

    /// Whether a build decides what becomes of them.
    pub(crate) fn is_built(&self) -> bool {
        self.built.is_some()
    }

    /// What a document is made of: the bytes of its file, or of all that its generator reads. `None` where it was not read.
    pub fn document(&self, path: &FilePath) -> Option<&[u8]> {
        let generated = || self.generator(path).map(Generator::bytes);
        match self.entries.get(path) {
            Some(Content::Bytes(bytes)) => Some(bytes),
            Some(Content::TooLarge { .. } | Content::BadLink | Content::Special | Content::NotRead) => None,
            None => generated(),
        }
    }

    /// The generator of a document that no file holds.
    pub fn generator(&self, document: &FilePath) -> Option<&Generator> {
        self.built.iter().flat_map(|built| &built.generators).find(|generator| generator.document() == document)
    }

    /// What a build makes of the names in a document's file; `None` where no build decides.
    pub(crate) fn place(&self, document: &FilePath) -> Option<&Place> {
        let of_file = self.built.as_ref().and_then(|built| built.files.get(document));
        of_file.or_else(|| self.generator(document).map(Generator::place))
    }

    /// Adds a file. `false`, and nothing changes, where there is one of this name already: a damaged Git tree
    /// can name one twice, and neither may vanish.
    #[must_use]
    pub fn insert(&mut self, path: FilePath, content: Content) -> bool {
        match self.entries.entry(path) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(content);
                true
            }
            std::collections::btree_map::Entry::Occupied(_) => false,
        }
    }

    /// All files in order.
    pub fn iter(&self) -> impl Iterator<Item = (&FilePath, &Content)> {
        self.entries.iter()
    }

    /// One file.
    pub fn get(&self, path: &FilePath) -> Option<&Content> {
        self.entries.get(path)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl FilesError {
    /// What a person can do about it, for a hint.
    pub fn way_out(&self) -> String {
        match self {
            Self::File { file, problem } => match problem {
                FileProblem::NotAManifest | FileProblem::Special | FileProblem::BadLink | FileProblem::NotRead => {
                    format!("remove it, or list it in regent.yaml: `secrets: {{ exclude: [\"{file}\"] }}`")
                }
                FileProblem::NotAManifestStore => format!(
                    "read it with `regent open`, or list it in regent.yaml: `secrets: {{ exclude: [\"{file}\"] }}`"
                ),
                FileProblem::TooLarge { .. } => {
                    format!("split it, or list it in regent.yaml: `secrets: {{ exclude: [\"{file}\"] }}`")
                }
                FileProblem::Chart => "render the chart with `helm template` and commit its manifests, or list its \
                                       folder in `secrets.exclude`"
                    .to_owned(),
                FileProblem::ListedTwice => "list it once".to_owned(),
                FileProblem::ExcludedInput { file } => format!("take {file} out of `secrets.exclude`"),
            },
            Self::Kustomization { .. } => "keep `resources` and `namespace` only and commit what `kustomize build` \
                                           makes of the rest, or list the folder in `secrets.exclude`"
                .to_owned(),
            Self::EmptyFolder { .. } => {
                "correct the Application's `path`, or the commit; remove the Application where nothing is meant"
                    .to_owned()
            }
        }
    }
}

/// The root's manifests in order, and everything that is wrong with it, in order. With a `folder`, those
/// that lie in it or that a kustomization at it or below it reaches. Files that are hidden do not make
/// the folder one in which something lies, because nobody reads them. Without a `regent.yaml` there is no place for `exclude`, and nothing that a cluster would apply
/// is written; so documentation (and nothing else) is passed over.
pub(crate) fn inputs<'a>(
    files: &'a Files,
    folder: Option<&FilePath>,
    bootstrap: Option<&Bootstrap>,
    limits: &Limits,
) -> (Vec<Input<'a>>, Vec<FilesError>) {
    let mut walk = Walk {
        files,
        limits,
        excluded: BTreeSet::new(),
        paths: files.entries.keys().collect(),
        taken: BTreeSet::new(),
        followed: BTreeSet::new(),
        inputs: Vec::new(),
        errors: Vec::new(),
    };
    if let Some(bootstrap) = bootstrap {
        walk.excluded = files.entries.keys().filter(|path| bootstrap.excluded(path)).collect();
    }
    if let (Some(built), None) = (&files.built, folder) {
        for (path, place) in &built.files {
            // One that is listed and not there was refused when the build was followed.
            if let Some((path, _)) = files.entries.get_key_value(path) {
                walk.file(path, place.clone());
            }
        }
        for generator in &built.generators {
            walk.generated(generator, bootstrap);
        }
        return (walk.inputs, walk.errors);
    }
    let asked: Vec<&FilePath> = walk.below(folder.map_or("", FilePath::as_str)).collect();
    if let Some(folder) = folder.filter(|_| asked.iter().all(|path| is_hidden(path))) {
        return (Vec::new(), vec![FilesError::EmptyFolder { folder: folder.clone() }]);
    }
    let governed = walk.kustomized_folders(&asked);
    let mut entered = BTreeSet::new();
    for path in asked {
        if is_hidden(path) || walk.excluded.contains(path) {
            continue;
        }
        match governing(&governed, path) {
            Some(folder) => {
                if entered.insert(folder) {
                    walk.kustomization(folder, None, &mut Vec::new());
                }
            }
            None if bootstrap.is_none() && is_documentation(path.file_name()) => {}
            None => walk.file(path, Place::default()),
        }
    }
    (walk.inputs, walk.errors)
}

/// Whether a kustomization of the root lists this file by its name: one that is not excluded lies in its folder or above.
pub(crate) fn is_listed_by_name(files: &Files, bootstrap: &Bootstrap, path: &FilePath) -> bool {
    let mut folder = path.parent();
    loop {
        let in_folder = folder.as_ref().map_or("", FilePath::as_str);
        let counts = |path: &FilePath| files.get(path).is_some() && !bootstrap.excluded(path);
        let has = |name: &&str| FilePath::parse(&joined(in_folder, name)).is_ok_and(|path| counts(&path));
        if kustomization::FILE_NAMES.iter().any(has) {
            return true;
        }
        match folder {
            Some(below) => folder = below.parent(),
            None => return false,
        }
    }
}

/// Whether a file of this name is a manifest as it stands: not encrypted as a whole, and read for nothing else.
pub(crate) fn is_manifest(file_name: &str) -> bool {
    matches!(Role::of(file_name), Role::Manifest(Form::Manifest(_)))
}

/// What a file is, by its name.
enum Role<'n> {
    /// A manifest.
    Manifest(Form<'n>),
    /// Read for itself: `regent.yaml`, `kustomization.yaml`, `Chart.yaml`.
    Known,
    /// SOPS writes such files; no manifest is in them.
    OtherStore,
    /// Anything else.
    Other,
}

impl<'n> Role<'n> {
    fn of(name: &'n str) -> Self {
        if name == Bootstrap::FILE_NAME || name == CHART || kustomization::FILE_NAMES.contains(&name) {
            return Self::Known;
        }
        if let Some((envelope, inner)) = Envelope::of_name(name) {
            return Self::Manifest(Form::Whole(envelope, inner));
        }
        match Format::of_name(name) {
            format @ (Format::Yaml | Format::Json) => Self::Manifest(Form::Manifest(format)),
            Format::Dotenv | Format::Ini => Self::OtherStore,
            Format::Binary => Self::Other,
        }
    }
}

const CHART: &str = "Chart.yaml";

/// More kustomizations inside each other than any person writes; our own recursion stays shallow.
const MAX_KUSTOMIZATIONS_DEEP: usize = 50;

struct Walk<'a, 'l> {
    files: &'a Files,
    limits: &'l Limits,
    excluded: BTreeSet<&'a FilePath>,
    /// Every path in order, to find what lies below a folder.
    paths: Vec<&'a FilePath>,
    taken: BTreeSet<&'a FilePath>,
    /// Folders whose kustomization was followed: once, or a short file could ask for endless work.
    followed: BTreeSet<String>,
    inputs: Vec<Input<'a>>,
    errors: Vec<FilesError>,
}

impl<'a> Walk<'a, '_> {
    /// Folders (`""` is the root) that have one of these files as their kustomization, in order.
    fn kustomized_folders(&self, among: &[&'a FilePath]) -> BTreeSet<String> {
        let is_kustomization = |path: &&FilePath| {
            kustomization::FILE_NAMES.contains(&path.file_name()) && !is_hidden(path) && !self.excluded.contains(*path)
        };
        among.iter().copied().filter(is_kustomization).map(folder_of).collect()
    }

    /// One file that the walk or a kustomization reached.
    fn file(&mut self, path: &'a FilePath, place: Place) {
        if self.excluded.contains(path) {
            return;
        }
        let problem = match (Role::of(path.file_name()), self.files.get(path)) {
            (Role::Known, _) if path.file_name() == CHART => FileProblem::Chart,
            (Role::Known, _) => return,
            (Role::OtherStore, _) => FileProblem::NotAManifestStore,
            (Role::Other | Role::Manifest(_), Some(Content::BadLink)) => FileProblem::BadLink,
            (Role::Other | Role::Manifest(_), Some(Content::Special)) => FileProblem::Special,
            (Role::Other, _) => FileProblem::NotAManifest,
            (Role::Manifest(_), Some(Content::TooLarge { size })) => {
                FileProblem::TooLarge { size: *size, limit: self.limits.document }
            }
            (Role::Manifest(_), Some(Content::NotRead) | None) => FileProblem::NotRead,
            (Role::Manifest(form), Some(Content::Bytes(bytes))) => {
                if self.taken.insert(path) {
                    return self.inputs.push(Input { path, bytes, form, place });
                }
                FileProblem::ListedTwice
            }
        };
        self.errors.push(FilesError::File { file: path.clone(), problem });
    }

    /// What a generator makes.
    fn generated(&mut self, generator: &'a Generator, bootstrap: Option<&Bootstrap>) {
        let is_excluded = |file: &&FilePath| bootstrap.is_some_and(|bootstrap| bootstrap.excluded(file));
        if let Some(file) = generator.files().find(is_excluded) {
            let problem = FileProblem::ExcludedInput { file: file.clone() };
            self.errors.push(FilesError::File { file: generator.document().clone(), problem });
            return;
        }
        self.inputs.push(Input {
            path: generator.document(),
            bytes: generator.bytes(),
            form: Form::Generated(generator),
            place: generator.build_place(),
        });
    }

    /// What the kustomization of `folder` lists. The outermost `namespace` wins, as in kustomize.
    fn kustomization(&mut self, folder: &str, outer: Option<&str>, inside: &mut Vec<String>) {
        let mut names = self.kustomization_files(folder).into_iter();
        let Some(file) = names.next() else { return };
        if let Some(second) = names.next() {
            let problem = format!("{} stands beside it; kustomize refuses two", file.file_name());
            self.errors.push(FilesError::Kustomization { file: second.clone(), line: 0, problem });
            return;
        }
        if let Some(chart) = self.lookup(&joined(folder, CHART)).filter(|chart| !self.excluded.contains(chart)) {
            self.errors.push(FilesError::File { file: chart.clone(), problem: FileProblem::Chart });
            return;
        }
        let bytes = match self.files.get(file) {
            Some(Content::Bytes(bytes)) => bytes,
            Some(Content::TooLarge { .. } | Content::BadLink | Content::Special | Content::NotRead) | None => {
                self.errors.push(FilesError::File { file: file.clone(), problem: FileProblem::NotRead });
                return;
            }
        };
        let listed = match kustomization::parse(file, bytes, self.limits) {
            Ok(listed) => listed,
            Err(error) => return self.errors.push(error),
        };
        inside.push(folder.to_owned());
        self.followed.insert(folder.to_owned());
        let namespace = outer.or(listed.namespace.as_deref());
        for resource in &listed.resources {
            if let Err(problem) = self.resource(file, &resource.text, namespace, inside) {
                let problem = format!("`resources`: `{}` {problem}", resource.text);
                self.errors.push(FilesError::Kustomization { file: file.clone(), line: resource.line, problem });
            }
        }
        inside.pop();
    }

    fn resource(
        &mut self,
        file: &FilePath,
        resource: &str,
        namespace: Option<&str>,
        inside: &mut Vec<String>,
    ) -> Result<(), &'static str> {
        if resource.starts_with('/') {
            return Err("is an absolute path");
        }
        let target = kustomization::resolve(&folder_of(file), resource).ok_or("leaves the root")?;
        if let Some(path) = self.lookup(&target) {
            if is_hidden(path) {
                return Err("is a dot-file, which is never a manifest");
            }
            if kustomization::FILE_NAMES.contains(&path.file_name()) || path.file_name() == Bootstrap::FILE_NAME {
                return Err("is no manifest");
            }
            self.file(path, Place { namespace: namespace.map(str::to_owned), ..Place::default() });
            return Ok(());
        }
        if !self.has_folder(&target) {
            return Err(if kustomization::is_remote(resource) {
                "is remote; only files and folders of the root are read"
            } else {
                "is neither a file nor a folder of the root"
            });
        }
        if inside.contains(&target) {
            return Err("lists itself again");
        }
        if self.followed.contains(&target) {
            return Err("is listed twice");
        }
        if inside.len() >= MAX_KUSTOMIZATIONS_DEEP {
            return Err("lies too deep in other kustomizations");
        }
        if self.all_excluded(&target) {
            return Ok(());
        }
        if self.kustomization_files(&target).is_empty() {
            return Err("is a folder without a kustomization.yaml");
        }
        self.kustomization(&target, namespace, inside);
        Ok(())
    }

    fn lookup(&self, path: &str) -> Option<&'a FilePath> {
        let path = FilePath::parse(path).ok()?;
        self.files.entries.get_key_value(&path).map(|(path, _)| path)
    }

    fn kustomization_files(&self, folder: &str) -> Vec<&'a FilePath> {
        let found = |name: &&str| self.lookup(&joined(folder, name)).filter(|path| !self.excluded.contains(path));
        kustomization::FILE_NAMES.iter().filter_map(found).collect()
    }

    fn below(&self, folder: &str) -> impl Iterator<Item = &'a FilePath> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let from = self.paths.partition_point(|path| path.as_str() < prefix.as_str());
        let below = self.paths.iter().skip(from).copied();
        below.take_while(move |path| path.as_str().starts_with(&prefix))
    }

    fn has_folder(&self, folder: &str) -> bool {
        self.below(folder).next().is_some()
    }

    fn all_excluded(&self, folder: &str) -> bool {
        self.below(folder).all(|path| self.excluded.contains(path))
    }
}

/// The outermost folder with a kustomization that holds `path`.
fn governing<'g>(governed: &'g BTreeSet<String>, path: &FilePath) -> Option<&'g String> {
    // An ancestor sorts before what is below it, so the first hit is the outermost.
    let text = path.as_str();
    let ends = text.match_indices('/').map(|(end, _)| end);
    std::iter::once(0).chain(ends).find_map(|end| governed.get(text.get(..end)?))
}

fn folder_of(path: &FilePath) -> String {
    path.as_str().rsplit_once('/').map_or_else(String::new, |(folder, _)| folder.to_owned())
}

fn joined(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Whether regent never reads it: a dot-file, or one in a dot-folder.
pub(crate) fn is_hidden(path: &FilePath) -> bool {
    path.as_str().split('/').any(|part| part.starts_with('.'))
}

/// Files that explain a folder to people.
fn is_documentation(name: &str) -> bool {
    const ENDINGS: [&str; 5] = [".md", ".markdown", ".rst", ".adoc", ".txt"];
    const NAMES: [&str; 5] = ["README", "LICENSE", "NOTICE", "CODEOWNERS", "CHANGELOG"];
    NAMES.contains(&name) || ENDINGS.iter().any(|ending| name.ends_with(ending))
}
