//! A handover by Jobs in the cluster, one for each identity: which of them is next.
//!
//! ```text
//! handover   the plan, where nobody approved one yet; then the handover itself, until it is settled
//! refresh    while the handover waits for Argo CD, as often as it takes
//! verify     once the handover ended well
//! ```
//! `Settled` is the handover account's to write, and counts only what was compared after the witnesses said vault. So
//! the refresh runs beside the handover and after the mirror: what was refreshed before would be nothing to it. The
//! Jobs go on by themselves, and whoever follows them may come and go.

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// To see the plan.
    Plan,
    /// To hand over.
    Handover(Approval),
}

/// Whether the handover's plan is approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approval {
    /// Nobody approved one yet.
    Needed,
    /// By its digest, or whatever it is.
    Given,
}

/// The Job of the handover account. It has one name, so there is one of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoverJob {
    /// There is none, or one that ended before anybody followed it here.
    None,
    /// One is under way.
    Running(Work),
    /// One ended that was followed here.
    Ended(Work, Outcome),
}

/// What the handover account is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// It plans, and changes nothing.
    Plan,
    /// It hands over.
    Handover,
}

/// The Job of another account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// There is none, or one that ended before anybody followed it here.
    None,
    /// One is under way.
    Running,
    /// One ended that was followed here.
    Ended(Outcome),
}

/// How a Job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With 0.
    Done,
    /// With another code, or without one.
    Failed,
}

/// Who rules, as the Authority says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// Git does.
    Git,
    /// Vault does, and an old value could still come back.
    Vault,
    /// Vault does, and none can.
    Settled,
}

/// Whether the plan's Job printed a plan, as far as its log was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Printed {
    /// None that could be approved.
    Nothing,
    /// One, by its digest.
    Plan,
}

/// Whether the handover that is under way needs a refresh by somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It waits for no Application, or the last refresh ended a moment ago.
    No,
    /// It waits for Applications, and has for a while.
    ForApplications,
}

/// Everything that the next step is a function of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What somebody wants.
    pub goal: Goal,
    /// The Job of the handover account.
    pub handover: HandoverJob,
    /// That of the refresh account.
    pub refresh: Job,
    /// That of the verify account.
    pub verify: Job,
    /// What the handover's Job printed.
    pub printed: Printed,
    /// Who rules.
    pub rules: Rules,
    /// What the handover waits for.
    pub wait: Wait,
}

/// An identity, and so a Job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Creates in Vault, and moves the Authority.
    Handover,
    /// Has Argo CD compare again.
    Refresh,
    /// Reads all that.
    Verify,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Create the handover's Job to do this.
    Begin(Work),
    /// Create the Job that refreshes.
    Refresh,
    /// Create the Job that verifies.
    Verify,
    /// Look again in a moment.
    Follow,
    /// Ask whoever sits there about the plan that was printed.
    Ask,
    /// There is nothing that could be asked about, and so nothing that could be approved.
    NoPlan,
    /// It is over: that Job's exit code is the command's.
    End(Part),
    /// A plan was asked for, and a handover is under way already.
    Busy,
    /// The handover ended well, and the Authority says git.
    Contradicted,
}

/// Decides what comes next.
pub fn next(facts: &Facts) -> Next {
    match (facts.handover, facts.goal) {
        (HandoverJob::None, Goal::Plan) => Next::Begin(Work::Plan),
        (HandoverJob::None, Goal::Handover(approval)) => begin(approval, facts.rules),
        (HandoverJob::Running(Work::Handover) | HandoverJob::Ended(Work::Handover, _), Goal::Plan) => Next::Busy,
        (HandoverJob::Running(Work::Plan), Goal::Plan | Goal::Handover(_)) => Next::Follow,
        (HandoverJob::Running(Work::Handover), Goal::Handover(_)) => beside(*facts),
        (HandoverJob::Ended(Work::Plan, Outcome::Done), Goal::Handover(Approval::Needed)) => planned(*facts),
        (HandoverJob::Ended(Work::Plan, _), Goal::Handover(Approval::Given)) => Next::Begin(Work::Handover),
        (HandoverJob::Ended(Work::Plan, _), Goal::Plan)
        | (HandoverJob::Ended(Work::Plan, Outcome::Failed), Goal::Handover(Approval::Needed))
        | (HandoverJob::Ended(Work::Handover, Outcome::Failed), Goal::Handover(_)) => Next::End(Part::Handover),
        (HandoverJob::Ended(Work::Handover, Outcome::Done), Goal::Handover(_)) => after(*facts),
    }
}

/// A plan is approved before values move. Once Vault rules there is nothing to approve: what is left is finished.
fn begin(approval: Approval, rules: Rules) -> Next {
    match (approval, rules) {
        (Approval::Needed, Rules::Git) => Next::Begin(Work::Plan),
        (Approval::Needed, Rules::Vault | Rules::Settled) | (Approval::Given, _) => Next::Begin(Work::Handover),
    }
}

/// After a plan that nobody approved yet. A log that broke off is no reason to go on without one.
fn planned(facts: Facts) -> Next {
    match (facts.rules, facts.printed) {
        (Rules::Git, Printed::Plan) => Next::Ask,
        (Rules::Git, Printed::Nothing) => Next::NoPlan,
        // Somebody else handed over meanwhile.
        (Rules::Vault | Rules::Settled, Printed::Nothing | Printed::Plan) => Next::Begin(Work::Handover),
    }
}

/// Beside a handover that is under way.
fn beside(facts: Facts) -> Next {
    match (facts.rules, facts.wait, facts.refresh) {
        (Rules::Vault, Wait::ForApplications, Job::None | Job::Ended(_)) => Next::Refresh,
        (Rules::Vault, Wait::ForApplications, Job::Running)
        | (Rules::Vault, Wait::No, Job::None | Job::Running | Job::Ended(_))
        | (Rules::Git | Rules::Settled, Wait::No | Wait::ForApplications, Job::None | Job::Running | Job::Ended(_)) => {
            Next::Follow
        }
    }
}

/// After a handover that ended well.
fn after(facts: Facts) -> Next {
    match (facts.rules, facts.verify) {
        (Rules::Git, Job::None | Job::Running | Job::Ended(_)) => Next::Contradicted,
        // Whether it is settled is verify's to tell, too.
        (Rules::Vault | Rules::Settled, Job::None) => Next::Verify,
        (Rules::Vault | Rules::Settled, Job::Running) => Next::Follow,
        (Rules::Vault | Rules::Settled, Job::Ended(_)) => Next::End(Part::Verify),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTCOMES: [Outcome; 2] = [Outcome::Done, Outcome::Failed];
    const WORKS: [Work; 2] = [Work::Plan, Work::Handover];
    const GOALS: [Goal; 3] = [Goal::Plan, Goal::Handover(Approval::Needed), Goal::Handover(Approval::Given)];
    const RULES: [Rules; 3] = [Rules::Git, Rules::Vault, Rules::Settled];

    fn jobs() -> Vec<Job> {
        [Job::None, Job::Running].into_iter().chain(OUTCOMES.map(Job::Ended)).collect()
    }

    fn handovers() -> Vec<HandoverJob> {
        let ended = WORKS.iter().flat_map(|work| OUTCOMES.map(|outcome| HandoverJob::Ended(*work, outcome)));
        [HandoverJob::None].into_iter().chain(WORKS.map(HandoverJob::Running)).chain(ended).collect()
    }

    fn all() -> Vec<Facts> {
        let mut all = Vec::new();
        for goal in GOALS {
            for handover in handovers() {
                for refresh in jobs() {
                    for verify in jobs() {
                        for rules in RULES {
                            for wait in [Wait::No, Wait::ForApplications] {
                                for printed in [Printed::Nothing, Printed::Plan] {
                                    all.push(Facts { goal, handover, refresh, verify, printed, rules, wait });
                                }
                            }
                        }
                    }
                }
            }
        }
        all
    }

    #[test]
    fn a_handover_begins_only_with_an_approval_or_where_vault_rules_already() {
        for facts in all().iter().filter(|facts| next(facts) == Next::Begin(Work::Handover)) {
            let is_approved = facts.goal == Goal::Handover(Approval::Given);
            assert!(is_approved || facts.goal != Goal::Plan && facts.rules != Rules::Git, "{facts:?}");
        }
    }

    #[test]
    fn only_a_plan_that_was_printed_is_asked_about_and_without_one_nothing_begins_while_git_rules() {
        for facts in all() {
            let is_planned = facts.handover == HandoverJob::Ended(Work::Plan, Outcome::Done)
                && facts.goal == Goal::Handover(Approval::Needed);
            match next(&facts) {
                Next::Ask => assert!(is_planned && facts.printed == Printed::Plan, "{facts:?}"),
                Next::NoPlan => assert!(is_planned && facts.printed == Printed::Nothing, "{facts:?}"),
                Next::Begin(_)
                | Next::Refresh
                | Next::Verify
                | Next::Follow
                | Next::End(_)
                | Next::Busy
                | Next::Contradicted => assert!(!is_planned || facts.rules != Rules::Git, "{facts:?}"),
            }
        }
    }

    #[test]
    fn who_asks_for_a_plan_gets_no_other_job() {
        for facts in all().iter().filter(|facts| facts.goal == Goal::Plan) {
            let expected = match facts.handover {
                HandoverJob::None => Next::Begin(Work::Plan),
                HandoverJob::Running(Work::Plan) => Next::Follow,
                HandoverJob::Ended(Work::Plan, _) => Next::End(Part::Handover),
                HandoverJob::Running(Work::Handover) | HandoverJob::Ended(Work::Handover, _) => Next::Busy,
            };
            assert_eq!(next(facts), expected, "{facts:?}");
        }
    }

    /// Its name is taken as long as it runs: whoever comes follows it.
    #[test]
    fn nothing_is_begun_where_the_same_identity_is_at_work() {
        for facts in all() {
            match next(&facts) {
                Next::Begin(_) => assert!(!matches!(facts.handover, HandoverJob::Running(_)), "{facts:?}"),
                Next::Refresh => assert_ne!(facts.refresh, Job::Running, "{facts:?}"),
                Next::Verify => assert_eq!(facts.verify, Job::None, "{facts:?}"),
                Next::Follow | Next::Ask | Next::NoPlan | Next::End(_) | Next::Busy | Next::Contradicted => {}
            }
        }
    }

    #[test]
    fn a_refresh_runs_beside_the_handover_after_the_mirror_until_it_is_settled() {
        for facts in all().iter().filter(|facts| next(facts) == Next::Refresh) {
            assert_eq!(facts.handover, HandoverJob::Running(Work::Handover), "{facts:?}");
            assert_eq!((facts.rules, facts.wait), (Rules::Vault, Wait::ForApplications), "{facts:?}");
        }
        let waiting = |refresh| Facts {
            goal: Goal::Handover(Approval::Given),
            handover: HandoverJob::Running(Work::Handover),
            refresh,
            verify: Job::None,
            printed: Printed::Nothing,
            rules: Rules::Vault,
            wait: Wait::ForApplications,
        };
        // One that failed is tried again: the handover says how long it waits.
        for refresh in [Job::None, Job::Ended(Outcome::Done), Job::Ended(Outcome::Failed)] {
            assert_eq!(next(&waiting(refresh)), Next::Refresh, "{refresh:?}");
        }
        assert_eq!(next(&waiting(Job::Running)), Next::Follow);
    }

    #[test]
    fn verify_comes_after_a_handover_that_ended_well_and_decides_how_it_ends() {
        for facts in all() {
            let ended_well = facts.handover == HandoverJob::Ended(Work::Handover, Outcome::Done);
            let is_after = ended_well && facts.goal != Goal::Plan;
            match next(&facts) {
                Next::Verify | Next::End(Part::Verify) => {
                    assert!(is_after && facts.rules != Rules::Git, "{facts:?}");
                }
                Next::Contradicted => assert!(is_after && facts.rules == Rules::Git, "{facts:?}"),
                Next::Begin(_)
                | Next::Refresh
                | Next::Follow
                | Next::Ask
                | Next::NoPlan
                | Next::End(_)
                | Next::Busy => {
                    assert!(!is_after || facts.verify == Job::Running, "{facts:?}");
                }
            }
        }
    }

    /// A handover that failed is where it ends: its code says whether anything moved.
    #[test]
    fn a_failed_handover_is_the_end() {
        for facts in all() {
            let failed = facts.handover == HandoverJob::Ended(Work::Handover, Outcome::Failed);
            if failed && facts.goal != Goal::Plan {
                assert_eq!(next(&facts), Next::End(Part::Handover), "{facts:?}");
            }
        }
    }

    /// Where every Job ends at some time, so does the command.
    #[test]
    fn every_way_leads_to_an_end() {
        for start in all() {
            let mut facts = start;
            let mut steps = 0;
            loop {
                steps += 1;
                assert!(steps < 12, "{start:?} goes on at {facts:?}");
                match next(&facts) {
                    Next::Begin(work) => facts.handover = HandoverJob::Running(work),
                    Next::Refresh => facts.refresh = Job::Running,
                    Next::Verify => facts.verify = Job::Running,
                    Next::Ask => facts.goal = Goal::Handover(Approval::Given),
                    Next::Follow => {
                        if let HandoverJob::Running(work) = facts.handover {
                            facts.handover = HandoverJob::Ended(work, Outcome::Done);
                            facts.rules = if work == Work::Handover { Rules::Settled } else { facts.rules };
                        }
                        if facts.verify == Job::Running {
                            facts.verify = Job::Ended(Outcome::Done);
                        }
                        facts.wait = Wait::No;
                    }
                    Next::NoPlan | Next::End(_) | Next::Busy | Next::Contradicted => break,
                }
            }
        }
    }
}
