//! The JSON store: any bytes are a tree or an error, within the limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use regent_sops::{Document, Format, Limits};

fuzz_target!(|bytes: &[u8]| {
    let _ = Document::parse(bytes, Format::Json, &Limits::default());
});
