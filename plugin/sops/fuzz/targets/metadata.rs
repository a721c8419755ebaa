//! The `sops` block: the input stands where the block stands, in the two spellings a block has.
#![no_main]

use libfuzzer_sys::fuzz_target;
use regent_sops::{Document, Format, Limits};

fuzz_target!(|bytes: &[u8]| {
    let nested = [b"{\"a\": \"b\", \"sops\": ".as_slice(), bytes, b"}"].concat();
    let _ = Document::parse(&nested, Format::Json, &Limits::default());
    let flat = [b"[DEFAULT]\na = b\n[sops]\n".as_slice(), bytes].concat();
    let _ = Document::parse(&flat, Format::Ini, &Limits::default());
});
