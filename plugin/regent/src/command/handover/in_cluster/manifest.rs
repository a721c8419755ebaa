//! The Jobs, one for each identity: those of `manifests/vault`, with what differs put in. Nothing secret stands in them.

use std::collections::BTreeMap;

use regent_core::in_cluster::{Part, Work};
use regent_core::name::AuthorityName;
use regent_core::settle::{ApplicationName, Without};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::Place;
use crate::cli::{HandoverArgs, ReportOutputArg};
use crate::failure::Failure;

const JOB: &str = include_str!("../../../../../../manifests/vault/job.yaml");
const CRON_JOB: &str = include_str!("../../../../../../manifests/vault/cronjob.yaml");

/// What the Jobs are made from.
pub(super) struct Jobs<'a> {
    pub(super) args: &'a HandoverArgs,
    pub(super) place: &'a Place,
    pub(super) image: &'a str,
}

/// A refresh is asked for again as long as the handover waits.
const REFRESH_SECONDS: u64 = 120;

/// What a handover may take beside waiting for Argo CD.
const BESIDE_SETTLING: u64 = 1200;

/// The name of a Job, and of its account.
pub(super) fn name(part: Part, authority: &AuthorityName) -> String {
    let part = match part {
        Part::Handover => "handover",
        Part::Refresh => "refresh",
        Part::Verify => "verify",
    };
    format!("regent-{part}-{authority}")
}

/// What a Job's program is called with.
pub(super) fn words(job: &Value) -> Option<&Vec<Value>> {
    job["spec"]["template"]["spec"]["containers"][0]["args"].as_array()
}

/// The same without what approves a plan.
pub(super) fn but_approval(job: &Value) -> Option<Vec<&Value>> {
    let approves = |word: &str| word == "--yes" || word.starts_with("--approve=");
    Some(words(job)?.iter().filter(|word| !word.as_str().is_some_and(approves)).collect())
}

/// What the Job of the handover account does.
pub(super) fn work(job: &Value) -> Work {
    let plans = words(job).is_some_and(|words| words.iter().any(|word| word == PLAN));
    if plans { Work::Plan } else { Work::Handover }
}

const PLAN: &str = "--plan";

const COMPONENT: &str = "app.kubernetes.io/component";

impl Jobs<'_> {
    /// That of the handover account; `approval` is the word by which its plan is approved.
    pub(super) fn handover(&self, work: Work, approval: Option<String>) -> Result<Value, Failure> {
        let mut job = self.put_in(self.example(JOB)?);
        let first = match work {
            Work::Plan => Some(PLAN.to_owned()),
            Work::Handover => approval,
        };
        let more = first.into_iter().collect::<Vec<_>>();
        let words = container(&mut job)["args"].as_array_mut().ok_or(Failure::Bug)?;
        words.retain(|word| word != PLAN);
        let rest = words.split_off(1.min(words.len()));
        words.extend(more.into_iter().map(Value::String).chain(rest));
        words.extend(self.decisions(work).into_iter().map(Value::String));
        job["spec"]["activeDeadlineSeconds"] = json!(BESIDE_SETTLING + self.args.settle.timeout);
        Ok(job)
    }

    /// That of the refresh account: it has no business in Vault or Git, and is told which Applications.
    pub(super) fn refresh<'b>(&self, whom: impl Iterator<Item = &'b ApplicationName>) -> Result<Value, Failure> {
        let mut job = self.put_in(self.example(JOB)?);
        let name = name(Part::Refresh, &self.place.name);
        job["metadata"]["name"] = json!(name);
        job["metadata"]["labels"][COMPONENT] = json!("refresh");
        job["spec"]["template"]["metadata"]["labels"][COMPONENT] = json!("refresh");
        job["spec"]["activeDeadlineSeconds"] = json!(2 * REFRESH_SECONDS);
        let pod = &mut job["spec"]["template"]["spec"];
        pod["serviceAccountName"] = json!(name);
        only_account(&mut pod["volumes"])?;
        let container = container(&mut job);
        only_account(&mut container["volumeMounts"])?;
        container["env"] = json!([]);
        let whom = whom.map(ToString::to_string);
        // Behind `--` no name is an option.
        let words =
            ["refresh".to_owned(), format!("--timeout={REFRESH_SECONDS}"), "--".to_owned()].into_iter().chain(whom);
        container["args"] = words.collect();
        Ok(job)
    }

    /// That of the verify account: the one that the `CronJob` makes every hour.
    pub(super) fn verify(&self) -> Result<Value, Failure> {
        let mut cron = self.put_in(self.example(CRON_JOB)?);
        let mut spec = cron["spec"]["jobTemplate"]["spec"].take();
        spec["ttlSecondsAfterFinished"] = self.example(JOB)?["spec"]["ttlSecondsAfterFinished"].take();
        let metadata = cron["metadata"].take();
        Ok(json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec }))
    }

    /// The first object of a manifest.
    fn example(&self, manifest: &str) -> Result<Value, Failure> {
        let first = yaml_serde::Deserializer::from_str(manifest).next().ok_or(Failure::Bug)?;
        let mut object = Value::deserialize(first).map_err(|_| Failure::Bug)?;
        let pod = match object["kind"].as_str() {
            Some("CronJob") => &mut object["spec"]["jobTemplate"]["spec"]["template"],
            Some(_) | None => &mut object["spec"]["template"],
        };
        pod["spec"]["containers"][0]["image"] = json!(self.image);
        Ok(object)
    }

    /// What differs from the example, wherever it stands as a whole.
    fn differing(&self) -> BTreeMap<&'static str, String> {
        let Place { name, vault } = self.place;
        let commit = &self.args.run.commit;
        let output = match self.args.run.output {
            ReportOutputArg::Human => "human",
            ReportOutputArg::Json => "json",
        };
        let user = commit.git.username.as_deref().unwrap_or("x-access-token");
        BTreeMap::from([
            ("regent-handover-prod", format!("regent-handover-{name}")),
            ("regent-verify-prod", format!("regent-verify-{name}")),
            ("regent-keys-prod", format!("regent-keys-{name}")),
            ("regent-git-prod", format!("regent-git-{name}")),
            ("--vault-role=regent-handover-prod", format!("--vault-role=regent-handover-{name}")),
            ("--vault-role=regent-verify-prod", format!("--vault-role=regent-verify-{name}")),
            ("prod", name.to_string()),
            ("https://vault.vault.svc:8200", vault.clone()),
            ("--repo=https://git.example/infra.git", format!("--repo={}", commit.repo.display())),
            ("--git-username=x-access-token", format!("--git-username={user}")),
            ("--revision=main", format!("--revision={}", commit.revision)),
            ("--path=clusters/prod", format!("--path={}", commit.path)),
            ("--output=json", format!("--output={output}")),
        ])
    }

    fn put_in(&self, mut object: Value) -> Value {
        put_in(&mut object, &self.differing());
        object
    }

    /// What a person decided, and how Vault is reached, as it was typed.
    fn decisions(&self, work: Work) -> Vec<String> {
        let HandoverArgs { run, concurrency, adopt, settle, retire_keys, .. } = self.args;
        let flag = |holds: bool, word: &str| holds.then(|| word.to_owned());
        let mut words: Vec<String> = [
            run.vault.mount.as_ref().map(|mount| format!("--vault-auth-mount={mount}")),
            flag(run.allow_ephemeral_storage, "--allow-ephemeral-storage"),
            adopt.as_ref().map(|id| format!("--adopt={id}")),
            flag(settle.caches_expired, "--caches-expired"),
            flag(settle.caches_locked, "--caches-locked"),
            flag(*retire_keys, "--retire-keys"),
            // It changes something, so a plan has none of it.
            flag(settle.apply_guards && work == Work::Handover, "--apply-guards"),
            Some(format!("--concurrency={concurrency}")),
            Some(format!("--vault-patience={}", run.vault.patience)),
            Some(format!("--settle-timeout={}", settle.timeout)),
        ]
        .into_iter()
        .flatten()
        .collect();
        words.extend(settle.skipped.iter().map(|name| format!("--skip-app={name}")));
        words.extend(settle.skipped_kustomizations.iter().map(|name| format!("--skip-kustomization={name}")));
        words.extend(settle.without.iter().map(|proof| format!("--settle-without={}", Without::from(*proof).word())));
        words
    }
}

fn container(job: &mut Value) -> &mut Value {
    &mut job["spec"]["template"]["spec"]["containers"][0]
}

/// Of volumes, or of their mounts, that of the account's own token.
fn only_account(volumes: &mut Value) -> Result<(), Failure> {
    volumes.as_array_mut().ok_or(Failure::Bug)?.retain(|volume| volume["name"] == "account");
    Ok(())
}

fn put_in(value: &mut Value, differing: &BTreeMap<&'static str, String>) {
    match value {
        Value::String(text) => {
            if let Some(other) = differing.get(text.as_str()) {
                text.clone_from(other);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| put_in(value, differing)),
        Value::Object(fields) => fields.values_mut().for_each(|value| put_in(value, differing)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::cluster::rights::HOME;

    const IN_PROD: [&str; 9] = [
        "regent",
        "handover",
        "--in-cluster=prod",
        "--repo=https://git.example/infra.git",
        "--revision=main",
        "--path=clusters/prod",
        "--output=json",
        "--context=prod",
        "--image=regent",
    ];

    fn typed(words: &[&str]) -> HandoverArgs {
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string()).unwrap();
        let Command::Handover(args) = cli.command else { panic!("another command") };
        *args
    }

    fn with<T>(words: &[&str], name: &str, image: &str, made: impl Fn(&Jobs) -> T) -> T {
        let vault = if name == "prod" { "https://vault.vault.svc:8200" } else { "https://v:8200" };
        let place = Place { name: AuthorityName::parse(name).unwrap(), vault: vault.to_owned() };
        made(&Jobs { args: &typed(words), place: &place, image })
    }

    fn first(manifest: &str) -> Value {
        Value::deserialize(yaml_serde::Deserializer::from_str(manifest).next().unwrap()).unwrap()
    }

    fn texts(value: &Value) -> Vec<String> {
        match value {
            Value::String(text) => vec![text.clone()],
            Value::Array(values) => values.iter().flat_map(texts).collect(),
            Value::Object(fields) => fields.values().flat_map(texts).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
        }
    }

    /// Each of them applied by hand, and made for the same authority, is the same, but that a Job which is made is told every
    /// bound.
    #[test]
    fn the_jobs_of_the_example_are_the_manifests() {
        with(&IN_PROD, "prod", "regent", |jobs| {
            let mut job = jobs.handover(Work::Plan, None).unwrap();
            let words = container(&mut job)["args"].as_array_mut().unwrap();
            let bounds: Vec<Value> = words.split_off(words.len() - 3);
            assert_eq!(bounds, ["--concurrency=16", "--vault-patience=90", "--settle-timeout=600"]);
            assert_eq!(job, first(JOB));
            let cron = first(CRON_JOB);
            let mut spec = jobs.verify().unwrap()["spec"].take();
            // A CronJob keeps its own history.
            assert_eq!(spec.as_object_mut().unwrap().remove("ttlSecondsAfterFinished"), Some(json!(86400)));
            assert_eq!(spec, cron["spec"]["jobTemplate"]["spec"]);
        });
    }

    #[test]
    fn what_differs_stands_in_the_manifests() {
        with(&IN_PROD, "prod", "regent", |jobs| {
            let there: Vec<String> = [JOB, CRON_JOB].iter().flat_map(|manifest| texts(&first(manifest))).collect();
            for word in jobs.differing().keys() {
                assert!(there.iter().any(|text| text == word), "{word}");
            }
        });
    }

    #[test]
    fn nothing_of_the_example_is_left_in_another_authoritys_jobs() {
        let words: Vec<&str> = ["regent", "handover", "--in-cluster=eu", "--repo=https://g/x.git", "--revision=abc"]
            .into_iter()
            .chain(["--path=eu", "--context=c", "--git-username=oauth2"])
            .collect();
        with(&words, "eu", "registry/regent:1", |jobs| {
            let app = ApplicationName { namespace: "argocd".to_owned(), name: "eu".to_owned() };
            let approve = Some("--approve=d".to_owned());
            for (part, job) in [
                (Part::Handover, jobs.handover(Work::Handover, approve.clone()).unwrap()),
                (Part::Refresh, jobs.refresh([&app].into_iter()).unwrap()),
                (Part::Verify, jobs.verify().unwrap()),
            ] {
                let texts = texts(&job);
                for word in jobs.differing().keys() {
                    assert!(!texts.iter().any(|text| text == word), "{word} in {job}");
                }
                assert!(!texts.iter().any(|text| text.contains("prod") || text.contains("vault.vault")), "{job}");
                assert!(texts.contains(&"registry/regent:1".to_owned()), "{job}");
                let account = name(part, &jobs.place.name);
                assert_eq!(job["metadata"]["name"], json!(account));
                assert_eq!(job["spec"]["template"]["spec"]["serviceAccountName"], json!(account));
                assert_eq!(job["metadata"]["namespace"], HOME);
            }
            let job = jobs.handover(Work::Handover, approve.clone()).unwrap();
            assert_eq!(words_of(&job)[..2], ["handover", "--approve=d"]);
            assert_eq!(
                (work(&job), work(&jobs.handover(Work::Plan, approve.clone()).unwrap())),
                (Work::Handover, Work::Plan)
            );
        });
    }

    fn words_of(job: &Value) -> Vec<&str> {
        words(job).unwrap().iter().map(|word| word.as_str().unwrap()).collect()
    }

    /// No root, nothing writable but what is emptied, no token but those that are asked for.
    #[test]
    fn every_job_is_hardened_and_only_the_vault_accounts_have_a_token_for_it() {
        let app = ApplicationName { namespace: "argocd".to_owned(), name: "prod".to_owned() };
        with(&IN_PROD, "prod", "regent", |jobs| {
            for (has_vault, job) in [
                (true, jobs.handover(Work::Handover, None).unwrap()),
                (false, jobs.refresh([&app].into_iter()).unwrap()),
                (true, jobs.verify().unwrap()),
            ] {
                let pod = &job["spec"]["template"]["spec"];
                assert_eq!(pod["automountServiceAccountToken"], false);
                assert_eq!(
                    (&pod["securityContext"]["runAsNonRoot"], &pod["restartPolicy"]),
                    (&json!(true), &json!("Never"))
                );
                assert_eq!((&job["spec"]["backoffLimit"], &pod["containers"][1]), (&json!(0), &Value::Null));
                assert!(job["spec"]["activeDeadlineSeconds"].as_u64().is_some_and(|seconds| seconds <= 1800));
                let context = &pod["containers"][0]["securityContext"];
                assert_eq!(
                    (&context["readOnlyRootFilesystem"], &context["allowPrivilegeEscalation"]),
                    (&json!(true), &json!(false))
                );
                assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
                let volumes = pod["volumes"].as_array().unwrap();
                let sources = volumes.iter().filter_map(|volume| volume["projected"]["sources"].as_array()).flatten();
                let tokens: Vec<&Value> =
                    sources.map(|source| &source["serviceAccountToken"]).filter(|token| !token.is_null()).collect();
                let for_vault = tokens.iter().filter(|token| token.get("audience").is_some()).count();
                assert_eq!((tokens.len() - for_vault, for_vault), (1, usize::from(has_vault)), "{tokens:?}");
                assert_eq!(volumes.iter().any(|volume| !volume["secret"].is_null()), words_of(&job)[0] == "handover");
            }
        });
    }

    #[test]
    fn decisions_are_passed_on_as_they_were_typed() {
        let decided = [
            "--adopt=0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f",
            "--allow-ephemeral-storage",
            "--vault-auth-mount=k8s",
            "--vault-patience=5",
            "--concurrency=4",
            "--skip-app=argocd/old",
            "--settle-without=caches",
            "--settle-timeout=700",
            "--caches-expired",
            "--caches-locked",
            "--apply-guards",
            "--retire-keys",
        ];
        let words: Vec<&str> = IN_PROD.into_iter().chain(decided).collect();
        with(&words, "prod", "regent", |jobs| {
            let job = jobs.handover(Work::Handover, Some("--yes".to_owned())).unwrap();
            for word in decided {
                assert!(words_of(&job).contains(&word), "{word}: {:?}", words_of(&job));
            }
            assert_eq!(job["spec"]["activeDeadlineSeconds"], 1900);
            // And it is a command that exists.
            let again: Vec<&str> = ["regent"].into_iter().chain(words_of(&job)).collect();
            assert!(typed(&again).run.yes);
        });
    }
}
