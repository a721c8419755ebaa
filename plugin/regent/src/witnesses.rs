//! Who holds an authority, as one process sees it: the witnesses as they are now, weighed against the highest that
//! this process ever saw.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use regent_core::evidence::{Evidence, Holder, Memory, Reading};
use regent_core::name::AuthorityName;
use regent_sops::DataKeys;

use crate::failure::Failure;
use crate::local;

/// Reads witnesses and remembers.
pub(crate) struct Witnesses {
    seen: Mutex<BTreeMap<AuthorityName, Seen>>,
    data_keys: Arc<DataKeys>,
}

/// One reading.
pub(crate) struct Observed {
    /// What the store said.
    pub(crate) evidence: Evidence,
    /// K, after the memory was applied.
    pub(crate) holder: Holder,
    /// When it was asked for.
    pub(crate) at: Instant,
}

#[derive(Default)]
struct Seen {
    memory: Memory,
    last: Option<Holder>,
}

impl Witnesses {
    /// With the data keys that are forgotten when K moves.
    pub(crate) fn new(data_keys: Arc<DataKeys>) -> Self {
        Self { seen: Mutex::default(), data_keys }
    }

    /// Reads now. A store that cannot be asked is unreadable, never absent, and never a failure of its own: after a
    /// handover that was seen, the answer is the stubs all the same.
    pub(crate) fn read(&self, store: Result<&Path, Failure>, name: &AuthorityName) -> Observed {
        let at = Instant::now();
        let evidence = match store.and_then(|store| local::read(store, name)) {
            Ok(evidence) => evidence,
            Err(failure) => Evidence { authority: Reading::Unreadable(failure.to_string()), ..Evidence::none() },
        };
        // The memory is replaced as a whole, so a panic elsewhere leaves none half written.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.entry(name.clone()).or_default();
        let holder = seen.memory.observe(evidence.holder());
        if let Some(last) = seen.last.replace(holder.clone())
            && last != holder
        {
            tracing::warn!(authority = %name, from = %last, to = %holder, "the authority's witnesses moved");
            self.data_keys.forget();
        }
        Observed { evidence, holder, at }
    }
}
