//! Of a root what a Flux Kustomization makes of it: which files become objects, and under which names.
//!
//! Where Argo CD asks, regent walks a folder by its own rules; where Flux does, the build decides. Whoever reads the root for
//! the one or the other (an artifact, a handover) then finds the same objects under the same names.

use std::collections::{BTreeMap, BTreeSet};

use regent_sops::{Document, Format, Limits};

use crate::bootstrap::Bootstrap;
use crate::files::{self, Built, Content, Files};
use crate::flux::artifact;
use crate::flux::generator::Generator;
use crate::flux::reach::{self, Reach, Use};
use crate::kustomization;
use crate::name::{FilePath, ObjectName};
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
    let Place { repository, root, limits } = place;
    if let Some(obstacle) = reach.obstacles.first() {
        return Err(Refusal::Obstacle(Box::new(obstacle.clone())));
    }
    let refused = |file: &FilePath, problem| Err(Refusal::Document { file: file.clone(), problem });
    if let Some(patched) = reach.patches.first() {
        return refused(&patched.file, DocumentProblem::NotHandedOver { what: "a patch" });
    }
    for reached in &reach.documents {
        if inside(root, &reached.file).is_none() {
            return refused(&reached.file, DocumentProblem::OutsideRoot);
        }
    }
    let mut generators: Vec<Generator> = Vec::new();
    for generated in reach.generators.iter().filter(|generated| generated.is_encrypted()) {
        let generator = Generator::of(generated, repository, |path| inside(root, path), limits);
        let generator = generator.map_err(|(file, problem)| Refusal::Document { file, problem })?;
        if generators.iter().any(|other| other.document() == generator.document()) {
            return refused(generator.document(), GeneratorProblem::Twice.into());
        }
        generators.push(generator);
    }
    let mut listed = BTreeMap::new();
    for (file, uses) in &reach.files {
        let Some(path) = inside(root, file) else { continue };
        for used in uses {
            match used {
                Use::Resource { place: made, .. } => add(&mut listed, &path, made, place)?,
                Use::Kustomization | Use::GeneratorInput { .. } | Use::Patch { .. } | Use::Other { .. } => {}
            }
        }
    }
    Ok(Built { files: listed, generators })
}

/// The same of all Kustomizations that deliver one root: together they are what is handed over.
///
/// # Errors
/// As [`listing`]; [`Refusal::Document`] for a document that two of them apply, and for one that none does.
pub fn listing_of_all<'k>(
    reaches: impl IntoIterator<Item = (&'k ObjectName, &'k Reach)>,
    place: Place<'_>,
    files: &Files,
    bootstrap: &Bootstrap,
) -> Result<Built, Refusal> {
    let refused = |file: &FilePath, problem| Err(Refusal::Document { file: file.clone(), problem });
    let (mut all, mut encrypted) = (Built::default(), BTreeMap::<FilePath, &ObjectName>::new());
    for (kustomization, reach) in reaches {
        let built = listing(reach, place)?;
        let documents = reach.documents.iter().filter_map(|reached| inside(place.root, &reached.file));
        let inputs = built.generators.iter().flat_map(Generator::encrypted_inputs).cloned();
        for file in documents.chain(inputs).collect::<BTreeSet<_>>() {
            if let Some(one) = encrypted.get(&file) {
                let (one, other) = ((*one).clone(), kustomization.clone());
                return refused(&file, DocumentProblem::AppliedTwice { one, other });
            }
            encrypted.insert(file, kustomization);
        }
        // What is in clear text may be applied as often as one likes.
        for (path, made) in built.files {
            add(&mut all.files, &path, &made, place)?;
        }
        all.generators.extend(built.generators);
    }
    let passed_over =
        |path: &FilePath| files::is_hidden(path) || bootstrap.excluded(path) || encrypted.contains_key(path);
    for (path, content) in files.iter().filter(|(path, _)| !passed_over(path)) {
        let is_encrypted = matches!(content, Content::Bytes(bytes) if artifact::is_encrypted(path, bytes));
        if is_encrypted && !kustomization::FILE_NAMES.contains(&path.file_name()) {
            return refused(path, DocumentProblem::NotApplied);
        }
    }
    Ok(all)
}

/// Adds what a build makes of a file. Of one that it makes several of the last counts, which must not be how a Secret is judged.
fn add(
    files: &mut BTreeMap<FilePath, reach::Place>,
    path: &FilePath,
    made: &reach::Place,
    place: Place<'_>,
) -> Result<(), Refusal> {
    let before = files.insert(path.clone(), made.clone());
    if before.is_some_and(|before| before != *made) && holds_secret(path, place) {
        return Err(Refusal::Document { file: path.clone(), problem: DocumentProblem::SeveralPlaces });
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
fn inside(root: Option<&FilePath>, path: &FilePath) -> Option<FilePath> {
    match root {
        Some(root) => FilePath::parse(path.as_str().strip_prefix(root.as_str())?.strip_prefix('/')?).ok(),
        None => Some(path.clone()),
    }
}
