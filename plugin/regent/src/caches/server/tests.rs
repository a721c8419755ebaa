use std::collections::BTreeSet;

use regent_core::name::{Namespace, SecretName};
use regent_core::rules::HostPort;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A server that answers all with this, as somebody with a token asks it, and what it heard.
async fn serving(
    status: &str,
    kind: &str,
    body: &str,
) -> (Server, tokio::task::JoinHandle<()>, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = HostPort::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}");
    let (say, heard) = tokio::sync::mpsc::unbounded_channel();
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                say.send(String::from_utf8_lossy(&buffer[..read]).into_owned()).unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "the-token\n").unwrap();
    let mut written = rules::Server::from(address);
    (written.plaintext, written.root_path) = (true, "/argo-cd".to_owned());
    written.token_file = Some(token.path().to_owned());
    (Server::new(&written).unwrap(), serving, heard)
}

/// Argo CD 3.6.1 answers 200 to whoever asks who he is, with or without a token that it knows.
#[tokio::test]
async fn a_token_that_argocd_server_does_not_know_is_found_before() {
    for (status, body, expected) in [
        ("200 OK", r#"{"loggedIn":true,"username":"regent"}"#, Ok(())),
        ("200 OK", "{}", Err(CachesError::Unauthorized)),
        ("200 OK", r#"{"loggedIn":false}"#, Err(CachesError::Unauthorized)),
        ("401 Unauthorized", "{}", Err(CachesError::Unauthorized)),
        ("200 OK", "<html>", Err(STRANGE)),
        ("404 Not Found", "{}", Err(STRANGE)),
    ] {
        let (server, serving, _heard) = serving(status, "application/json", body).await;
        assert_eq!(server.reachable().await, expected, "{status} {body}");
        serving.abort();
    }
}

/// Asks for two revisions of two Applications of a server that answers all with this.
async fn answered(status: &str, kind: &str, body: &str) -> (Result<Overwritten, CachesError>, String) {
    let (server, serving, mut heard) = serving(status, kind, body).await;
    let cached = |name: &str, revision| Cached {
        namespace: "team".to_owned(),
        name: name.to_owned(),
        destination_namespace: Some("app".to_owned()),
        revisions: vec![revision],
    };
    let applications = [
        cached("shop", Revision::One("5f1e&x=1".to_owned())),
        cached("many", Revision::Of { source: 2, revision: "5f1e".to_owned() }),
    ];
    let identities = BTreeSet::from([SecretName::parse("app/db").unwrap()]);
    let control_plane = Namespace::parse("argocd").unwrap();
    let stale = Stale { applications: &applications, identities: &identities, control_plane: &control_plane };
    let outcome = through_server(&server, &stale).await;
    serving.abort();
    let mut asked = String::new();
    while let Some(request) = heard.recv().await {
        asked.push_str(&request);
    }
    (outcome, asked)
}

fn rendered(manifest: &str) -> String {
    serde_json::json!({ "manifests": [manifest] }).to_string()
}

/// As argocd-server 3.6.1 said it.
const REFUSED: &str = r#"{"error":"error generating manifests: rpc error: code = Unknown desc = CMP processing failed for application \"shop\": error generating manifests in cmp: rpc error: code = PermissionDenied desc = regent[allow]: no rule allows revision `5f1e`","code":2}"#;

const STUB: &str = r#"{"kind":"Secret","metadata":{"name":"db"}}"#;
const MASKED: &str = r#"{"kind":"Secret","metadata":{"name":"db"},"data":{"p":"++++++++"}}"#;

#[tokio::test]
async fn each_revision_is_asked_for_past_the_cache_as_whoever_has_the_token() {
    let (outcome, asked) = answered("200 OK", "application/json; charset=utf-8", &rendered(STUB)).await;
    assert_eq!(outcome, Ok(Overwritten { revisions: 2 }));
    let lines: Vec<_> = asked.lines().filter(|line| line.starts_with("GET ")).collect();
    let path = "GET /argo-cd/api/v1/applications";
    assert_eq!(
        lines,
        [
            format!("{path}/shop/manifests?noCache=true&appNamespace=team&revision=5f1e%26x%3D1 HTTP/1.1"),
            format!("{path}/many/manifests?noCache=true&appNamespace=team&sourcePositions=2&revisions=5f1e HTTP/1.1"),
        ]
    );
    assert_eq!(asked.matches("authorization: Bearer the-token").count(), 2);
}

#[tokio::test]
async fn only_a_rendering_without_a_value_counts() {
    let not = |status, code: Option<&str>| CachesError::NotRendered {
        status,
        code: code.map(ToOwned::to_owned),
        application: "team/shop".to_owned(),
        revision: "`5f1e&x=1`".to_owned(),
    };
    let json = "application/json";
    for (status, kind, body, problem) in [
        ("401 Unauthorized", json, "{}", CachesError::Unauthorized),
        ("403 Forbidden", json, "{}", CachesError::Forbidden("team/shop".to_owned())),
        ("500 Internal", json, "{}", not(500, None)),
        ("500 Internal", json, REFUSED, not(500, Some("regent[allow]"))),
        ("500 Internal", json, "regent[a b]", not(500, None)),
        ("307 Temporary Redirect", json, "", not(307, None)),
        ("202 Accepted", json, "{}", not(202, None)),
        // A path that it does not have: its pages.
        ("200 OK", "text/html; charset=utf-8", "<html>", STRANGE),
        ("200 OK", json, "<html>", STRANGE),
        (
            "200 OK",
            json,
            &rendered(MASKED),
            CachesError::StillRenders { application: "team/shop".to_owned(), revision: "`5f1e&x=1`".to_owned() },
        ),
    ] {
        assert_eq!(answered(status, kind, body).await.0, Err(problem), "{status} {kind}");
    }
}
