//! Whom kustomize-controller writes as: the account that a Kustomization names, else the one of its flag
//! `--default-service-account`, in the namespace of the Kustomization.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::cluster::flux::default_account;
use crate::output;

/// The accounts that these Kustomizations make it write as, beside its own. `controllers` is the namespace of Flux' own
/// controllers, `typed` what the person says of the flag.
pub(super) async fn impersonated(
    target: &Cluster,
    kustomizations: &[Value],
    controllers: &str,
    typed: Option<&str>,
) -> BTreeSet<String> {
    let mut accounts: BTreeSet<String> = kustomizations.iter().filter_map(named).collect();
    // Nobody asks for a Deployment that nothing hangs on.
    if !kustomizations.iter().any(names_nobody) {
        return accounts;
    }
    let default = match (default_account(target, controllers).await, typed) {
        (Ok(default), typed) => default.or_else(|| typed.map(str::to_owned)),
        (Err(_), Some(typed)) => Some(typed.to_owned()),
        (Err(problem), None) => {
            output::note(format_args!(
                "whether kustomize-controller has `--default-service-account` is not known: {problem}; say what it has \
                 (`--default-service-account NAME`), or the lock lets that account through"
            ));
            None
        }
    };
    if let Some(default) = default {
        accounts.extend(kustomizations.iter().filter(|it| names_nobody(it)).filter_map(|it| account(it, &default)));
    }
    accounts
}

/// The account that a Kustomization names.
fn named(kustomization: &Value) -> Option<String> {
    account(kustomization, kustomization["spec"]["serviceAccountName"].as_str().filter(|name| !name.is_empty())?)
}

/// Whether the flag counts for it. One that applies elsewhere is somebody else there.
fn names_nobody(kustomization: &Value) -> bool {
    named(kustomization).is_none() && kustomization["spec"]["kubeConfig"].is_null()
}

fn account(kustomization: &Value, name: &str) -> Option<String> {
    let namespace = kustomization["metadata"]["namespace"].as_str()?;
    Some(format!("system:serviceaccount:{namespace}:{name}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_flag_counts_for_whoever_names_nobody_and_applies_here() {
        let of = |spec: Value| json!({ "metadata": { "namespace": "team", "name": "app" }, "spec": spec });
        assert!(names_nobody(&of(json!({}))) && names_nobody(&of(json!({ "serviceAccountName": "" }))));
        assert!(!names_nobody(&of(json!({ "serviceAccountName": "deployer" }))));
        assert!(!names_nobody(&of(json!({ "kubeConfig": { "secretRef": { "name": "edge" } } }))));
        let deployer = Some("system:serviceaccount:team:deployer".to_owned());
        assert_eq!(named(&of(json!({ "serviceAccountName": "deployer" }))), deployer);
        assert_eq!(account(&of(json!({})), "flux").unwrap(), "system:serviceaccount:team:flux");
    }
}
