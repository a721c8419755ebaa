//! Why a tree is not handed over: where, which rule, and the way out.

use crate::name::FilePath;
use std::fmt;

/// One reason. Display names the place and the rule, [`Obstacle::way_out`] what a person can do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{site}: {rule}")]
pub struct Obstacle {
    /// Where.
    pub site: Site,
    /// What.
    pub rule: Rule,
}

/// Where an obstacle stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// In a file of the repository.
    File {
        /// The file.
        file: FilePath,
        /// The line, 0 where unknown.
        line: u32,
    },
    /// In the Flux Kustomization.
    Spec {
        /// The field of its `spec`.
        field: &'static str,
    },
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line: 0 } => write!(f, "{}", file.as_str()),
            Self::File { file, line } => write!(f, "{}:{line}", file.as_str()),
            Self::Spec { field } => write!(f, "`spec.{field}` of the Flux Kustomization"),
        }
    }
}

/// A rule that is broken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Rule {
    /// A kustomization that does not say what it should.
    #[error("{problem}")]
    Kustomization {
        /// Naming the field.
        problem: String,
    },
    /// Two kustomizations in one folder.
    #[error("`{other}` stands beside it; kustomize refuses two")]
    TwoKustomizations {
        /// The other file's name.
        other: String,
    },
    /// An entry that is not followed.
    #[error("`{path}` {problem}")]
    Listed {
        /// The entry as written.
        path: String,
        /// Why.
        problem: Listing,
    },
    /// A field that can change encrypted documents in ways that are not followed.
    #[error("`{field}` can change an encrypted document, and regent does not follow what it does")]
    Field {
        /// The field.
        field: &'static str,
    },
    /// A label or annotation that decides what becomes of an encrypted document.
    #[error("`{field}` puts `{key}` on an encrypted document")]
    Mark {
        /// The field.
        field: &'static str,
        /// The key.
        key: String,
    },
    /// A patch or generator that changes an encrypted document.
    #[error("{object} is encrypted, and this may change more of it than labels and annotations: {problem}")]
    Changed {
        /// Which document.
        object: String,
        /// What is done to it.
        problem: String,
    },
    /// A patch that keeps documents from being decrypted, where one form of it is known to be safe.
    #[error("one of them turns decryption off, and only `- {entry}` lets go, as the last of them and once Vault rules")]
    Undecrypted {
        /// [`entry`](crate::flux::patches::entry).
        entry: String,
    },
    /// A patch that stays encrypted.
    #[error("{problem}")]
    Patch {
        /// Why.
        problem: String,
    },
    /// An encrypted file that stays encrypted, or whose plaintext goes elsewhere.
    #[error("{file} is encrypted: {problem}")]
    Input {
        /// The encrypted file.
        file: FilePath,
        /// Why not.
        problem: String,
    },
    /// An encrypted file that becomes two objects.
    #[error("it is encrypted, and the build reads it more than once")]
    ReachedTwice,
    /// A file of objects that cannot be read, or an encrypted document that says what it may not.
    #[error("{problem}")]
    Document {
        /// The rule.
        problem: String,
    },
    /// An encrypted document that becomes no object of its own.
    #[error("{object} is encrypted, and of what it becomes {problem}")]
    Becomes {
        /// The document as its file says.
        object: String,
        /// What is wrong.
        problem: String,
    },
    /// A generated name whose hash a stub cannot repeat.
    #[error("the Secret `{name}` is encrypted and named by a hash, and a `nameSuffix` stands before the hash")]
    HashBehindSuffix {
        /// The generator's name.
        name: String,
    },
    /// A build beyond all bounds.
    #[error("the build asks for more steps than any tree that a person wrote")]
    TooMuch,
}

/// Why an entry is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Listing {
    /// An absolute path.
    #[error("is an absolute path")]
    Absolute,
    /// Too many `..`.
    #[error("leaves the repository")]
    Leaves,
    /// A URL, or what kustomize takes for one.
    #[error("is remote, and what it holds is not seen here")]
    Remote,
    /// Nothing there.
    #[error("is neither a file nor a folder of the repository")]
    NotThere,
    /// There, and too large, no file, or not gathered.
    #[error("was not read")]
    NotRead,
    /// A folder without a kustomization.
    #[error("is a folder without a kustomization.yaml")]
    NoKustomization,
    /// A folder that holds one that lists it.
    #[error("holds the folder that lists it")]
    Cycle,
    /// Kustomizations inside each other beyond the bound.
    #[error("lies too deep in other kustomizations")]
    TooDeep,
    /// A component among the resources.
    #[error("is a Component, which belongs under `components`")]
    Component,
    /// A kustomization among the components.
    #[error("is no Component, which `components` expects")]
    NoComponent,
}

impl Obstacle {
    /// What a person can do about it, for a hint.
    pub fn way_out(&self) -> &'static str {
        match &self.rule {
            Rule::Kustomization { .. } => "correct the field, or remove it; `kustomize build` shows what it does",
            Rule::TwoKustomizations { .. } => "keep one of the two",
            Rule::Listed { problem, .. } => problem.way_out(),
            Rule::Field { .. } => {
                "commit what `kustomize build` makes of that field, or move the encrypted documents into a Flux \
                 Kustomization without it"
            }
            Rule::Mark { .. } => "remove that key; regent sets it where it is needed",
            Rule::Changed { .. } => {
                "write the change into the encrypted document itself, or narrow `target` by a literal `kind` or `name`"
            }
            Rule::Undecrypted { .. } => "commit that entry after the handover, and no other with `decrypt: disabled`",
            Rule::Patch { .. } => "put the patch into a file under `patches`, and encrypt that with `sops`",
            Rule::Input { .. } => {
                "make it a Secret of its own among the `resources`, or an input of `secretGenerator` whose key ends \
                 as the file does"
            }
            Rule::ReachedTwice => "list it once; where two overlays need it, give each a copy encrypted for itself",
            Rule::Document { .. } => "correct the document",
            Rule::Becomes { .. } => {
                "correct `metadata`, or what renames it on the way; `${..}` of `spec.postBuild` cannot stand in names"
            }
            Rule::HashBehindSuffix { .. } => {
                "set `disableNameSuffixHash: true` in the generator's `options`, or remove the `nameSuffix`"
            }
            Rule::TooMuch => "split the tree over several Flux Kustomizations",
        }
    }
}

impl Listing {
    fn way_out(self) -> &'static str {
        match self {
            Self::Absolute => "write it relative to the kustomization's folder",
            Self::Leaves | Self::NotThere => "correct the path, or commit what it names",
            Self::NotRead => "make it a file of ordinary size",
            Self::Remote => "commit a copy of it, or give it a Flux Kustomization of its own",
            Self::NoKustomization => "add a kustomization.yaml there, or list its files",
            Self::Cycle | Self::TooDeep => "list the folders that are needed from the outermost kustomization",
            Self::Component => "list it under `components`",
            Self::NoComponent => "list it under `resources`",
        }
    }
}
