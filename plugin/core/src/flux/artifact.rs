//! The artifact of a Kustomization: the repository's tree, in which single files are others.
//!
//! ```text
//! while Git rules    an encrypted document is opened, judged as for any front door, guarded, and encrypted to regent alone
//! once Vault rules   it is a stub, and beside it, once settled, what `after:` says; nothing is opened
//! in both            a generator with encrypted inputs is such a document, in a folder of its own ([`generator`])
//! in every phase     `regent.yaml` and what regent does not look at is left out; a file without encrypted documents stays
//!                    to the byte
//! ```
//! kustomize-controller never checks a MAC, so it is checked here, and kind, name and namespace are judged here: what asks
//! for the data key later says none of them. A document stays as it stands in Git as far as its own rule allows (its
//! ciphertext, its rule); where the controller could not read it so (a list, a rule over comments, encrypted metadata, a
//! file encrypted as a whole) it is encrypted anew. Everything is a function of the input: no clock, nothing random.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use rayon::iter::{IndexedParallelIterator as _, IntoParallelRefIterator as _, ParallelIterator as _};
use regent_sops::{
    Branch, DataKey, Document, Leaf, Limits, Node, Opener, Origin, Scalar, Sealed, Selection, Stanza, WrappingKeys,
    envelope,
};

use crate::authority::{Mode, Ruling};
use crate::bootstrap::Bootstrap;
use crate::emit::{Content, Identity, Manifest};
use crate::files::{self, Files, FilesError, Form, Input};
use crate::flux::bound::{self, Bound};
use crate::flux::generator::{self, Generator};
use crate::flux::reach::{Parsed, Place};
use crate::gate;
use crate::guard;
use crate::kustomization;
use crate::name::FilePath;
use crate::object::{Object, Problem, View, objects};
use crate::refusal::{DocumentProblem, GeneratorProblem, Refusal};
use crate::render::{self, Class, Door, Scope, at_file, refusal};
use crate::secret::SecretProblem;

mod known;

pub use known::Known;
use known::{Digest, File as KnownFile};

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
    /// What an artifact made of the same files before, with the same [`Self::keys`] and [`Self::wrapping`]: of everything
    /// else it is compared here.
    pub known: &'a Known,
}

/// What is another file than in the repository, or none; paths are relative to the root.
pub struct Artifact {
    /// What the artifact holds of Secrets.
    pub phase: Phase,
    /// Every other file of the root stays as it is, unless it was not read and [`is_encrypted`].
    pub changes: BTreeMap<FilePath, Change>,
    /// For the next artifact.
    pub known: Known,
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
    /// It is what a [`Change::Write`] was under this name, in the artifact that [`Request::known`] is of.
    Same(FilePath),
    /// It is this kustomization: one of Git without generators that regent stands in for, or one of regent's own.
    Kustomization(Branch),
}

/// Builds it: every change, or one refusal (the first by file order). What was `parsed` of the same files is not parsed again.
///
/// # Errors
/// Whatever [`render::render`] refuses; where Git rules and no wrapping key could be derived, [`Refusal::NoWrappingKey`];
/// [`DocumentProblem::NameTaken`] where two files of the artifact would have one name.
pub fn artifact(request: &Request<'_>, parsed: Parsed) -> Result<Artifact, Refusal> {
    let (inputs, errors) = files::inputs(request.files, None, Some(request.bootstrap), request.limits);
    if let Some(error) = errors.into_iter().next() {
        return Err(error.into());
    }
    let (phase, files) = match request.ruling.mode() {
        Mode::Values => (Phase::Bootstrap, sealed(request, &inputs, parsed)?),
        Mode::Stubs(_) => (Phase::Handover, stubs(request, &inputs)?),
        Mode::Unasked => return Err(Refusal::Unasked),
    };
    let is_generated = |made: &Made<'_>| request.files.generator(made.path).is_some();
    let (generators, files): (Vec<_>, Vec<_>) = files.into_iter().partition(is_generated);
    let mut changes = generated(request, generators)?;
    let mut known = match phase {
        Phase::Bootstrap => Known::of(request),
        Phase::Handover => Known::default(),
    };
    for Made { path, digest, documents, change } in files {
        let mut name = None;
        if let Some(change) = change {
            let free =
                name_in_artifact(request.files, request.bootstrap, path).filter(|name| !changes.contains_key(name));
            let taken = || Refusal::Document { file: path.clone(), problem: DocumentProblem::NameTaken };
            let free = name.insert(free.ok_or_else(taken)?);
            if *free != *path {
                changes.insert(path.clone(), Change::Remove);
            }
            changes.insert(free.clone(), change);
        }
        if let Some(digest) = digest {
            known.insert(path, digest, KnownFile { documents, name });
        }
    }
    let judged: HashSet<&FilePath> = inputs.iter().map(|input| input.path).collect();
    for (path, content) in request.files.iter().filter(|(path, _)| !judged.contains(path)) {
        let is_ours = path.as_str() == Bootstrap::FILE_NAME;
        let is_passed_over = files::is_hidden(path) || request.bootstrap.excluded(path);
        if is_ours || is_passed_over || is_unjudged(path, content) {
            changes.entry(path.clone()).or_insert(Change::Remove);
        }
    }
    Ok(Artifact { phase, changes, known })
}

/// What stands in for generators: a folder for each, and the kustomizations that list it. The inputs leave: who reads
/// them is gone.
fn generated(request: &Request<'_>, made: Vec<Made<'_>>) -> Result<BTreeMap<FilePath, Change>, Refusal> {
    let mut changes = BTreeMap::new();
    let mut listing: BTreeMap<&FilePath, Vec<(&Generator, Vec<String>)>> = BTreeMap::new();
    for Made { path: document, change, .. } in made {
        let (Some(generator), Some(Change::Write(manifests))) = (request.files.generator(document), change) else {
            unreachable!("of a generator nothing is known, so its documents are written each time")
        };
        let refused = || Refusal::Document { file: document.clone(), problem: GeneratorProblem::Name.into() };
        let file = |name: &str| generator.file(name).ok_or_else(refused);
        let delivers = |manifest: &Manifest| manifest.content() == Content::Delivery;
        let (operators, secret): (Vec<_>, Vec<_>) = manifests.into_iter().partition(delivers);
        let mut resources = vec![generator.resource()];
        if let Some(named) = secret.first().map(|manifest| manifest.identity().name.clone()) {
            changes.insert(file("kustomization.yaml")?, Change::Kustomization(generator.nested(&named)));
        }
        if !operators.is_empty() {
            let operators = operators.into_iter().map(|manifest| named_by_build(manifest, generator.place()));
            let operators = operators.collect::<Result<_, _>>()?;
            resources.push(format!("{}/{}", generator.resource(), generator::DELIVERY));
            changes.insert(file(generator::DELIVERY)?, Change::Write(operators));
        }
        let secret = secret.into_iter().map(|manifest| manifest.written_as(generator.name())).collect();
        changes.insert(file(generator::SECRET)?, Change::Write(secret));
        for input in generator.encrypted_inputs() {
            changes.insert(input.clone(), Change::Remove);
        }
        listing.entry(generator.kustomization()).or_default().push((generator, resources));
    }
    for (kustomization, replaced) in listing {
        let bytes = request.files.document(kustomization).unwrap_or_default();
        let rewritten = generator::rewritten(bytes, replaced, request.limits).map_err(|(line, problem)| {
            Refusal::Files(FilesError::Kustomization { file: kustomization.clone(), line, problem })
        })?;
        changes.insert(kustomization.clone(), Change::Kustomization(rewritten));
    }
    Ok(changes)
}

/// What regent does not look at, the controller must not meet: it looks at hidden files too, and what is encrypted there
/// may be so to others. A kustomization is read by its rules.
fn is_unjudged(path: &FilePath, content: &files::Content) -> bool {
    let bytes: &[u8] = match content {
        files::Content::Bytes(bytes) => bytes,
        files::Content::TooLarge { .. }
        | files::Content::BadLink
        | files::Content::Special
        | files::Content::NotRead => &[],
    };
    !kustomization::FILE_NAMES.contains(&path.file_name()) && is_encrypted(path, bytes)
}

/// A file of the root, and what becomes of it.
struct Made<'a> {
    path: &'a FilePath,
    /// Of all that only this file says; `None` where it is made anew each time.
    digest: Option<Digest>,
    /// The objects in it, where they were judged one by one.
    documents: Arc<[Identity]>,
    /// `None` where it stays as it is.
    change: Option<Change>,
}

/// Files of which nothing is left to say: those with stubs.
fn stubs<'a>(request: &Request<'_>, inputs: &[Input<'a>]) -> Result<Vec<Made<'a>>, Refusal> {
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
    let mut of_file: HashMap<FilePath, Vec<Manifest>> = HashMap::new();
    for manifest in manifests {
        of_file.entry(manifest.file().clone()).or_default().push(manifest);
    }
    let mut files = Vec::new();
    for input in inputs {
        let manifests = of_file.remove(input.path).unwrap_or_default().into_iter();
        let manifests =
            manifests.map(|manifest| named_by_build(manifest, &input.place)).collect::<Result<Vec<_>, _>>()?;
        let is_plain = manifests.iter().all(|manifest| manifest.content() == Content::Plain);
        if !is_plain || has_block(input, request.limits) {
            let change = Some(Change::Write(manifests));
            files.push(Made { path: input.path, digest: None, documents: Arc::default(), change });
        }
    }
    Ok(files)
}

/// What delivers a Secret, as it has to stand in Git beside the document: a build makes its name of that one.
///
/// # Errors
/// [`DocumentProblem::NotListed`] for an object that the build makes of none.
pub fn beside_its_document(files: &Files, manifest: Manifest) -> Result<Manifest, Refusal> {
    match files.place(manifest.file()).cloned() {
        Some(place) => named_by_build(manifest, &place),
        None => Ok(manifest),
    }
}

/// The same object, under the name that the build turns into its own where it is one of regent's: what stands in Git has
/// such a name.
fn named_by_build(manifest: Manifest, place: &Place) -> Result<Manifest, Refusal> {
    match manifest.content() {
        Content::Plain | Content::Values | Content::Sealed => Ok(manifest),
        Content::Stub | Content::Delivery => match made_of(manifest.identity(), place).map(str::to_owned) {
            Some(own) => Ok(manifest.written_as(&own)),
            // Its name is encrypted, and it was handed over when the build gave another.
            None => Err(Refusal::Document { file: manifest.file().clone(), problem: DocumentProblem::NotListed }),
        },
    }
}

/// The name of the object of which a build makes this one; `None` where it makes it of none.
fn made_of<'n>(identity: &'n Identity, place: &Place) -> Option<&'n str> {
    let is_in_place = place.namespace.is_none() || place.namespace == identity.namespace;
    place.own(&identity.name).filter(|_| is_in_place)
}

/// Whether SOPS, age or PGP wrote the file, also where nothing in it is encrypted: the controller would ask for its key.
fn has_block(input: &Input<'_>, limits: &Limits) -> bool {
    match input.form {
        Form::Whole(..) | Form::Generated(_) => true,
        Form::Manifest(format) => {
            is_encrypted(input.path, input.bytes)
                && matches!(Document::parse(input.bytes, format, limits), Ok(Document::Sealed(_)))
        }
    }
}

/// All files, those with encrypted documents encrypted to regent.
fn sealed<'a>(request: &Request<'_>, inputs: &[Input<'a>], mut parsed: Parsed) -> Result<Vec<Made<'a>>, Refusal> {
    if request.wrapping.is_empty() {
        return Err(Refusal::NoWrappingKey);
    }
    let scope = Scope { bootstrap: Some(request.bootstrap), namespaces: request.namespaces };
    let is_known = request.known.is_of(request);
    let mut files = Vec::with_capacity(inputs.len());
    for chunk in inputs.chunks(CHUNK) {
        if request.keys.is_stopped() {
            return Err(Refusal::Stopped);
        }
        let answer = |(input, parsed): (&Input<'a>, Option<Sealed>)| {
            let digest = Digest::of(input);
            match digest.filter(|_| is_known).and_then(|digest| request.known.file(input.path, digest)) {
                Some(KnownFile { documents, name }) => {
                    let (documents, change) = (Arc::clone(documents), name.clone().map(Change::Same));
                    Ok(Made { path: input.path, digest, documents, change })
                }
                None => file(request, &scope, input, parsed).map(|it| it.made(input.path, digest)),
            }
        };
        let parsed_before = |input: &Input<'_>| match input.form {
            Form::Manifest(format) => parsed.take(input.path, format),
            Form::Whole(..) | Form::Generated(_) => None,
        };
        let before: Vec<_> = chunk.iter().map(parsed_before).collect();
        let answers: Vec<_> = chunk.par_iter().zip(before).map(answer).collect();
        for (input, answer) in chunk.iter().zip(answers) {
            files.push(answer.map_err(|problem| refusal(input, problem))?);
        }
    }
    render::unique(files.iter().flat_map(|file| file.documents.iter().map(|identity| (identity, file.path))))?;
    Ok(files)
}

/// Files worked on between two looks at the first refusal.
const CHUNK: usize = 512;

/// One file's documents, judged.
struct File {
    manifests: Vec<Manifest>,
    /// Whether SOPS, age or PGP wrote it.
    is_encrypted: bool,
}

impl File {
    fn made(self, path: &FilePath, digest: Option<Digest>) -> Made<'_> {
        let documents = self.manifests.iter().map(|manifest| manifest.identity().clone()).collect();
        let change = self.is_encrypted.then_some(Change::Write(self.manifests));
        Made { path, digest, documents, change }
    }
}

fn file(request: &Request<'_>, scope: &Scope<'_>, input: &Input<'_>, parsed: Option<Sealed>) -> Result<File, Problem> {
    let anew = |opened: &[Branch]| {
        let objects = objects(opened, View::Opened).into_iter();
        objects.map(|object| document(request, scope, input, &object?, None)).collect::<Result<Vec<_>, _>>()
    };
    match input.form {
        Form::Whole(envelope, inner) => {
            let opened = envelope::open_manifests(input.bytes, envelope, inner, request.keys, request.limits);
            Ok(File { manifests: anew(opened.map_err(at_file)?.documents())?, is_encrypted: true })
        }
        Form::Generated(generator) => {
            let secret = generator.open(scope.bootstrap, request.keys, request.limits).map_err(at_file)?;
            Ok(File { manifests: anew(std::slice::from_ref(&secret))?, is_encrypted: true })
        }
        Form::Manifest(format) => match parsed.map_or_else(
            || Document::parse(input.bytes, format, request.limits).map_err(at_file),
            |sealed| Ok(Document::Sealed(sealed)),
        )? {
            Document::Clear(tree) => {
                let objects = objects(&tree.documents, View::Clear).into_iter();
                let plain = objects.map(|object| render::value(request.ruling, scope, input, &object?));
                Ok(File { manifests: plain.collect::<Result<_, _>>()?, is_encrypted: false })
            }
            Document::Sealed(sealed) => {
                render::mac_scope(&sealed, scope.bootstrap).map_err(at_file)?;
                let selection = sealed.selection();
                let closed: Vec<_> = sealed.documents().iter().map(|it| one_object(it, View::Sealed)).collect();
                let (opened, data_key) = sealed.open_with_key(request.keys).map_err(at_file)?;
                let mut manifests = Vec::with_capacity(closed.len());
                for (closed, opened) in closed.into_iter().zip(opened.documents()) {
                    // The items of a list are documents of their own for kustomize, and each would need the list's block.
                    match (closed, one_object(opened, View::Opened)) {
                        (Some(closed), Some(opened)) => {
                            let closed = Closed { tree: closed.tree, selection: &selection, data_key: &data_key };
                            manifests.push(document(request, scope, input, &opened, Some(closed))?);
                        }
                        (Some(_) | None, _) => manifests.extend(anew(std::slice::from_ref(opened))?),
                    }
                }
                Ok(File { manifests, is_encrypted: true })
            }
        },
    }
}

/// The object of a document that holds one.
fn one_object(document: &Branch, view: View) -> Option<Object> {
    let mut objects = objects(std::slice::from_ref(document), view).into_iter();
    match (objects.next(), objects.next()) {
        (Some(Ok(object)), None) => Some(object),
        (Some(Ok(_) | Err(_)) | None, _) => None,
    }
}

/// A document as it stands encrypted in its file.
struct Closed<'a> {
    tree: Branch,
    selection: &'a Selection,
    data_key: &'a DataKey,
}

/// Judges a document as every front door does, and encrypts it to regent where it was encrypted.
fn document(
    request: &Request<'_>,
    scope: &Scope<'_>,
    input: &Input<'_>,
    object: &Object,
    closed: Option<Closed<'_>>,
) -> Result<Manifest, Problem> {
    let judged = render::value(request.ruling, scope, input, object)?;
    match judged.class() {
        Class::Plain => Ok(judged),
        Class::Handover | Class::Permanent { .. } => {
            told_by_nobody(object, judged.identity()).map_err(|problem| object.problem(problem))?;
            let tree = encrypted(request, scope, input, object, judged.identity(), closed);
            let tree = tree.map_err(|error| object.problem(error))?;
            judged.sealed(tree).map_err(|problem| object.problem(problem))
        }
    }
}

/// Values of a wrong type are printed by the API server and by kustomize-controller. Secrets are judged for that already.
fn told_by_nobody(object: &Object, identity: &Identity) -> Result<(), SecretProblem> {
    if (identity.api_version.as_str(), identity.kind.as_str()) != ("v1", "ConfigMap") {
        return Ok(());
    }
    for field in ["data", "binaryData"] {
        let is_text = match object.tree.get(field) {
            None | Some(Node::Leaf(Leaf { scalar: Scalar::Null, .. })) => true,
            Some(Node::Map(map)) => map
                .entries()
                .all(|entry| matches!(&entry.value, Node::Leaf(Leaf { scalar: Scalar::Null | Scalar::Text(_), .. }))),
            Some(Node::Leaf(_) | Node::List(_)) => false,
        };
        if !is_text {
            return Err(SecretProblem::BadField { field: field.to_owned(), expected: "a mapping of text" });
        }
    }
    Ok(())
}

/// The document, guarded and encrypted to regent: as it stands where its rule lets the controller read it so, else anew.
fn encrypted(
    request: &Request<'_>,
    scope: &Scope<'_>,
    input: &Input<'_>,
    object: &Object,
    identity: &Identity,
    closed: Option<Closed<'_>>,
) -> Result<Branch, regent_sops::Error> {
    let is_secret = identity.is_secret();
    let label = scope.authority().filter(|_| is_secret);
    // Only the namespace that `secrets.namespace` gives; any other is the document's own, or the kustomization's to set.
    let has_own = object.tree.public_text(&["metadata", "namespace"]).is_some_and(|own| !own.is_empty());
    let namespace = identity.namespace.as_deref().filter(|_| !has_own && input.place.namespace.is_none());
    let guarded = |mut tree: Branch| {
        if let Some(namespace) = namespace {
            guard::mapping(&mut tree, "metadata").set("namespace", Node::text(namespace));
        }
        guard::guard(&mut tree, label);
        tree
    };
    let engine = bound::engine(&request.bound.authority);
    let key = request.bound.kustomization.name();
    let context = request.bound.context();
    let enc = |data_key: &DataKey| request.wrapping.wrap(data_key, &context).map(|it| request.bound.enc(&it));
    let stanza = Stanza { address: request.endpoint, engine: &engine, key, enc: "" };
    if let Some(Closed { tree, selection, data_key }) = closed
        && selection.is_portable()
        && CLEAR.iter().all(|path| selection.leaves_clear(path))
        && let Some(enc) = enc(data_key)
        && let Ok(tree) = selection.repoint(guarded(tree), data_key, &Stanza { enc: &enc, ..stanza })
        && gate::check_sealed(&tree).is_ok()
    {
        return Ok(tree);
    }
    let mut tree = guarded(object.tree.duplicate());
    drop_last_applied(&mut tree);
    let selection = if is_secret { Selection::of_secret() } else { Selection::of_fields(&tree) };
    let data_key = request.wrapping.data_key(&context, &tree.to_json_line()?);
    let (data_key, enc) = data_key
        .and_then(|data_key| enc(&data_key).map(|enc| (data_key, enc)))
        .expect("whoever gets here has a wrapping key: an artifact of values is refused without");
    selection.seal(&tree, &data_key, &Stanza { enc: &enc, ..stanza })
}

/// What has to stand in the clear, so that kustomize finds and changes it, and guards can be added.
const CLEAR: [&[&str]; 6] = [
    &["apiVersion"],
    &["kind"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "labels", guard::AUTHORITY],
    &["metadata", "annotations", guard::FLUX_PRUNE],
];

/// `kubectl` keeps a Secret's values a second time in this annotation. Where it was encrypted it must not stand in the
/// clear; the controller applies server-side and takes it off anyway.
fn drop_last_applied(tree: &mut Branch) {
    let annotations = guard::section(tree, "annotations");
    if let Some(Node::Leaf(Leaf { origin: Origin::Decrypted, .. })) = annotations.get(LAST_APPLIED) {
        annotations.remove(LAST_APPLIED);
    }
}

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The name in the artifact, `None` where another file has it. A kustomization lists files by their names. Without one
/// kustomize-controller takes what ends in `.yaml` or `.yml`, so a file encrypted as a whole gets the name of what is in
/// it, and JSON, which is YAML too, an ending more. None of them may become a kustomization.
pub(crate) fn name_in_artifact(files: &Files, bootstrap: &Bootstrap, path: &FilePath) -> Option<FilePath> {
    let inner = envelope::Envelope::of_name(path.file_name()).map_or(path.file_name(), |(_, inner)| inner);
    let is_json = regent_sops::Format::of_name(inner) == regent_sops::Format::Json;
    let name = if is_json { format!("{inner}.yaml") } else { inner.to_owned() };
    if name == path.file_name() || files::is_listed_by_name(files, bootstrap, path) {
        return Some(path.clone());
    }
    let full = path.parent().map_or_else(|| name.clone(), |folder| format!("{folder}/{name}"));
    let is_free = |full: &FilePath| files.get(full).is_none() && files::is_manifest(full.file_name());
    FilePath::parse(&full).ok().filter(is_free)
}

/// Whether a file that nobody judged looks encrypted; no artifact holds it: were there a key for it in the cluster, it
/// would pass by the rules. Text and beginnings alone are looked at, so a file that only speaks of ciphertext goes too.
pub fn is_encrypted(path: &FilePath, bytes: &[u8]) -> bool {
    const MARKS: [&[u8]; 3] =
        [b"ENC[AES256_GCM,", b"-----BEGIN AGE ENCRYPTED FILE-----", b"-----BEGIN PGP MESSAGE-----"];
    // What nearly every byte is not is looked at first: a file has megabytes.
    let begins = |(at, byte): (usize, &u8)| {
        matches!(byte, b'E' | b'-')
            && bytes.get(at..).is_some_and(|rest| MARKS.iter().any(|mark| rest.starts_with(mark)))
    };
    envelope::Envelope::of_name(path.file_name()).is_some()
        || bytes.starts_with(b"age-encryption.org/")
        || bytes.iter().enumerate().any(begins)
}

#[cfg(test)]
mod tests;
