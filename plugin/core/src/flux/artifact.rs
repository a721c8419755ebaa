//! The artifact of a Kustomization: the repository's tree, in which single files are others.
//!
//! ```text
//! while Git rules    an encrypted document is opened, judged as for any front door, guarded, and encrypted to regent alone
//! once Vault rules   it is a stub, and beside it, once settled, what `after:` says; nothing is opened
//! in every phase     `regent.yaml` is left out, and whatever has no encrypted document stays to the byte
//! ```
//! kustomize-controller never checks a MAC, so it is checked here, and kind, name and namespace are judged here: what asks
//! for the data key later says none of them. A document stays as it stands in Git as far as its own rule allows (its
//! ciphertext, its rule); where the controller could not read it so (a list, a rule over comments, encrypted metadata, a
//! file encrypted as a whole) it is encrypted anew. Everything is a function of the input: no clock, nothing random.

use std::collections::BTreeMap;

use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use regent_sops::{Branch, DataKey, Document, Limits, Node, Opener, Selection, Stanza, WrappingKeys, envelope};

use crate::authority::{Mode, Ruling};
use crate::bootstrap::Bootstrap;
use crate::emit::{Content, Manifest, Placed};
use crate::files::{self, Files, Form, Input};
use crate::flux::bound::{self, Bound};
use crate::gate::{self, Permit};
use crate::guard;
use crate::name::FilePath;
use crate::object::{Meta, Object, Problem, View, objects};
use crate::refusal::{DocumentProblem, Refusal};
use crate::render::{self, Class, Door, Scope, at_file, named, refusal};
use crate::secret::{self, SecretProblem};

/// Everything an artifact is a function of, beside what the repository holds outside the root.
pub struct Request<'a> {
    /// The root's files.
    pub files: &'a Files,
    /// Its `regent.yaml`.
    pub bootstrap: &'a Bootstrap,
    /// What may be answered.
    pub ruling: &'a Ruling,
    /// The identities of the authority's rule; none are needed once Vault rules.
    pub keys: Opener<'a>,
    /// The keys that are derived from the same identities.
    pub wrapping: &'a WrappingKeys,
    /// Namespaces that the rule allows; `*` for all.
    pub namespaces: &'a [String],
    /// Bounds of each document.
    pub limits: &'a Limits,
    /// Whom the data keys are for.
    pub bound: &'a Bound,
    /// Where they are asked for.
    pub endpoint: &'a str,
}

/// What is another file than in the repository, or none; paths are relative to the root.
pub struct Artifact {
    /// What the artifact holds of Secrets.
    pub phase: Phase,
    /// Every other file of the root stays as it is.
    pub changes: BTreeMap<FilePath, Change>,
}

/// What an artifact holds of encrypted documents. It begins the revision, so that whoever waits for a handover can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Ciphertext whose data keys regent releases.
    Bootstrap,
    /// Stubs.
    Handover,
}

impl Phase {
    /// The word before the `@` of the revision.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::Handover => "handover",
        }
    }
}

/// How a file differs.
pub enum Change {
    /// It is not in the artifact.
    Remove,
    /// It holds these documents, in order.
    Write(Vec<Manifest>),
}

/// Builds it: every change, or one refusal (the first by file order).
///
/// # Errors
/// Whatever [`render::render`] refuses; where Git rules and no wrapping key could be derived, [`Refusal::NoWrappingKey`].
pub fn artifact(request: &Request<'_>) -> Result<Artifact, Refusal> {
    let (phase, written) = match request.ruling.mode() {
        Mode::Values => (Phase::Bootstrap, sealed(request)?),
        Mode::Stubs(_) => (Phase::Handover, stubs(request)?),
        Mode::Unasked => return Err(Refusal::Unasked),
    };
    let mut changes = BTreeMap::new();
    for (path, manifests) in written {
        let name = artifact_name(request.files, &path)
            .ok_or_else(|| Refusal::Document { file: path.clone(), problem: DocumentProblem::NameTaken })?;
        if name != path {
            changes.insert(path, Change::Remove);
        }
        changes.insert(name, Change::Write(manifests));
    }
    if let Ok(own) = FilePath::parse(Bootstrap::FILE_NAME) {
        // kustomize-controller would take it for an object where no kustomization lists files.
        changes.insert(own, Change::Remove);
    }
    for (path, _) in request.files.iter().filter(|(path, _)| request.bootstrap.excluded(path)) {
        // What regent does not look at, the controller must not meet: it may be encrypted to others.
        changes.entry(path.clone()).or_insert(Change::Remove);
    }
    Ok(Artifact { phase, changes })
}

/// Files of which nothing is left to say: those with stubs.
fn stubs(request: &Request<'_>) -> Result<Vec<(FilePath, Vec<Manifest>)>, Refusal> {
    let manifests = render::render(&render::Request {
        files: request.files,
        folder: None,
        bootstrap: Some(request.bootstrap),
        ruling: request.ruling,
        keys: request.keys,
        namespaces: request.namespaces,
        limits: request.limits,
        door: Door::Flux,
    })?;
    let mut files: Vec<(FilePath, Vec<Manifest>)> = Vec::new();
    for manifest in manifests {
        match files.last_mut().filter(|(path, _)| path == manifest.file()) {
            Some((_, manifests)) => manifests.push(manifest),
            None => files.push((manifest.file().clone(), vec![manifest])),
        }
    }
    // A file with nothing but clear documents stays to the byte.
    files.retain(|(_, manifests)| manifests.iter().any(|manifest| manifest.content() != Content::Plain));
    Ok(files)
}

/// Files with encrypted documents, encrypted to regent.
fn sealed(request: &Request<'_>) -> Result<Vec<(FilePath, Vec<Manifest>)>, Refusal> {
    if request.wrapping.is_empty() {
        return Err(Refusal::NoWrappingKey);
    }
    let (inputs, errors) = files::inputs(request.files, None, Some(request.bootstrap), request.limits);
    if let Some(error) = errors.into_iter().next() {
        return Err(error.into());
    }
    let scope = Scope { bootstrap: Some(request.bootstrap), namespaces: request.namespaces };
    let mut files = Vec::new();
    let mut judged: Vec<Manifest> = Vec::new();
    for chunk in inputs.chunks(CHUNK) {
        if request.keys.is_stopped() {
            return Err(Refusal::Stopped);
        }
        let answers: Vec<_> = chunk.par_iter().map(|input| file(request, &scope, input)).collect();
        for (input, answer) in chunk.iter().zip(answers) {
            let File { manifests, is_encrypted } = answer.map_err(|problem| refusal(input, problem))?;
            if is_encrypted {
                files.push((input.path.clone(), manifests));
            } else {
                judged.extend(manifests);
            }
        }
    }
    let all = judged.iter().chain(files.iter().flat_map(|(_, manifests)| manifests));
    render::unique(all)?;
    Ok(files)
}

/// Files worked on between two looks at the first refusal.
const CHUNK: usize = 512;

/// One file's documents, judged.
struct File {
    manifests: Vec<Manifest>,
    /// Whether anything in it was encrypted.
    is_encrypted: bool,
}

fn file(request: &Request<'_>, scope: &Scope<'_>, input: &Input<'_>) -> Result<File, Problem> {
    let at = |problem: regent_sops::Error| at_file(problem);
    let mut manifests = Vec::new();
    match input.form {
        Form::Whole(envelope, inner) => {
            let opened = envelope::open_manifests(input.bytes, envelope, inner, request.keys, request.limits);
            for object in objects(opened.map_err(at)?.documents(), View::Opened) {
                manifests.push(document(request, scope, input, &object?, None)?);
            }
            Ok(File { manifests, is_encrypted: true })
        }
        Form::Manifest(format) => match Document::parse(input.bytes, format, request.limits).map_err(at)? {
            Document::Clear(tree) => {
                for object in objects(&tree.documents, View::Clear) {
                    manifests.push(document(request, scope, input, &object?, None)?);
                }
                Ok(File { manifests, is_encrypted: false })
            }
            Document::Sealed(sealed) => {
                render::mac_scope(&sealed, scope.bootstrap).map_err(at_file)?;
                let selection = sealed.selection();
                let closed = objects(sealed.documents(), View::Sealed);
                // The items of a list are documents of their own for kustomize, and each would need the list's block.
                let is_whole = closed.len() == sealed.documents().iter().filter(|it| !it.items.is_empty()).count();
                let (opened, data_key) = sealed.open_with_key(request.keys).map_err(at)?;
                let opened = objects(opened.documents(), View::Opened);
                let enc = request.wrapping.wrap(&data_key, &request.bound.context());
                let enc = enc.map(|wrapped| request.bound.enc(&wrapped)).unwrap_or_default();
                for (closed, opened) in closed.into_iter().zip(opened) {
                    let (closed, opened) = (closed?, opened?);
                    let closed = Closed { tree: closed.tree, selection: &selection, data_key: &data_key, enc: &enc };
                    let closed = Some(closed).filter(|_| is_whole && selection.is_portable());
                    manifests.push(document(request, scope, input, &opened, closed)?);
                }
                Ok(File { manifests, is_encrypted: true })
            }
        },
    }
}

/// A document as it stands encrypted in its file.
struct Closed<'a> {
    tree: Branch,
    selection: &'a Selection,
    data_key: &'a DataKey,
    enc: &'a str,
}

/// Judges a document as every front door does, and encrypts it to regent where it was encrypted.
fn document(
    request: &Request<'_>,
    scope: &Scope<'_>,
    input: &Input<'_>,
    object: &Object,
    closed: Option<Closed<'_>>,
) -> Result<Manifest, Problem> {
    let meta = named(object)?;
    let namespace = scope.namespace(object, &meta, input.namespace.as_deref())?;
    let class = scope.class(object, &meta, namespace.as_deref())?;
    let permit = gate::admit(object, request.ruling).map_err(|problem| object.problem(problem))?;
    match class {
        Class::Plain => {
            Manifest::plain(input.path, &permit, meta, namespace, false).map_err(|problem| object.problem(problem))
        }
        Class::Handover | Class::Permanent { .. } => {
            if meta.is_secret() {
                // Invalid ones are printed by the API server and by kustomize-controller.
                secret::data(object).map_err(|problems| render::first(object, problems))?;
            } else if let Some(annotation) = secret::hook(object) {
                return Err(object.problem(SecretProblem::Hook { annotation }));
            }
            let tree = encrypted(
                request,
                scope,
                &permit,
                &meta,
                written_namespace(input, &meta, namespace.as_deref()),
                closed,
            );
            let tree = tree.map_err(|error| object.problem(error))?;
            let placed = Placed { meta, namespace, class };
            Manifest::sealed(input.path, &permit, placed, tree).map_err(|problem| object.problem(problem))
        }
    }
}

/// The namespace that `secrets.namespace` gives; any other is the document's own, or the controller's to set.
fn written_namespace<'n>(input: &Input<'_>, meta: &Meta, effective: Option<&'n str>) -> Option<&'n str> {
    effective.filter(|_| meta.namespace.is_none() && input.namespace.is_none())
}

/// The document, guarded and encrypted to regent: as it stands where its rule lets the controller read it so, else anew.
fn encrypted(
    request: &Request<'_>,
    scope: &Scope<'_>,
    permit: &Permit<'_>,
    meta: &Meta,
    namespace: Option<&str>,
    closed: Option<Closed<'_>>,
) -> Result<Branch, regent_sops::Error> {
    let label = scope.authority().filter(|_| meta.is_secret());
    let guarded = |mut tree: Branch| {
        if let Some(namespace) = namespace {
            guard::mapping(&mut tree, "metadata").set("namespace", Node::text(namespace));
        }
        guard::guard(&mut tree, label);
        tree
    };
    let engine = bound::engine(&request.bound.authority);
    let key = request.bound.kustomization.name();
    let stanza = Stanza { address: request.endpoint, engine: &engine, key, enc: "" };
    if let Some(Closed { tree, selection, data_key, enc }) = closed
        && CLEAR.iter().all(|path| selection.leaves_clear(path))
        && let Ok(tree) = selection.repoint(&guarded(tree), data_key, &Stanza { enc, ..stanza })
    {
        return Ok(tree);
    }
    let tree = guarded(permit.object().tree.duplicate());
    let selection = if meta.is_secret() { Selection::of_secret() } else { Selection::of_object() };
    let context = request.bound.context();
    let data_key = request.wrapping.data_key(&context, &tree.to_json_line()?);
    let wrapped = data_key.as_ref().and_then(|data_key| request.wrapping.wrap(data_key, &context));
    match (&data_key, wrapped) {
        (Some(data_key), Some(wrapped)) => {
            let enc = request.bound.enc(&wrapped);
            selection.seal(&tree, data_key, &Stanza { enc: &enc, ..stanza })
        }
        // Whoever calls has asked whether there is a wrapping key.
        (Some(_) | None, _) => Err(regent_sops::Error::MetadataAbsent),
    }
}

/// What has to stand in the clear, so that kustomize finds and changes it, and guards can be added.
const CLEAR: [&[&str]; 5] = [
    &["apiVersion"],
    &["kind"],
    &["metadata", "name"],
    &["metadata", "labels", guard::AUTHORITY],
    &["metadata", "annotations", guard::FLUX_PRUNE],
];

/// The name in the artifact. A file encrypted as a whole is a manifest there: kustomize-controller looks for those by
/// their endings, unless a kustomization lists the file by its name. `None` where another file has that name.
fn artifact_name(files: &Files, path: &FilePath) -> Option<FilePath> {
    let Some((_, inner)) = envelope::Envelope::of_name(path.file_name()) else { return Some(path.clone()) };
    if files::is_listed_by_name(files, path) {
        return Some(path.clone());
    }
    let inner = path.parent().map_or_else(|| inner.to_owned(), |folder| format!("{folder}/{inner}"));
    FilePath::parse(&inner).ok().filter(|inner| files.get(inner).is_none())
}

/// Whether a file outside the root looks encrypted. Nobody judged it, and no artifact holds it: were there a key for it in
/// the cluster, it would pass by the rules. Text alone is looked at, so a file that only speaks of ciphertext goes too.
pub fn is_encrypted(path: &FilePath, bytes: &[u8]) -> bool {
    const MARKS: [&[u8]; 3] =
        [b"ENC[AES256_GCM,", b"-----BEGIN AGE ENCRYPTED FILE-----", b"-----BEGIN PGP MESSAGE-----"];
    envelope::Envelope::of_name(path.file_name()).is_some()
        || MARKS.iter().any(|mark| bytes.windows(mark.len()).any(|window| window == *mark))
}

#[cfg(test)]
mod tests;
