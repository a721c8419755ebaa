//! The endpoint's certificate, read again when its mount changes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use sha2::{Digest as _, Sha256};

use crate::config;
use crate::failure::Failure;
use crate::telemetry::{Metrics, Reload};
use crate::tls::{self, Identity, MAX_PEM_BYTES};
use crate::watch::Target;

/// Certificate chain and key in two files, and the TLS that is made of them.
pub(crate) struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    state: RwLock<State>,
    metrics: Metrics,
}

struct State {
    tls: Arc<ServerConfig>,
    /// Over the bytes that were last read, sound or not.
    digest: [u8; 32],
}

/// What is offered, in the order of preference: a connection for one request costs less over HTTP/1.1.
const PROTOCOLS: [&str; 2] = ["http/1.1", "h2"];

impl Certificate {
    /// Reads both files for the first time.
    ///
    /// # Errors
    /// [`Failure::World`] for a file that cannot be read, and for a key that is not the certificate's.
    pub(crate) fn start(chain: PathBuf, key: PathBuf, metrics: Metrics) -> Result<Self, Failure> {
        let digest = digest(&chain, &key);
        let tls = Arc::new(tls::server(Identity { certificate: &chain, key: &key }, &PROTOCOLS)?);
        Ok(Self { chain, key, state: RwLock::new(State { tls, digest }), metrics })
    }

    /// What the next connection is served with.
    pub(crate) fn tls(&self) -> Arc<ServerConfig> {
        // A state is replaced as a whole, so a panic elsewhere leaves none half written.
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner).tls)
    }

    /// Reads both files again if a byte of them changed. What cannot be used leaves the old ones in force.
    pub(crate) fn refresh(&self) {
        // Before the reading: what changes meanwhile is seen the next time.
        let digest = digest(&self.chain, &self.key);
        if self.state.read().unwrap_or_else(PoisonError::into_inner).digest == digest {
            return;
        }
        let tls = tls::server(Identity { certificate: &self.chain, key: &self.key }, &PROTOCOLS);
        self.metrics.reloaded(Reload::Certificate, tls.is_ok());
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.digest = digest;
        match tls {
            Ok(tls) => {
                state.tls = Arc::new(tls);
                tracing::info!("the endpoint's certificate was reloaded");
            }
            Err(failure) => {
                tracing::error!(problem = %failure, "the endpoint's certificate cannot be used; the one before still is");
            }
        }
    }

    /// The places whose change may change it.
    pub(crate) fn targets(&self) -> Vec<Target> {
        [&self.chain, &self.key].map(|file| Target::File(file.clone())).into_iter().filter(Target::is_there).collect()
    }
}

fn digest(chain: &Path, key: &Path) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for file in [chain, key] {
        match config::read_bounded(file, MAX_PEM_BYTES) {
            Ok(bytes) => {
                hasher.update((bytes.len() as u64).to_le_bytes());
                hasher.update(&bytes);
            }
            Err(_) => hasher.update([0]),
        }
    }
    hasher.finalize().into()
}
