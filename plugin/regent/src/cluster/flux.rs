//! Flux' objects in the API server: what a `GitRepository` offers, what a Kustomization says, the `ExternalArtifact` that
//! regent publishes for it, and the Secret with a namespace's token.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::jiff::Timestamp;
use regent_core::flux::reach::{InlinePatch, Overrides, Selector};
use regent_core::name::ObjectName;
use serde_json::{Value, json};

use super::{Cluster, ClusterError, MANAGER};

/// What a `GitRepository` offers (`status.artifact`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SourceArtifact {
    /// Where source-controller serves it.
    pub(crate) url: String,
    /// `sha256:<hex>` of its bytes.
    pub(crate) digest: String,
    /// Such as `main@sha1:<commit>`.
    pub(crate) revision: String,
    /// Bytes, where it says so.
    pub(crate) size: Option<u64>,
}

/// What a `GitRepository` offers, and whether source-controller verified it.
pub(crate) struct Offer {
    pub(crate) artifact: SourceArtifact,
    /// The rule that is not kept, where it did not.
    pub(crate) verified: Result<(), &'static str>,
}

/// What a Kustomization says, as far as regent reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kustomization {
    /// Its uid, for Events.
    pub(crate) uid: String,
    /// `spec.path`, as it stands there.
    pub(crate) path: String,
    /// What else of `spec` says what its build reads and how it names it.
    pub(crate) overrides: Overrides,
}

/// What is published under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publication {
    /// Its full address.
    pub(crate) url: String,
    /// The address without the server.
    pub(crate) path: String,
    /// What makes kustomize-controller look: another one each time anything changed.
    pub(crate) revision: String,
    /// `sha256:<hex>`.
    pub(crate) digest: String,
    /// Bytes.
    pub(crate) size: u64,
    /// Such as the revision of the repository.
    pub(crate) metadata: BTreeMap<String, String>,
}

/// Whether the newest revision of the repository is in the artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It is.
    Ready(String),
    /// It is not, and the last one that could be built is still published: why, in one public line.
    NotReady(String),
}

/// The key of `metadata` that becomes the origin revision in a Kustomization's status and events.
pub(crate) const ORIGIN_REVISION: &str = "org.opencontainers.image.revision";

pub(crate) fn git_repository_path(name: &ObjectName) -> String {
    format!("/apis/source.toolkit.fluxcd.io/v1/namespaces/{}/gitrepositories/{}", name.namespace(), name.name())
}

pub(crate) fn kustomization_path(name: &ObjectName) -> String {
    format!("/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/{}/kustomizations/{}", name.namespace(), name.name())
}

pub(crate) fn external_artifact_path(name: &ObjectName) -> String {
    format!("/apis/source.toolkit.fluxcd.io/v1/namespaces/{}/externalartifacts/{}", name.namespace(), name.name())
}

/// What a `GitRepository` offers; `None` where it is not there, or has nothing yet.
pub(crate) async fn offered(cluster: &Cluster, name: &ObjectName) -> Result<Option<Offer>, ClusterError> {
    let Some(repository) = cluster.get(&git_repository_path(name)).await? else { return Ok(None) };
    let artifact = &repository["status"]["artifact"];
    let text = |key: &str| artifact[key].as_str().map(str::to_owned);
    Ok((|| {
        let (url, digest, revision) = (text("url")?, text("digest")?, text("revision")?);
        let verified = verified(&repository, &revision);
        let artifact = SourceArtifact { url, digest, revision, size: artifact["size"].as_u64() };
        Some(Offer { artifact, verified })
    })())
}

/// Whether source-controller verified the commit of this very artifact.
///
/// Its condition runs ahead of the artifact: a new commit is verified before it is packed, and a verification of before stays
/// `True` while the next one is fetched. A change of `spec.verification.secretRef` verifies nothing anew, and neither do
/// other keys in the Secret. So the commit in the message has to be the artifact's, and the condition of the present
/// `spec`; what the Secret held then is not known (source-controller 1.9, `verifySignature`).
fn verified(repository: &Value, revision: &str) -> Result<(), &'static str> {
    let status = &repository["status"];
    // They are packed along, and their own verification is not looked at.
    if !listed(&repository["spec"]["include"]).is_empty() || !listed(&status["includedArtifacts"]).is_empty() {
        return Err("it includes other repositories, and nobody vouches for those");
    }
    let condition = listed(&status["conditions"]).iter().find(|condition| condition["type"] == "SourceVerified");
    let condition = condition.ok_or("source-controller verifies no commit of it (`spec.verification`)")?;
    if condition["status"] != "True" {
        return Err("source-controller cannot verify the newest commit");
    }
    if !condition["observedGeneration"].is_u64()
        || condition["observedGeneration"] != repository["metadata"]["generation"]
    {
        return Err("its `spec` changed after the commit was verified");
    }
    let commit = revision.rsplit_once(':').map(|(_, commit)| commit).filter(|commit| !commit.is_empty());
    let line = format!("- commit '{}' with key '", commit.ok_or("its revision names no commit")?);
    let message = condition["message"].as_str().unwrap_or_default();
    if message.lines().any(|one| one.trim_start().starts_with(&line)) {
        Ok(())
    } else {
        Err("source-controller verified another commit, or a tag alone (`mode: HEAD` verifies commits)")
    }
}

/// A Kustomization; `None` where it is not there (yet).
pub(crate) async fn kustomization(cluster: &Cluster, name: &ObjectName) -> Result<Option<Kustomization>, ClusterError> {
    Ok(cluster.get(&kustomization_path(name)).await?.as_ref().map(Kustomization::of))
}

impl Kustomization {
    /// Of an object of that kind, as the API server or a manifest has it.
    pub(crate) fn of(object: &Value) -> Self {
        let spec = &object["spec"];
        Self {
            uid: text(&object["metadata"]["uid"]).unwrap_or_default(),
            path: text(&spec["path"]).unwrap_or_default(),
            overrides: Overrides {
                target_namespace: text(&spec["targetNamespace"]),
                name_prefix: text(&spec["namePrefix"]),
                name_suffix: text(&spec["nameSuffix"]),
                components: listed(&spec["components"]).iter().filter_map(text).collect(),
                ignore_missing_components: spec["ignoreMissingComponents"].as_bool().unwrap_or_default(),
                patches: patches(spec),
                substitutes: substitutes(&spec["postBuild"]),
                common_labels: texts(&spec["commonMetadata"]["labels"]),
                common_annotations: texts(&spec["commonMetadata"]["annotations"]),
            },
        }
    }
}

/// Whether kustomize-controller replaces variables after a build: where it has any, or is told to in any case.
fn substitutes(post_build: &Value) -> bool {
    let has_own = post_build["substitute"].as_object().is_some_and(|variables| !variables.is_empty());
    has_own || !listed(&post_build["substituteFrom"]).is_empty() || post_build["substituteStrategy"] == "Always"
}

/// The account that kustomize-controller writes as wherever a Kustomization names none, by the flag of its Deployment; its own
/// account, where there is no such flag. `controllers` is the namespace of Flux' own controllers.
///
/// # Errors
/// Why it is not known.
pub(crate) async fn default_account(target: &Cluster, controllers: &str) -> Result<Option<String>, String> {
    let path = format!("/apis/apps/v1/namespaces/{controllers}/deployments/kustomize-controller");
    match target.get(&path).await {
        Ok(Some(deployment)) => Ok(flagged_account(&deployment)),
        Ok(None) => Err(format!("there is no Deployment {controllers}/kustomize-controller")),
        Err(problem) => Err(problem.to_string()),
    }
}

/// Of a flag that is given twice the last one counts, and an empty one is none.
fn flagged_account(deployment: &Value) -> Option<String> {
    let words = |container: &Value| {
        let all = [&container["command"], &container["args"]].into_iter().flat_map(listed);
        all.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut found = None;
    for container in listed(&deployment["spec"]["template"]["spec"]["containers"]) {
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

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn listed(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// `spec.patches` of a Kustomization.
pub(super) fn patches(spec: &Value) -> Vec<InlinePatch> {
    listed(&spec["patches"]).iter().map(patch).collect()
}

fn patch(entry: &Value) -> InlinePatch {
    let target = &entry["target"];
    let field = |key: &str| text(&target[key]);
    InlinePatch {
        patch: text(&entry["patch"]).unwrap_or_default(),
        target: (!target.is_null()).then(|| Selector {
            group: field("group"),
            version: field("version"),
            kind: field("kind"),
            name: field("name"),
            namespace: field("namespace"),
            label_selector: field("labelSelector"),
            annotation_selector: field("annotationSelector"),
        }),
    }
}

/// Makes the `ExternalArtifact` say this; whatever says so already is not written again. Whether it was written. `stays`
/// tells of two revisions, the one that is published and the one to come, whether the artifact stays as it is.
///
/// # Errors
/// The API server's.
pub(crate) async fn publish(
    cluster: &Cluster,
    name: &ObjectName,
    source: &Value,
    publication: Option<&Publication>,
    readiness: &Readiness,
    stays: impl Fn(&str, &str) -> bool,
) -> Result<bool, ClusterError> {
    let path = external_artifact_path(name);
    let before = cluster.get(&path).await?;
    let head = |rest: Value| {
        let mut object = json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1",
            "kind": "ExternalArtifact",
            "metadata": { "name": name.name(), "namespace": name.namespace().as_str() },
        });
        if let (Some(object), Value::Object(rest)) = (object.as_object_mut(), rest) {
            object.extend(rest);
        }
        object
    };
    let own = before.as_ref().is_some_and(|before| before["metadata"]["labels"][MANAGED_BY] == MANAGER);
    if !own || before.as_ref().is_some_and(|before| before["spec"]["sourceRef"] != source["sourceRef"]) {
        let mut object = head(json!({ "spec": source }));
        object["metadata"]["labels"] = json!({ MANAGED_BY: MANAGER });
        cluster.apply(&path, &object, true, false).await?;
    }
    let old = before.map(|before| before["status"].clone()).unwrap_or_default();
    let mut status = status(&old, publication, readiness, &Timestamp::now());
    let revision = |status: &Value| status["artifact"]["revision"].as_str().unwrap_or_default().to_owned();
    if own && old["artifact"].is_object() && stays(&revision(&old), &revision(&status)) {
        status["artifact"] = old["artifact"].clone();
    }
    if old["artifact"] == status["artifact"] && old["conditions"] == status["conditions"] {
        return Ok(false);
    }
    cluster.apply(&format!("{path}/status"), &head(json!({ "status": status })), true, false).await?;
    Ok(true)
}

/// The status: times of what did not change stay as they are.
fn status(old: &Value, publication: Option<&Publication>, readiness: &Readiness, now: &Timestamp) -> Value {
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let (state, reason, message) = match readiness {
        Readiness::Ready(message) => ("True", "Succeeded", message),
        Readiness::NotReady(message) => ("False", "BuildFailed", message),
    };
    let is_old = |condition: &&Value| condition["type"] == "Ready" && condition["status"] == state;
    let before = old["conditions"].as_array().and_then(|conditions| conditions.iter().find(is_old));
    let since = before.and_then(|before| before["lastTransitionTime"].as_str()).unwrap_or(&now);
    let mut status = json!({
        "conditions": [{
            "type": "Ready", "status": state, "reason": reason, "message": message, "lastTransitionTime": since,
        }],
    });
    if let Some(Publication { url, path, revision, digest, size, metadata }) = publication {
        let mut artifact = json!({
            "url": url, "path": path, "revision": revision, "digest": digest, "size": size, "metadata": metadata,
        });
        let mut before = old["artifact"].clone();
        let at = before.as_object_mut().and_then(|before| before.remove("lastUpdateTime"));
        let is_same = before == artifact;
        artifact["lastUpdateTime"] = at.filter(|_| is_same).unwrap_or_else(|| json!(now));
        status["artifact"] = artifact;
    }
    status
}

/// Puts a namespace's token where its Kustomizations find it, or takes it away and keeps the Secret: without the object
/// itself a Kustomization that names it would be `BuildFailed`, although it holds nothing but stubs.
///
/// # Errors
/// The API server's; nothing of the Secret is quoted.
pub(crate) async fn put_token(
    cluster: &Cluster,
    name: &ObjectName,
    authority: &str,
    token: Option<&str>,
) -> Result<(), ClusterError> {
    let path = format!("/api/v1/namespaces/{}/secrets/{}", name.namespace(), name.name());
    let mut secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name.name(),
            "namespace": name.namespace().as_str(),
            // kustomize-controller looks again at once when it changes.
            "labels": { MANAGED_BY: MANAGER, "reconcile.fluxcd.io/watch": "Enabled" },
            "annotations": {
                "regent.dev/token-of": authority,
                "kustomize.toolkit.fluxcd.io/prune": "disabled",
                "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
            },
        },
        "type": "Opaque",
    });
    // `data`: what was applied as `stringData` would stay when it is applied without.
    if let Some(token) = token {
        secret["data"] = json!({ TOKEN_KEY: STANDARD.encode(token) });
    }
    cluster.apply_secret(&path, &secret).await
}

/// The key under which kustomize-controller looks for a Vault token.
const TOKEN_KEY: &str = "sops.vault-token";

const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// A line at a Kustomization that a person sees with `kubectl describe` and `flux events`.
pub(crate) async fn warn(
    cluster: &Cluster,
    name: &ObjectName,
    uid: &str,
    reason: &str,
    message: &str,
) -> Result<(), ClusterError> {
    let now = Timestamp::now();
    let at = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": format!("{}.{:x}", name.name(), now.as_nanosecond()),
            "namespace": name.namespace().as_str(),
        },
        "involvedObject": {
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
            "kind": "Kustomization",
            "name": name.name(),
            "namespace": name.namespace().as_str(),
            "uid": uid,
        },
        "type": "Warning",
        "reason": reason,
        "message": message,
        "source": { "component": MANAGER },
        "reportingComponent": MANAGER,
        "reportingInstance": MANAGER,
        "action": reason,
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    });
    cluster.create(&format!("/api/v1/namespaces/{}/events", name.namespace()), &event, false).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(revision: &str) -> Publication {
        Publication {
            url: "http://x/a".to_owned(),
            path: "a".to_owned(),
            revision: revision.to_owned(),
            digest: "sha256:00".to_owned(),
            size: 3,
            metadata: BTreeMap::from([(ORIGIN_REVISION.to_owned(), "main@sha1:1".to_owned())]),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_did_not_change_keeps_its_time() {
        let ready = Readiness::Ready("built".to_owned());
        let first = status(&Value::Null, Some(&publication("a@sha256:1")), &ready, &at(0));
        assert_eq!(first["artifact"]["lastUpdateTime"], "1970-01-01T00:00:00Z");
        assert_eq!(status(&first, Some(&publication("a@sha256:1")), &ready, &at(60)), first);
        let second = status(&first, Some(&publication("a@sha256:2")), &ready, &at(60));
        assert_eq!(second["artifact"]["lastUpdateTime"], "1970-01-01T00:01:00Z");
        assert_eq!(second["conditions"], first["conditions"]);
    }

    /// Messages as source-controller 1.9's `verifySignature` writes them.
    #[test]
    fn a_verification_counts_for_the_commit_of_the_artifact_and_the_present_spec() {
        let commit = "verified signature of\n\t- commit 'aaaa' with key 'SHA256:k'";
        let tagged = "verified signature of\n\t- tag 'v1@cccc' with key 'K'\n\t- commit 'aaaa' with key 'K'";
        let tag = "verified signature of\n\t- tag 'aaaa@aaaa' with key 'K'";
        let of = |state: &str, observed: Value, message: &str| {
            json!({ "metadata": { "generation": 2 }, "spec": {}, "status": { "conditions": [
                { "type": "Ready", "status": "True" },
                { "type": "SourceVerified", "status": state, "observedGeneration": observed, "message": message },
            ] } })
        };
        let sound = of("True", json!(2), commit);
        assert_eq!(verified(&sound, "main@sha1:aaaa"), Ok(()));
        assert_eq!(verified(&of("True", json!(2), tagged), "v1@sha1:aaaa"), Ok(()));
        assert!(verified(&sound, "main@sha1:bbbb").is_err());
        assert!(verified(&sound, "main@sha1:").is_err());
        assert!(verified(&sound, "aaaa").is_err());
        for other in [
            of("False", json!(2), commit),
            of("True", json!(1), commit),
            of("True", Value::Null, commit),
            of("True", json!(2), tag),
            of("True", json!(2), "verified signature of"),
            json!({ "metadata": { "generation": 2 } }),
        ] {
            assert!(verified(&other, "main@sha1:aaaa").is_err(), "{other}");
        }
        let mut including = sound.clone();
        including["spec"]["include"] = json!([{ "repository": { "name": "other" } }]);
        assert!(verified(&including, "main@sha1:aaaa").is_err());
    }

    #[test]
    fn variables_are_replaced_where_there_are_any_or_always() {
        for post_build in [
            json!({ "substitute": { "a": "b" } }),
            json!({ "substituteFrom": [{ "kind": "ConfigMap", "name": "a", "optional": true }] }),
            json!({ "substitute": {}, "substituteStrategy": "Always" }),
        ] {
            assert!(Kustomization::of(&json!({ "spec": { "postBuild": post_build } })).overrides.substitutes);
        }
        for post_build in [Value::Null, json!({}), json!({ "substitute": {}, "substituteFrom": [] })] {
            assert!(!Kustomization::of(&json!({ "spec": { "postBuild": post_build } })).overrides.substitutes);
        }
    }

    fn deployment(command: &Value, args: &Value) -> Value {
        let manager = json!({ "name": "manager", "command": command, "args": args });
        json!({ "spec": { "template": { "spec": { "containers": [{ "name": "other" }, manager] } } } })
    }

    #[test]
    fn the_flag_is_read_in_each_way_that_it_can_be_written() {
        let of = |command: Value, args: Value| flagged_account(&deployment(&command, &args));
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
        assert_eq!(flagged_account(&json!({})), None);
    }

    #[test]
    fn what_cannot_be_built_leaves_the_artifact_and_says_why() {
        let first = status(&Value::Null, Some(&publication("a@sha256:1")), &Readiness::Ready(String::new()), &at(0));
        let why = Readiness::NotReady("db.yaml: it does not open".to_owned());
        let second = status(&first, Some(&publication("a@sha256:1")), &why, &at(60));
        assert_eq!(second["artifact"], first["artifact"]);
        let condition = &second["conditions"][0];
        assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("BuildFailed")));
        assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:01:00Z");
    }
}
