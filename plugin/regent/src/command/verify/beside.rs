//! Live Secrets beside Vault's copies: compared in memory, key by key.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt as _};
use regent_core::evidence::{DocumentList, ListedDocument};
use regent_core::handover::record::Record;
use regent_core::name::SecretName;
use regent_core::verify::{Live, differing, secrets};
use regent_sops::Plaintext;

use super::super::handover::mirror::Keeper;
use super::super::handover::vault::InVault;
use super::Run;
use crate::cluster::{Cluster, secrets as in_cluster};
use crate::vault::{KeyPath, Reading, VaultError};

/// Vault's fields of a copy; `None` where it holds none.
pub(super) type Fields = Option<BTreeMap<String, Option<Plaintext>>>;

/// Secrets looked at together.
const AT_ONCE: usize = 16;

/// The documents that are looked at. Where the list cannot be read, the record says what was handed over.
pub(super) fn listed<'a>(list: &'a DocumentList, record: &'a Record) -> &'a [ListedDocument] {
    match list {
        DocumentList::Readable(documents) => documents,
        DocumentList::Unreadable => &record.documents,
    }
}

/// The live Secrets of a list, beside Vault's copies of those that have one.
pub(in super::super) async fn live(
    target: &Cluster,
    vault: &InVault,
    prefix: &str,
    listed: &[ListedDocument],
    copies: &BTreeSet<SecretName>,
) -> BTreeMap<SecretName, Live> {
    let one = async |name: SecretName| {
        let live = if copies.contains(&name) {
            beside(target, vault, prefix, &name).await
        } else {
            there(target, &name).await
        };
        (name, live)
    };
    let names: Vec<SecretName> = secrets(listed).map(|(name, _)| name.clone()).collect();
    stream::iter(names).map(one).buffer_unordered(AT_ONCE).collect().await
}

async fn beside(target: &Cluster, vault: &InVault, prefix: &str, name: &SecretName) -> Live {
    let live = match in_cluster::live(target, name).await {
        Ok(Some(live)) => live,
        Ok(None) => return Live::Absent,
        Err(problem) => return Live::Unknown(problem.to_string()),
    };
    match copy(vault, prefix, name).await {
        Ok(Some(copy)) => Live::Compared(differing(&live.data, &copy)),
        // That the copy is gone is told as that.
        Ok(None) => Live::Present,
        Err(problem) => Live::Unknown(problem.to_string()),
    }
}

/// What Vault holds of a Secret now.
async fn copy(vault: &InVault, prefix: &str, name: &SecretName) -> Result<Fields, VaultError> {
    let key = KeyPath::secret(prefix, name)?;
    Ok(match vault.vault.read(&key).await? {
        Reading::Present(present) => Some(present.fields),
        Reading::Absent | Reading::Deleted => None,
    })
}

impl Run<'_> {
    /// The live Secrets of the list; `None` for a folder, which has none.
    pub(super) async fn live(
        &self,
        listed: &[ListedDocument],
        copies: &BTreeSet<SecretName>,
    ) -> Option<BTreeMap<SecretName, Live>> {
        match self.keeper {
            Keeper::Folder(_) => None,
            Keeper::Cluster(connected) => {
                Some(live(&connected.target, self.vault, &self.site.vault.place.prefix, listed, copies).await)
            }
        }
    }

    /// What Vault holds of a Secret now.
    pub(super) async fn copy(&self, name: &SecretName) -> Result<Fields, VaultError> {
        copy(self.vault, &self.site.vault.place.prefix, name).await
    }
}

/// One that Vault keeps no copy of.
async fn there(target: &Cluster, name: &SecretName) -> Live {
    match in_cluster::exists(target, name).await {
        Ok(true) => Live::Present,
        Ok(false) => Live::Absent,
        Err(problem) => Live::Unknown(problem.to_string()),
    }
}
