//! The Kustomizations of the operator's file, each followed by a task of its own: what changed is built, kept and published.
//!
//! ```text
//! source, witnesses, operator's file -- changed? --> build --> shelf --> ExternalArtifact --> kustomize-controller
//! refusals of the endpoint -----------------------------------------> Event at the Kustomization
//! witnesses --------------------------------------------------------> Secret with the token
//! ```
//! Of one without an artifact that is all.
//!
//! Whatever goes wrong leaves what was published as it is: kustomize-controller then goes on with it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use regent_core::Refusal;
use regent_core::authority::AuthorityRefusal;
use regent_core::evidence::Holder;
use regent_core::flux::artifact::Phase;
use regent_core::flux::bound;
use regent_core::name::{AuthorityName, Epoch, ObjectName};
use regent_core::remote::Location;
use regent_core::rules::{Delivery, Flux, FluxApplication, FluxArtifact, FluxSource, Followed, Voucher};
use regent_sops::DataKeys;
use serde_json::{Value, json};
use tokio::sync::{Notify, OnceCell, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::build::{Build, Built, Memory};
use super::endpoint::Refused;
use super::shelf::{Holds, Published, Shelf};
use super::tree::{Fetcher, Offered, Tree};
use super::wake::Wakes;
use crate::cluster::flux::{self, Kustomization, ORIGIN_REVISION, Publication, Readiness, SourceArtifact};
use crate::cluster::lease::Candidate;
use crate::cluster::watch::{Event, Events};
use crate::cluster::{Cluster, ClusterError};
use crate::failure::Failure;
use crate::reload::{Current, Loaded};
use crate::source::git::{self, Held, History};
use crate::source::tar::UploadLimits;
use crate::witnesses::{Observed, Store, Witnesses};

/// Follows every Kustomization of the operator's file.
pub(crate) struct Door {
    shared: Arc<Shared>,
    refusals: mpsc::Receiver<Refused>,
}

struct Shared {
    current: Arc<Current>,
    witnesses: Arc<Witnesses>,
    data_keys: Arc<DataKeys>,
    shelf: Arc<Shelf>,
    wakes: Arc<Wakes>,
    /// Whether this replica writes.
    leads: watch::Sender<bool>,
    /// Trees that some Kustomization was built from last: several take theirs from one repository.
    trees: Mutex<BTreeMap<Source, Weak<OnceCell<Tree>>>>,
}

/// The lease of those who write, in Flux' own namespace.
const LEASE: &str = "regent-flux";

/// How often the operator's file is asked which Kustomizations there are.
const LOOK: Duration = Duration::from_secs(2);

/// How often everything is looked at without an event; a server of Git is asked as often as its entry says.
const IDLE: Duration = Duration::from_secs(30);

/// Between two tries, doubled while they fail.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long the same refusal is not told again at one Kustomization, which asks for each of its retries.
const QUIET: Duration = Duration::from_secs(300);

impl Door {
    pub(crate) fn new(
        current: Arc<Current>,
        witnesses: Arc<Witnesses>,
        data_keys: Arc<DataKeys>,
        shelf: Arc<Shelf>,
        wakes: Arc<Wakes>,
        refusals: mpsc::Receiver<Refused>,
    ) -> Self {
        let (leads, trees) = (watch::Sender::new(false), Mutex::default());
        Self { shared: Arc::new(Shared { current, witnesses, data_keys, shelf, wakes, leads, trees }), refusals }
    }

    /// Takes part in who writes until `ending` is done; a little later it is over.
    pub(crate) fn lead(&self, ending: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        tokio::spawn(Arc::clone(&self.shared).lead(ending))
    }

    /// Never returns.
    pub(crate) async fn run(self) -> Infallible {
        let Self { shared, refusals } = self;
        tokio::spawn(Arc::clone(&shared).tell(refusals));
        let mut seen: Option<Vec<FluxApplication>> = None;
        // Dropped, it ends what it holds.
        let mut tasks = JoinSet::new();
        loop {
            let wanted = shared.current.get().ok().map(|loaded| loaded.config.flux.applications.clone());
            // A task ends only by a case that it does not know.
            let ended = tasks.try_join_next().is_some();
            if wanted.is_some() && (wanted != seen || ended) {
                tasks = JoinSet::new();
                for application in wanted.iter().flatten() {
                    let shared = Arc::clone(&shared);
                    match &application.delivery {
                        Delivery::Artifact(artifact) => {
                            tasks.spawn(Follower::new(shared, application.clone(), artifact.clone()).run())
                        }
                        Delivery::Patches(_) => tasks.spawn(Token::new(shared, application.clone()).run()),
                    };
                }
                seen = wanted;
            }
            sleep(LOOK).await;
        }
    }
}

impl Shared {
    /// The cluster of the operator's file: Flux' objects are nowhere else.
    async fn cluster(&self, loaded: &Loaded) -> Result<Cluster, Failure> {
        match loaded.store()? {
            Store::Cluster(access) => self.witnesses.cluster(access).await,
            Store::Folder(_) => Err(Failure::Usage(
                "`serve flux` expects a store in a cluster (`store: { kind: kubernetes }`)".to_owned(),
            )),
        }
    }

    /// Takes part in who writes.
    async fn lead(self: Arc<Self>, ending: impl Future<Output = ()>) {
        let namespace = self.current.get().map_or_else(
            |_| Flux::default().namespace().to_owned(),
            |loaded| loaded.config.flux.namespace().to_owned(),
        );
        let connect = || async {
            let loaded = self.current.get().ok()?;
            self.cluster(&loaded).await.ok()
        };
        Candidate::new(&namespace, LEASE, self.shelf.identity()).run(connect, self.leads.clone(), ending).await;
    }

    fn is_leading(&self) -> bool {
        *self.leads.borrow()
    }

    /// The tree of a revision, read once for all who build from it at the same time, and gone with the last of them.
    fn tree(&self, source: &Source) -> Arc<OnceCell<Tree>> {
        // An entry is replaced as a whole, so a panic elsewhere leaves none half written.
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        trees.retain(|_, tree| tree.strong_count() > 0);
        if let Some(known) = trees.get(source).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::default();
        trees.insert(source.clone(), Arc::downgrade(&new));
        new
    }

    /// Passes refusals of the endpoint on to whoever looks at the Kustomization.
    async fn tell(self: Arc<Self>, mut refusals: mpsc::Receiver<Refused>) {
        let mut told: BTreeMap<ObjectName, (String, Instant)> = BTreeMap::new();
        // Each replica tells what it refused.
        while let Some(Refused { kustomization, sentence }) = refusals.recv().await {
            let is_known = |(before, at): &(String, Instant)| *before == sentence && at.elapsed() < QUIET;
            if told.get(&kustomization).is_some_and(is_known) {
                continue;
            }
            let sent = async {
                let loaded = self.current.get()?;
                let cluster = self.cluster(&loaded).await?;
                let object = flux::kustomization(&cluster, &kustomization).await;
                let Some(object) = object.map_err(|problem| cluster.failure(problem))? else { return Ok(()) };
                let warned = flux::warn(&cluster, &kustomization, &object.uid, "DataKeyRefused", &sentence).await;
                warned.map_err(|problem| cluster.failure(problem))
            };
            if let Err(problem) = sent.await {
                tracing::warn!(%kustomization, %problem, "a refusal could not be told at the Kustomization");
            }
            told.insert(kustomization, (sentence, Instant::now()));
        }
    }
}

/// Follows one Kustomization, and publishes its artifact.
struct Follower {
    shared: Arc<Shared>,
    application: FluxApplication,
    artifact: FluxArtifact,
    /// Tells that the source may have changed.
    changed: Arc<Notify>,
    /// What the last artifact was built from.
    built: Option<Seen>,
    /// The tree that was fetched last, vouched for: what Vault changes is built from it at once.
    tree: Option<(Source, Arc<OnceCell<Tree>>)>,
    /// What a server of Git said last, and when it was asked.
    asked: Option<(Box<Followed>, String, Instant)>,
    /// What nobody vouches for is not fetched again.
    unvouched: Option<(Source, Failure)>,
    /// What the last artifact was made of.
    memory: Arc<Memory>,
    token: Token,
}

/// Keeps the token of one Kustomization.
struct Token {
    shared: Arc<Shared>,
    application: FluxApplication,
    /// Whose token was put last, of which configuration, and when.
    put: Option<(Epoch, u64, Instant)>,
}

/// Everything that an artifact is a function of.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    source: Source,
    /// What the Kustomization says of its build.
    kustomization: Kustomization,
    holder: Holder,
    is_settled: bool,
    generation: u64,
}

/// Whether the revision to build from is the newest one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Newest {
    Known,
    /// Nobody was asked, or nobody answered.
    Unknown,
}

/// A revision of the repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Artifact(SourceArtifact),
    Commit { place: Box<Followed>, commit: String },
}

impl Source {
    /// As Flux writes it.
    fn revision(&self) -> String {
        match self {
            Self::Artifact(artifact) => artifact.revision.clone(),
            Self::Commit { place, commit } => format!("{}@sha1:{commit}", place.revision),
        }
    }
}

/// How often a token is put where it belongs although nothing changed.
const TOKEN_AGAIN: Duration = Duration::from_secs(600);

impl Follower {
    fn new(shared: Arc<Shared>, application: FluxApplication, artifact: FluxArtifact) -> Self {
        let token = Token::new(Arc::clone(&shared), application.clone());
        let (changed, memory) = (Arc::default(), Arc::default());
        Self {
            shared,
            application,
            artifact,
            changed,
            built: None,
            tree: None,
            asked: None,
            unvouched: None,
            memory,
            token,
        }
    }

    /// Never returns.
    async fn run(mut self) -> Infallible {
        let mut followed = vec![flux::kustomization_path(&self.application.kustomization)];
        match &self.artifact.source {
            FluxSource::GitRepository(name) => followed.push(flux::git_repository_path(name)),
            // Whoever tells of its commits wakes all that take their trees from it.
            FluxSource::Watch => {}
        }
        // Dropped, it ends them.
        let mut watching = JoinSet::new();
        for path in followed {
            let (shared, changed) = (Arc::clone(&self.shared), Arc::clone(&self.changed));
            watching.spawn(async move { shared.watch(&path, &changed).await });
        }
        let (mut moves, mut leads) = (self.shared.witnesses.moves(), self.shared.leads.subscribe());
        let mut wakes = self.shared.wakes.subscribe(&self.application.authority);
        let (mut pause, mut told, mut is_woken) = (PAUSE, None, false);
        loop {
            if is_woken || wakes.has_changed().unwrap_or_default() {
                wakes.mark_unchanged();
                self.asked = None;
            }
            is_woken = false;
            moves.mark_unchanged();
            leads.mark_unchanged();
            let wait = match self.look().await {
                Ok(()) => {
                    (pause, told) = (PAUSE, None);
                    self.asked.as_ref().map_or(IDLE, |(place, _, _)| IDLE.min(place.interval))
                }
                Err(failure) => {
                    self.refuse(&failure, &mut told).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    pause
                }
            };
            let awaited = async {
                tokio::select! {
                    () = self.changed.notified() => {}
                    _ = wakes.changed() => is_woken = true,
                    _ = moves.changed() => {}
                    _ = leads.changed() => {}
                }
            };
            // Without an event things are looked at all the same.
            drop(timeout(wait, awaited).await);
        }
    }

    /// Looks at everything, and builds and publishes where something changed.
    async fn look(&mut self) -> Result<(), Failure> {
        let loaded = self.shared.current.get()?;
        let cluster = self.shared.cluster(&loaded).await?;
        let _begun = self.begin(&loaded);
        // Asked at one time; what the witnesses say is acted on first.
        let reading = self.shared.witnesses.read(loaded.store(), &self.application.authority, None);
        let (observed, kustomization) = tokio::join!(reading, self.kustomization(&cluster));
        let (holder, is_settled) = (observed.holder.clone(), observed.evidence.is_settled());
        if self.shared.is_leading() {
            self.token.put(&loaded, &cluster, &holder, is_settled).await?;
        }
        let (source, newest, passed_over) = self.source(&loaded, &cluster, &holder).await?;
        let kustomization = kustomization?;
        let wanted = source.clone();
        let mut seen = Seen { source, kustomization, holder, is_settled, generation: loaded.generation };
        if self.built.as_ref() != Some(&seen) {
            let built = self.build(&loaded, &mut seen, observed).await?;
            self.keep(&seen, built).await?;
            self.built = Some(seen);
        }
        // The stubs did not wait for it, and a person learns of it all the same.
        if let Some(failure @ Failure::Unvouched { .. }) = passed_over {
            return Err(failure);
        }
        let built = self.built.as_ref().map(|seen| &seen.source);
        let is_newest = newest == Newest::Known && built == Some(&wanted);
        let readiness = Readiness::Ready(format!("built from {}", built.map(Source::revision).unwrap_or_default()));
        self.publish(&loaded, &cluster, &readiness, is_newest).await
    }

    /// Begins to read the newest commit of a repository on this machine while others are asked: whoever builds from it
    /// finds it begun, and what went wrong with it is told then. Only where Git ruled at the last look: stubs wait for
    /// no repository. What was read goes with what is returned, unless it is built from.
    fn begin(&self, loaded: &Arc<Loaded>) -> Option<JoinHandle<Option<Arc<OnceCell<Tree>>>>> {
        let Some(Seen { source, holder: Holder::Git { .. }, .. }) = &self.built else { return None };
        let Source::Commit { place, commit: last } = source else { return None };
        let Location::Folder(_) = place.repo else { return None };
        if self.artifact.voucher != Voucher::Nobody {
            return None;
        }
        let (shared, loaded, before) = (Arc::clone(&self.shared), Arc::clone(loaded), self.before(source));
        let (place, last) = (place.clone(), last.clone());
        Some(tokio::spawn(async move {
            let asked = place.clone();
            let said = tokio::task::spawn_blocking(move || git::commit(&git::Place::followed(&asked), &asked.revision));
            let commit = said.await.ok()?.ok().filter(|commit| *commit != last)?;
            let source = Source::Commit { place, commit };
            let tree = shared.tree(&source);
            let is_read = tree.get_or_try_init(|| fetch(&loaded, &source, &[], before)).await.is_ok();
            is_read.then_some(tree)
        }))
    }

    /// The revision to build from: the newest. The stubs of a handover wait for nobody, neither for Git nor for a signer, so the
    /// first are those of the last tree; and where the newest cannot be had they stay those, beside the reason.
    async fn source(
        &mut self,
        loaded: &Arc<Loaded>,
        cluster: &Cluster,
        holder: &Holder,
    ) -> Result<(Source, Newest, Option<Failure>), Failure> {
        let (Holder::Vault { .. }, Some((last, _))) = (holder, &self.tree) else {
            return Ok((self.newest(loaded, cluster).await?, Newest::Known, None));
        };
        let last = last.clone();
        if self.built.as_ref().is_some_and(|seen| !matches!(seen.holder, Holder::Vault { .. })) {
            self.changed.notify_one();
            return Ok((last, Newest::Unknown, None));
        }
        match self.newest(loaded, cluster).await {
            Ok(newest) => Ok((newest, Newest::Known, None)),
            Err(failure) => Ok((last, Newest::Unknown, Some(failure))),
        }
    }

    /// The newest revision, with whom the operator's file asks behind it.
    async fn newest(&mut self, loaded: &Arc<Loaded>, cluster: &Cluster) -> Result<Source, Failure> {
        match self.artifact.source.clone() {
            FluxSource::GitRepository(name) => {
                let offered = flux::offered(cluster, &name).await.map_err(|problem| cluster.failure(problem))?;
                let flux::Offer { artifact, verified } = offered.ok_or_else(|| Failure::World {
                    what: "find",
                    name: format!("GitRepository {name}"),
                    reason: "it does not exist, or offers no artifact yet".to_owned(),
                })?;
                let source = Source::Artifact(artifact);
                match (&self.artifact.voucher, verified) {
                    (Voucher::SourceController, Err(rule)) if !self.holds(&source) => {
                        Err(Failure::Unvouched { what: source.revision(), problem: rule.to_owned() })
                    }
                    (Voucher::SourceController | Voucher::Signers(_) | Voucher::Nobody, Ok(()) | Err(_)) => Ok(source),
                }
            }
            FluxSource::Watch => {
                let source = self.commit(loaded).await?;
                self.signed(loaded, source).await
            }
        }
    }

    /// Whether its tree is at hand, and so was vouched for.
    fn holds(&self, source: &Source) -> bool {
        self.tree.as_ref().is_some_and(|(held, _)| held == source)
    }

    /// The newest commit. A server is asked once in its interval, or when it told that something moved.
    async fn commit(&mut self, loaded: &Loaded) -> Result<Source, Failure> {
        let place = Box::new(followed(loaded, &self.application.authority).ok_or(Failure::Bug)?.clone());
        if let (Location::Remote(_), Some((of, commit, at))) = (&place.repo, &self.asked)
            && *of == place
            && at.elapsed() < place.interval
        {
            return Ok(Source::Commit { commit: commit.clone(), place });
        }
        let (at, asked) = (Instant::now(), place.clone());
        let said = tokio::task::spawn_blocking(move || git::commit(&git::Place::followed(&asked), &asked.revision));
        let commit = said.await.map_err(|_| Failure::Bug)??;
        self.asked = Some((place.clone(), commit.clone(), at));
        Ok(Source::Commit { place, commit })
    }

    /// A commit that one of the signers signed, its tree at hand.
    async fn signed(&mut self, loaded: &Arc<Loaded>, source: Source) -> Result<Source, Failure> {
        let signers = match &self.artifact.voucher {
            Voucher::Nobody | Voucher::SourceController => return Ok(source),
            Voucher::Signers(_) if self.holds(&source) => return Ok(source),
            Voucher::Signers(signers) => signers,
        };
        if let Some((refused, failure)) = &self.unvouched
            && *refused == source
        {
            return Err(failure.clone());
        }
        match fetch(loaded, &source, signers, self.before(&source)).await {
            Ok(tree) => {
                self.tree = Some((source.clone(), Arc::new(OnceCell::new_with(Some(tree)))));
                Ok(source)
            }
            Err(failure) => {
                if let Failure::Unvouched { .. } = failure {
                    self.unvouched = Some((source, failure.clone()));
                }
                Err(failure)
            }
        }
    }

    /// What the Kustomization says of its build: without it nobody knows what the artifact is for.
    async fn kustomization(&self, cluster: &Cluster) -> Result<Kustomization, Failure> {
        let name = &self.application.kustomization;
        let found = flux::kustomization(cluster, name).await.map_err(|problem| cluster.failure(problem))?;
        found.ok_or_else(|| Failure::World {
            what: "find",
            name: format!("Kustomization {name}"),
            reason: "it does not exist yet".to_owned(),
        })
    }

    async fn build(&mut self, loaded: &Arc<Loaded>, seen: &mut Seen, observed: Observed) -> Result<Built, Failure> {
        let held = self.tree.as_ref().filter(|(source, _)| *source == seen.source).map(|(_, tree)| Arc::clone(tree));
        // One that somebody has to vouch for is held by now; any other is everybody's.
        let fetched = held.unwrap_or_else(|| self.shared.tree(&seen.source));
        let before = self.before(&seen.source);
        let tree = match fetched.get_or_try_init(|| fetch(loaded, &seen.source, &[], before)).await {
            Ok(_) => fetched,
            Err(failure) => match (&seen.holder, &self.tree) {
                (Holder::Vault { .. }, Some((source, last))) => {
                    // The newest is tried again at the next look.
                    seen.source.clone_from(source);
                    tracing::warn!(problem = %failure, "the newest revision could not be read; the stubs come from the last one");
                    Arc::clone(last)
                }
                (_, Some(_) | None) => return Err(failure),
            },
        };
        self.tree = Some((seen.source.clone(), Arc::clone(&tree)));
        let (shared, loaded, application) = (Arc::clone(&self.shared), Arc::clone(loaded), self.application.clone());
        let (kustomization, label) = (seen.kustomization.clone(), seen.source.revision());
        let memory = Arc::clone(&self.memory);
        let built = tokio::task::spawn_blocking(move || {
            let tree = tree.get().ok_or(Failure::Bug)?;
            let Shared { witnesses, data_keys, .. } = &*shared;
            let build = Build {
                loaded: &loaded,
                application: &application,
                kustomization: &kustomization,
                tree,
                label: &label,
                witnesses,
                observed: &observed,
                data_keys,
                memory: &memory,
            };
            build.run()
        });
        built.await.map_err(|_| Failure::Bug)?
    }

    /// The tree of another commit of the same repository, where one is at hand.
    fn before(&self, source: &Source) -> Option<Arc<OnceCell<Tree>>> {
        match (source, &self.tree) {
            (Source::Commit { place, .. }, Some((Source::Commit { place: before, .. }, tree))) if place == before => {
                Some(Arc::clone(tree))
            }
            (Source::Commit { .. } | Source::Artifact(_), _) => None,
        }
    }

    /// Puts it on the shelf.
    async fn keep(&mut self, seen: &Seen, built: Built) -> Result<(), Failure> {
        let Built { packed, phase, epoch, files, changed, memory } = built;
        self.memory = Arc::new(memory);
        let published = Published {
            revision: format!("{}@{}", phase.word(), packed.digest),
            digest: packed.digest,
            size: packed.gzip.len() as u64,
            metadata: BTreeMap::from([(ORIGIN_REVISION.to_owned(), seen.source.revision())]),
            authority: self.application.authority.clone(),
            epoch,
            holds: match phase {
                Phase::Bootstrap => Holds::Ciphertext,
                Phase::Handover => Holds::Stubs,
            },
        };
        let name = self.artifact_name();
        let (shared, put) = (Arc::clone(&self.shared), published.clone());
        // Files are synced.
        let kept = tokio::task::spawn_blocking(move || shared.shelf.put(&name, &packed, &put)).await;
        kept.map_err(|_| Failure::Bug)??;
        tracing::info!(
            kustomization = %self.application.kustomization,
            authority = %self.application.authority,
            holder = %seen.holder,
            origin = seen.source.revision(),
            revision = published.revision,
            files,
            changed,
            bytes = published.size,
            "an artifact was built"
        );
        Ok(())
    }

    /// Makes the `ExternalArtifact` name what is on the shelf. Another replica may have been further: what is not of the
    /// newest revision takes the place of ciphertext that Vault ended, and of nothing else.
    async fn publish(
        &self,
        loaded: &Loaded,
        cluster: &Cluster,
        readiness: &Readiness,
        is_newest: bool,
    ) -> Result<(), Failure> {
        if !self.shared.is_leading() {
            return Ok(());
        }
        let name = self.artifact_name();
        let publication = self.shared.shelf.published(&name).map(|published| Publication {
            url: format!("{}/{}", loaded.config.flux.artifacts, published.path(&name)),
            path: published.path(&name),
            revision: published.revision.clone(),
            digest: published.digest.to_string(),
            size: published.size,
            metadata: published.metadata.clone(),
        });
        let stays = |before: &str, after: &str| {
            let is_of = |revision: &str, phase: Phase| revision.starts_with(&format!("{}@", phase.word()));
            !(is_newest || is_of(before, Phase::Bootstrap) && is_of(after, Phase::Handover))
        };
        let written = flux::publish(cluster, &name, &self.source_ref(), publication.as_ref(), readiness, stays).await;
        if written.map_err(|problem| cluster.failure(problem))? {
            let revision = publication.map(|publication| publication.revision).unwrap_or_default();
            tracing::info!(artifact = %name, revision, "an artifact was published");
        }
        Ok(())
    }

    /// Says why there is no newer artifact, once; what may pass by itself is no reason to call the last one bad.
    async fn refuse(&self, failure: &Failure, told: &mut Option<String>) {
        let line = failure.public_line();
        if told.as_ref() != Some(&line) {
            tracing::warn!(kustomization = %self.application.kustomization, problem = %failure, "no artifact was built");
            *told = Some(line.clone());
        }
        if is_passing(failure) {
            return;
        }
        let Ok(loaded) = self.shared.current.get() else { return };
        let Ok(cluster) = self.shared.cluster(&loaded).await else { return };
        if let Err(problem) = self.publish(&loaded, &cluster, &Readiness::NotReady(line), false).await {
            tracing::warn!(kustomization = %self.application.kustomization, %problem, "that could not be told at the artifact");
        }
    }

    /// The name of the `ExternalArtifact`.
    fn artifact_name(&self) -> ObjectName {
        let namespace = self.application.kustomization.namespace();
        ObjectName::parse(&format!("{namespace}/{}", self.artifact.name))
            .unwrap_or_else(|_| self.application.kustomization.clone())
    }

    /// `spec` of the `ExternalArtifact`.
    fn source_ref(&self) -> Value {
        match &self.artifact.source {
            FluxSource::GitRepository(name) => json!({ "sourceRef": {
                "apiVersion": "source.toolkit.fluxcd.io/v1",
                "kind": "GitRepository",
                "namespace": name.namespace().as_str(),
                "name": name.name(),
            } }),
            // Not nothing: an object that had a reference before cannot be left without.
            FluxSource::Watch => json!({ "sourceRef": {
                "apiVersion": "regent.dev/v1alpha1",
                "kind": "Authority",
                "name": self.application.authority.as_str(),
            } }),
        }
    }
}

impl Token {
    fn new(shared: Arc<Shared>, application: FluxApplication) -> Self {
        Self { shared, application, put: None }
    }

    /// Of a Kustomization without an artifact nothing else is done. Never returns.
    async fn run(mut self) -> Infallible {
        let (mut moves, mut leads) = (self.shared.witnesses.moves(), self.shared.leads.subscribe());
        let (mut pause, mut told) = (PAUSE, None);
        loop {
            moves.mark_unchanged();
            leads.mark_unchanged();
            let wait = match self.look().await {
                Ok(()) => {
                    (pause, told) = (PAUSE, None);
                    IDLE
                }
                Err(failure) => {
                    let line = failure.public_line();
                    if told.as_ref() != Some(&line) {
                        tracing::warn!(kustomization = %self.application.kustomization, problem = %failure, "no token was put");
                        told = Some(line);
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    pause
                }
            };
            let awaited = async {
                tokio::select! {
                    _ = moves.changed() => {}
                    _ = leads.changed() => {}
                }
            };
            drop(timeout(wait, awaited).await);
        }
    }

    async fn look(&mut self) -> Result<(), Failure> {
        let loaded = self.shared.current.get()?;
        let cluster = self.shared.cluster(&loaded).await?;
        let observed = self.shared.witnesses.read(loaded.store(), &self.application.authority, None).await;
        if self.shared.is_leading() {
            self.put(&loaded, &cluster, &observed.holder, observed.evidence.is_settled()).await?;
        }
        Ok(())
    }

    /// Keeps the token where the Kustomization looks for it while Git rules, and takes it away once the handover is settled.
    async fn put(
        &mut self,
        loaded: &Loaded,
        cluster: &Cluster,
        holder: &Holder,
        is_settled: bool,
    ) -> Result<(), Failure> {
        let Some(secret) = &self.application.token_secret else { return Ok(()) };
        let namespace = self.application.kustomization.namespace();
        let authority = &self.application.authority;
        let (epoch, token) = match holder {
            Holder::Git { epoch, .. } => {
                let keys = loaded.wrapping_keys(authority)?;
                let token = keys.token(&bound::token_context(authority, *epoch, namespace));
                (*epoch, Some(token.ok_or(Refusal::NoWrappingKey)?))
            }
            Holder::Vault { epoch, .. } if is_settled => (*epoch, None),
            Holder::Vault { .. } | Holder::None | Holder::Disagree(_) | Holder::Unreadable(_) => return Ok(()),
        };
        let is_fresh = |(of, generation, at): &(Epoch, u64, Instant)| {
            (*of, *generation) == (epoch, loaded.generation) && at.elapsed() < TOKEN_AGAIN
        };
        if token.is_some() && self.put.as_ref().is_some_and(is_fresh) {
            return Ok(());
        }
        let name = ObjectName::parse(&format!("{namespace}/{secret}")).map_err(|_| Failure::Bug)?;
        let put = flux::put_token(cluster, &name, authority.as_str(), token.as_ref().map(|token| token.as_str())).await;
        put.map_err(|problem| cluster.failure(problem))?;
        self.put = Some((epoch, loaded.generation, Instant::now()));
        Ok(())
    }
}

/// The repository that `watch` has for an authority. The operator's file is refused where a source wants one and there is
/// none.
fn followed<'a>(loaded: &'a Loaded, authority: &AuthorityName) -> Option<&'a Followed> {
    loaded.config.watch.iter().find(|entry| entry.authority == *authority)
}

/// Reads the tree of a revision; of a commit only where one of `signers` signed it, if there are any, and only what the one
/// `before` does not have.
async fn fetch(
    loaded: &Arc<Loaded>,
    source: &Source,
    signers: &[String],
    before: Option<Arc<OnceCell<Tree>>>,
) -> Result<Tree, Failure> {
    let limits = UploadLimits::of(&loaded.config.limits);
    match source {
        Source::Artifact(SourceArtifact { url, digest, revision, size }) => {
            let offered = Offered { url: url.clone(), digest: digest.clone(), size: *size };
            let artifact = Fetcher::new(loaded.config.limits.upload)?.fetch(&offered).await?;
            let label = revision.clone();
            tokio::task::spawn_blocking(move || Tree::unpack(&artifact, &label, limits))
                .await
                .map_err(|_| Failure::Bug)?
        }
        Source::Commit { place, commit } => {
            let (place, commit, label) = (git::Place::followed(place), commit.clone(), source.revision());
            let signers = signers.to_vec();
            let read = tokio::task::spawn_blocking(move || {
                let held = Held::open(&place, &commit, History::None)?;
                if !signers.is_empty() {
                    git::vouched(&held, &signers, SystemTime::now())?;
                }
                Tree::of_commit(&held, &label, limits, before.as_ref().and_then(|before| before.get()))
            });
            read.await.map_err(|_| Failure::Bug)?
        }
    }
}

/// Whether asking again is all that helps: the last artifact is no worse for it.
fn is_passing(failure: &Failure) -> bool {
    if let Failure::Cluster { problem, .. } = failure {
        return !problem.is_final();
    }
    let Failure::Refused(Refusal::Authority(refusal)) = failure else { return false };
    matches!(refusal, AuthorityRefusal::Unreadable { .. } | AuthorityRefusal::Moved { .. })
}

impl Shared {
    /// Follows one object: whoever is notified reads it himself.
    async fn watch(&self, path: &str, changed: &Notify) -> Infallible {
        let mut pause = PAUSE;
        loop {
            match self.watch_once(path, changed).await {
                Ok(()) => pause = PAUSE,
                Err(_) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
            sleep(pause).await;
        }
    }

    async fn watch_once(&self, path: &str, changed: &Notify) -> Result<(), Failure> {
        let loaded = self.current.get()?;
        let cluster = self.cluster(&loaded).await?;
        let failed = |problem: ClusterError| cluster.failure(problem);
        let object = cluster.get(path).await.map_err(failed)?;
        changed.notify_one();
        let Some(version) = object.as_ref().and_then(|object| object["metadata"]["resourceVersion"].as_str()) else {
            return Ok(());
        };
        let mut events = Events::watch(&cluster, path, version).await.map_err(failed)?;
        while let Some(event) = events.next().await.map_err(failed)? {
            match event {
                Event::Changed => changed.notify_one(),
                Event::Mark => {}
                Event::Expired => return Ok(()),
            }
        }
        Ok(())
    }
}
