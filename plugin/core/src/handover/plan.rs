//! What a handover would do, before it does it: nothing of a value, or made from one, leaves here.
//!
//! ```text
//! Draft::of    the root, opened: classes, encodings, limits
//! Plan::new    the draft beside what Vault holds: what is new, equal, another value, deleted
//! Plan::digest what a person approves
//! Plan::record what is written when all copies were read back
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use regent_sops::envelope::Envelope;
use sha2::{Digest as _, Sha256};

use crate::bootstrap::{After, Bootstrap};
use crate::evidence::{ListedClass, ListedDocument};
use crate::handover::copy::{Copy, InVault};
use crate::handover::record::{MAX_BODY_BYTES, Record, RecordedKey, Site, TooLarge};
use crate::handover::tree::{hex, tree_digest};
use crate::import::Importation;
use crate::name::{AuthorityName, Epoch, FilePath, HandoverId, SecretName};
use crate::object::HIDDEN_KEY;
use crate::refusal::Refusal;
use crate::render::{self, Request};

/// The root, opened. Holds plaintext: no Debug.
pub struct Draft {
    copies: Vec<Copy>,
    outline: Outline,
}

/// What a root would hand over, without values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The digest of its encrypted files.
    pub tree_digest: String,
    /// Its encrypted documents, sorted by name and kind.
    pub documents: Vec<ListedDocument>,
    /// The Secrets that Vault gets.
    pub copied: BTreeSet<SecretName>,
}

/// Where a plan leads, and from what.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// `regent.yaml` of the revision.
    pub bootstrap: &'a Bootstrap,
    /// Its folder in the repository.
    pub root: Option<&'a str>,
    /// The full id of the commit.
    pub commit: &'a str,
    /// The Vault that was asked, and the clusters.
    pub site: &'a Site,
    /// The version of this regent.
    pub regent_version: &'a str,
}

/// What will be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The authority.
    pub name: AuthorityName,
    /// E.
    pub epoch: Epoch,
    /// S.
    pub supersedes: Option<HandoverId>,
    /// The root's folder in its repository.
    pub root: Option<String>,
    /// The Vault and the clusters.
    pub site: Site,
    /// The full id of the commit.
    pub commit: String,
    /// The digest of the root's encrypted files.
    pub tree_digest: String,
    /// The version of this regent.
    pub regent_version: String,
    /// What is emitted once the handover is settled.
    pub after: After,
    /// Every encrypted document, sorted by name and kind.
    pub entries: Vec<Entry>,
}

/// One encrypted document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: SecretName,
    /// Its kind, as [`ListedDocument::kind`] has it.
    pub kind: String,
    /// Its class.
    pub class: ListedClass,
    /// Its file.
    pub file: FilePath,
    /// Git's id of the file.
    pub blob: String,
    /// The names of its fields in Vault, sorted; none where it is not copied, and none told of a file that is encrypted as
    /// a whole.
    pub keys: Vec<String>,
    /// Its key below the mount, `<prefix>/<ns>/<name>`; `None` where it is not copied.
    pub path: Option<String>,
    /// What Vault holds of it.
    pub state: State,
    /// Whether `handover.acceptExisting` names it: where Vault holds another value, that one stands.
    pub existing: Existing,
}

/// What Vault holds of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing: it is written.
    New,
    /// The same values.
    Equal,
    /// Other values.
    Differs,
    /// It was there, and was deleted.
    Deleted,
    /// It is not copied: another kind than Secret, or `vault: false`.
    NotCopied,
}

/// What a person said of a value that Vault holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Nothing: another value stops the handover.
    Stops,
    /// It stands, whatever it is.
    Stands,
}

/// Why nothing is handed over. Names, counts and rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanRefusal {
    /// The root does not render.
    #[error(transparent)]
    Rendering(#[from] Refusal),
    /// There is nothing encrypted in the root; a handover cannot be taken back.
    #[error("the root holds no encrypted document, so there is nothing to hand over")]
    Nothing,
    /// Nobody said what comes after.
    #[error("regent.yaml has no `after`: what stands in for the Secrets after the handover is said before it")]
    NoAfter,
    /// A value that is not text.
    #[error("{file}: Secret {name}: the value of `{key}` is not UTF-8, and Vault holds text")]
    NotText {
        /// The file.
        file: FilePath,
        /// The Secret.
        name: SecretName,
        /// The key.
        key: String,
    },
    /// More keys than one request may have.
    #[error("{file}: Secret {name} has {keys} keys, more than the {MAX_KEYS} that OpenBao takes in one write")]
    TooManyKeys {
        /// The file.
        file: FilePath,
        /// The Secret.
        name: SecretName,
        /// How many.
        keys: usize,
    },
    /// Larger than one entry of Vault's storage.
    #[error(
        "{file}: Secret {name} has {size} bytes as JSON, more than the {MAX_BODY_BYTES} that Vault takes in one key"
    )]
    TooLarge {
        /// The file.
        file: FilePath,
        /// The Secret.
        name: SecretName,
        /// Its size in bytes.
        size: usize,
    },
    /// The record, or its mirror, would not fit.
    #[error(transparent)]
    RecordTooLarge(#[from] TooLarge),
    /// The record would not be read back as one.
    #[error("the handover record would be refused: {0}")]
    Record(String),
    /// Vault was not asked about a copy.
    #[error("Vault was not asked about {name}")]
    NotCompared {
        /// The Secret.
        name: SecretName,
    },
    /// A copy was not read back.
    #[error("the copy of {name} was not read back")]
    NotReadBack {
        /// The Secret.
        name: SecretName,
    },
    /// Vault holds what Git does not.
    #[error("{}", conflicts(differs, deleted))]
    Conflicts {
        /// Other values, and nobody said that they stand.
        differs: Vec<SecretName>,
        /// There, and deleted.
        deleted: Vec<SecretName>,
    },
}

/// Keys of one Secret: OpenBao refuses a request with more than 1000 strings, and `options`, `cas` and `data` are three.
const MAX_KEYS: usize = 498;

/// A handover id for measuring alone.
const SOME_HANDOVER: &str = "00000000-0000-4000-8000-000000000000";

impl Draft {
    /// Opens the root and checks what Vault would take of it. `blob` is Git's id of a file with these bytes.
    ///
    /// # Errors
    /// The first thing that stands against it, in the order of files.
    pub fn of(request: &Request<'_>, blob: impl Fn(&[u8]) -> String) -> Result<Self, PlanRefusal> {
        let copies = render::copies(request)?;
        if copies.is_empty() {
            return Err(PlanRefusal::Nothing);
        }
        Self::of_copies(copies, request, blob)
    }

    /// Opens the one document of an import, and checks it in the same way; `None` where the root does not have it.
    ///
    /// # Errors
    /// What stands against it.
    pub fn imported(
        request: &Request<'_>,
        importation: &Importation,
        blob: impl Fn(&[u8]) -> String,
    ) -> Result<Option<Self>, PlanRefusal> {
        let copies = render::imported(request, importation, &blob)?;
        if copies.is_empty() { Ok(None) } else { Self::of_copies(copies, request, blob).map(Some) }
    }

    fn of_copies(
        mut copies: Vec<Copy>,
        request: &Request<'_>,
        blob: impl Fn(&[u8]) -> String,
    ) -> Result<Self, PlanRefusal> {
        for copy in &copies {
            check(copy)?;
        }
        copies.sort_by(|one, other| (one.name(), one.kind()).cmp(&(other.name(), other.kind())));
        let mut blobs: BTreeMap<&FilePath, String> = BTreeMap::new();
        for copy in &copies {
            // What was opened was read; an id that is none makes no record.
            if let Some(bytes) = request.files.document(copy.file()) {
                blobs.entry(copy.file()).or_insert_with(|| blob(bytes));
            }
        }
        let listed = |copy: &Copy| ListedDocument {
            path: copy.file().clone(),
            name: copy.name().clone(),
            kind: copy.kind().to_owned(),
            class: copy.class(),
            blob: blobs.get(copy.file()).cloned().unwrap_or_default(),
        };
        let outline = Outline {
            tree_digest: tree_digest(blobs.iter().map(|(path, blob)| (*path, blob.as_str()))),
            documents: copies.iter().map(listed).collect(),
            copied: copies.iter().filter(|copy| copy.is_copied()).map(|copy| copy.name().clone()).collect(),
        };
        Ok(Self { copies, outline })
    }

    /// The documents that Vault gets, sorted by name.
    pub fn copies(&self) -> impl Iterator<Item = &Copy> {
        self.copies.iter().filter(|copy| copy.is_copied())
    }

    /// The same without values.
    pub fn outline(&self) -> &Outline {
        &self.outline
    }
}

impl Copy {
    /// What Vault holds of it, compared in memory.
    pub fn compare(&self, vault: &InVault) -> State {
        match vault {
            InVault::Absent | InVault::Deleted | InVault::Present(_) if !self.is_copied() => State::NotCopied,
            InVault::Absent => State::New,
            InVault::Deleted => State::Deleted,
            InVault::Present(fields) if self.is_in(fields) => State::Equal,
            InVault::Present(_) => State::Differs,
        }
    }
}

impl Plan {
    /// The draft beside what Vault holds of each of its copies ([`Copy::compare`]).
    ///
    /// # Errors
    /// What stands against any handover of it. [`Plan::conflicts`] is for what people decide.
    pub fn new(draft: &Draft, target: Target<'_>, states: &BTreeMap<SecretName, State>) -> Result<Self, PlanRefusal> {
        let Target { bootstrap, root, commit, site, regent_version } = target;
        let after = bootstrap.after.clone().ok_or(PlanRefusal::NoAfter)?;
        let prefix = &site.vault.place.prefix;
        let accepted: BTreeSet<&SecretName> = bootstrap.handover.accept_existing.iter().collect();
        let entry = |(copy, listed): (&Copy, &ListedDocument)| {
            let ListedDocument { path: file, name, kind, class, blob } = listed.clone();
            let path = copy.is_copied().then(|| format!("{prefix}/{name}"));
            let state = match (&path, states.get(&name)) {
                (None, _) => State::NotCopied,
                (Some(_), Some(state)) => *state,
                (Some(_), None) => return Err(PlanRefusal::NotCompared { name }),
            };
            // Keys of a file that is encrypted as a whole are not told.
            let keys = if is_whole(&file) { vec![HIDDEN_KEY.to_owned()] } else { copy.keys() };
            let existing = if accepted.contains(&name) { Existing::Stands } else { Existing::Stops };
            Ok(Entry { name, kind, class, file, blob, keys, path, state, existing })
        };
        let entries = draft.copies.iter().zip(&draft.outline.documents).map(entry).collect::<Result<_, _>>()?;
        let plan = Self {
            name: bootstrap.name.clone(),
            epoch: bootstrap.epoch,
            supersedes: bootstrap.supersedes.clone(),
            root: root.map(str::to_owned),
            site: site.clone(),
            commit: commit.to_owned(),
            tree_digest: draft.outline.tree_digest.clone(),
            regent_version: regent_version.to_owned(),
            after,
            entries,
        };
        // What is written last must not fail when all else is done.
        let handover = HandoverId::parse(SOME_HANDOVER).map_err(|bad| PlanRefusal::Record(bad.to_string()))?;
        let longest = (u32::MAX, "0".repeat(64));
        let keys = draft.outline.copied.iter().map(|name| (name.clone(), longest.clone())).collect();
        plan.record(handover, &keys)?;
        Ok(plan)
    }

    /// The values that Vault keeps against Git's, and those that are in the way of a decision.
    ///
    /// # Errors
    /// Other values that nobody accepted, and deleted ones: no handover.
    pub fn conflicts(&self) -> Result<(), PlanRefusal> {
        let names = |refused: fn(&Entry) -> bool| {
            self.entries.iter().filter(|entry| refused(entry)).map(|entry| entry.name.clone()).collect::<Vec<_>>()
        };
        let differs = names(|entry| (entry.state, entry.existing) == (State::Differs, Existing::Stops));
        let deleted = names(|entry| entry.state == State::Deleted);
        if differs.is_empty() && deleted.is_empty() { Ok(()) } else { Err(PlanRefusal::Conflicts { differs, deleted }) }
    }

    /// What a person approves: SHA-256, as 64 lower-case hexadecimal digits, over lines of JSON, each an array of texts
    /// followed by one line feed:
    ///
    /// ```text
    /// ["regent handover plan","1"]
    /// ["authority",name,epoch,supersedes]
    /// ["from",root,commit,tree digest]
    /// ["vault",address,namespace,mount,prefix,cluster id,mount uuid]
    /// ["clusters",witness uid,target uid]
    /// ["after","stub"]  or  ["after","externalSecret",store,kind of store]  or  ["after","vaultStaticSecret",auth]
    /// ["document",ns/name,kind,class,file,blob,path,what,keys...]             for each entry, in order
    /// ```
    /// What is not there is an empty text. `what` is what the handover will leave in Vault: `git` (Git's values, written
    /// now or equal already, so that a run that was cut off needs no second approval), `vault` (Vault's own, accepted),
    /// `differs` and `deleted` (it stops), `none`. Nothing in it is a value or made from one; the version of regent is
    /// not in it.
    pub fn digest(&self) -> String {
        hex(&Sha256::digest(self.text().as_bytes()))
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |parts: &[&str]| {
            // Arrays of text always serialize, and writing into a String cannot fail.
            let _ = writeln!(text, "{}", serde_json::to_string(parts).unwrap_or_default());
        };
        line(&["regent handover plan", "1"]);
        let supersedes = self.supersedes.as_ref().map_or("", HandoverId::as_str);
        line(&["authority", self.name.as_str(), &self.epoch.to_string(), supersedes]);
        line(&["from", self.root.as_deref().unwrap_or_default(), &self.commit, &self.tree_digest]);
        let vault = &self.site.vault;
        let place = &vault.place;
        let (cluster, uuid) = (vault.cluster_id.as_str(), vault.mount_uuid.as_str());
        line(&["vault", &place.address, &place.namespace, &place.mount, &place.prefix, cluster, uuid]);
        match &self.site.clusters {
            Some(clusters) => line(&["clusters", &clusters.witness, &clusters.target]),
            None => line(&["clusters", "", ""]),
        }
        match &self.after {
            After::Stub => line(&["after", "stub"]),
            After::ExternalSecret { store, store_kind } => line(&["after", "externalSecret", store, store_kind]),
            After::VaultStaticSecret { auth } => line(&["after", "vaultStaticSecret", auth]),
        }
        for entry in &self.entries {
            let class = match entry.class {
                ListedClass::Handover => "handover",
                ListedClass::Permanent => "permanent",
            };
            let what = match (entry.state, entry.existing) {
                (State::New | State::Equal, _) => "git",
                (State::Differs, Existing::Stands) => "vault",
                (State::Differs, Existing::Stops) => "differs",
                (State::Deleted, _) => "deleted",
                (State::NotCopied, _) => "none",
            };
            let name = entry.name.to_string();
            let path = entry.path.as_deref().unwrap_or_default();
            let mut parts = vec!["document", &name, &entry.kind, class, entry.file.as_str(), &entry.blob, path, what];
            parts.extend(entry.keys.iter().map(String::as_str));
            line(&parts);
        }
        text
    }

    /// What is handed over, copied or not.
    pub fn documents(&self) -> Vec<ListedDocument> {
        self.entries.iter().map(Entry::listed).collect()
    }

    /// The record, when all copies were read back: `keys` has the current version of each and when its key was made,
    /// accepted ones included.
    ///
    /// # Errors
    /// A copy that was not read back, or a record that would not be one.
    pub fn record(
        &self,
        handover: HandoverId,
        keys: &BTreeMap<SecretName, (u32, String)>,
    ) -> Result<Record, PlanRefusal> {
        let key = |entry: &Entry| {
            let name = entry.name.clone();
            match keys.get(&name) {
                Some((version, created_time)) => {
                    Ok(RecordedKey { name, version: *version, created_time: created_time.clone() })
                }
                None => Err(PlanRefusal::NotReadBack { name }),
            }
        };
        let copied = self.entries.iter().filter(|entry| entry.path.is_some());
        let record = Record {
            name: self.name.clone(),
            epoch: self.epoch,
            supersedes: self.supersedes.clone(),
            handover,
            root: self.root.clone(),
            site: self.site.clone(),
            git_commit: self.commit.clone(),
            tree_digest: self.tree_digest.clone(),
            records: copied.map(key).collect::<Result<_, _>>()?,
            documents: self.documents(),
            regent_version: self.regent_version.clone(),
        };
        record.check().map_err(PlanRefusal::Record)?;
        record.check_size()?;
        Ok(record)
    }
}

impl Entry {
    /// As the list has it.
    pub fn listed(&self) -> ListedDocument {
        ListedDocument {
            path: self.file.clone(),
            name: self.name.clone(),
            kind: self.kind.clone(),
            class: self.class,
            blob: self.blob.clone(),
        }
    }
}

fn is_whole(file: &FilePath) -> bool {
    Envelope::of_name(file.file_name()).is_some()
}

/// What Vault takes of one Secret.
fn check(copy: &Copy) -> Result<(), PlanRefusal> {
    let (file, name) = (copy.file().clone(), copy.name().clone());
    if let Some(key) = copy.not_text() {
        let key = if is_whole(&file) { HIDDEN_KEY } else { key }.to_owned();
        return Err(PlanRefusal::NotText { file, name, key });
    }
    let keys = copy.keys().len();
    if keys > MAX_KEYS {
        return Err(PlanRefusal::TooManyKeys { file, name, keys });
    }
    let size = copy.body_size();
    if size > MAX_BODY_BYTES {
        return Err(PlanRefusal::TooLarge { file, name, size });
    }
    Ok(())
}

fn conflicts(differs: &[SecretName], deleted: &[SecretName]) -> String {
    let listed = |names: &[SecretName]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let differs = (!differs.is_empty()).then(|| format!("Vault holds other values of {}", listed(differs)));
    let deleted = (!deleted.is_empty()).then(|| format!("Vault's copies of {} were deleted", listed(deleted)));
    [differs, deleted].into_iter().flatten().collect::<Vec<_>>().join("; ")
}
