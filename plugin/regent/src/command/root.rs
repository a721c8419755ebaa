//! What commands that need a root, its keys and its authority in a cluster begin with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::SystemTime;

use regent_core::Refusal;
use regent_core::authority::{Place, Ruling};
use regent_core::bootstrap::Bootstrap;
use regent_core::evidence::{AuthorityWitness, Clusters, DocumentList, Evidence, ListedDocument, Reading};
use regent_core::files::{Content, Files};
use regent_core::flux::observed::Kustomization;
use regent_core::flux::reach::{self, Reach};
use regent_core::flux::{patches, reached};
use regent_core::handover::plan::Plan;
use regent_core::handover::tree::{Slipped, encrypted_files, slipped_in};
use regent_core::name::{FilePath, ObjectName};
use regent_core::remote::{Access as RemoteAccess, Location};
use regent_core::render::{Door, Request};
use regent_core::repository::Repository;
use regent_core::rules::{Delivery, FluxApplication, RegentConfig, Rule};
use regent_sops::Limits;

use super::render::{bootstrap_path, key_args, place_of};
use crate::cli::{CommitArgs, KeyArgs, RunArgs, StoreArgs};
use crate::cluster::{self, Access, Cluster, flux, installation, kustomizations, witness};
use crate::config;
use crate::failure::Failure;
use crate::flux::tree::Tree;
use crate::keys::{self, Identities};
use crate::source::tar::UploadLimits;
use crate::source::{self, BOOTSTRAP, Bounds, Gathered, bootstrap_of, git};
use crate::witnesses::Store;

/// A root in a folder, and with what it is opened.
pub(super) struct Root {
    pub(super) gathered: Gathered,
    pub(super) bootstrap: Bootstrap,
    pub(super) config: Option<RegentConfig>,
    /// Where the witnesses are.
    pub(super) store: Store,
    /// The commit that it was read at, and where that is from; `None` for a folder as it is on disk.
    held: Option<(git::Place, git::Held)>,
    pub(super) identities: Identities,
    /// Namespaces that the rule allows; all of them where no operator's file says.
    namespaces: Vec<String>,
    limits: Limits,
}

/// The clusters of an authority.
pub(super) struct Connected {
    /// Where the witnesses are.
    pub(super) witnesses: Cluster,
    /// Where the Secrets are.
    pub(super) target: Cluster,
    pub(super) uids: Clusters,
}

impl Root {
    /// A folder as it is on disk, whose authority is in a cluster. `command` is what errors call it.
    pub(super) fn gather(command: &str, dir: &Path, store: &StoreArgs, keys: &KeyArgs) -> Result<Self, Failure> {
        let config = store.config.as_deref().map(config::load).transpose()?;
        let store = store_of(command, "`--context NAME` or `--config FILE`", store, config.as_ref())?;
        if let Store::Folder(_) = store {
            return Err(Failure::Usage(format!("`{command}` is for an authority in a cluster")));
        }
        let mut gathered = source::dir::gather(dir, bounds(config.as_ref()))?;
        if let Some(config) = &config {
            built_on_disk(&mut gathered, dir, config, &store)?;
        }
        Self::of(gathered, &dir.join(BOOTSTRAP).display().to_string(), None, config, store, keys)
    }

    /// The root of a run that brings values to Vault, from a thread of its own: a server that is slow keeps nobody from
    /// ending the run.
    pub(super) async fn of_run(command: &'static str, run: &RunArgs) -> Result<Self, Failure> {
        let (commit, store, keys) = (run.commit.clone(), run.store.clone(), run.keys.clone());
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || drop(tell.send(Self::at_commit(command, &commit, &store, &keys))));
        told.await.map_err(|_| Failure::Bug)?
    }

    /// A root as one commit has it, which is named by its full id, or signed by whom `regent.yaml` allows.
    fn at_commit(command: &str, args: &CommitArgs, store: &StoreArgs, keys: &KeyArgs) -> Result<Self, Failure> {
        let root = Self::at_revision(command, args, store, keys, git::History::Recent)?;
        if let Some((_, held)) = &root.held {
            git::pinned(held, &args.revision, &root.bootstrap.handover.signers, SystemTime::now())?;
        }
        Ok(root)
    }

    /// A root as any revision has it, for a command that takes nothing from it.
    pub(super) fn at_revision(
        command: &str,
        args: &CommitArgs,
        store: &StoreArgs,
        keys: &KeyArgs,
        history: git::History,
    ) -> Result<Self, Failure> {
        let config = store.config.as_deref().map(config::load).transpose()?;
        let store = store_of(command, "`--context NAME`, `--config FILE` or `--store DIR`", store, config.as_ref())?;
        let place = git::Place::typed(&args.repo, &args.git)?;
        let held = git::Held::open(&place, &args.revision, history)?;
        let name = format!("{}@{}", place.location, args.revision);
        let mut gathered = git::gather_from(&held, &name, &args.path, bounds(config.as_ref()))?;
        if let Some(config) = &config {
            built(&mut gathered, config, &store, &held)?;
        }
        let label = format!("{}/{BOOTSTRAP}", gathered.label);
        Self::of(gathered, &label, Some((place, held)), config, store, keys)
    }

    fn of(
        gathered: Gathered,
        label: &str,
        held: Option<(git::Place, git::Held)>,
        config: Option<RegentConfig>,
        store: Store,
        keys: &KeyArgs,
    ) -> Result<Self, Failure> {
        let limits = config.as_ref().map(|config| config.limits).unwrap_or_default();
        let limits = Limits { document: limits.document, ..Limits::default() };
        let bootstrap = bootstrap_of(&gathered.files)?.ok_or_else(|| Failure::World {
            what: "read",
            name: label.to_owned(),
            reason: "it does not exist".to_owned(),
        })?;
        let rule = match &config {
            Some(config) => Some(config.rule_for(&bootstrap.name, &bootstrap_path(&gathered)).map_err(Refusal::from)?),
            None => None,
        };
        let identities = keys::load(&key_args(keys, rule))?;
        let namespaces = rule.map_or_else(|| vec!["*".to_owned()], |rule| rule.namespaces.clone());
        Ok(Self { gathered, bootstrap, config, store, held, identities, namespaces, limits })
    }

    /// Where it stands.
    pub(super) fn place(&self, evidence: &Evidence) -> Place {
        place_of(&self.gathered, Some(evidence))
    }

    /// Its documents, opened to be compared. `ruling` decides whether they may leave.
    pub(super) fn request<'a>(&'a self, ruling: &'a Ruling) -> Request<'a> {
        Request {
            files: &self.gathered.files,
            folder: None,
            bootstrap: Some(&self.bootstrap),
            ruling,
            keys: (&self.identities.keyring).into(),
            namespaces: &self.namespaces,
            limits: &self.limits,
            door: Door::ArgoCd,
        }
    }

    /// Bounds of each document.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// One file of another revision alone, opened as the root has it now, to be compared.
    pub(super) fn request_of<'a>(&'a self, files: &'a Files, ruling: &'a Ruling) -> Request<'a> {
        Request { files, ..self.request(ruling) }
    }

    /// The revision that it was read at, with everything that led to it.
    pub(super) fn revision(&self) -> Result<&git::Held, Failure> {
        self.held().map(|(_, held)| held)
    }

    /// The full id of the commit that it was read at.
    pub(super) fn commit(&self) -> Result<String, Failure> {
        Ok(self.held()?.1.commit()?.id().to_string())
    }

    /// The last commit that changed each file of a plan.
    pub(super) fn last_changes(&self, plan: &Plan) -> Result<BTreeMap<FilePath, git::LastChange>, Failure> {
        let documents: BTreeSet<&FilePath> = plan.entries.iter().map(|entry| &entry.file).collect();
        let made = |file: &FilePath| self.gathered.files.generator(file);
        let generators: Vec<_> = documents.iter().filter_map(|file| made(file)).collect();
        let files = documents.into_iter().filter(|file| made(file).is_none());
        let files = files.chain(generators.iter().flat_map(|generator| generator.files()));
        let mut changes = git::last_changes(&self.held()?.1, self.folder(), &files.collect())?;
        for generator in generators {
            let last = generator.files().filter_map(|file| changes.get(file)).max_by_key(|change| &change.date);
            if let Some(last) = last.cloned() {
                changes.insert(generator.document().clone(), last);
            }
        }
        Ok(changes)
    }

    /// What another revision of the repository, by the full id of its commit, has in the root that is not as it was handed
    /// over, and that no person accepted. It is read by the `regent.yaml` at hand, whatever that revision says.
    pub(super) fn slipped_in(
        &self,
        handed_over: &[ListedDocument],
        imported: &[ListedDocument],
        revision: &str,
    ) -> Result<Vec<Slipped>, Failure> {
        let (place, _) = self.held()?;
        let other = git::Held::open(place, revision, git::History::None)?;
        let files = if git::folder_id(&other, self.folder())?.is_some() {
            let name = format!("{}@{revision}", place.location);
            let mut gathered = git::gather_from(&other, &name, self.folder(), bounds(self.config.as_ref()))?;
            if let Some(config) = &self.config {
                built(&mut gathered, config, &self.store, &other)?;
            }
            let files = encrypted_files(&gathered.files, &self.bootstrap, &self.limits, git::blob_id);
            let unreadable = |refusal: Refusal| Failure::World { what: "compare", name, reason: refusal.to_string() };
            files.map_err(unreadable)?
        } else {
            Vec::new()
        };
        Ok(slipped_in(handed_over, imported, &files, &self.bootstrap.handover.accept_changed))
    }

    /// The rule of the operator's file for it, where there is such a file.
    pub(super) fn rule(&self) -> Result<Option<&Rule>, Failure> {
        let path = bootstrap_path(&self.gathered);
        let rule = self.config.as_ref().map(|config| config.rule_for(&self.bootstrap.name, &path)).transpose();
        Ok(rule.map_err(Refusal::from)?)
    }

    /// Its repository by each URL that a rule for it names; none where one of them takes any.
    pub(super) fn repositories(&self) -> Result<Vec<Repository>, Failure> {
        let (Some(config), Some(rule)) = (&self.config, self.rule()?) else { return Ok(Vec::new()) };
        let is_its = |other: &&Rule| other.authority == rule.authority && other.bootstrap == rule.bootstrap;
        let repositories: Option<Vec<Repository>> =
            config.rules.iter().filter(is_its).map(|rule| rule.repo.clone()).collect();
        Ok(repositories.unwrap_or_default())
    }

    /// Refuses a root of which a Kustomization applies documents, where no operator's file says so: under which names they are
    /// in the cluster is then not known.
    pub(super) async fn knows_its_kustomizations(&self, cluster: &Cluster, evidence: &Evidence) -> Result<(), Failure> {
        let DocumentList::Readable(listed) = evidence.documents() else { return Ok(()) };
        if self.config.as_ref().is_some_and(|config| !delivered_by_flux(config, &self.bootstrap).is_empty()) {
            return Ok(());
        }
        let all = kustomizations::if_served(cluster).await.map_err(|problem| cluster.failure(problem))?;
        let applies = |one: Kustomization| Some((one.tracks(&listed).into_iter().next()?, one.name));
        match all.into_iter().flatten().find_map(applies) {
            None => Ok(()),
            Some((secret, name)) => Err(Failure::Usage(format!(
                "Kustomization {name} applies {secret}, and what it makes of the root is not known: name the operator's file \
                 that has it (`--config`)"
            ))),
        }
    }

    /// Its folder in the repository.
    fn folder(&self) -> &str {
        self.gathered.root.as_deref().unwrap_or(".")
    }

    fn held(&self) -> Result<&(git::Place, git::Held), Failure> {
        self.held.as_ref().ok_or(Failure::Bug)
    }

    /// Connects to the cluster of the witnesses and to that of the Secrets, where it is another one.
    pub(super) async fn connect(&self, target_context: Option<&String>) -> Result<Connected, Failure> {
        // Whoever connects has refused a folder.
        let Store::Cluster(access) = &self.store else { return Err(Failure::Bug) };
        Connected::to(access, target_context).await
    }
}

impl Connected {
    /// The cluster of the witnesses, and that of the Secrets, where it is another one.
    pub(super) async fn to(access: &Access, target_context: Option<&String>) -> Result<Self, Failure> {
        let witnesses = Cluster::connect(access).await?;
        let target = match target_context {
            Some(context) => Cluster::connect(&Access { context: Some(context.clone()), ..access.clone() }).await?,
            None => witnesses.clone(),
        };
        let uids = Clusters {
            witness: installation::uid(&witnesses).await.map_err(|problem| witnesses.failure(problem))?,
            target: installation::uid(&target).await.map_err(|problem| target.failure(problem))?,
        };
        Ok(Self { witnesses, target, uids })
    }

    /// The copy of the Authority in a target that is another cluster than that of the witnesses, where it could be read.
    pub(super) async fn copy(&self, bootstrap: &Bootstrap) -> Option<AuthorityWitness> {
        if !self.is_hub() {
            return None;
        }
        match witness::read(&self.target, &bootstrap.name, &[bootstrap.epoch]).await.authority {
            Reading::Present(copy) => Some(copy),
            Reading::Absent | Reading::Unreadable(_) => None,
        }
    }

    /// Whether the Secrets are in another cluster than the witnesses.
    pub(super) fn is_hub(&self) -> bool {
        self.uids.witness != self.uids.target
    }
}

/// The entries of the operator's file that deliver a root.
pub(super) fn delivered_by_flux<'c>(config: &'c RegentConfig, bootstrap: &Bootstrap) -> Vec<&'c FluxApplication> {
    config.flux.applications.iter().filter(|application| application.authority == bootstrap.name).collect()
}

/// [`built`] of a folder on disk. Flux applies commits, so the folder has to be as the last one has it.
pub(super) fn built_on_disk(
    gathered: &mut Gathered,
    dir: &Path,
    config: &RegentConfig,
    store: &Store,
) -> Result<(), Failure> {
    let Some(bootstrap) = bootstrap_of(&gathered.files)? else { return Ok(()) };
    if delivered_by_flux(config, &bootstrap).is_empty() {
        return Ok(());
    }
    let cannot = |reason: &str| Failure::World {
        what: "follow the Kustomizations of",
        name: dir.display().to_string(),
        reason: reason.to_owned(),
    };
    let real = dir.canonicalize().map_err(|error| Failure::io("read", dir, &error))?;
    let top = source::dir::repository_top(&real).ok_or_else(|| cannot("it is in no Git repository"))?;
    let place = git::Place { location: Location::Folder(top), access: RemoteAccess::default() };
    let held = git::Held::open(&place, "HEAD", git::History::None)?;
    let name = format!("{}@HEAD", place.location);
    let committed = git::gather_from(&held, &name, gathered.root.as_deref().unwrap_or("."), bounds(Some(config)))?;
    if !is_same(&gathered.files, &committed.files) {
        return Err(cannot("it has changes that are not committed, and Flux applies commits"));
    }
    built(gathered, config, store, &held)
}

/// Whether two folders hold the same, as far as it is read.
fn is_same(one: &Files, other: &Files) -> bool {
    let read = |files: &Files| -> BTreeMap<FilePath, Vec<u8>> {
        let bytes = |(path, content): (&FilePath, &Content)| match content {
            Content::Bytes(bytes) => Some((path.clone(), bytes.clone())),
            Content::TooLarge { .. } | Content::BadLink | Content::Special | Content::NotRead => None,
        };
        files.iter().filter_map(bytes).collect()
    };
    read(one) == read(other)
}

/// Has the Kustomizations of the operator's file decide what becomes of a root that Flux delivers: as they are in the cluster now,
/// with the repository as that commit has it.
pub(super) fn built(
    gathered: &mut Gathered,
    config: &RegentConfig,
    store: &Store,
    held: &git::Held,
) -> Result<(), Failure> {
    let Some(bootstrap) = bootstrap_of(&gathered.files)? else { return Ok(()) };
    let applications = delivered_by_flux(config, &bootstrap);
    let names: Vec<&ObjectName> = applications.iter().map(|application| &application.kustomization).collect();
    let (Store::Cluster(access), false) = (store, names.is_empty()) else { return Ok(()) };
    // Whoever calls may be in a runtime of its own.
    let kustomizations = std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            cluster::block_on(async {
                let cluster = Cluster::connect(access).await?;
                let mut found = Vec::with_capacity(names.len());
                for name in &names {
                    let kustomization = flux::kustomization(&cluster, name).await;
                    let missing = || Failure::World {
                        what: "find",
                        name: format!("Kustomization {name}"),
                        reason: "it does not exist, and the operator's file says that it applies this root".to_owned(),
                    };
                    found.push(kustomization.map_err(|problem| cluster.failure(problem))?.ok_or_else(missing)?);
                }
                Ok(found)
            })
        });
        asked.join().unwrap_or(Err(Failure::Bug))
    })?;
    let limits = Limits { document: config.limits.document, ..Limits::default() };
    let whole = Tree::of_commit(held, &gathered.label, UploadLimits::of(&config.limits), None)?.whole(limits.document);
    let reaches: Vec<Reach> = kustomizations
        .into_iter()
        .zip(&applications)
        .map(|(kustomization, application)| reach_of(&whole, kustomization, application, &limits))
        .collect::<Result<_, _>>()?;
    let root = gathered.root.as_deref().filter(|root| *root != ".").map(FilePath::parse).transpose();
    let root = root.map_err(|bad| Failure::Usage(bad.to_string()))?;
    let of_all = names.into_iter().zip(&reaches);
    let in_tree = reached::Place { repository: &whole, root: root.as_ref(), limits: &limits };
    let listed = reached::listing_of_all(of_all, in_tree, &gathered.files, &bootstrap)?;
    gathered.files = std::mem::take(&mut gathered.files).built_as(listed);
    Ok(())
}

/// What a Kustomization reaches. Without an artifact the patch that lets go is left out: it changes nothing of what a document
/// is, and is there only once Vault rules.
fn reach_of(
    whole: &Files,
    kustomization: flux::Kustomization,
    application: &FluxApplication,
    limits: &Limits,
) -> Result<Reach, Refusal> {
    let flux::Kustomization { uid: _, path, mut overrides } = kustomization;
    match &application.delivery {
        Delivery::Artifact(_) => Ok(reach::reach(whole, &path, &overrides, limits)),
        Delivery::Patches(_) => {
            overrides.patches = patches::without_letting_go(overrides.patches, &application.authority)?;
            let reach = reach::reach(whole, &path, &overrides, limits);
            patches::reaches(&reach)?;
            Ok(reach)
        }
    }
}

/// Where the authority is kept. `ways` are the options that say so.
pub(super) fn store_of(
    command: &str,
    ways: &str,
    store: &StoreArgs,
    config: Option<&RegentConfig>,
) -> Result<Store, Failure> {
    config::store(store, config)
        .ok_or_else(|| Failure::Usage(format!("`{command}` needs to know where the authority is kept: {ways}")))
}

fn bounds(config: Option<&RegentConfig>) -> Bounds {
    Bounds::of(&config.map(|config| config.limits).unwrap_or_default())
}

/// The command line as it was typed, with more words: what a stop prints so that a person can go on. Nothing secret is
/// ever on a command line.
pub(super) fn typed_with(more: &[String]) -> String {
    let typed = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let words = std::iter::once("regent".to_owned()).chain(typed).chain(more.iter().cloned());
    words.map(|word| quoted(&word)).collect::<Vec<_>>().join(" ")
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "_-./:=@,+%".contains(char);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_typed() {
        for (word, expected) in
            [("a/b", "a/b"), ("", "''"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("$(x)", "'$(x)'")]
        {
            assert_eq!(quoted(word), expected);
        }
    }
}
