//! Flux' Kustomizations as core looks at them, and how one is made to reconcile now.

use std::collections::BTreeMap;
use std::time::Duration;

use regent_core::flux::observed::{Built, Entry, Kustomization, Published, Ready, SourceRef};
use regent_core::name::ObjectName;
use regent_core::rules::FluxApplication;
use serde_json::{Value, json};

use super::flux::{ORIGIN_REVISION, external_artifact_path, kustomization_path, patches};
use super::{Cluster, ClusterError, discovery};

const API_VERSION: &str = "kustomize.toolkit.fluxcd.io/v1";
const KUSTOMIZATIONS: &str = "/apis/kustomize.toolkit.fluxcd.io/v1/kustomizations";

/// Another text at each request; kustomize-controller reconciles when it changes.
const REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";

/// Every Kustomization; `None` where the cluster certainly has no Flux. Who was not given the right yet is told no also
/// where there is none.
pub(crate) async fn if_served(cluster: &Cluster) -> Result<Option<Vec<Kustomization>>, ClusterError> {
    let problem = match cluster.list(KUSTOMIZATIONS, "").await {
        Ok(listed) => return Ok(Some(listed.iter().filter_map(parsed).collect())),
        Err(problem @ (ClusterError::NotServed(_) | ClusterError::Forbidden(_))) => problem,
        Err(problem) => return Err(problem),
    };
    if discovery::serves(cluster, API_VERSION, "Kustomization").await? { Err(problem) } else { Ok(None) }
}

/// The artifacts of these entries of the operator's file, as far as they are there.
pub(crate) async fn artifacts(
    cluster: &Cluster,
    applications: &[&FluxApplication],
) -> Result<BTreeMap<SourceRef, Published>, ClusterError> {
    let mut found = BTreeMap::new();
    for application in applications {
        let Some(artifact) = SourceRef::artifact_of(application) else { continue };
        let Ok(name) = ObjectName::parse(&format!("{}/{}", artifact.namespace, artifact.name)) else { continue };
        if let Some(object) = cluster.get(&external_artifact_path(&name)).await? {
            found.insert(artifact, published(&object));
        }
    }
    Ok(found)
}

/// Has it reconcile now.
pub(crate) async fn ask(cluster: &Cluster, name: &ObjectName, now: &str) -> Result<(), ClusterError> {
    cluster.merge(&kustomization_path(name), &requested(now)).await.map(drop)
}

/// Whether this identity may: a dry run of it.
pub(crate) async fn may_ask(cluster: &Cluster, name: &ObjectName, now: &str) -> Result<(), ClusterError> {
    cluster.may_merge(&kustomization_path(name), &requested(now)).await
}

fn requested(now: &str) -> Value {
    json!({ "metadata": { "annotations": { REQUESTED_AT: now } } })
}

/// What of a Kustomization says what it may apply.
fn parsed(object: &Value) -> Option<Kustomization> {
    let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    let namespace = metadata["namespace"].as_str()?;
    let name = ObjectName::parse(&format!("{namespace}/{}", metadata["name"].as_str()?)).ok()?;
    let source = &spec["sourceRef"];
    let interval = duration(&spec["interval"]).unwrap_or_default();
    let ready = condition(status, "Ready");
    Some(Kustomization {
        name,
        is_suspended: spec["suspend"] == true,
        generation: metadata["generation"].as_i64().unwrap_or_default(),
        observed: status["observedGeneration"].as_i64().unwrap_or_default(),
        source: SourceRef {
            kind: text(&source["kind"]).unwrap_or_default(),
            namespace: text(&source["namespace"]).unwrap_or_else(|| namespace.to_owned()),
            name: text(&source["name"]).unwrap_or_default(),
        },
        patches: patches(spec),
        token_secret: text(&spec["decryption"]["secretRef"]["name"]),
        service_account: text(&spec["serviceAccountName"]),
        is_remote: !spec["kubeConfig"].is_null(),
        timeout: duration(&spec["timeout"]).unwrap_or_else(|| interval.saturating_sub(Duration::from_secs(30))),
        retry: duration(&spec["retryInterval"]).unwrap_or(interval),
        attempted: text(&status["lastAttemptedRevision"]),
        applied: text(&status["lastAppliedRevision"]),
        origin: text(&status["lastAppliedOriginRevision"]),
        ready: match ready.map(|ready| (text(&ready["status"]), text(&ready["reason"]))) {
            Some((Some(status), _)) if status == "True" => Ready::Yes,
            Some((Some(status), reason)) if status == "False" => Ready::No(reason.unwrap_or_default()),
            Some(_) | None => Ready::Unknown,
        },
        is_reconciling: condition(status, "Reconciling").is_some_and(|it| it["status"] == "True"),
        history: list(&status["history"]).filter_map(built).collect(),
        inventory: list(&status["inventory"]["entries"]).filter_map(entry).collect(),
    })
}

fn published(object: &Value) -> Published {
    let (artifact, status) = (&object["status"]["artifact"], &object["status"]);
    let ready = condition(status, "Ready").filter(|ready| ready["status"] == "False");
    Published {
        revision: text(&artifact["revision"]),
        origin: text(&artifact["metadata"][ORIGIN_REVISION]),
        refusal: ready.map(|ready| text(&ready["message"]).unwrap_or_default()),
    }
}

fn built(snapshot: &Value) -> Option<Built> {
    let metadata = &snapshot["metadata"];
    Some(Built {
        revision: text(&metadata["revision"])?,
        origin: text(&metadata["originRevision"]),
        is_unbuilt: snapshot["lastReconciledStatus"] == "BuildFailed",
    })
}

/// `<namespace>_<name>_<group>_<kind>`, and the version beside it. A name of the API has no `_`; where RBAC has a `:` in one,
/// two stand for it.
fn entry(object: &Value) -> Option<Entry> {
    let (namespace, rest) = object["id"].as_str()?.split_once('_')?;
    let (rest, kind) = rest.rsplit_once('_')?;
    let (name, group) = rest.rsplit_once('_')?;
    let version = text(&object["v"]).unwrap_or_default();
    let kind = if group.is_empty() { kind.to_owned() } else { format!("{group}/{version}/{kind}") };
    Some(Entry { kind, namespace: namespace.to_owned(), name: name.to_owned() })
}

fn condition<'v>(status: &'v Value, kind: &str) -> Option<&'v Value> {
    list(&status["conditions"]).find(|condition| condition["type"] == kind)
}

/// As Go writes it: `1h30m`, `90s`, `1m0.5s`.
fn duration(value: &Value) -> Option<Duration> {
    let mut rest = value.as_str().filter(|text| !text.is_empty())?;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, after) = rest.split_at_checked(digits)?;
        let units = after.find(|letter: char| letter.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(units)?;
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _unknown => return None,
        };
        sum += Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        rest = after;
    }
    Some(sum)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As kustomize-controller 1.9 leaves it between two tries.
    fn failing() -> Value {
        json!({
            "metadata": { "namespace": "team", "name": "app", "generation": 2 },
            "spec": {
                "interval": "1h", "sourceRef": { "kind": "ExternalArtifact", "name": "app" },
                "decryption": { "provider": "sops", "secretRef": { "name": "regent-token" } },
            },
            "status": {
                "observedGeneration": 1,
                "lastAppliedRevision": "bootstrap@sha256:0a", "lastAppliedOriginRevision": "main@sha1:1",
                "lastAttemptedRevision": "bootstrap@sha256:0b",
                "conditions": [
                    { "type": "Reconciling", "status": "True", "reason": "ProgressingWithRetry" },
                    { "type": "Ready", "status": "False", "reason": "BuildFailed", "message": "what may quote an object" },
                ],
                "inventory": { "entries": [
                    { "id": "team_db__Secret", "v": "v1" }, { "id": "team_web_apps_Deployment", "v": "v1" },
                    { "id": "_a__b_rbac.authorization.k8s.io_ClusterRole", "v": "v1" } ] },
                "history": [{ "lastReconciledStatus": "BuildFailed", "metadata": { "revision": "bootstrap@sha256:0b", "originRevision": "main@sha1:2" } }],
            },
        })
    }

    #[test]
    fn what_a_kustomization_says_is_read_and_a_message_is_not() {
        let it = parsed(&failing()).unwrap();
        assert_eq!(it.name.to_string(), "team/app");
        assert_eq!(it.ready, Ready::No("BuildFailed".to_owned()));
        assert!(it.is_reconciling && !it.is_busy());
        // Without a namespace of its own the source is beside it; without a timeout the interval less half a minute counts.
        assert_eq!(it.source.to_string(), "ExternalArtifact team/app");
        assert_eq!((it.timeout.as_secs(), it.retry.as_secs()), (3570, 3600));
        let built =
            |of: &str| Built { revision: of.to_owned(), origin: Some("main@sha1:2".to_owned()), is_unbuilt: true };
        assert_eq!(it.history, [built("bootstrap@sha256:0b")]);
        let entries: Vec<(&str, &str)> = it.inventory.iter().map(|it| (it.kind.as_str(), it.name.as_str())).collect();
        let role = ("rbac.authorization.k8s.io/v1/ClusterRole", "a__b");
        assert_eq!(entries, [("Secret", "db"), ("apps/v1/Deployment", "web"), role]);
        assert!(!format!("{it:?}").contains("quote"));
    }

    #[test]
    fn one_that_was_never_looked_at_is_not_at_rest() {
        let mut object = failing();
        object["status"] = Value::Null;
        assert!(parsed(&object).unwrap().is_busy());
    }

    #[test]
    fn an_artifact_says_its_revision_and_why_there_is_no_newer_one() {
        let object = |status: &str| {
            json!({ "status": {
                "artifact": { "revision": "handover@sha256:0a", "metadata": { ORIGIN_REVISION: "main@sha1:1" } },
                "conditions": [{ "type": "Ready", "status": status, "message": "why" }],
            } })
        };
        let ready = published(&object("True"));
        assert_eq!(
            (ready.revision.as_deref(), ready.origin.as_deref()),
            (Some("handover@sha256:0a"), Some("main@sha1:1"))
        );
        assert_eq!(ready.refusal, None);
        assert_eq!(published(&object("False")).refusal.as_deref(), Some("why"));
    }

    #[test]
    fn durations_are_gos() {
        for (text, seconds) in [("90s", 90), ("1h30m", 5400), ("10m0s", 600), ("1500ms", 1)] {
            assert_eq!(duration(&json!(text)).unwrap().as_secs(), seconds, "{text}");
        }
        for text in ["", "5", "s", "1y", "m5"] {
            assert_eq!(duration(&json!(text)), None, "{text}");
        }
    }
}
