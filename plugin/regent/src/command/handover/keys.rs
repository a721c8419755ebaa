//! The Secrets with keys that front doors mount, beside Argo CD's repo-server and beside Flux' controllers, once the handover
//! is settled: front doors open nothing any more, so nobody needs them, unless another authority's rule has them too.

use std::collections::{BTreeMap, BTreeSet};

use regent_core::evidence::{Evidence, Holder};
use regent_core::name::{AuthorityName, Namespace};
use regent_core::retire::{InUse, Mount, Standing, Verdict, key, uses};
use serde_json::{Value, json};

use super::super::root::Root;
use super::mirror::Keeper;
use super::stop::{HandoverStop, stopped};
use crate::cli::ReportOutputArg;
use crate::cluster::doors::{self, KEYS};
use crate::cluster::{Cluster, ClusterError, kustomizations, witness};
use crate::failure::Failure;
use crate::output;

/// A Secret with keys that is there, and what becomes of it.
pub(in super::super) struct Key {
    pub(in super::super) namespace: Namespace,
    pub(in super::super) name: String,
    pub(in super::super) verdict: Verdict,
    /// Of the very object that was looked at.
    metadata: Value,
}

impl Key {
    /// As it is told.
    pub(in super::super) fn told(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// What the keys of one authority's doors are, and what may become of each. Those of others are left out.
pub(in super::super) async fn of_all_doors(
    cluster: &Cluster,
    namespaces: &[Namespace],
    authority: &AuthorityName,
    own: &Standing,
) -> Result<Vec<Key>, ClusterError> {
    let mut keys = Vec::new();
    for namespace in namespaces {
        keys.extend(of_doors(cluster, namespace, authority, own).await?);
    }
    Ok(keys)
}

async fn of_doors(
    cluster: &Cluster,
    namespace: &Namespace,
    authority: &AuthorityName,
    own: &Standing,
) -> Result<Vec<Key>, ClusterError> {
    let workloads = doors::workloads(cluster, namespace).await?;
    let rules = doors::rules(cluster, namespace, &workloads).await;
    let known = rules.as_deref().unwrap_or_default();
    let mut secrets = doors::key_secrets(&workloads, known);
    // kustomize-controller mounts nothing: it reads what a Kustomization of the namespace names.
    let decrypting = if secrets.is_empty() { None } else { kustomizations::if_served(cluster).await? };
    for one in decrypting.iter().flatten().filter(|one| one.name.namespace() == namespace) {
        for secret in secrets.iter_mut().filter(|secret| one.token_secret.as_ref() == Some(&secret.name)) {
            let container = format!("Kustomization {}", one.name);
            secret.mounts.push(Mount { container, path: String::new(), is_door: false });
        }
    }
    let named = |secret| known.iter().filter(move |rule| uses(rule, secret)).map(|rule| &rule.authority);
    let users: BTreeSet<&AuthorityName> = secrets.iter().flat_map(named).collect();
    let mut others = BTreeMap::new();
    for other in users.into_iter().filter(|other| *other != authority) {
        others.insert(other.clone(), standing(&witness::read(cluster, other, &[]).await));
    }
    let mut keys = Vec::new();
    for secret in secrets {
        let rules = rules.as_deref().map_err(String::as_str);
        let verdict = key(&secret, authority, own, rules, &others);
        let is_its = match &verdict {
            Verdict::NotIts => false,
            // By its name it is another's.
            Verdict::Keep(InUse::Unnamed) => secret.name == format!("{KEYS}{authority}"),
            Verdict::Remove | Verdict::Keep(_) => true,
        };
        if !is_its {
            continue;
        }
        // A volume may be optional.
        let Some(metadata) = cluster.get_metadata(&path_of(namespace, &secret.name)).await? else { continue };
        keys.push(Key { namespace: namespace.clone(), name: secret.name, verdict, metadata });
    }
    Ok(keys)
}

/// Whether the doors of an authority need keys, by its witnesses. One that is yet to begin will.
pub(in super::super) fn standing(evidence: &Evidence) -> Standing {
    match evidence.holder() {
        Holder::Vault { .. } if evidence.is_settled() => Standing::Settled,
        Holder::Vault { .. } | Holder::Git { .. } | Holder::None => Standing::NeedsKeys,
        Holder::Disagree(why) | Holder::Unreadable(why) => Standing::Unknown(why),
    }
}

/// `--retire-keys` of one run.
pub(super) struct RetireKeys<'a> {
    pub(super) keeper: &'a Keeper,
    pub(super) root: &'a Root,
    pub(super) output: ReportOutputArg,
}

impl RetireKeys<'_> {
    /// What would be removed, and what would not. Changes nothing.
    pub(super) async fn plan(&self) -> Result<(), Failure> {
        // It is asked what is so afterwards.
        let keys = self.look(&Standing::Settled).await?;
        let told = |key: &Key| match &key.verdict {
            Verdict::Keep(why) => format!("Secret {} would stay: {why}", key.told()),
            Verdict::Remove | Verdict::NotIts => {
                format!("Secret {} would be removed, once it is settled", key.told())
            }
        };
        let told: Vec<String> = keys.iter().map(told).collect();
        self.tell("keysPlanned", told)
    }

    /// Removes them, all or none. Nothing is removed before the witnesses say once more that it is settled.
    pub(super) async fn remove(&self) -> Result<(), Failure> {
        let cluster = self.cluster()?;
        let own = standing(&self.keeper.evidence(self.root).await?);
        let keys = self.look(&own).await?;
        let mut kept = Vec::new();
        for key in &keys {
            match &key.verdict {
                Verdict::Keep(why) => kept.push((key.told(), why.clone())),
                Verdict::Remove | Verdict::NotIts => {}
            }
        }
        if !kept.is_empty() {
            return Err(stopped(HandoverStop::KeysInUse(kept)));
        }
        let mut told = Vec::new();
        for key in &keys {
            let was_there = cluster.delete_secret(&path_of(&key.namespace, &key.name), &key.metadata).await;
            let was_there = was_there.map_err(|problem| cluster.failure(problem))?;
            told.extend(was_there.then(|| format!("Secret {} was removed", key.told())));
        }
        self.tell("keysRemoved", told)
    }

    async fn look(&self, own: &Standing) -> Result<Vec<Key>, Failure> {
        let cluster = self.cluster()?;
        let keys = of_all_doors(cluster, &[self.namespace()], &self.root.bootstrap.name, own).await;
        keys.map_err(|problem| cluster.failure(problem))
    }

    /// The rights of this account end there.
    fn namespace(&self) -> Namespace {
        doors::namespace_of(self.root.config.as_ref(), &self.root.bootstrap.name)
    }

    fn cluster(&self) -> Result<&Cluster, Failure> {
        match self.keeper {
            Keeper::Cluster(connected) => Ok(&connected.witnesses),
            // Refused before anything else.
            Keeper::Folder(_) => Err(Failure::Bug),
        }
    }

    fn tell(&self, what: &str, mut lines: Vec<String>) -> Result<(), Failure> {
        if lines.is_empty() {
            lines.push(format!("none is left that a door in the namespace {} mounts", self.namespace()));
        }
        output::text(&match self.output {
            ReportOutputArg::Human => lines.iter().flat_map(|line| ["keys       ", line, "\n"]).collect(),
            ReportOutputArg::Json => format!("{}\n", json!({ what: lines })),
        })
    }
}

fn path_of(namespace: &Namespace, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets/{name}")
}
