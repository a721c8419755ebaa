//! Where regent runs beside Argo CD and beside Flux, as workloads there say, and the Secrets with keys that their Pods have.

use std::collections::BTreeMap;

use regent_core::name::{AuthorityName, Namespace};
use regent_core::retire::{KeySecret, Mount, found, uses};
use regent_core::rules::{RegentConfig, Rule};
use serde_json::Value;

use super::{Cluster, ClusterError};

/// What Secrets with keys are called in the manifests.
pub(crate) const KEYS: &str = "regent-keys-";

/// Where doors are: beside Argo CD, and where the operator's file delivers anything by Flux, beside its controllers.
pub(crate) fn namespaces(config: Option<&RegentConfig>) -> Vec<Namespace> {
    let argocd = argocd(config);
    let flux = config.filter(|config| !config.flux.applications.is_empty()).and_then(flux);
    let flux = flux.filter(|flux| *flux != argocd);
    [argocd].into_iter().chain(flux).collect()
}

/// Where the doors of a root are, for whoever has rights there and nowhere else: beside Flux, where its operator's file delivers
/// it so, else beside Argo CD. That a cluster with the one has the other's namespace is not assumed.
pub(crate) fn namespace_of(config: Option<&RegentConfig>, authority: &AuthorityName) -> Namespace {
    let delivers = |config: &&RegentConfig| config.flux.applications.iter().any(|one| one.authority == *authority);
    config.filter(delivers).and_then(flux).unwrap_or_else(|| argocd(config))
}

fn argocd(config: Option<&RegentConfig>) -> Namespace {
    config.map(|config| config.argocd.clone()).unwrap_or_default().namespace
}

/// `flux-system`, or what was read as a namespace.
fn flux(config: &RegentConfig) -> Option<Namespace> {
    Namespace::parse(config.flux.namespace()).ok()
}

/// What runs for good in a namespace: regent beside Flux is a `StatefulSet`.
pub(crate) async fn lasting(cluster: &Cluster, namespace: &Namespace) -> Result<Vec<Value>, ClusterError> {
    let mut lasting = deployments(cluster, namespace).await?;
    lasting.extend(cluster.list(&format!("/apis/apps/v1/namespaces/{namespace}/statefulsets"), "").await?);
    Ok(lasting)
}

/// The Deployments of Argo CD's namespace. Its repo-server is one of them, whatever an installer called it.
pub(crate) async fn deployments(cluster: &Cluster, argocd: &Namespace) -> Result<Vec<Value>, ClusterError> {
    cluster.list(&format!("/apis/apps/v1/namespaces/{argocd}/deployments"), "").await
}

/// Everything in the namespace of a door that runs Pods, but Jobs that have ended.
pub(crate) async fn workloads(cluster: &Cluster, namespace: &Namespace) -> Result<Vec<Value>, ClusterError> {
    let mut workloads = lasting(cluster, namespace).await?;
    for (api, kind) in [("apps", "daemonsets"), ("batch", "cronjobs"), ("batch", "jobs")] {
        workloads.extend(cluster.list(&format!("/apis/{api}/v1/namespaces/{namespace}/{kind}"), "").await?);
    }
    workloads.retain(|workload| !has_ended(workload));
    Ok(workloads)
}

/// Whether it is a Job that runs no Pod any more.
fn has_ended(workload: &Value) -> bool {
    let is_end = |it: &Value| matches!(text(&it["type"]), "Complete" | "Failed") && it["status"] == "True";
    workload["spec"]["parallelism"].is_number() && list(&workload["status"]["conditions"]).any(is_end)
}

/// The containers of a workload that are regent's doors, by their place in the list.
pub(crate) fn doors(deployment: &Value) -> Vec<usize> {
    let is_door = |container: &Value| {
        let words: Vec<&str> =
            list(&container["command"]).chain(list(&container["args"])).filter_map(Value::as_str).collect();
        container["name"] == "regent"
            || words.windows(2).any(|two| two == ["serve", "argocd"] || two == ["serve", "flux"])
    };
    list(&pod(deployment)["containers"])
        .enumerate()
        .filter(|(_, container)| is_door(container))
        .map(|(at, _)| at)
        .collect()
}

/// The Secrets with keys that Pods have: by their names, and those in which a rule has identities.
pub(crate) fn key_secrets(workloads: &[Value], rules: &[Rule]) -> Vec<KeySecret> {
    let mut secrets: BTreeMap<String, Vec<Mount>> = BTreeMap::new();
    for workload in workloads {
        let (pod, doors) = (pod(workload), doors(workload));
        let named = |container: &Value| format!("{}/{}", text(&workload["metadata"]["name"]), text(&container["name"]));
        for container in ["containers", "initContainers"].into_iter().flat_map(|kind| list(&pod[kind])) {
            for secret in in_environment(container) {
                let mount = Mount { container: named(container), path: String::new(), is_door: false };
                secrets.entry(secret).or_default().push(mount);
            }
        }
        for volume in list(&pod["volumes"]) {
            for secret in secrets_of(volume) {
                let mounts = secrets.entry(secret).or_default();
                for kind in ["containers", "initContainers"] {
                    for (at, container) in list(&pod[kind]).enumerate() {
                        let of_it = list(&container["volumeMounts"]).filter(|mount| mount["name"] == volume["name"]);
                        mounts.extend(of_it.map(|mount| Mount {
                            container: named(container),
                            // One that is not clear may be anywhere.
                            path: found("/", text(&mount["mountPath"])).unwrap_or_else(|| "/".to_owned()),
                            is_door: kind == "containers" && doors.contains(&at),
                        }));
                    }
                }
            }
        }
    }
    let secrets = secrets.into_iter().map(|(name, mounts)| KeySecret { name, mounts });
    secrets.filter(|secret| secret.name.starts_with(KEYS) || rules.iter().any(|rule| uses(rule, secret))).collect()
}

/// The rules by which these doors answer: of the operator's file that each of them mounts. Identities are where the door
/// finds them.
pub(crate) async fn rules(cluster: &Cluster, namespace: &Namespace, workloads: &[Value]) -> Result<Vec<Rule>, String> {
    let mut rules = Vec::new();
    for workload in workloads {
        for at in doors(workload) {
            let File { folder, map, key } = file_of(workload, at).ok_or_else(|| {
                format!(
                    "the door in {namespace}/{} mounts no ConfigMap with its `--config`",
                    text(&workload["metadata"]["name"])
                )
            })?;
            let file = format!("ConfigMap {namespace}/{map}");
            let path = format!("/api/v1/namespaces/{namespace}/configmaps/{map}");
            let object = cluster.get(&path).await.map_err(|problem| format!("{file}: {problem}"))?;
            let object = object.ok_or_else(|| format!("{file} is not there"))?;
            let written = object["data"][&key].as_str().ok_or_else(|| format!("{file} has no {key}"))?;
            let config =
                RegentConfig::parse(&key, written.as_bytes()).map_err(|refusal| format!("{file}: {refusal}"))?;
            for rule in config.rules {
                rules.push(where_found(rule, &folder).map_err(|path| {
                    format!("{file}: where {path} lies is not clear (write it without `..` after a name)")
                })?);
            }
        }
    }
    Ok(rules)
}

/// A rule whose identities are where a door finds them, whose file lies in `folder`.
///
/// # Errors
/// The identity of which that is not clear.
fn where_found(rule: Rule, folder: &str) -> Result<Rule, String> {
    let identities = rule.identities.iter().map(|path| found(folder, path).ok_or_else(|| path.clone()));
    let identities = identities.collect::<Result<_, _>>()?;
    Ok(Rule { identities, ..rule })
}

/// The operator's file of a door.
#[derive(Debug, PartialEq, Eq)]
struct File {
    /// In the container.
    folder: String,
    /// The `ConfigMap`.
    map: String,
    /// Its key.
    key: String,
}

/// The file that a door's `--config` names.
fn file_of(deployment: &Value, at: usize) -> Option<File> {
    let pod = pod(deployment);
    let container = list(&pod["containers"]).nth(at)?;
    let words: Vec<&str> =
        list(&container["command"]).chain(list(&container["args"])).filter_map(Value::as_str).collect();
    let typed = words.iter().position(|word| *word == "--config").and_then(|at| words.get(at + 1).copied());
    let file = typed.or_else(|| words.iter().find_map(|word| word.strip_prefix("--config=")))?;
    let (folder, key) = file.rsplit_once('/')?;
    let mount = list(&container["volumeMounts"])
        .find(|mount| text(&mount["mountPath"]).trim_end_matches('/') == folder && mount["subPath"].is_null())?;
    let volume = list(&pod["volumes"]).find(|volume| volume["name"] == mount["name"])?;
    // Where keys are renamed on the way, which one is meant is not guessed.
    let map = &volume["configMap"];
    (map["items"].is_null()).then_some(())?;
    Some(File { folder: folder.to_owned(), map: map["name"].as_str()?.to_owned(), key: key.to_owned() })
}

/// Volumes of a door that no other container of the pod mounts, by their places in the list.
pub(crate) fn own_volumes(deployment: &Value) -> Vec<usize> {
    let (pod, doors) = (pod(deployment), doors(deployment));
    let mounts =
        |container: &Value, volume: &Value| list(&container["volumeMounts"]).any(|it| it["name"] == volume["name"]);
    let is_own = |volume: &Value| {
        let (ours, theirs): (Vec<_>, Vec<_>) =
            list(&pod["containers"]).enumerate().partition(|(at, _)| doors.contains(at));
        let mut others = theirs.into_iter().map(|(_, container)| container).chain(list(&pod["initContainers"]));
        ours.into_iter().any(|(_, container)| mounts(container, volume)) && !others.any(|it| mounts(it, volume))
    };
    list(&pod["volumes"]).enumerate().filter(|(_, volume)| is_own(volume)).map(|(at, _)| at).collect()
}

fn secrets_of(volume: &Value) -> Vec<String> {
    let projected = list(&volume["projected"]["sources"]).map(|source| &source["secret"]["name"]);
    let names = projected.chain([&volume["secret"]["secretName"]]);
    names.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

/// The Secrets in the environment of a container.
fn in_environment(container: &Value) -> Vec<String> {
    let each = list(&container["env"]).map(|variable| &variable["valueFrom"]["secretKeyRef"]["name"]);
    let names = each.chain(list(&container["envFrom"]).map(|from| &from["secretRef"]["name"]));
    names.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

/// What the Pods of something are made from.
fn pod(workload: &Value) -> &Value {
    let spec = &workload["spec"];
    let job = &spec["jobTemplate"]["spec"];
    let spec = if job.is_null() { spec } else { job };
    &spec["template"]["spec"]
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shipped() -> Value {
        json!({ "metadata": { "name": "argocd-repo-server" }, "spec": { "template": { "spec": {
            "containers": [
                { "name": "argocd-repo-server", "volumeMounts": [{ "name": "plugins", "mountPath": "/p" }] },
                { "name": "regent", "args": ["serve", "argocd", "--config", "/etc/regent/regent.yaml"], "volumeMounts": [
                    { "name": "plugins", "mountPath": "/p" },
                    { "name": "regent-config", "mountPath": "/etc/regent" },
                    { "name": "regent-keys-prod", "mountPath": "/var/run/regent/keys/prod" } ] },
            ],
            "volumes": [
                { "name": "plugins", "emptyDir": {} },
                { "name": "regent-config", "configMap": { "name": "regent" } },
                { "name": "regent-keys-prod", "secret": { "secretName": "regent-keys-prod" } },
            ],
        } } } })
    }

    #[test]
    fn a_door_its_file_its_keys_and_its_volumes_are_found() {
        let deployment = shipped();
        assert_eq!(doors(&deployment), [1]);
        let [folder, map, key] = ["/etc/regent", "regent", "regent.yaml"].map(ToOwned::to_owned);
        assert_eq!(file_of(&deployment, 1), Some(File { folder, map, key }));
        assert_eq!(own_volumes(&deployment), [1, 2]);
        let [keys] = key_secrets(&[deployment], &[]).try_into().unwrap();
        assert_eq!(keys.name, "regent-keys-prod");
        let path = "/var/run/regent/keys/prod".to_owned();
        let container = "argocd-repo-server/regent".to_owned();
        assert_eq!(keys.mounts, [Mount { container, path, is_door: true }]);
    }

    #[test]
    fn keys_are_found_in_volumes_of_either_kind() {
        let deployment = json!({ "spec": { "template": { "spec": { "volumes": [
            { "name": "a", "secret": { "secretName": "regent-keys-prod" } },
            { "name": "b", "projected": { "sources": [
                { "secret": { "name": "regent-keys-more" } }, { "serviceAccountToken": {} } ] } },
            { "name": "regent-keys-x", "secret": { "secretName": "other" } },
            { "name": "c", "emptyDir": {} },
        ] } } } });
        let names =
            |deployment: Value| key_secrets(&[deployment], &[]).into_iter().map(|it| it.name).collect::<Vec<_>>();
        assert_eq!(names(deployment), ["regent-keys-more", "regent-keys-prod"]);
        assert_eq!(names(json!({})), [""; 0]);
    }

    #[test]
    fn whatever_else_has_a_key_is_found() {
        let with = |container: Value| json!({ "containers": [container] });
        let env = json!({ "name": "env", "env": [
            { "name": "A", "value": "a" }, { "name": "B", "valueFrom": { "secretKeyRef": { "name": "regent-keys-prod" } } } ] });
        let from = json!({ "name": "from", "envFrom": [
            { "configMapRef": { "name": "c" } }, { "secretRef": { "name": "regent-keys-prod" } } ] });
        let job =
            json!({ "metadata": { "name": "job" }, "spec": { "parallelism": 1, "template": { "spec": with(env) } } });
        let cron = json!({ "metadata": { "name": "cron" }, "spec": {
            "jobTemplate": { "spec": { "parallelism": 1, "template": { "spec": with(from) } } } } });
        let [keys] = key_secrets(&[job.clone(), cron, shipped()], &[]).try_into().unwrap();
        let mounts: Vec<(&str, bool)> = keys.mounts.iter().map(|it| (it.container.as_str(), it.is_door)).collect();
        assert_eq!(mounts, [("job/env", false), ("cron/from", false), ("argocd-repo-server/regent", true)]);
        let mut ended = job.clone();
        ended["status"] = json!({ "conditions": [{ "type": "Complete", "status": "True" }] });
        assert!(has_ended(&ended) && !has_ended(&job) && !has_ended(&shipped()));
    }

    #[test]
    fn a_door_by_another_name_is_known_by_what_it_runs() {
        let mut deployment = shipped();
        let container = &mut deployment["spec"]["template"]["spec"]["containers"][1];
        container["name"] = json!("plugin");
        assert_eq!(doors(&deployment), [1]);
        for (args, found) in [
            (json!(["serve", "flux", "--config=/etc/regent/regent.yaml"]), vec![1]),
            (json!(["verify", "prod"]), vec![]),
        ] {
            deployment["spec"]["template"]["spec"]["containers"][1]["args"] = args;
            assert_eq!(doors(&deployment), found);
        }
    }

    #[test]
    fn doors_are_beside_flux_where_it_delivers() {
        let of = |text: &str| {
            let config = RegentConfig::parse("regent.yaml", text.as_bytes()).unwrap();
            namespaces(Some(&config)).iter().map(|it| it.as_str().to_owned()).collect::<Vec<_>>()
        };
        let map = include_str!("../../../../manifests/flux/example/config.yaml");
        let (_, file) = map.split_once("regent.yaml: |\n").unwrap();
        let file = file.lines().map(|line| line.strip_prefix("    ").unwrap_or_default());
        let shipped = &file.collect::<Vec<_>>().join("\n");
        assert_eq!(of(shipped), ["argocd", "flux-system"]);
        let (before, _) = shipped.split_once("\nflux:").unwrap();
        assert_eq!(of(before), ["argocd"]);
        assert_eq!(namespaces(None).len(), 1);
        let config = RegentConfig::parse("regent.yaml", shipped.as_bytes()).unwrap();
        let of = |name: &str| namespace_of(Some(&config), &AuthorityName::parse(name).unwrap()).as_str().to_owned();
        assert_eq!((of("prod"), of("other")), ("flux-system".to_owned(), "argocd".to_owned()));
    }
}
