//! `regent init` in a cluster: the Authority, the accounts and rights that belong to it, and the lock.
//!
//! ```text
//! gather   uids, witnesses, policies, Vault's record, Applications, who writes Secrets
//! decide   refuse, or show what will be made
//! act      rights, Authority, lock; then Argo CD asks the plugin again
//! ```
//! What is made before the Authority is harmless without it; what belongs after it is made again by `--complete`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use regent_core::Refusal;
use regent_core::authority::AuthorityRefusal;
use regent_core::bootstrap::Bootstrap;
use regent_core::evidence::{AuthorityWitness, Clusters, Holds, Reading, RecordFacts, WitnessedVault};
use regent_core::name::{Epoch, HandoverId};
use regent_core::rules::RegentConfig;
use regent_core::settle::ApplicationName;
use serde_json::Value;

use super::flux_accounts::impersonated;
use crate::cli::InitArgs;
use crate::cluster::applications::{self, Depth};
use crate::cluster::installation::{self, Ensured, InForce, Named, Policy, Probe, authority_object, spec_of};
use crate::cluster::lock::{DEFAULT_DOORS, lock};
use crate::cluster::rights::DEFAULT_READER;
use crate::cluster::witness::{self, authority_path};
use crate::cluster::{Access, Cluster, ClusterError, block_on};
use crate::command::refresh;
use crate::command::root::{Connected, typed_with};
use crate::failure::Failure;
use crate::output;
use crate::vault::{self, Record, Token};

/// Everything that was looked at.
pub(super) struct Found {
    pub(super) witnesses: Cluster,
    target: Cluster,
    clusters: Clusters,
    policies: Vec<Policy>,
    vault: String,
    pub(super) applications: Vec<ApplicationName>,
    readers: Vec<String>,
    doors: Vec<String>,
}

impl Found {
    pub(super) fn connected(&self) -> Connected {
        Connected { witnesses: self.witnesses.clone(), target: self.target.clone(), uids: self.clusters.clone() }
    }
}

pub(super) fn run(
    args: &InitArgs,
    access: &Access,
    config: Option<&RegentConfig>,
    bootstrap: &Bootstrap,
    root: Option<String>,
) -> Result<ExitCode, Failure> {
    block_on(async {
        if args.moves {
            return moves(args, access, bootstrap, root).await;
        }
        let found = gather(args, access, config, bootstrap).await?;
        let witness = AuthorityWitness {
            clusters: Some(found.clusters.clone()),
            no_vault_yet: args.no_vault_yet,
            ..super::witness_of(bootstrap, root)
        };
        let spec = spec_of(&witness)?;
        if args.complete {
            return complete(args, found, bootstrap).await;
        }
        refuse_witnesses(&found, bootstrap).await?;
        probe(&found.witnesses, bootstrap, &witness).await?;
        // What will be refused in the end is refused before anything is made.
        born(&found.witnesses, bootstrap, &authority_object(&bootstrap.name, &spec), true).await?;
        output::text(&plan(&found, &witness))?;
        if args.dry_run {
            output::note("nothing was written (`--dry-run`)");
            return Ok(ExitCode::SUCCESS);
        }
        if !args.yes && !super::confirmed(bootstrap)? {
            output::note("nothing was written");
            return Ok(ExitCode::FAILURE);
        }
        create(&found, bootstrap, &spec).await?;
        check_keep(&found.witnesses, bootstrap).await?;
        output::text(&format!(
            "created Authority {}: Git rules epoch {} of `{}`\n",
            bootstrap.name, bootstrap.epoch, bootstrap.name
        ))?;
        // Argo CD holds earlier failures for an hour.
        applications::refresh(
            &found.witnesses,
            &found.applications,
            Depth::Hard,
            refresh::REFRESH_WITHIN,
            refresh::tell,
        )
        .await;
        Ok(ExitCode::SUCCESS)
    })
}

pub(super) async fn gather(
    args: &InitArgs,
    access: &Access,
    config: Option<&RegentConfig>,
    bootstrap: &Bootstrap,
) -> Result<Found, Failure> {
    let (witnesses, target) = connected(args, access).await?;
    let clusters = Clusters {
        witness: installation::uid(&witnesses).await.map_err(|problem| witnesses.failure(problem))?,
        target: installation::uid(&target).await.map_err(|problem| target.failure(problem))?,
    };
    let policies = protected(&witnesses).await?;
    if clusters.witness != clusters.target {
        protected(&target).await?;
    }
    let argocd = config.map(|config| config.argocd.clone()).unwrap_or_default();
    let all = applications::all(&witnesses).await.map_err(|problem| witnesses.failure(problem))?;
    let projects: Vec<&str> =
        config.iter().flat_map(|config| &config.rules).filter_map(|rule| rule.project.as_deref()).collect();
    let hydrating = applications::hydrating(&all, &argocd.plugin(), &projects);
    if !hydrating.is_empty() {
        let names: Vec<String> = hydrating.iter().map(ToString::to_string).collect();
        return Err(Failure::NotReady {
            cluster: witnesses.name().to_owned(),
            problem: format!("the source hydrator of {} would commit the values to Git", names.join(", ")),
            way_out: "remove `sourceHydrator` there, or name another plugin and project".to_owned(),
        });
    }
    let applications = applications::using(&all, &argocd.plugin());
    let readers = if args.readers.is_empty() {
        let default = format!("system:serviceaccount:{}:argocd-repo-server", argocd.namespace.as_str());
        vec![if argocd.namespace.as_str() == "argocd" { DEFAULT_READER.to_owned() } else { default }]
    } else {
        args.readers.clone()
    };
    let flux = config.map(|config| config.flux.clone()).unwrap_or_default();
    let doors = doors(args, &witnesses, &target, &clusters, argocd.namespace.as_str(), flux.namespace()).await?;
    let vault = ask_vault(args, bootstrap).await?;
    Ok(Found { witnesses, target, clusters, policies, vault, applications, readers, doors })
}

/// The cluster of the witnesses, and that of the Secrets.
async fn connected(args: &InitArgs, access: &Access) -> Result<(Cluster, Cluster), Failure> {
    let witnesses = Cluster::connect(access).await?;
    let target = match &args.target_context {
        Some(context) => Cluster::connect(&Access { context: Some(context.clone()), ..access.clone() }).await?,
        None => witnesses.clone(),
    };
    Ok((witnesses, target))
}

/// Whether a cluster is the one that an Authority names as that of its Secrets.
fn is_target(
    witnesses: &Cluster,
    authority: &AuthorityWitness,
    clusters: Option<&Clusters>,
    uid: &str,
) -> Result<(), Failure> {
    match clusters {
        Some(clusters) if clusters.target != uid => Err(Failure::NotReady {
            cluster: witnesses.name().to_owned(),
            problem: format!(
                "the Secrets of authority `{}` live in another cluster, whose kube-system has the uid {}",
                authority.name, clusters.target
            ),
            way_out: "name that cluster with `--target-context`".to_owned(),
        }),
        Some(_) | None => Ok(()),
    }
}

/// Who writes Secrets from Git in the target: the controllers, and whomever they impersonate.
async fn doors(
    args: &InitArgs,
    witnesses: &Cluster,
    target: &Cluster,
    clusters: &Clusters,
    argocd: &str,
    flux: &str,
) -> Result<Vec<String>, Failure> {
    let mut doors: BTreeSet<String> = DEFAULT_DOORS.iter().map(|door| (*door).to_owned()).collect();
    doors.extend(args.doors.iter().cloned());
    for account in ["argocd-application-controller", "argocd-server"] {
        doors.insert(format!("system:serviceaccount:{argocd}:{account}"));
    }
    if clusters.witness != clusters.target {
        // As `argocd cluster add` names it.
        doors.insert("system:serviceaccount:kube-system:argocd-manager".to_owned());
    }
    let projects = listed(witnesses, "/apis/argoproj.io/v1alpha1/appprojects").await?;
    for destination in
        projects.iter().filter_map(|project| project["spec"]["destinationServiceAccounts"].as_array()).flatten()
    {
        let account = destination["defaultServiceAccount"].as_str().unwrap_or_default();
        match account.split_once(':') {
            Some((namespace, name)) => {
                doors.insert(format!("system:serviceaccount:{namespace}:{name}"));
            }
            // In the namespace of whatever is written: a pattern, which a list of names cannot say.
            None if account.is_empty() => {}
            None => {
                let namespace = destination["namespace"].as_str().unwrap_or_default();
                let is_name = !namespace.is_empty() && !namespace.contains(['*', '?', '[', '!']);
                if is_name {
                    doors.insert(format!("system:serviceaccount:{namespace}:{account}"));
                } else {
                    output::note(format!(
                        "an AppProject impersonates `{account}` in namespaces by pattern; name each account with `--door`"
                    ));
                }
            }
        }
    }
    let kustomizations = listed(target, "/apis/kustomize.toolkit.fluxcd.io/v1/kustomizations").await?;
    let typed = args.default_service_account.as_deref();
    doors.extend(impersonated(target, &kustomizations, flux, typed).await);
    Ok(doors.into_iter().collect())
}

/// All objects of a kind; none where the cluster does not have that kind.
async fn listed(cluster: &Cluster, path: &str) -> Result<Vec<Value>, Failure> {
    match cluster.list(path, "").await {
        Ok(objects) => Ok(objects),
        Err(ClusterError::NotServed(_)) => Ok(Vec::new()),
        Err(problem) => Err(cluster.failure(problem)),
    }
}

/// What Vault says of a record of this epoch, in words for the plan.
async fn ask_vault(args: &InitArgs, bootstrap: &Bootstrap) -> Result<String, Failure> {
    if args.no_vault_yet {
        return Ok("not asked: there is none yet (`--no-vault-yet`)".to_owned());
    }
    if args.complete || args.moves || args.from_vault || args.target_only {
        return Ok("not asked".to_owned());
    }
    let Some(place) = super::witnessed_vault(bootstrap) else {
        return Err(Failure::Vault {
            address: "of regent.yaml".to_owned(),
            problem: "regent.yaml names no `vault:`".to_owned(),
        });
    };
    let Some(file) = &args.vault_token_file else {
        return Err(Failure::Vault { address: place.address, problem: "no token was given to ask with".to_owned() });
    };
    match vault::record(&place, &bootstrap.name, bootstrap.epoch, &Token::read(file)?).await? {
        Record::Absent => Ok(format!("asked: {} holds no record of epoch {}", place.address, bootstrap.epoch)),
        Record::Present(id) => Err(Failure::Exists {
            name: bootstrap.name.to_string(),
            witness: format!(
                "Vault {} holds the handover record of epoch {}{}",
                place.address,
                bootstrap.epoch,
                id.map(|id| format!(", {id}")).unwrap_or_default()
            ),
        }),
    }
}

/// What keeps an authority one-way, where all of it is there as this regent ships it.
async fn protected(cluster: &Cluster) -> Result<Vec<Policy>, Failure> {
    let mut policies = vec![installation::schema(cluster).await];
    policies.extend(installation::policies(cluster).await);
    if policies.iter().any(|policy| matches!(policy.in_force, InForce::Unknown(_))) {
        // Who may not look, and an API server that does not answer, are told as everywhere.
        installation::may_look(cluster).await.map_err(|problem| cluster.failure(problem))?;
    }
    let wrong: Vec<String> = policies
        .iter()
        .filter_map(|Policy { name, in_force }| match in_force {
            InForce::Yes => None,
            InForce::Missing => Some(format!("{name} is missing")),
            InForce::Differs => Some(format!("{name} is not this version's")),
            InForce::Toothless => Some(format!("{name} does not deny")),
            InForce::Unknown(why) => Some(format!("{name} cannot be looked at ({why})")),
        })
        .collect();
    if wrong.is_empty() {
        return Ok(policies);
    }
    Err(Failure::NotReady {
        cluster: cluster.name().to_owned(),
        problem: format!("what keeps an authority one-way is not in force: {}", wrong.join("; ")),
        way_out: "`kubectl apply --server-side -k manifests/cluster`, as a cluster administrator".to_owned(),
    })
}

/// Any witness of any epoch stops `init`, and so does one that cannot be read, or a copy for a lock.
async fn refuse_witnesses(found: &Found, bootstrap: &Bootstrap) -> Result<(), Failure> {
    let Found { witnesses, target, clusters, .. } = found;
    let there = installation::witnesses_there(witnesses, &bootstrap.name).await;
    let mut there = there.map_err(|problem| witnesses.failure(problem))?;
    if clusters.witness != clusters.target {
        let copies = installation::witnesses_there(target, &bootstrap.name).await;
        let copies = copies.map_err(|problem| target.failure(problem))?;
        there.extend(copies.into_iter().map(|copy| format!("{copy} in {}", target.name())));
    }
    if there.is_empty() {
        return Ok(());
    }
    let evidence = witness::read(witnesses, &bootstrap.name, &[bootstrap.epoch]).await;
    let mut text = format!("{}; the witnesses say {}", there.join(", "), evidence.holder());
    if let Reading::Present(authority) = &evidence.authority {
        let missing = missing(found, authority).await?;
        if let Some(first) = missing.first() {
            let more = if missing.len() > 1 { format!(" and {} more", missing.len() - 1) } else { String::new() };
            text = format!("{text}; but {first}{more} of it is missing: `regent init --complete` makes that");
        }
    }
    Err(Failure::Exists { name: bootstrap.name.to_string(), witness: text })
}

/// What belongs to an authority and is not there: an earlier `init` was stopped in the middle.
async fn missing(found: &Found, authority: &AuthorityWitness) -> Result<Vec<String>, Failure> {
    let Found { witnesses, target, clusters, .. } = found;
    let rights = installation::rights(&authority.name, authority.epoch, &found.readers);
    let mut wanted: Vec<(&Cluster, Value)> = rights.into_iter().map(|object| (witnesses, object)).collect();
    if clusters.witness != clusters.target {
        wanted.push((target, authority_object(&authority.name, &spec_of(authority)?)));
    }
    wanted.extend(lock(&authority.name, &found.doors).map(|object| (target, object)));
    let mut missing = Vec::new();
    for (cluster, object) in wanted {
        let there = cluster.get(&installation::path_of(&object)).await.map_err(|problem| cluster.failure(problem))?;
        if there.is_none() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            missing.push(format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"])));
        }
    }
    Ok(missing)
}

/// Tries what the policies forbid, as a dry run: an Authority that begins with vault.
async fn probe(cluster: &Cluster, bootstrap: &Bootstrap, witness: &AuthorityWitness) -> Result<(), Failure> {
    let not_ready = |problem: String| Failure::NotReady {
        cluster: cluster.name().to_owned(),
        problem,
        way_out: "`regent status` shows the policies; apply `manifests/cluster` again, then repeat `init`".to_owned(),
    };
    // Whole, so that nothing but the policy can refuse it.
    let vault = WitnessedVault {
        address: "https://vault.invalid".to_owned(),
        namespace: String::new(),
        mount: "secret".to_owned(),
        prefix: "probe".to_owned(),
    };
    let id = HandoverId::parse(PROBE_ID).map_err(|_| Failure::Bug)?;
    let fact = || "probe".to_owned();
    let record = RecordFacts {
        git_commit: fact(),
        tree_digest: fact(),
        vault_cluster_id: fact(),
        mount_uuid: fact(),
        marker_version: 1,
        marker_created_time: fact(),
        regent_version: fact(),
    };
    let forbidden = AuthorityWitness {
        holds: Holds::Vault(id),
        vault: Some(witness.vault.clone().unwrap_or(vault)),
        record: Some(record),
        ..witness.clone()
    };
    let object = authority_object(&bootstrap.name, &spec_of(&forbidden)?);
    match installation::wait_until_refused(cluster, &object).await {
        Ok(()) => Ok(()),
        Err(Probe::Passes) => {
            Err(not_ready("the API server would create an Authority that begins with vault".to_owned()))
        }
        Err(Probe::Failed(problem)) => Err(cluster.failure(problem)),
    }
}

/// An id of a handover that never was; only dry runs bear it.
const PROBE_ID: &str = "00000000-0000-4000-8000-000000000000";

/// Whether the new Authority is protected against deletion, as a dry run.
async fn check_keep(cluster: &Cluster, bootstrap: &Bootstrap) -> Result<(), Failure> {
    match cluster.delete(&authority_path(&bootstrap.name), true).await {
        // Who may not even ask cannot tell, and cannot delete it either.
        Err(ClusterError::Denied(_) | ClusterError::Forbidden(_)) => Ok(()),
        Err(problem) => Err(cluster.failure(problem)),
        Ok(_) => {
            output::note(
                "this identity may delete the Authority: it is break-glass, or the policy regent-keep does not bind",
            );
            Ok(())
        }
    }
}

fn plan(found: &Found, witness: &AuthorityWitness) -> String {
    let vault = witness.vault.as_ref().map_or("not named in regent.yaml".to_owned(), ToString::to_string);
    let supersedes = witness.supersedes.as_ref().map_or(String::new(), |handover| format!(", supersedes {handover}"));
    let target = if found.clusters.witness == found.clusters.target {
        "the same cluster".to_owned()
    } else {
        format!("{} (gets a copy of the Authority for the lock)", found.target.name())
    };
    let applications = match found.applications.len() {
        0 => "none uses the plugin yet".to_owned(),
        count => format!("{count} will be refreshed"),
    };
    let policies: Vec<&str> = found.policies.iter().map(|policy| policy.name.as_str()).collect();
    let mut text = String::new();
    for (name, value) in [
        ("authority", witness.name.to_string()),
        ("root", witness.root.clone().unwrap_or_else(|| "a folder outside a repository".to_owned())),
        ("epoch", format!("{}{supersedes}", witness.epoch)),
        ("vault", vault),
        ("record", found.vault.clone()),
        ("witnesses in", found.witnesses.name().to_owned()),
        ("secrets in", target),
        ("found", "no witness of any epoch".to_owned()),
        ("in force", policies.join(", ")),
        ("readers", found.readers.join("\n")),
        ("doors", found.doors.join("\n")),
        ("applications", applications),
        ("will say", format!("git({})", witness.epoch)),
    ] {
        for (number, line) in value.lines().enumerate() {
            let name = if number == 0 { name } else { "" };
            text.extend([format!("{name:<13} {line}\n")]);
        }
    }
    text.push_str(
        "\nThe policies bind cluster administrators too, but cannot protect themselves, and do not see through \
         impersonation:\nwhoever may write `validatingadmissionpolicies` or their bindings, impersonate the group \
         `regent:break-glass` or\nmake tokens for accounts in `regent-system` can undo them. Keep these rights rare.\n",
    );
    text
}

async fn create(found: &Found, bootstrap: &Bootstrap, spec: &Value) -> Result<(), Failure> {
    let object = authority_object(&bootstrap.name, spec);
    belongings(found, bootstrap, bootstrap.epoch).await?;
    born(&found.witnesses, bootstrap, &object, false).await?;
    if found.clusters.witness != found.clusters.target {
        made(&found.target, &object).await?;
    }
    locked(found, bootstrap).await
}

/// Creates the Authority, or tries whether it can be.
async fn born(cluster: &Cluster, bootstrap: &Bootstrap, object: &Value, dry: bool) -> Result<(), Failure> {
    match cluster.create("/apis/regent.dev/v1alpha1/authorities", object, dry).await {
        Ok(_) => Ok(()),
        // Another `init` was quicker.
        Err(ClusterError::Conflict(witness)) => Err(Failure::Exists { name: bootstrap.name.to_string(), witness }),
        Err(ClusterError::Denied(problem)) if bootstrap.epoch != Epoch::FIRST => Err(Failure::LaterEpoch {
            address: cluster.name().to_owned(),
            epoch: bootstrap.epoch.get(),
            problem,
            way_out: begins_later(),
        }),
        Err(problem) => Err(cluster.failure(problem)),
    }
}

/// Which group may, by the policies; what else `init` needs that group does not have.
fn begins_later() -> String {
    let groups = ["regent:break-glass", "system:masters"];
    let words: Vec<String> = ["--as", "USER"]
        .into_iter()
        .chain(groups.into_iter().flat_map(|group| ["--as-group", group]))
        .map(Into::into)
        .collect();
    format!(
        "where cluster and Vault are both lost, a cluster administrator who may impersonate: `{}`",
        typed_with(&words)
    )
}

/// Accounts and rights: harmless as long as there is no Authority.
pub(super) async fn belongings(found: &Found, bootstrap: &Bootstrap, epoch: Epoch) -> Result<(), Failure> {
    for object in installation::rights(&bootstrap.name, epoch, &found.readers) {
        made(&found.witnesses, &object).await?;
    }
    Ok(())
}

/// The lock, after its Authority: without one nobody could write the Secrets.
pub(super) async fn locked(found: &Found, bootstrap: &Bootstrap) -> Result<(), Failure> {
    for object in lock(&bootstrap.name, &found.doors) {
        made(&found.target, &object).await?;
    }
    Ok(())
}

async fn made(cluster: &Cluster, object: &Value) -> Result<Ensured, Failure> {
    installation::ensure(cluster, object).await.map_err(|problem| cluster.failure(problem))
}

/// `--complete`: everything but the Authority itself, for the epoch that it has.
async fn complete(args: &InitArgs, mut found: Found, bootstrap: &Bootstrap) -> Result<ExitCode, Failure> {
    let authority = authority_there(&found.witnesses, bootstrap).await?;
    let holder = witness::read(&found.witnesses, &bootstrap.name, &[bootstrap.epoch]).await.holder();
    let copy = found.connected().copy(bootstrap).await;
    let clusters = authority.clusters_now(&holder, copy.as_ref()).cloned();
    is_target(&found.witnesses, &authority, clusters.as_ref(), &found.clusters.target)?;
    // Whom `init` was told of then is not known now: nobody is taken off.
    let named = installation::named(&found.witnesses, &found.target, &bootstrap.name).await;
    let (doors, readers) = named.map_err(|why| match why {
        Named::Witnesses(problem) => found.witnesses.failure(problem),
        Named::Target(problem) => found.target.failure(problem),
        Named::Foreign => Failure::NotReady {
            cluster: found.target.name().to_owned(),
            problem: format!("the doors of the lock of `{}` were written by another hand", bootstrap.name),
            way_out: "look at its policy; delete it, binding first, then repeat with each `--door`".to_owned(),
        },
    })?;
    if args.readers.is_empty() && !readers.is_empty() {
        found.readers.clear();
    }
    for (named, wanted) in [(doors, &mut found.doors), (readers, &mut found.readers)] {
        wanted.extend(named);
        wanted.sort_unstable();
        wanted.dedup();
    }
    let found = &found;
    output::text(&format!(
        "authority     {}\nwitnesses in  {}\nreaders       {}\ndoors         {}\nwill make     accounts, rights and the lock, where they are missing or differ\n",
        bootstrap.name,
        found.witnesses.name(),
        found.readers.join(", "),
        found.doors.join(", "),
    ))?;
    if args.dry_run {
        output::note("nothing was written (`--dry-run`)");
        return Ok(ExitCode::SUCCESS);
    }
    belongings(found, bootstrap, authority.epoch).await?;
    if found.clusters.witness != found.clusters.target {
        // The copy that the lock asks follows the Authority.
        let copy = AuthorityWitness { clusters, ..authority };
        made(&found.target, &authority_object(&bootstrap.name, &spec_of(&copy)?)).await?;
    }
    locked(found, bootstrap).await?;
    output::text("complete\n")?;
    Ok(ExitCode::SUCCESS)
}

/// `--move`: another root or place in Vault, while Git still rules.
async fn moves(
    args: &InitArgs,
    access: &Access,
    bootstrap: &Bootstrap,
    root: Option<String>,
) -> Result<ExitCode, Failure> {
    let (cluster, target) = connected(args, access).await?;
    let current = authority_there(&cluster, bootstrap).await?;
    let uid = installation::uid(&target).await.map_err(|problem| target.failure(problem))?;
    is_target(&cluster, &current, current.clusters.as_ref(), &uid)?;
    let next = AuthorityWitness {
        clusters: current.clusters.clone(),
        no_vault_yet: current.no_vault_yet,
        ..super::witness_of(bootstrap, root)
    };
    match (&current.holds, (current.epoch, &current.supersedes) == (next.epoch, &next.supersedes)) {
        (Holds::Git, true) => {}
        (Holds::Git, false) | (Holds::Vault(_), _) => {
            let said = witness::read(&cluster, &bootstrap.name, &[bootstrap.epoch]).await.holder();
            return Err(Failure::Exists {
                name: bootstrap.name.to_string(),
                witness: format!("it says {said}, and only git of the epoch in regent.yaml can be moved"),
            });
        }
    }
    let shown = |witness: &AuthorityWitness| {
        let vault = witness.vault.as_ref().map_or("none".to_owned(), ToString::to_string);
        format!("root {}, vault {vault}", witness.root.as_deref().unwrap_or("outside a repository"))
    };
    output::text(&format!(
        "authority  {}\nfrom       {}\nto         {}\n",
        bootstrap.name,
        shown(&current),
        shown(&next)
    ))?;
    if args.dry_run {
        output::note("nothing was written (`--dry-run`)");
        return Ok(ExitCode::SUCCESS);
    }
    if current == next && args.target_context.is_none() {
        output::note("nothing was written: it says so already");
        return Ok(ExitCode::SUCCESS);
    }
    if !args.yes && !super::confirmed(bootstrap)? {
        output::note("nothing was written");
        return Ok(ExitCode::FAILURE);
    }
    let object = authority_object(&bootstrap.name, &spec_of(&next)?);
    let path = authority_path(&bootstrap.name);
    cluster.apply(&path, &object, true, false).await.map_err(|problem| cluster.failure(problem))?;
    if args.target_context.is_some() {
        // A copy that names another place could never say vault.
        made(&target, &object).await?;
    }
    output::text("moved\n")?;
    Ok(ExitCode::SUCCESS)
}

/// The Authority, where it is certainly there.
async fn authority_there(cluster: &Cluster, bootstrap: &Bootstrap) -> Result<AuthorityWitness, Failure> {
    match witness::read(cluster, &bootstrap.name, &[bootstrap.epoch]).await.authority {
        Reading::Present(authority) => Ok(authority),
        Reading::Absent => Err(Refusal::from(AuthorityRefusal::NoAuthority { name: bootstrap.name.clone() }).into()),
        Reading::Unreadable(why) => Err(Refusal::from(AuthorityRefusal::Unreadable { why }).into()),
    }
}
