//! What Flux still holds: before the record everything has to be at rest, and afterwards each Kustomization has to take
//! the stubs.
//!
//! ```text
//! gather   every Kustomization, and the artifacts of the operator's file
//! decide   core: who a person decides about, and what each still has to show
//! act      have those that are at rest reconcile now
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use regent_core::evidence::ListedDocument;
use regent_core::flux::begin::{account, obstacles};
use regent_core::flux::observed::{Kustomization, Published, Scope, SourceRef, commit_of};
use regent_core::flux::patches;
use regent_core::flux::settle::{Facts, Lacking, Next, Seen, longest, next, stops};
use regent_core::name::{AuthorityName, ObjectName};
use regent_core::rules::{Flux, FluxApplication};
use regent_core::settle::Quiet;
use tokio::time::Instant;

use super::super::root::{Connected, Root};
use super::freeze::{self, When};
use super::report;
use super::stop::{HandoverStop, stopped};
use crate::cli::SettleArgs;
use crate::cluster::flux::default_account;
use crate::cluster::{Cluster, ClusterError, installation, kustomizations};
use crate::failure::Failure;
use crate::output;

/// Between what kustomize-controller read before the witness and its saying so lie milliseconds.
const MARGIN: Duration = Duration::from_secs(3);

/// How soon one is asked again that did not do it.
const AGAIN: Duration = Duration::from_secs(30);

/// Everything in Flux that could not be settled, before the record.
pub(super) async fn preflight(
    connected: &Connected,
    root: &Root,
    args: &SettleArgs,
    listed: &[ListedDocument],
) -> Result<Vec<String>, Failure> {
    let (cluster, authority) = (&connected.witnesses, &root.bootstrap.name);
    let flux = Configured::of(root);
    let Some(look) = flux.look(cluster).await.map_err(|problem| unseen_before(cluster, &problem))? else {
        return Ok(Vec::new());
    };
    let skipped: BTreeSet<ObjectName> = args.skipped_kustomizations.iter().cloned().collect();
    let facts = look.facts(&flux, listed, &skipped, Quiet::Over);
    let mut problems = flux.unfit(root)?;
    for (name, obstacles) in obstacles(&facts) {
        let each: Vec<String> = obstacles.iter().map(ToString::to_string).collect();
        let mut problem = report::bounded(&format!("Kustomization {name}: {}", each.join(", ")));
        if facts.scope.applications.is_empty() && root.config.is_none() {
            problem.push_str(" (the operator's file tells which are regent's: `--config`)");
        }
        problems.push(problem);
    }
    let awaited: Vec<&Kustomization> = look.awaited(&flux, &skipped).collect();
    problems.extend(not_locked_out(connected, authority, flux.controllers(), &awaited).await);
    let mut others = Vec::new();
    for kustomization in &awaited {
        match kustomizations::may_ask(cluster, &kustomization.name, &now()).await {
            Ok(()) => {}
            Err(ClusterError::Forbidden(_) | ClusterError::Denied(_)) => others.push(kustomization.name.to_string()),
            Err(problem) => problems.push(format!("{} cannot be reconciled: {problem}", kustomization.name)),
        }
    }
    if !others.is_empty() {
        output::note(format_args!(
            "this identity may not reconcile {}: each takes the stubs by itself, and where one fails somebody who may is needed",
            others.join(", ")
        ));
    }
    if !awaited.is_empty() {
        let most = longest(&facts).as_secs();
        output::note(format_args!(
            "Flux may take up to {most} s to let go, by `spec.timeout` and `spec.retryInterval`"
        ));
    }
    Ok(problems)
}

/// Accounts that write what Kustomizations apply, and that the lock would let through.
async fn not_locked_out(
    connected: &Connected,
    authority: &AuthorityName,
    controllers: &str,
    awaited: &[&Kustomization],
) -> Option<String> {
    if awaited.is_empty() {
        return None;
    }
    let locked = match installation::locked_out(&connected.target, authority).await {
        Ok(Some(locked)) => locked,
        // That there is no lock is said elsewhere.
        Ok(None) => return None,
        Err(problem) => return Some(format!("whom the lock names cannot be looked at: {problem}")),
    };
    let names_none = |it: &&&Kustomization| it.service_account.is_none() && !it.is_remote;
    let names_none: Vec<_> = awaited.iter().filter(names_none).map(|it| it.name.to_string()).collect();
    // Nobody asks for a Deployment that nothing hangs on.
    let default =
        if names_none.is_empty() { Ok(None) } else { default_account(&connected.witnesses, controllers).await };
    let default = default.unwrap_or_else(|problem| {
        output::note(format_args!(
            "whether kustomize-controller has `--default-service-account` is not known: {problem}; where it has, the lock has \
             to name that account for {} (`regent init --complete` gives the right to look)",
            names_none.join(", ")
        ));
        None
    });
    let (mut open, mut unknown) = (BTreeSet::new(), BTreeSet::new());
    for kustomization in awaited {
        match account(kustomization, controllers, default.as_deref()) {
            Some(account) if locked.contains(&account) => {}
            Some(account) => drop(open.insert(account)),
            None => drop(unknown.insert(kustomization.name.to_string())),
        }
    }
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.into_iter().collect();
        output::note(format_args!(
            "{} apply with a kubeconfig of their own: whether the lock names that account is not known",
            names.join(", ")
        ));
    }
    if open.is_empty() {
        return None;
    }
    let each: Vec<String> = open.iter().map(|account| format!("--door {account}")).collect();
    let names: Vec<String> = open.into_iter().collect();
    Some(format!(
        "the lock does not name {}, which Kustomizations apply as (`regent init --complete {}`)",
        names.join(", "),
        each.join(" ")
    ))
}

/// Whether what Kustomizations applied, and what is published for them, is what is handed over.
pub(super) async fn stands_still(
    cluster: &Cluster,
    root: &Root,
    handed_over: &[ListedDocument],
) -> Result<(), Failure> {
    let flux = Configured::of(root);
    let Some(look) = flux.look(cluster).await.map_err(|problem| unseen_before(cluster, &problem))? else {
        return Ok(());
    };
    let mut in_use: BTreeMap<&str, BTreeSet<&ObjectName>> = BTreeMap::new();
    let scope = Scope { applications: &flux.applications, listed: handed_over };
    let configured = scope.configured(&look.kustomizations, &look.artifacts);
    for one in &configured {
        for commit in one.in_use().filter_map(commit_of) {
            in_use.entry(commit).or_default().insert(&one.application.kustomization);
        }
    }
    freeze::check_commits(root, &in_use, handed_over, &[], When::Recording)
}

/// Phase 3 in Flux, in one run.
pub(super) struct LettingGo<'a> {
    cluster: &'a Cluster,
    root: &'a Root,
    /// The one that was handed over.
    commit: &'a str,
    flux: Configured<'a>,
    skipped: BTreeSet<ObjectName>,
    quiet_at: Instant,
    /// When each was asked last.
    asked: BTreeMap<ObjectName, Instant>,
    /// Those that this identity may not ask.
    refused: BTreeSet<ObjectName>,
    /// What was told last.
    told: Vec<Lacking>,
}

/// How far Flux is.
pub(super) enum Step {
    /// Something is waited for.
    NotYet,
    /// No old value can come back through it.
    Done(Seen),
    /// There is no Flux here.
    None,
}

impl<'a> LettingGo<'a> {
    /// Begins with a run that began after the witness.
    pub(super) fn new(cluster: &'a Cluster, root: &'a Root, commit: &'a str, args: &SettleArgs) -> Self {
        Self {
            cluster,
            root,
            commit,
            flux: Configured::of(root),
            skipped: args.skipped_kustomizations.iter().cloned().collect(),
            quiet_at: Instant::now() + MARGIN,
            asked: BTreeMap::new(),
            refused: BTreeSet::new(),
            told: Vec::new(),
        }
    }

    /// How long it may take; `None` where nothing of Flux is waited for.
    ///
    /// # Errors
    /// Where a person decides first: told before anything is waited for.
    pub(super) async fn begin(&self, listed: &[ListedDocument]) -> Result<Option<Duration>, Failure> {
        let Some(look) = self.look().await? else { return Ok(None) };
        let facts = look.facts(&self.flux, listed, &self.skipped, Quiet::NotYet);
        let stops = stops(&facts);
        if !stops.is_empty() {
            return Err(self.decided_by_a_person(&stops));
        }
        Ok(look.awaited(&self.flux, &self.skipped).next().map(|_| longest(&facts)))
    }

    /// Looks once, and has done what helps.
    pub(super) async fn step(
        &mut self,
        listed: &[ListedDocument],
        imported: &[ListedDocument],
    ) -> Result<Step, Failure> {
        let Some(look) = self.look().await? else { return Ok(Step::None) };
        let quiet = if Instant::now() >= self.quiet_at { Quiet::Over } else { Quiet::NotYet };
        let decided = next(&look.facts(&self.flux, listed, &self.skipped, quiet));
        match decided {
            Next::Person(stops) => Err(self.decided_by_a_person(&stops)),
            Next::Ask { whom, lacking } => {
                self.tell(lacking);
                self.ask(whom).await;
                Ok(Step::NotYet)
            }
            Next::Wait(lacking) => {
                self.tell(lacking);
                Ok(Step::NotYet)
            }
            Next::Quiet => Ok(Step::NotYet),
            Next::Note(seen) => {
                let mut applied: BTreeMap<&str, BTreeSet<&ObjectName>> = BTreeMap::new();
                let scope = Scope { applications: &self.flux.applications, listed };
                let configured = scope.configured(&look.kustomizations, &look.artifacts);
                let is_skipped = |name: &ObjectName| self.skipped.contains(name);
                for one in configured.iter().filter(|one| !is_skipped(&one.application.kustomization)) {
                    for commit in one.last_values(self.commit).into_iter().filter_map(commit_of) {
                        applied.entry(commit).or_default().insert(&one.application.kustomization);
                    }
                }
                let handed_over = &listed[..listed.len().saturating_sub(imported.len())];
                freeze::check_commits(self.root, &applied, handed_over, imported, When::Settling)?;
                Ok(Step::Done(seen))
            }
        }
    }

    /// What would be waited for; `None` where there is no Flux.
    pub(super) async fn planned(&self, listed: &[ListedDocument]) -> Result<Option<String>, Failure> {
        let Some(look) = self.look().await? else { return Ok(None) };
        let facts = look.facts(&self.flux, listed, &self.skipped, Quiet::Over);
        Ok(Some(match next(&facts) {
            Next::Person(stops) => stops.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            Next::Ask { lacking, .. } | Next::Wait(lacking) => report::awaited_in_flux(&lacking),
            Next::Quiet => "nothing that is seen from here".to_owned(),
            Next::Note(seen) if seen.let_go.is_empty() => return Ok(None),
            Next::Note(seen) => format!("{} let go", names(&seen.let_go)),
        }))
    }

    /// What is still waited for, where there was no more time.
    pub(super) fn awaited(&self) -> String {
        report::awaited_in_flux(&self.told)
    }

    async fn look(&self) -> Result<Option<Look>, Failure> {
        let looked = self.flux.look(self.cluster).await;
        looked.map_err(|problem| {
            let whose = self.cluster.name();
            stopped(HandoverStop::NotSettled(format!(
                "Flux' Kustomizations in {whose} cannot be looked at: {problem} (`regent init --complete` lets the account)"
            )))
        })
    }

    fn decided_by_a_person(&self, stops: &[regent_core::flux::settle::Stop]) -> Failure {
        let mut told: Vec<String> = stops.iter().map(|stop| report::bounded(&stop.to_string())).collect();
        if self.root.config.is_none() {
            told.push("the operator's file tells which Kustomizations are regent's (`--config`)".to_owned());
        }
        told.push("whoever answers for what one applies leaves it out (`--skip-kustomization`)".to_owned());
        stopped(HandoverStop::NotSettled(told.join("; ")))
    }

    fn tell(&mut self, lacking: Vec<Lacking>) {
        if self.told != lacking {
            report::waiting_in_flux(&lacking);
            self.told = lacking;
        }
    }

    /// Has Kustomizations reconcile now. Who may move the authority need not be allowed that: whoever changes a Kustomization
    /// deploys what he likes.
    async fn ask(&mut self, whom: Vec<ObjectName>) {
        let mut refused = Vec::new();
        for name in whom.into_iter().filter(|name| !self.refused.contains(name)).collect::<Vec<_>>() {
            if self.asked.get(&name).is_some_and(|at| at.elapsed() < AGAIN) {
                continue;
            }
            match kustomizations::ask(self.cluster, &name, &now()).await {
                Ok(()) => {}
                Err(ClusterError::Forbidden(_) | ClusterError::Denied(_)) => refused.push(name.clone()),
                Err(problem) => output::note(format_args!("Kustomization {name} was not asked: {problem}")),
            }
            self.asked.insert(name, Instant::now());
        }
        for name in &refused {
            output::note(format_args!(
                "this identity may not reconcile Kustomizations: `flux reconcile kustomization {} -n {}`, as somebody who may, \
                 is waited for",
                name.name(),
                name.namespace()
            ));
        }
        self.refused.extend(refused);
    }
}

/// The Kustomizations of an authority in the operator's file.
struct Configured<'a> {
    flux: Option<&'a Flux>,
    applications: Vec<&'a FluxApplication>,
}

impl<'a> Configured<'a> {
    fn of(root: &'a Root) -> Self {
        let flux = root.config.as_ref().map(|config| &config.flux);
        let all = flux.into_iter().flat_map(|flux| &flux.applications);
        let applications = all.filter(|application| application.authority == root.bootstrap.name).collect();
        Self { flux, applications }
    }

    /// The namespace of Flux' own controllers.
    fn controllers(&self) -> &str {
        self.flux.map_or("flux-system", Flux::namespace)
    }

    /// Files that a Kustomization without an artifact could not let go of.
    fn unfit(&self, root: &Root) -> Result<Vec<String>, Failure> {
        let without = self.applications.iter().filter(|application| application.delivery.artifact().is_none());
        let without: Vec<&ObjectName> = without.map(|application| &application.kustomization).collect();
        let (Some(flux), false) = (self.flux, without.is_empty()) else { return Ok(Vec::new()) };
        let unfit = patches::unfit(&root.gathered.files, &root.bootstrap, &without, &flux.endpoint, root.limits())?;
        Ok(unfit.into_iter().map(|(file, why)| report::bounded(&format!("{file}: {why}"))).collect())
    }

    /// `None` where there is no Flux and nothing of it in the operator's file.
    async fn look(&self, cluster: &Cluster) -> Result<Option<Look>, ClusterError> {
        let kustomizations = match kustomizations::if_served(cluster).await? {
            Some(kustomizations) => kustomizations,
            None if self.applications.is_empty() => return Ok(None),
            None => return Ok(Some(Look::default())),
        };
        let artifacts = kustomizations::artifacts(cluster, &self.applications).await?;
        Ok(Some(Look { kustomizations, artifacts }))
    }
}

/// Everything as it was read at once.
#[derive(Default)]
struct Look {
    kustomizations: Vec<Kustomization>,
    artifacts: BTreeMap<SourceRef, Published>,
}

impl Look {
    fn facts<'l>(
        &'l self,
        flux: &'l Configured<'_>,
        listed: &'l [ListedDocument],
        skipped: &'l BTreeSet<ObjectName>,
        quiet: Quiet,
    ) -> Facts<'l> {
        let (kustomizations, artifacts) = (&self.kustomizations, &self.artifacts);
        Facts { kustomizations, artifacts, scope: Scope { applications: &flux.applications, listed }, skipped, quiet }
    }

    /// Those of the operator's file that are there and not skipped.
    fn awaited<'l>(
        &'l self,
        flux: &'l Configured<'_>,
        skipped: &'l BTreeSet<ObjectName>,
    ) -> impl Iterator<Item = &'l Kustomization> {
        let is_awaited = |name: &ObjectName| {
            flux.applications.iter().any(|application| application.kustomization == *name) && !skipped.contains(name)
        };
        self.kustomizations.iter().filter(move |kustomization| is_awaited(&kustomization.name))
    }
}

fn unseen_before(cluster: &Cluster, problem: &ClusterError) -> Failure {
    let whose = cluster.name();
    stopped(HandoverStop::Preflight(vec![format!(
        "Flux' Kustomizations in {whose} cannot be looked at: {problem} (`regent init --complete` lets the account)"
    )]))
}

fn names(names: &[ObjectName]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Another text each time.
fn now() -> String {
    Timestamp::now().to_string()
}
