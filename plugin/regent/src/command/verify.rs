//! `regent verify`: whether everything is still as the handover left it, for a `CronJob` and for people.
//!
//! ```text
//! gather   witnesses, Vault's record and copies, the heartbeat; live Secrets; a revision, its history    here, beside.rs, git.rs
//! decide   core: who rules (and the mirror, where it is missing), then what is not as it should be
//! act      the mirror, one heartbeat; a report, metrics
//! ```
//! Nothing here moves authority but a record that is in Vault already, and nothing of a value is told.

pub(super) mod beside;
mod heartbeat;
mod metrics;
mod report;
mod revision;

use std::process::ExitCode;

use regent_core::Refusal;
use regent_core::authority::AuthorityRefusal;
use regent_core::evidence::{Evidence, Holder, Reading, WitnessedVault};
use regent_core::handover::decide::{Facts, OtherVault, RecordKey, Step, Stop, decide, epoch_to_read};
use regent_core::handover::record::{Marked, Site};
use regent_core::name::{AuthorityName, Epoch};
use regent_core::verify::{self, Mirrored, Pulse, SameVault, Settlement, expected};

use self::report::Report;
use super::handover::mirror::Keeper;
use super::handover::vault::{self, InVault};
use super::handover::{HandoverStop, refused};
use super::root::{Root, store_of, typed_with};
use crate::cli::{CommitArgs, VerifyArgs};
use crate::cluster::block_on;
use crate::config;
use crate::failure::Failure;
use crate::output;
use crate::source::git;

pub(super) fn run(args: &VerifyArgs) -> Result<ExitCode, Failure> {
    let typed = args.authority.as_deref().map(AuthorityName::parse).transpose();
    let typed = typed.map_err(|bad| Failure::Usage(bad.to_string()))?;
    let root = root(args);
    let name = match &root {
        Ok(Some(root)) => Some(&root.bootstrap.name),
        Ok(None) | Err(_) => typed.as_ref(),
    };
    let looked = match &root {
        Ok(root) => look(args, named(typed.as_ref(), root.as_ref())?, root.as_ref()).map_err(told),
        Err(failure) => Err(failure.clone()),
    };
    // A run that could not look is what somebody waits for most.
    let written = match (&args.metrics_file, name) {
        (Some(file), Some(name)) => metrics::write(file, name, looked.as_ref()),
        (Some(_), None) | (None, _) => Ok(()),
    };
    let report = looked?;
    output::text(&report.to_text(args.output))?;
    written?;
    Ok(report.exit().into())
}

/// The revision, where one is named.
fn root(args: &VerifyArgs) -> Result<Option<Root>, Failure> {
    let (Some(repo), Some(revision)) = (args.repo.clone(), args.revision.clone()) else { return Ok(None) };
    let commit = CommitArgs { repo, revision, path: args.path.clone(), git: args.git.clone() };
    let history = if args.history { git::History::Whole } else { git::History::None };
    Root::at_revision("regent verify", &commit, &args.store, &args.keys, history).map(Some)
}

fn named<'a>(typed: Option<&'a AuthorityName>, root: Option<&'a Root>) -> Result<&'a AuthorityName, Failure> {
    match (typed, root) {
        (Some(typed), Some(root)) if *typed != root.bootstrap.name => Err(Failure::Usage(format!(
            "`{typed}` was named, and regent.yaml is of the authority `{}`",
            root.bootstrap.name
        ))),
        (Some(typed), _) => Ok(typed),
        (None, Some(root)) => Ok(&root.bootstrap.name),
        // One of the two has to be typed.
        (None, None) => Err(Failure::Bug),
    }
}

fn look(args: &VerifyArgs, name: &AuthorityName, root: Option<&Root>) -> Result<Report, Failure> {
    let store = if let Some(root) = root {
        root.store.clone()
    } else {
        let config = args.store.config.as_deref().map(config::load).transpose()?;
        let ways = "`--context NAME`, `--config FILE` or `--store DIR`";
        store_of("regent verify", ways, &args.store, config.as_ref())?
    };
    let login = vault::login(&args.vault)?;
    block_on(async {
        let keeper = Keeper::at(&store, args.target_context.as_ref()).await?;
        let near: Vec<Epoch> = root.map(|root| root.bootstrap.epoch).into_iter().collect();
        let evidence = keeper.witnesses(name, &near).await?;
        let place = place_of(name, &evidence)?;
        let vault = InVault::connect(&place, login, &args.vault, args.concurrency)?;
        // It was handed over to this one, whatever it keeps its contents in.
        let asked = async |site: &Site| {
            Run { args, name, root, keeper: &keeper, near: &near, vault: &vault, site }.look(evidence).await
        };
        vault.at(&place, keeper.clusters(), true, asked).await
    })
}

/// The place in Vault, by the witnesses alone: a revision that names another one moves nothing.
fn place_of(name: &AuthorityName, evidence: &Evidence) -> Result<WitnessedVault, Failure> {
    let refused = |refusal: AuthorityRefusal| Err(Refusal::from(refusal).into());
    match evidence.holder() {
        Holder::Git { .. } | Holder::Vault { .. } => {}
        Holder::None => return refused(AuthorityRefusal::NoAuthority { name: name.clone() }),
        Holder::Disagree(why) => return refused(AuthorityRefusal::Disagree { why }),
        Holder::Unreadable(why) => return refused(AuthorityRefusal::Unreadable { why }),
    }
    match evidence.place() {
        Reading::Present(place) => Ok(place),
        Reading::Unreadable(why) => refused(AuthorityRefusal::Unreadable { why }),
        Reading::Absent => {
            let why = "no witness names a place in Vault: `regent init --move` tells the Authority".to_owned();
            refused(AuthorityRefusal::Unreadable { why })
        }
    }
}

/// One run.
struct Run<'a> {
    args: &'a VerifyArgs,
    name: &'a AuthorityName,
    root: Option<&'a Root>,
    keeper: &'a Keeper,
    /// Epochs whose witnesses are asked for, beside the Authority's.
    near: &'a [Epoch],
    vault: &'a InVault,
    site: &'a Site,
}

/// A mirror takes one step; more mean that somebody undoes it.
const MOST_STEPS: usize = 4;

impl Run<'_> {
    /// Mirrors what is recorded, and then looks at everything.
    async fn look(&self, mut evidence: Evidence) -> Result<Report, Failure> {
        let mut mirrored = Mirrored::Before;
        for _ in 0..MOST_STEPS {
            let holder = evidence.holder();
            let record = self.record(&holder).await?;
            let same_vault = match &record {
                RecordKey::Present(found) if found.rebound.iter().any(|it| it.site.vault == self.site.vault) => {
                    SameVault::Accepted
                }
                RecordKey::Absent | RecordKey::Present(_) | RecordKey::Deleted | RecordKey::Unreadable(_) => {
                    SameVault::Yes
                }
            };
            let step = decide(&Facts {
                name: self.name,
                git: None,
                holder: &holder,
                authority: evidence.authority.present(),
                record: &record,
                site: self.site,
                adopt: None,
                other_vault: OtherVault::Refused,
            });
            let marked = match step.map_err(refused)? {
                Step::NotYet => return Ok(Report::git_rules(self.name, &holder)),
                Step::Done(marked) if self.keeper.is_copied(&marked).await? => {
                    return self.compare(&marked, &evidence, same_vault, mirrored).await;
                }
                Step::Done(marked) | Step::Mirror(marked) | Step::Complete(marked) => marked,
                // Values move by a person's word, and other places are accepted by one.
                Step::Copy(_) | Step::Adopt(_) | Step::Rebind(..) => return Err(Failure::Bug),
            };
            let not_mirrored = |failure: Failure| Failure::Handover {
                stop: Box::new(HandoverStop::NotMirrored {
                    handover: marked.record.handover.to_string(),
                    why: failure.to_string(),
                }),
                way_out: format!("see that this account may write the witnesses, then `{}`", typed_with(&[])),
            };
            self.keeper.mirror(&marked).await.map_err(not_mirrored)?;
            mirrored = Mirrored::Now;
            evidence = self.keeper.witnesses(self.name, self.near).await?;
        }
        Err(Failure::Bug)
    }

    async fn record(&self, holder: &Holder) -> Result<RecordKey, Failure> {
        let epoch = epoch_to_read(holder, self.root.map(|root| &root.bootstrap)).unwrap_or(Epoch::FIRST);
        let is_expected = matches!(holder, Holder::Vault { .. });
        let record = self.vault.record(self.name, epoch, self.site.clusters.as_ref(), is_expected).await?;
        let RecordKey::Present(mut found) = record else { return Ok(record) };
        // Once it is mirrored they are looked at by themselves.
        if !is_expected {
            found.keys = match self.vault.keys_now(&found.marked.record).await {
                Ok(keys) => keys,
                Err(why) => return Ok(RecordKey::Unreadable(why)),
            };
        }
        Ok(RecordKey::Present(found))
    }

    async fn compare(
        &self,
        marked: &Marked,
        evidence: &Evidence,
        vault: SameVault,
        mirrored: Mirrored,
    ) -> Result<Report, Failure> {
        let record = &marked.record;
        let list = evidence.documents();
        let listed = beside::listed(&list, record);
        let witnessed = match evidence.handovers.get(&record.epoch) {
            Some(Reading::Present(witness)) => Some(&witness.documents[..]),
            Some(Reading::Absent | Reading::Unreadable(_)) | None => None,
        };
        let copies = expected(record, listed);
        let keys = self.vault.keys_of(copies.clone(), &self.site.vault.place.prefix).await;
        let keys = keys.map_err(|problem| self.silent(problem))?;
        let settled = match (self.keeper, &evidence.settled) {
            (_, Reading::Present(())) => Settlement::Settled,
            (Keeper::Folder(_), Reading::Absent) => Settlement::Unseen,
            (Keeper::Cluster(_), Reading::Absent) => Settlement::NotYet,
            (_, Reading::Unreadable(why)) => Settlement::Unreadable(why.clone()),
        };
        let live = self.live(listed, &copies).await;
        let revision = match self.root {
            Some(root) => Some(self.revision(root, evidence, listed, &copies).await),
            None => None,
        };
        let history = match self.root {
            Some(root) if self.args.history => Some(self.history(root, listed, &copies).await?),
            Some(_) | None => None,
        };
        // Counted last: a run that did not come to its end was none.
        let pulse = self.pulse(record.epoch).await.unwrap_or_else(|failure| Pulse::Unknown(failure.to_string()));
        let findings = verify::verify(&verify::Facts {
            record,
            vault,
            mirrored,
            settled: &settled,
            list: &list,
            witnessed,
            keys: &keys,
            pulse: &pulse,
            live: live.as_ref(),
            revision: revision.as_ref(),
            history: history.as_ref(),
        });
        Ok(Report {
            name: self.name.clone(),
            holder: evidence.holder(),
            verified: Some(report::Verified {
                marked: marked.clone(),
                settled,
                copies: keys.len(),
                secrets: live.as_ref().map(std::collections::BTreeMap::len),
                pulse,
                commit: self.root.map(Root::commit).transpose()?,
                rendered: revision.and_then(|revision| revision.rendering.ok()).map(|rendering| rendering.documents),
                history,
            }),
            findings,
        })
    }

    fn silent(&self, problem: String) -> Failure {
        Failure::Vault { address: self.site.vault.place.address.clone(), problem }
    }
}

/// What stops a handover says for a run that hands nothing over: Vault that does not answer is unknown, and what a person
/// decides is decided there.
fn told(failure: Failure) -> Failure {
    let Failure::Handover { stop, way_out } = failure else { return failure };
    match *stop {
        HandoverStop::Vault { address, problem } => Failure::Vault { address, problem: problem.to_string() },
        HandoverStop::Preflight(problems) => {
            Failure::Vault { address: "of this authority".to_owned(), problem: problems.join("; ") }
        }
        HandoverStop::Decided(Stop::OtherVault { what, recorded, found }) => Failure::Handover {
            stop: Box::new(HandoverStop::Decided(Stop::OtherVault { what, recorded, found })),
            way_out: "if this is the same Vault under another identity: `regent handover --accept-vault-identity`"
                .to_owned(),
        },
        HandoverStop::Decided(Stop::OtherCluster { handover, recorded, found }) => Failure::Handover {
            way_out: format!(
                "if this cluster was rebuilt: `regent handover --adopt {handover}`; a second cluster needs an authority of its own"
            ),
            stop: Box::new(HandoverStop::Decided(Stop::OtherCluster { handover, recorded, found })),
        },
        stop @ (HandoverStop::Decided(_)
        | HandoverStop::Plan(_)
        | HandoverStop::NoPlace
        | HandoverStop::OtherPlace { .. }
        | HandoverStop::Moved { .. }
        | HandoverStop::Slipped { .. }
        | HandoverStop::NotApproved { .. }
        | HandoverStop::Declined
        | HandoverStop::Interrupted
        | HandoverStop::Undone(_)
        | HandoverStop::NotReadBack(_)
        | HandoverStop::MaybeRecorded(_)
        | HandoverStop::NotMirrored { .. }
        | HandoverStop::NotSettled(_)
        | HandoverStop::KeysInUse(_)) => Failure::Handover { stop: Box::new(stop), way_out },
    }
}
