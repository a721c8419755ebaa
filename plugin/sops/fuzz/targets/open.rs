//! Opening with a fixed identity: whatever is opened can be written in its own format, redacted and not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use regent_sops::{Document, Format, Keyring, Limits, Reveal};
use std::sync::LazyLock;

/// The corpus's throw-away identity, so the seeds open.
static KEYS: LazyLock<Keyring> = LazyLock::new(|| {
    let mut keys = Keyring::default();
    keys.load("age.txt", include_bytes!("../../tests/corpus/keys/age.txt"), &[]).expect("the corpus's identity");
    keys
});

fuzz_target!(|bytes: &[u8]| {
    for format in Format::ALL {
        if let Ok(Document::Sealed(sealed)) = Document::parse(bytes, format, &Limits::default())
            && let Ok(opened) = sealed.open(&*KEYS)
        {
            let _ = opened.emit(format, Reveal::Values);
            let _ = opened.emit(Format::Json, Reveal::Redacted);
        }
    }
});
