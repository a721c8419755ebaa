//! Go's regular expressions: the input is the pattern of `encrypted_regex`, tried on a few keys.
#![no_main]

use libfuzzer_sys::fuzz_target;
use regent_sops::{Document, Format, Keyring, Limits};
use std::fmt::Write as _;
use std::sync::LazyLock;

/// A document that opens up to its values, so the pattern is compiled and asked.
const SEALED: &str = include_str!("../../tests/corpus/opens/rule-encrypted-regex.json");
const PATTERN: &str = "\"encrypted_regex\": \"^(data|stringData)$\"";

static KEYS: LazyLock<Keyring> = LazyLock::new(|| {
    let mut keys = Keyring::default();
    keys.load("age.txt", include_bytes!("../../tests/corpus/keys/age.txt"), &[]).expect("the corpus's identity");
    keys
});

fuzz_target!(|pattern: &str| {
    let mut quoted = String::from("\"encrypted_regex\": \"");
    for character in pattern.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\0'..='\u{1f}' => write!(quoted, "\\u{:04x}", u32::from(character)).expect("a string takes all"),
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    let text = SEALED.replacen(PATTERN, &quoted, 1);
    if let Ok(Document::Sealed(sealed)) = Document::parse(text.as_bytes(), Format::Json, &Limits::default()) {
        let _ = sealed.open(&*KEYS);
    }
});
