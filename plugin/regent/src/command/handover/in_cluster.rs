//! `regent handover --in-cluster`: a Job for each identity, made in order and followed.
//!
//! ```text
//! gather   the three Jobs, their Pods, who rules, what the handover's log says it waits for     here
//! decide   core: which Job is next, or how it ends
//! act      a Job is made; what its Pod writes is shown, line by line                            manifest.rs
//! ```
//! The Jobs go on by themselves. Whoever follows them may be interrupted, and the same command follows them again: a Job
//! has one name, so a second one of an identity cannot begin beside it. Nothing secret passes through here: keys and
//! tokens are mounted where they are needed.

mod manifest;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use regent_core::Refusal;
use regent_core::authority::AuthorityRefusal;
use regent_core::evidence::{AuthorityWitness, Evidence, Holds, Reading};
use regent_core::in_cluster::{
    Approval, Facts, Goal, HandoverJob, Job, Next, Outcome, Part, Printed, Rules, Wait, Work, next,
};
use regent_core::name::AuthorityName;
use regent_core::remote::{Address, Location};
use regent_core::settle::ApplicationName;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Duration, Instant, sleep, timeout};

use self::manifest::{Jobs, name, work};
use super::super::interrupted;
use super::super::root::{store_of, typed_with};
use super::approval::Asked;
use crate::cli::{HandoverArgs, application};
use crate::cluster::jobs::{self, Container, Ended, Pod};
use crate::cluster::rights::HOME;
use crate::cluster::witness::authority_path;
use crate::cluster::{Cluster, ClusterError, block_on};
use crate::config;
use crate::failure::{Failure, one_line};
use crate::output;
use crate::witnesses::Store;

/// Why the Jobs are not made, or not followed to their end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JobStop {
    /// What the Jobs need is not there, or they would be refused.
    #[error("the Jobs cannot run yet: {}", .0.join("; "))]
    NotReady(Vec<String>),
    /// This identity may not do what following them takes.
    #[error("this identity may not do that: {}", .0.join("; "))]
    NotAllowed(Vec<String>),
    /// A plan was asked for.
    #[error("Job {0} is handing over already, so there is no plan to show")]
    Busy(String),
    /// It does not come to run.
    #[error("Job {job} does not run: {why}")]
    Stuck {
        /// Which.
        job: String,
        /// Why, as far as the cluster says.
        why: String,
    },
    /// It ended, and its container does not say how, or something else than the Job.
    #[error("it is not known how Job {job} ended: {why}")]
    NoCode {
        /// Which.
        job: String,
        /// Why.
        why: String,
    },
    /// Nobody can be asked.
    #[error(
        "Job {0} ended with 0, and no plan is in what was read of its log: nothing was approved, and nothing is handed over"
    )]
    NoPlan(String),
    /// The API server is silent, or refuses, while there may be Jobs.
    #[error("the Jobs cannot be followed any more: {why}{}", running(.jobs))]
    Lost {
        /// What it says, or that it says nothing.
        why: String,
        /// Jobs that go on.
        jobs: Vec<String>,
    },
    /// The handover's Job ended with 0.
    #[error("Job {0} ended with 0, and the Authority says git")]
    Contradicted(String),
    /// Ctrl-C.
    #[error("it is not followed any more{}", running(.0))]
    Interrupted(Vec<String>),
}

/// The authority, as its object says.
pub(super) struct Place {
    name: AuthorityName,
    /// Vault's address.
    vault: String,
}

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Between the end of a refresh and the next one.
const BETWEEN_REFRESHES: Duration = Duration::from_secs(15);

/// How long a container may take to begin; then its Job is left to itself.
const BEGINS_WITHIN: Duration = Duration::from_secs(300);

/// How much longer a Job is waited for than it may take: its controller may be busy.
const MARGIN: Duration = Duration::from_secs(120);

/// How long the API server may be silent; a Job goes on without it.
const SILENT_FOR: Duration = Duration::from_secs(120);

/// How long it is asked once more who rules, when everything else is over.
const WHO_RULES: Duration = Duration::from_secs(3);

/// How long the last lines of a log are waited for once its Job is over.
const LAST_LINES: Duration = Duration::from_secs(15);

const PARTS: [Part; 3] = [Part::Handover, Part::Refresh, Part::Verify];

pub(super) fn run(args: &HandoverArgs, authority: &AuthorityName) -> Result<ExitCode, Failure> {
    let run = &args.run;
    reachable(&run.commit.repo)?;
    // Where it moved to stands in a commit that only the Job reads, and its token is for one address.
    if args.accept_vault_identity {
        return Err(Failure::Usage(
            "`--accept-vault-identity` is not for `--in-cluster`: run `regent handover --accept-vault-identity` once from \
             outside; from then on the Jobs ask that Vault"
                .to_owned(),
        ));
    }
    if args.adopt.is_some() && !(run.yes || run.plan) {
        return Err(Failure::Usage(
            "`--adopt` expects `--plan` or `--yes` with `--in-cluster`: a Job cannot ask".to_owned(),
        ));
    }
    let config = run.store.config.as_deref().map(config::load).transpose()?;
    let ways = "`--context NAME` or `--config FILE`";
    let access = match store_of("regent handover --in-cluster", ways, &run.store, config.as_ref())? {
        Store::Cluster(access) => access,
        Store::Folder(_) => return Err(Failure::Usage("`--in-cluster` is for an authority in a cluster".to_owned())),
    };
    block_on(async {
        let stop = interrupted()?;
        let cluster = Cluster::connect(&access).await?;
        let (place, rules) = authority_of(&cluster, authority).await?;
        let jobs = Jobs { args, place: &place, image: args.image.as_deref().unwrap_or("regent") };
        let mut following = Following::new(&cluster, &jobs, rules);
        let outcome = tokio::select! {
            outcome = following.finish() => outcome,
            () = stop => Err(following_stopped(JobStop::Interrupted(Vec::new()), rules)),
        };
        match outcome {
            Err(Failure::Job { mut stop, .. }) => {
                if let JobStop::Interrupted(jobs) = &mut *stop {
                    *jobs = following.running();
                }
                // The handover may have gone on since the last look; unanswered, that look counts.
                drop(timeout(WHO_RULES, following.ask_who_rules()).await);
                Err(following.stop(*stop))
            }
            outcome => outcome,
        }
    })
}

/// The Job's image holds nothing but the program: no `ssh`, and no work tree.
fn reachable(repo: &Path) -> Result<(), Failure> {
    match Location::parse(&repo.to_string_lossy()) {
        Ok(Location::Remote(Address::Http { tls: true, .. })) => Ok(()),
        Ok(Location::Remote(Address::Http { tls: false, .. } | Address::Ssh { .. }) | Location::Folder(_)) => {
            Err(Failure::Usage("`--in-cluster` expects `--repo https://..`, which the Job can reach".to_owned()))
        }
        // The address is not repeated: it may hold a credential, which would stand in the Job.
        Err(why) => Err(Failure::Usage(format!("`--repo` {why}"))),
    }
}

/// Who rules, and where Vault is.
async fn authority_of(cluster: &Cluster, name: &AuthorityName) -> Result<(Place, Rules), Failure> {
    let object = cluster.get(&authority_path(name)).await.map_err(|problem| unasked(cluster, problem, Rules::Git))?;
    let Some(object) = object else {
        return Err(Refusal::from(AuthorityRefusal::NoAuthority { name: name.clone() }).into());
    };
    let unclear = || {
        let why = format!("the Authority `{name}` says neither who rules nor where Vault is as regent writes it");
        Failure::from(Refusal::from(AuthorityRefusal::Unreadable { why }))
    };
    let evidence = evidence_of(name, &object);
    let rules = rules_of(&evidence).ok_or_else(unclear)?;
    match evidence.place() {
        Reading::Present(vault) => Ok((Place { name: name.clone(), vault: vault.address }, rules)),
        Reading::Absent | Reading::Unreadable(_) => Err(unclear()),
    }
}

/// What the Authority says by itself; the handover witness is the Jobs' to read.
fn evidence_of(name: &AuthorityName, object: &Value) -> Evidence {
    let authority = AuthorityWitness::from_json(name, object["spec"].to_string().as_bytes());
    let status = object.get("status").map(ToString::to_string);
    Evidence { authority, ..Evidence::none() }.with_status(status.as_ref().map(String::as_bytes))
}

fn rules_of(evidence: &Evidence) -> Option<Rules> {
    Some(match (&evidence.authority.present()?.holds, evidence.is_settled()) {
        (Holds::Git, _) => Rules::Git,
        (Holds::Vault(_), false) => Rules::Vault,
        (Holds::Vault(_), true) => Rules::Settled,
    })
}

/// Follows the Jobs of one authority.
struct Following<'a> {
    cluster: &'a Cluster,
    jobs: &'a Jobs<'a>,
    rules: Rules,
    /// By which word the handover's Job is told that its plan is approved.
    approval: Option<String>,
    seen: BTreeMap<Part, Seen>,
    /// Applications that the handover said it waits for.
    awaited: BTreeSet<ApplicationName>,
    /// The digest of the plan that the handover's Job printed.
    digest: Option<String>,
    refreshed: Option<Instant>,
    lines: UnboundedReceiver<Heard>,
    tell: UnboundedSender<Heard>,
    /// Those who read logs; dropped, they end.
    readers: JoinSet<()>,
}

/// A Job that is followed.
struct Seen {
    uid: String,
    since: Instant,
    work: Work,
    /// Whether it is called with what this command would call it with.
    is_ours: bool,
    log: Log,
    /// What was told of its Pod last.
    told: String,
    begun: bool,
    ended: Option<(Ended, Instant)>,
    /// Exit code of its container, and why it ended.
    code: Option<(i64, Option<String>)>,
    /// It ended, and all that it wrote was shown.
    is_over: bool,
}

/// Whose a Job is that is followed from now on.
#[derive(Clone, Copy)]
enum Made {
    Here,
    Found,
}

enum Log {
    NotYet,
    Open(AbortHandle),
    Over,
}

/// What whoever reads a log says.
enum Heard {
    Line(Part, String),
    /// There is no more of it; why, where that was not its end.
    Over(Part, Option<ClusterError>),
}

impl<'a> Following<'a> {
    fn new(cluster: &'a Cluster, jobs: &'a Jobs<'a>, rules: Rules) -> Self {
        let run = &jobs.args.run;
        let approval =
            if run.yes { Some("--yes".to_owned()) } else { run.approve.as_ref().map(|it| format!("--approve={it}")) };
        let (tell, lines) = unbounded_channel();
        Self {
            cluster,
            jobs,
            rules,
            approval,
            seen: BTreeMap::new(),
            awaited: BTreeSet::new(),
            digest: None,
            refreshed: None,
            lines,
            tell,
            readers: JoinSet::new(),
        }
    }

    async fn finish(&mut self) -> Result<ExitCode, Failure> {
        self.preflight().await?;
        let mut answered = Instant::now();
        loop {
            match self.step().await {
                Ok(Some(code)) => return Ok(code),
                Ok(None) => answered = Instant::now(),
                Err(Failure::Cluster { problem, .. }) if !problem.is_final() && answered.elapsed() < SILENT_FOR => {
                    // Nor were the last lines of a log to be had meanwhile.
                    for seen in self.seen.values_mut() {
                        seen.ended = seen.ended.take().map(|(ended, _)| (ended, Instant::now()));
                    }
                    self.hear(LOOK).await?;
                }
                Err(Failure::Cluster { problem, .. }) => return Err(self.lost(problem)),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Looks, and does what comes next; the exit code where that is the end.
    async fn step(&mut self) -> Result<Option<ExitCode>, Failure> {
        let facts = self.look().await?;
        let handover = name(Part::Handover, &self.jobs.place.name);
        match next(&facts) {
            Next::Begin(work) => {
                let job = self.jobs.handover(work, self.approval.clone())?;
                self.make(Part::Handover, &job).await?;
            }
            Next::Refresh => {
                let job = self.jobs.refresh(self.awaited.iter())?;
                self.make(Part::Refresh, &job).await?;
            }
            Next::Verify => self.make(Part::Verify, &self.jobs.verify()?).await?,
            Next::Follow => self.hear(LOOK).await?,
            Next::Ask => self.ask().await?,
            Next::NoPlan => return Err(self.stop(JobStop::NoPlan(handover))),
            Next::End(part) => return self.end(part).map(Some),
            Next::Busy => return Err(self.stop(JobStop::Busy(handover))),
            Next::Contradicted => return Err(self.stop(JobStop::Contradicted(handover))),
        }
        Ok(None)
    }

    /// Everything that the Jobs would miss later, named before there is one.
    async fn preflight(&self) -> Result<(), Failure> {
        let authority = &self.jobs.place.name;
        let is_plan = self.jobs.args.run.plan;
        let parts = if is_plan { &PARTS[..1] } else { &PARTS[..] };
        let mut found = Found::default();
        for part in parts {
            let account = name(*part, authority);
            let made_by = match part {
                Part::Handover | Part::Verify => "`regent init --complete` makes it",
                Part::Refresh => "`regent handover --print-policy --application NAMESPACE/NAME` prints what makes it",
            };
            let path = format!("/api/v1/namespaces/{HOME}/serviceaccounts/{account}");
            found.present(&format!("the ServiceAccount {account}"), made_by, self.cluster.get(&path).await);
        }
        for (secret, with) in [("keys", "--from-file=age.txt=KEYFILE"), ("git", "--from-file=token=TOKENFILE")] {
            let secret = format!("regent-{secret}-{authority}");
            let made_by = format!("`kubectl -n {HOME} create secret generic {secret} {with}`");
            let path = format!("/api/v1/namespaces/{HOME}/secrets/{secret}");
            found.present(&format!("the Secret {secret}"), &made_by, self.cluster.get_metadata(&path).await);
        }
        for (part, keys) in [
            (Part::Handover, &["regent.yaml", "ca.crt", "vault-ca.crt"][..]),
            (Part::Verify, &["regent.yaml", "vault-ca.crt"][..]),
        ] {
            if !parts.contains(&part) {
                continue;
            }
            let config = name(part, authority);
            let path = format!("/api/v1/namespaces/{HOME}/configmaps/{config}");
            let made_by = "manifests/vault has an example";
            let object = self.cluster.get(&path).await;
            let lacking = |object: &Value| -> Vec<String> {
                let is_filled =
                    |key: &&&str| object["data"][**key].as_str().is_some_and(|text| !text.trim().is_empty());
                keys.iter()
                    .filter(|key| !is_filled(key))
                    .map(|key| format!("`{key}` of the ConfigMap {config} is empty"))
                    .collect()
            };
            if let Ok(Some(object)) = &object {
                found.missing.extend(lacking(object));
            }
            found.present(&format!("the ConfigMap {config}"), made_by, object);
        }
        for part in parts {
            let job = match part {
                Part::Handover => {
                    self.jobs.handover(if is_plan { Work::Plan } else { Work::Handover }, self.approval.clone())?
                }
                Part::Refresh => self.jobs.refresh(std::iter::empty())?,
                Part::Verify => self.jobs.verify()?,
            };
            match jobs::create(self.cluster, &job, true).await {
                // One that is there was checked all the same.
                Ok(_) | Err(ClusterError::Conflict(_)) => {}
                Err(problem) => found.refused(&format!("the Job {}", name(*part, authority)), problem),
            }
        }
        found.judged(self.cluster, self.rules)
    }

    // --- gather

    async fn look(&mut self) -> Result<Facts, Failure> {
        for part in PARTS {
            self.look_at(part).await?;
        }
        // Last: a handover that ended had it written before.
        self.ask_who_rules().await?;
        let goal = match (self.jobs.args.run.plan, self.approval.is_some()) {
            (true, _) => Goal::Plan,
            (false, true) => Goal::Handover(Approval::Given),
            (false, false) => Goal::Handover(Approval::Needed),
        };
        let is_due = self.refreshed.is_none_or(|at| at.elapsed() >= BETWEEN_REFRESHES);
        Ok(Facts {
            goal,
            handover: match self.seen.get(&Part::Handover) {
                None => HandoverJob::None,
                Some(seen) => match seen.outcome() {
                    None => HandoverJob::Running(seen.work),
                    Some(outcome) => HandoverJob::Ended(seen.work, outcome),
                },
            },
            refresh: self.job(Part::Refresh),
            verify: self.job(Part::Verify),
            printed: if self.digest.is_some() { Printed::Plan } else { Printed::Nothing },
            rules: self.rules,
            wait: if !self.awaited.is_empty() && is_due { Wait::ForApplications } else { Wait::No },
        })
    }

    async fn ask_who_rules(&mut self) -> Result<(), Failure> {
        let name = &self.jobs.place.name;
        let object = self.cluster.get(&authority_path(name)).await.map_err(|problem| self.cluster.failure(problem))?;
        if let Some(rules) = object.and_then(|object| rules_of(&evidence_of(name, &object))) {
            self.rules = rules;
        }
        Ok(())
    }

    fn job(&self, part: Part) -> Job {
        match self.seen.get(&part).map(Seen::outcome) {
            None => Job::None,
            Some(None) => Job::Running,
            Some(Some(outcome)) => Job::Ended(outcome),
        }
    }

    /// One that ended before it was followed is none.
    async fn look_at(&mut self, part: Part) -> Result<(), Failure> {
        let job_name = name(part, &self.jobs.place.name);
        let cluster = self.cluster;
        let asked = |problem| cluster.failure(problem);
        let job = jobs::get(cluster, &job_name).await.map_err(asked)?;
        let is_over = self.seen.get(&part).is_some_and(|seen| seen.is_over);
        let Some(job) = job else {
            return match self.seen.get(&part) {
                Some(seen) if seen.ended.is_none() => {
                    Err(self.stop(JobStop::NoCode { job: job_name, why: "somebody deleted it".to_owned() }))
                }
                Some(_) | None => self.over(part),
            };
        };
        match self.seen.get(&part) {
            Some(seen) if seen.uid == jobs::uid(&job) => {}
            Some(_) if !is_over => {
                return Err(
                    self.stop(JobStop::NoCode { job: job_name, why: "somebody made another in its place".to_owned() })
                );
            }
            Some(_) | None if jobs::ended(&job).is_some() || !job["metadata"]["deletionTimestamp"].is_null() => {
                return Ok(());
            }
            Some(_) | None => self.joined(part, &job, Made::Found)?,
        }
        if is_over { Ok(()) } else { self.look_into(part, &job).await }
    }

    /// What the Pod of a Job that is followed has come to.
    async fn look_into(&mut self, part: Part, job: &Value) -> Result<(), Failure> {
        let (cluster, job_name) = (self.cluster, name(part, &self.jobs.place.name));
        let asked = |problem| cluster.failure(problem);
        let (ended, pod) = (jobs::ended(job), jobs::pod(cluster, job).await.map_err(asked)?);
        let waits = match (&ended, &pod) {
            (Some(_), _) | (None, Some(Pod { container: Container::Running | Container::Ended(..), .. })) => None,
            (None, Some(Pod { container: Container::Waiting(Some(why)), .. })) => Some(why.clone()),
            // What is wrong with a volume, or keeps a Pod from being made, stands in an Event alone.
            (None, Some(Pod { container: Container::Waiting(None), uid, .. })) => {
                jobs::warning(cluster, uid).await.map_err(asked)?
            }
            (None, None) => jobs::warning(cluster, jobs::uid(job)).await.map_err(asked)?,
        };
        let Some(seen) = self.seen.get_mut(&part) else { return Err(Failure::Bug) };
        if let Some(why) = waits
            && why != seen.told
        {
            output::note(format_args!("Job {job_name} waits: {why}"));
            seen.told = why;
        }
        match pod {
            Some(Pod { name, container: container @ (Container::Running | Container::Ended(..)), .. }) => {
                seen.begun = true;
                if let Container::Ended(code, why) = container {
                    seen.code = Some((code, why));
                }
                if matches!(seen.log, Log::NotYet) {
                    let (cluster, tell) = (cluster.clone(), self.tell.clone());
                    seen.log = Log::Open(self.readers.spawn(async move {
                        let heard =
                            jobs::follow(&cluster, &name, |line| drop(tell.send(Heard::Line(part, line)))).await;
                        drop(tell.send(Heard::Over(part, heard.err())));
                    }));
                }
            }
            Some(Pod { container: Container::Waiting(_), .. }) | None => {}
        }
        if let Some(ended) = ended {
            seen.ended.get_or_insert((ended, Instant::now()));
        }
        let longest = job["spec"]["activeDeadlineSeconds"].as_u64().map_or(MARGIN, Duration::from_secs) + MARGIN;
        let since = seen.since.elapsed();
        if seen.ended.is_none() && (since > longest || (!seen.begun && since > BEGINS_WITHIN)) {
            let why = if seen.told.is_empty() { "nobody says why".to_owned() } else { seen.told.clone() };
            return Err(self.stop(JobStop::Stuck { job: job_name, why }));
        }
        self.over(part)
    }

    /// A Job that runs is followed from now on, whoever made it.
    fn joined(&mut self, part: Part, job: &Value, made: Made) -> Result<(), Failure> {
        let work = match part {
            Part::Handover => work(job),
            Part::Refresh | Part::Verify => Work::Handover,
        };
        if part == Part::Handover {
            // That of another Job is no word of this one.
            self.digest = None;
        }
        let ours = match part {
            Part::Handover => self.jobs.handover(work, self.approval.clone())?,
            Part::Refresh => self.jobs.refresh(self.awaited.iter())?,
            Part::Verify => self.jobs.verify()?,
        };
        let is_ours = match part {
            // What one is asked to refresh is no decision of a person.
            Part::Refresh => true,
            // One that was approved by an answer is no other.
            Part::Handover if self.approval.is_none() => manifest::but_approval(&ours) == manifest::but_approval(job),
            Part::Handover | Part::Verify => manifest::words(&ours) == manifest::words(job),
        };
        let job_name = name(part, &self.jobs.place.name);
        output::note(match (made, is_ours) {
            (Made::Here, _) => format!("Job {job_name} begins"),
            (Made::Found, true) => format!("Job {job_name} runs already, and is followed"),
            (Made::Found, false) => format!("Job {job_name} runs already with other words, and is followed"),
        });
        self.seen.insert(
            part,
            Seen {
                uid: jobs::uid(job).to_owned(),
                since: Instant::now(),
                work,
                is_ours,
                log: Log::NotYet,
                told: String::new(),
                begun: false,
                ended: None,
                code: None,
                is_over: false,
            },
        );
        Ok(())
    }

    /// What becomes of a Job that is over.
    fn over(&mut self, part: Part) -> Result<(), Failure> {
        let Some(seen) = self.seen.get_mut(&part).filter(|seen| !seen.is_over) else { return Ok(()) };
        let Some((ended, at)) = &seen.ended else { return Ok(()) };
        if matches!(seen.log, Log::Open(_)) && at.elapsed() > LAST_LINES {
            if let Log::Open(reader) = &seen.log {
                reader.abort();
            }
            seen.log = Log::Over;
            output::note(format_args!(
                "the last lines of Job {} were not to be had",
                name(part, &self.jobs.place.name)
            ));
        }
        if matches!(seen.log, Log::Open(_)) {
            return Ok(());
        }
        seen.is_over = true;
        if let Err(why) = code_of(ended, seen.code.as_ref().map(|(code, _)| *code)) {
            let job = name(part, &self.jobs.place.name);
            let stop = JobStop::NoCode { job, why };
            // The handover says itself how long it waits for a refresh.
            if part != Part::Refresh {
                return Err(self.stop(stop));
            }
            output::note(stop);
        }
        match part {
            Part::Refresh => self.refreshed = Some(Instant::now()),
            // A plan for something else is none of ours.
            Part::Handover if seen.work == Work::Plan && !seen.is_ours => drop(self.seen.remove(&part)),
            Part::Handover | Part::Verify => {}
        }
        Ok(())
    }

    /// Shows what the Jobs write, for a while.
    async fn hear(&mut self, patience: Duration) -> Result<(), Failure> {
        let end = sleep(patience);
        tokio::pin!(end);
        loop {
            let heard = tokio::select! {
                () = &mut end => return Ok(()),
                heard = self.lines.recv() => heard.ok_or(Failure::Bug)?,
            };
            match heard {
                Heard::Line(part, line) => {
                    if part == Part::Handover {
                        self.awaited.extend(awaited(&line));
                        self.digest = digest(&line).or(self.digest.take());
                    }
                    output::text(&format!("{}\n", one_line(&line)))?;
                }
                Heard::Over(part, problem) => {
                    if let Some(problem) = problem {
                        let job = name(part, &self.jobs.place.name);
                        output::note(format_args!("the log of Job {job} cannot be read: {problem}"));
                    }
                    // Another Job's may be open by now, or not yet.
                    if let Some(seen) = self.seen.get_mut(&part).filter(|seen| matches!(seen.log, Log::Open(_))) {
                        seen.log = Log::Over;
                    }
                }
            }
        }
    }

    // --- act

    /// Makes a Job in the place of one that ended; where another run was quicker, its Job is followed.
    async fn make(&mut self, part: Part, job: &Value) -> Result<(), Failure> {
        let job_name = name(part, &self.jobs.place.name);
        let cluster = self.cluster;
        let made = async {
            if let Some(old) = jobs::get(cluster, &job_name).await? {
                if jobs::ended(&old).is_none() && old["metadata"]["deletionTimestamp"].is_null() {
                    return Err(ClusterError::Conflict("another run was quicker".to_owned()));
                }
                jobs::delete(cluster, &job_name, jobs::uid(&old)).await?;
            }
            jobs::create(cluster, job, false).await
        };
        match made.await {
            Ok(job) => self.joined(part, &job, Made::Here),
            // The next look finds it.
            Err(ClusterError::Conflict(_)) => {
                self.seen.remove(&part);
                Ok(())
            }
            Err(problem) => Err(cluster.failure(problem)),
        }
    }

    /// The plan was printed; what is carried out is that plan and no other.
    async fn ask(&mut self) -> Result<(), Failure> {
        let digest = self.digest.clone().ok_or(Failure::Bug)?;
        let question = "The values go to Vault, and Vault rules from then on. This cannot be taken back. Hand over?";
        Asked("handover").agreed(&self.jobs.args.run, question).await?;
        self.approval = Some(format!("--approve={digest}"));
        Ok(())
    }

    /// The exit code of a Job's container is the command's own.
    fn end(&self, part: Part) -> Result<ExitCode, Failure> {
        let job = name(part, &self.jobs.place.name);
        let seen = self.seen.get(&part).ok_or(Failure::Bug)?;
        let (ended, _) = seen.ended.as_ref().ok_or(Failure::Bug)?;
        let (code, why) = seen.code.clone().map_or((None, None), |(code, why)| (Some(code), why));
        let code = code_of(ended, code).map_err(|why| self.stop(JobStop::NoCode { job: job.clone(), why }))?;
        if code != 0 {
            let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
            output::note(format_args!("Job {job} ended with {code}{why}; `{}` goes on", typed_with(&[])));
        }
        // Of a process of Linux it is a byte.
        Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
    }

    /// Jobs that go on without anybody who follows them.
    fn running(&self) -> Vec<String> {
        let running = self.seen.iter().filter(|(_, seen)| seen.ended.is_none());
        running.map(|(part, _)| name(*part, &self.jobs.place.name)).collect()
    }

    /// Once there may be a Job, nobody knows from here what becomes of it.
    fn lost(&self, problem: ClusterError) -> Failure {
        match problem {
            ClusterError::Forbidden(_) if self.seen.is_empty() => unasked(self.cluster, problem, self.rules),
            ClusterError::Forbidden(_)
            | ClusterError::Unreachable(_)
            | ClusterError::Late(_)
            | ClusterError::Unauthorized
            | ClusterError::Denied(_)
            | ClusterError::Conflict(_)
            | ClusterError::NotServed(_)
            | ClusterError::Status { .. } => {
                let why = format!("{}: {problem}", self.cluster.name());
                self.stop(JobStop::Lost { why, jobs: self.running() })
            }
        }
    }

    fn stop(&self, stop: JobStop) -> Failure {
        following_stopped(stop, self.rules)
    }
}

impl Seen {
    /// How it ended, once everything that it wrote was shown.
    fn outcome(&self) -> Option<Outcome> {
        let (ended, _) = self.ended.as_ref().filter(|_| self.is_over)?;
        Some(match ended {
            Ended::Complete => Outcome::Done,
            Ended::Failed(_) => Outcome::Failed,
        })
    }
}

/// What a preflight found.
#[derive(Default)]
struct Found {
    missing: Vec<String>,
    forbidden: Vec<String>,
    failed: Option<ClusterError>,
}

impl Found {
    fn present(&mut self, what: &str, made_by: &str, object: Result<Option<Value>, ClusterError>) {
        match object {
            Ok(Some(_)) => {}
            Ok(None) => self.missing.push(format!("{what} is missing ({made_by})")),
            Err(problem) => self.refused(what, problem),
        }
    }

    fn refused(&mut self, what: &str, problem: ClusterError) {
        match problem {
            ClusterError::Forbidden(why) => self.forbidden.push(why),
            ClusterError::Denied(why) | ClusterError::Conflict(why) => {
                self.missing.push(format!("{what} is refused: {why}"));
            }
            // A namespace that is missing, and what the API server finds wrong in an object.
            ClusterError::Status { status: 404 | 422, message } => self.missing.push(format!("{what}: {message}")),
            other @ (ClusterError::Unreachable(_)
            | ClusterError::Late(_)
            | ClusterError::Unauthorized
            | ClusterError::NotServed(_)
            | ClusterError::Status { .. }) => self.failed = Some(other),
        }
    }

    fn judged(self, cluster: &Cluster, rules: Rules) -> Result<(), Failure> {
        if let Some(problem) = self.failed {
            return Err(unasked(cluster, problem, rules));
        }
        if !self.forbidden.is_empty() {
            return Err(following_stopped(JobStop::NotAllowed(self.forbidden), rules));
        }
        if self.missing.is_empty() { Ok(()) } else { Err(following_stopped(JobStop::NotReady(self.missing), rules)) }
    }
}

/// Rights are named with what gives them.
fn unasked(cluster: &Cluster, problem: ClusterError, rules: Rules) -> Failure {
    match problem {
        ClusterError::Forbidden(why) => following_stopped(JobStop::NotAllowed(vec![why]), rules),
        other @ (ClusterError::Unreachable(_)
        | ClusterError::Late(_)
        | ClusterError::Unauthorized
        | ClusterError::Denied(_)
        | ClusterError::Conflict(_)
        | ClusterError::NotServed(_)
        | ClusterError::Status { .. }) => cluster.failure(other),
    }
}

/// The exit code of a Job's program, where the Job and its Pod agree on one; else what is known instead.
fn code_of(ended: &Ended, code: Option<i64>) -> Result<i64, String> {
    match (ended, code) {
        // Its Pod may be gone, and only a 0 completes a Job.
        (Ended::Complete, None | Some(0)) => Ok(0),
        (Ended::Complete, Some(code)) => Err(format!("it is complete, and its container ended with {code}")),
        (Ended::Failed(why), None) => Err(why.clone()),
        (Ended::Failed(why), Some(0)) => Err(format!("its container ended with 0, and the Job failed ({why})")),
        (Ended::Failed(_), Some(code)) => Ok(code),
    }
}

fn following_stopped(stop: JobStop, rules: Rules) -> Failure {
    let again = typed_with(&[]);
    let way_out = match &stop {
        JobStop::NotReady(_) => format!("make that so, then `{again}`; manifests/vault says what each Job needs"),
        JobStop::NotAllowed(_) => {
            format!("manifests/vault/in-cluster.yaml has the rights that this takes; then `{again}`")
        }
        JobStop::Busy(_) => "leave `--plan` out to follow it".to_owned(),
        JobStop::Stuck { .. } | JobStop::NoCode { .. } => {
            format!("see to that; `{again}` follows what runs, and makes what ended anew")
        }
        JobStop::NoPlan(_) => {
            format!(
                "`{again} --plan` shows it again; where that names a recorded handover, `{again} --yes` finishes it"
            )
        }
        JobStop::Lost { .. } => format!("see that the API server can be asked; `{again}` follows what runs"),
        JobStop::Contradicted(_) => "compare Vault's record with `regent status`: a person decides".to_owned(),
        JobStop::Interrupted(_) => format!("`{again}` follows it again"),
    };
    Failure::Job { stop: Box::new(stop), has_moved: rules != Rules::Git, way_out }
}

/// An Application that the handover's log says is waited for.
fn awaited(line: &str) -> Option<ApplicationName> {
    let line: Value = serde_json::from_str(line).ok()?;
    application(line["waiting"].as_str()?).ok()
}

/// The digest of a plan, as both outputs have it.
fn digest(line: &str) -> Option<String> {
    let in_json = || serde_json::from_str::<Value>(line).ok()?["digest"].as_str().map(ToOwned::to_owned);
    let digest = line.strip_prefix("plan ").map(|rest| rest.trim().to_owned()).or_else(in_json)?;
    let is_one = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then_some(digest)
}

fn running(jobs: &[String]) -> impl Display + use<> {
    match jobs {
        [] => String::new(),
        [one] => format!(", and Job {one} goes on"),
        more => format!(", and the Jobs {} go on", more.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::failure::Exit;

    #[test]
    fn the_job_reaches_a_repository_by_https_and_its_address_holds_no_credential() {
        let of = |repo: &str| reachable(repo.as_ref()).map_err(|failure| failure.to_string());
        assert_eq!(of("https://git.example/infra.git"), Ok(()));
        for other in [".", "/srv/infra.git", "ssh://git@git.example/infra.git", "http://127.0.0.1/infra.git"] {
            assert!(of(other).is_err_and(|why| why.contains("https://")), "{other}");
        }
        assert!(of("https://jane:CANARY@git.example/x.git").is_err_and(|why| !why.contains("CANARY")));
    }

    #[test]
    fn who_rules_is_what_the_authority_says() {
        let of = |spec: Value, settled: Value| rules_of(&said(&spec, &json!({ "settled": settled })));
        assert_eq!(of(spec("git"), Value::Null), Some(Rules::Git));
        // Of an earlier epoch.
        assert_eq!(of(spec("vault"), json!({ "epoch": 1, "handoverId": BEFORE })), Some(Rules::Vault));
        assert_eq!(of(spec("vault"), Value::Null), Some(Rules::Vault));
        assert_eq!(of(spec("vault"), json!({ "epoch": 2, "handoverId": ID })), Some(Rules::Settled));
        assert_eq!((of(spec("none"), Value::Null), of(json!({}), Value::Null)), (None, None));
    }

    /// The Job's token is for that address, and it sends nothing to another.
    #[test]
    fn vault_is_where_a_person_said_that_it_moved_to() {
        let of = |word: &str, key: &str| {
            let moved = json!({ "handoverId": ID, "vaultAddress": "https://new", "mount": "secret" });
            said(&spec(word), &json!({ "rebound": { key: moved } }))
                .place()
                .present()
                .map(|place| place.address.clone())
        };
        assert_eq!(of("vault", "2-1").as_deref(), Some("https://new"));
        // Of an earlier epoch.
        assert_eq!(of("vault", "1-1").as_deref(), Some("https://old"));
        assert_eq!(of("git", "2-1").as_deref(), Some("https://old"));
    }

    const BEFORE: &str = "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f";
    const ID: &str = "5f2c1e0b-8a3d-4f6b-9c2e-1d7a5e4b3c2f";

    fn spec(word: &str) -> Value {
        let handover = if word == "vault" { json!(ID) } else { Value::Null };
        json!({
            "schema": 1, "authorityId": "prod", "authority": word, "epoch": 2, "supersedes": BEFORE, "handoverId": handover,
            "vaultAddress": "https://old", "vaultNamespace": "", "mount": "secret", "prefix": "regent/prod",
        })
    }

    fn said(spec: &Value, status: &Value) -> Evidence {
        evidence_of(&AuthorityName::parse("prod").unwrap(), &json!({ "spec": spec, "status": status }))
    }

    #[tokio::test]
    async fn an_api_server_that_cannot_be_asked_any_more_leaves_jobs_that_go_on() {
        let words =
            "regent handover --in-cluster=prod --repo=https://g/x.git --revision=abc --path=eu --context=c --yes";
        let cli = Cli::try_parse_from(words.split(' ')).map_err(|error| error.to_string()).unwrap();
        let Command::Handover(args) = cli.command else { panic!("another command") };
        let place = Place { name: AuthorityName::parse("prod").unwrap(), vault: "https://v:8200".to_owned() };
        let jobs = Jobs { args: &args, place: &place, image: "regent" };
        let cluster = Cluster::of_service(tower::service_fn(|_| std::future::pending()));
        let problems =
            || [ClusterError::Late(SILENT_FOR), ClusterError::Unauthorized, ClusterError::Forbidden(String::new())];
        for (rules, exit) in
            [(Rules::Git, Exit::Authority), (Rules::Vault, Exit::Underway), (Rules::Settled, Exit::Underway)]
        {
            let mut following = Following::new(&cluster, &jobs, rules);
            // A right that was never there, and no Job of which anybody knows.
            assert_eq!(following.lost(ClusterError::Forbidden(String::new())).exit(), Exit::Refused);
            following.joined(Part::Handover, &jobs.handover(Work::Handover, None).unwrap(), Made::Here).unwrap();
            for problem in problems() {
                let failure = following.lost(problem);
                assert_eq!(failure.exit(), exit, "{failure}");
                assert!(failure.to_string().ends_with(", and Job regent-handover-prod goes on"), "{failure}");
            }
        }
    }

    #[test]
    fn a_code_is_known_only_where_the_job_and_its_container_agree() {
        let failed = || Ended::Failed("DeadlineExceeded".to_owned());
        for (ended, code, expected) in [
            (Ended::Complete, Some(0), Some(0)),
            (Ended::Complete, None, Some(0)),
            (Ended::Complete, Some(6), None),
            (failed(), Some(6), Some(6)),
            (failed(), Some(0), None),
            (failed(), None, None),
        ] {
            assert_eq!(code_of(&ended, code).ok(), expected, "{ended:?} {code:?}");
        }
    }

    #[test]
    fn the_log_tells_what_is_waited_for_and_what_was_planned() {
        let app = ApplicationName { namespace: "argocd".to_owned(), name: "prod".to_owned() };
        assert_eq!(awaited(r#"{"waiting":"argocd/prod","for":["it was not refreshed since"]}"#), Some(app));
        for other in ["waiting 65 s", r#"{"copied":"app/db","done":1,"of":2}"#, r#"{"waiting":"prod"}"#, ""] {
            assert_eq!(awaited(other), None, "{other}");
        }
        // No word for another command.
        for other in ["--config=x/y", "argocd/prod more", "argocd/a/b", "/prod"] {
            assert_eq!(awaited(&json!({ "waiting": other }).to_string()), None, "{other}");
        }
        let hex = "ab".repeat(32);
        assert_eq!(digest(&format!("plan       {hex}")).as_ref(), Some(&hex));
        assert_eq!(digest(&format!(r#"{{"documents":[],"digest":"{hex}"}}"#)).as_ref(), Some(&hex));
        for other in ["plan       none", r#"{"digest":"$(x)"}"#, "planned", &format!("a plan {hex}")] {
            assert_eq!(digest(other), None, "{other}");
        }
    }
}
