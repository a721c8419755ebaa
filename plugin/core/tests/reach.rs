//! The cases of `tests/reach/`: a repository, a Flux Kustomization, and what the real kustomize built of it. The
//! folder's README says what each file is.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "the cases are files, and a test may look at bytes"
)]

use regent_core::emit::Identity;
use regent_core::files::{Content, Files};
use regent_core::flux::name_hash;
use regent_core::flux::reach::{
    Generated, InlinePatch, InputForm, Obstacle, Overrides, Reach, Rule, Selector, Site, reach,
};
use regent_core::name::FilePath;
use regent_sops::{Limits, Plaintext};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

struct Case {
    folder: PathBuf,
    reach: Reach,
    /// What kustomize built: file, kind, namespace, name, how.
    built: Vec<[String; 5]>,
}

#[test]
fn every_encrypted_object_that_kustomize_builds_is_expected_by_its_name() {
    let mut compared = 0;
    for case in cases().iter().filter(|case| !case.is_refused()) {
        assert_eq!(case.reach.obstacles, [], "{}", case.name());
        let built = |how: &str, kind: &str| -> BTreeSet<String> {
            let lines = case.built.iter().filter(|line| line[4] == how && (kind.is_empty() || line[1] == kind));
            lines.map(|[file, kind, namespace, name, _]| format!("{file}: {kind} {namespace}/{name}")).collect()
        };
        let documents = case.reach.documents.iter().filter_map(|it| Some(line(&it.file, &it.becomes()?)));
        assert_eq!(documents.collect::<BTreeSet<_>>(), built("encrypted", ""), "{}", case.name());
        let generators = case.reach.generators.iter().map(|it| line(&it.file, &case.named(it)));
        assert_eq!(generators.collect::<BTreeSet<_>>(), built("generated", "Secret"), "{}", case.name());
        compared += built("encrypted", "").len() + built("generated", "Secret").len();
    }
    assert!(compared >= 30, "{compared}");
}

#[test]
fn what_kustomize_or_regent_refuses_is_told_with_its_place() {
    let mut refused = 0;
    for case in cases().iter().filter(|case| case.is_refused()) {
        let told: Vec<String> = case.reach.obstacles.iter().map(told).collect();
        let expected = std::fs::read_to_string(case.folder.join("refused.txt")).unwrap();
        assert_eq!(told.join("\n"), expected.trim_end(), "{}: {:#?}", case.name(), case.reach.obstacles);
        refused += 1;
    }
    assert!(refused >= 38, "{refused}");
}

#[test]
fn what_kustomize_refuses_is_refused() {
    for case in cases().iter().filter(|case| case.built.is_empty()) {
        assert!(case.is_refused(), "{}", case.name());
    }
}

/// What a file is to the build is told for all that it reads, and for nothing else.
#[test]
fn what_is_not_reached_is_not_there() {
    let reached = |name: &str| -> Vec<String> {
        let case = cases().into_iter().find(|case| case.name() == name).unwrap();
        case.reach.files.keys().map(ToString::to_string).collect()
    };
    assert_eq!(reached("a-folder-without-kustomization"), ["apps/a.yaml", "apps/plain.yaml", "apps/sub/deeper/b.yml"]);
    assert_eq!(
        reached("a-generator-with-hash"),
        ["app/credentials.yaml", "app/kustomization.yaml", "app/more.env", "app/token.txt"]
    );
    assert_eq!(reached("an-encrypted-patch"), ["app.yaml", "kustomization.yaml", "other.yaml", "values.yaml"]);
}

#[test]
fn an_encrypted_patch_belongs_to_the_object_that_it_changes() {
    let case = cases().into_iter().find(|case| case.name() == "an-encrypted-patch").unwrap();
    let [patch] = case.reach.patches.as_slice() else { panic!() };
    assert_eq!(
        (patch.file.as_str(), line(&patch.target_file, &patch.becomes())),
        ("values.yaml", "app.yaml: ConfigMap -/x-app".to_owned())
    );
    assert!(case.built.iter().any(|[file, _, _, name, _]| file == "app.yaml" && name == "x-app"));
}

impl Case {
    fn name(&self) -> String {
        self.folder.file_name().unwrap().to_string_lossy().into_owned()
    }

    /// The folder's name says what is expected.
    fn is_refused(&self) -> bool {
        self.name().ends_with("-refused")
    }

    /// The Secret of a generator, the hash of its plaintext in its name.
    fn named(&self, generated: &Generated) -> Identity {
        let mut identity = generated.becomes();
        if generated.has_hash {
            let mut data = BTreeMap::new();
            if generated.has_literals {
                // The one of the cases.
                data.insert("a".to_owned(), Plaintext::new(b"b".to_vec()));
            }
            for input in &generated.inputs {
                let text = std::fs::read(self.folder.join("clear").join(input.file.as_str())).unwrap();
                match &input.form {
                    InputForm::Files { key } => drop(data.insert(key.clone(), Plaintext::new(text))),
                    InputForm::Envs => {
                        for line in String::from_utf8(text).unwrap().lines() {
                            let (key, value) = line.split_once('=').unwrap();
                            data.insert(key.to_owned(), Plaintext::new(value.into()));
                        }
                    }
                }
            }
            identity.name = format!("{}-{}", identity.name, name_hash::of_secret(&generated.kind, &data));
        }
        identity
    }
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reach");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    folders.into_iter().map(case).collect()
}

fn case(folder: PathBuf) -> Case {
    let mut files = Files::default();
    gather(&folder.join("tree"), "", &mut files);
    let (path, overrides) = spec(&folder.join("flux.yaml"));
    let reach = reach(&files, &path, &overrides, &Limits::default());
    let built = std::fs::read_to_string(folder.join("built.tsv")).unwrap();
    let lines = built.lines().filter(|line| !line.starts_with("error: "));
    let columns = |line: &str| line.split('\t').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap();
    Case { built: lines.map(columns).collect(), folder, reach }
}

fn gather(folder: &Path, prefix: &str, files: &mut Files) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            gather(&path, &format!("{name}/"), files);
        } else {
            let content = Content::Bytes(std::fs::read(&path).unwrap());
            assert!(files.insert(FilePath::parse(&name).unwrap(), content));
        }
    }
}

fn spec(file: &Path) -> (String, Overrides) {
    let Ok(text) = std::fs::read_to_string(file) else { return Default::default() };
    let spec: Value = yaml_serde::from_str(&text).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let texts =
        |value: &Value| value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let marks = |value: &Value| {
        let marks = value.as_object().into_iter().flatten();
        marks.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect()
    };
    let patch = |value: &Value| InlinePatch {
        patch: text(&value["patch"]).unwrap(),
        target: value.get("target").map(|target| Selector {
            kind: text(&target["kind"]),
            name: text(&target["name"]),
            ..Selector::default()
        }),
    };
    let overrides = Overrides {
        target_namespace: text(&spec["targetNamespace"]),
        name_prefix: text(&spec["namePrefix"]),
        name_suffix: text(&spec["nameSuffix"]),
        components: texts(&spec["components"]),
        ignore_missing_components: spec["ignoreMissingComponents"] == true,
        patches: spec["patches"].as_array().into_iter().flatten().map(patch).collect(),
        substitutes: false,
        common_labels: marks(&spec["commonMetadata"]["labels"]),
        common_annotations: marks(&spec["commonMetadata"]["annotations"]),
    };
    (text(&spec["path"]).unwrap_or_default(), overrides)
}

fn line(file: &FilePath, identity: &Identity) -> String {
    let Identity { kind, namespace, name, .. } = identity;
    format!("{file}: {kind} {}/{name}", namespace.as_deref().unwrap_or("-"))
}

/// Where an obstacle stands, and the name of its rule.
fn told(obstacle: &Obstacle) -> String {
    let site = match &obstacle.site {
        Site::File { .. } => obstacle.site.to_string(),
        Site::Spec { field } => format!("spec.{field}"),
    };
    let rule = if let Rule::Listed { problem, .. } = &obstacle.rule {
        format!("{problem:?}")
    } else {
        format!("{:?}", obstacle.rule)
    };
    format!("{site} {}", rule.split(' ').next().unwrap())
}
