//! P0..P6: what K and a root's `regent.yaml` together allow.

use crate::bootstrap::Bootstrap;
use crate::evidence::{DocumentList, Evidence, Holder, Reading, RecordedRoot, WitnessedVault};
use crate::name::{AuthorityName, Epoch, HandoverId};

/// What may be answered. Only this module makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    mode: Mode,
    settled: Option<WitnessedVault>,
}

/// The three ways to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// P4: values, guarded.
    Values,
    /// P2: no value, ever.
    Stubs(DocumentList),
    /// No authority was asked: values are opened and described, never written.
    Unasked,
}

/// Where the request's root stands, and what lies around it (P0).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The root's folder in its repository (`.` for the repository's own); `None` outside a repository.
    pub root: Option<String>,
    /// Other `regent.yaml` files above, between or below.
    pub other_bootstraps: Vec<String>,
    /// The authority named by the rule that admitted the request, where a rule did.
    pub admitted_by: Option<AuthorityName>,
    /// The root in the Authority witness.
    pub recorded_root: RecordedRoot,
}

/// Why the authority says no; [`Self::code`] is the rule's stable name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityRefusal {
    /// P0: `regent.yaml` names another authority than the rule.
    #[error("regent.yaml names authority `{named}`, and the request was admitted for `{admitted}`")]
    OtherAuthority {
        /// In `regent.yaml`.
        named: AuthorityName,
        /// By the rule.
        admitted: AuthorityName,
    },
    /// P0: another `regent.yaml` lies above, between or below.
    #[error("another regent.yaml stands in the way: {path}")]
    OtherBootstrap {
        /// The first of them.
        path: String,
    },
    /// P0: the root is not the one that the authority was created for.
    #[error("the authority covers {}, and this is {}", folder(recorded.as_deref()), folder(root.as_deref()))]
    OtherRoot {
        /// In the Authority.
        recorded: Option<String>,
        /// Of the request.
        root: Option<String>,
    },
    /// P1: the witnesses could not be read.
    #[error("who holds the authority cannot be read: {why}")]
    Unreadable {
        /// What could not be read.
        why: String,
    },
    /// P1: the witnesses contradict each other, or what was seen before.
    #[error("the witnesses disagree: {why}")]
    Disagree {
        /// Both sides.
        why: String,
    },
    /// P3: Git asks for the next epoch.
    #[error("Vault holds epoch {held}, and regent.yaml asks for epoch {asked}, which supersedes it")]
    NextEpoch {
        /// e.
        held: Epoch,
        /// E.
        asked: Epoch,
    },
    /// P5: nobody was made authoritative.
    #[error("authority `{name}` does not exist")]
    NoAuthority {
        /// The authority.
        name: AuthorityName,
    },
    /// P6: Git and the witnesses do not fit together.
    #[error("the witnesses say {held}, and regent.yaml says {written}")]
    Mismatch {
        /// K.
        held: String,
        /// E, S and `closed`.
        written: String,
    },
    /// `--assume git` where a readable store says vault.
    #[error("git cannot be assumed: the witnesses say {held}")]
    AssumedAgainst {
        /// K.
        held: String,
    },
    /// The evidence changed while the answer was made, and not to vault.
    #[error("the authority moved from {before} to {after} meanwhile")]
    Moved {
        /// K before the work.
        before: String,
        /// K right before the answer.
        after: String,
    },
}

/// The rules, by their stable names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Another authority, root or `regent.yaml`.
    P0,
    /// Unknown.
    P1,
    /// Git asks for the next epoch.
    P3,
    /// None.
    P5,
    /// Anything else that does not fit.
    P6,
}

impl AuthorityRefusal {
    /// The rule that refuses.
    pub fn rule(&self) -> Rule {
        match self {
            Self::OtherAuthority { .. } | Self::OtherBootstrap { .. } | Self::OtherRoot { .. } => Rule::P0,
            Self::Unreadable { .. } | Self::Disagree { .. } | Self::Moved { .. } => Rule::P1,
            Self::NextEpoch { .. } => Rule::P3,
            Self::NoAuthority { .. } => Rule::P5,
            Self::Mismatch { .. } | Self::AssumedAgainst { .. } => Rule::P6,
        }
    }
}

/// What a person on a laptop may assume instead of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assumption {
    /// `--assume git`.
    Git,
    /// `--assume vault`.
    Vault,
}

/// Decides by P0..P6. `holder` is K after the process memory was applied; `documents` is K's list.
pub fn rule(
    bootstrap: &Bootstrap,
    place: &Place,
    holder: &Holder,
    documents: DocumentList,
) -> Result<Ruling, AuthorityRefusal> {
    check_place(Some(bootstrap), place)?;
    let mismatch = || Err(AuthorityRefusal::Mismatch { held: holder.to_string(), written: written(bootstrap) });
    match holder {
        Holder::Unreadable(why) => Err(AuthorityRefusal::Unreadable { why: why.clone() }),
        Holder::Disagree(why) => Err(AuthorityRefusal::Disagree { why: why.clone() }),
        Holder::None => Err(AuthorityRefusal::NoAuthority { name: bootstrap.name.clone() }),
        Holder::Vault { epoch, .. } if bootstrap.epoch <= *epoch => Ok(Ruling::of(Mode::Stubs(documents))),
        Holder::Vault { epoch, handover, .. } => {
            if Some(bootstrap.epoch) == epoch.next() && bootstrap.supersedes.as_ref() == Some(handover) {
                Err(AuthorityRefusal::NextEpoch { held: *epoch, asked: bootstrap.epoch })
            } else {
                mismatch()
            }
        }
        Holder::Git { epoch, supersedes } => {
            let agrees = bootstrap.epoch == *epoch && bootstrap.supersedes == *supersedes;
            if agrees && !bootstrap.closed_counts() { Ok(Ruling::of(Mode::Values)) } else { mismatch() }
        }
    }
}

/// What to do when the evidence is read again right before the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recheck {
    /// Nothing moved: answer.
    Same,
    /// Vault took over meanwhile: answer the stubs (an error would leave the old manifests in caches).
    NowStubs,
}

/// Compares K from before the work with K right before the answer, both after the process memory was applied.
/// Any move but the one to vault is an error.
pub fn recheck(before: &Holder, after: &Holder) -> Result<Recheck, AuthorityRefusal> {
    let moved = || AuthorityRefusal::Moved { before: before.to_string(), after: after.to_string() };
    match (before, after) {
        (_, Holder::Unreadable(why)) => Err(AuthorityRefusal::Unreadable { why: why.clone() }),
        (_, Holder::Disagree(why)) => Err(AuthorityRefusal::Disagree { why: why.clone() }),
        (Holder::Vault { epoch: e, handover: h, .. }, Holder::Vault { epoch, handover, .. })
            if e == epoch && h == handover =>
        {
            Ok(Recheck::Same)
        }
        (Holder::Git { epoch: e, .. }, Holder::Vault { epoch, .. }) if epoch >= e => Ok(Recheck::NowStubs),
        (Holder::Git { .. }, Holder::Git { .. }) if before == after => Ok(Recheck::Same),
        (
            Holder::None | Holder::Git { .. } | Holder::Vault { .. } | Holder::Disagree(_) | Holder::Unreadable(_),
            Holder::None | Holder::Git { .. } | Holder::Vault { .. },
        ) => Err(moved()),
    }
}

impl Ruling {
    fn of(mode: Mode) -> Self {
        Self { mode, settled: None }
    }

    /// The same with what `evidence`, by which it was made, says of Settled: from then on Vault's operator may be told where
    /// the copies are.
    #[must_use]
    pub fn settled_by(self, evidence: &Evidence) -> Self {
        let place = match (&self.mode, &evidence.authority) {
            (Mode::Stubs(DocumentList::Readable(_)), Reading::Present(_)) if evidence.is_settled() => {
                evidence.place().present().cloned()
            }
            (
                Mode::Values | Mode::Stubs(DocumentList::Readable(_) | DocumentList::Unreadable) | Mode::Unasked,
                Reading::Present(_) | Reading::Absent | Reading::Unreadable(_),
            ) => None,
        };
        Self { settled: place, ..self }
    }

    /// The place in Vault, once the handover is settled.
    pub(crate) fn settled(&self) -> Option<&WitnessedVault> {
        self.settled.as_ref()
    }

    /// No authority was asked: descriptions only.
    pub fn unasked() -> Self {
        Self::of(Mode::Unasked)
    }

    /// A person's explicit assumption on a laptop. `holder` is what a readable store says, where there is one.
    ///
    /// It stands in for the witnesses alone: the place (P0) and `closed` count all the same, git is not assumed
    /// against vault, nor against a store that cannot be read or contradicts itself, and a store that says git
    /// is obeyed to the letter.
    pub fn assume(
        assumption: Assumption,
        bootstrap: Option<&Bootstrap>,
        place: &Place,
        holder: Option<&Holder>,
    ) -> Result<Self, AuthorityRefusal> {
        check_place(bootstrap, place)?;
        match (assumption, holder) {
            (Assumption::Vault, _) => Ok(Self::of(Mode::Stubs(DocumentList::Unreadable))),
            (Assumption::Git, None | Some(Holder::None)) => match bootstrap {
                Some(bootstrap) if bootstrap.closed_counts() => {
                    Err(AuthorityRefusal::Mismatch { held: "git, assumed".to_owned(), written: written(bootstrap) })
                }
                Some(_) | None => Ok(Self::of(Mode::Values)),
            },
            (Assumption::Git, Some(held @ Holder::Git { .. })) => match bootstrap {
                Some(bootstrap) => rule(bootstrap, place, held, DocumentList::Unreadable),
                None => Ok(Self::of(Mode::Values)),
            },
            (Assumption::Git, Some(held @ Holder::Vault { .. })) => {
                Err(AuthorityRefusal::AssumedAgainst { held: held.to_string() })
            }
            (Assumption::Git, Some(Holder::Disagree(why))) => Err(AuthorityRefusal::Disagree { why: why.clone() }),
            (Assumption::Git, Some(Holder::Unreadable(why))) => Err(AuthorityRefusal::Unreadable { why: why.clone() }),
        }
    }

    /// What may be answered.
    pub fn mode(&self) -> &Mode {
        &self.mode
    }
}

/// A root, as an error names it.
fn folder(root: Option<&str>) -> &str {
    match root {
        Some(".") => "a repository's own folder",
        Some(folder) => folder,
        None => "a folder outside a repository",
    }
}

fn check_place(bootstrap: Option<&Bootstrap>, place: &Place) -> Result<(), AuthorityRefusal> {
    if let (Some(bootstrap), Some(admitted)) = (bootstrap, &place.admitted_by)
        && *admitted != bootstrap.name
    {
        return Err(AuthorityRefusal::OtherAuthority { named: bootstrap.name.clone(), admitted: admitted.clone() });
    }
    if let Some(path) = place.other_bootstraps.first() {
        return Err(AuthorityRefusal::OtherBootstrap { path: path.clone() });
    }
    match &place.recorded_root {
        RecordedRoot::Is(recorded) if *recorded != place.root => {
            Err(AuthorityRefusal::OtherRoot { recorded: recorded.clone(), root: place.root.clone() })
        }
        RecordedRoot::Is(_) | RecordedRoot::Unknown => Ok(()),
    }
}

/// E, S and `closed`, as an error shows them.
pub(crate) fn written(bootstrap: &Bootstrap) -> String {
    let clause = |word, id: Option<&HandoverId>| id.map(|id| format!(", {word} {}", id.short())).unwrap_or_default();
    let closed = bootstrap.closed.as_ref().filter(|_| bootstrap.closed_counts());
    format!(
        "epoch {}{}{}",
        bootstrap.epoch,
        clause("supersedes", bootstrap.supersedes.as_ref()),
        clause("closed by", closed)
    )
}

#[cfg(test)]
mod tests;
