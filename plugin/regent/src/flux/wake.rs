//! Wakes whoever follows the repository of an authority: its server told by a webhook that it moved, or the kernel did where
//! it lies on this machine.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use regent_core::name::AuthorityName;
use regent_core::remote::Location;
use regent_core::rules::{FluxApplication, FluxSource, Followed};
use tokio::sync::watch;

use crate::follow::references;
use crate::reload::Current;
use crate::source::git::{self, Place};
use crate::watch::Watch;

/// The followers of each authority. However often one is woken while it looks, it looks once more.
#[derive(Default)]
pub(crate) struct Wakes {
    senders: Mutex<BTreeMap<AuthorityName, watch::Sender<()>>>,
}

impl Wakes {
    pub(crate) fn subscribe(&self, authority: &AuthorityName) -> watch::Receiver<()> {
        self.senders().entry(authority.clone()).or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    pub(crate) fn wake(&self, authority: &AuthorityName) {
        // Without an entry nobody follows it.
        if let Some(sender) = self.senders().get(authority) {
            sender.send_replace(());
        }
    }

    fn senders(&self) -> MutexGuard<'_, BTreeMap<AuthorityName, watch::Sender<()>>> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The repositories on this machine that Kustomizations are served from, watched on a thread of its own.
pub(crate) struct References {
    pub(crate) current: Arc<Current>,
    pub(crate) wakes: Arc<Wakes>,
}

/// How often the operator's file is asked which repositories there are, where there is none.
const LOOK: Duration = Duration::from_secs(5);

impl References {
    /// Never returns.
    pub(crate) fn run(&self) -> Infallible {
        let (mut targets, mut watch) = (Vec::new(), None);
        let mut seen: BTreeMap<Followed, Option<String>> = BTreeMap::new();
        loop {
            let followed = self.followed();
            let now = followed.iter().flat_map(references).collect();
            if targets != now {
                targets = now;
                // Without it things are looked at less often.
                watch = Watch::branches(&targets).ok().filter(|_| !targets.is_empty());
            }
            seen.retain(|entry, _| followed.contains(entry));
            for entry in followed {
                // Why there is none is told by whoever is woken.
                let commit = git::commit(&Place::followed(&entry), &entry.revision).ok();
                if seen.get(&entry) != Some(&commit) {
                    self.wakes.wake(&entry.authority);
                    seen.insert(entry, commit);
                }
            }
            match &watch {
                Some(watch) => watch.wait(),
                None => std::thread::sleep(LOOK),
            }
        }
    }

    fn followed(&self) -> Vec<Followed> {
        let Ok(loaded) = self.current.get() else { return Vec::new() };
        let applications = &loaded.config.flux.applications;
        let is_served = |entry: &&Followed| {
            let is_here = matches!(entry.repo, Location::Folder(_));
            let is_its = |one: &FluxApplication| {
                one.authority == entry.authority
                    && one.delivery.artifact().is_some_and(|artifact| artifact.source == FluxSource::Watch)
            };
            is_here && applications.iter().any(is_its)
        };
        loaded.config.watch.iter().filter(is_served).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_often_an_authority_is_woken_its_followers_look_once() {
        let (wakes, prod, dev) = (Wakes::default(), AuthorityName::parse("prod"), AuthorityName::parse("dev"));
        let (prod, dev) = (prod.unwrap(), dev.unwrap());
        let (mut first, mut second, other) = (wakes.subscribe(&prod), wakes.subscribe(&prod), wakes.subscribe(&dev));
        for _ in 0..1000 {
            wakes.wake(&prod);
        }
        for follower in [&mut first, &mut second] {
            assert!(follower.has_changed().unwrap());
            follower.mark_unchanged();
            assert!(!follower.has_changed().unwrap());
        }
        assert!(!other.has_changed().unwrap());
    }
}
