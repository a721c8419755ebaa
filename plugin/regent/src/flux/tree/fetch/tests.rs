use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A server that answers one request with these bytes, and then keeps the connection for a while.
async fn server(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(
            head.starts_with(b"GET /gitrepository/a/b/c.tar.gz HTTP/1.1\r\n"),
            "{}",
            String::from_utf8_lossy(&head)
        );
        stream.write_all(&answer).await.unwrap();
        let _ = stream.read_u8().await;
    });
    format!("http://{address}/gitrepository/a/b/c.tar.gz")
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), body].concat()
}

async fn fetch(answer: Vec<u8>, digest: &str, size: Option<u64>) -> Result<Artifact, String> {
    let fetcher = Fetcher { within: Duration::from_secs(1), ..Fetcher::new(100).unwrap() };
    let offered = Offered { url: server(answer).await, digest: digest.to_owned(), size };
    fetcher.fetch(&offered).await.map_err(|failure| failure.to_string())
}

const BODY: &[u8] = b"not a tar, which nobody looks at here";

#[tokio::test]
async fn what_has_the_digest_is_fetched() {
    let digest = Digest::of(BODY).to_string();
    for head in ["200 OK\r\nContent-Length: 37", "200 OK\r\nContent-Length: 37\r\nContent-Type: text/plain"] {
        for size in [None, Some(37)] {
            assert!(fetch(answer(head, BODY), &digest, size).await.is_ok(), "{head} {size:?}");
        }
    }
    let chunked = answer("200 OK\r\nTransfer-Encoding: chunked", &[b"25\r\n", BODY, b"\r\n0\r\n\r\n"].concat());
    assert!(fetch(chunked, &digest, None).await.is_ok());
}

#[tokio::test]
async fn every_other_answer_is_an_error_that_says_what_it_was() {
    let digest = Digest::of(BODY).to_string();
    let other = Digest::of(b"").to_string();
    let chunked = |body: &[u8]| answer("200 OK\r\nTransfer-Encoding: chunked", body);
    for (answer, digest, size, reason) in [
        (answer("404 Not Found\r\nContent-Length: 0", b""), &digest, None, "404"),
        (answer("500 X\r\nContent-Length: 0", b""), &digest, None, "answers 500"),
        (answer("302 X\r\nLocation: /\r\nContent-Length: 0", b""), &digest, None, "answers 302"),
        (answer("200 OK\r\nContent-Length: 37", BODY), &other, None, "digest"),
        (answer("200 OK\r\nContent-Length: 37", BODY), &digest, Some(36), "more than 36 bytes"),
        (
            answer("200 OK\r\nContent-Length: 37", BODY),
            &digest,
            Some(101),
            "101 bytes, more than 100 (`limits.upload`)",
        ),
        (answer("200 OK\r\nContent-Length: 101", BODY), &digest, None, "more than 100 bytes"),
        (chunked(&[b"70\r\n", &[0; 0x70][..], b"\r\n0\r\n\r\n"].concat()), &digest, None, "more than 100 bytes"),
        (answer("200 OK\r\nContent-Length: 38", BODY), &digest, None, "within 1 s"),
        (Vec::new(), &digest, None, "within 1 s"),
        (answer("200 OK\r\nContent-Length: 37", BODY), &"sha512:00".to_owned(), None, "--artifact-digest-algo"),
    ] {
        let error = fetch(answer, digest, size).await.err().unwrap();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[tokio::test]
async fn an_address_is_http_and_holds_no_password_or_it_is_not_told() {
    let fetcher = Fetcher::new(100).unwrap();
    for (url, reason) in [
        ("http://user:hunter2@localhost/a", "holds a user"),
        ("file:///etc/passwd", "no URL"),
        ("ftp://localhost/a", "neither"),
        ("/a", "neither"),
        ("http://", "no URL"),
    ] {
        let offered = Offered { url: url.to_owned(), digest: Digest::of(b"").to_string(), size: None };
        let error = fetcher.fetch(&offered).await.err().unwrap().to_string();
        assert!(error.contains(reason) && !error.contains("hunter2"), "{error}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{closed}/a");
    let offered = Offered { url: url.clone(), digest: Digest::of(b"").to_string(), size: None };
    let error = fetcher.fetch(&offered).await.err().unwrap().to_string();
    assert!(error.contains(&url) && error.contains("refused"), "{error}");
}
