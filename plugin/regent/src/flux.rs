//! Flux' door: stock kustomize-controller gets its tree from regent, and asks regent for the data keys.

#[cfg_attr(not(test), expect(dead_code, unused_imports, reason = "`serve` does not open this door yet"))]
pub(crate) mod endpoint;
