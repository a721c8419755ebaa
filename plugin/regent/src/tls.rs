//! TLS as a client, the same for every server that regent asks by itself: who vouches for its certificate, and which one
//! regent shows. And as a server, for whoever sends or is sent secrets. Versions and ciphers are rustls' own, and a
//! server's certificate is always verified.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use zeroize::Zeroizing;

use crate::config;
use crate::failure::{Failure, innermost};

/// Who vouches for a server's certificate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    /// The CA certificates (PEM) in a file.
    File(PathBuf),
    /// CA certificates themselves, from an environment variable.
    Pem { variable: &'static str, pem: OsString },
    /// The CA certificates in a folder.
    Folder(PathBuf),
    /// Those that the system trusts.
    System,
}

/// Files with a certificate chain and its key.
#[derive(Clone, Copy)]
pub(crate) struct Identity<'a> {
    pub(crate) certificate: &'a Path,
    pub(crate) key: &'a Path,
}

impl Roots {
    /// The CA certificates of a file where one is named, else the system's.
    pub(crate) fn file_or_system(file: Option<&Path>) -> Self {
        file.map_or(Self::System, |file| Self::File(file.to_owned()))
    }
}

/// Reads the files that are named, and makes a client's TLS of them.
pub(crate) fn client(roots: &Roots, identity: Option<Identity<'_>>) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| unusable("TLS", innermost(&error)))?.with_root_certificates(store(roots)?);
    let Some(identity) = identity else { return Ok(builder.with_no_client_auth()) };
    let name = identity.certificate.display().to_string();
    let (chain, key) = identity.read()?;
    builder.with_client_auth_cert(chain, key).map_err(|error| unusable(&name, innermost(&error)))
}

/// A server's TLS. Nobody resumes a session: kustomize-controller makes a client of its own for each document, and a ticket
/// that nobody comes back with costs as much as the rest of the answer.
pub(crate) fn server(identity: Identity<'_>, protocols: &[&str]) -> Result<ServerConfig, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| unusable("TLS", innermost(&error)))?.with_no_client_auth();
    let name = identity.certificate.display().to_string();
    let (chain, key) = identity.read()?;
    let mut server = builder.with_single_cert(chain, key).map_err(|error| unusable(&name, innermost(&error)))?;
    server.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok(server)
}

impl Identity<'_> {
    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Failure> {
        let name = self.certificate.display().to_string();
        let bytes = config::read_bounded(self.certificate, MAX_PEM_BYTES)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let chain = chain.map_err(|error| unusable(&name, innermost(&error)))?;
        let bytes = Zeroizing::new(config::read_bounded(self.key, MAX_PEM_BYTES)?);
        let name = self.key.display().to_string();
        let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| unusable(&name, innermost(&error)))?;
        Ok((chain, key))
    }
}

fn store(roots: &Roots) -> Result<RootCertStore, Failure> {
    match roots {
        Roots::File(file) => of_pem(&file.display().to_string(), &config::read_bounded(file, MAX_PEM_BYTES)?),
        Roots::Pem { variable, pem } => of_pem(variable, pem.as_encoded_bytes()),
        Roots::Folder(folder) => {
            let name = folder.display().to_string();
            let mut found = rustls_native_certs::load_certs_from_paths(None, Some(folder));
            // A certificate that is passed over would show up later as a server that is not trusted.
            match found.errors.pop() {
                Some(error) => Err(unusable(&name, innermost(&error))),
                None => filled(&name, found.certs.into_iter().map(Ok)),
            }
        }
        Roots::System => {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Ok(store)
        }
    }
}

fn of_pem(name: &str, pem: &[u8]) -> Result<RootCertStore, Failure> {
    let certificates = CertificateDer::pem_slice_iter(pem);
    filled(name, certificates.map(|certificate| certificate.map_err(|error| unusable(name, innermost(&error)))))
}

fn filled(
    name: &str,
    certificates: impl Iterator<Item = Result<CertificateDer<'static>, Failure>>,
) -> Result<RootCertStore, Failure> {
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        store.add(certificate?).map_err(|error| unusable(name, innermost(&error)))?;
    }
    if store.is_empty() { Err(unusable(name, "it holds no certificate".to_owned())) } else { Ok(store) }
}

/// Largest file of certificates, in bytes; the system's own has a few hundred KiB.
pub(crate) const MAX_PEM_BYTES: u64 = 4 << 20;

fn unusable(name: &str, reason: String) -> Failure {
    Failure::World { what: "use", name: name.to_owned(), reason }
}
