//! What a root holds, seen without opening anything: classes, reasons, and which identities would open what.

use crate::bootstrap::Bootstrap;
use crate::emit::Identity;
use crate::files::{self, Files, FilesError, Form, Input};
use crate::name::FilePath;
use crate::object::{Object, Problem, View, objects};
use crate::refusal::DocumentProblem;
use crate::render::{Class, Scope};
use regent_sops::{Document, Keyring, Limits, Recipient};

/// One file of manifests.
pub struct SurveyedFile {
    /// The file, relative to the root.
    pub file: FilePath,
    /// How it is encrypted.
    pub sealing: Sealing,
    /// Its documents, or why it cannot be parsed. Empty where it is encrypted whole.
    pub documents: Result<Vec<SurveyedDocument>, DocumentProblem>,
}

/// How a file is encrypted.
pub enum Sealing {
    /// Not at all.
    Clear,
    /// By SOPS.
    Sops {
        /// Its recipients, key group by key group.
        groups: Vec<Vec<SurveyedRecipient>>,
        /// Key groups that are needed.
        needed: usize,
    },
    /// As a whole, by age or PGP: neither documents nor all recipients show.
    Whole,
}

/// Someone whom a file is encrypted to.
pub struct SurveyedRecipient {
    /// As the file names it.
    pub name: String,
    /// Whether an identity at hand has this public part.
    pub held: bool,
}

/// One document.
pub struct SurveyedDocument {
    /// Which object it is; `None` where its name is encrypted.
    pub identity: Option<Identity>,
    /// Its class and why it has that class, or why it is refused.
    pub class: Result<(Class, &'static str), DocumentProblem>,
}

/// Everything in the root, in the order of rendering, and what is wrong with the folder itself. Only public
/// parts of `keys` are compared.
pub fn survey(
    files: &Files,
    bootstrap: Option<&Bootstrap>,
    keys: &Keyring,
    limits: &Limits,
) -> (Vec<SurveyedFile>, Vec<FilesError>) {
    let (inputs, errors) = files::inputs(files, None, bootstrap, limits);
    let all = ["*".to_owned()];
    let scope = Scope { bootstrap, namespaces: &all };
    (inputs.iter().map(|input| file(input, &scope, keys, limits)).collect(), errors)
}

impl Sealing {
    /// Whether the identities at hand open it, as far as public parts tell; `None` where they do not.
    pub fn opens(&self) -> Option<bool> {
        match self {
            Self::Clear => Some(true),
            Self::Sops { groups, needed } => {
                let held = groups.iter().filter(|group| group.iter().any(|recipient| recipient.held)).count();
                Some(held >= *needed)
            }
            Self::Whole => None,
        }
    }
}

fn file(input: &Input<'_>, scope: &Scope<'_>, keys: &Keyring, limits: &Limits) -> SurveyedFile {
    let file = input.path.clone();
    let format = match input.form {
        Form::Whole(..) => return SurveyedFile { file, sealing: Sealing::Whole, documents: Ok(Vec::new()) },
        Form::Manifest(format) => format,
        Form::Generated(generator) => {
            let name = generator.known_name().unwrap_or(generator.name());
            let object = generator.closed(name, limits).map(|secret| objects(&[secret], View::Sealed));
            let documents = object.map(|objects| {
                let mut documents: Vec<_> = objects.into_iter().map(|object| document(object, input, scope)).collect();
                // Without its hash the name is another Secret's.
                for document in documents.iter_mut().filter(|_| generator.known_name().is_none()) {
                    document.identity = None;
                }
                documents
            });
            return SurveyedFile { file, sealing: Sealing::Whole, documents };
        }
    };
    let (sealing, objects) = match Document::parse(input.bytes, format, limits) {
        Ok(Document::Clear(tree)) => (Sealing::Clear, objects(&tree.documents, View::Clear)),
        Ok(Document::Sealed(sealed)) => {
            let recipient = |recipient: &Recipient| SurveyedRecipient {
                name: recipient.to_string(),
                held: keys.matches(recipient),
            };
            let groups: Vec<Vec<_>> =
                sealed.groups().iter().map(|group| group.iter().map(recipient).collect()).collect();
            // One group's key is the data key itself; several without a threshold need all of them.
            let needed = match (groups.len(), sealed.threshold()) {
                (0 | 1, _) => 1,
                (all, 0) => all,
                (_, threshold) => threshold,
            };
            (Sealing::Sops { groups, needed }, objects(sealed.documents(), View::Sealed))
        }
        Err(error) => return SurveyedFile { file, sealing: Sealing::Clear, documents: Err(error.into()) },
    };
    let documents = objects.into_iter().map(|object| document(object, input, scope)).collect();
    SurveyedFile { file, sealing, documents: Ok(documents) }
}

fn document(object: Result<Object, Problem>, input: &Input<'_>, scope: &Scope<'_>) -> SurveyedDocument {
    let refused = |problem: Problem| SurveyedDocument { identity: None, class: Err(problem.problem) };
    let (object, meta) = match object.and_then(|object| Ok((input.meta(&object)?, object))) {
        Ok((Some(meta), object)) => (object, meta),
        Ok((None, object)) => {
            let missing = DocumentProblem::NotAnObject { field: "metadata.name", line: object.line };
            let class =
                if object.is_encrypted() { Ok((Class::Handover, "its name is encrypted")) } else { Err(missing) };
            return SurveyedDocument { identity: None, class };
        }
        Err(problem) => return refused(problem),
    };
    let namespace = scope.namespace(&object, &meta, input.place.namespace.as_deref());
    let class = namespace.and_then(|namespace| {
        let class = scope.class(&object, &meta, namespace.as_deref())?;
        Ok((class, namespace))
    });
    let identity = |namespace: Option<String>| Identity {
        api_version: meta.api_version.clone(),
        kind: meta.kind.clone(),
        namespace,
        name: meta.name.clone(),
    };
    match class {
        Ok((class, namespace)) => {
            let why = match (class, scope.bootstrap, meta.is_secret()) {
                (Class::Plain, _, true) => "listed in secrets.plain",
                (Class::Plain, _, false) => "holds nothing encrypted",
                (Class::Handover | Class::Permanent { .. }, None, _) => "no regent.yaml says otherwise",
                (Class::Handover, Some(_), _) => "the default",
                (Class::Permanent { .. }, Some(_), true) => "listed in secrets.permanent",
                (Class::Permanent { .. }, Some(_), false) => "its kind is listed in secrets.kinds",
            };
            SurveyedDocument { identity: Some(identity(namespace)), class: Ok((class, why)) }
        }
        Err(problem) => {
            SurveyedDocument { identity: Some(identity(meta.namespace.clone())), class: Err(problem.problem) }
        }
    }
}
