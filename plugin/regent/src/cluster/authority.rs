//! The `Authority` object: the witness that the API server itself keeps one-way.
//!
//! The rules stand in the schema as CEL and count for everybody, cluster administrators included; what a rule of one
//! object cannot say (who may delete it, who may hand over) is said by the policies in `manifests/cluster`. The
//! committed CRD is this type, word for word.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::core::CustomResourceExt as _;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Who rules the secrets of one root: Git, until Vault takes over. There is no way back within an epoch.
#[derive(Clone, Debug, CustomResource, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "regent.dev",
    version = "v1alpha1",
    kind = "Authority",
    plural = "authorities",
    singular = "authority",
    status = "AuthorityStatus",
    doc = "Who rules the secrets of one root: Git, until Vault takes over. There is no way back within an epoch.",
    annotation("argocd.argoproj.io/sync-options", "Prune=false,Delete=false"),
    annotation("helm.sh/resource-policy", "keep"),
    annotation("kustomize.toolkit.fluxcd.io/prune", "disabled"),
    label("app.kubernetes.io/name", "regent"),
    printcolumn(name = "Authority", type_ = "string", json_path = ".spec.authority", description = "who rules: git or vault"),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".spec.epoch", description = "raised by one only when a lost Vault is rebuilt from Git"),
    printcolumn(name = "Settled", type_ = "string", json_path = ".status.conditions[?(@.type==\"Settled\")].status", description = "no old value can come back"),
    printcolumn(name = "Root", type_ = "string", json_path = ".spec.root", description = "the folder of regent.yaml in its repository"),
    printcolumn(name = "Handover", type_ = "string", json_path = ".spec.handoverId", description = "the handover that made vault the authority", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name == self.spec.authorityId")
        .message("an Authority is named after the authority"),
    validation = Rule::new(
        "!has(oldSelf.status) || !has(oldSelf.status.heartbeat) || (has(self.status) && has(self.status.heartbeat) && (self.status.heartbeat.epoch > oldSelf.status.heartbeat.epoch || (self.status.heartbeat.epoch == oldSelf.status.heartbeat.epoch && self.status.heartbeat.version >= oldSelf.status.heartbeat.version)))",
    )
    .message("the heartbeat never goes down within an epoch"),
    validation = Rule::new(
        "!has(oldSelf.status) || !has(oldSelf.status.settled) || (has(self.status) && has(self.status.settled) && (self.status.settled == oldSelf.status.settled || self.status.settled.epoch > oldSelf.status.settled.epoch))",
    )
    .message("settled is never taken back"),
    validation = Rule::new(
        "!has(self.status) || !has(self.status.settled) || self.status.settled.epoch < self.spec.epoch || (self.status.settled.epoch == self.spec.epoch && self.spec.authority == 'vault' && self.status.settled.handoverId == self.spec.handoverId)",
    )
    .message("settled is a handover of this authority"),
    validation = Rule::new(
        "!has(oldSelf.status) || !has(oldSelf.status.imported) || (has(self.status) && has(self.status.imported) && oldSelf.status.imported.all(key, key in self.status.imported && self.status.imported[key] == oldSelf.status.imported[key]))",
    )
    .message("imported documents are only added"),
    validation = Rule::new(
        "!has(oldSelf.status) || !has(oldSelf.status.rebound) || (has(self.status) && has(self.status.rebound) && oldSelf.status.rebound.all(key, key in self.status.rebound && self.status.rebound[key] == oldSelf.status.rebound[key]))",
    )
    .message("places of Vault are only added"),
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[x_kube(
    validation = Rule::new("self.epoch > oldSelf.epoch || oldSelf.authority != 'vault' || self == oldSelf")
        .message("authority is vault: this epoch is final")
        .field_path(".authority"),
    validation = Rule::new("self.epoch >= oldSelf.epoch").message("epoch never goes down").field_path(".epoch"),
    validation = Rule::new(
        "self.epoch == oldSelf.epoch || (oldSelf.authority == 'vault' && self.authority == 'git' && self.epoch == oldSelf.epoch + 1 && has(self.supersedes) && self.supersedes == oldSelf.handoverId)",
    )
    .message("a new epoch starts as git from vault, is the old epoch + 1 and names in supersedes the handoverId it replaces")
    .field_path(".epoch"),
    validation = Rule::new(
        "self.epoch != oldSelf.epoch || (has(self.supersedes) ? self.supersedes : '') == (has(oldSelf.supersedes) ? oldSelf.supersedes : '')",
    )
    .message("supersedes is fixed for an epoch")
    .field_path(".supersedes"),
    validation = Rule::new("(self.epoch == 1) == !has(self.supersedes)").message("supersedes is for epochs after the first"),
    validation = Rule::new("!has(self.handoverId) || !has(self.supersedes) || self.handoverId != self.supersedes")
        .message("a handover does not supersede itself"),
    validation = Rule::new(
        "[has(self.handoverId), has(self.gitCommit), has(self.treeDigest), has(self.vaultClusterId), has(self.mountUuid), has(self.markerVersion), has(self.markerCreatedTime), has(self.regentVersion)].all(there, there == (self.authority == 'vault'))",
    )
    .message("vault needs every field of the handover record, and git has none of them"),
    validation = Rule::new(
        "self.authority == 'git' || (has(self.vaultAddress) && has(self.mount) && has(self.prefix))",
    )
    .message("vault needs its place: vaultAddress, mount and prefix"),
    validation = Rule::new(
        "self.epoch != oldSelf.epoch || self.authority == oldSelf.authority || ((has(self.root) ? self.root : '') == (has(oldSelf.root) ? oldSelf.root : '') && has(self.vaultAddress) == has(oldSelf.vaultAddress) && (!has(self.vaultAddress) || self.vaultAddress == oldSelf.vaultAddress) && (has(self.vaultNamespace) ? self.vaultNamespace : '') == (has(oldSelf.vaultNamespace) ? oldSelf.vaultNamespace : '') && (has(self.mount) ? self.mount : '') == (has(oldSelf.mount) ? oldSelf.mount : '') && (has(self.prefix) ? self.prefix : '') == (has(oldSelf.prefix) ? oldSelf.prefix : ''))",
    )
    .message("a handover moves neither the root nor the place in Vault"),
    validation = Rule::new("self.authorityId == oldSelf.authorityId").message("authorityId is fixed").field_path(".authorityId"),
    validation = Rule::new("self.witnessKubeUid == oldSelf.witnessKubeUid").message("the cluster of the witnesses is fixed"),
    validation = Rule::new("self.epoch != oldSelf.epoch || self.targetKubeUid == oldSelf.targetKubeUid")
        .message("the cluster of the Secrets is fixed for an epoch"),
)]
pub(crate) struct AuthoritySpec {
    /// Version of these fields; another one is not understood.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) schema: i64,
    /// The authority: `name` of its `regent.yaml`, and the name of this object.
    #[schemars(length(min = 1, max = 63))]
    pub(crate) authority_id: String,
    /// Who rules this epoch.
    pub(crate) authority: Word,
    /// Raised by one only by `regent rebootstrap`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) epoch: i64,
    /// The handover that this epoch replaces; there exactly where the epoch is above the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 36), regex(pattern = UUID))]
    pub(crate) supersedes: Option<String>,
    /// The handover that made vault the authority of this epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 36), regex(pattern = UUID))]
    pub(crate) handover_id: Option<String>,
    /// The folder of `regent.yaml` in its repository, `.` for the repository's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 4096))]
    pub(crate) root: Option<String>,
    /// The place in Vault, as `regent.yaml` named it: address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 2048))]
    pub(crate) vault_address: Option<String>,
    /// Vault namespace, empty for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 512))]
    pub(crate) vault_namespace: Option<String>,
    /// Mount of the KV store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 512))]
    pub(crate) mount: Option<String>,
    /// Path of the values below the mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 512))]
    pub(crate) prefix: Option<String>,
    /// `init` was told that there was no Vault to ask for a record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) no_vault_yet: bool,
    /// The cluster of this object: uid of its namespace kube-system.
    #[schemars(length(min = 1, max = 36))]
    pub(crate) witness_kube_uid: String,
    /// The cluster of the Secrets: uid of its namespace kube-system.
    #[schemars(length(min = 1, max = 36))]
    pub(crate) target_kube_uid: String,
    /// The commit that was handed over, in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 64))]
    pub(crate) git_commit: Option<String>,
    /// Digest over paths and blob ids of the root's encrypted files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 80))]
    pub(crate) tree_digest: Option<String>,
    /// Vault's own cluster id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 128))]
    pub(crate) vault_cluster_id: Option<String>,
    /// The mount's uuid, which a mount of the same name made later does not have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 128))]
    pub(crate) mount_uuid: Option<String>,
    /// Version of the record's key in Vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 1, max = 1_000_000))]
    pub(crate) marker_version: Option<i64>,
    /// When Vault created the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 64))]
    pub(crate) marker_created_time: Option<String>,
    /// The regent that made the handover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 64))]
    pub(crate) regent_version: Option<String>,
}

/// A lower-case UUID; that it is random cannot be said by a pattern.
const UUID: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";

/// Who rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Word {
    Git,
    Vault,
}

/// What was seen since; nothing here decides who rules.
#[derive(Clone, Debug, Default, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuthorityStatus {
    /// Where Vault's heartbeat was when somebody last compared the witnesses with Vault. Never goes down within an epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Heartbeat")]
    pub(crate) heartbeat: Option<Heartbeat>,
    /// The handover after which no old value can come back. Never taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Settled")]
    pub(crate) settled: Option<Settled>,
    /// Documents that `regent import` added to the list of an epoch, as `<epoch>-<number>`. Only added.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "imported")]
    pub(crate) imported: BTreeMap<String, Imported>,
    /// Places where a person accepted the Vault of an epoch's handover after it moved, as `<epoch>-<number>`; the last one
    /// counts. Only added.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rebound")]
    pub(crate) rebound: BTreeMap<String, Rebound>,
    /// Ready, Reconciling and Stalled for whoever waits (kstatus), and Settled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub(crate) conditions: Vec<Condition>,
}

/// The reason of a condition `Settled` that a person did without some proof of.
pub(crate) const LEFT_BEHIND: &str = "LeftBehind";

/// What a condition of `status.conditions` says.
pub(crate) struct Noted<'a> {
    /// `Settled`, `Ready` ...
    pub(crate) what: &'a str,
    /// Whether it holds.
    pub(crate) holds: bool,
    /// One word for programs.
    pub(crate) reason: &'a str,
    /// One sentence for people, cut at what the definition allows.
    pub(crate) message: &'a str,
}

impl AuthorityStatus {
    /// Puts a condition into the place of the one of its type. Its time is that of the last change of what it says, as
    /// Kubernetes has it.
    pub(crate) fn note(&mut self, noted: &Noted<'_>) {
        let status = if noted.holds { "True" } else { "False" };
        let before = self.conditions.iter().position(|condition| condition.type_ == noted.what);
        let since = before.map(|at| &self.conditions[at]).filter(|condition| condition.status == status);
        let condition = Condition {
            type_: noted.what.to_owned(),
            status: status.to_owned(),
            reason: noted.reason.to_owned(),
            message: noted.message.chars().take(MAX_MESSAGE).collect(),
            last_transition_time: since
                .map_or_else(|| Time(Timestamp::now()), |same| same.last_transition_time.clone()),
            observed_generation: None,
        };
        match before {
            Some(at) => self.conditions[at] = condition,
            None => self.conditions.push(condition),
        }
    }

    /// Whether the status may follow another one, by the rules of the definition.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(crate) fn may_follow(&self, before: &Self) -> Result<(), &'static str> {
        let count = |heartbeat: &Option<Heartbeat>| heartbeat.as_ref().map(Heartbeat::count);
        if count(&before.heartbeat) > count(&self.heartbeat) {
            return Err("the heartbeat never goes down within an epoch");
        }
        let epoch = |settled: &Option<Settled>| settled.as_ref().map(|settled| settled.epoch);
        if before.settled.is_some() && before.settled != self.settled && epoch(&self.settled) <= epoch(&before.settled)
        {
            return Err("settled is never taken back");
        }
        if before.imported.iter().any(|(key, document)| self.imported.get(key) != Some(document)) {
            return Err("imported documents are only added");
        }
        if before.rebound.iter().any(|(key, place)| self.rebound.get(key) != Some(place)) {
            return Err("places of Vault are only added");
        }
        Ok(())
    }
}

/// `status.heartbeat`: what an older backup of Vault is told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Heartbeat {
    /// The epoch of the handover that was looked at: the next one may have another Vault, which counts anew.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) epoch: i64,
    /// The version of Vault's key `regent/NAME/heartbeat`, which `regent verify` counts up.
    #[schemars(range(min = 0, max = 9_999_999_999_i64))]
    pub(crate) version: i64,
    /// When that was: seconds since 1970. Told to people, and compared with nothing.
    #[schemars(range(min = 0, max = 9_999_999_999_i64))]
    pub(crate) time: i64,
}

impl Heartbeat {
    /// What never goes down.
    pub(crate) fn count(&self) -> (i64, i64) {
        (self.epoch, self.version)
    }
}

/// `status.settled`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Settled {
    /// Its epoch.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) epoch: i64,
    /// The handover.
    #[schemars(length(max = 36), regex(pattern = UUID))]
    pub(crate) handover_id: String,
}

/// One imported document; nothing of a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub(crate) struct Imported {
    /// Its file in the root.
    #[schemars(length(max = 1024))]
    pub(crate) path: String,
    /// namespace/name.
    #[schemars(length(max = 317))]
    pub(crate) name: String,
    /// `Secret`, or another kind that `secrets.kinds` lists.
    #[schemars(length(max = 253))]
    pub(crate) kind: String,
    /// `handover` or `permanent`.
    #[schemars(length(max = 16))]
    pub(crate) class: String,
    /// Git blob id of the file.
    #[schemars(length(max = 64))]
    pub(crate) blob: String,
}

/// Where the Vault of a handover is now: as the witnesses name its place, but for the prefix, which nobody moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rebound {
    /// The handover.
    #[schemars(length(max = 36), regex(pattern = UUID))]
    pub(crate) handover_id: String,
    /// Its address.
    #[schemars(length(max = 2048))]
    pub(crate) vault_address: String,
    /// Vault namespace, empty for none.
    #[schemars(length(max = 512))]
    pub(crate) vault_namespace: String,
    /// Mount of the KV store.
    #[schemars(length(max = 512))]
    pub(crate) mount: String,
}

/// Bounded as `imported` is, by as many as are looked for beside a record.
fn rebound(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let mut schema = generator.subschema_for::<BTreeMap<String, Rebound>>();
    schema.insert("maxProperties".to_owned(), json!(64));
    schema
}

/// Bounded, so that the rule over its entries has a bounded cost.
fn imported(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let mut schema = generator.subschema_for::<BTreeMap<String, Imported>>();
    schema.insert("maxProperties".to_owned(), json!(256));
    schema
}

/// Longest message of a condition, in characters.
const MAX_MESSAGE: usize = 1024;

/// Conditions as Kubernetes has them: one of a type.
fn conditions(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 8,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": { "type": "string", "maxLength": 64 },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                "reason": { "type": "string", "minLength": 1, "maxLength": 256 },
                "message": { "type": "string", "maxLength": MAX_MESSAGE },
                "lastTransitionTime": { "type": "string", "format": "date-time" },
                "observedGeneration": { "type": "integer", "format": "int64", "minimum": 0 },
            },
        },
    })
}

/// The CustomResourceDefinition, as the API server takes it.
pub(crate) fn definition() -> Value {
    serde_json::to_value(Authority::crd()).unwrap_or_default()
}

/// The same as the committed file.
pub(crate) fn definition_as_yaml() -> String {
    format!("{ABOUT}{}", yaml_serde::to_string(&definition()).unwrap_or_default())
}

const ABOUT: &str = "\
# Made from plugin/regent/src/cluster/authority.rs by `regent crd`; a test keeps both equal.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_as_long_as_it_says_the_same() {
        let mut status = AuthorityStatus::default();
        let mut note = |holds, message| {
            status.note(&Noted { what: "Settled", holds, reason: "R", message });
            status.conditions.clone()
        };
        let [first] = &note(false, "a")[..] else { panic!("one of a type") };
        let [second] = &note(false, "b")[..] else { panic!("one of a type") };
        assert_eq!((&second.message[..], &second.last_transition_time), ("b", &first.last_transition_time));
        let [third] = &note(true, "c")[..] else { panic!("one of a type") };
        assert!(third.status == "True" && third.last_transition_time > first.last_transition_time);
    }

    #[test]
    fn what_was_seen_is_never_taken_back() {
        let settled = |epoch| Some(Settled { epoch, handover_id: "h".to_owned() });
        let beat = |(epoch, version)| Heartbeat { epoch, version, time: 0 };
        let at = |heartbeat: Option<(i64, i64)>, epoch| AuthorityStatus {
            heartbeat: heartbeat.map(beat),
            settled: settled(epoch),
            ..AuthorityStatus::default()
        };
        let document = |path: &str| Imported {
            path: path.to_owned(),
            name: "app/db".to_owned(),
            kind: "Secret".to_owned(),
            class: "handover".to_owned(),
            blob: "b".to_owned(),
        };
        let rebound = |address: &str| Rebound {
            handover_id: "h".to_owned(),
            vault_address: address.to_owned(),
            vault_namespace: String::new(),
            mount: "secret".to_owned(),
        };
        let listing = |paths: &[&str]| AuthorityStatus {
            imported: paths.iter().map(|path| (format!("1-{path}"), document(path))).collect(),
            ..AuthorityStatus::default()
        };
        let moved = |addresses: &[&str]| AuthorityStatus {
            rebound: (1..).zip(addresses).map(|(number, address)| (format!("1-{number}"), rebound(address))).collect(),
            ..AuthorityStatus::default()
        };
        let none = AuthorityStatus::default();
        for (before, after, is_allowed) in [
            (none.clone(), at(Some((1, 1)), 1), true),
            (at(Some((1, 2)), 1), at(Some((1, 2)), 1), true),
            (at(Some((1, 2)), 1), at(Some((1, 1)), 1), false),
            (at(Some((1, 2)), 1), at(Some((2, 1)), 1), true),
            (at(Some((2, 1)), 1), at(Some((1, 2)), 1), false),
            (at(Some((1, 2)), 1), at(None, 1), false),
            (at(None, 1), none.clone(), false),
            (at(None, 1), at(None, 2), true),
            (at(None, 2), at(None, 1), false),
            (listing(&["a"]), listing(&["a", "b"]), true),
            (listing(&["a"]), listing(&["b"]), false),
            (listing(&["a"]), none.clone(), false),
            (none.clone(), moved(&["a"]), true),
            (moved(&["a"]), moved(&["a", "b"]), true),
            (moved(&["a"]), moved(&["b"]), false),
            (moved(&["a"]), none, false),
        ] {
            assert_eq!(after.may_follow(&before).is_ok(), is_allowed, "{before:?} {after:?}");
        }
    }

    #[test]
    fn the_committed_definition_is_this_type() {
        let committed = include_str!("../../../../manifests/crd/authorities.regent.dev.yaml");
        assert!(
            definition_as_yaml() == committed,
            "they differ: `cargo run -p regent-cli -- crd > manifests/crd/authorities.regent.dev.yaml`"
        );
    }
}
