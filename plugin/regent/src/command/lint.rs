//! `regent lint`: everything that is wrong with a root, for people, programs and code scanning.

use std::fmt::Write as _;
use std::process::ExitCode;

use regent_core::Refusal;
use regent_core::bootstrap::BootstrapError;
use regent_core::lint::{self, Finding, Rule, Severity};
use regent_sops::Limits;
use serde_json::{Value, json};

use crate::cli::{LintArgs, LintOutputArg};
use crate::failure::{Failure, one_line};
use crate::source::bootstrap_of;
use crate::source::{self, BOOTSTRAP, Bounds, Gathered};
use crate::{keys, output};
use regent_core::rules::ConfigLimits;

pub(super) fn run(args: &LintArgs) -> Result<ExitCode, Failure> {
    let limits = Limits::default();
    let gathered = source::gather(&args.source, Bounds::of(&ConfigLimits::default()))?;
    let bootstrap = match bootstrap_of(&gathered.files) {
        Ok(bootstrap) => bootstrap,
        // Classes, namespaces and exclusions come from it, so nothing else can be told.
        Err(Failure::Refused(Refusal::Bootstrap(error))) => return report(&[invalid(&error)], &gathered, args.output),
        Err(failure) => return Err(failure),
    };
    let identities = keys::load(&args.keys)?;
    if identities.keyring.is_empty() {
        output::note("no identity is at hand: documents are checked as far as they can be read without one");
    }
    let mut findings = lint::lint(&lint::Request {
        files: &gathered.files,
        bootstrap: bootstrap.as_ref(),
        bootstraps_above: &gathered.bootstraps_above,
        keys: (&identities.keyring).into(),
        limits: &limits,
    });
    findings.sort_by(|a, b| (&a.file, a.line, a.rule.id()).cmp(&(&b.file, b.line, b.rule.id())));
    report(&findings, &gathered, args.output)
}

fn report(findings: &[Finding], gathered: &Gathered, form: LintOutputArg) -> Result<ExitCode, Failure> {
    output::text(&match form {
        LintOutputArg::Human => human(findings, gathered),
        LintOutputArg::Json => lines(findings, gathered),
        LintOutputArg::Sarif => sarif(findings, gathered),
    })?;
    let refused = findings.iter().any(|finding| finding.severity == Severity::Error);
    Ok(if refused { ExitCode::from(crate::failure::Exit::Refused as u8) } else { ExitCode::SUCCESS })
}

/// A `regent.yaml` that does not follow its schema, as a finding.
fn invalid(error: &BootstrapError) -> Finding {
    Finding {
        rule: Rule::BootstrapInvalid,
        severity: Rule::BootstrapInvalid.severity(),
        file: None,
        line: error.at.and_then(|(line, _)| u32::try_from(line).ok()),
        message: error.problem.clone(),
        way_out: "correct it; nothing else was looked at".to_owned(),
    }
}

/// A finding's file as its repository names it.
fn location(finding: &Finding, gathered: &Gathered) -> String {
    let inside = finding.file.as_ref().map_or(BOOTSTRAP, |file| file.as_str());
    match gathered.root.as_deref() {
        None | Some(".") => inside.to_owned(),
        Some(root) => format!("{root}/{inside}"),
    }
}

fn human(findings: &[Finding], gathered: &Gathered) -> String {
    let mut text = String::new();
    for finding in findings {
        let at = location(finding, gathered);
        let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
        let (severity, rule) = (finding.severity.name(), finding.rule.id());
        // Writing to a String cannot fail.
        let (message, way_out) = (one_line(&finding.message), one_line(&finding.way_out));
        let _ = writeln!(text, "{}{line}: {severity}[{rule}]: {message}\n  hint: {way_out}", one_line(&at));
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let plural = |count, what: &str| if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") };
    let _ = writeln!(text, "{}: {}, {}", gathered.label, plural(errors, "error"), plural(warnings, "warning"));
    text
}

/// One JSON object a finding.
fn lines(findings: &[Finding], gathered: &Gathered) -> String {
    findings.iter().fold(String::new(), |mut text, finding| {
        let object = json!({
            "rule": finding.rule.id(),
            "severity": finding.severity.name(),
            "file": location(finding, gathered),
            "line": finding.line,
            "message": finding.message,
            "hint": finding.way_out,
        });
        let _ = writeln!(text, "{object}");
        text
    })
}

/// The Static Analysis Results Interchange Format 2.1.0, as code scanning services read it.
fn sarif(findings: &[Finding], gathered: &Gathered) -> String {
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
                    "artifactLocation": { "uri": location(finding, gathered), "uriBaseId": "%SRCROOT%" },
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
