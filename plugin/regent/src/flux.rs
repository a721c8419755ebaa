//! Flux' door: stock kustomize-controller gets its tree from regent, and asks regent for the data keys.

#[cfg_attr(not(test), expect(dead_code, reason = "`serve flux` will call it"))]
pub(crate) mod pack;
#[cfg_attr(not(test), expect(dead_code, reason = "`serve flux` will call it"))]
pub(crate) mod serving;
#[cfg_attr(not(test), expect(dead_code, reason = "`serve flux` will call it"))]
pub(crate) mod shelf;
#[cfg_attr(not(test), expect(dead_code, unused_imports, reason = "`serve flux` will call it"))]
pub(crate) mod tree;
