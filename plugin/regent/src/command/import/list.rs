//! The documents that were imported: entries beside the record in Vault, and their mirror in the Authority's status.

use std::collections::BTreeMap;

use regent_core::evidence::{ListedClass, ListedDocument};
use regent_core::handover::record::Record;
use regent_core::import::{Imported, MAX_IMPORTED};
use regent_core::name::{AuthorityName, Epoch, FilePath, SecretName};

use super::super::handover::mirror::Keeper;
use super::super::handover::vault::{InVault, texts};
use super::super::handover::{HandoverStop, stopped};
use crate::cluster::authority::{self, AuthorityStatus};
use crate::cluster::witness;
use crate::failure::Failure;
use crate::local::{self, Writer};
use crate::vault::{KeyPath, Reading};

/// What the status lists.
pub(super) struct Noted {
    /// Of the epoch that was asked for, by number.
    pub(super) of_epoch: BTreeMap<u32, ListedDocument>,
    /// How many of other epochs.
    pub(super) of_others: usize,
}

/// Where the entry of this number is.
pub(super) fn key(vault: &InVault, record: &Record, number: u32) -> Result<KeyPath, Failure> {
    let key = KeyPath::record(&record.name, record.epoch).and_then(|path| path.below(&Imported::key(number)));
    key.map_err(|problem| vault.failed(problem))
}

/// The entries beside a record, from the first on.
pub(in crate::command) async fn in_vault(vault: &InVault, record: &Record) -> Result<Vec<ListedDocument>, Failure> {
    let mut found = Vec::new();
    for number in 1.. {
        let key = key(vault, record, number)?;
        let wrong = |why: &str| stopped(HandoverStop::Preflight(vec![format!("`{key}` {why}")]));
        match vault.vault.read(&key).await.map_err(|problem| vault.failed(problem))? {
            Reading::Absent => break,
            Reading::Present(_) | Reading::Deleted if found.len() == MAX_IMPORTED => {
                return Err(wrong(&format!("is one more than the {MAX_IMPORTED} documents that are imported at most")));
            }
            Reading::Deleted => return Err(wrong("was deleted in Vault")),
            Reading::Present(present) if present.version != 1 => return Err(wrong("was written again")),
            Reading::Present(present) => {
                let entry =
                    texts(present).and_then(|fields| Imported::from_fields(&record.name, record.epoch, &fields));
                let entry = entry.map_err(|why| wrong(&format!("is no entry: {why}")))?;
                if entry.handover != record.handover {
                    return Err(wrong("is another handover's"));
                }
                found.push(entry.document);
            }
        }
    }
    Ok(found)
}

/// What the status lists.
pub(super) async fn in_status(keeper: &Keeper, name: &AuthorityName, epoch: Epoch) -> Result<Noted, Failure> {
    let status = match keeper {
        Keeper::Folder(folder) => local::status(folder, name)?,
        Keeper::Cluster(connected) => {
            let cluster = &connected.witnesses;
            witness::status(cluster, name).await.map_err(|problem| cluster.failure(problem))?
        }
    };
    let all = status.imported.len();
    let mut of_epoch = BTreeMap::new();
    for (key, document) in status.imported {
        let Some(number) = key.strip_prefix(&format!("{epoch}-")) else { continue };
        let wrong =
            || stopped(HandoverStop::Preflight(vec![format!("`status.imported` has an entry {key} that is none")]));
        of_epoch.insert(number.parse().map_err(|_| wrong())?, listed(&document).ok_or_else(wrong)?);
    }
    let of_others = all - of_epoch.len();
    Ok(Noted { of_epoch, of_others })
}

/// Adds entries to the status. What is there stays.
pub(in crate::command) async fn mirror(
    keeper: &Keeper,
    name: &AuthorityName,
    epoch: Epoch,
    missing: &BTreeMap<u32, ListedDocument>,
) -> Result<(), Failure> {
    let add = |status: &mut AuthorityStatus| {
        for (number, document) in missing {
            status.imported.entry(format!("{epoch}-{number}")).or_insert_with(|| noted(document));
        }
    };
    match keeper {
        Keeper::Folder(folder) => Writer::open(folder)?.change_status(name, add),
        Keeper::Cluster(connected) => {
            let cluster = &connected.witnesses;
            witness::change_status(cluster, name, add).await.map_err(|problem| cluster.failure(problem))
        }
    }
}

/// Whether this identity may do that, before anything is sent to Vault: a dry run of an entry of an epoch that never was.
pub(super) async fn try_to_mirror(keeper: &Keeper, name: &AuthorityName) -> Result<(), Failure> {
    let Keeper::Cluster(connected) = keeper else { return Ok(()) };
    let cluster = &connected.witnesses;
    let tried = witness::try_status(cluster, name, |status| {
        status.imported.insert("0-0".to_owned(), a_try());
    });
    tried.await.map_err(|problem| cluster.failure(problem))
}

fn a_try() -> authority::Imported {
    let text = |text: &str| text.to_owned();
    authority::Imported {
        path: text("a-try"),
        name: text("a/try"),
        kind: text("Secret"),
        class: text("handover"),
        blob: "0".repeat(40),
    }
}

fn noted(document: &ListedDocument) -> authority::Imported {
    let class = match document.class {
        ListedClass::Handover => "handover",
        ListedClass::Permanent => "permanent",
    };
    authority::Imported {
        path: document.path.to_string(),
        name: document.name.to_string(),
        kind: document.kind.clone(),
        class: class.to_owned(),
        blob: document.blob.clone(),
    }
}

fn listed(noted: &authority::Imported) -> Option<ListedDocument> {
    let class = match noted.class.as_str() {
        "handover" => ListedClass::Handover,
        "permanent" => ListedClass::Permanent,
        _unknown => return None,
    };
    Some(ListedDocument {
        path: FilePath::parse(&noted.path).ok()?,
        name: SecretName::parse(&noted.name).ok()?,
        kind: noted.kind.clone(),
        class,
        blob: noted.blob.clone(),
    })
}
