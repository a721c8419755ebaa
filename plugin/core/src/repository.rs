//! Repository URLs: which are the same repository, and how one is shown.
//!
//! The same are those that Argo CD takes for the same (`SameURL` in its `util/git`), because its projects decide by
//! that which repositories an Application may name: blanks around it, case, one `.git` at the end, `ssh://` and the
//! form `git@host:path` do not count; scheme, user, port, query, a slash at the end and `..` do. Percent signs are read
//! as Go's `net/url` reads and writes them. Where regent is not sure what Argo CD would say (text outside ASCII,
//! fragments, IPv6 addresses, what is no URL at all) the two have to be the same text; so have `oci://` references.

/// A repository's URL, read once: with many rules, reading them anew for every request would be most of its cost.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repository {
    text: String,
    /// One text for all URLs of a repository; `None` where only the same text is the same.
    normal: Option<String>,
}

impl Repository {
    /// Reads the URL; every text is one.
    pub fn new(text: &str) -> Self {
        Self { text: text.to_owned(), normal: normal(text) }
    }

    /// As it was written. It may hold a credential: [`shown`] does not.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether both name the same repository.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.normal, &other.normal) {
            (Some(one), Some(other)) => one == other,
            (None, None) => !self.text.is_empty() && self.text == other.text,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Repository({})", shown(&self.text))
    }
}

/// The URL without what may be a credential: user, password, query and fragment. Where it cannot be told which is
/// which, nothing but the scheme is left.
pub fn shown(repo: &str) -> String {
    let (scheme, rest) = repo.split_once("://").map_or(("", repo), |(scheme, rest)| (scheme, rest));
    let separator = if scheme.is_empty() { "" } else { "://" };
    let (head, query) = rest.split_once(['?', '#']).unwrap_or((rest, ""));
    // A password may hold any of these characters unescaped.
    if scheme.contains(['@', '?', '#', '/']) || query.contains('@') {
        return "(a URL)".to_owned();
    }
    match head.rsplit_once('@') {
        Some((_, place)) => format!("{scheme}{separator}..@{place}"),
        None => format!("{scheme}{separator}{head}"),
    }
}

/// What [`Repository`] compares.
fn normal(repo: &str) -> Option<String> {
    let mut url = repo.trim().to_ascii_lowercase();
    if !url.is_ascii() || url.bytes().any(|byte| byte.is_ascii_control()) || url.starts_with("oci://") {
        return None;
    }
    if !url.starts_with("ssh://") && is_scp_like(&url) {
        url = format!("ssh://{}", url.replacen(':', "/", 1));
    }
    let url = rewritten(url.strip_suffix(".git").unwrap_or(&url)).filter(|url| !url.is_empty())?;
    Some(url.strip_prefix("ssh://").map_or_else(|| url.clone(), str::to_owned))
}

/// `git@host:path`: text, one last `@`, text; neither `/` nor `:` before it.
fn is_scp_like(url: &str) -> bool {
    url.rsplit_once('@').is_some_and(|(user, place)| !user.contains(['/', ':']) && !place.is_empty())
}

/// What Go makes of a lower-case ASCII URL that it parses and writes again.
fn rewritten(url: &str) -> Option<String> {
    let (url, fragment) = url.split_once('#').unwrap_or((url, ""));
    if !fragment.is_empty() {
        return None;
    }
    let (before, query) = url.split_at_checked(url.find('?').unwrap_or(url.len()))?;
    let Some((scheme, rest)) = before.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else {
        let first = before.split('/').next().unwrap_or_default();
        let is_plain = !first.contains(':') && !before.starts_with("//") && path(before)? == before;
        return is_plain.then(|| url.to_owned());
    };
    if !rest.starts_with('/') {
        return Some(url.to_owned());
    }
    let Some(rest) = rest.strip_prefix("//") else {
        return Some(format!("{scheme}:{}{query}", path(rest)?));
    };
    if rest.is_empty() {
        return None;
    }
    let (place, below) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len()))?;
    let place = match place.rsplit_once('@') {
        Some((user, place)) => format!("{}@{}", user_info(user)?, host(place)?),
        None => host(place)?.to_owned(),
    };
    Some(format!("{scheme}://{place}{}{query}", path(below)?))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// A name or an IPv4 address, with or without a port.
fn host(text: &str) -> Option<&str> {
    let (name, port) = text.split_once(':').unwrap_or((text, ""));
    let is_name = name.bytes().all(|byte| is_unreserved(byte) || b"!$&'()*+,;=".contains(&byte));
    (is_name && port.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

fn user_info(text: &str) -> Option<String> {
    let keeps = |byte: u8| is_unreserved(byte) || b"$&+,;=".contains(&byte);
    if !text.bytes().all(|byte| keeps(byte) || b":!'()*%@".contains(&byte)) {
        return None;
    }
    match text.split_once(':') {
        Some((user, password)) => Some(format!("{}:{}", escaped(user, keeps)?, escaped(password, keeps)?)),
        None => escaped(text, keeps),
    }
}

/// A path stays as it is where it could have been written so; otherwise it is written anew.
fn path(text: &str) -> Option<String> {
    let keeps = |byte: u8| is_unreserved(byte) || b"$&+,/:;=@".contains(&byte);
    let written_anew = escaped(text, keeps)?;
    let could_be = text.bytes().all(|byte| keeps(byte) || b"!'()*[]%".contains(&byte));
    Some(if could_be { text.to_owned() } else { written_anew })
}

/// `%41` and such resolved, then everything escaped but the bytes that `keeps` names. `None`: a `%` without its two
/// digits.
fn escaped(text: &str, keeps: impl Fn(u8) -> bool) -> Option<String> {
    let mut bytes = text.bytes();
    let mut written = String::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' { hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)? } else { byte };
        if keeps(byte) {
            written.push(char::from(byte));
        } else {
            written.extend(['%', hex_letter(byte >> 4), hex_letter(byte & 15)]);
        }
    }
    Some(written)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn hex_letter(digit: u8) -> char {
    char::from_digit(u32::from(digit), 16).unwrap_or_default().to_ascii_uppercase()
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each pair as Argo CD 3.6.1 answers, apart from those that are named so.
    fn same(left: &str, right: &str) -> bool {
        Repository::new(left).is_same(&Repository::new(right))
    }

    #[test]
    fn the_same_are_those_that_argo_cd_takes_for_the_same() {
        for (left, right) in [
            ("https://git.example/infra", "https://git.example/infra.git"),
            ("https://GIT.example/Infra.GIT", "https://git.example/infra"),
            (" \thttps://git.example/infra\n", "https://git.example/infra"),
            ("https://git.example:8443/infra", "https://git.example:8443/infra.git"),
            ("git@git.example:org/infra.git", "ssh://git@git.example/org/infra"),
            ("git@git.example:infra", "ssh://git@git.example/infra.git"),
            ("git@git.example:org/infra", "git@git.example/org/infra"),
            ("https://git.example/a b", "https://git.example/a%20b"),
            ("https://git.example/my%2Fproject", "https://git.example/my%2fproject"),
            ("https://us%65r@git.example/infra", "https://user@git.example/infra"),
            ("https://user:p%2ds@git.example/infra", "https://user:p-s@git.example/infra"),
            ("https://git.example/infra#", "https://git.example/infra"),
            ("https://git.example/infra/", "https://git.example/infra/"),
            ("file:///srv/infra.git", "file:///srv/infra"),
            ("/srv/infra.git", "/srv/infra"),
            ("charts.example/org/chart", "charts.example/Org/chart"),
            ("https://git.example/%zz", "https://git.example/%zz"),
            ("https://git.example/größe", "https://git.example/größe"),
            ("https://[2001:db8::1]/infra", "https://[2001:db8::1]/infra"),
            ("oci://registry.example/org/manifests", "oci://registry.example/org/manifests"),
        ] {
            assert!(same(left, right) && same(right, left), "{left} {right}");
        }
    }

    #[test]
    fn no_trick_makes_another_repository_the_same() {
        let rule = "https://git.example/infra.git";
        for asked in [
            "",
            "https://git.example/infra.git@evil.example",
            "https://git.example/infra.git@evil.example/infra.git",
            "https://git.example@evil.example/infra.git",
            "https://git.example:443/infra.git",
            "https://git.example:/infra.git",
            "https://git.example:infra.git",
            "https://git.example./infra.git",
            "https://user:token@git.example/infra.git",
            "https://@git.example/infra.git",
            "http://git.example/infra.git",
            "ssh://git.example/infra.git",
            "git@git.example:infra.git",
            "https:/git.example/infra.git",
            "https:///git.example/infra.git",
            "//git.example/infra.git",
            "git.example/infra.git",
            "https://git.example//infra.git",
            "https://git.example/infra.git/",
            "https://git.example/infra/",
            "https://git.example/infra.git.git",
            "https://git.example/infra.git?",
            "https://git.example/infra?.git",
            "https://git.example/infra.git#.git",
            "https://git.example/infra.git#x",
            "https://git.example/x/../infra.git",
            "https://git.example/./infra.git",
            "https://git.example/%2e/infra.git",
            "https://git.example/%69nfra.git",
            "https://git%2eexample/infra.git",
            "https://git.example%2finfra.git",
            "https://git.example\\infra.git",
            "https://git.example/infra\u{0}.git",
            "https://git.example/in\nfra.git",
            "https://git.example/\u{131}nfra.git",
            "https://gıt.example/infra.git",
            "oci://git.example/infra.git",
            "%68ttps://git.example/infra.git",
        ] {
            assert!(!same(rule, asked) && !same(asked, rule), "{asked}");
        }
    }

    #[test]
    fn an_oci_reference_is_the_same_text_or_another() {
        for other in
            ["oci://registry.example/ORG/m", "OCI://registry.example/org/m", "oci://registry.example/org/m.git"]
        {
            assert!(!same("oci://registry.example/org/m", other), "{other}");
        }
    }

    /// Argo CD folds case beyond ASCII; here a Kelvin sign is no `k`.
    #[test]
    fn text_outside_ascii_is_the_same_text_or_another() {
        assert!(!same("https://git.example/\u{212a}eys", "https://git.example/keys"));
        assert!(!same("https://git.example/GRÖSSE", "https://git.example/grösse"));
        assert!(!same("https://[2001:DB8::1]/infra", "https://[2001:db8::1]/infra"));
    }

    #[test]
    fn nothing_that_may_be_a_credential_is_shown() {
        for (repo, text) in [
            ("https://git.example/infra.git", "https://git.example/infra.git"),
            ("https://user:canary@git.example/infra", "https://..@git.example/infra"),
            ("https://canary@git.example/infra", "https://..@git.example/infra"),
            ("https://user:can/ary@git.example/infra", "https://..@git.example/infra"),
            ("https://user:can@ary@git.example/infra", "https://..@git.example/infra"),
            ("git@git.example:org/infra", "..@git.example:org/infra"),
            ("https://git.example/infra?token=canary", "https://git.example/infra"),
            ("https://git.example/infra#canary", "https://git.example/infra"),
            ("https://git.example/infra?token=can@ary", "(a URL)"),
            ("https://user:can?ary@git.example/infra", "(a URL)"),
            ("user:canary@git.example://x", "(a URL)"),
            ("infra", "infra"),
        ] {
            assert_eq!(shown(repo), text, "{repo}");
        }
    }
}
