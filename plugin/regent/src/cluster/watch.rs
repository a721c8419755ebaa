//! The Authorities of a server's rules, followed so that its metrics are current. Nothing else hangs on it: a request
//! reads the witnesses itself, and a server is ready without.
//!
//! ```text
//! read the witnesses -> metrics        every few minutes, and whenever
//!   watch the Authority ----------->   it changes
//! ```
//! A change is only a reason to read again, so what is told is always K of all witnesses, as a request would count it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use kube::client::Body;
use regent_core::name::AuthorityName;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::witness::authority_path;
use super::{Access, Cluster, ClusterError, bounded};
use crate::failure::Failure;
use crate::reload::Current;
use crate::telemetry::Metrics;
use crate::witnesses::{Store, Witnesses};

/// Follows the Authorities of one process.
pub(crate) struct Watcher(Arc<Shared>);

struct Shared {
    current: Arc<Current>,
    witnesses: Arc<Witnesses>,
    metrics: Metrics,
}

/// How often the operator's file is asked which authorities there are.
const LOOK: Duration = Duration::from_secs(5);

/// Between two tries, doubled while they fail: an API server that comes back should not meet everybody at once.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Between two reads of one authority, however fast it changes.
const CALM: Duration = Duration::from_millis(250);

/// How long the API server lets a watch live, in seconds; afterwards all witnesses are read again, the ConfigMaps too.
const LIFE: u64 = 240;

/// Longest line of a watch, in bytes: etcd holds no object of more than 1.5 MiB.
const MAX_LINE_BYTES: usize = 4 << 20;

impl Watcher {
    pub(crate) fn new(current: Arc<Current>, witnesses: Arc<Witnesses>, metrics: Metrics) -> Self {
        Self(Arc::new(Shared { current, witnesses, metrics }))
    }

    /// Never returns.
    pub(crate) async fn run(self) -> Infallible {
        let mut watched: Option<(Access, BTreeSet<AuthorityName>)> = None;
        // Dropped, it ends what it holds.
        let mut tasks = JoinSet::new();
        loop {
            let wanted = self.wanted();
            // A task ends only by a case that it does not know.
            let ended = tasks.try_join_next().is_some();
            if wanted != watched || ended {
                tasks = JoinSet::new();
                let names = |watched: &Option<(Access, BTreeSet<AuthorityName>)>| {
                    watched.as_ref().map(|(_, names)| names.clone()).unwrap_or_default()
                };
                for gone in names(&watched).difference(&names(&wanted)) {
                    self.0.metrics.no_authority(gone.as_str());
                }
                if let Some((access, names)) = &wanted {
                    for name in names {
                        let (shared, access, name) = (Arc::clone(&self.0), access.clone(), name.clone());
                        tasks.spawn(async move { shared.follow(&access, &name).await });
                    }
                }
                watched = wanted;
            }
            sleep(LOOK).await;
        }
    }

    /// The cluster of the operator's file and the authorities of its rules; `None` where it names another store.
    fn wanted(&self) -> Option<(Access, BTreeSet<AuthorityName>)> {
        let loaded = self.0.current.get().ok()?;
        let Ok(Store::Cluster(access)) = loaded.store() else { return None };
        Some((access.clone(), loaded.config.rules.iter().map(|rule| rule.authority.clone()).collect()))
    }
}

impl Shared {
    async fn follow(&self, access: &Access, name: &AuthorityName) -> Infallible {
        let (mut pause, mut told) = (PAUSE, None);
        loop {
            match self.follow_once(access, name).await {
                Ok(()) => (pause, told) = (PAUSE, None),
                Err(problem) => {
                    let problem = problem.to_string();
                    // What lasts is told once; the metrics say it all the time.
                    if told.as_ref() != Some(&problem) {
                        tracing::warn!(authority = %name, problem, "the authority is not followed; requests read it themselves");
                    }
                    told = Some(problem);
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// Reads, and reads again at each change until the watch ends.
    async fn follow_once(&self, access: &Access, name: &AuthorityName) -> Result<(), Failure> {
        // What is read first is at least as old as the version, so no change is missed.
        let cluster = self.witnesses.cluster(access).await?;
        let object = cluster.get(&authority_path(name)).await;
        self.tell(name).await;
        let object = object.map_err(|problem| cluster.failure(problem))?;
        let Some(version) = object.as_ref().and_then(|object| object["metadata"]["resourceVersion"].as_str()) else {
            let message = format!("Authority `{name}` does not exist");
            return Err(cluster.failure(ClusterError::Status { status: 404, message }));
        };
        let mut events = Events::watch(&cluster, &authority_path(name), version)
            .await
            .map_err(|problem| cluster.failure(problem))?;
        while let Some(event) = events.next().await.map_err(|problem| cluster.failure(problem))? {
            match event {
                Event::Changed => self.tell(name).await,
                Event::Mark => {}
                // What it knew is too old: all is read anew.
                Event::Expired => return Ok(()),
            }
        }
        Ok(())
    }

    /// Reads all witnesses and tells who holds the authority.
    async fn tell(&self, name: &AuthorityName) {
        let before = Instant::now();
        let Ok(loaded) = self.current.get() else { return };
        let observed = self.witnesses.read(loaded.store(), name, None).await;
        self.metrics.authority(name.as_str(), &observed.holder, observed.evidence.is_settled());
        sleep(CALM.saturating_sub(before.elapsed())).await;
    }
}

/// What a watch of one object says.
pub(crate) struct Events {
    body: Body,
    lines: Lines,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The object was made, changed or deleted.
    Changed,
    /// Nothing happened up to now.
    Mark,
    /// The API server does not remember that far back.
    Expired,
}

impl Events {
    /// Watches the object at `path` from a version on.
    pub(crate) async fn watch(cluster: &Cluster, path: &str, version: &str) -> Result<Self, ClusterError> {
        let (collection, name) = path.rsplit_once('/').unwrap_or((path, ""));
        let query = format!(
            "watch=true&fieldSelector=metadata.name%3D{name}&resourceVersion={version}&timeoutSeconds={LIFE}\
             &allowWatchBookmarks=true"
        );
        let body = cluster.stream(&format!("{collection}?{query}")).await?;
        Ok(Self { body, lines: Lines::of("an event of a watch", MAX_LINE_BYTES) })
    }

    /// The next event; `None` where the watch ended.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, ClusterError> {
        loop {
            if let Some(line) = self.lines.next()? {
                return event(&line).map(Some);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.lines.push(&data);
                    }
                }
                // It was cut off, which is how most watches end.
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }
}

fn event(line: &[u8]) -> Result<Event, ClusterError> {
    let json: Value = serde_json::from_slice(line).unwrap_or_default();
    match json["type"].as_str() {
        Some("ADDED" | "MODIFIED" | "DELETED") => Ok(Event::Changed),
        Some("BOOKMARK") => Ok(Event::Mark),
        Some("ERROR") if json["object"]["code"] == 410 => Ok(Event::Expired),
        Some("ERROR") => {
            let status = json["object"]["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or_default();
            let message = bounded(json["object"]["message"].as_str().unwrap_or_default());
            Err(ClusterError::Status { status, message })
        }
        Some(_) | None => {
            Err(ClusterError::Status { status: 200, message: "an event of a watch that nobody knows".to_owned() })
        }
    }
}

/// Cuts a stream into lines.
pub(super) struct Lines {
    /// What a line is, and how many bytes one may have.
    what: &'static str,
    longest: usize,
    buffer: Vec<u8>,
    /// Bytes at its start that hold no end of a line.
    searched: usize,
}

impl Lines {
    pub(super) fn of(what: &'static str, longest: usize) -> Self {
        Self { what, longest, buffer: Vec::new(), searched: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line, without its end.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, ClusterError> {
        let end = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        match end {
            Some(end) => {
                let rest = self.buffer.split_off(self.searched + end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                self.searched = 0;
                Ok(Some(line))
            }
            None if self.buffer.len() > self.longest => {
                Err(ClusterError::Status { status: 200, message: format!("{} is too long", self.what) })
            }
            None => {
                self.searched = self.buffer.len();
                Ok(None)
            }
        }
    }

    /// What stands behind the last end of a line, once no more comes.
    pub(super) fn rest(self) -> Option<Vec<u8>> {
        Some(self.buffer).filter(|rest| !rest.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&str]) -> Vec<String> {
        let mut lines = Lines::of("a line", MAX_LINE_BYTES);
        let mut found = Vec::new();
        for piece in pieces {
            lines.push(piece.as_bytes());
            while let Some(line) = lines.next().unwrap() {
                found.push(String::from_utf8(line).unwrap());
            }
        }
        found
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        assert_eq!(lines(&["{\"a\":1}\n{\"b\"", ":2", "}\n", "\n{\"c\":3"]), ["{\"a\":1}", "{\"b\":2}", ""]);
        let one_by_one: Vec<String> = "ab\ncd\n".chars().map(String::from).collect();
        assert_eq!(lines(&one_by_one.iter().map(String::as_str).collect::<Vec<_>>()), ["ab", "cd"]);
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let mut lines = Lines::of("a line", MAX_LINE_BYTES);
        let piece = vec![b'x'; 1 << 20];
        let refused = (0..8).any(|_| {
            lines.push(&piece);
            lines.next().is_err()
        });
        assert!(refused && lines.buffer.len() <= MAX_LINE_BYTES + piece.len());
    }

    #[test]
    fn a_change_is_read_and_an_expired_watch_begins_anew() {
        for (line, expected) in [
            (r#"{"type":"ADDED","object":{}}"#, Some(Event::Changed)),
            (r#"{"type":"MODIFIED","object":{}}"#, Some(Event::Changed)),
            (r#"{"type":"DELETED","object":{}}"#, Some(Event::Changed)),
            (r#"{"type":"BOOKMARK","object":{}}"#, Some(Event::Mark)),
            (r#"{"type":"ERROR","object":{"code":410,"message":"too old"}}"#, Some(Event::Expired)),
            (r#"{"type":"ERROR","object":{"code":500,"message":"etcd"}}"#, None),
            (r#"{"type":"NEW"}"#, None),
            ("no json", None),
            ("", None),
        ] {
            assert_eq!(event(line.as_bytes()).ok(), expected, "{line}");
        }
    }
}
