//! `regent status`: who rules, what each document is, and what opens what. Nothing is decrypted.

mod account;
mod cluster;
mod flux;
mod report;

pub(super) use self::report::secret_name;
use super::render::place_of;
use super::root::built_on_disk;
use crate::cli::{ReportOutputArg, StatusArgs};
use crate::failure::{Exit, Failure, one_line};
use crate::source::bootstrap_of;
use crate::source::{self, Bounds, Gathered};
use crate::witnesses::{self, Store};
use crate::{config, keys, output};
use comfy_table::{ContentArrangement, Table, presets};
use regent_core::Refusal;
use regent_core::authority::{self, Mode};
use regent_core::bootstrap::Bootstrap;
use regent_core::evidence::{Evidence, Holder, Mirror};
use regent_core::phase::{Live, Phase};
use regent_core::render::Class;
use regent_core::rules::ConfigLimits;
use regent_core::survey::{Sealing, SurveyedDocument, SurveyedFile, survey};
use regent_sops::Limits;
use serde_json::{Value, json};
use std::io::{IsTerminal as _, stdout};
use std::process::ExitCode;

pub(super) fn run(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let limits = Limits::default();
    let mut gathered = source::dir::gather(&args.dir, Bounds::of(&ConfigLimits::default()))?;
    let bootstrap = bootstrap_of(&gathered.files)?;
    let config = args.store.config.as_deref().map(config::load).transpose()?;
    let store = config::store(&args.store, config.as_ref());
    let not_followed = match (&config, &store) {
        (Some(config), Some(store)) => built_on_disk(&mut gathered, &args.dir, config, store).err(),
        (Some(_), None) | (None, _) => None,
    };
    let identities = keys::load(&args.keys)?;
    let (files, problems) = survey(&gathered.files, bootstrap.as_ref(), &identities.keyring, &limits);
    // Where a build was not followed, what the files say for themselves is beside the point.
    let problems: Vec<String> = match not_followed {
        Some(failure) => vec![failure.to_string()],
        None => problems.iter().map(ToString::to_string).collect(),
    };
    let asked = match (&store, &bootstrap) {
        (Some(Store::Cluster(access)), Some(bootstrap)) => {
            let facts = cluster::gather(args, access, config.as_ref(), bootstrap, &files)?;
            Some((facts.evidence.clone(), Some(facts)))
        }
        (Some(Store::Folder(_)) | None, _) if args.target_context.is_some() => {
            return Err(Failure::Usage("`--target-context` is for an authority in a cluster".to_owned()));
        }
        (Some(store), Some(bootstrap)) => Some((witnesses::ask(store, &bootstrap.name, bootstrap.epoch)?, None)),
        _nobody_to_ask => None,
    };
    let (evidence, facts) = asked.map_or((None, None), |(evidence, facts)| (Some(evidence), facts));
    // Without a cluster nobody looks into one.
    let live = facts.as_ref().map_or(Live::Unknown, report::live_of);
    let authority = Authority::of(&gathered, bootstrap, store, (evidence.as_ref(), live));
    let cluster = facts.zip(authority.bootstrap.as_ref()).map(|(facts, bootstrap)| {
        let judged = (authority.phase, authority.ruled.clone());
        report::Report::of(facts, bootstrap, gathered.root.clone(), judged, &files, &problems)
    });
    let report = Report {
        authority,
        cluster,
        rows: files.iter().flat_map(rows).collect(),
        problems,
        identities: identities.keyring.describe(),
        set_aside: identities.set_aside().to_vec(),
    };
    output::text(&match args.output {
        ReportOutputArg::Human => report.for_people(stdout().is_terminal()),
        ReportOutputArg::Json => format!("{:#}\n", report.as_json()),
    })?;
    Ok(if args.exit_code { report.exit() } else { report.told() }.into())
}

/// Everything that is told.
struct Report {
    authority: Authority,
    /// What a cluster was asked.
    cluster: Option<report::Report>,
    rows: Vec<Row>,
    /// What is wrong with the folder itself.
    problems: Vec<String>,
    identities: Vec<String>,
    set_aside: Vec<String>,
}

/// Who rules, as far as is known.
struct Authority {
    bootstrap: Option<Bootstrap>,
    store: Option<Store>,
    /// K; `None` where no store was asked.
    holder: Option<Holder>,
    phase: Option<Phase>,
    ruled: Ruled,
}

/// What the rules say of the root.
#[derive(Clone)]
enum Ruled {
    /// P4.
    Values,
    /// P2.
    Stubs,
    /// No authority was asked.
    Unasked,
    /// A rule refuses it.
    Refused(Failure),
}

impl Ruled {
    /// The rule that counts, and what it means here.
    fn in_words(&self) -> (&'static str, String) {
        match self {
            Ruled::Values => ("P4", "values are rendered, guarded".to_owned()),
            Ruled::Stubs => ("P2", "no value is rendered".to_owned()),
            Ruled::Unasked => ("unasked", "no authority was asked; `--store` or `--config` names it".to_owned()),
            Ruled::Refused(failure) => (failure.code().entry().name, failure.to_string()),
        }
    }
}

/// One document.
struct Row {
    file: String,
    object: String,
    class: &'static str,
    /// Whether its values go to Vault; `None` for what has no class of its own.
    vault: Option<bool>,
    why: String,
    opens: &'static str,
    recipients: Vec<(String, bool)>,
}

impl Authority {
    fn of(
        gathered: &Gathered,
        bootstrap: Option<Bootstrap>,
        store: Option<Store>,
        (evidence, live): (Option<&Evidence>, Live),
    ) -> Self {
        let asked = bootstrap.as_ref().zip(evidence);
        let holder = asked.map(|(_, evidence)| evidence.holder());
        let phase = asked.zip(holder.as_ref()).and_then(|((_, evidence), holder)| Phase::of(holder, evidence, live));
        let ruled = match (asked, &holder) {
            (Some((bootstrap, evidence)), Some(holder)) => {
                let place = place_of(gathered, Some(evidence));
                match authority::rule(bootstrap, &place, holder, evidence.documents()) {
                    Ok(ruling) => match ruling.mode() {
                        Mode::Values => Ruled::Values,
                        Mode::Stubs(_) => Ruled::Stubs,
                        Mode::Unasked => Ruled::Unasked,
                    },
                    Err(refusal) => Ruled::Refused(Refusal::from(refusal).into()),
                }
            }
            _nobody_asked => Ruled::Unasked,
        };
        Self { bootstrap, store, holder, phase, ruled }
    }

    /// Name and value, a line each.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        match &self.bootstrap {
            Some(bootstrap) => {
                lines.push(("authority", bootstrap.name.to_string()));
                let mut git = vec![format!("epoch {}", bootstrap.epoch)];
                git.extend(bootstrap.supersedes.as_ref().map(|handover| format!("supersedes {handover}")));
                let closed = bootstrap.closed.as_ref().filter(|_| bootstrap.closed_counts());
                git.extend(closed.map(|handover| format!("closed by {handover}")));
                lines.push(("regent.yaml", git.join(", ")));
            }
            None => lines.push(("regent.yaml", "none: a folder of manifests".to_owned())),
        }
        if let Some(store) = &self.store {
            lines.push(("store", store.to_string()));
        }
        if let Some(holder) = &self.holder {
            lines.push(("witnesses", holder_in_words(holder)));
        }
        if let Some(phase) = self.phase {
            lines.push(("phase", format!("{} {}: {}", phase.number(), phase.name(), phase.meaning())));
        }
        let (code, meaning) = self.ruled.in_words();
        lines.push(("rule", format!("{code}: {meaning}")));
        lines
    }
}

fn holder_in_words(holder: &Holder) -> String {
    match holder {
        Holder::Vault { mirror: Mirror::Incomplete, .. } => format!("{holder}, mirror incomplete"),
        Holder::Vault { mirror: Mirror::Complete, .. } | Holder::Git { .. } | Holder::None => holder.to_string(),
        Holder::Disagree(why) | Holder::Unreadable(why) => format!("{holder}: {why}"),
    }
}

fn rows(file: &SurveyedFile) -> Vec<Row> {
    let name = file.file.to_string();
    let recipients: Vec<(String, bool)> = match &file.sealing {
        Sealing::Sops { groups, .. } => {
            groups.iter().flatten().map(|recipient| (one_line(&recipient.name), recipient.held)).collect()
        }
        Sealing::Clear | Sealing::Whole => Vec::new(),
    };
    let opens = match (&file.sealing, file.sealing.opens()) {
        (Sealing::Clear, _) => "",
        (Sealing::Sops { .. } | Sealing::Whole, Some(true)) => "yes",
        (Sealing::Sops { .. } | Sealing::Whole, Some(false)) => "no",
        (Sealing::Sops { .. } | Sealing::Whole, None) => "?",
    };
    let row = |object: String, (class, vault), why: String| Row {
        file: name.clone(),
        object: one_line(&object),
        class,
        vault,
        why: one_line(&why),
        opens,
        recipients: recipients.clone(),
    };
    match &file.documents {
        Err(problem) => vec![row(String::new(), REFUSED, problem.to_string())],
        Ok(_) if matches!(file.sealing, Sealing::Whole) => {
            vec![row(String::new(), ("?", None), "encrypted as a whole: its names show when it is opened".to_owned())]
        }
        Ok(documents) => documents
            .iter()
            .map(|SurveyedDocument { identity, class }| {
                let object = identity.as_ref().map(ToString::to_string).unwrap_or_default();
                match class {
                    Ok((class, why)) => row(object, class_name(*class), (*why).to_owned()),
                    Err(problem) => row(object, REFUSED, problem.to_string()),
                }
            })
            .collect(),
    }
}

/// What stands in place of a class.
const REFUSED: (&str, Option<bool>) = ("refused", None);

/// The class, and whether the values go to Vault.
fn class_name(class: Class) -> (&'static str, Option<bool>) {
    match class {
        Class::Handover => ("handover", Some(true)),
        Class::Permanent { vault } => ("permanent", Some(vault)),
        Class::Plain => ("plain", None),
    }
}

impl Report {
    /// How a check ends.
    fn exit(&self) -> Exit {
        if let Some(cluster) = &self.cluster {
            return cluster.exit();
        }
        match (&self.authority.ruled, &self.authority.holder) {
            (Ruled::Refused(failure), _) => failure.exit(),
            (Ruled::Unasked, _) => Exit::Authority,
            (Ruled::Stubs, Some(Holder::Vault { mirror: Mirror::Incomplete, .. })) => Exit::Underway,
            (Ruled::Values | Ruled::Stubs, _) => {
                let refused = self.rows.iter().any(|row| row.class == REFUSED.0) || !self.problems.is_empty();
                if refused { Exit::Refused } else { Exit::Done }
            }
        }
    }

    /// How a report ends that is no check: with 0, unless nobody could tell it who rules.
    fn told(&self) -> Exit {
        match &self.cluster {
            Some(cluster) if !cluster.could_tell() => Exit::Authority,
            Some(_) | None => Exit::Done,
        }
    }

    fn for_people(&self, terminal: bool) -> String {
        if let (Some(cluster), Some(store)) = (&self.cluster, &self.authority.store) {
            return cluster.for_people(&store.to_string());
        }
        let mut lines = self.authority.lines();
        let identities = if self.identities.is_empty() { "none".to_owned() } else { self.identities.join(", ") };
        lines.push(("identities", identities));
        lines.extend(self.set_aside.iter().map(|problem| ("", problem.clone())));
        lines.extend(self.problems.iter().map(|problem| ("refused", problem.clone())));
        let lines: Vec<String> =
            lines.iter().map(|(name, value)| format!("{name:<12} {}\n", one_line(value))).collect();
        let mut text = lines.concat();
        let mut table = Table::new();
        // Plain columns are for `awk` and for eyes: no frame, nothing cut or folded.
        if terminal {
            table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        }
        table.set_header(["FILE", "OBJECT", "CLASS", "VAULT", "WHY", "OPENS", "RECIPIENTS"]);
        for row in &self.rows {
            let recipients: Vec<String> = row
                .recipients
                .iter()
                .map(|(name, held)| if *held { format!("+{}", short(name)) } else { short(name) })
                .collect();
            table.add_row([
                row.file.as_str(),
                &row.object,
                row.class,
                match row.vault {
                    Some(true) => "yes",
                    Some(false) => "no",
                    None => "",
                },
                &row.why,
                row.opens,
                &recipients.join(" "),
            ]);
        }
        if !self.rows.is_empty() {
            text.push('\n');
            for line in table.to_string().lines() {
                text.push_str(line.trim_end());
                text.push('\n');
            }
            text.push_str(
                "\nOPENS: by public parts, nothing was decrypted; + marks recipients whose identity is at hand\n",
            );
        }
        text
    }

    fn as_json(&self) -> Value {
        let Authority { bootstrap, store, holder, phase, .. } = &self.authority;
        let answer = self.authority.ruled.in_words();
        let mut json = json!({
            "authority": bootstrap.as_ref().map(|bootstrap| bootstrap.name.to_string()),
            "git": bootstrap.as_ref().map(|bootstrap| json!({
                "epoch": bootstrap.epoch.get(),
                "supersedes": bootstrap.supersedes.as_ref().map(ToString::to_string),
                "closed": bootstrap.closed.as_ref().filter(|_| bootstrap.closed_counts()).map(ToString::to_string),
            })),
            "store": store.as_ref().map(ToString::to_string),
            "witnesses": holder.as_ref().map(holder_as_json),
            "phase": phase.map(|phase| json!({
                "number": phase.number(), "name": phase.name(), "meaning": phase.meaning(),
            })),
            "rule": { "code": answer.0, "meaning": answer.1 },
            "identities": self.identities,
            "setAside": self.set_aside,
            "problems": self.problems,
            "documents": self.rows.iter().map(|row| json!({
                "file": row.file,
                "object": Some(&row.object).filter(|object| !object.is_empty()),
                "class": row.class,
                "vault": row.vault,
                "why": row.why,
                "opens": match row.opens { "yes" => json!(true), "no" => json!(false), _unknown => Value::Null },
                "recipients": row.recipients.iter().map(|(name, held)| json!({ "name": name, "held": held }))
                    .collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        });
        if let (Some(cluster), Some(all)) = (&self.cluster, json.as_object_mut()) {
            all.extend(cluster.as_json().as_object().cloned().unwrap_or_default());
        }
        json
    }
}

fn holder_as_json(holder: &Holder) -> Value {
    match holder {
        Holder::None => json!({ "says": "none" }),
        Holder::Git { epoch, supersedes } => {
            json!({ "says": "git", "epoch": epoch.get(), "supersedes": supersedes.as_ref().map(ToString::to_string) })
        }
        Holder::Vault { epoch, handover, mirror } => json!({
            "says": "vault", "epoch": epoch.get(), "handoverId": handover.to_string(),
            "mirrorComplete": *mirror == Mirror::Complete,
        }),
        Holder::Disagree(why) => json!({ "says": "disagree", "why": why }),
        Holder::Unreadable(why) => json!({ "says": "unreadable", "why": why }),
    }
}

/// Enough of a long recipient to tell it from the others.
fn short(name: &str) -> String {
    const SHOWN: usize = 24;
    if name.chars().count() <= SHOWN {
        return name.to_owned();
    }
    name.chars().take(SHOWN).chain("..".chars()).collect()
}
