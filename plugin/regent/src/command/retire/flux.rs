//! The way back to the plain repository: stubs in place of the encrypted documents, then the Kustomizations.

use std::collections::{BTreeMap, BTreeSet};

use regent_core::evidence::ListedDocument;
use regent_core::files::{Content, Files};
use regent_core::flux::observed::{Kustomization, SourceRef};
use regent_core::flux::reach::{self, Generated, Place, Use};
use regent_core::flux::{artifact, generator};
use regent_core::kustomization;
use regent_core::name::{FilePath, ObjectName};
use regent_core::rules::{Delivery, FluxApplication, FluxArtifact, FluxSource, RegentConfig};
use regent_core::survey::{Sealing, SurveyedFile, survey};
use regent_sops::Keyring;
use serde_json::{Value, json};

use super::super::root::quoted;
use super::{Run, Told};
use crate::cluster::flux::{self, external_artifact_path};
use crate::cluster::{ClusterError, kustomizations};
use crate::failure::Failure;

impl Run<'_> {
    /// What of Flux still needs regent. Stubs come first: a Kustomization that meets ciphertext without its key fails.
    pub(super) async fn of_flux(
        &self,
        config: Option<&RegentConfig>,
        listed: &Result<Vec<ListedDocument>, String>,
    ) -> Told {
        let listed = listed.as_deref().unwrap_or_default();
        let all = config.into_iter().flat_map(|config| &config.flux.applications);
        let applications: Vec<&FluxApplication> =
            all.filter(|application| application.authority == self.tree.bootstrap.name).collect();
        let taking = match kustomizations::if_served(&self.connected.witnesses).await {
            Ok(None) => return Told::gone(),
            Ok(Some(all)) => all.into_iter().filter(|one| takes(one, &applications, listed)).collect::<Vec<_>>(),
            Err(problem) => return Told::unknown(format!("Flux' Kustomizations cannot be looked at: {problem}")),
        };
        if taking.is_empty() {
            return match self.artifacts_left(&applications).await {
                Ok((left, commands)) => Told::left(left, commands),
                Err(problem) => Told::unknown(problem),
            };
        }
        let made: Vec<_> = listed.iter().filter(|document| self.is_made(document)).collect();
        let encrypted = self.encrypted(listed);
        let places = if made.is_empty() && encrypted.is_empty() {
            BTreeMap::new()
        } else {
            match self.places(&applications).await {
                Ok(places) => places,
                Err(failure) => return Told::unknown(format!("what becomes of names cannot be looked at: {failure}")),
            }
        };
        if !made.is_empty() {
            let left = made.iter().map(|document| {
                format!(
                    "{} of this commit is a `secretGenerator` with encrypted inputs, and no stub: its kustomization lists \
                     `regent-generated/{}` instead of the entry",
                    document.path,
                    document.path.file_name()
                )
            });
            let commands = made.iter().filter_map(|document| self.folder(document, &places));
            return Told::left(left.collect(), commands.collect());
        }
        if !encrypted.is_empty() {
            let left = encrypted.keys().map(|file| format!("{file} of this commit is encrypted, and no stub"));
            let commands = encrypted.iter().filter_map(|(file, documents)| self.stubs(file, documents, &places));
            return Told::left(left.collect(), commands.collect());
        }
        match self.unlisted_bootstrap(&applications).await {
            Ok(None) => {}
            Ok(Some(told)) => return told,
            Err(failure) => return Told::unknown(format!("what a Kustomization lists cannot be looked at: {failure}")),
        }
        let left = taking.iter().map(|one| match application_of(one, &applications).map(|it| &it.delivery) {
            Some(Delivery::Patches(_)) => format!("Kustomization {} decrypts with regent", one.name),
            Some(Delivery::Artifact(_)) | None => format!("Kustomization {} takes {}", one.name, one.source),
        });
        let commands = taking.iter().map(|one| self.points_back(one, &applications));
        Told::left(left.collect(), commands.collect())
    }

    /// Files of the commit that still hold ciphertext, with what was handed over of each.
    fn encrypted<'l>(&self, listed: &'l [ListedDocument]) -> BTreeMap<FilePath, Vec<&'l ListedDocument>> {
        let none = Keyring::default();
        let (files, bootstrap) = (&self.tree.gathered.files, &self.tree.bootstrap);
        let (surveyed, problems) = survey(files, Some(bootstrap), &none, &self.tree.limits);
        let is_sealed = |file: &SurveyedFile| match file.sealing {
            Sealing::Sops { .. } | Sealing::Whole => true,
            Sealing::Clear => false,
        };
        let mut sealed: BTreeSet<FilePath> = surveyed.into_iter().filter(is_sealed).map(|file| file.file).collect();
        if !problems.is_empty() {
            // A kustomization says more than is followed here; Flux follows it, so every file counts.
            let looks = |(path, content): &(&FilePath, &Content)| {
                let is_encrypted = matches!(content, Content::Bytes(bytes) if artifact::is_encrypted(path, bytes));
                is_encrypted && !bootstrap.excluded(path)
            };
            sealed.extend(files.iter().filter(looks).map(|(path, _)| path.clone()));
        }
        let its = |file: &FilePath| listed.iter().filter(|document| document.path == *file).collect();
        sealed.into_iter().map(|file| (file.clone(), its(&file))).collect()
    }

    /// What has to be in the commit first where no kustomization says which files of the root are manifests: kustomize-controller
    /// takes all of them for objects then, and `regent.yaml`, which no artifact holds, is none.
    async fn unlisted_bootstrap(&self, applications: &[&FluxApplication]) -> Result<Option<Told>, Failure> {
        let (cluster, whole) = (&self.connected.witnesses, self.tree.repository()?);
        let root = self.tree.gathered.root.as_deref().filter(|root| *root != ".").unwrap_or_default();
        for application in applications {
            let found = flux::kustomization(cluster, &application.kustomization).await;
            let Some(one) = found.map_err(|problem| cluster.failure(problem))? else { continue };
            if !meets_bootstrap(&whole, &one.path, root) {
                continue;
            }
            let folder = self.tree.path_of("kustomization.yaml");
            let left = vec![format!(
                "{folder} is not in this commit, and without one that lists the manifests (and folders with a kustomization) Flux \
                 takes regent.yaml, which regent leaves out, for an object"
            )];
            // What a kustomization below makes of its files is no list of files.
            let has_more = self.tree.gathered.files.iter().any(|(path, _)| is_kustomization(path));
            if has_more {
                return Ok(Some(Told::left(left, Vec::new())));
            }
            let files = self.places(applications).await?;
            let listed: Vec<&str> = files.keys().map(FilePath::as_str).collect();
            let (file, text) = (quoted(&folder), quoted(&json!({ "resources": listed }).to_string()));
            let command = format!(
                "printf '%s\\n' {text} > {file} && git add {file} && git commit {file} -m 'the manifests, and no others'"
            );
            return Ok(Some(Told::left(left, vec![command])));
        }
        Ok(None)
    }

    /// Whether a generator of the commit still makes a document of ciphertext.
    fn is_made(&self, document: &ListedDocument) -> bool {
        generator::still_made(&self.tree.gathered.files, &document.path, &self.tree.limits)
    }

    /// What the Kustomizations make of the names in each file, by paths relative to the root. Of one that is gone nobody tells.
    async fn places(&self, applications: &[&FluxApplication]) -> Result<BTreeMap<FilePath, Place>, Failure> {
        let (cluster, whole) = (&self.connected.witnesses, self.tree.repository()?);
        let mut places = BTreeMap::new();
        for application in applications {
            let found = flux::kustomization(cluster, &application.kustomization).await;
            let Some(one) = found.map_err(|problem| cluster.failure(problem))? else { continue };
            let reach = reach::reach(&whole, &one.path, &one.overrides, &self.tree.limits);
            let of_generators = reach.generators.into_iter();
            let document = |it: &Generated| FilePath::parse(&format!("{}/{}", it.file, it.name)).ok();
            let of_generators = of_generators.filter_map(|it| Some((document(&it)?, it.place)));
            let of_files = reach.files.into_iter().flat_map(|(file, uses)| {
                let place = |used| match used {
                    Use::Resource { place, .. } => Some(place),
                    Use::Kustomization | Use::GeneratorInput { .. } | Use::Patch { .. } | Use::Other { .. } => None,
                };
                uses.into_iter().filter_map(place).map(move |place| (file.clone(), place))
            });
            let in_root =
                of_files.chain(of_generators).filter_map(|(file, place)| Some((self.tree.inside(&file)?, place)));
            places.extend(in_root);
        }
        Ok(places)
    }

    /// Writes the folder that stands for a generator beside its kustomization.
    fn folder(&self, document: &ListedDocument, places: &BTreeMap<FilePath, Place>) -> Option<String> {
        let own = document.path.file_name();
        let becomes = places.get(&document.path).map_or_else(|| own.to_owned(), |place| place.name(own));
        let folder = document.path.parent()?.join(&format!("regent-generated/{own}"))?;
        let folder = quoted(&self.tree.path_of(folder.as_str()));
        let stub = stub(document, own);
        let mut kustomization = json!({ "resources": ["secret.yaml"] });
        if let Some(suffix) = document.name.name().strip_prefix(&becomes).filter(|suffix| !suffix.is_empty()) {
            kustomization["nameSuffix"] = json!(suffix);
        }
        Some(format!(
            "mkdir -p {folder} && printf '%s\\n' '{stub}' > {folder}/secret.yaml && \
             printf '%s\\n' '{kustomization}' > {folder}/kustomization.yaml && git add {folder}"
        ))
    }

    /// Writes the stubs of a file in its place; `None` where that is not one command.
    fn stubs(
        &self,
        file: &FilePath,
        documents: &[&ListedDocument],
        places: &BTreeMap<FilePath, Place>,
    ) -> Option<String> {
        let nowhere = Place::default();
        let place = places.get(file).unwrap_or(&nowhere);
        let own = |document: &&ListedDocument| {
            let name = place.own(document.name.name()).filter(|_| document.kind == "Secret")?;
            Some(stub(document, name).to_string())
        };
        let stubs = documents.iter().map(own).collect::<Option<Vec<_>>>().filter(|stubs| !stubs.is_empty())?;
        let path = quoted(&self.tree.path_of(file.as_str()));
        let stubs = stubs.join("' --- '");
        Some(format!("printf '%s\\n' '{stubs}' > {path} && git commit {path} -m 'a stub: Vault has it'"))
    }

    /// Has a Kustomization take its tree from the repository, and decrypt nothing.
    fn points_back(&self, kustomization: &Kustomization, applications: &[&FluxApplication]) -> String {
        let repository =
            application_of(kustomization, applications).and_then(|application| match &application.delivery {
                Delivery::Artifact(FluxArtifact { source: FluxSource::GitRepository(name), .. })
                | Delivery::Patches(name) => Some(name),
                Delivery::Artifact(FluxArtifact { source: FluxSource::Watch, .. }) => None,
            });
        let (namespace, name) =
            repository.map_or(("NAMESPACE", "REPOSITORY"), |it| (it.namespace().as_str(), it.name()));
        let source = json!({ "kind": "GitRepository", "namespace": namespace, "name": name });
        let patch = json!({ "spec": { "sourceRef": source, "decryption": null } });
        let (of, kustomization) = (kustomization.name.namespace(), kustomization.name.name());
        format!("{} -n {of} patch kustomization {kustomization} --type merge -p '{patch}'", self.kubectl())
    }

    /// What is left of regent's own once nobody takes it.
    async fn artifacts_left(&self, applications: &[&FluxApplication]) -> Result<(Vec<String>, Vec<String>), String> {
        let cluster = &self.connected.witnesses;
        let (mut left, mut commands) = (Vec::new(), Vec::new());
        let failed = |what: &str, problem: ClusterError| format!("{what} cannot be looked at: {problem}");
        for application in applications {
            let namespace = application.kustomization.namespace();
            if let Some(SourceRef { name, .. }) = SourceRef::artifact_of(application) {
                let artifact = ObjectName::parse(&format!("{namespace}/{name}")).map_err(|bad| bad.to_string())?;
                let found = cluster.get(&external_artifact_path(&artifact)).await;
                if found.map_err(|problem| failed("ExternalArtifacts", problem))?.is_some() {
                    left.push(format!("ExternalArtifact {artifact}"));
                    commands.push(format!("{} -n {namespace} delete externalartifact {name}", self.kubectl()));
                }
            }
            let Some(secret) = &application.token_secret else { continue };
            let path = format!("/api/v1/namespaces/{namespace}/secrets/{secret}");
            let found = cluster.get_metadata(&path).await;
            let told = format!("Secret {namespace}/{secret}");
            if found.map_err(|problem| failed("Secrets", problem))?.is_some() && !left.contains(&told) {
                left.push(told);
                commands.push(format!("{} -n {namespace} delete secret {secret}", self.kubectl()));
            }
        }
        Ok((left, commands))
    }
}

fn is_kustomization(path: &FilePath) -> bool {
    kustomization::FILE_NAMES.contains(&path.file_name())
}

/// Whether kustomize-controller meets the `regent.yaml` of a root (empty for the top of the repository) where it lists what lies
/// below a path by itself: no folder from there on has a kustomization.
fn meets_bootstrap(repository: &Files, path: &str, root: &str) -> bool {
    let path: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let root: Vec<&str> = root.split('/').filter(|part| !part.is_empty()).collect();
    let has_one = |folder: &[&str]| {
        kustomization::FILE_NAMES.iter().any(|name| {
            let file = [folder, &[*name]].concat().join("/");
            FilePath::parse(&file).is_ok_and(|file| repository.get(&file).is_some())
        })
    };
    root.starts_with(&path) && (path.len()..=root.len()).all(|depth| !has_one(root.get(..depth).unwrap_or_default()))
}

/// The entry of the operator's file for a Kustomization.
fn application_of<'a>(one: &Kustomization, applications: &[&'a FluxApplication]) -> Option<&'a FluxApplication> {
    applications.iter().copied().find(|application| application.kustomization == one.name)
}

/// Whether it needs regent: an artifact, by the operator's file or by what it has, or without one the token.
fn takes(kustomization: &Kustomization, applications: &[&FluxApplication], listed: &[ListedDocument]) -> bool {
    let is_configured = applications.iter().any(|one| match &one.delivery {
        Delivery::Artifact(_) => SourceRef::of(one) == kustomization.source,
        Delivery::Patches(_) => {
            one.kustomization == kustomization.name && kustomization.token_secret == one.token_secret
        }
    });
    is_configured || (kustomization.source.kind == "ExternalArtifact" && !kustomization.tracks(listed).is_empty())
}

/// What stands for a Secret in Git, under the name that a build makes its own of: kustomize-controller leaves the live one
/// alone, and keeps it when this goes.
fn stub(document: &ListedDocument, own: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": own,
            "namespace": document.name.namespace().as_str(),
            "annotations": {
                "kustomize.toolkit.fluxcd.io/ssa": "Ignore",
                "kustomize.toolkit.fluxcd.io/prune": "disabled",
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use regent_core::evidence::ListedClass;
    use regent_core::flux::observed::Ready;
    use regent_core::name::{AuthorityName, SecretName};

    use super::*;

    #[test]
    fn without_an_artifact_a_kustomization_needs_regent_as_long_as_it_decrypts_with_its_token() {
        let (name, repository) = (ObjectName::parse("team/app").unwrap(), ObjectName::parse("flux/infra").unwrap());
        let application = FluxApplication {
            authority: AuthorityName::parse("prod").unwrap(),
            kustomization: name.clone(),
            delivery: Delivery::Patches(repository),
            token_secret: Some("regent-token".to_owned()),
        };
        let needs = |of: &ObjectName, token: Option<&str>| {
            let one = Kustomization {
                name: of.clone(),
                is_suspended: false,
                generation: 1,
                observed: 1,
                source: SourceRef::of(&application),
                patches: Vec::new(),
                token_secret: token.map(str::to_owned),
                service_account: None,
                is_remote: false,
                timeout: Duration::ZERO,
                retry: Duration::ZERO,
                attempted: None,
                applied: None,
                origin: None,
                ready: Ready::Yes,
                is_reconciling: false,
                history: Vec::new(),
                inventory: Vec::new(),
            };
            takes(&one, &[&application], &[])
        };
        assert!(needs(&name, Some("regent-token")));
        assert!(!needs(&name, None) && !needs(&name, Some("sops-age")));
        // The repository is everybody's.
        assert!(!needs(&ObjectName::parse("team/other").unwrap(), Some("regent-token")));
    }

    #[test]
    fn a_bootstrap_is_met_where_no_kustomization_on_the_way_lists_anything() {
        let with = |files: &[&str]| {
            let mut all = Files::default();
            for file in files {
                assert!(all.insert(FilePath::parse(file).unwrap(), Content::NotRead));
            }
            all
        };
        let (root, bare) = ("clusters/prod", with(&["clusters/prod/regent.yaml"]));
        for path in ["./clusters/prod", "clusters/prod/", "/clusters", "./", ""] {
            assert!(meets_bootstrap(&bare, path, root), "{path}");
        }
        for path in ["clusters/prod/app", "clusters/pro", "other"] {
            assert!(!meets_bootstrap(&bare, path, root), "{path}");
        }
        assert!(meets_bootstrap(&bare, "./", ""));
        let listing = with(&["clusters/prod/Kustomization", "kustomization.yml"]);
        assert!(!meets_bootstrap(&listing, "clusters", root) && !meets_bootstrap(&listing, "", root));
        assert!(meets_bootstrap(&with(&["kustomization.yaml"]), "clusters", root));
    }

    #[test]
    fn a_stub_has_what_flux_obeys_and_no_key() {
        let document = ListedDocument {
            path: FilePath::parse("db.yaml").unwrap(),
            name: SecretName::parse("team/db").unwrap(),
            kind: "Secret".to_owned(),
            class: ListedClass::Handover,
            blob: String::new(),
        };
        let stub = stub(&document, "db");
        assert_eq!(stub["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/ssa"], "Ignore");
        assert_eq!(stub["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/prune"], "disabled");
        assert!(stub.get("data").is_none() && stub.get("stringData").is_none());
    }
}
