//! `regent serve flux`: artifacts for kustomize-controller, and its data keys.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::keeper::{Keeper, is_bound};
use super::{Common, named};
use crate::argocd::socket::Socket;
use crate::cli::ServeFluxArgs;
use crate::cluster::watch::Watcher;
use crate::command::interrupted;
use crate::failure::Failure;
use crate::flux::door::Door;
use crate::flux::endpoint::{self, Certificate, Ending, Endpoint, Listeners};
use crate::flux::serving;
use crate::flux::shelf::Shelf;
use crate::reload::Origin;
use crate::telemetry;

/// How long new connections are still taken after a signal: a Service takes a moment to send them elsewhere.
const LINGER: Duration = Duration::from_secs(2);

/// How long giving the lease back may take: another replica need not wait until it runs out.
const GIVE_BACK: Duration = Duration::from_secs(3);

/// Refusals that wait to be told at a Kustomization.
const REFUSALS: usize = 256;

pub(super) fn run(args: &ServeFluxArgs) -> Result<ExitCode, Failure> {
    let file = super::config(args.config.as_ref())?;
    let _logs = super::start_logs(&args.logs)?;
    let Common { metrics, data_keys, current, witnesses, runtime } = Common::start(Origin { file, demo: false })?;
    let (shelf, unsound) = Shelf::open(&args.data)?;
    for unsound in unsound {
        tracing::warn!(path = %unsound.path.display(), problem = unsound.problem, "an artifact is not served");
    }
    let shelf = Arc::new(shelf);
    let kept = shelf.names().len();
    let certificate = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => {
            Some(Arc::new(Certificate::start(certificate.clone(), key.clone(), metrics.clone())?))
        }
        (Some(_) | None, _) => None,
    };
    runtime.block_on(async {
        let end = interrupted()?;
        let (ends, ending) = watch::channel(false);
        let ended = move || {
            let mut ending = ending.clone();
            async move { drop(ending.wait_for(|ends| *ends).await) }
        };
        // What was built before is served first: nothing else has to be reachable for that.
        let artifacts = super::listen(args.artifacts_listen).await?;
        let serving_artifacts = tokio::spawn(serving::serve(artifacts, Arc::clone(&shelf), metrics.clone(), ended()));
        let tls = match (args.endpoint_listen, &certificate) {
            (Some(address), Some(certificate)) => Some((super::listen(address).await?, Arc::clone(certificate))),
            (Some(_) | None, _) => None,
        };
        let (bound, socket) = match &args.endpoint_socket {
            Some(path) => {
                Socket::bind(path.clone(), args.socket_mode).map(|(bound, socket)| (Some(bound), Some(socket)))?
            }
            None => (None, None),
        };
        let has_socket = bound.is_some();
        let bound = Arc::new(Mutex::new(bound));
        let (replacements, replaced) = mpsc::unbounded_channel();
        if let Some(address) = args.listen {
            let listener = super::listen(address).await?;
            let ready = {
                let bound = Arc::clone(&bound);
                move || !has_socket || is_bound(&bound)
            };
            tokio::spawn(telemetry::serve(listener, metrics.clone(), ready, ended()));
        }
        let path = args.endpoint_socket.clone();
        let keeper = Keeper {
            current: Arc::clone(&current),
            socket: Arc::clone(&bound),
            mode: args.socket_mode,
            replacements,
            data_keys: Arc::clone(&data_keys),
            metrics: metrics.clone(),
            runtime: tokio::runtime::Handle::current(),
            started: Instant::now(),
            path: move || path.clone(),
            certificate,
        };
        named("keeper", move || keeper.run())?;
        tokio::spawn(Watcher::new(Arc::clone(&current), Arc::clone(&witnesses), metrics.clone()).run());
        let (refusals, refused) = mpsc::channel(REFUSALS);
        let endpoint = Endpoint::new(Arc::clone(&current), Arc::clone(&witnesses), metrics, refusals);
        let door = Door::new(current, witnesses, data_keys, shelf, refused);
        let leading = door.lead(ended());
        tokio::spawn(door.run());
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            artifacts = %args.artifacts_listen,
            kept,
            endpoint = args.endpoint_listen.map(|address| address.to_string()).unwrap_or_default(),
            "serving"
        );
        let unlink = move || drop(bound.lock().unwrap_or_else(PoisonError::into_inner).take());
        let listeners = Listeners { tls, socket, replacements: replaced };
        let ending = Ending { end, linger: LINGER, hurry: super::interrupted_again(), unlink };
        tokio::spawn(endpoint::serve(listeners, Arc::new(endpoint), ending)).await.map_err(|_| Failure::Bug)?;
        ends.send_replace(true);
        drop(serving_artifacts.await);
        drop(timeout(GIVE_BACK, leading).await);
        tracing::info!("ended");
        Ok(ExitCode::SUCCESS)
    })
}
