//! The cluster's side, or the embedded store's: who rules, and the two witnesses that mirror the record.

use std::path::PathBuf;

use regent_core::evidence::{AuthorityWitness, Clusters, Evidence, HandoverWitness, ListedDocument};
use regent_core::handover::plan::Plan;
use regent_core::handover::record::{Marked, Record};
use regent_core::name::{AuthorityName, Epoch, HandoverId, SecretName};
use regent_core::settle::{Application, Scope, affected};
use serde_json::{Value, json};

use super::super::root::{Connected, Root};
use super::freeze::{self, When};
use super::stop::{HandoverStop, stopped};
use super::{letting_go, planned, preflight};
use crate::cli::SettleArgs;
use crate::cluster::authority::{AuthorityStatus, Heartbeat, Noted};
use crate::cluster::installation::{InForce, authority_object, lock_in_force, spec_of};
use crate::cluster::witness::{self, NAMESPACE, WITNESS_KEY, authority_path, witness_name, witness_path};
use crate::cluster::{Cluster, applications, metadata};
use crate::failure::Failure;
use crate::local::{self, Writer};
use crate::witnesses::Store;

/// Where the witnesses are kept.
pub(in super::super) enum Keeper {
    /// The embedded store.
    Folder(PathBuf),
    /// A cluster, and that of the Secrets.
    Cluster(Box<Connected>),
}

impl Keeper {
    pub(in super::super) async fn of(root: &Root, target_context: Option<&String>) -> Result<Self, Failure> {
        Self::at(&root.store, target_context).await
    }

    /// The clusters' uids; a folder has none.
    pub(in super::super) fn clusters(&self) -> Option<&Clusters> {
        match self {
            Self::Folder(_) => None,
            Self::Cluster(connected) => Some(&connected.uids),
        }
    }

    /// Where Secrets are, in words.
    pub(in super::super) fn name(&self) -> String {
        match self {
            Self::Folder(folder) => format!("store {}", folder.display()),
            Self::Cluster(connected) if connected.is_hub() => {
                format!("{}, Secrets in {}", connected.witnesses.name(), connected.target.name())
            }
            Self::Cluster(connected) => connected.witnesses.name().to_owned(),
        }
    }

    /// For a command that has no root at hand.
    pub(in super::super) async fn at(store: &Store, target_context: Option<&String>) -> Result<Self, Failure> {
        match (store, target_context) {
            (Store::Folder(folder), None) => Ok(Self::Folder(folder.clone())),
            (Store::Folder(_), Some(_)) => {
                Err(Failure::Usage("`--target-context` is for an authority in a cluster".to_owned()))
            }
            (Store::Cluster(access), context) => Ok(Self::Cluster(Box::new(Connected::to(access, context).await?))),
        }
    }

    pub(in super::super) async fn evidence(&self, root: &Root) -> Result<Evidence, Failure> {
        self.witnesses(&root.bootstrap.name, &[root.bootstrap.epoch]).await
    }

    /// The witnesses around these epochs, beside those around the Authority's own.
    pub(in super::super) async fn witnesses(&self, name: &AuthorityName, near: &[Epoch]) -> Result<Evidence, Failure> {
        match self {
            Self::Folder(folder) => local::read(folder, name),
            Self::Cluster(connected) => Ok(witness::read(&connected.witnesses, name, near).await),
        }
    }

    /// What was seen of the authority.
    pub(in super::super) async fn status(&self, name: &AuthorityName) -> Result<AuthorityStatus, Failure> {
        match self {
            Self::Folder(folder) => local::status(folder, name),
            Self::Cluster(connected) => {
                let cluster = &connected.witnesses;
                witness::status(cluster, name).await.map_err(|problem| cluster.failure(problem))
            }
        }
    }

    /// Notes that Vault was seen at this heartbeat. One that is noted already and is later stays.
    pub(in super::super) async fn note(&self, name: &AuthorityName, heartbeat: Heartbeat) -> Result<(), Failure> {
        let change = |status: &mut AuthorityStatus| {
            if status.heartbeat.is_none_or(|noted| noted.count() <= heartbeat.count()) {
                status.heartbeat = Some(heartbeat);
            }
        };
        match self {
            Self::Folder(folder) => Writer::open(folder)?.change_status(name, change),
            Self::Cluster(connected) => {
                let cluster = &connected.witnesses;
                witness::change_status(cluster, name, change).await.map_err(|problem| cluster.failure(problem))
            }
        }
    }

    /// Everything that the mirror will write, as a dry run of this very identity, and the lock that has to hold from then
    /// on. Every problem is named at once. Gives the live Secrets that are to be guarded.
    pub(super) async fn preflight(
        &self,
        root: &Root,
        plan: &Plan,
        args: &SettleArgs,
    ) -> Result<Vec<SecretName>, Failure> {
        let Self::Cluster(connected) = self else { return Ok(Vec::new()) };
        let (handover, authority) = marked_for_a_try(plan)?.witnesses();
        let mut problems = Vec::new();
        let cluster = &connected.witnesses;
        match write_handover(cluster, &handover, true).await {
            Ok(as_if) => preflight::compare_clocks(cluster, &as_if),
            Err(failure) => problems.push(failure.to_string()),
        }
        let dry = write_authority(cluster, &authority, true).await;
        problems.extend(dry.err().map(|failure| failure.to_string()));
        if connected.is_hub()
            && let Err(failure) = write_authority(&connected.target, &authority, true).await
        {
            problems.push(failure.to_string());
        }
        // Before there is a handover nothing else of the status may be tried, and who may write this may write that.
        let tried = witness::try_status(cluster, &root.bootstrap.name, |status| {
            status.note(&Noted { what: "Ready", holds: false, reason: "Settling", message: "a dry run" });
        });
        problems.extend(tried.await.err().map(|problem| cluster.failure(problem).to_string()));
        let lock = lock_in_force(&connected.target, &root.bootstrap.name).await;
        let in_force = match lock.in_force {
            InForce::Yes => None,
            InForce::Missing => Some("is not there (`regent init --complete`)".to_owned()),
            InForce::Differs => Some("is not the one that regent makes (`regent init --complete`)".to_owned()),
            InForce::Toothless => Some("denies nothing: its binding was changed".to_owned()),
            InForce::Unknown(why) => Some(format!("cannot be looked at: {why}")),
        };
        problems.extend(in_force.map(|why| format!("the lock {} {why}", lock.name)));
        problems.extend(preflight::of_argocd(connected, root, args, &plan.documents()).await?);
        problems.extend(letting_go::preflight(connected, root, args, &plan.documents()).await?);
        problems.extend(preflight::of_operator(&connected.target, root.bootstrap.after.as_ref()).await);
        let (unguarded, of_secrets) = preflight::of_secrets(&connected.target, args, plan).await;
        problems.extend(of_secrets);
        if problems.is_empty() { Ok(unguarded) } else { Err(stopped(HandoverStop::Preflight(problems))) }
    }

    /// Guards live Secrets, as the person said who approved the plan.
    pub(super) async fn guard(&self, authority: &AuthorityName, unguarded: &[SecretName]) -> Result<(), Failure> {
        let Self::Cluster(connected) = self else { return Ok(()) };
        let problems = preflight::guard(&connected.target, authority, unguarded).await;
        if problems.is_empty() { Ok(()) } else { Err(stopped(HandoverStop::Preflight(problems))) }
    }

    /// Whether what the controllers applied is what is handed over. A folder has none.
    pub(super) async fn stands_still(&self, root: &Root, handed_over: &[ListedDocument]) -> Result<(), Failure> {
        let Self::Cluster(connected) = self else { return Ok(()) };
        let cluster = &connected.witnesses;
        let all = applications::all(cluster).await.map_err(|problem| cluster.failure(problem))?;
        let all: Vec<Application> = all.iter().map(applications::parsed).collect();
        let plugin = root.config.as_ref().map(|config| config.argocd.clone()).unwrap_or_default().plugin();
        let repositories = root.repositories()?;
        let scope = Scope {
            plugin: &plugin,
            repositories: &repositories,
            root: root.gathered.root.as_deref(),
            listed: handed_over,
        };
        freeze::check(root, &affected(&all, &scope), &scope, &[], When::Recording)?;
        letting_go::stands_still(cluster, root, handed_over).await
    }

    /// Writes what the record says: the handover witness, then the Authority, and its copy where the Secrets are. Written
    /// again they say the same.
    pub(in super::super) async fn mirror(&self, marked: &Marked) -> Result<(), Failure> {
        let (handover, authority) = marked.witnesses();
        match self {
            Self::Folder(folder) => {
                let writer = Writer::open(folder)?;
                writer.put_handover(&handover)?;
                writer.put(&authority)
            }
            Self::Cluster(connected) => {
                drop(write_handover(&connected.witnesses, &handover, false).await?);
                write_authority(&connected.witnesses, &authority, false).await?;
                let copy = copied(&authority, &connected.uids);
                if connected.is_hub() { write_authority(&connected.target, &copy, false).await } else { Ok(()) }
            }
        }
    }

    /// Whether the copy of the Authority in the cluster of the Secrets, of which the lock there asks, is the same.
    pub(in super::super) async fn is_copied(&self, marked: &Marked) -> Result<bool, Failure> {
        let connected = match self {
            Self::Cluster(connected) if connected.is_hub() => connected,
            Self::Cluster(_) | Self::Folder(_) => return Ok(true),
        };
        let (target, (_, authority)) = (&connected.target, marked.witnesses());
        let live = target.get(&authority_path(&authority.name)).await.map_err(|problem| target.failure(problem))?;
        let spec = spec_of(&copied(&authority, &connected.uids))?;
        Ok(live.is_some_and(|live| live["spec"] == spec))
    }
}

/// The Authority as it stands beside the Secrets: of the cluster that they are in. A target that was rebuilt is another one
/// than the hub's Authority names, which is final.
fn copied(authority: &AuthorityWitness, here: &Clusters) -> AuthorityWitness {
    AuthorityWitness { clusters: Some(here.clone()), ..authority.clone() }
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

async fn write_handover(cluster: &Cluster, witness: &HandoverWitness, dry: bool) -> Result<Value, Failure> {
    let object = handover_object(witness);
    let path = witness_path(&witness.name, witness.epoch);
    cluster.apply(&path, &object, false, dry).await.map_err(|problem| cluster.failure(problem))
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
