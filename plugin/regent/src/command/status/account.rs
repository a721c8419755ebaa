//! The account that handed over, once that is settled: named until it is gone.
//!
//! It is a note, and no alarm: `import` needs the account, and so does the handover of a next epoch, so a cluster that keeps
//! it is as somebody may want it. But whoever gets hold of it may say which documents are Vault's, and where Vault is.

use regent_core::name::{AuthorityName, Epoch};
use serde_json::Value;

use super::report::Warning;
use crate::cluster::Cluster;
use crate::cluster::installation::path_of;
use crate::cluster::rights::{HOME, WITNESSES, handover};

/// What is left of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Account {
    /// Before phase 4 it is needed.
    Needed,
    /// The account and its bindings, as far as they are there; none once it is gone.
    Left(Vec<String>),
    /// Nobody could look.
    Unseen(String),
}

pub(super) async fn left(cluster: &Cluster, name: &AuthorityName) -> Account {
    let mut there = Vec::new();
    // The kinds and names of its objects are those of any epoch.
    for object in handover(name, Epoch::FIRST).iter().filter(|object| lets_in(object)) {
        match cluster.get_metadata(&path_of(object)).await {
            Ok(Some(_)) => there.push(in_words(object)),
            Ok(None) => {}
            // The account is there, whatever binds it.
            Err(_) if !there.is_empty() => break,
            Err(error) => return Account::Unseen(error.to_string()),
        }
    }
    Account::Left(there)
}

/// A role that nobody is bound to gives nothing.
fn lets_in(object: &Value) -> bool {
    object["kind"] == "ServiceAccount" || object.get("roleRef").is_some()
}

fn in_words(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, metadata) = (text(&object["kind"]), &object["metadata"]);
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{}", text(&metadata["name"])),
        None => format!("{kind} {}", text(&metadata["name"])),
    }
}

/// What is told of it.
pub(super) fn note(account: &Account, authority: &AuthorityName) -> Option<Warning> {
    let there = match account {
        Account::Left(there) if !there.is_empty() => there,
        Account::Needed | Account::Left(_) | Account::Unseen(_) => return None,
    };
    let name = format!("regent-handover-{authority}");
    Some(Warning {
        code: "handover-account",
        about: there.clone(),
        text: format!("the account that handed over is still there, and `import` alone needs it: {}", there.join(", ")),
        way_out: format!(
            "once nothing is to be imported any more: `kubectl -n {HOME} delete serviceaccount {name}`, \
             `kubectl delete clusterrolebinding,clusterrole {name}`, `kubectl -n {WITNESSES} delete rolebinding,role {name}`; \
             then its policy, roles and identity in Vault, which was not asked (manifests/vault). For a later import, or the \
             handover of a next epoch, `regent init DIR --complete` makes it again"
        ),
    })
}
