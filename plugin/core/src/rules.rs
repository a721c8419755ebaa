//! `RegentConfig`, the operator's file: who may ask for what, with which identities. Nothing is allowed by
//! silence.
//!
//! The schema is complete; what a later door needs is parsed and checked here already, so that a file
//! with a slip in it is refused on the day it is written.

use crate::bootstrap::{self, Bootstrap, MAX_PATTERNS, Pattern};
use crate::name::{AuthorityName, FilePath, Namespace};
use crate::remote::{Access, Location};
use crate::repository::{self, Repository};
use crate::written::{self, ApiVersion, Fault};
use globset::{GlobSet, GlobSetBuilder};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

pub use flux::{Delivery, Flux, FluxApplication, FluxArtifact, FluxSource, Voucher};

mod flux;

/// The parsed operator's file.
#[derive(Clone, Debug)]
pub struct RegentConfig {
    /// Where the witnesses are. No default: a wrong place would be a place without witnesses.
    pub store: Store,
    /// The first rule that matches counts.
    pub rules: Vec<Rule>,
    /// Argo CD's door.
    pub argocd: ArgoCd,
    /// Flux' door.
    pub flux: Flux,
    /// Repositories to follow.
    pub watch: Vec<Followed>,
    /// Bounds.
    pub limits: ConfigLimits,
}

/// Where the witnesses are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenStore")]
pub enum Store {
    /// In a cluster: by default the one in which the pod runs.
    Kubernetes {
        /// A kubeconfig, for a process outside.
        kubeconfig: Option<String>,
        /// A context of it; else its current one.
        context: Option<String>,
    },
    /// On one machine.
    Directory {
        /// The folder.
        path: String,
    },
}

/// One rule: requests for this authority's root, and what they get. It is for requests of Argo CD where it has all
/// of `project`, `repo`, `paths` and `revisions`, for none where it has none of them; some are an error.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub struct Rule {
    /// The authority it speaks for.
    pub authority: AuthorityName,
    /// Exact path of `regent.yaml` in the repository.
    #[serde(deserialize_with = "bootstrap_path")]
    pub bootstrap: FilePath,
    /// Argo CD's project, exactly.
    #[serde(default, deserialize_with = "optional_line")]
    pub project: Option<String>,
    /// Its repository, compared after Argo CD's own normalisation.
    #[serde(default, deserialize_with = "optional_repository")]
    pub repo: Option<Repository>,
    /// Globs of application paths. `a/**` is `a` too; `**` is the repository's root too.
    #[serde(default, deserialize_with = "paths")]
    pub paths: Globs,
    /// Namespaces of the documents: exact names, or the one entry `*` for all.
    #[serde(deserialize_with = "namespaces")]
    pub namespaces: Vec<String>,
    /// Revisions that an Application may name. A name does not bind the commit: who may sync an Application can ask for
    /// any commit of the repository (`argocd app sync --revision`), and Argo CD still says the Application's own name.
    /// Only a full commit id binds. In entries: `main` or `refs/heads/main` for a branch (Argo CD takes a tag of that
    /// name too), `refs/tags/v1`, `HEAD` (also for an Application that names none), a glob of names, `*` for all. A
    /// full commit id is what Argo CD may have resolved, whatever the Application names.
    #[serde(default, deserialize_with = "revisions")]
    pub revisions: Globs,
    /// Key files or folders: age, SSH, `OpenPGP` secret keys. A door needs none once Vault rules.
    #[serde(default, deserialize_with = "lines")]
    pub identities: Vec<String>,
}

/// Globs as they were written, compiled once: to compile one costs more than a small request.
#[derive(Clone, Debug, Default)]
pub struct Globs {
    written: Vec<String>,
    compiled: GlobSet,
    /// Folders that were written as `a/b/**`, as most are: a look at the text tells.
    below: Vec<String>,
}

/// What Argo CD says of a request, all of it as it was sent.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The Application's project (`ARGOCD_APP_PROJECT_NAME`).
    pub project: &'a str,
    /// Its repository (`ARGOCD_APP_SOURCE_REPO_URL`).
    pub repo: &'a str,
    /// Its folder in the repository (`ARGOCD_APP_SOURCE_PATH`).
    pub path: &'a str,
    /// The branch, tag or commit that the Application names (`ARGOCD_APP_SOURCE_TARGET_REVISION`).
    pub target_revision: &'a str,
    /// The commit that Argo CD made of it (`ARGOCD_APP_REVISION`).
    pub revision: &'a str,
    /// The destination's namespace (`ARGOCD_APP_NAMESPACE`), empty where the Application names none.
    pub namespace: &'a str,
}

/// A repository to follow: each new commit of the revision is looked at ahead of the first request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub struct Followed {
    /// Where the repository is: a folder (bare, or a working copy that somebody else keeps), or a server's address.
    pub repo: Location,
    /// How a server is reached.
    #[serde(default)]
    pub access: Access,
    /// Branch, tag or commit.
    #[serde(deserialize_with = "written_line")]
    pub revision: String,
    /// The authority whose root is looked at; a rule has to say where that is.
    pub authority: AuthorityName,
    /// How often it is asked without an event, 5 s to a day; the kernel tells of a folder's commits by itself.
    #[serde(default = "interval", deserialize_with = "interval_from")]
    pub interval: Duration,
    /// By what its server tells of a commit (`POST /hook/<authority>`).
    #[serde(default)]
    pub webhook: Option<Webhook>,
}

/// How a webhook proves where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping with `secretFile`")]
pub struct Webhook {
    /// A file with the secret of its HMAC.
    #[serde(deserialize_with = "line_path")]
    pub secret_file: PathBuf,
}

/// The `argocd` section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a mapping")]
pub struct ArgoCd {
    /// The plugin's name, as an Application names it.
    #[serde(deserialize_with = "plugin_name")]
    pub name: String,
    /// Its version, empty for none.
    #[serde(deserialize_with = "plugin_word")]
    pub version: String,
    /// Globs of files by which Argo CD finds roots on its own; none by default.
    #[serde(deserialize_with = "files_to_discover")]
    pub discover: Globs,
    /// Argo CD's namespace.
    pub namespace: Namespace,
    /// Its Redis: `host:port`, or a mapping.
    #[serde(deserialize_with = "redis")]
    pub redis: Option<Redis>,
    /// Its API server: `host:port`, or a mapping.
    #[serde(deserialize_with = "server")]
    pub server: Option<Server>,
}

/// Argo CD's Redis, where it keeps what the plugin rendered. The keys are what Argo CD's own components have as flags and
/// variables.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenRedis")]
pub struct Redis {
    /// Where it listens.
    pub address: HostPort,
    /// Whether it is spoken to over TLS (`--redis-use-tls`).
    pub tls: bool,
    /// CA certificates (PEM), instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The user of its access list; Redis' own default where there is none.
    pub username: Option<String>,
    /// A file with the password.
    pub password_file: Option<PathBuf>,
    /// The number of the database.
    pub database: u32,
    /// What stands before every key (`ARGOCD_REDIS_KEY_PREFIX`).
    pub prefix: String,
}

/// Argo CD's API server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenServer")]
pub struct Server {
    /// Where it listens.
    pub address: HostPort,
    /// Whether it is spoken to without TLS; on this very machine alone, because a token goes along.
    pub plaintext: bool,
    /// CA certificates (PEM), instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// A file with a token of an account that may `get` the Applications.
    pub token_file: Option<PathBuf>,
    /// Its `--rootpath`, without a slash at the end; empty for none.
    pub root_path: String,
}

/// `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// Reads `host:port`, an IPv6 address in brackets. The error is a rule, and shows nothing of the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let parts = || Some((bootstrap::host_of(text)?, text.rsplit_once(':')?.1.parse().ok()?));
        let (host, port) = parts().ok_or("expects `host:port`")?;
        Ok(Self { host: host.to_owned(), port })
    }

    /// The name or the address; an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// As it is typed.
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl Followed {
    /// The files that it names, for whoever knows which folder their paths count from.
    pub fn files_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.access.files_mut().chain(self.webhook.iter_mut().map(|webhook| &mut webhook.secret_file))
    }
}

impl ArgoCd {
    /// The plugin as an Application names it: `<name>-<version>`, or the name alone.
    pub fn plugin(&self) -> String {
        match self.version.as_str() {
            "" => self.name.clone(),
            version => format!("{}-{version}", self.name),
        }
    }

    /// The files that it names, for whoever knows which folder their paths count from.
    pub fn files_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let redis = self.redis.iter_mut().flat_map(|redis| [&mut redis.ca_file, &mut redis.password_file]);
        let server = self.server.iter_mut().flat_map(|server| [&mut server.ca_file, &mut server.token_file]);
        redis.chain(server).flatten()
    }
}

/// The `limits` section. Sizes are bytes, or a number with `KiB`, `MiB` or `GiB`; times a number with
/// `ms`, `s`, `m` or `h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a mapping")]
pub struct ConfigLimits {
    /// Largest document in bytes, 1 KiB to 1 GiB.
    #[serde(deserialize_with = "document_size")]
    pub document: usize,
    /// Most bytes that are kept of one upload (manifests and ciphertext), up to 1 TiB.
    #[serde(deserialize_with = "size")]
    pub upload: u64,
    /// Largest upload of one request in bytes, decompressed, up to 1 TiB; what is not kept is only counted.
    #[serde(deserialize_with = "size")]
    pub stream: u64,
    /// Largest number of files and folders, 1 to 10 million.
    #[serde(deserialize_with = "files")]
    pub files: usize,
    /// Longest request, up to a day: no value is answered later than that after the request arrived.
    #[serde(deserialize_with = "duration")]
    pub request: Duration,
}

/// Why the operator's file or a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleRefusal {
    /// The operator's file is not what it should be.
    #[error("{file}{}: {problem}", match at { Some((line, column)) => format!(":{line}:{column}"), None => String::new() })]
    Config {
        /// The file.
        file: String,
        /// Line and column from 1, where known.
        at: Option<(usize, usize)>,
        /// The rule, with key names and no values.
        problem: String,
    },
    /// No rule allows the request.
    #[error("no rule allows {what}")]
    NotAllowed {
        /// The request, without values.
        what: String,
    },
}

impl RegentConfig {
    /// Parses the file's bytes (at most 1 MiB); `file` is what errors call it.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, RuleRefusal> {
        let config = written::yaml::<KindRegentConfig, Written>(bytes).and_then(Self::checked);
        config.map_err(|Fault { at, problem }| RuleRefusal::Config { file: file.to_owned(), at, problem })
    }

    /// The rule for a request from the command line: the first that names this authority and this path of
    /// `regent.yaml` in its repository.
    pub fn rule_for(&self, authority: &AuthorityName, bootstrap_path: &str) -> Result<&Rule, RuleRefusal> {
        let matches = |rule: &&Rule| rule.authority == *authority && rule.bootstrap.as_str() == bootstrap_path;
        self.rules.iter().find(matches).ok_or_else(|| RuleRefusal::NotAllowed {
            what: format!("authority `{authority}` at `{}`", bootstrap_path.escape_debug()),
        })
    }

    /// The rule for a request of Argo CD: the first that allows project, repository, path, revision and the
    /// destination's namespace. The refusal tells where the rule that came furthest stops; of the repository it
    /// shows nothing that may be a credential.
    pub fn rule_for_application(&self, asked: &Asked<'_>) -> Result<&Rule, RuleRefusal> {
        if asked.project.is_empty() {
            let what = "a request without a project; Argo CD sends one since 3.0".to_owned();
            return Err(RuleRefusal::NotAllowed { what });
        }
        let question = Question { asked, repo: Repository::new(asked.repo), path: lexical(asked.path) };
        // Of many rules the path tells most apart, so it is asked first; how far each came is asked only to be told.
        let could = |rule: &&Rule| question.path.as_deref().is_some_and(|path| rule.paths.match_path(path));
        if let Some(rule) = self.rules.iter().filter(could).find(|rule| rule.stops(&question).is_none()) {
            return Ok(rule);
        }
        let furthest = self.rules.iter().filter_map(|rule| rule.stops(&question)).max().unwrap_or(Stop::Project);
        Err(RuleRefusal::NotAllowed { what: furthest.told(asked) })
    }

    /// An authority covers one root: two rules for it with two places cannot both be meant. A rule that is half for
    /// Argo CD allows nothing, and nobody would see why before the first request.
    fn checked(written: Written) -> Result<Self, Fault> {
        let (mut roots, mut repos) = (BTreeMap::new(), BTreeMap::new());
        for (index, rule) in written.rules.iter().enumerate() {
            let first = roots.entry(&rule.authority).or_insert(&rule.bootstrap);
            if *first != &rule.bootstrap {
                return Err(Fault::anywhere(format!(
                    "rules give authority `{}` two roots: {first} and {}",
                    rule.authority, rule.bootstrap
                )));
            }
            if let (Some(repo), Some(first)) = (&rule.repo, *repos.entry(&rule.authority).or_insert(&rule.repo))
                && !repo.is_same(first)
            {
                return Err(Fault::anywhere(format!(
                    "rules give authority `{}` two repositories: {} and {}",
                    rule.authority,
                    repository::shown(first.as_str()),
                    repository::shown(repo.as_str())
                )));
            }
            let fields = [
                ("project", rule.project.is_some()),
                ("repo", rule.repo.is_some()),
                ("paths", !rule.paths.is_empty()),
                ("revisions", !rule.revisions.is_empty()),
            ];
            let missing: Vec<_> = fields.iter().filter(|(_, is_there)| !is_there).map(|(name, _)| *name).collect();
            if !missing.is_empty() && missing.len() < fields.len() {
                return Err(Fault::anywhere(format!(
                    "rules[{index}]: a rule for Argo CD expects `{}` too",
                    missing.join("` and `")
                )));
            }
        }
        if let Some(index) = written.watch.iter().position(|followed| !roots.contains_key(&followed.authority)) {
            return Err(Fault::anywhere(format!("watch[{index}].authority: expects the authority of a rule")));
        }
        for (index, followed) in written.watch.iter().enumerate() {
            let fits = followed.access.fits(&followed.repo);
            fits.map_err(|rule| Fault::anywhere(format!("watch[{index}].access: {rule}")))?;
            // The address of a hook is the authority's, and answers to one secret.
            let is_same = |other: &Followed| other.authority == followed.authority && other.webhook.is_some();
            if followed.webhook.is_some() && written.watch.iter().take(index).any(is_same) {
                return Err(Fault::anywhere(format!("watch[{index}].webhook: another entry of the authority has one")));
            }
        }
        let watched: Vec<_> = written.watch.iter().map(|followed| &followed.authority).collect();
        written.flux.fits(&written.rules, &watched).map_err(Fault::anywhere)?;
        Ok(Self {
            store: written.store,
            rules: written.rules,
            argocd: written.argocd,
            flux: written.flux,
            watch: written.watch,
            limits: written.limits,
        })
    }
}

impl Rule {
    /// Whether a folder of the repository is one that the rule is for; asked again of the folder that a
    /// symbolic link leads to.
    pub fn allows_path(&self, path: &str) -> bool {
        lexical(path).is_some_and(|path| self.paths.match_path(&path))
    }

    /// Whether a document of this effective namespace may be in the answer.
    pub fn allows_namespace(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|allowed| allowed == ALL || allowed == namespace)
    }

    /// The first thing that the rule does not allow.
    fn stops(&self, question: &Question<'_>) -> Option<Stop> {
        let asked = question.asked;
        if self.project.as_deref() != Some(asked.project) {
            Some(Stop::Project)
        } else if !self.repo.as_ref().is_some_and(|repo| repo.is_same(&question.repo)) {
            Some(Stop::Repository)
        } else if !question.path.as_deref().is_some_and(|path| self.paths.match_path(path)) {
            Some(Stop::Path)
        } else if !self.revisions.match_revision(asked) {
            Some(Stop::Revision)
        } else if !asked.namespace.is_empty() && !self.allows_namespace(asked.namespace) {
            Some(Stop::Namespace)
        } else {
            None
        }
    }
}

/// A request, read once for all rules.
struct Question<'a> {
    asked: &'a Asked<'a>,
    repo: Repository,
    /// The lexical path; `None` for one that no repository has.
    path: Option<String>,
}

/// Where a rule stops a request, in the order of asking.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    Project,
    Repository,
    Path,
    Revision,
    Namespace,
}

impl Stop {
    /// What is not allowed, in fewer than 90 characters, so that a public line has room for the way out.
    fn told(self, asked: &Asked<'_>) -> String {
        match self {
            Self::Project => format!("project `{}`", cut(asked.project, 36)),
            Self::Repository => {
                let repo = repository::shown(asked.repo);
                format!("repository `{}` in project `{}`", cut(&repo, 36), cut(asked.project, 24))
            }
            Self::Path => {
                let repo = repository::shown(asked.repo);
                format!("path `{}` of repository `{}`", cut(asked.path, 34), cut(&repo, 30))
            }
            Self::Revision => {
                let revision = if asked.target_revision.is_empty() { HEAD } else { asked.target_revision };
                format!("revision `{}` of path `{}`", cut(revision, 36), cut(asked.path, 24))
            }
            Self::Namespace => {
                format!("namespace `{}` for path `{}`", cut(asked.namespace, 36), cut(asked.path, 24))
            }
        }
    }
}

/// The path of an Application without `.` and doubled slashes, `.` for the root. `None`: it leads out of the
/// repository or is none that a repository has.
fn lexical(path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.is_empty() {
        return Some(".".to_owned());
    }
    FilePath::parse(&parts.join("/")).ok().map(|path| path.as_str().to_owned())
}

impl Globs {
    /// Globs of folders; who allows what lies below a folder means the folder too.
    pub(crate) fn of_paths(written: Vec<String>) -> Result<Self, &'static str> {
        let mut below = Vec::new();
        let mut globs = Vec::new();
        for pattern in written.iter().map(|pattern| pattern.trim_end_matches('/')) {
            let folder = pattern.trim_end_matches("/**");
            if folder != pattern && !folder.contains(['*', '?', '[', ']', '{', '}']) {
                below.push(folder.to_owned());
            } else {
                globs.extend([pattern, folder]);
            }
        }
        Ok(Self { compiled: compiled(globs.into_iter())?, below, written })
    }

    /// Globs of revisions by their full names.
    pub(crate) fn of_revisions(written: Vec<String>) -> Result<Self, &'static str> {
        let names: Vec<_> = written.iter().map(|entry| full_name(entry)).collect();
        let compiled = compiled(names.iter().map(String::as_str))?;
        Ok(Self { written, compiled, below: Vec::new() })
    }

    /// Globs of files.
    fn of_files(written: Vec<String>) -> Result<Self, &'static str> {
        let compiled = compiled(written.iter().map(String::as_str))?;
        Ok(Self { written, compiled, below: Vec::new() })
    }

    /// As they were written.
    pub fn as_slice(&self) -> &[String] {
        &self.written
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    /// Whether one is for a lexical path.
    fn match_path(&self, path: &str) -> bool {
        match path {
            "." => self.written.iter().any(|pattern| pattern.trim_end_matches('/') == "**"),
            path => {
                let is_below = |folder: &String| {
                    path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                };
                self.below.iter().any(is_below) || self.compiled.is_match(path)
            }
        }
    }

    /// Whether one is for what the Application names, or for the commit that came of it.
    fn match_revision(&self, asked: &Asked<'_>) -> bool {
        let target = full_name(asked.target_revision);
        let literally = |entry: &String| {
            entry == ALL
                || if is_commit(entry) {
                    entry.eq_ignore_ascii_case(asked.revision)
                } else {
                    full_name(entry) == target
                }
        };
        self.written.iter().any(literally) || is_plain_name(&target) && self.compiled.is_match(&target)
    }
}

/// What was written is what counts.
impl PartialEq for Globs {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for Globs {}

impl PartialOrd for Globs {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Globs {
    fn cmp(&self, other: &Self) -> Ordering {
        self.written.cmp(&other.written)
    }
}

fn compiled<'g>(globs: impl Iterator<Item = &'g str>) -> Result<GlobSet, &'static str> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(bootstrap::glob(glob)?);
    }
    set.build().map_err(|_| "holds patterns that are too large")
}

/// Whether a glob of names may be for this full name.
fn is_plain_name(target: &str) -> bool {
    // Argo CD reads `v1 || >=2` and `v*` as a range of versions and seven hexadecimal digits as a commit: such a text
    // is no name, and a glob of names is not for it.
    let name = target.strip_prefix(BRANCHES).unwrap_or(target);
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/+@#".contains(&byte));
    let is_short_commit = name.len() >= 7 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    // A full commit id among the entries is one commit, and no glob of anything.
    is_name && !is_short_commit
}

/// `main` as Git calls it in full; an empty name is `HEAD`.
fn full_name(revision: &str) -> String {
    match revision {
        "" | HEAD => HEAD.to_owned(),
        full if full.starts_with("refs/") => full.to_owned(),
        branch => format!("{BRANCHES}{branch}"),
    }
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Text of a stranger as part of a line: escaped, its end where it is longer than `most` characters.
fn cut(text: &str, most: usize) -> String {
    let escaped: Vec<char> = text.escape_debug().collect();
    let over = escaped.len().saturating_sub(most);
    let end = escaped.iter().skip(if over > 0 { over + 2 } else { 0 });
    let dots = if over > 0 { ".." } else { "" };
    dots.chars().chain(end.copied()).collect()
}

impl ArgoCd {
    /// Whether a file of this path, relative to an application's folder, makes the folder one for this plugin.
    pub fn discovers(&self, file: &str) -> bool {
        self.discover.compiled.is_match(file)
    }
}

impl Default for ArgoCd {
    fn default() -> Self {
        Self {
            name: "regent".to_owned(),
            version: "v1".to_owned(),
            discover: Globs::default(),
            namespace: Namespace::argocd(),
            redis: None,
            server: None,
        }
    }
}

impl Default for ConfigLimits {
    fn default() -> Self {
        Self { document: 5 << 20, upload: 256 << 20, stream: 4 << 30, files: 20_000, request: Duration::from_secs(60) }
    }
}

/// Every namespace; every revision.
const ALL: &str = "*";

const HEAD: &str = "HEAD";
const BRANCHES: &str = "refs/heads/";

/// Most rules, and entries of a list in one: together they keep a file of aliases below a hundred megabytes.
const MAX_RULES: usize = 500;
const MAX_ENTRIES: usize = 256;

/// Longest line of text: a path or an address.
const MAX_LINE: usize = 1024;

/// The file as serde reads it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
struct Written {
    #[serde(rename = "apiVersion")]
    _version: ApiVersion,
    #[serde(rename = "kind")]
    _kind: KindRegentConfig,
    store: Store,
    #[serde(deserialize_with = "written::list::<_, _, MAX_RULES>")]
    rules: Vec<Rule>,
    #[serde(default)]
    argocd: ArgoCd,
    #[serde(default)]
    flux: Flux,
    #[serde(default, deserialize_with = "written::list::<_, _, MAX_ENTRIES>")]
    watch: Vec<Followed>,
    #[serde(default)]
    limits: ConfigLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with `kind`")]
struct WrittenStore {
    kind: StoreKind,
    path: Option<Line>,
    kubeconfig: Option<Line>,
    context: Option<Line>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "`host:port` or a mapping")]
struct WrittenRedis {
    address: HostPort,
    #[serde(default)]
    tls: bool,
    ca_file: Option<Line>,
    username: Option<Line>,
    password_file: Option<Line>,
    #[serde(default, deserialize_with = "database")]
    database: u32,
    prefix: Option<Line>,
}

impl TryFrom<WrittenRedis> for Redis {
    type Error = &'static str;

    fn try_from(written: WrittenRedis) -> Result<Self, &'static str> {
        let WrittenRedis { address, tls, ca_file, username, password_file, database, prefix } = written;
        if ca_file.is_some() && !tls {
            return Err("`caFile` expects `tls: true`");
        }
        if username.is_some() && password_file.is_none() {
            return Err("`username` expects `passwordFile` too");
        }
        let (username, prefix) = (username.map(|Line(text)| text), prefix.map(|Line(text)| text).unwrap_or_default());
        Ok(Self {
            address,
            tls,
            ca_file: file(ca_file),
            username,
            password_file: file(password_file),
            database,
            prefix,
        })
    }
}

/// All that it takes where neither TLS nor a password is asked for.
impl From<HostPort> for Redis {
    fn from(address: HostPort) -> Self {
        let (ca_file, username, password_file) = (None, None, None);
        Self { address, tls: false, ca_file, username, password_file, database: 0, prefix: String::new() }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "`host:port` or a mapping")]
struct WrittenServer {
    address: HostPort,
    #[serde(default)]
    plaintext: bool,
    ca_file: Option<Line>,
    token_file: Option<Line>,
    #[serde(default, deserialize_with = "root_path")]
    root_path: String,
}

impl TryFrom<WrittenServer> for Server {
    type Error = &'static str;

    fn try_from(written: WrittenServer) -> Result<Self, &'static str> {
        let WrittenServer { address, plaintext, ca_file, token_file, root_path } = written;
        if plaintext && !bootstrap::is_this_machine(address.host()) {
            return Err("`plaintext` reaches this machine alone");
        }
        if plaintext && ca_file.is_some() {
            return Err("`caFile` expects TLS, and not `plaintext`");
        }
        Ok(Self { address, plaintext, ca_file: file(ca_file), token_file: file(token_file), root_path })
    }
}

impl From<HostPort> for Server {
    fn from(address: HostPort) -> Self {
        Self { address, plaintext: false, ca_file: None, token_file: None, root_path: String::new() }
    }
}

fn file(line: Option<Line>) -> Option<PathBuf> {
    line.map(|Line(text)| PathBuf::from(text))
}

impl<'de> Deserialize<'de> for HostPort {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "`host:port`", Self::parse)
    }
}

/// Nothing, an address alone, or a mapping of which the address is one key.
fn address_or_mapping<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + From<HostPort>,
{
    struct Either<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de> + From<HostPort>> Visitor<'de> for Either<T> {
        type Value = Option<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("`host:port` or a mapping")
        }
        fn visit_unit<E: de::Error>(self) -> Result<Option<T>, E> {
            Ok(None)
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<T>, E> {
            HostPort::parse(text).map(|address| Some(address.into())).map_err(E::custom)
        }
        fn visit_map<A: MapAccess<'de>>(self, from: A) -> Result<Option<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(from)).map(Some)
        }
    }
    from.deserialize_any(Either(PhantomData))
}

fn redis<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Redis>, D::Error> {
    address_or_mapping(from)
}

fn server<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Server>, D::Error> {
    address_or_mapping(from)
}

fn database<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    const RULE: &str = "expects the number of a database";
    written::number(from, "the number of a database", |number| u32::try_from(number).map_err(|_| RULE))
}

fn root_path<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    written::text(from, "a path", |text| {
        let path = text.trim_end_matches('/');
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
        let is_path = path.is_empty() || path.starts_with('/') && !path.contains("//") && path.bytes().all(plain);
        let climbs = path.split('/').any(|part| part == "..");
        if is_path && !climbs && path.len() <= MAX_LINE {
            Ok(path.to_owned())
        } else {
            Err("expects a path such as `/argo-cd`")
        }
    })
}

enum StoreKind {
    Kubernetes,
    Directory,
}

impl TryFrom<WrittenStore> for Store {
    type Error = &'static str;

    fn try_from(written: WrittenStore) -> Result<Self, &'static str> {
        let WrittenStore { kind, path, kubeconfig, context } = written;
        match (kind, path) {
            (StoreKind::Kubernetes, None) => {
                let text = |Line(text)| text;
                Ok(Self::Kubernetes { kubeconfig: kubeconfig.map(text), context: context.map(text) })
            }
            (StoreKind::Directory, _) if kubeconfig.is_some() || context.is_some() => {
                Err("`kind: directory` expects neither `kubeconfig` nor `context`")
            }
            (StoreKind::Directory, Some(Line(path))) => Ok(Self::Directory { path }),
            (StoreKind::Kubernetes, Some(_)) => Err("`kind: kubernetes` expects no `path`"),
            (StoreKind::Directory, None) => Err("`kind: directory` expects `path`"),
        }
    }
}

impl<'de> Deserialize<'de> for StoreKind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "`kubernetes` or `directory`", |text| match text {
            "kubernetes" => Ok(Self::Kubernetes),
            "directory" => Ok(Self::Directory),
            _ => Err("expects `kubernetes` or `directory`"),
        })
    }
}

/// The `kind` of the file.
struct KindRegentConfig;

impl<'de> Deserialize<'de> for KindRegentConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "`RegentConfig`", |text| match text {
            "RegentConfig" => Ok(Self),
            _ => Err("expects `RegentConfig`"),
        })
    }
}

/// One line of text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Line(String);

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "text", |text| written::line(text, MAX_LINE).map(Self))
    }
}

/// `*`, or the name of a namespace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct AllowedNamespace(String);

impl<'de> Deserialize<'de> for AllowedNamespace {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "a namespace or `*`", |text| match Namespace::parse(text) {
            Ok(namespace) => Ok(Self(namespace.to_string())),
            Err(_) if text == ALL => Ok(Self(ALL.to_owned())),
            Err(_) => Err("expects the exact name of a namespace, or `*` for all"),
        })
    }
}

/// A revision, or a glob of revisions.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Revisions(String);

impl<'de> Deserialize<'de> for Revisions {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "a revision", |text| {
            let line = written::line(text, MAX_LINE)?;
            match bootstrap::glob(&line) {
                Ok(_) => Ok(Self(line)),
                Err(_) => Err("expects a revision or a glob of revisions, such as `release/*`"),
            }
        })
    }
}

fn bootstrap_path<'de, D: Deserializer<'de>>(from: D) -> Result<FilePath, D::Error> {
    written::text(from, "a path", |text| match FilePath::parse(text) {
        Ok(path) if path.file_name() == Bootstrap::FILE_NAME => Ok(path),
        Ok(_) => Err("expects the path of a `regent.yaml`"),
        Err(bad) => Err(bad.rule),
    })
}

fn namespaces<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let list = written::list::<_, AllowedNamespace, MAX_ENTRIES>(from)?;
    let names: Vec<String> = list.into_iter().map(|AllowedNamespace(text)| text).collect();
    match names.as_slice() {
        [] => Err(de::Error::custom("expects at least one namespace, or `*` for all")),
        [_, _, ..] if names.iter().any(|name| name == ALL) => {
            Err(de::Error::custom("`*` is all namespaces; expects it alone"))
        }
        [_, ..] => Ok(names),
    }
}

fn patterns<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let patterns = written::list::<_, Pattern, MAX_PATTERNS>(from)?;
    Ok(patterns.into_iter().map(|Pattern(text)| text).collect())
}

fn paths<'de, D: Deserializer<'de>>(from: D) -> Result<Globs, D::Error> {
    Globs::of_paths(patterns(from)?).map_err(de::Error::custom)
}

fn files_to_discover<'de, D: Deserializer<'de>>(from: D) -> Result<Globs, D::Error> {
    Globs::of_files(patterns(from)?).map_err(de::Error::custom)
}

fn lines<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let lines = written::list::<_, Line, MAX_ENTRIES>(from)?;
    Ok(lines.into_iter().map(|Line(text)| text).collect())
}

fn revisions<'de, D: Deserializer<'de>>(from: D) -> Result<Globs, D::Error> {
    let entries = written::list::<_, Revisions, MAX_ENTRIES>(from)?;
    Globs::of_revisions(entries.into_iter().map(|Revisions(text)| text).collect()).map_err(de::Error::custom)
}

fn written_line<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Line::deserialize(from).map(|Line(text)| text)
}

fn line_path<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    written_line(from).map(PathBuf::from)
}

fn optional_repository<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Repository>, D::Error> {
    Ok(optional_line(from)?.as_deref().map(Repository::new))
}

fn optional_line<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<Line>::deserialize(from)?.map(|Line(text)| text))
}

fn plugin_name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = plugin_word(from)?;
    if name.is_empty() { Err(de::Error::custom("expects a name")) } else { Ok(name) }
}

/// Argo CD joins name and version with `-` into the name of the plugin's socket.
fn plugin_word<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    written::text(from, "text", |text| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if text.len() <= 63 && text.bytes().all(letter) {
            Ok(text.to_owned())
        } else {
            Err("expects at most 63 letters, digits, `-`, `.` and `_`")
        }
    })
}

fn document_size<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    let bytes = from.deserialize_any(Size { min: 1 << 10, max: 1 << 30 })?;
    usize::try_from(bytes).map_err(de::Error::custom)
}

fn size<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    from.deserialize_any(Size { min: 1 << 10, max: 1 << 40 })
}

fn files<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    const RULE: &str = "expects a number from 1 to 10000000";
    written::number(from, "a number from 1 to 10000000", |number| match usize::try_from(number) {
        Ok(files @ 1..=10_000_000) => Ok(files),
        Ok(_) | Err(_) => Err(RULE),
    })
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    const RULE: &str = "expects a time such as `60s`, more than 0 and at most a day";
    written::text(from, "a time such as `60s`", |text| match milliseconds(text) {
        Some(time @ 1..=DAY) => Ok(Duration::from_millis(time)),
        Some(_) | None => Err(RULE),
    })
}

fn interval_from<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    const RULE: &str = "expects a time such as `30s`, from 5 seconds to a day";
    written::text(from, "a time such as `30s`", |text| match milliseconds(text) {
        Some(time @ 5_000..=DAY) => Ok(Duration::from_millis(time)),
        Some(_) | None => Err(RULE),
    })
}

fn interval() -> Duration {
    Duration::from_secs(30)
}

/// A day, in milliseconds.
const DAY: u64 = 86_400_000;

fn milliseconds(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let each = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(each)
}

/// Reads a size between two bounds in bytes.
struct Size {
    min: u64,
    max: u64,
}

impl Size {
    fn within<E: de::Error>(&self, bytes: Option<u64>) -> Result<u64, E> {
        let range = || de::Error::custom(format!("expects a size from {} to {} bytes", self.min, self.max));
        bytes.filter(|bytes| (self.min..=self.max).contains(bytes)).ok_or_else(range)
    }
}

impl Visitor<'_> for Size {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as `5MiB`")
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<u64, E> {
        self.within(Some(bytes))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        const RULE: &str = "expects a size such as `5MiB`";
        let (number, unit) = number_and_unit(text).ok_or_else(|| E::custom(RULE))?;
        let bytes = match unit {
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(E::custom(RULE)),
        };
        self.within(number.checked_mul(bytes))
    }
}

/// `5MiB` in its two halves; no sign, no blank, no fraction.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|char: char| !char.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests;
