//! Flux' door: what kustomize-controller is given instead of the repository, and what it is told when it asks for a key.
//!
//! kustomize-controller renders by itself, so regent changes files and renders nothing:
//!
//! ```text
//! reach      a tree, a Kustomization -> how each file is reached, and which object each encrypted document becomes
//! artifact   a tree -> the same tree; each encrypted document opened, judged, and encrypted to regent alone, or a stub
//! generator  a `secretGenerator` with encrypted inputs -> the Secret that it stands for
//! reached    of a root what the Kustomization makes of it: which files become objects, and where
//! bound      whom a wrapped data key is for: authority, epoch, namespace, Kustomization
//! patches    what does all this without an artifact: the entry of `spec.patches` that lets go, and what it does not reach
//! release    a request for a data key -> leave to unwrap it, or one plain sentence
//! observed   a Kustomization and its artifact, as they say of themselves
//! begin      those -> what stands in the way of a handover
//! settle     those -> what has to be seen until no old value can come back
//! substitution   what `postBuild` would change of a decrypted value
//! ```

pub mod artifact;
pub mod begin;
pub mod bound;
pub mod generator;
pub mod name_hash;
pub mod observed;
pub mod patches;
pub mod reach;
pub mod reached;
pub mod release;
pub mod settle;
pub mod substitution;
