//! `regent import`: a document that was committed after the handover goes to Vault, and into the list by which front doors
//! know it.
//!
//! ```text
//! gather   the root at one commit, the witnesses, Vault's record and what was imported before
//! decide   core: handover::decide says that record and witnesses agree, import::decide what is next; again after each write
//! act      the value, its entry beside the record, `status.imported`
//! ```
//! A run that is cut off leaves a value without an entry, which is inert, or an entry without its mirror; the next run, of
//! whatever document, goes on from there.

mod list;

use std::collections::BTreeMap;
use std::process::ExitCode;

use regent_core::Refusal;
use regent_core::authority::Ruling;
use regent_core::evidence::{Evidence, Holder, ListedClass, ListedDocument, Mirror};
use regent_core::handover::decide::{Facts as Ground, Git, OtherVault, Step as GroundStep, decide};
use regent_core::handover::plan::{Draft, Entry, Existing, Plan, State, Target};
use regent_core::handover::record::{Marked, RecordedKey, Site};
use regent_core::import::{self, Facts, ImportRefusal, Importation, Imported, Listed, Step};
use regent_core::name::{FilePath, SecretName};
use serde_json::json;

pub(super) use self::list::{in_vault, mirror};
use super::handover::approval::Asked;
use super::handover::mirror::Keeper;
use super::handover::vault::{InVault, login};
use super::handover::{HandoverStop, conflicting, place_of, planned, recipients, refused, stopped};
use super::root::{Root, typed_with};
use super::{refresh, unless_interrupted};
use crate::cli::{ImportArgs, ReportOutputArg};
use crate::cluster::block_on;
use crate::failure::{Exit, Failure, one_line};
use crate::output;
use crate::source::git;
use crate::vault::{KeyPath, Login};

/// Why nothing, or not all, is imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ImportStop {
    /// The decision.
    #[error(transparent)]
    Refused(ImportRefusal),
    /// What a handover would stop for, too.
    #[error(transparent)]
    Handover(HandoverStop),
    /// Vault has its value or its entry, and the list does not name it yet.
    #[error("it is in Vault, or on its way, and the list does not name it yet: {0}")]
    Unfinished(String),
}

pub(super) fn run(args: &ImportArgs) -> Result<ExitCode, Failure> {
    let name = SecretName::parse(&args.name).map_err(|bad| Failure::Usage(bad.to_string()))?;
    let login = login(&args.run.vault)?;
    let mut progress = Progress::Nothing;
    block_on(unless_interrupted(Box::pin(async {
        let root = Root::of_run("regent import", &args.run).await?;
        let keeper = Keeper::of(&root, args.run.target_context.as_ref()).await?;
        let evidence = keeper.evidence(&root).await?;
        from(args, &name, &root, &keeper, evidence, login, &mut progress).await
    })))
    .map_err(|failure| progress.told(failure))
}

/// Begins with what the witnesses say.
async fn from(
    args: &ImportArgs,
    name: &SecretName,
    root: &Root,
    keeper: &Keeper,
    evidence: Evidence,
    login: Login,
    progress: &mut Progress,
) -> Result<ExitCode, Failure> {
    import::admitted(&root.bootstrap, &root.place(&evidence), &evidence.holder(), name).map_err(stop)?;
    // Nothing goes to an address in Git that nobody vouches for.
    let place = place_of(root, &evidence)?;
    let vault = InVault::connect(&place, login, &args.run.vault, AT_ONCE)?;
    let asked = async |site: &Site| {
        Run { args, name, root, keeper, vault: &vault, site, progress, approved: None }.finish(evidence).await
    };
    vault.at(&place, keeper.clusters(), args.run.allow_ephemeral_storage, asked).await
}

/// One document.
const AT_ONCE: u8 = 1;

/// One run.
struct Run<'a> {
    args: &'a ImportArgs,
    name: &'a SecretName,
    root: &'a Root,
    keeper: &'a Keeper,
    vault: &'a InVault,
    site: &'a Site,
    progress: &'a mut Progress,
    /// The digest of the plan that a person approved.
    approved: Option<String>,
}

/// How far this run came, for whoever is told how it ended.
enum Progress {
    /// Nothing was sent.
    Nothing,
    /// Something was, and the list does not name the document yet.
    Underway,
    /// The list names it.
    Listed,
}

/// More steps than an import has, with others importing at the same time: a run that takes as many is being undone.
const MOST_STEPS: usize = 64;

impl Run<'_> {
    async fn finish(&mut self, mut evidence: Evidence) -> Result<ExitCode, Failure> {
        for _ in 0..MOST_STEPS {
            let marked = self.ground(&evidence).await?;
            let record = &marked.record;
            let in_vault = in_vault(self.vault, record).await?;
            let noted = list::in_status(self.keeper, &record.name, record.epoch).await?;
            let step = import::decide(&Facts {
                bootstrap: &self.root.bootstrap,
                place: &self.root.place(&evidence),
                evidence: &evidence,
                marked: &marked,
                name: self.name,
                kind: &self.args.kind,
                in_vault: &in_vault,
                in_status: &noted.of_epoch,
                of_other_epochs: noted.of_others,
            });
            match step.map_err(stop)? {
                Step::Done(listed) => return self.done(listed).await,
                Step::Mirror(missing) if self.args.run.plan => return self.would_mirror(&missing),
                Step::Mirror(missing) => {
                    mirror(self.keeper, &record.name, record.epoch, &missing).await?;
                    if missing.values().any(|document| self.is_it(document)) {
                        *self.progress = Progress::Listed;
                    }
                    output::text(&self.mirrored(&missing))?;
                }
                Step::Copy(importation) => {
                    if !self.copy(&marked, &importation).await? {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
            }
            evidence = self.keeper.evidence(self.root).await?;
        }
        Err(stopped(HandoverStop::Undone(MOST_STEPS)))
    }

    /// The record that the witnesses agree with; whatever else there is to do about a handover is not done here.
    async fn ground(&self, evidence: &Evidence) -> Result<Marked, Failure> {
        let (bootstrap, place, holder) = (&self.root.bootstrap, self.root.place(evidence), evidence.holder());
        let (epoch, _) = import::admitted(bootstrap, &place, &holder, self.name).map_err(stop)?;
        let record = self.vault.record(&bootstrap.name, epoch, self.site.clusters.as_ref(), true).await?;
        let decided = decide(&Ground {
            name: &bootstrap.name,
            git: Some(Git { bootstrap, place: &place, outline: None }),
            holder: &holder,
            authority: evidence.authority.present(),
            record: &record,
            site: self.site,
            adopt: None,
            other_vault: OtherVault::Refused,
        });
        match decided.map_err(refused)? {
            GroundStep::Done(marked) if self.keeper.is_copied(&marked).await? => Ok(*marked),
            GroundStep::Done(marked) | GroundStep::Complete(marked) => {
                let handover = marked.record.handover.to_string();
                let why = "a witness is missing".to_owned();
                Err(stopped(HandoverStop::NotMirrored { handover, why }))
            }
            // Vault rules, and nobody adopts here.
            GroundStep::Copy(_)
            | GroundStep::Mirror(_)
            | GroundStep::Adopt(_)
            | GroundStep::Rebind(..)
            | GroundStep::NotYet => Err(Failure::Bug),
        }
    }

    /// Brings the value to Vault and writes its entry; `false` where only the plan was asked for.
    async fn copy(&mut self, marked: &Marked, importation: &Importation) -> Result<bool, Failure> {
        let (record, at_once) = (&marked.record, usize::from(AT_ONCE));
        let ruling = Ruling::unasked();
        let drafted = Draft::imported(&self.root.request(&ruling), importation, git::blob_id).map_err(planned);
        let drafted = self.root.identities.told(drafted)?;
        let draft = drafted.ok_or_else(|| stop(importation.no_document()))?;
        let states = self.vault.states(&draft, &self.site.vault.place.prefix, at_once).await?;
        let commit = self.root.commit()?;
        let target = Target {
            bootstrap: &self.root.bootstrap,
            root: self.root.gathered.root.as_deref(),
            commit: &commit,
            site: self.site,
            regent_version: env!("CARGO_PKG_VERSION"),
        };
        let plan = Plan::new(&draft, target, &states).map_err(planned)?;
        let entry = plan.entries.first().ok_or(Failure::Bug)?;
        importation.check(&entry.listed()).map_err(stop)?;
        let digest = import::digest(&plan, &record.handover);
        let is_approved = self.approved.as_ref() == Some(&digest);
        let key = list::key(self.vault, record, importation.number())?;
        if !is_approved {
            output::text(&self.planned(&plan, entry, &key, &digest))?;
        }
        plan.conflicts().map_err(|refusal| conflicting(refusal, &self.site.vault.place))?;
        let generator = self.root.gathered.files.generator(&entry.file);
        let is_read = |file: &FilePath| generator.is_some_and(|generator| generator.files().any(|read| read == file));
        recipients(self.root, |file| *file == entry.file || is_read(file))?;
        self.vault.tell_of_its_clock();
        self.vault.preflight(&plan, key.clone()).await?;
        list::try_to_mirror(self.keeper, &record.name).await?;
        if self.args.run.plan {
            return Ok(false);
        }
        if !is_approved {
            Asked("import").approved(&self.args.run, &digest, QUESTION).await?;
            self.approved = Some(digest);
        }
        *self.progress = Progress::Underway;
        let keys = self.vault.copy(importation.leave(), &draft, &plan, at_once).await?;
        // Whose Vault this is and who rules is asked once more.
        if self.keeper.evidence(self.root).await?.holder() != holder_of(marked) {
            return Ok(true);
        }
        let copy =
            |(version, created_time): (u32, String)| RecordedKey { name: entry.name.clone(), version, created_time };
        let imported = Imported {
            name: record.name.clone(),
            epoch: record.epoch,
            handover: record.handover.clone(),
            site: self.site.clone(),
            git_commit: commit,
            regent_version: plan.regent_version.clone(),
            document: entry.listed(),
            copy: keys.into_values().next().map(copy),
        };
        // Whoever was quicker with this number: the list is read again.
        self.vault.put_once(&key, &imported.to_fields()).await?;
        Ok(true)
    }

    fn is_it(&self, document: &ListedDocument) -> bool {
        document.name == *self.name && document.kind == self.args.kind
    }

    /// It is listed; a front door that refused its revision may be asked again.
    async fn done(&self, listed: Listed) -> Result<ExitCode, Failure> {
        let what = format!("{} {}", self.args.kind, self.name);
        output::text(&match (self.args.run.output, listed, &self.progress) {
            (ReportOutputArg::Human, Listed::HandedOver, _) => {
                format!("listed     {what} was handed over: Vault owns it, and there is nothing to do\n")
            }
            (ReportOutputArg::Human, Listed::Imported(number), Progress::Nothing) => {
                format!("listed     {what} is imported/{number} already, and there is nothing to do\n")
            }
            (ReportOutputArg::Human, Listed::Imported(number), Progress::Underway | Progress::Listed) => {
                format!("imported   {what} is imported/{number}: Vault owns it\n")
            }
            (ReportOutputArg::Json, Listed::HandedOver, _) => {
                format!("{}\n", json!({ "name": self.args.name, "kind": self.args.kind, "listed": "handover" }))
            }
            (ReportOutputArg::Json, Listed::Imported(number), _) => format!(
                "{}\n",
                json!({ "name": self.args.name, "kind": self.args.kind, "listed": "imported", "number": number })
            ),
        })?;
        match (&self.progress, self.keeper) {
            (Progress::Nothing, _) | (_, Keeper::Folder(_)) => {}
            (Progress::Underway | Progress::Listed, Keeper::Cluster(connected)) => {
                refresh::after_a_move(&connected.witnesses, self.root.config.as_ref()).await;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn would_mirror(&self, missing: &BTreeMap<u32, ListedDocument>) -> Result<ExitCode, Failure> {
        let told = missing.iter().map(|(number, document)| match self.args.run.output {
            ReportOutputArg::Human => {
                format!("next       imported/{number}, {} {}, would be mirrored\n", document.kind, document.name)
            }
            ReportOutputArg::Json => {
                format!("{}\n", json!({ "next": "mirror", "number": number, "name": document.name.to_string() }))
            }
        });
        output::text(&told.collect::<String>())?;
        Ok(ExitCode::SUCCESS)
    }

    fn mirrored(&self, missing: &BTreeMap<u32, ListedDocument>) -> String {
        let told = missing.iter().map(|(number, document)| match self.args.run.output {
            ReportOutputArg::Human => format!("mirrored   imported/{number}, {} {}\n", document.kind, document.name),
            ReportOutputArg::Json => {
                format!("{}\n", json!({ "mirrored": number, "name": document.name.to_string(), "kind": document.kind }))
            }
        });
        told.collect()
    }

    fn planned(&self, plan: &Plan, entry: &Entry, key: &KeyPath, digest: &str) -> String {
        let place = &plan.site.vault.place;
        let class = match entry.class {
            ListedClass::Handover => "handover",
            ListedClass::Permanent => "permanent",
        };
        let state = match (entry.state, entry.existing) {
            (State::New, _) => "new",
            (State::Equal, _) => "equal",
            (State::Differs, Existing::Stops) => "differs",
            (State::Differs, Existing::Stands) => "differs, Vault's stands",
            (State::Deleted, _) => "deleted",
            (State::NotCopied, _) => "not copied",
        };
        match self.args.run.output {
            ReportOutputArg::Human => format!(
                "authority  {}, epoch {}\nfrom       commit {}, {}\nto         {place}\nwitnesses  {}\ndocument   {} {}, \
                 {class}, {}\nkeys       {}\nin vault   {}: {state}\nentry      {key}\nplan       {digest}\n",
                plan.name,
                plan.epoch,
                plan.commit,
                plan.root.as_deref().unwrap_or("."),
                self.keeper.name(),
                entry.kind,
                entry.name,
                entry.file,
                one_line(&entry.keys.join(",")),
                entry.path.as_deref().unwrap_or("-"),
            ),
            ReportOutputArg::Json => format!(
                "{}\n",
                json!({
                    "authority": plan.name.as_str(), "epoch": plan.epoch.get(), "commit": plan.commit, "root": plan.root,
                    "vault": {
                        "address": place.address, "namespace": place.namespace, "mount": place.mount,
                        "prefix": place.prefix,
                    },
                    "document": {
                        "name": entry.name.to_string(), "kind": entry.kind, "class": class,
                        "file": entry.file.as_str(), "keys": entry.keys, "path": entry.path, "state": state,
                    },
                    "entry": key.as_str(), "digest": digest,
                })
            ),
        }
    }
}

const QUESTION: &str = "Vault owns this document from then on. This cannot be taken back. Import it?";

/// K as the record that it agrees with says it.
fn holder_of(marked: &Marked) -> Holder {
    let record = &marked.record;
    Holder::Vault { epoch: record.epoch, handover: record.handover.clone(), mirror: Mirror::Complete }
}

impl Progress {
    /// A failure as it is told: where something was sent, another run is needed whatever happened. What stands in the way
    /// of the handover itself is not decided here.
    fn told(self, failure: Failure) -> Failure {
        match (self, failure) {
            (Self::Underway, failure) if failure.exit() != Exit::Person => Failure::Import {
                stop: Box::new(ImportStop::Unfinished(failure.to_string())),
                way_out: format!("`{}` goes on from here", typed_with(&[])),
            },
            (Self::Nothing | Self::Underway | Self::Listed, Failure::Handover { stop: why, way_out }) => {
                let way_out = match &*why {
                    HandoverStop::Decided(_) | HandoverStop::NotMirrored { .. } => {
                        "`regent handover` with the same options says what a person decides, and completes what is missing"
                            .to_owned()
                    }
                    HandoverStop::Moved { .. } => {
                        "if this Vault is the same one and moved there: `regent handover --accept-vault-identity` with the same \
                         options; else put `vault` in regent.yaml back"
                            .to_owned()
                    }
                    HandoverStop::Plan(_)
                    | HandoverStop::NoPlace
                    | HandoverStop::OtherPlace { .. }
                    | HandoverStop::Preflight(_)
                    | HandoverStop::NotApproved { .. }
                    | HandoverStop::Declined
                    | HandoverStop::Vault { .. }
                    | HandoverStop::Interrupted
                    | HandoverStop::Undone(_)
                    | HandoverStop::NotReadBack(_)
                    | HandoverStop::MaybeRecorded(_)
                    | HandoverStop::NotSettled(_)
                    | HandoverStop::Slipped { .. }
                    | HandoverStop::KeysInUse(_) => way_out,
                };
                Failure::Import { stop: Box::new(ImportStop::Handover(*why)), way_out }
            }
            (Self::Nothing | Self::Underway | Self::Listed, failure) => failure,
        }
    }
}

/// A refusal, with the command that goes on.
fn stop(refusal: ImportRefusal) -> Failure {
    let way_out = match &refusal {
        ImportRefusal::Authority(refusal) => return Refusal::from(refusal.clone()).into(),
        ImportRefusal::GitRules { .. } => "`regent handover` takes it with everything else".to_owned(),
        ImportRefusal::ListUnreadable => {
            "`regent status` shows what is missing; `regent handover` mirrors it again".to_owned()
        }
        ImportRefusal::Lost { .. } => "restore a newer snapshot of Vault".to_owned(),
        ImportRefusal::Disagree { .. } => "a person compares the two: nobody may have `update` there".to_owned(),
        ImportRefusal::Full => "write the value to Vault yourself, and take the document out of the root".to_owned(),
        ImportRefusal::LongPath { .. } => "give the file a shorter path".to_owned(),
        ImportRefusal::NoDocument { .. } => {
            "name a revision that has it, encrypted; `--kind` where it is no Secret".to_owned()
        }
    };
    Failure::Import { stop: Box::new(ImportStop::Refused(refusal)), way_out }
}
