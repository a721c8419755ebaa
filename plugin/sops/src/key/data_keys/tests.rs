use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::key::Keyring;
use crate::metadata::RecipientKind;
use crate::opener::Stop;

const DATA_KEY: &[u8] = include_bytes!("../../../tests/data/keys/data-key");
const IDENTITY: &str = include_str!("../../../tests/data/keys/age/x25519");
const OTHER_IDENTITY: &str = include_str!("../../../tests/data/keys/age/other");
const SSH_IDENTITY: &str = include_str!("../../../tests/data/keys/ssh/ed25519");

/// Three copies of the data key for [`IDENTITY`].
const COPIES: [&str; 3] = [
    include_str!("../../../tests/data/keys/data-keys/age-x25519.enc"),
    include_str!("../../../tests/data/keys/data-keys/age-crlf.enc"),
    include_str!("../../../tests/data/keys/data-keys/age-several-stanzas.enc"),
];

fn recipient(copy: &str) -> Recipient {
    Recipient { kind: RecipientKind::Age, name: "age1device1xyz".to_owned(), enc: copy.to_owned() }
}

fn holder(identity: &str) -> Keyring {
    let mut keys = Keyring::default();
    assert_eq!(keys.load("k", identity.as_bytes(), &[]).unwrap().added, 1);
    keys
}

/// A keyring with a plugin for [`IDENTITY`], and how often that was asked. `answers` hears which question it is,
/// from 0, and says whether the plugin answers.
fn device(answers: impl Fn(usize) -> bool + Send + Sync + 'static) -> (Keyring, Arc<AtomicUsize>) {
    let mut keys = Keyring::default();
    let asked = add_device(&mut keys, answers);
    (keys, asked)
}

fn add_device(keys: &mut Keyring, answers: impl Fn(usize) -> bool + Send + Sync + 'static) -> Arc<AtomicUsize> {
    struct Device<F>(::age::x25519::Identity, Arc<AtomicUsize>, F);
    impl<F: Fn(usize) -> bool> ::age::Identity for Device<F> {
        fn unwrap_stanza(
            &self,
            stanza: &age_core::format::Stanza,
        ) -> Option<Result<age_core::format::FileKey, ::age::DecryptError>> {
            let answers = (self.2)(self.1.fetch_add(1, Ordering::Relaxed));
            if answers { self.0.unwrap_stanza(stanza) } else { None }
        }
    }
    let secret = IDENTITY.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap();
    let asked = Arc::default();
    let device = Device(secret.parse().unwrap(), Arc::clone(&asked), answers);
    keys.add_plugin("device".to_owned(), Box::new(device));
    asked
}

fn asked(count: &AtomicUsize) -> usize {
    count.load(Ordering::Relaxed)
}

fn unwrap(shared: &DataKeys, keys: &Keyring, copy: &str) -> Result<(), NotOpened> {
    let key = Opener::new(keys).sharing(shared).unwrap(&recipient(copy))?;
    assert_eq!(key.bytes(), DATA_KEY);
    Ok(())
}

#[test]
fn many_openers_of_one_copy_cost_one_unwrap() {
    let (keys, count) = device(|_| true);
    let shared = DataKeys::new(10, 10);
    for _ in 0..5 {
        unwrap(&shared, &keys, COPIES[0]).unwrap();
    }
    assert_eq!(asked(&count), 1);
    assert_eq!(shared.counts(), DataKeyCounts { hits: 4, misses: 1, held: 1 });
    // Alone, a keyring remembers nothing.
    Opener::new(&keys).unwrap(&recipient(COPIES[0])).unwrap();
    assert_eq!(asked(&count), 2);
}

#[test]
fn a_key_is_found_by_the_identities_that_opened_it() {
    let shared = DataKeys::new(10, 10);
    unwrap(&shared, &holder(IDENTITY), COPIES[0]).unwrap();
    assert_eq!(unwrap(&shared, &holder(OTHER_IDENTITY), COPIES[0]), Err(NotOpened::NoIdentity));
    assert_eq!(unwrap(&shared, &Keyring::default(), COPIES[0]), Err(NotOpened::NoIdentity));
    assert_eq!(shared.counts().hits, 0);
    // The same identities in another keyring are the same opener, until one is added.
    let mut again = holder(IDENTITY);
    unwrap(&shared, &again, COPIES[0]).unwrap();
    assert_eq!(shared.counts().hits, 1);
    again.load("k", OTHER_IDENTITY.as_bytes(), &[]).unwrap();
    unwrap(&shared, &again, COPIES[0]).unwrap();
    assert_eq!(shared.counts().hits, 1);
}

#[test]
fn the_name_of_a_plugin_shares_nothing() {
    let shared = DataKeys::new(10, 10);
    let (one, one_count) = device(|_| true);
    let (other, other_count) = device(|_| true);
    assert_eq!(one.describe(), other.describe());
    unwrap(&shared, &one, COPIES[0]).unwrap();
    unwrap(&shared, &other, COPIES[0]).unwrap();
    assert_eq!((asked(&one_count), asked(&other_count)), (1, 1));
}

#[test]
fn another_secret_behind_the_same_public_part_is_another_opener() {
    // An OpenSSH key file states its public part beside the secret, and age does not compare them.
    let (begin, end) = ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "-----END OPENSSH PRIVATE KEY-----");
    let base64 = SSH_IDENTITY.trim_end().strip_prefix(begin).unwrap().strip_suffix(end).unwrap();
    let mut bytes = STANDARD.decode(base64.replace('\n', "")).unwrap();
    // The secret is a string of 64 bytes: the seed, then the public key.
    let seed = bytes.windows(4).rposition(|length| length == [0, 0, 0, 64]).unwrap() + 4;
    bytes[seed] ^= 1;
    let forged = format!("{begin}{}\n{end}\n", STANDARD.encode(bytes));

    let (own, forged) = (holder(SSH_IDENTITY), holder(&forged));
    assert_eq!(own.describe(), forged.describe());
    assert_ne!(own.fingerprint(), forged.fingerprint());
    assert_eq!(own.fingerprint(), holder(SSH_IDENTITY).fingerprint());
}

#[test]
fn another_openpgp_secret_behind_the_same_fingerprint_is_another_opener() {
    let own = include_bytes!("../../../tests/data/keys/pgp/binary");
    let load = |bytes: &[u8]| {
        let mut keys = Keyring::default();
        keys.load("k", bytes, &[]).map(|_| keys)
    };
    let known = load(own).unwrap_or_else(|error| panic!("{error}"));
    let case = include_str!("../../../tests/data/keys/data-keys/pgp-named-subkey.case");
    let subkey = case.lines().find_map(|line| line.strip_prefix("recipient ")).unwrap();
    let subkey = Recipient { kind: RecipientKind::Pgp, name: subkey.to_owned(), enc: String::new() };
    let is_known = |keys: &Keyring| keys.describe() == known.describe() && keys.matches(&subkey);
    assert!(is_known(&known));
    // The checksum of an unlocked secret is a sum, so two bytes may change places.
    let forged = (0..own.len() - 1).step_by(3).filter_map(|at| {
        let mut bytes = own.to_vec();
        bytes.swap(at, at + 1);
        load(&bytes).ok().filter(is_known)
    });
    assert!(forged.into_iter().any(|keys| keys.fingerprint() != known.fingerprint()));
}

#[test]
fn every_identity_counts_in_a_fingerprint() {
    let pgp = include_str!("../../../tests/data/keys/pgp/cv25519");
    let other_pgp = include_str!("../../../tests/data/keys/pgp/rsa2048");
    let files = [IDENTITY, OTHER_IDENTITY, SSH_IDENTITY, pgp, other_pgp];
    let mut seen = vec![*Keyring::default().fingerprint()];
    for file in files {
        seen.push(*holder(file).fingerprint());
        assert_eq!(seen.last(), Some(holder(file).fingerprint()));
    }
    let mut all = Keyring::default();
    for file in &files {
        all.load("k", file.as_bytes(), &[]).unwrap();
        seen.push(*all.fingerprint());
    }
    // The first file alone stands there twice.
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 2 * files.len());
    let before = *all.fingerprint();
    all.load("k", IDENTITY.as_bytes(), &[]).unwrap();
    assert_eq!(*all.fingerprint(), before, "what is there already changes nothing");
}

#[test]
fn another_copy_or_kind_is_another_key() {
    let age = recipient("copy");
    let pgp = Recipient { kind: RecipientKind::Pgp, ..age.clone() };
    let renamed = Recipient { name: "age1other".to_owned(), ..age.clone() };
    assert_ne!(place(&[0; 32], &age), place(&[0; 32], &pgp));
    assert_ne!(place(&[0; 32], &age), place(&[0; 32], &recipient("copy ")));
    assert_ne!(place(&[0; 32], &age), place(&[1; 32], &age));
    // Whoever is named there, the copy is the same.
    assert_eq!(place(&[0; 32], &age), place(&[0; 32], &renamed));
}

#[test]
fn a_key_that_is_too_old_is_unwrapped_again() {
    let keys = holder(IDENTITY);
    let shared = DataKeys::new(10, 10);
    shared.advance(100);
    unwrap(&shared, &keys, COPIES[0]).unwrap();
    for now in [109, 50, 0] {
        shared.advance(now);
        unwrap(&shared, &keys, COPIES[0]).unwrap();
    }
    // Being used does not make it younger.
    assert_eq!(shared.counts(), DataKeyCounts { hits: 3, misses: 1, held: 1 });
    shared.advance(110);
    assert_eq!(shared.counts().held, 0);
    unwrap(&shared, &keys, COPIES[0]).unwrap();
    assert_eq!(shared.counts(), DataKeyCounts { hits: 3, misses: 2, held: 1 });
}

#[test]
fn the_oldest_makes_room() {
    let keys = holder(IDENTITY);
    let shared = DataKeys::new(2, 10);
    for copy in COPIES {
        unwrap(&shared, &keys, copy).unwrap();
    }
    assert_eq!(shared.counts(), DataKeyCounts { hits: 0, misses: 3, held: 2 });
    for copy in [COPIES[1], COPIES[2]] {
        unwrap(&shared, &keys, copy).unwrap();
    }
    assert_eq!(shared.counts().hits, 2);
    unwrap(&shared, &keys, COPIES[0]).unwrap();
    assert_eq!(shared.counts(), DataKeyCounts { hits: 2, misses: 4, held: 2 });
}

#[test]
fn without_room_or_time_nothing_is_held() {
    let keys = holder(IDENTITY);
    for shared in [DataKeys::new(0, 10), DataKeys::new(10, 0)] {
        for _ in 0..2 {
            unwrap(&shared, &keys, COPIES[0]).unwrap();
        }
        assert_eq!(shared.counts(), DataKeyCounts { hits: 0, misses: 2, held: 0 });
    }
}

#[test]
fn what_was_forgotten_is_unwrapped_again() {
    let keys = holder(IDENTITY);
    let shared = DataKeys::new(10, 10);
    unwrap(&shared, &keys, COPIES[0]).unwrap();
    shared.forget();
    assert_eq!(shared.counts().held, 0);
    unwrap(&shared, &keys, COPIES[0]).unwrap();
    assert_eq!(shared.counts(), DataKeyCounts { hits: 0, misses: 2, held: 1 });
}

#[test]
fn an_unwrap_under_way_when_all_is_forgotten_is_not_kept() {
    let shared = Arc::new(DataKeys::new(10, 10));
    let forgetting = Arc::clone(&shared);
    let (keys, _) = device(move |question| {
        if question == 0 {
            forgetting.forget();
        }
        true
    });
    unwrap(&shared, &keys, COPIES[0]).unwrap();
    assert_eq!(shared.counts().held, 0);
    unwrap(&shared, &keys, COPIES[0]).unwrap();
    assert_eq!(shared.counts().held, 1);
}

/// Threads that open the same copy at once, each with what it got.
fn at_once(shared: &DataKeys, keys: &Keyring, threads: usize) -> Vec<Result<(), NotOpened>> {
    let barrier = Barrier::new(threads);
    thread::scope(|scope| {
        let one = || {
            barrier.wait();
            unwrap(shared, keys, COPIES[0])
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn openings_at_once_unwrap_once() {
    let (keys, count) = device(|_| {
        thread::sleep(Duration::from_millis(100));
        true
    });
    let shared = DataKeys::new(10, 10);
    assert!(at_once(&shared, &keys, 8).iter().all(Result::is_ok));
    assert_eq!(asked(&count), 1);
    assert_eq!(shared.counts(), DataKeyCounts { hits: 7, misses: 1, held: 1 });
}

#[test]
fn different_copies_do_not_wait_for_each_other() {
    // Each question is answered when both were asked.
    let both = Barrier::new(2);
    let (keys, _) = device(move |_| {
        both.wait();
        true
    });
    let shared = DataKeys::new(10, 10);
    thread::scope(|scope| {
        for copy in [COPIES[0], COPIES[1]] {
            scope.spawn(|| unwrap(&shared, &keys, copy).unwrap());
        }
    });
    assert_eq!(shared.counts().held, 2);
}

#[test]
fn a_failure_is_not_kept() {
    let (keys, count) = device(|question| question > 0);
    let shared = DataKeys::new(10, 10);
    assert_eq!(unwrap(&shared, &keys, COPIES[0]), Err(NotOpened::NoIdentity));
    assert_eq!(shared.counts().held, 0);
    unwrap(&shared, &keys, COPIES[0]).unwrap();
    assert_eq!(asked(&count), 2);
}

#[test]
fn who_waited_for_a_failure_tries_once_more_itself() {
    let (keys, count) = device(|_| {
        thread::sleep(Duration::from_millis(50));
        false
    });
    let shared = DataKeys::new(10, 10);
    assert_eq!(at_once(&shared, &keys, 6), vec![Err(NotOpened::NoIdentity); 6]);
    assert_eq!(asked(&count), 6);
}

#[test]
fn a_panic_in_an_unwrap_ends_its_turn_alone() {
    let (keys, _) = device(|question| question > 0 || panic!("the device broke"));
    let shared = DataKeys::new(10, 10);
    assert!(catch_unwind(AssertUnwindSafe(|| unwrap(&shared, &keys, COPIES[0]))).is_err());
    unwrap(&shared, &keys, COPIES[0]).unwrap();
    assert_eq!(shared.counts(), DataKeyCounts { hits: 0, misses: 2, held: 1 });
}

#[test]
fn a_stopped_opener_unwraps_nothing_and_gets_nothing() {
    let (keys, count) = device(|_| true);
    let (shared, stop) = (DataKeys::new(10, 10), Stop::default());
    let opener = Opener::new(&keys).sharing(&shared).until(&stop);
    opener.unwrap(&recipient(COPIES[0])).unwrap();
    stop.stop();
    for opener in [opener, Opener::new(&keys).until(&stop)] {
        for copy in [COPIES[0], COPIES[1]] {
            assert_eq!(opener.unwrap(&recipient(copy)).err(), Some(NotOpened::Stopped));
        }
    }
    assert_eq!(asked(&count), 1);
}

#[test]
fn who_waits_for_an_unwrap_can_be_stopped() {
    let (begun, has_begun) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    let answers = Mutex::new(answers);
    let (keys, _) = device(move |_| {
        begun.send(()).unwrap();
        answers.lock().unwrap().recv().unwrap()
    });
    let (shared, stop) = (DataKeys::new(10, 10), Stop::default());
    thread::scope(|scope| {
        let first = scope.spawn(|| unwrap(&shared, &keys, COPIES[0]));
        has_begun.recv().unwrap();
        let opener = Opener::new(&keys).sharing(&shared).until(&stop);
        let second = scope.spawn(move || opener.unwrap(&recipient(COPIES[0])).err());
        thread::sleep(Duration::from_millis(100));
        stop.stop();
        assert_eq!(second.join().unwrap(), Some(NotOpened::Stopped));
        answer.send(true).unwrap();
        first.join().unwrap().unwrap();
    });
    assert_eq!(shared.counts().held, 1);
}

#[test]
fn a_trial_ends_between_two_identities() {
    let stop = Arc::new(Stop::default());
    let stopping = Arc::clone(&stop);
    let (mut keys, _) = device(move |_| {
        stopping.stop();
        false
    });
    let second = add_device(&mut keys, |_| true);
    let opener = Opener::new(&keys).until(&stop);
    assert_eq!(opener.unwrap(&recipient(COPIES[0])).err(), Some(NotOpened::Stopped));
    assert_eq!(asked(&second), 0);
}

#[test]
fn data_keys_are_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<DataKeys>();
}
