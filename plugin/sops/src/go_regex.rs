//! Go's regular expressions. The rules of a file are patterns that `sops` gives to Go's `regexp`
//! package; another dialect would select other leaves.
//!
//! A pattern is parsed here by Go's own rules (`regexp/syntax`, Perl flags, as of Go 1.25) into the
//! tree of `regex-syntax`, so no text is ever rewritten for another parser. What is decided here:
//! what Go accepts ([`Compiled::Rejected`] otherwise), ASCII classes and word boundaries, Go's names
//! of Unicode classes, and case folding and classes by Unicode 15, the version of Go's tables.
//!
//! Captures and greediness do not change whether a text matches, so they are read and dropped.

mod classes;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use regex_automata::meta;
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, Look, Repetition};

use classes::Named;

/// What became of a pattern.
pub(crate) enum Compiled {
    /// Go accepts it, and so do we.
    Usable(GoRegex),
    /// Go rejects it. `sops` drops that error: a rule with such a pattern never matches.
    Rejected,
    /// Go may accept it, but it is beyond our bounds (the text says which): neither answer would be
    /// safe, so the file must be refused.
    Untranslatable(&'static str),
}

/// A pattern of Go's dialect.
pub(crate) struct GoRegex {
    /// Shared, not cloned: a clone would begin with an empty cache of states.
    regex: Arc<meta::Regex>,
    /// Cost of one byte of text, at worst.
    states: u64,
    fuel: AtomicU64,
}

impl GoRegex {
    /// Parses and compiles a pattern, or takes it from the last few: thousands of files share one rule,
    /// and compiling takes longer than all its matches in a file.
    pub(crate) fn compile(pattern: &str) -> Compiled {
        let recent = || RECENT.lock().unwrap_or_else(PoisonError::into_inner);
        let known = recent().iter().find(|(known, _)| known == pattern).map(|(_, regex)| Arc::clone(regex));
        if let Some(regex) = known {
            return Compiled::Usable(Self::new(regex));
        }
        // Not under the lock: a hostile pattern must not hold up the others.
        let compiled = Self::compile_anew(pattern);
        if let Compiled::Usable(Self { regex, .. }) = &compiled
            && pattern.len() <= MAX_RECENT_BYTES
        {
            let mut recent = recent();
            recent.truncate(MAX_RECENT - 1);
            recent.insert(0, (pattern.to_owned(), Arc::clone(regex)));
        }
        compiled
    }

    fn compile_anew(pattern: &str) -> Compiled {
        if pattern.len() > MAX_PATTERN_BYTES {
            return Compiled::Untranslatable("is longer than 16 KiB");
        }
        let hir = match Parser::new(pattern).parse() {
            Ok(hir) => hir,
            Err(Failure::Rejected) => return Compiled::Rejected,
            Err(Failure::Untranslatable(reason)) => return Compiled::Untranslatable(reason),
        };
        let config = meta::Config::new().nfa_size_limit(Some(MAX_NFA_BYTES)).utf8_empty(true);
        match meta::Builder::new().configure(config).build_from_hir(&hir) {
            Ok(regex) => Compiled::Usable(Self::new(Arc::new(regex))),
            Err(_) => Compiled::Untranslatable("is too large"),
        }
    }

    fn new(regex: Arc<meta::Regex>) -> Self {
        let states = u64::try_from(regex.memory_usage() / BYTES_PER_STATE).unwrap_or(u64::MAX).max(1);
        Self { regex, states, fuel: AtomicU64::new(FUEL) }
    }

    /// Whether the pattern matches somewhere in `text`. `false` without a look once the pattern is
    /// [exhausted](Self::exhausted).
    pub(crate) fn is_match(&self, text: &str) -> bool {
        let cost = u64::try_from(text.len()).unwrap_or(u64::MAX).saturating_mul(self.states);
        let spend = |fuel: u64| fuel.checked_sub(cost);
        if self.fuel.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_err() {
            self.fuel.store(0, Ordering::Relaxed);
            return false;
        }
        self.regex.is_match(text)
    }

    /// Whether matching would have cost more than any real file needs. Answers since then mean nothing:
    /// the file must be refused. (Were that forgotten, a leaf not selected for this reason is hashed as
    /// ciphertext, so the MAC would still not match.)
    pub(crate) fn exhausted(&self) -> bool {
        self.fuel.load(Ordering::Relaxed) == 0
    }
}

/// The patterns that were compiled last, newest first.
static RECENT: Mutex<Vec<(String, Arc<meta::Regex>)>> = Mutex::new(Vec::new());

/// How many patterns are kept, and how long one may be: a few rules serve a whole repository, and what
/// is kept stays small (at worst 16 times [`MAX_NFA_BYTES`]).
const MAX_RECENT: usize = 16;
const MAX_RECENT_BYTES: usize = 256;

/// Longest pattern, in bytes. Rules name a few keys; the longest seen in public has 400 bytes.
const MAX_PATTERN_BYTES: usize = 16 << 10;

/// Largest compiled form, in bytes. A Unicode class needs up to 30 KB, a list of keys 20 bytes a
/// character.
const MAX_NFA_BYTES: usize = 1 << 20;

/// Groups and repetitions inside each other. Go's bound is 1000; the compiler's recursion must end
/// before the stack does.
const MAX_DEPTH: usize = 100;

/// Ranges of all character classes. `\pL` has 650; more than a hundred of those is no rule for keys.
const MAX_CLASS_RANGES: usize = 100_000;

/// Go's bound on the product of nested repetition counts.
const MAX_REPEAT: u32 = 1000;

/// Size of a state in the compiled form, roughly.
const BYTES_PER_STATE: usize = 24;

/// States times bytes over all texts of one pattern. The keys of the largest document, each matched
/// once, are about 1 MB, and a rule like `^(data|stringData)$` has 80 states. At worst (every state
/// alive at every byte) this takes a few seconds.
const FUEL: u64 = 500_000_000;

/// Why there is no tree.
enum Failure {
    Rejected,
    Untranslatable(&'static str),
}

/// Flags that a group may set. `U` (lazy by default) changes nothing that can be seen here.
#[derive(Clone, Copy)]
struct Flags {
    /// `i`
    fold: bool,
    /// `s`: `.` matches a line break too.
    dot_matches_break: bool,
    /// `m`: `^` and `$` match at lines.
    at_lines: bool,
}

/// A parsed item, to which a repetition may still apply.
struct Piece {
    hir: Hir,
    depth: usize,
    /// Product of the repetition counts on the most repeated path.
    copies: u32,
}

/// An open group: what stands in it so far.
struct Group {
    /// The flags outside, restored at its end.
    outside: Flags,
    alternatives: Vec<Piece>,
    sequence: Vec<Piece>,
}

impl Group {
    fn new(outside: Flags) -> Self {
        Self { outside, alternatives: Vec::new(), sequence: Vec::new() }
    }

    fn end_alternative(&mut self) {
        let pieces = std::mem::take(&mut self.sequence);
        self.alternatives.push(Piece::join(pieces, Hir::concat));
    }

    fn finish(mut self) -> Piece {
        self.end_alternative();
        Piece::join(self.alternatives, Hir::alternation)
    }
}

impl Piece {
    fn single(hir: Hir) -> Self {
        Self { hir, depth: 1, copies: 1 }
    }

    fn join(pieces: Vec<Self>, join: fn(Vec<Hir>) -> Hir) -> Self {
        let depth = pieces.iter().map(|piece| piece.depth).max().unwrap_or_default() + 1;
        let copies = pieces.iter().map(|piece| piece.copies).max().unwrap_or(1);
        Self { hir: join(pieces.into_iter().map(|piece| piece.hir).collect()), depth, copies }
    }
}

/// A character class while it is read.
#[derive(Default)]
struct ClassParts {
    /// Single characters and ranges, not folded yet.
    ranges: Vec<ClassUnicodeRange>,
    /// Named classes, folded already.
    named: Vec<ClassUnicodeRange>,
    has_surrogates: bool,
}

struct Parser<'p> {
    rest: &'p str,
    flags: Flags,
    groups: Vec<Group>,
    current: Group,
    class_ranges: usize,
    /// The first thing beyond our bounds. Parsing goes on, because Go may reject what follows.
    untranslatable: Option<&'static str>,
}

impl<'p> Parser<'p> {
    fn new(pattern: &'p str) -> Self {
        let flags = Flags { fold: false, dot_matches_break: false, at_lines: false };
        Self {
            rest: pattern,
            flags,
            groups: Vec::new(),
            current: Group::new(flags),
            class_ranges: 0,
            untranslatable: None,
        }
    }

    fn parse(mut self) -> Result<Hir, Failure> {
        let mut after_repetition = false;
        while let Some(next) = self.next() {
            // Two repetitions in a row are an error, but what pushes nothing may stand between them.
            let follows_repetition = std::mem::take(&mut after_repetition);
            match next {
                '(' => self.open_group()?,
                '|' => self.current.end_alternative(),
                ')' => self.close_group()?,
                '^' if self.flags.at_lines => self.push(Hir::look(Look::StartLF)),
                '^' => self.push(Hir::look(Look::Start)),
                '$' if self.flags.at_lines => self.push(Hir::look(Look::EndLF)),
                '$' => self.push(Hir::look(Look::End)),
                '.' => self.push_any(),
                '[' => self.bracket()?,
                '*' | '+' | '?' => {
                    let counts = match next {
                        '*' => (0, None),
                        '+' => (1, None),
                        _ => (0, Some(1)),
                    };
                    self.repeat(counts, follows_repetition, false)?;
                    after_repetition = true;
                }
                '{' => match self.counts()? {
                    Some(counts) => {
                        self.repeat(counts, follows_repetition, true)?;
                        after_repetition = true;
                    }
                    None => self.literal('{'),
                },
                '\\' => self.escaped_item()?,
                _ => self.literal(next),
            }
        }
        if !self.groups.is_empty() {
            return Err(Failure::Rejected);
        }
        let whole = self.current.finish();
        match self.untranslatable {
            Some(reason) => Err(Failure::Untranslatable(reason)),
            None => Ok(whole.hir),
        }
    }

    /// What follows `(`: a group, or flags for the rest of the group around.
    fn open_group(&mut self) -> Result<(), Failure> {
        if !self.take("?") {
            self.push_group(self.flags);
            return Ok(());
        }
        // Each of these needs one more character to count as a name.
        let named =
            ["P<", "<"].into_iter().find_map(|start| self.rest.strip_prefix(start).filter(|rest| !rest.is_empty()));
        if let Some(rest) = named {
            let (name, rest) = rest.split_once('>').ok_or(Failure::Rejected)?;
            let is_name = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
            if name.is_empty() || !name.bytes().all(is_name) {
                return Err(Failure::Rejected);
            }
            self.rest = rest;
            self.push_group(self.flags);
            return Ok(());
        }
        let mut flags = self.flags;
        let mut on = true;
        let mut some = false;
        loop {
            match self.next().ok_or(Failure::Rejected)? {
                'i' => flags.fold = on,
                'm' => flags.at_lines = on,
                's' => flags.dot_matches_break = on,
                'U' => {}
                '-' if on => {
                    on = false;
                    some = false;
                    continue;
                }
                ')' if on || some => {
                    self.flags = flags;
                    return Ok(());
                }
                ':' if on || some => {
                    self.push_group(flags);
                    return Ok(());
                }
                _ => return Err(Failure::Rejected),
            }
            some = true;
        }
    }

    fn push_group(&mut self, inside: Flags) {
        let outer = std::mem::replace(&mut self.current, Group::new(self.flags));
        self.groups.push(outer);
        self.flags = inside;
    }

    fn close_group(&mut self) -> Result<(), Failure> {
        let outer = self.groups.pop().ok_or(Failure::Rejected)?;
        let group = std::mem::replace(&mut self.current, outer);
        self.flags = group.outside;
        let piece = group.finish();
        self.push_piece(piece);
        Ok(())
    }

    /// Applies a repetition to the last item. `counted` tells `{n,m}` from `*`, `+` and `?`, which Go
    /// leaves out of its product of counts.
    fn repeat(&mut self, (min, max): (u32, Option<u32>), nested: bool, counted: bool) -> Result<(), Failure> {
        self.take("?");
        if nested {
            return Err(Failure::Rejected);
        }
        let piece = self.current.sequence.pop().ok_or(Failure::Rejected)?;
        let mut copies = piece.copies;
        if counted {
            copies = match max {
                Some(0) => 1,
                _ => copies.saturating_mul(max.unwrap_or(min).max(1)),
            };
            if (min >= 2 || max.is_some_and(|max| max >= 2)) && copies > MAX_REPEAT {
                return Err(Failure::Rejected);
            }
        }
        let hir = Hir::repetition(Repetition { min, max, greedy: true, sub: Box::new(piece.hir) });
        self.push_piece(Piece { hir, depth: piece.depth + 1, copies });
        Ok(())
    }

    /// The counts of `{n}`, `{n,}` or `{n,m}`; `None` (and nothing read) where the brace starts no such
    /// thing and so stands for itself.
    fn counts(&mut self) -> Result<Option<(u32, Option<u32>)>, Failure> {
        let Some((inner, rest)) = self.rest.split_once('}') else { return Ok(None) };
        let (min, max) = match inner.split_once(',') {
            Some((min, max)) => (min, Some(max)),
            None => (inner, None),
        };
        let Some(min) = count(min) else { return Ok(None) };
        let max = match max {
            None => Some(min),
            Some("") => None,
            Some(max) => match count(max) {
                Some(max) => Some(max),
                None => return Ok(None),
            },
        };
        if min > MAX_REPEAT || max.is_some_and(|max| max > MAX_REPEAT || max < min) {
            return Err(Failure::Rejected);
        }
        self.rest = rest;
        Ok(Some((min, max)))
    }

    /// What follows a backslash outside of brackets.
    fn escaped_item(&mut self) -> Result<(), Failure> {
        let look = [("A", Look::Start), ("z", Look::End), ("b", Look::WordAscii), ("B", Look::WordAsciiNegate)];
        if let Some((_, look)) = look.into_iter().find(|(letter, _)| self.take(letter)) {
            self.push(Hir::look(look));
            return Ok(());
        }
        if self.take("Q") {
            let (literal, rest) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
            self.rest = rest;
            for character in literal.chars() {
                self.literal(character);
            }
            return Ok(());
        }
        if let Some(class) = self.class_escape()? {
            self.push_class(class);
            return Ok(());
        }
        match char::from_u32(self.character_escape()?) {
            Some(character) => self.literal(character),
            None => self.give_up(SURROGATE, Hir::fail()),
        }
        Ok(())
    }

    /// A class after a backslash (`\d`, `\pL`, `\p{Greek}`); `None`, and nothing read, for others.
    fn class_escape(&mut self) -> Result<Option<ClassUnicode>, Failure> {
        let mut rest = self.rest.chars();
        let Some(letter) = rest.next() else { return Ok(None) };
        if let Some(class) = classes::perl(letter) {
            self.rest = rest.as_str();
            return Ok(Some(self.named_class(&class)));
        }
        if !matches!(letter, 'p' | 'P') {
            return Ok(None);
        }
        let (name, rest) = if let Some(braced) = rest.as_str().strip_prefix('{') {
            braced.split_once('}').ok_or(Failure::Rejected)?
        } else {
            let start = rest.as_str();
            rest.next();
            start.split_at_checked(start.len() - rest.as_str().len()).ok_or(Failure::Rejected)?
        };
        self.rest = rest;
        let (name, inverted) = match name.strip_prefix('^') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let mut class = classes::unicode(name).ok_or(Failure::Rejected)?;
        class.negated ^= inverted ^ (letter == 'P');
        Ok(Some(self.named_class(&class)))
    }

    /// A character after a backslash, as its number: surrogates can be written.
    fn character_escape(&mut self) -> Result<u32, Failure> {
        let kind = self.next().ok_or(Failure::Rejected)?;
        let simple = match kind {
            '0'..='7' => return self.octal(kind),
            'x' => return self.hexadecimal(),
            'a' => '\u{7}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            _ if kind.is_ascii() && !kind.is_ascii_alphanumeric() => kind,
            _ => return Err(Failure::Rejected),
        };
        Ok(u32::from(simple))
    }

    /// Up to three digits. A single digit from 1 to 7 would be a back-reference, which Go has not.
    fn octal(&mut self, first: char) -> Result<u32, Failure> {
        let length = self.rest.bytes().take(2).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
        if first != '0' && length == 0 {
            return Err(Failure::Rejected);
        }
        let (digits, rest) = self.rest.split_at_checked(length).ok_or(Failure::Rejected)?;
        self.rest = rest;
        let value = |digit: char| digit.to_digit(8).unwrap_or_default();
        Ok(digits.chars().fold(value(first), |code, digit| code * 8 + value(digit)))
    }

    fn hexadecimal(&mut self) -> Result<u32, Failure> {
        let digits = if self.take("{") {
            let (digits, rest) = self.rest.split_once('}').ok_or(Failure::Rejected)?;
            self.rest = rest;
            digits
        } else {
            let (digits, rest) = self.rest.split_at_checked(2).ok_or(Failure::Rejected)?;
            self.rest = rest;
            digits
        };
        if digits.is_empty() {
            return Err(Failure::Rejected);
        }
        digits
            .chars()
            .try_fold(0, |code: u32, digit| {
                let code = code * 16 + digit.to_digit(16)?;
                (code <= u32::from(char::MAX)).then_some(code)
            })
            .ok_or(Failure::Rejected)
    }

    /// A bracketed class whose `[` was taken. There is no nesting and there are no set operations.
    fn bracket(&mut self) -> Result<(), Failure> {
        let negated = self.take("^");
        let mut parts = ClassParts::default();
        let mut first = true;
        while first || !self.rest.starts_with(']') {
            first = false;
            if let Some(class) = self.bracketed_class()? {
                parts.named.extend_from_slice(class.ranges());
                continue;
            }
            let low = self.bracketed_character()?;
            let mut high = low;
            // A hyphen before the closing bracket stands for itself.
            if let Some(after) = self.rest.strip_prefix('-')
                && !after.is_empty()
                && !after.starts_with(']')
            {
                self.rest = after;
                high = self.bracketed_character()?;
                if high < low {
                    return Err(Failure::Rejected);
                }
            }
            parts.add_range(low, high);
            self.charge_ranges(1);
        }
        self.take("]");
        let mut class = ClassUnicode::new(parts.ranges);
        if class.ranges().is_empty() && parts.named.is_empty() && parts.has_surrogates && !negated {
            self.give_up(SURROGATE, Hir::fail());
            return Ok(());
        }
        if self.flags.fold {
            class = classes::folded(&class);
        }
        class.union(&ClassUnicode::new(parts.named));
        if negated {
            class.negate();
        }
        self.push_class(class);
        Ok(())
    }

    /// `[:alpha:]`, `\d`, `\pL` within brackets; `None`, and nothing read, for others.
    fn bracketed_class(&mut self) -> Result<Option<ClassUnicode>, Failure> {
        if let Some(inner) = self.rest.strip_prefix("[:")
            && let Some((name, rest)) = inner.split_once(":]")
        {
            let class = classes::posix(name).ok_or(Failure::Rejected)?;
            self.rest = rest;
            return Ok(Some(self.named_class(&class)));
        }
        let Some(after) = self.rest.strip_prefix('\\') else { return Ok(None) };
        let before = std::mem::replace(&mut self.rest, after);
        let class = self.class_escape()?;
        if class.is_none() {
            self.rest = before;
        }
        Ok(class)
    }

    fn bracketed_character(&mut self) -> Result<u32, Failure> {
        match self.next().ok_or(Failure::Rejected)? {
            '\\' => self.character_escape(),
            character => Ok(u32::from(character)),
        }
    }

    fn named_class(&mut self, class: &Named) -> ClassUnicode {
        if self.untranslatable.is_some() {
            return ClassUnicode::empty();
        }
        let class = class.resolve(self.flags.fold);
        self.charge_ranges(class.ranges().len());
        class
    }

    fn literal(&mut self, character: char) {
        if self.flags.fold {
            let class = ClassUnicode::new([ClassUnicodeRange::new(character, character)]);
            self.push_class(classes::folded(&class));
        } else {
            self.push(Hir::literal(character.encode_utf8(&mut [0; 4]).as_bytes()));
        }
    }

    fn push_any(&mut self) {
        let mut class = ClassUnicode::empty();
        if !self.flags.dot_matches_break {
            class.push(ClassUnicodeRange::new('\n', '\n'));
        }
        class.negate();
        self.push_class(class);
    }

    fn push_class(&mut self, class: ClassUnicode) {
        self.charge_ranges(class.ranges().len());
        self.push(Hir::class(Class::Unicode(class)));
    }

    fn push(&mut self, hir: Hir) {
        self.push_piece(Piece::single(hir));
    }

    fn push_piece(&mut self, piece: Piece) {
        if piece.depth > MAX_DEPTH {
            self.give_up("nests too deeply", Hir::empty());
        } else {
            self.current.sequence.push(piece);
        }
    }

    /// Notes why there will be no result, and puts `instead` in the place of what cannot be translated.
    fn give_up(&mut self, reason: &'static str, instead: Hir) {
        self.untranslatable.get_or_insert(reason);
        self.current.sequence.push(Piece::single(instead));
    }

    fn charge_ranges(&mut self, ranges: usize) {
        self.class_ranges += ranges;
        if self.class_ranges > MAX_CLASS_RANGES {
            self.untranslatable.get_or_insert("has too many character classes");
        }
    }

    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let next = characters.next();
        self.rest = characters.as_str();
        next
    }

    fn take(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
}

/// Go looks for the replacement character where a pattern names half a surrogate pair; no such text
/// exists here.
const SURROGATE: &str = "names a surrogate";

impl ClassParts {
    /// Adds a range of code points; surrogates in it cannot occur in text.
    fn add_range(&mut self, low: u32, high: u32) {
        self.has_surrogates |= low <= 0xdfff && high >= 0xd800;
        for (low, high) in [(low, high.min(0xd7ff)), (low.max(0xe000), high)] {
            if low <= high
                && let (Some(low), Some(high)) = (char::from_u32(low), char::from_u32(high))
            {
                self.ranges.push(ClassUnicodeRange::new(low, high));
            }
        }
    }
}

/// A repetition count: digits without a leading zero. What is beyond every bound is `u32::MAX`.
fn count(digits: &str) -> Option<u32> {
    let leading_zero = digits.len() > 1 && digits.starts_with('0');
    let is_count = !digits.is_empty() && !leading_zero && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_count.then(|| digits.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
