//! The rules: the real functions, and around each what becomes of its input or its answer where a rule is removed.
//! What the core does not decide (Vault's check-and-set, the policies of the API server, the order of a mirror) is
//! here too, a function each.

use crate::world::{
    Cluster, Copy, Door, EPOCHS, Found, Gathered, REVISIONS, Revision, Says, World, authority_witness, epoch,
    handover_id, handover_of, handover_witness, outline, recorded_authority, site,
};
use regent_core::authority::{self, AuthorityRefusal, Mode, Place, Recheck};
use regent_core::bootstrap::Bootstrap;
use regent_core::evidence::{AuthorityWitness, Evidence, Holder, Holds, Memory, Reading};
use regent_core::handover::decide::{self, Facts, Git, OtherVault, Step, Stop};
use regent_core::name::{Epoch, FilePath};
use std::borrow::Cow;

/// The real functions, less one rule that is removed, if any.
pub(crate) struct Rules {
    pub(crate) bootstraps: Vec<Bootstrap>,
    removed: Option<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Unreadable is not absent.
    UnreadableIsUnknown,
    /// A handover witness alone says vault.
    EitherWitnessCounts,
    /// The witness of the next epoch is looked for.
    NextEpochIsLookedFor,
    /// Git holds an epoch only if it supersedes the handover before it.
    PreviousEpochIsLookedAt,
    /// A process remembers what it saw.
    Memory,
    /// It remembers Git's epochs too: lower than that is no answer.
    MemoryOfGit,
    /// Witnesses that contradict each other are an error.
    DisagreeIsAnError,
    /// E must be the witnesses' epoch.
    EpochFits,
    /// S must be what the witnesses say.
    SupersedesFits,
    /// `closed` says that the epoch is over.
    ClosedCounts,
    /// The witnesses are read again before the answer.
    SecondReading,
    /// A second reading that fails is no consent.
    SecondReadingSucceeds,
    /// What moved meanwhile, and not to vault, is an error.
    OtherMovesAreErrors,
    /// Vault's next epoch is an error, until `rebootstrap` has made it Git's.
    NextEpochIsRefused,
    /// The API server: what an epoch supersedes is fixed.
    SupersedesIsFixed,
    /// The API server: vault is final for an epoch.
    VaultIsFinal,
    /// The API server: the epoch never goes down.
    EpochOnlyRises,
    /// The API server: a new epoch supersedes the handover before it, and follows it.
    NewEpochSupersedes,
    /// Policy: only the accounts of handover and verify write that Vault holds an epoch.
    VaultByAccountOnly,
    /// Policy: break-glass may delete a witness.
    BreakGlassDeletes,
    /// The lock: no door's value is written to a labelled Secret once the Authority says vault.
    Lock,
    /// The lock denies where it finds no Authority.
    LockWithoutAuthority,
    /// The record and the copies are written with `cas=0`.
    CheckAndSet,
    /// A record that the witnesses know, and Vault does not, is not written again.
    LostIsAStop,
    /// A record that names another handover than the witnesses is not mirrored.
    ReplacedIsAStop,
    /// A record is mirrored only while its copies are in Vault.
    CopiesAreLookedAt,
    /// A run mirrors no more than one epoch above the Authority's: that far the doors look.
    MirrorFromBelow,
    /// The record is written before the witnesses.
    RecordFirst,
    /// The `ConfigMap` is written before the Authority.
    HandoverWitnessFirst,
    /// `init` refuses where there is a witness.
    InitLooksForWitnesses,
    /// `init` and `rebootstrap` ask Vault, and silence is no answer.
    VaultIsAsked,
    /// `Settled` waits for every answer that was under way.
    SettledWaitsForAnswers,
    /// `Settled` waits for the caches.
    SettledWaitsForCaches,
}

/// What a runner of a handover does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It copies, and writes a record.
    Copy,
    /// It mirrors this handover's record.
    Mirror { epoch: u8, line: u8 },
}

/// Who writes a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// `regent init`.
    Init,
    /// The authority's handover or verify account.
    Handover,
    /// A person in the group `regent:break-glass`.
    BreakGlass,
    /// Anybody else, cluster-admin included.
    Other,
}

impl Rules {
    pub(crate) fn without(removed: Option<Rule>) -> Self {
        let bootstrap = |revision: &Revision| {
            let mut text =
                format!("apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\nepoch: {}\n", revision.epoch);
            let supersedes = (revision.epoch > 1).then(|| (revision.epoch - 1, revision.line));
            for (key, handover) in [("supersedes", supersedes), ("closed", revision.closed)] {
                text.extend(handover.map(|(number, line)| format!("{key}: {}\n", handover_id(number, line))));
            }
            Bootstrap::parse(&FilePath::parse("regent.yaml").unwrap(), text.as_bytes()).unwrap()
        };
        Self { bootstraps: REVISIONS.iter().map(bootstrap).collect(), removed }
    }

    pub(crate) fn stands(&self, rule: Rule) -> bool {
        self.removed != Some(rule)
    }

    /// The handover witnesses that a reading still has to ask for. The reader asks for the Authority and for those
    /// around E at once, in whatever order they come back, then for those around the Authority's epoch.
    pub(crate) fn still_to_read(&self, gathered: &Gathered) -> Vec<u8> {
        let asked = REVISIONS[gathered.revision].epoch;
        let mut epochs = Evidence::epochs_to_read(&reading_of_authority(gathered), Some(epoch(asked)));
        if !self.stands(Rule::NextEpochIsLookedFor) {
            let named = match gathered.authority {
                Found::There(says) => says.epoch(),
                Found::NotAsked | Found::Failed | Found::Absent => 0,
            };
            epochs.retain(|number| *number <= epoch(asked.max(named)));
        }
        let numbers = epochs.into_iter().map(|number: Epoch| u8::try_from(number.get()).unwrap());
        numbers.filter(|number| gathered.handovers[usize::from(*number) - 1] == Found::NotAsked).collect()
    }

    /// What the reading found, as the real functions take it.
    pub(crate) fn evidence(&self, gathered: &Gathered) -> Evidence {
        let mut evidence = Evidence { authority: reading_of_authority(gathered), ..Evidence::none() };
        for number in 1..=EPOCHS + 1 {
            let reading = match gathered.handovers[usize::from(number) - 1] {
                Found::NotAsked if self.stands(Rule::NextEpochIsLookedFor) => continue,
                Found::NotAsked | Found::Absent => Reading::Absent,
                Found::Failed => Reading::Unreadable("timeout".into()),
                Found::There(_) if !self.stands(Rule::EitherWitnessCounts) => Reading::Absent,
                Found::There(line) => Reading::Present(handover_witness(number, line)),
            };
            evidence.handovers.insert(epoch(number), reading);
        }
        if !self.stands(Rule::UnreadableIsUnknown) {
            let absent_if_unreadable = |reading: &mut Reading<_>| {
                if matches!(reading, Reading::Unreadable(_)) {
                    *reading = Reading::Absent;
                }
            };
            evidence.handovers.values_mut().for_each(absent_if_unreadable);
            if matches!(evidence.authority, Reading::Unreadable(_)) {
                evidence.authority = Reading::Absent;
            }
        }
        if !self.stands(Rule::PreviousEpochIsLookedAt)
            && let Reading::Present(AuthorityWitness { epoch, .. }) = &evidence.authority
            && let Some(previous) = epoch.previous()
        {
            evidence.handovers.insert(previous, Reading::Absent);
        }
        evidence
    }

    /// K, after the process's memory was applied.
    pub(crate) fn observe(&self, door: &mut Door, revision: usize, evidence: &Evidence) -> Holder {
        let read = evidence.holder();
        let over = match door.faithful.observe(read.clone()) {
            Holder::Vault { epoch, .. } => epoch.get(),
            Holder::Git { epoch, .. } => epoch.get() - 1,
            Holder::None | Holder::Disagree(_) | Holder::Unreadable(_) => 0,
        };
        door.saw = door.saw.max(u8::try_from(over).unwrap());
        if !self.stands(Rule::Memory) {
            door.memory = Memory::default();
        }
        let counts = door.memory.observe(read);
        if !self.stands(Rule::MemoryOfGit) && matches!(counts, Holder::Git { .. }) {
            door.memory = Memory::default();
        }
        if matches!(counts, Holder::Disagree(_)) && !self.stands(Rule::DisagreeIsAnError) {
            let bootstrap = &self.bootstraps[revision];
            return Holder::Git { epoch: bootstrap.epoch, supersedes: bootstrap.supersedes.clone() };
        }
        counts
    }

    pub(crate) fn rule(&self, revision: usize, holder: &Holder, evidence: &Evidence) -> Result<Mode, AuthorityRefusal> {
        let mut bootstrap = Cow::Borrowed(&self.bootstraps[revision]);
        if let Holder::Git { epoch, supersedes } = holder {
            if !self.stands(Rule::EpochFits) {
                bootstrap.to_mut().epoch = *epoch;
            }
            if !self.stands(Rule::EpochFits) || !self.stands(Rule::SupersedesFits) {
                bootstrap.to_mut().supersedes.clone_from(supersedes);
            }
        }
        if !self.stands(Rule::ClosedCounts) {
            bootstrap.to_mut().closed = None;
        }
        match authority::rule(&bootstrap, &Place::default(), holder, evidence.documents_of(holder)) {
            Err(AuthorityRefusal::NextEpoch { .. }) if !self.stands(Rule::NextEpochIsRefused) => Ok(Mode::Values),
            ruling => ruling.map(|ruling| ruling.mode().clone()),
        }
    }

    /// Whether values may leave after the second reading.
    pub(crate) fn values_may_leave(
        &self,
        revision: usize,
        before: &Holder,
        after: &Holder,
        evidence: &Evidence,
    ) -> bool {
        match authority::recheck(before, after) {
            Ok(Recheck::Same) => true,
            // Whatever the rule says now, it is asked again: were it values, they would be counted.
            Ok(Recheck::NowStubs) => self.rule(revision, after, evidence) == Ok(Mode::Values),
            Err(AuthorityRefusal::Unreadable { .. }) => !self.stands(Rule::SecondReadingSucceeds),
            Err(AuthorityRefusal::Moved { .. }) => !self.stands(Rule::OtherMovesAreErrors),
            Err(_) => false,
        }
    }

    /// What the job does: with a revision a handover, which may open and plan what Git's epoch gives, without one
    /// `verify`. `None` where there is nothing to do, or a stop.
    pub(crate) fn decide(&self, world: &World, revision: Option<usize>) -> Option<Decision> {
        let holder = world.cluster.truth();
        let bootstrap = revision.map(|revision| &self.bootstraps[revision]);
        let number = decide::epoch_to_read(&holder, bootstrap).map(|epoch| u8::try_from(epoch.get()).unwrap())?;
        let copy = if self.stands(Rule::CopiesAreLookedAt) { world.vault.copy } else { Copy::FromGit };
        let place = Place::default();
        let outline = matches!(holder, Holder::Git { .. }).then(outline);
        let decided = decide::decide(&Facts {
            name: &self.bootstraps[0].name,
            git: bootstrap.map(|bootstrap| Git { bootstrap, place: &place, outline }),
            holder: &holder,
            authority: world.cluster.authority.map(recorded_authority),
            record: world.record_key(number, copy),
            site: site(),
            adopt: None,
            other_vault: OtherVault::Refused,
        });
        match decided {
            Ok(Step::Copy(_)) => Some(Decision::Copy),
            Ok(Step::Mirror(marked) | Step::Complete(marked)) => {
                let (epoch, line) = handover_of(&marked.record.handover);
                Some(Decision::Mirror { epoch, line })
            }
            Err(Stop::Lost { .. }) if !self.stands(Rule::LostIsAStop) => Some(Decision::Copy),
            Err(Stop::Replaced { found, .. }) if !self.stands(Rule::ReplacedIsAStop) => {
                let (epoch, line) = handover_of(&found);
                Some(Decision::Mirror { epoch, line })
            }
            Ok(Step::Done(_) | Step::NotYet | Step::Adopt(_) | Step::Rebind(..)) | Err(_) => None,
        }
    }

    /// Whether the API server takes this Authority in the place of the current one: by the rules of its schema,
    /// and by policy.
    pub(crate) fn takes(&self, current: Option<Says>, next: Says, by: Account) -> bool {
        self.schema_allows(current, next) && self.policy_allows(current, next, by)
    }

    /// The real rules are those of a transition. What may be created is policy: the core's own rule for the first
    /// witness is that of the embedded store, where nothing but `init` creates one.
    fn schema_allows(&self, current: Option<Says>, next: Says) -> bool {
        let Some(current) = current else { return true };
        let (old, new) = (authority_witness(current), authority_witness(next));
        let removed = [
            (Rule::SupersedesIsFixed, new.epoch == old.epoch && old.holds == Holds::Git),
            (Rule::VaultIsFinal, new.epoch == old.epoch && old.holds != Holds::Git),
            (Rule::EpochOnlyRises, new.epoch < old.epoch),
            (Rule::NewEpochSupersedes, new.epoch > old.epoch),
        ];
        removed.into_iter().any(|(rule, applies)| applies && !self.stands(rule))
            || AuthorityWitness::may_follow(Some(&old), &new).is_ok()
    }

    fn policy_allows(&self, current: Option<Says>, next: Says, by: Account) -> bool {
        match (current, next, by) {
            (_, _, Account::BreakGlass)
            | (_, Says::Vault { .. }, Account::Handover)
            | (None, Says::Git { .. }, Account::Init) => true,
            (_, Says::Vault { .. }, Account::Other) => !self.stands(Rule::VaultByAccountOnly),
            (_, Says::Git { .. }, Account::Handover | Account::Other)
            | (Some(_), Says::Git { .. }, Account::Init)
            | (_, Says::Vault { .. }, Account::Init) => false,
        }
    }

    /// Whether the API server takes a new `ConfigMap`; none is ever replaced, they are immutable.
    pub(crate) fn takes_handover(&self, by: Account) -> bool {
        by == Account::Handover || !self.stands(Rule::VaultByAccountOnly)
    }

    /// Whether a controller may write the data of a labelled live Secret.
    pub(crate) fn lock_is_open(&self, cluster: &Cluster) -> bool {
        match cluster.authority {
            Some(Says::Git { .. }) => true,
            Some(Says::Vault { .. }) => !self.stands(Rule::Lock),
            None => !self.stands(Rule::Lock) || !self.stands(Rule::LockWithoutAuthority),
        }
    }
}

fn reading_of_authority(gathered: &Gathered) -> Reading<AuthorityWitness> {
    match gathered.authority {
        Found::NotAsked | Found::Failed => Reading::Unreadable("timeout".into()),
        Found::Absent => Reading::Absent,
        Found::There(says) => Reading::Present(authority_witness(says)),
    }
}
