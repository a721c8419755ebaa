//! What the accounts of one authority may do, as RBAC objects: each role names the objects of one epoch.
//!
//! RBAC limits a creation to one name where it is a server-side apply: that needs `create` and `patch`, and asks both with
//! the name. A POST stays refused.

use regent_core::name::{AuthorityName, Epoch};
use serde_json::{Value, json};

use super::lock::lock_name;
use super::metadata;

/// Where regent's own accounts live.
pub(crate) const HOME: &str = "regent-system";

/// Where the witnesses of handovers live.
pub(crate) const WITNESSES: &str = "kube-system";

/// The account of Argo CD's repo-server, in whose pod the sidecar runs.
pub(crate) const DEFAULT_READER: &str = "system:serviceaccount:argocd:argocd-repo-server";

/// The name of the `ConfigMap` that witnesses the handover of an epoch.
pub(crate) fn witness_name(authority: &AuthorityName, epoch: Epoch) -> String {
    format!("regent-authority-{authority}-{epoch}")
}

/// What a front door needs to answer: get and watch this Authority, and get the witnesses around its epoch, so that
/// neither a lost Authority nor a rolled-back Git hides a handover. `accounts` are whole user names.
pub(crate) fn reader(authority: &AuthorityName, epoch: Epoch, accounts: &[String]) -> [Value; 4] {
    let name = format!("regent-reader-{authority}");
    let subjects: Vec<Value> = accounts.iter().map(|account| subject(account)).collect();
    let around = [epoch.previous(), Some(epoch), epoch.next()];
    let witnesses: Vec<String> = around.into_iter().flatten().map(|epoch| witness_name(authority, epoch)).collect();
    let authorities = json!({
        "apiGroups": ["regent.dev"], "resources": ["authorities"], "resourceNames": [authority.as_str()], "verbs": ["get", "watch"],
    });
    let config_maps = json!({
        "apiGroups": [""], "resources": ["configmaps"], "resourceNames": witnesses, "verbs": ["get"],
    });
    roles(&name, &[authorities], &[config_maps], &subjects)
}

/// The account that hands this authority over, and what it may do: move this Authority, write its status, and witness
/// that in the `ConfigMap` of this epoch; and see what Argo CD and Flux make of it. Who may change an Application or a
/// Kustomization may have anything deployed, so it does not.
pub(crate) fn handover(authority: &AuthorityName, epoch: Epoch) -> Vec<Value> {
    // Any Application may have rendered the root once, and be rolled back to that.
    let applications = json!({ "apiGroups": ["argoproj.io"], "resources": ["applications"], "verbs": ["get", "list"] });
    // Any Kustomization may have one of the Secrets; the artifacts are the operator's choice.
    let flux = "toolkit.fluxcd.io";
    let kustomizations = json!({
        "apiGroups": [format!("kustomize.{flux}")], "resources": ["kustomizations"], "verbs": ["get", "list"],
    });
    let artifacts = json!({
        "apiGroups": [format!("source.{flux}")], "resources": ["externalartifacts"], "verbs": ["get"],
    });
    // Whom the controller writes as, which the lock has to name.
    let controller = json!({
        "apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["kustomize-controller"], "verbs": ["get"],
    });
    mirror("handover", authority, epoch, vec![applications, kustomizations, artifacts, controller])
}

/// The account of `regent verify`, which repeats what a handover mirrored if a restore of the cluster lost it: the same
/// rights to write by another name, so that the two tokens lie in different hands and Vault tells them apart.
pub(crate) fn verify(authority: &AuthorityName, epoch: Epoch) -> Vec<Value> {
    mirror("verify", authority, epoch, Vec::new())
}

/// What writes the record of Vault into the cluster. The policies build the account's name from the authority's.
fn mirror(part: &str, authority: &AuthorityName, epoch: Epoch, more: Vec<Value>) -> Vec<Value> {
    let name = format!("regent-{part}-{authority}");
    let account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(&name, Some(HOME)),
        // It is used with short tokens that somebody asked for; a pod that runs as it by mistake gets none.
        "automountServiceAccountToken": false,
    });
    let authorities = json!({
        "apiGroups": ["regent.dev"], "resources": ["authorities"], "resourceNames": [authority.as_str()],
        "verbs": ["get", "create", "patch"],
    });
    let status = json!({
        "apiGroups": ["regent.dev"], "resources": ["authorities/status"], "resourceNames": [authority.as_str()], "verbs": ["patch"],
    });
    // Which cluster this is, and whether the lock holds from the moment on that the Authority moves.
    let cluster =
        json!({ "apiGroups": [""], "resources": ["namespaces"], "resourceNames": [WITNESSES], "verbs": ["get"] });
    let lock = json!({
        "apiGroups": ["admissionregistration.k8s.io"],
        "resources": ["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
        "resourceNames": [lock_name(authority)],
        "verbs": ["get"],
    });
    let config_map = json!({
        "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [witness_name(authority, epoch)],
        "verbs": ["get", "create", "patch"],
    });
    // Those of the epochs beside it are evidence, too.
    let beside: Vec<String> =
        [epoch.previous(), epoch.next()].into_iter().flatten().map(|epoch| witness_name(authority, epoch)).collect();
    let beside = json!({ "apiGroups": [""], "resources": ["configmaps"], "resourceNames": beside, "verbs": ["get"] });
    let subjects = [json!({ "kind": "ServiceAccount", "name": name, "namespace": HOME })];
    let cluster: Vec<Value> = [authorities, status, cluster, lock].into_iter().chain(more).collect();
    let roles = roles(&name, &cluster, &[config_map, beside], &subjects);
    [account].into_iter().chain(roles).collect()
}

/// `[ClusterRole, its binding, Role beside the witnesses, its binding]`, all of one name.
fn roles(name: &str, cluster: &[Value], witnesses: &[Value], subjects: &[Value]) -> [Value; 4] {
    let role = |kind: &str, namespace, rules| {
        let metadata = metadata(name, namespace);
        json!({ "apiVersion": RBAC_V1, "kind": kind, "metadata": metadata, "rules": rules })
    };
    let binding = |kind: &str, of: &str, namespace| {
        json!({
            "apiVersion": RBAC_V1, "kind": kind, "metadata": metadata(name, namespace),
            "roleRef": { "apiGroup": RBAC, "kind": of, "name": name }, "subjects": subjects,
        })
    };
    [
        role("ClusterRole", None, cluster),
        binding("ClusterRoleBinding", "ClusterRole", None),
        role("Role", Some(WITNESSES), witnesses),
        binding("RoleBinding", "Role", Some(WITNESSES)),
    ]
}

/// A user name as RBAC writes it. That of a `ServiceAccount` is taken apart, as `kubectl get` and reviewers expect it; any
/// other is a `User` by its whole name.
fn subject(account: &str) -> Value {
    let parts = account.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    match parts {
        Some((namespace, name)) => json!({ "kind": "ServiceAccount", "name": name, "namespace": namespace }),
        None => json!({ "apiGroup": RBAC, "kind": "User", "name": account }),
    }
}

/// The user name that a [`subject`] was made from.
pub(crate) fn user_name(subject: &Value) -> String {
    let text = |key: &str| subject[key].as_str().unwrap_or_default();
    match text("kind") {
        "ServiceAccount" => format!("system:serviceaccount:{}:{}", text("namespace"), text("name")),
        _user => text("name").to_owned(),
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const RBAC_V1: &str = "rbac.authorization.k8s.io/v1";

#[cfg(test)]
mod tests {
    use super::super::lock::{DEFAULT_DOORS, lock};
    use super::*;

    fn prod() -> AuthorityName {
        AuthorityName::parse("prod").unwrap()
    }

    fn epoch(number: u64) -> Epoch {
        Epoch::new(number).unwrap()
    }

    fn rules(objects: &[Value]) -> Vec<&Value> {
        objects.iter().filter_map(|object| object["rules"].as_array()).flatten().collect()
    }

    fn every_set() -> Vec<Value> {
        let mut all = reader(&prod(), epoch(1), &[DEFAULT_READER.to_owned()]).to_vec();
        all.extend(handover(&prod(), epoch(1)));
        all.extend(verify(&prod(), epoch(1)));
        all.extend(lock(&prod(), &DEFAULT_DOORS.map(str::to_owned)));
        all
    }

    #[test]
    fn a_reader_sees_the_witnesses_around_its_epoch_where_there_are_such_epochs() {
        for (at, names) in [
            (1, vec!["regent-authority-prod-1", "regent-authority-prod-2"]),
            (7, vec!["regent-authority-prod-6", "regent-authority-prod-7", "regent-authority-prod-8"]),
            (1_000_000, vec!["regent-authority-prod-999999", "regent-authority-prod-1000000"]),
        ] {
            let objects = reader(&prod(), epoch(at), &[]);
            assert_eq!(rules(&objects)[1]["resourceNames"], json!(names));
            assert_eq!(rules(&objects)[1]["verbs"], json!(["get"]));
        }
    }

    #[test]
    fn no_right_is_without_a_name_and_none_deletes_lists_or_updates_but_for_looking_at_what_gitops_tools_have() {
        let looks = |group: &str, resource: &str, verbs: &[&str]| json!({ "apiGroups": [group], "resources": [resource], "verbs": verbs });
        let looks = [
            looks("argoproj.io", "applications", &["get", "list"]),
            looks("kustomize.toolkit.fluxcd.io", "kustomizations", &["get", "list"]),
            looks("source.toolkit.fluxcd.io", "externalartifacts", &["get"]),
        ];
        let of_all = every_set();
        for look in &looks {
            assert_eq!(rules(&of_all).iter().filter(|rule| **rule == look).count(), 1, "{look}");
        }
        for rule in rules(&of_all).into_iter().filter(|rule| !looks.contains(rule)) {
            assert!(rule["resourceNames"].as_array().is_some_and(|names| !names.is_empty()), "{rule}");
            for verb in rule["verbs"].as_array().unwrap() {
                assert!(["get", "watch", "create", "patch"].contains(&verb.as_str().unwrap()), "{rule}");
            }
        }
        for rule in rules(&reader(&prod(), epoch(1), &[])) {
            assert!(rule["verbs"].as_array().unwrap().iter().all(|verb| verb == "get" || verb == "watch"), "{rule}");
        }
    }

    #[test]
    fn the_mirroring_accounts_write_the_witness_of_one_epoch() {
        for objects in [handover(&prod(), epoch(3)), verify(&prod(), epoch(3))] {
            let mut written = rules(&objects);
            written.retain(|rule| rule["resources"] == json!(["configmaps"]) && rule["verbs"] != json!(["get"]));
            assert_eq!(
                written.iter().map(|rule| &rule["resourceNames"]).collect::<Vec<_>>(),
                [&json!(["regent-authority-prod-3"])]
            );
        }
    }

    #[test]
    fn the_accounts_have_the_names_that_the_policies_build() {
        let policies = include_str!("../../../../manifests/cluster/policies.yaml");
        for (part, objects) in [("handover", handover(&prod(), epoch(1))), ("verify", verify(&prod(), epoch(1)))] {
            let account = &objects[0]["metadata"];
            let prefix = format!("system:serviceaccount:{}:regent-{part}-", account["namespace"].as_str().unwrap());
            assert_eq!(account["name"], Value::String(format!("regent-{part}-prod")));
            assert!(policies.contains(&format!("'{prefix}' + object.metadata.name")), "{prefix}");
            assert!(policies.contains(&format!("'{prefix}' + variables.authority")), "{prefix}");
            for binding in objects.iter().filter(|object| object.get("roleRef").is_some()) {
                let (name, namespace) = (&account["name"], &account["namespace"]);
                let own = json!([{ "kind": "ServiceAccount", "name": name, "namespace": namespace }]);
                assert_eq!(binding["subjects"], own);
            }
        }
    }

    #[test]
    fn an_account_is_bound_as_what_it_is() {
        let account = json!({ "kind": "ServiceAccount", "name": "argocd-repo-server", "namespace": "argocd" });
        assert_eq!(subject(DEFAULT_READER), account);
        let user = |name| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name });
        for name in ["jane", "oidc:jane@example.org", "system:serviceaccount:argocd", "system:node:a"] {
            assert_eq!(subject(name), user(name));
            assert_eq!(user_name(&subject(name)), name);
        }
        assert_eq!(user_name(&account), DEFAULT_READER);
    }

    #[test]
    fn nothing_of_it_is_pruned_and_all_of_it_is_regents() {
        for object in every_set() {
            let metadata = &object["metadata"];
            assert_eq!(metadata["labels"]["app.kubernetes.io/managed-by"], "regent", "{object}");
            let annotations = &metadata["annotations"];
            assert_eq!(annotations["argocd.argoproj.io/sync-options"], "Prune=false,Delete=false", "{object}");
            assert_eq!(annotations["kustomize.toolkit.fluxcd.io/prune"], "disabled", "{object}");
            assert_eq!(annotations["helm.sh/resource-policy"], "keep", "{object}");
        }
    }

    /// The committed example is what `init` makes, and e2e/cluster applies it. `REGENT_WRITE_EXAMPLE=1` writes it anew.
    #[test]
    fn the_example_is_what_init_makes() {
        let mut text = String::from(
            "# What `regent init` makes for an authority `prod` in its first epoch, beside the Authority itself: who may read\n\
             # it, who may hand it over, who may verify it, and its lock. A test of regent keeps this file true.\n",
        );
        for object in every_set() {
            text.push_str("---\n");
            text.push_str(&yaml_serde::to_string(&object).unwrap());
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/cluster/example/prod.yaml");
        if std::env::var_os("REGENT_WRITE_EXAMPLE").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), text);
    }
}
