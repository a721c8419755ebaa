//! What no tree on a disk shows well: bounds, hidden names, what is said. What kustomize makes of names is in
//! `tests/reach/`.

use super::*;
use crate::files::Content;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// A Secret as SOPS leaves it; nothing here opens it.
const SEALED: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: app}\n\
    stringData: {password: 'ENC[AES256_GCM,data:AA==,iv:AA==,tag:AA==,type:str]'}\n\
    sops: {lastmodified: '2026-01-01T00:00:00Z', mac: 'ENC[AES256_GCM,data:AA==,iv:AA==,tag:AA==,type:str]', \
    age: [{recipient: age1x, enc: x}], version: 3.11.0, encrypted_regex: ^stringData$}\n";

/// The same, encrypted to its name.
fn sealed_whole() -> String {
    let hidden = "'ENC[AES256_GCM,data:AA==,iv:AA==,tag:AA==,type:str]'";
    let whole = SEALED.replace("name: db", &format!("name: {hidden}"));
    whole
        .replace("v1\nkind: Secret", &format!("{hidden}\nkind: {hidden}"))
        .replace(", encrypted_regex: ^stringData$", "")
}

fn files(all: &[(&str, &str)]) -> Files {
    let mut files = Files::default();
    for (path, text) in all {
        assert!(files.insert(FilePath::parse(path).unwrap(), Content::Bytes(text.as_bytes().to_vec())));
    }
    files
}

fn reached(all: &[(&str, &str)], overrides: &Overrides) -> Reach {
    reach(&files(all), ".", overrides, &Limits::default())
}

fn refused(all: &[(&str, &str)]) -> Vec<String> {
    reached(all, &Overrides::default()).obstacles.iter().map(ToString::to_string).collect()
}

#[expect(clippy::disallowed_methods, reason = "a bound on time is shown with a clock")]
fn soon<T>(work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    done
}

fn only(told: &[String], part: &str) {
    assert!(matches!(told, [one] if one.contains(part)), "{part}: {told:?}");
}

#[test]
fn folders_that_list_the_next_twice_are_not_followed_for_ever() {
    let names: Vec<String> = (0..45).map(|index| format!("f{index}/kustomization.yaml")).collect();
    let texts: Vec<String> = (1..=45).map(|next| format!("resources: [../f{next}, ../f{next}]\n")).collect();
    let mut all: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(texts.iter().map(String::as_str)).collect();
    all.push(("f45/kustomization.yaml", "namePrefix: x-\nresources: [../db.yaml]\n"));
    all.push(("db.yaml", SEALED));
    all.push(("kustomization.yaml", "resources: [f0]\n"));
    let told = soon(|| refused(&all));
    assert!(told.iter().any(|told| told.contains("asks for more steps")), "{told:?}");
}

#[test]
fn a_long_list_of_components_that_rename_is_not_followed_for_ever() {
    let mut top = "resources: [db.yaml]\ncomponents:\n".to_owned();
    for _ in 0..20_000 {
        top.push_str("- part\n");
    }
    let part = format!("kind: Component\nnamePrefix: {}\n", "x".repeat(200));
    let told =
        soon(|| refused(&[("db.yaml", SEALED), ("part/kustomization.yaml", &part), ("kustomization.yaml", &top)]));
    only(&told, "kustomization.yaml:1: Secret app/db is encrypted, and of what it becomes");
}

#[test]
fn kustomizations_inside_each_other_end_somewhere() {
    let names: Vec<String> = (0..=51).map(|index| format!("f{index}/kustomization.yaml")).collect();
    let texts: Vec<String> = (1..=52).map(|next| format!("resources: [../f{next}]\n")).collect();
    let mut all: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(texts.iter().map(String::as_str)).collect();
    all.push(("f52/kustomization.yaml", "resources: [../db.yaml]\n"));
    all.push(("db.yaml", SEALED));
    let files = files(&all);
    let from = |folder: &str| reach(&files, folder, &Overrides::default(), &Limits::default());
    assert_eq!((from("f3").obstacles.len(), from("f3").documents.len()), (0, 1));
    only(&from("f2").obstacles.iter().map(ToString::to_string).collect::<Vec<_>>(), "lies too deep");
}

#[test]
fn a_part_of_a_name_longer_than_any_name_is_refused_where_it_stands() {
    let long = "x".repeat(254);
    only(
        &refused(&[("kustomization.yaml", &format!("namePrefix: {long}"))]),
        "kustomization.yaml:1: `namePrefix` is longer",
    );
    let overrides = Overrides { name_suffix: Some(long), ..Overrides::default() };
    only(
        &reached(&[("db.yaml", SEALED)], &overrides).obstacles.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "`spec.nameSuffix` of the Flux Kustomization: `nameSuffix` is longer",
    );
}

/// kustomize-controller looks for `*.yaml` where there is no kustomization, so that is what the artifact holds.
#[test]
fn a_file_that_is_encrypted_as_a_whole_is_published_under_its_inner_name_where_nothing_lists_it() {
    let armored = "-----BEGIN AGE ENCRYPTED FILE-----\n";
    let all = [("db.yaml.age", armored), ("other.json.age", armored), ("regent.yaml", "kind: Bootstrap")];
    let found = reached(&all, &Overrides::default());
    let [(file, uses)] = found.files.iter().collect::<Vec<_>>()[..] else { panic!("{:?}", found.files) };
    let published = FilePath::parse("db.yaml").unwrap();
    assert_eq!(
        (file.as_str(), uses.as_slice()),
        ("db.yaml.age", [Use::Resource { place: Place::default(), published }].as_slice())
    );
    assert_eq!(found.obstacles, []);
    assert!(matches!(found.documents.as_slice(), [Reached { own: None, .. }]));

    let listed =
        reached(&[("db.yaml.age", armored), ("kustomization.yaml", "resources: [db.yaml.age]")], &Overrides::default());
    let published = FilePath::parse("db.yaml.age").unwrap();
    let uses = listed.files.get(&published).unwrap();
    assert_eq!(uses.as_slice(), [Use::Resource { place: Place::default(), published }]);

    only(&refused(&[("db.yaml.age", armored), ("db.yaml", SEALED)]), "db.yaml.age: it would be published as db.yaml");
}

#[test]
fn a_document_whose_name_is_hidden_may_be_what_any_patch_means() {
    let patch =
        "patches:\n- target: {kind: Deployment, name: web}\n  patch: '[{\"op\": \"remove\", \"path\": \"/spec\"}]'\n";
    let top = format!("resources: [db.yaml]\n{patch}");
    let whole = sealed_whole();
    only(&refused(&[("db.yaml", &whole), ("kustomization.yaml", &top)]), "the document in db.yaml is encrypted");
    assert_eq!(refused(&[("db.yaml", SEALED), ("kustomization.yaml", &top)]), [""; 0]);
    let found = reached(
        &[("db.yaml", &whole), ("kustomization.yaml", "resources: [db.yaml]\nnamePrefix: x-")],
        &Overrides::default(),
    );
    let [Reached { own: None, place, .. }] = found.documents.as_slice() else { panic!() };
    assert_eq!(place.name("db"), "x-db");
}

#[test]
fn common_metadata_steers_nothing() {
    let key = "kustomize.toolkit.fluxcd.io/ssa";
    let overrides =
        Overrides { common_annotations: [(key.to_owned(), "Merge".to_owned())].into(), ..Overrides::default() };
    let told: Vec<String> =
        reached(&[("db.yaml", SEALED)], &overrides).obstacles.iter().map(ToString::to_string).collect();
    only(&told, &format!("`spec.commonMetadata` of the Flux Kustomization: `commonMetadata` puts `{key}`"));
    assert_eq!(reached(&[("web.yaml", "kind: Service")], &overrides).obstacles, [], "nothing is encrypted");
}

#[test]
fn a_patch_may_change_labels_and_annotations_alone() {
    let outcome = |target: &str, patch: &str| {
        let mut top = format!("resources: [db.yaml]\npatches:\n- target: {target}\n  patch: |\n");
        for line in patch.lines() {
            let _ = writeln!(top, "    {line}");
        }
        refused(&[("db.yaml", SEALED), ("kustomization.yaml", &top)])
    };
    for harmless in [
        "- {op: add, path: /metadata/labels/a, value: b}",
        "---\n- {op: test, path: /metadata/annotations/example.com~1a, value: b}",
        "[{\"op\": \"remove\", \"path\": \"/metadata/labels/a\"}]",
        "kind: Secret\nmetadata: {name: any, labels: {a: b}, annotations: {a: null}}",
        "kind: Secret\nmetadata: {name: any, annotations: {kustomize.toolkit.fluxcd.io/prune: disabled}}",
    ] {
        assert_eq!(outcome("{kind: Secret}", harmless), [""; 0], "{harmless}");
    }
    for harmful in [
        "- {op: add, path: /metadata/labels, value: {}}",
        "- {op: add, path: /metadata/labels/a/b, value: c}",
        "- {op: add, path: /metadata/labels/a, value: {}}",
        "- {op: add, path: /metadata/labels/regent.dev~1authority, value: other}",
        "- {op: remove, path: /metadata/annotations/kustomize.toolkit.fluxcd.io~1prune}",
        "- {op: replace, path: /metadata/name, value: x}",
        "- {op: replace, path: '', value: {}}",
        "- {op: remove, path: /data/password}",
        "- {op: test, path: /data/password, value: x}",
        "- {op: move, from: /metadata/name, path: /metadata/labels/a}",
        "- {op: copy, from: /data, path: /metadata/labels/a}",
        "- {path: /metadata/labels/a, value: b}",
        "- just text",
        "kind: Secret\nmetadata: {name: any}\ntype: other",
        "kind: Secret\nmetadata: {name: any}\nimmutable: true",
        "kind: Secret\nmetadata: {name: any, labels: {$patch: replace}}",
        "kind: Secret\nmetadata: {name: any, annotations: {kustomize.toolkit.fluxcd.io/prune: null}}",
        "kind: Secret\nmetadata: {name: any, annotations: null}",
        "kind: Secret\nmetadata: {name: any, finalizers: []}",
        "kind: Secret\nmetadata: null",
        "$patch: delete\nkind: Secret\nmetadata: {name: any}",
        "kind: Secret\nmetadata: {name: a}\n---\nkind: Secret\nmetadata: {name: b}\ndata: {}",
        "{",
    ] {
        only(&outcome("{kind: Secret}", harmful), "Secret app/db is encrypted, and this may change more");
        assert_eq!(outcome("{kind: Service}", harmful), [""; 0], "{harmful}");
    }
    // Every name on the way holds the first one, and a regular expression can mean any.
    let renames = "- {op: replace, path: /metadata/name, value: x}";
    for (target, meant) in [
        ("{}", true),
        ("~", true),
        ("{kind: Secr.*}", true),
        ("{name: db}", true),
        ("{name: x-db-y}", true),
        ("{name: d}", false),
        ("{name: 'd.'}", true),
        ("{kind: Secret, name: web}", false),
        ("{labelSelector: a=b}", true),
        ("{namespace: other}", true),
    ] {
        assert_eq!(outcome(target, renames).len(), usize::from(meant), "{target}");
    }
}

#[test]
fn what_no_kustomization_says_is_refused_with_its_line() {
    for (text, told) in [
        ("unknown: 1", "kustomization.yaml:1: `unknown` is no field of a kustomization"),
        ("namespace: [a]", "`namespace` expects text"),
        ("resources: a", "`resources` expects a list"),
        ("resources: [{a: b}]", "`resources` expects a list of texts"),
        ("secretGenerator: [a]", "`secretGenerator` expects a list of mappings"),
        ("secretGenerator: [{files: [a]}]", "`secretGenerator` expects a `name`"),
        ("secretGenerator: [{Name: a}]", "`Name` is no field of `secretGenerator`"),
        ("configMapGenerator: [{name: a, type: b}]", "`type` is no field of `configMapGenerator`"),
        ("generatorOptions: {disableNameSuffixHash: 'yes'}", "`disableNameSuffixHash` expects true or false"),
        ("patches: [{target: {kind: a}}]", "`patches` expects one of `path` and `patch`"),
        ("patches: [{path: a, patch: b}]", "`patches` expects one of `path` and `patch`"),
        ("patches: [{path: a, target: {Kind: a}}]", "`Kind` is no field of `target`"),
        ("labels: [{Pairs: {a: b}}]", "`Pairs` is no field of `labels`"),
        ("kind: Other", "`kind` expects `Kustomization` or `Component`"),
        ("apiVersion: kustomize.config.k8s.io/v1alpha1", "`apiVersion` expects"),
        ("kind: Component\napiVersion: kustomize.config.k8s.io/v1beta1", "kustomization.yaml:2: `apiVersion` expects"),
        ("a: 1\na: 2", "stands twice"),
        ("{}\n---\nnamePrefix: a\n---\nnamePrefix: b", "several documents"),
        (SEALED, "a kustomization is never encrypted"),
    ] {
        only(&refused(&[("kustomization.yaml", text)]), told);
    }
}

#[test]
fn what_kustomize_takes_for_a_repository_is_remote_also_where_a_folder_has_that_name() {
    for name in ["github.com/org/repo", "GitHub.com/org/repo", "git@host/repo", "host:repo", "base?ref=v1"] {
        let file = format!("{name}/kustomization.yaml");
        let top = format!("resources: [\"{name}\"]");
        only(&refused(&[(&file, "namePrefix: a-"), ("kustomization.yaml", &top)]), "is remote");
    }
    only(&refused(&[("kustomization.yaml", "resources: [/db.yaml]")]), "is an absolute path");
}

#[test]
fn what_was_not_read_is_refused() {
    let mut files =
        files(&[("kustomization.yaml", "resources: [db.yaml]\nsecretGenerator: [{name: a, files: [key.txt]}]")]);
    for (name, content) in [("db.yaml", Content::TooLarge { size: 1 << 30 }), ("key.txt", Content::NotRead)] {
        assert!(files.insert(FilePath::parse(name).unwrap(), content));
    }
    let found = reach(&files, "", &Overrides::default(), &Limits::default());
    let told: Vec<String> = found.obstacles.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["db.yaml: it was not read", "kustomization.yaml:2: `key.txt` was not read"]);
}

#[test]
fn every_obstacle_is_one_line_with_a_way_out() {
    let all = [
        ("db.yaml", SEALED),
        (
            "kustomization.yaml",
            "resources: [db.yaml, none, ./db.yaml]\ntransformers: [x]\ncommonLabels: {regent.dev/a: b}",
        ),
    ];
    let found = reached(&all, &Overrides::default());
    assert!(found.obstacles.len() >= 4, "{:?}", found.obstacles);
    for obstacle in found.obstacles {
        let told = obstacle.to_string();
        assert!(!told.contains('\n') && told.len() < 300 && !told.contains("ENC["), "{told}");
        assert!(!obstacle.way_out().is_empty());
    }
}
