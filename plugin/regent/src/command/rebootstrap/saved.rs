//! Live Secrets, saved before they are overwritten: one age file to the offline root, and nothing in the clear on disk.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use age::Encryptor;
use regent_core::bootstrap::{Bootstrap, RecipientGroup};
use regent_sops::Plaintext;

use crate::failure::Failure;
use crate::keys::plugin_of_recipient;
use crate::output;

/// A file that does not exist yet, and whom it will be encrypted to.
pub(super) struct Saved {
    file: PathBuf,
    recipients: Vec<Box<dyn age::Recipient + Send>>,
}

impl Saved {
    /// Refuses a file that exists (a copy that was made before is never replaced), and a root that no age file can be
    /// encrypted to: what a copy is worth is known before it is needed.
    pub(super) fn to(file: &Path, bootstrap: &Bootstrap) -> Result<Self, Failure> {
        if file.symlink_metadata().is_ok() {
            return Err(exists(file));
        }
        let root = bootstrap.recipients.get(&RecipientGroup::Root).map(Vec::as_slice).unwrap_or_default();
        if root.is_empty() {
            return Err(Failure::Usage(
                "`--save-live` encrypts to `recipients.root` of regent.yaml, and there is none".to_owned(),
            ));
        }
        let (mut recipients, mut others) = (Vec::new(), Vec::new());
        for text in root {
            match recipient(text) {
                Some(recipient) => recipients.push(recipient),
                None => others.push(shown(text)),
            }
        }
        if recipients.is_empty() {
            return Err(Failure::Usage(format!(
                "`--save-live` writes an age file, and nobody of `recipients.root` can be given one here: {}",
                others.join(", ")
            )));
        }
        if !others.is_empty() {
            output::note(format_args!(
                "these of `recipients.root` will not open the saved copy: {}",
                others.join(", ")
            ));
        }
        Ok(Self { file: file.to_owned(), recipients })
    }

    /// Writes the objects as a list that `kubectl apply` takes: beside the file, to the disk, then under its name.
    pub(super) fn write(&self, objects: &[&Plaintext]) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::io("write", &self.file, &error);
        let folder = match self.file.parent() {
            Some(folder) if folder != Path::new("") => folder,
            Some(_) | None => Path::new("."),
        };
        let sealed = sealed(objects, &self.recipients).map_err(|reason| Failure::World {
            what: "write",
            name: self.file.display().to_string(),
            reason,
        })?;
        // Readable by its owner alone.
        let mut part = tempfile::Builder::new().prefix(".regent-saved-").tempfile_in(folder).map_err(failed)?;
        part.write_all(&sealed).and_then(|()| part.as_file().sync_all()).map_err(failed)?;
        part.persist_noclobber(&self.file).map_err(|error| {
            if error.error.kind() == ErrorKind::AlreadyExists { exists(&self.file) } else { failed(error.error) }
        })?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    /// Where it is.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

fn exists(file: &Path) -> Failure {
    Failure::World {
        what: "write",
        name: file.display().to_string(),
        reason: "it exists, and a saved copy is never replaced; name another file".to_owned(),
    }
}

/// Whom an age file can be encrypted to: age's own, SSH keys, and plugins that are installed.
fn recipient(text: &str) -> Option<Box<dyn age::Recipient + Send>> {
    if let Ok(recipient) = text.parse::<age::x25519::Recipient>() {
        return Some(Box::new(recipient));
    }
    if let Ok(recipient) = text.parse::<age::ssh::Recipient>() {
        return Some(Box::new(recipient));
    }
    let name = plugin_of_recipient(text)?;
    let recipient = text.parse::<age::plugin::Recipient>().ok()?;
    let plugin = age::plugin::RecipientPluginV1::new(name, &[recipient], &[], age::NoCallbacks).ok()?;
    Some(Box::new(plugin))
}

/// A recipient in a sentence; a post-quantum one has 1959 characters.
fn shown(text: &str) -> String {
    const SHOWN: usize = 62;
    match text.get(..SHOWN) {
        Some(head) if head.len() < text.len() => format!("{head}.."),
        Some(_) | None => text.to_owned(),
    }
}

/// `{"apiVersion":"v1","kind":"List","items":[..]}`, encrypted.
fn sealed(objects: &[&Plaintext], recipients: &[Box<dyn age::Recipient + Send>]) -> Result<Vec<u8>, String> {
    let recipients = recipients.iter().map(|recipient| recipient.as_ref() as &dyn age::Recipient);
    let encryptor =
        Encryptor::with_recipients(recipients).map_err(|_| "a recipient cannot be encrypted to".to_owned())?;
    let mut sealed = Vec::new();
    let written = encryptor.wrap_output(&mut sealed).and_then(|mut out| {
        out.write_all(br#"{"apiVersion":"v1","kind":"List","items":["#)?;
        for (number, object) in objects.iter().enumerate() {
            #[expect(clippy::disallowed_methods, reason = "the one exit of live values into a saved copy, encrypted")]
            let bytes = object.expose();
            out.write_all(if number == 0 { b"\n" } else { b",\n" })?;
            out.write_all(bytes)?;
        }
        out.write_all(b"\n]}\n")?;
        out.finish()
    });
    match written {
        Ok(_) => Ok(sealed),
        Err(error) => Err(crate::failure::reason(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

    fn bootstrap(recipients: &str) -> Bootstrap {
        let text = format!("apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\nepoch: 1\n{recipients}");
        Bootstrap::parse(&regent_core::name::FilePath::parse("regent.yaml").unwrap(), text.as_bytes()).unwrap()
    }

    #[test]
    fn a_copy_opens_with_the_root_key_alone_and_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let key = age::x25519::Identity::generate();
        let file = folder.path().join("live.json.age");
        let bootstrap = bootstrap(&format!("recipients: {{ root: [{}] }}\n", key.to_public()));
        let saved = Saved::to(&file, &bootstrap).unwrap();
        let objects = [r#"{"a":1}"#, r#"{"b":2}"#].map(|text| Plaintext::new(text.into()));
        saved.write(&objects.iter().collect::<Vec<_>>()).unwrap();

        let bytes = std::fs::read(&file).unwrap();
        assert!(bytes.starts_with(b"age-encryption.org/v1\n") && !bytes.windows(3).any(|part| part == b"\"a\""));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let mut text = String::new();
        let decryptor = age::Decryptor::new(bytes.as_slice()).unwrap();
        decryptor.decrypt(std::iter::once(&key as &dyn age::Identity)).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["items"][1]["b"], 2);
        // Nothing else is left in the folder.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

        assert!(Saved::to(&file, &bootstrap).err().unwrap().to_string().contains("never replaced"));
        let refused = saved.write(&[]).unwrap_err().to_string();
        assert!(refused.contains("never replaced"), "{refused}");
        assert_eq!(std::fs::read(&file).unwrap(), bytes);
    }

    #[test]
    fn a_root_that_no_age_file_can_be_encrypted_to_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let to =
            |recipients: &str| Saved::to(&folder.path().join("f"), &bootstrap(recipients)).err().unwrap().to_string();
        assert!(to("").contains("there is none"));
        let pgp = "recipients: { root: [\"0123456789ABCDEF0123456789ABCDEF01234567\"] }\n";
        assert!(to(pgp).ends_with(": 0123456789ABCDEF0123456789ABCDEF01234567"), "{}", to(pgp));
    }
}
