use super::*;

#[expect(clippy::disallowed_methods, reason = "what a person would see")]
fn seen(manifest: &str, encoding: Encoding, reveal: bool) -> String {
    let shown = shown(0, manifest.to_owned(), encoding, reveal).ok().unwrap();
    String::from_utf8(shown.expose().to_vec()).unwrap()
}

const SECRET: &str = r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"db","annotations":{"a":"b"}},"type":"Opaque","data":{"password":"aHVudGVyMg=="},"stringData":{"pin":"1234"}}"#;

#[test]
fn every_value_of_a_secret_is_described_and_nothing_else() {
    let seen_as_json =
        |manifest| serde_json::from_str::<serde_json::Value>(&seen(manifest, Encoding::Json, false)).unwrap();
    let described = r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"db","annotations":{"a":"b"},"labels":{"regent.dev/redacted":"<not for apply>"}},"type":"Opaque","data":{"password":"<redacted str, 7 bytes>"},"stringData":{"pin":"<redacted str, 4 bytes>"}}"#;
    assert_eq!(seen_as_json(SECRET), serde_json::from_str::<serde_json::Value>(described).unwrap());
    let plain = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"k":"v"}}"#;
    assert_eq!(seen(plain, Encoding::Json, false), plain);
}

#[test]
fn no_way_to_write_a_secret_shows_its_values() {
    let cases = [
        r#"{"kind":"List","apiVersion":"v1","items":[{"kind":"Secret","data":{"k":"CANARY"}}]}"#,
        r#"{"kind":"ConfigMap","kind":"Secret","data":{"k":"CANARY"}}"#,
        r#"{"kind":"Secret","data":{"k":"x"},"data":{"k":"CANARY"}}"#,
        r#"{"kind":"Secret","data":"CANARY"}"#,
        r#"{"kind":"Secret","data":{"k":["CANARY",{"l":"CANARY"}]}}"#,
        r#"{"kind":"Secret","metadata":"none","other":"CANARY"}"#,
        r#"{"kind":"ConfigMap","metadata":{"annotations":{"kustomize.toolkit.fluxcd.io/prune":"disabled"}},"data":{"k":"CANARY"}}"#,
    ];
    for case in cases {
        for encoding in [Encoding::Json, Encoding::Yaml] {
            let seen = seen(case, encoding, false);
            // JSON escapes the angle brackets, as Go does.
            assert!(!seen.contains("CANARY") && seen.contains("redacted str, 6 bytes"), "{seen}");
        }
    }
}

#[test]
fn revealed_manifests_are_printed_as_they_came() {
    assert_eq!(seen(SECRET, Encoding::Json, true), SECRET);
    assert!(seen(SECRET, Encoding::Yaml, true).contains(r#"password: "aHVudGVyMg==""#));
}

#[test]
fn what_is_no_object_is_refused_without_a_word_of_it() {
    for broken in ["CANARY", "[\"CANARY\"]", "{\"CANARY\"", "kind: CANARY", r#"{"sops":{"mac":"CANARY"}}"#] {
        for reveal in [false, true] {
            let refused = shown(1, broken.to_owned(), Encoding::Json, reveal).err().unwrap();
            assert!(matches!(refused, Failure::Plugin { .. }), "{broken}");
            assert!(refused.to_string().starts_with("the plugin does not render: manifest 2 "), "{refused}");
            assert!(!format!("{refused} {refused:?}").contains("CANARY"));
        }
    }
}

/// A repository with one commit on `main`, the folder `clusters/prod` and a remote.
fn repository() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    let mut options = git2::RepositoryInitOptions::new();
    options.initial_head("main");
    let repository = Repository::init_opts(temp.path(), &options).unwrap();
    std::fs::create_dir_all(temp.path().join("clusters/prod")).unwrap();
    std::fs::write(temp.path().join("clusters/prod/a.yaml"), "a: 1").unwrap();
    repository.remote("origin", "https://git.example/infra.git").unwrap();
    let mut index = repository.index().unwrap();
    index.add_path(Path::new("clusters/prod/a.yaml")).unwrap();
    let tree = repository.find_tree(index.write_tree().unwrap()).unwrap();
    let who = git2::Signature::new("a", "a@example.org", &git2::Time::new(0, 0)).unwrap();
    repository.commit(Some("HEAD"), &who, &who, "one", &tree, &[]).unwrap();
    temp
}

fn place(temp: &tempfile::TempDir) -> Place {
    Place::typed(temp.path(), &crate::cli::GitArgs::default()).ok().unwrap()
}

fn facts(application: &Application) -> [&str; 6] {
    let Application { name, project, repo_url, path, folder_name, target_revision, .. } = application;
    [name, project, repo_url, path, folder_name, target_revision]
}

#[test]
fn git_tells_what_was_not_typed() {
    let temp = repository();
    let tip = Repository::open(temp.path()).unwrap().head().unwrap().peel_to_commit().unwrap().id().to_string();
    let of_folder = Source::folder(&temp.path().join("clusters/prod"), 1 << 20).ok().unwrap().application;
    let of_commit = Source::commit(&place(&temp), "main", "clusters/prod/", 1 << 20).ok().unwrap().application;
    for application in [of_folder, of_commit] {
        let url = "https://git.example/infra.git";
        assert_eq!(facts(&application), ["prod", "default", url, "clusters/prod", "prod", "main"]);
        assert_eq!(application.revision, tip);
    }
}

#[test]
fn a_folder_outside_a_repository_is_one_itself() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("a.yaml"), "a: 1").unwrap();
    let application = Source::folder(temp.path(), 1 << 20).ok().unwrap().application;
    let real = temp.path().canonicalize().unwrap();
    let name = real.file_name().unwrap().to_str().unwrap();
    assert_eq!(facts(&application), [name, "default", &format!("file://{}", real.display()), ".", name, "HEAD"]);
    assert_eq!(application.revision, "");
}

#[test]
fn a_path_that_is_not_in_the_revision_is_named() {
    let temp = repository();
    assert!(matches!(Source::commit(&place(&temp), "main", "gone", 1 << 20), Err(Failure::World { .. })));
}
