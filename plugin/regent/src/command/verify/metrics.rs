//! Metrics for node-exporter's textfile collector, which reads whatever lies there at any moment: a file is written beside
//! its place and renamed.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use regent_core::name::AuthorityName;
use regent_core::verify::Severity;

use super::report::Report;
use crate::failure::Failure;

/// Writes how a run ended, whether it came to its end or not.
pub(super) fn write(file: &Path, name: &AuthorityName, looked: Result<&Report, &Failure>) -> Result<(), Failure> {
    let now = SystemTime::UNIX_EPOCH.elapsed().as_ref().map(Duration::as_secs).unwrap_or_default();
    let text = text(name, looked, now);
    let failed = |error: &std::io::Error| Failure::io("write", file, error);
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The collector reads `*.prom` alone.
    let mut beside =
        tempfile::Builder::new().prefix(".regent-verify-").tempfile_in(folder).map_err(|error| failed(&error))?;
    beside.write_all(text.as_bytes()).map_err(|error| failed(&error))?;
    let readable = std::fs::Permissions::from_mode(0o644);
    beside.as_file().set_permissions(readable).map_err(|error| failed(&error))?;
    beside.as_file().sync_all().map_err(|error| failed(&error))?;
    beside.persist(file).map_err(|refused| failed(&refused.error))?;
    Ok(())
}

fn text(name: &AuthorityName, looked: Result<&Report, &Failure>, now: u64) -> String {
    let mut text = String::new();
    let mut metric = |metric: &str, help: &str, samples: &[(String, u64)]| {
        // Writing into a string does not fail.
        let _ = write!(text, "# HELP regent_verify_{metric} {help}\n# TYPE regent_verify_{metric} gauge\n");
        for (labels, value) in samples {
            let _ = writeln!(text, "regent_verify_{metric}{{authority=\"{name}\"{labels}}} {value}");
        }
    };
    let one = |value: u64| [(String::new(), value)];
    let exit = match looked {
        Ok(report) => report.exit(),
        Err(failure) => failure.exit(),
    };
    metric("timestamp_seconds", "When regent verify ran last, in seconds since 1970.", &one(now));
    metric(
        "exit_code",
        "How it ended: 0 fine, 1 attention, 4 unknown, 5 a person decides, 7 not settled.",
        &one(u64::from(exit as u8)),
    );
    metric("up", "Whether it came to its end.", &one(u64::from(looked.is_ok())));
    let Ok(report) = looked else { return text };
    let of = |severity: Severity| {
        let count = report.findings.iter().filter(|finding| finding.severity() == severity).count();
        (format!(",severity=\"{}\"", severity.word()), count as u64)
    };
    metric("findings", "What it found, by what it means.", &Severity::ALL.map(of));
    if let Some(verified) = &report.verified {
        metric("copies", "Copies in Vault that were compared with the record.", &one(verified.copies as u64));
        if let Some(secrets) = verified.secrets {
            metric("secrets", "Live Secrets that were compared with Vault.", &one(secrets as u64));
        }
        if let Some(heartbeat) = verified.heartbeat() {
            metric("heartbeat", "The heartbeat that Vault is at.", &one(heartbeat));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use regent_core::evidence::Holder;
    use regent_core::name::Epoch;
    use regent_core::verify::Finding;

    use super::*;
    use crate::failure::Exit;

    fn prod() -> AuthorityName {
        AuthorityName::parse("prod").unwrap()
    }

    /// <https://github.com/prometheus/docs/blob/main/content/docs/instrumenting/exposition_formats.md>: HELP and TYPE once
    /// before the samples of a name, each line ended, a gauge's samples told apart by labels.
    #[test]
    fn what_is_written_is_the_exposition_format() {
        let holder = Holder::Git { epoch: Epoch::FIRST, supersedes: None };
        let mut report = Report::git_rules(&prod(), &holder);
        report.findings = vec![Finding::HeartbeatDeleted, Finding::NoIdentity];
        for (looked, exit) in [(Ok(&report), Exit::Person), (Err(&Failure::Late), Exit::Authority)] {
            let text = text(&prod(), looked, 1_000);
            assert!(
                text.ends_with('\n') && text.contains("regent_verify_timestamp_seconds{authority=\"prod\"} 1000\n")
            );
            assert!(
                text.contains(&format!("regent_verify_exit_code{{authority=\"prod\"}} {}\n", exit as u8)),
                "{text}"
            );
            let mut known = None;
            for line in text.lines() {
                if let Some(help) = line.strip_prefix("# HELP ") {
                    known = help.split(' ').next();
                } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                    assert_eq!(kind.strip_suffix(" gauge"), known);
                } else {
                    let (series, value) = line.rsplit_once(' ').unwrap();
                    assert_eq!(series.split('{').next(), known, "{line}");
                    value.parse::<u64>().unwrap();
                }
            }
        }
        let text = text(&prod(), Ok(&report), 1);
        assert!(text.contains("{authority=\"prod\",severity=\"person\"} 1\n"), "{text}");
        assert!(text.contains("{authority=\"prod\",severity=\"unknown\"} 0\n"), "{text}");
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_anybody_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("regent.prom");
        for _ in 0..2 {
            write(&file, &prod(), Err(&Failure::Late)).unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    }
}
