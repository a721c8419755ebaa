//! JSON: one object, its order and duplicate keys kept, numbers typed as `sops` 3.13.2 types them.
//!
//! The parser is our own because a value type loses what the MAC needs: duplicates, and whether a
//! number was an integer. Its recursion ends at [`Limits::nesting`].
//!
//! Two things are deliberately stricter than Go's decoder, which `sops` uses: text that is not UTF-8
//! and lone surrogates (`\ud800`) are errors, where Go reads U+FFFD. No `sops` writes either, and
//! reading another text than the one that stands there would hide it.

use zeroize::Zeroizing;

use super::Format;
use crate::error::{Bound, EmitProblem, Error};
use crate::limits::Limits;
use crate::plaintext::{Plaintext, PlaintextWriter};
use crate::tree::{Branch, Element, Entry, Item, Leaf, Node, Position, Scalar, Tree};

/// Parses one object and nothing after it.
///
/// A literal without fraction and exponent that fits 64 bits is [`Scalar::Int`], every other number
/// [`Scalar::Float`]; one too large for a double is an error. `-0` is the float: writers up to 3.13.1
/// left that literal in files and hashed `-0`; later ones read the integer 0 and write `0`, so no file
/// of theirs has it.
pub(crate) fn parse(bytes: &[u8], limits: &Limits) -> Result<Tree, Error> {
    let mut parser = Parser { rest: bytes, at: Position { line: 1, column: 1 }, nodes: 0, limits };
    parser.skip_blanks();
    if !parser.take(b'{') {
        return Err(parser.problem("expects one JSON object"));
    }
    let branch = parser.object(1)?;
    parser.skip_blanks();
    if !parser.rest.is_empty() {
        return Err(parser.problem("expects nothing after the object"));
    }
    Ok(Tree { documents: vec![branch] })
}

/// The document, indented with tabs as `sops` does, with a line break at the end. Several documents:
/// each compact on a line of its own.
pub(crate) fn emit(tree: &Tree) -> Result<Plaintext, Error> {
    emit_for(tree, Reader::Any)
}

/// The same to the very byte of `sops`.
pub(crate) fn emit_verbatim(tree: &Tree) -> Result<Plaintext, Error> {
    emit_for(tree, Reader::OfJson)
}

fn emit_for(tree: &Tree, reader: Reader) -> Result<Plaintext, Error> {
    let layout = Layout::Indented;
    let mut writer = Writer { out: PlaintextWriter::default(), path: Vec::new(), layout, reader };
    if tree.documents.len() > 1 {
        writer.layout = Layout::Compact;
    }
    for document in &tree.documents {
        writer.object(document, 0)?;
        writer.out.push(b"\n");
    }
    Ok(writer.out.finish())
}

/// One document on one line, deterministic to the byte, no line break at the end.
pub(crate) fn emit_compact(branch: &Branch) -> Result<Plaintext, Error> {
    let (layout, reader) = (Layout::Compact, Reader::Any);
    let mut writer = Writer { out: PlaintextWriter::default(), path: Vec::new(), layout, reader };
    writer.object(branch, 0)?;
    Ok(writer.out.finish())
}

/// Reads from the front of `rest`.
struct Parser<'a> {
    rest: &'a [u8],
    at: Position,
    nodes: usize,
    limits: &'a Limits,
}

impl<'a> Parser<'a> {
    /// The entries of an object whose brace was taken. `depth` counts this object.
    fn object(&mut self, depth: usize) -> Result<Branch, Error> {
        self.enter(depth)?;
        let mut branch = Branch::default();
        self.skip_blanks();
        if self.take(b'}') {
            return Ok(branch);
        }
        loop {
            self.skip_blanks();
            let at = self.at;
            if !self.take(b'"') {
                return Err(self.problem("expects a key in double quotes"));
            }
            let mut key = self.string()?;
            let key = String::from_utf8(std::mem::take(&mut *key)).map_err(|_| self.problem(NOT_UTF8))?;
            self.skip_blanks();
            if !self.take(b':') {
                return Err(self.problem("expects `:` after a key"));
            }
            let value = self.value(depth)?;
            branch.items.push(Item::Entry(Entry { key, merge: false, value, at }));
            self.skip_blanks();
            if self.take(b'}') {
                return Ok(branch);
            }
            if !self.take(b',') {
                return Err(self.problem("expects `,` or `}` after a value"));
            }
        }
    }

    /// The elements of a list whose bracket was taken. `depth` counts this list.
    fn list(&mut self, depth: usize) -> Result<Vec<Element>, Error> {
        self.enter(depth)?;
        let mut elements = Vec::new();
        self.skip_blanks();
        if self.take(b']') {
            return Ok(elements);
        }
        loop {
            elements.push(Element::Node(self.value(depth)?));
            self.skip_blanks();
            if self.take(b']') {
                return Ok(elements);
            }
            if !self.take(b',') {
                return Err(self.problem("expects `,` or `]` after an element"));
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Error> {
        self.skip_blanks();
        let Some(first) = self.rest.first() else {
            return Err(self.problem("expects a value"));
        };
        let scalar = match first {
            b'{' => {
                self.advance(1);
                return self.object(depth + 1).map(Node::Map);
            }
            b'[' => {
                self.advance(1);
                return self.list(depth + 1).map(Node::List);
            }
            b'"' => {
                self.advance(1);
                let mut text = self.string()?;
                Scalar::Text(Plaintext::new(std::mem::take(&mut *text)))
            }
            b't' => self.word(b"true", Scalar::Bool(true))?,
            b'f' => self.word(b"false", Scalar::Bool(false))?,
            b'n' => self.word(b"null", Scalar::Null)?,
            b'-' | b'0'..=b'9' => self.number()?,
            _ => return Err(self.problem("expects a value")),
        };
        self.count_node()?;
        Ok(Node::Leaf(Leaf::clear(scalar)))
    }

    /// The text of a string whose opening quote was taken. The buffer is as large as the raw text, which
    /// unescaping only shortens: it never moves and leaves no copy behind.
    fn string(&mut self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut escaped = false;
        let raw_length = self.rest.iter().position(|byte| {
            let end = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            end
        });
        let Some(raw_length) = raw_length else {
            return Err(self.problem("expects a closing quote"));
        };
        let mut text = Zeroizing::new(Vec::with_capacity(raw_length));
        loop {
            let plain = self.rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or_default();
            let (run, _) = self.rest.split_at_checked(plain).unwrap_or_default();
            if std::str::from_utf8(run).is_err() {
                return Err(self.problem(NOT_UTF8));
            }
            text.extend_from_slice(run);
            self.advance(plain);
            if self.take(b'"') {
                return Ok(text);
            }
            if !self.take(b'\\') {
                return Err(self.problem("expects control characters in text to be escaped"));
            }
            let character = self.escape()?;
            text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    /// The character of an escape whose backslash was taken.
    fn escape(&mut self) -> Result<char, Error> {
        let Some(kind) = self.rest.first().copied() else {
            return Err(self.problem(BAD_ESCAPE));
        };
        let character = match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.advance(1);
                return self.unicode_escape();
            }
            _ => return Err(self.problem(BAD_ESCAPE)),
        };
        self.advance(1);
        Ok(character)
    }

    /// The character of `\u`, also of a surrogate pair; the `u` was taken.
    fn unicode_escape(&mut self) -> Result<char, Error> {
        let at = self.at;
        let lone = Error::Syntax { format: Format::Json, at, problem: "refuses half a surrogate pair" };
        let first = self.hex4()?;
        let code = match first {
            0xd800..=0xdbff => {
                if !(self.take(b'\\') && self.take(b'u')) {
                    return Err(lone);
                }
                let second = self.hex4()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return Err(lone);
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            _ => first,
        };
        char::from_u32(code).ok_or(lone)
    }

    fn hex4(&mut self) -> Result<u32, Error> {
        let digits = self.rest.split_at_checked(4).map(|(digits, _)| digits).unwrap_or_default();
        if digits.len() != 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(self.problem(BAD_ESCAPE));
        }
        self.advance(4);
        Ok(digits.iter().fold(0, |code, digit| code * 16 + char::from(*digit).to_digit(16).unwrap_or_default()))
    }

    fn word(&mut self, word: &'static [u8], scalar: Scalar) -> Result<Scalar, Error> {
        if !self.rest.starts_with(word) {
            return Err(self.problem("expects a value"));
        }
        self.advance(word.len());
        Ok(scalar)
    }

    fn number(&mut self) -> Result<Scalar, Error> {
        let is_number_byte = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = self.rest.iter().position(|byte| !is_number_byte(byte)).unwrap_or(self.rest.len());
        let (literal, _) = self.rest.split_at_checked(length).unwrap_or_default();
        let Some(form) = number_form(literal) else {
            return Err(self.problem("expects a number as JSON writes it"));
        };
        let text = std::str::from_utf8(literal).map_err(|_| self.problem(NOT_UTF8))?;
        let integer = match form {
            NumberForm::Integer if literal != b"-0" => text.parse().ok(),
            NumberForm::Integer | NumberForm::Fraction => None,
        };
        let scalar = match integer {
            Some(integer) => Scalar::Int(integer),
            None => match text.parse::<f64>() {
                Ok(float) if float.is_finite() => Scalar::Float(float),
                Ok(_) | Err(_) => return Err(self.problem("refuses a number too large for a double")),
            },
        };
        self.advance(length);
        Ok(scalar)
    }

    /// Counts a mapping or list and refuses one too deep: the recursion must end before the stack does.
    fn enter(&mut self, depth: usize) -> Result<(), Error> {
        if depth > self.limits.nesting {
            return Err(Error::Limit { bound: Bound::Nesting, limit: self.limits.nesting, at: self.at });
        }
        self.count_node()
    }

    fn count_node(&mut self) -> Result<(), Error> {
        self.nodes += 1;
        if self.nodes > self.limits.nodes {
            return Err(Error::Limit { bound: Bound::Nodes, limit: self.limits.nodes, at: self.at });
        }
        Ok(())
    }

    fn skip_blanks(&mut self) {
        let blanks = self.rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
        self.advance(blanks.unwrap_or(self.rest.len()));
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.rest.first() == Some(&byte);
        if found {
            self.advance(1);
        }
        found
    }

    /// Moves over `count` bytes, counting lines and characters.
    fn advance(&mut self, count: usize) {
        let (passed, rest): (&'a [u8], &'a [u8]) = self.rest.split_at_checked(count).unwrap_or((self.rest, &[]));
        for byte in passed {
            match byte {
                b'\n' => {
                    self.at.line = self.at.line.saturating_add(1);
                    self.at.column = 1;
                }
                0x80..=0xbf => {}
                _ => self.at.column = self.at.column.saturating_add(1),
            }
        }
        self.rest = rest;
    }

    fn problem(&self, problem: &'static str) -> Error {
        Error::Syntax { format: Format::Json, at: self.at, problem }
    }
}

const NOT_UTF8: &str = "refuses text that is not UTF-8";
const BAD_ESCAPE: &str = "expects an escape of JSON after `\\`";

/// How a number is written.
enum NumberForm {
    /// Digits alone, with or without a minus.
    Integer,
    /// With a fraction or an exponent.
    Fraction,
}

/// Whether `literal` is a number of JSON's grammar, and of which form.
fn number_form(literal: &[u8]) -> Option<NumberForm> {
    fn digits(text: &[u8]) -> Option<&[u8]> {
        let length = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
        if length == 0 { None } else { text.get(length..) }
    }
    let unsigned = literal.strip_prefix(b"-").unwrap_or(literal);
    let mut rest = match unsigned {
        [b'0', rest @ ..] => rest,
        _ => digits(unsigned)?,
    };
    let mut form = NumberForm::Integer;
    if let Some(fraction) = rest.strip_prefix(b".") {
        rest = digits(fraction)?;
        form = NumberForm::Fraction;
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let unsigned = match exponent {
            [b'+' | b'-', unsigned @ ..] => unsigned,
            _ => exponent,
        };
        rest = digits(unsigned)?;
        form = NumberForm::Fraction;
    }
    rest.is_empty().then_some(form)
}

/// Whether values stand on lines of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    Indented,
    Compact,
}

struct Writer<'a> {
    out: PlaintextWriter,
    path: Vec<&'a str>,
    layout: Layout,
    reader: Reader,
}

/// Who reads it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// Also one that takes it for YAML.
    Any,
    /// Who knows JSON, as Go writes it.
    OfJson,
}

impl<'a> Writer<'a> {
    fn object(&mut self, branch: &'a Branch, depth: usize) -> Result<(), Error> {
        self.out.push(b"{");
        let mut first = true;
        for entry in branch.entries() {
            self.separate(first, depth + 1);
            first = false;
            self.path.push(&entry.key);
            self.text(entry.key.as_bytes())?;
            self.out.push(match self.layout {
                Layout::Indented => b": ",
                Layout::Compact => b":",
            });
            self.node(&entry.value, depth + 1)?;
            self.path.pop();
        }
        self.close(first, depth, b"}");
        Ok(())
    }

    fn node(&mut self, node: &'a Node, depth: usize) -> Result<(), Error> {
        match node {
            Node::Leaf(leaf) => self.scalar(&leaf.scalar),
            Node::Map(branch) => self.object(branch, depth),
            Node::List(elements) => {
                self.out.push(b"[");
                let mut first = true;
                for element in elements {
                    match element {
                        Element::Node(node) => {
                            self.separate(first, depth + 1);
                            first = false;
                            self.node(node, depth + 1)?;
                        }
                        Element::Comment(_) => {}
                    }
                }
                self.close(first, depth, b"]");
                Ok(())
            }
        }
    }

    fn scalar(&mut self, scalar: &Scalar) -> Result<(), Error> {
        match scalar {
            Scalar::Null => self.out.push(b"null"),
            Scalar::Bool(true) => self.out.push(b"true"),
            Scalar::Bool(false) => self.out.push(b"false"),
            Scalar::Int(value) => self.secret(value.to_string()),
            Scalar::Uint(value) => self.secret(value.to_string()),
            Scalar::Float(value) => match float_text(*value) {
                Some(text) => self.secret(text),
                None => return Err(self.problem(EmitProblem::Number)),
            },
            Scalar::Time(text) => self.text(text.as_bytes())?,
            Scalar::Text(text) => self.text(text.bytes())?,
        }
        Ok(())
    }

    fn secret(&mut self, text: String) {
        self.out.push(Zeroizing::new(text).as_bytes());
    }

    /// Text in quotes. Escaped are what Go escapes (`<`, `>`, `&`, U+2028 and U+2029 for readers that put
    /// JSON into HTML or a script) and DEL and C1, which YAML readers of JSON refuse.
    fn text(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Err(self.problem(EmitProblem::NotText));
        };
        self.out.push(b"\"");
        let mut written = 0;
        for (start, character) in text.char_indices() {
            let short: &[u8] = match character {
                '"' => b"\\\"",
                '\\' => b"\\\\",
                '\n' => b"\\n",
                '\r' => b"\\r",
                '\t' => b"\\t",
                '\u{8}' => b"\\b",
                '\u{c}' => b"\\f",
                '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => b"",
                '\u{7f}'..='\u{9f}' if self.reader == Reader::Any => b"",
                _ => continue,
            };
            self.out.push(bytes.get(written..start).unwrap_or_default());
            if short.is_empty() {
                self.secret(format!("\\u{:04x}", u32::from(character)));
            } else {
                self.out.push(short);
            }
            written = start + character.len_utf8();
        }
        self.out.push(bytes.get(written..).unwrap_or_default());
        self.out.push(b"\"");
        Ok(())
    }

    fn separate(&mut self, first: bool, depth: usize) {
        if !first {
            self.out.push(b",");
        }
        self.break_line(depth);
    }

    fn close(&mut self, empty: bool, depth: usize, bracket: &[u8]) {
        if !empty {
            self.break_line(depth);
        }
        self.out.push(bracket);
    }

    fn break_line(&mut self, depth: usize) {
        if self.layout == Layout::Indented {
            self.out.push(b"\n");
            for _ in 0..depth {
                self.out.push(b"\t");
            }
        }
    }

    fn problem(&self, problem: EmitProblem) -> Error {
        Error::Emit { format: Format::Json, path: self.path.join("."), problem }
    }
}

/// The shortest digits that read back, as Go's `encoding/json` lays them out: an exponent below 1e-6
/// and from 1e21, always signed (`1e+21`, `1e-7`). `None` for infinity and NaN.
fn float_text(value: f64) -> Option<String> {
    if !value.is_finite() {
        return None;
    }
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        return Some(if size >= 1.0 { text.replace('e', "e+") } else { text });
    }
    Some(format!("{value}"))
}

#[cfg(test)]
mod tests;
