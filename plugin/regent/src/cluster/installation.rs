//! What has to be in a cluster beside the witnesses: the CRD and the policies of `manifests/cluster`, and what belongs to
//! one authority. Looked at, probed, and made where it is missing.

use std::time::Duration;

use regent_core::evidence::AuthorityWitness;
use regent_core::name::{AuthorityName, Epoch};
use serde_json::{Value, json};

use super::authority::definition;
use super::lock::{doors_of, lock, lock_name};
use super::rights::{handover, reader, user_name, verify};
use super::witness::{authority_path, witness_path};
use super::{Cluster, ClusterError, metadata};
use crate::failure::Failure;

/// The policies, as they are shipped.
const SHIPPED: &str = include_str!("../../../../manifests/cluster/policies.yaml");

/// The roles, as they are shipped.
const RBAC: &str = include_str!("../../../../manifests/cluster/rbac.yaml");

const SCHEMA: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/authorities.regent.dev";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";

/// How long a policy may take until it binds; a second is usual.
const BINDS_WITHIN: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(200);

/// Whether one policy counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InForce {
    /// It is there as it was shipped, and its binding denies.
    Yes,
    /// It is not there, or nothing binds it.
    Missing,
    /// It is there and says something else than this regent's.
    Differs,
    /// Its binding does not deny.
    Toothless,
    /// Nobody could look.
    Unknown(String),
}

/// One policy and whether it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) name: String,
    pub(crate) in_force: InForce,
}

/// The policies that `manifests/cluster` ships, as they are in the cluster.
pub(crate) async fn policies(cluster: &Cluster) -> Vec<Policy> {
    let mut policies = Vec::new();
    for shipped in shipped_policies() {
        let name = shipped["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let in_force = look(cluster, &name, &shipped, None).await;
        policies.push(Policy { name, in_force });
    }
    policies
}

/// The CRD of the Authority, whose rules are the first thing that keeps it one-way. A later one may say more.
pub(crate) async fn schema(cluster: &Cluster) -> Policy {
    let in_force = match cluster.get(SCHEMA).await {
        Ok(Some(live)) if grown_from(&live["spec"], &definition()["spec"]) => InForce::Yes,
        Ok(Some(_)) => InForce::Differs,
        Ok(None) => InForce::Missing,
        Err(error) => InForce::Unknown(error.to_string()),
    };
    Policy { name: "authorities.regent.dev".to_owned(), in_force }
}

/// Whether this identity may look at what `policies` and `schema` look at.
pub(crate) async fn may_look(cluster: &Cluster) -> Result<(), ClusterError> {
    for path in [SCHEMA, &format!("{POLICIES}/regent-keep"), &format!("{BINDINGS}/regent-keep")] {
        cluster.get(path).await?;
    }
    Ok(())
}

/// Whether the versions of a CRD hold everything of ours. Text for people and columns are free; `required` and rules may
/// be more.
fn grown_from(live: &Value, ours: &Value) -> bool {
    let versions = |spec: &Value| spec["versions"].as_array().cloned().unwrap_or_default();
    let live_versions = versions(live);
    live["scope"] == ours["scope"]
        && versions(ours).iter().all(|ours| {
            live_versions.iter().filter(|live| live["name"] == ours["name"]).any(|live| {
                ["served", "storage", "schema", "subresources"].iter().all(|key| holds(&live[key], &ours[key]))
            })
        })
}

fn holds(live: &Value, ours: &Value) -> bool {
    const TEXT: [&str; 2] = ["description", "message"];
    match (live, ours) {
        (Value::Object(live), Value::Object(ours)) => ours.iter().all(|(key, ours)| {
            // A property may bear such a name; then it is no text.
            (ours.is_string() && TEXT.contains(&key.as_str())) || live.get(key).is_some_and(|live| holds(live, ours))
        }),
        (Value::Array(live), Value::Array(ours)) => ours.iter().all(|ours| live.iter().any(|live| holds(live, ours))),
        // The API server writes 1.0 as 1.
        (Value::Number(live), Value::Number(ours)) => live.as_f64() == ours.as_f64(),
        (live, ours) => live == ours,
    }
}

/// The doors and the readers of an authority that exists, so that what is made again names no fewer.
pub(crate) async fn named(
    witnesses: &Cluster,
    target: &Cluster,
    authority: &AuthorityName,
) -> Result<(Vec<String>, Vec<String>), Named> {
    let policy = target.get(&format!("{POLICIES}/{}", lock_name(authority))).await.map_err(Named::Target)?;
    let doors = match policy {
        Some(policy) => doors_of(&policy).ok_or(Named::Foreign)?,
        None => Vec::new(),
    };
    let [_, binding, ..] = reader(authority, Epoch::FIRST, &[]);
    let binding = witnesses.get(&path_of(&binding)).await.map_err(Named::Witnesses)?;
    let subjects = binding.as_ref().and_then(|binding| binding["subjects"].as_array().cloned()).unwrap_or_default();
    Ok((doors, subjects.iter().map(user_name).collect()))
}

/// Why nobody knows whom an authority's objects name.
pub(crate) enum Named {
    /// Its lock was written by another hand.
    Foreign,
    /// The cluster of the Secrets does not say.
    Target(ClusterError),
    /// That of the witnesses.
    Witnesses(ClusterError),
}

/// The lock of an authority, as it is in the cluster of its Secrets. Its doors are the installer's choice.
pub(crate) async fn lock_in_force(cluster: &Cluster, authority: &AuthorityName) -> Policy {
    let [mut policy, binding] = lock(authority, &[]);
    policy["spec"].as_object_mut().map(|spec| spec.remove("matchConditions"));
    let name = lock_name(authority);
    let in_force = look(cluster, &name, &policy, Some(&binding)).await;
    Policy { name, in_force }
}

/// The accounts that an authority's lock names; `None` where it was written by another hand, or is not there.
pub(crate) async fn locked_out(
    cluster: &Cluster,
    authority: &AuthorityName,
) -> Result<Option<Vec<String>>, ClusterError> {
    let policy = cluster.get(&format!("{POLICIES}/{}", lock_name(authority))).await?;
    Ok(policy.as_ref().and_then(doors_of))
}

/// The doors that an authority's lock names; `None` where there is none, or nobody can tell.
pub(crate) async fn locked_doors(cluster: &Cluster, authority: &AuthorityName) -> Option<String> {
    let policy = cluster.get(&format!("{POLICIES}/{}", lock_name(authority))).await.ok()??;
    let expression = policy["spec"]["matchConditions"][0]["expression"].as_str()?;
    Some(expression.strip_prefix("request.userInfo.username in ").unwrap_or(expression).to_owned())
}

async fn look(cluster: &Cluster, name: &str, shipped: &Value, binding: Option<&Value>) -> InForce {
    let (policy_path, binding_path) = (format!("{POLICIES}/{name}"), format!("{BINDINGS}/{name}"));
    let (policy, bound) = tokio::join!(cluster.get(&policy_path), cluster.get(&binding_path));
    let (policy, bound) = match (policy, bound) {
        (Ok(Some(policy)), Ok(Some(bound))) => (policy, bound),
        (Err(error), _) | (_, Err(error)) => return InForce::Unknown(error.to_string()),
        (Ok(None), Ok(_)) | (Ok(_), Ok(None)) => return InForce::Missing,
    };
    let denies = bound["spec"]["validationActions"].as_array().is_some_and(|actions| actions.contains(&json!("Deny")));
    if !denies || bound["spec"]["policyName"] != json!(name) || !bound["spec"]["matchResources"].is_null() {
        return InForce::Toothless;
    }
    let mut spec = policy["spec"].clone();
    // A binding is given for a lock, whose doors are free; any other condition would take teeth out of it.
    if binding.is_some() && doors_of(&policy).is_some() {
        spec.as_object_mut().map(|spec| spec.remove("matchConditions"));
    }
    let same =
        says_only(&spec, &shipped["spec"]) && binding.is_none_or(|binding| says_only(&bound["spec"], &binding["spec"]));
    if same { InForce::Yes } else { InForce::Differs }
}

/// The shipped policies without their bindings.
fn shipped_policies() -> Vec<Value> {
    use serde::Deserialize as _;
    let documents = yaml_serde::Deserializer::from_str(SHIPPED).filter_map(|one| Value::deserialize(one).ok());
    documents.filter(|object| object["kind"] == "ValidatingAdmissionPolicy").collect()
}

/// Whether everything that `ours` says is so in `live`; the API server adds defaults. White space in text counts as one
/// space: tools that rewrite YAML fold long expressions in their own ways.
pub(crate) fn covers(live: &Value, ours: &Value) -> bool {
    match (live, ours) {
        (Value::Object(live), Value::Object(ours)) => {
            ours.iter().all(|(key, ours)| live.get(key).is_some_and(|live| covers(live, ours)))
        }
        (Value::Array(live), Value::Array(ours)) => {
            live.len() == ours.len() && live.iter().zip(ours).all(|(live, ours)| covers(live, ours))
        }
        (Value::String(live), Value::String(ours)) => live.split_whitespace().eq(ours.split_whitespace()),
        (live, ours) => live == ours,
    }
}

/// Whether `live` says what `ours` does and nothing more, in the sense of [`covers`]: an exception or a condition that was
/// added takes from a rule. What is empty says nothing.
fn says_only(live: &Value, ours: &Value) -> bool {
    match (live, ours) {
        (Value::Object(live), Value::Object(ours)) => {
            ours.iter().all(|(key, ours)| live.get(key).is_some_and(|live| says_only(live, ours)))
                && live.iter().all(|(key, live)| ours.contains_key(key) || is_empty(live))
        }
        (Value::Array(live), Value::Array(ours)) => {
            live.len() == ours.len() && live.iter().zip(ours).all(|(live, ours)| says_only(live, ours))
        }
        (live, ours) => covers(live, ours),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether the API server really refuses what the policies forbid: an Authority that begins with vault, tried without
/// being made. Waits until it does.
///
/// # Errors
/// The last answer, where it still would.
pub(crate) async fn wait_until_refused(cluster: &Cluster, forbidden: &Value) -> Result<(), Probe> {
    let until = tokio::time::Instant::now() + BINDS_WITHIN;
    loop {
        match cluster.create("/apis/regent.dev/v1alpha1/authorities", forbidden, true).await {
            Err(ClusterError::Denied(_)) => return Ok(()),
            Err(error) => return Err(Probe::Failed(error)),
            Ok(_) if tokio::time::Instant::now() >= until => return Err(Probe::Passes),
            Ok(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// What a probe found instead of a refusal.
pub(crate) enum Probe {
    /// The API server would have done it.
    Passes,
    /// It cannot be told.
    Failed(ClusterError),
}

/// Makes an object, or leaves it where it is there and says the same; one that says something else is changed. What is
/// only created needs no right to change.
///
/// # Errors
/// Also where somebody else added to it what makes it say something else: that is not taken away.
pub(crate) async fn ensure(cluster: &Cluster, object: &Value) -> Result<Ensured, ClusterError> {
    let path = path_of(object);
    let is_so =
        |live: &Value| covers(live, object) && object.get("spec").is_none_or(|ours| says_only(&live["spec"], ours));
    match cluster.get(&path).await? {
        Some(live) if is_so(&live) => Ok(Ensured::AsItWas),
        Some(_) => {
            let changed = cluster.apply(&path, object, true, false).await?;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
            let more = || ClusterError::Conflict(format!("somebody added to {kind} {name}: delete it, then repeat"));
            is_so(&changed).then_some(Ensured::Changed).ok_or_else(more)
        }
        None => {
            let collection = path.rsplit_once('/').map_or("", |(collection, _)| collection);
            cluster.create(collection, object, false).await.map(|_| Ensured::Made)
        }
    }
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ensured {
    Made,
    Changed,
    AsItWas,
}

/// What `manifests/cluster` installs once for all authorities, but the CRD and the namespace.
pub(crate) fn installed() -> Vec<Value> {
    use serde::Deserialize as _;
    let documents = [SHIPPED, RBAC].into_iter().flat_map(yaml_serde::Deserializer::from_str);
    documents.filter_map(|one| Value::deserialize(one).ok()).filter(|object| object["kind"].is_string()).collect()
}

/// Where an object of the kinds that regent makes is.
pub(crate) fn path_of(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, name) = (text(&object["apiVersion"]), text(&object["metadata"]["name"]));
    let plural = match object["kind"].as_str().unwrap_or_default() {
        "ValidatingAdmissionPolicy" => "validatingadmissionpolicies".to_owned(),
        "Authority" => "authorities".to_owned(),
        kind => format!("{}s", kind.to_lowercase()),
    };
    let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{plural}/{name}"),
        None => format!("{root}/{plural}/{name}"),
    }
}

/// The accounts and rights of one authority, for the cluster of its witnesses. `readers` are whole user names.
pub(crate) fn rights(authority: &AuthorityName, epoch: Epoch, readers: &[String]) -> Vec<Value> {
    let mut objects = reader(authority, epoch, readers).to_vec();
    objects.extend(handover(authority, epoch));
    objects.extend(verify(authority, epoch));
    objects
}

/// Of those rights what names the witnesses around an epoch, and so changes with it: the roles beside them.
pub(crate) fn rights_of_epoch(authority: &AuthorityName, epoch: Epoch) -> Vec<Value> {
    rights(authority, epoch, &[]).into_iter().filter(|object| object["kind"] == "Role").collect()
}

/// The `spec` that says what a witness says.
pub(crate) fn spec_of(witness: &AuthorityWitness) -> Result<Value, Failure> {
    serde_json::from_str(&witness.to_json()).map_err(|_| Failure::Bug)
}

/// The Authority as an object.
pub(crate) fn authority_object(name: &AuthorityName, spec: &Value) -> Value {
    let metadata = metadata(name.as_str(), None);
    json!({ "apiVersion": "regent.dev/v1alpha1", "kind": "Authority", "metadata": metadata, "spec": spec })
}

/// The uid of `kube-system`, which tells one cluster from another.
pub(crate) async fn uid(cluster: &Cluster) -> Result<String, ClusterError> {
    let namespace = cluster.get("/api/v1/namespaces/kube-system").await?;
    let uid = namespace.as_ref().and_then(|namespace| namespace["metadata"]["uid"].as_str());
    let missing = || ClusterError::Status { status: 200, message: "its namespace kube-system has no uid".to_owned() };
    uid.map(ToOwned::to_owned).ok_or_else(missing)
}

/// The names of all witnesses of an authority, of any epoch.
pub(crate) async fn witnesses_there(cluster: &Cluster, name: &AuthorityName) -> Result<Vec<String>, ClusterError> {
    let mut found = Vec::new();
    if cluster.get(&authority_path(name)).await?.is_some() {
        found.push(format!("Authority {name}"));
    }
    let first = witness_path(name, Epoch::FIRST);
    let collection = first.rsplit_once('/').map_or("", |(collection, _)| collection);
    for object in cluster.names(collection).await? {
        let is_ours = object.rsplit_once('-').is_some_and(|(of, epoch)| {
            of == format!("regent-authority-{name}") && epoch.bytes().all(|byte| byte.is_ascii_digit())
        });
        if is_ours {
            found.push(format!("ConfigMap {object}"));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_is_read() {
        let names: Vec<_> = shipped_policies().iter().map(|policy| policy["metadata"]["name"].clone()).collect();
        assert_eq!(names, ["regent-keep", "regent-rules", "regent-first", "regent-handover", "regent-witness"]);
    }

    #[test]
    fn an_object_covers_what_it_says_with_defaults_added_and_nothing_less() {
        let live = json!({ "a": 1, "b": [{ "c": 2, "default": true }], "more": null });
        assert!(covers(&live, &json!({ "a": 1, "b": [{ "c": 2 }] })));
        for ours in
            [json!({ "a": 2 }), json!({ "b": [] }), json!({ "b": [{ "c": 2 }, {}] }), json!({ "z": null }), json!([])]
        {
            assert!(!covers(&live, &ours), "{ours}");
        }
    }

    #[test]
    fn what_changes_with_the_epoch_are_the_roles_beside_the_witnesses() {
        let prod = AuthorityName::parse("prod").unwrap();
        let named = |epoch: u64| {
            let roles = rights_of_epoch(&prod, Epoch::new(epoch).unwrap());
            assert_eq!(roles.len(), 3);
            roles.iter().map(|role| role["rules"][0]["resourceNames"].clone()).collect::<Vec<_>>()
        };
        let around = |epochs: &[u64]| {
            json!(epochs.iter().map(|epoch| format!("regent-authority-prod-{epoch}")).collect::<Vec<_>>())
        };
        assert_eq!(named(2), [around(&[1, 2, 3]), around(&[2]), around(&[2])]);
        // Nothing else of them does.
        let others = |epoch: u64| {
            let all = rights(&prod, Epoch::new(epoch).unwrap(), &["a".into()]);
            all.into_iter().filter(|object| object["kind"] != "Role").collect::<Vec<_>>()
        };
        assert_eq!(others(1), others(2));
    }

    #[test]
    fn a_policy_with_an_exception_is_another_one() {
        let ours = json!({ "validations": [{ "expression": "a  ==\n b" }] });
        let same = json!({ "validations": [{ "expression": "a == b" }], "matchConstraints": {}, "more": null });
        assert!(says_only(&same, &ours));
        for more in [
            json!({ "matchConditions": [{ "name": "off", "expression": "false" }] }),
            json!({ "matchConstraints": { "excludeResourceRules": [{}] } }),
            json!({ "failurePolicy": "Ignore" }),
            json!({ "validations": [{ "expression": "a == b", "message": "m" }] }),
        ] {
            let mut live = same.clone();
            live.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            assert!(!says_only(&live, &ours), "{live}");
        }
    }

    #[test]
    fn a_schema_may_grow_and_loses_nothing() {
        type Change = fn(&mut Value);
        let ours = definition()["spec"].clone();
        assert!(grown_from(&ours, &ours));
        let changed = |change: Change| {
            let mut live = ours.clone();
            change(&mut live["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]);
            grown_from(&live, &ours)
        };
        let more: [Change; 3] = [
            |spec| spec["properties"]["more"] = json!({ "type": "string" }),
            |spec| spec["required"].as_array_mut().unwrap().push(json!("root")),
            |spec| spec["description"] = json!("other words"),
        ];
        assert!(more.into_iter().all(changed));
        let less: [Change; 4] = [
            |spec| drop(spec["x-kubernetes-validations"].as_array_mut().unwrap().remove(0)),
            |spec| spec["x-kubernetes-validations"][0]["rule"] = json!("true"),
            |spec| drop(spec["required"].as_array_mut().unwrap().pop()),
            |spec| spec["x-kubernetes-map-type"] = json!("granular"),
        ];
        assert!(!less.into_iter().any(changed));
        let mut unserved = ours.clone();
        unserved["versions"][0]["served"] = json!(false);
        assert!(!grown_from(&unserved, &ours));
    }

    #[test]
    fn objects_are_where_the_api_server_has_them() {
        let prod = AuthorityName::parse("prod").unwrap();
        let mut paths: Vec<_> = rights(&prod, Epoch::FIRST, &["a".into()]).iter().map(path_of).collect();
        paths.extend(lock(&prod, &[]).iter().map(path_of));
        for path in [
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/regent-reader-prod",
            "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/rolebindings/regent-verify-prod",
            "/api/v1/namespaces/regent-system/serviceaccounts/regent-handover-prod",
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/regent-lock-prod",
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/regent-lock-prod",
        ] {
            assert!(paths.iter().any(|one| one == path), "{path} is not in {paths:?}");
        }
    }
}
