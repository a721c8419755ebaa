//! `regent verify`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{GitArgs, KeyArgs, ReportOutputArg, StoreArgs, VaultArgs};

/// `regent verify`.
#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// The authority; with `--repo` that of its regent.yaml.
    #[arg(required_unless_present = "repo")]
    pub(crate) authority: Option<String>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The context of the cluster where the Secrets live, where that is another one (a hub).
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub(crate) target_context: Option<String>,
    #[command(flatten)]
    pub(crate) vault: VaultArgs,
    /// Requests to Vault at one time.
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u8).range(1..=64), help_heading = "Vault")]
    pub(crate) concurrency: u8,
    /// Vault or the cluster was restored, and a person knows: let the heartbeat go on from there.
    #[arg(long, help_heading = "Decisions")]
    pub(crate) accept_restored: bool,
    /// Look at a revision of this Git repository, too: a folder, `https://..`, `ssh://..`, `git@host:..`.
    #[arg(long, value_name = "PATH|URL", value_hint = ValueHint::DirPath, requires = "revision", help_heading = "Git")]
    pub(crate) repo: Option<PathBuf>,
    /// A branch, tag or commit: what the controllers apply.
    #[arg(long, value_name = "REV", requires = "repo", help_heading = "Git")]
    pub(crate) revision: Option<String>,
    /// The root's folder in the repository.
    #[arg(long, value_name = "PATH", default_value = ".", help_heading = "Git")]
    pub(crate) path: String,
    #[command(flatten)]
    pub(crate) git: GitArgs,
    /// Look for values in Git's history that the keys at hand open, and that Vault still holds.
    ///
    /// Every version of every file of the root, in every commit that leads to the revision. What is permanent is meant to open
    /// and is left out. Needs a clone with its history, and identities.
    #[arg(long, requires = "repo", help_heading = "Git")]
    pub(crate) history: bool,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// Write metrics to this file, as node-exporter's textfile collector reads them (`*.prom`).
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) metrics_file: Option<PathBuf>,
    /// Output format.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "human")]
    pub(crate) output: ReportOutputArg,
}

pub(super) const EXAMPLES: &str = "\
Examples:
  regent verify prod --context prod --vault-token-file token
  regent verify --repo . --revision main --path clusters/prod -i root.txt --context prod --vault-token-file token --history
  regent verify prod --vault-auth kubernetes --vault-role regent-verify-prod -o json    in a pod: manifests/vault/cronjob.yaml

Ends with 0 where everything is fine, 1 where something is to be rotated, delivered or corrected, 4 where something is not
known, 5 where a person decides (lost, replaced, taken back), 7 where the handover is recorded and not settled.";
