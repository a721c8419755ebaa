//! Argo CD's door: a native config management plugin.
//!
//! ```text
//! gather   metadata -> rule, witnesses; upload -> root          request.rs, stream.rs, source/tar.rs
//! decide   rule, P0..P6, render                                 regent-core
//! act      witnesses again, then one compact JSON a manifest    here
//! ```
//! A request is taken in to its end before it is answered, on errors too. Whatever goes wrong is an error of the
//! request: never an empty or shorter answer, which Argo CD would prune by.

pub(crate) mod authority_header;
pub(crate) mod client;
pub(crate) mod request;
pub(crate) mod server;
pub(crate) mod socket;
mod stream;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use regent_core::Refusal;
use regent_core::authority::{self, Mode, Place, Recheck};
use regent_core::bootstrap::Bootstrap;
use regent_core::emit::{Encoding, Manifest};
use regent_core::files::{Content, Files};
use regent_core::name::{AuthorityName, Epoch, FilePath, Namespace};
use regent_core::render::{self, Door};
use regent_core::rules::ConfigLimits;
use regent_sops::{DataKeys, Keyring, Limits, Opener, Stop};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;

use crate::failure::{Code, Failure};
use crate::reload::{Current, Loaded};
use crate::source::tar::{Upload, UploadLimits, UploadSize};
use crate::source::{BOOTSTRAP, Gathered, bootstrap_of, other_bootstraps};
use crate::telemetry::{self, Answer, InFlight, Metrics, TraceContext};
use crate::witnesses::{Observed, Witnesses};
use proto::config_management_plugin_service_server::ConfigManagementPluginService;
use proto::{
    AppStreamRequest, CheckPluginConfigurationResponse, ManifestResponse, ParametersAnnouncementResponse,
    RepositoryResponse,
};
use request::Application;
use server::LastCall;

/// Argo CD's contract, compiled from `proto/plugin.proto`.
pub(crate) mod proto {
    #![expect(
        unreachable_pub,
        unused_qualifications,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        reason = "generated"
    )]
    tonic::include_proto!("plugin");
}

/// The plugin: what all requests share.
pub(crate) struct Plugin {
    shared: Arc<Shared>,
}

struct Shared {
    current: Arc<Current>,
    witnesses: Arc<Witnesses>,
    data_keys: Arc<DataKeys>,
    metrics: Metrics,
    /// Room for uploads: each may hold `limits.upload`.
    room: Semaphore,
    /// Each authority's last `regent.yaml`: parsing it costs as much as rendering two Secrets, and it rarely changes.
    bootstraps: Mutex<BTreeMap<AuthorityName, Parsed>>,
}

/// A `regent.yaml`, and what it says.
struct Parsed {
    text: Vec<u8>,
    bootstrap: Arc<Bootstrap>,
}

/// Uploads taken in at once. Argo CD sends 1 to 10 a repo-server unless its parallelism is unlimited.
const UPLOADS_AT_ONCE: usize = 32;

/// Largest message either way, in bytes: what Argo CD's own client and server are set to.
pub(crate) const MAX_MESSAGE: usize = 100 << 20;

/// How long values may be on their way after the witnesses were last asked.
const FRESH: Duration = Duration::from_secs(2);

/// How much earlier than Argo CD's client gives up the answer has to be on its way.
const HEAD_START: Duration = Duration::from_millis(100);

impl Plugin {
    pub(crate) fn new(
        current: Arc<Current>,
        witnesses: Arc<Witnesses>,
        data_keys: Arc<DataKeys>,
        metrics: Metrics,
    ) -> Self {
        let room = Semaphore::new(UPLOADS_AT_ONCE);
        let bootstraps = Mutex::default();
        Self { shared: Arc::new(Shared { current, witnesses, data_keys, metrics, room, bootstraps }) }
    }
}

#[tonic::async_trait]
impl ConfigManagementPluginService for Plugin {
    async fn generate_manifest(
        &self,
        request: Request<Streaming<AppStreamRequest>>,
    ) -> Result<Response<ManifestResponse>, Status> {
        let mut job = Job::new(&self.shared, &request);
        let mut stream = request.into_inner();
        let deadline = job.deadline;
        let span = telemetry::request_span(job.trace);
        let answer = job.answer(&mut stream).instrument(span);
        let outcome = tokio::time::timeout_at(deadline.into(), answer).await.unwrap_or(Err(Failure::Late));
        let (fresh, last_call) = (job.fresh_until(), job.last_call.clone());
        let manifests = job.finish(outcome)?;
        // The last word on time is spoken here: the audit log may have been slow to take its line.
        if fresh.is_some_and(|fresh| Instant::now() >= fresh) {
            return Err(Failure::Late.status(HARD_REFRESH));
        }
        if let (Some(_), Some(last_call)) = (fresh, last_call) {
            last_call.at(deadline);
        }
        Ok(Response::new(ManifestResponse { manifests, source_type: String::new() }))
    }

    async fn check_plugin_configuration(
        &self,
        _nothing: Request<()>,
    ) -> Result<Response<CheckPluginConfigurationResponse>, Status> {
        // A configuration that cannot be read discovers nothing. Naming the plugin still leads to its error.
        let discovers = self.shared.current.get().is_ok_and(|loaded| !loaded.config.argocd.discover.is_empty());
        Ok(Response::new(CheckPluginConfigurationResponse {
            is_discovery_configured: discovers,
            provide_git_creds: false,
        }))
    }

    async fn match_repository(
        &self,
        request: Request<Streaming<AppStreamRequest>>,
    ) -> Result<Response<RepositoryResponse>, Status> {
        let deadline = deadline(&request, Instant::now(), ConfigLimits::default().request);
        let mut stream = request.into_inner();
        let matched = tokio::time::timeout_at(deadline.into(), self.shared.matches(&mut stream)).await;
        let matched = matched.unwrap_or(Err(Failure::Late));
        matched.map(Response::new).map_err(|failure| {
            tracing::warn!(code = failure.code().entry().name, problem = %failure, "a repository was not looked at");
            failure.status(HARD_REFRESH)
        })
    }

    async fn get_parameters_announcement(
        &self,
        request: Request<Streaming<AppStreamRequest>>,
    ) -> Result<Response<ParametersAnnouncementResponse>, Status> {
        drop(request);
        Ok(Response::new(ParametersAnnouncementResponse { parameter_announcements: request::announcements() }))
    }
}

/// When a request has to be answered: Argo CD's own deadline less a head start, and `longest` after it arrived at
/// the latest.
fn deadline<T>(request: &Request<T>, arrived: Instant, longest: Duration) -> Instant {
    let asked = request.metadata().get("grpc-timeout").and_then(|value| grpc_timeout(value.to_str().ok()?));
    let asked = asked.map_or(longest, |timeout| timeout.saturating_sub(HEAD_START).max(timeout / 2));
    arrived + asked.min(longest)
}

/// A `grpc-timeout` header: at most eight digits and a unit (gRPC over HTTP/2, "Requests").
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = (digits.len() <= 8).then(|| digits.parse().ok())??;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _unknown => None,
    }
}

impl Shared {
    /// Whether the upload's folder holds a file that the operator's `discover` names. No rule is asked: what is
    /// found is an Application, and its rendering asks.
    async fn matches(&self, stream: &mut Streaming<AppStreamRequest>) -> Result<RepositoryResponse, Failure> {
        let loaded = self.current.get()?;
        if loaded.config.argocd.discover.is_empty() {
            return Ok(RepositoryResponse { is_supported: false, is_discovery_enabled: false });
        }
        let _room = self.room.acquire().await;
        let application = Application::parse(&stream::metadata(stream).await?)?;
        let limits = UploadLimits::of(&loaded.config.limits);
        let folder = application.folder.clone();
        let is_there = move |upload: Upload| {
            let folder = upload.folder(&folder)?;
            Ok(upload.files_below(&folder).iter().any(|name| loaded.config.argocd.discovers(name)))
        };
        let (is_supported, _) = stream::take_in(stream, &application.checksum, limits, is_there).await?;
        Ok(RepositoryResponse { is_supported, is_discovery_enabled: true })
    }
}

impl Shared {
    /// The epoch in the authority's last `regent.yaml`.
    fn known_epoch(&self, authority: &AuthorityName) -> Option<Epoch> {
        let known = self.bootstraps.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(authority).map(|parsed| parsed.bootstrap.epoch)
    }

    /// The root's `regent.yaml`, parsed again only where its bytes changed.
    fn bootstrap(&self, authority: &AuthorityName, files: &Files) -> Result<Option<Arc<Bootstrap>>, Failure> {
        let path = FilePath::parse(BOOTSTRAP).map_err(|_| Failure::Bug)?;
        let Some(Content::Bytes(bytes)) = files.get(&path) else {
            return Ok(bootstrap_of(files)?.map(Arc::new));
        };
        // An entry is replaced as a whole, so a panic elsewhere leaves none half written.
        let known = || self.bootstraps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(parsed) = known().get(authority)
            && parsed.text == *bytes
        {
            return Ok(Some(Arc::clone(&parsed.bootstrap)));
        }
        let Some(bootstrap) = bootstrap_of(files)?.map(Arc::new) else { return Ok(None) };
        known().insert(authority.clone(), Parsed { text: bytes.clone(), bootstrap: Arc::clone(&bootstrap) });
        Ok(Some(bootstrap))
    }
}

/// One request for manifests, from its arrival to its line in the audit log. Dropped early, it stops the work that
/// it started: whoever asked went away.
struct Job {
    shared: Arc<Shared>,
    arrived: Instant,
    deadline: Instant,
    trace: Option<TraceContext>,
    stop: Arc<Stop>,
    /// Argo CD's namespace, for the way out.
    argocd: Namespace,
    /// Where the connection is told when it has to be over.
    last_call: Option<LastCall>,
    audit: Audit,
    /// When the witnesses were last asked for the answer.
    asked: Option<Instant>,
    finished: bool,
    _in_flight: InFlight,
}

/// What the audit log says of a request.
#[derive(Default)]
struct Audit {
    application: Option<Arc<Application>>,
    authority: String,
    /// K when the request arrived, once that is known.
    asked: Arc<OnceLock<String>>,
    /// K that the answer follows.
    holder: String,
    names: Vec<String>,
    keys: Vec<String>,
    stubs: bool,
}

impl Job {
    fn new<T>(shared: &Arc<Shared>, request: &Request<T>) -> Self {
        let arrived = Instant::now();
        let (longest, argocd) = match shared.current.get() {
            Ok(loaded) => (loaded.config.limits.request, loaded.config.argocd.namespace.clone()),
            Err(_) => (ConfigLimits::default().request, Namespace::argocd()),
        };
        let trace = request.metadata().get("traceparent").and_then(|value| TraceContext::parse(value.to_str().ok()?));
        Self {
            shared: Arc::clone(shared),
            arrived,
            deadline: deadline(request, arrived, longest),
            trace,
            stop: Arc::default(),
            argocd,
            last_call: request.extensions().get::<LastCall>().cloned(),
            audit: Audit::default(),
            asked: None,
            finished: false,
            _in_flight: shared.metrics.in_flight(),
        }
    }

    /// Gathers, lets core decide, and hands back what may be answered.
    async fn answer(&mut self, stream: &mut Streaming<AppStreamRequest>) -> Result<Vec<String>, Failure> {
        // Waiting happens here and not at accept: Argo CD would hang in a connection that nobody serves.
        let shared = Arc::clone(&self.shared);
        let _room = shared.room.acquire().await;
        let admitted = self.admit(stream).await?;
        let limits = UploadLimits::of(&admitted.loaded.config.limits);
        let application = Arc::clone(&admitted.application);
        let render = move |upload: Upload| admitted.render(upload);
        let (rendered, sent) = stream::take_in(stream, &application.checksum, limits, render).await?;
        shared.metrics.uploaded(sent, rendered.size.stream, rendered.size.kept);
        let Rendered { manifests, names, keys, holder, stubs, asked, size: _ } = rendered;
        self.asked = Some(asked);
        self.audit = Audit { holder, names, keys, stubs, ..std::mem::take(&mut self.audit) };
        Ok(manifests)
    }

    /// Reads the metadata, finds the rule and asks the witnesses for the first time.
    async fn admit(&mut self, stream: &mut Streaming<AppStreamRequest>) -> Result<Admitted, Failure> {
        let application = Arc::new(Application::parse(&stream::metadata(stream).await?)?);
        self.audit.application = Some(Arc::clone(&application));
        let loaded = self.shared.current.get()?;
        let position = loaded.admit(&application.asked())?;
        let rule = loaded.rule(position);
        self.audit.authority = rule.authority.to_string();
        let namespaces = application.namespaces(rule)?;
        let start = application.start()?;
        let hint = self.shared.known_epoch(&rule.authority);
        let (shared, stop) = (Arc::clone(&self.shared), Arc::clone(&self.stop));
        let observing = {
            let (shared, loaded, authority) = (Arc::clone(&shared), Arc::clone(&loaded), rule.authority.clone());
            // The question is out before the upload is, and the answer comes while that is taken in.
            tokio::spawn(async move { shared.witnesses.read(loaded.store(), &authority, hint).await })
        };
        let asked = Arc::clone(&self.audit.asked);
        Ok(Admitted { shared, stop, application, loaded, position, namespaces, start, observing, asked })
    }

    /// Until when values may leave; `None` where there are none.
    fn fresh_until(&self) -> Option<Instant> {
        let asked = self.asked.filter(|_| !self.audit.stubs)?;
        Some(self.deadline.min(asked + FRESH))
    }

    /// Counts, writes the audit line, and makes the error what leaves.
    fn finish(mut self, outcome: Result<Vec<String>, Failure>) -> Result<Vec<String>, Status> {
        self.finished = true;
        let answer = match &outcome {
            Ok(_) if self.audit.stubs => Answer::Stubs,
            Ok(_) => Answer::Values,
            Err(failure) => Answer::Refused(failure.code()),
        };
        self.tell(answer, outcome.as_ref().err());
        outcome.map_err(|failure| match &self.audit.application {
            Some(application) => failure.status(&application.refresh(&self.argocd)),
            None => failure.status(HARD_REFRESH),
        })
    }

    /// One line an answer: who asked for what, and what came of it.
    fn tell(&self, answer: Answer, failure: Option<&Failure>) {
        let took = self.arrived.elapsed();
        self.shared.metrics.answered(answer, took);
        self.shared.metrics.data_keys(self.shared.data_keys.counts());
        let (decision, code) = match answer {
            Answer::Values => ("values", Code::P4),
            Answer::Stubs => ("stubs", Code::P2),
            Answer::Refused(code) => ("refused", code),
            Answer::Abandoned => ("abandoned", Code::Late),
        };
        let Audit { application, authority, asked, holder, names, keys, .. } = &self.audit;
        let holder = asked.get().filter(|_| holder.is_empty()).unwrap_or(holder);
        let application = application.as_deref();
        let of = |field: fn(&Application) -> &str| application.map(field).unwrap_or_default();
        tracing::info!(
            application = of(|application| &application.name),
            project = of(|application| &application.project),
            repository = application.map(Application::repository).unwrap_or_default(),
            path = of(|application| &application.path),
            target_revision = of(|application| &application.target_revision),
            revision = of(|application| &application.revision),
            authority,
            holder,
            decision,
            code = code.entry().name,
            names = names.join(", "),
            keys = keys.join(", "),
            problem = failure.map(ToString::to_string).unwrap_or_default(),
            trace = self.trace.map(|trace| trace.to_string()).unwrap_or_default(),
            milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "answered"
        );
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.stop.stop();
        if !self.finished {
            self.tell(Answer::Abandoned, None);
        }
    }
}

/// A request that a rule allows, with everything that its answer is a function of except the upload.
struct Admitted {
    shared: Arc<Shared>,
    stop: Arc<Stop>,
    application: Arc<Application>,
    loaded: Arc<Loaded>,
    /// The rule's.
    position: usize,
    /// What the Application wants of the rule's.
    namespaces: Vec<String>,
    /// The folder of the repository at which the upload starts, `""` for its top.
    start: String,
    /// The witnesses when the request arrived.
    observing: JoinHandle<Observed>,
    /// For the audit log.
    asked: Arc<OnceLock<String>>,
}

/// An answer, and what the audit log says of it.
struct Rendered {
    manifests: Vec<String>,
    names: Vec<String>,
    keys: Vec<String>,
    holder: String,
    stubs: bool,
    /// When the witnesses were asked that this answer follows.
    asked: Instant,
    size: UploadSize,
}

/// The root in an upload, and the part of it that was asked for.
struct Root {
    gathered: Gathered,
    /// `None` for all of it.
    folder: Option<FilePath>,
    bootstrap: Arc<Bootstrap>,
    size: UploadSize,
}

impl Admitted {
    /// Renders what was uploaded. The witnesses are asked again when everything is ready to leave: if Vault took
    /// over meanwhile, the answer is the stubs, and not one of the values.
    fn render(mut self, upload: Upload) -> Result<Rendered, Failure> {
        let root = self.root(upload)?;
        let first = Handle::current().block_on(&mut self.observing).map_err(|_| Failure::Bug)?;
        drop(self.asked.set(first.holder.to_string()));
        // Of a root that was never seen before: only now its epoch is known.
        let observed = if first.covers(root.bootstrap.epoch) { first } else { self.look(&root) };
        let observed = &observed;
        let rendered = self.rendering(&root, observed);
        let now = self.look(&root);
        let recheck = authority::recheck(&observed.holder, &now.holder);
        let is_current = self.shared.current.get().is_ok_and(|current| Arc::ptr_eq(&current, &self.loaded));
        if recheck != Ok(Recheck::Same) || !is_current {
            // What was unwrapped meanwhile, for a holder or with keys that are none any more, is not kept.
            self.shared.data_keys.forget();
        }
        match recheck {
            Ok(Recheck::Same) => rendered.map(|rendered| Rendered { asked: now.at, ..rendered }),
            Ok(Recheck::NowStubs) => {
                drop(rendered);
                self.rendering(&root, &now)
            }
            // What was wrong before is still the reason.
            Err(moved) => rendered.and_then(|_values| Err(Refusal::from(moved).into())),
        }
    }

    /// Asks the witnesses, from a thread that may wait.
    fn look(&self, root: &Root) -> Observed {
        let authority = &self.loaded.rule(self.position).authority;
        let reading = self.shared.witnesses.read(self.loaded.store(), authority, Some(root.bootstrap.epoch));
        Handle::current().block_on(reading)
    }

    /// Finds the root that the rule is for, and in it the folder that the Application names.
    fn root(&self, upload: Upload) -> Result<Root, Failure> {
        let rule = self.loaded.rule(self.position);
        let size = upload.size();
        let not_uploaded = || Failure::NotUploaded { bootstrap: rule.bootstrap.to_string() };
        let bootstrap = match self.start.as_str() {
            "" => Some(rule.bootstrap.clone()),
            start => rule
                .bootstrap
                .as_str()
                .strip_prefix(start)
                .and_then(|rest| rest.strip_prefix('/'))
                .map(|inside| FilePath::parse(inside).map_err(|_| Failure::Bug))
                .transpose()?,
        };
        let bootstrap = bootstrap.filter(|bootstrap| upload.has(bootstrap)).ok_or_else(not_uploaded)?;
        // Where links lead is what counts: a folder that a rule allows may be a link to one that it does not.
        let real = joined(&self.start, &upload.folder(&self.application.folder)?);
        let top = folder_of(rule.bootstrap.as_str());
        let folder = inside(top, &real).filter(|_| rule.allows_path(&real));
        let folder = folder.ok_or_else(|| Failure::Outside { folder: real.clone(), root: top.to_owned() })?;
        let folder = match folder {
            "" => None,
            folder => Some(FilePath::parse(folder).map_err(|bad| Failure::Request(format!("names {bad}")))?),
        };
        let gathered = upload.gathered(&bootstrap)?;
        let bootstrap = self.shared.bootstrap(&rule.authority, &gathered.files)?.ok_or_else(not_uploaded)?;
        Ok(Root { gathered, folder, bootstrap, size })
    }

    /// Decides by what was observed, and writes every manifest.
    fn rendering(&self, root: &Root, observed: &Observed) -> Result<Rendered, Failure> {
        let rule = self.loaded.rule(self.position);
        let place = Place {
            root: Some(folder_of(rule.bootstrap.as_str()).to_owned()),
            other_bootstraps: other_bootstraps(&root.gathered),
            admitted_by: Some(rule.authority.clone()),
            recorded_root: observed.evidence.recorded_root(),
        };
        let Observed { evidence, holder, at } = observed;
        let ruling = authority::rule(&root.bootstrap, &place, holder, evidence.documents_of(holder));
        let ruling = ruling.map_err(Refusal::from)?.settled_by(evidence);
        let none = Keyring::default();
        let (keyring, stubs) = match ruling.mode() {
            Mode::Values | Mode::Unasked => (self.loaded.keyring(self.position)?, false),
            Mode::Stubs(_) => (&none, true),
        };
        let manifests = render::render(&render::Request {
            files: &root.gathered.files,
            folder: root.folder.as_ref(),
            bootstrap: Some(&root.bootstrap),
            ruling: &ruling,
            keys: Opener::new(keyring).sharing(&self.shared.data_keys).until(&self.stop),
            namespaces: &self.namespaces,
            limits: &Limits { document: self.loaded.config.limits.document, ..Limits::default() },
            door: Door::ArgoCd,
        })?;
        Ok(Rendered {
            names: manifests.iter().map(|manifest| manifest.identity().to_string()).collect(),
            manifests: lines(manifests)?,
            keys: keyring.describe(),
            holder: holder.to_string(),
            stubs,
            asked: *at,
            size: root.size,
        })
    }
}

/// Every manifest as one line of JSON, within what Argo CD's client takes in one message.
fn lines(manifests: Vec<Manifest>) -> Result<Vec<String>, Failure> {
    let line = |manifest: Manifest| {
        #[expect(clippy::disallowed_methods, reason = "the one exit of manifests to Argo CD")]
        let bytes = manifest.into_bytes(Encoding::Json)?;
        #[expect(clippy::disallowed_methods, reason = "the same exit: the answer owns its text")]
        let text = String::from_utf8(bytes.expose().to_vec());
        text.map_err(|_| Failure::Bug)
    };
    let lines = manifests.into_iter().map(line).collect::<Result<Vec<_>, _>>()?;
    // A tag and a length of at most five bytes stand before each.
    let size: usize = lines.iter().map(|line| line.len() + 6).sum();
    if size > MAX_MESSAGE { Err(Failure::AnswerTooLarge { limit: MAX_MESSAGE }) } else { Ok(lines) }
}

/// `.` for a file at the top.
fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(folder, _)| folder)
}

/// A folder of the upload as the repository names it.
fn joined(start: &str, folder: &str) -> String {
    match (start, folder) {
        ("", folder) => folder.to_owned(),
        (start, ".") => start.to_owned(),
        (start, folder) => format!("{start}/{folder}"),
    }
}

/// What is left of `folder` below `top`, `""` for the top itself; `None` outside.
fn inside<'f>(top: &str, folder: &'f str) -> Option<&'f str> {
    match (top, folder) {
        (".", ".") => Some(""),
        (".", folder) => Some(folder),
        (top, folder) => match folder.strip_prefix(top)? {
            "" => Some(""),
            rest => rest.strip_prefix('/'),
        },
    }
}

/// The way to make Argo CD ask again, where the Application is not known.
const HARD_REFRESH: &str = "argocd app get NAME --hard-refresh";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_outside_the_root_is_not_inside_it_by_its_name_alone() {
        assert_eq!(inside("clusters/prod", "clusters/prod"), Some(""));
        assert_eq!(inside("clusters/prod", "clusters/prod/app"), Some("app"));
        assert_eq!(inside("clusters/prod", "clusters/prod-2"), None);
        assert_eq!(inside("clusters/prod", "clusters"), None);
        assert_eq!(inside(".", "clusters"), Some("clusters"));
        assert_eq!(inside(".", "."), Some(""));
    }

    #[test]
    fn the_answer_is_due_before_argo_cd_stops_listening_and_within_the_bound() {
        let due = |timeout: Option<&str>| {
            let mut request = Request::new(());
            if let Some(timeout) = timeout {
                request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
            }
            let arrived = Instant::now();
            deadline(&request, arrived, Duration::from_secs(60)) - arrived
        };
        assert_eq!(due(None), Duration::from_secs(60));
        assert_eq!(due(Some("10S")), Duration::from_millis(9_900));
        assert_eq!(due(Some("99999999H")), Duration::from_secs(60));
        // What is left after a slow fetch can be next to nothing; half of it is used.
        assert_eq!(due(Some("100m")), Duration::from_millis(50));
        assert_eq!(due(Some("123456789S")), Duration::from_secs(60));
        assert_eq!(due(Some("S")), Duration::from_secs(60));
    }
}
