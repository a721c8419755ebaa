//! `regent render --via` as the real program, against the example plugin `sink`: a plugin that answers from memory.

#![expect(clippy::unwrap_used, reason = "tests may: a panic is their answer")]

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const ANSWER: &str = r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"db"},"data":{"password":"UkVHRU5ULUNBTkFSWQ=="}}
{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"k":"v"}}
"#;

/// The answer's value as it is on the wire.
const VALUE: &str = "UkVHRU5ULUNBTkFSWQ==";

/// A running plugin, ended with its test.
struct Sink(Child);

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sink(folder: &Path) -> Sink {
    let example = Path::new(env!("CARGO_BIN_EXE_regent")).with_file_name("examples").join("sink");
    assert!(example.is_file(), "`cargo build --example sink` builds what this test needs");
    fs::write(folder.join("answer.jsonl"), ANSWER).unwrap();
    let mut command = Command::new(example);
    command.current_dir(folder).args(["p.sock", "--answer", "answer.jsonl", "--gunzip"]);
    let sink = Sink(command.spawn().unwrap());
    let start = Instant::now();
    while UnixStream::connect(folder.join("p.sock")).is_err() {
        assert!(start.elapsed() < Duration::from_secs(10), "the plugin does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    sink
}

fn render(folder: &Path, more: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/roots/prod");
    // Outside a repository of its own: the folder alone is sent.
    let copy = folder.join("prod");
    if !copy.exists() {
        fs::create_dir(&copy).unwrap();
        fs::copy(root.join("regent.yaml"), copy.join("regent.yaml")).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_regent"));
    command.env_clear().env("HOME", home.path()).env("TMPDIR", home.path()).stdin(Stdio::null());
    let output = command.current_dir(folder).args(["render", "prod", "--via", "p.sock"]).args(more).output().unwrap();
    assert!(fs::read_dir(home.path()).unwrap().next().is_none(), "something was left in a file");
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn values_of_a_plugin_are_shown_to_who_asks_for_them() {
    let temp = tempfile::tempdir().unwrap();
    let _sink = sink(temp.path());
    for format in ["yaml", "json"] {
        let described = render(temp.path(), &["-o", format]);
        assert_eq!((described.status.code(), text(&described.stderr)), (Some(0), String::new()));
        assert!(!text(&described.stdout).contains(VALUE), "{}", text(&described.stdout));
        assert!(text(&described.stdout).contains("redacted str, 13 bytes"), "{}", text(&described.stdout));
    }
    let revealed = render(temp.path(), &["-o", "json", "--reveal"]);
    assert_eq!((revealed.status.code(), text(&revealed.stdout)), (Some(0), ANSWER.to_owned()));
}

#[test]
fn a_plugin_that_is_gone_is_an_error_that_names_its_socket() {
    let temp = tempfile::tempdir().unwrap();
    drop(sink(temp.path()));
    let output = render(temp.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cannot connect to p.sock: connection refused"), "{}", text(&output.stderr));
}
