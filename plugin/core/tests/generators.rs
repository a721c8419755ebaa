//! The cases of `tests/generators/`: what regent makes of a `secretGenerator` with encrypted inputs is what the real kustomize
//! makes of it, and what stands in its place is the same build. The folder's README says what each file is.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "the cases are files, and a test may look at bytes"
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regent_core::authority::{self, Assumption, Place, Ruling};
use regent_core::bootstrap::Bootstrap;
use regent_core::emit::{Content as Held, Encoding, Manifest};
use regent_core::evidence::{
    AuthorityWitness, DocumentList, Evidence, Holder, Holds, ListedClass, ListedDocument, Mirror, Reading,
    WitnessedVault,
};
use regent_core::files::{Built, Content, Files, wanted};
use regent_core::flux::artifact::{self, Artifact, Change, Known};
use regent_core::flux::bound::Bound;
use regent_core::flux::reach::{Overrides, reach, reach_parsed};
use regent_core::flux::reached;
use regent_core::handover::plan::Draft;
use regent_core::handover::tree::{How, encrypted_files, slipped_in};
use regent_core::name::{FilePath, HandoverId, ObjectName, SecretName};
use regent_core::render::{self, Door, Request};
use regent_core::{DocumentProblem, GeneratorProblem, Refusal};
use regent_sops::{Keyring, Limits};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const REGENT_YAML: &str = "apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\nepoch: 1\n";

/// A repository, whose root is its top.
struct Tree {
    files: BTreeMap<String, Vec<u8>>,
    overrides: Overrides,
    path: String,
    regent_yaml: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/generators")
}

fn cases() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    assert!(folders.len() >= 6);
    folders
}

fn gathered(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            gathered(&path, &format!("{name}/"), files);
        } else {
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

fn in_folder(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    gathered(folder, "", &mut files);
    files
}

fn path(text: &str) -> FilePath {
    FilePath::parse(text).unwrap()
}

impl Tree {
    fn of(case: &Path) -> Self {
        let files = in_folder(&case.join("tree"));
        let spec = std::fs::read_to_string(case.join("flux.yaml")).unwrap_or_else(|_| "{}".to_owned());
        let spec: Value = yaml_serde::from_str(&spec).unwrap();
        let text = |name: &str| spec[name].as_str().map(str::to_owned);
        let overrides = Overrides {
            target_namespace: text("targetNamespace"),
            name_prefix: text("namePrefix"),
            name_suffix: text("nameSuffix"),
            ..Overrides::default()
        };
        // What is no text has an encoding in Vault.
        let built = std::fs::read_to_string(case.join("built.json")).unwrap();
        let hashed = built.split('"').find(|text| text.starts_with("gen")).unwrap_or_default();
        let encoding = format!("secrets: {{encoding: {{app/{hashed}: base64}}}}\n");
        let encoding = if files.contains_key("key.bin") { encoding } else { String::new() };
        let regent_yaml = format!("{REGENT_YAML}{encoding}");
        Self { files, overrides, path: text("path").unwrap_or_default(), regent_yaml }
    }

    /// The case that is changed into others.
    fn first() -> Self {
        Self::of(&folder().join("envs-with-a-hash"))
    }

    /// The same with another file.
    fn with(mut self, file: &str, text: impl Into<Vec<u8>>) -> Self {
        self.files.insert(file.to_owned(), text.into());
        self
    }

    fn with_kustomization(self, text: &str) -> Self {
        self.with("kustomization.yaml", format!("resources: [web.yaml]\n{text}"))
    }

    fn repository(&self, is_read: impl Fn(&FilePath) -> bool) -> Files {
        let mut files = Files::default();
        for (name, bytes) in &self.files {
            let content = if is_read(&path(name)) { Content::Bytes(bytes.clone()) } else { Content::NotRead };
            assert!(files.insert(path(name), content));
        }
        files
    }

    fn built(&self) -> Result<Built, Refusal> {
        self.built_in(None)
    }

    fn built_in(&self, root: Option<&FilePath>) -> Result<Built, Refusal> {
        let repository = self.repository(|_| true);
        let limits = Limits::default();
        let reach = reach(&repository, &self.path, &self.overrides, &limits);
        reached::listing(&reach, reached::Place { repository: &repository, root, limits: &limits })
    }

    /// The root as a source gives it, and the build decides.
    fn root(&self) -> Result<Files, Refusal> {
        Ok(self.repository(|path| wanted(path.file_name())).built_as(self.built()?))
    }

    fn bootstrap(&self) -> Bootstrap {
        Bootstrap::parse(&path(Bootstrap::FILE_NAME), self.regent_yaml.as_bytes()).unwrap()
    }

    fn git(&self) -> Ruling {
        Ruling::assume(Assumption::Git, Some(&self.bootstrap()), &Place::default(), None).unwrap()
    }

    fn vault(&self, documents: DocumentList) -> Ruling {
        let holder = Holder::Vault { epoch: self.bootstrap().epoch, handover: handover(), mirror: Mirror::Complete };
        authority::rule(&self.bootstrap(), &Place::default(), &holder, documents).unwrap()
    }

    fn artifact(&self, ruling: &Ruling, keys: &Keyring) -> Result<Artifact, Refusal> {
        self.artifact_after(&Known::default(), ruling, keys)
    }

    fn artifact_after(&self, known: &Known, ruling: &Ruling, keys: &Keyring) -> Result<Artifact, Refusal> {
        let bootstrap = self.bootstrap();
        let (_, parsed) = reach_parsed(&self.repository(|_| true), &self.path, &self.overrides, &Limits::default());
        let request = artifact::Request {
            files: &self.root()?,
            bootstrap: &bootstrap,
            ruling,
            keys: keys.into(),
            wrapping: &keys.wrapping_keys(),
            namespaces: &["*".to_owned()],
            limits: &Limits::default(),
            bound: &Bound {
                authority: bootstrap.name.clone(),
                epoch: bootstrap.epoch,
                kustomization: ObjectName::parse("team/apps").unwrap(),
            },
            endpoint: "https://regent.example:8200",
            known,
        };
        artifact::artifact(&request, parsed)
    }

    fn with_request<T>(&self, ruling: &Ruling, keys: &Keyring, act: impl FnOnce(&Request<'_>) -> T) -> T {
        let (files, bootstrap) = (self.root().unwrap(), self.bootstrap());
        act(&Request {
            files: &files,
            folder: None,
            bootstrap: Some(&bootstrap),
            ruling,
            keys: keys.into(),
            namespaces: &["*".to_owned()],
            limits: &Limits::default(),
            door: Door::Flux,
        })
    }

    fn rendered(&self) -> Result<Vec<Manifest>, Refusal> {
        self.root()?;
        self.with_request(&self.git(), &keys(), render::render)
    }

    fn refused(&self) -> String {
        match self.rendered() {
            Ok(_) => panic!("it is rendered"),
            Err(refusal) => refusal.to_string(),
        }
    }

    /// What a handover lists of it.
    fn handed_over(&self) -> Vec<ListedDocument> {
        let drafted = self.with_request(&self.git(), &keys(), |request| Draft::of(request, blob));
        drafted.unwrap().outline().documents.clone()
    }
}

/// Some id that differs with the bytes.
fn blob(bytes: &[u8]) -> String {
    let sum = bytes.iter().fold(5381_u64, |sum, byte| sum.wrapping_mul(33) ^ u64::from(*byte));
    format!("{sum:040x}")
}

fn keys() -> Keyring {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/render/key.txt");
    let mut keyring = Keyring::default();
    keyring.load("key.txt", &std::fs::read(path).unwrap(), &[]).unwrap();
    keyring
}

fn objects(file: &Path) -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn json_of(manifest: Manifest) -> Value {
    serde_json::from_slice(manifest.into_bytes(Encoding::Json).unwrap().expose()).unwrap()
}

fn named(object: &Value) -> (&str, &str, &str) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    (text("/kind"), text("/metadata/namespace"), text("/metadata/name"))
}

/// A map of texts without what regent adds.
fn own(marks: &Value) -> Map<String, Value> {
    let mut marks = marks.as_object().cloned().unwrap_or_default();
    marks.retain(|key, _| {
        !["regent.dev/", "argocd.argoproj.io/", "kustomize.toolkit.fluxcd.io/"].iter().any(|it| key.starts_with(it))
    });
    marks
}

/// Bytes, however base64 is broken into lines.
fn decoded(data: &Value) -> BTreeMap<String, Vec<u8>> {
    let value = |base64: &Value| {
        let base64: String = base64.as_str().unwrap().split_whitespace().collect();
        STANDARD.decode(base64).unwrap()
    };
    data.as_object().unwrap().iter().map(|(key, base64)| (key.clone(), value(base64))).collect()
}

fn listed(of: &[&str]) -> DocumentList {
    let entry = |text: &&str| {
        let (path_, name) = text.split_once(' ').unwrap();
        ListedDocument {
            path: path(path_),
            name: SecretName::parse(name).unwrap(),
            kind: "Secret".to_owned(),
            class: ListedClass::Handover,
            blob: "0".repeat(40),
        }
    };
    DocumentList::Readable(of.iter().map(entry).collect())
}

/// A settled handover to the place that `regent.yaml` names.
fn settled(tree: &Tree) -> Evidence {
    let vault = tree.bootstrap().vault.map(|vault| WitnessedVault {
        address: vault.address,
        namespace: vault.namespace,
        mount: vault.mount,
        prefix: vault.prefix,
    });
    let authority = AuthorityWitness {
        name: tree.bootstrap().name,
        holds: Holds::Vault(handover()),
        epoch: tree.bootstrap().epoch,
        supersedes: None,
        root: None,
        vault,
        clusters: None,
        no_vault_yet: false,
        record: None,
    };
    Evidence { authority: Reading::Present(authority), settled: Reading::Present(()), ..Evidence::none() }
}

fn handover() -> HandoverId {
    HandoverId::parse("6b4e0a0e-7d0a-4b4e-9d3b-0d5a3f6f4a11").unwrap()
}

#[test]
fn what_regent_makes_of_a_generator_is_what_kustomize_makes_of_it_and_documents_have_its_names() {
    let (mut compared, mut renamed) = (0, 0);
    for case in cases() {
        let tree = Tree::of(&case);
        let built = objects(&case.join("built.json"));
        let made = tree.rendered().unwrap().into_iter().filter(|manifest| manifest.content() == Held::Values);
        let made: Vec<_> = made.map(|manifest| (manifest.file().to_string(), json_of(manifest))).collect();
        let generators = tree.built().unwrap().generators;
        let (made, documents): (Vec<_>, Vec<_>) =
            made.into_iter().partition(|(file, _)| generators.iter().any(|made| made.document().as_str() == file));
        assert_eq!(made.len(), generators.len());
        for (file, secret) in documents {
            assert!(built.iter().any(|object| named(object) == named(&secret)), "{file}: {secret}");
            renamed += 1;
        }
        for (file, secret) in made {
            let is_it = |object: &&Value| {
                let (_, name) = file.rsplit_once('/').unwrap();
                object["kind"] == "Secret" && object["metadata"]["name"].as_str().unwrap().contains(name)
            };
            let by_kustomize = built.iter().find(is_it).unwrap();
            assert_eq!(decoded(&secret["data"]), decoded(&by_kustomize["data"]), "{file}");
            // With the hash.
            assert_eq!(named(&secret), named(by_kustomize), "{file}");
            assert_eq!((&secret["type"], &secret["immutable"]), (&by_kustomize["type"], &by_kustomize["immutable"]));
            for field in ["labels", "annotations"] {
                let mut theirs = own(&by_kustomize["metadata"][field]);
                // What other kustomizations put on it is put on regent's too.
                theirs.retain(|key, _| !["part", "by", "target"].contains(&key.as_str()));
                assert_eq!(own(&secret["metadata"][field]), theirs, "{file}");
            }
            compared += 1;
        }
    }
    assert!(compared >= 9 && renamed >= 2, "{compared} {renamed}");
}

/// kustomize itself was shown both: nobody who refers to the Secret sees a difference.
#[test]
fn with_regents_files_kustomize_builds_the_same_objects_and_references() {
    for case in cases() {
        let (before, after) = (objects(&case.join("built.json")), objects(&case.join("stubs.json")));
        let names = |objects: &[Value]| -> BTreeSet<String> {
            objects.iter().map(|object| format!("{:?}", named(object))).collect()
        };
        assert_eq!(names(&before), names(&after), "{}", case.display());
        let replaced = |object: &&Value| object["metadata"]["labels"]["regent.dev/authority"] == "prod";
        let kept: Vec<&Value> = after.iter().filter(|object| !replaced(object)).collect();
        assert!(kept.len() < after.len() && kept.iter().all(|object| before.contains(object)), "{}", case.display());
    }
}

#[test]
fn an_artifact_holds_what_kustomize_was_shown_and_no_input() {
    for case in cases() {
        let tree = Tree::of(&case);
        let handed_over = DocumentList::Readable(tree.handed_over());
        let none = Keyring::default();
        let stubs = tree.artifact(&tree.vault(handed_over), &none).unwrap();
        let values = tree.artifact(&tree.git(), &keys()).unwrap();
        let expected = in_folder(&case.join("artifact"));
        let gone: BTreeSet<String> = in_folder(&case.join("clear")).into_keys().collect();
        for (artifact, is_sealed) in [(stubs, false), (values, true)] {
            let removed = artifact.changes.iter().filter(|(_, change)| matches!(change, Change::Remove));
            assert_eq!(removed.map(|(path, _)| path.to_string()).collect::<BTreeSet<_>>(), gone, "{}", case.display());
            let mut written = BTreeSet::new();
            for (path, change) in artifact.changes {
                let found: Value = match change {
                    Change::Remove => continue,
                    Change::Same(_) => panic!(),
                    Change::Kustomization(kustomization) => {
                        let text = kustomization.to_yaml_document().unwrap();
                        yaml_serde::from_slice(text.expose()).unwrap()
                    }
                    Change::Write(manifests) => {
                        let [manifest] = <[Manifest; 1]>::try_from(manifests).ok().unwrap();
                        assert!(!manifest.holds_values());
                        json_of(manifest)
                    }
                };
                let theirs = expected.get(path.as_str()).unwrap_or_else(|| panic!("{path} in {}", case.display()));
                let theirs: Value = yaml_serde::from_slice(theirs).unwrap();
                if is_sealed && path.file_name() == "secret.yaml" {
                    // Not by the name that the build gives it: it would give that once more.
                    assert_eq!(named(&found), named(&theirs), "{path}");
                    assert!(found["sops"]["hc_vault"][0]["enc"].as_str().is_some_and(|enc| !enc.is_empty()), "{path}");
                    assert!(!found.to_string().contains("canary-"), "{path}");
                    assert_eq!(found["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/prune"], "disabled");
                } else {
                    assert_eq!(found, theirs, "{path} in {}", case.display());
                }
                written.insert(path.to_string());
            }
            assert_eq!(written, expected.keys().cloned().collect::<BTreeSet<_>>(), "{}", case.display());
        }
    }
}

#[test]
fn a_generator_without_encrypted_inputs_stays_to_the_byte() {
    let tree = Tree::first().with_kustomization("namespace: app\nsecretGenerator: [{name: gen, literals: [a=b]}]\n");
    assert!(tree.built().unwrap().generators.is_empty());
    let artifact = tree.artifact(&tree.git(), &keys()).unwrap();
    assert!(!artifact.changes.contains_key(&path("kustomization.yaml")));
}

#[test]
fn a_handover_lists_it_under_a_path_that_no_file_has_and_sees_every_change_of_it() {
    let tree = Tree::first();
    let listed = tree.handed_over();
    let [document] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!(document.path.as_str(), "kustomization.yaml/gen");
    assert_eq!((document.name.to_string().as_str(), document.kind.as_str()), ("app/gen-c5mm6f722b", "Secret"));

    let slipped = |tree: Tree| {
        let files = encrypted_files(&tree.root().unwrap(), &tree.bootstrap(), &Limits::default(), blob).unwrap();
        slipped_in(&listed, &[], &files, &[]).into_iter().map(|it| (it.path.to_string(), it.how)).collect::<Vec<_>>()
    };
    let same = "namespace: app\nsecretGenerator: [{name: gen, envs: [secret.env]}]\n";
    assert_eq!(slipped(Tree::first()), []);
    assert_eq!(slipped(Tree::first().with_kustomization(&format!("{same}labels: [{{pairs: {{a: b}}}}]\n"))), []);
    let changed = |how| vec![("kustomization.yaml/gen".to_owned(), how)];
    let input = Tree::of(&folder().join("a-component")).files.remove("part/secret.env").unwrap();
    assert_eq!(slipped(Tree::first().with("secret.env", input)), changed(How::Changed));
    let kind = same.replace("name: gen,", "name: gen, type: other,");
    assert_eq!(slipped(Tree::first().with_kustomization(&kind)), changed(How::Changed));
    assert_eq!(slipped(Tree::first().with_kustomization("namespace: app\n")), changed(How::Removed));
}

#[test]
fn what_is_not_opened_has_the_name_that_the_handover_lists() {
    let none = Keyring::default();
    let name = |documents| -> Result<String, Refusal> {
        let tree = Tree::first();
        let artifact = tree.artifact(&tree.vault(documents), &none)?;
        let secret = artifact.changes.into_iter().find(|(path, _)| path.file_name() == "secret.yaml").unwrap();
        let Change::Write(manifests) = secret.1 else { panic!() };
        Ok(manifests[0].identity().to_string())
    };
    let refused = |documents| match name(documents) {
        Err(Refusal::Document { file, problem }) => (file.to_string(), problem),
        other => panic!("{other:?}"),
    };
    let gen_ = "kustomization.yaml/gen app/gen-";
    // Also where other values were handed over, or it stood elsewhere.
    assert_eq!(name(listed(&[&format!("{gen_}2456789bcd")])).unwrap(), "Secret app/gen-2456789bcd");
    assert_eq!(name(listed(&["old/kustomization.yml/gen app/gen-2456789bcd"])).unwrap(), "Secret app/gen-2456789bcd");
    let here_and_there = [&format!("{gen_}2456789bcd"), "other/kustomization.yaml/gen app/gen-fghkmt2456"];
    assert_eq!(name(listed(&here_and_there)).unwrap(), "Secret app/gen-2456789bcd");

    let here = || "kustomization.yaml/gen".to_owned();
    for others in [
        vec![],
        vec!["kustomization.yaml/gen web/gen-2456789bcd"],
        vec!["kustomization.yaml/gen app/gen"],
        vec!["kustomization.yaml/gen app/gen-2456789bc"],
        vec!["kustomization.yaml/gen app/gen-2456789bca"],
        vec!["kustomization.yaml/other app/other-2456789bcd"],
        vec!["db.yaml app/gen-2456789bcd"],
    ] {
        assert_eq!(refused(listed(&others)), (here(), DocumentProblem::NotListed), "{others:?}");
    }
    let twice = [format!("{gen_}2456789bcd"), format!("{gen_}fghkmt2456")];
    let twice: Vec<&str> = twice.iter().map(String::as_str).collect();
    assert_eq!(refused(listed(&twice)), (here(), GeneratorProblem::Ambiguous.into()));
    assert_eq!(refused(DocumentList::Unreadable), (here(), DocumentProblem::IdentityEncrypted));
}

#[test]
fn without_a_hash_its_name_needs_no_list() {
    let tree = Tree::of(&folder().join("without-a-hash-and-with-options"));
    assert!(tree.artifact(&tree.vault(DocumentList::Unreadable), &Keyring::default()).is_ok());
    let refused = tree.artifact(&tree.vault(listed(&[])), &Keyring::default()).err().unwrap();
    assert!(matches!(refused, Refusal::Document { problem: DocumentProblem::NotListed, .. }), "{refused}");
}

#[test]
fn an_input_that_does_not_open_is_named() {
    let tree = Tree::first();
    let refused = tree.artifact(&tree.git(), &Keyring::default()).err();
    assert_eq!(refused, Some(Refusal::NoWrappingKey));
    let other = age::x25519::Identity::generate();
    let mut stranger = Keyring::default();
    let secret = age::secrecy::ExposeSecret::expose_secret(&other.to_string()).to_owned();
    stranger.load("other.txt", secret.as_bytes(), &[]).unwrap();
    let refused = tree.artifact(&tree.git(), &stranger).err().unwrap();
    let Refusal::Document { file, problem: DocumentProblem::Sops(regent_sops::Error::NoKey(_)) } = &refused else {
        panic!("{refused}")
    };
    assert_eq!(file.as_str(), "secret.env");

    let text = String::from_utf8(tree.files["secret.env"].clone()).unwrap();
    let without: Vec<&str> = text.lines().filter(|line| !line.starts_with("EQUAL=")).collect();
    let told = Tree::first().with("secret.env", without.join("\n") + "\n").refused();
    assert!(told.starts_with("secret.env: ") && told.contains("MAC"), "{told}");
    let only = text.replace("sops_version", "sops_mac_only_encrypted=true\nsops_version");
    let told = Tree::first().with("secret.env", only).refused();
    assert!(told.starts_with("secret.env: ") && told.contains("mac_only_encrypted"), "{told}");
}

#[test]
fn what_regent_does_not_make_is_refused_before_anything_moves() {
    let gen_ = |more: &str| format!("namespace: app\nsecretGenerator: [{{name: gen, envs: [secret.env]{more}}}]\n");
    let of = |text: &str| Tree::first().with_kustomization(text);
    let component = Tree::of(&folder().join("a-component")).files.remove("part/secret.env").unwrap();
    let yaml = Tree::of(&folder().join("files-of-every-format")).files.remove("conf/values.yaml").unwrap();
    let second = |text: &str| of(text).with("second.env", component.clone());
    for (tree, told) in [
        (of(&gen_("").replace("secret.env", "none.env")), "kustomization.yaml:3: `none.env` is neither"),
        (of(&gen_(", behavior: merge")), "`behavior` makes it a part of another one"),
        (of(&format!("{}configMapGenerator: [{{name: a, files: [secret.env]}}]\n", gen_(""))), "a ConfigMap would"),
        (of(&gen_(", files: [secret.env]")), "reads it more than once"),
        (of(&gen_("").replace("envs: [secret.env]", "env: secret.env")), "decrypts `envs`, and not `env`"),
        (of(&format!("nameSuffix: -x\n{}", gen_(""))), "a `nameSuffix` stands before the hash"),
        (
            of(&gen_("").replace("namespace: app\n", "")),
            "gen: `secretGenerator` with encrypted inputs: it has no namespace",
        ),
        (
            of(&gen_("")).with("regent-generated/x.txt", ""),
            "gen: `secretGenerator` with encrypted inputs: `regent-generated`",
        ),
        (of(&gen_(", literals: [PASSWORD=b]")), "a key is given twice"),
        (of(&gen_(", literals: [b]")), "a literal is no `key=value`"),
        (
            of("namespace: app\nsecretGenerator: [{name: gen, envs: [values.yaml]}]\n").with("values.yaml", yaml),
            "values.yaml is encrypted and stands under `envs`, where only dotenv makes sense",
        ),
        (
            second(
                "namespace: app\nsecretGenerator: [{name: gen, envs: [secret.env]}, \
                 {name: gen, namespace: web, envs: [second.env]}]\n",
            ),
            "becomes the same object",
        ),
        (
            second(
                "secretGenerator: [{name: gen, namespace: app, envs: [secret.env]}, \
                 {name: gen, namespace: web, envs: [second.env]}]\n",
            ),
            "gen: `secretGenerator` with encrypted inputs: two entries",
        ),
    ] {
        let refused = tree.refused();
        assert!(refused.contains(told), "{told}: {refused}");
    }
    for (comment, from) in [(" # behind", "user: "), ("\n  # out of its column", "empty: ")] {
        let mut tree = Tree::of(&folder().join("files-of-every-format"));
        let text = String::from_utf8(tree.files["conf/values.yaml"].clone()).unwrap();
        let at = text.find(from).unwrap();
        let at = if comment.starts_with('\n') { at - 1 } else { at + text[at..].find('\n').unwrap() };
        tree.files.insert("conf/values.yaml".to_owned(), format!("{}{comment}{}", &text[..at], &text[at..]).into());
        let refused = tree.refused();
        assert!(refused.contains("conf/values.yaml has a comment behind a value or out of its column"), "{refused}");
    }
    let line = "a".repeat(64 << 10);
    let long = of(&gen_("").replace("[secret.env]", "[secret.env, long.env]")).with("long.env", format!("LONG={line}"));
    assert!(long.refused().contains("64 KiB"), "{}", long.refused());
    let bytes = of(&gen_("").replace("[secret.env]", "[secret.env, x.env]")).with("x.env", b"X=\xff".to_vec());
    assert!(bytes.refused().contains("no text in UTF-8"), "{}", bytes.refused());
}

#[test]
fn what_lies_outside_the_root_is_no_part_of_it() {
    let moved = |files: &[(&str, &str)]| {
        let mut tree = Tree::of(&folder().join("a-component"));
        for (from, to) in files {
            let bytes = tree.files.remove(*from).unwrap();
            tree.files.insert((*to).to_owned(), bytes);
        }
        tree.with(
            "app/kustomization.yaml",
            "namespace: app\nsecretGenerator: [{name: gen, envs: [../part/secret.env]}]\n",
        )
    };
    let root = path("app");
    let refused = |tree: &Tree| tree.built_in(Some(&root)).err().unwrap();
    let told = refused(&moved(&[]));
    assert_eq!(told, Refusal::Document { file: path("part/secret.env"), problem: DocumentProblem::OutsideRoot });
    let beside = moved(&[("part/secret.env", "app/secret.env")]).with("clear.txt", "x").with(
        "app/kustomization.yaml",
        "namespace: app\nsecretGenerator: [{name: gen, envs: [secret.env], files: [../clear.txt]}]\n",
    );
    let problem = GeneratorProblem::InputOutsideRoot.into();
    assert_eq!(refused(&beside), Refusal::Document { file: path("kustomization.yaml/gen"), problem });
    let component = refused(&Tree::of(&folder().join("a-component")));
    assert_eq!(
        component,
        Refusal::Document { file: path("part/kustomization.yaml"), problem: DocumentProblem::OutsideRoot }
    );
}

#[test]
fn regent_yaml_can_neither_exclude_an_input_nor_make_it_permanent() {
    let with = |more: &str| Tree { regent_yaml: format!("{REGENT_YAML}{more}"), ..Tree::first() };
    let told = with("secrets: {exclude: [\"*.env\"]}\n").refused();
    assert!(told.contains("`secrets.exclude` names secret.env"), "{told}");
    let told = with("secrets: {permanent: [{name: app/gen-c5mm6f722b}]}\n").refused();
    assert!(told.contains("`secrets.permanent` lists it"), "{told}");
    assert!(with("secrets: {permanent: [{name: app/gen}]}\n").rendered().is_ok());
}

/// A patch that names an object without a namespace is for the one that says none itself.
#[test]
fn a_stub_says_a_namespace_where_its_document_does() {
    let document =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reach/a-base-and-its-prod-overlay/tree/base/db.yaml");
    let tree = |top: &str| {
        let tree = Tree::first().with("db.yaml", std::fs::read(&document).unwrap());
        tree.with("kustomization.yaml", format!("resources: [db.yaml]\n{top}"))
    };
    let stub = |tree: &Tree| {
        let ruling = tree.vault(DocumentList::Readable(tree.handed_over()));
        let mut artifact = tree.artifact(&ruling, &Keyring::default()).unwrap();
        let Some(Change::Write(manifests)) = artifact.changes.remove(&path("db.yaml")) else { panic!() };
        let [manifest] = <[Manifest; 1]>::try_from(manifests).ok().unwrap();
        (manifest.identity().to_string(), json_of(manifest)["metadata"]["namespace"].clone())
    };
    assert_eq!(stub(&tree("namespace: prod\n")), ("Secret prod/db".to_owned(), Value::Null));
    let own = Tree { regent_yaml: format!("{REGENT_YAML}secrets: {{namespace: app}}\n"), ..tree("") };
    assert_eq!(stub(&own), ("Secret app/db".to_owned(), json!("app")));
}

#[test]
fn beside_a_stub_stands_what_delivers_it_under_its_whole_name() {
    let more = "vault: {address: https://vault.example, mount: secret, prefix: prod}\n\
                after: {emit: externalSecret, store: {name: vault, kind: SecretStore}}\n";
    let tree = Tree { regent_yaml: format!("{REGENT_YAML}{more}"), ..Tree::first() };
    let ruling = tree.vault(listed(&["kustomization.yaml/gen app/gen-2456789bcd"])).settled_by(&settled(&tree));
    let artifact = tree.artifact(&ruling, &Keyring::default()).unwrap();
    let change = |file: &str| artifact.changes.get(&path(file)).unwrap();
    let Change::Write(delivery) = change("regent-generated/gen/delivery.yaml") else { panic!() };
    assert_eq!(delivery[0].identity().to_string(), "ExternalSecret app/gen-2456789bcd");
    let Change::Kustomization(kustomization) = change("kustomization.yaml") else { panic!() };
    let text = kustomization.to_yaml_document().unwrap();
    let kustomization: Value = yaml_serde::from_slice(text.expose()).unwrap();
    assert_eq!(
        kustomization["resources"],
        json!(["web.yaml", "regent-generated/gen", "regent-generated/gen/delivery.yaml"])
    );
}

/// The build gives its name to what stands beside the stub too, and knows nothing of the names inside.
#[test]
fn what_delivers_a_renamed_secret_becomes_of_its_name_and_says_its_name() {
    let more = "vault: {address: https://vault.example, mount: secret, prefix: prod}\n\
                after: {emit: externalSecret, store: {name: vault, kind: SecretStore}}\n";
    let case = Tree::of(&folder().join("under-prefixes"));
    let tree = Tree { regent_yaml: format!("{REGENT_YAML}{more}"), ..case };
    let handed_over = tree.handed_over();
    let names: Vec<&str> = handed_over.iter().map(|document| document.name.name()).collect();
    assert_eq!(names, ["prod-base-db", "prod-base-gen-9cf7m7596g"]);
    let ruling = tree.vault(DocumentList::Readable(handed_over)).settled_by(&settled(&tree));
    let mut artifact = tree.artifact(&ruling, &Keyring::default()).unwrap();
    for (file, own, becomes) in [
        ("base/secret.yaml", "db", "prod-base-db"),
        ("base/regent-generated/gen/delivery.yaml", "gen-9cf7m7596g", "prod-base-gen-9cf7m7596g"),
    ] {
        let Some(Change::Write(manifests)) = artifact.changes.remove(&path(file)) else { panic!("{file}") };
        let delivery = json_of(manifests.into_iter().next_back().unwrap());
        assert_eq!((&delivery["kind"], &delivery["metadata"]["name"]), (&json!("ExternalSecret"), &json!(own)));
        assert_eq!(delivery["spec"]["target"]["name"], becomes);
    }
}

#[test]
fn what_was_handed_over_under_the_name_of_another_build_is_no_stub_of_this_one() {
    let tree = |prefix: &str| {
        let text = format!("namespace: app\nnamePrefix: {prefix}\nresources: [../base]\n");
        Tree::of(&folder().join("under-prefixes")).with("overlay/kustomization.yaml", text)
    };
    let whole = || {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/render/encrypted-as-a-whole/root/tls.yaml.age");
        std::fs::read(path).unwrap()
    };
    for (file, base) in [("secret.yaml", None), ("db.yaml.age", Some(whole()))] {
        let with = |prefix: &str| match &base {
            None => tree(prefix),
            Some(bytes) => tree(prefix)
                .with("base/db.yaml.age", bytes.clone())
                .with("base/kustomization.yaml", "namePrefix: base-\nresources: [db.yaml.age]\n"),
        };
        let handed_over = with("prod-").handed_over();
        assert!(handed_over.iter().all(|document| document.name.name().starts_with("prod-base-")));
        let none = Keyring::default();
        let ruling = with("prod-").vault(DocumentList::Readable(handed_over.clone()));
        assert!(with("prod-").artifact(&ruling, &none).is_ok(), "{file}");
        if base.is_some() {
            // kustomize would move the stub, and what delivers beside it, into a namespace that was handed nothing.
            let text = "namespace: other\nnamePrefix: prod-\nresources: [../base]\n";
            let moved = with("prod-").with("overlay/kustomization.yaml", text).artifact(&ruling, &none).err();
            let problem = DocumentProblem::NotListed;
            assert_eq!(moved, Some(Refusal::Document { file: path("base/db.yaml.age"), problem }));
        }
        let refused = with("other-").artifact(&ruling, &none).err();
        let problem = DocumentProblem::NotListed;
        assert_eq!(refused, Some(Refusal::Document { file: path(&format!("base/{file}")), problem }));
    }
}

#[test]
fn a_file_that_a_build_names_otherwise_is_judged_again() {
    let tree = Tree::of(&folder().join("under-prefixes"));
    let artifact = |tree: &Tree, known: &Known| tree.artifact_after(known, &tree.git(), &keys()).unwrap();
    let is_same = |artifact: &Artifact| matches!(artifact.changes[&path("base/secret.yaml")], Change::Same(_));
    let first = artifact(&tree, &Known::default());
    assert!(!is_same(&first));
    let again = artifact(&tree, &first.known);
    assert!(is_same(&again));
    for text in ["namespace: app\nnamePrefix: dev-\n", "namespace: app\nnamePrefix: prod-\nnameSuffix: -x\n"] {
        let without = "namePrefix: base-\nresources: [web.yaml, secret.yaml]\n";
        let other = Tree::of(&folder().join("under-prefixes"))
            .with("base/kustomization.yaml", without)
            .with("overlay/kustomization.yaml", format!("{text}resources: [../base]\n"));
        assert!(!is_same(&artifact(&other, &again.known)), "{text}");
    }
}

#[test]
fn a_secret_in_clear_text_is_one_object_or_refused() {
    let tree = |object: &str, places: [&str; 2]| {
        let [one, other] = places.map(|place| format!("{place}\nresources: [../base]\n"));
        Tree { overrides: Overrides::default(), path: String::new(), ..Tree::first() }
            .with("kustomization.yaml", "namespace: app\nresources: [one, other]\n")
            .with("one/kustomization.yaml", one)
            .with("other/kustomization.yaml", other)
            .with("base/kustomization.yaml", "resources: [clear.yaml]\n")
            .with("base/clear.yaml", object)
    };
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: clear}\nstringData: {a: b}\n";
    let several = ["namePrefix: a-", "namePrefix: b-"];
    let refused = tree(secret, several).built().err();
    let problem = DocumentProblem::SeveralPlaces;
    assert_eq!(refused, Some(Refusal::Document { file: path("base/clear.yaml"), problem }));
    let others = secret.replace("Secret", "ConfigMap").replace("stringData", "data");
    assert!(tree(&others, several).built().is_ok());
}
