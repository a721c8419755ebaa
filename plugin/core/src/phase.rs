//! Phases 0 to 4, derived from evidence; for people. No decision reads a phase.

use crate::evidence::{Evidence, Holder};

/// How far a cluster has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No witness: the offline root is authoritative.
    RootTrust,
    /// A witness says git, and nothing is known to be live.
    ControlPlane,
    /// Git rules and Secrets are live.
    Bootstrap,
    /// Vault took over; old values may still be cached.
    Activation,
    /// Vault took over, and nothing old can come back.
    SteadyState,
}

/// What is known of the live Secrets of a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Live {
    /// At least one is live.
    Some,
    /// None is.
    None,
    /// Nobody looked (a laptop, the embedded store).
    Unknown,
}

impl Phase {
    /// Every phase in order.
    pub const ALL: [Self; 5] =
        [Self::RootTrust, Self::ControlPlane, Self::Bootstrap, Self::Activation, Self::SteadyState];

    /// The phase that K and `Settled` show; `None` where K is not known.
    pub fn of(holder: &Holder, evidence: &Evidence, live: Live) -> Option<Self> {
        match (holder, live) {
            (Holder::None, Live::Some | Live::None | Live::Unknown) => Some(Self::RootTrust),
            (Holder::Git { .. }, Live::Some) => Some(Self::Bootstrap),
            (Holder::Git { .. }, Live::None | Live::Unknown) => Some(Self::ControlPlane),
            (Holder::Vault { .. }, Live::Some | Live::None | Live::Unknown) => {
                Some(if evidence.is_settled() { Self::SteadyState } else { Self::Activation })
            }
            (Holder::Disagree(_) | Holder::Unreadable(_), Live::Some | Live::None | Live::Unknown) => None,
        }
    }

    /// 0 to 4.
    pub fn number(self) -> u8 {
        match self {
            Self::RootTrust => 0,
            Self::ControlPlane => 1,
            Self::Bootstrap => 2,
            Self::Activation => 3,
            Self::SteadyState => 4,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::RootTrust => "root trust",
            Self::ControlPlane => "control plane",
            Self::Bootstrap => "bootstrap",
            Self::Activation => "activation",
            Self::SteadyState => "steady state",
        }
    }

    /// What it means, in one sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::RootTrust => "no authority exists yet; the offline root key is authoritative",
            Self::ControlPlane => "Git rules; whether its Secrets are live was not seen",
            Self::Bootstrap => "Git rules and its Secrets are live",
            Self::Activation => "Vault rules; caches may still hold old values, so do not rotate yet",
            Self::SteadyState => "Vault rules and no old value can come back; rotation is safe",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Mirror, Reading};
    use crate::name::{Epoch, HandoverId};

    #[test]
    fn a_phase_is_derived_from_evidence() {
        let git = Holder::Git { epoch: Epoch::FIRST, supersedes: None };
        let handover = HandoverId::parse("0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f").unwrap();
        let vault = Holder::Vault { epoch: Epoch::FIRST, handover, mirror: Mirror::Complete };
        let settled = |reading| Evidence { settled: reading, ..Evidence::none() };
        let noted = settled(Reading::Present(()));
        for (holder, evidence, live, phase) in [
            (&Holder::None, &noted, Live::Some, Some(Phase::RootTrust)),
            (&git, &noted, Live::None, Some(Phase::ControlPlane)),
            (&git, &noted, Live::Unknown, Some(Phase::ControlPlane)),
            (&git, &noted, Live::Some, Some(Phase::Bootstrap)),
            (&vault, &settled(Reading::Absent), Live::Some, Some(Phase::Activation)),
            (&vault, &settled(Reading::Unreadable("timeout".into())), Live::Some, Some(Phase::Activation)),
            (&vault, &noted, Live::None, Some(Phase::SteadyState)),
            (&Holder::Disagree("two".into()), &noted, Live::Some, None),
            (&Holder::Unreadable("timeout".into()), &noted, Live::Some, None),
        ] {
            assert_eq!(Phase::of(holder, evidence, live), phase, "{holder} {live:?}");
        }
    }

    #[test]
    fn phases_count_from_0_to_4_and_each_says_what_it_means() {
        assert_eq!(Phase::ALL.map(Phase::number), [0, 1, 2, 3, 4]);
        let mut said: Vec<_> = Phase::ALL.iter().flat_map(|phase| [phase.name(), phase.meaning()]).collect();
        said.sort_unstable();
        said.dedup();
        assert_eq!(said.len(), 10);
    }
}
