//! Repositories elsewhere: which addresses are taken, and with which files they are reached.
//!
//! An address never holds a credential: it stands in argument lists, logs and errors. Credentials are files.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use crate::bootstrap::{host_of, is_this_machine};
use crate::written;

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// A folder of this machine: bare, or a working copy.
    Folder(PathBuf),
    /// A server.
    Remote(Address),
}

/// A remote repository: `https://host/path`, `ssh://user@host/path` or `user@host:path`; `http://` for this very
/// machine alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// Over HTTP, with TLS unless it is this machine.
    Http {
        /// Whether TLS is spoken.
        tls: bool,
        /// `host` or `host:port`.
        server: String,
        /// From the first slash on, without one at its end.
        path: String,
    },
    /// Over SSH.
    Ssh {
        /// Whom to log in as; ssh's own default where there is none.
        user: Option<String>,
        /// The host: a name, an IPv4 address, or an IPv6 address without brackets.
        host: String,
        /// The port, where it is not ssh's own.
        port: Option<u16>,
        /// The path as the server's shell gets it: absolute, `~user/..`, or from the home folder on.
        path: String,
    },
}

/// The files that a remote repository is reached with.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default, expecting = "a mapping")]
pub struct Access {
    /// HTTP: a file with a token, or with the password of `username`.
    #[serde(deserialize_with = "file")]
    pub token_file: Option<PathBuf>,
    /// HTTP: with it the token is sent as a password (basic), without it as it is (bearer).
    #[serde(deserialize_with = "user_name")]
    pub username: Option<String>,
    /// HTTP: CA certificates (PEM), instead of the system's.
    #[serde(deserialize_with = "file")]
    pub ca_file: Option<PathBuf>,
    /// SSH: the private key.
    #[serde(deserialize_with = "file")]
    pub key_file: Option<PathBuf>,
    /// SSH: the server's public keys. No other is trusted, and none at first sight.
    #[serde(deserialize_with = "file")]
    pub known_hosts_file: Option<PathBuf>,
}

impl Location {
    /// Reads a path or an address. The error is a rule, and shows nothing of the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some((scheme, rest)) = text.split_once("://") {
            return address(scheme, rest).map(Self::Remote);
        }
        // As Git has it, a colon before the first slash is a host's; but without a user it may as well be a folder's.
        let first = text.split('/').next().unwrap_or_default();
        match first.rfind(':').filter(|_| first.contains('@')).and_then(|at| text.split_at_checked(at)) {
            Some((place, path)) => ssh(place, path.strip_prefix(':').unwrap_or(path)).map(Self::Remote),
            None if text.is_empty() => Err("expects a folder or an address"),
            None => Ok(Self::Folder(PathBuf::from(text))),
        }
    }
}

impl<'de> Deserialize<'de> for Location {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "a folder or an address", |text| {
            written::line(text, MAX_ADDRESS_BYTES).and_then(|line| Self::parse(&line))
        })
    }
}

/// As it can be shown and typed.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Remote(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { tls, server, path } => write!(f, "http{}://{server}{path}", if *tls { "s" } else { "" }),
            Self::Ssh { user, host, port, path } => {
                let user = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                match path.strip_prefix('/') {
                    Some(path) => write!(f, "ssh://{user}{host}{port}/{path}"),
                    None if path.starts_with('~') => write!(f, "ssh://{user}{host}{port}/{path}"),
                    // Only the form without a scheme has paths from the home folder on, and it has no port.
                    None => write!(f, "{user}{host}:{path}"),
                }
            }
        }
    }
}

impl Access {
    /// The files, for whoever knows which folder their paths count from.
    pub fn files_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let Self { token_file, username: _, ca_file, key_file, known_hosts_file } = self;
        [token_file, ca_file, key_file, known_hosts_file].into_iter().flatten()
    }

    /// Whether these are files for that place. What would not be used is refused: somebody counts on it.
    pub fn fits(&self, location: &Location) -> Result<(), &'static str> {
        let for_http = self.token_file.is_some() || self.username.is_some() || self.ca_file.is_some();
        let for_ssh = self.key_file.is_some() || self.known_hosts_file.is_some();
        let broken = match location {
            Location::Folder(_) => {
                (for_http || for_ssh).then_some("a folder of this machine is read without credentials")
            }
            Location::Remote(Address::Http { tls, .. }) => {
                if for_ssh {
                    Some("key and known hosts are for `ssh://`")
                } else if !tls && self.ca_file.is_some() {
                    Some("CA certificates are for `https://`")
                } else if self.username.is_some() && self.token_file.is_none() {
                    Some("a user name expects a file with the password or token too")
                } else {
                    None
                }
            }
            Location::Remote(Address::Ssh { .. }) => {
                if for_http {
                    Some(
                        "token, user name and CA certificates are for `https://`; `ssh://` has its user in the address",
                    )
                } else if self.key_file.is_none() {
                    Some("`ssh://` expects a private key file")
                } else if self.known_hosts_file.is_none() {
                    Some("`ssh://` expects a known hosts file: no server is trusted at first sight")
                } else {
                    None
                }
            }
        };
        broken.map_or(Ok(()), Err)
    }
}

/// Longest address; Git's servers take no longer ones.
const MAX_ADDRESS_BYTES: usize = 2048;

fn address(scheme: &str, rest: &str) -> Result<Address, &'static str> {
    let (place, path) = rest.find('/').and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, ""));
    match scheme {
        "https" | "http" => {
            if place.contains('@') {
                return Err("holds a user or a password; a file does, and the address goes without");
            }
            let tls = scheme == "https";
            let Some(host) = host_of(place) else {
                return Err("expects `https://host/path` or `https://host:port/path`");
            };
            if !tls && !is_this_machine(host) {
                return Err("expects `https://`; `http://` reaches this machine alone");
            }
            let path = path.trim_end_matches('/');
            if !is_path(path, |byte| !b"?#\\\"<>^`{|}".contains(&byte)) {
                return Err("expects a path after the host: no blanks, no query, no fragment, no `..`");
            }
            Ok(Address::Http { tls, server: place.to_ascii_lowercase(), path: path.to_owned() })
        }
        // Git's `~user` stands behind the slash that ends the host.
        "ssh" => match path.strip_prefix("/~") {
            Some(_) => ssh(place, path.strip_prefix('/').unwrap_or(path)),
            None => ssh(place, path),
        },
        _ => Err("expects a folder, `https://host/path`, `ssh://user@host/path` or `user@host:path`"),
    }
}

/// A login and a path. Nothing in it can be taken for an option of ssh or of the program that it starts.
fn ssh(place: &str, path: &str) -> Result<Address, &'static str> {
    let (user, server) = match place.rsplit_once('@') {
        Some((user, _)) if user.contains(':') => return Err("holds a password; a key file is expected"),
        Some((user, server)) => (Some(user), server),
        None => (None, place),
    };
    let fits = |user: &str| {
        !user.is_empty()
            && !user.starts_with('-')
            && user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    if user.is_some_and(|user| !fits(user)) {
        return Err("expects a user of letters, digits, `.`, `_` and `-`");
    }
    let Some(host) = host_of(server).filter(|host| !host.is_empty()) else {
        return Err("expects `ssh://user@host/path`, `ssh://user@host:port/path` or `user@host:path`");
    };
    let port =
        if server.ends_with(']') { None } else { server.rsplit_once(':').and_then(|(_, port)| port.parse().ok()) };
    let path = path.trim_end_matches('/');
    if path.starts_with('-') || !is_path(path, |byte| byte != b'\\') {
        return Err("expects a path after the host: no blanks, no `..`, no `-` in front");
    }
    let (user, host) = (user.map(str::to_owned), host.to_ascii_lowercase());
    Ok(Address::Ssh { user, host, port, path: path.to_owned() })
}

/// Visible ASCII that `takes` too, and no part that climbs.
fn is_path(path: &str, takes: impl Fn(u8) -> bool) -> bool {
    !path.is_empty()
        && path.bytes().all(|byte| byte.is_ascii_graphic() && takes(byte))
        && !path.split('/').any(|part| part == "..")
}

fn file<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    let path = |text: &str| written::line(text, MAX_ADDRESS_BYTES).map(PathBuf::from);
    written::text(from, "a file", path).map(Some)
}

/// A user name of basic authentication (RFC 7617): it holds no colon.
fn user_name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    written::text(from, "a user name", |text| match written::line(text, 256)? {
        name if name.contains(':') => Err("expects a user name without `:`"),
        name => Ok(name),
    })
    .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, &'static str> {
        Location::parse(text).map(|location| match location {
            Location::Folder(folder) => format!("folder {}", folder.display()),
            Location::Remote(address) => address.to_string(),
        })
    }

    #[test]
    fn addresses_are_read_as_git_reads_them() {
        for (text, shown) in [
            ("https://git.example/infra.git", "https://git.example/infra.git"),
            ("https://Git.Example:8443/team/infra/", "https://git.example:8443/team/infra"),
            (
                "https://dev.azure.example/org/My%20Project/_git/infra",
                "https://dev.azure.example/org/My%20Project/_git/infra",
            ),
            ("http://127.0.0.1:3000/infra.git", "http://127.0.0.1:3000/infra.git"),
            ("http://[::1]:3000/infra.git", "http://[::1]:3000/infra.git"),
            ("ssh://git@git.example/infra.git", "ssh://git@git.example/infra.git"),
            ("ssh://git.example:2222/~jane/infra.git", "ssh://git.example:2222/~jane/infra.git"),
            ("ssh://git@[::1]:2222/infra.git", "ssh://git@[::1]:2222/infra.git"),
            ("git@git.example:team/infra.git", "git@git.example:team/infra.git"),
            ("git@git.example:/srv/infra.git", "ssh://git@git.example/srv/infra.git"),
            (".", "folder ."),
            ("/srv/infra.git", "folder /srv/infra.git"),
            ("./git@host:x", "folder ./git@host:x"),
        ] {
            assert_eq!(parsed(text), Ok(shown.to_owned()), "{text}");
            assert_eq!(parsed(shown.strip_prefix("folder ").unwrap_or(shown)), Ok(shown.to_owned()), "{shown}");
        }
    }

    #[test]
    fn an_address_holds_no_credential_and_no_refusal_shows_one() {
        for text in [
            "https://CANARY@git.example/infra.git",
            "https://jane:CANARY@git.example/infra.git",
            "https://jane:CAN/ARY@git.example/infra.git",
            "https://git.example/infra.git?token=CANARY",
            "ssh://git:CANARY@git.example/infra.git",
            "git:CANARY@git.example:infra.git",
        ] {
            let refused = parsed(text).unwrap_err();
            assert!(!refused.contains("CANARY") && !refused.contains("ARY@"), "{refused}");
        }
    }

    #[test]
    fn what_a_shell_or_an_option_could_be_made_of_is_no_address() {
        for text in [
            "",
            "http://git.example/infra.git",
            "https://git.example",
            "https:///infra.git",
            "https://git.example:0/infra.git",
            "https://git.example/../infra.git",
            "https://git.example/infra.git#x",
            "https://git.example/in fra.git",
            "https://git.example/infra\u{0}.git",
            "ssh://-oProxyCommand=x/infra.git",
            "ssh://git@-oProxyCommand=x/infra.git",
            "ssh://-l@git.example/infra.git",
            "ssh://git.example",
            "git@git.example:",
            "git@git.example:-x",
            "git@git.example:a\nb",
            "-x@git.example:infra",
            "git://git.example/infra.git",
            "file:///srv/infra.git",
            "ext::sh -c x://y",
        ] {
            assert!(parsed(text).is_err(), "{text:?}: {:?}", parsed(text));
        }
    }

    #[test]
    fn files_that_would_not_be_used_or_are_missing_are_refused() {
        let given = |names: &[&str]| {
            let file = |name: &str| names.contains(&name).then(|| PathBuf::from("/f"));
            Access {
                token_file: file("token"),
                username: names.contains(&"user").then(|| "jane".to_owned()),
                ca_file: file("ca"),
                key_file: file("key"),
                known_hosts_file: file("known"),
            }
        };
        let fits = |text: &str, names: &[&str]| given(names).fits(&Location::parse(text).unwrap()).is_ok();
        let (folder, https, http, ssh) =
            ("/srv/infra", "https://git.example/x", "http://localhost/x", "git@git.example:x");
        assert!(fits(folder, &[]) && fits(https, &[]) && fits(http, &["token"]) && fits(ssh, &["key", "known"]));
        assert!(fits(https, &["token"]) && fits(https, &["token", "user", "ca"]));
        for (text, names) in [
            (folder, &["token"][..]),
            (folder, &["key"]),
            (https, &["user"]),
            (https, &["key"]),
            (http, &["ca"]),
            (ssh, &[]),
            (ssh, &["key"]),
            (ssh, &["known"]),
            (ssh, &["key", "known", "token"]),
            (ssh, &["key", "known", "ca"]),
        ] {
            assert!(!fits(text, names), "{text} {names:?}");
        }
    }
}
