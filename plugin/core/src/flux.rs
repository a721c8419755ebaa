//! Flux: kustomize-controller builds what regent publishes, so regent has to know what the build makes of it.

pub mod name_hash;
pub mod reach;
