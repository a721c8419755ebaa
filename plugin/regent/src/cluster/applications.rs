//! Argo CD's Applications: who reaches the plugin, who must not, and how they are made to ask again.

use std::collections::BTreeMap;
use std::time::Duration;

use regent_core::settle::{
    Application, ApplicationName, Condition, Deployed, Destination, Operation, Plugin, Row, Shape, Source,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Cluster, ClusterError};

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

/// What Argo CD is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// To compare with what it has cached.
    Soft,
    /// To ask the plugin again.
    Hard,
}

const APPLICATIONS: &str = "/apis/argoproj.io/v1alpha1/applications";
const GROUPS: &str = "/apis";
const RESOURCES: &str = "/apis/argoproj.io/v1alpha1";
const REFRESH: &str = "argocd.argoproj.io/refresh";

/// Between two looks at an Application that is refreshing.
const PAUSE: Duration = Duration::from_millis(200);

/// Every Application as it is; none where the cluster certainly has no Argo CD.
pub(crate) async fn all(cluster: &Cluster) -> Result<Vec<Value>, ClusterError> {
    Ok(if_served(cluster).await?.unwrap_or_default())
}

/// Every Application as it is; `None` where the cluster certainly has no Argo CD: a 404 alone may be a proxy's, or of an
/// API server that just begins, so it has to list what it serves, without Applications.
pub(crate) async fn if_served(cluster: &Cluster) -> Result<Option<Vec<Value>>, ClusterError> {
    match cluster.list(APPLICATIONS, "").await {
        Err(ClusterError::NotServed(_)) => {}
        listed => return listed.map(Some),
    }
    // Every authenticated account may read what is served.
    if lacks_the_group(&cluster.get(GROUPS).await?.unwrap_or_default()) {
        return Ok(None);
    }
    // Other programs of the Argo project have the group too.
    let served = cluster.get(RESOURCES).await?.unwrap_or_default();
    if lacks_the_resource(&served) {
        return Ok(None);
    }
    let message = "whether it has Argo CD's Applications cannot be told".to_owned();
    Err(ClusterError::Status { status: 404, message })
}

/// Whether this is the list of all groups (`APIGroupList`), and Argo's is none of them.
fn lacks_the_group(served: &Value) -> bool {
    let groups = served["groups"].as_array().filter(|_| served["kind"] == "APIGroupList");
    groups.is_some_and(|groups| {
        groups.iter().all(|group| group["name"].as_str().is_some_and(|name| name != "argoproj.io"))
    })
}

/// Whether this is the list of what Argo's group has (`APIResourceList`), and Applications are none of it.
fn lacks_the_resource(served: &Value) -> bool {
    let is_its_list = served["kind"] == "APIResourceList" && served["groupVersion"] == "argoproj.io/v1alpha1";
    let resources = served["resources"].as_array().filter(|_| is_its_list);
    resources.is_some_and(|resources| {
        resources.iter().all(|resource| resource["name"].as_str().is_some_and(|name| name != "applications"))
    })
}

/// Those that name the plugin.
pub(crate) fn using(applications: &[Value], plugin: &str) -> Vec<ApplicationName> {
    let uses = |application: &&Value| sources(application).iter().any(|source| asks(source, plugin));
    applications.iter().filter(uses).map(named).collect()
}

/// Those whose source hydrator would commit what the plugin renders, values included, to Git: they name the plugin or
/// none, or belong to a project for which regent renders (a file in the repository may name the plugin there).
pub(crate) fn hydrating(applications: &[Value], plugin: &str, projects: &[&str]) -> Vec<ApplicationName> {
    let hydrates = |application: &&Value| {
        let hydrator = &application["spec"]["sourceHydrator"];
        let project =
            application["spec"]["project"].as_str().filter(|project| !project.is_empty()).unwrap_or("default");
        !hydrator.is_null() && (asks(&hydrator["drySource"], plugin) || projects.contains(&project))
    };
    applications.iter().filter(hydrates).map(named).collect()
}

fn named(application: &Value) -> ApplicationName {
    let metadata = &application["metadata"];
    ApplicationName { namespace: text(&metadata["namespace"]), name: text(&metadata["name"]) }
}

/// What of an Application says whether an old value may come back.
pub(crate) fn parsed(application: &Value) -> Application {
    let (spec, status) = (&application["spec"], &application["status"]);
    let is_discovered =
        [&status["sourceType"]].into_iter().chain(list(&status["sourceTypes"])).any(|kind| kind == "Plugin");
    // Where there are several, Argo CD looks at no other, and writes an empty one into its history.
    let parsed = |of: &Value| -> Vec<Source> {
        let (all, one) = (list(&of["sources"]), &of["source"]);
        let one = (all.is_empty() && !one.is_null()).then_some(one);
        all.iter().chain(one).map(|it| source(it, is_discovered)).collect()
    };
    let deployed = |of: &Value| Deployed { sources: parsed(of), revisions: revisions(of) };
    // A rollback under way renders sources that are in no history yet.
    let state = &status["operationState"];
    let under_way = [&state["syncResult"], &state["operation"]["sync"], &application["operation"]["sync"]];
    let destination = &spec["destination"];
    Application {
        name: named(application),
        destination: Destination {
            server: text(&destination["server"]),
            cluster: text(&destination["name"]),
            namespace: text(&destination["namespace"]),
        },
        shape: if list(&spec["sources"]).is_empty() { Shape::One } else { Shape::Each },
        sources: parsed(spec),
        deployed: list(&status["history"]).iter().chain(under_way).map(deployed).collect(),
        synced: list(&status["history"]).last().map(deployed),
        compared: revisions(&status["sync"]),
        operation: operation(application),
        is_refreshing: !application["metadata"]["annotations"][REFRESH].is_null(),
        reconciled_at: status["reconciledAt"].as_str().map(ToOwned::to_owned),
        rows: list(&status["resources"]).iter().map(row).collect(),
        conditions: list(&status["conditions"]).iter().map(condition).collect(),
    }
}

fn source(source: &Value, is_discovered: bool) -> Source {
    let plugin = &source["plugin"];
    let name = text(&plugin["name"]);
    Source {
        repo: text(&source["repoURL"]),
        path: text(&source["path"]),
        target_revision: text(&source["targetRevision"]),
        plugin: match (plugin.is_null(), name.is_empty()) {
            (true, _) if is_discovered => Plugin::Any,
            (true, _) => Plugin::None,
            (false, true) => Plugin::Any,
            (false, false) => Plugin::Named(name),
        },
    }
}

/// `revision`, or one for each of several sources.
fn revisions(of: &Value) -> Vec<String> {
    let all = list(&of["revisions"]).iter().chain([&of["revision"]]);
    all.filter_map(Value::as_str).filter(|revision| !revision.is_empty()).map(ToOwned::to_owned).collect()
}

fn operation(application: &Value) -> Operation {
    let state = &application["status"]["operationState"];
    match state["phase"].as_str() {
        Some("Running" | "Terminating") => Operation::Running(state["startedAt"].as_str().map(ToOwned::to_owned)),
        Some(_) | None if application["operation"].is_null() => Operation::None,
        Some(_) | None => Operation::Requested,
    }
}

fn row(row: &Value) -> Row {
    let (group, version, kind) = (text(&row["group"]), text(&row["version"]), text(&row["kind"]));
    Row {
        kind: if group.is_empty() { kind } else { format!("{group}/{version}/{kind}") },
        namespace: text(&row["namespace"]),
        name: text(&row["name"]),
        has_status: row["status"].as_str().is_some_and(|status| !status.is_empty()),
    }
}

fn condition(condition: &Value) -> Condition {
    Condition { kind: text(&condition["type"]), message: text(&condition["message"]) }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn sources(application: &Value) -> Vec<&Value> {
    let spec = &application["spec"];
    list(&spec["sources"]).iter().chain([&spec["source"]]).collect()
}

/// Whether a source asks the plugin: by name, or by no name, when Argo CD asks every plugin. Argo CD takes the name as a
/// path in its folder of sockets, so its last part counts.
fn asks(source: &Value, plugin: &str) -> bool {
    let wanted = &source["plugin"];
    let name = wanted["name"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    !wanted.is_null() && (name.is_empty() || name == plugin)
}

/// Makes Applications compare again and waits until they have, all at the same time. Only a hard refresh asks the plugin: a
/// soft one, a sync and a restart of Argo CD ask Redis instead.
pub(crate) async fn refresh(
    cluster: &Cluster,
    applications: &[ApplicationName],
    depth: Depth,
    patience: Duration,
    mut done: impl FnMut(&ApplicationName, &Refreshed),
) -> BTreeMap<ApplicationName, Refreshed> {
    let until = Instant::now() + patience;
    let mut jobs = tokio::task::JoinSet::new();
    for application in applications.iter().cloned() {
        let cluster = cluster.clone();
        jobs.spawn(async move {
            let outcome = refresh_one(&cluster, &application, depth, until).await.unwrap_or_else(Refreshed::Failed);
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

/// Whether this identity may have an Application compared again: a dry run of it.
pub(crate) async fn may_refresh(cluster: &Cluster, application: &ApplicationName) -> Result<(), ClusterError> {
    let asked = json!({ "metadata": { "annotations": { REFRESH: "hard" } } });
    cluster.may_merge(&path(application), &asked).await
}

async fn refresh_one(
    cluster: &Cluster,
    application: &ApplicationName,
    depth: Depth,
    until: Instant,
) -> Result<Refreshed, ClusterError> {
    let path = path(application);
    let at = |application: &Value| application["status"]["reconciledAt"].as_str().map(ToOwned::to_owned);
    loop {
        // One that falls into a refresh under way is removed with it and never done. So that one is waited for, and its
        // resourceVersion says that no other began since.
        let Some(before) = settled(cluster, &path, until).await? else { return Ok(Refreshed::Late) };
        let version = &before["metadata"]["resourceVersion"];
        let how = match depth {
            Depth::Soft => "normal",
            Depth::Hard => "hard",
        };
        let asked = json!({ "metadata": { "resourceVersion": version, "annotations": { REFRESH: how } } });
        match cluster.merge(&path, &asked).await {
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

/// Where an Application is.
fn path(application: &ApplicationName) -> String {
    let ApplicationName { namespace, name } = application;
    format!("/apis/argoproj.io/v1alpha1/namespaces/{namespace}/applications/{name}")
}

fn outcome(application: &Value) -> Refreshed {
    let status = &application["status"];
    let errors = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if let Some(error) = errors.iter().find(|condition| condition["type"] == "ComparisonError") {
        return Refreshed::Refused(condition(error).told());
    }
    let word = |of: &str| status[of]["status"].as_str().unwrap_or("Unknown").to_owned();
    Refreshed::Done { sync: word("sync"), health: word("health") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "literals")]
    fn application(name: &str, spec: Value) -> Value {
        json!({ "metadata": { "namespace": "argocd", "name": name }, "spec": spec })
    }

    fn names(applications: &[ApplicationName]) -> Vec<&str> {
        applications.iter().map(|application| application.name.as_str()).collect()
    }

    /// An API server that answers the list of Applications, `/apis` and the group's own list with these.
    fn answering(list: (u16, &'static str), groups: (u16, &'static str), resources: (u16, &'static str)) -> Cluster {
        Cluster::of_service(tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let (status, body) = match request.uri().path() {
                APPLICATIONS => list,
                GROUPS => groups,
                RESOURCES => resources,
                other => panic!("{other}"),
            };
            let body = kube::client::Body::from(body.as_bytes().to_vec());
            let answer = http::Response::builder().status(status).body(body).unwrap();
            std::future::ready(Ok::<_, std::convert::Infallible>(answer))
        }))
    }

    #[tokio::test]
    async fn there_is_no_argocd_only_where_the_api_server_lists_what_it_serves_without_it() {
        const GONE: (u16, &str) = (404, "404 page not found\n");
        const STATUS: (u16, &str) = (404, r#"{"kind":"Status","reason":"NotFound","details":{}}"#);
        const WITHOUT: (u16, &str) = (200, r#"{"kind":"APIGroupList","groups":[{"name":"apps"}]}"#);
        const WITH: (u16, &str) = (200, r#"{"kind":"APIGroupList","groups":[{"name":"apps"},{"name":"argoproj.io"}]}"#);
        const ROLLOUTS: (u16, &str) = (
            200,
            r#"{"kind":"APIResourceList","groupVersion":"argoproj.io/v1alpha1","resources":[{"name":"rollouts"}]}"#,
        );
        const ITS: (u16, &str) = (
            200,
            r#"{"kind":"APIResourceList","groupVersion":"argoproj.io/v1alpha1","resources":[{"name":"applications"}]}"#,
        );
        for (list, groups, resources) in [(GONE, WITHOUT, GONE), (GONE, WITH, ROLLOUTS)] {
            assert_eq!(if_served(&answering(list, groups, resources)).await, Ok(None), "{groups:?} {resources:?}");
        }
        for (list, groups, resources) in [
            (GONE, GONE, GONE),
            (STATUS, STATUS, STATUS),
            (GONE, (200, "{}"), GONE),
            (GONE, (200, r#"{"kind":"APIGroupList"}"#), GONE),
            (GONE, (200, r#"{"kind":"APIGroupList","groups":[{}]}"#), GONE),
            (GONE, (403, "{}"), GONE),
            (GONE, (503, "no"), GONE),
            (GONE, WITH, GONE),
            (GONE, WITH, (200, "{}")),
            (GONE, WITH, ITS),
            ((503, "no"), WITHOUT, GONE),
            ((200, "{}"), WITHOUT, GONE),
        ] {
            let seen = if_served(&answering(list, groups, resources)).await;
            assert!(seen.is_err(), "{list:?} {groups:?} {resources:?} {seen:?}");
        }
        let none = (200, r#"{"kind":"ApplicationList","items":[]}"#);
        assert_eq!(if_served(&answering(none, GONE, GONE)).await, Ok(Some(Vec::new())));
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
    fn an_application_is_parsed_with_all_that_it_ever_deployed() {
        let old = json!({ "repoURL": "r", "path": "old", "plugin": { "name": "regent-v1" } });
        let seen = parsed(&json!({
            "metadata": { "namespace": "argocd", "name": "a", "annotations": { REFRESH: "hard" } },
            "spec": {
                "source": { "repoURL": "r", "path": "p", "targetRevision": "main" },
                "destination": { "server": "https://kubernetes.default.svc", "namespace": "app" },
            },
            "operation": { "sync": { "revision": "next" } },
            "status": {
                "sourceType": "Plugin",
                "history": [{ "revision": "one", "source": old }, { "revisions": ["two", "three"], "sources": [old] }],
                "sync": { "revision": "four" },
                "operationState": { "phase": "Running", "startedAt": "2026-01-01T00:00:00Z" },
                "reconciledAt": "2026-01-01T00:00:01Z",
                "resources": [
                    { "version": "v1", "kind": "Secret", "namespace": "app", "name": "db" },
                    { "group": "apps", "version": "v1", "kind": "Deployment", "name": "d", "status": "Synced" },
                ],
                "conditions": [{ "type": "SyncError", "message": "no" }],
            },
        }));
        let plugins = |sources: &[Source]| sources.iter().map(|source| source.plugin.clone()).collect::<Vec<_>>();
        assert_eq!(plugins(&seen.sources), [Plugin::Any]);
        let was: Vec<_> = seen.deployed.iter().map(|it| (plugins(&it.sources), it.revisions.join(","))).collect();
        let named = || vec![Plugin::Named("regent-v1".to_owned())];
        let under_way = [(vec![], String::new()), (vec![], String::new()), (vec![], "next".to_owned())];
        assert_eq!(was[..2], [(named(), "one".to_owned()), (named(), "two,three".to_owned())]);
        assert_eq!(was[2..], under_way);
        assert_eq!(seen.compared, ["four"]);
        assert!(seen.is_refreshing);
        assert_eq!(seen.operation, Operation::Running(Some("2026-01-01T00:00:00Z".to_owned())));
        let rows: Vec<_> = seen.rows.iter().map(|row| (row.kind.as_str(), row.has_status)).collect();
        assert_eq!(rows, [("Secret", false), ("apps/v1/Deployment", true)]);
    }

    #[test]
    fn of_a_refresh_that_failed_argocds_own_words_are_not_told() {
        let failed = |message: &str| {
            outcome(&json!({ "status": { "conditions": [{ "type": "ComparisonError", "message": message }] } }))
        };
        let told = |text: &str| Refreshed::Refused(text.to_owned());
        assert_eq!(failed("desc = regent[P5]: no authority"), told("regent[P5]: no authority"));
        assert_eq!(failed("cannot read {password: x}"), told("ComparisonError (Argo CD shows it)"));
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
