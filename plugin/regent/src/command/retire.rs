//! `regent retire`: what of regent is still there once its handover is settled, and the steps to leave, in order.
//!
//! ```text
//! gather   the tree at one commit, what deploys it, what delivers, what runs, what protects   tree.rs, applications.rs, flux.rs, cluster.rs
//! decide   core: whether one may leave, and which step is next
//! act      nothing: a person does, by what is told                                          report.rs
//! ```

mod applications;
mod cluster;
mod flux;
mod report;
mod tree;

use std::collections::BTreeMap;
use std::process::ExitCode;

use regent_core::Refusal;
use regent_core::authority;
use regent_core::bootstrap::After;
use regent_core::emit::{Content, Encoding};
use regent_core::evidence::{DocumentList, Evidence, ListedClass, ListedDocument, Reading};
use regent_core::flux::artifact;
use regent_core::name::{FilePath, HandoverId, Namespace};
use regent_core::render::{self, Door, Request};
use regent_core::retire::{self, May, RetireRefusal, Seen, Step, order};
use regent_core::rules::{ArgoCd, Flux, RegentConfig};
use regent_sops::Keyring;

use self::report::Report;
use self::tree::Tree;
use super::render::place_of;
use super::root::{Connected, delivered_by_flux, quoted, store_of};
use crate::cli::RetireArgs;
use crate::cluster::installation::{InForce, schema};
use crate::cluster::{block_on, doors, witness};
use crate::config;
use crate::failure::Failure;
use crate::output;
use crate::witnesses::Store;

pub(super) fn run(args: &RetireArgs) -> Result<ExitCode, Failure> {
    let config = args.store.config.as_deref().map(config::load).transpose()?;
    let store = store_of("regent retire", "`--context NAME` or `--config FILE`", &args.store, config.as_ref())?;
    let Store::Cluster(access) = &store else {
        return Err(Failure::Usage("`regent retire` is for an authority in a cluster".to_owned()));
    };
    let tree = Tree::at(&args.commit, config.as_ref(), &store)?;
    block_on(async {
        let connected = Connected::to(access, args.target_context.as_ref()).await?;
        let bootstrap = &tree.bootstrap;
        let mut evidence = witness::read(&connected.witnesses, &bootstrap.name, &[bootstrap.epoch]).await;
        // Without the CRD there certainly is no Authority.
        if schema(&connected.witnesses).await.in_force == InForce::Missing {
            evidence.authority = Reading::Absent;
        }
        let closed = bootstrap.closed.as_ref().filter(|_| bootstrap.closed_counts());
        let may = retire::may(&evidence, closed).map_err(refused)?;
        if args.manifests {
            return manifests(&tree, &evidence, config.as_ref());
        }
        let argocd = config.as_ref().map(|config| config.argocd.clone()).unwrap_or_default();
        // Who has no operator's file may have Flux all the same.
        let mut doors = doors::namespaces(config.as_ref());
        let flux =
            config.as_ref().map_or_else(|| Flux::default().namespace().to_owned(), |it| it.flux.namespace().to_owned());
        doors.extend(Namespace::parse(&flux).ok().filter(|flux| !doors.contains(flux)));
        let run = Run { args, tree: &tree, connected: &connected, evidence: &evidence, may: &may, argocd, doors };
        let report = run.look(config.as_ref()).await?;
        output::text(&report.to_text(args.output))?;
        Ok(report.exit().into())
    })
}

/// What a person has to know of one step: what was seen, and what to type.
struct Told {
    seen: Seen,
    commands: Vec<String>,
}

impl Told {
    fn gone() -> Self {
        Self { seen: Seen::Gone, commands: Vec::new() }
    }

    fn unknown(why: impl std::fmt::Display) -> Self {
        Self { seen: Seen::Unknown(why.to_string()), commands: Vec::new() }
    }

    fn left(left: Vec<String>, commands: Vec<String>) -> Self {
        let commands = if left.is_empty() { Vec::new() } else { commands };
        Self { seen: Seen::left(left), commands }
    }
}

/// One run.
struct Run<'a> {
    args: &'a RetireArgs,
    tree: &'a Tree,
    connected: &'a Connected,
    evidence: &'a Evidence,
    may: &'a May,
    argocd: ArgoCd,
    /// Namespaces in which a front door may run.
    doors: Vec<Namespace>,
}

impl Run<'_> {
    async fn look(&self, config: Option<&RegentConfig>) -> Result<Report, Failure> {
        let listed = self.listed().await;
        let mut told = BTreeMap::from([(Step::Closed, self.closed())]);
        told.extend(self.of_argocd(config, &listed).await?);
        told.insert(Step::Flux, self.of_flux(config, &listed).await);
        told.extend(self.of_clusters(&listed).await);
        let seen =
            |step| told.get(&step).map_or_else(|| Seen::Unknown("nobody looked".to_owned()), |it| it.seen.clone());
        let steps = order(&seen);
        let commands = told.into_iter().map(|(step, told)| (step, told.commands)).collect();
        Ok(Report {
            name: self.tree.bootstrap.name.clone(),
            handover: self.handover().clone(),
            commit: self.tree.commit()?,
            root: self.root(),
            others_deliver: self.after() == retire::After::Others,
            steps,
            commands,
        })
    }

    fn handover(&self) -> &HandoverId {
        match self.may {
            May::Settled { handover } | May::Closed { handover } => handover,
        }
    }

    /// The root that was handed over, which may have been moved in Git since.
    fn root(&self) -> String {
        let recorded = match &self.evidence.authority {
            Reading::Present(witness) => witness.root.clone(),
            Reading::Absent | Reading::Unreadable(_) => None,
        };
        recorded.or_else(|| self.tree.gathered.root.clone()).unwrap_or_else(|| ".".to_owned())
    }

    fn after(&self) -> retire::After {
        match self.tree.bootstrap.after {
            Some(After::ExternalSecret { .. } | After::VaultStaticSecret { .. }) => retire::After::Rendered,
            Some(After::Stub) | None => retire::After::Others,
        }
    }

    /// The line by which Git itself says that the epoch is over.
    fn closed(&self) -> Told {
        let bootstrap = &self.tree.bootstrap;
        if bootstrap.closed.as_ref() == Some(self.handover()) && bootstrap.closed_counts() {
            return Told::gone();
        }
        let file = self.tree.path_of("regent.yaml");
        let line = format!("closed: {}", self.handover());
        let name = quoted(&file);
        let command = format!("printf '\\n%s\\n' '{line}' >> {name} && git commit {name} -m 'the epoch is over'");
        Told::left(vec![format!("{file} of this commit does not say `{line}`")], vec![command])
    }

    /// What was handed over. Once its witness is gone, whatever bears the authority's label.
    async fn listed(&self) -> Result<Vec<ListedDocument>, String> {
        if let DocumentList::Readable(listed) = self.evidence.documents() {
            return Ok(listed);
        }
        let epoch = self.tree.bootstrap.epoch;
        match self.evidence.handovers.get(&epoch) {
            Some(Reading::Absent) => {}
            Some(Reading::Present(_)) | None => return Err("the list of the handover cannot be read".to_owned()),
            Some(Reading::Unreadable(why)) => return Err(why.clone()),
        }
        let name = &self.tree.bootstrap.name;
        let labelled = cluster::labelled(&self.connected.target, name).await;
        let labelled = labelled.map_err(|problem| problem.to_string())?;
        let path = FilePath::parse("regent.yaml").map_err(|bad| bad.to_string())?;
        let of = |name| ListedDocument {
            path: path.clone(),
            name,
            kind: "Secret".to_owned(),
            // Whether somebody delivers it is not asked any more.
            class: ListedClass::Permanent,
            blob: String::new(),
        };
        Ok(labelled.into_iter().map(of).collect())
    }
}

/// What a front door renders beside stubs, without the stubs.
fn manifests(tree: &Tree, evidence: &Evidence, config: Option<&RegentConfig>) -> Result<ExitCode, Failure> {
    if let Some(reason) = tree.not_followed.clone() {
        return Err(Failure::World { what: "follow the Kustomizations of", name: tree.gathered.label.clone(), reason });
    }
    let is_flux = config.is_some_and(|config| !delivered_by_flux(config, &tree.bootstrap).is_empty());
    let (holder, place) = (evidence.holder(), place_of(&tree.gathered, Some(evidence)));
    let ruling = authority::rule(&tree.bootstrap, &place, &holder, evidence.documents_of(&holder));
    let ruling = ruling.map_err(Refusal::from)?.settled_by(evidence);
    let none = Keyring::default();
    let rendered = render::render(&Request {
        files: &tree.gathered.files,
        folder: None,
        bootstrap: Some(&tree.bootstrap),
        ruling: &ruling,
        keys: (&none).into(),
        namespaces: &["*".to_owned()],
        limits: &tree.limits,
        door: if is_flux { Door::Flux } else { Door::ArgoCd },
    })?;
    let delivering = rendered.into_iter().filter(|manifest| manifest.content() == Content::Delivery);
    let (mut parts, mut beside) = (Vec::new(), Vec::new());
    for manifest in delivering {
        beside.push(format!("{} in {}", manifest.identity(), tree.path_of(manifest.file().as_str())));
        let manifest = artifact::beside_its_document(&tree.gathered.files, manifest)?;
        parts.push(manifest.preview(Encoding::Yaml)?);
    }
    if is_flux && !beside.is_empty() {
        // A kustomization renames what it lists.
        output::note(format_args!("commit each beside its document, below the stub: {}", beside.join(", ")));
    }
    if parts.is_empty() {
        output::note(match tree.bootstrap.after {
            Some(After::Stub) | None => {
                "another controller delivers, by `after` of regent.yaml: there is nothing to commit, and regent does not see who"
            }
            Some(After::ExternalSecret { .. } | After::VaultStaticSecret { .. }) => {
                "nothing is left to commit: what the root holds encrypted is delivered by objects in this commit"
            }
        });
    }
    output::parts("---\n", &parts, "")?;
    Ok(ExitCode::SUCCESS)
}

fn refused(refusal: RetireRefusal) -> Failure {
    let way_out = match &refusal {
        RetireRefusal::GitRules => "`regent handover` first".to_owned(),
        RetireRefusal::NotSettled { .. } => "`regent handover` goes on until it is settled".to_owned(),
        RetireRefusal::Nothing => {
            "name the commit that says `closed`; where nothing was ever handed over there is nothing to leave"
                .to_owned()
        }
        RetireRefusal::Unknown(_) | RetireRefusal::Disagree(_) => {
            "`regent status` shows what the witnesses say".to_owned()
        }
    };
    Failure::Retire { refusal, way_out }
}
