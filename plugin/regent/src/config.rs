//! The operator's file and every environment variable, in one place.

use crate::cli::StoreArgs;
use crate::failure::Failure;
use regent_core::rules::{RegentConfig, Store};
use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// An environment variable that regent reads.
pub(crate) struct Variable {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does, in a line of the help.
    pub(crate) meaning: &'static str,
}

/// The operator's file, where `--config` does not name it.
pub(crate) const REGENT_CONFIG: &str = "REGENT_CONFIG";
/// Age identities themselves, one a line.
pub(crate) const SOPS_AGE_KEY: &str = "SOPS_AGE_KEY";
/// A file of age identities.
pub(crate) const SOPS_AGE_KEY_FILE: &str = "SOPS_AGE_KEY_FILE";
/// An SSH private key for `ssh-ed25519` and `ssh-rsa` recipients.
pub(crate) const SOPS_AGE_SSH_PRIVATE_KEY_FILE: &str = "SOPS_AGE_SSH_PRIVATE_KEY_FILE";
/// The folder that holds `sops/age/keys.txt`.
pub(crate) const XDG_CONFIG_HOME: &str = "XDG_CONFIG_HOME";
/// The home folder.
pub(crate) const HOME: &str = "HOME";
/// The folder of Argo CD's plugin sockets; the repo-server reads it too.
pub(crate) const ARGOCD_PLUGINSOCKFILEPATH: &str = "ARGOCD_PLUGINSOCKFILEPATH";

/// Set by Kubernetes in every pod.
pub(crate) const KUBERNETES_SERVICE_HOST: &str = "KUBERNETES_SERVICE_HOST";

/// Every environment variable that is read; nothing else in this program asks the environment, save
/// the libraries that the last entries name.
pub(crate) const ENVIRONMENT: [Variable; 12] = [
    Variable { name: REGENT_CONFIG, meaning: "the operator's file, as `--config`" },
    Variable { name: SOPS_AGE_KEY, meaning: "age identities, one a line (not read where `-i` is given)" },
    Variable { name: SOPS_AGE_KEY_FILE, meaning: "a file of age identities (not read where `-i` is given)" },
    Variable { name: SOPS_AGE_SSH_PRIVATE_KEY_FILE, meaning: "an SSH private key (not read where `-i` is given)" },
    Variable { name: XDG_CONFIG_HOME, meaning: "where `sops/age/keys.txt` is looked for; default `~/.config`" },
    Variable { name: HOME, meaning: "where `.config/sops/age/keys.txt` and `.ssh/id_*` are looked for" },
    Variable { name: KUBERNETES_SERVICE_HOST, meaning: "set: `serve` runs in a pod, and takes no store in a folder" },
    Variable { name: "PATH", meaning: "where `age-plugin-NAME` programs are looked for" },
    Variable { name: ARGOCD_PLUGINSOCKFILEPATH, meaning: "where Argo CD looks for the sockets of plugins" },
    Variable { name: "NO_COLOR", meaning: "set to anything: no colours (`--color` wins)" },
    Variable { name: "CLICOLOR", meaning: "`0`: no colours (`--color` wins)" },
    Variable { name: "CLICOLOR_FORCE", meaning: "set, and not `0`: colours even where output is no terminal" },
];

/// An environment variable's value; an empty one counts as not set, as `sops` has it.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Largest operator's file read, in bytes; thousands of rules stay far below.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Reads the operator's file.
pub(crate) fn load(path: &Path) -> Result<RegentConfig, Failure> {
    let bytes = read_bounded(path, MAX_CONFIG_BYTES)?;
    Ok(RegentConfig::parse(&path.display().to_string(), &bytes).map_err(regent_core::Refusal::from)?)
}

/// The folder of the embedded authority store: `--store`, else what the operator's file says. `None`
/// where neither is given. A relative path in the file counts from the file's own folder, so that it
/// means the same wherever regent is started.
pub(crate) fn store_folder(args: &StoreArgs, config: Option<&RegentConfig>) -> Result<Option<PathBuf>, Failure> {
    if let Some(store) = &args.store {
        return Ok(Some(store.clone()));
    }
    let (Some(file), Some(config)) = (&args.config, config) else { return Ok(None) };
    match &config.store {
        Store::Directory { path } => Ok(Some(beside(file, path))),
        Store::Kubernetes => Err(Failure::Usage(format!(
            "{} keeps the authority in a cluster (`store: {{ kind: kubernetes }}`), which this command cannot ask; \
             `--store DIR` names a store on this machine",
            file.display()
        ))),
    }
}

/// A path in the operator's file: a relative one counts from the file's own folder.
pub(crate) fn beside(file: &Path, path: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}

/// Reads a whole file, refusing one that is larger than `limit` bytes.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let file = std::fs::File::open(path).map_err(|error| Failure::io("read", path, &error))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| Failure::io("read", path, &error))?;
    if bytes.len() as u64 > limit {
        return Err(Failure::World {
            what: "read",
            name: path.display().to_string(),
            reason: format!("it is larger than {limit} bytes"),
        });
    }
    Ok(bytes)
}
