//! Reads the witnesses for a request that is about to come.
//!
//! ```text
//! data key given --------> connection of the same peer --> handshake --> request --> answer
//!     \-> all witnesses        \-> the witness that a handover begins with --/
//! ```
//! kustomize-controller asks for one document after another, each on a connection of its own, and the API server takes longer
//! over an answer than a handshake does. So all witnesses are read while the controller still works with the data key that it
//! was given; and for the connection that comes next, once it is there, the one that says vault before all others do. Nobody
//! else makes the API server work before he showed a token. What was read too early for its request, or before somebody saw
//! the witnesses move, is read again.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use regent_core::name::AuthorityName;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::reload::Loaded;
use crate::witnesses::{Observed, Witnesses};

/// How much earlier than its request a reading may have begun: a handshake nearby, and less than the API server may take over
/// an answer anyway.
pub(super) const EARLIER: Duration = Duration::from_millis(20);

/// What is older when a connection begins will probably be too old for its request.
const LIKELY: Duration = Duration::from_millis(17);

/// How old a whole reading gets before whoever was given a data key has the next one begun.
const RENEWED: Duration = Duration::from_millis(10);

/// How long after a data key was given the same peer is expected to ask again.
const AGAIN: Duration = Duration::from_secs(2);

/// Most peers that are remembered; the one that was given something longest ago gives way.
const PEERS: usize = 64;

/// Who was given a data key just now.
#[derive(Default)]
pub(super) struct Foresight {
    given: Mutex<VecDeque<Given>>,
}

struct Given {
    peer: IpAddr,
    authority: AuthorityName,
    at: Instant,
    ahead: Arc<Ahead>,
}

/// What is read ahead for one of them.
#[derive(Default)]
struct Ahead {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether a reading is under way.
    is_busy: bool,
    last: Option<Whole>,
}

/// A reading of all witnesses.
#[derive(Clone)]
struct Whole {
    /// Of the operator's file that named the store.
    generation: u64,
    /// What anybody saw since before it began.
    moves: watch::Receiver<u64>,
    observed: Arc<Observed>,
}

/// A connection, from its beginning.
#[derive(Default)]
pub(super) struct Arrival {
    /// Nobody behind a socket has an address.
    peer: Option<IpAddr>,
    early: Mutex<Option<Early>>,
}

/// A reading that began before its request came.
struct Early {
    authority: AuthorityName,
    /// Of the operator's file that named the store.
    generation: u64,
    moves: watch::Receiver<u64>,
    reading: JoinHandle<Observed>,
}

impl Foresight {
    /// Begins to read for whoever will probably ask.
    pub(super) fn arrival(&self, peer: IpAddr, loaded: Option<Arc<Loaded>>, witnesses: &Arc<Witnesses>) -> Arrival {
        let likely = self
            .given()
            .iter()
            .find(|given| given.peer == peer && given.at.elapsed() < AGAIN)
            .map(|given| (given.authority.clone(), Arc::clone(&given.ahead)));
        let early = likely.zip(loaded).map(|((authority, ahead), loaded)| {
            let generation = loaded.generation;
            let whole = ahead.state().last.clone();
            let whole = whole.filter(|whole| whole.generation == generation && whole.is_younger_than(LIKELY));
            let moves = whole.as_ref().map_or_else(|| witnesses.moves(), |whole| whole.moves.clone());
            let (witnesses, name) = (Arc::clone(witnesses), authority.clone());
            let reading = tokio::spawn(async move {
                match whole {
                    Some(Whole { observed, .. }) => witnesses.read_again(loaded.store(), &name, &observed).await,
                    None => witnesses.read(loaded.store(), &name, None).await,
                }
            });
            Early { authority, generation, moves, reading }
        });
        Arrival { peer: Some(peer), early: Mutex::new(early) }
    }

    /// A data key was given over this connection: the next one will be asked for soon.
    pub(super) fn given_to(
        &self,
        arrival: &Arrival,
        authority: &AuthorityName,
        loaded: &Arc<Loaded>,
        witnesses: &Arc<Witnesses>,
    ) {
        let Some(peer) = arrival.peer else { return };
        let ahead = {
            let mut given = self.given();
            let known = given.iter().position(|given| given.peer == peer).and_then(|index| given.remove(index));
            let known = known.filter(|given| given.authority == *authority).map(|given| given.ahead);
            let ahead = known.unwrap_or_default();
            given.truncate(PEERS - 1);
            let of_peer = Arc::clone(&ahead);
            given.push_front(Given { peer, authority: authority.clone(), at: Instant::now(), ahead: of_peer });
            ahead
        };
        ahead.renew(authority, loaded, witnesses);
    }

    fn given(&self) -> MutexGuard<'_, VecDeque<Given>> {
        // A peer that is forgotten or there twice costs a reading, and nothing else.
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ahead {
    /// Begins to read everything, unless that was done a moment ago or is being done.
    fn renew(self: Arc<Self>, authority: &AuthorityName, loaded: &Arc<Loaded>, witnesses: &Arc<Witnesses>) {
        let generation = loaded.generation;
        {
            let mut state = self.state();
            let is_new = |last: &Whole| last.generation == generation && last.is_younger_than(RENEWED);
            if state.is_busy || state.last.as_ref().is_some_and(is_new) {
                return;
            }
            state.is_busy = true;
        }
        let (authority, loaded, witnesses) = (authority.clone(), Arc::clone(loaded), Arc::clone(witnesses));
        tokio::spawn(async move {
            let moves = witnesses.moves();
            // A task of its own: were it to panic, nothing would be read ahead any more.
            let read = async move { witnesses.read(loaded.store(), &authority, None).await };
            let observed = tokio::spawn(read).await.ok().map(Arc::new);
            let last = observed.map(|observed| Whole { generation, moves, observed });
            *self.state() = State { is_busy: false, last };
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is replaced as a whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Whole {
    fn is_younger_than(&self, age: Duration) -> bool {
        self.observed.at.elapsed() < age && !self.moves.has_changed().unwrap_or(true)
    }
}

impl Arrival {
    /// What the witnesses say to a request that came now: as they were read for it, or read now. What was read for its
    /// connection serves one request.
    pub(super) async fn read(&self, loaded: &Loaded, witnesses: &Witnesses, authority: &AuthorityName) -> Observed {
        let now = Instant::now();
        let early = self.early.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Early { authority: of, generation, moves, reading }) = early
            && (&of, generation) == (authority, loaded.generation)
            && let Ok(observed) = reading.await
            && now.saturating_duration_since(observed.at) <= EARLIER
            && !moves.has_changed().unwrap_or(true)
        {
            return observed;
        }
        witnesses.read(loaded.store(), authority, None).await
    }
}
