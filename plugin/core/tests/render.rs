//! The cases of `tests/render/`: what lies in Git, and what a cluster would get of it. The folder's
//! README says what each file is.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "the cases are files, and a test may look at bytes"
)]

mod cases;

use cases::{ALL, Asked, Case, case, cases, file_paths, gather, holds_canary, insert, json_lines, keys, settled};
use regent_core::authority::Ruling;
use regent_core::emit::{ChangeKind, Content as Held, Encoding, Manifest};
use regent_core::evidence::{AuthorityWitness, DocumentList, ListedClass, ListedDocument, Reading};
use regent_core::files::{Content, Files, wanted};
use regent_core::lint::{self, Finding, Rule, Severity};
use regent_core::name::{FilePath, SecretName};
use regent_core::render::{self, Door, Request};
use regent_core::{DocumentProblem, Refusal};
use regent_sops::{Keyring, Limits, Plaintext};
use serde::Deserialize as _;
use serde_json::Value;

#[test]
fn git_rules_and_values_are_rendered() {
    assert!(each("git", Asked::Git) >= 38);
}

#[test]
fn nobody_was_asked_and_values_are_described() {
    assert!(each("nobody", Asked::Nobody) >= 2);
}

#[test]
fn vault_rules_and_argo_cd_gets_stubs() {
    assert!(each("vault", Asked::Vault(Door::ArgoCd)) >= 5);
}

#[test]
fn vault_rules_and_flux_gets_stubs() {
    assert!(each("flux", Asked::Vault(Door::Flux)) >= 1);
}

#[test]
fn it_is_settled_and_argo_cd_gets_what_delivers() {
    assert!(each("settled", Asked::Settled(Door::ArgoCd)) >= 1);
}

#[test]
fn it_is_settled_and_flux_gets_what_delivers() {
    assert!(each("settled-flux", Asked::Settled(Door::Flux)) >= 1);
}

#[test]
fn vault_rules_and_the_list_is_unreadable() {
    assert!(each("unreadable", Asked::Unreadable) >= 10);
}

#[test]
fn lint_finds_everything_at_once() {
    let mut found = 0;
    for case in cases() {
        let Ok(expected) = std::fs::read_to_string(case.folder.join("lint.txt")) else { continue };
        let lines: Vec<String> = case.lint(&keys()).iter().map(line).collect();
        assert_eq!(lines.join("\n"), expected.trim_end(), "{}", case.name());
        found += 1;
    }
    assert!(found >= 2);
}

/// Whatever a rendering refuses, lint names as an error, and what renders has none.
#[test]
fn lint_and_render_agree() {
    // A folder's answer is no matter of what lies beside it; lint looks at the whole root.
    for case in cases().into_iter().filter(|case| case.asked_for.is_none()) {
        let refused = match case.render(Asked::Git) {
            Err(Refusal::Document { problem: DocumentProblem::NamespaceNotAllowed { .. }, .. }) => continue,
            answer => answer.is_err(),
        };
        let errors = case.lint(&keys()).into_iter().filter(|finding| finding.severity == Severity::Error);
        let errors: Vec<String> = errors.map(|finding| line(&finding)).collect();
        assert_eq!(refused, !errors.is_empty(), "{}: {errors:?}", case.name());
    }
}

#[test]
fn lint_without_an_identity_says_so_and_sees_what_ciphertext_tells() {
    let case = case("a-number-is-refused");
    let rules: Vec<Rule> = case.lint(&Keyring::default()).iter().map(|finding| finding.rule).collect();
    assert_eq!(rules, [Rule::NotOpened, Rule::SecretInvalid]);
}

/// Nothing that was answered for a folder while Git ruled is missing once Vault does, or a prune would see it gone.
#[test]
fn a_folder_holds_the_same_objects_whoever_rules() {
    let named = |manifests: Vec<Manifest>| manifests.iter().map(|m| m.identity().to_string()).collect::<Vec<_>>();
    let mut answered = 0;
    for case in cases().into_iter().filter(|case| case.asked_for.is_some()) {
        let (Ok(git), Ok(vault)) = (case.render(Asked::Git), case.render(Asked::Vault(Door::ArgoCd))) else { continue };
        assert_eq!(named(git), named(vault), "{}", case.name());
        answered += 1;
    }
    assert!(answered >= 3);
}

/// Rendered from the whole root, a folder's files are those that the folder answers, where no kustomization lies above.
#[test]
fn the_folders_of_a_root_together_are_the_root() {
    let mut case = case("classes");
    for name in ["a/x.yaml", "a/b/y.yaml", "ab/z.yaml"] {
        let object = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {}}}\n", name.replace('/', "."));
        insert(&mut case.files, name, Content::Bytes(object.into_bytes()));
    }
    let mut answered = |folder: Option<&str>| {
        case.asked_for = folder.map(|folder| FilePath::parse(folder).unwrap());
        let manifests = case.render(Asked::Git).unwrap();
        manifests.iter().map(|manifest| manifest.file().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(answered(Some("a")), ["a/b/y.yaml", "a/x.yaml"]);
    assert_eq!(answered(Some("a/b")), ["a/b/y.yaml"]);
    assert_eq!(answered(Some("ab")), ["ab/z.yaml"]);
    assert_eq!(answered(None).len(), 4 + 3);
}

#[test]
fn stubs_need_no_identity() {
    for case in cases() {
        for asked in [Asked::Vault(Door::ArgoCd), Asked::Settled(Door::ArgoCd)] {
            let open = case.render(asked).map(json_lines);
            let closed = case.render_with(asked, &Keyring::default()).map(json_lines);
            assert_eq!(open, closed, "{}", case.name());
        }
    }
}

/// A prune would see what is missing: what delivers comes beside the stubs, and goes without taking one along.
#[test]
fn whether_it_is_settled_changes_no_stub() {
    let mut delivered = 0;
    for case in cases() {
        for door in [Door::ArgoCd, Door::Flux] {
            let (Ok(vault), Ok(settled)) = (case.render(Asked::Vault(door)), case.render(Asked::Settled(door))) else {
                assert_eq!(case.render(Asked::Vault(door)).err(), case.render(Asked::Settled(door)).err());
                continue;
            };
            let (delivery, others): (Vec<_>, Vec<_>) =
                settled.into_iter().partition(|manifest| manifest.content() == Held::Delivery);
            assert_eq!(json_lines(vault), json_lines(others), "{}", case.name());
            delivered += delivery.len();
        }
    }
    assert!(delivered >= 10);
}

#[test]
fn without_a_list_or_a_place_nothing_delivers() {
    let case = case("delivered-by-external-secrets");
    let delivers = |list, witness| {
        let ruling = case.vault(list).settled_by(&settled(witness));
        let manifests = case.render_by(&ruling, Door::ArgoCd, &Keyring::default()).unwrap();
        manifests.iter().any(|manifest| manifest.content() == Held::Delivery)
    };
    let list = || DocumentList::Readable(case.handed_over());
    let nowhere = AuthorityWitness { vault: None, ..case.witness() };
    assert!(delivers(list(), Reading::Present(case.witness())));
    assert!(!delivers(list(), Reading::Present(nowhere)));
    assert!(!delivers(list(), Reading::Absent));
    assert!(!delivers(list(), Reading::Unreadable("timeout".to_owned())));
}

/// The place in Vault is the one that was handed over to, whatever a later commit says.
#[test]
fn a_commit_moves_no_delivery() {
    let mut case = case("delivered-by-external-secrets");
    let before = case.render(Asked::Settled(Door::ArgoCd)).map(json_lines);
    let witness = case.witness();
    case.bootstrap.vault.as_mut().unwrap().prefix = "bootstrap/other".to_owned();
    let ruling = case.vault(DocumentList::Readable(case.handed_over())).settled_by(&settled(Reading::Present(witness)));
    assert_eq!(case.render_by(&ruling, Door::ArgoCd, &Keyring::default()).map(json_lines), before);
}

#[test]
fn the_answer_is_the_same_to_the_byte_whenever_it_is_asked() {
    for case in cases() {
        for encoding in [Encoding::Json, Encoding::Yaml] {
            let bytes = |manifests: Vec<Manifest>| {
                manifests.into_iter().map(|m| m.into_bytes(encoding).unwrap().expose().to_vec()).collect::<Vec<_>>()
            };
            assert_eq!(case.render(Asked::Git).map(bytes), case.render(Asked::Git).map(bytes), "{}", case.name());
        }
    }
}

#[test]
fn the_order_in_which_files_were_gathered_does_not_count() {
    for case in cases() {
        let mut backwards = Files::default();
        let mut paths = file_paths(&case.folder.join("root"));
        paths.reverse();
        for path in paths {
            gather(&case.folder.join("root"), &path, &mut backwards);
        }
        let there = case.render(Asked::Git).map(json_lines);
        let turned = Case { files: backwards, ..case };
        assert_eq!(there, turned.render(Asked::Git).map(json_lines), "{}", turned.name());
    }
}

#[test]
fn yaml_and_json_say_the_same() {
    for case in cases() {
        let Ok(manifests) = case.render(Asked::Git) else { continue };
        let json = json_lines(manifests);
        let yaml = case.render(Asked::Git).unwrap().into_iter().map(|manifest| {
            let bytes = manifest.into_bytes(Encoding::Yaml).unwrap();
            yaml_serde::from_slice::<Value>(bytes.expose()).unwrap()
        });
        assert_eq!(json, yaml.collect::<Vec<_>>(), "{}", case.name());
    }
}

#[test]
fn no_secret_shows_in_a_preview_a_refusal_or_a_finding() {
    let mut values = 0;
    for case in cases() {
        for asked in ALL {
            match case.render(asked) {
                Ok(manifests) => {
                    for manifest in manifests.iter().filter(|manifest| manifest.content() != Held::Plain) {
                        values += 1;
                        for encoding in [Encoding::Json, Encoding::Yaml] {
                            let text = text_of(&manifest.preview(encoding).unwrap());
                            assert!(!holds_canary(&text), "{}: {text}", case.name());
                            assert_eq!(text.contains("not for apply"), manifest.content() != Held::Delivery, "{text}");
                        }
                    }
                }
                Err(refusal) => {
                    let text = format!("{refusal} {refusal:?}");
                    assert!(!holds_canary(&text), "{}: {text}", case.name());
                }
            }
        }
        let text = format!("{:?}", case.lint(&keys()));
        assert!(!holds_canary(&text), "{}: {text}", case.name());
    }
    assert!(values > 20);
}

#[test]
fn once_vault_rules_no_answer_holds_a_value() {
    for case in cases() {
        for asked in ALL.into_iter().filter(|asked| !matches!(asked, Asked::Git | Asked::Nobody)) {
            for manifest in case.render(asked).into_iter().flatten() {
                assert_ne!(manifest.content(), Held::Values);
                if manifest.content() != Held::Plain {
                    let bytes = manifest.into_bytes(Encoding::Json).unwrap();
                    let object: Value = serde_json::from_slice(bytes.expose()).unwrap();
                    assert!(object.get("data").is_none() && object.get("stringData").is_none(), "{object}");
                    assert!(!holds_canary(&object.to_string()) && !object.to_string().contains("ENC["), "{object}");
                }
            }
        }
    }
}

#[test]
fn where_nobody_was_asked_no_bytes_leave() {
    for manifest in case("classes").render(Asked::Nobody).unwrap() {
        assert_eq!(manifest.into_bytes(Encoding::Json).err(), Some(Refusal::Unasked));
    }
}

#[test]
fn without_the_key_the_whole_answer_is_an_error() {
    let answer = case("classes").render_with(Asked::Git, &Keyring::default());
    assert!(matches!(
        answer.err(),
        Some(Refusal::Document { problem: DocumentProblem::Sops(regent_sops::Error::NoKey(_)), .. })
    ));
}

#[test]
fn a_folder_without_regent_yaml_is_described_and_its_documentation_passed_over() {
    let mut case = case("classes");
    insert(&mut case.files, "README.md", Content::NotRead);
    assert_eq!(without_bootstrap(&case).unwrap().len(), 4);
    insert(&mut case.files, "install.sh", Content::NotRead);
    assert!(matches!(without_bootstrap(&case).err(), Some(Refusal::Files(_))));
}

fn without_bootstrap(case: &Case) -> Result<Vec<Manifest>, Refusal> {
    render::render(&Request {
        files: &case.files,
        folder: None,
        bootstrap: None,
        ruling: &Ruling::unasked(),
        keys: (&keys()).into(),
        namespaces: &case.namespaces,
        limits: &Limits::default(),
        door: Door::ArgoCd,
    })
}

#[test]
fn what_a_source_could_not_read_stops_the_answer() {
    let problems: [(&str, Content, &str); 4] = [
        ("big.yaml", Content::TooLarge { size: 6 << 20 }, "it has 6291456 bytes, more than the 5242880 that are read"),
        ("link.yaml", Content::BadLink, "it is a link that leaves the tree, dangles or loops"),
        ("socket.yaml", Content::Special, "it is neither a file nor a folder"),
        ("lost.yaml", Content::NotRead, "it was not read"),
    ];
    for (name, content, problem) in problems {
        let mut case = case("classes");
        insert(&mut case.files, name, content);
        assert_eq!(case.render(Asked::Git).err().unwrap().to_string(), format!("{name}: {problem}"));
    }
}

#[test]
fn sources_read_what_may_be_a_manifest_and_nothing_hidden() {
    for yes in [
        "a.yaml",
        "a.yml",
        "a.json",
        "a.yaml.age",
        "a.asc",
        "a.gpg",
        "a.pgp",
        "regent.yaml",
        "Chart.yaml",
        "Kustomization",
    ] {
        assert!(wanted(yes), "{yes}");
    }
    for no in [".sops.yaml", ".a.yaml", "README.md", "a.env", "a.ini", "a", "a.yaml.bak", "id_rsa"] {
        assert!(!wanted(no), "{no}");
    }
}

#[test]
fn a_change_names_keys_and_no_values() {
    let old = case("classes").render(Asked::Git).unwrap();
    let new = case("classes").render(Asked::Vault(Door::ArgoCd)).unwrap();
    assert_eq!(old[0].changes_since(&case("classes").render(Asked::Git).unwrap()[0]), []);
    let changes: Vec<_> = new[0].changes_since(&old[0]).into_iter().map(|change| (change.path, change.kind)).collect();
    let annotation = |name: &str| format!("metadata.annotations.{name}");
    assert_eq!(
        changes,
        [
            ("data.password".to_owned(), ChangeKind::Removed),
            (annotation("argocd.argoproj.io/hook"), ChangeKind::Added),
            (annotation("argocd.argoproj.io/sync-options"), ChangeKind::Changed),
            (annotation("kustomize.toolkit.fluxcd.io/prune"), ChangeKind::Removed),
        ]
    );
}

/// The bytes' length and sum: as good as a hash where a test changes one byte.
fn blob(bytes: &[u8]) -> String {
    format!("{}-{}", bytes.len(), bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>())
}

fn bytes_of(files: &Files, path: &str) -> Vec<u8> {
    let Some(Content::Bytes(bytes)) = files.get(&FilePath::parse(path).unwrap()) else { panic!("{path}") };
    bytes.clone()
}

/// The same files but for `path`, which gets other bytes or goes.
fn replaced(files: &Files, path: &str, bytes: Option<Vec<u8>>) -> Files {
    let mut other = Files::default();
    for (name, content) in files.iter().filter(|(name, _)| name.as_str() != path) {
        let Content::Bytes(bytes) = content else { continue };
        insert(&mut other, name.as_str(), Content::Bytes(bytes.clone()));
    }
    if let Some(bytes) = bytes {
        insert(&mut other, path, Content::Bytes(bytes));
    }
    other
}

/// A handover that lists `documents` of the case with the blobs that its files have now.
fn listed(case: &Case, documents: &[(&str, &str)]) -> Vec<ListedDocument> {
    let entry = |(path, name): &(&str, &str)| ListedDocument {
        path: FilePath::parse(path).unwrap(),
        name: SecretName::parse(name).unwrap(),
        kind: "Secret".to_owned(),
        class: ListedClass::Handover,
        blob: blob(&bytes_of(&case.files, path)),
    };
    documents.iter().map(entry).collect()
}

fn after_handover(case: &Case, files: &Files, documents: &[ListedDocument]) -> Vec<String> {
    let documents = DocumentList::Readable(documents.to_vec());
    let limits = Limits::default();
    let findings = lint::changes_after_handover(files, Some(&case.bootstrap), &documents, &limits, blob);
    let told = |finding: &Finding| {
        assert_eq!((finding.rule, finding.severity), (Rule::ChangedAfterHandover, Severity::Warning));
        let at = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("{}{at}: {}", finding.spot.file().unwrap(), finding.message)
    };
    findings.iter().map(told).collect()
}

#[test]
fn what_changes_in_git_after_the_handover_is_a_finding() {
    let case = case("classes");
    let list = listed(&case, &[("db.yaml", "app/db"), ("repo.yaml", "argocd/repo-creds")]);
    let changed = "the file was changed after Secret `app/db` was handed over, which has no effect";
    let mut bytes = bytes_of(&case.files, "db.yaml");
    bytes.push(b'\n');
    assert_eq!(after_handover(&case, &case.files, &list), [""; 0]);
    let other = replaced(&case.files, "db.yaml", Some(bytes.clone()));
    assert_eq!(after_handover(&case, &other, &list), [format!("db.yaml: {changed}")]);
    let clear =
        replaced(&case.files, "db.yaml", Some(b"apiVersion: v1\nkind: Secret\nmetadata: {name: db}\n".to_vec()));
    assert_eq!(after_handover(&case, &clear, &list), [format!("db.yaml: {changed}")]);
    let gone = replaced(&case.files, "db.yaml", None);
    assert_eq!(after_handover(&case, &gone, &list), [""; 0]);
    let moved = replaced(&gone, "moved.yaml", Some(bytes_of(&case.files, "db.yaml")));
    assert_eq!(after_handover(&case, &moved, &list), [""; 0]);
    let moved = replaced(&gone, "moved.yaml", Some(bytes));
    assert_eq!(after_handover(&case, &moved, &list), [format!("moved.yaml: {changed}")]);
}

#[test]
fn what_is_encrypted_and_not_listed_after_the_handover_is_a_finding() {
    let classes = case("classes");
    let list = listed(&classes, &[("repo.yaml", "argocd/repo-creds")]);
    let said = after_handover(&classes, &classes.files, &list);
    assert_eq!(said, ["db.yaml:1: Secret `db` is encrypted, and the handover does not list it"]);
    // Another namespace is another object.
    let list = listed(&classes, &[("repo.yaml", "argocd/repo-creds"), ("db.yaml", "web/db")]);
    assert_eq!(after_handover(&classes, &classes.files, &list), said);
    let whole = case("encrypted-as-a-whole");
    assert_eq!(
        after_handover(&whole, &whole.files, &[]),
        ["tls.yaml.age: the file as a whole is encrypted, and the handover does not list it"]
    );
    let list = listed(&whole, &[("tls.yaml.age", "app/tls"), ("tls.yaml.age", "app/other")]);
    assert_eq!(after_handover(&whole, &whole.files, &list), [""; 0]);
    let hidden = case("identity-is-encrypted");
    assert_eq!(
        after_handover(&hidden, &hidden.files, &[]),
        ["all.yaml: a document whose name cannot be read is encrypted, and the handover does not list it"]
    );
    let list = listed(&hidden, &[("all.yaml", "app/db")]);
    assert_eq!(after_handover(&hidden, &hidden.files, &list), [""; 0]);
}

#[test]
fn without_a_readable_list_no_change_after_the_handover_can_be_told() {
    let case = case("classes");
    let (bootstrap, limits) = (Some(&case.bootstrap), Limits::default());
    assert_eq!(lint::changes_after_handover(&case.files, bootstrap, &DocumentList::Unreadable, &limits, blob), []);
}

/// Renders every case that has an expectation of this name; tells how many there are.
fn each(question: &str, asked: Asked) -> usize {
    let mut asked_for = 0;
    for case in cases() {
        let expected = std::fs::read_to_string(case.folder.join(format!("{question}.yaml")));
        let refused = std::fs::read_to_string(case.folder.join(format!("{question}.refused")));
        match (expected, refused, case.render(asked)) {
            (Ok(expected), Err(_), Ok(manifests)) => {
                assert_eq!(shown(manifests, asked), objects(&expected), "{}", case.name());
            }
            (Err(_), Ok(refused), Err(refusal)) => {
                assert_eq!(refusal.to_string(), refused.trim_end(), "{}", case.name());
            }
            (Err(_), Err(_), _) => continue,
            (Ok(_), _, Err(refusal)) => panic!("{}: refused: {refusal}", case.name()),
            (_, Ok(_), Ok(_)) => panic!("{}: not refused", case.name()),
        }
        asked_for += 1;
    }
    asked_for
}

fn shown(manifests: Vec<Manifest>, asked: Asked) -> Vec<Value> {
    match asked {
        Asked::Nobody => {
            let preview = |manifest: &Manifest| text_of(&manifest.preview(Encoding::Json).unwrap());
            manifests.iter().map(|manifest| serde_json::from_str(&preview(manifest)).unwrap()).collect()
        }
        Asked::Git | Asked::Vault(_) | Asked::Settled(_) | Asked::Unreadable => json_lines(manifests),
    }
}

fn text_of(preview: &Plaintext) -> String {
    String::from_utf8(preview.expose().to_vec()).unwrap()
}

fn objects(yaml: &str) -> Vec<Value> {
    let documents = yaml_serde::Deserializer::from_str(yaml).map(|document| Value::deserialize(document).unwrap());
    documents.filter(|document| !document.is_null()).collect()
}

fn line(finding: &Finding) -> String {
    let file = finding.spot.file().map_or("regent.yaml", FilePath::as_str);
    let at = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
    format!("{file}{at} {} {}", finding.severity.name(), finding.rule.id())
}

impl Case {
    fn lint(&self, keys: &Keyring) -> Vec<Finding> {
        lint::lint(&lint::Request {
            files: &self.files,
            bootstrap: Some(&self.bootstrap),
            bootstraps_above: &[],
            keys: keys.into(),
            limits: &Limits::default(),
        })
    }
}
