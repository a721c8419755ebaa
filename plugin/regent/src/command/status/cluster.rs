//! What `regent status` gathers from clusters: plain data, without a judgement. What cannot be looked at is said so.
//!
//! Of a Secret its metadata is asked for (`PartialObjectMetadata`) and never its data, so no value reaches this process.
//! The one exception is not ours: client-side apply keeps a copy of what it applied in an annotation. It is dropped as
//! soon as it was seen to be there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use regent_core::bootstrap::Bootstrap;
use regent_core::evidence::{AuthorityWitness, DocumentList, Evidence, Reading};
use regent_core::live::{LiveSecret, Tracking};
use regent_core::name::{AuthorityName, SecretName};
use regent_core::phase::Phase;
use regent_core::rules::RegentConfig;
use regent_core::survey::SurveyedFile;
use serde_json::Value;
use tokio::task::JoinSet;

use super::account::{self, Account};
use super::flux::{self, Flux};
use super::report::{is_secret, secret_name};
use crate::cli::StatusArgs;
use crate::cluster::authority::LEFT_BEHIND;
use crate::cluster::doors::{self, KEYS};
use crate::cluster::installation::{self, Policy};
use crate::cluster::witness::{self, authority_path};
use crate::cluster::{Access, Cluster, ClusterError, block_on};
use crate::config;
use crate::failure::Failure;

/// Everything that was looked at.
pub(super) struct Facts {
    /// The API server of the witnesses.
    pub(super) witnesses: String,
    /// That of the Secrets, where it is another cluster.
    pub(super) target: Option<String>,
    pub(super) evidence: Evidence,
    /// What the Authority's object says besides; `None` where there is none.
    pub(super) noted: Result<Option<Noted>, String>,
    /// The uids that the clusters have.
    pub(super) witness_uid: Result<String, String>,
    pub(super) target_uid: Result<String, String>,
    /// The Authority in the other cluster, for its lock alone.
    pub(super) copy: Option<Reading<AuthorityWitness>>,
    pub(super) policies: Vec<Policy>,
    pub(super) target_policies: Vec<Policy>,
    pub(super) lock: Policy,
    /// Who is locked out; `None` where it cannot be told.
    pub(super) doors: Option<Vec<String>>,
    pub(super) keys: Keys,
    pub(super) account: Account,
    pub(super) flux: Flux,
    /// Every Secret of a document, of the handover's list, or with the authority's label.
    pub(super) secrets: BTreeMap<SecretName, Reading<LiveSecret>>,
    /// Those with the label.
    pub(super) labelled: Result<BTreeSet<SecretName>, String>,
    /// Seconds since 1970.
    pub(super) now: u64,
}

/// What stands beside the witness in the Authority's object.
pub(super) struct Noted {
    pub(super) tracking: Tracking,
    /// When it was last counted, in seconds since 1970.
    pub(super) heartbeat: Option<u64>,
    /// What the condition `Settled` says.
    pub(super) settled: Option<Settled>,
}

/// What was noted of how it was settled.
pub(super) struct Settled {
    pub(super) message: String,
    /// Whether a person left something behind, which the message names.
    pub(super) left_behind: bool,
}

/// Identities that are still at hand.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// Before phase 4 they are needed.
    Needed,
    /// What is left of them.
    Left {
        /// Files and folders of the rule that exist on this machine.
        files: Vec<PathBuf>,
        /// Secrets with keys that Argo CD's repo-server mounts, as far as can be told.
        mounted: Result<Vec<String>, String>,
    },
}

/// Secrets asked for at once.
const AT_ONCE: usize = 16;

pub(super) fn gather(
    args: &StatusArgs,
    access: &Access,
    config: Option<&RegentConfig>,
    bootstrap: &Bootstrap,
    files: &[SurveyedFile],
) -> Result<Facts, Failure> {
    block_on(async {
        let name = &bootstrap.name;
        let witnesses = Cluster::connect(access).await?;
        let target = match &args.target_context {
            Some(context) => Cluster::connect(&Access { context: Some(context.clone()), ..access.clone() }).await?,
            None => witnesses.clone(),
        };
        let uid = async |cluster| installation::uid(cluster).await.map_err(|error| error.to_string());
        let (witness_uid, target_uid) = tokio::join!(uid(&witnesses), uid(&target));
        let is_hub = match (&witness_uid, &target_uid) {
            (Ok(witness), Ok(target)) => witness != target,
            (Ok(_) | Err(_), Ok(_) | Err(_)) => witnesses.name() != target.name(),
        };
        let (target_path, near) = (authority_path(name), [bootstrap.epoch]);
        let (evidence, noted, policies, lock, doors) = tokio::join!(
            witness::read(&witnesses, name, &near),
            noted(&witnesses, name),
            installation::policies(&witnesses),
            installation::lock_in_force(&target, name),
            installation::locked_doors(&target, name),
        );
        let (copy, target_policies) = if is_hub {
            (Some(copy_of(name, target.get(&target_path).await)), installation::policies(&target).await)
        } else {
            (None, Vec::new())
        };
        let (keys, account) = match Phase::of(&evidence.holder(), &evidence, regent_core::phase::Live::Unknown) {
            Some(Phase::SteadyState) => {
                tokio::join!(keys_left(args, config, name, &witnesses), account::left(&witnesses, name))
            }
            Some(Phase::RootTrust | Phase::ControlPlane | Phase::Bootstrap | Phase::Activation) | None => {
                (Keys::Needed, Account::Needed)
            }
        };
        let (documents, holder) = (evidence.documents(), evidence.holder());
        let listed = match &documents {
            DocumentList::Readable(listed) => listed.as_slice(),
            DocumentList::Unreadable => &[],
        };
        let ((labelled, secrets), flux) = tokio::join!(
            secrets(&target, name, wanted(files, &documents)),
            flux::look(&witnesses, config, name, &holder, listed),
        );
        Ok(Facts {
            witnesses: witnesses.name().to_owned(),
            target: is_hub.then(|| target.name().to_owned()),
            evidence,
            noted,
            witness_uid,
            target_uid,
            copy,
            policies,
            target_policies,
            lock,
            doors: doors.as_deref().map(doors_in),
            keys,
            account,
            flux,
            secrets,
            labelled,
            now: SystemTime::UNIX_EPOCH.elapsed().as_ref().map(Duration::as_secs).unwrap_or_default(),
        })
    })
}

async fn noted(cluster: &Cluster, name: &AuthorityName) -> Result<Option<Noted>, String> {
    let object = cluster.get(&authority_path(name)).await.map_err(|error| error.to_string())?;
    Ok(object.map(|object| Noted {
        tracking: Tracking::of_metadata(&object["metadata"]),
        heartbeat: object["status"]["heartbeat"]["time"].as_u64(),
        settled: settled_of(&object),
    }))
}

fn settled_of(object: &Value) -> Option<Settled> {
    let conditions = object["status"]["conditions"].as_array()?;
    let settled = conditions.iter().find(|condition| condition["type"] == "Settled")?;
    let message = settled["message"].as_str()?.to_owned();
    Some(Settled { message, left_behind: settled["reason"] == LEFT_BEHIND })
}

fn copy_of(name: &AuthorityName, read: Result<Option<Value>, ClusterError>) -> Reading<AuthorityWitness> {
    match read {
        Ok(None) => Reading::Absent,
        Ok(Some(object)) => AuthorityWitness::from_json(name, object["spec"].to_string().as_bytes()),
        Err(error) => Reading::Unreadable(error.to_string()),
    }
}

/// The Secrets of the documents in Git and of the handover's list.
fn wanted(files: &[SurveyedFile], list: &DocumentList) -> BTreeSet<SecretName> {
    let documents = files.iter().filter_map(|file| file.documents.as_ref().ok()).flatten();
    let mut names: BTreeSet<SecretName> =
        documents.filter_map(|document| secret_name(document.identity.as_ref()?)).collect();
    match list {
        DocumentList::Readable(listed) => {
            names.extend(listed.iter().filter(|one| is_secret(&one.kind)).map(|one| one.name.clone()));
        }
        DocumentList::Unreadable => {}
    }
    names
}

type Secrets = BTreeMap<SecretName, Reading<LiveSecret>>;

/// Those with the label in one list, whatever else is wanted one by one.
async fn secrets(
    cluster: &Cluster,
    authority: &AuthorityName,
    wanted: BTreeSet<SecretName>,
) -> (Result<BTreeSet<SecretName>, String>, Secrets) {
    let mut found = Secrets::new();
    let query = format!("&labelSelector=regent.dev%2Fauthority%3D{authority}");
    let labelled = match cluster.list_metadata("/api/v1/secrets", &query).await {
        Ok(labelled) => {
            found.extend(labelled.iter().filter_map(|metadata| {
                let name = format!("{}/{}", metadata["namespace"].as_str()?, metadata["name"].as_str()?);
                Some((SecretName::parse(&name).ok()?, Reading::Present(LiveSecret::of_metadata(metadata))))
            }));
            Ok(found.keys().cloned().collect())
        }
        Err(error) => Err(error.to_string()),
    };
    let mut left = wanted.into_iter().filter(|name| !found.contains_key(name)).collect::<Vec<_>>().into_iter();
    let mut reads = JoinSet::new();
    loop {
        while reads.len() < AT_ONCE
            && let Some(name) = left.next()
        {
            let cluster = cluster.clone();
            reads.spawn(async move {
                let path = format!("/api/v1/namespaces/{}/secrets/{}", name.namespace(), name.name());
                let reading = match cluster.get_metadata(&path).await {
                    Ok(Some(metadata)) => Reading::Present(LiveSecret::of_metadata(&metadata)),
                    Ok(None) => Reading::Absent,
                    Err(error) => Reading::Unreadable(error.to_string()),
                };
                (name, reading)
            });
        }
        match reads.join_next().await {
            Some(Ok((name, reading))) => drop(found.insert(name, reading)),
            // One that panicked was reported where it did, and is missing in the table.
            Some(Err(_)) => {}
            None => return (labelled, found),
        }
    }
}

/// The doors of a lock, out of its expression: a CEL list of strings.
fn doors_in(list: &str) -> Vec<String> {
    let (mut doors, mut door) = (Vec::new(), None::<String>);
    let mut chars = list.chars();
    while let Some(char) = chars.next() {
        match (char, &mut door) {
            ('\'', Some(_)) => doors.extend(door.take()),
            ('\'', None) => door = Some(String::new()),
            ('\\', Some(text)) => text.extend(chars.next()),
            (char, Some(text)) => text.push(char),
            (_, None) => {}
        }
    }
    doors
}

/// Identities that nobody needs any more once Vault rules and nothing old can come back.
async fn keys_left(args: &StatusArgs, config: Option<&RegentConfig>, name: &AuthorityName, cluster: &Cluster) -> Keys {
    let rules = config.map(|config| config.rules.as_slice()).unwrap_or_default();
    let file = args.store.config.as_deref().unwrap_or(Path::new(""));
    let mut files: Vec<PathBuf> = rules
        .iter()
        .filter(|rule| rule.authority == *name)
        .flat_map(|rule| rule.identities.iter().map(|path| config::beside(file, path)))
        .filter(|path| path.exists())
        .collect();
    files.sort();
    files.dedup();
    let others: Vec<String> =
        rules.iter().filter(|rule| rule.authority != *name).map(|rule| format!("{KEYS}{}", rule.authority)).collect();
    let mut there = Vec::new();
    for namespace in doors::namespaces(config) {
        let workloads = match doors::lasting(cluster, &namespace).await {
            Ok(workloads) => workloads,
            Err(error) => return Keys::Left { files, mounted: Err(error.to_string()) },
        };
        let secrets = doors::key_secrets(&workloads, &[]).into_iter().map(|secret| secret.name);
        for secret in secrets.filter(|secret| !others.contains(secret)) {
            // A volume may be optional. Where its Secret cannot be looked at, it counts.
            let path = format!("/api/v1/namespaces/{namespace}/secrets/{secret}");
            if !matches!(cluster.get_metadata(&path).await, Ok(None)) {
                there.push(format!("{namespace}/{secret}"));
            }
        }
    }
    Keys::Left { files, mounted: Ok(there) }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Request, Response, header};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    #[test]
    fn doors_are_read_as_they_were_written() {
        let written = crate::cluster::lock::lock(
            &AuthorityName::parse("prod").unwrap(),
            &["system:serviceaccount:argocd:a".to_owned(), "it's".to_owned()],
        );
        let expression = written[0]["spec"]["matchConditions"][0]["expression"].as_str().unwrap();
        let list = expression.strip_prefix("request.userInfo.username in ").unwrap();
        assert_eq!(doors_in(list), ["system:serviceaccount:argocd:a", "it's"]);
        assert_eq!(doors_in("[]"), [""; 0]);
    }

    /// Whatever an API server is asked about Secrets, and what it answers: two live ones, one of them without the label.
    #[tokio::test]
    async fn of_a_secret_its_metadata_is_asked_for_and_never_its_data() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let accept = request.headers()[header::ACCEPT].to_str().unwrap().to_owned();
            let path = request.uri().path().to_owned();
            seen.lock().unwrap().push((request.method().clone(), path.clone(), accept.clone()));
            let metadata = |name: &str| json!({ "namespace": "app", "name": name });
            let (status, kind, answer) = match path.as_str() {
                "/api/v1/secrets" => {
                    (200, "PartialObjectMetadataList", json!({ "items": [{ "metadata": metadata("db") }] }))
                }
                "/api/v1/namespaces/app/secrets/web" => {
                    (200, "PartialObjectMetadata", json!({ "metadata": metadata("web") }))
                }
                _gone => (404, "Status", json!({ "reason": "NotFound", "details": { "name": "gone" } })),
            };
            let mut answer = answer;
            answer["kind"] = json!(kind);
            let response = Response::builder().status(status).body(Body::from(answer.to_string().into_bytes()));
            async move { Ok::<_, std::convert::Infallible>(response.unwrap()) }
        });
        let cluster = Cluster::of_service(service);
        let name = |text: &str| SecretName::parse(text).unwrap();
        let wanted = ["app/db", "app/web", "app/gone"].map(name).into_iter().collect();
        let (labelled, found) = secrets(&cluster, &AuthorityName::parse("prod").unwrap(), wanted).await;
        assert_eq!(labelled, Ok([name("app/db")].into_iter().collect()));
        let there: Vec<_> =
            found.iter().map(|(name, live)| (name.to_string(), matches!(live, Reading::Present(_)))).collect();
        let expected = [("app/db", true), ("app/gone", false), ("app/web", true)];
        assert_eq!(there, expected.map(|(name, there)| (name.to_owned(), there)));
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 3);
        for (method, path, accept) in asked.iter() {
            assert_eq!(method, "GET", "{path}");
            assert!(accept.starts_with("application/json;as=PartialObjectMetadata"), "{path}: {accept}");
            assert!(!accept.contains(','), "no other kind will do: {accept}");
        }
    }

    #[tokio::test]
    async fn a_whole_secret_that_comes_all_the_same_is_not_taken() {
        let service = tower::service_fn(|request: Request<Body>| async move {
            let kind = if request.uri().path() == "/api/v1/secrets" { "SecretList" } else { "Secret" };
            let whole = json!({ "kind": kind, "items": [], "metadata": { "name": "db" }, "data": { "a": "UkVHRU5ULUNBTkFSWQ==" } });
            Ok::<_, std::convert::Infallible>(Response::new(Body::from(whole.to_string().into_bytes())))
        });
        let cluster = Cluster::of_service(service);
        let db = SecretName::parse("app/db").unwrap();
        let (labelled, found) =
            secrets(&cluster, &AuthorityName::parse("prod").unwrap(), [db].into_iter().collect()).await;
        assert!(labelled.is_err());
        let unreadable: Vec<_> = found.values().map(|live| format!("{live:?}")).collect();
        assert!(unreadable[0].starts_with("Unreadable") && !unreadable[0].contains("UkVH"), "{unreadable:?}");
    }
}
