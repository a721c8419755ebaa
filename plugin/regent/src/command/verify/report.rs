//! What was looked at, what was found, and the way out of each: for people, and for programs.

use std::fmt::Write as _;

use regent_core::evidence::{Holder, ListedClass};
use regent_core::handover::record::{Loss, Lost, Marked};
use regent_core::name::AuthorityName;
use regent_core::verify::{Finding, History, Pulse, Settlement, Severity, Values, worst};
use serde_json::{Value, json};

use crate::cli::ReportOutputArg;
use crate::failure::{Exit, one_line};

/// One run that came to its end.
pub(super) struct Report {
    pub(super) name: AuthorityName,
    pub(super) holder: Holder,
    /// `None` where Git rules, and nothing is recorded.
    pub(super) verified: Option<Verified>,
    pub(super) findings: Vec<Finding>,
}

/// What was looked at.
pub(super) struct Verified {
    pub(super) marked: Marked,
    pub(super) settled: Settlement,
    pub(super) copies: usize,
    /// Live Secrets; `None` without a cluster.
    pub(super) secrets: Option<usize>,
    pub(super) pulse: Pulse,
    /// The revision, where one was named.
    pub(super) commit: Option<String>,
    /// Documents that a front door answers for it.
    pub(super) rendered: Option<usize>,
    pub(super) history: Option<History>,
}

impl Report {
    pub(super) fn git_rules(name: &AuthorityName, holder: &Holder) -> Self {
        Self { name: name.clone(), holder: holder.clone(), verified: None, findings: Vec::new() }
    }

    /// How the run ends: by the worst that was found.
    pub(super) fn exit(&self) -> Exit {
        match worst(&self.findings) {
            Severity::Note => Exit::Done,
            Severity::Attention => Exit::Refused,
            Severity::Underway => Exit::Underway,
            Severity::Unknown => Exit::Authority,
            Severity::Person => Exit::Person,
        }
    }

    pub(super) fn to_text(&self, output: ReportOutputArg) -> String {
        match output {
            ReportOutputArg::Human => self.human(),
            ReportOutputArg::Json => format!("{}\n", self.json()),
        }
    }

    fn human(&self) -> String {
        let mut lines = vec![("authority", format!("{}: {}", self.name, self.holder))];
        match &self.verified {
            None => lines.push(("record", "none: nothing was handed over yet".to_owned())),
            Some(verified) => lines.extend(verified.lines()),
        }
        let mut text = String::new();
        // Writing into a string does not fail.
        for (what, said) in &lines {
            let _ = writeln!(text, "{what:<10} {said}");
        }
        for finding in &self.findings {
            let _ = writeln!(text, "\n{}: {}", finding.severity().word(), one_line(&finding.to_string()));
            if let Some(way_out) = way_out(finding) {
                let _ = writeln!(text, "  {way_out}");
            }
        }
        if self.verified.is_some() && worst(&self.findings) == Severity::Note {
            text.push_str("\neverything is as the handover left it\n");
        }
        text
    }

    fn json(&self) -> Value {
        let findings: Vec<Value> = self.findings.iter().map(finding_as_json).collect();
        let mut json = json!({
            "authority": self.name.as_str(), "rules": self.holder.to_string(), "findings": findings,
            "exitCode": self.exit() as u8,
        });
        if let Some(verified) = &self.verified {
            let record = &verified.marked.record;
            json["handover"] = json!({
                "id": record.handover.to_string(), "epoch": record.epoch.get(), "commit": record.git_commit,
                "settled": verified.settled == Settlement::Settled,
            });
            json["copies"] = json!(verified.copies);
            json["secrets"] = json!(verified.secrets);
            json["heartbeat"] = json!(verified.heartbeat());
            json["revision"] = json!(
                verified.commit.as_ref().map(|commit| json!({ "commit": commit, "documents": verified.rendered }))
            );
            json["history"] = json!(verified.history.as_ref().map(|history| json!({
                "commits": history.commits, "documents": history.opened.len(), "rotated": rotated(history),
                "closed": history.closed, "unclear": history.unclear,
            })));
        }
        json
    }
}

impl Verified {
    /// The count that Vault is at, where it is known.
    pub(super) fn heartbeat(&self) -> Option<u64> {
        match self.pulse {
            Pulse::Steady { version } | Pulse::Accepted { version } => Some(version),
            Pulse::RolledBack { .. } | Pulse::Ahead { .. } | Pulse::Deleted | Pulse::Unknown(_) => None,
        }
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let record = &self.marked.record;
        let place = &record.site.vault.place;
        let mut lines = vec![
            ("record", format!("of commit {}, {} documents", record.git_commit, record.documents.len())),
            ("vault", format!("{place}: {} copies", self.copies)),
        ];
        if let Some(version) = self.heartbeat() {
            lines.push(("heartbeat", version.to_string()));
        }
        if let Some(secrets) = self.secrets {
            lines.push(("secrets", format!("{secrets} compared")));
        }
        if let Some(commit) = &self.commit {
            let rendered =
                self.rendered.map_or_else(|| "not rendered".to_owned(), |count| format!("{count} documents"));
            lines.push(("revision", format!("{commit}: {rendered}")));
        }
        if let Some(history) = &self.history {
            let closed = match history.closed + history.unclear {
                0 => String::new(),
                _ => format!("; {} versions do not open, {} were not judged", history.closed, history.unclear),
            };
            lines.push((
                "history",
                format!(
                    "{} commits: {} documents open, {} of them with values that were rotated since{closed}",
                    history.commits,
                    history.opened.len(),
                    rotated(history)
                ),
            ));
        }
        lines
    }
}

fn rotated(history: &History) -> usize {
    history.opened.iter().filter(|exposed| exposed.values == Values::Rotated).count()
}

fn finding_as_json(finding: &Finding) -> Value {
    let mut json = json!({
        "code": finding.code(), "severity": finding.severity().word(), "says": finding.to_string(),
        "wayOut": way_out(finding),
    });
    if let Some(secret) = finding.secret() {
        json["secret"] = json!(secret.to_string());
    }
    match finding {
        Finding::ToRotate(exposed) | Finding::InTheClear(exposed) | Finding::Forgotten(exposed) => {
            json["file"] = json!(exposed.file.as_str());
            json["commits"] = json!(exposed.commits);
            if let Values::InUse(keys) = &exposed.values {
                json["keys"] = json!(keys);
            }
        }
        Finding::Differs(_, _, keys) => json["keys"] = json!(keys),
        Finding::RolledBack { beats } | Finding::Ahead { beats } => json["beats"] = json!(beats),
        Finding::Mirrored
        | Finding::Accepted
        | Finding::Unsettled
        | Finding::SettlementUnseen
        | Finding::SettlementUnknown(_)
        | Finding::ListUnreadable
        | Finding::ListDiffers(_)
        | Finding::Copy(_)
        | Finding::HeartbeatDeleted
        | Finding::HeartbeatUnknown(_)
        | Finding::NotLive(..)
        | Finding::NotCompared(..)
        | Finding::RendersValue(_)
        | Finding::RendersNothing(_)
        | Finding::StaleInGit(_)
        | Finding::AbsentInGit(_)
        | Finding::UnknownInGit(..)
        | Finding::NoIdentity
        | Finding::HistoryCut(_) => {}
    }
    json
}

/// What helps, where something does.
fn way_out(finding: &Finding) -> Option<&'static str> {
    Some(match finding {
        Finding::Mirrored | Finding::Accepted => return None,
        Finding::SettlementUnseen => {
            "where nobody does: `regent handover` with `--settle-without` operations, outcome and caches"
        }
        Finding::Unsettled => "`regent handover` goes on from here; do not rotate yet",
        Finding::SettlementUnknown(_) | Finding::ListUnreadable => "`regent status` shows what the witnesses say",
        Finding::ListDiffers(_) => {
            "find out who wrote it; group regent:break-glass deletes that ConfigMap, and `regent verify` mirrors the record"
        }
        Finding::Copy(Loss { how: Lost::NotRead, .. }) => "see that this token may read it, then verify again",
        Finding::Copy(Loss { how: Lost::Deleted, .. }) => {
            "a Vault administrator brings it back (`bao kv undelete`), or writes it again"
        }
        Finding::Copy(Loss { how: Lost::Absent | Lost::RolledBack | Lost::Recreated, .. }) => {
            "restore a newer snapshot of Vault; or see who wrote there, and that its value is right"
        }
        Finding::RolledBack { .. } => {
            "restore a newer snapshot of Vault; or rotate what was rotated since, then `regent verify --accept-restored`"
        }
        Finding::Ahead { .. } => {
            "see that nobody else verifies by this name; if the cluster was restored, `regent verify --accept-restored`"
        }
        Finding::HeartbeatDeleted => {
            "a Vault administrator brings it back (`bao kv undelete`); or removes it (`bao kv metadata delete`), then \
             `regent verify --accept-restored`"
        }
        Finding::HeartbeatUnknown(_) | Finding::NotCompared(..) => {
            "`regent handover --print-policy` prints what the verify account needs, in Vault and in the cluster"
        }
        Finding::NotLive(_, ListedClass::Permanent) => "`regent restore` brings an absent permanent Secret back",
        Finding::NotLive(_, ListedClass::Handover) | Finding::Differs(_, ListedClass::Handover, _) => {
            "see that what delivers it from Vault runs, and names this Secret"
        }
        Finding::Differs(_, ListedClass::Permanent, _) => {
            "change the live Secret by hand, or delete it and `regent restore` it"
        }
        Finding::RendersValue(_) => {
            "stop this front door, and report it: once Vault rules none may answer with a value"
        }
        Finding::RendersNothing(_) => {
            "`regent render --assume vault` tells more; `regent import` takes what is new to Vault"
        }
        Finding::StaleInGit(_) => {
            "commit Vault's value with `sops edit`, or write Git's to Vault: the next bootstrap needs it"
        }
        Finding::AbsentInGit(_) => "commit it again: the next bootstrap needs it",
        Finding::UnknownInGit(..) | Finding::NoIdentity => "give a key that opens it (`-i FILE`)",
        Finding::ToRotate(_) => "write a new value to Vault: whoever has a clone and a key has the old one",
        Finding::InTheClear(_) => "take what stood there as known to everybody, and rotate it",
        Finding::Forgotten(_) => "if anything still takes these values, rotate them where they are",
        Finding::HistoryCut(_) => "`git fetch --unshallow`, and name that clone with `--repo`",
    })
}
