//! What a handover's token may do in Vault: create and read every copy and every record, and change nothing that exists.
//!
//! Vault answers for one path at a time, and weighs all policies of the token anew for each: five routes of a thousand keys
//! take longer than reading the keys. But the policy is regent's own. A token that has this policy, word for word, and no
//! other, may do with every key what it may do with one; of any other token nothing follows, and each key is asked about.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::name::AuthorityName;

/// A policy in Vault, as `--print-policy` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Whose it is, in words.
    pub what: &'static str,
    /// What it allows.
    pub rules: Vec<Rule>,
}

/// What a policy allows at some paths, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The reason, as a sentence.
    pub why: &'static str,
    /// Path and capabilities.
    pub paths: Vec<(String, &'static [&'static str])>,
}

/// A token, as Vault describes it to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// Whether Vault keeps it.
    pub kept: Kept,
    /// Its namespace, as Vault writes it (`team/`); empty for the root.
    pub namespace: String,
    /// Its own policies, and those that its identity and the identity's groups have in the same namespace.
    pub policies: BTreeSet<String>,
    /// Namespaces in which its identity has policies beside these.
    pub elsewhere: BTreeSet<String>,
}

/// Whether Vault keeps a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// A service token.
    Stored,
    /// A batch token, or a kind that is not known: it may carry a policy of its own, which has no name.
    InItself,
}

impl Policy {
    /// What a handover needs, and no more.
    pub fn of_handover(name: &AuthorityName, mount: &str, prefix: &str) -> Self {
        let own = format!("regent-handover-{name}");
        let copies = |of: &str| format!("{mount}/{of}/{prefix}/*");
        let records = |of: &str| format!("{mount}/{of}/regent/{name}/authority/*");
        let rules = vec![
            Rule {
                why: "The copies.",
                paths: vec![(copies("data"), &["create", "read"]), (copies("metadata"), &["read"])],
            },
            Rule {
                why: "The record of each epoch, and what people append beside it.",
                paths: vec![(records("data"), &["create", "read"]), (records("metadata"), &["read"])],
            },
            Rule {
                why: "Whether what is written goes by itself (`delete_version_after`): known before anything is.",
                paths: vec![(format!("{mount}/config"), &["read"])],
            },
            Rule {
                why: "Whether it may do all that and no more: key by key, or at once where this text is all it has.",
                paths: vec![
                    ("sys/capabilities-self".to_owned(), &["update"]),
                    ("auth/token/lookup-self".to_owned(), &["read"]),
                    (format!("sys/policies/acl/{own}"), &["read"]),
                ],
            },
            Rule { why: "Its own token: for as long as the run takes.", paths: own_token() },
        ];
        Self { name: own, what: "creates, and cannot change, delete, undelete or list what exists", rules }
    }

    /// Whether it is the one policy of a token in this namespace (as `regent.yaml` writes it).
    pub fn is_the_only_one_of(&self, bearer: &Bearer, namespace: &str) -> bool {
        let Bearer { kept, namespace: of, policies, elsewhere } = bearer;
        let is_kept = match kept {
            Kept::Stored => true,
            Kept::InItself => false,
        };
        is_kept && of.trim_end_matches('/') == namespace && elsewhere.is_empty() && policies.iter().eq([&self.name])
    }

    /// Whether a text in Vault is this one: another word could mean anything.
    pub fn is_written_as(&self, text: &str) -> bool {
        text.trim() == self.to_hcl().trim()
    }

    /// As Vault takes it. Paths need no escapes: `regent.yaml` allows letters, digits, `-`, `_`, `.` and `/` in them.
    pub fn to_hcl(&self) -> String {
        let mut text = format!("# {}: {}.\n", self.name, self.what);
        for Rule { why, paths } in &self.rules {
            let _ = write!(text, "\n# {why}\n");
            for (path, may) in paths {
                let _ = writeln!(text, "path \"{path}\" {{ capabilities = [\"{}\"] }}", may.join("\", \""));
            }
        }
        text
    }
}

/// What a login is renewed and given back with.
pub fn own_token() -> Vec<(String, &'static [&'static str])> {
    ["renew-self", "revoke-self"].map(|what| (format!("auth/token/{what}"), &["update"] as &[_])).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy::of_handover(&AuthorityName::parse("prod").unwrap(), "secret", "bootstrap/prod")
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn bearer() -> Bearer {
        let policies = set(&["regent-handover-prod"]);
        Bearer { kept: Kept::Stored, namespace: String::new(), policies, elsewhere: BTreeSet::new() }
    }

    #[test]
    fn one_policy_is_the_only_one() {
        assert!(policy().is_the_only_one_of(&bearer(), ""));
        // Vault ends the name of a namespace with a slash.
        let within = Bearer { namespace: "team/a/".to_owned(), ..bearer() };
        assert!(policy().is_the_only_one_of(&within, "team/a"));
    }

    /// A token's rights are the union of its policies: one that is not known may allow anything.
    #[test]
    fn beside_any_other_policy_nothing_follows() {
        let own = "regent-handover-prod";
        let others =
            [&["default", own], &["root", own], &[own, "regent-handover-prod-2"], &["regent-verify-prod", own]];
        for policies in
            others.map(|names| set(names)).into_iter().chain([set(&[]), set(&["root"]), set(&["regent-handover"])])
        {
            let other = Bearer { policies: policies.clone(), ..bearer() };
            assert!(!policy().is_the_only_one_of(&other, ""), "{policies:?}");
        }
        let elsewhere = Bearer { elsewhere: set(&["x7Yhs"]), ..bearer() };
        assert!(!policy().is_the_only_one_of(&elsewhere, ""));
    }

    #[test]
    fn a_token_that_carries_its_rights_in_itself_may_have_more_than_is_named() {
        assert!(!policy().is_the_only_one_of(&Bearer { kept: Kept::InItself, ..bearer() }, ""));
    }

    /// The policy of that name in another namespace is another policy.
    #[test]
    fn the_namespace_of_the_token_is_that_of_the_place() {
        for (of, place) in [("", "team"), ("team/", ""), ("team/", "team/a"), ("team/a/", "team")] {
            let other = Bearer { namespace: of.to_owned(), ..bearer() };
            assert!(!policy().is_the_only_one_of(&other, place), "{of} {place}");
        }
    }

    #[test]
    fn another_word_is_another_policy() {
        let text = policy().to_hcl();
        assert!(policy().is_written_as(&text) && policy().is_written_as(text.trim_end()));
        let more = [
            "path \"secret/data/bootstrap/prod/app/db\" { capabilities = [\"update\"] }\n",
            "path \"secret/data/bootstrap/prod/+/db\" { capabilities = [\"delete\"] }\n",
            "path \"secret/+/bootstrap/prod/app/d*\" { capabilities = [\"deny\"] }\n",
            "path \"secret/data/bootstrap/prod/app/{{identity.entity.name}}\" { capabilities = [\"patch\"] }\n",
            "# a comment\n",
        ];
        for more in more {
            assert!(!policy().is_written_as(&format!("{text}{more}")), "{more}");
            assert!(!policy().is_written_as(&format!("{more}{text}")), "{more}");
        }
        assert!(!policy().is_written_as(&text.replace("\"create\", \"read\"", "\"create\", \"read\", \"update\"")));
        assert!(!policy().is_written_as(&text.replace("prod/*", "prod*")));
        assert!(!policy().is_written_as(""));
        let other = Policy::of_handover(&AuthorityName::parse("prod").unwrap(), "secret", "bootstrap");
        assert!(!policy().is_written_as(&other.to_hcl()));
    }
}
