//! Why a request gets nothing. One plain sentence each: kustomize-controller wraps lines at 60 columns and glues a second
//! sentence to the first. What the sentences are worth as statuses and codes is in `failure.rs`.

use regent_core::flux::release::Withheld;
use regent_core::name::AuthorityName;
use regent_sops::WrapProblem;

/// Why the endpoint does not answer with what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    /// Core says no.
    #[error(transparent)]
    Withheld(#[from] Withheld),
    /// No token, or none of that engine; or no such engine. Which of them is for nobody to know who has no token.
    #[error(
        "no such key, or the token is none of its namespace's: look at the Secret that `decryption.secretRef` names"
    )]
    Stranger,
    /// A namespace of Vault Enterprise, or of OpenBao.
    #[error("regent has no Vault namespaces: unset VAULT_NAMESPACE")]
    VaultNamespace,
    /// The document's key is authentic for nobody here.
    #[error("the document's data key {0}: its artifact has to be built again")]
    Wrapped(WrapProblem),
    /// The rule's identities cannot be used.
    #[error("regent cannot use the identities of {0}: its log tells why")]
    NoKeys(AuthorityName),
    /// The operator's file was never readable.
    #[error("regent cannot use its configuration: its log tells why")]
    NoConfig,
    /// What is to be encrypted is no data key.
    #[error("`plaintext` expects a data key, 32 bytes in base64")]
    NoDataKey,
    /// A login was not taken.
    #[error(transparent)]
    Login(#[from] LoginProblem),
    /// The API server does not say whose a JWT is.
    #[error("the API server does not say right now whose the token is; it is asked again")]
    NoReview,
    /// It took too long.
    #[error("the answer was not ready in time; it is asked again")]
    Late,
    /// No JSON of the right shape.
    #[error("the body is not what is asked for here: a JSON object with {0}")]
    Body(&'static str),
    /// More bytes than are read.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The body did not come whole.
    #[error("the body was cut off")]
    CutOff,
    /// Another path.
    #[error("regent answers `decrypt`, `encrypt` and `login` alone")]
    NoRoute,
    /// Another method.
    #[error("regent answers PUT and POST alone")]
    Method,
}

/// Why a service account is not logged in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoginProblem {
    /// No token of a service account, expired, for another audience, or not this cluster's.
    #[error("the JWT is none of a service account of this cluster for the audience {audience}")]
    NotAuthentic {
        /// `flux.endpoint`.
        audience: String,
    },
    /// Another role than the account's own.
    #[error("the role is not the account's own, `<namespace>_<name>`")]
    OtherRole,
    /// kustomize-controller itself.
    #[error("kustomize-controller's own account stands for every namespace: set `decryption.serviceAccountName`")]
    Controller,
    /// No entry of the operator's file lets accounts of this namespace in.
    #[error("no Kustomization of namespace {namespace} has `serviceAccount: true` in regent's configuration")]
    NotConfigured {
        /// The account's.
        namespace: String,
    },
    /// The API server does not let regent ask.
    #[error("the API server does not let regent review tokens: its account needs `create` on `tokenreviews`")]
    NotAllowed,
    /// The authority's store is a folder.
    #[error("without a cluster there is nobody to ask whose a JWT is")]
    NoCluster,
}
