//! What Argo CD renders of the root, who delivers its Secrets, and what keeps controllers off them.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt as _};
use regent_core::evidence::{ListedClass, ListedDocument};
use regent_core::live::{Guard, LiveSecret};
use regent_core::name::SecretName;
use regent_core::repository::Repository;
use regent_core::retire::{Delivers, Step, delivery, overlap};
use regent_core::rules::RegentConfig;
use regent_core::settle::{
    Application, ApplicationName, NOT_COMPARED, Plugin, Scope, Shape, Source, affected, rendering,
};
use serde_json::{Value, json};

use super::super::handover::preflight::place;
use super::super::root::{quoted, typed_with};
use super::tree::{Folder, SealedFile, below};
use super::{Run, Told};
use crate::cluster::secrets::delivering;
use crate::cluster::{Cluster, ClusterError, applications};
use crate::failure::Failure;
use crate::source::BOOTSTRAP;

/// Secrets looked at together.
const AT_ONCE: usize = 16;

/// Everything that Applications are.
struct Argo<'a> {
    applications: &'a [Application],
    scope: Scope<'a>,
    affected: BTreeSet<&'a ApplicationName>,
    rendering: Vec<&'a Application>,
    root: &'a str,
    commit: &'a str,
    listed: &'a [ListedDocument],
}

/// Folders of the commit, each looked into once.
type Folders = BTreeMap<String, Result<Option<Folder>, String>>;

impl Run<'_> {
    pub(super) async fn of_argocd(
        &self,
        config: Option<&RegentConfig>,
        listed: &Result<Vec<ListedDocument>, String>,
    ) -> Result<Vec<(Step, Told)>, Failure> {
        let all = match applications::if_served(&self.connected.witnesses).await {
            Ok(all) => all.unwrap_or_default().iter().map(applications::parsed).collect::<Vec<_>>(),
            Err(problem) => {
                let why = format!("Argo CD's Applications cannot be looked at: {problem}");
                let steps = [Step::Guards, Step::Delivery, Step::Files, Step::Plugin];
                return Ok(steps.map(|step| (step, Told::unknown(&why))).into());
            }
        };
        let (plugin, root, commit) = (self.argocd.plugin(), self.root(), self.tree.commit()?);
        let known: &[ListedDocument] = listed.as_deref().unwrap_or_default();
        let any = Scope { plugin: &plugin, repositories: &[], root: Some(&root), listed: known };
        let repositories = self.repositories(config, &all, &any);
        let scope = Scope { repositories: &repositories, ..any };
        let argo = Argo {
            applications: &all,
            scope,
            affected: affected(&all, &scope).into_iter().map(|application| &application.name).collect(),
            rendering: rendering(&all, &scope),
            root: &root,
            commit: &commit,
            listed: known,
        };
        let mut folders = Folders::new();
        let paths = argo.sources().map(|(_, _, source)| source.path.clone()).chain([root.clone()]);
        for path in paths {
            folders.entry(path).or_insert_with_key(|path| self.tree.folder(path));
        }
        let guards = match listed {
            Ok(listed) => self.guards(listed).await,
            Err(why) => Told::unknown(why),
        };
        let delivery = match listed {
            Ok(listed) => self.delivery(listed, &argo, &folders).await,
            Err(why) => Told::unknown(why),
        };
        Ok(vec![
            (Step::Guards, guards),
            (Step::Delivery, delivery),
            (Step::Files, argo.files(&folders)),
            (Step::Plugin, self.plugin(&argo, &folders)),
        ])
    }

    /// The root's repository: by the rules, else as those Applications name it that have the plugin render the root.
    fn repositories(&self, config: Option<&RegentConfig>, all: &[Application], any: &Scope<'_>) -> Vec<Repository> {
        let rules = config.iter().flat_map(|config| &config.rules);
        let its = rules.filter(|rule| rule.authority == self.tree.bootstrap.name).map(|rule| rule.repo.clone());
        let its: Option<Vec<Repository>> = its.collect();
        match its {
            Some(its) if !its.is_empty() => its,
            Some(_) | None => {
                let deployed = all.iter().flat_map(|it| it.deployed.iter().flat_map(|deployed| &deployed.sources));
                let sources = all.iter().flat_map(|it| &it.sources).chain(deployed);
                sources.filter(|source| any.reaches(source)).map(|source| Repository::new(&source.repo)).collect()
            }
        }
    }

    /// What keeps controllers off the live objects once no stub stands for them. The label is the lock's alone.
    async fn guards(&self, listed: &[ListedDocument]) -> Told {
        let (authority, target) = (&self.tree.bootstrap.name, &self.connected.target);
        let kinds: BTreeSet<&str> = listed.iter().map(|it| it.kind.as_str()).collect();
        let mut resources = BTreeMap::new();
        for kind in kinds {
            match resource(target, kind).await {
                Ok(resource) => drop(resources.insert(kind, resource)),
                Err(problem) => return Told::unknown(format!("{kind} of {}: {problem}", target.name())),
            }
        }
        let objects: BTreeSet<(&str, &SecretName)> = listed.iter().map(|it| (it.kind.as_str(), &it.name)).collect();
        let look = async |(kind, name): (&str, &SecretName)| {
            let object = format!("{} {name}", kind.rsplit('/').next().unwrap_or(kind));
            let path = resources.get(kind).map(|resource| resource.path(name)).unwrap_or_default();
            (object, name.clone(), target.get_metadata(&path).await)
        };
        let seen: Vec<_> = stream::iter(objects).map(look).buffered(AT_ONCE).collect().await;
        let (mut left, mut commands) = (Vec::new(), Vec::new());
        for (object, name, metadata) in seen {
            let live = match metadata {
                Ok(Some(metadata)) => LiveSecret::of_metadata(&metadata),
                Ok(None) => continue,
                Err(problem) => return Told::unknown(format!("{object}: {problem}")),
            };
            let missing = live.missing_guards(authority).into_iter().filter(|guard| *guard != Guard::Label);
            let missing: Vec<&str> = missing.map(Guard::name).collect();
            if missing.is_empty() {
                continue;
            }
            left.push(format!("{object} lacks {}", missing.join(", ")));
            let patch = json!({ "metadata": { "annotations": live.guarded(authority)["annotations"] } });
            let (kind, _) = object.split_once(' ').unwrap_or((&object, ""));
            commands.push(format!(
                "{} -n {} patch {} {} --type merge -p {}",
                self.kubectl_target(),
                name.namespace(),
                kind.to_lowercase(),
                name.name(),
                quoted(&patch.to_string())
            ));
        }
        Told::left(left, commands)
    }

    async fn delivery(&self, listed: &[ListedDocument], argo: &Argo<'_>, folders: &Folders) -> Told {
        let live = match delivering(&self.connected.target).await {
            Ok(live) => live,
            Err(problem) => return Told::unknown(format!("who delivers cannot be looked at: {problem}")),
        };
        let name = self.tree.bootstrap.name.as_str();
        let live: Vec<Delivers> = live
            .into_iter()
            .map(|(delivery, authority)| Delivers {
                object: delivery.object,
                secret: delivery.secret,
                is_regents: authority.as_deref() == Some(name),
            })
            .collect();
        let paths: BTreeSet<&str> = argo.delivering().into_iter().chain([argo.root]).collect();
        let in_git: BTreeSet<String> = paths
            .into_iter()
            .filter_map(|path| folders.get(path)?.as_ref().ok()?.as_ref())
            .flat_map(|folder| folder.delivering.iter().cloned())
            .collect();
        let left = delivery(self.after(), listed, &live, &in_git);
        let file = quoted(&below(&self.root(), "delivery.yaml"));
        let commands = vec![
            format!("{} > {file}", typed_with(&["--manifests".to_owned()])),
            format!("git add {file} && git commit -m 'deliver from Vault without regent'"),
        ];
        Told::left(left, commands)
    }

    /// The plugin's name in Applications. What takes its place renders the same folder, without what was listed there and what
    /// is left out now. A sync to an older commit applies none of that; a file that had another path then is in no list.
    fn plugin(&self, argo: &Argo<'_>, folders: &Folders) -> Told {
        let unrendered = self.tree.unrendered();
        let (mut left, mut commands) = (Vec::new(), Vec::new());
        for application in &argo.rendering {
            let ApplicationName { namespace, name } = &application.name;
            let sources = application.sources.iter().enumerate().filter(|(_, source)| argo.scope.reaches(source));
            let mut patch = Vec::new();
            for (at, source) in sources {
                let place = match application.shape {
                    Shape::One => "/spec/source".to_owned(),
                    Shape::Each => format!("/spec/sources/{at}"),
                };
                left.push(format!("{} names the plugin for {}", application.name, source.path));
                // One that Argo CD discovered has no such block, and to remove nothing is an error.
                patch.push(json!({ "op": "add", "path": format!("{place}/plugin"), "value": {} }));
                patch.push(json!({ "op": "remove", "path": format!("{place}/plugin") }));
                let is_kustomized = matches!(folders.get(&source.path), Some(Ok(Some(folder))) if folder.is_kustomized);
                if !is_kustomized {
                    let directory = json!({ "recurse": true, "exclude": argo.excluded(source, &unrendered) });
                    patch.push(json!({ "op": "add", "path": format!("{place}/directory"), "value": directory }));
                }
            }
            commands.push(format!(
                "{} -n {namespace} patch application {name} --type json -p {}",
                self.kubectl(),
                quoted(&Value::Array(patch).to_string())
            ));
        }
        let without = argo.applications.iter().filter(|application| {
            argo.affected.contains(&application.name) && argo.rendering.iter().all(|it| it.name != application.name)
        });
        for application in without {
            let error = application.conditions.iter().find(|it| NOT_COMPARED.contains(&it.kind.as_str()));
            left.extend(error.map(|error| format!("{} cannot be compared: {}", application.name, error.told())));
        }
        Told::left(left, commands)
    }
}

/// Where the objects of a kind are.
struct Resource {
    api: String,
    plural: String,
    namespaced: bool,
}

impl Resource {
    fn path(&self, name: &SecretName) -> String {
        let Self { api, plural, namespaced } = self;
        if *namespaced {
            format!("{api}/namespaces/{}/{plural}/{}", name.namespace(), name.name())
        } else {
            format!("{api}/{plural}/{}", name.name())
        }
    }
}

/// Of a kind as the list names it: `Secret`, `apps/v1/Deployment`.
async fn resource(cluster: &Cluster, kind: &str) -> Result<Resource, ClusterError> {
    let (api, kind) = match kind.rsplit_once('/') {
        Some((version, kind)) if version.contains('/') => (format!("/apis/{version}"), kind),
        Some((version, kind)) => (format!("/api/{version}"), kind),
        None => ("/api/v1".to_owned(), kind),
    };
    let served = cluster.get(&api).await?.unwrap_or_default();
    let resources = served["resources"].as_array().map(Vec::as_slice).unwrap_or_default();
    // A subresource has a kind, too.
    let is_it = |it: &&Value| it["kind"] == kind && it["name"].as_str().is_some_and(|name| !name.contains('/'));
    let found = resources.iter().find(is_it).ok_or_else(|| ClusterError::NotServed(format!("{api} {kind}")))?;
    let plural = found["name"].as_str().unwrap_or_default().to_owned();
    Ok(Resource { api, plural, namespaced: found["namespaced"] == true })
}

impl<'a> Argo<'a> {
    /// Sources of the repository that Argo CD itself renders, and those that this plugin has of the root, each with its
    /// Application.
    fn sources(&self) -> impl Iterator<Item = (&'a Application, bool, &'a Source)> + '_ {
        let is_plain_or_ours = |source: &&Source| match &source.plugin {
            Plugin::None => self.scope.is_of_repository(source),
            Plugin::Any | Plugin::Named(_) => self.scope.reaches(source),
        };
        self.applications.iter().flat_map(move |application| {
            let is_affected = self.affected.contains(&application.name);
            application.sources.iter().filter(is_plain_or_ours).map(move |source| (application, is_affected, source))
        })
    }

    /// Paths of the repository whose objects Argo CD applies where the root's go.
    fn delivering(&self) -> BTreeSet<&'a str> {
        let sources = self.sources().filter(|(application, ..)| self.goes_where_the_root_goes(application));
        sources.map(|(_, _, source)| source.path.as_str()).collect()
    }

    /// Whether an Application deploys into a cluster that the root is deployed into. Once nobody is affected any more it is
    /// whoever has the root's folder.
    fn goes_where_the_root_goes(&self, application: &Application) -> bool {
        let has_root = |it: &Application| {
            it.sources.iter().any(|source| self.scope.is_of_repository(source) && overlap(self.root, &source.path))
        };
        let ours =
            |it: &Application| if self.affected.is_empty() { has_root(it) } else { self.affected.contains(&it.name) };
        let cluster = place(&application.destination);
        self.applications.iter().filter(|it| ours(it)).any(|it| place(&it.destination) == cluster)
    }

    /// Ciphertext in the path of an Application, and whether Argo CD has seen that there is none.
    fn files(&self, folders: &Folders) -> Told {
        let mut found: BTreeMap<&str, (&SealedFile, BTreeSet<String>)> = BTreeMap::new();
        let mut left = Vec::new();
        for (application, is_affected, source) in self.sources() {
            let folder = match folders.get(&source.path) {
                Some(Ok(Some(folder))) => folder,
                Some(Ok(None)) if is_affected => {
                    left.push(format!("{}: this commit has no folder {}", application.name, source.path));
                    continue;
                }
                Some(Err(why)) if is_affected => return Told::unknown(format!("{}: {why}", source.path)),
                Some(Err(why)) if overlap(self.root, &source.path) => {
                    return Told::unknown(format!("{}, which {} has: {why}", source.path, application.name));
                }
                // What Argo CD renders there was never regent's.
                Some(Ok(None) | Err(_)) | None => continue,
            };
            // Elsewhere the same name is another object.
            let named: &[ListedDocument] = if self.goes_where_the_root_goes(application) { self.listed } else { &[] };
            let is_its = |file: &&SealedFile| is_affected || file.is_of(self.listed, named, self.root);
            for file in folder.sealed.iter().filter(is_its) {
                let renders =
                    if self.scope.reaches(source) { "renders" } else { "applies as it is, without the plugin" };
                let by = found.entry(&file.path).or_insert_with(|| (file, BTreeSet::new()));
                by.1.insert(format!("{} {renders}", application.name));
            }
        }
        let mut commands = Vec::new();
        for (path, (file, by)) in &found {
            let by: Vec<&str> = by.iter().map(String::as_str).collect();
            left.push(format!("{path}, which {}", by.join(" and ")));
            commands.push(self.moved(path, file));
        }
        if !found.is_empty() {
            commands.push("git commit -m 'what is encrypted lies where no Application looks'".to_owned());
            return Told::left(left, commands);
        }
        for application in &self.rendering {
            if !application.compared.iter().any(|revision| revision == self.commit) {
                left.push(format!("{} has not compared this commit yet", application.name));
                commands.push(format!("regent refresh {}", application.name));
            }
        }
        Told::left(left, commands)
    }

    /// How a file leaves the paths: what Vault has goes, what the next bootstrap needs is kept.
    fn moved(&self, path: &str, file: &SealedFile) -> String {
        let quote = quoted(path);
        if file.is_mixed {
            return format!("sops edit {quote}    # take what is not encrypted into a file of its own first");
        }
        let is_its = |document: &&ListedDocument| below(self.root, document.path.as_str()) == path;
        let mut its = self.listed.iter().filter(is_its).peekable();
        let is_vaults = its.peek().is_some() && its.all(|document| document.class == ListedClass::Handover);
        if is_vaults {
            return format!("git rm {quote}");
        }
        let kept = format!("{KEPT}/{path}");
        let folder = kept.rsplit_once('/').map_or(KEPT, |(folder, _)| folder);
        format!("mkdir -p {} && git mv {quote} {}", quoted(folder), quoted(&kept))
    }

    /// A glob of Argo CD's over everything that was ever listed, `regent.yaml`, and what regent did not render either, in the
    /// folder of a source.
    fn excluded(&self, source: &Source, unrendered: &[String]) -> String {
        let files = self.listed.iter().map(|document| document.path.as_str()).chain([BOOTSTRAP]);
        let files = files.chain(unrendered.iter().map(String::as_str));
        let path = source.path.trim_matches('/');
        let inside = files.filter_map(|file| {
            let file = below(self.root, file);
            if path.is_empty() || path == "." {
                Some(file)
            } else {
                Some(file.strip_prefix(path)?.strip_prefix('/')?.to_owned())
            }
        });
        let inside: BTreeSet<String> = inside.map(|file| literally(&file)).collect();
        let all: Vec<&str> = inside.iter().map(String::as_str).collect();
        if let [one] = all.as_slice() { (*one).to_owned() } else { format!("{{{}}}", all.join(",")) }
    }
}

/// Where what is encrypted is kept, unless somebody has a better place.
const KEPT: &str = "kept";

/// A path as a glob that means it alone.
fn literally(path: &str) -> String {
    let mut glob = String::with_capacity(path.len());
    for char in path.chars() {
        if "*?[]{},\\!".contains(char) {
            glob.push('\\');
        }
        glob.push(char);
    }
    glob
}

#[cfg(test)]
mod tests {
    use regent_core::retire::Seen;
    use regent_core::settle::{Destination, Operation};

    use super::*;

    fn listed(path: &str, class: ListedClass) -> ListedDocument {
        ListedDocument {
            path: regent_core::name::FilePath::parse(path).unwrap(),
            name: SecretName::parse("app/x").unwrap(),
            kind: "Secret".to_owned(),
            class,
            blob: String::new(),
        }
    }

    fn argo<'a>(listed: &'a [ListedDocument], root: &'a str) -> Argo<'a> {
        let scope = Scope { plugin: "regent-v1", repositories: &[], root: Some(root), listed };
        let (affected, rendering) = (BTreeSet::new(), Vec::new());
        Argo { applications: &[], scope, affected, rendering, root, commit: "c", listed }
    }

    #[test]
    fn what_takes_the_plugins_place_leaves_out_all_that_was_ever_listed() {
        let list = [listed("db.yaml", ListedClass::Handover), listed("argocd/creds.yaml", ListedClass::Permanent)];
        let argo = argo(&list, "clusters/prod");
        let excluded = |path: &str| {
            let (repo, target_revision) = (String::new(), String::new());
            let source = Source { repo, path: path.to_owned(), target_revision, plugin: Plugin::None };
            argo.excluded(&source, &["docs/a.yaml".to_owned()])
        };
        assert_eq!(excluded("clusters/prod"), "{argocd/creds.yaml,db.yaml,docs/a.yaml,regent.yaml}");
        assert_eq!(excluded("clusters/prod/argocd"), "creds.yaml");
        let all = "{clusters/prod/argocd/creds.yaml,clusters/prod/db.yaml,clusters/prod/docs/a.yaml,clusters/prod/regent.yaml}";
        assert_eq!(excluded("."), all);
        assert_eq!(excluded(""), all);
    }

    fn application(name: &str, server: &str, plugin: Plugin) -> Application {
        let (repo, path) = ("https://git.example/infra.git".to_owned(), format!("clusters/{name}"));
        Application {
            name: ApplicationName { namespace: "argocd".to_owned(), name: name.to_owned() },
            destination: Destination { server: server.to_owned(), cluster: String::new(), namespace: String::new() },
            shape: Shape::One,
            sources: vec![Source { repo, path, target_revision: String::new(), plugin }],
            deployed: Vec::new(),
            synced: None,
            compared: Vec::new(),
            operation: Operation::None,
            is_refreshing: false,
            reconciled_at: None,
            rows: Vec::new(),
            conditions: Vec::new(),
        }
    }

    #[test]
    fn what_goes_elsewhere_delivers_nothing_and_what_another_authority_renders_is_not_its() {
        let regent = || Plugin::Named("regent-v1".to_owned());
        let all = [
            application("prod", "https://prod", regent()),
            application("delivery", "https://prod", Plugin::None),
            application("edge", "https://edge", Plugin::None),
            application("lab", "https://prod", Plugin::Any),
        ];
        let argo = Argo { applications: &all, affected: BTreeSet::from([&all[0].name]), ..argo(&[], "clusters/prod") };
        assert_eq!(argo.delivering(), BTreeSet::from(["clusters/prod", "clusters/delivery"]));
        let paths: Vec<&str> = argo.sources().map(|(_, _, source)| source.path.as_str()).collect();
        assert_eq!(paths, ["clusters/prod", "clusters/delivery", "clusters/edge"]);
        // Once the plugin is gone, and what was deployed with it.
        let argo = Argo { affected: BTreeSet::new(), ..argo };
        assert_eq!(argo.delivering(), BTreeSet::from(["clusters/prod", "clusters/delivery"]));
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_not_known_where_the_root_may_lie_in_it() {
        let all =
            [application("prod", "https://prod", Plugin::None), application("edge", "https://prod", Plugin::None)];
        let argo = Argo { applications: &all, ..argo(&[], "clusters/prod/secrets") };
        let unread = |name: &str| Folders::from([(format!("clusters/{name}"), Err("no YAML".to_owned()))]);
        assert!(matches!(argo.files(&unread("prod")).seen, Seen::Unknown(_)));
        assert_eq!(argo.files(&unread("edge")).seen, Seen::Gone);
    }

    #[test]
    fn what_vault_has_is_removed_and_what_the_next_bootstrap_needs_is_moved() {
        let list = [listed("db.yaml", ListedClass::Handover), listed("creds.yaml", ListedClass::Permanent)];
        let argo = argo(&list, "prod");
        let typed = |path: &str, is_mixed| argo.moved(path, &SealedFile::new(path, is_mixed));
        assert_eq!(typed("prod/db.yaml", false), "git rm prod/db.yaml");
        assert_eq!(
            typed("prod/creds.yaml", false),
            "mkdir -p kept/prod && git mv prod/creds.yaml kept/prod/creds.yaml"
        );
        // What is not listed is nobody's yet.
        assert_eq!(typed("prod/new.yaml", false), "mkdir -p kept/prod && git mv prod/new.yaml kept/prod/new.yaml");
        assert!(typed("prod/db.yaml", true).starts_with("sops edit prod/db.yaml "));
    }

    #[test]
    fn a_glob_means_the_file_alone() {
        assert_eq!(literally("a/b.yaml"), "a/b.yaml");
        assert_eq!(literally("a[1]{x,y}*.yaml"), r"a\[1\]\{x\,y\}\*.yaml");
    }
}
