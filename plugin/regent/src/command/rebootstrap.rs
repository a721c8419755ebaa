//! `regent rebootstrap`: Git rules again after Vault was lost. For break-glass.
//!
//! ```text
//! gather   witnesses, uids, Vault's record, live Secrets beside Git's, who delivers from Vault
//! decide   core: refuse, or the next write
//! act      roles for the next epoch, the Authority write by write, a hub's copy; then Argo CD asks again
//! ```
//! What was decided upon is looked at again once a person has agreed, and the witnesses after each write. Nothing but the
//! decision knows how far an earlier run came.

mod saved;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use regent_core::authority::{self, AuthorityRefusal, Ruling};
use regent_core::evidence::{AuthorityWitness, DocumentList, Evidence, Holder, Reading};
use regent_core::name::{HandoverId, SecretName};
use regent_core::rebootstrap::{self, Delivery, Facts, Live, RebootstrapRefusal, Step, VaultSays};
use regent_core::{Refusal, render};

use self::saved::Saved;
use super::refresh;
use super::root::{Connected, Root, typed_with};
use crate::cli::RebootstrapArgs;
use crate::cluster::installation::{self, authority_object, spec_of};
use crate::cluster::secrets::{self, LiveSecret};
use crate::cluster::witness::{self, authority_path};
use crate::cluster::{Cluster, block_on};
use crate::failure::Failure;
use crate::output;
use crate::vault::{self, Record, Token};

pub(super) fn run(args: &RebootstrapArgs) -> Result<ExitCode, Failure> {
    let root = Root::gather("regent rebootstrap", &args.dir, &args.store, &args.keys)?;
    let saved = args.save_live.as_deref().map(|file| Saved::to(file, &root.bootstrap)).transpose()?;
    let typed = Typed::of(args)?;
    block_on(async {
        let connected = root.connect(args.target_context.as_ref()).await?;
        let seen = Seen::look(&root, &connected, &typed).await?;
        let step = match seen.decide(&root, &connected, &typed) {
            Ok(step) => step,
            Err(refusal) => {
                if let (RebootstrapRefusal::LiveDiffers { .. }, Some(saved), false) = (&refusal, &saved, args.dry_run) {
                    seen.save(saved)?;
                }
                return Err(refused(refusal));
            }
        };
        output::text(&plan(&root, &connected, &seen, &step, &typed))?;
        if args.dry_run {
            output::note("nothing was written (`--dry-run`)");
            return Ok(ExitCode::SUCCESS);
        }
        if !args.yes && !confirmed(&root)? {
            output::note("nothing was written");
            return Ok(ExitCode::FAILURE);
        }
        // A person has read meanwhile, and somebody may have rotated, delivered or restored.
        let seen = Seen::look(&root, &connected, &typed).await?;
        if seen.decide(&root, &connected, &typed).map_err(refused)? != step {
            return Err(refused(RebootstrapRefusal::Moved));
        }
        if let Some(saved) = &saved {
            seen.save(saved)?;
        }
        let act = Act { root: &root, connected: &connected, typed: &typed };
        act.all(seen, step).await.inspect_err(|_| {
            output::note(format_args!("it stopped on the way; the same command goes on: `{}`", typed_with(&[])));
        })?;
        Ok(ExitCode::SUCCESS)
    })
}

/// What was typed, parsed.
struct Typed {
    abandoned: Option<HandoverId>,
    overwrite: BTreeSet<SecretName>,
    token: Option<Token>,
}

impl Typed {
    fn of(args: &RebootstrapArgs) -> Result<Self, Failure> {
        let usage = |bad: regent_core::name::BadName| Failure::Usage(bad.to_string());
        Ok(Self {
            abandoned: args.abandon_vault.as_deref().map(HandoverId::parse).transpose().map_err(usage)?,
            overwrite: args
                .overwrite_live
                .iter()
                .map(|text| SecretName::parse(text))
                .collect::<Result<_, _>>()
                .map_err(usage)?,
            token: args.vault_token_file.as_deref().map(Token::read).transpose()?,
        })
    }
}

/// Everything that was looked at.
struct Seen {
    evidence: Evidence,
    /// The Authority in another cluster's target, where it could be read.
    copy: Option<AuthorityWitness>,
    vault: VaultSays,
    deliveries: Vec<Delivery>,
    secrets: BTreeMap<SecretName, Live>,
    /// The live Secrets that differ.
    different: Vec<LiveSecret>,
}

impl Seen {
    async fn look(root: &Root, connected: &Connected, typed: &Typed) -> Result<Self, Failure> {
        let evidence = witness::read(&connected.witnesses, &root.bootstrap.name, &[root.bootstrap.epoch]).await;
        let mut seen = Self {
            evidence,
            copy: connected.copy(&root.bootstrap).await,
            vault: VaultSays::Silent("it was not asked".to_owned()),
            deliveries: Vec::new(),
            secrets: BTreeMap::new(),
            different: Vec::new(),
        };
        let holder = seen.evidence.holder();
        let place = root.place(&seen.evidence);
        // In any other state the decision asks for nothing more, and no key is needed to hear it.
        let asked = authority::rule(&root.bootstrap, &place, &holder, DocumentList::Unreadable);
        if !matches!(asked, Err(AuthorityRefusal::NextEpoch { .. })) {
            return Ok(seen);
        }
        root.knows_its_kustomizations(&connected.witnesses, &seen.evidence).await?;
        seen.vault = ask_vault(root, &seen.evidence, &holder, typed).await?;
        let target = &connected.target;
        seen.deliveries = secrets::deliveries(target).await.map_err(|problem| target.failure(problem))?;
        seen.compare(root, target).await?;
        Ok(seen)
    }

    /// Opens Git's documents, and puts each Secret beside the live one. Nothing that was opened may leave.
    async fn compare(&mut self, root: &Root, target: &Cluster) -> Result<(), Failure> {
        let ruling = Ruling::unasked();
        let manifests = root.identities.told(render::render(&root.request(&ruling)).map_err(Failure::from))?;
        for manifest in &manifests {
            let Some(name) = manifest.secret_name() else { continue };
            let live = secrets::live(target, &name).await.map_err(|problem| target.failure(problem))?;
            let word = match live {
                None => Live::Absent,
                Some(live) if manifest.has_data(&live.data) => Live::Same,
                Some(live) => {
                    self.different.push(live);
                    Live::Different
                }
            };
            self.secrets.insert(name, word);
        }
        Ok(())
    }

    fn decide(&self, root: &Root, connected: &Connected, typed: &Typed) -> Result<Step, RebootstrapRefusal> {
        rebootstrap::decide(&Facts {
            bootstrap: &root.bootstrap,
            place: &root.place(&self.evidence),
            evidence: &self.evidence,
            clusters: &connected.uids,
            copy: self.copy.as_ref(),
            vault: &self.vault,
            abandoned: typed.abandoned.as_ref(),
            deliveries: &self.deliveries,
            secrets: &self.secrets,
            overwrite: &typed.overwrite,
        })
    }

    /// Saves what would be lost.
    fn save(&self, saved: &Saved) -> Result<(), Failure> {
        if self.different.is_empty() {
            output::note("no live value differs from Git's, so there is none to save");
            return Ok(());
        }
        let objects: Vec<_> = self.different.iter().map(|live| &live.object).collect();
        saved.write(&objects)?;
        let file = saved.file().display();
        output::note(format_args!(
            "saved {} live Secrets in {file}, encrypted to `recipients.root`; `regent open {file} -i KEY --reveal | kubectl \
             apply --server-side -f -` brings them back",
            objects.len()
        ));
        Ok(())
    }

    fn count(&self, wanted: Live) -> usize {
        self.secrets.values().filter(|live| **live == wanted).count()
    }
}

/// Asks the Vault of the handover, not the one that `regent.yaml` may name by now.
async fn ask_vault(root: &Root, evidence: &Evidence, holder: &Holder, typed: &Typed) -> Result<VaultSays, Failure> {
    let silent = |why: &str| Ok(VaultSays::Silent(why.to_owned()));
    let (Holder::Vault { epoch, .. }, Some(token)) = (holder, &typed.token) else {
        return silent("no token was given to ask with (`--vault-token-file`)");
    };
    let place = match evidence.place() {
        Reading::Present(place) => place,
        Reading::Absent => return silent("no witness names its place"),
        Reading::Unreadable(why) => return silent(&format!("its place is not known: {why}")),
    };
    match vault::record(&place, &root.bootstrap.name, *epoch, token).await {
        Ok(Record::Absent) => Ok(VaultSays::Absent),
        Ok(Record::Present(id)) => Ok(VaultSays::Present(id)),
        Err(Failure::Vault { address, problem }) => Ok(VaultSays::Silent(format!("{address}: {problem}"))),
        Err(failure) => Err(failure),
    }
}

/// The writes, each found out anew.
struct Act<'a> {
    root: &'a Root,
    connected: &'a Connected,
    typed: &'a Typed,
}

impl Act<'_> {
    async fn all(&self, mut seen: Seen, mut step: Step) -> Result<(), Failure> {
        let (name, cluster) = (&self.root.bootstrap.name, &self.connected.witnesses);
        loop {
            match &step {
                Step::CompleteMirrorFirst(next) => {
                    self.write(cluster, current(&seen.evidence)?, next).await?;
                    output::text(&format!("completed the mirror: Authority {name} says {}\n", said(next)))?;
                }
                Step::Raise(next) => {
                    // A front door that may not read the witnesses of the new epoch would answer with errors.
                    self.roles(next).await?;
                    self.write(cluster, current(&seen.evidence)?, next).await?;
                    output::text(&format!("raised: Authority {name} says {}\n", said(next)))?;
                }
                Step::Finish(next) => return self.finish(&seen.evidence, next).await,
            }
            // The other facts are what they were a moment ago; who rules is asked again.
            seen.evidence = witness::read(cluster, name, &[self.root.bootstrap.epoch]).await;
            step = seen.decide(self.root, self.connected, self.typed).map_err(refused)?;
        }
    }

    /// Writes an Authority that is still what was decided upon: `from`, or none.
    async fn write(
        &self,
        cluster: &Cluster,
        from: Option<&AuthorityWitness>,
        to: &AuthorityWitness,
    ) -> Result<(), Failure> {
        let (name, failed) = (&self.root.bootstrap.name, |problem| cluster.failure(problem));
        let path = authority_path(name);
        let mut object = authority_object(name, &spec_of(to)?);
        let live = cluster.get(&path).await.map_err(failed)?;
        let found = live.as_ref().map(|live| AuthorityWitness::from_json(name, live["spec"].to_string().as_bytes()));
        match (&live, found, from) {
            (None, _, None) => {
                cluster.create("/apis/regent.dev/v1alpha1/authorities", &object, false).await.map_err(failed)?;
            }
            (Some(live), Some(Reading::Present(found)), Some(from)) if found == *from => {
                // Somebody who is quicker makes this one fail.
                object["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
                cluster.apply(&path, &object, true, false).await.map_err(failed)?;
            }
            (None, _, Some(_)) | (Some(_), _, _) => return Err(refused(RebootstrapRefusal::Moved)),
        }
        Ok(())
    }

    async fn roles(&self, authority: &AuthorityWitness) -> Result<(), Failure> {
        let cluster = &self.connected.witnesses;
        for role in installation::rights_of_epoch(&authority.name, authority.epoch) {
            installation::ensure(cluster, &role).await.map_err(|problem| cluster.failure(problem))?;
        }
        Ok(())
    }

    /// What follows the Authority. An earlier run may have done any of it.
    async fn finish(&self, evidence: &Evidence, raised: &AuthorityWitness) -> Result<(), Failure> {
        self.roles(raised).await?;
        if self.connected.is_hub() {
            self.copy(evidence, raised).await?;
        }
        let name = &raised.name;
        output::text(&format!("Git rules epoch {} of `{name}`\n", raised.epoch))?;
        refresh::after_a_move(&self.connected.witnesses, self.root.config.as_ref()).await;
        Ok(())
    }

    /// The copy that the lock asks in the cluster of the Secrets follows. Until it does, the doors write none there.
    async fn copy(&self, evidence: &Evidence, raised: &AuthorityWitness) -> Result<(), Failure> {
        let (name, target) = (&raised.name, &self.connected.target);
        let live = target.get(&authority_path(name)).await.map_err(|problem| target.failure(problem))?;
        let found = match live.map(|live| AuthorityWitness::from_json(name, live["spec"].to_string().as_bytes())) {
            None | Some(Reading::Absent) => None,
            Some(Reading::Present(found)) => Some(found),
            Some(Reading::Unreadable(why)) => return Err(Refusal::from(AuthorityRefusal::Unreadable { why }).into()),
        };
        let before = raised.epoch.previous().and_then(|epoch| evidence.handovers.get(&epoch));
        let handover = match before {
            Some(Reading::Present(witness)) => witness.authority.as_deref(),
            Some(Reading::Absent | Reading::Unreadable(_)) | None => None,
        };
        let way = rebootstrap::catch_up(found.as_ref(), handover, raised).ok_or_else(|| Failure::NotReady {
            cluster: target.name().to_owned(),
            problem: format!("its copy of Authority {name} does not lead to {}", said(raised)),
            way_out: format!(
                "`kubectl delete authority {name}` there, as group regent:break-glass, then `{}`",
                typed_with(&[])
            ),
        })?;
        let mut from = found;
        for next in way {
            self.write(target, from.as_ref(), &next).await?;
            from = Some(next);
        }
        output::text(&format!("the copy for the lock in {} says {}\n", target.name(), said(raised)))
    }
}

/// The Authority as it was read.
fn current(evidence: &Evidence) -> Result<Option<&AuthorityWitness>, Failure> {
    match &evidence.authority {
        Reading::Present(current) => Ok(Some(current)),
        Reading::Absent => Ok(None),
        Reading::Unreadable(why) => Err(Refusal::from(AuthorityRefusal::Unreadable { why: why.clone() }).into()),
    }
}

/// What an Authority says, as K is written.
fn said(authority: &AuthorityWitness) -> String {
    let alone = Evidence { authority: Reading::Present(authority.clone()), ..Evidence::none() };
    let neighbours = Evidence::epochs_to_read(&alone.authority, None).into_iter().map(|epoch| (epoch, Reading::Absent));
    Evidence { handovers: neighbours.collect(), ..alone }.holder().to_string()
}

/// A refusal, with the command that goes on.
fn refused(refusal: RebootstrapRefusal) -> Failure {
    if let RebootstrapRefusal::Authority(refusal) = refusal {
        return Refusal::from(refusal).into();
    }
    let way_out = match &refusal {
        RebootstrapRefusal::Authority(_) => String::new(),
        RebootstrapRefusal::NotAsked { .. } => {
            "where Vault is certainly lost, commit `epoch` raised by one and `supersedes: HANDOVER`; `regent status DIR` names both"
                .to_owned()
        }
        RebootstrapRefusal::OtherCluster { .. } => {
            "`--context` is the cluster of the witnesses, `--target-context` that of the Secrets; a target that was rebuilt is \
             taken over first, by `regent init --target-only`"
                .to_owned()
        }
        RebootstrapRefusal::Mirror { .. } => {
            "`regent verify` writes it again from Vault's record; else group regent:break-glass corrects the Authority by hand"
                .to_owned()
        }
        RebootstrapRefusal::OtherHandover { held, .. } => format!("`--abandon-vault {held}`, if that one is meant"),
        RebootstrapRefusal::VaultHolds { held, .. } => format!(
            "take the commit back and let Vault rule; or give up what it holds: `{}`",
            typed_with(&["--abandon-vault".to_owned(), held.to_string()])
        ),
        RebootstrapRefusal::VaultSilent { held, .. } => format!(
            "make it answer (`--vault-token-file FILE`); or give up whatever it may hold: `{}`",
            typed_with(&["--abandon-vault".to_owned(), held.to_string()])
        ),
        RebootstrapRefusal::Delivered { first, .. } => {
            let (kind, name) = first.object.split_once(' ').unwrap_or_default();
            let (namespace, name) = name.split_once('/').unwrap_or_default();
            format!(
                "stop what applies it, then `kubectl -n {namespace} delete {} {name} --cascade=orphan`, then `{}`",
                kind.to_lowercase(),
                typed_with(&[])
            )
        }
        RebootstrapRefusal::NoSuchSecret { .. } => "name a Secret as NAMESPACE/NAME, as `regent render` shows it".to_owned(),
        RebootstrapRefusal::LiveDiffers { secrets } => {
            let named = secrets.iter().flat_map(|name| ["--overwrite-live".to_owned(), name.to_string()]);
            let save = ["--save-live".to_owned(), "live.json.age".to_owned()];
            let has_save = std::env::args_os().any(|word| word.to_string_lossy().starts_with("--save-live"));
            let words: Vec<_> = save.into_iter().filter(|_| !has_save).chain(named).collect();
            format!("put into Git what has to stay; or save and overwrite: `{}`", typed_with(&words))
        }
        RebootstrapRefusal::Moved => format!("look again: `{}`", typed_with(&["--dry-run".to_owned()])),
    };
    Failure::Rebootstrap { refusal, way_out }
}

fn plan(root: &Root, connected: &Connected, seen: &Seen, step: &Step, typed: &Typed) -> String {
    let target = if connected.is_hub() {
        format!("{} (its copy of the Authority follows)", connected.target.name())
    } else {
        "the same cluster".to_owned()
    };
    let vault = match (&seen.vault, &typed.abandoned) {
        (VaultSays::Absent, _) => "holds no record of the handover".to_owned(),
        (VaultSays::Present(_), Some(_)) => "holds the record, and is given up (`--abandon-vault`)".to_owned(),
        (VaultSays::Silent(_), Some(_)) => "does not answer, and is given up (`--abandon-vault`)".to_owned(),
        (VaultSays::Present(_) | VaultSays::Silent(_), None) => "was not asked".to_owned(),
    };
    let overwritten: Vec<String> =
        seen.secrets.iter().filter(|(_, live)| **live == Live::Different).map(|(name, _)| name.to_string()).collect();
    let live = format!(
        "{} as in Git, {} absent, {} differ",
        seen.count(Live::Same),
        seen.count(Live::Absent),
        overwritten.len()
    );
    let (found, will) = match step {
        Step::CompleteMirrorFirst(next) => (
            "the mirror of the handover is unfinished",
            format!("say {} first (completes the mirror), then git({})", said(next), root.bootstrap.epoch),
        ),
        Step::Raise(next) => ("the mirror of the handover is complete enough", format!("say {}", said(next))),
        Step::Finish(_) => {
            ("the epoch is raised already", "finish: rights, a hub's copy, Argo CD's refresh".to_owned())
        }
    };
    let mut lines = vec![
        ("authority", root.bootstrap.name.to_string()),
        ("root", root.gathered.root.clone().unwrap_or_else(|| "a folder outside a repository".to_owned())),
        ("witnesses in", connected.witnesses.name().to_owned()),
        ("secrets in", target),
        ("witnesses", format!("{}; {found}", seen.evidence.holder())),
    ];
    match step {
        Step::CompleteMirrorFirst(_) | Step::Raise(_) => {
            lines.extend([("vault", vault), ("live", live)]);
            if !overwritten.is_empty() {
                lines.push(("overwritten", overwritten.join("\n")));
            }
        }
        Step::Finish(_) => {}
    }
    lines.push(("will", will));
    let mut text = String::new();
    for (name, value) in lines {
        for (number, line) in value.lines().enumerate() {
            let name = if number == 0 { name } else { "" };
            text.extend([format!("{name:<13} {line}\n")]);
        }
    }
    text
}

fn confirmed(root: &Root) -> Result<bool, Failure> {
    let (name, epoch) = (&root.bootstrap.name, root.bootstrap.epoch);
    let question = format!(
        "Git rules the secrets of `{name}` again, as epoch {epoch}. Whatever Vault holds is given up. Raise it?"
    );
    super::confirmed("rebootstrap", &question)
}
