//! From bytes to an untyped stream, and from there to a tree.
//!
//! The stream is flat: a node is a run of steps, so an alias is a copied run, and neither hostile
//! nesting nor dropping what was read needs a stack.

use std::collections::{HashMap, HashSet};

use granit_parser::{ErrorKind, Event, Marker, Parser, Placement, ScalarStyle, ScanError, Span, StructureStyle};
use zeroize::Zeroizing;

use crate::error::{Bound, Error, ValueProblem};
use crate::format::Format;
use crate::limits::Limits;
use crate::plaintext::Plaintext;
use crate::scalar::{self, Dialect, Presentation, Tag};
use crate::tree::{Branch, Comment, Element, Entry, Item, Leaf, Node, Origin, Position, Scalar, Tree};

/// A parsed stream whose scalars have no type yet.
pub(crate) struct Untyped {
    /// All documents, one node each.
    steps: Vec<Step>,
    /// The comments, in the order of the steps they stand before.
    notes: Vec<Note>,
}

/// Parses a stream; refuses what neither SOPS nor Kubernetes reads.
pub(crate) fn parse(bytes: &[u8], limits: &Limits) -> Result<Untyped, Error> {
    let decoded;
    let text = match encoding(bytes) {
        Encoding::Utf8(bytes) => std::str::from_utf8(bytes)
            .map_err(|error| syntax(position_of(bytes, error.valid_up_to()), "a byte is not UTF-8"))?,
        Encoding::Utf16(units) => {
            let unpaired = "a UTF-16 file has half a character";
            decoded = Zeroizing::new(String::from_utf16(&units).map_err(|_| syntax(START, unpaired))?);
            decoded.as_str()
        }
        Encoding::OddUtf16 => return Err(syntax(START, "a UTF-16 file has half a character")),
    };
    check_characters(text)?;
    Loader::new(text, limits).load()
}

impl Untyped {
    /// Whether any document has this key at its top level.
    pub(crate) fn has_top_level(&self, key: &str) -> bool {
        let mut depth = 0_usize;
        self.steps.iter().any(|step| {
            match step {
                Step::Map(_) | Step::List => depth += 1,
                Step::End => depth -= 1,
                Step::Key(scalar) => return depth == 1 && scalar.text.bytes() == key.as_bytes(),
                Step::Scalar(_) => {}
            }
            false
        })
    }

    /// Types every scalar by the rules of `dialect`.
    pub(crate) fn into_tree(self, dialect: Dialect) -> Result<Tree, Error> {
        let mut builder = Builder { dialect, tree: Tree::default(), open: Vec::new() };
        let mut notes = self.notes.into_iter().peekable();
        for (index, step) in self.steps.into_iter().enumerate() {
            while let Some(note) = notes.next_if(|note| note.before <= index) {
                builder.comment(note.text);
            }
            builder.step(step)?;
        }
        Ok(builder.tree)
    }
}

/// One step through the stream. A mapping is `Map`, then `Key` and a node in turn, then `End`.
enum Step {
    Map(Position),
    List,
    End,
    Key(RawScalar),
    Scalar(RawScalar),
}

/// A scalar as it stands in the file.
struct RawScalar {
    text: Plaintext,
    how: Presentation,
    at: Position,
}

/// A comment: it stands in the container that is open at a step, in front of that step.
struct Note {
    before: usize,
    text: Plaintext,
}

/// Reads events into steps.
struct Loader<'l> {
    text: &'l str,
    limits: &'l Limits,
    steps: Vec<Step>,
    notes: Vec<Note>,
    open: Vec<Container>,
    /// Anchored nodes that are complete.
    anchors: HashMap<usize, std::ops::Range<usize>>,
    /// Comments on lines of their own that wait for the step they belong to.
    waiting: Vec<Waiting>,
    last: Option<Last>,
    nodes: usize,
    alias_nodes: usize,
    alias_bytes: usize,
    comments: usize,
}

/// A mapping or list whose end has not come.
struct Container {
    start: usize,
    anchor: usize,
    /// Where its keys or dashes stand; `None` in flow style.
    column: Option<usize>,
    role: Role,
}

enum Role {
    Map {
        /// The key that waits for its value.
        key: Option<usize>,
    },
    List,
}

struct Waiting {
    column: usize,
    text: Plaintext,
}

/// What the last event completed: a comment on the same line belongs to it.
struct Last {
    lines: Lines,
    /// The step in front of which such a comment goes.
    before: usize,
}

type Lines = std::ops::RangeInclusive<usize>;

impl<'l> Loader<'l> {
    fn new(text: &'l str, limits: &'l Limits) -> Self {
        Self {
            text,
            limits,
            steps: Vec::new(),
            notes: Vec::new(),
            open: Vec::new(),
            anchors: HashMap::new(),
            waiting: Vec::new(),
            last: None,
            nodes: 0,
            alias_nodes: 0,
            alias_bytes: 0,
            comments: 0,
        }
    }

    fn load(mut self) -> Result<Untyped, Error> {
        // One level and one comment more than allowed, so that crossing a bound is noticed here,
        // with its own name.
        let options = granit_parser::options! {
            block_scalar_eof_without_line_feed: true,
            bom_inside_document_as_content: true,
            emit_anchor_events: true,
            max_buffered_comment_events: self.limits.comments + 1,
            flow_nesting_limit: self.limits.nesting + 1,
            block_nesting_limit: self.limits.nesting + 1,
        };
        let mut parser = Parser::new_from_str_with_options(self.text, options);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| self.scan_error(&error))?;
            self.event(event, &span)?;
        }
        self.notes.sort_by_key(|note| note.before);
        Ok(Untyped { steps: self.steps, notes: self.notes })
    }

    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Error> {
        match event {
            Event::DocumentStart(..) => {
                self.anchors.clear();
                self.last = None;
                // In front of `---`: the end of the document before, the head of the first one.
                if let Some(end) = self.steps.len().checked_sub(1) {
                    self.settle_waiting(end);
                }
            }
            Event::DocumentEnd => {
                if let Some(end) = self.steps.len().checked_sub(1) {
                    self.settle_waiting(end);
                }
            }
            Event::Comment(text, placement) => self.comment(text.into_owned(), placement, span)?,
            Event::Anchor(_, name) => check_anchor(&name, span)?,
            Event::Alias(id) => {
                check_anchor(span.slice(self.text).unwrap_or_default().trim_start_matches('*'), span)?;
                self.alias(id, span)?;
            }
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.map_or(Tag::Absent, |tag| Tag::of(tag.handle(), tag.suffix()));
                let how = Presentation { plain: style == ScalarStyle::Plain, tag };
                let in_flow = self.open.last().is_some_and(|container| container.column.is_none());
                if how.plain && in_flow && (text.starts_with(['?', ':']) || self.is_missing_behind_colon(span)) {
                    return Err(syntax(position(&span.start), FLOW_INDICATOR));
                }
                let text = Plaintext::new(text.into_owned().into_bytes());
                // The comment behind `|` or `>` comes after the scalar, on a line above it.
                let lines = match style {
                    ScalarStyle::Literal | ScalarStyle::Folded => 0..=span.start.line(),
                    ScalarStyle::Plain | ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => lines(span),
                };
                self.scalar(RawScalar { text, how, at: position(&span.start) }, anchor, lines)?;
            }
            Event::SequenceStart(style, anchor, _) => {
                if self.open.is_empty() {
                    let problem =
                        "a document is a list: make each element a document of its own, with `---` between them";
                    return Err(syntax(position(&span.start), problem));
                }
                self.start(Step::List, Role::List, style, anchor, span)?;
            }
            Event::MappingStart(style, anchor, _) => {
                self.start(Step::Map(position(&span.start)), Role::Map { key: None }, style, anchor, span)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            // Unresolved aliases are not asked for; the parser may learn events that nobody asked for either.
            Event::StreamStart | Event::StreamEnd | Event::UnresolvedAlias(_) | _ => {}
        }
        Ok(())
    }

    fn scalar(&mut self, scalar: RawScalar, anchor: usize, lines: Lines) -> Result<(), Error> {
        let index = self.steps.len();
        if let Some(Container { role: Role::Map { key: key @ None }, .. }) = self.open.last_mut() {
            *key = Some(index);
            self.settle_waiting(index);
            self.steps.push(Step::Key(scalar));
            self.last = Some(Last { lines, before: index });
        } else {
            self.count_nodes(1, scalar.at)?;
            let entry = self.complete_value();
            self.settle_waiting(entry.unwrap_or(index));
            self.steps.push(Step::Scalar(scalar));
            self.last = Some(Last { lines, before: entry.unwrap_or(index) });
        }
        if anchor != 0 {
            self.anchors.insert(anchor, index..index + 1);
        }
        Ok(())
    }

    fn start(
        &mut self,
        step: Step,
        role: Role,
        style: StructureStyle,
        anchor: usize,
        span: &Span,
    ) -> Result<(), Error> {
        let at = position(&span.start);
        if let Some(Container { role: Role::Map { key: None }, .. }) = self.open.last() {
            return Err(syntax(at, COMPLEX_KEY));
        }
        let column = match (style, &role) {
            (StructureStyle::Flow, _) => None,
            (StructureStyle::Block, Role::Map { .. }) => Some(span.start.col()),
            (StructureStyle::Block, Role::List) => Some(self.column_of_list(span)),
        };
        if self.open.len() >= self.limits.nesting {
            return Err(limit(Bound::Nesting, self.limits.nesting, at));
        }
        self.count_nodes(1, at)?;
        // In a list the comment above an element is the list's; between a key and its mapping it is
        // the mapping's.
        let start = self.steps.len();
        let in_list = matches!(self.open.last(), Some(Container { role: Role::List, .. }));
        self.settle_waiting(if in_list { start } else { start + 1 });
        self.steps.push(step);
        self.open.push(Container { start, anchor, column, role });
        self.last = None;
        Ok(())
    }

    fn end(&mut self, span: &Span) {
        let Some(container) = self.open.pop() else { return };
        let end = self.steps.len();
        // Comments at the end belong to it as long as they are indented further than what it stands in.
        let outer = self.open.last().and_then(|outer| outer.column);
        let inside = match (container.column, outer) {
            (Some(_), Some(outer)) => self.waiting.iter().take_while(|waiting| waiting.column > outer).count(),
            (None, _) | (_, None) => self.waiting.len(),
        };
        self.notes.extend(self.waiting.drain(..inside).map(|waiting| Note { before: end, text: waiting.text }));
        self.steps.push(Step::End);
        if container.anchor != 0 {
            self.anchors.insert(container.anchor, container.start..end + 1);
        }
        self.complete_value();
        if container.column.is_none() {
            // go-yaml puts the comment behind a flow collection in front of its first element.
            self.last = Some(Last { lines: lines(span), before: container.start + 1 });
        }
    }

    /// Repeats the steps of an anchored node. Comments are not repeated.
    fn alias(&mut self, id: usize, span: &Span) -> Result<(), Error> {
        let at = position(&span.start);
        let Some(run) = self.anchors.get(&id).cloned() else {
            return Err(syntax(at, "an alias stands inside the node that it repeats"));
        };
        let (mut nodes, mut bytes, mut depth, mut deepest) = (0_usize, 0_usize, 0_usize, 0_usize);
        for step in self.steps.get(run.clone()).unwrap_or_default() {
            match step {
                Step::Map(_) | Step::List => {
                    nodes += 1;
                    depth += 1;
                    deepest = deepest.max(depth);
                }
                Step::End => depth -= 1,
                Step::Key(scalar) => bytes += scalar.text.len(),
                Step::Scalar(scalar) => {
                    nodes += 1;
                    bytes += scalar.text.len();
                }
            }
        }
        self.alias_nodes += nodes.max(1);
        self.alias_bytes += bytes;
        if self.alias_nodes > self.limits.alias_nodes {
            return Err(limit(Bound::AliasNodes, self.limits.alias_nodes, at));
        }
        if self.alias_bytes > self.limits.alias_bytes {
            return Err(limit(Bound::AliasBytes, self.limits.alias_bytes, at));
        }
        if self.open.len() + deepest > self.limits.nesting {
            return Err(limit(Bound::Nesting, self.limits.nesting, at));
        }
        if let Some(Step::Key(scalar) | Step::Scalar(scalar)) = self.steps.get(run.start) {
            return self.scalar(RawScalar { at, ..scalar.duplicate() }, 0, lines(span));
        }
        if let Some(Container { role: Role::Map { key: None }, .. }) = self.open.last() {
            return Err(syntax(at, COMPLEX_KEY));
        }
        self.count_nodes(nodes, at)?;
        let index = self.steps.len();
        let entry = self.complete_value();
        self.settle_waiting(entry.unwrap_or(index));
        self.steps.reserve(run.len());
        for source in run {
            let Some(step) = self.steps.get(source).map(Step::duplicate) else { break };
            self.steps.push(step);
        }
        self.last = Some(Last { lines: lines(span), before: entry.unwrap_or(index) });
        Ok(())
    }

    fn comment(&mut self, text: String, placement: Placement, span: &Span) -> Result<(), Error> {
        self.comments += 1;
        if self.comments > self.limits.comments {
            return Err(limit(Bound::Comments, self.limits.comments, position(&span.start)));
        }
        let text = Plaintext::new(text.into_bytes());
        match &self.last {
            Some(last) if placement == Placement::Right && last.lines.contains(&span.start.line()) => {
                self.notes.push(Note { before: last.before, text });
            }
            Some(_) | None => self.waiting.push(Waiting { column: span.start.col(), text }),
        }
        Ok(())
    }

    /// Whether a value is left out right behind its `:`, as in `[key:]`: Go reads the text `key:`.
    fn is_missing_behind_colon(&self, span: &Span) -> bool {
        let (Some(start), true) = (span.start.byte_offset(), span.is_empty()) else { return false };
        let (before, after) = self.text.split_at_checked(start).unwrap_or_default();
        // The parser sets the empty span before or behind the colon.
        let behind = if before.ends_with(':') { Some(after) } else { after.strip_prefix(':') };
        behind.is_some_and(|behind| behind.starts_with([',', ']', '}']))
    }

    /// The column of a block list's dashes. Its events begin at the first dash, but for a list that is
    /// indented no further than its key: there behind it.
    fn column_of_list(&self, span: &Span) -> usize {
        let (before, after) =
            self.text.split_at_checked(span.start.byte_offset().unwrap_or_default()).unwrap_or_default();
        let begins_at_dash =
            after.strip_prefix('-').is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        match self.open.last() {
            Some(Container { role: Role::Map { .. }, column: Some(column), .. })
                if !begins_at_dash || before.trim_end().ends_with('-') =>
            {
                *column
            }
            Some(_) | None => span.start.col(),
        }
    }

    /// Every waiting comment stands before step `before`.
    fn settle_waiting(&mut self, before: usize) {
        self.notes.extend(self.waiting.drain(..).map(|waiting| Note { before, text: waiting.text }));
    }

    /// The value of the open entry is there: the key's index, where the container is a mapping.
    fn complete_value(&mut self) -> Option<usize> {
        match self.open.last_mut() {
            Some(Container { role: Role::Map { key }, .. }) => key.take(),
            Some(Container { role: Role::List, .. }) | None => None,
        }
    }

    fn count_nodes(&mut self, more: usize, at: Position) -> Result<(), Error> {
        self.nodes += more;
        if self.nodes > self.limits.nodes {
            return Err(limit(Bound::Nodes, self.limits.nodes, at));
        }
        Ok(())
    }

    fn scan_error(&self, error: &ScanError) -> Error {
        let at = position(error.marker());
        if *error.kind() == ErrorKind::RecursionLimitExceeded {
            return limit(Bound::Nesting, self.limits.nesting, at);
        }
        if *error.kind() == ErrorKind::TooManyComments {
            return limit(Bound::Comments, self.limits.comments, at);
        }
        let rule = RULES.iter().find(|(kind, _)| kind == error.kind());
        syntax(at, rule.map_or("the text is not well-formed YAML", |(_, rule)| rule))
    }
}

impl Step {
    fn duplicate(&self) -> Self {
        match self {
            Self::Map(at) => Self::Map(*at),
            Self::List => Self::List,
            Self::End => Self::End,
            Self::Key(scalar) => Self::Key(scalar.duplicate()),
            Self::Scalar(scalar) => Self::Scalar(scalar.duplicate()),
        }
    }
}

impl RawScalar {
    fn duplicate(&self) -> Self {
        Self { text: self.text.duplicate(), how: self.how, at: self.at }
    }
}

/// Builds the tree from the steps.
struct Builder {
    dialect: Dialect,
    tree: Tree,
    open: Vec<Open>,
}

/// A mapping or list that is being filled.
enum Open {
    Map { branch: Branch, key: Option<Key> },
    List(Vec<Element>),
}

struct Key {
    text: String,
    merge: bool,
    at: Position,
}

impl Builder {
    fn step(&mut self, step: Step) -> Result<(), Error> {
        match step {
            Step::Map(_) => self.open.push(Open::Map { branch: Branch::default(), key: None }),
            Step::List => self.open.push(Open::List(Vec::new())),
            Step::Key(scalar) => {
                let found = self.key(scalar)?;
                if let Some(Open::Map { key, .. }) = self.open.last_mut() {
                    *key = Some(found);
                }
            }
            Step::Scalar(scalar) => {
                let at = scalar.at;
                let scalar = scalar::resolve(scalar.text, scalar.how, self.dialect).map_err(|rule| syntax(at, rule))?;
                if self.dialect == Dialect::Sops && matches!(scalar, Scalar::Uint(_)) {
                    return Err(Error::Value { path: self.path(), at, problem: ValueProblem::Unhashable });
                }
                if self.open.is_empty() {
                    return self.scalar_document(&scalar, at);
                }
                self.value(Node::Leaf(Leaf::clear(scalar)));
            }
            Step::End => match self.open.pop() {
                Some(Open::Map { branch, .. }) => {
                    if self.dialect == Dialect::Kubernetes || self.tree.documents.is_empty() {
                        refuse_duplicates(&branch)?;
                        refuse_odd_merges(&branch)?;
                    }
                    if self.open.is_empty() {
                        self.tree.documents.push(branch);
                    } else {
                        self.value(Node::Map(branch));
                    }
                }
                Some(Open::List(elements)) => self.value(Node::List(elements)),
                None => {}
            },
        }
        Ok(())
    }

    fn scalar_document(&mut self, scalar: &Scalar, at: Position) -> Result<(), Error> {
        if !matches!(scalar, Scalar::Null) {
            return Err(syntax(at, "a document is a single value: a mapping is needed, `key: value`"));
        }
        self.tree.documents.push(Branch::default());
        Ok(())
    }

    fn key(&self, raw: RawScalar) -> Result<Key, Error> {
        let RawScalar { text, how, at } = raw;
        let spells_merge = text.bytes() == b"<<";
        let not_text = || syntax(at, "a key is not text: put it in quotes");
        let text = match scalar::resolve(text, how, self.dialect).map_err(|rule| syntax(at, rule))? {
            Scalar::Text(text) => text.text().ok_or_else(not_text)?.to_owned(),
            // sigs.k8s.io/yaml makes these keys text; it cannot with the others, and it rounds floats.
            Scalar::Int(value) if self.dialect == Dialect::Kubernetes => value.to_string(),
            Scalar::Bool(value) if self.dialect == Dialect::Kubernetes => value.to_string(),
            Scalar::Null | Scalar::Bool(_) | Scalar::Int(_) | Scalar::Uint(_) | Scalar::Float(_) | Scalar::Time(_) => {
                return Err(not_text());
            }
        };
        let merge = spells_merge
            && match self.dialect {
                // SOPS loses the quotes and writes every such key as a merge.
                Dialect::Sops => true,
                Dialect::Kubernetes => match how.tag {
                    Tag::Absent => how.plain,
                    Tag::NonSpecific | Tag::Merge => true,
                    Tag::Str
                    | Tag::Bool
                    | Tag::Int
                    | Tag::Float
                    | Tag::Null
                    | Tag::Timestamp
                    | Tag::Binary
                    | Tag::Other => false,
                },
            };
        Ok(Key { text, merge, at })
    }

    fn value(&mut self, value: Node) {
        match self.open.last_mut() {
            Some(Open::Map { branch, key }) => {
                if let Some(Key { text, merge, at }) = key.take() {
                    branch.items.push(Item::Entry(Entry { key: text, merge, value, at }));
                }
            }
            Some(Open::List(elements)) => elements.push(Element::Node(value)),
            None => {}
        }
    }

    fn comment(&mut self, text: Plaintext) {
        let comment = Comment { text, origin: Origin::Clear };
        match self.open.last_mut() {
            Some(Open::Map { branch, .. }) => branch.items.push(Item::Comment(comment)),
            Some(Open::List(elements)) => elements.push(Element::Comment(comment)),
            // Beside an empty document.
            None => {}
        }
    }

    /// Keys from the root to the value that comes next.
    fn path(&self) -> String {
        let key = |open: &Open| match open {
            Open::Map { key: Some(key), .. } => Some(key.text.clone()),
            Open::Map { key: None, .. } | Open::List(_) => None,
        };
        self.open.iter().filter_map(key).collect::<Vec<_>>().join(".")
    }
}

/// `<<` with anything but a mapping or a list of mappings: both of Go's YAML libraries refuse it, whether or not
/// the mapping is ever merged.
fn refuse_odd_merges(branch: &Branch) -> Result<(), Error> {
    let mergeable = |value: &Node| match value {
        Node::Map(_) => true,
        Node::List(elements) => {
            elements.iter().all(|element| matches!(element, Element::Node(Node::Map(_)) | Element::Comment(_)))
        }
        Node::Leaf(_) => false,
    };
    match branch.entries().find(|entry| entry.merge && !mergeable(&entry.value)) {
        Some(entry) => Err(syntax(entry.at, "merges what is no mapping and no list of mappings")),
        None => Ok(()),
    }
}

fn refuse_duplicates(branch: &Branch) -> Result<(), Error> {
    /// Up to here comparing all pairs is cheaper than hashing.
    const FEW: usize = 16;
    let second = if branch.items.len() <= FEW {
        let seen = |index: usize, key: &str| branch.entries().take(index).any(|entry| entry.key == key);
        branch.entries().enumerate().find(|(index, entry)| seen(*index, &entry.key)).map(|(_, entry)| entry)
    } else {
        let mut seen = HashSet::with_capacity(branch.items.len());
        branch.entries().find(|entry| !seen.insert(entry.key.as_str()))
    };
    second.map_or(Ok(()), |entry| Err(Error::DuplicateKey { at: entry.at, key: entry.key.clone() }))
}

/// The byte order mark says UTF-16, else it is UTF-8.
enum Encoding<'b> {
    Utf8(&'b [u8]),
    Utf16(Zeroizing<Vec<u16>>),
    OddUtf16,
}

fn encoding(bytes: &[u8]) -> Encoding<'_> {
    let units = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, odd) = rest.as_chunks();
        if odd.is_empty() {
            Encoding::Utf16(Zeroizing::new(pairs.iter().copied().map(unit).collect()))
        } else {
            Encoding::OddUtf16
        }
    };
    match bytes {
        [0xEF, 0xBB, 0xBF, rest @ ..] => Encoding::Utf8(rest),
        [0xFF, 0xFE, rest @ ..] => units(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => units(rest, u16::from_be_bytes),
        [..] => Encoding::Utf8(bytes),
    }
}

/// The characters that libyaml's family reads, without the line breaks on which readers disagree.
fn check_characters(text: &str) -> Result<(), Error> {
    const CONTROL: &str = "a control character stands in the text: write it escaped, in double quotes";
    const LINE_BREAK: &str =
        "a raw U+0085, U+2028 or U+2029 stands in the text: readers disagree on it, write it escaped, in double quotes";
    let bytes = text.as_bytes();
    let refused = bytes.iter().enumerate().find_map(|(index, byte)| {
        let next = |ahead: usize| bytes.get(index + ahead).copied().unwrap_or_default();
        let rule = match byte {
            0x20..=0x7E | b'\t' | b'\n' | b'\r' => return None,
            0x00..0x20 | 0x7F => CONTROL,
            0xC2 if next(1) == 0x85 => LINE_BREAK,
            0xC2 if next(1) < 0xA0 => CONTROL,
            0xE2 if next(1) == 0x80 && matches!(next(2), 0xA8 | 0xA9) => LINE_BREAK,
            0xEF if next(1) == 0xBF && matches!(next(2), 0xBE | 0xBF) => CONTROL,
            0x80..=0xFF => return None,
        };
        Some((index, rule))
    });
    refused.map_or(Ok(()), |(index, rule)| Err(syntax(position_of(bytes, index), rule)))
}

/// An anchor's name as libyaml's family has it: where another character stands, Go ends the name and
/// YAML 1.2 goes on.
fn check_anchor(name: &str, span: &Span) -> Result<(), Error> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.bytes().all(known) { Ok(()) } else { Err(syntax(position(&span.start), ANCHOR_NAME)) }
}

/// The position of a byte.
fn position_of(bytes: &[u8], index: usize) -> Position {
    let before = bytes.get(..index).unwrap_or(bytes);
    let line = before.split(|byte| *byte == b'\n').count();
    let in_line = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let is_first_byte = |byte: &&u8| **byte & 0xC0 != 0x80;
    Position { line: clamp(line), column: clamp(in_line.iter().filter(is_first_byte).count() + 1) }
}

fn position(marker: &Marker) -> Position {
    Position { line: clamp(marker.line()), column: clamp(marker.col() + 1) }
}

fn lines(span: &Span) -> Lines {
    span.start.line()..=span.end.line()
}

fn clamp(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn syntax(at: Position, problem: &'static str) -> Error {
    Error::Syntax { format: Format::Yaml, at, problem }
}

fn limit(bound: Bound, limit: usize, at: Position) -> Error {
    Error::Limit { bound, limit, at }
}

const START: Position = Position { line: 1, column: 1 };

const ANCHOR_NAME: &str = "an anchor's name may hold letters, digits, `_` and `-` only";

const FLOW_INDICATOR: &str =
    "inside `[]` or `{}` a plain text may not begin with `?` or `:` or end with `:`: put it in quotes";

const COMPLEX_KEY: &str = "a key is a mapping or a list: a key must be text";

/// What the scanner's errors say about the text, for those that people meet.
const RULES: [(ErrorKind, &str); 14] = [
    (ErrorKind::UnknownAnchor, "an alias names an anchor that does not stand before it"),
    (ErrorKind::TabNotAllowed, "a tab stands where blanks are needed"),
    (ErrorKind::TabInBlockIndentation, "a tab stands in the indentation, where blanks are needed"),
    (ErrorKind::TabInIndentation, "a tab stands in the indentation, where blanks are needed"),
    (ErrorKind::InvalidIndentation, "the indentation fits no mapping or list above"),
    (ErrorKind::ExpectedBlockMappingKey, "a key is expected here; is the indentation right?"),
    (ErrorKind::ExpectedBlockSequenceEntry, "a `-` is expected here; is the indentation right?"),
    (ErrorKind::ExpectedFlowMappingSeparator, "a `,` or `}` is expected here"),
    (ErrorKind::ExpectedFlowSequenceSeparator, "a `,` or `]` is expected here"),
    (ErrorKind::UnclosedQuotedScalar, "a quoted text has no end"),
    (ErrorKind::UnknownQuotedScalarEscape, "a double-quoted text has an escape that YAML does not know"),
    (ErrorKind::SimpleKeyExpected, "a key has no `:`"),
    (ErrorKind::UndeclaredTagHandle, "a tag uses a handle that no `%TAG` declares"),
    (ErrorKind::CommentNotSeparated, "a `#` needs a blank before it"),
];
