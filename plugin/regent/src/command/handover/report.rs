//! What a person, or a program, is told of a handover: names, paths and ids, and nothing of a value.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use regent_core::evidence::ListedClass;
use regent_core::flux;
use regent_core::handover::decide::Step;
use regent_core::handover::plan::{Entry, Existing, Plan, State};
use regent_core::handover::record::Marked;
use regent_core::name::{FilePath, SecretName};
use regent_core::settle::{Lacking, Left, Without};
use serde_json::json;

use super::mirror::Keeper;
use crate::cli::ReportOutputArg;
use crate::failure::one_line;
use crate::output;
use crate::source::git::LastChange;

/// A plan, before anybody approves it.
pub(super) struct Planned<'a> {
    pub(super) plan: &'a Plan,
    /// The last commit that changed each file.
    pub(super) changes: &'a BTreeMap<FilePath, LastChange>,
    pub(super) keeper: &'a Keeper,
}

impl Planned<'_> {
    pub(super) fn to_text(&self, output: ReportOutputArg) -> String {
        match output {
            ReportOutputArg::Human => self.human(),
            ReportOutputArg::Json => self.json(),
        }
    }

    fn human(&self) -> String {
        let Plan { name, epoch, site, commit, root, .. } = self.plan;
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["SECRET", "CLASS", "KEYS", "IN VAULT", "STATE", "LAST CHANGE"]);
        for entry in &self.plan.entries {
            let change = self.changes.get(&entry.file);
            table.add_row([
                name_of(entry),
                class(entry).to_owned(),
                one_line(&entry.keys.join(",")),
                entry.path.clone().unwrap_or_else(|| "-".to_owned()),
                state(entry).to_owned(),
                change.map(|change| one_line(&format!("{} {}", change.date, change.author))).unwrap_or_default(),
            ]);
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        format!(
            "authority  {name}, epoch {epoch}\nfrom       commit {commit}, {}\nto         {}\nwitnesses  {}\n\n{}\n\nplan       {}\n",
            root.as_deref().unwrap_or("."),
            site.vault.place,
            self.keeper.name(),
            lines.join("\n"),
            self.plan.digest()
        )
    }

    fn json(&self) -> String {
        let Plan { name, epoch, site, commit, root, tree_digest, .. } = self.plan;
        let place = &site.vault.place;
        let entries = self.plan.entries.iter().map(|entry| {
            let change = self.changes.get(&entry.file);
            json!({
                "name": entry.name.to_string(), "kind": entry.kind, "class": class(entry), "file": entry.file.as_str(),
                "keys": entry.keys, "path": entry.path, "state": state(entry),
                "changed": change.map(|change| &change.date), "author": change.map(|change| &change.author),
            })
        });
        let plan = json!({
            "authority": name.as_str(), "epoch": epoch.get(), "commit": commit, "root": root, "treeDigest": tree_digest,
            "vault": { "address": place.address, "namespace": place.namespace, "mount": place.mount, "prefix": place.prefix },
            "documents": entries.collect::<Vec<_>>(), "digest": self.plan.digest(),
        });
        format!("{plan}\n")
    }
}

fn name_of(entry: &Entry) -> String {
    if entry.kind == "Secret" { entry.name.to_string() } else { format!("{} {}", entry.kind, entry.name) }
}

fn class(entry: &Entry) -> &'static str {
    match entry.class {
        ListedClass::Handover => "handover",
        ListedClass::Permanent => "permanent",
    }
}

fn state(entry: &Entry) -> &'static str {
    match (entry.state, entry.existing) {
        (State::New, Existing::Stops | Existing::Stands) => "new",
        (State::Equal, Existing::Stops | Existing::Stands) => "equal",
        (State::Differs, Existing::Stops) => "differs",
        (State::Differs, Existing::Stands) => "differs, Vault's stands",
        (State::Deleted, Existing::Stops | Existing::Stands) => "deleted",
        (State::NotCopied, Existing::Stops | Existing::Stands) => "not copied",
    }
}

/// What a run would do that has only something to finish.
pub(super) fn next(step: &Step, output: ReportOutputArg) -> String {
    let (what, in_words, id) = match step {
        Step::Copy(_) | Step::NotYet => return String::new(),
        Step::Mirror(marked) | Step::Complete(marked) => {
            ("mirror", "recorded, not mirrored: its witnesses would be written", &marked.record.handover)
        }
        Step::Adopt(amendment) => ("adopt", "it would be adopted for this cluster", &amendment.handover),
        Step::Rebind(_, amendment) => ("rebind", "this Vault would be accepted as its own", &amendment.handover),
        Step::Done(marked) => return done(marked, output),
    };
    match output {
        ReportOutputArg::Human => format!("handover   {id}\nnext       {in_words}\n"),
        ReportOutputArg::Json => format!("{}\n", json!({ "handover": id.to_string(), "next": what })),
    }
}

/// A witness says so now.
pub(super) fn mirrored(marked: &Marked, output: ReportOutputArg) -> String {
    let record = &marked.record;
    match output {
        ReportOutputArg::Human => format!("mirrored   Vault rules epoch {} of `{}`\n", record.epoch, record.name),
        ReportOutputArg::Json => format!("{}\n", json!({ "mirrored": record.handover.to_string() })),
    }
}

/// Who rules.
pub(super) fn done(marked: &Marked, output: ReportOutputArg) -> String {
    let record = &marked.record;
    let (copies, documents) = (record.records.len(), record.documents.len());
    match output {
        ReportOutputArg::Human => format!(
            "handover   {}\nrules      Vault rules epoch {} of `{}`: {copies} copies, {documents} documents\n",
            record.handover, record.epoch, record.name,
        ),
        ReportOutputArg::Json => format!(
            "{}\n",
            json!({
                "authority": record.name.as_str(), "epoch": record.epoch.get(), "rules": "vault",
                "handover": record.handover.to_string(), "copies": copies, "documents": documents,
            })
        ),
    }
}

/// It was settled in this run.
pub(super) fn settled(marked: &Marked, message: &str, output: ReportOutputArg) -> String {
    let id = marked.record.handover.to_string();
    match output {
        ReportOutputArg::Human => format!("settled    {message}\n"),
        ReportOutputArg::Json => format!("{}\n", json!({ "settled": id, "message": message })),
    }
}

/// The end: the line that Git should remember it by.
pub(super) fn closed(marked: &Marked, output: ReportOutputArg) -> String {
    let id = marked.record.handover.to_string();
    match output {
        ReportOutputArg::Human => {
            format!("\ncommit this to regent.yaml, so that Git itself says that the epoch is over:\n  closed: {id}\n")
        }
        ReportOutputArg::Json => format!("{}\n", json!({ "closed": id })),
    }
}

/// What was seen of the affected Applications, and what became of what they had cached.
pub(super) fn seen(applications: usize, left: &Left, disarmed: &str) -> String {
    let is_seen = !left.without.contains(&Without::Outcome);
    let counted = match applications {
        0 => "no Application renders the root".to_owned(),
        1 if !is_seen => "1 Application renders the root".to_owned(),
        more if !is_seen => format!("{more} Applications render the root"),
        1 => "1 Application was compared with stubs".to_owned(),
        more => format!("{more} Applications were compared with stubs"),
    };
    if disarmed.is_empty() { counted } else { format!("{counted}; {disarmed}") }
}

/// What was seen of Flux.
pub(super) fn seen_in_flux(seen: &flux::settle::Seen) -> String {
    match seen.let_go.len() {
        0 => "no Kustomization takes the root from regent".to_owned(),
        1 => "1 Kustomization let go".to_owned(),
        more => format!("{more} Kustomizations let go"),
    }
}

/// What the condition says: first what is left behind, which `regent status` repeats.
pub(super) fn settled_message(left: &Left, seen: &str) -> String {
    let applications = left.skipped.iter().map(ToString::to_string);
    let kustomizations = left.skipped_kustomizations.iter().map(|name| format!("Kustomization {name}"));
    let skipped: Vec<String> = applications.chain(kustomizations).collect();
    let without: Vec<&str> = left.without.iter().map(|proof| proof.word()).collect();
    let parts = [
        (!skipped.is_empty()).then(|| format!("left behind: {}", skipped.join(", "))),
        (!without.is_empty()).then(|| format!("without {}", without.join(", "))),
        (!left.lacking.is_empty()).then(|| awaited(&left.lacking)),
        Some(seen.to_owned()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// What is waited for: a sentence a person, a line of JSON an Application elsewhere.
pub(super) fn waiting(lacking: &[Lacking]) {
    if std::io::stderr().is_terminal() {
        return output::note(format_args!("waiting for {}", awaited(lacking)));
    }
    let mut stderr = std::io::stderr().lock();
    for Lacking { name, lacks } in lacking {
        let lacks: Vec<String> = lacks.iter().map(|lack| one_line(&lack.to_string())).collect();
        // Nobody who looks does not stop the work.
        let _ = writeln!(stderr, "{}", json!({ "waiting": name.to_string(), "for": lacks }));
    }
}

/// Applications and what they lack, the first few of them.
pub(super) fn awaited(lacking: &[Lacking]) -> String {
    first_few(lacking)
}

fn first_few(lacking: &[impl ToString]) -> String {
    const TOLD: usize = 3;
    let mut told: Vec<String> = lacking.iter().take(TOLD).map(|lacking| bounded(&lacking.to_string())).collect();
    if lacking.len() > TOLD {
        told.push(format!("and {} more", lacking.len() - TOLD));
    }
    told.join("; ")
}

/// The same of Kustomizations.
pub(super) fn waiting_in_flux(lacking: &[flux::settle::Lacking]) {
    if std::io::stderr().is_terminal() {
        return output::note(format_args!("waiting for {}", awaited_in_flux(lacking)));
    }
    let mut stderr = std::io::stderr().lock();
    for flux::settle::Lacking { name, lacks } in lacking {
        let lacks: Vec<String> = lacks.iter().map(|lack| one_line(&lack.to_string())).collect();
        // Nobody who looks does not stop the work.
        let _ = writeln!(stderr, "{}", json!({ "waiting": format!("Kustomization {name}"), "for": lacks }));
    }
}

/// Kustomizations and what they lack, the first few of them.
pub(super) fn awaited_in_flux(lacking: &[flux::settle::Lacking]) -> String {
    first_few(lacking)
}

/// What is waited for where nobody lacks anything.
pub(super) fn quiet(left: Duration) -> String {
    format!("waiting {} s, until no generation that began before can be under way", left.as_secs() + 1)
}

/// What a controller says, in one line that is not too long; its own words stand before regent's.
pub(super) fn bounded(text: &str) -> String {
    /// What is to be committed without an artifact has some 300 by itself.
    const LONGEST: usize = 500;
    let line = one_line(text);
    if line.chars().count() <= LONGEST { line } else { line.chars().take(LONGEST).chain("..".chars()).collect() }
}

/// `[#####...............]`: how much of the whole is done.
fn bar(done: usize, all: usize) -> String {
    const WIDTH: usize = 30;
    let filled = (done * WIDTH).checked_div(all).unwrap_or(WIDTH).min(WIDTH);
    format!("[{}{}]", "#".repeat(filled), ".".repeat(WIDTH - filled))
}

/// How far the copies are: a bar that is written over on a terminal, a line of JSON each elsewhere.
pub(super) struct Progress {
    all: usize,
    done: AtomicUsize,
    terminal: bool,
}

impl Progress {
    pub(super) fn of(all: usize) -> Self {
        Self { all, done: AtomicUsize::new(0), terminal: std::io::stderr().is_terminal() }
    }

    pub(super) fn one(&self, name: &SecretName) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let mut stderr = std::io::stderr().lock();
        // Nobody who looks does not stop the work.
        let _ = if self.terminal {
            write!(stderr, "\rcopying {} {done} of {}", bar(done, self.all), self.all).and_then(|()| stderr.flush())
        } else {
            writeln!(stderr, "{}", json!({ "copied": name.to_string(), "done": done, "of": self.all }))
        };
    }

    pub(super) fn over(&self) {
        if self.terminal {
            let _ = writeln!(std::io::stderr());
        }
    }
}
