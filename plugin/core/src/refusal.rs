//! Why nothing is rendered: one enum for this room. Names, files and rules; never a value.

use crate::authority::AuthorityRefusal;
use crate::bootstrap::BootstrapError;
use crate::files::FilesError;
use crate::flux::reach::Obstacle;
use crate::gate::GateProblem;
use crate::name::{FilePath, SecretName};
use crate::rules::RuleRefusal;
use crate::secret::SecretProblem;

/// Every reason for an answer without manifests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// P0..P6.
    #[error(transparent)]
    Authority(#[from] AuthorityRefusal),
    /// `regent.yaml` is not what it should be.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// No rule of the operator's file allows the request.
    #[error(transparent)]
    Rule(#[from] RuleRefusal),
    /// The folder holds what regent does not render.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// One document stops the whole answer.
    #[error("{file}: {problem}")]
    Document {
        /// The file, relative to the root.
        file: FilePath,
        /// What is wrong in it.
        problem: DocumentProblem,
    },
    /// Values were asked for where no authority was.
    #[error("values are written only when the authority was asked")]
    Unasked,
    /// A Flux Kustomization builds something that regent does not follow.
    #[error("{0}")]
    Obstacle(Box<Obstacle>),
    /// No key can be derived to wrap data keys with.
    #[error("no identity of the rule has a secret that regent could derive a wrapping key from")]
    NoWrappingKey,
    /// Nobody waits for the answer any more ([`regent_sops::Stop`]).
    #[error("it was not rendered in time")]
    Stopped,
}

/// What is wrong with one document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentProblem {
    /// It does not open or parse.
    #[error(transparent)]
    Sops(#[from] regent_sops::Error),
    /// It is no valid Secret.
    #[error(transparent)]
    Secret(#[from] SecretProblem),
    /// The output gate holds it back.
    #[error(transparent)]
    Gate(#[from] GateProblem),
    /// It is no Kubernetes object: no `apiVersion`, `kind` or `metadata.name`.
    #[error("line {line}: it is no Kubernetes object: `{field}` is missing or not text")]
    NotAnObject {
        /// The missing field.
        field: &'static str,
        /// Where the document starts, 0 where unknown.
        line: u32,
    },
    /// Only the MAC of the encrypted values is there, and `regent.yaml` does not allow that.
    #[error("its MAC covers the encrypted values alone (`mac_only_encrypted`)")]
    MacOnlyEncrypted,
    /// A Secret in the clear that `secrets.plain` does not list.
    #[error("Secret {0} stands in the clear")]
    ClearSecret(SecretName),
    /// Encrypted, of another kind than Secret, and the kind is not listed.
    #[error("it is an encrypted {kind}; only Secrets may be encrypted unless `secrets.kinds` lists the kind")]
    EncryptedKind {
        /// The kind.
        kind: String,
    },
    /// No namespace in the document and none in `secrets.namespace`.
    #[error("{kind} `{name}` has no namespace, and `secrets.namespace` gives none")]
    NoNamespace {
        /// The kind.
        kind: String,
        /// The object's name.
        name: String,
    },
    /// kustomize would change more of it than its namespace.
    #[error("it is a {kind}, and the `namespace` of its kustomization would change more of it than its namespace")]
    KustomizationNamespace {
        /// The kind.
        kind: String,
    },
    /// The rule does not allow the namespace.
    #[error("namespace `{namespace}` is not allowed by the rule")]
    NamespaceNotAllowed {
        /// The effective namespace.
        namespace: String,
    },
    /// Two objects with one identity.
    #[error("{identity} stands in {other} too")]
    TwoObjects {
        /// `kind namespace/name`.
        identity: String,
        /// The other file.
        other: FilePath,
    },
    /// Encrypted, Vault rules, and the list of handed-over documents does not name it.
    #[error("it is encrypted, and the handover does not list it")]
    NotListed,
    /// Encrypted, Vault rules, the list is unreadable, and its identity is encrypted.
    #[error("it is encrypted whole, and the list that would name it is not readable")]
    IdentityEncrypted,
    /// Encrypted or a generator with encrypted inputs, reached by a Flux Kustomization, and not in the root that `regent.yaml`
    /// speaks for.
    #[error("it is encrypted, or makes a Secret of what is, and the Kustomization reaches it outside the root")]
    OutsideRoot,
    /// Encrypted, and two Flux Kustomizations would apply it.
    #[error("it is encrypted, and two Kustomizations apply it: {one} and {other}")]
    AppliedTwice {
        /// The first, as it is told.
        one: String,
        /// The second.
        other: String,
    },
    /// Encrypted, in a root that Flux delivers, and no Kustomization reaches it.
    #[error("it is encrypted, and none of the Kustomizations that apply its root applies it")]
    NotApplied,
    /// Encrypted, and used in a way that a handover does not know.
    #[error("it is encrypted and {what}, which cannot be handed over")]
    NotHandedOver {
        /// The use.
        what: &'static str,
    },
    /// It is what a `secretGenerator` makes of encrypted inputs, and regent does not make it.
    #[error("`secretGenerator` with encrypted inputs: {0}")]
    Generator(#[from] GeneratorProblem),
    /// An input of a generator.
    #[error("{file}: {problem}")]
    Input {
        /// The file.
        file: FilePath,
        /// What is wrong in it.
        problem: Box<DocumentProblem>,
    },
    /// A Secret in clear text of which a build makes several: each has another name, and rules of its own.
    #[error("it holds a Secret in clear text, and the build makes several of it")]
    SeveralPlaces,
    /// A file that is encrypted as a whole would have the name of another one.
    #[error("decrypted it would have the name of another file beside it")]
    NameTaken,
    /// A key stands twice where a reader would keep one.
    #[error("line {line}: key `{key}` stands twice in one mapping")]
    DuplicateKey {
        /// The key.
        key: String,
        /// Where the second stands.
        line: u32,
    },
    /// A `<<` that does not merge.
    #[error("line {line}: `<<` expects a mapping or a list of mappings")]
    BadMerge {
        /// Where.
        line: u32,
    },
}

/// Why regent does not make what a `secretGenerator` with encrypted inputs makes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GeneratorProblem {
    /// No file could have its name below it.
    #[error("its name is none that a file could have")]
    Name,
    /// Nothing says where the Secret goes, and kustomize would find nobody who refers to it.
    #[error("it has no namespace, and the build gives it none")]
    NoNamespace,
    /// An input in clear text that no handover would see change.
    #[error("an input of it lies outside the root")]
    InputOutsideRoot,
    /// kustomize-controller decrypts it as something whose lines are no `KEY=value`.
    #[error("{file} is encrypted and stands under `envs`, where only dotenv makes sense")]
    NotDotenv {
        /// The file.
        file: FilePath,
    },
    /// Versions of SOPS, and SOPS and regent, put it into different places, so the hash would depend on them.
    #[error("{file} has a comment behind a value or out of its column, which SOPS may decrypt to another place")]
    Comments {
        /// The file.
        file: FilePath,
    },
    /// Where regent would put the Secret is something else.
    #[error("`regent-generated` lies beside its kustomization, and that is the folder that regent makes")]
    FolderTaken,
    /// Two entries whose Secrets could not be told apart.
    #[error("two entries of its kustomization have this name")]
    Twice,
    /// kustomize refuses it.
    #[error("a key is given twice")]
    KeyTwice,
    /// kustomize refuses it.
    #[error("a literal is no `key=value`")]
    BadLiteral,
    /// kustomize refuses it.
    #[error("a line of an `envs` file is no text in UTF-8")]
    NotText,
    /// kustomize reads none of what follows, and says nothing.
    #[error("a line of an `envs` file has 64 KiB or more, and kustomize reads none of what follows")]
    LongLine,
    /// Nobody could bring it back: `regent restore` reads a folder and follows no build.
    #[error("`secrets.permanent` lists it, and `regent restore` could not bring it back")]
    Permanent,
    /// Which of them it made is not known without its plaintext.
    #[error("the handover lists several Secrets that it may have made")]
    Ambiguous,
}

impl GeneratorProblem {
    /// What a person can do about it, for a hint.
    pub fn way_out(&self) -> &'static str {
        match self {
            Self::Name | Self::Twice => "give it a name of its own",
            Self::NoNamespace => "give its kustomization a `namespace`, or the Kustomization a `targetNamespace`",
            Self::InputOutsideRoot => "copy the input into the root",
            Self::NotDotenv { .. } => "encrypt it as dotenv, or list it under `files`",
            Self::Comments { .. } => "put each comment on a line of its own, above what it is about",
            Self::FolderTaken => "give that folder another name",
            Self::KeyTwice | Self::BadLiteral | Self::NotText | Self::LongLine => {
                "correct it; `kustomize build` shows what it makes"
            }
            Self::Permanent => "make it a Secret of its own among the `resources`",
            Self::Ambiguous => "move it back to where it was handed over",
        }
    }
}
