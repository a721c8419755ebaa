//! Which leaves of a file are encrypted: its one rule, applied to mapping keys from the root down.
//!
//! A rule looks at each key on the way alone, and a match counts for everything below. So a walk
//! carries one flag, [`Reach`], instead of matching whole paths again at every leaf. List indexes
//! are no keys; a comment follows the mapping or list that it stands in.

use crate::error::Error;
use crate::go_regex::{Compiled, GoRegex};

/// What every encrypted value begins with.
pub(crate) const CIPHERTEXT_PREFIX: &[u8] = b"ENC[AES256_GCM,";

/// A file's selection rule.
pub(crate) enum Rule {
    /// `unencrypted_suffix`: encrypted unless a key ends so.
    UnencryptedSuffix(String),
    /// `encrypted_suffix`: encrypted below keys that end so.
    EncryptedSuffix(String),
    /// `unencrypted_regex`: encrypted unless a key matches.
    UnencryptedRegex(Pattern),
    /// `encrypted_regex`: encrypted below keys that match.
    EncryptedRegex(Pattern),
    /// `encrypted_comment_regex` or `unencrypted_comment_regex`. Which leaves a comment reaches
    /// depends on where go-yaml attaches it, so what looks like ciphertext is taken for it; the MAC
    /// decides whether that was so.
    Comments,
}

/// A pattern as Go reads it.
pub(crate) enum Pattern {
    /// Compiled.
    Usable(GoRegex),
    /// Go refuses it, and SOPS then takes it for one that matches nothing.
    NeverMatches,
}

/// What the keys from the root to here have decided.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// No key matched so far.
    Outside,
    /// A key matched: so does everything below it.
    Inside,
}

impl Rule {
    /// The rule where a file names none.
    pub(crate) fn default_suffix() -> Self {
        Self::UnencryptedSuffix("_unencrypted".to_owned())
    }

    /// The rule that a field of the `sops` block states; comment rules are one.
    ///
    /// # Errors
    /// Which bound a pattern exceeds.
    pub(crate) fn stated(field: &str, text: &str) -> Result<Self, &'static str> {
        let pattern = || match GoRegex::compile(text) {
            Compiled::Usable(regex) => Ok(Pattern::Usable(regex)),
            Compiled::Rejected => Ok(Pattern::NeverMatches),
            Compiled::Untranslatable(reason) => Err(reason),
        };
        match field {
            "unencrypted_suffix" => Ok(Self::UnencryptedSuffix(text.to_owned())),
            "encrypted_suffix" => Ok(Self::EncryptedSuffix(text.to_owned())),
            "unencrypted_regex" => pattern().map(Self::UnencryptedRegex),
            "encrypted_regex" => pattern().map(Self::EncryptedRegex),
            _ => Ok(Self::Comments),
        }
    }

    /// What holds below `key`.
    pub(crate) fn below(&self, key: &str, reach: Reach) -> Reach {
        match reach {
            Reach::Outside if self.matches(key) => Reach::Inside,
            Reach::Outside | Reach::Inside => reach,
        }
    }

    /// Whether a text leaf here is encrypted. An empty text is never ciphertext, wherever it stands.
    pub(crate) fn selects(&self, reach: Reach, text: &[u8]) -> bool {
        match self.selects_other(reach) {
            Some(selected) => selected,
            None => text.is_empty() || text.starts_with(CIPHERTEXT_PREFIX),
        }
    }

    /// Whether a leaf that is no text, or a comment, is encrypted here; `None` where only the text
    /// itself tells.
    pub(crate) fn selects_other(&self, reach: Reach) -> Option<bool> {
        match self {
            Self::UnencryptedSuffix(_) | Self::UnencryptedRegex(_) => Some(reach == Reach::Outside),
            Self::EncryptedSuffix(_) | Self::EncryptedRegex(_) => Some(reach == Reach::Inside),
            Self::Comments => None,
        }
    }

    /// Refuses the file if the rule's pattern has cost more than any real file needs: what it decided since
    /// then means nothing.
    pub(crate) fn check_exhausted(&self) -> Result<(), Error> {
        let problem = "is a pattern that costs more on these keys than any real rule";
        match self.exhausted() {
            Some(field) => Err(Error::Metadata { field: field.to_owned(), problem }),
            None => Ok(()),
        }
    }

    fn exhausted(&self) -> Option<&'static str> {
        match self {
            Self::UnencryptedRegex(Pattern::Usable(regex)) if regex.exhausted() => Some("unencrypted_regex"),
            Self::EncryptedRegex(Pattern::Usable(regex)) if regex.exhausted() => Some("encrypted_regex"),
            Self::UnencryptedRegex(_)
            | Self::EncryptedRegex(_)
            | Self::UnencryptedSuffix(_)
            | Self::EncryptedSuffix(_)
            | Self::Comments => None,
        }
    }

    fn matches(&self, key: &str) -> bool {
        match self {
            Self::UnencryptedSuffix(suffix) | Self::EncryptedSuffix(suffix) => key.ends_with(suffix.as_str()),
            Self::UnencryptedRegex(pattern) | Self::EncryptedRegex(pattern) => match pattern {
                Pattern::Usable(regex) => regex.is_match(key),
                Pattern::NeverMatches => false,
            },
            Self::Comments => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(rule: &Rule, path: &[&str]) -> Reach {
        path.iter().fold(Reach::Outside, |reach, key| rule.below(key, reach))
    }

    fn selects(rule: &Rule, path: &[&str]) -> bool {
        rule.selects(reach(rule, path), b"ENC[AES256_GCM,")
    }

    #[test]
    fn an_unencrypted_suffix_on_any_key_keeps_all_below_it_clear() {
        let rule = Rule::default_suffix();
        assert!(selects(&rule, &["a", "b"]));
        assert!(!selects(&rule, &["a_unencrypted", "b"]));
        assert!(!selects(&rule, &["a", "b_unencrypted"]));
        assert!(selects(&rule, &["a_unencrypted_not"]));
    }

    #[test]
    fn an_encrypted_suffix_on_any_key_encrypts_all_below_it() {
        let rule = Rule::EncryptedSuffix("_enc".to_owned());
        assert!(!selects(&rule, &["a", "b"]));
        assert!(selects(&rule, &["a_enc", "b", "c"]));
        assert!(selects(&rule, &["_enc"]));
        assert!(!selects(&rule, &[]));
    }

    #[test]
    fn a_pattern_that_go_refuses_matches_nothing() {
        assert!(!selects(&Rule::EncryptedRegex(Pattern::NeverMatches), &["data"]));
        assert!(selects(&Rule::UnencryptedRegex(Pattern::NeverMatches), &["data"]));
    }

    #[test]
    fn with_a_comment_rule_the_text_tells() {
        let rule = Rule::Comments;
        assert!(rule.selects(Reach::Outside, b"ENC[AES256_GCM,data:"));
        assert!(rule.selects(Reach::Outside, b""));
        assert!(!rule.selects(Reach::Outside, b"clear"));
        assert_eq!(rule.selects_other(Reach::Outside), None);
    }
}
