//! From files to manifests: classes, opening, permits, guards.
//!
//! ```text
//! Mode::Values, Mode::Unasked   Sealed -> Opened -> object -> class -> Permit -> Manifest
//! Mode::Stubs                   Sealed -> object -> list -> stub          nothing is opened, no key is needed
//! ```
//! Files are worked on in parallel; the answer, also which refusal is told, depends on their order
//! alone.

use crate::after::Stub;
use crate::after::delivery::Delivery;
use crate::authority::{Mode, Ruling};
use crate::bootstrap::{Bootstrap, MacOnlyEncrypted};
use crate::emit::{Content, Identity, Manifest, Placed};
use crate::evidence::{DocumentList, ListedClass, ListedDocument};
use crate::files::{self, Files, Form, Input};
use crate::flux::generator::{self, Generator};
use crate::flux::substitution;
use crate::gate::{self, GateProblem};
use crate::handover::copy::{self, Copy};
use crate::import::Importation;
use crate::kustomization;
use crate::name::{AuthorityName, FilePath, Namespace, SecretName};
use crate::object::{Meta, Object, Problem, View, objects};
use crate::refusal::{DocumentProblem, GeneratorProblem, Refusal};
use crate::secret::{self, SecretProblem};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use regent_sops::{Document, Limits, Opener, envelope};
use std::collections::{HashMap, HashSet};

/// Everything a rendering is a function of.
pub struct Request<'a> {
    /// The root's files.
    pub files: &'a Files,
    /// The folder of the root that was asked for, where that is not all of it: only what lies in it, or what
    /// its kustomizations reach in the root, is answered. Kustomizations above it do not count, as neither
    /// Argo CD nor kustomize looks there; a folder in which nothing lies is refused.
    pub folder: Option<&'a FilePath>,
    /// Its `regent.yaml`. Without one any folder of SOPS manifests is rendered, for a person: described,
    /// or on that person's own assumption (a front door's ruling comes from a `regent.yaml`).
    pub bootstrap: Option<&'a Bootstrap>,
    /// What may be answered.
    pub ruling: &'a Ruling,
    /// The identities of the rule that admitted the request.
    pub keys: Opener<'a>,
    /// Namespaces that the rule allows; `*` for all.
    pub namespaces: &'a [String],
    /// Bounds of each document.
    pub limits: &'a Limits,
    /// Which front door asks: stubs differ.
    pub door: Door,
}

/// Who applies the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Argo CD: `hook: Skip`.
    ArgoCd,
    /// Flux: `ssa: Ignore`, `prune: disabled`.
    Flux,
}

/// How an object is treated over the phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Copied to Vault, then owned by it.
    Handover,
    /// Stays in Git for the next bootstrap.
    Permanent {
        /// Whether it is copied to Vault too.
        vault: bool,
    },
    /// Holds nothing encrypted: passes in every phase.
    Plain,
}

/// So few files are done sooner than other threads are woken: where data keys are remembered a file takes 50 µs.
const FEW: usize = 16;

/// Files worked on between two looks at the first refusal.
const CHUNK: usize = 512;

/// Renders a root: every manifest, or one refusal (the first by file order).
pub fn render(request: &Request<'_>) -> Result<Vec<Manifest>, Refusal> {
    let (inputs, errors) = files::inputs(request.files, request.folder, request.bootstrap, request.limits);
    if let Some(error) = errors.into_iter().next() {
        return Err(error.into());
    }
    let scope = Scope { bootstrap: request.bootstrap, namespaces: request.namespaces };
    let listed = match request.ruling.mode() {
        Mode::Stubs(DocumentList::Readable(documents)) => Some(List::of(documents, renamed(request, &inputs))),
        Mode::Stubs(DocumentList::Unreadable) | Mode::Values | Mode::Unasked => None,
    };
    let mut manifests = Vec::with_capacity(inputs.len());
    for chunk in inputs.chunks(CHUNK) {
        if request.keys.is_stopped() {
            return Err(Refusal::Stopped);
        }
        let answer = |input| match request.ruling.mode() {
            Mode::Values | Mode::Unasked => values(request, &scope, input),
            Mode::Stubs(_) => stubs(request, &scope, listed.as_ref(), input),
        };
        let answers: Vec<_> = if chunk.len() <= FEW {
            chunk.iter().map(answer).collect()
        } else {
            chunk.par_iter().map(answer).collect()
        };
        for (input, answer) in chunk.iter().zip(answers) {
            manifests.extend(answer.map_err(|problem| refusal(input, problem))?);
        }
    }
    let manifests = give_way(manifests);
    unique(manifests.iter().map(applied))?;
    Ok(manifests)
}

/// An object that a person wrote into the root stands: what was told to commit stays what is applied.
fn give_way(manifests: Vec<Manifest>) -> Vec<Manifest> {
    let delivers = |manifest: &Manifest| manifest.content() == Content::Delivery;
    if !manifests.iter().any(delivers) {
        return manifests;
    }
    let written = manifests.iter().filter(|manifest| !delivers(manifest));
    let written: HashSet<_> = written.map(|manifest| key_of(manifest.identity())).collect();
    let gives_way = |manifest: &Manifest| delivers(manifest) && written.contains(&key_of(manifest.identity()));
    let stays: Vec<_> = manifests.iter().map(|manifest| !gives_way(manifest)).collect();
    manifests.into_iter().zip(stays).filter_map(|(manifest, stays)| stays.then_some(manifest)).collect()
}

/// Every encrypted document of the whole root, opened, for a handover: Secrets that Vault gets with their values, others
/// by name alone. In the order of files.
///
/// # Errors
/// Whatever [`render`] refuses while Git rules; and every ruling but one of values, before anything is opened.
pub fn copies(request: &Request<'_>) -> Result<Vec<Copy>, Refusal> {
    let (inputs, errors) = files::inputs(request.files, None, request.bootstrap, request.limits);
    if let Some(error) = errors.into_iter().next() {
        return Err(error.into());
    }
    match (request.ruling.mode(), request.bootstrap, inputs.first()) {
        (Mode::Values, Some(_), _) => opened_copies(request, &inputs),
        (Mode::Values, None, _) | (Mode::Unasked, _, _) | (Mode::Stubs(_), _, None) => Err(Refusal::Unasked),
        (Mode::Stubs(_), _, Some(first)) => {
            let problem = DocumentProblem::Gate(GateProblem::VaultRules);
            Err(Refusal::Document { file: first.path.clone(), problem })
        }
    }
}

/// The same of files of an older revision, whoever rules: to be compared with what Vault holds. Without a decision to copy
/// nothing of a [`Copy`] leaves.
///
/// # Errors
/// Whatever [`render`] refuses while Git rules.
pub fn compared(request: &Request<'_>) -> Result<Vec<Copy>, Refusal> {
    let (inputs, errors) = files::inputs(request.files, None, request.bootstrap, request.limits);
    let inputs: Vec<Input<'_>> = inputs.into_iter().map(past_flux).collect();
    match errors.into_iter().next() {
        Some(error) => Err(error.into()),
        None => opened_copies(request, &inputs),
    }
}

/// A file of which nothing goes through Flux any more, so that nothing of its values is changed on the way.
fn past_flux(mut input: Input<'_>) -> Input<'_> {
    input.place.substituted = false;
    input
}

fn opened_copies(request: &Request<'_>, inputs: &[Input<'_>]) -> Result<Vec<Copy>, Refusal> {
    let scope = Scope { bootstrap: request.bootstrap, namespaces: request.namespaces };
    let mut found: Vec<Copy> = Vec::new();
    for chunk in inputs.chunks(CHUNK) {
        if request.keys.is_stopped() {
            return Err(Refusal::Stopped);
        }
        let answers: Vec<_> = chunk.par_iter().map(|input| copies_of(request, &scope, input)).collect();
        for (input, answer) in chunk.iter().zip(answers) {
            found.extend(answer.map_err(|problem| refusal(input, problem))?);
        }
    }
    named_once(&found)?;
    Ok(found)
}

/// The document of an import, opened although Vault rules, and held for Vault alone: at most one. Of the root only what
/// may hold it is opened: a file that shows its name, or one that hides names and is not as it was listed.
///
/// # Errors
/// A file of those that is refused, the document standing twice, and every ruling but that nobody was asked: what a
/// decision gives leave for is for Vault, and never an answer.
pub(crate) fn imported(
    request: &Request<'_>,
    importation: &Importation,
    blob: &dyn Fn(&[u8]) -> String,
) -> Result<Vec<Copy>, Refusal> {
    let (inputs, errors) = files::inputs(request.files, None, request.bootstrap, request.limits);
    if let Some(error) = errors.into_iter().next() {
        return Err(error.into());
    }
    match (request.ruling.mode(), request.bootstrap) {
        (Mode::Unasked, Some(_)) => {}
        (Mode::Unasked, None) | (Mode::Values | Mode::Stubs(_), _) => return Err(Refusal::Unasked),
    }
    let scope = Scope { bootstrap: request.bootstrap, namespaces: request.namespaces };
    let mut found = Vec::new();
    for input in inputs {
        let is_asked = match shows(request, &scope, &input, importation) {
            Shows::It => true,
            Shows::Others => false,
            Shows::NotAll => !importation.knows(input.path, &blob(input.bytes)),
        };
        if is_asked {
            let copies = copies_of(request, &scope, &input).map_err(|problem| refusal(&input, problem))?;
            let is_it = |copy: &Copy| copy.name() == importation.name() && copy.kind() == importation.kind();
            found.extend(copies.into_iter().filter(is_it));
        }
    }
    named_once(&found)?;
    Ok(found)
}

/// What a file shows of its encrypted documents without being opened.
enum Shows {
    /// The one that is asked for.
    It,
    /// Others, and all of them.
    Others,
    /// Not all of them.
    NotAll,
}

/// What cannot be read shows nothing: where it is new it is opened, and then told.
fn shows(request: &Request<'_>, scope: &Scope<'_>, input: &Input<'_>, importation: &Importation) -> Shows {
    let format = match input.form {
        Form::Manifest(format) => format,
        Form::Whole(..) => return Shows::NotAll,
        Form::Generated(generator) => {
            let (name, kind) = (importation.name(), importation.kind());
            let is_it = kind == "Secret"
                && generator.namespace() == name.namespace().as_str()
                && generator.may_be_named(name.name());
            // Two that are listed could not be told apart once nothing is opened.
            let has_another = generator.known_name().is_none() && importation.knows_file(input.path);
            return if is_it && !has_another { Shows::It } else { Shows::Others };
        }
    };
    let sealed = match Document::parse(input.bytes, format, request.limits) {
        Ok(Document::Clear(_)) => return Shows::Others,
        Ok(Document::Sealed(sealed)) => sealed,
        Err(_) => return Shows::NotAll,
    };
    let mut shows = Shows::Others;
    for object in objects(sealed.documents(), View::Sealed) {
        let Ok(object) = object else { return Shows::NotAll };
        let Ok(Some(meta)) = input.meta(&object) else {
            shows = Shows::NotAll;
            continue;
        };
        let namespace = scope.namespace(&object, &meta, input.place.namespace.as_deref());
        let (name, kind) = (importation.name(), importation.kind());
        if meta.name == name.name()
            && copy::kind(&meta.api_version, &meta.kind) == kind
            && namespace.is_ok_and(|it| it.as_deref() == Some(name.namespace().as_str()))
        {
            return Shows::It;
        }
    }
    shows
}

/// Two documents of one kind and name have one place in Vault.
fn named_once(copies: &[Copy]) -> Result<(), Refusal> {
    let mut seen: HashMap<_, &FilePath> = HashMap::with_capacity(copies.len());
    for copy in copies {
        if let Some(other) = seen.insert((copy.kind(), copy.name()), copy.file()) {
            let problem = DocumentProblem::TwoObjects { identity: copy.identity().to_string(), other: other.clone() };
            return Err(Refusal::Document { file: copy.file().clone(), problem });
        }
    }
    Ok(())
}

/// The copies of one file. A file that is encrypted as a whole has at least one document, or the handover would not know
/// what it is about.
fn copies_of(request: &Request<'_>, scope: &Scope<'_>, input: &Input<'_>) -> Result<Vec<Copy>, Problem> {
    let objects = opened(input, request.bootstrap, request.keys, request.limits).map_err(at_file)?;
    if objects.is_empty() && matches!(input.form, Form::Whole(..)) {
        return Err(at_file(DocumentProblem::NotAnObject { field: "kind", line: 0 }));
    }
    let copies = objects.into_iter().map(|object| copy(request, scope, input, &object?));
    copies.filter_map(Result::transpose).collect()
}

/// Whatever a front door would not apply is not handed over either, so a copy is made from the manifest.
fn copy(request: &Request<'_>, scope: &Scope<'_>, input: &Input<'_>, object: &Object) -> Result<Option<Copy>, Problem> {
    let manifest = value(request.ruling, scope, input, object)?;
    if manifest.class() == Class::Plain {
        return Ok(None);
    }
    let identity = manifest.identity();
    let name = secret::name(identity.namespace.as_deref().unwrap_or_default(), &identity.name);
    let name = name.map_err(|problem| object.problem(problem))?;
    let encoding = request.bootstrap.and_then(|bootstrap| bootstrap.secrets.encoding.get(&name).copied());
    Ok(Some(Copy::of(manifest, name, encoding)))
}

/// The Secret of this name, opened: for a person who compares it or brings it back. Of the root only what may hold it is
/// opened, so that no other file stands in the way: a file that shows the name, or the one that the handover lists where
/// names are encrypted. `None` where no file holds it.
pub fn one(request: &Request<'_>, name: &SecretName, listed: &FilePath) -> Result<Option<Manifest>, Refusal> {
    // What is wrong with other files of the folder is not asked about here.
    let (inputs, _) = files::inputs(request.files, request.folder, request.bootstrap, request.limits);
    let inputs: Vec<Input<'_>> = inputs.into_iter().map(past_flux).collect();
    let scope = Scope { bootstrap: request.bootstrap, namespaces: request.namespaces };
    let mut found = Vec::new();
    for input in inputs.iter().filter(|input| may_hold(request, &scope, input, name, listed)) {
        let manifests = values(request, &scope, input).map_err(|problem| refusal(input, problem))?;
        found.extend(manifests.into_iter().filter(|manifest| manifest.is_secret(name)));
    }
    unique(found.iter().map(applied))?;
    Ok(found.pop())
}

/// Whether a file shows a Secret of this name, or hides its names and is the listed one. One that cannot be parsed is
/// only asked about where it is the listed one.
fn may_hold(request: &Request<'_>, scope: &Scope<'_>, input: &Input<'_>, name: &SecretName, listed: &FilePath) -> bool {
    let is_listed = input.path == listed;
    let format = match input.form {
        Form::Manifest(format) => format,
        Form::Whole(..) => return is_listed,
        Form::Generated(generator) => {
            return generator.namespace() == name.namespace().as_str() && generator.may_be_named(name.name());
        }
    };
    let Ok(Document::Sealed(sealed)) = Document::parse(input.bytes, format, request.limits) else { return is_listed };
    objects(sealed.documents(), View::Sealed).iter().any(|object| {
        let Ok(object) = object else { return is_listed };
        let Ok(Some(meta)) = input.meta(object) else { return is_listed };
        let namespace = scope.namespace(object, &meta, input.place.namespace.as_deref());
        meta.is_secret()
            && meta.name == name.name()
            && namespace.is_ok_and(|it| it.as_deref() == Some(name.namespace().as_str()))
    })
}

/// A problem of one file as a refusal of the answer.
pub(crate) fn refusal(input: &Input<'_>, problem: Problem) -> Refusal {
    let problem = told(input, problem).problem;
    let (file, problem) = if let DocumentProblem::Input { file, problem } = problem {
        (file, *problem)
    } else {
        (input.path.clone(), problem)
    };
    if let DocumentProblem::Sops(regent_sops::Error::Stopped) = problem {
        return Refusal::Stopped;
    }
    Refusal::Document { file, problem }
}

/// Files that a kustomization above the asked folder puts into another namespace than the folder's own
/// do. The list was made from the whole root and has names that no answer for the folder ever had.
fn renamed<'a>(request: &Request<'a>, inputs: &[Input<'a>]) -> HashSet<&'a FilePath> {
    if request.folder.is_none() {
        return HashSet::new();
    }
    let (of_root, _) = files::inputs(request.files, None, request.bootstrap, request.limits);
    let of_root: HashMap<_, _> = of_root.into_iter().map(|input| (input.path, input.place)).collect();
    let is_renamed = |input: &&Input<'a>| of_root.get(input.path).is_some_and(|there| *there != input.place);
    inputs.iter().filter(is_renamed).map(|input| input.path).collect()
}

/// What the root and the rule say about any object.
pub(crate) struct Scope<'a> {
    pub(crate) bootstrap: Option<&'a Bootstrap>,
    pub(crate) namespaces: &'a [String],
}

impl Scope<'_> {
    /// Whose label the Secrets carry.
    pub(crate) fn authority(&self) -> Option<&AuthorityName> {
        self.bootstrap.map(|bootstrap| &bootstrap.name)
    }

    /// The effective namespace: the outermost kustomization's, as kustomize would replace it, else the
    /// document's, else (Secrets and encrypted objects) `secrets.namespace`, else an error. Objects
    /// outside namespaces have none; encrypted ones of them are refused, because no witness could list
    /// them. Without a `regent.yaml` nothing is applied, and a missing namespace is only shown as such.
    pub(crate) fn namespace(
        &self,
        object: &Object,
        meta: &Meta,
        kustomization: Option<&str>,
    ) -> Result<Option<String>, Problem> {
        let ours = meta.is_secret() || object.is_encrypted();
        if let Some(namespace) = kustomization
            && kustomization::changes_more(&object.tree, meta, namespace)
        {
            return Err(object.problem(DocumentProblem::KustomizationNamespace { kind: meta.kind.clone() }));
        }
        let fallback = self
            .bootstrap
            .and_then(|bootstrap| bootstrap.secrets.namespace.as_ref())
            .filter(|_| ours)
            .map(Namespace::as_str);
        let effective = if kustomization::is_cluster_scoped(meta) {
            None
        } else {
            kustomization.or(meta.namespace.as_deref()).or(fallback)
        };
        match effective {
            None if ours && self.bootstrap.is_some() => {
                Err(object.problem(DocumentProblem::NoNamespace { kind: meta.kind.clone(), name: meta.name.clone() }))
            }
            None => Ok(None),
            Some(namespace) => {
                if ours {
                    Namespace::parse(namespace).map_err(|error| object.problem(SecretProblem::Name(error)))?;
                }
                if !self.allows(namespace) {
                    let namespace = namespace.to_owned();
                    return Err(object.problem(DocumentProblem::NamespaceNotAllowed { namespace }));
                }
                Ok(Some(namespace.to_owned()))
            }
        }
    }

    /// The class, by what the document holds and what `regent.yaml` lists.
    pub(crate) fn class(&self, object: &Object, meta: &Meta, namespace: Option<&str>) -> Result<Class, Problem> {
        match (object.is_encrypted(), meta.is_secret()) {
            (true, true) => {
                let (Some(namespace), Some(bootstrap)) = (namespace, self.bootstrap) else {
                    return Ok(Class::Handover);
                };
                let name = secret::name(namespace, &meta.name).map_err(|problem| object.problem(problem))?;
                let permanent = bootstrap.permanent(&name);
                Ok(permanent.map_or(Class::Handover, |permanent| Class::Permanent { vault: permanent.vault }))
            }
            (true, false) => {
                if self.bootstrap.is_none_or(|bootstrap| bootstrap.kind_allowed(&meta.kind) && meta.kind != "Secret") {
                    return Ok(Class::Permanent { vault: false });
                }
                Err(object.problem(DocumentProblem::EncryptedKind { kind: meta.kind.clone() }))
            }
            // A Secret without any value is refused as well: applied over a live one it deletes the values.
            (false, true) => {
                let name = secret::name(namespace.unwrap_or("default"), &meta.name);
                let name = name.map_err(|problem| object.problem(problem))?;
                if self.bootstrap.is_some_and(|bootstrap| bootstrap.is_plain(&name)) {
                    return Ok(Class::Plain);
                }
                Err(object.problem(DocumentProblem::ClearSecret(name)))
            }
            (false, false) => Ok(Class::Plain),
        }
    }

    fn allows(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|allowed| allowed == "*" || allowed == namespace)
    }
}

/// Whether the file's MAC covers enough; asked before it is opened.
pub(crate) fn mac_scope(sealed: &regent_sops::Sealed, bootstrap: Option<&Bootstrap>) -> Result<(), DocumentProblem> {
    let policy = bootstrap.map_or(MacOnlyEncrypted::Refuse, |bootstrap| bootstrap.secrets.mac_only_encrypted);
    match policy {
        MacOnlyEncrypted::Refuse if sealed.mac_only_encrypted() => Err(DocumentProblem::MacOnlyEncrypted),
        MacOnlyEncrypted::Refuse | MacOnlyEncrypted::Allow => Ok(()),
    }
}

/// What may be told of a problem in this file.
pub(crate) fn told(input: &Input<'_>, problem: Problem) -> Problem {
    match input.form {
        Form::Whole(..) => problem.without_keys(),
        // The keys of what a generator reads stand in the clear: names of files, and what dotenv never encrypts.
        Form::Manifest(_) | Form::Generated(_) => problem,
    }
}

/// Opens one file and calls back with its objects; the opened tree goes when the call returns.
pub(crate) fn opened(
    input: &Input<'_>,
    bootstrap: Option<&Bootstrap>,
    keys: Opener<'_>,
    limits: &Limits,
) -> Result<Vec<Result<Object, Problem>>, DocumentProblem> {
    match input.form {
        Form::Whole(envelope, inner) => {
            let opened = envelope::open_manifests(input.bytes, envelope, inner, keys, limits)?;
            Ok(objects(opened.documents(), View::Opened))
        }
        Form::Manifest(format) => match Document::parse(input.bytes, format, limits)? {
            Document::Clear(tree) => Ok(objects(&tree.documents, View::Clear)),
            Document::Sealed(sealed) => {
                mac_scope(&sealed, bootstrap)?;
                Ok(objects(sealed.open(keys)?.documents(), View::Opened))
            }
        },
        Form::Generated(generator) => {
            let secret = generator.open(bootstrap, keys, limits)?;
            Ok(objects(std::slice::from_ref(&secret), View::Opened))
        }
    }
}

/// The manifests of one file while Git rules, or while nobody was asked.
fn values(request: &Request<'_>, scope: &Scope<'_>, input: &Input<'_>) -> Result<Vec<Manifest>, Problem> {
    let objects = opened(input, request.bootstrap, request.keys, request.limits).map_err(at_file)?;
    objects.into_iter().map(|object| value(request.ruling, scope, input, &object?)).collect()
}

/// Judges one object that is clear or opened: its manifest with all its values.
pub(crate) fn value(
    ruling: &Ruling,
    scope: &Scope<'_>,
    input: &Input<'_>,
    object: &Object,
) -> Result<Manifest, Problem> {
    let meta = named(input, object)?;
    let namespace = scope.namespace(object, &meta, input.place.namespace.as_deref())?;
    let class = scope.class(object, &meta, namespace.as_deref())?;
    if let (Form::Generated(_), Class::Permanent { .. }) = (input.form, class) {
        return Err(object.problem(GeneratorProblem::Permanent));
    }
    if let (Class::Handover | Class::Permanent { .. }, true) = (class, input.place.substituted) {
        substitution::check(object, meta.is_secret()).map_err(|problem| object.problem(problem))?;
    }
    let permit = gate::admit(object, ruling);
    let permit = permit.map_err(|problem| object.problem(problem))?;
    let manifest = match class {
        Class::Plain => {
            let write = writes_namespace(&meta, input);
            Manifest::plain(input.path, &permit, meta, namespace, write)
        }
        Class::Handover | Class::Permanent { .. } if meta.is_secret() => {
            let data = secret::data(object).map_err(|problems| first(object, problems))?;
            Manifest::secret(input.path, &permit, Placed { meta, namespace, class }, data, scope.authority())
        }
        Class::Handover | Class::Permanent { .. } => {
            if let Some(annotation) = secret::hook(object) {
                return Err(object.problem(SecretProblem::Hook { annotation }));
            }
            Manifest::other(input.path, &permit, Placed { meta, namespace, class })
        }
    };
    manifest.map_err(|problem| object.problem(problem))
}

/// The manifests of one file once Vault rules: nothing is opened.
fn stubs(
    request: &Request<'_>,
    scope: &Scope<'_>,
    list: Option<&List<'_>>,
    input: &Input<'_>,
) -> Result<Vec<Manifest>, Problem> {
    let (objects, view) = match input.form {
        Form::Whole(..) => return hidden(request, scope, list, input, 1, &[]),
        Form::Manifest(format) => match Document::parse(input.bytes, format, request.limits).map_err(at_file)? {
            Document::Clear(tree) => (objects(&tree.documents, View::Clear), View::Clear),
            Document::Sealed(sealed) => (objects(sealed.documents(), View::Sealed), View::Sealed),
        },
        Form::Generated(generator) => {
            let name = generated_name(list, generator).map_err(at_file)?;
            let secret = generator.closed(&name, request.limits).map_err(at_file)?;
            (objects(std::slice::from_ref(&secret), View::Sealed), View::Sealed)
        }
    };
    let mut manifests = Vec::new();
    let mut without_name = 0;
    for object in objects {
        let object = object?;
        match input.meta(&object)? {
            Some(meta) => manifests.extend(stub_or_plain(request, scope, list, input, &object, meta)?),
            None => without_name += 1,
        }
    }
    if without_name > 0 && view == View::Sealed {
        let known: Vec<Identity> = manifests.iter().map(|manifest| manifest.identity().clone()).collect();
        manifests.extend(hidden(request, scope, list, input, without_name, &known)?);
    }
    Ok(manifests)
}

/// The name of what a generator made before the handover: its own, or the listed one that ends in a hash. Where several
/// may be, the one of this very place.
fn generated_name(list: Option<&List<'_>>, generator: &Generator) -> Result<String, DocumentProblem> {
    if let Some(name) = generator.known_name() {
        return Ok(name.to_owned());
    }
    let list = list.ok_or(DocumentProblem::IdentityEncrypted)?;
    let is_it = |listed: &&ListedDocument| {
        listed.kind == "Secret"
            && listed.name.namespace().as_str() == generator.namespace()
            && generator.may_be_named(listed.name.name())
    };
    let here: Vec<_> = list.of_file(generator.document()).iter().copied().filter(is_it).collect();
    let elsewhere = || list.generated().filter(is_it).collect();
    let found = if here.is_empty() { elsewhere() } else { here };
    match found.as_slice() {
        [listed] => Ok(listed.name.name().to_owned()),
        [] => Err(DocumentProblem::NotListed),
        [..] => Err(GeneratorProblem::Ambiguous.into()),
    }
}

fn stub_or_plain(
    request: &Request<'_>,
    scope: &Scope<'_>,
    list: Option<&List<'_>>,
    input: &Input<'_>,
    object: &Object,
    meta: Meta,
) -> Result<Vec<Manifest>, Problem> {
    let namespace = scope.namespace(object, &meta, input.place.namespace.as_deref())?;
    let listed = list.and_then(|list| list.find(&meta, namespace.as_deref()));
    let class = match (scope.class(object, &meta, namespace.as_deref()), listed) {
        // A decrypted commit stays an error in every phase, and a refused kind was listed when it was allowed.
        (Err(problem), Some(listed)) if matches!(problem.problem, DocumentProblem::EncryptedKind { .. }) => {
            class_of(listed)
        }
        (Err(problem), Some(_) | None) => return Err(problem),
        (Ok(Class::Plain), Some(listed)) => class_of(listed),
        (Ok(class), Some(_) | None) => class,
    };
    let manifests = match (class, listed, list) {
        (Class::Plain, None, _) => {
            let permit = gate::admit(object, request.ruling);
            let permit = permit.map_err(|problem| object.problem(problem))?;
            let write = writes_namespace(&meta, input);
            Manifest::plain(input.path, &permit, meta, namespace, write).map(|manifest| vec![manifest])
        }
        (Class::Handover | Class::Permanent { .. }, None, Some(_)) => {
            return Err(object.problem(DocumentProblem::NotListed));
        }
        (Class::Plain | Class::Handover | Class::Permanent { .. }, Some(_), _)
        | (Class::Handover | Class::Permanent { .. }, None, None) => {
            let mut stub = Stub::of_object(object, meta, namespace);
            if request.files.is_built() && input.place.namespace.is_some() {
                stub.written.clone_from(&stub.meta.namespace);
            }
            stood_in(request, scope, input, stub, class, listed)
        }
    };
    manifests.map_err(|problem| object.problem(problem))
}

/// The stub, and beside it what delivers the Secret, once the handover that lists it is settled. Never where the list or
/// `regent.yaml` has it as permanent: of such a one Vault may hold no copy, and it is needed before there is an operator.
fn stood_in(
    request: &Request<'_>,
    scope: &Scope<'_>,
    input: &Input<'_>,
    stub: Stub,
    class: Class,
    listed: Option<&ListedDocument>,
) -> Result<Vec<Manifest>, GateProblem> {
    let exit = gate::exit(request.ruling);
    let delivered = match (listed, scope.bootstrap, request.ruling.settled()) {
        (Some(ListedDocument { name, class: ListedClass::Handover, .. }), Some(bootstrap), Some(place))
            if stub.meta.is_secret() && bootstrap.permanent(name).is_none() =>
        {
            let encoding = bootstrap.secrets.encoding.get(name).copied();
            let delivery = |after| Delivery { after, place, authority: &bootstrap.name };
            bootstrap.after.as_ref().and_then(|after| delivery(after).of(&stub, name, encoding, request.door))
        }
        (Some(_) | None, Some(_) | None, Some(_) | None) => None,
    };
    let mut manifests = vec![Manifest::stub(input.path, stub, class, request.door, scope.authority(), exit)?];
    if let Some(delivered) = delivered {
        manifests.push(Manifest::delivery(input.path, delivered, exit)?);
    }
    Ok(manifests)
}

/// Stubs for documents whose names are encrypted: what the list has for this file, beyond the
/// objects whose names are `known`. Fewer entries than documents: one of them was never handed over. In a
/// file that is renamed, none was by the name that it has here.
fn hidden(
    request: &Request<'_>,
    scope: &Scope<'_>,
    list: Option<&List<'_>>,
    input: &Input<'_>,
    documents: usize,
    known: &[Identity],
) -> Result<Vec<Manifest>, Problem> {
    let Some(list) = list else { return Err(at_file(DocumentProblem::IdentityEncrypted)) };
    let of_file = list.of_file(input.path);
    let left: Vec<Stub> = of_file.iter().map(|listed| Stub::of_listed(listed)).collect();
    let mut left: Vec<(Stub, &ListedDocument)> = left.into_iter().zip(of_file.iter().copied()).collect();
    let known: HashSet<_> = known.iter().map(key_of).collect();
    left.retain(|(Stub { meta, namespace, .. }, _)| {
        !known.contains(&(meta.group(), meta.kind.as_str(), namespace.as_deref(), meta.name.as_str()))
    });
    if left.len() < documents || list.renamed.contains(input.path) {
        return Err(at_file(DocumentProblem::NotListed));
    }
    let mut manifests = Vec::with_capacity(left.len());
    for (stub, listed) in left {
        if let Some(namespace) = stub.namespace.as_deref().filter(|namespace| !scope.allows(namespace)) {
            let namespace = namespace.to_owned();
            return Err(at_file(DocumentProblem::NamespaceNotAllowed { namespace }));
        }
        let stood_in = stood_in(request, scope, input, stub, class_of(listed), Some(listed));
        manifests.extend(stood_in.map_err(at_file)?);
    }
    Ok(manifests)
}

/// The list of handed-over documents, ready for look-ups.
pub(crate) struct List<'a> {
    /// By name, group and kind: the version is no part of what an object is.
    by_name: HashMap<(&'a SecretName, &'a str, &'a str), &'a ListedDocument>,
    by_file: HashMap<&'a FilePath, Vec<&'a ListedDocument>>,
    renamed: HashSet<&'a FilePath>,
}

impl<'a> List<'a> {
    pub(crate) fn of(documents: &'a [ListedDocument], renamed: HashSet<&'a FilePath>) -> Self {
        let mut list = Self { by_name: HashMap::new(), by_file: HashMap::new(), renamed };
        for listed in documents {
            let (api_version, kind) = listed.kind.rsplit_once('/').unwrap_or(("", &listed.kind));
            list.by_name.insert((&listed.name, group(api_version), kind), listed);
            list.by_file.entry(&listed.path).or_default().push(listed);
        }
        list
    }

    /// The entry of an object: same group and kind, namespace and name.
    pub(crate) fn find(&self, meta: &Meta, namespace: Option<&str>) -> Option<&'a ListedDocument> {
        let name = secret::name(namespace?, &meta.name).ok()?;
        self.by_name.get(&(&name, meta.group(), meta.kind.as_str())).copied()
    }

    /// Those that a generator made, wherever it stood: a path below a kustomization is no file's.
    fn generated(&self) -> impl Iterator<Item = &'a ListedDocument> {
        let is_below = |path: &FilePath| path.parent().is_some_and(|above| generator::is_kustomization(&above));
        self.by_file.iter().filter(move |(path, _)| is_below(path)).flat_map(|(_, listed)| listed.iter().copied())
    }

    pub(crate) fn of_file(&self, path: &FilePath) -> &[&'a ListedDocument] {
        self.by_file.get(path).map_or(&[], Vec::as_slice)
    }
}

fn class_of(listed: &ListedDocument) -> Class {
    match listed.class {
        ListedClass::Handover => Class::Handover,
        ListedClass::Permanent => Class::Permanent { vault: true },
    }
}

/// What makes an object this one: group, kind, namespace, name. The API version is no part of it.
fn key_of(identity: &Identity) -> (&str, &str, Option<&str>, &str) {
    let Identity { api_version, kind, namespace, name } = identity;
    (group(api_version), kind, namespace.as_deref(), name)
}

/// Which object a manifest is, and of which file.
fn applied(manifest: &Manifest) -> (&Identity, &FilePath) {
    (manifest.identity(), manifest.file())
}

/// Two objects of one kind, namespace and name cannot both be applied.
pub(crate) fn unique<'m>(objects: impl Iterator<Item = (&'m Identity, &'m FilePath)>) -> Result<(), Refusal> {
    let mut seen: HashMap<_, &FilePath> = HashMap::with_capacity(objects.size_hint().0);
    for (identity, file) in objects {
        if let Some(other) = seen.insert(key_of(identity), file) {
            let problem = DocumentProblem::TwoObjects { identity: identity.to_string(), other: other.clone() };
            return Err(Refusal::Document { file: file.clone(), problem });
        }
    }
    Ok(())
}

pub(crate) fn group(api_version: &str) -> &str {
    api_version.rsplit_once('/').map_or("", |(group, _)| group)
}

/// A plain object keeps its own namespace, unless a kustomization says another. A Secret's is always written.
fn writes_namespace(meta: &Meta, input: &Input<'_>) -> bool {
    meta.is_secret() || input.place.namespace.is_some()
}

/// The name of an object that was read whole.
fn named(input: &Input<'_>, object: &Object) -> Result<Meta, Problem> {
    let missing = DocumentProblem::NotAnObject { field: "metadata.name", line: object.line };
    input.meta(object)?.ok_or_else(|| object.problem(missing))
}

fn first(object: &Object, problems: Vec<(u32, SecretProblem)>) -> Problem {
    let first = problems.into_iter().next();
    let (line, problem) = first.unwrap_or((object.line, SecretProblem::ApiVersion));
    Problem { line, problem: problem.into() }
}

pub(crate) fn at_file(problem: impl Into<DocumentProblem>) -> Problem {
    Problem { line: 0, problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_knows_an_object_in_any_version_of_its_kind_and_in_no_other_kind() {
        let listed = |kind: &str| ListedDocument {
            path: FilePath::parse("a.yaml").unwrap(),
            name: SecretName::parse("app/db").unwrap(),
            kind: kind.to_owned(),
            class: ListedClass::Handover,
            blob: "0".repeat(40),
        };
        let documents = [listed("Secret"), listed("apps/v1/Deployment")];
        let list = List::of(&documents, HashSet::new());
        let found = |api_version: &str, kind: &str, namespace: &str| {
            let meta = Meta {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
                namespace: None,
                name: "db".to_owned(),
            };
            list.find(&meta, Some(namespace)).map(|listed| listed.kind.as_str())
        };
        assert_eq!(found("v1", "Secret", "app"), Some("Secret"));
        assert_eq!(found("apps/v1beta1", "Deployment", "app"), Some("apps/v1/Deployment"));
        assert_eq!(found("v1", "Deployment", "app"), None);
        assert_eq!(found("example.com/v1", "Secret", "app"), None);
        assert_eq!(found("v1", "Secret", "web"), None);
    }
}
