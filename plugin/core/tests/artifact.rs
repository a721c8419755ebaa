//! Flux' artifacts of the cases of `tests/render/`: who has the data keys reads in them what `regent render` says, and
//! nobody else reads anything.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "the cases are files, and a test may look at bytes and take a data key"
)]

mod cases;

use aes::Aes256;
use aes_gcm::aead::consts::U32;
use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{AesGcm, KeyInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cases::{ALL, Asked, Case, case, cases, file_paths, gather, holds_canary, insert, json_lines, keys};
use regent_core::authority::Ruling;
use regent_core::emit::{Content as Held, Encoding, Manifest};
use regent_core::files::{Content, Files};
use regent_core::flux::artifact::{self, Artifact, Change, Known, Phase, is_encrypted};
use regent_core::flux::bound::Bound;
use regent_core::flux::reach::{Overrides, Parsed, reach_parsed};
use regent_core::name::{AuthorityName, Epoch, FilePath, ObjectName};
use regent_core::render::Door;
use regent_core::{DocumentProblem, Refusal};
use regent_sops::{Keyring, Limits, WrappingKeys};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

const ENDPOINT: &str = "https://regent.example:8200";

/// Rendered, and no artifact: what would stand in it in the clear, or be printed by the controller.
const TOO_OPEN: [(&str, &str); 2] = [
    ("a-number-in-a-config-map", "config.yaml: `data` is not a mapping of text"),
    (
        "encrypted-annotations",
        "db.yaml: `metadata.annotations.note` was encrypted, and would stand in the clear for Flux",
    ),
];

impl Case {
    /// Of the whole root, as an artifact is.
    fn whole(mut self) -> Self {
        self.asked_for = None;
        self
    }

    fn bound(&self) -> Bound {
        Bound {
            authority: self.bootstrap.name.clone(),
            epoch: self.bootstrap.epoch,
            kustomization: ObjectName::parse("team/apps").unwrap(),
        }
    }

    fn artifact(&self, asked: Asked) -> Result<Artifact, Refusal> {
        self.artifact_for(asked, &self.bound(), ENDPOINT)
    }

    fn artifact_for(&self, asked: Asked, bound: &Bound, endpoint: &str) -> Result<Artifact, Refusal> {
        let (given, nothing) = (self.given(asked), Known::default());
        let request = artifact::Request { bound, endpoint, ..self.request(&given, &nothing) };
        artifact::artifact(&request, Parsed::default())
    }

    fn given(&self, asked: Asked) -> Given {
        let (keys, ruling, bound) = (keys(), self.ruling(asked), self.bound());
        Given { wrapping: keys.wrapping_keys(), keys, ruling, bound, limits: Limits::default() }
    }

    fn request<'a>(&'a self, given: &'a Given, known: &'a Known) -> artifact::Request<'a> {
        artifact::Request {
            files: &self.files,
            bootstrap: &self.bootstrap,
            ruling: &given.ruling,
            keys: (&given.keys).into(),
            wrapping: &given.wrapping,
            namespaces: &self.namespaces,
            limits: &given.limits,
            bound: &given.bound,
            endpoint: ENDPOINT,
            known,
        }
    }
}

/// What a request is about, beside its case.
struct Given {
    keys: Keyring,
    wrapping: WrappingKeys,
    ruling: Ruling,
    bound: Bound,
    limits: Limits,
}

/// What stands in each file that is another one, as JSON; nothing for one that is gone.
type Written = BTreeMap<String, Vec<Value>>;

fn written(artifact: Artifact) -> Written {
    let documents = |change| match change {
        Change::Remove => Vec::new(),
        Change::Write(manifests) => json_lines(manifests),
        // Only of a root that a build decides about: `tests/generators.rs`.
        Change::Kustomization(_) | Change::Same(_) => panic!(),
    };
    artifact.changes.into_iter().map(|(path, change)| (path.to_string(), documents(change))).collect()
}

fn written_of(case: &str) -> Written {
    written(self::case(case).artifact(Asked::Git).unwrap())
}

fn encs(artifact: Artifact) -> BTreeSet<String> {
    let documents = written(artifact).into_values().flatten();
    documents.filter_map(|document| enc(&document).map(str::to_owned)).collect()
}

fn enc(document: &Value) -> Option<&str> {
    document.pointer("/sops/hc_vault/0/enc")?.as_str()
}

/// What the controller makes of a document, once it was given the data key.
fn opened(document: &Value, wrapping: &WrappingKeys) -> Value {
    let Some(enc) = enc(document) else { return document.clone() };
    let (bound, wrapped) = Bound::parse(enc).unwrap();
    let data_key = wrapping.unwrap(wrapped, &bound.context()).unwrap();
    let cipher = AesGcm::<Aes256, U32>::new_from_slice(data_key.expose()).unwrap();
    let mut document = document.as_object().unwrap().clone();
    document.remove("sops");
    decrypted(&Value::Object(document), "", &cipher)
}

/// Every leaf of SOPS' form decrypted, with its keys as additional data.
fn decrypted(value: &Value, keys: &str, cipher: &AesGcm<Aes256, U32>) -> Value {
    match value {
        Value::Object(map) => {
            let entry =
                |(key, value): (&String, &Value)| (key.clone(), decrypted(value, &format!("{keys}{key}:"), cipher));
            Value::Object(map.iter().map(entry).collect())
        }
        Value::Array(values) => values.iter().map(|value| decrypted(value, keys, cipher)).collect(),
        Value::String(text) => match text.strip_prefix("ENC[AES256_GCM,") {
            Some(fields) => leaf(fields.strip_suffix(']').unwrap(), keys, cipher),
            None => value.clone(),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn leaf(fields: &str, keys: &str, cipher: &AesGcm<Aes256, U32>) -> Value {
    let fields: BTreeMap<&str, &str> = fields.split(',').map(|field| field.split_once(':').unwrap()).collect();
    let bytes = |name: &str| STANDARD.decode(fields[name]).unwrap();
    let sealed = [bytes("data"), bytes("tag")].concat();
    let payload = Payload { msg: &sealed, aad: keys.as_bytes() };
    let text = String::from_utf8(cipher.decrypt(bytes("iv").as_slice().into(), payload).unwrap()).unwrap();
    match fields["type"] {
        "str" => Value::String(text),
        "int" => text.parse::<i64>().unwrap().into(),
        "bool" => Value::Bool(text == "True"),
        other => panic!("{other}"),
    }
}

/// What the API server makes of it: `stringData` wins over `data`, and nothing is nothing.
fn applied(mut object: Value) -> Value {
    let map = object.as_object_mut().unwrap();
    map.retain(|_, value| !value.is_null());
    if map["kind"] == "Secret" && map["metadata"]["labels"]["regent.dev/authority"].is_string() {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut data = Map::new();
        for (key, value) in map.remove("data").iter().filter_map(Value::as_object).flatten() {
            let base64: String = text(value).split_whitespace().collect();
            data.insert(key.clone(), Value::String(STANDARD.encode(STANDARD.decode(base64).unwrap())));
        }
        for (key, value) in map.remove("stringData").iter().filter_map(Value::as_object).flatten() {
            data.insert(key.clone(), Value::String(STANDARD.encode(text(value))));
        }
        map.insert("data".to_owned(), Value::Object(data));
    }
    object
}

/// The object in the namespace that a kustomization gives it.
fn placed(mut object: Value, namespace: &Value) -> Value {
    if namespace.is_string() {
        object["metadata"]["namespace"] = namespace.clone();
    }
    object
}

fn has_kustomization(files: &Files) -> bool {
    files.iter().any(|(path, _)| path.file_name().starts_with("kustomization."))
}

#[test]
fn who_has_the_data_keys_reads_what_render_says() {
    let wrapping = keys().wrapping_keys();
    let mut sealed = 0;
    for case in cases().into_iter().map(Case::whole) {
        let (Ok(artifact), Ok(rendered)) = (case.artifact(Asked::Git), case.render(Asked::Git)) else { continue };
        assert_eq!(artifact.phase, Phase::Bootstrap);
        let mut expected: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for manifest in rendered {
            let file = manifest.file().to_string();
            expected.entry(file).or_default().extend(json_lines(vec![manifest]));
        }
        for (path, change) in artifact.changes {
            let Change::Write(manifests) = change else { continue };
            let file = manifests.first().map_or_else(|| path.to_string(), |manifest| manifest.file().to_string());
            let wanted = expected.remove(&file).unwrap_or_default();
            assert_eq!(manifests.len(), wanted.len(), "{}: {path}", case.name());
            for (manifest, mut wanted) in manifests.into_iter().zip(wanted) {
                let is_sealed = manifest.content() == Held::Sealed;
                sealed += usize::from(is_sealed);
                let identity = manifest.identity().clone();
                let document = json_lines(vec![manifest]).remove(0);
                assert_eq!(enc(&document).is_some(), is_sealed, "{}: {path}", case.name());
                let mut got = applied(opened(&document, &wrapping));
                if has_kustomization(&case.files) {
                    got = placed(got, &wanted["metadata"]["namespace"]);
                }
                if case.name() == "a-copy-of-a-live-secret" {
                    // Its values once more; the controller would take it off.
                    let annotations = wanted["metadata"]["annotations"].as_object_mut().unwrap();
                    assert!(annotations.shift_remove("kubectl.kubernetes.io/last-applied-configuration").is_some());
                }
                assert_eq!(got, applied(wanted.clone()), "{}: {path}", case.name());
                assert_eq!(wanted["metadata"]["namespace"].as_str(), identity.namespace.as_deref());
            }
        }
        // What stays as it is in Git had nothing encrypted in it.
        let left = expected.into_values().flatten();
        assert!(left.into_iter().all(|object| !holds_guard(&object)), "{}", case.name());
    }
    assert!(sealed >= 35, "{sealed}");
}

fn holds_guard(object: &Value) -> bool {
    object["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/prune"] == "disabled"
}

#[test]
fn what_render_refuses_makes_no_artifact() {
    let mut refused = 0;
    for case in cases().into_iter().map(Case::whole) {
        for asked in [Asked::Git, Asked::Vault(Door::Flux), Asked::Settled(Door::Flux), Asked::Unreadable] {
            let (rendered, artifact) = (case.render(asked).err(), case.artifact(asked).err());
            let own = TOO_OPEN.iter().find(|(name, _)| *name == case.name() && matches!(asked, Asked::Git));
            if let Some((_, own)) = own {
                assert_eq!((rendered, artifact.unwrap().to_string().as_str()), (None, *own));
            } else {
                refused += usize::from(rendered.is_some());
                assert_eq!(artifact, rendered, "{}", case.name());
            }
        }
    }
    assert!(refused >= 60, "{refused}");
    assert_eq!(case("classes").artifact(Asked::Nobody).err(), Some(Refusal::Unasked));
}

#[test]
fn what_leaves_encrypted_shows_its_name_and_carries_the_guards() {
    for (file, documents) in cases().iter().filter_map(|case| case.artifact(Asked::Git).ok()).flat_map(written) {
        for document in documents.iter().filter(|document| enc(document).is_some()) {
            assert!(holds_guard(document), "{file}");
            let options = document["metadata"]["annotations"]["argocd.argoproj.io/sync-options"].as_str().unwrap();
            assert!(options.starts_with("Prune=false,Delete=false"), "{options}");
            if document["kind"] == "Secret" {
                assert_eq!(document["metadata"]["labels"]["regent.dev/authority"], "prod", "{file}");
            }
            let named = [&document["apiVersion"], &document["kind"], &document["metadata"]["name"]];
            assert!(named.iter().all(|text| !text.as_str().unwrap().starts_with("ENC[")), "{file}");
            assert!(!document["metadata"].to_string().contains("ENC["), "{file}");
            let recipients: Vec<&String> = document["sops"].as_object().unwrap().keys().collect();
            let others = ["age", "pgp", "kms", "gcp_kms", "azure_kv", "key_groups", "shamir_threshold"];
            assert!(recipients.iter().all(|field| !others.contains(&field.as_str())), "{recipients:?}");
            assert_eq!(document["sops"]["hc_vault"].as_array().unwrap().len(), 1);
        }
    }
}

#[test]
fn no_artifact_and_no_refusal_holds_a_value() {
    let mut looked_at = 0;
    for case in cases().into_iter().map(Case::whole) {
        for asked in ALL {
            match case.artifact(asked) {
                Err(refusal) => assert!(!holds_canary(&format!("{refusal} {refusal:?}")), "{}", case.name()),
                Ok(artifact) => {
                    let manifests = artifact.changes.into_values().flat_map(|change| match change {
                        Change::Remove => Vec::new(),
                        Change::Write(manifests) => manifests,
                        Change::Kustomization(_) | Change::Same(_) => panic!(),
                    });
                    for manifest in manifests {
                        assert!(!manifest.holds_values(), "{}", case.name());
                        for encoding in [Encoding::Json, Encoding::Yaml] {
                            let preview = manifest.preview(encoding).unwrap();
                            assert!(!holds_canary(std::str::from_utf8(preview.expose()).unwrap()));
                        }
                        let yaml = manifest.into_bytes(Encoding::Yaml).unwrap();
                        assert!(!holds_canary(std::str::from_utf8(yaml.expose()).unwrap()), "{}", case.name());
                        looked_at += 1;
                    }
                }
            }
        }
    }
    assert!(looked_at >= 60, "{looked_at}");
}

#[test]
fn once_vault_rules_there_are_stubs_and_no_ciphertext() {
    let (mut stubs, mut deliveries) = (0, 0);
    for case in cases().into_iter().map(Case::whole) {
        for asked in [Asked::Vault(Door::Flux), Asked::Settled(Door::Flux), Asked::Unreadable] {
            let Ok(artifact) = case.artifact(asked) else { continue };
            assert_eq!(artifact.phase, Phase::Handover);
            for change in artifact.changes.into_values() {
                let Change::Write(manifests) = change else { continue };
                for manifest in manifests {
                    let content = manifest.content();
                    assert!(!manifest.holds_values());
                    let object = json_lines(vec![manifest]).remove(0);
                    assert!(object.get("sops").is_none() && !object.to_string().contains("ENC["), "{object}");
                    match content {
                        Held::Stub => {
                            stubs += 1;
                            let annotations = &object["metadata"]["annotations"];
                            assert_eq!(annotations["kustomize.toolkit.fluxcd.io/ssa"], "Ignore", "{object}");
                            assert!(holds_guard(&object), "{object}");
                        }
                        Held::Delivery => deliveries += 1,
                        Held::Plain => {}
                        Held::Values | Held::Sealed => panic!("{}: {object}", case.name()),
                    }
                }
            }
        }
    }
    assert!(stubs >= 30 && deliveries >= 2, "{stubs} {deliveries}");
}

#[test]
fn a_file_without_encrypted_documents_stays_as_it_is() {
    for asked in [Asked::Git, Asked::Vault(Door::Flux)] {
        let artifact = case("classes").artifact(asked).unwrap();
        let changed: Vec<String> = artifact.changes.keys().map(ToString::to_string).collect();
        assert_eq!(changed, ["db.yaml", "regent.yaml", "repo.yaml"]);
    }
}

#[test]
fn a_block_goes_although_nothing_is_encrypted() {
    for asked in [Asked::Git, Asked::Vault(Door::Flux)] {
        let mut written = written(case("a-sops-block-and-nothing-encrypted").artifact(asked).unwrap());
        let documents = written.remove("config.yaml").unwrap();
        assert_eq!(documents.len(), 1);
        assert!(documents[0].get("sops").is_none() && documents[0]["data"]["k"] == "v", "{documents:?}");
    }
}

#[test]
fn regent_yaml_and_what_regent_passes_over_is_left_out() {
    let mut case = case("classes");
    for name in [".hidden/a.yaml", ".b.yaml", "c.yaml"] {
        insert(&mut case.files, name, Content::NotRead);
    }
    let own = FilePath::parse("regent.yaml").unwrap();
    let yaml = b"apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\nepoch: 1\nsecrets:\n  exclude: [c.yaml]\n  plain: [app/public-bundle, app/public]\n";
    case.bootstrap = regent_core::bootstrap::Bootstrap::parse(&own, yaml).unwrap();
    let removed = |case: &Case| -> Option<Vec<String>> {
        let changes = case.artifact(Asked::Git).ok()?.changes.into_iter();
        let gone = changes.filter(|(_, change)| matches!(change, Change::Remove));
        Some(gone.map(|(path, _)| path.to_string()).collect())
    };
    assert_eq!(removed(&case).unwrap(), [".b.yaml", ".hidden/a.yaml", "c.yaml", "regent.yaml"]);
}

/// No kustomization lists it, so nobody judged it.
#[test]
fn an_encrypted_file_that_no_kustomization_lists_is_left_out() {
    for asked in [Asked::Git, Asked::Unreadable] {
        let Ok(artifact) = case("kustomization").artifact(asked) else { panic!() };
        let forgotten = FilePath::parse("forgotten.yaml").unwrap();
        assert!(matches!(artifact.changes.get(&forgotten), Some(Change::Remove)));
    }
}

#[test]
fn a_file_encrypted_as_a_whole_gets_the_name_of_what_is_in_it() {
    let names = |case: &Case| -> Vec<(String, bool)> {
        let changes = case.artifact(Asked::Git).unwrap().changes.into_iter();
        changes.map(|(path, change)| (path.to_string(), matches!(change, Change::Write(_)))).collect()
    };
    let of = |entries: &[(&str, bool)]| entries.iter().map(|(name, is)| ((*name).to_owned(), *is)).collect::<Vec<_>>();
    let mut whole = case("encrypted-as-a-whole");
    assert_eq!(names(&whole), of(&[("regent.yaml", false), ("tls.yaml", true), ("tls.yaml.age", false)]));
    // A kustomization lists it by its name.
    insert(&mut whole.files, "kustomization.yaml", Content::Bytes(b"resources: [tls.yaml.age]\n".to_vec()));
    assert_eq!(names(&whole), of(&[("regent.yaml", false), ("tls.yaml.age", true)]));
    // One that is not looked at lists nothing.
    let yaml = b"apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\nepoch: 1\nsecrets: {exclude: [kustomization.yaml]}\n";
    whole.bootstrap = regent_core::bootstrap::Bootstrap::parse(&FilePath::parse("regent.yaml").unwrap(), yaml).unwrap();
    assert_eq!(
        names(&whole),
        of(&[("kustomization.yaml", false), ("regent.yaml", false), ("tls.yaml", true), ("tls.yaml.age", false)])
    );
}

/// kustomize-controller looks for `.yaml` and `.yml` alone.
#[test]
fn json_gets_an_ending_that_the_controller_looks_for() {
    let written = written_of("json");
    let documents = |name: &str| written.get(name).map(Vec::len);
    assert_eq!((documents("db.json"), documents("db.json.yaml")), (Some(0), Some(1)));
}

#[test]
fn no_two_files_get_one_name() {
    let bytes = |case: &Case, name: &str| {
        let Some(Content::Bytes(bytes)) = case.files.get(&FilePath::parse(name).unwrap()) else { panic!("{name}") };
        bytes.clone()
    };
    let plain = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: plain, namespace: app}\n";
    let of_whole = |name: &str, content: Vec<u8>| {
        let mut case = case("encrypted-as-a-whole");
        insert(&mut case.files, name, Content::Bytes(content));
        case
    };
    let whole = bytes(&case("encrypted-as-a-whole"), "tls.yaml.age");
    let taken = |case: &Case, file: &str| {
        let refusal = case.artifact(Asked::Git).err();
        let file = FilePath::parse(file).unwrap();
        assert_eq!(refusal, Some(Refusal::Document { file, problem: DocumentProblem::NameTaken }));
    };
    taken(&of_whole("tls.yaml", plain.to_vec()), "tls.yaml.age");
    // A kustomization would decide about the whole folder.
    let mut kustomization = Files::default();
    let source = case("encrypted-as-a-whole");
    insert(&mut kustomization, "regent.yaml", Content::Bytes(bytes(&source, "regent.yaml")));
    insert(&mut kustomization, "kustomization.yaml.age", Content::Bytes(whole));
    taken(&Case { files: kustomization, ..source }, "kustomization.yaml.age");
    // Two that would both be new.
    let (json, secret) = (case("json"), case("identity-is-encrypted"));
    let mut files = Files::default();
    insert(&mut files, "regent.yaml", Content::Bytes(bytes(&json, "regent.yaml")));
    insert(&mut files, "db.json", Content::Bytes(bytes(&json, "db.json")));
    insert(&mut files, "db.json.yaml", Content::Bytes(plain.to_vec()));
    taken(&Case { files, ..secret }, "db.json");
}

#[test]
fn a_list_that_hides_its_kind_loses_no_item() {
    let mut written = written_of("a-list-encrypted-whole");
    let documents = written.remove("list.yaml").unwrap();
    let names: Vec<_> = documents.iter().map(|document| document["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(documents.iter().all(|document| enc(document).is_some()));
}

/// Read by the controller's own rule: `kustomize` drops comments.
#[test]
fn what_the_controller_could_not_read_so_is_encrypted_anew() {
    let rule = |case: &str, file: &str| {
        let mut written = written_of(case);
        let document = written.remove(file).unwrap().remove(0);
        document["sops"]["encrypted_regex"].as_str().map(str::to_owned)
    };
    let anew = Some("^(data|stringData)$");
    for (case, file) in [
        ("a-rule-that-follows-comments", "db.yaml"),
        ("one-key-of-a-secret-is-encrypted", "db.yaml"),
        ("identity-is-encrypted", "all.yaml"),
        ("lists-are-flattened", "list.yaml"),
        ("encrypted-as-a-whole", "tls.yaml"),
    ] {
        assert_eq!(rule(case, file).as_deref(), anew, "{case}");
    }
    let kept = rule("mac-only-encrypted-allowed", "db.yaml");
    assert_eq!(kept.as_deref(), Some("^stringData$"));
}

#[test]
fn ciphertext_that_the_controller_reads_stays_as_it_stands_in_git() {
    for (case, file) in
        [("classes", "db.yaml"), ("groups-of-keys", "db.yaml"), ("mac-only-encrypted-allowed", "db.yaml")]
    {
        let case = self::case(case);
        let Some(Content::Bytes(bytes)) = case.files.get(&FilePath::parse(file).unwrap()) else { panic!("{file}") };
        let in_git: Value = yaml_serde::from_slice(bytes).unwrap();
        let mut written = written(case.artifact(Asked::Git).unwrap());
        assert_eq!(written.remove(file).unwrap()[0]["stringData"], in_git["stringData"], "{}", case.name());
    }
}

#[test]
fn an_artifact_is_the_same_to_the_byte_however_it_was_gathered() {
    for case in cases() {
        let mut backwards = Files::default();
        let root = case.folder.join("root");
        for path in file_paths(&root).iter().rev() {
            gather(&root, path, &mut backwards);
        }
        let bytes = |case: &Case| {
            let artifact = case.artifact(Asked::Git)?;
            let yaml = |manifest: Manifest| manifest.into_bytes(Encoding::Yaml).unwrap().expose().to_vec();
            let file = |change| match change {
                Change::Remove => None,
                Change::Write(manifests) => Some(manifests.into_iter().map(yaml).collect::<Vec<_>>()),
                Change::Kustomization(_) | Change::Same(_) => panic!(),
            };
            let files = artifact.changes.into_iter().map(|(path, change)| (path, file(change)));
            Ok::<_, Refusal>(files.collect::<Vec<_>>())
        };
        let (first, second) = (bytes(&case), bytes(&case));
        assert_eq!(first, second, "{}", case.name());
        assert_eq!(first, bytes(&Case { files: backwards, ..case }));
    }
}

#[test]
fn a_wrapped_key_is_for_one_authority_epoch_and_kustomization() {
    let wrapping = keys().wrapping_keys();
    let mut compared = 0;
    for case in cases() {
        let own = case.bound();
        let Ok(artifact) = case.artifact(Asked::Git) else { continue };
        let own_encs = encs(artifact);
        for other in [
            Bound { authority: AuthorityName::parse("other").unwrap(), ..own.clone() },
            Bound { epoch: Epoch::new(own.epoch.to_string().parse::<u64>().unwrap() + 1).unwrap(), ..own.clone() },
            Bound { kustomization: ObjectName::parse("team/other").unwrap(), ..own.clone() },
            Bound { kustomization: ObjectName::parse("other/apps").unwrap(), ..own.clone() },
        ] {
            let other_encs = encs(case.artifact_for(Asked::Git, &other, ENDPOINT).unwrap());
            assert!(own_encs.is_disjoint(&other_encs), "{}", case.name());
            assert_eq!(own_encs.len(), other_encs.len());
            for enc in &other_encs {
                let (bound, wrapped) = Bound::parse(enc).unwrap();
                assert_eq!(bound, other);
                assert!(wrapping.unwrap(wrapped, &other.context()).is_ok());
                assert!(wrapping.unwrap(wrapped, &own.context()).is_err());
                compared += 1;
            }
        }
    }
    assert!(compared >= 100, "{compared}");
}

#[test]
fn the_endpoint_stands_in_every_stanza_and_changes_no_wrapped_key() {
    let case = case("classes");
    let at = |endpoint: &str| case.artifact_for(Asked::Git, &case.bound(), endpoint).unwrap();
    for document in written(at("https://other.example")).into_values().flatten() {
        assert_eq!(document["sops"]["hc_vault"][0]["vault_address"], "https://other.example");
        assert_eq!(document["sops"]["hc_vault"][0]["engine_path"], "regent/prod");
        assert_eq!(document["sops"]["hc_vault"][0]["key_name"], "apps");
    }
    assert_eq!(encs(at("https://other.example")), encs(at(ENDPOINT)));
}

#[test]
fn without_a_wrapping_key_there_is_no_artifact_of_values_and_one_of_stubs() {
    let case = case("classes");
    let artifact = |asked| {
        let (none, nothing) = (Keyring::default(), Known::default());
        let given = Given { wrapping: none.wrapping_keys(), keys: none, ..case.given(asked) };
        artifact::artifact(&case.request(&given, &nothing), Parsed::default())
    };
    assert_eq!(artifact(Asked::Git).err(), Some(Refusal::NoWrappingKey));
    assert!(artifact(Asked::Vault(Door::Flux)).is_ok());
}

fn text_of(manifest: Manifest) -> String {
    String::from_utf8(manifest.into_bytes(Encoding::Yaml).unwrap().expose().to_vec()).unwrap()
}

/// An artifact, and what stands in it: what is as before is looked up there.
fn asked_with(
    request: &artifact::Request<'_>,
    before: &BTreeMap<FilePath, Vec<String>>,
) -> Result<(Known, Texts), Refusal> {
    asked_with_parsed(request, before, Parsed::default())
}

fn asked_with_parsed(
    request: &artifact::Request<'_>,
    before: &BTreeMap<FilePath, Vec<String>>,
    parsed: Parsed,
) -> Result<(Known, Texts), Refusal> {
    let artifact = artifact::artifact(request, parsed)?;
    let text = |change| match change {
        Change::Remove => None,
        Change::Write(manifests) => Some(manifests.into_iter().map(text_of).collect()),
        Change::Same(name) => Some(before[&name].clone()),
        Change::Kustomization(_) => panic!(),
    };
    let texts = artifact.changes.into_iter().map(|(path, change)| (path, text(change))).collect();
    Ok((artifact.known, texts))
}

type Texts = BTreeMap<FilePath, Option<Vec<String>>>;

fn present(texts: Texts) -> BTreeMap<FilePath, Vec<String>> {
    texts.into_iter().filter_map(|(path, text)| Some((path, text?))).collect()
}

/// The files with one of them replaced, or without it.
fn replaced(files: &Files, path: &FilePath, by: Option<&[u8]>) -> Files {
    let mut others = Files::default();
    for (each, content) in files.iter() {
        let content = match content {
            Content::Bytes(_) if each == path && by.is_none() => continue,
            Content::Bytes(bytes) => Content::Bytes(by.filter(|_| each == path).unwrap_or(bytes).to_vec()),
            Content::TooLarge { size } => Content::TooLarge { size: *size },
            Content::BadLink => Content::BadLink,
            Content::Special => Content::Special,
            Content::NotRead => Content::NotRead,
        };
        assert!(others.insert(each.clone(), content));
    }
    others
}

/// Whatever changed: a file, the rule, for whom, where.
#[test]
fn what_is_known_of_an_artifact_never_changes_the_next() {
    let (nothing, mut compared) = (Known::default(), 0);
    for case in cases() {
        let case = case.whole();
        let given = case.given(Asked::Git);
        let request = case.request(&given, &nothing);
        let Ok((known, texts)) = asked_with(&request, &BTreeMap::new()) else { continue };
        let before = present(texts);
        let mut same = |request: &artifact::Request<'_>| {
            let anew = asked_with(&artifact::Request { known: &nothing, ..*request }, &BTreeMap::new());
            let by_known = asked_with(&artifact::Request { known: &known, ..*request }, &before);
            assert!(anew.map(|it| it.1) == by_known.map(|it| it.1), "{}", case.name());
            compared += 1;
        };
        same(&request);
        let all: Vec<_> = case.files.iter().map(|(path, _)| path.clone()).collect();
        for (path, other) in all.iter().zip(all.iter().cycle().skip(1)) {
            let (Some(own), Some(other)) = (case.files.document(path), case.files.document(other)) else { continue };
            let longer = [own, b"\n# more\n"].concat();
            for by in [None, Some(other), Some(&longer), Some(b"")] {
                let files = replaced(&case.files, path, by);
                same(&artifact::Request { files: &files, ..request });
            }
        }
        let mut other_bound = case.bound();
        other_bound.kustomization = ObjectName::parse("team/others").unwrap();
        let mut other_bootstrap = case.bootstrap.clone();
        other_bootstrap.secrets.namespace = None;
        let small = Limits { nodes: 10, ..given.limits };
        same(&artifact::Request { bound: &other_bound, ..request });
        same(&artifact::Request { bootstrap: &other_bootstrap, ..request });
        same(&artifact::Request { endpoint: "https://other.example", ..request });
        same(&artifact::Request { namespaces: &[], ..request });
        same(&artifact::Request { limits: &small, ..request });
        for asked in [Asked::Vault(Door::Flux), Asked::Nobody] {
            same(&artifact::Request { ruling: &case.ruling(asked), ..request });
        }
    }
    assert!(compared > 300, "{compared}");
}

/// What a walk parsed stands for the bytes of the very same file, and for nothing else.
#[test]
fn an_artifact_of_what_a_walk_parsed_is_the_same() {
    let nothing = Known::default();
    let mut taken = 0;
    for case in cases().into_iter().map(Case::whole) {
        let given = case.given(Asked::Git);
        let request = case.request(&given, &nothing);
        let parsed = || reach_parsed(&case.files, "", &Overrides::default(), &given.limits).1;
        let anew = asked_with(&request, &BTreeMap::new()).map(|it| it.1);
        assert!(asked_with_parsed(&request, &BTreeMap::new(), parsed()).map(|it| it.1) == anew, "{}", case.name());
        // Without their bytes nothing is left to parse: what is written then was parsed before.
        let mut emptied = Files::default();
        for (path, content) in case.files.iter() {
            let is_kustomization = path.file_name() == "kustomization.yaml";
            let bytes = case.files.document(path).filter(|_| is_kustomization).unwrap_or_default().to_vec();
            let content = if let Content::Bytes(_) = content { Content::Bytes(bytes) } else { Content::NotRead };
            assert!(emptied.insert(path.clone(), content));
        }
        let emptied = artifact::Request { files: &emptied, ..request };
        let (Ok(anew), Ok((_, kept))) = (anew, asked_with_parsed(&emptied, &BTreeMap::new(), parsed())) else {
            continue;
        };
        for (path, text) in kept.iter().filter(|(_, text)| text.as_ref().is_some_and(|text| !text.is_empty())) {
            assert!(anew.get(path) == Some(text), "{}: {path}", case.name());
            taken += 1;
        }
    }
    assert!(taken > 10, "{taken}");
}

/// What says the same is not opened again: who has no key makes the same artifact of it.
#[test]
fn what_is_known_is_not_opened_again() {
    let (case, none, nothing) = (case("classes"), Keyring::default(), Known::default());
    let given = case.given(Asked::Git);
    let mut request = case.request(&given, &nothing);
    let first = artifact::artifact(&request, Parsed::default()).unwrap();
    let written = first.changes.values().filter(|change| matches!(change, Change::Write(_))).count();
    request.keys = (&none).into();
    assert!(artifact::artifact(&request, Parsed::default()).is_err());
    request.known = &first.known;
    let second = artifact::artifact(&request, Parsed::default()).unwrap();
    let same = second.changes.iter().filter(|(path, change)| matches!(change, Change::Same(name) if name == *path));
    assert_eq!((same.count(), written > 1), (written, true));
    // And what was taken over is known to the third.
    request.known = &second.known;
    assert!(artifact::artifact(&request, Parsed::default()).is_ok());
}

/// Its own bytes say the same, and the namespace is another.
#[test]
fn a_file_that_a_kustomization_moves_is_judged_again() {
    let (mut case, nothing) = (case("kustomization"), Known::default());
    case.namespaces = vec!["outer".to_owned()];
    let given = case.given(Asked::Git);
    let known = artifact::artifact(&case.request(&given, &nothing), Parsed::default()).unwrap().known;
    assert!(artifact::artifact(&case.request(&given, &known), Parsed::default()).is_ok());
    let name = FilePath::parse("kustomization.yaml").unwrap();
    let text = std::str::from_utf8(case.files.document(&name).unwrap()).unwrap().replace("outer", "other");
    let files = replaced(&case.files, &name, Some(text.as_bytes()));
    let moved = artifact::Request { files: &files, ..case.request(&given, &known) };
    let refused = artifact::artifact(&moved, Parsed::default()).err();
    let Some(Refusal::Document { problem: DocumentProblem::NamespaceNotAllowed { namespace }, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(namespace, "other");
}

#[test]
fn a_file_that_nobody_judged_is_told_by_its_marks() {
    let told = |name: &str, bytes: &[u8]| is_encrypted(&FilePath::parse(name).unwrap(), bytes);
    for bytes in [
        b"a: ENC[AES256_GCM,data:QUJD".as_slice(),
        b"DB=ENC[AES256_GCM,",
        b"EENC[AES256_GCM,",
        b"x\n-----BEGIN AGE ENCRYPTED FILE-----\n",
        b"------BEGIN PGP MESSAGE-----",
        b"age-encryption.org/v1\n-> X25519 abc\n",
    ] {
        assert!(told("a.env", bytes), "{}", String::from_utf8_lossy(bytes));
    }
    assert!(told("a.yaml.age", b"") && told("b.gpg", b""));
    for bytes in [b"".as_slice(), b"ENC[", b"-----BEGIN CERTIFICATE-----\n", b"ENC[AES256_GCM"] {
        assert!(!told("a.env", bytes), "{}", String::from_utf8_lossy(bytes));
    }
}
