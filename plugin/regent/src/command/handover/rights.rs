//! What the token may do in Vault, before anything is written: enough, and no more.

use std::collections::BTreeSet;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use regent_core::handover::plan::Plan;
use regent_core::handover::rights::Policy;

use super::stop::{HandoverStop, stopped};
use super::vault::{AT_ONCE, InVault};
use crate::failure::Failure;
use crate::vault::{KeyPath, Of};

impl InVault {
    /// Whether the token's rights are known without asking for each key: it has the policy that `--print-policy` prints, as it is
    /// printed, and no other.
    async fn is_as_printed(&self, plan: &Plan) -> Result<bool, Failure> {
        let failed = |problem| self.failed(problem);
        let place = &plan.site.vault.place;
        let policy = Policy::of_handover(&plan.name, &place.mount, &place.prefix);
        let Some(bearer) = self.vault.bearer().await.map_err(failed)? else { return Ok(false) };
        if !policy.is_the_only_one_of(&bearer, &place.namespace) {
            return Ok(false);
        }
        let text = self.vault.policy(&policy.name).await.map_err(failed)?;
        Ok(text.is_some_and(|text| policy.is_written_as(&text)))
    }

    /// What would fail later, or must not be: the token may create and read the copies and what is written `besides`, and
    /// change nothing that exists.
    pub(in crate::command) async fn preflight(&self, plan: &Plan, besides: KeyPath) -> Result<(), Failure> {
        let failed = |problem| self.failed(problem);
        let prefix = &plan.site.vault.place.prefix;
        let copied = plan.entries.iter().filter(|entry| entry.path.is_some());
        let mut keys: Vec<KeyPath> =
            copied.map(|entry| KeyPath::secret(prefix, &entry.name)).collect::<Result<_, _>>().map_err(failed)?;
        keys.push(besides);
        if keys.len() > FEW && self.is_as_printed(plan).await? {
            // One of each is asked about all the same: it has to be so.
            keys.drain(1..keys.len() - 1);
        }
        // Vault weighs the policies anew for every path: so it does several at once.
        let questions = Of::ALL.into_iter().flat_map(|of| keys.chunks(PATHS_AT_ONCE).map(move |some| (of, some)));
        let answers: Vec<Vec<BTreeSet<String>>> = stream::iter(questions)
            .map(async |(of, some)| self.vault.may(of, some).await)
            .buffered(AT_ONCE)
            .try_collect()
            .await
            .map_err(failed)?;
        let rights: Vec<BTreeSet<String>> = answers.into_iter().flatten().collect();
        let mut problems = Vec::new();
        for (position, key) in keys.iter().enumerate() {
            let may = |of: Of, word: &str| {
                let kind = Of::ALL.iter().position(|kind| *kind == of);
                kind.and_then(|kind| rights.get(kind * keys.len() + position)).is_some_and(|may| may.contains(word))
            };
            let mut too_much: Vec<&str> =
                TOO_MUCH.into_iter().filter(|word| may(Of::Data, word) || may(Of::Metadata, word)).collect();
            let ends = [Of::Delete, Of::Undelete, Of::Destroy];
            if ends.into_iter().any(|of| may(of, "update") || may(of, "create")) && too_much.is_empty() {
                too_much.push("delete versions of");
            }
            let mut lacks: Vec<&str> = ["create", "read"].into_iter().filter(|word| !may(Of::Data, word)).collect();
            if !may(Of::Metadata, "read") && lacks.is_empty() {
                lacks.push("read the metadata of");
            }
            if !too_much.is_empty() {
                problems.push(format!("the token may {} `{key}`, and a handover only creates", too_much.join(" and ")));
            } else if !lacks.is_empty() {
                problems.push(format!("the token may not {} `{key}`", lacks.join(" or ")));
            }
        }
        if let Some(after) = self.vault.delete_version_after().await.map_err(failed)?
            && after != "0s"
        {
            problems
                .push(format!("what is written to this mount goes by itself after {after} (`delete_version_after`)"));
        }
        if problems.is_empty() {
            return Ok(());
        }
        let more = problems.len().saturating_sub(MOST_TOLD);
        problems.truncate(MOST_TOLD);
        if more > 0 {
            problems.push(format!("and {more} more"));
        }
        Err(stopped(HandoverStop::Preflight(problems)))
    }
}

/// Capabilities that could undo a handover.
const TOO_MUCH: [&str; 6] = ["update", "patch", "delete", "sudo", "root", "recover"];

/// Problems told at once; a wrong policy is wrong for every key.
const MOST_TOLD: usize = 5;

/// Keys that are asked about one by one in any case.
const FEW: usize = 16;

/// Paths asked about in one request; OpenBao takes 1000 strings. Few, so that several requests share the work.
const PATHS_AT_ONCE: usize = 100;
