//! The floor of `hack/bench`: the unwrapping of the data keys alone, on all cores, with the age crate as it is.
//!
//! `bare_unwrap KEY FILE..` reads all files first, then unwraps the first age stanza of each and prints the
//! seconds that took.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program, which owns the clock and its files"
)]

use age::armor::ArmoredReader;
use age::x25519::Identity;
use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let key = std::fs::read_to_string(arguments.next().expect("KEY FILE..")).unwrap();
    let identity: Identity = key.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap().parse().unwrap();
    let armors: Vec<String> = arguments.map(|file| armor(&std::fs::read_to_string(file).unwrap())).collect();

    let next = AtomicUsize::new(0);
    let start = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                while let Some(armor) = armors.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let decryptor = age::Decryptor::new_buffered(ArmoredReader::new(armor.as_bytes())).unwrap();
                    let mut data_key = Vec::new();
                    decryptor.decrypt(std::iter::once(&identity as _)).unwrap().read_to_end(&mut data_key).unwrap();
                    assert_eq!(data_key.len(), 32);
                }
            });
        }
    });
    println!("{}", start.elapsed().as_secs_f64());
}

/// The first armored age file of a SOPS document in YAML.
fn armor(document: &str) -> String {
    let mut lines = document.lines().map(str::trim).skip_while(|line| !line.starts_with("-----BEGIN AGE"));
    let mut armor = String::new();
    for line in lines.by_ref() {
        armor.push_str(line);
        armor.push('\n');
        if line.starts_with("-----END AGE") {
            break;
        }
    }
    armor
}
