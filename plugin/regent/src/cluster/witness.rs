//! Witnesses in a cluster: the `Authority`, and one immutable ConfigMap for each handover.
//!
//! ```text
//! check A --+                 +-- read 1 answers A
//! check B ----+  (read 1 is   |
//! check C -----+  under way)  +-- read 2, sent after B and C began, answers both
//! ```
//! A check is answered by a read that was sent after it began, so evidence is never older than the question; and an
//! authority is read at most once at a time, however many ask. So is the handover witness of one epoch alone, in a line of
//! its own. Nothing that was read is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use regent_core::evidence::{AuthorityWitness, Evidence, HandoverWitness, Reading};
use regent_core::name::{AuthorityName, Epoch};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::authority::AuthorityStatus;
use super::{Answer, Cluster, ClusterError};
use crate::telemetry::Metrics;

/// How long a check waits for the API server: with etcd gone the server itself would hold a request for a minute.
const PATIENCE: Duration = Duration::from_secs(3);

/// How much longer a check waits than a read, so that a read's own reason is told where there is one.
const MOMENT: Duration = Duration::from_millis(200);

/// Between two tries of a read whose connection failed; an API server that restarts takes a moment.
const PAUSE: Duration = Duration::from_millis(150);

/// The namespace of the handover witnesses: it cannot be deleted.
pub(crate) const NAMESPACE: &str = "kube-system";

/// Where the Authority of this name is.
pub(crate) fn authority_path(name: &AuthorityName) -> String {
    format!("/apis/regent.dev/v1alpha1/authorities/{name}")
}

/// The name of the handover witness of an epoch.
pub(crate) fn witness_name(name: &AuthorityName, epoch: Epoch) -> String {
    format!("regent-authority-{name}-{epoch}")
}

/// Where the handover witness of an epoch is.
pub(crate) fn witness_path(name: &AuthorityName, epoch: Epoch) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{}", witness_name(name, epoch))
}

/// The key of the witness in its ConfigMap.
pub(crate) const WITNESS_KEY: &str = "witness.json";

/// Evidence, and when it was asked for.
pub(crate) type Asked = (Arc<Evidence>, Instant);

/// Reads the witnesses of one authority, one read at a time.
pub(crate) struct Reader {
    cluster: Cluster,
    name: AuthorityName,
    /// By the epoch of `regent.yaml`, where it is known.
    all: Line<Option<Epoch>, Asked>,
    /// By epochs.
    handovers: Line<Epoch, Reading<HandoverWitness>>,
    /// The epoch that the last read found, so that the next asks for the right ConfigMaps at once.
    near: Mutex<Option<Epoch>>,
    metrics: Metrics,
}

/// Who waits for one kind of read, of which one is under way at a time.
struct Line<Question, Answer> {
    state: Mutex<Waiting<Question, Answer>>,
}

struct Waiting<Question, Answer> {
    /// Whether somebody is reading.
    busy: bool,
    asked: Vec<(Question, oneshot::Sender<Answer>)>,
}

impl<Question, Answer> Line<Question, Answer> {
    fn new() -> Self {
        Self { state: Mutex::new(Waiting { busy: false, asked: Vec::new() }) }
    }

    /// Where the answer comes, and whether nobody reads yet.
    fn join(&self, question: Question) -> (oneshot::Receiver<Answer>, bool) {
        let (answer, asked) = oneshot::channel();
        let mut state = self.state();
        state.asked.push((question, answer));
        (asked, !std::mem::replace(&mut state.busy, true))
    }

    /// Everybody who waits, for the next read; `None` where nobody does, and reading ends.
    fn next(&self) -> Option<Vec<(Question, oneshot::Sender<Answer>)>> {
        let mut state = self.state();
        state.busy = !state.asked.is_empty();
        state.busy.then(|| std::mem::take(&mut state.asked))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Waiting<Question, Answer>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    pub(crate) fn new(cluster: Cluster, name: AuthorityName, metrics: Metrics) -> Self {
        let (all, handovers) = (Line::new(), Line::new());
        Self { cluster, name, all, handovers, near: Mutex::default(), metrics }
    }

    /// What the witnesses say now. `bootstrap` is the epoch of `regent.yaml`, whose witnesses are asked for too, so
    /// that a lost Authority does not hide them.
    pub(crate) async fn check(self: &Arc<Self>, bootstrap: Option<Epoch>) -> Asked {
        let (asked, idle) = self.all.join(bootstrap);
        if idle {
            tokio::spawn(Arc::clone(self).read_all());
        }
        let unknown = |why: &str| (Arc::new(unreadable(why)), Instant::now());
        match tokio::time::timeout(PATIENCE + MOMENT, asked).await {
            Ok(Ok(asked)) => asked,
            Ok(Err(_)) => unknown("the read was given up"),
            // Another's read was under way for most of that time.
            Err(_) => unknown(&format!("Authority `{}`: no answer within {} s", self.name, PATIENCE.as_secs())),
        }
    }

    /// Reads as long as somebody waits.
    async fn read_all(self: Arc<Self>) {
        while let Some(checks) = self.all.next() {
            let asked = Instant::now();
            let epochs: Vec<Epoch> =
                checks.iter().filter_map(|(bootstrap, _)| *bootstrap).chain(*self.near()).collect();
            let (cluster, name) = (self.cluster.clone(), self.name.clone());
            // A task of its own: were it to panic, whoever waits would wait for ever.
            let read = tokio::spawn(async move { read(&cluster, &name, &epochs).await }).await;
            self.metrics.witnesses_read(asked.elapsed());
            let evidence = Arc::new(read.unwrap_or_else(|_| unreadable("the read met a case that it does not know")));
            if let Reading::Present(authority) = &evidence.authority {
                *self.near() = Some(authority.epoch);
            }
            for (_, answer) in checks {
                // Who asked may have gone away.
                drop(answer.send((Arc::clone(&evidence), asked)));
            }
        }
    }

    /// What the handover witness of one epoch says now.
    pub(crate) async fn handover(self: &Arc<Self>, epoch: Epoch) -> Reading<HandoverWitness> {
        let (asked, idle) = self.handovers.join(epoch);
        if idle {
            tokio::spawn(Arc::clone(self).read_handovers());
        }
        let unknown = || Reading::Unreadable(format!("ConfigMap {}: no answer", witness_name(&self.name, epoch)));
        match tokio::time::timeout(PATIENCE + MOMENT, asked).await {
            Ok(Ok(reading)) => reading,
            Ok(Err(_)) | Err(_) => unknown(),
        }
    }

    async fn read_handovers(self: Arc<Self>) {
        while let Some(asked) = self.handovers.next() {
            let epochs: BTreeSet<Epoch> = asked.iter().map(|(epoch, _)| *epoch).collect();
            let epochs: Vec<Epoch> = epochs.into_iter().collect();
            let (cluster, name) = (self.cluster.clone(), self.name.clone());
            // As above: a task of its own.
            let read = tokio::spawn(async move {
                let until = Instant::now() + PATIENCE;
                witnesses(&cluster, &name, &epochs, until).await
            });
            let found: BTreeMap<Epoch, _> = read.await.unwrap_or_default().into_iter().collect();
            for (epoch, answer) in asked {
                // Without one whoever asked is told that there is none.
                if let Some(reading) = found.get(&epoch) {
                    drop(answer.send(reading.clone()));
                }
            }
        }
    }

    fn near(&self) -> std::sync::MutexGuard<'_, Option<Epoch>> {
        self.near.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the witnesses once: the Authority and the handover witnesses that are probably the right ones at the same
/// time, then those that the Authority turned out to need. In any order of reads and writes the result is one that
/// held at some moment of the read, or says vault a moment early: a handover writes the ConfigMap first.
pub(crate) async fn read(cluster: &Cluster, name: &AuthorityName, near: &[Epoch]) -> Evidence {
    let until = Instant::now() + PATIENCE;
    let (path, mut handovers) = (authority_path(name), BTreeMap::new());
    let near = if near.is_empty() { &[Epoch::FIRST] } else { near };
    let first = around(near.iter().copied());
    let (authority, found) = tokio::join!(get(cluster, &path, until), witnesses(cluster, name, &first, until));
    handovers.extend(found);
    let (authority, status) = authority_of(name, authority);
    let wanted = Evidence::epochs_to_read(&authority, None);
    let more: Vec<Epoch> = wanted.into_iter().filter(|epoch| !handovers.contains_key(epoch)).collect();
    if !more.is_empty() {
        handovers.extend(witnesses(cluster, name, &more, until).await);
    }
    Evidence { authority, handovers, ..Evidence::none() }.with_status(status.as_deref())
}

/// What was seen of the authority; an error where there is none.
pub(crate) async fn status(cluster: &Cluster, name: &AuthorityName) -> Result<AuthorityStatus, ClusterError> {
    status_of(cluster, name).await.map(|(status, _)| status)
}

/// Changes what was seen of the authority; again from what is there then, where somebody else changed it meanwhile.
pub(crate) async fn change_status(
    cluster: &Cluster,
    name: &AuthorityName,
    change: impl Fn(&mut AuthorityStatus),
) -> Result<(), ClusterError> {
    let path = format!("{}/status", authority_path(name));
    for tries_left in (0..STATUS_TRIES).rev() {
        let (mut status, version) = status_of(cluster, name).await?;
        change(&mut status);
        // Merged, so that what a newer regent notes beside it stays.
        let changed = json!({ "metadata": { "resourceVersion": version }, "status": status });
        match cluster.merge(&path, &changed).await {
            Err(ClusterError::Conflict(_)) if tries_left > 0 => {}
            done => return done.map(drop),
        }
    }
    Ok(())
}

/// Whether this identity may change what was seen in this way. Nothing is changed.
pub(crate) async fn try_status(
    cluster: &Cluster,
    name: &AuthorityName,
    change: impl FnOnce(&mut AuthorityStatus),
) -> Result<(), ClusterError> {
    let (mut status, _) = status_of(cluster, name).await?;
    change(&mut status);
    cluster.may_merge(&format!("{}/status", authority_path(name)), &json!({ "status": status })).await.map(drop)
}

async fn status_of(cluster: &Cluster, name: &AuthorityName) -> Result<(AuthorityStatus, Value), ClusterError> {
    let absent = || ClusterError::Status { status: 404, message: format!("Authority `{name}` does not exist") };
    let mut object = cluster.get(&authority_path(name)).await?.ok_or_else(absent)?;
    let version = object["metadata"]["resourceVersion"].take();
    let status = object["status"].take();
    let unknown = |_| ClusterError::Status {
        status: 200,
        message: format!("Authority `{name}`: its status is not one that this regent reads"),
    };
    let status =
        if status.is_null() { AuthorityStatus::default() } else { serde_json::from_value(status).map_err(unknown)? };
    Ok((status, version))
}

/// How often a change of the status is tried; others change it about once in minutes.
const STATUS_TRIES: u8 = 5;

/// Nothing is known.
pub(crate) fn unreadable(why: &str) -> Evidence {
    Evidence { authority: Reading::Unreadable(why.to_owned()), ..Evidence::none() }
}

fn around(epochs: impl Iterator<Item = Epoch>) -> Vec<Epoch> {
    let neighbours = |epoch: Epoch| [epoch.previous(), Some(epoch), epoch.next()];
    let mut epochs: Vec<Epoch> = epochs.flat_map(neighbours).flatten().collect();
    epochs.sort_unstable();
    epochs.dedup();
    epochs
}

/// Reads one witness, again where the connection failed or the server asks for patience, until there is no time left.
async fn get(cluster: &Cluster, path: &str, until: Instant) -> Result<Option<Value>, ClusterError> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let error = match cluster.exchange(http::Method::GET, path, None, left).await {
            Ok(Answer::Object(object)) => return Ok(Some(object)),
            Ok(Answer::NotFound) => return Ok(None),
            Err(ClusterError::Late(_)) => return Err(ClusterError::Late(PATIENCE)),
            Err(error) => error,
        };
        let passes =
            matches!(error, ClusterError::Unreachable(_) | ClusterError::Status { status: 429 | 500..=599, .. });
        if !passes || Instant::now() + PAUSE >= until {
            return Err(error);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks for several at once, from one task: waking others costs as much as the API server's answer from memory would.
async fn witnesses(
    cluster: &Cluster,
    name: &AuthorityName,
    epochs: &[Epoch],
    until: Instant,
) -> Vec<(Epoch, Reading<HandoverWitness>)> {
    let one = async |epoch: Epoch| {
        let reading = get(cluster, &witness_path(name, epoch), until).await;
        (epoch, handover_of(name, epoch, reading))
    };
    join_all(epochs.iter().copied().map(one)).await
}

/// Why a witness cannot be read, short enough for the one line that Argo CD shows.
fn brief(error: &ClusterError) -> String {
    match error {
        ClusterError::Forbidden(_) | ClusterError::Denied(_) => "no right to read it (403)".to_owned(),
        ClusterError::NotServed(_) => "the API server does not serve it (404)".to_owned(),
        ClusterError::Unauthorized => "the token is not accepted (401)".to_owned(),
        ClusterError::Unreachable(_)
        | ClusterError::Late(_)
        | ClusterError::Conflict(_)
        | ClusterError::Status { .. } => error.to_string(),
    }
}

/// The Authority in an object, and its status as JSON.
fn authority_of(
    name: &AuthorityName,
    read: Result<Option<Value>, ClusterError>,
) -> (Reading<AuthorityWitness>, Option<Vec<u8>>) {
    match read {
        Ok(None) => (Reading::Absent, None),
        Ok(Some(object)) => {
            let spec = object["spec"].to_string();
            let status = object.get("status").map(|status| status.to_string().into_bytes());
            let reading = match AuthorityWitness::from_json(name, spec.as_bytes()) {
                Reading::Unreadable(why) => Reading::Unreadable(format!("Authority `{name}`: {why}")),
                reading @ (Reading::Absent | Reading::Present(_)) => reading,
            };
            (reading, status)
        }
        Err(error) => (Reading::Unreadable(format!("Authority `{name}`: {}", brief(&error))), None),
    }
}

/// The witness in a ConfigMap. One that can still be changed proves nothing.
fn handover_of(
    name: &AuthorityName,
    epoch: Epoch,
    read: Result<Option<Value>, ClusterError>,
) -> Reading<HandoverWitness> {
    let unreadable = |why: &str| Reading::Unreadable(format!("ConfigMap {}: {why}", witness_name(name, epoch)));
    let object = match read {
        Ok(None) => return Reading::Absent,
        Ok(Some(object)) => object,
        Err(error) => return unreadable(&brief(&error)),
    };
    if object["immutable"] != Value::Bool(true) {
        return unreadable("it is not immutable");
    }
    let Some(json) = object["data"][WITNESS_KEY].as_str() else {
        return unreadable(&format!("it has no `{WITNESS_KEY}`"));
    };
    match HandoverWitness::from_json(name, epoch, json.as_bytes()) {
        Reading::Unreadable(why) => unreadable(&why),
        reading @ (Reading::Absent | Reading::Present(_)) => reading,
    }
}

#[cfg(test)]
mod tests;
