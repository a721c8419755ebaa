//! Kubeconfigs as `kubectl` reads them, and why one does not do.

use std::error::Error;
use std::path::{Path, PathBuf};

use kube::client::AuthError;
use kube::config::{AuthInfo, Kubeconfig, KubeconfigError, LoadDataError};

use super::{Access, ClusterError};
use crate::config;
use crate::failure::{Failure, innermost, one_line, reason};

/// The kubeconfig, and how errors name it: `--kubeconfig`, else the files of `KUBECONFIG`, else `~/.kube/config`. Of several
/// files the first that says something counts. One that is missing says nothing, unless it is the option's.
///
/// # Errors
/// A file that is no kubeconfig.
pub(super) fn kubeconfig(access: &Access) -> Result<(String, Kubeconfig), Failure> {
    if let Some(file) = &access.kubeconfig {
        return Ok((file.display().to_string(), read(file)?));
    }
    let files: Vec<PathBuf> = match (config::variable(config::KUBECONFIG), config::variable(config::HOME)) {
        (Some(files), _) => std::env::split_paths(&files).filter(|file| !file.as_os_str().is_empty()).collect(),
        (None, Some(home)) => vec![PathBuf::from(home).join(".kube/config")],
        (None, None) => Vec::new(),
    };
    let mut merged = Kubeconfig::default();
    for file in files.iter().filter(|file| file.exists()) {
        merged = merged.merge(read(file)?).map_err(|error| unusable(file, &error))?;
    }
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    Ok((if names.is_empty() { "of a kubeconfig".to_owned() } else { names.join(":") }, merged))
}

fn read(file: &Path) -> Result<Kubeconfig, Failure> {
    let kubeconfig = Kubeconfig::read_from(file).map_err(|error| unusable(file, &error))?;
    // `kubectl config unset current-context` leaves an empty name, which is none.
    let current_context = kubeconfig.current_context.filter(|context| !context.is_empty());
    Ok(Kubeconfig { current_context, ..kubeconfig })
}

/// A token file that a person wrote ends with a line break, which kubectl takes away and the client does not. Such a file is
/// read once; kubelet's, which is followed, has none.
pub(super) fn trimmed(credentials: &mut AuthInfo) {
    let Some(file) = credentials.token_file.as_ref().filter(|_| credentials.token.is_none()) else { return };
    if let Ok(text) = std::fs::read_to_string(file)
        && text.trim() != text
    {
        credentials.token = Some(text.trim().to_owned().into());
    }
}

/// Whether there is a token that cannot be sent; the client would panic about it. That of a credential plugin is not seen here.
pub(super) fn is_no_token(credentials: &AuthInfo) -> bool {
    let sendable = |token: &str| token.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let written = serde_json::to_value(credentials).unwrap_or_default();
    written["token"].as_str().is_some_and(|token| !sendable(token))
}

fn unusable(file: &Path, error: &KubeconfigError) -> Failure {
    Failure::Cluster { cluster: file.display().to_string(), problem: ClusterError::Unreachable(told(error)) }
}

/// Why there is no connection, in a line. Kubeconfigs hold tokens, credential plugins print them, and errors about both
/// quote what they met: of those only the kind and the place are told.
pub(super) fn told(error: &(dyn Error + 'static)) -> String {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<KubeconfigError>() {
            return told_of_kubeconfig(error);
        }
        if let Some(error) = error.downcast_ref::<AuthError>() {
            return told_of_credentials(error);
        }
        next = error.source();
    }
    innermost(error)
}

fn told_of_kubeconfig(error: &KubeconfigError) -> String {
    use KubeconfigError::{LoadCertificateAuthority, LoadClientCertificate, LoadClientKey};
    if let KubeconfigError::CurrentContextNotSet = error {
        "it has no current context: name one with `--context`".to_owned()
    } else if let KubeconfigError::LoadContext(context) = error {
        format!("it has no context `{}`", one_line(context))
    } else if let KubeconfigError::LoadClusterOfContext(cluster) = error {
        format!("it has no cluster `{}`, which its context names", one_line(cluster))
    } else if let KubeconfigError::Parse(error) = error {
        let place = error.location().map(|place| format!(" (line {}, column {})", place.line(), place.column()));
        format!("it is no kubeconfig{}", place.unwrap_or_default())
    } else if let KubeconfigError::ReadConfig(error, _) = error {
        reason(error)
    } else if let LoadCertificateAuthority(LoadDataError::ReadFile(error, file))
    | LoadClientCertificate(LoadDataError::ReadFile(error, file))
    | LoadClientKey(LoadDataError::ReadFile(error, file)) = error
    {
        format!("it names {}: {}", file.display(), reason(error))
    } else {
        innermost(error)
    }
}

fn told_of_credentials(error: &AuthError) -> String {
    if let AuthError::AuthExecRun { out, .. } = error {
        format!("its credential plugin failed ({})", out.status)
    } else if let AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed = error {
        "its credential plugin printed no ExecCredential with a status".to_owned()
    } else if let AuthError::AuthExecStart(error) = error {
        format!("its credential plugin cannot be started: {}", reason(error))
    } else if let AuthError::ReadTokenFile(error, file) = error {
        format!("its token file {}: {}", file.display(), reason(error))
    } else {
        innermost(error)
    }
}
