//! Over real connections, TLS and the socket, against a server on the loopback that answers as the API server does.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hyper_util::rt::{TokioExecutor, TokioIo};
use regent_sops::{DataKey, DataKeys, Plaintext};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::*;
use crate::reload::Origin;
use crate::tls::{self, Roots};

const ADDRESS: &str = "https://localhost:8200";
const DECRYPT: &str = "/v1/regent/prod/decrypt/app";
const KEY: [u8; 32] = *b"REGENT-CANARY a data key of ours";
const HANDOVER: &str = "6f1c7f0e-3d0b-4a44-9d57-0c1c5a4f5b11";

/// What the API server says, and how often it was asked.
struct Api {
    /// `spec` of the Authority; null: no witness may be read.
    authority: Mutex<Value>,
    /// How often it was asked for, and so for everything.
    reads: AtomicUsize,
    /// Whether the handover witness of the first epoch is there.
    handover: AtomicBool,
    /// How often that was asked for.
    handovers: AtomicUsize,
    /// `status` of a `TokenReview`; null: no answer but 500.
    review: Mutex<Value>,
    reviews: AtomicUsize,
}

async fn authority(State(api): State<Arc<Api>>) -> impl IntoResponse {
    api.reads.fetch_add(1, Ordering::SeqCst);
    let spec = api.authority.lock().unwrap().clone();
    if spec.is_null() {
        return (http::StatusCode::FORBIDDEN, json!({ "kind": "Status", "reason": "Forbidden" }).to_string());
    }
    (http::StatusCode::OK, json!({ "kind": "Authority", "spec": spec }).to_string())
}

async fn config_map(State(api): State<Arc<Api>>, UrlPath(name): UrlPath<String>) -> impl IntoResponse {
    let is_first = name == "regent-authority-prod-1";
    api.handovers.fetch_add(usize::from(is_first), Ordering::SeqCst);
    if api.authority.lock().unwrap().is_null() {
        return (http::StatusCode::FORBIDDEN, json!({ "kind": "Status", "reason": "Forbidden" }).to_string());
    }
    if is_first && api.handover.load(Ordering::SeqCst) {
        let mut witness = vault();
        witness["documents"] = json!([]);
        let data = json!({ "witness.json": witness.to_string() });
        return (http::StatusCode::OK, json!({ "kind": "ConfigMap", "immutable": true, "data": data }).to_string());
    }
    let status = json!({ "kind": "Status", "reason": "NotFound", "details": { "name": name } });
    (http::StatusCode::NOT_FOUND, status.to_string())
}

async fn token_review(State(api): State<Arc<Api>>, body: String) -> impl IntoResponse {
    api.reviews.fetch_add(1, Ordering::SeqCst);
    let asked: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(asked["spec"]["audiences"], json!([ADDRESS]));
    let status = api.review.lock().unwrap().clone();
    if status.is_null() {
        return (http::StatusCode::INTERNAL_SERVER_ERROR, "no".to_owned());
    }
    (http::StatusCode::CREATED, json!({ "kind": "TokenReview", "status": status }).to_string())
}

/// A running endpoint, with everything that it asks.
struct Stage {
    folder: tempfile::TempDir,
    api: Arc<Api>,
    current: Arc<Current>,
    certificate: Arc<Certificate>,
    address: SocketAddr,
    refusals: mpsc::Receiver<Refused>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

fn given(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/endpoint").join(name)
}

fn git() -> Value {
    json!({ "schema": 1, "authorityId": "prod", "authority": "git", "epoch": 2, "supersedes": HANDOVER })
}

fn vault() -> Value {
    json!({ "schema": 1, "authorityId": "prod", "authority": "vault", "epoch": 1, "handoverId": HANDOVER })
}

async fn stage() -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let api = Arc::new(Api {
        authority: Mutex::new(json!({ "schema": 1, "authorityId": "prod", "authority": "git", "epoch": 1 })),
        reads: AtomicUsize::new(0),
        handover: AtomicBool::new(false),
        handovers: AtomicUsize::new(0),
        review: Mutex::default(),
        reviews: AtomicUsize::new(0),
    });
    let routes = Router::new()
        .route("/apis/regent.dev/v1alpha1/authorities/prod", get(authority))
        .route("/api/v1/namespaces/kube-system/configmaps/{name}", get(config_map))
        .route("/apis/authentication.k8s.io/v1/tokenreviews", post(token_review))
        .with_state(Arc::clone(&api));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [],
        "clusters": [{ "name": "c", "cluster": { "server": format!("http://127.0.0.1:{port}") } }],
        "contexts": [{ "name": "c", "context": { "cluster": "c" } }],
    });
    std::fs::write(folder.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
    let key = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sops/tests/corpus/keys/age.txt");
    let rule = |authority: &str| {
        json!({
            "authority": authority, "bootstrap": format!("{authority}/regent.yaml"), "project": "p", "revisions": ["main"],
            "repo": "https://git.example/infra.git", "paths": ["**"], "namespaces": ["*"], "identities": [key],
        })
    };
    let source = json!({ "gitRepository": "flux-system/infra" });
    let config = json!({
        "apiVersion": "regent.dev/v1alpha1", "kind": "RegentConfig",
        "store": { "kind": "kubernetes", "kubeconfig": "kubeconfig" },
        "rules": [rule("prod"), rule("dev")],
        "flux": { "endpoint": ADDRESS, "artifacts": "http://localhost:9790", "applications": [
            { "authority": "prod", "kustomization": "team/app", "source": source },
            { "authority": "prod", "kustomization": "other/app", "source": source },
            { "authority": "prod", "kustomization": "accounts/app", "source": source, "serviceAccount": true },
            { "authority": "dev", "kustomization": "team/dev", "tokenSecret": "of-dev", "source": source },
        ]},
    });
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, config.to_string()).unwrap();
    let (metrics, data_keys) = (Metrics::new(), Arc::new(DataKeys::new(1, 1)));
    let current = Arc::new(Current::start(Origin { file, demo: false }, Arc::clone(&data_keys), metrics.clone()));
    let witnesses = Arc::new(Witnesses::new(data_keys, metrics.clone()));
    let (told, refusals) = mpsc::channel(8);
    let endpoint = Arc::new(Endpoint::new(Arc::clone(&current), witnesses, metrics.clone(), told));
    for part in ["crt", "key"] {
        std::fs::copy(given(&format!("one.{part}")), folder.path().join(format!("tls.{part}"))).unwrap();
    }
    let [chain, key] = ["tls.crt", "tls.key"].map(|name| folder.path().join(name));
    let certificate = Arc::new(Certificate::start(chain, key, metrics).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let socket = UnixListener::bind(folder.path().join("s")).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let (_never, replacements) = mpsc::unbounded_channel();
    let listeners = Listeners { tls: Some((listener, Arc::clone(&certificate))), socket: Some(socket), replacements };
    let ending = Ending {
        end: async { drop(stopped.await) },
        linger: Duration::from_millis(200),
        hurry: std::future::pending(),
        unlink: || {},
    };
    let server = Some(tokio::spawn(serve(listeners, endpoint, ending)));
    Stage { folder, api, current, certificate, address, refusals, stop: Some(stop), server }
}

/// Status and JSON of an answer.
type Answered = (u16, Value);

impl Stage {
    /// Both witnesses.
    fn says(&self, authority: Value) {
        let is_handed_over = authority["authority"] == "vault" || authority["epoch"] == 2;
        self.api.handover.store(is_handed_over, Ordering::SeqCst);
        *self.api.authority.lock().unwrap() = authority;
    }

    /// The token of a namespace in an epoch.
    fn token(&self, epoch: u64, namespace: &str) -> String {
        let (prod, epoch) = (AuthorityName::parse("prod").unwrap(), Epoch::new(epoch).unwrap());
        let context = bound::token_context(&prod, epoch, &Namespace::parse(namespace).unwrap());
        self.current.get().unwrap().wrapping_keys(&prod).unwrap().token(&context).unwrap().to_string()
    }

    /// What an artifact's stanza holds: the data key, bound to this Kustomization.
    fn enc(&self, epoch: u64, kustomization: &str) -> String {
        let authority = AuthorityName::parse("prod").unwrap();
        let bound = Bound {
            authority: authority.clone(),
            epoch: Epoch::new(epoch).unwrap(),
            kustomization: ObjectName::parse(kustomization).unwrap(),
        };
        let key = DataKey::from_plaintext(&Plaintext::new(KEY.to_vec())).unwrap();
        let loaded = self.current.get().unwrap();
        bound.enc(&loaded.wrapping_keys(&authority).unwrap().wrap(&key, &bound.context()).unwrap())
    }

    async fn tls(
        &self,
        protocols: &[&str],
        roots: &str,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut client = tls::client(&Roots::File(given(roots)), None).unwrap();
        client.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(client)).connect(name, stream).await
    }

    /// One request as kustomize-controller sends it: on a connection of its own.
    async fn put(&self, path: &str, token: &str, body: &Value) -> Answered {
        let stream = self.tls(&["h2", "http/1.1"], "one.crt").await.unwrap();
        exchange(stream, &head("PUT", path, token), body.to_string().as_bytes()).await
    }

    async fn decrypt(&self, token: &str, enc: &str) -> Answered {
        self.put(DECRYPT, token, &json!({ "ciphertext": enc })).await
    }
}

fn head(method: &str, path: &str, token: &str) -> String {
    let token = if token.is_empty() { String::new() } else { format!("X-Vault-Token: {token}\r\n") };
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Vault-Request: true\r\n{token}")
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, head: &str, body: &[u8]) -> Answered {
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.to_lowercase().contains("content-type: application/json"), "{head}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

/// The one sentence of a refusal.
#[track_caller]
fn refused((status, body): &Answered) -> (u16, String) {
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    let errors = body["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 1, "{body}");
    let sentence = errors[0].as_str().unwrap();
    assert!(
        sentence.starts_with("regent[") && sentence.chars().count() < 200 && !sentence.contains('\n'),
        "{sentence}"
    );
    assert!(!sentence.contains("REGENT-CANARY") && !sentence.contains(&STANDARD.encode(KEY)), "{sentence}");
    (*status, sentence.to_owned())
}

fn key_in((status, body): &Answered) -> Vec<u8> {
    assert_eq!(*status, 200, "{body}");
    STANDARD.decode(body["data"]["plaintext"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_data_key_is_given_back_to_the_namespace_that_it_was_wrapped_for() {
    let stage = stage().await;
    let answer = stage.decrypt(&stage.token(1, "team"), &stage.enc(1, "team/app")).await;
    assert_eq!(key_in(&answer), KEY);
}

#[tokio::test]
async fn from_the_moment_that_vault_rules_nothing_is_given_and_the_kustomization_is_told() {
    let mut stage = stage().await;
    let (token, enc) = (stage.token(1, "team"), stage.enc(1, "team/app"));
    assert_eq!(stage.decrypt(&token, &enc).await.0, 200);
    stage.says(vault());
    let (status, sentence) = refused(&stage.decrypt(&token, &enc).await);
    assert!(status == 403 && sentence.contains("Vault is the authority for prod now"), "{status} {sentence}");
    let told = stage.refusals.recv().await.unwrap();
    assert_eq!((told.kustomization.to_string().as_str(), &told.sentence), ("team/app", &sentence));
    let plain = json!({ "plaintext": STANDARD.encode(KEY) });
    let (status, _) = refused(&stage.put("/v1/regent/prod/encrypt/app", &token, &plain).await);
    assert_eq!(status, 403, "encrypting ends with it");
}

#[tokio::test]
async fn every_request_reads_the_witnesses_again() {
    let stage = stage().await;
    let (token, enc) = (stage.token(1, "team"), stage.enc(1, "team/app"));
    for _ in 0..4 {
        let before = quiet(&stage).await;
        let stream = stage.tls(&[], "one.crt").await.unwrap();
        let body = json!({ "ciphertext": enc }).to_string();
        let answer = exchange(stream, &head("PUT", DECRYPT, &token), body.as_bytes()).await;
        assert_eq!(answer.0, 200);
        // And what is read for the next one, which begins when this one is answered.
        let after = quiet(&stage).await;
        assert!(after >= before + 2, "{before} {after}");
    }
}

/// A handover writes its own witness first, the Authority after it.
#[tokio::test]
async fn from_the_moment_that_a_handover_begins_nothing_is_given_however_young_a_reading_is() {
    // A process that has seen Vault rule never forgets it: each round is another's.
    for round in 0..8 {
        let stage = stage().await;
        let (token, enc) = (stage.token(1, "team"), stage.enc(1, "team/app"));
        for _ in 0..=round {
            assert_eq!(stage.decrypt(&token, &enc).await.0, 200);
        }
        stage.api.handover.store(true, Ordering::SeqCst);
        assert_eq!(refused(&stage.decrypt(&token, &enc).await).0, 403);
    }
}

/// Nothing but a person's hand has the Authority say so first.
#[tokio::test]
async fn where_the_authority_alone_says_vault_nothing_is_given_a_moment_later() {
    let stage = stage().await;
    let (token, enc) = (stage.token(1, "team"), stage.enc(1, "team/app"));
    for _ in 0..4 {
        assert_eq!(stage.decrypt(&token, &enc).await.0, 200);
    }
    *stage.api.authority.lock().unwrap() = vault();
    tokio::time::sleep(foresight::EARLIER).await;
    assert_eq!(refused(&stage.decrypt(&token, &enc).await).0, 403);
}

/// Waits for a reading that nobody has asked for yet, or for as long as one would take.
async fn reads_within_a_moment(stage: &Stage, number: usize) -> bool {
    within_a_moment(|| stage.api.reads.load(Ordering::SeqCst) == number).await
}

/// How often the first epoch's witness was asked for, once nothing is being read.
async fn quiet(stage: &Stage) -> usize {
    let counted = || (stage.api.handovers.load(Ordering::SeqCst), stage.api.reads.load(Ordering::SeqCst));
    let (mut before, mut same) = (counted(), 0);
    while same < 3 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        let now = counted();
        same = if std::mem::replace(&mut before, now) == now { same + 1 } else { 0 };
    }
    before.0
}

async fn within_a_moment(holds: impl Fn() -> bool) -> bool {
    for _ in 0..50 {
        if holds() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    false
}

#[tokio::test]
async fn for_who_was_given_a_data_key_the_reading_begins_with_his_next_connection_and_for_nobody_else() {
    let stage = stage().await;
    let (token, enc) = (stage.token(1, "team"), stage.enc(1, "team/app"));
    let stranger = stage.tls(&[], "one.crt").await.unwrap();
    assert!(!reads_within_a_moment(&stage, 1).await, "it read for somebody who proved nothing");
    drop(stranger);
    assert_eq!(refused(&stage.decrypt("s.another", &enc).await).0, 403);
    drop(stage.tls(&[], "one.crt").await.unwrap());
    assert!(!reads_within_a_moment(&stage, 1).await, "it read for somebody who was refused");

    assert_eq!(stage.decrypt(&token, &enc).await.0, 200);
    assert!(reads_within_a_moment(&stage, 2).await, "nothing was read ahead");
    let before = quiet(&stage).await;
    let stream = stage.tls(&[], "one.crt").await.unwrap();
    assert!(within_a_moment(|| stage.api.handovers.load(Ordering::SeqCst) > before).await, "it waited for the request");
    drop(stream);
}

#[tokio::test]
async fn what_was_read_too_early_is_read_again() {
    let stage = stage().await;
    let (token, enc) = (stage.token(1, "team"), stage.enc(1, "team/app"));
    let body = json!({ "ciphertext": enc }).to_string();
    assert_eq!(stage.decrypt(&token, &enc).await.0, 200);
    let before = quiet(&stage).await;
    let stream = stage.tls(&[], "one.crt").await.unwrap();
    assert!(within_a_moment(|| stage.api.handovers.load(Ordering::SeqCst) > before).await);
    quiet(&stage).await;
    let before = stage.api.reads.load(Ordering::SeqCst);
    // The connection waits, and Vault comes to rule meanwhile.
    stage.says(vault());
    tokio::time::sleep(foresight::EARLIER * 2).await;
    let (status, sentence) = refused(&exchange(stream, &head("PUT", DECRYPT, &token), body.as_bytes()).await);
    assert!(status == 403 && sentence.contains("Vault is the authority for prod now"), "{status} {sentence}");
    assert_eq!(stage.api.reads.load(Ordering::SeqCst), before + 1, "the one of the request");
}

/// Somebody who was given a data key just now, without connections.
struct Expected {
    stage: Stage,
    witnesses: Arc<Witnesses>,
    loaded: Arc<Loaded>,
    foresight: Foresight,
}

impl Expected {
    /// Everything was read ahead.
    async fn new() -> Self {
        let stage = stage().await;
        let witnesses = Arc::new(Witnesses::new(Arc::new(DataKeys::new(1, 1)), Metrics::new()));
        let (loaded, foresight) = (stage.current.get().unwrap(), Foresight::default());
        let it = Self { stage, witnesses, loaded, foresight };
        it.foresight.given_to(&it.arrival(), &prod(), &it.loaded, &it.witnesses);
        assert!(reads_within_a_moment(&it.stage, 1).await, "nothing was read ahead");
        tokio::time::sleep(Duration::from_millis(2)).await;
        it
    }

    fn arrival(&self) -> Arrival {
        let peer = "192.0.2.1".parse().unwrap();
        self.foresight.arrival(peer, Some(Arc::clone(&self.loaded)), &self.witnesses)
    }

    async fn is_git(&self, arrival: &Arrival) -> bool {
        matches!(arrival.read(&self.loaded, &self.witnesses, &prod()).await.holder, Holder::Git { .. })
    }

    fn reads(&self) -> usize {
        self.stage.api.reads.load(Ordering::SeqCst)
    }
}

fn prod() -> AuthorityName {
    AuthorityName::parse("prod").unwrap()
}

#[tokio::test]
async fn an_early_reading_is_read_again_once_somebody_saw_the_witnesses_move() {
    let it = Expected::new().await;
    assert!(it.is_git(&it.arrival()).await);
    let before = it.stage.api.handovers.load(Ordering::SeqCst);
    let early = it.arrival();
    let begins = || it.stage.api.handovers.load(Ordering::SeqCst) > before;
    assert!(within_a_moment(begins).await, "the reading did not begin");
    it.stage.says(vault());
    let now = it.witnesses.read(it.loaded.store(), &prod(), None).await.holder;
    assert!(!matches!(now, Holder::Git { .. }));
    assert!(!it.is_git(&early).await, "what was seen meanwhile was passed over");
}

#[tokio::test]
async fn beside_a_young_reading_the_witness_that_a_handover_begins_with_is_asked_for_alone() {
    let mut alone = 0;
    for _ in 0..20 {
        let it = Expected::new().await;
        let before = it.reads();
        assert!(it.is_git(&it.arrival()).await);
        // Otherwise this machine was slow, and everything was read.
        alone += usize::from(it.reads() == before);
        it.stage.api.handover.store(true, Ordering::SeqCst);
        assert!(!it.is_git(&it.arrival()).await);
    }
    assert!(alone > 0);
}

#[tokio::test]
async fn what_was_read_by_another_file_of_the_operator_is_no_use() {
    let mut it = Expected::new().await;
    let file = it.stage.folder.path().join("config.yaml");
    std::fs::write(&file, format!("{}\n", std::fs::read_to_string(&file).unwrap())).unwrap();
    it.stage.current.refresh();
    let loaded = it.stage.current.get().unwrap();
    assert_ne!(loaded.generation, it.loaded.generation);
    it.loaded = loaded;
    let before = it.reads();
    assert!(it.is_git(&it.arrival()).await);
    assert_eq!(it.reads(), before + 1);
}

#[tokio::test]
async fn who_has_no_token_learns_nothing_and_makes_nobody_work() {
    let stage = stage().await;
    let (token, enc) = (stage.token(1, "team"), stage.enc(1, "team/app"));
    let body = json!({ "ciphertext": enc });
    let mut sentences = Vec::new();
    for (path, token) in [
        (DECRYPT, ""),
        (DECRYPT, "s.another"),
        (DECRYPT, "regent-login:team:app:99999999999:AAAA"),
        (DECRYPT, stage.token(2, "team").as_str()),
        (DECRYPT, stage.token(1, "accounts").as_str()),
        (DECRYPT, stage.token(1, "nobody").as_str()),
        ("/v1/regent/none/decrypt/app", token.as_str()),
        ("/v1/regent/dev/decrypt/app", token.as_str()),
        ("/v1/transit/decrypt/app", token.as_str()),
        ("/v1/regent/prod/decrypt/none", ""),
    ] {
        sentences.push(refused(&stage.put(path, token, &body).await));
    }
    sentences.dedup();
    let [(403, sentence)] = sentences.as_slice() else { panic!("{sentences:?}") };
    assert!(sentence.starts_with("regent[token]"), "{sentence}");
    assert_eq!(stage.api.reads.load(Ordering::SeqCst), 0, "the API server was not asked");
}

#[tokio::test]
async fn what_belongs_to_another_is_refused_with_a_sentence_that_says_so() {
    let mut stage = stage().await;
    let (team, other) = (stage.token(1, "team"), stage.token(1, "other"));
    let damaged = format!("{}AAAA", stage.enc(1, "team/app").split_at(40).0);
    for (token, enc, says) in [
        (&team, stage.enc(1, "other/app"), "made for Kustomization other/app, and the token is of namespace team"),
        (&other, stage.enc(1, "team/app"), "made for Kustomization team/app, and the token is of namespace other"),
        (&team, stage.enc(1, "team/web"), "its stanza was changed"),
        (&team, "vault:v1:QUJD".to_owned(), "not encrypted to regent"),
        (&team, damaged, "data key"),
        // Bound to somebody else, and said to be ours.
        (&team, stage.enc(1, "other/app").replace("other:app", "team:app"), "data key"),
    ] {
        let (status, sentence) = refused(&stage.decrypt(token, &enc).await);
        assert!(status == 403 && sentence.contains(says), "{says}: {status} {sentence}");
    }
    let told = stage.refusals.recv().await.unwrap();
    assert_eq!(told.kustomization.to_string(), "team/app", "the one that asked, never the one that was copied from");
}

#[tokio::test]
async fn an_artifact_of_another_epoch_is_an_old_one() {
    let stage = stage().await;
    let (token, enc) = (stage.token(1, "team"), stage.enc(1, "team/app"));
    stage.says(git());
    let (status, sentence) = refused(&stage.decrypt(&token, &enc).await);
    assert!(status == 403 && sentence.contains("epoch 1"), "{status} {sentence}");
    // And the old token opens nothing of the new epoch.
    assert_eq!(refused(&stage.decrypt(&token, &stage.enc(2, "team/app")).await).0, 403);
}

#[tokio::test]
async fn only_passing_trouble_is_worth_asking_again() {
    let stage = stage().await;
    let (token, enc) = (stage.token(1, "team"), stage.enc(1, "team/app"));
    stage.says(Value::Null);
    let (status, sentence) = refused(&stage.decrypt(&token, &enc).await);
    assert!(status == 503 && sentence.starts_with("regent[P1]"), "{status} {sentence}");
    assert_eq!(refused(&stage.decrypt("s.another", &enc).await).0, 403);
    // After a handover that was seen, that is the answer all the same.
    stage.says(vault());
    assert_eq!(refused(&stage.decrypt(&token, &enc).await).0, 403);
    stage.says(Value::Null);
    assert_eq!(refused(&stage.decrypt(&token, &enc).await).0, 403);
}

#[tokio::test]
async fn what_a_person_encrypts_is_opened_for_the_same_kustomization() {
    let stage = stage().await;
    let token = stage.token(1, "team");
    let plain = json!({ "plaintext": STANDARD.encode(KEY) });
    let (status, body) = stage.put("/v1/regent/prod/encrypt/app", &token, &plain).await;
    let enc = body["data"]["ciphertext"].as_str().unwrap();
    assert!(status == 200 && enc.starts_with("regent:v1:prod:1:team:app:"), "{enc}");
    assert_eq!(key_in(&stage.decrypt(&token, enc).await), KEY);
    let (status, sentence) = refused(&stage.put("/v1/regent/prod/encrypt/web", &token, &plain).await);
    assert!(status == 403 && sentence.contains("no Kustomization team/web"), "{sentence}");
    assert_eq!(refused(&stage.put("/v1/regent/prod/encrypt/app", "s.another", &plain).await).0, 403);
}

#[tokio::test]
async fn hostile_requests_have_statuses_of_their_own_and_always_one_sentence() {
    let stage = stage().await;
    let token = stage.token(1, "team");
    let send = async |method: &str, path: &str, body: &[u8]| {
        let stream = stage.tls(&["http/1.1"], "one.crt").await.unwrap();
        refused(&exchange(stream, &head(method, path, &token), body).await).0
    };
    for body in [b"".as_slice(), b"[]", b"{", b"\xff\xfe", b"{\"ciphertext\":1}", &vec![b'['; 100_000]] {
        assert_eq!(send("PUT", DECRYPT, body).await, 400);
    }
    assert_eq!(send("PUT", DECRYPT, &vec![b'x'; MAX_BODY + 1]).await, 413);
    for path in ["/", "/v1/sys/health", "/v1/regent/prod/rewrap/app"] {
        assert_eq!(send("PUT", path, b"").await, 404, "{path}");
    }
    for method in ["GET", "DELETE", "LIST"] {
        assert_eq!(send(method, DECRYPT, b"").await, 405, "{method}");
    }
    let enc = json!({ "ciphertext": stage.enc(1, "team/app") }).to_string();
    let stream = stage.tls(&[], "one.crt").await.unwrap();
    let head = head("PUT", DECRYPT, &token) + "X-Vault-Namespace: team\r\n";
    let (status, sentence) = refused(&exchange(stream, &head, enc.as_bytes()).await);
    assert!(status == 403 && sentence.contains("VAULT_NAMESPACE"), "{sentence}");
}

#[tokio::test]
async fn a_large_ciphertext_is_taken_in_and_any_token_is_one() {
    let stage = stage().await;
    let enc = format!("regent:v1:prod:1:team:app:{}", "A".repeat(200_000));
    let (status, sentence) = refused(&stage.decrypt(&stage.token(1, "team"), &enc).await);
    assert!(status == 403 && sentence.starts_with("regent[release]"), "{sentence}");
}

#[tokio::test]
async fn the_socket_answers_plain_http() {
    let stage = stage().await;
    let body = json!({ "ciphertext": stage.enc(1, "team/app") }).to_string();
    let stream = UnixStream::connect(stage.folder.path().join("s")).await.unwrap();
    let answer = exchange(stream, &head("POST", DECRYPT, &stage.token(1, "team")), body.as_bytes()).await;
    assert_eq!(key_in(&answer), KEY);
}

#[tokio::test]
async fn http2_answers_what_was_asked_at_one_time_and_then_ends() {
    let stage = stage().await;
    let stream = stage.tls(&["h2"], "one.crt").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let body = json!({ "ciphertext": stage.enc(1, "team/app") }).to_string();
    let mut ask = || {
        let request = Request::put(format!("{ADDRESS}{DECRYPT}")).header("X-Vault-Token", stage.token(1, "team"));
        sender.send_request(request.body(Full::new(Bytes::from(body.clone()))).unwrap())
    };
    for answer in futures_util::future::join_all([ask(), ask(), ask()]).await {
        let answer = answer.unwrap();
        let (status, body) = (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes());
        assert_eq!(key_in(&(status, serde_json::from_slice(&body).unwrap())), KEY);
    }
    tokio::time::timeout(Duration::from_secs(2), connection).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_slow_client_keeps_nobody_waiting_and_the_end_loses_no_request() {
    let mut stage = stage().await;
    let (token, enc) = (stage.token(1, "team"), stage.enc(1, "team/app"));
    let _silent = TcpStream::connect(stage.address).await.unwrap();
    let body = json!({ "ciphertext": enc }).to_string();
    let mut slow = stage.tls(&["http/1.1"], "one.crt").await.unwrap();
    let head = format!("{}Content-Length: {}\r\n\r\n", head("PUT", DECRYPT, &token), body.len());
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.write_all(&body.as_bytes()[..10]).await.unwrap();
    assert_eq!(stage.decrypt(&token, &enc).await.0, 200, "others are served");
    stage.stop.take().unwrap().send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(stage.decrypt(&token, &enc).await.0, 200, "who does not know of the end yet is served");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(TcpStream::connect(stage.address).await.is_err(), "nobody listens any more");
    slow.write_all(&body.as_bytes()[10..]).await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // The silent one has a handshake's time.
    tokio::time::timeout(Duration::from_secs(8), stage.server.take().unwrap()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_new_certificate_counts_at_once_and_a_broken_one_never() {
    let stage = stage().await;
    let put = |name: &str, part: &str| {
        std::fs::copy(given(&format!("{name}.{part}")), stage.folder.path().join(format!("tls.{part}"))).unwrap();
        stage.certificate.refresh();
    };
    put("two", "crt");
    assert!(stage.tls(&[], "one.crt").await.is_ok(), "the key is not there yet");
    put("two", "key");
    assert!(stage.tls(&[], "two.crt").await.is_ok() && stage.tls(&[], "one.crt").await.is_err());
    std::fs::write(stage.folder.path().join("tls.crt"), "no certificate").unwrap();
    stage.certificate.refresh();
    assert!(stage.tls(&[], "two.crt").await.is_ok());
}

/// A JWT that the API server would have signed.
fn jwt(namespace: &str, account: &str, audience: &str, life: i64) -> String {
    let expires = i64::try_from(now()).unwrap() + life;
    let sub = format!("system:serviceaccount:{namespace}:{account}");
    let payload = json!({ "aud": [audience], "sub": sub, "exp": expires });
    ["e30", &URL_SAFE_NO_PAD.encode(payload.to_string()), "c2ln"].join(".")
}

fn vouches(namespace: &str, account: &str) -> Value {
    let user = json!({ "username": format!("system:serviceaccount:{namespace}:{account}") });
    json!({ "authenticated": true, "audiences": [ADDRESS], "user": user })
}

impl Stage {
    async fn login(&self, jwt: &str, role: &str, review: Value) -> Answered {
        *self.api.review.lock().unwrap() = review;
        self.put("/v1/auth/regent/login", "", &json!({ "jwt": jwt, "role": role })).await
    }
}

#[tokio::test]
async fn an_account_logs_in_once_a_reconcile_and_its_token_is_its_namespaces() {
    let stage = stage().await;
    let jwt = jwt("accounts", "flux", ADDRESS, 3600);
    let (status, body) = stage.login(&jwt, "accounts_flux", vouches("accounts", "flux")).await;
    assert_eq!(status, 200, "{body}");
    let token = body["auth"]["client_token"].as_str().unwrap();
    assert_eq!(key_in(&stage.decrypt(token, &stage.enc(1, "accounts/app")).await), KEY);
    assert_eq!(refused(&stage.decrypt(token, &stage.enc(1, "team/app")).await).0, 403);
    // What it says of itself cannot be changed.
    for forged in [token.replace(":flux:", ":flax:"), token.replace("accounts", "team"), token.replacen(":1", ":2", 1)]
    {
        assert_eq!(refused(&stage.decrypt(&forged, &stage.enc(1, "accounts/app")).await).0, 403, "{forged}");
    }
    assert_eq!(stage.login(&jwt, "accounts_flux", Value::Null).await.0, 200);
    assert_eq!(stage.api.reviews.load(Ordering::SeqCst), 1, "the API server's word holds for a while");
}

#[tokio::test]
async fn a_login_needs_its_own_audience_role_and_namespace_and_is_not_the_controllers() {
    let stage = stage().await;
    for (namespace, account, audience, role, review, says) in [
        ("accounts", "a", "https://other", "accounts_a", vouches("accounts", "a"), "for the audience"),
        ("accounts", "b", ADDRESS, "accounts_b", json!({ "authenticated": false }), "for the audience"),
        ("accounts", "c", ADDRESS, "accounts_c", vouches("accounts", "other"), "for the audience"),
        ("accounts", "d", ADDRESS, "team_d", vouches("accounts", "d"), "the role"),
        ("team", "e", ADDRESS, "team_e", vouches("team", "e"), "serviceAccount: true"),
        (
            "flux-system",
            "kustomize-controller",
            ADDRESS,
            "flux-system_kustomize-controller",
            vouches("flux-system", "kustomize-controller"),
            "stands for every namespace",
        ),
    ] {
        let answer = stage.login(&jwt(namespace, account, audience, 3600), role, review).await;
        let (status, sentence) = refused(&answer);
        assert!(status == 403 && sentence.contains(says), "{says}: {status} {sentence}");
    }
    assert_eq!(stage.login(&jwt("accounts", "f", ADDRESS, -1), "accounts_f", vouches("accounts", "f")).await.0, 403);
    assert_eq!(stage.login(&jwt("accounts", "g", ADDRESS, 60), "accounts_g", Value::Null).await.0, 503);
}

#[tokio::test]
async fn a_given_token_is_over_when_it_says_so_and_is_one_authoritys() {
    let stage = stage().await;
    let loaded = stage.current.get().unwrap();
    let (prod, dev) = (AuthorityName::parse("prod").unwrap(), AuthorityName::parse("dev").unwrap());
    let (keys, accounts) = (loaded.wrapping_keys(&prod).unwrap(), Namespace::parse("accounts").unwrap());
    let token = tokens::give([(&prod, keys)].into_iter(), &accounts, "flux", 1000).unwrap();
    let stands_for = |authority: &AuthorityName, now: u64| {
        let engine = Engine { authority, keys, flux: &loaded.config.flux };
        engine.namespace_of(&token, None, None, now).map(ToString::to_string)
    };
    assert_eq!(stands_for(&prod, 999).as_deref(), Some("accounts"));
    assert_eq!(stands_for(&prod, 1000), None);
    assert_eq!(stands_for(&dev, 999), None);
}

mod real;
