//! What an artifact made of single files, for the next one: a commit changes few of them, and opening and encrypting again
//! is most of what an artifact costs.
//!
//! Nothing in it was ever secret: names, digests of ciphertext, and under which name the caller finds what it wrote.

use std::collections::HashMap;
use std::sync::Arc;

use regent_sops::Limits;
use sha2::{Digest as _, Sha256};

use super::Request;
use crate::bootstrap::Bootstrap;
use crate::emit::Identity;
use crate::files::{Form, Input};
use crate::flux::bound::Bound;
use crate::flux::reach::Place;
use crate::name::FilePath;

/// What an artifact made of each file while Git ruled. [`Known::default`] knows nothing.
#[derive(Debug, Default)]
pub struct Known {
    /// Of which requests; `None` for none.
    basis: Option<Basis>,
    files: HashMap<FilePath, (Digest, File)>,
}

/// What the documents of every file are a function of, beside the keys.
#[derive(Debug)]
struct Basis {
    bootstrap: Bootstrap,
    namespaces: Vec<String>,
    limits: Limits,
    bound: Bound,
    endpoint: String,
}

/// SHA-256 of what one file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest([u8; 32]);

/// What became of a file.
#[derive(Debug)]
pub(super) struct File {
    /// Its objects.
    pub(super) documents: Arc<[Identity]>,
    /// Its name in the artifact; `None` where it stayed as it was.
    pub(super) name: Option<FilePath>,
}

impl Known {
    /// Of a request's files, which are noted next.
    pub(super) fn of(request: &Request<'_>) -> Self {
        let basis = Basis {
            bootstrap: request.bootstrap.clone(),
            namespaces: request.namespaces.to_vec(),
            limits: *request.limits,
            bound: request.bound.clone(),
            endpoint: request.endpoint.to_owned(),
        };
        Self { basis: Some(basis), files: HashMap::new() }
    }

    /// Whether it says something about a request.
    pub(super) fn is_of(&self, request: &Request<'_>) -> bool {
        let Some(Basis { bootstrap, namespaces, limits, bound, endpoint }) = &self.basis else { return false };
        bootstrap == request.bootstrap
            && namespaces == request.namespaces
            && limits == request.limits
            && bound == request.bound
            && endpoint == request.endpoint
    }

    /// What became of the file, where it said the same.
    pub(super) fn file(&self, path: &FilePath, digest: Digest) -> Option<&File> {
        self.files.get(path).filter(|(before, _)| *before == digest).map(|(_, file)| file)
    }

    /// Notes a file.
    pub(super) fn insert(&mut self, path: &FilePath, digest: Digest, file: File) {
        self.files.insert(path.clone(), (digest, file));
    }
}

impl Digest {
    /// The bytes, and what the build makes of the names in them: how they are read follows from the path. A generator reads several
    /// files, and is made anew each time.
    pub(super) fn of(input: &Input<'_>) -> Option<Self> {
        match input.form {
            Form::Manifest(_) | Form::Whole(..) => {}
            Form::Generated(_) => return None,
        }
        let Place { namespace, prefix, suffix, substituted } = &input.place;
        let mut digest = Sha256::new();
        digest.update([u8::from(namespace.is_some()), u8::from(*substituted)]);
        for name in [namespace.as_deref().unwrap_or_default(), prefix, suffix] {
            digest.update((name.len() as u64).to_le_bytes());
            digest.update(name);
        }
        digest.update(input.bytes);
        Some(Self(digest.finalize().into()))
    }
}
