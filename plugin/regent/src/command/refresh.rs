//! `regent refresh`: Argo CD asks the plugin again.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use regent_core::rules::{ArgoCd, RegentConfig};
use regent_core::settle::ApplicationName;
use serde_json::json;

use crate::cli::{RefreshArgs, ReportOutputArg};
use crate::cluster::applications::{self, Depth, Refreshed};
use crate::cluster::{self, Cluster};
use crate::failure::Failure;
use crate::{config, output};

pub(super) fn run(args: &RefreshArgs) -> Result<ExitCode, Failure> {
    let config = args.config.as_deref().map(config::load).transpose()?;
    let access = config::access(&args.cluster, args.config.as_deref().zip(config.as_ref()));
    let settings = config.map_or_else(ArgoCd::default, |config| config.argocd);
    let outcomes = cluster::block_on(async {
        let cluster = Cluster::connect(&access).await?;
        let chosen = chosen(&cluster, args, &settings).await?;
        if chosen.is_empty() {
            output::note(format!("no Application uses the plugin `{}`", settings.plugin()));
        }
        Ok(applications::refresh(&cluster, &chosen, Depth::Hard, Duration::from_secs(args.timeout), tell).await)
    })?;
    if args.output == ReportOutputArg::Json {
        output::text(&as_json(&outcomes))?;
    }
    let all_done = outcomes.values().all(|outcome| matches!(outcome, Refreshed::Done { .. }));
    Ok(if all_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn chosen(cluster: &Cluster, args: &RefreshArgs, settings: &ArgoCd) -> Result<Vec<ApplicationName>, Failure> {
    if args.applications.is_empty() {
        let all = applications::all(cluster).await.map_err(|problem| cluster.failure(problem))?;
        return Ok(applications::using(&all, &settings.plugin()));
    }
    let parsed = args.applications.iter().map(|text| {
        let (namespace, name) = text.split_once('/').unwrap_or((settings.namespace.as_str(), text));
        let is_name = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
        };
        if is_name(namespace) && is_name(name) {
            Ok(ApplicationName { namespace: namespace.to_owned(), name: name.to_owned() })
        } else {
            Err(Failure::Usage(format!("`{text}` names no Application: NAME or NAMESPACE/NAME is expected")))
        }
    });
    parsed.collect()
}

/// How long a command that changed the authority waits for Argo CD.
pub(super) const REFRESH_WITHIN: Duration = Duration::from_secs(120);

/// Makes Argo CD ask again after the authority moved: it holds what it rendered for a day, and errors for an hour. Who may
/// move the authority need not be allowed this; then a note says who does it.
pub(super) async fn after_a_move(cluster: &Cluster, config: Option<&RegentConfig>) {
    let settings = config.map(|config| config.argocd.clone()).unwrap_or_default();
    match applications::all(cluster).await {
        Ok(all) => {
            let using = applications::using(&all, &settings.plugin());
            let outcomes = applications::refresh(cluster, &using, Depth::Hard, REFRESH_WITHIN, tell).await;
            if outcomes.values().any(|outcome| matches!(outcome, Refreshed::Failed(_))) {
                output::note("`regent refresh` asks Argo CD again, as somebody who may patch Applications");
            }
        }
        Err(problem) => output::note(format_args!(
            "Argo CD was not asked to refresh ({problem}); `regent refresh` does, as somebody who may"
        )),
    }
}

/// One line an Application, as soon as it is known.
pub(super) fn tell(application: &ApplicationName, outcome: &Refreshed) {
    output::note(match outcome {
        Refreshed::Done { sync, health } => format!("{application} was refreshed: {sync}, {health}"),
        Refreshed::Refused(problem) => format!("{application} was refreshed and says: {problem}"),
        Refreshed::Late => format!("{application} was not refreshed in time: is the application controller running?"),
        Refreshed::Failed(problem) => format!("{application} was not refreshed: {problem}"),
    });
}

fn as_json(outcomes: &BTreeMap<ApplicationName, Refreshed>) -> String {
    let rows = outcomes.iter().map(|(ApplicationName { namespace, name }, outcome)| {
        let (refreshed, sync, health, problem) = match outcome {
            Refreshed::Done { sync, health } => (true, Some(sync), Some(health), None),
            Refreshed::Refused(problem) => (true, None, None, Some(problem.clone())),
            Refreshed::Late => (false, None, None, Some("not in time".to_owned())),
            Refreshed::Failed(problem) => (false, None, None, Some(problem.to_string())),
        };
        json!({ "namespace": namespace, "name": name, "refreshed": refreshed, "sync": sync, "health": health, "problem": problem })
    });
    format!("{:#}\n", json!({ "applications": rows.collect::<Vec<_>>() }))
}
