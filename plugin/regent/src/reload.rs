//! The operator's file and the rules' identities, kept current while their mounts change.
//!
//! A server starts with whatever is there: what cannot be used is an error of each request that needs it, never of
//! the process, because a plugin that is not ready takes Argo CD's whole repo-server out of service. When a mount
//! changes, everything is read anew. A file that does not parse leaves the old one in force; a rule whose identities
//! cannot be used keeps those that it had.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use regent_core::Refusal;
use regent_core::name::AuthorityName;
use regent_core::rules::{Asked, RegentConfig, Rule};
use regent_sops::{DataKeys, Keyring, WrappingKeys};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::telemetry::{Metrics, Reload};
use crate::watch::Target;
use crate::witnesses::Store;
use crate::{config, keys, local};

/// Where a server finds the operator's file, and what it insists on.
pub(crate) struct Origin {
    /// The operator's file.
    pub(crate) file: PathBuf,
    /// Whether the store may be writable, and a folder even in a pod: a demo in a single process.
    pub(crate) demo: bool,
}

/// What a server works with: one consistent reading of everything that is mounted.
pub(crate) struct Loaded {
    /// The operator's file.
    pub(crate) config: RegentConfig,
    /// Unlike that of any other reading in this process.
    pub(crate) generation: u64,
    store: Store,
    demo: bool,
    /// Each rule's identities, or why they cannot be used.
    keyrings: Vec<Result<Arc<Keyring>, Failure>>,
    /// The secret of each authority's webhook, or why it cannot be used.
    hooks: BTreeMap<AuthorityName, Result<Arc<Zeroizing<String>>, Failure>>,
    /// Each rule's wrapping keys, once somebody asked for them.
    wrapping_keys: Vec<OnceLock<WrappingKeys>>,
}

impl Loaded {
    /// Reads everything. A rule whose identities cannot be used is no failure: once Vault rules, none are needed.
    fn read(origin: &Origin) -> Result<Self, Failure> {
        static GENERATION: AtomicU64 = AtomicU64::new(0);
        let config = config::load(&origin.file)?;
        let store = config::store_in(&origin.file, &config.store);
        let keyrings = config.rules.iter().map(|rule| keys::exactly(&identities(origin, rule)).map(Arc::new)).collect();
        let wrapping_keys = config.rules.iter().map(|_| OnceLock::new()).collect();
        let hooks = config.watch.iter().filter_map(|followed| {
            let secret = config::one_line_of(&followed.webhook.as_ref()?.secret_file).map(Arc::new);
            Some((followed.authority.clone(), secret))
        });
        let hooks = hooks.collect();
        let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
        Ok(Self { config, generation, store, demo: origin.demo, keyrings, hooks, wrapping_keys })
    }

    /// The authority store. Asked each time, because what a server may write can change under it.
    pub(crate) fn store(&self) -> Result<&Store, Failure> {
        if let Store::Folder(folder) = &self.store {
            local::only_to_be_read(folder, self.demo)?;
        }
        Ok(&self.store)
    }

    /// The position of the rule that allows a request.
    pub(crate) fn admit(&self, asked: &Asked<'_>) -> Result<usize, Failure> {
        let rule = self.config.rule_for_application(asked).map_err(Refusal::from)?;
        self.config.rules.iter().position(|one| std::ptr::eq(one, rule)).ok_or(Failure::Bug)
    }

    /// The rule at a position that [`Self::admit`] gave.
    pub(crate) fn rule(&self, position: usize) -> &Rule {
        &self.config.rules[position]
    }

    /// The identities of the rule at a position.
    pub(crate) fn keyring(&self, position: usize) -> Result<&Keyring, Failure> {
        self.keyrings[position].as_deref().map_err(Failure::clone)
    }

    /// The wrapping keys of an authority: of the first rule that speaks for it, whoever wraps and whoever unwraps.
    pub(crate) fn wrapping_keys(&self, authority: &AuthorityName) -> Result<&WrappingKeys, Failure> {
        let position = self.config.rules.iter().position(|rule| rule.authority == *authority).ok_or(Failure::Bug)?;
        let keyring = self.keyring(position)?;
        Ok(self.wrapping_keys[position].get_or_init(|| keyring.wrapping_keys()))
    }

    /// The secret of an authority's webhook; `None` where it has none, or none that can be used.
    pub(crate) fn hook_secret(&self, authority: &AuthorityName) -> Option<&str> {
        self.hooks.get(authority)?.as_ref().ok().map(|secret| secret.as_str())
    }

    /// Gives each rule whose identities cannot be used those of the same rule before, a webhook its secret likewise, and
    /// tells what is wrong.
    fn keep(&mut self, before: Option<&Self>) -> Vec<Failure> {
        let mut problems = Vec::new();
        for (rule, keyring) in self.config.rules.iter().zip(&mut self.keyrings) {
            let Err(problem) = keyring else { continue };
            problems.push(problem.clone());
            let known = before.and_then(|before| {
                let same = |old: &Rule| old.authority == rule.authority && old.identities == rule.identities;
                before.keyrings.get(before.config.rules.iter().position(same)?)
            });
            if let Some(Ok(known)) = known {
                *keyring = Ok(Arc::clone(known));
            }
        }
        for (authority, secret) in &mut self.hooks {
            let Err(problem) = secret else { continue };
            problems.push(problem.clone());
            if let Some(Ok(known)) = before.and_then(|before| before.hooks.get(authority)) {
                *secret = Ok(Arc::clone(known));
            }
        }
        problems
    }
}

/// The state that counts now.
pub(crate) struct Current {
    origin: Origin,
    state: RwLock<State>,
    data_keys: Arc<DataKeys>,
    metrics: Metrics,
}

struct State {
    /// What counts; an error only as long as nothing was ever read.
    loaded: Result<Arc<Loaded>, Failure>,
    /// Over the bytes that were last read, sound or not: what did not change is not read again.
    digest: Option<Digest>,
}

type Digest = [u8; 32];

/// How often a reading is tried while what is read keeps changing; after that the next event or look goes on.
const TRIES: usize = 5;

impl Current {
    /// Reads everything for the first time, and tells what is wrong.
    pub(crate) fn start(origin: Origin, data_keys: Arc<DataKeys>, metrics: Metrics) -> Self {
        let nothing_yet = State { loaded: Err(Failure::Bug), digest: None };
        let current = Self { origin, state: RwLock::new(nothing_yet), data_keys, metrics };
        current.read();
        if let Ok(loaded) = current.get()
            && let Err(failure) = loaded.store()
        {
            tracing::error!(problem = %failure, "the authority store cannot be used");
        }
        current
    }

    /// What a request works with, from its beginning to its end.
    pub(crate) fn get(&self) -> Result<Arc<Loaded>, Failure> {
        self.get_state().loaded.clone()
    }

    /// Reads everything again if a byte of it changed.
    pub(crate) fn refresh(&self) {
        if self.get_state().digest != Some(digest(&self.origin)) && self.read() {
            tracing::info!("configuration and identities were reloaded");
        }
    }

    /// Reads a state that did not change while it was read, and puts it into force as far as it is sound. Tells
    /// whether all of it is.
    fn read(&self) -> bool {
        let settled = (0..TRIES).find_map(|_| {
            let before = digest(&self.origin);
            let read = Loaded::read(&self.origin);
            (before == digest(&self.origin)).then_some((read, before))
        });
        let Some((read, digest)) = settled else { return false };
        let is_reload = self.get_state().digest.is_some();
        let known = self.get().ok();
        let (loaded, problems) = match read {
            Ok(mut loaded) => {
                let problems = loaded.keep(known.as_deref());
                (Ok(Arc::new(loaded)), problems)
            }
            Err(failure) => {
                self.unsound(Reload::Config, &failure);
                (known.ok_or(failure), Vec::new())
            }
        };
        for failure in &problems {
            self.unsound(Reload::Keys, failure);
        }
        let config_counts = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            let is_new = match (&state.loaded, &loaded) {
                (Ok(old), Ok(new)) => !Arc::ptr_eq(old, new),
                (Err(_), Ok(_)) => true,
                (Ok(_) | Err(_), Err(_)) => false,
            };
            *state = State { loaded, digest: Some(digest) };
            is_new
        };
        self.data_keys.forget();
        if config_counts && is_reload {
            self.metrics.reloaded(Reload::Config, true);
        }
        let is_sound = config_counts && problems.is_empty();
        if is_sound && is_reload {
            self.metrics.reloaded(Reload::Keys, true);
        }
        is_sound
    }

    /// The places whose change may change the state.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let mut targets = vec![Target::File(self.origin.file.clone())];
        let place = |place: PathBuf| if place.is_dir() { Target::Folder(place) } else { Target::File(place) };
        targets.extend(places(&self.origin).into_iter().map(place));
        // A place that is not there yet is found by looking again.
        targets.retain(Target::is_there);
        targets
    }

    fn get_state(&self) -> std::sync::RwLockReadGuard<'_, State> {
        // A state is replaced as a whole, so a panic elsewhere leaves none half written.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsound(&self, what: Reload, failure: &Failure) {
        self.metrics.reloaded(what, false);
        let code = failure.code().entry().name;
        tracing::error!(code, problem = %failure, "what is mounted cannot be used; what counted before still does");
    }
}

/// A rule's key files and folders; relative ones count from the operator's file.
fn identities(origin: &Origin, rule: &Rule) -> Vec<PathBuf> {
    rule.identities.iter().map(|path| config::beside(&origin.file, path)).collect()
}

/// The key files and folders, and the secrets of webhooks, that the operator's file names as it is now; none where it cannot
/// be read.
fn places(origin: &Origin) -> Vec<PathBuf> {
    let Ok(config) = config::load(&origin.file) else { return Vec::new() };
    let keys = config.rules.iter().flat_map(|rule| identities(origin, rule));
    let hooks = config.watch.iter().filter_map(|followed| Some(followed.webhook.as_ref()?.secret_file.clone()));
    keys.chain(hooks).collect()
}

/// A digest of all bytes that a state is read from, and of what is not there.
fn digest(origin: &Origin) -> Digest {
    let mut hasher = Sha256::new();
    add(&mut hasher, &origin.file);
    for place in places(origin) {
        let mut files: Vec<PathBuf> = match std::fs::read_dir(&place) {
            Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
            Err(_) => vec![place],
        };
        files.sort();
        for file in &files {
            add(&mut hasher, file);
        }
    }
    hasher.finalize().into()
}

fn add(hasher: &mut Sha256, file: &Path) {
    hasher.update(file.as_os_str().as_encoded_bytes());
    match config::read_bounded(file, keys::MAX_KEY_FILE_BYTES) {
        Ok(bytes) => {
            hasher.update([1]);
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(&bytes);
        }
        Err(_) => hasher.update([0]),
    }
}
