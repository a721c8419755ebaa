//! Connections: each for one request, bounded in number and in time.
//!
//! kustomize-controller opens one for each document and would keep each of them for a minute and a half. So an answer ends
//! its connection, which costs nobody more than a new one, and no end of a reconcile leaves a thousand of them open.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::{Arrival, Certificate, Endpoint};

/// Where connections come from; at least one of both.
pub(crate) struct Listeners {
    /// TLS, and the certificate that counts at each connection's beginning.
    pub(crate) tls: Option<(TcpListener, Arc<Certificate>)>,
    /// Plain HTTP, for whoever the socket's file lets in.
    pub(crate) socket: Option<UnixListener>,
    /// What takes the socket's place when its file was lost.
    pub(crate) replacements: mpsc::UnboundedReceiver<UnixListener>,
}

/// How serving ends.
pub(crate) struct Ending<E, H, U> {
    /// The end begins.
    pub(crate) end: E,
    /// How long new connections are still taken after that: Services take a moment to know.
    pub(crate) linger: Duration,
    /// What is open is not waited for any longer.
    pub(crate) hurry: H,
    /// Takes the socket's name away, before the last connections are accepted.
    pub(crate) unlink: U,
}

/// Connections at one time; more wait to be accepted.
const CONNECTIONS: usize = 1024;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Longest life of a connection, whatever it does: a request has ten seconds, and its headers and answer the rest.
const CONNECTION: Duration = Duration::from_secs(20);

/// Largest headers in bytes. A token has some hundred; a JWT comes in a body.
const MAX_HEADERS: usize = 16 << 10;

/// Serves until its end.
pub(crate) async fn serve<E, H, U>(listeners: Listeners, endpoint: Arc<Endpoint>, ending: Ending<E, H, U>)
where
    E: Future<Output = ()>,
    H: Future<Output = ()>,
    U: FnOnce(),
{
    let Listeners { tls, mut socket, mut replacements } = listeners;
    let Ending { end, linger, hurry, unlink } = ending;
    let mut connections = Connections { endpoint, places: Arc::new(Semaphore::new(CONNECTIONS)), open: JoinSet::new() };
    let end = async {
        end.await;
        tokio::time::sleep(linger).await;
    };
    tokio::pin!(end);
    loop {
        // One at a time: who waits for a place accepts nobody.
        let place = tokio::select! {
            place = Arc::clone(&connections.places).acquire_owned() => place.expect("the semaphore is never closed"),
            () = &mut end => break,
        };
        tokio::select! {
            accepted = accept_tls(tls.as_ref()) => connections.take_tls(accepted, tls.as_ref(), place).await,
            accepted = accept_unix(socket.as_ref()) => connections.take_unix(accepted, place).await,
            Some(replacement) = replacements.recv() => {
                drop(place);
                if let Some(old) = socket.replace(replacement) {
                    connections.take_rest(None, Some(&old)).await;
                }
            }
            Some(_ended) = connections.open.join_next() => {}
            () = &mut end => break,
        }
    }
    unlink();
    connections.take_rest(tls.as_ref(), socket.as_ref()).await;
    drop((tls, socket));
    let mut open = connections.open;
    let all = async { while open.join_next().await.is_some() {} };
    tokio::select! {
        () = all => {}
        () = hurry => tracing::warn!("connections are still open, and are closed now"),
    }
}

type Tls = (TcpListener, Arc<Certificate>);

async fn accept_tls(tls: Option<&Tls>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match tls {
        Some((listener, _)) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn accept_unix(socket: Option<&UnixListener>) -> std::io::Result<UnixStream> {
    match socket {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

struct Connections {
    endpoint: Arc<Endpoint>,
    places: Arc<Semaphore>,
    open: JoinSet<()>,
}

impl Connections {
    async fn take_tls(
        &mut self,
        accepted: std::io::Result<(TcpStream, SocketAddr)>,
        tls: Option<&Tls>,
        place: OwnedSemaphorePermit,
    ) {
        match (accepted, tls) {
            (Ok((stream, peer)), Some((_, certificate))) => {
                let (endpoint, acceptor) = (Arc::clone(&self.endpoint), TlsAcceptor::from(certificate.tls()));
                let arrival = endpoint.arrival(peer.ip());
                self.spawn(place, secured(stream, acceptor, endpoint, arrival));
            }
            (Err(error), _) => not_accepted(&error).await,
            (Ok(_), None) => {}
        }
    }

    async fn take_unix(&mut self, accepted: std::io::Result<UnixStream>, place: OwnedSemaphorePermit) {
        match accepted {
            Ok(stream) => {
                let endpoint = Arc::clone(&self.endpoint);
                self.spawn(place, over_http1(stream, endpoint, Arrival::default()));
            }
            Err(error) => not_accepted(&error).await,
        }
    }

    /// Connections that wait in listeners which nobody can reach any more.
    async fn take_rest(&mut self, tls: Option<&Tls>, socket: Option<&UnixListener>) {
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            let next = tokio::time::timeout(Duration::ZERO, async {
                tokio::select! {
                    accepted = accept_tls(tls) => self.take_tls(accepted, tls, place).await,
                    accepted = accept_unix(socket) => self.take_unix(accepted, place).await,
                }
            });
            if next.await.is_err() {
                return;
            }
        }
    }

    fn spawn(&mut self, place: OwnedSemaphorePermit, connection: impl Future<Output = ()> + Send + 'static) {
        self.open.spawn(async move {
            if tokio::time::timeout(CONNECTION, connection).await.is_err() {
                tracing::debug!("a connection took too long");
            }
            drop(place);
        });
    }
}

async fn not_accepted(error: &std::io::Error) {
    tracing::error!(%error, "cannot accept a connection");
    // Most likely there are too many open files: a busy loop would make it no better.
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn secured(stream: TcpStream, acceptor: TlsAcceptor, endpoint: Arc<Endpoint>, arrival: Arrival) {
    // Without it an answer may wait for the acknowledgement of a handshake. A connection that refuses is a dead one.
    drop(stream.set_nodelay(true));
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            over_http2(stream, endpoint, arrival).await;
        }
        Ok(Ok(stream)) => over_http1(stream, endpoint, arrival).await,
        Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
        Err(_) => tracing::debug!("a handshake took too long"),
    }
}

async fn over_http1(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, endpoint: Arc<Endpoint>, arrival: Arrival) {
    let service = service_fn(|request| async { Ok::<_, Infallible>(endpoint.respond(request, &arrival).await) });
    let mut builder = http1::Builder::new();
    builder.keep_alive(false).max_buf_size(MAX_HEADERS);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection ended");
    }
}

/// The first answer begins the end here, too; what was asked before the client knows of it is answered.
async fn over_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    endpoint: Arc<Endpoint>,
    arrival: Arrival,
) {
    let (answered, arrival) = (Arc::new(Notify::new()), Arc::new(arrival));
    let tell = Arc::clone(&answered);
    let service = service_fn(move |request| {
        let (endpoint, arrival, tell) = (Arc::clone(&endpoint), Arc::clone(&arrival), Arc::clone(&tell));
        async move {
            let response = endpoint.respond(request, &arrival).await;
            tell.notify_one();
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.max_concurrent_streams(16).max_header_list_size(HEADER_LIST);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = answered.notified() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// [`MAX_HEADERS`] as HTTP/2 counts it.
const HEADER_LIST: u32 = 16 << 10;
