//! Argo CD's door as the real program: `regent serve argocd` on its socket, asked by `regent render --via`, which
//! uploads as Argo CD does. Every secret value holds a marker; it may stand in a revealed answer, and nowhere else.
//! The same door with the real Argo CD is in `e2e/argocd`.

#![expect(clippy::unwrap_used, reason = "tests may: a panic is their answer")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const MARKER: &str = "REGENT-CANARY";
const HANDOVER: &str = "0b0e7c1e-5b0a-4c0e-8c3e-0123456789ab";

/// One server with everything that it needs, in a folder of its own.
struct House {
    folder: tempfile::TempDir,
    address: String,
    server: Option<Child>,
}

impl House {
    /// A repository with the root `clusters/prod`, a store in which Git rules, a configuration, keys.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for name in ["sockets", "keys", "tmp", "repo/clusters/prod"] {
            fs::create_dir_all(path.join(name)).unwrap();
        }
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        copy(&tests.join("tests/roots/prod"), &path.join("repo/clusters/prod"));
        fs::copy(tests.join("../sops/tests/corpus/keys/age.txt"), path.join("keys/age.txt")).unwrap();
        git(path, &["init", "--quiet", "--initial-branch", "main", "repo"]);
        commit(path);
        let address = {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().to_string()
        };
        let house = Self { folder, address, server: None };
        house.configure("[\"*\"]");
        let made = house.regent(&["init", "repo/clusters/prod", "--store", "store", "--yes"]);
        assert!(made.status.success(), "{}", stderr(&made));
        house
    }

    fn serving() -> Self {
        let mut house = Self::new();
        house.start(&["--single-process-demo"]);
        house
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self, namespaces: &str) {
        self.write_config(&format!(
            "apiVersion: regent.dev/v1alpha1\nkind: RegentConfig\nstore: {{ kind: directory, path: store }}\nrules:\n\
             - authority: prod\n  bootstrap: clusters/prod/regent.yaml\n  project: platform\n  repo: \
             https://git.example/infra.git\n  paths: [\"clusters/prod/**\"]\n  namespaces: {namespaces}\n  revisions: \
             [main]\n  identities: [keys]\n"
        ));
    }

    fn write_config(&self, text: &str) {
        fs::write(self.path("new.yaml"), text).unwrap();
        fs::rename(self.path("new.yaml"), self.path("regent.yaml")).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_regent"));
        command.env_clear().env("HOME", self.path("tmp")).env("TMPDIR", self.path("tmp"));
        command.env("ARGOCD_PLUGINSOCKFILEPATH", self.path("sockets"));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn regent(&self, args: &[&str]) -> Output {
        self.command().args(args).output().unwrap()
    }

    fn start(&mut self, more: &[&str]) {
        let log = fs::File::create(self.path("log")).unwrap();
        let mut command = self.command();
        command.args(["serve", "argocd", "--config", "regent.yaml", "--listen", &self.address]).args(more);
        self.server = Some(command.stderr(log).stdout(Stdio::null()).spawn().unwrap());
        self.wait("the socket", || self.socket().exists());
    }

    fn socket(&self) -> PathBuf {
        self.path("sockets/regent-v1.sock")
    }

    fn wait(&self, what: &str, happened: impl Fn() -> bool) {
        let start = Instant::now();
        while !happened() {
            assert!(start.elapsed() < Duration::from_secs(20), "{what}: not in time\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn pid(&self) -> u32 {
        self.server.as_ref().unwrap().id()
    }

    /// Asks as Argo CD would for the Application that the rule allows; `more` may say otherwise.
    fn ask(&self, more: &[&str]) -> Output {
        let mut args =
            vec!["render", "repo/clusters/prod", "--via", "sockets/regent-v1.sock", "--reveal", "-o", "json"];
        for (flag, value) in [
            ("--project", "platform"),
            ("--repo-url", "https://git.example/infra"),
            ("--app", "bootstrap"),
            ("--target-revision", "main"),
        ] {
            if !more.contains(&flag) {
                args.extend([flag, value]);
            }
        }
        args.extend(more);
        self.regent(&args)
    }

    /// The error that Argo CD would show.
    #[track_caller]
    fn refused(&self, more: &[&str]) -> String {
        let output = self.ask(more);
        assert!(!output.status.success(), "{}", stdout(&output));
        assert!(output.stdout.is_empty());
        let text = stderr(&output);
        assert_no_secret(&text);
        let line = text.lines().find(|line| line.contains("regent[")).unwrap_or_else(|| panic!("{text}"));
        let sentence = &line[line.find("regent[").unwrap()..];
        let sentence = sentence.rsplit_once(" (").map_or(sentence, |(sentence, _code)| sentence);
        assert!(sentence.chars().count() < 200, "{} characters: {sentence}", sentence.chars().count());
        sentence.to_owned()
    }

    fn hand_over(&self) {
        let document = |(path, name, class): (&str, &str, &str)| serde_json::json!({"path": path, "name": name, "kind": "Secret", "class": class, "blob": "0".repeat(40)});
        let documents = [
            ("app/db.yaml", "app/db", "handover"),
            ("app/two.yaml", "app/first", "handover"),
            ("app/two.yaml", "app/second", "handover"),
            ("app/registry.yaml.age", "app/registry", "handover"),
            ("argocd/repo.yaml", "argocd/repo-creds", "permanent"),
        ];
        let handover = serde_json::json!({
            "schema": 1, "authorityId": "prod", "authority": "vault", "epoch": 1, "handoverId": HANDOVER,
            "documents": documents.map(document),
        });
        self.write_witness("handover-1.json", &handover);
        let authority = fs::read_to_string(self.path("store/prod/authority.json")).unwrap();
        let mut authority: serde_json::Value = serde_json::from_str(&authority).unwrap();
        authority["authority"] = "vault".into();
        authority["handoverId"] = HANDOVER.into();
        self.write_witness("authority.json", &authority);
    }

    fn write_witness(&self, name: &str, witness: &serde_json::Value) {
        let new = self.path("store/prod/.regent-x.tmp");
        fs::write(&new, witness.to_string()).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, self.path("store/prod").join(name)).unwrap();
    }

    fn http(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.pid().to_string()]).status().unwrap().success());
    }
}

impl Drop for House {
    /// Whatever a test did, the marker must have stayed where it belongs.
    fn drop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        if server.try_wait().ok().flatten().is_none() {
            let process = PathBuf::from(format!("/proc/{}", server.id()));
            for file in ["environ", "cmdline"] {
                let bytes = fs::read(process.join(file)).unwrap_or_default();
                assert_no_secret_unless_panicking(&String::from_utf8_lossy(&bytes));
            }
            assert_no_secret_unless_panicking(&self.http("/metrics"));
        }
        let _ = server.kill();
        let _ = server.wait();
        assert_no_secret_unless_panicking(&self.log());
        assert!(fs::read_dir(self.path("tmp")).unwrap().next().is_none(), "something was left in a file");
    }
}

fn assert_no_secret_unless_panicking(text: &str) {
    if !std::thread::panicking() {
        assert_no_secret(text);
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn git(folder: &Path, args: &[&str]) {
    let mut command = Command::new("git");
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", folder).current_dir(folder);
    command.args(["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false"]);
    assert!(command.args(args).status().unwrap().success());
}

fn commit(folder: &Path) {
    git(folder, &["-C", "repo", "add", "."]);
    git(folder, &["-C", "repo", "commit", "--quiet", "--allow-empty", "--message", "x"]);
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
        let encoded = STANDARD.encode(format!("{}{MARKER}", "x".repeat(shift)));
        // The first and the last group depend on the neighbours; those between do not.
        let inner = &encoded[4..encoded.len() - 8];
        assert!(!text.contains(inner), "a secret as base64: {text}");
    }
}

fn objects(output: &Output) -> Vec<serde_json::Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names(objects: &[serde_json::Value]) -> Vec<String> {
    let mut names: Vec<String> =
        objects.iter().map(|o| format!("{}/{}", o["kind"], o["metadata"]["name"]).replace('"', "")).collect();
    names.sort();
    names
}

#[test]
fn while_git_rules_argo_cd_gets_the_values() {
    let house = House::serving();
    let output = house.ask(&[]);
    assert!(output.status.success(), "{}\n{}", stderr(&output), house.log());
    let objects = objects(&output);
    let db = objects.iter().find(|o| o["kind"] == "Secret" && o["metadata"]["name"] == "db").unwrap();
    let password = STANDARD.decode(db["data"]["password"].as_str().unwrap()).unwrap();
    assert_eq!(password, b"REGENT-CANARY-password");
    // The same root on a laptop, on the same evidence.
    let laptop =
        house.regent(&["render", "repo/clusters/prod", "--store", "store", "-i", "keys", "--reveal", "-o", "json"]);
    assert_eq!(stdout(&output), stdout(&laptop), "{}", stderr(&laptop));
    let audit = house.log();
    let line = audit.lines().find(|line| line.contains("\"answered\"")).unwrap();
    for field in [
        r#""application":"bootstrap""#,
        r#""project":"platform""#,
        r#""authority":"prod""#,
        r#""decision":"values""#,
        "app/db",
    ] {
        assert!(line.contains(field), "{field}: {line}");
    }
    assert!(line.contains("https://git.example/infra"), "{line}");
    assert!(house.http("/metrics").contains("regent_answers_total{"));
}

#[test]
fn once_vault_rules_the_same_objects_come_without_a_value_and_without_keys() {
    let mut house = House::serving();
    let before = house.ask(&[]);
    house.hand_over();
    let after = house.ask(&[]);
    assert!(after.status.success(), "{}\n{}", stderr(&after), house.log());
    assert_no_secret(&stdout(&after));
    assert_eq!(names(&objects(&before)), names(&objects(&after)));
    for object in objects(&after).iter().filter(|object| object["metadata"]["name"] == "db") {
        assert_eq!(object["metadata"]["annotations"]["argocd.argoproj.io/hook"], "Skip");
        assert!(object.get("data").is_none());
    }
    // A restarted plugin without any key answers the same.
    house.signal("-TERM");
    assert!(house.server.as_mut().unwrap().wait().unwrap().success());
    fs::remove_file(house.path("keys/age.txt")).unwrap();
    house.start(&["--single-process-demo"]);
    assert_eq!(stdout(&house.ask(&[])), stdout(&after));
}

#[test]
fn what_was_seen_is_not_forgotten_when_the_store_goes_away() {
    let house = House::serving();
    // Without the list, what hides its name is an error.
    fs::remove_file(house.path("repo/clusters/prod/app/registry.yaml.age")).unwrap();
    commit(house.folder.path());
    house.hand_over();
    let stubs = stdout(&house.ask(&[]));
    assert!(stubs.contains("app") && !stubs.contains("UkVHRU5ULUNBTkFSWS"), "{stubs}");
    fs::rename(house.path("store"), house.path("gone")).unwrap();
    assert_eq!(stdout(&house.ask(&[])), stubs);
}

#[test]
fn a_store_that_was_never_read_is_an_error_that_names_the_hard_refresh() {
    let mut house = House::new();
    fs::rename(house.path("store"), house.path("gone")).unwrap();
    house.start(&["--single-process-demo"]);
    let error = house.refused(&[]);
    assert!(error.starts_with("regent[P1]: "), "{error}");
    assert!(error.ends_with("`kubectl -n argocd annotate app bootstrap argocd.argoproj.io/refresh=hard`"), "{error}");
    fs::create_dir(house.path("store")).unwrap();
    fs::set_permissions(house.path("store"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::copy(house.path("gone/store.json"), house.path("store/store.json")).unwrap();
    fs::set_permissions(house.path("store/store.json"), fs::Permissions::from_mode(0o600)).unwrap();
    let error = house.refused(&[]);
    assert!(error.starts_with("regent[P5]: authority `prod` does not exist; `regent init`, then `kubectl "), "{error}");
}

#[test]
fn a_store_that_the_server_could_write_is_refused() {
    let mut house = House::new();
    house.start(&[]);
    let error = house.refused(&[]);
    assert!(error.starts_with("regent[P1]: "), "{error}");
    assert!(house.log().contains("`serve` could write"), "{}", house.log());
}

#[test]
fn a_request_that_no_rule_allows_is_refused_before_anything_is_opened() {
    let house = House::serving();
    for more in [
        ["--project", "other"],
        ["--repo-url", "https://git.example/infra.git@evil.example"],
        ["--repo-url", "https://user:REGENT-CANARY@git.example/infra"],
        ["--target-revision", "feature"],
    ] {
        let error = house.refused(&more);
        assert!(error.starts_with("regent[allow]: "), "{more:?}: {error}");
    }
    let keys = house.http("/metrics");
    assert!(keys.lines().any(|line| line.starts_with("regent_data_keys_held") && line.ends_with(" 0")), "{keys}");
}

#[test]
fn an_application_can_narrow_what_it_gets_and_never_widen_it() {
    let house = House::serving();
    let error = house.refused(&["--env", "REGENT_NAMESPACES=web"]);
    assert!(error.starts_with("regent[allow]: ") && error.contains("namespace `"), "{error}");
    let error = house.refused(&["--env", "REGENT_AUTHORITY=other"]);
    assert!(error.starts_with("regent[allow]: "), "{error}");
    house.configure("[web]");
    house.wait("the new configuration", || house.log().contains("were reloaded"));
    let error = house.refused(&["--env", "REGENT_NAMESPACES=app"]);
    assert!(error.starts_with("regent[allow]: "), "{error}");
}

#[test]
fn one_broken_document_makes_the_whole_answer_an_error() {
    let house = House::serving();
    let file = house.path("repo/clusters/prod/app/db.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("data:", "data:A", 2)).unwrap();
    commit(house.folder.path());
    let error = house.refused(&[]);
    assert!(error.contains("app/db.yaml"), "{error}");
}

#[test]
fn a_nearer_regent_yaml_is_refused() {
    let house = House::serving();
    let file = house.path("repo/clusters/prod/regent.yaml");
    fs::copy(&file, house.path("repo/clusters/prod/app/regent.yaml")).unwrap();
    let error = house.refused(&[]);
    assert!(error.starts_with("regent[P0]: "), "{error}");
}

#[test]
fn a_link_to_a_folder_that_the_rule_does_not_allow_is_refused() {
    let house = House::serving();
    fs::create_dir(house.path("repo/other")).unwrap();
    fs::write(house.path("repo/other/x.yaml"), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n").unwrap();
    symlink("../../other", house.path("repo/clusters/prod/out")).unwrap();
    let mut args = vec!["render", "repo/clusters/prod/out", "--via", "sockets/regent-v1.sock", "--project", "platform"];
    args.extend(["--repo-url", "https://git.example/infra", "--target-revision", "main"]);
    let output = house.regent(&args);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("regent[allow]"), "{}", stderr(&output));
}

#[test]
fn keys_and_configuration_are_reloaded_and_a_bad_one_is_kept_out() {
    let house = House::serving();
    let good = stdout(&house.ask(&[]));
    fs::write(house.path("keys/new"), "AGE-SECRET-KEY-1NOTAKEY\n").unwrap();
    house.wait("the bad key", || house.log().contains("what counted before still does"));
    assert_eq!(stdout(&house.ask(&[])), good);
    house.write_config("kind: nonsense\n");
    house.wait("the bad file", || {
        house.http("/metrics").contains("regent_reloads_total{what=\"config\",sound=\"false\"}")
    });
    assert_eq!(stdout(&house.ask(&[])), good);
    house.configure("[\"*\"]");
    fs::remove_file(house.path("keys/age.txt")).unwrap();
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sops/tests/corpus/keys/ssh_ed25519");
    fs::copy(other, house.path("keys/new")).unwrap();
    house.wait("the other key", || house.log().contains("were reloaded"));
    let error = house.refused(&[]);
    assert!(error.starts_with("regent[no-key]: "), "{error}");
}

#[test]
fn a_server_without_a_configuration_is_ready_and_tells_each_request_why_it_cannot() {
    let mut house = House::new();
    fs::rename(house.path("regent.yaml"), house.path("later.yaml")).unwrap();
    house.start(&["--single-process-demo"]);
    assert!(house.http("/readyz").starts_with("HTTP/1.1 200"), "{}", house.http("/readyz"));
    let error = house.refused(&[]);
    assert!(error.starts_with("regent[io]: cannot read regent.yaml"), "{error}");
    fs::rename(house.path("later.yaml"), house.path("regent.yaml")).unwrap();
    house.wait("the configuration", || house.ask(&[]).status.success());
}

#[test]
fn a_store_that_comes_later_is_looked_at_as_strictly() {
    let mut house = House::new();
    fs::rename(house.path("store"), house.path("later")).unwrap();
    house.start(&[]);
    assert!(house.refused(&[]).starts_with("regent[P1]: "));
    fs::rename(house.path("later"), house.path("store")).unwrap();
    assert!(house.refused(&[]).starts_with("regent[P1]: "));
    assert!(house.log().contains("could write"), "{}", house.log());
}

#[test]
fn keys_that_arrive_later_are_used_and_another_rule_without_keys_disturbs_nobody() {
    let mut house = House::new();
    let config = fs::read_to_string(house.path("regent.yaml")).unwrap();
    let other =
        "- authority: other\n  bootstrap: clusters/other/regent.yaml\n  namespaces: [x]\n  identities: [none]\n";
    house.write_config(&format!("{}{other}", config.replace("[keys]", "[later]")));
    house.start(&["--single-process-demo"]);
    let error = house.refused(&[]);
    assert!(error.starts_with("regent[io]: ") && error.contains("later"), "{error}");
    fs::rename(house.path("keys"), house.path("later")).unwrap();
    house.wait("the keys", || house.ask(&[]).status.success());
    // What worked goes on while its own keys are broken.
    fs::write(house.path("later/age.txt"), "no key\n").unwrap();
    house.wait("the bad key", || house.log().contains("later/age.txt"));
    assert!(house.ask(&[]).status.success());
}

#[test]
fn data_keys_are_forgotten_when_their_authority_moves_and_not_when_another_one_is_first_seen() {
    let mut house = House::new();
    let config = fs::read_to_string(house.path("regent.yaml")).unwrap();
    let other = "- authority: other\n  bootstrap: clusters/other/regent.yaml\n  namespaces: [x]\n  identities: [keys]\n  \
                 paths: [clusters/other]\n  project: platform\n  revisions: [main]\n";
    house.write_config(&format!("{config}{other}  repo: https://git.example/infra.git\n"));
    let bootstrap = fs::read_to_string(house.path("repo/clusters/prod/regent.yaml")).unwrap();
    fs::create_dir(house.path("repo/clusters/other")).unwrap();
    fs::write(house.path("repo/clusters/other/regent.yaml"), bootstrap.replace("name: prod", "name: other")).unwrap();
    let made = house.regent(&["init", "repo/clusters/other", "--store", "store", "--yes"]);
    assert!(made.status.success(), "{}", stderr(&made));
    house.start(&["--single-process-demo"]);
    let held = || {
        let metrics = house.http("/metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix("regent_data_keys_held "));
        line.unwrap().parse::<u32>().unwrap()
    };
    assert!(house.ask(&[]).status.success());
    let before = held();
    assert!(before > 0);
    let via =
        ["render", "repo/clusters/other", "--via", "sockets/regent-v1.sock", "--project", "platform", "--app", "x"];
    let where_from = ["--repo-url", "https://git.example/infra", "--target-revision", "main"];
    let another = house.regent(&[via.as_slice(), &where_from].concat());
    assert!(another.status.success(), "{}", stderr(&another));
    assert_eq!(held(), before);
    house.hand_over();
    assert!(house.ask(&[]).status.success());
    assert_eq!(held(), 0);
}

/// Argo CD's contract, for a client that does what Argo CD's never would.
mod proto {
    #![expect(unreachable_pub, unused_qualifications, clippy::pedantic, reason = "generated")]
    #![expect(clippy::allow_attributes_without_reason, reason = "generated")]
    tonic::include_proto!("plugin");
}

/// A message as gRPC frames it.
fn framed(message: &[u8]) -> bytes::Bytes {
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    frame.into()
}

/// The messages of a sound request for the root.
fn sound_request(house: &House) -> Vec<bytes::Bytes> {
    use prost::Message as _;
    use proto::app_stream_request::Request;
    use sha2::Digest as _;

    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    archive.append_dir_all("clusters", house.path("repo/clusters")).unwrap();
    let upload = archive.into_inner().unwrap().finish().unwrap();
    let env = [
        ("ARGOCD_APP_NAME", "bootstrap"),
        ("ARGOCD_APP_PROJECT_NAME", "platform"),
        ("ARGOCD_APP_SOURCE_REPO_URL", "https://git.example/infra"),
        ("ARGOCD_APP_SOURCE_PATH", "clusters/prod"),
        ("ARGOCD_APP_SOURCE_TARGET_REVISION", "main"),
    ];
    let metadata = proto::ManifestRequestMetadata {
        app_rel_path: "clusters/prod".into(),
        checksum: format!("{:x}", sha2::Sha256::digest(&upload)).into(),
        env: env.map(|(name, value)| proto::EnvEntry { name: name.into(), value: value.into() }).to_vec(),
        ..Default::default()
    };
    let message = |request| framed(&proto::AppStreamRequest { request: Some(request) }.encode_to_vec());
    vec![message(Request::Metadata(metadata)), message(Request::File(proto::File { chunk: upload.into() }))]
}

/// An HTTP/2 connection to the plugin, without room for an answer until something is sent.
async fn connect(house: &House) -> (h2::client::SendRequest<bytes::Bytes>, tokio::sync::oneshot::Sender<()>) {
    let stream = tokio::net::UnixStream::connect(house.socket()).await.unwrap();
    let (client, mut connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, bytes::Bytes>(stream).await.unwrap();
    let (make_room, mut room) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        tokio::select! {
            _ended = &mut connection => return,
            _now = &mut room => {}
        }
        if connection.set_initial_window_size(1 << 20).is_ok() {
            drop(connection.await);
        }
    });
    (client.ready().await.unwrap(), make_room)
}

fn generate() -> http::Request<()> {
    let uri = "http://localhost/plugin.ConfigManagementPluginService/GenerateManifest";
    http::Request::post(uri).header("content-type", "application/grpc").header("te", "trailers").body(()).unwrap()
}

#[tokio::test]
async fn values_that_are_not_taken_in_time_are_not_delivered() {
    for (limit, delivered) in [("1500ms", false), ("60s", true)] {
        let mut house = House::new();
        let config = fs::read_to_string(house.path("regent.yaml")).unwrap();
        house.write_config(&format!("{config}limits: {{ request: {limit} }}\n"));
        house.start(&["--single-process-demo"]);
        let (mut client, make_room) = connect(&house).await;
        let (answer, mut request) = client.send_request(generate(), false).unwrap();
        for message in sound_request(&house) {
            request.send_data(message, false).unwrap();
        }
        request.send_data(bytes::Bytes::new(), true).unwrap();
        let mut body = answer.await.unwrap().into_body();
        house.wait("the answer", || house.log().contains("\"answered\""));
        tokio::time::sleep(Duration::from_secs(2)).await;
        // Where the connection is closed already nobody takes it.
        let _sent = make_room.send(());
        let mut got = Vec::new();
        while let Ok(Some(Ok(data))) = tokio::time::timeout(Duration::from_secs(2), body.data()).await {
            got.extend(data);
        }
        assert_eq!(got.windows(8).any(|part| part == b"\"Secret\""), delivered, "with a limit of {limit}");
    }
}

#[tokio::test]
async fn a_request_is_read_to_its_end_although_a_message_cannot_be_decoded() {
    let house = House::serving();
    let (mut client, _room) = connect(&house).await;
    let (mut answer, mut request) = client.send_request(generate(), false).unwrap();
    request.send_data(framed(&[0xff; 40]), false).unwrap();
    // An answer before the end would be one that Argo CD never sees.
    let early = tokio::time::timeout(Duration::from_millis(300), &mut answer).await;
    assert!(early.is_err(), "answered before the request's end");
    for _ in 0..2000 {
        request.send_data(framed(&[0; 1000]), false).unwrap();
    }
    request.send_data(bytes::Bytes::new(), true).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(10), answer).await.unwrap().unwrap();
    let status = answer.headers().get("grpc-status").unwrap();
    assert_ne!(status, "0");
    assert!(answer.headers().get("grpc-message").unwrap().to_str().unwrap().contains("regent[request]"));
}

#[test]
fn the_socket_is_private_comes_back_and_goes() {
    let mut house = House::serving();
    let file = fs::symlink_metadata(house.socket()).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o660);
    assert_eq!(fs::read_dir(house.path("sockets")).unwrap().count(), 1);
    fs::remove_file(house.socket()).unwrap();
    house.wait("the socket again", || house.socket().exists());
    assert!(house.ask(&[]).status.success());
    assert!(house.http("/metrics").contains("regent_socket_lost_total 1"), "{}", house.http("/metrics"));
    assert!(house.regent(&["probe"]).status.success());
    house.signal("-TERM");
    assert!(house.server.as_mut().unwrap().wait().unwrap().success());
    assert!(fs::read_dir(house.path("sockets")).unwrap().next().is_none());
    assert!(!house.regent(&["probe", "--timeout", "1"]).status.success());
}

#[test]
fn a_followed_repository_is_linted_at_each_commit_and_its_keys_are_there_before_the_first_request() {
    let mut house = House::new();
    let config = fs::read_to_string(house.path("regent.yaml")).unwrap();
    let repo = house.path("repo");
    house.write_config(&format!("{config}watch: [{{ repo: {}, revision: main, authority: prod }}]\n", repo.display()));
    house.start(&["--single-process-demo"]);
    house.wait("the first commit", || house.log().contains("a commit was looked at"));
    house.wait("keys", || {
        house.http("/metrics").lines().any(|line| line.starts_with("regent_data_keys_held ") && !line.ends_with(" 0"))
    });
    let clear = "apiVersion: v1\nkind: Secret\nmetadata: {name: clear, namespace: app}\nstringData: {a: b}\n";
    fs::write(house.path("repo/clusters/prod/clear.yaml"), clear).unwrap();
    commit(house.folder.path());
    house.wait("the finding", || house.log().contains(r#""rule":"clear-secret""#));
    let metrics = house.http("/metrics");
    assert!(metrics.contains(r#"regent_watch_findings{authority="prod",severity="error"} 1"#), "{metrics}");
}
