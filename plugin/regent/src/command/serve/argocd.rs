//! `regent serve argocd`: the plugin's socket.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use regent_core::rules::{ArgoCd, ConfigLimits};

use super::keeper::{Keeper, is_bound};
use super::{Common, named};
use crate::argocd::Plugin;
use crate::argocd::server::{self, Ending};
use crate::argocd::socket::{self, Socket};
use crate::cli::ServeArgocdArgs;
use crate::cluster::watch::Watcher;
use crate::command::interrupted;
use crate::failure::Failure;
use crate::follow::Follower;
use crate::reload::Origin;
use crate::telemetry;

pub(super) fn run(args: &ServeArgocdArgs) -> Result<ExitCode, Failure> {
    let file = super::config(args.config.as_ref())?;
    let _logs = super::start_logs(&args.logs)?;
    let Common { metrics, data_keys, current, witnesses, runtime } =
        Common::start(Origin { file, demo: args.single_process_demo })?;
    runtime.block_on(async {
        let http = match args.listen {
            Some(address) => Some(super::listen(address).await?),
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
        let of_plugin = Arc::clone(&current);
        let keeper = Keeper {
            current: Arc::clone(&current),
            socket: Arc::clone(&socket),
            mode: args.socket_mode,
            replacements,
            data_keys: Arc::clone(&data_keys),
            metrics: metrics.clone(),
            runtime: tokio::runtime::Handle::current(),
            started: Instant::now(),
            // The name follows the operator's file.
            path: move || of_plugin.get().ok().map(|loaded| socket::path(&loaded.config.argocd)),
            certificate: None,
        };
        named("keeper", move || keeper.run())?;
        let runtime = tokio::runtime::Handle::current();
        let watcher = Watcher::new(Arc::clone(&current), Arc::clone(&witnesses), metrics.clone());
        tokio::spawn(watcher.run());
        let follower = Follower::new(Arc::clone(&current), witnesses, data_keys, metrics, runtime);
        named("follower", move || follower.run())?;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), socket = %socket::path(&settings).display(), "serving");
        let unlink = move || drop(socket.lock().unwrap_or_else(PoisonError::into_inner).take());
        let hurry = super::interrupted_again();
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
