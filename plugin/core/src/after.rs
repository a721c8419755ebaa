//! What stands in for a Secret once Vault rules: a stub, and beside it, once the handover is settled, what `after:` of
//! `regent.yaml` says ([`delivery`]).
//!
//! A stub keeps the object in the controller's set, so that nothing is pruned, and tells the controller
//! to leave the live object alone. It is never left out and never sent without that word: a Secret
//! without data destroys the live one's values. Argo CD obeys `hook: Skip` exactly (`Skip,PreSync` is
//! a hook and deletes); Flux obeys `ssa: Ignore`.

use crate::bootstrap::After;
use crate::evidence::ListedDocument;
use crate::guard;
use crate::name::AuthorityName;
use crate::object::{Meta, Object, is_secret_leaf};
use crate::render::Door;
use delivery::Clear;
use regent_sops::{Branch, Node};

pub(crate) mod delivery;

impl After {
    /// API version and kind of the object that has an operator deliver a Secret; `None` where another controller does.
    pub fn delivered_as(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Stub => None,
            Self::ExternalSecret { .. } => Some(("external-secrets.io/v1", "ExternalSecret")),
            Self::VaultStaticSecret { .. } => Some(("secrets.hashicorp.com/v1beta1", "VaultStaticSecret")),
        }
    }
}

/// What a stub says of the object it stands for.
pub(crate) struct Stub {
    /// Its name and kind.
    pub(crate) meta: Meta,
    /// Its effective namespace.
    pub(crate) namespace: Option<String>,
    /// The namespace that is written: a build that gives the other one looks for the document by its own.
    pub(crate) written: Option<String>,
    /// A Secret's `type`, where it stands in the clear.
    pub(crate) secret_type: Option<String>,
    /// Argo CD's order, where it stands in the clear.
    pub(crate) sync_wave: Option<String>,
    /// What else of it stands in the clear: for who delivers it, and no part of the stub.
    pub(crate) clear: Clear,
}

const HOOK: &str = "argocd.argoproj.io/hook";
const SYNC_WAVE: &str = "argocd.argoproj.io/sync-wave";
const FLUX_APPLY: &str = "kustomize.toolkit.fluxcd.io/ssa";

impl Stub {
    /// For an object whose name stands in the clear.
    pub(crate) fn of_object(object: &Object, meta: Meta, namespace: Option<String>) -> Self {
        let clear = |path: &[&str]| match object.tree.at(path) {
            Some(Node::Leaf(leaf)) if !is_secret_leaf(leaf, object.view) => object.tree.public_text(path),
            Some(_) | None => None,
        };
        // Argo CD reads anything that is no number as wave 0.
        let is_number = |wave: &&str| wave.parse::<i64>().is_ok();
        Self {
            secret_type: clear(&["type"]).filter(|text| meta.is_secret() && !text.is_empty()).map(str::to_owned),
            sync_wave: clear(&["metadata", "annotations", SYNC_WAVE]).filter(is_number).map(str::to_owned),
            clear: Clear::of(object),
            meta,
            written: namespace.clone(),
            namespace,
        }
    }

    /// For an object that only the list names.
    pub(crate) fn of_listed(listed: &ListedDocument) -> Self {
        let (api_version, kind) = listed.kind.rsplit_once('/').unwrap_or(("v1", &listed.kind));
        let namespace = Some(listed.name.namespace().as_str().to_owned());
        let meta = Meta {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.clone(),
            name: listed.name.name().to_owned(),
        };
        let (written, clear) = (namespace.clone(), Clear::default());
        Self { meta, namespace, written, secret_type: None, sync_wave: None, clear }
    }

    /// The stub as the door's controller needs it. The label is there so that the lock knows it, should a
    /// controller ever try to apply it.
    pub(crate) fn tree(&self, door: Door, authority: Option<&AuthorityName>) -> Branch {
        let text = |key: &str, value: &str| (key.to_owned(), Node::text(value));
        let mut metadata = vec![text("name", &self.meta.name)];
        metadata.extend(self.written.as_deref().map(|namespace| text("namespace", namespace)));
        if let Some(authority) = authority.filter(|_| self.meta.is_secret()) {
            let labels = Branch::from_entries([text(guard::AUTHORITY, authority.as_str())]);
            metadata.push(("labels".to_owned(), Node::Map(labels)));
        }
        let mut annotations = Vec::new();
        match door {
            Door::ArgoCd => annotations.push(text(HOOK, "Skip")),
            Door::Flux => annotations.push(text(FLUX_APPLY, "Ignore")),
        }
        annotations.extend(kept(door, self.sync_wave.as_deref()));
        metadata.push(("annotations".to_owned(), Node::Map(Branch::from_entries(annotations))));
        let mut tree = vec![text("apiVersion", &self.meta.api_version), text("kind", &self.meta.kind)];
        tree.push(("metadata".to_owned(), Node::Map(Branch::from_entries(metadata))));
        tree.extend(self.secret_type.as_deref().map(|kind| text("type", kind)));
        Branch::from_entries(tree)
    }
}

/// The annotations by which a controller keeps the live object, and Argo CD's order.
fn kept(door: Door, sync_wave: Option<&str>) -> Vec<(String, Node)> {
    let text = |key: &str, value: &str| (key.to_owned(), Node::text(value));
    match door {
        Door::ArgoCd => {
            let guards = [
                text(guard::SYNC_OPTIONS, "Prune=false,Delete=false"),
                text(guard::COMPARE_OPTIONS, "IgnoreExtraneous"),
            ];
            guards.into_iter().chain(sync_wave.map(|wave| text(SYNC_WAVE, wave))).collect()
        }
        Door::Flux => vec![text(guard::FLUX_PRUNE, "disabled")],
    }
}
