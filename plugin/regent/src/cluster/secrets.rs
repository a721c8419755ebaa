//! Live Secrets, where they are compared, saved or brought back; and who delivers them from Vault.
//!
//! Their values come as JSON from the API server and go into buffers that cannot be printed; what was parsed on the way
//! is wiped as it is freed.

use std::collections::BTreeMap;

use regent_core::name::{Namespace, SecretName};
use regent_core::rebootstrap::Delivery;
use regent_sops::Plaintext;
use serde_json::{Map, Value, json};

use super::{Cluster, ClusterError};

/// A live Secret. Holds values: no Debug.
pub(crate) struct LiveSecret {
    /// Base64 by key.
    pub(crate) data: BTreeMap<String, Plaintext>,
    /// As JSON that `kubectl apply` takes.
    pub(crate) object: Plaintext,
}

/// The Secrets of a namespace.
pub(crate) fn secrets_path(name: &SecretName) -> String {
    format!("/api/v1/namespaces/{}/secrets", name.namespace().as_str())
}

/// Whether a Secret is there. Its values are not asked for.
pub(crate) async fn exists(cluster: &Cluster, name: &SecretName) -> Result<bool, ClusterError> {
    let metadata = cluster.get_metadata(&format!("{}/{}", secrets_path(name), name.name())).await?;
    Ok(metadata.is_some())
}

/// A live Secret, where there is one.
pub(crate) async fn live(cluster: &Cluster, name: &SecretName) -> Result<Option<LiveSecret>, ClusterError> {
    let secret = cluster.get(&format!("{}/{}", secrets_path(name), name.name())).await?;
    Ok(secret.map(|secret| taken(name, secret)))
}

/// What the API server itself wrote into it is left behind, and so are the copy of the values that `kubectl` keeps in an
/// annotation, and owners that may be gone.
fn taken(name: &SecretName, mut secret: Value) -> LiveSecret {
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), json!(name.name()));
    metadata.insert("namespace".to_owned(), json!(name.namespace().as_str()));
    for key in ["labels", "annotations"] {
        if let Some(Value::Object(mut kept)) = secret["metadata"].get_mut(key).map(Value::take) {
            kept.remove("kubectl.kubernetes.io/last-applied-configuration");
            metadata.insert(key.to_owned(), Value::Object(kept));
        }
    }
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), json!("v1"));
    object.insert("kind".to_owned(), json!("Secret"));
    object.insert("metadata".to_owned(), Value::Object(metadata));
    for key in ["type", "immutable", "data"] {
        match secret.get_mut(key).map(Value::take) {
            None | Some(Value::Null) => {}
            Some(value) => drop(object.insert(key.to_owned(), value)),
        }
    }
    let bytes = Plaintext::new(Value::Object(object.clone()).to_string().into_bytes());
    let data = match object.remove("data") {
        Some(Value::Object(data)) => data,
        Some(_) | None => Map::new(),
    };
    let values = data.into_iter().map(|(key, value)| match value {
        Value::String(base64) => (key, Plaintext::new(base64.into_bytes())),
        // The API server gives nothing else; were it to, it is no value that Git has.
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            (key, Plaintext::new(other.to_string().into_bytes()))
        }
    });
    LiveSecret { data: values.collect(), object: bytes }
}

/// Kinds that have Vault's values written into a Secret: where their objects are (the newest version first), and where
/// they name it.
const DELIVERING: [(&str, &[&str], &str); 2] = [
    (
        "ExternalSecret",
        &["/apis/external-secrets.io/v1/externalsecrets", "/apis/external-secrets.io/v1beta1/externalsecrets"],
        "/spec/target/name",
    ),
    ("VaultStaticSecret", &["/apis/secrets.hashicorp.com/v1beta1/vaultstaticsecrets"], "/spec/destination/name"),
];

/// Every object in the cluster that has its controller deliver a Secret from Vault.
pub(crate) async fn deliveries(cluster: &Cluster) -> Result<Vec<Delivery>, ClusterError> {
    Ok(delivering(cluster).await?.into_iter().map(|(delivery, _)| delivery).collect())
}

/// The same, each with the authority that it bears as a label: regent made those.
pub(crate) async fn delivering(cluster: &Cluster) -> Result<Vec<(Delivery, Option<String>)>, ClusterError> {
    let mut found = Vec::new();
    for (kind, paths, target) in DELIVERING {
        for path in paths {
            match cluster.list(path, "").await {
                Ok(objects) => {
                    let authority = |object: &Value| {
                        object["metadata"]["labels"]["regent.dev/authority"].as_str().map(str::to_owned)
                    };
                    found.extend(objects.iter().filter_map(|it| Some((delivery(kind, target, it)?, authority(it)))));
                    break;
                }
                // Another version, or the kind is not there at all.
                Err(ClusterError::NotServed(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}

/// `None` for a target that no Secret can be called.
fn delivery(kind: &str, target: &str, object: &Value) -> Option<Delivery> {
    let (namespace, name) = (object["metadata"]["namespace"].as_str()?, object["metadata"]["name"].as_str()?);
    let target = object.pointer(target).and_then(Value::as_str).filter(|name| !name.is_empty()).unwrap_or(name);
    let secret = SecretName::new(Namespace::parse(namespace).ok()?, target).ok()?;
    Some(Delivery { object: format!("{kind} {namespace}/{name}"), secret })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_names_its_target_or_is_called_like_it() {
        let object = |spec: Value| json!({ "metadata": { "namespace": "app", "name": "es" }, "spec": spec });
        let target = |kind: &str, spec: Value| {
            let (_, _, target) = DELIVERING.into_iter().find(|(known, _, _)| *known == kind).unwrap();
            delivery(kind, target, &object(spec)).unwrap().secret.to_string()
        };
        assert_eq!(target("ExternalSecret", json!({ "target": { "name": "db" } })), "app/db");
        assert_eq!(target("ExternalSecret", json!({})), "app/es");
        assert_eq!(target("VaultStaticSecret", json!({ "destination": { "name": "db", "create": true } })), "app/db");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test may look at bytes")]
    fn what_is_saved_of_a_secret_can_be_applied_and_holds_no_second_copy() {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": { "a": "MQ==" },
            "metadata": {
                "name": "db", "namespace": "app", "uid": "1", "resourceVersion": "2", "labels": { "l": "x" },
                "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "MQ==", "kept": "y" },
                "managedFields": [], "ownerReferences": [{}],
            },
        });
        let taken = taken(&SecretName::parse("app/db").unwrap(), secret);
        assert_eq!(taken.data["a"].expose(), b"MQ==");
        let object: Value = serde_json::from_slice(taken.object.expose()).unwrap();
        assert_eq!(
            object,
            json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": { "a": "MQ==" },
                "metadata": { "name": "db", "namespace": "app", "labels": { "l": "x" }, "annotations": { "kept": "y" } },
            })
        );
    }
}
