//! Of an artifact only what its Kustomization reaches, under the names by which the handover knows it.
//!
//! A root may serve several Kustomizations, and each gets the documents that its own build reads. Vault gets a Secret under
//! the name that its document has in the root, so a build that renames it would have it handed over under another name than
//! it has in the cluster: that is refused before anything moves.

use std::collections::BTreeMap;

use crate::bootstrap::Bootstrap;
use crate::emit::{Content, Identity, Manifest};
use crate::flux::artifact::{Artifact, Change};
use crate::flux::reach::{Place, Reach, Use};
use crate::name::{FilePath, Namespace};
use crate::refusal::{DocumentProblem, Refusal};

/// Takes out of an artifact what the Kustomization does not reach. `root` is the folder of the root in the repository,
/// `None` for its top.
///
/// # Errors
/// [`Refusal::Obstacle`] for the first thing that is not followed; [`Refusal::Document`] for an encrypted document outside
/// the root, an encrypted patch or input of a generator, and a document that the build gives another name.
pub fn only(
    artifact: Artifact,
    reach: &Reach,
    root: Option<&FilePath>,
    bootstrap: &Bootstrap,
) -> Result<Artifact, Refusal> {
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
    if let Some(outside) = reach.documents.iter().find(|reached| inside(root, &reached.file).is_none()) {
        return refused(&outside.file, DocumentProblem::OutsideRoot);
    }
    let Artifact { phase, changes } = artifact;
    let mut kept = BTreeMap::new();
    for (path, change) in changes {
        let change = match change {
            Change::Remove => Change::Remove,
            Change::Write(manifests) => match place(reach, root, &manifests) {
                Some(place) => {
                    for manifest in manifests.iter().filter(|manifest| manifest.content() != Content::Plain) {
                        same_name(reach, root, bootstrap, place, manifest)?;
                    }
                    Change::Write(manifests)
                }
                None => Change::Remove,
            },
        };
        kept.insert(path, change);
    }
    Ok(Artifact { phase, changes: kept })
}

/// Where the build puts the objects of a file; `None` for one that it does not read as resources.
fn place<'r>(reach: &'r Reach, root: Option<&FilePath>, manifests: &[Manifest]) -> Option<&'r Place> {
    let file = full(root, manifests.first()?.file())?;
    reach.files.get(&file)?.iter().find_map(|used| match used {
        Use::Resource { place, .. } => Some(place),
        Use::Kustomization | Use::GeneratorInput { .. } | Use::Patch { .. } | Use::Other { .. } => None,
    })
}

/// Whether the build gives an encrypted document the name that the root gives it.
fn same_name(
    reach: &Reach,
    root: Option<&FilePath>,
    bootstrap: &Bootstrap,
    place: &Place,
    manifest: &Manifest,
) -> Result<(), Refusal> {
    let known = manifest.identity();
    let file = full(root, manifest.file());
    let is_it = |own: &&Identity| own.kind == known.kind && own.name == known.name;
    let documents = reach.documents.iter().filter(|reached| Some(&reached.file) == file.as_ref());
    let own = documents.filter_map(|reached| reached.own.as_ref()).find(is_it);
    // One whose name is encrypted gets it written in the clear, as the root has it.
    let becomes = place.of(own.unwrap_or(known));
    let fallback = bootstrap.secrets.namespace.as_ref().map(Namespace::as_str);
    let namespace = becomes.namespace.as_deref().or(fallback);
    if becomes.name == known.name && namespace == known.namespace.as_deref() {
        return Ok(());
    }
    let becomes = Identity { namespace: namespace.map(str::to_owned), ..becomes };
    let problem = DocumentProblem::Renamed { known: known.to_string(), becomes: becomes.to_string() };
    Err(Refusal::Document { file: manifest.file().clone(), problem })
}

/// A path of the root as the repository has it.
fn full(root: Option<&FilePath>, path: &FilePath) -> Option<FilePath> {
    match root {
        Some(root) => FilePath::parse(&format!("{root}/{path}")).ok(),
        None => Some(path.clone()),
    }
}

/// A path of the repository as the root has it; `None` outside.
fn inside(root: Option<&FilePath>, path: &FilePath) -> Option<FilePath> {
    match root {
        Some(root) => FilePath::parse(path.as_str().strip_prefix(root.as_str())?.strip_prefix('/')?).ok(),
        None => Some(path.clone()),
    }
}
