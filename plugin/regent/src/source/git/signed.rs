//! Who signed a commit, and whether a handover may begin from it.
//!
//! The signers are those of `handover.signers`, or of a `flux` application in the operator's file: SSH keys and `OpenPGP` certificates. What was signed is the commit
//! without its signature, so tree, parents, author and message are what the signer saw. `handover.signers` stands in the
//! same repository, so it is worth what the review of `regent.yaml` is: who may change that file alone may sign alone.

mod openpgp;
mod ssh;

use std::time::SystemTime;

use git2::{ObjectType, Oid, Repository};

use super::{Held, remote};
use crate::failure::Failure;

/// What a handover may rely on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pin {
    /// A person named the commit by its full id.
    Id,
    /// The commit at the branch or tag is signed by an allowed signer.
    Signed {
        /// The fingerprint of the key.
        by: String,
    },
}

/// Why a commit is not what a handover may begin from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignatureProblem {
    /// A name, and nobody to vouch for what it means.
    #[error("it names commit {id} now and may name another later, and `handover.signers` lists nobody")]
    Unpinned {
        /// The commit.
        id: String,
    },
    /// There is no signature.
    #[error("it is not signed")]
    Unsigned,
    /// The key is not listed.
    #[error("it is signed by a key that is not among the signers: {signer}")]
    NotAllowed {
        /// The fingerprint, as far as the signature tells.
        signer: String,
    },
    /// The signature is not one of these bytes.
    #[error("its signature by {signer} does not match its contents")]
    Bad {
        /// The fingerprint.
        signer: String,
    },
    /// The key or the signature is over.
    #[error("it is signed by a key that has expired: {signer}")]
    Expired {
        /// The fingerprint.
        signer: String,
    },
    /// The key was revoked.
    #[error("it is signed by a key that was revoked: {signer}")]
    Revoked {
        /// The fingerprint.
        signer: String,
    },
    /// The key's owner did not make it for that.
    #[error("it is signed by a key that is not made for signing: {signer}")]
    NotForSigning {
        /// The fingerprint.
        signer: String,
    },
    /// A signature that is not understood, or not trusted any more.
    #[error("its signature cannot be checked: {0}")]
    Unusable(&'static str),
    /// An entry of the list.
    #[error("entry {position} of the signers cannot be used: {problem}")]
    Signer {
        /// Its position, from 1.
        position: usize,
        /// Why.
        problem: &'static str,
    },
}

impl SignatureProblem {
    /// What helps.
    pub(crate) fn way_out(&self) -> String {
        match self {
            Self::Unpinned { id } => format!("`--revision {id}`, if that is the commit that was reviewed"),
            Self::Unsigned => "`git commit -S`, or name the commit by its full id".to_owned(),
            Self::NotAllowed { .. } => {
                "list the key in `handover.signers` in a reviewed commit, or name the commit by its full id".to_owned()
            }
            Self::Bad { .. } => {
                "somebody changed the commit after it was signed; look at where it comes from".to_owned()
            }
            Self::Expired { .. } | Self::Revoked { .. } | Self::NotForSigning { .. } | Self::Unusable(_) => {
                "sign a new commit with a key that is good now, or name the commit by its full id".to_owned()
            }
            Self::Signer { .. } => "write the public key as `ssh-keygen` or `gpg --export --armor` gives it".to_owned(),
        }
    }
}

/// Whether a handover may begin from the commit that `revision` led to: named by its full id, or signed by one of
/// `signers`. The clock counts for keys that expire.
pub(crate) fn pinned(held: &Held, revision: &str, signers: &[String], now: SystemTime) -> Result<Pin, Failure> {
    let commit = held.commit;
    if remote::full_id(revision) == Some(commit) {
        return Ok(Pin::Id);
    }
    if signers.is_empty() {
        let problem = SignatureProblem::Unpinned { id: commit.to_string() };
        return Err(Failure::Signature { commit: format!("revision `{revision}`"), problem });
    }
    let failed = |problem| Failure::Signature { commit: format!("commit {commit}"), problem };
    let signers = Signers::read(signers).map_err(failed)?;
    let by = signed(&held.repository, commit, &signers, now).map_err(failed)?;
    Ok(Pin::Signed { by })
}

/// Who of `signers` signed the commit: the fingerprint. Without a signer of theirs nothing is built from it.
pub(crate) fn vouched(held: &Held, signers: &[String], now: SystemTime) -> Result<String, Failure> {
    let commit = held.commit;
    let by = Signers::read(signers).and_then(|signers| signed(&held.repository, commit, &signers, now));
    by.map_err(|problem| Failure::Unvouched { what: format!("commit {commit}"), problem: problem.to_string() })
}

/// Those who may sign.
struct Signers {
    ssh: Vec<ssh::Key>,
    openpgp: Vec<openpgp::Certificate>,
}

impl Signers {
    fn read(entries: &[String]) -> Result<Self, SignatureProblem> {
        let mut signers = Self { ssh: Vec::new(), openpgp: Vec::new() };
        for (index, entry) in entries.iter().enumerate() {
            let failed = |problem| SignatureProblem::Signer { position: index + 1, problem };
            if entry.trim_start().starts_with(openpgp::CERTIFICATE) {
                signers.openpgp.extend(openpgp::certificates(entry).map_err(failed)?);
            } else {
                signers.ssh.push(ssh::Key::parse(entry).map_err(failed)?);
            }
        }
        Ok(signers)
    }
}

/// Who signed a commit: the fingerprint of an allowed key.
fn signed(
    repository: &Repository,
    commit: Oid,
    signers: &Signers,
    now: SystemTime,
) -> Result<String, SignatureProblem> {
    let unreadable = |_error| SignatureProblem::Unusable("the commit is not there");
    let object =
        repository.odb().and_then(|odb| odb.read(commit).map(|object| (object.kind(), object.data().to_vec())));
    let (kind, bytes) = object.map_err(unreadable)?;
    if kind != ObjectType::Commit {
        return Err(SignatureProblem::Unusable("it is no commit"));
    }
    let Split { payload, signature } = Split::of(&bytes)?;
    let signature = std::str::from_utf8(&signature).map_err(|_| SignatureProblem::Unusable("it is no text"))?;
    if signature.starts_with(ssh::SIGNATURE) {
        ssh::signer(signature, &payload, &signers.ssh)
    } else if signature.starts_with(openpgp::SIGNATURE) {
        openpgp::signer(signature, &payload, &signers.openpgp, now)
    } else {
        Err(SignatureProblem::Unusable("it is neither of OpenPGP nor of SSH"))
    }
}

/// A commit and its signature apart, as Git takes them apart.
///
/// libgit2's own `extract_signature` looks for the header in the message too, takes one out of the middle of a word,
/// and ends at a NUL: what it gives may be signed, and not be the commit.
#[derive(Debug)]
struct Split {
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl Split {
    fn of(commit: &[u8]) -> Result<Self, SignatureProblem> {
        if commit.contains(&0) {
            return Err(SignatureProblem::Unusable("the commit holds a NUL byte"));
        }
        let (mut payload, mut signature, mut found) = (Vec::new(), Vec::new(), false);
        let mut within = Within::Other;
        let mut rest = commit;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end + 1);
            // The message begins with an empty line; what stands in it is no header.
            if line == b"\n" {
                break;
            }
            rest = after;
            let continued = line.strip_prefix(b" ");
            within = match continued {
                Some(_) => within,
                None if line.starts_with(b"gpgsig ") => Within::Signature,
                // The signature of the same commit under its SHA-256 id.
                None if line.starts_with(b"gpgsig-sha256 ") => Within::OtherSignature,
                None => Within::Other,
            };
            match (within, continued) {
                (Within::Other, _) => payload.extend_from_slice(line),
                (Within::OtherSignature, _) => {}
                (Within::Signature, Some(more)) => signature.extend_from_slice(more),
                (Within::Signature, None) if found => return Err(SignatureProblem::Unusable("there are two of them")),
                (Within::Signature, None) => {
                    found = true;
                    signature.extend_from_slice(line.strip_prefix(b"gpgsig ").unwrap_or(line));
                }
            }
        }
        payload.extend_from_slice(rest);
        if found { Ok(Self { payload, signature }) } else { Err(SignatureProblem::Unsigned) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Signature,
    OtherSignature,
    Other,
}

#[cfg(test)]
mod tests;
