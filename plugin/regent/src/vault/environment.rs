//! What the environment says about Vault, and the TLS that follows from it.
//!
//! Where Vault is stands in `regent.yaml` and in the Authority. The environment may say the same, or nothing; a person
//! whose shell means another Vault is stopped. How the connection is trusted is said by the usual names alone.
//!
//! A token is never taken from the environment: whoever is the same user reads it there, every child inherits it, and the
//! one in a person's shell may do more than a handover should be able to.

use std::ffi::OsString;
use std::path::PathBuf;

use http::Uri;
use regent_core::evidence::WitnessedVault;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::config::{self, Twin};
use crate::failure::Failure;
use crate::tls::{self, Roots};

/// What the environment says, looked at but not yet followed.
pub(super) struct Environment {
    roots: Roots,
    identity: Option<(PathBuf, PathBuf)>,
    /// The name that the certificate has to be for, where that is not the address's.
    pub(super) server_name: Option<ServerName<'static>>,
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
        } else if let Some((variable, pem)) = said(&config::VAULT_CACERT_BYTES) {
            Roots::Pem { variable, pem }
        } else if let Some((_, folder)) = path(&config::VAULT_CAPATH) {
            Roots::Folder(folder)
        } else {
            Roots::System
        };
        Ok(Self { roots, identity, server_name })
    }

    /// Reads the files that it names.
    pub(super) fn tls(&self) -> Result<ClientConfig, Failure> {
        let identity = self.identity.as_ref().map(|(certificate, key)| tls::Identity { certificate, key });
        tls::client(&self.roots, identity)
    }
}

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
