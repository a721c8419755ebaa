//! `regent lint`: everything that is wrong with a root, for people, programs and code scanning.

mod builds;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::process::ExitCode;

use regent_core::Refusal;
use regent_core::bootstrap::BootstrapError;
use regent_core::lint::{self, Finding, Rule, Severity, Spot};
use regent_sops::Limits;
use serde_json::{Value, json};

use self::builds::Builds;
use crate::cli::{LintArgs, LintOutputArg};
use crate::failure::{Failure, one_line};
use crate::source::bootstrap_of;
use crate::source::{self, BOOTSTRAP, Bounds, Gathered};
use crate::{keys, output};
use regent_core::rules::ConfigLimits;

pub(super) fn run(args: &LintArgs) -> Result<ExitCode, Failure> {
    let limits = Limits::default();
    let (builds, mut gathered) = if args.kustomization_files.is_empty() {
        (None, source::gather(&args.source, Bounds::of(&ConfigLimits::default()))?)
    } else {
        let (builds, gathered) = Builds::gather(&args.source, &args.kustomization_files)?;
        (Some(builds), gathered)
    };
    let bootstrap = match bootstrap_of(&gathered.files) {
        Ok(bootstrap) => bootstrap,
        // Classes, namespaces and exclusions come from it, so nothing else can be told.
        Err(Failure::Refused(Refusal::Bootstrap(error))) => {
            return Report { gathered: &gathered, builds: None }.write(&[invalid(&error)], args.output);
        }
        Err(failure) => return Err(failure),
    };
    let identities = keys::load(&args.keys)?;
    if identities.keyring.is_empty() {
        output::note("no identity is at hand: documents are checked as far as they can be read without one");
    }
    let mut findings = match (&builds, &bootstrap) {
        (Some(builds), Some(bootstrap)) => builds.follow(&mut gathered, bootstrap, &limits)?,
        (Some(_), None) => {
            return Err(Failure::World {
                what: "read",
                name: format!("{}/{BOOTSTRAP}", gathered.label),
                reason: "it does not exist, and Flux applies nothing of regent's without one".to_owned(),
            });
        }
        (None, _) => Vec::new(),
    };
    findings.extend(lint::lint(&lint::Request {
        files: &gathered.files,
        bootstrap: bootstrap.as_ref(),
        bootstraps_above: &gathered.bootstraps_above,
        keys: (&identities.keyring).into(),
        limits: &limits,
    }));
    findings.sort_by(|a, b| (&a.spot, a.line, a.rule.id()).cmp(&(&b.spot, b.line, b.rule.id())));
    findings.dedup();
    Report { gathered: &gathered, builds: builds.as_ref() }.write(&findings, args.output)
}

/// How findings are told.
struct Report<'a> {
    gathered: &'a Gathered,
    builds: Option<&'a Builds>,
}

/// A `regent.yaml` that does not follow its schema, as a finding.
fn invalid(error: &BootstrapError) -> Finding {
    Finding {
        rule: Rule::BootstrapInvalid,
        severity: Rule::BootstrapInvalid.severity(),
        spot: Spot::Root,
        line: error.at.and_then(|(line, _)| u32::try_from(line).ok()),
        message: error.problem.clone(),
        way_out: "correct it; nothing else was looked at".to_owned(),
    }
}

impl Report<'_> {
    fn write(&self, findings: &[Finding], form: LintOutputArg) -> Result<ExitCode, Failure> {
        output::text(&match form {
            LintOutputArg::Human => self.human(findings),
            LintOutputArg::Json => self.lines(findings),
            LintOutputArg::Sarif => self.sarif(findings),
        })?;
        let refused = findings.iter().any(|finding| finding.severity == Severity::Error);
        Ok(if refused { ExitCode::from(crate::failure::Exit::Refused as u8) } else { ExitCode::SUCCESS })
    }

    /// A finding's file as its repository names it.
    fn location<'f>(&self, finding: &'f Finding) -> Cow<'f, str> {
        let inside = match &finding.spot {
            Spot::Root => BOOTSTRAP,
            Spot::File(file) => file.as_str(),
            Spot::Outside(file) => return file.as_str().into(),
            Spot::Kustomization(name) => {
                let file = self.builds.and_then(|builds| builds.file_of(name));
                return file.map_or_else(|| name.into(), |file| file.display().to_string().into());
            }
        };
        match self.gathered.root.as_deref() {
            None | Some(".") => inside.into(),
            Some(root) => format!("{root}/{inside}").into(),
        }
    }

    fn human(&self, findings: &[Finding]) -> String {
        let mut text = String::new();
        for finding in findings {
            let at = self.location(finding);
            let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
            let (severity, rule) = (finding.severity.name(), finding.rule.id());
            // Writing to a String cannot fail.
            let (message, way_out) = (one_line(&finding.message), one_line(&finding.way_out));
            let _ = writeln!(text, "{}{line}: {severity}[{rule}]: {message}\n  hint: {way_out}", one_line(&at));
        }
        let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        let plural = |count, what: &str| if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") };
        let _ = writeln!(text, "{}: {}, {}", self.gathered.label, plural(errors, "error"), plural(warnings, "warning"));
        text
    }

    /// One JSON object a finding.
    fn lines(&self, findings: &[Finding]) -> String {
        findings.iter().fold(String::new(), |mut text, finding| {
            let object = json!({
                "rule": finding.rule.id(),
                "severity": finding.severity.name(),
                "file": self.location(finding),
                "line": finding.line,
                "message": finding.message,
                "hint": finding.way_out,
            });
            let _ = writeln!(text, "{object}");
            text
        })
    }

    /// The Static Analysis Results Interchange Format 2.1.0, as code scanning services read it.
    fn sarif(&self, findings: &[Finding]) -> String {
        let rules: Vec<Value> = Rule::ALL
            .iter()
            .map(|rule| json!({ "id": rule.id(), "shortDescription": { "text": rule.meaning() } }))
            .collect();
        let results: Vec<Value> = findings
            .iter()
            .map(|finding| {
                json!({
                    "ruleId": finding.rule.id(),
                    "level": finding.severity.name(),
                    "message": { "text": format!("{}; {}", finding.message, finding.way_out) },
                    "locations": [{ "physicalLocation": {
                        "artifactLocation": { "uri": self.location(finding), "uriBaseId": "%SRCROOT%" },
                        "region": { "startLine": finding.line.unwrap_or(1).max(1) },
                    }}],
                })
            })
            .collect();
        let log = json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": { "driver": {
                    "name": "regent",
                    "semanticVersion": env!("CARGO_PKG_VERSION"),
                    "rules": rules,
                }},
                "results": results,
            }],
        });
        format!("{log:#}\n")
    }
}
