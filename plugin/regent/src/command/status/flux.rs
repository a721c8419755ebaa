//! How far each Kustomization of the operator's file is.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::{ContentArrangement, Table, presets};
use regent_core::evidence::{Holder, ListedDocument};
use regent_core::flux::begin::obstacles;
use regent_core::flux::observed::{Holds, Kustomization, Scope, SourceRef, short};
use regent_core::flux::patches;
use regent_core::flux::settle::{Facts, stops};
use regent_core::name::{AuthorityName, ObjectName};
use regent_core::rules::{Delivery, FluxApplication, RegentConfig};
use regent_core::settle::Quiet;
use serde_json::{Value, json};

use crate::cluster::{Cluster, kustomizations};
use crate::failure::one_line;

/// What was seen of Flux.
pub(super) enum Flux {
    /// The operator's file has nothing of it for this authority, or there is no such file.
    None,
    /// Each Kustomization of it, and those that are in its way.
    Seen(Vec<Row>),
    /// Nobody could look.
    Unseen(String),
}

/// One Kustomization.
pub(super) struct Row {
    name: ObjectName,
    /// The revision of its artifact.
    artifact: Option<String>,
    /// The revision that it applied last.
    applied: Option<String>,
    /// A stable word.
    phase: &'static str,
    /// What is awaited of it, or what it is in the way with.
    awaited: Vec<String>,
}

pub(super) async fn look(
    cluster: &Cluster,
    config: Option<&RegentConfig>,
    authority: &AuthorityName,
    holder: &Holder,
    listed: &[ListedDocument],
) -> Flux {
    let all = config.into_iter().flat_map(|config| &config.flux.applications);
    let applications: Vec<&FluxApplication> = all.filter(|application| application.authority == *authority).collect();
    if applications.is_empty() {
        return Flux::None;
    }
    let looked = async {
        let kustomizations = kustomizations::if_served(cluster).await?.unwrap_or_default();
        let artifacts = kustomizations::artifacts(cluster, &applications).await?;
        Ok::<_, crate::cluster::ClusterError>((kustomizations, artifacts))
    };
    let (kustomizations, artifacts) = match looked.await {
        Ok(looked) => looked,
        Err(problem) => return Flux::Unseen(problem.to_string()),
    };
    let skipped = BTreeSet::new();
    let scope = Scope { applications: &applications, listed };
    let facts =
        Facts { kustomizations: &kustomizations, artifacts: &artifacts, scope, skipped: &skipped, quiet: Quiet::Over };
    let awaited = awaited(&facts, holder);
    let in_the_file = applications.iter().map(|application| &application.kustomization);
    let names: BTreeSet<&ObjectName> = in_the_file.chain(awaited.keys()).collect();
    let row = |name: &ObjectName| {
        let kustomization = kustomizations.iter().find(|it| it.name == *name);
        let application = applications.iter().find(|it| it.kustomization == *name);
        let artifact = application.and_then(|application| SourceRef::artifact_of(application));
        let artifact = artifact.and_then(|artifact| artifacts.get(&artifact));
        let applied = kustomization.and_then(|it| it.applied.clone());
        let awaited = awaited.get(name).cloned().unwrap_or_default();
        Row {
            name: name.clone(),
            artifact: artifact.and_then(|artifact| artifact.revision.clone()),
            phase: match (application.map(|it| &it.delivery), kustomization) {
                (Some(Delivery::Patches(_)), Some(it)) => phase_without_artifact(it, authority, awaited.is_empty()),
                (Some(Delivery::Artifact(_) | Delivery::Patches(_)) | None, _) => {
                    phase(applied.as_deref(), awaited.is_empty())
                }
            },
            applied,
            awaited,
        }
    };
    Flux::Seen(names.into_iter().map(row).collect())
}

/// By who rules: before a handover what it would stop at, then what it waits for.
fn awaited(facts: &Facts<'_>, holder: &Holder) -> BTreeMap<ObjectName, Vec<String>> {
    let mut awaited: BTreeMap<ObjectName, Vec<String>> = BTreeMap::new();
    match holder {
        Holder::Git { .. } => {
            for (name, obstacles) in obstacles(facts) {
                awaited.entry(name).or_default().extend(obstacles.iter().map(ToString::to_string));
            }
        }
        Holder::Vault { .. } => {
            for stop in stops(facts) {
                awaited.entry(stop.name).or_default().push(stop.why.to_string());
            }
            for one in facts.scope.configured(facts.kustomizations, facts.artifacts) {
                let lacks = one.lacks().iter().map(ToString::to_string).collect::<Vec<_>>();
                awaited.entry(one.application.kustomization.clone()).or_default().extend(lacks);
            }
        }
        Holder::None | Holder::Disagree(_) | Holder::Unreadable(_) => {}
    }
    awaited.retain(|_, awaited| !awaited.is_empty());
    awaited
}

/// What it holds, by what it applied last.
fn phase(applied: Option<&str>, has_let_go: bool) -> &'static str {
    match (applied.map(Holds::of), has_let_go) {
        (None, _) => "nothing",
        (Some(Holds::Bootstrap), _) => "bootstrap",
        (Some(Holds::Stubs), true) => "letGo",
        (Some(Holds::Stubs), false) => "handover",
        (Some(Holds::Other), _) => "other",
    }
}

/// Without an artifact its revision tells nothing, and the patch that lets go does.
fn phase_without_artifact(it: &Kustomization, authority: &AuthorityName, has_let_go: bool) -> &'static str {
    match (patches::let_go(&it.patches, authority), &it.applied) {
        (true, _) if has_let_go => "letGo",
        (true, _) => "handover",
        (false, Some(_)) => "bootstrap",
        (false, None) => "nothing",
    }
}

impl Flux {
    /// A table, and what is awaited below each; empty where there is nothing.
    pub(super) fn for_people(&self) -> String {
        let Self::Seen(rows) = self else { return String::new() };
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["KUSTOMIZATION", "ARTIFACT", "APPLIED", "PHASE"]);
        for row in rows {
            let revision = |revision: &Option<String>| revision.as_deref().map_or_else(|| "-".to_owned(), short);
            table.add_row([
                row.name.to_string(),
                revision(&row.artifact),
                revision(&row.applied),
                row.phase.to_owned(),
            ]);
        }
        let mut lines = table.lines();
        let mut text = String::new();
        let mut line = |line: &str| {
            text.push_str(line.trim_end());
            text.push('\n');
        };
        line(&lines.next().unwrap_or_default());
        for (row, its) in rows.iter().zip(lines) {
            line(&its);
            for awaited in &row.awaited {
                line(&format!("   awaited: {}", one_line(awaited)));
            }
        }
        text
    }

    pub(super) fn as_json(&self) -> Value {
        match self {
            Self::None => Value::Null,
            Self::Unseen(why) => json!({ "why": why }),
            Self::Seen(rows) => json!({ "kustomizations": rows.iter().map(Row::as_json).collect::<Vec<_>>() }),
        }
    }

    pub(super) fn unseen(&self) -> Option<&String> {
        match self {
            Self::Unseen(why) => Some(why),
            Self::None | Self::Seen(_) => None,
        }
    }
}

impl Row {
    fn as_json(&self) -> Value {
        json!({
            "name": self.name.to_string(), "artifact": self.artifact, "applied": self.applied, "phase": self.phase,
            "awaited": self.awaited,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_is_published_what_is_applied_and_what_is_awaited() {
        let row = |name: &str, applied: Option<&str>, awaited: &[&str]| Row {
            name: ObjectName::parse(name).unwrap(),
            artifact: Some("handover@sha256:0b".to_owned()),
            applied: applied.map(str::to_owned),
            phase: phase(applied, awaited.is_empty()),
            awaited: awaited.iter().map(|it| (*it).to_owned()).collect(),
        };
        let rows = [
            row("team/app", Some("handover@sha256:0b"), &[]),
            row("team/web", Some("bootstrap@sha256:0a"), &["it is\nbusy"]),
        ];
        let seen = Flux::Seen(rows.into());
        let text = seen.for_people();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["team/app", "handover@sha256:0b", "handover@sha256:0b", "letGo"]);
        assert_eq!(lines[2], ["team/web", "handover@sha256:0b", "bootstrap@sha256:0a", "bootstrap"]);
        assert_eq!(lines[3][0], "awaited:");
        assert_eq!(lines.len(), 4);
        assert_eq!(seen.as_json()["kustomizations"][1]["awaited"][0], "it is\nbusy");
    }

    #[test]
    fn stubs_alone_are_no_end() {
        assert_eq!(phase(Some("handover@sha256:0b"), false), "handover");
        assert_eq!(phase(Some("main@sha1:00"), true), "other");
        assert_eq!(phase(None, true), "nothing");
    }
}
