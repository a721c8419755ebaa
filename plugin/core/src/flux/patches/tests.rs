use rstest::rstest;

use super::*;
use crate::files::Content;

const ENDPOINT: &str = "https://regent.flux-system.svc:8200";

/// As a person writes it.
const WRITTEN: &str = "apiVersion: v1
kind: Secret
metadata:
  name: any
  annotations:
    kustomize.toolkit.fluxcd.io/decrypt: disabled
    kustomize.toolkit.fluxcd.io/ssa: Ignore
    kustomize.toolkit.fluxcd.io/prune: disabled
";

fn prod() -> AuthorityName {
    AuthorityName::parse("prod").unwrap()
}

fn of_prod(patch: &str) -> InlinePatch {
    let target = Selector {
        kind: Some("Secret".to_owned()),
        label_selector: Some("regent.dev/authority=prod".to_owned()),
        ..Selector::default()
    };
    InlinePatch { patch: patch.to_owned(), target: Some(target) }
}

#[test]
fn all_three_annotations_on_every_secret_of_the_authority_let_go() {
    assert!(let_go(&[of_prod(WRITTEN)], &prod()));
    let in_one_line = "{apiVersion: v1, kind: Secret, metadata: {name: x, annotations: {\"kustomize.toolkit.fluxcd.io/prune\": \
                       disabled, kustomize.toolkit.fluxcd.io/ssa: Ignore, kustomize.toolkit.fluxcd.io/decrypt: disabled}}}";
    assert!(let_go(&[of_prod(in_one_line)], &prod()));
    assert!(!let_go(&[of_prod(WRITTEN)], &AuthorityName::parse("dev").unwrap()));
}

/// Each of these would apply ciphertext, empty a live Secret, leave it to be pruned, or reach other documents.
#[rstest]
#[case::decrypt_alone(
    "    kustomize.toolkit.fluxcd.io/ssa: Ignore\n    kustomize.toolkit.fluxcd.io/prune: disabled\n",
    ""
)]
#[case::without_prune("    kustomize.toolkit.fluxcd.io/prune: disabled\n", "")]
#[case::without_ssa("    kustomize.toolkit.fluxcd.io/ssa: Ignore\n", "")]
#[case::without_decrypt("    kustomize.toolkit.fluxcd.io/decrypt: disabled\n", "")]
#[case::merged("ssa: Ignore", "ssa: Merge")]
#[case::pruned("prune: disabled", "prune: enabled")]
#[case::as_labels("annotations:", "labels:")]
#[case::other_kind("kind: Secret", "kind: ConfigMap")]
#[case::more(
    "    kustomize.toolkit.fluxcd.io/ssa: Ignore\n",
    "    kustomize.toolkit.fluxcd.io/ssa: Ignore\n    a: b\n"
)]
#[case::namespace("  name: any\n", "  name: any\n  namespace: team\n")]
#[case::values("kind: Secret\n", "kind: Secret\ndata: {}\n")]
#[case::directive("kind: Secret\n", "kind: Secret\n$patch: delete\n")]
#[case::nothing(WRITTEN, "")]
#[case::no_yaml("metadata:", "metadata: [")]
#[case::two("apiVersion: v1", "apiVersion: v1\nkind: Secret\n---\napiVersion: v1")]
fn anything_else_does_not(#[case] old: &str, #[case] new: &str) {
    assert!(WRITTEN.contains(old));
    assert!(!let_go(&[of_prod(&WRITTEN.replacen(old, new, 1))], &prod()));
}

#[test]
fn a_target_that_is_wider_narrower_or_none_does_not_let_go() {
    let with = |change: fn(&mut Selector)| {
        let mut patch = of_prod(WRITTEN);
        patch.target.iter_mut().for_each(change);
        let_go(&[patch], &prod())
    };
    assert!(with(|_| {}));
    assert!(!with(|target| target.kind = None));
    assert!(!with(|target| target.name = Some("db".to_owned())));
    assert!(!with(|target| target.namespace = Some("team".to_owned())));
    assert!(!with(|target| target.label_selector = Some("regent.dev/authority".to_owned())));
    assert!(!with(|target| target.annotation_selector = Some("a=b".to_owned())));
    assert!(!let_go(&[InlinePatch { target: None, ..of_prod(WRITTEN) }], &prod()));
}

#[test]
fn no_later_patch_may_take_it_back() {
    let other = InlinePatch { patch: "metadata: {annotations: {a: b}}".to_owned(), target: None };
    assert!(let_go(&[other.clone(), of_prod(WRITTEN)], &prod()));
    assert!(!let_go(&[of_prod(WRITTEN), other], &prod()));
}

#[test]
fn a_patch_that_turns_decryption_off_is_the_one_that_lets_go_or_refused() {
    let labels = InlinePatch { patch: "metadata: {labels: {a: b}}".to_owned(), target: None };
    let without = |patches: &[&InlinePatch]| without_letting_go(patches.iter().copied().cloned().collect(), &prod());
    assert_eq!(without(&[&labels, &of_prod(WRITTEN)]), Ok(vec![labels.clone()]));
    assert_eq!(without(&[&labels]), Ok(vec![labels.clone()]));
    let operation = "- {op: add, path: /metadata/annotations/kustomize.toolkit.fluxcd.io~1decrypt, value: disabled}";
    for other in [WRITTEN.replace("Ignore", "Merge"), operation.to_owned()] {
        let refused = without(&[&of_prod(&other)]).unwrap_err().to_string();
        assert!(refused.contains(&entry(&prod())), "{refused}");
    }
    assert!(without(&[&of_prod(WRITTEN), &labels]).is_err());
    assert!(without(&[&of_prod(WRITTEN), &of_prod(WRITTEN)]).is_err());
}

/// What a person is told to commit is what counts once it is committed.
#[test]
fn the_entry_that_is_told_lets_go() {
    let told = format!("entry: {}\n", entry(&prod()));
    assert!(!told.trim_end().contains('\n'));
    let Ok(Document::Clear(tree)) = Document::parse(told.as_bytes(), Format::Yaml, &Limits::default()) else {
        panic!("{told}")
    };
    let text = |path: &[&str]| match tree.documents[0].at(path) {
        Some(Node::Leaf(leaf)) => leaf.clear_text().map(str::to_owned),
        Some(Node::Map(_) | Node::List(_)) | None => None,
    };
    let target = Selector {
        kind: text(&["entry", "target", "kind"]),
        label_selector: text(&["entry", "target", "labelSelector"]),
        ..Selector::default()
    };
    let patch = text(&["entry", "patch"]).unwrap();
    assert!(let_go(&[InlinePatch { patch, target: Some(target) }], &prod()), "{told}");
}

fn document(change: impl Fn(String) -> String) -> Vec<(FilePath, Unfit)> {
    let bootstrap = "apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\nepoch: 2\nsupersedes: 5b1f4c1e-9d6a-4f0e-8a55-3c1f4f4f9a10\n";
    let bootstrap = Bootstrap::parse(&FilePath::parse("regent.yaml").unwrap(), bootstrap.as_bytes()).unwrap();
    let written = change(format!(
        "apiVersion: v1
kind: Secret
metadata:
  name: db
  namespace: team
  labels:
    regent.dev/authority: prod
  annotations:
    kustomize.toolkit.fluxcd.io/prune: disabled
stringData:
  password: ENC[AES256_GCM,data:AAAA,iv:AAAA,tag:AAAA,type:str]
sops:
  age:
  - recipient: age1l44xcng8dqj32nlv6d930qvvrny05hglzcv9qpc7kxjc6902ma4qufys29
    enc: x
  hc_vault:
  - vault_address: {ENDPOINT}
    engine_path: regent/prod
    key_name: app
    created_at: '2026-01-01T00:00:00Z'
    enc: regent:v1:prod:2:team:app:QUJD
  lastmodified: '2026-01-01T00:00:00Z'
  mac: x
  encrypted_regex: ^(data|stringData)$
  version: 3.11.0
"
    ));
    let mut files = Files::default();
    assert!(files.insert(FilePath::parse("db.yaml").unwrap(), Content::Bytes(written.into_bytes())));
    let app = ObjectName::parse("team/app").unwrap();
    unfit(&files, &bootstrap, &[&app], ENDPOINT, &Limits::default()).unwrap()
}

#[test]
fn a_secret_with_label_guard_and_a_stanza_of_regents_can_be_let_go() {
    assert_eq!(document(|text| text), []);
    assert_eq!(document(|_| "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: team}\n".to_owned()), []);
}

#[rstest]
#[case::label("    regent.dev/authority: prod\n", "    regent.dev/authority: dev\n", "lacks the label")]
#[case::no_label("  labels:\n    regent.dev/authority: prod\n", "", "lacks the label `regent.dev/authority: prod`")]
#[case::guard("prune: disabled", "prune: enabled", "kustomize.toolkit.fluxcd.io/prune: disabled")]
#[case::guard_elsewhere("  annotations:\n    kustomize", "  labels2:\n    kustomize", "lacks the annotation")]
#[case::kind("kind: Secret", "kind: ConfigMap", "it holds a ConfigMap")]
#[case::group("apiVersion: v1", "apiVersion: a.example/v1", "it holds a Secret")]
#[case::epoch("regent:v1:prod:2:", "regent:v1:prod:1:", "in epoch 2")]
#[case::authority("regent:v1:prod:2:", "regent:v1:dev:2:", "not encrypted to regent")]
#[case::kustomization("team:app:QUJD", "team:web:QUJD", "not encrypted to regent")]
#[case::key("key_name: app", "key_name: web", "/v1/regent/prod/keys/app`")]
#[case::address("vault_address: https://regent", "vault_address: https://evil", "not encrypted to regent")]
#[case::vault("enc: regent:v1:prod:2:team:app:QUJD", "enc: vault:v1:QUJD", "may open without regent")]
fn whatever_the_patch_would_not_let_go_is_named(#[case] old: &str, #[case] new: &str, #[case] said: &str) {
    let found = document(|text| {
        assert!(text.contains(old), "{old}");
        text.replacen(old, new, 1)
    });
    let [(file, unfit)] = found.as_slice() else { panic!("{found:?}") };
    assert!(file.as_str() == "db.yaml" && unfit.to_string().contains(said), "{unfit}");
}

#[test]
fn only_keys_that_need_no_network_may_stand_beside_regents() {
    let kms = "  kms:\n  - arn: arn:aws:kms:eu-west-1:1:key/k\n    created_at: '2026-01-01T00:00:00Z'\n    enc: x\n";
    let found = document(|text| text.replace("  hc_vault:\n", &format!("{kms}  hc_vault:\n")));
    let [(_, Unfit::Others(recipient))] = found.as_slice() else { panic!("{found:?}") };
    assert!(recipient.starts_with("kms arn:"), "{recipient}");
    let alone = document(|text| {
        let (head, rest) = text.split_once("  hc_vault:\n").unwrap();
        let (_, tail) = rest.split_once("  lastmodified").unwrap();
        format!("{head}  lastmodified{tail}")
    });
    assert!(matches!(alone.as_slice(), [(_, Unfit::NotOurs { .. })]), "{alone:?}");
}

#[test]
fn a_file_that_is_encrypted_as_a_whole_is_none_that_the_controller_opens() {
    let bootstrap = "apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\nepoch: 1\n";
    let bootstrap = Bootstrap::parse(&FilePath::parse("regent.yaml").unwrap(), bootstrap.as_bytes()).unwrap();
    let mut files = Files::default();
    assert!(files.insert(FilePath::parse("db.yaml.age").unwrap(), Content::Bytes(b"age-encryption.org/v1\n".to_vec())));
    let app = ObjectName::parse("team/app").unwrap();
    let found = unfit(&files, &bootstrap, &[&app], ENDPOINT, &Limits::default()).unwrap();
    assert_eq!(found, [(FilePath::parse("db.yaml.age").unwrap(), Unfit::Whole)]);
}

/// A generator's input and a patch file are decrypted before any annotation is there.
#[test]
fn what_is_no_document_of_its_own_is_not_reached_by_the_patch() {
    use crate::flux::reach::{Generated, Input, InputForm, Patched, Place};
    let file = FilePath::parse("more.env").unwrap();
    let generated = |is_encrypted| Generated {
        file: FilePath::parse("kustomization.yaml").unwrap(),
        line: 1,
        index: 0,
        name: "more".to_owned(),
        namespace: None,
        kind: "Opaque".to_owned(),
        place: Place::default(),
        has_hash: true,
        has_literals: false,
        inputs: vec![Input { file: file.clone(), form: InputForm::Envs, is_encrypted, format: Format::Dotenv }],
    };
    let refused = |reach: &Reach| reaches(reach).map_err(|refusal| refusal.to_string());
    assert_eq!(refused(&Reach { generators: vec![generated(false)], ..Reach::default() }), Ok(()));
    let said = refused(&Reach { generators: vec![generated(true)], ..Reach::default() }).unwrap_err();
    assert!(said.contains("more.env") && said.contains("secretGenerator"), "{said}");
    let target = crate::emit::Identity {
        api_version: "v1".to_owned(),
        kind: "Secret".to_owned(),
        namespace: None,
        name: "db".to_owned(),
    };
    let (file, target_file) = (FilePath::parse("patch.yaml").unwrap(), FilePath::parse("db.yaml").unwrap());
    let patched = Patched { file, target_file, target, place: Place::default() };
    let said = refused(&Reach { patches: vec![patched], ..Reach::default() }).unwrap_err();
    assert!(said.contains("patch.yaml"), "{said}");
}
