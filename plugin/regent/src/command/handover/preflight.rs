//! What would stand in the way once Vault rules, as Argo CD and the live Secrets are now. A problem stops the handover
//! before the record; what somebody else has to do is noted.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use regent_core::bootstrap::After;
use regent_core::evidence::ListedDocument;
use regent_core::handover::plan::Plan;
use regent_core::live::{Guard, LiveSecret};
use regent_core::name::{AuthorityName, SecretName};
use regent_core::settle::{Application, ApplicationName, Destination, Scope, affected};
use serde_json::Value;

use super::super::root::{Connected, Root};
use super::clock::difference;
use crate::caches;
use crate::cli::{ProofArg, SettleArgs};
use crate::cluster::secrets::secrets_path;
use crate::cluster::{Cluster, ClusterError, applications, discovery};
use crate::failure::Failure;
use crate::output;

/// Clocks that differ by more are named, in seconds: tokens, and the hour after which caches are empty, depend on them.
const CLOCKS_DIFFER: i64 = 60;

/// The API server's clock, by when it would have made an object.
pub(super) fn compare_clocks(cluster: &Cluster, as_if: &Value) {
    let made = as_if["metadata"]["creationTimestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let Some(made) = made else { return };
    let now = Timestamp::now().as_second();
    if let Some(told) = difference(cluster.name(), made.as_second(), now, CLOCKS_DIFFER) {
        output::note(told);
    }
}

/// Everything in Argo CD that could not be settled.
pub(super) async fn of_argocd(
    connected: &Connected,
    root: &Root,
    args: &SettleArgs,
    listed: &[ListedDocument],
) -> Result<Vec<String>, Failure> {
    let cluster = &connected.witnesses;
    let all = match applications::if_served(cluster).await {
        Ok(Some(all)) => all,
        Ok(None) => return Ok(Vec::new()),
        Err(problem) => {
            return Ok(vec![format!(
                "Argo CD's Applications cannot be looked at: {problem} (`regent init --complete` lets the account)"
            )]);
        }
    };
    let argocd = root.config.as_ref().map(|config| config.argocd.clone()).unwrap_or_default();
    let plugin = argocd.plugin();
    let parsed: Vec<Application> = all.iter().map(applications::parsed).collect();
    let repositories = root.repositories()?;
    let scope = Scope { plugin: &plugin, repositories: &repositories, root: root.gathered.root.as_deref(), listed };
    let mut found = affected(&parsed, &scope);
    found.retain(|application| !args.skipped.contains(&application.name));
    let mut problems = Vec::new();

    let rules = root.config.iter().flat_map(|config| &config.rules);
    let projects: Vec<&str> = rules.filter_map(|rule| rule.project.as_deref()).collect();
    let hydrating = applications::hydrating(&all, &plugin, &projects);
    if !hydrating.is_empty() {
        problems.push(format!("the source hydrator of {} would commit what is rendered to Git", listing(&hydrating)));
    }
    let is_cached = !found.is_empty();
    let destinations = destinations(&found);
    if destinations.len() > 1 {
        let each = destinations.iter().map(|(place, names)| format!("{} to {place}", listing(names)));
        let each: Vec<String> = each.collect();
        problems.push(format!("an authority has one cluster, and Applications deploy to several: {}", each.join(", ")));
    }
    let mut others = Vec::new();
    for application in found {
        match applications::may_refresh(cluster, &application.name).await {
            Ok(()) => {}
            Err(ClusterError::Forbidden(_) | ClusterError::Denied(_)) => others.push(application.name.clone()),
            Err(problem) => problems.push(format!("{} cannot be refreshed: {problem}", application.name)),
        }
    }
    if !others.is_empty() {
        output::note(format_args!(
            "this identity may not refresh {}: somebody who may has to, once Vault rules (`regent refresh`)",
            listing(&others)
        ));
    }
    match (&argocd.redis, &argocd.server) {
        (Some(redis), _) => {
            let reached = caches::reachable(&caches::Redis::new(redis)?).await;
            problems.extend(reached.err().map(|problem| format!("Argo CD's Redis {}: {problem}", redis.address)));
        }
        (None, Some(server)) => {
            let reached = caches::Server::new(server)?.reachable().await;
            problems.extend(reached.err().map(|problem| format!("argocd-server {}: {problem}", server.address)));
        }
        (None, None) if is_cached && !is_left(args) => problems.push(
            "the operator's file names neither `argocd.redis` nor `argocd.server`, so what Argo CD has cached stays for a day, and \
             only the lock keeps it from the Secrets: say so (`--caches-locked`)"
                .to_owned(),
        ),
        (None, None) => {}
    }
    Ok(problems)
}

/// Whether a person said what becomes of Argo CD's caches.
fn is_left(args: &SettleArgs) -> bool {
    args.caches_locked || args.caches_expired || args.without.contains(&ProofArg::Caches)
}

/// The operator that delivers once the handover is settled is there, as far as its kind goes.
pub(super) async fn of_operator(target: &Cluster, after: Option<&After>) -> Option<String> {
    let (api_version, kind) = after?.delivered_as()?;
    match discovery::serves(target, api_version, kind).await {
        Ok(true) => None,
        Ok(false) => Some(format!(
            "`after` in regent.yaml has Secrets delivered by a {kind} of {api_version}, which {} does not serve: install the \
             operator first",
            target.name()
        )),
        Err(problem) => {
            Some(format!("whether {} serves {kind} of {api_version} is not known: {problem}", target.name()))
        }
    }
}

/// Live Secrets that a controller would prune or delete: those that get guards, where the person says so, and problems. One
/// that cannot be looked at is a problem too.
pub(super) async fn of_secrets(target: &Cluster, args: &SettleArgs, plan: &Plan) -> (Vec<SecretName>, Vec<String>) {
    let (mut unguarded, mut unseen, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    let names: BTreeSet<&SecretName> =
        plan.entries.iter().filter(|entry| entry.kind == "Secret").map(|entry| &entry.name).collect();
    for name in names {
        let live = match target.get_metadata(&path_of(name)).await {
            Ok(Some(metadata)) => LiveSecret::of_metadata(&metadata),
            Ok(None) => continue,
            Err(ClusterError::Forbidden(_)) => {
                unseen.push(name.to_string());
                continue;
            }
            Err(problem) => {
                problems.push(format!("Secret {name} cannot be looked at: {problem}"));
                continue;
            }
        };
        let dropped = live.dropped_guards();
        if !dropped.is_empty() {
            problems.push(format!(
                "Secret {name} has {} from `kubectl` alone, and Flux drops that when it applies next (have it reconcile once \
                 more, and look again)",
                named(dropped.iter().copied())
            ));
            continue;
        }
        let missing = live.missing_guards(&plan.name);
        if missing.is_empty() {
            continue;
        }
        if args.apply_guards {
            unguarded.push(name.clone());
        } else {
            problems.push(format!("Secret {name} lacks {} (`--apply-guards`)", named(missing)));
        }
    }
    if !unseen.is_empty() {
        problems.push(format!(
            "whether these Secrets are guarded is not known, since this identity may not `get` them: {} (`--print-policy` prints \
             the roles)",
            unseen.join(", ")
        ));
    }
    (unguarded, problems)
}

/// Puts on each Secret the guards that it lacks now: since it was looked at a person has thought.
pub(super) async fn guard(target: &Cluster, authority: &AuthorityName, unguarded: &[SecretName]) -> Vec<String> {
    let mut problems = Vec::new();
    for name in unguarded {
        let path = path_of(name);
        let live = match target.get_metadata(&path).await {
            Ok(Some(metadata)) => LiveSecret::of_metadata(&metadata),
            Ok(None) => continue,
            Err(problem) => {
                problems.push(format!("Secret {name} cannot be looked at: {problem}"));
                continue;
            }
        };
        let missing = live.missing_guards(authority);
        if missing.is_empty() {
            continue;
        }
        match target.merge_secret_metadata(&path, &live.guarded(authority)).await {
            Ok(()) => output::note(format_args!("Secret {name} was guarded: {}", named(missing))),
            Err(problem) => problems.push(format!("Secret {name} cannot be guarded: {problem}")),
        }
    }
    problems
}

fn path_of(name: &SecretName) -> String {
    format!("{}/{}", secrets_path(name), name.name())
}

fn named(guards: impl IntoIterator<Item = Guard>) -> String {
    guards.into_iter().map(Guard::name).collect::<Vec<_>>().join(", ")
}

/// Where Applications deploy to, as far as the cluster goes.
fn destinations(applications: &[&Application]) -> BTreeMap<String, Vec<ApplicationName>> {
    let mut found: BTreeMap<String, Vec<ApplicationName>> = BTreeMap::new();
    for application in applications {
        found.entry(place(&application.destination)).or_default().push(application.name.clone());
    }
    found
}

/// A cluster by one name: the one that Argo CD runs in has two.
pub(in super::super) fn place(destination: &Destination) -> String {
    let Destination { server, cluster, .. } = destination;
    let named = if server.is_empty() { cluster } else { server };
    let is_own = matches!(named.trim_end_matches('/'), "in-cluster" | "https://kubernetes.default.svc");
    if is_own { "its own cluster".to_owned() } else { named.clone() }
}

fn listing(names: &[ApplicationName]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argocds_own_cluster_is_one_by_either_name_and_others_are_others() {
        let at = |server: &str, cluster: &str| {
            place(&Destination { server: server.to_owned(), cluster: cluster.to_owned(), namespace: String::new() })
        };
        let own = at("https://kubernetes.default.svc", "");
        assert_eq!(at("", "in-cluster"), own);
        assert_eq!(at("https://kubernetes.default.svc/", ""), own);
        assert_ne!(at("https://10.0.0.1", ""), own);
        assert_ne!(at("", "edge"), at("https://10.0.0.1", ""));
    }
}
