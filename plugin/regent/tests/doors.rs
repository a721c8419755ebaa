//! What one types and sees at the doors that touch secrets: `open`, `render` and `lint`, run as the real
//! program on roots that the real `sops` and `age` encrypted (`hack/roots`). Every secret value holds a marker;
//! it may stand in revealed output, and nowhere else.

#![expect(clippy::unwrap_used, reason = "tests may: a panic is their answer")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const MARKER: &str = "REGENT-CANARY";

fn key() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sops/tests/corpus/keys/age.txt")
}

/// A copy of the root that one test may break.
fn root() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/roots/prod"), temp.path());
    temp
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn regent(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regent"));
    command.env_clear().env("HOME", home).stdin(Stdio::null());
    command
}

fn run(root: &tempfile::TempDir, command: &str, args: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    let output =
        regent(home.path()).env("TMPDIR", home.path()).arg(command).arg(root.path()).args(args).output().unwrap();
    assert!(fs::read_dir(home.path()).unwrap().next().is_none(), "something was left in a file");
    output
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Fails where the marker shows, in the clear or as base64 at any of its three alignments.
#[track_caller]
fn assert_no_secret(text: &str) {
    assert!(!text.contains(MARKER), "a secret in the clear: {text}");
    for shift in 0..3 {
        let shifted = format!("{}{MARKER}", "x".repeat(shift));
        let encoded = STANDARD.encode(shifted);
        // The first and the last group depend on the neighbours; those between do not.
        let inner = &encoded[4..encoded.len() - 8];
        assert!(!text.contains(inner), "a secret as base64: {text}");
    }
}

fn key_arg() -> String {
    key().display().to_string()
}

#[test]
fn without_reveal_every_value_is_described() {
    let root = root();
    let output = run(&root, "render", &["-i", &key_arg()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert_no_secret(&text);
    assert_no_secret(&stderr(&output));
    assert!(text.contains("<redacted"), "{text}");
    for name in ["db", "first", "second", "repo-creds", "registry", "settings"] {
        assert!(text.contains(&format!("\"{name}\"")) || text.contains(&format!("name: {name}")), "{name}: {text}");
    }
    assert!(stderr(&output).contains("no authority was asked"));
}

#[test]
fn a_plain_folder_needs_no_configuration() {
    let root = root();
    fs::remove_file(root.path().join("regent.yaml")).unwrap();
    // Without `secrets.namespace` every document names its own.
    fs::remove_file(root.path().join("app/db.yaml")).unwrap();
    let output = run(&root, "render", &["-i", &key_arg()]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_no_secret(&stdout(&output));
}

#[test]
fn reveal_needs_an_authority() {
    let root = root();
    let output = run(&root, "render", &["-i", &key_arg(), "--reveal"]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
    assert!(stderr(&output).contains("--assume git"));
}

#[test]
fn what_was_encrypted_is_what_is_revealed_and_it_is_guarded() {
    let root = root();
    let output = run(&root, "render", &["-i", &key_arg(), "--assume", "git", "--reveal", "-o", "json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_no_secret(&stderr(&output));
    let objects: Vec<serde_json::Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let secret = |name: &str| objects.iter().find(|o| o["kind"] == "Secret" && o["metadata"]["name"] == name).unwrap();
    let value = |name: &str, key: &str| {
        String::from_utf8(STANDARD.decode(secret(name)["data"][key].as_str().unwrap()).unwrap()).unwrap()
    };
    assert_eq!(value("db", "username"), "REGENT-CANARY-user");
    assert_eq!(value("db", "password"), "REGENT-CANARY-password");
    assert_eq!(value("first", "token"), "REGENT-CANARY-first");
    assert_eq!(value("second", "token"), "REGENT-CANARY-second");
    assert_eq!(value("repo-creds", "password"), "REGENT-CANARY-repo");
    assert_eq!(
        value("registry", ".dockerconfigjson"),
        r#"{"auths":{"registry.example":{"auth":"REGENT-CANARY-registry"}}}"#
    );
    for object in objects.iter().filter(|object| object["kind"] == "Secret") {
        let metadata = &object["metadata"];
        assert_eq!(metadata["labels"]["regent.dev/authority"], "prod", "{metadata}");
        let annotations = &metadata["annotations"];
        let options = annotations["argocd.argoproj.io/sync-options"].as_str().unwrap();
        let mut options: Vec<&str> = options.split(',').collect();
        options.sort_unstable();
        assert_eq!(options, ["Delete=false", "Prune=false", "ServerSideApply=true"]);
        assert_eq!(annotations["argocd.argoproj.io/compare-options"], "IgnoreExtraneous");
        assert_eq!(annotations["kustomize.toolkit.fluxcd.io/prune"], "disabled");
        assert!(object.get("stringData").is_none());
    }
    assert_eq!(secret("db")["metadata"]["namespace"], "app");
    let settings = objects.iter().find(|object| object["kind"] == "ConfigMap").unwrap();
    assert_eq!(settings["data"]["mode"], "on");
}

#[test]
fn once_vault_rules_no_key_is_needed_and_no_value_comes_out() {
    let root = root();
    // A whole-file ciphertext hides its identity, and there is no list to name it.
    fs::remove_file(root.path().join("app/registry.yaml.age")).unwrap();
    let output = run(&root, "render", &["--assume", "vault", "--reveal", "-o", "json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert_no_secret(&text);
    assert!(!text.contains("ENC["), "{text}");
    let stubs: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|object| object["kind"] == "Secret")
        .collect();
    assert_eq!(stubs.len(), 4);
    for stub in stubs {
        assert_eq!(stub["metadata"]["annotations"]["argocd.argoproj.io/hook"], "Skip", "{stub}");
        assert!(stub.get("data").is_none() && stub.get("stringData").is_none(), "{stub}");
    }
}

#[test]
fn once_vault_rules_a_hidden_identity_is_an_error_and_not_one_object_less() {
    let root = root();
    let output = run(&root, "render", &["--assume", "vault"]);
    assert!(!output.status.success());
    assert!(output.stdout.is_empty());
    assert!(stderr(&output).contains("registry.yaml.age"), "{}", stderr(&output));
}

/// A way to break a root: the file, what is done to it, and what the error must name.
struct Break {
    name: &'static str,
    file: &'static str,
    change: fn(&str) -> String,
    exit: i32,
}

const BREAKS: [Break; 6] = [
    Break {
        name: "a value of another key",
        file: "app/db.yaml",
        change: |text| text.replacen("username:", "login:", 1),
        exit: 3,
    },
    Break { name: "a dropped key", file: "app/db.yaml", change: |text| drop_line(text, "password:"), exit: 3 },
    Break { name: "a cut file", file: "app/db.yaml", change: |text| text[..text.len() / 2].to_owned(), exit: 3 },
    Break {
        name: "a decrypted commit",
        file: "app/clear.yaml",
        change: |_| {
            format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: clear}}\nstringData: {{a: {MARKER}-clear}}\n")
        },
        exit: 1,
    },
    Break {
        name: "the same object twice",
        file: "app/again.yaml",
        change: |_| "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: app}\n".to_owned(),
        exit: 1,
    },
    Break { name: "a file of another kind", file: "app/notes.txt", change: |_| "x".to_owned(), exit: 1 },
];

fn drop_line(text: &str, start: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with(start)).fold(String::new(), |all, line| all + line + "\n")
}

#[test]
fn one_broken_file_makes_the_whole_answer_an_error_that_names_it() {
    for case in &BREAKS {
        let root = root();
        let path = root.path().join(case.file);
        let before = fs::read_to_string(&path).unwrap_or_default();
        fs::write(&path, (case.change)(&before)).unwrap();
        for args in [vec![], vec!["--assume", "git", "--reveal"]] {
            let key = key_arg();
            let output = run(&root, "render", &[&["-i", key.as_str()], &args[..]].concat());
            assert_eq!(output.status.code(), Some(case.exit), "{}: {}", case.name, stderr(&output));
            assert!(output.stdout.is_empty(), "{}: something was written", case.name);
            let told = stderr(&output);
            assert!(told.contains(case.file), "{}: {told}", case.name);
            assert!(told.contains("hint:"), "{}: {told}", case.name);
            assert_no_secret(&told);
        }
        let output = run(&root, "lint", &["-i", &key_arg()]);
        assert_eq!(output.status.code(), Some(1), "{}: {}", case.name, stdout(&output));
        assert!(stdout(&output).contains(case.file), "{}: {}", case.name, stdout(&output));
        assert_no_secret(&(stdout(&output) + &stderr(&output)));
    }
}

#[test]
fn a_missing_key_is_told_by_public_parts() {
    let root = root();
    let home = tempfile::tempdir().unwrap();
    let output = regent(home.path()).arg("render").arg(root.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("age1"), "{}", stderr(&output));
    assert_no_secret(&stderr(&output));
}

#[test]
fn lint_of_a_good_root_is_quiet_and_speaks_sarif() {
    let root = root();
    let output = run(&root, "lint", &["-i", &key_arg()]);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    let output = run(&root, "lint", &["-i", &key_arg(), "-o", "sarif"]);
    let log: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(log["version"], "2.1.0");
    assert!(log["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap().len() > 5);
}

#[test]
fn open_describes_unless_asked_to_reveal() {
    let root = root();
    let home = tempfile::tempdir().unwrap();
    let open = |file: &str, args: &[&str]| {
        regent(home.path()).arg("open").arg(root.path().join(file)).arg("-i").arg(key()).args(args).output().unwrap()
    };
    for file in ["app/db.yaml", "app/two.yaml", "app/registry.yaml.age"] {
        let output = open(file, &[]);
        assert!(output.status.success(), "{file}: {}", stderr(&output));
        assert!(stdout(&output).contains("<redacted"), "{file}");
        assert_no_secret(&(stdout(&output) + &stderr(&output)));
        let output = open(file, &["--reveal"]);
        assert!(output.status.success(), "{file}: {}", stderr(&output));
        assert_no_secret(&stderr(&output));
    }
    assert!(stdout(&open("app/db.yaml", &["--reveal"])).contains("REGENT-CANARY-password"));
    assert!(stdout(&open("app/registry.yaml.age", &["--reveal"])).contains("REGENT-CANARY-registry"));
    let several = stdout(&open("app/two.yaml", &["--reveal", "--output-type", "json"]));
    assert_eq!(several.lines().count(), 2, "{several}");
    assert!(several.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{several}");
    let clear = open("app/config.yaml", &[]);
    assert_eq!(clear.status.code(), Some(3));
}

#[test]
fn open_reads_standard_input_when_told_its_type() {
    let root = root();
    let home = tempfile::tempdir().unwrap();
    let open = |args: &[&str], file: &str| {
        let input = fs::File::open(root.path().join(file)).unwrap();
        regent(home.path()).args(["open", "-"]).arg("-i").arg(key()).args(args).stdin(input).output().unwrap()
    };
    assert_eq!(open(&[], "app/db.yaml").status.code(), Some(2));
    let output = open(&["--input-type", "yaml", "--reveal"], "app/db.yaml");
    assert!(stdout(&output).contains("REGENT-CANARY-user"), "{}", stderr(&output));
    let output = open(&["--reveal"], "app/registry.yaml.age");
    assert!(stdout(&output).contains("REGENT-CANARY-registry"), "{}", stderr(&output));
}

#[test]
fn a_revision_of_a_bare_repository_renders_like_its_folder() {
    let root = root();
    let bare = tempfile::tempdir().unwrap();
    let work = tempfile::tempdir().unwrap();
    let prod = work.path().join("clusters/prod");
    fs::create_dir_all(&prod).unwrap();
    copy(root.path(), &prod);
    git(work.path(), &["init", "-q", "-b", "main"]);
    git(work.path(), &["add", "."]);
    git(work.path(), &["commit", "-q", "-m", "one"]);
    git(work.path(), &["clone", "-q", "--bare", ".", bare.path().join("r.git").to_str().unwrap()]);
    let home = tempfile::tempdir().unwrap();
    let rendered = |args: &[&str]| {
        let output = regent(home.path())
            .arg("render")
            .args(args)
            .arg("-i")
            .arg(key())
            .args(["--assume", "git", "--reveal"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        output.stdout
    };
    let repository = bare.path().join("r.git").display().to_string();
    let from_git = rendered(&["--repo", &repository, "--revision", "main", "--path", "clusters/prod"]);
    let from_folder = rendered(&[prod.to_str().unwrap()]);
    assert_eq!(from_git, from_folder);
}

fn git(folder: &Path, args: &[&str]) {
    let status = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false"])
        .args(args)
        .status()
        .unwrap();
    assert!(status.success());
}

/// A running `regent render --watch -o json`, and the events it prints.
struct Watching {
    child: std::process::Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Watching {
    fn start(home: &Path, args: &[&str]) -> Self {
        let mut child = regent(home)
            .arg("render")
            .args(args)
            .arg("-i")
            .arg(key())
            .args(["--watch", "-o", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            use std::io::BufRead as _;
            for line in std::io::BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    #[track_caller]
    fn event(&self) -> serde_json::Value {
        let line = self.lines.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
        assert_no_secret(&line);
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The same `ConfigMap` with another value, and one key more.
const SETTINGS: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: app}\ndata: {mode: 'off', level: high}\n";

#[track_caller]
fn assert_settings_changed(event: &serde_json::Value) {
    assert_eq!((&event["event"], &event["name"]), (&"changed".into(), &"settings".into()), "{event}");
    let changes = serde_json::json!([{"path": "data.level", "how": "added"}, {"path": "data.mode", "how": "changed"}]);
    assert_eq!(event["changes"], changes);
}

#[test]
fn watch_tells_what_changed_in_a_folder_and_waits_out_what_is_broken() {
    let root = root();
    let home = tempfile::tempdir().unwrap();
    let watching = Watching::start(home.path(), &[root.path().to_str().unwrap()]);
    let mut names: Vec<String> = (0..6)
        .map(|_| {
            let event = watching.event();
            assert_eq!(event["event"], "added");
            event["name"].as_str().unwrap().to_owned()
        })
        .collect();
    names.sort();
    assert_eq!(names, ["db", "first", "registry", "repo-creds", "second", "settings"]);
    let config = root.path().join("app/config.yaml");
    fs::write(&config, "broken: [").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    fs::write(&config, SETTINGS).unwrap();
    assert_settings_changed(&watching.event());
    fs::remove_file(root.path().join("app/db.yaml")).unwrap();
    let event = watching.event();
    assert_eq!((&event["event"], &event["name"]), (&"removed".into(), &"db".into()), "{event}");
}

#[test]
fn watch_follows_a_branch_of_a_bare_repository() {
    let root = root();
    let bare = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    git(root.path(), &["init", "-q", "-b", "main"]);
    git(root.path(), &["add", "."]);
    git(root.path(), &["commit", "-q", "-m", "one"]);
    let repository = bare.path().join("r.git").display().to_string();
    git(root.path(), &["clone", "-q", "--bare", ".", &repository]);
    let watching = Watching::start(home.path(), &["--repo", &repository, "--revision", "main"]);
    for _ in 0..6 {
        assert_eq!(watching.event()["event"], "added");
    }
    fs::write(root.path().join("app/config.yaml"), SETTINGS).unwrap();
    git(root.path(), &["commit", "-q", "-a", "-m", "two"]);
    git(root.path(), &["push", "-q", &repository, "main"]);
    assert_settings_changed(&watching.event());
}

#[test]
fn a_store_that_says_git_reveals_and_one_that_is_lost_does_not() {
    let root = root();
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join("store");
    let store = store.to_str().unwrap();
    let reveal = || run(&root, "render", &["-i", &key_arg(), "--store", store, "--reveal"]);
    assert_eq!(reveal().status.code(), Some(4), "there is no store yet: {}", stderr(&reveal()));
    let init = run(&root, "init", &["--store", store, "--yes"]);
    assert!(init.status.success(), "{}", stderr(&init));
    let output = reveal();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains(&STANDARD.encode("REGENT-CANARY-password")));

    // Git itself says that the epoch is over: a restored store does not bring it back.
    let bootstrap = root.path().join("regent.yaml");
    let open = fs::read_to_string(&bootstrap).unwrap();
    fs::write(&bootstrap, open.clone() + "closed: 0b0e7c1e-5b0a-4c0e-8c3e-0123456789ab\n").unwrap();
    let output = reveal();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("P6") && output.stdout.is_empty(), "{}", stderr(&output));
    fs::write(&bootstrap, open).unwrap();

    fs::write(Path::new(store).join("prod/authority.json"), "{").unwrap();
    let output = reveal();
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(stderr(&output).contains("P1") && output.stdout.is_empty(), "{}", stderr(&output));
}

#[test]
fn a_store_that_says_vault_is_not_argued_with() {
    let root = root();
    fs::remove_file(root.path().join("app/registry.yaml.age")).unwrap();
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join("store");
    let store = store.to_str().unwrap();
    assert!(run(&root, "init", &["--store", store, "--yes"]).status.success());
    let witness = Path::new(store).join("prod/authority.json");
    let mut authority: serde_json::Value = serde_json::from_slice(&fs::read(&witness).unwrap()).unwrap();
    authority["authority"] = "vault".into();
    authority["handoverId"] = "0b0e7c1e-5b0a-4c0e-8c3e-0123456789ab".into();
    fs::write(&witness, authority.to_string()).unwrap();
    let key = key_arg();
    let output = run(&root, "render", &["-i", &key, "--store", store, "--reveal"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_no_secret(&stdout(&output));
    assert!(!stdout(&output).contains("ENC["));
    let output = run(&root, "render", &["-i", &key, "--store", store, "--assume", "git", "--reveal"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
    let again = run(&root, "init", &["--store", store, "--yes"]);
    assert_eq!(again.status.code(), Some(1), "{}", stderr(&again));
}

/// A root whose store says vault, with folders around it that a person could point at instead.
#[test]
fn a_neighbouring_folder_is_no_way_around_the_authority() {
    let outer = tempfile::tempdir().unwrap();
    let prod = outer.path().join("clusters/prod");
    fs::create_dir_all(&prod).unwrap();
    copy(root().path(), &prod);
    fs::remove_file(prod.join("app/registry.yaml.age")).unwrap();
    fs::remove_file(prod.join("app/db.yaml")).unwrap();
    git(outer.path(), &["init", "-q", "-b", "main"]);
    git(outer.path(), &["add", "."]);
    git(outer.path(), &["commit", "-q", "-m", "one"]);
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join("store");
    let store = store.to_str().unwrap();
    let regent = |args: &[&str]| regent(home.path()).args(args).output().unwrap();
    assert!(regent(&["init", prod.to_str().unwrap(), "--store", store, "--yes"]).status.success());
    let key = key_arg();
    let repository = outer.path().to_str().unwrap();
    let above = outer.path().join("clusters");
    let below = prod.join("app");
    let places: [Vec<&str>; 4] = [
        vec![above.to_str().unwrap()],
        vec![below.to_str().unwrap()],
        vec!["--repo", repository, "--revision", "main"],
        vec!["--repo", repository, "--revision", "main", "--path", "clusters/prod/app"],
    ];
    for place in &places {
        for store in [vec!["--store", store], vec![]] {
            let args = [&["render"], &place[..], &["-i", &key, "--assume", "git", "--reveal"], &store[..]].concat();
            let output = regent(&args);
            assert!(!output.status.success() && output.stdout.is_empty(), "{args:?}: {}", stdout(&output));
        }
        let output = regent(&[&["render"], &place[..], &["-i", &key]].concat());
        assert!(output.status.success(), "{place:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("another regent.yaml"), "{place:?}: {}", stderr(&output));
        assert_no_secret(&stdout(&output));
    }
    // The root itself, for comparison, and by a tag.
    git(outer.path(), &["tag", "-a", "-m", "one", "v1"]);
    let path = ["--repo", repository, "--revision", "v1", "--path", "clusters/prod"];
    let output = regent(&[&["render"], &path[..], &["-i", &key, "--store", store, "--reveal"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn an_assumption_does_not_outweigh_what_git_itself_says() {
    let root = root();
    let bootstrap = root.path().join("regent.yaml");
    let closed = fs::read_to_string(&bootstrap).unwrap() + "closed: 0b0e7c1e-5b0a-4c0e-8c3e-0123456789ab\n";
    fs::write(&bootstrap, closed).unwrap();
    let output = run(&root, "render", &["-i", &key_arg(), "--assume", "git", "--reveal"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(output.stdout.is_empty() && stderr(&output).contains("P6"), "{}", stderr(&output));
}

#[test]
fn a_line_break_in_a_key_does_not_forge_a_line() {
    let root = root();
    let forged = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: app}\n\"a\\n::warning::b\": 1\n\"a\\n::warning::b\": 2\n";
    fs::write(root.path().join("app/forged.yaml"), forged).unwrap();
    let output = run(&root, "lint", &["-i", &key_arg()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!stdout(&output).lines().any(|line| line.starts_with("::warning")), "{}", stdout(&output));
}

#[test]
fn lint_tells_a_broken_regent_yaml_in_every_form() {
    let root = root();
    let bootstrap = root.path().join("regent.yaml");
    fs::write(&bootstrap, fs::read_to_string(&bootstrap).unwrap() + "typo: 1\n").unwrap();
    for form in ["human", "json", "sarif"] {
        let output = run(&root, "lint", &["-i", &key_arg(), "-o", form]);
        assert_eq!(output.status.code(), Some(1), "{form}: {}", stderr(&output));
        assert!(stdout(&output).contains("bootstrap-invalid") && stdout(&output).contains("typo"), "{form}");
    }
}

#[test]
fn a_whole_file_ciphertext_is_known_by_its_first_bytes_too() {
    let root = root();
    let home = tempfile::tempdir().unwrap();
    let renamed = home.path().join("registry");
    fs::copy(root.path().join("app/registry.yaml.age"), &renamed).unwrap();
    let open =
        |args: &[&str]| regent(home.path()).arg("open").arg(&renamed).arg("-i").arg(key()).args(args).output().unwrap();
    let output = open(&["--input-type", "yaml"]);
    assert!(stdout(&output).contains("name: ") && stdout(&output).contains("<redacted"), "{}", stderr(&output));
    assert_no_secret(&stdout(&output));
    assert!(stdout(&open(&["--reveal"])).contains("REGENT-CANARY-registry"));
    let json = stdout(&open(&["--input-type", "yaml", "--output-type", "json", "--reveal"]));
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
}

/// `tests/plugin` holds an age plugin in Python, its identity, and a Secret that the real `sops` encrypted through it.
#[test]
fn a_plugin_identity_opens_what_its_program_wrapped() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugin");
    let home = tempfile::tempdir().unwrap();
    let open = |path: &str| {
        let mut command = regent(home.path());
        command.arg("open").arg(folder.join("secret.yaml")).arg("-i").arg(folder.join("identity.txt"));
        command.arg("--reveal").env("PATH", path).output().unwrap()
    };
    let path = std::env::var("PATH").unwrap();
    let output = open(&format!("{}:{path}", folder.display()));
    assert!(stdout(&output).contains("REGENT-CANARY-plugin"), "{}", stderr(&output));
    let output = open(&path);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("age-plugin-xtest"), "{}", stderr(&output));
}

/// `tests/protected/age.txt` is the key of the other tests, encrypted by the real `age` with a passphrase.
#[test]
fn a_protected_key_file_opens_with_its_passphrase_file_alone() {
    let root = root();
    let home = tempfile::tempdir().unwrap();
    let protected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/protected/age.txt");
    let open = |args: &[&str]| {
        let file = root.path().join("app/db.yaml");
        regent(home.path()).arg("open").arg(file).arg("-i").arg(&protected).args(args).output().unwrap()
    };
    let (good, wrong) = (home.path().join("good"), home.path().join("wrong"));
    fs::write(&good, "pass phrase\n").unwrap();
    fs::write(&wrong, "SECRET-guess\n").unwrap();
    let output = open(&["--passphrase-file", good.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    for args in [vec![], vec!["--passphrase-file", wrong.to_str().unwrap()]] {
        let output = open(&args);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("passphrase"), "{}", stderr(&output));
        assert!(!stderr(&output).contains("SECRET-guess"), "{}", stderr(&output));
    }
}
