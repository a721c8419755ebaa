//! The lock: once an Authority says vault, the API server itself refuses its Secrets to the controllers.

use std::fmt::Write as _;

use regent_core::name::AuthorityName;
use serde_json::{Value, json};

use super::metadata;

/// The accounts that Argo CD and Flux write with, as their own manifests name them. Accounts that they impersonate
/// (`destinationServiceAccounts`, `spec.serviceAccountName`, `--default-service-account`) have to be named as well: the API
/// server sees only those.
pub(crate) const DEFAULT_DOORS: [&str; 4] = [
    "system:serviceaccount:argocd:argocd-application-controller",
    // Resources are deleted and edited through Argo CD's own page by this one.
    "system:serviceaccount:argocd:argocd-server",
    "system:serviceaccount:flux-system:kustomize-controller",
    "system:serviceaccount:flux-system:helm-controller",
];

/// The name of an authority's lock, policy and binding.
pub(crate) fn lock_name(authority: &AuthorityName) -> String {
    format!("regent-lock-{authority}")
}

/// The lock of one authority as `[policy, binding]`.
///
/// `doors` are whole user names. While the Authority says git the doors do as they like; afterwards they can neither
/// create nor delete a Secret labelled `regent.dev/authority: <authority>`, nor change its data or that label.
///
/// Apply the binding after its Authority and delete it before: without one, nobody writes labelled Secrets.
pub(crate) fn lock(authority: &AuthorityName, doors: &[String]) -> [Value; 2] {
    let name = lock_name(authority);
    let doors = doors.iter().map(|door| literal(door)).collect::<Vec<_>>().join(", ");
    let authority_literal = literal(authority.as_str());
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": metadata(&name, None),
        "spec": {
            "failurePolicy": "Fail",
            "paramKind": { "apiVersion": "regent.dev/v1alpha1", "kind": "Authority" },
            "matchConstraints": {
                "matchPolicy": "Equivalent",
                // Not in a condition: the Authority is looked up before conditions are asked, so a missing one would
                // stop every Secret of the cluster. Old and new object are looked at.
                "objectSelector": { "matchLabels": { LABEL: authority.as_str() } },
                "resourceRules": [{
                    "apiGroups": [""],
                    "apiVersions": ["*"],
                    "resources": ["secrets"],
                    "operations": ["CREATE", "UPDATE", "DELETE"],
                    "scope": "*",
                }],
            },
            "matchConditions": [{ "name": "door", "expression": format!("{DOORS}[{doors}]") }],
            "variables": [
                { "name": "before", "expression": "oldObject.?metadata.?labels[?'regent.dev/authority'].orValue('')" },
                { "name": "after", "expression": "object.?metadata.?labels[?'regent.dev/authority'].orValue('')" },
            ],
            "validations": [{
                "expression": format!(
                    "params.spec.authority == 'git' || (request.operation == 'UPDATE' \
                     && variables.before == {authority_literal} && variables.after == {authority_literal} \
                     && object.?data.orValue({{}}) == oldObject.?data.orValue({{}}))"
                ),
                "message": format!(
                    "regent: Vault is the authority for this Secret, and Git not any more; `regent status` tells more of \
                     authority {authority}"
                ),
                "reason": "Forbidden",
            }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": metadata(&name, None),
        "spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            "paramRef": { "name": authority.as_str(), "parameterNotFoundAction": "Deny" },
        },
    });
    [policy, binding]
}

/// Who is asked about; a list of literals follows.
const DOORS: &str = "request.userInfo.username in ";

/// The doors that a lock in a cluster names, where it is written as ours are.
pub(crate) fn doors_of(policy: &Value) -> Option<Vec<String>> {
    let [condition] = policy["spec"]["matchConditions"].as_array()?.as_slice() else { return None };
    let list = condition["expression"].as_str()?.strip_prefix(DOORS)?.strip_prefix('[')?.strip_suffix(']')?;
    let (mut doors, mut rest) = (Vec::new(), list);
    while !rest.is_empty() {
        let (door, after) = unquoted(rest)?;
        doors.push(door);
        rest = match after {
            "" => "",
            more => more.strip_prefix(", ").filter(|more| !more.is_empty())?,
        };
    }
    Some(doors)
}

/// What a [`literal`] at the beginning of a text means, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let (mut door, mut chars) = (String::new(), text.strip_prefix('\'')?.chars());
    loop {
        match chars.next()? {
            '\'' => return Some((door, chars.as_str())),
            '\\' => match chars.next()? {
                'U' => {
                    let digits = chars.as_str().get(..8)?;
                    door.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
                    chars = chars.as_str().get(8..)?.chars();
                }
                char => door.push(char),
            },
            char => door.push(char),
        }
    }
}

/// The label by which a Secret belongs to an authority.
const LABEL: &str = "regent.dev/authority";

/// A string of CEL that means exactly `text`: whatever could end it, or be read differently by two readers, is a number.
fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('\'');
    for char in text.chars() {
        match char {
            '\'' | '\\' => literal.extend(['\\', char]),
            ' '..='~' => literal.push(char),
            // A String takes everything.
            _ => drop(write!(literal, "\\U{:08x}", u32::from(char))),
        }
    }
    literal.push('\'');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, doors: &[&str]) -> [Value; 2] {
        lock(&AuthorityName::parse(name).unwrap(), &doors.iter().map(|&door| door.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_lock_looks_only_at_secrets_that_bear_its_authoritys_label() {
        let [policy, _] = of("prod", &["a"]);
        let constraints = &policy["spec"]["matchConstraints"];
        assert_eq!(constraints["objectSelector"], json!({ "matchLabels": { "regent.dev/authority": "prod" } }));
        assert_eq!(constraints["resourceRules"][0]["resources"], json!(["secrets"]));
    }

    #[test]
    fn a_lock_without_its_authority_is_closed() {
        let [policy, binding] = of("prod", &["a"]);
        assert_eq!(policy["spec"]["failurePolicy"], "Fail");
        assert_eq!(binding["spec"]["paramRef"], json!({ "name": "prod", "parameterNotFoundAction": "Deny" }));
        assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
        assert_eq!(binding["spec"]["validationActions"], json!(["Deny"]));
    }

    #[test]
    fn two_authorities_share_nothing_of_their_locks() {
        let (one, other) = (of("prod", &["a"]), of("prod-1", &["a"]));
        assert_ne!(one[0]["metadata"]["name"], other[0]["metadata"]["name"]);
        assert_ne!(one[0]["spec"]["matchConstraints"], other[0]["spec"]["matchConstraints"]);
        assert_ne!(one[0]["spec"]["validations"], other[0]["spec"]["validations"]);
        assert_ne!(one[1]["spec"]["paramRef"], other[1]["spec"]["paramRef"]);
    }

    #[test]
    fn a_refusal_names_the_authority_and_the_command_that_tells_more() {
        let [policy, _] = of("prod", &["a"]);
        let message = policy["spec"]["validations"][0]["message"].as_str().unwrap();
        assert!(message.contains("authority prod") && message.contains("`regent status`"), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }

    #[test]
    fn a_doors_name_stays_one_string_of_cel() {
        for (door, expected) in [
            ("argo", "'argo'"),
            ("it's", r"'it\'s'"),
            ("a'] || true || request.userInfo.username in ['", r"'a\'] || true || request.userInfo.username in [\''"),
            (r"a\", r"'a\\'"),
            (r"a\'", r"'a\\\''"),
            ("a\"b", "'a\"b'"),
            ("a\nb\r\t\0", r"'a\U0000000ab\U0000000d\U00000009\U00000000'"),
            ("ü\u{2028}\u{1f451}", r"'\U000000fc\U00002028\U0001f451'"),
            ("", "''"),
        ] {
            assert_eq!(literal(door), expected);
            let [policy, _] = of("prod", &[door]);
            let expression = format!("request.userInfo.username in [{expected}]");
            assert_eq!(policy["spec"]["matchConditions"][0]["expression"], Value::String(expression));
            assert_eq!(doors_of(&policy), Some(vec![door.to_owned()]));
        }
    }

    #[test]
    fn the_doors_of_a_lock_are_read_back_and_a_lock_of_another_hand_has_none() {
        for doors in [vec![], vec!["a"], vec!["a", "b', 'c", ""]] {
            let [policy, _] = of("prod", &doors);
            assert_eq!(doors_of(&policy), Some(doors.iter().map(|&door| door.to_owned()).collect()));
        }
        for expression in ["true", "request.userInfo.username in ['a'] && false", "request.userInfo.username in ['a',]"]
        {
            let policy = json!({ "spec": { "matchConditions": [{ "name": "door", "expression": expression }] } });
            assert_eq!(doors_of(&policy), None, "{expression}");
        }
        let [mut policy, _] = of("prod", &["a"]);
        policy["spec"]["matchConditions"].as_array_mut().unwrap().push(json!({ "name": "off", "expression": "false" }));
        assert_eq!(doors_of(&policy), None);
    }
}
