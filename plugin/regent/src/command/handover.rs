//! `regent handover`: the values of a root move to Vault, and the authority with them.
//!
//! ```text
//! gather   the root at one commit, the witnesses, Vault's record and what lies beside it    here, vault.rs
//! decide   core: the next step, or why there is none; asked again after every write
//! act      copies, the record, the two witnesses                                            copies.rs, mirror.rs
//! settle   what Argo CD still has to show, and that it was seen                             settle.rs
//! ```
//! Every step may be repeated, and two runs at once end as one would: keys are created or left alone, the record's first
//! writer wins, and the witnesses are copied from the record. A run that is cut off leaves a state that the next one knows.

pub(super) mod approval;
mod copies;
mod freeze;
pub(super) mod mirror;
mod policy;
mod preflight;
mod report;
pub(super) mod settle;
mod stop;
pub(super) mod vault;

use std::collections::BTreeMap;
use std::process::ExitCode;

use regent_core::Refusal;
use regent_core::authority::{self, AuthorityRefusal, Place, Ruling};
use regent_core::bootstrap::VaultPlace;
use regent_core::evidence::{DocumentList, Evidence, Holder, Mirror, Reading, WitnessedVault};
use regent_core::handover::decide::{Facts, Git, Leave, OtherVault, RecordKey, Step, Stop, decide, epoch_to_read};
use regent_core::handover::plan::{Draft, Plan, PlanRefusal, Target};
use regent_core::handover::record::{KeyNow, Marked, Record, Site};
use regent_core::lint;
use regent_core::name::{Epoch, FilePath, HandoverId, SecretName};
use regent_core::verify::not_replaced;
use regent_sops::Keyring;

use self::approval::Asked;
use self::mirror::Keeper;
pub(crate) use self::stop::HandoverStop;
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
    let login = vault::login(&args.run.vault)?;
    let adopt = args.adopt.as_deref().map(HandoverId::parse).transpose();
    let adopt = adopt.map_err(|bad| Failure::Usage(bad.to_string()))?;
    let mut recorded = Recorded::No;
    block_on(unless_interrupted(Box::pin(async {
        let root = Root::of_run("regent handover", &args.run).await?;
        let keeper = Keeper::of(&root, args.run.target_context.as_ref()).await?;
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
    // Nothing goes to an address in Git that nobody vouches for.
    let place = place_of(root, &evidence)?;
    let vault = InVault::connect(&place, login, &args.run.vault, args.concurrency)?;
    let asked = async |site: &Site| {
        let vault = &vault;
        let mut run = Run { args, root, keeper, vault, site, adopt, recorded, written: None, approved: None };
        run.finish(evidence).await
    };
    vault.at(&place, keeper.clusters(), args.run.allow_ephemeral_storage, asked).await
}

/// The place in Vault: `regent.yaml` and the witnesses say the same, or nothing is done. Where certainly no witness is, the
/// commit that a person named is all there is; without a record there nothing is done either.
pub(super) fn place_of(root: &Root, evidence: &Evidence) -> Result<WitnessedVault, Failure> {
    let epoch = match evidence.holder() {
        Holder::Git { epoch, .. } | Holder::Vault { epoch, .. } => Some(epoch),
        Holder::None => None,
        Holder::Disagree(why) => return Err(Refusal::from(AuthorityRefusal::Disagree { why }).into()),
        Holder::Unreadable(why) => return Err(Refusal::from(AuthorityRefusal::Unreadable { why }).into()),
    };
    let Some(VaultPlace { address, namespace, mount, prefix }) = root.bootstrap.vault.clone() else {
        return Err(stopped(HandoverStop::NoPlace));
    };
    let written = WitnessedVault { address, namespace, mount, prefix };
    let Some(epoch) = epoch else { return Ok(written) };
    let recorded = match (&evidence.authority, evidence.handovers.get(&epoch)) {
        (Reading::Present(authority), _) => authority.vault.clone(),
        (Reading::Absent | Reading::Unreadable(_), Some(Reading::Present(witness))) => {
            witness.authority.as_ref().and_then(|authority| authority.vault.clone())
        }
        (Reading::Absent | Reading::Unreadable(_), Some(Reading::Absent | Reading::Unreadable(_)) | None) => None,
    };
    if recorded.as_ref() == Some(&written) {
        return Ok(written);
    }
    Err(stopped(HandoverStop::OtherPlace { recorded, written }))
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
    adopt: Option<HandoverId>,
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
                authority: evidence.authority.present(),
                record: &record,
                site: self.site,
                adopt: self.adopt.as_ref(),
                other_vault: if self.args.accept_vault_identity { OtherVault::Accepted } else { OtherVault::Refused },
            });
            match self.copied_too(decided.map_err(refused)?).await? {
                Step::Done(marked) => {
                    let is_adopted = matches!(&record, RecordKey::Present(found) if found.adopted.is_some());
                    if is_adopted && !self.args.run.plan {
                        self.replaced(&marked.record).await?;
                    }
                    return self.done(&marked).await;
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
        Err(Failure::Bug)
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
        plan.conflicts().map_err(planned)?;
        recipients(self.root, |_| true)?;
        let record = KeyPath::record(&plan.name, plan.epoch).map_err(|problem| self.vault.failed(problem))?;
        self.vault.preflight(&plan, record).await?;
        let unguarded = self.keeper.preflight(self.root, &plan, &self.args.settle).await?;
        self.keeper.stands_still(self.root, &plan.documents()).await?;
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

    /// Whether another run handed over meanwhile. A copy that differs is no conflict then, but a value that was rotated
    /// since.
    async fn overtaken(&self, holder: &Holder, failure: &Failure) -> bool {
        matches!(failure, Failure::Handover { stop, .. } if stop.is_about_copies())
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
    async fn done(&self, marked: &Marked) -> Result<ExitCode, Failure> {
        output::text(&report::done(marked, self.args.run.output))?;
        settle::settle(self.keeper, self.root, self.args, marked).await?;
        if !self.args.run.plan {
            output::text(&report::closed(marked, self.args.run.output))?;
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
    let missing = missing.filter(|finding| finding.file.as_ref().is_none_or(&is_asked));
    let told = missing.map(|finding| match finding.file {
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
