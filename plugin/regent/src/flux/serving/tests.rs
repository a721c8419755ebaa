use std::collections::BTreeMap;
use std::net::SocketAddr;

use regent_core::name::{AuthorityName, Epoch, FilePath};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::flux::hook::tests::Stage;
use crate::flux::pack::{Changes, Packed, pack};
use crate::flux::shelf::{Holds, Published};
use crate::flux::tree::Tree;
use tokio::net::TcpSocket;

struct Serving {
    address: SocketAddr,
    _folder: TempDir,
    hooked: Stage,
    shelf: Arc<Shelf>,
    metrics: Metrics,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

const BOUNDS: Bounds = Bounds {
    connections: 2,
    pace: Duration::from_millis(400),
    life: Duration::from_secs(20),
    patience: Duration::from_secs(2),
};

async fn served() -> Serving {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let shelf = Arc::new(Shelf::open(folder.path()).ok().unwrap().0);
    let (metrics, hooked) = (Metrics::new(), Stage::new());
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve_within(
        listener,
        (Arc::clone(&shelf), Arc::clone(&hooked.hooks)),
        metrics.clone(),
        async {
            let _ = stopped.await;
        },
        BOUNDS,
    ));
    Serving { address, _folder: folder, hooked, shelf, metrics, stop, server }
}

impl Serving {
    /// Publishes one file of these bytes; gives the path of its artifact.
    fn publish(&self, bytes: Vec<u8>) -> (String, Packed) {
        let packed =
            pack(&Tree::default(), &Changes::from([(FilePath::parse("a").unwrap(), Some(bytes.into()))])).unwrap();
        let name = ObjectName::parse("team/app").unwrap();
        let published = Published {
            revision: "r".to_owned(),
            digest: packed.digest,
            size: packed.gzip.len() as u64,
            metadata: BTreeMap::new(),
            authority: AuthorityName::parse("prod").unwrap(),
            epoch: Epoch::FIRST,
            holds: Holds::Stubs,
        };
        self.shelf.put(&name, &packed, &published).ok().unwrap();
        (format!("/{}", published.path(&name)), packed)
    }

    async fn begin(&self, request: &str) -> TcpStream {
        // With little room for bytes that nobody has read: a kernel may give a connection as much as an artifact has.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(256 << 10).unwrap();
        let mut stream = socket.connect(self.address).await.unwrap();
        stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        stream
    }

    /// Head and body of the answer, after which the connection has to end.
    async fn ask(&self, request: &str) -> (String, Vec<u8>) {
        let mut answer = Vec::new();
        self.begin(request).await.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        (String::from_utf8(answer[..end].to_vec()).unwrap().to_lowercase(), answer[end + 4..].to_vec())
    }

    fn counted(&self, code: &str) -> String {
        let series = format!("regent_artifact_requests_total{{code=\"{code}\"}} ");
        self.metrics.text().lines().find_map(|line| line.strip_prefix(&series).map(str::to_owned)).unwrap()
    }
}

#[tokio::test]
async fn an_artifact_comes_whole_from_memory_and_from_its_file() {
    let served = served().await;
    let first = served.publish(vec![1; 3 << 20]);
    let second = served.publish(vec![2; 700]);
    for (path, packed) in [&first, &second] {
        let (head, body) = served.ask(&format!("GET {path}")).await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(head.contains("content-type: application/gzip"), "{head}");
        assert!(head.contains(&format!("content-length: {}", packed.gzip.len())), "{head}");
        assert!(body == packed.gzip);
        let (head, body) = served.ask(&format!("HEAD {path}")).await;
        assert!(head.starts_with("http/1.1 200") && body.is_empty(), "{head}");
        assert!(head.contains(&format!("content-length: {}", packed.gzip.len())), "{head}");
    }
    assert_eq!(served.counted("200"), "4");
}

#[tokio::test]
async fn everything_else_is_not_found() {
    let served = served().await;
    let (path, packed) = served.publish(vec![1]);
    let digits = packed.digest.digits();
    for other in [
        "/".to_owned(),
        "/externalartifact".to_owned(),
        "/externalartifact/team/app/".to_owned(),
        "/externalartifact/team/app/published.json".to_owned(),
        "/externalartifact/team/app/../app/x.tar.gz".to_owned(),
        format!("/externalartifact/team/..%2fapp/{digits}.tar.gz"),
        format!("/externalartifact/./team/app/{digits}.tar.gz"),
        format!("//externalartifact/team/app/{digits}.tar.gz"),
        format!("/externalartifact/team/other/{digits}.tar.gz"),
        format!("/externalartifact/team/app/{digits}"),
        format!("/externalartifact/team/app/{}.tar.gz", digits.to_uppercase()),
        format!("/externalartifact/team/app/{}.tar.gz", "0".repeat(64)),
        format!("/gitrepository/team/app/{digits}.tar.gz"),
        format!("{path}/"),
    ] {
        let (head, _) = served.ask(&format!("GET {other}")).await;
        assert!(head.starts_with("http/1.1 404"), "{other} {head}");
    }
    assert_eq!(served.counted("404"), "14");
    let (head, _) = served.ask(&format!("DELETE {path}")).await;
    assert!(head.starts_with("http/1.1 405") && head.contains("allow: get, head"), "{head}");
    let (head, body) = served.ask("GET /healthz").await;
    assert!(head.starts_with("http/1.1 200") && body == b"ok\n", "{head}");
}

#[tokio::test]
async fn who_sends_no_head_or_takes_nothing_is_cut_and_others_wait_for_a_place() {
    let served = served().await;
    let (path, packed) = served.publish(vec![1; 32 << 20]);
    let mut silent = TcpStream::connect(served.address).await.unwrap();
    silent.write_all(b"GET / HT").await.unwrap();
    let mut slow = served.begin(&format!("GET {path}")).await;
    // Both places are taken, and each is given back in time.
    let before = Instant::now();
    let (head, body) = served.ask(&format!("GET {path}")).await;
    assert!(head.starts_with("http/1.1 200") && body == packed.gzip, "{head}");
    assert!(before.elapsed() >= BOUNDS.pace / 2, "{:?}", before.elapsed());
    // The place was the silent one's: this one is cut once its own time is over.
    sleep(BOUNDS.pace * 2).await;
    let mut taken = Vec::new();
    // The end of the stream, or a reset.
    let _ = slow.read_to_end(&mut taken).await;
    assert!(taken.len() < packed.gzip.len());
    let _ = silent.read_to_end(&mut Vec::new()).await;
    assert_eq!(served.counted("cut"), "2");
}

#[tokio::test]
async fn who_takes_bytes_slowly_gets_all_of_them() {
    let served = served().await;
    let (path, packed) = served.publish(vec![1; 24 << 20]);
    let mut slow = served.begin(&format!("GET {path}")).await;
    let mut taken = 0;
    let mut piece = vec![0; 2 << 20];
    let before = Instant::now();
    while let read @ 1.. = slow.read(&mut piece).await.unwrap() {
        taken += read;
        sleep(Duration::from_millis(20)).await;
    }
    assert!(taken > packed.gzip.len(), "{taken}");
    assert!(before.elapsed() > BOUNDS.pace, "longer than one stretch: {:?}", before.elapsed());
}

#[tokio::test]
async fn the_end_waits_for_who_is_under_way_and_for_nobody_else() {
    let served = served().await;
    let (path, packed) = served.publish(vec![1; 8 << 20]);
    let mut under_way = served.begin(&format!("GET {path}")).await;
    let mut first = vec![0; 1000];
    under_way.read_exact(&mut first).await.unwrap();
    served.stop.send(()).unwrap();
    let mut rest = Vec::new();
    under_way.read_to_end(&mut rest).await.unwrap();
    assert!(first.len() + rest.len() > packed.gzip.len());
    tokio::time::timeout(BOUNDS.patience / 2, served.server).await.unwrap().unwrap();
    assert!(TcpStream::connect(served.address).await.is_err(), "nobody listens any more");
}

/// The HMAC is `openssl dgst -sha256 -hmac Jefe` of the body.
#[tokio::test]
async fn a_hook_is_answered_beside_the_artifacts() {
    let served = served().await;
    let mac = "X-Signature: sha256=923598ca6d64af2a5dba79dcd021a8a0fe5c5f557519adaaf0ad532d4506dd30";
    for (head, starts) in [
        (format!("POST /hook/prod HTTP/1.1\r\n{mac}"), "http/1.1 200"),
        ("POST /hook/prod HTTP/1.1".to_owned(), "http/1.1 403"),
        (format!("POST /hook/nobody HTTP/1.1\r\n{mac}"), "http/1.1 403"),
        (format!("GET /hook/prod HTTP/1.1\r\n{mac}"), "http/1.1 404"),
        (format!("PUT /hook/prod HTTP/1.1\r\n{mac}"), "http/1.1 405"),
    ] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(format!("{head}\r\nHost: x\r\nContent-Length: 0\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.to_lowercase().starts_with(starts), "{head}: {answer}");
    }
    assert!(served.hooked.prod.has_changed().unwrap());
}

#[tokio::test]
async fn a_hook_whose_body_does_not_come_is_cut() {
    let served = served().await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"POST /hook/prod HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx").await.unwrap();
    let mut answer = Vec::new();
    let cut = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    assert!(cut.is_ok() && !answer.starts_with(b"HTTP/1.1 200"));
}
