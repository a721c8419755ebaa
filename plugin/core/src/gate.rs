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
    #[error("`{path}` was encrypted, and would stand in the clear for Flux")]
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

/// Holds back a document that is to leave as ciphertext and is not: a value that was decrypted, but for what names and
/// routes the object; of a Secret also whatever stands clear below `data` and `stringData`.
pub(crate) fn check_sealed(tree: &Branch) -> Result<(), GateProblem> {
    if !matches!(tree.get("sops"), Some(Node::Map(_))) {
        return Err(GateProblem::Clear { path: "sops".to_owned() });
    }
    let is_secret = tree.public_text(&["kind"]) == Some("Secret");
    let was_closed = |leaf: &Leaf| leaf.origin == Origin::Decrypted;
    for entry in tree.entries() {
        let clear = match (entry.key.as_str(), &entry.value) {
            ("apiVersion" | "kind" | "type" | "immutable", Node::Leaf(_)) | ("sops", _) => None,
            ("metadata", Node::Map(metadata)) => clear_metadata(metadata),
            ("data" | "stringData", value) if is_secret => clear_leaf(value, &entry.key, |_| true),
            (_, value) => clear_leaf(value, &entry.key, was_closed),
        };
        if let Some(path) = clear {
            return Err(GateProblem::Clear { path });
        }
    }
    Ok(())
}

/// The path of the first decrypted leaf that is more than a name. Where the name itself was encrypted all of the document
/// was, and labels and annotations with it; a rule that leaves the name clear and not them meant to hide them.
fn clear_metadata(metadata: &Branch) -> Option<String> {
    let was_closed = |leaf: &Leaf| leaf.origin == Origin::Decrypted;
    let is_whole = matches!(metadata.get("name"), Some(Node::Leaf(leaf)) if was_closed(leaf));
    metadata.entries().find_map(|entry| match entry.key.as_str() {
        "name" | "namespace" => None,
        key if is_whole && OBJECT_META.contains(&key) => None,
        key => clear_leaf(&entry.value, &format!("metadata.{key}"), was_closed),
    })
}

/// Further fields of Kubernetes' `ObjectMeta`. Whatever else stands in `metadata` slipped there, and may be a value.
const OBJECT_META: [&str; 13] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

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

    /// An object with one field more, whose name stood so in its file.
    fn about_to_leave(kind: &str, name: Origin, field: (&str, Node)) -> Result<(), GateProblem> {
        let leaf = |text: &str, origin| Node::Leaf(Leaf { scalar: Scalar::Text(Plaintext::new(text.into())), origin });
        let metadata = Branch::from_entries([("name".to_owned(), leaf("db", name))]);
        let mut tree = Branch::from_entries([
            ("kind".to_owned(), Node::text(kind)),
            ("metadata".to_owned(), Node::Map(metadata)),
            ("sops".to_owned(), Node::Map(Branch::default())),
        ]);
        match field.0.strip_prefix("metadata.") {
            Some(key) => crate::guard::mapping(&mut tree, "metadata").set(key, field.1),
            None => tree.set(field.0, field.1),
        }
        check_sealed(&tree)
    }

    fn decrypted(key: &str) -> Node {
        let scalar = Scalar::Text(Plaintext::new("value".into()));
        let leaf = Node::Leaf(Leaf { scalar, origin: Origin::Decrypted });
        Node::Map(Branch::from_entries([(key.to_owned(), leaf)]))
    }

    fn clear(path: &str) -> Result<(), GateProblem> {
        Err(GateProblem::Clear { path: path.to_owned() })
    }

    #[test]
    fn what_is_to_leave_as_ciphertext_shows_no_value() {
        let text = || Node::Map(Branch::from_entries([("k".to_owned(), Node::text("clear"))]));
        let sealed = || {
            let value = Node::text("ENC[AES256_GCM,data:QUJD,iv:QUJD,tag:QUJD,type:str]");
            Node::Map(Branch::from_entries([("k".to_owned(), value), ("empty".to_owned(), Node::text(""))]))
        };
        for kind in ["Secret", "ConfigMap"] {
            for field in ["data", "stringData", "spec", "type", "immutable"] {
                let left = about_to_leave(kind, Origin::Clear, (field, decrypted("k")));
                assert_eq!(left, clear(&format!("{field}.k")), "{kind}");
                assert_eq!(about_to_leave(kind, Origin::Clear, (field, sealed())), Ok(()));
            }
        }
        // All of a Secret's data is ciphertext; of another kind what stands clear in Git may stay so.
        assert_eq!(about_to_leave("Secret", Origin::Clear, ("data", text())), clear("data.k"));
        assert_eq!(about_to_leave("ConfigMap", Origin::Clear, ("data", text())), Ok(()));
        assert_eq!(check_sealed(&Branch::default()), clear("sops"));
    }

    #[test]
    fn of_metadata_that_was_encrypted_only_what_names_the_object_shows() {
        let of = |name, field| about_to_leave("Secret", name, (field, decrypted("k")));
        assert_eq!(of(Origin::Clear, "metadata.annotations"), clear("metadata.annotations.k"));
        assert_eq!(of(Origin::Clear, "metadata.labels"), clear("metadata.labels.k"));
        assert_eq!(of(Origin::Decrypted, "metadata.annotations"), Ok(()));
        assert_eq!(of(Origin::Decrypted, "metadata.labels"), Ok(()));
        assert_eq!(of(Origin::Decrypted, "metadata.password"), clear("metadata.password.k"));
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
