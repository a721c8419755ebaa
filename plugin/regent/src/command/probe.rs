//! `regent probe`: is the plugin's socket bound, and does somebody answer on it?

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use regent_core::rules::ArgoCd;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::argocd::socket;
use crate::cli::ProbeArgs;
use crate::failure::{Failure, reason};
use crate::{config, output};

pub(super) fn run(args: &ProbeArgs) -> Result<ExitCode, Failure> {
    let socket = socket_of(args)?;
    let problem = |reason| Failure::World { what: "probe", name: socket.display().to_string(), reason };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| problem(reason(&error)))?;
    runtime.block_on(probe(&socket, Duration::from_secs(args.timeout))).map_err(problem)?;
    output::text("serving\n")?;
    Ok(ExitCode::SUCCESS)
}

fn socket_of(args: &ProbeArgs) -> Result<PathBuf, Failure> {
    match (&args.socket, &args.config) {
        (Some(socket), _) => Ok(socket.clone()),
        (None, Some(file)) => Ok(socket::path(&config::load(file)?.argocd)),
        (None, None) => Ok(socket::path(&ArgoCd::default())),
    }
}

/// Asks `grpc.health.v1.Health/Check` for the server as a whole. The error is the reason alone.
async fn probe(socket: &Path, patience: Duration) -> Result<(), String> {
    let path = socket.to_str().ok_or("the path is not UTF-8")?;
    // tonic sends `:authority: tonic` to such an address; a percent-encoded path, as grpc-go sends it, no h2 server
    // takes unasked.
    let endpoint = Endpoint::from_shared(format!("unix:{path}")).map_err(|error| cause(&error))?;
    let asking = async {
        let channel = endpoint.connect().await.map_err(|error| cause(&error))?;
        let request = HealthCheckRequest { service: String::new() };
        // A status's message is the other side's; its code says enough.
        let answer = HealthClient::new(channel).check(request).await;
        answer.map_err(|status| format!("it answers {:?}", status.code()))
    };
    let answer = tokio::time::timeout(patience, asking)
        .await
        .map_err(|_| format!("no answer within {} s", patience.as_secs_f32()))??;
    match answer.into_inner().status() {
        ServingStatus::Serving => Ok(()),
        status @ (ServingStatus::Unknown | ServingStatus::NotServing | ServingStatus::ServiceUnknown) => {
            Err(format!("it says {}", status.as_str_name()))
        }
    }
}

/// The operating system's words where there are any; tonic's own only say that there was an error.
fn cause(error: &tonic::transport::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.downcast_ref::<io::Error>().map_or_else(|| cause.to_string(), reason)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use tokio::net::UnixListener;
    use tokio_stream::wrappers::UnixListenerStream;

    use super::*;

    fn place() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("regent-v1.sock");
        (folder, socket)
    }

    /// A real health service that says `status` of the server as a whole.
    fn serve(socket: &Path, status: tonic_health::ServingStatus) {
        let listener = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
        tokio::spawn(async move {
            let (reporter, service) = tonic_health::server::health_reporter();
            reporter.set_service_status("", status).await;
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(listener).await.unwrap();
        });
    }

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_plugin_that_serves_says_so() {
        let (_folder, socket) = place();
        serve(&socket, tonic_health::ServingStatus::Serving);
        assert_eq!(probe(&socket, PATIENCE).await, Ok(()));
    }

    #[tokio::test]
    async fn a_plugin_that_does_not_serve_says_so() {
        let (_folder, socket) = place();
        serve(&socket, tonic_health::ServingStatus::NotServing);
        assert_eq!(probe(&socket, PATIENCE).await, Err("it says NOT_SERVING".to_owned()));
    }

    #[tokio::test]
    async fn a_server_without_a_health_service_is_no_plugin() {
        let (_folder, socket) = place();
        let listener = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_routes(tonic::service::Routes::default())
                .serve_with_incoming(listener),
        );
        assert_eq!(probe(&socket, PATIENCE).await, Err("it answers Unimplemented".to_owned()));
    }

    #[tokio::test]
    async fn where_nothing_is_the_system_says_what_is_missing() {
        let (_folder, socket) = place();
        assert_eq!(probe(&socket, PATIENCE).await, Err("no such file or directory".to_owned()));
        // A socket's file that nobody listens on, as a killed process leaves it.
        drop(UnixListener::bind(&socket).unwrap());
        assert_eq!(probe(&socket, PATIENCE).await, Err("connection refused".to_owned()));
    }

    #[tokio::test]
    async fn silence_is_waited_for_as_long_as_was_asked() {
        let (_folder, socket) = place();
        let _listener = UnixListener::bind(&socket).unwrap();
        let silence = probe(&socket, Duration::from_millis(200)).await;
        assert_eq!(silence, Err("no answer within 0.2 s".to_owned()));
    }

    #[tokio::test]
    async fn something_that_is_not_grpc_is_no_plugin() {
        use tokio::io::AsyncWriteExt as _;
        let (_folder, socket) = place();
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await.unwrap();
        });
        assert!(probe(&socket, PATIENCE).await.is_err());
    }
}
