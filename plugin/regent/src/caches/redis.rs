//! The cache in Argo CD's Redis: every entry that holds a value of a Secret which Vault rules is unlinked.
//!
//! Whoever's Application it is: entries of deleted ones stay for their 24 hours, and count again for one that is made anew.
//! What cannot be read is unlinked too. That it holds no value is what nobody could say, and Argo CD makes it again: it is a
//! cache.

mod resp;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use regent_core::rules::{self, HostPort};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use self::resp::{Answer, NoAnswer, Wire};
use super::entry::{self, Content, Key, MANIFESTS};
use super::{Cached, CachesError, Stale};
use crate::config;
use crate::failure::{Failure, innermost, one_line};
use crate::tls::{self, Roots};

/// Where the cache is, and how it is reached. No Debug: it holds a password.
pub(crate) struct Redis {
    address: HostPort,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    login: Option<Login>,
    database: u32,
    prefix: String,
}

struct Login {
    username: Option<String>,
    password: Zeroizing<String>,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unlinked {
    /// Entries that were there, in the round that found nothing to unlink.
    pub(crate) looked_at: usize,
    /// Entries that are gone.
    pub(crate) unlinked: usize,
}

impl Redis {
    /// Reads the files that are named. Nothing is sent yet.
    ///
    /// # Errors
    /// Certificates or a password that cannot be read.
    pub(crate) fn new(written: &rules::Redis) -> Result<Self, Failure> {
        let rules::Redis { address, tls, ca_file, username, password_file, database, prefix } = written;
        let tls = if *tls {
            let config = tls::client(&Roots::file_or_system(ca_file.as_deref()), None)?;
            let name = ServerName::try_from(address.host().to_owned()).map_err(|_| Failure::World {
                what: "use",
                name: address.to_string(),
                reason: "no certificate can be for such a host".to_owned(),
            })?;
            Some((TlsConnector::from(std::sync::Arc::new(config)), name))
        } else {
            None
        };
        let login = match password_file {
            Some(file) => Some(Login { username: username.clone(), password: config::one_line_of(file)? }),
            None => None,
        };
        Ok(Self { address: address.clone(), tls, login, database: *database, prefix: prefix.clone() })
    }

    /// Connects, logs in, and makes sure that the whole cache is there and can be changed.
    async fn connect(&self) -> Result<Connection<'_>, CachesError> {
        let connecting = async {
            let place = (self.address.host(), self.address.port());
            let unreachable = |error: &std::io::Error| CachesError::Unreachable(innermost(error));
            let tcp = TcpStream::connect(place).await.map_err(|error| unreachable(&error))?;
            tcp.set_nodelay(true).map_err(|error| unreachable(&error))?;
            match &self.tls {
                Some((connector, name)) => {
                    let stream = connector.connect(name.clone(), tcp).await.map_err(|error| unreachable(&error))?;
                    Ok(Wire::new(stream))
                }
                None => Ok(Wire::new(tcp)),
            }
        };
        let wire = within(CONNECT, connecting).await??;
        let mut connection = Connection { wire, prefix: &self.prefix };
        if let Some(Login { username, password }) = &self.login {
            let username = username.as_deref().map(str::as_bytes);
            let words = [Some(b"AUTH".as_slice()), username, Some(password.as_bytes())];
            let answer = connection.ask(&words.into_iter().flatten().collect::<Vec<_>>()).await;
            // Redis quotes the arguments of a command that it does not know: the password. So nothing of its words is told.
            if let Err(CachesError::Refused(_) | CachesError::NotPermitted(_)) = answer {
                return Err(CachesError::PasswordRefused);
            }
            answer?;
        }
        if self.database != 0 {
            connection.ask(&[b"SELECT", self.database.to_string().as_bytes()]).await?;
        }
        connection.whole().await?;
        Ok(connection)
    }
}

/// Connects, and asks whatever [`in_redis`] asks, except that nothing is unlinked.
///
/// # Errors
/// Whatever keeps from looking at an entry: see [`CachesError`].
pub(crate) async fn reachable(redis: &Redis) -> Result<(), CachesError> {
    let mut connection = redis.connect().await?;
    let page = Scan::of(&redis.prefix, MANIFESTS).next(&mut connection).await?.unwrap_or_default();
    // Where there is none yet, one that is none is as good: whether it may be read is decided by its name.
    let key = page.into_iter().next().unwrap_or_else(|| format!("{}{MANIFESTS}", redis.prefix).into_bytes());
    match connection.ask(&[b"GETRANGE", &key, b"0", b"0"]).await? {
        Answer::Bytes(_) => Ok(()),
        Answer::Text(_) | Answer::Error(_) | Answer::Number(_) | Answer::List(_) | Answer::Nothing => Err(STRANGE),
    }
}

/// Unlinks every entry with a value of a Secret that Vault rules, until there is none.
///
/// # Errors
/// Whatever keeps from knowing that there is none: see [`CachesError`].
pub(crate) async fn in_redis(redis: &Redis, stale: &Stale<'_>) -> Result<Unlinked, CachesError> {
    let mut connection = redis.connect().await?;
    let affected: BTreeMap<String, &Cached> =
        stale.applications.iter().map(|cached| (cached.instance(stale.control_plane), cached)).collect();
    let unseen = affected.keys().map(String::as_str).collect();
    let mut pass = Pass { stale, affected: &affected, looked_at: 0, found: 0, unseen };
    let mut unlinked = 0;
    for round in 0..MAX_ROUNDS {
        (pass.looked_at, pass.found) = (0, 0);
        unlinked += connection.pass(&mut pass).await?;
        if round == 0 && !pass.unseen.is_empty() {
            connection.look_for(&mut pass.unseen).await?;
        }
        if pass.found == 0 {
            return Ok(Unlinked { looked_at: pass.looked_at, unlinked });
        }
    }
    Err(CachesError::ComeBack(pass.found))
}

/// One look at every entry.
struct Pass<'p, 's> {
    stale: &'p Stale<'s>,
    affected: &'p BTreeMap<String, &'s Cached>,
    looked_at: usize,
    found: usize,
    /// Affected Applications of which nothing was there yet.
    unseen: BTreeSet<&'p str>,
}

impl Pass<'_, '_> {
    /// Whether an entry has to go.
    fn condemns(&mut self, key: Option<&str>, value: &[u8]) -> bool {
        // Larger than what was asked for: the rest is not here.
        let (Some(key), false) = (key.and_then(Key::parse), value.len() > entry::MAX_STORED_BYTES) else { return true };
        let cached = self.affected.get(key.application);
        let own = cached.and_then(|cached| cached.destination_namespace.as_deref());
        let destination = Some(key.namespace).filter(|namespace| !namespace.is_empty()).or(own);
        match entry::look(key, value, destination, self.stale.identities) {
            Content::Harmless => false,
            Content::Value | Content::Unreadable => true,
            Content::Error => cached.is_some(),
        }
    }
}

/// A connection that is logged in.
struct Connection<'r> {
    wire: Wire,
    prefix: &'r str,
}

impl Connection<'_> {
    /// One command and its answer, which is never an error.
    async fn ask(&mut self, command: &[&[u8]]) -> Result<Answer, CachesError> {
        match within(ONE_ANSWER, self.wire.ask(command, MAX_ANSWER_BYTES)).await? {
            Ok(Answer::Error(words)) => Err(refusal(&words)),
            Ok(answer) => Ok(answer),
            Err(NoAnswer::Io(error)) => Err(CachesError::Unreachable(innermost(&error))),
            Err(NoAnswer::Malformed) => Err(STRANGE),
            Err(NoAnswer::Oversized) => Err(CachesError::Oversized(MAX_ANSWER_BYTES)),
        }
    }

    /// SCAN of a node of a cluster shows that node's keys alone, and what a replica loses comes back. The default answer
    /// form is asked for with it: HELLO without a version is newer than HELLO.
    async fn whole(&mut self) -> Result<(), CachesError> {
        let Answer::List(facts) = self.ask(&[b"HELLO", b"2"]).await? else { return Err(STRANGE) };
        let fact = |wanted: &str| {
            let mut pairs = facts.chunks_exact(2);
            pairs.find_map(|pair| match pair {
                [name, value] if text(name) == Some(wanted) => text(value),
                [..] => None,
            })
        };
        match (fact("mode"), fact("role")) {
            (Some("standalone"), Some("master")) => Ok(()),
            (Some("standalone"), Some(_replica)) => Err(CachesError::Replica),
            (Some(other), _) => Err(CachesError::NotWhole(shown(other))),
            (None, _) => Err(STRANGE),
        }
    }

    /// Looks at every entry once, and unlinks what has to go; tells how many are gone. SCAN shows each key that was there
    /// from its begin to its end; the next round sees the others.
    async fn pass(&mut self, pass: &mut Pass<'_, '_>) -> Result<usize, CachesError> {
        let prefix = self.prefix;
        let mut unlinked = 0;
        let mut scan = Scan::of(prefix, MANIFESTS);
        while let Some(keys) = scan.next(self).await? {
            for key in keys {
                let last = entry::MAX_STORED_BYTES.to_string();
                let Answer::Bytes(value) = self.ask(&[b"GETRANGE", &key, b"0", last.as_bytes()]).await? else {
                    return Err(STRANGE);
                };
                // It is over since, or seen a second time.
                if value.is_empty() {
                    continue;
                }
                let name = std::str::from_utf8(&key).ok().and_then(|key| key.strip_prefix(prefix));
                if let Some(Key { application, .. }) = name.and_then(Key::parse) {
                    pass.unseen.remove(application);
                }
                pass.looked_at += 1;
                if pass.condemns(name, &value) {
                    pass.found += 1;
                    let Answer::Number(gone) = self.ask(&[b"UNLINK", &key]).await? else { return Err(STRANGE) };
                    unlinked += usize::from(gone > 0);
                }
            }
        }
        Ok(unlinked)
    }

    /// An Application without a rendered manifest is one whose entries are over. Its controller keeps other keys of it; where
    /// those are missing too, this is not Argo CD's cache, and to find nothing here means nothing.
    async fn look_for(&mut self, unseen: &mut BTreeSet<&str>) -> Result<(), CachesError> {
        let prefix = self.prefix;
        let mut scan = Scan::of(prefix, STATE);
        while let Some(keys) = scan.next(self).await? {
            for key in &keys {
                let name = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(prefix));
                if let Some(application) = name.and_then(|name| name.split('|').nth(2)) {
                    unseen.remove(application);
                }
            }
        }
        match unseen.first() {
            Some(application) => Err(CachesError::NotArgoCds(shown(application))),
            None => Ok(()),
        }
    }
}

/// Keys that begin alike, a page at a time.
struct Scan {
    pattern: String,
    cursor: Option<Vec<u8>>,
    seen: usize,
    pages: usize,
}

impl Scan {
    fn of(prefix: &str, kind: &str) -> Self {
        let mut pattern = String::new();
        for letter in prefix.chars() {
            if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^') {
                pattern.push('\\');
            }
            pattern.push(letter);
        }
        Self { pattern: pattern + kind + "*", cursor: Some(b"0".to_vec()), seen: 0, pages: 0 }
    }

    /// The next page, which may be empty; `None` after the last one.
    async fn next(&mut self, connection: &mut Connection<'_>) -> Result<Option<Vec<Vec<u8>>>, CachesError> {
        let Some(cursor) = self.cursor.take() else { return Ok(None) };
        let page = PAGE.to_string();
        let scan: [&[u8]; 6] = [b"SCAN", &cursor, b"MATCH", self.pattern.as_bytes(), b"COUNT", page.as_bytes()];
        let Answer::List(parts) = connection.ask(&scan).await? else { return Err(STRANGE) };
        let Ok([Answer::Bytes(cursor), Answer::List(page)]) = <[Answer; 2]>::try_from(parts) else {
            return Err(STRANGE);
        };
        let keys =
            page.into_iter().map(|key| if let Answer::Bytes(key) = key { Ok(key.to_vec()) } else { Err(STRANGE) });
        let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
        self.seen += keys.len();
        self.pages += 1;
        if self.seen > MAX_KEYS || self.pages > MAX_PAGES {
            return Err(CachesError::Endless(if self.seen > MAX_KEYS { MAX_KEYS } else { MAX_PAGES * PAGE }));
        }
        self.cursor = (cursor.as_slice() != b"0").then(|| cursor.to_vec());
        Ok(Some(keys))
    }
}

/// What the keys of the controller begin with.
const STATE: &str = "app|";

const STRANGE: CachesError = CachesError::Strange("Redis");

/// How long it may take until a connection is there, and then one answer.
const CONNECT: Duration = Duration::from_secs(5);
const ONE_ANSWER: Duration = Duration::from_secs(10);

/// Largest answer: an entry, or a page of keys.
const MAX_ANSWER_BYTES: usize = entry::MAX_STORED_BYTES + (1 << 20);

/// How many keys Redis looks at for one page.
const PAGE: usize = 1000;
/// Most entries: a hundred revisions of ten thousand Applications.
const MAX_KEYS: usize = 1_000_000;
/// Most pages: Redis has other keys too.
const MAX_PAGES: usize = 100_000;
/// The second round finds nothing unless somebody writes meanwhile.
const MAX_ROUNDS: usize = 5;

async fn within<T>(time: Duration, what: impl Future<Output = T>) -> Result<T, CachesError> {
    tokio::time::timeout(time, what).await.map_err(|_| CachesError::Late(time))
}

/// What an error of Redis means.
fn refusal(words: &str) -> CachesError {
    let (code, rest) = words.split_once(' ').unwrap_or((words, ""));
    match code {
        "NOAUTH" => CachesError::PasswordMissing,
        "WRONGPASS" => CachesError::PasswordRefused,
        "NOPERM" => CachesError::NotPermitted(shown(rest)),
        "READONLY" | "MASTERDOWN" => CachesError::Replica,
        "MOVED" | "ASK" | "CLUSTERDOWN" | "CROSSSLOT" | "TRYAGAIN" => {
            CachesError::NotWhole(format!("cluster ({code})"))
        }
        // A password where none is set has no code of its own.
        "ERR" if rest.starts_with("AUTH") => CachesError::PasswordRefused,
        _other => CachesError::Refused(shown(words)),
    }
}

fn shown(text: &str) -> String {
    one_line(text.trim()).chars().take(200).collect()
}

fn text(answer: &Answer) -> Option<&str> {
    match answer {
        Answer::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
        Answer::Text(text) => Some(text),
        Answer::Error(_) | Answer::Number(_) | Answer::List(_) | Answer::Nothing => None,
    }
}

#[cfg(test)]
mod tests;
