//! What a person decides about phase 3 of a handover.

use clap::{Args, ValueEnum};
use regent_core::name::ObjectName;
use regent_core::settle::{ApplicationName, Without};

/// How long Argo CD and Flux are waited for, and what is left behind.
#[derive(Args, Clone)]
#[command(next_help_heading = "Argo CD and Flux")]
pub(crate) struct SettleArgs {
    /// Do not ask this Application, and do not wait for it (repeatable).
    ///
    /// What it has cached or applies later is not looked at. `regent status` names it from then on.
    #[arg(long = "skip-app", value_name = "NAMESPACE/NAME", value_parser = application)]
    pub(crate) skipped: Vec<ApplicationName>,
    /// Do not ask this Kustomization of Flux, and do not wait for it (repeatable).
    ///
    /// What it applies later is not looked at. `regent status` names it from then on.
    #[arg(long = "skip-kustomization", value_name = "NAMESPACE/NAME", value_parser = ObjectName::parse)]
    pub(crate) skipped_kustomizations: Vec<ObjectName>,
    /// Settle without one of the proofs (repeatable); `regent status` names it from then on.
    #[arg(long = "settle-without", value_enum, value_name = "PROOF")]
    pub(crate) without: Vec<ProofArg>,
    /// What Argo CD cached before the handover has expired, a day after it: Argo CD's Redis and argocd-server are not asked.
    ///
    /// It rests on this machine's clock, and on a repo-server that keeps manifests for no longer than its default. An entry
    /// that could not be rendered anew lives on, so the lock has to be in force all the same.
    #[arg(long)]
    pub(crate) caches_expired: bool,
    /// Neither Argo CD's Redis nor argocd-server is at hand: the lock alone keeps what is cached from the Secrets.
    ///
    /// It has to stay for the day that the run names. Typed once it is settled, it looks again at what was left behind.
    #[arg(long)]
    pub(crate) caches_locked: bool,
    /// Put the guards on live Secrets that lack them: these annotations and the label, and nothing else of them.
    ///
    /// Argo CD and Flux read them from the live object alone, and prune or delete a Secret without them.
    #[arg(long, conflicts_with = "plan")]
    pub(crate) apply_guards: bool,
    /// How long Argo CD and Flux are waited for, in seconds; the same command goes on afterwards.
    #[arg(long = "settle-timeout", value_name = "SECONDS", default_value = "600")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,
}

/// A proof that a person may do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProofArg {
    /// That operations which began before have ended.
    Operations,
    /// That every Secret was compared with a stub.
    Outcome,
    /// That no manifest in Argo CD's cache holds a value.
    Caches,
}

impl From<ProofArg> for Without {
    fn from(proof: ProofArg) -> Self {
        match proof {
            ProofArg::Operations => Self::Operations,
            ProofArg::Outcome => Self::Outcome,
            ProofArg::Caches => Self::Caches,
        }
    }
}

pub(crate) fn application(text: &str) -> Result<ApplicationName, &'static str> {
    let is_name =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    let parts = text.split_once('/').filter(|(namespace, name)| is_name(namespace) && is_name(name));
    let (namespace, name) = parts.ok_or("NAMESPACE/NAME of an Application is expected")?;
    Ok(ApplicationName { namespace: namespace.to_owned(), name: name.to_owned() })
}
