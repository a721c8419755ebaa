//! `regent serve`: a front door that stays open.

use std::convert::Infallible;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use regent_core::rules::{ArgoCd, ConfigLimits};
use regent_sops::DataKeys;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc::UnboundedSender;

use super::interrupted;
use crate::argocd::Plugin;
use crate::argocd::server::{self, Ending};
use crate::argocd::socket::{self, Socket, SocketFile};
use crate::cli::{LogArgs, ServeArgocdArgs, ServeArgs, ServeDoor};
use crate::cluster::watch::Watcher;
use crate::failure::Failure;
use crate::follow::Follower;
use crate::reload::{Current, Origin};
use crate::telemetry::{self, Metrics};
use crate::watch::{Target, Watch};
use crate::witnesses::Witnesses;

pub(super) fn run(args: &ServeArgs) -> Result<ExitCode, Failure> {
    match &args.door {
        ServeDoor::Argocd(args) => argocd(args),
    }
}

/// Data keys remembered: a refresh of everything asks for each once, and a key costs some 200 bytes.
const DATA_KEYS: usize = 16_384;
/// How long, in seconds: a refresh of everything takes minutes.
const DATA_KEY_AGE: u64 = 600;

fn argocd(args: &ServeArgocdArgs) -> Result<ExitCode, Failure> {
    let Some(file) = args.config.clone() else {
        return Err(Failure::Usage("`regent serve` expects the operator's file: `--config FILE`".to_owned()));
    };
    let _logs = start_logs(&args.logs)?;
    let metrics = Metrics::new();
    let data_keys = Arc::new(DataKeys::new(DATA_KEYS, DATA_KEY_AGE));
    let origin = Origin { file, demo: args.single_process_demo };
    let current = Arc::new(Current::start(origin, Arc::clone(&data_keys), metrics.clone()));
    let witnesses = Arc::new(Witnesses::new(Arc::clone(&data_keys), metrics.clone()));
    // Said here, because both libraries would ask the environment.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(cores).build_global();
    pool.map_err(|error| Failure::io("start", "threads".as_ref(), &std::io::Error::other(error)))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(cores).enable_io().enable_time().build();
    let runtime = runtime.map_err(|error| Failure::io("start", "the runtime".as_ref(), &error))?;
    runtime.block_on(async {
        let http = match args.listen {
            Some(address) => {
                let listener = TcpListener::bind(address).await;
                Some(listener.map_err(|error| Failure::io("listen on", address.to_string().as_ref(), &error))?)
            }
            None => None,
        };
        let settings = current.get().map_or_else(|_| ArgoCd::default(), |loaded| loaded.config.argocd.clone());
        let plugin = Plugin::new(Arc::clone(&current), Arc::clone(&witnesses), Arc::clone(&data_keys), metrics.clone());
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_service_status(server::service_name(), tonic_health::ServingStatus::Serving).await;
        let routes = server::routes(plugin, health);
        let end = interrupted()?;
        // From here on there is somebody who answers.
        let (bound, listener) = Socket::bind(socket::path(&settings), args.socket_mode)?;
        let (replacements, replaced) = tokio::sync::mpsc::unbounded_channel();
        let socket = Arc::new(Mutex::new(Some(bound)));
        let (stop_http, http_stopped) = tokio::sync::oneshot::channel::<()>();
        if let Some(listener) = http {
            let ready = {
                let socket = Arc::clone(&socket);
                move || is_bound(&socket)
            };
            let stopped = async move { drop(http_stopped.await) };
            tokio::spawn(telemetry::serve(listener, metrics.clone(), ready, stopped));
        }
        let keeper = Keeper {
            current: Arc::clone(&current),
            socket: Arc::clone(&socket),
            mode: args.socket_mode,
            replacements,
            data_keys: Arc::clone(&data_keys),
            metrics: metrics.clone(),
            runtime: tokio::runtime::Handle::current(),
            started: Instant::now(),
        };
        named("keeper", move || keeper.run())?;
        let runtime = tokio::runtime::Handle::current();
        let watcher = Watcher::new(Arc::clone(&current), Arc::clone(&witnesses), metrics.clone());
        tokio::spawn(watcher.run());
        let follower = Follower::new(Arc::clone(&current), witnesses, data_keys, metrics, runtime);
        named("follower", move || follower.run())?;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), socket = %socket::path(&settings).display(), "serving");
        let unlink = move || drop(socket.lock().unwrap_or_else(PoisonError::into_inner).take());
        let hurry = async move {
            // Its signals count from here on, so the first one is over.
            let Ok(second) = interrupted() else { return std::future::pending().await };
            second.await;
        };
        let patience = move || {
            let longest = current.get().map_or(ConfigLimits::default().request, |loaded| loaded.config.limits.request);
            longest + Duration::from_secs(5)
        };
        // On a worker: whoever accepts on this thread would wake another for each connection.
        let serving = server::serve(listener, replaced, routes, Ending { end, hurry, unlink, patience });
        tokio::spawn(serving).await.map_err(|_| Failure::Bug)?;
        drop(stop_http);
        tracing::info!("ended");
        Ok(ExitCode::SUCCESS)
    })
}

/// Starts a thread that lives as long as the process: work that panics begins anew.
fn named(name: &'static str, work: impl Fn() -> Infallible + Send + 'static) -> Result<(), Failure> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        loop {
            // The panic was reported where it happened; what the work holds is replaced as a whole, never half.
            drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(&work)).map(|never| match never {}));
            tracing::error!(thread = name, "a thread met a case that it does not know, and begins anew");
            std::thread::sleep(Duration::from_secs(5));
        }
    });
    started.map(drop).map_err(|error| Failure::io("start", "a thread".as_ref(), &error))
}

fn start_logs(args: &LogArgs) -> Result<telemetry::LogGuard, Failure> {
    #[cfg(feature = "otlp")]
    if let Some(collector) = &args.otlp_address {
        return telemetry::start_logs_and_spans(args.log_format, &args.log_level, collector);
    }
    telemetry::start_logs(args.log_format, &args.log_level)
}

type SharedSocket = Arc<Mutex<Option<Socket>>>;

fn is_bound(socket: &SharedSocket) -> bool {
    let socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
    socket.as_ref().is_some_and(|socket| socket.file() == SocketFile::Ours)
}

/// Looks after everything that can change under a running server, on a thread of its own: mounts, the socket's
/// file, the age of data keys.
struct Keeper {
    current: Arc<Current>,
    socket: SharedSocket,
    mode: u32,
    replacements: UnboundedSender<UnixListener>,
    data_keys: Arc<DataKeys>,
    metrics: Metrics,
    /// Listeners belong to it.
    runtime: tokio::runtime::Handle,
    started: Instant,
}

impl Keeper {
    fn run(&self) -> Infallible {
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
            self.data_keys.advance(self.started.elapsed().as_secs());
            self.metrics.data_keys(self.data_keys.counts());
            self.look_after_socket();
        }
    }

    fn targets(&self) -> Vec<Target> {
        let mut targets = self.current.targets();
        targets.extend(self.path().map(Target::File));
        targets
    }

    fn path(&self) -> Option<PathBuf> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.as_ref().map(|socket| socket.path().to_owned())
    }

    /// Brings back a socket whose file is gone, and follows a new name in the operator's file.
    fn look_after_socket(&self) {
        let mut slot = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        // None: the server is ending.
        let Some(socket) = slot.as_mut() else { return };
        let _inside = self.runtime.enter();
        let wanted = self.current.get().map(|loaded| socket::path(&loaded.config.argocd));
        let moved = wanted.ok().filter(|wanted| wanted != socket.path());
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
