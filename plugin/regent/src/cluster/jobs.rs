//! Jobs in regent's namespace: made, followed, and what their Pods say.

use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use super::watch::Lines;
use super::{Cluster, ClusterError, JSON, bounded, encoded};

/// How a Job ended, as its controller says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Complete,
    /// Reason and message.
    Failed(String),
}

/// A Pod of a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) container: Container,
}

/// The one container of a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Container {
    /// It does not run yet; why, where the Pod's status says so.
    Waiting(Option<String>),
    Running,
    /// Exit code, and why it ended where that was not its own doing.
    Ended(i64, Option<String>),
}

/// How long a Job that is deleted may still be there.
const GONE_WITHIN: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(500);

/// Between two reads of a log that brought nothing new; each begins at its first line.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Longest line of a log, in bytes: a plan as JSON is one, with some hundred bytes for each document.
const MAX_LINE_BYTES: usize = 4 << 20;

fn path(name: &str) -> String {
    format!("{JOBS}/{}", encoded(name))
}

const JOBS: &str = "/apis/batch/v1/namespaces/regent-system/jobs";
const PODS: &str = "/api/v1/namespaces/regent-system/pods";
const EVENTS: &str = "/api/v1/namespaces/regent-system/events";

/// The Job of this name.
pub(crate) async fn get(cluster: &Cluster, name: &str) -> Result<Option<Value>, ClusterError> {
    cluster.get(&path(name)).await
}

/// Creates a Job, or tries to (`dry`). One that is there already is a [`ClusterError::Conflict`], after everything else
/// about it was checked.
pub(crate) async fn create(cluster: &Cluster, job: &Value, dry: bool) -> Result<Value, ClusterError> {
    cluster.create(JOBS, job, dry).await
}

/// Deletes this very Job, with its Pods, and waits until its name is free. Another Job under that name stays.
pub(crate) async fn delete(cluster: &Cluster, name: &str, uid: &str) -> Result<(), ClusterError> {
    // For Jobs the API server would leave the Pods behind.
    let options = json!({
        "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background", "preconditions": { "uid": uid },
    });
    cluster.found(Method::DELETE, &path(name), Some((JSON, &options))).await?;
    let until = Instant::now() + GONE_WITHIN;
    while get(cluster, name).await?.is_some_and(|job| self::uid(&job) == uid) {
        if Instant::now() >= until {
            return Err(ClusterError::Late(GONE_WITHIN));
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// What identifies an object for as long as it is there.
pub(crate) fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

/// Whether a Job is over.
pub(crate) fn ended(job: &Value) -> Option<Ended> {
    let conditions = job["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let holds = |kind: &str| conditions.iter().find(|it| it["type"] == kind && it["status"] == "True");
    if holds("Complete").is_some() {
        return Some(Ended::Complete);
    }
    holds("Failed").map(|failed| Ended::Failed(why(failed).unwrap_or_else(|| "it failed".to_owned())))
}

/// The Pod that a Job's controller made, the newest of them.
pub(crate) async fn pod(cluster: &Cluster, job: &Value) -> Result<Option<Pod>, ClusterError> {
    let query = format!("&labelSelector={}", encoded(&format!("batch.kubernetes.io/controller-uid={}", uid(job))));
    let mut pods = cluster.list(PODS, &query).await?;
    pods.sort_by_key(|pod| pod["metadata"]["creationTimestamp"].as_str().map(ToOwned::to_owned));
    Ok(pods.last().map(parsed))
}

fn parsed(pod: &Value) -> Pod {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Pod { name: text(&pod["metadata"]["name"]), uid: uid(pod).to_owned(), container: container(&pod["status"]) }
}

fn container(status: &Value) -> Container {
    let state = &status["containerStatuses"][0]["state"];
    if let Some(code) = state["terminated"]["exitCode"].as_i64() {
        let terminated = &state["terminated"];
        // Kubernetes has a word for each end of a process; those say nothing more than the code.
        let is_plain = matches!(terminated["reason"].as_str(), Some("Completed" | "Error") | None);
        return Container::Ended(code, if is_plain { None } else { why(terminated) });
    }
    if state["running"].is_object() {
        return Container::Running;
    }
    // What a node has begun says nothing while all goes well.
    let waiting = why(&state["waiting"]).filter(|why| why != "ContainerCreating" && why != "PodInitializing");
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let unscheduled =
        conditions.iter().find(|it| it["type"] == "PodScheduled" && it["status"] == "False").and_then(why);
    // A Pod that was never let onto a node: evicted, or refused by it.
    let refused = why(status).filter(|_| status["phase"] == "Failed");
    Container::Waiting(waiting.or(unscheduled).or(refused))
}

/// `reason` and `message` of a status.
fn why(of: &Value) -> Option<String> {
    let [reason, message] = ["reason", "message"].map(|part| of[part].as_str().filter(|text| !text.is_empty()));
    match (reason, message) {
        (Some(reason), Some(message)) => Some(bounded(&format!("{reason}: {message}"))),
        (Some(one), None) | (None, Some(one)) => Some(bounded(one)),
        (None, None) => None,
    }
}

/// The last warning about an object: a volume that cannot be mounted and a Pod that may not be made stand nowhere else.
pub(crate) async fn warning(cluster: &Cluster, uid: &str) -> Result<Option<String>, ClusterError> {
    let query = format!("&fieldSelector={}", encoded(&format!("involvedObject.uid={uid},type=Warning")));
    let mut events = cluster.list(EVENTS, &query).await?;
    let last = |event: &Value| {
        let at = |part: &str| event[part].as_str().map(ToOwned::to_owned);
        at("lastTimestamp")
            .or_else(|| at("eventTime"))
            .or_else(|| event["metadata"]["creationTimestamp"].as_str().map(ToOwned::to_owned))
    };
    events.sort_by_key(last);
    Ok(events.last().and_then(why))
}

/// Gives every line that a Pod's container wrote and writes, until it has ended. A log that breaks off is gone on with after
/// the last line that was told, as long as whoever called this has patience.
pub(crate) async fn follow(cluster: &Cluster, pod: &str, mut line: impl FnMut(String)) -> Result<(), ClusterError> {
    let (mut told, mut pause) = (0, PAUSE);
    loop {
        let is_over = match has_ended(cluster, pod).await {
            Ok(is_over) => is_over,
            Err(problem) if problem.is_final() => return Err(problem),
            // Not known: it is looked at again.
            Err(_) => false,
        };
        let before = told;
        match heard(cluster, pod, &mut told, &mut line).await {
            Ok(()) if is_over => return Ok(()),
            Err(problem) if is_over || problem.is_final() => return Err(problem),
            Ok(()) | Err(_) => {}
        }
        pause = if told > before { PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        sleep(pause).await;
    }
}

async fn has_ended(cluster: &Cluster, pod: &str) -> Result<bool, ClusterError> {
    let pod = cluster.get(&format!("{PODS}/{}", encoded(pod))).await?;
    Ok(pod.is_none_or(|pod| matches!(parsed(&pod).container, Container::Ended(..))))
}

async fn heard(
    cluster: &Cluster,
    pod: &str,
    told: &mut usize,
    line: &mut impl FnMut(String),
) -> Result<(), ClusterError> {
    let path = format!("{PODS}/{}/log?container=regent&follow=true", encoded(pod));
    let mut body = cluster.stream(&path).await?;
    let (mut lines, mut seen) = (Lines::of("a line of the log", MAX_LINE_BYTES), 0);
    let mut tell = |text: Vec<u8>, told: &mut usize| {
        seen += 1;
        if seen > *told {
            *told = seen;
            line(String::from_utf8_lossy(&text).into_owned());
        }
    };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ClusterError::Unreachable("the log was cut off".to_owned()))?;
        if let Ok(data) = frame.into_data() {
            lines.push(&data);
        }
        while let Some(text) = lines.next()? {
            tell(text, told);
        }
    }
    if let Some(rest) = lines.rest() {
        tell(rest, told);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use super::super::rights::HOME;
    use super::*;

    #[test]
    fn the_paths_are_those_of_regents_namespace() {
        for path in [JOBS, PODS, EVENTS] {
            assert!(path.contains(&format!("/namespaces/{HOME}/")), "{path}");
        }
    }

    /// A Pod and its log, each as it is answered one time after the other.
    async fn followed(
        pods: &[(u16, &'static str)],
        logs: &[(u16, &'static str)],
    ) -> (Vec<String>, Option<ClusterError>) {
        let (pods, logs) = (Mutex::new(VecDeque::from(pods.to_vec())), Mutex::new(VecDeque::from(logs.to_vec())));
        let answers = Arc::new([pods, logs]);
        let cluster = Cluster::of_service(tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let of = usize::from(request.uri().path().ends_with("/log"));
            let (status, body) = answers[of].lock().unwrap().pop_front().unwrap();
            let body = kube::client::Body::from(body.as_bytes().to_vec());
            let answer = http::Response::builder().status(status).body(body).unwrap();
            std::future::ready(Ok::<_, std::convert::Infallible>(answer))
        }));
        let mut lines = Vec::new();
        let followed = follow(&cluster, "pod", |line| lines.push(line)).await;
        (lines, followed.err())
    }

    const RUNS: (u16, &str) = (200, r#"{"status":{"containerStatuses":[{"state":{"running":{}}}]}}"#);
    const ENDED: (u16, &str) = (200, r#"{"status":{"containerStatuses":[{"state":{"terminated":{"exitCode":0}}}]}}"#);
    const SILENT: (u16, &str) = (503, "");

    #[tokio::test]
    async fn a_log_is_read_to_its_end_whatever_fails_meanwhile_and_every_line_is_told_once() {
        let whole = (200, "one\ntwo\nthree\n");
        let told = (["one", "two", "three"].map(ToOwned::to_owned).to_vec(), None);
        assert_eq!(followed(&[RUNS, ENDED], &[whole, whole]).await, told);
        assert_eq!(followed(&[RUNS, SILENT, ENDED], &[(200, "one\ntwo\n"), SILENT, whole]).await, told);
        assert_eq!(followed(&[SILENT, ENDED], &[whole, whole]).await, told);
    }

    #[tokio::test]
    async fn who_may_not_look_is_told_and_not_kept() {
        let refused = (403, r#"{"kind":"Status","message":"no"}"#);
        let (lines, problem) = followed(&[refused], &[]).await;
        assert!(lines.is_empty() && problem.is_some_and(|problem| problem.is_final()));
    }

    #[test]
    fn a_job_is_over_when_its_controller_says_so() {
        let job = |conditions: Value| json!({ "status": { "conditions": conditions } });
        assert_eq!(ended(&json!({ "status": {} })), None);
        assert_eq!(ended(&job(json!([{ "type": "Complete", "status": "False" }]))), None);
        // Its Pods are still ending.
        assert_eq!(ended(&job(json!([{ "type": "FailureTarget", "status": "True" }]))), None);
        assert_eq!(ended(&job(json!([{ "type": "Complete", "status": "True" }]))), Some(Ended::Complete));
        let failed =
            json!([{ "type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long" }]);
        assert_eq!(ended(&job(failed)), Some(Ended::Failed("DeadlineExceeded: too long".to_owned())));
    }

    #[test]
    fn a_pod_says_why_it_does_not_run() {
        let of = |status: Value| container(&status);
        let state = |state: Value| json!({ "phase": "Pending", "containerStatuses": [{ "state": state }] });
        let waiting = |why: &str| Container::Waiting(Some(why.to_owned()));
        assert_eq!(of(json!({ "phase": "Pending" })), Container::Waiting(None));
        assert_eq!(of(state(json!({ "waiting": { "reason": "ContainerCreating" } }))), Container::Waiting(None));
        let pull =
            json!({ "waiting": { "reason": "ImagePullBackOff", "message": "Back-off pulling image \"regent\"" } });
        assert_eq!(of(state(pull)), waiting("ImagePullBackOff: Back-off pulling image \"regent\""));
        let unscheduled =
            json!([{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node" }]);
        assert_eq!(of(json!({ "phase": "Pending", "conditions": unscheduled })), waiting("Unschedulable: no node"));
        assert_eq!(of(json!({ "phase": "Failed", "reason": "Evicted", "message": "disk" })), waiting("Evicted: disk"));
        assert_eq!(of(state(json!({ "running": { "startedAt": "now" } }))), Container::Running);
        let ended =
            |reason: &str, code: i64| of(state(json!({ "terminated": { "exitCode": code, "reason": reason } })));
        assert_eq!(ended("Completed", 0), Container::Ended(0, None));
        assert_eq!(ended("Error", 6), Container::Ended(6, None));
        assert_eq!(ended("OOMKilled", 137), Container::Ended(137, Some("OOMKilled".to_owned())));
    }
}
