//! The artifacts, over plain HTTP inside the cluster. kustomize-controller fetches one at every reconcile of a
//! Kustomization, and four fetches that hang or meet a 5xx stop all of it; so an answer is quick or it is 404, after which
//! the controller goes on and asks again by itself.
//!
//! One connection, one request: an idle connection takes no place from somebody who waits for one. A place is held by
//! whoever takes bytes; who takes too few of them is cut.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use regent_core::name::ObjectName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

use super::hook::Hooks;
use super::shelf::{self, Content, PREFIX, SUFFIX, Shelf, Shelved};
use super::tree::Digest;
use crate::telemetry::Metrics;

/// Serves what is on the shelf, `/healthz` and webhooks, until `shutdown` is done; then what is under way may end for a while.
pub(crate) async fn serve(
    listener: TcpListener,
    shelf: Arc<Shelf>,
    hooks: Arc<Hooks>,
    metrics: Metrics,
    shutdown: impl Future<Output = ()>,
) {
    serve_within(listener, (shelf, hooks), metrics, shutdown, Bounds::default()).await;
}

/// What connections may take.
#[derive(Clone, Copy)]
struct Bounds {
    /// Most of them at once; others wait for a place, in the order in which they came.
    connections: usize,
    /// How long a head may take, and how long the client may take none of the [`PACE_BYTES`] that it has to.
    pace: Duration,
    /// Longest life of a connection, whatever it does.
    life: Duration,
    /// How long answers under way are waited for at the end.
    patience: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 512,
            pace: Duration::from_secs(10),
            // 256 MiB at 300 KiB a second.
            life: Duration::from_secs(900),
            patience: Duration::from_secs(20),
        }
    }
}

/// What requests are answered from.
type Served = (Arc<Shelf>, Arc<Hooks>);

async fn serve_within(
    listener: TcpListener,
    served: Served,
    metrics: Metrics,
    shutdown: impl Future<Output = ()>,
    bounds: Bounds,
) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            (place, accepted(&listener).await)
        };
        let (place, stream) = tokio::select! {
            next = next => next,
            () = &mut shutdown => break,
        };
        tokio::spawn(connection(stream, place, served.clone(), metrics.clone(), bounds));
    }
    drop(listener);
    let all = u32::try_from(bounds.connections).unwrap_or(u32::MAX);
    // Who is not done by then meets a closed connection, and asks the replica that is left.
    let _ = tokio::time::timeout(bounds.patience, places.acquire_many(all)).await;
}

/// The next connection. What goes wrong with one before it is there passes by itself, and so does a lack of descriptors.
async fn accepted(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn connection(stream: TcpStream, place: OwnedSemaphorePermit, served: Served, metrics: Metrics, bounds: Bounds) {
    // Small answers leave at once; where that cannot be set they leave a little later.
    let _ = stream.set_nodelay(true);
    let now = Instant::now();
    let paced = Paced {
        stream,
        end: now + bounds.life,
        pace: bounds.pace,
        moved: 0,
        alarm: Box::pin(tokio::time::sleep_until(now + bounds.pace)),
    };
    let counts = metrics.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let ((shelf, hooks), metrics) = (served.clone(), metrics.clone());
        async move {
            if Hooks::is_one(&request) {
                let (status, text) = hooks.answer(request).await;
                return Ok(plain(status, text));
            }
            let response = answer(&request, &shelf).await;
            metrics.artifact_asked(response.status().as_u16());
            Ok::<_, Infallible>(response)
        }
    });
    let served = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(paced), service)
        .await;
    if served.is_err() {
        counts.artifact_cut();
    }
    drop(place);
}

type Body = BoxBody<Bytes, io::Error>;

async fn answer(request: &Request<Incoming>, shelf: &Shelf) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "an artifact is fetched with GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let path = request.uri().path();
    if path == "/healthz" {
        return plain(StatusCode::OK, "ok\n");
    }
    let found = asked(path).and_then(|(name, digest)| shelf.find(&name, digest));
    let response = match found {
        Some(shelved) => sent(shelved, request.method() == Method::HEAD).await,
        None => None,
    };
    response.unwrap_or_else(|| plain(StatusCode::NOT_FOUND, "no such artifact\n"))
}

/// What a path asks for: a name and a digest, and nothing else that could be on a disk.
fn asked(path: &str) -> Option<(ObjectName, Digest)> {
    let (name, file) = path.strip_prefix('/')?.strip_prefix(PREFIX)?.strip_prefix('/')?.rsplit_once('/')?;
    Some((ObjectName::parse(name).ok()?, Digest::of_digits(file.strip_suffix(SUFFIX)?)?))
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// An artifact with its head; `None` where its file is gone, or its volume does not answer.
async fn sent(shelved: Shelved, head_only: bool) -> Option<Response<Body>> {
    let Shelved { size, content } = shelved;
    let body = match content {
        Content::Memory(bytes) => full(bytes),
        Content::File(path) => {
            let opened = tokio::task::spawn_blocking(move || shelf::open_whole(&path, size));
            let file = tokio::time::timeout(VOLUME, opened).await.ok()?.ok()??;
            streamed(file, size)
        }
    };
    let body = if head_only { full(Bytes::new()) } else { body };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/gzip"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
    Some(response)
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

/// A file, piece by piece as it is taken. One that ends early ends the connection, which the controller notices.
fn streamed(file: File, size: u64) -> Body {
    let pieces = stream::try_unfold((Arc::new(file), 0), move |(file, at)| async move {
        let length = usize::try_from(size - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
        if length == 0 {
            return Ok(None);
        }
        let reader = Arc::clone(&file);
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; length];
            reader.read_exact_at(&mut piece, at).map(|()| piece)
        });
        let piece = read.await.map_err(io::Error::other)??;
        Ok(Some((Frame::data(Bytes::from(piece)), (file, at + length as u64))))
    });
    StreamBody::new(pieces).boxed()
}

/// A connection whose client has to keep a pace: each time its alarm rings, [`PACE_BYTES`] have to have passed since the
/// time before. And it ends with its life.
struct Paced {
    stream: TcpStream,
    end: Instant,
    pace: Duration,
    /// Bytes since the alarm was set.
    moved: usize,
    alarm: Pin<Box<Sleep>>,
}

impl Paced {
    /// The stream while there is time, and a wake-up for when to look again.
    fn in_time(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        while self.alarm.as_mut().poll(context).is_ready() {
            if self.moved < PACE_BYTES || Instant::now() >= self.end {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.moved = 0;
            self.alarm.as_mut().reset(self.end.min(Instant::now() + self.pace));
        }
        Ok(Pin::new(&mut self.stream))
    }

    fn count(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.moved += bytes;
        }
        written
    }
}

impl AsyncRead for Paced {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.in_time(context)?.poll_read(context, into)
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.in_time(context)?.poll_write(context, bytes);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.in_time(context)?.poll_write_vectored(context, pieces);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(context)?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(context)?.poll_shutdown(context)
    }
}

/// How long a volume may take to open a file.
const VOLUME: Duration = Duration::from_secs(2);
/// Bytes that a client takes in each stretch of its pace: 25 KiB a second.
const PACE_BYTES: usize = 256 << 10;
/// Bytes of a file that are read at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Largest head of a request, in bytes.
const HEAD_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests;
