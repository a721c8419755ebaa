//! Of a root what a Flux Kustomization makes of it: which files become objects, and under which names.
//!
//! Where Argo CD asks, regent walks a folder by its own rules; where Flux does, the build decides. Whoever reads the root for
//! the one or the other (an artifact, a handover) then finds the same objects under the same names.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use regent_sops::{Document, Format, Limits};

use crate::bootstrap::Bootstrap;
use crate::files::{self, Built, Content, Files};
use crate::flux::artifact;
use crate::flux::generator::Generator;
use crate::flux::reach::{self, Obstacle, Reach, Use};
use crate::kustomization;
use crate::name::FilePath;
use crate::object::{self, Object, View};
use crate::refusal::{DocumentProblem, GeneratorProblem, Refusal};

/// A repository, and the root in it.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Every file of the repository, each read.
    pub repository: &'a Files,
    /// The folder of the root in the repository, `None` for its top.
    pub root: Option<&'a FilePath>,
    /// Bounds of each document.
    pub limits: &'a Limits,
}

/// What becomes objects, with paths relative to the root: files, each with what the build makes of the names in it; and what
/// generators make of encrypted inputs.
///
/// # Errors
/// [`Refusal::Obstacle`] for the first thing that is not followed; [`Refusal::Document`] for what is encrypted outside
/// the root, for an encrypted patch, which no handover knows, and for a generator that regent does not follow to its values.
pub fn listing(reach: &Reach, place: Place<'_>) -> Result<Built, Refusal> {
    first(look(reach, place))
}

/// The same of all Kustomizations that deliver one root: together they are what is handed over.
///
/// # Errors
/// As [`listing`]; [`Refusal::Document`] for a document that two of them apply, and for one that none does.
pub fn listing_of_all<'k, K: fmt::Display + 'k>(
    reaches: impl IntoIterator<Item = (&'k K, &'k Reach)>,
    place: Place<'_>,
    files: &Files,
    bootstrap: &Bootstrap,
) -> Result<Built, Refusal> {
    first(look_at_all(reaches, place, files, bootstrap))
}

/// Nothing is acted on where anything is refused.
fn first((built, refusals): (Built, Vec<Refused>)) -> Result<Built, Refusal> {
    match refusals.into_iter().next() {
        None => Ok(built),
        Some(Refused { reason, .. }) => Err(reason.into()),
    }
}

/// One reason why a build is not followed.
#[derive(Debug)]
pub struct Refused {
    /// The Kustomization whose build it is, as it was told; `None` where it is one of all together.
    pub kustomization: Option<String>,
    /// Why.
    pub reason: Reason,
}

/// Why a build is not followed.
#[derive(Debug)]
pub enum Reason {
    /// It does what regent does not follow. Files are relative to the repository.
    Obstacle(Box<Obstacle>),
    /// What it reads cannot be handed over.
    Document {
        /// The file, relative to the root; to the repository where the problem is [`DocumentProblem::OutsideRoot`].
        file: FilePath,
        /// What is wrong.
        problem: DocumentProblem,
    },
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Obstacle(obstacle) => Self::Obstacle(obstacle),
            Reason::Document { file, problem } => Self::Document { file, problem },
        }
    }
}

/// What [`listing_of_all`] gives as far as the builds are followed, and everything that is wrong. Only to be told.
pub fn look_at_all<'k, K: fmt::Display + 'k>(
    reaches: impl IntoIterator<Item = (&'k K, &'k Reach)>,
    place: Place<'_>,
    files: &Files,
    bootstrap: &Bootstrap,
) -> (Built, Vec<Refused>) {
    let mut refusals = Vec::new();
    let refused = |file: &FilePath, problem| {
        let reason = Reason::Document { file: file.clone(), problem };
        Refused { kustomization: None, reason }
    };
    let (mut all, mut encrypted) = (Built::default(), BTreeMap::<FilePath, String>::new());
    // What is encrypted, read and refused was told, and is not told a second time.
    let mut read = BTreeSet::new();
    for (kustomization, reach) in reaches {
        let patches = reach.patches.iter().map(|patched| &patched.file);
        let inputs = reach.generators.iter().flat_map(|it| &it.inputs);
        let inputs = inputs.filter(|input| input.is_encrypted).map(|input| &input.file);
        read.extend(patches.chain(inputs).filter_map(|file| inside(place.root, file)));
        let (built, found) = look(reach, place);
        let named = |found: Refused| Refused { kustomization: Some(kustomization.to_string()), ..found };
        refusals.extend(found.into_iter().map(named));
        let documents = reach.documents.iter().filter_map(|reached| inside(place.root, &reached.file));
        let inputs = built.generators.iter().flat_map(Generator::encrypted_inputs).cloned();
        for file in documents.chain(inputs).collect::<BTreeSet<_>>() {
            match encrypted.entry(file) {
                Entry::Vacant(entry) => drop(entry.insert(kustomization.to_string())),
                Entry::Occupied(entry) => {
                    let (one, other) = (entry.get().clone(), kustomization.to_string());
                    refusals.push(refused(entry.key(), DocumentProblem::AppliedTwice { one, other }));
                }
            }
        }
        // What is in clear text may be applied as often as one likes.
        for (path, made) in built.files {
            let added = add(&mut all.files, &path, &made, place);
            refusals.extend(added.err().map(|problem| refused(&path, problem)));
        }
        all.generators.extend(built.generators);
    }
    let is_read = |path: &FilePath| encrypted.contains_key(path) || read.contains(path);
    let passed_over = |path: &FilePath| files::is_hidden(path) || bootstrap.excluded(path) || is_read(path);
    // What a build would read that is not followed shows once it is.
    let is_followed = !refusals.iter().any(|found| matches!(found.reason, Reason::Obstacle(_)));
    for (path, content) in files.iter().filter(|(path, _)| is_followed && !passed_over(path)) {
        let is_encrypted = matches!(content, Content::Bytes(bytes) if artifact::is_encrypted(path, bytes));
        if is_encrypted && !kustomization::FILE_NAMES.contains(&path.file_name()) {
            refusals.push(refused(path, DocumentProblem::NotApplied));
        }
    }
    (all, refusals)
}

/// What [`listing`] gives as far as the build is followed, and everything that is wrong.
fn look(reach: &Reach, place: Place<'_>) -> (Built, Vec<Refused>) {
    let Place { repository, root, limits } = place;
    let mut reasons: Vec<Reason> =
        reach.obstacles.iter().map(|obstacle| Reason::Obstacle(Box::new(obstacle.clone()))).collect();
    let mut refuse = |file: &FilePath, problem| reasons.push(Reason::Document { file: file.clone(), problem });
    for patched in &reach.patches {
        match inside(root, &patched.file) {
            Some(file) => refuse(&file, DocumentProblem::NotHandedOver { what: "a patch" }),
            None => refuse(&patched.file, DocumentProblem::OutsideRoot),
        }
    }
    for reached in reach.documents.iter().filter(|reached| inside(root, &reached.file).is_none()) {
        refuse(&reached.file, DocumentProblem::OutsideRoot);
    }
    let mut built = Built::default();
    for generated in reach.generators.iter().filter(|generated| generated.is_encrypted()) {
        match Generator::of(generated, repository, |path| inside(root, path), limits) {
            Ok(generator) if built.generators.iter().any(|other| other.document() == generator.document()) => {
                refuse(generator.document(), GeneratorProblem::Twice.into());
            }
            Ok(generator) => built.generators.push(generator),
            Err((file, problem)) => refuse(&file, problem),
        }
    }
    for (file, uses) in &reach.files {
        let Some(path) = inside(root, file) else { continue };
        for used in uses {
            match used {
                Use::Resource { place: made, .. } => {
                    if let Err(problem) = add(&mut built.files, &path, made, place) {
                        refuse(&path, problem);
                    }
                }
                Use::Kustomization | Use::GeneratorInput { .. } | Use::Patch { .. } | Use::Other { .. } => {}
            }
        }
    }
    let refused = |reason| Refused { kustomization: None, reason };
    (built, reasons.into_iter().map(refused).collect())
}

/// Adds what a build makes of a file. Of one that it makes several of the last counts, which must not be how a Secret is judged.
fn add(
    files: &mut BTreeMap<FilePath, reach::Place>,
    path: &FilePath,
    made: &reach::Place,
    place: Place<'_>,
) -> Result<(), DocumentProblem> {
    let mut made = made.clone();
    let Some(before) = files.get(path) else {
        files.insert(path.clone(), made);
        return Ok(());
    };
    // What variables do to a clear Secret is nobody's business, and one that is encrypted is applied once.
    made.substituted |= before.substituted;
    let is_same = *before == reach::Place { substituted: before.substituted, ..made.clone() };
    files.insert(path.clone(), made);
    if !is_same && holds_secret(path, place) {
        return Err(DocumentProblem::SeveralPlaces);
    }
    Ok(())
}

/// Whether a file of the root holds a Secret, or may.
fn holds_secret(path: &FilePath, Place { repository, root, limits }: Place<'_>) -> bool {
    let in_repository = match root {
        Some(root) => FilePath::parse(&format!("{root}/{path}")).ok(),
        None => Some(path.clone()),
    };
    let Some(Content::Bytes(bytes)) = in_repository.and_then(|path| repository.get(&path)) else { return true };
    let format = match Format::of_name(path.file_name()) {
        Format::Json => Format::Json,
        Format::Yaml | Format::Dotenv | Format::Ini | Format::Binary => Format::Yaml,
    };
    let Ok(Document::Clear(tree)) = Document::parse(bytes, format, limits) else { return true };
    object::objects(&tree.documents, View::Clear).iter().any(|object| match object.as_ref().map(Object::meta) {
        Ok(Ok(meta)) => meta.is_some_and(|meta| meta.is_secret()),
        Ok(Err(_)) | Err(_) => false,
    })
}

/// A path of the repository as the root has it; `None` outside.
pub(crate) fn inside(root: Option<&FilePath>, path: &FilePath) -> Option<FilePath> {
    match root {
        Some(root) => FilePath::parse(path.as_str().strip_prefix(root.as_str())?.strip_prefix('/')?).ok(),
        None => Some(path.clone()),
    }
}
