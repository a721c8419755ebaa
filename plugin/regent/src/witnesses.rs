//! Who holds an authority, as one process sees it: the witnesses as they are now, weighed against the highest that
//! this process ever saw.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use regent_core::evidence::{Evidence, Holder, Memory, Reading};
use regent_core::name::{AuthorityName, Epoch};
use regent_sops::DataKeys;
use tokio::sync::watch;

use crate::cluster::witness::{self, Reader, unreadable};
use crate::cluster::{self, Access, Cluster};
use crate::failure::Failure;
use crate::local;
use crate::telemetry::Metrics;

/// Where witnesses live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    /// The embedded store.
    Folder(PathBuf),
    /// A cluster.
    Cluster(Access),
}

impl std::fmt::Display for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Cluster(Access { context: Some(context), .. }) => write!(f, "cluster of context {context}"),
            Self::Cluster(_) => f.write_str("cluster"),
        }
    }
}

/// Asks a store once, for a command that ends. `bootstrap` is the epoch of `regent.yaml`.
///
/// # Errors
/// A store that is none, a cluster that nobody can connect to. What is there and cannot be read is unreadable evidence.
pub(crate) fn ask(store: &Store, name: &AuthorityName, bootstrap: Epoch) -> Result<Evidence, Failure> {
    match store {
        Store::Folder(folder) => local::read(folder, name),
        Store::Cluster(access) => cluster::block_on(async {
            let cluster = Cluster::connect(access).await?;
            Ok(witness::read(&cluster, name, &[bootstrap]).await)
        }),
    }
}

/// Reads witnesses and remembers.
pub(crate) struct Witnesses {
    seen: Mutex<BTreeMap<AuthorityName, Seen>>,
    /// Of the cluster that was asked last; another one begins anew.
    connected: Mutex<Option<Connected>>,
    data_keys: Arc<DataKeys>,
    metrics: Metrics,
    /// Counts the changes of any authority.
    moves: watch::Sender<u64>,
}

/// A cluster, and a reader for each authority in it.
struct Connected {
    access: Access,
    cluster: Cluster,
    readers: BTreeMap<AuthorityName, Arc<Reader>>,
}

/// One reading.
pub(crate) struct Observed {
    /// What the store said.
    pub(crate) evidence: Arc<Evidence>,
    /// K, after the memory was applied.
    pub(crate) holder: Holder,
    /// When it was asked for.
    pub(crate) at: Instant,
}

#[derive(Default)]
struct Seen {
    memory: Memory,
    /// K, and whether it was settled.
    last: Option<(Holder, bool)>,
}

impl Observed {
    /// Whether the handover witnesses around this epoch of a `regent.yaml` were looked for. Where the Authority is
    /// there, those around its own were, and no others count.
    pub(crate) fn covers(&self, bootstrap: Epoch) -> bool {
        match self.evidence.authority {
            Reading::Present(_) => true,
            // Nothing answers at all: asking for more tells no more, and the look before the answer asks for those too.
            Reading::Unreadable(_) if self.evidence.handovers.values().all(is_unreadable) => true,
            Reading::Absent | Reading::Unreadable(_) => Evidence::epochs_to_read(&Reading::Absent, Some(bootstrap))
                .iter()
                .all(|epoch| self.evidence.handovers.contains_key(epoch)),
        }
    }
}

fn is_unreadable<T>(reading: &Reading<T>) -> bool {
    match reading {
        Reading::Unreadable(_) => true,
        Reading::Absent | Reading::Present(_) => false,
    }
}

impl Witnesses {
    /// With the data keys that are forgotten when K moves.
    pub(crate) fn new(data_keys: Arc<DataKeys>, metrics: Metrics) -> Self {
        let moves = watch::Sender::new(0);
        Self { seen: Mutex::default(), connected: Mutex::default(), data_keys, metrics, moves }
    }

    /// Tells whenever a reading found an authority other than the reading before did.
    pub(crate) fn moves(&self) -> watch::Receiver<u64> {
        self.moves.subscribe()
    }

    /// Reads now, and looks for handovers around the epoch of `regent.yaml` too, where that is known. A store that
    /// cannot be asked is unreadable, never absent, and never a failure of its own: after a handover that was seen,
    /// the answer is the stubs all the same.
    pub(crate) async fn read(
        &self,
        store: Result<&Store, Failure>,
        name: &AuthorityName,
        bootstrap: Option<Epoch>,
    ) -> Observed {
        let (evidence, at) = match store {
            Ok(Store::Folder(folder)) => {
                let at = Instant::now();
                let evidence = local::read(folder, name).unwrap_or_else(|failure| unreadable(&failure.to_string()));
                (Arc::new(evidence), at)
            }
            Ok(Store::Cluster(access)) => match self.reader(access, name).await {
                Ok(reader) => reader.check(bootstrap).await,
                Err(failure) => (Arc::new(unreadable(&failure.to_string())), Instant::now()),
            },
            Err(failure) => (Arc::new(unreadable(&failure.to_string())), Instant::now()),
        };
        // The memory is replaced as a whole, so a panic elsewhere leaves none half written.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.entry(name.clone()).or_default();
        let holder = seen.memory.observe(evidence.holder());
        let now = (holder.clone(), evidence.is_settled());
        if let Some(last) = seen.last.replace(now.clone())
            && last != now
        {
            if last.0 != holder {
                tracing::warn!(authority = %name, from = %last.0, to = %holder, "the authority's witnesses moved");
                self.data_keys.forget();
            }
            self.moves.send_modify(|moves| *moves += 1);
        }
        Observed { evidence, holder, at }
    }

    /// What the witnesses say now, where a whole reading of a moment ago is at hand. While Git rules a handover begins with the
    /// witness of its epoch, so that one alone is read now; and everything, where it says anything. With the other reading
    /// it is one that began when that did, and asked for the most telling witness last.
    pub(crate) async fn read_again(
        &self,
        store: Result<&Store, Failure>,
        name: &AuthorityName,
        before: &Observed,
    ) -> Observed {
        if let (Ok(Store::Cluster(access)), Holder::Git { epoch, .. }) = (&store, &before.holder)
            && let Ok(reader) = self.reader(access, name).await
            && let Reading::Absent = reader.handover(*epoch).await
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            // What somebody else saw meanwhile counts.
            let holder = seen.entry(name.clone()).or_default().memory.observe(before.evidence.holder());
            return Observed { evidence: Arc::clone(&before.evidence), holder, at: before.at };
        }
        self.read(store, name, None).await
    }

    /// Whether the last reading found that Vault rules. Nobody is asked.
    pub(crate) fn found_vault(&self, name: &AuthorityName) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let last = seen.get(name).and_then(|seen| seen.last.as_ref());
        last.is_some_and(|(holder, _)| matches!(holder, Holder::Vault { .. }))
    }

    /// The authority's reader in the cluster. A cluster that cannot be connected to is tried again by the next check.
    async fn reader(&self, access: &Access, name: &AuthorityName) -> Result<Arc<Reader>, Failure> {
        if let Some(reader) = self.known(access, name) {
            return Ok(reader);
        }
        let cluster = self.cluster(access).await?;
        let mut connected = self.connected();
        let new = || Arc::new(Reader::new(cluster.clone(), name.clone(), self.metrics.clone()));
        match connected.as_mut().filter(|connected| connected.access == *access) {
            Some(Connected { readers, .. }) => Ok(Arc::clone(readers.entry(name.clone()).or_insert_with(new))),
            // Another cluster was asked meanwhile.
            None => Ok(new()),
        }
    }

    /// The connection to a cluster, which everybody here shares.
    pub(crate) async fn cluster(&self, access: &Access) -> Result<Cluster, Failure> {
        if let Some(known) = self.connected().as_ref().filter(|connected| connected.access == *access) {
            return Ok(known.cluster.clone());
        }
        let cluster = Cluster::connect(access).await?.counted(self.metrics.clone());
        let mut connected = self.connected();
        if let Some(known) = connected.as_ref().filter(|connected| connected.access == *access) {
            return Ok(known.cluster.clone());
        }
        *connected = Some(Connected { access: access.clone(), cluster: cluster.clone(), readers: BTreeMap::new() });
        Ok(cluster)
    }

    fn known(&self, access: &Access, name: &AuthorityName) -> Option<Arc<Reader>> {
        let connected = self.connected();
        let connected = connected.as_ref().filter(|connected| connected.access == *access)?;
        connected.readers.get(name).map(Arc::clone)
    }

    fn connected(&self) -> MutexGuard<'_, Option<Connected>> {
        // What it holds is replaced as a whole.
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
