//! What a handover would copy of a root, beside what Vault holds. Roots of `tests/render/`, and files that are encrypted
//! here, for values that no case has.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "the cases are files, and a test may look at bytes"
)]

use regent_core::authority::{self, Assumption, Place, Ruling};
use regent_core::bootstrap::Bootstrap;
use regent_core::emit::{Encoding, Manifest};
use regent_core::evidence::{
    Clusters, DocumentList, Evidence, Holder, ListedClass, ListedDocument, Mirror, Reading, WitnessedVault,
};
use regent_core::files::{Content, Files};
use regent_core::handover::copy::InVault;
use regent_core::handover::decide::{Facts, Git, Leave, OtherVault, RecordKey, Step, decide};
use regent_core::handover::plan::{Draft, Existing, Plan, PlanRefusal, State, Target};
use regent_core::handover::record::{Marked, Record, Site, VaultIdentity};
use regent_core::handover::tree;
use regent_core::import::{self, Importation};
use regent_core::name::{Epoch, FilePath, HandoverId, SecretName};
use regent_core::render::{self, Door, Request};
use regent_core::{DocumentProblem, Refusal};
use regent_sops::{Keyring, Limits, Plaintext};
use std::collections::BTreeMap;
use std::path::Path;

const H: &str = "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f";
const CREATED: &str = "2026-11-24T08:23:28.612274215Z";
const HEAD: &str = "apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\nepoch: 1\nafter: {emit: stub}\n";

struct Root {
    files: Files,
    bootstrap: Bootstrap,
    namespaces: [String; 1],
    limits: Limits,
}

impl Root {
    /// `regent.yaml` with these lines besides, and nothing else.
    fn new(rest: &str) -> Self {
        let own = FilePath::parse(Bootstrap::FILE_NAME).unwrap();
        let text = format!("{HEAD}{rest}");
        let bootstrap = Bootstrap::parse(&own, text.as_bytes()).unwrap();
        let mut files = Files::default();
        assert!(files.insert(own, Content::Bytes(text.into_bytes())));
        Self { files, bootstrap, namespaces: ["*".to_owned()], limits: Limits::default() }
    }

    fn with(mut self, path: &str, bytes: Vec<u8>) -> Self {
        assert!(self.files.insert(FilePath::parse(path).unwrap(), Content::Bytes(bytes)));
        self
    }

    /// A manifest, encrypted as a whole.
    fn sealed(self, path: &str, manifest: &str) -> Self {
        let text = std::fs::read_to_string(cases().join("key.txt")).unwrap();
        let recipient = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
        let recipient: age::x25519::Recipient = recipient.parse().unwrap();
        self.with(path, age::encrypt(&recipient, manifest.as_bytes()).unwrap())
    }

    /// A Secret `app/db`, encrypted as a whole.
    fn secret(self, data: &str) -> Self {
        self.secret_named("db", data)
    }

    fn secret_named(self, name: &str, data: &str) -> Self {
        self.sealed(
            &format!("{name}.yaml.age"),
            &format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: app}}\n{data}\n"),
        )
    }

    /// A file of one of the render cases.
    fn file(self, case: &str, file: &str) -> Self {
        let bytes = std::fs::read(cases().join(case).join("root").join(file)).unwrap();
        self.with(file, bytes)
    }

    fn draft(&self) -> Result<Draft, PlanRefusal> {
        let place = Place::default();
        self.draft_by(&Ruling::assume(Assumption::Git, Some(&self.bootstrap), &place, None).unwrap())
    }

    fn draft_by(&self, ruling: &Ruling) -> Result<Draft, PlanRefusal> {
        let keys = keys();
        Draft::of(&self.request(&keys, ruling), blob)
    }

    fn request<'a>(&'a self, keys: &'a Keyring, ruling: &'a Ruling) -> Request<'a> {
        Request {
            files: &self.files,
            folder: None,
            bootstrap: Some(&self.bootstrap),
            ruling,
            keys: keys.into(),
            namespaces: &self.namespaces,
            limits: &self.limits,
            door: Door::ArgoCd,
        }
    }

    fn refused(&self) -> PlanRefusal {
        self.draft().err().unwrap()
    }

    fn plan(&self, states: &[(&str, State)]) -> Result<Plan, PlanRefusal> {
        let states = states.iter().map(|(name, state)| (secret(name), *state)).collect();
        let site = site();
        Plan::new(&self.draft()?, self.target(&site), &states)
    }

    fn target<'a>(&'a self, site: &'a Site) -> Target<'a> {
        Target { bootstrap: &self.bootstrap, root: Some("prod"), commit: COMMIT, site, regent_version: "0.1.0" }
    }
}

const COMMIT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn cases() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/render")
}

fn keys() -> Keyring {
    let mut keyring = Keyring::default();
    keyring.load("key.txt", &std::fs::read(cases().join("key.txt")).unwrap(), &[]).unwrap();
    keyring
}

/// As good as Git's id where a test changes one byte.
fn blob(bytes: &[u8]) -> String {
    let sum: u64 = bytes.iter().enumerate().map(|(at, byte)| (at as u64 + 1) * u64::from(*byte)).sum();
    format!("{sum:040x}")
}

fn secret(name: &str) -> SecretName {
    SecretName::parse(name).unwrap()
}

fn site() -> Site {
    Site {
        vault: VaultIdentity {
            place: WitnessedVault {
                address: "https://vault:8200".to_owned(),
                namespace: String::new(),
                mount: "secret".to_owned(),
                prefix: "bootstrap/prod".to_owned(),
            },
            cluster_id: "vault-a".to_owned(),
            mount_uuid: "mount-a".to_owned(),
        },
        clusters: Some(Clusters { witness: "a".to_owned(), target: "a".to_owned() }),
    }
}

/// What the one decision to copy gives.
fn leave(root: &Root, draft: &Draft) -> Leave {
    let place = Place::default();
    let decided = decide(&Facts {
        name: &root.bootstrap.name,
        git: Some(Git { bootstrap: &root.bootstrap, place: &place, outline: Some(draft.outline()) }),
        holder: &Holder::Git { epoch: Epoch::FIRST, supersedes: None },
        authority: None,
        record: &RecordKey::Absent,
        site: &site(),
        adopt: None,
        other_vault: OtherVault::Refused,
    });
    let Ok(Step::Copy(leave)) = decided else { panic!("{decided:?}") };
    leave
}

/// The fields of `app/db`, as they are written to Vault.
fn fields(root: &Root) -> BTreeMap<String, Vec<u8>> {
    let draft = root.draft().unwrap();
    let leave = leave(root, &draft);
    let copy = draft.copies().find(|copy| *copy.name() == secret("app/db")).unwrap();
    let fields = copy.expose(&leave).unwrap();
    fields.iter().map(|(key, text)| (key.clone(), text.expose().to_vec())).collect()
}

fn classes(rest: &str) -> Root {
    Root::new(rest).file("classes", "db.yaml").file("classes", "repo.yaml").file("classes", "web.yml")
}

#[test]
fn every_encrypted_document_is_listed_and_secrets_are_copied() {
    let root = classes("secrets: {permanent: [{name: argocd/repo-creds}]}");
    let draft = root.draft().unwrap();
    let listed = draft.outline().documents.iter().map(|it| (it.path.as_str(), it.name.to_string(), it.class));
    assert_eq!(
        listed.collect::<Vec<_>>(),
        [
            ("db.yaml", "app/db".to_owned(), ListedClass::Handover),
            ("repo.yaml", "argocd/repo-creds".to_owned(), ListedClass::Permanent),
        ]
    );
    assert_eq!(draft.outline().copied, [secret("app/db"), secret("argocd/repo-creds")].into());
    assert_eq!(fields(&root), BTreeMap::from([("password".to_owned(), b"canary-hunter2".to_vec())]));
}

#[test]
fn a_permanent_secret_without_vault_and_another_kind_are_listed_and_not_copied() {
    let root = classes("secrets: {kinds: [ConfigMap], permanent: [{name: argocd/repo-creds, vault: false}]}").sealed(
        "other.yaml.age",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: db, namespace: app}\ndata: {k: canary-1}\n",
    );
    let plan = root.plan(&[("app/db", State::New)]).unwrap();
    let shown = plan.entries.iter().map(|it| (it.name.to_string(), it.kind.as_str(), it.path.as_deref(), it.state));
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            ("app/db".to_owned(), "ConfigMap", None, State::NotCopied),
            ("app/db".to_owned(), "Secret", Some("bootstrap/prod/app/db"), State::New),
            ("argocd/repo-creds".to_owned(), "Secret", None, State::NotCopied),
        ]
    );
    assert_eq!(plan.entries[1].keys, ["password"]);
    assert_eq!(plan.entries[2].keys, [""; 0]);
}

#[test]
fn nothing_is_opened_for_a_handover_but_by_a_ruling_of_values() {
    let root = classes("");
    let holder =
        Holder::Vault { epoch: Epoch::FIRST, handover: HandoverId::parse(H).unwrap(), mirror: Mirror::Complete };
    let stubs = authority::rule(&root.bootstrap, &Place::default(), &holder, DocumentList::Unreadable).unwrap();
    let refusal = root.draft_by(&stubs).err().unwrap();
    assert!(matches!(refusal, PlanRefusal::Rendering(Refusal::Document { problem: DocumentProblem::Gate(_), .. })));
    assert_eq!(root.draft_by(&Ruling::unasked()).err(), Some(PlanRefusal::Rendering(Refusal::Unasked)));
}

#[test]
fn what_does_not_render_is_not_handed_over() {
    let hook = Root::new("").file("a-hook-is-refused", "hook.yaml");
    assert!(matches!(hook.refused(), PlanRefusal::Rendering(Refusal::Document { .. })));
    let empty = Root::new("").sealed("empty.yaml.age", "---\n");
    assert!(matches!(empty.refused(), PlanRefusal::Rendering(Refusal::Document { .. })));
    assert_eq!(Root::new("").file("classes", "web.yml").refused(), PlanRefusal::Nothing);
    let twice = Root::new("").secret("stringData: {k: canary-1}").file("classes", "db.yaml");
    assert!(matches!(
        twice.refused(),
        PlanRefusal::Rendering(Refusal::Document { problem: DocumentProblem::TwoObjects { .. }, .. })
    ));
}

/// vault.md fact 6: text as it is, and anything else only where `regent.yaml` says how.
#[test]
fn values_are_text_or_what_regent_yaml_says() {
    let text = r#"stringData: {empty: "", lines: "canary\r\n\0 é 𝄞 <&>\u2028", json: "9007199254740993"}"#;
    let written = fields(&Root::new("").secret(text));
    assert_eq!(written["lines"], "canary\r\n\0 é 𝄞 <&>\u{2028}".as_bytes());
    assert_eq!((written["empty"].as_slice(), written["json"].as_slice()), (&b""[..], &b"9007199254740993"[..]));

    let binary = "data: {keystore: /wD+/Q==, text: Y2FuYXJ5}";
    let told = Root::new("").secret(binary).refused().to_string();
    assert!(told.contains("app/db") && told.contains("not UTF-8") && !told.contains("keystore"), "{told}");
    let encoded = fields(&Root::new("secrets: {encoding: {app/db: base64}}").secret(binary));
    assert_eq!((encoded["keystore"].as_slice(), encoded["text"].as_slice()), (&b"/wD+/Q=="[..], &b"Y2FuYXJ5"[..]));
}

/// vault.md facts 7 and 8.
#[test]
fn a_secret_that_one_write_cannot_hold_is_refused() {
    let keys = |count: usize| {
        let lines: Vec<_> = (0..count).map(|number| format!("  k{number}: canary-{number}\n")).collect();
        Root::new("").secret(&format!("stringData:\n{}", lines.concat()))
    };
    assert_eq!(fields(&keys(498)).len(), 498);
    assert!(matches!(keys(499).refused(), PlanRefusal::TooManyKeys { keys: 499, .. }));
    // As JSON a quotation mark has two bytes.
    let quotes = |count: usize| Root::new("").secret(&format!("stringData: {{k: '{}'}}", "\"".repeat(count)));
    assert!(quotes(499_900).draft().is_ok());
    assert!(matches!(quotes(500_000).refused(), PlanRefusal::TooLarge { size: 1_000_000.., .. }));
}

#[test]
fn a_copy_is_compared_field_by_field() {
    let root = Root::new("").secret("stringData: {a: canary-1, b: canary-2}");
    let draft = root.draft().unwrap();
    let copy = draft.copies().next().unwrap();
    let state = |fields: &[(&str, Option<&str>)]| {
        let field = |(key, text): &(&str, Option<&str>)| ((*key).to_owned(), text.map(|it| Plaintext::new(it.into())));
        copy.compare(&InVault::Present(fields.iter().map(field).collect()))
    };
    let (one, two) = (("a", Some("canary-1")), ("b", Some("canary-2")));
    assert_eq!(state(&[one, two]), State::Equal);
    for other in [&[][..], &[one], &[one, ("b", Some("canary-3"))], &[one, ("b", None)], &[one, two, ("c", Some(""))]] {
        assert_eq!(state(other), State::Differs, "{other:?}");
    }
    assert_eq!((copy.compare(&InVault::Absent), copy.compare(&InVault::Deleted)), (State::New, State::Deleted));
}

#[test]
fn other_values_stop_unless_a_person_lets_them_stand_and_deleted_ones_always_do() {
    let states = |db| [("app/db", db), ("argocd/repo-creds", State::Equal)];
    let accepting = classes("handover: {acceptExisting: [app/db]}");
    for good in [State::New, State::Equal] {
        assert_eq!(classes("").plan(&states(good)).unwrap().conflicts(), Ok(()));
    }
    let differs = classes("").plan(&states(State::Differs)).unwrap().conflicts();
    assert_eq!(differs, Err(PlanRefusal::Conflicts { differs: vec![secret("app/db")], deleted: vec![] }));
    let accepted = accepting.plan(&states(State::Differs)).unwrap();
    assert_eq!((accepted.conflicts(), accepted.entries[0].existing), (Ok(()), Existing::Stands));
    let deleted = accepting.plan(&states(State::Deleted)).unwrap().conflicts();
    assert_eq!(deleted, Err(PlanRefusal::Conflicts { differs: vec![], deleted: vec![secret("app/db")] }));
    assert!(matches!(classes("").plan(&[]), Err(PlanRefusal::NotCompared { .. })));
}

#[test]
fn what_comes_after_is_said_before() {
    let mut root = classes("");
    root.bootstrap.after = None;
    assert_eq!(root.plan(&[("app/db", State::New), ("argocd/repo-creds", State::New)]), Err(PlanRefusal::NoAfter));
}

#[test]
fn the_digest_changes_with_what_will_be_done_and_with_nothing_else() {
    let root = || classes("");
    let states = |state| [("app/db", state), ("argocd/repo-creds", State::New)];
    let digest = |root: &Root, state| root.plan(&states(state)).unwrap().digest();
    let first = digest(&root(), State::New);
    // A run that was cut off is approved already, and the version of regent does nothing.
    assert_eq!(digest(&root(), State::Equal), first);
    let mut plan = root().plan(&states(State::New)).unwrap();
    plan.regent_version = "9".to_owned();
    assert_eq!(plan.digest(), first);

    let mut digests = vec![first, digest(&root(), State::Differs), digest(&root(), State::Deleted)];
    digests.push(digest(&classes("handover: {acceptExisting: [app/db]}"), State::Differs));
    digests.push(digest(&classes("secrets: {permanent: [{name: app/db}]}"), State::New));
    digests.push(digest(&root().secret("stringData: {k: canary-1}").without("db.yaml"), State::New));
    let changes: [fn(&mut Plan); 6] = [
        |it| it.commit = "b".repeat(40),
        |it| it.site.vault.place.prefix.push('x'),
        |it| it.site.vault.cluster_id.push('x'),
        |it| it.site.clusters = None,
        |it| it.root = None,
        |it| it.entries[0].blob = "2".repeat(40),
    ];
    for change in changes {
        let mut plan = root().plan(&states(State::New)).unwrap();
        change(&mut plan);
        digests.push(plan.digest());
    }
    let mut unlike = digests.clone();
    unlike.sort();
    unlike.dedup();
    assert_eq!(unlike.len(), digests.len());
    assert!(digests.iter().all(|digest| digest.len() == 64));
}

#[test]
fn the_record_is_what_was_read_back() {
    let root = classes("secrets: {permanent: [{name: argocd/repo-creds, vault: false}]}");
    let plan = root.plan(&[("app/db", State::New)]).unwrap();
    let handover = HandoverId::parse(H).unwrap();
    assert_eq!(
        plan.record(handover.clone(), &BTreeMap::new()),
        Err(PlanRefusal::NotReadBack { name: secret("app/db") })
    );
    let keys = BTreeMap::from([(secret("app/db"), (4, CREATED.to_owned()))]);
    let record = plan.record(handover, &keys).unwrap();
    assert_eq!(Record::from_fields(&plan.name, plan.epoch, &record.to_fields()), Ok(record.clone()));
    assert_eq!((record.records[0].version, record.documents.len()), (4, 2));
    assert_eq!(record.copied(), root.draft().unwrap().outline().copied);
    assert_eq!(record.documents, root.draft().unwrap().outline().documents);
}

/// After the handover nothing can be opened, and the digest is the same.
#[test]
fn the_tree_is_known_without_opening_it() {
    let root = classes("secrets: {kinds: [ConfigMap]}").file("one-file-many-documents", "all.yaml").sealed(
        "tls.yaml.age",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: tls, namespace: app}\nstringData: {k: canary-1}\n",
    );
    let files = tree::encrypted_files(&root.files, &root.bootstrap, &Limits::default(), blob).unwrap();
    let paths: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.names.len())).collect();
    assert_eq!(paths, [("all.yaml", 2), ("db.yaml", 1), ("repo.yaml", 1), ("tls.yaml.age", 0)]);
    let digest = tree::tree_digest(files.iter().map(|file| (&file.path, file.blob.as_str())));
    let outline = root.draft().unwrap().outline().clone();
    assert_eq!(digest, outline.tree_digest);
    assert_eq!(tree::slipped_in(&outline.documents, &[], &files, &[]), []);
}

#[test]
fn no_plan_and_no_refusal_holds_a_value() {
    let root = classes("").secret("stringData: {k: canary-1}");
    let told = format!("{:?}", root.draft().err());
    assert!(!told.contains("canary-"), "{told}");
    let plan = classes("").plan(&[("app/db", State::New), ("argocd/repo-creds", State::New)]).unwrap();
    let told = format!("{plan:?}");
    assert!(!told.contains("canary-") && !told.contains("git.example"), "{told}");
}

impl Root {
    /// The same without one file.
    fn without(self, path: &str) -> Self {
        let mut files = Files::default();
        for (name, content) in self.files.iter().filter(|(name, _)| name.as_str() != path) {
            let Content::Bytes(bytes) = content else { panic!("{name}") };
            assert!(files.insert(name.clone(), Content::Bytes(bytes.clone())));
        }
        Self { files, ..self }
    }
}

/// What the one decision to import gives, where db and repo-creds were handed over.
fn importation(root: &Root, name: &str) -> Importation {
    let handed_over = classes("").plan(&[("app/db", State::New), ("argocd/repo-creds", State::New)]).unwrap();
    let keys = handed_over.entries.iter().map(|it| (it.name.clone(), (1, CREATED.to_owned()))).collect();
    let record = handed_over.record(HandoverId::parse(H).unwrap(), &keys).unwrap();
    let marked = Marked { record, version: 1, created_time: CREATED.to_owned() };
    let (handover, authority) = marked.witnesses();
    let evidence = Evidence {
        authority: Reading::Present(authority),
        handovers: BTreeMap::from([(Epoch::FIRST, Reading::Present(handover))]),
        ..Evidence::none()
    };
    let decided = import::decide(&import::Facts {
        bootstrap: &root.bootstrap,
        place: &Place { root: Some("prod".to_owned()), ..Place::default() },
        evidence: &evidence,
        marked: &marked,
        name: &secret(name),
        kind: "Secret",
        in_vault: &[],
        in_status: &BTreeMap::new(),
        of_other_epochs: 0,
    });
    let Ok(import::Step::Copy(importation)) = decided else { panic!("{decided:?}") };
    importation
}

impl Root {
    fn imported(&self, ruling: &Ruling, importation: &Importation) -> Result<Option<Draft>, PlanRefusal> {
        let keys = keys();
        Draft::imported(&self.request(&keys, ruling), importation, blob)
    }

    /// What a front door answers where these were handed over or imported.
    fn stubs(&self, listed: &[ListedDocument]) -> Result<Vec<Manifest>, Refusal> {
        let holder =
            Holder::Vault { epoch: Epoch::FIRST, handover: HandoverId::parse(H).unwrap(), mirror: Mirror::Complete };
        let list = DocumentList::Readable(listed.to_vec());
        let ruling = authority::rule(&self.bootstrap, &Place::default(), &holder, list).unwrap();
        render::render(&self.request(&Keyring::default(), &ruling))
    }
}

#[test]
fn an_imported_document_is_opened_for_vault_and_is_a_stub_at_every_door() {
    let whole = |root: Root| root.secret_named("new", "stringData: {k: canary-new}");
    let shown = |root: Root| root.file("one-file-many-documents", "all.yaml");
    for (root, name) in [(whole(classes("")), "app/new"), (shown(classes("secrets: {kinds: [ConfigMap]}")), "app/a")] {
        let importation = importation(&root, name);
        let mut listed = classes("").draft().unwrap().outline().documents.clone();
        let told = root.stubs(&listed).err().unwrap();
        assert!(matches!(told, Refusal::Document { problem: DocumentProblem::NotListed, .. }), "{told}");

        let draft = root.imported(&Ruling::unasked(), &importation).unwrap().unwrap();
        let copies: Vec<_> = draft.copies().collect();
        assert_eq!(copies.iter().map(|copy| copy.name()).collect::<Vec<_>>(), [&secret(name)]);
        assert!(copies[0].expose(importation.leave()).unwrap().contains_key("k"));

        // `all.yaml` has more than one new document: each is imported by its own name.
        listed.extend(
            root.draft().unwrap().outline().documents.iter().filter(|it| it.path.as_str() == "all.yaml").cloned(),
        );
        listed.extend(draft.outline().documents.iter().filter(|it| it.path.as_str() != "all.yaml").cloned());
        for manifest in root.stubs(&listed).unwrap() {
            let told = manifest.into_bytes(Encoding::Json).unwrap();
            assert!(!String::from_utf8(told.expose().to_vec()).unwrap().contains("canary-"));
        }
    }
}

#[test]
fn what_is_opened_for_an_import_answers_nobody() {
    let root = classes("").secret_named("new", "stringData: {k: canary-new}");
    let importation = importation(&root, "app/new");
    let holder =
        Holder::Vault { epoch: Epoch::FIRST, handover: HandoverId::parse(H).unwrap(), mirror: Mirror::Complete };
    let stubs = authority::rule(&root.bootstrap, &Place::default(), &holder, DocumentList::Unreadable).unwrap();
    let values = Ruling::assume(Assumption::Git, Some(&root.bootstrap), &Place::default(), None).unwrap();
    for ruling in [stubs, values] {
        assert_eq!(root.imported(&ruling, &importation).err(), Some(PlanRefusal::Rendering(Refusal::Unasked)));
    }
}

#[test]
fn only_what_may_hold_the_document_is_opened_and_it_is_there_once() {
    let broken = |root: Root, path: &str| {
        let mut bytes = std::fs::read(cases().join("classes/root/db.yaml")).unwrap();
        let at = bytes.windows(9).position(|it| it == b"ENC[AES25").unwrap() + 30;
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        root.without(path).with(path, bytes)
    };
    let importation = importation(&classes(""), "app/new");
    // A file that shows other names, or was handed over as it is, is not touched.
    let root = broken(classes(""), "db.yaml").secret_named("new", "stringData: {k: canary-new}");
    assert!(root.imported(&Ruling::unasked(), &importation).unwrap().is_some());
    assert!(classes("").imported(&Ruling::unasked(), &importation).unwrap().is_none());
    let twice = root.sealed(
        "again.yaml.age",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: new, namespace: app}\nstringData: {k: canary-again}\n",
    );
    let told = twice.imported(&Ruling::unasked(), &importation).err().unwrap();
    assert!(
        matches!(told, PlanRefusal::Rendering(Refusal::Document { problem: DocumentProblem::TwoObjects { .. }, .. })),
        "{told}"
    );
    // What a front door would not apply is not imported.
    let bad = classes("").secret_named("new", "data: {k: '###'}");
    let told = bad.imported(&Ruling::unasked(), &importation).err().unwrap();
    assert!(matches!(told, PlanRefusal::Rendering(Refusal::Document { .. })), "{told}");
}

#[test]
fn an_import_has_a_digest_of_its_own() {
    let root = classes("").secret_named("new", "stringData: {k: canary-new}");
    let site = site();
    let draft = root.imported(&Ruling::unasked(), &importation(&root, "app/new")).unwrap().unwrap();
    let plan = |state| Plan::new(&draft, root.target(&site), &[(secret("app/new"), state)].into()).unwrap();
    let (one, other) = (HandoverId::parse(H).unwrap(), HandoverId::parse(&H.replace('0', "1")).unwrap());
    let digest = import::digest(&plan(State::New), &one);
    // A run that was cut off is approved already.
    assert_eq!(import::digest(&plan(State::Equal), &one), digest);
    let others = [
        plan(State::New).digest(),
        import::digest(&plan(State::Differs), &one),
        import::digest(&plan(State::New), &other),
    ];
    assert!(!others.contains(&digest));
}
