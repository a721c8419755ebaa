use super::*;

fn read(text: &str) -> Result<Kustomization, String> {
    let file = FilePath::parse("kustomization.yaml").unwrap();
    parse(&file, text.as_bytes(), &Limits::default()).map_err(|error| error.to_string())
}

fn paths(text: &str) -> Vec<String> {
    read(text).unwrap().resources.into_iter().map(|resource| resource.text).collect()
}

#[test]
fn resources_and_namespace_are_read() {
    assert_eq!(paths("resources: [a.yaml, ./b]"), ["a.yaml", "./b"]);
    let text = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: app\nresources:\n# first\n- a.yaml\n";
    assert_eq!(read(text).unwrap().namespace.as_deref(), Some("app"));
}

#[test]
fn any_other_field_is_named_with_its_line() {
    for field in
        ["patches", "generators", "secretGenerator", "namePrefix", "commonLabels", "images", "components", "bases"]
    {
        let refused = read(&format!("resources: [a.yaml]\n{field}: []\n")).unwrap_err();
        assert!(refused.starts_with(&format!("kustomization.yaml:2: `{field}`")), "{refused}");
    }
}

#[test]
fn what_is_no_kustomization_is_refused() {
    for text in [
        "",
        "resources: []",
        "resources:",
        "namespace: app",
        "resources: a.yaml",
        "resources: [{a: b}]",
        "resources: [1]",
        "resources: ['']",
        "resources: [a]\nkind: Component",
        "resources: [a]\napiVersion: v1",
        "resources: [a]\nnamespace: 1",
        "resources: [a]\nresources: [b]",
        "resources: [a]\n---\nresources: [b]",
        "resources: [",
        "- a",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn paths_are_seen_from_the_folder_and_stay_in_the_root() {
    for (folder, path, target) in [
        ("", "a.yaml", Some("a.yaml")),
        ("", "./a/", Some("a")),
        ("a/b", "../c.yaml", Some("a/c.yaml")),
        ("a", "..", Some("")),
        ("a", "../..", None),
        ("", "..", None),
        ("", "a/../../b", None),
    ] {
        assert_eq!(resolve(folder, path).as_deref(), target, "{folder} {path}");
    }
}
