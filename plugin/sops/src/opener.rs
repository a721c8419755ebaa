//! Who opens a document: identities, with what they may share and when they have to stop.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::key::{self, DataKeys, Keyring, NotOpened};
use crate::metadata::Recipient;
use crate::plaintext::Plaintext;

/// Identities at work: a keyring, perhaps with data keys shared between documents and requests, and
/// perhaps with an end.
#[derive(Clone, Copy)]
pub struct Opener<'a> {
    keyring: &'a Keyring,
    shared: Option<&'a DataKeys>,
    stop: Option<&'a Stop>,
}

impl<'a> Opener<'a> {
    /// The keyring alone: nothing is remembered, and nothing stops it.
    pub fn new(keyring: &'a Keyring) -> Self {
        Self { keyring, shared: None, stop: None }
    }

    /// Data keys that were unwrapped are remembered there, and looked up first.
    #[must_use]
    pub fn sharing(self, shared: &'a DataKeys) -> Self {
        Self { shared: Some(shared), ..self }
    }

    /// Unwrapping ends with [`crate::Error::Stopped`] once `stop` was told.
    #[must_use]
    pub fn until(self, stop: &'a Stop) -> Self {
        Self { stop: Some(stop), ..self }
    }

    /// The identities.
    pub fn keyring(&self) -> &'a Keyring {
        self.keyring
    }

    /// Whether it is time to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_some_and(Stop::is_stopped)
    }

    /// One recipient's copy of the data key (or Shamir part): unwrapped, or as it was unwrapped before.
    pub(crate) fn unwrap(self, recipient: &Recipient) -> Result<Plaintext, NotOpened> {
        if self.is_stopped() {
            return Err(NotOpened::Stopped);
        }
        let unwrapped = match self.shared {
            Some(shared) => shared.unwrap(self, recipient),
            None => key::unwrap(self, recipient),
        };
        // A trial that was stopped half-way has no reason of its own.
        unwrapped.map_err(|why| if self.is_stopped() { NotOpened::Stopped } else { why })
    }
}

impl<'a> From<&'a Keyring> for Opener<'a> {
    fn from(keyring: &'a Keyring) -> Self {
        Self::new(keyring)
    }
}

/// Tells work on other threads that nobody waits for it any more.
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);

impl Stop {
    /// Ends the work, for good.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was ended.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
