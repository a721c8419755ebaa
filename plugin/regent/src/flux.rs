//! Flux' door: stock kustomize-controller gets its tree from regent, and asks regent for the data keys.
//!
//! ```text
//! GitRepository, a commit --tree--> files --build--> changed files --pack--> artifact --shelf--> --serving--> fetched
//!                                            core                              |
//!                          door: when, ExternalArtifact, token, Events  <------+
//!        hook: a server tells --wake--^
//!                          endpoint: data keys, asked for at each reconcile           core: release
//! ```

pub(crate) mod build;
pub(crate) mod door;
pub(crate) mod endpoint;
pub(crate) mod hook;
pub(crate) mod pack;
pub(crate) mod serving;
pub(crate) mod shelf;
pub(crate) mod tree;
pub(crate) mod wake;
