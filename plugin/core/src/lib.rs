//! Authority over the secrets of a cluster: who holds a secret, what may be rendered, what is
//! emitted. Pure: no I/O, no clock, no async; every decision is a total function over plain data.
//!
//! ```text
//! Files, Bootstrap, Evidence                 gathered by the binary, plain data
//!   evidence::Evidence::holder -> Holder     K: who is authoritative, from the witnesses
//!   evidence::Memory::observe  -> Holder     what this process has already seen wins over less
//!   authority::rule            -> Ruling     P0..P6: values, stubs or a refusal
//!   render::render             -> Manifests  Sealed -> Opened -> Permit -> Manifest
//!   flux::release::release     -> Release    whether Flux gets a data key
//!   handover::decide::decide   -> Step       copy, mirror, complete, adopt, or why a person decides
//!   import::decide             -> Step       a document that came after the handover: copy, mirror, or nothing
//!   settle::next               -> Next       what Argo CD still has to show before no old value can come back
//!   in_cluster::next           -> Next       which Job of a handover in the cluster comes next
//!   verify::verify             -> Findings   what is not as the handover left it
//!   retire::order              -> Steps      in which order one leaves, and which step is next
//!   flux::reach::reach         -> Reach      what kustomize-controller builds of a repository, and under which names
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs, clippy::indexing_slicing, clippy::string_slice)]

pub mod after;
pub mod authority;
pub mod bootstrap;
pub mod emit;
pub mod evidence;
pub mod files;
pub mod flux;
pub mod gate;
mod guard;
pub mod handover;
pub mod import;
pub mod in_cluster;
pub mod kustomization;
pub mod lint;
pub mod live;
pub mod name;
mod object;
pub mod phase;
pub mod rebootstrap;
mod refusal;
pub mod remote;
pub mod render;
pub mod repository;
pub mod restore;
pub mod retire;
pub mod rules;
pub mod secret;
pub mod settle;
pub mod survey;
pub mod verify;
mod written;

pub use refusal::{DocumentProblem, GeneratorProblem, Refusal};
