//! `regent restore`: a person brings an absent permanent Secret back from Git while Vault rules.
//!
//! ```text
//! gather   witnesses, uids, Git's document, whether the Secret is live, Vault's copy
//! decide   core: the one exception to P2, or a refusal
//! act      create, never overwrite; an Event beside it says so
//! ```

use std::process::ExitCode;

use regent_core::authority::{self, Recheck, Ruling};
use regent_core::emit::{Encoding, Manifest};
use regent_core::evidence::{Evidence, Holder, Reading};
use regent_core::name::{HandoverId, SecretName};
use regent_core::restore::{self, Asked, Facts, Live, Permitted, RestoreRefusal, Stale, VaultCopy};
use regent_core::{Refusal, render};
use regent_sops::Plaintext;
use serde_json::{Value, json};

use super::root::{Root, typed_with};
use crate::cli::RestoreArgs;
use crate::cluster::{Cluster, ClusterError, block_on, secrets, witness};
use crate::failure::Failure;
use crate::output;
use crate::vault::{self, Present, Reading as InVault, Token};

pub(super) fn run(args: &RestoreArgs) -> Result<ExitCode, Failure> {
    let name = SecretName::parse(&args.secret).map_err(|bad| Failure::Usage(bad.to_string()))?;
    let root = Root::gather("regent restore", &args.dir, &args.store, &args.keys)?;
    let token = args.vault_token_file.as_deref().map(Token::read).transpose()?;
    block_on(async {
        let connected = root.connect(args.target_context.as_ref()).await?;
        let read =
            || witness::read(&connected.witnesses, &root.bootstrap.name, std::slice::from_ref(&root.bootstrap.epoch));
        let evidence = read().await;
        let (holder, place) = (evidence.holder(), root.place(&evidence));
        let copy = connected.copy(&root.bootstrap).await;
        let asked = Asked { clusters: &connected.uids, copy: copy.as_ref() };
        let permitted = restore::permitted(&root.bootstrap, &place, &evidence, asked, &name).map_err(refused)?;
        root.knows_its_kustomizations(&connected.witnesses, &evidence).await?;

        // Opened, and held back until the decision.
        let ruling = Ruling::unasked();
        let found = render::one(&root.request(&ruling), &name, &permitted.listed.path).map_err(Failure::from);
        let found = root.identities.told(found)?;
        let manifest = found.ok_or_else(|| refused(RestoreRefusal::NoDocument { name: name.clone() }))?;

        let target = &connected.target;
        let exists = secrets::exists(target, &name).await.map_err(|problem| target.failure(problem))?;
        let copy = vault_copy(&root, &evidence, &permitted, &name, &manifest, token.as_ref()).await?;
        let restoration = restore::decide(&Facts {
            bootstrap: &root.bootstrap,
            place: &place,
            evidence: &evidence,
            asked,
            name: &name,
            live: if exists { Live::Present } else { Live::Absent },
            copy: &copy,
            stale: if args.stale_ok { Stale::Accepted } else { Stale::Refused },
        });
        let restoration = restoration.map_err(refused)?;
        output::text(&format!(
            "secret        {name}\nfrom          {}\nwitnesses     {holder}\nvault         {}\nsecrets in    {}\n",
            manifest.file(),
            in_words(&copy),
            target.name()
        ))?;
        let Holder::Vault { handover, .. } = &holder else { return Err(Failure::Bug) };
        // Without a trace nothing comes back.
        let trace = |uid: Option<&str>| event(&name, handover, &copy, uid);
        let events = format!("/api/v1/namespaces/{}/events", name.namespace().as_str());
        target.create(&events, &trace(None), true).await.map_err(|problem| target.failure(problem))?;
        if args.dry_run {
            output::note("nothing was written (`--dry-run`)");
            return Ok(ExitCode::SUCCESS);
        }
        match authority::recheck(&holder, &read().await.holder()).map_err(Refusal::from)? {
            Recheck::Same => {}
            Recheck::NowStubs => return Err(Failure::Bug),
        }
        let bytes = leaving(manifest.restored(&restoration)?)?;
        let created = target.create_secret(&secrets::secrets_path(&name), &bytes).await;
        let created = created.map_err(|problem| not_created(target, &name, problem))?;
        drop(bytes);
        output::note(format_args!("restored Secret {name} while {holder}; Vault's copy: {}", in_words(&copy)));
        let noted = target.create(&events, &trace(created["metadata"]["uid"].as_str()), false).await;
        if let Err(problem) = noted {
            output::note(format_args!("no Event says so: {problem}"));
        }
        output::text(&format!("restored Secret {name}\n"))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// What Vault holds beside Git's values, at the place of the handover.
async fn vault_copy(
    root: &Root,
    evidence: &Evidence,
    permitted: &Permitted<'_>,
    name: &SecretName,
    manifest: &Manifest,
    token: Option<&Token>,
) -> Result<VaultCopy, Failure> {
    if !permitted.permanent.vault {
        return Ok(VaultCopy::NotKept);
    }
    let silent = |why: &str| Ok(VaultCopy::Silent(why.to_owned()));
    let Some(token) = token else { return silent("no token was given to ask with (`--vault-token-file`)") };
    let place = match evidence.place() {
        Reading::Present(place) => place,
        Reading::Absent => return silent("no witness names its place"),
        Reading::Unreadable(why) => return silent(&format!("its place is not known: {why}")),
    };
    match vault::copy(&place, name, token).await {
        Ok(InVault::Absent) => Ok(VaultCopy::Absent),
        Ok(InVault::Deleted) => Ok(VaultCopy::Deleted),
        Ok(InVault::Present(Present { fields, .. })) => {
            let encoding = root.bootstrap.secrets.encoding.get(name).copied();
            Ok(if manifest.has_fields(&fields, encoding) { VaultCopy::Same } else { VaultCopy::Different })
        }
        Err(Failure::Vault { address, problem }) => Ok(VaultCopy::Silent(format!("{address}: {problem}"))),
        Err(failure) => Err(failure),
    }
}

fn in_words(copy: &VaultCopy) -> &'static str {
    match copy {
        VaultCopy::NotKept => "keeps no copy (`vault: false`)",
        VaultCopy::Same => "holds the same values",
        VaultCopy::Absent => "holds no copy",
        VaultCopy::Different => "holds other values (`--stale-ok`)",
        VaultCopy::Deleted => "had a copy that was deleted (`--stale-ok`)",
        VaultCopy::Silent(_) => "does not say (`--stale-ok`)",
    }
}

/// The Secret as it leaves.
fn leaving(manifest: Manifest) -> Result<Plaintext, Refusal> {
    #[expect(clippy::disallowed_methods, reason = "the one exit of a manifest from `regent restore`")]
    manifest.into_bytes(Encoding::Json)
}

/// Why the API server did not create it. What else it says of an object is not quoted.
fn not_created(target: &Cluster, name: &SecretName, problem: ClusterError) -> Failure {
    match problem {
        // Somebody was quicker.
        ClusterError::Conflict(_) => refused(RestoreRefusal::Present { name: name.clone() }),
        ClusterError::Denied(message) if message.contains("'regent-lock-") => Failure::NotReady {
            cluster: target.name().to_owned(),
            problem: format!("the lock takes this identity for a front door: {message}"),
            way_out: "restore as a person, not with the account of Argo CD or Flux".to_owned(),
        },
        problem @ (ClusterError::Unreachable(_)
        | ClusterError::Late(_)
        | ClusterError::Unauthorized
        | ClusterError::Forbidden(_)
        | ClusterError::Denied(_)
        | ClusterError::NotServed(_)
        | ClusterError::Status { .. }) => target.failure(problem),
    }
}

/// What stays in the cluster of it, beside the Secret's own metadata (manager and time).
fn event(name: &SecretName, handover: &HandoverId, copy: &VaultCopy, uid: Option<&str>) -> Value {
    let now = k8s_openapi::jiff::Timestamp::from_second(k8s_openapi::jiff::Timestamp::now().as_second());
    let now = now.unwrap_or_default().to_string();
    let (namespace, secret) = (name.namespace().as_str(), name.name());
    let mut about = json!({ "apiVersion": "v1", "kind": "Secret", "namespace": namespace, "name": secret });
    if let Some(uid) = uid {
        about["uid"] = json!(uid);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "generateName": "regent-restored-", "namespace": namespace },
        "involvedObject": about,
        "type": "Normal",
        "reason": "Restored",
        "message": format!("brought back from Git by `regent restore` after handover {handover}; Vault {}", in_words(copy)),
        "source": { "component": "regent" },
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    })
}

/// A refusal, with the command that goes on.
fn refused(refusal: RestoreRefusal) -> Failure {
    if let RestoreRefusal::Authority(refusal) = refusal {
        return Refusal::from(refusal).into();
    }
    let way_out = match &refusal {
        RestoreRefusal::Authority(_) => String::new(),
        RestoreRefusal::GitRules { .. } => "sync its Application; `regent refresh` makes Argo CD ask again".to_owned(),
        RestoreRefusal::ListUnreadable => {
            "`regent status DIR` shows what is missing; `regent verify` mirrors it again".to_owned()
        }
        RestoreRefusal::NotListed { .. } => {
            "`regent import` puts a Secret into Vault that was committed after the handover".to_owned()
        }
        RestoreRefusal::NotPermanent { .. } => {
            "have it delivered from Vault: by External Secrets, Vault's operator, or by hand".to_owned()
        }
        RestoreRefusal::OtherCluster { .. } => {
            "`--context` is the cluster of the witnesses, `--target-context` that of the Secret".to_owned()
        }
        RestoreRefusal::Present { name } => format!(
            "to replace it, delete it first: `kubectl -n {} delete secret {}`, then `{}`",
            name.namespace().as_str(),
            name.name(),
            typed_with(&[])
        ),
        RestoreRefusal::Stale { .. } => format!(
            "make Git and Vault agree, and have Vault answer (`--vault-token-file FILE`); or take Git's: `{}`",
            typed_with(&["--stale-ok".to_owned()])
        ),
        RestoreRefusal::NoDocument { .. } => {
            "check out the commit that still holds it, and give that folder".to_owned()
        }
    };
    Failure::Restore { refusal, way_out }
}
