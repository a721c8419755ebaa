//! The list of references that a Git server begins with (gitprotocol-pack, "Reference Discovery"; over HTTP behind a
//! line that names the service, gitprotocol-http).

use std::collections::BTreeMap;

use git2::Oid;

use super::RemoteProblem;

/// What a server has.
pub(super) struct Advertised {
    /// References by their full names. Those that are not UTF-8 cannot be asked for, and are left out.
    references: BTreeMap<String, Reference>,
    capabilities: Vec<String>,
}

#[derive(Default)]
struct Reference {
    /// What it names: a commit, or a tag object.
    id: Option<Oid>,
    /// What the tag object stands for in the end.
    peeled: Option<Oid>,
}

/// A reference to be asked for, and the commit behind it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tip {
    pub(super) reference: String,
    pub(super) id: Oid,
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// A branch or tag that is there.
    Tip(Tip),
    /// A commit by its id: the server says that it gives those.
    Commit(Oid),
    /// All branches and tags, because a commit somewhere in them is wanted and cannot be asked for.
    Everything(Oid),
}

impl Want {
    pub(super) fn id(&self) -> Oid {
        match self {
            Self::Tip(Tip { id, .. }) | Self::Commit(id) | Self::Everything(id) => *id,
        }
    }
}

impl Advertised {
    /// Reads the list; `None` where it is none.
    pub(super) fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut advertised = Self { references: BTreeMap::new(), capabilities: Vec::new() };
        let mut is_first = true;
        loop {
            let (length, rest) = bytes.split_at_checked(4)?;
            let length = usize::from_str_radix(std::str::from_utf8(length).ok()?, 16).ok()?;
            if length == 0 {
                // Over HTTP the service's line ends with one of these too.
                if is_first {
                    bytes = rest;
                    continue;
                }
                return Some(advertised);
            }
            let (line, rest) = rest.split_at_checked(length.checked_sub(4)?)?;
            bytes = rest;
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            if line.starts_with(b"# service=") {
                continue;
            }
            let (line, capabilities) = match line.iter().position(|byte| *byte == 0) {
                Some(end) if is_first => (&line[..end], &line[end + 1..]),
                Some(_) | None => (line, &[][..]),
            };
            if is_first {
                let words = String::from_utf8_lossy(capabilities);
                advertised.capabilities = words.split_ascii_whitespace().map(str::to_owned).collect();
                is_first = false;
            }
            advertised.take(line)?;
        }
    }

    fn take(&mut self, line: &[u8]) -> Option<()> {
        let (id, name) = line.split_at_checked(40)?;
        let id = Oid::from_str(std::str::from_utf8(id).ok()?).ok()?;
        let Ok(name) = std::str::from_utf8(name.strip_prefix(b" ")?) else { return Some(()) };
        match name.strip_suffix("^{}") {
            // Of a repository without any reference.
            Some("capabilities") => {}
            Some(tag) => self.references.entry(tag.to_owned()).or_default().peeled = Some(id),
            None => self.references.entry(name.to_owned()).or_default().id = Some(id),
        }
        Some(())
    }

    /// Whether the server says that it can do something.
    pub(super) fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|one| one == capability)
    }

    /// The branch or tag of that name: in full (`refs/..`), `HEAD`, or short where only one of both has it.
    pub(super) fn tip(&self, revision: &str) -> Result<Tip, RemoteProblem> {
        let at = |name: String| {
            let reference = self.references.get(&name)?;
            Some(Tip { id: reference.peeled.or(reference.id)?, reference: name })
        };
        if !git2::Reference::is_valid_name(&format!("refs/heads/{revision}")) {
            return Err(RemoteProblem::NotARevision(revision.to_owned()));
        }
        if revision == "HEAD" || revision.starts_with("refs/") {
            return at(revision.to_owned()).ok_or_else(|| RemoteProblem::NoSuchRevision(revision.to_owned()));
        }
        match (at(format!("refs/heads/{revision}")), at(format!("refs/tags/{revision}"))) {
            (Some(branch), Some(tag)) if branch.id != tag.id => Err(RemoteProblem::Ambiguous(revision.to_owned())),
            (Some(tip), _) | (None, Some(tip)) => Ok(tip),
            (None, None) => Err(RemoteProblem::NoSuchRevision(revision.to_owned())),
        }
    }

    /// The cheapest way to a commit.
    pub(super) fn commit(&self, id: Oid) -> Want {
        let leads = |reference: &Reference| reference.peeled.or(reference.id) == Some(id);
        if let Some((name, _)) = self.references.iter().find(|(_, reference)| leads(reference)) {
            return Want::Tip(Tip { reference: name.clone(), id });
        }
        if self.can("allow-reachable-sha1-in-want") { Want::Commit(id) } else { Want::Everything(id) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "1111111111111111111111111111111111111111";
    const TWO: &str = "2222222222222222222222222222222222222222";
    const THREE: &str = "3333333333333333333333333333333333333333";

    fn id(text: &str) -> Oid {
        Oid::from_str(text).unwrap()
    }

    fn line(text: &[u8]) -> Vec<u8> {
        [format!("{:04x}", text.len() + 4).as_bytes(), text].concat()
    }

    /// A list as gitprotocol-pack shows it.
    fn list(capabilities: &str) -> Vec<u8> {
        let mut lines = line(format!("{ONE} HEAD\0{capabilities}\n").as_bytes());
        lines.extend(line(format!("{ONE} refs/heads/main\n").as_bytes()));
        lines.extend(line(&[ONE.as_bytes(), b" refs/heads/caf\xe9\n"].concat()));
        lines.extend(line(format!("{TWO} refs/tags/v1\n").as_bytes()));
        lines.extend(line(format!("{THREE} refs/tags/v1^{{}}\n").as_bytes()));
        lines.extend(line(format!("{THREE} refs/tags/main\n").as_bytes()));
        lines.extend(b"0000");
        lines
    }

    #[test]
    fn branches_and_tags_are_found_by_name_and_commits_by_id() {
        let over_http = [line(b"# service=git-upload-pack\n"), b"0000".to_vec(), list("shallow ofs-delta")].concat();
        for bytes in [list("shallow ofs-delta"), over_http] {
            let advertised = Advertised::parse(&bytes).unwrap();
            let tip = |revision: &str| advertised.tip(revision).map(|tip| (tip.reference, tip.id));
            assert_eq!(tip("HEAD"), Ok(("HEAD".to_owned(), id(ONE))));
            assert_eq!(tip("refs/heads/main"), Ok(("refs/heads/main".to_owned(), id(ONE))));
            assert_eq!(tip("v1"), Ok(("refs/tags/v1".to_owned(), id(THREE))));
            assert_eq!(tip("main"), Err(RemoteProblem::Ambiguous("main".to_owned())));
            assert_eq!(tip("gone"), Err(RemoteProblem::NoSuchRevision("gone".to_owned())));
            for expression in ["main~1", "main^", ":/fix", "a..b", "HEAD@{1}", "", "*"] {
                assert!(matches!(tip(expression), Err(RemoteProblem::NotARevision(_))), "{expression}");
            }
            assert!(matches!(advertised.commit(id(ONE)), Want::Tip(_)));
            assert!(matches!(advertised.commit(id(TWO)), Want::Everything(_)));
            assert!(advertised.can("shallow") && !advertised.can("shall"));
        }
        let generous = Advertised::parse(&list("allow-reachable-sha1-in-want")).unwrap();
        assert_eq!(generous.commit(id(TWO)), Want::Commit(id(TWO)));
    }

    #[test]
    fn an_empty_repository_has_no_reference_and_garbage_is_no_list() {
        let none = "0000000000000000000000000000000000000000";
        let empty = [line(format!("{none} capabilities^{{}}\0shallow").as_bytes()), b"0000".to_vec()].concat();
        assert!(Advertised::parse(&empty).unwrap().tip("HEAD").is_err());
        for garbage in [&b""[..], b"<html>", b"0001", b"0003x", b"fff0abc", b"0008main0000", &list("")[..90]] {
            assert!(Advertised::parse(garbage).is_none(), "{garbage:?}");
        }
    }
}
