//! Flux explored: kustomize-controller, which may apply whatever it fetched and got its keys for, however late; the
//! witness, the endpoint that asks it and the artifact that follows it; people who suspend and resume; and a runner that
//! looks and, whenever it likes, notes what it decided. There is no lock here: it would hide what is shown.
//!
//! One Kustomization, and the second epoch: it may have applied the stubs of the first, which have the same revision.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regent_core::flux::observed::{Kustomization, Published, Ready, Scope, SourceRef};
use regent_core::flux::settle::{Facts, Next, next};
use regent_core::name::{AuthorityName, ObjectName};
use regent_core::rules::{Delivery, FluxApplication, FluxArtifact, FluxSource, Voucher};
use regent_core::settle::Quiet;
use stateright::{Model, Property};

use crate::{each_is_needed, explored};

const UNDONE: &str = "no rotated value is undone by Flux";
const SETTLED: &str = "once settled, no build holds an old value";
const LET_GO: &str = "once settled, Flux applied the stubs last";
const WAY_OUT: &str = "Flux always has a way out";

type Invariant = (&'static str, fn(&LettingGo, &World) -> bool);

const INVARIANTS: [Invariant; 4] = [
    (UNDONE, |_, world| !world.is_undone),
    (SETTLED, |_, world| !(world.settled && world.build.is_some_and(Build::may_apply_values))),
    (LET_GO, |_, world| !world.settled || world.status.applied == Some(Revision::Stubs)),
    (WAY_OUT, |model, world| model.has_way_out(*world)),
];

const SETTLES: Invariant = ("a handover settled in Flux", |_, world| world.settled);
const WAITS: Invariant = ("a wait for health with the revision before, while Vault rules", |_, world| {
    world.is_vault && world.build.is_some_and(|build| build.revision == Revision::Old && build.stage == Stage::Applied)
});

/// What an artifact holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Revision {
    Old,
    Stubs,
}

/// How far a build is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// It read which revision there is, and did not say so yet.
    Began,
    /// It says that it reconciles.
    Said,
    /// It has the artifact, and the keys of what that holds.
    Keys,
    /// It applied, and waits for health.
    Applied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Build {
    revision: Revision,
    stage: Stage,
    generation: u8,
}

/// What its status says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Status {
    observed: u8,
    attempted: Option<Revision>,
    applied: Option<Revision>,
    ready: Said,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Said {
    Yes,
    No,
    Reconciling,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of the world that a step changes alone")]
struct World {
    is_vault: bool,
    artifact: Revision,
    /// The artifact as the controller has it in its memory.
    known: Revision,
    is_suspended: bool,
    generation: u8,
    status: Status,
    build: Option<Build>,
    /// A runner decided to note it, and did not yet.
    decided: bool,
    settled: bool,
    is_rotated: bool,
    is_undone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Witness,
    Publish,
    Learn,
    Begin,
    Say,
    Fetch,
    Apply,
    End,
    Unhealthy,
    Crash,
    Suspend,
    Resume,
    Look,
    Note,
    Rotate,
}

const STEPS: [Step; 15] = [
    Step::Witness,
    Step::Publish,
    Step::Learn,
    Step::Begin,
    Step::Say,
    Step::Fetch,
    Step::Apply,
    Step::End,
    Step::Unhealthy,
    Step::Crash,
    Step::Suspend,
    Step::Resume,
    Step::Look,
    Step::Note,
    Step::Rotate,
];

/// What is taken away to see an invariant fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// It is settled as soon as Vault rules.
    Waits,
    /// The revision that was applied last is all that is looked at.
    AtRest,
    /// What is applied is compared with what is published, whatever that holds.
    Stubs,
    /// The endpoint asks the witness before it gives a key.
    Refuses,
}

struct LettingGo {
    removed: Option<Rule>,
    reached: Vec<Invariant>,
}

/// The one Kustomization, as the operator's file has it.
pub(crate) fn application(delivery: Delivery) -> FluxApplication {
    FluxApplication {
        authority: AuthorityName::parse("prod").unwrap(),
        kustomization: ObjectName::parse("team/app").unwrap(),
        delivery,
        token_secret: None,
    }
}

/// As it is read, with the conditions that it says.
pub(crate) fn as_it_says(application: &FluxApplication, says: Said) -> Kustomization {
    Kustomization {
        name: application.kustomization.clone(),
        is_suspended: false,
        generation: 0,
        observed: 0,
        source: SourceRef::of(application),
        token_secret: None,
        service_account: None,
        is_remote: false,
        timeout: Duration::from_secs(30),
        retry: Duration::from_secs(30),
        attempted: None,
        applied: None,
        origin: None,
        ready: match says {
            Said::Yes => Ready::Yes,
            Said::No => Ready::No("HealthCheckFailed".to_owned()),
            Said::Reconciling => Ready::Unknown,
        },
        is_reconciling: says != Said::Yes,
        history: Vec::new(),
        inventory: Vec::new(),
        patches: Vec::new(),
    }
}

impl Build {
    fn may_apply_values(self) -> bool {
        self.revision == Revision::Old && self.stage == Stage::Keys
    }
}

impl LettingGo {
    /// What the real rule makes of what a runner sees; whether it notes.
    fn notes(&self, world: &World) -> bool {
        if self.removed == Some(Rule::Waits) {
            return true;
        }
        let application = application(Delivery::Artifact(FluxArtifact {
            name: "app".to_owned(),
            source: FluxSource::Watch,
            voucher: Voucher::Nobody,
        }));
        let source = SourceRef::of(&application);
        let text = |revision: Revision| {
            let named = match revision {
                Revision::Old if self.removed == Some(Rule::Stubs) => "handover@sha256:0a",
                Revision::Old => "bootstrap@sha256:0a",
                Revision::Stubs => "handover@sha256:0b",
            };
            named.to_owned()
        };
        let status = world.status;
        let (mut ready, mut observed, mut attempted) = (status.ready, status.observed, status.attempted);
        if self.removed == Some(Rule::AtRest) {
            (ready, observed, attempted) = (Said::Yes, world.generation, status.applied);
        }
        let kustomization = Kustomization {
            is_suspended: world.is_suspended,
            generation: world.generation.into(),
            observed: observed.into(),
            attempted: attempted.map(text),
            applied: status.applied.map(text),
            ..as_it_says(&application, ready)
        };
        let published = Published { revision: Some(text(world.artifact)), ..Published::default() };
        let (kustomizations, artifacts, skipped) =
            ([kustomization], BTreeMap::from([(source, published)]), BTreeSet::new());
        let scope = Scope { applications: &[&application], listed: &[] };
        let (kustomizations, artifacts, quiet) = (&kustomizations, &artifacts, Quiet::Over);
        match next(&Facts { kustomizations, artifacts, scope, skipped: &skipped, quiet }) {
            Next::Note(_) => true,
            Next::Person(_) | Next::Ask { .. } | Next::Wait(_) | Next::Quiet => false,
        }
    }

    fn gives_keys(&self, world: &World, revision: Revision) -> bool {
        match revision {
            Revision::Stubs => true,
            Revision::Old => !world.is_vault || self.removed == Some(Rule::Refuses),
        }
    }

    /// Whatever happened: people resume it, programs go on, and a run settles it.
    fn has_way_out(&self, mut world: World) -> bool {
        let way = [
            Step::Crash,
            Step::Resume,
            Step::Witness,
            Step::Publish,
            Step::Learn,
            Step::Begin,
            Step::Say,
            Step::Fetch,
            Step::Apply,
            Step::End,
            Step::Look,
            Step::Note,
        ];
        for step in way {
            world = self.after(&world, step).unwrap_or(world);
        }
        world.settled
    }

    fn after(&self, last: &World, step: Step) -> Option<World> {
        let mut world = *last;
        let at = |stage: Stage| last.build.filter(|build| build.stage == stage);
        match step {
            Step::Witness => world.is_vault = true,
            Step::Publish => world.artifact = if world.is_vault { Revision::Stubs } else { return None },
            Step::Learn => world.known = world.artifact,
            Step::Begin => {
                (last.build.is_none() && !last.is_suspended).then_some(())?;
                let (revision, generation) = (last.known, last.generation);
                world.build = Some(Build { revision, stage: Stage::Began, generation });
            }
            Step::Say => {
                world.build = Some(Build { stage: Stage::Said, ..at(Stage::Began)? });
                world.status.ready = Said::Reconciling;
            }
            Step::Fetch => {
                let build = at(Stage::Said)?;
                world.status.attempted = Some(build.revision);
                if self.gives_keys(last, build.revision) {
                    world.build = Some(Build { stage: Stage::Keys, ..build });
                } else {
                    world.build = None;
                    world.status.ready = Said::No;
                }
            }
            Step::Apply => {
                let build = at(Stage::Keys)?;
                world.is_undone |= build.may_apply_values() && last.is_rotated;
                world.build = Some(Build { stage: Stage::Applied, ..build });
            }
            Step::End => {
                let build = at(Stage::Applied)?;
                world.build = None;
                let (attempted, applied) = (last.status.attempted, Some(build.revision));
                world.status = Status { observed: build.generation, attempted, applied, ready: Said::Yes };
            }
            Step::Unhealthy => {
                at(Stage::Applied)?;
                (world.build, world.status.ready) = (None, Said::No);
            }
            Step::Crash => world.build = None,
            Step::Suspend | Step::Resume => {
                let is_suspended = step == Step::Suspend;
                (last.is_suspended != is_suspended && last.generation < GENERATIONS).then_some(())?;
                world.is_suspended = is_suspended;
                world.generation += 1;
            }
            Step::Look => world.decided = last.is_vault && self.notes(last),
            Step::Note => world.settled = last.decided.then_some(true)?,
            Step::Rotate => world.is_rotated = last.settled.then_some(true)?,
        }
        (world != *last).then_some(world)
    }
}

/// Changes of its spec. The last is kept for whoever resumes it.
const GENERATIONS: u8 = 4;

impl Model for LettingGo {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let status = |applied| Status { observed: 1, attempted: Some(Revision::Old), applied, ready: Said::Yes };
        let begun = World {
            is_vault: false,
            artifact: Revision::Old,
            known: Revision::Old,
            is_suspended: false,
            generation: 1,
            status: status(Some(Revision::Old)),
            build: None,
            decided: false,
            settled: false,
            is_rotated: false,
            is_undone: false,
        };
        // It was suspended through the whole epoch, and goes on now.
        let of_the_epoch_before =
            World { status: Status { attempted: Some(Revision::Stubs), ..status(Some(Revision::Stubs)) }, ..begun };
        vec![begun, of_the_epoch_before]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Step>) {
        let is_kept = |step: &Step| *step == Step::Suspend && world.generation + 1 >= GENERATIONS;
        actions.extend(STEPS.into_iter().filter(|step| !is_kept(step)));
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        self.after(last, step)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let always = INVARIANTS.into_iter().map(|(name, holds)| Property::always(name, holds));
        always.chain(self.reached.iter().map(|(name, reached)| Property::sometimes(name, *reached))).collect()
    }
}

/// Bound of the exploration: states on a path.
const DEPTH: usize = 22;

#[test]
fn no_late_build_of_flux_brings_a_value_back() {
    explored("letting go", LettingGo { removed: None, reached: [SETTLES, WAITS].to_vec() }, DEPTH);
}

/// A rule, and the invariant that falls without it.
const REMOVED: [(Rule, &str); 4] =
    [(Rule::Waits, UNDONE), (Rule::AtRest, SETTLED), (Rule::Stubs, LET_GO), (Rule::Refuses, SETTLED)];

#[test]
fn every_rule_of_letting_go_is_needed() {
    each_is_needed(REMOVED, |rule| LettingGo { removed: Some(rule), reached: Vec::new() }, DEPTH);
}
