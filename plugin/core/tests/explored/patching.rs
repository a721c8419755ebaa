//! Flux without artifacts explored: a Kustomization that takes its repository itself. People put the entry that lets go at
//! the end of `spec.patches`, take it away, put it there too early; kustomize-controller builds what its spec says, with what
//! it read of it, however late; the endpoint asks the witness before it gives a key; a runner looks and notes as in
//! [`letting_go`](super::letting_go). The repository stays at one commit: the revision tells nothing here.

use std::collections::{BTreeMap, BTreeSet};

use regent_core::flux::observed::{Kustomization, Scope, SourceRef};
use regent_core::flux::reach::{InlinePatch, Selector};
use regent_core::flux::settle::{Facts, Next, next};
use regent_core::name::ObjectName;
use regent_core::rules::Delivery;
use regent_core::settle::Quiet;
use stateright::{Model, Property};

use super::letting_go::{Said, Stage, application, as_it_says};
use crate::{each_is_needed, explored};

const UNDONE: &str = "no rotated value is undone by Flux without artifacts";
const SETTLED: &str = "once settled, no build of it holds an old value";
const LET_GO: &str = "once settled, its last build had let go";
const CIPHERTEXT: &str = "no ciphertext is applied";
const WAY_OUT: &str = "without artifacts Flux has a way out";

type Invariant = (&'static str, fn(&Patching, &World) -> bool);

const INVARIANTS: [Invariant; 5] = [
    (UNDONE, |_, world| !world.is_undone),
    (SETTLED, |_, world| !(world.settled && world.build.is_some_and(Build::may_apply_values))),
    (LET_GO, |_, world| !world.settled || world.at_settling == Some(Patches::Whole)),
    (CIPHERTEXT, |_, world| !world.is_ciphertext),
    (WAY_OUT, |model, world| model.has_way_out(*world)),
];

const SETTLES: Invariant = ("a handover settled without artifacts", |_, world| world.settled);
const TOO_EARLY: Invariant =
    ("it let go while Git ruled", |_, world| !world.is_vault && world.status.applied == Some(Patches::Whole));

/// What `spec.patches` hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Patches {
    /// Nothing that lets go.
    None,
    /// `decrypt: disabled` alone, where nothing refuses it.
    Half,
    /// All that lets go.
    Whole,
}

/// A build of what the spec said when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Build {
    patches: Patches,
    stage: Stage,
    generation: u8,
}

/// What its status says, and with which patches it was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Status {
    observed: u8,
    applied: Option<Patches>,
    ready: Said,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of the world that a step changes alone")]
struct World {
    is_vault: bool,
    patches: Patches,
    generation: u8,
    status: Status,
    build: Option<Build>,
    /// A runner decided to note it, and did not yet: what was applied last when it looked.
    decided: Option<Patches>,
    settled: bool,
    at_settling: Option<Patches>,
    is_rotated: bool,
    is_undone: bool,
    is_ciphertext: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Witness,
    Commit(Patches),
    Begin,
    Say,
    Decrypt,
    Apply,
    End,
    Unhealthy,
    Crash,
    Look,
    Note,
    Rotate,
}

const STEPS: [Step; 14] = [
    Step::Witness,
    Step::Commit(Patches::None),
    Step::Commit(Patches::Half),
    Step::Commit(Patches::Whole),
    Step::Begin,
    Step::Say,
    Step::Decrypt,
    Step::Apply,
    Step::End,
    Step::Unhealthy,
    Step::Crash,
    Step::Look,
    Step::Note,
    Step::Rotate,
];

/// What is taken away to see an invariant fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// It is settled as soon as Vault rules.
    Waits,
    /// What the spec says is all that is looked at.
    AtRest,
    /// Whatever the spec says, one that is at rest has let go.
    LetsGo,
    /// The endpoint asks the witness before it gives a key.
    Refuses,
    /// The policy of `manifests/flux` takes the patch whole or not at all.
    Policy,
}

struct Patching {
    removed: Option<Rule>,
    reached: Vec<Invariant>,
}

impl Build {
    fn may_apply_values(self) -> bool {
        self.patches == Patches::None && self.stage == Stage::Keys
    }
}

impl Patching {
    /// What the real rule makes of what a runner sees; whether it notes.
    fn notes(&self, world: &World) -> bool {
        if self.removed == Some(Rule::Waits) {
            return true;
        }
        let repository = ObjectName::parse("flux-system/infra").unwrap();
        let application = application(Delivery::Patches(repository));
        let revision = || "main@sha1:0a".to_owned();
        let is_at_rest = self.removed == Some(Rule::AtRest);
        let seen = if self.removed == Some(Rule::LetsGo) { Patches::Whole } else { world.patches };
        let annotations: &[&str] = match seen {
            Patches::None => &[],
            Patches::Half => &["decrypt: disabled"],
            Patches::Whole => &["decrypt: disabled", "ssa: Ignore", "prune: disabled"],
        };
        let kustomization = Kustomization {
            generation: world.generation.into(),
            observed: if is_at_rest { world.generation } else { world.status.observed }.into(),
            attempted: Some(revision()),
            applied: Some(revision()),
            patches: patches(annotations),
            ..as_it_says(&application, if is_at_rest { Said::Yes } else { world.status.ready })
        };
        let (kustomizations, artifacts, skipped) = ([kustomization], BTreeMap::<SourceRef, _>::new(), BTreeSet::new());
        let scope = Scope { applications: &[&application], listed: &[] };
        let (kustomizations, artifacts, quiet) = (&kustomizations, &artifacts, Quiet::Over);
        match next(&Facts { kustomizations, artifacts, scope, skipped: &skipped, quiet }) {
            Next::Note(_) => true,
            Next::Person(_) | Next::Ask { .. } | Next::Wait(_) | Next::Quiet => false,
        }
    }

    /// Whatever happened: a person commits the patch, programs go on, and a run settles it.
    fn has_way_out(&self, mut world: World) -> bool {
        let way = [
            Step::Crash,
            Step::Witness,
            Step::Commit(Patches::Whole),
            Step::Begin,
            Step::Say,
            Step::Decrypt,
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
            Step::Commit(patches) => {
                let is_taken = patches != Patches::Half || self.removed == Some(Rule::Policy);
                (patches != last.patches && is_taken && last.generation < GENERATIONS).then_some(())?;
                (world.patches, world.generation) = (patches, last.generation + 1);
            }
            Step::Begin => {
                last.build.is_none().then_some(())?;
                let (patches, generation) = (last.patches, last.generation);
                world.build = Some(Build { patches, stage: Stage::Began, generation });
            }
            Step::Say => {
                world.build = Some(Build { stage: Stage::Said, ..at(Stage::Began)? });
                world.status.ready = Said::Reconciling;
            }
            Step::Decrypt => {
                let build = at(Stage::Said)?;
                let is_given = match build.patches {
                    Patches::None => !last.is_vault || self.removed == Some(Rule::Refuses),
                    // Nothing is decrypted.
                    Patches::Half | Patches::Whole => true,
                };
                world.build = is_given.then_some(Build { stage: Stage::Keys, ..build });
                if !is_given {
                    world.status.ready = Said::No;
                }
            }
            Step::Apply => {
                let build = at(Stage::Keys)?;
                world.is_undone |= build.may_apply_values() && last.is_rotated;
                world.is_ciphertext |= build.patches == Patches::Half;
                world.build = Some(Build { stage: Stage::Applied, ..build });
            }
            Step::End => {
                let build = at(Stage::Applied)?;
                world.build = None;
                world.status = Status { observed: build.generation, applied: Some(build.patches), ready: Said::Yes };
            }
            Step::Unhealthy => {
                at(Stage::Applied)?;
                (world.build, world.status.ready) = (None, Said::No);
            }
            Step::Crash => world.build = None,
            Step::Look => {
                let notes = last.is_vault && self.notes(last);
                world.decided = last.status.applied.filter(|_| notes);
            }
            Step::Note => {
                (!last.settled).then_some(())?;
                (world.at_settling, world.settled) = (Some(last.decided?), true);
            }
            Step::Rotate => world.is_rotated = last.settled.then_some(true)?,
        }
        (world != *last).then_some(world)
    }
}

/// An entry of `spec.patches` that puts these annotations on the authority's Secrets.
fn patches(annotations: &[&str]) -> Vec<InlinePatch> {
    let lines = annotations.iter().map(|line| format!("    kustomize.toolkit.fluxcd.io/{line}\n"));
    let patch =
        format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: any\n  annotations:\n{}", lines.collect::<String>());
    let target = Selector {
        kind: Some("Secret".to_owned()),
        label_selector: Some("regent.dev/authority=prod".to_owned()),
        ..Selector::default()
    };
    if annotations.is_empty() { Vec::new() } else { vec![InlinePatch { patch, target: Some(target) }] }
}

/// Changes of its spec. The last is kept for whoever lets it go.
const GENERATIONS: u8 = 4;

impl Model for Patching {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            is_vault: false,
            patches: Patches::None,
            generation: 1,
            status: Status { observed: 1, applied: Some(Patches::None), ready: Said::Yes },
            build: None,
            decided: None,
            settled: false,
            at_settling: None,
            is_rotated: false,
            is_undone: false,
            is_ciphertext: false,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Step>) {
        let takes_back = |step: &Step| matches!(step, Step::Commit(Patches::None | Patches::Half));
        let is_kept = |step: &Step| takes_back(step) && world.generation + 1 >= GENERATIONS;
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
const DEPTH: usize = 24;

#[test]
fn without_artifacts_no_late_build_brings_a_value_back() {
    explored("patching", Patching { removed: None, reached: [SETTLES, TOO_EARLY].to_vec() }, DEPTH);
}

/// A rule, and the invariant that falls without it.
const REMOVED: [(Rule, &str); 5] = [
    (Rule::Waits, UNDONE),
    (Rule::AtRest, SETTLED),
    (Rule::LetsGo, LET_GO),
    (Rule::Refuses, SETTLED),
    (Rule::Policy, CIPHERTEXT),
];

#[test]
fn every_rule_of_patching_is_needed() {
    each_is_needed(REMOVED, |rule| Patching { removed: Some(rule), reached: Vec::new() }, DEPTH);
}
