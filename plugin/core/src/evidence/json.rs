//! Witnesses as JSON: the fields of the handover record, under its names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    AuthorityWitness, Clusters, HandoverWitness, Holder, Holds, ListedClass, ListedDocument, Reading, RecordFacts,
    WitnessedVault,
};
use crate::name::{AuthorityName, Epoch, FilePath, HandoverId, SecretName};

/// Version of the witnesses' JSON. Another one is unreadable: guessing what it means would be a doubt that
/// counts as permission.
const SCHEMA: u32 = 1;

/// A witness as JSON, under the names of the handover record. The Authority has no `documents`, the handover witness
/// (and the record itself) has them.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WitnessJson {
    schema: u32,
    authority_id: String,
    authority: AuthorityWord,
    epoch: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    supersedes: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    handover_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vault_address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vault_namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mount: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    no_vault_yet: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    witness_kube_uid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target_kube_uid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    git_commit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tree_digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vault_cluster_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mount_uuid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    marker_version: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    marker_created_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    regent_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    documents: Option<Vec<DocumentJson>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AuthorityWord {
    Git,
    Vault,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentJson {
    path: String,
    name: String,
    kind: String,
    class: ListedClass,
    blob: String,
}

/// As much of the Authority's `status` as is evidence; conditions and heartbeat are for people.
#[derive(Deserialize)]
struct StatusJson {
    #[serde(default)]
    settled: Option<SettledJson>,
    #[serde(default)]
    imported: BTreeMap<String, DocumentJson>,
    #[serde(default)]
    rebound: BTreeMap<String, ReboundJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReboundJson {
    handover_id: String,
    vault_address: String,
    #[serde(default)]
    vault_namespace: String,
    mount: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SettledJson {
    epoch: u64,
    handover_id: String,
}

/// What `status` says of K's epoch: imported documents and `Settled`.
pub(super) fn status(json: Option<&[u8]>, holder: &Holder) -> (Reading<Vec<ListedDocument>>, Reading<()>) {
    let (Some(json), Holder::Vault { epoch, handover, .. }) = (json, holder) else {
        return (Reading::Absent, Reading::Absent);
    };
    let StatusJson { settled, imported, rebound: _ } = match parse_json(json) {
        Ok(status) => status,
        Err(why) => return (Reading::Unreadable(why.clone()), Reading::Unreadable(why)),
    };
    let settled = match settled {
        Some(settled) if settled.epoch == u64::from(epoch.get()) => {
            if settled.handover_id == handover.to_string() {
                Reading::Present(())
            } else {
                Reading::Unreadable("`settled` names another handover".to_owned())
            }
        }
        Some(_) | None => Reading::Absent,
    };
    let of_epoch = format!("{epoch}-");
    let imported: Result<Vec<_>, _> = imported
        .into_iter()
        .filter(|(key, _)| key.starts_with(&of_epoch))
        .map(|(_, document)| listed(document))
        .collect();
    let imported = match imported {
        Ok(documents) if documents.is_empty() => Reading::Absent,
        Ok(documents) => Reading::Present(documents),
        Err(why) => Reading::Unreadable(why),
    };
    (imported, settled)
}

/// What `status` says of where K's Vault moved to, of whose copies nobody moved the prefix: the last of `rebound`.
pub(super) fn moved(
    json: Option<&[u8]>,
    holder: &Holder,
    witnessed: Option<&WitnessedVault>,
) -> Reading<WitnessedVault> {
    let (Some(json), Holder::Vault { epoch, handover, .. }) = (json, holder) else { return Reading::Absent };
    let StatusJson { rebound, .. } = match parse_json(json) {
        Ok(status) => status,
        Err(why) => return Reading::Unreadable(why),
    };
    let unreadable = |why: &str| Reading::Unreadable(format!("`rebound` {why}"));
    let mut numbered = BTreeMap::new();
    for (key, entry) in rebound {
        let Some(number) = key.strip_prefix(&format!("{epoch}-")) else { continue };
        let Ok(number) = number.parse::<u32>() else { return unreadable("has an entry without a number") };
        numbered.insert(number, entry);
    }
    let Some((_, last)) = numbered.pop_last() else { return Reading::Absent };
    match witnessed {
        Some(_) if last.handover_id != handover.to_string() => unreadable("names another handover"),
        None => unreadable("is about a place that no witness names"),
        Some(WitnessedVault { prefix, .. }) => Reading::Present(WitnessedVault {
            address: last.vault_address,
            namespace: last.vault_namespace,
            mount: last.mount,
            prefix: prefix.clone(),
        }),
    }
}

impl AuthorityWitness {
    /// Reads the JSON of the authority `name`. Whatever is not exactly a witness of it is unreadable.
    pub fn from_json(name: &AuthorityName, json: &[u8]) -> Reading<Self> {
        let parsed = parse_json::<WitnessJson>(json).and_then(|json| {
            if json.documents.is_some() {
                return Err("an Authority with a list of documents".to_owned());
            }
            Self::parse(name, json)
        });
        reading(parsed)
    }

    fn parse(name: &AuthorityName, json: WitnessJson) -> Result<Self, String> {
        schema(json.schema)?;
        let text = |bad: crate::name::BadName| bad.to_string();
        let epoch = Epoch::new(json.epoch).map_err(text)?;
        let supersedes = json.supersedes.as_deref().map(HandoverId::parse).transpose().map_err(text)?;
        if supersedes.is_some() != (epoch > Epoch::FIRST) {
            return Err("`supersedes` belongs to exactly the epochs after the first".to_owned());
        }
        let handover = json.handover_id.as_deref().map(HandoverId::parse).transpose().map_err(text)?;
        let holds = match (json.authority, handover) {
            (AuthorityWord::Git, None) => Holds::Git,
            (AuthorityWord::Vault, Some(id)) => Holds::Vault(id),
            (AuthorityWord::Git, Some(_)) => return Err("git with a `handoverId`".to_owned()),
            (AuthorityWord::Vault, None) => return Err("vault without a `handoverId`".to_owned()),
        };
        if let Some(root) = json.root.as_deref().filter(|root| *root != ".") {
            FilePath::parse(root).map_err(text)?;
        }
        let vault = match (json.vault_address, json.vault_namespace, json.mount, json.prefix) {
            (None, None, None, None) => None,
            (Some(address), namespace, Some(mount), Some(prefix)) => {
                Some(WitnessedVault { address, namespace: namespace.unwrap_or_default(), mount, prefix })
            }
            _incomplete => return Err("an incomplete place in Vault".to_owned()),
        };
        let clusters = match (json.witness_kube_uid, json.target_kube_uid) {
            (None, None) => None,
            (Some(witness), Some(target)) => Some(Clusters { witness, target }),
            (Some(_), None) | (None, Some(_)) => return Err("one cluster's uid without the other's".to_owned()),
        };
        let record = (
            json.git_commit,
            json.tree_digest,
            json.vault_cluster_id,
            json.mount_uuid,
            json.marker_version,
            json.marker_created_time,
            json.regent_version,
        );
        let record = match record {
            (None, None, None, None, None, None, None) => None,
            (
                Some(git_commit),
                Some(tree_digest),
                Some(vault_cluster_id),
                Some(mount_uuid),
                Some(marker_version),
                Some(marker_created_time),
                Some(regent_version),
            ) => Some(RecordFacts {
                git_commit,
                tree_digest,
                vault_cluster_id,
                mount_uuid,
                marker_version,
                marker_created_time,
                regent_version,
            }),
            _incomplete => return Err("an incomplete handover record".to_owned()),
        };
        match (&holds, &record) {
            (Holds::Git, Some(_)) => return Err("git with a handover record".to_owned()),
            (Holds::Git, None) | (Holds::Vault(_), Some(_) | None) => {}
        }
        let name = named(name, &json.authority_id)?;
        let no_vault_yet = json.no_vault_yet;
        Ok(Self { name, holds, epoch, supersedes, root: json.root, vault, clusters, no_vault_yet, record })
    }

    /// The witness as JSON, one line a field.
    pub fn to_json(&self) -> String {
        pretty(&self.as_json())
    }

    fn as_json(&self) -> WitnessJson {
        let (authority, handover_id) = match &self.holds {
            Holds::Git => (AuthorityWord::Git, None),
            Holds::Vault(id) => (AuthorityWord::Vault, Some(id.to_string())),
        };
        let (vault, clusters, record) = (self.vault.as_ref(), self.clusters.as_ref(), self.record.as_ref());
        WitnessJson {
            schema: SCHEMA,
            authority_id: self.name.to_string(),
            authority,
            epoch: u64::from(self.epoch.get()),
            supersedes: self.supersedes.as_ref().map(ToString::to_string),
            handover_id,
            root: self.root.clone(),
            vault_address: vault.map(|vault| vault.address.clone()),
            vault_namespace: vault.map(|vault| vault.namespace.clone()),
            mount: vault.map(|vault| vault.mount.clone()),
            prefix: vault.map(|vault| vault.prefix.clone()),
            no_vault_yet: self.no_vault_yet,
            witness_kube_uid: clusters.map(|clusters| clusters.witness.clone()),
            target_kube_uid: clusters.map(|clusters| clusters.target.clone()),
            git_commit: record.map(|record| record.git_commit.clone()),
            tree_digest: record.map(|record| record.tree_digest.clone()),
            vault_cluster_id: record.map(|record| record.vault_cluster_id.clone()),
            mount_uuid: record.map(|record| record.mount_uuid.clone()),
            marker_version: record.map(|record| record.marker_version),
            marker_created_time: record.map(|record| record.marker_created_time.clone()),
            regent_version: record.map(|record| record.regent_version.clone()),
            documents: None,
        }
    }
}

impl HandoverWitness {
    /// Reads the JSON of the witness of `name`'s `epoch`. Whatever is not exactly that is unreadable.
    pub fn from_json(name: &AuthorityName, epoch: Epoch, json: &[u8]) -> Reading<Self> {
        reading(Self::parse(name, epoch, json))
    }

    fn parse(name: &AuthorityName, epoch: Epoch, json: &[u8]) -> Result<Self, String> {
        let mut json: WitnessJson = parse_json(json)?;
        schema(json.schema)?;
        if json.epoch != u64::from(epoch.get()) {
            return Err(format!("a witness of epoch {} where that of {epoch} belongs", json.epoch));
        }
        if json.authority != AuthorityWord::Vault {
            return Err("a handover witness that does not say vault".to_owned());
        }
        let id = json.handover_id.as_deref().ok_or_else(|| "vault without a `handoverId`".to_owned())?;
        let handover = HandoverId::parse(id).map_err(|bad| bad.to_string())?;
        let documents = json.documents.take().ok_or_else(|| "a handover witness without `documents`".to_owned())?;
        let documents = documents.into_iter().map(listed).collect::<Result<_, String>>()?;
        let name = named(name, &json.authority_id)?;
        // A store in a folder needs no more than this.
        let authority = match json.git_commit {
            Some(_) => Some(Box::new(AuthorityWitness::parse(&name, json)?)),
            None => None,
        };
        Ok(Self { name, epoch, handover, documents, authority })
    }

    /// The witness as JSON, one line a field.
    pub fn to_json(&self) -> String {
        let documents = Some(self.documents.iter().map(document).collect());
        let json = match &self.authority {
            Some(authority) => authority.as_json(),
            None => AuthorityWitness {
                name: self.name.clone(),
                holds: Holds::Vault(self.handover.clone()),
                epoch: self.epoch,
                supersedes: None,
                root: None,
                vault: None,
                clusters: None,
                no_vault_yet: false,
                record: None,
            }
            .as_json(),
        };
        pretty(&WitnessJson { documents, ..json })
    }
}

/// The list of documents by itself, as the record has it: JSON on one line.
pub(crate) fn documents_to_json(documents: &[ListedDocument]) -> String {
    let documents: Vec<DocumentJson> = documents.iter().map(document).collect();
    // Lists of text always serialize.
    serde_json::to_string(&documents).unwrap_or_default()
}

/// Reads that list.
pub(crate) fn documents_from_json(json: &str) -> Result<Vec<ListedDocument>, String> {
    let documents: Vec<DocumentJson> =
        serde_json::from_str(json).map_err(|error| format!("`documents`: {}", json_problem(&error)))?;
    documents.into_iter().map(listed).collect()
}

fn document(listed: &ListedDocument) -> DocumentJson {
    DocumentJson {
        path: listed.path.to_string(),
        name: listed.name.to_string(),
        kind: listed.kind.clone(),
        class: listed.class,
        blob: listed.blob.clone(),
    }
}

fn listed(json: DocumentJson) -> Result<ListedDocument, String> {
    let text = |bad: crate::name::BadName| bad.to_string();
    Ok(ListedDocument {
        path: FilePath::parse(&json.path).map_err(text)?,
        name: SecretName::parse(&json.name).map_err(text)?,
        kind: json.kind,
        class: json.class,
        blob: json.blob,
    })
}

fn reading<T>(parsed: Result<T, String>) -> Reading<T> {
    match parsed {
        Ok(witness) => Reading::Present(witness),
        Err(why) => Reading::Unreadable(why),
    }
}

fn parse_json<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|error| format!("line {}: {}", error.line(), json_problem(&error)))
}

/// What kind of thing is wrong, without the text that is.
fn json_problem(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Io | serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Syntax => "it is no JSON",
        serde_json::error::Category::Data => "it is no witness of this version",
    }
}

fn schema(version: u32) -> Result<(), String> {
    if version == SCHEMA { Ok(()) } else { Err(format!("schema {version}, and this regent reads {SCHEMA}")) }
}

fn named(expected: &AuthorityName, found: &str) -> Result<AuthorityName, String> {
    if found == expected.as_str() { Ok(expected.clone()) } else { Err("it is another authority's witness".to_owned()) }
}

fn pretty(json: &impl Serialize) -> String {
    // Maps of text keys and finite numbers always serialize.
    let mut text = serde_json::to_string_pretty(json).unwrap_or_default();
    text.push('\n');
    text
}
