//! A `kustomization.yaml` that only lists `resources` and a `namespace`; any other field is an error.
//!
//! What it says is done as kustomize does it: files come in the listed order, a folder needs a
//! kustomization of its own, the outermost `namespace` replaces the namespace of every object that
//! has one. Where kustomize would change more than `metadata.namespace` (subjects of role bindings, a
//! Namespace's own name, services of webhooks) the document is refused: half of a kustomization is
//! no kustomization.

use crate::files::FilesError;
use crate::name::FilePath;
use crate::object::{self, Meta};
use regent_sops::{Branch, Document, Element, Entry, Format, Leaf, Limits, Node, Scalar};

/// The names that kustomize looks for.
pub const FILE_NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// What a kustomization says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Kustomization {
    /// `namespace`, where it is given and not empty.
    pub(crate) namespace: Option<String>,
    /// `resources` in order; at least one.
    pub(crate) resources: Vec<Resource>,
}

/// One entry of `resources`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    /// The path as written.
    pub(crate) text: String,
    /// The line of `resources`.
    pub(crate) line: u32,
}

/// Parses the file's bytes.
pub(crate) fn parse(file: &FilePath, bytes: &[u8], limits: &Limits) -> Result<Kustomization, FilesError> {
    let read = document(bytes, limits).and_then(|document| read(&document));
    read.map_err(|(line, problem)| FilesError::Kustomization { file: file.clone(), line, problem })
}

/// The one mapping of a kustomization: merge keys resolved, no key twice, never encrypted.
pub(crate) fn document(bytes: &[u8], limits: &Limits) -> Result<Branch, Refused> {
    let tree = match Document::parse(bytes, Format::Yaml, limits) {
        Ok(Document::Clear(tree)) => tree,
        Ok(Document::Sealed(_)) => return Err((0, "a kustomization is never encrypted".to_owned())),
        Err(error) => return Err((0, error.to_string())),
    };
    let mut documents = tree.documents.iter().filter(|document| !document.items.is_empty());
    let Some(document) = documents.next() else { return Err((0, "it is empty".to_owned())) };
    if documents.next().is_some() {
        return Err((0, "it holds several documents".to_owned()));
    }
    object::resolved(document).map_err(|problem| (problem.line, problem.problem.to_string()))
}

/// Whether kustomize takes the text for a repository or a URL.
pub(crate) fn is_remote(resource: &str) -> bool {
    resource.contains("://")
        || resource.contains("git@")
        || resource.contains("github.com")
        || resource.contains("?ref=")
}

/// `resource` seen from `folder`, `.` and `..` taken out; `None` where it leaves the root.
pub(crate) fn resolve(folder: &str, resource: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in resource.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// Whether kustomize's `namespace` changes something of this object that regent does not.
pub(crate) fn changes_more(tree: &Branch, meta: &Meta, namespace: &str) -> bool {
    let differs = |node: &Node, path: &[&str]| match node {
        Node::Map(branch) => text_at(branch, path) != Some(namespace),
        Node::Leaf(_) | Node::List(_) => true,
    };
    let any = |list: Option<&Node>, check: &dyn Fn(&Node) -> bool| match list {
        Some(Node::List(elements)) => elements.iter().any(|element| match element {
            Element::Node(node) => check(node),
            Element::Comment(_) => false,
        }),
        Some(Node::Leaf(_) | Node::Map(_)) | None => false,
    };
    match (meta.group(), meta.kind.as_str()) {
        ("", "Namespace") => meta.name != namespace,
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => any(tree.get("subjects"), &|subject| {
            matches!(subject, Node::Map(branch) if text_at(branch, &["kind"]) == Some("ServiceAccount"))
                && differs(subject, &["namespace"])
        }),
        ("apiregistration.k8s.io", "APIService") => {
            tree.at(&["spec", "service"]).is_some_and(|service| differs(service, &["namespace"]))
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => tree
            .at(&["spec", "conversion", "webhook", "clientConfig", "service"])
            .is_some_and(|service| differs(service, &["namespace"])),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration") => {
            any(tree.get("webhooks"), &|webhook| match webhook {
                Node::Map(branch) => {
                    branch.at(&["clientConfig", "service"]).is_some_and(|service| differs(service, &["namespace"]))
                }
                Node::Leaf(_) | Node::List(_) => false,
            })
        }
        (_, _) => false,
    }
}

/// Whether kustomize's `namePrefix` and `nameSuffix` pass by an object: the names of these kinds say what they are about.
pub(crate) fn keeps_its_name(meta: &Meta) -> bool {
    matches!(
        (meta.group(), meta.kind.as_str()),
        (_, "CustomResourceDefinition" | "Namespace") | ("apiregistration.k8s.io", "APIService")
    )
}

/// Whether objects of this kind stand outside namespaces: kinds that Kubernetes itself serves, in any
/// version (kustomize's own list lacks the newer ones). Like kustomize, regent takes every kind that
/// is not listed for namespaced.
pub(crate) fn is_cluster_scoped(meta: &Meta) -> bool {
    CLUSTER_SCOPED.contains(&(meta.group(), meta.kind.as_str()))
}

const CLUSTER_SCOPED: [(&str, &str); 39] = [
    ("", "ComponentStatus"),
    ("", "Namespace"),
    ("", "Node"),
    ("", "PersistentVolume"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("apiregistration.k8s.io", "APIService"),
    ("authentication.k8s.io", "SelfSubjectReview"),
    ("authentication.k8s.io", "TokenReview"),
    ("authorization.k8s.io", "SelfSubjectAccessReview"),
    ("authorization.k8s.io", "SelfSubjectRulesReview"),
    ("authorization.k8s.io", "SubjectAccessReview"),
    ("certificates.k8s.io", "CertificateSigningRequest"),
    ("certificates.k8s.io", "ClusterTrustBundle"),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
    ("internal.apiserver.k8s.io", "StorageVersion"),
    ("networking.k8s.io", "IPAddress"),
    ("networking.k8s.io", "IngressClass"),
    ("networking.k8s.io", "ServiceCIDR"),
    ("node.k8s.io", "RuntimeClass"),
    ("policy", "PodSecurityPolicy"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    ("resource.k8s.io", "DeviceClass"),
    ("resource.k8s.io", "DeviceTaintRule"),
    ("resource.k8s.io", "ResourceSlice"),
    ("scheduling.k8s.io", "PriorityClass"),
    ("storage.k8s.io", "CSIDriver"),
    ("storage.k8s.io", "CSINode"),
    ("storage.k8s.io", "StorageClass"),
    ("storage.k8s.io", "VolumeAttachment"),
    ("storage.k8s.io", "VolumeAttributesClass"),
    ("storagemigration.k8s.io", "StorageVersionMigration"),
];

/// The line of what is wrong (0 where unknown), and the rule.
pub(crate) type Refused = (u32, String);

fn read(document: &Branch) -> Result<Kustomization, Refused> {
    let mut read = Kustomization::default();
    for entry in document.entries() {
        match entry.key.as_str() {
            "apiVersion" => expect(entry, "kustomize.config.k8s.io/v1beta1")?,
            "kind" => expect(entry, "Kustomization")?,
            "namespace" => read.namespace = Some(text(entry)?.to_owned()).filter(|text| !text.is_empty()),
            "resources" => read.resources = resources(entry)?,
            _ => {
                return Err((
                    entry.at.line,
                    format!("`{}` is not rendered; regent reads `resources` and `namespace`", entry.key),
                ));
            }
        }
    }
    if read.resources.is_empty() {
        return Err((0, "`resources` lists nothing".to_owned()));
    }
    Ok(read)
}

fn resources(entry: &Entry) -> Result<Vec<Resource>, Refused> {
    let line = entry.at.line;
    let bad = || (line, "`resources` expects a list of paths".to_owned());
    let elements = match &entry.value {
        Node::List(elements) => elements,
        Node::Leaf(Leaf { scalar: Scalar::Null, .. }) => return Ok(Vec::new()),
        Node::Leaf(_) | Node::Map(_) => return Err(bad()),
    };
    let mut resources = Vec::new();
    for element in elements {
        match element {
            Element::Node(Node::Leaf(leaf)) => {
                let text = leaf.clear_text().filter(|text| !text.is_empty()).ok_or_else(bad)?.to_owned();
                resources.push(Resource { text, line });
            }
            Element::Node(Node::Map(_) | Node::List(_)) => return Err(bad()),
            Element::Comment(_) => {}
        }
    }
    Ok(resources)
}

fn expect(entry: &Entry, only: &str) -> Result<(), Refused> {
    if text(entry)? == only {
        return Ok(());
    }
    Err((entry.at.line, format!("`{}` expects `{only}`", entry.key)))
}

fn text(entry: &Entry) -> Result<&str, Refused> {
    let bad = || (entry.at.line, format!("`{}` expects text", entry.key));
    match &entry.value {
        Node::Leaf(leaf) => leaf.clear_text().ok_or_else(bad),
        Node::Map(_) | Node::List(_) => Err(bad()),
    }
}

fn text_at<'b>(branch: &'b Branch, path: &[&str]) -> Option<&'b str> {
    match branch.at(path)? {
        Node::Leaf(leaf) => leaf.clear_text(),
        Node::Map(_) | Node::List(_) => None,
    }
}

#[cfg(test)]
mod tests;
