//! Character classes as Go names and fills them.
//!
//! The tables are those of `regex-syntax`, cut back to Unicode 15.0, which is what Go's tables hold:
//! later characters are unassigned, and pairs of letters that fold since 15.1 do not.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

/// A class before case folding.
pub(super) struct Named {
    class: ClassUnicode,
    /// Whether what the (folded) class leaves out is meant.
    pub(super) negated: bool,
    /// Whether Go folds it at all: its table for cased letters (`LC`) is missing.
    folds: bool,
}

impl Named {
    /// The members; with `fold`, folding comes before negation, as in Go.
    pub(super) fn resolve(&self, fold: bool) -> ClassUnicode {
        let mut class = if fold && self.folds { folded(&self.class) } else { self.class.clone() };
        if self.negated {
            class.negate();
        }
        class
    }
}

/// `\d`, `\s`, `\w` and their opposites: ASCII alone, and `\s` without the vertical tab.
pub(super) fn perl(letter: char) -> Option<Named> {
    let ranges: &[(char, char)] = match letter.to_ascii_lowercase() {
        'd' => &[('0', '9')],
        's' => &[('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')],
        'w' => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        _ => return None,
    };
    Some(Named { class: from_ranges(ranges), negated: letter.is_ascii_uppercase(), folds: true })
}

/// `[:name:]`, without the brackets and colons.
pub(super) fn posix(name: &str) -> Option<Named> {
    let (plain, negated) = match name.strip_prefix('^') {
        Some(plain) => (plain, true),
        None => (name, false),
    };
    let ranges: &[(char, char)] = match plain {
        "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        "alpha" => &[('A', 'Z'), ('a', 'z')],
        "ascii" => &[('\0', '\u{7f}')],
        "blank" => &[('\t', '\t'), (' ', ' ')],
        "cntrl" => &[('\0', '\u{1f}'), ('\u{7f}', '\u{7f}')],
        "digit" => &[('0', '9')],
        "graph" => &[('!', '~')],
        "lower" => &[('a', 'z')],
        "print" => &[(' ', '~')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "space" => &[('\t', '\r'), (' ', ' ')],
        "upper" => &[('A', 'Z')],
        "word" => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return None,
    };
    Some(Named { class: from_ranges(ranges), negated, folds: true })
}

/// The class that Go finds for the name in `\p{name}`; `None` where Go has none.
///
/// Letter case, blanks, `_` and `-` do not count (since Go 1.25, which thereby lost the scripts with
/// `_` in their names: `Old_Italic` is not found).
pub(super) fn unicode(name: &str) -> Option<Named> {
    let name = canonical(name);
    let plain = |class| Some(Named { class, negated: false, folds: true });
    match name.as_str() {
        "Any" => return plain(complement(ClassUnicode::empty())),
        "Assigned" => return plain(ASSIGNED.clone()),
        "Ascii" => return plain(from_ranges(&[('\0', '\u{7f}')])),
        // Half pairs of surrogates do not occur in text.
        "Cs" | "Surrogate" => return plain(ClassUnicode::empty()),
        "Cn" | "Unassigned" => return plain(complement(ASSIGNED.clone())),
        _ => {}
    }
    let query = if let Ok(at) = CATEGORY_ALIASES.binary_search_by_key(&name.as_str(), |(alias, _)| alias) {
        format!("gc={}", CATEGORY_ALIASES.get(at)?.1)
    } else if CATEGORIES.binary_search(&name.as_str()).is_ok() {
        format!("gc={name}")
    } else if SCRIPTS.binary_search(&name.as_str()).is_ok() {
        format!("sc={name}")
    } else {
        return None;
    };
    let mut class = table(&query);
    if query == "gc=C" {
        // The one other category with unassigned characters in it.
        return plain(complement(intersection(complement(class), &ASSIGNED)));
    }
    class.intersect(&ASSIGNED);
    match query.as_str() {
        "gc=Mn" => class.union(&from_ranges(&[MOVED_TO_MC])),
        "gc=Mc" => class.difference(&from_ranges(&[MOVED_TO_MC])),
        _ => {}
    }
    Some(Named { class, negated: false, folds: !matches!(query.as_str(), "gc=LC" | "gc=Lc") })
}

/// The class with everything that simple case folding makes equal to a member.
pub(super) fn folded(class: &ClassUnicode) -> ClassUnicode {
    if class.is_ascii() {
        // The usual case, and the same in every version of Unicode.
        let mut members = class.clone();
        members.case_fold_simple();
        return members;
    }
    let mut members = intersection(class.clone(), &ASSIGNED);
    members.difference(&FOLDED_SINCE_15_1);
    members.case_fold_simple();
    members.intersect(&ASSIGNED);
    members.union(class);
    members
}

/// First letter upper case, the others lower case, blanks and dashes left out.
fn canonical(name: &str) -> String {
    let mut canonical = String::with_capacity(name.len());
    for character in name.chars().filter(|character| !matches!(character, '_' | '-' | ' ')) {
        canonical.push(if canonical.is_empty() {
            character.to_ascii_uppercase()
        } else {
            character.to_ascii_lowercase()
        });
    }
    canonical
}

/// Characters that have a meaning in Unicode 15.0.
static ASSIGNED: LazyLock<ClassUnicode> = LazyLock::new(|| {
    let mut assigned = table("age=15.0");
    // Noncharacters have an age, but are not assigned.
    assigned.difference(&table("gc=Cn"));
    assigned
});

/// Letters without a partner in Unicode 15.0: U+0390 and U+1FD3, U+03B0 and U+1FE3, U+FB05 and U+FB06.
static FOLDED_SINCE_15_1: LazyLock<ClassUnicode> = LazyLock::new(|| {
    from_ranges(&['\u{390}', '\u{3b0}', '\u{1fd3}', '\u{1fe3}', '\u{fb05}', '\u{fb06}'].map(|letter| (letter, letter)))
});

/// The one character whose category changed since: it was a nonspacing mark.
const MOVED_TO_MC: (char, char) = ('\u{1171e}', '\u{1171e}');

/// A table of `regex-syntax` by its own query.
fn table(query: &str) -> ClassUnicode {
    let hir = regex_syntax::parse(&format!("\\p{{{query}}}"));
    match hir.as_ref().map(regex_syntax::hir::Hir::kind) {
        Ok(HirKind::Class(Class::Unicode(class))) => class.clone(),
        // A class of one character.
        Ok(HirKind::Literal(literal)) => {
            let text = std::str::from_utf8(&literal.0).unwrap_or_default();
            ClassUnicode::new(text.chars().map(|character| ClassUnicodeRange::new(character, character)))
        }
        Ok(_) | Err(_) => unreachable!("`regex-syntax` knows every class that is named here"),
    }
}

fn from_ranges(ranges: &[(char, char)]) -> ClassUnicode {
    ClassUnicode::new(ranges.iter().map(|(low, high)| ClassUnicodeRange::new(*low, *high)))
}

fn complement(mut class: ClassUnicode) -> ClassUnicode {
    class.negate();
    class
}

fn intersection(mut class: ClassUnicode, other: &ClassUnicode) -> ClassUnicode {
    class.intersect(other);
    class
}

/// General categories by their short names, sorted.
const CATEGORIES: [&str; 36] = [
    "C", "Cc", "Cf", "Co", "L", "Lc", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl", "No", "P",
    "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs",
];

/// General categories by their long names, sorted.
const CATEGORY_ALIASES: [(&str, &str); 40] = [
    ("Casedletter", "LC"),
    ("Closepunctuation", "Pe"),
    ("Cntrl", "Cc"),
    ("Combiningmark", "M"),
    ("Connectorpunctuation", "Pc"),
    ("Control", "Cc"),
    ("Currencysymbol", "Sc"),
    ("Dashpunctuation", "Pd"),
    ("Decimalnumber", "Nd"),
    ("Digit", "Nd"),
    ("Enclosingmark", "Me"),
    ("Finalpunctuation", "Pf"),
    ("Format", "Cf"),
    ("Initialpunctuation", "Pi"),
    ("Letter", "L"),
    ("Letternumber", "Nl"),
    ("Lineseparator", "Zl"),
    ("Lowercaseletter", "Ll"),
    ("Mark", "M"),
    ("Mathsymbol", "Sm"),
    ("Modifierletter", "Lm"),
    ("Modifiersymbol", "Sk"),
    ("Nonspacingmark", "Mn"),
    ("Number", "N"),
    ("Openpunctuation", "Ps"),
    ("Other", "C"),
    ("Otherletter", "Lo"),
    ("Othernumber", "No"),
    ("Otherpunctuation", "Po"),
    ("Othersymbol", "So"),
    ("Paragraphseparator", "Zp"),
    ("Privateuse", "Co"),
    ("Punct", "P"),
    ("Punctuation", "P"),
    ("Separator", "Z"),
    ("Spaceseparator", "Zs"),
    ("Spacingmark", "Mc"),
    ("Symbol", "S"),
    ("Titlecaseletter", "Lt"),
    ("Uppercaseletter", "Lu"),
];

/// Scripts of Unicode 15.0, sorted.
const SCRIPTS: [&str; 117] = [
    "Adlam",
    "Ahom",
    "Arabic",
    "Armenian",
    "Avestan",
    "Balinese",
    "Bamum",
    "Batak",
    "Bengali",
    "Bhaiksuki",
    "Bopomofo",
    "Brahmi",
    "Braille",
    "Buginese",
    "Buhid",
    "Carian",
    "Chakma",
    "Cham",
    "Cherokee",
    "Chorasmian",
    "Common",
    "Coptic",
    "Cuneiform",
    "Cypriot",
    "Cyrillic",
    "Deseret",
    "Devanagari",
    "Dogra",
    "Duployan",
    "Elbasan",
    "Elymaic",
    "Ethiopic",
    "Georgian",
    "Glagolitic",
    "Gothic",
    "Grantha",
    "Greek",
    "Gujarati",
    "Gurmukhi",
    "Han",
    "Hangul",
    "Hanunoo",
    "Hatran",
    "Hebrew",
    "Hiragana",
    "Inherited",
    "Javanese",
    "Kaithi",
    "Kannada",
    "Katakana",
    "Kawi",
    "Kharoshthi",
    "Khmer",
    "Khojki",
    "Khudawadi",
    "Lao",
    "Latin",
    "Lepcha",
    "Limbu",
    "Lisu",
    "Lycian",
    "Lydian",
    "Mahajani",
    "Makasar",
    "Malayalam",
    "Mandaic",
    "Manichaean",
    "Marchen",
    "Medefaidrin",
    "Miao",
    "Modi",
    "Mongolian",
    "Mro",
    "Multani",
    "Myanmar",
    "Nabataean",
    "Nandinagari",
    "Newa",
    "Nko",
    "Nushu",
    "Ogham",
    "Oriya",
    "Osage",
    "Osmanya",
    "Palmyrene",
    "Phoenician",
    "Rejang",
    "Runic",
    "Samaritan",
    "Saurashtra",
    "Sharada",
    "Shavian",
    "Siddham",
    "Sinhala",
    "Sogdian",
    "Soyombo",
    "Sundanese",
    "Syriac",
    "Tagalog",
    "Tagbanwa",
    "Takri",
    "Tamil",
    "Tangsa",
    "Tangut",
    "Telugu",
    "Thaana",
    "Thai",
    "Tibetan",
    "Tifinagh",
    "Tirhuta",
    "Toto",
    "Ugaritic",
    "Vai",
    "Vithkuqi",
    "Wancho",
    "Yezidi",
    "Yi",
];
