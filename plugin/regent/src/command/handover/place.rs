//! Where Vault is asked, before anything is sent to it; and what is noted once a person said that it moved.
//!
//! ```text
//! K              regent.yaml and the witnesses name   then
//! none           (there is none)                      regent.yaml's: without a record nothing is done there
//! any            one place                            that
//! git            two                                  nothing: `regent init --move` is for that
//! vault          two, of two prefixes                 nothing: nobody moves the copies
//! vault          two, otherwise                       a person says `--accept-vault-identity`: regent.yaml's; else nothing
//! ```
//! A Vault that somebody else built can serve a copy of the record, so nothing that it answers vouches for it. A person does,
//! who names a commit and says so; the record there has to be the handover's all the same. What was accepted stands in the
//! Authority's status, which the handover's account alone writes: from then on every command asks there, and none at the old
//! address, which may be somebody else's by now.

use regent_core::Refusal;
use regent_core::authority::AuthorityRefusal;
use regent_core::bootstrap::VaultPlace;
use regent_core::evidence::{Evidence, Holder, Reading, WitnessedVault};
use regent_core::handover::decide::{OtherVault, Stop};
use regent_core::handover::record::Marked;
use regent_core::name::{AuthorityName, Epoch};

use super::super::root::Root;
use super::mirror::Keeper;
use super::stop::{HandoverStop, stopped};
use crate::cluster::authority::{AuthorityStatus, Rebound};
use crate::cluster::witness;
use crate::failure::Failure;
use crate::local::Writer;

/// Where Vault is asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Where the witnesses say, and `regent.yaml` too; or there certainly are none.
    Recorded(WitnessedVault),
    /// Where `regent.yaml` says, as a person accepted.
    Moved(WitnessedVault),
}

impl At {
    pub(super) fn place(&self) -> &WitnessedVault {
        match self {
            Self::Recorded(place) | Self::Moved(place) => place,
        }
    }
}

/// For a command that accepts nothing.
pub(in super::super) fn place_of(root: &Root, evidence: &Evidence) -> Result<WitnessedVault, Failure> {
    match at(written(root).as_ref(), evidence, OtherVault::Refused)? {
        At::Recorded(place) | At::Moved(place) => Ok(place),
    }
}

/// The place that `regent.yaml` names.
pub(super) fn written(root: &Root) -> Option<WitnessedVault> {
    let VaultPlace { address, namespace, mount, prefix } = root.bootstrap.vault.clone()?;
    Some(WitnessedVault { address, namespace, mount, prefix })
}

pub(super) fn at(
    written: Option<&WitnessedVault>,
    evidence: &Evidence,
    other_vault: OtherVault,
) -> Result<At, Failure> {
    let unreadable = |why: String| Failure::from(Refusal::from(AuthorityRefusal::Unreadable { why }));
    let holder = evidence.holder();
    match &holder {
        Holder::None | Holder::Git { .. } | Holder::Vault { .. } => {}
        Holder::Disagree(why) => return Err(Refusal::from(AuthorityRefusal::Disagree { why: why.clone() }).into()),
        Holder::Unreadable(why) => return Err(unreadable(why.clone())),
    }
    let written = written.cloned().ok_or_else(|| stopped(HandoverStop::NoPlace))?;
    let recorded = match evidence.place() {
        Reading::Present(recorded) if recorded == written => return Ok(At::Recorded(written)),
        Reading::Present(recorded) => Some(recorded),
        Reading::Absent => None,
        Reading::Unreadable(why) => return Err(unreadable(why)),
    };
    match (holder, recorded, other_vault) {
        (Holder::None, _, _) => Ok(At::Recorded(written)),
        (Holder::Vault { .. }, None, _) => Err(unreadable("no witness names a place in Vault".to_owned())),
        (Holder::Vault { .. }, Some(recorded), _) if recorded.prefix != written.prefix => {
            let stop = Stop::OtherPrefix { recorded: recorded.prefix, found: written.prefix };
            Err(stopped(HandoverStop::Decided(stop)))
        }
        (Holder::Vault { .. }, Some(_), OtherVault::Accepted) => Ok(At::Moved(written)),
        (Holder::Vault { .. }, Some(recorded), OtherVault::Refused) => {
            Err(stopped(HandoverStop::Moved { recorded, written }))
        }
        (Holder::Git { .. } | Holder::Disagree(_) | Holder::Unreadable(_), recorded, _) => {
            Err(stopped(HandoverStop::OtherPlace { recorded, written }))
        }
    }
}

/// Whether this identity may note it, before anything is sent to Vault: a dry run of an entry of an epoch that never was.
/// Where the Authority is missing there is nothing to try, and the mirror makes it first.
pub(super) async fn try_to_note(keeper: &Keeper, evidence: &Evidence) -> Result<(), Failure> {
    let (Keeper::Cluster(connected), Reading::Present(authority)) = (keeper, &evidence.authority) else {
        return Ok(());
    };
    let cluster = &connected.witnesses;
    let tried = witness::try_status(cluster, &authority.name, |status| {
        let a_try = Rebound {
            handover_id: "00000000-0000-4000-8000-000000000000".to_owned(),
            vault_address: "https://vault.invalid".to_owned(),
            vault_namespace: String::new(),
            mount: "secret".to_owned(),
        };
        status.rebound.insert("0-0".to_owned(), a_try);
    });
    tried.await.map_err(|problem| cluster.failure(problem))
}

/// Notes it, after the last place of the epoch; what is noted already stays as it is.
pub(super) async fn note(keeper: &Keeper, marked: &Marked, place: &WitnessedVault) -> Result<(), Failure> {
    let record = &marked.record;
    let entry = Rebound {
        handover_id: record.handover.to_string(),
        vault_address: place.address.clone(),
        vault_namespace: place.namespace.clone(),
        mount: place.mount.clone(),
    };
    let add = |status: &mut AuthorityStatus| {
        let last = last(status, record.epoch);
        if last.is_none_or(|(_, last)| *last != entry) {
            let number = last.map_or(1, |(number, _)| number + 1);
            status.rebound.insert(format!("{}-{number}", record.epoch), entry.clone());
        }
    };
    change(keeper, &record.name, add).await
}

/// The place that counts of an epoch.
fn last(status: &AuthorityStatus, epoch: Epoch) -> Option<(u32, &Rebound)> {
    let of_epoch = format!("{epoch}-");
    let numbered = status.rebound.iter().filter_map(|(key, entry)| {
        let number = key.strip_prefix(&of_epoch)?.parse().ok()?;
        Some((number, entry))
    });
    numbered.max_by_key(|(number, _)| *number)
}

async fn change(keeper: &Keeper, name: &AuthorityName, change: impl Fn(&mut AuthorityStatus)) -> Result<(), Failure> {
    match keeper {
        Keeper::Folder(folder) => Writer::open(folder)?.change_status(name, change),
        Keeper::Cluster(connected) => {
            let cluster = &connected.witnesses;
            witness::change_status(cluster, name, change).await.map_err(|problem| cluster.failure(problem))
        }
    }
}

#[cfg(test)]
mod tests;
