//! The object by which Vault's operator takes a live Secret over, in place: same uid, type, labels and annotations.
//!
//! It stands beside the stub, not for it: the Secret keeps its place in the controller's set, and the answer never has
//! fewer objects than before. It never owns the Secret (`Orphan`, `create: false`), and it is guarded as a Secret is: a
//! prune, a deleted Application and a Settled that cannot be read for a moment leave it where it is. A person deletes it by
//! hand, and the Secret stays.

use super::{Stub, kept};
use crate::bootstrap::{After, Encoding};
use crate::evidence::WitnessedVault;
use crate::guard;
use crate::name::{AuthorityName, SecretName};
use crate::object::{Meta, Object, is_secret_leaf};
use crate::render::Door;
use crate::secret;
use regent_sops::{Branch, Element, Leaf, Node, Scalar};

/// How the Secrets of a root are delivered once its handover is settled.
pub(crate) struct Delivery<'a> {
    /// By which operator, and how it logs in.
    pub(crate) after: &'a After,
    /// From where: the place that the authority was created with. What `regent.yaml` says today may be another.
    pub(crate) place: &'a WitnessedVault,
    /// Whose label the Secrets carry.
    pub(crate) authority: &'a AuthorityName,
}

/// What a Secret says of itself beside its values, as far as it stands in the clear.
#[derive(Default)]
pub(crate) struct Clear {
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
    immutable: bool,
    /// The keys of its values; `None` where there are some that cannot be told.
    keys: Option<Vec<String>>,
}

/// One such object.
pub(crate) struct Delivered {
    /// Its name and kind.
    pub(crate) meta: Meta,
    /// The Secret's namespace.
    pub(crate) namespace: Option<String>,
    /// As it is applied.
    pub(crate) tree: Branch,
}

/// How often an operator asks Vault, and so how late a rotation may come. 1000 Secrets are three reads a second.
const REFRESH: &str = "5m";

/// Client-side apply keeps values in it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One field of Vault, decoded by the Vault Secrets Operator; `KEY` is the field. `b64dec` gives the text of its error
/// where it cannot decode, so the way back is asked for too. A missing field is an error of `replace`.
const DECODED: &str = r#"{{- $text := index .Secrets "KEY" | replace "\n" "" -}}
{{- if ne (b64dec $text | b64enc) $text }}{{ fail "expects base64" }}{{ end -}}
{{- b64dec $text -}}"#;

impl Delivery<'_> {
    /// For one Secret; `None` where another controller delivers it, or where what its operator must know hides.
    pub(crate) fn of(
        &self,
        stub: &Stub,
        name: &SecretName,
        encoding: Option<Encoding>,
        door: Door,
    ) -> Option<Delivered> {
        let (api_version, kind) = self.after.delivered_as()?;
        let spec = match self.after {
            After::Stub => return None,
            After::ExternalSecret { store, store_kind } => {
                let store = map([("name", text(store)), ("kind", text(store_kind))]);
                self.external_secret(stub, name, encoding, store)
            }
            After::VaultStaticSecret { auth } => self.vault_static_secret(stub, name, encoding, auth)?,
        };
        let namespace = name.namespace().as_str();
        let metadata = [
            ("name", text(name.name())),
            ("namespace", text(namespace)),
            ("labels", map([(guard::AUTHORITY, text(self.authority.as_str()))])),
            ("annotations", Node::Map(Branch::from_entries(kept(door, stub.sync_wave.as_deref())))),
        ];
        let tree =
            [("apiVersion", text(api_version)), ("kind", text(kind)), ("metadata", map(metadata)), ("spec", spec)];
        Some(Delivered {
            meta: Meta {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
                namespace: Some(namespace.to_owned()),
                name: name.name().to_owned(),
            },
            namespace: Some(namespace.to_owned()),
            tree: Branch::from_entries(tree.map(|(key, value)| (key.to_owned(), value))),
        })
    }

    /// For External Secrets. What its schema would fill into a list is written out: Argo CD compares lists whole, and
    /// would find a difference for ever.
    fn external_secret(&self, stub: &Stub, name: &SecretName, encoding: Option<Encoding>, store: Node) -> Node {
        let decoding = match encoding {
            Some(Encoding::Base64) => "Base64",
            None => "None",
        };
        let extract = map([
            // The whole path, as Vault's API has it: of a shorter one the provider would take off what looks like the mount.
            ("key", text(&format!("{}/data/{}", self.place.mount, self.path(name)))),
            ("conversionStrategy", text("Default")),
            ("decodingStrategy", text(decoding)),
            ("metadataPolicy", text("None")),
        ]);
        let target = [
            ("name", text(name.name())),
            ("creationPolicy", text("Orphan")),
            ("deletionPolicy", text("Retain")),
            ("immutable", truth(stub.clear.immutable)),
            ("template", self.template(stub)),
        ];
        map([
            ("refreshInterval", text(REFRESH)),
            ("secretStoreRef", store),
            ("target", map(target)),
            ("dataFrom", Node::List(vec![Element::Node(map([("extract", extract)]))])),
        ])
    }

    /// What Git's Secret had beside its values, for one that the operator must make anew. The live one keeps all else
    /// that it has.
    fn template(&self, stub: &Stub) -> Node {
        let entries = |entries: &[(String, String)]| {
            Node::Map(Branch::from_entries(entries.iter().map(|(key, value)| (key.clone(), text(value)))))
        };
        let metadata = [("labels", entries(&stub.clear.labels)), ("annotations", entries(&stub.clear.annotations))];
        let mut guarded = Branch::from_entries([("metadata".to_owned(), map(metadata))]);
        guard::guard(&mut guarded, Some(self.authority));
        let mut literal = |section| {
            let entries = guard::section(&mut guarded, section).entries();
            let entry = |entry: &regent_sops::Entry| match &entry.value {
                Node::Leaf(leaf) => leaf.clear_text().map(|value| (entry.key.clone(), text(&literally(value)))),
                Node::Map(_) | Node::List(_) => None,
            };
            Node::Map(Branch::from_entries(entries.filter_map(entry).collect::<Vec<_>>()))
        };
        let metadata = map([("labels", literal("labels")), ("annotations", literal("annotations"))]);
        let kind = stub.secret_type.as_deref().map(|kind| ("type", text(kind)));
        map(kind.into_iter().chain([("metadata", metadata)]))
    }

    /// For the Vault Secrets Operator. What it creates it owns, and what it owns goes with its object; so it is told that
    /// the Secret is there, of which it then changes the data alone.
    fn vault_static_secret(
        &self,
        stub: &Stub,
        name: &SecretName,
        encoding: Option<Encoding>,
        auth: &str,
    ) -> Option<Node> {
        let decoding = match encoding {
            None => None,
            Some(Encoding::Base64) => {
                let keys = stub.clear.keys.as_ref()?;
                let template = |key: &String| (key.clone(), map([("text", text(&DECODED.replace("KEY", key)))]));
                Some([
                    ("templates", Node::Map(Branch::from_entries(keys.iter().map(template)))),
                    // A field that nothing decodes is not delivered.
                    ("excludes", Node::List(vec![Element::Node(text(".*"))])),
                ])
            }
        };
        let destination = [
            ("name", text(name.name())),
            ("create", truth(false)),
            ("transformation", map([("excludeRaw", truth(true))].into_iter().chain(decoding.into_iter().flatten()))),
        ];
        let namespace = self.place.namespace.as_str();
        let namespace = (!namespace.is_empty()).then(|| ("namespace", text(namespace)));
        Some(map([("vaultAuthRef", text(auth))].into_iter().chain(namespace).chain([
            ("mount", text(&self.place.mount)),
            ("type", text("kv-v2")),
            ("path", text(&self.path(name))),
            ("refreshAfter", text(REFRESH)),
            ("destination", map(destination)),
        ])))
    }

    /// Where its copy is, below the mount.
    fn path(&self, name: &SecretName) -> String {
        format!("{}/{}/{}", self.place.prefix, name.namespace(), name.name())
    }
}

impl Clear {
    pub(crate) fn of(object: &Object) -> Self {
        let texts = |section: &'static str| {
            let Some(Node::Map(entries)) = object.tree.at(&["metadata", section]) else { return Vec::new() };
            let clear = |entry: &regent_sops::Entry| match &entry.value {
                Node::Leaf(leaf) if !is_secret_leaf(leaf, object.view) => {
                    let value = object.tree.public_text(&["metadata", section, &entry.key])?;
                    Some((entry.key.clone(), value.to_owned()))
                }
                Node::Leaf(_) | Node::Map(_) | Node::List(_) => None,
            };
            entries.entries().filter_map(clear).collect()
        };
        let mut annotations = texts("annotations");
        annotations.retain(|(key, _)| !secret::HOOKS.contains(&key.as_str()) && key != LAST_APPLIED);
        let immutable = object.tree.get("immutable");
        Self {
            labels: texts("labels"),
            annotations,
            immutable: matches!(immutable, Some(Node::Leaf(Leaf { scalar: Scalar::Bool(true), .. }))),
            keys: keys(object),
        }
    }
}

/// The keys of its values, each once.
fn keys(object: &Object) -> Option<Vec<String>> {
    let mut keys = Vec::new();
    for section in ["data", "stringData"] {
        match object.tree.get(section) {
            None | Some(Node::Leaf(Leaf { scalar: Scalar::Null, .. })) => {}
            Some(Node::Map(values)) => keys.extend(values.entries().map(|entry| entry.key.clone())),
            Some(Node::Leaf(_) | Node::List(_)) => return None,
        }
    }
    keys.sort();
    keys.dedup();
    keys.iter().all(|key| secret::key_problem(key).is_none()).then_some(keys)
}

/// Text that External Secrets, for which every label and annotation is a Go template, gives back as it is. A template
/// could put a value into it.
fn literally(text: &str) -> String {
    text.replace("{{", r#"{{"{{"}}"#)
}

fn map<'k>(entries: impl IntoIterator<Item = (&'k str, Node)>) -> Node {
    Node::Map(Branch::from_entries(entries.into_iter().map(|(key, value)| (key.to_owned(), value))))
}

fn text(text: &str) -> Node {
    Node::text(text)
}

fn truth(value: bool) -> Node {
    Node::Leaf(Leaf::clear(Scalar::Bool(value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::View;

    const SEALED: &str = "ENC[AES256_GCM,data:QUJD,iv:QUJD,tag:QUJD,type:str]";

    fn object(entries: Vec<(&str, Node)>) -> Object {
        let tree = Branch::from_entries(entries.into_iter().map(|(key, value)| (key.to_owned(), value)));
        Object { tree, line: 1, view: View::Sealed }
    }

    #[test]
    fn what_is_sealed_a_hook_or_what_client_side_apply_kept_is_no_part_of_it() {
        let annotations = map([
            ("kept", text("1")),
            ("sealed", text(SEALED)),
            ("number", Node::Leaf(Leaf::clear(Scalar::Int(1)))),
            ("argocd.argoproj.io/hook", text("PreSync")),
            ("helm.sh/hook", text("pre-install")),
            (LAST_APPLIED, text("{}")),
        ]);
        let metadata = map([("annotations", annotations), ("labels", map([("sealed", text(SEALED))]))]);
        let clear = Clear::of(&object(vec![("metadata", metadata)]));
        assert_eq!(clear.annotations, [("kept".to_owned(), "1".to_owned())]);
        assert_eq!(clear.labels, []);
        let nothing = Clear::of(&object(vec![("metadata", map([("annotations", text(SEALED))]))]));
        assert_eq!(nothing.annotations, []);
    }

    #[test]
    fn keys_are_told_once_and_only_where_all_of_them_are_keys() {
        let values = |keys: &[&str]| map(keys.iter().map(|key| (*key, text(SEALED))));
        let told = |data, more| Clear::of(&object(vec![("data", data), ("stringData", more)])).keys;
        assert_eq!(told(values(&["b", "a.b"]), values(&["b"])), Some(vec!["a.b".to_owned(), "b".to_owned()]));
        assert_eq!(told(values(&["b"]), Node::Leaf(Leaf::clear(Scalar::Null))), Some(vec!["b".to_owned()]));
        assert_eq!(told(values(&["b"]), text(SEALED)), None);
        for hostile in [r#"" }}{{ .Secrets }}"#, "", "a/b", ".."] {
            assert_eq!(told(values(&["b"]), values(&[hostile])), None, "{hostile}");
        }
    }

    #[test]
    fn a_template_comes_out_as_text() {
        assert_eq!(literally("{{ .password }}"), r#"{{"{{"}} .password }}"#);
        assert_eq!(literally("{{{}} {x} }}"), r#"{{"{{"}}{}} {x} }}"#);
    }
}
