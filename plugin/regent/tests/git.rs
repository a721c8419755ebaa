//! A repository elsewhere, read by the real program: over SSH with a stand-in for `ssh` that runs the real
//! `git upload-pack`. With a real server, over SSH and HTTPS, it is read in e2e/git.

#![expect(clippy::unwrap_used, reason = "tests may: a panic is their answer")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder with a repository of two commits on `main`, a key, known hosts, and a stand-in for `ssh`.
struct Stage {
    folder: tempfile::TempDir,
    first: String,
    second: String,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for made in ["it's.git", "bin", "tmp", "elsewhere"] {
            fs::create_dir(folder.path().join(made)).unwrap();
        }
        for file in ["a key", "known_hosts"] {
            fs::write(folder.path().join(file), "REGENT-CANARY").unwrap();
            fs::set_permissions(folder.path().join(file), Permissions::from_mode(0o600)).unwrap();
        }
        let mut stage = Self { folder, first: String::new(), second: String::new() };
        stage.git(&["init", "--quiet", "--initial-branch", "main"]);
        stage.first = stage.commit("one");
        stage.second = stage.commit("two");
        // Whoever would read the user's configuration would go there.
        let elsewhere =
            format!("[url \"{}/\"]\n\tinsteadOf = ssh://\n\tinsteadOf = regent://\n", stage.at("elsewhere").display());
        fs::write(stage.at(".gitconfig"), elsewhere).unwrap();
        let keep = stage.at("");
        let script = format!(
            "#!/bin/sh\nprintf '%s\\n' \"$@\" > {0}/arguments\nenv > {0}/environment\n{{ stat -c %a . *; cat key; }} > {0}/seen\n\
             for last; do :; done\ntee {0}/asked | eval \"$last\"\n",
            keep.display()
        );
        fs::write(stage.at("bin/ssh"), script).unwrap();
        fs::set_permissions(stage.at("bin/ssh"), Permissions::from_mode(0o755)).unwrap();
        stage
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn kept(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    fn git(&self, words: &[&str]) -> String {
        let mut git = Command::new("git");
        git.args(words).current_dir(self.at("it's.git")).env("HOME", "/nonexistent").env("GIT_CONFIG_NOSYSTEM", "1");
        for who in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{who}_NAME"), "a").env(format!("GIT_{who}_EMAIL"), "a@example.org");
        }
        let output = git.stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "{words:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self, text: &str) -> String {
        let manifest =
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: a, namespace: b }}\ndata: {{ x: {text} }}\n");
        fs::write(self.at("it's.git").join("x.yaml"), manifest).unwrap();
        self.git(&["add", "x.yaml"]);
        self.git(&["commit", "--quiet", "--message", text]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn render(&self, revision: &str) -> Output {
        let address = format!("ssh://git@git.example:2222{}", self.at("it's.git").display());
        let mut regent = Command::new(env!("CARGO_BIN_EXE_regent"));
        regent.args(["render", "--repo", &address, "--revision", revision]);
        regent.arg("--ssh-key-file").arg(self.at("a key")).arg("--ssh-known-hosts-file").arg(self.at("known_hosts"));
        regent.env_clear().env("HOME", self.folder.path()).env("TMPDIR", self.at("tmp")).env("SOPS_AGE_KEY", "");
        let system = std::env::var("PATH").unwrap();
        regent.env("PATH", format!("{}:{system}", self.at("bin").display())).env("UNRELATED", "REGENT-CANARY");
        regent.stdin(Stdio::null()).output().unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap() + &String::from_utf8(output.stderr.clone()).unwrap()
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn one_commit_is_fetched_into_a_private_folder_that_is_removed() {
    let stage = Stage::new();
    let output = stage.render("main");
    assert!(output.status.success() && said(&output).contains("two"), "{}", said(&output));
    // Not its history.
    let asked = stage.kept("asked");
    assert!(asked.contains(&format!("want {}", stage.second)) && asked.contains("deepen 1"), "{asked}");
    assert_eq!(stage.kept("seen").lines().next(), Some("700"));
    assert_eq!(entries(&stage.at("tmp")), 0);
    assert_eq!(entries(&stage.at("elsewhere")), 0);

    // Nobody points at the first commit, and this server does not give commits by their ids.
    let output = stage.render(&stage.first);
    assert!(output.status.success() && said(&output).contains("one"), "{}", said(&output));
    assert!(!stage.kept("asked").contains("deepen"), "{}", stage.kept("asked"));
    assert!(stage.render(&stage.second).status.success());
}

#[test]
fn ssh_is_told_everything_and_gets_nothing_of_the_environment() {
    let stage = Stage::new();
    assert!(stage.render("main").status.success());
    let arguments = stage.kept("arguments");
    for option in ["StrictHostKeyChecking=yes", "BatchMode=yes", "IdentitiesOnly=yes", "UserKnownHostsFile=known_hosts"]
    {
        assert!(arguments.contains(option), "{arguments}");
    }
    let path = stage.at("it's.git").display().to_string().replace('\'', r"'\''");
    let end = format!("-p\n2222\n-l\ngit\n--\ngit.example\ngit-upload-pack '{path}'\n");
    assert!(arguments.starts_with("-F\nnone\n") && arguments.ends_with(&end), "{arguments}");
    assert!(stage.kept("seen").ends_with("REGENT-CANARY"), "the key is at hand");
    assert!(!stage.kept("environment").contains("CANARY"), "{}", stage.kept("environment"));
    assert!(!stage.kept("environment").contains("HOME="), "{}", stage.kept("environment"));
}

#[test]
fn what_cannot_be_fetched_is_told_with_a_way_out() {
    let stage = Stage::new();
    let nowhere = "a".repeat(40);
    for (revision, problem) in [
        ("gone", "it has no branch or tag `gone`"),
        ("main~1", "`main~1` is no branch, no tag, and no commit id in full"),
        (&stage.second[..12], "it has no branch or tag `"),
        (&nowhere, "no branch or tag leads to the commit aaaaaaaa"),
    ] {
        let output = stage.render(revision);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(problem) && said(&output).contains("error[git]"), "{}", said(&output));
    }
    fs::write(stage.at("bin/ssh"), "#!/bin/sh\necho 'Permission denied (publickey).' >&2\nexit 255\n").unwrap();
    let output = stage.render("main");
    assert!(said(&output).contains("`ssh` says: Permission denied (publickey)."), "{}", said(&output));
    fs::set_permissions(stage.at("a key"), Permissions::from_mode(0o644)).unwrap();
    let output = stage.render("main");
    assert!(said(&output).contains("others may read the private key file"), "{}", said(&output));
    assert_eq!(entries(&stage.at("tmp")), 0);
}
