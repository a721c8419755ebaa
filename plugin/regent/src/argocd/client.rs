//! What Argo CD's repo-server does with a plugin's socket, done by a person: asks what the plugin would answer.
//!
//! The calls, their order and their fields are those of Argo CD 3.6 for an application that names its plugin
//! (`reposerver/repository/repository.go`, `util/cmp/stream.go`). The answer is as secret as the manifests are.

mod pack;

use std::error::Error as _;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_stream::Stream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use self::proto::app_stream_request::Request as Part;
use self::proto::config_management_plugin_service_client::ConfigManagementPluginServiceClient;
use self::proto::{AppStreamRequest, EnvEntry, File, ManifestRequestMetadata};
use super::proto;
use crate::failure::{Failure, one_line, reason};

pub(crate) use pack::{Packed, commit, folder};

/// What Argo CD knows of an application besides its files.
pub(crate) struct Application {
    /// Its name; `<namespace>_<name>` for one outside Argo CD's own namespace.
    pub(crate) name: String,
    /// The destination namespace; may be empty.
    pub(crate) namespace: String,
    /// Its project.
    pub(crate) project: String,
    /// The commit.
    pub(crate) revision: String,
    /// `spec.source.repoURL`.
    pub(crate) repo_url: String,
    /// `spec.source.path`, `.` for the repository's top.
    pub(crate) path: String,
    /// The base name of that folder.
    pub(crate) folder_name: String,
    /// `spec.source.targetRevision`.
    pub(crate) target_revision: String,
    /// `spec.source.plugin.env`.
    pub(crate) plugin_env: Vec<(String, String)>,
}

/// Sends the application's repository and gives the manifests of the answer.
pub(crate) fn ask(
    socket: &Path,
    application: &Application,
    packed: &Packed,
    timeout: Duration,
) -> Result<Vec<String>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("ask", socket, &error))?;
    let asked = Asked { socket, deadline: Instant::now() + timeout, timeout };
    let answer = async { tokio::time::timeout(timeout, asked.ask(application, packed)).await };
    runtime.block_on(answer).unwrap_or_else(|_elapsed| Err(asked.late()))
}

/// The largest message, both ways, in bytes: `ARGOCD_GRPC_MAX_SIZE_MB`'s default.
const MAX_MESSAGE_BYTES: usize = 100 << 20;
/// A piece of the upload, in bytes: `ARGOCD_CMP_CHUNK_SIZE`'s default.
const CHUNK_BYTES: usize = 1024;
/// The longest sentence shown of a plugin, in letters; Argo CD shows all of it.
const MAX_SENTENCE: usize = 1000;
/// How much earlier than the deadline the time that was sent may be over: it is rounded on its way.
const CLOCK: Duration = Duration::from_millis(5);

/// One rendering, asked of one socket.
struct Asked<'a> {
    socket: &'a Path,
    deadline: Instant,
    timeout: Duration,
}

impl Asked<'_> {
    async fn ask(&self, application: &Application, packed: &Packed) -> Result<Vec<String>, Failure> {
        let mut plugin = ConfigManagementPluginServiceClient::new(self.dial().await?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        // Once to find the plugin, and once more to render.
        let found =
            plugin.check_plugin_configuration(self.request(())).await.map_err(|status| self.answered(&status))?;
        if found.get_ref().is_discovery_configured {
            let upload = self.request(parts(application, packed));
            let answer = plugin.match_repository(upload).await.map_err(|status| self.answered(&status))?;
            if answer.get_ref().is_discovery_enabled && !answer.get_ref().is_supported {
                return Err(Failure::Plugin { message: "it does not support this repository (discovery)".to_owned() });
            }
        }
        plugin.check_plugin_configuration(self.request(())).await.map_err(|status| self.answered(&status))?;
        let upload = self.request(parts(application, packed));
        let answer = plugin.generate_manifest(upload).await.map_err(|status| self.answered(&status))?;
        Ok(answer.into_inner().manifests)
    }

    async fn dial(&self) -> Result<Channel, Failure> {
        let cannot_connect =
            |reason: String| Failure::World { what: "connect to", name: self.socket.display().to_string(), reason };
        let path = self.socket.to_str().ok_or_else(|| cannot_connect("its name is not UTF-8".to_owned()))?;
        let endpoint = Endpoint::from_shared(format!("unix:{path}")).map_err(|error| cannot_connect(cause(&error)))?;
        // Without an address of its own: Argo CD's has a form that most servers refuse.
        let endpoint = endpoint.origin(http_localhost());
        endpoint.connect().await.map_err(|error| cannot_connect(cause(&error)))
    }

    /// A request that tells the plugin how much time is left.
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline.saturating_duration_since(Instant::now()));
        request
    }

    /// What a call ended with: the plugin's own sentence, or what happened to the connection.
    fn answered(&self, status: &Status) -> Failure {
        if Instant::now() + CLOCK >= self.deadline && !matches!(status.code(), Code::DeadlineExceeded) {
            return self.late();
        }
        if status.source().is_some() {
            return Failure::World {
                what: "ask",
                name: self.socket.display().to_string(),
                reason: format!("the connection ended: {}", cause(status)),
            };
        }
        let sentence: String = one_line(status.message()).chars().take(MAX_SENTENCE).collect();
        Failure::Plugin { message: format!("{sentence} ({:?})", status.code()) }
    }

    fn late(&self) -> Failure {
        Failure::Plugin { message: format!("no answer within {} s", self.timeout.as_secs()) }
    }
}

fn http_localhost() -> tonic::transport::Uri {
    tonic::transport::Uri::from_static("http://localhost")
}

/// The innermost reason, which is the system's own word.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    match cause.downcast_ref::<std::io::Error>() {
        Some(error) => reason(error),
        None => one_line(&cause.to_string()),
    }
}

/// The messages of an upload: what it is, then its bytes in pieces.
fn parts(application: &Application, packed: &Packed) -> impl Stream<Item = AppStreamRequest> + use<> {
    let metadata = ManifestRequestMetadata {
        app_name: application.folder_name.clone().into(),
        app_rel_path: application.path.clone().into(),
        checksum: packed.checksum.clone().into(),
        size: i64::try_from(packed.gzip.len()).unwrap_or(i64::MAX),
        env: application.env(),
    };
    let gzip = packed.gzip.clone();
    let chunk = move |at: usize| -> Bytes { gzip.slice(at..gzip.len().min(at + CHUNK_BYTES)) };
    let chunks = (0..packed.gzip.len()).step_by(CHUNK_BYTES).map(move |at| Part::File(File { chunk: chunk(at) }));
    let parts = std::iter::once(Part::Metadata(metadata)).chain(chunks);
    tokio_stream::iter(parts.map(|part| AppStreamRequest { request: Some(part) }))
}

impl Application {
    /// The environment, complete and in Argo CD's order. The cluster's version and APIs are sent empty, as nobody
    /// asked a cluster; so are parameters, as JSON's `null`.
    fn env(&self) -> Vec<EnvEntry> {
        let short = |length: usize| self.revision.get(..length).unwrap_or(&self.revision).to_owned();
        let own = [
            ("ARGOCD_APP_NAME", self.name.clone()),
            ("ARGOCD_APP_NAMESPACE", self.namespace.clone()),
            ("ARGOCD_APP_PROJECT_NAME", self.project.clone()),
            ("ARGOCD_APP_REVISION", self.revision.clone()),
            ("ARGOCD_APP_REVISION_SHORT", short(7)),
            ("ARGOCD_APP_REVISION_SHORT_8", short(8)),
            ("ARGOCD_APP_SOURCE_REPO_URL", self.repo_url.clone()),
            ("ARGOCD_APP_SOURCE_PATH", self.path.clone()),
            ("ARGOCD_APP_SOURCE_TARGET_REVISION", self.target_revision.clone()),
            ("KUBE_VERSION", String::new()),
            ("KUBE_API_VERSIONS", String::new()),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        let typed = self.plugin_env.iter().map(|(name, value)| (format!("ARGOCD_ENV_{name}"), value.clone()));
        let parameters = [("ARGOCD_APP_PARAMETERS".to_owned(), "null".to_owned())];
        let all = own.chain(typed).chain(parameters);
        all.map(|(name, value)| EnvEntry { name: name.into(), value: value.into() }).collect()
    }
}

#[cfg(test)]
mod tests;
