//! Counters and gauges, and what an operator does when they move. Labels are closed lists, names of authorities
//! and commits: never a Secret, a path or a value.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use regent_core::evidence::{Holder, Mirror};
use regent_sops::DataKeyCounts;

use crate::failure::Code;

/// Counters and gauges of one process.
#[derive(Clone)]
pub(crate) struct Metrics {
    inner: Arc<Inner>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Values were rendered.
    Values,
    /// Stubs were rendered: Vault rules.
    Stubs,
    /// Refused or failed, and why.
    Refused(Code),
    /// Whoever asked went away.
    Abandoned,
}

/// What is reloaded when its mount changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// The operator's file.
    Config,
    /// A rule's identities.
    Keys,
    /// The endpoint's certificate.
    Certificate,
}

/// Counts a request as under way.
#[must_use]
pub(crate) struct InFlight {
    requests: Gauge,
}

struct Inner {
    registry: Registry,
    answers: Family<AnswerLabels, Counter>,
    data_key_requests: Family<AnswerLabels, Counter>,
    answer_seconds: Family<AnswerLabel, Histogram>,
    in_flight: Gauge,
    upload_sent: Counter,
    upload_decompressed: Counter,
    upload_kept: Counter,
    reloads: Family<ReloadLabels, Counter>,
    data_key_lookups: Family<FoundLabel, Counter>,
    data_keys_held: Gauge,
    socket_lost: Counter,
    watch_commits: Family<CommitLabels, Gauge>,
    watch_findings: Family<FindingLabels, Gauge>,
    watch_failures: Family<AuthorityLabel, Counter>,
    authority_epoch: Family<AuthorityLabel, Gauge>,
    authority_holder: Family<HolderLabels, Gauge>,
    authority_settled: Family<AuthorityLabel, Gauge>,
    authority_mirror: Family<AuthorityLabel, Gauge>,
    witness_reads: Counter,
    witness_seconds: Histogram,
    api_requests: Family<StatusLabel, Counter>,
    artifact_requests: Family<StatusLabel, Counter>,
    /// Each followed authority's commit, whose series goes when the next one comes.
    followed: Mutex<HashMap<String, String>>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AnswerLabels {
    answer: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AnswerLabel {
    answer: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReloadLabels {
    what: &'static str,
    sound: bool,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FoundLabel {
    found: bool,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AuthorityLabel {
    authority: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HolderLabels {
    authority: String,
    holder: &'static str,
}

/// An HTTP status as it was said, or what stands for none.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StatusLabel {
    code: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CommitLabels {
    authority: String,
    commit: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FindingLabels {
    authority: String,
    severity: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VersionLabel {
    version: &'static str,
}

/// Upper bounds in seconds: after the last one Argo CD's own callers have given up by default.
const ANSWER_SECONDS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Upper bounds in seconds: a read of witnesses takes some milliseconds, and is given up after three seconds.
const WITNESS_SECONDS: [f64; 11] = [0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 3.0];

/// An artifact that was asked for and not taken.
const CUT: &str = "cut";

/// Who may hold an authority, as the label has it.
const HOLDERS: [&str; 5] = ["git", "vault", "none", "disagree", "unreadable"];

impl Metrics {
    /// All at zero. Series whose labels are known are there from the start: a rate cannot see a first step from
    /// nothing to one.
    pub(crate) fn new() -> Self {
        let inner = Inner::registered();
        let outcomes = [Answer::Values, Answer::Stubs, Answer::Abandoned].into_iter();
        let refusals = Code::ALL.into_iter().filter(|code| !code.entry().exits.is_empty()).map(Answer::Refused);
        for answer in outcomes.chain(refusals) {
            let (answer, code) = labels(answer);
            drop(inner.answers.get_or_create(&AnswerLabels { answer, code }));
            drop(inner.answer_seconds.get_or_create(&AnswerLabel { answer }));
        }
        for (answer, code) in
            [("given", ""), ("refused", Code::Release.entry().name), ("refused", Code::Token.entry().name)]
        {
            drop(inner.data_key_requests.get_or_create(&AnswerLabels { answer, code }));
        }
        for what in [Reload::Config, Reload::Keys, Reload::Certificate].map(Reload::label) {
            for sound in [true, false] {
                drop(inner.reloads.get_or_create(&ReloadLabels { what, sound }));
            }
        }
        for code in ["200", "404", "none"] {
            drop(inner.api_requests.get_or_create(&StatusLabel { code: code.to_owned() }));
        }
        for code in ["200", "404", CUT] {
            drop(inner.artifact_requests.get_or_create(&StatusLabel { code: code.to_owned() }));
        }
        for found in [true, false] {
            drop(inner.data_key_lookups.get_or_create(&FoundLabel { found }));
        }
        Self { inner: Arc::new(inner) }
    }

    /// A request for manifests was answered.
    pub(crate) fn answered(&self, answer: Answer, took: Duration) {
        let (answer, code) = labels(answer);
        self.inner.answers.get_or_create(&AnswerLabels { answer, code }).inc();
        self.inner.answer_seconds.get_or_create(&AnswerLabel { answer }).observe(took.as_secs_f64());
    }

    /// Flux' endpoint answered: with what was asked for, or with a refusal of this code.
    pub(crate) fn data_key_asked(&self, refused: Option<Code>) {
        let (answer, code) = refused.map_or(("given", ""), |code| ("refused", code.entry().name));
        self.inner.data_key_requests.get_or_create(&AnswerLabels { answer, code }).inc();
    }

    /// Requests under way: +1 until the guard is dropped.
    pub(crate) fn in_flight(&self) -> InFlight {
        let requests = self.inner.in_flight.clone();
        requests.inc();
        InFlight { requests }
    }

    /// An upload was received whole: bytes as sent, decompressed, kept.
    pub(crate) fn uploaded(&self, sent: u64, stream: u64, kept: u64) {
        self.inner.upload_sent.inc_by(sent);
        self.inner.upload_decompressed.inc_by(stream);
        self.inner.upload_kept.inc_by(kept);
    }

    /// A mount changed and was read again.
    pub(crate) fn reloaded(&self, what: Reload, sound: bool) {
        self.inner.reloads.get_or_create(&ReloadLabels { what: what.label(), sound }).inc();
    }

    /// What the process's one data key cache did so far and holds. Late news of fewer look-ups changes nothing, so
    /// requests may tell it in any order.
    pub(crate) fn data_keys(&self, counts: DataKeyCounts) {
        for (found, lookups) in [(true, counts.hits), (false, counts.misses)] {
            let counter = self.inner.data_key_lookups.get_or_create(&FoundLabel { found });
            counter.inner().fetch_max(lookups, Ordering::Relaxed);
        }
        self.inner.data_keys_held.set(gauge(counts.held));
    }

    /// The socket's file vanished or was replaced.
    pub(crate) fn socket_lost(&self) {
        self.inner.socket_lost.inc();
    }

    /// A followed repository was looked at: its commit, and how many findings of each severity.
    pub(crate) fn followed(&self, authority: &str, commit: &str, errors: usize, warnings: usize) {
        let labels = |commit: String| CommitLabels { authority: authority.to_owned(), commit };
        // Held to the end, so that of two looks at one repository no commit stays behind.
        let mut followed = self.inner.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = followed.insert(authority.to_owned(), commit.to_owned()) {
            self.inner.watch_commits.remove(&labels(before));
        }
        self.inner.watch_commits.get_or_create(&labels(commit.to_owned())).set(1);
        for (severity, findings) in [("error", errors), ("warning", warnings)] {
            let labels = FindingLabels { authority: authority.to_owned(), severity };
            self.inner.watch_findings.get_or_create(&labels).set(gauge(findings));
        }
        drop(self.inner.watch_failures.get_or_create(&AuthorityLabel { authority: authority.to_owned() }));
    }

    /// A followed repository could not be looked at.
    pub(crate) fn not_followed(&self, authority: &str) {
        self.inner.watch_failures.get_or_create(&AuthorityLabel { authority: authority.to_owned() }).inc();
    }

    /// Who holds an authority, and how far a handover came. What a holder has none of is not told.
    pub(crate) fn authority(&self, name: &str, held: &Holder, is_settled: bool) {
        let inner = &self.inner;
        let now = holder_label(held);
        for holder in HOLDERS {
            let labels = HolderLabels { authority: name.to_owned(), holder };
            inner.authority_holder.get_or_create(&labels).set(i64::from(holder == now));
        }
        let (epoch, settled, mirror) = match held {
            Holder::Git { epoch, .. } => (Some(epoch), Some(false), Some(true)),
            Holder::Vault { epoch, mirror, .. } => (Some(epoch), Some(is_settled), Some(*mirror == Mirror::Complete)),
            Holder::None | Holder::Disagree(_) | Holder::Unreadable(_) => (None, None, None),
        };
        let told = [
            (&inner.authority_epoch, epoch.map(|epoch| i64::from(epoch.get()))),
            (&inner.authority_settled, settled.map(i64::from)),
            (&inner.authority_mirror, mirror.map(i64::from)),
        ];
        let label = AuthorityLabel { authority: name.to_owned() };
        for (family, value) in told {
            match value {
                Some(value) => {
                    family.get_or_create(&label).set(value);
                }
                None => {
                    family.remove(&label);
                }
            }
        }
    }

    /// No rule speaks of an authority any more.
    pub(crate) fn no_authority(&self, name: &str) {
        let inner = &self.inner;
        for holder in HOLDERS {
            inner.authority_holder.remove(&HolderLabels { authority: name.to_owned(), holder });
        }
        let label = AuthorityLabel { authority: name.to_owned() };
        for family in [&inner.authority_epoch, &inner.authority_settled, &inner.authority_mirror] {
            family.remove(&label);
        }
    }

    /// The witnesses of an authority were read from a cluster, or that was given up.
    pub(crate) fn witnesses_read(&self, took: Duration) {
        self.inner.witness_reads.inc();
        self.inner.witness_seconds.observe(took.as_secs_f64());
    }

    /// The API server was asked: the status of its answer, or none.
    pub(crate) fn asked(&self, status: Option<u16>) {
        let code = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        self.inner.api_requests.get_or_create(&StatusLabel { code }).inc();
    }

    /// An artifact was asked for: the status of the answer.
    pub(crate) fn artifact_asked(&self, status: u16) {
        self.inner.artifact_requests.get_or_create(&StatusLabel { code: status.to_string() }).inc();
    }

    /// A connection for an artifact ended before the answer was taken.
    pub(crate) fn artifact_cut(&self) {
        self.inner.artifact_requests.get_or_create(&StatusLabel { code: CUT.to_owned() }).inc();
    }

    /// Prometheus's text format, version 0.0.4: what every scraper reads.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.inner.registry).expect("a String takes every write");
        text
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.requests.dec();
    }
}

impl Reload {
    fn label(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Keys => "keys",
            Self::Certificate => "certificate",
        }
    }
}

impl Inner {
    #[expect(clippy::too_many_lines, reason = "a table: one entry a metric")]
    fn registered() -> Self {
        let mut inner = Self {
            registry: Registry::with_prefix("regent"),
            answers: Family::default(),
            data_key_requests: Family::default(),
            answer_seconds: Family::new_with_constructor(|| Histogram::new(ANSWER_SECONDS)),
            in_flight: Gauge::default(),
            upload_sent: Counter::default(),
            upload_decompressed: Counter::default(),
            upload_kept: Counter::default(),
            reloads: Family::default(),
            data_key_lookups: Family::default(),
            data_keys_held: Gauge::default(),
            socket_lost: Counter::default(),
            watch_commits: Family::default(),
            watch_findings: Family::default(),
            watch_failures: Family::default(),
            authority_epoch: Family::default(),
            authority_holder: Family::default(),
            authority_settled: Family::default(),
            authority_mirror: Family::default(),
            witness_reads: Counter::default(),
            witness_seconds: Histogram::new(WITNESS_SECONDS),
            api_requests: Family::default(),
            artifact_requests: Family::default(),
            followed: Mutex::default(),
        };
        let registry = &mut inner.registry;
        registry.register(
            "answers",
            "Requests for manifests that ended, by kind of answer and code. Refused: `regent explain CODE` tells the \
             way out; values after a handover: stop the sync and look at the authority; abandoned: compare with the \
             caller's timeout",
            inner.answers.clone(),
        );
        registry.register_with_unit(
            "answer",
            "From a request's arrival to its end. Near the caller's timeout: look at regent_upload_sent_bytes_total \
             and narrow what is uploaded, or raise both timeouts",
            Unit::Seconds,
            inner.answer_seconds.clone(),
        );
        registry.register(
            "data_key_requests",
            "Requests of kustomize-controller for data keys, and of accounts that log in, by answer and code. Refused: \
             `regent explain CODE` tells the way out; given after a handover: report it",
            inner.data_key_requests.clone(),
        );
        registry.register(
            "requests_in_flight",
            "Requests for manifests under way. Growing without end: callers ask faster than the CPU limit lets regent \
             answer, so raise it",
            inner.in_flight.clone(),
        );
        registry.register_with_unit(
            "upload_sent",
            "Bytes of uploads as they were sent. High for what is rendered: set manifest-generate-paths on the \
             applications, or exclude more from the upload",
            Unit::Bytes,
            inner.upload_sent.clone(),
        );
        registry.register_with_unit(
            "upload_decompressed",
            "Bytes of uploads after decompression. Near limits.stream a request: as for the bytes sent",
            Unit::Bytes,
            inner.upload_decompressed.clone(),
        );
        registry.register_with_unit(
            "upload_kept",
            "Bytes of uploads kept as manifests or ciphertext. Near limits.upload a request: split the root, or raise \
             the limit together with the memory limit",
            Unit::Bytes,
            inner.upload_kept.clone(),
        );
        registry.register(
            "reloads",
            "Changed mounts that were read again. With sound=\"false\" the state before it is still in use: correct \
             the file that the log names",
            inner.reloads.clone(),
        );
        registry.register(
            "data_key_lookups",
            "Data keys looked up. Many with found=\"false\" while nothing changes: the cache is too small or a key \
             file changes all the time",
            inner.data_key_lookups.clone(),
        );
        registry.register(
            "data_keys_held",
            "Unwrapped data keys in memory, wiped at a handover. Above zero after the last authority was handed over: report \
             it and restart the plugin",
            inner.data_keys_held.clone(),
        );
        registry.register(
            "socket_lost",
            "Times that the plugin's socket file vanished or was replaced. Look for a second plugin of the same name \
             and version, or for what cleans the folder",
            inner.socket_lost.clone(),
        );
        registry.register(
            "watch_commit_info",
            "The commit of a followed repository that was looked at last. Older than the branch: whatever updates the \
             working copy has stopped",
            inner.watch_commits.clone(),
        );
        registry.register(
            "watch_findings",
            "Findings in the followed commit. Errors: this commit will be refused, so run `regent lint` on it and \
             correct it before it is synced",
            inner.watch_findings.clone(),
        );
        registry.register(
            "watch_failures",
            "Times that a followed repository could not be looked at; rendering does not depend on it. Rising: check \
             the path and its permissions",
            inner.watch_failures.clone(),
        );
        registry.register(
            "authority_epoch",
            "The epoch that the witnesses name. Lower than before: the cluster was restored from a backup, so look at \
             `regent status` before anything else",
            inner.authority_epoch.clone(),
        );
        registry.register(
            "authority_holder",
            "Who holds the authority as this process counts it: 1 for one of git, vault, none, disagree, unreadable. \
             Anything but git or vault: requests are refused, and `regent status` tells why",
            inner.authority_holder.clone(),
        );
        registry.register(
            "authority_settled",
            "1 once no old value can come back after the handover. Long 0 while vault holds: values must not be rotated \
             yet, so run the handover again",
            inner.authority_settled.clone(),
        );
        registry.register(
            "authority_mirror_complete",
            "0 while a handover is recorded and one of its two witnesses in the cluster is missing: run the handover again",
            inner.authority_mirror.clone(),
        );
        registry.register(
            "witness_reads",
            "Reads of an authority's witnesses from the API server. Requests that wait at the same time share one, so this \
             is at most two a request; more: report it",
            inner.witness_reads.clone(),
        );
        registry.register_with_unit(
            "witness_read",
            "How long a read of the witnesses took. Near three seconds: the API server or etcd is overloaded or away, and \
             requests are refused as P1",
            Unit::Seconds,
            inner.witness_seconds.clone(),
        );
        registry.register(
            "api_requests",
            "Requests to the API server by the status of its answer. 401 or 403: look at the account's token and its role \
             regent-reader-NAME; none: at the network and the API server",
            inner.api_requests.clone(),
        );
        registry.register(
            "artifact_requests",
            "Requests for artifacts by the status of the answer. 404 that goes on: a Kustomization waits for an artifact \
             that is not on the volume, so look at the log for what was not published; cut: clients that took too few \
             bytes or went away, so look at the network between kustomize-controller and this pod",
            inner.artifact_requests.clone(),
        );
        registry.register(
            "build",
            "The version that runs. Two of them for long: a rollout is stuck",
            Info::new(VersionLabel { version: env!("CARGO_PKG_VERSION") }),
        );
        inner
    }
}

/// The answer's kind and code. What is no error has a code too: P4 and P2 are why there are values or stubs.
fn labels(answer: Answer) -> (&'static str, &'static str) {
    match answer {
        Answer::Values => ("values", Code::P4.entry().name),
        Answer::Stubs => ("stubs", Code::P2.entry().name),
        Answer::Refused(code) => ("refused", code.entry().name),
        Answer::Abandoned => ("abandoned", ""),
    }
}

fn holder_label(holder: &Holder) -> &'static str {
    match holder {
        Holder::Git { .. } => "git",
        Holder::Vault { .. } => "vault",
        Holder::None => "none",
        Holder::Disagree(_) => "disagree",
        Holder::Unreadable(_) => "unreadable",
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use regent_core::name::{Epoch, HandoverId};

    use super::*;

    /// The value of one series, `None` where it is not told.
    fn value(metrics: &Metrics, series: &str) -> Option<f64> {
        let text = metrics.text();
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    #[track_caller]
    fn moves(series: &str, by: f64, cause: impl FnOnce(&Metrics)) {
        let metrics = Metrics::new();
        assert_eq!(value(&metrics, series), Some(0.0), "{series} starts at zero");
        cause(&metrics);
        assert_eq!(value(&metrics, series), Some(by), "{series}");
    }

    #[test]
    fn every_answer_is_counted_under_its_kind_and_code() {
        let took = Duration::from_millis(3);
        for (answer, series) in [
            (Answer::Values, "regent_answers_total{answer=\"values\",code=\"P4\"}"),
            (Answer::Stubs, "regent_answers_total{answer=\"stubs\",code=\"P2\"}"),
            (Answer::Refused(Code::P5), "regent_answers_total{answer=\"refused\",code=\"P5\"}"),
            (Answer::Refused(Code::ClearSecret), "regent_answers_total{answer=\"refused\",code=\"clear-secret\"}"),
            (Answer::Abandoned, "regent_answers_total{answer=\"abandoned\",code=\"\"}"),
        ] {
            moves(series, 1.0, |metrics| metrics.answered(answer, took));
        }
    }

    #[test]
    fn requests_for_data_keys_are_counted_by_their_answer() {
        moves("regent_data_key_requests_total{answer=\"given\",code=\"\"}", 1.0, |metrics| {
            metrics.data_key_asked(None);
        });
        moves("regent_data_key_requests_total{answer=\"refused\",code=\"release\"}", 1.0, |metrics| {
            metrics.data_key_asked(Some(Code::Release));
        });
    }

    #[test]
    fn the_time_of_an_answer_falls_between_its_bounds() {
        let metrics = Metrics::new();
        metrics.answered(Answer::Values, Duration::from_millis(3));
        let bucket =
            |bound: &str| value(&metrics, &format!("regent_answer_seconds_bucket{{answer=\"values\",le=\"{bound}\"}}"));
        assert_eq!((bucket("0.0025"), bucket("0.005"), bucket("+Inf")), (Some(0.0), Some(1.0), Some(1.0)));
        assert_eq!(value(&metrics, "regent_answer_seconds_sum{answer=\"values\"}"), Some(0.003));
        assert_eq!(value(&metrics, "regent_answer_seconds_count{answer=\"refused\"}"), Some(0.0));
    }

    #[test]
    fn a_request_is_in_flight_until_its_guard_goes() {
        let metrics = Metrics::new();
        let (first, second) = (metrics.in_flight(), metrics.clone().in_flight());
        assert_eq!(value(&metrics, "regent_requests_in_flight"), Some(2.0));
        drop(first);
        assert_eq!(value(&metrics, "regent_requests_in_flight"), Some(1.0));
        drop(second);
        assert_eq!(value(&metrics, "regent_requests_in_flight"), Some(0.0));
    }

    #[test]
    fn uploads_reloads_and_lost_sockets_are_counted() {
        moves("regent_upload_sent_bytes_total", 10.0, |metrics| metrics.uploaded(10, 200, 3));
        moves("regent_upload_decompressed_bytes_total", 200.0, |metrics| metrics.uploaded(10, 200, 3));
        moves("regent_upload_kept_bytes_total", 3.0, |metrics| metrics.uploaded(10, 200, 3));
        moves("regent_reloads_total{what=\"keys\",sound=\"false\"}", 1.0, |metrics| {
            metrics.reloaded(Reload::Keys, false);
        });
        moves("regent_reloads_total{what=\"config\",sound=\"true\"}", 1.0, |metrics| {
            metrics.reloaded(Reload::Config, true);
        });
        moves("regent_socket_lost_total", 1.0, Metrics::socket_lost);
    }

    #[test]
    fn look_ups_of_data_keys_never_go_back_and_keys_held_do() {
        let metrics = Metrics::new();
        metrics.data_keys(DataKeyCounts { hits: 7, misses: 2, held: 2 });
        metrics.data_keys(DataKeyCounts { hits: 6, misses: 2, held: 0 });
        assert_eq!(value(&metrics, "regent_data_key_lookups_total{found=\"true\"}"), Some(7.0));
        assert_eq!(value(&metrics, "regent_data_key_lookups_total{found=\"false\"}"), Some(2.0));
        assert_eq!(value(&metrics, "regent_data_keys_held"), Some(0.0));
    }

    #[test]
    fn a_followed_repository_has_one_commit() {
        let metrics = Metrics::new();
        let commit = |commit: &str| {
            value(&metrics, &format!("regent_watch_commit_info{{authority=\"prod\",commit=\"{commit}\"}}"))
        };
        let findings = |severity: &str| {
            value(&metrics, &format!("regent_watch_findings{{authority=\"prod\",severity=\"{severity}\"}}"))
        };
        let failures = || value(&metrics, "regent_watch_failures_total{authority=\"prod\"}");
        metrics.followed("prod", "aa", 2, 1);
        assert_eq!((findings("error"), findings("warning"), failures()), (Some(2.0), Some(1.0), Some(0.0)));
        metrics.followed("other", "aa", 0, 0);
        metrics.followed("prod", "bb", 0, 0);
        assert_eq!((commit("aa"), commit("bb")), (None, Some(1.0)));
        assert_eq!((findings("error"), findings("warning")), (Some(0.0), Some(0.0)));
        metrics.followed("prod", "bb", 0, 0);
        metrics.not_followed("prod");
        assert_eq!((commit("bb"), failures()), (Some(1.0), Some(1.0)), "the last commit seen stays known");
    }

    #[test]
    fn the_build_tells_its_version() {
        let series = format!("regent_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
        assert_eq!(value(&Metrics::new(), &series), Some(1.0));
    }

    /// Everything that can be told, told.
    fn everything() -> String {
        let metrics = Metrics::new();
        metrics.followed("prod", "aa", 1, 1);
        metrics.not_followed("prod");
        metrics.authority("prod", &vault(Mirror::Complete), true);
        metrics.asked(Some(403));
        metrics.text()
    }

    fn vault(mirror: Mirror) -> Holder {
        let handover = HandoverId::parse("0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f").unwrap();
        Holder::Vault { epoch: Epoch::FIRST, handover, mirror }
    }

    #[test]
    fn who_holds_an_authority_is_one_series_of_five_and_what_is_not_known_is_not_told() {
        let metrics = Metrics::new();
        let holder = |holder: &str| {
            value(&metrics, &format!("regent_authority_holder{{authority=\"prod\",holder=\"{holder}\"}}"))
        };
        let of = |family: &str| value(&metrics, &format!("regent_authority_{family}{{authority=\"prod\"}}"));
        let told = || (of("epoch"), of("settled"), of("mirror_complete"));
        assert_eq!(holder("git"), None);
        for (held, settled, expected, one) in [
            (Holder::Git { epoch: Epoch::FIRST, supersedes: None }, true, (Some(1.0), Some(0.0), Some(1.0)), "git"),
            (vault(Mirror::Incomplete), false, (Some(1.0), Some(0.0), Some(0.0)), "vault"),
            (vault(Mirror::Complete), true, (Some(1.0), Some(1.0), Some(1.0)), "vault"),
            (Holder::None, false, (None, None, None), "none"),
            (Holder::Disagree(String::new()), false, (None, None, None), "disagree"),
            (Holder::Unreadable(String::new()), true, (None, None, None), "unreadable"),
        ] {
            metrics.authority("prod", &held, settled);
            assert_eq!(told(), expected, "{held}");
            for each in HOLDERS {
                assert_eq!(holder(each), Some(f64::from(u8::from(each == one))), "{held} {each}");
            }
        }
        metrics.no_authority("prod");
        assert_eq!((told(), holder("unreadable")), ((None, None, None), None));
    }

    #[test]
    fn reads_of_witnesses_and_answers_of_the_api_server_are_counted() {
        moves("regent_witness_reads_total", 1.0, |metrics| metrics.witnesses_read(Duration::from_millis(2)));
        moves("regent_witness_read_seconds_sum", 0.5, |metrics| metrics.witnesses_read(Duration::from_millis(500)));
        moves("regent_api_requests_total{code=\"404\"}", 1.0, |metrics| metrics.asked(Some(404)));
        moves("regent_api_requests_total{code=\"none\"}", 1.0, |metrics| metrics.asked(None));
    }

    #[test]
    fn requests_for_artifacts_are_counted_by_their_end() {
        moves("regent_artifact_requests_total{code=\"404\"}", 1.0, |metrics| metrics.artifact_asked(404));
        moves("regent_artifact_requests_total{code=\"cut\"}", 1.0, Metrics::artifact_cut);
    }

    #[test]
    fn labels_are_from_a_closed_list() {
        let known =
            ["answer", "code", "le", "what", "sound", "found", "authority", "commit", "severity", "version", "holder"];
        for line in everything().lines().filter(|line| !line.starts_with('#')) {
            let labels = line.split_once('{').map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
            for label in labels.split(',').filter(|label| !label.is_empty()) {
                assert!(known.contains(&label.split_once('=').unwrap().0), "{line}");
            }
        }
    }

    #[test]
    fn every_family_has_the_prefix_a_type_and_a_help_that_says_more_than_its_name() {
        let text = everything();
        let families: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        assert_eq!(families.len(), 23, "{families:?}");
        for family in families {
            assert!(family.starts_with("regent_"), "{family}");
            let help = text.lines().find_map(|line| line.strip_prefix(&format!("# HELP {family} "))).unwrap();
            assert!(help.len() > 50 && help.ends_with('.'), "{family}: {help}");
        }
    }
}
