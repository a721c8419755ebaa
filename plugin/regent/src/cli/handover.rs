//! `regent handover`, and what every run has that brings values to Vault.

use clap::{Args, value_parser};
use regent_core::name::AuthorityName;
use regent_core::settle::ApplicationName;

use super::{CommitArgs, KeyArgs, ReportOutputArg, SettleArgs, StoreArgs, VaultArgs};

/// `regent handover`.
#[derive(Args)]
pub(crate) struct HandoverArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Requests to Vault at one time.
    #[arg(long, value_name = "N", default_value = "16", value_parser = value_parser!(u8).range(1..=64), help_heading = "Vault")]
    pub(crate) concurrency: u8,
    /// Take this handover over for a cluster that was rebuilt: Vault's values stand.
    #[arg(long, value_name = "ID", help_heading = "Decisions")]
    pub(crate) adopt: Option<String>,
    /// Accept this Vault as the one of the record, although it has another identity.
    #[arg(long, help_heading = "Decisions")]
    pub(crate) accept_vault_identity: bool,
    #[command(flatten)]
    pub(crate) settle: SettleArgs,
    /// Hand this authority over by Jobs in the cluster of its witnesses, one for each identity, and follow them.
    ///
    /// The Jobs of `manifests/vault`: one of the account `regent-handover-AUTHORITY` plans and, once that is approved, hands
    /// over; one of `regent-refresh-AUTHORITY` has Argo CD compare again while it waits; one of `regent-verify-AUTHORITY`
    /// looks at everything afterwards. Keys, tokens and configuration are the Secrets and ConfigMaps of these manifests. The
    /// exit code is that of the Job which ended it. Interrupted, the Jobs go on, and the same command follows them again.
    #[arg(long, value_name = "AUTHORITY", value_parser = AuthorityName::parse, group = "git_credential", help_heading = "Jobs")]
    #[arg(conflicts_with_all = ["identities", "passphrase_file", "store", "target_context", "auth", "token_file", "role", "jwt_file"])]
    #[arg(conflicts_with_all = ["git_ca_file", "ssh_key_file", "print_policy"])]
    pub(crate) in_cluster: Option<AuthorityName>,
    /// The image of the Jobs; by default `regent`, as the manifests have it.
    #[arg(long, value_name = "IMAGE", requires = "in_cluster", help_heading = "Jobs")]
    pub(crate) image: Option<String>,
    /// Once it is settled, remove the Secrets with keys that its front doors mount for this authority.
    ///
    /// Front doors need none any more: those beside Flux, where `--config` delivers this authority by it, else those beside
    /// Argo CD; `regent retire` looks at both. Refused where another authority's rule, or another program, has one of them
    /// too, and where that is not known. With `--plan` it is told, with `--print-policy` the rights for it are printed. Keep
    /// the offline root.
    #[arg(long, help_heading = "Decisions")]
    pub(crate) retire_keys: bool,
    /// Print what has to be created first in Vault and in the cluster, as commands, and create nothing.
    ///
    /// Policies, roles and rights with the names of this root. `--vault-auth` chooses the login; keys and a store are not needed. A
    /// cluster is asked for the Kustomizations that `--config` has for the root, and for nothing else.
    #[arg(long, help_heading = "Policy")]
    #[arg(conflicts_with_all = ["plan", "approve", "yes", "adopt", "accept_vault_identity", "token_file", "role"])]
    pub(crate) print_policy: bool,
    /// Bind the login to the account `regent-handover-NAME` that has this uid, and not to whatever is called so.
    #[arg(long, value_name = "UID", value_parser = uid, requires = "print_policy", help_heading = "Policy")]
    pub(crate) service_account_uid: Option<String>,
    /// An Application that the account `regent-refresh-NAME` may refresh (repeatable).
    #[arg(long = "application", value_name = "NAMESPACE/NAME", value_parser = super::settle::application)]
    #[arg(requires = "print_policy", help_heading = "Policy")]
    pub(crate) applications: Vec<ApplicationName>,
}

/// A run that brings values from a commit to Vault, by a plan that somebody agreed to.
#[derive(Args)]
pub(crate) struct RunArgs {
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
    /// Do it if the plan is still this one.
    #[arg(long, value_name = "DIGEST", conflicts_with = "yes")]
    pub(crate) approve: Option<String>,
    /// Do not ask; needed where standard input is no terminal.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Output format.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "human")]
    pub(crate) output: ReportOutputArg,
}

/// As the API server writes uids; what is printed may be pasted into a shell.
fn uid(text: &str) -> Result<String, &'static str> {
    let parsed = uuid::Uuid::try_parse(text).ok().filter(|_| text.len() == 36);
    parsed.map(|uid| uid.to_string()).ok_or("a uid is expected, as `kubectl get -o jsonpath={.metadata.uid}` prints it")
}

pub(super) const EXAMPLES: &str = "\
Examples:
  regent handover --revision $(git rev-parse HEAD) --path clusters/prod -i root.txt --context prod \\
    --vault-token-file token --plan                 what would be done; with --approve DIGEST it is
  regent handover --repo https://git.example/infra.git --git-token-file git-token --revision main --path clusters/prod \\
    -i root.txt --context prod --vault-auth jwt --vault-role regent-handover --vault-jwt-file ci-token --yes
  regent handover --revision $(git rev-parse HEAD) --path clusters/prod --print-policy --vault-auth kubernetes \\
    --service-account-uid $(kubectl -n regent-system get serviceaccount regent-handover-prod -o jsonpath={.metadata.uid}) \
    --application argocd/bootstrap
  regent handover --in-cluster prod --image registry.example/regent:0.1.0 --context prod \
    --repo https://git.example/infra.git --revision main --path clusters/prod    plans, asks, hands over, verifies";
