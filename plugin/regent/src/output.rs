//! Where bytes leave: standard output, notes on standard error, and the one place that exposes plaintext.

use std::io::{self, BufWriter, Write as _};

use regent_sops::Plaintext;

use crate::failure::Failure;

/// Writes parts to standard output, each between `before` and `after`: the only place in the program where
/// plaintext leaves a command. What the parts hold was decided before: values behind `--reveal`, descriptions
/// otherwise.
pub(crate) fn parts(before: &str, parts: &[Plaintext], after: &str) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut write = |bytes: &[u8]| out.write_all(bytes).map_err(|error| Failure::output(&error));
    for part in parts {
        #[expect(clippy::disallowed_methods, reason = "the one exit of plaintext from a command line")]
        let bytes = part.expose();
        write(before.as_bytes())?;
        write(bytes)?;
        write(after.as_bytes())?;
    }
    out.flush().map_err(|error| Failure::output(&error))
}

/// Writes text that holds no secret to standard output.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
}

/// Tells a person something beside the result, on standard error.
pub(crate) fn note(sentence: impl std::fmt::Display) {
    let mut err = anstream::stderr().lock();
    // A closed standard error must not stop the work itself.
    drop(writeln!(err, "regent: note: {sentence}"));
}
