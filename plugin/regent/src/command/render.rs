//! `regent render`: what the cluster would get, from a folder or a revision.
//!
//! Gather (files, keys, evidence), decide (core), act (print). With `--reveal` evidence is read again right
//! before the answer, as every front door does.

mod via;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::process::ExitCode;

use rayon::prelude::*;
use regent_core::Refusal;
use regent_core::authority::{self, Assumption, Place, Recheck, Ruling};
use regent_core::bootstrap::Bootstrap;
use regent_core::emit::{Change, ChangeKind, Encoding, Identity, Manifest};
use regent_core::evidence::{Evidence, Holder, Mirror};
use regent_core::files::Content;
use regent_core::render::{self, Door, Request};
use regent_core::rules::Rule;
use regent_sops::Limits;
use serde_json::{Value, json};

use crate::cli::{AssumeArg, KeyArgs, OutputArg, RenderArgs};
use crate::failure::{Failure, one_line};
use crate::keys::{self, Identities};
use crate::source::{self, BOOTSTRAP, Bounds, Gathered, bootstrap_of};
use crate::watch::{self, Target, Watch};
use crate::witnesses::{self, Store};
use crate::{config, output};

pub(super) fn run(args: &RenderArgs) -> Result<ExitCode, Failure> {
    if let Some(socket) = &args.via.via {
        return via::run(args, socket);
    }
    if args.watch {
        return follow(args);
    }
    let inputs = Inputs::gather(args)?;
    let rendering = inputs.render(args)?;
    rendering.tell();
    print(rendering.manifests, args)?;
    Ok(ExitCode::SUCCESS)
}

/// Everything a rendering is a function of, gathered.
struct Inputs {
    gathered: Gathered,
    bootstrap: Option<Bootstrap>,
    /// Where the authority is kept.
    store: Option<Store>,
    identities: Identities,
    /// Namespaces that the rule allows; all of them where no operator's file says.
    namespaces: Vec<String>,
    limits: Limits,
}

/// Manifests, and on whose word.
struct Rendering {
    manifests: Vec<Manifest>,
    word: Word,
    /// What the store said, where one was asked.
    holder: Option<Holder>,
}

/// On whose word a rendering was made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    /// The store's.
    Store,
    /// The person's at the keyboard.
    Assumed,
    /// Nobody's: described only.
    Nobody,
}

impl Inputs {
    fn gather(args: &RenderArgs) -> Result<Self, Failure> {
        let config = args.store.config.as_deref().map(config::load).transpose()?;
        let bounds = config.as_ref().map(|config| config.limits).unwrap_or_default();
        let limits = Limits { document: bounds.document, ..Limits::default() };
        let gathered = source::gather(&args.source, Bounds::of(&bounds))?;
        let bootstrap = bootstrap_of(&gathered.files)?;
        let rule = match (&config, &bootstrap) {
            (Some(config), Some(bootstrap)) => {
                let path = bootstrap_path(&gathered);
                Some(config.rule_for(&bootstrap.name, &path).map_err(Refusal::from)?)
            }
            (None, _) | (_, None) => None,
        };
        let identities = keys::load(&key_args(&args.keys, rule))?;
        let namespaces = rule.map_or_else(|| vec!["*".to_owned()], |rule| rule.namespaces.clone());
        let store = config::store(&args.store, config.as_ref());
        Ok(Self { gathered, bootstrap, store, identities, namespaces, limits })
    }

    /// Decides and renders.
    fn render(&self, args: &RenderArgs) -> Result<Rendering, Failure> {
        let before = self.evidence(args)?;
        let holder = before.as_ref().map(Evidence::holder);
        let (ruling, word) = self.ruling(args, before.as_ref())?;
        let manifests = self.render_by(&ruling)?;
        let Some(before) = &holder else { return Ok(Rendering { manifests, word, holder }) };
        // The authority may have moved while documents were opened.
        let after = self.evidence(args)?;
        let now = after.as_ref().map_or(Holder::None, Evidence::holder);
        let moved = match word {
            Word::Store => authority::recheck(before, &now).map_err(Refusal::from)?,
            Word::Assumed | Word::Nobody if *before == now => Recheck::Same,
            // What was assumed is assumed against the new evidence, or refused.
            Word::Assumed | Word::Nobody => Recheck::NowStubs,
        };
        match moved {
            Recheck::Same => Ok(Rendering { manifests, word, holder }),
            Recheck::NowStubs => {
                drop(manifests);
                let (ruling, word) = self.ruling(args, after.as_ref())?;
                Ok(Rendering { manifests: self.render_by(&ruling)?, word, holder: Some(now) })
            }
        }
    }

    fn render_by(&self, ruling: &Ruling) -> Result<Vec<Manifest>, Failure> {
        let request = Request {
            files: &self.gathered.files,
            folder: None,
            bootstrap: self.bootstrap.as_ref(),
            ruling,
            keys: (&self.identities.keyring).into(),
            namespaces: &self.namespaces,
            limits: &self.limits,
            door: Door::ArgoCd,
        };
        self.identities.told(render::render(&request).map_err(Failure::from))
    }

    /// What the store says. A store belongs to a root: where values are asked for, one that nobody can ask is an
    /// error, because the folder next to the root would otherwise be a way around it.
    fn evidence(&self, args: &RenderArgs) -> Result<Option<Evidence>, Failure> {
        match (&self.store, &self.bootstrap) {
            (Some(store), Some(bootstrap)) => witnesses::ask(store, &bootstrap.name, bootstrap.epoch).map(Some),
            (Some(_), None) if args.reveal => Err(Failure::Usage(format!(
                "a store is named (`--store`, `--config` or `REGENT_CONFIG`), and {} has no {BOOTSTRAP} to ask it for",
                self.gathered.label
            ))),
            (None, _) | (Some(_), None) => Ok(None),
        }
    }

    fn ruling(&self, args: &RenderArgs, evidence: Option<&Evidence>) -> Result<(Ruling, Word), Failure> {
        let holder = evidence.map(Evidence::holder);
        let place = place_of(&self.gathered, evidence);
        if let Some(assume) = args.assume {
            let assumption = match assume {
                AssumeArg::Git => Assumption::Git,
                AssumeArg::Vault => Assumption::Vault,
            };
            let ruling = Ruling::assume(assumption, self.bootstrap.as_ref(), &place, holder.as_ref());
            return Ok((ruling.map_err(Refusal::from)?, Word::Assumed));
        }
        if let (Some(bootstrap), Some(evidence), Some(holder)) = (&self.bootstrap, evidence, &holder) {
            let ruling = authority::rule(bootstrap, &place, holder, evidence.documents_of(holder));
            return Ok((ruling.map_err(Refusal::from)?.settled_by(evidence), Word::Store));
        }
        if args.reveal {
            return Err(Refusal::Unasked.into());
        }
        if let Some(other) = place.other_bootstraps.first() {
            output::note(format_args!("another {BOOTSTRAP} stands at {}; `regent lint` tells more", one_line(other)));
        }
        Ok((Ruling::unasked(), Word::Nobody))
    }

    /// A number that changes when anything changes that a rendering is a function of.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (path, content) in self.gathered.files.iter() {
            path.as_str().hash(&mut hasher);
            match content {
                Content::Bytes(bytes) => bytes.hash(&mut hasher),
                Content::TooLarge { size } => size.hash(&mut hasher),
                Content::BadLink => "link".hash(&mut hasher),
                Content::Special => "special".hash(&mut hasher),
                Content::NotRead => "not read".hash(&mut hasher),
            }
        }
        self.identities.keyring.describe().hash(&mut hasher);
        hasher.finish()
    }
}

impl Rendering {
    fn tell(&self) {
        match self.word {
            Word::Store => {}
            Word::Assumed => output::note("the authority was assumed, not asked"),
            Word::Nobody => output::note("no authority was asked; every decrypted value is described, not written"),
        }
        if let Some(Holder::Vault { mirror: Mirror::Incomplete, .. }) = &self.holder {
            output::note("mirror incomplete: one of the two witnesses that Vault rules is missing or unreadable");
        }
        if self.manifests.is_empty() {
            output::note("no manifest was found");
        }
    }
}

/// Where the root stands, for P0.
pub(super) fn place_of(gathered: &Gathered, evidence: Option<&Evidence>) -> Place {
    let recorded_root = evidence.map(Evidence::recorded_root).unwrap_or_default();
    Place {
        root: gathered.root.clone(),
        other_bootstraps: source::other_bootstraps(gathered),
        admitted_by: None,
        recorded_root,
    }
}

/// The repository's path of the root's `regent.yaml`, as rules name it.
pub(super) fn bootstrap_path(gathered: &Gathered) -> String {
    match gathered.root.as_deref() {
        None | Some(".") => BOOTSTRAP.to_owned(),
        Some(root) => format!("{root}/{BOOTSTRAP}"),
    }
}

/// `-i` replaces a rule's identities; a rule's replace the person's own.
pub(super) fn key_args(typed: &KeyArgs, rule: Option<&Rule>) -> KeyArgs {
    let mut args = typed.clone();
    if let (true, Some(rule)) = (args.identities.is_empty(), rule) {
        args.identities = rule.identities.iter().map(PathBuf::from).collect();
    }
    args
}

fn encoding(output: OutputArg) -> Encoding {
    match output {
        OutputArg::Yaml => Encoding::Yaml,
        OutputArg::Json => Encoding::Json,
    }
}

/// Prints everything or nothing: the first byte leaves when the last manifest is ready.
fn print(manifests: Vec<Manifest>, args: &RenderArgs) -> Result<(), Failure> {
    let encoding = encoding(args.output);
    let parts = if args.reveal {
        let taken = manifests.into_par_iter().map(|manifest| {
            #[expect(clippy::disallowed_methods, reason = "the one exit of manifests from `regent render`")]
            let bytes = manifest.into_bytes(encoding);
            bytes
        });
        taken.collect::<Result<Vec<_>, Refusal>>()?
    } else {
        manifests.into_par_iter().map(|manifest| manifest.preview(encoding)).collect::<Result<Vec<_>, Refusal>>()?
    };
    let (before, after) = frame(encoding);
    output::parts(before, &parts, after)
}

/// What stands before and after each manifest of a stream.
fn frame(encoding: Encoding) -> (&'static str, &'static str) {
    match encoding {
        Encoding::Yaml => ("---\n", ""),
        Encoding::Json => ("", "\n"),
    }
}

/// Renders again whenever something changed; an error is told and waited out.
fn follow(args: &RenderArgs) -> Result<ExitCode, Failure> {
    if args.reveal {
        return Err(Failure::Usage("`--watch` shows what changed, never values: leave `--reveal` out".to_owned()));
    }
    let mut shown: Vec<Manifest> = Vec::new();
    let mut seen = None;
    let mut watch = None;
    loop {
        match Inputs::gather(args) {
            Ok(inputs) => {
                // Followed from the first successful gathering on, before it is rendered: a change meanwhile is seen.
                if watch.is_none() {
                    watch = Some(Watch::start(&inputs.targets(args)?)?);
                }
                let fingerprint = (
                    inputs.fingerprint(),
                    inputs.evidence(args).map(|evidence| evidence.map(|evidence| evidence.holder())).ok(),
                );
                if seen.as_ref() != Some(&fingerprint) {
                    match inputs.render(args) {
                        Ok(rendering) => {
                            if seen.is_none() {
                                rendering.tell();
                            }
                            show_changes(&shown, &rendering.manifests, args)?;
                            shown = rendering.manifests;
                        }
                        Err(failure) if seen.is_none() => return Err(failure),
                        Err(failure) => drop(failure.report()),
                    }
                    seen = Some(fingerprint);
                }
            }
            // What never worked is told once and for all; what worked before is waited for.
            Err(failure) if seen.is_none() => return Err(failure),
            Err(failure) => {
                failure.report();
                seen = Some((0, None));
            }
        }
        if let Some(watch) = &watch {
            watch.wait();
        }
    }
}

impl Inputs {
    /// The places whose change may change the rendering.
    fn targets(&self, args: &RenderArgs) -> Result<Vec<Target>, Failure> {
        let mut targets = match &args.source.repo {
            Some(repo) => {
                let references = source::git::Place::typed(repo, &args.source.git)?.references();
                let elsewhere =
                    || Failure::Usage("`--watch` follows a folder, or a repository on this machine".to_owned());
                watch::repository(&references.ok_or_else(elsewhere)??)
            }
            None => vec![Target::Tree(args.source.dir.clone().unwrap_or_else(|| PathBuf::from(".")))],
        };
        targets.extend(self.identities.paths.iter().cloned().map(Target::File));
        targets.extend(args.store.config.iter().cloned().map(Target::File));
        // A cluster is asked again with each rendering.
        if let Some(Store::Folder(store)) = &self.store
            && store.is_dir()
        {
            targets.push(Target::Tree(store.clone()));
        }
        Ok(targets)
    }
}

/// Prints what differs from what was shown: in YAML the manifests anew under a comment that names the changes, in
/// JSON one event a line. Key names, never values.
fn show_changes(shown: &[Manifest], now: &[Manifest], args: &RenderArgs) -> Result<(), Failure> {
    let before: BTreeMap<&Identity, &Manifest> = shown.iter().map(|manifest| (manifest.identity(), manifest)).collect();
    let after: BTreeSet<&Identity> = now.iter().map(Manifest::identity).collect();
    for manifest in now {
        let (event, changes) = match before.get(manifest.identity()) {
            None => ("added", Vec::new()),
            Some(old) => ("changed", manifest.changes_since(old)),
        };
        if event == "changed" && changes.is_empty() {
            continue;
        }
        output::text(&event_line(event, manifest, &changes, args.output))?;
        if args.output == OutputArg::Yaml {
            let (before, after) = frame(Encoding::Yaml);
            output::parts(before, &[manifest.preview(Encoding::Yaml)?], after)?;
        }
    }
    for gone in shown.iter().filter(|manifest| !after.contains(manifest.identity())) {
        output::text(&event_line("removed", gone, &[], args.output))?;
    }
    Ok(())
}

fn event_line(event: &str, manifest: &Manifest, changes: &[Change], output: OutputArg) -> String {
    let identity = manifest.identity();
    let how = |kind| match kind {
        ChangeKind::Added => "added",
        ChangeKind::Removed => "removed",
        ChangeKind::Changed => "changed",
    };
    match output {
        OutputArg::Yaml => {
            let namespace = identity.namespace.as_deref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
            let mut line = format!("# {event}: {} {namespace}{} ({})", identity.kind, identity.name, manifest.file());
            let listed: Vec<String> =
                changes.iter().map(|change| format!("{} {}", change.path, how(change.kind))).collect();
            if !listed.is_empty() {
                line.push_str(": ");
                line.push_str(&listed.join(", "));
            }
            // Keys and names come from the repository: a line break in one must not begin a document.
            one_line(&line) + "\n"
        }
        OutputArg::Json => {
            let changes: Vec<Value> =
                changes.iter().map(|change| json!({ "path": change.path, "how": how(change.kind) })).collect();
            let event = json!({
                "event": event,
                "apiVersion": identity.api_version,
                "kind": identity.kind,
                "namespace": identity.namespace,
                "name": identity.name,
                "file": manifest.file().as_str(),
                "changes": changes,
            });
            format!("{event}\n")
        }
    }
}
