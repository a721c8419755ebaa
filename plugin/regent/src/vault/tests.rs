//! Against a server on the loopback that answers as OpenBao does, and keeps what it was asked. What the real one answers is
//! in `real.rs`.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use serde_json::{Value, json};

use super::*;

/// A request as it came.
struct Seen {
    what: String,
    headers: HeaderMap,
    body: Value,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

type Script = Box<dyn FnMut(&Seen, usize) -> Response<Body> + Send>;

/// A server whose answer to each request, counted from 0, a test says.
struct Fake {
    seen: Mutex<Vec<Seen>>,
    script: Mutex<Script>,
    address: String,
}

impl Fake {
    async fn serve(script: impl FnMut(&Seen, usize) -> Response<Body> + Send + 'static) -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let fake = Arc::new(Self { seen: Mutex::default(), script: Mutex::new(Box::new(script)), address });
        let routes = Router::new().fallback(answered).with_state(Arc::clone(&fake));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        fake
    }

    fn vault(&self, login: Login, patience: Duration) -> Vault {
        let place = WitnessedVault {
            address: self.address.clone(),
            namespace: "team".to_owned(),
            mount: "secret".to_owned(),
            prefix: "bootstrap/prod".to_owned(),
        };
        Vault::connect_in(&place, VaultAccess { login, patience, concurrency: 4 }, |_| None).unwrap()
    }

    /// What was asked, in order.
    fn asked(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|seen| seen.what.clone()).collect()
    }

    fn each<T>(&self, look: impl Fn(&Seen) -> T) -> Vec<T> {
        self.seen.lock().unwrap().iter().map(look).collect()
    }
}

async fn answered(State(fake): State<Arc<Fake>>, request: axum::extract::Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 64 << 20).await.unwrap();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    let seen = Seen { what: format!("{} {}", head.method, head.uri), headers: head.headers, body };
    let mut all = fake.seen.lock().unwrap();
    let response = (fake.script.lock().unwrap())(&seen, all.len());
    all.push(seen);
    response
}

#[expect(clippy::needless_pass_by_value, reason = "a test says a body where it is made")]
fn says(status: u16, body: impl ToString) -> Response<Body> {
    Response::builder().status(status).body(Body::from(body.to_string())).unwrap()
}

fn says_at(index: u64, mut response: Response<Body>) -> Response<Body> {
    let index = STANDARD.encode(json!({ "cluster": "c", "value": index.to_string() }).to_string());
    response.headers_mut().insert(INDEX, index.parse().unwrap());
    response
}

/// An answer that breaks off before its end: the server has done it, and nobody hears of it.
fn lost() -> Response<Body> {
    let half = tokio_stream::iter([Ok("{\"da"), Err(std::io::Error::other("gone"))]);
    Response::new(Body::from_stream(half))
}

fn written() -> Value {
    let version = json!({ "created_time": "T", "deletion_time": "", "destroyed": false, "version": 1 });
    json!({ "data": version, "warnings": null })
}

fn present(fields: &Value) -> Value {
    json!({ "data": { "data": fields, "metadata": written()["data"] }, "warnings": null })
}

fn exists() -> Response<Body> {
    says(403, json!({ "errors": ["1 error occurred:\n\t* permission denied\n\n"] }))
}

fn conflict() -> Response<Body> {
    says(400, json!({ "errors": ["check-and-set parameter did not match the current version"] }))
}

/// What a dead token hears.
fn over() -> Response<Body> {
    says(403, json!({ "errors": ["permission denied"] }))
}

fn auth(token: &str, ttl: u64, renewable: bool) -> Response<Body> {
    let auth = json!({ "client_token": token, "lease_duration": ttl, "renewable": renewable, "token_type": "service" });
    says(200, json!({ "auth": auth }))
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn a_token() -> Login {
    Login::Token(Token::read(file("s.token\n").path()).unwrap())
}

fn jwt(file: &tempfile::NamedTempFile) -> Login {
    let path = file.path().to_owned();
    Login::Jwt { mount: "kubernetes".to_owned(), role: "regent-handover".to_owned(), file: path }
}

fn key(name: &str) -> KeyPath {
    KeyPath::secret("bootstrap/prod", &SecretName::parse(name).unwrap()).unwrap()
}

fn new_key() -> NewKey {
    NewKey::new([("password", &Plaintext::new(b"REGENT-CANARY".to_vec()))]).unwrap()
}

const PATIENT: Duration = Duration::from_secs(20);
const ONCE: Duration = Duration::ZERO;
const WRITE: &str = "POST /v1/secret/data/bootstrap/prod/app/db";
const READ: &str = "GET /v1/secret/data/bootstrap/prod/app/db";

#[tokio::test]
async fn a_creation_says_who_where_and_cas_0() {
    let fake = Fake::serve(|_, _| says(200, written())).await;
    let created = fake.vault(a_token(), ONCE).create(&key("app/db"), &new_key()).await;
    assert_eq!(created, Ok(Creation::Created(Created { created_time: "T".to_owned() })));
    assert_eq!(fake.asked(), [WRITE]);
    fake.each(|seen| {
        assert_eq!(seen.body, json!({ "options": { "cas": 0 }, "data": { "password": "REGENT-CANARY" } }));
        assert_eq!(seen.header("X-Vault-Token"), Some("s.token"));
        assert_eq!(seen.header("X-Vault-Namespace"), Some("team"));
        assert_eq!(seen.header("X-Vault-Request"), Some("true"));
    });
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_a_read_decides() {
    for second in [exists, conflict] {
        let fake = Fake::serve(move |seen, number| match (seen.what.as_str(), number) {
            (WRITE, 0) => lost(),
            (WRITE, 1) => second(),
            (READ, 2) => says(200, present(&json!({ "password": "REGENT-CANARY" }))),
            other => panic!("{other:?}"),
        })
        .await;
        let vault = fake.vault(a_token(), PATIENT);
        assert_eq!(vault.create(&key("app/db"), &new_key()).await, Ok(Creation::MaybeExists));
        let Ok(Reading::Present(Present { fields, .. })) = vault.read(&key("app/db")).await else { panic!("there") };
        assert!(fields["password"].as_ref().unwrap().same_bytes(&Plaintext::new(b"REGENT-CANARY".to_vec())));
        assert_eq!(fake.asked(), [WRITE, WRITE, READ]);
        // Both times the same, with `cas`.
        assert!(fake.each(|seen| seen.body.clone())[..2].iter().all(|body| body["options"]["cas"] == 0));
    }
}

#[tokio::test]
async fn no_other_success_counts_as_created() {
    let mut warned = written();
    warned["warnings"] = json!(["Endpoint ignored these unrecognized parameters: [cas]"]);
    let mut later = written();
    later["data"]["version"] = json!(2);
    for (status, body) in
        [(204, String::new()), (200, warned.to_string()), (200, later.to_string()), (200, String::new())]
    {
        let fake = Fake::serve(move |_, _| says(status, &body)).await;
        let created = fake.vault(a_token(), PATIENT).create(&key("app/db"), &new_key()).await;
        assert!(matches!(created, Err(VaultError::NotCreated(_))), "{created:?}");
        assert_eq!(fake.asked(), [WRITE], "it was sent again");
    }
}

#[tokio::test]
async fn a_redirect_is_waited_out_and_never_followed() {
    let other = Fake::serve(|seen, _| panic!("followed to {}", seen.what)).await;
    let location = format!("{}/v1/secret/data/bootstrap/prod/app/db", other.address);
    let fake = Fake::serve(move |_, number| {
        if number == 2 {
            return says(200, written());
        }
        let status = [StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT][number];
        let mut redirect = says(200, "");
        *redirect.status_mut() = status;
        redirect.headers_mut().insert("Location", location.parse().unwrap());
        redirect
    })
    .await;
    let created = fake.vault(a_token(), PATIENT).create(&key("app/db"), &new_key()).await;
    assert!(matches!(created, Ok(Creation::Created(_))), "{created:?}");
    assert_eq!(fake.asked(), [WRITE; 3]);
    assert!(other.asked().is_empty());
    // Without patience it is an error at once.
    let fake = Fake::serve(|_, _| says(307, "")).await;
    assert_eq!(fake.vault(a_token(), ONCE).read(&key("app/db")).await.err(), Some(VaultError::Redirects(307)));
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn what_passes_is_asked_again_until_patience_ends() {
    let fake = Fake::serve(|_, number| match number {
        0 => says(503, json!({ "errors": ["Vault is sealed"] })),
        1 => says(500, json!({ "errors": ["local node not active but active cluster node not found"] })),
        2 => says(412, json!({ "errors": [] })),
        _ => says(404, json!({ "errors": [] })),
    })
    .await;
    assert!(matches!(fake.vault(a_token(), PATIENT).read(&key("app/db")).await, Ok(Reading::Absent)));
    assert_eq!(fake.asked().len(), 4);
    let fake = Fake::serve(|_, _| says(502, "")).await;
    let began = Instant::now();
    let read = fake.vault(a_token(), Duration::from_secs(1)).read(&key("app/db")).await;
    assert_eq!(read.err(), Some(VaultError::Unready { status: 502, said: String::new() }));
    // 100, 200 and 400 ms fit into a second, 800 more do not.
    assert_eq!(fake.asked().len(), 4);
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn who_asks_too_often_waits_as_long_as_he_is_told() {
    let fake = Fake::serve(|_, number| {
        let mut answer = says(if number == 0 { 429 } else { 404 }, json!({ "errors": [] }));
        answer.headers_mut().insert("Retry-After", "1".parse().unwrap());
        answer
    })
    .await;
    let began = Instant::now();
    assert!(matches!(fake.vault(a_token(), PATIENT).read(&key("app/db")).await, Ok(Reading::Absent)));
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn what_does_not_pass_is_asked_once() {
    for (status, text) in [
        (403, "1 error occurred:\n\t* permission denied\n\n"),
        (500, "put failed due to value being too large; got 1 bytes, max 1 bytes"),
        (404, "no handler for route"),
        (400, "something"),
        (413, "http: request body too large"),
    ] {
        let fake = Fake::serve(move |_, _| says(status, json!({ "errors": [text] }))).await;
        assert!(fake.vault(a_token(), PATIENT).read(&key("app/db")).await.is_err());
        assert_eq!(fake.asked().len(), 1, "{status} {text}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_late() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let fake = Fake::serve(|_, _| says(200, "")).await;
    let mut vault = fake.vault(a_token(), ONCE);
    vault.place.address = format!("http://{}", listener.local_addr().unwrap());
    vault.one_answer = Duration::from_millis(200);
    assert_eq!(vault.read(&key("app/db")).await.err(), Some(VaultError::Late(Duration::from_millis(200))));
}

#[tokio::test]
async fn an_answer_is_read_up_to_a_bound() {
    let body = |bytes: usize| present(&json!({ "a": "x".repeat(bytes) }));
    let fake = Fake::serve(move |seen, _| says(200, body(if seen.what == READ { 5 << 20 } else { 15 << 20 }))).await;
    let vault = fake.vault(a_token(), PATIENT);
    assert_eq!(vault.read(&key("app/db")).await.err(), Some(VaultError::Oversized(4 << 20)));
    assert_eq!(fake.asked().len(), 1);
    // A record lists every document.
    let record = KeyPath::record(&AuthorityName::parse("prod").unwrap(), Epoch::FIRST).unwrap();
    assert!(matches!(vault.read(&record).await, Ok(Reading::Present(_))));
}

#[tokio::test]
async fn a_read_asks_for_the_newest_state_that_was_told_of() {
    let fake = Fake::serve(|seen, number| match number {
        0 => says_at(41, says(200, written())),
        // Answers come in any order.
        1 => says_at(40, says(200, written())),
        _ => says_at(7, says(404, if seen.what == READ { json!({ "errors": [] }) } else { Value::Null })),
    })
    .await;
    let vault = fake.vault(a_token(), ONCE);
    for name in ["app/a", "app/b"] {
        vault.create(&key(name), &new_key()).await.unwrap();
    }
    assert!(matches!(vault.read(&key("app/db")).await, Ok(Reading::Absent)));
    let sent = fake.each(|seen| {
        let index = seen.header(INDEX).map(|index| {
            let index: Value = serde_json::from_slice(&STANDARD.decode(index).unwrap()).unwrap();
            index["value"].as_str().unwrap().to_owned()
        });
        (index, seen.header("X-Vault-Inconsistent").map(ToOwned::to_owned))
    });
    let forward = || Some("forward-active-node".to_owned());
    assert_eq!(sent, [(None, None), (Some("41".to_owned()), forward()), (Some("41".to_owned()), forward())]);
}

#[test]
fn of_two_states_the_newer_counts_and_another_cluster_begins_anew() {
    let index = |cluster: &str, value: &str| {
        let json = json!({ "cluster": cluster, "value": value }).to_string();
        Index::of(&STANDARD.encode(json).parse().unwrap())
    };
    assert!(index("a", "10").replaces(&index("a", "9")) && !index("a", "9").replaces(&index("a", "10")));
    assert!(index("b", "1").replaces(&index("a", "9")));
    assert!(Index::of(&HeaderValue::from_static("v1:opaque")).replaces(&index("a", "9")));
}

#[tokio::test]
async fn no_token_goes_where_health_was_not_yet_told() {
    let fake = Fake::serve(|_, _| says(200, "<html>welcome</html>")).await;
    let token = file("s.token\n");
    let mut place = fake.vault(a_token(), ONCE).place;
    place.namespace = "team".to_owned();
    let (name, token) = (AuthorityName::parse("prod").unwrap(), Token::read(token.path()).unwrap());
    let said = record(&place, &name, Epoch::FIRST, &token).await.unwrap_err().to_string();
    assert!(said.contains("does not answer as Vault does"), "{said}");
    assert_eq!(fake.asked(), ["GET /v1/sys/health"]);
    // In a namespace OpenBao refuses this route.
    assert_eq!(
        fake.each(|seen| (seen.header("X-Vault-Token").is_some(), seen.header("X-Vault-Namespace").is_some())),
        [(false, false)]
    );
}

#[tokio::test]
async fn a_login_is_made_once_for_all_and_revoked_at_the_end() {
    let logins = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&logins);
    let fake = Fake::serve(move |seen, _| match seen.what.as_str() {
        "POST /v1/auth/kubernetes/login" => {
            counted.fetch_add(1, Ordering::SeqCst);
            assert_eq!(seen.body, json!({ "role": "regent-handover", "jwt": "e.y.J" }));
            assert_eq!((seen.header("X-Vault-Token"), seen.header("X-Vault-Namespace")), (None, Some("team")));
            auth("s.own", 600, true)
        }
        "POST /v1/auth/token/revoke-self" => {
            assert_eq!(seen.header("X-Vault-Token"), Some("s.own"));
            says(204, "")
        }
        _ => {
            assert_eq!(seen.header("X-Vault-Token"), Some("s.own"));
            says(404, json!({ "errors": [] }))
        }
    })
    .await;
    let file = file("e.y.J");
    let vault = Arc::new(fake.vault(jwt(&file), ONCE));
    let mut reads = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let vault = Arc::clone(&vault);
        reads.spawn(async move { matches!(vault.read(&key("app/db")).await, Ok(Reading::Absent)) });
    }
    assert!(reads.join_all().await.into_iter().all(|absent| absent));
    assert_eq!(logins.load(Ordering::SeqCst), 1);
    vault.leave().await.unwrap();
    assert_eq!(fake.asked().last().unwrap(), "POST /v1/auth/token/revoke-self");
    // Nothing is left to revoke.
    vault.leave().await.unwrap();
    assert_eq!(fake.asked().len(), 22);
}

#[tokio::test]
async fn a_token_that_is_over_is_replaced_once_and_the_request_decided_again() {
    // The first token is over before its time; the second one is good.
    let fake = Fake::serve(|seen, number| match (seen.what.as_str(), seen.header("X-Vault-Token")) {
        ("POST /v1/auth/kubernetes/login", None) => auth(&format!("s.{number}"), 600, true),
        (WRITE, Some("s.0")) => over(),
        (WRITE, Some("s.2")) => says(200, written()),
        other => panic!("{other:?}"),
    })
    .await;
    let file = file("e.y.J");
    let created = fake.vault(jwt(&file), ONCE).create(&key("app/db"), &new_key()).await;
    assert!(matches!(created, Ok(Creation::Created(_))), "{created:?}");
    // No token helps: a second 403 is the answer.
    let fake = Fake::serve(|seen, _| if seen.what.contains("login") { auth("s.own", 600, true) } else { over() }).await;
    let vault = fake.vault(jwt(&file), PATIENT);
    assert_eq!(vault.read(&key("app/db")).await.err(), Some(VaultError::Denied("read it")));
    let login = "POST /v1/auth/kubernetes/login";
    assert_eq!(fake.asked(), [login, READ, login, READ]);
    // A policy's refusal is no sign of a token that is over.
    let fake =
        Fake::serve(|seen, _| if seen.what.contains("login") { auth("s.own", 600, true) } else { exists() }).await;
    let vault = fake.vault(jwt(&file), PATIENT);
    assert_eq!(vault.create(&key("app/db"), &new_key()).await, Ok(Creation::MaybeExists));
    assert_eq!(fake.asked(), [login, WRITE]);
    // Somebody else's token is not replaced.
    let fake = Fake::serve(|_, _| over()).await;
    assert_eq!(fake.vault(a_token(), PATIENT).read(&key("app/db")).await.err(), Some(VaultError::Denied("read it")));
    assert_eq!(fake.asked(), [READ]);
}

#[tokio::test]
async fn a_token_is_renewed_at_two_thirds_of_its_life_or_replaced() {
    let renew = "POST /v1/auth/token/renew-self";
    // The second renewal is capped by the token's longest life: too short to be worth it.
    let lives = Mutex::new(VecDeque::from([1, 0]));
    let fake = Fake::serve(move |seen, number| match seen.what.as_str() {
        "POST /v1/auth/kubernetes/login" => auth(&format!("s.{number}"), 1, true),
        "POST /v1/auth/token/renew-self" => match lives.lock().unwrap().pop_front() {
            Some(1) => auth("s.0", 1, true),
            Some(_) | None => over(),
        },
        _ => says(404, json!({ "errors": [] })),
    })
    .await;
    let file = file("e.y.J");
    let vault = fake.vault(jwt(&file), ONCE);
    for _ in 0..3 {
        vault.read(&key("app/db")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let login = "POST /v1/auth/kubernetes/login";
    assert_eq!(fake.asked(), [login, READ, renew, READ, renew, login, READ]);
    let tokens = fake.each(|seen| seen.header("X-Vault-Token").unwrap_or_default().to_owned());
    assert_eq!(tokens, ["", "s.0", "s.0", "s.0", "s.0", "", "s.5"]);
}

#[tokio::test]
async fn a_refused_login_names_mount_and_role_and_never_the_jwt() {
    for (status, text) in [(403, "service account name not authorized"), (400, "invalid role name \"x\"")] {
        let fake = Fake::serve(move |_, _| says(status, json!({ "errors": [text] }))).await;
        let file = file("REGENT-CANARY");
        let problem = fake.vault(jwt(&file), PATIENT).read(&key("app/db")).await.err().unwrap();
        let said = problem.to_string();
        for word in ["auth/kubernetes", "regent-handover", text] {
            assert!(said.contains(word), "{said}");
        }
        assert!(!format!("{said} {problem:?}").contains("CANARY"));
        assert_eq!(fake.asked().len(), 1);
    }
}

fn app_role() -> Login {
    let wrapping = Token::read(file("s.wrapping").path()).unwrap();
    Login::AppRole { mount: "approle".to_owned(), role_id: "the-role".to_owned(), wrapping }
}

#[tokio::test]
async fn a_wrapped_secret_id_is_looked_at_unwrapped_once_and_kept_for_the_next_login() {
    let fake = Fake::serve(|seen, number| match seen.what.as_str() {
        "POST /v1/sys/wrapping/lookup" => {
            assert_eq!(seen.body, json!({ "token": "s.wrapping" }));
            says(200, json!({ "data": { "creation_path": "auth/approle/role/regent/secret-id", "creation_ttl": 60 } }))
        }
        "POST /v1/sys/wrapping/unwrap" => {
            assert_eq!(seen.header("X-Vault-Token"), Some("s.wrapping"));
            says(200, json!({ "data": { "secret_id": "the-secret", "secret_id_accessor": "a" } }))
        }
        "POST /v1/auth/approle/login" => {
            assert_eq!(seen.body, json!({ "role_id": "the-role", "secret_id": "the-secret" }));
            auth(&format!("s.{number}"), 600, true)
        }
        _ if seen.header("X-Vault-Token") == Some("s.2") => over(),
        _ => says(404, json!({ "errors": [] })),
    })
    .await;
    let vault = fake.vault(app_role(), ONCE);
    assert!(matches!(vault.read(&key("app/db")).await, Ok(Reading::Absent)));
    let (lookup, unwrap, login) =
        ("POST /v1/sys/wrapping/lookup", "POST /v1/sys/wrapping/unwrap", "POST /v1/auth/approle/login");
    assert_eq!(fake.asked(), [lookup, unwrap, login, READ, login, READ]);
}

#[tokio::test]
async fn a_wrapping_token_that_was_used_or_wraps_something_else_raises_an_alarm() {
    let used = || says(400, json!({ "errors": ["wrapping token is not valid or does not exist"] }));
    let fake = Fake::serve(move |_, _| used()).await;
    assert_eq!(fake.vault(app_role(), PATIENT).read(&key("app/db")).await.err(), Some(VaultError::Unwrapped));
    assert_eq!(fake.asked().len(), 1);
    let fake = Fake::serve(|_, _| says(200, json!({ "data": { "creation_path": "sys/wrapping/wrap" } }))).await;
    let problem = fake.vault(app_role(), PATIENT).read(&key("app/db")).await.err();
    let other = VaultError::OtherWrapping { mount: "approle".to_owned(), made_by: "sys/wrapping/wrap".to_owned() };
    assert_eq!(problem, Some(other));
    assert_eq!(fake.asked().len(), 1, "it was unwrapped");
}

#[tokio::test]
async fn what_a_token_may_do_is_told_path_by_path() {
    let fake = Fake::serve(|seen, _| {
        assert_eq!(
            seen.body,
            json!({ "paths": ["secret/data/bootstrap/prod/app/a", "secret/data/bootstrap/prod/app/b"] })
        );
        let answer = json!({
            "capabilities": ["deny"],
            "secret/data/bootstrap/prod/app/a": ["create", "read"],
            "secret/data/bootstrap/prod/app/b": ["deny"],
        });
        says(200, json!({ "data": answer }))
    })
    .await;
    let vault = fake.vault(a_token(), ONCE);
    let may = vault.may(Of::Data, &[key("app/a"), key("app/b")]).await.unwrap();
    let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(may, [set(&["create", "read"]), set(&["deny"])]);
    // A path that is not answered is not allowed, and not denied either.
    let fake = Fake::serve(|_, _| says(200, json!({ "data": { "capabilities": ["create", "read"] } }))).await;
    let problem = fake.vault(a_token(), ONCE).may(Of::Data, &[key("app/a")]).await;
    assert_eq!(problem, Err(VaultError::Incomplete("what the token may do")));
}

#[tokio::test]
async fn settings_that_may_not_be_looked_at_are_unknown() {
    let fake = Fake::serve(|_, number| match number {
        0 => says(200, json!({ "data": { "cas_required": false, "delete_version_after": "0s", "max_versions": 0 } })),
        1 => exists(),
        _ => says(404, json!({ "errors": [] })),
    })
    .await;
    let vault = fake.vault(a_token(), ONCE);
    assert_eq!(vault.delete_version_after().await, Ok(Some("0s".to_owned())));
    assert_eq!(vault.delete_version_after().await, Ok(None));
    assert!(vault.delete_version_after().await.is_err());
}

#[tokio::test]
async fn nothing_of_values_or_tokens_stands_in_an_error() {
    for status in [200, 204, 400, 403, 404, 500, 503] {
        let fake =
            Fake::serve(move |_, _| says(status, json!({ "errors": ["REGENT-CANARY"], "data": "REGENT-CANARY" })))
                .await;
        let vault = fake.vault(a_token(), ONCE);
        let problems = [vault.create(&key("app/db"), &new_key()).await.err(), vault.read(&key("app/db")).await.err()];
        let told = format!("{problems:?} {}", problems.iter().flatten().map(ToString::to_string).collect::<String>());
        assert!(!told.contains("CANARY") && !told.contains("s.token"), "{told}");
    }
}
