//! The upload as a server sees it: a plain tonic server that records what it gets.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Response, Streaming};

use super::proto::config_management_plugin_service_server::{
    ConfigManagementPluginService, ConfigManagementPluginServiceServer,
};
use super::proto::{
    CheckPluginConfigurationResponse, ManifestResponse, ParametersAnnouncementResponse, RepositoryResponse,
};
use super::*;

/// What the server answers an upload.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Manifests, when everything arrived.
    Manifests,
    /// An error, before the first byte of the repository.
    Early,
    /// Nothing, ever.
    Never,
    /// Half of a connection.
    HangUp,
    /// That it wants no such repository.
    NotMine,
}

/// What the server got.
#[derive(Default)]
struct Seen {
    calls: Vec<&'static str>,
    timeouts: Vec<Option<String>>,
    metadata: Option<ManifestRequestMetadata>,
    pieces: Vec<usize>,
    gzip: Vec<u8>,
}

struct Plugin {
    answer: Answer,
    seen: Arc<Mutex<Seen>>,
}

impl Plugin {
    fn note<T>(&self, call: &'static str, request: &Request<T>) {
        let timeout = request.metadata().get("grpc-timeout").map(|value| value.to_str().unwrap().to_owned());
        let mut seen = self.seen.lock().unwrap();
        seen.calls.push(call);
        seen.timeouts.push(timeout);
    }
}

#[tonic::async_trait]
impl ConfigManagementPluginService for Plugin {
    async fn check_plugin_configuration(
        &self,
        request: Request<()>,
    ) -> Result<Response<CheckPluginConfigurationResponse>, Status> {
        self.note("check", &request);
        let is_discovery_configured = self.answer == Answer::NotMine;
        Ok(Response::new(CheckPluginConfigurationResponse { is_discovery_configured, provide_git_creds: false }))
    }

    async fn generate_manifest(
        &self,
        request: Request<Streaming<AppStreamRequest>>,
    ) -> Result<Response<ManifestResponse>, Status> {
        self.note("generate", &request);
        match self.answer {
            Answer::Early => return Err(Status::failed_precondition("regent[P5]: no authority\nexists")),
            Answer::Never => std::future::pending().await,
            Answer::HangUp => panic!("the connection's task ends here"),
            Answer::Manifests | Answer::NotMine => {}
        }
        let mut upload = request.into_inner();
        while let Some(message) = upload.message().await? {
            let mut seen = self.seen.lock().unwrap();
            match message.request.unwrap() {
                Part::Metadata(metadata) => assert!(seen.metadata.replace(metadata).is_none()),
                Part::File(file) => {
                    assert!(seen.metadata.is_some(), "the metadata goes first");
                    seen.pieces.push(file.chunk.len());
                    seen.gzip.extend_from_slice(&file.chunk);
                }
            }
        }
        Ok(Response::new(ManifestResponse { manifests: vec!["{}".to_owned()], source_type: String::new() }))
    }

    async fn match_repository(
        &self,
        request: Request<Streaming<AppStreamRequest>>,
    ) -> Result<Response<RepositoryResponse>, Status> {
        self.note("match", &request);
        Ok(Response::new(RepositoryResponse { is_supported: false, is_discovery_enabled: true }))
    }

    async fn get_parameters_announcement(
        &self,
        _request: Request<Streaming<AppStreamRequest>>,
    ) -> Result<Response<ParametersAnnouncementResponse>, Status> {
        Err(Status::unimplemented("it has none"))
    }
}

/// Asks a server that answers so.
fn asked(answer: Answer, packed: &Packed, timeout: Duration) -> (Result<Vec<String>, Failure>, Seen) {
    let temp = tempfile::tempdir().unwrap();
    let socket = temp.path().join("p.sock");
    let seen = Arc::new(Mutex::new(Seen::default()));
    let plugin = Plugin { answer, seen: seen.clone() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = {
        let _inside = runtime.enter();
        UnixListener::bind(&socket).unwrap()
    };
    let service = ConfigManagementPluginServiceServer::new(plugin);
    let server =
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(UnixListenerStream::new(listener));
    runtime.spawn(server);
    let outcome = ask(&socket, &application(), packed, timeout);
    runtime.shutdown_background();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    (outcome, seen)
}

fn application() -> Application {
    Application {
        name: "argocd_prod".to_owned(),
        namespace: "app".to_owned(),
        project: "platform".to_owned(),
        revision: "0123456789abcdef0123456789abcdef01234567".to_owned(),
        repo_url: "https://git.example/infra.git".to_owned(),
        path: "clusters/prod".to_owned(),
        folder_name: "prod".to_owned(),
        target_revision: "main".to_owned(),
        plugin_env: vec![("TEAM".to_owned(), "a=b".to_owned())],
    }
}

const LIMIT: u64 = 64 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);

/// A folder with what a repository can hold, and the longest names.
fn work_tree() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    let top = temp.path();
    let long = format!("deep/{}/{}", "d".repeat(120), "f".repeat(120));
    for folder in ["clusters/prod", ".git", "empty", &*format!("deep/{}", "d".repeat(120))] {
        fs::create_dir_all(top.join(folder)).unwrap();
    }
    for (name, content) in [
        ("clusters/prod/db.yaml", "kind: Secret\n"),
        ("clusters/prod.yaml", "kind: ConfigMap\n"),
        (".git/HEAD", "ref: refs/heads/main\n"),
        (&*format!("{}.yaml", "n".repeat(95)), "a: 1\n"),
        (&*long, "long"),
        ("grün.yaml", "b: 2\n"),
        ("empty.yaml", ""),
    ] {
        fs::write(top.join(name), content).unwrap();
    }
    fs::write(top.join("large.bin"), noise(100_000)).unwrap();
    fs::set_permissions(top.join("clusters/prod.yaml"), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("../clusters/prod", top.join("empty/link")).unwrap();
    std::os::unix::fs::symlink(format!("../{long}"), top.join("empty/long-link")).unwrap();
    std::os::unix::net::UnixListener::bind(top.join("ignored.sock")).unwrap();
    temp
}

/// Bytes that gzip cannot make smaller.
fn noise(count: usize) -> Vec<u8> {
    (0_u32..).flat_map(|number| Sha256::digest(number.to_le_bytes())).take(count).collect()
}

/// An entry of a tar or of a folder.
#[derive(Debug, PartialEq, Eq)]
enum Thing {
    Folder,
    File { content: Vec<u8>, executable: bool },
    Link(PathBuf),
}

fn unpacked(gzip: &[u8]) -> Vec<(PathBuf, Thing)> {
    let mut archive = tar::Archive::new(GzDecoder::new(gzip));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().into_owned();
        assert!(!entry.path_bytes().ends_with(b"/"), "{}", name.display());
        let kind = entry.header().entry_type();
        let thing = if kind.is_dir() {
            Thing::Folder
        } else if kind.is_symlink() {
            Thing::Link(entry.link_name().unwrap().unwrap().into_owned())
        } else {
            assert!(kind.is_file(), "{kind:?}");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            Thing::File { content, executable: entry.header().mode().unwrap() & 0o111 != 0 }
        };
        (name, thing)
    });
    entries.collect()
}

/// Every entry below a folder that is a folder, a file or a link.
fn on_disk(top: &Path, inside: &Path, found: &mut BTreeMap<PathBuf, Thing>) {
    for entry in fs::read_dir(top.join(inside)).unwrap() {
        let entry = entry.unwrap();
        let name = inside.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            on_disk(top, &name, found);
            found.insert(name, Thing::Folder);
        } else if kind.is_symlink() {
            found.insert(name, Thing::Link(fs::read_link(entry.path()).unwrap()));
        } else if kind.is_file() {
            let executable = entry.metadata().unwrap().permissions().mode() & 0o111 != 0;
            found.insert(name, Thing::File { content: fs::read(entry.path()).unwrap(), executable });
        }
    }
}

#[test]
fn the_upload_is_the_work_tree_in_lexical_order_under_the_announced_checksum() {
    let tree = work_tree();
    let (outcome, seen) = asked(Answer::Manifests, &folder(tree.path(), LIMIT).ok().unwrap(), TIMEOUT);
    assert_eq!(outcome.ok().unwrap(), ["{}"]);

    let metadata = seen.metadata.unwrap();
    let checksum = format!("{:x}", Sha256::digest(&seen.gzip));
    assert_eq!(metadata.checksum, checksum.as_bytes());
    assert_eq!(usize::try_from(metadata.size).unwrap(), seen.gzip.len());
    let (last, whole) = seen.pieces.split_last().unwrap();
    assert!(whole.iter().all(|piece| *piece == 1024) && (1..=1024).contains(last), "Argo CD's default chunk");

    let got = unpacked(&seen.gzip);
    assert_eq!(got[0], (PathBuf::from("."), Thing::Folder));
    let names: Vec<&PathBuf> = got.iter().map(|(name, _)| name).collect();
    let at = |name: &str| names.iter().position(|known| known.as_path() == Path::new(name)).unwrap();
    assert!(at("clusters/prod") < at("clusters/prod/db.yaml"));
    assert!(at("clusters/prod/db.yaml") < at("clusters/prod.yaml"), "a walk goes into `prod` before `prod.yaml`");
    let mut expected = BTreeMap::from([(PathBuf::from("."), Thing::Folder)]);
    on_disk(tree.path(), Path::new(""), &mut expected);
    assert_eq!(got.into_iter().collect::<BTreeMap<_, _>>(), expected);
}

#[test]
fn the_calls_and_the_environment_come_in_argo_cds_order() {
    let tree = work_tree();
    let (_, seen) = asked(Answer::Manifests, &folder(tree.path(), LIMIT).ok().unwrap(), TIMEOUT);
    assert_eq!(seen.calls, ["check", "check", "generate"]);
    let metadata = seen.metadata.unwrap();
    assert_eq!((&*metadata.app_name, &*metadata.app_rel_path), (&b"prod"[..], &b"clusters/prod"[..]));
    let env: Vec<String> = metadata
        .env
        .iter()
        .map(|entry| format!("{}={}", str::from_utf8(&entry.name).unwrap(), str::from_utf8(&entry.value).unwrap()))
        .collect();
    assert_eq!(
        env,
        [
            "ARGOCD_APP_NAME=argocd_prod",
            "ARGOCD_APP_NAMESPACE=app",
            "ARGOCD_APP_PROJECT_NAME=platform",
            "ARGOCD_APP_REVISION=0123456789abcdef0123456789abcdef01234567",
            "ARGOCD_APP_REVISION_SHORT=0123456",
            "ARGOCD_APP_REVISION_SHORT_8=01234567",
            "ARGOCD_APP_SOURCE_REPO_URL=https://git.example/infra.git",
            "ARGOCD_APP_SOURCE_PATH=clusters/prod",
            "ARGOCD_APP_SOURCE_TARGET_REVISION=main",
            "KUBE_VERSION=",
            "KUBE_API_VERSIONS=",
            "ARGOCD_ENV_TEAM=a=b",
            "ARGOCD_APP_PARAMETERS=null",
        ]
    );
}

#[test]
fn a_plugin_that_answers_before_it_has_everything_is_heard() {
    let tree = tempfile::tempdir().unwrap();
    // More than any window: the upload cannot be finished before somebody reads it.
    fs::write(tree.path().join("large.bin"), noise(8 << 20)).unwrap();
    let (outcome, _) = asked(Answer::Early, &folder(tree.path(), LIMIT).ok().unwrap(), TIMEOUT);
    let Err(Failure::Plugin { message }) = outcome else { panic!("{:?}", outcome.err()) };
    assert_eq!(message, "regent[P5]: no authority\u{fffd}exists (FailedPrecondition)");
}

#[test]
fn a_plugin_is_told_its_time_and_waited_for_no_longer() {
    let tree = work_tree();
    let (outcome, seen) = asked(Answer::Never, &folder(tree.path(), LIMIT).ok().unwrap(), Duration::from_secs(1));
    let Err(Failure::Plugin { message }) = outcome else { panic!("{:?}", outcome.err()) };
    assert_eq!(message, "no answer within 1 s");
    assert_eq!(seen.timeouts.len(), 3);
    for timeout in seen.timeouts {
        let micros: u64 = timeout.unwrap().strip_suffix('u').unwrap().parse().unwrap();
        assert!((500_000..=1_000_000).contains(&micros), "{micros}");
    }
}

#[test]
fn a_connection_that_ends_is_an_error_and_no_answer() {
    let tree = work_tree();
    let (outcome, _) = asked(Answer::HangUp, &folder(tree.path(), LIMIT).ok().unwrap(), TIMEOUT);
    assert!(matches!(outcome, Err(Failure::World { .. })), "{:?}", outcome.err());
    let nobody =
        ask(&tree.path().join("gone.sock"), &application(), &folder(tree.path(), LIMIT).ok().unwrap(), TIMEOUT);
    let Err(Failure::World { what: "connect to", reason, .. }) = nobody else { panic!("{:?}", nobody.err()) };
    assert_eq!(reason, "no such file or directory");
}

#[test]
fn a_plugin_with_discovery_is_asked_whether_the_repository_is_its_own() {
    let tree = work_tree();
    let (outcome, seen) = asked(Answer::NotMine, &folder(tree.path(), LIMIT).ok().unwrap(), TIMEOUT);
    assert!(matches!(outcome, Err(Failure::Plugin { .. })), "{:?}", outcome.err());
    assert_eq!(seen.calls, ["check", "match"]);
}

#[test]
fn a_commit_is_sent_in_the_order_of_a_walk_and_without_git_itself() {
    let temp = tempfile::tempdir().unwrap();
    let repository = git2::Repository::init_bare(temp.path()).unwrap();
    let id = repository.blob(b"a: 1").unwrap();
    let link = repository.blob(b"../a.yaml").unwrap();
    let mut inner = repository.treebuilder(None).unwrap();
    inner.insert("b.yaml", id, 0o100_755).unwrap();
    inner.insert("link", link, 0o120_000).unwrap();
    let mut top = repository.treebuilder(None).unwrap();
    top.insert("a", inner.write().unwrap(), 0o040_000).unwrap();
    top.insert("a.yaml", id, 0o100_644).unwrap();
    let tree = repository.find_tree(top.write().unwrap()).unwrap();
    let who = git2::Signature::new("a", "a@example.org", &git2::Time::new(0, 0)).unwrap();
    let made = repository.commit(Some("refs/heads/main"), &who, &who, "one", &tree, &[]).unwrap();
    let packed = commit(&repository, &repository.find_commit(made).unwrap(), "repo", LIMIT).ok().unwrap();
    let file = |executable| Thing::File { content: b"a: 1".to_vec(), executable };
    let expected = [
        (".", Thing::Folder),
        ("a", Thing::Folder),
        ("a/b.yaml", file(true)),
        ("a/link", Thing::Link("../a.yaml".into())),
        ("a.yaml", file(false)),
    ];
    assert_eq!(unpacked(&packed.gzip), expected.map(|(name, thing)| (PathBuf::from(name), thing)));
}

#[test]
fn what_argo_cd_would_not_send_or_no_memory_should_hold_is_refused() {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir(tree.path().join("empty")).unwrap();
    let Err(Failure::World { reason, .. }) = folder(tree.path(), LIMIT) else { panic!() };
    assert!(reason.contains("holds no file"), "{reason}");
    fs::write(tree.path().join("large.bin"), noise(5000)).unwrap();
    let Err(Failure::World { reason, .. }) = folder(tree.path(), 4999) else { panic!() };
    assert!(reason.contains("more than 4999 bytes"), "{reason}");
}
