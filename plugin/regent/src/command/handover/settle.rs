//! What follows the mirror, until no old value can come back: then `Settled` is noted.
//!
//! ```text
//! gather   every Application, as Argo CD has it now
//! decide   core: who is affected, and what each still has to show
//! act      have them compared anew, disarm what is cached, note it
//! ```
//! Flux is waited for beside it (`letting_go.rs`), and what both have shown is noted.
//!
//! Nothing is remembered between runs: one that is cut off is begun again by the next, and asks for what was seen already
//! once more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use regent_core::bootstrap::After;
use regent_core::evidence::{ListedDocument, Reading};
use regent_core::flux;
use regent_core::handover::record::Marked;
use regent_core::name::SecretName;
use regent_core::repository::Repository;
use regent_core::retire::lock;
use regent_core::rules::{ArgoCd, ConfigLimits};
use regent_core::settle::{
    Application, ApplicationName, Cached, Decided, Facts, Lack, Lacking, Left, Next, Quiet, Scope, Stage, Without,
    affected, next, tracked_elsewhere,
};
use tokio::time::{Instant, sleep};

use super::super::root::{Connected, Root};
use super::freeze::{self, When};
use super::letting_go::{self, LettingGo};
use super::mirror::Keeper;
use super::stop::{HandoverStop, stopped};
use super::{Run, report};
use crate::caches::{self, Stale};
use crate::cli::HandoverArgs;
use crate::cluster::applications::{self, Depth, Refreshed};
use crate::cluster::authority::{AuthorityStatus, LEFT_BEHIND, Noted, Settled};
use crate::cluster::installation::{InForce, lock_in_force};
use crate::cluster::witness::{self, witness_name, witness_path};
use crate::cluster::{Cluster, ClusterError};
use crate::failure::Failure;
use crate::local::Writer;
use crate::output;

/// Between what began before the witnesses said vault and its entry in the cache lie the answer of the plugin, which the
/// operator's file bounds, and its way through the repo-server, which takes milliseconds.
const MARGIN: Duration = Duration::from_secs(5);

/// How long an entry of Argo CD's cache of manifests lives, unless `--repo-cache-expiration` says otherwise.
const CACHED_FOR: Duration = Duration::from_secs(24 * 3600);

/// Between two looks: short at first, longer where nothing moves.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(10)];

/// How long one round of refreshes is waited for before all Applications are looked at again.
const ROUND: Duration = Duration::from_secs(30);

/// Sees to it that no old value can come back, and notes that. Nothing is done where it is noted already, unless
/// `--caches-locked` or `--caches-expired` has what was left behind looked at again.
/// `adopted` is the run in a cluster that took the handover over.
pub(super) async fn settle(
    keeper: &Keeper,
    root: &Root,
    args: &HandoverArgs,
    marked: &Marked,
    adopted: Option<&Run<'_>>,
) -> Result<(), Failure> {
    if keeper.evidence(root).await?.is_settled() && !looks_again(keeper, args, marked).await {
        return Ok(());
    }
    match keeper {
        Keeper::Folder(_) if args.run.plan => Ok(()),
        Keeper::Folder(folder) => {
            let without: BTreeSet<Without> = args.settle.without.iter().map(|proof| Without::from(*proof)).collect();
            if without != BTreeSet::from([Without::Operations, Without::Outcome, Without::Caches]) {
                output::note(
                    "not noted as settled: a folder does not tell who renders from it (where nobody does: \
                     `--settle-without` operations, outcome and caches)",
                );
                return Ok(());
            }
            let message = "a person said that no controller renders from this store";
            let left = Left { without, ..Left::default() };
            Writer::open(folder)?.change_status(&marked.record.name, |status| settled(status, marked, &left, message))
        }
        Keeper::Cluster(connected) => Settling::new(keeper, root, connected, args, marked, adopted)?.run().await,
    }
}

/// Whether a person has what was left behind looked at again, and leaves nothing behind now.
async fn looks_again(keeper: &Keeper, args: &HandoverArgs, marked: &Marked) -> bool {
    let settle = &args.settle;
    let is_asked = (settle.caches_locked || settle.caches_expired) && !args.run.plan;
    if !is_asked || !settle.skipped.is_empty() || !settle.without.is_empty() {
        return false;
    }
    match keeper {
        Keeper::Folder(_) => false,
        Keeper::Cluster(connected) => {
            let status = witness::status(&connected.witnesses, &marked.record.name).await;
            // What stands there already goes on to stand.
            status.is_ok_and(|status| {
                status.conditions.iter().any(|it| it.type_ == "Settled" && it.reason == LEFT_BEHIND)
            })
        }
    }
}

/// One run of it in a cluster.
struct Settling<'a> {
    keeper: &'a Keeper,
    root: &'a Root,
    /// Where Argo CD and the witnesses are.
    cluster: &'a Cluster,
    connected: &'a Connected,
    args: &'a HandoverArgs,
    marked: &'a Marked,
    adopted: Option<&'a Run<'a>>,
    argocd: ArgoCd,
    /// As Applications name it.
    plugin: String,
    /// The root's, where they are known.
    repositories: Vec<Repository>,
    /// The longest request to the plugin.
    request: Duration,
    decided: Decided,
    flux: LettingGo<'a>,
    /// Applications that this identity may not ask; somebody else does.
    refused: BTreeSet<ApplicationName>,
    /// What was told last.
    told: Vec<Lacking>,
}

impl<'a> Settling<'a> {
    fn new(
        keeper: &'a Keeper,
        root: &'a Root,
        connected: &'a Connected,
        args: &'a HandoverArgs,
        marked: &'a Marked,
        adopted: Option<&'a Run<'a>>,
    ) -> Result<Self, Failure> {
        let (argocd, limits) = match &root.config {
            Some(config) => (config.argocd.clone(), config.limits),
            None => (ArgoCd::default(), ConfigLimits::default()),
        };
        let decided = Decided {
            skipped: args.settle.skipped.iter().cloned().collect(),
            without: args.settle.without.iter().map(|proof| Without::from(*proof)).collect(),
        };
        let cluster = &connected.witnesses;
        let request = limits.request;
        let (refused, told, plugin) = (BTreeSet::new(), Vec::new(), argocd.plugin());
        let repositories = root.repositories()?;
        let flux = LettingGo::new(cluster, root, &marked.record.git_commit, &args.settle);
        Ok(Self {
            keeper,
            root,
            cluster,
            connected,
            args,
            marked,
            adopted,
            argocd,
            plugin,
            repositories,
            request,
            decided,
            flux,
            refused,
            told,
        })
    }

    async fn run(mut self) -> Result<(), Failure> {
        let began = Instant::now();
        let until = began + Duration::from_secs(self.args.settle.timeout);
        let quiet_at = began + self.request + MARGIN;
        let Some(first) = self.look().await.map_err(|problem| self.unseen(&problem))? else {
            return self.without_argocd(until).await;
        };
        self.name_others(&first);
        if self.args.run.plan {
            let flux = self.flux.planned(&self.marked.record.documents).await?;
            return Err(self.only_planned(&first, flux));
        }
        self.tell_how_long().await?;
        self.may_disarm().await?;
        let witness = self.witness().await?;
        self.begin().await?;
        // Begun anew with each stage, by the first look in it.
        let (mut stage, mut since) = (Stage::Mirrored, None);
        let (mut disarmed, mut disarmed_of) = (String::new(), Vec::new());
        let mut pauses = PAUSES.iter().chain(std::iter::repeat(&PAUSES[PAUSES.len() - 1]));
        loop {
            let Some((applications, imported)) = self.seen(until).await? else {
                sleep(PAUSES[0]).await;
                continue;
            };
            // What was imported since the record may have been rendered before, by a commit that slipped in.
            let listed: Vec<ListedDocument> = self.marked.record.documents.iter().chain(&imported).cloned().collect();
            let since_then = since.get_or_insert_with(|| compared(&applications));
            let quiet = if Instant::now() >= quiet_at { Quiet::Over } else { Quiet::NotYet };
            let facts = Facts {
                applications: &applications,
                scope: Scope { listed: &listed, ..self.scope() },
                decided: &self.decided,
                stage,
                since: since_then,
                quiet,
            };
            match next(&facts) {
                Next::Ask { whom, lacking } => {
                    let failed = lacking.iter().flat_map(|it| &it.lacks).any(|it| matches!(it, Lack::Error { .. }));
                    let depth = match stage {
                        // What is in the cache now is what is looked at.
                        Stage::Disarmed if !failed => Depth::Soft,
                        Stage::Mirrored | Stage::Disarmed => Depth::Hard,
                    };
                    self.tell(&lacking);
                    self.ask(whom, depth, until).await;
                }
                Next::Wait(lacking) => self.tell(&lacking),
                Next::Again(lacking) => {
                    self.tell(&lacking);
                    (stage, since) = (Stage::Mirrored, None);
                }
                Next::Quiet => {
                    output::note(report::quiet(quiet_at.saturating_duration_since(Instant::now())));
                    tokio::time::sleep_until(quiet_at).await;
                    continue;
                }
                Next::Disarm(cached) => {
                    disarmed = self.disarm(&cached, &listed).await?;
                    disarmed_of = imported;
                    // Disarming takes its time: only what is compared after it is compared without what was cached.
                    (stage, since) = (Stage::Disarmed, None);
                    continue;
                }
                // Of what was imported since nothing was disarmed.
                Next::Note(_) if stage == Stage::Disarmed && disarmed_of != imported => {
                    (stage, since) = (Stage::Mirrored, None);
                    continue;
                }
                Next::Note(mut left) => {
                    let seen = match self.flux.step(&listed, &imported).await? {
                        letting_go::Step::NotYet if Instant::now() >= until => return Err(self.awaited_in_flux()),
                        letting_go::Step::NotYet => {
                            sleep(PAUSES[0]).await;
                            continue;
                        }
                        letting_go::Step::Done(seen) => seen,
                        letting_go::Step::None => flux::settle::Seen::default(),
                    };
                    let mut used = affected(&applications, &self.scope());
                    used.retain(|application| !self.decided.skipped.contains(&application.name));
                    freeze::check(self.root, &used, &self.scope(), &imported, When::Settling)?;
                    self.is_as_it_was(&witness).await?;
                    let used: Vec<ApplicationName> =
                        used.into_iter().map(|application| application.name.clone()).collect();
                    let mut said = report::seen(used.len(), &left, &disarmed);
                    if !seen.let_go.is_empty() {
                        // Until when the lock has to stay is said last.
                        said = format!("{}; {said}", report::seen_in_flux(&seen));
                    }
                    left.skipped_kustomizations = seen.skipped;
                    self.note(&left, &said).await?;
                    self.deliver(used, until).await;
                    return Ok(());
                }
            }
            if Instant::now() >= until {
                return Err(self.awaited());
            }
            if let Some(pause) = pauses.next() {
                sleep(*pause).await;
            }
        }
    }

    /// Without Argo CD nobody but Flux has rendered for it, if there is Flux.
    async fn without_argocd(&mut self, until: Instant) -> Result<(), Failure> {
        if self.args.run.plan {
            return match self.flux.planned(&self.marked.record.documents).await? {
                Some(flux) => Err(stopped(HandoverStop::NotSettled(format!("still missing in Flux: {flux}")))),
                None => Ok(()),
            };
        }
        self.tell_how_long().await?;
        let witness = self.witness().await?;
        let mut is_begun = false;
        loop {
            let imported = self.imported().await?;
            let listed: Vec<ListedDocument> = self.marked.record.documents.iter().chain(&imported).cloned().collect();
            let (left, said) = match self.flux.step(&listed, &imported).await? {
                letting_go::Step::NotYet if Instant::now() >= until => return Err(self.awaited_in_flux()),
                letting_go::Step::NotYet => {
                    if !is_begun {
                        self.begin().await?;
                        is_begun = true;
                    }
                    sleep(PAUSES[0]).await;
                    continue;
                }
                letting_go::Step::None => (Left::default(), "there is no Argo CD here".to_owned()),
                letting_go::Step::Done(seen) => {
                    let said = report::seen_in_flux(&seen);
                    let skipped_kustomizations = seen.skipped;
                    (Left { skipped_kustomizations, ..Left::default() }, format!("there is no Argo CD here; {said}"))
                }
            };
            self.is_as_it_was(&witness).await?;
            return self.note(&left, &said).await;
        }
    }

    /// How long Flux may take, which begins at once and beside Argo CD.
    async fn tell_how_long(&self) -> Result<(), Failure> {
        if let Some(most) = self.flux.begin(&self.marked.record.documents).await? {
            let (most, patience) = (most.as_secs(), self.args.settle.timeout);
            let more = if most > patience { " (`--settle-timeout`)" } else { "" };
            output::note(format_args!("Flux may take up to {most} s to let go, and this run waits {patience} s{more}"));
        }
        Ok(())
    }

    fn awaited_in_flux(&self) -> Failure {
        stopped(HandoverStop::NotSettled(format!("waited for in vain: {}", self.flux.awaited())))
    }

    /// Applications, and what was imported so far; `None` where whoever does not answer may in a moment.
    async fn seen(&self, until: Instant) -> Result<Option<(Vec<Application>, Vec<ListedDocument>)>, Failure> {
        let is_late = Instant::now() >= until;
        let applications = match self.look().await {
            Ok(Some(applications)) => applications,
            Ok(None) => return Err(self.unseen(&ClusterError::Unreachable("they were served before".to_owned()))),
            Err(problem) if is_late || is_final(&problem) => return Err(self.unseen(&problem)),
            Err(_) => return Ok(None),
        };
        match self.imported().await {
            Ok(imported) => Ok(Some((applications, imported))),
            Err(failure) if is_late => Err(failure),
            Err(_) => Ok(None),
        }
    }

    /// Whether what was seen was seen of this witness, and what is live is Vault's.
    async fn is_as_it_was(&self, witness: &(String, String)) -> Result<(), Failure> {
        if let Some(run) = self.adopted {
            // Until the caches were disarmed an older value may have come back.
            run.replaced(&self.marked.record).await?;
        }
        if self.witness().await? == *witness {
            return Ok(());
        }
        Err(stopped(HandoverStop::NotSettled(
            "the witness of the handover is another one than when this run began (was etcd restored?): what was rendered \
             between is not known"
                .to_owned(),
        )))
    }

    /// What delivers from Vault is rendered from now on, and Argo CD does not ask by itself before the next commit.
    async fn deliver(&mut self, whom: Vec<ApplicationName>, until: Instant) {
        match self.root.bootstrap.after {
            Some(After::ExternalSecret { .. } | After::VaultStaticSecret { .. }) => {
                self.ask(whom, Depth::Hard, until).await;
            }
            Some(After::Stub) | None => {}
        }
    }

    fn scope(&self) -> Scope<'_> {
        let record = &self.marked.record;
        Scope {
            plugin: &self.plugin,
            repositories: &self.repositories,
            root: record.root.as_deref(),
            listed: &record.documents,
        }
    }

    /// Every Application; `None` where there is no Argo CD.
    async fn look(&self) -> Result<Option<Vec<Application>>, ClusterError> {
        let all = applications::if_served(self.cluster).await?;
        Ok(all.map(|all| all.iter().map(applications::parsed).collect()))
    }

    /// What was imported since the record: its files are new to it, and did not slip in.
    async fn imported(&self) -> Result<Vec<ListedDocument>, Failure> {
        match self.keeper.evidence(self.root).await?.imported {
            Reading::Present(imported) => Ok(imported),
            Reading::Absent => Ok(Vec::new()),
            Reading::Unreadable(why) => {
                Err(stopped(HandoverStop::NotSettled(format!("what was imported cannot be read: {why}"))))
            }
        }
    }

    /// Listed Secrets that other Applications track are theirs to answer for.
    fn name_others(&self, applications: &[Application]) {
        for (application, secrets) in tracked_elsewhere(applications, &self.scope()) {
            let names: Vec<String> = secrets.iter().map(ToString::to_string).collect();
            output::note(format_args!(
                "{application} tracks {} and has no source in the root: what it applies is not looked at",
                names.join(", ")
            ));
        }
    }

    /// Has Applications compared anew. Who may move the authority need not be allowed that.
    async fn ask(&mut self, whom: Vec<ApplicationName>, depth: Depth, until: Instant) {
        let names: Vec<ApplicationName> = whom.into_iter().filter(|name| !self.refused.contains(name)).collect();
        let patience = until.saturating_duration_since(Instant::now()).min(ROUND);
        let outcomes = applications::refresh(self.cluster, &names, depth, patience, |_, _| {}).await;
        let mut refused = Vec::new();
        for (name, outcome) in outcomes {
            match outcome {
                Refreshed::Failed(ClusterError::Forbidden(_) | ClusterError::Denied(_)) => refused.push(name),
                // What came of it is looked at.
                Refreshed::Done { .. } | Refreshed::Refused(_) | Refreshed::Late => {}
                Refreshed::Failed(problem) => output::note(format_args!("{name} was not asked: {problem}")),
            }
        }
        if !refused.is_empty() {
            let names: Vec<String> = refused.iter().map(ToString::to_string).collect();
            output::note(format_args!(
                "this identity may not refresh Applications: `regent refresh {}`, as somebody who may, is waited for",
                names.join(" ")
            ));
            self.refused.extend(refused);
        }
    }

    /// Whether what is cached can be disarmed at all; told before anything is waited for.
    async fn may_disarm(&self) -> Result<(), Failure> {
        if self.args.settle.caches_expired {
            let hour = self.hour().await?;
            if Timestamp::now() < hour {
                return Err(stopped(HandoverStop::NotSettled(format!(
                    "`--caches-expired` holds from {hour} on: until then Argo CD may keep what it rendered before"
                ))));
            }
        }
        let is_in_redis = self.argocd.redis.is_some() && !self.args.settle.caches_expired;
        if is_in_redis || self.decided.without.contains(&Without::Caches) {
            return Ok(());
        }
        self.locked().await.map(drop)
    }

    /// Removes or overwrites what is cached, or says what else keeps it from the Secrets.
    async fn disarm(&self, cached: &[Cached], listed: &[ListedDocument]) -> Result<String, Failure> {
        let secrets = listed.iter().filter(|document| document.kind == "Secret");
        let identities: BTreeSet<SecretName> = secrets.map(|document| document.name.clone()).collect();
        let applications: Vec<caches::Cached> = cached.iter().map(of_caches).collect();
        let stale =
            Stale { applications: &applications, identities: &identities, control_plane: &self.argocd.namespace };
        if self.args.settle.caches_expired {
            let locked = self.locked().await?;
            return Ok(format!("a day has passed since the witness, by this machine's clock; {locked}"));
        }
        let failed = |problem: caches::CachesError| {
            stopped(HandoverStop::NotSettled(format!("what Argo CD cached before is not disarmed: {problem}")))
        };
        if let Some(redis) = &self.argocd.redis {
            let done = caches::in_redis(&caches::Redis::new(redis)?, &stale).await.map_err(failed)?;
            let (gone, left) = (done.unlinked, done.looked_at);
            return Ok(format!(
                "{gone} cached manifests were removed from Redis, the {left} that are left hold no value"
            ));
        }
        if let Some(server) = &self.argocd.server {
            // It cannot list what is cached: a revision that no Application names any more is left.
            let locked = self.locked().await?;
            let done = caches::through_server(&caches::Server::new(server)?, &stale).await.map_err(failed)?;
            let revisions = done.revisions;
            return Ok(format!("{revisions} known revisions were overwritten through argocd-server; {locked}"));
        }
        self.locked().await
    }

    /// The lock refuses what is cached, and so it has to stay for as long. An entry is written again, and lives for another
    /// day, when rendering it anew fails; so the day is counted from now.
    async fn locked(&self) -> Result<String, Failure> {
        let found = lock_in_force(&self.connected.target, &self.marked.record.name).await;
        match found.in_force {
            InForce::Yes => {
                let until = expired(Timestamp::now())?.max(self.hour().await?);
                Ok(lock::stays(&found.name, &until.to_string()))
            }
            InForce::Missing | InForce::Differs | InForce::Toothless | InForce::Unknown(_) => {
                Err(stopped(HandoverStop::NotSettled(format!(
                    "the lock {} is not certainly in force (`regent init --complete` makes it), and without it only Redis \
                     (`argocd.redis` of the operator's file) shows that nothing is left of what Argo CD cached",
                    found.name
                ))))
            }
        }
    }

    /// When the last entry that was written before the witnesses said vault has expired, by the API server's clock, if it
    /// was not written again since.
    async fn hour(&self) -> Result<Timestamp, Failure> {
        let (_, made) = self.witness().await?;
        let unknown =
            |_| stopped(HandoverStop::NotSettled(format!("`{made}` is no time at which its witness was made")));
        expired(made.parse::<Timestamp>().map_err(unknown)?)
    }

    /// The handover witness by its uid, and when it was made: one that is written again is another one.
    async fn witness(&self) -> Result<(String, String), Failure> {
        let record = &self.marked.record;
        let told = |what: &str| {
            let name = witness_name(&record.name, record.epoch);
            stopped(HandoverStop::NotSettled(format!("the witness {name} in {} {what}", self.cluster.name())))
        };
        let metadata = self.cluster.get_metadata(&witness_path(&record.name, record.epoch)).await;
        let metadata = metadata.map_err(|problem| told(&format!("cannot be looked at: {problem}")))?;
        let metadata = metadata.ok_or_else(|| told("is not there any more (was etcd restored?)"))?;
        let text = |of: &str| metadata[of].as_str().unwrap_or_default().to_owned();
        Ok((text("uid"), text("creationTimestamp")))
    }

    /// Notes that it is under way. Who may not note that may not note the end either, and is told before it waits.
    async fn begin(&self) -> Result<(), Failure> {
        let message = "Vault rules; a controller may still hold what was rendered before";
        self.change(|status| {
            // Another run was quicker: its end is not taken back.
            if status.settled.as_ref() == Some(&of_record(self.marked)) {
                return;
            }
            for (what, holds) in [("Settled", false), ("Ready", false), ("Reconciling", true)] {
                status.note(&Noted { what, holds, reason: "Settling", message });
            }
        })
        .await
    }

    async fn note(&self, left: &Left, seen: &str) -> Result<(), Failure> {
        let message = report::settled_message(left, seen);
        self.change(|status| settled(status, self.marked, left, &message)).await?;
        output::text(&report::settled(self.marked, &message, self.args.run.output))
    }

    async fn change(&self, change: impl Fn(&mut AuthorityStatus)) -> Result<(), Failure> {
        let name = &self.marked.record.name;
        witness::change_status(self.cluster, name, change).await.map_err(|problem| {
            stopped(HandoverStop::NotSettled(format!(
                "this identity cannot note it in the Authority ({problem}); the account regent-handover-{name} may"
            )))
        })
    }

    /// Tells what is waited for, where that is another thing than before.
    fn tell(&mut self, lacking: &[Lacking]) {
        if self.told != lacking {
            report::waiting(lacking);
            lacking.clone_into(&mut self.told);
        }
    }

    /// There was no more time.
    fn awaited(&self) -> Failure {
        stopped(HandoverStop::NotSettled(format!("waited for in vain: {}", report::awaited(&self.told))))
    }

    fn unseen(&self, problem: &ClusterError) -> Failure {
        let whose = self.cluster.name();
        stopped(HandoverStop::NotSettled(format!("Argo CD's Applications in {whose} cannot be looked at: {problem}")))
    }

    /// What would be waited for.
    fn only_planned(&self, applications: &[Application], flux: Option<String>) -> Failure {
        let (decided, scope, since) = (&self.decided, self.scope(), BTreeMap::new());
        let facts = Facts { applications, scope, decided, stage: Stage::Mirrored, since: &since, quiet: Quiet::NotYet };
        let affected: Vec<String> =
            affected(applications, &scope).iter().map(|application| application.name.to_string()).collect();
        let lacking = match next(&facts) {
            Next::Ask { lacking, .. } | Next::Wait(lacking) | Next::Again(lacking) => report::awaited(&lacking),
            Next::Quiet | Next::Disarm(_) | Next::Note(_) => "nothing that is seen from here".to_owned(),
        };
        let affected = if affected.is_empty() { "no Application".to_owned() } else { affected.join(", ") };
        let flux = flux.map(|flux| format!("; in Flux: {flux}")).unwrap_or_default();
        stopped(HandoverStop::NotSettled(format!("affected: {affected}; still missing: {lacking}{flux}")))
    }
}

/// `settled` and the conditions that say so.
pub(in super::super) fn settled(status: &mut AuthorityStatus, marked: &Marked, left: &Left, message: &str) {
    status.settled = Some(of_record(marked));
    let reason = if left.is_nothing() { "Seen" } else { LEFT_BEHIND };
    for (what, holds) in [("Settled", true), ("Ready", true), ("Reconciling", false)] {
        status.note(&Noted { what, holds, reason, message });
    }
}

/// `settled` of this handover.
fn of_record(marked: &Marked) -> Settled {
    let record = &marked.record;
    Settled { epoch: i64::from(record.epoch.get()), handover_id: record.handover.to_string() }
}

/// When an entry that was written then has expired, in whole seconds.
fn expired(written: Timestamp) -> Result<Timestamp, Failure> {
    let expired = written.checked_add(CACHED_FOR).map_err(|_| Failure::Bug)?;
    Timestamp::from_second(expired.as_second()).map_err(|_| Failure::Bug)
}

fn compared(applications: &[Application]) -> BTreeMap<ApplicationName, Option<String>> {
    applications.iter().map(|application| (application.name.clone(), application.reconciled_at.clone())).collect()
}

fn of_caches(cached: &Cached) -> caches::Cached {
    let Cached { name: ApplicationName { namespace, name }, destination_namespace, revisions } = cached.clone();
    caches::Cached { namespace, name, destination_namespace, revisions }
}

/// Whether asking again cannot help.
fn is_final(problem: &ClusterError) -> bool {
    match problem {
        ClusterError::Unauthorized | ClusterError::Forbidden(_) | ClusterError::Denied(_) => true,
        ClusterError::Unreachable(_)
        | ClusterError::Late(_)
        | ClusterError::Conflict(_)
        | ClusterError::NotServed(_)
        | ClusterError::Status { .. } => false,
    }
}
