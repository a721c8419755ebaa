//! The steps as they are told: each with its state, what is left of it, what to type and what follows.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use regent_core::name::{AuthorityName, HandoverId};
use regent_core::retire::{State, Step};
use serde_json::{Value, json};

use crate::cli::ReportOutputArg;
use crate::failure::{Exit, one_line};

/// One run.
pub(super) struct Report {
    pub(super) name: AuthorityName,
    pub(super) handover: HandoverId,
    pub(super) commit: String,
    pub(super) root: String,
    /// Whether `regent.yaml` says that another controller delivers.
    pub(super) others_deliver: bool,
    pub(super) steps: Vec<(Step, State)>,
    pub(super) commands: BTreeMap<Step, Vec<String>>,
}

impl Report {
    /// What is not known comes before what is left.
    pub(super) fn exit(&self) -> Exit {
        let any = |is: fn(&State) -> bool| self.steps.iter().any(|(_, state)| is(state));
        if any(|state| matches!(state, State::Unknown(_))) {
            Exit::Authority
        } else if any(|state| matches!(state, State::ToDo(_) | State::NotYet { .. })) {
            Exit::Underway
        } else {
            Exit::Done
        }
    }

    pub(super) fn to_text(&self, output: ReportOutputArg) -> String {
        match output {
            ReportOutputArg::Human => self.human(),
            ReportOutputArg::Json => format!("{:#}\n", self.json()),
        }
    }

    fn human(&self) -> String {
        let mut text = format!(
            "authority  {}: handed over by {}\ncommit     {} of {}\n",
            self.name, self.handover, self.commit, self.root
        );
        // Writing into a string does not fail.
        for (step, state) in &self.steps {
            let (word, why) = in_words(state);
            let _ = writeln!(text, "\n{word:<8} {:<10} {}", step.word(), what(*step));
            if !why.is_empty() {
                let _ = writeln!(text, "  {}", one_line(&why));
            }
            let left = left(state);
            // Of what is not offered yet a few say what it is about.
            let told = if matches!(state, State::NotYet { .. }) { left.len().min(FEW) } else { left.len() };
            for left in left.iter().take(told) {
                let _ = writeln!(text, "  - {}", one_line(left));
            }
            if told < left.len() {
                let _ = writeln!(text, "  - and {} more", left.len() - told);
            }
            if *step == Step::Delivery && self.others_deliver {
                let _ = writeln!(text, "  {OTHERS}");
            }
            if let State::ToDo(_) = state {
                for command in self.commands_of(*step) {
                    let _ = writeln!(text, "  $ {command}");
                }
                let _ = writeln!(text, "  {}", follows(*step));
            }
        }
        let end = if self.exit() == Exit::Done {
            "nothing of regent is left to take away"
        } else {
            "the same command tells what comes next"
        };
        let _ = writeln!(text, "\n{end}. {VAULT}");
        text
    }

    fn json(&self) -> Value {
        let steps: Vec<Value> = self
            .steps
            .iter()
            .map(|(step, state)| {
                let (word, why) = in_words(state);
                let commands = if matches!(state, State::ToDo(_)) { self.commands_of(*step) } else { &[] };
                json!({
                    "step": step.word(), "what": what(*step), "state": word, "why": Some(why).filter(|why| !why.is_empty()),
                    "left": left(state), "commands": commands, "follows": follows(*step),
                })
            })
            .collect();
        json!({
            "authority": self.name.as_str(), "handover": self.handover.to_string(), "commit": self.commit, "root": self.root,
            "othersDeliver": self.others_deliver, "steps": steps, "exitCode": self.exit() as u8,
        })
    }

    fn commands_of(&self, step: Step) -> &[String] {
        self.commands.get(&step).map(Vec::as_slice).unwrap_or_default()
    }
}

/// A word for the state, and its reason where it has one.
fn in_words(state: &State) -> (&'static str, String) {
    match state {
        State::Done => ("done", String::new()),
        State::Kept(why) => ("stays", why.clone()),
        State::ToDo(_) => ("to do", String::new()),
        State::NotYet { first, .. } => ("not yet", format!("`{}` comes first", first.word())),
        State::Unknown(why) => ("unknown", why.clone()),
    }
}

fn left(state: &State) -> &[String] {
    match state {
        State::ToDo(left) | State::NotYet { left, .. } => left,
        State::Done | State::Kept(_) | State::Unknown(_) => &[],
    }
}

/// So much is told of a step that is not offered yet.
const FEW: usize = 3;

const OTHERS: &str = "regent.yaml says that another controller delivers (`after: { emit: stub }`), which regent does not see: rotate \
                      one value in Vault, and look whether it arrives";

const VAULT: &str =
    "Vault keeps copies and record for good: the copies are the values now, and the record says since when";

fn what(step: Step) -> &'static str {
    match step {
        Step::Closed => "Git itself says that the epoch is over",
        Step::Keys => "no door has a key",
        Step::Guards => "controllers neither prune nor delete the live Secrets",
        Step::Delivery => "what delivers from Vault is live, and plain in Git",
        Step::Files => "no Application's path holds ciphertext",
        Step::Plugin => "Argo CD renders without the plugin",
        Step::Flux => "Flux takes the root from the repository again",
        Step::Sidecar => "regent runs nowhere, beside Argo CD or Flux",
        Step::Lock => "the lock of this authority",
        Step::Accounts => "accounts and rights of this authority",
        Step::Policies => "policies and roles of `manifests/cluster`",
        Step::Witnesses => "Authority and ConfigMaps",
        Step::Schema => "the CRD",
        Step::Home => "the namespace of the accounts",
    }
}

/// What follows from a step.
fn follows(step: Step) -> &'static str {
    match step {
        Step::Closed => "whoever restores an old backup of the cluster finds no way back to Git's values",
        Step::Keys => {
            "`regent handover --retire-keys` does the same. Only who has the offline root, or another copy, opens documents from then on"
        }
        Step::Guards => {
            "they stay for good: Argo CD reads them from the live object, and the Secret is in no answer any more"
        }
        Step::Delivery => {
            "the same objects go on, now as Git's own: regent gives way to them. A root with a kustomization lists the file there"
        }
        Step::Files => {
            "live Secrets stay, by their guards. The next bootstrap begins from what is kept, in a folder that no Application has (another \
             name than `kept` will do), or from the commit that was handed over. A kustomization lists them no more"
        }
        Step::Plugin => {
            "change it where the Application is kept, if that is Git, and leave `exclude` there: what was listed a sync to an older commit \
             does not apply. A file that was renamed or removed before the handover is in no list, and a kustomized root has no such \
             thing: there nobody may sync to a commit from before"
        }
        Step::Flux => {
            "change it where the Kustomization is kept, if that is Git. Live Secrets stay: Flux ignores what a stub stands for, and prunes none \
             of them by their guards. `serve flux` and its entry of the operator's file go last"
        }
        Step::Sidecar => {
            "take it out of where it is kept (Argo CD's kustomization or chart, Flux' folder), or it comes back. A rollback to what the plugin rendered is an \
             error then, unless Argo CD has it cached: that is what the lock refuses"
        }
        Step::Lock => "the API server refuses controllers nothing any more: the label on the Secrets means nothing",
        Step::Accounts => {
            "in Vault the policies and roles of the same names are for nobody any more; what delivers keeps its own"
        }
        Step::Policies => "the Authority may be deleted by any administrator from then on",
        Step::Witnesses => "only `closed` in Git and Vault's record tell that Vault rules",
        Step::Schema => "the API server knows no Authority any more",
        Step::Home => "nothing was left in it",
    }
}
