//! `regent retire`.

use clap::Args;

use super::{CommitArgs, ReportOutputArg, StoreArgs};

/// `regent retire`.
#[derive(Args)]
pub(crate) struct RetireArgs {
    #[command(flatten)]
    pub(crate) commit: CommitArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The context of the cluster where the Secrets live, where that is another one (a hub).
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub(crate) target_context: Option<String>,
    /// Print what delivers from Vault and is not in the commit yet, as YAML to be committed, and nothing else.
    #[arg(long)]
    pub(crate) manifests: bool,
    /// Output format.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "human")]
    pub(crate) output: ReportOutputArg,
}

pub(super) const EXAMPLES: &str = "\
Examples:
  regent retire --revision main --path clusters/prod --context prod                 what is left, and what comes next
  regent retire --revision main --path clusters/prod --context prod --manifests > clusters/prod/delivery.yaml
  regent retire --repo https://git.example/infra.git --git-token-file git-token --revision main --path clusters/prod \\
    --context prod -o json

Ends with 0 where nothing is left to do, 4 where something could not be looked at, 7 while steps remain.";
