//! What a live Secret says of itself, and what comes of it: the guards that it bears, who would fight over it, and what
//! happens to it next. For people; no rendering reads it.
//!
//! A Secret comes here as the metadata of its object, without `data`. One annotation may hold values all the same, the
//! one that client-side apply leaves: that it is there is kept, its text is not.

use crate::evidence::{Holder, Reading};
use crate::guard;
use crate::name::AuthorityName;
use crate::render::Class;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;

/// A live Secret, as far as its metadata tells. Nothing of a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveSecret {
    /// The label `regent.dev/authority`.
    pub authority: Option<String>,
    /// Who wrote which part of it (`managedFields`), each once.
    pub managers: Vec<Manager>,
    /// `ownerReferences`.
    pub owners: Vec<Owner>,
    /// The GitOps tools that count it as theirs.
    pub tracking: Tracking,
    /// Client-side apply left a second copy of its values in an annotation, readable for whoever reads metadata.
    pub has_clear_copy: bool,
    /// It is being deleted, and something holds it.
    pub is_leaving: bool,
    sync_options: String,
    compare_options: String,
    flux_prune: String,
    /// Guards that Flux drops at its next apply.
    dropped: Vec<Guard>,
}

/// An entry of `managedFields`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    /// As it calls itself.
    pub name: String,
    /// Server-side apply, or anything else.
    pub applies: bool,
    /// Whether it wrote something of `data`.
    pub writes_values: bool,
}

/// An entry of `ownerReferences`: what the object is deleted with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Its kind.
    pub kind: String,
    /// Its name, in the same namespace.
    pub name: String,
    /// Whether it is the one that manages the object.
    pub is_controller: bool,
}

/// Which GitOps tools count an object as theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracking {
    /// Argo CD's Application.
    pub argocd: Option<String>,
    /// Flux's Kustomization or `HelmRelease`.
    pub flux: Option<String>,
}

/// What keeps a live Secret alive while the one who delivers it changes. Controllers read these from the live object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guard {
    /// Argo CD does not prune it.
    Prune,
    /// Argo CD does not delete it together with its Application.
    Delete,
    /// Argo CD does not call its Application out of sync for it.
    Compare,
    /// Flux does not prune it.
    FluxPrune,
    /// The API server's lock sees it.
    Label,
}

/// Who rules, as far as a fight over a Secret is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruler {
    /// Git: one GitOps tool writes it.
    Git,
    /// Vault: one operator writes it.
    Vault,
    /// It is not known, or nobody.
    Nobody,
}

/// Somebody who would write or delete a Secret beside the one who should.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// A GitOps tool, beside another.
    Tool(&'static str),
    /// A manager that wrote values.
    Writer(String),
    /// An owner: the Secret is deleted with it, and its controller writes it.
    Owner {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
}

/// Where the document of a Secret stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In Git.
    Written {
        /// Its class.
        class: Class,
        /// Whether the handover's list names it; `None` where there is no list, or none that can be read.
        listed: Option<bool>,
    },
    /// In Git, and refused: its file does not parse, it stands in the clear, its namespace is not allowed.
    Refused,
    /// Not in Git. The list, or its own label, says that it belongs to the authority.
    Gone,
}

/// What the front doors answer for the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// P4.
    Values,
    /// P2.
    Stubs,
    /// Nothing: an error, which leaves everything as it is.
    Refused,
}

/// What happens to a Secret at the next sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Git writes it, guarded.
    Rendered,
    /// Git writes it, and until then nothing keeps it if its document goes.
    RenderedUnguarded,
    /// It is absent, and Git creates it.
    Created,
    /// A Secret without encrypted values, which `secrets.plain` lists.
    Applied,
    /// The door answers a stub, and its controller leaves the Secret alone.
    Stub,
    /// The same, and nothing keeps the Secret if its document goes.
    StubUnguarded,
    /// It is absent, and a person may bring it back.
    Restore,
    /// It is absent, and only what delivers from Vault brings it back.
    Delivered,
    /// It was never handed over, so its document is refused.
    NotListed,
    /// It is live and not in Git, and stays.
    Kept,
    /// It is live and not in Git, and is pruned.
    Pruned,
    /// It is neither live nor in Git.
    Nowhere,
    /// Nothing is answered for its root, so nothing is written or pruned.
    Nothing,
    /// Its own document is refused.
    Refused,
    /// Whether it is live cannot be told.
    Unknown,
}

impl LiveSecret {
    /// Reads the `metadata` of a Secret (`PartialObjectMetadata`). Whatever is not there is not there: nothing is refused
    /// for what a label says.
    pub fn of_metadata(metadata: &Value) -> Self {
        let annotation = |key: &str| text(metadata, "annotations", key).unwrap_or_default().to_owned();
        let flux_prune = text(metadata, "annotations", guard::FLUX_PRUNE);
        let mut managers: Vec<Manager> = list(metadata, "managedFields").iter().filter_map(manager).collect();
        managers.sort();
        managers.dedup();
        let of_a_person = |map: &str, key: &str| is_of_kubectl_alone(metadata, map, key);
        let dropped = [
            (
                Guard::FluxPrune,
                of_a_person("f:annotations", guard::FLUX_PRUNE) || of_a_person("f:labels", guard::FLUX_PRUNE),
            ),
            (Guard::Label, of_a_person("f:labels", guard::AUTHORITY)),
        ];
        Self {
            authority: text(metadata, "labels", guard::AUTHORITY).map(str::to_owned),
            managers,
            owners: list(metadata, "ownerReferences").iter().filter_map(owner).collect(),
            tracking: Tracking::of_metadata(metadata),
            has_clear_copy: text(metadata, "annotations", LAST_APPLIED).is_some(),
            is_leaving: member(metadata, "deletionTimestamp").is_some_and(|at| !at.is_null()),
            sync_options: annotation(guard::SYNC_OPTIONS),
            compare_options: annotation(guard::COMPARE_OPTIONS),
            // Flux takes it as a label as well.
            flux_prune: flux_prune
                .or_else(|| text(metadata, "labels", guard::FLUX_PRUNE))
                .unwrap_or_default()
                .to_owned(),
            dropped: dropped.into_iter().filter(|(_, is_dropped)| *is_dropped).map(|(guard, _)| guard).collect(),
        }
    }

    /// The guards that it bears and will not keep: kustomize-controller takes every `kubectl*` out of a Secret that it
    /// applies, and with it what that alone wrote. Empty where Flux does not deliver it.
    pub fn dropped_guards(&self) -> &[Guard] {
        if self.tracking.flux.is_some() { &self.dropped } else { &[] }
    }

    /// The guards that it lacks, of those that every Secret rendered for `authority` bears.
    pub fn missing_guards(&self, authority: &AuthorityName) -> Vec<Guard> {
        Guard::ALL.into_iter().filter(|guard| !self.bears(*guard, authority)).collect()
    }

    /// Its `metadata` with every guard, as a merge patch; whatever else its annotations say stays.
    pub fn guarded(&self, authority: &AuthorityName) -> Value {
        let others = options(&self.sync_options).filter(|option| {
            let is_replaced = |name: &str| guard::is_option(option, name);
            !option.is_empty() && !is_replaced("Prune") && !is_replaced("Delete")
        });
        let sync: Vec<&str> = ["Prune=false", "Delete=false"].into_iter().chain(others).collect();
        let compared =
            options(&self.compare_options).filter(|option| !option.is_empty() && *option != "IgnoreExtraneous");
        let compare: Vec<&str> = compared.chain(["IgnoreExtraneous"]).collect();
        serde_json::json!({
            "annotations": {
                guard::SYNC_OPTIONS: sync.join(","),
                guard::COMPARE_OPTIONS: compare.join(","),
                guard::FLUX_PRUNE: "disabled",
            },
            "labels": { guard::AUTHORITY: authority.as_str() },
        })
    }

    fn bears(&self, guard: Guard, authority: &AuthorityName) -> bool {
        match guard {
            // Argo CD 3.6 obeys the first such entry, 3.1 any: only one that both obey counts.
            Guard::Prune => first_option(&self.sync_options, "Prune=") == Some("Prune=false"),
            Guard::Delete => first_option(&self.sync_options, "Delete=") == Some("Delete=false"),
            Guard::Compare => options(&self.compare_options).any(|option| option == "IgnoreExtraneous"),
            Guard::FluxPrune => self.flux_prune.eq_ignore_ascii_case("disabled"),
            Guard::Label => self.authority.as_deref() == Some(authority.as_str()),
        }
    }

    /// Whether nothing but its document keeps it alive.
    fn is_pruned_with_its_document(&self, authority: &AuthorityName) -> bool {
        !self.bears(Guard::Prune, authority) || !self.bears(Guard::FluxPrune, authority)
    }

    /// Who would fight over it.
    ///
    /// While Git rules one GitOps tool writes it, and nobody else: any other writer and any owner is one. Once Vault
    /// rules what wrote it from Git is answered stubs and locked out, and one operator writes it: a second one is one.
    /// A person's `kubectl`, and regent itself, write when they are told to and fight with nobody.
    pub fn contenders(&self, ruler: Ruler) -> Vec<Contender> {
        let (mut tools, mut writers) = (BTreeSet::new(), BTreeSet::new());
        for manager in self.managers.iter().filter(|manager| manager.writes_values) {
            match writer(&manager.name) {
                Writer::Tool(name) => drop(tools.insert(Contender::Tool(name))),
                Writer::Person => {}
                Writer::Other => drop(writers.insert(Contender::Writer(manager.name.clone()))),
            }
        }
        let Tracking { argocd, flux } = &self.tracking;
        tools.extend(argocd.is_some().then_some(Contender::Tool(ARGO_CD)));
        tools.extend(flux.is_some().then_some(Contender::Tool(FLUX)));
        let owner = |Owner { kind, name, .. }: &Owner| Contender::Owner { kind: kind.clone(), name: name.clone() };
        let owners: BTreeSet<Contender> = self.owners.iter().map(owner).collect();
        let several = |set: BTreeSet<Contender>, most: usize| if set.len() > most { set } else { BTreeSet::new() };
        let fighting = match ruler {
            Ruler::Git => [several(tools, 1), writers, owners],
            // An owner and a manager are one operator, seen twice.
            Ruler::Vault => [BTreeSet::new(), several(writers, 1), several(owners, 1)],
            Ruler::Nobody => {
                let all = tools.len() + writers.len().max(owners.len());
                if all > 1 { [tools, writers, owners] } else { Default::default() }
            }
        };
        fighting.into_iter().flatten().collect()
    }
}

impl Tracking {
    /// What the `metadata` of any object says.
    pub fn of_metadata(metadata: &Value) -> Self {
        let label = |key: &str| text(metadata, "labels", key);
        // `<application>:<group>/<kind>:<namespace>/<name>`
        let id = text(metadata, "annotations", "argocd.argoproj.io/tracking-id");
        let application = id.map(|id| id.split(':').next().unwrap_or_default());
        let flux = |kind: &str, group: &str| {
            let name = label(&format!("{group}/name"))?;
            let namespace = label(&format!("{group}/namespace")).unwrap_or_default();
            let slash = if namespace.is_empty() { "" } else { "/" };
            Some(format!("{kind} {namespace}{slash}{name}"))
        };
        Self {
            argocd: application.or_else(|| label("app.kubernetes.io/instance")).map(str::to_owned),
            flux: flux("Kustomization", "kustomize.toolkit.fluxcd.io")
                .or_else(|| flux("HelmRelease", "helm.toolkit.fluxcd.io")),
        }
    }
}

impl Guard {
    /// Every guard.
    pub const ALL: [Self; 5] = [Self::Prune, Self::Delete, Self::Compare, Self::FluxPrune, Self::Label];

    /// What one writes to have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prune => "Prune=false",
            Self::Delete => "Delete=false",
            Self::Compare => "IgnoreExtraneous",
            Self::FluxPrune => "prune: disabled",
            Self::Label => "regent.dev/authority",
        }
    }
}

impl Ruler {
    /// Who rules by K.
    pub fn of(holder: &Holder) -> Self {
        match holder {
            Holder::Git { .. } => Self::Git,
            Holder::Vault { .. } => Self::Vault,
            Holder::None | Holder::Disagree(_) | Holder::Unreadable(_) => Self::Nobody,
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tool(name) => write!(f, "{name} delivers it"),
            Self::Writer(name) => write!(f, "`{name}` writes its values"),
            Self::Owner { kind, name } => write!(f, "{kind} `{name}` owns it"),
        }
    }
}

/// What happens next to the Secret of a document, given what the doors answer. One that is being deleted is as good as
/// absent: that is what the next sync finds.
pub fn next(standing: Standing, live: &Reading<LiveSecret>, answer: Answer, authority: &AuthorityName) -> Next {
    let there = match live {
        Reading::Present(secret) if secret.is_leaving => There::No,
        Reading::Present(secret) if secret.is_pruned_with_its_document(authority) => There::Unguarded,
        Reading::Present(_) => There::Guarded,
        Reading::Absent => There::No,
        Reading::Unreadable(_) => There::Unknown,
    };
    match (answer, standing) {
        (Answer::Refused, Standing::Written { .. } | Standing::Refused | Standing::Gone) => Next::Nothing,
        (Answer::Values | Answer::Stubs, Standing::Refused) => Next::Refused,
        (Answer::Values, Standing::Written { class: Class::Handover | Class::Permanent { .. }, .. }) => match there {
            There::Guarded => Next::Rendered,
            There::Unguarded => Next::RenderedUnguarded,
            There::No => Next::Created,
            There::Unknown => Next::Unknown,
        },
        (Answer::Values, Standing::Written { class: Class::Plain, .. })
        | (Answer::Stubs, Standing::Written { class: Class::Plain, listed: Some(false) | None }) => match there {
            There::Guarded | There::Unguarded => Next::Applied,
            There::No => Next::Created,
            There::Unknown => Next::Unknown,
        },
        (
            Answer::Stubs,
            Standing::Written { class: Class::Handover | Class::Permanent { .. }, listed: Some(false) },
        ) => Next::NotListed,
        (Answer::Stubs, Standing::Written { class, listed: Some(true) | None }) => match (there, class) {
            (There::Guarded, Class::Handover | Class::Permanent { .. } | Class::Plain) => Next::Stub,
            (There::Unguarded, Class::Handover | Class::Permanent { .. } | Class::Plain) => Next::StubUnguarded,
            (There::No, Class::Permanent { .. }) => Next::Restore,
            (There::No, Class::Handover | Class::Plain) => Next::Delivered,
            (There::Unknown, Class::Handover | Class::Permanent { .. } | Class::Plain) => Next::Unknown,
        },
        (Answer::Values | Answer::Stubs, Standing::Gone) => match there {
            There::Guarded => Next::Kept,
            There::Unguarded => Next::Pruned,
            There::No => Next::Nowhere,
            There::Unknown => Next::Unknown,
        },
    }
}

/// What the next sync finds.
#[derive(Clone, Copy)]
enum There {
    Guarded,
    Unguarded,
    No,
    Unknown,
}

impl Next {
    /// Everything that can happen.
    pub const ALL: [Self; 15] = [
        Self::Rendered,
        Self::RenderedUnguarded,
        Self::Created,
        Self::Applied,
        Self::Stub,
        Self::StubUnguarded,
        Self::Restore,
        Self::Delivered,
        Self::NotListed,
        Self::Kept,
        Self::Pruned,
        Self::Nowhere,
        Self::Nothing,
        Self::Refused,
        Self::Unknown,
    ];

    /// A stable word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rendered => "rendered",
            Self::RenderedUnguarded => "renderedUnguarded",
            Self::Created => "created",
            Self::Applied => "applied",
            Self::Stub => "stub",
            Self::StubUnguarded => "stubUnguarded",
            Self::Restore => "restore",
            Self::Delivered => "delivered",
            Self::NotListed => "notListed",
            Self::Kept => "kept",
            Self::Pruned => "pruned",
            Self::Nowhere => "nowhere",
            Self::Nothing => "nothing",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }

    /// What it means, for a person.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Rendered => "Git renders it",
            Self::RenderedUnguarded => "Git renders it; unguarded: would be pruned if removed from Git",
            Self::Created => "absent: the next sync creates it",
            Self::Applied => "Git applies it as it is",
            Self::Stub => "stub: Vault owns it, the GitOps tool leaves it alone",
            Self::StubUnguarded => "stub: Vault owns it; unguarded: would be pruned if removed from Git",
            Self::Restore => "absent: `regent restore` brings it back",
            Self::Delivered => "absent: it comes from Vault, never from Git",
            Self::NotListed => "refused: it was not handed over; `regent import`, or take it out of Git",
            Self::Kept => "not in Git: its guards keep it",
            Self::Pruned => "not in Git, and unguarded: the next sync prunes it",
            Self::Nowhere => "neither in Git nor live",
            Self::Nothing => "nothing is rendered, so it stays as it is",
            Self::Refused => "its document is refused, so it stays as it is",
            Self::Unknown => "whether it is live cannot be read",
        }
    }
}

/// Where client-side apply keeps what it sent, values and all.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

const ARGO_CD: &str = "Argo CD";
const FLUX: &str = "Flux";

/// Who stands behind a field manager.
enum Writer {
    Tool(&'static str),
    Person,
    Other,
}

/// By the names that the programs give themselves.
fn writer(manager: &str) -> Writer {
    match manager {
        "argocd-controller" | "argocd-application-controller" | "argocd-server" => Writer::Tool(ARGO_CD),
        "kustomize-controller" | "helm-controller" => Writer::Tool(FLUX),
        "regent" | "before-first-apply" => Writer::Person,
        name if name.starts_with("kubectl") => Writer::Person,
        _other => Writer::Other,
    }
}

fn manager(entry: &Value) -> Option<Manager> {
    let fields = member(entry, "fieldsV1");
    let writes = |key| fields.is_some_and(|fields| member(fields, key).is_some());
    Some(Manager {
        name: member(entry, "manager")?.as_str()?.to_owned(),
        applies: member(entry, "operation").and_then(Value::as_str) == Some("Apply"),
        writes_values: writes("f:data") || writes("f:stringData"),
    })
}

/// Whether somebody's `kubectl` wrote this, and nobody else.
fn is_of_kubectl_alone(metadata: &Value, map: &str, key: &str) -> bool {
    let field = format!("f:{key}");
    let has = |entry: &&Value| {
        let fields = member(entry, "fieldsV1").and_then(|fields| member(fields, "f:metadata"));
        fields.and_then(|fields| member(fields, map)).is_some_and(|fields| member(fields, &field).is_some())
    };
    let managers =
        list(metadata, "managedFields").iter().filter(has).filter_map(|entry| member(entry, "manager")?.as_str());
    let managers: Vec<&str> = managers.collect();
    !managers.is_empty() && managers.iter().all(|manager| manager.starts_with("kubectl"))
}

fn owner(entry: &Value) -> Option<Owner> {
    let text = |key| member(entry, key).and_then(Value::as_str).map(str::to_owned);
    Some(Owner {
        kind: text("kind")?,
        name: text("name")?,
        is_controller: member(entry, "controller").and_then(Value::as_bool) == Some(true),
    })
}

fn first_option<'o>(written: &'o str, start: &str) -> Option<&'o str> {
    options(written).find(|option| option.starts_with(start))
}

fn options(written: &str) -> impl Iterator<Item = &str> {
    written.split(',').map(str::trim)
}

fn member<'v>(object: &'v Value, key: &str) -> Option<&'v Value> {
    object.as_object()?.get(key)
}

fn list<'v>(object: &'v Value, key: &str) -> &'v [Value] {
    member(object, key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'v>(metadata: &'v Value, map: &str, key: &str) -> Option<&'v str> {
    member(member(metadata, map)?, key)?.as_str()
}

#[cfg(test)]
mod tests;
