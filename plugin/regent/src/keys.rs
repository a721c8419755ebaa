//! Identities from files, folders and the environment; the one place that starts age plugins.
//!
//! What `-i` names is used, and nothing else; a file of it that cannot be used is an error. Without `-i`
//! the sources are those of `sops`, all of them together. Of these, what a person set on purpose
//! (`SOPS_AGE_KEY`, `SOPS_AGE_KEY_FILE`, `SOPS_AGE_SSH_PRIVATE_KEY_FILE`) must be usable; what merely lies
//! in its usual place (`keys.txt`, `~/.ssh/id_*`) is set aside where it is not, and named if nothing else
//! opens the file. `gpg`'s own keyring is not read: export the secret key and give it with `-i`.

use crate::cli::KeyArgs;
use crate::config::{self, HOME, SOPS_AGE_KEY, SOPS_AGE_KEY_FILE, SOPS_AGE_SSH_PRIVATE_KEY_FILE, XDG_CONFIG_HOME};
use crate::failure::{Code, Failure, one_line};
use crate::output::note;
use age::secrecy::SecretString;
use regent_sops::{Keyring, Loaded, Passphrase};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// What [`load`] found.
pub(crate) struct Identities {
    /// The identities themselves.
    pub(crate) keyring: Keyring,
    /// Every file and folder that was read, to be watched.
    pub(crate) paths: Vec<PathBuf>,
    /// Keys in their usual places that could not be used, in words.
    set_aside: Vec<String>,
}

/// Largest key file read, in bytes; an RSA 4096 secret key with many signatures stays below 100 KB.
pub(crate) const MAX_KEY_FILE_BYTES: u64 = 1 << 20;

/// Largest passphrase file read, in bytes.
const MAX_PASSPHRASE_BYTES: u64 = 4 << 10;

/// Loads every identity named on the command line or, where none is, those that `sops` would use.
pub(crate) fn load(args: &KeyArgs) -> Result<Identities, Failure> {
    load_for(&args.identities, args.passphrase_file.as_deref())
}

/// The identities of a rule, for a server: these files and folders and nothing else, no passphrase, no program. What
/// a file holds beside usable keys is logged.
pub(crate) fn exactly(identities: &[PathBuf]) -> Result<Keyring, Failure> {
    let mut loading = Loading::new(None)?;
    loading.programs = false;
    loading.paths(identities)?;
    for sentence in &loading.notes {
        tracing::warn!("{sentence}");
    }
    Ok(loading.found.keyring)
}

/// As [`load`], from plain paths.
fn load_for(identities: &[PathBuf], passphrase_file: Option<&Path>) -> Result<Identities, Failure> {
    let mut loading = Loading::new(passphrase_file)?;
    if identities.is_empty() {
        loading.as_sops_does()?;
    }
    loading.paths(identities)?;
    loading.notes.iter().for_each(note);
    Ok(loading.found)
}

impl Identities {
    /// Passes the outcome on, after naming the keys that were set aside where no other opened the file.
    pub(crate) fn told<T>(&self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        outcome.inspect_err(|failure| {
            if failure.code() == Code::NoKey {
                self.set_aside.iter().for_each(note);
            }
        })
    }

    /// Keys in their usual places that could not be used, in words.
    pub(crate) fn set_aside(&self) -> &[String] {
        &self.set_aside
    }
}

/// The plugin that an age recipient such as `age1yubikey1..` needs; `None` for native recipients.
pub(crate) fn plugin_of_recipient(recipient: &str) -> Option<&str> {
    let (prefix, _) = recipient.rsplit_once('1')?;
    let name = prefix.strip_prefix("age1")?;
    // These have letters of their own and no program: age opens them natively, or with an identity
    // of another name.
    (!matches!(name, "pq" | "tag" | "tagpq")).then_some(name)
}

/// Whether `age-plugin-NAME` is in `PATH`.
pub(crate) fn plugin_is_installed(name: &str) -> bool {
    age::plugin::IdentityPluginV1::new(name, &[], age::NoCallbacks).is_ok()
}

/// A keyring being filled.
struct Loading {
    found: Identities,
    passphrases: Vec<Passphrase>,
    /// What is worth a word, in words.
    notes: Vec<String>,
    /// Whether plugins may be started.
    programs: bool,
    /// The same passphrase, for plugins that ask.
    for_plugins: Option<SecretString>,
}

impl Loading {
    fn new(passphrase_file: Option<&Path>) -> Result<Self, Failure> {
        let mut loading = Self {
            found: Identities { keyring: Keyring::default(), paths: Vec::new(), set_aside: Vec::new() },
            passphrases: Vec::new(),
            notes: Vec::new(),
            programs: true,
            for_plugins: None,
        };
        if let Some(path) = passphrase_file {
            let bytes = config::read_bounded(path, MAX_PASSPHRASE_BYTES)?;
            loading.for_plugins = std::str::from_utf8(&bytes).ok().map(|text| {
                let line = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
                SecretString::from(line)
            });
            loading.passphrases.push(Passphrase::new(bytes));
            loading.found.paths.push(path.to_owned());
        }
        Ok(loading)
    }

    fn paths(&mut self, identities: &[PathBuf]) -> Result<(), Failure> {
        for path in identities {
            if fs::metadata(path).map_err(|error| Failure::io("read", path, &error))?.is_dir() {
                self.folder(path)?;
            } else {
                self.file(path)?;
            }
        }
        Ok(())
    }

    /// The sources of `sops`, except the commands that print keys.
    fn as_sops_does(&mut self) -> Result<(), Failure> {
        if let Some(keys) = config::variable(SOPS_AGE_KEY) {
            self.bytes(SOPS_AGE_KEY, &keys.into_vec())?;
        }
        for name in [SOPS_AGE_KEY_FILE, SOPS_AGE_SSH_PRIVATE_KEY_FILE] {
            if let Some(path) = config::variable(name) {
                self.file(Path::new(&path))?;
            }
        }
        let home = config::variable(HOME).map(PathBuf::from);
        let settings = config::variable(XDG_CONFIG_HOME).map(PathBuf::from);
        let settings = settings.or_else(|| home.as_ref().map(|home| home.join(".config")));
        if let Some(settings) = settings {
            self.usual_place(&settings.join("sops/age/keys.txt"));
        }
        if let Some(home) = home {
            self.usual_place(&home.join(".ssh/id_ed25519"));
            self.usual_place(&home.join(".ssh/id_rsa"));
        }
        Ok(())
    }

    /// A file that need not be there, and need not be usable.
    fn usual_place(&mut self, path: &Path) {
        if fs::metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            return;
        }
        if let Err(failure) = self.file(path) {
            self.found.set_aside.push(format!("not used: {failure}"));
        }
    }

    /// Every key file of a folder, in byte order of names. A mounted Kubernetes Secret shows its keys as
    /// links through `..data`; the dot-files themselves are its machinery.
    fn folder(&mut self, folder: &Path) -> Result<(), Failure> {
        let unreadable = |error: std::io::Error| Failure::io("read", folder, &error);
        let mut names = fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>, _>>())
            .map_err(unreadable)?;
        names.retain(|name| !is_passed_over(name));
        names.sort_by(|left, right| left.as_bytes().cmp(right.as_bytes()));
        self.found.paths.push(folder.to_owned());
        let refused = |path: &Path, reason: &str| Failure::World {
            what: "use",
            name: path.display().to_string(),
            reason: reason.to_owned(),
        };
        if names.is_empty() {
            return Err(refused(folder, "it holds no key file"));
        }
        for name in names {
            let path = folder.join(name);
            if !fs::metadata(&path).map_err(|error| Failure::io("read", &path, &error))?.is_file() {
                return Err(refused(&path, "it is no file, and lies in a folder of key files"));
            }
            self.file(&path)?;
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(), Failure> {
        self.found.paths.push(path.to_owned());
        // The buffer is wiped as it is freed: the allocator does that for all of them.
        let bytes = config::read_bounded(path, MAX_KEY_FILE_BYTES)?;
        self.bytes(&path.display().to_string(), &bytes)
    }

    fn bytes(&mut self, source: &str, bytes: &[u8]) -> Result<(), Failure> {
        let Loaded { skipped, plugins, .. } =
            self.found.keyring.load(source, bytes, &self.passphrases).map_err(Failure::Identity)?;
        for (line, problem) in skipped {
            self.notes.push(format!("{source}, line {line}: {problem}; the rest of the file is used"));
        }
        for (line, text) in plugins {
            self.plugin(source, line, text.as_str())?;
        }
        Ok(())
    }

    fn plugin(&mut self, source: &str, line: usize, text: &str) -> Result<(), Failure> {
        let identity: age::plugin::Identity = text.parse().map_err(|_| {
            Failure::Identity(regent_sops::Error::Identity {
                source_name: source.to_owned(),
                line: Some(line),
                problem: regent_sops::IdentityProblem::BadLine,
            })
        })?;
        let name = identity.plugin().to_owned();
        if !self.programs {
            self.notes
                .push(format!("{source}, line {line} is not used: a server starts no program `age-plugin-{name}`"));
            return Ok(());
        }
        let answers = Answers { passphrase: self.for_plugins.clone() };
        match age::plugin::IdentityPluginV1::new(&name, &[identity], answers) {
            Ok(plugin) => self.found.keyring.add_plugin(format!("age-plugin-{name}"), Box::new(plugin)),
            Err(_) => self
                .notes
                .push(format!("{source}, line {line} is not used: it needs the program `age-plugin-{name}` in PATH")),
        }
        Ok(())
    }
}

/// Dot-files, and the public halves that lie beside SSH keys.
fn is_passed_over(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".") || name.as_bytes().ends_with(b".pub")
}

/// What a plugin may ask. regent never asks a terminal, so only the passphrase file answers.
#[derive(Clone)]
struct Answers {
    passphrase: Option<SecretString>,
}

impl age::Callbacks for Answers {
    fn display_message(&self, message: &str) {
        note(one_line(message));
    }
    fn confirm(&self, _message: &str, _yes: &str, _no: Option<&str>) -> Option<bool> {
        None
    }
    fn request_public_string(&self, _description: &str) -> Option<String> {
        None
    }
    fn request_passphrase(&self, _description: &str) -> Option<SecretString> {
        self.passphrase.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_recipient_names_its_program() {
        assert_eq!(
            plugin_of_recipient("age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t"),
            Some("yubikey")
        );
        assert_eq!(plugin_of_recipient("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"), None);
        assert_eq!(plugin_of_recipient("age1pq1qqqq"), None);
        assert_eq!(plugin_of_recipient("ssh-ed25519 AAAAC3NzaC1lZDI1"), None);
    }

    #[test]
    fn a_folder_passes_over_dot_files_and_public_halves_alone() {
        for (name, passed_over) in
            [("..data", true), (".gitignore", true), ("id_ed25519.pub", true), ("id_ed25519", false), ("key", false)]
        {
            assert_eq!(is_passed_over(OsStr::new(name)), passed_over, "{name}");
        }
    }

    #[test]
    fn a_folder_without_keys_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("id.pub"), "").unwrap();
        let failure = load_for(&[folder.path().to_owned()], None).err().unwrap();
        assert!(failure.to_string().ends_with("it holds no key file"), "{failure}");
    }

    #[test]
    fn a_dangling_link_or_a_folder_among_keys_is_an_error() {
        for make in [|path: &Path| fs::create_dir(path), |path: &Path| std::os::unix::fs::symlink("nowhere", path)] {
            let folder = tempfile::tempdir().unwrap();
            make(&folder.path().join("key")).unwrap();
            let failure = load_for(&[folder.path().to_owned()], None).err().unwrap();
            assert!(failure.to_string().contains("/key: "), "{failure}");
        }
    }
}
