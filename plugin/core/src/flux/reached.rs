//! Of a root what a Flux Kustomization makes of it: which files become objects, and in which namespaces.
//!
//! Where Argo CD asks, regent walks a folder by its own rules; where Flux does, the build decides. Whoever reads the root for
//! the one or the other (an artifact, a handover) then finds the same objects under the same names.

use std::collections::{BTreeMap, BTreeSet};

use crate::bootstrap::Bootstrap;
use crate::files::{self, Content, Files};
use crate::flux::artifact;
use crate::flux::reach::{Reach, Use};
use crate::kustomization;
use crate::name::{FilePath, ObjectName};
use crate::refusal::{DocumentProblem, Refusal};

/// The files of the root that become objects, with paths relative to it, and the namespace that the build puts each into,
/// where it does. `root` is the folder of the root in the repository, `None` for its top.
///
/// # Errors
/// [`Refusal::Obstacle`] for the first thing that is not followed; [`Refusal::Document`] for an encrypted document outside
/// the root, one that gets another name, and an encrypted patch or input of a generator: a handover knows none of these.
pub fn listing(reach: &Reach, root: Option<&FilePath>) -> Result<BTreeMap<FilePath, Option<String>>, Refusal> {
    if let Some(obstacle) = reach.obstacles.first() {
        return Err(Refusal::Obstacle(Box::new(obstacle.clone())));
    }
    let refused = |file: &FilePath, problem| Err(Refusal::Document { file: file.clone(), problem });
    let inputs = reach.generators.iter().flat_map(|generated| &generated.inputs);
    if let Some(input) = inputs.into_iter().find(|input| input.is_encrypted) {
        return refused(&input.file, DocumentProblem::NotHandedOver { what: "an input of a `secretGenerator`" });
    }
    if let Some(patched) = reach.patches.first() {
        return refused(&patched.file, DocumentProblem::NotHandedOver { what: "a patch" });
    }
    for reached in &reach.documents {
        if inside(root, &reached.file).is_none() {
            return refused(&reached.file, DocumentProblem::OutsideRoot);
        }
        if !reached.place.prefix.is_empty() || !reached.place.suffix.is_empty() {
            let name = reached.own.as_ref().map_or("NAME", |own| &own.name);
            return refused(&reached.file, DocumentProblem::Renamed { becomes: reached.place.name(name) });
        }
    }
    let mut listed = BTreeMap::new();
    for (file, uses) in &reach.files {
        let Some(path) = inside(root, file) else { continue };
        for used in uses {
            match used {
                Use::Resource { place, .. } => drop(listed.insert(path.clone(), place.namespace.clone())),
                Use::Kustomization | Use::GeneratorInput { .. } | Use::Patch { .. } | Use::Other { .. } => {}
            }
        }
    }
    Ok(listed)
}

/// The same of all Kustomizations that deliver one root: together they are what is handed over.
///
/// # Errors
/// As [`listing`]; [`Refusal::Document`] for a document that two of them apply, and for one that none does.
pub fn listing_of_all<'k>(
    reaches: impl IntoIterator<Item = (&'k ObjectName, &'k Reach)>,
    root: Option<&FilePath>,
    files: &Files,
    bootstrap: &Bootstrap,
) -> Result<BTreeMap<FilePath, Option<String>>, Refusal> {
    let refused = |file: &FilePath, problem| Err(Refusal::Document { file: file.clone(), problem });
    let (mut listed, mut encrypted) = (BTreeMap::new(), BTreeMap::<FilePath, &ObjectName>::new());
    for (kustomization, reach) in reaches {
        // What is in clear text may be applied as often as one likes.
        listed.extend(listing(reach, root)?);
        let documents = reach.documents.iter().filter_map(|reached| inside(root, &reached.file));
        for file in documents.collect::<BTreeSet<_>>() {
            if let Some(one) = encrypted.get(&file) {
                let (one, other) = ((*one).clone(), kustomization.clone());
                return refused(&file, DocumentProblem::AppliedTwice { one, other });
            }
            encrypted.insert(file, kustomization);
        }
    }
    let passed_over =
        |path: &FilePath| files::is_hidden(path) || bootstrap.excluded(path) || encrypted.contains_key(path);
    for (path, content) in files.iter().filter(|(path, _)| !passed_over(path)) {
        let is_encrypted = matches!(content, Content::Bytes(bytes) if artifact::is_encrypted(path, bytes));
        if is_encrypted && !kustomization::FILE_NAMES.contains(&path.file_name()) {
            return refused(path, DocumentProblem::NotApplied);
        }
    }
    Ok(listed)
}

/// A path of the repository as the root has it; `None` outside.
fn inside(root: Option<&FilePath>, path: &FilePath) -> Option<FilePath> {
    match root {
        Some(root) => FilePath::parse(path.as_str().strip_prefix(root.as_str())?.strip_prefix('/')?).ok(),
        None => Some(path.clone()),
    }
}
