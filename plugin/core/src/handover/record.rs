//! The handover record as it stands in Vault, and what is mirrored of it.
//!
//! One key of a KV store, version 2, with these fields, strings all of them (Vault takes numbers through a float):
//!
//! ```text
//! schema           1
//! authorityId      the authority's name
//! authority        vault
//! epoch            1
//! supersedes       the handover before; there exactly where the epoch is above the first
//! handoverId       random, a UUID of version 4
//! root             the folder of regent.yaml, `.` for the repository's own; not there outside a repository
//! vaultAddress, vaultNamespace, mount, prefix, vaultClusterId, mountUuid
//! witnessKubeUid, targetKubeUid    not there where the witnesses are in a folder
//! gitCommit, treeDigest, regentVersion
//! records          [["ns/name",version,"created_time of the key"],..]   one JSON text, as OpenBao takes no more than
//! documents        [{"path":..,"name":..,"kind":..,"class":..,"blob":..},..]     1000 strings in a request
//! ```
//! Nothing in it is a value, or made from one. Another schema, an unknown field or a missing one is unreadable.

use std::collections::{BTreeMap, BTreeSet};

use crate::evidence::{
    AuthorityWitness, Clusters, HandoverWitness, Holds, ListedClass, ListedDocument, RecordFacts, WitnessedVault,
    documents_from_json, documents_to_json,
};
use crate::handover::tree::{is_hex, tree_digest};
use crate::name::{AuthorityName, Epoch, FilePath, HandoverId, SecretName};

/// What a handover leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `authorityId`.
    pub name: AuthorityName,
    /// `epoch`.
    pub epoch: Epoch,
    /// `supersedes`.
    pub supersedes: Option<HandoverId>,
    /// `handoverId`.
    pub handover: HandoverId,
    /// `root`.
    pub root: Option<String>,
    /// Which Vault and which clusters it is about.
    pub site: Site,
    /// `gitCommit`: the full id.
    pub git_commit: String,
    /// `treeDigest`, see [`tree_digest`].
    pub tree_digest: String,
    /// `records`: the copies.
    pub records: Vec<RecordedKey>,
    /// `documents`: what was handed over or listed.
    pub documents: Vec<ListedDocument>,
    /// `regentVersion`.
    pub regent_version: String,
}

/// Which Vault, and which clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The Vault.
    pub vault: VaultIdentity,
    /// The clusters; witnesses in a folder have none.
    pub clusters: Option<Clusters>,
}

/// What tells one Vault from another. A restored backup, or a clone, has the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultIdentity {
    /// Where it is asked.
    pub place: WitnessedVault,
    /// `vaultClusterId`, of `sys/health`.
    pub cluster_id: String,
    /// `mountUuid`, of `sys/internal/ui/mounts`.
    pub mount_uuid: String,
}

/// A copy, as it was when the record was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedKey {
    /// The Secret; its key in Vault is `<prefix>/<ns>/<name>`.
    pub name: SecretName,
    /// The key's current version.
    pub version: u32,
    /// When the key was made, as its metadata says: constant for the key's life, and compared for equality alone.
    pub created_time: String,
}

/// A record that was read back: with what only its own key in Vault can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// The record.
    pub record: Record,
    /// The version of its key; 1, as it is written once.
    pub version: u32,
    /// When its key was made.
    pub created_time: String,
}

/// The same handover, accepted by a person for another place: `adopted/<uid>` for a rebuilt cluster, `rebind-<n>` for a
/// Vault with another identity. Appended beside the record, which stays as it is. Its fields are those of the record
/// that say which handover and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amendment {
    /// `authorityId`.
    pub name: AuthorityName,
    /// `epoch`.
    pub epoch: Epoch,
    /// `handoverId`.
    pub handover: HandoverId,
    /// What was accepted.
    pub site: Site,
}

/// More than Vault or the API server takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} of {records} copies and {documents} documents would have {size} bytes, more than the {limit} that {who} \
     takes: split the root"
)]
pub struct TooLarge {
    /// `the handover record` or `its ConfigMap`.
    pub what: &'static str,
    /// Copies in it.
    pub records: usize,
    /// Documents in it.
    pub documents: usize,
    /// Its size in bytes.
    pub size: usize,
    /// The bound in bytes.
    pub limit: usize,
    /// Whose bound it is.
    pub who: &'static str,
}

/// Where a copy's key is now, beside what the record says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyNow {
    /// Certainly not there.
    Absent,
    /// Its current version was deleted or destroyed.
    Deleted,
    /// There.
    Present {
        /// Its current version.
        version: u32,
        /// When the key was made.
        created_time: String,
    },
}

/// A copy that is not what was recorded, or newer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The Secret.
    pub name: SecretName,
    /// What became of its key.
    pub how: Lost,
}

/// How a copy was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Nobody looked.
    NotRead,
    /// The key is gone.
    Absent,
    /// It was deleted.
    Deleted,
    /// It is at a lower version than was recorded: Vault was taken back.
    RolledBack,
    /// Another key of that name was made.
    Recreated,
}

/// Version of the fields.
const SCHEMA: &str = "1";

/// Largest request body sent to Vault, in bytes: raft takes 1 MiB with its own envelope around it.
pub(super) const MAX_BODY_BYTES: usize = 1_000_000;

/// The API server's bound for the data of a `ConfigMap`, in bytes.
const MAX_CONFIG_MAP_BYTES: usize = 1 << 20;

/// What the cluster's schema takes of each text, in bytes.
const MAX_UID: usize = 36;
const MAX_IDENTITY: usize = 128;
const MAX_TIME: usize = 64;
const MAX_VERSION: usize = 64;
const MAX_ADDRESS: usize = 2048;
const MAX_PATH: usize = 512;

impl Record {
    /// The path of an epoch's record below the mount.
    pub fn path(name: &AuthorityName, epoch: Epoch) -> String {
        format!("regent/{name}/authority/{epoch}")
    }

    /// The fields of its key.
    pub fn to_fields(&self) -> BTreeMap<String, String> {
        let mut fields = head(&self.name, self.epoch, &self.handover, &self.site);
        let mut put = |key: &str, value: String| drop(fields.insert(key.to_owned(), value));
        if let Some(supersedes) = &self.supersedes {
            put("supersedes", supersedes.to_string());
        }
        if let Some(root) = &self.root {
            put("root", root.clone());
        }
        put("gitCommit", self.git_commit.clone());
        put("treeDigest", self.tree_digest.clone());
        put("records", keys_to_json(&self.records));
        put("documents", documents_to_json(&self.documents));
        put("regentVersion", self.regent_version.clone());
        fields
    }

    /// Reads the fields of the key of `name`'s `epoch`. Whatever is not exactly a record of it is none, and so is one
    /// that contradicts itself.
    ///
    /// # Errors
    /// What is wrong, in words that quote nothing of it.
    pub fn from_fields(name: &AuthorityName, epoch: Epoch, fields: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut fields = Fields::of(fields);
        let (handover, site) = fields.head(name, epoch)?;
        let supersedes = fields.optional("supersedes").map(HandoverId::parse).transpose().map_err(|bad| text(&bad))?;
        let root = fields.optional("root").map(str::to_owned);
        let git_commit = fields.needed("gitCommit")?.to_owned();
        let tree_digest = fields.needed("treeDigest")?.to_owned();
        let records = keys_from_json(fields.needed("records")?)?;
        let documents = documents_from_json(fields.needed("documents")?)?;
        let regent_version = fields.needed("regentVersion")?.to_owned();
        fields.finish()?;
        let record = Self {
            name: name.clone(),
            epoch,
            supersedes,
            handover,
            root,
            site,
            git_commit,
            tree_digest,
            records,
            documents,
            regent_version,
        };
        record.check()?;
        Ok(record)
    }

    /// Whether it says what a record may say, and agrees with itself: the tree is that of its documents, each copy is
    /// of a listed Secret, and each Secret that Vault owns has one.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self) -> Result<(), String> {
        if self.supersedes.is_some() != (self.epoch > Epoch::FIRST) {
            return Err("`supersedes` belongs to exactly the epochs after the first".to_owned());
        }
        if self.supersedes.as_ref() == Some(&self.handover) {
            return Err("a handover that supersedes itself".to_owned());
        }
        if let Some(root) = self.root.as_deref().filter(|root| *root != ".") {
            FilePath::parse(root).map_err(|bad| text(&bad))?;
        }
        self.site.check()?;
        line("regentVersion", &self.regent_version, MAX_VERSION)?;
        if !is_hex(&self.git_commit, &[40, 64]) {
            return Err("`gitCommit` is no full id of a commit".to_owned());
        }
        let (mut documents, mut owned) = (BTreeSet::new(), BTreeMap::new());
        for document in &self.documents {
            if !is_hex(&document.blob, &[40, 64]) {
                return Err("`documents` has a blob that is no id".to_owned());
            }
            if !documents.insert((&document.name, &document.kind)) {
                return Err(format!("`documents` lists {} {} twice", document.kind, document.name));
            }
            if document.kind == "Secret" {
                owned.insert(&document.name, document.class);
            }
        }
        let files = self.documents.iter().map(|document| (&document.path, document.blob.as_str()));
        if self.tree_digest != tree_digest(files) {
            return Err("`treeDigest` is not that of its documents".to_owned());
        }
        for key in &self.records {
            line("records", &key.created_time, MAX_TIME)?;
            if key.version == 0 {
                return Err("`records` has a copy without a version".to_owned());
            }
            if owned.remove(&key.name).is_none() {
                return Err(format!("`records` has {} twice, or `documents` does not list it", key.name));
            }
        }
        match owned.iter().find(|(_, class)| **class == ListedClass::Handover) {
            Some((name, _)) => Err(format!("`documents` gives {name} to Vault, and `records` has no copy of it")),
            None => Ok(()),
        }
    }

    /// Whether Vault and the API server take it: its key, and the `ConfigMap` that mirrors it.
    ///
    /// # Errors
    /// Which of the two is too large.
    pub fn check_size(&self) -> Result<(), TooLarge> {
        let body = serde_json::json!({ "options": { "cas": 0 }, "data": self.to_fields() }).to_string().len();
        let longest = Marked { record: self.clone(), version: 1, created_time: "0".repeat(MAX_TIME) };
        let config_map = longest.witnesses().0.to_json().len();
        for (what, size, limit, who) in [
            ("the handover record", body, MAX_BODY_BYTES, "Vault"),
            ("its ConfigMap", config_map, MAX_CONFIG_MAP_BYTES, "the API server"),
        ] {
            if size > limit {
                let (records, documents) = (self.records.len(), self.documents.len());
                return Err(TooLarge { what, records, documents, size, limit, who });
            }
        }
        Ok(())
    }

    /// Exactly what is mirrored of it, the `ConfigMap` and the Authority; `marker` is what its own key says when it is
    /// read back.
    pub fn witnesses(&self, marker_version: u32, marker_created_time: &str) -> (HandoverWitness, AuthorityWitness) {
        let authority = AuthorityWitness {
            name: self.name.clone(),
            holds: Holds::Vault(self.handover.clone()),
            epoch: self.epoch,
            supersedes: self.supersedes.clone(),
            root: self.root.clone(),
            vault: Some(self.site.vault.place.clone()),
            clusters: self.site.clusters.clone(),
            // There is one now.
            no_vault_yet: false,
            record: Some(RecordFacts {
                git_commit: self.git_commit.clone(),
                tree_digest: self.tree_digest.clone(),
                vault_cluster_id: self.site.vault.cluster_id.clone(),
                mount_uuid: self.site.vault.mount_uuid.clone(),
                marker_version,
                marker_created_time: marker_created_time.to_owned(),
                regent_version: self.regent_version.clone(),
            }),
        };
        let handover = HandoverWitness {
            name: self.name.clone(),
            epoch: self.epoch,
            handover: self.handover.clone(),
            documents: self.documents.clone(),
            authority: Some(Box::new(authority.clone())),
        };
        (handover, authority)
    }

    /// The Secrets that Vault holds a copy of.
    pub fn copied(&self) -> BTreeSet<SecretName> {
        self.records.iter().map(|key| key.name.clone()).collect()
    }

    /// Which copies are not there any more as they were recorded, or in a later version. A copy that `now` does not
    /// have was not read.
    pub fn losses(&self, now: &BTreeMap<SecretName, KeyNow>) -> Vec<Loss> {
        let lost = |key: &RecordedKey| {
            let how = match now.get(&key.name) {
                None => Lost::NotRead,
                Some(KeyNow::Absent) => Lost::Absent,
                Some(KeyNow::Deleted) => Lost::Deleted,
                Some(KeyNow::Present { created_time, .. }) if *created_time != key.created_time => Lost::Recreated,
                Some(KeyNow::Present { version, .. }) if *version < key.version => Lost::RolledBack,
                Some(KeyNow::Present { .. }) => return None,
            };
            Some(Loss { name: key.name.clone(), how })
        };
        self.records.iter().filter_map(lost).collect()
    }
}

impl Marked {
    /// What is mirrored of it.
    pub fn witnesses(&self) -> (HandoverWitness, AuthorityWitness) {
        self.record.witnesses(self.version, &self.created_time)
    }
}

impl Amendment {
    /// Below [`Record::path`]: where the adoption for these clusters is, by their uids, so that it is found without a
    /// listing.
    pub fn adopted_key(clusters: &Clusters) -> String {
        if clusters.witness == clusters.target {
            format!("adopted/{}", clusters.target)
        } else {
            format!("adopted/{}.{}", clusters.witness, clusters.target)
        }
    }

    /// Below [`Record::path`]: where the `number`th rebinding is, counted from 1 without a gap.
    pub fn rebind_key(number: usize) -> String {
        format!("rebind-{number}")
    }

    /// The fields of its key.
    pub fn to_fields(&self) -> BTreeMap<String, String> {
        head(&self.name, self.epoch, &self.handover, &self.site)
    }

    /// Reads the fields of an amendment of `name`'s `epoch`.
    ///
    /// # Errors
    /// What is wrong, in words that quote nothing of it.
    pub fn from_fields(name: &AuthorityName, epoch: Epoch, fields: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut fields = Fields::of(fields);
        let (handover, site) = fields.head(name, epoch)?;
        fields.finish()?;
        site.check()?;
        Ok(Self { name: name.clone(), epoch, handover, site })
    }
}

impl Site {
    pub(crate) fn check(&self) -> Result<(), String> {
        let VaultIdentity { place, cluster_id, mount_uuid } = &self.vault;
        line("vaultAddress", &place.address, MAX_ADDRESS)?;
        line("mount", &place.mount, MAX_PATH)?;
        line("prefix", &place.prefix, MAX_PATH)?;
        if !place.namespace.is_empty() {
            line("vaultNamespace", &place.namespace, MAX_PATH)?;
        }
        line("vaultClusterId", cluster_id, MAX_IDENTITY)?;
        line("mountUuid", mount_uuid, MAX_IDENTITY)?;
        if let Some(Clusters { witness, target }) = &self.clusters {
            line("witnessKubeUid", witness, MAX_UID)?;
            line("targetKubeUid", target, MAX_UID)?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotRead => "was not read",
            Self::Absent => "is gone",
            Self::Deleted => "was deleted",
            Self::RolledBack => "is older than recorded",
            Self::Recreated => "was made anew",
        })
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.how)
    }
}

/// `records`: copies as one JSON text.
pub(crate) fn keys_to_json(keys: &[RecordedKey]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| (key.name.to_string(), key.version, &key.created_time)).collect();
    // Lists of text and numbers always serialize.
    serde_json::to_string(&keys).unwrap_or_default()
}

/// Reads them.
pub(crate) fn keys_from_json(json: &str) -> Result<Vec<RecordedKey>, String> {
    let keys: Vec<(String, u32, String)> =
        serde_json::from_str(json).map_err(|_| "`records` is no list of copies".to_owned())?;
    let key = |(name, version, created_time): (String, u32, String)| {
        Ok(RecordedKey { name: SecretName::parse(&name).map_err(|bad| text(&bad))?, version, created_time })
    };
    keys.into_iter().map(key).collect()
}

/// The fields that say which handover, and where.
pub(crate) fn head(name: &AuthorityName, epoch: Epoch, handover: &HandoverId, site: &Site) -> BTreeMap<String, String> {
    let VaultIdentity { place, cluster_id, mount_uuid } = &site.vault;
    let mut fields: BTreeMap<String, String> = [
        ("schema", SCHEMA.to_owned()),
        ("authorityId", name.to_string()),
        ("authority", "vault".to_owned()),
        ("epoch", epoch.to_string()),
        ("handoverId", handover.to_string()),
        ("vaultAddress", place.address.clone()),
        ("vaultNamespace", place.namespace.clone()),
        ("mount", place.mount.clone()),
        ("prefix", place.prefix.clone()),
        ("vaultClusterId", cluster_id.clone()),
        ("mountUuid", mount_uuid.clone()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    if let Some(Clusters { witness, target }) = &site.clusters {
        fields.insert("witnessKubeUid".to_owned(), witness.clone());
        fields.insert("targetKubeUid".to_owned(), target.clone());
    }
    fields
}

/// Fields on their way out; what is left at the end is unknown.
pub(crate) struct Fields<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    pub(crate) fn of(fields: &'a BTreeMap<String, String>) -> Self {
        Self(fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect())
    }

    fn optional(&mut self, key: &str) -> Option<&'a str> {
        self.0.remove(key)
    }

    pub(crate) fn needed(&mut self, key: &str) -> Result<&'a str, String> {
        self.0.remove(key).ok_or_else(|| format!("it has no `{key}`"))
    }

    pub(crate) fn finish(self) -> Result<(), String> {
        if self.0.is_empty() { Ok(()) } else { Err(format!("it has {} fields that no record has", self.0.len())) }
    }

    pub(crate) fn head(&mut self, name: &AuthorityName, epoch: Epoch) -> Result<(HandoverId, Site), String> {
        if self.needed("schema")? != SCHEMA {
            return Err(format!("its schema is another than {SCHEMA}, which this regent reads"));
        }
        for (key, expected, problem) in [
            ("authorityId", name.to_string(), "it is another authority's"),
            ("authority", "vault".to_owned(), "it does not say vault"),
            ("epoch", epoch.to_string(), "it is another epoch's"),
        ] {
            if self.needed(key)? != expected {
                return Err(problem.to_owned());
            }
        }
        let handover = HandoverId::parse(self.needed("handoverId")?).map_err(|bad| text(&bad))?;
        let place = WitnessedVault {
            address: self.needed("vaultAddress")?.to_owned(),
            namespace: self.needed("vaultNamespace")?.to_owned(),
            mount: self.needed("mount")?.to_owned(),
            prefix: self.needed("prefix")?.to_owned(),
        };
        let cluster_id = self.needed("vaultClusterId")?.to_owned();
        let mount_uuid = self.needed("mountUuid")?.to_owned();
        let clusters = match (self.optional("witnessKubeUid"), self.optional("targetKubeUid")) {
            (None, None) => None,
            (Some(witness), Some(target)) => Some(Clusters { witness: witness.to_owned(), target: target.to_owned() }),
            (Some(_), None) | (None, Some(_)) => return Err("it has one cluster's uid without the other's".to_owned()),
        };
        Ok((handover, Site { vault: VaultIdentity { place, cluster_id, mount_uuid }, clusters }))
    }
}

/// One line of printable ASCII, not empty.
fn line(field: &str, value: &str, longest: usize) -> Result<(), String> {
    let fits = !value.is_empty() && value.len() <= longest && value.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(()) } else { Err(format!("`{field}` is not one word of at most {longest} characters")) }
}

fn text(bad: &crate::name::BadName) -> String {
    format!("its {} {}", bad.what, bad.rule)
}

#[cfg(test)]
mod tests;
