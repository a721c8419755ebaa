//! Git's side: what a front door answers for a revision now, whether permanent documents are what Vault holds, and which
//! values of its history still are.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal as _, Write as _};

use regent_core::authority::{self, Ruling};
use regent_core::evidence::{Evidence, ListedClass, ListedDocument};
use regent_core::name::{FilePath, SecretName};
use regent_core::render;
use regent_core::verify::{Exposed, History, InGit, Rendering, Revision, Values, secrets};
use regent_core::{DocumentProblem, Refusal};

use super::super::root::Root;
use super::Run;
use super::beside::Fields;
use crate::failure::Failure;
use crate::source::git;

impl Run<'_> {
    pub(super) async fn revision(
        &self,
        root: &Root,
        evidence: &Evidence,
        listed: &[ListedDocument],
        copies: &BTreeSet<SecretName>,
    ) -> Revision {
        let rendering = rendering(root, evidence).map_err(|refusal| refusal.to_string());
        if root.identities.keyring.is_empty() {
            return Revision { rendering, permanent: None };
        }
        let mut permanent = BTreeMap::new();
        let kept =
            listed.iter().filter(|document| document.kind == "Secret" && document.class == ListedClass::Permanent);
        for document in kept.filter(|document| copies.contains(&document.name)) {
            let in_git = match self.copy(&document.name).await {
                Ok(Some(copy)) => compared(root, document, &copy),
                // That the copy is gone is told as that.
                Ok(None) => continue,
                Err(problem) => InGit::Unknown(problem.to_string()),
            };
            permanent.insert(document.name.clone(), in_git);
        }
        Revision { rendering, permanent: Some(permanent) }
    }

    /// Every version of every file that leads to the revision, opened and compared with what Vault holds now.
    pub(super) async fn history(
        &self,
        root: &Root,
        listed: &[ListedDocument],
        copies: &BTreeSet<SecretName>,
    ) -> Result<History, Failure> {
        let permanent: BTreeSet<&SecretName> =
            secrets(listed).filter(|(_, class)| *class == ListedClass::Permanent).map(|(name, _)| name).collect();
        let mut held: BTreeMap<SecretName, Fields> = BTreeMap::new();
        for name in copies.iter().filter(|name| !permanent.contains(name)) {
            let copy = self.copy(name).await.map_err(|problem| self.vault.failed(problem))?;
            held.insert(name.clone(), copy);
        }
        let progress = Progress::new();
        let repository = root.revision()?;
        let folder = root.gathered.root.as_deref().unwrap_or(".");
        let versions = git::versions(repository, folder, |commits| progress.told("commits read", commits, None))?;
        let mut seen = Seen {
            history: History { commits: versions.commits, cut: versions.cut, ..History::default() },
            opened: BTreeMap::new(),
        };
        let all = versions.files.len();
        for (number, ((path, blob), commits)) in versions.files.into_iter().enumerate() {
            progress.told("versions opened", number + 1, Some(all));
            let version = git::version(repository, blob, root.limits().document)?;
            let files = root.gathered.files.other_version(&path, version);
            let ruling = Ruling::unasked();
            match render::compared(&root.request_of(&files, &ruling)) {
                Ok(found) => {
                    for copy in found.iter().filter(|copy| copy.is_copied() && !permanent.contains(copy.name())) {
                        let keys = match held.get(copy.name()) {
                            Some(Some(fields)) => copy.keys_in(fields),
                            Some(None) | None => None,
                        };
                        seen.opens(&path, Some(copy.name().clone()), &commits, keys);
                    }
                }
                Err(refusal) => seen.refused(&path, &commits, &refusal),
            }
        }
        progress.over();
        Ok(seen.told())
    }
}

/// What a front door answers: the same function, by the same evidence.
fn rendering(root: &Root, evidence: &Evidence) -> Result<Rendering, Refusal> {
    let (holder, place) = (evidence.holder(), root.place(evidence));
    let ruling =
        authority::rule(&root.bootstrap, &place, &holder, evidence.documents_of(&holder))?.settled_by(evidence);
    let manifests = render::render(&root.request(&ruling))?;
    let with_values = manifests.iter().filter(|manifest| manifest.holds_values());
    Ok(Rendering {
        documents: manifests.len(),
        with_values: with_values.map(|manifest| manifest.identity().to_string()).collect(),
    })
}

fn compared(root: &Root, document: &ListedDocument, copy: &BTreeMap<String, Option<regent_sops::Plaintext>>) -> InGit {
    let name = &document.name;
    match render::one(&root.request(&Ruling::unasked()), name, &document.path) {
        Ok(Some(manifest)) => {
            let encoding = root.bootstrap.secrets.encoding.get(name).copied();
            if manifest.has_fields(copy, encoding) { InGit::Same } else { InGit::Differs }
        }
        Ok(None) => InGit::Absent,
        Err(refusal) => InGit::Unknown(refusal.to_string()),
    }
}

/// What was seen of history so far.
struct Seen {
    history: History,
    /// By file and Secret.
    opened: BTreeMap<(FilePath, Option<SecretName>), Opened>,
}

/// One document that opens.
#[derive(Default)]
struct Opened {
    /// Commits with values that Vault still holds, or that nobody can compare.
    commits: BTreeSet<String>,
    /// `None` where Vault holds no copy.
    keys: Option<BTreeSet<String>>,
}

impl Seen {
    fn opens(&mut self, file: &FilePath, name: Option<SecretName>, commits: &[String], keys: Option<BTreeSet<String>>) {
        let opened = self.opened.entry((file.clone(), name)).or_default();
        if keys.as_ref().is_none_or(|keys| !keys.is_empty()) {
            opened.commits.extend(commits.iter().cloned());
        }
        if let Some(keys) = keys {
            opened.keys.get_or_insert_default().extend(keys);
        }
    }

    fn refused(&mut self, file: &FilePath, commits: &[String], refusal: &Refusal) {
        use regent_sops::Error;
        match refusal {
            Refusal::Document { problem: DocumentProblem::ClearSecret(_), .. } => {
                self.opens(file, None, commits, None);
            }
            Refusal::Document {
                problem: DocumentProblem::Sops(Error::NoKey(_) | Error::TooFewParts { .. }), ..
            } => {
                self.history.closed += 1;
            }
            Refusal::Document { .. }
            | Refusal::Authority(_)
            | Refusal::Bootstrap(_)
            | Refusal::Rule(_)
            | Refusal::Files(_)
            | Refusal::Unasked
            | Refusal::Obstacle(_)
            | Refusal::NoWrappingKey
            | Refusal::Stopped => self.history.unclear += 1,
        }
    }

    fn told(self) -> History {
        let exposed = |((file, name), Opened { commits, keys }): ((FilePath, Option<SecretName>), Opened)| {
            let values = match keys {
                None => Values::Unknown,
                Some(keys) if keys.is_empty() => Values::Rotated,
                Some(keys) => Values::InUse(keys),
            };
            Exposed { file, name, commits: commits.into_iter().collect(), values }
        };
        History { opened: self.opened.into_iter().map(exposed).collect(), ..self.history }
    }
}

/// How far it is: one line that is written over, on a terminal alone.
struct Progress {
    terminal: bool,
}

impl Progress {
    fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal() }
    }

    fn told(&self, what: &str, done: usize, all: Option<usize>) {
        if self.terminal && (done.is_multiple_of(EVERY) || Some(done) == all) {
            let mut stderr = std::io::stderr().lock();
            let of = all.map(|all| format!(" of {all}")).unwrap_or_default();
            // Nobody who looks does not stop the work.
            let _ = write!(stderr, "\r{what}: {done}{of}  ").and_then(|()| stderr.flush());
        }
    }

    fn over(&self) {
        if self.terminal {
            let _ = writeln!(std::io::stderr());
        }
    }
}

/// Steps between two lines of progress.
const EVERY: usize = 100;
