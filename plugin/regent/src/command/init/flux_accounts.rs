//! Whom kustomize-controller writes as: the account that a Kustomization names, else the one of its flag
//! `--default-service-account`, in the namespace of the Kustomization.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::cluster::Cluster;
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
    let default = match (seen(target, controllers).await, typed) {
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

/// What the Deployment of kustomize-controller says of the flag, or why that is not known.
async fn seen(target: &Cluster, controllers: &str) -> Result<Option<String>, String> {
    let path = format!("/apis/apps/v1/namespaces/{controllers}/deployments/kustomize-controller");
    match target.get(&path).await {
        Ok(Some(deployment)) => Ok(default_account(&deployment)),
        Ok(None) => Err(format!("there is no Deployment {controllers}/kustomize-controller")),
        Err(problem) => Err(problem.to_string()),
    }
}

/// Of a flag that is given twice the last one counts, and an empty one is none.
fn default_account(deployment: &Value) -> Option<String> {
    let words = |container: &Value| {
        let all = [&container["command"], &container["args"]].into_iter().flat_map(list);
        all.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut found = None;
    for container in list(&deployment["spec"]["template"]["spec"]["containers"]) {
        let words = words(container);
        for (index, word) in words.iter().enumerate() {
            if word == FLAG {
                found = words.get(index + 1).cloned();
            } else if let Some(name) = word.strip_prefix(FLAG).and_then(|rest| rest.strip_prefix('=')) {
                found = Some(name.to_owned());
            }
        }
    }
    found.filter(|name| !name.is_empty())
}

const FLAG: &str = "--default-service-account";

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

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(command: &Value, args: &Value) -> Value {
        let manager = json!({ "name": "manager", "command": command, "args": args });
        json!({ "spec": { "template": { "spec": { "containers": [{ "name": "other" }, manager] } } } })
    }

    #[test]
    fn the_flag_is_read_in_each_way_that_it_can_be_written() {
        let of = |command: Value, args: Value| default_account(&deployment(&command, &args));
        let flux = Some("flux".to_owned());
        assert_eq!(of(Value::Null, json!(["--log-level=info", "--default-service-account=flux"])), flux);
        assert_eq!(of(Value::Null, json!(["--default-service-account", "flux", "--log-level=info"])), flux);
        assert_eq!(of(json!(["kustomize-controller", "--default-service-account=flux"]), Value::Null), flux);
        let twice = json!(["--default-service-account=first", "--default-service-account=flux"]);
        assert_eq!(of(Value::Null, twice), flux);
        for none in [
            json!([]),
            json!(["--default-service-account="]),
            json!(["--default-service-account"]),
            json!(["--default-service-account-x=flux", "--default-decryption-service-account=flux"]),
        ] {
            assert_eq!(of(Value::Null, none.clone()), None, "{none}");
        }
        assert_eq!(default_account(&json!({})), None);
    }

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
