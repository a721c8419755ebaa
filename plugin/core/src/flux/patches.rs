//! Without an artifact: a Kustomization takes its repository itself, and lets go by an entry of `spec.patches`.
//!
//! No file becomes a stub then, so what a stub says is put on the encrypted documents before kustomize-controller (1.8 and
//! later) decrypts:
//!
//! ```yaml
//! patches:
//! - target: { kind: Secret, labelSelector: regent.dev/authority=prod }
//!   patch: |
//!     apiVersion: v1
//!     kind: Secret
//!     metadata:
//!       name: any
//!       annotations:
//!         kustomize.toolkit.fluxcd.io/decrypt: disabled
//!         kustomize.toolkit.fluxcd.io/ssa: Ignore
//!         kustomize.toolkit.fluxcd.io/prune: disabled
//! ```
//! The three belong together: without `ssa: Ignore` the ciphertext of a `stringData` would become the live value. The entry is
//! the last one, so that no other takes any of it back. It reaches whole Secrets with a label in clear text, and nothing
//! else: what a generator reads and what a patch file holds is decrypted all the same.

use regent_sops::{Branch, Document, Format, Limits, Node, RecipientKind, Sealed};

use crate::bootstrap::Bootstrap;
use crate::files::{self, Files, Form};
use crate::flux::bound::{self, Bound};
use crate::flux::reach::{InlinePatch, Obstacle, Reach, Rule, Selector, Site};
use crate::guard;
use crate::name::{AuthorityName, FilePath, ObjectName};
use crate::object::{self, View};
use crate::refusal::{DocumentProblem, Refusal};

/// Why a file cannot be let go in this way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// kustomize-controller opens single values alone.
    #[error("it is encrypted as a whole, which kustomize-controller does not open (`sops` encrypts its values)")]
    Whole,
    /// The patch is for Secrets.
    #[error("it holds a {0}, and the patch that lets go is for Secrets alone")]
    Kind(String),
    /// The patch finds it by its label, and the API server's lock too.
    #[error("it lacks the label `{label}: {0}` in clear text, by which the patch that lets go finds it", label = guard::AUTHORITY)]
    NoLabel(AuthorityName),
    /// Nothing would keep the live Secret when its document goes.
    #[error("it lacks the annotation `{guard}: disabled` in clear text, which keeps the live Secret", guard = guard::FLUX_PRUNE)]
    NoGuard,
    /// kustomize-controller would not ask regent, or be refused by it.
    #[error("it is not encrypted to regent in epoch {}: `sops` expects `--hc-vault-transit {}`", bound.epoch, key(endpoint, bound))]
    NotOurs {
        /// Whom it should be encrypted to.
        bound: Bound,
        /// regent's address.
        endpoint: String,
    },
    /// Whoever holds that key opens it after the handover, too.
    #[error("it is encrypted to {0} as well, which kustomize-controller may open without regent")]
    Others(String),
}

/// The entry of `spec.patches` that lets go of an authority's documents, as YAML in one line.
pub fn entry(authority: &AuthorityName) -> String {
    let annotations: Vec<String> = ANNOTATIONS.map(|(key, value)| format!("{key}: {value}")).into();
    format!(
        "{{ target: {{ kind: Secret, labelSelector: {} }}, patch: '{{ apiVersion: v1, kind: Secret, metadata: {{ name: any, \
         annotations: {{ {} }} }} }}' }}",
        selector(authority),
        annotations.join(", ")
    )
}

/// Whether the last entry of `spec.patches` is that one. Nothing like it counts: what another form reaches is not judged here.
pub fn let_go(patches: &[InlinePatch], authority: &AuthorityName) -> bool {
    let target =
        Selector { kind: Some("Secret".to_owned()), label_selector: Some(selector(authority)), ..Selector::default() };
    patches.last().is_some_and(|last| last.target.as_ref() == Some(&target) && is_complete(&last.patch))
}

/// The same patches without the one that lets go, which changes nothing of what a document is.
///
/// # Errors
/// [`Refusal::Obstacle`] where another one turns decryption off: alone it would make ciphertext the live value.
pub fn without_letting_go(
    mut patches: Vec<InlinePatch>,
    authority: &AuthorityName,
) -> Result<Vec<InlinePatch>, Refusal> {
    if let_go(&patches, authority) {
        patches.pop();
    }
    // The second is how an operation writes it.
    let turns_off = |text: &str| ["/decrypt", "~1decrypt"].iter().any(|key| text.contains(&format!("{FLUX}{key}")));
    if patches.iter().any(|patch| turns_off(&patch.patch)) {
        let (site, rule) = (Site::Spec { field: "patches" }, Rule::Undecrypted { entry: entry(authority) });
        return Err(Refusal::Obstacle(Box::new(Obstacle { site, rule })));
    }
    Ok(patches)
}

/// Refuses what the patch does not reach.
///
/// # Errors
/// [`Refusal::Document`] for an encrypted input of a generator and for an encrypted patch.
pub fn reaches(reach: &Reach) -> Result<(), Refusal> {
    let refused = |file: &FilePath, what| {
        Err(Refusal::Document { file: file.clone(), problem: DocumentProblem::NotHandedOver { what } })
    };
    let inputs = reach.generators.iter().flat_map(|generated| &generated.inputs);
    if let Some(input) = inputs.into_iter().find(|input| input.is_encrypted) {
        return refused(&input.file, GENERATED);
    }
    match reach.patches.first() {
        Some(patched) => refused(&patched.file, "a patch without an artifact (`delivery: patches`)"),
        None => Ok(()),
    }
}

/// Every encrypted file of a root that cannot be let go in this way: each has to be encrypted to regent for one of these
/// Kustomizations. What kustomize-controller makes of the stanza itself it shows by being ready.
///
/// # Errors
/// A root that is refused, or the first of its files that cannot be read.
pub fn unfit(
    files: &Files,
    bootstrap: &Bootstrap,
    kustomizations: &[&ObjectName],
    endpoint: &str,
    limits: &Limits,
) -> Result<Vec<(FilePath, Unfit)>, Refusal> {
    let (inputs, errors) = files::inputs(files, None, Some(bootstrap), limits);
    if let Some(error) = errors.into_iter().next() {
        return Err(error.into());
    }
    let bounds = kustomizations.iter().map(|kustomization| Bound {
        authority: bootstrap.name.clone(),
        epoch: bootstrap.epoch,
        kustomization: (*kustomization).clone(),
    });
    let ours = Ours { bounds: bounds.collect(), endpoint };
    let mut found = Vec::new();
    for input in &inputs {
        let format = match input.form {
            Form::Manifest(format) => format,
            Form::Whole(..) => {
                found.push((input.path.clone(), Unfit::Whole));
                continue;
            }
            // No patch reaches what a generator makes: refused before ([`reaches`]).
            Form::Generated(_) => {
                let problem = DocumentProblem::NotHandedOver { what: GENERATED };
                return Err(Refusal::Document { file: input.path.clone(), problem });
            }
        };
        let refused = |problem| Refusal::Document { file: input.path.clone(), problem };
        let parsed = Document::parse(input.bytes, format, limits);
        let Document::Sealed(sealed) = parsed.map_err(|error| refused(error.into()))? else { continue };
        let its = ours.unfit(&sealed, &bootstrap.name).map_err(refused)?;
        found.extend(its.map(|unfit| (input.path.clone(), unfit)));
    }
    Ok(found)
}

/// Whom documents have to be encrypted to.
struct Ours<'a> {
    bounds: Vec<Bound>,
    endpoint: &'a str,
}

impl Ours<'_> {
    /// The first thing that is wrong with a file. Each of its objects has a `sops` block, so each is asked about, also where
    /// nothing in it is encrypted.
    fn unfit(&self, sealed: &Sealed, authority: &AuthorityName) -> Result<Option<Unfit>, DocumentProblem> {
        for object in object::objects(sealed.documents(), View::Sealed) {
            let object = object.map_err(|problem| problem.problem)?;
            if let Some(meta) = object.meta().map_err(|problem| problem.problem)?
                && !meta.is_secret()
            {
                return Ok(Some(Unfit::Kind(meta.kind)));
            }
            let says = |section: &str, key: &str, value: &str| {
                object.tree.public_text(&["metadata", section, key]) == Some(value)
            };
            if !says("labels", guard::AUTHORITY, authority.as_str()) {
                return Ok(Some(Unfit::NoLabel(authority.clone())));
            }
            if !says("annotations", guard::FLUX_PRUNE, "disabled") {
                return Ok(Some(Unfit::NoGuard));
            }
        }
        Ok(self.of_recipients(sealed))
    }

    fn of_recipients(&self, sealed: &Sealed) -> Option<Unfit> {
        let mut is_ours = false;
        for recipient in sealed.recipients() {
            match recipient.kind {
                RecipientKind::Age | RecipientKind::Pgp => {}
                RecipientKind::VaultTransit
                    if self.bounds.iter().any(|bound| {
                        recipient.name == key(self.endpoint, bound)
                            && Bound::parse(recipient.wrapped()).is_some_and(|(found, _)| found == *bound)
                    }) =>
                {
                    is_ours = true;
                }
                // One of regent that is another epoch's is told as that, not as somebody else's.
                RecipientKind::VaultTransit if Bound::parse(recipient.wrapped()).is_some() => {}
                RecipientKind::VaultTransit
                | RecipientKind::AwsKms
                | RecipientKind::GcpKms
                | RecipientKind::AzureKeyVault
                | RecipientKind::HuaweiKms => return Some(Unfit::Others(recipient.to_string())),
            }
        }
        let bound = self.bounds.first().filter(|_| !is_ours)?;
        Some(Unfit::NotOurs { bound: bound.clone(), endpoint: self.endpoint.to_owned() })
    }
}

/// What `sops` calls a key of regent's.
fn key(endpoint: &str, bound: &Bound) -> String {
    format!("{endpoint}/v1/{}/keys/{}", bound::engine(&bound.authority), bound.kustomization.name())
}

fn selector(authority: &AuthorityName) -> String {
    format!("{}={authority}", guard::AUTHORITY)
}

/// What the patch does not reach, as a refusal calls it.
const GENERATED: &str = "an input of a `secretGenerator` without an artifact (`delivery: patches`)";

/// The group of kustomize-controller's annotations.
const FLUX: &str = "kustomize.toolkit.fluxcd.io";

/// What the patch puts on each document.
const ANNOTATIONS: [(&str, &str); 3] = [
    ("kustomize.toolkit.fluxcd.io/decrypt", "disabled"),
    ("kustomize.toolkit.fluxcd.io/ssa", "Ignore"),
    (guard::FLUX_PRUNE, "disabled"),
];

/// Whether a patch puts on exactly that, whatever it calls the object that it is not for.
fn is_complete(patch: &str) -> bool {
    let Ok(Document::Clear(tree)) = Document::parse(patch.as_bytes(), Format::Yaml, &Limits::default()) else {
        return false;
    };
    let [document] = tree.documents.as_slice() else { return false };
    let Ok(document) = object::resolved(document) else { return false };
    let of = |branch: &Branch, keys: &[&str]| {
        branch.entries().count() == keys.len() && keys.iter().all(|key| branch.get(key).is_some())
    };
    let (Some(Node::Map(metadata)), Some(Node::Map(annotations))) =
        (document.at(&["metadata"]), document.at(&["metadata", "annotations"]))
    else {
        return false;
    };
    let text = |path: &[&str]| document.public_text(path);
    of(&document, &["apiVersion", "kind", "metadata"])
        && of(metadata, &["name", "annotations"])
        && of(annotations, &ANNOTATIONS.map(|(key, _)| key))
        && text(&["apiVersion"]) == Some("v1")
        && text(&["kind"]) == Some("Secret")
        && text(&["metadata", "name"]).is_some_and(|name| !name.is_empty())
        && ANNOTATIONS.iter().all(|(key, value)| text(&["metadata", "annotations", key]) == Some(value))
}

#[cfg(test)]
mod tests;
