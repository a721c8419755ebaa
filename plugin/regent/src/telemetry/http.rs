//! `/metrics`, `/healthz` and `/readyz`: plain HTTP for a scraper and the kubelet. Nothing is asked of a request
//! but its path, and no connection outlives [`CONNECTION`].

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Sleep, sleep};

use super::Metrics;

/// Longest life of a connection, whatever it does: the bound on slow headers, slow readers and idle clients at
/// once, because the server underneath has none. A scraper that keeps connections opens a new one.
const CONNECTION: Duration = Duration::from_secs(10);
/// Most connections at once; a scraper and the kubelet need three.
const CONNECTIONS: usize = 512;
/// How long answers under way are waited for at the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// Serves `/metrics`, `/healthz` and `/readyz` until `shutdown` is done; `/readyz` says yes while `ready` does.
pub(crate) async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    ready: impl Fn() -> bool + Clone + Send + Sync + 'static,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new()
        .route(
            "/metrics",
            get(|| async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.text()) }),
        )
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(|| async move {
                if ready() {
                    (StatusCode::OK, "ok\n")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "the socket is not bound\n")
                }
            }),
        );
    let (ends, ending) = oneshot::channel();
    let shutdown = async move {
        shutdown.await;
        // Nobody waits for it where the server ended by itself.
        let _ = ends.send(());
    };
    let listener = Bounded { listener, places: Arc::new(Semaphore::new(CONNECTIONS)), life: CONNECTION };
    tokio::select! {
        ended = axum::serve(listener, router).with_graceful_shutdown(shutdown) => ended,
        () = async {
            let _ = ending.await;
            sleep(PATIENCE).await;
        } => Ok(()),
    }
}

/// Accepts while there are places, each for a connection's life.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    life: Duration,
}

/// A connection that ends at its deadline.
struct Connection {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Connection { stream, deadline: Box::pin(sleep(self.life)), _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connection {
    /// The stream while there is time, and a wake-up when there is none left.
    fn in_time(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(Pin::new(&mut self.stream)),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.in_time(context)?.poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.in_time(context)?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(context)?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(context)?.poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::task::JoinHandle;

    use super::*;

    struct Served {
        address: SocketAddr,
        ready: Arc<AtomicBool>,
        stop: oneshot::Sender<()>,
        server: JoinHandle<io::Result<()>>,
    }

    async fn served() -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ready = Arc::new(AtomicBool::new(false));
        let is_ready = {
            let ready = Arc::clone(&ready);
            move || ready.load(Ordering::Relaxed)
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, Metrics::new(), is_ready, async {
            let _ = stopped.await;
        }));
        Served { address, ready, stop, server }
    }

    /// Head and body of the answer.
    async fn ask(address: SocketAddr, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }

    #[tokio::test]
    async fn every_path_answers_as_it_is_told() {
        let served = served().await;
        let (head, body) = ask(served.address, "GET /metrics").await;
        assert!(head.starts_with("http/1.1 200") && head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        assert!(body.contains("\nregent_build_info{version="), "{body}");
        let (head, body) = ask(served.address, "HEAD /metrics").await;
        assert!(head.starts_with("http/1.1 200") && body.is_empty(), "{head} {body}");
        let (head, body) = ask(served.address, "GET /healthz").await;
        assert!(head.starts_with("http/1.1 200") && body == "ok\n", "{head} {body}");
        for path in ["/", "/metrics/", "/debug/pprof", "/healthz/..", "//healthz"] {
            let (head, _) = ask(served.address, &format!("GET {path}")).await;
            assert!(head.starts_with("http/1.1 404"), "{path} {head}");
        }
        let (head, _) = ask(served.address, "POST /metrics").await;
        assert!(head.starts_with("http/1.1 405"), "{head}");
    }

    #[tokio::test]
    async fn ready_follows_what_it_is_told() {
        let served = served().await;
        let (head, body) = ask(served.address, "GET /readyz").await;
        assert!(head.starts_with("http/1.1 503") && body == "the socket is not bound\n", "{head} {body}");
        served.ready.store(true, Ordering::Relaxed);
        let (head, _) = ask(served.address, "HEAD /readyz").await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
    }

    #[tokio::test]
    async fn a_body_is_not_waited_for() {
        let served = served().await;
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(CONNECTION / 2, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    #[tokio::test]
    async fn the_end_waits_for_no_slow_client() {
        let served = served().await;
        let mut slow = TcpStream::connect(served.address).await.unwrap();
        slow.write_all(b"GET /metrics HT").await.unwrap();
        let (head, _) = ask(served.address, "GET /healthz").await;
        assert!(head.starts_with("http/1.1 200"), "others are served: {head}");
        served.stop.send(()).unwrap();
        tokio::time::timeout(PATIENCE * 2, served.server).await.unwrap().unwrap().unwrap();
        assert!(TcpStream::connect(served.address).await.is_err(), "nobody listens any more");
    }

    #[tokio::test]
    async fn a_client_that_never_ends_its_headers_is_cut_off_and_its_place_is_free() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let life = Duration::from_millis(300);
        let listener = Bounded { listener, places: Arc::new(Semaphore::new(1)), life };
        tokio::spawn(axum::serve(listener, Router::new().route("/", get(|| async { "ok" }))).into_future());
        let before = std::time::Instant::now();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HT").await.unwrap();
        let (head, _) = ask(address, "GET /").await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(before.elapsed() >= life, "the only place was taken: {:?}", before.elapsed());
        // The end of the stream, or a reset.
        let _ = slow.read_to_end(&mut Vec::new()).await;
    }
}
