//! What a file may cost. Every bound stands here with its reason; every one is tested one below
//! and one above.

/// The bounds of one parse. All are inclusive: a file at the bound is read, one above is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of a file in bytes. kustomize-controller's bound is the same 5 MiB. A larger file is
    /// an error: reading its head would hide what was skipped.
    pub document: usize,
    /// Mappings and lists inside each other. The API server's JSON decoder stops at 10 000 and
    /// our own recursion must never reach the end of a thread's stack; real manifests stay below 40.
    pub nesting: usize,
    /// Scalars, mappings and lists in a file, aliases expanded. A node costs about 100 bytes in
    /// memory, so this bounds memory to about 25 MB; the largest CRDs have 40 000.
    pub nodes: usize,
    /// Nodes that come out of aliases. The "billion laughs" bomb needs millions.
    pub alias_nodes: usize,
    /// Bytes of text that come out of aliases: one long anchored text, repeated.
    pub alias_bytes: usize,
    /// Recipients of a file over all key groups. An unwrap attempt costs up to a few milliseconds
    /// (RSA), so a file with thousands would stall a front door.
    pub recipients: usize,
    /// Comments in a file. They are kept as nodes of their own.
    pub comments: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document: 5 << 20,
            nesting: 100,
            nodes: 250_000,
            alias_nodes: 50_000,
            alias_bytes: 5 << 20,
            recipients: 100,
            comments: 50_000,
        }
    }
}
