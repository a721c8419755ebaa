//! `regent handover`: the values of a root move to Vault, and the authority with them.
//!
//! ```text
//! gather   the root at one commit, the witnesses, Vault's record and what lies beside it    here, vault.rs
//! decide   core: the next step, or why there is none; asked again after every write
//! act      copies, the record, the two witnesses                                            copies.rs, mirror.rs
//! settle   what Argo CD and Flux still have to show, and that it was seen                   settle.rs, letting_go.rs
//! ```
//! Every step may be repeated, and two runs at once end as one would: keys are created or left alone, the record's first
//! writer wins, and the witnesses are copied from the record. A run that is cut off leaves a state that the next one knows.

pub(super) mod approval;
mod clock;
mod conflicts;
mod copies;
mod freeze;
mod in_cluster;
pub(super) mod keys;
mod letting_go;
pub(super) mod mirror;
mod place;
mod policy;
pub(super) mod preflight;
mod report;
mod rights;
pub(super) mod settle;
mod stop;
pub(super) mod vault;

use std::collections::BTreeMap;
use std::process::ExitCode;

use regent_core::Refusal;
use regent_core::authority::{self, Place, Ruling};
use regent_core::evidence::{AuthorityWitness, DocumentList, Evidence, Holder, Mirror};
use regent_core::handover::decide::{Facts, Git, Leave, OtherVault, RecordKey, Step, Stop, decide, epoch_to_read};
use regent_core::handover::plan::{Draft, Plan, PlanRefusal, Target};
use regent_core::handover::record::{KeyNow, Marked, Record, Site};
use regent_core::lint;
use regent_core::name::{Epoch, FilePath, HandoverId, SecretName};
use regent_core::verify::not_replaced;
use regent_sops::Keyring;

use self::approval::Asked;
pub(super) use self::conflicts::conflicting;
pub(crate) use self::in_cluster::JobStop;
use self::keys::RetireKeys;
use self::mirror::Keeper;
use self::place::At;
pub(super) use self::place::place_of;
pub(crate) use self::stop::HandoverStop;
use self::stop::Problems;
pub(super) use self::stop::stopped;
use self::vault::InVault;
use super::root::Root;
use super::unless_interrupted;
use super::verify::beside::live;
use crate::cli::{HandoverArgs, ReportOutputArg};
use crate::cluster::block_on;
use crate::failure::{Exit, Failure};
use crate::output;
use crate::source::git;
use crate::vault::{KeyPath, Login};

pub(super) fn run(args: &HandoverArgs) -> Result<ExitCode, Failure> {
    if args.print_policy {
        return policy::print(args);
    }
    if let Some(authority) = &args.in_cluster {
        return in_cluster::run(args, authority);
    }
    let login = vault::login(&args.run.vault)?;
    let adopt = args.adopt.as_deref().map(HandoverId::parse).transpose();
    let adopt = adopt.map_err(|bad| Failure::Usage(bad.to_string()))?;
    let mut recorded = Recorded::No;
    block_on(unless_interrupted(Box::pin(async {
        let root = Root::of_run("regent handover", &args.run).await?;
        let keeper = Keeper::of(&root, args.run.target_context.as_ref()).await?;
        if args.retire_keys && keeper.clusters().is_none() {
            return Err(Failure::Usage("`--retire-keys` is for an authority in a cluster".to_owned()));
        }
        let evidence = keeper.evidence(&root).await?;
        recorded = Recorded::by(&evidence.holder());
        from(args, &root, &keeper, evidence, adopt, login, &mut recorded).await
    })))
    .map_err(|failure| recorded.told(failure))
}

/// Begins with what the witnesses say.
async fn from(
    args: &HandoverArgs,
    root: &Root,
    keeper: &Keeper,
    evidence: Evidence,
    adopt: Option<HandoverId>,
    login: Login,
    recorded: &mut Recorded,
) -> Result<ExitCode, Failure> {
    let other_vault = if args.accept_vault_identity { OtherVault::Accepted } else { OtherVault::Refused };
    // Nothing goes to an address in Git that nobody vouches for.
    let at = place::at(place::written(root).as_ref(), &evidence, other_vault)?;
    if let (At::Moved(_), false) = (&at, args.run.plan) {
        place::try_to_note(keeper, &evidence).await?;
    }
    let vault = InVault::connect(at.place(), login, &args.run.vault, args.concurrency)?;
    let act = async |site: &Site| {
        let (vault, at) = (&vault, &at);
        let mut run =
            Run { args, root, keeper, vault, site, at, adopt, other_vault, recorded, written: None, approved: None };
        let outcome = run.finish(evidence).await;
        if args.run.plan && args.retire_keys {
            RetireKeys { keeper, root, output: args.run.output }.plan().await?;
        }
        outcome
    };
    vault.at(at.place(), keeper.clusters(), args.run.allow_ephemeral_storage, act).await
}

/// What is known of the record, for whoever is told how it ended.
enum Recorded {
    /// Nothing speaks for one.
    No,
    /// It was sent, and what came of it is not known.
    Maybe,
    /// It is in Vault, and the witnesses do not all say so: whatever fails now, Vault rules, and another run is needed.
    Yes(HandoverId),
    /// Both witnesses say so.
    Mirrored(HandoverId),
}

impl Recorded {
    fn by(holder: &Holder) -> Self {
        match holder {
            Holder::Vault { handover, mirror: Mirror::Incomplete, .. } => Self::Yes(handover.clone()),
            Holder::Vault { handover, mirror: Mirror::Complete, .. } => Self::Mirrored(handover.clone()),
            Holder::None | Holder::Git { .. } | Holder::Disagree(_) | Holder::Unreadable(_) => Self::No,
        }
    }

    /// A failure as it is told: after the record nothing is as before. What a rule or a person decides stays so.
    fn told(self, failure: Failure) -> Failure {
        let is_decided = match failure.exit() {
            Exit::Done | Exit::Usage | Exit::Document | Exit::Person | Exit::Underway | Exit::Bug => true,
            Exit::Refused => matches!(failure, Failure::Refused(_)),
            Exit::Authority | Exit::Stopped => false,
        };
        let underway = |handover: HandoverId| {
            stopped(HandoverStop::NotMirrored { handover: handover.to_string(), why: failure.to_string() })
        };
        match self {
            Self::Maybe if !is_decided => stopped(HandoverStop::MaybeRecorded(failure.to_string())),
            Self::Yes(handover) if !is_decided => underway(handover),
            // Only that Git rules as before would be wrong to say.
            Self::Mirrored(handover) if failure.exit() == Exit::Stopped => underway(handover),
            Self::No | Self::Maybe | Self::Yes(_) | Self::Mirrored(_) => failure,
        }
    }
}

/// One run.
struct Run<'a> {
    args: &'a HandoverArgs,
    root: &'a Root,
    keeper: &'a Keeper,
    vault: &'a InVault,
    site: &'a Site,
    at: &'a At,
    adopt: Option<HandoverId>,
    other_vault: OtherVault,
    recorded: &'a mut Recorded,
    /// The record that this run wrote, and its copies as it read them back.
    written: Option<Written>,
    /// The digest of the plan that a person approved.
    approved: Option<String>,
}

/// What need not be asked again in the run that wrote it.
struct Written {
    handover: HandoverId,
    keys: BTreeMap<SecretName, KeyNow>,
}

const ASKED: Asked = Asked("handover");
const QUESTION: &str = "The values go to Vault, and Vault rules from then on. This cannot be taken back. Hand over?";

/// More steps than a handover has: a run that takes as many is being undone by somebody.
const MOST_STEPS: usize = 16;

impl Run<'_> {
    async fn finish(&mut self, mut evidence: Evidence) -> Result<ExitCode, Failure> {
        let mut outline = None;
        for _ in 0..MOST_STEPS {
            let holder = evidence.holder();
            let record = self.record(&holder).await?;
            // A run that mirrors has something to finish until it is over.
            if !matches!(self.recorded, Recorded::Yes(_)) {
                *self.recorded = match (&record, Recorded::by(&holder)) {
                    (RecordKey::Present(found), Recorded::No) => Recorded::Yes(found.marked.record.handover.clone()),
                    (_, known) => known,
                };
            }
            let place = self.root.place(&evidence);
            // The commit stays what it is: it is opened for its values, and otherwise once.
            let draft = match (&record, &outline) {
                (RecordKey::Absent, _) | (RecordKey::Present(_), None) => self.draft(&holder, &place)?,
                (RecordKey::Present(_), Some(_)) | (RecordKey::Deleted | RecordKey::Unreadable(_), _) => None,
            };
            outline = draft.as_ref().map(|draft| draft.outline().clone()).or(outline);
            // Values are for the copies alone.
            let draft = draft.filter(|_| matches!(record, RecordKey::Absent));
            let of_git = outline.as_ref().filter(|_| matches!(holder, Holder::Git { .. }));
            let git = Git { bootstrap: &self.root.bootstrap, place: &place, outline: of_git };
            let decided = decide(&Facts {
                name: &self.root.bootstrap.name,
                git: Some(git),
                holder: &holder,
                authority: self.authority(&evidence),
                record: &record,
                site: self.site,
                adopt: self.adopt.as_ref(),
                other_vault: self.other_vault,
            });
            match self.copied_too(decided.map_err(refused)?).await? {
                Step::Done(marked) => {
                    if let (At::Moved(place), false) = (self.at, self.args.run.plan) {
                        place::note(self.keeper, &marked, place).await?;
                        output::note(format_args!("Vault is asked at {place} from now on"));
                    }
                    let is_adopted = matches!(&record, RecordKey::Present(found) if found.adopted.is_some());
                    if is_adopted && !self.args.run.plan {
                        self.replaced(&marked.record).await?;
                    }
                    return self.done(&marked, is_adopted).await;
                }
                // What is under way is told and not touched.
                step if self.args.run.plan && !matches!(step, Step::Copy(_)) => {
                    return only_planned(&step, self.args.run.output);
                }
                Step::Copy(leave) => {
                    let Some(draft) = &draft else { return Err(Failure::Bug) };
                    match self.copy(&leave, draft).await {
                        Ok(true) => {}
                        Ok(false) => return Ok(ExitCode::SUCCESS),
                        Err(failure) if self.overtaken(&holder, &failure).await => {}
                        Err(failure) => return Err(failure),
                    }
                }
                Step::Adopt(amendment) => {
                    ASKED.agreed(&self.args.run, "Adopt this handover for this cluster?").await?;
                    self.vault.append(&self.root.bootstrap.name, &amendment, None).await?;
                }
                Step::Rebind(number, amendment) => {
                    ASKED.agreed(&self.args.run, "Accept this Vault as the one of the record?").await?;
                    self.vault.append(&self.root.bootstrap.name, &amendment, Some(number)).await?;
                }
                Step::Mirror(marked) | Step::Complete(marked) => {
                    self.keeper.mirror(&marked).await?;
                    output::text(&report::mirrored(&marked, self.args.run.output))?;
                }
                // There is a revision.
                Step::NotYet => return Err(Failure::Bug),
            }
            evidence = self.keeper.evidence(self.root).await?;
        }
        Err(stopped(HandoverStop::Undone(MOST_STEPS)))
    }

    /// The Authority that the witnesses have to stay like. Where Vault moved before both of them were written, the one that is
    /// missing is made as the other says, which is final, and not as Vault is asked now.
    fn authority<'e>(&self, evidence: &'e Evidence) -> Option<&'e AuthorityWitness> {
        let left = match self.at {
            At::Moved(_) => evidence.left_by_the_handover(),
            At::Recorded(_) => None,
        };
        left.filter(|left| left.clusters == self.site.clusters).or(evidence.authority.present())
    }

    /// In a hub both witnesses may say so while the copy beside the Secrets does not: a run was stopped between them.
    async fn copied_too(&self, step: Step) -> Result<Step, Failure> {
        let Step::Done(marked) = step else { return Ok(step) };
        Ok(if self.keeper.is_copied(&marked).await? { Step::Done(marked) } else { Step::Complete(marked) })
    }

    async fn record(&self, holder: &Holder) -> Result<RecordKey, Failure> {
        let epoch = epoch_to_read(holder, Some(&self.root.bootstrap)).unwrap_or(Epoch::FIRST);
        let expected = matches!(holder, Holder::Vault { .. });
        let clusters = self.site.clusters.as_ref();
        let record = self.vault.record(&self.root.bootstrap.name, epoch, clusters, expected).await?;
        let RecordKey::Present(mut found) = record else { return Ok(record) };
        found.keys = match (holder, &self.written) {
            // It was mirrored; what became of the copies since is not asked here.
            (Holder::Vault { .. }, _) => BTreeMap::new(),
            (_, Some(written)) if written.handover == found.marked.record.handover => written.keys.clone(),
            (_, Some(_) | None) => match self.vault.keys_now(&found.marked.record).await {
                Ok(keys) => keys,
                Err(why) => return Ok(RecordKey::Unreadable(why)),
            },
        };
        Ok(RecordKey::Present(found))
    }

    /// The root, opened, as long as Git rules it; afterwards nothing is.
    fn draft(&self, holder: &Holder, place: &Place) -> Result<Option<Draft>, Failure> {
        let Some(ruling) = self.ruling(holder, place) else { return Ok(None) };
        let drafted = Draft::of(&self.root.request(&ruling), git::blob_id).map_err(planned);
        self.root.identities.told(drafted).map(Some)
    }

    /// `None` where the decision itself says why not.
    fn ruling(&self, holder: &Holder, place: &Place) -> Option<Ruling> {
        match holder {
            Holder::Git { .. } => authority::rule(&self.root.bootstrap, place, holder, DocumentList::Unreadable).ok(),
            Holder::None | Holder::Vault { .. } | Holder::Disagree(_) | Holder::Unreadable(_) => None,
        }
    }

    /// Writes the copies and the record; `false` where only the plan was asked for.
    async fn copy(&mut self, leave: &Leave, draft: &Draft) -> Result<bool, Failure> {
        let at_once = usize::from(self.args.concurrency);
        let states = self.vault.states(draft, &self.site.vault.place.prefix, at_once).await?;
        let commit = self.root.commit()?;
        let target = Target {
            bootstrap: &self.root.bootstrap,
            root: self.root.gathered.root.as_deref(),
            commit: &commit,
            site: self.site,
            regent_version: env!("CARGO_PKG_VERSION"),
        };
        let plan = Plan::new(draft, target, &states).map_err(planned)?;
        let is_approved = self.approved.as_ref() == Some(&plan.digest());
        if !is_approved {
            let told = report::Planned { plan: &plan, changes: &self.root.last_changes(&plan)?, keeper: self.keeper };
            output::text(&told.to_text(self.args.run.output))?;
        }
        let unguarded = self.preflight(&plan).await?;
        if self.args.run.plan {
            return Ok(false);
        }
        if !is_approved {
            ASKED.approved(&self.args.run, &plan.digest(), QUESTION).await?;
            self.approved = Some(plan.digest());
        }
        self.keeper.guard(&plan.name, &unguarded).await?;
        let keys = self.vault.copy(leave, draft, &plan, at_once).await?;
        // Who rules, and whose Vault this is, is asked once more: the record is what cannot be taken back.
        let now = self.keeper.evidence(self.root).await?.holder();
        let was = Holder::Git { epoch: plan.epoch, supersedes: plan.supersedes.clone() };
        authority::recheck(&was, &now).map_err(Refusal::from)?;
        if now != was {
            // Another run was first, and its record is mirrored.
            return Ok(true);
        }
        self.keeper.stands_still(self.root, &plan.documents()).await?;
        let ephemeral = self.args.run.allow_ephemeral_storage;
        if self.vault.site(&self.site.vault.place, self.site.clusters.as_ref(), ephemeral).await? != *self.site {
            let another = "another Vault, or another mount, answers than at the beginning".to_owned();
            return Err(stopped(HandoverStop::Preflight(vec![another])));
        }
        let handover = HandoverId::parse(&uuid::Uuid::new_v4().to_string()).map_err(|_| Failure::Bug)?;
        let record = plan.record(handover, &keys).map_err(planned)?;
        *self.recorded = Recorded::Maybe;
        let there = self.vault.write_record(&record).await?;
        if there.as_ref() == Some(&record.handover) {
            let now = |(version, created_time)| KeyNow::Present { version, created_time };
            let keys = keys.into_iter().map(|(name, facts)| (name, now(facts))).collect();
            self.written = Some(Written { handover: record.handover, keys });
        }
        *self.recorded = there.map_or(Recorded::No, Recorded::Yes);
        Ok(true)
    }

    /// Everything that would fail later, on both sides, told at once. Gives the live Secrets that are to be guarded.
    async fn preflight(&self, plan: &Plan) -> Result<Vec<SecretName>, Failure> {
        self.vault.tell_of_its_clock();
        let record = KeyPath::record(&plan.name, plan.epoch).map_err(|problem| self.vault.failed(problem))?;
        let mut problems = Problems::default();
        problems.of(plan.conflicts().map_err(|refusal| conflicting(refusal, &self.site.vault.place)))?;
        problems.of(recipients(self.root, |_| true))?;
        problems.of(self.vault.preflight(plan, record).await)?;
        let unguarded = problems.of(self.keeper.preflight(self.root, plan, &self.args.settle).await)?;
        problems.of(self.keeper.stands_still(self.root, &plan.documents()).await)?;
        problems.end(unguarded.unwrap_or_default())
    }

    /// Whether another run handed over meanwhile. A copy that differs is no conflict then, but a value that was rotated
    /// since.
    async fn overtaken(&self, holder: &Holder, failure: &Failure) -> bool {
        matches!(failure, Failure::Handover { stop, .. } if stop.may_be_of_another_run())
            && matches!(self.record(holder).await, Ok(RecordKey::Present(_)))
    }

    /// A cluster that took a handover over began with Git's values, and Vault's are newer: what is live has to be Vault's
    /// before no old value can come back.
    async fn replaced(&self, record: &Record) -> Result<(), Failure> {
        let connected = match self.keeper {
            Keeper::Cluster(connected) => connected,
            Keeper::Folder(_) => return Ok(()),
        };
        if self.keeper.evidence(self.root).await?.is_settled() {
            return Ok(());
        }
        let prefix = &self.site.vault.place.prefix;
        let live = live(&connected.target, self.vault, prefix, &record.documents, &record.copied()).await;
        let old = not_replaced(&live);
        if old.is_empty() {
            return Ok(());
        }
        Err(stopped(HandoverStop::NotSettled(format!(
            "live Secrets have to be replaced by Vault's first: {}",
            old.join("; ")
        ))))
    }

    /// Both witnesses say so.
    async fn done(&mut self, marked: &Marked, is_adopted: bool) -> Result<ExitCode, Failure> {
        output::text(&report::done(marked, self.args.run.output))?;
        settle::settle(self.keeper, self.root, self.args, marked, is_adopted.then_some(&*self)).await?;
        *self.recorded = Recorded::Mirrored(marked.record.handover.clone());
        if self.args.run.plan {
            return Ok(ExitCode::SUCCESS);
        }
        output::text(&report::closed(marked, self.args.run.output))?;
        if self.args.retire_keys {
            RetireKeys { keeper: self.keeper, root: self.root, output: self.args.run.output }.remove().await?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Every document of the files that are asked about is encrypted to whom `regent.yaml` promises: the next bootstrap may
/// have to begin with any of them.
pub(super) fn recipients(root: &Root, is_asked: impl Fn(&FilePath) -> bool) -> Result<(), Failure> {
    if root.bootstrap.recipients.is_empty() {
        return Ok(());
    }
    let none = Keyring::default();
    let findings = lint::lint(&lint::Request {
        files: &root.gathered.files,
        bootstrap: Some(&root.bootstrap),
        bootstraps_above: &root.gathered.bootstraps_above,
        keys: (&none).into(),
        limits: root.limits(),
    });
    let missing = findings.into_iter().filter(|finding| finding.rule == lint::Rule::RecipientMissing);
    let missing = missing.filter(|finding| finding.spot.file().is_none_or(&is_asked));
    let told = missing.map(|finding| match finding.spot.file() {
        Some(file) => format!("{file}: {}", finding.message),
        None => finding.message,
    });
    let told: Vec<String> = told.collect();
    if told.is_empty() { Ok(()) } else { Err(stopped(HandoverStop::Preflight(told))) }
}

/// Why the decision is that nothing is done. What a rule of rendering says has a way out of its own.
pub(super) fn refused(stop: Stop) -> Failure {
    if let Stop::Authority(refusal) = stop {
        return Refusal::from(refusal).into();
    }
    stopped(HandoverStop::Decided(stop))
}

/// What a run would go on with.
fn only_planned(step: &Step, output: ReportOutputArg) -> Result<ExitCode, Failure> {
    output::text(&report::next(step, output))?;
    Ok(ExitCode::SUCCESS)
}

/// Why there is no plan.
pub(super) fn planned(refusal: PlanRefusal) -> Failure {
    match refusal {
        PlanRefusal::Rendering(refusal) => refusal.into(),
        refusal @ (PlanRefusal::Nothing
        | PlanRefusal::NoAfter
        | PlanRefusal::NotText { .. }
        | PlanRefusal::TooManyKeys { .. }
        | PlanRefusal::TooLarge { .. }
        | PlanRefusal::RecordTooLarge(_)
        | PlanRefusal::Record(_)
        | PlanRefusal::NotCompared { .. }
        | PlanRefusal::NotReadBack { .. }
        | PlanRefusal::Conflicts { .. }) => stopped(HandoverStop::Plan(refusal)),
    }
}
