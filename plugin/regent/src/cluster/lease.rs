//! Who of several replicas writes: the holder of a `Lease`, as Kubernetes' own controllers have it.
//!
//! What is written is a function of what everybody reads, so two that write at once do no harm; the lease keeps a replica
//! that is behind from writing an older state over a newer one. Times in the object are another machine's: what counts is
//! how long the record did not change while *this* process looked.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::{Cluster, ClusterError};

/// How long a holder that is not heard of keeps the lease.
const DURATION: Duration = Duration::from_secs(15);
/// How long a holder that cannot renew it goes on: it stops before another one begins.
const RENEWED_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks, and two renewals.
const PAUSE: Duration = Duration::from_secs(3);

/// Takes part for one process.
pub(crate) struct Candidate {
    path: String,
    name: String,
    namespace: String,
    /// This process.
    identity: String,
    seen: Option<Seen>,
    renewed: Option<Instant>,
}

/// A record, and since when it has been the same.
struct Seen {
    holder: String,
    renewals: String,
    since: Instant,
}

/// What to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// There is none.
    Create,
    /// It is ours.
    Renew,
    /// Its holder was not heard of for too long, or gave it back.
    Take,
    /// Somebody else has it.
    Wait,
}

fn step(holder: Option<&str>, silent: Duration, identity: &str) -> Step {
    match holder {
        None => Step::Create,
        Some(holder) if holder == identity => Step::Renew,
        Some(holder) if holder.is_empty() || silent >= DURATION => Step::Take,
        Some(_) => Step::Wait,
    }
}

impl Candidate {
    /// For the lease of this name. `identity` is nobody else's while this process runs; one that is the same after a restart
    /// need not wait for its own lease to run out.
    pub(crate) fn new(namespace: &str, name: &str, identity: String) -> Self {
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}");
        Self { path, name: name.to_owned(), namespace: namespace.to_owned(), identity, seen: None, renewed: None }
    }

    /// Takes part until `ending` is done, and then gives the lease back: nobody waits for its end. `leads` tells whether this
    /// process may write; `connect` gives the cluster of that moment.
    pub(crate) async fn run<C, F>(mut self, connect: C, leads: watch::Sender<bool>, ending: impl Future<Output = ()>)
    where
        C: Fn() -> F,
        F: Future<Output = Option<Cluster>>,
    {
        let mut ending = std::pin::pin!(ending);
        let mut told = None;
        loop {
            self.round(&connect, &leads, &mut told).await;
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = &mut ending => break,
            }
        }
        if leads.send_replace(false)
            && let Some(cluster) = connect().await
        {
            // Whoever waits takes it over a little later, too.
            drop(self.give_back(&cluster).await);
        }
    }

    async fn round<C, F>(&mut self, connect: &C, leads: &watch::Sender<bool>, told: &mut Option<String>)
    where
        C: Fn() -> F,
        F: Future<Output = Option<Cluster>>,
    {
        let outcome = match connect().await {
            Some(cluster) => self.look(&cluster).await,
            None => Ok(()),
        };
        if let Err(problem) = &outcome {
            let problem = problem.to_string();
            if told.as_ref() != Some(&problem) {
                tracing::warn!(lease = self.name, problem, "the lease of those who write cannot be had");
            }
            *told = Some(problem);
        } else {
            *told = None;
        }
        let leading = self.renewed.is_some_and(|renewed| renewed.elapsed() < RENEWED_WITHIN);
        leads.send_if_modified(|leads| {
            let changed = *leads != leading;
            if changed {
                tracing::info!(lease = self.name, identity = self.identity, leading, "who writes was settled");
            }
            *leads = leading;
            changed
        });
    }

    /// Leaves the lease to nobody, unless somebody else has it by now.
    async fn give_back(&self, cluster: &Cluster) -> Result<(), ClusterError> {
        let Some(lease) = cluster.get(&self.path).await? else { return Ok(()) };
        if lease["spec"]["holderIdentity"] == self.identity.as_str() {
            let version = &lease["metadata"]["resourceVersion"];
            let change = json!({ "metadata": { "resourceVersion": version }, "spec": { "holderIdentity": "" } });
            cluster.merge(&self.path, &change).await?;
            tracing::info!(lease = self.name, identity = self.identity, "the lease was given back");
        }
        Ok(())
    }

    /// Looks once, and takes or renews the lease where it may.
    async fn look(&mut self, cluster: &Cluster) -> Result<(), ClusterError> {
        let lease = cluster.get(&self.path).await?;
        let holder =
            lease.as_ref().map(|lease| lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned());
        let renewals = lease.as_ref().map(|lease| lease["spec"]["renewTime"].to_string()).unwrap_or_default();
        let now = Instant::now();
        let is_same = |seen: &Seen| Some(&seen.holder) == holder.as_ref() && seen.renewals == renewals;
        let since = self.seen.as_ref().filter(|seen| is_same(seen)).map_or(now, |seen| seen.since);
        self.seen = holder.clone().map(|holder| Seen { holder, renewals, since });
        match step(holder.as_deref(), now - since, &self.identity) {
            Step::Wait => self.renewed = None,
            Step::Create => {
                let metadata = json!({ "name": self.name, "namespace": self.namespace });
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": self.spec(0, true),
                });
                // Two that make it at once both succeed, and the next look tells them apart: rights can limit a creation to one
                // name where it is an apply.
                self.took(cluster.apply(&self.path, &lease, false, false).await, now)?;
            }
            taken @ (Step::Renew | Step::Take) => {
                let lease = lease.unwrap_or_default();
                let transitions = lease["spec"]["leaseTransitions"].as_u64().unwrap_or_default();
                let spec = self.spec(transitions + u64::from(taken == Step::Take), taken == Step::Take);
                // Whoever was quicker changed the version.
                let version = &lease["metadata"]["resourceVersion"];
                let change = json!({ "metadata": { "resourceVersion": version }, "spec": spec });
                self.took(cluster.merge(&self.path, &change).await, now)?;
            }
        }
        Ok(())
    }

    /// What came of writing it: somebody who was quicker is no trouble.
    fn took(&mut self, written: Result<Value, ClusterError>, began: Instant) -> Result<(), ClusterError> {
        match written {
            Ok(_) => self.renewed = Some(began),
            Err(ClusterError::Conflict(_)) => self.renewed = None,
            Err(problem) => return Err(problem),
        }
        Ok(())
    }

    fn spec(&self, transitions: u64, is_taken: bool) -> Value {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let mut spec = json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": DURATION.as_secs(),
            "renewTime": now,
            "leaseTransitions": transitions,
        });
        if is_taken {
            spec["acquireTime"] = json!(now);
        }
        spec
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_from_nobody_who_was_heard_of() {
        let after = |seconds| Duration::from_secs(seconds);
        assert_eq!(step(None, after(0), "me"), Step::Create);
        assert_eq!(step(Some("me"), after(3600), "me"), Step::Renew);
        assert_eq!(step(Some("other"), after(14), "me"), Step::Wait);
        assert_eq!(step(Some("other"), after(15), "me"), Step::Take);
        assert_eq!(step(Some(""), after(0), "me"), Step::Take);
    }

    #[test]
    fn who_cannot_renew_stops_before_another_begins() {
        assert!(RENEWED_WITHIN + PAUSE < DURATION);
    }
}
