//! Data keys that were unwrapped already, so that many requests for one document cost one unwrap.
//!
//! ```text
//! held ----------------------------> a copy                     a hit
//! nobody unwraps it now -----------> unwrap, keep where it opens
//! another thread unwraps it now ---> wait for that one, then begin again; wait once only
//! ```
//!
//! No lock is held while unwrapping, and whoever unwraps waits for nobody, so those who wait come to an end. An
//! unwrap that does not open is not kept: its reason belongs to the recipient's name, its end perhaps to another
//! request's [`crate::Stop`]. Those who waited for it then try for themselves, side by side rather than in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::NotOpened;
use crate::metadata::Recipient;
use crate::opener::Opener;
use crate::plaintext::Plaintext;

/// Unwrapped data keys in wiped memory, bounded by count and age.
///
/// A key is found by the stanza's bytes and the keyring that opened it: what one rule's identities opened is
/// never handed to another rule. There is no clock in this crate, so age is counted in the caller's ticks.
pub struct DataKeys {
    most: usize,
    age: u64,
    inside: Mutex<Inside>,
    /// Told whenever an unwrap ends, whoever waits for which.
    ended: Condvar,
}

/// What a [`DataKeys`] did and holds; for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataKeyCounts {
    /// Look-ups that found a key.
    pub hits: u64,
    /// Look-ups that unwrapped one.
    pub misses: u64,
    /// Keys held now.
    pub held: usize,
}

impl DataKeys {
    /// Room for `most` keys, each for `age` ticks after it was unwrapped. The oldest makes room for a new one.
    pub fn new(most: usize, age: u64) -> Self {
        Self { most, age, inside: Mutex::default(), ended: Condvar::new() }
    }

    /// Tells the time; keys that are too old are wiped. Time that goes backwards changes nothing.
    pub fn advance(&self, now: u64) {
        let mut inside = self.lock();
        inside.now = inside.now.max(now);
        self.wipe_excess(&mut inside);
    }

    /// Wipes everything. An unwrap that is under way is not kept.
    pub fn forget(&self) {
        let mut inside = self.lock();
        inside.keys.clear();
        inside.ages.clear();
        inside.under_way.clear();
        self.ended.notify_all();
    }

    /// For metrics.
    pub fn counts(&self) -> DataKeyCounts {
        let inside = self.lock();
        DataKeyCounts { hits: inside.hits, misses: inside.misses, held: inside.keys.len() }
    }

    /// A recipient's copy of a data key, unwrapped now or before.
    pub(crate) fn unwrap(&self, opener: Opener<'_>, recipient: &Recipient) -> Result<Plaintext, NotOpened> {
        let place = place(opener.keyring().fingerprint(), recipient);
        let turn = match self.look_up(place, opener)? {
            Found::Key(key) => return Ok(key),
            Found::Turn(turn) => Some(turn),
            Found::Taken => None,
        };
        let key = super::unwrap(opener, recipient)?;
        if let Some(turn) = turn {
            turn.keep(&key);
        }
        Ok(key)
    }

    fn look_up(&self, place: Place, opener: Opener<'_>) -> Result<Found<'_>, NotOpened> {
        let mut inside = self.lock();
        if let (None, Some(&other)) = (inside.keys.get(&place), inside.under_way.get(&place)) {
            while inside.under_way.get(&place) == Some(&other) {
                let waited = self.ended.wait_timeout(inside, UNTIL_STOP_IS_SEEN);
                (inside, _) = waited.unwrap_or_else(PoisonError::into_inner);
                if opener.is_stopped() {
                    return Err(NotOpened::Stopped);
                }
            }
        }
        if let Some(key) = inside.keys.get(&place).map(Plaintext::duplicate) {
            inside.hits += 1;
            return Ok(Found::Key(key));
        }
        inside.misses += 1;
        if inside.under_way.contains_key(&place) {
            return Ok(Found::Taken);
        }
        inside.turns += 1;
        let number = inside.turns;
        inside.under_way.insert(place, number);
        Ok(Found::Turn(Turn { data_keys: self, place, number }))
    }

    /// Wipes the oldest keys until count and age are within bounds.
    fn wipe_excess(&self, inside: &mut Inside) {
        while let Some((since, place)) = inside.ages.front() {
            if inside.ages.len() <= self.most && inside.now - since < self.age {
                break;
            }
            inside.keys.remove(place);
            inside.ages.pop_front();
        }
    }

    /// No code that can panic runs under the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Inside {
    keys: HashMap<Place, Plaintext>,
    /// When each of `keys` was unwrapped, the oldest first.
    ages: VecDeque<(u64, Place)>,
    /// Whose turn it is to unwrap what. Forgetting ends the turns, so that nothing comes of them.
    under_way: HashMap<Place, u64>,
    turns: u64,
    now: u64,
    hits: u64,
    misses: u64,
}

/// What stands for a wrapped key and the keyring that opens it.
type Place = [u8; 32];

enum Found<'a> {
    Key(Plaintext),
    /// It is to be unwrapped, and others wait for it.
    Turn(Turn<'a>),
    /// It is to be unwrapped; somebody else does it too.
    Taken,
}

/// The right to unwrap for all; it ends when it goes, also by a panic.
struct Turn<'a> {
    data_keys: &'a DataKeys,
    place: Place,
    number: u64,
}

impl Turn<'_> {
    fn keep(self, key: &Plaintext) {
        let mut inside = self.data_keys.lock();
        if inside.under_way.get(&self.place) == Some(&self.number) {
            let now = inside.now;
            inside.keys.insert(self.place, key.duplicate());
            inside.ages.push_back((now, self.place));
            self.data_keys.wipe_excess(&mut inside);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut inside = self.data_keys.lock();
        if inside.under_way.get(&self.place) == Some(&self.number) {
            inside.under_way.remove(&self.place);
        }
        self.data_keys.ended.notify_all();
    }
}

/// How long one who waits goes without a look at its own [`crate::Stop`]: a plugin's unwrap can take as long as a
/// person takes to touch a device.
const UNTIL_STOP_IS_SEEN: Duration = Duration::from_millis(50);

fn place(keyring: &[u8; 32], recipient: &Recipient) -> Place {
    let mut digest = Sha256::new_with_prefix("regent data key\0");
    for part in [keyring.as_slice(), &[recipient.kind as u8], recipient.enc.as_bytes()] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests;
