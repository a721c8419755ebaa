//! Flux' door: stock kustomize-controller gets its tree from regent, and asks regent for the data keys.
//!
//! ```text
//! GitRepository, Git --tree--> a tree --build--> artifact --pack, shelf, serving--> kustomize-controller
//!                                        |                   door: ExternalArtifact, token    |
//!                                   regent-core                                               | decrypt
//!                                        +------- release ------ endpoint <-------------------+
//! ```

pub(crate) mod build;
pub(crate) mod door;

#[cfg_attr(not(test), expect(dead_code, unused_imports, reason = "`serve` does not open this door yet"))]
pub(crate) mod endpoint;
