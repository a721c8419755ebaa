//! An encrypted document on its way to Vault: its values as Vault's fields, or the word that it has none there.

use std::collections::{BTreeMap, BTreeSet};

use regent_sops::{Branch, Leaf, Node, Origin, Plaintext, Scalar};

use crate::bootstrap::Encoding;
use crate::emit::{Identity, Manifest};
use crate::evidence::ListedClass;
use crate::handover::decide::Leave;
use crate::name::{FilePath, SecretName};
use crate::render::Class;

/// One encrypted document, opened. Holds plaintext where it is copied: no Debug.
pub struct Copy {
    file: FilePath,
    name: SecretName,
    kind: String,
    class: Class,
    values: Option<Fields>,
}

/// What Vault holds under a copy's path. Holds values: no Debug.
pub enum InVault {
    /// Certainly nothing.
    Absent,
    /// There was something, and its current version was deleted or destroyed.
    Deleted,
    /// These fields; `None` for one that is no text.
    Present(BTreeMap<String, Option<Plaintext>>),
}

/// A kind as [`crate::evidence::ListedDocument::kind`] has it.
pub(crate) fn kind(api_version: &str, kind: &str) -> String {
    match api_version {
        "v1" => kind.to_owned(),
        version => format!("{version}/{kind}"),
    }
}

/// Text in Vault, or the key of the first value that is none.
type Fields = Result<BTreeMap<String, Plaintext>, String>;

impl Copy {
    /// Of a manifest with values: a Secret that is copied, text as it is, or everything in base64 where `regent.yaml`
    /// says so; or a document that is listed and stays in Git, whose values go.
    pub(crate) fn of(manifest: Manifest, name: SecretName, encoding: Option<Encoding>) -> Self {
        let (file, class) = (manifest.file().clone(), manifest.class());
        let Identity { api_version, kind, .. } = manifest.identity();
        let is_secret = api_version == "v1" && kind == "Secret";
        let kind = self::kind(api_version, kind);
        let is_copied = match class {
            Class::Handover | Class::Permanent { vault: true } => is_secret,
            Class::Permanent { vault: false } | Class::Plain => false,
        };
        let field = |(key, base64): (String, Plaintext)| {
            let text = match encoding {
                Some(Encoding::Base64) => Some(base64),
                None => base64.decode_base64().filter(Plaintext::is_utf8),
            };
            match text {
                Some(text) => Ok((key, text)),
                None => Err(key),
            }
        };
        let values = is_copied.then(|| manifest.into_data().into_iter().map(field).collect());
        Self { file, name, kind, class, values }
    }

    /// Its file in the root.
    pub fn file(&self) -> &FilePath {
        &self.file
    }

    /// Its name, and its key below Vault's prefix.
    pub fn name(&self) -> &SecretName {
        &self.name
    }

    /// Its kind, as [`crate::evidence::ListedDocument::kind`] has it.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Its class in the list.
    pub fn class(&self) -> ListedClass {
        match self.class {
            Class::Permanent { .. } => ListedClass::Permanent,
            // What is plain never becomes a copy.
            Class::Handover | Class::Plain => ListedClass::Handover,
        }
    }

    /// Whether Vault gets its values.
    pub fn is_copied(&self) -> bool {
        self.values.is_some()
    }

    /// The names of its fields, sorted; none where it is not copied.
    pub fn keys(&self) -> Vec<String> {
        match &self.values {
            Some(Ok(fields)) => fields.keys().cloned().collect(),
            Some(Err(_)) | None => Vec::new(),
        }
    }

    /// The key of a value that is not text and has no encoding.
    pub(super) fn not_text(&self) -> Option<&str> {
        match &self.values {
            Some(Err(key)) => Some(key),
            Some(Ok(_)) | None => None,
        }
    }

    /// An upper bound for the body of its write: `{"options":{"cas":0},"data":{..}}` in bytes.
    pub(super) fn body_size(&self) -> usize {
        const AROUND: usize = r#"{"options":{"cas":0},"data":}"#.len();
        let Some(Ok(fields)) = &self.values else { return 0 };
        let leaf = |text: &Plaintext| Leaf { scalar: Scalar::Text(text.duplicate()), origin: Origin::Decrypted };
        let data = Branch::from_entries(fields.iter().map(|(key, text)| (key.clone(), Node::Leaf(leaf(text)))));
        // Text always has a form in JSON; were there none, it would not fit.
        data.to_json_line().map_or(usize::MAX, |json| AROUND + json.len())
    }

    /// Whether Vault holds exactly these values, field by field. All of them are compared, none with an early end.
    pub fn is_in(&self, vault: &BTreeMap<String, Option<Plaintext>>) -> bool {
        let Some(Ok(fields)) = &self.values else { return false };
        let mut all_same = true;
        for (key, text) in fields {
            all_same &= matches!(vault.get(key), Some(Some(held)) if held.same_bytes(text));
        }
        all_same && fields.len() == vault.len()
    }

    /// The keys whose values Vault holds, too. All of them are compared, none with an early end; `None` where it is not copied.
    pub fn keys_in(&self, vault: &BTreeMap<String, Option<Plaintext>>) -> Option<BTreeSet<String>> {
        let Some(Ok(fields)) = &self.values else { return None };
        let held = |key: &String, text: &Plaintext| matches!(vault.get(key), Some(Some(held)) if held.same_bytes(text));
        Some(fields.iter().filter(|(key, text)| held(key, text)).map(|(key, _)| key.clone()).collect())
    }

    /// Its fields, for the one place that writes them to Vault; `None` where it is not copied. Disallowed anywhere else,
    /// and only a decision to copy gives leave.
    pub fn expose(&self, _leave: &Leave) -> Option<&BTreeMap<String, Plaintext>> {
        match &self.values {
            Some(Ok(fields)) => Some(fields),
            Some(Err(_)) | None => None,
        }
    }

    /// As refusals name it.
    pub(crate) fn identity(&self) -> Identity {
        let (api_version, kind) = self.kind.rsplit_once('/').unwrap_or(("v1", &self.kind));
        Identity {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: Some(self.name.namespace().as_str().to_owned()),
            name: self.name.name().to_owned(),
        }
    }
}
