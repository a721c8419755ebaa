//! What would stand in the way of letting go, before the record: everything that [`settle`](super::settle) waits for
//! has to be at rest, and what Flux holds has to be what is handed over.

use std::collections::BTreeMap;

use super::observed::{Configured, Holds, Kustomization, Published, Ready, SourceRef, short};
use super::patches;
use super::settle::{Facts, Stop, Why, stops};
use crate::name::ObjectName;
use crate::rules::Delivery;

/// What one Kustomization is in the way with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// A person decides.
    #[error("{0}")]
    Stops(Why),
    /// Its artifact is not there, or is none of regent's.
    #[error("{artifact} offers no revision that regent built (`regent serve flux` publishes it)")]
    NoArtifact {
        /// Which.
        artifact: SourceRef,
    },
    /// Without an artifact, it has the patch already that lets go.
    #[error("its `spec.patches` let go already, so it does not apply what Git has: they may once Vault rules")]
    LetsGo,
    /// The newest revision could not be built.
    #[error("its artifact is behind the repository: {0}")]
    Behind(String),
    /// The token that it decrypts with is another than regent's.
    #[error("spec.decryption.secretRef names {}, and regent's token is in {expected}", found.as_deref().unwrap_or("nothing"))]
    OtherToken {
        /// What it names.
        found: Option<String>,
        /// Where the operator's file has it.
        expected: String,
    },
    /// It did not apply what is published.
    #[error(
        "it applied {} last, and {} is published (`flux reconcile kustomization {} -n {}`)",
        applied.as_ref().map_or_else(|| "nothing".to_owned(), |it| short(it)), short(published), name.name(), name.namespace()
    )]
    NotApplied {
        /// Which.
        name: ObjectName,
        /// What it applied.
        applied: Option<String>,
        /// What is published.
        published: String,
    },
    /// It is at work or not well.
    #[error("it is not ready{}", reason.as_ref().map(|it| format!(": {it}")).unwrap_or_default())]
    NotReady {
        /// The reason of its condition, one word.
        reason: Option<String>,
    },
}

/// Everything that stands in the way, by Kustomization.
pub fn obstacles(facts: &Facts<'_>) -> BTreeMap<ObjectName, Vec<Obstacle>> {
    let mut found: BTreeMap<ObjectName, Vec<Obstacle>> = BTreeMap::new();
    for Stop { name, why } in stops(facts) {
        found.entry(name).or_default().push(Obstacle::Stops(why));
    }
    for one in facts.scope.configured(facts.kustomizations, facts.artifacts) {
        let (name, Some(kustomization)) = (&one.application.kustomization, one.kustomization) else { continue };
        if !facts.skipped.contains(name) {
            found.entry(name.clone()).or_default().extend(one.obstacles(kustomization));
        }
    }
    found.retain(|_, obstacles| !obstacles.is_empty());
    found
}

impl Configured<'_> {
    /// What of it is in the way, beside what [`stops`](Self::stop) it.
    fn obstacles(&self, kustomization: &Kustomization) -> Vec<Obstacle> {
        let mut found = Vec::new();
        if let Some(expected) = self.application.token_secret.as_ref()
            && kustomization.token_secret.as_ref() != Some(expected)
        {
            let (found_there, expected) = (kustomization.token_secret.clone(), expected.clone());
            found.push(Obstacle::OtherToken { found: found_there, expected });
        }
        match &self.application.delivery {
            Delivery::Artifact(_) => found.extend(self.of_artifact(kustomization)),
            Delivery::Patches(_) if patches::let_go(&kustomization.patches, &self.application.authority) => {
                found.push(Obstacle::LetsGo);
            }
            Delivery::Patches(_) => {}
        }
        match &kustomization.ready {
            Ready::Yes if !kustomization.is_busy() => {}
            Ready::Yes | Ready::Unknown => found.push(Obstacle::NotReady { reason: None }),
            Ready::No(reason) => found.push(Obstacle::NotReady { reason: Some(reason.clone()) }),
        }
        found
    }

    fn of_artifact(&self, kustomization: &Kustomization) -> Vec<Obstacle> {
        let none = Published::default();
        let Published { revision, origin: _, refusal } = self.artifact.unwrap_or(&none);
        let revision = revision.as_ref().filter(|revision| match Holds::of(revision) {
            Holds::Bootstrap => true,
            // While Git rules stubs are of another epoch.
            Holds::Stubs | Holds::Other => false,
        });
        let Some(published) = revision else {
            return vec![Obstacle::NoArtifact { artifact: SourceRef::of(self.application) }];
        };
        let mut found: Vec<Obstacle> = refusal.clone().map(Obstacle::Behind).into_iter().collect();
        if kustomization.applied.as_ref() != Some(published) {
            let (name, applied) = (kustomization.name.clone(), kustomization.applied.clone());
            found.push(Obstacle::NotApplied { name, applied, published: published.clone() });
        }
        found
    }
}

/// The account by whose name the API server sees what a Kustomization applies; `None` where it applies elsewhere.
/// `controllers` is the namespace of Flux' own controllers, `default` the account of `--default-service-account`.
pub fn account(kustomization: &Kustomization, controllers: &str, default: Option<&str>) -> Option<String> {
    if kustomization.is_remote {
        return None;
    }
    Some(match kustomization.service_account.as_deref().or(default) {
        Some(name) => format!("system:serviceaccount:{}:{name}", kustomization.name.namespace()),
        None => format!("system:serviceaccount:{controllers}:kustomize-controller"),
    })
}

#[cfg(test)]
mod tests;
