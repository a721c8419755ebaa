use futures_util::stream;
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use regent_sops::DataKeys;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use crate::reload::Origin;
use crate::telemetry::Metrics;

/// Test case 2 of RFC 4231.
const SECRET: &str = "Jefe";
const BODY: &[u8] = b"what do ya want for nothing?";
const MAC: &str = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

/// By `openssl dgst -sha256 -hmac`: of nothing under `Jefe`, and of nothing under an empty key.
const OF_NOTHING: &str = "sha256=923598ca6d64af2a5dba79dcd021a8a0fe5c5f557519adaaf0ad532d4506dd30";
const BY_NOBODY: &str = "sha256=b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad";

/// Two authorities, of which `prod` has a hook with [`SECRET`].
pub(in crate::flux) struct Stage {
    folder: TempDir,
    current: Arc<Current>,
    pub(in crate::flux) prod: watch::Receiver<()>,
    pub(in crate::flux) hooks: Arc<Hooks>,
}

impl Stage {
    pub(in crate::flux) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rule = |authority: &str| json!({ "authority": authority, "bootstrap": "regent.yaml", "namespaces": ["*"], "identities": [] });
        let config = json!({
            "apiVersion": "regent.dev/v1alpha1", "kind": "RegentConfig",
            "store": { "kind": "directory", "path": "store" },
            "rules": [rule("prod"), rule("dev")],
            "watch": [
                { "repo": "/srv/a.git", "revision": "main", "authority": "prod", "webhook": { "secretFile": "hook" } },
                { "repo": "/srv/b.git", "revision": "main", "authority": "dev" },
            ],
        });
        std::fs::write(folder.path().join("hook"), format!("{SECRET}\n")).unwrap();
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, config.to_string()).unwrap();
        let origin = Origin { file, demo: true };
        let current = Arc::new(Current::start(origin, Arc::new(DataKeys::new(1, 1)), Metrics::new()));
        let wakes = Arc::new(Wakes::default());
        let prod = wakes.subscribe(&AuthorityName::parse("prod").unwrap());
        let hooks = Arc::new(Hooks::new(Arc::clone(&current), wakes));
        Self { folder, current, prod, hooks }
    }

    /// Status and text of the answer, and whether whoever follows `prod` was woken.
    async fn ask(&mut self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, &'static str, bool) {
        let mut request = Request::post(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let (status, text) = self.hooks.answer(request).await;
        let is_woken = self.prod.has_changed().unwrap();
        self.prod.mark_unchanged();
        (status.as_u16(), text, is_woken)
    }
}

const RIGHT: (u16, &str, bool) = (200, "", true);
const WRONG: (u16, &str, bool) = (403, REFUSED.1, false);

#[tokio::test]
async fn who_knows_the_secret_wakes_the_follower() {
    let mut stage = Stage::new();
    for name in ["X-Hub-Signature-256", "X-Signature"] {
        assert_eq!(stage.ask("/hook/prod", &[(name, MAC)], BODY).await, RIGHT, "{name}");
    }
    assert_eq!(stage.ask("/hook/prod", &[("X-Signature", OF_NOTHING)], b"").await, RIGHT);
}

#[tokio::test]
async fn whoever_does_not_learns_nothing() {
    let mut stage = Stage::new();
    let shorter = MAC.strip_suffix('3').unwrap();
    let (longer, doubled) = (format!("{MAC}0"), format!("{MAC}{}", &MAC[7..]));
    let (bare, other, off) = (&MAC[7..], MAC.replace("sha256=", "sha1="), MAC.replace("5bdc", "5bdd"));
    let hostile = MAC.replace("5b", "+b");
    for value in [shorter, &longer, &doubled, bare, &other, &off, &hostile, OF_NOTHING, "sha256=", "", "sha256"] {
        for name in ["X-Hub-Signature-256", "X-Signature"] {
            assert_eq!(stage.ask("/hook/prod", &[(name, value)], BODY).await, WRONG, "{value}");
        }
    }
    for headers in [
        &[][..],
        &[("X-Hub-Signature", MAC)],
        &[("X-Gitlab-Token", SECRET)],
        &[("X-Signature", MAC), ("X-Signature", MAC)],
        &[("X-Hub-Signature-256", OF_NOTHING), ("X-Signature", MAC)],
    ] {
        assert_eq!(stage.ask("/hook/prod", headers, BODY).await, WRONG, "{headers:?}");
    }
    assert_eq!(stage.ask("/hook/prod", &[("X-Signature", MAC)], b"what do ya want for nothing").await, WRONG);
    for path in ["/hook/dev", "/hook/nobody", "/hook/", "/hook/prod/", "/hook/prod/x", "/hook/%70rod", "/hook/PROD"] {
        assert_eq!(stage.ask(path, &[("X-Signature", MAC)], BODY).await, WRONG, "{path}");
        assert_eq!(stage.ask(path, &[("X-Signature", BY_NOBODY)], b"").await, WRONG, "{path}");
    }
}

#[tokio::test]
async fn a_body_counts_as_a_whole_up_to_its_bound() {
    let mut stage = Stage::new();
    let pieces = BODY.chunks(5).map(|piece| Ok::<_, std::io::Error>(Frame::data(Bytes::copy_from_slice(piece))));
    let body = StreamBody::new(stream::iter(pieces.collect::<Vec<_>>()));
    let request = Request::post("/hook/prod").header("X-Signature", MAC).body(body).unwrap();
    assert_eq!(stage.hooks.answer(request).await, (StatusCode::OK, ""));
    stage.prod.mark_unchanged();
    assert_eq!(stage.ask("/hook/prod", &[("X-Signature", MAC)], &vec![0; MOST_BYTES]).await, WRONG);
    let (status, _, is_woken) = stage.ask("/hook/prod", &[("X-Signature", MAC)], &vec![0; MOST_BYTES + 1]).await;
    assert_eq!((status, is_woken), (413, false));
}

#[tokio::test]
async fn a_body_that_breaks_off_proves_nothing() {
    let mut stage = Stage::new();
    let pieces = [Ok(Frame::data(Bytes::from_static(BODY))), Err(std::io::Error::other("gone"))];
    let request = Request::post("/hook/prod").header("X-Signature", MAC).body(StreamBody::new(stream::iter(pieces)));
    assert_eq!(stage.hooks.answer(request.unwrap()).await, REFUSED);
    assert!(!stage.prod.has_changed().unwrap());
    stage.prod.mark_unchanged();
}

#[tokio::test]
async fn another_secret_counts_once_it_is_there_and_none_leaves_the_last() {
    let mut stage = Stage::new();
    let file = stage.folder.path().join("hook");
    std::fs::write(&file, "two lines\nare none").unwrap();
    stage.current.refresh();
    assert_eq!(stage.ask("/hook/prod", &[("X-Signature", MAC)], BODY).await, RIGHT);
    std::fs::write(&file, "another").unwrap();
    stage.current.refresh();
    assert_eq!(stage.ask("/hook/prod", &[("X-Signature", MAC)], BODY).await, WRONG);
    std::fs::write(&file, SECRET).unwrap();
    stage.current.refresh();
    assert_eq!(stage.ask("/hook/prod", &[("X-Signature", MAC)], BODY).await, RIGHT);
}
