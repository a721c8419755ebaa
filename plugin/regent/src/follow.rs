//! The repositories of `watch:`, followed ahead of the requests: each new commit of a root is linted with the
//! rule's identities, which also unwraps its data keys before anybody asks for them. Rendering never depends on it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use regent_core::evidence::Holder;
use regent_core::lint::{self, Finding, Severity};
use regent_core::remote::Location;
use regent_core::rules::Followed;
use regent_sops::{DataKeys, Keyring, Limits, Opener};
use tokio::runtime::Handle;

use crate::failure::Failure;
use crate::reload::{Current, Loaded};
use crate::source::git::{self, Place};
use crate::source::{BOOTSTRAP, Bounds, bootstrap_of};
use crate::telemetry::Metrics;
use crate::watch::{self, Target, Watch};
use crate::witnesses::{Observed, Witnesses};

/// Follows the repositories of one process.
pub(crate) struct Follower {
    current: Arc<Current>,
    witnesses: Arc<Witnesses>,
    data_keys: Arc<DataKeys>,
    metrics: Metrics,
    /// Witnesses in a cluster are asked there.
    runtime: Handle,
}

/// What was looked at last: looked at again when any of it changes.
#[derive(PartialEq)]
struct Seen {
    commit: String,
    holder: Holder,
    configuration: u64,
}

/// Findings told in the log for one commit; the rest is counted.
const MOST_TOLD: usize = 100;
/// How often things are looked at without an event, at least.
const IDLE: Duration = Duration::from_secs(30);

impl Follower {
    pub(crate) fn new(
        current: Arc<Current>,
        witnesses: Arc<Witnesses>,
        data_keys: Arc<DataKeys>,
        metrics: Metrics,
        runtime: Handle,
    ) -> Self {
        Self { current, witnesses, data_keys, metrics, runtime }
    }

    /// Never returns.
    pub(crate) fn run(&self) -> Infallible {
        let mut seen = BTreeMap::new();
        let mut targets = Vec::new();
        let mut watch = None;
        let mut asked: BTreeMap<Followed, Instant> = BTreeMap::new();
        loop {
            let followed = self.current.get().map(|loaded| loaded.config.watch.clone()).unwrap_or_default();
            let now = followed.iter().flat_map(references).collect();
            if targets != now {
                targets = now;
                // Without it things are looked at less often.
                watch = Watch::start(&targets).ok().filter(|_| !targets.is_empty());
            }
            for entry in &followed {
                // Events tell of this machine's repositories, and a server is not asked more often for that.
                let is_elsewhere = matches!(entry.repo, Location::Remote(_));
                if is_elsewhere && asked.get(entry).is_some_and(|last| last.elapsed() < entry.interval) {
                    continue;
                }
                self.look(entry, &mut seen);
                asked.insert(entry.clone(), Instant::now());
            }
            let wait = followed.iter().map(|entry| entry.interval).min().unwrap_or(IDLE).min(IDLE);
            match &watch {
                Some(watch) => watch.wait_at_most(wait),
                None => std::thread::sleep(wait),
            }
        }
    }

    fn look(&self, entry: &Followed, seen: &mut BTreeMap<Followed, Result<Seen, String>>) {
        let looked = self.look_if_new(entry, seen.get(entry).and_then(|seen| seen.as_ref().ok()));
        let outcome = match looked {
            Ok(None) => return,
            Ok(Some(now)) => Ok(now),
            Err(failure) => Err(failure.to_string()),
        };
        // A repository that stays away is told once.
        if let Err(problem) = &outcome
            && seen.get(entry) != Some(&Err(problem.clone()))
        {
            tracing::warn!(authority = %entry.authority, problem, "a followed repository was not looked at");
            self.metrics.not_followed(entry.authority.as_str());
        }
        seen.insert(entry.clone(), outcome);
    }

    fn look_at_witnesses(&self, loaded: &Loaded, entry: &Followed) -> Observed {
        self.runtime.block_on(self.witnesses.read(loaded.store(), &entry.authority, None))
    }

    /// `None` where nothing changed.
    fn look_if_new(&self, entry: &Followed, before: Option<&Seen>) -> Result<Option<Seen>, Failure> {
        let loaded = self.current.get()?;
        let commit = git::commit(&Place::followed(entry), &entry.revision)?;
        let observed = self.look_at_witnesses(&loaded, entry);
        let now = Seen { commit, holder: observed.holder.clone(), configuration: loaded.generation };
        if before == Some(&now) {
            return Ok(None);
        }
        let findings = self.findings(entry, &loaded, &observed, &now.commit);
        // What was unwrapped for a holder that is none any more is not kept.
        if self.look_at_witnesses(&loaded, entry).holder != now.holder {
            self.data_keys.forget();
        }
        let findings = findings?;
        let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        self.metrics.data_keys(self.data_keys.counts());
        self.metrics.followed(entry.authority.as_str(), &now.commit, errors, warnings);
        for finding in findings.iter().filter(|finding| finding.severity != Severity::Note).take(MOST_TOLD) {
            let Finding { rule, severity, spot, line, message, way_out } = finding;
            tracing::warn!(
                authority = %entry.authority,
                commit = now.commit,
                rule = rule.id(),
                severity = severity.name(),
                file = spot.file().map(ToString::to_string).unwrap_or_default(),
                line = line.unwrap_or_default(),
                way_out,
                "{message}"
            );
        }
        tracing::info!(authority = %entry.authority, commit = now.commit, errors, warnings, "a commit was looked at");
        Ok(Some(now))
    }

    fn findings(
        &self,
        entry: &Followed,
        loaded: &Loaded,
        observed: &Observed,
        commit: &str,
    ) -> Result<Vec<Finding>, Failure> {
        let position = loaded.config.rules.iter().position(|rule| rule.authority == entry.authority);
        // The operator's file is refused where `watch` names an authority without a rule.
        let position = position.ok_or(Failure::Bug)?;
        let root = loaded.rule(position).bootstrap.as_str();
        let root = root.strip_suffix(BOOTSTRAP).map_or(".", |folder| folder.trim_end_matches('/'));
        let root = if root.is_empty() { "." } else { root };
        let bounds = Bounds::of(&loaded.config.limits);
        let gathered = git::gather(&Place::followed(entry), commit, root, bounds)?;
        let bootstrap = bootstrap_of(&gathered.files)?;
        let none = Keyring::default();
        let keyring = match &observed.holder {
            Holder::Vault { .. } => &none,
            Holder::None | Holder::Git { .. } | Holder::Disagree(_) | Holder::Unreadable(_) => {
                loaded.keyring(position)?
            }
        };
        let limits = Limits { document: loaded.config.limits.document, ..Limits::default() };
        let request = lint::Request {
            files: &gathered.files,
            bootstrap: bootstrap.as_ref(),
            bootstraps_above: &gathered.bootstraps_above,
            keys: Opener::new(keyring).sharing(&self.data_keys),
            limits: &limits,
        };
        let mut findings = lint::lint(&request);
        if matches!(observed.holder, Holder::Vault { .. }) {
            let documents = observed.evidence.documents_of(&observed.holder);
            let (files, bootstrap) = (&gathered.files, bootstrap.as_ref());
            findings.extend(lint::changes_after_handover(files, bootstrap, &documents, &limits, git::blob_id));
        }
        Ok(findings)
    }
}

/// Where the references of a followed repository move; nothing for one that is not there (yet), or is elsewhere.
pub(crate) fn references(entry: &Followed) -> Vec<Target> {
    let folder = Place::followed(entry).references().and_then(Result::ok);
    folder.map(|folder| watch::repository(&folder)).unwrap_or_default()
}
