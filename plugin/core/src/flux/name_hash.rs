//! The hash that kustomize appends to the name of a generated Secret.
//!
//! kustomize hashes a JSON object of `data`, `kind`, `name` and `type` (its `api/hasher`), after
//! kustomize-controller has decrypted the inputs: so it is over the plaintext. It looks for the name where there is
//! none, so the name is always empty; values are base64, in lines of 70 characters where one does not do. Of the
//! SHA-256 the first ten hexadecimal digits are kept, some of them as other letters, so that they spell no word.

use crate::handover::tree::hex;
use regent_sops::Plaintext;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// The ten characters behind the last `-` of the name of a Secret of this type (`Opaque` where none is given) with
/// these values, by key.
///
/// They are for that name alone: whoever knows them can tell whether a guess of all values is right, as whoever sees
/// the name in the cluster already can.
#[expect(clippy::disallowed_methods, reason = "a hash of the values is a part of the name that the cluster shows")]
pub fn of_secret(kind: &str, data: &BTreeMap<String, Plaintext>) -> String {
    let mut hash = Sha256::new();
    hash.update(b"{\"data\":{");
    for (index, (key, value)) in data.iter().enumerate() {
        if index > 0 {
            hash.update(b",");
        }
        hash.update(json(key));
        hash.update(b":\"");
        let text = value.to_base64();
        let lines = text.expose().chunks(LINE);
        let has_breaks = text.len() >= LINE;
        for line in lines {
            hash.update(line);
            if has_breaks {
                hash.update(b"\\n");
            }
        }
        hash.update(b"\"");
    }
    hash.update(b"},\"kind\":\"Secret\",\"name\":\"\",\"type\":");
    hash.update(json(if kind.is_empty() { "Opaque" } else { kind }));
    hash.update(b"}");
    let digits = hex(&hash.finalize());
    digits.chars().take(10).map(letter).collect()
}

/// Whether these can be the characters behind the last `-`.
pub(crate) fn is_hash(text: &str) -> bool {
    text.len() == 10 && text.bytes().all(|byte| b"2456789bcdfghkmt".contains(&byte))
}

/// Characters of base64 in a line.
const LINE: usize = 70;

/// A JSON string as Go writes it: what would mean something in HTML is escaped too.
fn json(text: &str) -> String {
    let escaped = serde_json::Value::from(text).to_string();
    let html = escaped.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    html.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

fn letter(digit: char) -> char {
    match digit {
        '0' => 'g',
        '1' => 'h',
        '3' => 'k',
        'a' => 'm',
        'e' => 't',
        other => other,
    }
}

#[cfg(test)]
mod tests;
