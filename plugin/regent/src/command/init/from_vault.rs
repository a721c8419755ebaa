//! `regent init --from-vault`: the cluster is lost, Vault is not. The witnesses come straight from its record; nothing is
//! rendered in between. `--target-only`: the same for the target of a hub whose witnesses are there.
//!
//! ```text
//! gather   the cluster as `init` looks at it, Vault's record, what was imported
//! decide   core: handover::decide, as for a handover that finds the record of a cluster that is no more
//! act      accounts and rights; adopted/<uid> in Vault; ConfigMap, Authority, status as the handover's account; the lock
//! ```
//! That nothing was rendered here, so that no old value can come back, is certain only where no witness was there and the
//! record did not know the cluster. Only then the handover is settled at once; else `regent handover` sees to that.

use std::process::ExitCode;

use regent_core::Refusal;
use regent_core::authority::{self, AuthorityRefusal, Place};
use regent_core::bootstrap::Bootstrap;
use regent_core::evidence::{Clusters, DocumentList, Evidence, Holder, ListedClass, Mirror};
use regent_core::handover::decide::{Facts, Git, OtherVault, RecordKey, Step, decide, epoch_to_read};
use regent_core::handover::record::{Marked, Site};
use regent_core::name::{AuthorityName, Epoch, HandoverId};
use regent_core::rules::RegentConfig;
use regent_core::settle::Left;

use super::cluster::{self, Found};
use crate::cli::{InitArgs, VaultArgs};
use crate::cluster::applications::{self, Depth};
use crate::cluster::authority::AuthorityStatus;
use crate::cluster::rights::HOME;
use crate::cluster::{Access, Cluster, block_on, witness};
use crate::command::handover::mirror::Keeper;
use crate::command::handover::settle::settled;
use crate::command::handover::vault::{InVault, login};
use crate::command::handover::{HandoverStop, refused, stopped};
use crate::command::root::Connected;
use crate::command::{import, refresh};
use crate::failure::{Exit, Failure};
use crate::local::{self, Survey, Writer};
use crate::output;
use crate::witnesses::Store;

/// What is begun, and where.
struct Beginning<'a> {
    args: &'a InitArgs,
    bootstrap: &'a Bootstrap,
    place: &'a Place,
    /// Who reads.
    reader: Keeper,
    /// A cluster as `init` found it.
    found: Option<Found>,
    access: Option<&'a Access>,
    vault: InVault,
    site: Site,
}

pub(super) fn run(
    args: &InitArgs,
    store: &Store,
    config: Option<&RegentConfig>,
    bootstrap: &Bootstrap,
    place: &Place,
) -> Result<ExitCode, Failure> {
    let adopt = args.adopt.as_deref().map(HandoverId::parse).transpose();
    let adopt = adopt.map_err(|bad| Failure::Usage(bad.to_string()))?;
    let vault_args = VaultArgs::with_token(args.vault_token_file.clone());
    let login = login(&vault_args)?;
    let written = super::witnessed_vault(bootstrap).ok_or_else(|| stopped(HandoverStop::NoPlace)).map_err(told)?;
    block_on(async {
        let (reader, found, access) = match store {
            Store::Folder(folder) => {
                super::refuse_cluster_options(args)?;
                (Keeper::Folder(folder.clone()), None, None)
            }
            Store::Cluster(access) => {
                let found = cluster::gather(args, access, config, bootstrap).await?;
                (Keeper::Cluster(Box::new(found.connected())), Some(found), Some(access))
            }
        };
        let vault = InVault::connect(&written, login, &vault_args, AT_ONCE).map_err(told)?;
        let site = vault.site(&written, reader.clusters(), false).await.map_err(told)?;
        let beginning = Beginning { args, bootstrap, place, reader, found, access, vault, site };
        let outcome = beginning.from(adopt).await;
        beginning.vault.give_back().await;
        outcome.map_err(told)
    })
}

/// Requests to Vault at one time, where the copies are looked for.
const AT_ONCE: u8 = 16;

/// More steps than there are: a run that takes as many is being undone by somebody.
const MOST_STEPS: usize = 8;

impl Beginning<'_> {
    async fn from(&self, adopt: Option<HandoverId>) -> Result<ExitCode, Failure> {
        let mut evidence = self.evidence().await?;
        let begins = matches!(evidence.holder(), Holder::None);
        if self.args.target_only && begins {
            return Err(Refusal::from(AuthorityRefusal::NoAuthority { name: self.bootstrap.name.clone() }).into());
        }
        let (mut adopted, mut writer) = (false, None);
        for _ in 0..MOST_STEPS {
            let holder = evidence.holder();
            if let Holder::Git { .. } = &holder {
                let witness = format!("its witnesses say {holder}, and `regent handover` moves those");
                return Err(Failure::Exists { name: self.bootstrap.name.to_string(), witness });
            }
            let record = self.record(&holder).await?;
            if let (Holder::None, RecordKey::Absent) = (&holder, &record) {
                let epoch = self.bootstrap.epoch;
                output::note(format_args!(
                    "{} holds no handover record of epoch {epoch}",
                    self.site.vault.place.address
                ));
            }
            let step = decide(&Facts {
                name: &self.bootstrap.name,
                git: Some(Git { bootstrap: self.bootstrap, place: self.place, outline: None }),
                holder: &holder,
                authority: evidence.authority.present(),
                record: &record,
                site: &self.site,
                adopt: adopt.as_ref(),
                other_vault: OtherVault::Refused,
            });
            let step = step.map_err(refused)?;
            let RecordKey::Present(recorded) = &record else { return Err(Failure::Bug) };
            if writer.is_none() {
                self.may_be_answered(&recorded.marked)?;
                self.no_later_record().await?;
                output::text(&self.plan(&holder, &recorded.marked))?;
                if self.args.dry_run {
                    output::note("nothing was written (`--dry-run`)");
                    return Ok(ExitCode::SUCCESS);
                }
                if !self.args.yes && !super::super::confirmed("init", QUESTION)? {
                    output::note("nothing was written");
                    return Ok(ExitCode::FAILURE);
                }
                writer = Some(self.writer(recorded.marked.record.epoch).await?);
            }
            let writer = writer.as_ref().ok_or(Failure::Bug)?;
            match step {
                Step::Done(marked) if writer.is_copied(&marked).await? => {
                    return self.done(writer, &marked, begins && (adopted || self.found.is_none())).await;
                }
                Step::Adopt(amendment) => {
                    self.vault.append(&self.bootstrap.name, &amendment, None).await?;
                    adopted = true;
                }
                Step::Done(marked) | Step::Mirror(marked) | Step::Complete(marked) => writer.mirror(&marked).await?,
                // Without a record there is an error, and nobody accepts another Vault here.
                Step::Copy(_) | Step::NotYet | Step::Rebind(..) => return Err(Failure::Bug),
            }
            evidence = self.evidence().await?;
        }
        Err(stopped(HandoverStop::Undone(MOST_STEPS)))
    }

    async fn evidence(&self) -> Result<Evidence, Failure> {
        let name = &self.bootstrap.name;
        match &self.reader {
            Keeper::Folder(folder) => match local::survey(folder, name)? {
                Survey::NoStoreYet => Ok(Evidence::none()),
                Survey::Store(evidence) => Ok(*evidence),
            },
            Keeper::Cluster(connected) => Ok(witness::read(&connected.witnesses, name, &[self.bootstrap.epoch]).await),
        }
    }

    async fn record(&self, holder: &Holder) -> Result<RecordKey, Failure> {
        let epoch = epoch_to_read(holder, Some(self.bootstrap)).unwrap_or(Epoch::FIRST);
        let (name, clusters) = (&self.bootstrap.name, self.site.clusters.as_ref());
        let record = self.vault.record(name, epoch, clusters, matches!(holder, Holder::Vault { .. })).await?;
        let RecordKey::Present(mut found) = record else { return Ok(record) };
        if let Holder::None = holder {
            found.keys = match self.vault.keys_now(&found.marked.record).await {
                Ok(keys) => keys,
                Err(why) => return Ok(RecordKey::Unreadable(why)),
            };
        }
        Ok(RecordKey::Present(found))
    }

    /// What a front door would refuse right afterwards is refused before: a second regent.yaml, above all (P0).
    fn may_be_answered(&self, marked: &Marked) -> Result<(), Failure> {
        let (epoch, handover) = (marked.record.epoch, marked.record.handover.clone());
        let vault = Holder::Vault { epoch, handover, mirror: Mirror::Complete };
        let ruling = authority::rule(self.bootstrap, self.place, &vault, DocumentList::Unreadable);
        ruling.map(drop).map_err(|refusal| Refusal::from(refusal).into())
    }

    /// A revision from before a later handover would take the cluster back to an earlier one.
    async fn no_later_record(&self) -> Result<(), Failure> {
        let Some(next) = self.bootstrap.epoch.next() else { return Ok(()) };
        match self.vault.record(&self.bootstrap.name, next, None, false).await? {
            RecordKey::Absent => Ok(()),
            RecordKey::Present(_) | RecordKey::Deleted => Err(stopped(HandoverStop::Preflight(vec![format!(
                "Vault has a handover record of epoch {next}, and regent.yaml says epoch {}: an older revision",
                self.bootstrap.epoch
            )]))),
            RecordKey::Unreadable(why) => Err(stopped(HandoverStop::Preflight(vec![why]))),
        }
    }

    /// Makes accounts and rights, which are harmless without an Authority, and becomes who may begin with vault.
    async fn writer(&self, epoch: Epoch) -> Result<Keeper, Failure> {
        match (&self.reader, &self.found, self.access) {
            (Keeper::Cluster(connected), Some(found), Some(access)) => {
                cluster::belongings(found, self.bootstrap, epoch).await?;
                let uids = connected.uids.clone();
                as_account(access, self.args.target_context.as_ref(), &self.bootstrap.name, uids).await
            }
            (Keeper::Folder(folder), _, _) => Ok(Keeper::Folder(folder.clone())),
            (Keeper::Cluster(_), _, _) => Err(Failure::Bug),
        }
    }

    /// The status, and what belongs after the Authority.
    async fn done(&self, writer: &Keeper, marked: &Marked, is_first: bool) -> Result<ExitCode, Failure> {
        let record = &marked.record;
        let imported = import::in_vault(&self.vault, record).await?;
        if !imported.is_empty() {
            let numbered = (1..).zip(imported.iter().cloned()).collect();
            import::mirror(writer, &record.name, record.epoch, &numbered).await?;
        }
        if is_first {
            settle(writer, marked).await?;
        }
        if let Some(found) = &self.found {
            cluster::locked(found, self.bootstrap).await?;
        }
        let permanent = record.documents.iter().chain(&imported);
        let permanent = permanent.filter(|it| it.class == ListedClass::Permanent && it.kind == "Secret");
        let permanent: Vec<String> = permanent.map(|it| it.name.to_string()).collect();
        output::text(&format!(
            "begun      Vault rules epoch {} of `{}` by handover {}: {} documents\n",
            record.epoch,
            record.name,
            record.handover,
            record.documents.len() + imported.len()
        ))?;
        if !permanent.is_empty() {
            output::note(format_args!(
                "permanent Secrets that are absent come back by `regent restore`: {}",
                permanent.join(", ")
            ));
        }
        if let Some(found) = &self.found {
            // Argo CD holds earlier failures for an hour.
            let within = refresh::REFRESH_WITHIN;
            applications::refresh(&found.witnesses, &found.applications, Depth::Hard, within, refresh::tell).await;
        }
        // A new target has no old value, and whether the hub is settled is not its business.
        if self.args.target_only || self.evidence().await?.is_settled() {
            return Ok(ExitCode::SUCCESS);
        }
        // To begin again would not tell it either.
        let why = "whether something was rendered here before is not known".to_owned();
        Err(Failure::Handover {
            stop: Box::new(HandoverStop::NotSettled(why)),
            way_out: "`regent handover` with this root settles it".to_owned(),
        })
    }

    fn plan(&self, holder: &Holder, marked: &Marked) -> String {
        let record = &marked.record;
        let place = &self.site.vault.place;
        let shown = |clusters: Option<&Clusters>| match clusters {
            None => "a store in a folder".to_owned(),
            Some(Clusters { witness, target }) if witness == target => format!("cluster {target}"),
            Some(Clusters { witness, target }) => format!("cluster {target}, witnessed in {witness}"),
        };
        format!(
            "authority  {}\nvault      {place}\nrecord     epoch {}, handover {}, commit {}\nmade by    {}\nhere       {}, \
             {}\nfound      {holder}\nwill say   vault({}, {})\n",
            record.name,
            record.epoch,
            record.handover,
            record.git_commit,
            shown(record.site.clusters.as_ref()),
            shown(self.site.clusters.as_ref()),
            self.reader.name(),
            record.epoch,
            record.handover,
        )
    }
}

const QUESTION: &str = "Vault rules here from the start, and no value of Git is rendered. Begin from its record?";

/// The clusters as the account that may begin with vault, by impersonation.
pub(super) async fn as_account(
    access: &Access,
    target_context: Option<&String>,
    name: &AuthorityName,
    uids: Clusters,
) -> Result<Keeper, Failure> {
    let user = Some(format!("system:serviceaccount:{HOME}:regent-handover-{name}"));
    let access = Access { user, groups: Vec::new(), ..access.clone() };
    let witnesses = Cluster::connect(&access).await?;
    let target = match target_context {
        Some(context) => Cluster::connect(&Access { context: Some(context.clone()), ..access }).await?,
        None => witnesses.clone(),
    };
    Ok(Keeper::Cluster(Box::new(Connected { witnesses, target, uids })))
}

/// Notes that no old value can come back: none was ever rendered here.
async fn settle(writer: &Keeper, marked: &Marked) -> Result<(), Failure> {
    let name = &marked.record.name;
    let message = "begun from Vault's record: no value was ever rendered here";
    let settled = |status: &mut AuthorityStatus| settled(status, marked, &Left::default(), message);
    match writer {
        Keeper::Folder(folder) => Writer::open(folder)?.change_status(name, settled),
        Keeper::Cluster(connected) => {
            let cluster = &connected.witnesses;
            witness::change_status(cluster, name, settled).await.map_err(|problem| cluster.failure(problem))
        }
    }
}

/// A failure as it is told: there is no "as before" of Git here.
fn told(failure: Failure) -> Failure {
    match (failure.exit(), failure) {
        (Exit::Stopped, Failure::Handover { stop, way_out }) => Failure::FromVault { stop, way_out },
        (_, failure) => failure,
    }
}
