//! From a tree to the very bytes that `sops` writes: where a hash is over them, or a reader compares them, text of the
//! same meaning is another text.
//!
//! This is what `go.yaml.in/yaml/v3` makes of the nodes that SOPS gives it, indented by four and never folded. Where it
//! would write something that depends on more than the tree tells, this refuses: a comment at the end of a list or of what
//! ends in one, keys of several lines, bytes that are no text. Whether a comment stands where the file has it, who has the
//! file can see.

use crate::error::{EmitProblem, Error};
use crate::format::Format;
use crate::plaintext::{Plaintext, PlaintextWriter};
use crate::scalar;
use crate::tree::{Branch, Comment, Element, Entry, Item, Leaf, Node, Scalar, Tree};

/// All documents.
pub(crate) fn emit(tree: &Tree) -> Result<Plaintext, Error> {
    let mut writer = Writer { out: PlaintextWriter::default() };
    for (index, document) in tree.documents.iter().enumerate() {
        if index > 0 {
            writer.out.push(b"---\n");
        }
        let written = if document.entries().next().is_none() {
            writer.empty(document)
        } else {
            writer.map(document, Place { indent: 0, begun: false, has_head: false })
        };
        written.map_err(|(mut keys, problem)| {
            keys.reverse();
            Error::Emit { format: Format::Yaml, path: keys.join("."), problem }
        })?;
    }
    Ok(writer.out.finish())
}

/// What cannot be written, with its keys from the innermost to the root.
type Unwritable = (Vec<String>, EmitProblem);

/// Where a mapping or a list begins.
#[derive(Clone, Copy)]
struct Place {
    /// Columns of its entries.
    indent: usize,
    /// Whether its first line was begun, behind a dash.
    begun: bool,
    /// Whether the comments before its first entry are written already.
    has_head: bool,
}

struct Writer {
    out: PlaintextWriter,
}

/// Longer keys stand behind a `?`.
const LONGEST_SIMPLE_KEY: usize = 128;

const STEP: usize = 4;

impl Writer {
    fn empty(&mut self, document: &Branch) -> Result<(), Unwritable> {
        if document.items.is_empty() {
            self.out.push(b"{}\n");
            return Ok(());
        }
        Err((Vec::new(), EmitProblem::Character))
    }

    fn map(&mut self, branch: &Branch, place: Place) -> Result<(), Unwritable> {
        let Place { indent, mut begun, has_head } = place;
        let mut is_head = has_head;
        let last = branch.items.iter().rposition(|item| matches!(item, Item::Entry(_)));
        for (index, item) in branch.items.iter().enumerate() {
            match item {
                Item::Comment(_) if is_head => {}
                // Behind a mapping or a list it can be that one's.
                Item::Comment(_) if Some(index) > last && branch.entries().last().is_some_and(holds_more) => {
                    return Err((Vec::new(), EmitProblem::Character));
                }
                Item::Comment(comment) => self.comment(comment, indent)?,
                Item::Entry(entry) => {
                    is_head = false;
                    if !std::mem::take(&mut begun) {
                        self.spaces(indent);
                    }
                    self.entry(entry, indent).map_err(|(mut keys, problem)| {
                        keys.push(entry.key.clone());
                        (keys, problem)
                    })?;
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, indent: usize) -> Result<(), Unwritable> {
        let key = entry.key.as_str();
        if key.contains('\n') || key.len() > LONGEST_SIMPLE_KEY || entry.merge {
            return Err((Vec::new(), EmitProblem::Character));
        }
        self.text(key)?;
        self.out.push(b":");
        // Everything but what stands behind a dash is aligned.
        let inner = (indent + STEP) / STEP * STEP;
        let place = Place { indent: inner, begun: false, has_head: false };
        match &entry.value {
            Node::Map(branch) if branch.entries().next().is_some() => {
                self.out.push(b"\n");
                self.map(branch, place)
            }
            Node::List(elements) if has_nodes(elements) => {
                self.out.push(b"\n");
                self.list(elements, place)
            }
            Node::Leaf(_) | Node::Map(_) | Node::List(_) => {
                self.out.push(b" ");
                self.single(&entry.value, inner)
            }
        }
    }

    fn list(&mut self, elements: &[Element], place: Place) -> Result<(), Unwritable> {
        let refused = || Err((Vec::new(), EmitProblem::Character));
        let Place { indent, mut begun, has_head } = place;
        let (mut is_first, mut above) = (true, Vec::new());
        for element in elements {
            let node = match element {
                Element::Comment(_) if is_first && has_head => continue,
                Element::Comment(comment) => {
                    above.push(comment);
                    continue;
                }
                Element::Node(node) => node,
            };
            let inside = head(node);
            // The list's own is forgotten where its first item has one.
            if is_first && !above.is_empty() && !inside.is_empty() {
                return refused();
            }
            for comment in above.drain(..).chain(inside) {
                if begun {
                    return refused();
                }
                self.comment(comment, indent)?;
            }
            if !std::mem::take(&mut begun) {
                self.spaces(indent);
            }
            self.out.push(b"- ");
            is_first = false;
            let place = Place { indent: indent + 2, begun: true, has_head: true };
            match node {
                Node::Map(branch) if branch.entries().next().is_some() => self.map(branch, place)?,
                Node::List(elements) if has_nodes(elements) => self.list(elements, place)?,
                Node::Leaf(_) | Node::Map(_) | Node::List(_) => self.single(node, indent + 2)?,
            }
        }
        // Behind the last item they stand where the file goes on.
        if above.is_empty() { Ok(()) } else { refused() }
    }

    /// What begins behind a key or a dash, its line break included.
    fn single(&mut self, node: &Node, indent: usize) -> Result<(), Unwritable> {
        let written = match node {
            Node::Map(branch) if branch.items.is_empty() => "{}".to_owned(),
            Node::List(elements) if elements.is_empty() => "[]".to_owned(),
            Node::Map(_) | Node::List(_) => return Err((Vec::new(), EmitProblem::Character)),
            Node::Leaf(Leaf { scalar, .. }) => match scalar {
                Scalar::Null => "null".to_owned(),
                Scalar::Bool(value) => value.to_string(),
                Scalar::Int(value) => value.to_string(),
                Scalar::Uint(value) => value.to_string(),
                Scalar::Float(value) => float(*value),
                Scalar::Time(value) => value.clone(),
                Scalar::Text(value) => {
                    let text = value.text().ok_or_else(|| (Vec::new(), EmitProblem::NotText))?;
                    if text.contains('\n') && Look::at(text).may_be_block {
                        self.literal(text, indent);
                        return Ok(());
                    }
                    self.text(text)?;
                    String::new()
                }
            },
        };
        self.out.push(Plaintext::new(written.into_bytes()).bytes());
        self.out.push(b"\n");
        Ok(())
    }

    /// Text in one line: plain where that is text, in quotes where it would mean something, escaped where it must be.
    fn text(&mut self, text: &str) -> Result<(), Unwritable> {
        // Three of these break lines for the library, and behind the fourth it escapes what needs none; `<<` merges.
        if text.contains(['\u{85}', '\u{2028}', '\u{2029}']) || text.starts_with('\u{feff}') || text == "<<" {
            return Err((Vec::new(), EmitProblem::Character));
        }
        let look = Look::at(text);
        if text.contains('\n') || !scalar::is_text_for_sops(text) || is_old_word(text) || is_base_60(text) {
            self.double_quoted(text);
        } else if look.may_be_plain {
            self.out.push(text.as_bytes());
        } else if look.may_be_single_quoted {
            self.out.push(b"'");
            let mut parts = text.split('\'');
            self.out.push(parts.next().unwrap_or_default().as_bytes());
            for part in parts {
                self.out.push(b"''");
                self.out.push(part.as_bytes());
            }
            self.out.push(b"'");
        } else {
            self.double_quoted(text);
        }
        Ok(())
    }

    fn double_quoted(&mut self, text: &str) {
        self.out.push(b"\"");
        for character in text.chars() {
            let named = match character {
                '\0' => '0',
                '\u{7}' => 'a',
                '\u{8}' => 'b',
                '\t' => 't',
                '\n' => 'n',
                '\u{b}' => 'v',
                '\u{c}' => 'f',
                '\r' => 'r',
                '\u{1b}' => 'e',
                '"' => '"',
                '\\' => '\\',
                character if is_printable(character) => {
                    self.out.push(character.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
                character => {
                    let code = u32::from(character);
                    let escape = match code {
                        0..=0xFF => format!("\\x{code:02X}"),
                        0x100..=0xFFFF => format!("\\u{code:04X}"),
                        _ => format!("\\U{code:08X}"),
                    };
                    self.out.push(Plaintext::new(escape.into_bytes()).bytes());
                    continue;
                }
            };
            self.out.push(b"\\");
            self.out.push(named.encode_utf8(&mut [0; 4]).as_bytes());
        }
        self.out.push(b"\"");
    }

    /// As a `|` block, its last line break included.
    fn literal(&mut self, text: &str, indent: usize) {
        self.out.push(b"|");
        if text.starts_with([' ', '\n']) {
            self.out.push(b"4");
        }
        if !text.ends_with('\n') {
            self.out.push(b"-");
        } else if text == "\n" || text.ends_with("\n\n") {
            self.out.push(b"+");
        }
        self.out.push(b"\n");
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            if !line.is_empty() {
                self.spaces(indent);
                self.out.push(line.as_bytes());
            }
            self.out.push(b"\n");
        }
    }

    fn comment(&mut self, comment: &Comment, indent: usize) -> Result<(), Unwritable> {
        let text =
            comment.text.text().filter(|text| text.chars().all(|it| it == '\t' || (is_printable(it) && it != '\n')));
        let text = text.filter(|text| !text.contains(['\u{2028}', '\u{2029}']));
        let text = text.ok_or_else(|| (Vec::new(), EmitProblem::Character))?;
        self.spaces(indent);
        self.out.push(b"#");
        self.out.push(text.as_bytes());
        self.out.push(b"\n");
        Ok(())
    }

    fn spaces(&mut self, columns: usize) {
        for _ in 0..columns {
            self.out.push(b" ");
        }
    }
}

/// The comments before the first entry of what stands behind a dash: they are written above the dash.
fn head(node: &Node) -> Vec<&Comment> {
    let mut found = Vec::new();
    match node {
        Node::Map(branch) if branch.entries().next().is_some() => {
            for item in &branch.items {
                match item {
                    Item::Comment(comment) => found.push(comment),
                    Item::Entry(_) => break,
                }
            }
        }
        Node::List(elements) if has_nodes(elements) => {
            for element in elements {
                match element {
                    Element::Comment(comment) => found.push(comment),
                    Element::Node(_) => break,
                }
            }
        }
        Node::Leaf(_) | Node::Map(_) | Node::List(_) => {}
    }
    found
}

fn holds_more(entry: &Entry) -> bool {
    match &entry.value {
        Node::Leaf(_) => false,
        Node::Map(branch) => branch.entries().next().is_some(),
        Node::List(elements) => has_nodes(elements),
    }
}

fn has_nodes(elements: &[Element]) -> bool {
    elements.iter().any(|element| matches!(element, Element::Node(_)))
}

/// What the library sees in a text before it decides how to write it.
struct Look {
    may_be_plain: bool,
    may_be_single_quoted: bool,
    may_be_block: bool,
}

impl Look {
    fn at(text: &str) -> Self {
        if text.is_empty() {
            return Self { may_be_plain: true, may_be_single_quoted: true, may_be_block: false };
        }
        let mut means_something = text.starts_with("---") || text.starts_with("...");
        let (mut special, mut tabs) = (false, false);
        let (mut breaks, mut break_space, mut space_break) = (false, false, false);
        let (mut before, mut characters) = (None, text.chars().peekable());
        while let Some(character) = characters.next() {
            let before_blank = characters.peek().is_none_or(|next| matches!(next, ' ' | '\t'));
            let after_blank = before.is_none_or(|before| matches!(before, ' ' | '\t' | '\r' | '\n' | '\0'));
            means_something |= match (before, character) {
                (
                    None,
                    '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`',
                ) => true,
                (None, '?' | ':' | '-') | (Some(_), ':') => before_blank,
                (Some(_), '#') => after_blank,
                (None | Some(_), _) => false,
            };
            tabs |= character == '\t';
            special |= character != '\t' && !is_printable(character);
            breaks |= character == '\n';
            break_space |= character == ' ' && before == Some('\n');
            space_break |= character == '\n' && before == Some(' ');
            before = Some(character);
        }
        let outer = |character: char| text.starts_with(character) || text.ends_with(character);
        Self {
            may_be_plain: !(means_something
                || special
                || tabs
                || breaks
                || break_space
                || space_break
                || outer(' ')
                || outer('\n')),
            may_be_single_quoted: !(break_space || space_break || tabs || special),
            may_be_block: !(text.ends_with(' ') || space_break || special),
        }
    }
}

/// The library's own: nothing beyond U+FFFF.
fn is_printable(character: char) -> bool {
    matches!(character, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
}

/// Truth values of YAML 1.1, which are quoted although they are text.
fn is_old_word(text: &str) -> bool {
    const WORDS: [&str; 16] =
        ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off", "OFF"];
    WORDS.contains(&text)
}

/// Numbers of YAML 1.1 to the base 60: `[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?`.
fn is_base_60(text: &str) -> bool {
    let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = match rest.rsplit_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (rest, ""),
    };
    let mut parts = whole.split(':');
    let first = parts.next().unwrap_or_default();
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_first = first.starts_with(|it: char| it.is_ascii_digit())
        && first.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    let is_sixty = |part: &str| match part.len() {
        1 => digits(part),
        2 => digits(part) && part.starts_with(|it: char| matches!(it, '0'..='5')),
        _ => false,
    };
    let rest: Vec<&str> = parts.collect();
    is_first
        && !rest.is_empty()
        && rest.into_iter().all(is_sixty)
        && fraction.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
}

/// Go's `%g` with the fewest digits.
fn float(value: f64) -> String {
    if value.is_nan() {
        return ".nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent = exponent.parse::<i32>().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}
