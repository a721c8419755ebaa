//! Why a handover stops, and the command that goes on. Nothing is lost by a stop: copies without a record are inert.

use regent_core::evidence::WitnessedVault;
use regent_core::handover::decide::{Stop, StopKind};
use regent_core::handover::plan::PlanRefusal;
use regent_core::retire::InUse;

use super::super::root::typed_with;
use super::freeze::When;
use crate::failure::Failure;
use crate::vault::VaultError;

/// Why a handover stops.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandoverStop {
    /// The decision.
    #[error("{0}")]
    Decided(Stop),
    /// There is no plan, or it is not one that can be carried out.
    #[error("{0}")]
    Plan(PlanRefusal),
    /// `regent.yaml` names no Vault.
    #[error("regent.yaml has no `vault`, so nobody knows where the values go")]
    NoPlace,
    /// `regent.yaml` names another place than the Authority.
    #[error("regent.yaml names {written}, and the Authority {}", told(recorded.as_ref()))]
    OtherPlace {
        /// In the Authority.
        recorded: Option<WitnessedVault>,
        /// In `regent.yaml`.
        written: WitnessedVault,
    },
    /// Vault rules, and `regent.yaml` names another place of it.
    #[error("regent.yaml names {written}, and this authority's Vault is {recorded}: nothing was sent to either")]
    Moved {
        /// By the witnesses, or where it moved to before.
        recorded: WitnessedVault,
        /// In `regent.yaml`.
        written: WitnessedVault,
    },
    /// What would fail later, or what must not be.
    #[error("{}", .0.join("; "))]
    Preflight(Vec<String>),
    /// `--approve` names another plan.
    #[error("`--approve` names plan {given}, and the plan now is {found}")]
    NotApproved {
        /// On the command line.
        given: String,
        /// The digest of the plan.
        found: String,
    },
    /// A person said no.
    #[error("it was not approved")]
    Declined,
    /// Vault did not do what it was asked.
    #[error("Vault {address}: {problem}")]
    Vault {
        /// Its address.
        address: String,
        /// Why.
        problem: VaultError,
    },
    /// Ctrl-C.
    #[error("it was interrupted")]
    Interrupted,
    /// After as many steps there is still one to do: somebody takes them back.
    #[error("after {0} steps it is where it was: somebody else keeps changing the record, the witnesses or the copies")]
    Undone(usize),
    /// A copy is not what was written.
    #[error("Vault does not hold what was written: {0}")]
    NotReadBack(String),
    /// Controllers use another tree than the one that is handed over.
    #[error("the tree did not stand still: {}", found.join("; "))]
    Slipped {
        /// When it was looked at.
        when: When,
        /// By commit: who uses it, and what is not the same.
        found: Vec<String>,
    },
    /// The record was sent, and whether it is there is not known.
    #[error("the record was sent, and may be in Vault: {0}")]
    MaybeRecorded(String),
    /// The record is there, and what follows it is not all done.
    #[error("recorded, not mirrored or settled: Vault rules by handover {handover}; what follows stopped: {why}")]
    NotMirrored {
        /// The handover.
        handover: String,
        /// What stood in the way.
        why: String,
    },
    /// Mirrored, and not settled: an old value could still come back.
    #[error("mirrored, not settled, so do not rotate yet: {0}")]
    NotSettled(String),
    /// Settled, and keys are not removed: by Secret, who needs them.
    #[error("settled, and no key was removed: {}", in_use(.0))]
    KeysInUse(Vec<(String, InUse)>),
}

/// What a stop means for the exit code.
impl HandoverStop {
    pub(crate) fn kind(&self) -> StopKind {
        match self {
            Self::Decided(stop) => stop.kind(),
            Self::Moved { .. } => StopKind::Person,
            Self::Vault { problem, .. } if problem.passes() => StopKind::Unknown,
            Self::KeysInUse(kept) => {
                let is_unknown = |why: &InUse| match why {
                    InUse::Maybe(..) | InUse::Unknown(_) => true,
                    InUse::NotSettled | InUse::By(_) | InUse::Mounted(_) | InUse::Unnamed => false,
                };
                if kept.iter().any(|(_, why)| is_unknown(why)) { StopKind::Unknown } else { StopKind::Refused }
            }
            Self::Plan(_)
            | Self::NoPlace
            | Self::OtherPlace { .. }
            | Self::Preflight(_)
            | Self::Vault { .. }
            | Self::NotApproved { .. }
            | Self::Declined
            | Self::Interrupted
            | Self::Undone(_)
            | Self::NotReadBack(_)
            | Self::Slipped { when: When::Recording, .. } => StopKind::BeforeRecord,
            Self::MaybeRecorded(_)
            | Self::NotMirrored { .. }
            | Self::NotSettled(_)
            | Self::Slipped { when: When::Settling, .. } => StopKind::Underway,
        }
    }

    /// Whether what Vault holds of the copies is why, or may be.
    pub(super) fn may_be_of_another_run(&self) -> bool {
        match self {
            Self::Plan(PlanRefusal::Conflicts { .. })
            | Self::Preflight(_)
            | Self::Slipped { .. }
            | Self::NotReadBack(_)
            | Self::NotApproved { .. } => true,
            Self::Decided(_)
            | Self::Plan(_)
            | Self::NoPlace
            | Self::OtherPlace { .. }
            | Self::Moved { .. }
            | Self::Declined
            | Self::Interrupted
            | Self::Undone(_)
            | Self::Vault { .. }
            | Self::MaybeRecorded(_)
            | Self::NotMirrored { .. }
            | Self::NotSettled(_)
            | Self::KeysInUse(_) => false,
        }
    }

    /// Whether it is what somebody who looks before found: others look all the same.
    fn is_of_preflight(&self) -> bool {
        match self {
            Self::Plan(PlanRefusal::Conflicts { .. }) | Self::Preflight(_) | Self::Slipped { .. } => true,
            Self::Decided(_)
            | Self::Plan(_)
            | Self::NoPlace
            | Self::OtherPlace { .. }
            | Self::Moved { .. }
            | Self::NotApproved { .. }
            | Self::Declined
            | Self::Interrupted
            | Self::Undone(_)
            | Self::Vault { .. }
            | Self::NotReadBack(_)
            | Self::MaybeRecorded(_)
            | Self::NotMirrored { .. }
            | Self::NotSettled(_)
            | Self::KeysInUse(_) => false,
        }
    }

    /// The command that goes on.
    fn way_out(&self) -> String {
        let again = typed_with(&[]);
        match self {
            Self::Decided(stop) => after(stop, &again),
            Self::Plan(_) => format!("correct it in Git, and hand the new commit over: `{again}`"),
            Self::NoPlace => {
                "add `vault: { address, mount, prefix }` to regent.yaml, and `regent init --move` tells the Authority"
                    .to_owned()
            }
            Self::OtherPlace { .. } => {
                "correct regent.yaml, or as group regent:break-glass `regent init --move`".to_owned()
            }
            Self::Moved { .. } => format!(
                "if this Vault is the same one and moved there: `{}`; else put `vault` in regent.yaml back",
                typed_with(&["--accept-vault-identity".to_owned()])
            ),
            Self::Vault { problem: VaultError::Unwrapped, .. } => format!(
                "have another secret id wrapped (`--print-policy --vault-auth approle` prints how), then `{again}`; if no run used \
                 this one, somebody else has the secret id"
            ),
            Self::Vault { .. } => format!("see that Vault answers, and this token may do that; then `{again}`"),
            Self::Preflight(_) => format!("make that so, then `{again}`"),
            Self::NotApproved { .. } => "look at the plan again (`--plan`), and approve that one".to_owned(),
            Self::Declined => format!("nothing was changed; `{again}` asks again"),
            Self::Slipped { when: When::Recording, .. } => format!(
                "let Argo CD or Flux apply the commit that is handed over, or hand over the one that it uses; where what is handed \
                 over is right all the same, list the Secrets in `handover.acceptChanged` of regent.yaml; then `{again}`"
            ),
            Self::Slipped { when: When::Settling, .. } => format!(
                "Vault has what was handed over: bring what is newer to Vault by hand, list the Secrets in \
                 `handover.acceptChanged` of regent.yaml, and `{again}` with that commit"
            ),
            Self::NotReadBack(_) => format!("who else writes there? Then `{again}`"),
            Self::Undone(_) => format!("find out who, or what restores a backup again and again; then `{again}`"),
            Self::Interrupted | Self::MaybeRecorded(_) | Self::NotMirrored { .. } => {
                format!("`{again}` goes on from here")
            }
            Self::KeysInUse(_) => format!(
                "hand the others over first, or give them keys of their own; who may look at them, `{again}`; by hand: \
                 `kubectl delete secret`"
            ),
            Self::NotSettled(_) => format!(
                "`{again}` goes on from here; `--skip-app` and `--settle-without` leave behind by name what cannot be had"
            ),
        }
    }
}

fn after(stop: &Stop, again: &str) -> String {
    match stop {
        Stop::Authority(_) => "`regent status` shows what the witnesses say".to_owned(),
        Stop::RecordUnreadable { .. } => format!("see that Vault answers and the token may read it, then `{again}`"),
        Stop::RecordDeleted { .. } => {
            "a Vault administrator brings it back (`bao kv undelete`); it is the proof of who rules".to_owned()
        }
        Stop::RecordRewritten { .. } => "find out who wrote it: nobody may have `update` there".to_owned(),
        Stop::Lost { .. } => {
            "restore a newer snapshot of Vault; or commit `epoch` and `supersedes`, then `regent rebootstrap`"
                .to_owned()
        }
        Stop::Replaced { .. } | Stop::Disagree { .. } => {
            "compare Vault's record with `regent status`: a person decides which of the two is right".to_owned()
        }
        Stop::OtherVault { .. } => {
            format!(
                "if this is the same Vault under another identity: `{}`",
                typed_with(&["--accept-vault-identity".to_owned()])
            )
        }
        Stop::OtherPrefix { .. } => "put `vault.prefix` back to where the copies are".to_owned(),
        Stop::OtherCluster { handover, .. } => format!(
            "if this cluster was rebuilt: `{}`; a second cluster needs an authority of its own",
            typed_with(&["--adopt".to_owned(), handover.to_string()])
        ),
        Stop::OtherRoot { .. } => "an authority has one root: name the one in the record".to_owned(),
        Stop::OtherHandover { found, .. } => format!("name the one that is there: `--adopt {found}`"),
        Stop::NothingToAdopt { .. } => "leave `--adopt` out to hand over for the first time".to_owned(),
        Stop::NoCluster { .. } => "use the store of the cluster (`--context`)".to_owned(),
        Stop::OtherTree { commit, .. } => format!("`--revision {commit}` completes that handover"),
        Stop::NotMirrored { .. } => {
            "go back to the revision that was handed over, or let `regent verify` mirror it".to_owned()
        }
        Stop::PlanDiffers { .. } => {
            "somebody recorded another list for this tree: a person compares the two".to_owned()
        }
        Stop::CopiesLost { .. } => {
            "restore a newer snapshot of Vault, or the copies, before authority moves".to_owned()
        }
        Stop::NotPlanned => again.to_owned(),
    }
}

/// What stands in the way of a handover, gathered from all who look, each with its way out.
#[derive(Default)]
pub(super) struct Problems(Vec<(HandoverStop, String)>);

impl Problems {
    /// What one of them found, where that is no stop. A stop is kept; whoever could not look ends it all.
    pub(super) fn of<T>(&mut self, outcome: Result<T, Failure>) -> Result<Option<T>, Failure> {
        match outcome {
            Ok(found) => Ok(Some(found)),
            Err(Failure::Handover { stop, way_out }) if stop.is_of_preflight() => {
                self.0.push((*stop, way_out));
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// One stop is told as it is, several as one, with what may be typed about each of them.
    pub(super) fn end<T>(mut self, found: T) -> Result<T, Failure> {
        let Some((first, way_out)) = self.0.pop() else { return Ok(found) };
        if self.0.is_empty() {
            return Err(Failure::Handover { stop: Box::new(first), way_out });
        }
        self.0.push((first, way_out));
        let has_its_own = |stop: &HandoverStop| !matches!(stop, HandoverStop::Preflight(_));
        let own: Vec<String> =
            self.0.iter().filter(|(stop, _)| has_its_own(stop)).map(|(_, way_out)| way_out.clone()).collect();
        let lines = self.0.into_iter().flat_map(|(stop, _)| {
            if let HandoverStop::Preflight(problems) = stop { problems } else { vec![stop.to_string()] }
        });
        let stop = HandoverStop::Preflight(lines.collect());
        let way_out = if own.is_empty() { stop.way_out() } else { format!("make that so; {}", own.join("; ")) };
        Err(Failure::Handover { stop: Box::new(stop), way_out })
    }
}

pub(in crate::command) fn stopped(stop: HandoverStop) -> Failure {
    let way_out = stop.way_out();
    Failure::Handover { stop: Box::new(stop), way_out }
}

fn in_use(kept: &[(String, InUse)]) -> String {
    kept.iter().map(|(secret, why)| format!("Secret {secret}: {why}")).collect::<Vec<_>>().join("; ")
}

fn told(place: Option<&WitnessedVault>) -> String {
    match place {
        Some(place) => place.to_string(),
        None => "no place in Vault".to_owned(),
    }
}
