//! YAML: several documents, comments, anchors, all scalar styles.
//!
//! Parsing is two steps. [`parse`] reads the stream and enforces every bound; what a plain scalar
//! *is* depends on who reads it (SOPS or Kubernetes), and that is known only after a look for the
//! `sops` block. [`Untyped::into_tree`] then types every scalar.
//!
//! Where this is stricter than SOPS or Kubernetes:
//!
//! | refused | because |
//! |---|---|
//! | raw U+0085, U+2028, U+2029 anywhere | Go breaks the line there, YAML 1.2 does not: a comment could go on as data |
//! | anchor names with other characters than letters, digits, `_`, `-`; plain text inside `[]` or `{}` that begins with `?` or `:` or ends with `:` | Go ends or splits it there, YAML 1.2 does not |
//! | an alias to an anchor of an earlier document (SOPS) | YAML's anchors end with their document; Kubernetes refuses it as well |
//! | a key that stands twice (SOPS: in the first document) | readers disagree on which one wins; SOPS looked at the top level alone until 3.13 |
//! | `<<` with anything but a mapping or a list of mappings (SOPS: in the first document) | Go's libraries refuse it when they merge; SOPS looked at the top level alone until 3.13 |
//! | keys that are numbers beyond `i64`, floats, times or null | Kubernetes rounds floats and refuses the rest; SOPS refuses all of them |
//! | infinity, NaN, `!!binary` that is not text (Kubernetes) | no JSON can hold them |
//! | nesting, nodes, comments and aliases beyond [`Limits`] | the cost of hostile input is bounded |
//!
//! And where it is more lenient: `%YAML 1.2` is read, which SOPS refuses.

mod emit;
mod parse;
mod verbatim;

pub(crate) use emit::{emit, emit_manifest};
pub(crate) use parse::parse;
pub(crate) use verbatim::emit as emit_verbatim;

#[cfg(test)]
mod tests;
