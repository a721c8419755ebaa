//! Vault's side: which Vault it is, what its record says, and the writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use k8s_openapi::jiff::Timestamp;
use regent_core::evidence::{Clusters, WitnessedVault};
use regent_core::handover::decide::{Found, RecordKey};
use regent_core::handover::record::{Amendment, KeyNow, Marked, Record, Site, VaultIdentity};
use regent_core::name::{AuthorityName, Epoch, HandoverId, SecretName};
use regent_sops::Plaintext;

use super::clock::{BORNE_BY_VAULT, difference};
use super::stop::{HandoverStop, stopped};
use crate::cli::{VaultArgs, VaultAuthArg};
use crate::failure::Failure;
use crate::output;
use crate::vault::{Creation, KeyPath, Login, NewKey, Present, Reading, Token, Vault, VaultAccess, VaultError};

/// As whom Vault is asked.
pub(in super::super) fn login(args: &VaultArgs) -> Result<Login, Failure> {
    let named = |default: &str| args.mount.clone().unwrap_or_else(|| default.to_owned());
    let role = || {
        let missing = || Failure::Usage("`--vault-auth` expects `--vault-role ROLE`".to_owned());
        args.role.clone().ok_or_else(missing)
    };
    let token = || {
        let missing =
            || Failure::Usage("Vault is asked: `--vault-token-file FILE`, or `--vault-auth METHOD`".to_owned());
        Token::read(args.token_file.as_deref().ok_or_else(missing)?)
    };
    let jwt = |mount: &str| Ok(Login::Jwt { mount: named(mount), role: role()?, file: args.jwt_file.clone() });
    match args.auth {
        VaultAuthArg::Token => Ok(Login::Token(token()?)),
        VaultAuthArg::Kubernetes => jwt("kubernetes"),
        VaultAuthArg::Jwt => jwt("jwt"),
        VaultAuthArg::Approle => Ok(Login::AppRole { mount: named("approle"), role_id: role()?, wrapping: token()? }),
    }
}

/// The Vault of a handover.
pub(in super::super) struct InVault {
    pub(in super::super) vault: Vault,
    address: String,
    /// What is told of its clock, once it was asked.
    clock: OnceLock<String>,
}

impl InVault {
    pub(in super::super) fn connect(
        place: &WitnessedVault,
        login: Login,
        args: &VaultArgs,
        at_once: u8,
    ) -> Result<Self, Failure> {
        let access =
            VaultAccess { login, patience: Duration::from_secs(args.patience), concurrency: usize::from(at_once) };
        Ok(Self { vault: Vault::connect(place, access)?, address: place.address.clone(), clock: OnceLock::new() })
    }

    pub(in super::super) fn failed(&self, problem: VaultError) -> Failure {
        stopped(HandoverStop::Vault { address: self.address.clone(), problem })
    }

    /// Does something in the Vault that is at this place, and gives the login back whatever came of it.
    pub(in super::super) async fn at<T>(
        &self,
        place: &WitnessedVault,
        clusters: Option<&Clusters>,
        ephemeral: bool,
        act: impl AsyncFnOnce(&Site) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let outcome = match self.site(place, clusters, ephemeral).await {
            Ok(site) => act(&site).await,
            Err(failure) => Err(failure),
        };
        self.give_back().await;
        outcome
    }

    /// Tells of a clock that is another one than this machine's.
    pub(in super::super) fn tell_of_its_clock(&self) {
        if let Some(told) = self.clock.get() {
            output::note(told);
        }
    }

    /// Which Vault this is. No token is sent before the node has answered as the active one.
    pub(in super::super) async fn site(
        &self,
        place: &WitnessedVault,
        clusters: Option<&Clusters>,
        ephemeral: bool,
    ) -> Result<Site, Failure> {
        let failed = |problem| self.failed(problem);
        let active = self.vault.active().await.map_err(failed)?;
        let now = Timestamp::now().as_second();
        let told = active.server_time.and_then(|time| difference(&self.address, time, now, BORNE_BY_VAULT));
        told.map(|told| self.clock.set(told));
        let storage = self.vault.storage().await.map_err(failed)?;
        if storage == "inmem" && !ephemeral {
            return Err(stopped(HandoverStop::Preflight(vec![
                "this Vault keeps everything in memory, and forgets it when it stops (`--allow-ephemeral-storage`)"
                    .to_owned(),
            ])));
        }
        let store = self.vault.store().await.map_err(failed)?;
        let lacks = |what: &str| {
            stopped(HandoverStop::Preflight(vec![format!("this Vault tells no {what}, by which it is known")]))
        };
        Ok(Site {
            vault: VaultIdentity {
                place: place.clone(),
                cluster_id: active.cluster_id.ok_or_else(|| lacks("`cluster_id`"))?,
                mount_uuid: store.uuid.ok_or_else(|| lacks("`uuid` of its mount"))?,
            },
            clusters: clusters.cloned(),
        })
    }

    /// What the record's key says, and what lies beside it; where the copies are now is left to [`Self::keys_now`]. A record that
    /// the witnesses tell of is looked for longer than a standby lags behind.
    pub(in super::super) async fn record(
        &self,
        name: &AuthorityName,
        epoch: Epoch,
        clusters: Option<&Clusters>,
        is_expected: bool,
    ) -> Result<RecordKey, Failure> {
        let key = KeyPath::record(name, epoch).map_err(|problem| self.failed(problem))?;
        let unreadable = |why: String| Ok(RecordKey::Unreadable(format!("`{key}`: {why}")));
        let marked = match self.marked(name, epoch, &key, is_expected).await {
            Ok(Kept::Absent) => return Ok(RecordKey::Absent),
            Ok(Kept::Deleted) => return Ok(RecordKey::Deleted),
            Ok(Kept::Is(marked)) => marked,
            Err(why) => return unreadable(why),
        };
        match self.beside(name, epoch, &key, marked, clusters).await {
            Ok(found) => Ok(RecordKey::Present(Box::new(found))),
            Err(why) => unreadable(why),
        }
    }

    async fn marked(
        &self,
        name: &AuthorityName,
        epoch: Epoch,
        key: &KeyPath,
        is_expected: bool,
    ) -> Result<Kept<Marked>, String> {
        let reading = if is_expected { self.vault.read_existing(key).await } else { self.vault.read(key).await };
        Ok(match reading.map_err(told)? {
            Reading::Absent => Kept::Absent,
            Reading::Deleted => Kept::Deleted,
            Reading::Present(present) => {
                let (version, created_time) = (version(&present)?, present.created_time.clone());
                let record = Record::from_fields(name, epoch, &texts(present)?)?;
                Kept::Is(Marked { record, version, created_time })
            }
        })
    }

    async fn beside(
        &self,
        name: &AuthorityName,
        epoch: Epoch,
        key: &KeyPath,
        marked: Marked,
        clusters: Option<&Clusters>,
    ) -> Result<Found, String> {
        let adopted = match clusters {
            Some(clusters) => self.amendment(name, epoch, key, &Amendment::adopted_key(clusters)).await?,
            None => None,
        };
        let mut rebound = Vec::new();
        while let Some(amendment) = self.amendment(name, epoch, key, &Amendment::rebind_key(rebound.len() + 1)).await? {
            rebound.push(amendment);
            if rebound.len() > MOST_REBOUND {
                return Err(format!("it was accepted for more than {MOST_REBOUND} Vaults"));
            }
        }
        Ok(Found { marked, adopted, rebound, keys: BTreeMap::new() })
    }

    async fn amendment(
        &self,
        name: &AuthorityName,
        epoch: Epoch,
        record: &KeyPath,
        below: &str,
    ) -> Result<Option<Amendment>, String> {
        let key = record.below(below).map_err(told)?;
        match self.vault.read(&key).await.map_err(told)? {
            Reading::Absent => Ok(None),
            Reading::Deleted => Err(format!("`{key}` was deleted")),
            Reading::Present(present) => Amendment::from_fields(name, epoch, &texts(present)?).map(Some),
        }
    }

    /// Where every recorded copy is now.
    pub(in super::super) async fn keys_now(&self, record: &Record) -> Result<BTreeMap<SecretName, KeyNow>, String> {
        self.keys_of(record.copied(), &record.site.vault.place.prefix).await
    }

    /// Where these copies are now.
    pub(in super::super) async fn keys_of(
        &self,
        names: BTreeSet<SecretName>,
        prefix: &str,
    ) -> Result<BTreeMap<SecretName, KeyNow>, String> {
        let one = async |name: SecretName| {
            let key = KeyPath::secret(prefix, &name).map_err(told)?;
            let now = match (self.vault.metadata(&key).await.map_err(told)?, self.vault.read(&key).await.map_err(told)?)
            {
                (None, _) => KeyNow::Absent,
                (Some(_), Reading::Absent | Reading::Deleted) => KeyNow::Deleted,
                // One that goes by itself is as good as gone.
                (Some(_), Reading::Present(present)) if !present.deletion_time.is_empty() => KeyNow::Deleted,
                (Some(metadata), Reading::Present(present)) => {
                    KeyNow::Present { version: version(&present)?, created_time: metadata.created_time }
                }
            };
            Ok((name, now))
        };
        stream::iter(names).map(one).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Appends what a person decided about a record, once.
    pub(in super::super) async fn append(
        &self,
        name: &AuthorityName,
        amendment: &Amendment,
        rebind: Option<usize>,
    ) -> Result<(), Failure> {
        let failed = |problem| self.failed(problem);
        let below = match (rebind, &amendment.site.clusters) {
            (Some(number), _) => Amendment::rebind_key(number),
            (None, Some(clusters)) => Amendment::adopted_key(clusters),
            (None, None) => return Err(Failure::Bug),
        };
        let key = KeyPath::record(name, amendment.epoch).and_then(|record| record.below(&below)).map_err(failed)?;
        self.put_once(&key, &amendment.to_fields()).await.map(drop)
    }

    /// Writes the record, unless something is there already; the handover whose record it is then, `None` where it is none.
    pub(super) async fn write_record(&self, record: &Record) -> Result<Option<HandoverId>, Failure> {
        let key = KeyPath::record(&record.name, record.epoch).map_err(|problem| self.failed(problem))?;
        let Some(there) = self.put_once(&key, &record.to_fields()).await? else {
            return Ok(Some(record.handover.clone()));
        };
        let id = texts(there).ok().and_then(|mut fields| fields.remove("handoverId"));
        Ok(id.and_then(|id| HandoverId::parse(&id).ok()))
    }

    /// Creates a key, and gives what was there before where it is not ours.
    pub(in super::super) async fn put_once(
        &self,
        key: &KeyPath,
        fields: &BTreeMap<String, String>,
    ) -> Result<Option<Present>, Failure> {
        let failed = |problem| self.failed(problem);
        let fields: Vec<_> =
            fields.iter().map(|(key, text)| (key.as_str(), Plaintext::new(text.clone().into_bytes()))).collect();
        let new = NewKey::new(fields.iter().map(|(key, text)| (*key, text))).map_err(failed)?;
        match self.vault.create(key, &new).await.map_err(failed)? {
            Creation::Created(_) => Ok(None),
            Creation::MaybeExists => match self.vault.read_existing(key).await.map_err(failed)? {
                Reading::Present(present) => Ok(Some(present)),
                Reading::Absent => {
                    Err(stopped(HandoverStop::Preflight(vec![format!("the token may not create `{key}`")])))
                }
                Reading::Deleted => {
                    Err(stopped(HandoverStop::Preflight(vec![format!("`{key}` was deleted in Vault")])))
                }
            },
        }
    }

    /// Gives a token of our own back. Nobody waits long for that.
    pub(in super::super) async fn give_back(&self) {
        match tokio::time::timeout(LEAVES_WITHIN, self.vault.leave()).await {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => output::note(format_args!("the token was not revoked, and ends by itself: {problem}")),
            Err(_) => output::note("the token was not revoked, and ends by itself"),
        }
        if self.vault.is_used_up().await {
            output::note("the wrapping token is used up: another run needs another one");
        }
    }
}

/// How long giving the token back may take.
const LEAVES_WITHIN: Duration = Duration::from_secs(5);

/// Vaults that one record was accepted for; each is a person's decision.
const MOST_REBOUND: usize = 64;

/// Requests under way where nothing else says.
pub(super) const AT_ONCE: usize = 16;

/// What a key is, or was.
enum Kept<T> {
    Absent,
    Deleted,
    Is(T),
}

pub(super) fn version(present: &Present) -> Result<u32, String> {
    u32::try_from(present.version).map_err(|_| "its version is out of range".to_owned())
}

/// The fields of a record, which is no secret. One that goes by itself is none.
pub(in super::super) fn texts(present: Present) -> Result<BTreeMap<String, String>, String> {
    if !present.deletion_time.is_empty() {
        return Err("it goes by itself (`delete_version_after`)".to_owned());
    }
    let text = |(key, value): (String, Option<Plaintext>)| {
        let value = value.ok_or_else(|| format!("`{key}` is no text"))?;
        #[expect(clippy::disallowed_methods, reason = "a record holds names and ids, and nothing of a value")]
        let text = String::from_utf8(value.expose().to_vec()).map_err(|_| format!("`{key}` is no text"))?;
        Ok((key, text))
    };
    present.fields.into_iter().map(text).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn told(problem: VaultError) -> String {
    problem.to_string()
}
