//! Copies in Vault that Git does not agree with, and what a person may type about them: nothing is decided here.

use regent_core::evidence::WitnessedVault;
use regent_core::handover::plan::PlanRefusal;
use regent_core::name::SecretName;

use super::super::root::{quoted, typed_with};
use super::planned;
use super::stop::HandoverStop;
use crate::failure::Failure;

/// Why a plan with such copies is not carried out, and every command that may help.
pub(in super::super) fn conflicting(refusal: PlanRefusal, place: &WitnessedVault) -> Failure {
    let PlanRefusal::Conflicts { differs, deleted } = &refusal else { return planned(refusal) };
    let way_out = way_out(place, differs, deleted, &typed_with(&[]));
    Failure::Handover { stop: Box::new(HandoverStop::Plan(refusal)), way_out }
}

fn way_out(place: &WitnessedVault, differs: &[SecretName], deleted: &[SecretName], again: &str) -> String {
    let names: Vec<String> = differs.iter().map(ToString::to_string).collect();
    let differing = (!differs.is_empty()).then(|| {
        format!(
            "where Vault is right, add to `handover.acceptExisting` of regent.yaml: `[{}]`; where Git is, a Vault administrator \
             removes the copy, with all its versions:\n{}",
            names.join(", "),
            removals(place, differs)
        )
    });
    let gone = (!deleted.is_empty()).then(|| {
        format!(
            "what was deleted a Vault administrator brings back (`bao kv undelete`), or removes for good:\n{}",
            removals(place, deleted)
        )
    });
    let parts = [differing, gone, Some(format!("then `{again}`"))];
    parts.into_iter().flatten().collect()
}

/// A line each, as a shell takes it.
fn removals(place: &WitnessedVault, names: &[SecretName]) -> String {
    let WitnessedVault { namespace, mount, prefix, .. } = place;
    let namespace = (!namespace.is_empty()).then(|| quoted(&format!("-namespace={namespace}")));
    let namespace = namespace.map_or(String::new(), |option| format!("{option} "));
    let mount = quoted(&format!("-mount={mount}"));
    let removal = |name: &SecretName| {
        let key = quoted(&format!("{prefix}/{}/{}", name.namespace(), name.name()));
        format!("  bao kv metadata delete {namespace}{mount} {key}\n")
    };
    names.iter().map(removal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<SecretName> {
        names.iter().map(|name| SecretName::parse(name).unwrap()).collect()
    }

    fn place(namespace: &str, mount: &str) -> WitnessedVault {
        WitnessedVault {
            address: "https://vault".to_owned(),
            namespace: namespace.to_owned(),
            mount: mount.to_owned(),
            prefix: "bootstrap/prod".to_owned(),
        }
    }

    #[test]
    fn every_copy_has_its_command_and_every_name_stands_in_the_list() {
        let said =
            way_out(&place("", "secret"), &names(&["app/api", "app/db"]), &names(&["app/old"]), "regent handover");
        for line in [
            "`handover.acceptExisting` of regent.yaml: `[app/api, app/db]`;",
            "\n  bao kv metadata delete -mount=secret bootstrap/prod/app/api\n",
            "\n  bao kv metadata delete -mount=secret bootstrap/prod/app/db\n",
            "(`bao kv undelete`), or removes for good:\n  bao kv metadata delete -mount=secret bootstrap/prod/app/old\n",
        ] {
            assert!(said.contains(line), "{line} is not in: {said}");
        }
        assert!(said.ends_with("\nthen `regent handover`"), "{said}");
        let said = way_out(&place("", "secret"), &[], &names(&["app/old"]), "regent handover");
        assert!(!said.contains("acceptExisting"), "{said}");
    }

    #[test]
    fn what_is_printed_can_be_typed() {
        assert_eq!(
            removals(&place("team a", "it's"), &names(&["app/api"])),
            "  bao kv metadata delete '-namespace=team a' '-mount=it'\\''s' bootstrap/prod/app/api\n"
        );
    }
}
