//! Which encrypted files a root has, as one digest: how a handover knows that nothing slipped in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use regent_sops::{Document, Limits};
use sha2::{Digest as _, Sha256};

use crate::bootstrap::Bootstrap;
use crate::evidence::ListedDocument;
use crate::files::{self, Files, Form, Input};
use crate::name::{FilePath, SecretName};
use crate::object::{View, objects};
use crate::refusal::{DocumentProblem, Refusal};
use crate::render::Scope;
use crate::secret;

/// The digest of a tree: SHA-256, as 64 lower-case hexadecimal digits, over each of its encrypted files once, in the
/// byte order of their paths: the path from the root in UTF-8, one NUL, Git's id of the blob in lower-case hexadecimal,
/// one line feed. A path holds neither NUL nor line feed, so no two trees have one text.
pub fn tree_digest<'a>(files: impl IntoIterator<Item = (&'a FilePath, &'a str)>) -> String {
    let files: BTreeSet<(&FilePath, &str)> = files.into_iter().collect();
    let mut hash = Sha256::new();
    for (path, blob) in files {
        hash.update(path.as_str().as_bytes());
        hash.update([0]);
        hash.update(blob.as_bytes());
        hash.update(b"\n");
    }
    hex(&hash.finalize())
}

/// A file that the digest is over, as far as it can be told unopened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptedFile {
    /// Its path from the root.
    pub path: FilePath,
    /// Git's id of it.
    pub blob: String,
    /// Its encrypted documents whose names show; none of a file that is encrypted as a whole.
    pub names: Vec<SecretName>,
}

/// A file that is not what was handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slipped {
    /// Its path from the root.
    pub path: FilePath,
    /// How it differs.
    pub how: How,
    /// The documents that it held at the handover or holds now, as far as their names are known.
    pub names: Vec<SecretName>,
}

/// How a file differs from what was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It was not there.
    Added,
    /// It has other bytes.
    Changed,
    /// It is not there any more.
    Removed,
}

/// The files that the digest is over: those that hold an encrypted document, and those encrypted as a whole. Nothing is
/// opened. `blob` is Git's id of a file with these bytes.
///
/// # Errors
/// A root that is refused, or the first of its files that cannot be read.
pub fn encrypted_files(
    files: &Files,
    bootstrap: &Bootstrap,
    limits: &Limits,
    blob: impl Fn(&[u8]) -> String,
) -> Result<Vec<EncryptedFile>, Refusal> {
    let (inputs, errors) = files::inputs(files, None, Some(bootstrap), limits);
    if let Some(error) = errors.into_iter().next() {
        return Err(error.into());
    }
    let namespaces = ["*".to_owned()];
    let scope = Scope { bootstrap: Some(bootstrap), namespaces: &namespaces };
    let mut found = Vec::new();
    for input in &inputs {
        let names = encrypted_names(input, &scope, limits);
        let names = names.map_err(|problem| Refusal::Document { file: input.path.clone(), problem })?;
        if let Some(names) = names {
            found.push(EncryptedFile { path: input.path.clone(), blob: blob(input.bytes), names });
        }
    }
    Ok(found)
}

/// The names that show of a file's encrypted documents; `None` where it has none.
fn encrypted_names(
    input: &Input<'_>,
    scope: &Scope<'_>,
    limits: &Limits,
) -> Result<Option<Vec<SecretName>>, DocumentProblem> {
    let format = match input.form {
        Form::Manifest(format) => format,
        Form::Whole(..) => return Ok(Some(Vec::new())),
        Form::Generated(generator) => {
            let name = generator.known_name().map(|name| secret::name(generator.namespace(), name));
            return Ok(Some(name.transpose()?.into_iter().collect()));
        }
    };
    let Document::Sealed(sealed) = Document::parse(input.bytes, format, limits)? else { return Ok(None) };
    let mut names = None;
    for object in objects(sealed.documents(), View::Sealed) {
        let object = object.map_err(|problem| problem.problem)?;
        if !object.is_encrypted() {
            continue;
        }
        let names = names.get_or_insert_with(Vec::new);
        if let Some(meta) = input.meta(&object).map_err(|problem| problem.problem)? {
            let namespace = scope.namespace(&object, &meta, input.place.namespace.as_deref());
            let namespace = namespace.map_err(|problem| problem.problem)?.unwrap_or_default();
            names.push(secret::name(&namespace, &meta.name)?);
        }
    }
    Ok(names)
}

/// What slipped in: the files of a revision that are not as they were handed over, unless `accepted`
/// (`handover.acceptChanged`) names every document of theirs. A file whose documents have no known name cannot be
/// accepted. One that was `imported` since is new, and did not slip in. Nothing is recorded, and nothing settled, while
/// there is one.
pub fn slipped_in(
    handed_over: &[ListedDocument],
    imported: &[ListedDocument],
    revision: &[EncryptedFile],
    accepted: &[SecretName],
) -> Vec<Slipped> {
    let is_imported = |file: &EncryptedFile| {
        let of_it = imported.iter().filter(|document| document.path == file.path && document.blob == file.blob);
        let of_it: BTreeSet<&SecretName> = of_it.map(|document| &document.name).collect();
        !of_it.is_empty() && file.names.iter().all(|name| of_it.contains(name))
    };
    let mut before: BTreeMap<&FilePath, (&str, BTreeSet<&SecretName>)> = BTreeMap::new();
    for document in handed_over {
        before.entry(&document.path).or_insert((&document.blob, BTreeSet::new())).1.insert(&document.name);
    }
    let mut found = Vec::new();
    for file in revision {
        let (how, mut names) = match before.remove(&file.path) {
            // The same bytes under a name that was not handed over: a build renames it since.
            Some((blob, names)) if blob == file.blob && file.names.iter().all(|name| names.contains(name)) => continue,
            Some((_, names)) => (How::Changed, names),
            None if is_imported(file) => continue,
            None => (How::Added, BTreeSet::new()),
        };
        names.extend(&file.names);
        found.push((&file.path, how, names));
    }
    found.extend(before.into_iter().map(|(path, (_, names))| (path, How::Removed, names)));
    found.sort_by_key(|(path, ..)| *path);
    let is_accepted =
        |names: &BTreeSet<&SecretName>| !names.is_empty() && names.iter().all(|name| accepted.contains(name));
    let slipped = found.into_iter().filter(|(_, _, names)| !is_accepted(names));
    let owned = |(path, how, names): (&FilePath, How, BTreeSet<&SecretName>)| Slipped {
        path: path.clone(),
        how,
        names: names.into_iter().cloned().collect(),
    };
    slipped.map(owned).collect()
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Whether this is Git's id of an object (SHA-1 or SHA-256), or the digest of a tree.
pub(crate) fn is_hex(text: &str, lengths: &[usize]) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::ListedClass;

    fn path(text: &str) -> FilePath {
        FilePath::parse(text).unwrap()
    }

    /// `printf 'a.yaml\0%s\nb/c.yaml\0%s\n' $(printf '1%.0s' {1..40}) $(printf '2%.0s' {1..40}) | sha256sum`, and
    /// `sha256sum < /dev/null`.
    #[test]
    fn the_digest_is_what_sha256sum_says_of_the_text() {
        let (a, b) = (path("a.yaml"), path("b/c.yaml"));
        let (one, two) = ("1".repeat(40), "2".repeat(40));
        let digest = tree_digest([(&b, two.as_str()), (&a, one.as_str()), (&b, two.as_str())]);
        assert_eq!(digest, "faec5d04188aa6dba2d770cd20b1881fc65f0685945b131b78633277e37626a2");
        assert_eq!(tree_digest([]), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn what_slipped_in_is_named_until_a_person_accepts_all_of_it() {
        let name = |text: &str| SecretName::parse(text).unwrap();
        let listed = |file: &str, secret: &str| ListedDocument {
            path: path(file),
            name: name(secret),
            kind: "Secret".to_owned(),
            class: ListedClass::Handover,
            blob: "1".to_owned(),
        };
        let handed_over = [listed("a.yaml", "app/a"), listed("a.yaml", "app/b"), listed("c.yaml", "app/c")];
        let file = |file: &str, blob: &str, names: &[&str]| EncryptedFile {
            path: path(file),
            blob: blob.to_owned(),
            names: names.iter().map(|it| name(it)).collect(),
        };
        let same = [file("a.yaml", "1", &["app/a", "app/b"]), file("c.yaml", "1", &["app/c"])];
        assert_eq!(slipped_in(&handed_over, &[], &same, &[]), []);
        // A build gives one of them another name.
        let renamed = [file("a.yaml", "1", &["app/a", "app/b"]), file("c.yaml", "1", &["app/x-c"])];
        let slipped = slipped_in(&handed_over, &[], &renamed, &[]);
        let told: Vec<_> = slipped.iter().map(|it| (it.path.as_str(), it.how, it.names.as_slice())).collect();
        assert_eq!(told, [("c.yaml", How::Changed, [name("app/c"), name("app/x-c")].as_slice())]);

        let now = [file("a.yaml", "2", &["app/a", "app/new"]), file("b.yaml.age", "1", &[])];
        let told = |accepted: &[&str]| {
            let accepted: Vec<_> = accepted.iter().map(|it| name(it)).collect();
            let told = slipped_in(&handed_over, &[], &now, &accepted);
            told.into_iter().map(|it| (it.path.to_string(), it.how, it.names.len())).collect::<Vec<_>>()
        };
        let (a, b, c) = (
            ("a.yaml".to_owned(), How::Changed, 3),
            ("b.yaml.age".to_owned(), How::Added, 0),
            ("c.yaml".to_owned(), How::Removed, 1),
        );
        assert_eq!(told(&[]), [a.clone(), b.clone(), c.clone()]);
        assert_eq!(told(&["app/c"]), [a.clone(), b.clone()]);
        assert_eq!(told(&["app/a", "app/new", "app/c"]), [a, b.clone()]);
        assert_eq!(told(&["app/a", "app/b", "app/new"]), [b, c]);

        // Imported are these bytes of a file that was not there, with all that it shows.
        let [one, other] = &same;
        let new = |blob: &str, names: &[&str]| [one.clone(), other.clone(), file("b.yaml", blob, names)];
        let imported = [listed("b.yaml", "app/new"), listed("a.yaml", "app/late")];
        let slips = |revision: &[EncryptedFile]| !slipped_in(&handed_over, &imported, revision, &[]).is_empty();
        assert!(!slips(&same), "a commit from before the import");
        assert!(!slips(&new("1", &["app/new"])) && !slips(&new("1", &[])));
        assert!(slips(&new("2", &["app/new"])) && slips(&new("1", &["app/new", "app/more"])));
        assert!(slips(&[file("a.yaml", "2", &["app/a", "app/b", "app/late"]), other.clone()]));
    }

    #[test]
    fn another_path_or_blob_is_another_tree() {
        let (a, ab) = (path("a"), path("ab"));
        let all = [
            tree_digest([]),
            tree_digest([(&a, "1")]),
            tree_digest([(&a, "2")]),
            tree_digest([(&ab, "1")]),
            tree_digest([(&a, "1"), (&ab, "1")]),
        ];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }
}
