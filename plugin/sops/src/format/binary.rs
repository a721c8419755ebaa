//! Binary: any bytes, kept as one text under `data` in a JSON file.

use super::Format;
use crate::error::{EmitProblem, Error};
use crate::limits::Limits;
use crate::plaintext::Plaintext;
use crate::tree::{Leaf, Node, Scalar, Tree};

/// Parses the JSON form, its metadata still among the data. Entries besides `data` stay: the MAC covers
/// them.
pub(crate) fn parse(bytes: &[u8], limits: &Limits) -> Result<Tree, Error> {
    super::json::parse(bytes, limits)
}

/// The bytes under `data`, which must be there as one text; other entries are left out, as `sops` does.
pub(crate) fn emit(tree: &Tree) -> Result<Plaintext, Error> {
    let problem = |problem| Error::Emit { format: Format::Binary, path: "data".to_owned(), problem };
    let [document] = tree.documents.as_slice() else {
        return Err(problem(EmitProblem::Documents));
    };
    match document.get("data") {
        Some(Node::Leaf(Leaf { scalar: Scalar::Text(text), .. })) => Ok(text.duplicate()),
        Some(Node::Leaf(_) | Node::Map(_) | Node::List(_)) | None => Err(problem(EmitProblem::NoData)),
    }
}

#[cfg(test)]
mod tests;
