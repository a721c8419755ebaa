//! `regent lint --kustomization-file`: a root as Flux builds it, before anything is committed. The repositories are those that
//! the real `sops` encrypted and the real kustomize built (`core/tests/generators`).

#![expect(clippy::unwrap_used, reason = "tests may: a panic is their answer")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const BOOTSTRAP: &str = "apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\nepoch: 1\n";

/// A work tree of a case, none of which is committed, and the manifest of its Kustomization outside of it.
struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    fn of(case: &str, spec: &str) -> Self {
        let stage = Self { folder: tempfile::tempdir().unwrap() };
        copy(&core().join("generators").join(case).join("tree"), &stage.at("repo"));
        stage.write("repo/regent.yaml", BOOTSTRAP);
        stage.write("flux.yaml", &kustomization("apps", spec));
        stage.git(&["init", "--quiet", "--initial-branch", "main"]);
        stage
    }

    /// A base below an overlay, with prefixes and a generator whose name ends in a hash.
    fn prefixed() -> Self {
        Self::of("under-prefixes", "{path: ./overlay}")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let file = self.at(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    fn git(&self, words: &[&str]) {
        let mut git = Command::new("git");
        git.args(words).current_dir(self.at("repo")).env("HOME", "/nonexistent").env("GIT_CONFIG_NOSYSTEM", "1");
        for who in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{who}_NAME"), "a").env(format!("GIT_{who}_EMAIL"), "a@example.org");
        }
        assert!(git.status().unwrap().success(), "{words:?}");
    }

    fn regent(&self, words: &[&str]) -> Output {
        let mut regent = Command::new(env!("CARGO_BIN_EXE_regent"));
        regent.arg("lint").args(words).arg("-i").arg(core().join("render/key.txt")).current_dir(self.folder.path());
        regent.env_clear().env("HOME", self.folder.path()).stdin(Stdio::null()).output().unwrap()
    }

    /// What is found in the work tree, and where: `FILE[RULE] message`.
    fn found(&self, root: &str) -> Vec<String> {
        self.told(&[root, "--kustomization-file", "flux.yaml"])
    }

    fn told(&self, words: &[&str]) -> Vec<String> {
        let output = self.regent(&[words, &["-o", "json"]].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        let findings = text.lines().map(|line| {
            let finding: Value = serde_json::from_str(line).unwrap();
            let text = |key: &str| finding[key].as_str().unwrap().to_owned();
            format!("{}[{}] {}", text("file"), text("rule"), text("message"))
        });
        let findings: Vec<String> = findings.collect();
        let is_refused = text.contains("\"severity\":\"error\"");
        assert_eq!(output.status.code(), Some(i32::from(is_refused)), "{text}{error}");
        findings
    }

    /// Why nothing could be looked at.
    #[track_caller]
    fn refused(&self, words: &[&str], why: &str) {
        let output = self.regent(words);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!matches!(output.status.code(), Some(0 | 1)) && output.stdout.is_empty(), "{error}");
        assert!(error.contains(why), "{error}");
    }
}

fn kustomization(name: &str, spec: &str) -> String {
    let head = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\n";
    format!("{head}metadata: {{name: {name}, namespace: flux-system}}\nspec: {spec}\n")
}

fn core() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn what_flux_builds_is_judged_as_it_builds_it() {
    let stage = Stage::prefixed();
    // Without the file the rules are those of a folder, and the way out names the option.
    let output = stage.regent(&["repo"]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("error[kustomization-unsupported]") && told.contains("`--kustomization-file`"), "{told}");

    assert_eq!(stage.found("repo"), [""; 0]);
    let of_cluster = "secrets: {permanent: [{name: app/prod-base-db}]}\n";
    stage.write("repo/regent.yaml", &format!("{BOOTSTRAP}{of_cluster}"));
    stage.git(&["add", "."]);
    stage.git(&["commit", "--quiet", "--message", "all"]);
    // The same of a revision, whatever the work tree has become.
    stage.write("repo/overlay/kustomization.yaml", "namespace: app\nnamePrefix: test-\nresources: [../base]\n");
    let committed = stage.told(&["--repo", "repo", "--revision", "main", "--kustomization-file", "flux.yaml"]);
    let on_disk = stage.found("repo");
    assert!(on_disk.iter().any(|found| found.contains("app/prod-base-db, and no encrypted Secret")), "{on_disk:?}");
    assert_eq!(committed, [""; 0]);
}

#[test]
fn each_thing_that_flux_would_refuse_is_found_where_it_stands() {
    let stage = Stage::prefixed();
    let encrypted = stage.read("repo/base/secret.yaml");
    // No build reads it, and Git does not know it yet.
    stage.write("repo/forgotten.yaml", &encrypted);
    // A clear Secret that one of them makes.
    stage.write("repo/base/web.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: clear}\nstringData: {a: b}\n");
    // A promise that a generator's input breaks, as the other file does.
    let other = "age1yt3tfqlfrwdwx0z0ynwplcr6qxcxfaqycuprpmy89nr83ltx74tqdpszlw";
    stage.write("repo/regent.yaml", &format!("{BOOTSTRAP}recipients: {{root: [{other}]}}\n"));
    let found = stage.found("repo");
    let missing = format!("[recipient-missing] it is not encrypted to the root recipient `{other}`");
    let clear = "base/web.yaml[clear-secret] Secret app/prod-base-clear stands in the clear";
    let forgotten =
        "forgotten.yaml[not-applied] it is encrypted, and none of the Kustomizations that apply its root applies it";
    let expected = [
        format!("base/secret.env{missing}"),
        format!("base/secret.yaml{missing}"),
        clear.to_owned(),
        forgotten.to_owned(),
    ];
    assert_eq!(found, expected);
}

#[test]
fn all_obstacles_are_told_with_their_lines_and_so_is_what_can_be_looked_at_beside_them() {
    let stage = Stage::prefixed();
    let more = "replacements: [{path: nowhere.yaml}]\nnameSuffix: -x\n";
    stage.write("repo/overlay/kustomization.yaml", &(stage.read("repo/overlay/kustomization.yaml") + more));
    let patch = "[{patch: '[{op: remove, path: /data}]', target: {kind: Secret}}]";
    stage.write("flux.yaml", &kustomization("apps", &format!("{{path: overlay, patches: {patch}}}")));
    let text = stage.read("repo/base/secret.yaml");
    stage.write(
        "repo/base/secret.yaml",
        &text.replace("password: ENC[AES256_GCM,data:A", "password: ENC[AES256_GCM,data:B"),
    );
    let found = stage.found("repo");
    let at = |start: &str| found.iter().filter(|found| found.starts_with(start)).count();
    assert_eq!(at("flux.yaml[kustomization-unsupported] `spec.patches` of the Flux Kustomization"), 2, "{found:?}");
    assert_eq!(at("overlay/kustomization.yaml[kustomization-unsupported] `replacements` can change"), 1, "{found:?}");
    assert_eq!(
        at("base/kustomization.yaml[kustomization-unsupported] the Secret `gen` is encrypted and named by a hash"),
        1
    );
    assert_eq!(at("base/secret.yaml[mac] "), 1, "{found:?}");
    let output = stage.regent(&["repo", "--kustomization-file", "flux.yaml"]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("overlay/kustomization.yaml:4: error[kustomization-unsupported]"), "{told}");
}

#[test]
fn what_was_refused_is_not_told_a_second_time() {
    let stage = Stage::of("without-a-hash-and-with-options", "{}");
    // Without a namespace no generator is made, and nobody is asked to list its inputs as manifests.
    let text = stage.read("repo/kustomization.yaml").replace("namespace: app", "");
    stage.write("repo/kustomization.yaml", &text);
    let found = stage.found("repo");
    let at = "kustomization.yaml[kustomization-unsupported] `gen`: `secretGenerator` with encrypted inputs: ";
    assert!(found.len() == 1 && found[0].starts_with(at), "{found:?}");
}

#[test]
fn a_generated_secret_cannot_be_permanent() {
    let stage = Stage::of("without-a-hash-and-with-options", "{}");
    stage.write("repo/regent.yaml", &format!("{BOOTSTRAP}secrets: {{permanent: [{{name: app/gen}}]}}\n"));
    let found = stage.found("repo");
    let at = "kustomization.yaml[kustomization-unsupported] `gen`: ";
    assert!(found.len() == 1 && found[0].starts_with(at), "{found:?}");
    assert!(found[0].contains("`secrets.permanent` lists it"), "{found:?}");
}

#[test]
fn what_lies_outside_the_root_is_named_as_the_repository_has_it() {
    let stage = Stage::prefixed();
    fs::rename(stage.at("repo/regent.yaml"), stage.at("repo/overlay/regent.yaml")).unwrap();
    let found = stage.found("repo/overlay");
    // A document, and a generator of which an input is encrypted.
    assert_eq!(found.len(), 2, "{found:?}");
    for (found, file) in found.iter().zip(["base/kustomization.yaml", "base/secret.yaml"]) {
        assert!(found.starts_with(&format!("{file}[outside-root] ")), "{found}");
    }
}

#[test]
fn of_several_kustomizations_those_count_that_reach_the_root() {
    let stage = Stage::of("a-component", "{path: app, targetNamespace: blue}");
    let others = [kustomization("elsewhere", "{path: nowhere}"), "kind: ConfigMap\napiVersion: v1\n".to_owned()];
    stage.write("flux.yaml", &[stage.read("flux.yaml"), others.join("---\n")].join("---\n"));
    stage.write("repo/regent.yaml", &format!("{BOOTSTRAP}secrets: {{plain: [blue/nothing]}}\n"));
    let found = stage.found("repo");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("regent.yaml[entry-unmatched] `secrets.plain` lists blue/nothing"), "{found:?}");
    // Whether the other one is for this repository nobody knows.
    assert!(found[1].starts_with("flux.yaml[not-followed] whether flux-system/elsewhere applies"), "{found:?}");
    // One that applies the same documents a second time, in a file of its own.
    stage.write("again.yaml", &kustomization("again", "{path: app, targetNamespace: green}"));
    let files = ["--kustomization-file", "flux.yaml", "--kustomization-file", "again.yaml"];
    let found = stage.told(&[&["repo"], &files[..]].concat());
    let twice = "two Kustomizations apply it: flux-system/apps and flux-system/again";
    assert!(found.iter().any(|found| found.starts_with("part/secret.env[") && found.ends_with(twice)), "{found:?}");
}

/// kustomize-controller finds what is encrypted as a whole under the name of what is in it.
#[test]
fn what_has_no_name_in_an_artifact_is_found() {
    let stage = Stage::of("a-component", "{path: flat}");
    copy(&core().join("render/encrypted-as-a-whole/root"), &stage.at("repo/flat"));
    fs::remove_file(stage.at("repo/regent.yaml")).unwrap();
    let found = || stage.found("repo/flat");
    assert_eq!(found(), [""; 0]);
    stage.write("repo/flat/tls.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: plain, namespace: app}\n");
    let [there] = &found()[..] else { panic!("{:?}", found()) };
    assert!(there.starts_with("flat/tls.yaml.age[kustomization-unsupported] it would be published as flat/tls.yaml"));
    // It would decide about the whole folder.
    fs::remove_file(stage.at("repo/flat/tls.yaml")).unwrap();
    fs::rename(stage.at("repo/flat/tls.yaml.age"), stage.at("repo/flat/kustomization.yaml.age")).unwrap();
    let [there] = &found()[..] else { panic!("{:?}", found()) };
    assert!(there.starts_with("flat/kustomization.yaml.age[two-objects] "), "{there}");
}

#[test]
fn without_an_identity_all_is_judged_that_can_be_read() {
    let stage = Stage::of("without-a-hash-and-with-options", "{}");
    let mut regent = Command::new(env!("CARGO_BIN_EXE_regent"));
    regent.args(["lint", "repo", "--kustomization-file", "flux.yaml", "-o", "json"]).current_dir(stage.folder.path());
    let output = regent.env_clear().env("HOME", stage.folder.path()).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let rules: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["rule"].as_str().unwrap().to_owned())
        .collect();
    assert!(!rules.is_empty() && rules.iter().all(|rule| rule == "not-opened"), "{text}");
}

#[test]
fn what_is_no_kustomization_of_this_root_is_refused_and_says_what_it_is() {
    let stage = Stage::prefixed();
    let lint = |file: &str| ["repo", "--kustomization-file", file].map(str::to_owned);
    let refused = |file: &str, why: &str| stage.refused(&lint(file).each_ref().map(String::as_str), why);
    refused("nowhere.yaml", "nowhere.yaml");
    refused("repo/overlay/kustomization.yaml", "it holds none");
    refused("repo/base/secret.yaml", "it is encrypted");
    stage.write("other.yaml", &kustomization("other", "{path: ./elsewhere}"));
    refused("other.yaml", "none of them reaches a file of it: flux-system/other applies `./elsewhere`");
    stage.write("bomb.yaml", &format!("a: &a [1]\nb: [{}]\n", "*a, ".repeat(100_000)));
    refused("bomb.yaml", "bomb.yaml");
    let merged = "a: &a {path: overlay, postBuild: {substitute: {b: c}}}\n";
    stage.write(
        "merged.yaml",
        &(kustomization("merged", "{<<: *a}").replace("apiVersion", &format!("{merged}apiVersion"))),
    );
    refused("merged.yaml", "merge key");
    let head =
        "a: &a {apiVersion: kustomize.toolkit.fluxcd.io/v1, kind: Kustomization}\n<<: *a\nspec: {path: overlay}\n";
    stage.write("merged.yaml", &format!("{head}---\n{}", stage.read("flux.yaml")));
    refused("merged.yaml", "merge key");
    let listed = format!(
        "apiVersion: v1\nkind: List\nitems:\n- {}",
        kustomization("apps", "{path: overlay}").replace('\n', "\n  ")
    );
    stage.write("listed.yaml", listed.trim_end());
    assert_eq!(stage.told(&["repo", "--kustomization-file", "listed.yaml"]), [""; 0]);
    fs::remove_file(stage.at("repo/regent.yaml")).unwrap();
    refused("flux.yaml", "regent.yaml");
    fs::remove_dir_all(stage.at("repo/.git")).unwrap();
    refused("flux.yaml", "it is in no Git repository");
}
