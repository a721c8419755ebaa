//! `spec.postBuild`: kustomize-controller replaces variables in the text of each object that a build made, and what it
//! decrypted before is text as any other. The live value is then another than the one in Git, which a handover copies; so a
//! document with such a value is refused until one says what is meant.
//!
//! Replaced are `${NAME}` with all that a shell can say in there, and `$$`, which becomes `$` (`fluxcd/pkg/envsubst` 1.7.1).
//! Any other `$` stays. What stands under `data` of a Secret is base64, in which there is none.

use regent_sops::{Branch, Element, Node, Scalar};

use crate::object::{Object, is_secret_leaf};
use crate::secret::SecretProblem;

/// With the value `disabled` a label or annotation that keeps an object as it is.
pub(crate) const MARK: &str = "kustomize.toolkit.fluxcd.io/substitute";

/// What a person can do about a value that would be changed, for a hint.
pub const WAY_OUT: &str = "annotate the document with `kustomize.toolkit.fluxcd.io/substitute: disabled`, or write what is \
                           meant, under `data` in base64 where the value has these characters";

/// Refuses the first value that would be changed: of a Secret any under `stringData`, of another kind any that is encrypted.
pub(crate) fn check(object: &Object, is_secret: bool) -> Result<(), SecretProblem> {
    let is_kept = |of: &&str| object.tree.public_text(&["metadata", of, MARK]) == Some("disabled");
    if ["labels", "annotations"].iter().any(is_kept) {
        return Ok(());
    }
    let found = if is_secret {
        match object.tree.get("stringData") {
            Some(Node::Map(values)) => changed(object, values, Which::All).map(|key| format!("stringData.{key}")),
            Some(Node::Leaf(_) | Node::List(_)) | None => None,
        }
    } else {
        changed(object, &object.tree, Which::Encrypted)
    };
    found.map_or(Ok(()), |key| Err(SecretProblem::Substituted { key }))
}

/// Which values are looked at.
#[derive(Clone, Copy)]
enum Which {
    All,
    Encrypted,
}

/// The keys down to the first value that would be changed.
fn changed(object: &Object, branch: &Branch, which: Which) -> Option<String> {
    branch.entries().find_map(|entry| {
        let below = changed_node(object, &entry.value, which)?;
        Some(if below.is_empty() { entry.key.clone() } else { format!("{}.{below}", entry.key) })
    })
}

fn changed_node(object: &Object, node: &Node, which: Which) -> Option<String> {
    match node {
        Node::Leaf(leaf) => {
            let counts = match which {
                Which::All => true,
                Which::Encrypted => is_secret_leaf(leaf, object.view),
            };
            let is_changed = matches!(&leaf.scalar, Scalar::Text(text) if text.contains(b"${") || text.contains(b"$$"));
            (counts && is_changed).then(String::new)
        }
        Node::Map(branch) => changed(object, branch, which),
        Node::List(elements) => elements.iter().find_map(|element| match element {
            Element::Node(node) => changed_node(object, node, which),
            Element::Comment(_) => None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use regent_sops::{Document, Format, Limits};

    use super::*;
    use crate::object::{View, objects};

    fn told(text: &str, is_secret: bool) -> Option<String> {
        let Document::Clear(tree) = Document::parse(text.as_bytes(), Format::Yaml, &Limits::default()).unwrap() else {
            panic!("it is in clear text")
        };
        let object = objects(&tree.documents, View::Clear).remove(0).unwrap();
        match check(&object, is_secret) {
            Ok(()) => None,
            Err(SecretProblem::Substituted { key }) => Some(key),
            Err(other) => panic!("{other}"),
        }
    }

    fn secret(rest: &str) -> String {
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: db, labels: {{a: b}}}}\n{rest}")
    }

    /// What the Go library that kustomize-controller uses changes, and what it leaves alone.
    #[test]
    fn a_value_that_would_be_changed_is_told_by_its_key() {
        for text in ["${a}", "x$${a}", "${", "a$$b", "$$"] {
            let of = |field: &str| secret(&format!("{field}: {{one: x, two: '{text}'}}\n"));
            assert_eq!(told(&of("stringData"), true).as_deref(), Some("stringData.two"), "{text}");
            // Not base64, which another rule refuses.
            assert_eq!(told(&of("data"), true), None, "{text}");
        }
        for text in ["$", "a$b", "$a}", "{$a}", "$ {a}", "$2b$10$x", "$(a)", "%{a}"] {
            assert_eq!(told(&secret(&format!("stringData: {{two: '{text}'}}\n")), true), None, "{text}");
        }
        assert_eq!(told(&secret("type: '${a}'\n"), true), None);
        assert_eq!(told(&secret(""), true), None);
    }

    #[test]
    fn a_mark_of_the_document_keeps_it_as_it_is() {
        for (mark, kept) in [("disabled", true), ("enabled", false), ("'Disabled'", false), ("''", false)] {
            for field in ["labels", "annotations"] {
                let text = format!(
                    "apiVersion: v1\nkind: Secret\nmetadata: {{name: db, {field}: {{{MARK}: {mark}}}}}\nstringData: {{a: '$$'}}\n"
                );
                assert_eq!(told(&text, true).is_none(), kept, "{text}");
            }
        }
    }

    /// Of other kinds what is encrypted alone: all else is live as Git has it, with variables.
    #[test]
    fn of_another_kind_encrypted_values_count_wherever_they_stand() {
        let clear = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: '${b}'}\n";
        assert_eq!(told(clear, false), None);
        let Document::Clear(tree) = Document::parse(clear.as_bytes(), Format::Yaml, &Limits::default()).unwrap() else {
            panic!("it is in clear text")
        };
        let mut object = objects(&tree.documents, View::Opened).remove(0).unwrap();
        let text = || regent_sops::Plaintext::new(b"x ${b}".to_vec());
        let leaf = regent_sops::Leaf { scalar: Scalar::Text(text()), origin: regent_sops::Origin::Decrypted };
        object.tree.set(
            "spec",
            Node::List(vec![Element::Node(Node::Map(Branch::from_entries([("c".to_owned(), Node::Leaf(leaf))])))]),
        );
        assert_eq!(check(&object, false), Err(SecretProblem::Substituted { key: "spec.c".to_owned() }));
    }
}
