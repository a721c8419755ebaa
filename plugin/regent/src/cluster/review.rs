//! Whose a service account's token is: the API server's word, for an audience that is not its own.

use serde_json::{Value, json};

use super::{Cluster, ClusterError};

/// The user name behind a token that was made for `audience`; `None` where the API server does not vouch for it. Needs
/// `create` on `tokenreviews`.
pub(crate) async fn review(cluster: &Cluster, token: &str, audience: &str) -> Result<Option<String>, ClusterError> {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": { "token": token, "audiences": [audience] },
    });
    let mut answer = cluster.create(PATH, &review, false).await?;
    Ok(vouched(answer["status"].take(), audience))
}

const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// An authenticator that knows nothing of audiences says nothing of them, and a token for the API server itself would pass.
fn vouched(mut status: Value, audience: &str) -> Option<String> {
    let is_for_us = status["audiences"].as_array().is_some_and(|all| all.iter().any(|one| one == audience));
    let is_authenticated = status["authenticated"] == Value::Bool(true);
    let Value::String(user) = status["user"]["username"].take() else { return None };
    (is_for_us && is_authenticated).then_some(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_counts_only_for_the_audience_that_it_was_made_for() {
        let user = json!({ "username": "system:serviceaccount:team:app" });
        let says = |status: Value| vouched(status, "https://regent:8200");
        let own = json!({ "authenticated": true, "user": user, "audiences": ["https://regent:8200"] });
        assert_eq!(says(own).as_deref(), Some("system:serviceaccount:team:app"));
        for status in [
            json!({ "authenticated": false, "user": user, "audiences": ["https://regent:8200"] }),
            json!({ "authenticated": true, "user": user, "audiences": ["https://kubernetes.default.svc"] }),
            json!({ "authenticated": true, "user": user, "audiences": ["https://regent:8200/"] }),
            json!({ "authenticated": true, "user": user }),
            json!({ "authenticated": "true", "user": user, "audiences": ["https://regent:8200"] }),
            json!({ "authenticated": true, "audiences": ["https://regent:8200"] }),
            json!({ "error": "no" }),
            Value::Null,
        ] {
            assert_eq!(says(status.clone()), None, "{status}");
        }
    }
}
