//! `regent import`.

use clap::Args;

use super::{CommitArgs, KeyArgs, ReportOutputArg, StoreArgs, VaultArgs};

/// `regent import`.
#[derive(Args)]
pub(crate) struct ImportArgs {
    /// The document.
    #[arg(value_name = "NAMESPACE/NAME")]
    pub(crate) name: String,
    /// Its kind: `Secret`, or one of `secrets.kinds`, those outside the core group as `apps/v1/Deployment`.
    #[arg(long, value_name = "KIND", default_value = "Secret")]
    pub(crate) kind: String,
    #[command(flatten)]
    pub(crate) commit: CommitArgs,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The context of the cluster where the Secrets live, where that is another one (a hub).
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub(crate) target_context: Option<String>,
    #[command(flatten)]
    pub(crate) vault: VaultArgs,
    /// Take a Vault that keeps everything in memory: for trying it out.
    #[arg(long, help_heading = "Vault")]
    pub(crate) allow_ephemeral_storage: bool,
    /// Show what would be done and the digest of it, and change nothing.
    #[arg(long, conflicts_with_all = ["approve", "yes"])]
    pub(crate) plan: bool,
    /// Import it if the plan is still this one.
    #[arg(long, value_name = "DIGEST", conflicts_with = "yes")]
    pub(crate) approve: Option<String>,
    /// Do not ask; needed where standard input is no terminal.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Output format.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "human")]
    pub(crate) output: ReportOutputArg,
}

/// What its help ends with.
pub(super) const EXAMPLES: &str = "\
Examples:
  regent import app/new --repo . --revision 8c1f.. --path clusters/prod -i root.txt \\
    --context prod --vault-token-file token --plan
  regent import vault/ca --kind ConfigMap --repo . --revision 8c1f.. --path clusters/prod -i root.txt \\
    --store /var/lib/regent --vault-token-file token --yes";
