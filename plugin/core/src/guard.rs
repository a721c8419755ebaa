//! What keeps a live Secret alive while the one who delivers it changes: annotations that controllers
//! read from the *live* object, so they must be there long before the handover, and the label by
//! which the API server's own lock finds the Secret.

use crate::name::AuthorityName;
use crate::object::{View, is_secret_leaf};
use regent_sops::{Branch, Leaf, Node, Origin, Scalar};

/// Argo CD's per-resource sync options, joined with commas.
pub(crate) const SYNC_OPTIONS: &str = "argocd.argoproj.io/sync-options";
/// Argo CD's per-resource compare options, joined with commas.
pub(crate) const COMPARE_OPTIONS: &str = "argocd.argoproj.io/compare-options";
/// Flux' switch against garbage collection.
pub(crate) const FLUX_PRUNE: &str = "kustomize.toolkit.fluxcd.io/prune";
/// The label that names the authority; the admission policy selects by it.
pub(crate) const AUTHORITY: &str = "regent.dev/authority";

/// An object that leaves with values carries these; of its own options only those about pruning and
/// deletion are replaced. Argo CD takes the first `Prune=` (3.6) or any (3.1), so exactly one stays.
pub(crate) fn guard(tree: &mut Branch, label: Option<&AuthorityName>) {
    let annotations = section(tree, "annotations");
    let (mut options, origin) = listed(annotations, SYNC_OPTIONS);
    options.retain(|option| !is_option(option, "Prune") && !is_option(option, "Delete"));
    // Client-side apply would keep the values a second time, in an annotation.
    let apply = (!options.iter().any(|option| is_option(option, "ServerSideApply"))).then_some("ServerSideApply=true");
    let own = ["Prune=false", "Delete=false"].into_iter().chain(apply).map(str::to_owned);
    let joined = own.chain(options).collect::<Vec<_>>().join(",");
    annotations.set(SYNC_OPTIONS, text(joined, origin));

    let (mut options, origin) = listed(annotations, COMPARE_OPTIONS);
    if !options.iter().any(|option| option == "IgnoreExtraneous") {
        options.push("IgnoreExtraneous".to_owned());
    }
    annotations.set(COMPARE_OPTIONS, text(options.join(","), origin));
    annotations.set(FLUX_PRUNE, Node::text("disabled"));
    if let Some(authority) = label {
        section(tree, "labels").set(AUTHORITY, Node::text(authority.as_str()));
    }
}

/// What the object says itself and [`guard`] replaces, as `annotation: entry`; only what stands
/// readable in the file.
pub(crate) fn replaced(tree: &Branch, view: View, label: Option<&AuthorityName>) -> Vec<String> {
    let clear = |path: &[&str]| match tree.at(path) {
        Some(Node::Leaf(leaf)) if !is_secret_leaf(leaf, view) => tree.public_text(path),
        Some(_) | None => None,
    };
    let mut found = Vec::new();
    if let Some(options) = clear(&["metadata", "annotations", SYNC_OPTIONS]) {
        let others = split(options).filter(|option| is_option(option, "Prune") || is_option(option, "Delete"));
        let others = others.filter(|option| !["Prune=false", "Delete=false"].contains(option));
        found.extend(others.map(|option| format!("{SYNC_OPTIONS}: {option}")));
    }
    if let Some(prune) = clear(&["metadata", "annotations", FLUX_PRUNE])
        && prune != "disabled"
    {
        found.push(format!("{FLUX_PRUNE}: {prune}"));
    }
    if let Some(other) = clear(&["metadata", "labels", AUTHORITY])
        && label.is_none_or(|label| label.as_str() != other)
    {
        found.push(format!("{AUTHORITY}: {other}"));
    }
    found
}

/// `metadata` itself or a mapping in it, made where there is none.
pub(crate) fn section<'t>(tree: &'t mut Branch, name: &str) -> &'t mut Branch {
    mapping(mapping(tree, "metadata"), name)
}

/// The mapping at `key`, made where there is none (or nothing but `null`).
pub(crate) fn mapping<'t>(tree: &'t mut Branch, key: &str) -> &'t mut Branch {
    if !matches!(tree.get(key), Some(Node::Map(_))) {
        tree.set(key, Node::Map(Branch::default()));
    }
    let value = tree.items.iter_mut().find_map(|item| match item {
        regent_sops::Item::Entry(entry) if entry.key == key => match &mut entry.value {
            Node::Map(branch) => Some(branch),
            Node::Leaf(_) | Node::List(_) => None,
        },
        regent_sops::Item::Entry(_) | regent_sops::Item::Comment(_) => None,
    });
    value.expect("the mapping was found or set right above")
}

/// The entries of a comma-separated annotation, and whether its text was decrypted.
fn listed(annotations: &Branch, key: &str) -> (Vec<String>, Origin) {
    let Some(Node::Leaf(leaf)) = annotations.get(key) else { return (Vec::new(), Origin::Clear) };
    let whole = Branch::from_entries([(
        "metadata".to_owned(),
        Node::Map(Branch::from_entries([(key.to_owned(), Node::Leaf(leaf.duplicate()))])),
    )]);
    let options = whole.public_text(&["metadata", key]).map(|text| split(text).map(str::to_owned).collect());
    (options.unwrap_or_default(), leaf.origin)
}

fn split(options: &str) -> impl Iterator<Item = &str> {
    options.split(',').map(str::trim).filter(|option| !option.is_empty())
}

/// Whether an entry of [`SYNC_OPTIONS`] is this option.
pub(crate) fn is_option(option: &str, name: &str) -> bool {
    option.split('=').next().is_some_and(|key| key.trim().eq_ignore_ascii_case(name))
}

fn text(text: String, origin: Origin) -> Node {
    Node::Leaf(Leaf { scalar: Scalar::Text(regent_sops::Plaintext::new(text.into_bytes())), origin })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(own: &str) -> String {
        let mut tree = Branch::default();
        section(&mut tree, "annotations").set(SYNC_OPTIONS, Node::text(own));
        guard(&mut tree, None);
        tree.public_text(&["metadata", "annotations", SYNC_OPTIONS]).unwrap().to_owned()
    }

    #[test]
    fn own_entries_about_pruning_and_deletion_are_replaced_and_others_kept() {
        assert_eq!(options(""), "Prune=false,Delete=false,ServerSideApply=true");
        assert_eq!(
            options("Prune=true, Replace=true,Delete=confirm"),
            "Prune=false,Delete=false,ServerSideApply=true,Replace=true"
        );
        assert_eq!(options("prune = true,Prune=false"), "Prune=false,Delete=false,ServerSideApply=true");
    }

    #[test]
    fn who_chose_how_to_apply_is_heard() {
        assert_eq!(options("ServerSideApply=false"), "Prune=false,Delete=false,ServerSideApply=false");
    }

    #[test]
    fn guarding_twice_changes_nothing() {
        assert_eq!(options(&options("Force=true")), options("Force=true"));
    }

    #[test]
    fn an_existing_list_of_compare_options_is_kept() {
        let mut tree = Branch::default();
        section(&mut tree, "annotations").set(COMPARE_OPTIONS, Node::text("ServerSideDiff=true"));
        guard(&mut tree, None);
        let text = tree.public_text(&["metadata", "annotations", COMPARE_OPTIONS]);
        assert_eq!(text, Some("ServerSideDiff=true,IgnoreExtraneous"));
        assert_eq!(tree.public_text(&["metadata", "annotations", FLUX_PRUNE]), Some("disabled"));
    }
}
