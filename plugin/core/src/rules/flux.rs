//! The `flux` section: which Kustomizations get an artifact, from which repository, and where kustomize-controller
//! finds what regent serves.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{MAX_ENTRIES, Rule};
use crate::bootstrap::{host_of, signers_from};
use crate::name::{AuthorityName, Namespace, ObjectName, is_subdomain};
use crate::written;

/// The `flux` section. Without Kustomizations there is no door to Flux.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a mapping")]
pub struct Flux {
    /// Where kustomize-controller asks for data keys: `https://host:port`. It stands in every artifact, so another
    /// address makes new artifacts. Over a unix socket the address is never connected to, and stays what it is.
    #[serde(deserialize_with = "endpoint")]
    pub endpoint: String,
    /// Where it fetches artifacts: `http://host:port` or `https://host:port`. It sends no credentials there. Not needed
    /// where nobody gets one.
    #[serde(deserialize_with = "artifacts")]
    pub artifacts: String,
    /// The namespace of Flux' own controllers.
    #[serde(deserialize_with = "namespace")]
    pub namespace: Option<Namespace>,
    /// One entry for each Kustomization.
    #[serde(deserialize_with = "written::list::<_, _, MAX_ENTRIES>")]
    pub applications: Vec<FluxApplication>,
}

/// A Kustomization whose documents regent decrypts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "Written")]
pub struct FluxApplication {
    /// Whose root lies in the tree; a rule has to speak for it.
    pub authority: AuthorityName,
    /// The Kustomization. Its name is the name of the key that its documents are encrypted to.
    pub kustomization: ObjectName,
    /// What it takes its tree from, and so how it lets go.
    pub delivery: Delivery,
    /// The Secret with the token by which the Kustomization asks for data keys, in the same namespace; `None` where
    /// it asks as a service account.
    pub token_secret: Option<String>,
}

/// What a Kustomization takes its tree from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Delivery {
    /// An artifact that regent builds. It lets go by stubs.
    Artifact(FluxArtifact),
    /// This `GitRepository` itself, whose documents a person encrypts to regent: for a cluster without
    /// `ExternalArtifact`. It lets go by an entry of `spec.patches` ([`patches`](crate::flux::patches)).
    Patches(ObjectName),
}

/// An `ExternalArtifact`, and what it is built from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FluxArtifact {
    /// Its name, in the namespace of the Kustomization.
    pub name: String,
    /// Where the tree comes from.
    pub source: FluxSource,
    /// Who has to vouch for a commit before an artifact is built from it.
    pub voucher: Voucher,
}

/// Where a tree comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FluxSource {
    /// A `GitRepository` of Flux, as source-controller packed it.
    GitRepository(ObjectName),
    /// The repository that `watch` has for the authority.
    Watch,
}

/// Who vouches for a commit, in every phase: a commit for which nobody does builds nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Voucher {
    /// Who may write to the repository is enough.
    Nobody,
    /// One of these signed it: SSH public keys in a line, `OpenPGP` public key blocks. Never empty.
    Signers(Vec<String>),
    /// source-controller verified it (`spec.verification` of the `GitRepository`).
    SourceController,
}

impl Flux {
    /// Where Flux' controllers run; `flux-system` unless the file says otherwise.
    pub fn namespace(&self) -> &str {
        self.namespace.as_ref().map_or("flux-system", Namespace::as_str)
    }

    /// The rules of the section that one key alone does not tell.
    pub(super) fn fits(&self, rules: &[Rule], watched: &[&AuthorityName]) -> Result<(), String> {
        if self.applications.is_empty() {
            return Ok(());
        }
        let is_built = self.applications.iter().any(|application| application.delivery.artifact().is_some());
        for (key, address, is_needed) in [("endpoint", &self.endpoint, true), ("artifacts", &self.artifacts, is_built)]
        {
            if is_needed && address.is_empty() {
                return Err(format!("flux: expects `{key}`"));
            }
        }
        for (index, application) in self.applications.iter().enumerate() {
            let before = self.applications.iter().take(index);
            let at = |key: &str| format!("flux.applications[{index}].{key}");
            if !rules.iter().any(|rule| rule.authority == application.authority) {
                return Err(format!("{}: expects the authority of a rule", at("authority")));
            }
            if before.clone().any(|other| other.kustomization == application.kustomization) {
                return Err(format!("{}: another entry has the same", at("kustomization")));
            }
            let artifact = |of: &FluxApplication| {
                Some((of.kustomization.namespace().clone(), of.delivery.artifact()?.name.clone()))
            };
            if artifact(application).is_some() && before.clone().any(|other| artifact(other) == artifact(application)) {
                return Err(format!("{}: another entry has the same in its namespace", at("artifact")));
            }
            // Which of two ways a document of the root lets go would not be told by its file.
            let is_patched = |of: &FluxApplication| of.delivery.artifact().is_none();
            let mut of_authority = before.clone().filter(|other| other.authority == application.authority);
            if of_authority.any(|other| is_patched(other) != is_patched(application)) {
                return Err(format!("{}: another entry of the authority has another", at("delivery")));
            }
            // A token is one authority's, and a Secret holds one.
            let token = |of: &FluxApplication| Some((of.kustomization.namespace().clone(), of.token_secret.clone()?));
            let is_other = |other: &&FluxApplication| other.authority != application.authority;
            if token(application).is_some() && before.filter(is_other).any(|other| token(other) == token(application)) {
                return Err(format!("{}: another authority has the same in its namespace", at("tokenSecret")));
            }
            let source = application.delivery.artifact().map(|artifact| &artifact.source);
            if source == Some(&FluxSource::Watch) && !watched.contains(&&application.authority) {
                return Err(format!("{}: expects an entry of `watch` for the authority", at("source")));
            }
        }
        Ok(())
    }
}

impl Delivery {
    /// The artifact, where it is one.
    pub fn artifact(&self) -> Option<&FluxArtifact> {
        match self {
            Self::Artifact(artifact) => Some(artifact),
            Self::Patches(_) => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
struct Written {
    authority: AuthorityName,
    kustomization: ObjectName,
    #[serde(default)]
    delivery: WrittenDelivery,
    artifact: Option<Name>,
    source: WrittenSource,
    token_secret: Option<Name>,
    #[serde(default)]
    service_account: bool,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "`artifact` or `patches`")]
enum WrittenDelivery {
    #[default]
    Artifact,
    Patches,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping with `gitRepository` or `watch`")]
struct WrittenSource {
    git_repository: Option<ObjectName>,
    #[serde(default)]
    verified: bool,
    #[serde(default)]
    watch: bool,
    #[serde(default, deserialize_with = "signers")]
    signers: Option<Vec<String>>,
}

impl TryFrom<Written> for FluxApplication {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, &'static str> {
        let Written { authority, kustomization, delivery, artifact, source, token_secret, service_account } = written;
        let WrittenSource { git_repository, verified, watch, signers } = source;
        let (source, voucher) = match (git_repository, watch, signers) {
            (Some(_), true, _) | (None, false, _) => return Err("`source` expects `gitRepository` or `watch: true`"),
            (Some(_), false, Some(_)) => {
                return Err("`signers` expects `watch: true`; a `GitRepository` is `verified`");
            }
            (None, true, _) if verified => return Err("`verified` expects `gitRepository`; `watch` has `signers`"),
            (Some(repository), false, None) => {
                let voucher = if verified { Voucher::SourceController } else { Voucher::Nobody };
                (FluxSource::GitRepository(repository), voucher)
            }
            (None, true, signers) => (FluxSource::Watch, signers.map_or(Voucher::Nobody, Voucher::Signers)),
        };
        let token_secret = match (token_secret, service_account) {
            (Some(_), true) => return Err("`serviceAccount: true` expects no `tokenSecret`"),
            (None, true) => None,
            (Some(Name(name)), false) => Some(name),
            (None, false) => Some(TOKEN_SECRET.to_owned()),
        };
        if matches!(delivery, WrittenDelivery::Patches) && token_secret.is_none() {
            return Err("`delivery: patches` expects a `tokenSecret`: who encrypts to regent needs the token, too");
        }
        let delivery = match (delivery, artifact, source, voucher) {
            (WrittenDelivery::Artifact, name, source, voucher) => {
                let name = name.map_or_else(|| kustomization.name().to_owned(), |Name(name)| name);
                Delivery::Artifact(FluxArtifact { name, source, voucher })
            }
            (WrittenDelivery::Patches, None, FluxSource::GitRepository(repository), Voucher::Nobody) => {
                Delivery::Patches(repository)
            }
            (WrittenDelivery::Patches, Some(_), _, _) => return Err("`delivery: patches` has no `artifact`"),
            (WrittenDelivery::Patches, None, FluxSource::Watch, _) => {
                return Err("`delivery: patches` expects `gitRepository`: the Kustomization takes it itself");
            }
            (WrittenDelivery::Patches, None, FluxSource::GitRepository(_), _) => {
                return Err(
                    "`verified` is for an artifact; without one the `GitRepository` alone decides what it offers",
                );
            }
        };
        Ok(Self { authority, kustomization, delivery, token_secret })
    }
}

/// The Secret with a namespace's token, unless an entry names another.
const TOKEN_SECRET: &str = "regent-token";

/// The name of an object.
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        written::text(from, "the name of an object", |text| {
            let rule = "expects a DNS name: 1 to 253 of a-z, 0-9 and inner `-` and `.`";
            if is_subdomain(text) { Ok(Self(text.to_owned())) } else { Err(rule) }
        })
    }
}

fn namespace<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Namespace>, D::Error> {
    Namespace::deserialize(from).map(Some)
}

/// An empty list would read as if nobody were asked, or as if nobody could sign.
fn signers<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    let signers = signers_from(from)?;
    if signers.is_empty() { Err(D::Error::custom("expects at least one signer")) } else { Ok(Some(signers)) }
}

fn endpoint<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    written::text(from, "an address", |text| match text.split_once("://") {
        Some(("https", server)) if host_of(server).is_some() => Ok(text.to_owned()),
        Some(("http", _)) => Err("expects `https://`: data keys are sent there"),
        Some(_) | None => Err("expects `https://host:port`, no path, no user"),
    })
}

fn artifacts<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    written::text(from, "an address", |text| match text.split_once("://") {
        Some(("https" | "http", server)) if host_of(server).is_some() => Ok(text.to_owned()),
        Some(_) | None => Err("expects `http://host:port`, no path, no user"),
    })
}
