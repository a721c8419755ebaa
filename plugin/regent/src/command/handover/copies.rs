//! The copies: each key is created or left alone, read back through the active node, and compared in memory.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use regent_core::handover::copy::{self, Copy};
use regent_core::handover::decide::Leave;
use regent_core::handover::plan::{Draft, Existing, Plan, State};
use regent_core::name::SecretName;

use super::report::Progress;
use super::stop::{HandoverStop, stopped};
use super::vault::{InVault, version};
use crate::failure::Failure;
use crate::vault::{Creation, KeyPath, NewKey, Reading};

/// The current version of a key, and when the key was made.
type KeyFacts = (u32, String);

impl InVault {
    /// What Vault holds of each copy.
    pub(in crate::command) async fn states(
        &self,
        draft: &Draft,
        prefix: &str,
        at_once: usize,
    ) -> Result<BTreeMap<SecretName, State>, Failure> {
        let one = async |copy: &Copy| {
            let key = self.key(prefix, copy)?;
            let found = self.vault.read(&key).await.map_err(|problem| self.failed(problem))?;
            Ok((copy.name().clone(), copy.compare(&held(found).0)))
        };
        stream::iter(draft.copies()).map(one).buffer_unordered(at_once).try_collect().await
    }

    /// Writes what is new and reads everything back. What a person accepted stands as it is.
    pub(in crate::command) async fn copy(
        &self,
        leave: &Leave,
        draft: &Draft,
        plan: &Plan,
        at_once: usize,
    ) -> Result<BTreeMap<SecretName, KeyFacts>, Failure> {
        let progress = Progress::of(draft.copies().count());
        let prefix = &plan.site.vault.place.prefix;
        let planned: BTreeMap<&SecretName, (State, Existing)> = plan
            .entries
            .iter()
            .filter(|entry| entry.path.is_some())
            .map(|entry| (&entry.name, (entry.state, entry.existing)))
            .collect();
        let one = async |copy: &Copy| {
            let (state, existing) = planned.get(copy.name()).copied().ok_or(Failure::Bug)?;
            let facts = self.copy_one(leave, copy, &self.key(prefix, copy)?, state, existing).await?;
            progress.one(copy.name());
            Ok::<_, Failure>((copy.name().clone(), facts))
        };
        let mut keys: BTreeMap<SecretName, Read> =
            stream::iter(draft.copies()).map(one).buffer_unordered(at_once).try_collect().await?;
        progress.over();
        self.date(prefix, &mut keys, at_once).await?;
        Ok(keys.into_iter().map(|(name, read)| (name, (read.version, read.created_time))).collect())
    }

    async fn copy_one(
        &self,
        leave: &Leave,
        copy: &Copy,
        key: &KeyPath,
        state: State,
        existing: Existing,
    ) -> Result<Read, Failure> {
        let failed = |problem| self.failed(problem);
        let wrong = |how: &str| stopped(HandoverStop::NotReadBack(format!("`{key}` {how}")));
        let mut made = None;
        let reading = match state {
            State::New => {
                #[expect(clippy::disallowed_methods, reason = "the one exit of values to Vault")]
                let fields = copy.expose(leave).ok_or(Failure::Bug)?;
                let new = NewKey::new(fields.iter().map(|(key, text)| (key.as_str(), text))).map_err(failed)?;
                match self.vault.create(key, &new).await.map_err(failed)? {
                    Creation::Created(created) => {
                        made = Some(created.created_time);
                        self.vault.read(key).await
                    }
                    Creation::MaybeExists => self.vault.read_existing(key).await,
                }
            }
            State::Equal | State::Differs | State::Deleted | State::NotCopied => self.vault.read(key).await,
        };
        let (held, read) = held(reading.map_err(failed)?);
        match (copy.compare(&held), state, existing) {
            // What was approved: Git's value, or that Vault's other one stands.
            (State::Equal, _, _) | (State::Differs, State::Differs, Existing::Stands) => {}
            (State::Differs, _, _) => return Err(wrong("holds other values than the plan says")),
            (State::Deleted, _, _) => return Err(wrong("was deleted")),
            (State::New, _, _) => return Err(wrong("is not there")),
            (State::NotCopied, _, _) => return Err(Failure::Bug),
        }
        let mut read = read.ok_or(Failure::Bug)?.map_err(|why| wrong(&why))?;
        read.made_here = read.version == 1 && made.as_ref() == Some(&read.created_time);
        if read.goes { Err(wrong("goes by itself (`delete_version_after`)")) } else { Ok(read) }
    }

    /// When each key was made. Of a key that this run made that is when its version was; one of them is asked to see that it
    /// is so here. Every other key may have been there before its first version.
    async fn date(&self, prefix: &str, keys: &mut BTreeMap<SecretName, Read>, at_once: usize) -> Result<(), Failure> {
        let ask = async |name: SecretName| {
            let key = KeyPath::secret(prefix, &name).map_err(|problem| self.failed(problem))?;
            let metadata = self.vault.metadata(&key).await.map_err(|problem| self.failed(problem))?;
            let gone = || stopped(HandoverStop::NotReadBack(format!("`{key}` is gone")));
            Ok::<_, Failure>((name, metadata.ok_or_else(gone)?.created_time))
        };
        let first = keys
            .iter()
            .find(|(_, read)| read.version == 1)
            .map(|(name, read)| (name.clone(), read.created_time.clone()));
        let all = match first {
            Some((name, created)) => ask(name).await?.1 != created,
            None => true,
        };
        let asked: Vec<SecretName> =
            keys.iter().filter(|(_, read)| all || !read.made_here).map(|(name, _)| name.clone()).collect();
        let times: BTreeMap<SecretName, String> =
            stream::iter(asked).map(ask).buffer_unordered(at_once).try_collect().await?;
        for (name, created_time) in times {
            if let Some(read) = keys.get_mut(&name) {
                read.created_time = created_time;
            }
        }
        Ok(())
    }

    fn key(&self, prefix: &str, copy: &Copy) -> Result<KeyPath, Failure> {
        KeyPath::secret(prefix, copy.name()).map_err(|problem| self.failed(problem))
    }
}

/// A copy that was read back.
struct Read {
    version: u32,
    created_time: String,
    /// Whether this version goes by itself.
    goes: bool,
    /// Whether this run created it.
    made_here: bool,
}

/// A reading as core compares it, and what is kept of it.
fn held(reading: Reading) -> (copy::InVault, Option<Result<Read, String>>) {
    match reading {
        Reading::Absent => (copy::InVault::Absent, None),
        Reading::Deleted => (copy::InVault::Deleted, None),
        Reading::Present(present) => {
            let read = version(&present).map(|version| Read {
                version,
                created_time: present.created_time.clone(),
                goes: !present.deletion_time.is_empty(),
                made_here: false,
            });
            (copy::InVault::Present(present.fields), Some(read))
        }
    }
}
