//! INI as `sops` reads it through go-ini: sections that may repeat, a first section `DEFAULT` that is
//! always there, keys up to `=` or `:`, values typed as text alone.
//!
//! Stricter than `sops` in two places: a file in UTF-16 and keys or section names that are not UTF-8
//! are refused (go-ini skips the mark and reads the bytes as they are).

use std::collections::{HashMap, HashSet, hash_map};

use super::Format;
use super::dotenv::scalar_text;
use crate::error::{Bound, EmitProblem, Error};
use crate::limits::Limits;
use crate::plaintext::{Plaintext, PlaintextWriter};
use crate::tree::{Branch, Comment, Entry, Item, Leaf, Node, Origin, Position, Scalar, Tree};

/// The section of keys that stand before every header. `sops` shows it even when it is empty.
const DEFAULT_SECTION: &str = "DEFAULT";

/// Parses a file: one mapping of sections; its metadata stays among them as section `sops`.
///
/// A section's comment is its first item; a key's comment, which stands above it or behind its value,
/// is the item after it. Several lines are one comment.
pub(crate) fn parse(bytes: &[u8], limits: &Limits) -> Result<Tree, Error> {
    let sections = Parser::new(bytes, limits).sections()?;
    let mut document = Branch::default();
    for section in sections {
        let mut branch = Branch::default();
        branch.items.extend(section.comment.map(Item::Comment));
        for key in section.keys {
            let value = Node::Leaf(Leaf::clear(Scalar::Text(key.value)));
            branch.items.push(Item::Entry(Entry { key: key.name, merge: false, value, at: key.at }));
            branch.items.extend(key.comment.map(Item::Comment));
        }
        let value = Node::Map(branch);
        document.items.push(Item::Entry(Entry { key: section.name, merge: false, value, at: section.at }));
    }
    Ok(Tree { documents: vec![document] })
}

/// Writes the one document as `sops` does: keys aligned, sections apart, comments above what they
/// belong to.
///
/// Every line is read back before it is written. Where the form that `sops` chooses would read as
/// something else, another quoting is tried, and what no quoting holds is refused.
pub(crate) fn emit(tree: &Tree) -> Result<Plaintext, Error> {
    emit_in(tree, Quotes::ThatReadBack)
}

/// The same to the very byte of `sops`, and refused where that would read back as something else.
pub(crate) fn emit_verbatim(tree: &Tree) -> Result<Plaintext, Error> {
    emit_in(tree, Quotes::OfSops)
}

/// Which quotes a value may stand in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    /// The first that read back as the value.
    ThatReadBack,
    /// Those of `sops`.
    OfSops,
}

fn emit_in(tree: &Tree, quotes: Quotes) -> Result<Plaintext, Error> {
    let document = match tree.documents.as_slice() {
        [] => return Ok(Plaintext::new(Vec::new())),
        [document] => document,
        [_, ..] => return Err(problem(&[], EmitProblem::Documents)),
    };
    let mut out = PlaintextWriter::default();
    let mut sections = document.entries().peekable();
    let mut first = true;
    while let Some(Entry { key: name, value, .. }) = sections.next() {
        let Node::Map(branch) = value else {
            return Err(problem(&[name], EmitProblem::NoSection));
        };
        let last = sections.peek().is_none();
        emit_section(&mut out, (name, branch), (first, last), quotes)?;
        first = false;
    }
    Ok(out.finish())
}

struct Section {
    name: String,
    at: Position,
    comment: Option<Comment>,
    keys: Vec<Key>,
}

struct Key {
    name: String,
    value: Plaintext,
    at: Position,
    comment: Option<Comment>,
}

/// Reads line by line, as go-ini does; its rules are told where they are applied.
struct Parser<'a> {
    rest: &'a [u8],
    line: u32,
    /// Comment text since the last key or section.
    comment: PlaintextWriter,
    /// Number of the next key `-` of this section.
    next_number: usize,
    nodes: usize,
    comments: usize,
    limits: &'a Limits,
}

impl<'a> Parser<'a> {
    fn new(bytes: &'a [u8], limits: &'a Limits) -> Self {
        let rest = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        Self { rest, line: 0, comment: PlaintextWriter::default(), next_number: 1, nodes: 0, comments: 0, limits }
    }

    fn sections(mut self) -> Result<Vec<Section>, Error> {
        if self.rest.starts_with(b"\xfe\xff") || self.rest.starts_with(b"\xff\xfe") {
            self.line = 1;
            return Err(self.problem("refuses UTF-16"));
        }
        let mut done = Vec::new();
        let at = Position { line: 1, column: 1 };
        let mut section = Section { name: DEFAULT_SECTION.to_owned(), at, comment: None, keys: Vec::new() };
        let mut places: HashMap<String, usize> = HashMap::new();
        while let Some(whole_line) = self.next_line() {
            let line = trim_start(whole_line);
            match line.first() {
                None => {}
                Some(b'#' | b';') => self.comment.push(line),
                Some(b'[') => {
                    let next = self.header(line)?;
                    places.clear();
                    done.push(std::mem::replace(&mut section, next));
                }
                Some(_) => {
                    let key = self.key(line)?;
                    match places.entry(key.name.clone()) {
                        // The last value counts, at the place of the first.
                        hash_map::Entry::Occupied(place) => {
                            if let Some(first) = section.keys.get_mut(*place.get()) {
                                *first = key;
                            }
                        }
                        hash_map::Entry::Vacant(place) => {
                            place.insert(section.keys.len());
                            section.keys.push(key);
                        }
                    }
                }
            }
        }
        done.push(section);
        Ok(done)
    }

    /// A line `[name]`: the name goes up to the last bracket, untrimmed.
    fn header(&mut self, line: &[u8]) -> Result<Section, Error> {
        self.count_node()?;
        let Some(end) = line.iter().rposition(|byte| *byte == b']') else {
            return Err(self.problem("expects `]` at the end of a section's name"));
        };
        let name = self.name(line.get(1..end).unwrap_or_default())?;
        if name.is_empty() {
            return Err(self.problem("expects a section's name between brackets"));
        }
        let behind = line.get(end..).unwrap_or_default();
        if let Some(start) = comment_start(behind) {
            self.comment.push(behind.get(start..).unwrap_or_default());
        }
        self.next_number = 1;
        Ok(Section { name, at: self.position(), comment: self.take_comment()?, keys: Vec::new() })
    }

    /// A line `key = value` or `key: value`, with the lines that the value continues on.
    fn key(&mut self, line: &'a [u8]) -> Result<Key, Error> {
        self.count_node()?;
        let at = self.position();
        let (name, value) = self.split_key(line)?;
        let mut name = self.name(trim(name))?;
        if name == "-" {
            name = format!("#{}", self.next_number);
            self.next_number += 1;
        }
        let value = self.value(value)?;
        if name.is_empty() {
            return Err(self.problem("expects a key before `=`"));
        }
        Ok(Key { name, value, at, comment: self.take_comment()? })
    }

    /// The key's name, untrimmed, and what stands behind the delimiter. A name may be in `"`, `"""` or
    /// backticks; what stands between its closing quote and the delimiter is lost.
    fn split_key(&self, line: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), Error> {
        let quote: &[u8] = match line {
            [b'"', b'"', b'"', ..] if line.len() > 6 => b"\"\"\"",
            [b'"', ..] => b"\"",
            [b'`', ..] => b"`",
            _ => b"",
        };
        let inner = line.strip_prefix(quote).unwrap_or(line);
        let (name, behind) = if quote.is_empty() {
            (None, line)
        } else {
            let Some(end) = find(inner, quote) else {
                return Err(self.problem("expects a closing quote after a key"));
            };
            (inner.get(..end), inner.get(end + quote.len()..).unwrap_or_default())
        };
        let Some(delimiter) = behind.iter().position(|byte| matches!(byte, b'=' | b':')) else {
            return Err(self.problem("expects `=` or `:` after a key"));
        };
        let name = name.or(behind.get(..delimiter)).unwrap_or_default();
        Ok((name, behind.get(delimiter + 1..).unwrap_or_default()))
    }

    fn value(&mut self, behind_delimiter: &'a [u8]) -> Result<Plaintext, Error> {
        let line = trim_start(behind_delimiter);
        let quote: &[u8] = match line {
            [b'"', b'"', b'"', ..] if line.len() > 3 => b"\"\"\"",
            [b'`', ..] => b"`",
            _ => return Ok(self.unquoted_value(trim(line))),
        };
        let inner = line.strip_prefix(quote).unwrap_or(line);
        match rfind(inner, quote) {
            Some(end) => Ok(Plaintext::new(inner.get(..end).unwrap_or_default().to_vec())),
            None => self.quoted_lines(inner, quote),
        }
    }

    /// A quoted value over several lines, up to the last quote of the first line that has one. A line
    /// that ends in a backslash behind its quote belongs to the value as a whole.
    fn quoted_lines(&mut self, first: &[u8], quote: &[u8]) -> Result<Plaintext, Error> {
        let mut value = PlaintextWriter::with_capacity(first.len());
        value.push(first);
        loop {
            let Some(line) = self.next_line() else {
                return Err(self.problem("expects a closing quote after a value"));
            };
            let Some(end) = rfind(line, quote) else {
                value.push(line);
                continue;
            };
            let behind = line.get(end + quote.len()..).unwrap_or_default();
            if trim(behind).ends_with(b"\\") {
                value.push(line);
                continue;
            }
            value.push(line.get(..end).unwrap_or_default());
            if let Some(start) = comment_start(behind) {
                self.comment.push(trim(behind.get(start..).unwrap_or_default()));
            }
            return Ok(value.finish());
        }
    }

    /// In this order: a backslash at the end joins the next line and ends the rules; from `#` or `;` on
    /// it is a comment, also within a word; one pair of quotes goes.
    fn unquoted_value(&mut self, line: &[u8]) -> Plaintext {
        if let Some(start) = line.strip_suffix(b"\\") {
            return self.continued_value(start);
        }
        let mut value = line;
        if let Some(start) = comment_start(line) {
            self.comment.push(line.get(start..).unwrap_or_default());
            value = trim(line.get(..start).unwrap_or_default());
        }
        if let [open @ (b'\'' | b'"'), inner @ .., close] = value
            && open == close
            && !inner.contains(open)
        {
            value = inner;
        }
        Plaintext::new(value.to_vec())
    }

    fn continued_value(&mut self, start: &[u8]) -> Plaintext {
        let mut value = PlaintextWriter::with_capacity(start.len());
        value.push(start);
        while let Some(line) = self.next_line() {
            let line = trim(line);
            let Some(part) = line.strip_suffix(b"\\") else {
                value.push(line);
                break;
            };
            value.push(part);
        }
        value.finish()
    }

    fn name(&self, bytes: &[u8]) -> Result<String, Error> {
        let text = std::str::from_utf8(bytes);
        text.map(str::to_owned).map_err(|_| self.problem("refuses a key or section name that is not UTF-8"))
    }

    /// The next line with its line break.
    fn next_line(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        self.line = self.line.saturating_add(1);
        let end = self.rest.iter().position(|byte| *byte == b'\n').map_or(self.rest.len(), |at| at + 1);
        let (line, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        Some(line)
    }

    /// The comment collected so far: its first mark and the blanks behind it go, the marks of further
    /// lines stay, as `sops` has it.
    fn take_comment(&mut self) -> Result<Option<Comment>, Error> {
        let collected = std::mem::take(&mut self.comment).finish();
        let text = trim(collected.bytes());
        let Some(mark) = text.first().copied() else {
            return Ok(None);
        };
        let start = text.iter().position(|byte| *byte != mark && *byte != b' ').unwrap_or(text.len());
        self.comments += 1;
        if self.comments > self.limits.comments {
            let (bound, limit) = (Bound::Comments, self.limits.comments);
            return Err(Error::Limit { bound, limit, at: self.position() });
        }
        let text = Plaintext::new(text.get(start..).unwrap_or_default().to_vec());
        Ok(Some(Comment { text, origin: Origin::Clear }))
    }

    fn count_node(&mut self) -> Result<(), Error> {
        self.nodes += 1;
        if self.nodes > self.limits.nodes {
            return Err(Error::Limit { bound: Bound::Nodes, limit: self.limits.nodes, at: self.position() });
        }
        Ok(())
    }

    fn position(&self) -> Position {
        Position { line: self.line, column: 1 }
    }

    fn problem(&self, problem: &'static str) -> Error {
        Error::Syntax { format: Format::Ini, at: self.position(), problem }
    }
}

/// A key with the text of its value and the comment that belongs to it.
struct Line<'a> {
    key: &'a str,
    written_key: String,
    value: Plaintext,
    comment: Option<&'a Plaintext>,
}

fn emit_section(
    out: &mut PlaintextWriter,
    (name, branch): (&str, &Branch),
    (first, last): (bool, bool),
    quotes: Quotes,
) -> Result<(), Error> {
    let (comment, lines) = section_lines(name, branch)?;
    if let Some(comment) = comment {
        // go-ini trims the lines of a key's comment alone.
        emit_comment(out, comment, |line| line);
    }
    // The first section's header may be left out where it reads back as the same.
    if first && name == DEFAULT_SECTION {
        if lines.is_empty() {
            return Ok(());
        }
    } else {
        let header = format!("[{name}]\n");
        let reads_back = read_back(header.as_bytes()).is_some_and(|read| match read.as_slice() {
            [default, section] => default.keys.is_empty() && section.name == name && section.comment.is_none(),
            _ => false,
        });
        if !reads_back {
            return Err(problem(&[name], EmitProblem::Character));
        }
        out.push(header.as_bytes());
    }
    let longest = lines.iter().map(|line| line.written_key.len()).max().unwrap_or_default();
    for line in &lines {
        if let Some(comment) = line.comment {
            emit_comment(out, comment, trim);
        }
        let padding = longest - line.written_key.len();
        let tried = match quotes {
            Quotes::ThatReadBack => usize::MAX,
            Quotes::OfSops => 1,
        };
        let mut quotings = quotings(line.value.bytes()).into_iter().take(tried);
        let Some(text) = quotings.find_map(|value| written_line(line, padding, &value)) else {
            return Err(problem(&[name, line.key], EmitProblem::Character));
        };
        out.push(text.bytes());
    }
    if !last {
        out.push(b"\n");
    }
    Ok(())
}

/// A section's own comment and its lines. A comment belongs to the key before it; of several the last
/// one stays, as in `sops`.
fn section_lines<'a>(name: &str, branch: &'a Branch) -> Result<(Option<&'a Plaintext>, Vec<Line<'a>>), Error> {
    let mut section_comment = None;
    let mut lines: Vec<Line<'_>> = Vec::new();
    let mut seen = HashSet::new();
    for (index, item) in branch.items.iter().enumerate() {
        match item {
            Item::Comment(comment) if index == 0 => section_comment = Some(&comment.text),
            Item::Comment(comment) => {
                if let Some(line) = lines.last_mut() {
                    line.comment = Some(&comment.text);
                }
            }
            Item::Entry(Entry { key, value, .. }) => {
                let Node::Leaf(leaf) = value else {
                    return Err(problem(&[name, key], EmitProblem::Nested));
                };
                let Some(value) = scalar_text(&leaf.scalar) else {
                    return Err(problem(&[name, key], EmitProblem::Null));
                };
                if !seen.insert(key.as_str()) {
                    return Err(problem(&[name, key], EmitProblem::Repeated));
                }
                let written_key = if key.contains(['"', '=', ':']) {
                    format!("`{key}`")
                } else if key.contains('`') {
                    format!("\"\"\"{key}\"\"\"")
                } else {
                    key.clone()
                };
                lines.push(Line { key, written_key, value, comment: None });
            }
        }
    }
    Ok((section_comment, lines))
}

/// The ways to write a value: the one that `sops` chooses, then the two others that can hold it as it
/// is.
fn quotings(value: &[u8]) -> Vec<Plaintext> {
    let quoted = |quote: &[u8]| {
        let mut text = PlaintextWriter::with_capacity(value.len() + 2 * quote.len());
        text.push(quote);
        text.push(value);
        text.push(quote);
        text.finish()
    };
    let has = |wanted: &[u8]| value.iter().any(|byte| wanted.contains(byte));
    let chosen = if has(b"\n`") {
        quoted(b"\"\"\"")
    } else if has(b"#;") {
        quoted(b"`")
    } else if trim(value).len() != value.len() {
        quoted(b"\"")
    } else {
        Plaintext::new(value.to_vec())
    };
    vec![chosen, quoted(b"`"), quoted(b"\"\"\"")]
}

/// `key = value` if it reads back as exactly that.
fn written_line(line: &Line<'_>, padding: usize, value: &Plaintext) -> Option<Plaintext> {
    let mut text = PlaintextWriter::with_capacity(line.written_key.len() + padding + value.len() + 4);
    text.push(line.written_key.as_bytes());
    text.push(" ".repeat(padding).as_bytes());
    text.push(b" = ");
    text.push(value.bytes());
    text.push(b"\n");
    let text = text.finish();
    let read = read_back(text.bytes())?;
    let [Section { keys, .. }] = read.as_slice() else { return None };
    let [key] = keys.as_slice() else { return None };
    let same = key.name == line.key && key.value.bytes() == line.value.bytes() && key.comment.is_none();
    same.then_some(text)
}

/// The sections of a text that this module wrote.
fn read_back(text: &[u8]) -> Option<Vec<Section>> {
    let limits = Limits { nodes: 3, comments: 1, ..Limits::default() };
    Parser::new(text, &limits).sections().ok()
}

fn emit_comment(out: &mut PlaintextWriter, comment: &Plaintext, tidy: fn(&[u8]) -> &[u8]) {
    if comment.is_empty() {
        return;
    }
    for line in comment.bytes().split(|byte| *byte == b'\n') {
        if let [mark @ (b'#' | b';'), text @ ..] = line {
            out.push(&[*mark, b' ']);
            out.push(trim(text));
        } else {
            out.push(b"; ");
            out.push(tidy(line));
        }
        out.push(b"\n");
    }
}

fn problem(path: &[&str], problem: EmitProblem) -> Error {
    Error::Emit { format: Format::Ini, path: path.join("."), problem }
}

fn comment_start(text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| matches!(byte, b'#' | b';'))
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn rfind(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).rposition(|window| window == part)
}

fn trim(text: &[u8]) -> &[u8] {
    let mut text = trim_start(text);
    while let Some(shorter) = BLANKS.iter().find_map(|blank| text.strip_suffix(blank.as_bytes())) {
        text = shorter;
    }
    text
}

fn trim_start(mut text: &[u8]) -> &[u8] {
    while let Some(shorter) = BLANKS.iter().find_map(|blank| text.strip_prefix(blank.as_bytes())) {
        text = shorter;
    }
    text
}

/// What Go's `unicode.IsSpace` accepts. As bytes, because the text around them need not be UTF-8.
const BLANKS: [&str; 25] = [
    " ", "\t", "\n", "\r", "\u{b}", "\u{c}", "\u{85}", "\u{a0}", "\u{1680}", "\u{2000}", "\u{2001}", "\u{2002}",
    "\u{2003}", "\u{2004}", "\u{2005}", "\u{2006}", "\u{2007}", "\u{2008}", "\u{2009}", "\u{200a}", "\u{2028}",
    "\u{2029}", "\u{202f}", "\u{205f}", "\u{3000}",
];

#[cfg(test)]
mod tests;
