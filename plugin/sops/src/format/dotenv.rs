//! dotenv as `sops` reads it: `KEY=value` lines and `#` comments, nothing trimmed, no quotes, no
//! `export`. The one escape is `\n` in a value; a carriage return belongs to the value.
//!
//! Keys that are not UTF-8 are refused, where `sops` keeps their bytes: a key names things in messages.

use super::Format;
use crate::error::{Bound, EmitProblem, Error};
use crate::limits::Limits;
use crate::plaintext::{Plaintext, PlaintextWriter};
use crate::tree::{Branch, Comment, Entry, Item, Leaf, Node, Origin, Position, Scalar, Tree};

/// Parses a file; its metadata stays among the data, as entries `sops_...`.
pub(crate) fn parse(bytes: &[u8], limits: &Limits) -> Result<Tree, Error> {
    let mut branch = Branch::default();
    let (mut nodes, mut comments) = (0, 0);
    let mut at = Position { line: 0, column: 1 };
    for line in bytes.split(|byte| *byte == b'\n') {
        at.line = at.line.saturating_add(1);
        let syntax = |problem| Error::Syntax { format: Format::Dotenv, at, problem };
        match line {
            [] => {}
            [b'#', text @ ..] => {
                count(&mut comments, Bound::Comments, limits.comments, at)?;
                let text = Plaintext::new(text.to_vec());
                branch.items.push(Item::Comment(Comment { text, origin: Origin::Clear }));
            }
            _ => {
                count(&mut nodes, Bound::Nodes, limits.nodes, at)?;
                let equals = line.iter().position(|byte| *byte == b'=');
                let Some((key, [_, value @ ..])) = equals.and_then(|equals| line.split_at_checked(equals)) else {
                    return Err(syntax("expects `KEY=value`, a comment or an empty line"));
                };
                let key = std::str::from_utf8(key).map_err(|_| syntax("refuses a key that is not UTF-8"))?.to_owned();
                let value = Node::Leaf(Leaf::clear(Scalar::Text(unescape(value))));
                branch.items.push(Item::Entry(Entry { key, merge: false, value, at }));
            }
        }
    }
    Ok(Tree { documents: vec![branch] })
}

/// Writes the one document as `sops` does, and refuses what would read back as something else: nested
/// values, null, a key with `=`, a line break, NUL or a leading `#`, a value with a backslash before `n`.
pub(crate) fn emit(tree: &Tree) -> Result<Plaintext, Error> {
    let problem = |path: &str, problem| Error::Emit { format: Format::Dotenv, path: path.to_owned(), problem };
    let branch = match tree.documents.as_slice() {
        [] => return Ok(Plaintext::new(Vec::new())),
        [branch] => branch,
        [_, ..] => return Err(problem("", EmitProblem::Documents)),
    };
    let mut out = PlaintextWriter::default();
    for item in &branch.items {
        match item {
            Item::Comment(comment) => {
                for line in comment.text.bytes().split(|byte| *byte == b'\n') {
                    out.push(b"#");
                    out.push(line);
                    out.push(b"\n");
                }
            }
            Item::Entry(Entry { key, value, .. }) => {
                if key.starts_with('#') || key.contains(['=', '\n', '\0']) {
                    return Err(problem(key, EmitProblem::Character));
                }
                let Node::Leaf(leaf) = value else {
                    return Err(problem(key, EmitProblem::Nested));
                };
                let Some(text) = scalar_text(&leaf.scalar) else {
                    return Err(problem(key, EmitProblem::Null));
                };
                let escape_like = |pair: &[u8]| pair == br"\n";
                if text.bytes().windows(2).any(escape_like) {
                    return Err(problem(key, EmitProblem::Character));
                }
                out.push(key.as_bytes());
                out.push(b"=");
                let mut lines = text.bytes().split(|byte| *byte == b'\n');
                out.push(lines.next().unwrap_or_default());
                for line in lines {
                    out.push(br"\n");
                    out.push(line);
                }
                out.push(b"\n");
            }
        }
    }
    Ok(out.finish())
}

/// A scalar as the flat stores write it; `None` for null. Floats keep a mark of their type (`1.0`,
/// `1E+21`), truth values are lower case, times lose their fraction: all as `sops` does.
pub(super) fn scalar_text(scalar: &Scalar) -> Option<Plaintext> {
    let text = match scalar {
        Scalar::Null => return None,
        Scalar::Text(text) => return Some(text.duplicate()),
        Scalar::Bool(value) => value.to_string(),
        Scalar::Int(value) => value.to_string(),
        Scalar::Uint(value) => value.to_string(),
        Scalar::Float(value) => float_text(*value),
        Scalar::Time(text) => without_fraction(text),
    };
    Some(Plaintext::new(text.into_bytes()))
}

/// Go's `%G` with the fewest digits, and `.0` where that would read as an integer.
fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:E}");
    let (digits, exponent) = scientific.split_once('E').unwrap_or((&scientific, "0"));
    let exponent = exponent.parse::<i32>().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return format!("{value:?}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}E{sign}{:02}", exponent.unsigned_abs())
}

/// `2001-02-03T04:05:06.7Z` without its `.7`.
fn without_fraction(time: &str) -> String {
    let Some((seconds, rest)) = time.split_once('.') else {
        return time.to_owned();
    };
    format!("{seconds}{}", rest.trim_start_matches(|digit: char| digit.is_ascii_digit()))
}

/// `\n` as a line break; nothing else is an escape.
fn unescape(value: &[u8]) -> Plaintext {
    let mut text = PlaintextWriter::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.windows(2).position(|pair| pair == br"\n") {
        text.push(rest.get(..at).unwrap_or_default());
        text.push(b"\n");
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    text.push(rest);
    text.finish()
}

fn count(counter: &mut usize, bound: Bound, limit: usize, at: Position) -> Result<(), Error> {
    *counter += 1;
    if *counter > limit {
        return Err(Error::Limit { bound, limit, at });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
