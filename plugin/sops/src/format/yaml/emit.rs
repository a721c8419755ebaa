//! From a tree to YAML: block style, one value a line.
//!
//! What is written must be read back as the same value by every reader: SOPS (`yaml.v3`), Kubernetes
//! (`yaml.v2`, YAML 1.1 words) and readers of YAML 1.2. So text stands plain only where it cannot be
//! taken for anything else. `hack/yaml-readback` asks the Go libraries.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{EmitProblem, Error};
use crate::format::Format;
use crate::plaintext::Plaintext;
use crate::scalar::is_text_for_every_reader;
use crate::tree::{Branch, Comment, Element, Entry, Item, Leaf, Node, Scalar, Tree};

/// All documents, for people: block style, comments, `---` between documents.
pub(crate) fn emit(tree: &Tree) -> Result<Plaintext, Error> {
    let mut writer = Writer { out: Vec::new(), reader: Reader::Person };
    for (index, document) in tree.documents.iter().enumerate() {
        if index > 0 {
            writer.out.extend(b"---\n");
        }
        writer.document(document)?;
    }
    Ok(Plaintext::new(writer.out))
}

/// One document as Kubernetes reads it: every string double-quoted, no comments, deterministic to the
/// byte.
pub(crate) fn emit_manifest(branch: &Branch) -> Result<Plaintext, Error> {
    let mut writer = Writer { out: Vec::with_capacity(USUAL), reader: Reader::Kubernetes };
    writer.document(branch)?;
    Ok(Plaintext::new(writer.out))
}

/// Bytes of most manifests: what has to grow is copied, and wiped, each time.
const USUAL: usize = 4 << 10;

/// For whom the text is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// Comments, text as readable as it safely can be, indented by four as SOPS does.
    Person,
    /// Nothing that could be read in two ways, indented by two.
    Kubernetes,
}

struct Writer {
    out: Vec<u8>,
    reader: Reader,
}

/// A value that cannot be written, with its keys from the innermost to the root.
struct Unwritable {
    problem: EmitProblem,
    keys: Vec<String>,
}

impl Writer {
    fn document(&mut self, document: &Branch) -> Result<(), Error> {
        let written = if document.entries().next().is_none() {
            let mut first = true;
            self.comments_of_empty_map(document, 0, &mut first);
            self.out.extend(b"{}\n");
            Ok(())
        } else {
            self.map(document, 0)
        };
        written.map_err(|Unwritable { problem, mut keys }| {
            keys.reverse();
            Error::Emit { format: Format::Yaml, path: keys.join("."), problem }
        })
    }

    /// A mapping that has entries. The line it begins on is indented already.
    fn map(&mut self, branch: &Branch, indent: usize) -> Result<(), Unwritable> {
        let mut first = true;
        for item in &branch.items {
            match item {
                Item::Comment(comment) => self.comment(comment, indent, &mut first),
                Item::Entry(entry) => {
                    self.comments_of_empty(&entry.value, indent, &mut first);
                    self.begin_line(indent, &mut first);
                    self.entry(entry, indent).map_err(|mut unwritable| {
                        unwritable.keys.push(entry.key.clone());
                        unwritable
                    })?;
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, indent: usize) -> Result<(), Unwritable> {
        /// Readers look no further than 1024 characters for the `:` behind a key; SOPS itself writes
        /// longer keys than this behind a `?`.
        const LONGEST_SIMPLE_KEY: usize = 128;
        let start = self.out.len();
        if entry.merge && entry.key == "<<" {
            // Plain and untagged, which is a merge for every reader.
            self.out.extend(b"<<");
        } else if is_plain(&entry.key) {
            self.out.extend(entry.key.as_bytes());
        } else {
            self.quoted(&entry.key);
        }
        if self.out.len() - start > LONGEST_SIMPLE_KEY {
            self.out.splice(start..start, *b"? ");
            self.out.push(b'\n');
            self.indent(indent);
        }
        self.out.push(b':');
        let inner = indent + self.step();
        match &entry.value {
            Node::Map(branch) if branch.entries().next().is_some() => {
                self.out.push(b'\n');
                self.indent(inner);
                self.map(branch, inner)
            }
            Node::List(elements) if has_nodes(elements) => {
                self.out.push(b'\n');
                self.indent(inner);
                self.list(elements, inner)
            }
            Node::Leaf(_) | Node::Map(_) | Node::List(_) => {
                self.out.push(b' ');
                self.single(&entry.value, inner)
            }
        }
    }

    /// A list that has elements. The line it begins on is indented already.
    fn list(&mut self, elements: &[Element], indent: usize) -> Result<(), Unwritable> {
        let mut first = true;
        for element in elements {
            let node = match element {
                Element::Comment(comment) => {
                    self.comment(comment, indent, &mut first);
                    continue;
                }
                Element::Node(node) => node,
            };
            self.comments_of_empty(node, indent, &mut first);
            self.begin_line(indent, &mut first);
            self.out.extend(b"- ");
            let inner = indent + 2;
            match node {
                Node::Map(branch) if branch.entries().next().is_some() => self.map(branch, inner)?,
                Node::List(elements) if has_nodes(elements) => self.list(elements, inner)?,
                Node::Leaf(_) | Node::Map(_) | Node::List(_) => self.single(node, inner)?,
            }
        }
        Ok(())
    }

    /// What begins behind a key or a dash, its last line break included; the lines of a block go to
    /// column `indent`.
    fn single(&mut self, node: &Node, indent: usize) -> Result<(), Unwritable> {
        match node {
            Node::Map(_) => self.out.extend(b"{}"),
            Node::List(_) => self.out.extend(b"[]"),
            Node::Leaf(Leaf { scalar, .. }) => self.scalar(scalar, indent)?,
        }
        self.out.push(b'\n');
        Ok(())
    }

    fn scalar(&mut self, scalar: &Scalar, indent: usize) -> Result<(), Unwritable> {
        let unwritable = |problem| Err(Unwritable { problem, keys: Vec::new() });
        match (scalar, self.reader) {
            (Scalar::Null, _) => self.out.extend(b"null"),
            (Scalar::Bool(value), _) => self.out.extend(value.to_string().bytes()),
            (Scalar::Int(value), _) => self.out.extend(value.to_string().bytes()),
            (Scalar::Uint(value), _) => self.out.extend(value.to_string().bytes()),
            (Scalar::Float(value), Reader::Kubernetes) if !value.is_finite() => return unwritable(EmitProblem::Number),
            (Scalar::Float(value), _) => self.out.extend(float(*value).bytes()),
            (Scalar::Time(value), Reader::Person) => self.out.extend(value.bytes()),
            (Scalar::Time(value), Reader::Kubernetes) => self.quoted(value),
            (Scalar::Text(value), reader) => match (value.text(), reader) {
                (Some(text), Reader::Person) if is_plain(text) => self.out.extend(text.bytes()),
                (Some(text), Reader::Person) if is_literal(text) => self.literal(text, indent),
                (Some(text), Reader::Person | Reader::Kubernetes) => self.quoted(text),
                (None, Reader::Person) => {
                    self.out.extend(b"!!binary ");
                    self.out.extend(STANDARD.encode(value.bytes()).bytes());
                }
                (None, Reader::Kubernetes) => return unwritable(EmitProblem::NotText),
            },
        }
        Ok(())
    }

    /// In double quotes: what no reader takes for anything but text. The escapes are those that JSON
    /// has too, but for characters beyond U+FFFF.
    fn quoted(&mut self, text: &str) {
        self.out.push(b'"');
        let mut left = text.chars();
        // Most of a text is printable ASCII, and so is all ciphertext: it is copied as it stands.
        let stands = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        loop {
            let run = left.as_str().bytes().take_while(stands).count();
            let Some((run, behind)) = left.as_str().split_at_checked(run) else { break };
            self.out.extend_from_slice(run.as_bytes());
            left = behind.chars();
            match left.next() {
                None => break,
                Some('"') => self.out.extend_from_slice(b"\\\""),
                Some('\\') => self.out.extend_from_slice(b"\\\\"),
                Some('\n') => self.out.extend_from_slice(b"\\n"),
                Some('\r') => self.out.extend_from_slice(b"\\r"),
                Some('\t') => self.out.extend_from_slice(b"\\t"),
                Some(character) if !needs_escape(character) => {
                    self.out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Some(character) => {
                    let code = u32::from(character);
                    let escape = if code > 0xFFFF { format!("\\U{code:08X}") } else { format!("\\u{code:04X}") };
                    self.out.extend_from_slice(escape.as_bytes());
                }
            }
        }
        self.out.push(b'"');
    }

    /// As a `|` block; [`is_literal`] says when. Without the break of its last line.
    fn literal(&mut self, text: &str, indent: usize) {
        let lines = text.strip_suffix('\n');
        self.out.extend(if lines.is_some() { b"|".as_slice() } else { b"|-".as_slice() });
        for line in lines.unwrap_or(text).split('\n') {
            self.out.push(b'\n');
            if !line.is_empty() {
                self.indent(indent);
                self.out.extend(line.bytes());
            }
        }
    }

    /// A comment, for people only; it may have been decrypted and hold anything, and no line of it
    /// may become data.
    fn comment(&mut self, comment: &Comment, indent: usize, first: &mut bool) {
        if self.reader == Reader::Kubernetes {
            return;
        }
        let text = String::from_utf8_lossy(comment.text.bytes());
        for line in text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']) {
            self.begin_line(indent, first);
            self.out.push(b'#');
            for character in line.chars() {
                let shown = if needs_escape(character) && character != '\t' { '\u{FFFD}' } else { character };
                self.out.extend(shown.encode_utf8(&mut [0; 4]).bytes());
            }
            self.out.push(b'\n');
        }
    }

    /// `{}` and `[]` have no room for comments, so they go above.
    fn comments_of_empty(&mut self, node: &Node, indent: usize, first: &mut bool) {
        match node {
            Node::Map(branch) if branch.entries().next().is_none() => self.comments_of_empty_map(branch, indent, first),
            Node::List(elements) if !has_nodes(elements) => {
                for element in elements {
                    if let Element::Comment(comment) = element {
                        self.comment(comment, indent, first);
                    }
                }
            }
            Node::Leaf(_) | Node::Map(_) | Node::List(_) => {}
        }
    }

    fn comments_of_empty_map(&mut self, branch: &Branch, indent: usize, first: &mut bool) {
        for item in &branch.items {
            if let Item::Comment(comment) = item {
                self.comment(comment, indent, first);
            }
        }
    }

    /// Indents, but for the first line of a container: whoever began it has.
    fn begin_line(&mut self, indent: usize, first: &mut bool) {
        if !std::mem::take(first) {
            self.indent(indent);
        }
    }

    fn indent(&mut self, columns: usize) {
        self.out.extend(std::iter::repeat_n(b' ', columns));
    }

    fn step(&self) -> usize {
        match self.reader {
            Reader::Person => 4,
            Reader::Kubernetes => 2,
        }
    }
}

fn has_nodes(elements: &[Element]) -> bool {
    elements.iter().any(|element| matches!(element, Element::Node(_)))
}

/// The shortest decimal, with a dot, so that readers of YAML 1.1 know it for a float as well.
fn float(value: f64) -> String {
    if value.is_nan() {
        return ".nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let short = format!("{value:?}");
    let Some((digits, exponent)) = short.split_once('e') else { return short };
    let dot = if digits.contains('.') { "" } else { ".0" };
    let sign = if exponent.starts_with('-') { "" } else { "+" };
    format!("{digits}{dot}e{sign}{exponent}")
}

/// Whether text may stand plain: it begins like a word, nothing in it means anything to YAML, and no
/// reader takes it for another type.
fn is_plain(text: &str) -> bool {
    let inside = |character: char| character.is_alphanumeric() || " _-./@+=:;$()*^~%!?&".contains(character);
    text.starts_with(|first: char| first.is_alphabetic() || matches!(first, '_' | '/'))
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && text.chars().all(inside)
        && is_text_for_every_reader(text)
}

/// Whether a `|` block keeps text as it is: several lines of printable characters, the first of them
/// not indented (it tells the indentation), one line break at the end or none.
fn is_literal(text: &str) -> bool {
    let kept = |character: char| matches!(character, '\n' | '\t') || !needs_escape(character);
    text.contains('\n') && !text.starts_with(['\n', ' ', '\t']) && !text.ends_with("\n\n") && text.chars().all(kept)
}

/// Control characters, line breaks of any reader, the byte order mark, and what is no character.
fn needs_escape(character: char) -> bool {
    let code = u32::from(character);
    character.is_control()
        || matches!(code, 0x2028 | 0x2029 | 0xFEFF | 0xFDD0..=0xFDEF)
        || matches!(code & 0xFFFF, 0xFFFE | 0xFFFF)
}
