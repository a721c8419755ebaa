//! What kinds an API server serves. Every authenticated account may ask that (`system:discovery`).

use serde_json::Value;

use super::{Cluster, ClusterError};

const GROUPS: &str = "/apis";

/// Whether it serves a kind of a group's version (`external-secrets.io/v1`). Only its own lists are taken for a no: a 404 may be a
/// proxy's, or of an API server that just begins.
pub(crate) async fn serves(cluster: &Cluster, api_version: &str, kind: &str) -> Result<bool, ClusterError> {
    let groups = cluster.get(GROUPS).await?.unwrap_or_default();
    match has_version(&groups, api_version) {
        Some(true) => {}
        Some(false) => return Ok(false),
        None => return Err(untold(api_version)),
    }
    let resources = cluster.get(&format!("{GROUPS}/{api_version}")).await?.unwrap_or_default();
    has_kind(&resources, api_version, kind).ok_or_else(|| untold(api_version))
}

/// `None` where this is not the list of all groups.
fn has_version(served: &Value, api_version: &str) -> Option<bool> {
    let groups = served["groups"].as_array().filter(|_| served["kind"] == "APIGroupList")?;
    let versions = groups.iter().filter_map(|group| group["versions"].as_array()).flatten();
    Some(versions.into_iter().any(|version| version["groupVersion"] == api_version))
}

/// `None` where this is not the list of what that version has.
fn has_kind(served: &Value, api_version: &str, kind: &str) -> Option<bool> {
    let is_its_list = served["kind"] == "APIResourceList" && served["groupVersion"] == api_version;
    let resources = served["resources"].as_array().filter(|_| is_its_list)?;
    // Parts of a kind (`/status`) may be of another one.
    let whole = |resource: &&Value| resource["name"].as_str().is_some_and(|name| !name.contains('/'));
    Some(resources.iter().filter(whole).any(|resource| resource["kind"] == kind))
}

fn untold(api_version: &str) -> ClusterError {
    ClusterError::Status { status: 404, message: format!("whether it serves {api_version} cannot be told") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const VERSION: &str = "external-secrets.io/v1";

    #[test]
    fn a_version_is_served_where_the_list_of_all_groups_has_it() {
        let list = |version: &str| {
            let versions = json!([{ "groupVersion": format!("external-secrets.io/{version}"), "version": version }]);
            json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [
                { "name": "apps", "versions": [{ "groupVersion": "apps/v1", "version": "v1" }] },
                { "name": "external-secrets.io", "versions": versions },
            ] })
        };
        assert_eq!(has_version(&list("v1"), VERSION), Some(true));
        assert_eq!(has_version(&list("v1beta1"), VERSION), Some(false));
        assert_eq!(has_version(&json!({ "kind": "APIGroupList", "groups": [] }), VERSION), Some(false));
    }

    #[test]
    fn a_kind_is_served_where_the_list_of_its_version_has_it() {
        let list =
            |resources: Value| json!({ "kind": "APIResourceList", "groupVersion": VERSION, "resources": resources });
        let kind = |name: &str, kind: &str| json!({ "name": name, "kind": kind, "namespaced": true });
        assert_eq!(
            has_kind(&list(json!([kind("externalsecrets", "ExternalSecret")])), VERSION, "ExternalSecret"),
            Some(true)
        );
        for others in [json!([]), json!([kind("secretstores", "SecretStore"), kind("x/status", "ExternalSecret")])] {
            assert_eq!(has_kind(&list(others), VERSION, "ExternalSecret"), Some(false));
        }
    }

    #[test]
    fn another_answer_is_no_no() {
        for answer in [Value::Null, json!({ "kind": "Status", "code": 404 }), json!({ "groups": [], "resources": [] })]
        {
            assert_eq!(has_version(&answer, VERSION), None, "{answer}");
            assert_eq!(has_kind(&answer, VERSION, "ExternalSecret"), None, "{answer}");
        }
        let other =
            json!({ "kind": "APIResourceList", "groupVersion": "external-secrets.io/v1beta1", "resources": [] });
        assert_eq!(has_kind(&other, VERSION, "ExternalSecret"), None);
    }
}
