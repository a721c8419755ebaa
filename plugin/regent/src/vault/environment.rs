//! What the environment says about Vault, and the TLS that follows from it.
//!
//! Where Vault is stands in `regent.yaml` and in the Authority. The environment may say the same, or nothing; a person
//! whose shell means another Vault is stopped. How the connection is trusted is said by the usual names alone.
//!
//! A token is never taken from the environment: whoever is the same user reads it there, every child inherits it, and the
//! one in a person's shell may do more than a handover should be able to.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use http::Uri;
use regent_core::evidence::WitnessedVault;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use crate::config::{self, Twin};
use crate::failure::{Failure, innermost};

/// What the environment says, looked at but not yet followed.
pub(super) struct Environment {
    roots: Roots,
    identity: Option<(PathBuf, PathBuf)>,
    /// The name that the certificate has to be for, where that is not the address's.
    pub(super) server_name: Option<ServerName<'static>>,
}

/// Who vouches for Vault's certificate.
#[derive(Debug, PartialEq, Eq)]
enum Roots {
    File(PathBuf),
    Pem(OsString),
    Folder(PathBuf),
    System,
}

impl Environment {
    /// Reads it through `look`, for an address and a namespace that it must not contradict.
    pub(super) fn read(
        place: &WitnessedVault,
        look: impl Fn(&'static str) -> Option<OsString>,
    ) -> Result<Self, Failure> {
        // By OpenBao's rule its own name counts wherever it is set, also to nothing.
        let said = |twin: &Twin| {
            let (name, value) = match look(twin.bao) {
                Some(value) => (twin.bao, value),
                None => (twin.vault, look(twin.vault)?),
            };
            (!value.is_empty()).then_some((name, value))
        };
        let text = |twin: &Twin| match said(twin).map(|(name, value)| (name, value.into_string())) {
            None => Ok(None),
            Some((name, Ok(value))) => Ok(Some((name, value))),
            Some((name, Err(_))) => Err(unusable(name, "it is no text".to_owned())),
        };
        for (twin, ours) in [(&config::VAULT_ADDR, &place.address), (&config::VAULT_NAMESPACE, &place.namespace)] {
            if let Some((name, theirs)) = text(twin)?
                && !theirs.trim_end_matches('/').eq_ignore_ascii_case(ours.trim_end_matches('/'))
            {
                let ours = if ours.is_empty() { "none" } else { ours };
                return Err(unusable(name, format!("it says `{theirs}`; the authority's own place says `{ours}`")));
            }
        }
        if let Some((name, value)) = text(&config::VAULT_SKIP_VERIFY)? {
            match is_true(&value) {
                Some(false) => {}
                Some(true) => return Err(unusable(name, "a certificate is always verified".to_owned())),
                None => return Err(unusable(name, format!("`{value}` is neither true nor false"))),
            }
        }
        let server_name = match text(&config::VAULT_TLS_SERVER_NAME)? {
            None => None,
            Some((name, value)) => {
                Some(ServerName::try_from(value).map_err(|_| unusable(name, "it is no name of a server".to_owned()))?)
            }
        };
        let path = |twin| said(twin).map(|(name, value)| (name, PathBuf::from(value)));
        let identity = match (path(&config::VAULT_CLIENT_CERT), path(&config::VAULT_CLIENT_KEY)) {
            (None, None) => None,
            (Some((_, certificate)), Some((_, key))) => Some((certificate, key)),
            (Some((name, _)), None) => return Err(unusable(name, "its key is missing".to_owned())),
            (None, Some((name, _))) => return Err(unusable(name, "its certificate is missing".to_owned())),
        };
        // Of several the first counts, in the order of Vault's own clients.
        let roots = if let Some((_, file)) = path(&config::VAULT_CACERT) {
            Roots::File(file)
        } else if let Some((_, pem)) = said(&config::VAULT_CACERT_BYTES) {
            Roots::Pem(pem)
        } else if let Some((_, folder)) = path(&config::VAULT_CAPATH) {
            Roots::Folder(folder)
        } else {
            Roots::System
        };
        Ok(Self { roots, identity, server_name })
    }

    /// Reads the files that it names.
    pub(super) fn tls(&self) -> Result<ClientConfig, Failure> {
        let unusable = |name: &str, reason: String| Failure::World { what: "use", name: name.to_owned(), reason };
        let mut roots = RootCertStore::empty();
        let mut add = |name: &str, pem: &[u8]| {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| unusable(name, innermost(&error)))?;
                roots.add(certificate).map_err(|error| unusable(name, innermost(&error)))?;
            }
            if roots.is_empty() { Err(unusable(name, "it holds no certificate".to_owned())) } else { Ok(()) }
        };
        match &self.roots {
            Roots::File(file) => add(&file.display().to_string(), &config::read_bounded(file, MAX_PEM_BYTES)?)?,
            Roots::Pem(pem) => add(config::VAULT_CACERT_BYTES.vault, pem.as_encoded_bytes())?,
            Roots::Folder(folder) => {
                let name = folder.display().to_string();
                let mut found = rustls_native_certs::load_certs_from_paths(None, Some(folder));
                // A certificate that is passed over would show up later as a server that is not trusted.
                if let Some(error) = found.errors.pop() {
                    return Err(unusable(&name, innermost(&error)));
                }
                for certificate in found.certs {
                    roots.add(certificate).map_err(|error| unusable(&name, innermost(&error)))?;
                }
                if roots.is_empty() {
                    return Err(unusable(&name, "it holds no certificate".to_owned()));
                }
            }
            Roots::System => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| unusable("TLS", innermost(&error)))?.with_root_certificates(roots);
        let Some((certificate, key)) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let bytes = config::read_bounded(certificate, MAX_PEM_BYTES)?;
        let name = certificate.display().to_string();
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let chain = chain.map_err(|error| unusable(&name, innermost(&error)))?;
        let bytes = Zeroizing::new(config::read_bounded(key, MAX_PEM_BYTES)?);
        let key_name = key.display().to_string();
        let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| unusable(&key_name, innermost(&error)))?;
        builder.with_client_auth_cert(chain, key).map_err(|error| unusable(&name, innermost(&error)))
    }
}

/// Largest file of certificates, in bytes; the system's own has a few hundred KiB.
const MAX_PEM_BYTES: u64 = 4 << 20;

/// Plain HTTP reaches this very machine alone: whatever a witness says, a token does not leave it unencrypted.
pub(super) fn is_private(address: &Uri) -> bool {
    let here = |host: &str| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    match (address.scheme_str(), address.host()) {
        (Some("https"), Some(_)) => true,
        (Some("http"), Some(host)) => here(host),
        (_, _) => false,
    }
}

/// A boolean as Go reads it, which is what Vault's own clients do.
fn is_true(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _other => None,
    }
}

fn unusable(variable: &'static str, problem: String) -> Failure {
    Failure::VaultEnvironment { variable, problem }
}

#[cfg(test)]
mod tests;
