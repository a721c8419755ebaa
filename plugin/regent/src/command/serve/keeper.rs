//! Looks after what can change under a running server.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use regent_sops::DataKeys;
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;

use crate::argocd::socket::{Socket, SocketFile};
use crate::flux::endpoint::Certificate;
use crate::reload::Current;
use crate::telemetry::Metrics;
use crate::watch::{Target, Watch};

pub(super) type SharedSocket = Arc<Mutex<Option<Socket>>>;

pub(super) fn is_bound(socket: &SharedSocket) -> bool {
    let socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
    socket.as_ref().is_some_and(|socket| socket.file() == SocketFile::Ours)
}

/// Looks after everything that can change under a running server, on a thread of its own: mounts, the socket's
/// file, the age of data keys.
pub(super) struct Keeper<P> {
    pub(super) current: Arc<Current>,
    pub(super) socket: SharedSocket,
    pub(super) mode: u32,
    pub(super) replacements: UnboundedSender<UnixListener>,
    pub(super) data_keys: Arc<DataKeys>,
    pub(super) metrics: Metrics,
    /// Listeners belong to it.
    pub(super) runtime: Handle,
    pub(super) started: Instant,
    /// Where the socket should be by now, where that is known.
    pub(super) path: P,
    /// The certificate of a server that speaks TLS.
    pub(super) certificate: Option<Arc<Certificate>>,
}

impl<P: Fn() -> Option<PathBuf>> Keeper<P> {
    pub(super) fn run(&self) -> Infallible {
        let mut watched: Vec<Target> = Vec::new();
        let mut watch = None;
        loop {
            let targets = self.targets();
            if watch.is_none() || targets != watched {
                watch = Watch::start(&targets)
                    .inspect_err(|failure| {
                        if targets != watched {
                            tracing::warn!(problem = %failure, "changes are looked for every few seconds only");
                        }
                    })
                    .ok();
                watched = targets;
            }
            match &watch {
                // Events come at once where the kernel sees the change; an idle sidecar should sleep.
                Some(watch) => watch.wait_at_most(Duration::from_secs(15)),
                None => std::thread::sleep(Duration::from_secs(5)),
            }
            self.current.refresh();
            if let Some(certificate) = &self.certificate {
                certificate.refresh();
            }
            self.data_keys.advance(self.started.elapsed().as_secs());
            self.metrics.data_keys(self.data_keys.counts());
            self.look_after_socket();
        }
    }

    fn targets(&self) -> Vec<Target> {
        let mut targets = self.current.targets();
        targets.extend(self.bound_path().map(Target::File));
        targets.extend(self.certificate.iter().flat_map(|certificate| certificate.targets()));
        targets
    }

    fn bound_path(&self) -> Option<PathBuf> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.as_ref().map(|socket| socket.path().to_owned())
    }

    /// Brings back a socket whose file is gone, and follows a new name in the operator's file.
    fn look_after_socket(&self) {
        let mut slot = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        // None: the server is ending.
        let Some(socket) = slot.as_mut() else { return };
        let _inside = self.runtime.enter();
        let moved = (self.path)().filter(|wanted| wanted != socket.path());
        let replaced = match (moved, socket.file()) {
            (Some(path), _) => {
                tracing::info!(socket = %path.display(), "the plugin has another name now");
                Socket::bind(path, self.mode).map(|(bound, listener)| {
                    *slot = Some(bound);
                    listener
                })
            }
            (None, SocketFile::Ours) => return,
            (None, lost @ (SocketFile::Vanished | SocketFile::Replaced)) => {
                self.metrics.socket_lost();
                tracing::error!(socket = %socket.path().display(), replaced = lost == SocketFile::Replaced, "the socket's file was lost");
                socket.restore()
            }
        };
        match replaced {
            // Nobody listens any more only when the server is ending.
            Ok(listener) => drop(self.replacements.send(listener)),
            Err(failure) => tracing::error!(problem = %failure, "the socket cannot be bound again"),
        }
    }
}
