//! The gate between an opened document and a manifest: who may pass, and what never does.
//!
//! Only this module makes a [`Permit`], so no manifest with values exists that authority did not
//! allow; and no manifest leaves while anything in it is still ciphertext.

use crate::authority::{Mode, Ruling};
use crate::object::{HIDDEN_KEY, Object, View};
use regent_sops::{Branch, Element, Leaf, Node, Origin, Plaintext, Scalar};

/// What the gate holds back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateProblem {
    /// A scalar that is still ciphertext.
    #[error("`{path}` is still ciphertext")]
    Ciphertext {
        /// Keys joined with `.`.
        path: String,
    },
    /// A key that is still ciphertext.
    #[error("{} holds a key that is still ciphertext", if path.is_empty() { "it".to_owned() } else { format!("`{path}`") })]
    CiphertextKey {
        /// The mapping's keys joined with `.`; empty for the object itself.
        path: String,
    },
    /// A `sops` block is left.
    #[error("it still has a `sops` block")]
    SopsBlock,
    /// A value that was encrypted stands in the clear where it has to be ciphertext.
    #[error("`{path}` is not ciphertext any more")]
    Clear {
        /// Keys joined with `.`.
        path: String,
    },
    /// Vault rules: no value passes.
    #[error("Vault rules, so its values stay where they are")]
    VaultRules,
}

/// Leave for one document, which it cannot outlive.
pub(crate) struct Permit<'d> {
    object: &'d Object,
    exit: Exit,
}

/// How far a manifest may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Its bytes may be written.
    Bytes,
    /// It may be described.
    Described,
}

impl GateProblem {
    /// The same without the keys of the file.
    pub(crate) fn without_keys(self) -> Self {
        let path = HIDDEN_KEY.to_owned();
        match self {
            Self::Ciphertext { .. } => Self::Ciphertext { path },
            Self::CiphertextKey { .. } => Self::CiphertextKey { path },
            Self::Clear { .. } => Self::Clear { path },
            Self::SopsBlock | Self::VaultRules => self,
        }
    }
}

/// Decides whether an object may become a manifest.
pub(crate) fn admit<'d>(object: &'d Object, ruling: &Ruling) -> Result<Permit<'d>, GateProblem> {
    let exit = exit(ruling);
    match (ruling.mode(), object.view) {
        (Mode::Values | Mode::Unasked, View::Clear | View::Opened) | (Mode::Stubs(_), View::Clear) => {
            Ok(Permit { object, exit })
        }
        // A sealed file's clear objects pass in every phase; its encrypted ones are stubs.
        (Mode::Stubs(_), View::Sealed) if !object.is_encrypted() => Ok(Permit { object, exit }),
        (Mode::Stubs(_), View::Sealed | View::Opened) => Err(GateProblem::VaultRules),
        (Mode::Values | Mode::Unasked, View::Sealed) => Err(GateProblem::Ciphertext { path: "data".to_owned() }),
    }
}

/// How far an answer under this ruling may go.
pub(crate) fn exit(ruling: &Ruling) -> Exit {
    match ruling.mode() {
        Mode::Values | Mode::Stubs(_) => Exit::Bytes,
        Mode::Unasked => Exit::Described,
    }
}

impl<'d> Permit<'d> {
    /// The document.
    pub(crate) fn object(&self) -> &'d Object {
        self.object
    }

    /// How far its manifest may go.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }
}

/// Holds back what is still ciphertext: any scalar or key that begins as a SOPS value, an age file or a
/// PGP message (also in base64), and a top-level `sops` mapping. A key is told by the path of its mapping.
pub(crate) fn check(tree: &Branch) -> Result<(), GateProblem> {
    if matches!(tree.get("sops"), Some(Node::Map(_))) {
        return Err(GateProblem::SopsBlock);
    }
    branch(tree, &mut Vec::new())
}

/// Holds back a document that is to leave as ciphertext and is not: any value that was decrypted, but for what names and
/// routes the object, and everything below `data` and `stringData`; and one that nobody could open.
pub(crate) fn check_sealed(tree: &Branch) -> Result<(), GateProblem> {
    if !matches!(tree.get("sops"), Some(Node::Map(_))) {
        return Err(GateProblem::Clear { path: "sops".to_owned() });
    }
    for entry in tree.entries() {
        let clear = match entry.key.as_str() {
            "apiVersion" | "kind" | "metadata" | "type" | "immutable" | "sops" => None,
            "data" | "stringData" => clear_leaf(&entry.value, &entry.key, |_| true),
            _ => clear_leaf(&entry.value, &entry.key, |leaf| leaf.origin == Origin::Decrypted),
        };
        if let Some(path) = clear {
            return Err(GateProblem::Clear { path });
        }
    }
    Ok(())
}

/// The path of the first leaf that `counts` and is no ciphertext. Empty text and nothing never are.
fn clear_leaf(node: &Node, path: &str, counts: impl Fn(&Leaf) -> bool + Copy) -> Option<String> {
    match node {
        Node::Leaf(leaf) => {
            let is_closed = match &leaf.scalar {
                Scalar::Null => true,
                Scalar::Text(text) => text.is_empty() || text.starts_with(SEALED),
                Scalar::Bool(_) | Scalar::Int(_) | Scalar::Uint(_) | Scalar::Float(_) | Scalar::Time(_) => false,
            };
            (!is_closed && counts(leaf)).then(|| path.to_owned())
        }
        Node::Map(map) => {
            map.entries().find_map(|entry| clear_leaf(&entry.value, &format!("{path}.{}", entry.key), counts))
        }
        Node::List(elements) => elements.iter().find_map(|element| match element {
            Element::Node(value) => clear_leaf(value, path, counts),
            Element::Comment(_) => None,
        }),
    }
}

/// What every SOPS value begins with.
const SEALED: &[u8] = b"ENC[AES256_GCM,";

fn branch<'t>(tree: &'t Branch, path: &mut Vec<&'t str>) -> Result<(), GateProblem> {
    for entry in tree.entries() {
        if Plaintext::new(entry.key.as_bytes().to_vec()).is_ciphertext() {
            return Err(GateProblem::CiphertextKey { path: path.join(".") });
        }
        path.push(&entry.key);
        node(&entry.value, path)?;
        path.pop();
    }
    Ok(())
}

fn node<'t>(value: &'t Node, path: &mut Vec<&'t str>) -> Result<(), GateProblem> {
    match value {
        Node::Leaf(Leaf { scalar: Scalar::Text(text), .. }) if text.is_ciphertext() => {
            Err(GateProblem::Ciphertext { path: path.join(".") })
        }
        Node::Leaf(_) => Ok(()),
        Node::Map(map) => branch(map, path),
        Node::List(elements) => elements.iter().try_for_each(|element| match element {
            Element::Node(value) => node(value, path),
            Element::Comment(_) => Ok(()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: Node) -> Branch {
        Branch::from_entries([("data".to_owned(), Node::Map(Branch::from_entries([(key.to_owned(), value)])))])
    }

    #[test]
    fn ciphertext_is_held_back_and_named_by_its_path() {
        let sealed = "ENC[AES256_GCM,data:QUJD,iv:QUJD,tag:QUJD,type:str]";
        let nested = Node::List(vec![Element::Node(Node::text(sealed))]);
        for tree in [with("a.b", Node::text(sealed)), with("a.b", nested)] {
            assert_eq!(check(&tree), Err(GateProblem::Ciphertext { path: "data.a.b".to_owned() }));
        }
        // `echo -n 'ENC[AES256_GCM,data:QUJD' | base64`
        let tree = with("a", Node::text("RU5DW0FFUzI1Nl9HQ00sZGF0YTpRVUpE"));
        assert!(matches!(check(&tree), Err(GateProblem::Ciphertext { .. })));
    }

    #[test]
    fn a_key_that_is_ciphertext_is_held_back_and_not_told() {
        let sealed = "ENC[AES256_GCM,data:QUJD,iv:QUJD,tag:QUJD,type:str]";
        let key = |path: &str| Err(GateProblem::CiphertextKey { path: path.to_owned() });
        assert_eq!(check(&with(sealed, Node::text("clear"))), key("data"));
        let inner = Node::Map(Branch::from_entries([(sealed.to_owned(), Node::text("clear"))]));
        assert_eq!(check(&with("a", Node::List(vec![Element::Node(inner)]))), key("data.a"));
        let top = Branch::from_entries([("-----BEGIN PGP MESSAGE-----".to_owned(), Node::text("clear"))]);
        assert_eq!(check(&top), key(""));
        assert_eq!(
            key("").map_err(|problem: GateProblem| problem.to_string()),
            Err::<(), _>("it holds a key that is still ciphertext".to_owned())
        );
    }

    #[test]
    fn armor_and_a_sops_block_are_held_back() {
        for armor in ["-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n", "-----BEGIN PGP MESSAGE-----\n\nhQ==\n"] {
            assert!(check(&with("a", Node::text(armor))).is_err());
        }
        let tree = Branch::from_entries([("sops".to_owned(), Node::Map(Branch::default()))]);
        assert_eq!(check(&tree), Err(GateProblem::SopsBlock));
    }

    #[test]
    fn clear_text_passes() {
        assert_eq!(check(&with("a", Node::text("the value begins with ENC[AES256_GCM,"))), Ok(()));
        let tree = Branch::from_entries([("sops".to_owned(), Node::text("a program"))]);
        assert_eq!(check(&tree), Ok(()));
    }
}
