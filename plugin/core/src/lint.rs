//! Everything that is wrong with a root, found without a cluster.
//!
//! Every rule is asked of every document, and nothing stops at the first finding. With identities at
//! hand a document is opened as a rendering would open it; without one that fits it is read as far as
//! ciphertext tells (names, kinds, types, recipients), and a note says so.

use crate::bootstrap::{Bootstrap, BootstrapError};
use crate::evidence::{DocumentList, ListedDocument};
use crate::files::{self, FileProblem, Files, FilesError, Form, Input};
use crate::flux::artifact;
use crate::flux::reach::Site;
use crate::flux::reached::{self, Reason, Refused};
use crate::flux::substitution;
use crate::guard;
use crate::kustomization;
use crate::name::{FilePath, SecretName};
use crate::object::{Meta, Object, Problem, View, objects};
use crate::refusal::{DocumentProblem, GeneratorProblem};
use crate::render::{self, Class, List, Scope};
use crate::secret::{self, SecretProblem};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use regent_sops::{Document, Error, Limits, Opener, Recipient, Sealed, envelope};
use std::collections::{BTreeSet, HashMap, HashSet};

/// What is looked at.
pub struct Request<'a> {
    /// The root's files.
    pub files: &'a Files,
    /// Its `regent.yaml`, where it has one.
    pub bootstrap: Option<&'a Bootstrap>,
    /// `regent.yaml` files above the root.
    pub bootstraps_above: &'a [String],
    /// Identities at hand, possibly none.
    pub keys: Opener<'a>,
    /// Bounds of each document.
    pub limits: &'a Limits,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule it breaks.
    pub rule: Rule,
    /// How bad that is.
    pub severity: Severity,
    /// Where it is.
    pub spot: Spot,
    /// The line, where it is known.
    pub line: Option<u32>,
    /// What is wrong; names and rules, never values.
    pub message: String,
    /// What a person can do.
    pub way_out: String,
}

/// Where a finding is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spot {
    /// `regent.yaml` as a whole.
    Root,
    /// A file of the root, relative to it.
    File(FilePath),
    /// A file of the repository that lies outside the root.
    Outside(FilePath),
    /// A field of a Flux Kustomization, which is told by name.
    Kustomization(String),
}

impl Spot {
    /// The file, as far as Git has one.
    pub fn file(&self) -> Option<&FilePath> {
        match self {
            Self::File(file) | Self::Outside(file) => Some(file),
            Self::Root | Self::Kustomization(_) => None,
        }
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A rendering is refused, or a promise of `regent.yaml` is broken.
    Error,
    /// It renders, differently than somebody may think.
    Warning,
    /// Something could not be looked at.
    Note,
}

impl Severity {
    /// Its name, as SARIF writes levels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

macro_rules! rules {
    ($($rule:ident $id:literal $severity:ident $meaning:literal,)*) => {
        /// The rules, each with a name that stays.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Rule {
            $(#[doc = $meaning] $rule,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Self] = &[$(Self::$rule,)*];

            /// Its stable name, in kebab case.
            pub fn id(self) -> &'static str {
                match self { $(Self::$rule => $id,)* }
            }

            /// What it asks for, in one sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$rule => $meaning,)* }
            }

            /// How bad it is to break it.
            pub fn severity(self) -> Severity {
                match self { $(Self::$rule => Severity::$severity,)* }
            }
        }
    };
}

rules! {
    BootstrapInvalid "bootstrap-invalid" Error "regent.yaml follows its schema",
    BootstrapMisplaced "bootstrap-misplaced" Error "one regent.yaml rules a root: none lies above or below it",
    FileNotRendered "file-not-rendered" Error "every file is a manifest or excluded",
    KustomizationUnsupported "kustomization-unsupported" Error "a kustomization asks for nothing that regent does not follow",
    Unreadable "unreadable" Error "every manifest parses",
    NotAnObject "not-an-object" Error "every document is a Kubernetes object",
    KeyTwice "key-twice" Error "no key stands twice where readers would disagree",
    DoesNotOpen "does-not-open" Error "every encrypted document opens with the identities at hand",
    NotOpened "not-opened" Note "an identity is at hand for every encrypted document",
    Mac "mac" Error "the MAC of every document matches its contents",
    MacOnlyEncrypted "mac-only-encrypted" Error "the MAC covers clear values too, unless regent.yaml allows less",
    RecipientMissing "recipient-missing" Error "every document is encrypted to all recipients of regent.yaml",
    ClearSecret "clear-secret" Error "no Secret stands in the clear unless regent.yaml lists it",
    EncryptedKind "encrypted-kind" Error "only Secrets and the kinds of regent.yaml are encrypted",
    Namespace "namespace" Error "every Secret and every encrypted object has a namespace",
    SecretInvalid "secret-invalid" Error "every Secret is one that the API server takes",
    Hook "hook" Error "no encrypted object is a hook",
    Substituted "substituted" Error "no encrypted value is changed by Flux on its way (`postBuild`)",
    StillEncrypted "still-encrypted" Error "nothing that a cluster would get is still ciphertext",
    TwoObjects "two-objects" Error "no object stands in a root twice",
    NotApplied "not-applied" Error "the Flux Kustomizations of a root apply all that is encrypted in it",
    OutsideRoot "outside-root" Error "nothing encrypted that they apply lies outside the root",
    NotFollowed "not-followed" Note "every Flux Kustomization that is named can be followed",
    GuardReplaced "guard-replaced" Warning "no object says the opposite of its guards",
    LastApplied "last-applied" Warning "no Secret carries its values in the last-applied annotation",
    EntryUnmatched "entry-unmatched" Warning "every entry of regent.yaml matches a document",
    Unlisted "unlisted" Warning "every encrypted file of a kustomization's folder is listed by it",
    ChangedAfterHandover "changed-after-handover" Warning "once Vault rules, nothing encrypted is changed in Git or added to it",
}

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Looks at a root and tells everything, in the order of files and lines.
pub fn lint(request: &Request<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    bootstraps(request, &mut findings);
    let (inputs, errors) = files::inputs(request.files, None, request.bootstrap, request.limits);
    findings.extend(errors.iter().map(of_files));
    let scope = Scope { bootstrap: request.bootstrap, namespaces: &["*".to_owned()] };
    let looked: Vec<Looked> = inputs.par_iter().map(|input| look(request, &scope, input)).collect();
    let mut seen: HashMap<_, &FilePath> = HashMap::new();
    let mut known = Vec::new();
    for (input, looked) in inputs.iter().zip(looked) {
        findings.extend(looked.findings);
        for object in looked.objects {
            let Named { meta, namespace, line, .. } = &object;
            let identity = (meta.group().to_owned(), meta.kind.clone(), namespace.clone(), meta.name.clone());
            if let Some(other) = seen.insert(identity, input.path) {
                let place = namespace.as_deref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
                let identity = format!("{} {place}{}", meta.kind, meta.name);
                let problem = DocumentProblem::TwoObjects { identity, other: other.clone() };
                findings.push(of_document(input.path, &Problem { line: *line, problem }));
            }
            known.push(object);
        }
    }
    unlisted(request, &inputs, &mut findings);
    if let Some(bootstrap) = request.bootstrap {
        findings.extend(named_twice(request.files, bootstrap, &inputs));
        unmatched(bootstrap, &known, &inputs, &mut findings);
    }
    let key = |finding: &Finding| (finding.spot.clone(), finding.line, finding.rule, finding.message.clone());
    findings.sort_by_key(key);
    findings.dedup();
    findings
}

/// What Git says since the handover that nobody hears: listed documents whose file has another blob id than the
/// list, and encrypted documents that are not listed. For the time when Vault rules; needs no identity. A listed
/// document that is gone from Git is no finding, and without a readable list nothing can be told. `blob_of` gives
/// Git's blob id of a file's bytes, as the list has it.
pub fn changes_after_handover(
    files: &Files,
    bootstrap: Option<&Bootstrap>,
    documents: &DocumentList,
    limits: &Limits,
    blob_of: impl Fn(&[u8]) -> String,
) -> Vec<Finding> {
    let DocumentList::Readable(documents) = documents else { return Vec::new() };
    let list = List::of(documents, HashSet::new());
    let mut findings = Vec::new();
    for (path, content) in files.iter() {
        if let files::Content::Bytes(bytes) = content {
            findings.extend(changed(path, bytes, list.of_file(path), &blob_of));
        }
    }
    let scope = Scope { bootstrap, namespaces: &["*".to_owned()] };
    for input in &files::inputs(files, None, bootstrap, limits).0 {
        let (moved, not_listed) = compared(input, &scope, &list, limits);
        findings.extend(changed(input.path, input.bytes, &moved, &blob_of));
        findings.extend(not_listed);
    }
    findings.sort_by_key(|finding| (finding.spot.clone(), finding.line, finding.message.clone()));
    findings
}

/// Listed documents whose file has other bytes than at the handover.
fn changed(
    file: &FilePath,
    bytes: &[u8],
    listed: &[&ListedDocument],
    blob_of: impl Fn(&[u8]) -> String,
) -> Vec<Finding> {
    if listed.is_empty() {
        return Vec::new();
    }
    let blob = blob_of(bytes);
    let changed = listed.iter().filter(|listed| listed.blob != blob).map(|ListedDocument { kind, name, .. }| {
        let message = format!("the file was changed after {kind} `{name}` was handed over, which has no effect");
        after_handover(file, 0, message, "change the value in Vault, and take the change in Git back")
    });
    changed.collect()
}

/// What the list has of this file's documents under another path, and the encrypted ones that it does not have.
fn compared<'l>(
    input: &Input<'_>,
    scope: &Scope<'_>,
    list: &List<'l>,
    limits: &Limits,
) -> (Vec<&'l ListedDocument>, Vec<Finding>) {
    let (mut moved, mut findings) = (Vec::new(), Vec::new());
    let mut not_listed = |at: u32, what: &str| {
        let message = format!("{what} is encrypted, and the handover does not list it");
        findings.push(after_handover(input.path, at, message, "put it into Vault with `regent import`"));
    };
    let mut left = list.of_file(input.path).len();
    let format = match input.form {
        Form::Whole(..) => {
            if left == 0 {
                not_listed(0, "the file as a whole");
            }
            return (moved, findings);
        }
        Form::Generated(_) => {
            if left == 0 {
                not_listed(0, "what it reads");
            }
            return (moved, findings);
        }
        Form::Manifest(format) => format,
    };
    // What does not parse, and what has no namespace, lint names.
    let Ok(Document::Sealed(sealed)) = Document::parse(input.bytes, format, limits) else { return (moved, findings) };
    let mut hidden = 0;
    for object in objects(sealed.documents(), View::Sealed).into_iter().flatten().filter(Object::is_encrypted) {
        let meta = match input.meta(&object) {
            Ok(Some(meta)) => meta,
            Ok(None) => {
                hidden += 1;
                continue;
            }
            Err(_) => continue,
        };
        let Ok(namespace) = scope.namespace(&object, &meta, input.place.namespace.as_deref()) else { continue };
        match list.find(&meta, namespace.as_deref()) {
            Some(listed) if listed.path == *input.path => left = left.saturating_sub(1),
            Some(listed) => moved.push(listed),
            None => not_listed(object.line, &format!("{} `{}`", meta.kind, meta.name)),
        }
    }
    if left < hidden {
        not_listed(0, "a document whose name cannot be read");
    }
    (moved, findings)
}

fn after_handover(file: &FilePath, at: u32, message: String, way_out: &str) -> Finding {
    let rule = Rule::ChangedAfterHandover;
    let (spot, way_out) = (Spot::File(file.clone()), way_out.to_owned());
    Finding { rule, severity: rule.severity(), spot, line: line(at), message, way_out }
}

/// What one file tells.
#[derive(Default)]
struct Looked {
    findings: Vec<Finding>,
    objects: Vec<Named>,
}

/// An object that the root holds.
struct Named {
    meta: Meta,
    namespace: Option<String>,
    encrypted: bool,
    line: u32,
}

fn look(request: &Request<'_>, scope: &Scope<'_>, input: &Input<'_>) -> Looked {
    let mut looked = Looked::default();
    let mut note = |problem: DocumentProblem| {
        looked.findings.push(of_input(input, Problem { line: 0, problem }));
    };
    let objects = match input.form {
        Form::Whole(kind, inner) => {
            match envelope::open_manifests(input.bytes, kind, inner, request.keys, request.limits) {
                Ok(opened) => objects(opened.documents(), View::Opened),
                Err(error) => {
                    note(error.into());
                    return looked;
                }
            }
        }
        Form::Manifest(format) => match Document::parse(input.bytes, format, request.limits) {
            Ok(Document::Clear(tree)) => objects(&tree.documents, View::Clear),
            Ok(Document::Sealed(sealed)) => {
                if let Err(problem) = render::mac_scope(&sealed, request.bootstrap) {
                    note(problem);
                }
                let missing = not_encrypted_to(request.bootstrap, &sealed, input.path);
                let as_it_stands = objects(sealed.documents(), View::Sealed);
                let objects = match sealed.open(request.keys) {
                    Ok(opened) => objects(opened.documents(), View::Opened),
                    Err(error) => {
                        note(error.into());
                        as_it_stands
                    }
                };
                looked.findings.extend(missing);
                objects
            }
            Err(error) => {
                note(error.into());
                return looked;
            }
        },
        Form::Generated(generator) => {
            let opened = generator.open(request.bootstrap, request.keys, request.limits);
            let objects = match opened {
                Ok(secret) => objects(&[secret], View::Opened),
                Err(problem) => {
                    note(problem);
                    // The name of one that ends in a hash shows in its values alone.
                    let closed = generator.known_name().and_then(|name| generator.closed(name, request.limits).ok());
                    closed.map(|secret| objects(&[secret], View::Sealed)).unwrap_or_default()
                }
            };
            for (file, format, bytes) in generator.sealed_inputs() {
                let Ok(Document::Sealed(sealed)) = Document::parse(bytes, format, request.limits) else { continue };
                looked.findings.extend(not_encrypted_to(request.bootstrap, &sealed, file));
            }
            objects
        }
    };
    for object in objects {
        match object {
            Ok(object) => look_at(scope, input, &object, &mut looked),
            Err(problem) => looked.findings.push(of_input(input, problem)),
        }
    }
    looked
}

fn look_at(scope: &Scope<'_>, input: &Input<'_>, object: &Object, looked: &mut Looked) {
    let mut note = |problem: Problem| looked.findings.push(of_input(input, problem));
    let meta = match input.meta(object) {
        Ok(Some(meta)) => meta,
        // Its name is encrypted and no identity opens it: that was said already.
        Ok(None) => return,
        Err(problem) => return note(problem),
    };
    let namespace = scope.namespace(object, &meta, input.place.namespace.as_deref()).unwrap_or_else(|problem| {
        note(problem);
        None
    });
    let class = match scope.class(object, &meta, namespace.as_deref()) {
        Ok(class) => Some(class),
        Err(problem) => {
            note(problem);
            None
        }
    };
    if let (Form::Generated(_), Some(Class::Permanent { .. })) = (input.form, class) {
        note(object.problem(GeneratorProblem::Permanent));
    }
    if let (Some(Class::Handover | Class::Permanent { .. }), true) = (class, input.place.substituted)
        && let Err(problem) = substitution::check(object, meta.is_secret())
    {
        note(object.problem(problem));
    }
    match class {
        Some(Class::Handover | Class::Permanent { .. }) if meta.is_secret() => {
            for (line, problem) in secret::data(object).err().unwrap_or_default() {
                note(Problem { line, problem: problem.into() });
            }
        }
        Some(Class::Handover | Class::Permanent { .. }) => {
            if let Some(annotation) = secret::hook(object) {
                note(object.problem(SecretProblem::Hook { annotation }));
            }
        }
        Some(Class::Plain) | None => {}
    }
    match object.view {
        View::Clear | View::Opened => {
            if let Err(problem) = crate::gate::check(&object.tree) {
                note(object.problem(problem));
            }
        }
        // Sealed leaves are ciphertext by right.
        View::Sealed => {}
    }
    let mut warn = |rule: Rule, message: String, way_out: &str| {
        looked.findings.push(Finding {
            rule,
            severity: rule.severity(),
            spot: Spot::File(input.path.clone()),
            line: line(object.line),
            message,
            way_out: way_out.to_owned(),
        });
    };
    let encrypted = object.is_encrypted();
    if encrypted {
        for replaced in guard::replaced(&object.tree, object.view, scope.authority().filter(|_| meta.is_secret())) {
            let message = format!("`{replaced}` of {} `{}` is replaced by a guard", meta.kind, meta.name);
            warn(Rule::GuardReplaced, message, "remove it: the guards keep the live object through the handover");
        }
    }
    if meta.is_secret() && object.tree.at(&["metadata", "annotations", LAST_APPLIED]).is_some() {
        let message = format!("Secret `{}` carries `{LAST_APPLIED}`, which holds its values once more", meta.name);
        warn(Rule::LastApplied, message, "remove the annotation, and change the values if it was ever in Git");
    }
    looked.objects.push(Named { meta, namespace, encrypted, line: object.line });
}

/// Recipients of `regent.yaml` that a document does not have.
fn not_encrypted_to(bootstrap: Option<&Bootstrap>, sealed: &Sealed, file: &FilePath) -> Vec<Finding> {
    let Some(bootstrap) = bootstrap else { return Vec::new() };
    let has = |wanted: &str| sealed.recipients().any(|recipient| is_recipient(recipient, wanted));
    let mut missing = Vec::new();
    for (group, recipients) in &bootstrap.recipients {
        for wanted in recipients.iter().filter(|wanted| !has(wanted)) {
            missing.push(Finding {
                rule: Rule::RecipientMissing,
                severity: Rule::RecipientMissing.severity(),
                spot: Spot::File(file.clone()),
                line: None,
                message: format!("it is not encrypted to the {} recipient `{wanted}`", group.as_str()),
                way_out: format!("add it to .sops.yaml and run `sops updatekeys {file}`"),
            });
        }
    }
    missing
}

/// SSH recipients may carry a comment, fingerprints spaces and either case.
fn is_recipient(recipient: &Recipient, wanted: &str) -> bool {
    let two_words = |text: &str| text.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
    let packed = |text: &str| text.split_whitespace().collect::<String>().to_ascii_uppercase();
    let is_fingerprint = |text: &str| text.len() >= 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (name, other) = (packed(&recipient.name), packed(wanted));
    two_words(&recipient.name) == two_words(wanted)
        || (is_fingerprint(&name) && is_fingerprint(&other) && (name.ends_with(&other) || other.ends_with(&name)))
}

/// `regent.yaml` files where none may be, and the root's own where it does not parse.
fn bootstraps(request: &Request<'_>, findings: &mut Vec<Finding>) {
    let mut misplaced = |spot: Spot, message: String| {
        findings.push(Finding {
            rule: Rule::BootstrapMisplaced,
            severity: Rule::BootstrapMisplaced.severity(),
            spot,
            line: None,
            message,
            way_out: "keep one of them, or make the folders two roots beside each other".to_owned(),
        });
    };
    for above in request.bootstraps_above {
        misplaced(Spot::Root, format!("{above} lies above this root"));
    }
    for (path, _) in request.files.iter() {
        if path.file_name() == Bootstrap::FILE_NAME && path.as_str() != Bootstrap::FILE_NAME {
            misplaced(Spot::File(path.clone()), "another regent.yaml lies below the root".to_owned());
        }
    }
    let own = request.files.iter().find(|(path, _)| path.as_str() == Bootstrap::FILE_NAME);
    if let (None, Some((path, files::Content::Bytes(bytes)))) = (request.bootstrap, own)
        && let Err(BootstrapError { at, problem, .. }) = Bootstrap::parse(path, bytes)
    {
        findings.push(Finding {
            rule: Rule::BootstrapInvalid,
            severity: Rule::BootstrapInvalid.severity(),
            spot: Spot::File(path.clone()),
            line: at.and_then(|(line, _)| u32::try_from(line).ok()),
            message: problem,
            way_out: "see `regent new` for a file that is complete".to_owned(),
        });
    }
}

/// Encrypted files beside a kustomization that does not list them: a forgotten line, mostly.
fn unlisted(request: &Request<'_>, inputs: &[Input<'_>], findings: &mut Vec<Finding>) {
    // Where a build decides, one that it does not read is an error of its own.
    if request.files.is_built() {
        return;
    }
    let is_kustomization = |path: &FilePath| kustomization::FILE_NAMES.contains(&path.file_name());
    let folders: BTreeSet<_> =
        request.files.iter().filter(|(path, _)| is_kustomization(path)).map(|(path, _)| path.parent()).collect();
    let listed: BTreeSet<&FilePath> = inputs.iter().map(|input| input.path).collect();
    for (path, content) in request.files.iter() {
        let files::Content::Bytes(bytes) = content else { continue };
        let excluded = request.bootstrap.is_some_and(|bootstrap| bootstrap.excluded(path));
        if !folders.contains(&path.parent()) || listed.contains(path) || excluded || !files::wanted(path.file_name()) {
            continue;
        }
        let format = regent_sops::Format::of_name(path.file_name());
        let is_sealed = envelope::Envelope::of_name(path.file_name()).is_some()
            || matches!(Document::parse(bytes, format, request.limits), Ok(Document::Sealed(_)));
        if is_sealed {
            findings.push(Finding {
                rule: Rule::Unlisted,
                severity: Rule::Unlisted.severity(),
                spot: Spot::File(path.clone()),
                line: None,
                message: "it is encrypted, and the kustomization beside it does not list it".to_owned(),
                way_out: "list it in `resources`, or in `secrets.exclude`".to_owned(),
            });
        }
    }
}

/// Encrypted files that would have the name of another one in an artifact of Flux, which holds every file under one that the build
/// finds. Elsewhere a file has the name that it has.
fn named_twice(files: &Files, bootstrap: &Bootstrap, inputs: &[Input<'_>]) -> Vec<Finding> {
    if !files.is_built() {
        return Vec::new();
    }
    let is_encrypted = |input: &&Input<'_>| match input.form {
        Form::Whole(..) => true,
        Form::Manifest(_) => artifact::is_encrypted(input.path, input.bytes),
        // It gets a folder of its own.
        Form::Generated(_) => false,
    };
    let mut names = HashSet::new();
    let mut is_taken = |input: &&Input<'_>| {
        artifact::name_in_artifact(files, bootstrap, input.path).is_none_or(|name| !names.insert(name))
    };
    let taken = inputs.iter().filter(is_encrypted).filter(|input| is_taken(input));
    taken.map(|input| of_document(input.path, &Problem { line: 0, problem: DocumentProblem::NameTaken })).collect()
}

/// Entries of `regent.yaml` that name nothing in the root.
fn unmatched(bootstrap: &Bootstrap, known: &[Named], inputs: &[Input<'_>], findings: &mut Vec<Finding>) {
    let mut warn = |message: String| {
        findings.push(Finding {
            rule: Rule::EntryUnmatched,
            severity: Rule::EntryUnmatched.severity(),
            spot: Spot::Root,
            line: None,
            message,
            way_out: "remove the entry, or correct its name".to_owned(),
        });
    };
    let may_be_generated = |name: &SecretName| {
        inputs.iter().any(|input| match input.form {
            Form::Generated(generator) => {
                generator.namespace() == name.namespace().as_str() && generator.may_be_named(name.name())
            }
            Form::Manifest(_) | Form::Whole(..) => false,
        })
    };
    let has = |name: &SecretName, encrypted: bool| {
        let is_it = |object: &Named| {
            object.meta.is_secret()
                && object.encrypted == encrypted
                && object.meta.name == name.name()
                && object.namespace.as_deref() == Some(name.namespace().as_str())
        };
        known.iter().any(is_it) || (encrypted && may_be_generated(name))
    };
    for entry in bootstrap.secrets.permanent.iter().filter(|entry| !has(&entry.name, true)) {
        warn(format!("`secrets.permanent` lists {}, and no encrypted Secret has that name", entry.name));
    }
    for name in bootstrap.secrets.plain.iter().filter(|name| !has(name, false)) {
        warn(format!("`secrets.plain` lists {name}, and no clear Secret has that name"));
    }
    for name in bootstrap.secrets.encoding.keys().filter(|name| !has(name, true)) {
        warn(format!("`secrets.encoding` lists {name}, and no encrypted Secret has that name"));
    }
    for kind in &bootstrap.secrets.kinds {
        if !known.iter().any(|object| object.encrypted && object.meta.kind == *kind) {
            warn(format!("`secrets.kinds` lists {kind}, and no document of that kind is encrypted"));
        }
    }
}

fn line(line: u32) -> Option<u32> {
    (line > 0).then_some(line)
}

/// What Flux builds has rules of its own.
const OF_FLUX: &str = "where Flux builds it, name the file of its Kustomization (`--kustomization-file`)";

fn of_files(error: &FilesError) -> Finding {
    let (rule, file, at, message) = match error {
        FilesError::File { file, problem } => {
            let rule = match problem {
                FileProblem::Chart
                | FileProblem::NotAManifest
                | FileProblem::NotAManifestStore
                | FileProblem::TooLarge { .. }
                | FileProblem::BadLink
                | FileProblem::Special
                | FileProblem::ListedTwice
                | FileProblem::NotRead
                | FileProblem::ExcludedInput { .. } => Rule::FileNotRendered,
            };
            (rule, file, None, problem.to_string())
        }
        FilesError::Kustomization { file, line: at, problem } => {
            (Rule::KustomizationUnsupported, file, line(*at), problem.clone())
        }
        FilesError::EmptyFolder { folder } => (Rule::FileNotRendered, folder, None, error.to_string()),
    };
    let way_out = match error {
        FilesError::Kustomization { .. } => format!("{}; {OF_FLUX}", error.way_out()),
        FilesError::File { .. } | FilesError::EmptyFolder { .. } => error.way_out(),
    };
    Finding { rule, severity: rule.severity(), spot: Spot::File(file.clone()), line: at, message, way_out }
}

/// Why builds are not followed, as findings. `root` is the folder of the root in the repository, `None` for its top.
pub fn of_builds(refused: &[Refused], root: Option<&FilePath>) -> Vec<Finding> {
    refused.iter().map(|refused| of_build(refused, root)).collect()
}

fn of_build(Refused { kustomization, reason }: &Refused, root: Option<&FilePath>) -> Finding {
    let spot = |file: &FilePath| match reached::inside(root, file) {
        Some(inside) => Spot::File(inside),
        None => Spot::Outside(file.clone()),
    };
    let rule = Rule::KustomizationUnsupported;
    let found = |spot, line, message, way_out: &str| Finding {
        rule,
        severity: rule.severity(),
        spot,
        line,
        message,
        way_out: way_out.to_owned(),
    };
    match reason {
        Reason::Obstacle(obstacle) => match &obstacle.site {
            Site::File { file, line: at } => {
                found(spot(file), line(*at), obstacle.rule.to_string(), obstacle.way_out())
            }
            Site::Spec { .. } => {
                let of = kustomization.as_ref().map_or(Spot::Root, |name| Spot::Kustomization(name.clone()));
                found(of, None, obstacle.to_string(), obstacle.way_out())
            }
        },
        Reason::Document { file, problem } => {
            let finding = of_document(file, &Problem { line: 0, problem: problem.clone() });
            match (problem, generator_of(file)) {
                (DocumentProblem::OutsideRoot, _) => Finding { spot: Spot::Outside(file.clone()), ..finding },
                // No file has the path of what it makes.
                (DocumentProblem::Generator(_), Some((kustomization, name))) => Finding {
                    spot: Spot::File(kustomization),
                    message: format!("`{name}`: {}", finding.message),
                    ..finding
                },
                (_, _) => finding,
            }
        }
    }
}

/// The kustomization and the name of the generator that makes a document, where its path is one of those.
fn generator_of(document: &FilePath) -> Option<(FilePath, &str)> {
    let folder = document.parent().filter(|folder| kustomization::FILE_NAMES.contains(&folder.file_name()))?;
    Some((folder, document.file_name()))
}

/// A Kustomization of which nothing was found that applies the root, and not everything was followed.
pub fn not_followed(kustomization: &str, refused: &[Refused]) -> Finding {
    let first = refused.iter().find_map(|refused| match &refused.reason {
        Reason::Obstacle(obstacle) => Some(obstacle.to_string()),
        Reason::Document { .. } => None,
    });
    Finding {
        rule: Rule::NotFollowed,
        severity: Rule::NotFollowed.severity(),
        spot: Spot::Kustomization(kustomization.to_owned()),
        line: None,
        message: format!(
            "whether {kustomization} applies anything of this root is not known{}",
            first.map(|it| format!(": {it}")).unwrap_or_default()
        ),
        way_out: "leave it out of the file where it applies another repository or folder".to_owned(),
    }
}

fn of_input(input: &Input<'_>, problem: Problem) -> Finding {
    // Some say themselves that it is one.
    let is_told = matches!(problem.problem, DocumentProblem::Generator(_));
    let found = of_document(input.path, &render::told(input, problem));
    match input.form {
        // No file has the path under which it is told.
        Form::Generated(generator) if found.spot == Spot::File(input.path.clone()) => Finding {
            spot: Spot::File(generator.kustomization().clone()),
            message: format!(
                "{}`{}`: {}",
                if is_told { "" } else { "`secretGenerator` " },
                generator.name(),
                found.message
            ),
            ..found
        },
        Form::Generated(_) | Form::Manifest(_) | Form::Whole(..) => found,
    }
}

fn of_document(file: &FilePath, problem: &Problem) -> Finding {
    let Problem { line: at, problem } = problem;
    let (rule, way_out) = match problem {
        DocumentProblem::Sops(error) => of_ciphertext(error),
        DocumentProblem::Secret(SecretProblem::Hook { .. }) => {
            (Rule::Hook, "make it an ordinary object; a sync wave gives it its place")
        }
        DocumentProblem::Secret(SecretProblem::Substituted { .. }) => (Rule::Substituted, substitution::WAY_OUT),
        DocumentProblem::Secret(_) => (Rule::SecretInvalid, "change it with `sops edit`"),
        DocumentProblem::Gate(_) => {
            (Rule::StillEncrypted, "decrypt it first; it would reach the cluster as ciphertext")
        }
        DocumentProblem::NotAnObject { .. } => {
            (Rule::NotAnObject, "complete it, or list the file in `secrets.exclude`")
        }
        DocumentProblem::MacOnlyEncrypted => (
            Rule::MacOnlyEncrypted,
            "encrypt it without `mac_only_encrypted`, or set `secrets: { macOnlyEncrypted: allow }`",
        ),
        DocumentProblem::ClearSecret(_) => (
            Rule::ClearSecret,
            "encrypt it with `sops encrypt -i` and change its values, or list it in `secrets.plain`",
        ),
        DocumentProblem::EncryptedKind { .. } => {
            (Rule::EncryptedKind, "move the values into a Secret, or list the kind in `secrets.kinds`")
        }
        DocumentProblem::NoNamespace { .. } => {
            (Rule::Namespace, "write `metadata.namespace`, or set `secrets.namespace`")
        }
        DocumentProblem::NamespaceNotAllowed { .. } => (Rule::Namespace, "allow the namespace in the rule"),
        DocumentProblem::KustomizationNamespace { .. } => {
            (Rule::KustomizationUnsupported, "write the namespaces into the document itself")
        }
        DocumentProblem::TwoObjects { .. } => (Rule::TwoObjects, "keep one of them"),
        DocumentProblem::OutsideRoot => (Rule::OutsideRoot, "move it into the root, or into one of its own"),
        DocumentProblem::AppliedTwice { .. } => (Rule::TwoObjects, "let one Kustomization apply it"),
        DocumentProblem::NotApplied => (Rule::NotApplied, "list it in a kustomization, or in `secrets.exclude`"),
        DocumentProblem::NotHandedOver { .. } => {
            (Rule::KustomizationUnsupported, "make it a Secret of its own among the `resources`")
        }
        DocumentProblem::Generator(problem) => (Rule::KustomizationUnsupported, problem.way_out()),
        DocumentProblem::Input { file, problem } => {
            return of_document(file, &Problem { line: *at, problem: (**problem).clone() });
        }
        DocumentProblem::SeveralPlaces => (Rule::TwoObjects, "give each of them a file of its own"),
        DocumentProblem::NameTaken => (Rule::TwoObjects, "give one of the two files another name"),
        DocumentProblem::NotListed | DocumentProblem::IdentityEncrypted => {
            (Rule::DoesNotOpen, "hand it over with `regent import`")
        }
        DocumentProblem::DuplicateKey { .. } | DocumentProblem::BadMerge { .. } => {
            (Rule::KeyTwice, "write the key once, below the `<<` that it replaces")
        }
    };
    let at = if let DocumentProblem::Sops(error) = problem { line_of(error) } else { *at };
    Finding {
        rule,
        severity: rule.severity(),
        spot: Spot::File(file.clone()),
        line: line(at),
        message: problem.to_string(),
        way_out: way_out.to_owned(),
    }
}

fn of_ciphertext(error: &Error) -> (Rule, &'static str) {
    match error {
        Error::NoKey(report) if report.identities.is_empty() => {
            (Rule::NotOpened, "name an identity with `-i` to have its MAC and values checked")
        }
        Error::NoKey(_) | Error::TooFewParts { .. } => {
            (Rule::DoesNotOpen, "use an identity of one of its recipients, or add one with `sops updatekeys`")
        }
        Error::Mac(_) | Error::Value { .. } | Error::Parts { .. } => {
            (Rule::Mac, "go back to the last commit that opened, then change it with `sops edit`")
        }
        Error::Stopped => (Rule::NotOpened, "look again: there was no time left"),
        Error::DuplicateKey { .. } => (Rule::KeyTwice, "write the key once"),
        Error::TooLarge { .. }
        | Error::Limit { .. }
        | Error::Syntax { .. }
        | Error::MetadataAbsent
        | Error::Metadata { .. }
        | Error::Identity { .. }
        | Error::Envelope { .. }
        | Error::Emit { .. } => (Rule::Unreadable, "correct it, or list the file in `secrets.exclude`"),
    }
}

fn line_of(error: &Error) -> u32 {
    match error {
        Error::Limit { at, .. }
        | Error::Syntax { at, .. }
        | Error::DuplicateKey { at, .. }
        | Error::Value { at, .. } => at.line,
        Error::Stopped
        | Error::TooLarge { .. }
        | Error::MetadataAbsent
        | Error::Metadata { .. }
        | Error::NoKey(_)
        | Error::TooFewParts { .. }
        | Error::Parts { .. }
        | Error::Mac(_)
        | Error::Identity { .. }
        | Error::Envelope { .. }
        | Error::Emit { .. } => 0,
    }
}
