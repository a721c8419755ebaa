//! `regent serve`: a front door that stays open.

mod argocd;
mod flux;
mod keeper;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use regent_sops::DataKeys;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::interrupted;
use crate::cli::{LogArgs, ServeArgs, ServeDoor};
use crate::failure::Failure;
use crate::reload::{Current, Origin};
use crate::telemetry::{self, Metrics};
use crate::witnesses::Witnesses;

pub(super) fn run(args: &ServeArgs) -> Result<ExitCode, Failure> {
    match &args.door {
        ServeDoor::Argocd(args) => argocd::run(args),
        ServeDoor::Flux(args) => flux::run(args),
    }
}

/// What every door works with.
struct Common {
    metrics: Metrics,
    data_keys: Arc<DataKeys>,
    current: Arc<Current>,
    witnesses: Arc<Witnesses>,
    runtime: Runtime,
}

/// Data keys remembered: a refresh of everything asks for each once, and a key costs some 200 bytes.
const DATA_KEYS: usize = 16_384;
/// How long, in seconds: a refresh of everything takes minutes.
const DATA_KEY_AGE: u64 = 600;

impl Common {
    /// Reads what is mounted, and starts the threads that work.
    fn start(origin: Origin) -> Result<Self, Failure> {
        let metrics = Metrics::new();
        let data_keys = Arc::new(DataKeys::new(DATA_KEYS, DATA_KEY_AGE));
        let current = Arc::new(Current::start(origin, Arc::clone(&data_keys), metrics.clone()));
        let witnesses = Arc::new(Witnesses::new(Arc::clone(&data_keys), metrics.clone()));
        // Said here, because both libraries would ask the environment.
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(cores).build_global();
        pool.map_err(|error| Failure::io("start", "threads".as_ref(), &std::io::Error::other(error)))?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(cores).enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| Failure::io("start", "the runtime".as_ref(), &error))?;
        Ok(Self { metrics, data_keys, current, witnesses, runtime })
    }
}

/// The operator's file, which every door needs.
fn config(typed: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    let expected = || Failure::Usage("`regent serve` expects the operator's file: `--config FILE`".to_owned());
    typed.cloned().ok_or_else(expected)
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| Failure::io("listen on", address.to_string().as_ref(), &error))
}

/// The second signal: whoever sends it waits for nobody.
async fn interrupted_again() {
    // Its signals count from here on, so the first one is over.
    let Ok(second) = interrupted() else { return std::future::pending().await };
    second.await;
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
