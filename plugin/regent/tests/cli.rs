//! What one types and sees: `tests/cmd`, run as the real program; and what takes more than one process.

#![expect(clippy::unwrap_used, reason = "tests may: a panic is their answer")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic_health::ServingStatus;

/// Every value of the fixtures holds it; no command here may show it.
const MARKER: &str = "REGENT-CANARY";

#[test]
fn commands_answer_as_written() {
    let cases = trycmd::TestCases::new();
    cases.env("HOME", "/nonexistent").env("COLUMNS", "100").env("XDG_CONFIG_HOME", "").env("REGENT_CONFIG", "");
    for keys in ["SOPS_AGE_KEY", "SOPS_AGE_KEY_FILE", "SOPS_AGE_SSH_PRIVATE_KEY_FILE"] {
        cases.env(keys, "");
    }
    cases.case("tests/cmd/*.md");
}

fn regent() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regent"));
    command.env_clear().env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

fn fixture(name: &str) -> String {
    format!("{}/tests/cmd/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn key(name: &str) -> String {
    format!("{}/../sops/tests/corpus/keys/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

#[test]
fn of_many_inits_at_once_exactly_one_wins() {
    let around = tempfile::tempdir().unwrap();
    let store = around.path().join("store");
    let runs: Vec<_> = (0..8)
        .map(|_| {
            let mut init = regent();
            init.args(["init", &fixture("init.in/prod"), "--yes", "--store"]).arg(&store);
            init.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let outputs: Vec<Output> = runs.into_iter().map(|run| run.wait_with_output().unwrap()).collect();
    let won = outputs.iter().filter(|output| output.status.success()).count();
    assert_eq!(won, 1, "{:?}", outputs.iter().map(said).collect::<Vec<_>>());
    for lost in outputs.iter().filter(|output| !output.status.success()) {
        assert_eq!(lost.status.code(), Some(1), "{}", said(lost));
        assert!(text(&lost.stderr).contains("error[exists]"), "{}", said(lost));
    }
}

/// Shown to work with the real program by `hack/demo`; `sops` finds the file from the folder it is started in.
#[test]
fn a_new_root_tells_sops_what_to_encrypt_and_to_whom() {
    let around = tempfile::tempdir().unwrap();
    let key = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    let output = regent().args(["new", "prod", "--recipient", key]).current_dir(&around).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let rules = fs::read_to_string(around.path().join("prod/.sops.yaml")).unwrap();
    assert!(rules.contains(r"path_regex: secrets/.*\.sops\.yaml$"), "{rules}");
    assert!(rules.contains("encrypted_regex: ^(data|stringData)$"), "{rules}");
    assert!(rules.contains(&format!("age: \"{key}\"")), "{rules}");
}

#[test]
fn the_store_of_the_operators_file_counts_from_that_file() {
    let around = tempfile::tempdir().unwrap();
    let config = around.path().join("regent-config.yaml");
    fs::write(
        &config,
        "apiVersion: regent.dev/v1alpha1\nkind: RegentConfig\nstore: { kind: directory, path: store }\nrules: []\n",
    )
    .unwrap();
    let output =
        regent().args(["init", &fixture("init.in/prod"), "--yes"]).env("REGENT_CONFIG", &config).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(around.path().join("store/prod/authority.json").is_file());
    let other = around.path().join("other");
    let output = regent()
        .args(["init", &fixture("init.in/prod"), "--yes", "--config", config.to_str().unwrap(), "--store"])
        .arg(&other)
        .output()
        .unwrap();
    assert!(
        output.status.success() && other.join("prod/authority.json").is_file(),
        "`--store` wins: {}",
        said(&output)
    );
}

#[test]
fn a_reader_that_stops_is_no_error() {
    for args in
        [&["explain"][..], &["completions", "bash"], &["init", "--help"], &["status", &fixture("status.in/prod")]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = regent().args(args).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(text(&output.stderr), "", "{args:?}");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn colours_are_for_terminals_and_for_who_asks() {
    let colours = |args: &[&str], variable: Option<(&str, &str)>| {
        let output = regent().args(args).envs(variable).output().unwrap();
        said(&output).contains('\u{1b}')
    };
    let args = ["explain", "P5"];
    assert!(!colours(&args, None), "a pipe");
    assert!(colours(&["--color", "always", "explain", "P5"], None));
    assert!(colours(&["--color", "always", "explain", "no such code"], None), "errors too");
    assert!(colours(&args, Some(("CLICOLOR_FORCE", "1"))));
    assert!(!colours(&["--color", "never", "explain", "P5"], Some(("CLICOLOR_FORCE", "1"))));
    assert!(!colours(&args, Some(("NO_COLOR", "1"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_ends_with_0_while_the_plugin_serves_alone() {
    let around = tempfile::tempdir().unwrap();
    let socket = around.path().join("regent-v1.sock");
    let listener = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
    let (reporter, service) = tonic_health::server::health_reporter();
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(listener));
    let mut probe = regent();
    probe.args(["probe", "--socket"]).arg(&socket);
    let output = probe.output().unwrap();
    assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), "serving\n"));
    reporter.set_service_status("", ServingStatus::NotServing).await;
    let output = probe.output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""));
    assert!(text(&output.stderr).contains("regent-v1.sock: it says NOT_SERVING\nregent: hint: "), "{}", said(&output));
}

#[test]
fn every_shell_gets_a_script_that_names_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = text(&regent().args(["completions", shell]).output().unwrap().stdout);
        for command in ["open", "render", "lint", "new", "status", "init", "probe", "explain", "completions"] {
            assert!(script.contains(command), "{shell} {command}");
        }
    }
}

#[test]
fn status_decrypts_nothing_and_shows_no_value() {
    for extra in [&[][..], &["--output", "json"]] {
        let output =
            regent().args(["status", &fixture("status.in/prod"), "-i", &key("age.txt")]).args(extra).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert!(!said(&output).contains(MARKER) && !said(&output).contains("AGE-SECRET-KEY"), "{}", said(&output));
    }
}

#[test]
fn a_damaged_file_with_a_secret_in_it_is_not_quoted() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a.yaml"), format!("data: {{{MARKER}: [{MARKER}\n")).unwrap();
    fs::write(
        root.path().join("b.yaml"),
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: b}}\nstringData: {{p: {MARKER}}}\n"),
    )
    .unwrap();
    fs::write(root.path().join("key.txt.yaml"), "").unwrap();
    let output = regent().arg("status").arg(root.path()).output().unwrap();
    assert!(!said(&output).contains(MARKER), "{}", said(&output));
    fs::write(
        root.path().join("regent.yaml"),
        format!("apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: [{MARKER}]\nepoch: 1\n"),
    )
    .unwrap();
    for command in ["status", "init"] {
        let output =
            regent().arg(command).arg(root.path()).arg("--store").arg(root.path().join("store")).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(!said(&output).contains(MARKER), "{}", said(&output));
    }
}

#[test]
fn a_damaged_key_file_is_named_and_not_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.txt");
    let secret = "AGE-SECRET-KEY-1REGENTCANARYREGENTCANARY";
    fs::write(&file, format!("{secret}\n")).unwrap();
    for (variable, by_option) in [(None, true), (Some(("SOPS_AGE_KEY", secret.to_owned())), false)] {
        let mut command = regent();
        command.args(["status", &fixture("status.in/prod")]).envs(variable);
        if by_option {
            command.arg("-i").arg(&file);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(text(&output.stderr).contains("error[identity]"), "{}", said(&output));
        assert!(!said(&output).contains("REGENTCANARY"), "{}", said(&output));
    }
}

/// Whether `regent status` finds the fixture opened with what `prepare` sets up in a home folder.
fn opened_by(prepare: impl FnOnce(&Path, &mut Command)) -> (bool, String) {
    let home = tempfile::tempdir().unwrap();
    let mut command = regent();
    command.env("HOME", home.path()).args(["status", &fixture("status.in/prod"), "-o", "json"]);
    prepare(home.path(), &mut command);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    (text(&output.stdout).contains("\"opens\": true"), said(&output))
}

fn put(path: &Path, from: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::copy(from, path).unwrap();
}

#[test]
fn without_i_the_sources_of_sops_are_used() {
    type Prepare = fn(&Path, &mut Command);
    let sources: [(&str, Prepare); 5] = [
        ("SOPS_AGE_KEY", |_, command| {
            command.env("SOPS_AGE_KEY", fs::read_to_string(key("age.txt")).unwrap());
        }),
        ("SOPS_AGE_KEY_FILE", |_, command| {
            command.env("SOPS_AGE_KEY_FILE", key("age.txt"));
        }),
        ("keys.txt", |home, _| put(&home.join(".config/sops/age/keys.txt"), &key("age.txt"))),
        ("keys.txt below XDG_CONFIG_HOME", |home, command| {
            put(&home.join("elsewhere/sops/age/keys.txt"), &key("age.txt"));
            command.env("XDG_CONFIG_HOME", home.join("elsewhere"));
        }),
        ("-i with a folder", |home, command| {
            put(&home.join("keys/b.txt"), &key("age.txt"));
            put(&home.join("keys/a.pub"), &key("ssh_ed25519.pub"));
            command.arg("-i").arg(home.join("keys"));
        }),
    ];
    for (name, prepare) in sources {
        let (opened, said) = opened_by(prepare);
        assert!(opened, "{name}: {said}");
    }
    assert!(!opened_by(|_, _| ()).0, "nothing");
}

#[test]
fn ssh_keys_in_their_usual_places_are_at_hand() {
    for file in ["ssh_ed25519", "ssh_rsa"] {
        let (_, said) = opened_by(|home, _| {
            put(&home.join(".ssh").join(file.replace("ssh_", "id_")), &key(file));
        });
        assert!(said.contains("ssh-"), "{file}: {said}");
    }
}

#[test]
fn i_replaces_every_other_source() {
    let (opened, said) = opened_by(|_, command| {
        command.env("SOPS_AGE_KEY_FILE", key("age.txt")).arg("-i").arg(key("ssh_ed25519"));
    });
    assert!(!opened, "{said}");
}

#[test]
fn an_unusable_key_in_its_usual_place_is_set_aside_and_named() {
    let (opened, said) = opened_by(|home, command| {
        command.env("SOPS_AGE_KEY_FILE", key("age.txt"));
        fs::create_dir(home.join(".ssh")).unwrap();
        fs::write(home.join(".ssh/id_rsa"), "no key\n").unwrap();
    });
    assert!(opened && said.contains("id_rsa"), "{said}");
}

#[test]
fn a_folder_as_kubernetes_mounts_a_secret_is_read_through_its_links() {
    let (opened, said) = opened_by(|home, command| {
        let mount = home.join("mount");
        put(&mount.join("..2026_01/key"), &key("age.txt"));
        std::os::unix::fs::symlink("..2026_01", mount.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/key", mount.join("key")).unwrap();
        command.arg("-i").arg(mount);
    });
    assert!(opened, "{said}");
}

#[test]
fn a_plugin_identity_is_at_hand_where_its_program_is_in_path_and_named_where_not() {
    let folder = tempfile::tempdir().unwrap();
    let identity = age::plugin::Identity::default_for_plugin("example").unwrap().to_string();
    let file = folder.path().join("key.txt");
    fs::write(&file, format!("{identity}\n")).unwrap();
    let status = || {
        let mut command = regent();
        command.args(["status", &fixture("status.in/prod"), "-i"]).arg(&file).env("PATH", folder.path());
        let output = command.output().unwrap();
        assert!(output.status.success() && !said(&output).contains(&identity), "{}", said(&output));
        (text(&output.stdout), text(&output.stderr))
    };
    let (report, notes) = status();
    assert!(notes.contains("it needs the program `age-plugin-example` in PATH"), "{notes}");
    assert!(!report.contains("age-plugin-example"), "{report}");
    let program = folder.path().join("age-plugin-example");
    fs::write(&program, "#!/bin/false\n").unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (report, notes) = status();
    assert!(report.contains("age-plugin-example") && notes.is_empty(), "{report}{notes}");
}
