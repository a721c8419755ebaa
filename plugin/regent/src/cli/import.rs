//! `regent import`.

use clap::Args;

use super::RunArgs;

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
    pub(crate) run: RunArgs,
}

/// What its help ends with.
pub(super) const EXAMPLES: &str = "\
Examples:
  regent import app/new --repo . --revision 8c1f.. --path clusters/prod -i root.txt \\
    --context prod --vault-token-file token --plan
  regent import vault/ca --kind ConfigMap --repo . --revision 8c1f.. --path clusters/prod -i root.txt \\
    --store /var/lib/regent --vault-token-file token --yes";
