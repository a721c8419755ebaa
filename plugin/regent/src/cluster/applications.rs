//! Argo CD's Applications: who reaches the plugin, who must not, and how they are made to ask again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Cluster, ClusterError};

/// An Application, by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Application {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// What became of an Application that was asked to refresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refreshed {
    /// It asked the plugin again: sync and health as Argo CD has them now.
    Done { sync: String, health: String },
    /// It asked again, and the plugin or Argo CD says no.
    Refused(String),
    /// Argo CD did not get to it in time.
    Late,
    /// It cannot be asked.
    Failed(ClusterError),
}

const APPLICATIONS: &str = "/apis/argoproj.io/v1alpha1/applications";
const REFRESH: &str = "argocd.argoproj.io/refresh";

/// Between two looks at an Application that is refreshing.
const PAUSE: Duration = Duration::from_millis(200);

/// Every Application as it is; none where the cluster has no Argo CD.
pub(crate) async fn all(cluster: &Cluster) -> Result<Vec<Value>, ClusterError> {
    match cluster.list(APPLICATIONS, "").await {
        Err(ClusterError::NotServed(_)) => Ok(Vec::new()),
        listed => listed,
    }
}

/// Those that name the plugin.
pub(crate) fn using(applications: &[Value], plugin: &str) -> Vec<Application> {
    let uses = |application: &&Value| sources(application).iter().any(|source| asks(source, plugin));
    applications.iter().filter(uses).map(named).collect()
}

/// Those whose source hydrator would commit what the plugin renders, values included, to Git: they name the plugin or
/// none, or belong to a project for which regent renders (a file in the repository may name the plugin there).
pub(crate) fn hydrating(applications: &[Value], plugin: &str, projects: &[&str]) -> Vec<Application> {
    let hydrates = |application: &&Value| {
        let hydrator = &application["spec"]["sourceHydrator"];
        let project =
            application["spec"]["project"].as_str().filter(|project| !project.is_empty()).unwrap_or("default");
        !hydrator.is_null() && (asks(&hydrator["drySource"], plugin) || projects.contains(&project))
    };
    applications.iter().filter(hydrates).map(named).collect()
}

fn named(application: &Value) -> Application {
    let text = |key: &str| application["metadata"][key].as_str().unwrap_or_default().to_owned();
    Application { namespace: text("namespace"), name: text("name") }
}

fn sources(application: &Value) -> Vec<&Value> {
    let spec = &application["spec"];
    let many = spec["sources"].as_array().map(Vec::as_slice).unwrap_or_default();
    many.iter().chain([&spec["source"]]).collect()
}

/// Whether a source asks the plugin: by name, or by no name, when Argo CD asks every plugin. Argo CD takes the name as a
/// path in its folder of sockets, so its last part counts.
fn asks(source: &Value, plugin: &str) -> bool {
    let wanted = &source["plugin"];
    let name = wanted["name"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    !wanted.is_null() && (name.is_empty() || name == plugin)
}

/// Makes Applications ask the plugin again and waits until they have, all at the same time. A soft refresh, a sync and
/// a restart of Argo CD ask Redis instead.
pub(crate) async fn refresh(
    cluster: &Cluster,
    applications: &[Application],
    patience: Duration,
    mut done: impl FnMut(&Application, &Refreshed),
) -> BTreeMap<Application, Refreshed> {
    let until = Instant::now() + patience;
    let mut jobs = tokio::task::JoinSet::new();
    for application in applications.iter().cloned() {
        let cluster = cluster.clone();
        jobs.spawn(async move {
            let outcome = refresh_one(&cluster, &application, until).await.unwrap_or_else(Refreshed::Failed);
            (application, outcome)
        });
    }
    let mut outcomes = BTreeMap::new();
    while let Some(job) = jobs.join_next().await {
        let Ok((application, outcome)) = job else { continue };
        done(&application, &outcome);
        outcomes.insert(application, outcome);
    }
    outcomes
}

async fn refresh_one(cluster: &Cluster, application: &Application, until: Instant) -> Result<Refreshed, ClusterError> {
    let Application { namespace, name } = application;
    let path = format!("/apis/argoproj.io/v1alpha1/namespaces/{namespace}/applications/{name}");
    let at = |application: &Value| application["status"]["reconciledAt"].as_str().map(ToOwned::to_owned);
    loop {
        // One that falls into a refresh under way is removed with it and never done. So that one is waited for, and its
        // resourceVersion says that no other began since.
        let Some(before) = settled(cluster, &path, until).await? else { return Ok(Refreshed::Late) };
        let version = &before["metadata"]["resourceVersion"];
        let hard = json!({ "metadata": { "resourceVersion": version, "annotations": { REFRESH: "hard" } } });
        match cluster.merge(&path, &hard).await {
            Ok(_) => {}
            Err(ClusterError::Conflict(_)) if Instant::now() < until => continue,
            Err(problem) => return Err(problem),
        }
        let Some(after) = settled(cluster, &path, until).await? else { return Ok(Refreshed::Late) };
        // Argo CD's clock has seconds: where they are the same it was lost, or an earlier refresh had just ended.
        if at(&after).is_some() && at(&after) != at(&before) {
            return Ok(outcome(&after));
        }
        if Instant::now() >= until {
            return Ok(Refreshed::Late);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The Application once no refresh is asked for any more; `None` where there is no time left.
async fn settled(cluster: &Cluster, path: &str, until: Instant) -> Result<Option<Value>, ClusterError> {
    loop {
        let gone = || ClusterError::Status { status: 404, message: "the Application is gone".to_owned() };
        let application = cluster.get(path).await?.ok_or_else(gone)?;
        if application["metadata"]["annotations"][REFRESH].is_null() {
            return Ok(Some(application));
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn outcome(application: &Value) -> Refreshed {
    let status = &application["status"];
    let errors = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let error = errors.iter().find(|condition| condition["type"] == "ComparisonError");
    if let Some(message) = error.and_then(|error| error["message"].as_str()) {
        // What is regent's own stands behind Argo CD's words.
        let ours = message.find("regent[").map_or(message, |start| &message[start..]);
        return Refreshed::Refused(super::bounded(ours));
    }
    let word = |of: &str| status[of]["status"].as_str().unwrap_or("Unknown").to_owned();
    Refreshed::Done { sync: word("sync"), health: word("health") }
}

impl std::fmt::Display for Application {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "literals")]
    fn application(name: &str, spec: Value) -> Value {
        json!({ "metadata": { "namespace": "argocd", "name": name }, "spec": spec })
    }

    fn names(applications: &[Application]) -> Vec<&str> {
        applications.iter().map(|application| application.name.as_str()).collect()
    }

    #[test]
    fn an_application_uses_the_plugin_by_name_by_path_or_without_a_name_in_any_source() {
        let all = [
            application("named", json!({ "source": { "plugin": { "name": "regent-v1" } } })),
            application("path", json!({ "source": { "plugin": { "name": "./regent-v1" } } })),
            application("unnamed", json!({ "source": { "plugin": {} } })),
            application("second", json!({ "sources": [{ "path": "a" }, { "plugin": { "name": "regent-v1" } }] })),
            application("other", json!({ "source": { "plugin": { "name": "avp" } } })),
            application("none", json!({ "source": { "path": "a" } })),
        ];
        assert_eq!(names(&using(&all, "regent-v1")), ["named", "path", "unnamed", "second"]);
    }

    #[test]
    fn whoever_hydrates_through_the_plugin_or_in_a_project_of_a_rule_is_found() {
        let dry = |plugin: Value| json!({ "drySource": { "plugin": plugin } });
        let all = [
            application("named", json!({ "project": "x", "sourceHydrator": dry(json!({ "name": "regent-v1" })) })),
            application("unnamed", json!({ "project": "x", "sourceHydrator": dry(json!({})) })),
            application("project", json!({ "project": "platform", "sourceHydrator": { "drySource": {} } })),
            application("default", json!({ "sourceHydrator": { "drySource": {} } })),
            application("other", json!({ "project": "x", "sourceHydrator": dry(json!({ "name": "avp" })) })),
            application("plain", json!({ "project": "platform", "source": { "plugin": { "name": "regent-v1" } } })),
        ];
        assert_eq!(
            names(&hydrating(&all, "regent-v1", &["platform", "default"])),
            ["named", "unnamed", "project", "default"]
        );
    }
}
