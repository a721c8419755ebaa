//! The vectors come from Go's own `regexp` package: `hack/regex-vectors`.

use std::time::{Duration, Instant};

use regex_syntax::hir::HirKind;
use serde_json::Value;

use super::*;

const PATTERNS: &str = include_str!("../../tests/data/regex/patterns.jsonl");
const CLASSES: &str = include_str!("../../tests/data/regex/classes.jsonl");

fn compile(pattern: &str) -> Compiled {
    GoRegex::compile(pattern)
}

fn usable(pattern: &str) -> GoRegex {
    match compile(pattern) {
        Compiled::Usable(regex) => regex,
        Compiled::Rejected => panic!("{pattern}: rejected"),
        Compiled::Untranslatable(reason) => panic!("{pattern}: {reason}"),
    }
}

fn rejected(pattern: &str) -> bool {
    matches!(compile(pattern), Compiled::Rejected)
}

fn untranslatable(pattern: &str) -> bool {
    matches!(compile(pattern), Compiled::Untranslatable(_))
}

/// Every line that disagrees with Go, and how many patterns are beyond our bounds.
fn disagreements(vectors: &str) -> (Vec<String>, usize) {
    let mut wrong = Vec::new();
    let mut beyond = 0;
    for line in vectors.lines() {
        let vector: Vec<String> = serde_json::from_str(line).unwrap();
        let (pattern, texts) = vector.split_first().unwrap();
        match (compile(pattern), texts) {
            (Compiled::Rejected, []) => {}
            (Compiled::Usable(regex), [_, ..]) => {
                for text in texts {
                    let (expected, text) = text.split_at(1);
                    if regex.is_match(text) != (expected == "1") {
                        wrong.push(format!("{pattern:?} on {text:?}: Go says {expected}"));
                    }
                }
            }
            (Compiled::Usable(_), []) => wrong.push(format!("{pattern:?}: Go rejects it")),
            (Compiled::Rejected, [_, ..]) => wrong.push(format!("{pattern:?}: Go accepts it")),
            (Compiled::Untranslatable(_), _) => beyond += 1,
        }
    }
    (wrong, beyond)
}

#[test]
fn patterns_mean_what_they_mean_in_go() {
    assert_eq!(disagreements(PATTERNS), (Vec::new(), 0));
}

/// More vectors than are committed: `REGEX_VECTORS=FILE`, written by `hack/regex-vectors`.
#[test]
fn fresh_patterns_mean_what_they_mean_in_go() {
    #[expect(clippy::disallowed_methods, reason = "a test may be given a file")]
    let vectors = std::env::var_os("REGEX_VECTORS").map(|file| std::fs::read_to_string(file).unwrap());
    let vectors = vectors.as_deref().unwrap_or(PATTERNS);
    let (wrong, beyond) = disagreements(vectors);
    assert_eq!(wrong, Vec::<String>::new());
    assert!(beyond <= vectors.lines().count() / 1000, "{beyond} patterns refused");
}

#[test]
fn named_classes_have_the_members_that_go_gives_them() {
    let mut wrong = Vec::new();
    for line in CLASSES.lines() {
        let vector: Vec<Value> = serde_json::from_str(line).unwrap();
        let pattern = vector[0].as_str().unwrap();
        if pattern == "folds" {
            continue;
        }
        let ranges = match Parser::new(pattern).parse() {
            Ok(hir) => members(&hir),
            Err(_) if vector.len() == 1 => continue,
            Err(_) => {
                wrong.push(format!("{pattern}: Go accepts it"));
                continue;
            }
        };
        let with_surrogates = |range: &ClassUnicodeRange| range.start() <= '\u{d7ff}' && range.end() >= '\u{e000}';
        let count = |range| ClassUnicodeRange::len(range) - if with_surrogates(range) { 0x800 } else { 0 };
        let count: usize = ranges.iter().map(count).sum();
        let text = ranges.iter().fold(String::new(), |text, range| {
            text + &format!("{:x}-{:x},", u32::from(range.start()), u32::from(range.end()))
        });
        if vector.len() == 1 || vector[1] != count || vector[2] != fnv(text.as_bytes()) {
            wrong.push(format!("{pattern}: {count} members, Go has {:?}", vector.get(1)));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn letters_fold_with_the_letters_that_go_folds_them_with() {
    let vector: Vec<Value> = serde_json::from_str(CLASSES.lines().last().unwrap()).unwrap();
    let mut text = String::new();
    let mut count = 0;
    let everything = ClassUnicode::new([ClassUnicodeRange::new('\0', char::MAX)]);
    for range in everything.ranges() {
        for letter in range.start()..=range.end() {
            let alone = ClassUnicode::new([ClassUnicodeRange::new(letter, letter)]);
            for range in classes::folded(&alone).ranges() {
                for partner in (range.start()..=range.end()).filter(|partner| *partner != letter) {
                    count += 1;
                    text.extend([letter, partner]);
                }
            }
        }
    }
    assert_eq!((vector[1].clone(), vector[2].clone()), (count.into(), fnv(text.as_bytes()).into()));
}

/// The ranges of a tree that is one class.
fn members(hir: &Hir) -> Vec<ClassUnicodeRange> {
    if let HirKind::Class(Class::Unicode(class)) = hir.kind() {
        return class.ranges().to_vec();
    }
    if let HirKind::Literal(literal) = hir.kind() {
        let only = std::str::from_utf8(&literal.0).unwrap().chars().next().unwrap();
        return vec![ClassUnicodeRange::new(only, only)];
    }
    assert_eq!(*hir, Hir::fail(), "a class, one character, or nothing");
    Vec::new()
}

/// FNV-1a, 64 bit, as the generator prints it.
fn fnv(bytes: &[u8]) -> String {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix))
}

#[test]
fn a_pattern_that_go_rejects_is_told_from_one_that_we_cannot_do() {
    assert!(rejected("("));
    assert!(rejected("(((a{1000}){1000}){1000})"));
    assert!(untranslatable("\\x{d800}"));
    assert!(untranslatable("[\\x{dfff}]"));
    assert!(!untranslatable("[^\\x{dfff}]"));
    assert!(rejected("\\x{d800}("), "Go rejects it whatever else is in it");
}

#[test]
fn nesting_is_bounded_by_a_refusal() {
    let nested = |depth: usize| "(".repeat(depth) + "a" + &")".repeat(depth);
    assert!(usable(&nested(49)).is_match("a"));
    assert!(untranslatable(&nested(50)));
    assert!(untranslatable(&nested(8000)));
    assert!(rejected(&"(".repeat(16_000)));
    assert!(untranslatable(&format!("a{}", "*(?i)".repeat(3000))));
}

#[test]
fn length_is_bounded_by_a_refusal() {
    assert!(!usable(&"a".repeat(MAX_PATTERN_BYTES)).is_match("a"));
    assert!(untranslatable(&"a".repeat(MAX_PATTERN_BYTES + 1)));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a bound of cost is seen by a clock alone")]
fn hostile_patterns_are_refused_quickly() {
    let started = Instant::now();
    for pattern in [
        "\\pL".repeat(5000),
        "(?i)\\pL".repeat(2000),
        "\\pL{1000}".to_owned(),
        "(\\pL|\\pN){1000}".to_owned(),
        format!("[{}]", "\\pL".repeat(5000)),
        "(?:a?){1000}".repeat(1300),
        "((((((a?){10}){10}){10})?)?)?".repeat(500),
    ] {
        assert!(untranslatable(&pattern), "{}", pattern.len());
    }
    for pattern in ["[[:".repeat(5000), "\\p{".repeat(5000), "{".repeat(16_000) + "(", "[".repeat(16_000)] {
        assert!(rejected(&pattern));
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn each_compiled_pattern_has_its_own_cost() {
    let spent = usable("(?:b?){1000}a");
    spent.fuel.store(0, Ordering::Relaxed);
    assert!(!usable("(?:b?){1000}a").exhausted());
}

#[test]
fn more_patterns_than_are_kept_stay_right() {
    for round in 0..2 {
        for number in 0..2 * MAX_RECENT {
            let regex = usable(&format!("^kept{number}$"));
            assert!(regex.is_match(&format!("kept{number}")), "round {round}");
            assert!(!regex.is_match("kept"), "round {round}");
        }
    }
}

#[test]
fn a_pattern_that_costs_too_much_is_exhausted_and_stays_so() {
    let regex = usable("(?:a?){1000}b");
    let text = "a".repeat(10_000);
    assert!(!regex.exhausted());
    let mut rounds = 0;
    while !regex.exhausted() {
        regex.is_match(&text);
        rounds += 1;
        assert!(rounds < 1000);
    }
    assert!(!regex.is_match("b"));
    assert!(regex.exhausted());
}
