//! The cluster's side, or the embedded store's: who rules, and the two witnesses that mirror the record.

use std::path::PathBuf;

use regent_core::evidence::{AuthorityWitness, Clusters, Evidence, HandoverWitness};
use regent_core::handover::plan::Plan;
use regent_core::handover::record::{Marked, Record};
use regent_core::name::{Epoch, HandoverId};
use serde_json::{Value, json};

use super::super::refresh;
use super::super::root::{Connected, Root};
use super::planned;
use super::stop::{HandoverStop, stopped};
use crate::cluster::installation::{InForce, authority_object, lock_in_force, spec_of};
use crate::cluster::witness::{self, NAMESPACE, WITNESS_KEY, authority_path, witness_name, witness_path};
use crate::cluster::{Cluster, metadata};
use crate::failure::Failure;
use crate::local::{self, Writer};
use crate::witnesses::Store;

/// Where the witnesses are kept.
pub(super) enum Keeper {
    /// The embedded store.
    Folder(PathBuf),
    /// A cluster, and that of the Secrets.
    Cluster(Box<Connected>),
}

impl Keeper {
    pub(super) async fn of(root: &Root, target_context: Option<&String>) -> Result<Self, Failure> {
        match (&root.store, target_context) {
            (Store::Folder(folder), None) => Ok(Self::Folder(folder.clone())),
            (Store::Folder(_), Some(_)) => {
                Err(Failure::Usage("`--target-context` is for an authority in a cluster".to_owned()))
            }
            (Store::Cluster(_), context) => Ok(Self::Cluster(Box::new(root.connect(context).await?))),
        }
    }

    /// The clusters' uids; a folder has none.
    pub(super) fn clusters(&self) -> Option<&Clusters> {
        match self {
            Self::Folder(_) => None,
            Self::Cluster(connected) => Some(&connected.uids),
        }
    }

    /// Where Secrets are, in words.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Folder(folder) => format!("store {}", folder.display()),
            Self::Cluster(connected) if connected.is_hub() => {
                format!("{}, Secrets in {}", connected.witnesses.name(), connected.target.name())
            }
            Self::Cluster(connected) => connected.witnesses.name().to_owned(),
        }
    }

    pub(super) async fn evidence(&self, root: &Root) -> Result<Evidence, Failure> {
        let name = &root.bootstrap.name;
        match self {
            Self::Folder(folder) => local::read(folder, name),
            Self::Cluster(connected) => Ok(witness::read(&connected.witnesses, name, &[root.bootstrap.epoch]).await),
        }
    }

    /// Everything that the mirror will write, as a dry run of this very identity, and the lock that has to hold from then
    /// on. Every problem is named at once.
    pub(super) async fn preflight(&self, root: &Root, plan: &Plan) -> Result<(), Failure> {
        let Self::Cluster(connected) = self else { return Ok(()) };
        let (handover, authority) = marked_for_a_try(plan)?.witnesses();
        let mut problems = Vec::new();
        let cluster = &connected.witnesses;
        let dry = [write_handover(cluster, &handover, true).await, write_authority(cluster, &authority, true).await];
        problems.extend(dry.into_iter().filter_map(Result::err).map(|failure| failure.to_string()));
        if connected.is_hub()
            && let Err(failure) = write_authority(&connected.target, &authority, true).await
        {
            problems.push(failure.to_string());
        }
        let lock = lock_in_force(&connected.target, &root.bootstrap.name).await;
        let in_force = match lock.in_force {
            InForce::Yes => None,
            InForce::Missing => Some("is not there (`regent init --complete`)".to_owned()),
            InForce::Differs => Some("is not the one that regent makes (`regent init --complete`)".to_owned()),
            InForce::Toothless => Some("denies nothing: its binding was changed".to_owned()),
            InForce::Unknown(why) => Some(format!("cannot be looked at: {why}")),
        };
        problems.extend(in_force.map(|why| format!("the lock {} {why}", lock.name)));
        if problems.is_empty() { Ok(()) } else { Err(stopped(HandoverStop::Preflight(problems))) }
    }

    /// Writes what the record says: the handover witness, then the Authority, and its copy where the Secrets are. Written
    /// again they say the same.
    pub(super) async fn mirror(&self, marked: &Marked) -> Result<(), Failure> {
        let (handover, authority) = marked.witnesses();
        match self {
            Self::Folder(folder) => {
                let writer = Writer::open(folder)?;
                writer.put_handover(&handover)?;
                writer.put(&authority)
            }
            Self::Cluster(connected) => {
                write_handover(&connected.witnesses, &handover, false).await?;
                write_authority(&connected.witnesses, &authority, false).await?;
                if connected.is_hub() { write_authority(&connected.target, &authority, false).await } else { Ok(()) }
            }
        }
    }

    /// Whether the copy of the Authority in the cluster of the Secrets, of which the lock there asks, is the same.
    pub(super) async fn is_copied(&self, marked: &Marked) -> Result<bool, Failure> {
        let connected = match self {
            Self::Cluster(connected) if connected.is_hub() => connected,
            Self::Cluster(_) | Self::Folder(_) => return Ok(true),
        };
        let (target, (_, authority)) = (&connected.target, marked.witnesses());
        let live = target.get(&authority_path(&authority.name)).await.map_err(|problem| target.failure(problem))?;
        let spec = spec_of(&authority)?;
        Ok(live.is_some_and(|live| live["spec"] == spec))
    }

    /// What follows the mirror. A folder has no controllers, so nothing old can come back; in a cluster Argo CD is made to
    /// ask the plugin again, and is waited for.
    pub(super) async fn settle(&self, root: &Root, only_planned: bool) -> Result<(), Failure> {
        let Self::Cluster(connected) = self else { return Ok(()) };
        if self.evidence(root).await?.is_settled() {
            return Ok(());
        }
        if !only_planned {
            refresh::after_a_move(&connected.witnesses, root.config.as_ref()).await;
        }
        Err(stopped(HandoverStop::NotSettled(
            "Argo CD may still hold manifests with values; the lock keeps them from the Secrets. Do not rotate yet"
                .to_owned(),
        )))
    }
}

/// A record that is like the one to come, for dry runs.
fn marked_for_a_try(plan: &Plan) -> Result<Marked, Failure> {
    let handover = HandoverId::parse(&uuid::Uuid::new_v4().to_string()).map_err(|_| Failure::Bug)?;
    let created_time = "1970-01-01T00:00:00Z".to_owned();
    let copied = plan.entries.iter().filter(|entry| entry.path.is_some());
    let keys = copied.map(|entry| (entry.name.clone(), (1, created_time.clone()))).collect();
    let record: Record = plan.record(handover, &keys).map_err(planned)?;
    Ok(Marked { record, version: 1, created_time })
}

async fn write_handover(cluster: &Cluster, witness: &HandoverWitness, dry: bool) -> Result<(), Failure> {
    let object = handover_object(witness);
    let path = witness_path(&witness.name, witness.epoch);
    cluster.apply(&path, &object, false, dry).await.map(drop).map_err(|problem| cluster.failure(problem))
}

async fn write_authority(cluster: &Cluster, witness: &AuthorityWitness, dry: bool) -> Result<(), Failure> {
    let object = authority_object(&witness.name, &spec_of(witness)?);
    let path = authority_path(&witness.name);
    // `init` wrote it by another identity and the same manager.
    cluster.apply(&path, &object, true, dry).await.map(drop).map_err(|problem| cluster.failure(problem))
}

/// The handover witness as an object, immutable from the start.
fn handover_object(witness: &HandoverWitness) -> Value {
    let epoch: Epoch = witness.epoch;
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(&witness_name(&witness.name, epoch), Some(NAMESPACE)),
        "immutable": true,
        "data": { WITNESS_KEY: witness.to_json() },
    })
}
