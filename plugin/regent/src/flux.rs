//! Flux' door: stock kustomize-controller gets its tree from regent, and asks regent for the data keys.
