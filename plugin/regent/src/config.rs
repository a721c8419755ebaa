//! The operator's file and every environment variable, in one place.

use crate::cli::{ClusterArgs, StoreArgs};
use crate::cluster::Access;
use crate::failure::Failure;
use crate::witnesses::Store;
use regent_core::rules::{self, RegentConfig};
use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

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

/// A variable of Vault's clients, which OpenBao's clients know by a name of their own.
pub(crate) struct Twin {
    /// Vault's name.
    pub(crate) vault: &'static str,
    /// OpenBao's name, which counts wherever it is set.
    pub(crate) bao: &'static str,
}

/// Vault's address, compared with the authority's.
pub(crate) const VAULT_ADDR: Twin = Twin { vault: "VAULT_ADDR", bao: "BAO_ADDR" };
/// Vault's namespace, compared with the authority's.
pub(crate) const VAULT_NAMESPACE: Twin = Twin { vault: "VAULT_NAMESPACE", bao: "BAO_NAMESPACE" };
/// CA certificates of Vault: a file.
pub(crate) const VAULT_CACERT: Twin = Twin { vault: "VAULT_CACERT", bao: "BAO_CACERT" };
/// CA certificates of Vault: themselves.
pub(crate) const VAULT_CACERT_BYTES: Twin = Twin { vault: "VAULT_CACERT_BYTES", bao: "BAO_CACERT_BYTES" };
/// CA certificates of Vault: a folder.
pub(crate) const VAULT_CAPATH: Twin = Twin { vault: "VAULT_CAPATH", bao: "BAO_CAPATH" };
/// A client certificate for Vault.
pub(crate) const VAULT_CLIENT_CERT: Twin = Twin { vault: "VAULT_CLIENT_CERT", bao: "BAO_CLIENT_CERT" };
/// Its key.
pub(crate) const VAULT_CLIENT_KEY: Twin = Twin { vault: "VAULT_CLIENT_KEY", bao: "BAO_CLIENT_KEY" };
/// The name that Vault's certificate is for.
pub(crate) const VAULT_TLS_SERVER_NAME: Twin = Twin { vault: "VAULT_TLS_SERVER_NAME", bao: "BAO_TLS_SERVER_NAME" };
/// Refused where it is true.
pub(crate) const VAULT_SKIP_VERIFY: Twin = Twin { vault: "VAULT_SKIP_VERIFY", bao: "BAO_SKIP_VERIFY" };

/// Kubeconfig files, as `kubectl` has it.
pub(crate) const KUBECONFIG: &str = "KUBECONFIG";
/// Set by Kubernetes in every pod.
pub(crate) const KUBERNETES_SERVICE_HOST: &str = "KUBERNETES_SERVICE_HOST";

/// Every environment variable that is read; nothing else in this program asks the environment, save
/// the libraries that the last entries name.
pub(crate) const ENVIRONMENT: [Variable; 36] = [
    Variable { name: REGENT_CONFIG, meaning: "the operator's file, as `--config`" },
    Variable { name: SOPS_AGE_KEY, meaning: "age identities, one a line (not read where `-i` is given)" },
    Variable { name: SOPS_AGE_KEY_FILE, meaning: "a file of age identities (not read where `-i` is given)" },
    Variable { name: SOPS_AGE_SSH_PRIVATE_KEY_FILE, meaning: "an SSH private key (not read where `-i` is given)" },
    Variable { name: XDG_CONFIG_HOME, meaning: "where `sops/age/keys.txt` is looked for; default `~/.config`" },
    Variable {
        name: HOME,
        meaning: "where `.config/sops/age/keys.txt`, `.ssh/id_*` and `.kube/config` are looked for",
    },
    Variable { name: KUBERNETES_SERVICE_HOST, meaning: "set: `serve` runs in a pod, and takes no store in a folder" },
    Variable { name: "KUBERNETES_SERVICE_PORT", meaning: "with it: where a pod finds the API server" },
    Variable { name: KUBECONFIG, meaning: "kubeconfig files; default `~/.kube/config`" },
    Variable { name: "HTTPS_PROXY", meaning: "proxy to the API server, where the kubeconfig names none" },
    Variable { name: "NO_PROXY", meaning: "hosts that are reached without it" },
    Variable { name: "SSL_CERT_FILE", meaning: "CA certificates for Vault and Git instead of the system's" },
    Variable { name: VAULT_ADDR.vault, meaning: "where it is not the authority's address of Vault, the run stops" },
    Variable { name: VAULT_ADDR.bao, meaning: BAO_NAME },
    Variable { name: VAULT_NAMESPACE.vault, meaning: "the same with the namespace in Vault" },
    Variable { name: VAULT_NAMESPACE.bao, meaning: BAO_NAME },
    Variable { name: VAULT_CACERT.vault, meaning: "a file of CA certificates for Vault" },
    Variable { name: VAULT_CACERT.bao, meaning: BAO_NAME },
    Variable { name: VAULT_CACERT_BYTES.vault, meaning: "the certificates themselves, where no file is named" },
    Variable { name: VAULT_CACERT_BYTES.bao, meaning: BAO_NAME },
    Variable { name: VAULT_CAPATH.vault, meaning: "a folder of them, where neither is" },
    Variable { name: VAULT_CAPATH.bao, meaning: BAO_NAME },
    Variable { name: VAULT_CLIENT_CERT.vault, meaning: "a file with a client certificate for Vault" },
    Variable { name: VAULT_CLIENT_CERT.bao, meaning: BAO_NAME },
    Variable { name: VAULT_CLIENT_KEY.vault, meaning: "a file with its key" },
    Variable { name: VAULT_CLIENT_KEY.bao, meaning: BAO_NAME },
    Variable { name: VAULT_TLS_SERVER_NAME.vault, meaning: "the name that Vault's certificate is for" },
    Variable { name: VAULT_TLS_SERVER_NAME.bao, meaning: BAO_NAME },
    Variable { name: VAULT_SKIP_VERIFY.vault, meaning: "refused where it is true" },
    Variable { name: VAULT_SKIP_VERIFY.bao, meaning: BAO_NAME },
    Variable { name: "PATH", meaning: "where `age-plugin-NAME` programs and `ssh` are looked for" },
    Variable { name: "TMPDIR", meaning: "where the folder of a fetched repository is made; default `/tmp`" },
    Variable { name: ARGOCD_PLUGINSOCKFILEPATH, meaning: "where Argo CD looks for the sockets of plugins" },
    Variable { name: "NO_COLOR", meaning: "set to anything: no colours (`--color` wins)" },
    Variable { name: "CLICOLOR", meaning: "`0`: no colours (`--color` wins)" },
    Variable { name: "CLICOLOR_FORCE", meaning: "set, and not `0`: colours even where output is no terminal" },
];

const BAO_NAME: &str = "the same by OpenBao's name, which counts where it is set";

/// An environment variable's value as it is set, also to nothing.
pub(crate) fn as_set(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// An environment variable's value; an empty one counts as not set, as `sops` has it.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Largest operator's file read, in bytes; thousands of rules stay far below.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Reads the operator's file.
pub(crate) fn load(path: &Path) -> Result<RegentConfig, Failure> {
    let bytes = read_bounded(path, MAX_CONFIG_BYTES)?;
    let mut config = RegentConfig::parse(&path.display().to_string(), &bytes).map_err(regent_core::Refusal::from)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let followed = config.watch.iter_mut().flat_map(rules::Followed::files_mut);
    for file in followed.chain(config.argocd.files_mut()) {
        *file = folder.join(&*file);
    }
    Ok(config)
}

/// Where the authority is kept: `--store` or the cluster's options, else what the operator's file says. `None` where
/// nothing is given. A relative path in the file counts from the file's own folder, so that it means the same wherever
/// regent is started.
pub(crate) fn store(args: &StoreArgs, config: Option<&RegentConfig>) -> Option<Store> {
    if let Some(store) = &args.store {
        return Some(Store::Folder(store.clone()));
    }
    let typed = typed(&args.cluster);
    let (Some(file), Some(config)) = (&args.config, config) else {
        return (typed != Access::default()).then_some(Store::Cluster(typed));
    };
    Some(match store_in(file, &config.store) {
        // Whoever names a cluster, or an identity in it, means a cluster.
        Store::Folder(folder) if typed == Access::default() => Store::Folder(folder),
        Store::Folder(_) => Store::Cluster(typed),
        Store::Cluster(written) => Store::Cluster(over(typed, written)),
    })
}

/// The cluster for who asks nothing but a cluster: the options', else the one in the operator's file.
pub(crate) fn access(args: &ClusterArgs, file: Option<(&Path, &RegentConfig)>) -> Access {
    match file.map(|(file, config)| store_in(file, &config.store)) {
        Some(Store::Cluster(written)) => over(typed(args), written),
        Some(Store::Folder(_)) | None => typed(args),
    }
}

fn typed(args: &ClusterArgs) -> Access {
    let ClusterArgs { kubeconfig, context, user, groups } = args.clone();
    Access { kubeconfig, context, user, groups }
}

/// What is typed goes before what is written. A context belongs to its kubeconfig: that of another one is none.
fn over(typed: Access, written: Access) -> Access {
    Access {
        context: if typed.kubeconfig.is_some() { typed.context } else { typed.context.or(written.context) },
        kubeconfig: typed.kubeconfig.or(written.kubeconfig),
        ..typed
    }
}

/// The store that the operator's file `file` names.
pub(crate) fn store_in(file: &Path, store: &rules::Store) -> Store {
    match store {
        rules::Store::Directory { path } => Store::Folder(beside(file, path)),
        rules::Store::Kubernetes { kubeconfig, context } => Store::Cluster(Access {
            kubeconfig: kubeconfig.as_deref().map(|kubeconfig| beside(file, kubeconfig)),
            context: context.clone(),
            ..Access::default()
        }),
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

/// A password or a token: the one line of a file, of visible characters; white space around it is not part of it.
pub(crate) fn one_line_of(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let bytes = Zeroizing::new(read_bounded(file, 64 << 10)?);
    let text = std::str::from_utf8(&bytes).map_err(|_| no_line(file))?.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(no_line(file));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// Says that a file holds no password or token.
pub(crate) fn no_line(file: &Path) -> Failure {
    let reason = "it is no token or password: one line of printable characters".to_owned();
    Failure::World { what: "use", name: file.display().to_string(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str =
        r#""rules":[{"authority":"prod","bootstrap":"regent.yaml","namespaces":["*"],"identities":["/k"]}]"#;

    fn file(store: &str) -> RegentConfig {
        let text = format!(r#"{{"apiVersion":"regent.dev/v1alpha1","kind":"RegentConfig","store":{store},{RULES}}}"#);
        RegentConfig::parse("config.yaml", text.as_bytes()).unwrap()
    }

    fn cluster(kubeconfig: &str, context: &str, user: &str) -> Access {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Access {
            kubeconfig: given(kubeconfig).map(PathBuf::from),
            context: given(context),
            user: given(user),
            groups: Vec::new(),
        }
    }

    fn typed(kubeconfig: &str, context: &str, user: &str) -> ClusterArgs {
        let Access { kubeconfig, context, user, groups } = cluster(kubeconfig, context, user);
        ClusterArgs { kubeconfig, context, user, groups }
    }

    const FOLDER: &str = r#"{"kind":"directory","path":"store"}"#;
    const WRITTEN: &str = r#"{"kind":"kubernetes","kubeconfig":"kube/hub","context":"hub"}"#;

    #[test]
    fn the_store_is_what_is_typed_before_what_is_written() {
        let of = |store: Option<&str>, cluster: ClusterArgs, written: Option<&str>| {
            let config = written.map(file);
            let path = written.map(|_| PathBuf::from("/etc/regent/config.yaml"));
            super::store(&StoreArgs { config: path, store: store.map(PathBuf::from), cluster }, config.as_ref())
        };
        let none = || typed("", "", "");
        assert_eq!(of(None, none(), None), None);
        assert_eq!(of(Some("/s"), none(), Some(WRITTEN)), Some(Store::Folder("/s".into())));
        assert_eq!(of(None, typed("", "eu", ""), None), Some(Store::Cluster(cluster("", "eu", ""))));
        // A relative path counts from the file's own folder.
        assert_eq!(of(None, none(), Some(FOLDER)), Some(Store::Folder("/etc/regent/store".into())));
        let hub = "/etc/regent/kube/hub";
        assert_eq!(of(None, none(), Some(WRITTEN)), Some(Store::Cluster(cluster(hub, "hub", ""))));
        // Whoever names a cluster, or somebody in it, means no folder.
        assert_eq!(of(None, typed("", "", "jane"), Some(FOLDER)), Some(Store::Cluster(cluster("", "", "jane"))));
        assert_eq!(of(None, typed("", "eu", ""), Some(WRITTEN)), Some(Store::Cluster(cluster(hub, "eu", ""))));
        assert_eq!(of(None, typed("", "", "jane"), Some(WRITTEN)), Some(Store::Cluster(cluster(hub, "hub", "jane"))));
        // The context of one kubeconfig is not looked for in another.
        assert_eq!(of(None, typed("/k", "", ""), Some(WRITTEN)), Some(Store::Cluster(cluster("/k", "", ""))));
    }

    #[test]
    fn who_asks_nothing_but_a_cluster_takes_that_of_the_file() {
        let path = Path::new("/etc/regent/config.yaml");
        let of = |args: &ClusterArgs, written: &str| access(args, Some((path, &file(written))));
        assert_eq!(of(&typed("", "", "jane"), WRITTEN), cluster("/etc/regent/kube/hub", "hub", "jane"));
        assert_eq!(of(&typed("", "eu", ""), FOLDER), cluster("", "eu", ""));
        assert_eq!(access(&typed("", "", ""), None), Access::default());
    }
}
