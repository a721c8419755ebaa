//! `regent init`: the authority, created once and on purpose.

mod cluster;
mod flux_accounts;
mod from_vault;

use super::render::place_of;
use crate::cli::InitArgs;
use crate::failure::Failure;
use crate::local::{self, Survey, Writer};
use crate::source::bootstrap_of;
use crate::source::{self, BOOTSTRAP, Bounds};
use crate::witnesses::Store;
use crate::{config, output};
use regent_core::Refusal;
use regent_core::authority;
use regent_core::bootstrap::Bootstrap;
use regent_core::evidence::{AuthorityWitness, DocumentList, Evidence, Holder, Holds, Reading, WitnessedVault};
use regent_core::rules::ConfigLimits;
use std::path::Path;
use std::process::ExitCode;

pub(super) fn run(args: &InitArgs) -> Result<ExitCode, Failure> {
    let config = args.store.config.as_deref().map(config::load).transpose()?;
    let store = config::store(&args.store, config.as_ref()).ok_or_else(|| {
        Failure::Usage(
            "`regent init` needs to know where the authority is kept: `--context NAME`, `--config FILE` or `--store DIR`"
                .to_owned(),
        )
    })?;
    let bounds = Bounds::of(&ConfigLimits::default());
    let gathered = source::dir::gather(&args.dir, bounds)?;
    let file = args.dir.join(BOOTSTRAP);
    let bootstrap = bootstrap_of(&gathered.files)?.ok_or_else(|| Failure::World {
        what: "read",
        name: file.display().to_string(),
        reason: "it does not exist; `regent new` writes one".to_owned(),
    })?;
    if args.from_vault || args.target_only {
        return from_vault::run(args, &store, config.as_ref(), &bootstrap, &place_of(&gathered, None));
    }
    refuse_closed(&bootstrap, &file)?;
    // What would be refused right after `init` is refused before it: a second regent.yaml, above all (P0).
    let planned = Holder::Git { epoch: bootstrap.epoch, supersedes: bootstrap.supersedes.clone() };
    let place = place_of(&gathered, None);
    authority::rule(&bootstrap, &place, &planned, DocumentList::Unreadable).map_err(Refusal::from)?;

    let folder = match store {
        Store::Folder(folder) => folder,
        Store::Cluster(access) => {
            return cluster::run(args, &access, config.as_ref(), &bootstrap, gathered.root.clone());
        }
    };
    refuse_cluster_options(args)?;
    let is_new = match local::survey(&folder, &bootstrap.name)? {
        Survey::NoStoreYet => true,
        Survey::Store(evidence) => {
            refuse_witnesses(&bootstrap, &evidence)?;
            false
        }
    };
    let witness = witness_of(&bootstrap, gathered.root.clone());
    output::text(&plan(&witness, &folder, is_new))?;
    if args.dry_run {
        output::note("nothing was written (`--dry-run`)");
        return Ok(ExitCode::SUCCESS);
    }
    if !args.yes && !confirmed(&bootstrap)? {
        output::note("nothing was written");
        return Ok(ExitCode::FAILURE);
    }
    let writer = Writer::open(&folder)?;
    // Another `init` may have been quicker.
    refuse_witnesses(&bootstrap, &writer.evidence(&bootstrap.name)?)?;
    writer.put(&witness)?;
    output::text(&format!(
        "wrote {}: Git rules epoch {} of `{}`\n",
        local::authority_file(&folder, &bootstrap.name).display(),
        bootstrap.epoch,
        bootstrap.name
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// A store in a folder has neither accounts nor a lock, and asks no Vault.
fn refuse_cluster_options(args: &InitArgs) -> Result<(), Failure> {
    let options = [
        ("--target-context", args.target_context.is_some()),
        ("--door", !args.doors.is_empty()),
        ("--default-service-account", args.default_service_account.is_some()),
        ("--reader", !args.readers.is_empty()),
        ("--move", args.moves),
        ("--complete", args.complete),
    ];
    match options.iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(Failure::Usage(format!("`{option}` is for an authority in a cluster"))),
        None => Ok(()),
    }
}

/// `closed` is Git's own memory of a handover; that Git rules again is a reviewed commit, no option.
fn refuse_closed(bootstrap: &Bootstrap, file: &Path) -> Result<(), Failure> {
    match &bootstrap.closed {
        Some(handover) if bootstrap.closed_counts() => Err(Failure::Closed {
            file: file.display().to_string(),
            epoch: bootstrap.epoch.get(),
            handover: handover.to_string(),
        }),
        Some(_) | None => Ok(()),
    }
}

/// Any witness of any epoch stops `init`, and so does one that may be there and cannot be read.
fn refuse_witnesses(bootstrap: &Bootstrap, evidence: &Evidence) -> Result<(), Failure> {
    match evidence.holder() {
        Holder::None => {}
        Holder::Unreadable(why) => return Err(Refusal::from(authority::AuthorityRefusal::Unreadable { why }).into()),
        held @ (Holder::Git { .. } | Holder::Vault { .. } | Holder::Disagree(_)) => {
            return Err(Failure::Exists {
                name: bootstrap.name.to_string(),
                witness: format!("its witnesses say {held}"),
            });
        }
    }
    // K is none where all are absent; said once more, because everything hangs on it.
    match &evidence.authority {
        Reading::Absent => Ok(()),
        Reading::Present(_) | Reading::Unreadable(_) => {
            Err(Failure::Exists { name: bootstrap.name.to_string(), witness: "an Authority is there".to_owned() })
        }
    }
}

fn witness_of(bootstrap: &Bootstrap, root: Option<String>) -> AuthorityWitness {
    AuthorityWitness {
        name: bootstrap.name.clone(),
        holds: Holds::Git,
        epoch: bootstrap.epoch,
        supersedes: bootstrap.supersedes.clone(),
        root,
        vault: witnessed_vault(bootstrap),
        clusters: None,
        no_vault_yet: false,
        record: None,
    }
}

/// The place in Vault that `regent.yaml` names.
fn witnessed_vault(bootstrap: &Bootstrap) -> Option<WitnessedVault> {
    bootstrap.vault.as_ref().map(|vault| WitnessedVault {
        address: vault.address.clone(),
        namespace: vault.namespace.clone(),
        mount: vault.mount.clone(),
        prefix: vault.prefix.clone(),
    })
}

/// What was found and what will be written.
fn plan(witness: &AuthorityWitness, folder: &Path, is_new: bool) -> String {
    let vault = witness.vault.as_ref().map_or("not named in regent.yaml".to_owned(), ToString::to_string);
    let root = witness.root.as_deref().unwrap_or("a folder outside a repository");
    let supersedes = witness.supersedes.as_ref().map_or(String::new(), |handover| format!(", supersedes {handover}"));
    let store = if is_new { " (will be made)" } else { "" };
    format!(
        "authority  {}\nroot       {root}\nepoch      {}{supersedes}\nvault      {vault}\nstore      {}{store}\n\
         found      no witness of any epoch\nwill say   git({})\n",
        witness.name,
        witness.epoch,
        folder.display(),
        witness.epoch,
    )
}

fn confirmed(bootstrap: &Bootstrap) -> Result<bool, Failure> {
    let question = format!("Git rules the secrets of `{}` from here on. Create the authority?", bootstrap.name);
    super::confirmed("init", &question)
}
