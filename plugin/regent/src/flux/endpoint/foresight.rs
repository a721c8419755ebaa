//! Reads the witnesses for a request that is about to come, while its connection still shakes hands.
//!
//! ```text
//! connection of a peer that was given a data key just now --> handshake --> request --> answer
//!                                              \-> witnesses ------------------------/
//! ```
//! kustomize-controller asks for one document after another, each on a connection of its own, and a handshake takes about as
//! long as the API server. Nobody else makes the API server work before he showed a token. What was read too early for its
//! request, or before somebody else saw the witnesses move, is read again.

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
            .map(|given| given.authority.clone());
        let early = likely.zip(loaded).map(|(authority, loaded)| {
            let (moves, generation) = (witnesses.moves(), loaded.generation);
            let (witnesses, name) = (Arc::clone(witnesses), authority.clone());
            let reading = tokio::spawn(async move { witnesses.read(loaded.store(), &name, None).await });
            Early { authority, generation, moves, reading }
        });
        Arrival { peer: Some(peer), early: Mutex::new(early) }
    }

    /// A data key was given over this connection.
    pub(super) fn given_to(&self, arrival: &Arrival, authority: &AuthorityName) {
        let Some(peer) = arrival.peer else { return };
        let mut given = self.given();
        given.retain(|given| given.peer != peer);
        given.truncate(PEERS - 1);
        given.push_front(Given { peer, authority: authority.clone(), at: Instant::now() });
    }

    fn given(&self) -> MutexGuard<'_, VecDeque<Given>> {
        // A peer that is forgotten or there twice costs a reading, and nothing else.
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrival {
    /// What the witnesses say to a request that came now: as they were read for it, or read now. A reading serves one request.
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
