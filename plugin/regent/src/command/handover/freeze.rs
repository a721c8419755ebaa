//! Whether the tree stood still: what Argo CD and Flux applied has to be what is handed over. Otherwise a Secret would keep a value that
//! Vault never got, or would have been given one after Vault got another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use regent_core::evidence::ListedDocument;
use regent_core::handover::tree::{How, Slipped};
use regent_core::settle::{Application, Scope, in_use};

use super::super::root::Root;
use super::stop::{HandoverStop, stopped};
use crate::failure::Failure;

/// When the tree is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Right before the record: nothing moved yet.
    Recording,
    /// Right before `Settled`.
    Settling,
}

/// Compares every commit that these Applications hold in use with what is handed over, and with what was imported since.
pub(super) fn check(
    root: &Root,
    applications: &[&Application],
    scope: &Scope<'_>,
    imported: &[ListedDocument],
    when: When,
) -> Result<(), Failure> {
    check_commits(root, &in_use(applications, scope), scope.listed, imported, when)
}

/// The same of commits and those who hold them in use.
pub(super) fn check_commits<N: Display>(
    root: &Root,
    in_use: &BTreeMap<&str, BTreeSet<&N>>,
    handed_over: &[ListedDocument],
    imported: &[ListedDocument],
    when: When,
) -> Result<(), Failure> {
    let mut found = Vec::new();
    for (revision, by) in in_use {
        let slipped = root.slipped_in(handed_over, imported, revision)?;
        if !slipped.is_empty() {
            found.push(told(revision, by, &slipped));
        }
    }
    if found.is_empty() { Ok(()) } else { Err(stopped(HandoverStop::Slipped { when, found })) }
}

fn told<N: Display>(revision: &str, by: &BTreeSet<&N>, slipped: &[Slipped]) -> String {
    let by: Vec<String> = by.iter().map(ToString::to_string).collect();
    let one = |slipped: &Slipped| {
        let names: Vec<String> = slipped.names.iter().map(ToString::to_string).collect();
        let how = match slipped.how {
            How::Added => "is new there",
            How::Changed => "is another there",
            How::Removed => "is not there",
        };
        if names.is_empty() {
            format!("{} {how}", slipped.path)
        } else {
            format!("{} ({}) {how}", slipped.path, names.join(", "))
        }
    };
    let mut files: Vec<String> = slipped.iter().take(MOST_TOLD).map(one).collect();
    if slipped.len() > MOST_TOLD {
        files.push(format!("and {} more", slipped.len() - MOST_TOLD));
    }
    format!("{} uses commit {revision}: {}", by.join(" and "), files.join(", "))
}

/// Files that are named of one commit.
const MOST_TOLD: usize = 5;
