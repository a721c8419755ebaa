//! The least that a plugin of this stack can be: takes an upload and answers manifests from memory. What regent costs
//! is measured against it.
//!
//! `sink SOCKET [--answer FILE] [--gunzip]`: FILE has one manifest a line; `--gunzip` also inflates the upload and
//! compares its SHA-256 with the one that was announced, keeping nothing.

#[path = "../src/argocd/authority_header.rs"]
mod authority_header;
#[expect(unreachable_pub, unused_qualifications, clippy::pedantic, reason = "generated")]
#[expect(clippy::allow_attributes_without_reason, reason = "generated")]
mod proto {
    tonic::include_proto!("plugin");
}

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use flate2::write::GzDecoder;
use sha2::{Digest as _, Sha256};
use tokio::net::UnixListener;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use authority_header::AuthoritySanitizer;
use proto::app_stream_request::Request as Part;
use proto::config_management_plugin_service_server::{
    ConfigManagementPluginService, ConfigManagementPluginServiceServer,
};
use proto::{
    AppStreamRequest, CheckPluginConfigurationResponse, ManifestResponse, ParametersAnnouncementResponse,
    RepositoryResponse,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (mut socket, mut answer, mut gunzip) = (None, None, false);
    let mut typed = std::env::args_os().skip(1);
    while let Some(argument) = typed.next() {
        match argument.to_str() {
            Some("--answer") => answer = Some(PathBuf::from(typed.next().ok_or("`--answer` expects a file")?)),
            Some("--gunzip") => gunzip = true,
            _ => socket = Some(PathBuf::from(argument)),
        }
    }
    let socket = socket.ok_or("usage: sink SOCKET [--answer FILE] [--gunzip]")?;
    let lines = answer.map(std::fs::read_to_string).transpose()?.unwrap_or_default();
    let manifests = lines.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if let Err(error) = std::fs::remove_file(&socket)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error.into());
    }
    let connections = UnixListenerStream::new(UnixListener::bind(&socket)?);
    let sink = Sink { manifests: Arc::new(manifests), gunzip };
    Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .add_service(ConfigManagementPluginServiceServer::new(sink).max_decoding_message_size(100 << 20))
        .serve_with_incoming(connections.map(|connection| connection.map(AuthoritySanitizer::new)))
        .await?;
    Ok(())
}

/// What may be under way unread, in bytes.
const WINDOW_BYTES: u32 = 4 << 20;

struct Sink {
    manifests: Arc<Vec<String>>,
    gunzip: bool,
}

#[tonic::async_trait]
impl ConfigManagementPluginService for Sink {
    async fn generate_manifest(
        &self,
        request: Request<Streaming<AppStreamRequest>>,
    ) -> Result<Response<ManifestResponse>, Status> {
        let mut upload = request.into_inner();
        let mut announced = Vec::new();
        let mut hash = Sha256::new();
        let mut gunzip = GzDecoder::new(std::io::sink());
        while let Some(message) = upload.message().await? {
            match message.request {
                Some(Part::Metadata(metadata)) => announced = metadata.checksum,
                Some(Part::File(file)) if self.gunzip => {
                    hash.update(&file.chunk);
                    gunzip.write_all(&file.chunk)?;
                }
                Some(Part::File(_)) | None => {}
            }
        }
        if self.gunzip {
            gunzip.finish()?;
            if format!("{:x}", hash.finalize()).as_bytes() != announced {
                return Err(Status::data_loss("the upload is not the one that was announced"));
            }
        }
        let manifests = self.manifests.as_ref().clone();
        Ok(Response::new(ManifestResponse { manifests, source_type: String::new() }))
    }

    async fn check_plugin_configuration(
        &self,
        _request: Request<()>,
    ) -> Result<Response<CheckPluginConfigurationResponse>, Status> {
        Ok(Response::new(CheckPluginConfigurationResponse::default()))
    }

    async fn match_repository(
        &self,
        _request: Request<Streaming<AppStreamRequest>>,
    ) -> Result<Response<RepositoryResponse>, Status> {
        Err(Status::unimplemented("it has no discovery"))
    }

    async fn get_parameters_announcement(
        &self,
        _request: Request<Streaming<AppStreamRequest>>,
    ) -> Result<Response<ParametersAnnouncementResponse>, Status> {
        Err(Status::unimplemented("it has no parameters"))
    }
}
