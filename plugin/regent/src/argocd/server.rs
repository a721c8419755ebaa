//! Connections: accepted without a limit, and served until their client closes them.
//!
//! Argo CD's client has no time-out for dialing and never dials again: it would hang in a connection that is accepted
//! and not served, and could not go on after a GOAWAY. So nothing is held back at accept, no connection has an age,
//! and at the end the open ones are waited for.
//!
//! Two promises are kept here, below gRPC, because nothing above can keep them. A request is read to its end before
//! its answer leaves, whatever was wrong with it, a message that cannot be decoded included. And values that were
//! answered but not taken in time are not delivered any more: their connection is closed.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::Service as _;

use super::authority_header::AuthoritySanitizer;
use super::proto::config_management_plugin_service_server::ConfigManagementPluginServiceServer;
use super::{MAX_MESSAGE, Plugin};

/// The plugin and its health, as they are served on the socket.
pub(crate) fn routes(plugin: Plugin, health: HealthServer<impl Health>) -> Routes {
    let plugin = ConfigManagementPluginServiceServer::new(plugin)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    Routes::new(plugin).add_service(health).prepare()
}

/// The name under which gRPC health knows the plugin.
pub(crate) fn service_name() -> &'static str {
    <ConfigManagementPluginServiceServer<Plugin> as NamedService>::NAME
}

/// How serving ends.
pub(crate) struct Ending<E, H, U, P> {
    /// Nothing more is accepted from here on, and what is open is waited for.
    pub(crate) end: E,
    /// What is open is not waited for any longer.
    pub(crate) hurry: H,
    /// Takes the socket's name away, between the two.
    pub(crate) unlink: U,
    /// How long what is open is waited for at most.
    pub(crate) patience: P,
}

/// Serves until its end. What comes through `replacements` takes the listener's place.
pub(crate) async fn serve<E, H, U, P>(
    mut listener: UnixListener,
    mut replacements: mpsc::UnboundedReceiver<UnixListener>,
    routes: Routes,
    ending: Ending<E, H, U, P>,
) where
    E: Future<Output = ()>,
    H: Future<Output = ()>,
    U: FnOnce(),
    P: FnOnce() -> Duration,
{
    let Ending { end, hurry, unlink, patience } = ending;
    let mut connections = JoinSet::new();
    tokio::pin!(end);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, routes.clone()))),
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection");
                    // Most likely there are too many open files: a busy loop would make it no better.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(replacement) = replacements.recv() => {
                let old = std::mem::replace(&mut listener, replacement);
                accept_rest(&old, &mut connections, &routes).await;
            }
            Some(_ended) = connections.join_next() => {}
            () = &mut end => break,
        }
    }
    unlink();
    accept_rest(&listener, &mut connections, &routes).await;
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    let in_time = tokio::select! {
        () = all => true,
        () = tokio::time::sleep(patience()) => false,
        () = hurry => false,
    };
    if !in_time {
        tracing::warn!(connections = connections.len(), "connections are still open, and are closed now");
    }
}

/// Connections that wait in a listener which nobody can reach any more.
async fn accept_rest(listener: &UnixListener, connections: &mut JoinSet<()>, routes: &Routes) {
    while let Ok(Ok((stream, _))) = tokio::time::timeout(Duration::ZERO, listener.accept()).await {
        connections.spawn(connection(stream, routes.clone()));
    }
}

async fn connection(stream: UnixStream, routes: Routes) {
    let (last_call, mut due) = watch::channel(None);
    let last_call = LastCall(Arc::new(last_call));
    let service = service_fn(|request| answer(request, routes.clone(), last_call.clone()));
    let served = http2::Builder::new(TokioExecutor::new())
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .serve_connection(TokioIo::new(AuthoritySanitizer::new(stream)), service);
    tokio::pin!(served);
    loop {
        let at = *due.borrow_and_update();
        let passed = async {
            match at {
                Some(at) => tokio::time::sleep_until(Instant::into(at)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = &mut served => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            // The sender lives as long as the service.
            Ok(()) = due.changed() => {}
            () = passed => {
                tracing::warn!("values were not taken in time, or their connection was kept; it is closed");
                return;
            }
        }
    }
}

/// When a connection on which values were answered has to be over. Argo CD closes its own as soon as it has the
/// answer; what keeps one could keep values back in it, and read them when Vault rules.
#[derive(Clone)]
pub(super) struct LastCall(Arc<watch::Sender<Option<Instant>>>);

impl LastCall {
    /// Closes the connection at this time, or at an earlier one that was said before.
    pub(super) fn at(&self, time: Instant) {
        self.0.send_if_modified(|due| {
            let is_earlier = due.is_none_or(|due| time < due);
            if is_earlier {
                *due = Some(time);
            }
            is_earlier
        });
    }
}

/// Answers one request, after its body was read to its end.
async fn answer(
    mut request: hyper::Request<Incoming>,
    mut routes: Routes,
    last_call: LastCall,
) -> Result<hyper::Response<tonic::body::Body>, tonic::Status> {
    request.extensions_mut().insert(last_call);
    let (head, body) = request.into_parts();
    let body = Rest(Arc::new(Mutex::new(body)));
    let response = routes.call(hyper::Request::from_parts(head, body.clone())).await;
    // Argo CD looks for an answer only after it has sent everything; who stops sending gets it all the same.
    drop(tokio::time::timeout(PATIENCE, body.end()).await);
    response.map_err(|never| match never {})
}

/// A request's body, of which what is left can be read after the service is done with it.
#[derive(Clone)]
struct Rest(Arc<Mutex<Incoming>>);

impl Rest {
    /// Reads what is left and drops it.
    async fn end(mut self) {
        while let Some(Ok(_)) = std::future::poll_fn(|context| Pin::new(&mut self).poll_frame(context)).await {}
    }
}

impl Body for Rest {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // Nothing but polling happens under the lock.
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Poll::Ready(ready!(Pin::new(&mut *body).poll_frame(context)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }
}

/// How long the rest of a request is waited for once its answer is there.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes under way on a connection and on a stream. h2 ends a connection on which many tiny DATA frames wait to be
/// read: each counts as 256 bytes, and half of the connection's window is allowed. Argo CD's chunks can be set as
/// small as one byte, six as a message; a stream's window full of those is 22 MB.
const CONNECTION_WINDOW: u32 = 64 << 20;
const STREAM_WINDOW: u32 = 512 << 10;
